//! How long IOs of bdevs took: `bdev_enable_histogram`, `bdev_get_histogram`, `bdev_get_histogram_borders`.

use rustix::io::Errno;

use super::{Method, Outcome, histogram, method};
use crate::bdev::count::Timed;
use crate::control::registry::Entry;
use crate::rpc::context::Context;
use crate::rpc::devices::no_bdev;
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::params::params;
use crate::rpc::types::{Ignored, choice};
use crate::time::MS_NS;

pub(super) const METHODS: &[Method] = &[
    method!(
        "bdev_enable_histogram",
        Runtime,
        EnableHistogram,
        enable_histogram,
        "Begins to count how long the IOs of a bdev take, or ends it. Where it is counted already it goes on."
    ),
    method!(
        "bdev_get_histogram",
        Runtime,
        BdevName,
        get_histogram,
        "How many IOs took how long since it was enabled: buckets as SPDK's, base64 of 64-bit little-endian numbers; ticks are nanoseconds."
    ),
    method!(
        "bdev_get_histogram_borders",
        Runtime,
        Borders,
        get_borders,
        "How many IOs took no longer than each of these times, to within a bucket of bdev_get_histogram, and at last how many there were."
    ),
];

/// As many as SPDK takes.
const BORDERS_MAX: usize = 256;

choice! {
    /// Which IOs are counted.
    pub(super) enum Kind {
        "read" => Read,
        "write" => Write,
        "unmap" => Unmap,
    }
}

params! {
    /// Of `bdev_enable_histogram`.
    pub(super) struct EnableHistogram {
        /// The bdev.
        name: String,
        /// Whether to count.
        enable: bool,
        /// Only IOs of this kind; all unless given.
        opc: Option<Kind>,
        /// SPDK's: how fine; bdev_get_histogram tells how fine it is.
        granularity: Ignored,
        /// SPDK's: what is counted as the shortest.
        min_nsec: Ignored,
        /// SPDK's: what is counted as the longest.
        max_nsec: Ignored,
    }
}

params! {
    /// Of `bdev_get_histogram`.
    pub(super) struct BdevName {
        /// The bdev.
        name: String,
    }
}

params! {
    /// Of `bdev_get_histogram_borders`.
    pub(super) struct Borders {
        /// The bdev.
        name: String,
        /// Times in microseconds, ascending: 256 at most.
        borders: Vec<u64>,
    }
}

fn enable_histogram(context: &Context, params: EnableHistogram) -> Outcome {
    let timed = match (params.enable, params.opc) {
        (false, _) => None,
        (true, None) => Some(Timed::All),
        (true, Some(Kind::Read)) => Some(Timed::Reads),
        (true, Some(Kind::Write)) => Some(Timed::Writes),
        (true, Some(Kind::Unmap)) => Some(Timed::Unmaps),
    };
    context.control(move |control, _| {
        let reactors = control.reactor_count();
        let entry = control.bdev(&params.name).ok_or_else(|| no_bdev(&params.name))?;
        entry.spec.bdev.time(timed, reactors);
        Ok(Json::Bool(true))
    })?
}

/// The call that has a bdev's times counted again.
pub(crate) fn call(entry: &Entry) -> Option<Json> {
    let (timed, _) = entry.spec.bdev.times()?;
    let mut params = object! { "name": &entry.name, "enable": true };
    match timed {
        Timed::All => {}
        Timed::Reads => params.push("opc", "read"),
        Timed::Writes => params.push("opc", "write"),
        Timed::Unmaps => params.push("opc", "unmap"),
    }
    Some(object! { "method": "bdev_enable_histogram", "params": params })
}

/// What was counted, by bucket.
fn sums(context: &Context, name: String) -> Result<Vec<u64>, Fault> {
    let times = context.control(move |control, _| {
        let entry = control.bdev(&name).ok_or_else(|| no_bdev(&name))?;
        Ok::<_, Fault>(entry.spec.bdev.times())
    })??;
    times
        .map(|(_, sums)| sums)
        .ok_or_else(|| Fault::errno(Errno::FAULT, "nothing is counted: bdev_enable_histogram comes first"))
}

fn get_borders(context: &Context, params: Borders) -> Outcome {
    let Borders { name, borders } = params;
    if borders.is_empty() || borders.len() > BORDERS_MAX || !borders.is_sorted() {
        return Err(Fault::params(format_args!("borders: 1 to {BORDERS_MAX} times, which ascend")));
    }
    let ticks: Vec<u64> = borders.iter().map(|border| border.saturating_mul(MS_NS / 1000)).collect();
    let counts = crate::histogram::up_to(&sums(context, name)?, &ticks);
    Ok(object! { "borders_count": counts })
}

fn get_histogram(context: &Context, BdevName { name }: BdevName) -> Outcome {
    Ok(histogram::describe(sums(context, name)?))
}
