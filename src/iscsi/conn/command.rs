//! SCSI commands: accepting them, and answering them.

use super::deframe::{Payload, Then, To};
use super::{Conn, Cx, Request};
use crate::iscsi::error::{Fatal, RejectReason};
use crate::iscsi::obligation::End;
use crate::iscsi::sn::Sn;
use crate::iscsi::task::{Outcome, Phase, Piece, Task};
use crate::iscsi::tx::{Keeps, TxItem};
use crate::iscsi::window::Place as SnPlace;
use crate::iscsi::wire::{Bhs, Extended, Malformed, Residual, ScsiCommand, ScsiResponse};
use crate::limits;
use crate::scsi::cdb::{Cdb, VARIABLE_LENGTH};
use crate::scsi::sense::Sense;
use crate::scsi::view::LunNumber;
use crate::scsi::{self, Status, Transfer};
use crate::slab::Key;

impl Conn {
    /// The header of a command is complete: makes the task, and room for the data that come with it.
    pub(super) fn begin_command(
        &mut self,
        command: &ScsiCommand,
        bhs: &Bhs,
        bytes: usize,
        cx: &mut Cx<'_>,
    ) -> Result<Payload, Fatal> {
        let drop = |then| Ok(Payload::new(To::Drop, 0, 0, bytes, then));
        if command.immediate {
            if self.immediate_count >= limits::IMMEDIATE_MAX {
                // Rejected when its data have gone by: `handle` does not know it as a task.
                return drop(Then::TooMany);
            }
        } else if cx.session.window.place(command.cmd_sn) == SnPlace::Ignored
            || cx.session.is_arriving(command.cmd_sn, cx.tasks)
        {
            return drop(Then::Ignore);
        }
        let task = self.task(command, bhs, cx);
        let place = if task.piece.is_some() { task.moves_bytes as usize } else { 0 };
        let is_immediate = task.is_immediate;
        let Some(key) = cx.session.add(task, cx.tasks) else {
            // Cannot be: the table holds what all windows allow. The command was never accepted.
            return Err(Fatal::Protocol("more commands than any window allows"));
        };
        self.immediate_count += u32::from(is_immediate);
        Ok(Payload::new(To::Task(key), 0, place, bytes, Then::Command(key)))
    }

    /// Judges a command by its header.
    #[inline(always)]
    fn task(&mut self, command: &ScsiCommand, bhs: &Bhs, cx: &mut Cx<'_>) -> Task {
        let immediate_bytes = bhs.data_bytes() as usize;
        let (cdb, is_understood) = self.cdb(command, bhs);
        let number = LunNumber::decode(&command.lun);
        let arrival = cx.session.arrive();
        let place = cx.session.place(number, cx.units);
        let plan = scsi::plan(&cdb, &place);
        let transfer = plan.transfer(&place);
        let unit = place.unit.map(|(view, _)| view.id);
        let block_bytes = place.unit.map_or(1, |(view, _)| plan.wire_bytes(view.block_bytes));
        let mut task = Task::new(self.key, command.itt, command.cmd_sn, cdb, plan, cx.now);
        task.arrival = arrival;
        task.is_immediate = command.immediate;
        task.attribute = command.attribute;
        task.lun = command.lun;
        task.number = number;
        task.unit = unit;
        task.expected_bytes = command.expected_bytes;
        if command.write && !command.is_final {
            task.unsolicited = Some(Sn(0));
        }
        let unsolicited_ok = self.unsolicited_is_allowed(command, immediate_bytes);
        let is_agreed = plan.check_expected(command.expected_bytes, &place);
        match is_understood.and(is_agreed).and_then(|()| agree(transfer, command)) {
            Ok((moves, residual)) => {
                task.moves_bytes = moves;
                task.residual = residual;
            }
            Err(sense) => task.outcome = Some(Outcome::check(sense)),
        }
        if !unsolicited_ok {
            task.outcome = Some(Outcome::check(Sense::UNEXPECTED_UNSOLICITED_DATA));
        }
        let is_passed = transfer == Transfer::Expected;
        task.takes_in = is_passed && command.read && task.moves_bytes > 0;
        if matches!(transfer, Transfer::Out(_)) || is_passed && !task.takes_in {
            if plan.is_in_blocks() {
                task.moves_bytes -= task.moves_bytes % block_bytes;
            }
            if task.outcome.is_none() && task.moves_bytes > 0 && (immediate_bytes > 0 || !command.is_final) {
                let piece_bytes = task.moves_bytes.min(limits::PIECE_BYTES_MAX) as usize;
                let is_laden = cx.session.is_laden(place.unit.map(|(view, _)| view), piece_bytes);
                match cx.unsolicited.take(piece_bytes).filter(|_| !is_laden) {
                    Some(buf) => task.piece = Some(Piece { buf, start: 0 }),
                    None => task.outcome = Some(Outcome::of(Status::TaskSetFull)),
                }
            }
        }
        task
    }

