//! NVMe controllers that calls attached: each with the thread that drives it, and one that follows what it says of its
//! namespaces.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use rustix::io::Errno;

use super::context::{Context, lock};
use super::devices::bdev_fault;
use super::fault::Fault;
use super::hotplug::Hotplug;
use super::json::Json;
use crate::bdev::count::Counted;
use crate::bdev::nvme::TimeOuts;
use crate::bdev::nvme::controller::shared::{Answer, Disk, Event, Options, Order, Query, Severity, Shared};
use crate::bdev::nvme::namespace::NvmeBdev;
use crate::bdev::nvme::pci::Groups;
use crate::bdev::nvme::pci::list::Place;
use crate::bdev::nvme::thread::Handle;
use crate::bdev::nvme::transport::Transport;
use crate::control::done::Done;
use crate::control::error::ChangeError;
use crate::control::registry::BdevSpec;
use crate::control::thread::Remote;

/// A controller has so long to come up: longer than any reports as its own limit but a broken one.
const ATTACH: Duration = Duration::from_secs(60);
/// A controller that is given back has so long to shut down.
const DETACH: Duration = Duration::from_secs(30);
/// A controller has so long to answer a question.
const QUERY: Duration = Duration::from_secs(15);

/// Numbers of controllers, in this process.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// The controllers.
#[derive(Debug, Default)]
pub(super) struct Controllers {
    by_name: Mutex<BTreeMap<String, Slot>>,
    /// IOMMU groups of those behind VFIO.
    pub(super) groups: Groups,
    /// Those that come by themselves.
    pub(super) hotplug: Hotplug,
}

/// What a name stands for.
#[derive(Clone, Debug)]
enum Slot {
    /// A controller that is being attached or given back, and its device.
    Busy(Option<Place>),
    /// A controller.
    Attached(Arc<Attached>),
}

impl Slot {
    fn place(&self) -> Option<Place> {
        match self {
            Slot::Busy(place) => *place,
            Slot::Attached(attached) => attached.place,
        }
    }

    fn attached(self) -> Option<Arc<Attached>> {
        if let Slot::Attached(attached) = self { Some(attached) } else { None }
    }
}

/// A name that nobody else gets until this is dropped.
#[derive(Debug)]
pub(super) struct Reserved<'a> {
    controllers: &'a Controllers,
    name: String,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut slots = lock(&self.controllers.by_name);
        if let Some(Slot::Busy(_)) = slots.get(&self.name) {
            slots.remove(&self.name);
        }
    }
}

/// A controller.
#[derive(Debug)]
pub(super) struct Attached {
    name: String,
    number: u64,
    /// How it is reached, in SPDK's words: trtype, traddr and so on.
    pub(super) trid: Json,
    /// Its device, where it is one of this machine's.
    pub(super) place: Option<Place>,
    /// The call that attaches it.
    pub(super) recipe: String,
    handle: Arc<Handle>,
    times: TimeOuts,
    control: Remote,
    /// Namespaces that are registered as bdevs.
    served: Mutex<Vec<Arc<Disk>>>,
}

/// What to attach.
#[derive(Debug)]
pub(super) struct ToAttach {
    pub(super) trid: Json,
    pub(super) place: Option<Place>,
    pub(super) recipe: String,
    pub(super) options: Options,
    pub(super) times: TimeOuts,
    pub(super) transport: Box<dyn Transport>,
}

