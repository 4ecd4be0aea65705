//! `lunette nvme discover`: which subsystems a discovery controller knows, as a table.

use std::fmt::Write as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use clap::Args;

use super::Failed;
use crate::bdev::nvme::tcp::discovery::{Discovery, Entry, Kind};
use crate::bdev::nvme::tcp::transport::{DISCOVERY_NQN, DISCOVERY_PORT, Options, nqn_problem};
use crate::bdev::nvme::transport::Progress;
use crate::control::registry::uuid_text;
use crate::control::thread::SystemRandom;
use crate::time::Tick;

/// How long is slept between two looks.
const PAUSE: Duration = Duration::from_millis(1);

/// `lunette nvme discover`.
#[derive(Clone, Debug, Args)]
pub struct Discover {
    /// The discovery controller, over TCP; port 8009 where none is named
    #[arg(value_name = "HOST[:PORT]")]
    pub address: String,
    /// The name under which this host asks: subsystems may show themselves to certain hosts only
    #[arg(long, value_name = "NQN")]
    pub hostnqn: Option<String>,
}

/// Asks; the answer for people.
pub(super) fn discover(args: &Discover) -> Result<String, Failed> {
    let host_id = SystemRandom::uuid();
    let hostnqn = match &args.hostnqn {
        Some(name) => name.clone(),
        None => format!("nqn.2014-08.org.nvmexpress:uuid:{}", uuid_text(&host_id)),
    };
    if let Some(problem) = nqn_problem(&hostnqn) {
        return Err(Failed::usage(problem));
    }
    let mut last = None;
    for address in resolve(&args.address)? {
        match ask(Options::new(address, DISCOVERY_NQN, &hostnqn, host_id)) {
            Ok(entries) => return Ok(table(&entries)),
            Err(why) => last = Some(why),
        }
    }
    Err(Failed::failure(last.unwrap_or_else(|| format!("{}: no such host", args.address))))
}

/// `HOST`, `HOST:PORT`, `[ADDRESS]:PORT` or an address by itself.
fn resolve(text: &str) -> Result<Vec<SocketAddr>, Failed> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse() {
        return Ok(vec![SocketAddr::new(address, DISCOVERY_PORT)]);
    }
    let is_with_port = text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let resolved =
        if is_with_port { text.to_socket_addrs() } else { (text, DISCOVERY_PORT).to_socket_addrs() };
    match resolved {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) => Err(Failed::failure(format!("{text}: {error}; give HOST or HOST:PORT"))),
    }
}

fn ask(options: Options) -> Result<Vec<Entry>, String> {
    let begin = Instant::now();
    let now = || Tick::from_ns(u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX));
    let mut discovery = Discovery::start(options, now());
    loop {
        match discovery.poll(now()) {
            Progress::Pending => std::thread::sleep(PAUSE),
            Progress::Ready(entries) => return Ok(entries),
            Progress::Failed(why) => return Err(why),
        }
    }
}

/// One line for each entry.
fn table(entries: &[Entry]) -> String {
    let mut out = String::new();
    for entry in entries {
        let place = match entry.tcp() {
            Some(address) => address.to_string(),
            None => format!("{} {}", entry.address, entry.service),
        };
        let kind = match entry.kind {
            Kind::Referral => "referral",
            Kind::Subsystem => "subsystem",
            Kind::Current => "discovery",
            Kind::Unknown(_) => "unknown",
        };
        // Writing into a String does not fail.
        let _ = writeln!(out, "{kind:<9}  {:<4}  {place:<21}  {}", entry.transport_name(), entry.subnqn);
    }
    if entries.is_empty() {
        out.push_str("no subsystems for this host\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_may_be_missing() {
        let one = |text: &str| resolve(text).ok().and_then(|all| all.first().map(ToString::to_string));
        assert_eq!(one("127.0.0.1").as_deref(), Some("127.0.0.1:8009"));
        assert_eq!(one("127.0.0.1:4420").as_deref(), Some("127.0.0.1:4420"));
        assert_eq!(one("::1").as_deref(), Some("[::1]:8009"));
        assert_eq!(one("[::1]").as_deref(), Some("[::1]:8009"));
        assert_eq!(one("[::1]:4420").as_deref(), Some("[::1]:4420"));
        assert_eq!(one("localhost:99999"), None);
    }

    #[test]
    fn a_line_says_what_where_and_whose() {
        let entry = Entry {
            transport: 3,
            family: 1,
            kind: Kind::Subsystem,
            service: "4420".to_owned(),
            subnqn: "nqn.2026-11.example:disk".to_owned(),
            address: "192.0.2.7".to_owned(),
        };
        assert_eq!(table(&[entry]), "subsystem  tcp   192.0.2.7:4420         nqn.2026-11.example:disk\n");
        assert_eq!(table(&[]), "no subsystems for this host\n");
    }
}
