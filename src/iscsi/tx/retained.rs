//! What was sent under a StatSN and is not acknowledged yet: kept at error recovery levels above 0, so that it can be sent
//! again (RFC 7143 §7.8, §11.16). And the data that commands have sent, in the buffers that they were sent from: what is sent again
//! is what was sent, whatever has become of the blocks since. All buffers that are kept, echoes and texts too, are kept only while
//! more than half of their size are free: however many connections never acknowledge anything, others have the other half. What
//! goes unkept is not sent again. What is no longer than a header takes no buffer: Rejects, and what asynchronous messages say.

use std::collections::VecDeque;

use super::item::data_from;
use super::{Data, StatSn, TxItem};
use crate::buf::{Buf, Pool};
use crate::iscsi::sn::Sn;
use crate::iscsi::wire::{self, Bhs};
use crate::limits;
use crate::scsi::sense::Sense;

/// Opcode of the SCSI Response PDU.
pub const SCSI_RESPONSE: u8 = 0x21;

/// One numbered PDU.
#[derive(Debug)]
pub struct Kept {
    /// Its StatSN.
    pub stat_sn: Sn,
    /// Its header, all but serial numbers and lengths.
    pub bhs: Bhs,
    segment: Segment,
}

/// The data segment of one.
#[derive(Debug)]
enum Segment {
    Empty,
    /// Sense data, and whether in descriptor format.
    Sense(Sense, bool),
    /// So short that it takes no buffer: the header that a Reject refuses.
    Short([u8; wire::BHS_BYTES], usize),
    InBuffer(Buf),
    /// It was not kept.
    Gone,
}

impl Segment {
    /// What is kept of one that was sent.
    fn of(data: &mut Option<Buf>) -> Segment {
        let Some(sent) = data else { return Segment::Empty };
        let mut short = [0; wire::BHS_BYTES];
        if let Some(place) = short.get_mut(..sent.len()) {
            place.copy_from_slice(sent);
            return Segment::Short(short, sent.len());
        }
        match data.take_if(|sent| sent.is_plentiful()) {
            Some(sent) => Segment::InBuffer(sent),
            None => Segment::Gone,
        }
    }
}

impl Kept {
    /// How long its data are.
    pub(super) fn data_bytes(&self) -> u64 {
        match &self.segment {
            Segment::Short(_, count) => *count as u64,
            Segment::InBuffer(data) => data.len() as u64,
            Segment::Empty | Segment::Sense(..) | Segment::Gone => 0,
        }
    }

    fn is_response_to(&self, itt: u32) -> bool {
        self.bhs.opcode() == SCSI_RESPONSE && self.bhs.itt() == itt
    }
}

/// Data that a command has sent.
#[derive(Debug)]
struct Piece {
    itt: u32,
    /// Of their first byte in the command's data.
    offset: u32,
    buf: Buf,
}

/// The PDUs that are kept, oldest first.
#[derive(Debug)]
pub struct Retained {
    /// Invariant: their StatSNs have no gaps. Room for one batch beyond what stays.
    ring: VecDeque<Kept>,
    /// Invariant: room for `RETAINED_PIECES_MAX`, and no more are in.
    pieces: Vec<Piece>,
    #[cfg(feature = "sim")]
    is_renumbering: bool,
    #[cfg(feature = "sim")]
    is_misplacing: bool,
}

impl Retained {
    pub(super) fn new() -> Retained {
        Retained {
            ring: VecDeque::with_capacity(limits::RETAINED_MAX + limits::BATCH_PDUS),
            pieces: Vec::with_capacity(limits::RETAINED_PIECES_MAX),
            #[cfg(feature = "sim")]
            is_renumbering: false,
            #[cfg(feature = "sim")]
            is_misplacing: false,
        }
    }

    /// A planted bug.
    #[cfg(feature = "sim")]
    pub(super) fn renumber(&mut self) {
        self.is_renumbering = true;
    }

    /// Another.
    #[cfg(feature = "sim")]
    pub(super) fn misplace(&mut self) {
        self.is_misplacing = true;
    }

    /// The StatSN of what is sent once more: its own.
    fn number(&self, kept: &Kept) -> Sn {
        #[cfg(feature = "sim")]
        if self.is_renumbering {
            return self.ring.back().map_or(kept.stat_sn, |last| last.stat_sn.plus(1));
        }
        kept.stat_sn
    }

