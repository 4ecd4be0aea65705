//! What control has published of each unit, and between which steps a reactor could go by it: who was allowed what, and
//! whether a write had to be durable.
//!
//! A view counts from the moment at which the first reactor is sent it. Commands can go by it until every reactor has
//! acknowledged a later one. What it permitted can be in a device until it is *fenced*: a later change is in force that
//! waited for the devices, or had nothing to wait for and none before it that had. A change is in force when every reactor
//! has acknowledged it as clean, or the command that asked for it is answered GOOD.

use std::collections::BTreeMap;
use std::sync::Arc;

use lunette::id::{BarrierId, NexusId, ReactorId, UnitId};
use lunette::reactor::message::{Change, TaskTicket};
use lunette::scsi::reserve::Class;
use lunette::scsi::view::UnitView;

use super::oracle::Step;

#[derive(Debug)]
struct Entry {
    view: Arc<UnitView>,
    barrier: Option<BarrierId>,
    by: Option<(ReactorId, TaskTicket)>,
    is_drained: bool,
    acknowledgements: usize,
    is_clean: bool,
    /// It and all before it have been seen by every reactor.
    is_applied: bool,
    /// Nothing that it forbids is in a device.
    is_fenced: bool,
    applied_until: Option<Step>,
    fenced_until: Option<Step>,
}

impl Entry {
    fn allows(&self, nexus: NexusId, class: Class) -> bool {
        self.view.permits.allows(nexus, class)
    }
}

/// The views of one disk, whatever units it has been.
#[derive(Debug, Default)]
pub(super) struct Views {
    entries: Vec<Entry>,
}

/// Those of all disks, and the nexuses of the clients.
#[derive(Debug, Default)]
pub(super) struct Published {
    disks: BTreeMap<usize, Views>,
    pub(super) nexuses: BTreeMap<usize, NexusId>,
}

impl Published {
    /// The disk is a new unit, which nobody could use before.
    pub(super) fn added(&mut self, disk: usize, view: &Arc<UnitView>, now: Step) {
        let views = self.disks.entry(disk).or_default();
        if views.entries.iter().any(|entry| entry.view.id == view.id) {
            return;
        }
        views.push(view);
        let at = views.entries.len() - 1;
        views.applied(at, now);
        views.fenced(at, now);
    }

    /// A barrier is on its way to a reactor, the first or another.
    pub(super) fn sent(&mut self, barrier: BarrierId, change: &Change, units: &BTreeMap<UnitId, usize>) {
        let (view, by, is_drained) = match change {
            Change::Unit { view, .. } => (view, None, false),
            Change::Reservations(change) => (&change.view, change.by, change.is_drained),
            Change::Reset { .. } | Change::Nothing | Change::Target { .. } | Change::RemoveUnit { .. } => {
                return;
            }
        };
        let Some(disk) = units.get(&view.id) else { return };
        let views = self.disks.entry(*disk).or_default();
        if views.entries.iter().any(|entry| entry.barrier == Some(barrier)) {
            return;
        }
        let entry = views.push(view);
        (entry.barrier, entry.by, entry.is_drained) = (Some(barrier), by, is_drained);
    }

    /// A reactor has acknowledged a barrier.
    pub(super) fn acknowledged(&mut self, barrier: BarrierId, is_clean: bool, reactors: usize, now: Step) {
        for views in self.disks.values_mut() {
            let Some(at) = views.entries.iter().position(|entry| entry.barrier == Some(barrier)) else {
                continue;
            };
            let entry = &mut views.entries[at];
            entry.acknowledgements += 1;
            // A resize that is not clean has nothing to do with permissions.
            entry.is_clean &= is_clean || !entry.is_drained;
            if entry.acknowledgements == reactors {
                let is_clean = entry.is_clean;
                views.applied(at, now);
                if is_clean {
                    views.in_force(at, now);
                }
            }
        }
    }

