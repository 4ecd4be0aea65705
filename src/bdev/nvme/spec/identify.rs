//! What a controller and its namespaces say of themselves (Base §5.17, NVM §4.1.5).

/// Length of every Identify answer.
pub(crate) const IDENTIFY_BYTES: usize = 4096;
/// Formats that a namespace may name.
const FORMATS: usize = 16;

/// CNS: what Identify is to tell.
pub(crate) mod cns {
    pub(crate) const NAMESPACE: u32 = 0x00;
    pub(crate) const CONTROLLER: u32 = 0x01;
    pub(crate) const ACTIVE_NAMESPACES: u32 = 0x02;
    pub(crate) const NAMESPACE_IDS: u32 = 0x03;
    /// Command-set specific; CDW11 bits 31:24 name the set, 0 for NVM.
    pub(crate) const NVM_CONTROLLER: u32 = 0x06;
}

/// What a controller says of itself.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Controller {
    /// PCI vendor.
    pub(crate) vendor: u16,
    /// Serial number, without trailing spaces.
    pub(crate) serial: String,
    /// Model, without trailing spaces.
    pub(crate) model: String,
    /// Firmware revision, without trailing spaces.
    pub(crate) firmware: String,
    /// Its number in the subsystem.
    pub(crate) id: u16,
    /// MDTS: a command moves at most 2^this pages of the smallest size; 0: no limit.
    pub(crate) mdts: u8,
    /// Abort commands it takes at once.
    pub(crate) aborts: u16,
    /// Async events it takes at once.
    pub(crate) async_events: u16,
    /// OACS: optional admin commands.
    pub(crate) oacs: u16,
    /// OAES: optional async events.
    pub(crate) oaes: u32,
    /// LPA bit 2: logs can be read from any offset.
    pub(crate) has_log_offsets: bool,
    /// Entries of its error log.
    pub(crate) error_entries: u16,
    /// Keep-alive granularity in units of 100 ms; 0: it does not know keep-alive.
    pub(crate) keep_alive: u16,
    /// SQES and CQES: log2 of the required (low nibble) and largest (high) entry sizes.
    pub(crate) entry_sizes: (u8, u8),
    /// Commands outstanding, at most; 0: not told (fabrics).
    pub(crate) commands_max: u16,
    /// Largest namespace number.
    pub(crate) namespaces: u32,
    /// ONCS: optional NVM commands.
    pub(crate) oncs: u16,
    /// FUSES: bit 0 says compare and write.
    pub(crate) fuses: u16,
    /// FNA: what FORMAT NVM does.
    pub(crate) format: u8,
    /// It has a volatile write cache.
    pub(crate) has_write_cache: bool,
    /// AWUN and AWUPF, in blocks: atomic normally, and at a power failure.
    pub(crate) atomic_blocks: (u32, u32),
    /// ACWU: compare and write is atomic up to so many blocks.
    pub(crate) compare_write_blocks: u32,
    /// SGLS.
    pub(crate) sgls: u32,
    /// Subsystem's NQN.
    pub(crate) subnqn: String,
    /// IOCCSZ, in units of 16 bytes: capsule size of an IO queue (fabrics).
    pub(crate) capsule_units: u32,
    /// ICDOFF, in units of 16 bytes.
    pub(crate) in_capsule_offset: u16,
}

/// ONCS bits (Base figure 275).
pub(crate) mod oncs {
    pub(crate) const COMPARE: u16 = 1 << 0;
    pub(crate) const WRITE_UNCORRECTABLE: u16 = 1 << 1;
    pub(crate) const DATASET_MANAGEMENT: u16 = 1 << 2;
    pub(crate) const WRITE_ZEROES: u16 = 1 << 3;
    pub(crate) const VERIFY: u16 = 1 << 7;
    pub(crate) const COPY: u16 = 1 << 8;
}

/// OACS bits.
pub(crate) mod oacs {
    pub(crate) const FORMAT_NVM: u16 = 1 << 1;
    pub(crate) const DOORBELL_BUFFER: u16 = 1 << 8;
}

/// FNA bits (Base figure 275).
pub(crate) mod fna {
    /// A format is one of all namespaces.
    pub(crate) const FORMATS_ALL: u8 = 1 << 0;
    /// A secure erase is one of all namespaces.
    pub(crate) const ERASES_ALL: u8 = 1 << 1;
    /// It knows cryptographic erase.
    pub(crate) const ERASES_KEY: u8 = 1 << 2;
}

/// Protection information of a namespace's format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Protection {
    /// None.
    None,
    /// Type 1, 2 or 3.
    Type(u8),
}

