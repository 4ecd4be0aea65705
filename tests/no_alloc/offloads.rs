//! What an NVMe namespace does by itself it is left to do: SCSI commands as the controller takes them.

use lunette::bdev::nvme::served::Taken;
use lunette_initiator::scsi::{Sense, cdb, sense_key};
use lunette_initiator::{Client, Command, Config, Data, lun};

use crate::TURN;
use crate::world::{TARGET, World};

/// The namespace's number.
const LUN: u16 = 2;
const LBA: u64 = 100;
const BLOCK_BYTES: usize = 512;

/// COMPARE AND WRITE of one block: the sense key that it ends with, where it does not end well.
fn swap(client: &mut Client, old: u8, new: u8) -> Option<u8> {
    let both = [[old; BLOCK_BYTES], [new; BLOCK_BYTES]].concat();
    let command = Command::write(lun::from_number(LUN), cdb::compare_and_write(LBA, 1), both);
    let completion = client.run(command).unwrap();
    (!completion.is_good()).then(|| Sense::decode(&completion.sense).unwrap().key)
}

#[test]
fn compare_and_write_is_a_fused_pair_and_verify_moves_nothing() {
    let _turn = TURN.lock().unwrap();
    let mut world = World::new(1);
    let mut client = world.login(0, Config::new("iqn.2025-01.com.example:swaps", TARGET));
    // A unit attention comes first.
    let ready = Command::new(lun::from_number(LUN), cdb::test_unit_ready(), Data::None);
    assert!(!client.run(ready).unwrap().is_good());
    world.controller.taken();

    // Read and compared under a hold; where it is the same, the device makes sure once more as it writes.
    let step = |(opcode, fuse)| Taken { opcode, fuse, lba: LBA, blocks: 1 };
    let (looked, swapped) = ([(0x02, 0)].map(step), [(0x02, 0), (0x05, 1), (0x01, 2)].map(step));
    assert_eq!(swap(&mut client, 0, 7), None);
    assert_eq!(world.controller.taken(), swapped);
    assert_eq!(swap(&mut client, 0, 8), Some(sense_key::MISCOMPARE));
    assert_eq!(world.controller.taken(), looked);
    assert_eq!(swap(&mut client, 7, 9), None);
    assert_eq!(world.controller.taken(), swapped);

    let verify = |blocks| Command::new(lun::from_number(LUN), cdb::verify_16(LBA, blocks, 0), Data::None);
    assert!(client.run(verify(200)).unwrap().is_good());
    let parts = [(LBA, 128), (LBA + 128, 72)];
    let verify = |(lba, blocks)| Taken { opcode: 0x0C, fuse: 0, lba, blocks };
    assert_eq!(world.controller.taken(), parts.map(verify));

    client.logout().unwrap();
    client.wait_closed(std::time::Duration::from_secs(10)).unwrap();
    world.service();
    assert_eq!(world.complaints, [] as [String; 0]);
    assert_eq!(world.controller.violations(), [] as [String; 0]);
    world.stop();
}
