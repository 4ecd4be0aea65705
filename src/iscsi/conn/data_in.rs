//! Data for the initiator, and the GOOD status that rides on the last of them.

use super::command::balance;
use super::{Conn, Cx};
use crate::buf::Buf;
use crate::iscsi::obligation::End;
use crate::iscsi::sn::Sn;
use crate::iscsi::task::Outcome;
use crate::iscsi::tx::{Data, Keeps, TxItem, data_in_pdus, data_sn_at};
use crate::scsi::Status;
use crate::slab::Key;

impl Conn {
    /// Parameter data of a command: `data` is all of it, cut to its allocation length. Ends the task.
    pub fn report(&mut self, key: Key, mut data: Buf, cx: &mut Cx<'_>) {
        let Some(task) = cx.tasks.get_mut(key) else { return };
        let (moves, residual) = if task.moves_bytes == 0 && task.expected_bytes > 0 {
            // It takes none: the command came without the R bit.
            (0, task.residual)
        } else {
            balance(data.len() as u64, task.expected_bytes)
        };
        task.moves_bytes = moves;
        task.residual = residual;
        data.truncate(moves as usize);
        if data.is_empty() {
            task.outcome = Some(Outcome::GOOD);
            self.settle(key, cx);
        } else {
            self.data_in(key, data, cx);
        }
    }

    /// The next bytes of a READ's data, in order. The last ones end the task with GOOD.
    pub fn data_in(&mut self, key: Key, data: Buf, cx: &mut Cx<'_>) {
        self.queue_data(key, data, true, cx);
    }

    /// The last bytes of a command's data; a status that is not GOOD follows.
    pub fn data_before_status(&mut self, key: Key, data: Buf, cx: &mut Cx<'_>) {
        self.queue_data(key, data, false, cx);
    }

    #[inline(always)]
    fn queue_data(&mut self, key: Key, data: Buf, is_final: bool, cx: &mut Cx<'_>) {
        let is_sending = self.is_sending();
        let Some(task) = cx.tasks.get_mut(key) else { return };
        if !is_sending {
            // It begins anew on another connection, if it does.
            return;
        }
        let bytes = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let offset = task.queued_bytes;
        let data_sn = task.data_sn;
        task.queued_bytes += bytes;
        task.data_sn = data_sn.plus(data_in_pdus(&self.params, offset, bytes));
        let is_last = is_final && task.queued_bytes >= task.moves_bytes;
        // What may have to be sent again has its status in a PDU of its own, and so has what waits for a fence.
        let is_apart = self.retains || !cx.session.may_answer(task.passage);
        let status = (!is_apart).then_some((Status::Good.code(), task.residual));
        let last = is_last.then_some(status);
        let segment_bytes_max = self.params.send_segment_bytes_max;
        let item = TxItem::DataIn {
            itt: task.itt,
            data: Data::Own(data),
            offset,
            segment_bytes_max,
            data_sn,
            last,
            // A place in the window goes with the status.
            keeps: task.keeps(),
            is_retained: self.retains,
        };
        self.push(item, cx);
        if is_last && is_apart {
            self.decide(key, Outcome::GOOD, cx);
            self.settle(key, cx);
        } else if is_last {
            if let Some(task) = cx.tasks.get_mut(key) {
                task.obligation.meet(End::Answered);
            }
            self.forget(key, cx);
        }
    }

    /// Data of a command once more: a copy of those that begin at `offset` and were sent from one buffer, up to its end or not.
    pub(super) fn data_again(&mut self, key: Key, data: Buf, offset: u32, ends_piece: bool, cx: &mut Cx<'_>) {
        let Some(task) = cx.tasks.get_mut(key) else { return };
        let end = offset + u32::try_from(data.len()).unwrap_or(u32::MAX);
        let item = TxItem::DataIn {
            itt: task.itt,
            data: Data::Own(data),
            offset,
            segment_bytes_max: self.params.send_segment_bytes_max,
            data_sn: Sn(data_sn_at(&self.params, offset)),
            last: None,
            keeps: if ends_piece { Keeps::Control } else { Keeps::Part },
            is_retained: false,
        };
        if let Some(again) = &mut task.again {
            again.at = end;
        }
        self.push(item, cx);
    }
}
