//! How often something that peers can cause may be logged.

use crate::limits::{LOG_LINES, LOG_LINES_PER_KIND};
use crate::time::{SECOND_NS, Tick};

const MINUTE_NS: u64 = 60 * SECOND_NS;

/// At most `N` times in any minute.
#[derive(Clone, Copy, Debug)]
struct Pace<const N: usize> {
    /// The last `N` times, as a ring.
    times: [Option<Tick>; N],
    oldest: usize,
}

impl<const N: usize> Pace<N> {
    const fn new() -> Pace<N> {
        Pace { times: [None; N], oldest: 0 }
    }

    fn has_room(&self, now: Tick) -> bool {
        self.times[self.oldest].is_none_or(|time| now.since_ns(time) >= MINUTE_NS)
    }

    fn take(&mut self, now: Tick) {
        self.times[self.oldest] = Some(now);
        self.oldest = (self.oldest + 1) % N;
    }
}

/// Lines by kind: at most [`LOG_LINES_PER_KIND`] of each and [`LOG_LINES`] in all in any minute, the summary of what was
/// left out included.
#[derive(Debug)]
pub(super) struct Limiter<const KINDS: usize> {
    all: Pace<{ LOG_LINES - 1 }>,
    kinds: [Pace<LOG_LINES_PER_KIND>; KINDS],
    suppressed: [u64; KINDS],
    summary_due: Option<Tick>,
}

impl<const KINDS: usize> Limiter<KINDS> {
    pub(super) const fn new() -> Limiter<KINDS> {
        Limiter {
            all: Pace::new(),
            kinds: [const { Pace::new() }; KINDS],
            suppressed: [0; KINDS],
            summary_due: None,
        }
    }

    /// Whether a line of this kind may be written now. If not, it is counted.
    pub(super) fn allow(&mut self, kind: usize, now: Tick) -> bool {
        if self.all.has_room(now) && self.kinds[kind].has_room(now) {
            self.all.take(now);
            self.kinds[kind].take(now);
            return true;
        }
        self.suppressed[kind] += 1;
        self.summary_due.get_or_insert(now.after_ns(MINUTE_NS));
        false
    }

    /// When a summary of what was left out is due: a minute after the first of it.
    pub(super) fn summary_due(&self) -> Option<Tick> {
        self.summary_due
    }

    /// What was left out of each kind, if it is time to say so.
    pub(super) fn summary(&mut self, now: Tick) -> Option<[u64; KINDS]> {
        if self.summary_due.is_none_or(|due| now < due) {
            return None;
        }
        self.summary_due = None;
        Some(std::mem::replace(&mut self.suppressed, [0; KINDS]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Tick {
        Tick::from_ns(ms * crate::time::MS_NS)
    }

    #[test]
    fn a_flood_of_one_kind_leaves_room_for_others_and_is_summed_up() {
        let mut limiter = Limiter::<2>::new();
        let written = (0..1000).filter(|&ms| limiter.allow(0, at(ms))).count();
        assert_eq!(written, 6);
        assert!(limiter.allow(1, at(1000)));
        assert_eq!(limiter.summary_due(), Some(at(60_006)));
        assert_eq!(limiter.summary(at(60_005)), None);
        assert_eq!(limiter.summary(at(60_006)), Some([994, 0]));
        assert_eq!(limiter.summary(at(60_007)), None);
    }

    #[test]
    fn no_minute_has_more_than_twenty_lines() {
        let mut limiter = Limiter::<10>::new();
        let mut lines = Vec::new();
        for ms in (0..300_000).step_by(50) {
            for kind in 0..10 {
                if limiter.allow(kind, at(ms)) {
                    lines.push(ms);
                }
            }
            if limiter.summary(at(ms)).is_some() {
                lines.push(ms);
            }
        }
        for &from in &lines {
            let in_minute = lines.iter().filter(|&&ms| (from..from + 60_000).contains(&ms)).count();
            assert!(in_minute <= 20, "{in_minute} lines in the minute from {from} ms");
        }
        assert!(lines.len() > 50, "it goes on after the first minute");
    }
}
