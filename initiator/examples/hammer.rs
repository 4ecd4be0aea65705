//! Writes and verifies: N sessions, each with its own range of one logical unit, at a queue depth, for a time.
//!
//! Each block that is written carries its session, its address and a generation, so that a block of another place,
//! time or session is told apart. A range is cut into slots of one transfer, walked group by group: each group is read
//! as an earlier round left it, written with the next generation, read back. Everything runs on one thread. The exit status is 1 when data or protocol were
//! wrong, 2 when the arguments were.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use lunette_initiator::chap::Algorithm;
use lunette_initiator::scsi::{Sense, cdb, sense_key, status};
use lunette_initiator::socket::wait_any;
use lunette_initiator::{Auth, Chap, Client, Command, Config, Event, Offer, lun};

const USAGE: &str = "usage: hammer ADDRESS:PORT TARGET [options]
  --lun N           logical unit number (0)
  --sessions N      sessions (4)
  --seconds S       how long (10)
  --depth N         commands in flight per session (8)
  --blocks N,N,...  blocks per transfer; session i takes the i-th, in turn (8)
  --start LBA       first block used (0)
  --length N        blocks used in all (the rest of the disk)
  --digests WHICH   none, header, data or both (none)
  --initiator NAME  (iqn.2025-01.com.example:hammer; the session's number is appended)
  --user NAME       CHAP user
  --secret-file F   file with the CHAP secret
  --algorithm N     CHAP algorithm 5 to 8 (all are offered)
  --r2t             no unsolicited and no immediate data
  --lenient         overlook what tgt gets wrong";

struct Options {
    address: String,
    target: String,
    lun: u16,
    sessions: u16,
    seconds: u64,
    depth: usize,
    blocks: Vec<u32>,
    start: u64,
    length: Option<u64>,
    digests: (bool, bool),
    initiator: String,
    user: Option<String>,
    secret: Vec<u8>,
    algorithms: Vec<Algorithm>,
    r2t: bool,
    lenient: bool,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("hammer: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hammer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        address: args.next().ok_or("no address")?,
        target: args.next().ok_or("no target")?,
        lun: 0,
        sessions: 4,
        seconds: 10,
        depth: 8,
        blocks: vec![8],
        start: 0,
        length: None,
        digests: (false, false),
        initiator: "iqn.2025-01.com.example:hammer".to_owned(),
        user: None,
        secret: Vec::new(),
        algorithms: Algorithm::ALL.to_vec(),
        r2t: false,
        lenient: false,
    };
    while let Some(name) = args.next() {
        if name == "--r2t" {
            options.r2t = true;
            continue;
        }
        if name == "--lenient" {
            options.lenient = true;
            continue;
        }
        let value = args.next().ok_or(format!("{name} lacks its value"))?;
        match name.as_str() {
            "--lun" => options.lun = number(&value)?,
            "--sessions" => options.sessions = number(&value)?,
            "--seconds" => options.seconds = number(&value)?,
            "--depth" => options.depth = number::<usize>(&value)?.max(1),
            "--blocks" => options.blocks = value.split(',').map(number).collect::<Result<_, _>>()?,
            "--start" => options.start = number(&value)?,
            "--length" => options.length = Some(number(&value)?),
            "--digests" => {
                options.digests = match value.as_str() {
                    "none" => (false, false),
                    "header" => (true, false),
                    "data" => (false, true),
                    "both" => (true, true),
                    _ => return Err(format!("--digests {value}")),
                }
            }
            "--initiator" => options.initiator = value,
            "--user" => options.user = Some(value),
            "--secret-file" => {
                let text = std::fs::read_to_string(&value).map_err(|error| format!("{value}: {error}"))?;
                options.secret = text.trim_end().as_bytes().to_vec();
            }
            "--algorithm" => {
                let algorithm = Algorithm::from_number(number(&value)?);
                options.algorithms = vec![algorithm.ok_or(format!("--algorithm {value}"))?];
            }
            _ => return Err(format!("unknown option {name}")),
        }
    }
    if options.blocks.contains(&0) || options.sessions == 0 {
        return Err("a number that may not be 0".to_owned());
    }
    Ok(options)
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("not a number: {text}"))
}

