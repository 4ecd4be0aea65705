//! NVMe controllers that come by themselves: a thread looks for those that were handed over and are nobody's.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::context::{Context, lock};
use super::fault::Fault;
use super::json::{Json, object};
use super::methods;
use super::nvme::Attached;
use crate::bdev::nvme::controller::shared::Life;
use crate::bdev::nvme::pci::device::Address;
use crate::bdev::nvme::pci::list::{self, Place};

/// SPDK's period where none is given, and its longest.
const PERIOD_US: u64 = 100_000;
const PERIOD_US_MAX: u64 = 10_000_000;
const PERIOD_US_MIN: u64 = 10_000;
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
    /// Parameters of the call that attached the one which was there before.
    params: Option<Json>,
}

impl Candidate {
    fn new(place: Place) -> Candidate {
        Candidate { place, tries: TRIES, params: None }
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
            let left_alone = Candidate { tries: 0, ..Candidate::new(place) };
            lock(&self.state).candidates.insert(place.address, left_alone);
        }
    }

    /// The call that a file has for it, where it is on.
    pub(super) fn call(&self) -> Option<Json> {
        let state = lock(&self.state);
        let period_us = state.period_us.filter(|_| state.is_on)?;
        let params = object! { "enable": true, "period_us": period_us };
        Some(object! { "method": "bdev_nvme_set_hotplug", "params": params })
    }

    /// Waits for the next time to look; false where there is none.
    fn wait(&self) -> bool {
        let state = lock(&self.state);
        let state = self.changed.wait_while(state, |state| !state.is_over && !state.is_on);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let period = Duration::from_micros(state.period_us.unwrap_or(PERIOD_US));
        let waited = self.changed.wait_timeout_while(state, period, |state| !state.is_over);
        !waited.unwrap_or_else(PoisonError::into_inner).0.is_over
    }

    /// Of these devices, which are nobody's, those that are to be tried now.
    fn due(&self, free: &[Place]) -> Vec<Place> {
        let mut state = lock(&self.state);
        if !state.is_on || state.is_over {
            return Vec::new();
        }
        let mut due = Vec::new();
        for &place in free {
            let candidate = state.candidates.entry(place.address).or_insert_with(|| Candidate::new(place));
            if candidate.place != place {
                *candidate = Candidate { params: candidate.params.take(), ..Candidate::new(place) };
            }
            if candidate.tries > 0 {
                candidate.tries -= 1;
                due.push(place);
            }
        }
        due
    }

    /// What comes to this address is attached so.
    fn remember(&self, address: Address, params: Option<Json>) {
        if let Some(candidate) = lock(&self.state).candidates.get_mut(&address) {
            candidate.params = params;
        }
    }

    fn remembered(&self, address: Address) -> Option<Json> {
        lock(&self.state).candidates.get(&address)?.params.clone()
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
    if is_on && !state.has_thread {
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
    }
    drop(state);
    hotplug.changed.notify_all();
    Ok(())
}

/// Attaches what has come.
fn look(context: &Context) {
    let controllers = context.controllers();
    let places = context.controller_places();
    let is_free = |place: &Place| {
        let is_waited_for = |before: &&Arc<Attached>| !is_gone(before);
        let known = places.iter().any(|(_, known)| *known == Some(*place));
        !known && before(&controllers, place.address).filter(is_waited_for).is_none()
    };
    let there = list::handed_over(context.unsafe_noiommu);
    let free: Vec<Place> = there.into_iter().filter(is_free).collect();
    for Place { address, .. } in context.nvme.hotplug.due(&free) {
        if let Err(fault) = take(context, address, before(&controllers, address)) {
            let (address, error) = (address.to_string(), fault.text());
            tracing::warn!(address, error, "an NVMe controller has come and cannot be attached");
        }
    }
}

/// The controller that was at this address.
fn before(controllers: &[Arc<Attached>], address: Address) -> Option<&Arc<Attached>> {
    controllers.iter().find(|attached| attached.place.is_some_and(|place| place.address == address))
}

/// Whether nothing of it is left.
fn is_gone(attached: &Attached) -> bool {
    matches!(attached.shared().life(), Life::Gone(_)) && attached.shared().is_over()
}

/// Attaches the controller at this address, as the one before it was.
fn take(context: &Context, address: Address, before: Option<&Arc<Attached>>) -> Result<(), Fault> {
    let hotplug = &context.nvme.hotplug;
    if let Some(before) = before {
        let recipe = Json::parse(&before.recipe).ok();
        hotplug.remember(address, recipe.and_then(|recipe| recipe.member("params").cloned()));
        context.detach(before.name())?;
    }
    let params = hotplug.remembered(address).unwrap_or_else(|| new(context, address));
    let disks = methods::call(context, "bdev_nvme_attach_controller", params)?;
    hotplug.attached(address);
    tracing::info!(disks = disks.to_string(), "an NVMe controller has come and is attached");
    Ok(())
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

    fn switched_on() -> Hotplug {
        let hotplug = Hotplug::default();
        lock(&hotplug.state).is_on = true;
        hotplug
    }

    #[test]
    fn what_cannot_be_attached_is_tried_three_times() {
        let hotplug = switched_on();
        let (one, two) = (place("0000:01:00.0", 7), place("0000:02:00.0", 8));
        for _ in 0..3 {
            assert_eq!(hotplug.due(&[one]), [one]);
        }
        assert_eq!(hotplug.due(&[one]), []);
        assert_eq!(hotplug.due(&[one, two]), [two]);
        let again = place("0000:01:00.0", 9);
        assert_eq!(hotplug.due(&[again]), [again], "it was pulled out and came back");
        lock(&hotplug.state).is_on = false;
        assert_eq!(hotplug.due(&[again]), []);
    }

    #[test]
    fn what_was_detached_is_left_alone_until_it_is_another() {
        let hotplug = switched_on();
        let one = place("0000:01:00.0", 7);
        hotplug.leave_alone(Some(one));
        assert_eq!(hotplug.due(&[one]), []);
        let another = place("0000:01:00.0", 8);
        assert_eq!(hotplug.due(&[another]), [another]);
    }

    #[test]
    fn what_came_back_keeps_its_name_through_every_try() {
        let hotplug = switched_on();
        let one = place("0000:01:00.0", 7);
        assert_eq!(hotplug.due(&[one]), [one]);
        hotplug.remember(one.address, Some(Json::from("as before")));
        assert_eq!(hotplug.due(&[one]), [one]);
        assert_eq!(hotplug.remembered(one.address), Some(Json::from("as before")));
        hotplug.attached(one.address);
        assert_eq!(hotplug.remembered(one.address), None);
    }
}
