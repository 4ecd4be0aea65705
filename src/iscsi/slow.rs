//! Commands that took too long, and where their time went.
//!
//! Looked at when a command ends that has been a task: what goes the short way takes no time. A reactor takes what is noted here once
//! a turn and tells it, so what one turn notes is bounded, and so is what a second tells.

use arrayvec::ArrayVec;

use crate::id::{SessionId, UnitId};
use crate::iscsi::task::Task;
use crate::limits::{SLOW_IOS_A_SECOND, SLOW_IOS_A_TURN};
use crate::scsi::cdb::Cdb;
use crate::scsi::view::LunNumber;
use crate::time::{SECOND_NS, Tick};

/// A command that took too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlowIo {
    /// Whose.
    pub session: SessionId,
    /// Initiator task tag.
    pub itt: u32,
    /// Where it went.
    pub number: Option<LunNumber>,
    /// The logical unit there.
    pub unit: Option<UnitId>,
    /// The command.
    pub cdb: Cdb,
    /// Bytes that it moved.
    pub bytes: u32,
    /// SCSI status; none where it was aborted.
    pub status: Option<u8>,
    /// From its arrival to its turn, in nanoseconds.
    pub queue_ns: u64,
    /// From there until a device had the first of it: buffers, and a WRITE's data.
    pub receive_ns: u64,
    /// From there until the device had given back the last.
    pub device_ns: u64,
    /// From there to its answer.
    pub send_ns: u64,
    /// So many others were slow before and are not told.
    pub untold: u64,
}

impl SlowIo {
    /// How long it took in all, in nanoseconds.
    pub fn ns(&self) -> u64 {
        self.queue_ns + self.receive_ns + self.device_ns + self.send_ns
    }

    /// A task that ends now.
    fn of(session: SessionId, task: &Task, now: Tick) -> SlowIo {
        // Each moment not before the one that precedes it; those that never came are those of the next.
        let ran_at = task.ran_at.unwrap_or(now);
        let submitted_at = task.submitted_at.unwrap_or(now).max(ran_at);
        let done_at = task.done_at.unwrap_or(now).max(submitted_at);
        SlowIo {
            session,
            itt: task.itt,
            number: task.number,
            unit: task.unit,
            cdb: task.cdb,
            bytes: task.moves_bytes,
            status: task
                .obligation
                .is_answered()
                .then(|| task.outcome.map_or(0, |outcome| outcome.status.code())),
            queue_ns: ran_at.since_ns(task.came_at),
            receive_ns: submitted_at.since_ns(ran_at),
            device_ns: done_at.since_ns(submitted_at),
            send_ns: now.since_ns(done_at),
            untold: 0,
        }
    }
}

/// What a reactor notes of them.
#[derive(Debug)]
pub struct SlowLog {
    /// What takes so long is slow; `u64::MAX`: nothing is.
    threshold_ns: u64,
    noted: ArrayVec<SlowIo, SLOW_IOS_A_TURN>,
    untold: u64,
    /// When the present second began, and how many it may yet tell.
    second_at: Tick,
    left: u32,
}

impl SlowLog {
    /// Nothing is slow.
    pub fn new() -> SlowLog {
        SlowLog {
            threshold_ns: u64::MAX,
            noted: ArrayVec::new(),
            untold: 0,
            second_at: Tick::ZERO,
            left: SLOW_IOS_A_SECOND,
        }
    }

    /// From now on what takes so long is slow.
    pub fn set_threshold(&mut self, ns: u64) {
        self.threshold_ns = ns;
    }

    /// A task ends.
    #[inline(always)]
    pub(in crate::iscsi) fn ends(&mut self, session: SessionId, task: &Task, now: Tick) {
        if now.since_ns(task.came_at) >= self.threshold_ns {
            self.note(SlowIo::of(session, task, now), now);
        }
    }

    #[cold]
    fn note(&mut self, slow: SlowIo, now: Tick) {
        if now.since_ns(self.second_at) >= SECOND_NS {
            self.second_at = now;
            self.left = SLOW_IOS_A_SECOND;
        }
        if self.left == 0 || self.noted.try_push(SlowIo { untold: self.untold, ..slow }).is_err() {
            self.untold += 1;
        } else {
            self.left -= 1;
            self.untold = 0;
        }
    }

    /// Whether something is noted.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.noted.is_empty()
    }

    /// What is noted, taken out.
    pub fn take(&mut self) -> ArrayVec<SlowIo, SLOW_IOS_A_TURN> {
        self.noted.take()
    }
}

impl Default for SlowLog {
    fn default() -> SlowLog {
        SlowLog::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iscsi::obligation::End;
    use crate::iscsi::sn::Sn;
    use crate::scsi::Plan;
    use crate::slab::Key;

    fn at(us: u64) -> Tick {
        Tick::from_ns(us * 1000)
    }

    fn task() -> Task {
        let cdb = Cdb::new([0x28, 0, 0, 0, 0, 9, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0]);
        let conn = Key { index: 0, generation: 0 };
        Task::new(conn, 7, Sn(1), cdb, Plan::End(crate::scsi::Status::Good), at(100))
    }

    fn ended() -> Task {
        let mut task = task();
        task.ran_at = Some(at(110));
        task.submitted_at = Some(at(130));
        task.done_at = Some(at(170));
        task.obligation.meet(End::Answered);
        task
    }

    #[test]
    fn the_time_is_shared_out_among_stages() {
        let (mut log, task) = (SlowLog::new(), ended());
        log.ends(SessionId(3), &task, at(1_000_000));
        assert!(log.is_empty());
        log.set_threshold(150_000);
        log.ends(SessionId(3), &task, at(249));
        assert!(log.is_empty());
        log.ends(SessionId(3), &task, at(250));
        let noted = log.take();
        assert_eq!(noted.len(), 1);
        let SlowIo { queue_ns, receive_ns, device_ns, send_ns, .. } = noted[0];
        assert_eq!((queue_ns, receive_ns, device_ns, send_ns), (10_000, 20_000, 40_000, 80_000));
        assert_eq!((noted[0].ns(), noted[0].itt, noted[0].status), (150_000, 7, Some(0)));
        assert!(log.is_empty());
    }

    #[test]
    fn what_never_ran_has_waited_for_its_turn_only() {
        let (mut log, mut task) = (SlowLog::new(), task());
        log.set_threshold(1);
        task.obligation.meet(End::Aborted);
        log.ends(SessionId(3), &task, at(400));
        let SlowIo { queue_ns, receive_ns, device_ns, send_ns, status, .. } = log.take()[0];
        assert_eq!((queue_ns, receive_ns, device_ns, send_ns, status), (300_000, 0, 0, 0, None));
    }

    #[test]
    fn a_flood_is_counted_and_not_told() {
        let (mut log, task) = (SlowLog::new(), ended());
        log.set_threshold(1);
        let (mut told, mut untold) = (0, 0);
        for turn in 0..100 {
            (0..20).for_each(|_| log.ends(SessionId(3), &task, at(1000 + turn)));
            let noted = log.take();
            told += noted.len();
            untold += noted.iter().map(|slow| slow.untold).sum::<u64>();
        }
        // Four of each turn were too many for it, until the second was over.
        assert_eq!((told, untold), (64, 12));
        log.ends(SessionId(3), &task, at(1_002_000));
        assert_eq!(log.take()[0].untold, 100 * 20 - 64 - 12);
        log.ends(SessionId(3), &task, at(1_002_001));
        assert_eq!(log.take()[0].untold, 0);
    }
}
