//! Debian's istgt: its disk is a file in memory; it takes a configuration file and nothing else.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::{Found, READY, Server, Setting, listens, packaged, portal};
use crate::fault::Fault;
use crate::process::Process;

const BASE: &str = "iqn.2026-11.io.lunette";

pub(super) fn find() -> Result<Found, Fault> {
    packaged("istgt", "istgt", "install the Debian package istgt")
}

pub(super) fn start(found: &Found, setting: &Setting<'_>) -> Result<Server, Fault> {
    let (portal, file) = (portal()?, setting.memory_file("istgt.disk")?);
    let (config, users) = (setting.path("istgt.conf"), setting.path("istgt.users"));
    let text = configuration(portal, &file, &users, &setting.path("istgt.pid"), setting.disk_bytes >> 20);
    fs::write(&config, text).map_err(Fault::file(&config))?;
    fs::write(&users, "").map_err(Fault::file(&users))?;
    let mut command = Command::new(&found.program);
    command.arg("-D").arg("-c").arg(&config);
    let mut process = Process::start(&mut command, setting.cpus.server, setting.path("istgt"))?;
    process.wait_for("its portal", READY, |_| listens(portal))?;
    let target = format!("{BASE}:istgt");
    Ok(Server { process, portal, target, lun: 0, is_wire: false, is_empty: false, calls: None })
}

/// Queues are off unless asked for; bursts are those that its example asks for.
fn configuration(portal: SocketAddr, file: &Path, users: &Path, pid: &Path, disk_mib: u64) -> String {
    format!(
        "[Global]
  NodeBase \"{BASE}\"
  PidFile {}
  AuthFile {}
  LogFacility \"local7\"
  Timeout 30
  NopInInterval 20
  DiscoveryAuthMethod None
  MaxSessions 128
  MaxConnections 4
  MaxR2T 32
  MaxOutstandingR2T 16
  DefaultTime2Wait 2
  DefaultTime2Retain 60
  FirstBurstLength 262144
  MaxBurstLength 1048576
  MaxRecvDataSegmentLength 262144
  InitialR2T Yes
  ImmediateData Yes
  DataPDUInOrder Yes
  DataSequenceInOrder Yes
  ErrorRecoveryLevel 0
[UnitControl]
  AuthMethod None
[PortalGroup1]
  Portal P1 {portal}
[InitiatorGroup1]
  InitiatorName \"ALL\"
  Netmask 127.0.0.0/8
[LogicalUnit1]
  TargetName istgt
  Mapping PortalGroup1 InitiatorGroup1
  AuthMethod None
  UseDigest Auto
  UnitType Disk
  QueueDepth 128
  LUN0 Storage {} {disk_mib}MB
",
        pid.display(),
        users.display(),
        file.display(),
    )
}
