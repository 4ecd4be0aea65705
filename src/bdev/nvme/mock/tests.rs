//! The PCIe transport over the mock controller: what both say of each other.

use std::sync::Arc;

use super::*;
use crate::bdev::nvme::pci::PciTransport;
use crate::bdev::nvme::queue::{NoPayloads, Payload, Queue};
use crate::bdev::nvme::spec::{Command, Completion, admin, extent_words, identify, nvm};
use crate::bdev::nvme::transport::{AdminData, Progress, Transport};
use crate::buf::{Class, Pool};
use crate::time::{MS_NS, SECOND_NS, Tick};

/// A transport, driven by hand.
struct Hand {
    mock: Mock,
    transport: PciTransport,
    rng: Rng,
    now: Tick,
    pool: Pool,
}

impl Hand {
    fn new(config: Config, seed: u64) -> Hand {
        let mock = Mock::new(config, seed);
        mock.attach(1, Medium::new(100, 512));
        let transport = PciTransport::new(Arc::new(mock.clone()), "mock");
        let pool = Pool::ordinary(&[Class { bytes: 65536, count: 8 }]).unwrap();
        Hand { mock, transport, rng: Rng::new(seed), now: Tick::from_ns(SECOND_NS), pool }
    }

    fn turn(&mut self) {
        self.mock.step(&mut self.rng);
        self.now = self.now.after_ns(MS_NS);
    }

    fn start(&mut self) -> Result<(), String> {
        self.transport.start(self.now);
        loop {
            match self.transport.poll_start(self.now) {
                Progress::Ready(_) => return Ok(()),
                Progress::Failed(why) => return Err(why),
                Progress::Pending => self.turn(),
            }
        }
    }

    fn admin(&mut self, command: &Command, data: AdminData<'_>) -> (Completion, Vec<u8>) {
        assert!(self.transport.submit(9, command, data));
        loop {
            self.turn();
            if let Some((completion, data)) = self.transport.pop(self.now) {
                return (completion, data.map(|page| page.to_vec()).unwrap_or_default());
            }
        }
    }

    /// A pair of queues that knows the pool.
    fn queue(&mut self, entries: u16) -> Box<dyn Queue + Send> {
        for command in self.transport.create_commands(1, entries).unwrap() {
            assert!(self.admin(&command, AdminData::None).0.status.is_ok());
        }
        let Progress::Ready(mut queue) = self.transport.poll_queue(1, entries, self.now) else {
            panic!("the pair is there")
        };
        let region = self.pool.take(1).unwrap().region().unwrap();
        queue.learn(self.transport.map(region.base(), region.bytes()).unwrap().unwrap());
        queue
    }

    fn io(&mut self, queue: &mut dyn Queue, command: &Command, payload: Payload<'_>) -> u16 {
        queue.push(0, 0x300, command, payload).unwrap();
        queue.ring(&mut NoPayloads);
        for _ in 0..1000 {
            self.turn();
            if let Some(completion) = queue.pop(&mut NoPayloads, self.now) {
                queue.acknowledge();
                assert_eq!(completion.cid, 0x300);
                return completion.status.bits();
            }
        }
        panic!("it is not completed");
    }
}

fn command(opcode: u8, lba: u64, blocks: u32, flags: u32) -> Command {
    let [low, high, count] = extent_words(lba, blocks);
    Command { opcode, nsid: 1, cdw10: [low, high, count | flags, 0, 0, 0], ..Command::default() }
}

/// Every shape of controller that the driver is to be tried with.
fn shapes() -> impl Iterator<Item = Config> {
    (0..16).map(|bits: u32| Config {
        doorbell_stride: bits & 1,
        is_scattered: bits & 2 != 0,
        has_shadow_doorbells: bits & 4 != 0,
        is_immediate: bits & 8 != 0,
        mdts: 0,
        ..Config::default()
    })
}