/// What a namespace says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Namespace {
    /// Size, in blocks.
    pub(crate) blocks: u64,
    /// Bytes of a block's data.
    pub(crate) block_bytes: u32,
    /// FLBAS: which of its formats it has, and [`Namespace::is_extended`].
    pub(crate) format: u8,
    /// DPS, bit 3: protection information comes first in the metadata.
    pub(crate) is_protection_first: bool,
    /// Bytes of metadata that come with each block.
    pub(crate) metadata_bytes: u16,
    /// Metadata follow each block's data instead of lying apart.
    pub(crate) is_extended: bool,
    /// Protection information.
    pub(crate) protection: Protection,
    /// It may be thin: NSFEAT bit 0.
    pub(crate) is_thin: bool,
    /// Deallocated blocks read as zeroes (DLFEAT 001b).
    pub(crate) reads_zeroes: bool,
    /// It is write protected now (NSATTR bit 0).
    pub(crate) is_read_only: bool,
    /// Preferred deallocate granularity, in blocks; 1 where not told.
    pub(crate) unmap_granularity_blocks: u32,
    /// Other controllers may use it too (NMIC).
    pub(crate) is_shared: bool,
    /// NAWUN, NAWUPF, NACWU where they are told, in blocks.
    pub(crate) atomic_blocks: Option<(u32, u32, u32)>,
    /// A write that crosses a certain boundary is not atomic at a power failure: NABSPF is not 0.
    pub(crate) has_atomic_boundary: bool,
    /// One COPY of one range covers so many blocks: the lesser of MSSRL and MCL; 0 where they are not told.
    pub(crate) copy_blocks_max: u32,
    /// EUI-64 and NGUID, all zeroes where there is none.
    pub(crate) eui64: [u8; 8],
    /// See `eui64`.
    pub(crate) nguid: [u8; 16],
}

/// Why a namespace cannot be served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unusable {
    /// It is not active.
    Inactive,
    /// Its block size is not 512 to 4096, or it has a format that it does not describe.
    BlockSize(u8),
    /// Its blocks come with metadata that are not 8 bytes of protection information.
    Metadata(u16),
}

type Page = [u8; IDENTIFY_BYTES];

fn u16_at(page: &Page, at: usize) -> u16 {
    u16::from_le_bytes([page[at], page[at + 1]])
}

fn u32_at(page: &Page, at: usize) -> u32 {
    u32::from(u16_at(page, at)) | u32::from(u16_at(page, at + 2)) << 16
}

fn u64_at(page: &Page, at: usize) -> u64 {
    u64::from(u32_at(page, at)) | u64::from(u32_at(page, at + 4)) << 32
}

/// ASCII that ends at the first NUL, without spaces around; what is not printable becomes `?`.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let printable = |b: &u8| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '?' };
    bytes[..end].iter().map(printable).collect::<String>().trim().to_owned()
}

impl Controller {
    /// Of the answer to CNS 01h.
    pub(crate) fn decode(page: &Page) -> Controller {
        Controller {
            vendor: u16_at(page, 0),
            serial: text(&page[4..24]),
            model: text(&page[24..64]),
            firmware: text(&page[64..72]),
            id: u16_at(page, 78),
            mdts: page[77],
            oaes: u32_at(page, 92),
            oacs: u16_at(page, 256),
            has_log_offsets: page[261] & 1 << 2 != 0,
            aborts: u16::from(page[258]) + 1,
            async_events: u16::from(page[259]) + 1,
            error_entries: u16::from(page[262]) + 1,
            keep_alive: u16_at(page, 320),
            entry_sizes: (page[512], page[513]),
            commands_max: u16_at(page, 514),
            namespaces: u32_at(page, 516),
            oncs: u16_at(page, 520),
            fuses: u16_at(page, 522),
            format: page[524],
            has_write_cache: page[525] & 1 != 0,
            atomic_blocks: (u32::from(u16_at(page, 526)) + 1, u32::from(u16_at(page, 528)) + 1),
            compare_write_blocks: u32::from(u16_at(page, 532)) + 1,
            sgls: u32_at(page, 536),
            subnqn: text(&page[768..1024]),
            capsule_units: u32_at(page, 1792),
            in_capsule_offset: u16_at(page, 1800),
        }
    }

    /// The most bytes that one command may move, given the smallest page.
    pub(crate) fn bytes_max(&self, page_bytes_min: u32) -> usize {
        pages_bytes(self.mdts, page_bytes_min)
    }
}

/// 2^`shift` of the smallest pages, in bytes; a shift of 0 says that there is no limit.
fn pages_bytes(shift: u8, page_bytes_min: u32) -> usize {
    if shift == 0 {
        return usize::MAX;
    }
    let pages = 1_usize.checked_shl(u32::from(shift)).unwrap_or(usize::MAX);
    usize::try_from(page_bytes_min).unwrap_or(4096).saturating_mul(pages)
}

