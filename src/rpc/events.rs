//! What has happened, as JSON: each fact for itself, and a connection that subscribes to them.

use std::io;
use std::time::Duration;

use jiff::Timestamp;

use super::context::Context;
use super::converse::Line;
use super::fault::Fault;
use super::json::{Json, object};
use super::recordings::epoch_ns;
use crate::control::feed::{Fact, KINDS, Value};

/// The method whose answer a connection goes on with.
pub(super) const SUBSCRIBE: &str = "lunette_subscribe";
/// A subscriber that has gone is noticed so soon where nothing happens.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Facts told at once.
const BATCH: usize = 64;

/// Which facts are wanted.
#[derive(Clone, Debug)]
pub(super) struct Filter(Option<Vec<String>>);

impl Filter {
    /// Those of these kinds, or all.
    pub(super) fn of(kinds: Option<Vec<String>>) -> Result<Filter, Fault> {
        let unknown = kinds.iter().flatten().find(|kind| !KINDS.iter().any(|(known, _)| known == kind));
        match unknown {
            Some(kind) => Err(Fault::params(format_args!(
                "kinds: {kind:?} is none; lunette_get_event_kinds lists them"
            ))),
            None => Ok(Filter(kinds)),
        }
    }

    pub(super) fn wants(&self, fact: &Fact) -> bool {
        self.0.as_ref().is_none_or(|kinds| kinds.iter().any(|kind| kind == fact.kind))
    }
}

/// The kinds there are.
pub(super) fn kinds() -> Json {
    KINDS.iter().map(|(kind, about)| object! { "kind": *kind, "about": *about }).collect()
}

/// When the process's time began, in nanoseconds since 1970.
pub(super) fn clock(context: &Context) -> Result<u64, Fault> {
    epoch_ns(&context.remote()).ok_or_else(Fault::stopped)
}

/// A fact.
pub(super) fn describe(fact: &Fact, epoch_ns: u64) -> Json {
    let at = i128::from(epoch_ns) + i128::from(fact.at.ns());
    let at = Timestamp::from_nanosecond(at).unwrap_or_default();
    let mut json = object! {
        "number": fact.number,
        "at": at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
        "kind": fact.kind,
    };
    for (name, value) in &fact.fields {
        match value {
            Value::Number(value) => json.push(name, *value),
            Value::Flag(value) => json.push(name, *value),
            Value::Text(value) => json.push(name, value),
        }
    }
    json
}

/// Tells a client what happens, from what [`SUBSCRIBE`] has answered, until it goes or the daemon stops.
pub(super) fn serve(stream: &mut impl Line, context: &Context, answer: &Json) -> io::Result<()> {
    let stopped = |fault: Fault| io::Error::other(fault.text());
    let mut after = match answer.member("after") {
        Some(Json::Unsigned(after)) => *after,
        _ => 0,
    };
    let kinds = match answer.member("kinds") {
        Some(Json::Array(kinds)) => {
            Some(kinds.iter().filter_map(|kind| kind.text().map(str::to_owned)).collect())
        }
        _ => None,
    };
    let filter = Filter(kinds);
    let feed = context.control(|control, _| control.feed()).map_err(stopped)?;
    let clock = clock(context).map_err(stopped)?;
    loop {
        let told = feed.after(after, BATCH, LOOK_EVERY);
        after = told.upto;
        let mut lines = String::new();
        if told.lost > 0 {
            notify("lunette_events_lost", object! { "count": told.lost }, &mut lines);
        }
        for fact in told.facts.iter().filter(|fact| filter.wants(fact)) {
            notify("lunette_event", describe(fact, clock), &mut lines);
        }
        stream.write_all(lines.as_bytes())?;
        stream.flush()?;
        if told.facts.is_empty() {
            stream.read_within(Some(Duration::from_millis(1)))?;
            match stream.read(&mut [0; 1024]) {
                Ok(0) => return Ok(()),
                // What it asks further is not answered.
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// A notification (JSON-RPC 2.0 §4.1), on a line of its own.
fn notify(method: &str, params: Json, out: &mut String) {
    object! { "jsonrpc": "2.0", "method": method, "params": params }.write(out);
    out.push('\n');
}
