//! NVMe controllers that calls attached, by name.

mod attached;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::io::Errno;

pub(super) use self::attached::Attached;
use self::attached::{Events, Follower, Seats};
use super::context::{Context, lock};
use super::devices::bdev_fault;
use super::fault::Fault;
use super::hotplug::{self, Hotplug};
use super::json::Json;
use super::methods::mirror::Doubted;
use crate::bdev::nvme::TimeOuts;
use crate::bdev::nvme::controller::shared::{Event, Options, Order};
use crate::bdev::nvme::pci::Groups;
use crate::bdev::nvme::pci::device::Address;
use crate::bdev::nvme::pci::list::Place;
use crate::bdev::nvme::seat::Vacancy;
use crate::bdev::nvme::transport::Transport;
use crate::control::error::ChangeError;

/// A controller has so long to come up: longer than any reports as its own limit but a broken one.
const ATTACH: Duration = Duration::from_secs(60);
/// The same where others wait to be served, or to be looked for.
const ATTACH_ASIDE: Duration = Duration::from_secs(10);

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
    /// A controller that is being attached, and its device.
    Busy(Option<Place>),
    /// One that is being given back: what it has is there until all of it is out of service.
    Leaving(Arc<Attached>),
    /// A controller.
    Attached(Arc<Attached>),
}

impl Slot {
    fn place(&self) -> Option<Place> {
        match self {
            Slot::Busy(place) => *place,
            Slot::Leaving(attached) | Slot::Attached(attached) => attached.reach.place(),
        }
    }

    fn attached(self) -> Option<Arc<Attached>> {
        if let Slot::Attached(attached) = self { Some(attached) } else { None }
    }
}

/// Where the way to a controller leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    /// A device of this machine's, where there is one at that address.
    Bus(Address, Option<Place>),
    /// A network.
    Network,
}

impl Reach {
    /// Its device, where it is one of this machine's.
    pub(super) fn place(self) -> Option<Place> {
        if let Reach::Bus(_, place) = self { place } else { None }
    }

    /// Where on the bus that is, or is to be.
    pub(super) fn address(self) -> Option<Address> {
        if let Reach::Bus(address, _) = self { Some(address) } else { None }
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
        if let Some(Slot::Busy(_) | Slot::Leaving(_)) = slots.get(&self.name) {
            slots.remove(&self.name);
        }
    }
}

/// What to attach.
#[derive(Debug)]
pub(super) struct ToAttach {
    pub(super) name: String,
    pub(super) trid: Json,
    pub(super) reach: Reach,
    pub(super) recipe: String,
    pub(super) options: Options,
    pub(super) times: TimeOuts,
    /// Namespaces whose bdevs are there in any case.
    pub(super) awaited: Option<Vec<(u32, Vacancy)>>,
    /// The way to it, or why there is none.
    pub(super) transport: Result<Box<dyn Transport>, String>,
}

