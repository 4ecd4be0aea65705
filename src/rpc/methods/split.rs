//! A bdev in parts of the same size: `bdev_split_create`, `bdev_split_delete`.

use std::sync::Arc;

use rustix::io::Errno;

use super::{Method, Outcome, method};
use crate::bdev::split::Split;
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
        /// Blocks of a part, for a bdev whose size is not known yet; saved with every split, so that parts are the same after
        /// the bdev has grown.
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
    let blocks = match (params.lunette_split_blocks, params.split_size_mb) {
        (0, 0) if info.blocks > 0 && params.split_count > 0 => info.blocks / u64::from(params.split_count),
        (0, _) if info.blocks == 0 => {
            let why = format_args!("{} is not there yet: give lunette_split_blocks", params.base_bdev);
            return Err(Fault::errno(Errno::NODEV, why));
        }
        (0, mebibytes) => mebibytes.saturating_mul(1 << 20) / u64::from(info.block_bytes.max(1)),
        (blocks, _) => blocks,
    };
    if params.split_count == 0 || params.split_count as usize > BDEVS_MAX || blocks == 0 {
        return Err(invalid(format_args!(
            "split_count: from 1 to {BDEVS_MAX} parts, each of at least one block"
        )));
    }
    let room = if info.blocks == 0 { u64::from(params.split_count) } else { info.blocks / blocks };
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
    let recipe = recipe(
        SPLIT,
        object! {
            "base_bdev": &params.base_bdev,
            "split_count": count,
            "split_size_mb": params.split_size_mb,
            "lunette_split_blocks": blocks,
        },
    );
    let mut names = Vec::new();
    for index in 0..count {
        let name = format!("{}p{index}", params.base_bdev);
        let made = Split::new(name, Arc::clone(&base), index, blocks)
            .ok_or_else(|| invalid("split_size_mb: so many blocks have no addresses"))
            .and_then(|split| {
                let (bases, recipe) = (vec![params.base_bdev.clone()], recipe.clone());
                context.register(Made { bdev: Arc::new(split), device: None, recipe, bases })
            });
        match made {
            Ok(name) => names.push(name),
            Err(fault) => {
                for name in names {
                    context.unregister(&name, SPLIT)?;
                }
                return Err(fault);
            }
        }
    }
    if params.lunette_split_blocks == 0 {
        context.settled();
    }
    Ok(names.into())
}

/// The names of a bdev's parts.
fn parts(context: &Context, base: &str) -> Result<Vec<String>, Fault> {
    let base = base.to_owned();
    context.control(move |control, _| {
        let is_part = |recipe: &str| {
            let recipe = Recipe::parse(recipe);
            recipe.method() == SPLIT && recipe.param("base_bdev").and_then(Json::text) == Some(&base)
        };
        let parts = control.bdevs().filter(|entry| is_part(&entry.spec.recipe));
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
