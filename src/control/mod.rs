//! The control side: it owns the truth (what is served, who has a session, what is being changed) and tells the
//! reactors.
//!
//! [`Control`] is a state machine without threads, clocks or sockets of its own: the daemon's thread ([`thread`]) and the
//! simulator run the same code. Login and discovery sessions are served here, up to the [`message::ToReactor::Adopt`]
//! that hands a session to its reactor. It may allocate; it never blocks.
//!
//! [`message::ToReactor::Adopt`]: crate::reactor::message::ToReactor::Adopt

pub mod access;
pub mod alua;
pub mod arrays;
mod asks;
pub mod auth;
mod bdev_changes;
mod catalog;
mod changes;
mod chores;
pub mod connections;
mod desk;
pub mod disks;
pub mod done;
mod entrance;
mod erasures;
pub mod error;
mod events;
pub mod feed;
mod groups;
pub mod handed;
pub mod identity;
mod inbox;
pub mod keeper;
mod logins;
pub mod looks;
pub mod nexuses;
pub mod notices;
pub mod options;
mod outbox;
mod pace;
pub mod pending;
pub mod placement;
pub mod portals;
mod probe;
mod qos;
pub mod registry;
mod reserve;
mod review;
mod saving;
pub mod sessions;
mod space;
pub mod store;
mod surveys;
pub mod tally;
mod target_changes;
pub mod targets;
pub mod thread;
mod tray;
mod unit;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;

use self::catalog::Catalog;
use self::entrance::Entrance;
use self::events::Log;
use self::keeper::Keeper;
use self::looks::HandedOut;
use self::options::Options;
use self::outbox::Outbox;
use self::pending::Pending;
use self::saving::AfterSave;
use self::sessions::{Sessions, Step};
use self::store::Store;
use self::tally::Tally;
use crate::limits::{BACKLOG_RETRY_NS, DISCOVERIES_MAX, LOGIN_TURN_BYTES, LOGINS_MAX};
use crate::meter::ReactorMeter;
use crate::net::{Net, Readiness, Wait};
use crate::reactor::message::{ToControl, ToReactor};
use crate::reactor::port::{Receiver, Sender};
use crate::slab::Slab;
use crate::time::Tick;

/// A source of bytes that nobody can guess (in the simulator: of bytes that the seed decides).
pub trait Random: Send + Debug {
    /// Fills `out`.
    fn fill(&mut self, out: &mut [u8]);
}

/// Where a connection comes from and where it came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// Its other end.
    pub peer: SocketAddr,
    /// Its end here.
    pub local: SocketAddr,
    /// The portal group that it came in at, by tag.
    pub portal_group: u16,
}

/// What control is made of.
#[derive(Debug)]
pub struct Config<N: Net> {
    /// Its own network, with room for [`crate::limits::LOGINS_MAX`] and [`crate::limits::DISCOVERIES_MAX`] connections.
    pub net: N,
    /// From the reactors.
    pub inbox: Receiver<ToControl>,
    /// To the reactors, in their order; at least one.
    pub reactors: Vec<Sender<ToReactor<N::Handle>>>,
    /// Randomness.
    pub random: Box<dyn Random>,
    /// What holds for every target.
    pub options: Options,
}

/// How far stopping has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stopping {
    /// Sessions are asked to log out until then.
    Draining(Tick),
    /// Reactors were told to stop and have until then.
    Ordered(Tick),
    /// Not all reactors have stopped in time.
    GivenUp,
}

/// The control side.
#[derive(Debug)]
pub struct Control<N: Net> {
    net: N,
    inbox: Receiver<ToControl>,
    outbox: Outbox<N::Handle>,
    catalog: Catalog,
    sessions: Sessions,
    keeper: Keeper,
    reserving: reserve::Reserving,
    store: Store<AfterSave>,
    chores: chores::Chores,
    erasures: erasures::Erasures,
    /// There are threads on which devices are asked what takes long; else they are asked at once.
    has_threads: bool,
    early: alua::Early,
    /// Bdevs whose medium is out for another.
    exchanges: BTreeSet<String>,
    watched: space::Watched,
    surveys: surveys::Surveys,
    entrances: Slab<Entrance<N::Sock>>,
    log: Log,
    tally: Tally,
    /// Of each reactor, in their order.
    meters: Vec<Arc<ReactorMeter>>,
    /// Where recordings go that reactors hand out.
    recordings: Option<mpsc::Sender<HandedOut>>,
    /// Commands that take so long are told.
    slow_ns: Option<u64>,
    pending: Pending,
    allowances: qos::Allowances,
    random: Box<dyn Random>,
    stopping: Option<Stopping>,
    /// Changes of who may come see nobody off for now.
    held_reviews: review::Held,
    /// Something was left for the next turn.
    is_busy: bool,
    now: Tick,
    readiness: Vec<Readiness>,
    scratch: Box<[u8]>,
}

