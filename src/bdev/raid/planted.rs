//! Bugs planted for the simulator to find. In a build without the feature `sim` there is none.

/// A planted bug.
#[cfg(feature = "sim")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// A strip is taken to be a block longer than it is.
    StripTooLong,
    /// An IO that is on several members is answered when the first has its part.
    FirstLegOnly,
    /// A flush reaches one member only.
    FlushOfOne,
    /// The data of each leg are the first's.
    WindowNotMoved,
    /// What a member could not do counts as done.
    ErrorIgnored,
    /// Of a mirror: a change is answered when one member has it.
    FirstMemberOnly,
    /// The first member is read, whatever it is.
    StaleRead,
    /// The member that is read is written first.
    ReaderFirst,
    /// What a member could not do is answered before the state file says that it is out.
    AnsweredBeforeSaved,
    /// A window is copied while it is being changed.
    CopiedOver,
    /// Blocks are changed before the state file says so.
    DirtyAfterTheWrite,
    /// A change that was cancelled is given up where it is.
    CancelledHalfway,
    /// Changes of the same blocks reach members in any order.
    OrderLost,
    /// A member counts as filled while changes are at work that began for another reader.
    FilledTooEarly,
    /// Another member is read before the others have what it has.
    ReadWhileSettling,
    /// What a member has read counts, though another one is read by now.
    FormerReader,
    /// What is written back where a medium was bad may be older than what was written since it was read.
    MendedOver,
}

#[cfg(feature = "sim")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants this bug, and no other, in what runs on this thread from now on; or none.
#[cfg(feature = "sim")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// The bug of a daemon that a lab runs, on all its threads.
#[cfg(feature = "sim")]
static EVERYWHERE: std::sync::OnceLock<Bug> = std::sync::OnceLock::new();

/// Plants this bug in the whole process, for as long as it runs.
#[cfg(feature = "sim")]
pub(crate) fn plant_everywhere(bug: Bug) {
    let _ = EVERYWHERE.set(bug);
}

#[cfg(feature = "sim")]
pub(super) fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug) || EVERYWHERE.get() == Some(&bug)
}

/// Whether this bug is planted; never, without the feature `sim`.
macro_rules! planted {
    ($bug:ident) => {{
        #[cfg(feature = "sim")]
        let is_planted = $crate::bdev::raid::planted::is($crate::bdev::raid::planted::Bug::$bug);
        #[cfg(not(feature = "sim"))]
        let is_planted = $crate::unplanted::never();
        is_planted
    }};
}

pub(super) use planted;