impl Context {
    /// Takes a name, before a device is opened that would have it; and that device, where it is one of this machine's.
    pub(super) fn reserve_controller(&self, name: &str, place: Option<Place>) -> Result<Reserved<'_>, Fault> {
        let mut slots = lock(&self.nvme.by_name);
        let exists = |what: String| Err(Fault::errno(Errno::EXIST, what));
        match slots.get(name) {
            Some(Slot::Attached(_)) => return exists(format!("there is a controller {name} already")),
            Some(Slot::Busy(_) | Slot::Leaving(_)) => {
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

    /// Attaches a controller and registers its namespaces; gives back their bdevs' names. Where a file is loaded and the controller
    /// is missing, the others are served, and it is waited for.
    pub(super) fn attach(&self, reserved: Reserved<'_>, mut what: ToAttach) -> Result<Vec<String>, Fault> {
        let is_loading = self.is_loading();
        let patience = if is_loading { ATTACH_ASIDE } else { ATTACH };
        let awaited = what.awaited.take();
        let (attached, events) =
            Attached::begin(what, self.remote(), Arc::new(Seats::default()), (patience, is_loading))?;
        let disks = attached.shared().disks();
        // Of a controller that is missing, and that no file of ours tells of, the usual is taken for granted.
        let usual = || {
            if attached.is_gone() {
                vec![(1, Vacancy { uuid: [0; 16], block_bytes: 512, blocks: 0 })]
            } else {
                Vec::new()
            }
        };
        let awaited = awaited.unwrap_or_else(usual).into_iter();
        let reserve = |(nsid, vacancy): (u32, Vacancy)| attached.reserve(nsid, vacancy);
        let served: Result<(), ChangeError> =
            awaited.map(reserve).chain(disks.iter().map(|disk| attached.add(disk))).collect();
        if let Err(error) = served {
            attached.withdraw();
            return Err(bdev_fault(&error));
        }
        let (names, attached) = (attached.bdevs(), Arc::new(attached));
        self.follow(&attached, events)?;
        lock(&self.nvme.by_name).insert(reserved.name.clone(), Slot::Attached(attached));
        drop(reserved);
        Ok(names)
    }

    /// Attaches what has come in the stead of a controller that is gone, whose bdevs it gets.
    pub(super) fn attach_again(&self, before: &Arc<Attached>, what: ToAttach) -> Result<(), Fault> {
        let seats = Arc::clone(&before.seats);
        let (attached, events) = Attached::begin(what, self.remote(), seats, (ATTACH_ASIDE, false))?;
        let attached = Arc::new(attached);
        let mut slots = lock(&self.nvme.by_name);
        let slot = slots.get_mut(before.name());
        let is_awaited =
            |slot: &&mut Slot| matches!(slot, Slot::Attached(there) if Arc::ptr_eq(there, before));
        let Some(slot) = slot.filter(is_awaited) else {
            drop(slots);
            // It was detached meanwhile.
            attached.give_back();
            return Err(no_controller(before.name()));
        };
        *slot = Slot::Attached(Arc::clone(&attached));
        drop(slots);
        for disk in attached.shared().disks() {
            if let Err(error) = attached.add(&disk) {
                tracing::warn!(controller = attached.name(), %error, "a namespace cannot be served");
            }
        }
        self.follow(&attached, events)
    }

    /// From now on it is followed, and waited for where it is gone.
    fn follow(&self, attached: &Arc<Attached>, events: Events) -> Result<(), Fault> {
        hotplug::begin(self)?;
        if attached.is_gone() {
            self.nvme.hotplug.miss();
        }
        let (follower, me) = (Follower(Arc::clone(attached)), self.me());
        let thread = std::thread::Builder::new().name(format!("nvme-follow:{}", attached.name()));
        let named = Arc::clone(attached);
        let and_then = move |event: &Event| {
            let Some(context) = me.upgrade() else { return };
            match event {
                Event::Gone => context.nvme.hotplug.miss(),
                // The next start believes what is saved of it.
                Event::Resized(disk) => {
                    if let Err(fault) = context.keep_resized() {
                        let error = fault.text();
                        tracing::error!(nsid = disk.nsid, error, "the size of a namespace is not saved");
                    }
                }
                // What was in its cache may be gone. A mirror that asked for nothing meanwhile would not notice: this is before the
                // next namespace gets its seat. They are filled when they are back.
                Event::Removed(disk) => {
                    let name = named.bdev_name(disk.nsid);
                    if let Err(fault) = Doubted::on(&context, &name) {
                        let error = fault.text();
                        tracing::error!(bdev = name, error, "a mirror takes it for what it was");
                    }
                }
                _ => {}
            }
        };
        thread.spawn(move || follower.0.follow(&events, and_then)).map(drop).map_err(Fault::internal)
    }

    /// Takes a controller's namespaces out of service and gives it back.
    pub(super) fn detach(&self, name: &str) -> Result<(), Fault> {
        let (attached, reserved) = self.leave(name)?;
        attached.withdraw();
        drop(reserved);
        Ok(())
    }

    /// A controller that nobody else finds any more, and the name that is still its own.
    fn leave(&self, name: &str) -> Result<(Arc<Attached>, Reserved<'_>), Fault> {
        let mut slots = lock(&self.nvme.by_name);
        let slot = slots.get_mut(name).ok_or_else(|| no_controller(name))?;
        let Slot::Attached(attached) = slot else { return Err(no_controller(name)) };
        let attached = Arc::clone(attached);
        *slot = Slot::Leaving(Arc::clone(&attached));
        Ok((attached, Reserved { controllers: &self.nvme, name: name.to_owned() }))
    }

    /// Gives every controller back and takes registrations back: the daemon has stopped.
    pub fn detach_all(&self) {
        self.isns.end();
        self.nvme.hotplug.end();
        let all = std::mem::take(&mut *lock(&self.nvme.by_name));
        let all: Vec<Arc<Attached>> = all.into_values().filter_map(Slot::attached).collect();
        // Side by side, as each may take its time.
        for attached in &all {
            attached.order(Order::Detach);
        }
        for attached in &all {
            attached.give_back();
        }
    }

    /// The controllers.
    pub(super) fn controllers(&self) -> Vec<Arc<Attached>> {
        lock(&self.nvme.by_name).values().cloned().filter_map(Slot::attached).collect()
    }

    /// The calls that attach them, for a file: of those too that are being given back, as LUNs may still lead to what they have.
    pub(super) fn controller_calls(&self) -> Vec<Json> {
        let slots: Vec<Slot> = lock(&self.nvme.by_name).values().cloned().collect();
        let calls = slots.iter().filter_map(|slot| match slot {
            Slot::Busy(_) => None,
            Slot::Leaving(attached) | Slot::Attached(attached) => attached.call(),
        });
        calls.collect()
    }

    /// One that is being given back.
    pub(super) fn leaving_controller(&self) -> Option<String> {
        let slots = lock(&self.nvme.by_name);
        slots.iter().find(|(_, slot)| matches!(slot, Slot::Leaving(_))).map(|(name, _)| name.clone())
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

fn no_controller(name: &str) -> Fault {
    Fault::errno(Errno::NODEV, format_args!("there is no controller {name}"))
}
