//! How far apart the two CPUs are: what a cache line takes to go from one to the other and back.
//!
//! A hypervisor moves a virtual machine's CPUs about, within seconds. Whether they share a cache then decides what kernel TCP can do,
//! as all data go from one to the other. Points are compared only with points of the same distance.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use crate::fault::Fault;
use crate::machine::Cpus;
use crate::process::pin;
use crate::stats::Spread;

/// Round trips of a sample.
const TRIPS: u32 = 4000;
const SAMPLES: u32 = 5;
/// Distances that differ by more than this factor are different.
const SAME: f64 = 2.5;

/// A line of its own.
#[repr(align(128))]
struct Line(AtomicU32);

/// Nanoseconds of a round trip, the median of some samples. Both CPUs must be free, and the caller runs on the client's.
pub(crate) fn round_trip_ns(cpus: Cpus) -> Result<f64, Fault> {
    let line = Line(AtomicU32::new(0));
    let (line, ends) = (&line.0, TRIPS * SAMPLES * 2);
    thread::scope(|scope| {
        let partner = scope.spawn(|| {
            let pinned = pin(cpus.server);
            // Even numbers are the other's.
            for odd in (1..ends).step_by(2) {
                while line.load(Ordering::Acquire) != odd {
                    std::hint::spin_loop();
                }
                line.store(odd + 1, Ordering::Release);
            }
            pinned
        });
        let samples: Vec<f64> = (0..SAMPLES)
            .map(|sample| {
                let began = Instant::now();
                for trip in 0..TRIPS {
                    let even = 2 * (sample * TRIPS + trip);
                    line.store(even + 1, Ordering::Release);
                    while line.load(Ordering::Acquire) != even + 2 {
                        std::hint::spin_loop();
                    }
                }
                began.elapsed().as_nanos() as f64 / f64::from(TRIPS)
            })
            .collect();
        partner.join().expect("it does not panic")?;
        Ok(Spread::of(&samples).expect("there are samples").median)
    })
}

/// Whether one is far where the other is near.
pub(crate) fn differ(one_ns: f64, other_ns: f64) -> bool {
    one_ns.max(other_ns) > SAME * one_ns.min(other_ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine;

    #[test]
    fn a_round_trip_takes_its_time() {
        if let Ok(cpus) = machine::cpus(None, None) {
            assert!(round_trip_ns(cpus).unwrap() > 1.0);
        }
    }

    #[test]
    fn near_and_far() {
        assert!(!differ(70.0, 130.0) && !differ(420.0, 380.0));
        assert!(differ(130.0, 390.0) && differ(390.0, 70.0));
    }
}
