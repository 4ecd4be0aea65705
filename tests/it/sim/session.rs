//! An initiator's session in a world: what it asks, and what it makes of the answers.

use std::collections::BTreeMap;

use lunette::sim::disk::stamp_of;
use lunette::sim::net::Wire;
use lunette_initiator::config::Config;
use lunette_initiator::scsi::{Sense, sense_key, status};
use lunette_initiator::session::{Attribute, Completion, Function, Tmf};
use lunette_initiator::{Command, Event, Initiator};

use super::oracle::{Content, Step};
use super::what::{What, Written};
use super::world::World;

/// A command that has not ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Op {
    pub(super) what: What,
    pub(super) unit: usize,
    pub(super) start: Step,
    pub(super) itt: u32,
}

/// A task management function that has not been answered.
#[derive(Debug, Clone)]
struct Asked {
    function: Function,
    unit: usize,
    start: Step,
    /// Sessions that must be told.
    others: Vec<u64>,
}

/// Told of a reset: `since` it was asked, owed for commands issued after `from`.
#[derive(Debug, Clone, Copy)]
struct Owed {
    since: Step,
    from: Step,
}

/// A session.
pub(super) struct Session {
    pub(super) id: u64,
    pub(super) client: usize,
    pub(super) initiator: Initiator,
    pub(super) wire: Wire,
    pub(super) ops: BTreeMap<u64, Op>,
    asked: BTreeMap<u32, Asked>,
    owed: BTreeMap<usize, Owed>,
    told: BTreeMap<usize, Step>,
    pub(super) is_logged_in: bool,
    /// Nothing will come of it any more.
    pub(super) is_over: bool,
    /// Its bytes were tampered with.
    pub(super) is_flipped: bool,
    pub(super) is_logging_out: bool,
    pub(super) login_failed: bool,
    /// How its last commands ended, with their tags, for tests that look.
    pub(super) ended: Vec<(u64, Option<Completion>)>,
    /// Answers to task management functions.
    pub(super) tmf_answers: Vec<(u32, u8)>,
    pub(super) keeps_answers: bool,
}

impl World {
    /// Opens a connection for a client and begins its login. The index of the session.
    pub(super) fn open(&mut self, client: usize, config: Config, capacity_bytes: usize) -> usize {
        while self.unended.len() <= client {
            self.unended.push(BTreeMap::new());
        }
        self.names.insert(config.initiator_name.clone(), client);
        let wire = self.connect(capacity_bytes);
        self.session_last += 1;
        self.sessions.push(Session {
            id: self.session_last,
            client,
            initiator: Initiator::new(config),
            wire,
            ops: BTreeMap::new(),
            asked: BTreeMap::new(),
            owed: BTreeMap::new(),
            told: BTreeMap::new(),
            is_logged_in: false,
            is_over: false,
            is_flipped: false,
            is_logging_out: false,
            login_failed: false,
            ended: Vec::new(),
            tmf_answers: Vec::new(),
            keeps_answers: false,
        });
        let index = self.sessions.len() - 1;
        self.pump(index);
        index
    }

    /// Hands what an initiator has to send to its wire.
    pub(super) fn pump(&mut self, index: usize) -> bool {
        let session = &mut self.sessions[index];
        let mut moved = false;
        loop {
            let outgoing = session.initiator.outgoing();
            let bytes = if outgoing.is_empty() { 0 } else { session.wire.send(outgoing) };
            if bytes == 0 {
                return moved;
            }
            session.initiator.sent(bytes);
            moved = true;
        }
    }

    /// Issues a command. Its tag, where the session takes it.
    pub(super) fn issue(
        &mut self,
        index: usize,
        unit: usize,
        what: What,
        attribute: Attribute,
        immediate: bool,
    ) -> Option<u64> {
        let op = self.op_last + 1;
        let command = self.command(op, unit, what);
        let command = Command { attribute, immediate, ..command.tagged(op) };
        let now = self.step;
        let itt = self.sessions[index].initiator.command(command).ok()?;
        self.op_last = op;
        self.askers.insert(op, self.sessions[index].client);
        self.has_reserved |= matches!(what, What::ReserveOut(_) | What::Reserve { .. });
        self.has_selected |= matches!(what, What::Select { .. });
        let is_chore = matches!(what, What::Sanitize { .. });
        if is_chore {
            self.sanitizes.insert(op);
        }
        if let Some(Written { unit, lba, blocks, content }) = what.writes(unit) {
            self.oracle.write_begins(unit, lba, blocks, (op, content), now);
            let (client, session) = (self.sessions[index].client, self.sessions[index].id);
            if !is_chore {
                self.unended[client].insert(op, (session, unit));
            }
        }
        self.sessions[index].ops.insert(op, Op { what, unit, start: now, itt });
        self.pump(index);
        Some(op)
    }

