//! What a simulated world is made of: a network, disks and randomness that do only what they are told to.
//!
//! The worlds themselves, with initiators and an oracle, are in `tests/it/sim`. Nothing here is in a release build
//! (feature `sim`).

pub mod disk;
pub mod net;
pub mod nvme;
pub mod rng;

use std::sync::Arc;

use crate::net::Waker;

/// For queues whose receivers never sleep.
#[derive(Debug)]
pub struct NoWaker;

impl Waker for NoWaker {
    fn wake(&self) {}
}

/// A waker that wakes nobody.
pub fn no_waker() -> Arc<dyn Waker> {
    Arc::new(NoWaker)
}
