//! The logical units made of block devices: what is known of each, and the views of them that reactors read.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Entry, Registry};
use crate::bdev::Bdev;
use crate::control::error::{ChangeError, What};
use crate::control::unit;
use crate::id::{NexusId, ReactorId, UnitId};
use crate::limits::UNITS_MAX;
use crate::scsi::chore::Chore;
use crate::scsi::view::{Medium, Tray, UnitView};

/// A logical unit.
#[derive(Debug)]
pub(super) struct Unit {
    view: Arc<UnitView>,
    /// The name of its bdev.
    bdev: String,
    /// The reactors whose channels keep writes that were given up.
    unsettled: BTreeSet<ReactorId>,
    /// Its last chore has failed, and was one that must not.
    has_failed: bool,
    /// Its medium was taken out.
    is_ejected: bool,
    /// Those who prevent that.
    preventers: BTreeSet<NexusId>,
    /// The operator wants it out.
    is_eject_wanted: bool,
}

impl Unit {
    /// What is to be said of a medium that its device says this of.
    fn medium(&self, medium: Medium) -> Medium {
        match medium {
            Medium::Removed => medium,
            _ if self.is_ejected => Medium::Ejected,
            Medium::NotReady | Medium::Empty => medium,
            _ if !self.unsettled.is_empty() => Medium::Unsettled,
            _ if self.has_failed => Medium::Failed,
            _ if self.view.chore.is_some() => Medium::Busy,
            _ => Medium::Ready,
        }
    }

    fn tray(&self) -> Tray {
        Tray { is_locked: !self.preventers.is_empty(), is_eject_wanted: self.is_eject_wanted }
    }
}

/// An index that units have, one after another.
#[derive(Debug)]
pub(super) struct Slot {
    /// The present tenant, or the next.
    id: UnitId,
    unit: Option<Unit>,
}

impl Slot {
    /// The unit is gone; the next tenant has another name.
    pub(super) fn vacate(&mut self) {
        self.unit = None;
        self.id = self.id.next_tenancy();
    }
}

