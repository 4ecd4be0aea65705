//! The transport: registers in their order, and controllers that do not follow.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Habit, TestBus};
use crate::bdev::nvme::pci::PciTransport;
use crate::bdev::nvme::pci::registers::CSTS;
use crate::bdev::nvme::spec::{Command, admin};
use crate::bdev::nvme::transport::{AdminData, Progress, Transport};
use crate::time::{SECOND_NS, Tick};

fn at(seconds: u64) -> Tick {
    Tick::from_ns(seconds * SECOND_NS)
}

fn transport(bus: &Arc<TestBus>) -> PciTransport {
    PciTransport::new(bus.clone(), "0000:01:00.0")
}

/// Polls until it fails, a second at a time.
fn failure(transport: &mut PciTransport) -> String {
    for second in 0..60 {
        match transport.poll_start(at(second)) {
            Progress::Pending => {}
            Progress::Failed(why) => return why,
            Progress::Ready(limits) => panic!("ready: {limits:?}"),
        }
    }
    panic!("it never gives up");
}

/// A transport that is ready.
fn started(bus: &Arc<TestBus>) -> PciTransport {
    let mut transport = transport(bus);
    transport.start(at(0));
    while matches!(transport.poll_start(at(0)), Progress::Pending) {}
    assert!(matches!(transport.poll_start(at(0)), Progress::Ready(_)));
    transport
}

#[test]
fn registers_are_set_in_order() {
    let bus = TestBus::new(Habit::Obeys);
    let mut transport = transport(&bus);
    assert!(transport.is_quiet());
    transport.start(at(0));
    assert!(matches!(transport.poll_start(at(0)), Progress::Pending));
    let Progress::Ready(limits) = transport.poll_start(at(0)) else { panic!("not ready") };
    assert_eq!((limits.entries_max, limits.version), (1024, 0x0001_0400));
    assert_eq!((limits.page_bytes_min, limits.needs_keep_alive), (4096, false));
    assert!(!transport.is_quiet());
    let (submission, completion) = transport.admin_addresses();
    let written = bus.written();
    let halves = |offset: usize| {
        let half = |offset| written.iter().find(|(at, _)| *at == offset).map(|(_, value)| u64::from(*value));
        half(offset).unwrap() | half(offset + 4).unwrap() << 32
    };
    assert_eq!((halves(0x28), halves(0x30)), (submission, completion));
    let order: Vec<usize> = written.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(order, [0x14, 0x24, 0x28, 0x2C, 0x30, 0x34, 0x14, 0x14]);
    assert_eq!((written[0].1, written[1].1), (0, 0x001F_001F));
    assert_eq!((written[6].1, written[7].1), (0x0046_0000, 0x0046_0001));
}

#[test]
fn a_controller_that_sleeps_is_given_up_and_harmless() {
    let bus = TestBus::new(Habit::Sleeps);
    let mut transport = transport(&bus);
    transport.start(at(0));
    assert_eq!(failure(&mut transport), "the controller did not become ready in time (CAP.TO)");
    assert!(transport.is_quiet());
    assert_eq!(bus.unmapped.lock().unwrap().len(), 1, "its admin queue");
}

#[test]
fn a_fatal_state_is_told() {
    let bus = TestBus::new(Habit::Dies);
    let mut transport = transport(&bus);
    transport.start(at(0));
    assert_eq!(failure(&mut transport), "the controller reports a fatal state (CSTS.CFS)");
    bus.set(CSTS, 2);
    assert!(transport.check().unwrap_err().contains("CSTS.CFS"));
}

#[test]
fn what_cannot_be_disabled_is_reset_and_then_loses_its_mappings() {
    let bus = TestBus::new(Habit::Obeys);
    let mut transport = started(&bus);
    let pool = transport.map(0x1000_0000, 0x20_0000).unwrap().unwrap();
    transport.create_commands(1, 16).unwrap();
    let Progress::Ready(queue) = transport.poll_queue(1, 16, at(0)) else { panic!("no queue") };
    bus.behave(Habit::Sleeps);
    transport.start(at(0));
    assert!(!transport.is_quiet());
    assert_eq!(queue.fault(), Some("the pair of queues was taken away"));
    let why = failure(&mut transport);
    assert!(why.contains("RDY stays 1") && why.ends_with("not even by a reset of the device"), "{why}");
    assert_eq!(*bus.resets.lock().unwrap(), Ok(1));
    assert!(transport.is_quiet());
    let unmapped = bus.unmapped.lock().unwrap().clone();
    assert_eq!((unmapped.len(), &unmapped[0]), (3, &pool));
    transport.unmap(&pool);
    assert_eq!(bus.unmapped.lock().unwrap().len(), 3, "it was taken already");
}

