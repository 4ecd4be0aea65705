//! The echo pair: the ruler.

use std::net::SocketAddr;
use std::process::Command;

use super::{Found, READY, Server, Setting, Tools};
use crate::fault::Fault;
use crate::process::Process;

pub(super) fn find(tools: &Tools) -> Result<Found, Fault> {
    if !tools.wire.is_file() {
        let hint = "build it (cargo build --profile dist -p lunette-wire) and name it with --wire";
        return Err(Fault::Missing { program: tools.wire.display().to_string(), hint });
    }
    Ok(Found { program: tools.wire.clone(), version: env!("CARGO_PKG_VERSION").to_owned() })
}

pub(super) fn start(found: &Found, setting: &Setting<'_>) -> Result<Server, Fault> {
    let mut command = Command::new(&found.program);
    command.args(["--listen", "127.0.0.1:0", "--bytes"]).arg(setting.disk_bytes.to_string());
    command.arg("--cpu").arg(setting.cpus.server.to_string());
    let mut process = Process::start(&mut command, setting.cpus.server, setting.path("wire"))?;
    let portal = process.wait_for("its address", READY, |process| listening(&process.said()))?;
    Ok(Server { process, portal, target: String::new(), lun: 0, is_wire: true, is_empty: true, calls: None })
}

/// The address in its line; a line that is not whole yet is none.
fn listening(said: &str) -> Option<SocketAddr> {
    let lines = said.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    lines.filter_map(|line| line.trim().strip_prefix("listening on ")).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_read_when_its_line_is_whole() {
        assert_eq!(listening("hugepages: 0\nlistening on 127.0.0.1:4070\n"), "127.0.0.1:4070".parse().ok());
        assert_eq!(listening("listening on 127.0.0.1:40"), None);
        assert_eq!(listening(""), None);
    }
}
