//! Bugs planted for the tests with the mock controller to find. In a build without the feature `sim` there is none.

/// A planted bug.
#[cfg(feature = "sim")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    /// A command's memory is given back when it took too long, not when its queue is gone.
    MemoryAtTimeOut,
    /// A write is sent again after a reset.
    WriteRetried,
    /// A flush is answered without the device.
    FlushNotSent,
    /// FUA is not passed on.
    FuaDropped,
    /// A completion is taken for its slot's command, whichever tenancy it names.
    GenerationIgnored,
    /// Lanes are told that their queues are gone before the device is quiet.
    SweptTooEarly,
}

#[cfg(feature = "sim")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants this bug, and no other, in what runs on this thread from now on; or none.
#[cfg(feature = "sim")]
#[cfg_attr(not(test), expect(dead_code, reason = "tests plant bugs"))]
pub(crate) fn plant(bug: Option<Bug>) {
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
        let is_planted = $crate::bdev::nvme::planted::is($crate::bdev::nvme::planted::Bug::$bug);
        #[cfg(not(feature = "sim"))]
        let is_planted = $crate::unplanted::never();
        is_planted
    }};
}

pub(super) use planted;
