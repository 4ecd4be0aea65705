//! The reactor and its turn.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::bdev::{Done, Wake};
use crate::buf::{Buf, Pool};
use crate::id::{ReactorId, UnitId};
use crate::iscsi::conn::Conn;
use crate::iscsi::error::Fatal;
use crate::iscsi::recorder::Recorder;
use crate::iscsi::tx::Batch;
use crate::limits;
use crate::meter::ReactorMeter;
use crate::net::{Net, Readiness, Wait};
use crate::reactor::chore::AtWork;
use crate::reactor::hold::Holds;
use crate::reactor::hungry::Hungry;
use crate::reactor::lending::Lending;
use crate::reactor::message::{CloseCause, Event, ToControl, ToReactor};
use crate::reactor::pace::Paced;
use crate::reactor::planted::Planted;
use crate::reactor::port::{Receiver, Sender};
use crate::reactor::tables::{Sizes, Tables};
use crate::reactor::token::Mint;
use crate::reactor::unit::{self, Unit};
use crate::reactor::wait::Waiting;
use crate::scsi::buffers::Buffers;
use crate::scsi::copy::Results;
use crate::slab::{Key, Slab};
use crate::time::Tick;

/// A connection with its socket.
#[derive(Debug)]
pub(super) struct Link<S> {
    pub(super) conn: Conn,
    pub(super) sock: S,
    pub(super) is_readable: bool,
    pub(super) is_writable: bool,
    /// It is in the list of connections to serve.
    pub(super) is_active: bool,
    /// A READ waits until less is queued to be sent.
    pub(super) has_stalled_reads: bool,
    /// Since then its socket has not taken all that is there for it.
    pub(super) blocked_at: Option<Tick>,
    /// The beginning of a command whose rest comes with the next receive.
    pub(super) cut: Option<Buf>,
    /// What it has received and was sent since it is being served, and whether that was much the last time.
    pub(super) served_bytes: usize,
    pub(super) is_heavy: bool,
}

/// What a reactor is made from.
#[derive(Debug)]
pub struct Setup<N: Net> {
    /// Its number.
    pub id: ReactorId,
    /// Its network.
    pub net: N,
    /// Messages from control and from other reactors.
    pub inbox: Receiver<ToReactor<N::Handle>>,
    /// Messages to control.
    pub to_control: Sender<ToControl>,
    /// Messages to each reactor, in their order; its own is not used. A reactor that is alone needs none.
    pub peers: Vec<Sender<ToReactor<N::Handle>>>,
    /// Buffers for data that come unasked.
    pub unsolicited: Pool,
    /// Buffers for data that were asked for.
    pub solicited: Pool,
    /// How much it holds.
    pub sizes: Sizes,
    /// The bug planted in it, where the simulator looks for one.
    pub planted: Planted,
}

/// A reactor.
#[derive(Debug)]
pub struct Reactor<N: Net> {
    pub(super) id: ReactorId,
    pub(super) net: N,
    inbox: Receiver<ToReactor<N::Handle>>,
    to_control: Sender<ToControl>,
    pub(super) peers: Vec<Sender<ToReactor<N::Handle>>>,
    pub(super) holds: Holds,
    /// Messages that control's full queue did not take.
    backlog: VecDeque<ToControl>,
    lost_events: u64,
    pub(super) conns: Slab<Link<N::Sock>>,
    pub(super) tables: Tables,
    pub(super) units: Vec<Option<Unit>>,
    /// Units whose channels are to be polled.
    pub(super) busy: Vec<UnitId>,
    /// Connections to be served in this turn, and those for the next.
    pub(super) active: Vec<Key>,
    pub(super) next_active: Vec<Key>,
    /// Those that moved much when they were served last, in the order of their turns.
    pub(super) heavy: VecDeque<Key>,
    pub(super) waits: Vec<Waiting>,
    /// Tasks that wait for a buffer.
    pub(super) hungry: Hungry,
    /// Tasks that wait for their turn under a ceiling.
    pub(super) paced: Paced,
    pub(super) serial: u64,
    pub(super) stopping: Option<Tick>,
    /// The last flush is under way, and given up at this moment.
    pub(super) last_flush: Option<Tick>,
    pub(super) is_flushed: bool,
    pub(super) staging: Vec<u8>,
    pub(super) batch: Batch,
    ready: Vec<Readiness>,
    dones: Vec<Done>,
    pub(super) next_scan: Tick,
    pub(super) lending: Lending,
    /// What is done on whole units.
    pub(super) chores: Vec<AtWork>,
    pub(super) mint: Mint,
    /// What became of copies.
    pub(super) copies: Results,
    /// What it has done.
    pub(super) meter: Arc<ReactorMeter>,
    /// What WRITE BUFFER has written.
    pub(super) buffers: Buffers,
    /// For the recording of the next connection on which something goes wrong.
    pub(super) spare: Option<Recorder>,
    #[cfg_attr(not(feature = "sim"), expect(dead_code, reason = "only the simulator plants bugs"))]
    pub(super) planted: Planted,
}

