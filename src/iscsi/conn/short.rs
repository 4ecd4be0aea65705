//! The short way: READs and WRITEs that are carried out as they come.
//!
//! A READ or WRITE in its plainest form, whose turn it is and at whose LUN nothing is to be told, needs no task if the device
//! does it at once: it is judged where it was received, done and answered. Everything else, and whatever the device will not do
//! now, becomes a task.

use std::sync::Arc;

use super::{Conn, Cx, Life};
use crate::id::UnitId;
use crate::iscsi::session::{ORDERED, Session};
use crate::iscsi::sn::Sn;
use crate::iscsi::tx::{Data, Keeps, TxItem};
use crate::iscsi::wire::{self, BHS_BYTES, Bhs, DIGEST_BYTES, Residual, ScsiCommand, ScsiResponse};
use crate::limits;
use crate::scsi::view::{LunNumber, UnitView};
use crate::scsi::{self, Access, Extent, Status};

/// Opcode of the SCSI Command PDU (RFC 7143 §11.2.1.2).
const SCSI_COMMAND: u8 = 0x01;

/// A READ or WRITE that may be carried out at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Short<'a> {
    /// The logical unit.
    pub unit: UnitId,
    /// The blocks.
    pub extent: Extent,
    /// READ or WRITE.
    pub access: Access,
    /// How many bytes they are.
    pub bytes: usize,
    /// The data to write; nothing with READ.
    pub data: &'a [u8],
    /// The header.
    pub header: &'a [u8; BHS_BYTES],
    /// What is behind the command in the input.
    pub rest: &'a [u8],
    itt: u32,
}

/// What has gone the short way in a row.
#[derive(Clone, Copy, Default, Debug)]
pub struct Went {
    /// READs.
    pub reads: u32,
    /// Their bytes.
    pub read_bytes: u64,
    /// WRITEs.
    pub writes: u32,
    /// Their bytes.
    pub written_bytes: u64,
}