    /// A command that control was asked about is answered GOOD: its change is in force, whoever has acknowledged it or not.
    pub(super) fn answered(&mut self, by: (ReactorId, TaskTicket), now: Step) {
        for views in self.disks.values_mut() {
            if let Some(at) = views.entries.iter().rposition(|entry| entry.by == Some(by)) {
                views.in_force(at, now);
            }
        }
    }

    /// Whether a command that was at work from `start` to now could be served, and whether it could be refused.
    pub(super) fn verdicts(&self, disk: usize, client: usize, class: Class, start: Step) -> (bool, bool) {
        let (Some(nexus), Some(views)) = (self.nexuses.get(&client), self.disks.get(&disk)) else {
            return (true, true);
        };
        let is_at_work = |entry: &&Entry| entry.fenced_until.is_none_or(|until| until >= start);
        let (mut can_serve, mut can_refuse) = (false, false);
        for entry in views.entries.iter().filter(is_at_work) {
            can_serve |= entry.allows(*nexus, class);
            can_refuse |= !entry.allows(*nexus, class);
        }
        (can_serve, can_refuse)
    }

    /// A write of a client lands now: is there a view that permits it, and that has not been fenced?
    pub(super) fn may_land(&self, disk: usize, client: usize) -> Result<(), String> {
        let (Some(nexus), Some(views)) = (self.nexuses.get(&client), self.disks.get(&disk)) else {
            return Ok(());
        };
        let mut in_force = views.entries.iter().filter(|entry| entry.fenced_until.is_none());
        if in_force.any(|entry| entry.allows(*nexus, Class::Write)) {
            return Ok(());
        }
        let last = views.entries.last().map(|entry| entry.view.permits.state());
        Err(format!(
            "a write of client {client}, {nexus:?}, has landed, and others have it reserved: {last:?}"
        ))
    }

    /// Whether every write since `start` had to be durable before its answer.
    pub(super) fn is_write_through(&self, disk: usize, start: Step) -> bool {
        let entries = self.disks.get(&disk).map_or(&[][..], |views| &views.entries);
        let mut seen = entries.iter().filter(|entry| entry.applied_until.is_none_or(|until| until >= start));
        seen.all(|entry| entry.view.is_write_through()) && !entries.is_empty()
    }
}

impl Views {
    fn push(&mut self, view: &Arc<UnitView>) -> &mut Entry {
        self.entries.push(Entry {
            view: Arc::clone(view),
            barrier: None,
            by: None,
            is_drained: false,
            acknowledgements: 0,
            is_clean: true,
            is_applied: false,
            is_fenced: false,
            applied_until: None,
            fenced_until: None,
        });
        self.entries.last_mut().expect("it has just been pushed")
    }

    /// Every reactor has this one or a later one.
    fn applied(&mut self, at: usize, now: Step) {
        self.entries[at].is_applied = true;
        self.entries[..at].iter_mut().for_each(|entry| {
            entry.applied_until.get_or_insert(now);
        });
    }

    /// What was asked for with this one is done, its drain too.
    fn in_force(&mut self, at: usize, now: Step) {
        self.entries[at].is_applied = true;
        let follows = at.checked_sub(1).is_none_or(|before| self.entries[before].is_fenced);
        if self.entries[at].is_drained || follows {
            self.fenced(at, now);
        }
        // Those behind it that were acknowledged earlier and had nothing to wait for.
        let mut next = at + 1;
        while self.entries.get(next).is_some_and(|entry| entry.is_applied && entry.is_clean)
            && self.entries[next - 1].is_fenced
        {
            self.fenced(next, now);
            next += 1;
        }
    }

    fn fenced(&mut self, at: usize, now: Step) {
        self.entries[at].is_fenced = true;
        for entry in &mut self.entries[..at] {
            entry.is_fenced = true;
            entry.fenced_until.get_or_insert(now);
        }
    }
}
