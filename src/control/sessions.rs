//! The session table: which initiator has which session, where it is served, and in which order one replaces another.
//!
//! A session's life: *entering* (its login is being finished, or it waits for its predecessor's connection to close),
//! *live* on a reactor, *ending* (the reactor was told to close it), *draining* (closed, but a device may still have IO
//! of it), gone. A nexus (initiator name, ISID, target, portal group; RFC 7143 §4.4.2) has at most one session that is
//! entering or live; those before it may still be ending or draining:
//! - a session is adopted only after the connections of all its predecessors are closed;
//! - it is adopted gated, so that nothing of it is submitted, while a device may have IO of any of them.
//!
//! Invariant: what control has to do about it is in [`Sessions::next_step`], and nothing else here has effects.
//!
//! A live session may get further connections, up to MaxConnections. One with the CID of a connection that it has replaces
//! that one (RFC 7143 §6.3.4). Its reactor ends the session when the last connection is gone, at error recovery level 2 after
//! the time for which it retains it.

mod ledger;
mod links;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

pub use self::ledger::{Ledger, Pairing};
pub use self::links::Link;
use super::Origin;
use super::nexuses::Nexuses;
use super::placement::{Load, place};
use crate::id::{NexusId, ReactorId, SessionId, UnitId};
use crate::iscsi::login::{Joined, Refusal};
use crate::limits::SESSIONS_MAX;
use crate::meter::SessionMeter;
use crate::reactor::message::{CloseCause, EndReason};
use crate::scsi::attention::Ua;
use crate::slab::Key;

/// An I_T nexus. Names are in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Nexus {
    /// The initiator's name.
    pub initiator: String,
    /// The initiator's part of the session identifier.
    pub isid: [u8; 6],
    /// The target's name.
    pub target: String,
    /// Target portal group tag.
    pub portal_group: u16,
}

/// Where a session is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Control has the connection still, under this key.
    Entering(Key),
    /// Served by its reactor.
    Live {
        /// It may submit nothing yet.
        is_gated: bool,
    },
    /// Its reactor was told to close it.
    Ending,
    /// Its connection is closed; a device may have IO of it.
    Draining,
}

/// A session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// Its nexus.
    pub nexus: Nexus,
    /// Target session identifying handle; not 0.
    pub tsih: u16,
    /// Whose LUNs it finds: an initiator group's (tag), or everybody's.
    pub lun_map: Option<u32>,
    /// The initiator group (tag) that let it in.
    pub let_in_by: Option<u32>,
    /// Its connections.
    pub links: Vec<Link>,
    /// Where the first came from and came to.
    pub origin: Origin,
    /// What its first login agreed on, and the last ExpCmdSN that is known.
    pub first: Joined,
    /// Where it is or will be served.
    pub reactor: ReactorId,
    /// Where it is in its life.
    pub state: State,
    /// Why its connection was closed, once its reactor has said so.
    pub cause: Option<CloseCause>,
    /// Where its reactor counts what it does.
    pub meter: Arc<SessionMeter>,
}

/// Something control has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Tell the reactor to close the session.
    End(ReactorId, SessionId, EndReason),
    /// Close a connection that control has: its session is withdrawn already.
    Drop(Key),
    /// The session of this connection may be adopted now.
    Proceed(Key),
    /// Tell the reactor that the session may submit.
    OpenGate(ReactorId, SessionId),
}

/// How a session is to be adopted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admission {
    /// By whom.
    pub reactor: ReactorId,
    /// Under which name.
    pub session: SessionId,
    /// Whose it is.
    pub nexus: NexusId,
    /// Nothing is submitted until the gate opens.
    pub is_gated: bool,
    /// What it is told at each logical unit first.
    pub attention: Ua,
    /// What else arose while its nexus had no session.
    pub owed: Vec<(UnitId, Ua)>,
    /// Where it counts what it does.
    pub meter: Arc<SessionMeter>,
}

/// The table.
#[derive(Debug)]
pub struct Sessions {
    all: BTreeMap<SessionId, Session>,
    /// Of each nexus, oldest first.
    by_nexus: BTreeMap<Nexus, Vec<SessionId>>,
    /// In use, by discovery sessions too.
    tsihs: BTreeSet<u16>,
    tsih_last: u16,
    id_last: u64,
    reactor_count: usize,
    count_max: usize,
    nexuses: Nexuses,
    ledger: Ledger,
    steps: VecDeque<Step>,
}

impl Sessions {
    /// No session, room for so many, and so many reactors for them; at least one.
    pub fn new(reactor_count: usize, count_max: usize) -> Sessions {
        Sessions {
            all: BTreeMap::new(),
            by_nexus: BTreeMap::new(),
            tsihs: BTreeSet::new(),
            tsih_last: 0,
            id_last: 0,
            reactor_count: reactor_count.max(1),
            count_max: count_max.min(SESSIONS_MAX),
            nexuses: Nexuses::default(),
            ledger: Ledger::default(),
            steps: VecDeque::new(),
        }
    }

