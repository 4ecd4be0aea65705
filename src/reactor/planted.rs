//! Bugs planted for the simulator to find: each is a mistake that targets have really made.
//!
//! In a build without the feature `sim` there is none and the questions cost nothing.

/// A planted bug.
#[cfg(feature = "sim")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// A reset is acknowledged before the device has given the aborted IOs back.
    ReplyBeforeDrain,
    /// A command's extent is not checked again when it is submitted.
    NoRecheckAtSubmit,
    /// A unit attention is queued only after the barrier was acknowledged.
    AttentionAfterReply,
    /// A new session's commands do not wait for the former session's IO.
    GhostWrite,
    /// SYNCHRONIZE CACHE is answered without waiting for the flush.
    FlushNotWaitedFor,
    /// FUA is not passed on to the device.
    FuaDropped,
    /// A completion is matched by slot alone, not by tenancy.
    TagReuse,
    /// Data with a wrong digest are written all the same.
    DigestIgnored,
    /// An aborted command is answered nevertheless.
    AnswerAfterAbort,
    /// The second piece of a READ is sent when it comes, even before the first.
    PiecesOutOfOrder,
    /// The buffer of an aborted WRITE is never given back.
    BufferLeak,
    /// Immediate data are written at once, before the data that follow have come.
    PartialWrite,
}

/// The bug planted in a reactor, if any.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Planted {
    #[cfg(feature = "sim")]
    bug: Option<Bug>,
}

#[cfg(feature = "sim")]
impl Planted {
    /// This bug and no other.
    pub fn bug(bug: Bug) -> Planted {
        Planted { bug: Some(bug) }
    }

    /// Whether it is this one.
    pub(super) fn is(self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}

/// Whether the reactor has this bug planted; never, without the feature `sim`.
macro_rules! planted {
    ($reactor:expr, $bug:ident) => {{
        #[cfg(feature = "sim")]
        let is_planted = $reactor.planted.is($crate::reactor::planted::Bug::$bug);
        #[cfg(not(feature = "sim"))]
        let is_planted = false;
        is_planted
    }};
}

pub(super) use planted;
