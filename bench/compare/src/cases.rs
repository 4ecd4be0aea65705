//! What is measured: each case is a load, the disk it goes to, who takes part, and what lunette is to reach.

use crate::peers::Kind;

/// Cases that are asked for by one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// The table of goals.
    Goals,
    /// Throughput over queue depth and over connections.
    Sweep,
    /// Disks that are files, beside fio.
    File,
    /// Thousands of connections, logins, fairness, load that does not fill the core.
    Scale,
}

impl Group {
    pub(crate) const ALL: [(Group, &'static str); 4] =
        [(Group::Goals, "goals"), (Group::Sweep, "sweep"), (Group::File, "file"), (Group::Scale, "scale")];
}

/// What the logical unit is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disk {
    /// Memory of the server's.
    Ram,
    /// A file on a file system that has a medium.
    File,
    /// A file in memory: it is the page cache and nothing else.
    PageCache,
}

/// What lunette does when there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Idle {
    Spin,
    Adaptive,
}

/// What `lunette-load` is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Load {
    pub(crate) connections: u32,
    pub(crate) rw: &'static str,
    pub(crate) io_bytes: u32,
    /// For each connection.
    pub(crate) depth: u32,
    pub(crate) digests: bool,
    /// IOs per second of all connections together; as fast as it goes where nothing is said.
    pub(crate) rate: Option<u32>,
    /// Connections beside these that do nothing.
    pub(crate) idle: u32,
}

