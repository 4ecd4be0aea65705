//! Admin commands (Base §5).

use super::device::Device;
use super::fault::Fault;
use super::identify;
use super::nvm::{
    ABORTED, INVALID_FIELD, INVALID_NAMESPACE, INVALID_OPCODE, INVALID_PRP, OK, SEQUENCE_ERROR,
};
use super::rings::{Cq, Fate, Sq, cid};
use crate::bdev::nvme::spec::identify::{cns, fna};
use crate::bdev::nvme::spec::{Entry, admin};
use crate::sim::rng::Rng;

/// Statuses of these commands.
const INVALID_CQ: u16 = 0x100;
const INVALID_QUEUE_ID: u16 = 0x101;
const INVALID_QUEUE_SIZE: u16 = 0x102;
const EVENTS_EXCEEDED: u16 = 0x105;
const INVALID_LOG_PAGE: u16 = 0x109;
const INVALID_FORMAT: u16 = 0x10A;
const INTERNAL_ERROR: u16 = 0x006;
const INVALID_DELETION: u16 = 0x10C;

/// ASYNC EVENT REQUEST commands that it takes at once.
pub(super) const LISTENERS_MAX: usize = 4;
/// Features, by number.
const QUEUES: u32 = 0x07;
const EVENTS: u32 = 0x0B;
const KEEP_ALIVE: u32 = 0x0F;
/// Of feature 0Bh: namespace attribute notices.
const NAMESPACE_NOTICES: u32 = 1 << 8;
/// The event of a changed namespace: notice, log page 04h.
const NAMESPACE_CHANGED: u64 = 0x04_00_02;

impl Device {
    /// Carries an admin command out: status and result; none where it is completed later, or never.
    pub(super) fn administer(&mut self, entry: &Entry, rng: &mut Rng) -> Option<(u16, u64)> {
        let mut result = 0;
        let status = match entry[0] as u8 {
            admin::IDENTIFY => self.identify(entry, rng),
            admin::CREATE_CQ => self.create_cq(entry, rng),
            admin::CREATE_SQ => self.create_sq(entry, rng),
            admin::DELETE_CQ => self.delete_cq(entry),
            admin::DELETE_SQ => {
                if self.faults.strikes(Fault::DeleteHangs, rng) {
                    return None;
                }
                let id = entry[10] as u16;
                if id == 0 || !self.sqs.contains_key(&id) {
                    INVALID_QUEUE_ID
                } else {
                    self.delete_sq(id, rng);
                    OK
                }
            }
            admin::SET_FEATURES => {
                let (status, value) = self.set_feature(entry[10] & 0xFF, entry[11]);
                result = u64::from(value);
                status
            }
            admin::GET_FEATURES => match self.feature(entry[10] & 0xFF) {
                Some(value) => {
                    result = u64::from(value);
                    OK
                }
                None => INVALID_FIELD,
            },
            admin::ASYNC_EVENT if self.listeners.len() >= LISTENERS_MAX => EVENTS_EXCEEDED,
            admin::ASYNC_EVENT => {
                self.listeners.push(cid(entry));
                return None;
            }
            admin::ABORT => {
                result = u64::from(!self.abort(entry[10] as u16, (entry[10] >> 16) as u16, rng));
                OK
            }
            admin::GET_LOG_PAGE => self.log_page(entry),
            admin::KEEP_ALIVE => OK,
            admin::FORMAT_NVM if self.config.format.is_some() => self.format(entry, rng),
            admin::DOORBELL_BUFFER if self.config.has_shadow_doorbells => self.share_doorbells(entry),
            _ => INVALID_OPCODE,
        };
        Some((status, result))
    }

    fn identify(&mut self, entry: &Entry, rng: &mut Rng) -> u16 {
        let nsid = entry[1];
        let mut page = match entry[10] & 0xFF {
            cns::CONTROLLER => identify::controller(&self.config, &self.media),
            cns::ACTIVE_NAMESPACES => identify::active(&self.media, nsid),
            cns::NAMESPACE if nsid == 0 || nsid > self.config.namespaces_max => return INVALID_NAMESPACE,
            // One that is not active: all zeroes.
            cns::NAMESPACE => {
                self.media.get(&nsid).map_or([0; 4096], |medium| identify::namespace(&self.config, medium))
            }
            cns::NAMESPACE_IDS if !self.media.contains_key(&nsid) => return INVALID_NAMESPACE,
            cns::NAMESPACE_IDS => identify::ids(nsid),
            cns::NVM_CONTROLLER if entry[11] >> 24 == 0 => identify::nvm_controller(&self.config),
            _ => return INVALID_FIELD,
        };
        for (at, byte) in &self.garbled {
            page[at % 4096] = *byte;
        }
        if self.faults.strikes(Fault::GarbageIdentify, rng) {
            // All of it, or some of it here and there.
            self.has_lied = true;
            let count = if rng.one_in(2) { page.len() } else { 64 };
            for _ in 0..count {
                let at = rng.index(page.len());
                page[at] = rng.below(256) as u8;
            }
        }
        self.put(entry, &page)
    }

