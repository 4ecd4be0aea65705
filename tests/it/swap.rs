//! COMPARE AND WRITE and ORWRITE: what several sessions on two reactors do to one block adds up.

use lunette::bdev::delay::Delays;
use lunette::reactor::{Bug, Planted};
use lunette_initiator::Client;
use lunette_initiator::Command;
use lunette_initiator::scsi::{cdb, sense_key, status};

use crate::harness::{Setup, World, pattern, sense};

const BLOCK_BYTES: usize = 512;
/// The block that is counted in; those around it are written all the time.
const COUNTER: u64 = 100;
const SESSIONS: u32 = 8;

fn block(count: u64) -> Vec<u8> {
    let mut block = vec![0x5a; BLOCK_BYTES];
    block[..8].copy_from_slice(&count.to_be_bytes());
    block
}

fn count(client: &mut Client) -> u64 {
    let block = client.read(COUNTER, 1).unwrap();
    u64::from_be_bytes(*block.first_chunk().unwrap())
}

/// Counts up so many times that it tried; returns how many were answered GOOD.
fn count_up(client: &mut Client, tries: u32) -> u64 {
    let mut good = 0;
    let mut seen = count(client);
    for _ in 0..tries {
        let both = [block(seen), block(seen + 1)].concat();
        let command = Command::write(0, cdb::compare_and_write(COUNTER, 1), both);
        let completion = client.run(command).unwrap();
        if completion.is_good() {
            good += 1;
            seen += 1;
            continue;
        }
        // Somebody else was faster, and the first eight bytes tell; or too many ask for the block.
        if completion.status != status::BUSY {
            assert_eq!(sense(&completion), (sense_key::MISCOMPARE, 0x1d, 0x00));
        }
        seen = count(client);
    }
    good
}

/// Sessions count while others write the neighbours. The counter, and how many were answered GOOD.
fn race(planted: Planted) -> (u64, u64) {
    let delays = Delays { read_ns: 200_000, write_ns: 200_000, flush_ns: 0 };
    let world = World::start(Setup { reactors: 2, planted, delays, ..Setup::default() });
    world.client("first").write(COUNTER, &block(0)).unwrap();
    let good = std::thread::scope(|scope| {
        let counting: Vec<_> = (0..SESSIONS)
            .map(|number| {
                let mut client = world.client(&format!("counts{number}"));
                scope.spawn(move || count_up(&mut client, 200))
            })
            .collect();
        for number in 0..2 {
            let mut client = world.client(&format!("writes{number}"));
            scope.spawn(move || {
                for seed in 0..300 {
                    for (lba, blocks) in [(COUNTER - 4, 4), (COUNTER + 1, 4)] {
                        client.write(lba, &pattern(seed, lba, blocks, 512)).unwrap();
                    }
                }
            });
        }
        counting.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    (count(&mut world.client("last")), good)
}

#[test]
fn a_counter_counts_what_was_answered_good() {
    let (counter, good) = race(Planted::default());
    assert_eq!(counter, good);
    assert!(good >= u64::from(SESSIONS), "only {good} of {}", SESSIONS * 200);
}

#[test]
fn without_holds_it_does_not() {
    let (counter, good) = race(Planted::bug(Bug::HoldNotTaken));
    assert_ne!(counter, good, "the test above cannot fail");
}

#[test]
fn bits_that_many_set_are_all_set() {
    let world = World::start(Setup { reactors: 2, ..Setup::default() });
    std::thread::scope(|scope| {
        for number in 0..SESSIONS as usize {
            let mut client = world.client(&format!("sets{number}"));
            scope.spawn(move || {
                // Longer than a piece of 256 KiB.
                for byte in 0..40 {
                    let mut data = vec![0; 600 * BLOCK_BYTES];
                    data[byte * 7600] = 1 << number;
                    let command = Command::write(0, cdb::orwrite_16(0, 600), data);
                    let completion = client.run(command).unwrap();
                    assert!(completion.is_good(), "{completion:?}");
                }
            });
        }
    });
    let all = world.client("reads").read(0, 600).unwrap();
    let mut expected = vec![0; 600 * BLOCK_BYTES];
    (0..40).for_each(|byte| expected[byte * 7600] = 0xff);
    assert!(all == expected);
}
