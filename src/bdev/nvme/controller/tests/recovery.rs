use super::super::shared::Order;
use super::*;

fn lost(bench: &mut Bench) {
    bench.device().fault = Some("its registers are all ones: it was pulled out");
}

#[test]
fn a_reset_from_outside_is_the_second_try() {
    let mut bench = Bench::running();
    let port = bench.lane(0);
    bench.run(MS_NS);
    let _queue = opened(&port);
    bench.device().starts.push_back(Err("it does not become ready"));
    bench.shared.order(Order::Reset);
    bench.run(SECOND_NS);
    assert_eq!(bench.resets(), (3, 1));
    assert_eq!(bench.events(), ["lost", "recovered"]);
    assert!(matches!(port.reply(), Some(Reply::Stopped)));
    assert!(port.reply().is_none());
}

#[test]
fn a_controller_that_was_pulled_out_is_gone_once_it_is_quiet() {
    let mut bench = Bench::running();
    let port = bench.lane(0);
    bench.run(MS_NS);
    let _queue = opened(&port);
    port.ask(Request::Map { base: 0x20_0000, bytes: 4096 }).unwrap();
    bench.run(MS_NS);
    assert!(matches!(port.reply(), Some(Reply::Mapped { .. })));
    let disk = bench.shared.disks().remove(0);
    bench.device().quiets = false;
    bench.device().starts = std::iter::repeat_n(Err("all ones"), 100).collect();
    lost(&mut bench);
    bench.run(30 * SECOND_NS);
    assert!(matches!(bench.shared.life(), Life::Gone(_)));
    assert!(disk.is_removed() && bench.shared.disks().is_empty());
    // It may write yet; where an IOMMU can stop it, the transport has it do so, and says that it is quiet.
    assert!(!bench.device().mapped.is_empty());
    assert!(port.reply().is_none() && !bench.controller.is_over());
    let told = bench.told(Severity::Error);
    let events: Vec<_> = told.iter().filter(|line| !line.starts_with("Error")).collect();
    assert_eq!(events, ["lost", "removed 1", "gone"]);
    assert_eq!(told.iter().filter(|line| line.contains("power it off")).count(), 1, "{told:?}");
    // A lane without a pair need not wait.
    let late = bench.lane(1);
    bench.run(SECOND_NS);
    assert!(matches!(late.reply(), Some(Reply::Gone)));
    bench.device().is_quiet = true;
    bench.run(SECOND_NS);
    assert!(matches!(port.reply(), Some(Reply::Gone)));
    assert!(bench.device().mapped.is_empty() && bench.controller.is_over());
}

/// A command is completed that nobody sent; the controller is reset.
fn fail_once(bench: &mut Bench) {
    bench.device().complete(0xFFFF, 0, 0, None);
    bench.run(SECOND_NS);
}

#[test]
fn resets_are_bounded() {
    let mut bench = Bench::running();
    for _ in 0..5 {
        fail_once(&mut bench);
        assert_eq!(bench.events(), ["lost", "recovered"]);
    }
    bench.run(60 * SECOND_NS);
    fail_once(&mut bench);
    assert_eq!(bench.events(), ["lost", "recovered"], "that was long ago");
    for _ in 0..5 {
        fail_once(&mut bench);
    }
    let Life::Gone(why) = bench.shared.life() else { panic!() };
    assert!(why.contains("reset 5 times within a minute"), "{why}");
}

#[test]
fn resets_that_the_operator_asks_for_do_not_count() {
    let mut bench = Bench::running();
    for _ in 0..20 {
        bench.shared.order(Order::Reset);
        bench.run(SECOND_NS);
        assert_eq!(bench.events(), ["lost", "recovered"]);
    }
    for _ in 0..5 {
        fail_once(&mut bench);
        assert_eq!(bench.events(), ["lost", "recovered"]);
    }
    bench.shared.order(Order::Reset);
    bench.run(SECOND_NS);
    assert_eq!(bench.events(), ["lost", "recovered"]);
    fail_once(&mut bench);
    assert!(matches!(bench.shared.life(), Life::Gone(_)));
}

#[test]
fn another_controller_in_its_place_is_not_taken_for_it() {
    let mut bench = Bench::running();
    let mut page = Box::new([0; ADMIN_DATA_BYTES]);
    page[4..8].copy_from_slice(b"S999");
    page[512..514].copy_from_slice(&[0x66, 0x44]);
    bench.device().rules.push((|command| is_identify(command, 1), Act::Fill(page)));
    bench.shared.order(Order::Reset);
    bench.run(SECOND_NS);
    let Life::Gone(why) = bench.shared.life() else { panic!() };
    assert!(why.contains("another controller answers in its place"), "{why}");
    assert_eq!(bench.events(), ["lost", "removed 1", "gone"]);
}

