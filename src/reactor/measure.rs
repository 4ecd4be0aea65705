//! What a reactor has done and how full it is, for others to read.

use std::sync::Arc;

use crate::meter::ReactorMeter;
use crate::net::Net;
use crate::reactor::turn::Reactor;

impl<N: Net> Reactor<N> {
    /// Where it counts what it does.
    pub fn meter(&self) -> &Arc<ReactorMeter> {
        &self.meter
    }

    /// Tells how full it is.
    pub(super) fn measure(&self) {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let meter = &self.meter;
        meter.conns.set(count(self.conns.len()));
        meter.commands.set(count(self.tables.tasks.len()));
        meter.hungry.set(count(self.hungry.len()));
        meter.paced.set(count(self.paced.len()));
        meter.ios.set(count(self.tables.ios.len()));
        meter.unsolicited.measure(&self.tables.unsolicited);
        meter.solicited.measure(&self.tables.solicited);
    }
}
