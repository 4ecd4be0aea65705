//! What [`super::port`] is made of. In the model that checks it, something else stands under these names.

pub(super) use std::sync::atomic::{AtomicBool, Ordering, fence};

pub(super) use crossbeam_queue::ArrayQueue;
