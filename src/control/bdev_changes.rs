//! Block devices that an operator brings, changes and takes away while sessions run.

use super::Control;
use super::changes::is_used;
use super::done::Done;
use super::error::ChangeError;
use super::keeper::Then;
use super::pending::ChangeId;
use super::registry::{BdevSpec, Entry};
use crate::id::{ReactorId, UnitId};
use crate::meter::Spread;
use crate::net::Net;
use crate::reactor::message::Change;
use crate::scsi::view::DeviceKind;

impl<N: Net> Control<N> {
    /// Takes a block device in; targets can map it from now on.
    ///
    /// # Errors
    /// Name or UUID taken, a base that is not there, is part of another bdev or is served; too many.
    pub fn register_bdev(&mut self, spec: BdevSpec) -> Result<(), ChangeError> {
        let mut stand_in = [0; 16];
        self.random.fill(&mut stand_in);
        let targets = &self.catalog.targets;
        let name = spec.bdev.info().name;
        self.catalog.registry.register(spec, stand_in, |unit| targets.is_mapped(unit))?;
        self.recall_identity(&name);
        self.log.fact("bdev_registered", vec![("bdev", name.into())], self.now);
        Ok(())
    }

    /// The same, initiators being shown this kind of device.
    ///
    /// # Errors
    /// The same.
    pub fn register_bdev_as(&mut self, spec: BdevSpec, kind: DeviceKind) -> Result<(), ChangeError> {
        let name = spec.bdev.info().name;
        self.register_bdev(spec)?;
        self.catalog.registry.set_kind(&name, kind);
        Ok(())
    }

    /// The block device of this name, or whose UUID this is in its usual form.
    pub fn bdev(&self, name: &str) -> Option<&Entry> {
        self.catalog.registry.get(name)
    }

    /// Whether a LUN leads to this block device, or another is made of it.
    pub fn is_bdev_used(&self, name: &str) -> bool {
        let Some(entry) = self.catalog.registry.get(name) else { return false };
        let is_mapped = entry.unit.is_some_and(|unit| self.catalog.targets.is_mapped(unit));
        is_mapped || self.catalog.registry.check_unclaimed(entry).is_err()
    }

    /// How many reactors serve.
    pub fn reactor_count(&self) -> usize {
        self.outbox.running().count()
    }

    /// The block devices, in the order they came.
    pub fn bdevs(&self) -> impl Iterator<Item = &Entry> {
        self.catalog.registry.iter()
    }

    /// Where the time of commands went that devices had IO of, by reactor; what bdevs had that are gone stays.
    pub fn unit_stages(&self) -> Vec<[Spread; 4]> {
        self.catalog.registry.stages()
    }

    /// Replaces what is kept of how a bdev was made (it was resized).
    ///
    /// # Errors
    /// No such bdev.
    pub fn set_recipe(&mut self, name: &str, recipe: String) -> Result<(), ChangeError> {
        self.catalog.registry.set_recipe(name, recipe)
    }

    /// Shows a bdev, and what is made of it, as it is now: to be called when it was resized, or its medium found. Initiators are
    /// told; `done` when no IO of before is left in a device, where something was taken away.
    ///
    /// # Errors
    /// No such bdev, or it can no longer be served.
    pub fn reread_bdev(&mut self, name: &str, done: Done) -> Result<(), ChangeError> {
        self.pending.check_room()?;
        for name in self.catalog.registry.with_users(name)? {
            self.keep_found(&name);
            self.recall_identity(&name);
            if let Some(bytes) = self.catalog.registry.look_at_size(&name) {
                let fields = vec![("bdev", name.as_str().into()), ("bytes", bytes.into())];
                self.log.fact("bdev_resized", fields, self.now);
            }
        }
        let registry = &self.catalog.registry;
        let units = registry.with_users(name)?.into_iter().filter_map(|name| registry.get(&name)?.unit);
        let views = units.map(|unit| registry.reread(unit)).collect::<Result<Vec<_>, _>>()?;
        let id = self.pending.begin(done);
        for view in views {
            let view = if view.permits.is_known() { view } else { self.restored(view) };
            if let Ok(true) = self.show_unit(view, None, Then::Part(id)) {
                self.pending.add_part(id);
            }
        }
        self.part_done(id, true);
        Ok(())
    }

    /// Takes a bdev out of service, and what is made of it first: its LUNs go, commands at them end, and when every reactor
    /// has let go of it `done` gets the devices themselves. Until then the name stays taken.
    ///
    /// # Errors
    /// No such bdev, or it is going already.
    pub fn unregister_bdev(&mut self, name: &str, done: Done) -> Result<(), ChangeError> {
        self.pending.check_room()?;
        let names = self.catalog.registry.leave(name)?;
        let id = self.pending.begin(done);
        for name in names {
            self.let_go_of_disk(&name);
            let mut fields = vec![("bdev", name.as_str().into())];
            if let Some(limits) = self.bdev(&name).map(Entry::limits).filter(|limits| !limits.is_none()) {
                tracing::warn!(
                    bdev = name,
                    %limits,
                    "its limits are gone with it: another bdev of this name has none until they are set again"
                );
                fields.push(("limits", limits.to_string().into()));
            }
            self.log.fact("bdev_unregistered", fields, self.now);
            match self.bdev(&name).and_then(|entry| entry.unit) {
                Some(unit) => self.remove_unit(unit, id),
                None => {
                    let bdev = self.catalog.registry.remove(&name);
                    bdev.into_iter().for_each(|bdev| self.pending.add_bdev(id, bdev));
                }
            }
        }
        self.doubt_absent_arrays(Done::nobody());
        self.part_done(id, true);
        Ok(())
    }

    fn remove_unit(&mut self, unit: UnitId, id: ChangeId) {
        self.leave_chore(unit);
        let changed = self.catalog.unmap_everywhere(unit, &is_used(&self.sessions));
        self.publish(changed, &[], Some(id));
        let reactors = self.outbox.running().collect();
        self.pending.add_unit(id, unit, reactors);
        self.change(Change::RemoveUnit { unit }, Some(id));
        if self.outbox.running().next().is_none() {
            // All have stopped and dropped what they had.
            self.released(unit, ReactorId(0));
        }
    }

    /// A reactor has let go of a unit that was removed.
    pub(super) fn released(&mut self, unit: UnitId, reactor: ReactorId) {
        let Some(id) = self.pending.released(unit, reactor) else { return };
        self.early.forget(unit);
        let name = self.catalog.registry.entry_of(unit).map(|entry| entry.name.clone());
        let bdev = name.and_then(|name| self.catalog.registry.remove(&name));
        bdev.into_iter().for_each(|bdev| self.pending.add_bdev(id, bdev));
        self.part_done(id, true);
    }
}
