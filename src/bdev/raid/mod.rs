//! Several devices as one: striped (RAID 0), or one after the other.
//!
//! Without redundancy: the array is there while all its members are. There is no RAID 1 on purpose, as long as nothing says after
//! a power cut which of two copies that differ is right; the layout is [`Level`]'s, with nothing on the members but data.

mod channel;
mod layout;

use std::error::Error;
use std::sync::{Arc, OnceLock};

pub use self::layout::Level;

use self::channel::RaidChannel;
use self::layout::Layout;
use super::{Bdev, Channel, Info, Offloads, Unmap};
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
    /// How many blocks of each there were when it was made, where that is known: no more are used.
    pub blocks: Vec<u64>,
}

impl Raid {
    /// An array of these.
    pub fn new(recipe: Recipe) -> Raid {
        Raid { recipe, layout: Arc::default() }
    }

    /// How many blocks of each member are used at most; none while not all have been there.
    pub fn member_blocks(&self) -> Option<Vec<u64>> {
        self.layout()?;
        let limits = self.recipe.blocks.iter().copied().chain(std::iter::repeat(u64::MAX));
        Some(
            self.recipe
                .members
                .iter()
                .zip(limits)
                .map(|(member, limit)| member.info().blocks.min(limit))
                .collect(),
        )
    }

    fn layout(&self) -> Option<&Layout> {
        if let Some(layout) = self.layout.get() {
            return Some(layout);
        }
        let infos: Vec<Info> = self.recipe.members.iter().map(|member| member.info()).collect();
        let block_bytes = infos.first()?.block_bytes;
        let are_alike = infos.iter().all(|info| info.blocks > 0 && info.block_bytes == block_bytes);
        let strip_blocks = self.recipe.strip_bytes / u64::from(block_bytes.max(1));
        if !are_alike || strip_blocks == 0 {
            return None;
        }
        let limits = self.recipe.blocks.iter().copied().chain(std::iter::repeat(u64::MAX));
        // One that has lost blocks since is not the array that it was.
        if self.recipe.blocks.iter().zip(&infos).any(|(limit, info)| info.blocks < *limit) {
            return None;
        }
        let sizes: Vec<u64> = infos.iter().zip(limits).map(|(info, limit)| info.blocks.min(limit)).collect();
        let layout = Layout::new(self.recipe.level, strip_blocks, &sizes)?;
        Some(self.layout.get_or_init(|| layout))
    }
}

impl Bdev for Raid {
    fn info(&self) -> Info {
        let infos: Vec<Info> = self.recipe.members.iter().map(|member| member.info()).collect();
        let block_bytes = infos.first().map_or(512, |info| info.block_bytes);
        let strip_blocks = self.recipe.strip_bytes / u64::from(block_bytes.max(1));
        let divides_strips = |unit: u64| unit > 0 && strip_blocks.is_multiple_of(unit);
        let physical = infos.iter().map(|info| info.physical_block_bytes).max().unwrap_or(block_bytes);
        let is_aligned = divides_strips(u64::from(physical / block_bytes.max(1)));
        let unmaps: Option<Vec<Unmap>> = infos.iter().map(|info| info.unmap).collect();
        let unmap = unmaps.filter(|unmaps| !unmaps.is_empty()).map(|unmaps| {
            let granularity = unmaps.iter().map(|unmap| unmap.granularity_blocks).max().unwrap_or(1);
            Unmap {
                granularity_blocks: if divides_strips(granularity.into()) { granularity } else { 1 },
                reads_zeroes: unmaps.iter().all(|unmap| unmap.reads_zeroes),
            }
        });
        let any = |is_so: fn(&Info) -> bool| infos.iter().any(is_so);
        Info {
            name: self.recipe.name.clone(),
            // While a member is missing, or smaller than it was, the medium is.
            blocks: self.layout().filter(|layout| layout.fits(&infos)).map_or(0, Layout::blocks),
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

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        let members = self.recipe.members.iter().map(|member| member.open(reactor)).collect();
        let block_bytes = self.recipe.members.first().map_or(512, |member| member.info().block_bytes);
        // Where all members are there and nobody has looked yet.
        self.layout();
        Box::new(RaidChannel::new(members, Arc::clone(&self.layout), block_bytes as usize))
    }

    fn probe(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        for member in &self.recipe.members {
            let info = member.info();
            if info.blocks == 0 {
                member.probe().map_err(|error| format!("member {}: {error}", info.name))?;
            }
        }
        match self.info().blocks {
            1.. => Ok(()),
            0 => Err("its members are not those that it was made of: they have other sizes".into()),
        }
    }
}

#[cfg(test)]
mod tests;
