//! A controller's thread, its namespaces and a mock controller under it, all driven by one hand: for tests, fuzzing and figures.

#![expect(clippy::disallowed_types, reason = "its parts are shared with bdevs, which may go anywhere")]

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_queue::SegQueue;

use super::TimeOuts;
use super::bus::Bus;
use super::controller::Controller;
#[cfg(test)]
use super::controller::shared::Order;
use super::controller::shared::{Event, Life, Options, Shared};
use super::mock::Mock;
use super::namespace::{NvmeBdev, Tenant, unasked};
use super::pci::PciTransport;
use super::port::Port;
use crate::sim::rng::Rng;
use crate::time::{MS_NS, SECOND_NS, Tick};

/// Lanes are found by their controller's number: each rig's is another.
static NUMBERS: AtomicU64 = AtomicU64::new(1 << 32);
/// The time that a controller needs to come up, or to go, with all its tries.
const PATIENCE_NS: u64 = 600 * SECOND_NS;

/// Time-outs short enough for a test.
pub(crate) const TIMES: TimeOuts = TimeOuts { command_ns: 2 * SECOND_NS, abort_ns: SECOND_NS };

/// A driven controller.
pub(crate) struct Rig {
    pub(crate) mock: Mock,
    pub(crate) controller: Arc<Mutex<Controller>>,
    pub(crate) shared: Arc<Shared>,
    events: Arc<SegQueue<Event>>,
    number: u64,
    pub(crate) now: Tick,
}

impl Rig {
    /// Over the mock, reached through `bus`, which leads to it.
    pub(crate) fn new(mock: &Mock, bus: Arc<dyn Bus>) -> Rig {
        let shared = Arc::new(Shared::new());
        let events = Arc::new(SegQueue::new());
        let heard = Arc::clone(&events);
        let options = Options::pcie("mock".to_owned(), 2);
        let transport = Box::new(PciTransport::new(bus, "mock"));
        let now = Tick::from_ns(SECOND_NS);
        let hook = Arc::new(move |event| heard.push(event));
        let controller = Controller::new(transport, options, Arc::clone(&shared), hook, now);
        Rig {
            mock: mock.clone(),
            controller: Arc::new(Mutex::new(controller)),
            shared,
            events,
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            now,
        }
    }

    /// What it has said since the last call.
    pub(crate) fn said(&self) -> Vec<String> {
        let said = |event| if let Event::Said(_, words) = event { Some(words) } else { None };
        std::iter::from_fn(|| self.events.pop()).filter_map(said).collect()
    }

    /// The controller's thread and the mock controller do something, and time passes.
    pub(crate) fn turn(&mut self, rng: &mut Rng, ns: u64) {
        let _ = drive(&self.controller, self.now);
        if self.controller.lock().unwrap_or_else(PoisonError::into_inner).is_over() {
            self.shared.set_over();
        }
        self.mock.step(rng);
        self.now = self.now.after_ns(ns);
    }

    /// Turns until `is_it`; false where that takes longer than any of its time-outs together.
    pub(crate) fn turn_until(&mut self, rng: &mut Rng, is_it: impl Fn(&Rig) -> bool) -> bool {
        let end = self.now.after_ns(PATIENCE_NS);
        while self.now < end {
            if is_it(self) {
                return true;
            }
            self.turn(rng, MS_NS);
        }
        false
    }

    /// Until it works, or is given up: whether it works.
    pub(crate) fn bring_up(&mut self, rng: &mut Rng) -> bool {
        self.turn_until(rng, |rig| rig.shared.life() != Life::Attaching);
        self.shared.life() == Life::Running
    }

    /// Gives the controller back; false where that takes too long.
    #[cfg(test)]
    pub(crate) fn detach(&mut self, rng: &mut Rng) -> bool {
        self.shared.order(Order::Detach);
        self.turn_until(rng, |rig| rig.shared.is_over())
    }

    /// The namespace with this number, where it is there.
    pub(crate) fn bdev(&self, nsid: u32) -> Option<NvmeBdev> {
        let disk = self.shared.disks().into_iter().find(|disk| disk.nsid == nsid)?;
        let shared = Arc::clone(&self.shared);
        let its = Arc::clone(&self.shared);
        let connect = Arc::new(move |reactor| {
            let port = Arc::new(Port::new(reactor, Arc::new(|| {})));
            its.register(Arc::clone(&port));
            port
        });
        let (ask, erase) = (unasked(), unasked());
        let tenant = Tenant { controller: self.number, shared, disk, times: TIMES, connect, ask, erase };
        Some(NvmeBdev::new(format!("nvme{nsid}"), tenant))
    }
}

/// One poll of the controller's thread.
#[must_use]
pub(crate) fn drive(controller: &Mutex<Controller>, now: Tick) -> Tick {
    controller.lock().unwrap_or_else(PoisonError::into_inner).poll(now)
}

impl fmt::Debug for Rig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rig").field("now", &self.now).finish_non_exhaustive()
    }
}
