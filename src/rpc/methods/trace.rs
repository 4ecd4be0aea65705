//! SPDK's tracepoints, of which lunette has none: its clients are told so, and whoever asks for one is refused.

use super::{Method, Outcome, method};
use crate::rpc::context::Context;
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::params::{Nothing, params};

pub(super) const METHODS: &[Method] = &[
    method!(
        "trace_get_info",
        Always,
        Nothing,
        info,
        "Tells that there are no tracepoints, nor shared memory with what they saw."
    ),
    method!(
        "trace_get_tpoint_group_mask",
        Always,
        Nothing,
        mask,
        "Tells that there are no groups of tracepoints."
    ),
    method!(
        "trace_enable_tpoint_group",
        Always,
        Group,
        no_group,
        "Refused: there is no group of tracepoints."
    ),
    method!(
        "trace_disable_tpoint_group",
        Always,
        Group,
        no_group,
        "Refused: there is no group of tracepoints."
    ),
    method!("trace_set_tpoint_mask", Always, Mask, no_mask, "Refused: there is no tracepoint."),
    method!("trace_clear_tpoint_mask", Always, Mask, no_mask, "Refused: there is no tracepoint."),
    method!("trace_clear", Runtime, Nothing, clear, "Forgets what tracepoints saw: nothing."),
];

fn info(_: &Context, _: Nothing) -> Outcome {
    Ok(object! { "tpoint_shm_path": "", "tpoint_group_mask": "0x0" })
}

fn mask(_: &Context, _: Nothing) -> Outcome {
    Ok(object! { "tpoint_group_mask": "0x0" })
}

params! {
    /// Of `trace_enable_tpoint_group`.
    pub(super) struct Group {
        /// Its name.
        name: String,
    }
}

params! {
    /// Of `trace_set_tpoint_mask`.
    pub(super) struct Mask {
        /// The group's name.
        name: String,
        /// Which of its tracepoints.
        tpoint_mask: u64,
    }
}

fn refuse(name: &str) -> Outcome {
    Err(Fault::params(format_args!("name: there is no group of tracepoints {name:?}, nor any other")))
}

fn no_group(_: &Context, params: Group) -> Outcome {
    refuse(&params.name)
}

fn no_mask(_: &Context, params: Mask) -> Outcome {
    refuse(&params.name)
}

fn clear(_: &Context, _: Nothing) -> Outcome {
    Ok(Json::Bool(true))
}