#[test]
fn data_go_there_and_back_in_every_shape() {
    for (seed, config) in (0..).zip(shapes()) {
        let mut hand = Hand::new(config, seed);
        hand.start().unwrap();
        let mut queue = hand.queue(4);
        for (round, blocks) in [1u32, 8, 9, 16, 17, 90].into_iter().cycle().take(12).enumerate() {
            let bytes = blocks as usize * 512;
            let mut out = hand.pool.take(4096 + bytes).unwrap();
            for (n, byte) in out.iter_mut().enumerate() {
                *byte = ((n * 7 + round) % 251) as u8;
            }
            let from = round % 3 * 512;
            let status =
                hand.io(&mut *queue, &command(nvm::WRITE, 3, blocks, 0), Payload::Write(&out, (from, bytes)));
            assert_eq!(status, 0);
            let back = hand.pool.take(4096 + bytes).unwrap();
            let status =
                hand.io(&mut *queue, &command(nvm::READ, 3, blocks, 0), Payload::Read(&back, (512, bytes)));
            assert_eq!(status, 0);
            assert!(back[512..512 + bytes] == out[from..from + bytes], "{blocks} blocks");
            let same = hand.io(
                &mut *queue,
                &command(nvm::COMPARE, 3, blocks, 0),
                Payload::Write(&out, (from, bytes)),
            );
            let other = hand.io(
                &mut *queue,
                &command(nvm::COMPARE, 2, blocks, 0),
                Payload::Write(&out, (from, bytes)),
            );
            assert_eq!((same, other), (0, 0x285));
        }
        let beyond = hand.io(&mut *queue, &command(nvm::READ, 99, 2, 0), Payload::Zeroes(1024));
        assert_eq!(beyond, 0x080);
        assert_eq!(hand.mock.violations(), Vec::<String>::new());
    }
}

#[test]
fn identify_is_read_as_it_was_meant() {
    let mut hand = Hand::new(Config::default(), 1);
    hand.start().unwrap();
    let ask = |cns, nsid| Command {
        opcode: admin::IDENTIFY,
        nsid,
        cdw10: [cns, 0, 0, 0, 0, 0],
        ..Command::default()
    };
    let page = |(completion, data): (Completion, Vec<u8>)| -> [u8; 4096] {
        assert!(completion.status.is_ok());
        data.try_into().unwrap()
    };
    let controller = identify::Controller::decode(&page(hand.admin(&ask(1, 0), AdminData::In)));
    assert_eq!((&*controller.serial, controller.mdts, controller.namespaces), ("MOCK0001", 5, 32));
    assert!(controller.has_write_cache && controller.fuses == 1);
    let namespace = identify::Namespace::decode(&page(hand.admin(&ask(0, 1), AdminData::In))).unwrap();
    assert_eq!((namespace.blocks, namespace.block_bytes, namespace.metadata_bytes), (100, 512, 0));
    assert!(namespace.is_thin && namespace.reads_zeroes);
    assert_eq!(identify::active_namespaces(&page(hand.admin(&ask(2, 0), AdminData::In))), [1]);
    let uuid = identify::uuid(&page(hand.admin(&ask(3, 1), AdminData::In))).unwrap();
    assert_eq!((uuid[..4].to_vec(), uuid[15]), (b"mock".to_vec(), 1));
    assert_eq!(hand.admin(&ask(0x77, 0), AdminData::In).0.status.bits(), 0x002);
}

