//! `lunette-load` at a server: its options, its report, and what the server used meanwhile.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::cases::Load;
use crate::fault::Fault;
use crate::machine::Cpus;
use crate::peers::Server;
use crate::process::{self, Process, busy_time, cpu_time, memory_kib};
use crate::results::{Report, ServerUse};
use crate::rpc;

/// How often in the measured time the server is looked at.
const SAMPLES: f64 = 10.0;
/// What a run may take beyond its time: logins of thousands of connections, and their end.
const SLACK: Duration = Duration::from_secs(60);

/// The load generator and how long it is to run.
#[derive(Debug, Clone)]
pub(crate) struct Generator {
    pub(crate) program: PathBuf,
    pub(crate) cpus: Cpus,
    pub(crate) seconds: f64,
    pub(crate) warmup: f64,
    /// Before everything else on its CPU that can wait (`SCHED_FIFO`): it sleeps while there is nothing to do.
    pub(crate) is_urgent: bool,
}

impl Generator {
    /// Starts a load.
    pub(crate) fn start(&self, server: &Server, load: &Load, log: PathBuf) -> Result<Process, Fault> {
        let mut command = if self.is_urgent { urgent() } else { Command::new(&self.program) };
        if self.is_urgent {
            command.arg(&self.program);
        }
        command.args(arguments(server, load, self));
        Process::start(&mut command, self.cpus.client, log)
    }

    /// Waits for a load's end and looks at the server meanwhile.
    pub(crate) fn finish(&self, mut load: Process, server: &Server) -> Result<(Report, ServerUse), Fault> {
        let limit = Duration::from_secs_f64(self.seconds + self.warmup) + SLACK;
        let id = load.id();
        let look = || Sample::of(server, id, self.cpus);
        let mut samples = vec![look()];
        load.wait(limit, Duration::from_secs_f64(self.seconds / SAMPLES), || samples.push(look()))?;
        let report = report(&load.said(), &self.program)?;
        match report.errors + report.verify_errors {
            0 => {
                let used = used(&samples, report.began_ns, report.seconds);
                Ok((report, used))
            }
            count => Err(Fault::Errors { count }),
        }
    }
}

/// The beginning of a command that is to run before all others.
fn urgent() -> Command {
    let mut command = Command::new("chrt");
    command.args(["-f", "1"]);
    command
}

/// Whether there can be such commands: they need privileges.
pub(crate) fn can_be_urgent(cpu: usize) -> bool {
    process::output(urgent().arg("true"), cpu).is_ok()
}

fn arguments(server: &Server, load: &Load, generator: &Generator) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut option = |name: &str, value: String| words.extend([format!("--{name}"), value]);
    option("portal", server.portal.to_string());
    if !server.is_wire {
        option("target", server.target.clone());
        option("lun", server.lun.to_string());
    }
    option("connections", load.connections.to_string());
    option("rw", load.rw.to_owned());
    option("bs", load.io_bytes.to_string());
    option("qd", load.depth.to_string());
    option("seconds", generator.seconds.to_string());
    option("warmup", generator.warmup.to_string());
    option("cpu", generator.cpus.client.to_string());
    if let Some(rate) = load.rate {
        option("rate", rate.to_string());
    }
    if load.idle > 0 {
        option("idle", load.idle.to_string());
    }
    let switches =
        [("--wire", server.is_wire), ("--header-digest", load.digests), ("--data-digest", load.digests)];
    words.extend(switches.iter().filter(|(_, on)| *on).map(|(name, _)| (*name).to_owned()));
    words.extend(["--json".to_owned(), "--quiet".to_owned()]);
    words
}

/// The report is the only JSON object that is printed; a word of warning may stand around it.
fn report(said: &str, program: &std::path::Path) -> Result<Report, Fault> {
    let text =
        said.find('{').zip(said.rfind('}')).map_or(said, |(from, to)| said.get(from..=to).unwrap_or(said));
    serde_json::from_str(text).map_err(|source| Fault::Report {
        program: program.display().to_string(),
        source,
        said: said.trim().to_owned(),
    })
}

/// A look at the server.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// By `CLOCK_MONOTONIC`, as the load generator's times are.
    when: Duration,
    cpu: Duration,
    /// That both CPUs were busy, without this server and this load.
    foreign: Duration,
    ticks: Option<(u64, u64)>,
    memory_kib: u64,
}

impl Sample {
    fn of(server: &Server, load: u32, cpus: Cpus) -> Sample {
        let id = server.process.id();
        let cpu = cpu_time(id);
        let busy = busy_time(cpus.server) + busy_time(cpus.client);
        Sample {
            cpu,
            foreign: busy.saturating_sub(cpu + cpu_time(load)),
            ticks: server.calls.as_deref().and_then(rpc::reactor_ticks),
            memory_kib: memory_kib(id),
            when: Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default(),
        }
    }
}

/// What was used while the load counted: logins, warm-up and logouts are outside. With too few samples there, between the
/// first and the last of all.
fn used(samples: &[Sample], began_ns: u64, seconds: f64) -> ServerUse {
    let began = Duration::from_nanos(began_ns);
    let window = began..began + Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let mut inside: Vec<&Sample> = samples.iter().filter(|sample| window.contains(&sample.when)).collect();
    if inside.len() < 2 {
        inside = samples.iter().collect();
    }
    let (Some(first), Some(last)) = (inside.first(), inside.last()) else { return ServerUse::default() };
    let passed = (last.when - first.when).as_secs_f64();
    let share = |first: Duration, last: Duration| match passed {
        0.0 => 0.0,
        _ => last.saturating_sub(first).as_secs_f64() / passed,
    };
    let busy_share = first.ticks.zip(last.ticks).and_then(|(before, after)| {
        let (busy, idle) = (after.0.checked_sub(before.0)?, after.1.checked_sub(before.1)?);
        (busy + idle > 0).then(|| busy as f64 / (busy + idle) as f64)
    });
    ServerUse {
        cores: share(first.cpu, last.cpu),
        busy_share,
        memory_kib: last.memory_kib,
        foreign_cores: share(first.foreign, last.foreign),
        ..ServerUse::default()
    }
}

#[cfg(test)]
mod tests;
