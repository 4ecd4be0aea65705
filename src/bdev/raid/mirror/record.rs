//! What has to survive of a mirror, and who may be read when it is started.

use super::plan::Set;
use super::shared::Shape;
use crate::bdev::{Bdev, Info, IoError};

/// What has to survive of a mirror: it is durable before what follows from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Blocks of the array.
    pub blocks: u64,
    /// Bytes of a block.
    pub block_bytes: u32,
    /// Its members, by what their media are by themselves ([`Bdev::own`](crate::bdev::Bdev::own)), whatever they are called.
    pub members: Vec<[u8; 16]>,
    /// Those that have all that was answered GOOD. All others are not read before they have been filled again.
    pub current: Vec<[u8; 16]>,
    /// Those may differ, in what was being written.
    pub is_dirty: bool,
}

/// A member that is there: what it is, and what its medium is by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct There {
    pub(super) info: Info,
    pub(super) own: [u8; 16],
}

impl There {
    /// None where it has no blocks, or nothing tells what it is.
    pub(super) fn of(bdev: &dyn Bdev) -> Option<There> {
        let info = bdev.info();
        // After that: a medium that goes has no blocks first.
        let own = bdev.own()?;
        (info.blocks > 0 && own != [0; 16]).then_some(There { info, own })
    }
}

/// What is told of a mirror; members by their names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum News<'a> {
    /// Its record could not be saved, so; it is tried again.
    NotSaved(&'a str),
    /// It was not stopped in peace: members are filled from one of them.
    Unclean,
    /// Members that were current were not there at the start, and are out.
    Missing,
    /// A member has failed and is out.
    Out(&'a str),
    /// A member is being filled.
    Filling(&'a str),
    /// A member has all data.
    Filled(&'a str),
    /// A member could not be filled, so; it is tried again.
    NotFilled(&'a str, IoError),
    /// A member could not flush what it has, so: another one is to be filled anew.
    NotFlushed {
        /// Who could not.
        member: &'a str,
        /// Who was being filled.
        filled: &'a str,
        /// Why.
        error: IoError,
    },
    /// There is no way to a member beside those of the reactors, or no memory; it is tried again.
    NoWay(&'a str),
}

/// Keeps records.
pub trait Records: Send + std::fmt::Debug {
    /// Returns when it is durable. It may block.
    ///
    /// # Errors
    /// Whether it is durable nobody knows; why, for people.
    fn save(&mut self, record: &Record) -> Result<(), String>;
    /// Tells what has happened, to whoever listens.
    fn tell(&mut self, _news: News<'_>) {}
}

/// What a start comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Start {
    /// These are current.
    With(Set),
    /// Somebody is waited for, so.
    Wait(String),
}

impl Record {
    pub(super) fn shape(&self, window_bytes: u32) -> Shape {
        Shape { blocks: self.blocks, block_bytes: self.block_bytes, window_bytes }
    }

    /// Which members may be read at the start, given what is there. `volatile` are those that forget what they hold, `is_late`: no
    /// more is waited for than has to be.
    pub(super) fn start(&self, members: &[Option<There>], volatile: Set, is_late: bool) -> Start {
        if self.current.is_empty() {
            let why = "the state file does not say which of its members have all data: delete it and make it anew, \
                       the one with the data first";
            return Start::Wait(why.to_owned());
        }
        let is_current = |there: &There| self.current.contains(&there.own) && self.shape(0).fits(&there.info);
        // One medium is one member, however often it is there.
        let own = |there: &Option<There>| there.as_ref().map(|there| there.own);
        let is_first = |member: usize| {
            let mut former = members.iter().take(member);
            members.get(member).is_some_and(|this| former.all(|former| own(former) != own(this)))
        };
        let there = members
            .iter()
            .enumerate()
            .filter(|(member, there)| there.as_ref().is_some_and(is_current) && is_first(*member));
        let there = there.fold(Set::EMPTY, |set, (member, _)| set.with(Set::of(member)));
        let lasting = there.without(volatile);
        // Of members that have been replaced nobody is waited for.
        let is_all =
            members.iter().all(Option::is_some) || usize::try_from(there.len()) == Ok(self.current.len());
        let all = members.iter().enumerate().fold(Set::EMPTY, |set, (member, _)| set.with(Set::of(member)));
        let lasting = match lasting.first() {
            Some(_) => lasting,
            // What is nowhere but in RAM begins anew.
            None if all.without(volatile).is_empty() => there.first().map_or(Set::EMPTY, Set::of),
            None if is_all => {
                return Start::Wait(
                    "what it held was in members that forget it: only those were current".to_owned(),
                );
            }
            None => Set::EMPTY,
        };
        match lasting.first() {
            None => Start::Wait("none of the members that are current is there".to_owned()),
            // Members may differ: one of them is right, whichever.
            Some(first) if self.is_dirty => Start::With(Set::of(first)),
            Some(_) if is_all || is_late => Start::With(lasting),
            Some(_) => Start::Wait("a member that was current is waited for".to_owned()),
        }
    }
}
