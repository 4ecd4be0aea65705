//! SPDK's `iscsi_tgt`, where somebody has built one.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::{Found, READY, Server, Setting, portal};
use crate::fault::Fault;
use crate::process::{self, Process};
use crate::{machine, rpc};

const PROGRAM: &str = "iscsi_tgt";
/// Beside its disk, for the pools that so many sessions of such depth ask for.
const POOLS_MIB: u64 = 1024;
const SESSIONS: u32 = 72;
const DEPTH: u32 = 128;
const BLOCK_BYTES: u64 = 512;

pub(super) fn find() -> Result<Found, Fault> {
    let root = std::env::var_os("SPDK_DIR").map(PathBuf::from).unwrap_or_default();
    let folders = [root.join("build/bin"), root.join("bin")];
    let program = machine::program(PROGRAM, &[&folders[0], &folders[1]]).ok_or_else(|| Fault::Missing {
        program: PROGRAM.to_owned(),
        hint: "build SPDK and name its folder in SPDK_DIR",
    })?;
    let mut ask = Command::new(&program);
    let version = process::output(ask.arg("--version"), rustix::thread::sched_getcpu()).unwrap_or_default();
    let pages = if hugepages(0) { "hugepages" } else { "without hugepages" };
    Ok(Found { program, version: format!("{}, {pages}", version.trim()) })
}

/// Whether there are enough for the disk and all else.
fn hugepages(disk_mib: u64) -> bool {
    machine::free_hugepages_mib() >= disk_mib + POOLS_MIB
}

pub(super) fn start(found: &Found, setting: &Setting<'_>) -> Result<Server, Fault> {
    let (portal, calls) = (portal()?, setting.path("spdk.socket"));
    let disk_mib = setting.disk_bytes >> 20;
    let mut command = Command::new(&found.program);
    command.arg("-m").arg(format!("[{}]", setting.cpus.server)).arg("-r").arg(&calls);
    command.args(["--no-pci", "--wait-for-rpc", "-s", &(disk_mib + POOLS_MIB).to_string()]);
    // Killed, it would leave its trace buffers in memory; nobody reads them.
    command.args(["--num-trace-entries", "0"]);
    if !hugepages(disk_mib) {
        command.arg("--no-huge");
    }
    let mut process = Process::start(&mut command, setting.cpus.server, setting.path("spdk"))?;
    process.wait_for("its RPC socket", READY, |_| rpc::call(&calls, "spdk_get_version", Value::Null).ok())?;
    let set_up = [
        ("iscsi_set_options", json!({ "max_sessions": SESSIONS, "max_queue_depth": DEPTH })),
        ("framework_start_init", Value::Null),
        (
            "bdev_malloc_create",
            json!({ "name": "ram", "num_blocks": setting.disk_bytes / BLOCK_BYTES, "block_size": BLOCK_BYTES }),
        ),
        (
            "iscsi_create_portal_group",
            json!({ "tag": 1, "portals": [{ "host": portal.ip().to_string(), "port": portal.port().to_string() }] }),
        ),
        (
            "iscsi_create_initiator_group",
            json!({ "tag": 1, "initiators": ["ANY"], "netmasks": ["127.0.0.0/8"] }),
        ),
        (
            "iscsi_create_target_node",
            json!({
                "name": "spdk", "alias_name": "spdk", "pg_ig_maps": [{ "pg_tag": 1, "ig_tag": 1 }],
                "luns": [{ "bdev_name": "ram", "lun_id": 0 }], "queue_depth": DEPTH, "disable_chap": true,
            }),
        ),
    ];
    for (method, params) in set_up {
        rpc::call(&calls, method, params).map_err(|fault| died(&mut process).unwrap_or(fault))?;
    }
    let nodes = rpc::call(&calls, "iscsi_get_target_nodes", Value::Null)?;
    let target = nodes[0]["name"].as_str().unwrap_or_default().to_owned();
    Ok(Server { process, portal, target, lun: 0, is_wire: false, is_empty: true, calls: Some(calls) })
}

/// Why it no longer answers, if it has ended.
fn died(process: &mut Process) -> Option<Fault> {
    process.alive().err()
}
