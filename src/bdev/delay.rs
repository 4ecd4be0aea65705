//! A device that takes its time: another one whose IOs end no earlier than so long after they were submitted.
//!
//! They reach the wrapped device at once; only the news of their end is late. IOs that are due at the same poll come in
//! no particular order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::queue::{IN_FLIGHT_MAX, room};
use super::{Bdev, Channel, ChannelState, Done, Fence, Info, Io, Op, Refused, Wake};
use crate::id::ReactorId;
use crate::slab::{Key, Slab};
use crate::time::Tick;

/// How long IOs take at least.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delays {
    /// Reads.
    pub read_ns: u64,
    /// Writes, unmaps and writes of zeroes.
    pub write_ns: u64,
    /// Flushes.
    pub flush_ns: u64,
}

/// Delays that can be changed while IOs go on: each IO takes as long as was said when it was submitted.
#[derive(Debug)]
pub struct Pace {
    read_ns: AtomicU64,
    write_ns: AtomicU64,
    flush_ns: AtomicU64,
}

impl Pace {
    fn new(delays: Delays) -> Pace {
        let Delays { read_ns, write_ns, flush_ns } = delays;
        Pace { read_ns: read_ns.into(), write_ns: write_ns.into(), flush_ns: flush_ns.into() }
    }

    /// From the next IO on.
    pub fn set(&self, delays: Delays) {
        self.read_ns.store(delays.read_ns, Ordering::Relaxed);
        self.write_ns.store(delays.write_ns, Ordering::Relaxed);
        self.flush_ns.store(delays.flush_ns, Ordering::Relaxed);
    }

    fn of(&self, op: Op) -> u64 {
        let ns = match op {
            Op::Read { .. } | Op::ReadProtected { .. } | Op::Verify { .. } | Op::Compare { .. } => {
                &self.read_ns
            }
            Op::Flush => &self.flush_ns,
            _ => &self.write_ns,
        };
        ns.load(Ordering::Relaxed)
    }
}

/// A slower device.
#[derive(Debug)]
pub struct Delay {
    inner: Arc<dyn Bdev>,
    pace: Arc<Pace>,
}

impl Delay {
    /// Slows `inner` down.
    pub fn new(inner: Arc<dyn Bdev>, delays: Delays) -> Delay {
        Delay { inner, pace: Arc::new(Pace::new(delays)) }
    }

    /// By which it can be changed later.
    pub fn pace(&self) -> Arc<Pace> {
        Arc::clone(&self.pace)
    }
}

impl Bdev for Delay {
    fn info(&self) -> Info {
        self.inner.info()
    }

    fn base(&self) -> Option<&dyn Bdev> {
        Some(&*self.inner)
    }

    fn is_awaited(&self) -> bool {
        self.inner.is_awaited()
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        Box::new(DelayChannel {
            inner: self.inner.open(reactor),
            pace: Arc::clone(&self.pace),
            slots: Slab::new(IN_FLIGHT_MAX),
            news: Vec::with_capacity(IN_FLIGHT_MAX as usize),
            last: Tick::ZERO,
        })
    }
}

/// An IO between submission and its late end.
#[derive(Debug)]
struct Late {
    /// The caller's tag; the wrapped channel knows the IO by its slot here.
    tag: Key,
    due: Tick,
    /// Its end, where the wrapped channel has told it.
    done: Option<Done>,
}

#[derive(Debug)]
struct DelayChannel {
    inner: Box<dyn Channel>,
    pace: Arc<Pace>,
    slots: Slab<Late>,
    /// Empty between calls.
    news: Vec<Done>,
    /// The latest time told.
    last: Tick,
}

impl DelayChannel {
    /// Files what the wrapped channel has finished.
    fn collect(&mut self, now: Tick) {
        self.inner.poll(&mut self.news, IN_FLIGHT_MAX as usize, now);
        for mut done in self.news.drain(..) {
            let Some(late) = self.slots.get_mut(done.tag) else { continue };
            done.tag = late.tag;
            late.done = Some(done);
        }
    }

