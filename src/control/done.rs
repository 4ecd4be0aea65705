//! Changes that take their time: who asked is told when they are complete everywhere.

use std::fmt;
use std::sync::Arc;

use crate::bdev::Bdev;

/// How a change ended that had to wait for devices.
#[derive(Debug)]
pub struct Outcome {
    /// False where a device kept IO for longer than it may. The change is in force all the same, and what the device
    /// keeps is let go of when it returns it.
    pub is_clean: bool,
    /// False where something could not be saved: that part was not done.
    pub is_saved: bool,
    /// The devices that were taken out of service, where that was asked for and is done: dropping one closes it, which may
    /// block.
    pub bdevs: Vec<Arc<dyn Bdev>>,
}

/// Called once, on control's thread, when a change is complete. It must not block.
pub struct Done(Box<dyn FnOnce(Outcome) + Send>);

impl Done {
    /// Calls this.
    pub fn new(call: impl FnOnce(Outcome) + Send + 'static) -> Done {
        Done(Box::new(call))
    }

    /// Nobody waits.
    pub fn nobody() -> Done {
        Done::new(drop)
    }

    pub(super) fn call(self, outcome: Outcome) {
        (self.0)(outcome);
    }
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Done")
    }
}