#[test]
fn queues_are_refused_as_the_specification_says() {
    let mut hand = Hand::new(Config { entries_max: 8, ..Config::default() }, 2);
    hand.start().unwrap();
    let mut tell = |opcode, cdw10: u32, cdw11: u32| {
        let command = Command { opcode, cdw10: [cdw10, cdw11, 0, 0, 0, 0], ..Command::default() };
        hand.admin(&command, AdminData::None).0.status.bits()
    };
    let entries = |count: u32, id: u32| (count - 1) << 16 | id;
    assert_eq!(tell(admin::CREATE_CQ, entries(9, 1), 1), 0x102);
    assert_eq!(tell(admin::CREATE_CQ, entries(8, 0), 1), 0x101);
    assert_eq!(tell(admin::CREATE_CQ, entries(8, 9), 1), 0x101);
    assert_eq!(tell(admin::CREATE_SQ, entries(8, 1), 1 << 16 | 1), 0x100);
    assert_eq!(tell(admin::DELETE_SQ, 1, 0), 0x101);
    assert_eq!(tell(admin::DELETE_CQ, 1, 0), 0x101);
    assert_eq!(tell(admin::SET_FEATURES, 0x07, 0x0003_0001), 0);
    assert_eq!(tell(admin::CREATE_CQ, entries(8, 3), 1), 0x101);
}

#[test]
fn what_the_driver_must_not_do_is_noticed() {
    let mut hand = Hand::new(Config { mdts: 1, ..Config::default() }, 3);
    hand.start().unwrap();
    let mut queue = hand.queue(8);
    let buf = hand.pool.take(65536).unwrap();
    hand.io(&mut *queue, &command(nvm::READ, 0, 17, 0), Payload::Read(&buf, (0, 17 * 512)));
    assert_eq!(hand.mock.violations().len(), 1, "more than MDTS");
    let region = buf.region().unwrap();
    hand.mock.guard(region.base(), region.bytes());
    hand.mock.lend(buf.address(), 512);
    hand.io(&mut *queue, &command(nvm::READ, 0, 1, 0), Payload::Read(&buf, (0, 512)));
    assert_eq!(hand.mock.violations().len(), 1);
    hand.mock.take_back(buf.address());
    let status = hand.io(&mut *queue, &command(nvm::READ, 0, 1, 0), Payload::Read(&buf, (0, 512)));
    assert_eq!((status, hand.mock.violations().len()), (0x004, 2), "memory that was taken back");
}

#[test]
fn a_controller_that_does_not_come_up_is_given_up() {
    for fault in [Fault::NeverReady, Fault::Fatal] {
        let mut hand = Hand::new(Config::default(), 4);
        hand.mock.misbehave(fault, 1);
        let started = hand.start();
        if fault == Fault::NeverReady {
            assert!(started.unwrap_err().contains("CAP.TO"));
        }
        hand.mock.behave();
        hand.start().unwrap();
        assert_eq!(hand.mock.violations(), Vec::<String>::new());
    }
}

#[test]
fn a_controller_that_does_not_stop_loses_its_memory() {
    let mut hand = Hand::new(Config::default(), 5);
    hand.start().unwrap();
    let mut queue = hand.queue(8);
    let buf = hand.pool.take(512).unwrap();
    queue.push(0, 0x100, &command(nvm::READ, 0, 1, 0), Payload::Read(&buf, (0, 512))).unwrap();
    queue.ring(&mut NoPayloads);
    hand.mock.misbehave(Fault::NeverStops, 1);
    hand.mock.misbehave(Fault::ResetFails, 1);
    // What it does until then is allowed: the memory is still its own.
    hand.transport.start(hand.now);
    let why = loop {
        match hand.transport.poll_start(hand.now) {
            Progress::Ready(_) => panic!("it cannot be enabled"),
            Progress::Failed(why) => break why,
            Progress::Pending => hand.now = hand.now.after_ns(SECOND_NS),
        }
    };
    assert!(why.contains("CSTS.RDY stays 1"), "{why}");
    assert!(hand.transport.is_quiet());
    assert_eq!((hand.mock.window_count(), hand.mock.stopped_count()), (0, 0));
    (0..100).for_each(|_| hand.turn());
    assert!(hand.mock.stopped_count() > 0, "it goes on, and reaches nothing");
    assert_eq!(hand.mock.violations(), Vec::<String>::new());
}
