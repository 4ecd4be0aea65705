//! Changes that wait: for barriers, for sessions that end, for reactors that let go of a unit.
//!
//! A change has parts; when the last is done it is complete and who asked is told. Who asked is told at once where a device
//! keeps IO for too long, and after a while in any case; the change goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::done::{Done, Outcome};
use super::error::{ChangeError, What};
use crate::bdev::Bdev;
use crate::id::{ReactorId, SessionId, UnitId};
use crate::limits::CHANGES_MAX;
use crate::time::Tick;

/// A change under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ChangeId(u64);

/// Sessions on their way out.
#[derive(Debug)]
struct Leaving {
    /// They are ended then.
    end_at: Option<Tick>,
    /// Who asked is answered then.
    answer_at: Option<Tick>,
}

#[derive(Debug)]
struct Change {
    parts: usize,
    is_clean: bool,
    is_saved: bool,
    done: Option<Done>,
    bdevs: Vec<Arc<dyn Bdev>>,
    leaving: Option<Leaving>,
    after: After,
}

/// What is left to be done when a change is complete.
#[derive(Debug)]
pub(super) enum After {
    Nothing,
    /// The target can be forgotten.
    ForgetTarget(String),
    /// The initiator group can be forgotten.
    ForgetInitiators(u32),
}

/// The changes under way.
#[derive(Debug, Default)]
pub(super) struct Pending {
    changes: BTreeMap<ChangeId, Change>,
    last: u64,
    /// Who waits for the end of which.
    sessions: BTreeSet<(SessionId, ChangeId)>,
    units: BTreeMap<UnitId, (ChangeId, BTreeSet<ReactorId>)>,
}

impl Pending {
    /// Whether another one may begin.
    pub(super) fn check_room(&self) -> Result<(), ChangeError> {
        if self.changes.len() < CHANGES_MAX {
            Ok(())
        } else {
            Err(ChangeError::TooMany { what: What::Change, most: CHANGES_MAX })
        }
    }

    /// A change with one part, its beginning: to be ended by [`Pending::part_done`] when all others were added.
    pub(super) fn begin(&mut self, done: Done) -> ChangeId {
        self.last += 1;
        let id = ChangeId(self.last);
        let change = Change {
            parts: 1,
            is_clean: true,
            is_saved: true,
            done: Some(done),
            bdevs: Vec::new(),
            leaving: None,
            after: After::Nothing,
        };
        self.changes.insert(id, change);
        id
    }

    /// A barrier belongs to it.
    pub(super) fn add_part(&mut self, id: ChangeId) {
        if let Some(change) = self.changes.get_mut(&id) {
            change.parts += 1;
        }
    }

    /// A part of it could not be saved, and is not done.
    pub(super) fn not_saved(&mut self, id: ChangeId) {
        if let Some(change) = self.changes.get_mut(&id) {
            change.is_saved = false;
        }
    }

    /// It is complete only when this session is gone.
    pub(super) fn add_session(&mut self, id: ChangeId, session: SessionId) {
        if self.sessions.insert((session, id)) {
            self.add_part(id);
        }
    }

    /// Whether a change waits for the end of this session.
    pub(super) fn is_awaited(&self, session: SessionId) -> bool {
        self.of(session).next().is_some()
    }

    fn of(&self, session: SessionId) -> impl Iterator<Item = ChangeId> {
        let all = self.sessions.range((session, ChangeId(0))..=(session, ChangeId(u64::MAX)));
        all.map(|(_, id)| *id)
    }

    /// It is complete only when each of `reactors` has let go of this unit.
    pub(super) fn add_unit(&mut self, id: ChangeId, unit: UnitId, reactors: BTreeSet<ReactorId>) {
        self.units.insert(unit, (id, reactors));
        self.add_part(id);
    }

    /// Who asked gets this device.
    pub(super) fn add_bdev(&mut self, id: ChangeId, bdev: Arc<dyn Bdev>) {
        let Some(change) = self.changes.get_mut(&id) else { return };
        if change.done.is_some() {
            change.bdevs.push(bdev);
        } else {
            close(bdev);
        }
    }

