//! Disks of memory and of nothing: `bdev_malloc_*` and `bdev_null_*`.

use std::sync::Arc;

use rustix::io::Errno;

use super::{Method, Outcome, method};
use crate::bdev::Bdev as _;
use crate::bdev::malloc::{Malloc, MallocError, Recipe};
use crate::bdev::null::Null;
use crate::bdev::protection::Protection;
use crate::rpc::context::Context;
use crate::rpc::devices::{Device, Made, check_blocks, no_bdev};
use crate::rpc::fault::Fault;
use crate::rpc::json::Json;
use crate::rpc::params::params;
use crate::rpc::recipes;
use crate::rpc::types::{Ignored, Off, Uuid};

pub(super) const METHODS: &[Method] = &[
    method!(
        "bdev_malloc_create",
        Runtime,
        MallocCreate,
        malloc_create,
        "Makes a RAM disk and answers with its name. It is resident only as far as it was written."
    ),
    method!("bdev_malloc_delete", Runtime, Name, malloc_delete, "Deletes a RAM disk, its LUNs first."),
    method!(
        "bdev_null_create",
        Runtime,
        NullCreate,
        null_create,
        "Makes a disk that keeps nothing and answers with its name."
    ),
    method!("bdev_null_delete", Runtime, Name, null_delete, "Deletes a null disk, its LUNs first."),
    method!(
        "bdev_null_resize",
        Runtime,
        NullResize,
        null_resize,
        "Changes a null disk's size; initiators are told."
    ),
    method!(
        "lunette_bdev_resize",
        Runtime,
        Resize,
        resize,
        "Changes the size of a null disk, or of a RAM disk within what was set aside; initiators are told."
    ),
];

params! {
    /// Of `bdev_*_delete`.
    pub(super) struct Name {
        /// Its name.
        name: String,
    }
}

params! {
    /// Of `bdev_malloc_create`.
    pub(super) struct MallocCreate {
        /// Its name; Malloc0, Malloc1 and so on where none is given.
        name: Option<String>,
        /// How many blocks it has.
        num_blocks: u64,
        /// Bytes of a block: 512 or 4096.
        block_size: u32,
        /// How many blocks lunette_bdev_resize can make it; addresses are set aside for them, not memory.
        lunette_num_blocks_max: Option<u64>,
        /// What names the medium to initiators; a new random one where none is given, as the data are new.
        uuid: Option<Uuid>,
        /// SPDK's: IO is not to cross such boundaries.
        optimal_io_boundary: Ignored,
        /// Bytes of metadata of each block: 8 with protection information (dif_type), else 0.
        md_size: u32 = 0,
        /// Metadata follow each block; told to SPDK's clients only, initiators see the same either way.
        md_interleave: bool = false,
        /// Protection information: none (0), type 1, 2 (checked with CDBs of 32 bytes) or 3.
        dif_type: u32 = 0,
        /// Protection information is at the head of the metadata: they are as long, so this says nothing.
        dif_is_head_of_md: bool = false,
        /// The format of protection information: 0, with a guard of 16 bits.
        dif_pi_format: u32 = 0,
        /// Bytes of a physical block, as initiators are told; a block's unless given.
        physical_block_size: u32 = 0,
        /// SPDK's: which node the memory is of.
        numa_id: Ignored,
        /// Initiators can take the medium out and put it in again (RMB).
        lunette_removable: bool = false,
    }
}

fn malloc_create(context: &Context, params: MallocCreate) -> Outcome {
    let (blocks, block_bytes) = (params.num_blocks, params.block_size);
    let Uuid(uuid) = params.uuid.unwrap_or_else(Uuid::random);
    let name = match params.name {
        Some(name) => name,
        None => context.free_name("Malloc")?,
    };
    check_blocks(blocks, block_bytes)?;
    let blocks_max = params.lunette_num_blocks_max.unwrap_or(blocks);
    let physical_block_bytes = match params.physical_block_size {
        0 => block_bytes,
        bytes => bytes,
    };
    let hugepages = context.hugepages;
    let metadata =
        recipes::Metadata { is_interleaved: params.md_interleave, is_head: params.dif_is_head_of_md };
    let protection = protection(params.md_size, params.dif_type, params.dif_pi_format)?;
    let recipe =
        Recipe { name: name.clone(), blocks, blocks_max, block_bytes, physical_block_bytes, uuid, hugepages };
    let disk = Malloc::with_protection(recipe, protection).map_err(|error| malloc_fault(&error))?;
    let disk = Arc::new(disk);
    let made = Made {
        recipe: recipes::with_removable(
            recipes::malloc_with(&disk.info(), blocks_max, metadata),
            params.lunette_removable,
        ),
        bdev: Arc::clone(&disk) as _,
        device: Some(Device::Malloc(disk)),
        bases: Vec::new(),
    };
    context.register(made).map(Json::from)
}