    /// The CDB, and whether the header is one of a command that could be carried out.
    #[inline(always)]
    fn cdb(&self, command: &ScsiCommand, bhs: &Bhs) -> (Cdb, Result<(), Sense>) {
        let plain = Cdb::new(command.cdb);
        if bhs.ahs_bytes() == 0 && plain.opcode() != VARIABLE_LENGTH {
            return (plain, Ok(()));
        }
        match self.extended(bhs) {
            Ok(Extended { cdb, is_bidirectional: false }) => (cdb, Ok(())),
            // There are no commands here whose data go both ways.
            Ok(Extended { cdb, .. }) => (cdb, Err(Sense::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT)),
            Err(Malformed) => (plain, Err(Sense::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT)),
        }
    }

    #[cold]
    fn extended(&self, bhs: &Bhs) -> Result<Extended, Malformed> {
        Extended::read(ScsiCommand::parse(bhs).cdb, self.deframer.segments(bhs))
    }

    /// RFC 7143 §13.10, §13.11, §13.14: immediate and other unsolicited data only as negotiated.
    fn unsolicited_is_allowed(&self, command: &ScsiCommand, immediate_bytes: usize) -> bool {
        let bytes = u32::try_from(immediate_bytes).unwrap_or(u32::MAX);
        let immediate_ok = bytes == 0
            || self.params.immediate_data
                && command.write
                && bytes <= self.params.first_burst_bytes
                && bytes <= command.expected_bytes;
        let rest_ok = command.is_final || command.write && !self.params.initial_r2t;
        immediate_ok && rest_ok
    }

    /// A command and its immediate data are there.
    pub(super) fn command_arrived(
        &mut self,
        bhs: &Bhs,
        key: Key,
        is_intact: bool,
        cx: &mut Cx<'_>,
    ) -> Option<Request> {
        let task = cx.tasks.get_mut(key)?;
        task.arrived_bytes = bhs.data_bytes();
        task.asked_bytes = task.arrived_bytes;
        let (is_immediate, cmd_sn) = (task.is_immediate, task.cmd_sn);
        if task.phase != Phase::Early {
            // Aborted while it came.
            return None;
        }
        if !is_intact && self.params.error_recovery_level > 0 {
            // RFC 7143 §7.8: discarded, as if it had not come; §7.2.1: its initiator sends it again.
            task.obligation.meet(End::Discarded);
            self.forget(key, cx);
            self.reject(bhs, RejectReason::DataDigest, cx).ok();
            return None;
        }
        if !is_intact {
            // RFC 7143 §7.8 asks for a Reject and for the command to be discarded, which at error recovery level 0 leaves a
            // hole in CmdSN that stalls the session until the initiator's time-out. So it is answered as well.
            task.outcome = Some(Outcome::check(Sense::CRC_ERROR));
            self.reject(bhs, RejectReason::DataDigest, cx).ok();
        }
        if bhs.ahs_bytes() > 0 && self.extended(bhs).is_err() {
            // RFC 7143 §11.17.1: beside the Reject there is a response, as its task is there.
            self.reject(bhs, RejectReason::InvalidField, cx).ok();
        }
        if is_immediate {
            return cx.session.queue(key, cx.tasks).map(Request::Run);
        }
        cx.session.arrived(key, cmd_sn, cx.tasks, cx.spare_window).map(Request::Run)
    }

