//! Bad blocks: read from another member and written back, and the reader stays.

use super::*;

fn bad(faults: &Faults, kind: Kind, count: u32) {
    let bad = Fault::Fail(IoError::Medium { lba: Some(5) });
    faults.add(Rule { first_lba: 5, last_lba: 5, ..Rule::everywhere(kind, bad) }, count).unwrap();
}

fn store(disk: &Arc<Malloc>, lba: u64, byte: u8) {
    assert!(disk.open(ReactorId(0)).store(lba, &[byte; 512], false, Tick::ZERO));
}

#[test]
fn a_bad_block_is_read_from_another_member_and_written_back() {
    let (first, second) = (disk(1), disk(2));
    let (members, faults) = faulty(&first, &second, true);
    let mut rig = Rig::ready(members);
    assert_eq!(rig.write(5, 1, 4), Ok(()));
    // What is there cannot be read.
    store(&first, 5, 9);
    bad(&faults, Kind::Read, 1);
    assert_eq!(rig.read(5), Ok(4));
    assert_eq!((held(&first, 5), rig.doing()), (4, vec![Current, Current]), "one bad block is no bad member");
    assert_eq!(rig.kept.last(), (vec![1, 2], true));
    assert_eq!(rig.read(5), Ok(4));
    // Nor does it have to be said that members may differ.
    rig.pass(40);
    assert_eq!(rig.kept.last(), (vec![1, 2], false));
    bad(&faults, Kind::Read, 1);
    store(&first, 5, 9);
    rig.kept.fail(true);
    assert_eq!((rig.read(5), held(&first, 5)), (Ok(4), 4));
    assert_eq!(rig.kept.last(), (vec![1, 2], false));
}

#[test]
fn who_cannot_be_written_back_to_is_out_and_the_read_is_good() {
    let (first, second) = (disk(1), disk(2));
    let (members, faults) = faulty(&first, &second, true);
    let mut rig = Rig::ready(members);
    assert_eq!(rig.write(5, 1, 4), Ok(()));
    bad(&faults, Kind::Read, 1);
    bad(&faults, Kind::Write, 1);
    assert_eq!(rig.read(5), Ok(4));
    assert_eq!((rig.kept.last().0, rig.doing()), (vec![2], vec![Out, Current]));
}

#[test]
fn what_no_member_can_read_is_told_and_nobody_is_out() {
    let disks = [disk(1), disk(2)];
    let faults = [Faults::new(), Faults::new()];
    let faulty = |(disk, faults): (&Arc<Malloc>, &Faults)| -> Arc<dyn Bdev> {
        Arc::new(Faulty::new(Arc::clone(disk) as _, faults.clone()))
    };
    let mut rig = Rig::ready(disks.iter().zip(&faults).map(faulty).collect());
    assert_eq!(rig.write(5, 2, 4), Ok(()));
    faults.iter().for_each(|faults| bad(faults, Kind::Read, 2));
    for _ in 0..2 {
        assert_eq!(rig.read(5), Err(IoError::Medium { lba: Some(5) }));
        assert_eq!((rig.kept.last().0, rig.doing()), (vec![1, 2], vec![Current, Current]));
    }
    assert_eq!((rig.read(5), rig.read(6)), (Ok(4), Ok(4)));
}

/// Else what was read would be written back over something newer.
#[test]
fn a_block_is_mended_when_nothing_else_changes_it() {
    let (first, second) = (disk(1), disk(2));
    let (members, faults) = faulty(&first, &second, true);
    let mut rig = Rig::ready(members);
    assert_eq!(rig.write(5, 1, 4), Ok(()));
    let hold = faults.add(Rule::everywhere(Kind::Write, Fault::Hold), 1).unwrap();
    rig.submit(Op::Write { lba: 4, blocks: 3, fua: false }, 8);
    assert!(rig.alone().is_empty());
    assert_eq!((held(&first, 5), held(&second, 5)), (4, 8), "the reader is written last");
    bad(&faults, Kind::Read, 1);
    rig.submit_as(OTHER, Op::Read { lba: 5, blocks: 1 }, 0xEE);
    assert!(rig.alone().is_empty(), "it waits for the write");
    // What comes later waits for it.
    faults.release(hold);
    let done = [rig.end(), rig.end()];
    assert_eq!(done.each_ref().map(|done| (done.tag, done.result)), [(TAG, Ok(())), (OTHER, Ok(()))]);
    assert_eq!(done[1].data.as_ref().unwrap()[0], 8);
    assert_eq!((held(&first, 5), held(&second, 5)), (8, 8));
}

#[test]
fn a_read_that_mends_can_be_cancelled_and_what_it_held_is_free() {
    let (first, second) = (disk(1), disk(2));
    let (members, faults) = faulty(&first, &second, true);
    let mut rig = Rig::ready(members);
    let hold = faults.add(Rule::everywhere(Kind::Write, Fault::Hold), 1).unwrap();
    rig.submit(Op::Write { lba: 5, blocks: 1, fua: false }, 8);
    bad(&faults, Kind::Read, 1);
    rig.submit_as(OTHER, Op::Read { lba: 5, blocks: 1 }, 0xEE);
    assert!(rig.alone().is_empty());
    rig.channel.cancel(OTHER);
    assert_eq!(rig.alone(), [Err(IoError::Cancelled)]);
    faults.release(hold);
    assert_eq!(rig.end().result, Ok(()));
    assert_eq!((rig.write(5, 1, 9), rig.read(5)), (Ok(()), Ok(9)));
}
