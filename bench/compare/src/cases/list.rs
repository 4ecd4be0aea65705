//! Every case there is. Those that are compared with one another stand side by side.

use super::{Case, Disk, Goal, Group, Idle, Load};
use crate::peers::Kind;

const ALL: &[Kind] = &[Kind::Lunette, Kind::Echo, Kind::Spdk, Kind::Tgt, Kind::Istgt];
/// istgt ends connections beyond some twenty.
const CROWD: &[Kind] = &[Kind::Lunette, Kind::Echo, Kind::Spdk, Kind::Tgt];
const FAST: &[Kind] = &[Kind::Lunette, Kind::Echo];
const DIGESTS: &[Kind] = &[Kind::Lunette, Kind::Spdk];
const FILE: &[Kind] = &[Kind::Lunette, Kind::Fio];
/// All that do not spin for ever, and SPDK, which counts what it was busy.
const PACED: &[Kind] = &[Kind::Lunette, Kind::Echo, Kind::Spdk, Kind::Tgt, Kind::Istgt];

/// Queue depths of the sweep.
pub(crate) const DEPTHS: [u32; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
/// Connections of the sweep.
pub(crate) const CONNECTIONS: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Queue depth of each of them.
pub(crate) const CONNECTION_DEPTH: u32 = 8;
/// Connections at one reactor.
pub(crate) const MANY: [u32; 6] = [1, 16, 64, 256, 1024, 4096];
/// Connections that do nothing.
const IDLE: u32 = 4095;
/// Targets, or LUNs of one.
const FLEET: u16 = 1000;
/// What the first of the rates is compared with.
const WAKES_NEVER: &str = "rate-1000-spin";
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
        is_fresh: false,
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
        // Beside what it is compared with, here and below: the machine drifts.
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
        let peers = if connections > 16 { CROWD } else { ALL };
        let title = format!("4 KiB {rw}, connections {connections}, QD {depth}");
        case(
            Group::Sweep,
            &sweep_name(rw, connections, depth),
            &title,
            load(connections, rw, 4096, depth),
            peers,
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
    let own = |name: &str, title: &str, load: Load, goals: &[Goal]| Case {
        goals: goals.to_vec(),
        ..with(name, title, load, &[Kind::Lunette])
    };
    let one = || load(1, "randread", 4096, 1);
    let mut cases = vec![Case {
        is_fresh: true,
        ..own(
            "one-among-idle",
            "4 KiB random read, QD 1, among 4095 idle connections",
            Load { idle: IDLE, ..one() },
            &[Goal::Case("connections-1", 0.8), Goal::IdleMemory(16.0)],
        )
    }];
    cases.extend(MANY.map(|count| {
        let title = format!("4 KiB random read, connections {count}, QD 1");
        with(&format!("connections-{count}"), &title, load(count, "randread", 4096, 1), FAST)
    }));
    if let Some(most) = cases.last_mut() {
        most.goals.push(Goal::Best("connections-", 0.6));
    }
    cases.push(own(
        "login-storm",
        "1000 sessions log in at once",
        load(1000, "randread", 4096, 1),
        &[Goal::Login(2000.0)],
    ));
    cases.push(Case {
        beside: Some(load(16, "randwrite", 4096, 128)),
        ..own(
            "fairness",
            "4 KiB random read, QD 1, beside 16 writers of QD 128",
            one(),
            &[Goal::FairShare(3.0)],
        )
    });
    let fleets = [
        ("targets-1000", "1000 targets of one LUN", Disk::Targets(FLEET)),
        ("luns-1000", "one target of 1000 LUNs", Disk::Units(FLEET)),
    ];
    cases.extend(fleets.map(|(name, title, disk)| Case {
        disk,
        ..own(name, title, one(), &[Goal::Start(5.0), Goal::Lines(9.0), Goal::Login(1.0)])
    }));
    let paced = |rate| Load { rate: Some(rate), ..load(1, "randread", 4096, 32) };
    cases.push(own(WAKES_NEVER, "4 KiB random read, 1000 IO/s, a reactor that spins", paced(RATES[0]), &[]));
    cases.extend(RATES.map(|rate| Case {
        idle: Idle::Adaptive,
        ..with(
            &rate_name(rate),
            &format!("4 KiB random read, {rate} IO/s, the core not full"),
            paced(rate),
            PACED,
        )
    }));
    for case in &mut cases {
        if case.name == rate_name(RATES[0]) {
            case.goals.push(Goal::Above(WAKES_NEVER, 20.0));
        }
    }
    cases.push(Case {
        idle: Idle::Adaptive,
        ..own(
            "idle",
            "10 IO/s, 4095 idle connections",
            Load { idle: IDLE, ..paced(10) },
            &[Goal::Cores(0.01)],
        )
    });
    cases
}

/// The name of a case of a fixed rate.
pub(crate) fn rate_name(rate: u32) -> String {
    format!("rate-{rate}")
}
