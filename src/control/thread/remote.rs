//! How other threads of the process have control do something.

use std::sync::Arc;
use std::sync::mpsc;

use super::Daemon;
use crate::control::Control;
use crate::control::done::{Done, Outcome};
use crate::control::error::ChangeError;
use crate::net::Waker as _;
use crate::net::kernel::KernelNet;
use crate::net::wake::KernelWaker;
use crate::time::Tick;

/// What another thread wants done on control's.
pub(super) type Order = Box<dyn FnOnce(&mut Daemon, Tick) + Send>;

/// A way to a daemon that runs, for other threads of the process.
#[derive(Clone, Debug)]
pub struct Remote {
    orders: mpsc::Sender<Order>,
    waker: Arc<KernelWaker>,
}

impl Remote {
    /// A way to who has the other end of `orders`, and is woken by `waker`.
    pub(super) fn new(orders: mpsc::Sender<Order>, waker: Arc<KernelWaker>) -> Remote {
        Remote { orders, waker }
    }

    /// Runs `change` on control's thread, between two of its turns, and waits for what it returns. None where the daemon
    /// has stopped.
    pub fn call<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Control<KernelNet>, Tick) -> R + Send + 'static,
    ) -> Option<R> {
        let (result, returned) = mpsc::sync_channel(1);
        let order = move |daemon: &mut Daemon, now| {
            // Who asked may have gone.
            let _ = result.send(change(&mut daemon.control, now));
        };
        self.order(Box::new(order));
        returned.recv().ok()
    }

    /// Starts `change` and waits until it is complete everywhere. None where the daemon has stopped.
    pub fn call_and_wait(
        &self,
        change: impl FnOnce(&mut Control<KernelNet>, Tick, Done) -> Result<(), ChangeError> + Send + 'static,
    ) -> Option<Result<Outcome, ChangeError>> {
        let (ended, end) = mpsc::sync_channel(1);
        // Who waits may have gone.
        let done = Done::new(move |outcome| drop(ended.send(outcome)));
        if let Err(error) = self.call(|control, now| change(control, now, done))? {
            return Some(Err(error));
        }
        end.recv().ok().map(Ok)
    }

    /// Drains the daemon as SIGTERM does.
    pub fn drain(&self) {
        self.order(Box::new(|daemon, now| daemon.drain(now)));
    }

    /// Sends to `told` when the daemon begins to stop, and hangs up when it has stopped.
    pub fn tell_drain(&self, told: mpsc::Sender<()>) {
        self.order(Box::new(move |daemon, _| daemon.told_of_drain.push(told)));
    }

    pub(super) fn order(&self, order: Order) {
        // A daemon that has stopped drops it.
        let _ = self.orders.send(order);
        self.waker.wake();
    }
}
