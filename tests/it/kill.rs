//! `kill -9`: what was answered about reservations with APTPL, access states, identities and identifying information is there
//! after the next start, whenever the daemon died.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use lunette_initiator::scsi::cdb;
use lunette_initiator::{Client, Command, Config, Data};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{SOON, sense, until};
use crate::serve::{Daemon, Folder, TARGET};

const ROUNDS: u64 = 200;
const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const RELEASE: u8 = 2;
const IGNORE: u8 = 6;
const WRITE_EXCLUSIVE_REGISTRANTS: u8 = 5;

/// What is registered by whom, and the key of the holder.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Model {
    keys: [u64; 2],
    holder: Option<usize>,
}

impl Model {
    /// Keys, ascending, and that of the holder: what PERSISTENT RESERVE IN shows.
    fn shown(&self) -> (Vec<u64>, Option<u64>) {
        let mut keys: Vec<u64> = self.keys.into_iter().filter(|key| *key != 0).collect();
        keys.sort_unstable();
        (keys, self.holder.map(|holder| self.keys[holder]))
    }

    /// A change that would be answered GOOD: the command and what is so afterwards.
    fn change(&self, who: usize, number: u64) -> (Command, Model) {
        let (key, new_key) = (self.keys[who], 0x0100_0000 * (who as u64 + 1) + number);
        let mut next = self.clone();
        let (action, keys) = match number % 5 {
            _ if key == 0 => {
                next.keys[who] = new_key;
                (REGISTER, (0, new_key))
            }
            0 => {
                next.keys[who] = 0;
                next.holder = self.holder.filter(|holder| *holder != who);
                (REGISTER, (key, 0))
            }
            1 | 2 if self.holder.is_none() => {
                next.holder = Some(who);
                (RESERVE, (key, 0))
            }
            3 if self.holder == Some(who) => {
                next.holder = None;
                (RELEASE, (key, 0))
            }
            _ => {
                next.keys[who] = new_key;
                (IGNORE, (0, new_key))
            }
        };
        let mut list = cdb::persistent_reserve_out_list(keys.0, keys.1);
        if matches!(action, REGISTER | IGNORE) {
            // APTPL.
            list[20] = 0x01;
        }
        let cdb = cdb::persistent_reserve_out(action, WRITE_EXCLUSIVE_REGISTRANTS, 24);
        (Command::write(0, cdb, list), next)
    }
}

/// Keys, ascending, and that of the holder.
fn shown(client: &mut Client) -> (Vec<u64>, Option<u64>) {
    let mut report = |action| {
        let end = client.run(Command::read(0, cdb::persistent_reserve_in(action, 256), 256)).unwrap();
        assert!(end.is_good(), "{end:?}");
        end.data[8..].to_vec()
    };
    let key = |bytes: &[u8]| u64::from_be_bytes(bytes[..8].try_into().unwrap());
    let mut keys: Vec<u64> = report(0).chunks(8).map(key).collect();
    keys.sort_unstable();
    let held = report(1);
    (keys, (!held.is_empty()).then(|| key(&held)))
}

fn log_in(daemon: &Daemon, name: &str) -> Client {
    let config = Config::new(&format!("iqn.2026-11.io.example:{name}"), TARGET);
    let mut client = Client::connect(daemon.address, config).unwrap();
    // POWER ON OCCURRED.
    client.command(cdb::test_unit_ready(), Data::None).unwrap();
    client
}

/// Kills a daemon a while after it is told to; twice does no harm.
fn killer(daemon: &Daemon, after: Duration) -> (mpsc::Sender<()>, JoinHandle<()>) {
    let pid = Pid::from_child(daemon.child.as_ref().unwrap());
    let (tell, told) = mpsc::channel();
    let kill = move || {
        told.recv().unwrap();
        // Nobody says more.
        let _ = told.recv_timeout(after);
        kill_process(pid, Signal::KILL).unwrap();
    };
    (tell, std::thread::spawn(kill))
}

#[test]
fn what_was_answered_survives_kill_9() {
    let folder = Folder::new();
    folder.file("disk.img", 1 << 20);
    let (mut model, mut pending) = (Model::default(), Model::default());
    let (mut number, mut answered, mut in_doubt) = (0, 0, 0);
    for round in 0..ROUNDS {
        let daemon = Daemon::start(&folder, &["--state", "state", "disk.img"]);
        let [mut stranger, a, b] = ["c", "a", "b"].map(|name| log_in(&daemon, name));
        // What was not answered may have happened.
        let found = shown(&mut stranger);
        if found != model.shown() {
            assert_eq!(found, pending.shown(), "round {round}: {model:?}");
            model = pending;
            in_doubt += 1;
        }
        // Who is not registered cannot write while somebody holds it.
        let write = Command::write(0, cdb::write_16(0, 1, cdb::Flags::default()), vec![0; 512]);
        assert_eq!(stranger.run(write).unwrap().is_good(), model.holder.is_none(), "round {round}");
        // From the middle of a command to some commands later.
        let (tell, killer) = killer(&daemon, Duration::from_micros(round * 7919 % 4000));
        let mut clients = [a, b];
        let mut left = Some(round % 4);
        pending = loop {
            if left == Some(0) {
                tell.send(()).unwrap();
            }
            left = left.and_then(|left| left.checked_sub(1));
            number += 1;
            let who = usize::from(number % 3 == 0);
            let (command, next) = model.change(who, number);
            match clients[who].run(command) {
                // RESERVATIONS RELEASED, which the other is told.
                Ok(end) if !end.is_good() => assert_eq!(sense(&end), (6, 0x2a, 0x04), "round {round}"),
                Ok(_) => {
                    model = next;
                    answered += 1;
                }
                Err(_) => break next,
            }
        };
        drop(tell);
        killer.join().unwrap();
    }
    assert!(answered > ROUNDS, "{answered} answered, {in_doubt} in doubt");
}