/// What lunette is to reach, and beside whom.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Goal {
    /// IOs per second, per the peer's in the same round.
    Peer(Kind, f64),
    /// IOs per second, per those of another case in the same round.
    Case(&'static str, f64),
    /// IOs per second, per the most of all cases whose names begin so in the same round.
    Best(&'static str, f64),
    /// Seconds until all connections are logged in, at most.
    Login(f64),
    /// p99 of the latency, per what an IO takes when all connections have the same share, at most.
    FairShare(f64),
}

impl Goal {
    /// The figure, and whether it is the least or the most that is right.
    pub(crate) fn bound(&self) -> (f64, bool) {
        match *self {
            Goal::Peer(_, least) | Goal::Case(_, least) | Goal::Best(_, least) => (least, true),
            Goal::Login(most) | Goal::FairShare(most) => (most, false),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) group: Group,
    pub(crate) load: Load,
    /// A second load at the same time, which is not what is asked about.
    pub(crate) beside: Option<Load>,
    pub(crate) disk: Disk,
    pub(crate) idle: Idle,
    pub(crate) peers: &'static [Kind],
    pub(crate) goals: Vec<Goal>,
}

const ALL: &[Kind] = &[Kind::Lunette, Kind::Echo, Kind::Spdk, Kind::Tgt, Kind::Istgt];
const FAST: &[Kind] = &[Kind::Lunette, Kind::Echo];
const DIGESTS: &[Kind] = &[Kind::Lunette, Kind::Spdk];
const FILE: &[Kind] = &[Kind::Lunette, Kind::Fio];
/// All that do not spin, and SPDK, which counts what it was busy.
const PACED: &[Kind] = &[Kind::Lunette, Kind::Spdk, Kind::Tgt, Kind::Istgt];

/// Queue depths of the sweep.
pub(crate) const DEPTHS: [u32; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
/// Connections of the sweep.
pub(crate) const CONNECTIONS: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Queue depth of each of them.
pub(crate) const CONNECTION_DEPTH: u32 = 8;
/// Connections at one reactor.
pub(crate) const MANY: [u32; 6] = [1, 16, 64, 256, 1024, 4096];
/// IOs per second of loads that do not fill the core.
pub(crate) const RATES: [u32; 3] = [1_000, 10_000, 100_000];

/// Every case there is, in the order of the tables.
pub(crate) fn all() -> Vec<Case> {
    [goals(), sweep(), files(), scale()].concat()
}

fn load(connections: u32, rw: &'static str, io_bytes: u32, depth: u32) -> Load {
    Load { connections, rw, io_bytes, depth, digests: false, rate: None, idle: 0 }
}

fn case(group: Group, name: &str, title: &str, load: Load, peers: &'static [Kind]) -> Case {
    Case {
        name: name.to_owned(),
        title: title.to_owned(),
        group,
        load,
        beside: None,
        disk: Disk::Ram,
        idle: Idle::Spin,
        peers,
        goals: Vec::new(),
    }
}

fn goals() -> Vec<Case> {
    let with = |name: &str, title: &str, load: Load, goals: &[Goal]| Case {
        goals: goals.to_vec(),
        ..case(Group::Goals, name, title, load, ALL)
    };
    let echo = |least| Goal::Peer(Kind::Echo, least);
    let beside = |spdk| [Goal::Peer(Kind::Spdk, spdk), Goal::Peer(Kind::Tgt, 15.0)];
    let digests = Load { digests: true, ..load(1, "randread", 4096, 32) };
    let [spdk_read, tgt_read] = beside(1.3);
    let [spdk_write, tgt_write] = beside(1.6);
    vec![
        with(
            "randread-4k",
            "4 KiB random read, QD 32",
            load(1, "randread", 4096, 32),
            &[echo(0.9), spdk_read, tgt_read],
        ),
        with(
            "randread-4k-x4",
            "4 KiB random read, 4 connections, QD 32",
            load(4, "randread", 4096, 32),
            &[echo(0.9)],
        ),
        with(
            "randwrite-4k",
            "4 KiB random write, QD 32",
            load(1, "randwrite", 4096, 32),
            &[echo(0.85), spdk_write, tgt_write],
        ),
        with("randread-4k-qd1", "4 KiB random read, QD 1", load(1, "randread", 4096, 1), &[echo(0.95)]),
        with("randwrite-4k-qd1", "4 KiB random write, QD 1", load(1, "randwrite", 4096, 1), &[echo(0.95)]),
        with("read-128k", "128 KiB sequential read, QD 8", load(1, "read", 131_072, 8), &[echo(0.95)]),
        with("write-128k", "128 KiB sequential write, QD 8", load(1, "write", 131_072, 8), &[echo(0.9)]),
        Case {
            peers: DIGESTS,
            ..with(
                "randread-4k-digests",
                "4 KiB random read, QD 32, digests",
                digests,
                &[Goal::Case("randread-4k", 0.93)],
            )
        },
        with(
            "randread-512-x4",
            "512 B random read, 4 connections, QD 32",
            load(4, "randread", 512, 32),
            &[echo(0.8)],
        ),
    ]
}

fn sweep() -> Vec<Case> {
    let at = |rw: &'static str, connections, depth| {
        let title = format!("4 KiB {rw}, connections {connections}, QD {depth}");
        case(
            Group::Sweep,
            &sweep_name(rw, connections, depth),
            &title,
            load(connections, rw, 4096, depth),
            ALL,
        )
    };
    let depths = ["randread", "randwrite"].into_iter().flat_map(|rw| DEPTHS.map(|depth| at(rw, 1, depth)));
    let connections =
        CONNECTIONS.iter().filter(|count| **count > 1).map(|count| at("randread", *count, CONNECTION_DEPTH));
    depths.chain(connections).collect()
}

/// The name of a case of the sweep.
pub(crate) fn sweep_name(rw: &str, connections: u32, depth: u32) -> String {
    format!("sweep-{rw}-x{connections}-qd{depth}")
}

fn files() -> Vec<Case> {
    let places = [(Disk::File, "direct", "file, O_DIRECT"), (Disk::PageCache, "cache", "file, page cache")];
    let ways = [("randread", "read"), ("randwrite", "write")];
    let pairs = places.into_iter().flat_map(|place| ways.map(|way| (place, way)));
    pairs
        .map(|((disk, word, told), (rw, way))| Case {
            disk,
            goals: vec![Goal::Peer(Kind::Fio, 0.85)],
            ..case(
                Group::File,
                &format!("file-{word}-{way}"),
                &format!("4 KiB random {way}, QD 32, {told}"),
                load(1, rw, 4096, 32),
                FILE,
            )
        })
        .collect()
}

fn scale() -> Vec<Case> {
    let with = |name: &str, title: &str, load: Load, peers| case(Group::Scale, name, title, load, peers);
    let mut cases: Vec<Case> = MANY
        .map(|count| {
            let title = format!("4 KiB random read, connections {count}, QD 1");
            with(&format!("connections-{count}"), &title, load(count, "randread", 4096, 1), FAST)
        })
        .into();
    if let Some(most) = cases.last_mut() {
        most.goals.push(Goal::Best("connections-", 0.6));
    }
    let among_idle = Load { idle: 4095, ..load(1, "randread", 4096, 1) };
    cases.push(Case {
        goals: vec![Goal::Case("connections-1", 0.8)],
        ..with(
            "one-among-idle",
            "4 KiB random read, QD 1, among 4095 idle connections",
            among_idle,
            &[Kind::Lunette],
        )
    });
    cases.push(Case {
        goals: vec![Goal::Login(2.0)],
        ..with(
            "login-storm",
            "1000 sessions log in at once",
            load(1000, "randread", 4096, 1),
            &[Kind::Lunette],
        )
    });
    cases.push(Case {
        beside: Some(load(16, "randwrite", 4096, 128)),
        goals: vec![Goal::FairShare(3.0)],
        ..with(
            "fairness",
            "4 KiB random read, QD 1, beside 16 writers of QD 128",
            load(1, "randread", 4096, 1),
            &[Kind::Lunette],
        )
    });
    cases.extend(RATES.map(|rate| Case {
        idle: Idle::Adaptive,
        ..with(
            &rate_name(rate),
            &format!("4 KiB random read, {rate} IO/s, the core not full"),
            Load { rate: Some(rate), ..load(1, "randread", 4096, 32) },
            PACED,
        )
    }));
    cases
}

/// The name of a case of a fixed rate.
pub(crate) fn rate_name(rate: u32) -> String {
    format!("rate-{rate}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_goals_lead_somewhere() {
        let cases = all();
        for (at, case) in cases.iter().enumerate() {
            assert!(cases[..at].iter().all(|other| other.name != case.name), "{} is there twice", case.name);
            assert!(Group::ALL.iter().all(|(_, word)| *word != case.name));
            for goal in &case.goals {
                match goal {
                    Goal::Peer(kind, _) => assert!(case.peers.contains(kind)),
                    Goal::Case(name, _) => assert!(cases.iter().any(|other| other.name == *name)),
                    Goal::Best(start, _) => assert!(case.name.starts_with(start)),
                    Goal::Login(_) => assert!(case.load.connections > 1),
                    Goal::FairShare(_) => assert!(case.beside.is_some()),
                }
            }
        }
    }

    #[test]
    fn cases_of_each_group() {
        let count = |group| all().iter().filter(|case| case.group == group).count();
        assert_eq!(Group::ALL.map(|(group, _)| count(group)), [9, 22, 4, 12]);
    }
}
