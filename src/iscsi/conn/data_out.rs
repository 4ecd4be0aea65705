//! Data from the initiator: unsolicited, and solicited by R2Ts (RFC 7143 §11.7, §11.8).
//!
//! DataPDUInOrder and DataSequenceInOrder are Yes, and no R2T is sent before the unsolicited data are complete: so all
//! data of a command come in order, and one offset says where they stand.

use super::deframe::{Payload, Then, To};
use super::{Conn, Cx, Request};
use crate::buf::Buf;
use crate::iscsi::error::{Fatal, RejectReason};
use crate::iscsi::sn::Sn;
use crate::iscsi::task::{Outcome, Phase, Piece, Solicited};
use crate::iscsi::tx::{StatSn, TxItem};
use crate::iscsi::wire::{Bhs, DataOut, R2t, TAG_NONE};
use crate::limits;
use crate::scsi::sense::Sense;
use crate::slab::Key;

/// What became of asking for data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Solicit {
    /// All that may be asked for now has been; or nothing is wanted.
    Asked,
    /// A buffer of so many bytes is needed first.
    NeedsBuffer(usize),
    /// The open piece is full already.
    PieceFull,
}

impl Conn {
    /// The header of a Data-Out is complete.
    pub(super) fn begin_data_out(
        &mut self,
        data: &DataOut,
        bytes: usize,
        cx: &mut Cx<'_>,
    ) -> Result<Payload, Fatal> {
        let drop = |then| Ok(Payload::new(To::Drop, 0, 0, bytes, then));
        let found = if data.ttt == TAG_NONE {
            cx.tasks.find(&cx.session.tasks, |task| {
                task.itt == data.itt && task.unsolicited.is_some() && task.conn == self.key
            })
        } else {
            self.solicited_task(data, cx)?
        };
        let Some(key) = found else {
            // Late data of a task that has ended: dropped (RFC 7143 §4.2.3.3 leaves it to us when).
            return drop(Then::Ignore);
        };
        let first_burst_bytes = self.params.first_burst_bytes;
        let recovers = self.params.error_recovery_level > 0;
        let Some(task) = cx.tasks.get_mut(key) else { return drop(Then::Ignore) };
        let length = u32::try_from(bytes).unwrap_or(u32::MAX);
        let expected_sn = task.unsolicited.unwrap_or(task.data_out_sn);
        let end = match task.r2ts.front() {
            Some(front) if data.ttt != TAG_NONE => front.end,
            _ => first_burst_bytes.min(task.expected_bytes),
        };
        let fits = end.checked_sub(task.arrived_bytes).is_some_and(|room| length <= room);
        // RFC 7143 §4.2.5.3, §11.7.4: where there is a target transfer tag, the LUN is the command's.
        let is_of_lun = data.ttt == TAG_NONE || data.lun == task.lun;
        let is_in_order = is_of_lun && data.data_sn == expected_sn && data.offset == task.arrived_bytes;
        if recovers && (task.is_damaged || !is_in_order) {
            // RFC 7143 §7.9: what is missing was lost; all from there on is asked for again when nothing is outstanding.
            task.is_damaged = true;
            return Ok(Payload::new(To::Drop, 0, 0, bytes, Then::Data(key)));
        }
        if !is_in_order || !fits {
            // RFC 7143 §7.9: at error recovery level 0 a lost or misplaced Data-Out ends the command.
            let sense = if fits { Sense::DATA_PHASE_ERROR } else { Sense::TOO_MUCH_WRITE_DATA };
            task.outcome.get_or_insert(Outcome::check(sense));
        }
        let is_wanted = task.outcome.is_none() && task.phase != Phase::Swallowing;
        let (at, place) = match &task.piece {
            Some(piece) if is_wanted => {
                let at = (task.arrived_bytes - piece.start) as usize;
                (at, piece.buf.len().saturating_sub(at))
            }
            _ => (0, 0),
        };
        Ok(Payload::new(To::Task(key), at, place, bytes, Then::Data(key)))
    }

    /// The task whose front R2T the data answer.
    ///
    /// # Errors
    /// That R2T has not been sent. Who guesses tags and does not read would have any number of R2Ts made otherwise.
    fn solicited_task(&self, data: &DataOut, cx: &Cx<'_>) -> Result<Option<Key>, Fatal> {
        let found = cx.tasks.key_at(data.ttt & 0xffff).and_then(|key| {
            let task = cx.tasks.get(key)?;
            let front = task.r2ts.front()?;
            let is_it = task.conn == self.key && task.itt == data.itt && front.ttt == data.ttt;
            is_it.then_some((key, front.item))
        });
        match found {
            Some((_, item)) if !self.tx.has_sent(item, cx.tx) => {
                Err(Fatal::Protocol("data for an R2T that has not been sent"))
            }
            found => Ok(found.map(|(key, _)| key)),
        }
    }

