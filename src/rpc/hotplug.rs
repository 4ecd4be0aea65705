//! NVMe controllers that come by themselves: a thread looks for those that are missing, and, where that is wanted, for those that
//! were handed over and are nobody's.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::context::{Context, lock};
use super::fault::Fault;
use super::json::{Json, object};
use super::methods;
use super::nvme::{Attached, Reach};
use crate::bdev::nvme::pci::device::Address;
use crate::bdev::nvme::pci::list::{self, Place};

/// SPDK's period where none is given, and its longest.
const PERIOD_US: u64 = 100_000;
const PERIOD_US_MAX: u64 = 10_000_000;
const PERIOD_US_MIN: u64 = 10_000;
/// So often it is looked for those that are missing, where nothing else is looked for.
const MISSED: Duration = Duration::from_secs(1);
/// So often a network is asked whether its controllers are there.
const REACH: Duration = Duration::from_secs(5);
/// A controller that cannot be attached is tried so often: it may have come a moment ago.
const TRIES: u8 = 3;

/// What is looked for, and how often.
#[derive(Debug, Default)]
pub(super) struct Hotplug {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// None: it was never asked for.
    period_us: Option<u64>,
    is_on: bool,
    /// A controller that was attached is gone.
    is_missing: bool,
    /// When it is looked on the network again.
    next_reach: Option<Instant>,
    has_thread: bool,
    /// The daemon stops.
    is_over: bool,
    candidates: BTreeMap<Address, Candidate>,
}

/// A device that is nobody's.
#[derive(Debug)]
struct Candidate {
    place: Place,
    /// It is tried so often yet.
    tries: u8,
}

impl Candidate {
    fn new(place: Place) -> Candidate {
        Candidate { place, tries: TRIES }
    }
}

impl Hotplug {
    /// No controller is attached any more.
    pub(super) fn end(&self) {
        lock(&self.state).is_over = true;
        self.changed.notify_all();
    }

    /// The operator gives this device back: it is not taken again, whatever else comes to its address.
    pub(super) fn leave_alone(&self, place: Option<Place>) {
        if let Some(place) = place {
            lock(&self.state).candidates.insert(place.address, Candidate { place, tries: 0 });
        }
    }

    /// The call that a file has for it, where it is on.
    pub(super) fn call(&self) -> Option<Json> {
        let state = lock(&self.state);
        let period_us = state.period_us.filter(|_| state.is_on)?;
        let params = object! { "enable": true, "period_us": period_us };
        Some(object! { "method": "bdev_nvme_set_hotplug", "params": params })
    }

    /// A controller is gone: it is looked for.
    pub(super) fn miss(&self) {
        lock(&self.state).is_missing = true;
        self.changed.notify_all();
    }

    /// Waits for the next time to look; false where there is none.
    fn wait(&self) -> bool {
        let state = lock(&self.state);
        let is_idle = |state: &mut State| !state.is_over && !state.is_on && !state.is_missing;
        let state = self.changed.wait_while(state, is_idle).unwrap_or_else(PoisonError::into_inner);
        let period =
            if state.is_on { Duration::from_micros(state.period_us.unwrap_or(PERIOD_US)) } else { MISSED };
        let waited = self.changed.wait_timeout_while(state, period, |state| !state.is_over);
        !waited.unwrap_or_else(PoisonError::into_inner).0.is_over
    }

    /// Whether devices are looked for that nobody has told of.
    fn is_on(&self) -> bool {
        lock(&self.state).is_on
    }

    /// Whether it is time to look on the network.
    fn is_reach_due(&self, now: Instant) -> bool {
        let mut state = lock(&self.state);
        let is_due = state.next_reach.is_none_or(|next| next <= now);
        if is_due {
            state.next_reach = Some(now + REACH);
        }
        is_due
    }

    /// Of these devices, which are nobody's, those that are to be tried now.
    fn due(&self, free: &[Place]) -> Vec<Place> {
        let mut state = lock(&self.state);
        if state.is_over {
            return Vec::new();
        }
        let mut due = Vec::new();
        for &place in free {
            let candidate = state.candidates.entry(place.address).or_insert_with(|| Candidate::new(place));
            if candidate.place != place {
                *candidate = Candidate::new(place);
            }
            if candidate.tries > 0 {
                candidate.tries -= 1;
                due.push(place);
            }
        }
        due
    }

    /// It is somebody's.
    fn attached(&self, address: Address) {
        lock(&self.state).candidates.remove(&address);
    }
}

/// Switches it on or off.
pub(super) fn set(context: &Context, is_on: bool, period_us: u64) -> Result<(), Fault> {
    let hotplug = &context.nvme.hotplug;
    let mut state = lock(&hotplug.state);
    let period_us = if period_us == 0 { PERIOD_US } else { period_us };
    state.period_us = Some(period_us.clamp(PERIOD_US_MIN, PERIOD_US_MAX));
    state.is_on = is_on;
    drop(state);
    hotplug.changed.notify_all();
    begin(context)
}

