use super::super::shared::{Answer, Order, Query};
use super::*;
use crate::bdev::nvme::port::StopCause;
use crate::limits::GUEST;

fn stop(port: &Port, queue: Box<dyn Queue + Send>, why: StopCause) {
    port.ask(Request::Stop { queue, why }).unwrap();
}

#[test]
fn lanes_get_pairs_of_their_own() {
    let mut bench = Bench::running();
    bench.device().seen.clear();
    let (one, other) = (bench.lane(0), bench.lane(1));
    bench.run(MS_NS);
    assert_eq!((opened(&one).id(), opened(&other).id()), (1, 2));
    let seen = bench.device().seen.clone();
    let mut words: Vec<_> = seen.iter().map(|c| (c.opcode, c.cdw10[0])).collect();
    words.sort_unstable();
    // 256 entries each.
    let expected = [(0x01, 0x00FF_0001), (0x01, 0x00FF_0002), (0x05, 0x00FF_0001), (0x05, 0x00FF_0002)];
    assert_eq!(words, expected);
}

#[test]
fn a_pair_is_deleted_before_its_lane_hears_of_it() {
    let mut bench = Bench::running();
    let port = bench.lane(0);
    bench.run(MS_NS);
    let queue = opened(&port);
    port.ask(Request::Map { base: 0x20_0000, bytes: 4096 }).unwrap();
    port.ask(Request::Map { base: 0x20_0000, bytes: 4096 }).unwrap();
    bench.run(MS_NS);
    for _ in 0..2 {
        let Some(Reply::Mapped { base: 0x20_0000, mapping: Ok(Some(_)) }) = port.reply() else { panic!() };
    }
    bench.device().rules.push((|command| command.opcode == admin::DELETE_CQ, Act::Silent));
    bench.opcodes();
    stop(&port, queue, StopCause::Fence);
    bench.run(SECOND_NS);
    assert!(port.reply().is_none());
    assert_eq!(bench.opcodes(), [admin::DELETE_SQ, admin::DELETE_CQ]);
    assert_eq!(bench.device().mapped, [0x20_0000]);
    // It never answers: the controller is reset, and that ends it.
    bench.run(10 * SECOND_NS);
    assert!(matches!(port.reply(), Some(Reply::Stopped)));
    assert!(port.reply().is_none());
    assert!(bench.device().mapped.is_empty());
    assert_eq!(bench.device().forgotten, [1]);
    assert_eq!(bench.events(), ["lost", "recovered"]);
}

#[test]
fn a_stopped_lane_gets_another_pair_when_it_asks() {
    let mut bench = Bench::running();
    let port = bench.lane(0);
    bench.run(MS_NS);
    let queue = opened(&port);
    stop(&port, queue, StopCause::TimedOut);
    bench.run(MS_NS);
    assert!(matches!(port.reply(), Some(Reply::Stopped)));
    bench.run(SECOND_NS);
    assert!(port.reply().is_none());
    port.ask(Request::Open).unwrap();
    bench.run(MS_NS);
    assert_eq!(opened(&port).id(), 1);
    assert_eq!(bench.device().start_count, 1);
}

#[test]
fn nonsense_resets_the_controller_for_all() {
    let mut bench = Bench::running();
    let (one, other) = (bench.lane(0), bench.lane(1));
    bench.run(MS_NS);
    let (queue, idle) = (opened(&one), opened(&other));
    other.ask(Request::Map { base: 0x40_0000, bytes: 4096 }).unwrap();
    stop(&one, queue, StopCause::Nonsense("it speaks in tongues"));
    bench.run(MS_NS);
    assert!(matches!(one.reply(), Some(Reply::Stopped)));
    assert!(matches!(other.reply(), Some(Reply::Mapped { .. })));
    assert!(matches!(other.reply(), Some(Reply::Stopped)));
    assert!(bench.device().mapped.is_empty());
    assert!(bench.told(Severity::Warn)[0].contains("the IO queue of reactor 0: it speaks in tongues"));
    // The other lane has its old pair yet, and its number.
    one.ask(Request::Open).unwrap();
    let third = bench.lane(2);
    bench.run(MS_NS);
    assert_eq!((opened(&one).id(), opened(&third).id()), (1, 3));
    // What it asked before it knew is void, and not answered.
    other.ask(Request::Map { base: 0x40_0000, bytes: 4096 }).unwrap();
    stop(&other, idle, StopCause::TimedOut);
    other.ask(Request::Open).unwrap();
    bench.run(MS_NS);
    assert_eq!(opened(&other).id(), 2);
    assert!(bench.device().mapped.is_empty());
}

#[test]
fn no_lane_hears_of_a_reset_before_the_device_is_quiet() {
    let mut bench = Bench::running();
    let port = bench.lane(0);
    bench.run(MS_NS);
    let _queue = opened(&port);
    bench.device().quiets = false;
    bench.device().hangs = true;
    bench.device().fault = Some("fatal status");
    bench.run(SECOND_NS);
    assert!(port.reply().is_none());
    assert_eq!(bench.events(), ["lost"]);
    bench.device().is_quiet = true;
    bench.run(MS_NS);
    assert!(matches!(port.reply(), Some(Reply::Stopped)));
}

