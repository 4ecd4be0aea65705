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

/// How a call fails that is done and could not be saved.
pub(crate) const UNSAVED: &str = "it is done, but it would be gone at the next start, as it cannot be saved";

/// The cause of a version that says what calls of the last one left open.
const SETTLED: &str = "start";

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
    /// The next write is made in any case.
    is_doubted: bool,
    /// The last write failed, so.
    failed: Option<String>,
}

impl Progress {
    /// A write begins: it holds the changes up to this one; what it was caused by, and what the file says, where that is believed.
    fn begin(&mut self) -> (u64, String, Option<String>) {
        self.is_writing = true;
        let is_believed = !std::mem::take(&mut self.is_doubted) && self.failed.is_none();
        let known = self.text.take().filter(|_| is_believed);
        (self.changes, self.cause.take().unwrap_or_default(), known)
    }

    /// It has ended: what the file says now, or why it could not be written.
    fn end(&mut self, upto: u64, written: Result<String, String>) {
        (self.is_writing, self.ended) = (false, upto);
        match written {
            Ok(text) => (self.text, self.failed) = (Some(text), None),
            Err(failed) => self.failed = Some(failed),
        }
    }
}

impl Keeper {
    pub(super) fn new(taken: Taken) -> Keeper {
        Keeper { taken, progress: Mutex::default(), advanced: Condvar::new() }
    }

    /// What there is now was in the file, unless that is doubted: then the file is written. A daemon that cannot do so serves
    /// all the same, and the next change tries again.
    pub(super) fn begin(&self, context: &Context) -> Result<(), Fault> {
        let text = config::text(context)?;
        let mut progress = lock(&self.progress);
        if !progress.is_doubted {
            progress.text = Some(text);
            return Ok(());
        }
        drop(progress);
        if let Err(fault) = self.keep(context, SETTLED) {
            tracing::error!(
                error = fault.text(),
                "where data are on disks that are made of others is not saved"
            );
        }
        Ok(())
    }

    /// The file.
    pub(super) fn file(&self) -> &Path {
        self.taken.file()
    }

    /// The next call writes the file, whatever it is believed to say.
    pub(super) fn doubt(&self) {
        lock(&self.progress).is_doubted = true;
    }

    /// Waits until the file holds what no call has changed, whatever it is believed to say.
    pub(super) fn keep_settled(&self, context: &Context) -> Result<(), Fault> {
        self.doubt();
        self.keep(context, SETTLED)
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
            let (upto, cause, known) = progress.begin();
            drop(progress);
            let written = self.write(context, known.as_deref(), &cause);
            progress = lock(&self.progress);
            progress.end(upto, written);
            self.advanced.notify_all();
        }
        match &progress.failed {
            None => Ok(()),
            Some(failed) => Err(Fault::internal(format_args!("{UNSAVED}: {failed}"))),
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
            let (file, cause) = (self.taken.file().display().to_string(), cause.to_owned());
            let told = context.control(move |control, now| {
                control.feed().push(
                    now,
                    "config_saved",
                    vec![("file", file.into()), ("cause", cause.into())],
                );
            });
            // A daemon that stops has nobody to tell.
            drop(told);
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_doubts_the_file_while_it_is_written_has_it_written_again() {
        let mut progress = Progress { changes: 1, cause: Some("a".to_owned()), ..Progress::default() };
        assert_eq!(progress.begin(), (1, "a".to_owned(), None));
        progress.is_doubted = true;
        progress.changes = 2;
        progress.end(1, Ok("text".to_owned()));
        assert_eq!(progress.begin(), (2, String::new(), None));
        progress.end(2, Ok("text".to_owned()));
        assert_eq!(progress.begin(), (2, String::new(), Some("text".to_owned())));
        progress.end(2, Err("disk full".to_owned()));
        assert_eq!(progress.begin(), (2, String::new(), None), "a failed write leaves nobody knows what");
    }
}
