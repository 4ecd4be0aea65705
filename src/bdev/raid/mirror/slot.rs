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

/// An IO.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) tag: Key,
    pub(super) op: Op,
    pub(super) stage: Stage,
    /// There in every stage but [`Stage::Leg`].
    pub(super) io: Option<Io>,
    pub(super) is_cancelled: bool,
    /// It changes members, or flushes them, and has begun.
    pub(super) is_begun: bool,
    /// Under which plan.
    pub(super) plan: Plan,
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
}

/// What members are asked for: what was unmapped has to read the same everywhere, so it is zeroes.
pub(super) fn leg(op: Op) -> Op {
    match op {
        Op::Unmap { lba, blocks } => Op::WriteZeroes { lba, blocks, fua: false, may_unmap: true },
        other => other,
    }
}