    /// An item has been sent; `stat_sn` is its own, if it has used one up. How many bytes of data are kept of it.
    pub(super) fn keep(&mut self, item: &mut TxItem, stat_sn: Sn) -> u64 {
        let kept = match item {
            TxItem::Pdu { bhs, data, stat_sn: StatSn::Consume, .. } => {
                Kept { stat_sn, bhs: *bhs, segment: Segment::of(data) }
            }
            TxItem::Response { response, sense, .. } => {
                let segment = sense.map_or(Segment::Empty, |(sense, form)| Segment::Sense(sense, form));
                Kept { stat_sn, bhs: response.encode(), segment }
            }
            TxItem::Told { response, data, .. } => {
                Kept { stat_sn, bhs: response.encode(), segment: Segment::of(data) }
            }
            TxItem::DataIn { itt, data: Data::Own(buf), offset, is_retained: true, .. } => {
                self.keep_data(*itt, *offset, buf);
                return 0;
            }
            TxItem::Pdu { .. } | TxItem::DataIn { .. } => return 0,
        };
        let bytes = kept.data_bytes();
        self.ring.push_back(kept);
        bytes
    }

    /// Data of a command have been sent.
    fn keep_data(&mut self, itt: u32, offset: u32, buf: &mut Buf) {
        if buf.is_plentiful() && self.pieces.len() < limits::RETAINED_PIECES_MAX {
            self.pieces.push(Piece { itt, offset, buf: buf.take() });
        }
    }

    /// Data of a command from the `at`th byte on, as far as one buffer has them.
    pub(super) fn data_of(&self, itt: u32, at: u32) -> Option<&[u8]> {
        let mut own = self.pieces.iter().filter(|piece| piece.itt == itt);
        #[cfg(feature = "sim")]
        if self.is_misplacing {
            return own.next_back().map(|piece| &*piece.buf);
        }
        own.find_map(|piece| data_from(&piece.buf, piece.offset, at))
    }

    /// Nobody can ask for data of this command any more.
    pub(super) fn forget_data(&mut self, itt: u32) {
        self.pieces.retain(|piece| piece.itt != itt);
    }

    /// The oldest that ExpStatSN acknowledges, or that is too many, taken out.
    pub fn next_over(&mut self, exp_stat_sn: Option<Sn>) -> Option<Kept> {
        let is_over = self.ring.front().is_some_and(|kept| {
            self.ring.len() > limits::RETAINED_MAX
                || exp_stat_sn.is_some_and(|exp_stat_sn| kept.stat_sn.is_before(exp_stat_sn))
        });
        if is_over { self.ring.pop_front() } else { None }
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// The StatSN of the oldest.
    pub fn first(&self) -> Option<Sn> {
        self.ring.front().map(|kept| kept.stat_sn)
    }

    /// The SCSI Response to this command is to be sent once more, with a SNACK Tag, after so many Data-In PDUs: its StatSN.
    pub fn tag(&mut self, itt: u32, snack_tag: u32, exp_data_sn: Sn) -> Option<Sn> {
        let kept = self.ring.iter_mut().find(|kept| kept.is_response_to(itt))?;
        kept.bhs = kept.bhs.tagged(snack_tag, exp_data_sn);
        Some(kept.stat_sn)
    }

    /// Whether the response to this command was sent.
    pub fn has_response_to(&self, itt: u32) -> bool {
        self.ring.iter().any(|kept| kept.is_response_to(itt))
    }

    /// The buffers go back: nobody can ask for this any more but for what is in the headers. How many bytes they hold.
    pub(super) fn drop_data(&mut self) -> u64 {
        self.pieces.clear();
        let in_buffers = self.ring.iter_mut().filter(|kept| matches!(kept.segment, Segment::InBuffer(_)));
        in_buffers
            .map(|kept| {
                let bytes = kept.data_bytes();
                kept.segment = Segment::Gone;
                bytes
            })
            .sum()
    }

    /// The one of this StatSN to be sent once more, its data copied; none where there is no such, its data were not kept, or there
    /// is no buffer for it.
    pub fn again(&self, stat_sn: Sn, pool: &Pool) -> Option<TxItem> {
        let kept = self.ring.iter().find(|kept| kept.stat_sn == stat_sn)?;
        let copy = |original: &[u8]| {
            let mut data = pool.take(original.len())?;
            data.copy_from_slice(original);
            Some(data)
        };
        let data = match &kept.segment {
            Segment::Empty => None,
            Segment::Sense(sense, is_descriptor) => {
                let mut bytes = [0; limits::SENSE_BYTES_MAX];
                let count = sense.encode(*is_descriptor, &mut bytes);
                let mut data = pool.take(count + 2)?;
                // RFC 7143 §11.4.7.2: the length of the sense data goes first.
                data[..2].copy_from_slice(&[0, count.to_le_bytes()[0]]);
                data[2..].copy_from_slice(&bytes[..count]);
                Some(data)
            }
            Segment::Short(bytes, count) => Some(copy(&bytes[..*count])?),
            Segment::InBuffer(original) => Some(copy(original)?),
            Segment::Gone => return None,
        };
        Some(TxItem::Pdu {
            bhs: kept.bhs.numbered(self.number(kept)),
            data,
            stat_sn: StatSn::Again,
            is_control: true,
            closes: false,
        })
    }
}