impl Attached {
    /// What its thread shares.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        self.handle.shared()
    }

    /// Asks it; it has so long to answer.
    pub(super) fn query(&self, query: Query) -> Result<Answer, Fault> {
        self.handle.query(query, QUERY).map_err(|error| Fault::errno(Errno::IO, error))
    }

    /// Has its thread do something.
    pub(super) fn order(&self, order: Order) {
        self.handle.order(order);
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn bdev_name(&self, disk: &Disk) -> String {
        format!("{}n{}", self.name, disk.nsid)
    }

    fn serves(&self, disk: &Arc<Disk>) -> bool {
        lock(&self.served).iter().any(|served| Arc::ptr_eq(served, disk))
    }

    /// Registers a namespace as a bdev; gives back its name.
    fn add(&self, disk: &Arc<Disk>) -> Result<String, ChangeError> {
        let name = self.bdev_name(disk);
        if self.serves(disk) {
            return Ok(name);
        }
        let handle = Arc::clone(&self.handle);
        let bdev = NvmeBdev::new(
            name.clone(),
            self.number,
            Arc::clone(self.shared()),
            Arc::clone(disk),
            self.times,
            Arc::new(move |reactor| handle.port(reactor)),
        );
        let spec = BdevSpec {
            bdev: Arc::new(Counted::new(Arc::new(bdev))),
            product: "NVMe disk".to_owned(),
            recipe: self.recipe.clone(),
            bases: Vec::new(),
        };
        let registered = self.control.call(move |control, _| control.register_bdev(spec));
        registered.unwrap_or(Err(ChangeError::Stopping))?;
        lock(&self.served).push(Arc::clone(disk));
        Ok(name)
    }

    /// Takes a namespace's bdev out of service, its LUNs first. Waits until no reactor has it any more.
    fn remove(&self, disk: &Arc<Disk>) -> Result<(), ChangeError> {
        if !self.serves(disk) {
            return Ok(());
        }
        lock(&self.served).retain(|served| !Arc::ptr_eq(served, disk));
        let name = self.bdev_name(disk);
        let ended = self.control.call_and_wait(move |control, _, done| control.unregister_bdev(&name, done));
        ended.unwrap_or(Err(ChangeError::Stopping)).map(drop)
    }

    /// Initiators are told that the size is another.
    fn resized(&self, disk: &Arc<Disk>) -> Result<(), ChangeError> {
        let name = self.bdev_name(disk);
        self.control
            .call(move |control, _| control.reread_bdev(&name, Done::nobody()))
            .unwrap_or(Err(ChangeError::Stopping))
    }

    /// Follows what the controller's thread says, until that ends.
    fn follow(&self, events: &mpsc::Receiver<Event>) {
        while let Ok(event) = events.recv() {
            let followed = match &event {
                Event::Attached(disk) => self.add(disk).map(drop),
                Event::Resized(disk) => self.resized(disk),
                Event::Removed(disk) => self.remove(disk),
                Event::Lost | Event::Recovered | Event::Gone => Ok(()),
                Event::Said(severity, text) => {
                    say(&self.name, *severity, text);
                    Ok(())
                }
            };
            if let Err(error) = followed {
                tracing::warn!(controller = self.name, %error, "a namespace has changed and cannot be served so");
            }
        }
    }
}

fn say(controller: &str, severity: Severity, text: &str) {
    match severity {
        Severity::Info => tracing::info!(controller, "{text}"),
        Severity::Warn => tracing::warn!(controller, "{text}"),
        Severity::Error => tracing::error!(controller, "{text}"),
    }
}

