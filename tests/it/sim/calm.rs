//! After the chaos: everything is answered, everybody is served once more, and nothing is left.

use lunette::reactor::Census;
use lunette::time::{MS_NS, SECOND_NS};
use lunette_initiator::session::Attribute;

use super::chaos::Chaos;
use super::reserve::Habit;
use super::round::Still;
use super::what::What;

impl Chaos {
    /// Everything runs, nothing new is asked: until nothing is outstanding (and, `is_empty`, nothing is left).
    pub(super) fn calm(&mut self, is_empty: bool) -> Result<(), String> {
        let until = self.world.now.after_ns(200 * SECOND_NS);
        loop {
            self.world.restore();
            let has_moved = self.world.round(true, |_| Still::default())?;
            if has_moved {
                continue;
            }
            let outstanding: usize = self.world.sessions.iter().map(|session| session.ops.len()).sum();
            let is_waiting = self.world.sessions.iter().any(|session| {
                !session.is_over
                    && !session.login_failed
                    && (!session.is_logged_in || session.initiator.pending_count() > 0)
            });
            let is_quiet = outstanding == 0 && !is_waiting;
            if is_quiet && (!is_empty || self.is_empty()) {
                return Ok(());
            }
            if self.world.now > until {
                let ops: Vec<_> = self
                    .world
                    .sessions
                    .iter()
                    .flat_map(|session| session.ops.iter().map(move |op| (session.id, op)))
                    .collect();
                return Err(format!(
                    "not over: outstanding {ops:?}, waiting {is_waiting}, {:?}, {} buffers, {} sessions",
                    self.world.census(),
                    self.world.buffers_out(),
                    self.world.control.sessions().count()
                ));
            }
            let next = self.world.next_deadline().unwrap_or(until);
            self.world.now = next.max(self.world.now.after_ns(MS_NS));
        }
    }

    fn is_empty(&self) -> bool {
        self.world.census() == Census::default()
            && self.world.buffers_out() == 0
            && self.world.control.sessions().count() == 0
            && self.world.disks.iter().all(|disk| disk.held_count() == 0)
    }

    /// Every client logs in once more, is served, and leaves; then nothing is left.
    pub(super) fn last_words(&mut self) -> Result<(), String> {
        for client in 0..self.clients.len() {
            let is_up = self.clients[client].session.is_some_and(|index| {
                let session = &self.world.sessions[index];
                session.is_logged_in
                    && !session.is_over
                    && !session.is_logging_out
                    && !session.initiator.has_ended()
            });
            if !is_up {
                self.log_in(client);
            }
        }
        self.calm(false)?;
        for unit in 0..self.world.disks.len() {
            if !self.world.sanitizes.is_empty() {
                // Unit attentions first.
                for _ in 0..8 {
                    self.ask_all(unit, What::TestUnitReady)?;
                }
                self.ask_all(unit, What::ExitFailure)?;
            }
            if self.habit != Habit::Never {
                self.unreserve(unit)?;
            }
            for _ in 0..8 {
                self.ask_all(unit, What::TestUnitReady)?;
            }
            for what in
                [What::Write { lba: 0, blocks: 2, fua: false }, What::Read { lba: 0, blocks: 2 }, What::Sync]
            {
                let ended = self.ask_all(unit, what)?;
                if ended.iter().any(|is_good| !is_good) {
                    return Err(format!("at the end, {what:?} is not GOOD everywhere"));
                }
            }
        }
        self.look_deeper()?;
        for index in 0..self.world.sessions.len() {
            let session = &mut self.world.sessions[index];
            if session.is_logged_in && !session.is_over && !session.initiator.has_ended() {
                session.is_logging_out = session.initiator.logout(0, true).is_ok();
                self.world.pump(index);
            } else if !session.is_over {
                session.wire.end();
            }
        }
        self.calm(true).map_err(|error| format!("after the last logout: {error}"))
    }

    /// Every client asks the same; who got GOOD?
    pub(super) fn ask_all(&mut self, unit: usize, what: What) -> Result<Vec<bool>, String> {
        self.ask_each(unit, |_| what)
    }

    /// Every client asks something; who got GOOD?
    pub(super) fn ask_each(
        &mut self,
        unit: usize,
        what: impl Fn(usize) -> What,
    ) -> Result<Vec<bool>, String> {
        let mut sessions: Vec<usize> = self.clients.iter().filter_map(|client| client.session).collect();
        sessions.retain(|index| !self.world.sessions[*index].is_over);
        for index in &sessions {
            self.world.sessions[*index].keeps_answers = true;
            self.world.sessions[*index].ended.clear();
            let what = what(self.world.sessions[*index].client);
            self.world
                .issue(*index, unit, what, Attribute::Simple, false)
                .ok_or("a session that takes no command")?;
        }
        self.calm(false)?;
        let is_good = |index: &usize| {
            let ended = self.world.sessions[*index].ended.last();
            ended.is_some_and(|(_, completion)| {
                completion.as_ref().is_some_and(|completion| completion.is_good())
            })
        };
        Ok(sessions.iter().map(is_good).collect())
    }
}
