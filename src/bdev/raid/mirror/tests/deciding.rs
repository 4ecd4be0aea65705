//! What the warden decides, and what it must not: who is a member, whose failure it was, when it is over.

use super::*;
use crate::bdev::Refused;
use crate::bdev::nvme::served::Served;
use crate::bdev::raid::mirror::fill::Fill;
use crate::bdev::raid::mirror::shared::Shared;
use crate::bdev::raid::mirror::warden::Job;

/// A member that is there or not.
#[derive(Debug)]
struct Late(Arc<Malloc>, std::sync::atomic::AtomicBool);

impl Late {
    fn new(disk: &Arc<Malloc>) -> Arc<Late> {
        Arc::new(Late(Arc::clone(disk), false.into()))
    }

    fn come(&self) {
        self.1.store(true, Ordering::SeqCst);
    }
}

impl Bdev for Late {
    fn info(&self) -> Info {
        let info = self.0.info();
        Info { blocks: if self.1.load(Ordering::SeqCst) { info.blocks } else { 0 }, ..info }
    }

    fn own(&self) -> Option<[u8; 16]> {
        self.0.own()
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        self.0.open(reactor)
    }
}

#[test]
fn what_is_known_of_a_missing_member_stays_in_the_record() {
    let disks = [disk(1), disk(2)];
    let late = Late::new(&disks[1]);
    let known = Record { members: vec![[1; 16], [2; 16]], ..record(&[1], false) };
    let mut rig = Rig::new(vec![Arc::clone(&disks[0]) as _, Arc::clone(&late) as _], known);
    rig.pass(60);
    assert_eq!(rig.write(1, 1, 7), Ok(()));
    let last = |rig: &Rig| rig.kept.0.lock().unwrap().0.last().unwrap().members.clone();
    assert_eq!((last(&rig), rig.doing()), (vec![[1; 16], [2; 16]], vec![Current, Out]));
    late.come();
    rig.pass(60);
    assert_eq!((last(&rig), rig.doing()), (vec![[1; 16], [2; 16]], vec![Current, Current]));
    assert_eq!(held(&disks[1], 1), 7);
}

/// Somebody who looks whether it is there may have it for longer than it is registered.
#[test]
fn a_warden_ends_when_the_mirror_is_unregistered_whoever_still_has_it() {
    let recipe = recipe(vec![disk(1), disk(2)], record(&[1], false), &Kept::default());
    let (mirror, starter) = Mirror::new(recipe);
    let handle = starter.handle();
    starter.start().unwrap();
    assert!(!handle.is_over() && !handle.is_ended());
    mirror.unregistered();
    assert!(handle.is_over());
    while !handle.is_ended() {
        std::thread::yield_now();
    }
    drop(mirror);
}

#[test]
fn one_that_is_not_started_is_over_and_has_let_go() {
    let member = disk(1);
    let recipe = recipe(vec![Arc::clone(&member) as _, disk(2)], record(&[1], false), &Kept::default());
    let (mirror, starter) = Mirror::new(recipe);
    let handle = starter.handle();
    starter.give_up();
    assert!(handle.is_over() && handle.is_ended());
    assert_eq!(Arc::strong_count(&member), 1);
    drop(mirror);
}

/// A way to the second member is waited for, and nobody else waits.
fn is_opening(rig: &Rig) -> bool {
    assert_eq!(rig.doing(), [Current, Out]);
    matches!(rig.warden.job, Job::Fill { member: 1, step: Fill::Opening { .. } })
}

#[test]
fn who_has_no_room_for_the_warden_has_not_failed_and_nobody_waits_for_that() {
    for is_first in [true, false] {
        let (first, second) = (disk(1), disk(2));
        let (members, faults) = faulty(&first, &second, is_first);
        let mut rig = Rig::new(members, record(&[1], false));
        // Of a controller that has queues for the reactors only this would be so for the warden alone.
        faults.set_state(ChannelState::Opening);
        for _ in 0..8 {
            rig.pass(10);
            assert!(is_opening(&rig), "no write would wait for it");
        }
        // It is given up, and tried again as soon as if it had not been tried.
        for _ in 0..4 {
            rig.now = rig.now.after_ns(31 * 1000 * MS_NS);
            rig.pass(1);
            assert!(!is_opening(&rig));
            rig.pass(12);
            assert!(is_opening(&rig));
        }
        faults.set_state(ChannelState::Ready);
        rig.pass(60);
        assert_eq!((rig.kept.last().0, rig.doing()), (vec![1, 2], vec![Current, Current]));
    }
}

