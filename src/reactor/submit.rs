//! IOs on their way into a unit's channel: checked once more, handed over, or parked where there is no room.

use crate::bdev::pass::Flow;
use crate::bdev::{IoError, Op};
use crate::buf::Buf;
use crate::id::UnitId;
use crate::iscsi::task::Outcome;
use crate::net::Net;
use crate::reactor::planted::planted;
use crate::reactor::tables::{InFlight, Outlives};
use crate::reactor::turn::Reactor;
use crate::reactor::unit::{self, Handed};
use crate::scsi::copy::Side;
use crate::scsi::sense::Sense;
use crate::scsi::view::UnitView;
use crate::scsi::{self, Access, Extent, Status};
use crate::slab::Key;
use crate::time::Tick;

impl<N: Net> Reactor<N> {
    /// Hands an IO to the unit's channel, or parks it where there is no room.
    #[expect(clippy::too_many_arguments, reason = "they are the fields of the record that is made here")]
    pub(super) fn submit(
        &mut self,
        conn: Key,
        task: Key,
        unit: UnitId,
        op: Op,
        data: Option<Buf>,
        offset: u32,
        bytes: u32,
        now: Tick,
    ) {
        if let Some(record) = self.record(conn, task, unit, op) {
            self.insert(InFlight { offset, bytes, ..record }, data, now);
        }
    }

    /// The same for a flush that belongs to a change which holds, whatever becomes of the command.
    pub(super) fn submit_lasting_flush(&mut self, conn: Key, task: Key, unit: UnitId, now: Tick) {
        if let Some(record) = self.record(conn, task, unit, Op::Flush) {
            self.insert(InFlight { outlives: Outlives::Yes, ..record }, None, now);
        }
    }

    /// The same for a side of a copy, whose data are whole pieces.
    pub(super) fn submit_at(
        &mut self,
        (conn, task): (Key, Key),
        side: Side,
        op: Op,
        data: Option<Buf>,
        now: Tick,
    ) {
        let asked = self.tables.tasks.get(task).and_then(|task| task.unit);
        let of = asked.filter(|_| !planted!(self, CopyNotWaitedFor)).unwrap_or(side.unit);
        if let Some(record) = self.record(conn, task, side.unit, op) {
            self.insert(InFlight { of, number: Some(side.number), ..record }, data, now);
        }
    }

    /// The record of an IO that a command makes; none where its connection is gone.
    #[inline]
    fn record(&mut self, conn: Key, task: Key, unit: UnitId, op: Op) -> Option<InFlight> {
        let link = self.conns.get(conn)?;
        let (session, nexus) = (link.conn.session(), link.conn.nexus());
        self.serial += 1;
        let hold = self.holds.granted_to(task);
        Some(InFlight { task, conn, session, nexus, hold, ..InFlight::of_nobody(unit, op, self.serial) })
    }

    fn insert(&mut self, record: InFlight, data: Option<Buf>, now: Tick) {
        let InFlight { conn, task, unit, .. } = record;
        let Some(key) = self.tables.add_io(record, data) else {
            // Cannot be: the slab holds PLAN_IOS for every task.
            return self.end(conn, task, Outcome::of(Status::Busy), now);
        };
        if let Some(task) = self.tables.tasks.get_mut(task) {
            task.ios += 1;
            task.submitted_at.get_or_insert(now);
        }
        self.enter(unit, key, now);
    }

    /// An IO comes to its unit, or comes back to it from a hold: behind those that wait for room. One that is made under
    /// a hold passes them, as they may be waiting for the end of that very hold.
    pub(super) fn enter(&mut self, unit: UnitId, key: Key, now: Tick) {
        let Some(slot) = unit::of(&mut self.units, unit) else {
            // It was removed, and the reactor has let go of it already.
            return self.refuse(key, Outcome::check(Sense::NO_SUCH_UNIT), now);
        };
        if !slot.is_busy {
            slot.is_busy = true;
            self.busy.push(unit);
        }
        let is_urgent = self.tables.ios.get(key).is_some_and(|io| io.hold.is_some());
        if slot.needs_room() && !is_urgent {
            slot.parked.push(key, &mut self.tables);
        } else {
            self.try_submit(unit, key, is_urgent, now);
        }
    }

