//! A message is never left lying while its receiver sleeps: `src/reactor/port.rs` itself, compiled with loom's atomics,
//! in every order in which a sender and a receiver can meet.
//!
//! The kernel's eventfd is a flag to wait for. A wake-up that is lost leaves the receiver waiting for ever, which loom
//! reports as a deadlock; the planted mistakes show that it does.

#![expect(clippy::unwrap_used, reason = "the whole crate is a test")]

#[path = "../../src/reactor/port.rs"]
#[expect(unreachable_pub, reason = "it is public where it lives")]
mod port;

use std::cell::Cell;
use std::sync::Arc;

use loom::sync::Notify;
use loom::thread;

/// What stands in the place of the crate's own modules.
mod net {
    pub(crate) use lunette::net::Waker;
}
mod reactor {
    pub(crate) mod atomics {
        pub(crate) use loom::sync::atomic::{AtomicBool, Ordering};

        pub(crate) use crate::queue::ArrayQueue;

        pub(crate) fn fence(order: Ordering) {
            if crate::MISTAKE.get() != crate::Mistake::NoFence {
                loom::sync::atomic::fence(order);
            }
        }
    }
}

/// A mistake to be found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mistake {
    None,
    /// The receiver looks into its queue before it publishes "asleep", and not again.
    LookedBefore,
    /// Both orders are right, and nothing keeps the processor to them.
    NoFence,
}

thread_local! {
    // Loom runs the threads of a model on the thread of its test.
    static MISTAKE: Cell<Mistake> = const { Cell::new(Mistake::None) };
}

mod queue {
    use std::collections::VecDeque;

    use loom::sync::Mutex;
    use loom::sync::atomic::{AtomicUsize, Ordering};

    use crate::{MISTAKE, Mistake};

    /// No stronger than crossbeam's: asking whether it is empty orders nothing.
    #[derive(Debug)]
    pub(crate) struct ArrayQueue<T> {
        pushed: AtomicUsize,
        popped: AtomicUsize,
        messages: Mutex<VecDeque<T>>,
        /// What the last pop saw.
        was_empty: std::sync::atomic::AtomicBool,
    }

    impl<T> ArrayQueue<T> {
        pub(crate) fn new(_capacity: usize) -> ArrayQueue<T> {
            ArrayQueue {
                pushed: AtomicUsize::new(0),
                popped: AtomicUsize::new(0),
                messages: Mutex::new(VecDeque::new()),
                was_empty: std::sync::atomic::AtomicBool::new(true),
            }
        }

        pub(crate) fn push(&self, message: T) -> Result<(), T> {
            self.messages.lock().unwrap().push_back(message);
            self.pushed.fetch_add(1, Ordering::Release);
            Ok(())
        }

        pub(crate) fn pop(&self) -> Option<T> {
            let is_empty = self.pushed.load(Ordering::Acquire) == self.popped.load(Ordering::Relaxed);
            self.was_empty.store(is_empty, Ordering::Relaxed);
            if is_empty {
                return None;
            }
            self.popped.fetch_add(1, Ordering::Relaxed);
            self.messages.lock().unwrap().pop_front()
        }

        pub(crate) fn is_empty(&self) -> bool {
            if MISTAKE.get() == Mistake::LookedBefore {
                return self.was_empty.load(Ordering::Relaxed);
            }
            self.pushed.load(Ordering::Relaxed) == self.popped.load(Ordering::Relaxed)
        }
    }
}

/// The eventfd.
#[derive(Debug)]
struct Bell(Notify);

impl net::Waker for Bell {
    fn wake(&self) {
        self.0.notify();
    }
}

/// A message from another thread, to a receiver that sleeps whenever it may.
fn model(mistake: Mistake) {
    MISTAKE.set(mistake);
    loom::model(|| {
        let bell = Arc::new(Bell(Notify::new()));
        let waker: Arc<dyn net::Waker> = Arc::<Bell>::clone(&bell);
        let (sender, receiver) = port::channel(2, waker);
        let sending = thread::spawn(move || sender.send(7).unwrap());
        let message = loop {
            if let Some(message) = receiver.receive() {
                break message;
            }
            if receiver.may_sleep() {
                bell.0.wait();
                receiver.awake();
            }
        };
        assert_eq!(message, 7);
        sending.join().unwrap();
    });
}

#[test]
fn no_order_loses_a_wake_up() {
    model(Mistake::None);
}

#[test]
#[should_panic(expected = "deadlock")]
fn looking_before_publishing_is_found() {
    model(Mistake::LookedBefore);
}

#[test]
#[should_panic(expected = "deadlock")]
fn missing_fences_are_found() {
    model(Mistake::NoFence);
}
