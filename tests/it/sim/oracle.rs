//! What each block may hold: every read has to be explained by some legal order of the writes.
//!
//! Per block a list of versions, one a write. A write is at work from its issue (`start`) to its end as its initiator
//! learnt it (`end`): a status, an abort that was confirmed, or the first GOOD of the nexus's next session. What ended in
//! anything but GOOD may have landed or not, and from then on that is fixed. A version is superseded once a write that
//! began after its end is known to have landed; it is superseded *durably* once such a write is on stable storage.

use std::collections::BTreeMap;

use lunette::sim::disk::{Stamp, TORN, ZEROES};

/// Steps of the world so far.
pub(super) type Step = u64;

/// What of another block a copy may find.
#[derive(Debug, Clone)]
struct Copied {
    from: (usize, u64),
    since: Step,
    /// None: until it is copied.
    until: Option<Step>,
    /// What it has found, as far as that can be told.
    found: Vec<Stamp>,
}

#[derive(Debug, Clone)]
struct Version {
    op: u64,
    stamp: Stamp,
    copied: Option<Copied>,
    /// It counts only where it has landed: nobody knows how far it went.
    is_wipe: bool,
    has_landed: bool,
    start: Step,
    end: Option<Step>,
    superseded_at: Option<Step>,
    is_good: bool,
    is_durable: bool,
    is_durably_superseded: bool,
}

impl Version {
    /// Whether it may have made the block so.
    fn is(&self, stamp: Stamp) -> bool {
        self.copied.as_ref().map_or(self.stamp == stamp, |copied| copied.found.contains(&stamp))
    }
}

/// The blocks of all units.
#[derive(Clone, Debug, Default)]
pub(super) struct Oracle {
    blocks: BTreeMap<(usize, u64), Vec<Version>>,
    /// What each block holds, in the order in which writes reached the device.
    media: BTreeMap<(usize, u64), Stamp>,
    /// The same since the beginning, with the steps.
    history: BTreeMap<(usize, u64), Vec<(Step, Stamp)>>,
    /// COMPARE AND WRITE: by the block and the stamp it writes, the stamp it must replace.
    swaps: BTreeMap<(usize, u64, Stamp), Stamp>,
}

/// What a write makes of its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Each its own stamp.
    Own,
    /// All the same stamp.
    Same,
    /// Zeroes, which no stamp tells from others'.
    Zero,
    /// Each its own stamp, if the block held this one.
    Instead(Stamp),
    /// What blocks from there on hold: while it is at work, or what they held between these steps.
    Copied { from: (usize, u64), held: Option<(Step, Step)> },
    /// All the same stamp, as far as it goes.
    Wiped,
}

/// The stamp that a write gives a block.
pub(super) fn stamp(op: u64, lba: u64) -> Stamp {
    op << 16 | lba
}

/// The stamp that WRITE SAME gives all of its blocks.
pub(super) fn same_stamp(op: u64) -> Stamp {
    op << 16 | 0xffff
}

impl Oracle {
    fn versions(&mut self, unit: usize, lba: u64) -> &mut Vec<Version> {
        let first = Version {
            op: 0,
            stamp: 0,
            copied: None,
            is_wipe: false,
            has_landed: true,
            start: 0,
            end: Some(0),
            superseded_at: None,
            is_good: true,
            is_durable: true,
            is_durably_superseded: false,
        };
        self.blocks.entry((unit, lba)).or_insert_with(|| vec![first])
    }

