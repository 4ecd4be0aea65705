//! What is measured: each case is a load, the disk it goes to, who takes part, and what lunette is to reach.

mod list;

use crate::peers::Kind;

pub(crate) use list::{CONNECTION_DEPTH, CONNECTIONS, DEPTHS, MANY, RATES, all, rate_name, sweep_name};

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
    /// As many targets, each with a RAM disk of its own; the last one is measured.
    Targets(u16),
    /// One target with as many LUNs, each a RAM disk of its own; the last one is measured.
    Units(u16),
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
    /// Milliseconds until all connections are logged in, at most.
    Login(f64),
    /// Seconds from the server's start until it serves, at most.
    Start(f64),
    /// Lines that it has logged until then, at most.
    Lines(f64),
    /// KiB of its memory for each connection that does nothing, at most.
    IdleMemory(f64),
    /// Cores in use, at most.
    Cores(f64),
    /// Microseconds that the median of the latency is above that of another case in the same round, at most.
    Above(&'static str, f64),
    /// p99 of the latency, per what an IO takes when all connections have the same share, at most.
    FairShare(f64),
}

impl Goal {
    /// The figure, and whether it is the least or the most that is right.
    pub(crate) fn bound(&self) -> (f64, bool) {
        match *self {
            Goal::Peer(_, least) | Goal::Case(_, least) | Goal::Best(_, least) => (least, true),
            Goal::Login(most)
            | Goal::Start(most)
            | Goal::Lines(most)
            | Goal::IdleMemory(most)
            | Goal::Cores(most)
            | Goal::Above(_, most)
            | Goal::FairShare(most) => (most, false),
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
    /// The server is started for it, where it could go on with one of an earlier case.
    pub(crate) is_fresh: bool,
    pub(crate) peers: &'static [Kind],
    pub(crate) goals: Vec<Goal>,
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
                    Goal::Above(name, _) => assert!(cases.iter().any(|other| other.name == *name)),
                    Goal::IdleMemory(_) => assert!(case.is_fresh && case.load.idle > 0),
                    Goal::Login(_) | Goal::Start(_) | Goal::Lines(_) | Goal::Cores(_) => {}
                    Goal::FairShare(_) => assert!(case.beside.is_some()),
                }
            }
        }
    }

    #[test]
    fn cases_of_each_group() {
        let count = |group| all().iter().filter(|case| case.group == group).count();
        assert_eq!(Group::ALL.map(|(group, _)| count(group)), [9, 22, 4, 16]);
    }
}
