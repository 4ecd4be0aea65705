//! Quality of service: how much a logical unit, or an initiator, may ask for in a second, and how much it gets in any case.
//!
//! A ceiling is a clock that runs ahead: whoever asks for something books the time that it takes at the rate allowed, behind all
//! who have booked before, and begins when that time has come (the generic cell rate algorithm, ITU-T I.371). So all reactors
//! that serve a unit share its ceiling by the order in which commands come, each knows when its turn is, and all they have in
//! common is one atomic word a ceiling. Time that nobody has booked can be caught up with, as much as the burst allows.
//!
//! A guarantee is a clock of the same kind: who has one waits for the ceilings of others no longer than it says, and these pay
//! for it all the same.
//!
//! Nothing here waits, or knows what is done with those that have to: that is `reactor::pace`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::time::{MS_NS, SECOND_NS, Tick};

/// The burst where none is chosen.
pub const BURST_NS: u64 = 10 * MS_NS;
/// The longest burst.
pub const BURST_NS_MAX: u64 = 10 * SECOND_NS;
/// Time is counted in parts of a nanosecond, so that high rates are kept too.
const PARTS: u64 = 16;

/// What is allowed and what is guaranteed in a second; 0 stands for no limit, and for no guarantee.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// READs and WRITEs.
    pub ios: u64,
    /// Bytes read and written.
    pub bytes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// READs and WRITEs, whatever ceilings of others say.
    pub guaranteed_ios: u64,
    /// Bytes of such.
    pub guaranteed_bytes: u64,
    /// For how long what was not used can be made up for, in nanoseconds.
    pub burst_ns: u64,
}

impl Limits {
    /// No ceiling and no guarantee.
    pub const NONE: Limits = Limits {
        ios: 0,
        bytes: 0,
        read_bytes: 0,
        write_bytes: 0,
        guaranteed_ios: 0,
        guaranteed_bytes: 0,
        burst_ns: BURST_NS,
    };

    /// Whether there is neither ceiling nor guarantee.
    pub fn is_none(&self) -> bool {
        *self == Limits { burst_ns: self.burst_ns, ..Limits::NONE }
    }
}

/// In words, what is set of them: nothing where nothing is.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MB: u64 = 1024 * 1024;
        let all = [
            (self.ios, "IO/s"),
            (self.bytes / MB, "MB/s"),
            (self.read_bytes / MB, "MB/s read"),
            (self.write_bytes / MB, "MB/s written"),
            (self.guaranteed_ios, "IO/s guaranteed"),
            (self.guaranteed_bytes / MB, "MB/s guaranteed"),
        ];
        let mut separator = "";
        for (value, unit) in all.into_iter().filter(|(value, _)| *value > 0) {
            write!(f, "{separator}{value} {unit}")?;
            separator = ", ";
        }
        Ok(())
    }
}

/// What a command asks for: one IO, and so many bytes of data that go between initiator and target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    /// They go to the initiator.
    pub is_read: bool,
    /// How many.
    pub bytes: u32,
}

/// One clock.
#[derive(Debug)]
struct Meter {
    /// In a second; not 0.
    rate: u64,
    burst: u64,
    /// Until when the time is booked.
    booked: AtomicU64,
}

impl Meter {
    /// None at a rate of 0.
    fn new(rate: u64, burst_ns: u64) -> Option<Meter> {
        let meter = Meter { rate, burst: burst_ns.saturating_mul(PARTS), booked: AtomicU64::new(0) };
        (rate > 0).then_some(meter)
    }

    /// How long so much takes.
    fn cost(&self, amount: u64) -> u64 {
        let parts = u128::from(amount) * u128::from(SECOND_NS * PARTS) / u128::from(self.rate);
        u64::try_from(parts).unwrap_or(u64::MAX)
    }

    /// Books time; when it begins, which may have been.
    fn book(&self, amount: u64, now: u64) -> u64 {
        let (cost, earliest) = (self.cost(amount), now.saturating_sub(self.burst));
        let after = |booked: u64| Some(booked.max(earliest).saturating_add(cost));
        let (Ok(before) | Err(before)) =
            self.booked.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after);
        before.max(earliest)
    }

    /// Time that was booked is not used.
    fn give_back(&self, amount: u64) {
        let cost = self.cost(amount);
        let before = |booked: u64| Some(booked.saturating_sub(cost));
        // It always is one.
        let _ = self.booked.fetch_update(Ordering::Relaxed, Ordering::Relaxed, before);
    }
}

/// Commands that have waited for ceilings, those whose turn came.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Waited {
    /// How many.
    pub commands: u64,
    /// How long, all of them together, in nanoseconds.
    pub ns: u64,
}

/// Commands that have waited for ceilings. All reactors add to it, for each command that has waited.
#[derive(Debug, Default)]
pub struct Waits {
    commands: AtomicU64,
    ns: AtomicU64,
}

