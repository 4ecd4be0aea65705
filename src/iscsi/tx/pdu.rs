//! PDUs made of transmit items: header with digest, sense data, padding and data digest.

use super::{Keeps, StatSn, TxItem};
use crate::iscsi::params::Params;
use crate::iscsi::sn::Sn;
use crate::iscsi::window::Window;
use crate::iscsi::wire::{self, Bhs, DataIn};
use crate::limits;
use crate::slab::Key;

/// How far a queue has got.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    pub(super) stat_sn: Sn,
    /// Bytes of the front item's data that have been put into PDUs.
    pub(super) at: u32,
    /// PDUs made of the front item.
    pub(super) pdus: u32,
}

/// Room for a header with its digest, and for sense data with theirs.
const HEAD_BYTES: usize = 128;
const _: () =
    assert!(wire::BHS_BYTES + 2 * wire::DIGEST_BYTES + 2 + limits::SENSE_BYTES_MAX + 3 <= HEAD_BYTES);

const ZEROES: [u8; 3] = [0; 3];

/// What headers say of the window, and what was agreed on.
struct Stamps<'a> {
    exp_cmd_sn: Sn,
    max_cmd_sn: Sn,
    params: &'a Params,
}

/// A PDU ready to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pdu {
    pub(super) head: [u8; HEAD_BYTES],
    pub(super) head_bytes: usize,
    /// The item whose data it carries, from where, how many.
    pub(super) data: Option<(Key, u32, u32)>,
    pub(super) tail: [u8; 8],
    pub(super) tail_bytes: usize,
    pub(super) after: Cursor,
    pub(super) ends_item: bool,
    pub(super) closes: bool,
    /// It ends a command that has a place in the window.
    pub(super) frees: bool,
}

impl Pdu {
    pub(super) fn new() -> Pdu {
        let after = Cursor { stat_sn: Sn(0), at: 0, pdus: 0 };
        Pdu {
            head: [0; HEAD_BYTES],
            head_bytes: 0,
            data: None,
            tail: [0; 8],
            tail_bytes: 0,
            after,
            ends_item: true,
            closes: false,
            frees: false,
        }
    }

    /// Makes it an empty one. What is beyond `head_bytes` and `tail_bytes` is nobody's.
    pub(super) fn begin(&mut self, after: Cursor) {
        self.head_bytes = 0;
        self.data = None;
        self.tail_bytes = 0;
        self.after = after;
        self.ends_item = true;
        self.closes = false;
        self.frees = false;
    }

    fn put(&mut self, bytes: &[u8]) {
        self.head[self.head_bytes..self.head_bytes + bytes.len()].copy_from_slice(bytes);
        self.head_bytes += bytes.len();
    }

    /// The header, with its digest.
    fn put_header(&mut self, mut bhs: Bhs, segment_bytes: usize, stat_sn: Option<Sn>, stamps: Stamps<'_>) {
        wire::stamp(&mut bhs, stat_sn, stamps.exp_cmd_sn, stamps.max_cmd_sn);
        bhs.set_data_bytes(to_u32(segment_bytes));
        self.put(&bhs.0);
        if stamps.params.header_digest {
            self.put(&wire::crc32c(&[&bhs.0]));
        }
    }

    /// Sense data behind their length (RFC 7143 §11.4.7.2), with padding and digest.
    fn put_sense(&mut self, sense: &[u8], params: &Params) {
        let from = self.head_bytes;
        self.put(&[0, sense.len().to_le_bytes()[0]]);
        self.put(sense);
        self.put(&ZEROES[..wire::padding_bytes(2 + sense.len())]);
        if params.data_digest {
            let digest = wire::crc32c(&[&self.head[from..self.head_bytes]]);
            self.put(&digest);
        }
    }

    /// The item's data from `from` on, with padding and digest; `data` are the same, where there are digests.
    fn put_data(&mut self, key: Key, from: u32, bytes: usize, data: &[u8], params: &Params) {
        if bytes == 0 {
            return;
        }
        let padding = &ZEROES[..wire::padding_bytes(bytes)];
        self.data = Some((key, from, to_u32(bytes)));
        self.tail = [0; 8];
        self.tail_bytes = padding.len();
        if params.data_digest {
            let end = padding.len() + wire::DIGEST_BYTES;
            self.tail[padding.len()..end].copy_from_slice(&wire::crc32c(&[data, padding]));
            self.tail_bytes = end;
        }
    }

    /// The basic header segment.
    pub(super) fn header(&self) -> &[u8; wire::BHS_BYTES] {
        const { assert!(wire::BHS_BYTES <= HEAD_BYTES) };
        self.head.first_chunk().unwrap_or(&[0; wire::BHS_BYTES])
    }

    pub(super) fn bytes(&self) -> usize {
        self.head_bytes + self.data.map_or(0, |(_, _, bytes)| bytes as usize) + self.tail_bytes
    }
}

