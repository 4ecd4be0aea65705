//! A namespace as a block device: one that is there, or one whose controller is missing for the time being.

use std::error::Error;
use std::sync::Arc;

use super::channel::NvmeChannel;
use super::controller::erase::erases;
use super::controller::shared::{About, Answer, Disk, Query, Shared, Wanted};
use super::lane::{Lane, PrInfo, Shape, TimeOuts};
use super::port::Port;
use super::seat::{Seat, Vacancy};
use super::spec::identify::{Namespace, Protection, oncs};
use super::spec::{PRACT, PRCHK_GUARD, PRCHK_REFERENCE};
use crate::bdev::space::Temperature;
use crate::bdev::{Bdev, Channel, Erasure, Info, Offloads, Unmap};
use crate::id::ReactorId;

/// The longest transfer that is asked of a controller which names no limit.
const BYTES_MAX: usize = 1024 * 1024;
/// The most blocks that one WRITE ZEROES covers (its count has 16 bits).
const ZEROES_BLOCKS_MAX: u32 = 1 << 16;

/// A namespace, or the place of one.
#[derive(Debug)]
pub(crate) struct NvmeBdev(Arc<Seat>);

/// Makes a lane's port, which the controller's thread serves from then on. Reactors call it.
pub(crate) type Connect = Arc<dyn Fn(ReactorId) -> Arc<Port> + Send + Sync>;

/// Asks something of the controller and waits for what comes of it; for helper threads.
pub(crate) type Ask<Q, A> = Arc<dyn Fn(Q) -> Result<A, String> + Send + Sync>;

/// Where nobody asks the controller.
pub(crate) fn unasked<Q, A>() -> Ask<Q, A> {
    Arc::new(|_| Err("nobody asks this controller".to_owned()))
}

/// A namespace of a controller that works, or did.
#[derive(Clone)]
pub(crate) struct Tenant {
    /// Which controller of the process's: lanes are found by it.
    pub(crate) controller: u64,
    pub(crate) shared: Arc<Shared>,
    pub(crate) disk: Arc<Disk>,
    pub(crate) times: TimeOuts,
    pub(crate) connect: Connect,
    pub(crate) ask: Ask<Query, Answer>,
    pub(crate) erase: Ask<Wanted, ()>,
}

impl NvmeBdev {
    /// Of a namespace; `name` is what the operator calls it.
    pub(crate) fn new(name: String, tenant: Tenant) -> NvmeBdev {
        let vacancy = Vacancy::of(&tenant.disk);
        NvmeBdev(Arc::new(Seat::new(name, vacancy, Some(tenant))))
    }

    /// Of one that is not there.
    pub(crate) fn vacant(name: String, vacancy: Vacancy) -> NvmeBdev {
        NvmeBdev(Arc::new(Seat::new(name, vacancy, None)))
    }

    /// Where it is.
    pub(crate) fn seat(&self) -> &Arc<Seat> {
        &self.0
    }
}

impl Tenant {
    /// Opens it; none where the lane has no place left, or the namespace is gone.
    pub(super) fn open(&self, reactor: ReactorId) -> Option<super::channel::Way> {
        let lane = Lane::of(self.controller, reactor, self.times, || (self.connect)(reactor));
        super::channel::Way::new(lane, Arc::clone(&self.disk), self.shape())
    }

    fn shape(&self) -> Shape {
        let (namespace, controller) = (self.disk.namespace(), self.shared.about());
        Shape {
            nsid: self.disk.nsid,
            block_bytes: namespace.block_bytes,
            bytes_max: bytes_max(&namespace, controller.as_deref()),
            zeroes_blocks_max: zeroes_blocks_max(&namespace, controller.as_deref()),
            verify_blocks_max: verify_blocks_max(&namespace, controller.as_deref()),
            unmap_blocks_max: unmap_blocks_max(controller.as_deref()),
            offloads: offloads(&namespace, controller.as_deref()),
            uncorrectable_blocks_max: uncorrectable_blocks_max(&namespace, controller.as_deref()),
            copy_blocks_max: namespace.copy_blocks_max,
            protection: protection(&namespace),
        }
    }

    /// As `Bdev::erase`.
    pub(super) fn erase(&self, how: Erasure) -> Result<(), String> {
        let Disk { nsid, uuid, .. } = *self.disk;
        (self.erase)(Wanted { nsid, uuid, how })
    }

    /// What it is.
    pub(super) fn info(&self, name: String) -> Info {
        let (namespace, controller) = (self.disk.namespace(), self.shared.about());
        let controller = controller.as_deref();
        let unmap = Unmap {
            granularity_blocks: namespace.unmap_granularity_blocks,
            reads_zeroes: namespace.reads_zeroes,
            anchors: false,
        };
        Info {
            name,
            blocks: namespace.blocks,
            block_bytes: namespace.block_bytes,
            physical_block_bytes: namespace.block_bytes,
            read_only: namespace.is_read_only,
            write_cache: controller.is_some_and(|about| about.identity.has_write_cache),
            rotational: false,
            uuid: self.disk.uuid,
            unmap: knows(controller, oncs::DATASET_MANAGEMENT).then_some(unmap),
            offloads: offloads(&namespace, controller),
            protection: None,
            passes: None,
        }
    }
}

fn knows(controller: Option<&About>, command: u16) -> bool {
    controller.is_some_and(|about| about.identity.oncs & command != 0)
}