    /// A write was issued.
    pub(super) fn write_begins(
        &mut self,
        unit: usize,
        lba: u64,
        blocks: u32,
        (op, content): (u64, Content),
        now: Step,
    ) {
        for (at, lba) in (lba..lba + u64::from(blocks)).enumerate() {
            let stamp = match content {
                Content::Own | Content::Instead(_) => stamp(op, lba),
                Content::Same | Content::Wiped => same_stamp(op),
                Content::Zero => ZEROES,
                Content::Copied { .. } => TORN,
            };
            let copied = match content {
                Content::Copied { from: (unit, first), held } => Some(Copied {
                    from: (unit, first + at as u64),
                    since: held.map_or(now, |held| held.0),
                    until: held.map(|held| held.1),
                    found: Vec::new(),
                }),
                _ => None,
            };
            if let Content::Instead(old) = content {
                self.swaps.insert((unit, lba, stamp), old);
            }
            self.versions(unit, lba).push(Version {
                op,
                stamp,
                copied,
                is_wipe: content == Content::Wiped,
                has_landed: false,
                start: now,
                end: None,
                superseded_at: None,
                is_good: false,
                is_durable: false,
                is_durably_superseded: false,
            });
        }
    }

    /// A write has ended. One that did not end in GOOD may have landed.
    pub(super) fn write_ends(
        &mut self,
        unit: usize,
        lba: u64,
        blocks: u32,
        op: u64,
        good: Option<bool>,
        now: Step,
    ) {
        for lba in lba..lba + u64::from(blocks) {
            let versions = self.versions(unit, lba);
            let Some(at) = versions.iter().position(|version| version.op == op) else {
                continue;
            };
            versions[at].end.get_or_insert(now);
            let start = versions[at].start;
            if let Some(is_durable) = good
                && (versions[at].has_landed || !versions[at].is_wipe)
            {
                versions[at].is_good = true;
                supersede(versions, start, now);
                if is_durable {
                    versions[at].is_durable = true;
                    supersede_durably(versions, start);
                }
            }
        }
    }

    /// A copy has ended in GOOD: each of its blocks has been written.
    pub(super) fn copied(&mut self, unit: usize, lba: u64, blocks: u32, op: u64) -> Result<(), String> {
        for lba in lba..lba + u64::from(blocks) {
            let version = self.versions(unit, lba).iter().find(|version| version.op == op);
            if let Some(version) = version.filter(|version| !version.has_landed) {
                return Err(format!(
                    "unit {unit} block {lba}: a copy is GOOD and has not been there: {version:?}"
                ));
            }
        }
        Ok(())
    }

    /// Whether a block held this at some time from `since` to `until`.
    fn held_within(&self, (unit, lba): (usize, u64), stamp: Stamp, since: Step, until: Step) -> bool {
        let history = self.history.get(&(unit, lba)).map_or(&[][..], Vec::as_slice);
        let before = history.iter().rev().find(|(step, _)| *step <= since).map_or(0, |(_, stamp)| *stamp);
        before == stamp || history.iter().any(|(step, held)| (since..=until).contains(step) && *held == stamp)
    }

    /// A write of a session that is over can land no more.
    pub(super) fn write_given_up(&mut self, op: u64, now: Step) {
        for versions in self.blocks.values_mut() {
            if let Some(version) = versions.iter_mut().find(|version| version.op == op) {
                version.end.get_or_insert(now);
            }
        }
    }

    /// SYNCHRONIZE CACHE, issued at `start`, has ended in GOOD.
    pub(super) fn synced(&mut self, unit: usize, start: Step) {
        for (_, versions) in self.blocks.range_mut((unit, 0)..=(unit, u64::MAX)) {
            for at in 0..versions.len() {
                let version = &mut versions[at];
                if version.is_good && !version.is_durable && version.end.is_some_and(|end| end < start) {
                    version.is_durable = true;
                    let start = version.start;
                    supersede_durably(versions, start);
                }
            }
        }
    }

    /// A read of one block, issued at `start`, has ended in GOOD with this content.
    pub(super) fn read(
        &mut self,
        unit: usize,
        lba: u64,
        found: Stamp,
        start: Step,
        now: Step,
    ) -> Result<(), String> {
        let versions = self.versions(unit, lba);
        // Zeroes may be of several writes: then the oldest that may be there still, as that says least.
        let is_there = |version: &&Version| version.superseded_at.is_none_or(|at| at > start);
        let mut written = versions.iter().filter(|version| version.is(found)).peekable();
        if written.peek().is_none() {
            return Err(format!(
                "unit {unit} block {lba} read as {found:#x}, which nobody wrote there: {versions:?}"
            ));
        }
        let Some(read) = written.filter(is_there).min_by_key(|version| version.start).cloned() else {
            return Err(format!(
                "unit {unit} block {lba} read at {start}..{now} as {found:#x}, superseded before: {versions:?}"
            ));
        };
        supersede(versions, read.start, now);
        for other in versions.iter_mut() {
            // It can land no more, and it is not there.
            if !other.is(found) && other.end.is_some_and(|end| end < start) {
                other.superseded_at.get_or_insert(now);
            }
        }
        Ok(())
    }

