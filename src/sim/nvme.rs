//! An NVMe controller with one namespace: a mock device, and the driver's own machine above it, both of which do something only
//! when the world says so.

use std::fmt;
use std::sync::Arc;

use super::rng::Rng;
use crate::bdev::Bdev;
use crate::bdev::nvme::controller::shared::{Life, Order};
use crate::bdev::nvme::mock::{Config, Fault, Medium, Mock};
use crate::bdev::nvme::rig::Rig;
use crate::time::Tick;

/// Its namespace.
const NSID: u32 = 1;

/// What it can do wrong. It tells no lies about what it is, and no status that a medium would not tell: those are not what
/// initiators recover from.
const FAULTS: [Fault; 16] = [
    Fault::NeverCompletes,
    Fault::CompletesAfterAbort,
    Fault::UnknownCommand,
    Fault::CompletesTwice,
    Fault::StuckPhase,
    Fault::FlippedPhase,
    Fault::WrongHead,
    Fault::WrongQueue,
    Fault::Fatal,
    Fault::NeverReady,
    Fault::NeverStops,
    Fault::Media,
    Fault::Protection,
    Fault::DeleteHangs,
    Fault::CompletesAfterDelete,
    Fault::ResetFails,
];

/// A controller.
pub struct Controller {
    rig: Rig,
    rng: Rng,
}

impl Controller {
    /// How many ways to fail it has.
    pub const FAULTS: usize = FAULTS.len();

    /// One that has been brought up, for two reactors; its namespace is all zeroes.
    ///
    /// # Panics
    /// Where it does not come up: nothing keeps it from that.
    pub fn new(mut rng: Rng, blocks: u64, block_bytes: usize) -> Controller {
        let mock = Mock::new(Config::default(), rng.word());
        mock.attach(NSID, Medium::new(blocks, block_bytes));
        let mut rig = Rig::new(&mock, Arc::new(mock.clone()));
        assert!(rig.bring_up(&mut rng), "{:?}", rig.said());
        Controller { rig, rng }
    }

    /// The driver's clock: time went by while it was brought up.
    pub fn now(&self) -> Tick {
        self.rig.now
    }

    /// Its namespace, where it is there.
    pub fn bdev(&self) -> Option<Arc<dyn Bdev>> {
        self.rig.bdev(NSID).map(|bdev| Arc::new(bdev) as Arc<dyn Bdev>)
    }

    /// The device and the driver's thread do something.
    pub fn turn(&mut self, now: Tick) {
        self.rig.now = now;
        self.rig.turn(&mut self.rng, 0);
    }

    /// At one in how many opportunities a fault should happen: often, or seldom enough for a good life beside it.
    pub fn rates(fault: usize) -> &'static [u64] {
        match FAULTS[fault] {
            Fault::NeverReady
            | Fault::NeverStops
            | Fault::ResetFails
            | Fault::DeleteHangs
            | Fault::CompletesAfterDelete => &[1, 2, 3],
            Fault::Fatal => &[50, 300],
            _ => &[2, 10, 40, 150],
        }
    }

    /// It fails in this way from now on, at one in so many opportunities.
    pub fn misbehave(&self, fault: usize, one_in: u64) {
        self.rig.mock.misbehave(FAULTS[fault], one_in);
    }

    /// It fails no more. What its faults have led to stays.
    pub fn behave(&self) {
        self.rig.mock.behave();
    }

    /// Ways in which it has failed.
    pub fn struck(&self) -> Vec<usize> {
        let struck = self.rig.mock.struck();
        (0..FAULTS.len()).filter(|fault| struck.contains(&FAULTS[*fault])).collect()
    }

    /// The operator asks for a reset.
    pub fn reset(&self) {
        self.rig.shared.order(Order::Reset);
    }

    /// It is pulled out.
    pub fn remove(&self) {
        self.rig.mock.remove();
    }

    /// Whether the driver has given it up.
    pub fn is_gone(&self) -> bool {
        matches!(self.rig.shared.life(), Life::Gone(_))
    }

    /// What the driver did wrong.
    pub fn violations(&self) -> Vec<String> {
        self.rig.mock.violations()
    }
}

impl fmt::Debug for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller").field("mock", &self.rig.mock).finish_non_exhaustive()
    }
}