/// What a namespace holds whose controller lost its power, and which sat down again before it was asked for anything.
#[test]
fn nobody_is_filled_from_a_member_that_was_taken_out_meanwhile() {
    let disks = [disk(1), disk(2), disk(3)];
    let set = |disk: &Arc<Malloc>, byte: u8| {
        assert!(disk.open(ReactorId(0)).store(1, &[byte; 512], false, Tick::ZERO));
    };
    disks.iter().take(2).for_each(|disk| set(disk, 7));
    let faults = Faults::new();
    let first = Arc::new(Faulty::new(Arc::clone(&disks[0]) as _, faults.clone()));
    let members: Vec<Arc<dyn Bdev>> =
        vec![first, Arc::clone(&disks[1]) as Arc<dyn Bdev>, Arc::clone(&disks[2]) as Arc<dyn Bdev>];
    let mut rig = Rig::new(members, record(&[1, 2], false));
    let is_at = |rig: &Rig, is_it: fn(&Fill) -> bool| matches!(&rig.warden.job, Job::Fill { member: 2, step } if is_it(step));
    while !is_at(&rig, |step| matches!(step, Fill::Window(0))) {
        rig.now = rig.now.after_ns(MS_NS / 4);
        rig.warden.step(rig.now);
        assert!(rig.poll().is_empty());
    }
    faults.set_state(ChannelState::Opening);
    rig.pass(2);
    let is_reading = is_at(&rig, |step| matches!(step, Fill::Reading { window: 0, .. }));
    assert!(is_reading && !rig.warden.copier.is_idle(), "it waits for room in the first one");
    let handle = Handle(Arc::clone(&rig.mirror.shared));
    let asked = std::thread::spawn(move || handle.doubt(0));
    while !asked.is_finished() {
        rig.now = rig.now.after_ns(1);
        rig.warden.step(rig.now);
    }
    assert_eq!((asked.join().unwrap(), rig.doing()[0]), (Ok(()), Out));
    set(&disks[0], 3);
    faults.set_state(ChannelState::Ready);
    while rig.doing() != [Current; 3] {
        rig.pass(1);
        assert_ne!(held(&disks[2], 1), 3);
    }
    assert_eq!(disks.each_ref().map(|disk| held(disk, 1)), [7; 3]);
}

#[test]
fn a_flush_that_finds_no_room_leaves_the_member_in() {
    let (first, second) = (disk(1), disk(2));
    let (members, faults) = faulty(&first, &second, false);
    let mut rig = Rig::ready(members);
    faults.set_state(ChannelState::Opening);
    rig.pass(30);
    rig.now = rig.now.after_ns(31 * 1000 * MS_NS);
    rig.pass(5);
    assert_eq!((rig.kept.last(), rig.doing()), ((vec![1, 2], true), vec![Current, Current]));
    faults.set_state(ChannelState::Ready);
    rig.pass(60);
    assert_eq!((rig.kept.last(), rig.doing()), ((vec![1, 2], false), vec![Current, Current]));
}

#[test]
fn the_end_submits_nothing_more() {
    let (first, second) = (disk(1), disk(2));
    let (members, faults) = faulty(&first, &second, true);
    let mut rig = Rig::ready(members);
    faults.set_state(ChannelState::Opening);
    rig.pass(30);
    // A flush waits for room.
    assert!(!rig.warden.copier.is_idle());
    faults.set_state(ChannelState::Ready);
    faults.add(Rule::everywhere(Kind::Flush, Fault::Hold), 1).unwrap();
    assert!(rig.warden.end(rig.now));
    assert!(rig.warden.end(rig.now.after_ns(MS_NS)));
}

