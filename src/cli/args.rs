//! The switches of `lunette serve`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::disk::{self, Disk};
use crate::bdev::file::Cache;
use crate::buf::Hugepages;
use crate::reactor::Idle;
use crate::rpc::door::Door;

/// The port that IANA gave to iSCSI.
pub(super) const PORT: u16 = 3260;

/// `--idle`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum IdleArg {
    /// Poll on: for cores that do nothing else.
    Spin,
    /// Poll for a moment, then wait in the kernel.
    Adaptive,
    /// Wait in the kernel at once: for small machines.
    Park,
}

impl From<IdleArg> for Idle {
    fn from(arg: IdleArg) -> Idle {
        match arg {
            IdleArg::Spin => Idle::Spin,
            IdleArg::Adaptive => Idle::Adaptive,
            IdleArg::Park => Idle::Park,
        }
    }
}

/// `--hugepages`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum HugepagesArg {
    /// Where enough are free, else ordinary memory.
    Auto,
    /// Or do not start.
    Require,
    /// Ordinary memory.
    Off,
}

impl From<HugepagesArg> for Hugepages {
    fn from(arg: HugepagesArg) -> Hugepages {
        match arg {
            HugepagesArg::Auto => Hugepages::Auto,
            HugepagesArg::Require => Hugepages::Require,
            HugepagesArg::Off => Hugepages::Off,
        }
    }
}

/// `--cache`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum CacheArg {
    /// A write is done when the system has it; initiators flush what must last.
    Back,
    /// A write is done when it is on stable storage.
    Through,
}

impl From<CacheArg> for Cache {
    fn from(arg: CacheArg) -> Cache {
        match arg {
            CacheArg::Back => Cache::WriteBack,
            CacheArg::Through => Cache::WriteThrough,
        }
    }
}

/// `lunette serve`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  lunette serve                                      waits for 'lunette share'
  lunette serve disk.img                             a file, or a block device, on 127.0.0.1:3260
  lunette serve --size 10G new.img --portal 192.0.2.10 --initiator 'iqn.1993-08.org.debian:01:*'
  lunette serve -m 0,1 --idle spin --malloc fast:1G  a RAM disk, on two cores that do nothing else
  lunette serve --config /etc/lunette/config.json    what was shared before")]
