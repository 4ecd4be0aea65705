//! Media that are not there yet: they are looked for, on threads of their own, as that may block.
//!
//! A disk whose file was missing is not ready, and comes up by itself when the file does.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use super::Control;
use super::done::Done;
use crate::bdev::Bdev;
use crate::limits::{PROBE_NS, PROBES_MAX};
use crate::net::Net;
use crate::time::Tick;

/// What came of looking for a medium.
pub(super) type Probed = Result<(), Box<dyn Error + Send + Sync>>;

/// What is being looked for.
#[derive(Debug, Default)]
pub(super) struct Prober {
    /// By name of the bdev: the last answer that the log has, and whether a thread is looking now.
    absent: BTreeMap<String, Absent>,
    /// How often media were looked for.
    looks: u64,
    next: Tick,
}

#[derive(Debug, Default)]
struct Absent {
    told: String,
    is_running: bool,
    /// The look that was the last.
    look: u64,
}

impl Prober {
    /// The devices to be looked at now. [`Prober::probed`] follows for each.
    pub(super) fn due<N: Net>(&mut self, control: &Control<N>, now: Tick) -> Vec<(String, Arc<dyn Bdev>)> {
        let absent: Vec<_> = control.absent().collect();
        self.absent.retain(|name, known| known.is_running || absent.iter().any(|(absent, _)| absent == name));
        for (name, _) in &absent {
            self.absent.entry(name.clone()).or_default();
        }
        if absent.is_empty() || now < self.next {
            return Vec::new();
        }
        self.next = now.after_ns(PROBE_NS);
        let running = self.absent.values().filter(|known| known.is_running).count();
        let is_idle = |name: &str| self.absent.get(name).is_some_and(|known| !known.is_running);
        let mut due: Vec<_> = absent.into_iter().filter(|(name, _)| is_idle(name)).collect();
        // Who has waited for longest: those that stay away must not keep others from being found.
        due.sort_by_key(|(name, _)| self.absent.get(name).map(|known| known.look));
        due.truncate(PROBES_MAX.saturating_sub(running));
        self.looks += 1;
        for (name, _) in &due {
            let known = self.absent.entry(name.clone()).or_default();
            (known.is_running, known.look) = (true, self.looks);
        }
        due
    }

    /// A look is over. An answer is logged once, not every second.
    pub(super) fn probed<N: Net>(&mut self, control: &mut Control<N>, name: &str, probed: Probed) {
        if let Some(absent) = self.absent.get_mut(name) {
            absent.is_running = false;
        }
        // Another size is told, whatever else is amiss.
        let is_resized = control.bdev(name).is_some_and(|entry| {
            let blocks = entry.spec.bdev.info().blocks;
            blocks > 0 && blocks != entry.seen_blocks
        });
        let reread =
            if probed.is_ok() || is_resized { control.reread_bdev(name, Done::nobody()) } else { Ok(()) };
        let outcome = probed
            .map_err(|error| error.to_string())
            .and_then(|()| reread.map_err(|error| error.to_string()));
        control.catalog.registry.set_missing(name, outcome.as_ref().err().cloned());
        match outcome {
            Ok(()) => tracing::info!(bdev = name, "the disk is there"),
            Err(error) => {
                let absent = self.absent.entry(name.to_owned()).or_default();
                if absent.told != error {
                    tracing::warn!(
                        bdev = name,
                        error,
                        "the disk is not ready; it is looked for every second"
                    );
                    absent.told = error;
                }
            }
        }
    }

    /// When [`Prober::due`] has something to do.
    pub(super) fn deadline(&self) -> Option<Tick> {
        self.absent.values().any(|absent| !absent.is_running).then_some(self.next)
    }
}

impl<N: Net> Control<N> {
    /// The bdevs whose medium has not been found yet.
    fn absent(&self) -> impl Iterator<Item = (String, Arc<dyn Bdev>)> {
        self.catalog.registry.absent().map(|entry| (entry.name.clone(), Arc::clone(&entry.spec.bdev)))
    }
}
