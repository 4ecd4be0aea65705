//! Two looks at a daemon, and what went on in between.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::rpc::json::Json;

/// What a bdev has done so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct BdevCounts {
    name: String,
    read_ios: u64,
    read_bytes: u64,
    write_ios: u64,
    write_bytes: u64,
    /// Of all of them, in nanoseconds.
    latency_ns: u64,
}

/// A session, as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Session {
    pub(super) number: u64,
    pub(super) initiator: String,
    pub(super) target: String,
    pub(super) address: String,
    pub(super) reactor: String,
    pub(super) connections: u64,
    /// Commands that have been there for a moment.
    pub(super) commands: u64,
    /// The age of the oldest.
    pub(super) oldest_us: u64,
}

/// A command in flight.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Command {
    pub(super) session: u64,
    pub(super) lun: String,
    pub(super) bdev: String,
    pub(super) name: String,
    pub(super) lba: String,
    pub(super) bytes: u64,
    pub(super) age_us: u64,
    pub(super) waits_for: String,
    pub(super) about: String,
}

/// What one look has found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Counts {
    ticks_ns: u64,
    bdevs: Vec<BdevCounts>,
    sessions: Vec<Session>,
    commands: Vec<Command>,
    /// Target, LUN, bdev.
    luns: Vec<(String, String, String)>,
    /// Of each target that counts them: how long commands took, by SPDK's buckets.
    histograms: Vec<(String, Vec<u64>)>,
}

/// What a LUN did in between.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Lun {
    pub(super) target: String,
    pub(super) number: String,
    pub(super) bdev: String,
    /// A second.
    pub(super) read_ios: f64,
    pub(super) write_ios: f64,
    pub(super) read_bytes: f64,
    pub(super) write_bytes: f64,
    /// At the device, on average, in microseconds.
    pub(super) latency_us: Option<f64>,
}

/// How long a target's commands took, in microseconds.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Latency {
    pub(super) target: String,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

/// What went on between two looks.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Sample {
    pub(super) luns: Vec<Lun>,
    pub(super) sessions: Vec<Session>,
    pub(super) commands: Vec<Command>,
    pub(super) latencies: Vec<Latency>,
    /// Of each reactor: its name, connections, commands in flight.
    pub(super) reactors: Vec<(String, u64, u64)>,
}

fn text(json: &Json, name: &str) -> String {
    json.member(name).and_then(Json::text).unwrap_or_default().to_owned()
}

fn number(json: &Json, name: &str) -> u64 {
    match json.member(name) {
        Some(Json::Unsigned(number)) => *number,
        _ => 0,
    }
}

/// A number as it is to be shown; nothing where there is none.
fn shown(json: &Json, name: &str) -> String {
    match json.member(name) {
        Some(Json::Unsigned(number)) => number.to_string(),
        _ => String::new(),
    }
}

fn list(json: Option<&Json>) -> &[Json] {
    match json {
        Some(Json::Array(list)) => list,
        _ => &[],
    }
}

impl Counts {
    /// From the answers of `bdev_get_iostat`, `iscsi_get_connections`, `lunette_get_commands`, `iscsi_get_target_nodes`, and
    /// `iscsi_get_histogram` of the targets that have one.
    pub(super) fn read(
        iostat: &Json,
        connections: &Json,
        commands: &Json,
        targets: &Json,
        histograms: &[(String, Json)],
    ) -> Counts {
        let bdev = |bdev: &Json| BdevCounts {
            name: text(bdev, "name"),
            read_ios: number(bdev, "num_read_ops"),
            read_bytes: number(bdev, "bytes_read"),
            write_ios: number(bdev, "num_write_ops"),
            write_bytes: number(bdev, "bytes_written"),
            latency_ns: number(bdev, "read_latency_ticks") + number(bdev, "write_latency_ticks"),
        };
        let command = |command: &Json| Command {
            session: number(command, "session"),
            lun: shown(command, "lun"),
            bdev: text(command, "bdev"),
            name: text(command, "command"),
            lba: shown(command, "lba"),
            bytes: number(command, "bytes"),
            age_us: number(command, "age_us"),
            waits_for: text(command, "waits_for"),
            about: text(command, "about"),
        };
        let commands: Vec<Command> = list(commands.member("commands")).iter().map(command).collect();
        let luns = list(Some(targets)).iter().flat_map(|target| {
            let lun = |lun: &Json| (text(target, "name"), shown(lun, "lun_id"), text(lun, "bdev_name"));
            list(target.member("luns")).iter().map(lun)
        });
        Counts {
            ticks_ns: number(iostat, "ticks"),
            bdevs: list(iostat.member("bdevs")).iter().map(bdev).collect(),
            sessions: sessions(connections, &commands),
            luns: luns.collect(),
            commands,
            histograms: histograms.iter().map(|(name, json)| (name.clone(), buckets(json))).collect(),
        }
    }
}

