use super::*;

/// A required step's commands, and what is said of its failure.
const REQUIRED: [(Which, &str); 3] = [
    (|command| is_identify(command, 1), "what it is"),
    (|command| command.opcode == admin::SET_FEATURES && command.cdw10[0] == 7, "for IO queues"),
    (|command| is_identify(command, 0), "what it is"),
];

#[test]
fn a_controller_is_brought_up_command_by_command() {
    let mut device = Device::new();
    device.needs_keep_alive = true;
    let mut bench = Bench::new(device);
    bench.run(0);
    let seen = bench.device().seen.clone();
    let words: Vec<_> = seen.iter().map(|c| (c.opcode, c.nsid, c.cdw10[0], c.cdw10[1])).collect();
    assert_eq!(
        words,
        [
            (0x06, 0, 1, 0),
            (0x06, 0, 6, 0),
            // For four reactors, and four others.
            (0x09, 0, 7, 0x0007_0007),
            (0x09, 0, 0x0B, 0x11F),
            (0x09, 0, 0x0F, 10_000),
            (0x18, 0, 0, 0),
            (0x06, 0, 2, 0),
            (0x06, 1, 0, 0),
            (0x06, 1, 3, 0),
            (0x0C, 0, 0, 0),
            (0x0C, 0, 0, 0),
            (0x0C, 0, 0, 0),
            (0x0C, 0, 0, 0),
        ]
    );
    assert_eq!(bench.events(), ["attached 1"]);
    assert_eq!(bench.shared.life(), Life::Running);
    let about = bench.shared.about().unwrap();
    assert_eq!((about.queues, about.identity.serial.as_str(), about.place.as_str()), (4, "S123", "script"));
    let disks = bench.shared.disks();
    assert_eq!((disks.len(), disks[0].uuid, disks[0].namespace().blocks), (1, [0xA1; 16], 1000));
}

#[test]
fn a_step_without_an_answer_has_its_time_and_a_second_try() {
    for (is_it, words) in REQUIRED {
        let mut device = Device::new();
        device.rules.push((is_it, Act::Silent));
        let mut bench = Bench::new(device);
        bench.run(9 * SECOND_NS);
        assert_eq!(bench.shared.life(), Life::Attaching, "{words}");
        bench.run(12 * SECOND_NS);
        let Life::Gone(why) = bench.shared.life() else { panic!("{words}: {:?}", bench.shared.life()) };
        assert!(why.contains("did not answer when asked what it is"), "{why}");
        assert_eq!(bench.resets(), (2, 1));
        assert!(bench.controller.is_over());
        assert!(bench.told(Severity::Error).iter().any(|line| line.contains("attach it again")));
    }
}

#[test]
fn limits_of_commands_without_data_are_told() {
    let mut device = Device::new();
    let mut page = Box::new([0; ADMIN_DATA_BYTES]);
    page[..16].copy_from_slice(&[2, 3, 0, 1, 0, 1, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0]);
    device.rules.push((|command| is_identify(command, 6), Act::Fill(page)));
    let mut bench = Bench::new(device);
    bench.run(SECOND_NS);
    let nvm = bench.shared.about().unwrap().nvm;
    assert_eq!((nvm.verify_bytes_max(4096), nvm.zeroes_bytes_max(8192)), (16384, 65536));
    assert_eq!(nvm.unmap_blocks, Some(8), "the fewer of a range's 256 and 8 in all");
    // Another firmware that does not tell has none.
    bench.device().rules.push((|command| is_identify(command, 6), Act::End(2, 0)));
    bench.shared.order(super::super::shared::Order::Reset);
    bench.run(SECOND_NS);
    let nvm = bench.shared.about().unwrap().nvm;
    assert_eq!((nvm.verify_bytes_max(4096), nvm.zeroes_bytes_max(8192)), (usize::MAX, usize::MAX));
    assert_eq!(nvm.unmap_blocks, None);
}

#[test]
fn a_refusal_of_what_is_needed_ends_it() {
    for (is_it, words) in &REQUIRED[..2] {
        let mut device = Device::new();
        device.rules.push((*is_it, Act::End(0x06, 0)));
        let mut bench = Bench::new(device);
        bench.run(SECOND_NS);
        let Life::Gone(why) = bench.shared.life() else { panic!("{words}") };
        assert!(why.contains(&format!("asked {words}, it says status 0x0006")), "{why}");
    }
}

#[test]
fn a_refusal_of_what_can_be_done_without_does_not() {
    let optional: [Which; 5] = [
        |command| is_identify(command, 6),
        |command| command.opcode == admin::SET_FEATURES && command.cdw10[0] == 0x0B,
        |command| command.opcode == admin::SET_FEATURES && command.cdw10[0] == 0x0F,
        |command| command.opcode == admin::ASYNC_EVENT,
        |command| is_identify(command, 3),
    ];
    for is_it in optional {
        let mut device = Device::new();
        device.needs_keep_alive = true;
        device.rules.push((is_it, Act::End(0x02, 0)));
        let mut bench = Bench::new(device);
        bench.run(SECOND_NS);
        assert_eq!(bench.shared.life(), Life::Running);
        assert_eq!(bench.events(), ["attached 1"]);
    }
}

#[test]
fn without_a_list_every_number_is_tried() {
    let mut device = Device::new();
    device.namespaces = vec![Ns { id: 2, blocks: 5, uuid: 1 }, Ns { id: 7, blocks: 5, uuid: 2 }];
    device.rules.push((|command| is_identify(command, 2), Act::End(0x02, 0)));
    let mut bench = Bench::new(device);
    bench.run(SECOND_NS);
    assert_eq!(bench.events(), ["attached 2", "attached 7"]);
}

#[test]
fn fewer_queues_than_reactors_are_refused_with_what_to_do() {
    let mut device = Device::new();
    device.queues = 3;
    let mut bench = Bench::new(device);
    bench.run(SECOND_NS);
    let why =
        "it grants 3 pairs of IO queues, and each of 4 reactors needs one: run fewer reactors (--cores)";
    assert_eq!(bench.shared.life(), Life::Gone(why.to_owned()));
    assert_eq!(bench.device().start_count, 1, "trying again would not help");
}

#[test]
fn a_start_that_never_ends_can_be_given_up() {
    let mut device = Device::new();
    device.hangs = true;
    let mut bench = Bench::new(device);
    bench.run(SECOND_NS);
    assert_eq!(bench.shared.life(), Life::Attaching);
    bench.shared.order(super::super::shared::Order::Detach);
    bench.run(SECOND_NS);
    assert_eq!(bench.shared.life(), Life::Detached);
    assert!(bench.controller.is_over());
}
