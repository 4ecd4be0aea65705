//! A node is fenced while a slow device has WRITEs of it: what it has written lands before the other node is told that it is
//! fenced, or never.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lunette::bdev::{Bdev, Channel, ChannelState, Done, Fence, Info, Io, Op, Refused, Wake};
use lunette::id::ReactorId;
use lunette::limits::DRAIN_NS;
use lunette::reactor::{Bug, Planted};
use lunette::slab::Key;
use lunette::time::{SECOND_NS, Tick};
use lunette_initiator::pdu::opcode;
use lunette_initiator::pdu::request::{DataOut, ScsiCommand};
use lunette_initiator::pdu::response::Response;
use lunette_initiator::scsi::{cdb, status};
use lunette_initiator::socket::Wire;
use lunette_initiator::{Client, Command, Config, Offer};

use crate::harness::{Setup, TARGET, World, config, disk, pattern, spec, test_unit_ready, until, write};

const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const PREEMPT_AND_ABORT: u8 = 5;
const WRITE_EXCLUSIVE: u8 = 1;
const A: u64 = 0xa;
const B: u64 = 0xb;

/// How late a slow device writes.
const LATE_NS: u64 = 3 * SECOND_NS;

/// A device that takes its time to *do* what it is asked for: a write reaches its medium long after it was submitted. It
/// cannot be stopped.
#[derive(Debug)]
struct Late {
    inner: Arc<dyn Bdev>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Writes are late from now on.
    is_slow: AtomicBool,
    /// How many have not reached the medium.
    waiting: AtomicUsize,
}

#[derive(Debug)]
struct LateChannel {
    inner: Box<dyn Channel>,
    shared: Arc<Shared>,
    writes: Vec<(Tick, Io)>,
}

impl Bdev for Late {
    fn info(&self) -> Info {
        Info { name: "late".to_owned(), ..self.inner.info() }
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        let (inner, shared) = (self.inner.open(reactor), Arc::clone(&self.shared));
        Box::new(LateChannel { inner, shared, writes: Vec::new() })
    }
}

impl Channel for LateChannel {
    fn state(&self) -> ChannelState {
        self.inner.state()
    }

    fn submit(&mut self, io: Io, now: Tick) -> Result<(), Refused> {
        if matches!(io.op, Op::Write { .. }) && self.shared.is_slow.load(Ordering::Acquire) {
            self.writes.push((now.after_ns(LATE_NS), io));
            self.shared.waiting.fetch_add(1, Ordering::AcqRel);
            return Ok(());
        }
        self.inner.submit(io, now)
    }

    fn kick(&mut self) {
        self.inner.kick();
    }

    fn poll(&mut self, out: &mut Vec<Done>, max: usize, now: Tick) {
        while let Some(due) = self.writes.iter().position(|(due, _)| *due <= now) {
            self.inner.submit(self.writes.remove(due).1, now).unwrap();
            self.shared.waiting.fetch_sub(1, Ordering::AcqRel);
        }
        self.inner.poll(out, max, now);
    }

    fn cancel(&mut self, _tag: Key) {}

    fn fence(&mut self) -> Fence {
        Fence::Cannot
    }

    fn wake(&self) -> Wake {
        let due = self.writes.iter().map(|(due, _)| *due).min();
        match (self.inner.wake(), due) {
            (Wake::Idle, Some(due)) => Wake::At(due),
            (wake, _) => wake,
        }
    }

    fn in_flight(&self) -> u32 {
        u32::try_from(self.writes.len()).unwrap() + self.inner.in_flight()
    }
}

/// The node that is fenced: a connection of hand-made PDUs.
struct Node {
    wire: Wire,
    itt: u32,
    cmd_sn: u32,
}

impl Node {
    fn send(&mut self, cdb: cdb::Cdb, expected_bytes: usize, immediate: &[u8]) {
        self.itt += 1;
        let pdu = ScsiCommand {
            final_bit: true,
            write: expected_bytes > 0,
            itt: self.itt,
            expected_bytes: u32::try_from(expected_bytes).unwrap(),
            cmd_sn: self.cmd_sn,
            cdb,
            ..ScsiCommand::default()
        };
        self.wire.send(&pdu.with(immediate)).unwrap();
        self.cmd_sn += 1;
    }

    fn reserve_out(&mut self, action: u8, key: u64, action_key: u64) {
        let list = cdb::persistent_reserve_out_list(key, action_key);
        self.send(cdb::persistent_reserve_out(action, WRITE_EXCLUSIVE, 24), list.len(), &list);
        let pdu = self.wire.receive().unwrap().unwrap();
        let Response::Scsi(response) = Response::decode(&pdu.bhs) else { panic!("{pdu:?}") };
        assert_eq!((response.itt, response.status), (self.itt, status::GOOD));
    }
}

