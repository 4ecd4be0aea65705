//! The metrics: a table of what each is called, what it says and where it is in a [`Sample`]. The text for Prometheus and
//! `docs/metrics.md` come from it.

mod text;

use std::fmt::Write as _;

pub use self::text::text;
use super::sample::{BdevSample, ReactorSample, STAGES, Sample};
use crate::bdev::count::Figures;
use crate::control::tally::Fact;
use crate::meter::{ENDINGS, Spread};
use crate::qos::Waited;
use crate::rpc::calls::Calls;

/// What kind of metric it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It never becomes less.
    Counter,
    /// It is what it is.
    Gauge,
    /// How often, by how long it took.
    Histogram,
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
    rows: fn(&Sample) -> Vec<Row>,
}

/// One of a metric's series: the values of its labels, and its own.
type Row = (Vec<String>, Value);

enum Value {
    Number(u64),
    /// Nanoseconds, shown as seconds.
    Nanoseconds(u64),
    Spread(Box<Spread>),
    /// The same in half as many buckets, of which there are many series.
    Coarse(Box<Spread>),
}

macro_rules! family {
    ($name:literal, $kind:ident, [$($label:literal),*], $help:literal, $rows:expr) => {
        Family { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help, rows: $rows }
    };
}

/// Every metric.
pub const FAMILIES: &[Family] = &[
    family!("lunette_info", Gauge, ["version"], "1; its label says which lunette it is.", |_| {
        vec![(vec![env!("CARGO_PKG_VERSION").to_owned()], Value::Number(1))]
    }),
    family!("lunette_uptime_seconds", Gauge, [], "How long the daemon has been there.", |sample| {
        vec![(Vec::new(), Value::Nanoseconds(sample.uptime_ns))]
    }),
    family!(
        "lunette_reactor_turn_seconds",
        Histogram,
        ["reactor"],
        "How long turns took in which there was something to do; the rate of the sum is how busy the reactor is.",
        |sample| reactors(sample, |reactor| vec![(vec![], Value::Spread(Box::new(reactor.turns)))])
    ),
    family!(
        "lunette_reactor_waits_total",
        Counter,
        ["reactor"],
        "Waits in the kernel, as there was nothing to do.",
        |sample| reactors(sample, |reactor| vec![(vec![], Value::Number(reactor.waits))])
    ),
    family!(
        "lunette_reactor_short_commands_total",
        Counter,
        ["reactor"],
        "Commands that came and were answered in one turn.",
        |sample| reactors(sample, |reactor| vec![(vec![], Value::Number(reactor.short))])
    ),
    family!(
        "lunette_reactor_stage_seconds",
        Histogram,
        ["reactor", "stage"],
        "Where commands spent their time: queue, until their turn; receive, until a device had the first of them (buffers, data \
         that are written); device, until it had given back the last; send, until the answer. Told by the clock of turns: what \
         begins and ends in one turn took none.",
        |sample| {
            reactors(sample, |reactor| {
                let stages = STAGES.iter().zip(reactor.stages);
                stages
                    .map(|(name, spread)| (vec![(*name).to_owned()], Value::Spread(Box::new(spread))))
                    .collect()
            })
        }
    ),
    family!(
        "lunette_reactor_socket_seconds",
        Histogram,
        ["reactor"],
        "How long what a turn had to send to a connection waited for its socket.",
        |sample| reactors(sample, |reactor| vec![(vec![], Value::Spread(Box::new(reactor.socket)))])
    ),
    family!("lunette_reactor_connections", Gauge, ["reactor"], "Connections.", |sample| at_work(sample, 0)),
    family!("lunette_reactor_commands", Gauge, ["reactor"], "Commands at work.", |sample| at_work(sample, 1)),
    family!(
        "lunette_reactor_hungry_commands",
        Gauge,
        ["reactor"],
        "Commands that wait for a buffer.",
        |sample| at_work(sample, 2)
    ),
    family!(
        "lunette_reactor_throttled_commands",
        Gauge,
        ["reactor"],
        "Commands that wait for a limit, of their LUN or of their initiator.",
        |sample| reactors(sample, |reactor| vec![(vec![], Value::Number(reactor.paced))])
    ),
    family!(
        "lunette_reactor_ios",
        Gauge,
        ["reactor"],
        "IOs in devices, or waiting for room there.",
        |sample| at_work(sample, 3)
    ),
    family!(
        "lunette_reactor_buffer_bytes",
        Gauge,
        ["reactor", "pool"],
        "Buffer memory, for data that come unasked and for others.",
        |sample| pools(sample, 0)
    ),
    family!(
        "lunette_reactor_buffer_in_use_bytes",
        Gauge,
        ["reactor", "pool"],
        "Buffer memory in use.",
        |sample| pools(sample, 1)
    ),
    family!(
        "lunette_bdev_size_bytes",
        Gauge,
        ["bdev"],
        "The size; 0 while the medium is not there.",
        |sample| {
            let row = |bdev: &BdevSample| (vec![bdev.name.clone()], Value::Number(bdev.bytes));
            sample.bdevs.iter().map(row).collect()
        }
    ),
    family!(
        "lunette_bdev_ios_total",
        Counter,
        ["bdev", "reactor", "op"],
        "IOs that a reactor gave to a bdev: read, write, unmap, flush.",
        |sample| {
            asked(sample, |figures| {
                let ops = [figures.reads.ios, figures.writes.ios, figures.unmaps.ios, figures.flushes];
                OPS.into_iter().zip(ops).map(|(op, ios)| (vec![op.to_owned()], Value::Number(ios))).collect()
            })
        }
    ),
    family!(
        "lunette_bdev_bytes_total",
        Counter,
        ["bdev", "reactor", "op"],
        "Bytes of those IOs.",
        |sample| {
            asked(sample, |figures| {
                let ops = [figures.reads.bytes, figures.writes.bytes, figures.unmaps.bytes];
                OPS.into_iter()
                    .zip(ops)
                    .map(|(op, bytes)| (vec![op.to_owned()], Value::Number(bytes)))
                    .collect()
            })
        }
    ),
    family!(
        "lunette_bdev_io_seconds",
        Histogram,
        ["bdev", "op"],
        "How long a bdev's IOs took, of all reactors; what a device did as it was asked took no time.",
        |sample| {
            let of = |bdev: &BdevSample| {
                let spreads = bdev.spreads();
                let name = bdev.name.clone();
                OPS.into_iter().zip(spreads).map(move |(op, spread)| {
                    (vec![name.clone(), op.to_owned()], Value::Spread(Box::new(spread)))
                })
            };
            sample.bdevs.iter().flat_map(of).collect()
        }
    ),
    family!(
        "lunette_bdev_errors_total",
        Counter,
        ["bdev", "reactor"],
        "IOs that ended in an error.",
        |sample| asked(sample, |figures| vec![(vec![], Value::Number(figures.errors))])
    ),
    family!(
        "lunette_bdev_in_flight",
        Gauge,
        ["bdev", "reactor"],
        "IOs that a bdev has now: the depth of its queue.",
        |sample| asked(sample, |figures| vec![(vec![], Value::Number(figures.in_flight))])
    ),
    family!(
        "lunette_bdev_stage_seconds",
        Histogram,
        ["bdev", "stage"],
        "Where commands at the bdev's LUNs spent their time, as lunette_reactor_stage_seconds has it of reactors; of all reactors, and \
         only those commands that the bdev had IO of. One that had none has no series. The buckets are four times as wide as the one \
         before.",
        |sample| {
            let of = |bdev: &BdevSample| {
                let (name, stages) = (bdev.name.clone(), bdev.stages.clone());
                let named = STAGES.into_iter().zip(stages.into_iter().flat_map(|stages| *stages));
                named.map(move |(stage, spread)| {
                    (vec![name.clone(), stage.to_owned()], Value::Coarse(Box::new(spread)))
                })
            };
            sample.bdevs.iter().flat_map(of).collect()
        }
    ),
    family!(
        "lunette_bdev_throttled_commands_total",
        Counter,
        ["bdev"],
        "Commands that waited for a limit of the bdev's, counted when their turn came; one that waits for its initiator's longer is \
         counted there.",
        |sample| throttled_by_bdevs(sample, |waited| Value::Number(waited.commands))
    ),
    family!(
        "lunette_bdev_throttled_seconds_total",
        Counter,
        ["bdev"],
        "How long those commands waited, all together.",
        |sample| throttled_by_bdevs(sample, |waited| Value::Nanoseconds(waited.ns))
    ),
    family!(
        "lunette_bdev_members",
        Gauge,
        ["bdev", "state"],
        "Members of a mirror: current, those that have all data; filling; out, those that are not read or written: a reason to be \
         called.",
        |sample| {
            let of = |bdev: &BdevSample| {
                ["current", "filling", "out"].map(|state| {
                    let count = bdev.members.iter().filter(|doing| doing.word() == state).count();
                    let count = u64::try_from(count).unwrap_or(u64::MAX);
                    (vec![bdev.name.clone(), state.to_owned()], Value::Number(count))
                })
            };
            sample.bdevs.iter().filter(|bdev| !bdev.members.is_empty()).flat_map(of).collect()
        }
    ),
    family!(
        "lunette_lun_info",
        Gauge,
        ["target", "lun", "bdev"],
        "1; its labels say which LUN of which target leads to which bdev.",
        |sample| {
            let of = |bdev: &BdevSample| {
                let name = bdev.name.clone();
                let luns = bdev.luns.clone().into_iter();
                luns.map(move |(target, lun)| (vec![target, lun.to_string(), name.clone()], Value::Number(1)))
            };
            sample.bdevs.iter().flat_map(of).collect()
        }
    ),
    family!(
        "lunette_initiator_commands_total",
        Counter,
        ["initiator", "target", "op"],
        "Commands that were answered: read, write, other. Of more than 1024 initiators at targets the later ones are one, without \
         a name.",
        |sample| {
            initiators(sample, |work| {
                let ops =
                    [("read", work.reads.commands), ("write", work.writes.commands), ("other", work.others)];
                ops.map(|(op, count)| (vec![op.to_owned()], Value::Number(count))).into()
            })
        }
    ),
    family!(
        "lunette_initiator_bytes_total",
        Counter,
        ["initiator", "target", "op"],
        "Bytes that those commands moved.",
        |sample| {
            initiators(sample, |work| {
                let ops = [("read", work.reads.bytes), ("write", work.writes.bytes)];
                ops.map(|(op, bytes)| (vec![op.to_owned()], Value::Number(bytes))).into()
            })
        }
    ),
    family!(
        "lunette_initiator_seconds_total",
        Counter,
        ["initiator", "target"],
        "How long those commands took, from their arrival to their answer, all together.",
        |sample| initiators(sample, |work| vec![(vec![], Value::Nanoseconds(work.took_ns))])
    ),
    family!(
        "lunette_initiator_errors_total",
        Counter,
        ["initiator", "target", "ending"],
        "Commands that did not end well, by sense key or by status.",
        |sample| {
            initiators(sample, |work| {
                let endings = ENDINGS.into_iter().zip(work.endings).filter(|(_, count)| *count > 0);
                endings.map(|(ending, count)| (vec![ending.to_owned()], Value::Number(count))).collect()
            })
        }
    ),
    family!(
        "lunette_initiator_throttled_commands_total",
        Counter,
        ["initiator", "target", "limit"],
        "Commands that waited for a limit, counted when their turn came: of their LUN (lun) or of their initiator (initiator), \
         whichever was the longer.",
        |sample| throttled(sample, |waited| Value::Number(waited.commands))
    ),
    family!(
        "lunette_initiator_throttled_seconds_total",
        Counter,
        ["initiator", "target", "limit"],
        "How long those commands waited, all together.",
        |sample| throttled(sample, |waited| Value::Nanoseconds(waited.ns))
    ),
    family!("lunette_target_sessions", Gauge, ["target"], "Sessions.", |sample| {
        sample.targets.iter().map(|(name, count)| (vec![name.clone()], Value::Number(*count))).collect()
    }),
    family!(
        "lunette_connections",
        Gauge,
        ["phase"],
        "Connections: logging in (login), of discovery sessions, of sessions with a target (served).",
        |sample| {
            let phases = ["login", "discovery", "served"].into_iter().zip(sample.connections);
            phases.map(|(phase, count)| (vec![phase.to_owned()], Value::Number(count))).collect()
        }
    ),
    family!(
        "lunette_logins_total",
        Counter,
        ["session"],
        "Sessions that began: normal, discovery.",
        |sample| facts(sample, Fact::LoggedIn)
    ),
    family!(
        "lunette_login_failures_total",
        Counter,
        ["reason"],
        "Connections that ended before they had logged in.",
        |sample| facts(sample, Fact::LoginFailed)
    ),
    family!(
        "lunette_connections_closed_total",
        Counter,
        ["reason"],
        "Connections of sessions that ended.",
        |sample| facts(sample, Fact::Closed)
    ),
    family!("lunette_rejects_total", Counter, ["reason"], "PDUs that were answered with Reject.", |sample| {
        facts(sample, Fact::Rejected)
    }),
    family!("lunette_task_management_total", Counter, ["function"], "Task management functions.", |sample| {
        facts(sample, Fact::Function)
    }),
    family!(
        "lunette_device_errors_total",
        Counter,
        ["error"],
        "Commands that failed in a device.",
        |sample| facts(sample, Fact::DeviceError)
    ),
    family!(
        "lunette_slow_commands_total",
        Counter,
        [],
        "Commands that took longer than --slow-io says.",
        |sample| { vec![(Vec::new(), Value::Number(sum_of(sample, Fact::Slow)))] }
    ),
    family!(
        "lunette_events_lost_total",
        Counter,
        [],
        "Events that reactors could not tell, as there were too many: what is counted by reason above lacks them.",
        |sample| vec![(Vec::new(), Value::Number(sum_of(sample, Fact::Lost)))]
    ),
    family!("lunette_rpc_calls_total", Counter, ["method"], "JSON-RPC calls that were answered.", |sample| {
        calls(sample, |calls| Value::Number(calls.count))
    }),
    family!(
        "lunette_rpc_errors_total",
        Counter,
        ["method"],
        "JSON-RPC calls that were answered with an error.",
        |sample| calls(sample, |calls| Value::Number(calls.errors))
    ),
    family!(
        "lunette_rpc_seconds_total",
        Counter,
        ["method"],
        "How long those calls took, all together.",
        |sample| calls(sample, |calls| Value::Nanoseconds(calls.took_ns))
    ),
];

