//! A controller of our own behind [`Bus`], for tests: registers, queues, namespaces and every way to fail.
//!
//! It has no thread and no clock. It moves when [`Mock::step`] is called, in an order decided by the caller's generator; or, where
//! [`Config::is_immediate`] says so, whenever a register is written. What a driver must never do (touch what is not mapped
//! or was taken back, exceed what Identify allows, use a command id twice) is a violation, which tests ask for.
//!
//! [`blank`] is another one, for figures: it copies no data and is as cheap as can be.
#![expect(
    clippy::cast_possible_truncation,
    clippy::disallowed_types,
    reason = "a device cuts words into fields; and it is shared as a real one is, by whoever holds its bus"
)]

mod admin;
pub(crate) mod blank;
mod device;
mod dma;
mod fault;
mod identify;
mod medium;
mod nvm;
mod rings;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use self::device::Device;
pub(crate) use self::fault::Fault;
pub(crate) use self::medium::Medium;
use super::bus::{Bus, Mapping};
use super::spec::identify::oncs;
use crate::sim::rng::Rng;

/// What a mock controller is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Config {
    /// Of an IO queue, at most: 2 to 65536.
    pub(crate) entries_max: u32,
    /// CAP.DSTRD.
    pub(crate) doorbell_stride: u32,
    /// Pairs of IO queues it has.
    pub(crate) queues_max: u16,
    /// MDTS; 0: no limit.
    pub(crate) mdts: u8,
    /// WZSL: as MDTS, for WRITE ZEROES; 0: no limit.
    pub(crate) zeroes_max: u8,
    /// VSL: as MDTS, for VERIFY; 0: no limit.
    pub(crate) verify_max: u8,
    /// WUSL: as MDTS, for WRITE UNCORRECTABLE; 0: no limit.
    pub(crate) uncorrectable_max: u8,
    /// DMRSL: blocks of a range of DATASET MANAGEMENT; 0: no limit.
    pub(crate) unmap_blocks_max: u32,
    /// ONCS.
    pub(crate) oncs: u16,
    /// MSSRL, MCL, MSRC of every namespace: what a COPY may cover.
    pub(crate) copy_max: (u16, u32, u8),
    /// It has a volatile write cache, and Identify says so.
    pub(crate) has_write_cache: bool,
    /// Compare and write can be fused.
    pub(crate) can_fuse: bool,
    /// AWUPF, as Identify tells it: one less than the blocks that a write stores as a whole at a power failure.
    pub(crate) power_fail_atomics: u16,
    /// NABSPF, likewise: where that ends.
    pub(crate) power_fail_boundary: u16,
    /// It takes FORMAT NVM, and this is its FNA.
    pub(crate) format: Option<u8>,
    /// NN: the largest namespace number.
    pub(crate) namespaces_max: u32,
    /// It takes DOORBELL BUFFER CONFIG.
    pub(crate) has_shadow_doorbells: bool,
    /// There is no IOMMU: mappings are in pieces of 2 MiB, and taking one back stops nobody.
    pub(crate) is_scattered: bool,
    /// It does all there is to do when a register is written.
    pub(crate) is_immediate: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            entries_max: 64,
            doorbell_stride: 0,
            queues_max: 8,
            mdts: 5,
            zeroes_max: 0,
            verify_max: 0,
            uncorrectable_max: 0,
            unmap_blocks_max: 0,
            oncs: oncs::COMPARE
                | oncs::WRITE_UNCORRECTABLE
                | oncs::DATASET_MANAGEMENT
                | oncs::WRITE_ZEROES
                | oncs::VERIFY
                | oncs::COPY,
            copy_max: (8, 16, 3),
            has_write_cache: true,
            can_fuse: true,
            power_fail_atomics: 0,
            power_fail_boundary: 0,
            format: None,
            namespaces_max: 32,
            has_shadow_doorbells: false,
            is_scattered: false,
            is_immediate: false,
        }
    }
}

/// What the controller has done, for oracles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Note {
    /// It has taken a command from an IO queue.
    Taken {
        /// Its opcode.
        opcode: u8,
        /// Which half of a fused operation it is, or 0.
        fuse: u8,
        /// Its namespace.
        nsid: u32,
        /// Its first block.
        lba: u64,
        /// How many.
        blocks: u32,
        /// Of a WRITE: the first eight bytes of its data.
        stamp: Option<u64>,
    },
    /// It has enabled itself.
    Enabled,
}

/// A mock controller. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Mock {
    device: Arc<Mutex<Device>>,
    /// Who calls [`Mock::step`], where it wants to be woken when a register is written.
    server: Arc<OnceLock<Thread>>,
}

impl Mock {
    /// Without namespaces. `seed` decides what it does in immediate mode, and nothing else.
    pub(crate) fn new(config: Config, seed: u64) -> Mock {
        Mock { device: Arc::new(Mutex::new(Device::new(config, Rng::new(seed)))), server: Arc::default() }
    }

    /// From now on this thread is woken when a register is written.
    pub(crate) fn wakes(&self, server: Thread) {
        // The first one stays: there is none other.
        let _ = self.server.set(server);
    }

