//! Sessions that would not be let in any more as they are: they are seen off, so that nobody finds more than the configuration
//! allows.
//!
//! What a session was let in to it keeps while its login would be let in again, and would find as much. Else it is asked to log
//! out, and ended [`DELETE_SECONDS`] later if it is not welcome again by then; meanwhile it finds what it found and nothing new.
//! Secrets are no part of this: who has proved who it is has done so.
//!
//! Several changes that belong together are reviewed as one: what the first of them closes another may open again. What others
//! change meanwhile is reviewed then, too, and they are answered after that.

use std::sync::Arc;

use super::Control;
use super::done::Done;
use super::pending::ChangeId;
use super::sessions::State;
use crate::id::SessionId;
use crate::limits::{DELETE_NS, DELETE_SECONDS};
use crate::net::Net;
use crate::reactor::message::{EndReason, ToReactor};
use crate::scsi::view::TargetView;
use crate::time::{SECOND_NS, Tick};

/// Reviews that are held back.
#[derive(Debug, Default)]
pub(super) struct Held {
    is_held: bool,
    /// What is changed now belongs to what they are held back for.
    is_part: bool,
    /// Changes of others, which wait for theirs.
    others: Vec<ChangeId>,
}

impl<N: Net> Control<N> {
    /// From now on changes of who may come see nobody off, until [`Control::release_reviews`].
    pub fn hold_reviews(&mut self) {
        self.held_reviews.is_held = true;
    }

    /// Makes a change for which reviews are held back: it does not wait for its own.
    pub fn as_part_of_held<R>(&mut self, change: impl FnOnce(&mut Self) -> R) -> R {
        self.held_reviews.is_part = true;
        let changed = change(self);
        self.held_reviews.is_part = false;
        changed
    }

    /// Sees off those who are not welcome after all that was changed; `done` when their sessions are gone.
    pub fn release_reviews(&mut self, done: Done) {
        let held = std::mem::take(&mut self.held_reviews);
        for id in held.others {
            self.review(id);
            self.part_done(id, true);
        }
        let id = self.pending.begin(done);
        self.review(id);
        self.part_done(id, true);
    }

    /// Whether they are held back.
    #[cfg(test)]
    pub(crate) fn holds_reviews(&self) -> bool {
        self.held_reviews.is_held
    }

    /// [`Control::review`], after a change to which others may belong. A change that comes while reviews are held back for those of
    /// somebody else waits for its review.
    pub(super) fn review_or_hold(&mut self, id: ChangeId) {
        if !self.held_reviews.is_held {
            self.review(id);
        } else if !self.held_reviews.is_part {
            self.hold_review(id);
        }
    }

    /// The same of a change that takes something away for good: where it is one of those that belong together it is the last.
    pub(super) fn review_or_wait(&mut self, id: ChangeId) {
        if self.held_reviews.is_held && !self.held_reviews.is_part {
            self.hold_review(id);
        } else {
            self.review(id);
        }
    }

    fn hold_review(&mut self, id: ChangeId) {
        self.pending.add_part(id);
        self.held_reviews.others.push(id);
        // Who asked is answered in any case.
        self.end_in_time(id, self.now);
    }

    /// Sees off the sessions that are not welcome any more. The change waits for them.
    pub(super) fn review(&mut self, id: ChangeId) {
        let is_leaving =
            |target: &str| self.catalog.targets.get(target).is_none_or(|target| target.is_leaving);
        let all = self.sessions.iter().filter(|(_, session)| !is_leaving(&session.nexus.target));
        let unwelcome = all.filter(|(_, session)| !self.catalog.is_welcome(session));
        for session in unwelcome.map(|(session, _)| session).collect::<Vec<_>>() {
            self.see_off(session, id);
        }
        self.end_in_time(id, self.now);
    }

    /// Of the sessions that find what is about to be shown, ends those at once that are not welcome to it.
    pub(super) fn end_unwelcome(&mut self, shown: &[Arc<TargetView>]) {
        let finds = |session: &super::sessions::Session, view: &TargetView| {
            (&view.name, view.portal_group, view.lun_map)
                == (&session.nexus.target, session.nexus.portal_group, session.lun_map)
        };
        let all = self.sessions.iter();
        let unwelcome = all.filter(|(_, session)| {
            shown.iter().any(|view| finds(session, view)) && !self.catalog.is_welcome(session)
        });
        for session in unwelcome.map(|(session, _)| session).collect::<Vec<_>>() {
            self.sessions.end(session, EndReason::Removed);
        }
        self.run_steps(self.now);
    }

    /// Asks a session to log out, as part of a change that waits for its end.
    pub(super) fn see_off(&mut self, session: SessionId, id: ChangeId) {
        let Some(known) = self.sessions.get(session) else { return };
        match known.state {
            // Control has the connection still.
            State::Entering(_) => return self.sessions.end(session, EndReason::Removed),
            State::Live { .. } if !self.pending.is_awaited(session) => {
                let ask = ToReactor::AskLogout { session, seconds: DELETE_SECONDS };
                self.outbox.send(known.reactor, ask);
            }
            State::Live { .. } | State::Ending | State::Draining => {}
        }
        self.pending.add_session(id, session);
    }

    /// Has the sessions that a change waits for ended in a little while, and who asked answered in any case.
    pub(super) fn end_in_time(&mut self, id: ChangeId, now: Tick) {
        let end_at = now.after_ns(u64::from(DELETE_SECONDS) * SECOND_NS);
        self.pending.set_leaving(id, end_at, now.after_ns(DELETE_NS));
        self.run_steps(now);
    }
}
