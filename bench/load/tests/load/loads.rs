//! Runs that go well: what was negotiated differs, the data are always right.

use lunette::iscsi::chap::{Account, Credential, Secret};
use lunette::iscsi::negotiate::Offer;
use lunette::reactor::message::NopInTimes;
use lunette_load::Report;

use crate::world::{Setup, World};

/// A run in which data were written, read back and right. On a machine that others take away it may take more than one until
/// something is read back.
fn verified(world: &World, line: &str) -> Report {
    let runs = (0..10).map(|_| world.load(&format!("--verify {line}")).expect("it runs"));
    let mut clean = runs.inspect(|report| assert!(report.is_clean(), "{line}: {report:?}"));
    clean.find(|report| report.ios > report.unchecked).expect("what was written is read back")
}

#[test]
fn data_come_back_as_they_were_written() {
    let world = World::start(Setup { disks: vec![4096, 8192], ..Setup::default() });
    for line in [
        "--rw mixed:50",
        "--rw mixed:50 --header-digest",
        "--rw mixed:50 --data-digest --connections 2",
        "--rw mixed:50 --header-digest --data-digest --bs 64K --qd 4",
        "--rw mixed:30 --lun 1 --lun 0 --connections 3 --idle 3",
        "--rw mixed:50 --bs 512 --qd 100 --connections 2",
        "--rw write --bs 8K --lun 1",
        "--rw mixed:50 --bs 256K --qd 3",
        "--rw mixed:50 --bs 1M --qd 1",
        "--rw mixed:50 --no-immediate --bs 128K --qd 4",
    ] {
        verified(&world, line);
    }
}

#[test]
fn data_of_an_earlier_run_are_checked_too() {
    let world = World::start(Setup { disks: vec![1024], ..Setup::default() });
    verified(&world, "--rw write --bs 8K --seconds 1");
    let report = verified(&world, "--rw read --bs 4K");
    assert_eq!(report.unchecked, 0, "{report:?}");
}

#[test]
fn writes_in_all_ways_that_a_target_may_want() {
    let small = Offer { recv_segment_bytes_max: 2048, max_burst_bytes: 16 * 1024, ..Offer::DEFAULT };
    for offer in [
        // All solicited, in bursts of several PDUs.
        Offer { initial_r2t: true, immediate_data: false, ..small },
        // Immediate, then solicited.
        Offer { initial_r2t: true, first_burst_bytes: 4096, ..small },
        // Immediate, unsolicited and solicited.
        Offer { first_burst_bytes: 8192, ..small },
        // Unsolicited and solicited.
        Offer { immediate_data: false, first_burst_bytes: 8192, ..small },
        // One burst asked for at a time.
        Offer { initial_r2t: true, immediate_data: false, outstanding_r2t_max: 1, ..small },
    ] {
        let world = World::start(Setup { offer, ..Setup::default() });
        verified(&world, "--rw mixed:40 --bs 64K --qd 4");
        verified(&world, "--rw mixed:40 --bs 64K --qd 4 --header-digest --data-digest");
    }
}

#[test]
fn long_reads_are_dropped_unseen_and_counted_right() {
    let world = World::start(Setup::default());
    for line in ["--rw read --bs 128K", "--rw read --bs 1M --header-digest", "--rw mixed:50 --bs 64K"] {
        let report = world.load(line).unwrap();
        assert!(report.is_clean() && report.ios > 0, "{report:?}");
        assert!(report.min_us > 0.0 && report.min_us <= report.p50_us && report.p50_us <= report.max_us);
        assert!(report.client_cpu_seconds > 0.0 && report.client_cpu_seconds <= report.seconds * 1.1);
    }
}

#[test]
fn pings_are_answered_also_by_idle_sessions() {
    let nop_in = NopInTimes { ask_ns: 100_000_000, close_ns: 2_500_000_000 };
    let world = World::start(Setup { nop_in, ..Setup::default() });
    let report = world.load("--connections 1 --idle 2 --seconds 4 --rate 20").unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn who_has_the_secret_gets_in() {
    let credential = Credential { name: "joe".to_owned(), secret: Secret(b"fifteen letters".to_vec()) };
    let accounts = vec![Account { initiator: credential, target: None }];
    let world = World::start(Setup { accounts, ..Setup::default() });
    let file = std::env::temp_dir().join(format!("lunette-load-{}", std::process::id()));
    let line = format!(
        "--chap-user joe --chap-secret-file {} --target iqn.2026-11.io.example:disks",
        file.display()
    );
    std::fs::write(&file, "fifteen letters\n").unwrap();
    let report = world.load(&line);
    std::fs::write(&file, "sixteen letters\n").unwrap();
    let refused = world.load(&line);
    std::fs::remove_file(&file).unwrap();
    assert!(report.unwrap().is_clean());
    let refused = refused.unwrap_err();
    assert_eq!((refused.exit_code(), refused.to_string().contains("login")), (1, true), "{refused}");
}

#[test]
fn an_open_loop_begins_what_it_is_told_to() {
    let world = World::start(Setup::default());
    let report = world.load("--rate 500 --connections 3 --seconds 0.6").unwrap();
    assert!(report.is_clean(), "{report:?}");
    // What is due at the end may not have begun, and what was late before the window ends in it.
    let due = 500.0 * report.seconds;
    assert!(((report.ios + report.unissued) as f64 - due).abs() <= 30.0, "{report:?}");
}

#[test]
fn many_sessions_log_in_and_out() {
    let world = World::start(Setup::default());
    let report = world.load("--connections 100 --idle 100 --qd 1").unwrap();
    assert!(report.is_clean() && report.ios >= 100 && report.login_seconds > 0.0, "{report:?}");
    world.wait_sessions(0);
}
