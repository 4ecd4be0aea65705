//! The mix of commands, and the sessions that send it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lunette::bdev::error::{Fault, Kind, Rule, RuleId};
use lunette_initiator::scsi::{Sense, cdb, sense_key};
use lunette_initiator::session::{Completion, Tmf};
use lunette_initiator::socket::wait_any;
use lunette_initiator::{Client, Command, Config, Data, Event, Offer, lun};

use crate::world::{BLOCKS, LUNS, TARGET, World};

const DEPTH: usize = 16;
const BLOCK_BYTES: u32 = 512;
const SMALL_BLOCKS: u32 = 8;
const LARGE_BLOCKS: u32 = 256;
/// The last transfer of the disk: a READ of it is held by the device, so that it can be aborted.
const HELD_LBA: u64 = BLOCKS - SMALL_BLOCKS as u64;
/// So many blocks WRITE SAME and UNMAP cover: several IOs.
const SPREAD_BLOCKS: u32 = 1024;
/// What else is done to the medium, one after another.
const SPECIALS: [&str; 8] = [
    "COMPARE AND WRITE",
    "WRITE SAME",
    "WRITE SAME of zeroes",
    "UNMAP",
    "VERIFY",
    "VERIFY with a comparison",
    "WRITE AND VERIFY",
    "ORWRITE",
];
/// A step of the whole load, in commands: at each one rare thing is done.
const STEP: u64 = 250;

/// What has been done.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) commands: u64,
    pub(crate) on_reactor: [u64; 2],
    small_reads: u64,
    large_reads: u64,
    immediate_writes: u64,
    large_immediate_writes: u64,
    r2t_writes: u64,
    large_r2t_writes: u64,
    with_digests: u64,
    flushes: u64,
    pings: u64,
    aborts: u64,
    attentions: u64,
    refusals: u64,
    on_file: u64,
    on_nvme: u64,
    miscompares: u64,
    specials: [u64; SPECIALS.len()],
}

impl Tally {
    /// Each part by name, for a look at whether it is there at all.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let parts = [
            ("small reads", self.small_reads),
            ("large reads", self.large_reads),
            ("small immediate writes", self.immediate_writes),
            ("large writes with immediate and unsolicited data", self.large_immediate_writes),
            ("small R2T writes", self.r2t_writes),
            ("large R2T writes", self.large_r2t_writes),
            ("commands with digests", self.with_digests),
            ("flushes", self.flushes),
            ("NOPs", self.pings),
            ("aborts", self.aborts),
            ("unit attentions", self.attentions),
            ("submissions refused as full", self.refusals),
            ("commands at a file", self.on_file),
            ("commands at an NVMe namespace", self.on_nvme),
            ("comparisons that failed", self.miscompares),
        ];
        parts.into_iter().chain(SPECIALS.into_iter().zip(self.specials))
    }

    pub(crate) fn since(&self, before: &Tally) -> Tally {
        Tally {
            commands: self.commands - before.commands,
            on_reactor: [0, 1].map(|reactor| self.on_reactor[reactor] - before.on_reactor[reactor]),
            small_reads: self.small_reads - before.small_reads,
            large_reads: self.large_reads - before.large_reads,
            immediate_writes: self.immediate_writes - before.immediate_writes,
            large_immediate_writes: self.large_immediate_writes - before.large_immediate_writes,
            r2t_writes: self.r2t_writes - before.r2t_writes,
            large_r2t_writes: self.large_r2t_writes - before.large_r2t_writes,
            with_digests: self.with_digests - before.with_digests,
            flushes: self.flushes - before.flushes,
            pings: self.pings - before.pings,
            aborts: self.aborts - before.aborts,
            attentions: self.attentions - before.attentions,
            refusals: self.refusals - before.refusals,
            on_file: self.on_file - before.on_file,
            on_nvme: self.on_nvme - before.on_nvme,
            miscompares: self.miscompares - before.miscompares,
            specials: std::array::from_fn(|which| self.specials[which] - before.specials[which]),
        }
    }
}

struct Session {
    client: Client,
    reactor: usize,
    immediate: bool,
    digests: bool,
    in_flight: usize,
    /// A command that the device holds, and whether its abort was asked for.
    held: Option<(u32, bool)>,
    /// Commands so far: where the next one goes, and what it is.
    turn: u64,
}

/// Two sessions on each of two reactors.
pub(crate) struct Load {
    sessions: Vec<Session>,
    patterns: [Arc<Vec<u8>>; 2],
    /// One block, two, and one of zeroes.
    block: Arc<Vec<u8>>,
    blocks: Arc<Vec<u8>>,
    zeroes: Arc<Vec<u8>>,
    unmaps: [bool; LUNS],
    tally: Tally,
    full: RuleId,
    armed: u32,
}

