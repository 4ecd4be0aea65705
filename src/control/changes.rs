//! How what has changed reaches the reactors: units that are shown differently, targets whose LUNs are others, and who is told
//! when all is done.

use std::sync::Arc;

use super::Control;
use super::done::Done;
use super::error::ChangeError;
use super::keeper::Then;
use super::pending::{After, ChangeId};
use super::sessions::Sessions;
use crate::id::{SessionId, UnitId};
use crate::net::Net;
use crate::reactor::message::{Change, EndReason, ToReactor};
use crate::scsi::attention::Ua;
use crate::scsi::view::{Medium, TargetView, UnitView};
use crate::time::Tick;

impl<N: Net> Control<N> {
    /// Shows a unit differently. Initiators are told what concerns them; a change that takes something away waits for the
    /// IO that a device has.
    ///
    /// # Errors
    /// No such unit.
    pub fn replace_unit(&mut self, view: UnitView) -> Result<(), ChangeError> {
        self.show_unit(view, None, Then::Nothing).map(drop)
    }

    /// The same, `except` being the session that has asked for it and so is not told, and `then` what follows. Whether
    /// it will: nothing does where the view is as it was and nobody waits, or no reactor runs.
    pub(super) fn show_unit(
        &mut self,
        view: UnitView,
        except: Option<SessionId>,
        then: Then,
    ) -> Result<bool, ChangeError> {
        let view = Arc::new(view);
        let old = self.catalog.registry.replace(Arc::clone(&view))?;
        if old == view {
            // Who asks for it again waits for as much as who asked first: that may still be on its way, and where a device
            // kept an IO of before, it may keep it still.
            let is_drained = is_restricted(&view);
            let change = Change::Unit { view, attention: None, except, is_drained };
            return Ok(then != Then::Nothing && self.barrier(change, then));
        }
        let attention = attention(&old, &view);
        let is_drained = takes_away(&old, &view);
        Ok(self.barrier(Change::Unit { view, attention, except, is_drained }, then))
    }

    /// Changes nothing: `done` is called when every reactor has taken a turn.
    pub fn await_turns(&mut self, done: Done) {
        let id = self.pending.begin(done);
        self.change(Change::Nothing, Some(id));
        self.part_done(id, true);
    }

    /// Ends a session; its initiator may log in again.
    pub fn end_session(&mut self, session: SessionId, now: Tick) {
        self.sessions.end(session, EndReason::Removed);
        self.run_steps(now);
    }

    /// Tells the reactors of units that they do not know.
    pub(super) fn tell_made(&mut self) {
        for (view, bdev) in self.catalog.registry.take_made() {
            let view = Arc::new(self.restored(UnitView::clone(&view)));
            // It was there a moment ago.
            let _ = self.catalog.registry.replace(Arc::clone(&view));
            self.outbox.broadcast(|| ToReactor::AddUnit { view: Arc::clone(&view), bdev: Arc::clone(&bdev) });
        }
    }

    /// LUNs have changed; `unmapped` are the units that some led to.
    pub(super) fn publish(
        &mut self,
        changed: Vec<Arc<TargetView>>,
        unmapped: &[UnitId],
        id: Option<ChangeId>,
    ) {
        let drained: Arc<[UnitId]> = unmapped.into();
        for target in changed {
            let attention = Some(Ua::LunsChanged);
            self.change(Change::Target { target, attention, drained: Arc::clone(&drained) }, id);
        }
    }

    /// What SendTargets tells has changed.
    pub(super) fn republish(&mut self, changed: Vec<Arc<TargetView>>) {
        for target in changed {
            self.change(Change::Target { target, attention: None, drained: Arc::new([]) }, None);
        }
    }

    /// A barrier, perhaps as part of a change that somebody waits for.
    pub(super) fn change(&mut self, change: Change, id: Option<ChangeId>) {
        if self.barrier(change, id.map_or(Then::Nothing, Then::Part))
            && let Some(id) = id
        {
            self.pending.add_part(id);
        }
    }

    /// A part of a change is done.
    pub(super) fn part_done(&mut self, id: ChangeId, is_clean: bool) {
        let after = self.pending.part_done(id, is_clean);
        self.go_on(after);
    }

    /// A session is gone.
    pub(super) fn session_gone(&mut self, session: SessionId) {
        for after in self.pending.session_gone(session) {
            self.go_on(after);
        }
    }

    fn go_on(&mut self, after: After) {
        match after {
            After::Nothing => {}
            After::ForgetTarget(target) => self.catalog.targets.forget(&target),
            After::ForgetInitiators(tag) => {
                let changed = self.catalog.forget_initiators(tag, &is_used(&self.sessions));
                self.republish(changed);
            }
        }
    }

    /// What time does to changes under way.
    pub(super) fn expire_changes(&mut self, now: Tick) {
        for session in self.pending.expire(now) {
            // What has changed since may have let it in again.
            if self.sessions.get(session).is_some_and(|session| self.catalog.is_welcome(session)) {
                self.session_gone(session);
            } else {
                self.sessions.end(session, EndReason::Removed);
            }
        }
        self.run_steps(now);
    }
}

/// Whether a target has a session at a portal group.
pub(super) fn is_used(sessions: &Sessions) -> impl Fn(&str, u16) -> bool {
    |target, tag| sessions.is_at(target, tag)
}

/// What sessions are told of a change (SBC-4 §4.7, SPC-5 §6.6).
fn attention(old: &UnitView, new: &UnitView) -> Option<Ua> {
    let is_resized = (old.blocks, old.block_bytes) != (new.blocks, new.block_bytes);
    // When a device gives back what it kept, nobody is told: what concerns the medium is told before.
    let is_in = |medium: Medium| medium.is_there() || medium == Medium::Unsettled;
    match (old.medium, new.medium) {
        // No command says so later.
        (was, is) if is_in(was) && is_in(is) && is_resized => return Some(Ua::CapacityChanged),
        // SBC-4 §4.3: one that appears may be of any size and content.
        (was, is) if !is_in(was) && is_in(is) => return Some(Ua::MediumChanged),
        // The command that was carried out has been answered; nobody else is told of it.
        (_, Medium::Ready) => {}
        // What a medium takes along with it, commands say.
        (was, is) if was != is => return None,
        // Whatever state it is in, and stays in.
        _ => {}
    }
    if old.identity != new.identity || old.alua.is_explicit() != new.alua.is_explicit() {
        Some(Ua::InquiryChanged)
    } else if old.alua != new.alua {
        Some(Ua::AccessChanged)
    } else if (old.read_only, old.modes) != (new.read_only, new.modes) {
        Some(Ua::ModeChanged)
    } else if old.settings.identifying != new.settings.identifying {
        Some(Ua::IdentifierChanged)
    } else if old.settings.clock != new.settings.clock {
        Some(Ua::TimestampChanged)
    } else {
        None
    }
}

/// Whether something that was allowed no longer is: a shrink, write protection, a medium that goes.
fn takes_away(old: &UnitView, new: &UnitView) -> bool {
    new.blocks < old.blocks
        || new.block_bytes != old.block_bytes
        || (new.is_write_protected() && !old.is_write_protected())
        || (new.is_write_through() && !old.is_write_through())
        || (new.medium != Medium::Ready && old.medium == Medium::Ready)
        || old.alua.takes_away(&new.alua)
}

/// Whether something is not allowed that a device may still have an IO of, from when it was. What a chore is made of is not such.
fn is_restricted(view: &UnitView) -> bool {
    !view.medium.is_there()
        || view.is_write_protected()
        || view.is_write_through()
        || view.alua.is_restricted()
}