    fn lock(&self) -> MutexGuard<'_, Device> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes some commands, carries some out, completes some. False where there was nothing to do.
    pub(crate) fn step(&self, rng: &mut Rng) -> bool {
        self.lock().step(rng)
    }

    /// Adds a namespace, or replaces it.
    pub(crate) fn attach(&self, nsid: u32, medium: Medium) {
        self.lock().change(nsid, Some(medium));
    }

    /// Takes a namespace away.
    pub(crate) fn detach(&self, nsid: u32) {
        self.lock().change(nsid, None);
    }

    /// Sets a namespace's size.
    pub(crate) fn resize(&self, nsid: u32, blocks: u64) {
        let mut device = self.lock();
        if let Some(mut medium) = device.media.get(&nsid).cloned() {
            medium.blocks = blocks;
            device.change(nsid, Some(medium));
        }
    }

    /// What a block of a namespace holds; none where there is no such namespace.
    #[cfg(test)]
    pub(crate) fn block(&self, nsid: u32, lba: u64) -> Option<Box<[u8]>> {
        self.lock().media.get(&nsid).map(|medium| medium.block(lba))
    }

    /// Switches a fault on: it happens at one in so many opportunities.
    pub(crate) fn misbehave(&self, fault: Fault, one_in: u64) {
        self.lock().faults.set(fault, one_in);
    }

    /// This byte of what Identify answers is another from now on.
    pub(crate) fn garble(&self, at: usize, byte: u8) {
        let device = &mut *self.lock();
        device.has_lied = true;
        device.garbled.push((at, byte));
    }

    /// Identify tells the truth again.
    pub(crate) fn ungarble(&self) {
        self.lock().garbled.clear();
    }

    /// Posts a completion, phase aside, in this completion queue, where there is one.
    pub(crate) fn forge(&self, cq: u16, words: [u32; 4]) {
        self.lock().forge(cq, words);
    }

    /// Switches all faults off. What they have led to stays.
    pub(crate) fn behave(&self) {
        self.lock().faults.clear();
    }

    /// Faults that have happened so far.
    pub(crate) fn struck(&self) -> Vec<Fault> {
        self.lock().faults.struck.clone()
    }

    /// Pulls the device out: registers are all ones from now on.
    pub(crate) fn remove(&self) {
        self.lock().remove();
    }

    /// Cuts the power: what was cached is lost as `rng` says, and the controller is as after power-on.
    #[cfg(test)]
    pub(crate) fn crash(&self, rng: &mut Rng) {
        self.lock().crash(rng);
    }

    /// Within this range the device may only touch what is lent ([`Mock::lend`]).
    #[cfg(test)]
    pub(crate) fn guard(&self, base: usize, bytes: usize) {
        self.lock().dma.guard(base, bytes);
    }

    /// The driver has been given this memory.
    #[cfg(test)]
    pub(crate) fn lend(&self, base: usize, bytes: usize) {
        self.lock().dma.lend(base, bytes);
    }

    /// The driver has given the memory that begins here back.
    #[cfg(test)]
    pub(crate) fn take_back(&self, base: usize) {
        self.lock().dma.take_back(base);
    }

    /// What the driver did wrong.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.lock().dma.violations.clone()
    }

    /// Accesses that a missing mapping stopped, for which the driver is not to blame.
    #[cfg(test)]
    pub(crate) fn stopped_count(&self) -> u64 {
        self.lock().dma.stopped_count
    }

    /// Mappings that are live.
    #[cfg(test)]
    pub(crate) fn window_count(&self) -> usize {
        self.lock().dma.window_count()
    }

    /// IO queues (of submissions) that there are.
    #[cfg(test)]
    pub(crate) fn queue_count(&self) -> usize {
        self.lock().sqs.keys().filter(|id| **id != 0).count()
    }

    /// Takes what has happened since the last call; from the first call on it is written down.
    pub(crate) fn take_notes(&self) -> Vec<Note> {
        self.lock().notes.replace(Vec::new()).unwrap_or_default()
    }
}

impl Bus for Mock {
    fn read32(&self, offset: usize) -> u32 {
        self.lock().read_register(offset)
    }

    fn write32(&self, offset: usize, value: u32) {
        let mut device = self.lock();
        device.write_register(offset, value);
        if device.config.is_immediate {
            device.run();
        }
        drop(device);
        self.server.get().into_iter().for_each(Thread::unpark);
    }

    fn register_bytes(&self) -> usize {
        self.lock().register_bytes()
    }

    fn map(&self, base: usize, bytes: usize) -> Result<Mapping, String> {
        let device = &mut *self.lock();
        let scattered = device.config.is_scattered.then_some(&mut device.rng);
        device.dma.map(base, bytes, scattered)
    }

    fn unmap(&self, mapping: &Mapping) {
        self.lock().dma.unmap(mapping);
    }

    fn is_fenced_by_unmap(&self) -> bool {
        !self.lock().config.is_scattered
    }

    fn reset(&self) -> Result<(), String> {
        self.lock().reset()
    }
}

impl fmt::Debug for Mock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = self.lock();
        write!(f, "Mock({:?}, {:?})", device.config, device.faults)
    }
}