const OPS: [&str; 4] = ["read", "write", "unmap", "flush"];

impl BdevSample {
    /// How long reads, writes and unmaps took, of all reactors.
    pub(super) fn spreads(&self) -> [Spread; 3] {
        self.figures.iter().fold(Default::default(), |[reads, writes, unmaps]: [Spread; 3], (_, figures)| {
            let Figures { reads: read, writes: write, unmaps: unmap, .. } = figures;
            [reads.plus(&read.times), writes.plus(&write.times), unmaps.plus(&unmap.times)]
        })
    }
}

/// Rows of each of some things, their own labels in front.
fn prefixed(first: Vec<String>, rows: Vec<Row>) -> impl Iterator<Item = Row> {
    rows.into_iter().map(move |(labels, value)| (first.iter().cloned().chain(labels).collect(), value))
}

fn reactors(sample: &Sample, rows: impl Fn(&ReactorSample) -> Vec<Row>) -> Vec<Row> {
    let numbered = sample.reactors.iter().enumerate();
    numbered.flat_map(|(index, reactor)| prefixed(vec![index.to_string()], rows(reactor))).collect()
}

fn at_work(sample: &Sample, index: usize) -> Vec<Row> {
    reactors(sample, |reactor| vec![(vec![], Value::Number(reactor.at_work[index]))])
}

