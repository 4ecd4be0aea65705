//! What a drive answers, byte for byte.

use crate::id::NexusId;
use crate::scsi::attention::{Attentions, Ua};
use crate::scsi::sense::Sense;
use crate::scsi::tests::{answered, cdb, planned, refused, target, unit};
use crate::scsi::view::{DeviceKind, LunNumber, Medium, Tray, UnitView};
use crate::scsi::{Access, Extent, Place, Plan, Status, plain, plan};

/// A drive with a CD of 1000 blocks.
fn cd() -> UnitView {
    let physical_block_bytes = 2048;
    UnitView { kind: DeviceKind::CdRom, block_bytes: 2048, physical_block_bytes, read_only: true, ..unit() }
}

/// With a DVD of a million blocks.
fn dvd() -> UnitView {
    UnitView { blocks: 1_000_000, ..cd() }
}

fn open() -> UnitView {
    UnitView { medium: Medium::Ejected, ..cd() }
}

fn empty() -> UnitView {
    UnitView { medium: Medium::Empty, blocks: 0, ..cd() }
}

fn of(unit: &UnitView, bytes: &[u8]) -> Vec<u8> {
    answered(bytes, Some(unit), None)
}

fn codes(sense: Sense) -> (u8, u8, u8) {
    (sense.key.code(), sense.asc, sense.ascq)
}

#[test]
fn it_says_that_it_is_a_drive() {
    let data = of(&cd(), &[0x12, 0, 0, 0, 96, 0]);
    assert_eq!(data[..8], [0x05, 0x80, 0x06, 0x12, 91, 0x00, 0x00, 0x02]);
    // SAM-5, iSCSI, SPC-4, SPC-5, MMC-6.
    assert_eq!(data[58..70], [0x00, 0xa0, 0x09, 0x60, 0x04, 0x60, 0x05, 0xc0, 0x04, 0xe0, 0, 0]);
    assert_eq!(of(&cd(), &[0x12, 1, 0, 0, 96, 0]), [0x05, 0, 0, 3, 0x00, 0x80, 0x83]);
    assert_eq!(of(&cd(), &[0x12, 1, 0x80, 0, 4, 0]), [0x05, 0x80, 0, 16]);
    assert_eq!(refused(&[0x12, 1, 0xb0, 0, 96, 0], &cd()), Sense::invalid_byte(2));
    assert_eq!(of(&cd(), &[0x25]), [0, 0, 3, 0xe7, 0, 0, 8, 0]);
}

#[test]
fn what_is_no_business_of_a_drive_is_no_command() {
    for opcode in [0x0a, 0x08, 0x2a, 0x35, 0x41, 0x42, 0x55, 0x5e, 0x5f, 0x89, 0x8a, 0x93, 0xaa] {
        assert_eq!(codes(refused(&[opcode], &cd())), (0x5, 0x20, 0x00), "{opcode:02x}");
    }
    for opcode in [0x43, 0x46, 0x4a, 0x51, 0x52, 0xad, 0xbd, 0xbe] {
        assert_eq!(codes(refused(&[opcode], &unit())), (0x5, 0x20, 0x00), "{opcode:02x}, of a disk");
    }
    let all = of(&cd(), &[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0]);
    assert_eq!(all[..12], [0, 0, 0, 200, 0x00, 0, 0, 0, 0, 0, 0, 6]);
    assert_eq!(all[196..], [0xbe, 0, 0, 0, 0, 0, 0, 12]);
}

