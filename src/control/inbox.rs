//! What the reactors tell, and stopping.

use super::entrance::Cause;
use super::keeper::{Finished, Then};
use super::{Control, Stopping};
use crate::id::{ReactorId, SessionId, UnitId};
use crate::iscsi::slow::SlowIo;
use crate::limits::{DRAIN_SECONDS, STOP_NS, TO_CONTROL_MAX};
use crate::net::Net;
use crate::reactor::message::{
    Change, EndReason, Event, TmfAsk, TmfOutcome, TmfTicket, ToControl, ToReactor,
};
use crate::scsi::Outcome;
use crate::scsi::attention::Ua;
use crate::scsi::sense::Sense;
use crate::time::{SECOND_NS, Tick};

impl<N: Net> Control<N> {
    pub(super) fn read_inbox(&mut self, now: Tick) {
        for _ in 0..TO_CONTROL_MAX {
            let Some(message) = self.inbox.receive() else { return };
            self.told(message, now);
            self.run_steps(now);
        }
        self.is_busy = true;
    }

    fn told(&mut self, message: ToControl, now: Tick) {
        match message {
            ToControl::SessionEnded { session, is_logout: _ } => {
                if let Some(known) = self.sessions.get(session) {
                    self.log.session_down(session, known, now);
                }
                self.nexus_lost(session);
                self.allow_lost(session);
                self.sessions.ended(session);
                self.owe_missed(session);
            }
            ToControl::ConnEnded { session, cid } => self.sessions.conn_ended(session, cid),
            ToControl::CmdSn { session, exp_cmd_sn } => self.sessions.cmd_sn(session, exp_cmd_sn),
            ToControl::SessionDrained { session } => {
                self.sessions.drained(session);
                self.session_gone(session);
            }
            ToControl::BarrierDone { id, reactor, is_clean } => {
                if let Some(finished) = self.keeper.done(id, reactor, is_clean) {
                    self.barrier_finished(finished);
                }
            }
            ToControl::Unsettled { unit, reactor, is_so } => self.unsettled(unit, reactor, is_so, now),
            ToControl::Tmf { reactor, ticket, session, request } => {
                self.tmf(reactor, ticket, session, request)
            }
            ToControl::Ask(ask) => self.asked(ask),
            ToControl::Withdraw { reactor, ticket, unit } => {
                self.withdraw(reactor, ticket, unit);
                self.withdraw_chore(reactor, ticket, unit);
                self.withdraw_survey(reactor, ticket);
            }
            ToControl::ChoreEnded { unit, end, .. } => self.chore_done(unit, end),
            // Told together with the end of the session, which comes next.
            ToControl::Event(event @ Event::Closed { session, cause }) => {
                self.tally.event(&event);
                self.sessions.closing(session, cause);
            }
            ToControl::Looked(question) => question.answered(),
            ToControl::Recorded { reactor, recording, why } => self.handed_out(reactor, recording, why, now),
            ToControl::Event(event) => {
                self.tally.event(&event);
                let session = match event {
                    Event::Rejected { session, .. }
                    | Event::Tmf { session, .. }
                    | Event::Slow(SlowIo { session, .. }) => self.sessions.get(session),
                    Event::Closed { .. } | Event::DeviceError { .. } | Event::Lost { .. } => None,
                };
                let unit = match event {
                    Event::DeviceError { unit, .. } => Some(unit),
                    Event::Slow(slow) => slow.unit,
                    Event::Rejected { .. }
                    | Event::Tmf { .. }
                    | Event::Closed { .. }
                    | Event::Lost { .. } => None,
                };
                let entry = unit.and_then(|unit| self.catalog.registry.entry_of(unit));
                let bdev = entry.map(|entry| entry.name.as_str());
                self.log.event(event, session, bdev, now);
            }
            // What it held is dropped: it is not the last.
            ToControl::UnitReleased { unit, reactor, bdev: _ } => self.released(unit, reactor),
            // Freed here, where freeing is allowed.
            ToControl::Retired(retired) => drop(retired),
            ToControl::Stopped { reactor } => {
                self.outbox.stopped(reactor);
                for finished in self.keeper.stopped(reactor) {
                    self.barrier_finished(finished);
                }
                for unit in self.pending.held_by(reactor) {
                    self.released(unit, reactor);
                }
            }
        }
    }

    /// A task management function that concerns other sessions becomes a barrier (SAM-5 §7.7, §7.8).
    fn tmf(&mut self, reactor: ReactorId, ticket: TmfTicket, session: SessionId, request: TmfAsk) {
        let target = self.sessions.get(session).and_then(|asks| self.catalog.targets.get(&asks.nexus.target));
        let Some(target) = target.filter(|_| !self.keeper.is_full()) else {
            self.outbox.send(reactor, ToReactor::TmfEnded { asked: ticket, outcome: TmfOutcome::Rejected });
            return;
        };
        let lun_map = self.sessions.get(session).and_then(|asks| asks.lun_map);
        // A target is what the nexus finds there: what only others are mapped to is none of its business.
        let (number, attention) = match request {
            TmfAsk::UnitReset(number) => (Some(number), Ua::UnitReset),
            TmfAsk::TargetWarmReset | TmfAsk::TargetColdReset => (None, Ua::TargetReset),
        };
        let own = target.luns(lun_map).iter();
        let own = own.filter(|mapping| number.is_none_or(|number| mapping.number == number));
        let mut units: Vec<UnitId> = own.map(|mapping| mapping.unit).collect();
        units.sort_unstable();
        units.dedup();
        let end_target = (request == TmfAsk::TargetColdReset).then(|| target.name.clone());
        self.reset_reservations(&units);
        self.allow_reset(&units);
        let change = Change::Reset { units: units.into(), attention };
        self.barrier(change, Then::AnswerTmf { reactor, ticket, end_target });
    }

