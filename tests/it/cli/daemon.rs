//! A daemon that serves nothing yet, and commands for it. Neither looks where a daemon of this machine may be.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::ffi::OsStr;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use lunette_initiator::config::Auth;
use lunette_initiator::scsi::cdb;
use lunette_initiator::socket::SocketError;
use lunette_initiator::{Client, Config, Data};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::until;

/// How a command ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) out: String,
    pub(super) err: String,
}

impl Ended {
    #[track_caller]
    pub(super) fn ok(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }

    #[track_caller]
    pub(super) fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// What it said as it failed.
    #[track_caller]
    pub(super) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        self.err
    }
}

/// A command of `lunette`, with the daemon's socket in its environment.
pub(super) fn command(socket: impl AsRef<OsStr>, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lunette"));
    command.args(args).env("LUNETTE_SOCKET", socket);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// How a command that runs will have ended.
pub(super) fn ended(mut child: Child, input: &str) -> Ended {
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs one without a daemon.
pub(super) fn run(socket: impl AsRef<OsStr>, args: &[&str]) -> Ended {
    ended(command(socket, args).spawn().unwrap(), "")
}

/// The daemon, and a folder, gone at the end.
#[derive(Debug)]
pub(super) struct Lunette {
    folder: PathBuf,
    child: Child,
}

impl Lunette {
    pub(super) fn start() -> Lunette {
        Lunette::start_with(&["--log", "error"])
    }

    /// With such switches besides the usual ones. What it logs is in the file `log`.
    pub(super) fn start_with(more: &[&str]) -> Lunette {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("lunette-cli-{}-{number}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let mut serve = Command::new(env!("CARGO_BIN_EXE_lunette"));
        serve.args(["serve", "--idle", "park", "--mem-size", "16", "--hugepages", "off"]).args(more);
        let socket = folder.join("rpc.sock");
        let log = std::fs::File::create(folder.join("log")).unwrap();
        serve.current_dir(&folder).env("LUNETTE_SOCKET", &socket);
        let child = serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let lunette = Lunette { folder, child: child.unwrap() };
        until("the daemon takes calls", || UnixStream::connect(&socket).is_ok());
        lunette
    }

    /// The process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A file's path, to be typed.
    pub(super) fn file(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// One that runs.
    pub(super) fn begin(&self, args: &[&str]) -> Child {
        command(self.path("rpc.sock"), args).spawn().unwrap()
    }

    pub(super) fn run(&self, args: &[&str]) -> Ended {
        self.run_with(args, "")
    }

    pub(super) fn run_with(&self, args: &[&str], input: &str) -> Ended {
        ended(self.begin(args), input)
    }
}

impl Drop for Lunette {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let status = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
        if !std::thread::panicking() {
            assert!(status.unwrap().success(), "it did not stop in order");
        }
    }
}

/// What `share --json` says of a disk.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) target: String,
    pub(super) portal: SocketAddr,
    pub(super) told: Value,
}

impl Shared {
    pub(super) fn of(told: Value) -> Shared {
        let target = told["target"].as_str().unwrap().to_owned();
        let portal = told["portals"][0].as_str().unwrap().parse().unwrap();
        Shared { target, portal, told }
    }

    pub(super) fn login(&self, name: &str, auth: Auth) -> Result<Client, SocketError> {
        let config = Config { auth, ..Config::new(&format!("iqn.2026-11.io.example:{name}"), &self.target) };
        let mut client = Client::connect(self.portal, config)?;
        // POWER ON OCCURRED.
        client.command(cdb::test_unit_ready(), Data::None)?;
        Ok(client)
    }

    /// The status of the Login Response that refuses an initiator.
    #[track_caller]
    pub(super) fn refuses(&self, name: &str, auth: Auth) -> (u8, u8) {
        match self.login(name, auth) {
            Err(SocketError::Login(error)) => error.status().unwrap(),
            other => panic!("{other:?}"),
        }
    }
}
