//! Rings and queues: entries as they lie in memory, doorbells, completions good and bad.

use std::sync::Arc;

use super::{Habit, TestBus};
use crate::bdev::Wake;
use crate::bdev::nvme::bus::Bus;
use crate::bdev::nvme::pci::queue::PciQueue;
use crate::bdev::nvme::pci::ring::Pair;
use crate::bdev::nvme::pci::shadow::Doorbell;
use crate::bdev::nvme::queue::{Payload, Payloads, PushError, Queue};
use crate::bdev::nvme::spec::{Command, Range, nvm};
use crate::buf::{Class, Memory, Pages, Pool};
use crate::time::Tick;

pub(super) struct Nothing;

impl Payloads for Nothing {
    fn source(&self, _cid: u16) -> Option<&[u8]> {
        None
    }

    fn sink(&mut self, _cid: u16) -> Option<&mut [u8]> {
        None
    }
}

/// Queue 3 with four entries; its doorbells are at 0x1030 and 0x1038.
struct World {
    bus: Arc<TestBus>,
    pair: Arc<Pair>,
    queue: PciQueue,
}

impl World {
    fn new() -> World {
        let bus = TestBus::new(Habit::Obeys);
        let shared: Arc<dyn Bus> = bus.clone();
        let pair = Arc::new(PciQueue::allocate(&shared, 3, 4).unwrap());
        let doorbells = (Doorbell::new(0x1030), Doorbell::new(0x1038));
        let queue = PciQueue::new(shared, Arc::clone(&pair), doorbells);
        World { bus, pair, queue }
    }

    fn push(&mut self, cid: u16) {
        self.queue.push(0, cid, &READ, Payload::None).unwrap();
    }

    /// The controller's completion at this place: for queue `sq_id`, with this head and phase.
    fn complete(&self, at: usize, cid: u16, sq_id: u16, sq_head: u16, phase: u32) {
        let middle =
            u64::from(sq_id) << 16 | u64::from(sq_head) | u64::from(u32::from(cid) | phase << 16) << 32;
        self.pair.dma.store(4096 + 16 * at, 0x55);
        self.pair.dma.store(4096 + 16 * at + 8, middle);
    }

    fn pop(&mut self) -> Option<u16> {
        self.queue.pop(&mut Nothing, Tick::ZERO).map(|completion| completion.cid)
    }

    /// The entry at this place, in words.
    fn entry(&self, at: usize) -> [u32; 16] {
        std::array::from_fn(|word| self.pair.dma.load(64 * at + 4 * word))
    }
}

const READ: Command = Command { opcode: nvm::READ, nsid: 7, cdw10: [0x1000, 0, 7, 0, 0, 0], ..FLUSH };
const FLUSH: Command =
    Command { opcode: 0, fuse: crate::bdev::nvme::spec::Fuse::Alone, nsid: 0, cdw10: [0; 6] };

#[test]
fn entries_are_written_and_told_once() {
    let mut world = World::new();
    world.queue.ring(&mut Nothing);
    assert_eq!(world.bus.written(), [], "nothing to tell");
    world.push(0xAB);
    world.push(0xAC);
    assert_eq!(world.bus.written(), [], "not told yet");
    world.queue.ring(&mut Nothing);
    world.queue.ring(&mut Nothing);
    assert_eq!(world.bus.written(), [(0x1030, 2)]);
    assert_eq!(world.entry(0), [0x00AB_0002, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0x1000, 0, 7, 0, 0, 0]);
    assert_eq!(world.entry(1)[0], 0x00AC_0002);
    assert_eq!(world.queue.wake(), Wake::MustPoll);
}

#[test]
fn completions_are_taken_by_their_phase_round_after_round() {
    let mut world = World::new();
    assert_eq!((world.queue.depth(), world.queue.wake(), world.pop()), (3, Wake::Idle, None));
    for (index, phase) in [(0, 1), (1, 1), (2, 1), (3, 1), (0, 0), (1, 0), (2, 0), (3, 0), (0, 1)] {
        world.push(9);
        assert_eq!(world.pop(), None, "not completed yet");
        world.complete(index, 9, 3, 1, phase);
        assert_eq!(world.pop(), Some(9));
        assert_eq!(world.pop(), None, "taken once");
    }
    world.bus.written();
    world.queue.acknowledge();
    world.queue.acknowledge();
    assert_eq!(world.bus.written(), [(0x1038, 1)]);
    assert_eq!(world.queue.fault(), None);
}

#[test]
fn a_full_queue_takes_nothing() {
    let mut world = World::new();
    (0..3).for_each(|cid| world.push(cid));
    assert_eq!(world.queue.push(0, 3, &READ, Payload::None), Err(PushError::Broken));
    assert_eq!(world.queue.fault(), None);
}

