//! What a lane has of a namespace that was removed: nothing of it reaches what comes in its stead.

use super::*;

#[test]
fn nothing_that_waits_reaches_what_comes_in_the_stead_of_a_disk_that_was_removed() {
    let mut rig = mapped();
    rig.io(1, READ).unwrap();
    // Its memory is not mapped yet: the device has seen nothing of it.
    rig.pool = Pool::ordinary(&[Class { bytes: 65536, count: 2 }]).unwrap();
    rig.io(2, WRITE).unwrap();
    assert_eq!(rig.pushed().len(), 1);
    assert!(matches!(rig.request(), Request::Map { .. }));
    rig.port.answer(Reply::Stopped).unwrap();
    assert!(rig.poll().is_empty());
    assert!(matches!(rig.request(), Request::Open));
    rig.disk.remove();
    // Another namespace of the controller's is as it was.
    let other = rig.lane.join(SHAPE, disk()).unwrap();
    let queue = FakeQueue { script: Arc::clone(&rig.script), bytes_max: 1 << 20, depth: 15 };
    rig.port.answer(Reply::Opened(Box::new(queue))).unwrap();
    let mut ended = rig.poll();
    ended.sort_unstable_by_key(|(tag, _)| *tag);
    assert_eq!(ended, [(1, Err(IoError::Gone)), (2, Err(IoError::Gone))]);
    assert!(rig.pushed().is_empty() && rig.port.request().is_none());
    assert_eq!(rig.lane.in_flight(rig.channel), 0);
    rig.channel = other;
    rig.io(3, Op::Flush).unwrap();
    assert_eq!(rig.pushed().len(), 1);
}

#[test]
fn what_is_left_of_an_io_is_not_asked_of_a_disk_that_was_removed() {
    let mut rig = Rig::new(Shape { bytes_max: 512, ..SHAPE });
    rig.io(1, READ).unwrap();
    rig.map();
    for (cid, _) in rig.pushed() {
        rig.complete(cid, 0);
    }
    assert_eq!(rig.poll(), [(1, Ok(()))]);
    // More commands than there are slots.
    rig.io(2, Op::Write { lba: 0, blocks: 40, fua: false }).unwrap();
    let pushed = rig.pushed();
    rig.disk.remove();
    for (cid, _) in pushed {
        assert!(rig.poll().is_empty());
        rig.complete(cid, 0);
    }
    assert_eq!(rig.poll(), [(2, Err(IoError::Gone))]);
    assert!(rig.pushed().is_empty());
}
