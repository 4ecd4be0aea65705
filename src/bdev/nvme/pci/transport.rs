//! A controller's administration over PCIe (Base §3.5): reset, enable, queues, shutdown, as states that are polled.
//!
//! What was handed to the controller is safe again when CSTS.RDY is 0. A controller that does not get there is reset from
//! outside; one that even that does not reach loses its mappings, where an IOMMU makes that mean something, or else all access to
//! memory.

use std::sync::Arc;

use super::admin::{self, AdminRing};
use super::queue::PciQueue;
use super::registers::{self, Capabilities, Status};
use super::ring::Pair;
use super::shadow::{Doorbell, Shadow};
use crate::bdev::nvme::bus::{Bus, Mapping};
use crate::bdev::nvme::queue::Queue;
use crate::bdev::nvme::spec::{self, Command, Completion, DataPointer};
use crate::bdev::nvme::transport::{ADMIN_DATA_BYTES, AdminData, Limits, Progress, Transport};
use crate::time::{SECOND_NS, Tick};

/// An orderly shutdown may take so long: what it says itself (RTD3E) comes from Identify, which may not have worked.
const SHUTDOWN_NS_MAX: u64 = 10 * SECOND_NS;

/// Where a controller is in its life.
#[derive(Debug)]
enum State {
    /// Not started yet.
    Idle,
    /// Somebody has enabled it and it is not ready yet: it must not be disabled before (Base figure 46, CC.EN).
    Settling { until: Tick },
    /// Waits for CSTS.RDY=0.
    Disabling { until: Tick, then: Then, was_reset: bool },
    /// Waits for CSTS.RDY=1.
    Enabling { until: Tick },
    /// It takes commands.
    Ready,
    /// Waits for CSTS.SHST=10b.
    ShuttingDown { until: Tick },
    /// Shut down.
    Stopped,
    /// It does not work, for this reason.
    Failed(String),
}

/// What follows once the controller is disabled.
#[derive(Clone, Debug)]
enum Then {
    Enable,
    Stop,
    Fail(String),
}

/// A controller on PCIe.
#[derive(Debug)]
pub(crate) struct PciTransport {
    address: String,
    bus: Arc<dyn Bus>,
    state: State,
    /// Nothing handed to the controller can be touched by it.
    is_quiet: bool,
    capabilities: Option<Capabilities>,
    admin: Option<AdminRing>,
    /// IO queues that the controller knows, or is about to.
    pairs: Vec<Arc<Pair>>,
    /// Doorbells in memory, and whether the controller looks at them.
    shadow: Option<(Arc<Shadow>, bool)>,
    /// What [`Transport::map`] gave.
    mapped: Vec<Mapping>,
}

impl PciTransport {
    /// `address` names it in the log: `0000:01:00.0`.
    pub(crate) fn new(bus: Arc<dyn Bus>, address: &str) -> PciTransport {
        PciTransport {
            address: address.to_owned(),
            bus,
            state: State::Idle,
            is_quiet: true,
            capabilities: None,
            admin: None,
            pairs: Vec::new(),
            shadow: None,
            mapped: Vec::new(),
        }
    }

    /// No doorbell is rung from here on.
    fn close_pairs(&self) {
        self.pairs.iter().for_each(|pair| pair.close());
    }

    /// Takes the queues' memory from the controller, which has let go of it, or will find it gone.
    fn release_queues(&mut self) {
        self.close_pairs();
        for pair in self.pairs.drain(..) {
            pair.dma.release();
        }
        if let Some(admin) = self.admin.take() {
            admin.pair().dma.release();
        }
        if let Some((shadow, _)) = self.shadow.take() {
            shadow.dma.release();
        }
        self.is_quiet = true;
    }

    /// The controller does not obey: what can be done to keep it from memory is done.
    fn cut_off(&mut self, why: String) {
        self.close_pairs();
        if self.bus.is_fenced_by_unmap() {
            let _ = self.bus.set_access(false);
            for mapping in self.mapped.drain(..) {
                self.bus.unmap(&mapping);
            }
            self.release_queues();
        } else if self.bus.reset().is_ok() || self.bus.set_access(false).is_ok() {
            self.release_queues();
        }
        self.state = State::Failed(why);
    }

    fn disable(&mut self, now: Tick, then: Then) {
        self.close_pairs();
        let configuration = self.bus.read32(registers::CC) & !(registers::CC_EN | registers::CC_SHN);
        self.bus.write32(registers::CC, configuration);
        let until = now.after_ns(registers::ready_ns_max(&*self.bus));
        self.state = State::Disabling { until, then, was_reset: false };
    }

