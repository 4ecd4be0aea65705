//! A random life: by seed a step, a fault, a step; then calm, in which everything must be answered and given back.

use std::panic::{AssertUnwindSafe, catch_unwind};

use lunette::bdev::ChannelState;
use lunette::limits::SWALLOW_NS;
use lunette::qos::Limits;
use lunette::reactor::Bug;
use lunette::reactor::message::NopInTimes;
use lunette::sim::rng::Rng;
use lunette::time::{MS_NS, SECOND_NS};
use lunette_initiator::config::{Config, Offer};
use lunette_initiator::lun as lun_field;
use lunette_initiator::session::{Attribute, Function, Tmf};

use super::oracle::Step;
use super::reserve::{self, Habit};
use super::what::What;
use super::world::{DiskOptions, Options, TARGET, World};

/// The session of a client that goes on, and how its connections are made.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) session: Option<usize>,
    has_digests: bool,
    config: Config,
}

/// A random world.
pub(super) struct Chaos {
    pub(super) world: World,
    pub(super) clients: Vec<Client>,
    /// Faults come one in so many steps.
    fault_every: u64,
    /// So few commands outstanding in a session.
    depth: usize,
    hot_blocks: u64,
    /// Disks end an IO in one of so many steps that could.
    laziness: u64,
    pub(super) habit: Habit,
    /// The volatile cache is switched off and on.
    pub(super) selects: bool,
    /// Blocks are copied, with tokens and without; disks are sanitized.
    copies: bool,
    sanitizes: bool,
    /// What may be asked is limited, otherwise now and then.
    paces: bool,
    /// Time passes at this step.
    jump_at: Option<Step>,
}

/// Whether blocks are copied in a seed's world, unless they are reserved.
pub(super) fn copies(seed: u64) -> bool {
    seed % 4 == 3
}

/// Whether disks are sanitized, unless they are reserved.
pub(super) fn sanitizes(seed: u64) -> bool {
    seed % 8 == 5
}

/// Whether initiators agree to FastAbort; some of them.
fn aborts_fast(seed: u64, client: usize) -> bool {
    seed % 5 == 3 && client.is_multiple_of(2)
}

/// Whether units and initiators have limits.
pub(super) fn paces(seed: u64) -> bool {
    seed % 4 == 2
}

/// Lives through a seed. The hash of all that happened, or what went wrong.
pub(super) fn run(seed: u64, bug: Option<Bug>) -> Result<u64, String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut chaos = Chaos::new(seed, bug);
        chaos.live().map(|()| chaos.world.hash())
    }));
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panic: {}", text.unwrap_or("?")))
    })
}

/// Lives through a seed once more and prints what happens.
pub(super) fn tell(seed: u64, bug: Option<Bug>) {
    let mut chaos = Chaos::new(seed, bug);
    chaos.world.trace = Some(Vec::new());
    let outcome = catch_unwind(AssertUnwindSafe(|| chaos.live()));
    for line in chaos.world.trace.iter().flatten() {
        println!("{line}");
    }
    println!("seed {seed}: {outcome:?}");
}

fn offer(rng: &mut Rng, has_digests: bool) -> Offer {
    let is_tight = rng.one_in(3);
    Offer {
        initial_r2t: Some(rng.one_in(2)),
        immediate_data: Some(!rng.one_in(3)),
        max_burst_bytes: Some(if is_tight { 8192 } else { 1 << 20 }),
        first_burst_bytes: Some(if is_tight { 4096 } else { 65536 }),
        max_recv_bytes: Some(rng.pick(&[2048, 8192, 65536])),
        max_outstanding_r2t: Some(rng.pick(&[1, 2, 4])),
        ..Offer::with_digests(has_digests, has_digests)
    }
}