/// What SPDK's parameters ask for, as far as SCSI can show it.
fn protection(md_size: u32, dif_type: u32, dif_pi_format: u32) -> Result<Option<Protection>, Fault> {
    let what = match (md_size, dif_type, dif_pi_format) {
        (0, 0, _) => return Ok(None),
        (8, 1, 0) => return Ok(Some(Protection::Type1)),
        (8, 2, 0) => return Ok(Some(Protection::Type2)),
        (8, 3, 0) => return Ok(Some(Protection::Type3)),
        (_, 0, _) => "md_size: without dif_type nobody could reach metadata",
        (_, 1..=3, 1..) => "dif_pi_format: a guard of 16 bits (0) is all that SCSI knows",
        (_, 1..=3, _) => "md_size: protection information has 8 bytes, and there is nothing beside it",
        _ => "dif_type: 0, 1, 2 or 3",
    };
    Err(Fault::errno(Errno::INVAL, what))
}

fn malloc_fault(error: &MallocError) -> Fault {
    let errno = match error {
        MallocError::Memory(_) => Errno::NOMEM,
        _ => Errno::INVAL,
    };
    Fault::errno(errno, error)
}

params! {
    /// Of `lunette_bdev_resize`.
    pub(super) struct Resize {
        /// Its name.
        name: String,
        /// How many blocks it is to have.
        num_blocks: u64,
    }
}

fn resize(context: &Context, params: Resize) -> Outcome {
    match context.device(&params.name)? {
        Device::Malloc(disk) => disk.resize(params.num_blocks).map_err(|error| malloc_fault(&error))?,
        Device::Null(disk) => {
            check_blocks(params.num_blocks, disk.info().block_bytes)?;
            disk.resize(params.num_blocks);
        }
        Device::Error(_) | Device::Delay(_) => {
            return Err(Fault::errno(Errno::OPNOTSUPP, "resize what it is made of"));
        }
        Device::File(_) => {
            return Err(Fault::errno(Errno::OPNOTSUPP, "resize the file, then call bdev_aio_rescan"));
        }
    }
    context.resized(&params.name, "num_blocks", Json::from(params.num_blocks))?;
    Ok(Json::Bool(true))
}

fn malloc_delete(context: &Context, params: Name) -> Outcome {
    context.unregister(&params.name, "bdev_malloc_create")?;
    Ok(Json::Bool(true))
}

params! {
    /// Of `bdev_null_create`.
    pub(super) struct NullCreate {
        /// Its name.
        name: String,
        /// How many blocks it has.
        num_blocks: u64,
        /// Bytes of a block: 512, 1024, 2048 or 4096.
        block_size: u32,
        /// What names the medium to initiators; random where none is given.
        uuid: Option<Uuid>,
        /// SPDK's: bytes of a physical block. It is the logical one here.
        physical_block_size: Ignored,
        /// SPDK's: metadata of each block.
        md_size: Off,
        /// SPDK's: protection information.
        dif_type: Off,
        /// SPDK's: the format of protection information.
        dif_pi_format: Off,
        /// SPDK's: where protection information is.
        dif_is_head_of_md: Off,
        /// SPDK's: a hint about writes.
        preferred_write_granularity: Ignored,
        /// SPDK's: a hint about writes.
        preferred_write_alignment: Ignored,
        /// SPDK's: a hint about writes.
        optimal_write_size: Ignored,
        /// SPDK's: a hint about unmapping.
        preferred_unmap_granularity: Ignored,
        /// SPDK's: a hint about unmapping.
        preferred_unmap_alignment: Ignored,
    }
}

fn null_create(context: &Context, params: NullCreate) -> Outcome {
    let (blocks, block_bytes) = (params.num_blocks, params.block_size);
    check_blocks(blocks, block_bytes)?;
    let Uuid(uuid) = params.uuid.unwrap_or_else(Uuid::random);
    let disk = Arc::new(Null::new(params.name, blocks, block_bytes, uuid));
    let made = Made {
        recipe: recipes::null(&disk.info()),
        bdev: Arc::clone(&disk) as _,
        device: Some(Device::Null(disk)),
        bases: Vec::new(),
    };
    context.register(made).map(Json::from)
}

fn null_delete(context: &Context, params: Name) -> Outcome {
    context.unregister(&params.name, "bdev_null_create")?;
    Ok(Json::Bool(true))
}

params! {
    /// Of `bdev_null_resize`.
    pub(super) struct NullResize {
        /// Its name.
        name: String,
        /// Its new size, in MiB.
        new_size: u64,
    }
}

fn null_resize(context: &Context, params: NullResize) -> Outcome {
    let Device::Null(disk) = context.device(&params.name)? else { return Err(no_bdev(&params.name)) };
    let info = disk.info();
    let blocks = params.new_size.saturating_mul(1024 * 1024) / u64::from(info.block_bytes);
    if blocks < info.blocks {
        // SPDK's rule; lunette_bdev_resize makes it smaller.
        return Err(Fault::errno(
            Errno::INVAL,
            format_args!("new_size: it has {} blocks already", info.blocks),
        ));
    }
    check_blocks(blocks, info.block_bytes)?;
    disk.resize(blocks);
    context.resized(&params.name, "num_blocks", Json::from(blocks))?;
    Ok(Json::Bool(true))
}
