//! lunette itself.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::{Found, READY, Server, Setting, Tools};
use crate::cases::{Disk, Idle};
use crate::fault::Fault;
use crate::process::{self, Process};

const TARGET: &str = "iqn.2026-11.io.lunette:compare";
/// Each disk of many: 1 MiB.
const BLOCK_BYTES: u32 = 512;
const BLOCKS: u32 = 2048;

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
    command.arg("serve").args(["--idle", if setting.idle == Idle::Spin { "spin" } else { "adaptive" }]);
    command
        .arg("-m")
        .arg(setting.cpus.server.to_string())
        .arg("-r")
        .arg(&calls)
        .arg("--ready-file")
        .arg(&ready);
    let (target, lun) = match setting.disk {
        Disk::Targets(count) => (target(count.saturating_sub(1)), 0),
        Disk::Units(count) => (target(0), u32::from(count.saturating_sub(1))),
        Disk::Ram | Disk::File | Disk::PageCache => (TARGET.to_owned(), 0),
    };
    match setting.disk {
        Disk::Targets(_) | Disk::Units(_) => {
            let path = setting.path("config");
            fs::write(&path, configuration(setting.disk).to_string()).map_err(Fault::file(&path))?;
            command.arg("-c").arg(path)
        }
        Disk::Ram => command.arg("--malloc").arg(format!("ram:{}M", setting.disk_bytes >> 20)),
        Disk::File | Disk::PageCache => command.arg(setting.file),
    };
    if lun == 0 && target == TARGET {
        command.args(["--portal", "127.0.0.1:0", "--target", TARGET, "--log", "warn"]);
    }
    let mut process = Process::start(&mut command, setting.cpus.server, setting.path("lunette"))?;
    let portal = process.wait_for("its ready file", READY, |_| {
        fs::read_to_string(&ready).ok()?.lines().next()?.parse().ok()
    })?;
    let is_empty = setting.disk == Disk::Ram;
    Ok(Server { process, portal, target, lun, is_wire: false, is_empty, calls: None })
}

/// The name of one of many targets.
fn target(number: u16) -> String {
    format!("{TARGET}-{number}")
}

/// The calls that make many targets, or many LUNs of one.
fn configuration(disk: Disk) -> Value {
    let (targets, units) = match disk {
        Disk::Targets(count) => (count, 1),
        Disk::Units(count) => (1, count),
        Disk::Ram | Disk::File | Disk::PageCache => (1, 1),
    };
    let call = |method: &str, params: Value| json!({ "method": method, "params": params });
    let name = |target: u16, unit: u16| format!("ram-{target}-{unit}");
    let all = (0..targets).flat_map(|target| (0..units).map(move |unit| (target, unit)));
    let disks = all.map(|(target, unit)| {
        let params = json!({ "name": name(target, unit), "num_blocks": BLOCKS, "block_size": BLOCK_BYTES });
        call("bdev_malloc_create", params)
    });
    let groups = [
        call(
            "iscsi_create_portal_group",
            json!({ "tag": 1, "portals": [{ "host": "127.0.0.1", "port": "0" }] }),
        ),
        call(
            "iscsi_create_initiator_group",
            json!({ "tag": 1, "initiators": ["ANY"], "netmasks": ["127.0.0.0/8"] }),
        ),
    ];
    let nodes = (0..targets).map(|number| {
        let units =
            (0..units).map(|unit| json!({ "bdev_name": name(number, unit), "lun_id": unit })).collect::<Vec<_>>();
        let maps = json!([{ "pg_tag": 1, "ig_tag": 1 }]);
        call(
            "iscsi_create_target_node",
            json!({ "name": target(number), "alias_name": "", "pg_ig_maps": maps, "luns": units, "queue_depth": 64 }),
        )
    });
    let calls = groups.into_iter().chain(nodes).collect::<Vec<_>>();
    json!({ "subsystems": [
        { "subsystem": "bdev", "config": disks.collect::<Vec<_>>() },
        { "subsystem": "iscsi", "config": calls },
    ] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_targets_or_luns_as_are_asked_for() {
        for (disk, targets, units) in [(Disk::Targets(3), 3, 1), (Disk::Units(3), 1, 3)] {
            let made = configuration(disk);
            assert_eq!(made["subsystems"][0]["config"].as_array().unwrap().len(), 3);
            let calls = made["subsystems"][1]["config"].as_array().unwrap();
            let nodes: Vec<_> =
                calls.iter().filter(|call| call["method"] == "iscsi_create_target_node").collect();
            assert_eq!(nodes.len(), targets);
            let last = &nodes[targets - 1]["params"];
            assert_eq!(last["name"], format!("{TARGET}-{}", targets - 1));
            assert_eq!(last["luns"].as_array().unwrap().len(), units);
            assert_eq!(last["luns"][units - 1]["bdev_name"], format!("ram-{}-{}", targets - 1, units - 1));
        }
    }
}