impl Chaos {
    fn new(seed: u64, bug: Option<Bug>) -> Chaos {
        let mut rng = Rng::new(seed ^ 0x6c75_6e65_7474_6521);
        let big = DiskOptions { blocks: 256, block_bytes: 4096 };
        let small = DiskOptions { blocks: 512, block_bytes: 512 };
        let disks = match rng.below(4) {
            0 => vec![big],
            1 => vec![small],
            2 => vec![big, small],
            _ => vec![small, big, small],
        };
        // The other seeds' stories stay as they are.
        let (copies, sanitizes) = (copies(seed), sanitizes(seed));
        let disks = if copies { vec![disks[0]; 2] } else { disks };
        let seconds = |ask, close| NopInTimes { ask_ns: ask * SECOND_NS, close_ns: close * SECOND_NS };
        let options = Options {
            reactors: rng.pick(&[1, 2, 2, 3]),
            disks,
            bug,
            buffers: if rng.one_in(4) { [8, 4, 3, 2] } else { [64, 32, 16, 6] },
            nop_in: if rng.one_in(2) { seconds(30, 60) } else { seconds(1, 3) },
        };
        let count = 2 + rng.index(4);
        let clients = (0..count)
            .map(|index| {
                let has_digests = rng.one_in(3);
                let name = format!("iqn.2026-01.sim:i{index}");
                let task_reporting = aborts_fast(seed, index).then(|| "FastAbort,RFC3720".to_owned());
                let config = Config {
                    offer: Offer { task_reporting, ..offer(&mut rng, has_digests) },
                    tolerate_unmatched: has_digests,
                    ..Config::new(&name, TARGET)
                };
                Client { session: None, has_digests, config }
            })
            .collect();
        let fault_every = rng.pick(&[20, 40, 80]) * if copies { 3 } else { 1 };
        let depth = rng.pick(&[3, 8, 20]);
        let hot_blocks = rng.pick(&[2, 6, 24]);
        let laziness = rng.pick(&[1, 3, 20]);
        let mut world = World::new(rng.word(), options);
        for disk in &world.disks {
            disk.set_manners(rng.one_in(2), rng.one_in(3));
            disk.set_latency(match laziness {
                1 => 2 * MS_NS,
                3 => 200 * MS_NS,
                _ => 15 * SECOND_NS,
            });
        }
        let (habit, selects) = (Habit::draw(&mut rng), rng.one_in(4));
        world.rng = rng;
        let (copies, sanitizes) = (copies && habit == Habit::Never, sanitizes && habit == Habit::Never);
        Chaos {
            world,
            clients,
            fault_every,
            depth,
            hot_blocks,
            laziness,
            habit,
            selects,
            copies,
            sanitizes,
            paces: paces(seed),
            jump_at: None,
        }
    }

    /// A unit, or some initiators, get other limits, or none.
    fn repace(&mut self) {
        let rng = &mut self.world.rng;
        let rate = rng.pick(&[0, 3, 50, 2000]);
        let bytes = rng.pick(&[0, 0, 20_000, 4_000_000]);
        let guaranteed_ios = rng.pick(&[0, 0, 20]);
        let burst_ns = rng.pick(&[1, MS_NS, SECOND_NS]);
        let limits = Limits { ios: rate, bytes, guaranteed_ios, burst_ns, ..Limits::NONE };
        let limits = if rng.one_in(4) { Limits { read_bytes: bytes, bytes: 0, ..limits } } else { limits };
        let unit = rng.index(self.world.disks.len());
        let pattern = rng.pick(&["*", "*i0", "*i1"]);
        // Refused where it is pulled out.
        let _ = match self.world.rng.one_in(2) {
            true => self.world.control.set_bdev_limits(&format!("disk{unit}"), limits),
            false => self.world.control.set_initiator_limits(pattern, limits),
        };
        self.world.note(|| format!("limits of {unit} or {pattern}: {limits:?}"), &[24, rate, bytes]);
    }

    /// Nobody has limits any more.
    fn lift(&mut self) {
        for unit in 0..self.world.disks.len() {
            // It is not there where it has been pulled out, nor are its limits.
            let _ = self.world.control.set_bdev_limits(&format!("disk{unit}"), Limits::NONE);
        }
        for pattern in ["*", "*i0", "*i1"] {
            self.world.control.set_initiator_limits(pattern, Limits::NONE).expect("it is a pattern");
        }
    }

