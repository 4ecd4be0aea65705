//! MODE SELECT (SPC-5): what one initiator sets holds for all, who is told, and that a cache switched off is not relied on.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::sync::{Arc, Mutex};

use lunette::bdev::error::{Fault, Faults, Kind, Rule, RuleId};
use lunette::bdev::{Bdev, Channel, ChannelState, Done, Fence, Info, Io, IoError, Op, Refused, Wake};
use lunette::id::ReactorId;
use lunette::scsi::view::LunNumber;
use lunette::slab::Key;
use lunette::time::Tick;
use lunette_initiator::scsi::cdb;
use lunette_initiator::session::{Function, Tmf};
use lunette_initiator::{Client, Command, Data, lun};

use crate::harness::{self, SOON, Setup, TARGET, World, pattern, sense, test_unit_ready, until};

/// Parameter lists of MODE SELECT(6).
const CACHE_OFF: [u8; 24] = [0, 0, 0, 0, 0x08, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const DESCRIPTORS: [u8; 16] = [0, 0, 0, 0, 0x0a, 10, 0x24, 0x10, 0, 0x40, 0, 0, 0, 0, 0, 0];
const PROTECT: [u8; 16] = [0, 0, 0, 0, 0x0a, 10, 0x20, 0x10, 0x08, 0x40, 0, 0, 0, 0, 0, 0];
const AS_IT_WAS: [u8; 16] = [0, 0, 0, 0, 0x0a, 10, 0x20, 0x10, 0, 0x40, 0, 0, 0, 0, 0, 0];

const MODE_CHANGED: (u8, u8, u8) = (0x6, 0x2a, 0x01);

fn mode_select(number: u16, list: &[u8]) -> Command {
    let mut cdb = [0; 16];
    cdb[..5].copy_from_slice(&[0x15, 0x10, 0, 0, u8::try_from(list.len()).unwrap()]);
    Command::write(lun::from_number(number), cdb, list.to_vec())
}

fn is_good(client: &mut Client, command: Command) -> bool {
    client.run(command).unwrap().is_good()
}

#[test]
fn what_one_selects_holds_for_all_and_the_others_are_told() {
    let world = World::start(Setup { reactors: 2, ..Setup::default() });
    let [mut one, mut other] = ["a", "b"].map(|name| world.client(name));
    let beyond = || harness::read(u64::MAX, 1);
    assert_eq!(one.run(beyond()).unwrap().sense[0] & 0x7f, 0x70);

    assert!(is_good(&mut one, mode_select(0, &DESCRIPTORS)));
    assert!(is_good(&mut one, test_unit_ready(0)), "who has asked is not told");
    assert_eq!(sense(&other.run(test_unit_ready(0)).unwrap()), MODE_CHANGED);
    assert!(is_good(&mut other, test_unit_ready(0)), "told once");
    for client in [&mut one, &mut other] {
        assert_eq!(client.run(beyond()).unwrap().sense[0], 0x72);
    }

    assert!(is_good(&mut other, mode_select(0, &PROTECT)));
    assert_eq!(sense(&one.run(test_unit_ready(0)).unwrap()), MODE_CHANGED);
    for client in [&mut one, &mut other] {
        let refused = client.run(harness::write(1, 0, 1)).unwrap();
        assert_eq!((sense(&refused), refused.sense[0]), ((0x7, 0x27, 0x00), 0x70));
        assert!(is_good(client, harness::read(0, 1)));
    }

    assert!(is_good(&mut one, mode_select(0, &AS_IT_WAS)));
    assert!(is_good(&mut one, mode_select(0, &AS_IT_WAS)));
    assert_eq!(sense(&other.run(harness::write(1, 0, 1)).unwrap()), MODE_CHANGED);
    assert!(is_good(&mut other, harness::write(1, 0, 1)), "what changes nothing is told to nobody");
}

#[test]
fn a_wrong_list_is_pointed_at_and_changes_nothing() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    let mut wrong = PROTECT;
    wrong[9] = 0;
    let refused = client.run(mode_select(0, &wrong)).unwrap();
    assert_eq!(sense(&refused), (0x5, 0x26, 0x00));
    // SKSV and BPV, bit 6 of byte 9 of the parameter list.
    assert_eq!(refused.sense[15..18], [0x8e, 0, 9]);
    assert!(is_good(&mut client, harness::write(1, 0, 1)));
}

/// A disk with a volatile cache, and what it was told to do.
#[derive(Debug)]
struct Cached {
    inner: Arc<dyn Bdev>,
    ops: Ops,
}

