//! The loop: one thread, one epoll descriptor, all connections.

use std::io::{IsTerminal, Write as _};
use std::mem::MaybeUninit;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity, set_current_timer_slack};

use crate::aim::{Aim, Unit};
use crate::bench::{Bench, Pace};
use crate::clock::{Clock, SECOND_NS, seconds_to_ns, thread_cpu};
use crate::conn::{Conn, Lost};
use crate::error::LoadError;
use crate::ledger::{self, Ledger};
use crate::login;
use crate::options::Options;
use crate::report::Report;
use crate::wire;

/// Events taken at once.
const EVENTS_MAX: usize = 256;
/// How long to look again and again before waiting in the kernel: a wake-up costs more than most answers take.
const SPIN_NS: u64 = 50_000;
/// How long IOs in flight may take when the run is over, or at any time while nothing ends.
const PATIENCE_NS: u64 = 20 * SECOND_NS;
/// How long to wait for the answers to logouts.
const LOGOUT_NS: u64 = 2 * SECOND_NS;

/// Runs what the options ask for.
///
/// # Errors
/// It could not begin. What goes wrong later is in the report.
pub fn run(options: &Options) -> Result<Report, LoadError> {
    options.check()?;
    if let Some(cpu) = options.cpu {
        pin(cpu)?;
    }
    // Thousands of connections: as many descriptors as the system lets us have.
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    // Waits end when they are to, not 50 µs later.
    let _ = set_current_timer_slack(NonZeroU64::new(1));
    let clock = Clock::start();
    let count = options.connections + options.idle;
    let (units, ready, login_ns) = if options.wire {
        let units = wire::units(options)?;
        let begin_ns = clock.now_ns();
        let ready = wire::connect_all(options.portal, count)?;
        (units, ready, clock.now_ns() - begin_ns)
    } else {
        let config = login::config(options)?;
        let units = login::units(options, &config)?;
        let begin_ns = clock.now_ns();
        let ready = login::log_in(options.portal, &config, count)?;
        (units, ready, clock.now_ns() - begin_ns)
    };
    let ledger = if options.verify { Some(ledger_for(options, &units)?) } else { None };
    let aim = Aim::new(units, options.rw, options.seed);
    let mut bench = Bench::new(aim, options.bs, options.qd, ledger, clock);
    let mut engine = Engine::new(options)?;
    for (index, (stream, terms, received)) in (0..).zip(ready) {
        let depth = if index < options.connections { options.qd } else { 0 };
        let mut conn = Conn::new(stream, terms, received, index, depth, &bench);
        conn.set_cursor(bench.aim.cursor(index, options.connections));
        engine.add(conn)?;
    }
    engine.run(&mut bench);
    Ok(engine.report(options, &mut bench, login_ns))
}

fn pin(cpu: usize) -> Result<(), LoadError> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(LoadError::Usage(format!("--cpu: there is no CPU {cpu}")));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|errno| LoadError::Cpu(cpu, errno.into()))
}

fn ledger_for(options: &Options, units: &[Unit]) -> Result<Ledger, LoadError> {
    let places: u64 = units.iter().map(|unit| unit.places).sum();
    let at_once = u64::from(options.connections) * u64::from(options.qd);
    let least = units.iter().map(|unit| unit.places).min().unwrap_or(0);
    if places > ledger::PLACES_MAX {
        return Err(LoadError::Usage(format!(
            "--verify: {places} places are too many to remember; use --span"
        )));
    }
    if least < at_once {
        return Err(LoadError::Usage(format!(
            "--verify: {least} places are too few for {at_once} IOs at a time; use a larger --span or a smaller --qd"
        )));
    }
    // What earlier runs left is of other generations, nearly always.
    let seconds = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    Ok(Ledger::new(units, (crate::aim::mix(seconds) >> 32) as u32))
}

/// Where a run stands. Each phase ends at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Warmup,
    Measuring,
    /// No new IOs; those in flight end.
    Draining,
    LoggingOut,
    Over,
}

#[derive(Debug)]
struct Engine {
    epoll: OwnedFd,
    /// None: lost. The busy ones come first.
    conns: Vec<Option<Conn>>,
    busy_count: usize,
    alive_count: usize,
    interval_ns: Option<f64>,
    warmup_ns: u64,
    measure_ns: u64,
    is_wire: bool,
    shows_progress: bool,
    phase: Phase,
    phase_end_ns: u64,
    /// IOs that should have begun, all connections together.
    scheduled: u64,
    measured_ns: u64,
    measure_begin_ns: u64,
    cpu: Duration,
    unissued: u64,
    tick_ns: u64,
    tick_ios: u64,
    /// When an IO last ended.
    alive_ns: u64,
}

