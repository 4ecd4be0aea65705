//! Rounds. In each round every peer is started anew (where its memory lies is part of the noise), and the cases go by; in each case
//! the peers take turns, another one first each time. Who is not measured is halted, so that it cannot poll on the CPU of who is.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::cases::{Case, Disk, Idle, Load};
use crate::distance;
use crate::fault::Fault;
use crate::load::{self, Generator};
use crate::machine::Cpus;
use crate::peers::{self, Found, Kind, Server, Setting};
use crate::process::{Scratch, memory_kib};
use crate::results::{Point, Report, Results, ServerUse};

/// What is left to the load beside another one to come up before that starts, and goes on after it.
const BESIDE: Duration = Duration::from_millis(400);
/// A point is measured so often at most until the CPUs stay where they are meanwhile.
const TRIES: u32 = 3;
/// Seconds for filling a RAM disk: the first try, doubled until the whole disk was written.
const FILL_SECONDS: [f64; 7] = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0];

/// Of the load, of the one beside it, and what the server used.
type Measured = (Report, Option<Report>, ServerUse);

/// A whole run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) cases: Vec<Case>,
    pub(crate) peers: Vec<(Kind, Found)>,
    pub(crate) rounds: u32,
    pub(crate) generator: Generator,
    pub(crate) cpus: Cpus,
    pub(crate) disk_bytes: u64,
    /// Where results go, and the disk that is a file on a medium.
    pub(crate) out: PathBuf,
    pub(crate) scratch: Scratch,
}

/// A server of this round, halted while others are measured.
#[derive(Debug)]
struct Slot {
    kind: Kind,
    disk: Disk,
    idle: Idle,
    server: Server,
    start_seconds: f64,
    start_lines: u32,
}

impl Slot {
    /// It is what a start of that kind with this setting would be.
    fn is(&self, kind: Kind, setting: &Setting<'_>) -> bool {
        self.kind == kind && self.disk == setting.disk && self.idle == setting.idle
    }
}

impl Run {
    /// All rounds; `results` has their points, and is saved after each round.
    pub(crate) fn all(&self, results: &mut Results) -> Result<(), Fault> {
        let began = Instant::now();
        let mut serial = 0;
        for round in 0..self.rounds {
            let (mut slots, mut absent) = (Vec::new(), Vec::new());
            for (index, case) in self.cases.iter().enumerate() {
                for (kind, found) in turns(case, &self.peers, round as usize + index) {
                    if absent.contains(&kind) {
                        continue;
                    }
                    serial += 1;
                    match self.point(&mut slots, case, kind, found, serial) {
                        Ok(((load, beside, server), distance_ns)) => {
                            let (case, peer) = (case.name.clone(), kind.name().to_owned());
                            let distance_ns = Some(distance_ns);
                            results.points.push(Point {
                                case,
                                peer,
                                round,
                                load,
                                beside,
                                server,
                                distance_ns,
                            });
                        }
                        Err(fault) => {
                            let said = fault.to_string().replace('\n', "; ");
                            let line = format!("round {}, {}, {}: {said}", round + 1, case.name, kind.name());
                            eprintln!("{line}");
                            results.failures.push(line);
                            // One that did not even start will not in this round.
                            if !slots.iter().any(|slot: &Slot| slot.kind == kind) {
                                absent.push(kind);
                            }
                            slots.retain(|slot: &Slot| slot.kind != kind);
                        }
                    }
                }
                println!("{}", progress(results, case, round, self.rounds));
            }
            results.save(&self.out)?;
            let (spent, done) = (began.elapsed().as_secs(), u64::from(round) + 1);
            println!(
                "round {done} of {}: {spent} s, {} s to go",
                self.rounds,
                spent * (u64::from(self.rounds) - done) / done
            );
        }
        Ok(())
    }

    fn point(
        &self,
        slots: &mut Vec<Slot>,
        case: &Case,
        kind: Kind,
        found: &Found,
        serial: u32,
    ) -> Result<(Measured, f64), Fault> {
        let file = self.file(case.disk)?;
        let setting = Setting {
            cpus: self.cpus,
            scratch: self.scratch.path(),
            disk: case.disk,
            file: &file,
            disk_bytes: self.disk_bytes,
            // Who does not know the difference has one server for both.
            idle: if kind == Kind::Lunette { case.idle } else { Idle::Spin },
            serial,
        };
        if kind == Kind::Fio {
            let Generator { seconds, warmup, .. } = self.generator;
            return self.steadily(|| {
                let (report, used) = peers::measure_fio(found, &setting, &case.load, seconds, warmup)?;
                Ok((report, None, used))
            });
        }
        if case.is_fresh {
            slots.retain(|slot| !slot.is(kind, &setting));
        }
        let slot = self.slot(slots, kind, found, &setting)?;
        let memory_before_kib = memory_kib(slot.server.process.id());
        let (start_seconds, start_lines) = (slot.start_seconds, slot.start_lines);
        self.steadily(|| {
            slot.server.process.halt(false)?;
            let measured = self.measure(&slot.server, case, &setting);
            slot.server.process.alive()?;
            slot.server.process.halt(true)?;
            let (report, beside, used) = measured?;
            Ok((report, beside, ServerUse { memory_before_kib, start_seconds, start_lines, ..used }))
        })
    }

    /// Measures, again where the CPUs have moved nearer or apart meanwhile; how far apart they were. Nobody runs before and after.
    fn steadily(
        &self,
        mut measure: impl FnMut() -> Result<Measured, Fault>,
    ) -> Result<(Measured, f64), Fault> {
        let mut before = distance::round_trip_ns(self.cpus)?;
        let mut tries = 0;
        loop {
            let measured = measure()?;
            let after = distance::round_trip_ns(self.cpus)?;
            tries += 1;
            if !distance::differ(before, after) || tries == TRIES {
                return Ok((measured, before.max(after)));
            }
            before = after;
        }
    }

