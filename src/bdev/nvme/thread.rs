//! The thread of one controller, and the handle by which the rest of the process reaches it.

use std::sync::{Arc, mpsc};
use std::thread::{Builder, Thread};
use std::time::{Duration, Instant};

use super::controller::Controller;
use super::controller::shared::{Answer, Hook, Life, Options, Order, Query, Shared, Wanted};
use super::port::Port;
use super::transport::Transport;
use crate::id::ReactorId;
use crate::time::Tick;

/// A controller on a thread of its own. It is given back when the last handle is dropped.
#[derive(Debug)]
pub(crate) struct Handle {
    shared: Arc<Shared>,
    thread: Thread,
}

impl Handle {
    /// Begins to attach the controller that is reached by `transport`; [`Handle::wait_attached`] tells what came of it.
    /// `hook` is called on the controller's thread.
    pub(crate) fn attach(
        transport: Box<dyn Transport>,
        options: Options,
        hook: Hook,
    ) -> Result<Handle, String> {
        let shared = Arc::new(Shared::new());
        let name = format!("nvme:{}", options.name);
        let its = Arc::clone(&shared);
        let spawned = Builder::new().name(name).spawn(move || run(transport, options, its, hook));
        let joined = spawned.map_err(|error| format!("cannot start a thread for the controller: {error}"))?;
        Ok(Handle { shared, thread: joined.thread().clone() })
    }

    /// Of a controller that could not be reached: why. It has no thread.
    pub(crate) fn gone(why: String) -> Handle {
        Handle { shared: Arc::new(Shared::gone(why)), thread: std::thread::current() }
    }

    /// Waits until the controller works, and gives it back where it does not within `patience`. Not for reactors.
    pub(crate) fn wait_attached(&self, patience: Duration) -> Result<(), String> {
        match self.shared.wait(patience, |life| *life != Life::Attaching) {
            Life::Running | Life::Recovering => Ok(()),
            Life::Gone(why) => Err(why),
            Life::Detached => Err("it was detached".to_owned()),
            Life::Attaching => {
                self.order(Order::Detach);
                Err("it does not answer in time".to_owned())
            }
        }
    }

    /// What is known of the controller.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// A port for a lane of `reactor`, which is served from now on. Reactors may do this.
    pub(crate) fn port(&self, reactor: ReactorId) -> Arc<Port> {
        let thread = self.thread.clone();
        let port = Arc::new(Port::new(reactor, Arc::new(move || thread.unpark())));
        self.shared.register(Arc::clone(&port));
        self.thread.unpark();
        port
    }

    /// Asks the controller. Not for reactors.
    pub(crate) fn query(&self, query: Query, patience: Duration) -> Result<Answer, String> {
        let (sender, receiver) = mpsc::channel();
        self.order(Order::Query(query, sender));
        receiver.recv_timeout(patience).unwrap_or_else(|_| Err("the controller does not answer".to_owned()))
    }

    /// Has a namespace erased, and waits until it is known what came of that: nobody else may use it before. Not for reactors.
    pub(crate) fn erase(&self, wanted: Wanted) -> Result<(), String> {
        let (sender, receiver) = mpsc::channel();
        self.order(Order::Erase(wanted, sender));
        receiver.recv().unwrap_or_else(|_| Err("the controller is gone".to_owned()))
    }

    /// Has it done.
    pub(crate) fn order(&self, order: Order) {
        self.shared.order(order);
        self.thread.unpark();
    }

    /// Gives the controller back: deletes its queues and shuts it down. Nothing of it can touch memory any more when this
    /// returns; an error where that takes longer than `patience`. Not for reactors.
    pub(crate) fn detach(&self, patience: Duration) -> Result<(), String> {
        self.order(Order::Detach);
        if self.shared.wait_over(patience) {
            return Ok(());
        }
        Err("the controller does not stop: the memory that it may write to is kept".to_owned())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.order(Order::Detach);
    }
}

#[expect(clippy::disallowed_methods, reason = "the clock of the controller's own thread")]
fn run(transport: Box<dyn Transport>, options: Options, shared: Arc<Shared>, hook: Hook) {
    let epoch = Instant::now();
    let now = || Tick::from_ns(u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX));
    let mut controller = Controller::new(transport, options, Arc::clone(&shared), hook, now());
    while !controller.is_over() {
        let next = controller.poll(now());
        let left_ns = next.since_ns(now());
        if left_ns > 0 {
            std::thread::park_timeout(Duration::from_nanos(left_ns));
        }
    }
    // Whoever waits for the end may use the device at once.
    drop(controller);
    shared.set_over();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bdev::nvme::controller::tests::script;
    use crate::bdev::nvme::port::{Reply, Request};

    /// Far more than any of this takes.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn attach(has_device: bool) -> Result<Handle, String> {
        Handle::attach(script(has_device), Options::fabrics("n0".to_owned(), 1, None), Arc::new(|_| ()))
    }

    #[test]
    fn a_controller_is_attached_and_given_back() {
        let handle = attach(true).unwrap();
        handle.wait_attached(PATIENCE).unwrap();
        assert_eq!(handle.shared().about().unwrap().queues, 1);
        assert!(matches!(handle.query(Query::Health, PATIENCE), Ok(Answer::Health(_))));
        let port = handle.port(ReactorId(0));
        port.ask(Request::Open).unwrap();
        handle.detach(PATIENCE).unwrap();
        let replies: Vec<Reply> = std::iter::from_fn(|| port.reply()).collect();
        assert!(matches!(replies.last(), Some(Reply::Gone)), "{replies:?}");
        assert!(matches!(handle.port(ReactorId(0)).reply(), Some(Reply::Gone)));
        assert!(handle.query(Query::Health, PATIENCE).is_err());
    }

    #[test]
    fn what_does_not_answer_is_not_attached() {
        let handle = attach(false).unwrap();
        let why = handle.wait_attached(PATIENCE).unwrap_err();
        assert!(why.starts_with("connection refused"), "{why}");
        assert!(handle.shared().wait_over(PATIENCE));
    }
}
