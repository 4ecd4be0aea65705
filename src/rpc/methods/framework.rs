//! The daemon itself: what can be called, its version, how far it has started, its configuration.

use super::{Method, Outcome, method};
use crate::rpc::config;
use crate::rpc::context::Context;
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::params::{Nothing, params};
use crate::rpc::types::Ignored;

pub(super) const METHODS: &[Method] = &[
    method!("rpc_get_methods", Always, GetMethods, get_methods, "Lists what can be called."),
    method!("spdk_get_version", Always, Nothing, version, "The version, in the form that SPDK's has."),
    method!(
        "framework_start_init",
        Startup,
        Nothing,
        start_init,
        "Ends the wait that --wait-for-rpc asked for: options are fixed, the rest can be called."
    ),
    method!(
        "framework_wait_init",
        Always,
        Nothing,
        wait_init,
        "Answers once framework_start_init has been called."
    ),
    method!(
        "framework_get_subsystems",
        Runtime,
        Nothing,
        subsystems,
        "Lists the subsystems that framework_get_config knows, each after those it depends on."
    ),
    method!(
        "framework_get_config",
        Runtime,
        GetConfig,
        get_config,
        "The calls that rebuild a subsystem as it is now."
    ),
    method!("spdk_kill_instance", Runtime, Kill, kill, "Asks the daemon to stop."),
];

params! {
    /// Of `rpc_get_methods`.
    pub(super) struct GetMethods {
        /// Only what can be called at this stage.
        current: bool = false,
        /// Former names too; lunette has none.
        include_aliases: Ignored,
    }
}

fn get_methods(context: &Context, params: GetMethods) -> Outcome {
    let stage = context.stage();
    let listed = super::all().filter(|method| !params.current || method.when.allows(stage));
    Ok(listed.map(|method| method.name).collect())
}

fn version(_: &Context, _: Nothing) -> Outcome {
    let number = |text: &str| text.parse::<u32>().unwrap_or(0);
    Ok(object! {
        "version": concat!("lunette v", env!("CARGO_PKG_VERSION")),
        "fields": object! {
            "major": number(env!("CARGO_PKG_VERSION_MAJOR")),
            "minor": number(env!("CARGO_PKG_VERSION_MINOR")),
            "patch": number(env!("CARGO_PKG_VERSION_PATCH")),
            "suffix": "",
            "commit": env!("LUNETTE_COMMIT"),
        },
    })
}

fn start_init(context: &Context, _: Nothing) -> Outcome {
    context.start();
    Ok(Json::Bool(true))
}

fn wait_init(context: &Context, _: Nothing) -> Outcome {
    context.wait_started();
    Ok(Json::Bool(true))
}

fn subsystems(_: &Context, _: Nothing) -> Outcome {
    let one = |(name, depends_on): &(&str, &[&str])| {
        object! { "subsystem": *name, "depends_on": depends_on.iter().copied().collect::<Json>() }
    };
    Ok(config::SUBSYSTEMS.iter().map(one).collect())
}

params! {
    /// Of `framework_get_config`.
    pub(super) struct GetConfig {
        /// The subsystem.
        name: String,
        /// Calls that belong together come as an array; here each stands for itself.
        with_batches: Ignored,
    }
}

fn get_config(context: &Context, params: GetConfig) -> Outcome {
    config::of(context, &params.name)?.ok_or_else(|| {
        let names: Vec<&str> = config::SUBSYSTEMS.iter().map(|(name, _)| *name).collect();
        Fault::params(format_args!("there is no subsystem {:?}; there are {}", params.name, names.join(", ")))
    })
}

params! {
    /// Of `spdk_kill_instance`.
    pub(super) struct Kill {
        /// SIGTERM or SIGINT: sessions are asked to log out first. SIGKILL: at once.
        sig_name: String,
    }
}

fn kill(context: &Context, params: Kill) -> Outcome {
    match params.sig_name.strip_prefix("SIG").unwrap_or(&params.sig_name) {
        "TERM" | "15" | "INT" | "2" => context.drain(),
        "KILL" | "9" => std::process::abort(),
        other => {
            return Err(Fault::params(format_args!("sig_name: {other:?} is not SIGTERM, SIGINT or SIGKILL")));
        }
    }
    Ok(Json::Bool(true))
}