    fn earliest(&self, finished_only: bool) -> Option<Tick> {
        let counted = self.slots.iter().filter(|(_, late)| late.done.is_some() || !finished_only);
        counted.map(|(_, late)| late.due).min()
    }
}

impl Channel for DelayChannel {
    fn state(&self) -> ChannelState {
        self.inner.state()
    }

    fn submit(&mut self, mut io: Io, now: Tick) -> Result<(), Refused> {
        self.last = now;
        let delay_ns = self.pace.of(io.op);
        let tag = io.tag;
        let Ok(slot) = self.slots.insert(Late { tag, due: now.after_ns(delay_ns), done: None }) else {
            return Err(Refused::Full(io));
        };
        io.tag = slot;
        self.inner.submit(io, now).map_err(|refused| {
            self.slots.remove(slot);
            match refused {
                Refused::NotReady(io) => Refused::NotReady(Io { tag, ..io }),
                Refused::Full(io) => Refused::Full(Io { tag, ..io }),
                Refused::Gone(io) => Refused::Gone(Io { tag, ..io }),
            }
        })
    }

    fn kick(&mut self) {
        self.inner.kick();
    }

    fn poll(&mut self, out: &mut Vec<Done>, max: usize, now: Tick) {
        self.last = now;
        self.collect(now);
        let mut room = room(out, max);
        for index in 0..IN_FLIGHT_MAX {
            if room == 0 {
                return;
            }
            let Some(key) = self.slots.key_at(index) else { continue };
            let Some(late) = self.slots.get_mut(key).filter(|late| late.due <= now) else { continue };
            let Some(done) = late.done.take() else { continue };
            self.slots.remove(key);
            out.push(done);
            room -= 1;
        }
    }

    fn cancel(&mut self, tag: Key) {
        if let Some((slot, _)) = self.slots.iter().find(|(_, late)| late.tag == tag && late.done.is_none()) {
            self.inner.cancel(slot);
        }
    }

    /// What is fenced is late no longer.
    fn fence(&mut self) -> Fence {
        let fence = self.inner.fence();
        if fence == Fence::Fenced {
            for index in 0..IN_FLIGHT_MAX {
                if let Some(late) = self.slots.key_at(index).and_then(|key| self.slots.get_mut(key)) {
                    late.due = Tick::ZERO;
                }
            }
        }
        fence
    }

    fn wake(&self) -> Wake {
        let Some(earliest) = self.earliest(false) else { return Wake::Idle };
        if earliest > self.last {
            // Nothing ends before that, whatever the wrapped channel does.
            return Wake::At(earliest);
        }
        let due = self.earliest(true).map_or(Wake::Idle, Wake::At);
        Wake::first_of([due, self.inner.wake()].into_iter())
    }

