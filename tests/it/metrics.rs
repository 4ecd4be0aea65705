//! What the daemon shows by HTTP: that it is what was done, that it tells no secrets, and that no client gets in its way.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use lunette::bdev::delay::Delays;
use lunette::control::auth::Chap as Demand;
use lunette::iscsi::chap::{Account, Credential, Secret};
use lunette::metrics::server::{Bound, Lookout, Server};
use lunette::qos::Limits;
use lunette_initiator::config::{Auth, Chap};
use lunette_initiator::scsi::cdb;
use lunette_initiator::{Client, Config, Data, lun};

use crate::harness::{SOON, Setup, TARGET, World, read, until};

/// What shows a world.
fn shown(world: &World) -> (Server, SocketAddr) {
    let bound = Bound::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = bound.address();
    (bound.serve(Lookout::new(world.remote(), None)).unwrap(), address)
}

/// The answer to a request, to its end.
fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // One that was refused before all of it was read may be reset behind the answer.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: lunette\r\n\r\n"))
}

/// Waits until the figures have this line: what they show may be a moment old.
fn wait_for(address: SocketAddr, line: &str) {
    let mut last = String::new();
    until(line, || {
        last = get(address, "/metrics");
        last.lines().any(|told| told == line)
    });
}

#[test]
fn figures_are_what_was_done() {
    let world = World::start(Setup { initiators: "iqn.2026-11.io.example:*", ..Setup::default() });
    let (_server, address) = shown(&world);
    let mut client = world.client("a");
    client.write(0, &[7; 8192]).unwrap();
    for _ in 0..3 {
        client.read(0, 8).unwrap();
    }
    // LBA out of range: ILLEGAL REQUEST.
    assert!(client.command(cdb::read_16(1 << 40, 1, cdb::Flags::default()), Data::In(512)).is_err());
    let stranger = Config::new("iqn.2026-11.io.other:b", TARGET);
    assert!(Client::connect(world.address(), stranger).is_err());
    let of = format!("initiator=\"iqn.2026-11.io.example:a\",target=\"{TARGET}\"");
    for line in [
        format!("lunette_initiator_commands_total{{{of},op=\"write\"}} 1"),
        format!("lunette_initiator_commands_total{{{of},op=\"read\"}} 3"),
        format!("lunette_initiator_bytes_total{{{of},op=\"read\"}} 12288"),
        format!("lunette_initiator_bytes_total{{{of},op=\"write\"}} 8192"),
        format!("lunette_initiator_errors_total{{{of},ending=\"illegal_request\"}} 1"),
        "lunette_bdev_ios_total{bdev=\"disk0\",reactor=\"0\",op=\"read\"} 3".to_owned(),
        "lunette_bdev_bytes_total{bdev=\"disk0\",reactor=\"0\",op=\"write\"} 8192".to_owned(),
        "lunette_bdev_io_seconds_count{bdev=\"disk0\",op=\"read\"} 3".to_owned(),
        "lunette_bdev_in_flight{bdev=\"disk0\",reactor=\"0\"} 0".to_owned(),
        format!("lunette_lun_info{{target=\"{TARGET}\",lun=\"0\",bdev=\"disk0\"}} 1"),
        format!("lunette_target_sessions{{target=\"{TARGET}\"}} 1"),
        "lunette_logins_total{session=\"normal\"} 1".to_owned(),
        "lunette_login_failures_total{reason=\"forbidden\"} 1".to_owned(),
    ] {
        wait_for(address, &line);
    }
    let all = get(address, "/metrics");
    assert!(all.starts_with("HTTP/1.1 200 OK\r\n"), "{all}");
    assert!(all.contains("content-type: text/plain; version=0.0.4"), "{all}");
    let status = get(address, "/status.json");
    assert!(status.contains("\"initiator\":\"iqn.2026-11.io.example:a\""), "{status}");
    for kind in ["bdev_registered", "session_up", "login_refused"] {
        assert!(status.contains(&format!("\"kind\":\"{kind}\"")), "{kind} is not in {status}");
    }
    // What a session has done is not forgotten when it is over.
    drop(client);
    wait_for(address, "lunette_connections_closed_total{reason=\"peer_gone\"} 1");
    wait_for(address, &format!("lunette_target_sessions{{target=\"{TARGET}\"}} 0"));
    wait_for(address, &format!("lunette_initiator_commands_total{{{of},op=\"read\"}} 3"));
}