    fn live(&mut self) -> Result<(), String> {
        let mut steps = 300 + self.world.rng.below(900);
        for client in 0..self.clients.len() {
            self.log_in(client);
        }
        if self.habit != Habit::Never || self.selects || self.copies || self.sanitizes {
            // Many answers are unit attentions, or that it is another's turn.
            steps *= 2;
            self.settle_in()?;
        }
        for _ in 0..steps {
            self.step()?;
        }
        self.world.heal();
        if self.paces {
            self.lift();
        }
        self.calm(false).map_err(|error| format!("in calm: {error}"))?;
        self.last_words()?;
        Ok(())
    }

    pub(super) fn log_in(&mut self, client: usize) {
        let capacity = self.world.rng.pick(&[600, 5000, 100_000, 4_000_000]);
        let config = self.clients[client].config.clone();
        let session = self.world.open(client, config, capacity);
        self.world.note(|| format!("client {client} logs in, session {}", session + 1), &[20, client as u64]);
        self.clients[client].session = Some(session);
    }

    /// A session that a client has, logged in and alive.
    fn live_session(&mut self) -> Option<usize> {
        let client = self.world.rng.index(self.clients.len());
        let index = self.clients[client].session?;
        let session = &self.world.sessions[index];
        (session.is_logged_in
            && !session.is_over
            && !session.is_logging_out
            && !session.initiator.has_ended())
        .then_some(index)
    }

    fn step(&mut self) -> Result<(), String> {
        self.world.step += 1;
        self.world.now = self.world.now.after_ns(self.world.rng.below(20_000));
        if self.world.step.is_multiple_of(64) {
            self.look_deeper()?;
        }
        let chance = self.world.rng.below(100);
        match chance {
            0..25 => {
                let index = self.world.rng.index(self.world.cores.len());
                if self.world.step >= self.world.cores[index].stalled_until {
                    self.world.turn(index)?;
                }
            }
            25..30 => self.world.turn_control(),
            30..42 => {
                let index = self.world.rng.index(self.world.cores.len());
                if self.world.rng.one_in(2) {
                    self.world.relay_down(index);
                } else {
                    self.world.relay_up(index);
                }
            }
            42..70 => self.deliver_some()?,
            70..82 => {
                if !self.world.rng.one_in(self.laziness) {
                    return Ok(());
                }
                let index = self.world.rng.index(self.world.disks.len());
                let disk = self.world.disks[index].clone();
                let which = self.world.rng.index(disk.in_flight_count());
                disk.end_one(which);
                self.world.look()?;
            }
            82..84 => {
                let ns = self.world.rng.pick(&[MS_NS, MS_NS, MS_NS, 50 * MS_NS, 700 * MS_NS, 3 * SECOND_NS]);
                self.world.now = self.world.now.after_ns(ns);
            }
            84..98 => self.ask(),
            _ => self.revive(),
        }
        if self.world.rng.one_in(self.fault_every) {
            self.fault();
        }
        if self.paces && self.world.rng.one_in(30) {
            self.repace();
        }
        let is_free = self.jump_at.is_none_or(|at| at < self.world.step);
        if self.copies && is_free && self.world.rng.one_in(8) && self.world.interrupt_copy() {
            // By then it is known, and for longer than it is waited for what a disk does not have.
            self.jump_at = Some(self.world.step + 100);
        }
        if self.jump_at == Some(self.world.step) {
            self.world.now = self.world.now.after_ns(SWALLOW_NS);
        }
        Ok(())
    }

    fn deliver_some(&mut self) -> Result<(), String> {
        let open: Vec<usize> =
            (0..self.world.sessions.len()).filter(|index| !self.world.sessions[*index].is_over).collect();
        if open.is_empty() {
            return Ok(());
        }
        let index = self.world.rng.pick(&open);
        let bytes = self.world.rng.pick(&[1, 47, 48, 100, 1300, 9000, usize::MAX, usize::MAX, usize::MAX]);
        if self.world.rng.one_in(2) {
            self.world.sessions[index].wire.deliver_to_target(bytes);
            self.world.pump(index);
        } else {
            self.world.deliver(index, bytes)?;
        }
        Ok(())
    }

