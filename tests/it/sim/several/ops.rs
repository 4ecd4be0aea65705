//! What the initiator knows of its commands.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use lunette_initiator::pdu::Pdu;

use crate::sim::oracle::Step;

/// The response to a READ of which data are missing.
pub(super) struct Held {
    pub(super) number: usize,
    pub(super) exp_data_sn: u32,
}

/// An ORDERED WRITE before a READ.
pub(super) struct Earlier {
    pub(super) itt: u32,
    pub(super) tag: u64,
    pub(super) lbas: Range<u64>,
}

/// A command that has not ended.
pub(super) struct Op {
    pub(super) tag: u64,
    pub(super) is_write: bool,
    pub(super) is_ordered: bool,
    pub(super) lba: u64,
    pub(super) blocks: u32,
    pub(super) line: usize,
    pub(super) cmd_sn: u32,
    pub(super) pdu: Pdu,
    pub(super) start: Step,
    pub(super) data: Vec<u8>,
    /// DataSN or R2TSN: the next that the target has not said yet, and those that were heard.
    pub(super) next_sn: u32,
    pub(super) heard: BTreeSet<u32>,
    /// Where the data of each DataSN go.
    pub(super) places: BTreeMap<u32, (u32, usize)>,
    /// The data of each DataSN as they were sent first.
    pub(super) sent: BTreeMap<u32, Vec<u8>>,
    pub(super) held: Option<Held>,
    pub(super) snack_tag: u32,
    /// Its data cannot be had any more.
    pub(super) is_refused: bool,
    /// When something was heard of it or asked about it.
    pub(super) asked_at: Step,
    /// What it comes behind.
    pub(super) behind: Vec<Earlier>,
    /// What has not seen it though it came behind.
    pub(super) missed: Option<String>,
    pub(super) is_taken_over: bool,
    /// It was sent anew, and whether that or the first one counts will be seen.
    pub(super) is_unsure: bool,
}

impl Op {
    /// The first DataSN or R2TSN that was not heard.
    pub(super) fn exp_data_sn(&self) -> u32 {
        (0..).find(|sn| !self.heard.contains(sn)).unwrap_or(0)
    }

    pub(super) fn lbas(&self) -> Range<u64> {
        self.lba..self.lba + u64::from(self.blocks)
    }
}

/// An ABORT TASK SET that was not answered.
#[derive(Clone, Copy)]
pub(super) struct Abort {
    pub(super) itt: u32,
    pub(super) line: usize,
    pub(super) cmd_sn: u32,
    pub(super) since: Step,
}

/// What has happened.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Counts {
    pub(super) ended: u64,
    pub(super) aborted: u64,
    pub(super) taken_over: u64,
    pub(super) cuts: u64,
    pub(super) spoilt: u64,
    /// SNACKs by type: data or R2T, status, none, R-Data.
    pub(super) snacks: [u64; 4],
    /// READs whose missing data came.
    pub(super) completed: u64,
    pub(super) refused: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: Counts) {
        self.ended += other.ended;
        self.aborted += other.aborted;
        self.taken_over += other.taken_over;
        self.cuts += other.cuts;
        self.spoilt += other.spoilt;
        self.snacks.iter_mut().zip(other.snacks).for_each(|(sum, count)| *sum += count);
        self.completed += other.completed;
        self.refused += other.refused;
    }
}
