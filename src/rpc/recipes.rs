//! How a bdev is made again: the call that does it, kept as text with the bdev, whether a call or the command line made it.

use std::path::Path;

use super::json::{Json, object};
use crate::bdev::Info;
use crate::bdev::file::{self, Cache};
use crate::bdev::protection::{Protection, TUPLE_BYTES};
use crate::bdev::sg::{self, SgDisk};
use crate::control::registry::uuid_text;
use crate::scsi::view::DeviceKind;

/// What SPDK calls the kinds, by the calls that make them.
const PRODUCTS: &[(&str, &str)] = &[
    ("bdev_malloc_create", "Malloc disk"),
    ("bdev_null_create", "Null disk"),
    ("bdev_aio_create", "AIO disk"),
    ("bdev_uring_create", "URING bdev"),
    (NVME, "NVMe disk"),
    ("bdev_delay_create", "delay"),
    ("bdev_error_create", "Error Injection Disk"),
    ("bdev_passthru_create", "passthru"),
    (SPLIT, "Split Disk"),
    (RAID, "Raid Volume"),
    (CDROM, "CD-ROM"),
    (SG, "SCSI device"),
];

/// The call that makes disks of a controller's namespaces.
pub(super) const NVME: &str = "bdev_nvme_attach_controller";
/// The call that makes a CD-ROM drive.
pub(super) const CDROM: &str = "lunette_cdrom_create";
/// The call that passes a SCSI device through.
pub(super) const SG: &str = "lunette_sg_create";
/// The call that makes an array.
pub(super) const RAID: &str = "bdev_raid_create";
/// The call that makes bdevs of the parts of another one.
pub(super) const SPLIT: &str = "bdev_split_create";
/// The parameter that makes a disk's medium come out.
const REMOVABLE: &str = "lunette_removable";

/// A recipe, read.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Recipe(Json);

impl Recipe {
    /// Of its text; of any other text it is one of nothing.
    pub(super) fn parse(text: &str) -> Recipe {
        Recipe(Json::parse(text).unwrap_or(Json::Null))
    }

    /// The call.
    pub(super) fn method(&self) -> &str {
        self.0.member("method").and_then(Json::text).unwrap_or_default()
    }

    /// One of its parameters.
    pub(super) fn param(&self, name: &str) -> Option<&Json> {
        self.0.member("params")?.member(name)
    }

    /// The recipe with one parameter changed.
    pub(super) fn with(mut self, name: &str, value: Json) -> Recipe {
        if let Some(old) = self.0.member_mut("params").and_then(|params| params.member_mut(name)) {
            *old = value;
        }
        self
    }

    /// The recipe with one parameter more, or changed.
    pub(super) fn with_new(mut self, name: &str, value: Json) -> Recipe {
        if self.param(name).is_some() {
            return self.with(name, value);
        }
        if let Some(params) = self.0.member_mut("params") {
            params.push(name, value);
        }
        self
    }

    /// What SPDK calls its kind.
    pub(super) fn product(&self) -> Option<&'static str> {
        PRODUCTS.iter().find(|(method, _)| *method == self.method()).map(|(_, product)| *product)
    }

    /// What kind of device initiators see in it.
    pub(super) fn kind(&self) -> DeviceKind {
        match self.param(REMOVABLE) {
            _ if self.method() == CDROM => DeviceKind::CdRom,
            Some(Json::Bool(true)) => DeviceKind::RemovableDisk,
            _ => DeviceKind::Disk,
        }
    }

    /// The recipe of the same with a medium that comes out, or not.
    pub(super) fn removable(mut self, is_removable: bool) -> Recipe {
        if is_removable && let Some(params) = self.0.member_mut("params") {
            params.push(REMOVABLE, true);
        }
        self
    }

    /// The call, for a file; none where it makes nothing.
    pub(super) fn into_call(self) -> Option<Json> {
        (!self.method().is_empty()).then_some(self.0)
    }
}

impl std::fmt::Display for Recipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A call as a recipe.
pub(super) fn recipe(method: &str, params: Json) -> String {
    object! { "method": method, "params": params }.to_string()
}

