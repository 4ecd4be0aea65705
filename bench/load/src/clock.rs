//! Nanoseconds since the run began, and the processor time of this thread.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// Counts from when it was made.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
    origin_system_ns: u64,
}

impl Clock {
    /// Begins to count.
    #[must_use]
    pub fn start() -> Self {
        let system = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default();
        Self { origin: Instant::now(), origin_system_ns: nanoseconds(system) }
    }

    /// Nanoseconds since.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        nanoseconds(self.origin.elapsed())
    }

    /// A time of this clock on the one that all processes have (`CLOCK_MONOTONIC`).
    #[must_use]
    pub fn system_ns(&self, now_ns: u64) -> u64 {
        self.origin_system_ns + now_ns
    }
}

fn nanoseconds(time: Duration) -> u64 {
    time.as_secs() * SECOND_NS + u64::from(time.subsec_nanos())
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