    /// Asks for a task management function. Its tag.
    pub(super) fn manage(&mut self, index: usize, unit: usize, tmf: Tmf) -> Option<u32> {
        let session = &mut self.sessions[index];
        let itt = session.initiator.task_management(tmf).ok()?;
        let others = self.sessions.iter().filter(|other| other.is_logged_in && !other.is_over);
        let others = others.map(|other| other.id).collect();
        let asked = Asked { function: tmf.function, unit, start: self.step, others };
        self.sessions[index].asked.insert(itt, asked);
        self.pump(index);
        Some(itt)
    }

    /// Delivers bytes to an initiator, and judges what they say.
    pub(super) fn deliver(&mut self, index: usize, bytes: usize) -> Result<bool, String> {
        let session = &mut self.sessions[index];
        if session.is_over {
            return Ok(false);
        }
        let delivered = session.wire.deliver_to_initiator(bytes);
        let id = session.id;
        if !delivered.is_empty() {
            let received = session.initiator.receive(&delivered);
            while let Some(event) = self.sessions[index].initiator.next_event() {
                self.event(index, event)?;
            }
            received.map_err(|violation| format!("session {id}: {violation}"))?;
        }
        let session = &mut self.sessions[index];
        let is_at_end = session.wire.is_closed_by_target() && session.wire.flying_to_initiator() == 0;
        if is_at_end {
            self.lose(index);
        }
        self.pump(index);
        Ok(!delivered.is_empty() || is_at_end)
    }

    /// The connection is gone; what it had at work may or may not be done.
    pub(super) fn lose(&mut self, index: usize) {
        let session = &mut self.sessions[index];
        if !session.is_over {
            session.is_over = true;
            session.ops.clear();
            let id = session.id;
            self.note(|| format!("session {id} is over"), &[1, id]);
        }
    }

    fn event(&mut self, index: usize, event: Event) -> Result<(), String> {
        let id = self.sessions[index].id;
        match event {
            Event::LoggedIn(_) => {
                self.sessions[index].is_logged_in = true;
                self.note(|| format!("session {id} has logged in"), &[2, id]);
            }
            Event::LoginFailed(error) => {
                self.sessions[index].login_failed = true;
                self.note(|| format!("session {id}: login failed: {error}"), &[3, id]);
            }
            Event::Completed(completion) => self.completed(index, completion)?,
            Event::Aborted { tag, by, .. } => {
                self.note(|| format!("session {id}: op {tag} aborted by {by:?}"), &[4, id, tag]);
                let op = self.sessions[index].ops.remove(&tag);
                let op = op.ok_or_else(|| format!("session {id}: op {tag} ended twice"))?;
                self.write_ended(index, tag, op, None);
                if self.sessions[index].keeps_answers {
                    self.sessions[index].ended.push((tag, None));
                }
            }
            Event::TmfResponse { itt, response } => self.tmf_answered(index, itt, response),
            Event::Reject { reason, bhs } => {
                self.note(
                    || format!("session {id}: rejected, reason {reason:#x}, {bhs:?}"),
                    &[6, id, u64::from(reason)],
                );
                // Too many immediate requests; a data digest that the world has spoilt.
                let is_explained = reason == 6 || reason == 2 && self.sessions[index].is_flipped;
                if !is_explained {
                    return Err(format!("session {id}: a reject for nothing: {reason:#x} {bhs:?}"));
                }
            }
            Event::NopIn { .. }
            | Event::Async(..)
            | Event::TextResponse { .. }
            | Event::LogoutResponse(_) => {}
            // A command whose data were spoilt is rejected, which the initiator takes for its end, and answered.
            Event::Unmatched(_) if self.sessions[index].is_flipped => {}
            Event::Unmatched(pdu) => return Err(format!("session {id}: {pdu:?} answers nothing")),
        }
        Ok(())
    }