/// Makes the item's next PDU; `pdu.after` comes in as the cursor before it. The PDUs before it in the batch free `freed`
/// places of the window.
pub(super) fn make(pdu: &mut Pdu, key: Key, item: &TxItem, params: &Params, window: &Window, freed: u32) {
    let before = pdu.after;
    let stamps =
        |freed| Stamps { exp_cmd_sn: window.expected(), max_cmd_sn: window.max_after(freed), params };
    match item {
        TxItem::Pdu { bhs, data, stat_sn, closes, .. } => {
            pdu.closes = *closes;
            if *stat_sn == StatSn::Consume {
                pdu.after.stat_sn = before.stat_sn.plus(1);
            }
            let shown = (*stat_sn != StatSn::Again).then_some(before.stat_sn);
            let data = data.as_deref().unwrap_or(&[]);
            pdu.put_header(*bhs, data.len(), shown, stamps(freed));
            pdu.put_data(key, 0, data.len(), data, params);
        }
        TxItem::Response { response, keeps, .. } | TxItem::Told { response, keeps, .. } => {
            pdu.frees = *keeps == Keeps::Place;
            pdu.after.stat_sn = before.stat_sn.plus(1);
            // The answer itself says that there is room for another command.
            let stamps = stamps(freed + u32::from(pdu.frees));
            let (bhs, stat_sn) = (response.encode(), Some(before.stat_sn));
            match item {
                TxItem::Told { data: Some(data), .. } => {
                    pdu.put_header(bhs, data.len(), stat_sn, stamps);
                    pdu.put_data(key, 0, data.len(), data, params);
                }
                TxItem::Response { sense: Some((sense, is_descriptor)), .. } => {
                    let mut bytes = [0; limits::SENSE_BYTES_MAX];
                    let count = sense.encode(*is_descriptor, &mut bytes);
                    pdu.put_header(bhs, count + 2, stat_sn, stamps);
                    pdu.put_sense(&bytes[..count], params);
                }
                _ => pdu.put_header(bhs, 0, stat_sn, stamps),
            }
        }
        TxItem::DataIn { itt, data, offset, segment_bytes_max, data_sn, last, keeps, .. } => {
            let whole = to_u32(data.len());
            let bytes = segment_bytes(params, *segment_bytes_max, *offset + before.at, whole - before.at);
            let end = before.at + bytes;
            pdu.ends_item = end == whole;
            pdu.after = if pdu.ends_item {
                Cursor { at: 0, pdus: 0, ..before }
            } else {
                Cursor { at: end, pdus: before.pdus + 1, ..before }
            };
            let is_last = pdu.ends_item && last.is_some();
            let status = if is_last { last.flatten() } else { None };
            pdu.frees = status.is_some() && *keeps == Keeps::Place;
            let stat_sn = status.map(|_| before.stat_sn);
            if status.is_some() {
                pdu.after.stat_sn = before.stat_sn.plus(1);
            }
            // RFC 7143 §11.7.1: F ends a sequence, which is at most MaxBurstLength long. A piece ends one too: should the
            // next one fail, the status with its sense data follows here.
            let ends_burst = || (*offset + end).is_multiple_of(params.max_burst_bytes);
            let header = DataIn {
                is_final: pdu.ends_item && *keeps != Keeps::Part || ends_burst(),
                status,
                itt: *itt,
                data_sn: data_sn.plus(before.pdus),
                offset: *offset + before.at,
            };
            let stamps = stamps(freed + u32::from(pdu.frees));
            pdu.put_header(header.encode(), bytes as usize, stat_sn, stamps);
            let digested = data.own(before.at as usize, bytes as usize);
            pdu.put_data(key, before.at, bytes as usize, digested, params);
        }
    }
}

/// Length of the Data-In segment at `offset` of a command's data when `left` bytes are left of the piece.
pub(super) fn segment_bytes(params: &Params, segment_bytes_max: u32, offset: u32, left: u32) -> u32 {
    let burst_left = params.max_burst_bytes - offset % params.max_burst_bytes;
    left.min(segment_bytes_max).min(burst_left)
}

/// How many Data-In PDUs a piece of `bytes` at `offset` takes.
pub fn data_in_pdus(params: &Params, offset: u32, bytes: u32) -> u32 {
    let mut at = 0;
    let mut pdus = 0;
    while at < bytes {
        at += segment_bytes(params, params.send_segment_bytes_max, offset + at, bytes - at);
        pdus += 1;
    }
    pdus
}

/// DataSN of the Data-In PDU that begins at `offset`, of a READ of `bytes` bytes whose pieces went out whole.
pub fn data_sn_at(params: &Params, offset: u32) -> u32 {
    let mut at = 0;
    let mut pdus = 0;
    while at < offset {
        let piece = (offset - at).min(limits::PIECE_BYTES_MAX);
        pdus += data_in_pdus(params, at, piece);
        at += piece;
    }
    pdus
}

/// Where the Data-In PDU of this DataSN begins, or the end of the data, where there is none.
pub fn offset_of(params: &Params, data_sn: u32, bytes: u32) -> u32 {
    let mut at = 0;
    let mut left = data_sn;
    while at < bytes && left > 0 {
        let piece_left = (limits::PIECE_BYTES_MAX - at % limits::PIECE_BYTES_MAX).min(bytes - at);
        at += segment_bytes(params, params.send_segment_bytes_max, at, piece_left);
        left -= 1;
    }
    at
}

/// A length that is known to be under 2^24.
pub(super) fn to_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