impl<N: Net> Reactor<N> {
    /// A reactor without connections. Allocates what it will ever need, tables for more connections aside.
    pub fn new(setup: Setup<N>) -> Reactor<N> {
        let sizes = setup.sizes;
        let conns = sizes.conns as usize;
        let reactors = setup.peers.len();
        #[cfg(feature = "sim")]
        let keeps_last = !setup.planted.is(crate::reactor::planted::Bug::NoBufferKept);
        #[cfg(not(feature = "sim"))]
        let keeps_last = true;
        if keeps_last {
            setup.solicited.keep_last();
        }
        let tables = Tables::new(setup.unsolicited, setup.solicited, sizes);
        let mut paced = Paced::default();
        paced.hold(tables.tasks.capacity());
        Reactor {
            id: setup.id,
            net: setup.net,
            inbox: setup.inbox,
            to_control: setup.to_control,
            peers: setup.peers,
            holds: Holds::new(reactors),
            backlog: VecDeque::with_capacity(limits::MAILBOX),
            lost_events: 0,
            conns: Slab::new(sizes.conns),
            tables,
            units: Vec::new(),
            busy: Vec::new(),
            active: Vec::with_capacity(conns),
            next_active: Vec::with_capacity(conns),
            heavy: VecDeque::with_capacity(conns),
            waits: Vec::with_capacity(limits::WAITS + Holds::waits_max(reactors)),
            hungry: Hungry::new(sizes.spare_window as usize),
            paced,
            serial: 0,
            stopping: None,
            last_flush: None,
            is_flushed: false,
            staging: vec![0; sizes.staging_bytes],
            batch: Batch::new(),
            ready: Vec::with_capacity(limits::READY_MAX),
            dones: Vec::with_capacity(limits::DONES_PER_POLL),
            next_scan: Tick::ZERO,
            lending: Lending::new(),
            chores: Vec::new(),
            mint: Mint::default(),
            copies: Results::default(),
            meter: Arc::default(),
            buffers: Buffers::default(),
            spare: None,
            planted: setup.planted,
        }
    }

    /// One turn. Whether it did anything.
    pub fn turn(&mut self, now: Tick) -> bool {
        let mut worked = self.messages(now);
        worked |= self.run_paced(now);
        worked |= self.readiness();
        worked |= self.serve(now);
        worked |= self.serve_heavy(now);
        self.timers(now, worked);
        self.settle_waits(now);
        self.settle_holds(now);
        self.settle_chores(now);
        self.stop_when_drained(now);
        // Last, as all of the above give buffers back, and a reactor that waits in the kernel feeds nobody.
        self.feed(now);
        self.kick();
        self.tell_slow();
        self.flush_backlog();
        worked
    }

    /// Indices that connections may have.
    pub(super) fn conn_slots(&self) -> u32 {
        self.conns.used()
    }

    fn messages(&mut self, now: Tick) -> bool {
        let mut count = 0;
        while count < limits::MESSAGES_PER_TURN
            && let Some(message) = self.inbox.receive()
        {
            self.handle_message(message, now);
            count += 1;
        }
        count > 0
    }