    /// Checks an IO's permission once more, and hands it over. Whether it need not wait for room any more; where it must,
    /// whether it is the first to.
    fn try_submit(&mut self, unit: UnitId, key: Key, is_first: bool, now: Tick) -> bool {
        if let Err(outcome) = self.recheck(key) {
            self.refuse(key, outcome, now);
            return true;
        }
        self.write_through(unit, key);
        let is_held = self.is_held(key);
        let op = self.tables.ios.get(key).map(|io| io.op).filter(|op| access(op) == Access::Write);
        if let Some((lba, blocks)) = op.and_then(Op::extent) {
            self.recall(unit, lba, blocks);
        }
        let Some(slot) = unit::of(&mut self.units, unit) else { return true };
        if is_held {
            slot.held.push(key, &mut self.tables);
            return true;
        }
        if let Some((lba, blocks)) = op.and_then(Op::extent)
            && !planted!(self, TokenNotBroken)
        {
            self.holds.watches.change(unit, lba, u64::from(blocks));
        }
        match unit::hand_over(slot, self.id, key, &mut self.tables, now) {
            Handed::Taken => true,
            Handed::Gone => {
                self.finish(key, None, Err(IoError::Gone), now);
                true
            }
            Handed::NoRoom if is_first => {
                slot.parked.push_front(key, &mut self.tables);
                false
            }
            Handed::NoRoom => {
                slot.parked.push(key, &mut self.tables);
                false
            }
        }
    }

    /// A write to a device whose volatile cache is switched off is durable before it is answered (SBC-4, WCE=0). It is made
    /// so here and not earlier, as the mode may have changed while the IO was parked.
    fn write_through(&mut self, unit: UnitId, key: Key) {
        if planted!(self, FuaDropped) || !self.tables.view(unit).is_some_and(UnitView::is_write_through) {
            return;
        }
        if let Some(io) = self.tables.ios.get_mut(key).and_then(|record| record.parked.as_mut())
            && let Op::Write { fua, .. }
            | Op::WriteZeroes { fua, .. }
            | Op::CompareAndWrite { fua, .. }
            | Op::WriteProtected { fua, .. }
            | Op::Copy { fua, .. } = &mut io.op
        {
            *fua = true;
        }
    }

    /// Tries parked IOs again, in order.
    pub(super) fn resubmit(&mut self, unit: UnitId, now: Tick) {
        while let Some(slot) = unit::of(&mut self.units, unit)
            && let Some(key) = slot.parked.pop(&mut self.tables)
        {
            if !self.try_submit(unit, key, true, now) {
                return;
            }
        }
    }

    /// Size, write protection, readiness and reservations may have changed since the command was admitted. A flush does
    /// nothing to a medium that another nexus could mind.
    fn recheck(&self, key: Key) -> Result<(), Outcome> {
        let Some(record) = self.tables.ios.get(key) else { return Ok(()) };
        if record.is_chore {
            return self.recheck_chore(record.unit, record.op);
        }
        let (Some(link), Some(task)) = (self.conns.get(record.conn), self.tables.tasks.get(record.task))
        else {
            // A flush that nobody waits for.
            let is_ours = record.outlives != Outlives::No && self.tables.view(record.unit).is_some();
            return if is_ours { Ok(()) } else { Err(Outcome::check(Sense::COMMAND_ABORTED)) };
        };
        let place = self.tables.place(link.conn.session_key(), record.number.or(task.number));
        if place.unit.is_some_and(|(view, _)| view.id != record.unit) {
            // The LUN leads to another unit by now.
            return Err(Outcome::check(Sense::NO_SUCH_UNIT));
        }
        if planted!(self, NoRecheckAtSubmit) {
            return Ok(());
        }
        let recheck =
            |(lba, blocks), access| scsi::recheck(Extent { lba, blocks, fua: false }, access, &place);
        match record.op.extent() {
            Some(extent) => {
                let source = record.op.source().map_or(Ok(()), |source| recheck(source, Access::Read));
                let checked = source.and_then(|()| recheck(extent, access(&record.op)));
                let is_overlooked = planted!(self, PermitsNotRechecked)
                    && checked == Err(Outcome::of(Status::ReservationConflict));
                if is_overlooked { Ok(()) } else { checked }
            }
            None if matches!(record.op, Op::Pass { .. }) => scsi::pass::recheck(&task.cdb, &place),
            None if place.unit.is_none() => Err(Outcome::check(Sense::NO_SUCH_UNIT)),
            None => Ok(()),
        }
    }

    /// An IO ends before the device has seen it.
    fn refuse(&mut self, key: Key, outcome: Outcome, now: Tick) {
        let Some(record) = self.tables.ios.remove(key) else { return };
        if record.is_chore {
            return self.chore_refused(record.unit);
        }
        if let Some(task) = self.tables.tasks.get_mut(record.task) {
            task.ios -= 1;
        }
        self.end(record.conn, record.task, outcome, now);
    }
}

/// What an IO wants of the medium that is no flush.
pub(super) fn access(op: &Op) -> Access {
    let reads = matches!(
        op,
        Op::Read { .. }
            | Op::ReadProtected { .. }
            | Op::Verify { .. }
            | Op::Compare { .. }
            | Op::Pass { flow: Flow::In, .. }
    );
    if reads { Access::Read } else { Access::Write }
}
