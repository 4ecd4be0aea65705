//! What holds for bdevs of every kind.

use std::time::{Duration, Instant};

use super::{Method, Outcome, method, qos, raid};
use crate::bdev::Info;
use crate::control::Control;
use crate::control::registry::Entry;
use crate::net::kernel::KernelNet;
use crate::rpc::context::Context;
use crate::rpc::devices::no_bdev;
use crate::rpc::json::{Json, object};
use crate::rpc::params::{Nothing, params};
use crate::rpc::recipes::{RAID, Recipe, SPLIT};
use crate::rpc::types::Uuid;
use crate::scsi::view::Medium;

pub(super) const METHODS: &[Method] = &[
    method!("bdev_get_bdevs", Runtime, GetBdevs, get_bdevs, "Describes all bdevs, or one."),
    method!(
        "bdev_examine",
        Runtime,
        Examine,
        examine,
        "SPDK looks for bdevs on a bdev; lunette has no such kinds."
    ),
    method!(
        "bdev_wait_for_examine",
        Runtime,
        Nothing,
        wait_for_examine,
        "Answers when bdevs are complete; here each is when its call was answered."
    ),
];

params! {
    /// Of `bdev_get_bdevs`.
    pub(super) struct GetBdevs {
        /// Only this one: its name or UUID.
        name: Option<String>,
        /// With a name: how many milliseconds to wait for it to appear.
        timeout: u64 = 0,
    }
}

/// A bdev that is waited for is looked for so often.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Nobody waits longer: the client has given up.
const WAIT_MAX: Duration = Duration::from_secs(600);

fn get_bdevs(context: &Context, params: GetBdevs) -> Outcome {
    let Some(name) = params.name else {
        return context
            .control(|control, _| control.bdevs().map(|entry| describe(control, entry)).collect::<Json>());
    };
    let until = Instant::now() + Duration::from_millis(params.timeout).min(WAIT_MAX);
    loop {
        let wanted = name.clone();
        let found =
            context.control(move |control, _| control.bdev(&wanted).map(|entry| describe(control, entry)))?;
        if let Some(found) = found {
            return Ok(Json::Array(vec![found]));
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(no_bdev(&name));
        }
        std::thread::sleep(left.min(LOOK_EVERY));
    }
}

/// A bdev as SPDK shows one.
fn describe(control: &Control<KernelNet>, entry: &Entry) -> Json {
    let info: Info = entry.spec.bdev.info();
    let recipe = Recipe::parse(&entry.spec.recipe);
    let is_claimed = control.bdevs().any(|other| other.spec.bases.contains(&entry.name));
    let blocks_of_physical = u64::from(info.physical_block_bytes / info.block_bytes.max(1));
    let mut members = object! {
        "name": &entry.name,
        "aliases": Json::Array(vec![Json::from(Uuid(info.uuid).to_string())]),
        "product_name": recipe.product().unwrap_or(&entry.spec.product),
        "block_size": info.block_bytes,
        "num_blocks": info.blocks,
        "preferred_write_alignment": blocks_of_physical,
        "preferred_write_granularity": blocks_of_physical,
        "optimal_write_size": 0u64,
        "preferred_unmap_alignment": blocks_of_physical,
        "preferred_unmap_granularity": blocks_of_physical,
        "uuid": Uuid(info.uuid).to_string(),
        "assigned_rate_limits": qos::ceilings(&entry.limits()),
        "claimed": is_claimed,
    };
    if is_claimed {
        members.push("claim_type", "exclusive_write");
    }
    for name in ["md_size", "md_interleave", "dif_type", "dif_is_head_of_md"] {
        if let (Some(value), Some(_)) = (recipe.param(name), info.protection) {
            members.push(name, value.clone());
        }
    }
    members.push("zoned", false);
    members.push("supported_io_types", io_types(&info));
    let specific = match recipe.method() {
        RAID => object! { "raid": raid::describe(control, entry) },
        _ => driver_specific(&recipe, &entry.name),
    };
    members.push("driver_specific", specific);
    if let Some(qos) = qos::beyond(&entry.limits()) {
        members.push("lunette_qos", qos);
    }
    if let Some(missing) = entry.missing() {
        members.push("lunette_not_ready", missing);
    }
    if let Some((medium, preventers)) = control.tray(&entry.name) {
        let medium = match medium {
            Medium::Ejected => "out",
            Medium::Empty | Medium::NotReady | Medium::Removed => "none",
            Medium::Ready | Medium::Unsettled | Medium::Busy | Medium::Failed => "in",
        };
        members.push("lunette_removable", object! { "medium": medium, "prevented_by": preventers as u64 });
    }
    members
}

/// SPDK's list of what a bdev can do, in its order.
fn io_types(info: &Info) -> Json {
    object! {
        "read": true,
        "write": !info.read_only,
        "unmap": info.unmap.is_some() && !info.read_only,
        "flush": true,
        "reset": true,
        "nvme_admin": false,
        "nvme_io": false,
        "nvme_io_md": false,
        "write_zeroes": !info.read_only,
        "zcopy": false,
        "get_zone_info": false,
        "zone_management": false,
        "zone_append": false,
        "compare": !info.read_only,
        "compare_and_write": !info.read_only,
        "abort": true,
        "seek_hole": false,
        "seek_data": false,
        "copy": false,
        "nvme_iov_md": false,
        "nvme_nssr": false,
        "write_uncorrectable": false,
    }
}

/// What SPDK shows of a bdev of its kind: most of the parameters that it was made with.
fn driver_specific(recipe: &Recipe, name: &str) -> Json {
    let param = |name| recipe.param(name).cloned().unwrap_or(Json::Null);
    let shown = |names: &[&'static str]| {
        Json::Object(names.iter().map(|&name| (name.to_owned(), param(name))).collect())
    };
    const DELAY: &[&str] = &[
        "name",
        "base_bdev_name",
        "avg_read_latency",
        "p99_read_latency",
        "avg_write_latency",
        "p99_write_latency",
    ];
    let (kind, members) = match recipe.method() {
        "bdev_delay_create" => ("delay", shown(DELAY)),
        "bdev_passthru_create" => ("passthru", shown(&["name", "base_bdev_name"])),
        "bdev_error_create" => ("error_disk", object! { "base_bdev": param("base_name") }),
        SPLIT => {
            // Parts are numbered, and all have the same size.
            let index = name.rsplit('p').next().and_then(|number| number.parse::<u64>().ok());
            let blocks = match recipe.param("lunette_split_blocks") {
                Some(Json::Unsigned(blocks)) => *blocks,
                _ => 0,
            };
            let offset = index.unwrap_or_default().saturating_mul(blocks);
            ("split", object! { "base_bdev": param("base_bdev"), "offset_blocks": offset })
        }
        "bdev_aio_create" => ("aio", shown(&["filename", "readonly"])),
        "bdev_uring_create" => ("uring", shown(&["filename"])),
        _ => return Json::Object(Vec::new()),
    };
    Json::Object(vec![(kind.to_owned(), members)])
}

params! {
    /// Of `bdev_examine`.
    pub(super) struct Examine {
        /// Its name.
        name: String,
    }
}

fn examine(context: &Context, params: Examine) -> Outcome {
    let wanted = params.name.clone();
    match context.control(move |control, _| control.bdev(&wanted).is_some())? {
        true => Ok(Json::Bool(true)),
        false => Err(no_bdev(&params.name)),
    }
}

fn wait_for_examine(_: &Context, _: Nothing) -> Outcome {
    Ok(Json::Bool(true))
}
