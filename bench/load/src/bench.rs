//! What all connections of a run share: targets to aim at, templates, buffers, counts.

use hdrhistogram::Histogram;
use lunette_initiator::pdu::request::ScsiCommand;
use lunette_initiator::scsi::cdb;
use lunette_initiator::{lun, pdu};

use crate::aim::{Aim, Unit, mix};
use crate::clock::{Clock, SECOND_NS};
use crate::ledger::Ledger;

/// Bytes taken from a socket at once.
pub const RECEIVE_BYTES: usize = 256 << 10;
/// What a connection may have left over from the receive before, at most: one PDU that has to be seen whole.
pub const PARTIAL_BYTES_MAX: usize = (256 << 10) + 1024;
/// Troubles that are kept in words; more are only counted.
const TROUBLES_MAX: usize = 10;
/// Latencies above are counted as this.
const LATENCY_NS_MAX: u64 = 120 * SECOND_NS;

/// Headers of a logical unit's commands, complete but for ITT, CmdSN, ExpStatSN, LBA and DataSegmentLength.
#[derive(Debug, Clone, Copy)]
pub struct Templates {
    /// Reads.
    pub read: [u8; 48],
    /// Writes.
    pub write: [u8; 48],
    /// The LBA has 32 bits.
    pub is_small: bool,
}

impl Templates {
    fn new(unit: &Unit, io_bytes: u32) -> Self {
        let flags = cdb::Flags::default();
        let (read, write) = match u16::try_from(unit.io_blocks) {
            Ok(blocks) if unit.is_small() => {
                (cdb::read_10(0, blocks, flags), cdb::write_10(0, blocks, flags))
            }
            _ => (cdb::read_16(0, unit.io_blocks, flags), cdb::write_16(0, unit.io_blocks, flags)),
        };
        let command = ScsiCommand {
            final_bit: true,
            attributes: 1,
            lun: lun::from_number(unit.number),
            expected_bytes: io_bytes,
            ..ScsiCommand::default()
        };
        Self {
            read: ScsiCommand { read: true, cdb: read, ..command }.bhs().0,
            write: ScsiCommand { write: true, cdb: write, ..command }.bhs().0,
            is_small: unit.is_small(),
        }
    }
}

/// When IOs are to begin in an open loop: one after the other, connection by connection.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// When the first begins.
    pub origin_ns: u64,
    /// Time from one to the next.
    pub interval_ns: f64,
    /// Connections that take turns.
    pub connections: u64,
}

impl Pace {
    /// When the `n`th of all IOs is to begin.
    #[must_use]
    pub fn due_ns(&self, n: u64) -> u64 {
        self.origin_ns + (n as f64 * self.interval_ns) as u64
    }
}

/// Shared by all connections.
#[derive(Debug)]
pub struct Bench {
    /// Chooses blocks.
    pub aim: Aim,
    /// Of each logical unit.
    pub templates: Vec<Templates>,
    /// Bytes of one IO.
    pub io_bytes: u32,
    /// IOs in flight per connection.
    pub depth: u32,
    /// What writes carry when nobody verifies.
    pub payload: Box<[u8]>,
    /// Its last CRC32C: first byte, bytes, value.
    pub payload_digest: (usize, usize, u32),
    /// What places hold, when somebody does.
    pub ledger: Option<Ledger>,
    /// Where bytes are received.
    pub staging: Box<[u8]>,
    /// The time.
    pub clock: Clock,
    /// The time when something was last received, or the turn began.
    pub now_ns: u64,
    /// Open loop.
    pub pace: Option<Pace>,
    /// New IOs begin.
    pub is_running: bool,
    /// Counts.
    pub tally: Tally,
}

impl Bench {
    /// For these units.
    #[must_use]
    pub fn new(aim: Aim, io_bytes: u32, depth: u32, ledger: Option<Ledger>, clock: Clock) -> Self {
        // Neither zeros, which somebody on the way may treat in a special way, nor a pattern of the ledger's.
        let payload = (0..u64::from(io_bytes) / 8).flat_map(|index| mix(index + 1).to_be_bytes()).collect();
        Self {
            templates: aim.units.iter().map(|unit| Templates::new(unit, io_bytes)).collect(),
            aim,
            io_bytes,
            depth,
            payload,
            payload_digest: (0, 0, 0),
            ledger,
            staging: vec![0; PARTIAL_BYTES_MAX + RECEIVE_BYTES].into_boxed_slice(),
            clock,
            now_ns: 0,
            pace: None,
            is_running: true,
            tally: Tally::new(),
        }
    }

    /// Reads the clock.
    pub fn tick(&mut self) -> u64 {
        self.now_ns = self.clock.now_ns();
        self.now_ns
    }