#[test]
fn the_error_log_says_where_a_command_failed() {
    let mut bench = Bench::running();
    let port = bench.lane(0);
    bench.run(MS_NS);
    let _queue = opened(&port);
    bench.opcodes();
    port.ask(Request::WhichLba { cid: 5 }).unwrap();
    port.ask(Request::WhichLba { cid: 6 }).unwrap();
    bench.run(MS_NS);
    assert!(matches!(port.reply(), Some(Reply::Lba { cid: 5, lba: Some(77) })));
    assert!(matches!(port.reply(), Some(Reply::Lba { cid: 6, lba: None })));
    assert_eq!(bench.opcodes(), [admin::GET_LOG_PAGE], "both by one look");
}

#[test]
fn the_error_log_is_read_until_the_command_is_found() {
    let mut bench = Bench::running();
    bench.device().later_errors = 130;
    let port = bench.lane(0);
    bench.run(MS_NS);
    let _queue = opened(&port);
    bench.opcodes();
    port.ask(Request::WhichLba { cid: 5 }).unwrap();
    bench.run(MS_NS);
    assert!(matches!(port.reply(), Some(Reply::Lba { cid: 5, lba: Some(77) })));
    let words = |command: &Command| (command.cdw10[0] >> 16, command.cdw10[2]);
    let seen = std::mem::take(&mut bench.device().seen);
    let reads: Vec<_> =
        seen.iter().filter(|command| command.opcode == admin::GET_LOG_PAGE).map(words).collect();
    assert_eq!(reads, [(1023, 0), (1023, 4096), (1023, 8192)], "64 entries each");
    // All of it is what an operator gets; 200 entries are all there are.
    let (answer, receiver) = std::sync::mpsc::channel();
    bench.shared.order(Order::Query(Query::Errors, answer));
    bench.run(MS_NS);
    let Ok(Ok(Answer::Errors(entries))) = receiver.try_recv() else { panic!("no answer") };
    assert_eq!((entries.len(), entries[130].count, entries[130].lba), (131, 9, 77));
    // What is not in it is told at its end.
    bench.device().later_errors = 250;
    bench.opcodes();
    port.ask(Request::WhichLba { cid: 5 }).unwrap();
    bench.run(MS_NS);
    assert!(matches!(port.reply(), Some(Reply::Lba { cid: 5, lba: None })));
    let seen = std::mem::take(&mut bench.device().seen);
    let reads: Vec<_> =
        seen.iter().filter(|command| command.opcode == admin::GET_LOG_PAGE).map(words).collect();
    assert_eq!(reads, [(1023, 0), (1023, 4096), (1023, 8192), (127, 12288)]);
}

#[test]
fn aborts_are_no_more_than_the_controller_takes() {
    let mut bench = Bench::running();
    let port = bench.lane(0);
    bench.run(MS_NS);
    let queue = opened(&port);
    bench.device().rules.push((|command| command.opcode == admin::ABORT, Act::Silent));
    bench.opcodes();
    for cid in 0..5 {
        port.ask(Request::Abort { cid }).unwrap();
    }
    bench.run(SECOND_NS);
    let seen = std::mem::take(&mut bench.device().seen);
    assert_eq!(seen.iter().map(|c| c.cdw10[0]).collect::<Vec<_>>(), [0x0000_0001, 0x0001_0001]);
    // The others are about a pair that is gone, by the time that there is room for them.
    stop(&port, queue, StopCause::Fence);
    bench.device().rules.clear();
    bench.run(20 * SECOND_NS);
    assert!(!bench.opcodes().contains(&admin::ABORT));
}

#[test]
fn a_pair_that_is_half_made_is_taken_back() {
    let mut bench = Bench::running();
    let no_queue = 1 << 8 | 0x01;
    bench.device().rules.push((|command| command.opcode == admin::CREATE_SQ, Act::End(0x06, 0)));
    bench.device().rules.push((|command| command.opcode == admin::DELETE_SQ, Act::End(no_queue, 0)));
    bench.opcodes();
    let port = bench.lane(0);
    bench.run(MS_NS);
    assert!(matches!(port.reply(), Some(Reply::Gone)));
    assert_eq!(bench.opcodes(), [admin::CREATE_CQ, admin::CREATE_SQ, admin::DELETE_SQ, admin::DELETE_CQ]);
    assert_eq!(bench.device().forgotten, [1]);
    assert_eq!(bench.shared.life(), Life::Running);
}

#[test]
fn a_closed_lane_leaves_nothing() {
    let mut bench = Bench::running();
    let port = bench.lane(0);
    bench.run(MS_NS);
    let queue = opened(&port);
    port.ask(Request::Map { base: 0x20_0000, bytes: 4096 }).unwrap();
    port.ask(Request::Close { queue: Some(queue) }).unwrap();
    bench.run(MS_NS);
    assert!(bench.device().mapped.is_empty());
    assert_eq!((bench.device().forgotten.clone(), bench.controller.lanes.len()), (vec![1], 0));
    let again = bench.lane(0);
    bench.run(MS_NS);
    assert_eq!(opened(&again).id(), 1);
}