/// What bounds commands of the NVM command set that MDTS says nothing of (NVM §4.1.5.2); where a controller does not tell,
/// nothing does. DMRL, the number of ranges, is at least the one that a command of ours has.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct NvmLimits {
    /// VSL: VERIFY covers at most 2^this pages of the smallest size; 0: no limit.
    pub(crate) verify: u8,
    /// WZSL: as `verify`, WRITE ZEROES.
    pub(crate) zeroes: u8,
    /// WUSL: as `verify`, WRITE UNCORRECTABLE.
    pub(crate) uncorrectable: u8,
    /// DMRSL and DMSL: DATASET MANAGEMENT covers at most so many blocks; none: no limit.
    pub(crate) unmap_blocks: Option<u64>,
}

impl NvmLimits {
    /// Of the answer to CNS 06h.
    pub(crate) fn decode(page: &Page) -> NvmLimits {
        let (range, all) = (u64::from(u32_at(page, 4)), u64_at(page, 8));
        let unmap_blocks = [range, all].into_iter().filter(|blocks| *blocks != 0).min();
        NvmLimits { verify: page[0], zeroes: page[1], uncorrectable: page[2], unmap_blocks }
    }

    /// The most bytes that one VERIFY covers.
    pub(crate) fn verify_bytes_max(&self, page_bytes_min: u32) -> usize {
        pages_bytes(self.verify, page_bytes_min)
    }

    /// The most bytes that one WRITE ZEROES covers.
    pub(crate) fn zeroes_bytes_max(&self, page_bytes_min: u32) -> usize {
        pages_bytes(self.zeroes, page_bytes_min)
    }

    /// The most bytes that one WRITE UNCORRECTABLE covers.
    pub(crate) fn uncorrectable_bytes_max(&self, page_bytes_min: u32) -> usize {
        pages_bytes(self.uncorrectable, page_bytes_min)
    }
}

impl Namespace {
    /// Of the answer to CNS 00h.
    pub(crate) fn decode(page: &Page) -> Result<Namespace, Unusable> {
        let blocks = u64_at(page, 0);
        if blocks == 0 {
            return Err(Unusable::Inactive);
        }
        // FLBAS: bits 3:0, and 6:5 above them.
        let format = usize::from(page[26] & 0xF | (page[26] >> 5 & 3) << 4);
        if format >= 4 * FORMATS {
            return Err(Unusable::BlockSize(0));
        }
        let lbaf = u32_at(page, 128 + 4 * format);
        let [metadata_low, metadata_high, shift, _] = lbaf.to_le_bytes();
        if !(9..=12).contains(&shift) {
            return Err(Unusable::BlockSize(shift));
        }
        let metadata_bytes = u16::from_le_bytes([metadata_low, metadata_high]);
        let protection = match page[29] & 7 {
            kind @ 1..=3 => Protection::Type(kind),
            _ => Protection::None,
        };
        if metadata_bytes != 0 && (metadata_bytes != 8 || protection == Protection::None) {
            return Err(Unusable::Metadata(metadata_bytes));
        }
        let features = page[24];
        let has_atomics = features & 1 << 1 != 0;
        let atomic = |at| u32::from(u16_at(page, at)) + 1;
        Ok(Namespace {
            blocks,
            block_bytes: 1 << shift,
            format: page[26],
            is_protection_first: page[29] & 1 << 3 != 0,
            metadata_bytes,
            is_extended: page[26] & 1 << 4 != 0,
            protection,
            is_thin: features & 1 != 0,
            reads_zeroes: page[33] & 7 == 1,
            is_read_only: page[99] & 1 != 0,
            unmap_granularity_blocks: if features & 1 << 4 != 0 { atomic(68) } else { 1 },
            is_shared: page[30] & 1 != 0,
            atomic_blocks: has_atomics.then(|| (atomic(34), atomic(36), atomic(38))),
            has_atomic_boundary: u16_at(page, 44) != 0,
            copy_blocks_max: u32::from(u16_at(page, 74)).min(u32_at(page, 76)),
            nguid: page[104..120].try_into().unwrap_or_default(),
            eui64: page[120..128].try_into().unwrap_or_default(),
        })
    }
}

/// The namespaces of an answer to CNS 02h, in ascending order.
pub(crate) fn active_namespaces(page: &Page) -> Vec<u32> {
    (0..IDENTIFY_BYTES / 4).map(|index| u32_at(page, 4 * index)).take_while(|id| *id != 0).collect()
}

/// The UUID of an answer to CNS 03h, where it has one (Base §5.17.2.3: type 3, 16 bytes).
pub(crate) fn uuid(page: &Page) -> Option<[u8; 16]> {
    let mut at = 0;
    while at + 4 <= IDENTIFY_BYTES && page[at] != 0 {
        let (kind, bytes) = (page[at], usize::from(page[at + 1]));
        if kind == 3 && bytes == 16 && at + 20 <= IDENTIFY_BYTES {
            return page[at + 4..at + 20].try_into().ok();
        }
        at += 4 + bytes;
    }
    None
}
