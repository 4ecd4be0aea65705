//! What a lane does with the controller's thread: its answers, memory to be mapped, commands that take too long, the end of a
//! pair of queues.

use super::{Lane, Mapped, State};
use crate::bdev::nvme::bus::Mapping;
use crate::bdev::nvme::planted::planted;
use crate::bdev::nvme::port::{Reply, Request, StopCause};
use crate::bdev::nvme::table::{Job, Phase, SLOTS};
use crate::bdev::{IoError, Op};
use crate::buf::Buf;
use crate::limits::NVME_ASK_NS;
use crate::slab::Key;

impl Lane {
    pub(super) fn stop(&mut self, why: StopCause) {
        if self.state == State::Ready
            && let Some(queue) = self.queue.take()
        {
            self.state = State::Stopping;
            self.ask(Request::Stop { queue, why });
        }
    }

    pub(super) fn replies(&mut self) {
        while let Some(reply) = self.port.reply() {
            match reply {
                Reply::Opened(queue) => {
                    self.queue = Some(queue);
                    self.state = State::Ready;
                }
                Reply::Mapped { base, mapping } => self.learn(base, mapping),
                Reply::Lba { cid, lba } => self.located(cid, lba),
                Reply::Stopped => {
                    self.stopped();
                    self.state = State::Opening;
                    self.ask(Request::Open);
                }
                Reply::Gone => {
                    self.is_fencing = true;
                    self.stopped();
                    self.state = State::Gone;
                }
            }
        }
    }

    /// Nothing can reach memory or medium any more.
    fn stopped(&mut self) {
        self.queue = None;
        self.mapped.clear();
        self.needs_ring = false;
        let is_gone = std::mem::take(&mut self.is_fencing);
        for slot in 0..SLOTS {
            let Some((cid, sent)) = self.table.at(slot) else { continue };
            self.table.leave(cid);
            let Some(job) = self.table.jobs.get_mut(sent.job) else { continue };
            job.commands = job.commands.saturating_sub(1);
            if job.commands > 0 {
                continue;
            }
            let is_read = matches!(job.op, Op::Read { .. }) || planted!(WriteRetried);
            if is_read && !job.is_retry && !is_gone && job.result.is_ok() {
                job.begin_again();
                if !job.is_waiting {
                    job.is_waiting = true;
                    self.waiting.push_back(sent.job);
                }
            } else {
                let error = if is_gone { IoError::Cancelled } else { IoError::Aborted };
                job.result = job.result.and(Err(error));
                self.settle(sent.job);
            }
        }
        // What waits and was begun is a write of which the device has seen a part.
        self.give_up(IoError::Aborted, |job| job.is_issued);
        if is_gone {
            self.give_up(IoError::Cancelled, |_| true);
        }
    }

    /// Ends IOs that wait for slots or memory, those that `is_given_up` says, as far as no command of them is at work.
    pub(super) fn give_up(&mut self, error: IoError, is_given_up: impl Fn(&Job) -> bool) {
        for _ in 0..self.waiting.len() {
            let Some(key) = self.waiting.pop_front() else { break };
            let Some(job) = self.table.jobs.get_mut(key) else { continue };
            if is_given_up(job) {
                job.result = job.result.and(Err(error));
            }
            job.is_waiting = job.is_unfinished();
            if job.is_waiting {
                self.waiting.push_back(key);
            } else {
                self.settle(key);
            }
        }
    }

    /// The error log's word on a command that is in [`Phase::Asking`].
    fn located(&mut self, cid: u16, lba: Option<u64>) {
        let Some(sent) = self.table.sent(cid).filter(|sent| sent.phase == Phase::Asking) else { return };
        let extent = self.table.jobs.get(sent.job).and_then(|job| job.op.extent());
        let is_within = |lba: &u64| {
            extent.is_some_and(|(first, blocks)| {
                lba.checked_sub(first).is_some_and(|at| at < u64::from(blocks))
            })
        };
        self.end(cid, sent.job, Err(IoError::Medium { lba: lba.filter(is_within) }));
    }

    /// Has the memory of an IO mapped for the device. False, and the IO fails, where that cannot be.
    pub(super) fn want_mapped(&mut self, key: Key) -> bool {
        let region = self.table.jobs.get(key).and_then(|job| job.data.as_ref()).and_then(Buf::region);
        let Some(region) = region else { return self.fail(key) };
        if let Some(mapped) = self.mapped.iter().find(|mapped| mapped.region.base() == region.base()) {
            // Known, and yet refused: that can be no buffer of a pool.
            return !mapped.is_known || self.fail(key);
        }
        let (base, bytes) = (region.base(), region.bytes());
        if self.mapped.try_push(Mapped { region, is_known: false }).is_err() {
            return self.fail(key);
        }
        self.ask(Request::Map { base, bytes });
        true
    }

    fn fail(&mut self, key: Key) -> bool {
        if let Some(job) = self.table.jobs.get_mut(key) {
            job.result = job.result.and(Err(IoError::Aborted));
        }
        false
    }

    fn learn(&mut self, base: usize, mapping: Result<Option<Mapping>, String>) {
        let Some(index) = self.mapped.iter().position(|mapped| mapped.region.base() == base) else { return };
        match (mapping, &mut self.queue) {
            (Ok(Some(mapping)), Some(queue)) => {
                queue.learn(mapping);
                self.mapped[index].is_known = true;
            }
            (Ok(_), _) => self.mapped[index].is_known = true,
            (Err(_), _) => {
                // The controller's thread has logged why; the next IO asks again.
                let Mapped { region, .. } = self.mapped.remove(index);
                self.give_up(IoError::Aborted, |job| {
                    job.data.as_ref().is_some_and(|data| region.has(data.address()))
                });
            }
        }
    }

    /// Looks for commands that take too long.
    pub(super) fn check(&mut self) {
        if self.now < self.next_check || self.table.in_use() == 0 {
            return;
        }
        self.next_check =
            self.now.after_ns(self.times.command_ns.min(self.times.abort_ns).min(NVME_ASK_NS) / 8);
        for slot in 0..SLOTS {
            let Some((cid, sent)) = self.table.at(slot) else { continue };
            let age_ns = self.now.since_ns(sent.since);
            match sent.phase {
                Phase::Sent if age_ns >= self.times.command_ns && self.state == State::Ready => {
                    self.table.set_phase(cid, Phase::Aborting, self.now);
                    self.port.hint(Request::Abort { cid });
                }
                Phase::Aborting if age_ns >= self.times.abort_ns => {
                    if planted!(MemoryAtTimeOut) {
                        self.end(cid, sent.job, Err(IoError::Aborted));
                    }
                    self.stop(StopCause::TimedOut);
                }
                Phase::Asking if age_ns >= NVME_ASK_NS => self.located(cid, None),
                _ => {}
            }
        }
    }
}
