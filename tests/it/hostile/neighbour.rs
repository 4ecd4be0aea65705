//! An initiator that minds its own business: it writes, reads back and compares.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lunette_initiator::{Client, Config};

use super::daemon::{SPARE_LBA, TARGET};

const BLOCKS: u32 = 64;
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Neighbour {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    rounds: AtomicU64,
    is_over: AtomicBool,
}

impl Neighbour {
    pub(super) fn start(address: SocketAddr) -> Neighbour {
        let state = Arc::new(State::default());
        let theirs = Arc::clone(&state);
        let thread = std::thread::spawn(move || work(address, &theirs));
        Neighbour { state, thread: Some(thread) }
    }

    /// What it has written and verified so far.
    pub(super) fn rounds(&self) -> u64 {
        self.state.rounds.load(Ordering::SeqCst)
    }

    /// Waits until it has got so far.
    pub(super) fn wait_for_rounds(&mut self, rounds: u64) {
        let begin = Instant::now();
        while self.rounds() < rounds {
            let is_lost = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
            if is_lost && let Some(thread) = self.thread.take() {
                thread.join().expect("the neighbour notices nothing");
            }
            assert!(begin.elapsed() < PATIENCE, "the neighbour gets no further than {}", self.rounds());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends it; how many rounds there were.
    pub(super) fn stop(mut self) -> u64 {
        self.state.is_over.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().expect("the neighbour notices nothing");
        self.rounds()
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
    }
}

fn work(address: SocketAddr, state: &State) {
    // Two sessions, so that both reactors serve one.
    let mut clients = [0, 1].map(|number| {
        let isid = [0x80, 0, 0, 0, 0, number];
        let name = format!("iqn.2025-01.com.example:neighbour{number}");
        let config = Config { isid, ..Config::new(&name, TARGET) };
        Client::connect(address, config).unwrap()
    });
    let slots = SPARE_LBA / u64::from(BLOCKS) / 2;
    let mut round: u64 = 0;
    while !state.is_over.load(Ordering::SeqCst) {
        for (number, client) in (0_u64..).zip(&mut clients) {
            let lba = (number * slots + round * 7 % slots) * u64::from(BLOCKS);
            let mark = (round << 8 | number).to_be_bytes();
            let data: Vec<u8> = mark.iter().copied().cycle().take(BLOCKS as usize * 512).collect();
            client.write(lba, &data).unwrap();
            assert!(client.read(lba, BLOCKS).unwrap() == data, "LBA {lba} holds other data");
        }
        round += 1;
        state.rounds.store(round, Ordering::SeqCst);
    }
    for mut client in clients {
        client.logout().unwrap();
    }
}