/// What an operator and a host have said of a unit.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Said {
    state: u8,
    is_preferred: bool,
    product: String,
    /// IDENTIFYING INFORMATION.
    information: Vec<u8>,
}

/// Names of the states that a path can be used in.
const STATES: [&str; 2] = ["active_optimized", "active_non_optimized"];

/// A call by the socket; none where the daemon died before it answered.
fn call(socket: &Path, method: &str, params: &Value) -> Option<Value> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(SOON)).unwrap();
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    stream.write_all(request.to_string().as_bytes()).ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    let answer: Value = serde_json::from_str(&line).ok()?;
    assert_eq!(answer.get("error"), None, "{method} {params}");
    Some(answer["result"].clone())
}

/// A command, past the unit attentions of what was said before; none where the daemon died before it answered.
fn tried(client: &mut Client, command: &Command) -> Option<Vec<u8>> {
    loop {
        let end = client.run(command.clone()).ok()?;
        if end.is_good() {
            return Some(end.data);
        }
        assert_eq!(sense(&end).0, 6, "{end:?}");
    }
}

/// A CDB of MAINTENANCE IN or OUT, with a length.
fn maintenance(opcode: u8, action: u8, bytes: u8) -> cdb::Cdb {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[9]) = (opcode, action, bytes);
    cdb
}

/// What the daemon shows, and the name of its bdev.
fn said(socket: &Path, client: &mut Client) -> (Said, String) {
    let units = call(socket, "lunette_get_logical_units", &json!({})).unwrap();
    let (unit, port) = (&units[0], &units[0]["ports"][0]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let state = STATES.iter().position(|name| *name == text(&port["state"])).unwrap();
    let report = tried(client, &Command::read(0, maintenance(0xa3, 0x05, 68), 68)).unwrap();
    let length = usize::from(u16::from_be_bytes([report[2], report[3]]));
    let said = Said {
        state: u8::try_from(state).unwrap(),
        is_preferred: port["preferred"].as_bool().unwrap(),
        product: text(&unit["product"]),
        information: report[4..4 + length].to_vec(),
    };
    (said, text(&unit["bdev_name"]))
}

impl Said {
    /// Says something else; what is so afterwards, and whether that was answered.
    fn change(&self, number: u64, bdev: &str, socket: &Path, client: &mut Client) -> (Said, bool) {
        let mut next = self.clone();
        let is_answered = match number % 4 {
            // SET TARGET PORT GROUPS, by the host.
            0 => {
                next.state = 1 - self.state;
                let list = vec![0, 0, 0, 0, next.state, 0, 0, 1];
                tried(client, &Command::write(0, maintenance(0xa4, 0x0a, 8), list)).is_some()
            }
            1 => {
                (next.state, next.is_preferred) = (1 - self.state, !self.is_preferred);
                let params = json!({
                    "name": TARGET, "pg_tag": 1, "state": STATES[usize::from(next.state)], "preferred": next.is_preferred,
                });
                call(socket, "lunette_target_node_set_alua_state", &params).is_some()
            }
            2 => {
                next.product = format!("P{number}");
                let params = json!({ "name": bdev, "product": next.product });
                call(socket, "lunette_bdev_set_identity", &params).is_some()
            }
            // SET IDENTIFYING INFORMATION.
            _ => {
                next.information = format!("rack {number}").into_bytes();
                let length = u8::try_from(next.information.len()).unwrap();
                let command = Command::write(0, maintenance(0xa4, 0x06, length), next.information.clone());
                tried(client, &command).is_some()
            }
        };
        (next, is_answered)
    }
}

#[test]
fn access_states_identities_and_what_hosts_wrote_down_survive_kill_9() {
    let folder = Folder::new();
    let socket = folder.file("disk.img", 1 << 20).with_file_name("rpc.sock");
    let (mut model, mut pending): (Option<Said>, Option<Said>) = (None, None);
    let (mut number, mut answered) = (0, 0);
    for round in 0..ROUNDS {
        let daemon = Daemon::start(&folder, &["--state", "state", "--rpc-socket", "rpc.sock", "disk.img"]);
        until("the daemon takes calls", || UnixStream::connect(&socket).is_ok());
        let mut client = log_in(&daemon, "a");
        let (found, bdev) = said(&socket, &mut client);
        if round == 0 {
            call(&socket, "lunette_bdev_set_alua", &json!({ "name": bdev, "explicit": true })).unwrap();
        }
        // What was not answered may have happened, and nothing else.
        let mut now = match model {
            Some(model) if model == found => model,
            Some(model) => {
                assert_eq!(Some(&found), pending.as_ref(), "round {round}: {model:?}");
                found
            }
            None => found,
        };
        let (tell, killer) = killer(&daemon, Duration::from_micros(round * 7919 % 4000));
        let mut left = Some(round % 4);
        loop {
            if left == Some(0) {
                tell.send(()).unwrap();
            }
            left = left.and_then(|left| left.checked_sub(1));
            number += 1;
            let (next, is_answered) = now.change(number, &bdev, &socket, &mut client);
            if !is_answered {
                pending = Some(next);
                break;
            }
            now = next;
            answered += 1;
        }
        model = Some(now);
        drop(tell);
        killer.join().unwrap();
    }
    assert!(answered > ROUNDS, "{answered} answered");
}