#[test]
fn the_end_waits_for_changes_that_are_at_work() {
    let (first, second) = (disk(1), disk(2));
    let (members, faults) = faulty(&first, &second, true);
    let mut rig = Rig::ready(members);
    let hold = faults.add(Rule::everywhere(Kind::Write, Fault::Hold), 1).unwrap();
    rig.submit(Op::Write { lba: 2, blocks: 1, fua: false }, 8);
    rig.mirror.unregistered();
    assert!(rig.alone().is_empty() && !rig.warden.end(rig.now));
    faults.release(hold);
    assert_eq!(rig.alone(), [Ok(())]);
    assert!(rig.warden.end(rig.now));
    rig.submit(Op::Write { lba: 2, blocks: 1, fua: false }, 9);
    assert_eq!(rig.alone(), [Err(IoError::Gone)], "nobody would decide about it");
}

#[test]
fn what_cannot_be_said_to_be_equal_is_not_tried_without_a_pause() {
    let members: Vec<Arc<dyn Bdev>> = vec![disk(1), disk(2)];
    let mut rig = Rig::ready(members);
    rig.kept.fail(true);
    for _ in 0..8 {
        rig.pass(15);
        let is_at_once = (0..1000).all(|_| rig.warden.step(rig.now) == Next::AtOnce);
        assert!(!is_at_once, "it spins");
    }
    rig.kept.fail(false);
    rig.pass(60);
    assert_eq!(rig.kept.last(), (vec![1, 2], false));
}

#[test]
fn a_member_that_was_filled_is_filled_again_as_soon_when_it_fails_again() {
    let (first, second) = (disk(1), disk(2));
    let (members, faults) = faulty(&first, &second, false);
    let mut rig = Rig::ready(members);
    for round in 0..7 {
        fail(&faults, Kind::Write);
        assert_eq!(rig.write(1, 1, round), Ok(()));
        assert_eq!(rig.doing(), [Current, Out]);
        rig.pass(25);
        assert_eq!(rig.doing(), [Current, Current], "round {round}");
    }
}

#[test]
fn who_could_not_be_taken_out_is_filled_again_when_it_fails() {
    let (first, second) = (disk(1), disk(2));
    let (members, faults) = faulty(&first, &second, true);
    let mut rig = Rig::ready(members);
    let handle = Handle(Arc::clone(&rig.mirror.shared));
    let asked: Vec<_> = [0, 1]
        .map(|member| {
            let handle = handle.clone();
            std::thread::spawn(move || handle.remove(member))
        })
        .into();
    // Both are asked for before either is decided about.
    while rig.mirror.shared.order_count() < 2 {
        std::thread::yield_now();
    }
    rig.pass(5);
    let told: Vec<bool> = asked.into_iter().map(|asked| asked.join().unwrap().is_ok()).collect();
    assert_eq!((told, rig.doing()), (vec![false, true], vec![Current, Out]));
    let adding = handle.clone();
    let added = std::thread::spawn(move || adding.add(1));
    while !added.is_finished() {
        rig.pass(1);
    }
    rig.pass(30);
    assert_eq!(rig.doing(), [Current, Current]);
    fail(&faults, Kind::Write);
    assert_eq!(rig.write(1, 1, 7), Ok(()));
    assert_eq!(rig.doing(), [Out, Current]);
    rig.pass(30);
    assert_eq!(rig.doing(), [Current, Current]);
}

#[test]
fn a_channel_that_was_idle_for_long_is_not_taken_to_know_the_plan() {
    let shared = Shared::new("R".to_owned(), vec![disk(1), disk(2)]);
    let seat = shared.sit();
    let plan = plan::Plan::EMPTY.with_current(Set(0b11));
    let epoch = shared.publish(plan);
    seat.acked.store(epoch, Ordering::SeqCst);
    for _ in 0..1 << 12 {
        // It says the same again and again.
        let epoch = shared.publish(plan);
        seat.active.store(1, Ordering::SeqCst);
        assert!(!shared.is_everywhere(epoch));
        seat.active.store(0, Ordering::SeqCst);
        assert!(shared.is_everywhere(epoch));
    }
}