#[test]
fn a_stuck_phase_gives_no_more_completions_than_commands() {
    let mut world = World::new();
    world.push(1);
    (0..4).for_each(|at| world.complete(at, 1, 3, 1, 1));
    assert_eq!((world.pop(), world.queue.fault()), (Some(1), None));
    assert_eq!((world.pop(), world.queue.fault()), (None, Some("more completions than commands")));
    assert_eq!(world.queue.push(0, 2, &READ, Payload::None), Err(PushError::Broken));
}

#[test]
fn a_completion_of_another_queue_is_a_fault() {
    let mut world = World::new();
    world.push(1);
    world.complete(0, 1, 2, 1, 1);
    assert_eq!((world.pop(), world.queue.fault()), (None, Some("a completion of another queue")));
}

#[test]
fn a_head_beyond_the_queue_is_a_fault() {
    let mut world = World::new();
    world.push(1);
    world.complete(0, 1, 3, 4, 1);
    assert_eq!((world.pop(), world.queue.fault()), (None, Some("a submission queue head beyond the queue")));
}

#[test]
fn a_closed_pair_rings_nothing_and_still_gives_what_was_completed() {
    let mut world = World::new();
    world.push(1);
    world.complete(0, 1, 3, 1, 1);
    world.pair.close();
    world.queue.ring(&mut Nothing);
    assert_eq!(world.pop(), Some(1));
    world.queue.acknowledge();
    assert_eq!(world.bus.written(), []);
    assert_eq!(world.queue.fault(), Some("the pair of queues was taken away"));
    assert_eq!(world.queue.push(0, 2, &READ, Payload::None), Err(PushError::Broken));
}

#[test]
fn zeroes_are_one_page_many_times() {
    let mut world = World::new();
    // Queues take a page each, the slots' memory one more; then the zeroes, then their list.
    let zeroes = world.pair.dma.device(0x3000);
    let pointers = |world: &World, at| {
        let words = world.entry(at);
        (u64::from(words[6]) | u64::from(words[7]) << 32, u64::from(words[8]) | u64::from(words[9]) << 32)
    };
    world.queue.push(0, 0, &READ, Payload::Zeroes(4096)).unwrap();
    world.queue.push(1, 1, &READ, Payload::Zeroes(4608)).unwrap();
    world.queue.push(2, 2, &READ, Payload::Zeroes(256 * 1024)).unwrap();
    assert_eq!(pointers(&world, 0), (zeroes, 0));
    assert_eq!(pointers(&world, 1), (zeroes, zeroes));
    assert_eq!(pointers(&world, 2), (zeroes, zeroes + 0x1000));
    let mut list = [0; 512];
    world.pair.dma.load_bytes(0x4000, &mut list);
    assert!(list.chunks(8).all(|entry| entry == zeroes.to_le_bytes()));
    let mut page = [1; 4096];
    world.pair.dma.load_bytes(0x3000, &mut page);
    assert_eq!(page, [0; 4096]);
}

#[test]
fn inline_bytes_lie_in_the_slots_memory() {
    let mut world = World::new();
    let range = Range::of_copy(0x0807_0605_0403_0201, 0x1_0000);
    world.queue.push(2, 0, &READ, Payload::Inline(&range)).unwrap();
    let mut stored = [0; 32];
    world.pair.dma.load_bytes(0x2000 + 2 * 512, &mut stored);
    assert_eq!(stored, range.bytes());
    let device = world.pair.dma.device(0x2400).to_le_bytes();
    let words = world.entry(0);
    assert_eq!([words[6].to_le_bytes(), words[7].to_le_bytes()].concat(), device);
}

#[test]
fn a_buffer_is_reached_once_its_pool_is_known() {
    let mut world = World::new();
    let memory = Memory::map(32 * 1024, Pages::Ordinary).unwrap();
    let pool = Pool::new(memory, &[Class { bytes: 32 * 1024, count: 1 }]);
    let buf = pool.take(32 * 1024).unwrap();
    let whole = Payload::Read(&buf, (512, 32 * 1024 - 512));
    assert_eq!(world.queue.push(1, 0, &READ, whole), Err(PushError::Unmapped));
    let region = buf.region().unwrap();
    world.queue.learn(world.bus.map(region.base(), region.bytes()).unwrap());
    world.queue.push(1, 0, &READ, whole).unwrap();
    let device = buf.address() as u64 + super::OFFSET;
    let mut list = [0; 16];
    world.pair.dma.load_bytes(0x2000 + 512, &mut list);
    assert_eq!(list, [device + 4096, device + 8192].map(u64::to_le_bytes).concat()[..]);
    let beyond = Payload::Write(&buf, (1, usize::MAX));
    assert_eq!(world.queue.push(0, 1, &READ, beyond), Err(PushError::Broken));
    assert_eq!(world.queue.fault(), Some("a command with data that no pointer can name"));
}
