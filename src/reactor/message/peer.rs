//! What reactors say to each other.

use crate::id::{ReactorId, UnitId};
use crate::scsi::copy::rod::TokenId;
use crate::slab::Key;
use crate::time::Tick;

/// A hold, for the life of the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HoldId {
    /// The reactor whose command asked for it.
    pub owner: ReactorId,
    /// Its record there.
    pub key: Key,
}

/// What a hold covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HoldRange {
    /// The logical unit.
    pub unit: UnitId,
    /// First block.
    pub lba: u64,
    /// How many.
    pub blocks: u32,
}

/// What else a hold does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Nothing.
    Alone,
    /// The range is watched from then on, for a token.
    Watch(Watch),
    /// Every reactor says whether a token is whole there.
    Look(TokenId),
}

/// A range that a token stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watch {
    /// The token.
    pub token: TokenId,
    /// Where in it the range begins.
    pub offset_blocks: u64,
    /// How long.
    pub until: Tick,
}

/// Reactor to reactor, never by way of control.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerMessage {
    /// To the unit's home: a command wants a hold.
    HoldAsk {
        /// Its name.
        hold: HoldId,
        /// What it covers.
        range: HoldRange,
        /// What else it does.
        purpose: Purpose,
    },
    /// From the home to every reactor: from now on give no device an IO of others in the range, and say when none has one
    /// any more.
    HoldApply {
        /// Its name.
        hold: HoldId,
        /// What it covers.
        range: HoldRange,
        /// What else it does.
        purpose: Purpose,
    },
    /// To the home, in answer to that.
    HoldApplied {
        /// Which.
        hold: HoldId,
        /// Who.
        reactor: ReactorId,
        /// Whether all IOs came back; else a device kept one beyond the deadline, and the hold is refused.
        is_clean: bool,
        /// Whether the token that it is about is whole there.
        is_whole: bool,
    },
    /// From the home to the owner: all reactors have applied it.
    HoldGranted {
        /// Which.
        hold: HoldId,
        /// Whether all say that the token is whole.
        is_whole: bool,
    },
    /// From the owner to the home: it is over, or not wanted any more.
    HoldRelease {
        /// Which.
        hold: HoldId,
    },
    /// From the home to all who know of it, the owner last: it is over. Not granted before, it is refused by this.
    HoldDrop {
        /// Which.
        hold: HoldId,
    },
    /// This reactor has stopped. It applies no holds any more, and those it was home to are forgotten.
    Left {
        /// Who.
        reactor: ReactorId,
        /// Whether its devices have given everything back.
        is_clean: bool,
    },
}
