//! Several devices as one: striped (RAID 0), or one after the other; or all with the same ([`mirror`], RAID 1).
//!
//! Striped or one after the other there is no redundancy: the array is there while all its members are. The layout is [`Level`]'s,
//! with nothing on the members but data.

mod channel;
mod layout;
pub mod mirror;
pub mod planted;
mod told;

use std::error::Error;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

pub use self::layout::Level;

use self::channel::RaidChannel;
use self::layout::{Layout, Misfit};
use super::allocation::Allocation;
use super::{Bdev, Channel, Info, Offloads, Unmap, made_of};
use crate::id::ReactorId;

/// An array.
#[derive(Debug)]
pub struct Raid {
    recipe: Recipe,
    /// Set when all members were there together for the first time: an array does not grow with them, as what follows would
    /// move.
    layout: Arc<OnceLock<Layout>>,
}

/// What an array is made of.
#[derive(Debug)]
pub struct Recipe {
    /// Its name.
    pub name: String,
    /// What names the medium for ever.
    pub uuid: [u8; 16],
    /// How blocks are laid out.
    pub level: Level,
    /// Bytes of a strip: a power of two, at least a block.
    pub strip_bytes: u64,
    /// Its members, all with blocks of one size.
    pub members: Vec<Arc<dyn Bdev>>,
    /// How large each was when the array was made, where that is known.
    pub known: Option<Known>,
    /// Keeps that, where it is not known yet: the array is not there before it is kept, as a member that has grown by the next start
    /// would lead to another layout.
    pub keeps: Option<Box<dyn Keeps>>,
}

/// What a layout follows from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    /// Blocks of each member: no more are used.
    pub blocks: Vec<u64>,
    /// Bytes of a block; none where only the members tell.
    pub block_bytes: Option<u32>,
}

/// Keeps what a layout follows from for the next start.
pub trait Keeps: Debug + Send + Sync {
    /// Returns when it is kept. It may block.
    ///
    /// # Errors
    /// It is not kept, for people.
    fn keep(&self, known: Known) -> Result<(), String>;
}

impl Raid {
    /// An array of these.
    pub fn new(recipe: Recipe) -> Raid {
        Raid { recipe, layout: Arc::default() }
    }

    /// What the layout follows from; none while not all members have been there.
    pub fn known(&self) -> Option<Known> {
        self.layout()?;
        self.found(&self.infos()).ok().map(|(known, _)| known)
    }

    fn infos(&self) -> Vec<Info> {
        self.recipe.members.iter().map(|member| member.info()).collect()
    }

    /// What is to be known of these members, and the layout that follows.
    fn found(&self, infos: &[Info]) -> Result<(Known, Layout), Misfit> {
        let known = self.recipe.known.as_ref();
        let first = infos.first().map_or(0, |info| info.block_bytes);
        let block_bytes = known.and_then(|known| known.block_bytes).unwrap_or(first);
        // One that has lost blocks since is not the array that it was.
        let least = known.map_or(&[][..], |known| &known.blocks).iter().copied().map(Some);
        let least = least.chain(std::iter::repeat(None));
        let size = |(info, least): (&Info, Option<u64>)| {
            Misfit::check(info, block_bytes, least.unwrap_or_default())?;
            Ok(least.unwrap_or(info.blocks))
        };
        let blocks = infos.iter().zip(least).map(size).collect::<Result<Vec<u64>, Misfit>>()?;
        let strip_blocks = self.recipe.strip_bytes / u64::from(block_bytes.max(1));
        let layout = Layout::new(self.recipe.level, strip_blocks, block_bytes, &blocks);
        let layout = layout.filter(|_| strip_blocks > 0).ok_or(Misfit::NoRoom)?;
        Ok((Known { blocks, block_bytes: Some(block_bytes) }, layout))
    }

    fn layout(&self) -> Option<&Layout> {
        let layout = self.layout.get();
        if layout.is_some() || self.recipe.keeps.is_some() {
            return layout;
        }
        let (_, layout) = self.found(&self.infos()).ok()?;
        Some(self.layout.get_or_init(|| layout))
    }

