//! An initiator that minds its own business: it writes, reads back and compares.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use lunette_initiator::{Client, Config};

use super::daemon::{SPARE_LBA, TARGET};

const BLOCKS: u32 = 64;
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Neighbour {
    /// One message for each round.
    rounds: Receiver<()>,
    count: u64,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Neighbour {
    pub(super) fn start(address: SocketAddr) -> Neighbour {
        let (done, rounds) = channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || work(address, &theirs, &done));
        Neighbour { rounds, count: 0, is_over, thread: Some(thread) }
    }

    /// Waits until it has written and verified so often more, from now on.
    pub(super) fn wait_for_rounds(&mut self, rounds: u64) {
        self.count += self.rounds.try_iter().count() as u64;
        for _ in 0..rounds {
            match self.rounds.recv_timeout(PATIENCE) {
                Ok(()) => self.count += 1,
                Err(RecvTimeoutError::Disconnected) => self.join(),
                Err(RecvTimeoutError::Timeout) => panic!("the neighbour gets no further"),
            }
        }
    }

    /// Ends it; how many rounds there were.
    pub(super) fn stop(mut self) -> u64 {
        self.is_over.store(true, Ordering::SeqCst);
        self.join();
        self.count + self.rounds.try_iter().count() as u64
    }

    fn join(&mut self) {
        let thread = self.thread.take().expect("joined once");
        thread.join().expect("the neighbour notices nothing");
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
    }
}

fn work(address: SocketAddr, is_over: &AtomicBool, done: &Sender<()>) {
    // Two sessions, so that both reactors serve one.
    let mut clients = [0, 1].map(|number| {
        let isid = [0x80, 0, 0, 0, 0, number];
        let name = format!("iqn.2025-01.com.example:neighbour{number}");
        let config = Config { isid, ..Config::new(&name, TARGET) };
        Client::connect(address, config).unwrap()
    });
    let slots = SPARE_LBA / u64::from(BLOCKS) / 2;
    let mut round: u64 = 0;
    while !is_over.load(Ordering::SeqCst) {
        for (number, client) in (0_u64..).zip(&mut clients) {
            let lba = (number * slots + round * 7 % slots) * u64::from(BLOCKS);
            let mark = (round << 8 | number).to_be_bytes();
            let data: Vec<u8> = mark.iter().copied().cycle().take(BLOCKS as usize * 512).collect();
            client.write(lba, &data).unwrap();
            assert!(client.read(lba, BLOCKS).unwrap() == data, "LBA {lba} holds other data");
        }
        round += 1;
        let _ = done.send(());
    }
    for mut client in clients {
        client.logout().unwrap();
    }
}
