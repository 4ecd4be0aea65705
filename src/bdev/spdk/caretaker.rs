//! The thread that SPDK's own affairs run on: it brings SPDK up and down, opens and closes bdevs and the reactors' seats, and
//! polls what no reactor polls.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use super::disk::{self, Disk, Notice};
use super::environment::{Environment, Needs};
use super::line::Line;
use super::log::{self, Severity};
use super::seat::Seat;
use super::{StartError, Started};

/// While SPDK has nothing to do it is asked again so often.
const REST: Duration = Duration::from_millis(1);
/// At the end what is open has so long to close.
const LAST_WAIT: Duration = Duration::from_secs(6);

/// What the caretaker is asked for.
pub(super) enum Order {
    /// Open a reactor's channel.
    Open(Arc<Line>),
    /// The reactor has dropped it.
    Close(Arc<Line>),
    /// Nobody serves the bdev any more.
    CloseDisk(Arc<Disk>),
    /// Do this on SPDK's first thread.
    #[cfg(test)]
    Run(Box<dyn FnOnce() + Send>),
    /// Take everything down.
    Stop,
}

/// What it is made of.
pub(super) struct Setup {
    pub(super) config: Vec<u8>,
    pub(super) needs: Needs,
    pub(super) log: fn(Severity, &str),
    pub(super) orders: Receiver<Order>,
    pub(super) notices: Sender<Notice>,
}

struct Caretaker {
    environment: Environment,
    log: fn(Severity, &str),
    lines_of_log: Receiver<log::Line>,
    homes: Vec<Home>,
    seats_made: u32,
    /// Lines whose channels were dropped.
    closing: Vec<Arc<Line>>,
    disks: Vec<Arc<Disk>>,
    /// Disks that nobody serves any more.
    closing_disks: Vec<Arc<Disk>>,
}

/// A reactor's seat.
struct Home {
    owner: ThreadId,
    seat: Arc<Seat>,
    lines: usize,
    is_ending: bool,
}

/// Runs until it is asked to stop. What came of the start is sent to `started`.
pub(super) fn run(setup: Setup, started: &SyncSender<Result<Started, StartError>>) {
    let lines_of_log = log::open();
    let outcome = start(&setup);
    for line in lines_of_log.try_iter() {
        (setup.log)(line.severity(), &line.text());
    }
    let (environment, disks) = match outcome {
        Ok(up) => up,
        // What SPDK is like now nobody knows: it is left alone.
        Err(error) => return drop(started.send(Err(error))),
    };
    let made = Started { disks: disks.clone(), has_dma: environment.has_dma };
    if started.send(Ok(made)).is_err() {
        return;
    }
    let caretaker = Caretaker {
        environment,
        log: setup.log,
        lines_of_log,
        homes: Vec::new(),
        seats_made: 0,
        closing: Vec::new(),
        disks,
        closing_disks: Vec::new(),
    };
    caretaker.run(&setup.orders);
}

fn start(setup: &Setup) -> Result<(Environment, Vec<Arc<Disk>>), StartError> {
    let environment = Environment::new(&setup.needs)?;
    environment.configure(&setup.config)?;
    let mut disks = Vec::new();
    for facts in disk::all() {
        let name = facts.name().to_owned();
        if let Some(obstacle) = facts.obstacle {
            (setup.log)(Severity::Warning, &format!("bdev {name} is not served: {obstacle}"));
            continue;
        }
        let disk = Disk::open(facts, setup.notices.clone());
        disks.push(disk.map_err(|errno| StartError::Open { name, errno })?);
    }
    Ok((environment, disks))
}

impl Caretaker {
    fn run(mut self, orders: &Receiver<Order>) {
        let mut is_busy = false;
        loop {
            let order = orders.recv_timeout(if is_busy { Duration::ZERO } else { REST });
            match order {
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(order) => self.obey(order),
                Err(RecvTimeoutError::Timeout) => {}
            }
            is_busy = self.round();
        }
        self.stop(orders);
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Open(line) => self.open(&line),
            Order::Close(line) => self.closing.push(line),
            Order::CloseDisk(disk) => self.closing_disks.push(disk),
            #[cfg(test)]
            Order::Run(act) => act(),
            Order::Stop => {}
        }
    }

    fn open(&mut self, line: &Arc<Line>) {
        let known = self.homes.iter_mut().find(|home| home.owner == line.owner && !home.is_ending);
        if let Some(home) = known {
            home.lines += 1;
            return line.open(Some(&home.seat));
        }
        let name = format!("lunette-{}", self.seats_made);
        self.seats_made = self.seats_made.wrapping_add(1);
        let seat = Seat::new(&name).map(Arc::new);
        line.open(seat.as_ref());
        let home = seat.map(|seat| Home { owner: line.owner, seat, lines: 1, is_ending: false });
        self.homes.extend(home);
    }

    /// Polls everything once. Whether there was something to do.
    fn round(&mut self) -> bool {
        let mut is_busy = self.environment.poll();
        for home in &self.homes {
            is_busy |= home.seat.tend();
        }
        for index in (0..self.closing.len()).rev() {
            if self.closing.get(index).is_some_and(Line::close) {
                let line = self.closing.swap_remove(index);
                let home = line
                    .seat()
                    .and_then(|seat| self.homes.iter_mut().find(|home| Arc::ptr_eq(&home.seat, seat)));
                if let Some(home) = home {
                    home.lines -= 1;
                    home.is_ending = home.lines == 0;
                    if home.is_ending {
                        home.seat.end();
                    }
                }
            }
            is_busy = true;
        }
        self.free_seats();
        self.close_disks();
        for line in self.lines_of_log.try_iter() {
            (self.log)(line.severity(), &line.text());
        }
        is_busy
    }

    fn free_seats(&mut self) {
        for index in (0..self.homes.len()).rev() {
            let has_ended = self.homes.get(index).is_some_and(|home| home.is_ending && home.seat.has_ended());
            if has_ended {
                // Its lines are closed and gone but for those that channels are about to drop: then another time.
                let home = self.homes.swap_remove(index);
                match Arc::try_unwrap(home.seat) {
                    Ok(seat) => seat.free(),
                    Err(seat) => self.homes.push(Home { seat, ..home }),
                }
            }
        }
    }

    /// A descriptor is closed when no channel is left.
    fn close_disks(&mut self) {
        let disks = &mut self.disks;
        self.closing_disks.retain(|disk| {
            // This list's, that of `disks`; each line has one more.
            let is_used = Arc::strong_count(disk) > 2;
            if !is_used {
                disk.close();
                disks.retain(|open| !Arc::ptr_eq(open, disk));
            }
            is_used
        });
    }

    #[expect(clippy::disallowed_methods, reason = "a thread of its own, at the end of the process")]
    fn stop(mut self, orders: &Receiver<Order>) {
        let until = Instant::now() + LAST_WAIT;
        loop {
            while let Ok(order) = orders.try_recv() {
                self.obey(order);
            }
            self.round();
            if self.homes.is_empty() && self.disks.is_empty() {
                break;
            }
            if Instant::now() >= until {
                (self.log)(Severity::Warning, "a bdev is still in use: SPDK is left as it is");
                return;
            }
            std::thread::yield_now();
        }
        self.environment.end();
        for line in self.lines_of_log.try_iter() {
            (self.log)(line.severity(), &line.text());
        }
    }
}
