//! Options of the iSCSI side, under SPDK's names.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Method, Outcome, iscsi_fault, method};
use crate::control::auth::{Auth, Chap};
use crate::control::options::Options;
use crate::reactor::message::NopInTimes;
use crate::rpc::auth_file;
use crate::rpc::context::Context;
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::params::{Nothing, params};
use crate::rpc::secrets::Sealed;
use crate::rpc::types::{Ignored, Off};
use crate::time::SECOND_NS;

pub(super) const METHODS: &[Method] = &[
    method!("iscsi_get_options", Runtime, Nothing, get_options, "The options."),
    method!(
        "iscsi_set_options",
        Startup,
        SetOptions,
        set_options,
        "Sets options; those that are not given keep their values."
    ),
];

params! {
    /// Of `iscsi_set_options`.
    pub(super) struct SetOptions {
        /// Put before the names of targets that are no iSCSI names, with a colon between.
        node_base: Option<String>,
        /// Seconds that an initiator has to answer NOP-In.
        nop_timeout: Option<u32>,
        /// Seconds of silence before an initiator is asked by NOP-In whether it is there; 0 is never.
        nop_in_interval: Option<u32>,
        /// Discovery sessions: CHAP is not done.
        disable_chap: Option<bool>,
        /// Discovery sessions: CHAP has to be done.
        require_chap: Option<bool>,
        /// Discovery sessions: the target has to prove itself too.
        mutual_chap: Option<bool>,
        /// Discovery sessions: the authentication group whose secrets count; 0 is none.
        chap_group: Option<u32>,
        /// Sessions at once.
        max_sessions: Option<u32>,
        /// DefaultTime2Wait, in seconds.
        default_time2wait: Option<u16>,
        /// DefaultTime2Retain, in seconds.
        default_time2retain: Option<u16>,
        /// FirstBurstLength, at most.
        first_burst_length: Option<u32>,
        /// Immediate data are taken. spdk-rpc sends false unless told otherwise.
        immediate_data: Option<bool>,
        /// InitialR2T=Yes is insisted on: no data come unasked but immediate ones. For tests of initiators; it costs round trips.
        lunette_initial_r2t: Option<bool>,
        /// Secrets under 12 bytes (96 bits) are taken.
        lunette_weak_secrets: Option<bool>,
        /// A file of accounts, as SPDK has it: sections [AuthGroup1] with lines Auth "user" "secret", or Auth "user" "secret" "muser"
        /// "msecret". It is absolute, and nobody's but its owner's and his group's; its groups are as it says at each start. One that
        /// is not there is none.
        auth_file: Option<PathBuf>,
        /// Connections of a session, at most.
        max_connections_per_session: Option<u16>,
        /// SPDK's: commands of a session at once. Here the window follows the use that is made of it.
        max_queue_depth: Ignored,
        /// ErrorRecoveryLevel, at most: 0, 1 or 2.
        error_recovery_level: Option<u8>,
        /// SPDK's: two sessions of one nexus.
        allow_duplicated_isid: Off,
        /// SPDK's memory.
        max_large_datain_per_connection: Ignored,
        /// SPDK's memory.
        max_r2t_per_connection: Ignored,
        /// SPDK's memory.
        pdu_pool_size: Ignored,
        /// SPDK's memory.
        immediate_data_pool_size: Ignored,
        /// SPDK's memory.
        data_out_pool_size: Ignored,
    }
}

fn set_options(context: &Context, params: SetOptions) -> Outcome {
    if params.immediate_data == Some(false) {
        tracing::info!("immediate data are switched off: small writes take a round trip more");
    }
    let file = match &params.auth_file {
        Some(path) => Some((path.clone(), auth_file::read(path).map_err(Fault::params)?)),
        None => None,
    };
    let sealed = Arc::clone(&context.sealed);
    let set = context.control(move |control, _| {
        let before = control.options().clone();
        let options = changed(before.clone(), params)?;
        control.set_options(options).map_err(|error| iscsi_fault(&error))?;
        let Some((path, groups)) = file else { return Ok(()) };
        let name = path.display().to_string();
        auth_file::take_in(control, &sealed, path, groups).map_err(|error| {
            // They were the options.
            let _ = control.set_options(before);
            Fault::params(format_args!("auth_file: {name}: {error}"))
        })
    })?;
    set.map(|()| Json::Bool(true))
}

