//! What a reactor has done, and how full it is.

use std::sync::Arc;

use super::{Count, Spread, Times};
use crate::buf::Pool;

/// A reactor's counters. Times are those of its turns' beginnings: what begins and ends in one turn takes 0.
#[derive(Debug, Default)]
pub struct ReactorMeter {
    /// How long the turns took in which there was something to do.
    pub turns: Times,
    /// How often it waited in the kernel.
    pub waits: Count,
    /// Commands that went the short way: they came and were answered in one turn.
    pub short: Count,
    /// Where the time of those went that are counted nowhere else: each that a device of a logical unit had IO of is counted
    /// with the unit ([`crate::bdev::count::Ledger`]), and the reactor's sums are made of both.
    pub stages: Arc<Stages>,
    /// How long what a turn had to send to one connection waited for its socket.
    pub socket: Times,
    /// Connections.
    pub conns: Count,
    /// Commands at work.
    pub commands: Count,
    /// Of them, those that wait for a buffer.
    pub hungry: Count,
    /// Of them, those that wait for a ceiling.
    pub paced: Count,
    /// IOs in devices, or waiting for room there.
    pub ios: Count,
    /// Buffers for data that come unasked.
    pub unsolicited: PoolMeter,
    /// Buffers for data that were asked for.
    pub solicited: PoolMeter,
}

/// Where a command's time goes, in order: [`Stages`]'s members.
pub const STAGES: [&str; 4] = ["queue", "receive", "device", "send"];

/// Where the time of commands goes that do not take the short way; all but the first of those only that a device had IO of.
#[derive(Debug, Default)]
pub struct Stages {
    /// From a command's arrival to its turn.
    pub queue: Times,
    /// From there until a device was given the first of it: the wait for buffers, and for data that it writes.
    pub receive: Times,
    /// From there until the device has given back the last: the wait for holds and for room there, too.
    pub device: Times,
    /// From there to its answer.
    pub send: Times,
}

impl Stages {
    /// What was counted, as [`STAGES`] names it.
    pub fn spreads(&self) -> [Spread; 4] {
        [&self.queue, &self.receive, &self.device, &self.send].map(Times::spread)
    }
}

/// So much more of each of [`STAGES`].
pub fn add_stages(sums: &mut [Spread; 4], more: &[Spread; 4]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum = sum.plus(more);
    }
}

/// How full buffers are.
#[derive(Debug, Default)]
pub struct PoolMeter {
    /// All there is.
    pub capacity_bytes: Count,
    /// What is out.
    pub in_use_bytes: Count,
}

impl PoolMeter {
    /// Looks at the pool.
    pub fn measure(&self, pool: &Pool) {
        let bytes = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        self.capacity_bytes.set(bytes(pool.capacity_bytes()));
        self.in_use_bytes.set(bytes(pool.in_use_bytes()));
    }
}
