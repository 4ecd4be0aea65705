//! Registers (Base §3.1.3) and what moves the controller.

use std::collections::{BTreeMap, BTreeSet};

use super::dma::Dma;
use super::fault::{Fault, Faults};
use super::rings::{Cq, Flying, Ghost, Sq};
use super::{Config, Medium, Note};
use crate::sim::rng::Rng;

/// Register offsets.
const CAP: usize = 0x00;
const VS: usize = 0x08;
const CC: usize = 0x14;
const CSTS: usize = 0x1C;
const AQA: usize = 0x24;
const ASQ: usize = 0x28;
const ACQ: usize = 0x30;
pub(super) const DOORBELLS: usize = 0x1000;

/// What is done at most of each kind in a step.
const BURST_MAX: u64 = 8;

/// What CC.EN leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Disabled: CSTS.RDY is 0.
    Off,
    /// CC.EN was set; whether it ever comes up.
    Starting { comes: bool },
    /// CSTS.RDY is 1.
    On,
    /// CC.EN was cleared; whether it ever stops.
    Stopping { comes: bool },
}

/// What SET FEATURES has set.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Features {
    /// Number of queue pairs, once asked for.
    pub(super) pairs: Option<u16>,
    /// 0Bh.
    pub(super) events: u32,
    /// 0Fh.
    pub(super) keep_alive: u32,
}

/// An entry of the error log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mishap {
    pub(super) sq: u16,
    pub(super) cid: u16,
    pub(super) status: u16,
    pub(super) lba: u64,
    pub(super) nsid: u32,
}

/// The controller.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) config: Config,
    pub(super) rng: Rng,
    pub(super) dma: Dma,
    pub(super) faults: Faults,
    pub(super) media: BTreeMap<u32, Medium>,
    pub(super) notes: Option<Vec<Note>>,
    phase: Phase,
    is_gone: bool,
    is_fatal: bool,
    cc: u32,
    shutdown: u32,
    aqa: u32,
    asq: u64,
    acq: u64,
    pub(super) sqs: BTreeMap<u16, Sq>,
    pub(super) cqs: BTreeMap<u16, Cq>,
    pub(super) flying: Vec<Flying>,
    /// Whose command is being carried out.
    pub(super) current: u16,
    pub(super) ghosts: Vec<Ghost>,
    /// Shadow doorbells and event indices.
    pub(super) shadows: Option<(u64, u64)>,
    pub(super) features: Features,
    /// Command ids of ASYNC EVENT REQUEST.
    pub(super) listeners: Vec<u16>,
    pub(super) changed: BTreeSet<u32>,
    /// A change is to be told.
    pub(super) is_notice_due: bool,
    /// A change was told and its log page not yet read.
    pub(super) is_notice_masked: bool,
    /// It has told noise about itself: that the driver asks too much of it is not the driver's fault any more.
    pub(super) has_lied: bool,
    /// Bytes of Identify's answers that are not what they should be.
    pub(super) garbled: Vec<(usize, u8)>,
    pub(super) mishaps: Vec<Mishap>,
    pub(super) mishap_count: u64,
    /// Times that the power was cut.
    pub(super) power_cycles: u64,
}

impl Device {
    pub(super) fn new(config: Config, rng: Rng) -> Device {
        Device {
            dma: Dma::new(config.is_scattered),
            config,
            rng,
            faults: Faults::default(),
            media: BTreeMap::new(),
            notes: None,
            phase: Phase::Off,
            is_gone: false,
            is_fatal: false,
            cc: 0,
            shutdown: 0,
            aqa: 0,
            asq: 0,
            acq: 0,
            sqs: BTreeMap::new(),
            cqs: BTreeMap::new(),
            flying: Vec::new(),
            current: 0,
            ghosts: Vec::new(),
            shadows: None,
            features: Features::default(),
            listeners: Vec::new(),
            changed: BTreeSet::new(),
            is_notice_due: false,
            is_notice_masked: false,
            has_lied: false,
            garbled: Vec::new(),
            mishaps: Vec::new(),
            mishap_count: 0,
            power_cycles: 0,
        }
    }

    pub(super) fn note(&mut self, note: Note) {
        if let Some(notes) = &mut self.notes {
            notes.push(note);
        }
    }

