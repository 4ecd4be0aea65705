//! Processes that are pinned, watched and ended: servers under test, and the load.
//!
//! A child has the CPUs of who starts it, so that pinning is done here before the start and undone after it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use rustix::thread::CpuSet;

use crate::fault::Fault;

const POLL: Duration = Duration::from_millis(2);
/// How much of a log is told when its process has failed.
const TOLD_BYTES: usize = 1000;

/// A process that is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    program: PathBuf,
    child: Child,
    log: PathBuf,
    begun: Instant,
}

impl Process {
    /// Starts `command` on one CPU; what it says goes to the file `log`.
    pub(crate) fn start(command: &mut Command, cpu: usize, log: PathBuf) -> Result<Process, Fault> {
        let program = PathBuf::from(command.get_program());
        let out = File::create(&log).map_err(Fault::file(&log))?;
        let both = out.try_clone().map_err(Fault::file(&log))?;
        command.stdin(Stdio::null()).stdout(out).stderr(both);
        let begun = Instant::now();
        let child = on_cpu(cpu, || command.spawn())?;
        let child = child.map_err(|source| Fault::Start { program: program.clone(), source })?;
        Ok(Process { program, child, log, begun })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Since its start.
    pub(crate) fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// All it has said.
    pub(crate) fn said(&self) -> String {
        fs::read(&self.log).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    /// An error once it has ended.
    pub(crate) fn alive(&mut self) -> Result<(), Fault> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.ended(status)),
            Err(source) => Err(Fault::Start { program: self.program.clone(), source }),
        }
    }

    /// The first thing that `condition` finds, as long as the process lives.
    pub(crate) fn wait_for<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut(&Process) -> Option<T>,
    ) -> Result<T, Fault> {
        let start = Instant::now();
        loop {
            if let Some(found) = condition(self) {
                return Ok(found);
            }
            self.alive()?;
            if start.elapsed() > limit {
                return Err(Fault::Late { what: format!("{}: {what}", self.program.display()), limit });
            }
            thread::sleep(POLL);
        }
    }

    /// Until it has ended well; `meanwhile` is called every `pause`.
    pub(crate) fn wait(
        &mut self,
        limit: Duration,
        pause: Duration,
        mut meanwhile: impl FnMut(),
    ) -> Result<(), Fault> {
        let start = Instant::now();
        let mut due = start + pause;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(self.ended(status)),
                Ok(None) => {}
                Err(source) => return Err(Fault::Start { program: self.program.clone(), source }),
            }
            if Instant::now() >= due {
                meanwhile();
                due += pause;
            }
            if start.elapsed() > limit {
                return Err(Fault::Late { what: format!("{}: its end", self.program.display()), limit });
            }
            thread::sleep(POLL);
        }
    }

    /// Takes its CPU away from it (`SIGSTOP`), or gives it back.
    pub(crate) fn halt(&self, halted: bool) -> Result<(), Fault> {
        let signal = if halted { Signal::STOP } else { Signal::CONT };
        let process = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        let sent = process
            .map_or(Err(rustix::io::Errno::SRCH), |process| rustix::process::kill_process(process, signal));
        sent.map_err(|source| Fault::System { what: "kill", source })
    }

    fn ended(&self, status: ExitStatus) -> Fault {
        let said = self.said();
        let from = said.char_indices().rev().take(TOLD_BYTES).last().map_or(0, |(at, _)| at);
        Fault::Ended {
            program: self.program.display().to_string(),
            status,
            said: said[from..].trim().to_owned(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Errors: it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end, on a CPU; what it prints.
pub(crate) fn output(command: &mut Command, cpu: usize) -> Result<String, Fault> {
    let program = PathBuf::from(command.get_program());
    let done = on_cpu(cpu, || command.stdin(Stdio::null()).output())?;
    let done = done.map_err(|source| Fault::Start { program: program.clone(), source })?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(Fault::Ended { program: program.display().to_string(), status: done.status, said })
}

/// Does something while this thread is on that CPU only.
fn on_cpu<T>(cpu: usize, action: impl FnOnce() -> T) -> Result<T, Fault> {
    let failed = |source| Fault::System { what: "CPU affinity", source };
    let before = rustix::thread::sched_getaffinity(None).map_err(failed)?;
    pin(cpu)?;
    let done = action();
    rustix::thread::sched_setaffinity(None, &before).map_err(failed)?;
    Ok(done)
}

/// This thread, and what it starts from now on, stays on that CPU.
pub(crate) fn pin(cpu: usize) -> Result<(), Fault> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    rustix::thread::sched_setaffinity(None, &cpus)
        .map_err(|source| Fault::System { what: "CPU affinity", source })
}

/// A loopback address whose port was free a moment ago, for servers that do not say which they were given.
pub(crate) fn free_address() -> Result<SocketAddr, Fault> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    bound.map_err(Fault::file("127.0.0.1:0"))
}

/// Time that all threads of a process were on a CPU.
pub(crate) fn cpu_time(process: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let texts = threads.filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok());
    texts.filter_map(|text| on_cpu_ns(&text)).map(Duration::from_nanos).sum()
}

