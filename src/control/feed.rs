//! What has happened: the last facts, numbered, for whoever wants to be told.
//!
//! Control adds to it and never waits: a short lock is all. Who listens reads from where it has got to; what was dropped
//! before it came by is counted. So each listener is bounded by what is kept here for all of them.
//!
//! [`super::notices`] is apart from this, and says why.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::FACTS_MAX;
use crate::time::Tick;

/// A value of a fact.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// A number.
    Number(u64),
    /// Yes or no.
    Flag(bool),
    /// Words or a name.
    Text(String),
}

impl From<u64> for Value {
    fn from(value: u64) -> Value {
        Value::Number(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Flag(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Value {
        Value::Text(value)
    }
}

/// Something that has happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fact {
    /// Its number: 1, 2, 3 and so on.
    pub number: u64,
    /// When.
    pub at: Tick,
    /// What kind of thing.
    pub kind: &'static str,
    /// What is to be said of it, in order.
    pub fields: Vec<(&'static str, Value)>,
}

/// Every kind of fact, and what it says.
pub const KINDS: &[(&str, &str)] = &[
    ("session_up", "A session begins, or has one connection more."),
    ("session_down", "A session ends."),
    ("login_refused", "A login was answered with a status that is not success, or given up."),
    ("pdu_rejected", "A PDU was answered with Reject."),
    ("task_management", "A task management function was done: an abort, a reset."),
    ("device_error", "A device refused, failed or lost an IO."),
    ("device_unsettled", "A device keeps writes that were given up, or has given them back."),
    ("slow_io", "A command took longer than lunette_slow_io_set_options allows."),
    ("recorded", "What a connection had recorded was handed out, as something had gone wrong."),
    ("bdev_registered", "A block device is there."),
    ("bdev_unregistered", "A block device is gone, and with it the limits that it had."),
    ("bdev_resized", "A block device has another size; 0 while its medium is not there."),
    ("target_created", "A target is there."),
    ("target_deleted", "A target is being taken away."),
    ("lun_added", "A LUN leads to a block device."),
    ("lun_removed", "A LUN leads nowhere any more."),
    ("config_saved", "The configuration was written to its file."),
    ("events_lost", "Reactors had more to tell than they could."),
];

#[derive(Debug, Default)]
struct Kept {
    facts: VecDeque<Arc<Fact>>,
    last: u64,
}

#[derive(Debug, Default)]
struct Shared {
    kept: Mutex<Kept>,
    is_new: Condvar,
}

/// The facts. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Feed(Arc<Shared>);

/// What a listener is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// The facts, oldest first.
    pub facts: Vec<Arc<Fact>>,
    /// So many before them it has missed.
    pub lost: u64,
    /// The number of the last of all, told or missed: where to go on.
    pub upto: u64,
}

impl Feed {
    /// Something has happened.
    pub fn push(&self, at: Tick, kind: &'static str, fields: Vec<(&'static str, Value)>) {
        debug_assert!(KINDS.iter().any(|(known, _)| *known == kind), "{kind} is not among the kinds");
        let mut kept = self.lock();
        kept.last += 1;
        let fact = Arc::new(Fact { number: kept.last, at, kind, fields });
        if kept.facts.len() == FACTS_MAX {
            kept.facts.pop_front();
        }
        kept.facts.push_back(fact);
        drop(kept);
        self.0.is_new.notify_all();
    }

    /// The last so many, newest first.
    pub fn latest(&self, count_max: usize) -> Vec<Arc<Fact>> {
        self.lock().facts.iter().rev().take(count_max).cloned().collect()
    }

    /// The number of the last one; 0 where there was none.
    pub fn last(&self) -> u64 {
        self.lock().last
    }

    /// Those after number `after`, at most `count_max` of them; waits for one if there is none, for so long.
    pub fn after(&self, after: u64, count_max: usize, patience: Duration) -> Told {
        let until = Instant::now() + patience;
        let mut kept = self.lock();
        while kept.last <= after {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Told { facts: Vec::new(), lost: 0, upto: after };
            }
            let waited = self.0.is_new.wait_timeout(kept, left);
            kept = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let first = kept.facts.front().map_or(kept.last + 1, |fact| fact.number);
        let lost = first.saturating_sub(after + 1);
        let is_new = |fact: &&Arc<Fact>| fact.number > after;
        let facts: Vec<_> = kept.facts.iter().filter(is_new).take(count_max).cloned().collect();
        let upto = facts.last().map_or(after + lost, |fact| fact.number);
        Told { facts, lost, upto }
    }

    /// Each change under the lock leaves it whole.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn numbers(told: &Told) -> Vec<u64> {
        told.facts.iter().map(|fact| fact.number).collect()
    }

    #[test]
    fn who_is_late_is_told_how_much_was_missed() {
        let feed = Feed::default();
        assert_eq!(feed.after(0, 10, NOW), Told { facts: Vec::new(), lost: 0, upto: 0 });
        for number in 0..FACTS_MAX as u64 + 5 {
            feed.push(Tick::from_ns(number), "slow_io", vec![("n", number.into())]);
        }
        let told = feed.after(0, 2, NOW);
        assert_eq!((numbers(&told), told.lost, told.upto), (vec![6, 7], 5, 7));
        assert_eq!(told.facts[0].fields, [("n", Value::Number(5))]);
        let told = feed.after(feed.last() - 1, 10, NOW);
        assert_eq!((numbers(&told), told.lost, told.upto), (vec![feed.last()], 0, feed.last()));
        assert!(feed.after(feed.last(), 10, NOW).facts.is_empty());
        let latest: Vec<u64> = feed.latest(2).iter().map(|fact| fact.number).collect();
        assert_eq!(latest, [feed.last(), feed.last() - 1]);
    }

    #[test]
    fn who_waits_is_woken() {
        let feed = Feed::default();
        let other = feed.clone();
        let listener = std::thread::spawn(move || other.after(0, 10, Duration::from_secs(30)));
        feed.push(Tick::ZERO, "session_up", Vec::new());
        assert_eq!(numbers(&listener.join().unwrap()), [1]);
    }
}