    fn completed(&mut self, index: usize, completion: Completion) -> Result<(), String> {
        let (id, tag) = (self.sessions[index].id, completion.tag);
        let op = self.sessions[index].ops.remove(&tag);
        let op = op.ok_or_else(|| format!("session {id}: op {tag} ended twice"))?;
        let sense = Sense::decode(&completion.sense);
        let (status, key) = (completion.status, sense.map_or(0, |sense| sense.key));
        self.note(
            || format!("session {id}: op {tag} {op:?}: {status:#x} {sense:?}"),
            &[5, id, tag, u64::from(status), u64::from(key)],
        );
        let is_good = completion.is_good();
        if let Some(sense) = sense
            && sense.key == sense_key::UNIT_ATTENTION
            && sense.asc.0 == 0x29
        {
            self.sessions[index].told.insert(op.unit, self.step);
        }
        let known = [
            status::GOOD,
            status::CHECK_CONDITION,
            status::BUSY,
            status::TASK_SET_FULL,
            status::TASK_ABORTED,
            status::RESERVATION_CONFLICT,
        ];
        if completion.response != 0 || !known.contains(&status) {
            return Err(format!("session {id}: op {tag} {op:?} ended in {completion:?}"));
        }
        self.check_permission(index, tag, op, status)?;
        let is_explained = match (key, sense.map(|sense| sense.asc.0)) {
            (sense_key::UNIT_ATTENTION, Some(0x2a)) => match sense.map_or(0, |sense| sense.asc.1) {
                0x01 => self.has_selected,
                0x03..=0x05 => self.has_reserved,
                0x09 => self.has_resized,
                _ => false,
            },
            // A type that is not the reservation's, or nobody to be preempted.
            (sense_key::ILLEGAL_REQUEST, Some(0x26)) => matches!(op.what, What::ReserveOut(_)),
            (sense_key::MEDIUM_ERROR, _) => self.has_failed,
            (sense_key::NOT_READY, Some(0x04)) => self.has_lost || !self.sanitizes.is_empty(),
            (sense_key::HARDWARE_ERROR, Some(0x44)) => self.has_lost,
            _ if op.what.is_copy() && self.may_fail_copy(sense) => true,
            (sense_key::ILLEGAL_REQUEST, Some(0x21)) => self.has_resized,
            (sense_key::ILLEGAL_REQUEST, Some(0x25)) => self.has_removed,
            // Somebody may have written between; whether a swap that is GOOD replaced what it found, the oracle knows.
            (sense_key::MISCOMPARE, _) => matches!(op.what, What::Swap { .. } | What::WriteAndVerify { .. }),
            (0 | sense_key::UNIT_ATTENTION | sense_key::ABORTED_COMMAND, _) => true,
            _ => false,
        };
        if !is_explained {
            return Err(format!("session {id}: op {tag} {op:?}: {sense:?} for no reason"));
        }
        if is_good {
            self.good(index, &op)?;
        }
        let unit = op.what.writes(op.unit).map_or(op.unit, |written| written.unit);
        let is_written_through = op.what.is_cached() && self.published.is_write_through(unit, op.start);
        if is_good
            && let Some(Written { unit, lba, blocks, content: Content::Copied { .. } }) =
                op.what.writes(op.unit)
        {
            self.oracle.copied(unit, lba, blocks, tag)?;
        }
        self.write_ended(index, tag, op, is_good.then_some(op.what.is_forced() || is_written_through));
        if is_good {
            match op.what {
                What::Read { lba, blocks } => self.check_read(op, lba, blocks, &completion.data)?,
                What::Swap { lba, old } => self.oracle.read(op.unit, lba, old, op.start, self.step)?,
                What::Sync => self.oracle.synced(op.unit, op.start),
                What::Populate { lba, blocks } => self.populated(index, tag, op, lba, blocks),
                What::Token(made) => self.token_told(made, &completion.data),
                _ => {}
            }
        }
        if self.sessions[index].keeps_answers {
            self.sessions[index].ended.push((tag, Some(completion)));
        }
        Ok(())
    }

