//! The bounded queues between threads, and how a sleeper is woken.
//!
//! A receiver that is about to wait in the kernel publishes "asleep", looks into its queue once more, and waits; a
//! sender pushes first and then wakes a receiver that is asleep. In either order the message is seen: `tests/port`
//! compiles this very file with loom's atomics and goes through every order.

use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::net::Waker;
use crate::reactor::atomics::{ArrayQueue, AtomicBool, Ordering, fence};

#[derive(Debug)]
struct Shared<T> {
    queue: ArrayQueue<T>,
    is_asleep: CachePadded<AtomicBool>,
    waker: Arc<dyn Waker>,
}

/// The sending end; any number of clones on any threads.
#[derive(Debug)]
pub struct Sender<T>(Arc<Shared<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender(Arc::clone(&self.0))
    }
}

/// The receiving end, on one thread.
#[derive(Debug)]
pub struct Receiver<T>(Arc<Shared<T>>);

/// A queue of at most `capacity` messages whose receiver is woken by `waker`.
pub fn channel<T>(capacity: usize, waker: Arc<dyn Waker>) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(capacity),
        is_asleep: CachePadded::new(AtomicBool::new(false)),
        waker,
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<T> Sender<T> {
    /// Sends, or gives the message back where the queue is full: try again in a later turn.
    pub fn send(&self, message: T) -> Result<(), T> {
        self.0.queue.push(message)?;
        fence(Ordering::SeqCst);
        if self.0.is_asleep.load(Ordering::Relaxed) {
            self.0.waker.wake();
        }
        Ok(())
    }
}

impl<T> Receiver<T> {
    /// The oldest message. To look and find none takes no fence: one that comes in this moment is seen in the next turn, or by
    /// [`Receiver::may_sleep`].
    pub fn receive(&self) -> Option<T> {
        if self.0.queue.is_empty() { None } else { self.0.queue.pop() }
    }

    /// To be called before a wait in the kernel: whether it may begin. After `true`, call [`Receiver::awake`] when it
    /// has ended.
    pub fn may_sleep(&self) -> bool {
        self.0.is_asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.0.queue.is_empty() {
            return true;
        }
        self.awake();
        false
    }

    /// The wait has ended.
    pub fn awake(&self) {
        self.0.is_asleep.store(false, Ordering::Relaxed);
    }
}
