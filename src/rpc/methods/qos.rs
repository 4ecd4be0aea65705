//! Quality of service: how much may be asked of a bdev's logical unit, or by an initiator, and what either gets in any case.

use rustix::io::Errno;

use super::{Method, Outcome, iscsi_fault, method};
use crate::control::Control;
use crate::net::kernel::KernelNet;
use crate::qos::{BURST_NS, BURST_NS_MAX, Limits};
use crate::rpc::context::Context;
use crate::rpc::devices::{bdev_fault, no_bdev};
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::params::{Nothing, params};
use crate::time::MS_NS;

pub(super) const METHODS: &[Method] = &[
    method!(
        "bdev_set_qos_limit",
        Runtime,
        SetBdevLimits,
        set_bdev_limits,
        "Limits what initiators together may ask of the LUNs that are a bdev, on all reactors; READs and WRITEs beyond it wait, \
         before they take buffers. What is not given stays as it is, 0 takes a limit away. A bdev that others are made of is \
         limited by theirs."
    ),
    method!(
        "lunette_initiator_set_qos_limit",
        Runtime,
        SetInitiatorLimits,
        set_initiator_limits,
        "Limits what each initiator of a name or pattern may ask for, at all LUNs and in all its sessions together. What is not \
         given is 0, no limit; without any the pattern is forgotten. Of several patterns that fit a name that with the most \
         characters beside * and ? holds."
    ),
    method!(
        "lunette_get_initiator_qos_limits",
        Runtime,
        Nothing,
        get_initiator_limits,
        "Lists what initiators may ask for, by pattern."
    ),
];

const MB: u64 = 1024 * 1024;

params! {
    /// Of `bdev_set_qos_limit`.
    pub(super) struct SetBdevLimits {
        /// The bdev.
        name: String,
        /// READs and WRITEs a second.
        rw_ios_per_sec: Option<u64>,
        /// Megabytes (of 1048576 bytes) read and written a second.
        rw_mbytes_per_sec: Option<u64>,
        /// Megabytes read a second.
        r_mbytes_per_sec: Option<u64>,
        /// Megabytes written a second.
        w_mbytes_per_sec: Option<u64>,
        /// READs and WRITEs a second that it gets whatever their initiators' limits say.
        guaranteed_ios_per_sec: Option<u64>,
        /// Megabytes a second of such.
        guaranteed_mbytes_per_sec: Option<u64>,
        /// For how many milliseconds what was not used can be made up for: 10, unless it was set.
        burst_ms: Option<u64>,
    }
}

fn set_bdev_limits(context: &Context, params: SetBdevLimits) -> Outcome {
    let name = params.name.clone();
    let given = Given {
        ios: params.rw_ios_per_sec,
        mbytes: params.rw_mbytes_per_sec,
        read_mbytes: params.r_mbytes_per_sec,
        write_mbytes: params.w_mbytes_per_sec,
        guaranteed_ios: params.guaranteed_ios_per_sec,
        guaranteed_mbytes: params.guaranteed_mbytes_per_sec,
        burst_ms: params.burst_ms,
    };
    given.check()?;
    if given == Given::default() {
        return Err(Fault::new(-Errno::INVAL.raw_os_error(), "No rate limits specified"));
    }
    context.control(move |control, _| {
        let Some(old) = control.bdev(&name).map(|entry| entry.limits()) else { return Err(no_bdev(&name)) };
        control.set_bdev_limits(&name, given.over(old)).map_err(|error| bdev_fault(&error))
    })??;
    Ok(Json::Bool(true))
}

params! {
    /// Of `lunette_initiator_set_qos_limit`.
    pub(super) struct SetInitiatorLimits {
        /// An initiator's name, or a pattern: * stands for any run of characters, ? for one.
        initiator: String,
        /// READs and WRITEs a second.
        rw_ios_per_sec: u64 = 0,
        /// Megabytes (of 1048576 bytes) read and written a second.
        rw_mbytes_per_sec: u64 = 0,
        /// Megabytes read a second.
        r_mbytes_per_sec: u64 = 0,
        /// Megabytes written a second.
        w_mbytes_per_sec: u64 = 0,
        /// READs and WRITEs a second that it gets whatever the limits of their LUNs say.
        guaranteed_ios_per_sec: u64 = 0,
        /// Megabytes a second of such.
        guaranteed_mbytes_per_sec: u64 = 0,
        /// For how many milliseconds what was not used can be made up for.
        burst_ms: u64 = 10,
    }
}

fn set_initiator_limits(context: &Context, params: SetInitiatorLimits) -> Outcome {
    let given = Given {
        ios: Some(params.rw_ios_per_sec),
        mbytes: Some(params.rw_mbytes_per_sec),
        read_mbytes: Some(params.r_mbytes_per_sec),
        write_mbytes: Some(params.w_mbytes_per_sec),
        guaranteed_ios: Some(params.guaranteed_ios_per_sec),
        guaranteed_mbytes: Some(params.guaranteed_mbytes_per_sec),
        burst_ms: Some(params.burst_ms),
    };
    given.check()?;
    let limits = given.over(Limits::NONE);
    let set = context.control(move |control, _| control.set_initiator_limits(&params.initiator, limits))?;
    set.map(|()| Json::Bool(true)).map_err(|error| iscsi_fault(&error))
}

