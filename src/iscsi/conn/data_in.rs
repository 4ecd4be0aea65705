//! Data for the initiator, and the GOOD status that rides on the last of them.

use super::command::balance;
use super::{Conn, Cx};
use crate::buf::Buf;
use crate::iscsi::obligation::End;
use crate::iscsi::task::Outcome;
use crate::iscsi::tx::{Data, TxItem, data_in_pdus};
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
        let Some(task) = cx.tasks.get_mut(key) else { return };
        let bytes = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let offset = task.queued_bytes;
        let data_sn = task.data_sn;
        task.queued_bytes += bytes;
        task.data_sn = data_sn.plus(data_in_pdus(&self.params, offset, bytes));
        let is_last = task.queued_bytes >= task.moves_bytes;
        let last = is_last.then_some(Some((Status::Good.code(), task.residual)));
        let segment_bytes_max = self.params.send_segment_bytes_max;
        let item = TxItem::DataIn {
            itt: task.itt,
            data: Data::Own(data),
            offset,
            segment_bytes_max,
            data_sn,
            last,
            keeps: task.keeps(),
        };
        self.push(item, cx);
        if is_last {
            if let Some(task) = cx.tasks.get_mut(key) {
                task.obligation.meet(End::Answered);
            }
            self.forget(key, cx);
        }
    }
}