impl Load {
    pub(crate) fn new(world: &mut World) -> Load {
        let rule = Rule { kind: Kind::Read, first_lba: HELD_LBA, last_lba: HELD_LBA, fault: Fault::Hold };
        world.faults.add(rule, u32::MAX).unwrap();
        let full = world.faults.add(Rule::everywhere(Kind::Any, Fault::Full), 0).unwrap();
        // Immediate and R2T, with and without digests, on each reactor.
        let kinds = [(0, true, false), (1, true, true), (0, false, true), (1, false, false)];
        let sessions = kinds.map(|(reactor, immediate, digests)| {
            let mut config = Config::new("iqn.2025-01.com.example:load", TARGET);
            config.offer = Offer {
                initial_r2t: Some(!immediate),
                immediate_data: Some(immediate),
                max_outstanding_r2t: Some(4),
                max_burst_bytes: Some(65_536),
                first_burst_bytes: Some(32_768),
                ..Offer::with_digests(digests, digests)
            };
            config.keep_read_data = false;
            let client = world.login(reactor, config);
            Session { client, reactor, immediate, digests, in_flight: 0, held: None, turn: reactor as u64 }
        });
        Load {
            sessions: sessions.into_iter().collect(),
            patterns: [SMALL_BLOCKS, LARGE_BLOCKS]
                .map(|blocks| Arc::new(vec![0xa5; (blocks * BLOCK_BYTES) as usize])),
            block: Arc::new(vec![0xa5; BLOCK_BYTES as usize]),
            blocks: Arc::new(vec![0xa5; 2 * BLOCK_BYTES as usize]),
            zeroes: Arc::new(vec![0; BLOCK_BYTES as usize]),
            unmaps: std::array::from_fn(|lun| world.unmaps(lun)),
            tally: Tally::default(),
            full,
            armed: 0,
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// Runs `commands` more commands, with one rare thing at each step, and waits until all are answered.
    pub(crate) fn run(&mut self, world: &mut World, commands: u64) {
        let end = self.tally.commands + commands;
        let mut next_step = self.tally.commands;
        let mut progress = Instant::now();
        loop {
            let goes_on = self.tally.commands < end;
            if goes_on && self.tally.commands >= next_step {
                self.rare(world, self.tally.commands / STEP);
                next_step = self.tally.commands + STEP;
            }
            let mut moved = false;
            for index in 0..self.sessions.len() {
                while goes_on && self.sessions[index].in_flight < DEPTH {
                    self.queue(index);
                }
                moved |= self.turn(index);
            }
            world.service();
            if !goes_on && self.sessions.iter().all(|session| session.in_flight == 0) {
                self.tally.refusals += u64::from(self.armed - world.faults.left(self.full));
                self.armed = world.faults.left(self.full);
                return;
            }
            if moved {
                progress = Instant::now();
                continue;
            }
            assert!(progress.elapsed() < Duration::from_secs(20), "no progress: {:?}", self.tally);
            wait_any(self.sessions.iter().map(|session| &session.client), Duration::from_millis(100))
                .unwrap();
        }
    }

    /// Something that does not happen at every command.
    fn rare(&mut self, world: &mut World, step: u64) {
        let index = (step / 4) as usize % self.sessions.len();
        let session = &mut self.sessions[index];
        match step % 4 {
            0 => {
                session.client.session().ping(0, b"are you there?", step.is_multiple_of(8)).unwrap();
                session.in_flight += 1;
            }
            1 if session.held.is_none() => {
                let read = Command::read(
                    0,
                    cdb::read_16(HELD_LBA, SMALL_BLOCKS, cdb::Flags::default()),
                    SMALL_BLOCKS * BLOCK_BYTES,
                );
                let itt = session.client.session().command(read).unwrap();
                session.held = Some((itt, false));
                session.in_flight += 1;
            }
            2 => world.attend((step / 4) as usize % LUNS),
            3 => {
                let left = world.faults.left(self.full);
                self.tally.refusals += u64::from(self.armed - left);
                self.armed = 64;
                world.faults.arm(self.full, self.armed);
            }
            _ => {}
        }
    }

    fn queue(&mut self, index: usize) {
        let session = &mut self.sessions[index];
        session.turn += 1;
        let turn = session.turn;
        let is_large = turn % 8 == 3;
        let is_write = turn % 2 == 1;
        let blocks = if is_large { LARGE_BLOCKS } else { SMALL_BLOCKS };
        let places = (HELD_LBA / u64::from(LARGE_BLOCKS)) * u64::from(LARGE_BLOCKS);
        let lba = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) % places / u64::from(blocks) * u64::from(blocks);
        let flags = cdb::Flags::default();
        let tally = &mut self.tally;
        // One in five is at the file, two are at the namespace.
        let number = [1, 2, 0, 2, 0][(turn % 5) as usize];
        let lun = lun::from_number(number as u16);
        tally.on_file += u64::from(number == 1);
        tally.on_nvme += u64::from(number == 2);
        let command = if turn % 16 == 5 {
            let which = (turn / 16) as usize % SPECIALS.len();
            let which = if which == 3 && !self.unmaps[number] { 2 } else { which };
            tally.specials[which] += 1;
            let (one, two) = (Data::Out(Arc::clone(&self.block)), Data::Out(Arc::clone(&self.blocks)));
            let eight = Data::Out(Arc::clone(&self.patterns[0]));
            let lba = lba.min(places - u64::from(SPREAD_BLOCKS));
            match which {
                0 => Command::new(lun, cdb::compare_and_write(lba, 1), two),
                1 => Command::new(lun, cdb::write_same_16(lba, SPREAD_BLOCKS, false), one),
                2 => {
                    let zeroes = Data::Out(Arc::clone(&self.zeroes));
                    Command::new(lun, cdb::write_same_16(lba, SPREAD_BLOCKS, self.unmaps[number]), zeroes)
                }
                3 => {
                    let list = cdb::unmap_list(&[(lba, SPREAD_BLOCKS), (lba, 1)]);
                    Command::write(lun, cdb::unmap(list.len() as u16), list)
                }
                4 => Command::new(lun, cdb::verify_16(lba, LARGE_BLOCKS, 0), Data::None),
                5 => Command::new(lun, cdb::verify_16(lba, SMALL_BLOCKS, 1), eight),
                6 => Command::new(lun, cdb::write_and_verify_16(lba, SMALL_BLOCKS, false), eight),
                _ => Command::new(lun, cdb::orwrite_16(lba, SMALL_BLOCKS), eight),
            }
        } else if turn.is_multiple_of(64) {
            tally.flushes += 1;
            Command::new(lun, cdb::synchronize_cache_16(0, 0), Data::None)
        } else if is_write {
            let part = match (session.immediate, is_large) {
                (true, false) => &mut tally.immediate_writes,
                (true, true) => &mut tally.large_immediate_writes,
                (false, false) => &mut tally.r2t_writes,
                (false, true) => &mut tally.large_r2t_writes,
            };
            *part += 1;
            let data = Data::Out(Arc::clone(&self.patterns[usize::from(is_large)]));
            Command::new(lun, cdb::write_16(lba, blocks, flags), data)
        } else {
            let is_large = turn % 8 == 4;
            let blocks = if is_large { LARGE_BLOCKS } else { SMALL_BLOCKS };
            *(if is_large { &mut tally.large_reads } else { &mut tally.small_reads }) += 1;
            let lba = lba / u64::from(blocks) * u64::from(blocks);
            Command::read(lun, cdb::read_16(lba, blocks, flags), blocks * BLOCK_BYTES)
        };
        session.client.session().command(command).unwrap();
        session.in_flight += 1;
    }

    /// Moves bytes and takes events; says whether anything happened.
    fn turn(&mut self, index: usize) -> bool {
        let session = &mut self.sessions[index];
        let mut moved = session.client.service().unwrap();
        if let Some((itt, false)) = session.held
            && session.client.session().is_sent(itt)
        {
            session.client.session().task_management(Tmf::abort(0, itt)).unwrap();
            session.held = Some((itt, true));
            session.in_flight += 1;
            moved = true;
        }
        while let Some(event) = session.client.next_event() {
            moved = true;
            if !matches!(event, Event::Async(..)) {
                session.in_flight -= 1;
            }
            match event {
                Event::Completed(completion) => {
                    self.tally.commands += 1;
                    self.tally.on_reactor[session.reactor] += 1;
                    self.tally.with_digests += u64::from(session.digests);
                    if has_sense(&completion, sense_key::MISCOMPARE) {
                        self.tally.miscompares += 1;
                    } else if !completion.is_good() {
                        self.tally.attentions += 1;
                        assert!(has_sense(&completion, sense_key::UNIT_ATTENTION), "{completion:?}");
                        if session.held.is_some_and(|(itt, _)| itt == completion.itt) {
                            session.held = None;
                        }
                    }
                }
                Event::NopIn { data, .. } => {
                    assert_eq!(data, b"are you there?");
                    self.tally.pings += 1;
                }
                Event::Aborted { by: Some(_), .. } => self.tally.aborts += 1,
                // A disk that has grown.
                Event::Async(message, sense) => {
                    assert_eq!((message.event, &sense[14..16]), (0, &[0x2a, 0x09][..]), "{sense:?}");
                }
                Event::TmfResponse { response, .. } => {
                    // 1: it had ended, in a unit attention.
                    assert!(response <= 1, "TMF response {response}");
                    session.held = None;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(!session.client.is_closed(), "session {index} was closed");
        moved
    }

    /// Ends every session.
    pub(crate) fn log_out(mut self, world: &mut World) {
        for session in &mut self.sessions {
            session.client.logout().unwrap();
            session.client.wait_closed(Duration::from_secs(10)).unwrap();
        }
        world.service();
    }
}

fn has_sense(completion: &Completion, key: u8) -> bool {
    Sense::decode(&completion.sense).is_some_and(|sense| sense.key == key)
}