fn pools(sample: &Sample, index: usize) -> Vec<Row> {
    reactors(sample, |reactor| {
        let pools = ["unsolicited", "solicited"].into_iter().zip(reactor.pools);
        pools.map(|(pool, bytes)| (vec![pool.to_owned()], Value::Number(bytes[index]))).collect()
    })
}

fn asked(sample: &Sample, rows: impl Fn(&Figures) -> Vec<Row>) -> Vec<Row> {
    let mut all = Vec::new();
    for bdev in &sample.bdevs {
        for (reactor, figures) in &bdev.figures {
            all.extend(prefixed(vec![bdev.name.clone(), reactor.to_string()], rows(figures)));
        }
    }
    all
}

fn initiators(sample: &Sample, rows: impl Fn(&crate::meter::Work) -> Vec<Row>) -> Vec<Row> {
    let of = sample.ledger.iter();
    of.flat_map(|(who, work)| prefixed(vec![who.initiator.clone(), who.target.clone()], rows(work))).collect()
}

fn throttled_by_bdevs(sample: &Sample, value: impl Fn(Waited) -> Value) -> Vec<Row> {
    sample.bdevs.iter().map(|bdev| (vec![bdev.name.clone()], value(bdev.waited))).collect()
}

/// Of those that have waited: others have no series.
fn throttled(sample: &Sample, value: impl Fn(Waited) -> Value) -> Vec<Row> {
    initiators(sample, |work| {
        let limits = ["lun", "initiator"].into_iter().zip(work.waited);
        let have_waited = limits.filter(|(_, waited)| waited.commands > 0);
        have_waited.map(|(limit, waited)| (vec![limit.to_owned()], value(waited))).collect()
    })
}