    /// What a block holds.
    pub(super) fn held(&self, unit: usize, lba: u64) -> Stamp {
        self.media.get(&(unit, lba)).copied().unwrap_or(0)
    }

    /// A block of a write has reached the medium: the ops that may have done so.
    pub(super) fn landed(
        &mut self,
        unit: usize,
        lba: u64,
        stamp: Stamp,
        now: Step,
    ) -> Result<Vec<u64>, String> {
        if stamp == TORN {
            return Err(format!("unit {unit} block {lba}: the device was given what nobody wrote"));
        }
        let held = self.media.insert((unit, lba), stamp).unwrap_or(0);
        let mut versions = std::mem::take(self.versions(unit, lba));
        for version in versions.iter_mut().filter(|version| version.end.is_none_or(|end| end >= now)) {
            let Some(Copied { from, since, until, found }) = &mut version.copied else { continue };
            if self.held_within(*from, stamp, *since, until.unwrap_or(now)) && !found.contains(&stamp) {
                found.push(stamp);
            }
        }
        self.history.entry((unit, lba)).or_default().push((now, stamp));
        // A copy may bring back what a swap has written.
        let is_copied = versions.iter().any(|version| version.copied.is_some() && version.is(stamp));
        if let Some(expected) = self.swaps.get(&(unit, lba, stamp)).filter(|_| !is_copied)
            && *expected != held
        {
            return Err(format!(
                "unit {unit} block {lba}: a COMPARE AND WRITE that found {expected:#x} replaced {held:#x}"
            ));
        }
        let mut meant = versions.iter_mut().filter(|version| version.is(stamp)).peekable();
        let is_meant = meant.peek().is_some();
        let mut ops = Vec::new();
        for version in meant.filter(|version| version.end.is_none_or(|end| end >= now)) {
            version.has_landed = true;
            ops.push(version.op);
        }
        *self.versions(unit, lba) = versions;
        if !is_meant {
            return Err(format!(
                "unit {unit} block {lba}: {stamp:#x} was written, not meant for there, or long ended"
            ));
        }
        if ops.is_empty() {
            return Err(format!("unit {unit} block {lba}: {stamp:#x} landed at {now}, after its end"));
        }
        Ok(ops)
    }

    /// What the unit would hold after a power cut.
    pub(super) fn after_power_cut(&self, unit: usize, contents: &[Stamp]) -> Result<(), String> {
        for (&(_, lba), versions) in self.blocks.range((unit, 0)..=(unit, u64::MAX)) {
            let found = usize::try_from(lba).ok().and_then(|at| contents.get(at)).copied().unwrap_or(TORN);
            let mut meant = versions.iter().filter(|version| version.is(found));
            if meant.all(|version| version.is_durably_superseded) {
                return Err(format!(
                    "unit {unit} block {lba} after a power cut: {found:#x}, of {versions:?}"
                ));
            }
        }
        Ok(())
    }

    /// Forgets what no read issued at `oldest` or later may find.
    pub(super) fn prune(&mut self, oldest: Step) {
        for versions in self.blocks.values_mut() {
            if versions.len() > 4 {
                versions.retain(|version| {
                    !version.is_durably_superseded || version.superseded_at.is_none_or(|at| at >= oldest)
                });
            }
        }
    }
}

/// A write that began at `start` is known to have landed.
fn supersede(versions: &mut [Version], start: Step, now: Step) {
    for version in versions.iter_mut().filter(|version| version.end.is_some_and(|end| end < start)) {
        version.superseded_at.get_or_insert(now);
    }
}