    /// With the one format that there is.
    fn format(&mut self, entry: &Entry, rng: &mut Rng) -> u16 {
        let (nsid, word) = (entry[1], entry[10]);
        let (protection, secure) = (word >> 5 & 7, word >> 9 & 7);
        let fna = self.config.format.unwrap_or(0);
        let is_in_flight = self.flying.iter().any(|command| command.sq != 0 && command.entry[1] == nsid);
        let Some(medium) = self.media.get(&nsid) else { return INVALID_NAMESPACE };
        // LBAFL, MSET, PIL, LBAFU and what is reserved.
        if word & !0xEE0 != 0 || protection != u32::from(medium.protection) {
            return INVALID_FORMAT;
        }
        if secure == 0 || secure > 2 || secure == 2 && fna & fna::ERASES_KEY == 0 {
            return INVALID_FIELD;
        }
        if is_in_flight {
            self.overstepped("a namespace is formatted that has commands in flight".to_owned());
        }
        if self.faults.strikes(Fault::FormatFails, rng) {
            return INTERNAL_ERROR;
        }
        let all = fna & (fna::FORMATS_ALL | fna::ERASES_ALL) != 0;
        for (_, medium) in self.media.iter_mut().filter(|(id, _)| all || **id == nsid) {
            medium.erase();
        }
        OK
    }

    /// Queue id and entries of a CREATE command, where they can be.
    fn new_queue(&self, entry: &Entry) -> Result<(u16, u32), u16> {
        let (id, entries) = (entry[10] as u16, (entry[10] >> 16) + 1);
        let is_known = if entry[0] as u8 == admin::CREATE_CQ {
            self.cqs.contains_key(&id)
        } else {
            self.sqs.contains_key(&id)
        };
        if id == 0 || id > self.features.pairs.unwrap_or(self.config.queues_max) || is_known {
            return Err(INVALID_QUEUE_ID);
        }
        if entries < 2 || entries > self.config.entries_max {
            return Err(INVALID_QUEUE_SIZE);
        }
        Ok((id, entries))
    }

    /// Base address of a physically contiguous queue (CAP.CQR is set).
    fn queue_base(&mut self, entry: &Entry) -> Result<u64, u16> {
        let base = u64::from(entry[6]) | u64::from(entry[7]) << 32;
        if entry[11] & 1 == 0 {
            self.dma.violation("a queue that is not contiguous".to_owned());
            return Err(INVALID_FIELD);
        }
        if !base.is_multiple_of(self.page_bytes()) { Err(INVALID_PRP) } else { Ok(base) }
    }

    fn create_cq(&mut self, entry: &Entry, rng: &mut Rng) -> u16 {
        let made = self.new_queue(entry).and_then(|queue| Ok((queue, self.queue_base(entry)?)));
        match made {
            Err(status) => status,
            Ok(_) if self.faults.strikes(Fault::RefusesQueues, rng) => INVALID_QUEUE_ID,
            Ok(_) if self.entry_sizes().1 != 4 => {
                self.dma.violation("CC.IOCQES is not 4".to_owned());
                INVALID_QUEUE_SIZE
            }
            Ok(((id, entries), base)) => {
                self.cqs.insert(id, Cq::new(base, entries));
                OK
            }
        }
    }

    fn create_sq(&mut self, entry: &Entry, rng: &mut Rng) -> u16 {
        let made = self.new_queue(entry).and_then(|queue| Ok((queue, self.queue_base(entry)?)));
        let cq = (entry[11] >> 16) as u16;
        match made {
            Err(status) => status,
            Ok(_) if self.faults.strikes(Fault::RefusesQueues, rng) => INVALID_QUEUE_ID,
            Ok(_) if cq == 0 || !self.cqs.contains_key(&cq) => INVALID_CQ,
            Ok(_) if self.entry_sizes().0 != 6 => {
                self.dma.violation("CC.IOSQES is not 6".to_owned());
                INVALID_QUEUE_SIZE
            }
            Ok(((id, entries), base)) => {
                self.sqs.insert(id, Sq::new(base, entries, cq));
                OK
            }
        }
    }