fn changed(mut options: Options, params: SetOptions) -> Result<Options, Fault> {
    let set = |to: &mut bool, value: Option<bool>| *to = value.unwrap_or(*to);
    let (mut disable, mut require, mut mutual) = options.discovery.chap.switches();
    set(&mut disable, params.disable_chap);
    set(&mut require, params.require_chap);
    set(&mut mutual, params.mutual_chap);
    options.discovery = Auth {
        chap: Chap::from_switches(disable, require, mutual).map_err(|error| iscsi_fault(&error))?,
        group: params.chap_group.unwrap_or(options.discovery.group),
    };
    set(&mut options.offer.immediate_data, params.immediate_data);
    set(&mut options.offer.initial_r2t, params.lunette_initial_r2t);
    set(&mut options.allows_weak_secrets, params.lunette_weak_secrets);
    options.node_base = params.node_base.unwrap_or(options.node_base);
    if let Some(sessions) = params.max_sessions {
        options.sessions_max = sessions as usize;
    }
    options.offer.connections_max =
        params.max_connections_per_session.unwrap_or(options.offer.connections_max);
    options.offer.error_recovery_level =
        params.error_recovery_level.unwrap_or(options.offer.error_recovery_level);
    options.offer.time2wait = params.default_time2wait.unwrap_or(options.offer.time2wait);
    options.offer.time2retain = params.default_time2retain.unwrap_or(options.offer.time2retain);
    options.offer.first_burst_bytes = params.first_burst_length.unwrap_or(options.offer.first_burst_bytes);
    let (interval, timeout) = nop_in(options.nop_in);
    options.nop_in =
        times(params.nop_in_interval.unwrap_or(interval), params.nop_timeout.unwrap_or(timeout))?;
    Ok(options)
}

/// Seconds: the silence before we ask, and how long we wait for the answer.
fn nop_in(times: NopInTimes) -> (u32, u32) {
    let seconds = |ns: u64| u32::try_from(ns / SECOND_NS).unwrap_or(u32::MAX);
    (seconds(times.ask_ns), seconds(times.close_ns.saturating_sub(times.ask_ns)))
}

fn times(interval: u32, timeout: u32) -> Result<NopInTimes, Fault> {
    /// A day.
    const SECONDS_MAX: u32 = 86_400;
    for (name, value) in [("nop_in_interval", interval), ("nop_timeout", timeout)] {
        if value > SECONDS_MAX {
            return Err(Fault::params(format_args!("{name}: it is 0 to {SECONDS_MAX}, not {value}")));
        }
    }
    let ask_ns = u64::from(interval) * SECOND_NS;
    // Where nobody is asked nobody fails to answer.
    let close_ns = if interval == 0 { 0 } else { ask_ns + u64::from(timeout.max(1)) * SECOND_NS };
    Ok(NopInTimes { ask_ns, close_ns })
}

fn get_options(context: &Context, _: Nothing) -> Outcome {
    let sealed = Arc::clone(&context.sealed);
    context.control(move |control, _| describe(control.options(), &sealed))
}

/// As the call takes them.
pub(in crate::rpc) fn describe(options: &Options, sealed: &Sealed) -> Json {
    let (disable_chap, require_chap, mutual_chap) = options.discovery.chap.switches();
    let (interval, timeout) = nop_in(options.nop_in);
    let mut described = object! {
        "node_base": &options.node_base,
        "max_sessions": options.sessions_max as u64,
        "max_connections_per_session": options.offer.connections_max,
        "max_queue_depth": crate::limits::WINDOW_MAX,
        "default_time2wait": options.offer.time2wait,
        "default_time2retain": options.offer.time2retain,
        "first_burst_length": options.offer.first_burst_bytes,
        "immediate_data": options.offer.immediate_data,
        "lunette_initial_r2t": options.offer.initial_r2t,
        "allow_duplicated_isid": false,
        "error_recovery_level": u32::from(options.offer.error_recovery_level),
        "nop_timeout": timeout,
        "nop_in_interval": interval,
        "disable_chap": disable_chap,
        "require_chap": require_chap,
        "mutual_chap": mutual_chap,
        "chap_group": options.discovery.group,
        "lunette_weak_secrets": options.allows_weak_secrets,
    };
    if let Some(file) = sealed.auth_file() {
        described.push("auth_file", file.path.to_string_lossy().into_owned());
    }
    described
}