#[test]
fn without_an_iommu_and_without_a_reset_nothing_is_given_back() {
    let bus = TestBus::new(Habit::Obeys);
    bus.is_fenced.store(false, Ordering::Relaxed);
    *bus.resets.lock().unwrap() = Err("no reset".to_owned());
    let mut transport = started(&bus);
    bus.behave(Habit::Sleeps);
    transport.start(at(0));
    assert!(failure(&mut transport).ends_with("no reset"));
    assert!(!transport.is_quiet());
    drop(transport);
    assert_eq!(bus.unmapped.lock().unwrap().len(), 0);
}

#[test]
fn without_an_iommu_and_without_a_reset_bus_mastering_is_taken() {
    let bus = TestBus::new(Habit::Obeys);
    bus.is_fenced.store(false, Ordering::Relaxed);
    *bus.resets.lock().unwrap() = Err("no reset".to_owned());
    *bus.has_access.lock().unwrap() = Some(true);
    let mut transport = started(&bus);
    bus.behave(Habit::Sleeps);
    transport.start(at(0));
    assert!(!transport.is_quiet());
    assert!(failure(&mut transport).ends_with("no reset"));
    assert!(transport.is_quiet());
    assert_eq!((*bus.has_access.lock().unwrap(), bus.unmapped.lock().unwrap().len()), (Some(false), 1));
    // It gets it back once it is disabled, and not before.
    transport.start(at(100));
    assert!(matches!(transport.poll_start(at(100)), Progress::Pending));
    assert_eq!(*bus.has_access.lock().unwrap(), Some(false));
    bus.set(CSTS, 0);
    bus.behave(Habit::Obeys);
    while matches!(transport.poll_start(at(100)), Progress::Pending) {}
    assert!(matches!(transport.poll_start(at(100)), Progress::Ready(_)));
    assert_eq!(*bus.has_access.lock().unwrap(), Some(true));
}

#[test]
fn a_device_that_is_pulled_out_is_noticed() {
    let bus = TestBus::new(Habit::Obeys);
    let mut transport = started(&bus);
    assert_eq!(transport.check(), Ok(()));
    bus.registers.lock().unwrap().fill(u32::MAX);
    bus.behave(Habit::Sleeps);
    assert!(transport.check().unwrap_err().starts_with("the device is gone"));
    transport.start(at(0));
    assert!(failure(&mut transport).starts_with("the device is gone"));
    assert!(transport.is_quiet());
}

#[test]
fn shutting_down_is_told_and_waited_for() {
    let bus = TestBus::new(Habit::Obeys);
    let mut transport = started(&bus);
    bus.written();
    transport.stop(at(0));
    while matches!(transport.poll_stop(at(0)), Progress::Pending) {}
    assert!(matches!(transport.poll_stop(at(0)), Progress::Ready(())));
    assert_eq!(bus.written(), [(0x14, 0x0046_4001), (0x14, 0x0046_0000)]);
    assert!(transport.is_quiet());
}

#[test]
fn queues_are_made_of_one_piece_and_without_interrupts() {
    let bus = TestBus::new(Habit::Obeys);
    let mut transport = started(&bus);
    let commands = transport.create_commands(5, 1024).unwrap();
    assert_eq!(
        commands[0],
        Command { opcode: 0x05, cdw10: [0x03FF_0005, 1, 0, 0, 0, 0], ..Command::default() }
    );
    assert_eq!(
        commands[1],
        Command { opcode: 0x01, cdw10: [0x03FF_0005, 0x0005_0001, 0, 0, 0, 0], ..Command::default() }
    );
    assert!(transport.create_commands(5, 64).unwrap_err().contains("in use"));
    assert!(transport.create_commands(6, 1025).unwrap_err().contains("2 to 1024"));
    assert!(transport.create_commands(6, 1).unwrap_err().contains("2 to 1024"));
    assert!(transport.create_commands(300, 64).unwrap_err().contains("beyond"), "doorbells end at 8192");
    let deleted = transport.delete_commands(5);
    assert_eq!(
        deleted.iter().map(|command| (command.opcode, command.cdw10[0])).collect::<Vec<_>>(),
        [(0, 5), (4, 5)]
    );
    transport.forget_queue(5);
    assert_eq!(bus.unmapped.lock().unwrap().len(), 1);
    assert!(matches!(transport.poll_queue(5, 1024, at(0)), Progress::Failed(_)));
}