#[test]
fn tables_of_contents() {
    let toc = |msf, format, first| of(&cd(), &[0x43, msf, format, 0, 0, 0, first, 0, 100, 0]);
    let tracks = [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0, 0, 0, 3, 0xe8];
    assert_eq!(toc(0, 0, 0), tracks);
    assert_eq!(toc(0, 0, 1), tracks);
    assert_eq!(toc(0, 0, 0xaa), [0, 10, 1, 1, 0, 0x14, 0xaa, 0, 0, 0, 3, 0xe8]);
    // Block 0 is at 0:02:00, block 1000 at 0:15:25.
    assert_eq!(toc(2, 0, 0), [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 2, 0, 0, 0x14, 0xaa, 0, 0, 0, 15, 25]);
    assert_eq!(toc(0, 1, 0), [0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0]);
    let raw = [
        0, 46, 1, 1, //
        1, 0x14, 0, 0xa0, 0, 0, 0, 0, 1, 0, 0, //
        1, 0x14, 0, 0xa1, 0, 0, 0, 0, 1, 0, 0, //
        1, 0x14, 0, 0xa2, 0, 0, 0, 0, 0, 15, 25, //
        1, 0x14, 0, 1, 0, 0, 0, 0, 0, 2, 0,
    ];
    assert_eq!(toc(0, 2, 0), raw);
    assert_eq!(refused(&[0x43, 0, 0, 0, 0, 0, 2, 0, 100, 0], &cd()), Sense::invalid_byte(6));
    assert_eq!(refused(&[0x43, 0, 4, 0, 0, 0, 0, 0, 100, 0], &cd()), Sense::invalid_bit(2, 3));
    assert_eq!(codes(refused(&[0x43, 0, 2, 0, 0, 0, 0, 0, 100, 0], &dvd())), (0x5, 0x30, 0x02));
    // A million blocks are 222 minutes, 15 seconds, 25 frames from the start; the next address is beyond what can be said.
    let lead_out = |blocks| {
        let long = UnitView { blocks, ..dvd() };
        of(&long, &[0x43, 2, 0, 0, 0, 0, 0xaa, 0, 100, 0])[8..].to_vec()
    };
    assert_eq!(lead_out(1_000_000), [0, 222, 15, 25]);
    assert_eq!(lead_out(1_151_849), [0, 255, 59, 74]);
    assert_eq!(lead_out(2_000_000), [0, 255, 59, 74]);
}

#[test]
fn the_disc_and_its_track() {
    assert_eq!(
        of(&cd(), &[0x51, 0, 0, 0, 0, 0, 0, 0, 100, 0]),
        [
            0, 32, 0x0e, 1, 1, 1, 1, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0
        ]
    );
    let track = [
        0, 34, 1, 1, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0xe8, 0, 0, 0, 0,
        0, 0, 0, 0,
    ];
    assert_eq!(of(&cd(), &[0x52, 1, 0, 0, 0, 1, 0, 0, 100, 0]), track);
    assert_eq!(of(&cd(), &[0x52, 2, 0, 0, 0, 1, 0, 0, 100, 0]), track);
    assert_eq!(of(&cd(), &[0x52, 0, 0, 0, 3, 0xe7, 0, 0, 100, 0]), track);
    for wrong in [[0x52, 0, 0, 0, 3, 0xe8], [0x52, 1, 0, 0, 0, 2], [0x52, 1, 0, 0, 0, 0xff]] {
        assert_eq!(refused(&wrong, &cd()), Sense::invalid_byte(2));
    }
    assert_eq!(refused(&[0x51, 1], &cd()), Sense::invalid_bit(1, 2));
}

#[test]
fn profiles_and_features() {
    let ask = |unit: &UnitView, which, from: u16| {
        let [high, low] = from.to_be_bytes();
        of(unit, &[0x46, which, high, low, 0, 0, 0, 1, 0, 0])
    };
    assert_eq!(
        ask(&cd(), 0, 0),
        [
            0, 0, 0, 80, 0, 0, 0x00, 0x08, // CD-ROM
            0x00, 0x00, 0x03, 8, 0x00, 0x10, 0, 0, 0x00, 0x08, 1, 0, //
            0x00, 0x01, 0x0b, 8, 0, 0, 0, 1, 1, 0, 0, 0, //
            0x00, 0x02, 0x07, 4, 2, 0, 0, 0, //
            0x00, 0x03, 0x0b, 4, 0x39, 0, 0, 0, //
            0x00, 0x10, 0x01, 8, 0, 0, 8, 0, 0, 1, 1, 0, //
            0x00, 0x1e, 0x09, 4, 0, 0, 0, 0, //
            0x00, 0x1f, 0x04, 4, 0, 0, 0, 0, //
            0x01, 0x05, 0x07, 4, 0, 0, 0, 0,
        ]
    );
    assert_eq!(ask(&dvd(), 2, 0x1f), [0, 0, 0, 12, 0, 0, 0x00, 0x10, 0x00, 0x1f, 0x05, 4, 0, 0, 0, 0]);
    assert_eq!(ask(&dvd(), 1, 0x1e)[6..12], [0x00, 0x10, 0x00, 0x1f, 0x05, 4]);
    assert_eq!(ask(&open(), 1, 0x10), [0, 0, 0, 12, 0, 0, 0, 0, 0x01, 0x05, 0x07, 4, 0, 0, 0, 0]);
    assert_eq!(ask(&empty(), 2, 0x77), [0, 0, 0, 4, 0, 0, 0, 0]);
    assert_eq!(refused(&[0x46, 3], &cd()), Sense::invalid_bit(1, 1));
}

