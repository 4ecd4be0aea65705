//! The space that thinly provisioned units draw on, and how hot devices are: that is measured at intervals, on threads of their own, as it
//! may block; a unit that meets one of its thresholds by then ([`provisioning::met`]) owes every nexus a unit attention.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use super::Control;
use super::keeper::Then;
use crate::bdev::Bdev;
use crate::id::UnitId;
use crate::limits::{PROBES_MAX, SPACE_NS};
use crate::net::Net;
use crate::reactor::message::Change;
use crate::scsi::attention::Ua;
use crate::scsi::provisioning::{self, Met, Thresholds};
use crate::scsi::view::UnitView;
use crate::time::Tick;

/// Which thresholds each unit met when it was last measured, and what they were then.
#[derive(Debug, Default)]
pub(super) struct Watched(BTreeMap<UnitId, (Thresholds, Met)>);

impl<N: Net> Control<N> {
    /// The units whose devices can tell what their blocks take, or how hot they are.
    fn measurable(&self) -> impl Iterator<Item = (UnitId, Arc<dyn Bdev>)> {
        let registry = &self.catalog.registry;
        let tell = |view: &&Arc<UnitView>| provisioning::space(view).is_some() || view.temperature.is_some();
        registry
            .views()
            .filter(tell)
            .filter_map(|view| Some((view.id, Arc::clone(&registry.entry_of(view.id)?.spec.bdev))))
    }

    /// A unit's space was measured.
    pub(super) fn space_measured(&mut self, unit: UnitId) {
        let registry = &self.catalog.registry;
        let Some(view) = registry.view(unit).map(Arc::clone) else { return };
        let (thresholds, met) = (view.modes.thresholds, provisioning::met(&view));
        let watched = &mut self.watched.0;
        if !watched.contains_key(&unit) {
            watched.retain(|unit, _| registry.view(*unit).is_some());
        }
        // One that was set since is armed anew.
        let before = watched.insert(unit, (thresholds, met)).filter(|(former, _)| *former == thresholds);
        if !met.exceeds(before.map(|(_, met)| met).unwrap_or_default()) {
            return;
        }
        let bdev = registry.entry_of(unit).map_or("", |entry| &entry.name);
        let resources = provisioning::resources(&view);
        self.log.threshold_met(bdev, &resources, self.now);
        let attention = Some(Ua::SoftThreshold);
        self.barrier(Change::Unit { view, attention, except: None, is_drained: false }, Then::Nothing);
    }
}

/// Who measures.
#[derive(Debug, Default)]
pub(super) struct Surveyor {
    rounds: Arc<Rounds>,
    next: Tick,
}

/// What the threads that measure share. One that a device holds up leaves the rest to the next.
#[derive(Debug, Default)]
pub(super) struct Rounds(Mutex<Work>);

#[derive(Debug, Default)]
struct Work {
    waiting: VecDeque<(UnitId, Arc<dyn Bdev>)>,
    measured_now: Vec<UnitId>,
}

impl Surveyor {
    /// Whether a thread is to be started for [`Rounds::run`].
    pub(super) fn due<N: Net>(&mut self, control: &Control<N>, now: Tick) -> Option<Arc<Rounds>> {
        if now < self.next {
            return None;
        }
        self.next = now.after_ns(SPACE_NS);
        let mut work = self.rounds.work();
        let Work { waiting, measured_now } = &mut *work;
        for (unit, bdev) in control.measurable() {
            if !measured_now.contains(&unit) && waiting.iter().all(|(other, _)| *other != unit) {
                waiting.push_back((unit, bdev));
            }
        }
        let has_room = measured_now.len() < PROBES_MAX;
        (!waiting.is_empty() && has_room).then(|| Arc::clone(&self.rounds))
    }

    /// When [`Surveyor::due`] has something to do.
    pub(super) fn deadline<N: Net>(&self, control: &Control<N>) -> Option<Tick> {
        control.measurable().next().map(|_| self.next)
    }
}

#[cfg(test)]
impl Surveyor {
    /// Whether a thread measures this unit now.
    pub(super) fn is_at(&self, unit: UnitId) -> bool {
        self.rounds.work().measured_now.contains(&unit)
    }
}

impl Rounds {
    fn work(&self) -> std::sync::MutexGuard<'_, Work> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Measures what waits, and says so of each. It may block.
    pub(super) fn run(&self, measured: impl Fn(UnitId)) {
        while let Some((unit, bdev)) = self.take() {
            bdev.measure();
            drop(bdev);
            self.work().measured_now.retain(|other| *other != unit);
            measured(unit);
        }
    }

    fn take(&self) -> Option<(UnitId, Arc<dyn Bdev>)> {
        let mut work = self.work();
        let next = work.waiting.pop_front()?;
        work.measured_now.push(next.0);
        Some(next)
    }
}
