//! IOs that take no time: blocks that a device lends, and blocks that it stores as they come.
//!
//! Both pass by everything that waits: no record, no completion. So they are for units at which nothing waits and nothing
//! is held. What is lent is sent in the same turn or copied at its end; until then whoever changes the blocks on this
//! reactor has the copy made first, so that a READ gives what was there when it was carried out.

use crate::bdev::Op;
use crate::id::UnitId;
use crate::iscsi::conn::Short;
use crate::iscsi::task::Outcome;
use crate::net::Net;
use crate::reactor::message::Event;
use crate::reactor::planted::planted;
use crate::reactor::turn::Reactor;
use crate::reactor::unit;
use crate::scsi::Access;
use crate::scsi::sense::Sense;
use crate::scsi::view::UnitView;
use crate::slab::Key;
use crate::time::Tick;

/// Ranges lent at once; what is asked for beyond is copied.
const LENT_MAX: usize = 1024;

/// Blocks that are lent.
#[derive(Clone, Copy, Debug)]
struct Out {
    unit: UnitId,
    first: u64,
    end: u64,
    /// To whom.
    conn: Key,
}

/// What is lent in this turn.
#[derive(Debug)]
pub(super) struct Lending {
    /// Between the first receive and the first send of a turn.
    is_open: bool,
    out: Vec<Out>,
}

impl Lending {
    pub(super) fn new() -> Lending {
        Lending { is_open: false, out: Vec::with_capacity(LENT_MAX) }
    }

    pub(super) fn open(&mut self) {
        self.is_open = true;
    }

    /// From now on things are sent, and what is lent goes back.
    pub(super) fn close(&mut self) {
        self.is_open = false;
        self.out.clear();
    }
}

impl<N: Net> Reactor<N> {
    /// Carries out a command that may go the short way, where the device does it at once; else it becomes a task. Gives back what
    /// is left of the input.
    pub(super) fn short<'a>(&mut self, conn: Key, short: Short, input: &'a [u8], now: Tick) -> &'a [u8] {
        let is_done = match (short.access, input.get(..short.bytes)) {
            (Access::Read, _) => self.borrow(conn, &short, now),
            (Access::Write, Some(data)) => self.store(conn, &short, data, now),
            (Access::Write, None) => None,
        };
        match (is_done, input.get(short.segment_bytes..)) {
            (Some(()), Some(rest)) => {
                self.activate(conn);
                rest
            }
            _ => {
                if let Some(link) = self.conns.get_mut(conn) {
                    link.conn.go_long();
                }
                input
            }
        }
    }

    /// Answers a READ with blocks of the device's own memory, to be sent in this turn.
    fn borrow(&mut self, conn: Key, short: &Short, now: Tick) -> Option<()> {
        let link = self.conns.get_mut(conn)?;
        if !self.lending.is_open
            || !link.is_writable
            || link.conn.is_clogged()
            || self.lending.out.len() == LENT_MAX
            || self.holds.is_any()
        {
            return None;
        }
        let Short { unit, extent, .. } = *short;
        let slot = unit::of(&mut self.units, unit).filter(|slot| !slot.needs_room())?;
        let buf = self.tables.solicited.take(short.bytes)?;
        let lent = slot.channel(self.id).lend(extent.lba, extent.blocks, now)?;
        link.conn.answer_short(short, Outcome::GOOD, Some((buf, lent)), &mut self.tables.cx(now));
        let end = extent.lba.saturating_add(u64::from(extent.blocks));
        self.lending.out.push(Out { unit, first: extent.lba, end, conn });
        Some(())
    }

    /// Writes data from where they were received.
    fn store(&mut self, conn: Key, short: &Short, data: &[u8], now: Tick) -> Option<()> {
        let Short { unit, extent, .. } = *short;
        let fua = extent.fua || self.tables.view(unit).is_some_and(UnitView::is_write_through);
        let fua = fua && !planted!(self, FuaDropped);
        if self.holds.is_any() || unit::of(&mut self.units, unit)?.needs_room() {
            return None;
        }
        self.recall(unit, extent.lba, extent.blocks, now);
        let slot = unit::of(&mut self.units, unit)?;
        let result = slot.channel(self.id).store(extent.lba, data, fua, now)?;
        let outcome = match result {
            Err(error) if !planted!(self, ErrorIgnored) => {
                self.event(Event::DeviceError { unit, error });
                let op = Op::Write { lba: extent.lba, blocks: extent.blocks, fua };
                Outcome::check(Sense::of_failure(error, op))
            }
            _ => Outcome::GOOD,
        };
        let link = self.conns.get_mut(conn)?;
        link.conn.answer_short(short, outcome, None, &mut self.tables.cx(now));
        Some(())
    }

    /// Blocks are about to change: what is lent of them is copied.
    #[inline]
    pub(super) fn recall(&mut self, unit: UnitId, lba: u64, blocks: u32, now: Tick) {
        if !self.lending.out.is_empty() {
            self.recall_lent(unit, lba, blocks, now);
        }
    }

    fn recall_lent(&mut self, unit: UnitId, lba: u64, blocks: u32, now: Tick) {
        let end = lba.saturating_add(u64::from(blocks));
        while let Some(at) =
            self.lending.out.iter().position(|out| out.unit == unit && out.first < end && lba < out.end)
        {
            let conn = self.lending.out[at].conn;
            if let Some(link) = self.conns.get_mut(conn) {
                link.conn.keep_lent(&mut self.tables.cx(now));
            }
            self.lending.out.retain(|out| out.conn != conn);
        }
    }
}
