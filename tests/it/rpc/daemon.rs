//! A daemon with a JSON-RPC socket and nothing else, and a client that writes what the test says.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use lunette::buf::Hugepages;
use lunette::control::store::disk;
use lunette::control::thread::{Daemon, Options, Remote};
use lunette::rpc::config::Plan;
use lunette::rpc::context::{Context, LogLevel, Parts, Stage};
use lunette::rpc::server::{Server, Socket};
use lunette::rpc::versions::Versions;
use serde_json::Value;
use tracing::level_filters::LevelFilter;

use crate::harness::SOON;

/// A folder of its own, gone at the end.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("lunette-rpc-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The daemon.
#[derive(Debug)]
pub(super) struct Managed {
    pub(super) folder: Folder,
    server: Option<Server>,
    context: Option<Arc<Context>>,
    remote: Remote,
    thread: Option<JoinHandle<bool>>,
}

impl Managed {
    /// One that is in full service.
    pub(super) fn start() -> Managed {
        Managed::try_start(Folder::new(), Some(Plan::default())).unwrap()
    }

    /// One that waits for `framework_start_init`.
    pub(super) fn waiting() -> Managed {
        Managed::try_start(Folder::new(), None).unwrap()
    }

    /// One that makes a file's calls first, or what is wrong with them.
    pub(super) fn try_start(folder: Folder, plan: Option<Plan>) -> Result<Managed, String> {
        Managed::try_start_as(folder, plan, false, false)
    }

    /// One that saves what calls change.
    pub(super) fn keeping(folder: Folder, plan: Plan) -> Managed {
        Managed::try_start_as(folder, Some(plan), true, false).unwrap()
    }

    /// One that has a state file.
    pub(super) fn with_state(folder: Folder, plan: Plan) -> Managed {
        Managed::try_start_as(folder, Some(plan), false, true).unwrap()
    }

    fn try_start_as(
        folder: Folder,
        plan: Option<Plan>,
        keeps: bool,
        has_state: bool,
    ) -> Result<Managed, String> {
        let (started, is_started) = mpsc::sync_channel(1);
        let state = has_state.then(|| disk::open(&folder.path("state")).unwrap());
        let thread = std::thread::spawn(move || {
            let mut daemon = Daemon::start(Options::small()).unwrap();
            state.into_iter().for_each(|state| daemon.keep_state(state).unwrap());
            started.send(daemon.remote()).unwrap();
            daemon.run()
        });
        let remote = is_started.recv().expect("the daemon starts");
        let mut managed =
            Managed { folder, server: None, context: None, remote: remote.clone(), thread: Some(thread) };
        let context = Context::new(Parts {
            control: remote,
            stage: Stage::Startup,
            config_file: Some(managed.folder.path("config.json")),
            keeps: keeps.then(|| Versions::of(&managed.folder.path("config.json")).take().unwrap()),
            hugepages: Hugepages::Off,
            unsafe_noiommu: false,
            log: LogLevel::new(LevelFilter::INFO, |_| {}),
            handed: Arc::default(),
        });
        if let Some(plan) = plan {
            plan.run(&context, true)?;
        }
        let socket = Socket::bind(&managed.socket()).unwrap();
        managed.server = Some(socket.serve(Arc::clone(&context)).unwrap());
        managed.context = Some(context);
        Ok(managed)
    }

    /// Another socket, as `--rpc-also` makes it.
    pub(super) fn also(&self, door: &str) -> Server {
        let context = self.context.clone().expect("it runs");
        Socket::bind_as(door.parse().unwrap()).unwrap().serve(context).unwrap()
    }

    /// What takes calls elsewhere.
    #[cfg(feature = "rpc-tls")]
    pub(super) fn serve(&self, serve: impl FnOnce(Arc<Context>) -> std::io::Result<Server>) -> Server {
        serve(self.context.clone().expect("it runs")).unwrap()
    }

    /// As `--record-dir` has it.
    pub(super) fn record_to(&self, folder: PathBuf) {
        self.context.as_ref().expect("it runs").record_to(folder).unwrap();
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.folder.path("rpc.sock")
    }

    pub(super) fn connect(&self) -> Wire {
        Wire::connect(&self.socket())
    }

    /// One call on a connection of its own: its result, or its error.
    pub(super) fn call(&self, method: &str, params: &str) -> Result<Value, Value> {
        self.connect().call(method, params)
    }