    fn in_flight(&self) -> u32 {
        u32::try_from(self.slots.len()).expect("a small bound")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bdev::contract::{Made, Subject, suite};
    use crate::bdev::error::{Fault, Faults, Faulty, Kind, Rule};
    use crate::bdev::malloc::{Malloc, Recipe};
    use crate::bdev::null::Null;
    use crate::buf::Hugepages;

    const DELAYS: Delays = Delays { read_ns: 100, write_ns: 200, flush_ns: 50 };

    fn key(index: u32) -> Key {
        Key { index, generation: 0 }
    }

    fn tags(channel: &mut dyn Channel, now_ns: u64) -> Vec<u32> {
        let mut out = Vec::with_capacity(8);
        channel.poll(&mut out, 8, Tick::from_ns(now_ns));
        out.iter().map(|done| done.tag.index).collect()
    }

    #[test]
    fn passes_the_contract() {
        let make = || {
            let recipe = Recipe {
                name: "Malloc0".to_owned(),
                blocks: 100,
                blocks_max: 100,
                block_bytes: 512,
                physical_block_bytes: 512,
                uuid: [7; 16],
                hugepages: Hugepages::Off,
            };
            let disk = Arc::new(Malloc::new(recipe).unwrap());
            let bdev = Arc::new(Delay::new(Arc::clone(&disk) as Arc<dyn Bdev>, DELAYS));
            Made { bdev, resize: Some(Box::new(move |blocks| disk.resize(blocks).unwrap())) }
        };
        suite(&Subject { name: "delay", make: &make, keeps_data: true, frees_on_drop: true });
    }

    #[test]
    fn each_kind_ends_when_due_and_not_before() {
        let disk = Delay::new(Arc::new(Null::new("Null0".to_owned(), 8, 512, [0; 16])), DELAYS);
        let mut channel = disk.open(ReactorId(0));
        let start = Tick::from_ns(1000);
        // Out of range, so that they need no memory.
        channel.submit(Io { tag: key(1), op: Op::Read { lba: 8, blocks: 1 }, data: None }, start).unwrap();
        let write = Op::Write { lba: 8, blocks: 1, fua: false };
        channel.submit(Io { tag: key(2), op: write, data: None }, start).unwrap();
        channel.submit(Io { tag: key(3), op: Op::Flush, data: None }, start.after_ns(90)).unwrap();
        assert_eq!(channel.wake(), Wake::At(Tick::from_ns(1100)));
        assert_eq!(tags(&mut *channel, 1099), Vec::<u32>::new());
        assert_eq!(channel.wake(), Wake::At(Tick::from_ns(1100)));
        assert_eq!(tags(&mut *channel, 1100), [1]);
        assert_eq!(channel.wake(), Wake::At(Tick::from_ns(1140)));
        assert_eq!(tags(&mut *channel, 1139), Vec::<u32>::new());
        assert_eq!(tags(&mut *channel, 1200), [2, 3]);
        assert_eq!((channel.wake(), channel.in_flight()), (Wake::Idle, 0));
    }

    #[test]
    fn a_change_is_for_the_ios_that_come_after_it() {
        let disk = Delay::new(Arc::new(Null::new("Null0".to_owned(), 8, 512, [0; 16])), DELAYS);
        let mut channel = disk.open(ReactorId(0));
        let flush = |channel: &mut dyn Channel, index| {
            channel.submit(Io { tag: key(index), op: Op::Flush, data: None }, Tick::ZERO).unwrap();
        };
        flush(channel.as_mut(), 1);
        disk.pace().set(Delays { flush_ns: 10, ..DELAYS });
        flush(channel.as_mut(), 2);
        assert_eq!(tags(channel.as_mut(), 10), [2]);
        assert_eq!(tags(channel.as_mut(), 49), [] as [u32; 0]);
        assert_eq!(tags(channel.as_mut(), 50), [1]);
    }

    #[test]
    fn a_refused_io_comes_back_under_its_own_tag() {
        let faults = Faults::new();
        faults.add(Rule::everywhere(Kind::Any, Fault::Full), 1).unwrap();
        let null = Arc::new(Null::new("Null0".to_owned(), 8, 512, [0; 16]));
        let disk = Delay::new(Arc::new(Faulty::new(null, faults.clone())), DELAYS);
        let mut channel = disk.open(ReactorId(0));
        let tag = key(42);
        let flush = || Io { tag, op: Op::Flush, data: None };
        let Err(Refused::Full(io)) = channel.submit(flush(), Tick::ZERO) else { panic!("refused once") };
        assert_eq!((io.tag, channel.in_flight()), (tag, 0));
        faults.set_state(ChannelState::Opening);
        let Err(Refused::NotReady(io)) = channel.submit(io, Tick::ZERO) else { panic!("opening") };
        assert_eq!(io.tag, tag);
        faults.set_state(ChannelState::Gone);
        let Err(Refused::Gone(io)) = channel.submit(io, Tick::ZERO) else { panic!("gone") };
        assert_eq!((io.tag, channel.in_flight()), (tag, 0));
    }
}