    /// The round's server of that kind, halted.
    fn slot<'a>(
        &self,
        slots: &'a mut Vec<Slot>,
        kind: Kind,
        found: &Found,
        setting: &Setting<'_>,
    ) -> Result<&'a mut Slot, Fault> {
        let at = match slots.iter().position(|slot| slot.is(kind, setting)) {
            Some(at) => at,
            None => {
                let server = kind.start(found, setting)?;
                let start_seconds = server.process.age().as_secs_f64();
                let start_lines = u32::try_from(server.process.said().lines().count()).unwrap_or(u32::MAX);
                if server.is_empty {
                    self.fill(&server, setting)?;
                }
                server.process.halt(true)?;
                let (disk, idle) = (setting.disk, setting.idle);
                slots.push(Slot { kind, disk, idle, server, start_seconds, start_lines });
                slots.len() - 1
            }
        };
        Ok(&mut slots[at])
    }

    /// Writes all of a disk.
    fn fill(&self, server: &Server, setting: &Setting<'_>) -> Result<(), Fault> {
        let load = Load {
            connections: 1,
            rw: "write",
            io_bytes: 131_072,
            depth: 8,
            digests: false,
            rate: None,
            idle: 0,
        };
        for seconds in FILL_SECONDS {
            let generator = Generator { seconds, warmup: 0.0, ..self.generator.clone() };
            let process = generator.start(server, &load, setting.path("fill"))?;
            if generator.finish(process, server)?.0.bytes >= self.disk_bytes {
                return Ok(());
            }
        }
        Err(Fault::Late {
            what: "filling the disk".to_owned(),
            limit: Duration::from_secs_f64(FILL_SECONDS[6]),
        })
    }

    fn measure(&self, server: &Server, case: &Case, setting: &Setting<'_>) -> Result<Measured, Fault> {
        let mut generator = self.generator.clone();
        let mut beside = None;
        if let Some(load) = &case.beside {
            let seconds = generator.seconds + generator.warmup + 2.0 * BESIDE.as_secs_f64();
            let longer = Generator { seconds, ..generator.clone() };
            beside = Some((longer.start(server, load, setting.path("beside"))?, longer));
            thread::sleep(BESIDE);
            // Else the figure is how the client's CPU is shared between two clients that are always busy.
            generator.is_urgent = load::can_be_urgent(self.cpus.client);
        }
        let process = generator.start(server, &case.load, setting.path("load"))?;
        let (report, used) = generator.finish(process, server)?;
        let beside = match beside {
            Some((process, longer)) => Some(longer.finish(process, server)?.0),
            None => None,
        };
        Ok((report, beside, used))
    }

    /// The file of a disk that is one, made where there is none.
    fn file(&self, disk: Disk) -> Result<PathBuf, Fault> {
        let path = match disk {
            Disk::Ram | Disk::Targets(_) | Disk::Units(_) => return Ok(PathBuf::new()),
            Disk::File => absolute(&self.out)?.join("disk.img"),
            Disk::PageCache => self.scratch.path().join("disk.img"),
        };
        peers::fill(&path, self.disk_bytes)?;
        Ok(path)
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Fault> {
    path.canonicalize().map_err(Fault::file(path))
}

/// Who takes part in a case, and in which order: another one is first each time, and each time the order turns round, so that
/// nobody is always measured right after the same other one.
fn turns<'a>(case: &Case, peers: &'a [(Kind, Found)], turn: usize) -> Vec<(Kind, &'a Found)> {
    let mut order: Vec<(Kind, &Found)> = peers
        .iter()
        .filter(|(kind, _)| case.peers.contains(kind))
        .map(|(kind, found)| (*kind, found))
        .collect();
    let first = turn % order.len().max(1);
    order.rotate_left(first);
    if let Some(others) = order.get_mut(1..).filter(|_| turn % 2 == 1) {
        others.reverse();
    }
    order
}

fn progress(results: &Results, case: &Case, round: u32, rounds: u32) -> String {
    let mut line = format!("{:2}/{rounds} {:24}", round + 1, case.name);
    for kind in case.peers {
        let point = results.of(&case.name, kind.name()).find(|point| point.round == round);
        if let Some(point) = point {
            line += &format!(
                "  {} {:.0}/s p99 {:.0} us",
                kind.name(),
                point.load.iops,
                point.load.latency_us.p99
            );
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases;

    #[test]
    fn everybody_is_first_and_nobody_has_the_same_one_before_it() {
        let cases = cases::all();
        let case = cases.iter().find(|case| case.name == "randread-4k").unwrap();
        let found = Found { program: PathBuf::new(), version: String::new() };
        let peers = [Kind::Lunette, Kind::Fio, Kind::Echo, Kind::Tgt].map(|kind| (kind, found.clone()));
        let first = |turn| turns(case, &peers, turn).iter().map(|(kind, _)| kind.name()).collect::<Vec<_>>();
        assert_eq!(first(0), ["lunette", "echo", "tgt"]);
        assert_eq!(first(1), ["echo", "lunette", "tgt"]);
        assert_eq!(first(2), ["tgt", "lunette", "echo"]);
        assert_eq!(first(3), ["lunette", "tgt", "echo"]);
        assert_eq!(first(6), first(0));
        assert!(turns(case, &[], 5).is_empty());
    }
}
