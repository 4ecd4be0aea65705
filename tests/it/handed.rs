//! Sockets that a service manager has bound and hands over (sd_listen_fds(3)): who connects before the daemon is there is served,
//! and a restart loses nobody.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lunette_initiator::{Client, Config};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{SOON, until};
use crate::serve::{Folder, TARGET};

/// `lunette serve` as a service manager starts it: sockets by their names, in its descriptors from 3 on. What it complains about goes
/// into the file `err`.
fn launch(folder: &Folder, given: Vec<(&str, OwnedFd)>, args: &[&str]) -> Launched {
    let names: Vec<&str> = given.iter().map(|(name, _)| *name).collect();
    let mut command = launcher(folder, given.len(), args);
    command.env("LISTEN_FDS", given.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
    let mut sockets = given.into_iter().map(|(_, socket)| Stdio::from(socket));
    let mut next = || sockets.next().unwrap_or_else(Stdio::null);
    command.stdin(next()).stdout(next()).stderr(next());
    Launched(command.spawn().unwrap())
}

/// The shell moves what it has as 0 to 2, as descriptors that a test opens are not inherited, and knows the process.
fn launcher(folder: &Folder, sockets: usize, args: &[&str]) -> Command {
    let moves = &["3<&0 ", "4<&1 ", "5<&2 "].concat()[..sockets * 5];
    let script = format!(
        "exec {moves}</dev/null; exec >/dev/null 2>\"$ERR\"; LISTEN_PID=${{OTHER_PID:-$$}}; export LISTEN_PID; exec \"$@\""
    );
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_lunette"), "serve"]).args(args);
    command.args(["--mem-size", "16", "--hugepages", "off", "--log", "error", "--idle", "park"]);
    command.env("ERR", folder.path("err")).current_dir(folder.path("."));
    // Not where a daemon of this machine may be looked for.
    command.env("LUNETTE_SOCKET", "");
    command
}

struct Launched(Child);

impl Launched {
    /// Asks it to end; it has to do so in order.
    fn stop(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }

    /// It ends by itself: how, and why.
    #[track_caller]
    fn refused(mut self, folder: &Folder) -> (Option<i32>, String) {
        let code = self.0.wait().unwrap().code();
        (code, std::fs::read_to_string(folder.path("err")).unwrap())
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        // After a failed test it still runs.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn tcp() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// What a service manager passes on of a socket that it keeps.
fn copy(listener: &TcpListener) -> OwnedFd {
    listener.try_clone().unwrap().into()
}

fn unix_copy(listener: &UnixListener) -> OwnedFd {
    listener.try_clone().unwrap().into()
}

/// Sends a call, and does not wait.
fn begin(socket: &Path, method: &str, params: &Value) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    stream.write_all(request.to_string().as_bytes()).unwrap();
    stream
}

/// Its answer.
#[track_caller]
fn answer(stream: UnixStream) -> Value {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    let mut answer: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(answer["error"], Value::Null);
    answer["result"].take()
}

#[track_caller]
fn call(socket: &Path, method: &str, params: Value) -> Value {
    answer(begin(socket, method, &params))
}

fn log_in(address: SocketAddr) -> Client {
    Client::connect(address, Config::new("iqn.2026-11.io.example:early", TARGET)).unwrap()
}

#[test]
fn who_connects_before_the_daemon_is_there_is_served() {
    let folder = Folder::new();
    let path = folder.path("rpc.sock");
    let rpc = UnixListener::bind(&path).unwrap();
    let ((portal, address), (metrics, shown_at)) = (tcp(), tcp());
    let early = begin(&path, "spdk_get_version", &json!({}));
    let host = std::thread::spawn(move || log_in(address));
    let mut browser = TcpStream::connect(shown_at).unwrap();
    browser.set_read_timeout(Some(SOON)).unwrap();
    browser.write_all(b"GET /metrics HTTP/1.1\r\nHost: lunette\r\n\r\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lunette"));
    command.args(["rpc", "rpc_get_methods", "--socket"]).arg(&path);
    let typed = command.stdout(Stdio::piped()).spawn().unwrap();

    // The socket for calls by its path, the others by their names.
    let given =
        vec![("lunette.socket", unix_copy(&rpc)), ("portal", copy(&portal)), ("metrics", copy(&metrics))];
    let daemon = launch(&folder, given, &["--null", "n:1M", "--rpc-socket", path.to_str().unwrap()]);
    assert!(answer(early)["version"].is_string());
    let mut client = host.join().unwrap();
    client.write(0, &[1; 512]).unwrap();
    let mut told = String::new();
    browser.read_to_string(&mut told).unwrap();
    assert!(told.starts_with("HTTP/1.1 200 OK\r\n"), "{told}");
    let typed = typed.wait_with_output().unwrap();
    assert!(typed.status.success() && String::from_utf8_lossy(&typed.stdout).contains("bdev_get_bdevs"));
    drop(client);
    daemon.stop();
    assert!(path.exists(), "it is the service manager's");
    UnixStream::connect(&path).unwrap();
}

#[test]
fn addresses_say_what_sockets_are_for_and_so_does_the_name_of_the_one_for_calls() {
    let folder = Folder::new();
    let path = folder.path("elsewhere.sock");
    let rpc = UnixListener::bind(&path).unwrap();
    let ((portal, address), (metrics, shown_at)) = (tcp(), tcp());
    let given = vec![("rpc", unix_copy(&rpc)), ("a", copy(&metrics)), ("b", copy(&portal))];
    let (address_text, shown_text) = (address.to_string(), shown_at.to_string());
    let args = ["--null", "n:1M", "--portal", &address_text, "--metrics", &shown_text];
    let names: Vec<&str> = given.iter().map(|(name, _)| *name).collect();
    let mut command = launcher(&folder, given.len(), &args);
    command.env("LISTEN_FDS", "3").env("LISTEN_FDNAMES", names.join(":")).env_remove("LUNETTE_SOCKET");
    let mut sockets = given.into_iter().map(|(_, socket)| Stdio::from(socket));
    let mut next = || sockets.next().unwrap();
    let daemon = Launched(command.stdin(next()).stdout(next()).stderr(next()).spawn().unwrap());
    log_in(address).write(0, &[1; 512]).unwrap();
    assert!(call(&path, "spdk_get_version", json!({}))["version"].is_string());
    let mut browser = TcpStream::connect(shown_at).unwrap();
    browser.write_all(b"GET /status.json HTTP/1.1\r\nHost: lunette\r\n\r\n").unwrap();
    let mut told = String::new();
    browser.read_to_string(&mut told).unwrap();
    assert!(told.starts_with("HTTP/1.1 200 OK\r\n"), "{told}");
    daemon.stop();
}

#[test]
fn a_restart_loses_nobody() {
    let folder = Folder::new();
    let path = folder.path("rpc.sock");
    let rpc = UnixListener::bind(&path).unwrap();
    let (portal, address) = tcp();
    let launch = || {
        let given = vec![("lunette.socket", unix_copy(&rpc)), ("portal", copy(&portal))];
        let socket = path.to_str().unwrap();
        launch(&folder, given, &["--config", "config.json", "--create-config", "--rpc-socket", socket])
    };
    // A portal's socket waits for the portal.
    let daemon = launch();
    let host = std::thread::spawn(move || log_in(address));
    call(&path, "bdev_null_create", json!({"name": "N", "num_blocks": 2048, "block_size": 512}));
    call(
        &path,
        "iscsi_create_initiator_group",
        json!({"tag": 1, "initiators": ["ANY"], "netmasks": ["ANY"]}),
    );
    let port = address.port().to_string();
    let group = json!({"tag": 1, "portals": [{"host": "127.0.0.1", "port": port}], "private": false});
    let mut waits = group.clone();
    waits["wait"] = json!(true);
    call(&path, "iscsi_create_portal_group", waits);
    let target = json!({"name": TARGET, "alias_name": "", "queue_depth": 64,
        "pg_ig_maps": [{"pg_tag": 1, "ig_tag": 1}], "luns": [{"bdev_name": "N"}]});
    call(&path, "iscsi_create_target_node", target.clone());
    call(&path, "iscsi_start_portal_group", json!({"tag": 1}));
    drop(host.join().unwrap());
    // It can be removed and made again, though the socket stays bound.
    call(&path, "iscsi_delete_target_node", json!({"name": TARGET}));
    call(&path, "iscsi_delete_portal_group", json!({"tag": 1}));
    let host = std::thread::spawn(move || log_in_once_it_is_there(address));
    call(&path, "iscsi_create_portal_group", group);
    call(&path, "iscsi_create_target_node", target);
    drop(host.join().unwrap());

    let (is_over, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let caller = {
        let (path, is_over, calls) = (path.clone(), Arc::clone(&is_over), Arc::clone(&calls));
        std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                // Nobody is refused. Who was taken in, and was too slow to say anything before the daemon ended, comes again.
                let stream = UnixStream::connect(&path).unwrap();
                if is_answered(stream) {
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    };
    let more = || {
        let before = calls.load(Ordering::Relaxed);
        until("calls are answered", || calls.load(Ordering::Relaxed) > before + 1);
    };
    let mut daemon = daemon;
    for _ in 0..3 {
        more();
        daemon.stop();
        let host = std::thread::spawn(move || log_in(address));
        daemon = launch();
        drop(host.join().unwrap());
    }
    more();
    is_over.store(true, Ordering::Relaxed);
    caller.join().unwrap();
    daemon.stop();
}

/// Whether a call is, with what was asked for.
fn is_answered(mut stream: UnixStream) -> bool {
    stream.set_read_timeout(Some(SOON)).unwrap();
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "rpc_get_methods"});
    let mut line = String::new();
    stream.write_all(request.to_string().as_bytes()).is_ok()
        && BufReader::new(stream).read_line(&mut line).is_ok()
        && serde_json::from_str(&line).is_ok_and(|answer: Value| answer["result"].is_array())
}

/// As an initiator does: the target may come a moment after its portal.
fn log_in_once_it_is_there(address: SocketAddr) -> Client {
    let mut client = None;
    until("the target is there", || {
        client = Client::connect(address, Config::new("iqn.2026-11.io.example:early", TARGET)).ok();
        client.is_some()
    });
    client.unwrap()
}

#[test]
fn a_socket_for_nothing_is_an_error_that_says_what_to_do() {
    let folder = Folder::new();
    let null = ["--null", "n:1M", "--portal", "127.0.0.1:0"];
    let path = folder.path("rpc.sock");
    let rpc = UnixListener::bind(&path).unwrap();
    let (portal, address) = tcp();
    let refused = |name, socket, args: &[&str]| launch(&folder, vec![(name, socket)], args).refused(&folder);

    let (code, why) = refused("lunette.socket", unix_copy(&rpc), &null);
    assert_eq!(code, Some(2), "{why}");
    assert!(why.contains(&format!("no calls are taken at {}; give --rpc-socket", path.display())), "{why}");

    for name in ["portal", "x"] {
        let (code, why) = refused(name, copy(&portal), &null);
        assert_eq!(code, Some(2), "{why}");
        assert!(why.contains(&format!("handed over {address}, and no portal is there")), "{why}");
    }
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (code, why) = refused("x", datagrams.into(), &null);
    assert_eq!(code, Some(2), "{why}");
    assert!(why.contains("ListenStream="), "{why}");
    let (code, why) = refused("one:too-many", copy(&portal), &null);
    assert_eq!(code, Some(1), "{why}");
    assert!(why.contains("LISTEN_FDNAMES"), "{why}");
}

#[test]
fn what_was_opened_for_another_process_is_not_taken() {
    let folder = Folder::new();
    let path = folder.path("rpc.sock");
    let rpc = UnixListener::bind(&path).unwrap();
    let mut command = launcher(&folder, 1, &["--rpc-socket", path.to_str().unwrap()]);
    command.env("LISTEN_FDS", "1").env("OTHER_PID", "1");
    command.stdin(Stdio::from(unix_copy(&rpc))).stdout(Stdio::null()).stderr(Stdio::null());
    let (code, why) = Launched(command.spawn().unwrap()).refused(&folder);
    assert_eq!(code, Some(1), "{why}");
    assert!(why.contains("another daemon has this socket"), "{why}");
}
