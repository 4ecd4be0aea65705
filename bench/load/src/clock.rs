//! Nanoseconds since the run began, and the processor time of this thread.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// Counts from when it was made.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Begins to count.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        let since = self.0.elapsed();
        since.as_secs() * SECOND_NS + u64::from(since.subsec_nanos())
    }
}

/// Processor time that this thread has used.
#[must_use]
pub fn thread_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// Nanoseconds in so many seconds; not a number and negative ones are none.
#[must_use]
pub fn seconds_to_ns(seconds: f64) -> u64 {
    u64::try_from(Duration::try_from_secs_f64(seconds).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}