    /// The driver asked for what Identify does not tell.
    pub(super) fn overstepped(&mut self, what: String) {
        if !self.has_lied {
            self.dma.violation(what);
        }
    }

    pub(super) fn register_bytes(&self) -> usize {
        DOORBELLS + 2 * (usize::from(self.config.queues_max) + 1) * (4 << self.config.doorbell_stride)
    }

    fn cap(&self) -> u64 {
        let time_out_500_ms = 4;
        u64::from(self.config.entries_max - 1)
            | 1 << 16
            | time_out_500_ms << 24
            | u64::from(self.config.doorbell_stride) << 32
            | 1 << 37
    }

    fn csts(&self) -> u32 {
        let is_ready = matches!(self.phase, Phase::On | Phase::Stopping { .. });
        u32::from(is_ready) | u32::from(self.is_fatal) << 1 | self.shutdown << 2
    }

    pub(super) fn read_register(&mut self, offset: usize) -> u32 {
        if self.is_gone {
            return u32::MAX;
        }
        match offset {
            CAP => self.cap() as u32,
            0x04 => (self.cap() >> 32) as u32,
            VS => 0x0001_0400,
            CC => self.cc,
            CSTS => self.csts(),
            AQA => self.aqa,
            ASQ => self.asq as u32,
            0x2C => (self.asq >> 32) as u32,
            ACQ => self.acq as u32,
            0x34 => (self.acq >> 32) as u32,
            _ if offset >= self.register_bytes() => {
                self.dma.violation(format!("read beyond the registers: {offset:#x}"));
                u32::MAX
            }
            _ => 0,
        }
    }

    pub(super) fn write_register(&mut self, offset: usize, value: u32) {
        if self.is_gone {
            return;
        }
        let low = |register: u64| register & !0xFFFF_FFFF | u64::from(value);
        let high = |register: u64| register & 0xFFFF_FFFF | u64::from(value) << 32;
        match offset {
            CC => self.control(value),
            AQA => self.aqa = value,
            ASQ => self.asq = low(self.asq),
            0x2C => self.asq = high(self.asq),
            ACQ => self.acq = low(self.acq),
            0x34 => self.acq = high(self.acq),
            // The interrupt mask.
            0x0C | 0x10 => {}
            _ if offset >= self.register_bytes() => {
                self.dma.violation(format!("written beyond the registers: {offset:#x}"));
            }
            _ if offset >= DOORBELLS => self.doorbell(offset - DOORBELLS, value),
            _ => self.dma.violation(format!("written to register {offset:#x}")),
        }
        if matches!(offset, AQA..=0x34) && self.phase != Phase::Off {
            self.dma.violation("the admin queue's registers were written while enabled".to_owned());
        }
    }

    fn control(&mut self, value: u32) {
        let (was, is) = (self.cc & 1 != 0, value & 1 != 0);
        self.cc = value;
        if !was && is {
            if self.phase != Phase::Off {
                self.dma.violation("enabled before CSTS.RDY was 0".to_owned());
            }
            let comes = !self.faults.strikes(Fault::NeverReady, &mut self.rng);
            self.phase = Phase::Starting { comes };
            self.shutdown = 0;
        } else if was && !is {
            let comes = !self.faults.strikes(Fault::NeverStops, &mut self.rng);
            // From now on an IOMMU may take its memory away; without one it is the driver's duty to wait.
            self.dma.is_rogue = !self.config.is_scattered;
            self.phase = Phase::Stopping { comes };
        }
        // CC.SHN.
        if value >> 14 & 3 != 0 && self.shutdown == 0 {
            self.shutdown = 1;
        }
    }

    /// Bytes of a page (CC.MPS).
    pub(super) fn page_bytes(&self) -> u64 {
        4096 << (self.cc >> 7 & 0xF)
    }

    /// Entry sizes as CC has them: log2 for submissions, completions.
    pub(super) fn entry_sizes(&self) -> (u32, u32) {
        (self.cc >> 16 & 0xF, self.cc >> 20 & 0xF)
    }

    pub(super) fn run(&mut self) {
        let mut rng = self.rng.fork();
        while self.step(&mut rng) {}
    }

