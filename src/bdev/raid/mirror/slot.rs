//! An IO of a mirror, and how far it has come.

use super::plan::{Plan, Set};
use crate::bdev::{Io, IoError, Op};
use crate::slab::Key;

/// Where an IO is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Before it begins: it may not yet.
    Gate,
    /// Its leg waits for room in this member.
    Room(usize),
    /// This member has it.
    Leg(usize),
    /// A member has failed: the warden is to decide, which it has when this report is judged.
    Judging(u64),
}

/// What a read does about a medium that is bad where it reads. It has the blocks to itself meanwhile, so all current members hold the
/// same in them, but for what cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mending {
    /// Nothing: nothing is bad as far as is known.
    No,
    /// It reads from a current member that is none of these: of those the medium is bad.
    Reading(Set),
    /// What it has read is written to these.
    Writing(Set),
}

/// An IO.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) tag: Key,
    pub(super) op: Op,
    pub(super) stage: Stage,
    /// There in every stage but [`Stage::Leg`].
    pub(super) io: Option<Io>,
    pub(super) is_cancelled: bool,
    /// It changes members, or flushes them, or mends them, and has begun.
    pub(super) is_begun: bool,
    /// Under which plan, and of which epoch that is, or of an earlier one.
    pub(super) plan: Plan,
    pub(super) epoch: u64,
    /// So many words of its regions are its own, see [`super::regions`].
    pub(super) held: u64,
    /// It waits at its regions, or has them: what has blocks in common with it comes later.
    pub(super) is_in_line: bool,
    /// Of a read.
    pub(super) mending: Mending,
    /// Of a read that a member has: who was reader for how often, see [`Shared::term`](super::shared::Shared::term).
    pub(super) term: u64,
    /// Members that are still to be asked.
    pub(super) left: Set,
    /// Those that have done it.
    pub(super) has: Set,
    /// Who failed last.
    pub(super) failed_at: usize,
    pub(super) error: Option<IoError>,
}

impl Slot {
    pub(super) fn new(tag: Key, op: Op, io: Io) -> Slot {
        Slot {
            tag,
            op,
            stage: Stage::Gate,
            io: Some(io),
            is_cancelled: false,
            is_begun: false,
            plan: Plan::EMPTY,
            epoch: 0,
            held: 0,
            is_in_line: false,
            mending: Mending::No,
            term: 0,
            left: Set::EMPTY,
            has: Set::EMPTY,
            failed_at: 0,
            error: None,
        }
    }

    pub(super) fn is_read(&self) -> bool {
        matches!(self.op, Op::Read { .. })
    }

    /// What members are asked for: what was unmapped has to read the same everywhere, so it is zeroes.
    pub(super) fn leg(&self) -> Op {
        match (self.op, self.mending) {
            (Op::Unmap { lba, blocks }, _) => Op::WriteZeroes { lba, blocks, fua: false, may_unmap: true },
            (Op::Read { lba, blocks }, Mending::Writing(_)) => Op::Write { lba, blocks, fua: false },
            (other, _) => other,
        }
    }
}
