//! A bdev in parts of the same size: `bdev_split_create`, `bdev_split_delete`.

use std::sync::{Arc, Weak};

use rustix::io::Errno;

use super::{Method, Outcome, method};
use crate::bdev::split::{Keeps, Layout, Size, Split};
use crate::limits::BDEVS_MAX;
use crate::rpc::context::Context;
use crate::rpc::devices::Made;
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::params::params;
use crate::rpc::recipes::{Recipe, SPLIT, recipe};

pub(super) const METHODS: &[Method] = &[
    method!(
        "bdev_split_create",
        Runtime,
        SplitCreate,
        create,
        "Makes bdevs of the parts of another one and answers with their names: the other one's, p, and a number from 0. Parts stay \
         where they are when it is resized."
    ),
    method!(
        "bdev_split_delete",
        Runtime,
        SplitDelete,
        delete,
        "Deletes the parts of a bdev, their LUNs first. The data stay."
    ),
];

params! {
    /// Of `bdev_split_create`.
    pub(super) struct SplitCreate {
        /// What it is made of.
        base_bdev: String,
        /// How many parts; fewer where there is no room for all.
        split_count: u32,
        /// Mebibytes of a part; an equal share of the bdev unless given.
        split_size_mb: u64 = 0,
        /// Blocks of a part; saved, so that parts are the same after the bdev has grown. To be given where that is not there yet; a file
        /// that does not say it waits for the bdev.
        lunette_split_blocks: u64 = 0,
    }
}

fn invalid(why: impl std::fmt::Display) -> Fault {
    Fault::errno(Errno::INVAL, why)
}

fn create(context: &Context, params: SplitCreate) -> Outcome {
    let base = context.base(&params.base_bdev)?;
    let info = base.info();
    if info.passes.is_some() {
        let why = format_args!("{}: what is passed through cannot be split", params.base_bdev);
        return Err(Fault::errno(Errno::OPNOTSUPP, why));
    }
    if !parts(context, &params.base_bdev)?.is_empty() {
        return Err(Fault::errno(Errno::EXIST, format_args!("{} is split already", params.base_bdev)));
    }
    let size = match (params.lunette_split_blocks, params.split_size_mb) {
        (0, 0) => Size::Share(params.split_count),
        (0, mebibytes) => Size::Bytes(mebibytes.saturating_mul(1 << 20)),
        (blocks, _) => Size::Blocks(blocks),
    };
    let is_told = matches!(size, Size::Blocks(_));
    let is_there = info.blocks > 0;
    // What it is made of may have another size when it comes. A file that says no more is believed, as SPDK would: what comes first
    // is what it was made of.
    if !is_told && !is_there && !context.is_loading() {
        let why = format_args!("{} is not there yet: give lunette_split_blocks", params.base_bdev);
        return Err(Fault::errno(Errno::NODEV, why));
    }
    let blocks = (is_told || is_there).then(|| size.blocks(&info));
    if params.split_count == 0 || params.split_count as usize > BDEVS_MAX || blocks == Some(0) {
        return Err(invalid(format_args!(
            "split_count: from 1 to {BDEVS_MAX} parts, each of at least one block"
        )));
    }
    // Of what a file says LUNs may lead to each part: one that has no room any more is not ready.
    let may_wait = !is_there || (is_told && context.is_loading());
    let room = match blocks {
        Some(blocks) if !may_wait => info.blocks / blocks,
        _ => u64::from(params.split_count),
    };
    let count = u32::try_from(room).unwrap_or(u32::MAX).min(params.split_count);
    if count == 0 {
        return Err(invalid(format_args!(
            "split_size_mb: {} has {} blocks, fewer than one part",
            params.base_bdev, info.blocks
        )));
    }
    if count < params.split_count {
        tracing::warn!(
            bdev = params.base_bdev,
            asked = params.split_count,
            made = count,
            "there is no room for more parts"
        );
    }
    let layout = match blocks {
        Some(blocks) => Layout::new(count, blocks)
            .ok_or_else(|| invalid("split_size_mb: so many blocks have no addresses"))?,
        None => {
            let keeps = Awaiting { context: context.me(), base: params.base_bdev.clone() };
            Layout::awaited(count, size, Box::new(keeps))
        }
    };
    let layout = Arc::new(layout);
    let mut saved = object! {
        "base_bdev": &params.base_bdev,
        "split_count": count,
        "split_size_mb": params.split_size_mb,
    };
    if let Some(blocks) = blocks {
        saved.push(SPLIT_BLOCKS, blocks);
    }
    let recipe = recipe(SPLIT, saved);
    let mut names = Vec::new();
    for index in 0..count {
        let name = format!("{}p{index}", params.base_bdev);
        let split = Split::new(name, Arc::clone(&base), index, Arc::clone(&layout));
        let (bases, recipe) = (vec![params.base_bdev.clone()], recipe.clone());
        match context.register(Made { bdev: Arc::new(split), device: None, recipe, bases }) {
            Ok(name) => names.push(name),
            Err(fault) => {
                for name in names {
                    context.unregister(&name, SPLIT)?;
                }
                return Err(fault);
            }
        }
    }
    if !is_told {
        context.settled();
    }
    Ok(names.into())
}

/// The parameter that says where parts are for ever.
const SPLIT_BLOCKS: &str = "lunette_split_blocks";

/// Keeps where the parts of a bdev are that was not there, when it has come.
#[derive(Debug)]
struct Awaiting {
    context: Weak<Context>,
    /// What they are of.
    base: String,
}

impl Keeps for Awaiting {
    fn keep(&self, blocks: u64) -> Result<(), String> {
        let context = self.context.upgrade().ok_or_else(|| "the daemon stops".to_owned())?;
        if context.is_loading() {
            return Err("the configuration is still being loaded".to_owned());
        }
        let base = self.base.clone();
        let set = context.control(move |control, _| {
            let of_parts = control.bdevs().filter_map(|entry| {
                let recipe = Recipe::parse(&entry.spec.recipe);
                is_part(&recipe, &base).then(|| (entry.name.clone(), recipe))
            });
            let of_parts: Vec<(String, Recipe)> = of_parts.collect();
            of_parts.into_iter().try_for_each(|(name, recipe)| {
                control.set_recipe(&name, recipe.with_new(SPLIT_BLOCKS, blocks.into()).to_string())
            })
        });
        set.map_err(|fault| fault.text())?.map_err(|error| error.to_string())?;
        context.keep_settled().map_err(|fault| fault.text())
    }
}

fn is_part(recipe: &Recipe, base: &str) -> bool {
    recipe.method() == SPLIT && recipe.param("base_bdev").and_then(Json::text) == Some(base)
}

/// The names of a bdev's parts.
fn parts(context: &Context, base: &str) -> Result<Vec<String>, Fault> {
    let base = base.to_owned();
    context.control(move |control, _| {
        let parts = control.bdevs().filter(|entry| is_part(&Recipe::parse(&entry.spec.recipe), &base));
        parts.map(|entry| entry.name.clone()).collect()
    })
}

params! {
    /// Of `bdev_split_delete`.
    pub(super) struct SplitDelete {
        /// What the parts are of.
        base_bdev: String,
    }
}

fn delete(context: &Context, params: SplitDelete) -> Outcome {
    let parts = parts(context, &params.base_bdev)?;
    if parts.is_empty() {
        return Err(Fault::errno(Errno::NOENT, format_args!("{} is not split", params.base_bdev)));
    }
    for part in parts {
        context.unregister(&part, SPLIT)?;
    }
    Ok(Json::Bool(true))
}