    /// A login with TSIH 0 that is about to succeed: the nexus's new session, which replaces the one it has
    /// (RFC 7143 §6.3.5). `conn` is its connection.
    ///
    /// # Errors
    /// No room.
    pub fn open(
        &mut self,
        nexus: Nexus,
        cid: u16,
        conn: Key,
        origin: Origin,
        first: Joined,
    ) -> Result<(SessionId, u16), Refusal> {
        if self.all.len() >= self.count_max {
            return Err(Refusal::OutOfResources);
        }
        for id in self.of_nexus(&nexus) {
            self.end(id, EndReason::Reinstated);
        }
        let reactor = place(&self.loads(&nexus));
        let (id, tsih) = self.reserve_ids();
        self.by_nexus.entry(nexus.clone()).or_default().push(id);
        let links = vec![Link { cid, origin, entering: None }];
        let state = State::Entering(conn);
        self.all.insert(
            id,
            Session {
                nexus,
                tsih,
                lun_map: None,
                let_in_by: None,
                links,
                origin,
                first,
                reactor,
                state,
                cause: None,
                meter: Arc::default(),
            },
        );
        Ok((id, tsih))
    }

    /// Names for a discovery session; the TSIH goes back by [`Sessions::release_tsih`].
    pub fn open_discovery(&mut self) -> (SessionId, u16) {
        self.reserve_ids()
    }

    /// By which initiator group (tag) a session is let in, and whose LUNs it finds.
    pub fn let_in(&mut self, id: SessionId, by: Option<u32>, lun_map: Option<u32>) {
        if let Some(session) = self.all.get_mut(&id) {
            session.let_in_by = by;
            session.lun_map = lun_map;
        }
    }

    /// A discovery session is over.
    pub fn release_tsih(&mut self, tsih: u16) {
        self.tsihs.remove(&tsih);
    }

    /// The session's login is finished: adopts it, or none where that has to wait for [`Step::Proceed`].
    pub fn admit(&mut self, id: SessionId) -> Option<Admission> {
        let nexus = self.all.get(&id)?.nexus.clone();
        let before: Vec<SessionId> = self.of_nexus(&nexus).into_iter().filter(|&other| other != id).collect();
        if before.iter().any(|other| self.state(*other) != Some(State::Draining)) {
            return None;
        }
        let is_gated = !before.is_empty();
        let arrival = self.nexuses.arrive(&nexus);
        let attention = if arrival.has_come { Ua::NexusLoss } else { Ua::PowerOnOrReset };
        let session = self.all.get_mut(&id)?;
        session.state = State::Live { is_gated };
        Some(Admission {
            reactor: session.reactor,
            session: id,
            nexus: arrival.id,
            is_gated,
            attention,
            owed: arrival.owed,
            meter: Arc::clone(&session.meter),
        })
    }

    /// The session's connection broke before it was adopted.
    pub fn withdraw(&mut self, id: SessionId) {
        if matches!(self.state(id), Some(State::Entering(_))) {
            self.remove(id);
        }
    }

    /// Ends a session, whatever it is doing.
    pub fn end(&mut self, id: SessionId, reason: EndReason) {
        let Some(session) = self.all.get_mut(&id) else { return };
        match session.state {
            State::Entering(conn) => {
                self.steps.push_back(Step::Drop(conn));
                self.remove(id);
            }
            State::Live { .. } => {
                session.state = State::Ending;
                self.steps.push_back(Step::End(session.reactor, id, reason));
            }
            State::Ending | State::Draining => {}
        }
    }

    /// Its reactor says why it closes the session's connection.
    pub fn closing(&mut self, id: SessionId, cause: CloseCause) {
        if let Some(session) = self.all.get_mut(&id) {
            session.cause = Some(cause);
        }
    }

    /// Its reactor says that the session's connection is closed.
    pub fn ended(&mut self, id: SessionId) {
        let Some(session) = self.all.get_mut(&id) else { return };
        if !matches!(session.state, State::Live { .. } | State::Ending) {
            return;
        }
        session.state = State::Draining;
        self.tsihs.remove(&session.tsih);
        // Who was about to join it comes too late.
        self.steps.extend(session.links.iter().filter_map(|link| link.entering).map(Step::Drop));
        session.links.retain(|link| link.entering.is_none());
        let nexus = session.nexus.clone();
        let of_nexus = self.of_nexus(&nexus);
        if of_nexus.iter().any(|&other| self.state(other) == Some(State::Ending)) {
            return;
        }
        let entering = of_nexus.iter().find_map(|&other| match self.state(other)? {
            State::Entering(conn) => Some(conn),
            _ => None,
        });
        self.steps.extend(entering.map(Step::Proceed));
    }

