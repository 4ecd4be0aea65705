//! What can go wrong in a comparison, said so that whoever runs it knows what to do.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why a comparison, or one point of it, did not come about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("there is no {program}: {hint}")]
    Missing { program: String, hint: &'static str },
    #[error("cannot start {}: {source}", program.display())]
    Start { program: PathBuf, source: std::io::Error },
    #[error("{program} ended with {status}: {said}")]
    Ended { program: String, status: ExitStatus, said: String },
    #[error("{what}: not within {} s", limit.as_secs())]
    Late { what: String, limit: Duration },
    #[error("{method}: {said}")]
    Call { method: String, said: String },
    #[error("{program} printed no report: {source}: {said}")]
    Report { program: String, source: serde_json::Error, said: String },
    #[error("{count} IOs failed")]
    Errors { count: u64 },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", path.display())]
    Results { path: PathBuf, source: serde_json::Error },
    #[error("{what}: {source}")]
    System { what: &'static str, source: rustix::io::Errno },
    #[error("{0}")]
    Usage(String),
    #[error("{}: {said}", path.display())]
    Plot { path: PathBuf, said: String },
}

impl Fault {
    /// The same error for the same file, whatever was done with it.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Fault {
        let path = path.into();
        |source| Fault::File { path, source }
    }
}