/// The value of a series, which comes when something has happened.
fn value(address: SocketAddr, series: &str) -> Option<f64> {
    let all = get(address, "/metrics");
    let line = all.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().unwrap())
}

#[test]
fn stages_are_told_of_each_lun_and_stay_with_the_reactors_that_served_it() {
    let delays = Delays { read_ns: 3_000_000, write_ns: 0, flush_ns: 0 };
    let world = World::start(Setup { disks: vec![(4096, 512); 3], reactors: 2, delays, ..Setup::default() });
    let (_server, address) = shown(&world);
    let mut clients = [world.client("a"), world.client("b")];
    let mut served: Vec<u16> = world.placement().iter().map(|reactor| reactor.0).collect();
    served.sort_unstable();
    assert_eq!(served, [0, 1]);
    for client in &mut clients {
        client.write(0, &[7; 512]).unwrap();
        client.read(0, 1).unwrap();
        client.set_lun(lun::from_number(1));
        client.read(0, 1).unwrap();
        client.set_lun(0);
    }
    let of = |what: &str, bdev: &str, stage: &str| {
        format!("lunette_bdev_stage_seconds_{what}{{bdev=\"{bdev}\",stage=\"{stage}\"}}")
    };
    let reactor = |what: &str, number: u16, stage: &str| {
        format!("lunette_reactor_stage_seconds_{what}{{reactor=\"{number}\",stage=\"{stage}\"}}")
    };
    for stage in ["queue", "receive", "device", "send"] {
        wait_for(address, &format!("{} 4", of("count", "disk0", stage)));
        wait_for(address, &format!("{} 2", of("count", "disk1", stage)));
        // What no device had IO of has no stages at its LUN.
        assert_eq!(value(address, &of("count", "disk2", stage)), None);
    }
    let seconds = |series: &str| value(address, series).unwrap();
    let device_seconds = seconds(&of("sum", "disk0", "device"));
    assert!(device_seconds >= 0.006, "two READs of 3 ms: {device_seconds}");
    assert!(seconds(&of("sum", "disk1", "device")) >= 0.006);
    let in_devices = |number: u16| {
        (seconds(&reactor("count", number, "device")), seconds(&reactor("sum", number, "device")))
    };
    // Of each reactor what it did for all LUNs; those that no device had IO of are in its queue alone.
    let before = [in_devices(0), in_devices(1)];
    let all_seconds = seconds(&of("sum", "disk0", "device")) + seconds(&of("sum", "disk1", "device"));
    assert_eq!(before.map(|(count, _)| count), [3.0, 3.0]);
    assert!((before[0].1 + before[1].1 - all_seconds).abs() < 1e-9, "{before:?}, {all_seconds}");
    assert!(seconds(&reactor("count", 0, "queue")) >= 3.0 + 3.0, "TEST UNIT READY");
    let status = get(address, "/status.json");
    assert_eq!(status.matches("\"stages\":{\"queue\":").count(), 2 + 2, "{status}");
    // Counters never become less: what a LUN had stays with its reactors when it is gone.
    for (left, name) in [(2, "disk0"), (1, "disk1"), (0, "disk2")] {
        let removed = world.change(move |control, done, _| control.unregister_bdev(name, done));
        assert!(removed.recv_timeout(SOON).unwrap().is_clean);
        until("its series to be gone", || value(address, &of("count", name, "device")).is_none());
        assert_eq!([in_devices(0), in_devices(1)], before, "{left} left");
    }
}

