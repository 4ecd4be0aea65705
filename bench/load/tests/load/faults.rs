//! Runs in which something goes wrong: it is counted and named.

use lunette::bdev::IoError;
use lunette::bdev::delay::Delays;
use lunette::bdev::error::{Fault, Kind, Rule};

use crate::fake::{Fake, Manners};
use crate::world::{Setup, World, load};

#[test]
fn errors_of_the_disk_are_counted_and_named() {
    let world = World::start(Setup::default());
    world.faults[0].add(Rule::everywhere(Kind::Read, Fault::Fail(IoError::Medium { lba: None })), 3).unwrap();
    let report = world.load("").unwrap();
    assert_eq!((report.errors, report.verify_errors), (3, 0), "{report:?}");
    assert!(report.ios > 0 && !report.is_clean());
    assert_eq!(report.troubles.len(), 3);
    for trouble in &report.troubles {
        assert!(trouble.starts_with("read at block ") && trouble.contains("CHECK CONDITION, sense 3/11/00"));
    }
}

#[test]
fn a_slow_disk_shows_in_an_open_loop_for_as_long_as_ios_had_to_wait_for_their_turn() {
    let delays = Delays { read_ns: 10_000_000, write_ns: 0, flush_ns: 0 };
    let world = World::start(Setup { delays, ..Setup::default() });
    // 100 a second can be done, 500 are asked for: the 50th ends 500 ms after the start and should have begun after 100 ms.
    let report = world.load("--rate 500 --qd 1 --seconds 0.5").unwrap();
    assert!(report.is_clean() && report.ios <= 51 && report.unissued >= 190, "{report:?}");
    assert!(report.max_us > 250_000.0 && report.p50_us > 100_000.0, "{report:?}");
}

#[test]
fn sessions_that_the_target_ends_are_errors() {
    let world = World::start(Setup::default());
    let report = std::thread::scope(|scope| {
        let run = scope.spawn(|| world.load("--connections 3 --idle 1 --seconds 20"));
        world.wait_sessions(4);
        world.end_sessions();
        run.join().unwrap().unwrap()
    });
    // The idle one is lost too, but perhaps when the run is over already.
    assert!((3..=4).contains(&report.errors), "{report:?}");
    assert!(report.seconds < 19.0, "a run whose connections are all gone is over");
    assert!(report.troubles.iter().all(|trouble| trouble.contains("lost")), "{report:?}");
}

#[test]
fn a_server_that_dies_is_an_error_and_ends_the_run() {
    let fake = Fake::start(Manners::DiesAfter(100));
    let report = load(fake.address, "--wire --connections 2 --seconds 20").unwrap();
    assert_eq!(report.errors, 2, "{report:?}");
    assert!(report.ios > 0 && report.seconds < 19.0, "{report:?}");
    assert!(
        report.troubles[0].contains("closed the connection") || report.troubles[0].contains("reset"),
        "{report:?}"
    );
}

#[test]
fn wrong_data_are_found() {
    let honest = Fake::start(Manners::Honest);
    let report = load(honest.address, "--wire --verify --rw mixed:50 --span 256K --seconds 1").unwrap();
    assert!(report.is_clean() && report.ios > report.unchecked, "{report:?}");
    let forgetful = Fake::start(Manners::ForgetsWrites);
    let report = load(forgetful.address, "--wire --verify --rw mixed:50 --span 256K --seconds 1").unwrap();
    assert!(report.verify_errors > 0 && report.errors == 0, "{report:?}");
    assert!(report.troubles[0].contains("not what was written"), "{report:?}");
}

#[test]
fn nobody_there_is_an_error_at_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for line in ["", "--wire", "--target iqn.a:b"] {
        assert_eq!(load(address, line).unwrap_err().exit_code(), 1);
    }
}

#[test]
fn what_does_not_fit_the_disk_is_refused_with_a_hint() {
    let world = World::start(Setup { disks: vec![1000], ..Setup::default() });
    for (line, hint) in [
        ("--span 1M", "--span"),
        ("--bs 1M", "--bs"),
        ("--verify --qd 200", "--qd"),
        ("--lun 5", "capacity of LUN 5"),
        ("--target iqn.2026-11.io.example:none", "login"),
    ] {
        let error = world.load(line).unwrap_err();
        assert!(error.to_string().contains(hint), "{line}: {error}");
    }
}