    fn extent(&mut self, unit: usize) -> (u64, u32) {
        let rng = &mut self.world.rng;
        let disk = self.world.options.disks[unit];
        if disk.block_bytes == 4096 && rng.one_in(7) {
            // Several pieces.
            return (rng.below(8), 65 + u32::try_from(rng.below(140)).unwrap_or(0));
        }
        let blocks = 1 + rng.pick(&[0, 0, 1, 3, 7]);
        let near = if rng.one_in(8) { disk.blocks - u64::from(blocks) } else { self.hot_blocks };
        (rng.below(near), blocks)
    }

    fn ask(&mut self) {
        let Some(index) = self.live_session() else { return };
        if self.world.sessions[index].ops.len() >= self.depth {
            return;
        }
        let unit = self.world.rng.index(self.world.disks.len());
        let (lba, blocks) = self.extent(unit);
        let what = match self.world.rng.below(20) {
            _ if self.habit != Habit::Never && self.world.rng.one_in(5) => {
                let client = self.world.sessions[index].client;
                reserve::draw(&mut self.world.rng, self.habit, client, self.clients.len())
            }
            _ if self.selects && self.world.rng.one_in(24) => {
                What::Select { write_cache: self.world.rng.one_in(3) }
            }
            _ if self.copies && self.world.rng.one_in(2) => {
                self.world.draw_copy(unit, lba, blocks, self.hot_blocks)
            }
            _ if self.sanitizes && self.world.rng.one_in(12) => {
                let blocks = u32::try_from(self.world.options.disks[unit].blocks).unwrap_or(0);
                self.world.rng.pick(&[
                    What::Sanitize { blocks },
                    What::Sanitize { blocks },
                    What::ExitFailure,
                ])
            }
            0..6 => What::Write { lba, blocks, fua: self.world.rng.one_in(4) },
            6 => What::WriteAndVerify { lba, blocks },
            7 => What::Same { lba, blocks },
            8 => What::Zero { lba, blocks, is_unmap: self.world.rng.one_in(2) },
            9 | 10 => What::Swap { lba, old: self.world.oracle.held(unit, lba) },
            11..16 => What::Read { lba, blocks },
            16..18 => What::Sync,
            18 => What::TestUnitReady,
            _ => self.world.rng.pick(&[What::Inquiry, What::ReportLuns, What::ReadCapacity]),
        };
        let attribute = match self.world.rng.below(20) {
            0 => Attribute::HeadOfQueue,
            1 | 2 => Attribute::Ordered,
            _ => Attribute::Simple,
        };
        let immediate = self.world.rng.one_in(40);
        let op = self.world.issue(index, unit, what, attribute, immediate);
        self.world.note(
            || format!("session {} asks {op:?} {unit} {what:?}", index + 1),
            &[21, index as u64, unit as u64],
        );
    }

    /// A client without a session logs in again.
    fn revive(&mut self) {
        let client = self.world.rng.index(self.clients.len());
        let is_down = self.clients[client].session.is_none_or(|index| {
            let session = &self.world.sessions[index];
            session.is_over || session.login_failed || session.initiator.has_ended()
        });
        if is_down {
            self.log_in(client);
        }
    }