fn facts(sample: &Sample, fact: Fact) -> Vec<Row> {
    let of = sample.facts.iter().filter(|(known, ..)| *known == fact);
    of.map(|(_, reason, count)| (vec![(*reason).to_owned()], Value::Number(*count))).collect()
}

fn sum_of(sample: &Sample, fact: Fact) -> u64 {
    sample.facts.iter().filter(|(known, ..)| *known == fact).map(|(.., count)| count).sum()
}

fn calls(sample: &Sample, value: impl Fn(&Calls) -> Value) -> Vec<Row> {
    sample.calls.iter().map(|(method, calls)| (vec![(*method).to_owned()], value(calls))).collect()
}

/// `docs/metrics.md`.
pub fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\nWhat `lunette serve --metrics ADDR:PORT` tells Prometheus at `/metrics`. Made from the table in \
         `src/metrics/families.rs`;\n`UPDATE_DOCS=1 cargo test --test it docs::` writes it anew. Histograms have buckets from \
         1.024 µs, each twice as wide as the one\nbefore unless they say otherwise, to 34 s.\n\n| metric | kind | labels | |\n|---|---|---|---|\n",
    );
    for Family { name, kind, labels, help, .. } in FAMILIES {
        let kind = format!("{kind:?}").to_lowercase();
        let _ = writeln!(page, "| `{name}` | {kind} | {} | {help} |", labels.join(", "));
    }
    page
}

#[cfg(test)]
mod tests;