fn get_initiator_limits(context: &Context, _: Nothing) -> Outcome {
    context.control(|control, _| control.initiator_limits().map(describe).collect::<Json>())
}

/// What a call gives.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Given {
    ios: Option<u64>,
    mbytes: Option<u64>,
    read_mbytes: Option<u64>,
    write_mbytes: Option<u64>,
    guaranteed_ios: Option<u64>,
    guaranteed_mbytes: Option<u64>,
    burst_ms: Option<u64>,
}

impl Given {
    fn check(&self) -> Result<(), Fault> {
        let most = BURST_NS_MAX / MS_NS;
        match self.burst_ms {
            Some(burst_ms) if burst_ms == 0 || burst_ms > most => {
                Err(Fault::params(format_args!("burst_ms: it is 1 to {most}")))
            }
            _ => Ok(()),
        }
    }

    /// What is not given is as it was.
    fn over(&self, old: Limits) -> Limits {
        let bytes = |mbytes: Option<u64>, old| mbytes.map_or(old, |mbytes| mbytes.saturating_mul(MB));
        Limits {
            ios: self.ios.unwrap_or(old.ios),
            bytes: bytes(self.mbytes, old.bytes),
            read_bytes: bytes(self.read_mbytes, old.read_bytes),
            write_bytes: bytes(self.write_mbytes, old.write_bytes),
            guaranteed_ios: self.guaranteed_ios.unwrap_or(old.guaranteed_ios),
            guaranteed_bytes: bytes(self.guaranteed_mbytes, old.guaranteed_bytes),
            burst_ns: self.burst_ms.map_or(old.burst_ns, |burst_ms| burst_ms * MS_NS),
        }
    }
}

/// The limits as SPDK shows and sets them.
pub(super) fn ceilings(limits: &Limits) -> Json {
    object! {
        "rw_ios_per_sec": limits.ios,
        "rw_mbytes_per_sec": limits.bytes / MB,
        "r_mbytes_per_sec": limits.read_bytes / MB,
        "w_mbytes_per_sec": limits.write_bytes / MB,
    }
}

/// What goes beyond SPDK's, where it is set.
fn extend(mut shown: Json, limits: &Limits) -> Json {
    if limits.guaranteed_ios > 0 {
        shown.push("guaranteed_ios_per_sec", limits.guaranteed_ios);
    }
    if limits.guaranteed_bytes > 0 {
        shown.push("guaranteed_mbytes_per_sec", limits.guaranteed_bytes / MB);
    }
    if limits.burst_ns != BURST_NS {
        shown.push("burst_ms", limits.burst_ns / MS_NS);
    }
    shown
}

fn named(name: &'static str, value: &str, limits: &Limits) -> Json {
    let mut shown = object! {};
    shown.push(name, value);
    if let Json::Object(members) = extend(ceilings(limits), limits) {
        members.into_iter().for_each(|(name, value)| shown.push(&name, value));
    }
    shown
}

fn describe((pattern, limits): (&str, &Limits)) -> Json {
    named("initiator", pattern, limits)
}

/// What is set of a bdev beyond what SPDK shows.
pub(super) fn beyond(limits: &Limits) -> Option<Json> {
    match extend(object! {}, limits) {
        Json::Object(members) if !members.is_empty() => Some(Json::Object(members)),
        _ => None,
    }
}

/// The calls that set limits of bdevs again: for the file of calls.
pub(in crate::rpc) fn bdev_calls(control: &Control<KernelNet>) -> impl Iterator<Item = Json> {
    let limited = control.bdevs().filter(|entry| entry.pace.is_some());
    limited.map(|entry| {
        object! { "method": "bdev_set_qos_limit", "params": named("name", &entry.name, &entry.limits()) }
    })
}

/// The same of initiators.
pub(in crate::rpc) fn initiator_calls(control: &Control<KernelNet>) -> impl Iterator<Item = Json> {
    let params = control.initiator_limits().map(describe);
    params.map(|params| object! { "method": "lunette_initiator_set_qos_limit", "params": params })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_goes_over_what_was() {
        let old = Limits { ios: 7, bytes: 2 * MB, ..Limits::NONE };
        let given = Given { mbytes: Some(0), write_mbytes: Some(3), ..Given::default() };
        let limits = given.over(old);
        assert_eq!(limits, Limits { ios: 7, write_bytes: 3 * MB, ..Limits::NONE });
        assert_eq!(
            ceilings(&limits).to_string(),
            r#"{"rw_ios_per_sec":7,"rw_mbytes_per_sec":0,"r_mbytes_per_sec":0,"w_mbytes_per_sec":3}"#
        );
        assert_eq!(beyond(&limits), None);
        let given = Given { guaranteed_ios: Some(5), burst_ms: Some(20), ..Given::default() };
        assert_eq!(
            describe(("*", &given.over(limits))).to_string(),
            r#"{"initiator":"*","rw_ios_per_sec":7,"rw_mbytes_per_sec":0,"r_mbytes_per_sec":0,"w_mbytes_per_sec":3,"guaranteed_ios_per_sec":5,"burst_ms":20}"#
        );
    }

    #[test]
    fn bursts_have_bounds() {
        let burst = |burst_ms| Given { burst_ms: Some(burst_ms), ..Given::default() }.check().is_ok();
        assert_eq!([0, 1, 10_000, 10_001].map(burst), [false, true, true, false]);
    }
}