impl<N: Net> Control<N> {
    /// Nothing is served yet.
    pub fn new(config: Config<N>) -> Control<N> {
        let conns = LOGINS_MAX + DISCOVERIES_MAX;
        Control {
            net: config.net,
            inbox: config.inbox,
            sessions: Sessions::new(config.reactors.len(), config.options.sessions_max),
            outbox: Outbox::new(config.reactors),
            catalog: Catalog::new(config.options),
            keeper: Keeper::default(),
            reserving: reserve::Reserving::default(),
            store: Store::default(),
            chores: chores::Chores::default(),
            erasures: erasures::Erasures::default(),
            has_threads: false,
            early: alua::Early::default(),
            exchanges: BTreeSet::new(),
            watched: space::Watched::default(),
            surveys: surveys::Surveys::default(),
            entrances: Slab::new(conns),
            log: Log::new(),
            tally: Tally::default(),
            meters: Vec::new(),
            recordings: None,
            slow_ns: None,
            pending: Pending::default(),
            allowances: qos::Allowances::default(),
            random: config.random,
            stopping: None,
            held_reviews: review::Held::default(),
            is_busy: false,
            now: Tick::ZERO,
            readiness: Vec::with_capacity(conns as usize),
            scratch: vec![0; LOGIN_TURN_BYTES].into_boxed_slice(),
        }
    }

    /// Gives the reactors what the names of tokens are made of. Without it there are no tokens.
    pub fn share_secret(&mut self, secret: [u8; 16]) {
        self.outbox.broadcast(|| ToReactor::Secret(secret));
    }

    /// Handles what has come from the reactors and the network, and what is overdue. To be called when something has
    /// come in, and at [`Control::next_deadline`].
    pub fn turn(&mut self, now: Tick) {
        self.now = now;
        self.is_busy = false;
        self.read_inbox(now);
        self.net.ready(&mut self.readiness, Wait::Poll);
        for readiness in self.readiness.drain(..) {
            if let Some(entrance) = self.entrances.get_mut(readiness.id) {
                entrance.readiness(readiness);
            }
        }
        self.serve_entrances(now);
        self.expire_changes(now);
        self.go_on_stopping(now);
        self.serve_store(now);
        self.log.summarize(now);
        self.outbox.flush();
    }

    /// What time it is, for what is called before the next turn: the last one may have been long ago.
    pub fn observe(&mut self, now: Tick) {
        self.now = now;
    }

    /// When [`Control::turn`] has to be called at the latest; at once where that is not after the last turn.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Tick> {
        let busy = self.is_busy.then_some(self.now);
        let backlog = self.outbox.has_backlog().then(|| self.now.after_ns(BACKLOG_RETRY_NS));
        let stopping = match self.stopping {
            Some(Stopping::Draining(until) | Stopping::Ordered(until)) if !self.has_stopped() => Some(until),
            _ => None,
        };
        let entrances = self.entrances.iter().map(|(_, entrance)| entrance.deadline).min();
        let changes = self.pending.deadline();
        let store = self.store.deadline();
        [busy, backlog, stopping, entrances, changes, store, self.log.deadline()].into_iter().flatten().min()
    }

    /// Waits in the network until something comes or `until`, unless there is a message already. [`Control::turn`] comes
    /// next.
    pub fn wait(&mut self, wait: Wait) {
        if self.inbox.may_sleep() {
            self.net.ready(&mut self.readiness, wait);
            self.inbox.awake();
        }
    }

    /// The network, to register descriptors that shall end a wait.
    pub fn net(&mut self) -> &mut N {
        &mut self.net
    }

    /// Where its reactors count what they do, in their order.
    pub fn set_meters(&mut self, meters: Vec<Arc<ReactorMeter>>) {
        self.meters = meters;
    }

    /// The same; nothing in a world that did not say.
    pub fn meters(&self) -> &[Arc<ReactorMeter>] {
        &self.meters
    }

    /// How often what the log tells of has happened.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Who has a session.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Does what the session table wants done.
    fn run_steps(&mut self, now: Tick) {
        while let Some(step) = self.sessions.next_step() {
            match step {
                Step::End(reactor, session, reason) => {
                    self.outbox.send(reactor, ToReactor::EndSession { session, reason });
                }
                Step::Drop(conn) => self.close_entrance(conn, &entrance::Cause::Superseded, now),
                Step::Proceed(conn) => self.hand_over(conn, now),
                Step::OpenGate(reactor, session) => {
                    self.outbox.send(reactor, ToReactor::OpenGate { session })
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
