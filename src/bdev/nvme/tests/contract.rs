//! The contract of every block device, over several kinds of controllers.

use std::sync::Arc;

use super::driven::Driven;
use crate::bdev::Bdev;
use crate::bdev::contract::{Made, Subject, suite};
use crate::bdev::nvme::mock::{Config, Medium};
use crate::bdev::nvme::spec::identify::oncs;

const BYTES: u64 = 64 * 1024 * 1024;

fn holds(name: &str, block_bytes: usize, config: Config) {
    holds_with(name, block_bytes, config, 0);
}

fn holds_with(name: &str, block_bytes: usize, config: Config, protection: u8) {
    let make = || {
        let mut medium = Medium::new(BYTES / block_bytes as u64, block_bytes);
        medium.protection = protection;
        let bdev = Arc::new(Driven::new(config.clone(), medium, 7));
        let its = Arc::clone(&bdev);
        let resize = move |blocks| {
            its.mock.resize(1, blocks);
            its.driver().wait(|| its.info().blocks == blocks);
        };
        Made { bdev, resize: Some(Box::new(resize)) }
    };
    suite(&Subject { name, make: &make, keeps_data: true, frees_on_drop: false });
}

#[test]
fn blocks_of_512_bytes() {
    holds("NVMe, 512", 512, Config::default());
}

#[test]
fn blocks_of_4096_bytes() {
    holds("NVMe, 4096", 4096, Config { entries_max: 1024, doorbell_stride: 2, ..Config::default() });
}

#[test]
fn several_commands_make_an_io() {
    holds(
        "NVMe, MDTS of one page",
        512,
        Config { mdts: 1, uncorrectable_max: 1, entries_max: 16, ..Config::default() },
    );
}

#[test]
fn controllers_that_know_neither_write_zeroes_nor_deallocate() {
    holds("NVMe, bare", 4096, Config { oncs: oncs::COMPARE, ..Config::default() });
}

#[test]
fn doorbells_in_memory_and_no_iommu() {
    let config = Config { has_shadow_doorbells: true, is_scattered: true, ..Config::default() };
    holds("NVMe, shadow doorbells", 512, config);
}

#[test]
fn no_write_cache_and_short_queues() {
    let config = Config { has_write_cache: false, entries_max: 12, ..Config::default() };
    holds("NVMe, short queues", 4096, config);
}

#[test]
fn protection_information_is_the_controllers_own_business() {
    holds_with("NVMe, type 1", 512, Config::default(), 1);
}
