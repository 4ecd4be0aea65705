//! Commands of the NVM command set, and how any command's data are found.

use super::device::{Device, Mishap};
use super::fault::Fault;
use super::rings::{Flying, cid};
use crate::bdev::nvme::spec::identify::oncs;
use crate::bdev::nvme::spec::{AD, Entry, FUA, PRACT, nvm};
use crate::sim::rng::Rng;

/// Status: code type and code, without the phase.
pub(super) const OK: u16 = 0;
pub(super) const INVALID_OPCODE: u16 = 0x001;
pub(super) const INVALID_FIELD: u16 = 0x002;
const DATA_TRANSFER_ERROR: u16 = 0x004;
pub(super) const ABORTED: u16 = 0x007;
pub(super) const DELETED: u16 = 0x008;
const FUSED_FAILED: u16 = 0x009;
const FUSED_MISSING: u16 = 0x00A;
pub(super) const INVALID_NAMESPACE: u16 = 0x00B;
pub(super) const SEQUENCE_ERROR: u16 = 0x00C;
pub(super) const INVALID_PRP: u16 = 0x013;
const WRITE_PROTECTED: u16 = 0x020;
const OUT_OF_RANGE: u16 = 0x080;
const COMMAND_SIZE: u16 = 0x183;
const WRITE_FAULT: u16 = 0x280;
const UNRECOVERED_READ: u16 = 0x281;
const GUARD: u64 = 0x282;
const REFERENCE_TAG: u16 = 0x284;
const MISCOMPARE: u16 = 0x285;
/// The error log has more.
const MORE: u16 = 1 << 13;

/// A piece of memory, as the device sees it.
type Segment = (u64, usize);

/// First block and how many, of commands that have an extent.
pub(super) fn extent(entry: &Entry) -> (u64, u32) {
    (u64::from(entry[10]) | u64::from(entry[11]) << 32, (entry[12] & 0xFFFF) + 1)
}

impl Device {
    /// Carries a command out: what is to be posted; none where that comes later.
    pub(super) fn carry_out(&mut self, command: &Flying, rng: &mut Rng) -> Option<Vec<(u16, u16, u64)>> {
        let first = cid(&command.entry);
        self.current = command.sq;
        if command.sq == 0 {
            let (status, result) = self.administer(&command.entry, rng)?;
            return Some(vec![(first, status, result)]);
        }
        let mut done = vec![(first, OK, 0)];
        match &command.second {
            None if command.entry[0] >> 8 & 3 != 0 => done[0].1 = FUSED_MISSING,
            None => done[0].1 = self.io(&command.entry, rng),
            Some(second) => {
                let (compare, write) = self.fused(&command.entry, second, rng);
                done[0].1 = compare;
                done.push((cid(second), write, 0));
            }
        }
        Some(done)
    }

    fn fused(&mut self, first: &Entry, second: &Entry, rng: &mut Rng) -> (u16, u16) {
        let opcodes = (first[0] as u8, second[0] as u8);
        let is_pair = opcodes == (nvm::COMPARE, nvm::WRITE) && second[0] >> 8 & 3 == 2;
        if !is_pair || !self.config.can_fuse || first[1] != second[1] || extent(first) != extent(second) {
            self.overstepped("a fused operation that is none".to_owned());
            return (INVALID_FIELD, INVALID_FIELD);
        }
        match self.io(first, rng) {
            OK => (OK, self.io(second, rng)),
            status => (status, FUSED_FAILED),
        }
    }

