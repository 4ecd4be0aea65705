//! Logs in N sessions and leaves them idle, answering NOP-Ins, for a time or until standard input ends: to see what
//! idle sessions cost a target. Prints `ready` when all are in.

use std::io::Read;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lunette_initiator::socket::{SocketError, wait_any};
use lunette_initiator::{Client, Config, Event};

const USAGE: &str = "usage: sessions ADDRESS:PORT TARGET [COUNT (100) [SECONDS (until standard input ends)]]";

static INPUT_ENDED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (count, seconds) =
        (args.get(2).map_or(Ok(100), |n| n.parse()), args.get(3).map(|n| n.parse()).transpose());
    let (Some(address), Some(target), Ok(count), Ok(seconds)) = (args.first(), args.get(1), count, seconds)
    else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(address, target, count, seconds) {
        Ok(answered) => {
            println!("{count} sessions, {answered} NOP-Ins answered");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("sessions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(address: &str, target: &str, count: u32, seconds: Option<u64>) -> Result<u64, SocketError> {
    let mut clients = Vec::new();
    for number in 0..count {
        let mut config = Config::new(&format!("iqn.2025-01.com.example:idle-{number}"), target);
        let [a, b, c, d] = number.to_be_bytes();
        config.isid = [0x80, 0, a, b, c, d];
        clients.push(Client::connect(address, config)?);
    }
    println!("ready");
    if seconds.is_none() {
        std::thread::spawn(|| {
            let mut input = std::io::stdin().lock();
            let mut byte = [0];
            while input.read(&mut byte).is_ok_and(|bytes| bytes > 0) {}
            INPUT_ENDED.store(true, Ordering::Relaxed);
        });
    }
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    while !INPUT_ENDED.load(Ordering::Relaxed) && end.is_none_or(|end| Instant::now() < end) {
        for client in &mut clients {
            client.service()?;
            while let Some(event) = client.next_event() {
                if !matches!(event, Event::NopIn { .. }) {
                    return Err(SocketError::Unexpected(format!("{event:?}")));
                }
            }
            if client.is_closed() {
                return Err(SocketError::Closed);
            }
        }
        wait_any(&clients, Duration::from_millis(500))?;
    }
    let mut answered = 0;
    for client in &mut clients {
        client.logout()?;
        answered += client.session().counters().nop_ins_answered;
    }
    Ok(answered)
}
