//! What goes on: commands in flight, slow ones, and what has happened.

use std::time::Duration;

use super::{Method, Outcome, method};
use crate::reactor::look::{Command, Commands, Look};
use crate::rpc::context::Context;
use crate::rpc::events::{self, Filter};
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::params::{Nothing, params};
use crate::rpc::recordings::ask;
use crate::scsi::spoken;
use crate::time::MS_NS;

pub(super) const METHODS: &[Method] = &[
    method!(
        "lunette_get_commands",
        Runtime,
        GetCommands,
        get_commands,
        "Lists the commands in flight, oldest first, with what each waits for. Up to 1024 of each reactor; left_out counts the others."
    ),
    method!(
        "lunette_slow_io_set_options",
        Runtime,
        SetSlowIo,
        set_slow_io,
        "Commands that take so long from now on are logged and told as events, with the stage in which the time went. 0: none are."
    ),
    method!(
        "lunette_slow_io_get_options",
        Runtime,
        Nothing,
        slow_io,
        "Tells from when on a command is slow."
    ),
    method!(
        "lunette_get_events",
        Runtime,
        GetEvents,
        get_events,
        "Tells what has happened after event number after: logins, logouts, refusals, aborts, errors, slow IO, changes. The last 1024 are kept; lost counts those that are gone."
    ),
    method!("lunette_get_event_kinds", Runtime, Nothing, kinds, "Lists the kinds of events."),
    method!(
        "lunette_subscribe",
        Runtime,
        Subscribe,
        subscribe,
        "Tells events as they happen, on this connection from now on: each as a notification lunette_event, and lunette_events_lost where this client was too slow for some. No further request is answered on it."
    ),
];

params! {
    /// Of `lunette_get_commands`.
    pub(super) struct GetCommands {
        /// Only those that have been there for so many milliseconds.
        older_than_ms: u64 = 0,
        /// Only those of this session, by the number that iscsi_get_connections shows.
        session: Option<u64>,
    }
}

fn get_commands(context: &Context, params: GetCommands) -> Outcome {
    let older_than_ns = params.older_than_ms.saturating_mul(MS_NS);
    let (mut found, mut left_out) = (Vec::new(), 0);
    for reactor in context.control(|control, _| control.running())? {
        let asked = Look::Commands(Commands::new(older_than_ns));
        if let Some(Look::Commands(answer)) = ask(context, reactor, asked)? {
            left_out += answer.left_out;
            found.extend(answer.found.into_iter().map(|command| (reactor, command)));
        }
    }
    found.retain(|(_, command)| params.session.is_none_or(|session| command.session.0 == session));
    found.sort_by_key(|(_, command)| std::cmp::Reverse(command.age_ns));
    let commands = context.control(move |control, _| {
        let describe = |(reactor, command): &(crate::id::ReactorId, Command)| {
            let parties = control.parties(command.session, command.cid);
            let bdev = command.unit.and_then(|unit| control.bdev_of(unit)).unwrap_or_default();
            let (lba, blocks) = spoken::blocks(&command.cdb).unzip();
            let number = |value: Option<u64>| value.map_or(Json::Null, Json::from);
            object! {
                "session": command.session.0,
                "cid": command.cid,
                "reactor": reactor.0,
                "initiator": parties.as_ref().map_or("", |parties| parties.initiator.as_str()),
                "target": parties.as_ref().map_or("", |parties| parties.target.as_str()),
                "lun": number(command.number.map(|lun| lun.0.into())),
                "bdev": bdev,
                "itt": command.itt,
                "command": spoken::name(&command.cdb),
                "lba": number(lba),
                "blocks": number(blocks.map(u64::from)),
                "bytes": command.expected_bytes,
                "age_us": command.age_ns / 1000,
                "waits_for": command.stage.name(),
                "about": command.stage.about(),
                "device_ios": command.ios,
            }
        };
        found.iter().map(describe).collect::<Json>()
    })?;
    Ok(object! { "commands": commands, "left_out": left_out })
}

params! {
    /// Of `lunette_slow_io_set_options`.
    pub(super) struct SetSlowIo {
        /// Milliseconds from a command's arrival to its answer.
        threshold_ms: u64,
    }
}

fn set_slow_io(context: &Context, params: SetSlowIo) -> Outcome {
    let threshold_ns = params.threshold_ms.checked_mul(MS_NS);
    let Some(threshold_ns) = threshold_ns else {
        return Err(Fault::params("threshold_ms: no command ever takes so long"));
    };
    context.control(move |control, _| control.set_slow_io((threshold_ns > 0).then_some(threshold_ns)))?;
    Ok(Json::Bool(true))
}

fn slow_io(context: &Context, _: Nothing) -> Outcome {
    let threshold_ns = context.control(|control, _| control.slow_io())?;
    Ok(object! { "threshold_ms": threshold_ns.unwrap_or(0) / MS_NS })
}

params! {
    /// Of `lunette_get_events`.
    pub(super) struct GetEvents {
        /// The number of the last that is known already; 0: from the oldest that is kept.
        after: u64 = 0,
        /// So many at most.
        max: u32 = 1024,
        /// Waits for one for so many milliseconds, if there is none.
        wait_ms: u32 = 0,
        /// Only of these kinds.
        kinds: Option<Vec<String>>,
    }
}

fn get_events(context: &Context, params: GetEvents) -> Outcome {
    let GetEvents { after, max, wait_ms, kinds } = params;
    let filter = Filter::of(kinds)?;
    let feed = context.control(|control, _| control.feed())?;
    let patience = Duration::from_millis(u64::from(wait_ms.min(60_000)));
    let told = feed.after(after, usize::try_from(max).unwrap_or(usize::MAX), patience);
    let clock = events::clock(context)?;
    let facts = told.facts.iter().filter(|fact| filter.wants(fact));
    Ok(object! {
        "events": facts.map(|fact| events::describe(fact, clock)).collect::<Json>(),
        "lost": told.lost,
        "upto": told.upto,
    })
}

fn kinds(_: &Context, _: Nothing) -> Outcome {
    Ok(events::kinds())
}

params! {
    /// Of `lunette_subscribe`.
    pub(super) struct Subscribe {
        /// The number of the last that is known already; without it only what happens from now on is told.
        after: Option<u64>,
        /// Only of these kinds.
        kinds: Option<Vec<String>>,
    }
}

fn subscribe(context: &Context, params: Subscribe) -> Outcome {
    Filter::of(params.kinds.clone())?;
    let last = context.control(|control, _| control.feed().last())?;
    // What the connection goes on with.
    Ok(object! {
        "after": params.after.unwrap_or(last).min(last),
        "kinds": params.kinds.map_or(Json::Null, Json::from),
    })
}