/// One session and its range.
struct Worker {
    client: Client,
    session: u16,
    first_lba: u64,
    block_bytes: u32,
    transfer_blocks: u32,
    slots: Vec<Slot>,
    /// First slot and length of the group in work, the next slot in it, what is done with it.
    group_start: usize,
    group_slots: usize,
    cursor: usize,
    pass: Pass,
    in_flight: usize,
    written: u64,
    verified: u64,
}

/// One place of a transfer.
#[derive(Clone, Copy, Default)]
struct Slot {
    /// What was written last; 0 is nothing yet.
    generation: u64,
    in_flight: Option<Pass>,
}

/// What is done with a group of slots, in this order.
#[derive(Clone, Copy, PartialEq)]
enum Pass {
    Recall,
    Write,
    Verify,
}

fn run(options: &Options) -> Result<(), String> {
    let mut workers = Vec::new();
    for session in 0..options.sessions {
        workers
            .push(Worker::connect(options, session).map_err(|error| format!("session {session}: {error}"))?);
    }
    let begin = Instant::now();
    let end = begin + Duration::from_secs(options.seconds);
    let mut last_progress = begin;
    while Instant::now() < end || workers.iter().any(|worker| worker.in_flight > 0) {
        let go_on = Instant::now() < end;
        let mut moved = false;
        for worker in &mut workers {
            if go_on {
                worker.fill(options)?;
            }
            moved |= worker.turn().map_err(|error| format!("session {}: {error}", worker.session))?;
        }
        if moved {
            last_progress = Instant::now();
            continue;
        }
        if last_progress.elapsed() > Duration::from_secs(30) {
            return Err("no progress for 30 seconds".to_owned());
        }
        wait_any(workers.iter().map(|worker| &worker.client), Duration::from_secs(1))
            .map_err(|error| error.to_string())?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let (mut written, mut verified, mut bytes) = (0, 0, 0);
    for worker in &mut workers {
        worker.client.logout().map_err(|error| format!("session {}: {error}", worker.session))?;
        written += worker.written;
        verified += worker.verified;
        let counters = worker.client.session().counters();
        bytes += counters.read_bytes + counters.written_bytes;
    }
    let rate = bytes as f64 / seconds / 1e6;
    println!(
        "{} sessions, {seconds:.1} s: {written} writes, {verified} reads verified, {:.0} commands/s, {rate:.0} MB/s",
        workers.len(),
        (written + verified) as f64 / seconds
    );
    if verified == 0 { Err("nothing was verified".to_owned()) } else { Ok(()) }
}

impl Worker {
    fn connect(options: &Options, session: u16) -> Result<Self, String> {
        let mut config = Config::new(&format!("{}-{session}", options.initiator), &options.target);
        let [high, low] = session.to_be_bytes();
        config.lenient = options.lenient;
        config.isid = [0x80, 0, 0, 1, high, low];
        config.offer = Offer {
            task_reporting: None,
            initial_r2t: Some(options.r2t),
            immediate_data: Some(!options.r2t),
            max_outstanding_r2t: Some(8),
            ..Offer::with_digests(options.digests.0, options.digests.1)
        };
        if let Some(user) = &options.user {
            let chap = Chap { algorithms: options.algorithms.clone(), ..Chap::new(user, &options.secret) };
            config.auth = Auth::Chap(chap);
        }
        let text = |error: lunette_initiator::socket::SocketError| error.to_string();
        let mut client = Client::connect(options.address.as_str(), config).map_err(text)?;
        client.set_lun(lun::from_number(options.lun));
        let capacity = client.capacity().map_err(text)?;
        let rest = capacity.count_blocks.saturating_sub(options.start);
        let share = options.length.unwrap_or(rest).min(rest) / u64::from(options.sessions);
        let transfer_blocks = options.blocks[usize::from(session) % options.blocks.len()];
        let slots = usize::try_from(share / u64::from(transfer_blocks)).map_err(|error| error.to_string())?;
        if slots == 0 {
            return Err("its range is shorter than a transfer".to_owned());
        }
        Ok(Self {
            client,
            session,
            first_lba: options.start + share * u64::from(session),
            block_bytes: capacity.block_bytes,
            transfer_blocks,
            slots: vec![Slot::default(); slots],
            group_start: 0,
            group_slots: slots.min(options.depth * 4),
            cursor: 0,
            pass: Pass::Recall,
            in_flight: 0,
            written: 0,
            verified: 0,
        })
    }

    /// Queues commands up to the depth; a slot that is still in flight from the pass before is waited for.
    fn fill(&mut self, options: &Options) -> Result<(), String> {
        while self.in_flight < options.depth {
            let index = self.group_start + self.cursor;
            let slot = &mut self.slots[index];
            if slot.in_flight.is_some() {
                return Ok(());
            }
            if self.pass == Pass::Write {
                slot.generation += 1;
            }
            if slot.generation > 0 {
                self.queue(index, self.pass)?;
            }
            self.cursor += 1;
            if self.cursor == self.group_slots {
                self.cursor = 0;
                self.pass = match self.pass {
                    Pass::Recall => Pass::Write,
                    Pass::Write => Pass::Verify,
                    Pass::Verify => {
                        let next = self.group_start + self.group_slots;
                        self.group_start = if next + self.group_slots <= self.slots.len() { next } else { 0 };
                        Pass::Recall
                    }
                };
            }
        }
        Ok(())
    }

    fn queue(&mut self, index: usize, pass: Pass) -> Result<(), String> {
        let lba = self.lba(index);
        let unit = self.client.lun();
        let flags = cdb::Flags::default();
        let command = if pass == Pass::Write {
            let cdb = cdb::write_16(lba, self.transfer_blocks, flags);
            Command::write(unit, cdb, self.pattern(index))
        } else {
            let bytes = self.transfer_blocks * self.block_bytes;
            Command::read(unit, cdb::read_16(lba, self.transfer_blocks, flags), bytes)
        };
        let command = command.tagged(index as u64);
        self.client.session().command(command).map_err(|error| error.to_string())?;
        self.slots[index].in_flight = Some(pass);
        self.in_flight += 1;
        Ok(())
    }

    fn lba(&self, index: usize) -> u64 {
        self.first_lba + index as u64 * u64::from(self.transfer_blocks)
    }

    /// What a slot holds in its present generation: in each 8 bytes a number from session, address and generation.
    fn pattern(&self, index: usize) -> Vec<u8> {
        let bytes = self.transfer_blocks as usize * self.block_bytes as usize;
        let seed = self.lba(index) << 20 ^ u64::from(self.session) << 56 ^ self.slots[index].generation;
        let mut data = Vec::with_capacity(bytes);
        for word in 0..bytes as u64 / 8 {
            data.extend_from_slice(&(seed ^ word.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes());
        }
        data
    }

    /// Moves bytes and takes what has completed; says whether anything happened.
    fn turn(&mut self) -> Result<bool, String> {
        let mut moved = self.client.service().map_err(|error| error.to_string())?;
        while let Some(event) = self.client.next_event() {
            moved = true;
            let Event::Completed(completion) = event else {
                match event {
                    Event::NopIn { .. } => continue,
                    other => return Err(format!("unexpected {other:?}")),
                }
            };
            let index = usize::try_from(completion.tag).map_err(|error| error.to_string())?;
            let pass = self.slots[index].in_flight.take().ok_or("a completion nobody waits for")?;
            self.in_flight -= 1;
            if !completion.is_good() {
                let sense = Sense::decode(&completion.sense);
                let busy = matches!(completion.status, status::BUSY | status::TASK_SET_FULL);
                if busy || sense.is_some_and(|sense| sense.key == sense_key::UNIT_ATTENTION) {
                    self.queue(index, pass)?;
                    continue;
                }
                let (lba, status) = (self.lba(index), completion.status);
                return Err(format!("LBA {lba}: status {status:#04x}, sense {sense:02x?}"));
            }
            if pass == Pass::Write {
                self.written += 1;
                continue;
            }
            let expected = self.pattern(index);
            if completion.data != expected {
                let at = (0..expected.len()).find(|&at| completion.data.get(at) != Some(&expected[at]));
                let (lba, generation) = (self.lba(index), self.slots[index].generation);
                return Err(format!("LBA {lba}, generation {generation}: data differ from byte {at:?} on"));
            }
            self.verified += 1;
        }
        if self.client.is_closed() {
            return Err("the target closed the connection".to_owned());
        }
        Ok(moved)
    }
}
