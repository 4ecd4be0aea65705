//! A discovery session (RFC 7143 §4.3, appendix C), on the control thread: SendTargets, NOP-Out and Logout.

use crate::iscsi::login::{Authority, Established};

/// What control does next. Whatever it is, [`Discovery::outgoing`] may hold bytes to write first.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Go on reading while [`Discovery::wants_input`].
    More,
    /// Read no more; write what is outgoing and close.
    Finished,
    /// Close.
    Closed(Why),
}

/// Why a discovery session was closed on the initiator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// A digest was wrong.
    Digest,
    /// A PDU is longer than we declared to take; its data segment in bytes.
    TooLong(u32),
    /// A login request, or one that may not come here, broke the rules of the session.
    Protocol,
}

/// A discovery session.
#[derive(Debug)]
pub struct Discovery {}

impl Discovery {
    /// Goes on where a login ended. Call [`Discovery::received`] with no bytes at once, for what login left over.
    pub fn new(established: Established) -> Discovery {
        let _ = established;
        Discovery {}
    }

    /// Takes bytes from the initiator.
    pub fn received(&mut self, bytes: &[u8], authority: &dyn Authority) -> Progress {
        let _ = (bytes, authority);
        Progress::More
    }

    /// Bytes for the initiator.
    pub fn outgoing(&self) -> &[u8] {
        &[]
    }

    /// The first `bytes` of [`Discovery::outgoing`] have been written.
    pub fn sent(&mut self, bytes: usize) {
        let _ = bytes;
    }

    /// Whether to read: not while the initiator does not take its answers.
    pub fn wants_input(&self) -> bool {
        true
    }
}