impl Registry {
    /// The logical unit of a bdev, made where there is none yet: then it is to be told by [`Registry::take_made`].
    pub(in crate::control) fn unit_of(&mut self, name: &str) -> Result<UnitId, ChangeError> {
        let entry = self.find(name)?;
        self.check_unclaimed(entry)?;
        if let Some(id) = entry.unit {
            return Ok(id);
        }
        let info = entry.spec.bdev.info();
        self.check_uuid(&info)?;
        unit::check(&info)?;
        let (name, identity, kind) = (entry.name.clone(), entry.identity(&info), entry.kind);
        let pace = entry.pace.clone();
        let index = match self.slots.iter().position(|slot| slot.unit.is_none()) {
            Some(index) => index,
            None => {
                let index = self.slots.len();
                let id = u32::try_from(index).ok().filter(|&index| index < UNITS_MAX);
                let id = id.ok_or(ChangeError::TooMany { what: What::Bdev, most: UNITS_MAX as usize })?;
                self.slots.push(Slot { id: UnitId::new(id, 0), unit: None });
                index
            }
        };
        let bdev = Arc::clone(&self.find(&name)?.spec.bdev);
        let slot = &mut self.slots[index];
        let id = slot.id;
        let status_url = self.status_url.clone();
        let view = unit::view(id, &*bdev, &info, identity, None, kind);
        let view = Arc::new(UnitView { status_url, pace, ..view });
        slot.unit = Some(Unit {
            view,
            bdev: name.clone(),
            unsettled: BTreeSet::new(),
            has_failed: false,
            is_ejected: false,
            preventers: BTreeSet::new(),
            is_eject_wanted: false,
        });
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.name == name) {
            entry.unit = Some(id);
        }
        self.made.push(id);
        Ok(id)
    }

    /// The units that were made since, and what they are made of.
    pub(in crate::control) fn take_made(&mut self) -> Vec<(Arc<UnitView>, Arc<dyn Bdev>)> {
        let made = std::mem::take(&mut self.made);
        let told = made
            .into_iter()
            .filter_map(|id| Some((Arc::clone(self.view(id)?), Arc::clone(&self.entry_of(id)?.spec.bdev))));
        told.collect()
    }

    fn unit(&self, id: UnitId) -> Option<&Unit> {
        self.slots.get(id.index()).filter(|slot| slot.id == id)?.unit.as_ref()
    }

    /// A unit as it is now.
    pub(in crate::control) fn view(&self, id: UnitId) -> Option<&Arc<UnitView>> {
        self.unit(id).map(|unit| &unit.view)
    }

    /// Every unit as it is now.
    pub(in crate::control) fn views(&self) -> impl Iterator<Item = &Arc<UnitView>> {
        self.slots.iter().filter_map(|slot| slot.unit.as_ref()).map(|unit| &unit.view)
    }

    /// What a unit is made of.
    pub(in crate::control) fn entry_of(&self, id: UnitId) -> Option<&Entry> {
        let unit = self.unit(id)?;
        self.entries.iter().find(|entry| entry.name == unit.bdev)
    }

    /// The view of a unit that its device has now (it may have been resized).
    pub(in crate::control) fn reread(&self, id: UnitId) -> Result<UnitView, ChangeError> {
        let (Some(unit), Some(entry)) = (self.unit(id), self.entry_of(id)) else {
            return Err(ChangeError::missing(What::Bdev, "of this unit"));
        };
        let info = entry.spec.bdev.info();
        self.check_uuid(&info)?;
        unit::check(&info)?;
        let old = &unit.view;
        // Who it is, is known only when its medium has been found.
        let identity = match old.medium {
            Medium::NotReady => entry.identity(&info),
            _ => old.identity.clone(),
        };
        let view = unit::view(id, &*entry.spec.bdev, &info, identity, Some(old.modes), entry.kind);
        Ok(UnitView {
            permits: old.permits.clone(),
            alua: old.alua.clone(),
            settings: old.settings.clone(),
            chore: old.chore.clone(),
            medium: unit.medium(view.medium),
            tray: unit.tray(),
            status_url: old.status_url.clone(),
            pace: entry.pace.clone(),
            ..view
        })
    }

    /// Who prevents that the unit's medium is taken out.
    pub(in crate::control) fn preventers(&self, id: UnitId) -> &BTreeSet<NexusId> {
        static NOBODY: BTreeSet<NexusId> = BTreeSet::new();
        self.unit(id).map_or(&NOBODY, |unit| &unit.preventers)
    }

    /// The unit's medium is out or in. To be shown by [`Registry::reread`], as the next three.
    pub(in crate::control) fn set_ejected(&mut self, id: UnitId, is_ejected: bool) {
        if let Some(unit) = self.unit_mut(id) {
            (unit.is_ejected, unit.is_eject_wanted) = (is_ejected, false);
        }
    }

    /// The operator wants the unit's medium out.
    pub(in crate::control) fn want_ejected(&mut self, id: UnitId) {
        if let Some(unit) = self.unit_mut(id) {
            unit.is_eject_wanted = true;
        }
    }

    /// A nexus prevents that the unit's medium is taken out.
    pub(in crate::control) fn prevent(&mut self, id: UnitId, nexus: NexusId) {
        if let Some(unit) = self.unit_mut(id) {
            unit.preventers.insert(nexus);
        }
    }

    /// These do no more.
    pub(in crate::control) fn allow(&mut self, id: UnitId, is_over: impl Fn(NexusId) -> bool) {
        if let Some(unit) = self.unit_mut(id) {
            unit.preventers.retain(|nexus| !is_over(*nexus));
        }
    }

    fn unit_mut(&mut self, id: UnitId) -> Option<&mut Unit> {
        self.slots.get_mut(id.index()).filter(|slot| slot.id == id)?.unit.as_mut()
    }

    /// A reactor's channel keeps writes that were given up, or has given them back. The unit's new view, where that makes
    /// a difference to one that stays.
    pub(in crate::control) fn unsettle(
        &mut self,
        id: UnitId,
        reactor: ReactorId,
        is_so: bool,
    ) -> Option<Arc<UnitView>> {
        if self.entry_of(id)?.is_leaving {
            return None;
        }
        let slot = self.slots.get_mut(id.index()).filter(|slot| slot.id == id)?;
        let unit = slot.unit.as_mut()?;
        if is_so {
            unit.unsettled.insert(reactor);
        } else {
            unit.unsettled.remove(&reactor);
        }
        let medium = unit.medium(unit.view.medium);
        if medium == unit.view.medium {
            return None;
        }
        unit.view = Arc::new(UnitView { medium, ..UnitView::clone(&unit.view) });
        Some(Arc::clone(&unit.view))
    }

    /// The last chore of a unit has failed, and must not: in an earlier process.
    pub(in crate::control) fn fail(&mut self, id: UnitId) {
        let slot = self.slots.get_mut(id.index()).filter(|slot| slot.id == id);
        if let Some(unit) = slot.and_then(|slot| slot.unit.as_mut()) {
            unit.has_failed = true;
        }
    }

    /// The view of a unit that has this chore now, or has none; `has_failed` where its last has, and must not.
    pub(in crate::control) fn busy(
        &mut self,
        id: UnitId,
        chore: Option<Arc<Chore>>,
        has_failed: bool,
    ) -> Option<UnitView> {
        let slot = self.slots.get_mut(id.index()).filter(|slot| slot.id == id)?;
        let unit = slot.unit.as_mut()?;
        unit.has_failed = has_failed;
        let is_busy = chore.is_some();
        let medium = match unit.medium(unit.view.medium) {
            medium if !medium.is_there() => medium,
            _ if has_failed => Medium::Failed,
            _ if is_busy => Medium::Busy,
            _ => Medium::Ready,
        };
        Some(UnitView { chore, medium, ..UnitView::clone(&unit.view) })
    }

    /// Replaces a unit's view; returns the former one.
    pub(in crate::control) fn replace(&mut self, view: Arc<UnitView>) -> Result<Arc<UnitView>, ChangeError> {
        let id = view.id;
        let slot = self.slots.get_mut(id.index()).filter(|slot| slot.id == id);
        let unit = slot.and_then(|slot| slot.unit.as_mut());
        let unit = unit.ok_or_else(|| ChangeError::missing(What::Bdev, "of this unit"))?;
        Ok(std::mem::replace(&mut unit.view, view))
    }
}
