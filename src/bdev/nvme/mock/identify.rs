//! Pages that Identify (Base §5.17, NVM §4.1.5) and Get Log Page (Base §5.16) give.

use std::collections::{BTreeMap, BTreeSet};

use super::admin::LISTENERS_MAX;
use super::device::Mishap;
use super::{Config, Medium};
use crate::bdev::nvme::spec::identify::{oacs, oncs};

type Page = [u8; 4096];

/// Entries of the error log.
const MISHAPS_MAX: u8 = 16;

fn put(page: &mut [u8], at: usize, bytes: &[u8]) {
    page[at..at + bytes.len()].copy_from_slice(bytes);
}

pub(super) fn controller(config: &Config, media: &BTreeMap<u32, Medium>) -> Page {
    let mut page = [0; 4096];
    put(&mut page, 0, &0x1B36u16.to_le_bytes());
    put(&mut page, 4, b"MOCK0001            ");
    put(&mut page, 24, b"lunette mock controller                 ");
    put(&mut page, 64, b"1.0     ");
    page[77] = config.mdts;
    put(&mut page, 78, &1u16.to_le_bytes());
    put(&mut page, 80, &0x0001_0400u32.to_le_bytes());
    // OAES: namespace attribute notices.
    put(&mut page, 92, &(1u32 << 8).to_le_bytes());
    let shadow = if config.has_shadow_doorbells { oacs::DOORBELL_BUFFER } else { 0 };
    let format = if config.format.is_some() { oacs::FORMAT_NVM } else { 0 };
    put(&mut page, 256, &(shadow | format).to_le_bytes());
    page[524] = config.format.unwrap_or(0);
    // ACL, AERL, FRMW, LPA (offsets), ELPE: 0's based where they count.
    page[258] = 3;
    page[259] = (LISTENERS_MAX - 1) as u8;
    page[261] = 1 << 2;
    page[262] = MISHAPS_MAX - 1;
    put(&mut page, 320, &10u16.to_le_bytes());
    (page[512], page[513]) = (0x66, 0x44);
    put(&mut page, 516, &config.namespaces_max.to_le_bytes());
    put(&mut page, 520, &config.oncs.to_le_bytes());
    put(&mut page, 522, &u16::from(config.can_fuse).to_le_bytes());
    page[525] = u8::from(config.has_write_cache);
    // AWUN, AWUPF, ACWU.
    put(&mut page, 526, &7u16.to_le_bytes());
    put(&mut page, 528, &config.power_fail_atomics.to_le_bytes());
    put(&mut page, 532, &7u16.to_le_bytes());
    // OCFS: descriptor format 0.
    page[534] = u8::from(config.oncs & oncs::COPY != 0);
    put(&mut page, 768, b"nqn.2014-08.org.nvmexpress:uuid:00000000-0000-0000-0000-00006d6f636b");
    debug_assert!(media.keys().all(|nsid| (1..=config.namespaces_max).contains(nsid)));
    page
}

pub(super) fn nvm_controller(config: &Config) -> Page {
    let mut page = [0; 4096];
    page[..3].copy_from_slice(&[config.verify_max, config.zeroes_max, config.uncorrectable_max]);
    put(&mut page, 4, &config.unmap_blocks_max.to_le_bytes());
    page
}

pub(super) fn active(media: &BTreeMap<u32, Medium>, above: u32) -> Page {
    let mut page = [0; 4096];
    for (slot, nsid) in page.as_chunks_mut().0.iter_mut().zip(media.keys().filter(|nsid| **nsid > above)) {
        *slot = nsid.to_le_bytes();
    }
    page
}

pub(super) fn namespace(config: &Config, medium: &Medium) -> Page {
    let mut page = [0; 4096];
    for at in [0, 8, 16] {
        put(&mut page, at, &medium.blocks.to_le_bytes());
    }
    // NSFEAT: thin, with preferred granularities. DLFEAT: deallocated blocks read as zeroes.
    page[24] = 1 | 1 << 4;
    page[33] = 1;
    put(&mut page, 68, &7u16.to_le_bytes());
    put(&mut page, 44, &config.power_fail_boundary.to_le_bytes());
    let (range_max, copy_max, ranges) = config.copy_max;
    put(&mut page, 74, &range_max.to_le_bytes());
    put(&mut page, 76, &copy_max.to_le_bytes());
    page[80] = ranges;
    page[99] = u8::from(medium.is_read_only);
    let metadata_bytes = if medium.protection != 0 { 8 } else { 0 };
    let shift = medium.block_bytes.trailing_zeros() as u8;
    put(&mut page, 128, &[metadata_bytes, 0, shift, 0]);
    page[29] = medium.protection;
    page
}

pub(super) fn ids(nsid: u32) -> Page {
    let mut page = [0; 4096];
    put(&mut page, 0, &[3, 16, 0, 0]);
    put(&mut page, 4, &uuid(nsid));
    page
}

/// The UUID of a namespace.
pub(super) fn uuid(nsid: u32) -> [u8; 16] {
    let mut uuid = *b"\x6d\x6f\x63\x6b\0\0\x40\0\x80\0\0\0\0\0\0\0";
    uuid[12..].copy_from_slice(&nsid.to_be_bytes());
    uuid
}

/// Newest first (Base §5.16.1.2).
pub(super) fn error_log(mishaps: &[Mishap], count: u64) -> Vec<u8> {
    let mut page = vec![0; 64 * usize::from(MISHAPS_MAX)];
    for ((entry, mishap), number) in page.chunks_exact_mut(64).zip(mishaps).zip((0..=count).rev()) {
        put(entry, 0, &number.to_le_bytes());
        put(entry, 8, &mishap.sq.to_le_bytes());
        put(entry, 10, &mishap.cid.to_le_bytes());
        put(entry, 12, &(mishap.status << 1).to_le_bytes());
        put(entry, 14, &0xFFFFu16.to_le_bytes());
        put(entry, 16, &mishap.lba.to_le_bytes());
        put(entry, 24, &mishap.nsid.to_le_bytes());
    }
    page
}

/// SMART (Base §5.16.1.3): 300 K, all spare, nothing worn.
pub(super) fn health(power_cycles: u64) -> Vec<u8> {
    let mut page = vec![0; 512];
    put(&mut page, 112, &power_cycles.to_le_bytes());
    put(&mut page, 1, &300u16.to_le_bytes());
    (page[3], page[4]) = (100, 10);
    page
}

/// Changed namespaces (Base §5.16.1.5).
pub(super) fn changed(nsids: &BTreeSet<u32>) -> Vec<u8> {
    let mut page = vec![0; 4096];
    for (slot, nsid) in page.as_chunks_mut().0.iter_mut().zip(nsids) {
        *slot = nsid.to_le_bytes();
    }
    page
}
