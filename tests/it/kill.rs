//! `kill -9`: what was answered about reservations with APTPL is there after the next start, whenever the daemon died.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use lunette_initiator::scsi::cdb;
use lunette_initiator::{Client, Command, Config, Data};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::sense;
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
