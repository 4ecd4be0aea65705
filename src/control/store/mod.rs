//! What must survive the process, and a power loss: one file of records, each a JSON value under a key
//! (`reservations/UUID`, `alua/UUID`, `identity/UUID`, `ports`).
//!
//! Control changes records in memory and says what follows when they are durable; a thread of the store's own
//! ([`thread`]) writes the whole file, atomically ([`folder::save`]). One write is in flight; what changes meanwhile goes
//! into the next. A write that fails, or that takes too long, takes back what was waited for, tells who waits, and is tried
//! again until the file says what the records say.
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

use crate::limits::{RECORDS_MAX, SAVE_NS, SAVE_RETRY_NS};
use crate::time::Tick;

/// Records by key.
pub type Records = BTreeMap<String, Value>;

/// Where the file is written, elsewhere: it must not block. [`Store::saved`] is to follow for each.
pub trait Saver: Send + Debug {
    /// Makes `text` the file's content, durably.
    fn save(&mut self, revision: u64, text: Vec<u8>);
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
        Store { records, found, saver: Some(saver), ..Store::default() }
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

    /// Whether a record of this key can be made or changed.
    pub fn has_room(&self, key: &str) -> bool {
        self.records.len() < RECORDS_MAX || self.records.contains_key(key)
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
        self.revision += 1;
        Some(match value {
            Some(value) => self.records.insert(key.to_owned(), value),
            None => self.records.remove(key),
        })
    }

    /// Nobody waits any longer: what they changed is as it was. What was written of it, perhaps, is written over.
    fn fail(&mut self) -> Vec<(T, bool)> {
        let mut failed = Vec::new();
        for Waiter { key, before, then, .. } in std::mem::take(&mut self.waiting).into_iter().rev() {
            self.revision += 1;
            match before {
                Some(before) => self.records.insert(key, before),
                None => self.records.remove(&key),
            };
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
            saver.save(self.revision, file::text(&self.records));
        }
    }
}