/// The recipe of the same disk with a medium that comes out, or not.
pub fn with_removable(recipe: String, is_removable: bool) -> String {
    if is_removable { Recipe::parse(&recipe).removable(true).to_string() } else { recipe }
}

/// What SPDK's clients are told of metadata and makes no difference here.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Metadata {
    /// They follow each block.
    pub is_interleaved: bool,
    /// Protection information is at their head.
    pub is_head: bool,
}

/// Of a RAM disk, which can be made as large as `blocks_max`.
pub fn malloc(info: &Info, blocks_max: u64) -> String {
    malloc_with(info, blocks_max, Metadata::default())
}

/// The same with these metadata, where it has any.
pub fn malloc_with(info: &Info, blocks_max: u64, metadata: Metadata) -> String {
    let mut params = object! {
        "name": &info.name,
        "num_blocks": info.blocks,
        "block_size": info.block_bytes,
        "lunette_num_blocks_max": blocks_max,
        "uuid": uuid_text(&info.uuid),
    };
    if info.physical_block_bytes != info.block_bytes {
        params.push("physical_block_size", info.physical_block_bytes);
    }
    if let Some(protection) = info.protection {
        params.push("md_size", TUPLE_BYTES);
        params.push("md_interleave", metadata.is_interleaved);
        params.push("dif_type", dif_type(protection));
        params.push("dif_is_head_of_md", metadata.is_head);
    }
    recipe("bdev_malloc_create", params)
}

/// Of a CD-ROM drive with this disc in it, or none.
pub fn cdrom(info: &Info, disc: Option<&Path>) -> String {
    let mut params = object! { "name": &info.name };
    if let Some(disc) = disc {
        params.push("filename", disc.to_string_lossy().into_owned());
    }
    if info.uuid != [0; 16] {
        params.push("uuid", uuid_text(&info.uuid));
    }
    recipe(CDROM, params)
}

/// Of a SCSI device that is passed through.
pub fn sg(made_of: &sg::Recipe, device: &SgDisk) -> String {
    let mut params = object! {
        "name": &made_of.name,
        "filename": made_of.path.to_string_lossy().into_owned(),
        "readonly": made_of.read_only,
        "timeout_s": made_of.timeout_ms / 1000,
    };
    if let Some(uuid) = device.about().map(|about| about.uuid).or(made_of.uuid) {
        params.push("uuid", uuid_text(&uuid));
    }
    recipe(SG, params)
}

/// Of a null disk.
pub fn null(info: &Info) -> String {
    let params = object! {
        "name": &info.name,
        "num_blocks": info.blocks,
        "block_size": info.block_bytes,
        "uuid": uuid_text(&info.uuid),
    };
    recipe("bdev_null_create", params)
}

/// The number of a type of protection information.
fn dif_type(protection: Protection) -> u32 {
    match protection {
        Protection::Type1 => 1,
        Protection::Type2 => 2,
        Protection::Type3 => 3,
    }
}

/// SPDK's two names for a disk that is a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// The usual one.
    Aio,
    /// The other one.
    Uring,
}

impl FileKind {
    /// The call that makes one.
    pub(super) fn method(self) -> &'static str {
        match self {
            FileKind::Aio => "bdev_aio_create",
            FileKind::Uring => "bdev_uring_create",
        }
    }
}

/// Of a file or block device. The size it was made with is left out: from now on it has its own. What is not known of it
/// until it is open is as it was given.
pub fn file(info: &Info, made_of: &file::Recipe, kind: FileKind) -> String {
    let mut params = object! {
        "name": &info.name,
        "filename": made_of.path.to_string_lossy().into_owned(),
    };
    let is_open = info.blocks > 0;
    if let Some(block_bytes) = made_of.block_bytes.or(is_open.then_some(info.block_bytes)) {
        params.push("block_size", block_bytes);
    }
    if kind == FileKind::Aio {
        params.push("readonly", made_of.read_only);
    }
    if let Some(uuid) = made_of.uuid.or(is_open.then_some(info.uuid)) {
        params.push("uuid", uuid_text(&uuid));
    }
    if made_of.cache == Cache::WriteThrough {
        params.push("lunette_write_through", true);
    }
    recipe(kind.method(), params)
}
