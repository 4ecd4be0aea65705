//! An NVMe controller that a call attached, with the thread that drives it, and the bdevs of its namespaces.
//!
//! A namespace that is gone leaves its bdev where a LUN leads to it, or where it has limits, not ready; and the next controller of
//! the same name finds it there ([`Seats`]).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use rustix::io::Errno;

use super::super::context::lock;
use super::super::fault::Fault;
use super::super::json::{Json, object};
use super::super::recipes::Recipe;
use super::{Reach, ToAttach};
use crate::bdev::count::Counted;
use crate::bdev::nvme::TimeOuts;
use crate::bdev::nvme::controller::shared::{
    Answer, Disk, Event, Life, Options, Order, Query, Severity, Shared,
};
use crate::bdev::nvme::namespace::{NvmeBdev, Tenant};
use crate::bdev::nvme::seat::{Seat, Vacancy};
use crate::bdev::nvme::thread::Handle;
use crate::bdev::nvme::transport::Transport;
use crate::control::done::Done;
use crate::control::error::{ChangeError, What};
use crate::control::registry::{BdevSpec, uuid_text};
use crate::control::thread::Remote;
use crate::qos::Limits;

/// A controller that is given back has so long to shut down.
const DETACH: Duration = Duration::from_secs(30);
/// A controller has so long to answer a question.
const QUERY: Duration = Duration::from_secs(15);

/// Numbers of controllers, in this process.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// The bdevs of a name's namespaces, in the order of their numbers. They outlive a controller that is lost.
#[derive(Debug, Default)]
pub(in crate::rpc) struct Seats(Mutex<Rows>);

#[derive(Debug, Default)]
struct Rows {
    taken: Vec<(u32, Arc<Seat>)>,
    /// The controller was detached: nothing is registered any more.
    is_closed: bool,
}

impl Seats {
    fn find(&self, nsid: u32) -> Option<Arc<Seat>> {
        lock(&self.0).taken.iter().find(|(taken, _)| *taken == nsid).map(|(_, seat)| Arc::clone(seat))
    }

    /// Adds a seat whose bdev `register` registers: none once they are closed, and nobody closes them in between.
    fn push(
        &self,
        nsid: u32,
        seat: Arc<Seat>,
        register: impl FnOnce() -> Result<(), ChangeError>,
    ) -> Result<(), ChangeError> {
        let mut rows = lock(&self.0);
        if rows.is_closed {
            return Err(ChangeError::Leaving { what: What::Bdev, name: seat.name().to_owned() });
        }
        register()?;
        rows.taken.push((nsid, seat));
        rows.taken.sort_by_key(|(nsid, _)| *nsid);
        Ok(())
    }

    /// No more come. Those that there are.
    fn close(&self) -> Vec<(u32, Arc<Seat>)> {
        let mut rows = lock(&self.0);
        rows.is_closed = true;
        rows.taken.clone()
    }

    fn forget(&self, nsid: u32) {
        lock(&self.0).taken.retain(|(taken, _)| *taken != nsid);
    }

    fn all(&self) -> Vec<(u32, Arc<Seat>)> {
        lock(&self.0).taken.clone()
    }
}

/// A controller.
#[derive(Debug)]
pub(in crate::rpc) struct Attached {
    name: String,
    number: u64,
    /// How it is reached, in SPDK's words: trtype, traddr and so on.
    pub(in crate::rpc) trid: Json,
    /// Where that leads.
    pub(in crate::rpc) reach: Reach,
    /// The call that attaches it.
    recipe: String,
    handle: Arc<Handle>,
    times: TimeOuts,
    control: Remote,
    pub(super) seats: Arc<Seats>,
    /// All that its thread has said was followed ([`Follower`]).
    is_followed: AtomicBool,
}

/// Where the follower hears what the controller's thread says.
pub(super) type Events = mpsc::Receiver<Event>;

