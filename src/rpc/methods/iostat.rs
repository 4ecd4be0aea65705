//! What was asked of bdevs: `bdev_get_iostat`, `bdev_reset_iostat`.

use super::{Method, Outcome, method};
use crate::bdev::count::Tally;
use crate::control::registry::Entry;
use crate::rpc::context::Context;
use crate::rpc::devices::no_bdev;
use crate::rpc::json::{Json, object};
use crate::rpc::params::params;
use crate::rpc::types::{Off, choice};
use crate::time::SECOND_NS;

pub(super) const METHODS: &[Method] = &[
    method!(
        "bdev_get_iostat",
        Runtime,
        GetIostat,
        get_iostat,
        "How often and how much was read, written and unmapped, of all bdevs or some, and how long that took in ticks, \
         which are nanoseconds."
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
        /// SPDK's: by thread.
        per_channel: Off,
        /// What is counted anew from now on; maxmin: the longest and the shortest times only.
        reset_mode: Mode = Mode::None,
    }
}

fn get_iostat(context: &Context, params: GetIostat) -> Outcome {
    let wanted = params.name.map(|name| vec![name]).or(params.names);
    let mode = params.reset_mode;
    context.control(move |control, now| {
        let entries = match &wanted {
            None => control.bdevs().collect::<Vec<_>>(),
            Some(names) => {
                let find = |name: &String| control.bdev(name).ok_or_else(|| no_bdev(name));
                names.iter().map(find).collect::<Result<_, _>>()?
            }
        };
        let bdevs = entries.iter().map(|entry| describe(entry)).collect::<Json>();
        for entry in entries {
            match mode {
                Mode::All => entry.spec.bdev.forget_counts(),
                Mode::MaxMin => entry.spec.bdev.forget_extremes(),
                Mode::None => {}
            }
        }
        Ok(object! { "tick_rate": SECOND_NS, "ticks": now.since_ns(crate::time::Tick::ZERO), "bdevs": bdevs })
    })?
}

fn describe(entry: &Entry) -> Json {
    let counts = entry.spec.bdev.counts().unwrap_or_default();
    let mut members = object! {
        "name": &entry.name,
        "bytes_read": counts.reads.bytes,
        "num_read_ops": counts.reads.ios,
        "bytes_written": counts.writes.bytes,
        "num_write_ops": counts.writes.ios,
        "bytes_unmapped": counts.unmaps.bytes,
        "num_unmap_ops": counts.unmaps.ios,
        "bytes_copied": 0u64,
        "num_copy_ops": 0u64,
    };
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
    members
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
    let all = GetIostat { name: params.name, names: None, per_channel: Off, reset_mode: params.mode };
    get_iostat(context, all)?;
    Ok(Json::Bool(true))
}
