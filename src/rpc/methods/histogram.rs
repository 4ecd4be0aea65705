//! How long a target's commands take: `iscsi_enable_histogram`, `iscsi_get_histogram`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::target::TargetName;
use super::{Method, Outcome, iscsi_fault, method};
use crate::control::error::{ChangeError, What};
use crate::histogram::{GRANULARITY, RANGE_MAX, RANGE_MIN};
use crate::rpc::context::Context;
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::params::params;
use crate::time::SECOND_NS;

pub(super) const METHODS: &[Method] = &[
    method!(
        "iscsi_enable_histogram",
        Runtime,
        EnableHistogram,
        enable_histogram,
        "Begins to count how long a target's commands take, from their arrival to their answer; or stops and forgets."
    ),
    method!(
        "iscsi_get_histogram",
        Runtime,
        TargetName,
        get_histogram,
        "How long a target's commands took, in SPDK's buckets: 64-bit numbers, little endian, as base64."
    ),
];

params! {
    /// Of `iscsi_enable_histogram`.
    pub(super) struct EnableHistogram {
        /// The target.
        name: String,
        /// Whether to count.
        enable: bool,
    }
}

/// The call that makes a target count again.
pub(super) fn call(name: &str) -> (&'static str, Json) {
    ("iscsi_enable_histogram", object! { "name": name, "enable": true })
}

fn enable_histogram(context: &Context, params: EnableHistogram) -> Outcome {
    let EnableHistogram { name, enable } = params;
    let enabled = context.control(move |control, _| control.enable_histogram(&name, enable))?;
    enabled.map(|()| Json::Bool(true)).map_err(|error| iscsi_fault(&error))
}

fn get_histogram(context: &Context, TargetName { name }: TargetName) -> Outcome {
    let sums = context.control(move |control, _| {
        let folded = name.to_lowercase();
        let target = control.targets().find(|target| target.name == folded);
        let target = target.ok_or_else(|| iscsi_fault(&ChangeError::missing(What::Target, name)))?;
        let histogram = target.histogram;
        let histogram =
            histogram.ok_or_else(|| Fault::params("target's histogram function is not enabled"))?;
        Ok::<_, Fault>(histogram.sums())
    })??;
    Ok(describe(sums))
}

/// What is counted, by bucket, as SPDK's clients take it.
pub(super) fn describe(sums: Vec<u64>) -> Json {
    let buckets: Vec<u8> = sums.into_iter().flat_map(u64::to_le_bytes).collect();
    object! {
        "histogram": STANDARD.encode(buckets),
        "granularity": GRANULARITY,
        "min_range": RANGE_MIN,
        "max_range": RANGE_MAX,
        "tsc_rate": SECOND_NS,
    }
}
