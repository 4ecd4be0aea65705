//! The flight recorder of a connection: the headers of its last PDUs in full feature phase, both ways, as they were received
//! and sent (RFC 7143 §11.2.1: 48 bytes each).
//!
//! It is always on, so it costs a copy of a header and two words, and asks nothing. It has no data segments and nothing of
//! the login, which control has: no secret is in it, and nobody's data.

use std::fmt;

use crate::iscsi::wire::BHS_BYTES;
use crate::limits::RECORDED_PDUS;
use crate::time::Tick;

/// Which way a PDU went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From the initiator.
    Received,
    /// To the initiator.
    Sent,
}

/// The header of a PDU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(64))]
pub struct Recorded {
    /// The header itself.
    pub header: [u8; BHS_BYTES],
    /// The turn in which it was complete, or in which the socket took the first byte of it.
    pub at: Tick,
    /// Which way it went.
    pub way: Way,
}

const _: () = assert!(size_of::<Recorded>() == 64 && RECORDED_PDUS.is_power_of_two());

struct Ring {
    slots: [Recorded; RECORDED_PDUS],
    /// How many were recorded in all.
    count: usize,
}

/// The last [`RECORDED_PDUS`] headers of one connection.
pub struct Recorder(Box<Ring>);

impl Recorder {
    /// An empty one. Allocates.
    pub fn new() -> Recorder {
        let blank = Recorded { header: [0; BHS_BYTES], at: Tick::ZERO, way: Way::Received };
        Recorder(Box::new(Ring { slots: [blank; RECORDED_PDUS], count: 0 }))
    }

    /// A header is there.
    #[inline(always)]
    pub fn received(&mut self, header: &[u8; BHS_BYTES], now: Tick) {
        self.record(header, Way::Received, now);
    }

    /// A PDU with this header is on its way.
    #[inline(always)]
    pub fn sent(&mut self, header: &[u8; BHS_BYTES], now: Tick) {
        self.record(header, Way::Sent, now);
    }

    #[inline(always)]
    fn record(&mut self, header: &[u8; BHS_BYTES], way: Way, now: Tick) {
        let ring = &mut *self.0;
        let slot = &mut ring.slots[ring.count % RECORDED_PDUS];
        slot.header = *header;
        slot.at = now;
        slot.way = way;
        ring.count = ring.count.wrapping_add(1);
    }

    /// Takes over what another one has.
    pub fn copy_from(&mut self, other: &Recorder) {
        self.0.slots = other.0.slots;
        self.0.count = other.0.count;
    }

    /// What was recorded, oldest first.
    pub fn pdus(&self) -> impl Iterator<Item = &Recorded> {
        let Ring { slots, count } = &*self.0;
        let (newer, older) = slots.split_at(count % RECORDED_PDUS);
        let older = if *count < RECORDED_PDUS { &[][..] } else { older };
        older.iter().chain(newer)
    }

    /// How many were recorded before those.
    pub fn lost_count(&self) -> usize {
        self.0.count.saturating_sub(RECORDED_PDUS)
    }
}

impl Default for Recorder {
    fn default() -> Recorder {
        Recorder::new()
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("count", &self.0.count).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(recorder: &Recorder) -> Vec<u8> {
        recorder.pdus().map(|pdu| pdu.header[0]).collect()
    }

    #[test]
    fn the_last_ones_are_kept_in_their_order() {
        let mut recorder = Recorder::new();
        assert!(numbers(&recorder).is_empty());
        for number in 1..=200u8 {
            let (header, now) = ([number; BHS_BYTES], Tick::from_ns(u64::from(number)));
            if number % 2 == 0 {
                recorder.sent(&header, now);
            } else {
                recorder.received(&header, now);
            }
            if number == 3 {
                assert_eq!(numbers(&recorder), [1, 2, 3]);
                assert_eq!(recorder.lost_count(), 0);
            }
        }
        assert_eq!(numbers(&recorder), (73..=200).collect::<Vec<u8>>());
        assert_eq!(recorder.lost_count(), 72);
        let last = recorder.pdus().last().unwrap();
        let expected = Recorded { header: [200; BHS_BYTES], at: Tick::from_ns(200), way: Way::Sent };
        assert_eq!(*last, expected);
        let mut copy = Recorder::new();
        copy.copy_from(&recorder);
        assert!(copy.pdus().eq(recorder.pdus()));
    }
}