fn fabrics() -> Bench {
    let mut device = Device::new();
    device.needs_keep_alive = true;
    let mut bench = Bench::with(device, Options::fabrics("n0".to_owned(), 4, Some(30 * SECOND_NS)));
    bench.run(MS_NS);
    assert_eq!(bench.events(), ["attached 1"]);
    bench
}

#[test]
fn signs_of_life_are_sent_at_half_the_time() {
    let mut bench = fabrics();
    bench.opcodes();
    bench.run(20 * SECOND_NS);
    assert_eq!(bench.opcodes(), [admin::KEEP_ALIVE; 4]);
    bench.device().rules.push((|command| command.opcode == admin::KEEP_ALIVE, Act::Silent));
    bench.run(16 * SECOND_NS);
    assert_eq!(bench.device().start_count, 2);
}

#[test]
fn a_network_is_waited_for() {
    let mut bench = fabrics();
    bench.device().starts = std::iter::repeat_n(Err("connection refused"), 10).collect();
    bench.device().fault = Some("connection reset");
    bench.run(100 * MS_NS);
    bench.device().fault = None;
    bench.run(15 * SECOND_NS);
    assert_eq!((bench.shared.life(), bench.events()), (Life::Recovering, vec!["lost".to_owned()]));
    bench.run(10 * SECOND_NS);
    assert_eq!(bench.events(), ["recovered"]);
    assert_eq!(bench.device().start_count, 12);
    bench.device().starts = std::iter::repeat_n(Err("connection refused"), 100).collect();
    bench.device().fault = Some("connection reset");
    bench.run(40 * SECOND_NS);
    assert_eq!(bench.events(), ["lost", "removed 1", "gone"]);
    assert_eq!(
        bench.shared.life(),
        Life::Gone("connection refused; detach it, and attach it again when that is mended".to_owned())
    );
}

#[test]
fn a_network_that_was_never_there_is_not() {
    let mut device = Device::new();
    device.starts = std::iter::repeat_n(Err("connection refused"), 10).collect();
    let mut bench = Bench::with(device, Options::fabrics("n0".to_owned(), 4, None));
    bench.run(0);
    assert!(matches!(bench.shared.life(), Life::Gone(_)));
    assert!(bench.controller.is_over());
}

/// A controller with a cache that works, and what becomes of it by a reset after `change`.
fn reset_after(change: impl Fn(&mut Device)) -> (Bench, Vec<String>) {
    let mut device = Device::new();
    device.has_write_cache = true;
    let mut bench = Bench::new(device);
    bench.run(SECOND_NS);
    assert_eq!(bench.events(), ["attached 1"]);
    change(&mut bench.device());
    bench.shared.order(Order::Reset);
    bench.run(SECOND_NS);
    let events = bench.events();
    (bench, events)
}

#[test]
fn what_a_cache_held_that_lost_its_power_is_not_taken_for_there() {
    let changes: [fn(&mut Device); 3] = [
        |device| device.power_cycles += 1,
        |device| device.unsafe_shutdowns += 1,
        // Made anew with it, as those of a target in software.
        |device| device.power_cycles = 0,
    ];
    for change in changes {
        let (mut bench, events) = reset_after(change);
        assert_eq!(events, ["lost", "removed 1", "attached 1", "recovered"]);
        // Once, not at each reset from then on.
        let disk = bench.shared.disks().remove(0);
        bench.shared.order(Order::Reset);
        bench.run(SECOND_NS);
        assert_eq!(
            (bench.events(), disk.is_removed()),
            (vec!["lost".to_owned(), "recovered".to_owned()], false)
        );
    }
}

#[test]
fn a_loss_of_power_is_not_forgotten_where_the_bring_up_has_to_be_tried_again() {
    let (mut bench, events) = reset_after(|device| {
        device.power_cycles += 1;
        // The list of namespaces.
        device.rules.push((|command| is_identify(command, 2), Act::Silent));
    });
    assert_eq!(events, ["lost"]);
    bench.device().rules.clear();
    bench.run(60 * SECOND_NS);
    assert_eq!(bench.events(), ["removed 1", "attached 1", "recovered"]);
}

#[test]
fn without_a_cache_or_without_a_loss_of_power_a_namespace_stays() {
    let nothing_happened = reset_after(|_| ());
    let has_no_cache = reset_after(|device| {
        device.power_cycles += 1;
        device.has_write_cache = false;
    });
    let does_not_say = reset_after(|device| {
        device.rules.push((|command| command.opcode == admin::GET_LOG_PAGE, Act::End(2, 0)));
    });
    for (bench, events) in [nothing_happened, has_no_cache, does_not_say] {
        assert_eq!(events, ["lost", "recovered"]);
        assert!(!bench.shared.disks()[0].is_removed());
    }
}