    /// CRC32C of a part of the payload; the last one is remembered, as all writes are alike.
    pub fn payload_crc(&mut self, start: usize, bytes: usize) -> u32 {
        let (known_start, known_bytes, value) = self.payload_digest;
        if (known_start, known_bytes) == (start, bytes) {
            return value;
        }
        let value = pdu::crc32c(&self.payload[start..start + bytes]);
        self.payload_digest = (start, bytes, value);
        value
    }
}

/// What has happened.
#[derive(Debug)]
pub struct Tally {
    /// The window that counts has begun and not ended.
    pub is_measuring: bool,
    /// IOs that ended well in it.
    pub ios: u64,
    /// IOs that ended well, all of them: for progress.
    pub ios_ever: u64,
    /// What went wrong at any time.
    pub errors: u64,
    /// Reads that brought something else than was written.
    pub verify_errors: u64,
    /// Reads of places that this run had not written, to no known pattern.
    pub unchecked: u64,
    /// IOs sent again after a unit attention, BUSY or TASK SET FULL.
    pub retries: u64,
    /// The first troubles, in words.
    pub troubles: Vec<String>,
    latencies: Histogram<u64>,
    /// A latency that comes again and again within a batch, and how often.
    same: (u64, u64),
}

impl Tally {
    fn new() -> Self {
        // Three digits, from 1 ns to two minutes.
        let latencies = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3);
        Self {
            is_measuring: false,
            ios: 0,
            ios_ever: 0,
            errors: 0,
            verify_errors: 0,
            unchecked: 0,
            retries: 0,
            troubles: Vec::new(),
            latencies: latencies.expect("the bounds are in order and three digits are few"),
            same: (0, 0),
        }
    }

    /// An IO ended well.
    #[inline]
    pub fn done(&mut self, latency_ns: u64) {
        self.ios_ever += 1;
        if !self.is_measuring {
            return;
        }
        self.ios += 1;
        if self.same.0 == latency_ns {
            self.same.1 += 1;
        } else {
            self.settle();
            self.same = (latency_ns, 1);
        }
    }

    fn settle(&mut self) {
        let (latency_ns, count) = std::mem::take(&mut self.same);
        if count > 0 {
            self.latencies.saturating_record_n(latency_ns.max(1), count);
        }
    }

    /// All latencies.
    pub fn latencies(&mut self) -> &Histogram<u64> {
        self.settle();
        &self.latencies
    }

    /// Something went wrong.
    pub fn trouble(&mut self, what: impl FnOnce() -> String) {
        self.errors += 1;
        self.note(what);
    }

    /// A read brought something wrong.
    pub fn verify_trouble(&mut self, what: impl FnOnce() -> String) {
        self.verify_errors += 1;
        self.note(what);
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if self.troubles.len() < TROUBLES_MAX {
            self.troubles.push(what());
        }
    }
}

#[cfg(test)]
mod tests {
    use lunette_initiator::scsi::Capacity;

    use super::*;

    fn templates(count_blocks: u64) -> Templates {
        let unit = Unit::new(300, Capacity { count_blocks, block_bytes: 512 }, 4096, None).unwrap();
        Templates::new(&unit, 4096)
    }

    #[test]
    fn templates_are_whole_commands() {
        let small = templates(1 << 20);
        let mut read = [0; 48];
        read[..2].copy_from_slice(&[0x01, 0xc1]);
        read[8..10].copy_from_slice(&[0x41, 0x2c]);
        read[22] = 0x10;
        read[32] = 0x28;
        read[40] = 8;
        assert_eq!((small.read, small.is_small), (read, true));
        read[1] = 0xa1;
        read[32] = 0x2a;
        assert_eq!(small.write, read);
        let large = templates((1 << 32) + 8);
        assert_eq!((large.read[32], large.read[45], large.is_small), (0x88, 8, false));
        assert_eq!(large.write[32], 0x8a);
    }

    #[test]
    fn only_the_window_counts_and_runs_of_a_latency_are_one_entry() {
        let mut tally = Tally::new();
        tally.done(5);
        tally.is_measuring = true;
        [1000, 1000, 3000].into_iter().for_each(|latency| tally.done(latency));
        assert_eq!((tally.ios, tally.ios_ever), (3, 4));
        assert_eq!((tally.latencies().len(), tally.latencies().min()), (3, 1000));
        tally.done(u64::MAX);
        assert!(tally.latencies().max() >= LATENCY_NS_MAX);
    }

    #[test]
    fn an_open_loop_keeps_its_pace() {
        let pace = Pace { origin_ns: 100, interval_ns: 2.5, connections: 2 };
        assert_eq!([0, 1, 4].map(|n| pace.due_ns(n)), [100, 102, 110]);
    }
}
