//! Opening on a thread of its own: a device may hang for as long as it likes, and who asked goes on.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use super::{FileDisk, Habits, OpenError};

/// A disk that is being opened.
#[derive(Debug)]
pub struct Opening {
    outcome: Receiver<Result<(), OpenError>>,
}

impl Opening {
    /// Waits for the end of it; none where that takes longer than `patience`. The thread goes on then, and the disk is
    /// open when it is done.
    pub fn wait(self, patience: Duration) -> Option<Result<(), OpenError>> {
        match self.outcome.recv_timeout(patience) {
            Ok(outcome) => Some(outcome),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                Some(Err(OpenError::Thread(io::Error::other("it panicked"))))
            }
        }
    }
}

impl FileDisk {
    /// Opens the medium, or reads the size of an open one anew, on a thread of its own. Another opener gets `lock_patience` to leave.
    pub fn open_aside(self: &Arc<Self>, lock_patience: Duration) -> Result<Opening, OpenError> {
        let (ended, outcome) = mpsc::sync_channel(1);
        let (disk, habits) = (Arc::clone(self), Habits { lock_patience, ..self.habits });
        // Who asked may have lost patience.
        let open = move || drop(ended.send(disk.open_with(habits)));
        std::thread::Builder::new().name("bdev-open".to_owned()).spawn(open).map_err(OpenError::Thread)?;
        Ok(Opening { outcome })
    }
}
