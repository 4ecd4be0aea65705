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
    /// An aborted IO's tag is free at once, and its completion is taken for that of the tag's next user.
    TagReuse,
    /// What a device could not do is answered GOOD.
    ErrorIgnored,
    /// A WRITE is answered when its last piece was submitted, not when all have come back.
    AnswerBeforeDone,
    /// An aborted command is answered nevertheless.
    AnswerAfterAbort,
    /// The second piece of a READ is sent when it comes, even before the first.
    PiecesOutOfOrder,
    /// A piece of a READ that came before its predecessor does not count: one more may come and take its place.
    ParkedNotCounted,
    /// The buffer of an aborted WRITE is never given back.
    BufferLeak,
    /// COMPARE AND WRITE and ORWRITE go ahead without a hold.
    HoldNotTaken,
    /// Whatever goes to the device goes in spite of another command's hold.
    HoldNotHonoured,
    /// UNMAP and WRITE SAME of zeroes go to the device in spite of another command's hold.
    HoldNotHonouredByUnmap,
    /// A reservation that has come since a command was admitted is overlooked when its IO is submitted.
    PermitsNotRechecked,
    /// A change of reservations is acknowledged while devices still have what it forbids.
    ReserveReplyBeforeDrain,
    /// Immediate data are written at once, before the data that follow have come.
    PartialWrite,
    /// What is lent and was not sent in its turn is not copied.
    LentNotKept,
    /// A command that was taken over ends on the connection that is lost.
    AllegianceForgotten,
    /// Whoever aborts a copy is answered while another unit's device has its write.
    CopyNotWaitedFor,
    /// A change of its blocks does not break a token.
    TokenNotBroken,
    /// A token's blocks are read without a hold.
    TokenNotHeld,
    /// A chore begins while devices have IO of before.
    ChoreNotDrained,
    /// The last buffer may be taken by one who will need another.
    NoBufferKept,
    /// Commands begin as they come, whatever their logical unit's or initiator's ceiling.
    CeilingIgnored,
    /// What a command that was aborted has booked under a ceiling is not given back.
    BookingKept,
    /// What a device had of a READ when it began anew on another connection counts as read.
    RestartOverlooked,
    /// A response that is sent again has the StatSN that would be next.
    RetainedRenumbered,
    /// Data that are sent again are those at the beginning of their buffer, whichever were asked for.
    RetainedMisplaced,
    /// Of several connections' commands those that came early have their turn in the order in which they came.
    OrderOfArrival,
    /// What says that commands were aborted does not wait for what was said before on other connections.
    FenceNotRaised,
    /// The turn in which a session begins never ends.
    TurnNeverEnds,
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

/// [`Bug::TurnNeverEnds`].
#[cfg(feature = "sim")]
#[expect(clippy::disallowed_methods, reason = "it is the bug")]
pub(super) fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

/// What a reactor holds; all 0 when nothing is going on.
#[cfg(feature = "sim")]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Census {
    /// Connections.
    pub conns: usize,
    /// Commands.
    pub tasks: usize,
    /// Items to be sent.
    pub items: usize,
    /// Device IOs, in flight or waiting for room.
    pub ios: usize,
    /// Commands that wait for their turn under a ceiling.
    pub paced: usize,
    /// Functions, barriers, session ends and holds that wait for devices.
    pub waits: usize,
    /// Holds: asked for, in force, and in a home's list.
    pub holds: usize,
}

#[cfg(feature = "sim")]
impl<N: crate::net::Net> crate::reactor::turn::Reactor<N> {
    /// What it holds now.
    pub fn census(&self) -> Census {
        Census {
            conns: self.conns.len(),
            tasks: self.tables.tasks.len(),
            items: self.tables.tx.len(),
            ios: self.tables.ios.len(),
            paced: self.paced.len(),
            waits: self.waits.len(),
            holds: self.holds.count(),
        }
    }

    /// Commands under ceilings: how many were looked at so far because some were given up or are to book anew, and for how many there
    /// is room.
    pub fn paced_cost(&self) -> (usize, usize) {
        self.paced.cost()
    }

    /// [`Bug::TagReuse`]: forgets IOs that devices have.
    pub(super) fn free_tags(&mut self, is_aborted: impl Fn(&crate::reactor::tables::InFlight) -> bool) {
        if !self.planted.is(Bug::TagReuse) {
            return;
        }
        let is_freed = |io: &crate::reactor::tables::InFlight| io.parked.is_none() && is_aborted(io);
        loop {
            let freed = self.tables.ios.iter().find(|(_, io)| is_freed(io)).map(|(key, _)| key);
            let Some(key) = freed else { return };
            if let Some(io) = self.tables.ios.remove(key)
                && let Some(task) = self.tables.tasks.get_mut(io.task)
            {
                task.ios -= 1;
            }
        }
    }
}

/// Whether the reactor has this bug planted; never, without the feature `sim`.
macro_rules! planted {
    ($reactor:expr, $bug:ident) => {{
        #[cfg(feature = "sim")]
        let is_planted = $reactor.planted.is($crate::reactor::planted::Bug::$bug);
        #[cfg(not(feature = "sim"))]
        let is_planted = $crate::unplanted::never();
        is_planted
    }};
}

pub(super) use planted;
