//! How much the daemon logs.
//!
//! SPDK tells what it prints from what it gives to syslog; lunette only prints, so both pairs of calls are about that.
//! It has no flags.

use tracing::level_filters::LevelFilter;

use super::{Method, Outcome, method};
use crate::rpc::context::Context;
use crate::rpc::fault::Fault;
use crate::rpc::json::Json;
use crate::rpc::params::{Nothing, Take, Wrong, params};

pub(super) const METHODS: &[Method] = &[
    method!("log_get_print_level", Always, Nothing, level, "How much is logged."),
    method!("log_set_print_level", Always, SetLevel, set_level, "Changes how much is logged."),
    method!("log_get_level", Always, Nothing, level, "The same as log_get_print_level."),
    method!("log_set_level", Always, SetLevel, set_level, "The same as log_set_print_level."),
    method!("log_get_flags", Always, Nothing, flags, "SPDK's debug flags; lunette has none."),
    method!("log_set_flag", Always, Flag, no_flag, "Refused: there is no flag to set."),
    method!("log_clear_flag", Always, Flag, no_flag, "Refused: there is no flag to clear."),
];

/// SPDK's levels and what they are here. Its DISABLED cannot be asked for by its clients.
const LEVELS: [(&str, LevelFilter); 6] = [
    ("DISABLED", LevelFilter::OFF),
    ("ERROR", LevelFilter::ERROR),
    ("WARNING", LevelFilter::WARN),
    ("NOTICE", LevelFilter::INFO),
    ("INFO", LevelFilter::DEBUG),
    ("DEBUG", LevelFilter::TRACE),
];

/// A level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Level(LevelFilter);

impl Take for Level {
    fn kind() -> String {
        let names: Vec<&str> = LEVELS.iter().map(|(name, _)| *name).collect();
        format!("one of {}", names.join(", "))
    }

    fn take(json: Json) -> Result<Level, Wrong> {
        let text = String::take(json)?;
        let found = LEVELS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&text));
        found
            .map(|(_, level)| Level(*level))
            .ok_or_else(|| Wrong::new(format_args!("{text:?} is not {}", Level::kind())))
    }
}

params! {
    /// Of `log_set_print_level`.
    pub(super) struct SetLevel {
        /// The least that is logged; NOTICE is what is usual.
        level: Level,
    }
}

params! {
    /// Of `log_set_flag`.
    pub(super) struct Flag {
        /// Its name.
        flag: String,
    }
}

fn level(context: &Context, _: Nothing) -> Outcome {
    let level = context.log.get();
    let name = LEVELS.iter().find(|(_, known)| *known == level).map_or("NOTICE", |(name, _)| name);
    Ok(Json::from(name))
}

fn set_level(context: &Context, params: SetLevel) -> Outcome {
    context.log.set(params.level.0);
    Ok(Json::Bool(true))
}

fn flags(_: &Context, _: Nothing) -> Outcome {
    Ok(Json::Object(Vec::new()))
}

fn no_flag(_: &Context, params: Flag) -> Outcome {
    Err(Fault::params(format_args!("flag: there is no {:?}, nor any other", params.flag)))
}
