//! What waits to be sent.

use std::io::IoSlice;

use crate::buf::{Buf, Lent, Pool};
use crate::iscsi::sn::Sn;
use crate::iscsi::wire::{Bhs, R2t, Residual, ScsiResponse};
use crate::scsi::sense::Sense;
use crate::slab::Key;

/// What a PDU does with StatSN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StatSn {
    /// Carries the next and uses it up.
    Consume,
    /// Carries the next and leaves it (R2T, NOP-In that asks).
    Show,
    /// Carries again the one that is in its header already (RFC 7143 §11.16).
    Again,
}

/// Something to be sent.
#[derive(Debug)]
pub enum TxItem {
    /// One PDU.
    Pdu {
        /// Its header, all but serial numbers and data segment length.
        bhs: Bhs,
        /// Its data segment.
        data: Option<Buf>,
        /// What it does with StatSN.
        stat_sn: StatSn,
        /// It answers a request that is bounded by no window, and counts against `CONTROL_REPLIES_MAX`.
        is_control: bool,
        /// The connection ends when it has been sent.
        closes: bool,
    },
    /// A SCSI Response.
    Response {
        /// What its header says.
        response: ScsiResponse,
        /// Its sense data, and whether in descriptor format.
        sense: Option<(Sense, bool)>,
        /// What its command keeps until it is sent.
        keeps: Keeps,
    },
    /// A SCSI Response with sense data of a device's own.
    Told {
        /// What its header says.
        response: ScsiResponse,
        /// Its data segment: they, behind their length; none once it has been sent and is kept.
        data: Option<Buf>,
        /// What its command keeps until it is sent.
        keeps: Keeps,
    },
    /// A piece of a READ's data: as many Data-In PDUs as it takes.
    DataIn {
        /// Initiator task tag.
        itt: u32,
        /// The data.
        data: Data,
        /// Offset of the first byte in the command's data.
        offset: u32,
        /// Bytes of one PDU's segment, at most: as negotiated when it was queued.
        segment_bytes_max: u32,
        /// DataSN of the first PDU.
        data_sn: Sn,
        /// The last piece of the command: its last PDU is final, and carries this status where there is one.
        last: Option<Option<(u8, Residual)>>,
        /// What its command keeps until it is sent.
        keeps: Keeps,
        /// They are kept when they have been sent, if there are buffers enough: they may be asked for again.
        is_retained: bool,
    },
}

impl TxItem {
    /// Whether a command has its place in the window until this has been sent.
    pub fn keeps_place(&self) -> bool {
        match self {
            TxItem::Response { keeps, .. } | TxItem::Told { keeps, .. } => *keeps == Keeps::Place,
            TxItem::DataIn { keeps, last, .. } => *keeps == Keeps::Place && last.flatten().is_some(),
            TxItem::Pdu { .. } => false,
        }
    }

    /// Whether it is an R2T for this command, or data without a status.
    pub(super) fn is_before_status_of(&self, itt: u32) -> bool {
        match self {
            TxItem::Pdu { bhs, .. } => bhs.opcode() == R2t::OPCODE && bhs.itt() == itt,
            TxItem::DataIn { itt: own, last, .. } => *own == itt && last.flatten().is_none(),
            TxItem::Response { .. } | TxItem::Told { .. } => false,
        }
    }

    /// A command's data from the `at`th byte on, where they are here and no copy.
    pub(super) fn data_of(&self, itt: u32, at: u32) -> Option<&[u8]> {
        match self {
            TxItem::DataIn { itt: own, data: Data::Own(buf), offset, is_retained: true, .. }
                if *own == itt =>
            {
                data_from(buf, *offset, at)
            }
            _ => None,
        }
    }
}

/// Of data that begin at `offset` of their command's those from the `at`th byte on, if there are any.
pub(super) fn data_from(data: &[u8], offset: u32, at: u32) -> Option<&[u8]> {
    let skip = usize::try_from(at.checked_sub(offset)?).ok()?;
    data.get(skip..).filter(|rest| !rest.is_empty())
}

