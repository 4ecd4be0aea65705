//! What a lane does with the controller's thread: its answers, memory to be mapped, commands that take too long, the end of a
//! pair of queues.

use super::{Lane, Mapped, Pair, Stall, State};
use crate::bdev::IoError;
use crate::bdev::nvme::bus::Mapping;
use crate::bdev::nvme::planted::planted;
use crate::bdev::nvme::port::{Reply, Request, StopCause};
use crate::bdev::nvme::table::{Job, Phase};
use crate::buf::Buf;
use crate::limits::NVME_ASK_NS;

impl Lane {
    pub(super) fn stop(&mut self, why: StopCause) {
        if self.state == State::Ready
            && let Some(Pair { queue, .. }) = self.pair.take()
        {
            self.state = State::Stopping;
            self.ask(Request::Stop { queue, why });
        }
    }

    pub(super) fn replies(&mut self) {
        while let Some(reply) = self.port.reply() {
            match reply {
                Reply::Opened(queue) => {
                    self.pair = Some(Pair::new(queue));
                    self.state = State::Ready;
                }
                Reply::Mapped { base, mapping } => self.learn(base, mapping),
                Reply::Lba { cid, lba } => self.located(cid, lba),
                Reply::Stopped => {
                    self.stopped(false);
                    self.state = State::Opening;
                    self.ask(Request::Open);
                }
                Reply::Gone => {
                    self.stopped(true);
                    self.state = State::Gone;
                }
            }
        }
    }

    /// Nothing can reach memory or medium any more; for ever, where the controller `is_gone`.
    fn stopped(&mut self, is_gone: bool) {
        self.pair = None;
        self.mapped.clear();
        self.asking = 0;
        // The controller is not to blame where a channel was fenced: that is no try of the others' reads.
        let is_try = self.fenced.is_empty();
        for slot in 0..=u8::MAX {
            let Some((cid, sent)) = self.table.slots.at(slot) else { continue };
            self.table.slots.leave(cid);
            let job = self.table.jobs.get_mut(sent.job);
            job.commands = job.commands.saturating_sub(1);
            if job.commands > 0 {
                continue;
            }
            let is_fenced = self.fenced.contains(&job.channel);
            if !is_gone && !is_fenced && job.is_harmless() && !job.is_retry && job.result.is_ok() {
                job.begin();
                job.is_retry = is_try;
                self.wait(sent.job);
            } else {
                job.fail(match (is_fenced, is_gone) {
                    (true, _) => IoError::Cancelled,
                    (false, true) => IoError::Gone,
                    (false, false) => IoError::Aborted,
                });
                if job.has_ended() {
                    self.settle(sent.job);
                }
            }
        }
        self.fenced.clear();
        // What waits and was begun is a write of which the device has seen a part, or a read that can go on.
        self.give_up(IoError::Aborted, |job| job.is_issued && !job.is_harmless());
        if is_gone {
            self.give_up(IoError::Gone, |_| true);
        }
    }

    /// Ends IOs that wait for slots or memory, those that `is_given_up` says, as far as no command of them is at work.
    pub(super) fn give_up(&mut self, error: IoError, is_given_up: impl Fn(&Job) -> bool) {
        for _ in 0..self.waiting.len() {
            let Some(number) = self.waiting.pop() else { break };
            let job = self.table.jobs.get_mut(number);
            if is_given_up(job) {
                job.fail(error);
            }
            if job.left_blocks > 0 {
                self.waiting.push(number);
            } else {
                self.stop_waiting(number);
            }
        }
    }

    /// The error log's word on a command that is in [`Phase::Asking`].
    fn located(&mut self, cid: u16, lba: Option<u64>) {
        let Some(sent) = self.table.slots.get(cid).filter(|sent| sent.phase == Phase::Asking) else { return };
        self.asking -= 1;
        let extent = self.table.jobs.get(sent.job).io.op.extent();
        let is_within = |lba: &u64| {
            extent.is_some_and(|(first, blocks)| {
                lba.checked_sub(first).is_some_and(|at| at < u64::from(blocks))
            })
        };
        if let Some(number) = self.end(cid, Err(IoError::Medium { lba: lba.filter(is_within) })) {
            self.settle(number);
        }
    }

    /// No more commands can be made of an IO now: it waits, for its memory too where that has to be mapped.
    pub(super) fn stalled(&mut self, number: u8, stall: Stall) {
        self.wait(number);
        if stall == Stall::Unmapped && !self.want_mapped(number) {
            self.table.jobs.get_mut(number).fail(IoError::Aborted);
        }
    }

    fn wait(&mut self, number: u8) {
        let job = self.table.jobs.get_mut(number);
        if !job.is_waiting {
            job.is_waiting = true;
            self.waiting.push(number);
        }
    }

    /// Has the memory of an IO mapped for the device. False where that cannot be.
    fn want_mapped(&mut self, number: u8) -> bool {
        let region = self.table.jobs.get(number).io.data.as_ref().and_then(Buf::region);
        let Some(region) = region else { return false };
        if let Some(mapped) = self.mapped.iter().find(|mapped| mapped.region.base() == region.base()) {
            // Known, and yet refused: that can be no buffer of a pool.
            return !mapped.is_known;
        }
        let (base, bytes) = (region.base(), region.bytes());
        if self.mapped.try_push(Mapped { region, is_known: false }).is_err() {
            return false;
        }
        self.ask(Request::Map { base, bytes });
        true
    }

    fn learn(&mut self, base: usize, mapping: Result<Option<Mapping>, String>) {
        let Some(index) = self.mapped.iter().position(|mapped| mapped.region.base() == base) else { return };
        match (mapping, &mut self.pair) {
            (Ok(Some(mapping)), Some(pair)) => {
                pair.queue.learn(mapping);
                self.mapped[index].is_known = true;
            }
            (Ok(_), _) => self.mapped[index].is_known = true,
            (Err(_), _) => {
                // The controller's thread has logged why; the next IO asks again.
                let Mapped { region, .. } = self.mapped.remove(index);
                self.give_up(IoError::Aborted, |job| {
                    job.io.data.as_ref().is_some_and(|data| region.has(data.address()))
                });
            }
        }
    }

    /// Looks for commands that take too long.
    pub(super) fn check(&mut self) {
        if self.now < self.next_check || self.table.slots.is_empty() {
            return;
        }
        self.next_check =
            self.now.after_ns(self.times.command_ns.min(self.times.abort_ns).min(NVME_ASK_NS) / 8);
        for slot in 0..=u8::MAX {
            let Some((cid, sent)) = self.table.slots.at(slot) else { continue };
            let age_ns = self.now.since_ns(sent.since);
            match sent.phase {
                Phase::Sent if age_ns >= self.times.command_ns && self.state == State::Ready => {
                    self.table.slots.set_phase(cid, Phase::Aborting, self.now);
                    self.port.hint(Request::Abort { cid });
                }
                Phase::Aborting if age_ns >= self.times.abort_ns => {
                    if planted!(MemoryAtTimeOut) {
                        let ended = self.end(cid, Err(IoError::Aborted));
                        ended.into_iter().for_each(|number| self.settle(number));
                    }
                    self.stop(StopCause::TimedOut);
                }
                Phase::Asking if age_ns >= NVME_ASK_NS => self.located(cid, None),
                _ => {}
            }
        }
    }
}