#[test]
fn events_are_told_to_each_nexus_until_it_has_heard_of_them() {
    const MEDIA: [u8; 10] = [0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0];
    assert_eq!(of(&cd(), &MEDIA), [0, 6, 4, 0x52, 0, 2, 0, 0]);
    assert_eq!(of(&open(), &MEDIA), [0, 6, 4, 0x52, 0, 1, 0, 0]);
    assert_eq!(of(&empty(), &MEDIA), [0, 6, 4, 0x52, 0, 0, 0, 0]);
    let mut owed = Attentions::new();
    owed.push(Ua::MediumChanged);
    for _ in 0..2 {
        assert_eq!(answered(&MEDIA, Some(&cd()), Some(&mut owed)), [0, 6, 4, 0x52, 2, 2, 0, 0], "NewMedia");
    }
    assert_eq!(owed.first(), Some(Ua::MediumChanged), "that is for TEST UNIT READY to take away");
    let wanted = UnitView { tray: Tray { is_locked: true, is_eject_wanted: true }, ..cd() };
    assert_eq!(of(&wanted, &MEDIA), [0, 6, 4, 0x52, 1, 2, 0, 0], "EjectRequest");
    // Of several classes the first that is known; of none of these, none.
    assert_eq!(of(&cd(), &[0x4a, 1, 0, 0, 0xff, 0, 0, 0, 8, 0]), [0, 6, 1, 0x52, 0, 0, 0, 0]);
    assert_eq!(of(&cd(), &[0x4a, 1, 0, 0, 0x40, 0, 0, 0, 8, 0]), [0, 6, 6, 0x52, 0, 0, 0, 0]);
    assert_eq!(of(&cd(), &[0x4a, 1, 0, 0, 0x0c, 0, 0, 0, 8, 0]), [0, 2, 0x80, 0x52]);
    assert_eq!(refused(&[0x4a, 0, 0, 0, 0x10, 0, 0, 0, 8, 0], &cd()), Sense::invalid_bit(1, 0));
    assert_eq!(of(&open(), &[0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0]), [0, 0x10, 0, 0, 0, 0, 0, 0]);
    assert_eq!(of(&cd(), &[0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0]), [0; 8]);
}

#[test]
fn mode_pages() {
    let locked = UnitView { tray: Tray { is_locked: true, is_eject_wanted: false }, ..cd() };
    let capabilities =
        [0x2a, 20, 0x0b, 0, 0, 0, 0x2f, 0, 0x22, 0x60, 0, 0, 0, 0, 0x22, 0x60, 0, 0, 0, 0, 0, 0];
    let long = of(&locked, &[0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 100, 0]);
    assert_eq!((&long[..8], &long[8..]), (&[0, 28, 0, 0, 0, 0, 0, 0][..], &capabilities[..]));
    let short = of(&cd(), &[0x1a, 0, 0x2a, 0, 100, 0]);
    assert_eq!((&short[..4], short[4 + 6]), (&[25, 0, 0, 0][..], 0x2d));
    let all = of(&cd(), &[0x1a, 0, 0x7f, 0, 100, 0]);
    assert_eq!(all.len(), 4 + 12 + 10 + 22);
    assert_eq!((all[4], all[16], all[26]), (0x01, 0x1d, 0x2a));
    assert!(all[28..].iter().all(|byte| *byte == 0), "nothing can be changed");
    assert_eq!(refused(&[0x1a, 0, 0x08, 0, 100, 0], &cd()), Sense::invalid_bit(2, 5));
    assert_eq!(refused(&[0x5a, 0, 0xea, 0, 0, 0, 0, 0, 100, 0], &cd()), Sense::SAVING_NOT_SUPPORTED);
}