/// Whoever follows a controller: where this is gone, all that its thread has said was followed, or nobody will.
pub(super) struct Follower(pub(super) Arc<Attached>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.is_followed.store(true, Ordering::Release);
    }
}

impl Attached {
    /// Brings a controller up within `patience`; where it does not come and `may_be_missing`, it is one that is gone.
    pub(super) fn begin(
        what: ToAttach,
        control: Remote,
        seats: Arc<Seats>,
        (patience, may_be_missing): (Duration, bool),
    ) -> Result<(Attached, Events), Fault> {
        let (events, follow) = mpsc::channel();
        let handle =
            match what.transport.and_then(|transport| bring_up(transport, what.options, events, patience)) {
                Ok(handle) => handle,
                Err(why) if may_be_missing => {
                    tracing::warn!(
                        controller = what.name,
                        error = why,
                        "it is not there: its disks are not ready until it is"
                    );
                    Handle::gone(why)
                }
                Err(why) => return Err(Fault::errno(Errno::NODEV, format_args!("{}: {why}", what.name))),
            };
        let attached = Attached {
            name: what.name,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            trid: what.trid,
            reach: what.reach,
            recipe: what.recipe,
            handle: Arc::new(handle),
            times: what.times,
            control,
            seats,
            is_followed: AtomicBool::new(false),
        };
        Ok((attached, follow))
    }

    /// What its thread shares.
    pub(in crate::rpc) fn shared(&self) -> &Arc<Shared> {
        self.handle.shared()
    }

    /// Whether it was given up, or never came.
    pub(in crate::rpc) fn is_lost(&self) -> bool {
        matches!(self.shared().life(), Life::Gone(_))
    }

    /// Whether nothing of it is left, besides.
    pub(in crate::rpc) fn is_gone(&self) -> bool {
        self.is_lost() && self.shared().is_over()
    }

    /// Whether another may come in its stead: who has to know that its namespaces are gone does.
    pub(in crate::rpc) fn may_be_replaced(&self) -> bool {
        self.is_gone() && self.is_followed.load(Ordering::Acquire)
    }

    /// Asks it; it has so long to answer.
    pub(in crate::rpc) fn query(&self, query: Query) -> Result<Answer, Fault> {
        self.handle.query(query, QUERY).map_err(|error| Fault::errno(Errno::IO, error))
    }

    /// Has its thread do something.
    pub(in crate::rpc) fn order(&self, order: Order) {
        self.handle.order(order);
    }

    /// Its name.
    pub(in crate::rpc) fn name(&self) -> &str {
        &self.name
    }

    /// The parameters of the call that attaches it.
    pub(in crate::rpc) fn params(&self) -> Json {
        Recipe::parse(&self.recipe)
            .into_call()
            .and_then(|call| call.member("params").cloned())
            .unwrap_or(Json::Null)
    }

    /// The call that attaches it, for a file: with its namespaces, so that LUNs may lead to them before it is there.
    pub(in crate::rpc) fn call(&self) -> Option<Json> {
        let mut call = Recipe::parse(&self.recipe).into_call()?;
        let describe = |(nsid, seat): &(u32, Arc<Seat>)| {
            let Vacancy { uuid, block_bytes, blocks } = seat.vacancy();
            let mut namespace = object! { "nsid": *nsid, "block_size": block_bytes };
            if blocks > 0 {
                namespace.push("num_blocks", blocks);
            }
            if uuid != [0; 16] {
                namespace.push("uuid", uuid_text(&uuid));
            }
            namespace
        };
        let namespaces: Json = self.seats.all().iter().map(describe).collect();
        call.member_mut("params")?.push("lunette_namespaces", namespaces);
        Some(call)
    }

    /// The names of its bdevs.
    pub(super) fn bdevs(&self) -> Vec<String> {
        self.seats.all().into_iter().map(|(_, seat)| seat.name().to_owned()).collect()
    }

    pub(super) fn bdev_name(&self, nsid: u32) -> String {
        format!("{}n{nsid}", self.name)
    }

