//! A disk that hangs, as it is opened or as it is flushed, holds up nobody who does not need it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};

use lunette::bdev::error::{Fault, Kind};
use lunette::bdev::{Bdev, Channel, Info};
use lunette::id::ReactorId;
use lunette_initiator::scsi::cdb;
use lunette_initiator::session::{Event, Function, Tmf};
use lunette_initiator::{Client, Command, Data, lun};

use crate::harness::{SOON, Setup, TARGET, World, disk, pattern, sense, spec, test_unit_ready, until};

const COMPLETE: u8 = 0;

/// A disk whose open(2) does not return until the test lets it.
#[derive(Debug)]
struct Stuck {
    inner: Arc<dyn Bdev>,
    gate: Mutex<Receiver<()>>,
    is_opening: AtomicBool,
    is_open: AtomicBool,
}

impl Bdev for Stuck {
    fn info(&self) -> Info {
        let info = Info { name: "stuck".to_owned(), ..self.inner.info() };
        if self.is_open.load(Ordering::Acquire) { info } else { Info { blocks: 0, uuid: [0; 16], ..info } }
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        self.inner.open(reactor)
    }

    fn probe(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.is_opening.store(true, Ordering::Release);
        self.gate.lock().unwrap().recv()?;
        self.is_open.store(true, Ordering::Release);
        Ok(())
    }
}

/// What somebody does who has to do with healthy disks only.
fn go_about_ones_business(client: &mut Client, round: u32) {
    client.set_lun(0);
    let (old, new) = (client.read(0, 1).unwrap(), pattern(round, 0, 1, 512));
    let halves = [old, new.clone()].concat();
    assert!(client.run(Command::write(0, cdb::compare_and_write(0, 1), halves)).unwrap().is_good());
    assert!(client.read(0, 1).unwrap() == new);
    assert!(client.command(cdb::synchronize_cache_10(0, 0), Data::None).unwrap().is_good());
    assert_eq!(client.task_management(Tmf::new(Function::LogicalUnitReset, 0)).unwrap(), COMPLETE);
    // BUS DEVICE RESET FUNCTION OCCURRED.
    assert_eq!(sense(&client.run(test_unit_ready(0)).unwrap()), (0x6, 0x29, 0x03));
    for number in 0..3 {
        let read_keys = Command::read(lun::from_number(number), cdb::persistent_reserve_in(0, 8), 8);
        let mut end = client.run(read_keys.clone()).unwrap();
        if !end.is_good() {
            // POWER ON, or LUNs that have changed: told once.
            assert_eq!(sense(&end).0, 0x6);
            end = client.run(read_keys).unwrap();
        }
        assert!(end.is_good(), "LUN {number}: {end:?}");
    }
    assert_eq!(sense(&client.run(test_unit_ready(2)).unwrap()), (0x2, 0x04, 0x00));
}

/// Nothing here waits for 30 seconds; who is held up would be so for ever.
#[test]
fn an_open_and_a_flush_that_hang_hold_up_nobody_else() {
    let world = World::start(Setup { disks: vec![(4096, 512); 2], ..Setup::default() });
    let (let_go, gate) = mpsc::channel();
    let (_, _, inner) = disk(77, 64, 512);
    let (is_opening, is_open) = (AtomicBool::new(false), AtomicBool::new(false));
    let stuck = Arc::new(Stuck { inner, gate: Mutex::new(gate), is_opening, is_open });
    let registered = Arc::clone(&stuck);
    world.control(|control| {
        control.register_bdev(spec(registered)).unwrap();
        control.add_lun(TARGET, "stuck", None).unwrap();
    });
    until("it is being opened", || stuck.is_opening.load(Ordering::Acquire));

    let mut hung = world.client("hung");
    let rule = world.disks[1].order(Kind::Flush, Fault::Lose, 1);
    let sync = Command::new(lun::from_number(1), cdb::synchronize_cache_10(0, 0), Data::None);
    let sync = hung.session().command(sync).unwrap();
    hung.ping(b"").unwrap();
    assert_eq!(world.disks[1].faults.left(rule), 0);

    let mut early = world.client("early");
    go_about_ones_business(&mut early, 1);
    // Who resets a unit waits for what its device has.
    let reset = Tmf::new(Function::LogicalUnitReset, lun::from_number(1));
    let reset = early.session().task_management(reset).unwrap();
    early.ping(b"").unwrap();
    assert_eq!(early.next_event(), None);
    go_about_ones_business(&mut world.client("late"), 2);
    // An operator's changes.
    world.control(|control| {
        let (_, _, more) = disk(78, 64, 512);
        control.register_bdev(spec(more)).unwrap();
        control.add_lun(TARGET, "disk78", None).unwrap();
    });
    let removed = world.change(|control, done, _| control.unregister_bdev("disk78", done));
    assert!(removed.recv_timeout(SOON).unwrap().is_clean);
    go_about_ones_business(&mut early, 3);

    let_go.send(()).unwrap();
    until("it is ready", || early.run(test_unit_ready(2)).unwrap().is_good());
    early.set_lun(lun::from_number(2));
    assert!(early.read(0, 8).unwrap() == vec![0; 4096]);
    world.disks[1].faults.release(rule);
    let answered = Event::TmfResponse { itt: reset, response: COMPLETE };
    // Behind what it was told unasked of the LUN that came and went.
    let mut events = std::iter::repeat_with(|| early.wait_event(SOON).unwrap());
    assert_eq!(events.find(|event| !matches!(event, Some(Event::Async(..)))), Some(Some(answered)));
    // It was aborted by the other's reset (TASK ABORTED, TAS=1), and its initiator is told of that.
    assert_eq!(hung.completion(sync).unwrap().status, 0x40);
    assert_eq!(sense(&hung.run(test_unit_ready(1)).unwrap()), (0x6, 0x29, 0x03));
}

/// An operator takes a disk away that hangs as it is opened, and its name is free at once.
#[test]
fn a_disk_that_hangs_as_it_is_opened_can_be_removed() {
    let world = World::start(Setup::default());
    let (let_go, gate) = mpsc::channel();
    let (_, _, inner) = disk(77, 64, 512);
    let (is_opening, is_open) = (AtomicBool::new(false), AtomicBool::new(false));
    let stuck = Arc::new(Stuck { inner, gate: Mutex::new(gate), is_opening, is_open });
    let registered = Arc::clone(&stuck);
    world.control(|control| control.register_bdev(spec(registered)).unwrap());
    until("it is being opened", || stuck.is_opening.load(Ordering::Acquire));
    let removed = world.change(|control, done, _| control.unregister_bdev("stuck", done));
    assert!(removed.recv_timeout(SOON).unwrap().is_clean);
    let (_, _, other) = disk(79, 64, 512);
    world.control(|control| control.register_bdev(spec(other)).unwrap());
    let_go.send(()).unwrap();
    until("the look is over", || stuck.is_open.load(Ordering::Acquire));
    // It comes too late to be noticed.
    let reread = world.change(|control, done, _| {
        assert!(control.bdev("stuck").is_none());
        control.reread_bdev("disk79", done)
    });
    assert!(reread.recv_timeout(SOON).unwrap().is_clean);
}
