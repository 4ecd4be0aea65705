//! An eventfd with two ends: any thread writes, one thread waits.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{read, retry_on_intr, write};

use super::Waker;

/// The two ends of a new eventfd.
pub fn wake_pair() -> io::Result<(KernelWaker, WakeFd)> {
    let fd = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    Ok((KernelWaker { fd: Arc::clone(&fd) }, WakeFd { fd }))
}

/// The end that wakes. Clones wake the same waiter.
#[derive(Clone, Debug)]
pub struct KernelWaker {
    fd: Arc<OwnedFd>,
}

impl Waker for KernelWaker {
    fn wake(&self) {
        // The one possible failure is a counter that is full, and then the waiter is woken already.
        let _ = retry_on_intr(|| write(&self.fd, &1u64.to_ne_bytes()));
    }
}

/// The end that is woken: register [`WakeFd::raw`] with a network, and drain it after each wait.
#[derive(Debug)]
pub struct WakeFd {
    fd: Arc<OwnedFd>,
}

impl WakeFd {
    /// The descriptor; it is readable from a wake until it is drained.
    pub fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Forgets all wakes so far, and says whether there were any. Look at what they were about *after* this, or one
    /// that comes in between is lost.
    pub fn drain(&self) -> bool {
        retry_on_intr(|| read(&self.fd, &mut [0; 8])).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wakes_add_up_to_one() {
        let (waker, fd) = wake_pair().unwrap();
        assert!(!fd.drain());
        waker.wake();
        waker.clone().wake();
        assert!(fd.drain());
        assert!(!fd.drain());
    }
}