    pub(super) fn step(&mut self, rng: &mut Rng) -> bool {
        if self.is_gone {
            return false;
        }
        let mut did = self.transition(rng);
        if self.is_fatal || !matches!(self.phase, Phase::On | Phase::Stopping { .. }) {
            return did;
        }
        did |= self.look_at_shadows(rng);
        for _ in 0..=rng.below(BURST_MAX) {
            did |= self.take_one(rng);
        }
        for _ in 0..=rng.below(BURST_MAX) {
            did |= self.carry_one_out(rng);
        }
        for _ in 0..=rng.below(BURST_MAX) {
            did |= self.complete_one(rng);
        }
        did |= self.tell_events(rng);
        did |= self.post_ghosts(rng);
        if self.faults.strikes(Fault::Fatal, rng) {
            self.is_fatal = true;
        }
        did
    }

    fn transition(&mut self, rng: &mut Rng) -> bool {
        // It takes its time, except where there is none.
        if !self.config.is_immediate && rng.one_in(2) {
            return !matches!(self.phase, Phase::Off | Phase::On);
        }
        if self.shutdown == 1 {
            self.media.values_mut().for_each(Medium::flush);
            self.shutdown = 2;
        }
        match self.phase {
            Phase::Starting { comes: true } => {
                self.enable();
                true
            }
            Phase::Stopping { comes: true } => {
                // What was taken may still have been done, but for its completion.
                while let Some(command) = self.flying.pop() {
                    if !self.is_fatal && command.done.is_none() && rng.one_in(2) {
                        self.carry_out(&command, rng);
                    }
                }
                self.forget();
                true
            }
            _ => false,
        }
    }

    fn enable(&mut self) {
        let (sq_entries, cq_entries) = ((self.aqa & 0xFFF) + 1, (self.aqa >> 16 & 0xFFF) + 1);
        let is_aligned =
            self.asq.is_multiple_of(self.page_bytes()) && self.acq.is_multiple_of(self.page_bytes());
        if !is_aligned || sq_entries < 2 || cq_entries < 2 || self.cc >> 4 & 7 != 0 || self.cc >> 7 & 0xF != 0
        {
            self.dma.violation("enabled with an admin queue or CC that makes no sense".to_owned());
            self.is_fatal = true;
            return;
        }
        self.sqs.insert(0, Sq::new(self.asq, sq_entries, 0));
        self.cqs.insert(0, Cq::new(self.acq, cq_entries));
        self.phase = Phase::On;
        self.note(Note::Enabled);
    }

    /// As after power-on, but for the media.
    fn forget(&mut self) {
        self.phase = Phase::Off;
        (self.shutdown, self.is_fatal, self.shadows) = (0, false, None);
        self.dma.is_rogue = false;
        self.sqs.clear();
        self.cqs.clear();
        self.flying.clear();
        self.ghosts.clear();
        self.listeners.clear();
        self.features = Features::default();
        (self.is_notice_due, self.is_notice_masked) = (false, false);
        self.changed.clear();
    }

    pub(super) fn reset(&mut self) -> Result<(), String> {
        if self.is_gone && self.config.is_scattered {
            // Where there is no IOMMU, the bus tells whether the device is still there: one that is not reaches nothing.
            return Ok(());
        }
        if self.is_gone || self.faults.strikes(Fault::ResetFails, &mut self.rng) {
            return Err("the reset failed".to_owned());
        }
        self.forget();
        (self.cc, self.aqa, self.asq, self.acq) = (0, 0, 0, 0);
        Ok(())
    }

    pub(super) fn remove(&mut self) {
        self.forget();
        self.is_gone = true;
    }

    #[cfg(test)]
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        for medium in self.media.values_mut() {
            medium.crash(rng);
        }
        self.power_cycles += 1;
        self.forget();
        (self.cc, self.aqa, self.asq, self.acq) = (0, 0, 0, 0);
    }

    pub(super) fn change(&mut self, nsid: u32, medium: Option<Medium>) {
        match medium {
            Some(medium) => self.media.insert(nsid, medium),
            None => self.media.remove(&nsid),
        };
        self.changed.insert(nsid);
        self.is_notice_due = true;
        if self.config.is_immediate {
            self.run();
        }
    }
}