#[test]
fn commands_that_wait_for_limits_are_shown() {
    let world = World::start(Setup::default());
    let (_server, address) = shown(&world);
    let mut client = world.client("a");
    let limited = Limits { ios: 50, burst_ns: 1_000_000, ..Limits::NONE };
    let of = |limit: &str, unit: &str| {
        format!(
            "lunette_initiator_throttled_{unit}_total{{initiator=\"iqn.2026-11.io.example:a\",target=\"{TARGET}\",limit=\"{limit}\"}}"
        )
    };
    let bdev = |unit: &str| format!("lunette_bdev_throttled_{unit}_total{{bdev=\"disk0\"}}");
    assert_eq!(
        (value(address, &bdev("commands")), value(address, &of("lun", "commands"))),
        (Some(0.0), None)
    );
    world.control(move |control| control.set_bdev_limits("disk0", limited).unwrap());
    let mut wait_for = |series: &str| {
        until(series, || {
            // Two at once: one of them waits.
            let both = [(); 2].map(|()| client.session().command(read(0, 1)).unwrap());
            for command in both {
                assert!(client.completion(command).unwrap().is_good());
            }
            value(address, series).is_some_and(|value| value > 0.0)
        });
    };
    for series in [bdev("commands"), bdev("seconds"), of("lun", "commands"), of("lun", "seconds")] {
        wait_for(&series);
    }
    assert_eq!(value(address, &of("initiator", "commands")), None);
    // What was counted stays where the limit goes; what waits for another is not counted there.
    world.control(|control| control.set_bdev_limits("disk0", Limits::NONE).unwrap());
    let counted = || world.control(|control| control.bdev("disk0").unwrap().waits.waited());
    let by_unit = counted();
    world.control(move |control| control.set_initiator_limits("*:a", limited).unwrap());
    wait_for(&of("initiator", "seconds"));
    assert_eq!((counted(), by_unit.commands > 0), (by_unit, true));
}

#[test]
fn no_secret_is_shown() {
    let credential = |name: &str, secret: &str| Credential {
        name: name.to_owned(),
        secret: Secret(secret.as_bytes().to_vec()),
    };
    let account = Account {
        initiator: credential("user-that-logs-in", "secret-of-initiator"),
        target: Some(credential("user-that-is-target", "secret-of-target")),
    };
    let setup = Setup { accounts: vec![account], chap: Demand::Required, ..Setup::default() };
    let world = World::start(setup);
    let (_server, address) = shown(&world);
    let with = |user: &str, secret: &str| {
        let auth = Auth::Chap(Chap::new(user, secret.as_bytes()));
        Client::connect(world.address(), Config { auth, ..Config::new("iqn.2026-11.io.example:a", TARGET) })
    };
    let _client = with("user-that-logs-in", "secret-of-initiator").unwrap();
    // Those that are refused are told of as events, without what they said to be let in.
    assert!(with("user-that-logs-in", "secret-of-nobody").is_err());
    assert!(with("user-that-lies", "secret-of-nobody").is_err());
    assert!(get(address, "/status.json").contains("\"reason\":\"authentication\""));
    for path in ["/", "/metrics", "/status.json"] {
        let answer = get(address, path);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        for told in ["secret-of", "user-that"] {
            assert!(!answer.contains(told), "{path} tells {told}");
        }
    }
    let page = get(address, "/");
    assert!(page.contains("\r\ncontent-security-policy: default-src 'none'; script-src 'sha256-"), "{page}");
}

#[test]
fn other_requests_are_refused() {
    let world = World::start(Setup::default());
    let (_server, address) = shown(&world);
    for (request, expected) in [
        ("POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 405 "),
        ("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 405 "),
        ("GET /../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 404 "),
        ("GET http://a/metrics HTTP/1.0\r\n\r\n", "HTTP/1.0 200 "),
        ("\u{1}\u{2}\u{3}\r\n\r\n", "HTTP/1.1 400 "),
    ] {
        let answer = ask(address, request);
        assert!(answer.starts_with(expected), "{request:?}\n{answer}");
    }
    let long = "a".repeat(100_000);
    let target = ask(address, &format!("GET /{long} HTTP/1.1\r\n\r\n"));
    assert!(target.is_empty() || target.starts_with("HTTP/1.1 4"), "{target}");
    let header = ask(address, &format!("GET / HTTP/1.1\r\nX: {long}\r\n\r\n"));
    assert!(header.is_empty() || header.starts_with("HTTP/1.1 431 "), "{header}");
    assert!(get(address, "/metrics").starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn silent_clients_keep_nobody_out() {
    let world = World::start(Setup::default());
    let (_server, address) = shown(&world);
    let mut client = world.client("a");
    let mut silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    for (index, stream) in silent.iter_mut().enumerate() {
        // Half of them send the beginning of a request.
        let half = if index.is_multiple_of(2) { &b"GET /metr"[..] } else { b"" };
        stream.write_all(half).unwrap();
    }
    // They are closed in turn, and whoever comes behind them is served.
    assert!(get(address, "/metrics").starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(client.read(0, 1).unwrap(), [0; 512]);
}
