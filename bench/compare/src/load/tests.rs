use std::path::Path;

use super::*;

const REPORT: &str = r#"{"ios":10,"bytes":40960,"seconds":0.1,"iops":100.0,"mib_per_s":0.39,"latency_us":
    {"mean":9.0,"min":5.0,"p50":8.0,"p90":12.0,"p99":20.0,"p999":30.0,"max":41.0},
    "errors":0,"verify_errors":0,"client_cpu_seconds":0.1,"login_seconds":0.001}"#;

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("compare-load-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// A server that does nothing, and a load generator that says `text` of it.
fn run(name: &str, text: &str) -> (String, Result<(Report, ServerUse), Fault>) {
    let folder = folder(name);
    let program = folder.join("load");
    let script = format!("#!/bin/sh\ncat <<'END'\n{text}\nEND\n");
    // Written by a process of its own: a file that this one has open for writing cannot be run, nor can it while a child
    // that another test starts still has it.
    let mut make = Command::new("sh");
    make.args(["-c", "printf %s \"$1\" >\"$2\" && chmod +x \"$2\"", "sh", &script]).arg(&program);
    assert!(make.status().unwrap().success());
    let cpu = rustix::thread::sched_getcpu();
    let process = Process::start(Command::new("sleep").arg("60"), cpu, folder.join("server")).unwrap();
    let portal = "127.0.0.1:4000".parse().unwrap();
    let server = Server {
        process,
        portal,
        target: "iqn.x:y".to_owned(),
        lun: 1,
        is_wire: false,
        is_empty: false,
        calls: None,
    };
    let load = Load {
        connections: 4,
        rw: "randread",
        io_bytes: 4096,
        depth: 32,
        digests: true,
        rate: Some(1000),
        idle: 5,
    };
    let generator = Generator {
        program,
        cpus: Cpus { server: 1, client: 0 },
        seconds: 0.5,
        warmup: 0.1,
        is_urgent: false,
    };
    let started = Generator { cpus: Cpus { server: cpu, client: cpu }, ..generator.clone() };
    let words = arguments(&server, &load, &generator).join(" ");
    let done =
        started.start(&server, &load, folder.join("log")).and_then(|load| started.finish(load, &server));
    std::fs::remove_dir_all(folder).unwrap();
    (words, done)
}

#[test]
fn options_and_report_of_the_load_generator() {
    let (words, done) = run("well", REPORT);
    let expected = "--portal 127.0.0.1:4000 --target iqn.x:y --lun 1 --connections 4 --rw randread --bs 4096 --qd 32 \
        --seconds 0.5 --warmup 0.1 --cpu 0 --rate 1000 --idle 5 --header-digest --data-digest --json --quiet";
    assert_eq!(words, expected);
    assert_eq!(done.unwrap().0.iops, 100.0);
}

#[test]
fn what_is_no_report_is_an_error() {
    assert_eq!(
        run("errors", &REPORT.replace("\"errors\":0", "\"errors\":3")).1.unwrap_err().to_string(),
        "3 IOs failed"
    );
    let said = run("words", "no route").1.unwrap_err().to_string();
    assert!(said.contains("printed no report") && said.ends_with("no route"), "{said}");
    assert!(report("warning\n{\"ios\":", Path::new("load")).is_err());
}

#[test]
fn use_is_that_of_the_time_that_counts() {
    let sample = |at_ms, cpu_ms, busy, idle| Sample {
        when: Duration::from_millis(at_ms),
        cpu: Duration::from_millis(cpu_ms),
        foreign: Duration::from_millis(at_ms / 4),
        ticks: Some((busy, idle)),
        memory_kib: at_ms,
    };
    // A second of logins, a second that is measured, half a second of logouts.
    let samples = [
        sample(0, 0, 0, 0),
        sample(900, 810, 10, 0),
        sample(1100, 1000, 20, 0),
        sample(1500, 1200, 40, 60),
        sample(1900, 1400, 60, 120),
        sample(2001, 1450, 500, 500),
        sample(2500, 1900, 900, 500),
    ];
    let found = used(&samples, 1_000_000_000, 1.0);
    assert_eq!(
        found,
        ServerUse {
            cores: 0.5,
            busy_share: Some(0.25),
            memory_kib: 1900,
            foreign_cores: 0.25,
            ..ServerUse::default()
        }
    );
    let few = used(&samples[..2], 1_000_000_000, 1.0);
    assert_eq!((few.cores, few.memory_kib), (0.9, 900));
    assert_eq!(used(&[], 0, 1.0), ServerUse::default());
}