    /// Sends a barrier to every reactor that runs. Whether there is one, so that `then` will follow.
    pub(super) fn barrier(&mut self, change: Change, then: Then) -> bool {
        if self.outbox.running().next().is_none() {
            return false;
        }
        let id = self.keeper.begin(self.outbox.running(), then);
        self.outbox.broadcast(|| ToReactor::Barrier { id, change: change.clone() });
        true
    }

    /// A device keeps writes that nobody can stop, or has given them back: its unit is not ready as long as one reactor has
    /// such, and is told by no unit attention when it is again, as its medium is the same.
    fn unsettled(&mut self, unit: UnitId, reactor: ReactorId, is_so: bool, now: Tick) {
        let Some(view) = self.catalog.registry.unsettle(unit, reactor, is_so) else { return };
        let bdev = self.catalog.registry.entry_of(unit).map_or("?", |entry| &entry.name);
        self.log.unsettled(bdev, is_so, now);
        self.barrier(Change::Unit { view, attention: None, except: None, is_drained: false }, Then::Nothing);
    }

    fn barrier_finished(&mut self, finished: Finished) {
        match finished.then {
            Then::Nothing => {}
            // Reactors have told what their devices keep. Before anybody is told that it failed, every reactor knows that
            // the unit is not ready.
            then @ (Then::Answer { .. }
            | Then::BeginChore(_)
            | Then::Reserved { .. }
            | Then::AnswerTmf { .. })
                if finished.outcome == TmfOutcome::Rejected =>
            {
                self.barrier(Change::Nothing, Then::Fail(Box::new(then)));
            }
            Then::Fail(then) => self.conclude(*then, TmfOutcome::Rejected),
            then => self.conclude(then, finished.outcome),
        }
    }

    fn conclude(&mut self, then: Then, outcome: TmfOutcome) {
        match then {
            Then::Nothing | Then::Fail(_) => {}
            Then::Answer { reactor, ticket, flushes } => {
                let outcome = changed(outcome);
                self.outbox.send(reactor, ToReactor::Answered { asked: ticket, outcome, flushes });
            }
            Then::Reserved { unit, reactor, ticket } => {
                let outcome = changed(outcome);
                self.outbox.send(reactor, ToReactor::Answered { asked: ticket, outcome, flushes: None });
                self.reserve_next(unit);
            }
            Then::BeginChore(unit) => self.begin_chore(unit, outcome == TmfOutcome::Complete),
            Then::Part(id) => self.part_done(id, outcome == TmfOutcome::Complete),
            Then::AnswerTmf { reactor, ticket, end_target } => {
                self.outbox.send(reactor, ToReactor::TmfEnded { asked: ticket, outcome });
                // RFC 7143 §11.5.1: TARGET COLD RESET ends all connections, after its answer.
                for session in end_target.map(|target| self.sessions.of_target(&target)).unwrap_or_default() {
                    self.sessions.end(session, EndReason::Removed);
                }
            }
        }
    }

    /// Begins to stop: no more connections, those that have not logged in are closed, sessions are asked to log out. It
    /// is over when [`Control::has_stopped`], in bounded time.
    pub fn drain(&mut self, now: Tick) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(Stopping::Draining(now.after_ns(u64::from(DRAIN_SECONDS) * SECOND_NS)));
        let keys: Vec<_> = self.entrances.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.close_entrance(key, &Cause::Stopping, now);
        }
        // That takes them out of the network too.
        self.catalog.portals.close();
        self.outbox.broadcast(|| ToReactor::Drain { seconds: DRAIN_SECONDS });
    }

    pub(super) fn go_on_stopping(&mut self, now: Tick) {
        match self.stopping {
            Some(Stopping::Draining(until)) if now >= until => {
                // A reactor that drains ends by itself about now: this is for one that does not.
                self.outbox.broadcast(|| ToReactor::Stop);
                self.stopping = Some(Stopping::Ordered(now.after_ns(STOP_NS)));
            }
            Some(Stopping::Ordered(until)) if now >= until => self.stopping = Some(Stopping::GivenUp),
            _ => {}
        }
    }

    /// Whether stopping was asked for and is over: all reactors have stopped, or have had their time.
    pub fn has_stopped(&self) -> bool {
        self.stopping.is_some()
            && (self.stopping == Some(Stopping::GivenUp) || self.outbox.running().next().is_none())
    }

    /// Reactors that have not stopped: a device keeps IO of them.
    pub fn running(&self) -> Vec<ReactorId> {
        self.outbox.running().collect()
    }
}

/// How a command ends whose barrier is over.
fn changed(outcome: TmfOutcome) -> Outcome {
    match outcome {
        TmfOutcome::Complete => Outcome::GOOD,
        // A device keeps an IO of before the change, which is in force all the same.
        TmfOutcome::Rejected => Outcome::check(Sense::INTERNAL_FAILURE),
    }
}