    fn enable(&mut self, now: Tick) -> Result<(), String> {
        let bus = &*self.bus;
        // It may have been taken away, and it is harmless now.
        bus.set_access(true)?;
        let capabilities = Capabilities::read(bus)?;
        let admin = AdminRing::allocate(&self.bus, &capabilities)?;
        let (submission, completion) = admin.pair().device();
        let entries = u32::from(admin::ENTRIES - 1);
        bus.write32(registers::AQA, entries << 16 | entries);
        bus.write64(registers::ASQ, submission);
        bus.write64(registers::ACQ, completion);
        bus.write32(registers::CC, capabilities.configuration);
        bus.write32(registers::CC, capabilities.configuration | registers::CC_EN);
        let until = now.after_ns(registers::ready_ns_max(bus));
        self.capabilities = Some(capabilities);
        self.admin = Some(admin);
        self.is_quiet = false;
        self.state = State::Enabling { until };
        Ok(())
    }

    /// Moves on as far as the controller allows.
    fn step(&mut self, now: Tick) {
        if matches!(self.state, State::Idle | State::Ready | State::Stopped | State::Failed(_)) {
            return;
        }
        let Status::Present { is_ready, is_fatal, is_shut_down } = Status::read(&*self.bus) else {
            return self.cut_off("the device is gone: its registers read all ones".to_owned());
        };
        match &self.state {
            State::Settling { until } if is_ready || is_fatal || now >= *until => {
                self.disable(now, Then::Enable);
            }
            State::Disabling { then, .. } if !is_ready => {
                let then = then.clone();
                self.release_queues();
                self.state = match then {
                    Then::Enable => {
                        return self.enable(now).unwrap_or_else(|why| self.state = State::Failed(why));
                    }
                    Then::Stop => State::Stopped,
                    Then::Fail(why) => State::Failed(why),
                };
            }
            State::Disabling { until, then, was_reset } if now >= *until => {
                let (then, was_reset) = (then.clone(), *was_reset);
                self.force(now, then, was_reset);
            }
            State::Enabling { .. } if is_fatal => {
                self.disable(now, Then::Fail("the controller reports a fatal state (CSTS.CFS)".to_owned()));
            }
            State::Enabling { .. } if is_ready => self.state = State::Ready,
            State::Enabling { until } if now >= *until => {
                self.disable(
                    now,
                    Then::Fail("the controller did not become ready in time (CAP.TO)".to_owned()),
                );
            }
            State::ShuttingDown { until } if is_shut_down || is_fatal || now >= *until => {
                self.disable(now, Then::Stop);
            }
            _ => {}
        }
    }

    /// The controller does not disable itself: it is reset from outside, once.
    fn force(&mut self, now: Tick, then: Then, was_reset: bool) {
        let stuck = "the controller cannot be disabled (CSTS.RDY stays 1)";
        if was_reset {
            return self.cut_off(format!("{stuck}, not even by a reset of the device"));
        }
        match self.bus.reset() {
            Ok(()) => {
                let until = now.after_ns(registers::ready_ns_max(&*self.bus));
                self.state = State::Disabling { until, then, was_reset: true };
            }
            Err(why) => self.cut_off(format!("{stuck}; {why}")),
        }
    }

    fn pair(&self, id: u16) -> Option<&Arc<Pair>> {
        self.pairs.iter().find(|pair| pair.id == id)
    }

    /// Pointers of commands whose memory is this transport's own.
    fn pointer(&mut self, command: &Command) -> Option<DataPointer> {
        let id = u16::try_from(command.cdw10[0] & 0xFFFF).unwrap_or_default();
        match command.opcode {
            spec::admin::CREATE_SQ => self.pair(id).map(|pair| DataPointer::Prp(pair.device().0, 0)),
            spec::admin::CREATE_CQ => self.pair(id).map(|pair| DataPointer::Prp(pair.device().1, 0)),
            spec::admin::DOORBELL_BUFFER => {
                let shadow = match &self.shadow {
                    Some((shadow, _)) => shadow,
                    None => &self.shadow.insert((Arc::new(Shadow::allocate(&self.bus).ok()?), false)).0,
                };
                let (doorbells, events) = shadow.device();
                Some(DataPointer::Prp(doorbells, events))
            }
            _ => None,
        }
    }

