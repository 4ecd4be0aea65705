//! Why there was no run at all. What goes wrong during one is counted, see [`crate::bench::Tally`].

use std::io;
use std::path::PathBuf;

use lunette_initiator::socket::SocketError;

/// Why a run could not begin.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum LoadError {
    /// The command line asks for what cannot be.
    #[error("{0}")]
    Usage(String),
    #[error("{path}: {error}")]
    Secret { path: PathBuf, error: io::Error },
    #[error("CPU {0} cannot be used: {1}")]
    Cpu(usize, io::Error),
    #[error("{what}: {error}")]
    Target { what: String, error: SocketError },
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl LoadError {
    /// What the process is to end with: 2 when it was asked wrongly.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Usage(_)) { 2 } else { 1 }
    }
}