fn reserve_out(client: &mut Client, action: u8, key: u64, action_key: u64) {
    let list = cdb::persistent_reserve_out_list(key, action_key);
    let command = Command::write(0, cdb::persistent_reserve_out(action, WRITE_EXCLUSIVE, 24), list);
    let end = client.run(command).unwrap();
    assert!(end.is_good(), "{end:?}");
}

/// Node A has WRITEs in a device that is slow to carry them out, and WRITEs whose Data-Out do not come; node B preempts it,
/// writes everywhere, and reads. Whether nothing is there but what B has written.
fn is_all_of_b(planted: Planted) -> bool {
    let world = World::start(Setup { reactors: 2, disks: Vec::new(), planted, ..Setup::default() });
    let shared = Arc::new(Shared::default());
    let (_, _, inner) = disk(0, 1024, 512);
    let late = Arc::new(Late { inner, shared: Arc::clone(&shared) });
    world.control(|control| {
        control.register_bdev(spec(late)).unwrap();
        control.add_lun(TARGET, "late", None).unwrap();
    });
    let mut b = world.client("b");
    assert!(!b.run(test_unit_ready(0)).unwrap().is_good(), "a unit attention");
    let offer = Offer { initial_r2t: Some(true), immediate_data: Some(true), ..Offer::usual() };
    let (wire, outcome) = world.wire(&Config { offer, ..config("a") });
    let placement = world.placement();
    assert_ne!(placement[0], placement[1]);
    let mut a = Node { wire, itt: 0, cmd_sn: outcome.exp_cmd_sn.0 };
    a.send(cdb::test_unit_ready(), 0, &[]);
    let pdu = a.wire.receive().unwrap().unwrap();
    assert_eq!(pdu.bhs.opcode(), opcode::SCSI_RESPONSE, "a unit attention");
    a.reserve_out(REGISTER, 0, A);
    a.reserve_out(RESERVE, A, 0);
    reserve_out(&mut b, REGISTER, 0, B);

    shared.is_slow.store(true, Ordering::Release);
    for index in 0..4u32 {
        let data = pattern(1, u64::from(8 * index), 8, 512);
        a.send(cdb::write_10(8 * index, 8, cdb::Flags::default()), data.len(), &data);
    }
    // Two of which only a part has come, and one of which nothing.
    let mut r2ts = Vec::new();
    for (lba, immediate_blocks) in [(32u32, 4), (64, 1), (96, 0)] {
        let data = pattern(1, u64::from(lba), immediate_blocks, 512);
        a.send(cdb::write_10(lba, 32, cdb::Flags::default()), 32 * 512, &data);
        let pdu = a.wire.receive().unwrap().unwrap();
        let Response::R2t(r2t) = Response::decode(&pdu.bhs) else { panic!("{pdu:?}") };
        r2ts.push((lba, immediate_blocks, r2t));
    }
    until("the device has the WRITEs", || shared.waiting.load(Ordering::Acquire) == 4);

    let start = Instant::now();
    reserve_out(&mut b, PREEMPT_AND_ABORT, B, A);
    assert!(start.elapsed() < Duration::from_nanos(DRAIN_NS));
    shared.is_slow.store(false, Ordering::Release);
    assert!(b.run(write(2, 0, 128)).unwrap().is_good());
    // Now they come after all.
    for (lba, sent, r2t) in r2ts {
        let data = DataOut {
            final_bit: true,
            itt: r2t.itt,
            ttt: r2t.ttt,
            offset_bytes: r2t.offset_bytes,
            ..DataOut::default()
        };
        let bytes = pattern(1, u64::from(lba + sent), 32 - sent, 512);
        a.wire.send(&data.with(bytes)).unwrap();
    }
    // Its answers to everything: TASK ABORTED.
    for _ in 0..7 {
        let pdu = a.wire.receive().unwrap().unwrap();
        let Response::Scsi(response) = Response::decode(&pdu.bhs) else { panic!("{pdu:?}") };
        assert_eq!(response.status, status::TASK_ABORTED);
    }
    until("the device has nothing left", || shared.waiting.load(Ordering::Acquire) == 0);
    b.read(0, 128).unwrap() == pattern(2, 0, 128, 512)
}

#[test]
fn nothing_of_a_fenced_node_lands_after_the_other_was_told() {
    assert!(is_all_of_b(Planted::default()));
}

/// The same without waiting for the device: the test above can fail.
#[test]
fn a_target_that_does_not_wait_is_found_out() {
    assert!(!is_all_of_b(Planted::bug(Bug::ReserveReplyBeforeDrain)));
}
