//! The daemon as a process.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

pub(super) const TARGET: &str = "iqn.2025-01.com.example:disk";
/// Blocks from here on are nobody's.
pub(super) const SPARE_LBA: u64 = 32_768;
/// Lines that the daemon writes of its own accord, at its start and its end.
pub(super) const OWN_LINES: usize = 2;
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Daemon {
    pid: Pid,
    address: SocketAddr,
    /// Its status and its log, once it has ended.
    end: Receiver<(ExitStatus, String)>,
    has_ended: bool,
    waiter: Option<JoinHandle<()>>,
}

impl Daemon {
    pub(super) fn start() -> Daemon {
        let mut child = Command::new(env!("CARGO_BIN_EXE_lunette"))
            .args(["serve", "--portal", "127.0.0.1:0", "--malloc", "disk:32M", "--target", TARGET])
            .args(["--idle", "park", "--cores", &two_cores(), "--mem-size", "32", "--hugepages", "off"])
            // Not where a daemon of this machine may be looked for.
            .env("LUNETTE_SOCKET", "")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon starts");
        let pid = Pid::from_child(&child);
        let (stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (ended, end) = channel();
        let waiter = std::thread::spawn(move || {
            let mut log = Vec::new();
            stderr.read_to_end(&mut log).unwrap();
            let _ = ended.send((child.wait().unwrap(), String::from_utf8_lossy(&log).into_owned()));
        });
        let (heard, address) = channel();
        std::thread::spawn(move || {
            let _ = heard.send(portal(stdout));
        });
        let mut daemon = Daemon {
            pid,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            end,
            has_ended: false,
            waiter: Some(waiter),
        };
        let address = address.recv_timeout(PATIENCE).expect("it becomes ready, or ends");
        daemon.address =
            address.unwrap_or_else(|| panic!("it ended: {:?}", daemon.end.recv_timeout(PATIENCE)));
        daemon
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resident memory.
    pub(super) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid.as_raw_pid())).unwrap();
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a living process has it");
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Asks it to end; it has to do so in order. Its log.
    pub(super) fn stop(mut self) -> String {
        if let Ok((status, log)) = self.end.try_recv() {
            self.has_ended = true;
            panic!("it ended by itself, {status}: {log}");
        }
        kill_process(self.pid, Signal::TERM).unwrap();
        let (status, log) = self.end.recv_timeout(PATIENCE).expect("it ends");
        self.has_ended = true;
        assert!(status.success(), "{status}: {log}");
        log
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After a failed test it still runs.
        if !self.has_ended && self.end.try_recv().is_err() {
            let _ = kill_process(self.pid, Signal::KILL);
        }
        if let Some(waiter) = self.waiter.take() {
            let _ = waiter.join();
        }
    }
}

/// Where it listens, as it says.
fn portal(stdout: ChildStdout) -> Option<SocketAddr> {
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    lines.find_map(|line| line.strip_prefix("listening on ")?.parse().ok())
}

/// The first two CPUs that this process may use, or the one there is.
fn two_cores() -> String {
    let allowed = rustix::thread::sched_getaffinity(None).unwrap();
    let cores = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    cores.take(2).map(|cpu| cpu.to_string()).collect::<Vec<_>>().join(",")
}