#[test]
fn the_lead_in_of_a_dvd() {
    let ask = |format| of(&dvd(), &[0xad, 0, 0, 0, 0, 0, 0, format, 0x10, 0, 0, 0]);
    let physical = ask(0);
    assert_eq!(physical.len(), 2052);
    assert_eq!(physical[..16], [0x08, 0x02, 0, 0, 0x01, 0x0f, 0x01, 0, 0, 3, 0, 0, 0, 0x12, 0x42, 0x3f]);
    assert_eq!(ask(1), [0, 6, 0, 0, 0, 0, 0, 0]);
    assert_eq!(ask(4)[..4], [0x08, 0x02, 0, 0]);
    assert_eq!(ask(0xff), [0, 14, 0, 0, 0, 0x40, 8, 4, 1, 0x40, 0, 8, 4, 0x40, 8, 4]);
    assert_eq!(codes(refused(&[0xad], &cd())), (0x5, 0x30, 0x02));
    assert_eq!(refused(&[0xad, 0, 0, 0, 0, 0, 0, 2], &dvd()), Sense::invalid_byte(7));
    assert_eq!(refused(&[0xad, 1], &dvd()), Sense::invalid_bit(1, 3));
}

#[test]
fn blocks_are_read_and_nothing_else_of_them() {
    let extent = |lba, blocks| Extent { lba, blocks, fua: false };
    assert_eq!(planned(&[0x28, 0, 0, 0, 0, 5, 0, 0, 2, 0], &cd()), Plan::Read(extent(5, 2)));
    assert_eq!(planned(&[0xa8, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0], &cd()), Plan::Read(extent(5, 2)));
    let read_cd = |sector: u8, what, sub| [0xbe, sector << 2, 0, 0, 0, 5, 0, 0, 2, what, sub, 0];
    for sector in [0, 2] {
        assert_eq!(planned(&read_cd(sector, 0x10, 0), &cd()), Plan::Read(extent(5, 2)));
    }
    assert_eq!(planned(&read_cd(0, 0, 0), &cd()), Plan::End(Status::Good));
    assert_eq!(codes(refused(&read_cd(1, 0x10, 0), &cd())), (0x5, 0x64, 0x00), "audio");
    assert_eq!(refused(&read_cd(0, 0xf8, 0), &cd()), Sense::invalid_byte(9));
    assert_eq!(refused(&read_cd(0, 0x10, 2), &cd()), Sense::invalid_bit(10, 2));
    assert_eq!(planned(&[0x2b, 0, 0, 0, 3, 0xe7], &cd()), Plan::End(Status::Good));
    assert_eq!(codes(refused(&[0x2b, 0, 0, 0, 3, 0xe8], &cd())), (0x5, 0x21, 0x00));
}

#[test]
fn without_a_disc() {
    for opcode in [0x00, 0x25, 0x28, 0x2b, 0x43, 0x51, 0x52, 0x88, 0xa8, 0xad, 0xbe] {
        assert_eq!(codes(refused(&[opcode], &open())), (0x2, 0x3a, 0x02), "{opcode:02x}: the tray is open");
        assert_eq!(codes(refused(&[opcode], &empty())), (0x2, 0x3a, 0x01), "{opcode:02x}: it is closed");
    }
    for bytes in [&[0x12][..], &[0x03], &[0x1a, 0, 0x3f], &[0x46], &[0x4a, 1], &[0xbd]] {
        assert!(matches!(planned(bytes, &empty()), Plan::Report(_)), "{bytes:02x?}");
    }
}

#[test]
fn the_plain_form_is_what_the_plan_is() {
    let (target, unit) = (target(), cd());
    let place =
        Place { nexus: NexusId(7), target: &target, number: LunNumber(0), unit: Some((&unit, false)) };
    for bytes in [
        [0x28, 0x08, 0, 0, 0, 2, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        [0x88, 0x10, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0],
    ] {
        let (extent, access) = plain(&bytes, &place).unwrap();
        assert_eq!(access, Access::Read);
        assert_eq!(plan(&cdb(&bytes), &place), Plan::Read(extent));
    }
    assert_eq!(plain(&[0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0], &place), None);
}
