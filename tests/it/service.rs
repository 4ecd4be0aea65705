//! What the daemon tells a service manager, in the bytes of sd_notify(3).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lunette_initiator::{Client, Config};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::SOON;
use crate::serve::{Folder, TARGET};

/// A service manager and what it has started.
struct Manager {
    socket: UnixDatagram,
    child: Child,
    _folder: Folder,
}

impl Manager {
    fn start(watchdog: &[(&str, &str)], args: &[&str]) -> Manager {
        let folder = Folder::new();
        let path = folder.file("notify", 0);
        std::fs::remove_file(&path).unwrap();
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let config = folder.file("config.json", 0);
        std::fs::write(&config, r#"{"subsystems":[]}"#).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lunette"));
        command.args(["serve", "--mem-size", "16", "--hugepages", "off", "--log", "error", "--idle", "park"]);
        command.args(args).args(if args.is_empty() { &["--config"][..] } else { &[] });
        command.args(args.is_empty().then_some(&config));
        // Not where a daemon of this machine may be looked for.
        command.env("LUNETTE_SOCKET", "");
        command.env("NOTIFY_SOCKET", &path).envs(watchdog.iter().copied());
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        Manager { socket, child, _folder: folder }
    }

    fn told(&self) -> String {
        let mut bytes = [0; 256];
        let count = self.socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    /// Where it listens.
    fn address(&mut self) -> SocketAddr {
        let out = BufReader::new(self.child.stdout.as_mut().unwrap());
        let mut lines = out.lines().map(Result::unwrap);
        lines.find_map(|line| line.strip_prefix("listening on ")?.trim().parse().ok()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // After a failed test it still runs.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_service_manager_is_told_of_the_beginning_signs_of_life_and_the_end() {
    let disk = ["--null", "n:1M", "--portal", "127.0.0.1:0"];
    let mut manager = Manager::start(&[("WATCHDOG_USEC", "300000")], &disk);
    assert_eq!(manager.told(), "READY=1\n");
    for _ in 0..3 {
        assert_eq!(manager.told(), "WATCHDOG=1\nSTATUS=targets: 1, disks: 1, sessions: 0\n");
    }
    // It stays until that one has gone: else the order to tell of the end may come after the end.
    let client = Client::connect(manager.address(), Config::new("iqn.2026-11.io.example:a", TARGET)).unwrap();
    manager.signal(Signal::TERM);
    let mut told = manager.told();
    while told.starts_with("WATCHDOG") {
        told = manager.told();
    }
    assert_eq!(told, "STOPPING=1\n");
    drop(client);
    assert!(manager.child.wait().unwrap().success());
}

/// What the watchdog is for: all else goes on, and nobody is served.
#[test]
fn a_reactor_that_hangs_ends_the_signs_of_life() {
    let disk = ["--null", "n:1M", "--portal", "127.0.0.1:0"];
    let planted = [("WATCHDOG_USEC", "300000"), ("LUNETTE_PLANT", "TurnNeverEnds")];
    let mut manager = Manager::start(&planted, &disk);
    assert_eq!(manager.told(), "READY=1\n");
    for _ in 0..2 {
        assert!(manager.told().starts_with("WATCHDOG=1\n"), "it lives while nobody comes");
    }
    let address = manager.address();
    let client = Client::connect(address, Config::new("iqn.2026-11.io.example:a", TARGET)).unwrap();
    // A sign that was due before may yet come. What does without the reactor's turn goes on ten times a second.
    manager.socket.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
    let mut bytes = [0; 256];
    let signs = (0..30).take_while(|_| manager.socket.recv(&mut bytes).is_ok()).count();
    assert!(signs < 30, "signs of life of a process that serves nobody");
    // It is not that the process had ended, or that control hangs.
    let found = Client::discover(address, Config::discovery("iqn.2026-11.io.example:b")).unwrap();
    assert_eq!(found[0], ("TargetName".to_owned(), TARGET.to_owned()));
    assert!(manager.child.try_wait().unwrap().is_none());
    drop(client);
}

#[test]
fn the_watchdog_of_another_process_is_not_fed() {
    let foreign = [("WATCHDOG_USEC", "150000"), ("WATCHDOG_PID", "1")];
    let mut manager = Manager::start(&foreign, &[]);
    assert_eq!(manager.told(), "READY=1\n");
    manager.signal(Signal::TERM);
    // The order to tell of the end may come after the end.
    assert!(manager.child.wait().unwrap().success());
    manager.socket.set_nonblocking(true).unwrap();
    let mut bytes = [0; 256];
    while let Ok(count) = manager.socket.recv(&mut bytes) {
        assert_eq!(&bytes[..count], b"STOPPING=1\n");
    }
}