#[test]
fn a_controller_is_given_back_in_order() {
    let mut bench = Bench::running();
    let (one, other) = (bench.lane(0), bench.lane(1));
    bench.run(MS_NS);
    let _queues = (opened(&one), opened(&other));
    one.ask(Request::Map { base: 0x20_0000, bytes: 4096 }).unwrap();
    bench.run(MS_NS);
    assert!(matches!(one.reply(), Some(Reply::Mapped { .. })));
    bench.opcodes();
    bench.shared.order(Order::Detach);
    bench.run(SECOND_NS);
    let mut deleted = bench.opcodes();
    deleted.sort_unstable();
    assert_eq!(deleted, [admin::DELETE_SQ, admin::DELETE_SQ, admin::DELETE_CQ, admin::DELETE_CQ]);
    assert!(bench.device().is_stopped);
    assert!(bench.device().mapped.is_empty());
    assert!(matches!(one.reply(), Some(Reply::Gone)));
    assert!(matches!(other.reply(), Some(Reply::Gone)));
    assert_eq!((bench.shared.life(), bench.events()), (Life::Detached, vec!["removed 1".to_owned()]));
    bench.shared.set_over();
    let late = bench.lane(2);
    assert!(matches!(late.reply(), Some(Reply::Gone)));
}

#[test]
fn a_controller_that_does_not_delete_is_shut_down_all_the_same() {
    let mut bench = Bench::running();
    let port = bench.lane(0);
    bench.run(MS_NS);
    let _queue = opened(&port);
    bench.device().rules.push((|command| command.opcode == admin::DELETE_SQ, Act::Silent));
    bench.shared.order(Order::Detach);
    bench.run(9 * SECOND_NS);
    assert!(port.reply().is_none() && !bench.device().is_stopped);
    bench.run(2 * SECOND_NS);
    assert!(matches!(port.reply(), Some(Reply::Gone)));
    assert!(bench.controller.is_over());
}

#[test]
fn questions_are_answered_or_refused() {
    let mut bench = Bench::running();
    let (sender, receiver) = std::sync::mpsc::channel();
    bench.device().health = 0b100;
    bench.shared.order(Order::Query(Query::Health, sender.clone()));
    bench.shared.order(Order::Query(Query::Errors, sender.clone()));
    bench.run(MS_NS);
    let Ok(Answer::Health(health)) = receiver.try_recv().unwrap() else { panic!() };
    assert_eq!(health.warnings, 4);
    let Ok(Answer::Errors(errors)) = receiver.try_recv().unwrap() else { panic!() };
    assert_eq!((errors.len(), errors[0].lba), (1, 77));
    bench.device().rules.push((|command| command.opcode == admin::GET_LOG_PAGE, Act::Silent));
    bench.shared.order(Order::Query(Query::Health, sender));
    bench.run(11 * SECOND_NS);
    assert_eq!(receiver.try_recv().unwrap(), Err("the controller was reset".to_owned()));
}

/// Mirrors are watched over by threads that are no reactors.
#[test]
fn what_reactors_need_nobody_else_gets() {
    let mut bench = Bench::running();
    let guest = bench.lane(GUEST.0);
    bench.run(MS_NS);
    let queue = opened(&guest);
    assert_eq!(queue.id(), 5, "those of the four reactors are theirs, whoever comes first");
    let others: Vec<_> = (0..4).map(|reactor| bench.lane(reactor)).collect();
    bench.run(MS_NS);
    let ids: Vec<u16> = others.iter().map(|port| opened(port).id()).collect();
    assert_eq!(ids, [1, 2, 3, 4]);
    // One beyond those that were asked for waits until another one is given back.
    let more: Vec<_> = (0..4).map(|_| bench.lane(GUEST.0)).collect();
    bench.run(SECOND_NS);
    let ids: Vec<u16> = more.iter().take(3).map(|port| opened(port).id()).collect();
    assert_eq!(ids, [6, 7, 8]);
    assert!(more[3].reply().is_none());
    guest.ask(Request::Close { queue: Some(queue) }).unwrap();
    bench.run(3 * SECOND_NS);
    assert_eq!(opened(&more[3]).id(), 5);
}

#[test]
fn a_controller_with_queues_for_its_reactors_only_keeps_others_waiting() {
    let mut device = Device::new();
    device.queues = 4;
    let mut bench = Bench::new(device);
    bench.run(SECOND_NS);
    let guest = bench.lane(GUEST.0);
    bench.run(10 * SECOND_NS);
    assert!(guest.reply().is_none(), "it is not gone: that would count against the medium");
    let others: Vec<_> = (0..4).map(|reactor| bench.lane(reactor)).collect();
    bench.run(SECOND_NS);
    let ids: Vec<u16> = others.iter().map(|port| opened(port).id()).collect();
    assert_eq!(ids, [1, 2, 3, 4]);
    guest.ask(Request::Close { queue: None }).unwrap();
    bench.run(3 * SECOND_NS);
    assert_eq!(bench.controller.lanes.len(), 4);
}