impl Engine {
    fn new(options: &Options) -> Result<Self, LoadError> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(std::io::Error::from)?;
        Ok(Self {
            epoll,
            conns: Vec::new(),
            busy_count: options.connections as usize,
            alive_count: 0,
            interval_ns: options.rate.map(|rate| SECOND_NS as f64 / rate),
            warmup_ns: seconds_to_ns(options.warmup),
            measure_ns: seconds_to_ns(options.seconds),
            is_wire: options.wire,
            shows_progress: !options.quiet && std::io::stderr().is_terminal(),
            phase: Phase::Warmup,
            phase_end_ns: 0,
            scheduled: 0,
            measured_ns: 0,
            measure_begin_ns: 0,
            cpu: Duration::ZERO,
            unissued: 0,
            tick_ns: 0,
            tick_ios: 0,
            alive_ns: 0,
        })
    }

    fn add(&mut self, conn: Conn) -> Result<(), LoadError> {
        let data = EventData::new_u64(self.conns.len() as u64);
        epoll::add(&self.epoll, conn.stream(), data, EventFlags::IN).map_err(std::io::Error::from)?;
        self.conns.push(Some(conn));
        self.alive_count += 1;
        Ok(())
    }

    fn run(&mut self, bench: &mut Bench) {
        let now_ns = bench.tick();
        let connections = self.busy_count as u64;
        bench.pace = self.interval_ns.map(|interval_ns| Pace { origin_ns: now_ns, interval_ns, connections });
        self.phase_end_ns = now_ns + self.warmup_ns;
        (self.tick_ns, self.alive_ns) = (now_ns + SECOND_NS, now_ns);
        for index in 0..self.busy_count {
            self.turn(index, false, bench);
        }
        let mut events = [const { MaybeUninit::uninit() }; EVENTS_MAX];
        let mut quiet_since_ns = now_ns;
        while self.phase != Phase::Over {
            let wait_ns = self.wait_ns(quiet_since_ns, bench);
            let ready = self.ready(&mut events, wait_ns);
            let now_ns = bench.tick();
            if !ready.is_empty() {
                quiet_since_ns = now_ns;
            }
            for event in ready {
                let flags = event.flags;
                let can_receive = flags.intersects(EventFlags::IN | EventFlags::ERR | EventFlags::HUP);
                self.turn(event.data.u64() as usize, can_receive, bench);
            }
            self.schedule(bench);
            self.step(bench);
        }
    }

    /// How long the next wait may take: not at all while answers are about to come.
    fn wait_ns(&self, quiet_since_ns: u64, bench: &Bench) -> u64 {
        if bench.now_ns - quiet_since_ns < SPIN_NS {
            return 0;
        }
        let mut until_ns = self.phase_end_ns.min(self.tick_ns);
        if let Some(pace) = bench.pace.as_ref().filter(|_| bench.is_running) {
            // Being too late is worse than looking a few times more.
            until_ns = until_ns.min(pace.due_ns(self.scheduled).saturating_sub(SPIN_NS));
        }
        until_ns.saturating_sub(bench.now_ns)
    }

    fn ready<'a>(&self, events: &'a mut [MaybeUninit<Event>; EVENTS_MAX], wait_ns: u64) -> &'a [Event] {
        if wait_ns > 0 {
            // `epoll_wait` counts milliseconds; `ppoll` can wait for the same in nanoseconds.
            let timeout = Timespec {
                tv_sec: (wait_ns / SECOND_NS).cast_signed(),
                tv_nsec: (wait_ns % SECOND_NS).cast_signed(),
            };
            let _ = poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&timeout));
        }
        match epoll::wait(&self.epoll, events, Some(&Timespec::default())) {
            Ok((ready, _)) => ready,
            // A signal; the descriptor is ours and in order.
            Err(errno) => {
                debug_assert_eq!(errno, Errno::INTR);
                &[]
            }
        }
    }

    /// One connection's turn.
    fn turn(&mut self, index: usize, can_receive: bool, bench: &mut Bench) {
        let Some(Some(conn)) = self.conns.get_mut(index) else { return };
        let was_blocked = conn.is_blocked();
        let result = if can_receive { conn.receive(bench) } else { Ok(()) };
        let result = result.and_then(|()| conn.pump(bench));
        match result {
            Ok(()) if conn.is_blocked() != was_blocked => {
                let out = if was_blocked { EventFlags::empty() } else { EventFlags::OUT };
                let data = EventData::new_u64(index as u64);
                let changed = epoll::modify(&self.epoll, conn.stream(), data, EventFlags::IN | out);
                debug_assert_eq!(changed, Ok(()));
            }
            Ok(()) => {}
            Err(lost) => self.lost(index, lost, bench),
        }
    }

    #[cold]
    fn lost(&mut self, index: usize, Lost(why): Lost, bench: &mut Bench) {
        // Closing the socket takes it out of the epoll set.
        let Some(conn) = self.conns[index].take() else { return };
        self.alive_count -= 1;
        if self.phase != Phase::LoggingOut {
            let in_flight = conn.in_flight();
            bench.tally.trouble(|| format!("connection {index} lost with {in_flight} IOs in flight: {why}"));
        }
    }

    /// Open loop: gives the connections what is due.
    fn schedule(&mut self, bench: &mut Bench) {
        let Some(pace) = bench.pace.filter(|_| bench.is_running) else { return };
        let now_ns = bench.now_ns;
        // At most one round at a time, so that answers are received in between.
        for _ in 0..self.busy_count {
            if pace.due_ns(self.scheduled) > now_ns {
                break;
            }
            let index = (self.scheduled % pace.connections) as usize;
            self.scheduled += 1;
            if let Some(conn) = &mut self.conns[index] {
                conn.set_due(self.scheduled.div_ceil(pace.connections));
                self.turn(index, false, bench);
            }
        }
    }

    /// Goes on to the next phase when it is time.
    fn step(&mut self, bench: &mut Bench) {
        let now_ns = bench.now_ns;
        if now_ns >= self.tick_ns {
            self.second(bench);
        }
        match self.phase {
            Phase::Warmup if now_ns >= self.phase_end_ns => {
                self.phase = Phase::Measuring;
                self.phase_end_ns = now_ns + self.measure_ns;
                self.measure_begin_ns = now_ns;
                self.cpu = thread_cpu();
                bench.tally.is_measuring = true;
            }
            Phase::Measuring if now_ns >= self.phase_end_ns => {
                self.measured_ns = now_ns - self.measure_begin_ns;
                self.cpu = thread_cpu().saturating_sub(self.cpu);
                self.unissued = self.busy().map(Conn::late).sum();
                self.drain(bench);
            }
            Phase::Warmup | Phase::Measuring if self.busy().next().is_none() => {
                if self.phase == Phase::Measuring {
                    self.measured_ns = now_ns - self.measure_begin_ns;
                    self.cpu = thread_cpu().saturating_sub(self.cpu);
                }
                self.drain(bench);
            }
            Phase::Draining
                if now_ns >= self.phase_end_ns || self.busy().all(|conn| conn.in_flight() == 0) =>
            {
                self.finish(bench)
            }
            Phase::LoggingOut if self.alive_count == 0 || now_ns >= self.phase_end_ns => {
                self.phase = Phase::Over;
            }
            _ => {}
        }
    }

    fn busy(&self) -> impl Iterator<Item = &Conn> {
        self.conns[..self.busy_count].iter().flatten()
    }

    fn drain(&mut self, bench: &mut Bench) {
        bench.tally.is_measuring = false;
        bench.is_running = false;
        self.phase = Phase::Draining;
        self.phase_end_ns = bench.now_ns + PATIENCE_NS;
    }

    fn finish(&mut self, bench: &mut Bench) {
        for index in 0..self.busy_count {
            let in_flight = self.conns[index].as_ref().map_or(0, Conn::in_flight);
            if in_flight > 0 {
                self.lost(index, Lost("no answer when the run was over".to_owned()), bench);
            }
        }
        if self.is_wire {
            self.phase = Phase::Over;
            return;
        }
        self.phase = Phase::LoggingOut;
        self.phase_end_ns = bench.now_ns + LOGOUT_NS;
        for index in 0..self.conns.len() {
            if let Some(conn) = &mut self.conns[index] {
                conn.log_out();
                self.turn(index, false, bench);
            }
        }
    }

    /// Once a second: progress, and patience.
    fn second(&mut self, bench: &mut Bench) {
        self.tick_ns = bench.now_ns + SECOND_NS;
        let ios = bench.tally.ios_ever - self.tick_ios;
        self.tick_ios = bench.tally.ios_ever;
        if ios > 0 || self.busy().all(|conn| conn.in_flight() == 0) {
            self.alive_ns = bench.now_ns;
        } else if bench.now_ns - self.alive_ns >= PATIENCE_NS {
            for index in 0..self.busy_count {
                self.lost(index, Lost("nothing ends any more".to_owned()), bench);
            }
        }
        if self.shows_progress {
            let phase = match self.phase {
                Phase::Warmup => "warm-up",
                Phase::Measuring => "measuring",
                _ => "ending",
            };
            let mib_per_s = (ios * u64::from(bench.io_bytes)) as f64 / f64::from(1 << 20);
            let errors = bench.tally.errors + bench.tally.verify_errors;
            let line = format!("\r{phase}: {ios} IO/s, {mib_per_s:.0} MiB/s, {errors} errors\x1b[K");
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    fn report(&mut self, options: &Options, bench: &mut Bench, login_ns: u64) -> Report {
        if self.shows_progress {
            let _ = std::io::stderr().write_all(b"\r\x1b[K");
        }
        let cpu = if self.measured_ns > 0 { self.cpu } else { Duration::ZERO };
        let window = (bench.clock.system_ns(self.measure_begin_ns), self.measured_ns);
        Report::new(options, &mut bench.tally, window, cpu, login_ns, self.unissued)
    }
}