/// Sessions, of their connections.
fn sessions(connections: &Json, commands: &[Command]) -> Vec<Session> {
    let mut sessions: Vec<Session> = Vec::new();
    for connection in list(Some(connections)) {
        let Some(Json::Unsigned(id)) = connection.member("session") else { continue };
        if let Some(known) = sessions.iter_mut().find(|session| session.number == *id) {
            known.connections += 1;
            continue;
        }
        let own = || commands.iter().filter(|command| command.session == *id);
        sessions.push(Session {
            number: *id,
            initiator: text(connection, "initiator_name"),
            target: text(connection, "target_name"),
            address: text(connection, "initiator_addr"),
            reactor: text(connection, "thread_name"),
            connections: 1,
            commands: own().count() as u64,
            oldest_us: own().map(|command| command.age_us).max().unwrap_or(0),
        });
    }
    sessions
}

/// The counts of a histogram; none where it makes no sense.
fn buckets(json: &Json) -> Vec<u64> {
    let bytes = STANDARD.decode(text(json, "histogram")).unwrap_or_default();
    bytes
        .chunks_exact(8)
        .map(|chunk| chunk.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
        .collect()
}

impl Sample {
    /// What went on from one look to the next.
    pub(super) fn between(before: &Counts, after: &Counts) -> Sample {
        let seconds = after.ticks_ns.saturating_sub(before.ticks_ns) as f64 / 1e9;
        let rate =
            |from: u64, to: u64| if seconds > 0.0 { to.saturating_sub(from) as f64 / seconds } else { 0.0 };
        let lun = |(target, number, bdev): &(String, String, String)| {
            let find = |counts: &Counts| counts.bdevs.iter().find(|one| one.name == *bdev).cloned();
            let now = find(after).unwrap_or_default();
            // One that is new has begun with nothing.
            let then = find(before).unwrap_or_default();
            let ios = (now.read_ios + now.write_ios).saturating_sub(then.read_ios + then.write_ios);
            let took_ns = now.latency_ns.saturating_sub(then.latency_ns);
            Lun {
                target: target.clone(),
                number: number.clone(),
                bdev: bdev.clone(),
                read_ios: rate(then.read_ios, now.read_ios),
                write_ios: rate(then.write_ios, now.write_ios),
                read_bytes: rate(then.read_bytes, now.read_bytes),
                write_bytes: rate(then.write_bytes, now.write_bytes),
                latency_us: (ios > 0).then(|| took_ns as f64 / ios as f64 / 1e3),
            }
        };
        let latency = |(target, now): &(String, Vec<u64>)| {
            let then = before.histograms.iter().find(|(name, _)| name == target).map(|(_, then)| then);
            let zero = 0;
            let counts: Vec<u64> = now
                .iter()
                .enumerate()
                .map(|(index, count)| {
                    count.saturating_sub(*then.and_then(|then| then.get(index)).unwrap_or(&zero))
                })
                .collect();
            let (p50_us, p99_us) = (percentile(&counts, 50)?, percentile(&counts, 99)?);
            Some(Latency { target: target.clone(), p50_us, p99_us })
        };
        let mut reactors: Vec<(String, u64, u64)> = Vec::new();
        for session in &after.sessions {
            match reactors.iter_mut().find(|(name, ..)| *name == session.reactor) {
                Some((_, connections, commands)) => {
                    *connections += session.connections;
                    *commands += session.commands;
                }
                None => reactors.push((session.reactor.clone(), session.connections, session.commands)),
            }
        }
        reactors.sort();
        Sample {
            luns: after.luns.iter().map(lun).collect(),
            sessions: after.sessions.clone(),
            commands: after.commands.clone(),
            latencies: after.histograms.iter().filter_map(latency).collect(),
            reactors,
        }
    }

    /// IOs a second, of all LUNs.
    pub(super) fn ios(&self) -> f64 {
        self.luns.iter().map(|lun| lun.read_ios + lun.write_ios).sum()
    }

    /// Bytes a second, of all LUNs.
    pub(super) fn bytes(&self) -> f64 {
        self.luns.iter().map(|lun| lun.read_bytes + lun.write_bytes).sum()
    }
}

/// Below which so many of a hundred values are, in microseconds; none where there are no values.
fn percentile(counts: &[u64], hundredths: u64) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    let wanted = (total * hundredths).div_ceil(100);
    let mut sum = 0;
    let index = counts.iter().position(|count| {
        sum += count;
        sum >= wanted.max(1)
    })?;
    Some(largest(index) as f64 / 1e3)
}