    /// Takes completions, and hands parked IOs to channels that have room again.
    pub(super) fn completions(&mut self, now: Tick) -> bool {
        let mut worked = false;
        let mut index = 0;
        while let Some(&id) = self.busy.get(index) {
            let Some(unit) = unit::of(&mut self.units, id) else {
                self.busy.swap_remove(index);
                continue;
            };
            if let Some(channel) = &mut unit.channel {
                channel.poll(&mut self.dones, limits::DONES_PER_POLL, now);
            }
            worked |= !self.dones.is_empty();
            let mut dones = std::mem::take(&mut self.dones);
            for done in dones.drain(..) {
                self.done(done, now);
            }
            self.dones = dones;
            self.resubmit(id, now);
            let is_pending =
                unit::of(&mut self.units, id).is_some_and(|unit| unit.is_pending() && !unit.may_go());
            if is_pending {
                index += 1;
            } else {
                if let Some(unit) = unit::of(&mut self.units, id) {
                    unit.is_busy = false;
                }
                self.busy.swap_remove(index);
                self.let_unit_go(id);
            }
        }
        worked
    }

    /// Learns which sockets have become ready.
    fn readiness(&mut self) -> bool {
        if self.ready.is_empty() {
            self.net.ready(&mut self.ready, Wait::Poll);
        }
        let worked = !self.ready.is_empty();
        for index in 0..self.ready.len() {
            let ready = self.ready[index];
            // One that was lost since has no socket any more.
            if let Some(link) = self.conns.get_mut(ready.id).filter(|link| !link.conn.is_lost()) {
                link.is_readable |= ready.readable;
                link.is_writable |= ready.writable;
                self.activate(ready.id);
            }
        }
        self.ready.clear();
        worked
    }

    /// Rings doorbells.
    pub(super) fn kick(&mut self) {
        for id in &self.busy {
            if let Some(unit) = unit::of(&mut self.units, *id)
                && unit.needs_kick
                && let Some(channel) = &mut unit.channel
            {
                channel.kick();
                unit.needs_kick = false;
            }
        }
    }

    fn timers(&mut self, now: Tick, worked: bool) {
        if worked {
            self.next_scan = self.next_scan.min(now.after_ns(limits::TIMER_GRAIN_NS));
        }
        if now < self.next_scan {
            return;
        }
        let mut earliest = now.after_ns(limits::IDLE_SCAN_NS);
        for index in 0..self.conn_slots() {
            let Some(key) = self.conns.key_at(index) else { continue };
            let Some(link) = self.conns.get_mut(key) else { continue };
            let mut cx = self.tables.cx(link.conn.session_key(), now);
            if link.conn.deadline(&cx).is_some_and(|deadline| deadline <= now) {
                let had_output = link.conn.has_output();
                match link.conn.expired(&mut cx) {
                    Ok(()) if !had_output && link.conn.has_output() => self.activate(key),
                    Ok(()) => {}
                    Err(fatal) => {
                        self.close(key, cause(fatal), now);
                        continue;
                    }
                }
            }
            let Some(link) = self.conns.get(key) else { continue };
            if let Some(deadline) = link.conn.deadline(&self.tables.cx(link.conn.session_key(), now)) {
                earliest = earliest.min(deadline);
            }
        }
        for index in 0..self.tables.sessions.used() {
            let Some(key) = self.tables.sessions.key_at(index) else { continue };
            let session = &mut self.tables.sessions[key];
            if let Some(exp_cmd_sn) = session.cmd_sn_to_tell() {
                let session = session.id();
                self.tell(ToControl::CmdSn { session, exp_cmd_sn });
            }
        }
        self.next_scan = earliest.max(now.after_ns(limits::TIMER_GRAIN_NS));
        self.measure();
    }