/// Where a READ's data are.
#[derive(Debug)]
pub enum Data {
    /// In a buffer.
    Own(Buf),
    /// In the device's own memory, up to the end of the turn at most; a buffer for them is set aside. There is no digest of them.
    Lent(Lent),
}

impl Data {
    /// How many bytes they are.
    pub(super) fn len(&self) -> usize {
        match self {
            Data::Own(buf) => buf.len(),
            Data::Lent(lent) => lent.len(),
        }
    }

    /// Some of them, for a digest.
    pub(super) fn own(&self, from: usize, bytes: usize) -> &[u8] {
        match self {
            Data::Own(buf) => &buf[from..from + bytes],
            Data::Lent(_) => &[],
        }
    }
}

/// What bounds the answers of a command that wait to be sent. A peer that does not read could have any number of them made
/// otherwise, as each answer would open the window for another command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keeps {
    /// Its place in the command window, up to the PDU that ends it.
    Place,
    /// It is immediate: a place among the answers that `CONTROL_REPLIES_MAX` bounds.
    Control,
    /// As before; and it ends in the middle of a piece that was sent before, so that its last PDU is not final.
    Part,
}

/// An item in a queue.
#[derive(Debug)]
pub struct Queued {
    pub(super) item: TxItem,
    /// Counts the items of its queue.
    pub(super) number: Sn,
    pub(super) next: Option<Key>,
}

impl Queued {
    pub(super) fn is_control(&self) -> bool {
        matches!(
            self.item,
            TxItem::Pdu { is_control: true, .. }
                | TxItem::Response { keeps: Keeps::Control | Keeps::Part, .. }
                | TxItem::Told { keeps: Keeps::Control | Keeps::Part, .. }
                | TxItem::DataIn { keeps: Keeps::Control | Keeps::Part, .. }
        )
    }

    pub(super) fn is_lent(&self) -> bool {
        matches!(self.item, TxItem::DataIn { data: Data::Lent(_), .. })
    }

    /// What counts against `CONTROL_BYTES_MAX`: data of immediate commands are bounded by their number.
    pub(super) fn control_bytes(&self) -> u64 {
        match &self.item {
            TxItem::Pdu { is_control: true, data, .. } => data.as_ref().map_or(0, |data| data.len() as u64),
            _ => 0,
        }
    }

    /// How long its data are.
    pub(super) fn data_bytes(&self) -> usize {
        match &self.item {
            TxItem::Pdu { data, .. } | TxItem::Told { data, .. } => {
                data.as_ref().map_or(0, |data| data.len())
            }
            TxItem::DataIn { data, .. } => data.len(),
            TxItem::Response { .. } => 0,
        }
    }

    /// A part of its data, for a send.
    pub(super) fn slice(&self, from: usize, bytes: usize) -> Option<IoSlice<'_>> {
        let buf = match &self.item {
            TxItem::DataIn { data: Data::Lent(lent), .. } => return Some(lent.slice(from, bytes)),
            TxItem::DataIn { data: Data::Own(buf), .. }
            | TxItem::Pdu { data: Some(buf), .. }
            | TxItem::Told { data: Some(buf), .. } => buf,
            TxItem::Pdu { data: None, .. } | TxItem::Told { data: None, .. } | TxItem::Response { .. } => {
                return None;
            }
        };
        buf.get(from..from + bytes).map(IoSlice::new)
    }

    /// What is lent to it is copied and goes back. Whether something was.
    pub(super) fn keep(&mut self, pool: &Pool) -> bool {
        let TxItem::DataIn { data, .. } = &mut self.item else { return false };
        let Data::Lent(lent) = data else { return false };
        // Set aside when it was lent.
        let Some(mut buf) = pool.take_aside(lent.len()) else { return false };
        lent.copy(&mut buf);
        *data = Data::Own(buf);
        true
    }
}
