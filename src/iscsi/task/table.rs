//! The table of a reactor's tasks, and the lists of its sessions in it.

use super::{Links, Task};
use crate::id::SessionId;
use crate::iscsi::obligation::End;
use crate::iscsi::slow::SlowLog;
use crate::slab::{Key, Slab};
use crate::time::Tick;

/// A session's tasks, oldest first.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskList {
    first: Option<Key>,
    last: Option<Key>,
    count: usize,
}

impl TaskList {
    /// How many.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The oldest.
    pub fn first(&self) -> Option<Key> {
        self.first
    }
}

/// Every task of a reactor.
#[derive(Debug)]
pub struct Tasks {
    slab: Slab<Task>,
    /// Those that took too long.
    pub slow: SlowLog,
}

impl Drop for Tasks {
    /// The end of a reactor excuses from everything.
    fn drop(&mut self) {
        for index in 0..self.slab.used() {
            if let Some(task) = self.slab.key_at(index).and_then(|key| self.slab.get_mut(key))
                && !task.obligation.is_met()
            {
                task.obligation.meet(End::ConnectionGone);
            }
        }
    }
}

impl Tasks {
    /// An empty table for at most `capacity` tasks.
    pub fn new(capacity: u32) -> Tasks {
        Tasks { slab: Slab::new(capacity), slow: SlowLog::new() }
    }

    /// Makes room for `count` more tasks. Allocates.
    pub fn grow(&mut self, count: u32) {
        self.slab.grow(count);
    }

    /// The task, unless it has ended.
    pub fn get(&self, key: Key) -> Option<&Task> {
        self.slab.get(key)
    }

    /// The task, unless it has ended.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut Task> {
        self.slab.get_mut(key)
    }

    /// A task ends: notes it, where it took too long.
    #[inline(always)]
    pub(in crate::iscsi) fn ends(&mut self, session: SessionId, key: Key, now: Tick) {
        if let Some(task) = self.slab.get(key) {
            self.slow.ends(session, task, now);
        }
    }

    /// The present tenant of a slot.
    pub fn key_at(&self, index: u32) -> Option<Key> {
        self.slab.key_at(index)
    }

    /// How many more fit.
    pub fn room(&self) -> usize {
        self.slab.room()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Appends a task to its session's list; none where the table is full.
    #[inline(always)]
    pub fn push(&mut self, list: &mut TaskList, task: Task) -> Option<Key> {
        let key = self.slab.insert(Task { links: Links { previous: list.last, next: None }, ..task }).ok()?;
        match list.last.and_then(|last| self.slab.get_mut(last)) {
            Some(last) => last.links.next = Some(key),
            None => list.first = Some(key),
        }
        list.last = Some(key);
        list.count += 1;
        Some(key)
    }

    /// Takes a task out of its session's list, and drops it where it is.
    pub fn discard(&mut self, list: &mut TaskList, key: Key) {
        let Some(links) = self.slab.get(key).map(|task| task.links) else { return };
        self.unlink(list, links);
        list.count -= 1;
        self.slab.discard(key);
    }

    /// Puts a task of the list behind all others.
    pub fn move_to_end(&mut self, list: &mut TaskList, key: Key) {
        if list.last == Some(key) {
            return;
        }
        let Some(links) = self.slab.get(key).map(|task| task.links) else { return };
        self.unlink(list, links);
        let last = list.last.replace(key);
        if let Some(last) = last.and_then(|last| self.slab.get_mut(last)) {
            last.links.next = Some(key);
        }
        if let Some(task) = self.slab.get_mut(key) {
            task.links = Links { previous: last, next: None };
        }
    }

    /// Closes the gap that a task with these links leaves; it is not the only one, or it goes for good.
    fn unlink(&mut self, list: &mut TaskList, links: Links) {
        let Links { previous, next } = links;
        match previous.and_then(|previous| self.slab.get_mut(previous)) {
            Some(previous) => previous.links.next = next,
            None => list.first = next,
        }
        match next.and_then(|next| self.slab.get_mut(next)) {
            Some(next) => next.links.previous = previous,
            None => list.last = previous,
        }
    }

    /// The task after this one in its session.
    pub fn next(&self, key: Key) -> Option<Key> {
        self.slab.get(key)?.links.next
    }

    /// The first task of the list that `wanted` accepts.
    pub fn find(&self, list: &TaskList, mut wanted: impl FnMut(&Task) -> bool) -> Option<Key> {
        let mut at = list.first;
        while let Some(key) = at {
            let task = self.slab.get(key)?;
            if wanted(task) {
                return Some(key);
            }
            at = task.links.next;
        }
        None
    }
}