    /// A Data-Out is there.
    pub(super) fn data_arrived(
        &mut self,
        bhs: &Bhs,
        key: Key,
        is_intact: bool,
        cx: &mut Cx<'_>,
    ) -> Option<Request> {
        let data = DataOut::parse(bhs);
        if !is_intact {
            self.reject(bhs, RejectReason::DataDigest, cx).ok();
        }
        let recovers = self.params.error_recovery_level > 0;
        let task = cx.tasks.get_mut(key)?;
        if recovers && !is_intact {
            task.is_damaged = true;
        }
        if bhs.data_bytes() > 0 {
            // Progress is what brings data.
            task.data_at = cx.now;
        }
        if task.is_damaged {
            return self.damaged_data_arrived(&data, key, cx);
        }
        if !is_intact {
            // The first failure stays: it may be a unit attention, which is told only once.
            task.outcome.get_or_insert(Outcome::check(Sense::CRC_ERROR));
        }
        task.arrived_bytes = task.arrived_bytes.saturating_add(bhs.data_bytes());
        let mut ended_sequence = false;
        if task.unsolicited.is_some() {
            ended_sequence = data.is_final;
            task.unsolicited = if data.is_final { None } else { Some(data.data_sn.plus(1)) };
            task.asked_bytes = task.arrived_bytes;
        } else if let Some(front) = task.r2ts.front() {
            task.data_out_sn = data.data_sn.plus(1);
            if data.is_final && task.arrived_bytes != front.end && task.outcome.is_none() {
                task.outcome = Some(Outcome::check(Sense::DATA_PHASE_ERROR));
            }
            if data.is_final || task.arrived_bytes >= front.end {
                ended_sequence = true;
                task.r2ts.pop();
                task.data_out_sn = Sn(0);
                if task.outcome.is_some() {
                    // What is still to come is counted from where the next sequence begins.
                    task.arrived_bytes = front.end;
                }
            }
        }
        match task.phase {
            Phase::Early | Phase::Queued | Phase::Paced | Phase::Answered => None,
            Phase::Swallowing => (!task.is_owed_data()).then_some(Request::Settle(key)),
            Phase::Running if task.outcome.is_some() => {
                (!task.is_owed_data()).then_some(Request::Settle(key))
            }
            Phase::Running => ended_sequence.then_some(Request::Piece(key)),
        }
    }

    /// A Data-Out behind one that was lost: it is dropped, and with the last of those outstanding all that is missing is asked
    /// for again (RFC 7143 §7.8: a recovery R2T).
    fn damaged_data_arrived(&mut self, data: &DataOut, key: Key, cx: &mut Cx<'_>) -> Option<Request> {
        let task = cx.tasks.get_mut(key)?;
        if task.unsolicited.is_some() {
            task.unsolicited = if data.is_final { None } else { Some(data.data_sn.plus(1)) };
        } else if data.is_final {
            task.r2ts.pop();
            task.data_out_sn = Sn(0);
        }
        if task.is_owed_data() {
            return None;
        }
        task.asked_before_bytes = task.asked_before_bytes.max(task.asked_bytes);
        task.is_damaged = false;
        task.asked_bytes = task.arrived_bytes;
        match task.phase {
            Phase::Early | Phase::Queued | Phase::Paced | Phase::Answered => None,
            Phase::Swallowing => Some(Request::Settle(key)),
            Phase::Running if task.outcome.is_some() => Some(Request::Settle(key)),
            Phase::Running => Some(Request::Piece(key)),
        }
    }

    /// Gives a WRITE the buffer for its next piece.
    pub fn give_buffer(&mut self, key: Key, buf: Buf, cx: &mut Cx<'_>) {
        if let Some(task) = cx.tasks.get_mut(key) {
            task.piece = Some(Piece { buf, start: task.asked_bytes });
        }
    }

    /// Asks for a WRITE's next data, as far as its open piece and MaxOutstandingR2T allow.
    pub fn solicit(&mut self, key: Key, cx: &mut Cx<'_>) -> Solicit {
        loop {
            let Some(task) = cx.tasks.get_mut(key).filter(|_| self.is_sending()) else {
                // Or nobody can be asked: who takes it over asks.
                return Solicit::Asked;
            };
            let is_done = task.asked_bytes >= task.moves_bytes && task.piece.is_none();
            if task.unsolicited.is_some() || task.outcome.is_some() || is_done {
                return Solicit::Asked;
            }
            let Some(piece) = &task.piece else {
                let bytes = (task.moves_bytes - task.asked_bytes).min(limits::PIECE_BYTES_MAX);
                return Solicit::NeedsBuffer(bytes as usize);
            };
            let piece_end = piece.start + u32::try_from(piece.buf.len()).unwrap_or(0);
            if task.arrived_bytes >= piece_end {
                return Solicit::PieceFull;
            }
            let outstanding_max = usize::from(self.params.outstanding_r2t_max).min(limits::R2TS_MAX);
            if task.asked_bytes >= piece_end || task.r2ts.len() >= outstanding_max {
                return Solicit::Asked;
            }
            let offset = task.asked_bytes;
            let desired_bytes = (piece_end - offset).min(self.params.max_burst_bytes);
            // Index, generation and R2TSN: never TAG_NONE, as no table has 65536 slots (see `limits`).
            let ttt = key.index & 0xffff | (key.generation & 0xff) << 24 | (task.data_sn.0 & 0xff) << 16;
            let r2t = R2t { lun: task.lun, itt: task.itt, ttt, r2t_sn: task.data_sn, offset, desired_bytes };
            task.data_sn = task.data_sn.plus(1);
            task.asked_bytes = offset + desired_bytes;
            if task.asked_bytes > task.asked_before_bytes {
                // To be asked once more is no progress.
                task.data_at = cx.now;
            }
            let (end, item) = (offset + desired_bytes, self.tx.next_item());
            task.r2ts.push(Solicited { ttt, r2t_sn: r2t.r2t_sn, start: offset, end, item });
            let bhs = r2t.encode();
            self.push(
                TxItem::Pdu { bhs, data: None, stat_sn: StatSn::Show, is_control: false, closes: false },
                cx,
            );
        }
    }

    /// Takes the full piece of a WRITE to be submitted: its buffer and its offset in the command's data.
    pub fn take_piece(&mut self, key: Key, cx: &mut Cx<'_>) -> Option<(Buf, u32)> {
        let task = cx.tasks.get_mut(key)?;
        let piece = task.piece.take()?;
        task.submitted_bytes = piece.start + u32::try_from(piece.buf.len()).unwrap_or(0);
        Some((piece.buf, piece.start))
    }
}
