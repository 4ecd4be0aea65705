//! Two looks at a daemon, and what went on in between.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::meter::STAGES;
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
    /// Reads and writes by how long they took; nothing where the daemon does not say.
    times: Vec<u64>,
    /// Commands by how long they were in each of [`STAGES`]; nothing where there were none.
    stages: [Vec<u64>; 4],
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
    /// What the IOs counted in [`BdevCounts::times`] took less than; the last of them took more than any.
    bounds_ns: Vec<u64>,
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
    /// There, what half of them took no longer than, and 99 of a hundred.
    pub(super) p50_us: Option<f64>,
    pub(super) p99_us: Option<f64>,
    /// The same of commands, in each of [`STAGES`], from their arrival to their answer.
    pub(super) stages_us: [Option<(f64, f64)>; 4],
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
    /// Of all devices together: what half of the IOs took no longer than, and 99 of a hundred.
    pub(super) devices_us: Option<(f64, f64)>,
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

/// The numbers of an array; nothing where it is none.
fn numbers(json: Option<&Json>) -> Vec<u64> {
    let number = |json: &Json| match json {
        Json::Unsigned(number) => *number,
        _ => 0,
    };
    list(json).iter().map(number).collect()
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
            times: {
                let of =
                    |kind: &str| numbers(bdev.member("lunette_times").and_then(|times| times.member(kind)));
                of("read").iter().zip(of("write")).map(|(read, write)| read + write).collect()
            },
            stages: STAGES
                .map(|stage| numbers(bdev.member("lunette_stages").and_then(|stages| stages.member(stage)))),
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
            bounds_ns: numbers(iostat.member("lunette_times_bounds_ns")),
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
            let times = more(&then.times, &now.times);
            let quantile_of = |times: &[u64], hundredths| quantile(&after.bounds_ns, times, hundredths);
            let stages: [Vec<u64>; 4] =
                std::array::from_fn(|stage| more(&then.stages[stage], &now.stages[stage]));
            Lun {
                target: target.clone(),
                number: number.clone(),
                bdev: bdev.clone(),
                read_ios: rate(then.read_ios, now.read_ios),
                write_ios: rate(then.write_ios, now.write_ios),
                read_bytes: rate(then.read_bytes, now.read_bytes),
                write_bytes: rate(then.write_bytes, now.write_bytes),
                latency_us: (ios > 0).then(|| took_ns as f64 / ios as f64 / 1e3),
                p50_us: quantile_of(&times, 50),
                p99_us: quantile_of(&times, 99),
                stages_us: stages.map(|times| quantile_of(&times, 50).zip(quantile_of(&times, 99))),
            }
        };
        let latency = |(target, now): &(String, Vec<u64>)| {
            let then = before.histograms.iter().find(|(name, _)| name == target).map(|(_, then)| then);
            let counts = more(then.map_or(&[], Vec::as_slice), now);
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
            devices_us: in_devices(before, after),
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

/// How many more there are of each.
fn more(before: &[u64], after: &[u64]) -> Vec<u64> {
    let before = before.iter().copied().chain(std::iter::repeat(0));
    after.iter().zip(before).map(|(after, before)| after.saturating_sub(before)).collect()
}

/// What half of all devices' IOs took no longer than, and 99 of a hundred, in microseconds.
fn in_devices(before: &Counts, after: &Counts) -> Option<(f64, f64)> {
    let mut all = vec![0; after.bounds_ns.len() + 1];
    for now in &after.bdevs {
        let then = before.bdevs.iter().find(|then| then.name == now.name);
        let times = more(then.map_or(&[], |then| &then.times), &now.times);
        all.iter_mut().zip(times).for_each(|(sum, count)| *sum += count);
    }
    let quantile = |hundredths| quantile(&after.bounds_ns, &all, hundredths);
    quantile(50).zip(quantile(99))
}

/// Of counts by bucket what so many of a hundred are below, in microseconds; none where there are none. Within a bucket they are
/// taken to be spread evenly, in the first and the last its bound is all that is known.
fn quantile(bounds_ns: &[u64], counts: &[u64], hundredths: u64) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    let mut wanted = total as f64 * hundredths as f64 / 100.0;
    let last = *bounds_ns.last()?;
    for (index, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        if count as f64 >= wanted {
            let high = bounds_ns.get(index).copied().unwrap_or(last);
            let low =
                index.checked_sub(1).map_or(high, |before| bounds_ns.get(before).copied().unwrap_or(last));
            return Some((low as f64 + high.saturating_sub(low) as f64 * wanted / count as f64) / 1e3);
        }
        wanted -= count as f64;
    }
    None
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

    /// A tenth of the reads takes up to 2 us, the others less than 1 us.
    fn iostat(ticks: u64, reads: u64, bytes: u64, latency: u64) -> Json {
        let (short, long) = (reads - reads / 10, reads / 10);
        Json::parse(&format!(
            r#"{{"tick_rate":1000000000,"ticks":{ticks},"lunette_times_bounds_ns":[1000,2000],"bdevs":[{{"name":"M0",
                "num_read_ops":{reads},"bytes_read":{bytes},"num_write_ops":0,"bytes_written":0,"read_latency_ticks":{latency},
                "write_latency_ticks":0,"lunette_times":{{"read":[{short},{long},0],"write":[0,0,0],"unmap":[0,0,9]}},
                "lunette_stages":{{"queue":[{reads},0,0],"receive":[{reads},0,0],"device":[{short},{long},0],"send":[0,0,{reads}]}}}}]}}"#
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
        // 180 of less than 1 us, 20 of less than 2: the 198th is nine tenths into those.
        assert_eq!((lun.p50_us, lun.p99_us), (Some(1.0), Some(1.9)));
        assert_eq!(sample.devices_us, Some((1.0, 1.9)));
        let soon = Some((1.0, 1.0));
        assert_eq!(lun.stages_us, [soon, soon, Some((1.0, 1.9)), Some((2.0, 2.0))]);
        // Bucket 384 is 512 to 515 ns, bucket 500 (3 * 128 + 116) is 976 to 979.
        assert_eq!(sample.latencies, [Latency { target: "t".to_owned(), p50_us: 0.515, p99_us: 0.979 }]);
        assert_eq!(sample.reactors, [("reactor_0".to_owned(), 2, 1)]);
        let session = &sample.sessions[0];
        assert_eq!((session.number, session.connections, session.commands, session.oldest_us), (3, 2, 1, 77));
        assert_eq!(sample.commands[0].waits_for, "device");
    }

    #[test]
    fn times_are_between_the_bounds_of_their_bucket() {
        let bounds = [1000, 2000, 4000];
        for (counts, hundredths, expected) in [
            ([4, 0, 0, 0], 99, Some(1.0)),
            ([0, 4, 0, 0], 50, Some(1.5)),
            ([0, 2, 2, 0], 75, Some(3.0)),
            ([0, 0, 0, 7], 50, Some(4.0)),
            ([0; 4], 50, None),
        ] {
            assert_eq!(quantile(&bounds, &counts, hundredths), expected, "{counts:?}");
        }
        // A daemon that does not tell.
        assert_eq!(quantile(&[], &[], 50), None);
        assert_eq!(more(&[1, 2], &[1, 5, 7]), [0, 3, 7]);
    }

    #[test]
    fn nothing_is_divided_by_nothing() {
        let same = counts(5, 1, 1, 1, &[]);
        let sample = Sample::between(&same, &same);
        assert_eq!((sample.ios(), sample.luns[0].latency_us), (0.0, None));
        assert!(sample.latencies.is_empty());
        assert_eq!((sample.luns[0].p50_us, sample.devices_us), (None, None));
        assert_eq!(sample.luns[0].stages_us, [None; 4]);
        let nothing = Counts::read(&Json::Null, &Json::Null, &Json::Null, &Json::Null, &[]);
        assert_eq!(Sample::between(&same, &nothing), Sample::default());
    }
}