impl Context {
    /// Takes a name, before a device is opened that would have it; and that device, where it is one of this machine's.
    pub(super) fn reserve_controller(&self, name: &str, place: Option<Place>) -> Result<Reserved<'_>, Fault> {
        let mut slots = lock(&self.nvme.by_name);
        let exists = |what: String| Err(Fault::errno(Errno::EXIST, what));
        match slots.get(name) {
            Some(Slot::Attached(_)) => return exists(format!("there is a controller {name} already")),
            Some(Slot::Busy(_)) => {
                return exists(format!("a controller {name} is being attached or given back"));
            }
            None => {}
        }
        if let Some(place) = place
            && let Some((other, _)) = slots.iter().find(|(_, slot)| slot.place() == Some(place))
        {
            return exists(format!("the controller at {} is {other}'s already", place.address));
        }
        slots.insert(name.to_owned(), Slot::Busy(place));
        Ok(Reserved { controllers: &self.nvme, name: name.to_owned() })
    }

    /// Attaches a controller and registers its namespaces; gives back their bdevs' names.
    pub(super) fn attach(&self, reserved: Reserved<'_>, what: ToAttach) -> Result<Vec<String>, Fault> {
        let name = reserved.name.clone();
        let (events, follow) = mpsc::channel();
        let hook = Arc::new(move |event| drop(events.send(event)));
        let handle = Handle::attach(what.transport, what.options, hook).map_err(Fault::internal)?;
        let attached = Arc::new(Attached {
            name: name.clone(),
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            trid: what.trid,
            place: what.place,
            recipe: what.recipe,
            handle: Arc::new(handle),
            times: what.times,
            control: self.remote(),
            served: Mutex::new(Vec::new()),
        });
        if let Err(why) = attached.handle.wait_attached(ATTACH) {
            attached.give_back();
            return Err(Fault::errno(Errno::NODEV, format_args!("{name}: {why}")));
        }
        let mut names = Vec::new();
        for disk in attached.shared().disks() {
            match attached.add(&disk) {
                Ok(name) => names.push(name),
                Err(error) => {
                    attached.withdraw();
                    return Err(bdev_fault(&error));
                }
            }
        }
        let follower = Arc::clone(&attached);
        let thread = std::thread::Builder::new().name(format!("nvme-follow:{name}"));
        thread.spawn(move || follower.follow(&follow)).map_err(Fault::internal)?;
        lock(&self.nvme.by_name).insert(name, Slot::Attached(attached));
        drop(reserved);
        Ok(names)
    }

    /// Takes a controller's namespaces out of service and gives it back.
    pub(super) fn detach(&self, name: &str) -> Result<(), Fault> {
        let attached = self.controller(name)?;
        {
            let mut slots = lock(&self.nvme.by_name);
            match slots.get_mut(name) {
                Some(slot @ Slot::Attached(_)) => *slot = Slot::Busy(attached.place),
                _ => return Err(no_controller(name)),
            }
        }
        let reserved = Reserved { controllers: &self.nvme, name: name.to_owned() };
        attached.withdraw();
        drop(reserved);
        Ok(())
    }

    /// Gives every controller back and takes registrations back: the daemon has stopped.
    pub fn detach_all(&self) {
        self.isns.end();
        self.nvme.hotplug.end();
        let all = std::mem::take(&mut *lock(&self.nvme.by_name));
        let all: Vec<Arc<Attached>> = all.into_values().filter_map(Slot::attached).collect();
        // Side by side, as each may take its time.
        for attached in &all {
            attached.handle.order(Order::Detach);
        }
        for attached in &all {
            attached.give_back();
        }
    }

    /// The controllers.
    pub(super) fn controllers(&self) -> Vec<Arc<Attached>> {
        lock(&self.nvme.by_name).values().cloned().filter_map(Slot::attached).collect()
    }

    /// Names and devices, of those too that are being attached or given back.
    pub(super) fn controller_places(&self) -> Vec<(String, Option<Place>)> {
        lock(&self.nvme.by_name).iter().map(|(name, slot)| (name.clone(), slot.place())).collect()
    }

    /// The controller of this name.
    pub(super) fn controller(&self, name: &str) -> Result<Arc<Attached>, Fault> {
        let slot = lock(&self.nvme.by_name).get(name).cloned();
        slot.and_then(Slot::attached).ok_or_else(|| no_controller(name))
    }
}

impl Attached {
    /// Takes the namespaces out of service, then gives the controller back.
    fn withdraw(&self) {
        let served = lock(&self.served).clone();
        for disk in served {
            if let Err(error) = self.remove(&disk) {
                tracing::warn!(controller = self.name, %error, "a namespace could not be taken out of service");
            }
        }
        self.give_back();
    }

    fn give_back(&self) {
        if let Err(error) = self.handle.detach(DETACH) {
            tracing::warn!(controller = self.name, error, "it was not given back");
        }
    }
}

fn no_controller(name: &str) -> Fault {
    Fault::errno(Errno::NODEV, format_args!("there is no controller {name}"))
}
