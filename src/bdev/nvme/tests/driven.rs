//! A namespace whose controller's thread runs whenever its channel is used: for who knows nothing of controllers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::bdev::nvme::controller::Controller;
use crate::bdev::nvme::mock::{Config, Medium, Mock};
use crate::bdev::nvme::namespace::NvmeBdev;
use crate::bdev::nvme::rig::{Rig, drive};
use crate::bdev::{Bdev, Channel, ChannelState, Done, Fence, Info, Io, Refused, Wake};
use crate::id::ReactorId;
use crate::sim::rng::Rng;
use crate::slab::Key;
use crate::time::{MS_NS, Tick};

/// Polls of the controller's thread at one moment.
const POLLS_MAX: usize = 100;

/// The controller's thread, and the latest time that anybody has told.
#[derive(Clone, Debug)]
pub(super) struct Driver {
    controller: Arc<Mutex<Controller>>,
    clock: Arc<AtomicU64>,
}

impl Driver {
    /// Polls until there is nothing to do now.
    fn drive(&self, now: Tick) {
        let now = Tick::from_ns(self.clock.fetch_max(now.ns(), Ordering::Relaxed).max(now.ns()));
        for _ in 0..POLLS_MAX {
            if drive(&self.controller, now) > now {
                return;
            }
        }
        panic!("the controller's thread does not come to rest");
    }

    /// Lets time pass until `is_it`.
    pub(super) fn wait(&self, is_it: impl Fn() -> bool) {
        for _ in 0..10_000 {
            if is_it() {
                return;
            }
            self.drive(Tick::from_ns(self.clock.load(Ordering::Relaxed) + MS_NS));
        }
        panic!("it does not come");
    }
}

/// Namespace 1 of a mock controller in immediate mode.
#[derive(Debug)]
pub(super) struct Driven {
    bdev: NvmeBdev,
    driver: Driver,
    pub(super) mock: Mock,
}

impl Driven {
    pub(super) fn new(config: Config, medium: Medium, seed: u64) -> Driven {
        let mock = Mock::new(Config { is_immediate: true, ..config }, seed);
        mock.attach(1, medium);
        let mut rig = Rig::new(&mock, Arc::new(mock.clone()));
        assert!(rig.bring_up(&mut Rng::new(seed)), "{:?}", rig.said());
        let bdev = rig.bdev(1).expect("the namespace is there");
        let driver = Driver { controller: rig.controller, clock: Arc::new(AtomicU64::new(rig.now.ns())) };
        Driven { bdev, driver, mock }
    }

    pub(super) fn driver(&self) -> Driver {
        self.driver.clone()
    }
}

impl Bdev for Driven {
    fn info(&self) -> Info {
        self.bdev.info()
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        Box::new(DrivenChannel { channel: self.bdev.open(reactor), driver: self.driver.clone() })
    }
}

#[derive(Debug)]
struct DrivenChannel {
    channel: Box<dyn Channel>,
    driver: Driver,
}

impl Channel for DrivenChannel {
    fn state(&self) -> ChannelState {
        self.channel.state()
    }

    fn submit(&mut self, io: Io, now: Tick) -> Result<(), Refused> {
        self.driver.drive(now);
        self.channel.submit(io, now)
    }

    fn kick(&mut self) {
        self.channel.kick();
    }

    fn poll(&mut self, out: &mut Vec<Done>, max: usize, now: Tick) {
        self.driver.drive(now);
        self.channel.poll(out, max, now);
        self.driver.drive(now);
    }

    fn cancel(&mut self, tag: Key) {
        self.channel.cancel(tag);
    }

    fn fence(&mut self) -> Fence {
        self.channel.fence()
    }

    fn wake(&self) -> Wake {
        self.channel.wake()
    }

    fn in_flight(&self) -> u32 {
        self.channel.in_flight()
    }
}
