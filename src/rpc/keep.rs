//! A configuration that is never lost: what a call has changed is on stable storage when the call is answered.
//!
//! Calls of several clients, and those of one batch, share a write: who finds one going on waits for the next, which holds
//! the changes of everybody who waits. A write that fails is told to all of them, and the next change tries again.

use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

use super::config;
use super::context::{Context, lock};
use super::fault::Fault;
use super::versions::Taken;

/// Writes the configuration.
#[derive(Debug)]
pub(super) struct Keeper {
    taken: Taken,
    progress: Mutex<Progress>,
    advanced: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    /// Counts changes.
    changes: u64,
    /// What those did that no write holds yet.
    cause: Option<String>,
    /// Those up to here were in a write that has ended.
    ended: u64,
    is_writing: bool,
    /// What the file says, as far as we wrote it or read it at start.
    text: Option<String>,
    /// The last write failed, so.
    failed: Option<String>,
}

impl Keeper {
    pub(super) fn new(taken: Taken) -> Keeper {
        Keeper { taken, progress: Mutex::default(), advanced: Condvar::new() }
    }

    /// What there is now was in the file.
    pub(super) fn begin(&self, context: &Context) -> Result<(), Fault> {
        lock(&self.progress).text = Some(config::text(context)?);
        Ok(())
    }

    /// The file.
    pub(super) fn file(&self) -> &Path {
        self.taken.file()
    }

    /// The next call writes the file, whatever it is believed to say.
    pub(super) fn doubt(&self) {
        lock(&self.progress).text = None;
    }

    /// Waits until the file holds what `method` has changed.
    pub(super) fn keep(&self, context: &Context, method: &str) -> Result<(), Fault> {
        let mut progress = lock(&self.progress);
        progress.changes += 1;
        let change = progress.changes;
        progress.cause.get_or_insert_with(|| method.to_owned());
        while progress.is_writing && progress.ended < change {
            progress = self.advanced.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
        if progress.ended < change {
            progress.is_writing = true;
            let upto = progress.changes;
            let cause = progress.cause.take().unwrap_or_default();
            let (known, had_failed) = (progress.text.take(), progress.failed.is_some());
            drop(progress);
            let written = self.write(context, known.as_deref().filter(|_| !had_failed), &cause);
            progress = lock(&self.progress);
            progress.is_writing = false;
            progress.ended = upto;
            match written {
                Ok(text) => (progress.text, progress.failed) = (Some(text), None),
                Err(failed) => (progress.text, progress.failed) = (known, Some(failed)),
            }
            self.advanced.notify_all();
        }
        match &progress.failed {
            None => Ok(()),
            Some(failed) => Err(Fault::internal(format_args!(
                "it is done, but it would be gone at the next start, as it cannot be saved: {failed}"
            ))),
        }
    }

    /// Writes what there is now, unless that is `known`; gives back what it is.
    fn write(&self, context: &Context, known: Option<&str>, cause: &str) -> Result<String, String> {
        let text = config::text(context).map_err(|fault| fault.text())?;
        if known != Some(text.as_str()) {
            self.taken.save(&text, cause).map_err(|error| {
                tracing::error!(%error, cause, "the configuration cannot be saved");
                error.to_string()
            })?;
        }
        Ok(text)
    }
}