#[test]
fn admin_commands_come_back_with_their_data() {
    let bus = TestBus::new(Habit::Obeys);
    let mut transport = started(&bus);
    bus.written();
    let identify = Command { opcode: admin::IDENTIFY, cdw10: [1, 0, 0, 0, 0, 0], ..Command::default() };
    assert!(transport.submit(77, &identify, AdminData::In));
    assert!(transport.submit(78, &identify, AdminData::Out(&[1, 2, 3])));
    assert_eq!(bus.written(), [(0x1000, 1), (0x1000, 2)]);
    let dma = transport.admin_dma();
    // Queues of a page each; then a page for each slot. The first entry leads to its page.
    let page = dma.device(0x2000).to_le_bytes();
    assert_eq!([dma.load(24).to_le_bytes(), dma.load(28).to_le_bytes()].concat(), page);
    assert_eq!(dma.load(0x3000), 0x0003_0201);
    dma.store(0x2000, 0x1122_3344_5566_7788);
    dma.store(0x1000 + 8, (77 | 1 << 16) << 32 | 1);
    let (completion, data) = transport.pop(at(0)).unwrap();
    assert_eq!((completion.cid, completion.sq_head), (77, 1));
    assert_eq!(data.unwrap()[..9], [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0]);
    assert!(transport.pop(at(0)).is_none());
    // A command that nobody sent is passed on, for its receiver to judge.
    transport.admin_dma().store(0x1000 + 24, (5 | 1 << 16) << 32 | 2);
    let (completion, data) = transport.pop(at(0)).unwrap();
    assert_eq!((completion.cid, data), (5, None));
}

#[test]
fn the_admin_queue_has_31_places() {
    let bus = TestBus::new(Habit::Obeys);
    let mut transport = started(&bus);
    let event = Command { opcode: admin::ASYNC_EVENT, ..Command::default() };
    assert!((0..31).all(|cid| transport.submit(cid, &event, AdminData::None)));
    assert!(!transport.submit(31, &event, AdminData::None));
}

#[test]
fn doorbells_go_to_memory_once_the_controller_agrees() {
    let bus = TestBus::new(Habit::Obeys);
    let mut transport = started(&bus);
    let config = Command { opcode: admin::DOORBELL_BUFFER, ..Command::default() };
    assert!(transport.submit(1, &config, AdminData::None));
    let (doorbells, events) = transport.shadow_addresses();
    let pointer = |transport: &PciTransport, at: usize| {
        let dma = transport.admin_dma();
        u64::from(dma.load(at)) | u64::from(dma.load(at + 4)) << 32
    };
    assert_eq!((pointer(&transport, 24), pointer(&transport, 32)), (doorbells, events));
    transport.admin_dma().store(0x1000 + 8, (1 | 1 << 16) << 32 | 1);
    assert!(transport.pop(at(0)).is_some());
    transport.create_commands(1, 16).unwrap();
    let Progress::Ready(mut queue) = transport.poll_queue(1, 16, at(0)) else { panic!("no queue") };
    bus.written();
    let flush = Command::default();
    queue.push(0, 0, &flush, crate::bdev::nvme::queue::Payload::None).unwrap();
    queue.ring(&mut super::queue::Nothing);
    assert_eq!(bus.written(), [(0x1010, 1)], "the index says 0: from 0 to 1 must be told");
    queue.push(1, 1, &flush, crate::bdev::nvme::queue::Payload::None).unwrap();
    queue.ring(&mut super::queue::Nothing);
    assert_eq!(bus.written(), [], "memory is enough");
    assert_eq!(transport.shadow_dma().load(0x10), 2);
}