/// The most bytes that a command may move: at least a block.
fn bytes_max(namespace: &Namespace, controller: Option<&About>) -> usize {
    let told = controller.map(|about| about.identity.bytes_max(about.limits.page_bytes_min));
    told.unwrap_or(BYTES_MAX).min(BYTES_MAX).max(namespace.block_bytes as usize)
}

/// What the namespace does by itself. Its controller makes protection information of what is written and strips it of what is
/// read; what is compared or copied it does not.
fn offloads(namespace: &Namespace, controller: Option<&About>) -> Offloads {
    let is_plain = protection(namespace).is_none();
    let can_erase = |how| controller.is_some_and(|about| erases(&about.identity, namespace, how));
    Offloads {
        compare_and_write_blocks: compare_and_write_blocks(namespace, controller),
        verify: knows(controller, oncs::VERIFY),
        compare: is_plain && knows(controller, oncs::COMPARE),
        copy: is_plain && namespace.copy_blocks_max > 0 && knows(controller, oncs::COPY),
        write_uncorrectable: knows(controller, oncs::WRITE_UNCORRECTABLE),
        atomic_write_blocks: atomic_write_blocks(namespace, controller),
        // Flash keeps what was in a block before.
        erase: false,
        erase_blocks: can_erase(Erasure::Blocks),
        erase_key: can_erase(Erasure::Key),
    }
}

/// The most blocks that VERIFY covers: at least one.
fn verify_blocks_max(namespace: &Namespace, controller: Option<&About>) -> u32 {
    let bytes = controller.map(|about| about.nvm.verify_bytes_max(about.limits.page_bytes_min));
    blocks_of(bytes.unwrap_or(BYTES_MAX), namespace)
}

/// The most blocks that WRITE UNCORRECTABLE covers: at least one.
fn uncorrectable_blocks_max(namespace: &Namespace, controller: Option<&About>) -> u32 {
    let bytes = controller.map(|about| about.nvm.uncorrectable_bytes_max(about.limits.page_bytes_min));
    blocks_of(bytes.unwrap_or(BYTES_MAX), namespace)
}

/// The most blocks that WRITE ZEROES covers: at least one, none where the controller does not know it.
fn zeroes_blocks_max(namespace: &Namespace, controller: Option<&About>) -> Option<u32> {
    let about = controller.filter(|about| about.identity.oncs & oncs::WRITE_ZEROES != 0)?;
    let bytes = about.nvm.zeroes_bytes_max(about.limits.page_bytes_min);
    Some(blocks_of(bytes, namespace).min(ZEROES_BLOCKS_MAX))
}

/// The most blocks that one range of DATASET MANAGEMENT covers; none where the controller does not know it.
fn unmap_blocks_max(controller: Option<&About>) -> Option<u32> {
    let about = controller.filter(|about| about.identity.oncs & oncs::DATASET_MANAGEMENT != 0)?;
    Some(about.nvm.unmap_blocks.map_or(u32::MAX, |blocks| u32::try_from(blocks).unwrap_or(u32::MAX)))
}

/// Whole blocks, at least one.
fn blocks_of(bytes: usize, namespace: &Namespace) -> u32 {
    u32::try_from(bytes / namespace.block_bytes as usize).unwrap_or(u32::MAX).max(1)
}

/// The most blocks that compare and write covers as one; 0 where the controller does not fuse.
fn compare_and_write_blocks(namespace: &Namespace, controller: Option<&About>) -> u32 {
    let Some(about) = controller.filter(|about| about.identity.fuses & 1 != 0) else { return 0 };
    if protection(namespace).is_some() {
        return 0;
    }
    let atomic = namespace.atomic_blocks.map_or(about.identity.compare_write_blocks, |(_, _, both)| both);
    let moved = bytes_max(namespace, controller) / namespace.block_bytes as usize;
    atomic.min(u32::try_from(moved).unwrap_or(u32::MAX))
}

/// The most blocks that one write command stores as a whole or not at all, whatever becomes of the power (NAWUPF or AWUPF): as many
/// as one command moves, as an IO that is cut into several is not one. 0 where that is one block, which is nothing to offer, or where
/// it depends on where the write begins.
fn atomic_write_blocks(namespace: &Namespace, controller: Option<&About>) -> u32 {
    let Some(about) = controller.filter(|_| !namespace.has_atomic_boundary) else { return 0 };
    let at_power_failure =
        namespace.atomic_blocks.map_or(about.identity.atomic_blocks.1, |(_, blocks, _)| blocks);
    let blocks = at_power_failure.min(blocks_of(bytes_max(namespace, controller), namespace));
    if blocks > 1 { blocks } else { 0 }
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
        self.0.info()
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        Box::new(NvmeChannel::new(Arc::clone(&self.0), reactor))
    }

    fn probe(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        if !self.0.is_vacant() {
            return Ok(());
        }
        match self.0.refusal() {
            Some(refusal) => Err(refusal.into()),
            None => Err("its controller is missing, or has no such namespace".into()),
        }
    }

    fn erase(&self, how: Erasure) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(self.0.erase(how)?)
    }

    fn temperature(&self) -> Option<Arc<Temperature>> {
        Some(self.0.temperature())
    }

    /// What namespaces are named by is their own.
    fn own(&self) -> Option<[u8; 16]> {
        (!self.0.is_vacant()).then(|| self.0.vacancy().uuid).filter(|uuid| *uuid != [0; 16])
    }

    fn measure(&self) {
        self.0.measure();
    }
}