    /// One command: its status.
    fn io(&mut self, entry: &Entry, rng: &mut Rng) -> u16 {
        let opcode = entry[0] as u8;
        let needed = match opcode {
            nvm::COMPARE => oncs::COMPARE,
            nvm::WRITE_UNCORRECTABLE => oncs::WRITE_UNCORRECTABLE,
            nvm::DATASET_MANAGEMENT => oncs::DATASET_MANAGEMENT,
            nvm::WRITE_ZEROES => oncs::WRITE_ZEROES,
            nvm::VERIFY => oncs::VERIFY,
            nvm::COPY => oncs::COPY,
            nvm::FLUSH | nvm::READ | nvm::WRITE => 0,
            _ => u16::MAX,
        };
        if self.config.oncs & needed != needed {
            self.overstepped(format!("opcode {opcode:#x} is not among what Identify tells"));
            return INVALID_OPCODE;
        }
        if self.faults.strikes(Fault::AnyStatus, rng) {
            if opcode == nvm::WRITE && rng.one_in(2) {
                self.store(entry, false);
            }
            return 1 + rng.below(0x7FE) as u16;
        }
        if opcode == nvm::FLUSH {
            return self.flush(entry[1]);
        }
        let Some(medium) = self.media.get(&entry[1]) else { return INVALID_NAMESPACE };
        if opcode == nvm::DATASET_MANAGEMENT {
            return self.deallocate(entry);
        }
        if opcode == nvm::COPY {
            return self.copy(entry);
        }
        let (lba, blocks) = extent(entry);
        if !medium.has(lba, u64::from(blocks)) {
            return OUT_OF_RANGE;
        }
        if medium.is_read_only && matches!(opcode, nvm::WRITE | nvm::WRITE_ZEROES | nvm::WRITE_UNCORRECTABLE)
        {
            return WRITE_PROTECTED;
        }
        let moves_data = matches!(opcode, nvm::READ | nvm::WRITE | nvm::COMPARE);
        if moves_data && medium.protection != 0 {
            if entry[12] & PRACT == 0 {
                return INVALID_FIELD;
            }
            // PRCHK bit 0 of type 1: the reference tag is the block's number.
            if medium.protection == 1 && entry[12] & 1 << 26 != 0 && entry[14] != lba as u32 {
                return REFERENCE_TAG;
            }
        }
        let limit = match opcode {
            nvm::WRITE_ZEROES => self.config.zeroes_max,
            nvm::VERIFY => self.config.verify_max,
            nvm::WRITE_UNCORRECTABLE => self.config.uncorrectable_max,
            _ if moves_data => self.config.mdts,
            _ => 0,
        };
        if limit != 0 && blocks as usize * medium.block_bytes > 4096 << limit {
            self.overstepped(format!("opcode {opcode:#x} of {blocks} blocks is more than Identify allows"));
            return INVALID_FIELD;
        }
        if moves_data && let Some(status) = self.mishap(entry, rng) {
            return status;
        }
        match opcode {
            nvm::READ => self.load(entry),
            nvm::WRITE => self.store(entry, entry[12] & FUA != 0),
            nvm::COMPARE => self.compare(entry),
            nvm::WRITE_ZEROES => self.zero(entry[1], lba, u64::from(blocks), entry[12] & FUA != 0),
            _ => self.without_data(entry),
        }
    }

    /// An error of medium or protection information, where one is due: a part of a write may be done.
    fn mishap(&mut self, entry: &Entry, rng: &mut Rng) -> Option<u16> {
        let is_write = entry[0] as u8 == nvm::WRITE;
        let (lba, blocks) = extent(entry);
        let status = if self.faults.strikes(Fault::Media, rng) {
            let status = MORE | if is_write { WRITE_FAULT } else { UNRECOVERED_READ };
            let lba = lba + rng.below(u64::from(blocks));
            self.log_mishap(entry, status, lba);
            status
        } else if self.faults.strikes(Fault::MediaWithoutLog, rng) {
            if is_write { WRITE_FAULT } else { UNRECOVERED_READ }
        } else if self.faults.strikes(Fault::Protection, rng) {
            (GUARD + rng.below(3)) as u16
        } else {
            return None;
        };
        if is_write && rng.one_in(2) {
            self.store(entry, false);
        }
        Some(status)
    }

    fn log_mishap(&mut self, entry: &Entry, status: u16, lba: u64) {
        self.mishap_count += 1;
        self.mishaps.insert(0, Mishap { sq: self.current, cid: cid(entry), status, lba, nsid: entry[1] });
        self.mishaps.truncate(16);
    }

    fn flush(&mut self, nsid: u32) -> u16 {
        if nsid == u32::MAX {
            self.media.values_mut().for_each(super::Medium::flush);
            return OK;
        }
        self.media.get_mut(&nsid).map_or(INVALID_NAMESPACE, |medium| {
            medium.flush();
            OK
        })
    }

    /// Bytes of the extent's data.
    fn data_bytes(&self, entry: &Entry) -> usize {
        self.media.get(&entry[1]).map_or(0, |medium| extent(entry).1 as usize * medium.block_bytes)
    }

    fn load(&mut self, entry: &Entry) -> u16 {
        let (lba, blocks) = extent(entry);
        let Some(medium) = self.media.get(&entry[1]) else { return INVALID_NAMESPACE };
        if let Some(bad) = medium.first_bad(lba, u64::from(blocks)) {
            self.log_mishap(entry, UNRECOVERED_READ, bad);
            return MORE | UNRECOVERED_READ;
        }
        let data: Vec<u8> = (lba..lba + u64::from(blocks)).flat_map(|lba| medium.block(lba)).collect();
        self.put(entry, &data)
    }

