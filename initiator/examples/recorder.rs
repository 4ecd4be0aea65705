//! Writes, flushes and reads back, and records in which order: what was sent when, and what was answered when. After a
//! power cut the journal tells what must be on the medium; `scripts/lab/labs/powercut.py` holds the medium against it.
//!
//! The disk is cut into slots of one transfer; at most one command is in flight in a slot. Each block that is written
//! repeats one record, of a magic number, the LBA, the number of the write and all three combined; so a block of another place
//! or time, or half of one, is told apart. WRITE SAME gives all blocks of a slot the record of its first. The disk must be all
//! zeroes at the start. The exit status is 1 when data or
//! protocol were wrong, 2 when the arguments were.
//!
//! The journal is text, a line an event: `disk SLOTS BLOCKS BLOCK_BYTES`; `w NUMBER SLOT FUA` a write is sent, `m NUMBER SLOT FUA` a
//! WRITE SAME, `z NUMBER SLOT FUA` an UNMAP (FUA is 1 where the target makes it durable before it answers);
//! `s NUMBER` a SYNCHRONIZE CACHE of the whole disk is sent; `d NUMBER` it is answered GOOD.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lunette_initiator::scsi::{Sense, cdb, sense_key};
use lunette_initiator::session::Completion;
use lunette_initiator::socket::SocketError;
use lunette_initiator::{Client, Command, Config, Data, Event, lun};

const USAGE: &str = "usage: recorder ADDRESS:PORT TARGET JOURNAL [options]
  --lun N          logical unit number (0)
  --seconds S      how long (10)
  --wait S         try to log in for so long (60)
  --depth N        commands in flight (16)
  --slots N        slots in use (2048)
  --blocks N       blocks of a slot (8)
  --fua PERCENT    of the writes that have FUA (5)
  --syncs PERCENT  of the commands that are SYNCHRONIZE CACHE (2)
  --reads PERCENT  of the commands that are READ (20)
  --sames PERCENT  of the commands that are WRITE SAME (5)
  --unmaps PERCENT of the commands that are UNMAP (0); the disk has to do that
  --writes N       after so many were answered, say so and UNMAP instead of anything that writes (no end)
  --seed N         (1)
  --through        the target writes through: the journal says of every write that it has FUA
  --cut            the connection is to break before the time is over, and not to end otherwise";

const MAGIC: u64 = 0x6c75_6e65_7474_6521;

struct Options {
    address: String,
    target: String,
    journal: String,
    lun: u16,
    seconds: u64,
    wait: u64,
    depth: usize,
    slots: u32,
    blocks: u32,
    fua: u64,
    syncs: u64,
    reads: u64,
    sames: u64,
    unmaps: u64,
    writes: u64,
    seed: u64,
    through: bool,
    cut: bool,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("recorder: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("recorder: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        address: args.next().ok_or("no address")?,
        target: args.next().ok_or("no target")?,
        journal: args.next().ok_or("no journal")?,
        lun: 0,
        seconds: 10,
        wait: 60,
        depth: 16,
        slots: 2048,
        blocks: 8,
        fua: 5,
        syncs: 2,
        reads: 20,
        sames: 5,
        unmaps: 0,
        writes: u64::MAX,
        seed: 1,
        through: false,
        cut: false,
    };
    while let Some(name) = args.next() {
        if name == "--cut" {
            options.cut = true;
            continue;
        }
        if name == "--through" {
            options.through = true;
            continue;
        }
        let value = args.next().ok_or(format!("{name} lacks its value"))?;
        let number = value.parse::<u64>().map_err(|_| format!("not a number: {value}"));
        let small = || value.parse::<u32>().map_err(|_| format!("not a number: {value}"));
        match name.as_str() {
            "--lun" => options.lun = value.parse().map_err(|_| format!("not a number: {value}"))?,
            "--seconds" => options.seconds = number?,
            "--wait" => options.wait = number?,
            "--depth" => options.depth = small()? as usize,
            "--slots" => options.slots = small()?,
            "--blocks" => options.blocks = small()?,
            "--fua" => options.fua = number?,
            "--syncs" => options.syncs = number?,
            "--reads" => options.reads = number?,
            "--sames" => options.sames = number?,
            "--unmaps" => options.unmaps = number?,
            "--writes" => options.writes = number?,
            "--seed" => options.seed = number?,
            _ => return Err(format!("unknown option {name}")),
        }
    }
    if options.depth == 0 || options.blocks == 0 || options.slots as usize <= options.depth {
        return Err("a number that is too small".to_owned());
    }
    Ok(options)
}

/// What a command is about; found again by its number, which is the tag.
#[derive(Clone, Copy, Debug)]
enum Job {
    Change { slot: u32, how: How },
    Read { slot: u32 },
    Sync,
}

/// How a slot is changed.
#[derive(Clone, Copy, Debug)]
enum How {
    Write { fua: bool },
    Same,
    Unmap,
}

