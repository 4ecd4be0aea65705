//! Debian's tgt: its disk is a file in memory, its LUN 0 is a controller.

use std::path::PathBuf;
use std::process::Command;

use super::{Found, READY, Server, Setting, packaged, portal};
use crate::fault::Fault;
use crate::process::{Process, output};

const TARGET: &str = "iqn.2026-11.io.lunette:tgt";
/// It takes no larger number for its control socket.
const CONTROL_MAX: u16 = 32767;

pub(super) fn find() -> Result<Found, Fault> {
    packaged("tgtd", "tgt", "install the Debian package tgt")
}

pub(super) fn start(found: &Found, setting: &Setting<'_>) -> Result<Server, Fault> {
    let (portal, file) = (portal()?, setting.memory_file("tgt.disk")?);
    let control = (portal.port() % CONTROL_MAX + 1).to_string();
    let mut command = Command::new(&found.program);
    command.args(["-f", "-C", &control, "--iscsi", &format!("portal={portal}")]);
    let mut process = Process::start(&mut command, setting.cpus.server, setting.path("tgt"))?;
    let program: PathBuf = found.program.with_file_name("tgtadm");
    let admin = |words: &str| {
        let words = words.split(' ').chain(["-C", &control, "--lld", "iscsi"]);
        output(Command::new(&program).args(words), setting.cpus.client)
    };
    process.wait_for("its control socket", READY, |_| admin("--mode system --op show").ok())?;
    admin(&format!("--mode target --op new --tid 1 -T {TARGET}"))?;
    admin(&format!("--mode logicalunit --op new --tid 1 --lun 1 -b {}", file.display()))?;
    for digest in ["HeaderDigest", "DataDigest"] {
        admin(&format!("--mode target --op update --tid 1 --name {digest} --value None,CRC32C"))?;
    }
    admin("--mode target --op bind --tid 1 -I ALL")?;
    Ok(Server {
        process,
        portal,
        target: TARGET.to_owned(),
        lun: 1,
        is_wire: false,
        is_empty: false,
        calls: None,
    })
}
