//! Members that cannot be reached: neither gone, nor there.

use super::*;
use crate::time::SECOND_NS;

/// So many seconds in which the channel is polled; what has ended.
fn wait(rig: &mut Rig, seconds: u64) -> Vec<Done> {
    let mut ended = Vec::new();
    for _ in 0..seconds * 2 {
        rig.now = rig.now.after_ns(SECOND_NS / 2);
        for _ in 0..8 {
            rig.warden.step(rig.now);
            ended.extend(rig.poll());
        }
    }
    ended
}

#[test]
fn a_member_that_cannot_be_reached_is_out_after_a_while_and_what_waits_goes_on() {
    for is_first in [true, false] {
        let (first, second) = (disk(1), disk(2));
        let (members, faults) = faulty(&first, &second, is_first);
        let mut rig = Rig::ready(members);
        faults.set_state(ChannelState::Opening);
        rig.submit(Op::Write { lba: 1, blocks: 1, fua: false }, 9);
        assert!(wait(&mut rig, 8).is_empty());
        assert_eq!(rig.doing(), [Current, Current], "it may come back");
        let ended = wait(&mut rig, 6);
        assert_eq!(ended.iter().map(|done| done.result).collect::<Vec<_>>(), [Ok(())]);
        let (left, doing) = if is_first { (2, [Out, Current]) } else { (1, [Current, Out]) };
        assert_eq!((rig.kept.last().0, rig.doing()), (vec![left], doing.to_vec()));
        assert_eq!(rig.read(1), Ok(9));
        faults.set_state(ChannelState::Ready);
        wait(&mut rig, 60);
        assert_eq!(rig.doing(), [Current, Current]);
        assert_eq!((held(&first, 1), held(&second, 1)), (9, 9));
    }
}

#[test]
fn a_member_that_is_away_now_and_then_stays() {
    let (first, second) = (disk(1), disk(2));
    let (members, faults) = faulty(&first, &second, false);
    let mut rig = Rig::ready(members);
    for round in 0..4 {
        faults.set_state(ChannelState::Opening);
        rig.submit(Op::Write { lba: 1, blocks: 1, fua: false }, round);
        assert!(wait(&mut rig, 6).is_empty());
        faults.set_state(ChannelState::Ready);
        assert_eq!(wait(&mut rig, 1).len(), 1);
        // Nobody polls for a while in which it may be whatever it is.
        rig.now = rig.now.after_ns(100 * SECOND_NS);
    }
    assert_eq!(rig.doing(), [Current, Current]);
}

#[test]
fn where_no_member_can_be_reached_all_wait_and_none_is_out() {
    let disks = [disk(1), disk(2)];
    let faults = [Faults::new(), Faults::new()];
    let faulty = |(disk, faults): (&Arc<Malloc>, &Faults)| -> Arc<dyn Bdev> {
        Arc::new(Faulty::new(Arc::clone(disk) as _, faults.clone()))
    };
    let mut rig = Rig::ready(disks.iter().zip(&faults).map(faulty).collect());
    faults.iter().for_each(|faults| faults.set_state(ChannelState::Opening));
    rig.submit(Op::Write { lba: 1, blocks: 1, fua: false }, 9);
    rig.submit_as(OTHER, Op::Read { lba: 1, blocks: 1 }, 0);
    assert!(wait(&mut rig, 100).is_empty());
    assert_eq!(rig.doing(), [Current, Current]);
    faults.iter().for_each(|faults| faults.set_state(ChannelState::Ready));
    assert_eq!(wait(&mut rig, 1).iter().filter(|done| done.result == Ok(())).count(), 2);
}

/// A lane keeps reads for a controller that is looked for.
#[test]
fn what_waits_in_a_member_that_cannot_be_reached_is_taken_back() {
    for op in [Op::Read { lba: 1, blocks: 1 }, Op::Write { lba: 1, blocks: 1, fua: false }] {
        let (first, second) = (disk(1), disk(2));
        let (members, faults) = faulty(&first, &second, true);
        let mut rig = Rig::ready(members);
        assert_eq!(rig.write(1, 1, 4), Ok(()));
        faults.add(Rule::everywhere(Kind::Any, Fault::Hold), 1).unwrap();
        rig.submit(op, 4);
        assert!(rig.alone().is_empty());
        faults.set_state(ChannelState::Opening);
        let ended = wait(&mut rig, 20);
        assert_eq!(ended.iter().map(|done| done.result).collect::<Vec<_>>(), [Ok(())]);
        assert_eq!((ended[0].data.as_ref().unwrap()[0], rig.doing()), (4, vec![Out, Current]));
    }
}

#[test]
fn no_write_waits_for_a_member_that_is_out_and_cannot_be_reached() {
    let (first, second) = (disk(1), disk(2));
    let (members, faults) = faulty(&first, &second, false);
    faults.set_state(ChannelState::Opening);
    let mut rig = Rig::new(members, record(&[1], false));
    rig.pass(5);
    for round in 0..8 {
        assert_eq!((rig.write(1, 1, round), rig.doing()), (Ok(()), vec![Current, Out]));
        wait(&mut rig, 7);
    }
    faults.set_state(ChannelState::Ready);
    wait(&mut rig, 60);
    assert_eq!((rig.doing(), held(&second, 1)), (vec![Current, Current], 7));
}

#[test]
fn a_member_that_an_operator_keeps_out_is_not_filled_when_it_can_be_reached() {
    let (first, second) = (disk(1), disk(2));
    let (members, faults) = faulty(&first, &second, false);
    faults.set_state(ChannelState::Opening);
    let mut rig = Rig::new(members, record(&[1], false));
    rig.pass(5);
    let handle = Handle(Arc::clone(&rig.mirror.shared));
    let removing = std::thread::spawn(move || handle.remove(1));
    while !removing.is_finished() {
        rig.pass(1);
    }
    assert_eq!(removing.join().unwrap(), Ok(()));
    faults.set_state(ChannelState::Ready);
    rig.pass(60);
    assert_eq!(rig.doing(), [Current, Out]);
}

/// A controller aborts what took too long, and ends what it has when it is pulled out.
#[test]
fn a_read_that_a_member_ends_unasked_is_read_from_another_one() {
    let (first, second) = (disk(1), disk(2));
    let (members, faults) = faulty(&first, &second, true);
    let mut rig = Rig::ready(members);
    assert_eq!(rig.write(5, 1, 4), Ok(()));
    faults.add(Rule::everywhere(Kind::Read, Fault::Fail(IoError::Cancelled)), 1).unwrap();
    assert_eq!((rig.read(5), rig.doing()), (Ok(4), vec![Out, Current]));
    // What is asked for is no failure.
    rig.pass(60);
    assert_eq!(rig.doing(), [Current, Current]);
    let (members, faults) = faulty(&first, &second, true);
    let mut rig = Rig::ready(members);
    faults.add(Rule::everywhere(Kind::Read, Fault::Hold), 1).unwrap();
    rig.submit(Op::Read { lba: 5, blocks: 1 }, 0);
    assert!(rig.alone().is_empty());
    rig.channel.cancel(TAG);
    assert_eq!((rig.alone(), rig.doing()), (vec![Err(IoError::Cancelled)], vec![Current, Current]));
}