    /// A call that has to succeed.
    pub(super) fn ok(&self, method: &str, params: &str) -> Value {
        self.call(method, params).unwrap_or_else(|error| panic!("{method} {params}: {error}"))
    }

    /// A call that has to be refused: code and message, with what is said beside it.
    pub(super) fn refused(&self, method: &str, params: &str) -> (i64, String) {
        let error = self.call(method, params).expect_err("it is to be refused");
        let text = error["message"].as_str().unwrap();
        let detail = error["data"].as_str().map(|data| format!(": {data}")).unwrap_or_default();
        (error["code"].as_i64().unwrap(), format!("{text}{detail}"))
    }

    /// Asks it to stop and waits until it has, its sessions ended first.
    pub(super) fn stop(mut self) -> Folder {
        self.end();
        std::mem::replace(&mut self.folder, Folder(PathBuf::new()))
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.remote.call(|control, now| {
            let sessions: Vec<_> = control.sessions().iter().map(|(id, _)| id).collect();
            sessions.into_iter().for_each(|id| control.end_session(id, now));
        });
        self.remote.drain();
        let is_clean = thread.join();
        (self.server, self.context) = (None, None);
        if !std::thread::panicking() {
            assert!(is_clean.unwrap(), "a reactor did not stop");
            assert!(!self.socket().exists(), "the socket is left behind");
        }
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        self.end();
    }
}

/// A RAM disk behind the target `t` at portal groups 1 and 2, the second of which may be private. Their addresses.
pub(super) fn two_groups(daemon: &Managed, is_private: bool) -> [String; 2] {
    let second =
        format!(r#"{{"tag":2,"portals":[{{"host":"127.0.0.1","port":"0"}}],"private":{is_private}}}"#);
    for (method, params) in [
        ("bdev_malloc_create", r#"{"name":"M0","num_blocks":2048,"block_size":512}"#),
        ("iscsi_create_portal_group", r#"{"tag":1,"portals":[{"host":"127.0.0.1","port":"0"}]}"#),
        ("iscsi_create_portal_group", &second),
        ("iscsi_create_initiator_group", r#"{"tag":1,"initiators":["ANY"],"netmasks":["ANY"]}"#),
        (
            "iscsi_create_target_node",
            r#"{"name":"t","alias_name":"","pg_ig_maps":[{"pg_tag":1,"ig_tag":1},{"pg_tag":2,"ig_tag":1}],
                "luns":[{"bdev_name":"M0"}],"queue_depth":64}"#,
        ),
    ] {
        daemon.ok(method, params);
    }
    addresses(daemon)
}

/// Where the first two portal groups listen.
pub(super) fn addresses(daemon: &Managed) -> [String; 2] {
    let groups = daemon.ok("iscsi_get_portal_groups", "{}");
    [0, 1].map(|group: usize| format!("127.0.0.1:{}", groups[group]["portals"][0]["port"].as_str().unwrap()))
}

/// A connection.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) stream: UnixStream,
    read: Vec<u8>,
}

impl Wire {
    pub(super) fn connect(socket: &Path) -> Wire {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        Wire { stream, read: Vec::new() }
    }

    pub(super) fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// The next answer, without the newline that ends it.
    pub(super) fn line(&mut self) -> String {
        self.try_line().expect("an answer")
    }

    /// None where the connection was closed.
    pub(super) fn try_line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                assert!(line.is_ascii());
                return Some(String::from_utf8(line).unwrap().trim_end().to_owned());
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                // A read with a time limit is not begun again by the kernel.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(bytes) => self.read.extend_from_slice(&chunk[..bytes]),
                Err(error) => panic!("no answer in time: {error}"),
            }
        }
    }

    /// Nothing more will be sent; what the daemon says to its end.
    pub(super) fn rest(mut self) -> Vec<String> {
        self.stream.shutdown(Shutdown::Write).unwrap();
        std::iter::from_fn(|| self.try_line()).collect()
    }

    pub(super) fn call(&mut self, method: &str, params: &str) -> Result<Value, Value> {
        self.send(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#));
        let answer: Value = serde_json::from_str(&self.line()).unwrap();
        match answer.get("error") {
            Some(error) => Err(error.clone()),
            None => Ok(answer["result"].clone()),
        }
    }
}
