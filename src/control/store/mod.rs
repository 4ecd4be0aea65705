//! What must survive the process, and a power loss: one file of records, each a JSON value under a key
//! (`reservations/UUID`, `alua/UUID`, `identity/UUID`, `identifying/UUID`, `sanitize/UUID`, `array/UUID`, `disk/BDEV`, `ports`).
//!
//! Control changes records in memory and says what follows when they are durable; a thread of the store's own
//! ([`thread`]) is told what has changed and writes the whole file, atomically ([`folder::save`]). One write is in flight;
//! what changes meanwhile goes into the next. A write that fails, or that takes too long, takes back what was waited for,
//! tells who waits, and is tried again until the file says what the records say.
//!
//! The file never grows beyond what can be read back: who wants to add to it asks [`Store::fits`] first.
//!
//! Not here: what records mean. Not a database: the file is small and written whole.

pub mod disk;
pub mod file;
pub mod folder;
#[cfg(test)]
mod tests;
pub mod thread;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use serde_json::Value;

use self::file::Lines;
use crate::limits::{RECORDS_MAX, SAVE_NS, SAVE_RETRY_NS, STATE_BYTES_MAX};
use crate::time::Tick;

/// Records by key.
pub type Records = BTreeMap<String, Value>;

/// Where the file is written, elsewhere: it must not block. [`Store::saved`] is to follow for each.
pub trait Saver: Send + Debug {
    /// Makes the file say what it was to say before with these changes, durably. One that could not be written counts
    /// for the next.
    fn save(&mut self, revision: u64, changes: Changes);
}

/// Lines of records that have changed, by key; none of records that are gone.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Changes(pub Vec<(String, Option<String>)>);

impl Changes {
    /// Makes them.
    pub fn apply(self, lines: &mut Lines) {
        for (key, line) in self.0 {
            match line {
                Some(line) => lines.insert(key, line),
                None => lines.remove(&key),
            };
        }
    }
}

#[derive(Debug)]
struct Waiter<T> {
    /// It is done when this revision is durable.
    revision: u64,
    deadline: Tick,
    key: String,
    /// The record before the change.
    before: Option<Value>,
    then: T,
}

/// The records. `T` is what follows a change.
#[derive(Debug)]
pub struct Store<T> {
    records: Records,
    /// Of their lines.
    lines_bytes: usize,
    /// The file has at most so many.
    bytes_max: usize,
    /// Keys of records that the saver was not told as they are.
    untold: BTreeSet<String>,
    /// Keys of the records that there were at first.
    found: BTreeSet<String>,
    saver: Option<Box<dyn Saver>>,
    /// Counts changes.
    revision: u64,
    /// What is being written.
    saving: Option<u64>,
    /// What was written last.
    durable: u64,
    waiting: Vec<Waiter<T>>,
    /// The last write failed: the next comes then.
    retry_at: Option<Tick>,
}

impl<T> Default for Store<T> {
    /// There is no place to save anything.
    fn default() -> Store<T> {
        Store {
            records: Records::new(),
            lines_bytes: 0,
            bytes_max: STATE_BYTES_MAX,
            untold: BTreeSet::new(),
            found: BTreeSet::new(),
            saver: None,
            revision: 0,
            saving: None,
            durable: 0,
            waiting: Vec::new(),
            retry_at: None,
        }
    }
}

impl<T> Store<T> {
    /// With the records that were found.
    pub fn new(records: Records, saver: Box<dyn Saver>) -> Store<T> {
        let found = records.keys().cloned().collect();
        let lines_bytes = records.iter().map(|(key, value)| file::line(key, value).len()).sum();
        Store { records, lines_bytes, found, saver: Some(saver), ..Store::default() }
    }

    /// The file has at most so many bytes.
    #[cfg(test)]
    pub fn limit(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// Whether there is a place to save anything.
    pub fn is_there(&self) -> bool {
        self.saver.is_some()
    }

    /// A record.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.records.get(key)
    }

    /// Whether there was a record of this key at first.
    pub fn was_found(&self, key: &str) -> bool {
        self.found.contains(key)
    }