    /// Its reactor says that no device has any IO of the session any more.
    pub fn drained(&mut self, id: SessionId) {
        if self.state(id) != Some(State::Draining) {
            return;
        }
        let Some(session) = self.remove(id) else { return };
        let of_nexus = self.of_nexus(&session.nexus);
        let &[last] = of_nexus.as_slice() else { return };
        if let Some(session) = self.all.get_mut(&last)
            && session.state == (State::Live { is_gated: true })
        {
            session.state = State::Live { is_gated: false };
            self.steps.push_back(Step::OpenGate(session.reactor, last));
        }
    }

    /// What control has to do next, in order, until there is nothing.
    #[must_use]
    pub fn next_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// A session.
    pub fn get(&self, id: SessionId) -> Option<&Session> {
        self.all.get(&id)
    }

    /// The sessions of a target, by name.
    pub fn of_target(&self, target: &str) -> Vec<SessionId> {
        let is_of = |(&id, session): (&SessionId, &Session)| (session.nexus.target == target).then_some(id);
        self.all.iter().filter_map(is_of).collect()
    }

    /// The number of a session's nexus; none before the session is admitted for the first time.
    pub fn nexus_of(&self, id: SessionId) -> Option<NexusId> {
        self.nexuses.find(&self.all.get(&id)?.nexus)
    }

    /// Which nexus has a number.
    pub fn nexus(&self, id: NexusId) -> Option<&Nexus> {
        self.nexuses.get(id)
    }

    /// The number of a nexus, which need not have come yet.
    pub fn know(&mut self, nexus: &Nexus) -> NexusId {
        self.nexuses.know(nexus)
    }

    /// The ISIDs by which an initiator has come to a target, or `is_registered` there.
    pub fn isids_of(
        &self,
        initiator: &str,
        target: &str,
        is_registered: impl Fn(NexusId) -> bool,
    ) -> Vec<[u8; 6]> {
        self.nexuses.isids_of(initiator, target, is_registered)
    }

    /// Whether the session is served by its reactor and is to be.
    pub fn is_live(&self, id: SessionId) -> bool {
        matches!(self.state(id), Some(State::Live { .. }))
    }

    /// A unit attention has arisen: where the nexus has no session that is served, its next one will be told.
    pub fn owe(&mut self, id: NexusId, unit: UnitId, ua: Ua) {
        let Some(nexus) = self.nexuses.get(id) else { return };
        if !self.of_nexus(nexus).into_iter().any(|session| self.is_live(session)) {
            self.nexuses.owe(id, unit, ua);
        }
    }

    /// Forgets a nexus where too many are known. One that has a session or that `is_needed` is not forgotten.
    pub fn forget(&mut self, is_needed: impl Fn(NexusId) -> bool) {
        let by_nexus = &self.by_nexus;
        self.nexuses.forget(|id, nexus| by_nexus.contains_key(nexus) || is_needed(id));
    }

    /// From now on there is room for so many; those that are there stay.
    pub fn set_count_max(&mut self, count_max: usize) {
        self.count_max = count_max.min(SESSIONS_MAX);
    }

    /// Whether a target has a session at a portal group.
    pub fn is_at(&self, target: &str, portal_group: u16) -> bool {
        let is_at =
            |session: &Session| session.nexus.target == target && session.nexus.portal_group == portal_group;
        self.all.values().any(is_at)
    }

    /// Every session, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.all.iter().map(|(&id, session)| (id, session))
    }

    /// How many there are, draining ones included.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    fn state(&self, id: SessionId) -> Option<State> {
        self.all.get(&id).map(|session| session.state)
    }

    fn of_nexus(&self, nexus: &Nexus) -> Vec<SessionId> {
        self.by_nexus.get(nexus).cloned().unwrap_or_default()
    }

    fn remove(&mut self, id: SessionId) -> Option<Session> {
        let session = self.all.remove(&id)?;
        self.ledger.close(&session);
        if !matches!(session.state, State::Draining) {
            self.tsihs.remove(&session.tsih);
        }
        if let Some(of_nexus) = self.by_nexus.get_mut(&session.nexus) {
            of_nexus.retain(|&other| other != id);
            if of_nexus.is_empty() {
                self.by_nexus.remove(&session.nexus);
            }
        }
        Some(session)
    }

    fn reserve_ids(&mut self) -> (SessionId, u16) {
        self.id_last += 1;
        // It ends: fewer TSIHs are in use than there are (limits.rs).
        loop {
            self.tsih_last = self.tsih_last.checked_add(1).unwrap_or(1);
            if self.tsihs.insert(self.tsih_last) {
                return (SessionId(self.id_last), self.tsih_last);
            }
        }
    }

    /// What each reactor has, of sessions that are not over.
    fn loads(&self, nexus: &Nexus) -> Vec<Load> {
        let mut loads = vec![Load::default(); self.reactor_count];
        for session in
            self.all.values().filter(|session| !matches!(session.state, State::Ending | State::Draining))
        {
            let load = &mut loads[usize::from(session.reactor.0)];
            load.all += 1;
            load.same_target += u32::from(session.nexus.target == nexus.target);
            load.same_initiator += u32::from(session.nexus.initiator == nexus.initiator);
        }
        loads
    }
}

#[cfg(test)]
mod tests;
