//! Commands with tokens ([`scsi::copy::rod`](crate::scsi::copy::rod)): their blocks are watched, and read, under holds.

use sha2::{Digest, Sha256};

use crate::bdev::Op;
use crate::iscsi::task::{Job, Outcome, Reading, Running};
use crate::net::Net;
use crate::reactor::hold::Found;
use crate::reactor::message::{Purpose, Watch};
use crate::reactor::planted::planted;
use crate::reactor::turn::Reactor;
use crate::scsi::copy::rod::{Step, TokenId};
use crate::scsi::copy::{self, Side};
use crate::scsi::sense::Sense;
use crate::slab::Key;
use crate::time::Tick;

/// What token names are made of; none until control has sent it.
#[derive(Debug, Default)]
pub(super) struct Mint {
    secret: Option<[u8; 16]>,
    made: u64,
}

impl Mint {
    pub(super) fn new(secret: [u8; 16]) -> Mint {
        Mint { secret: Some(secret), made: 0 }
    }
}

impl<N: Net> Reactor<N> {
    /// A name that nobody can guess, and no other reactor gives.
    pub(super) fn mint(&mut self) -> Option<TokenId> {
        let secret = self.mint.secret?;
        self.mint.made += 1;
        let mut hash = Sha256::new();
        hash.update(secret);
        hash.update(self.id.0.to_be_bytes());
        hash.update(self.mint.made.to_be_bytes());
        let digest = hash.finalize();
        digest.first_chunk().map(|id| TokenId::from_be_bytes(*id))
    }

    /// Does the next step of a command with tokens.
    pub(super) fn token_on(&mut self, conn: Key, key: Key, now: Tick) {
        loop {
            let Some(link) = self.conns.get(conn) else { return };
            let Some(task) = self.tables.tasks.get_mut(key) else { return };
            let (number, Some(unit)) = (task.number, task.unit) else { return };
            let Some(Job { run: Running::Token { run, id, reading }, scratch, .. }) = &mut task.job else {
                return;
            };
            self.copies.progress(key, 0, run.moved_blocks());
            if let Some(Reading { side, lba, blocks, is_held: true }) = *reading {
                let buf = scratch.take();
                return self.submit_at((conn, key), side, Op::Read { lba, blocks }, buf, now);
            }
            let step = run.step();
            if matches!(step, Step::Read { .. }) && scratch.is_none() {
                // The buffer comes before the hold: those that wait for the hold have buffers.
                let Some(buf) = self.tables.solicited.take_kept(copy::BUFFER_BYTES) else {
                    return self.go_hungry(key);
                };
                *scratch = Some(buf);
            }
            let op = match step {
                Step::Done => {
                    let token =
                        id.and_then(|id| run.token(id, self.tables.views.get(unit.index())?.as_deref()?));
                    let is_cut_short = run.is_cut_short();
                    task.job = None;
                    self.copies.made(key, token, is_cut_short);
                    return self.end(conn, key, Outcome::GOOD, now);
                }
                Step::Watch { lba, blocks, offset_blocks } => {
                    let Some(token) = *id else {
                        return self.end(conn, key, Outcome::check(Sense::TOKEN_RESOURCES), now);
                    };
                    let watch = Watch { token, offset_blocks, until: now.after_ns(run.lasts_ns()) };
                    return self.ask_hold_for((conn, key), unit, lba, blocks, Purpose::Watch(watch), now);
                }
                Step::Read { id, offset_blocks, blocks } => {
                    let (from, lba, left) = match self.holds.watches.find(id, offset_blocks) {
                        Found::At { unit, lba, blocks } => (unit, lba, blocks),
                        Found::Beyond => match run.end_of_token() {
                            Ok(()) => continue,
                            Err(sense) => return self.end(conn, key, Outcome::check(sense), now),
                        },
                        Found::Nowhere => {
                            return self.end(conn, key, Outcome::check(Sense::TOKEN_UNKNOWN), now);
                        }
                    };
                    let session = &self.tables.sessions[link.conn.session_key()];
                    let place = session.place(number, &self.tables.views);
                    // What the session cannot reach it cannot copy.
                    let Some(side) = Side::of_unit(from, &place, &self.tables.views) else {
                        return self.end(conn, key, Outcome::check(Sense::TOKEN_REMOTE), now);
                    };
                    if place.unit.is_none_or(|(view, _)| !side.fits(view)) {
                        return self.end(conn, key, Outcome::check(Sense::TOKEN_OPERATION), now);
                    }
                    let blocks = blocks.min(left);
                    let is_held = planted!(self, TokenNotHeld);
                    *reading = Some(Reading { side, lba, blocks, is_held });
                    if is_held {
                        continue;
                    }
                    return self.ask_hold_for((conn, key), from, lba, blocks, Purpose::Look(id), now);
                }
                Step::Write { lba, blocks } => Op::Write { lba, blocks, fua: false },
                Step::WriteZeroes { lba, blocks } => {
                    Op::WriteZeroes { lba, blocks, fua: false, may_unmap: true }
                }
            };
            let buf = if matches!(op, Op::Write { .. }) { scratch.take() } else { None };
            return self.submit(conn, key, unit, op, buf, 0, 0, now);
        }
    }

    /// A step of such a command is done: its hold is granted, or its IO has come back.
    pub(super) fn token_step_finished(&mut self, conn: Key, key: Key, now: Tick) {
        let Some(task) = self.tables.tasks.get_mut(key) else { return };
        let Some(Job { run: Running::Token { run, reading, .. }, data, .. }) = &mut task.job else { return };
        match reading {
            Some(reading) if !reading.is_held => reading.is_held = true,
            Some(Reading { blocks, .. }) => {
                run.read(*blocks);
                *reading = None;
                self.release_hold(key);
            }
            None => {
                run.finished(data.as_deref().unwrap_or(&[]));
                self.release_hold(key);
            }
        }
        self.token_on(conn, key, now);
    }

    /// A hold is granted, but a reactor says that the token is broken, or has no room to watch it.
    pub(super) fn token_broken(&mut self, conn: Key, key: Key, now: Tick) {
        let is_read = self
            .tables
            .tasks
            .get(key)
            .and_then(|task| task.job.as_ref())
            .is_some_and(|job| matches!(job.run, Running::Token { reading: Some(_), .. }));
        let sense = if is_read { Sense::TOKEN_REVOKED } else { Sense::TOKEN_RESOURCES };
        self.end(conn, key, Outcome::check(sense), now);
    }
}