/// The largest value that a bucket of [`crate::histogram`] stands for, in nanoseconds.
fn largest(index: usize) -> u64 {
    let (range, offset) = ((index >> 7) as u32, (index & 127) as u64);
    match range {
        0 => offset,
        range => {
            let shift = range - 1;
            ((128 + offset) << shift) + (1 << shift) - 1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iostat(ticks: u64, reads: u64, bytes: u64, latency: u64) -> Json {
        Json::parse(&format!(
            r#"{{"tick_rate":1000000000,"ticks":{ticks},"bdevs":[{{"name":"M0","num_read_ops":{reads},"bytes_read":{bytes},
                "num_write_ops":0,"bytes_written":0,"read_latency_ticks":{latency},"write_latency_ticks":0}}]}}"#
        ))
        .unwrap()
    }

    fn counts(ticks: u64, reads: u64, bytes: u64, latency: u64, histogram: &[(usize, u64)]) -> Counts {
        let connections = r#"[{"session":3,"initiator_name":"i","target_name":"t","initiator_addr":"::1","thread_name":"reactor_0"},
            {"session":3,"thread_name":"reactor_0"},{"session":null,"thread_name":"control"}]"#;
        let commands = r#"{"commands":[{"session":3,"lun":0,"bdev":"M0","command":"READ(10)","lba":5,"bytes":512,
            "age_us":77,"waits_for":"device","about":"the device has it"}],"left_out":0}"#;
        let targets = r#"[{"name":"t","luns":[{"bdev_name":"M0","lun_id":0}]}]"#;
        let mut buckets = vec![0u64; 7424];
        histogram.iter().for_each(|(index, count)| buckets[*index] = *count);
        let bytes_of: Vec<u8> = buckets.into_iter().flat_map(u64::to_le_bytes).collect();
        let mut histogram = Json::Object(Vec::new());
        histogram.push("histogram", STANDARD.encode(bytes_of));
        let parse = |text: &str| Json::parse(text).unwrap();
        let histograms = [("t".to_owned(), histogram)];
        let (connections, commands, targets) = (parse(connections), parse(commands), parse(targets));
        Counts::read(&iostat(ticks, reads, bytes, latency), &connections, &commands, &targets, &histograms)
    }

    #[test]
    fn rates_are_made_of_two_looks() {
        let before = counts(1_000_000_000, 100, 1000, 5_000, &[(384, 10)]);
        let after = counts(3_000_000_000, 300, 9000, 805_000, &[(384, 70), (500, 40)]);
        let sample = Sample::between(&before, &after);
        assert_eq!(sample.luns.len(), 1);
        let lun = &sample.luns[0];
        assert_eq!((lun.target.as_str(), lun.number.as_str(), lun.bdev.as_str()), ("t", "0", "M0"));
        assert_eq!((lun.read_ios, lun.read_bytes, lun.latency_us), (100.0, 4000.0, Some(4.0)));
        assert_eq!((sample.ios(), sample.bytes()), (100.0, 4000.0));
        // Bucket 384 is 512 to 515 ns, bucket 500 (3 * 128 + 116) is 976 to 979.
        assert_eq!(sample.latencies, [Latency { target: "t".to_owned(), p50_us: 0.515, p99_us: 0.979 }]);
        assert_eq!(sample.reactors, [("reactor_0".to_owned(), 2, 1)]);
        let session = &sample.sessions[0];
        assert_eq!((session.number, session.connections, session.commands, session.oldest_us), (3, 2, 1, 77));
        assert_eq!(sample.commands[0].waits_for, "device");
    }

    #[test]
    fn nothing_is_divided_by_nothing() {
        let same = counts(5, 1, 1, 1, &[]);
        let sample = Sample::between(&same, &same);
        assert_eq!((sample.ios(), sample.luns[0].latency_us), (0.0, None));
        assert!(sample.latencies.is_empty());
        let nothing = Counts::read(&Json::Null, &Json::Null, &Json::Null, &Json::Null, &[]);
        assert_eq!(Sample::between(&same, &nothing), Sample::default());
    }
}
