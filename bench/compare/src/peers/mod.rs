//! Who is compared: each peer is found, started on the server's CPU and told to serve one disk. Nobody is tuned beyond what
//! the case needs (queue depth, connections); who spins by design spins.

mod fio;
mod istgt;
mod lunette;
mod spdk;
mod tgt;
mod wire;

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cases::{Disk, Idle};
use crate::fault::Fault;
use crate::machine::Cpus;
use crate::process::{self, Process};

pub(crate) use fio::measure as measure_fio;

/// How long a server may take until it serves.
const READY: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;

/// A peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Lunette,
    /// `lunette-wire`: what kernel TCP can do here with the same bytes.
    Echo,
    Spdk,
    Tgt,
    Istgt,
    /// No target: fio at the file itself.
    Fio,
}

impl Kind {
    pub(crate) const ALL: [Kind; 6] =
        [Kind::Lunette, Kind::Echo, Kind::Spdk, Kind::Tgt, Kind::Istgt, Kind::Fio];

    /// Its name in options, results and tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Lunette => "lunette",
            Kind::Echo => "echo",
            Kind::Spdk => "spdk",
            Kind::Tgt => "tgt",
            Kind::Istgt => "istgt",
            Kind::Fio => "fio",
        }
    }

    /// The program, or what to do that there is one.
    pub(crate) fn find(self, tools: &Tools) -> Result<Found, Fault> {
        match self {
            Kind::Lunette => lunette::find(tools),
            Kind::Echo => wire::find(tools),
            Kind::Spdk => spdk::find(),
            Kind::Tgt => tgt::find(),
            Kind::Istgt => istgt::find(),
            Kind::Fio => fio::find(),
        }
    }

    /// Starts it with one disk.
    pub(crate) fn start(self, found: &Found, place: &Setting<'_>) -> Result<Server, Fault> {
        match self {
            Kind::Lunette => lunette::start(found, place),
            Kind::Echo => wire::start(found, place),
            Kind::Spdk => spdk::start(found, place),
            Kind::Tgt => tgt::start(found, place),
            Kind::Istgt => istgt::start(found, place),
            Kind::Fio => Err(Fault::Usage("fio serves nothing".to_owned())),
        }
    }
}

/// Our own programs, as they were given or stand beside this one.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) lunette: PathBuf,
    pub(crate) wire: PathBuf,
    pub(crate) load: PathBuf,
}

/// A peer that is there.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) program: PathBuf,
    pub(crate) version: String,
}

/// How a server is to be started.
#[derive(Debug)]
pub(crate) struct Setting<'a> {
    pub(crate) cpus: Cpus,
    /// For sockets, logs, and disks of servers that serve files from memory.
    pub(crate) scratch: &'a Path,
    pub(crate) disk: Disk,
    /// The file of a disk that is one.
    pub(crate) file: &'a Path,
    pub(crate) disk_bytes: u64,
    pub(crate) idle: Idle,
    /// Different for every start.
    pub(crate) serial: u32,
}

impl Setting<'_> {
    /// A path in the scratch folder that no other start has.
    pub(crate) fn path(&self, what: &str) -> PathBuf {
        self.scratch.join(format!("{}.{what}", self.serial))
    }

    /// The file that servers without a RAM disk serve as one; made full the first time.
    pub(crate) fn memory_file(&self, name: &str) -> Result<PathBuf, Fault> {
        let path = self.scratch.join(name);
        fill(&path, self.disk_bytes)?;
        Ok(path)
    }
}

/// A server that serves.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) portal: SocketAddr,
    pub(crate) target: String,
    pub(crate) lun: u32,
    /// It speaks the bytes of `lunette-wire`, not iSCSI.
    pub(crate) is_wire: bool,
    /// Memory that nobody has written yet reads cheaper than any other: it is to be filled.
    pub(crate) is_empty: bool,
    /// Where it may be asked how busy it was.
    pub(crate) calls: Option<PathBuf>,
}

/// Makes a file of that size with something in every block, unless it is one.
pub(crate) fn fill(path: &Path, bytes: u64) -> Result<(), Fault> {
    if path.metadata().is_ok_and(|found| found.len() == bytes) {
        return Ok(());
    }
    let piece: Vec<u8> = (0..MIB).map(|at| (at % 251) as u8).collect();
    let mut file = File::create(path).map_err(Fault::file(path))?;
    for _ in 0..bytes / MIB {
        file.write_all(&piece).map_err(Fault::file(path))?;
    }
    file.sync_all().map_err(Fault::file(path))
}

/// The version of a Debian package; nothing where it is none.
fn package_version(package: &str) -> String {
    let mut query = std::process::Command::new("dpkg-query");
    let said = query.args(["-W", "-f", "${Version}", package]).output();
    said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned()).unwrap_or_default()
}

/// A program of a package, or what to do that there is one.
fn packaged(program: &str, package: &str, hint: &'static str) -> Result<Found, Fault> {
    let found = crate::machine::program(program, &[]);
    let path = found.ok_or_else(|| Fault::Missing { program: program.to_owned(), hint })?;
    Ok(Found { program: path, version: package_version(package) })
}

/// Connected once, so that it listens.
fn listens(portal: SocketAddr) -> Option<()> {
    std::net::TcpStream::connect_timeout(&portal, Duration::from_secs(1)).ok().map(drop)
}

/// A port for servers that do not say which the system gave them.
fn portal() -> Result<SocketAddr, Fault> {
    process::free_address()
}
