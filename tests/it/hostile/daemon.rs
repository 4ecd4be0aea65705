//! The daemon as a process.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(super) const TARGET: &str = "iqn.2025-01.com.example:disk";
/// Blocks from here on are nobody's.
pub(super) const SPARE_LBA: u64 = 32_768;
/// Lines that the daemon writes of its own accord, at its start and its end.
pub(super) const OWN_LINES: u64 = 2;
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Daemon {
    child: Child,
    address: SocketAddr,
    log: Option<JoinHandle<String>>,
    folder: PathBuf,
}

impl Daemon {
    pub(super) fn start() -> Daemon {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let ready = folder.join("ready");
        let mut child = Command::new(env!("CARGO_BIN_EXE_lunette"))
            .args(["serve", "--portal", "127.0.0.1:0", "--malloc", "disk:32M", "--target", TARGET])
            .args(["--idle", "park", "--cores", &two_cores(), "--mem-size", "32", "--hugepages", "off"])
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon starts");
        let mut stderr = child.stderr.take().unwrap();
        let log = std::thread::spawn(move || {
            let mut log = Vec::new();
            stderr.read_to_end(&mut log).unwrap();
            String::from_utf8_lossy(&log).into_owned()
        });
        let begin = Instant::now();
        let address = loop {
            if let Some(line) = first_line(&ready) {
                break line.parse().expect("the ready file's first line is a portal");
            }
            assert!(child.try_wait().unwrap().is_none(), "it ended: {}", log.join().unwrap());
            assert!(begin.elapsed() < PATIENCE, "it does not become ready");
            std::thread::sleep(Duration::from_millis(5));
        };
        Daemon { child, address, log: Some(log), folder }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resident memory.
    pub(super) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a living process has it");
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Asks it to end; it has to do so in order. Its log.
    pub(super) fn stop(mut self) -> String {
        assert!(self.child.try_wait().unwrap().is_none(), "it ended by itself");
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begin.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let log = self.log.take().unwrap().join().unwrap();
        assert!(status.success(), "{status}: {log}");
        log
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After a failed test it still runs.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn first_line(path: &PathBuf) -> Option<String> {
    let mut line = String::new();
    BufReader::new(std::fs::File::open(path).ok()?).read_line(&mut line).ok()?;
    line.ends_with('\n').then(|| line.trim().to_owned())
}

/// The first two CPUs that this process may use, or the one there is.
fn two_cores() -> String {
    let allowed = rustix::thread::sched_getaffinity(None).unwrap();
    let cores = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    cores.take(2).map(|cpu| cpu.to_string()).collect::<Vec<_>>().join(",")
}