    fn delete_cq(&mut self, entry: &Entry) -> u16 {
        let id = entry[10] as u16;
        if self.sqs.values().any(|sq| sq.cq == id) {
            return INVALID_DELETION;
        }
        if id == 0 || self.cqs.remove(&id).is_none() { INVALID_QUEUE_ID } else { OK }
    }

    fn set_feature(&mut self, feature: u32, value: u32) -> (u16, u32) {
        match feature {
            QUEUES => {
                if self.sqs.len() > 1 || self.cqs.len() > 1 {
                    return (SEQUENCE_ERROR, 0);
                }
                if value & 0xFFFF == 0xFFFF || value >> 16 == 0xFFFF {
                    return (INVALID_FIELD, 0);
                }
                let asked = (value & 0xFFFF).min(value >> 16) as u16;
                let given = asked.min(self.config.queues_max - 1);
                self.features.pairs = Some(given + 1);
                (OK, u32::from(given) | u32::from(given) << 16)
            }
            EVENTS => {
                self.features.events = value;
                (OK, 0)
            }
            KEEP_ALIVE => {
                self.features.keep_alive = value;
                (OK, 0)
            }
            _ => (INVALID_FIELD, 0),
        }
    }

    fn feature(&self, feature: u32) -> Option<u32> {
        match feature {
            QUEUES => {
                let given = u32::from(self.features.pairs.unwrap_or(self.config.queues_max) - 1);
                Some(given | given << 16)
            }
            EVENTS => Some(self.features.events),
            KEEP_ALIVE => Some(self.features.keep_alive),
            _ => None,
        }
    }

    /// Whether the command was aborted. One that hangs is not, or not always.
    fn abort(&mut self, sq: u16, id: u16, rng: &mut Rng) -> bool {
        let known = self.flying.iter_mut().find(|command| command.sq == sq && cid(&command.entry) == id);
        let Some(command) = known.filter(|command| command.done.is_none()) else { return false };
        let is_aborted = match command.fate {
            Fate::Never => false,
            Fate::Normal | Fate::Late => rng.one_in(2),
        };
        if is_aborted {
            let halves = std::iter::once(&command.entry).chain(&command.second);
            command.done = Some(halves.map(|half| (cid(half), ABORTED, 0)).collect());
        } else if command.fate == Fate::Late {
            command.fate = Fate::Normal;
        }
        is_aborted
    }

    fn log_page(&mut self, entry: &Entry) -> u16 {
        let dwords = (u64::from(entry[11] & 0xFFFF) << 16 | u64::from(entry[10] >> 16)) + 1;
        let offset = u64::from(entry[12]) | u64::from(entry[13]) << 32;
        let keeps_event = entry[10] & 1 << 15 != 0;
        let page = match entry[10] & 0xFF {
            0x01 => identify::error_log(&self.mishaps, self.mishap_count),
            0x02 => identify::health(self.power_cycles),
            0x04 => {
                let page = identify::changed(&self.changed);
                if !keeps_event {
                    self.changed.clear();
                    self.is_notice_masked = false;
                }
                page
            }
            _ => return INVALID_LOG_PAGE,
        };
        let (Ok(from), Ok(bytes)) = (usize::try_from(offset), usize::try_from(dwords * 4)) else {
            return INVALID_FIELD;
        };
        if from > page.len() {
            return INVALID_FIELD;
        }
        // What is asked for beyond the page's end is zeroes here.
        let mut answer: Vec<u8> = page[from..].iter().copied().take(bytes).collect();
        answer.resize(bytes, 0);
        self.put(entry, &answer)
    }

    fn share_doorbells(&mut self, entry: &Entry) -> u16 {
        let word = |at: usize| u64::from(entry[at]) | u64::from(entry[at + 1]) << 32;
        let (shadows, events) = (word(6), word(8));
        let is_page = |address: u64| address != 0 && address.is_multiple_of(self.page_bytes());
        if !is_page(shadows) || !is_page(events) {
            return INVALID_FIELD;
        }
        self.shadows = Some((shadows, events));
        OK
    }

    /// Completes ASYNC EVENT REQUEST where there is something to tell.
    pub(super) fn tell_events(&mut self, rng: &mut Rng) -> bool {
        if self.listeners.is_empty() {
            return false;
        }
        let is_due =
            self.is_notice_due && !self.is_notice_masked && self.features.events & NAMESPACE_NOTICES != 0;
        let result = if is_due {
            (self.is_notice_due, self.is_notice_masked) = (false, true);
            NAMESPACE_CHANGED
        } else if self.faults.strikes(Fault::StrangeEvent, rng) {
            rng.below(1 << 32)
        } else {
            return false;
        };
        let listener = self.listeners.swap_remove(rng.index(self.listeners.len()));
        self.complete(0, listener, OK, result, rng);
        true
    }
}