impl Waits {
    /// One has waited so long.
    pub fn add(&self, ns: u64) {
        self.commands.fetch_add(1, Ordering::Relaxed);
        self.ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// All so far.
    pub fn waited(&self) -> Waited {
        Waited { commands: self.commands.load(Ordering::Relaxed), ns: self.ns.load(Ordering::Relaxed) }
    }
}

/// The clocks of a logical unit, or of an initiator: of all its sessions, on all reactors.
#[derive(Debug)]
pub struct Pace {
    limits: Limits,
    /// Who has waited for these, and for those that were set before.
    waits: Arc<Waits>,
    /// IOs, bytes, bytes read, bytes written.
    ceilings: [Option<Meter>; 4],
    /// IOs, bytes.
    guarantees: [Option<Meter>; 2],
}

/// The same, not merely alike.
impl PartialEq for Pace {
    fn eq(&self, other: &Pace) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Pace {}

impl Pace {
    /// One that begins, with a whole burst to spend.
    pub fn new(limits: Limits) -> Pace {
        Pace::counting(limits, Arc::default())
    }

    /// The same; those who wait for it are counted there.
    pub fn counting(limits: Limits, waits: Arc<Waits>) -> Pace {
        let meter = |rate| Meter::new(rate, limits.burst_ns);
        Pace {
            limits,
            waits,
            ceilings: [limits.ios, limits.bytes, limits.read_bytes, limits.write_bytes].map(meter),
            guarantees: [limits.guaranteed_ios, limits.guaranteed_bytes].map(meter),
        }
    }

    /// What it keeps.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Who has waited for it.
    pub fn waits(&self) -> &Waits {
        &self.waits
    }

    /// The ceilings that count a command, each with how much of it there is.
    fn ceilings(&self, asked: Asked) -> impl Iterator<Item = (&Meter, u64)> {
        let bytes = u64::from(asked.bytes);
        let amounts = match asked.is_read {
            true => [1, bytes, bytes, 0],
            false => [1, bytes, 0, bytes],
        };
        counted(&self.ceilings, amounts)
    }

    /// The same of guarantees.
    fn guarantees(&self, asked: Asked) -> impl Iterator<Item = (&Meter, u64)> {
        let amounts = [1, u64::from(asked.bytes)];
        counted(&self.guarantees, amounts)
    }

    /// When the command may begin at the latest, whatever ceilings of others say.
    fn guaranteed(&self, asked: Asked, now: u64) -> Option<u64> {
        self.guarantees(asked).map(|(meter, amount)| meter.book(amount, now)).max()
    }

    /// When it may begin by its own ceilings.
    fn allowed(&self, asked: Asked, now: u64) -> Option<u64> {
        self.ceilings(asked).map(|(meter, amount)| meter.book(amount, now)).max()
    }

    fn give_back(&self, asked: Asked) {
        self.ceilings(asked)
            .chain(self.guarantees(asked))
            .for_each(|(meter, amount)| meter.give_back(amount));
    }
}

/// The clocks that there are and that count anything. A READ does not wait for that of WRITEs.
fn counted<const N: usize>(
    meters: &[Option<Meter>; N],
    amounts: [u64; N],
) -> impl Iterator<Item = (&Meter, u64)> {
    let counted = meters.iter().zip(amounts).filter(|(_, amount)| *amount > 0);
    counted.filter_map(|(meter, amount)| Some((meter.as_ref()?, amount)))
}

/// Whose ceiling it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    /// The logical unit's.
    Unit,
    /// The initiator's.
    Initiator,
}

/// A command that is booked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Booked {
    /// When it may begin, which may have been.
    pub at: Tick,
    /// Whose ceiling lets it begin no earlier.
    pub by: Whose,
}

/// The paces that count a command: its logical unit's and its initiator's, where they have one.
#[derive(Clone, Copy, Debug)]
pub struct Paces<'a> {
    /// The logical unit's.
    pub unit: Option<&'a Pace>,
    /// The initiator's.
    pub initiator: Option<&'a Pace>,
}

impl Paces<'_> {
    /// Books a command in all of them; when it may begin. Every booking is used, or given back.
    pub fn book(&self, asked: Asked, now: Tick) -> Booked {
        let parts = now.ns().saturating_mul(PARTS);
        let guaranteed = |pace: Option<&Pace>| pace.and_then(|pace| pace.guaranteed(asked, parts));
        let allowed = |pace: Option<&Pace>| pace.and_then(|pace| pace.allowed(asked, parts)).unwrap_or(0);
        // What is guaranteed to one goes before the ceilings of the other, not before its own.
        let (to_unit, to_initiator) = (guaranteed(self.unit), guaranteed(self.initiator));
        let by_unit = allowed(self.unit).min(to_initiator.unwrap_or(u64::MAX));
        let by_initiator = allowed(self.initiator).min(to_unit.unwrap_or(u64::MAX));
        let (at, by) = match by_initiator > by_unit {
            true => (by_initiator, Whose::Initiator),
            false => (by_unit, Whose::Unit),
        };
        Booked { at: Tick::from_ns(at.div_ceil(PARTS)), by }
    }

    /// A command that was booked does not begin.
    pub fn give_back(&self, asked: Asked) {
        self.unit.into_iter().chain(self.initiator).for_each(|pace| pace.give_back(asked));
    }
}

#[cfg(test)]
mod tests;
