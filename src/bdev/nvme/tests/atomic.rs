//! What a namespace promises to write as a whole, and that it is one command.

use super::driven::Driven;
use crate::bdev::nvme::mock::{Config, Medium, Note};
use crate::bdev::nvme::spec::nvm;
use crate::bdev::{Bdev, Io, Op, Refused};
use crate::buf::{Class, Pool};
use crate::id::ReactorId;
use crate::slab::Key;
use crate::time::{MS_NS, Tick};

fn driven(config: Config, block_bytes: usize) -> Driven {
    Driven::new(config, Medium::new(1024, block_bytes), 3)
}

fn promised(config: Config, block_bytes: usize) -> u32 {
    driven(config, block_bytes).info().offloads.atomic_write_blocks
}

#[test]
fn as_many_blocks_as_survive_a_power_failure_together_and_fit_a_command() {
    let atomics = |power_fail_atomics| Config { power_fail_atomics, ..Config::default() };
    assert_eq!(promised(atomics(0), 512), 0, "a single block is nothing to offer");
    assert_eq!(promised(atomics(1), 512), 2);
    assert_eq!(promised(atomics(15), 4096), 16);
    // MDTS: two pages of 4096 bytes.
    assert_eq!(promised(Config { mdts: 1, ..atomics(99) }, 512), 16);
    assert_eq!(promised(Config { mdts: 1, ..atomics(99) }, 4096), 2);
    assert_eq!(
        promised(Config { power_fail_boundary: 7, ..atomics(15) }, 512),
        0,
        "it would depend on the LBA"
    );
}

#[test]
fn what_is_promised_is_one_command() {
    let bdev = driven(Config { power_fail_atomics: 99, mdts: 1, ..Config::default() }, 512);
    let blocks = bdev.info().offloads.atomic_write_blocks;
    let pool = Pool::ordinary(&[Class { bytes: 65536, count: 1 }]).unwrap();
    let mut channel = bdev.open(ReactorId(0));
    bdev.mock.take_notes();
    let mut done = Vec::with_capacity(1);
    let mut now = Tick::ZERO;
    // A block off the boundary of anything.
    let op = Op::Write { lba: 7, blocks, fua: true };
    let mut io = Some(Io { tag: Key { index: 1, generation: 1 }, op, data: pool.take(65536) });
    while done.is_empty() {
        now = now.after_ns(MS_NS);
        if let Some(next) = io.take()
            && let Err(Refused::NotReady(back) | Refused::Full(back)) = channel.submit(next, now)
        {
            io = Some(back);
        }
        channel.kick();
        channel.poll(&mut done, 1, now);
    }
    assert_eq!(done[0].result, Ok(()));
    let writes = bdev.mock.take_notes().into_iter().filter_map(|note| match note {
        Note::Taken { opcode: nvm::WRITE, lba, blocks, .. } => Some((lba, blocks)),
        _ => None,
    });
    assert_eq!(writes.collect::<Vec<_>>(), [(7, 16)]);
}
