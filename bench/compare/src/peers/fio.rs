//! fio with io_uring at a file itself: what a LUN that is this file could reach if the network cost nothing.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::{Found, Setting, packaged};
use crate::cases::{Disk, Load};
use crate::fault::Fault;
use crate::process::Process;
use crate::results::{Latency, Report, ServerUse};

pub(super) fn find() -> Result<Found, Fault> {
    packaged("fio", "fio", "install the Debian package fio")
}

/// One run, on the server's CPU.
pub(crate) fn measure(
    found: &Found,
    setting: &Setting<'_>,
    load: &Load,
    seconds: f64,
    warmup: f64,
) -> Result<(Report, ServerUse), Fault> {
    let mut command = Command::new(&found.program);
    command.args(["--name=file", "--ioengine=io_uring", "--thread", "--time_based", "--output-format=json"]);
    command.arg(format!("--filename={}", setting.file.display()));
    command.arg(format!("--direct={}", u8::from(setting.disk == Disk::File)));
    command.arg(format!("--rw={}", load.rw)).arg(format!("--bs={}", load.io_bytes));
    command.arg(format!("--iodepth={}", load.depth)).arg(format!("--size={}", setting.disk_bytes));
    command.arg(format!("--runtime={}ms", (seconds * 1e3).round()));
    command.arg(format!("--ramp_time={}ms", (warmup * 1e3).round()));
    let mut process = Process::start(&mut command, setting.cpus.server, setting.path("fio"))?;
    let limit = Duration::from_secs_f64(seconds + warmup + 60.0);
    process.wait(limit, limit, || {})?;
    let said = process.said();
    let text = &said[said.find('{').unwrap_or(0)..];
    let told = serde_json::from_str(text);
    let told =
        told.map_err(|source| Fault::Report { program: "fio".to_owned(), source, said: said.clone() })?;
    Ok((report(&told, load.rw), ServerUse { cores: cores(&told), ..ServerUse::default() }))
}

/// CPU of its job, per time that passed.
fn cores(told: &Value) -> f64 {
    let percent = |name: &str| told["jobs"][0][name].as_f64().unwrap_or(0.0);
    (percent("usr_cpu") + percent("sys_cpu")) / 100.0
}

/// What fio says of its one job, in the words of the load generator.
fn report(told: &Value, rw: &str) -> Report {
    let way = &told["jobs"][0][if rw.ends_with("read") { "read" } else { "write" }];
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let iops = number(&way["iops"]);
    let late = &way["clat_ns"];
    let part = |share: &str| number(&late["percentile"][share]) / 1e3;
    Report {
        ios: way["total_ios"].as_u64().unwrap_or(0),
        bytes: way["io_bytes"].as_u64().unwrap_or(0),
        seconds: number(&way["runtime"]) / 1e3,
        iops,
        mib_per_s: number(&way["bw_bytes"]) / f64::from(1 << 20),
        latency_us: Latency {
            mean: number(&late["mean"]) / 1e3,
            min: number(&late["min"]) / 1e3,
            p50: part("50.000000"),
            p90: part("90.000000"),
            p99: part("99.000000"),
            p999: part("99.900000"),
            max: number(&late["max"]) / 1e3,
        },
        errors: told["jobs"][0]["error"].as_u64().unwrap_or(0),
        ..Report::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_of_fio() {
        let text = r#"{"jobs":[{"error":0,"usr_cpu":12.5,"sys_cpu":50.0,
            "read":{"io_bytes":4096000,"bw_bytes":8388608,"iops":2000.5,"runtime":500,"total_ios":1000,
              "clat_ns":{"min":900,"max":5000,"mean":1500.0,
                "percentile":{"50.000000":1400,"90.000000":2000,"99.000000":3000,"99.900000":4000}}},
            "write":{"iops":0,"total_ios":0}}]}"#;
        let expected = Report {
            ios: 1000,
            bytes: 4_096_000,
            seconds: 0.5,
            iops: 2000.5,
            mib_per_s: 8.0,
            latency_us: Latency { mean: 1.5, min: 0.9, p50: 1.4, p90: 2.0, p99: 3.0, p999: 4.0, max: 5.0 },
            ..Report::default()
        };
        let told = serde_json::from_str(text).unwrap();
        assert_eq!(report(&told, "randread"), expected);
        assert_eq!(report(&told, "randwrite").ios, 0);
        assert_eq!(cores(&told), 0.625);
    }
}