type Ops = Arc<Mutex<Vec<Op>>>;

#[derive(Debug)]
struct CachedChannel {
    inner: Box<dyn Channel>,
    ops: Ops,
}

impl Bdev for Cached {
    fn info(&self) -> Info {
        Info { write_cache: true, ..self.inner.info() }
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        Box::new(CachedChannel { inner: self.inner.open(reactor), ops: Arc::clone(&self.ops) })
    }
}

impl Channel for CachedChannel {
    fn state(&self) -> ChannelState {
        self.inner.state()
    }

    fn submit(&mut self, io: Io, now: Tick) -> Result<(), Refused> {
        let op = io.op;
        self.inner.submit(io, now)?;
        self.ops.lock().unwrap().push(op);
        Ok(())
    }

    fn kick(&mut self) {
        self.inner.kick();
    }

    fn poll(&mut self, out: &mut Vec<Done>, max: usize, now: Tick) {
        self.inner.poll(out, max, now);
    }

    fn cancel(&mut self, tag: Key) {
        self.inner.cancel(tag);
    }

    fn fence(&mut self) -> Fence {
        self.inner.fence()
    }

    fn wake(&self) -> Wake {
        self.inner.wake()
    }

    fn in_flight(&self) -> u32 {
        self.inner.in_flight()
    }
}

/// LUN 9 has a cache.
fn cached() -> (World, Faults, Ops) {
    let world = World::start(Setup { reactors: 2, ..Setup::default() });
    let (_, faults, inner) = harness::disk(9, 1024, 512);
    let ops = Ops::default();
    let bdev = Arc::new(Cached { inner, ops: Arc::clone(&ops) });
    world.control(move |control| {
        control.register_bdev(harness::spec(bdev)).unwrap();
        control.add_lun(TARGET, "disk9", Some(LunNumber(9))).unwrap();
    });
    (world, faults, ops)
}

/// Whether the cache is shown as switched off.
fn is_cache_off(client: &mut Client) -> bool {
    let mut cdb = [0; 16];
    cdb[..6].copy_from_slice(&[0x1a, 8, 0x08, 0, 24, 0]);
    let page = client.run(Command::read(lun::from_number(9), cdb, 24)).unwrap();
    page.is_good() && page.data[4 + 2] & 0x04 == 0
}

/// Everybody sees that the cache is off, and hosts stop flushing: it is flushed though nobody is told.
#[test]
fn a_cache_that_is_switched_off_is_flushed_though_who_asked_is_gone() {
    let (world, faults, ops) = cached();
    let [mut one, mut other] = ["a", "b"].map(|name| world.client(name));
    for client in [&mut one, &mut other] {
        until("unit attentions are taken", || is_good(client, test_unit_ready(9)));
    }
    let writes = faults.add(Rule::everywhere(Kind::Write, Fault::Hold), 1).unwrap();
    let cdb = cdb::write_16(2, 1, cdb::Flags::default());
    let write = Command::write(lun::from_number(9), cdb, pattern(1, 2, 1, 512));
    let written = other.session().command(write).unwrap();
    other.ping(b"").unwrap();
    assert_eq!(faults.left(writes), 0, "the device has it");
    one.session().command(mode_select(9, &CACHE_OFF)).unwrap();
    one.ping(b"").unwrap();
    let mut watcher = world.client("c");
    until("the change is in force", || is_cache_off(&mut watcher));
    drop(one);
    world.wait_connections(2);
    assert_eq!(*ops.lock().unwrap(), [Op::Write { lba: 2, blocks: 1, fua: false }]);
    faults.release(writes);
    assert!(other.completion(written).unwrap().is_good());
    until("it is flushed", || ops.lock().unwrap().contains(&Op::Flush));
    // Who asks for it again is answered when it was flushed again.
    let flushes =
        faults.add(Rule::everywhere(Kind::Flush, Fault::Fail(IoError::Medium { lba: None })), 1).unwrap();
    until("unit attentions are taken", || is_good(&mut other, test_unit_ready(9)));
    assert!(!is_good(&mut other, mode_select(9, &CACHE_OFF)));
    assert_eq!(faults.left(flushes), 0);
    assert!(is_good(&mut other, mode_select(9, &CACHE_OFF)));
}

/// As many as no test takes.
const MANY: u32 = 1 << 30;

