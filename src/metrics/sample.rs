//! What there is to be seen at one moment.

use std::sync::Arc;

use crate::bdev::count::Figures;
use crate::bdev::raid::mirror::Doing;
use crate::control::Control;
use crate::control::connections::{Connection, Phase};
use crate::control::feed;
use crate::control::sessions::Ledger;
use crate::control::tally::{Fact, Tally};
pub use crate::meter::STAGES;
use crate::meter::{PoolMeter, ReactorMeter, Spread, Work, add_stages};
use crate::net::Net;
use crate::qos::Waited;
use crate::rpc::calls::Calls;
use crate::scsi::view::LunNumber;
use crate::time::Tick;

/// So many events are shown.
const EVENTS_SHOWN_MAX: usize = 50;

/// What there was to be seen.
#[derive(Debug, Default)]
pub struct Sample {
    /// How long the daemon had been there, in nanoseconds.
    pub uptime_ns: u64,
    /// Its reactors, in their order.
    pub reactors: Vec<ReactorSample>,
    /// Its bdevs.
    pub bdevs: Vec<BdevSample>,
    /// Its targets: name, and how many sessions each had.
    pub targets: Vec<(String, u64)>,
    /// Who was logged in.
    pub sessions: Vec<SessionSample>,
    /// Connections: those logging in, discovery sessions, and those of sessions.
    pub connections: [u64; 3],
    /// What initiators have done at targets.
    pub ledger: Ledger,
    /// What has happened how often.
    pub facts: Vec<(Fact, &'static str, u64)>,
    /// The last that happened, newest first.
    pub events: Vec<Arc<feed::Fact>>,
    /// Calls of the JSON-RPC socket, by method.
    pub calls: Vec<(&'static str, Calls)>,
}

/// A reactor.
#[derive(Clone, Default, Debug)]
pub struct ReactorSample {
    /// Of turns in which there was something to do.
    pub turns: Spread,
    /// Waits in the kernel.
    pub waits: u64,
    /// Commands that took the short way.
    pub short: u64,
    /// Where commands spent their time, those that took the short way included, as [`STAGES`] names it.
    pub stages: [Spread; 4],
    /// Waits for sockets.
    pub socket: Spread,
    /// Connections, commands at work, of them those that wait for buffers, IOs.
    pub at_work: [u64; 4],
    /// Commands that wait for a ceiling.
    pub paced: u64,
    /// Buffers for data that come unasked, and for others: all of them and those in use, in bytes.
    pub pools: [[u64; 2]; 2],
}

impl ReactorSample {
    /// `at_units`: where the time of those went that are counted with units.
    fn of(meter: &ReactorMeter, at_units: Option<&[Spread; 4]>) -> ReactorSample {
        let short = meter.short.get();
        let mut stages = meter.stages.spreads().map(|stage| stage.with_instant(short));
        if let Some(at_units) = at_units {
            add_stages(&mut stages, at_units);
        }
        let pool = |pool: &PoolMeter| [pool.capacity_bytes.get(), pool.in_use_bytes.get()];
        ReactorSample {
            turns: meter.turns.spread(),
            waits: meter.waits.get(),
            short,
            stages,
            socket: meter.socket.spread(),
            at_work: [&meter.conns, &meter.commands, &meter.hungry, &meter.ios].map(|count| count.get()),
            paced: meter.paced.get(),
            pools: [&meter.unsolicited, &meter.solicited].map(pool),
        }
    }
}

/// A bdev.
#[derive(Clone, Default, Debug)]
pub struct BdevSample {
    /// Its name.
    pub name: String,
    /// Its size; 0 while its medium is not there.
    pub bytes: u64,
    /// Where it is a LUN for everybody, or of an initiator group's own: target and number.
    pub luns: Vec<(String, u16)>,
    /// What reactors (by number) have asked of it.
    pub figures: Vec<(u16, Figures)>,
    /// Where the time of commands at its unit went that it had IO of, as [`STAGES`] names it; nothing where there were none.
    pub stages: Option<Box<[Spread; 4]>>,
    /// Commands that have waited for its unit's ceilings.
    pub waited: Waited,
    /// What its members do, where it is a mirror.
    pub members: Vec<Doing>,
}

/// A session.
#[derive(Clone, Default, Debug)]
pub struct SessionSample {
    /// Its number.
    pub id: u64,
    /// The initiator's name.
    pub initiator: String,
    /// The target's name.
    pub target: String,
    /// Where the first of its connections comes from.
    pub peer: String,
    /// The number of its reactor.
    pub reactor: u16,
    /// How many connections it has.
    pub connections: u64,
    /// What it has done.
    pub work: Work,
}

impl Sample {
    /// What there is now.
    pub fn take<N: Net>(control: &Control<N>, now: Tick) -> Sample {
        let sessions = sessions(control);
        let targets = control.targets().map(|target| {
            let count = sessions.iter().filter(|session| session.target == target.name).count();
            (target.name.to_owned(), u64::try_from(count).unwrap_or(u64::MAX))
        });
        let targets = targets.collect();
        let at_units = control.unit_stages();
        let reactors = control.meters().iter().enumerate();
        Sample {
            uptime_ns: now.since_ns(Tick::ZERO),
            reactors: reactors.map(|(index, meter)| ReactorSample::of(meter, at_units.get(index))).collect(),
            bdevs: bdevs(control),
            targets,
            sessions,
            connections: connections(&control.connections()),
            ledger: control.sessions().work(),
            facts: facts(control.tally()),
            events: control.feed().latest(EVENTS_SHOWN_MAX),
            calls: Vec::new(),
        }
    }

    /// With what was called.
    #[must_use]
    pub fn with_calls(mut self, calls: Vec<(&'static str, Calls)>) -> Arc<Sample> {
        self.calls = calls;
        Arc::new(self)
    }
}

fn sessions<N: Net>(control: &Control<N>) -> Vec<SessionSample> {
    let live = control.sessions().iter().filter(|(id, _)| control.sessions().is_live(*id));
    let sample = live.map(|(id, session)| SessionSample {
        id: id.0,
        initiator: session.nexus.initiator.clone(),
        target: session.nexus.target.clone(),
        peer: session.origin.peer.ip().to_canonical().to_string(),
        reactor: session.reactor.0,
        connections: u64::try_from(session.links.len()).unwrap_or(u64::MAX),
        work: session.meter.work(),
    });
    sample.collect()
}

fn bdevs<N: Net>(control: &Control<N>) -> Vec<BdevSample> {
    let number = |number: LunNumber| number.0;
    let mut luns: Vec<(String, String, u16)> = Vec::new();
    for target in control.targets() {
        let all = target.luns.iter().map(|(at, bdev)| (*bdev, number(*at)));
        let own = target.lun_maps.iter().flat_map(|(_, luns)| luns).map(|lun| (lun.bdev, number(lun.number)));
        luns.extend(all.chain(own).map(|(bdev, at)| (bdev.to_owned(), target.name.to_owned(), at)));
    }
    luns.sort_unstable();
    luns.dedup();
    let sample = control.bdevs().map(|entry| {
        let info = entry.spec.bdev.info();
        let own = luns.iter().filter(|(bdev, ..)| *bdev == entry.name);
        BdevSample {
            name: entry.name.clone(),
            bytes: info.blocks.saturating_mul(u64::from(info.block_bytes)),
            luns: own.map(|(_, target, at)| (target.clone(), *at)).collect(),
            figures: entry.spec.bdev.figures().into_iter().map(|(id, figures)| (id.0, figures)).collect(),
            stages: entry.stages().map(Box::new),
            waited: entry.waits.waited(),
            members: entry.spec.bdev.doing(),
        }
    });
    sample.collect()
}

fn connections(connections: &[Connection]) -> [u64; 3] {
    let mut counts = [0; 3];
    for connection in connections {
        let index = match connection.phase {
            Phase::Login | Phase::Waiting => 0,
            Phase::Discovery => 1,
            Phase::FullFeature | Phase::Ending => 2,
        };
        counts[index] += 1;
    }
    counts
}

fn facts(tally: &Tally) -> Vec<(Fact, &'static str, u64)> {
    const ALL: [Fact; 8] = [
        Fact::LoggedIn,
        Fact::LoginFailed,
        Fact::Closed,
        Fact::Rejected,
        Fact::Function,
        Fact::DeviceError,
        Fact::Slow,
        Fact::Lost,
    ];
    ALL.into_iter()
        .flat_map(|fact| tally.of(fact).map(move |(reason, count)| (fact, reason, count)))
        .collect()
}
