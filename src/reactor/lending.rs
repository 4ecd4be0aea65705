//! IOs that take no time: blocks that a device lends, and blocks that it stores as they come.
//!
//! Both pass by everything that waits: no record, no completion. So they are for units at which nothing waits and nothing
//! is held. What is lent is sent in the same turn or copied at its end; until then whoever changes the blocks on this
//! reactor has the copy made first, so that a READ gives what was there when it was carried out.

use crate::bdev::Op;
use crate::buf::Lent;
use crate::id::UnitId;
use crate::iscsi::task::Outcome;
use crate::net::Net;
use crate::reactor::message::Event;
use crate::reactor::planted::planted;
use crate::reactor::turn::Reactor;
use crate::reactor::unit;
use crate::scsi::sense::Sense;
use crate::scsi::view::UnitView;
use crate::scsi::{self, Access, Extent};
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
    /// Borrows blocks of the device's own memory, to be sent in this turn.
    pub(super) fn borrow(
        &mut self,
        conn: Key,
        task: Key,
        unit: UnitId,
        lba: u64,
        blocks: u32,
        now: Tick,
    ) -> Option<Lent> {
        let link = self.conns.get(conn)?;
        let is_next = self.tables.tasks.get(task).is_some_and(|task| task.ios == 0 && task.parked.is_none());
        if !self.lending.is_open
            || !link.is_writable
            || link.conn.params().data_digest
            || !is_next
            || self.lending.out.len() == LENT_MAX
        {
            return None;
        }
        let extent = Extent { lba, blocks, fua: false };
        self.may_pass(conn, task, unit, extent, Access::Read)?;
        let slot = unit::of(&mut self.units, unit)?;
        let lent = slot.channel(self.id).lend(lba, blocks, now)?;
        let end = lba.saturating_add(u64::from(blocks));
        self.lending.out.push(Out { unit, first: lba, end, conn });
        Some(lent)
    }

    /// Writes a command's data as they were received, where the device does that at once. Whether the command has ended.
    pub(super) fn store(
        &mut self,
        conn: Key,
        task: Key,
        unit: UnitId,
        extent: Extent,
        data: &[u8],
        now: Tick,
    ) -> bool {
        if self.may_pass(conn, task, unit, extent, Access::Write).is_none() {
            return false;
        }
        let fua = extent.fua || self.tables.view(unit).is_some_and(UnitView::is_write_through);
        let fua = fua && !planted!(self, FuaDropped);
        self.recall(unit, extent.lba, extent.blocks, now);
        let Some(slot) = unit::of(&mut self.units, unit) else { return false };
        let Some(result) = slot.channel(self.id).store(extent.lba, data, fua, now) else { return false };
        let outcome = match result {
            Err(error) if !planted!(self, ErrorIgnored) => {
                self.event(Event::DeviceError { unit, error });
                let op = Op::Write { lba: extent.lba, blocks: extent.blocks, fua };
                Outcome::check(Sense::of_failure(error, op))
            }
            _ => Outcome::GOOD,
        };
        self.end(conn, task, outcome, now);
        true
    }

    /// Whether an IO may pass all that waits: nothing does, nothing is held, and it is allowed. What is not goes the long way,
    /// which says why.
    fn may_pass(&self, conn: Key, task: Key, unit: UnitId, extent: Extent, access: Access) -> Option<()> {
        let slot = self.units.get(unit.index())?.as_ref().filter(|slot| slot.id == unit)?;
        if slot.needs_room() || self.holds.is_any() {
            return None;
        }
        let (link, task) = (self.conns.get(conn)?, self.tables.tasks.get(task)?);
        let place = link.conn.place(task.number, &self.tables.views);
        let is_same = place.unit.is_some_and(|(view, _)| view.id == unit);
        (is_same && scsi::recheck(extent, access, &place).is_ok()).then_some(())
    }

    /// Blocks are about to change: what is lent of them is copied.
    pub(super) fn recall(&mut self, unit: UnitId, lba: u64, blocks: u32, now: Tick) {
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