    fn register(&self, nsid: u32, bdev: NvmeBdev) -> Result<(), ChangeError> {
        let seat = Arc::clone(bdev.seat());
        let spec = BdevSpec {
            bdev: Arc::new(Counted::new(Arc::new(bdev))),
            product: "NVMe disk".to_owned(),
            recipe: self.recipe.clone(),
            bases: Vec::new(),
        };
        self.seats.push(nsid, seat, || {
            let registered = self.control.call(move |control, _| control.register_bdev(spec));
            registered.unwrap_or(Err(ChangeError::Stopping))
        })
    }

    /// Registers a bdev whose namespace is awaited.
    pub(super) fn reserve(&self, nsid: u32, vacancy: Vacancy) -> Result<(), ChangeError> {
        if self.seats.find(nsid).is_some() {
            return Ok(());
        }
        self.register(nsid, NvmeBdev::vacant(self.bdev_name(nsid), vacancy))
    }

    /// Serves a namespace: by the bdev that it had, or by a new one.
    pub(super) fn add(&self, disk: &Arc<Disk>) -> Result<(), ChangeError> {
        let [handle, asked, erasing] = [(); 3].map(|()| Arc::clone(&self.handle));
        let tenant = Tenant {
            controller: self.number,
            shared: Arc::clone(self.shared()),
            disk: Arc::clone(disk),
            times: self.times,
            connect: Arc::new(move |reactor| handle.port(reactor)),
            ask: Arc::new(move |query| asked.query(query, QUERY)),
            erase: Arc::new(move |wanted| erasing.erase(wanted)),
        };
        let name = self.bdev_name(disk.nsid);
        if let Some(seat) = self.seats.find(disk.nsid) {
            if seat.has(disk) {
                return Ok(());
            }
            let Err(why) = seat.sit(tenant.clone()) else {
                tracing::info!(bdev = name, "the namespace is there");
                return self.reread(&name);
            };
            if seat.is_awaited() || self.is_used(&name) {
                let (awaited, uuid) = (uuid_text(&seat.vacancy().uuid), uuid_text(&disk.uuid));
                tracing::warn!(
                    bdev = name,
                    %why,
                    awaited,
                    uuid,
                    "it is not served: detach the controller and attach it again to serve what is there now"
                );
                return Ok(());
            }
            // Nobody minds which medium it is; how much may be asked of it was said of the name.
            let limits = self.set_limits(&name, Limits::NONE)?;
            self.unregister(disk.nsid)?;
            self.register(disk.nsid, NvmeBdev::new(name.clone(), tenant))?;
            return self.set_limits(&name, limits).map(drop);
        }
        self.register(disk.nsid, NvmeBdev::new(name, tenant))
    }

    /// Says how much may be asked of a bdev; how much it was.
    fn set_limits(&self, name: &str, limits: Limits) -> Result<Limits, ChangeError> {
        let name = name.to_owned();
        let set = self.control.call(move |control, _| {
            let old = control.bdev(&name).map_or(Limits::NONE, |entry| entry.limits());
            control.set_bdev_limits(&name, limits).map(|()| old)
        });
        set.unwrap_or(Err(ChangeError::Stopping))
    }

    fn is_used(&self, name: &str) -> bool {
        let name = name.to_owned();
        self.control.call(move |control, _| control.is_bdev_used(&name)).unwrap_or(false)
    }

    /// Takes a bdev out of service, its LUNs first. Waits until no reactor has it any more.
    fn unregister(&self, nsid: u32) -> Result<(), ChangeError> {
        self.seats.forget(nsid);
        self.unserve(nsid)
    }

    /// The same, of a bdev whose seat is there until then.
    fn unserve(&self, nsid: u32) -> Result<(), ChangeError> {
        let name = self.bdev_name(nsid);
        let ended = self.control.call_and_wait(move |control, _, done| control.unregister_bdev(&name, done));
        ended.unwrap_or(Err(ChangeError::Stopping)).map(drop)
    }