    fn fault(&mut self) {
        let kind = self.world.rng.below(20);
        self.world.note(|| format!("fault {kind}"), &[22, kind]);
        let unit = self.world.rng.index(self.world.disks.len());
        let disk = self.world.disks[unit].clone();
        match kind {
            0 | 1 => {
                if let Some(index) = self.live_session() {
                    self.world.sessions[index].wire.reset();
                    self.world.lose(index);
                    if self.world.rng.one_in(2) {
                        let client = self.world.sessions[index].client;
                        self.log_in(client);
                    }
                }
            }
            2 => {
                if let Some(index) = self.live_session() {
                    self.world.sessions[index].wire.end();
                }
            }
            3 => {
                disk.fail_next(1);
                self.world.has_failed = true;
            }
            4 => disk.set_queue_max(self.world.rng.index(3)),
            5 => disk.set_state(ChannelState::Opening),
            6 | 7 => {
                disk.set_queue_max(64);
                disk.set_state(ChannelState::Ready);
            }
            8 => {
                disk.set_latency(self.world.rng.pick(&[10_000, 2 * MS_NS, 900 * MS_NS, 60 * SECOND_NS]));
            }
            9..13 => self.manage(unit),
            13 => {
                let most = self.world.options.disks[unit].blocks;
                let blocks = self.world.rng.pick(&[3, 8, most / 2, most]);
                self.world.resize(unit, blocks);
            }
            14 => match self.world.rng.below(4) {
                0 | 1 => self.world.map(unit, true),
                2 => self.world.map(unit, false),
                _ => self.world.pull(unit),
            },
            15 => {
                let index = self.world.rng.index(self.world.cores.len());
                self.world.cores[index].stalled_until = self.world.step + 20 + self.world.rng.below(80);
            }
            16 | 17 => {
                // The same nexus again, while its session lives.
                let client = self.world.rng.index(self.clients.len());
                self.log_in(client);
            }
            18 => {
                let client = self.world.rng.index(self.clients.len());
                if self.clients[client].has_digests
                    && let Some(index) = self.clients[client].session
                    && self.world.sessions[index].is_logged_in
                {
                    let flying = self.world.sessions[index].wire.flying_to_target();
                    let (at, bit) = (self.world.rng.index(flying), self.world.rng.word().to_le_bytes()[0]);
                    let session = &mut self.world.sessions[index];
                    session.is_flipped |= session.wire.flip(at, bit);
                }
            }
            _ => {
                if let Some(index) = self.live_session() {
                    let session = &mut self.world.sessions[index];
                    if self.world.rng.one_in(3) {
                        session.is_logging_out =
                            session.initiator.logout(0, self.world.rng.one_in(2)).is_ok();
                    } else {
                        for _ in 0..self.world.rng.below(80) {
                            let _ = session.initiator.ping(0, &[7; 20], true);
                        }
                    }
                    self.world.pump(index);
                }
            }
        }
    }

    fn manage(&mut self, unit: usize) {
        let Some(index) = self.live_session() else { return };
        let lun = lun_field::from_number(u16::try_from(unit).unwrap_or(0));
        let session = &self.world.sessions[index];
        let ops: Vec<(usize, u32)> = session
            .ops
            .values()
            .filter(|op| session.initiator.is_sent(op.itt))
            .map(|op| (op.unit, op.itt))
            .collect();
        let function = match self.world.rng.below(16) {
            0..6 => Function::AbortTask,
            6..9 => Function::AbortTaskSet,
            9 => Function::ClearTaskSet,
            10..14 => Function::LogicalUnitReset,
            14 => Function::TargetWarmReset,
            _ => Function::TargetColdReset,
        };
        let mut tmf = Tmf::new(function, lun);
        if function == Function::AbortTask {
            if ops.is_empty() {
                return;
            }
            let (unit, itt) = self.world.rng.pick(&ops);
            tmf = Tmf::abort(lun_field::from_number(u16::try_from(unit).unwrap_or(0)), itt);
        }
        tmf.immediate = !self.world.rng.one_in(4);
        self.world.manage(index, unit, tmf);
        self.world.note(|| format!("session {} manages {tmf:?}", index + 1), &[23, index as u64]);
    }

    pub(super) fn look_deeper(&mut self) -> Result<(), String> {
        for unit in 0..self.world.disks.len() {
            let contents = self.world.disks[unit].after_power_cut();
            self.world.oracle.after_power_cut(unit, &contents)?;
        }
        let oldest =
            self.world.sessions.iter().flat_map(|session| session.ops.values()).map(|op| op.start).min();
        self.world.oracle.prune(oldest.unwrap_or(self.world.step));
        Ok(())
    }
}