    fn queue(&self, id: u16) -> Result<PciQueue, String> {
        let (Some(pair), Some(capabilities)) = (self.pair(id), &self.capabilities) else {
            return Err(format!("queue {id} is not there any more"));
        };
        let (submission, completion) = capabilities.doorbells(&*self.bus, id)?;
        let (first, _) = capabilities.doorbells(&*self.bus, 0)?;
        let doorbell = |register: usize| match &self.shadow {
            Some((shadow, true)) => Doorbell::with_shadow(register, shadow, register - first),
            _ => Doorbell::new(register),
        };
        let doorbells = (doorbell(submission), doorbell(completion));
        Ok(PciQueue::new(Arc::clone(&self.bus), Arc::clone(pair), doorbells))
    }
}

impl Transport for PciTransport {
    fn name(&self) -> String {
        format!("PCIe {}", self.address)
    }

    fn start(&mut self, now: Tick) {
        self.close_pairs();
        let is_enabled = self.bus.read32(registers::CC) & registers::CC_EN != 0;
        match Status::read(&*self.bus) {
            Status::Gone => self.cut_off("the device is gone: its registers read all ones".to_owned()),
            Status::Present { is_ready: false, is_fatal: false, .. } if is_enabled => {
                let until = now.after_ns(registers::ready_ns_max(&*self.bus));
                self.state = State::Settling { until };
            }
            Status::Present { .. } => self.disable(now, Then::Enable),
        }
    }

    fn poll_start(&mut self, now: Tick) -> Progress<Limits> {
        self.step(now);
        match (&self.state, &self.capabilities) {
            (State::Ready, Some(capabilities)) => Progress::Ready(capabilities.limits),
            (State::Failed(why), _) => Progress::Failed(why.clone()),
            (State::Stopped | State::Idle, _) => Progress::Failed("the controller is shut down".to_owned()),
            _ => Progress::Pending,
        }
    }

    fn is_quiet(&self) -> bool {
        self.is_quiet
    }

    fn check(&self) -> Result<(), String> {
        match Status::read(&*self.bus) {
            Status::Gone => Err("the device is gone: its registers read all ones".to_owned()),
            Status::Present { is_fatal: true, .. } => {
                Err("the controller reports a fatal state (CSTS.CFS)".to_owned())
            }
            Status::Present { is_ready: false, .. } if matches!(self.state, State::Ready) => {
                Err("the controller has stopped by itself (CSTS.RDY=0)".to_owned())
            }
            Status::Present { .. } => match self.admin.as_ref().and_then(AdminRing::fault) {
                Some(fault) => Err(format!("the admin queue is broken: {fault}")),
                None => Ok(()),
            },
        }
    }

    /// The pointers of Create IO queue and of Doorbell Buffer Config are filled in here. The latter must be sent before the
    /// first IO queue is made: the controller rings those of before by memory too, which their owners do not know.
    fn submit(&mut self, cid: u16, command: &Command, data: AdminData<'_>) -> bool {
        if !matches!(self.state, State::Ready) {
            return false;
        }
        let elsewhere = self.pointer(command);
        self.admin.as_mut().is_some_and(|admin| admin.submit(cid, command, data, elsewhere))
    }

    fn pop(&mut self, _now: Tick) -> Option<(Completion, Option<&[u8; ADMIN_DATA_BYTES]>)> {
        let (completion, opcode, answer) = self.admin.as_mut()?.pop()?;
        if let (Some(spec::admin::DOORBELL_BUFFER), Some((_, is_on))) = (opcode, &mut self.shadow) {
            *is_on = completion.status.is_ok();
        }
        Some((completion, answer))
    }

    fn create_commands(&mut self, id: u16, entries: u16) -> Result<Vec<Command>, String> {
        let Some(capabilities) = &self.capabilities else {
            return Err("the controller is not enabled".to_owned());
        };
        if entries < 2 || u32::from(entries) > capabilities.limits.entries_max {
            return Err(format!(
                "a queue of {entries} entries; this controller has 2 to {}",
                capabilities.limits.entries_max
            ));
        }
        if id == 0 || self.pair(id).is_some() {
            return Err(format!("queue {id} is in use"));
        }
        let (submission, completion) = capabilities.doorbells(&*self.bus, id)?;
        let (first, _) = capabilities.doorbells(&*self.bus, 0)?;
        if let Some((shadow, true)) = &self.shadow {
            shadow.forget(submission - first);
            shadow.forget(completion - first);
        }
        self.pairs.push(Arc::new(PciQueue::allocate(&self.bus, id, entries)?));
        let size = u32::from(entries - 1) << 16 | u32::from(id);
        // Base §5.4 and §5.5: physically contiguous, no interrupts; the submission queue names its completion queue.
        let command =
            |opcode, flags| Command { opcode, cdw10: [size, flags, 0, 0, 0, 0], ..Command::default() };
        Ok(vec![command(spec::admin::CREATE_CQ, 1), command(spec::admin::CREATE_SQ, u32::from(id) << 16 | 1)])
    }