    /// All records.
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Whether the file can say this of a record. It can always say less.
    pub fn fits(&self, key: &str, value: Option<&Value>) -> bool {
        let (Some(value), true) = (value, self.is_there()) else { return true };
        let old = self.records.get(key);
        let new_bytes = file::line(key, value).len();
        let old_bytes = old.map_or(0, |old| file::line(key, old).len());
        let count = self.records.len() + usize::from(old.is_none());
        let is_more = old.is_none() || new_bytes > old_bytes;
        let bytes = file::text_bytes(count, self.lines_bytes - old_bytes + new_bytes);
        !is_more || (count <= RECORDS_MAX && bytes <= self.bytes_max)
    }

    /// Changes a record, or removes it. It will be saved; nobody waits.
    pub fn set(&mut self, key: &str, value: Option<Value>) {
        if self.put(key, value).is_some() {
            self.begin();
        }
    }

    /// The same; `then` comes back when it is durable ([`Store::saved`]), or at once where it is already or nothing can be
    /// saved.
    #[must_use]
    pub fn set_then(&mut self, key: &str, value: Option<Value>, then: T, now: Tick) -> Option<T> {
        let changed = self.put(key, value);
        if self.saver.is_none() || (changed.is_none() && self.durable == self.revision) {
            return Some(then);
        }
        let before = changed.unwrap_or_else(|| self.records.get(key).cloned());
        let (revision, deadline) = (self.revision, now.after_ns(SAVE_NS));
        self.waiting.push(Waiter { revision, deadline, key: key.to_owned(), before, then });
        self.begin();
        None
    }

    /// A write has ended. Returns what follows, in order, and whether it was saved.
    #[must_use]
    pub fn saved(&mut self, revision: u64, is_saved: bool, now: Tick) -> Vec<(T, bool)> {
        if self.saving.take_if(|saving| *saving == revision).is_none() {
            return Vec::new();
        }
        if !is_saved {
            self.retry_at = Some(now.after_ns(SAVE_RETRY_NS));
            return self.fail();
        }
        self.durable = revision;
        self.retry_at = None;
        let (done, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiter: &Waiter<T>| waiter.revision <= revision);
        self.waiting = waiting;
        self.begin();
        done.into_iter().map(|waiter: Waiter<T>| (waiter.then, true)).collect()
    }

    /// When [`Store::expire`] has something to do.
    pub fn deadline(&self) -> Option<Tick> {
        self.waiting.iter().map(|waiter| waiter.deadline).chain(self.retry_at).min()
    }

    /// Gives up what takes too long, and tries again what failed. Returns what was not saved.
    #[must_use]
    pub fn expire(&mut self, now: Tick) -> Vec<(T, bool)> {
        let is_late = self.waiting.iter().any(|waiter| waiter.deadline <= now);
        let failed = if is_late { self.fail() } else { Vec::new() };
        if self.retry_at.take_if(|at| *at <= now).is_some() {
            self.begin();
        }
        failed
    }

    /// Changes a record. Returns what it was, where that makes a difference.
    fn put(&mut self, key: &str, value: Option<Value>) -> Option<Option<Value>> {
        if self.records.get(key) == value.as_ref() {
            return None;
        }
        Some(self.replace(key, value))
    }

    fn replace(&mut self, key: &str, value: Option<Value>) -> Option<Value> {
        self.revision += 1;
        self.untold.insert(key.to_owned());
        let new_bytes = value.as_ref().map_or(0, |value| file::line(key, value).len());
        let old = match value {
            Some(value) => self.records.insert(key.to_owned(), value),
            None => self.records.remove(key),
        };
        let old_bytes = old.as_ref().map_or(0, |old| file::line(key, old).len());
        self.lines_bytes = self.lines_bytes - old_bytes + new_bytes;
        old
    }

    /// Nobody waits any longer: what they changed is as it was. What was written of it, perhaps, is written over.
    fn fail(&mut self) -> Vec<(T, bool)> {
        let mut failed = Vec::new();
        for Waiter { key, before, then, .. } in std::mem::take(&mut self.waiting).into_iter().rev() {
            self.replace(&key, before);
            failed.push((then, false));
        }
        failed.reverse();
        failed
    }

    /// Has the records written, if they are not and nothing is in the way.
    fn begin(&mut self) {
        if self.saving.is_some() || self.retry_at.is_some() || self.durable == self.revision {
            return;
        }
        if let Some(saver) = &mut self.saver {
            self.saving = Some(self.revision);
            let untold = std::mem::take(&mut self.untold).into_iter();
            let changes = untold.map(|key| {
                let line = self.records.get(&key).map(|value| file::line(&key, value));
                (key, line)
            });
            saver.save(self.revision, Changes(changes.collect()));
        }
    }
}
