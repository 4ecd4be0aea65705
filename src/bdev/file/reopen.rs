//! Opening a disk anew while it is served: after a flush that failed, or when a device that was pulled is back.
//!
//! It is the operator's to ask for, not the disk's: initiators were told that their writes were done, and whoever has them look at the
//! medium again has to know that some may not be there. So nothing comes back by itself that was there and failed; what was asked
//! to come back, and is not there yet, does when it is.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::open::{self, Habits, Medium};
use super::term::Term;
use super::{FileDisk, OpenError, Recipe, lock};
use crate::bdev::Bdev;

/// Between two looks whether the last IO is back.
const LOOK: Duration = Duration::from_millis(5);

/// How a disk was left when it was opened anew.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Left {
    /// A flush had failed.
    pub is_flush_failed: bool,
    /// Writes that were answered since the last flush that went well may not be on the medium.
    pub may_have_lost: bool,
}

/// What is known of the medium from one term to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    /// What names it to initiators.
    pub(super) uuid: [u8; 16],
    /// What it is, whatever it is called.
    pub(super) own_uuid: [u8; 16],
    /// Inode numbers are used again.
    pub(super) born: Option<(i64, u32)>,
    /// As [`crate::bdev::Bdev::own`].
    pub(super) lasting: Option<[u8; 16]>,
    pub(super) block_bytes: u32,
}

/// A term that is over and has not been followed by an open medium.
#[derive(Debug)]
pub(super) struct Former {
    term: Arc<Term>,
    /// None until the last flush was tried.
    left: Option<Left>,
}

impl FileDisk {
    /// Takes the disk out of service, for [`FileDisk::reopen`]: from now on it has no blocks, and what its channels have ends in
    /// its own time. Nothing opens it before `reopen` was called.
    pub fn close(&self) {
        let mut opening = self.opening();
        let mut term = self.term_mut();
        if term.medium.get().is_some() {
            let next = term.end();
            opening.former = Some(Former { term: std::mem::replace(&mut *term, next), left: None });
        }
        opening.is_held = true;
    }

    /// Opens a disk that was closed, as soon as everything sent to it before has come back, which may take `patience`. It may block
    /// for longer: for helper threads.
    ///
    /// # Errors
    /// It is not there, not the same, or has not given everything back. It is looked for from then on ([`Bdev::probe`]), and
    /// comes up when that is over.
    ///
    /// [`Bdev::probe`]: crate::bdev::Bdev::probe
    pub fn reopen(&self, patience: Duration) -> Result<Left, OpenError> {
        let mut opening = self.opening();
        opening.is_held = false;
        let mut patience_left = patience;
        while opening.former.as_ref().is_some_and(|former| former.term.has_users())
            && !patience_left.is_zero()
        {
            rest();
            patience_left = patience_left.saturating_sub(LOOK);
        }
        self.open_medium(&mut opening, self.habits)
    }

    /// Opens the medium of a term that has none.
    pub(super) fn open_medium(&self, opening: &mut super::Opener, habits: Habits) -> Result<Left, OpenError> {
        let path = || self.recipe.path.clone();
        if opening.is_held {
            return Err(OpenError::Closed(path()));
        }
        let mut left = Left::default();
        let mut kept = None;
        if let Some(former) = &mut opening.former {
            if former.term.has_users() {
                return Err(OpenError::Draining(path()));
            }
            let medium = former.term.medium.get();
            left = *former.left.get_or_insert_with(|| last_flush(&former.term));
            kept = medium.filter(|medium| medium.is_same_device(&self.recipe.path)).cloned();
            if kept.is_none()
                && let Some(medium) = medium
            {
                medium.let_go();
            }
        }
        let (medium, blocks) = match kept {
            // A channel that has nothing to do keeps it open, and claimed: another claim would fail.
            Some(medium) => {
                let blocks = medium.blocks(&self.recipe.path)?;
                (medium, blocks)
            }
            None => {
                // One that was there is not made again.
                let is_first = self.origin.get().is_none();
                let create_bytes = self.recipe.create_bytes.filter(|_| is_first);
                let recipe = Recipe { create_bytes, ..Recipe::clone(&self.recipe) };
                let (medium, blocks) = open::open(&recipe, habits)?;
                (Arc::new(medium), blocks)
            }
        };
        self.check_same(&medium)?;
        let term = self.term();
        term.blocks.store(blocks, Ordering::Relaxed);
        term.medium.get_or_init(|| medium);
        self.measure();
        opening.former = None;
        Ok(left)
    }

    /// Whether it is the medium that was served before.
    fn check_same(&self, medium: &Medium) -> Result<(), OpenError> {
        let Medium { uuid, own_uuid, born, lasting, block_bytes, .. } = *medium;
        let origin = self.origin.get_or_init(|| Origin { uuid, own_uuid, born, lasting, block_bytes });
        if (origin.own_uuid, origin.born, origin.block_bytes) == (own_uuid, born, block_bytes) {
            return Ok(());
        }
        Err(OpenError::OtherDisk(self.recipe.path.clone()))
    }
}

/// Makes durable what can be, and says what that was worth.
fn last_flush(term: &Term) -> Left {
    let is_flush_failed = term.verdict.is_failed();
    let Some(medium) = term.medium.get() else { return Left::default() };
    let is_flushed = term.recipe.read_only || rustix::fs::fdatasync(&medium.fd).is_ok();
    Left { is_flush_failed, may_have_lost: is_flush_failed || !is_flushed }
}

impl Medium {
    /// Gives up the lock, as idle channels may keep the file open.
    fn let_go(&self) {
        if !self.is_device() {
            lock::unlock(self.fd.as_fd());
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a helper thread waits for reactors")]
fn rest() {
    std::thread::sleep(LOOK);
}
