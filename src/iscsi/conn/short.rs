//! The short way: READs and WRITEs that are carried out as they come.
//!
//! A READ or WRITE in its plainest form, whose turn it is and at whose LUN nothing is to be told, needs no task if the device
//! does it at once: it is judged, done and answered between two bytes of input. Everything else, and whatever the device will
//! not do now, becomes a task.

use super::command::ORDERED;
use super::{Conn, Cx};
use crate::buf::{Buf, Lent};
use crate::id::UnitId;
use crate::iscsi::sn::Sn;
use crate::iscsi::tx::{Keeps, TxItem};
use crate::iscsi::window::Place as SnPlace;
use crate::iscsi::wire::{self, Bhs, DIGEST_BYTES, Residual, ScsiCommand, ScsiResponse};
use crate::limits;
use crate::scsi::cdb::Cdb;
use crate::scsi::view::LunNumber;
use crate::scsi::{self, Access, Extent, Outcome, Status};

/// Opcode of the SCSI Command PDU (RFC 7143 §11.2.1.2).
const SCSI_COMMAND: u8 = 0x01;

/// A READ or WRITE that may be carried out at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Short {
    /// The logical unit.
    pub unit: UnitId,
    /// The blocks.
    pub extent: Extent,
    /// READ or WRITE.
    pub access: Access,
    /// How many bytes they are.
    pub bytes: usize,
    /// WRITE: so many bytes at the front of the input are its data segment, data first; 0 with READ.
    pub segment_bytes: usize,
    itt: u32,
    is_descriptor: bool,
}

impl Conn {
    /// The command whose header is complete, if it may go the short way.
    pub(super) fn short(&mut self, bhs: &Bhs, input: &[u8], cx: &Cx<'_>) -> Option<Short> {
        if std::mem::take(&mut self.goes_long) || bhs.opcode() != SCSI_COMMAND || bhs.ahs_bytes() > 0 {
            return None;
        }
        let command = ScsiCommand::parse(bhs);
        let is_its_turn = !command.immediate
            && command.is_final
            && command.attribute != ORDERED
            && self.ordered_count == 0
            && !self.is_gated
            && self.window.place(command.cmd_sn) == SnPlace::Due;
        if !is_its_turn {
            return None;
        }
        let number = LunNumber::decode(&command.lun);
        let cdb = Cdb::new(command.cdb);
        let (place, attentions) = self.place_and_attentions(number, cx.units);
        if attentions.is_none_or(|attentions| !attentions.is_empty()) {
            return None;
        }
        let (view, _) = place.unit?;
        let (unit, is_descriptor) = (view.id, view.modes.descriptor_sense);
        let (extent, access) = scsi::plain(&cdb, &place)?;
        let bytes =
            extent.blocks.checked_mul(view.block_bytes).filter(|bytes| *bytes <= limits::PIECE_BYTES_MAX)?;
        if bytes != command.expected_bytes {
            return None;
        }
        let data_bytes = bhs.data_bytes();
        let segment_bytes = match access {
            Access::Read if command.read && !command.write && data_bytes == 0 && !self.params.data_digest => {
                0
            }
            Access::Write
                if command.write
                    && !command.read
                    && data_bytes == bytes
                    && self.params.immediate_data
                    && bytes <= self.params.first_burst_bytes =>
            {
                self.whole_segment(input, bytes as usize)?
            }
            _ => return None,
        };
        let itt = command.itt;
        Some(Short { unit, extent, access, bytes: bytes as usize, segment_bytes, itt, is_descriptor })
    }

    /// How long the data segment at the front of the input is on the wire, if it is all there and intact.
    fn whole_segment(&self, input: &[u8], bytes: usize) -> Option<usize> {
        let end = bytes + wire::padding_bytes(bytes);
        if !self.params.data_digest {
            return (input.len() >= end).then_some(end);
        }
        let segment = input.get(..end + DIGEST_BYTES)?;
        (segment[end..] == wire::crc32c(&[&segment[..end]])).then_some(segment.len())
    }

    /// The command of [`Request::Short`](super::Request::Short) becomes a task.
    pub fn go_long(&mut self) {
        self.goes_long = true;
    }

    /// The command of [`Request::Short`](super::Request::Short) has been carried out, and ends so. A READ that ends well has data:
    /// those that are `lent` instead are as many, and [`Conn::keep_lent`] follows in the same turn.
    pub fn answer_short(
        &mut self,
        short: &Short,
        outcome: Outcome,
        data: Option<(Buf, Lent)>,
        cx: &mut Cx<'_>,
    ) {
        self.deframer.end();
        self.timers.heard(cx.now);
        self.window.take_due();
        self.grow_window(cx);
        if let Some(histogram) = &self.target.histogram {
            histogram.count(self.reactor, 0);
        }
        let item = match data {
            Some((data, lent)) => TxItem::DataIn {
                itt: short.itt,
                data,
                lent: Some(lent),
                offset: 0,
                segment_bytes_max: self.params.send_segment_bytes_max,
                data_sn: Sn(0),
                last: Some(Some((Status::Good.code(), Residual::None))),
                keeps: Keeps::Place,
            },
            None => {
                let bytes = u32::try_from(short.bytes).unwrap_or(u32::MAX);
                let residual =
                    if outcome.status == Status::Good { Residual::None } else { Residual::Under(bytes) };
                let response = ScsiResponse {
                    itt: short.itt,
                    response: 0,
                    status: outcome.status.code(),
                    exp_data_sn: Sn(0),
                    residual,
                };
                let sense = outcome.sense.map(|sense| (sense, short.is_descriptor));
                TxItem::Response { bhs: response.encode(), sense, keeps: Keeps::Place }
            }
        };
        self.push(item, cx);
    }
}