    /// Whether it can be used as its members are, the layout being kept first where it is to be.
    fn settle(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let infos = self.infos();
        if let Some(layout) = self.layout() {
            return Ok(layout.check(&infos)?);
        }
        let (known, layout) = self.found(&infos)?;
        if let Some(keeps) = &self.recipe.keeps {
            keeps.keep(known)?;
        }
        self.layout.get_or_init(|| layout);
        Ok(())
    }
}

impl Bdev for Raid {
    fn info(&self) -> Info {
        let infos = self.infos();
        let layout = self.layout();
        let told = self.recipe.known.as_ref().and_then(|known| known.block_bytes);
        let of_first = || infos.first().map_or(512, |info| info.block_bytes);
        // What a member is like that does not belong here is nobody's business.
        let block_bytes = layout.map(Layout::block_bytes).or(told).unwrap_or_else(of_first);
        let strip_blocks = self.recipe.strip_bytes / u64::from(block_bytes.max(1));
        let divides_strips = |unit: u64| unit > 0 && strip_blocks.is_multiple_of(unit);
        let physical = infos.iter().map(|info| info.physical_block_bytes).fold(block_bytes, u32::max);
        let is_aligned = divides_strips(u64::from(physical / block_bytes.max(1)));
        let unmaps: Option<Vec<Unmap>> = infos.iter().map(|info| info.unmap).collect();
        let unmap = unmaps.filter(|unmaps| !unmaps.is_empty()).map(|unmaps| {
            let granularity = unmaps.iter().map(|unmap| unmap.granularity_blocks).max().unwrap_or(1);
            Unmap {
                granularity_blocks: if divides_strips(granularity.into()) { granularity } else { 1 },
                reads_zeroes: unmaps.iter().all(|unmap| unmap.reads_zeroes),
                anchors: unmaps.iter().all(|unmap| unmap.anchors),
            }
        });
        let any = |is_so: fn(&Info) -> bool| infos.iter().any(is_so);
        Info {
            name: self.recipe.name.clone(),
            // While a member is missing, or is not as it was, the medium is.
            blocks: layout.filter(|layout| layout.check(&infos).is_ok()).map_or(0, Layout::blocks),
            block_bytes,
            physical_block_bytes: if is_aligned { physical } else { block_bytes },
            read_only: any(|info| info.read_only),
            write_cache: any(|info| info.write_cache),
            rotational: any(|info| info.rotational),
            uuid: self.recipe.uuid,
            unmap,
            offloads: Offloads::default(),
            protection: None,
            passes: None,
        }
    }

    /// Its layout, and its members in their order.
    fn own(&self) -> Option<[u8; 16]> {
        let members: Option<Vec<[u8; 16]>> = self.recipe.members.iter().map(|member| member.own()).collect();
        let how = match self.recipe.level {
            Level::Striped => "strips",
            Level::Concat => "rows",
        };
        Some(made_of(&format!("{how} of {}", self.recipe.strip_bytes), &members?))
    }

    fn allocation(&self, lba: u64, blocks: u32) -> Allocation {
        let infos = self.infos();
        let Some(layout) = self.layout().filter(|layout| layout.check(&infos).is_ok()) else {
            return Allocation::default();
        };
        let told = told::allocation(layout, &self.recipe.members, lba, blocks);
        let anchors = |info: &Info| info.unmap.is_some_and(|unmap| unmap.anchors);
        if infos.iter().all(anchors) { told } else { told.without_anchors() }
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        let members = self.recipe.members.iter().map(|member| member.open(reactor)).collect();
        // Where all members are there and nobody has looked yet.
        self.layout();
        Box::new(RaidChannel::new(members, Arc::clone(&self.layout)))
    }

    fn probe(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        for member in &self.recipe.members {
            let info = member.info();
            if info.blocks == 0 {
                member.probe().map_err(|error| format!("member {}: {error}", info.name))?;
            }
        }
        self.settle()
    }
}

#[cfg(test)]
mod tests;