/// A change that began for a reader that has failed since is on the present one, which was read, and not on the member that was filled
/// meanwhile; whether that counts as filled.
fn is_filled_too_early() -> bool {
    let disks = [disk(1), disk(2), disk(3)];
    let faults = [Faults::new(), Faults::new()];
    let faulty = |disk: &Arc<Malloc>, faults: &Faults| -> Arc<dyn Bdev> {
        Arc::new(Faulty::new(Arc::clone(disk) as _, faults.clone()))
    };
    let [first, third] = &faults;
    let members = vec![faulty(&disks[0], first), Arc::clone(&disks[1]) as _, faulty(&disks[2], third)];
    let mut rig = Rig::new(members, record(&[1, 2], false));
    let flush = third.add(Rule::everywhere(Kind::Flush, Fault::Hold), 1).unwrap();
    rig.pass(2);
    assert_eq!(rig.write(0, 1, 1), Ok(()));
    rig.pass(20);
    assert_eq!(rig.doing(), [Current, Current, Doing::Filling(BLOCKS)]);
    // The second member has it, then the third one is asked.
    let write = third.add(Rule::everywhere(Kind::Write, Fault::Hold), 1).unwrap();
    rig.submit(Op::Write { lba: 7, blocks: 1, fua: false }, 9);
    assert!(rig.alone().is_empty());
    assert_eq!(disks.each_ref().map(|disk| held(disk, 7)), [0, 9, 0]);
    // The reader fails, and the second member is read.
    fail(first, Kind::Write);
    rig.submit_as(OTHER, Op::Write { lba: 20, blocks: 1, fua: false }, 2);
    assert_eq!((rig.end().tag, rig.doing()[0]), (OTHER, Out));
    rig.submit_as(THIRD, Op::Read { lba: 7, blocks: 1 }, 0xEE);
    let read = rig.end();
    assert_eq!((read.tag, read.result, read.data.unwrap()[0]), (THIRD, Ok(()), 9));
    third.release(flush);
    rig.pass(8);
    let is_early = rig.doing()[2] == Current && held(&disks[2], 7) != 9;
    third.release(write);
    assert_eq!(rig.end().result, Ok(()));
    rig.pass(40);
    assert_eq!((held(&disks[2], 7), rig.doing()[2]), (9, Current));
    is_early
}

#[test]
fn nobody_counts_as_filled_while_a_change_is_at_work_that_began_for_another_reader() {
    assert!(!is_filled_too_early());
    #[cfg(feature = "sim")]
    {
        use crate::bdev::raid::planted::{Bug, plant};
        plant(Some(Bug::FilledTooEarly));
        let is_found = is_filled_too_early();
        plant(None);
        assert!(is_found, "the bug that is planted is not found");
    }
}

/// A member has a read for so long that it failed meanwhile, was filled again, and is written before the one that is read now; whether what it
/// has read shows a change that the other one has not.
fn is_read_ahead() -> bool {
    let disks = [disk(1), disk(2)];
    let faults = [Faults::new(), Faults::new()];
    let faulty = |(disk, faults): (&Arc<Malloc>, &Faults)| -> Arc<dyn Bdev> {
        Arc::new(Faulty::new(Arc::clone(disk) as _, faults.clone()))
    };
    let mut rig = Rig::ready(disks.iter().zip(&faults).map(faulty).collect());
    let [first, second] = &faults;
    let read = first.add(Rule { first_lba: 7, last_lba: 7, ..Rule::everywhere(Kind::Read, Fault::Hold) }, 1);
    rig.submit(Op::Read { lba: 7, blocks: 1 }, 0xEE);
    assert!(rig.alone().is_empty());
    fail(first, Kind::Write);
    rig.submit_as(OTHER, Op::Write { lba: 20, blocks: 1, fua: false }, 2);
    assert_eq!((rig.end().tag, rig.doing()), (OTHER, vec![Out, Current]));
    rig.pass(25);
    assert_eq!(rig.doing(), [Current, Current]);
    // It may have been calm.
    rig.submit_as(OTHER, Op::Write { lba: 21, blocks: 1, fua: false }, 2);
    assert_eq!(rig.end().tag, OTHER);
    let write = second.add(Rule::everywhere(Kind::Write, Fault::Hold), 1).unwrap();
    rig.submit_as(OTHER, Op::Write { lba: 7, blocks: 1, fua: false }, 9);
    assert!(rig.alone().is_empty());
    assert_eq!(disks.each_ref().map(|disk| held(disk, 7)), [9, 0], "who is read is written last");
    first.release(read.unwrap());
    let done = rig.end();
    assert_eq!((done.tag, done.result), (TAG, Ok(())));
    let is_ahead = done.data.unwrap()[0] == 9;
    rig.submit_as(THIRD, Op::Read { lba: 7, blocks: 1 }, 0xEE);
    let later = rig.end();
    assert_eq!((later.tag, later.data.unwrap()[0]), (THIRD, 0));
    second.release(write);
    assert_eq!(rig.end().result, Ok(()));
    is_ahead
}

