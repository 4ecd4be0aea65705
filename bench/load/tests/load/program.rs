//! The program: what it prints, and how it ends.

use std::process::{Command, Output};

use crate::world::{Setup, World};

fn run(line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lunette-load"))
        .args(line.split_whitespace())
        .output()
        .expect("it starts")
}

#[test]
fn json_is_one_object_with_these_fields() {
    let world = World::start(Setup::default());
    let out = run(&format!("--portal {} --seconds 0.3 --warmup 0.1 --qd 4 --json", world.portal));
    assert_eq!((out.status.code(), &out.stderr[..]), (Some(0), &b""[..]));
    let value: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    for field in
        ["ios", "bytes", "seconds", "began_ns", "iops", "mib_per_s", "client_cpu_seconds", "login_seconds"]
    {
        assert!(value[field].as_f64().is_some_and(|number| number > 0.0), "{field} in {value}");
    }
    for field in ["mean", "min", "p50", "p90", "p99", "p999", "max"] {
        assert!(value["latency_us"][field].as_f64().is_some_and(|number| number > 0.0), "{field} in {value}");
    }
    for field in ["errors", "verify_errors", "unissued", "unchecked"] {
        assert_eq!(value[field].as_u64(), Some(0), "{field} in {value}");
    }
    assert_eq!(value["bytes"].as_u64(), value["ios"].as_u64().map(|ios| ios * 4096));
}

#[test]
fn a_table_for_people() {
    let world = World::start(Setup::default());
    let out =
        run(&format!("--portal {} --seconds 0.2 --warmup 0 --rw mixed:70 --connections 2", world.portal));
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.starts_with("random, 70 % reads of 4096 bytes at 127.0.0.1:"), "{text}");
    assert!(
        text.contains("\n  throughput  ") && text.contains(" IO/s, ") && text.contains("p99.9"),
        "{text}"
    );
    assert_eq!(out.status.code(), Some(0));
}

#[test]
fn asked_wrongly_it_says_so_and_ends_with_2() {
    for (line, hint) in [
        ("", "--portal"),
        ("--portal 127.0.0.1:1 --bs 1000", "lunette-load: --bs: a multiple of 512"),
        ("--portal 127.0.0.1:1 --rw sideways", "randread"),
        ("--portal 127.0.0.1:1 --colour", "unexpected argument"),
    ] {
        let out = run(line);
        let text = String::from_utf8(out.stderr).unwrap();
        assert_eq!((out.status.code(), text.contains(hint)), (Some(2), true), "{line}: {text}");
    }
}

#[test]
fn without_a_target_it_ends_with_1() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let portal = listener.local_addr().unwrap();
    drop(listener);
    let out = run(&format!("--portal {portal} --json"));
    assert_eq!((out.status.code(), &out.stdout[..]), (Some(1), &b""[..]));
    assert!(String::from_utf8(out.stderr).unwrap().starts_with("lunette-load: "));
}
