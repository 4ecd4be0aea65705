use super::super::shared::Order;
use super::*;

/// Namespace attribute changed: a notice about log page 04h.
const CHANGED: u64 = 0x0004_0002;

#[test]
fn changes_are_seen_when_they_are_told_of() {
    let mut bench = Bench::running();
    bench.device().namespaces =
        vec![Ns { id: 1, blocks: 500, uuid: 0xA1 }, Ns { id: 3, blocks: 7, uuid: 0xA3 }];
    bench.device().tell(CHANGED);
    bench.run(200 * MS_NS);
    assert_eq!(bench.events(), ["resized 1", "attached 3"]);
    let disks = bench.shared.disks();
    assert_eq!((disks.len(), disks[0].namespace().blocks, disks[1].nsid), (2, 500, 3));
    bench.device().namespaces.remove(0);
    bench.device().tell(CHANGED);
    bench.run(200 * MS_NS);
    assert_eq!(bench.events(), ["removed 1"]);
    assert!(disks[0].is_removed() && !disks[1].is_removed());
    assert_eq!(bench.device().events.len(), 4, "it listens on");
}

#[test]
fn another_medium_under_a_number_is_another_disk() {
    let mut bench = Bench::running();
    let old = bench.shared.disks().remove(0);
    bench.device().namespaces[0].uuid = 0xB1;
    bench.shared.order(Order::Rescan);
    bench.run(MS_NS);
    assert_eq!(bench.events(), ["removed 1", "attached 1"]);
    let new = bench.shared.disks().remove(0);
    assert_eq!((old.is_removed(), new.is_removed()), (true, false));
    assert_eq!((old.uuid, new.uuid), ([0xA1; 16], [0xB1; 16]));
}

#[test]
fn what_came_back_smaller_is_not_the_same() {
    let mut bench = Bench::running();
    let old = bench.shared.disks().remove(0);
    bench.device().namespaces[0].blocks = 1001;
    bench.shared.order(Order::Reset);
    bench.run(MS_NS);
    assert_eq!(bench.events(), ["lost", "resized 1", "recovered"]);
    bench.device().namespaces[0].blocks = 1000;
    bench.shared.order(Order::Reset);
    bench.run(MS_NS);
    assert_eq!(bench.events(), ["lost", "removed 1", "attached 1", "recovered"]);
    assert!(old.is_removed());
}

#[test]
fn after_a_reset_a_namespace_must_say_what_it_is() {
    let mut bench = Bench::running();
    // Namespace not ready.
    bench.device().rules.push((|command| is_identify(command, 0), Act::End(0x82, 0)));
    bench.shared.order(Order::Rescan);
    bench.run(MS_NS);
    assert_eq!((bench.events().len(), bench.shared.disks().len()), (0, 1), "it is what it was");
    bench.shared.order(Order::Reset);
    bench.run(SECOND_NS);
    let Life::Gone(why) = bench.shared.life() else { panic!() };
    assert!(why.contains("it does not say what namespace 1 is"), "{why}");
}

#[test]
fn a_namespace_that_cannot_be_served_is_named_once() {
    let mut bench = Bench::running();
    bench.device().namespaces.push(Ns { id: 2, blocks: 9, uuid: 2 });
    let mut page = Box::new([0; ADMIN_DATA_BYTES]);
    page[0] = 9;
    page[130] = 20;
    bench.device().rules.push((|command| is_identify(command, 0) && command.nsid == 2, Act::Fill(page)));
    for _ in 0..3 {
        bench.shared.order(Order::Rescan);
        bench.run(MS_NS);
    }
    let told = bench.told(Severity::Warn);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("namespace 2") && told[0].contains("2^20 bytes"), "{told:?}");
}

#[test]
fn a_list_that_makes_no_sense_is_not_followed() {
    let mut page = Box::new([0; ADMIN_DATA_BYTES]);
    page[..8].copy_from_slice(&[2, 0, 0, 0, 1, 0, 0, 0]);
    let mut device = Device::new();
    device.rules.push((|command| is_identify(command, 2), Act::Fill(page)));
    let mut bench = Bench::new(device);
    bench.run(SECOND_NS);
    let Life::Gone(why) = bench.shared.life() else { panic!() };
    assert!(why.contains("its list of namespaces makes no sense"), "{why}");
}

#[test]
fn warnings_of_its_health_are_said() {
    let mut bench = Bench::running();
    bench.device().health = 1;
    for _ in 0..3 {
        bench.device().tell(0x0002_0001);
        bench.run(200 * MS_NS);
    }
    let told = bench.told(Severity::Error);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("spare capacity is low"), "{told:?}");
}
