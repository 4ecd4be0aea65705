//! What was asked of bdevs: `bdev_get_iostat`, `bdev_reset_iostat`.

use rustix::io::Errno;

use super::{Method, Outcome, method};
use crate::bdev::count::{Counts, Figures, Tally};
use crate::control::registry::Entry;
use crate::id::ReactorId;
use crate::meter::{STAGES, Spread, TIMES_BOUNDS_NS};
use crate::rpc::context::Context;
use crate::rpc::devices::no_bdev;
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::params::params;
use crate::rpc::types::choice;
use crate::time::SECOND_NS;

pub(super) const METHODS: &[Method] = &[
    method!(
        "bdev_get_iostat",
        Runtime,
        GetIostat,
        get_iostat,
        "How often and how much was read, written and unmapped, of all bdevs or some, and how long that took in ticks, \
         which are nanoseconds. lunette_times has how many took how long since the start: less than each of \
         lunette_times_bounds_ns, and at last no less than any. lunette_stages has the same of commands at the bdev's LUNs that it \
         had IO of, by where their time went: queue, receive, device, send; nothing where there were none."
    ),
    method!("bdev_reset_iostat", Runtime, ResetIostat, reset_iostat, "Begins to count anew."),
];

choice! {
    /// What is counted anew.
    pub(super) enum Mode {
        "all" => All,
        "maxmin" => MaxMin,
        "none" => None,
    }
}

params! {
    /// Of `bdev_get_iostat`.
    pub(super) struct GetIostat {
        /// Only this one.
        name: Option<String>,
        /// Only these.
        names: Option<Vec<String>>,
        /// By reactor, of the one bdev that is named.
        per_channel: bool = false,
        /// What is counted anew from now on; maxmin: the longest and the shortest times only. A socket for reading only takes none.
        reset_mode: Mode = Mode::None,
    }
}

fn get_iostat(context: &Context, params: GetIostat) -> Outcome {
    let wanted = params.name.map(|name| vec![name]).or(params.names);
    let mode = params.reset_mode;
    let per_channel = params.per_channel;
    if per_channel && wanted.as_ref().map(Vec::len) != Some(1) {
        return Err(Fault::errno(Errno::INVAL, "per_channel: of one bdev, which is named"));
    }
    context.control(move |control, now| {
        let entries = match &wanted {
            None => control.bdevs().collect::<Vec<_>>(),
            Some(names) => {
                let find = |name: &String| control.bdev(name).ok_or_else(|| no_bdev(name));
                names.iter().map(find).collect::<Result<_, _>>()?
            }
        };
        let ticks = now.since_ns(crate::time::Tick::ZERO);
        let bounds = TIMES_BOUNDS_NS.iter().copied().map(Json::from).collect::<Json>();
        let mut told = object! { "tick_rate": SECOND_NS, "ticks": ticks, "lunette_times_bounds_ns": bounds };
        match entries.first() {
            Some(entry) if per_channel => {
                told.push("name", &entry.name);
                told.push("channels", channels(entry));
            }
            _ => told.push("bdevs", entries.iter().map(|entry| describe(entry)).collect::<Json>()),
        }
        for entry in entries {
            match mode {
                Mode::All => entry.spec.bdev.forget_counts(),
                Mode::MaxMin => entry.spec.bdev.forget_extremes(),
                Mode::None => {}
            }
        }
        Ok(told)
    })?
}

/// Of each reactor that has had a channel; it is known by the number that `thread_get_stats` tells.
fn channels(entry: &Entry) -> Json {
    let figures = entry.spec.bdev.figures();
    let of = |(reactor, counts): &(ReactorId, Counts)| {
        let mut members = object! { "thread_id": u64::from(reactor.0) + 1 };
        push(&mut members, counts);
        let own = figures.iter().filter(|(known, _)| known == reactor);
        members.push("lunette_times", times(own.map(|(_, figures)| figures)));
        members
    };
    entry.spec.bdev.counts_by_reactor().iter().map(of).collect()
}

/// Where the time of commands went.
fn stages(stages: &[Spread; 4]) -> Json {
    let mut named = Json::Object(Vec::new());
    for (name, stage) in STAGES.iter().zip(stages) {
        named.push(name, stage.counts.into_iter().map(Json::from).collect::<Json>());
    }
    named
}

/// How long reads, writes and unmaps took.
fn times<'a>(figures: impl Iterator<Item = &'a Figures>) -> Json {
    let mut sums = [Spread::default(); 3];
    for Figures { reads, writes, unmaps, .. } in figures {
        for (sum, kind) in sums.iter_mut().zip([reads, writes, unmaps]) {
            *sum = sum.plus(&kind.times);
        }
    }
    let [read, write, unmap] = sums.map(|sum| sum.counts.into_iter().map(Json::from).collect::<Json>());
    object! { "read": read, "write": write, "unmap": unmap }
}

fn describe(entry: &Entry) -> Json {
    let mut members = object! { "name": &entry.name };
    push(&mut members, &entry.spec.bdev.counts().unwrap_or_default());
    members.push("lunette_times", times(entry.spec.bdev.figures().iter().map(|(_, figures)| figures)));
    if let Some(of_all) = entry.stages() {
        members.push("lunette_stages", stages(&of_all));
    }
    members
}

fn push(members: &mut Json, counts: &Counts) {
    for (name, value) in [
        ("bytes_read", counts.reads.bytes),
        ("num_read_ops", counts.reads.ios),
        ("bytes_written", counts.writes.bytes),
        ("num_write_ops", counts.writes.ios),
        ("bytes_unmapped", counts.unmaps.bytes),
        ("num_unmap_ops", counts.unmaps.ios),
        ("bytes_copied", 0),
        ("num_copy_ops", 0),
    ] {
        members.push(name, value);
    }
    let kinds = [
        ("read", counts.reads),
        ("write", counts.writes),
        ("unmap", counts.unmaps),
        ("copy", Tally::default()),
    ];
    for (name, kind) in kinds {
        members.push(&format!("{name}_latency_ticks"), kind.total_ns);
        members.push(&format!("max_{name}_latency_ticks"), kind.max_ns);
        members.push(&format!("min_{name}_latency_ticks"), kind.min_ns);
    }
    let errors = if counts.errors == 0 {
        Json::Object(Vec::new())
    } else {
        object! { "IO_ERROR": counts.errors }
    };
    members.push("io_error", errors);
    members.push("lunette_num_flush_ops", counts.flushes);
}

params! {
    /// Of `bdev_reset_iostat`.
    pub(super) struct ResetIostat {
        /// Only this one.
        name: Option<String>,
        /// What is counted anew.
        mode: Mode = Mode::All,
    }
}

fn reset_iostat(context: &Context, params: ResetIostat) -> Outcome {
    let all = GetIostat { name: params.name, names: None, per_channel: false, reset_mode: params.mode };
    get_iostat(context, all)?;
    Ok(Json::Bool(true))
}