    fn store(&mut self, entry: &Entry, is_durable: bool) -> u16 {
        let Some(data) = self.take(entry, self.data_bytes(entry)) else { return DATA_TRANSFER_ERROR };
        let is_durable = is_durable || !self.config.has_write_cache;
        let (lba, blocks) = extent(entry);
        let Some(medium) = self.media.get_mut(&entry[1]) else { return INVALID_NAMESPACE };
        if !medium.has(lba, u64::from(blocks)) {
            return OUT_OF_RANGE;
        }
        for (lba, block) in (lba..).zip(data.chunks_exact(medium.block_bytes)) {
            medium.write(lba, block, is_durable);
        }
        OK
    }

    fn compare(&mut self, entry: &Entry) -> u16 {
        let Some(data) = self.take(entry, self.data_bytes(entry)) else { return DATA_TRANSFER_ERROR };
        let (lba, blocks) = extent(entry);
        let Some(medium) = self.media.get(&entry[1]) else { return INVALID_NAMESPACE };
        if medium.first_bad(lba, u64::from(blocks)).is_some() {
            return UNRECOVERED_READ;
        }
        let blocks = (lba..).zip(data.chunks_exact(medium.block_bytes));
        let is_equal = blocks.into_iter().all(|(lba, block)| *medium.block(lba) == *block);
        if is_equal { OK } else { MISCOMPARE }
    }

    fn zero(&mut self, nsid: u32, lba: u64, blocks: u64, is_durable: bool) -> u16 {
        let is_durable = is_durable || !self.config.has_write_cache;
        let Some(medium) = self.media.get_mut(&nsid) else { return INVALID_NAMESPACE };
        let zeroes = vec![0; medium.block_bytes];
        for lba in lba..lba + blocks {
            medium.write(lba, &zeroes, is_durable);
        }
        OK
    }

    /// VERIFY and WRITE UNCORRECTABLE.
    fn without_data(&mut self, entry: &Entry) -> u16 {
        let (lba, blocks) = extent(entry);
        let Some(medium) = self.media.get_mut(&entry[1]) else { return INVALID_NAMESPACE };
        if entry[0] as u8 == nvm::VERIFY {
            return medium.first_bad(lba, u64::from(blocks)).map_or(OK, |_| UNRECOVERED_READ);
        }
        (lba..lba + u64::from(blocks)).for_each(|lba| medium.spoil(lba));
        OK
    }

    /// COPY (NVM §3.2.2), of ranges in descriptor format 0. What it says it may cover it does as one.
    fn copy(&mut self, entry: &Entry) -> u16 {
        let (range_max, copy_max, ranges_max) = self.config.copy_max;
        let count = (entry[12] as usize & 0xFF) + 1;
        if count > usize::from(ranges_max) + 1 || entry[12] >> 8 & 0xF != 0 {
            self.overstepped(format!("a copy of {count} ranges, word 12 is {:#x}", entry[12]));
            return COMMAND_SIZE;
        }
        let Some(ranges) = self.take(entry, count * 32) else { return DATA_TRANSFER_ERROR };
        let source = |range: &[u8; 32]| {
            let low = u64::from(u32::from_le_bytes([range[8], range[9], range[10], range[11]]));
            let high = u64::from(u32::from_le_bytes([range[12], range[13], range[14], range[15]]));
            (low | high << 32, u64::from(u16::from_le_bytes([range[16], range[17]])) + 1)
        };
        let sources: Vec<(u64, u64)> = ranges.as_chunks::<32>().0.iter().map(source).collect();
        let all = sources.iter().map(|(_, blocks)| blocks).sum();
        if sources.iter().any(|(_, blocks)| *blocks > u64::from(range_max)) || all > u64::from(copy_max) {
            self.overstepped(format!("a copy of {all} blocks is more than Identify allows"));
            return COMMAND_SIZE;
        }
        let is_durable = entry[12] & FUA != 0 || !self.config.has_write_cache;
        let Some(medium) = self.media.get_mut(&entry[1]) else { return INVALID_NAMESPACE };
        let (lba, _) = extent(entry);
        if !medium.has(lba, all) || !sources.iter().all(|(from, blocks)| medium.has(*from, *blocks)) {
            return OUT_OF_RANGE;
        }
        if medium.is_read_only {
            return WRITE_PROTECTED;
        }
        if sources.iter().any(|(from, blocks)| medium.first_bad(*from, *blocks).is_some()) {
            return UNRECOVERED_READ;
        }
        let from = sources.iter().flat_map(|(from, blocks)| *from..from + blocks);
        for (lba, block) in (lba..).zip(from.map(|from| medium.block(from)).collect::<Vec<_>>()) {
            medium.write(lba, &block, is_durable);
        }
        OK
    }