/// What a slot holds.
#[derive(Clone, Copy, Debug)]
enum Held {
    /// As at the start, or unmapped.
    Zeroes,
    /// What this write has written.
    Write(u64),
    /// What this WRITE SAME has written.
    Same(u64),
}

struct Recorder {
    client: Client,
    slot_blocks: u32,
    block_bytes: u32,
    /// Per slot, and whether a command is in flight there.
    held: Vec<(Held, bool)>,
    in_flight: Vec<(u64, Job)>,
    next_number: u64,
    random: u64,
    through: bool,
    journal: String,
    written: u64,
    synced: u64,
    verified: u64,
}

/// Why it ends.
enum End {
    /// The connection broke.
    Cut(String),
    Wrong(String),
}

impl From<SocketError> for End {
    fn from(error: SocketError) -> End {
        match error {
            SocketError::Io(_) | SocketError::Closed => End::Cut(error.to_string()),
            other => End::Wrong(other.to_string()),
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let client = connect(options)?;
    let mut recorder = Recorder::new(client, options).map_err(|error| error.to_string())?;
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let ended = recorder.work(options, end);
    std::fs::write(&options.journal, &recorder.journal)
        .map_err(|error| format!("{}: {error}", options.journal))?;
    let Recorder { written, synced, verified, in_flight, .. } = &recorder;
    let unanswered = in_flight.len();
    println!(
        "{written} writes and {synced} flushes answered, {verified} reads verified, {unanswered} unanswered"
    );
    match ended {
        Err(End::Cut(_)) if options.cut => {}
        Err(End::Cut(error) | End::Wrong(error)) => return Err(error),
        Ok(()) if options.cut => return Err("the connection did not break in time".to_owned()),
        Ok(()) => {}
    }
    if *written == 0 { Err("nothing was written".to_owned()) } else { Ok(()) }
}

/// Logs in as soon as the target lets us: it may still have to start.
fn connect(options: &Options) -> Result<Client, String> {
    let end = Instant::now() + Duration::from_secs(options.wait);
    loop {
        let config = Config::new("iqn.2025-01.com.example:recorder", &options.target);
        match Client::connect(options.address.as_str(), config) {
            Ok(client) => return Ok(client),
            Err(error) if Instant::now() > end => return Err(format!("no login: {error}")),
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

impl Recorder {
    fn new(mut client: Client, options: &Options) -> Result<Recorder, SocketError> {
        client.set_lun(lun::from_number(options.lun));
        client.set_timeout(Duration::from_secs(60));
        let capacity = client.capacity()?;
        let (slots, blocks, block_bytes) = (options.slots, options.blocks, capacity.block_bytes);
        if u64::from(slots) * u64::from(blocks) > capacity.count_blocks {
            return Err(SocketError::Unexpected(format!("a disk of {} blocks", capacity.count_blocks)));
        }
        Ok(Recorder {
            client,
            slot_blocks: blocks,
            block_bytes,
            held: vec![(Held::Zeroes, false); slots as usize],
            in_flight: Vec::new(),
            next_number: 1,
            random: options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            through: options.through,
            journal: format!("disk {slots} {blocks} {block_bytes}\n"),
            written: 0,
            synced: 0,
            verified: 0,
        })
    }

    fn work(&mut self, options: &Options, end: Instant) -> Result<(), End> {
        let mut is_announced = false;
        while Instant::now() < end || !self.in_flight.is_empty() {
            while Instant::now() < end && self.in_flight.len() < options.depth {
                let job = self.choose(options);
                self.send(job)?;
            }
            let Some(event) = self.client.wait_event(Duration::from_secs(60))? else {
                return Err(End::Wrong("no answer for 60 seconds".to_owned()));
            };
            match event {
                Event::Completed(completion) => self.completed(&completion)?,
                Event::NopIn { .. } => {}
                other => return Err(End::Wrong(format!("unexpected {other:?}"))),
            }
            let is_begun = self.written >= if options.writes == u64::MAX { 1 } else { options.writes };
            if !is_announced && (self.synced > 0 || options.syncs == 0) && is_begun {
                println!("writing");
                is_announced = true;
            }
        }
        Ok(self.client.logout()?)
    }

    /// A number below `limit`: xorshift64*.
    fn draw(&mut self, limit: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % limit
    }

    fn choose(&mut self, options: &Options) -> Job {
        let percent = self.draw(100);
        if percent < options.syncs {
            return Job::Sync;
        }
        let slot = loop {
            let slot = u32::try_from(self.draw(u64::from(options.slots))).expect("below a u32");
            if !self.held[slot as usize].1 {
                break slot;
            }
        };
        self.held[slot as usize].1 = true;
        let mut below = options.syncs + options.reads;
        if percent < below {
            return Job::Read { slot };
        }
        if self.written >= options.writes {
            return Job::Change { slot, how: How::Unmap };
        }
        for (share, how) in [(options.sames, How::Same), (options.unmaps, How::Unmap)] {
            below += share;
            if percent < below {
                return Job::Change { slot, how };
            }
        }
        Job::Change { slot, how: How::Write { fua: self.draw(100) < options.fua } }
    }

    fn send(&mut self, job: Job) -> Result<(), End> {
        let number = self.next_number;
        self.next_number += 1;
        let line = match job {
            Job::Change { slot, how } => {
                let (kind, fua) = match how {
                    How::Write { fua } => ('w', fua),
                    How::Same => ('m', false),
                    How::Unmap => ('z', false),
                };
                writeln!(self.journal, "{kind} {number} {slot} {}", u8::from(fua || self.through))
            }
            Job::Sync => writeln!(self.journal, "s {number}"),
            Job::Read { .. } => Ok(()),
        };
        line.map_err(|error| End::Wrong(error.to_string()))?;
        self.in_flight.push((number, job));
        self.queue(number, job)
    }

    fn queue(&mut self, number: u64, job: Job) -> Result<(), End> {
        let (unit, blocks) = (self.client.lun(), self.slot_blocks);
        let command = match job {
            Job::Change { slot, how: How::Write { fua } } => {
                let flags = cdb::Flags { fua, ..cdb::Flags::default() };
                let data = self.contents(slot, Held::Write(number));
                Command::write(unit, cdb::write_16(self.lba(slot), blocks, flags), data)
            }
            Job::Change { slot, how: How::Same } => {
                let mut data = self.contents(slot, Held::Same(number));
                data.truncate(self.block_bytes as usize);
                Command::write(unit, cdb::write_same_16(self.lba(slot), blocks, false), data)
            }
            Job::Change { slot, how: How::Unmap } => {
                let list = cdb::unmap_list(&[(self.lba(slot), blocks)]);
                Command::write(unit, cdb::unmap(24), list)
            }
            Job::Read { slot } => {
                let cdb = cdb::read_16(self.lba(slot), blocks, cdb::Flags::default());
                Command::read(unit, cdb, blocks * self.block_bytes)
            }
            Job::Sync => Command::new(unit, cdb::synchronize_cache_16(0, 0), Data::None),
        };
        self.client
            .session()
            .command(command.tagged(number))
            .map_err(|error| End::Wrong(error.to_string()))?;
        Ok(())
    }

    fn lba(&self, slot: u32) -> u64 {
        u64::from(slot) * u64::from(self.slot_blocks)
    }

    /// The blocks of a slot that holds this.
    fn contents(&self, slot: u32, held: Held) -> Vec<u8> {
        let (blocks, block_bytes) = (self.slot_blocks as usize, self.block_bytes as usize);
        let first = self.lba(slot);
        let mut data = Vec::with_capacity(blocks * block_bytes);
        for lba in first..first + blocks as u64 {
            let (lba, number) = match held {
                Held::Zeroes => return vec![0; blocks * block_bytes],
                Held::Write(number) => (lba, number),
                Held::Same(number) => (first, number),
            };
            let record: Vec<u8> =
                [MAGIC, lba, number, MAGIC ^ lba ^ number].into_iter().flat_map(u64::to_be_bytes).collect();
            data.extend(record.repeat(block_bytes / record.len()));
        }
        data
    }

    fn completed(&mut self, completion: &Completion) -> Result<(), End> {
        let number = completion.tag;
        let found = self.in_flight.iter().position(|(other, _)| *other == number);
        let at = found.ok_or_else(|| End::Wrong("a completion nobody waits for".to_owned()))?;
        let job = self.in_flight[at].1;
        if !completion.is_good() {
            let sense = Sense::decode(&completion.sense);
            if sense.is_some_and(|sense| sense.key == sense_key::UNIT_ATTENTION) {
                return self.queue(number, job);
            }
            let status = completion.status;
            return Err(End::Wrong(format!("{job:?}: status {status:#04x}, sense {sense:02x?}")));
        }
        self.in_flight.swap_remove(at);
        let (Job::Change { slot, .. } | Job::Read { slot }) = job else {
            self.synced += 1;
            return self.answered(number);
        };
        self.held[slot as usize].1 = false;
        if let Job::Change { how, .. } = job {
            self.held[slot as usize].0 = match how {
                How::Write { .. } => Held::Write(number),
                How::Same => Held::Same(number),
                How::Unmap => Held::Zeroes,
            };
            self.written += 1;
            return self.answered(number);
        }
        let held = self.held[slot as usize].0;
        if completion.data != self.contents(slot, held) {
            return Err(End::Wrong(format!("slot {slot} does not hold {held:?}")));
        }
        self.verified += 1;
        Ok(())
    }

    fn answered(&mut self, number: u64) -> Result<(), End> {
        writeln!(self.journal, "d {number}").map_err(|error| End::Wrong(error.to_string()))
    }
}