pub struct Serve {
    /// Files or block devices to serve; LUNs count from 0; a .iso file is the disc in a CD-ROM drive; /dev/sgN is passed through
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Make each PATH that is not there: a sparse file of this size, as 10G
    #[arg(long, value_name = "SIZE", requires = "paths", value_parser = disk::size)]
    pub size: Option<u64>,
    /// PATHs are for reading only
    #[arg(long, requires = "paths", conflicts_with = "size")]
    pub read_only: bool,
    /// When a write to a PATH is done
    #[arg(long, value_enum, default_value = "back", value_name = "HOW")]
    pub cache: CacheArg,
    /// Bytes of a block of each PATH: 512, 1024, 2048 or 4096 [default: 512 for files, a device's own]
    #[arg(long, value_name = "BYTES", requires = "paths", value_parser = disk::block)]
    pub block_size: Option<u32>,
    /// Serve a 256 MiB RAM disk on 127.0.0.1:3260 and print how to reach it
    #[arg(long)]
    pub demo: bool,
    /// CPUs to run on, one reactor each: a hex mask (0x3) or a list (0,2-3) [default: the first allowed]
    #[arg(short = 'm', long, value_name = "CPUS")]
    pub cores: Option<String>,
    /// What a reactor does when there is nothing to do
    #[arg(long, value_enum, default_value = "adaptive", value_name = "HOW")]
    pub idle: IdleArg,
    /// What buffers are made of
    #[arg(long, value_enum, default_value = "auto", value_name = "WHEN")]
    pub hugepages: HugepagesArg,
    /// Buffer memory of all reactors together, in MiB [default: 128 for each]
    #[arg(long, value_name = "MIB")]
    pub mem_size: Option<usize>,
    /// Where to listen: ADDR or ADDR:PORT, IPv6 addresses in brackets; port 0 lets the system choose. Initiators that come by
    /// another address (NAT, a container) are told that by ADDR:PORT,advertise=ADDR:PORT. Repeatable
    /// [default: 127.0.0.1:3260]
    #[arg(long = "portal", value_name = "ADDR:PORT", value_parser = portal)]
    pub portals: Vec<PortalArg>,
    /// What to log: off, error, warn, info, debug, trace; or json: info, one JSON object a line
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    pub log: String,
    /// Take SPDK's JSON-RPC calls at this UNIX socket; `lunette share`, `rpc` and the others send them
    /// [default: $LUNETTE_SOCKET, else /run/lunette/rpc.sock for root, $XDG_RUNTIME_DIR/lunette.sock for others]
    #[arg(short = 'r', long, value_name = "PATH")]
    pub rpc_socket: Option<PathBuf>,
    /// Serve what this file says: calls that were saved by lunette_save_config or spdk-rpc save_config
    #[arg(short = 'c', long, alias = "json", value_name = "FILE", conflicts_with_all = ["demo", "paths", "mallocs", "nulls"])]
    pub config: Option<PathBuf>,
    /// Make --config FILE where it is not there: a configuration with nothing in it, which others cannot read
    #[arg(long, requires = "config")]
    pub create_config: bool,
    /// Leave --config FILE as it is: what calls change is gone at the next start. Else every change is saved there before it
    /// is answered; 'lunette config' shows the last versions
    #[arg(long, requires = "config")]
    pub no_save: bool,
    /// Keep here what must survive a restart and a power loss: reservations, access states, identities, port numbers
    /// [default: with --config FILE, FILE.state]
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Serve nothing until framework_start_init is called: options can be set before
    #[arg(short = 'w', long, conflicts_with_all = ["demo", "paths", "mallocs", "nulls"])]
    pub wait_for_rpc: bool,
    /// Drive NVMe disks that no IOMMU keeps within their memory: a broken disk can then overwrite any memory of the machine
    #[arg(long)]
    pub unsafe_noiommu: bool,
    /// Take some of the calls at another UNIX socket: PATH,read-only (nothing changes, no secrets) or PATH,methods=A+B; with
    /// ,uid=N+M from these users too. Repeatable
    #[arg(long, value_name = "PATH[,...]")]
    pub rpc_also: Vec<Door>,
    /// Take calls over TCP, by TLS and from who shows a token: ADDR:PORT,cert=FILE,key=FILE,token-file=FILE, and ,read-only or
    /// ,methods=A+B; the two secret files are to be closed to others. Repeatable
    #[cfg(feature = "rpc-tls")]
    #[arg(long, value_name = "ADDR:PORT,...")]
    pub rpc_tcp: Vec<crate::rpc::tcp::Entry>,
    /// A RAM disk, as disk0:1G or disk0:256M:4096. Repeatable; its LUNs come after those of PATHs
    #[arg(long = "malloc", value_name = "NAME:SIZE[:BLOCK]")]
    pub mallocs: Vec<Disk>,
    /// A disk that keeps nothing, as null0:1T. Repeatable; its LUNs come after those of --malloc
    #[arg(long = "null", value_name = "NAME:SIZE[:BLOCK]")]
    pub nulls: Vec<Disk>,
    /// Start SPDK with this configuration of its own and serve its bdevs; their LUNs come last
    #[cfg(feature = "spdk")]
    #[arg(long, value_name = "FILE", conflicts_with = "demo")]
    pub spdk_json: Option<PathBuf>,
    /// Memory that SPDK takes, in MiB [default: with hugepages what it asks for, else 1024]
    #[cfg(feature = "spdk")]
    #[arg(long, value_name = "MIB", requires = "spdk_json")]
    pub spdk_mem: Option<u32>,
    /// The target's name
    #[arg(long, default_value = "iqn.2026-11.io.lunette:demo", value_name = "IQN")]
    pub target: String,
    /// Initiators prove by CHAP that they are this user; with --chap-secret-file
    #[arg(long, value_name = "NAME", requires = "chap_secret_file")]
    pub chap_user: Option<String>,
    /// The secret of --chap-user: 12 to 16 bytes in a file that others cannot read
    #[arg(long, value_name = "FILE", requires = "chap_user")]
    pub chap_secret_file: Option<PathBuf>,
    /// The target proves by CHAP that it is this user, to initiators that ask
    #[arg(long, value_name = "NAME", requires_all = ["mutual_secret_file", "chap_user"])]
    pub mutual_user: Option<String>,
    /// The secret of --mutual-user; not that of --chap-user
    #[arg(long, value_name = "FILE", requires = "mutual_user")]
    pub mutual_secret_file: Option<PathBuf>,
    /// Discovery sessions need the same CHAP
    #[arg(long, requires = "chap_user")]
    pub discovery_chap: bool,
    /// Take CHAP secrets under 12 bytes (96 bits)
    #[arg(long)]
    pub weak_chap: bool,
    /// Who may log in: an initiator's name, '*' and '?' stand for anything. Repeatable [default: everybody]
    #[arg(long = "initiator", value_name = "GLOB")]
    pub initiators: Vec<String>,
    /// Show figures for Prometheus (/metrics) and a status page (/) here by HTTP, to everybody who reaches it, for reading
    /// only; port 0 lets the system choose
    #[cfg(feature = "metrics")]
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics: Option<SocketAddr>,
    /// Written once it serves: the portals, one a line
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Log commands that take so many milliseconds, with the stage in which the time went; 0: none
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(..=86_400_000))]
    pub slow_io: Option<u64>,
    /// When something goes wrong on a connection, write the headers of its last PDUs into this folder, as pcapng files for
    /// Wireshark; the last 16 stay
    #[arg(long, value_name = "DIR")]
    pub record_dir: Option<PathBuf>,
    /// Ask a silent initiator after so long whether it is there, give it up where it has not answered in twice that; 0 never
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(..=86_400))]
    pub nop_in: u32,
}

