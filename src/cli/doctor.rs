//! `lunette doctor`: what of this machine keeps a daemon from being fast or from starting, why that matters, and the command that
//! mends it.
//!
//! Each check reads files under a root and says what it found; nothing is changed, and no daemon is asked. Exit code 0: nothing is
//! wrong, hints aside; 1: something is.

mod checks;
mod machine;
mod network;

use std::path::PathBuf;

use clap::Args;

use self::machine::Machine;
use super::cores;
use super::{Failed, print};
use crate::rpc::json::{Json, object};

/// `lunette doctor`.
#[derive(Clone, Debug, Args)]
pub struct Doctor {
    /// CPUs that reactors are to run on: a hex mask (0x3) or a list (0,2-3) [default: the first allowed]
    #[arg(short = 'm', long, value_name = "CPUS")]
    pub cores: Option<String>,
    /// Buffer memory of all reactors together, in MiB [default: 128 for each]
    #[arg(long, value_name = "MIB")]
    pub mem_size: Option<u64>,
    /// For scripts
    #[arg(long)]
    pub json: bool,
    /// Look at the machine whose /proc, /sys and /dev are under this folder
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    pub root: PathBuf,
}

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Level {
    /// As it should be.
    Fine,
    /// It could be faster.
    Hint,
    /// Something will not work, or far slower than it could.
    Wrong,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Fine => "ok",
            Level::Hint => "hint",
            Level::Wrong => "wrong",
        }
    }
}

/// What a check has found.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Finding {
    level: Level,
    /// What there is.
    what: String,
    /// Why it matters.
    why: &'static str,
    /// The command that mends it.
    fix: String,
}

impl Finding {
    fn fine(what: impl Into<String>) -> Finding {
        Finding { level: Level::Fine, what: what.into(), why: "", fix: String::new() }
    }

    fn hint(what: impl Into<String>, why: &'static str, fix: impl Into<String>) -> Finding {
        Finding { level: Level::Hint, what: what.into(), why, fix: fix.into() }
    }

    fn wrong(what: impl Into<String>, why: &'static str, fix: impl Into<String>) -> Finding {
        Finding { level: Level::Wrong, ..Finding::hint(what, why, fix) }
    }
}

/// What is to run there.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Wanted {
    cores: Vec<usize>,
    /// Buffer memory of all reactors.
    pool_mib: u64,
}

/// A check: it may find nothing to say.
type Check = fn(&Machine, &Wanted) -> Vec<Finding>;

/// What is looked at, in this order.
const CHECKS: &[(&str, Check)] = &[
    ("io_uring", checks::io_uring),
    ("hugepages", checks::hugepages),
    ("limits", checks::limits),
    ("IOMMU", checks::iommu),
    ("VFIO", checks::vfio),
    ("clock", checks::clock),
    ("governor", checks::governor),
    ("isolation", checks::isolation),
    ("sysctl", network::sysctls),
    ("network", network::devices),
    ("offloads", network::offloads),
];

/// Looks and prints.
pub(super) fn doctor(args: &Doctor) -> Result<(), Failed> {
    let allowed =
        cores::allowed().map_err(|error| Failed::failure(format!("which CPUs may be used: {error}")))?;
    let cores = match &args.cores {
        Some(text) => cores::parse(text, &allowed).map_err(Failed::usage)?,
        None => allowed.first().copied().into_iter().collect(),
    };
    let pool_mib = args.mem_size.unwrap_or(128 * cores.len() as u64);
    let wanted = Wanted { cores, pool_mib };
    let found = examine(&Machine::at(&args.root), &wanted);
    print(&if args.json { in_json(&found) } else { in_words(&found) })?;
    match found.iter().filter(|(_, finding)| finding.level == Level::Wrong).count() {
        0 => Ok(()),
        1 => Err(Failed::failure("one thing is wrong")),
        count => Err(Failed::failure(format!("{count} things are wrong"))),
    }
}

fn examine(machine: &Machine, wanted: &Wanted) -> Vec<(&'static str, Finding)> {
    let one = |(name, check): &(&'static str, Check)| {
        let name = *name;
        check(machine, wanted).into_iter().map(move |finding| (name, finding))
    };
    CHECKS.iter().flat_map(one).collect()
}

fn in_words(found: &[(&str, Finding)]) -> String {
    let mut out = String::new();
    for (name, Finding { level, what, why, fix }) in found {
        out += &format!("{:<6}{name:<11}{what}\n", level.name());
        if *level != Level::Fine {
            out += &format!("{:17}{why}\n{:17}$ {fix}\n", "", "");
        }
    }
    out
}

fn in_json(found: &[(&str, Finding)]) -> String {
    let one = |(name, Finding { level, what, why, fix }): &(&str, Finding)| {
        let mut json = object! { "check": *name, "level": level.name(), "what": what };
        if *level != Level::Fine {
            json.push("why", *why);
            json.push("fix", fix);
        }
        json
    };
    let mut out = String::new();
    found.iter().map(one).collect::<Json>().write_pretty(&mut out);
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_comes_with_its_cure() {
        let found = [
            ("clock", Finding::fine("tsc")),
            ("limits", Finding::wrong("7 files", "connections need descriptors", "ulimit -n 65536")),
        ];
        assert_eq!(
            in_words(&found),
            "ok    clock      tsc\n\
             wrong limits     7 files\n                 connections need descriptors\n                 $ ulimit -n 65536\n"
        );
        let json = Json::parse(&in_json(&found)).unwrap();
        let Json::Array(found) = json else { panic!("an array") };
        assert_eq!(found[0].to_string(), r#"{"check":"clock","level":"ok","what":"tsc"}"#);
        assert_eq!(found[1].member("fix").and_then(Json::text), Some("ulimit -n 65536"));
    }
}