    /// The sessions that it waits for are ended then, and who asked is answered then in any case.
    pub(super) fn set_leaving(&mut self, id: ChangeId, end_at: Tick, answer_at: Tick) {
        if let Some(change) = self.changes.get_mut(&id) {
            change.leaving = Some(Leaving { end_at: Some(end_at), answer_at: Some(answer_at) });
        }
    }

    /// What is left to be done when it is complete.
    pub(super) fn set_after(&mut self, id: ChangeId, after: After) {
        if let Some(change) = self.changes.get_mut(&id) {
            change.after = after;
        }
    }

    /// A part is done.
    pub(super) fn part_done(&mut self, id: ChangeId, is_clean: bool) -> After {
        let Some(change) = self.changes.get_mut(&id) else { return After::Nothing };
        change.parts -= 1;
        change.is_clean &= is_clean;
        if change.parts > 0 {
            if !is_clean {
                change.answer();
            }
            return After::Nothing;
        }
        let Some(mut change) = self.changes.remove(&id) else { return After::Nothing };
        change.answer();
        change.after
    }

    /// A session is gone.
    pub(super) fn session_gone(&mut self, session: SessionId) -> Vec<After> {
        let ids: Vec<ChangeId> = self.of(session).collect();
        let done = |id: ChangeId| {
            self.sessions.remove(&(session, id));
            self.part_done(id, true)
        };
        ids.into_iter().map(done).collect()
    }

    /// A reactor has let go of a unit. The change that waits for it, if it was the last.
    pub(super) fn released(&mut self, unit: UnitId, reactor: ReactorId) -> Option<ChangeId> {
        let (id, reactors) = self.units.get_mut(&unit)?;
        reactors.remove(&reactor);
        if !reactors.is_empty() {
            return None;
        }
        let id = *id;
        self.units.remove(&unit);
        Some(id)
    }

    /// Units that a reactor has to let go of still.
    pub(super) fn held_by(&self, reactor: ReactorId) -> Vec<UnitId> {
        let held = self.units.iter().filter(|(_, (_, reactors))| reactors.contains(&reactor));
        held.map(|(&unit, _)| unit).collect()
    }

    /// When [`Pending::expire`] has something to do.
    pub(super) fn deadline(&self) -> Option<Tick> {
        let leaving = self.changes.values().filter_map(|change| change.leaving.as_ref());
        leaving.flat_map(|leaving| [leaving.end_at, leaving.answer_at]).flatten().min()
    }

    /// Answers those who have waited long enough. Returns sessions that are to be ended now.
    pub(super) fn expire(&mut self, now: Tick) -> Vec<SessionId> {
        let mut ended = Vec::new();
        for (id, change) in &mut self.changes {
            let Some(leaving) = &mut change.leaving else { continue };
            if leaving.end_at.take_if(|at| *at <= now).is_some() {
                let awaited = self.sessions.iter().filter(|(_, waits)| waits == id);
                ended.extend(awaited.map(|&(session, _)| session));
            }
            if leaving.answer_at.take_if(|at| *at <= now).is_some() {
                change.is_clean = false;
                change.answer();
            }
        }
        ended
    }
}

impl Change {
    fn answer(&mut self) {
        let bdevs = std::mem::take(&mut self.bdevs);
        match self.done.take() {
            Some(done) => done.call(Outcome { is_clean: self.is_clean, is_saved: self.is_saved, bdevs }),
            None => bdevs.into_iter().for_each(close),
        }
    }
}

/// Drops a device that nobody waits for any more, where that may block.
fn close(bdev: Arc<dyn Bdev>) {
    let closing = std::thread::Builder::new().name("bdev-close".to_owned());
    if let Err(error) = closing.spawn(move || drop(bdev)) {
        tracing::error!(%error, "no thread to close a bdev on: control did it");
    }
}