    fn poll_queue(&mut self, id: u16, _entries: u16, _now: Tick) -> Progress<Box<dyn Queue + Send>> {
        match self.queue(id) {
            Ok(queue) => Progress::Ready(Box::new(queue)),
            Err(why) => Progress::Failed(why),
        }
    }

    fn delete_commands(&mut self, id: u16) -> Vec<Command> {
        if let Some(pair) = self.pair(id) {
            pair.close();
        }
        let command =
            |opcode| Command { opcode, cdw10: [u32::from(id), 0, 0, 0, 0, 0], ..Command::default() };
        vec![command(spec::admin::DELETE_SQ), command(spec::admin::DELETE_CQ)]
    }

    fn forget_queue(&mut self, id: u16) {
        if let Some(index) = self.pairs.iter().position(|pair| pair.id == id) {
            let pair = self.pairs.swap_remove(index);
            pair.close();
            pair.dma.release();
        }
    }

    fn map(&mut self, base: usize, bytes: usize) -> Result<Option<Mapping>, String> {
        let mapping = self.bus.map(base, bytes)?;
        self.mapped.push(mapping.clone());
        Ok(Some(mapping))
    }

    fn unmap(&mut self, mapping: &Mapping) {
        // What is not there any more was taken when the controller was cut off.
        if let Some(index) = self.mapped.iter().position(|mapped| mapped == mapping) {
            self.bus.unmap(&self.mapped.swap_remove(index));
        }
    }

    fn stop(&mut self, now: Tick) {
        self.close_pairs();
        match Status::read(&*self.bus) {
            Status::Gone => self.cut_off("the device is gone: its registers read all ones".to_owned()),
            Status::Present { is_ready: true, is_fatal: false, .. } => {
                let configuration = self.bus.read32(registers::CC) & !registers::CC_SHN;
                self.bus.write32(registers::CC, configuration | registers::CC_SHN_NORMAL);
                self.state = State::ShuttingDown { until: now.after_ns(SHUTDOWN_NS_MAX) };
            }
            Status::Present { .. } => self.disable(now, Then::Stop),
        }
    }

    fn reset_bus(&mut self) -> Result<(), String> {
        self.bus.reset()
    }

    fn doorbell_buffer(&mut self) -> Option<Command> {
        Some(Command { opcode: spec::admin::DOORBELL_BUFFER, ..Command::default() })
    }

    fn poll_stop(&mut self, now: Tick) -> Progress<()> {
        self.step(now);
        match &self.state {
            State::Stopped => Progress::Ready(()),
            State::Failed(why) => Progress::Failed(why.clone()),
            _ => Progress::Pending,
        }
    }
}

impl Drop for PciTransport {
    /// A controller that was not stopped is disabled, so that it does not write to memory that is soon another's.
    fn drop(&mut self) {
        if !self.is_quiet {
            self.close_pairs();
            self.bus.write32(registers::CC, 0);
            match Status::read(&*self.bus) {
                Status::Present { is_ready: false, .. } => self.release_queues(),
                _ => self.cut_off("dropped".to_owned()),
            }
        }
        for mapping in self.mapped.drain(..) {
            self.bus.unmap(&mapping);
        }
    }
}

#[cfg(test)]
impl PciTransport {
    /// Memory of the admin queue.
    pub(super) fn admin_dma(&self) -> &super::dma::Dma {
        &self.admin.as_ref().unwrap().pair().dma
    }

    /// Where the device finds the admin queues.
    pub(super) fn admin_addresses(&self) -> (u64, u64) {
        self.admin.as_ref().unwrap().pair().device()
    }

    /// Where the device finds doorbells and event indices in memory.
    pub(super) fn shadow_addresses(&self) -> (u64, u64) {
        self.shadow.as_ref().unwrap().0.device()
    }

    /// The memory of these.
    pub(super) fn shadow_dma(&self) -> &super::dma::Dma {
        &self.shadow.as_ref().unwrap().0.dma
    }
}