fn on_cpu_ns(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

/// Time that a CPU was not idle, softirqs and what a hypervisor took included, in hundredths of a second since the start.
pub(crate) fn busy_time(cpu: usize) -> Duration {
    let ticks = fs::read_to_string("/proc/stat").ok().and_then(|text| busy_ticks(&text, cpu)).unwrap_or(0);
    Duration::from_millis(10 * ticks)
}

fn busy_ticks(stat: &str, cpu: usize) -> Option<u64> {
    let name = format!("cpu{cpu}");
    let line = stat.lines().find(|line| line.split_whitespace().next() == Some(&name))?;
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are in user already.
    let numbers: Vec<u64> =
        line.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
    Some(numbers.iter().sum::<u64>() - numbers.get(3)? - numbers.get(4)?)
}

/// Memory of a process, hugepages included.
pub(crate) fn memory_kib(process: u32) -> u64 {
    fs::read_to_string(format!("/proc/{process}/status")).map(|text| resident_kib(&text)).unwrap_or(0)
}

fn resident_kib(status: &str) -> u64 {
    let lines = status.lines().filter(|line| line.starts_with("VmRSS:") || line.starts_with("HugetlbPages:"));
    lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

/// A folder of our own, gone with all that is in it when it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(parent: &Path) -> Result<Scratch, Fault> {
        let path = parent.join(format!("lunette-compare.{}", std::process::id()));
        fs::create_dir_all(&path).map_err(Fault::file(&path))?;
        Ok(Scratch(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // what cannot be removed stays
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu() -> usize {
        let allowed = rustix::thread::sched_getaffinity(None).unwrap();
        (0..CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu)).unwrap()
    }

    #[test]
    fn process_is_pinned_and_its_words_are_kept() {
        let log = std::env::temp_dir().join(format!("compare-process-{}", std::process::id()));
        let mut command = Command::new("sh");
        command.args(["-c", "grep Cpus_allowed_list /proc/self/status; echo oh no >&2; exit 3"]);
        let mut process = Process::start(&mut command, cpu(), log.clone()).unwrap();
        let error = process.wait(Duration::from_secs(20), POLL, || {}).unwrap_err().to_string();
        assert_eq!(error, format!("sh ended with exit status: 3: Cpus_allowed_list:\t{}\noh no", cpu()));
        fs::remove_file(log).unwrap();
    }

    #[test]
    fn limits_hold() {
        let log = std::env::temp_dir().join(format!("compare-limit-{}", std::process::id()));
        let mut process = Process::start(Command::new("sleep").arg("100"), cpu(), log.clone()).unwrap();
        let never = process.wait_for("a word", Duration::from_millis(1), |_| None::<()>);
        assert_eq!(never.unwrap_err().to_string(), "sleep: a word: not within 0 s");
        let mut samples = 0;
        assert!(process.wait(Duration::from_millis(20), Duration::from_millis(1), || samples += 1).is_err());
        assert!(samples > 0);
        fs::remove_file(log).unwrap();
    }

    #[test]
    fn kernel_s_words_are_read() {
        assert_eq!(on_cpu_ns("123456789 42 7\n"), Some(123_456_789));
        assert_eq!(on_cpu_ns(""), None);
        let stat =
            "cpu  9 9 9 9 9 9 9 9 9 9\ncpu1 9 9 9 9 9 9 9 9 9 9\ncpu11 100 20 30 4000 500 6 7 8 90 0\n";
        assert_eq!(
            (busy_ticks(stat, 11), busy_ticks(stat, 1), busy_ticks(stat, 2)),
            (Some(171), Some(54), None)
        );
        let status = "Name:\tx\nVmRSS:\t    1200 kB\nRssAnon:\t 800 kB\nHugetlbPages:\t    2048 kB\n";
        assert_eq!(resident_kib(status), 3248);
    }
}
