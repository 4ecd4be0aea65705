//! What the status page reads: sums, of which it makes rates by itself.

use super::sample::{BdevSample, ReactorSample, STAGES, Sample, SessionSample};
use crate::bdev::count::Figures;
use crate::control::feed::{Fact, Value};
use crate::meter::{Moved, Spread, TIMES_BOUNDS_NS, Work};
use crate::rpc::json::{Json, object};

/// So many sessions are listed at most: those that have moved most.
const SESSIONS_LISTED_MAX: usize = 200;

/// The document.
pub(super) fn document(sample: &Sample) -> Json {
    let mut listed: Vec<&SessionSample> = sample.sessions.iter().collect();
    listed.sort_by_key(|session| (std::cmp::Reverse(moved(&session.work)), session.id));
    listed.truncate(SESSIONS_LISTED_MAX);
    let facts = sample.facts.iter().map(|(fact, reason, count)| {
        object! { "fact": format!("{fact:?}"), "reason": *reason, "count": *count }
    });
    object! {
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_ns": sample.uptime_ns,
        "bounds_ns": TIMES_BOUNDS_NS.iter().copied().map(Json::from).collect::<Json>(),
        "reactors": sample.reactors.iter().map(reactor).collect::<Json>(),
        "bdevs": sample.bdevs.iter().map(bdev).collect::<Json>(),
        "targets": sample.targets.iter().map(|(name, sessions)| object! { "name": name, "sessions": *sessions }).collect::<Json>(),
        "session_count": u64::try_from(sample.sessions.len()).unwrap_or(u64::MAX),
        "sessions": listed.into_iter().map(session).collect::<Json>(),
        "facts": facts.collect::<Json>(),
        "events": sample.events.iter().map(|fact| event(fact)).collect::<Json>(),
    }
}

fn moved(work: &Work) -> u64 {
    work.reads.bytes.saturating_add(work.writes.bytes)
}

fn spread(spread: &Spread) -> Json {
    object! { "counts": spread.counts.iter().copied().map(Json::from).collect::<Json>(), "total_ns": spread.total_ns }
}

/// What is told of an event to everybody who asks: names of CHAP are in none of these, those of files neither.
const TOLD: &[&str] = &[
    "bdev",
    "blocks",
    "bytes",
    "cause",
    "cid",
    "command",
    "count",
    "device_us",
    "error",
    "function",
    "initiator",
    "is_so",
    "lba",
    "limits",
    "lun",
    "peer",
    "queue_us",
    "reactor",
    "reason",
    "receive_us",
    "response",
    "send_us",
    "session",
    "target",
    "us",
];

fn event(fact: &Fact) -> Json {
    let mut about = Json::Object(Vec::new());
    for (name, value) in fact.fields.iter().filter(|(name, _)| TOLD.contains(name)) {
        match value {
            Value::Number(value) => about.push(name, *value),
            Value::Flag(value) => about.push(name, *value),
            Value::Text(value) => about.push(name, value),
        }
    }
    object! { "number": fact.number, "at_ns": fact.at.ns(), "kind": fact.kind, "about": about }
}

fn stages(stages: &[Spread; 4]) -> Json {
    let mut named = Json::Object(Vec::new());
    for (name, times) in STAGES.iter().zip(stages) {
        named.push(name, spread(times));
    }
    named
}

fn reactor(reactor: &ReactorSample) -> Json {
    let [conns, commands, hungry, ios] = reactor.at_work;
    let pools = reactor.pools.iter().copied();
    object! {
        "turns": spread(&reactor.turns),
        "stages": stages(&reactor.stages),
        "socket": spread(&reactor.socket),
        "waits": reactor.waits,
        "short": reactor.short,
        "connections": conns,
        "commands": commands,
        "hungry": hungry,
        "throttled": reactor.paced,
        "ios": ios,
        "pools": pools.map(|[capacity, in_use]| object! { "bytes": capacity, "in_use_bytes": in_use }).collect::<Json>(),
    }
}

fn bdev(bdev: &BdevSample) -> Json {
    let sum = |of: fn(&Figures) -> u64| bdev.figures.iter().map(|(_, figures)| of(figures)).sum::<u64>();
    let [reads, writes, unmaps] = bdev.spreads();
    let luns =
        bdev.luns.iter().map(|(target, number)| object! { "target": target, "lun": u32::from(*number) });
    object! {
        "name": &bdev.name,
        "bytes": bdev.bytes,
        "luns": luns.collect::<Json>(),
        "reads": object! { "ios": sum(|figures| figures.reads.ios), "bytes": sum(|figures| figures.reads.bytes), "times": spread(&reads) },
        "writes": object! { "ios": sum(|figures| figures.writes.ios), "bytes": sum(|figures| figures.writes.bytes), "times": spread(&writes) },
        "unmaps": object! { "ios": sum(|figures| figures.unmaps.ios), "bytes": sum(|figures| figures.unmaps.bytes), "times": spread(&unmaps) },
        "flushes": sum(|figures| figures.flushes),
        "errors": sum(|figures| figures.errors),
        "in_flight": sum(|figures| figures.in_flight),
        "throttled": object! { "commands": bdev.waited.commands, "ns": bdev.waited.ns },
        "stages": bdev.stages.as_deref().map_or(Json::Null, stages),
    }
}

fn session(session: &SessionSample) -> Json {
    let done = |moved: Moved| object! { "commands": moved.commands, "bytes": moved.bytes };
    object! {
        "id": session.id,
        "initiator": &session.initiator,
        "target": &session.target,
        "peer": &session.peer,
        "reactor": u32::from(session.reactor),
        "connections": session.connections,
        "reads": done(session.work.reads),
        "writes": done(session.work.writes),
        "others": session.work.others,
        "took_ns": session.work.took_ns,
        "errors": session.work.endings.iter().sum::<u64>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_newest_first_with_all_that_is_known_of_them() {
        let feed = crate::control::feed::Feed::default();
        feed.push(crate::time::Tick::from_ns(5), "bdev_registered", vec![("bdev", "M0".into())]);
        feed.push(
            crate::time::Tick::from_ns(7),
            "session_up",
            vec![("session", 3.into()), ("is_so", true.into()), ("why", "nobody's".into())],
        );
        let document = document(&Sample { events: feed.latest(9), ..Sample::default() });
        let told = document.member("events").unwrap().to_string();
        assert_eq!(
            told,
            r#"[{"number":2,"at_ns":7,"kind":"session_up","about":{"session":3,"is_so":true}},"#.to_owned()
                + r#"{"number":1,"at_ns":5,"kind":"bdev_registered","about":{"bdev":"M0"}}]"#
        );
    }

    #[test]
    fn sessions_that_moved_most_come_first_and_their_number_is_bounded() {
        let session = |id, bytes| {
            let reads = Moved { commands: 1, bytes };
            SessionSample { id, work: Work { reads, ..Work::default() }, ..SessionSample::default() }
        };
        let sessions = (0..300).map(|id| session(id, id % 250)).collect();
        let document = document(&Sample { sessions, ..Sample::default() });
        let Some(Json::Array(listed)) = document.member("sessions") else { panic!("no sessions") };
        assert_eq!(listed.len(), 200);
        assert_eq!(listed[0].member("id"), Some(&Json::Unsigned(249)));
        assert_eq!(document.member("session_count"), Some(&Json::Unsigned(300)));
    }
}