/// `--portal`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortalArg {
    /// Where to listen.
    pub address: SocketAddr,
    /// What initiators are told instead.
    pub advertised: Option<SocketAddr>,
}

/// An address, and what initiators are told instead of it.
fn portal(text: &str) -> Result<PortalArg, String> {
    let Some((at, advertised)) = text.split_once(",advertise=") else {
        return Ok(PortalArg { address: address(text)?, advertised: None });
    };
    let advertised = address(advertised)?;
    if advertised.ip().is_unspecified() || advertised.port() == 0 {
        return Err("initiators need an address and a port to come to".to_owned());
    }
    Ok(PortalArg { address: address(at)?, advertised: Some(advertised) })
}

/// `ADDR`, `ADDR:PORT`, `[ADDR6]`, `[ADDR6]:PORT`.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(portal) = text.parse() {
        return Ok(portal);
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    match (bare.unwrap_or(text).parse(), bare) {
        (Ok(IpAddr::V6(_)), None) => Err(format!("an IPv6 address needs brackets: [{text}]")),
        (Ok(ip), _) => Ok(SocketAddr::new(ip, PORT)),
        (Err(_), _) => {
            Err("not an address and port, as 192.0.2.1:3260 or [2001:db8::1]:3260; names are not looked up"
                .to_owned())
        }
    }
}

impl Serve {
    /// Where to listen.
    pub fn portals(&self) -> Vec<PortalArg> {
        if self.portals.is_empty() {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
            vec![PortalArg { address, advertised: None }]
        } else {
            self.portals.clone()
        }
    }

    /// Nothing is served but what calls make.
    pub fn is_commanded_only(&self) -> bool {
        let serves = self.demo || self.config.is_some();
        let disks = self.paths.len() + self.mallocs.len() + self.nulls.len();
        #[cfg(feature = "spdk")]
        let disks = disks + usize::from(self.spdk_json.is_some());
        self.wait_for_rpc || (!serves && disks == 0)
    }

    /// Targets and LUNs come from a file or by calls, whatever disks there are.
    pub fn is_mapped_elsewhere(&self) -> bool {
        self.config.is_some() || self.wait_for_rpc
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portals_are_addresses_with_a_port_or_without() {
        for (text, expected) in [
            ("127.0.0.1:3261", "127.0.0.1:3261"),
            ("127.0.0.1", "127.0.0.1:3260"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("[::1]:5", "[::1]:5"),
            ("[::]", "[::]:3260"),
        ] {
            let expected = PortalArg { address: expected.parse().unwrap(), advertised: None };
            assert_eq!(portal(text), Ok(expected), "{text}");
        }
        let advertised = portal("0.0.0.0,advertise=192.0.2.1:5").unwrap();
        assert_eq!(advertised.address, "0.0.0.0:3260".parse().unwrap());
        assert_eq!(advertised.advertised, Some("192.0.2.1:5".parse().unwrap()));
        for wrong in ["0.0.0.0,advertise=", "0.0.0.0,advertise=0.0.0.0:1", "::,advertise=192.0.2.1:0"] {
            assert!(portal(wrong).is_err(), "{wrong}");
        }
        assert_eq!(portal("::1").unwrap_err(), "an IPv6 address needs brackets: [::1]");
        for wrong in ["", "localhost", "127.0.0.1:", "127.0.0.1:70000", "[127.0.0.1", ":3260"] {
            assert!(portal(wrong).is_err(), "{wrong}");
        }
    }
}
