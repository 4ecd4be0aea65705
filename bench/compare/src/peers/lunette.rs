//! lunette itself.

use std::fs;
use std::process::Command;

use super::{Found, READY, Server, Setting, Tools};
use crate::cases::{Disk, Idle};
use crate::fault::Fault;
use crate::process::{self, Process};

const TARGET: &str = "iqn.2026-11.io.lunette:compare";

pub(super) fn find(tools: &Tools) -> Result<Found, Fault> {
    if !tools.lunette.is_file() {
        let hint = "build it (cargo build --profile dist) and name it with --lunette";
        return Err(Fault::Missing { program: tools.lunette.display().to_string(), hint });
    }
    let version = process::output(Command::new(&tools.lunette).arg("--version"), first_cpu())?;
    Ok(Found { program: tools.lunette.clone(), version: version.trim().to_owned() })
}

/// Any CPU does to ask for a version.
fn first_cpu() -> usize {
    rustix::thread::sched_getcpu()
}

pub(super) fn start(found: &Found, setting: &Setting<'_>) -> Result<Server, Fault> {
    let (ready, calls) = (setting.path("ready"), setting.path("socket"));
    let mut command = Command::new(&found.program);
    command.args(["serve", "--portal", "127.0.0.1:0", "--target", TARGET, "--log", "warn"]);
    command.args(["--idle", if setting.idle == Idle::Spin { "spin" } else { "adaptive" }]);
    command
        .arg("-m")
        .arg(setting.cpus.server.to_string())
        .arg("-r")
        .arg(&calls)
        .arg("--ready-file")
        .arg(&ready);
    match setting.disk {
        Disk::Ram => command.arg("--malloc").arg(format!("ram:{}M", setting.disk_bytes >> 20)),
        Disk::File | Disk::PageCache => command.arg(setting.file),
    };
    let mut process = Process::start(&mut command, setting.cpus.server, setting.path("lunette"))?;
    let portal = process.wait_for("its ready file", READY, |_| {
        fs::read_to_string(&ready).ok()?.lines().next()?.parse().ok()
    })?;
    let is_empty = setting.disk == Disk::Ram;
    Ok(Server {
        process,
        portal,
        target: TARGET.to_owned(),
        lun: 0,
        is_wire: false,
        is_empty,
        calls: Some(calls),
    })
}
