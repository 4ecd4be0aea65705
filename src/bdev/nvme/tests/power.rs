//! What a channel had under way when the controller lost its power, or its number became another medium's.

use std::sync::Arc;

use crate::bdev::nvme::controller::shared::{Disk, Order};
use crate::bdev::nvme::mock::{Config, Fault, Medium, Mock, Note};
use crate::bdev::nvme::rig::Rig;
use crate::bdev::{Bdev, Channel, ChannelState, Done, Io, IoError, Op};
use crate::buf::{Class, Pool};
use crate::id::ReactorId;
use crate::limits::GUEST;
use crate::sim::rng::Rng;
use crate::slab::Key;
use crate::time::MS_NS;

const BLOCKS: u64 = 64;
const READ: Op = Op::Read { lba: 3, blocks: 1 };
const WRITE: Op = Op::Write { lba: 3, blocks: 1, fua: false };

/// A channel to a namespace that has a cache.
struct Way {
    rng: Rng,
    rig: Rig,
    disk: Arc<Disk>,
    channel: Box<dyn Channel>,
    pool: Pool,
}

impl Way {
    fn of(reactor: ReactorId) -> Way {
        let mut rng = Rng::new(1);
        let mock = Mock::new(Config::default(), 1);
        mock.attach(1, Medium::new(BLOCKS, 512));
        let mut rig = Rig::new(&mock, Arc::new(mock.clone()));
        assert!(rig.bring_up(&mut rng), "{:?}", rig.said());
        let disk = rig.shared.disks().remove(0);
        let channel = rig.bdev(1).unwrap().open(reactor);
        let pool = Pool::ordinary(&[Class { bytes: 4096, count: 4 }]).unwrap();
        let mut way = Way { rng, rig, disk, channel, pool };
        way.until("it is open", |way| way.channel.state() == ChannelState::Ready);
        way
    }

    /// The device has not been given time to look at it.
    fn submit(&mut self, op: Op) {
        let io = Io { tag: Key { index: 1, generation: 0 }, op, data: self.pool.take(512) };
        assert!(self.channel.submit(io, self.rig.now).is_ok());
        self.channel.kick();
    }

    /// What the channel has to say, and some time for the others.
    fn turn(&mut self) -> Option<Done> {
        let mut out = Vec::with_capacity(1);
        self.channel.poll(&mut out, 1, self.rig.now);
        self.rig.turn(&mut self.rng, MS_NS);
        out.pop()
    }

    fn until(&mut self, what: &str, is_it: impl Fn(&Way) -> bool) {
        for _ in 0..100_000 {
            if is_it(self) {
                return;
            }
            assert!(self.turn().is_none());
        }
        panic!("{what}: never; {:?}", self.rig.said());
    }

    fn end(&mut self) -> Result<(), IoError> {
        for _ in 0..100_000 {
            if let Some(done) = self.turn() {
                return done.result;
            }
        }
        panic!("it does not end: {:?}", self.rig.said());
    }

    /// It ended without a look at what is there now.
    fn ends_as_gone(&mut self) {
        self.rig.mock.take_notes();
        assert_eq!(self.end(), Err(IoError::Gone));
        let notes = self.rig.mock.take_notes();
        assert!(!notes.iter().any(|note| matches!(note, Note::Taken { .. })), "{notes:?}");
        assert!(self.disk.is_removed() && self.channel.in_flight() == 0);
        assert_eq!(self.rig.mock.violations(), Vec::<String>::new());
    }
}

#[test]
fn a_read_under_way_is_not_made_of_a_disk_that_has_lost_its_cache() {
    for reactor in [ReactorId(0), GUEST] {
        let mut way = Way::of(reactor);
        way.submit(WRITE);
        assert_eq!(way.end(), Ok(()));
        way.submit(READ);
        way.rig.mock.crash(&mut Rng::new(1));
        way.ends_as_gone();
    }
}

#[test]
fn a_read_under_way_is_not_made_of_another_medium() {
    let mut way = Way::of(ReactorId(0));
    way.submit(READ);
    assert_eq!(way.end(), Ok(()));
    way.rig.mock.misbehave(Fault::NeverCompletes, 1);
    way.submit(READ);
    for _ in 0..10 {
        assert!(way.turn().is_none());
    }
    way.rig.mock.behave();
    way.rig.shared.order(Order::Reset);
    way.rig.mock.resize(1, BLOCKS / 2);
    way.ends_as_gone();
}
