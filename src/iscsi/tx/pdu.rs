//! PDUs made of transmit items: header with digest, sense data, padding and data digest.

use super::{Keeps, StatSn, TxItem};
use crate::iscsi::params::Params;
use crate::iscsi::sn::Sn;
use crate::iscsi::window::Window;
use crate::iscsi::wire::{self, DataIn};
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

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.head[self.head_bytes..self.head_bytes + bytes.len()].copy_from_slice(bytes);
        self.head_bytes += bytes.len();
    }

    pub(super) fn bytes(&self) -> usize {
        self.head_bytes + self.data.map_or(0, |(_, _, bytes)| bytes as usize) + self.tail_bytes
    }
}

/// Makes the item's next PDU; `pdu.after` comes in as the cursor before it. The PDUs before it in the batch free `freed`
/// places of the window.
pub(super) fn make(pdu: &mut Pdu, key: Key, item: &TxItem, params: &Params, window: &Window, freed: u32) {
    let before = pdu.after;
    let mut stat_sn = Some(before.stat_sn);
    let mut consumes = true;
    let mut sense = [0; limits::SENSE_BYTES_MAX];
    let mut sense_bytes = 0;
    let mut data: &[u8] = &[];
    let mut bhs = match item {
        TxItem::Pdu { bhs, data: buf, stat_sn, closes, .. } => {
            consumes = *stat_sn == StatSn::Consume;
            pdu.closes = *closes;
            data = buf.as_deref().unwrap_or(&[]);
            *bhs
        }
        TxItem::Response { bhs, sense: with, keeps } => {
            pdu.frees = *keeps == Keeps::Place;
            if let Some((with, is_descriptor)) = with {
                sense_bytes = with.encode(*is_descriptor, &mut sense);
            }
            *bhs
        }
        TxItem::DataIn { itt, data: buf, offset, segment_bytes_max, data_sn, last, keeps, .. } => {
            let at = before.at as usize;
            let bytes =
                segment_bytes(params, *segment_bytes_max, *offset + before.at, to_u32(buf.len() - at));
            data = &buf[at..at + bytes as usize];
            let end = before.at + bytes;
            pdu.ends_item = end as usize == buf.len();
            let is_last = pdu.ends_item && last.is_some();
            pdu.frees = is_last && *keeps == Keeps::Place;
            let status = if is_last { last.flatten() } else { None };
            if status.is_none() {
                consumes = false;
                stat_sn = None;
            }
            pdu.after.at = end;
            pdu.after.pdus += 1;
            // RFC 7143 §11.7.1: F ends a sequence, which is at most MaxBurstLength long. A piece ends one too: should the
            // next one fail, the status with its sense data follows here.
            let ends_burst = (*offset + end).is_multiple_of(params.max_burst_bytes);
            DataIn {
                is_final: pdu.ends_item || ends_burst,
                status,
                itt: *itt,
                data_sn: data_sn.plus(before.pdus),
                offset: *offset + before.at,
            }
            .encode()
        }
    };
    if consumes {
        pdu.after.stat_sn = before.stat_sn.plus(1);
    }
    if pdu.ends_item {
        pdu.after.at = 0;
        pdu.after.pdus = 0;
    }
    // The answer itself says that there is room for another command.
    let max = window.max_after(freed + u32::from(pdu.frees));
    wire::stamp(&mut bhs, stat_sn, window.expected(), max);

    // RFC 7143 §11.4.7.2: sense data stand behind their length.
    let sense_segment_bytes = if sense_bytes == 0 { 0 } else { sense_bytes + 2 };
    let segment = data.len() + sense_segment_bytes;
    bhs.set_data_bytes(to_u32(segment));
    pdu.put(&bhs.0);
    if params.header_digest {
        pdu.put(&wire::crc32c(&[&bhs.0]));
    }
    if segment == 0 {
        return;
    }
    const ZEROES: [u8; 3] = [0; 3];
    let padding = &ZEROES[..wire::padding_bytes(segment)];
    pdu.tail = [0; 8];
    if sense_bytes > 0 {
        let from = pdu.head_bytes;
        pdu.put(&[0, sense_bytes.to_le_bytes()[0]]);
        pdu.put(&sense[..sense_bytes]);
        pdu.put(padding);
        if params.data_digest {
            let digest = wire::crc32c(&[&pdu.head[from..pdu.head_bytes]]);
            pdu.put(&digest);
        }
        return;
    }
    let from = if matches!(item, TxItem::DataIn { .. }) { before.at } else { 0 };
    pdu.data = Some((key, from, to_u32(segment)));
    pdu.tail_bytes = padding.len();
    if params.data_digest {
        let end = padding.len() + wire::DIGEST_BYTES;
        pdu.tail[padding.len()..end].copy_from_slice(&wire::crc32c(&[data, padding]));
        pdu.tail_bytes = end;
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

/// A length that is known to be under 2^24.
pub(super) fn to_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