#[test]
fn what_a_member_has_read_does_not_count_when_another_one_is_read_by_now() {
    assert!(!is_read_ahead());
    #[cfg(feature = "sim")]
    {
        use crate::bdev::raid::planted::{Bug, plant};
        plant(Some(Bug::FormerReader));
        let is_found = is_read_ahead();
        plant(None);
        assert!(is_found, "the bug that is planted is not found");
    }
}

/// The warden is one more than the reactors of which a controller is asked for queues.
#[test]
fn a_member_that_is_a_namespace_is_filled_beside_the_reactors() {
    let served = Served::start(1, BLOCKS, 512).unwrap();
    let first = disk(1);
    assert!(first.open(ReactorId(0)).store(63, &[7; 512], false, Tick::ZERO));
    let namespace = served.bdev().unwrap();
    // The only reactor has its own.
    let mut channel = namespace.open(ReactorId(0));
    let members: Vec<Arc<dyn Bdev>> = vec![first, Arc::clone(&namespace)];
    let (mirror, starter) = Mirror::new(recipe(members, record(&[1], false), &Kept::default()));
    let handle = starter.handle();
    starter.start().unwrap();
    while mirror.doing() != [Current, Current] {
        std::thread::yield_now();
    }
    drop(mirror);
    while !handle.is_ended() {
        std::thread::yield_now();
    }
    let pool = Pool::ordinary(&[Class { bytes: 4096, count: 1 }]).unwrap();
    let mut io = Some(Io { tag: TAG, op: Op::Read { lba: 63, blocks: 1 }, data: pool.take(512) });
    let mut out = Vec::with_capacity(1);
    while out.is_empty() {
        io = io.and_then(|io| match channel.submit(io, Tick::ZERO) {
            Err(Refused::NotReady(io) | Refused::Full(io)) => Some(io),
            submitted => submitted.map(|()| None).unwrap(),
        });
        channel.kick();
        channel.poll(&mut out, 1, Tick::ZERO);
        std::thread::yield_now();
    }
    let done = out.pop().unwrap();
    assert_eq!((done.result, done.data.unwrap()[0]), (Ok(()), 7));
    drop(channel);
    assert!(served.violations().is_empty(), "{:?}", served.violations());
}

/// A channel whose changes follow each other at once would have their region for ever.
#[test]
fn a_change_of_another_channel_comes_before_what_came_later() {
    let (first, second) = (disk(1), disk(2));
    let (members, faults) = faulty(&first, &second, true);
    let mut rig = Rig::ready(members);
    let mut other = rig.mirror.open(ReactorId(1));
    let hold = faults.add(Rule::everywhere(Kind::Write, Fault::Hold), 1).unwrap();
    rig.submit(Op::Write { lba: 1, blocks: 1, fua: false }, 3);
    assert!(rig.alone().is_empty());
    let large = rig.io(Op::Write { lba: 0, blocks: 64, fua: false }, 5);
    other.submit(large, rig.now).unwrap();
    rig.submit_as(OTHER, Op::Write { lba: 2, blocks: 1, fua: false }, 4);
    faults.release(hold);
    assert_eq!(rig.alone(), [Ok(())], "what came later waits, though the region is free and its own");
    let mut out = Vec::with_capacity(4);
    for _ in 0..20 {
        other.poll(&mut out, 4, rig.now);
    }
    assert_eq!(out.pop().unwrap().result, Ok(()));
    assert_eq!(rig.alone(), [Ok(())]);
    assert_eq!([0, 1, 2].map(|lba| (held(&first, lba), held(&second, lba))), [(5, 5), (5, 5), (4, 4)]);
}