/// Everybody sees that the cache is off: its flush is made again if it is given up, whether it waited for room or was in the device.
#[test]
fn a_flush_that_is_given_up_with_its_command_is_made_again() {
    let (world, faults, ops) = cached();
    let [full, hold] =
        [Fault::Full, Fault::Hold].map(|fault| faults.add(Rule::everywhere(Kind::Flush, fault), 0).unwrap());
    for (rule, is_aborted) in [(full, true), (full, false), (hold, true), (hold, false)] {
        let mut one = world.client("a");
        until("unit attentions are taken", || is_good(&mut one, test_unit_ready(9)));
        ops.lock().unwrap().clear();
        let count = if rule == hold { 1 } else { MANY };
        faults.arm(rule, count);
        let itt = one.session().command(mode_select(9, &CACHE_OFF)).unwrap();
        one.ping(b"").unwrap();
        until("it was tried", || faults.left(rule) < count);
        if is_aborted {
            assert_eq!(one.task_management(Tmf::abort(lun::from_number(9), itt)).unwrap(), 0);
        }
        drop(one);
        world.wait_connections(0);
        faults.arm(full, 0);
        let made = if rule == hold { 2 } else { 1 };
        until("it is made again", || ops.lock().unwrap().len() == made);
        assert_eq!(*ops.lock().unwrap(), [Op::Flush].repeat(made));
        world.wait_sessions(0);
    }
}

/// The same where nobody waits for it any more, and another one resets the unit.
#[test]
fn a_flush_that_is_given_up_by_a_reset_is_made_again() {
    let (world, faults, ops) = cached();
    let [mut one, mut other] = ["a", "b"].map(|name| world.client(name));
    for client in [&mut one, &mut other] {
        until("unit attentions are taken", || is_good(client, test_unit_ready(9)));
    }
    let flushes = switch_off_and_leave(&world, &faults, one, &mut other, Fault::Hold, 1);
    let reset = Tmf { function: Function::LogicalUnitReset, ..Tmf::abort(lun::from_number(9), 0) };
    assert_eq!(other.task_management(reset).unwrap(), 0);
    until("it is made again", || ops.lock().unwrap().iter().filter(|op| **op == Op::Flush).count() == 2);
    assert_eq!(faults.left(flushes), 0);
}

/// PERSISTENT RESERVE OUT.
fn reserve_out(action: u8, key: u8, service_key: u8) -> Command {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[8]) = (0x5f, action, 24);
    let mut list = vec![0; 24];
    (list[7], list[15]) = (key, service_key);
    Command::write(lun::from_number(9), cdb, list)
}

/// The same where another one aborts the command together with the registration of who has asked.
#[test]
fn a_flush_that_is_given_up_by_a_preemption_is_made_again() {
    let (world, faults, ops) = cached();
    let [mut one, mut other] = ["a", "b"].map(|name| world.client(name));
    for (client, key) in [(&mut one, 1), (&mut other, 2)] {
        until("unit attentions are taken", || is_good(client, test_unit_ready(9)));
        assert!(is_good(client, reserve_out(0, 0, key)), "REGISTER");
    }
    let hold = faults.add(Rule::everywhere(Kind::Flush, Fault::Hold), 1).unwrap();
    one.session().command(mode_select(9, &CACHE_OFF)).unwrap();
    one.ping(b"").unwrap();
    until("the device has it", || faults.left(hold) == 0);
    until("it is preempted", || is_good(&mut other, reserve_out(5, 2, 1)));
    until("it is made again", || *ops.lock().unwrap() == [Op::Flush; 2]);
}

/// Switches the cache off and leaves before that is answered. Returns when the flush, which nobody waits for, has met this fault.
fn switch_off_and_leave(
    world: &World,
    faults: &Faults,
    mut one: Client,
    other: &mut Client,
    fault: Fault,
    count: u32,
) -> RuleId {
    let writes = faults.add(Rule::everywhere(Kind::Write, Fault::Hold), 1).unwrap();
    let flushes = faults.add(Rule::everywhere(Kind::Flush, fault), count).unwrap();
    let cdb = cdb::write_16(2, 1, cdb::Flags::default());
    let write = Command::write(lun::from_number(9), cdb, pattern(1, 2, 1, 512));
    let written = other.session().command(write).unwrap();
    other.ping(b"").unwrap();
    one.session().command(mode_select(9, &CACHE_OFF)).unwrap();
    one.ping(b"").unwrap();
    until("the change is in force", || is_cache_off(other));
    drop(one);
    world.wait_connections(1);
    faults.release(writes);
    assert!(other.completion(written).unwrap().is_good());
    until("it was tried", || faults.left(flushes) < count);
    flushes
}