    /// How long the reactor may wait in the kernel: not at all while anything is to be done.
    pub fn may_wait(&self, now: Tick) -> Wait {
        let has_work = !self.next_active.is_empty()
            || !self.heavy.is_empty()
            || !self.ready.is_empty()
            || !self.backlog.is_empty();
        if has_work || self.has_chores_due() {
            return Wait::Poll;
        }
        let mut deadline = self.next_scan;
        for waiting in &self.waits {
            deadline = deadline.min(waiting.look_at);
        }
        if let Some(at) = self.holds.look_at(&self.tables.tasks) {
            deadline = deadline.min(at);
        }
        if let Some(at) = self.paced.next() {
            deadline = deadline.min(at);
        }
        if let Some(at) = self.stopping {
            deadline = deadline.min(at);
        }
        for id in &self.busy {
            let unit = self.units.get(id.index()).and_then(Option::as_ref).filter(|unit| unit.id == *id);
            match unit.and_then(|unit| unit.channel.as_ref()).map(|channel| channel.wake()) {
                Some(Wake::MustPoll) => return Wait::Poll,
                // It has nothing in flight and refused all the same: only another try tells when that is over.
                Some(Wake::Idle) if unit.is_some_and(Unit::needs_room) => return Wait::Poll,
                Some(Wake::At(at)) => deadline = deadline.min(at),
                Some(Wake::Fd(_) | Wake::Idle) | None => {}
            }
        }
        match deadline.since_ns(now) {
            0 => Wait::Poll,
            ns => Wait::AtMostNs(ns),
        }
    }

    /// Waits in the kernel until something happens, or `wait` is over.
    pub fn wait(&mut self, wait: Wait) {
        if wait != Wait::Poll && self.watch_channels() && self.inbox.may_sleep() {
            self.net.ready(&mut self.ready, wait);
            self.inbox.awake();
        }
    }

    /// Makes the descriptors of channels with IO in flight end a wait. Whether all of them do; else polling has to.
    fn watch_channels(&mut self) -> bool {
        for id in &self.busy {
            let Some(unit) = unit::of(&mut self.units, *id) else { continue };
            let Some(Wake::Fd(fd)) = unit.channel.as_ref().map(|channel| channel.wake()) else { continue };
            if unit.watched == Some(fd) {
                continue;
            }
            if self.net.register(fd).is_err() {
                return false;
            }
            unit.watched = Some(fd);
        }
        true
    }

    /// Whether the reactor has stopped for good.
    pub fn is_stopped(&self) -> bool {
        self.is_flushed && self.backlog.is_empty() && self.holds.has_said_farewell()
    }

    /// Tells control, now or in a later turn.
    pub(super) fn tell(&mut self, message: ToControl) {
        if !self.backlog.is_empty() {
            self.backlog.push_back(message);
        } else if let Err(message) = self.to_control.send(message) {
            self.backlog.push_back(message);
        }
    }

    /// Tells control of something that may be lost when there is too much of it.
    pub(super) fn event(&mut self, event: Event) {
        if !self.backlog.is_empty() || self.to_control.send(ToControl::Event(event)).is_err() {
            self.lost_events += 1;
        }
    }

    /// Tells of commands that took too long.
    fn tell_slow(&mut self) {
        if !self.tables.tasks.slow.is_empty() {
            for slow in self.tables.tasks.slow.take() {
                self.event(Event::Slow(slow));
            }
        }
    }

    fn flush_backlog(&mut self) {
        while let Some(message) = self.backlog.pop_front() {
            if let Err(message) = self.to_control.send(message) {
                self.backlog.push_front(message);
                return;
            }
        }
        if self.lost_events > 0 {
            let event = Event::Lost { count: self.lost_events };
            if self.to_control.send(ToControl::Event(event)).is_ok() {
                self.lost_events = 0;
            }
        }
    }
}

impl<S> Link<S> {
    pub(super) fn new(conn: Conn, sock: S) -> Link<S> {
        Link {
            conn,
            sock,
            is_readable: true,
            is_writable: true,
            is_active: false,
            has_stalled_reads: false,
            blocked_at: None,
            cut: None,
            served_bytes: 0,
            is_heavy: false,
        }
    }
}

/// How the log calls it.
pub(super) fn cause(fatal: Fatal) -> CloseCause {
    match fatal {
        Fatal::HeaderDigest => CloseCause::HeaderDigest,
        Fatal::Protocol(what) => CloseCause::Protocol(what),
        Fatal::PduUnfinished => CloseCause::PduUnfinished,
        Fatal::Silent => CloseCause::Silent,
        Fatal::SlowReader => CloseCause::SlowReader,
        Fatal::DataOutLate => CloseCause::DataOutLate,
        Fatal::NotRecovered => CloseCause::NotRecovered,
    }
}