impl Conn {
    /// The command at the front of the input, if all of it is there and it may go the short way, as [`Conn::may_go_short`] says that
    /// commands may. Nothing has happened to it yet.
    #[inline(always)]
    pub fn short<'a>(
        &self,
        session: &Session,
        input: &'a [u8],
        units: &[Option<Arc<UnitView>>],
    ) -> Option<Short<'a>> {
        let (header, rest) = input.split_first_chunk::<BHS_BYTES>()?;
        let bhs = Bhs(*header);
        if bhs.opcode() != SCSI_COMMAND || bhs.ahs_bytes() > 0 {
            return None;
        }
        let rest = self.behind_header(&bhs, rest)?;
        let command = ScsiCommand::parse(&bhs);
        let is_its_turn = !command.immediate
            && command.is_final
            && command.attribute != ORDERED
            && session.window.is_due(command.cmd_sn);
        if !is_its_turn {
            return None;
        }
        let number = LunNumber::decode(&command.lun)?;
        let (place, view) = session.quiet_place(number, units)?;
        if view.pace.is_some() {
            return None;
        }
        let (mut extent, access) = scsi::plain(header.last_chunk()?, &place)?;
        extent.fua |= view.is_write_through();
        let expected = command.expected_bytes;
        let bytes = extent
            .blocks
            .checked_mul(view.block_bytes)
            .filter(|bytes| *bytes == expected && *bytes <= limits::PIECE_BYTES_MAX)?;
        let data_bytes = bhs.data_bytes();
        let (data, rest) = match access {
            Access::Read if command.read && !command.write && data_bytes == 0 => (&[][..], rest),
            Access::Write
                if command.write
                    && !command.read
                    && data_bytes == bytes
                    && self.params.immediate_data
                    && bytes <= self.params.first_burst_bytes =>
            {
                self.segment(rest, bytes as usize)?
            }
            _ => return None,
        };
        Some(Short {
            unit: view.id,
            extent,
            access,
            bytes: bytes as usize,
            data,
            header,
            rest,
            itt: command.itt,
        })
    }

    /// Whether `input` is the beginning of a command, and too little of it to tell whether it may go the short way.
    pub fn is_cut(&self, input: &[u8]) -> bool {
        if input.is_empty() || self.life != Life::Open || self.deframer.is_inside() {
            return false;
        }
        let Some(header) = input.first_chunk::<BHS_BYTES>() else { return true };
        let bhs = Bhs(*header);
        let data_bytes = bhs.data_bytes() as usize;
        let digest_bytes = |is_agreed| if is_agreed { DIGEST_BYTES } else { 0 };
        let mut bytes = BHS_BYTES + bhs.ahs_bytes() + digest_bytes(self.params.header_digest);
        if data_bytes > 0 {
            bytes += data_bytes + wire::padding_bytes(data_bytes) + digest_bytes(self.params.data_digest);
        }
        bhs.opcode() == SCSI_COMMAND && input.len() < bytes && bytes <= limits::CUT_BYTES_MAX
    }

    /// Whether a command that comes now needs to wait for nothing of its session and this connection. Those that go the short way
    /// change nothing about it.
    #[inline(always)]
    pub fn may_go_short(&self, session: &Session) -> bool {
        self.life == Life::Open
            && session.is_free()
            && session.is_single()
            && !self.retains
            && !self.deframer.is_inside()
            && self.tx.control_count() < limits::CONTROL_REPLIES_MAX
    }

    /// What is behind the header digest, if that is there and right.
    fn behind_header<'a>(&self, bhs: &Bhs, rest: &'a [u8]) -> Option<&'a [u8]> {
        if !self.params.header_digest {
            return Some(rest);
        }
        let (digest, rest) = rest.split_first_chunk::<DIGEST_BYTES>()?;
        (*digest == wire::crc32c(&[&bhs.0])).then_some(rest)
    }

    /// A data segment of `bytes` bytes, if it is all there and intact, and what is behind it.
    fn segment<'a>(&self, input: &'a [u8], bytes: usize) -> Option<(&'a [u8], &'a [u8])> {
        let padded = bytes + wire::padding_bytes(bytes);
        let (segment, rest) = input.split_at_checked(padded)?;
        if !self.params.data_digest {
            return Some((&segment[..bytes], rest));
        }
        let (digest, rest) = rest.split_first_chunk::<DIGEST_BYTES>()?;
        (*digest == wire::crc32c(&[segment])).then_some((&segment[..bytes], rest))
    }

    /// A command has been carried out, and ends with GOOD. A READ has data, as many as it asked for. If they are lent, there is no
    /// data digest, a buffer for them is set aside in [`Cx::solicited`], and [`Conn::keep_lent`] follows in the same turn. After
    /// the last one in a row comes [`Conn::went_short`].
    #[inline(always)]
    pub fn answer_short(&mut self, short: &Short<'_>, data: Option<Data>, went: &mut Went, cx: &mut Cx<'_>) {
        self.recorder.received(short.header, cx.now);
        cx.session.window.take_due();
        let (itt, status) = (short.itt, Status::Good.code());
        // Each is put together in its place in the queue: to copy it there would take until the data of a WRITE, which were stored
        // a moment ago, have all left the processor.
        match data {
            Some(data) => {
                went.reads += 1;
                went.read_bytes += short.bytes as u64;
                let item = TxItem::DataIn {
                    itt,
                    data,
                    offset: 0,
                    segment_bytes_max: self.params.send_segment_bytes_max,
                    data_sn: Sn(0),
                    last: Some(Some((status, Residual::None))),
                    keeps: Keeps::Place,
                    is_retained: false,
                };
                self.push_inline(item, cx);
            }
            None => {
                went.writes += 1;
                went.written_bytes += short.bytes as u64;
                let response = ScsiResponse {
                    itt,
                    response: 0,
                    status,
                    snack_tag: 0,
                    exp_data_sn: Sn(0),
                    residual: Residual::None,
                };
                self.push_inline(TxItem::Response { response, sense: None, keeps: Keeps::Place }, cx);
            }
        }
    }

    /// Commands went the short way.
    pub fn went_short(&mut self, went: &Went, cx: &mut Cx<'_>) {
        cx.session.grow_window(cx.spare_window);
        cx.session.count_short(went);
        self.timers.heard(cx.now);
        self.timers.queued(cx.now);
    }
}
