//! Random reservations: what a client asks for to have a unit to itself, and how the last words find it free.

use lunette::sim::rng::Rng;
use lunette_initiator::scsi::cdb;
use lunette_initiator::{Command, Data};

use super::chaos::Chaos;
use super::what::What;

const REGISTER: u8 = 0;
pub(super) const RESERVE: u8 = 1;
const RELEASE: u8 = 2;
const CLEAR: u8 = 3;
const PREEMPT: u8 = 4;
pub(super) const PREEMPT_AND_ABORT: u8 = 5;
pub(super) const REGISTER_AND_IGNORE: u8 = 6;

/// Types, each as likely as the others.
const KINDS: [u8; 6] = [1, 3, 5, 6, 7, 8];
/// The key under which every client registers when all is over.
const LAST_KEY: u64 = 0xff;

/// Service action, type and keys of a PERSISTENT RESERVE OUT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Out {
    pub(super) action: u8,
    pub(super) kind: u8,
    pub(super) key: u64,
    pub(super) other: u64,
}

impl Out {
    pub(super) fn command(self, lun: u64) -> Command {
        let list = cdb::persistent_reserve_out_list(self.key, self.other);
        Command::write(lun, cdb::persistent_reserve_out(self.action, self.kind, 24), list)
    }
}

/// RESERVE(6) or RELEASE(6).
pub(super) fn legacy(lun: u64, is_release: bool) -> Command {
    Command::new(lun, if is_release { cdb::release_6() } else { cdb::reserve_6() }, Data::None)
}

/// How the clients of a world reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Habit {
    Never,
    /// By PERSISTENT RESERVE OUT, now and then by RESERVE.
    Persistent,
    /// By RESERVE, now and then by PERSISTENT RESERVE OUT.
    Legacy,
}

impl Habit {
    pub(super) fn draw(rng: &mut Rng) -> Habit {
        match rng.below(16) {
            0..4 => Habit::Persistent,
            4 | 5 => Habit::Legacy,
            _ => Habit::Never,
        }
    }
}

/// What one of so many clients asks for.
pub(super) fn draw(rng: &mut Rng, habit: Habit, client: usize, clients: usize) -> What {
    let is_legacy = if habit == Habit::Legacy { !rng.one_in(4) } else { rng.one_in(16) };
    if is_legacy {
        return What::Reserve { is_release: rng.one_in(3) };
    }
    let key_of = |client: usize| client as u64 + 1;
    let own = key_of(client);
    let (victim, kind) = (key_of(rng.index(clients)), rng.pick(&KINDS));
    let out = |action, key, other| What::ReserveOut(Out { action, kind, key, other });
    match rng.below(16) {
        0..4 => out(REGISTER_AND_IGNORE, 0, own),
        4 => out(REGISTER, own, 0),
        5 => out(REGISTER, 0, own),
        6..10 => out(RESERVE, own, 0),
        10 => out(RELEASE, own, 0),
        11 => out(CLEAR, own, 0),
        12 | 13 => out(PREEMPT, own, rng.pick(&[victim, victim, 0])),
        // What it aborts of its own a nexus is not told: no one waits for that here.
        _ if victim == own => out(PREEMPT_AND_ABORT, own, 0),
        _ => out(PREEMPT_AND_ABORT, own, victim),
    }
}

impl Chaos {
    /// What the random life begins with: mostly everybody is registered, somebody has the unit, and the cache is off.
    pub(super) fn settle_in(&mut self) -> Result<(), String> {
        self.calm(false)?;
        for unit in 0..self.world.disks.len() {
            self.ask_all(unit, What::TestUnitReady)?;
            let (kind, holder) = (self.world.rng.pick(&KINDS), self.world.rng.index(4));
            let own = |client: usize| client as u64 + 1;
            let out = |action, key, other| What::ReserveOut(Out { action, kind, key, other });
            if self.selects && self.world.rng.one_in(2) {
                self.ask_all(unit, What::Select { write_cache: false })?;
            }
            match self.habit {
                Habit::Persistent if !self.world.rng.one_in(4) => {
                    self.ask_all(unit, What::TestUnitReady)?;
                    self.ask_each(unit, |client| out(REGISTER_AND_IGNORE, 0, own(client)))?;
                    // All but one try with a key that is not theirs.
                    self.ask_all(unit, out(RESERVE, own(holder), 0))?;
                }
                Habit::Legacy => {
                    self.ask_all(unit, What::Reserve { is_release: false })?;
                }
                Habit::Persistent | Habit::Never => {}
            }
        }
        Ok(())
    }

    /// Whatever was reserved at a unit is so no more.
    pub(super) fn unreserve(&mut self, unit: usize) -> Result<(), String> {
        // Unit attentions stand in the way of what follows.
        for _ in 0..12 {
            self.ask_all(unit, What::TestUnitReady)?;
        }
        let out = |action, key, other| What::ReserveOut(Out { action, kind: 0, key, other });
        self.ask_all(unit, What::Reserve { is_release: true })?;
        let registered = self.ask_all(unit, out(REGISTER_AND_IGNORE, 0, LAST_KEY))?;
        if registered.iter().any(|is_good| !is_good) {
            return Err(format!("unit {unit}: not everybody can register: {registered:?}"));
        }
        let cleared = self.ask_all(unit, out(CLEAR, LAST_KEY, 0))?;
        match cleared.iter().filter(|is_good| **is_good).count() {
            1 => Ok(()),
            count => Err(format!("unit {unit}: {count} have cleared what can be cleared once")),
        }
    }
}