    /// What was reserved while the command was at work says whether it could be served, and whether it could be refused.
    fn check_permission(&self, index: usize, tag: u64, op: Op, status: u8) -> Result<(), String> {
        let Session { id, client, .. } = self.sessions[index];
        let class = op.what.class();
        let (can_serve, can_refuse) = self.published.verdicts(op.unit, client, class, op.start);
        let is_legal = match status {
            status::GOOD => can_serve,
            // Control decides on what changes reservations.
            status::RESERVATION_CONFLICT if matches!(op.what, What::ReserveOut(_) | What::Reserve { .. }) => {
                true
            }
            status::RESERVATION_CONFLICT => can_refuse,
            _ => true,
        };
        if is_legal {
            return Ok(());
        }
        Err(format!(
            "session {id}: op {tag} {op:?} ended in {status:#x}, against what was reserved all the time"
        ))
    }

    /// A command ended in GOOD: what must have gone before?
    fn good(&mut self, index: usize, op: &Op) -> Result<(), String> {
        let session = &self.sessions[index];
        let (id, client) = (session.id, session.client);
        if let Some(owed) = session.owed.get(&op.unit)
            && op.start > owed.from
            // A LUN that comes and goes takes with it what was owed there.
            && !self.has_removed
            && session.told.get(&op.unit).is_none_or(|told| *told < owed.since)
            && !matches!(op.what, What::Inquiry | What::ReportLuns)
        {
            return Err(format!("session {id}: {op:?} is GOOD, and nobody has told it of a reset: {owed:?}"));
        }
        // No ghost write of a former session may land on this unit any more.
        let former: Vec<u64> = self.unended[client]
            .iter()
            .filter(|(_, (session, unit))| *session < id && *unit == op.unit)
            .map(|(op, _)| *op)
            .collect();
        for op in former {
            self.unended[client].remove(&op);
            // The op itself is gone with its session; its blocks are found by its stamp.
            self.oracle.write_given_up(op, self.step);
        }
        Ok(())
    }

    fn write_ended(&mut self, index: usize, tag: u64, op: Op, good: Option<bool>) {
        if let Some(Written { unit, lba, blocks, .. }) = op.what.writes(op.unit) {
            // What is refused, or aborted, may have begun, and goes on.
            if matches!(op.what, What::Sanitize { .. }) && good.is_none() {
                return;
            }
            self.oracle.write_ends(unit, lba, blocks, tag, good, self.step);
            let client = self.sessions[index].client;
            self.unended[client].remove(&tag);
        }
    }

    fn check_read(&mut self, op: Op, lba: u64, blocks: u32, data: &[u8]) -> Result<(), String> {
        let block_bytes = self.options.disks[op.unit].block_bytes as usize;
        if data.len() != blocks as usize * block_bytes {
            return Err(format!("{op:?}: {} bytes", data.len()));
        }
        for (lba, block) in (lba..).zip(data.chunks_exact(block_bytes)) {
            self.oracle.read(op.unit, lba, stamp_of(block), op.start, self.step)?;
        }
        Ok(())
    }

    fn tmf_answered(&mut self, index: usize, itt: u32, response: u8) {
        let id = self.sessions[index].id;
        let Some(asked) = self.sessions[index].asked.remove(&itt) else { return };
        self.note(
            || format!("session {id}: {asked:?} answered {response}"),
            &[7, id, u64::from(response), u64::from(asked.function.number())],
        );
        if self.sessions[index].keeps_answers {
            self.sessions[index].tmf_answers.push((itt, response));
        }
        if response == 0 {
            let units: Vec<usize> = match asked.function {
                Function::LogicalUnitReset => vec![asked.unit],
                Function::TargetWarmReset | Function::TargetColdReset => (0..self.disks.len()).collect(),
                _ => Vec::new(),
            };
            let owed = Owed { since: asked.start, from: self.step };
            for other in self.sessions.iter_mut().filter(|other| asked.others.contains(&other.id)) {
                for unit in &units {
                    other.owed.insert(*unit, owed);
                }
            }
        } else if response == 255 {
            // Nothing is known of the tasks any more: RFC 7143 leaves session recovery.
            self.sessions[index].wire.reset();
            self.lose(index);
        }
    }
}