/// One that a device gives back by itself might be so for ever.
#[test]
fn a_flush_that_the_device_cancels_is_not_made_again() {
    let (world, faults, _) = cached();
    let mut one = world.client("a");
    until("unit attentions are taken", || is_good(&mut one, test_unit_ready(9)));
    let full = faults.add(Rule::everywhere(Kind::Flush, Fault::Full), MANY).unwrap();
    let cancelled = Rule::everywhere(Kind::Flush, Fault::Fail(IoError::Cancelled));
    let cancelled = faults.add(cancelled, MANY).unwrap();
    let itt = one.session().command(mode_select(9, &CACHE_OFF)).unwrap();
    one.ping(b"").unwrap();
    until("it was tried", || faults.left(full) < MANY);
    assert_eq!(one.task_management(Tmf::abort(lun::from_number(9), itt)).unwrap(), 0);
    faults.arm(full, 0);
    until("the device has it", || faults.left(cancelled) < MANY);
    for _ in 0..10 {
        one.ping(b"").unwrap();
    }
    assert_eq!(faults.left(cancelled), MANY - 1);
}

/// Nothing else is in the way of a disk that is taken out of service.
#[test]
fn a_flush_that_nobody_waits_for_does_not_keep_its_unit() {
    let (world, faults, _) = cached();
    let [mut one, mut other] = ["a", "b"].map(|name| world.client(name));
    for client in [&mut one, &mut other] {
        until("unit attentions are taken", || is_good(client, test_unit_ready(9)));
    }
    switch_off_and_leave(&world, &faults, one, &mut other, Fault::Full, MANY);
    let removed = world.change(|control, done, _| control.unregister_bdev("disk9", done));
    assert!(removed.recv_timeout(SOON).unwrap().is_clean);
}

#[test]
fn a_cache_that_is_switched_off_is_flushed_and_written_through() {
    let (world, faults, ops) = cached();
    let told = || std::mem::take(&mut *ops.lock().unwrap());
    let [mut one, mut other] = ["a", "b"].map(|name| {
        let mut client = world.client(name);
        until("unit attentions are taken", || is_good(&mut client, test_unit_ready(9)));
        client
    });
    let write = |lba| {
        let cdb = cdb::write_16(lba, 1, cdb::Flags::default());
        Command::write(lun::from_number(9), cdb, pattern(1, lba, 1, 512))
    };
    assert!(is_good(&mut one, write(1)));
    assert_eq!(told(), [Op::Write { lba: 1, blocks: 1, fua: false }]);

    // A write that is on its way is waited for, then the flush is.
    let writes = faults.add(Rule::everywhere(Kind::Write, Fault::Hold), 1).unwrap();
    let flushes = faults.add(Rule::everywhere(Kind::Flush, Fault::Hold), 1).unwrap();
    let written = other.session().command(write(2)).unwrap();
    other.ping(b"").unwrap();
    let selected = one.session().command(mode_select(9, &CACHE_OFF)).unwrap();
    one.ping(b"").unwrap();
    let mut watcher = world.client("c");
    until("the change is in force", || is_cache_off(&mut watcher));
    one.ping(b"").unwrap();
    assert_eq!(one.next_event(), None);
    assert_eq!(told(), [Op::Write { lba: 2, blocks: 1, fua: false }], "no flush before it has come back");
    faults.release(writes);
    until("it is flushed", || faults.left(flushes) == 0);
    one.ping(b"").unwrap();
    assert_eq!(one.next_event(), None, "no answer before the flush has");
    faults.release(flushes);
    assert!(one.completion(selected).unwrap().is_good());
    assert!(other.completion(written).unwrap().is_good());
    assert_eq!(told(), [Op::Flush]);

    assert_eq!(sense(&other.run(write(3)).unwrap()), MODE_CHANGED);
    for client in [&mut one, &mut other] {
        assert!(is_good(client, write(3)));
        assert_eq!(told(), [Op::Write { lba: 3, blocks: 1, fua: true }]);
    }
    let same = Command::write(lun::from_number(9), cdb::write_same_16(4, 2, false), vec![0; 512]);
    assert!(is_good(&mut one, same));
    assert_eq!(told(), [Op::WriteZeroes { lba: 4, blocks: 2, fua: true, may_unmap: false }]);
    let list = cdb::unmap_list(&[(6, 2)]);
    let unmap = Command::new(lun::from_number(9), cdb::unmap(24), Data::Out(Arc::new(list)));
    assert!(is_good(&mut one, unmap));
    assert_eq!(told(), [Op::Unmap { lba: 6, blocks: 2 }, Op::Flush]);
}