    /// Whether an operator has said how much may be asked of a bdev.
    fn has_limits(&self, name: &str) -> bool {
        let name = name.to_owned();
        let has_some = self
            .control
            .call(move |control, _| control.bdev(&name).is_some_and(|entry| !entry.limits().is_none()));
        has_some.unwrap_or(false)
    }

    /// A namespace is gone. Its bdev stays where it is needed, and where something would be lost with it.
    fn lost(&self, disk: &Arc<Disk>) -> Result<(), ChangeError> {
        let Some(seat) = self.seats.find(disk.nsid).filter(|seat| seat.has(disk)) else { return Ok(()) };
        if self.is_used(seat.name()) || self.has_limits(seat.name()) {
            // Nobody sits down before every reactor knows, and what it had begun of the old has ended: a flush of that would be one of
            // the new. Reactors wait for the controller's thread at most, never for who follows it.
            let name = seat.name().to_owned();
            let told = self.control.call_and_wait(move |control, _, done| control.reread_bdev(&name, done));
            told.unwrap_or(Err(ChangeError::Stopping)).map(drop)
        } else {
            self.unregister(disk.nsid)
        }
    }

    /// Initiators are told what it is like now.
    fn reread(&self, name: &str) -> Result<(), ChangeError> {
        let name = name.to_owned();
        let told = self.control.call(move |control, _| control.reread_bdev(&name, Done::nobody()));
        told.unwrap_or(Err(ChangeError::Stopping))
    }

    /// Follows what the controller's thread says, until that ends; `and_then` what else follows from it.
    pub(super) fn follow(&self, events: &Events, and_then: impl Fn(&Event)) {
        while let Ok(event) = events.recv() {
            let followed = match &event {
                Event::Attached(disk) => self.add(disk),
                Event::Resized(disk) => self.reread(&self.bdev_name(disk.nsid)),
                Event::Removed(disk) => self.lost(disk),
                Event::Gone | Event::Lost | Event::Recovered => Ok(()),
                Event::Said(severity, text) => {
                    say(&self.name, *severity, text);
                    Ok(())
                }
            };
            // A daemon that has stopped gives its controllers back: there is nobody to be told.
            if let Err(error) = followed
                && !matches!(error, ChangeError::Stopping)
            {
                tracing::warn!(controller = self.name, %error, "a namespace has changed and cannot be served so");
            }
            and_then(&event);
        }
    }

    /// Takes the namespaces out of service, for good, then gives the controller back.
    pub(super) fn withdraw(&self) {
        for (nsid, _) in self.seats.close() {
            let unserved = self.unserve(nsid);
            // Only now: while a LUN leads to it, a file is to tell of it.
            self.seats.forget(nsid);
            if let Err(error) = unserved {
                tracing::warn!(controller = self.name, %error, "a namespace could not be taken out of service");
            }
        }
        self.give_back();
    }

    pub(super) fn give_back(&self) {
        if let Err(error) = self.handle.detach(DETACH) {
            tracing::warn!(controller = self.name, error, "it was not given back");
        }
    }
}

/// Waits until the controller works.
fn bring_up(
    transport: Box<dyn Transport>,
    options: Options,
    events: mpsc::Sender<Event>,
    patience: Duration,
) -> Result<Handle, String> {
    let hook = Arc::new(move |event| drop(events.send(event)));
    let handle = Handle::attach(transport, options, hook)?;
    match handle.wait_attached(patience) {
        Ok(()) => Ok(handle),
        Err(why) => match handle.detach(DETACH) {
            Ok(()) => Err(why),
            Err(stuck) => Err(format!("{why}; {stuck}")),
        },
    }
}

fn say(controller: &str, severity: Severity, text: &str) {
    match severity {
        Severity::Info => tracing::info!(controller, "{text}"),
        Severity::Warn => tracing::warn!(controller, "{text}"),
        Severity::Error => tracing::error!(controller, "{text}"),
    }
}
