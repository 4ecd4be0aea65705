//! `results.json`: every point of every round as it was measured. Tables and plots are made of nothing else, so that they can be
//! made again, elsewhere and later.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::distance;
use crate::fault::Fault;

/// The file's name.
pub(crate) const FILE: &str = "results.json";

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    /// What the figures belong to, a line each.
    pub(crate) machine: Vec<String>,
    /// Peers that took part: name and version.
    pub(crate) peers: Vec<Named>,
    /// Peers that did not: name and reason.
    pub(crate) skipped: Vec<Named>,
    /// Points that did not come about, a line each.
    pub(crate) failures: Vec<String>,
    pub(crate) points: Vec<Point>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) what: String,
}

/// One case against one peer in one round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) case: String,
    pub(crate) peer: String,
    pub(crate) round: u32,
    pub(crate) load: Report,
    /// Of the load beside it, where the case has one.
    #[serde(default)]
    pub(crate) beside: Option<Report>,
    pub(crate) server: ServerUse,
    /// What a cache line took between the two CPUs, there and back.
    #[serde(default)]
    pub(crate) distance_ns: Option<f64>,
}

/// What `lunette-load --json` prints.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) ios: u64,
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    /// When they began, by `CLOCK_MONOTONIC`.
    #[serde(default)]
    pub(crate) began_ns: u64,
    pub(crate) iops: f64,
    pub(crate) mib_per_s: f64,
    pub(crate) latency_us: Latency,
    pub(crate) errors: u64,
    #[serde(default)]
    pub(crate) verify_errors: u64,
    #[serde(default)]
    pub(crate) client_cpu_seconds: f64,
    #[serde(default)]
    pub(crate) login_seconds: f64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) mean: f64,
    pub(crate) min: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// What a point cost its server, over the measured time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServerUse {
    /// Time its threads were on a CPU, per time that passed.
    pub(crate) cores: f64,
    /// Share of that in which it had something to do, where it counts that itself.
    #[serde(default)]
    pub(crate) busy_share: Option<f64>,
    /// Resident memory and hugepages.
    pub(crate) memory_kib: u64,
    /// The same before the first connection of this load.
    #[serde(default)]
    pub(crate) memory_before_kib: u64,
    /// From its start until it served.
    #[serde(default)]
    pub(crate) start_seconds: f64,
    /// What it had logged until then.
    #[serde(default)]
    pub(crate) start_lines: u32,
    /// What others had of the two CPUs meanwhile, or a hypervisor kept from us: a quiet machine has next to nothing here.
    #[serde(default)]
    pub(crate) foreign_cores: f64,
}

impl Point {
    /// Nanoseconds of a core for each IO. A server that polls takes all of its core whatever there is to do: what it counts as
    /// busy is its own word, and without it this is the time between two IOs.
    pub(crate) fn core_ns_per_io(&self) -> Option<f64> {
        let iops = self.load.iops + self.beside.as_ref().map_or(0.0, |beside| beside.iops);
        (iops > 0.0).then(|| self.server.cores * self.server.busy_share.unwrap_or(1.0) * 1e9 / iops)
    }
}

impl Results {
    /// What a folder holds; nothing where it holds none yet.
    pub(crate) fn load(folder: &Path) -> Result<Option<Results>, Fault> {
        let path = folder.join(FILE);
        match fs::read(&path) {
            Ok(text) => {
                serde_json::from_slice(&text).map(Some).map_err(|source| Fault::Results { path, source })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Fault::File { path, source }),
        }
    }

    /// Written whole: whoever reads meanwhile sees the old or the new one.
    pub(crate) fn save(&self, folder: &Path) -> Result<(), Fault> {
        let (path, fresh) = (folder.join(FILE), folder.join("results.json.new"));
        let text = serde_json::to_vec_pretty(self)
            .map_err(|source| Fault::Results { path: path.clone(), source })?;
        fs::write(&fresh, text).map_err(Fault::file(&fresh))?;
        fs::rename(&fresh, &path).map_err(Fault::file(&path))
    }

    /// The points that were measured while the CPUs were near each other, and those while they were far apart, and nothing else. Near
    /// is the least distance of all, and where nobody looked.
    pub(crate) fn by_distance(&self) -> (Results, Results) {
        let distances = self.points.iter().filter_map(|point| point.distance_ns);
        let least = distances.min_by(f64::total_cmp);
        let is_far = |point: &Point| {
            least.zip(point.distance_ns).is_some_and(|(least, distance)| distance::differ(least, distance))
        };
        let (far, near) = self.points.iter().cloned().partition(is_far);
        let with = |points: Vec<Point>| Results { points, ..Results::default() };
        (with(near), with(far))
    }

    /// A figure of each round of a case, for a peer.
    pub(crate) fn figures(
        &self,
        case: &str,
        peer: &str,
        figure: impl Fn(&Point) -> Option<f64>,
    ) -> Vec<(u32, f64)> {
        self.of(case, peer).filter_map(|point| Some((point.round, figure(point)?))).collect()
    }

    /// The points of a case, for a peer.
    pub(crate) fn of<'a>(&'a self, case: &'a str, peer: &'a str) -> impl Iterator<Item = &'a Point> {
        self.points.iter().filter(move |point| point.case == case && point.peer == peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_of_the_load_generator() {
        let text = r#"{"ios":1000,"bytes":4096000,"seconds":0.5,"iops":2000.0,"mib_per_s":7.8125,
            "latency_us":{"mean":10.5,"min":5.0,"p50":10,"p90":12.0,"p99":20.0,"p999":30.0,"max":41.0},
            "errors":0,"verify_errors":0,"client_cpu_seconds":0.5,"login_seconds":0.001}"#;
        let report: Report = serde_json::from_str(text).unwrap();
        assert_eq!(
            (report.ios, report.iops, report.latency_us.p50, report.login_seconds),
            (1000, 2000.0, 10.0, 0.001)
        );
        assert!(serde_json::from_str::<Report>(r#"{"ios":1000}"#).is_err());
    }

    #[test]
    fn time_of_a_core_is_what_it_was_busy() {
        let mut point = Point {
            case: "a".to_owned(),
            peer: "b".to_owned(),
            round: 0,
            load: Report { iops: 100_000.0, ..Report::default() },
            beside: None,
            server: ServerUse { cores: 1.0, ..ServerUse::default() },
            distance_ns: None,
        };
        assert_eq!(point.core_ns_per_io(), Some(10_000.0));
        point.server.busy_share = Some(0.25);
        assert_eq!(point.core_ns_per_io(), Some(2_500.0));
        point.beside = Some(Report { iops: 400_000.0, ..Report::default() });
        assert_eq!(point.core_ns_per_io(), Some(500.0));
        point.beside = None;
        point.load.iops = 0.0;
        assert_eq!(point.core_ns_per_io(), None);
    }
}