fn supersede_durably(versions: &mut [Version], start: Step) {
    for version in versions.iter_mut().filter(|version| version.end.is_some_and(|end| end < start)) {
        version.is_durably_superseded = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_finds_the_last_write_or_one_at_work() {
        let mut oracle = Oracle::default();
        oracle.write_begins(0, 5, 1, (1, Content::Own), 10);
        oracle.read(0, 5, 0, 11, 12).unwrap();
        oracle.write_ends(0, 5, 1, 1, Some(false), 20);
        oracle.write_begins(0, 5, 1, (2, Content::Own), 21);
        oracle.read(0, 5, stamp(1, 5), 22, 23).unwrap();
        oracle.read(0, 5, stamp(2, 5), 22, 24).unwrap();
        assert!(oracle.read(0, 5, stamp(1, 5), 25, 26).is_err(), "the newer one has been seen");
        assert!(oracle.read(0, 5, 0, 25, 26).is_err());
        assert!(oracle.read(0, 6, stamp(1, 5), 25, 26).is_err(), "another block's");
    }

    #[test]
    fn a_failed_write_is_either_and_then_fixed() {
        let mut oracle = Oracle::default();
        oracle.write_begins(0, 0, 1, (1, Content::Own), 10);
        oracle.write_ends(0, 0, 1, 1, None, 20);
        assert!(oracle.landed(0, 0, stamp(1, 0), 20).is_ok());
        assert!(oracle.landed(0, 0, stamp(1, 0), 21).is_err(), "a ghost");
        oracle.read(0, 0, 0, 30, 31).unwrap();
        assert!(oracle.read(0, 0, stamp(1, 0), 32, 33).is_err());
    }

    #[test]
    fn a_swap_replaces_what_it_found() {
        let mut oracle = Oracle::default();
        oracle.write_begins(0, 3, 1, (1, Content::Instead(0)), 10);
        oracle.landed(0, 3, stamp(1, 3), 11).unwrap();
        oracle.write_begins(0, 3, 1, (2, Content::Zero), 12);
        oracle.landed(0, 3, ZEROES, 13).unwrap();
        oracle.write_begins(0, 3, 1, (3, Content::Instead(stamp(1, 3))), 12);
        assert!(oracle.landed(0, 3, stamp(3, 3), 14).is_err(), "it was zero by then");
    }

    #[test]
    fn zeroes_may_be_of_any_write_of_zeroes() {
        let mut oracle = Oracle::default();
        oracle.write_begins(0, 3, 1, (1, Content::Same), 10);
        oracle.write_ends(0, 3, 1, 1, Some(false), 11);
        oracle.write_begins(0, 3, 1, (2, Content::Zero), 12);
        oracle.read(0, 3, same_stamp(1), 13, 14).unwrap();
        oracle.read(0, 3, ZEROES, 15, 16).unwrap();
        assert!(oracle.read(0, 3, same_stamp(1), 17, 18).is_err());
        assert!(oracle.landed(0, 3, ZEROES, 13).is_ok());
    }

    #[test]
    fn only_what_is_synced_or_forced_survives() {
        let mut oracle = Oracle::default();
        oracle.write_begins(0, 0, 1, (1, Content::Own), 10);
        oracle.write_ends(0, 0, 1, 1, Some(false), 20);
        oracle.after_power_cut(0, &[0]).unwrap();
        oracle.synced(0, 15);
        oracle.after_power_cut(0, &[0]).unwrap();
        oracle.synced(0, 25);
        assert!(oracle.after_power_cut(0, &[0]).is_err());
        oracle.after_power_cut(0, &[stamp(1, 0)]).unwrap();
        oracle.write_begins(0, 0, 1, (2, Content::Own), 30);
        oracle.write_ends(0, 0, 1, 2, Some(true), 40);
        assert!(oracle.after_power_cut(0, &[stamp(1, 0)]).is_err());
    }
}