    /// Ends a task with what was decided, where nothing more is awaited. Whether it did.
    pub fn settle(&mut self, key: Key, cx: &mut Cx<'_>) -> bool {
        let Some(task) = cx.tasks.get(key) else { return false };
        let Some(outcome) = task.outcome else { return false };
        if !task.is_ready_to_end() || matches!(task.phase, Phase::Early | Phase::Answered) {
            return false;
        }
        if task.phase != Phase::Swallowing && !cx.session.may_answer(task.passage) {
            return false;
        }
        if task.phase == Phase::Swallowing {
            self.forget_aborted(key, cx);
        } else {
            self.answer(key, outcome, cx);
            self.over(key, cx);
        }
        true
    }

    /// Queues the response of a task.
    fn answer(&mut self, key: Key, outcome: Outcome, cx: &mut Cx<'_>) {
        let Some(task) = cx.tasks.get_mut(key) else { return };
        // It may have been answered before, on a connection that is lost: then its place in the window is free.
        let is_first = !task.obligation.is_met();
        if is_first {
            task.obligation.meet(End::Answered);
        }
        if !self.is_sending() {
            // Another connection tells it, if any does.
            if is_first && !task.is_immediate {
                cx.session.window.end(1);
            }
            return;
        }
        let told = task.told.take().filter(|_| matches!(outcome.status, Status::Told(_)));
        let keeps = if is_first { task.keeps() } else { Keeps::Control };
        let residual = if matches!(outcome.status, Status::Good | Status::Told(_)) {
            task.residual
        } else {
            // Nothing, or not all, was moved.
            let moved = task.queued_bytes.min(task.expected_bytes);
            match task.expected_bytes - moved {
                0 => Residual::None,
                left => Residual::Under(left),
            }
        };
        let response = ScsiResponse {
            itt: task.itt,
            response: 0,
            status: outcome.status.code(),
            snack_tag: task.snack_tag,
            // R2Ts have counted there as well.
            exp_data_sn: if task.queued_bytes > 0 { task.data_sn } else { Sn(0) },
            residual,
        };
        if told.is_some() {
            return self.push(TxItem::Told { response, data: told, keeps }, cx);
        }
        let is_descriptor =
            cx.session.place(task.number, cx.units).unit.is_some_and(|(view, _)| view.modes.descriptor_sense);
        let sense = outcome.sense.map(|sense| (sense, is_descriptor));
        self.push(TxItem::Response { response, sense, keeps }, cx);
    }
}

/// What moves, and the residual (RFC 7143 §11.3.1, §11.4.5).
///
/// # Errors
/// A WRITE for which the initiator sends no data is refused: it must not look done. A READ whose initiator takes none is
/// harmless: nothing moves, and the residual says so.
fn agree(transfer: Transfer, command: &ScsiCommand) -> Result<(u32, Residual), Sense> {
    let expected = command.expected_bytes;
    let (wanted, is_direction_right) = match transfer {
        // Both ways at once is no command of the drivers below.
        Transfer::Expected if command.read && command.write => {
            return Err(Sense::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT);
        }
        Transfer::Expected if command.read || command.write => return Ok((expected, Residual::None)),
        Transfer::Expected => (0, true),
        Transfer::None => (0, true),
        Transfer::In(bytes) => (bytes, command.read && !command.write),
        Transfer::Out(bytes) => (bytes, command.write && !command.read),
    };
    if expected > 0 && wanted > 0 && !is_direction_right {
        if matches!(transfer, Transfer::In(_)) && !command.read {
            return Ok((0, Residual::Under(expected)));
        }
        return Err(Sense::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT);
    }
    Ok(balance(wanted, expected))
}

/// What moves when `wanted` bytes meet `expected` ones, and the residual.
pub(super) fn balance(wanted: u64, expected: u32) -> (u32, Residual) {
    match u32::try_from(wanted) {
        Ok(wanted) if wanted < expected => (wanted, Residual::Under(expected - wanted)),
        Ok(wanted) if wanted == expected => (wanted, Residual::None),
        _ => {
            let over = u32::try_from(wanted - u64::from(expected)).unwrap_or(u32::MAX);
            (expected, Residual::Over(over))
        }
    }
}
