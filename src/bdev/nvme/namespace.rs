//! A namespace as a block device.

use std::sync::Arc;

use super::channel::NvmeChannel;
use super::controller::shared::{Disk, Shared};
use super::lane::{Lane, PrInfo, Shape, TimeOuts};
use super::port::Port;
use super::spec::identify::{Namespace, Protection, oncs};
use super::spec::{PRACT, PRCHK_GUARD, PRCHK_REFERENCE};
use crate::bdev::{Bdev, Channel, Info, Offloads, Unmap};
use crate::id::ReactorId;

/// The longest transfer that is asked of a controller which names no limit.
const BYTES_MAX: usize = 1024 * 1024;
/// The most blocks that one WRITE ZEROES covers (its count has 16 bits).
const ZEROES_BLOCKS_MAX: u32 = 1 << 16;

/// A namespace.
pub(crate) struct NvmeBdev {
    /// What the operator calls it.
    name: String,
    /// Which controller of the process's: lanes are found by it.
    controller: u64,
    shared: Arc<Shared>,
    disk: Arc<Disk>,
    times: TimeOuts,
    connect: Connect,
}

/// Makes a lane's port, which the controller's thread serves from then on. Reactors call it.
pub(crate) type Connect = Arc<dyn Fn(ReactorId) -> Arc<Port> + Send + Sync>;

impl NvmeBdev {
    /// Of a controller that works, or did: `controller` is its number in the process.
    pub(crate) fn new(
        name: String,
        controller: u64,
        shared: Arc<Shared>,
        disk: Arc<Disk>,
        times: TimeOuts,
        connect: Connect,
    ) -> NvmeBdev {
        NvmeBdev { name, controller, shared, disk, times, connect }
    }

    fn has(&self, command: u16) -> bool {
        self.shared.about().is_some_and(|about| about.identity.oncs & command != 0)
    }

    fn offloads(&self, namespace: &Namespace) -> Offloads {
        let Some(about) = self.shared.about() else { return Offloads::default() };
        let atomic = namespace.atomic_blocks.map_or(about.identity.compare_write_blocks, |(_, _, both)| both);
        let moved = u32::try_from(self.shape(namespace).bytes_max / namespace.block_bytes as usize);
        Offloads {
            compare_and_write_blocks: if about.identity.fuses & 1 != 0 && protection(namespace).is_none() {
                atomic.min(moved.unwrap_or(u32::MAX))
            } else {
                0
            },
            verify: self.has(oncs::VERIFY),
        }
    }

    fn shape(&self, namespace: &Namespace) -> Shape {
        let about = self.shared.about();
        let bytes_max = about
            .map_or(BYTES_MAX, |about| about.identity.bytes_max(about.limits.page_bytes_min).min(BYTES_MAX));
        Shape {
            nsid: self.disk.nsid,
            block_bytes: namespace.block_bytes,
            bytes_max: bytes_max.max(namespace.block_bytes as usize),
            zeroes_blocks_max: self.has(oncs::WRITE_ZEROES).then_some(ZEROES_BLOCKS_MAX),
            unmaps: self.has(oncs::DATASET_MANAGEMENT),
            protection: protection(namespace),
        }
    }
}

/// Where blocks have protection information the controller makes it, and checks and strips it.
fn protection(namespace: &Namespace) -> Option<PrInfo> {
    match namespace.protection {
        Protection::Type(kind) if namespace.metadata_bytes == 8 => {
            let reference = if kind == 3 { 0 } else { PRCHK_REFERENCE };
            Some(PrInfo { writes: PRACT, reads: PRACT | PRCHK_GUARD | reference })
        }
        _ => None,
    }
}

impl Bdev for NvmeBdev {
    fn info(&self) -> Info {
        let namespace = self.disk.namespace();
        let unmap = Unmap {
            granularity_blocks: namespace.unmap_granularity_blocks,
            reads_zeroes: namespace.reads_zeroes,
        };
        Info {
            name: self.name.clone(),
            blocks: namespace.blocks,
            block_bytes: namespace.block_bytes,
            physical_block_bytes: namespace.block_bytes,
            read_only: namespace.is_read_only,
            write_cache: self.shared.about().is_some_and(|about| about.identity.has_write_cache),
            rotational: false,
            uuid: self.disk.uuid,
            unmap: self.has(oncs::DATASET_MANAGEMENT).then_some(unmap),
            offloads: self.offloads(&namespace),
        }
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        let lane = Lane::of(self.controller, reactor, self.times, || (self.connect)(reactor));
        Box::new(NvmeChannel::new(lane, Arc::clone(&self.disk), self.shape(&self.disk.namespace())))
    }
}

impl std::fmt::Debug for NvmeBdev {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NvmeBdev").field("name", &self.name).field("disk", &self.disk).finish_non_exhaustive()
    }
}