    /// DATASET MANAGEMENT (NVM §3.2.3): deallocated blocks read as zeroes here.
    fn deallocate(&mut self, entry: &Entry) -> u16 {
        let count = (entry[10] as usize & 0xFF) + 1;
        let Some(ranges) = self.take(entry, count * 16) else { return DATA_TRANSFER_ERROR };
        for range in ranges.as_chunks::<16>().0 {
            let [_, blocks, low, high] = [0, 4, 8, 12]
                .map(|at| u32::from_le_bytes([range[at], range[at + 1], range[at + 2], range[at + 3]]));
            if (1..blocks).contains(&self.config.unmap_blocks_max) {
                self.overstepped(format!("a range of {blocks} blocks is more than Identify allows"));
                return INVALID_FIELD;
            }
            let (lba, blocks) = (u64::from(low) | u64::from(high) << 32, u64::from(blocks));
            let Some(medium) = self.media.get(&entry[1]) else { return INVALID_NAMESPACE };
            if !medium.has(lba, blocks) {
                return OUT_OF_RANGE;
            }
            if medium.is_read_only {
                return WRITE_PROTECTED;
            }
            if entry[11] & AD != 0 {
                self.zero(entry[1], lba, blocks, false);
            }
        }
        OK
    }

    /// The data pointer's segments (Base §4.1.1), none where it is not what the specification allows.
    fn segments(&mut self, entry: &Entry, bytes: usize) -> Option<Vec<Segment>> {
        let page = self.page_bytes();
        let word = |at: usize| u64::from(entry[at]) | u64::from(entry[at + 1]) << 32;
        let (first, second) = (word(6), word(8));
        if entry[0] >> 14 & 3 != 0 {
            self.dma.violation("scatter-gather lists are not supported here".to_owned());
            return None;
        }
        if first % 4 != 0 {
            self.dma.violation(format!("PRP1 {first:#x} is not aligned"));
            return None;
        }
        let in_first = usize::try_from(page - first % page).ok()?.min(bytes);
        let mut segments = vec![(first, in_first)];
        let mut left = bytes - in_first;
        let whole = usize::try_from(page).ok()?;
        if left == 0 {
            return Some(segments);
        }
        if left <= whole {
            if second % page != 0 {
                self.dma.violation(format!("PRP2 {second:#x} is not a page"));
                return None;
            }
            segments.push((second, left));
            return Some(segments);
        }
        let mut at = second;
        if at % 8 != 0 {
            self.dma.violation(format!("PRP list {second:#x} is not aligned"));
            return None;
        }
        while left > 0 {
            let mut bytes = [0; 8];
            if !self.dma.read(at, &mut bytes, "PRP list") {
                return None;
            }
            let pointer = u64::from_le_bytes(bytes);
            if pointer % page != 0 {
                self.dma.violation(format!("entry {pointer:#x} of a PRP list is not a page"));
                return None;
            }
            // The last entry of a list's page leads to its next page where more than one is to come.
            if (at + 8) % page == 0 && left > whole {
                at = pointer;
                continue;
            }
            segments.push((pointer, left.min(whole)));
            left -= left.min(whole);
            at += 8;
        }
        Some(segments)
    }

    /// Data of the driver.
    pub(super) fn take(&mut self, entry: &Entry, bytes: usize) -> Option<Vec<u8>> {
        let mut data = vec![0; bytes];
        let mut at = 0;
        for (address, length) in self.segments(entry, bytes)? {
            if !self.dma.read(address, &mut data[at..at + length], "data") {
                return None;
            }
            at += length;
        }
        Some(data)
    }

    /// Data for the driver: status.
    pub(super) fn put(&mut self, entry: &Entry, data: &[u8]) -> u16 {
        let Some(segments) = self.segments(entry, data.len()) else { return DATA_TRANSFER_ERROR };
        let mut at = 0;
        for (address, length) in segments {
            if !self.dma.write(address, &data[at..at + length], "data") {
                return DATA_TRANSFER_ERROR;
            }
            at += length;
        }
        OK
    }
}
