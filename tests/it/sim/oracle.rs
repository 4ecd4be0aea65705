//! What each block may hold: every read has to be explained by some legal order of the writes.
//!
//! Per block a list of versions, one a write. A write is at work from its issue (`start`) to its end as its initiator
//! learnt it (`end`): a status, an abort that was confirmed, or the first GOOD of the nexus's next session. What ended in
//! anything but GOOD may have landed or not, and from then on that is fixed. A version is superseded once a write that
//! began after its end is known to have landed; it is superseded *durably* once such a write is on stable storage.

use std::collections::BTreeMap;

use lunette::sim::disk::{Stamp, TORN};

/// Steps of the world so far.
pub(super) type Step = u64;

#[derive(Debug, Clone)]
struct Version {
    stamp: Stamp,
    start: Step,
    end: Option<Step>,
    superseded_at: Option<Step>,
    is_good: bool,
    is_durable: bool,
    is_durably_superseded: bool,
}

/// The blocks of all units.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    blocks: BTreeMap<(usize, u64), Vec<Version>>,
}

/// The stamp that a write gives a block.
pub(super) fn stamp(op: u64, lba: u64) -> Stamp {
    op << 16 | lba
}

impl Oracle {
    fn versions(&mut self, unit: usize, lba: u64) -> &mut Vec<Version> {
        let first = Version {
            stamp: 0,
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
    pub(super) fn write_begins(&mut self, unit: usize, lba: u64, blocks: u32, op: u64, now: Step) {
        for lba in lba..lba + u64::from(blocks) {
            self.versions(unit, lba).push(Version {
                stamp: stamp(op, lba),
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
            let Some(at) = versions.iter().position(|version| version.stamp == stamp(op, lba)) else {
                continue;
            };
            versions[at].end.get_or_insert(now);
            let start = versions[at].start;
            if let Some(is_durable) = good {
                versions[at].is_good = true;
                supersede(versions, start, now);
                if is_durable {
                    versions[at].is_durable = true;
                    supersede_durably(versions, start);
                }
            }
        }
    }

    /// A write of a session that is over can land no more.
    pub(super) fn write_given_up(&mut self, op: u64, now: Step) {
        for ((_, lba), versions) in &mut self.blocks {
            if let Some(version) = versions.iter_mut().find(|version| version.stamp == stamp(op, *lba)) {
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
        let Some(read) = versions.iter().find(|version| version.stamp == found).cloned() else {
            return Err(format!(
                "unit {unit} block {lba} read as {found:#x}, which nobody wrote there: {versions:?}"
            ));
        };
        if read.superseded_at.is_some_and(|at| at <= start) {
            return Err(format!(
                "unit {unit} block {lba} read at {start}..{now} as {found:#x}, superseded before: {versions:?}"
            ));
        }
        supersede(versions, read.start, now);
        for other in versions.iter_mut() {
            // It can land no more, and it is not there.
            if other.stamp != found && other.end.is_some_and(|end| end < start) {
                other.superseded_at.get_or_insert(now);
            }
        }
        Ok(())
    }

    /// A block of a write has reached the medium.
    pub(super) fn landed(&mut self, unit: usize, lba: u64, stamp: Stamp, now: Step) -> Result<(), String> {
        if stamp == TORN {
            return Err(format!("unit {unit} block {lba}: the device was given what nobody wrote"));
        }
        match self.versions(unit, lba).iter().find(|version| version.stamp == stamp) {
            None => Err(format!(
                "unit {unit} block {lba}: {stamp:#x} was written, not meant for there, or long ended"
            )),
            Some(version) if version.end.is_some_and(|end| end < now) => {
                Err(format!("unit {unit} block {lba}: landed at {now}, after its end: {version:?}"))
            }
            Some(_) => Ok(()),
        }
    }

    /// What the unit would hold after a power cut.
    pub(super) fn after_power_cut(&self, unit: usize, contents: &[Stamp]) -> Result<(), String> {
        for (&(_, lba), versions) in self.blocks.range((unit, 0)..=(unit, u64::MAX)) {
            let found = usize::try_from(lba).ok().and_then(|at| contents.get(at)).copied().unwrap_or(TORN);
            let version = versions.iter().find(|version| version.stamp == found);
            if version.is_none_or(|version| version.is_durably_superseded) {
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
        oracle.write_begins(0, 5, 1, 1, 10);
        oracle.read(0, 5, 0, 11, 12).unwrap();
        oracle.write_ends(0, 5, 1, 1, Some(false), 20);
        oracle.write_begins(0, 5, 1, 2, 21);
        oracle.read(0, 5, stamp(1, 5), 22, 23).unwrap();
        oracle.read(0, 5, stamp(2, 5), 22, 24).unwrap();
        assert!(oracle.read(0, 5, stamp(1, 5), 25, 26).is_err(), "the newer one has been seen");
        assert!(oracle.read(0, 5, 0, 25, 26).is_err());
        assert!(oracle.read(0, 6, stamp(1, 5), 25, 26).is_err(), "another block's");
    }

    #[test]
    fn a_failed_write_is_either_and_then_fixed() {
        let mut oracle = Oracle::default();
        oracle.write_begins(0, 0, 1, 1, 10);
        oracle.write_ends(0, 0, 1, 1, None, 20);
        assert!(oracle.landed(0, 0, stamp(1, 0), 20).is_ok());
        assert!(oracle.landed(0, 0, stamp(1, 0), 21).is_err(), "a ghost");
        oracle.read(0, 0, 0, 30, 31).unwrap();
        assert!(oracle.read(0, 0, stamp(1, 0), 32, 33).is_err());
    }

    #[test]
    fn only_what_is_synced_or_forced_survives() {
        let mut oracle = Oracle::default();
        oracle.write_begins(0, 0, 1, 1, 10);
        oracle.write_ends(0, 0, 1, 1, Some(false), 20);
        oracle.after_power_cut(0, &[0]).unwrap();
        oracle.synced(0, 15);
        oracle.after_power_cut(0, &[0]).unwrap();
        oracle.synced(0, 25);
        assert!(oracle.after_power_cut(0, &[0]).is_err());
        oracle.after_power_cut(0, &[stamp(1, 0)]).unwrap();
        oracle.write_begins(0, 0, 1, 2, 30);
        oracle.write_ends(0, 0, 1, 2, Some(true), 40);
        assert!(oracle.after_power_cut(0, &[stamp(1, 0)]).is_err());
    }
}