/// Starts the thread that looks, where there is none yet.
pub(super) fn begin(context: &Context) -> Result<(), Fault> {
    let mut state = lock(&context.nvme.hotplug.state);
    if state.has_thread {
        return Ok(());
    }
    let me = context.me();
    let thread = std::thread::Builder::new().name("nvme-hotplug".to_owned());
    let run = move || {
        if let Some(context) = me.upgrade() {
            context.wait_started();
        }
        while let Some(context) = me.upgrade()
            && context.nvme.hotplug.wait()
        {
            look(&context);
        }
    };
    thread.spawn(run).map_err(Fault::internal)?;
    state.has_thread = true;
    Ok(())
}

/// Attaches what has come.
fn look(context: &Context) {
    let hotplug = &context.nvme.hotplug;
    // Before it is looked: one that goes meanwhile says so again.
    lock(&hotplug.state).is_missing = false;
    let controllers = context.controllers();
    let missing: Vec<&Arc<Attached>> =
        controllers.iter().filter(|attached| attached.may_be_replaced()).collect();
    if missing.iter().any(|attached| attached.reach == Reach::Network) && hotplug.is_reach_due(Instant::now())
    {
        for before in missing.iter().filter(|attached| attached.reach == Reach::Network) {
            // Until it is there this is what is expected.
            if let Err(fault) = again(context, before) {
                tracing::debug!(controller = before.name(), error = fault.text(), "it is still missing");
            }
        }
    }
    look_on_bus(context, &controllers);
    // Also one that is being made quiet, or followed, yet.
    if context.controllers().iter().any(|attached| attached.is_lost()) {
        lock(&hotplug.state).is_missing = true;
    }
}

fn look_on_bus(context: &Context, controllers: &[Arc<Attached>]) {
    let is_on = context.nvme.hotplug.is_on();
    let is_missing =
        |attached: &Arc<Attached>| attached.may_be_replaced() && attached.reach != Reach::Network;
    if !is_on && !controllers.iter().any(is_missing) {
        return;
    }
    let places = context.controller_places();
    let is_free = |place: &Place| {
        let known = places.iter().any(|(_, known)| *known == Some(*place));
        !known && before(controllers, place.address).map_or(is_on, |before| before.may_be_replaced())
    };
    let there = list::handed_over(context.unsafe_noiommu);
    let free: Vec<Place> = there.into_iter().filter(is_free).collect();
    for Place { address, .. } in context.nvme.hotplug.due(&free) {
        let taken = match before(controllers, address) {
            Some(before) => again(context, before),
            None => methods::call(context, "bdev_nvme_attach_controller", new(context, address)).map(drop),
        };
        let address_text = address.to_string();
        match taken {
            Ok(()) => {
                context.nvme.hotplug.attached(address);
                tracing::info!(address = address_text, "an NVMe controller has come and is attached");
            }
            Err(fault) => {
                let error = fault.text();
                tracing::warn!(
                    address = address_text,
                    error,
                    "an NVMe controller has come and cannot be attached"
                );
            }
        }
    }
}

/// The controller that was at this address, or is to be.
fn before(controllers: &[Arc<Attached>], address: Address) -> Option<&Arc<Attached>> {
    controllers.iter().find(|attached| attached.reach.address() == Some(address))
}

/// Attaches a controller that was missing, as it was.
fn again(context: &Context, before: &Arc<Attached>) -> Result<(), Fault> {
    context.attach_again(before, methods::nvme::to_attach(context, before.params())?)
}

/// Of a controller that was never here.
fn new(context: &Context, address: Address) -> Json {
    let places = context.controller_places();
    let is_free = |name: &String| places.iter().all(|(known, _)| known != name);
    let name = (0..=places.len()).map(|number| format!("HotInNvme{number}")).find(is_free);
    object! { "name": name.unwrap_or_default(), "trtype": "PCIe", "traddr": address.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(address: &str, node: u64) -> Place {
        Place::new(Address::parse(address).unwrap(), node)
    }

    #[test]
    fn what_cannot_be_attached_is_tried_three_times() {
        let hotplug = Hotplug::default();
        let (one, two) = (place("0000:01:00.0", 7), place("0000:02:00.0", 8));
        for _ in 0..3 {
            assert_eq!(hotplug.due(&[one]), [one]);
        }
        assert_eq!(hotplug.due(&[one]), []);
        assert_eq!(hotplug.due(&[one, two]), [two]);
        let again = place("0000:01:00.0", 9);
        assert_eq!(hotplug.due(&[again]), [again], "it was pulled out and came back");
    }

    #[test]
    fn what_was_detached_is_left_alone_until_it_is_another() {
        let hotplug = Hotplug::default();
        let one = place("0000:01:00.0", 7);
        hotplug.leave_alone(Some(one));
        assert_eq!(hotplug.due(&[one]), []);
        let another = place("0000:01:00.0", 8);
        assert_eq!(hotplug.due(&[another]), [another]);
    }
}
