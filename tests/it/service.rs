//! What the daemon tells a service manager, in the bytes of sd_notify(3).
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::SOON;
use crate::serve::Folder;

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
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        Manager { socket, child, _folder: folder }
    }

    fn told(&self) -> String {
        let mut bytes = [0; 256];
        let count = self.socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
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
    manager.signal(Signal::TERM);
    let mut told = manager.told();
    while told.starts_with("WATCHDOG") {
        told = manager.told();
    }
    assert_eq!(told, "STOPPING=1\n");
    assert!(manager.child.wait().unwrap().success());
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
