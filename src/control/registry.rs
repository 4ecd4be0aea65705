//! The block devices there are, by name, and the logical units made of them.
//!
//! A bdev is the medium of one logical unit only, which is made when a LUN first leads to it and lives as long as the bdev
//! is registered: who it says it is, and what initiators have set in it, does not depend on LUNs that come and go.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::error::{ChangeError, What};
use super::identity::Chosen;
use super::unit;
use crate::bdev::{Bdev, Info};
use crate::id::{NexusId, ReactorId, UnitId};
use crate::limits::{BDEVS_MAX, UNITS_MAX};
use crate::scsi::chore::Chore;
use crate::scsi::view::{DeviceKind, Identity, Medium, Tray, UnitView};

/// A block device to be had.
#[derive(Clone, Debug)]
pub struct BdevSpec {
    /// The device; its name and UUID are in its [`crate::bdev::Info`].
    pub bdev: Arc<dyn Bdev>,
    /// What kind it is: shown by INQUIRY, cut at 16 characters, and in lists.
    pub product: String,
    /// How it was made, in the words of who made it. Kept and given back, never read.
    pub recipe: String,
    /// Names of the bdevs it is made of: they cannot be served or used again while it is there, and it goes when one of
    /// them goes.
    pub bases: Vec<String>,
}

/// A block device.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// What it was registered with.
    pub spec: BdevSpec,
    /// The logical unit made of it, since it was first mapped.
    pub unit: Option<UnitId>,
    /// It is being unregistered.
    pub is_leaving: bool,
    /// What the operator has chosen of its unit's identity.
    pub chosen: Chosen,
    /// What kind of device initiators see.
    pub kind: DeviceKind,
    /// Stands for the UUID of a medium that has not been found yet.
    stand_in: [u8; 16],
}

impl Entry {
    fn identity(&self, info: &Info) -> Identity {
        let uuid = if info.uuid == NIL { self.stand_in } else { info.uuid };
        self.chosen.over(unit::identity(&Info { uuid, ..info.clone() }, &self.spec.product))
    }
}

/// No UUID (RFC 9562 §5.9).
const NIL: [u8; 16] = [0; 16];

/// A logical unit.
#[derive(Debug)]
struct Unit {
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
struct Slot {
    /// The present tenant, or the next.
    id: UnitId,
    unit: Option<Unit>,
}

/// The block devices and the logical units made of them.
#[derive(Debug, Default)]
pub(super) struct Registry {
    entries: Vec<Entry>,
    slots: Vec<Slot>,
    /// Units that no reactor knows yet.
    made: Vec<UnitId>,
}

impl Registry {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// By name, or by UUID in its usual form.
    pub(super) fn get(&self, name: &str) -> Option<&Entry> {
        let by_name = self.entries.iter().find(|entry| entry.name == name);
        by_name.or_else(|| {
            let uuid = name.to_ascii_lowercase();
            self.entries.iter().find(|entry| uuid_text(&entry.spec.bdev.info().uuid) == uuid)
        })
    }

    /// One that can be used: not one that is leaving.
    pub(super) fn find(&self, name: &str) -> Result<&Entry, ChangeError> {
        let entry = self.get(name).ok_or_else(|| ChangeError::missing(What::Bdev, name))?;
        if entry.is_leaving {
            return Err(ChangeError::leaving(What::Bdev, &entry.name));
        }
        Ok(entry)
    }

    /// The bdev that is made of this one.
    fn user(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.spec.bases.iter().any(|base| base == name))
    }

    /// Whether nothing else is made of it.
    pub(super) fn check_unclaimed(&self, entry: &Entry) -> Result<(), ChangeError> {
        match self.user(&entry.name) {
            Some(user) => Err(ChangeError::Claimed { name: entry.name.clone(), by: user.name.clone() }),
            None => Ok(()),
        }
    }

    /// Whether no other bdev has its UUID. Of media that have not been found yet nothing is known.
    fn check_uuid(&self, info: &Info) -> Result<(), ChangeError> {
        let is_same = |entry: &&Entry| entry.name != info.name && entry.spec.bdev.info().uuid == info.uuid;
        match self.entries.iter().find(is_same) {
            Some(other) if info.uuid != NIL => Err(ChangeError::SameDisk {
                name: info.name.clone(),
                other: other.name.clone(),
                uuid: uuid_text(&info.uuid),
            }),
            _ => Ok(()),
        }
    }

    /// `stand_in` is random, for a medium that has no UUID yet; `is_mapped`: whether a LUN leads to this unit.
    pub(super) fn register(
        &mut self,
        mut spec: BdevSpec,
        stand_in: [u8; 16],
        is_mapped: impl Fn(UnitId) -> bool,
    ) -> Result<(), ChangeError> {
        let info = spec.bdev.info();
        if self.get(&info.name).is_some() {
            return Err(ChangeError::exists(What::Bdev, info.name));
        }
        self.check_uuid(&info)?;
        if self.entries.len() >= BDEVS_MAX {
            return Err(ChangeError::TooMany { what: What::Bdev, most: BDEVS_MAX });
        }
        for base in &mut spec.bases {
            let entry = self.find(base)?;
            self.check_unclaimed(entry)?;
            if entry.unit.is_some_and(&is_mapped) {
                return Err(ChangeError::Mapped(entry.name.clone()));
            }
            base.clone_from(&entry.name);
        }
        let (kind, chosen) = (DeviceKind::Disk, Chosen::default());
        self.entries.push(Entry {
            name: info.name,
            spec,
            unit: None,
            is_leaving: false,
            chosen,
            kind,
            stand_in,
        });
        Ok(())
    }

    /// Says what kind of device initiators are to see in a bdev that no unit was made of yet.
    pub(super) fn set_kind(&mut self, name: &str, kind: DeviceKind) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.name == name) {
            entry.kind = kind;
        }
    }

    pub(super) fn set_recipe(&mut self, name: &str, recipe: String) -> Result<(), ChangeError> {
        let name = self.find(name)?.name.clone();
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.name == name) {
            entry.spec.recipe = recipe;
        }
        Ok(())
    }

    /// The logical unit of a bdev, made where there is none yet: then it is to be told by [`Registry::take_made`].
    pub(super) fn unit_of(&mut self, name: &str) -> Result<UnitId, ChangeError> {
        let entry = self.find(name)?;
        self.check_unclaimed(entry)?;
        if let Some(id) = entry.unit {
            return Ok(id);
        }
        let info = entry.spec.bdev.info();
        self.check_uuid(&info)?;
        unit::check(&info)?;
        let (name, identity, kind) = (entry.name.clone(), entry.identity(&info), entry.kind);
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
        let space = self.find(&name)?.spec.bdev.space();
        let slot = &mut self.slots[index];
        let id = slot.id;
        let view = Arc::new(UnitView { space, ..unit::view(id, &info, identity, None, kind) });
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
    pub(super) fn take_made(&mut self) -> Vec<(Arc<UnitView>, Arc<dyn Bdev>)> {
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
    pub(super) fn view(&self, id: UnitId) -> Option<&Arc<UnitView>> {
        self.unit(id).map(|unit| &unit.view)
    }

    /// Every unit as it is now.
    pub(super) fn views(&self) -> impl Iterator<Item = &Arc<UnitView>> {
        self.slots.iter().filter_map(|slot| slot.unit.as_ref()).map(|unit| &unit.view)
    }

    /// What names a unit's medium for ever, in its usual form; none while the medium has not been found.
    pub(super) fn uuid_of(&self, id: UnitId) -> Option<String> {
        self.uuid_of_bdev(&self.entry_of(id)?.name)
    }

    /// The same of a bdev's.
    pub(super) fn uuid_of_bdev(&self, name: &str) -> Option<String> {
        let uuid = self.get(name)?.spec.bdev.info().uuid;
        (uuid != NIL).then(|| uuid_text(&uuid))
    }

    /// Who the units of bdevs say they are, or would.
    pub(super) fn identities(&self) -> impl Iterator<Item = (&str, Identity)> {
        self.entries.iter().map(|entry| (entry.name.as_str(), entry.identity(&entry.spec.bdev.info())))
    }

    /// Chooses who a bdev's unit says it is. What it says from now on, if there is one.
    pub(super) fn choose(&mut self, name: &str, chosen: Chosen) -> Option<UnitView> {
        let entry = self.entries.iter_mut().find(|entry| entry.name == name)?;
        entry.chosen = chosen;
        let (id, identity) = (entry.unit?, entry.identity(&entry.spec.bdev.info()));
        Some(UnitView { identity, ..UnitView::clone(self.view(id)?) })
    }

    /// What a unit is made of.
    pub(super) fn entry_of(&self, id: UnitId) -> Option<&Entry> {
        let unit = self.unit(id)?;
        self.entries.iter().find(|entry| entry.name == unit.bdev)
    }

    /// The view of a unit that its device has now (it may have been resized).
    pub(super) fn reread(&self, id: UnitId) -> Result<UnitView, ChangeError> {
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
        let view = unit::view(id, &info, identity, Some(old.modes), entry.kind);
        let (permits, settings, chore) = (old.permits.clone(), old.settings.clone(), old.chore.clone());
        let (alua, space) = (old.alua.clone(), entry.spec.bdev.space());
        let (medium, tray) = (unit.medium(view.medium), unit.tray());
        Ok(UnitView { permits, alua, settings, chore, medium, tray, space, ..view })
    }

    /// Who prevents that the unit's medium is taken out.
    pub(super) fn preventers(&self, id: UnitId) -> &BTreeSet<NexusId> {
        static NOBODY: BTreeSet<NexusId> = BTreeSet::new();
        self.unit(id).map_or(&NOBODY, |unit| &unit.preventers)
    }

    /// The unit's medium is out or in. To be shown by [`Registry::reread`], as the next three.
    pub(super) fn set_ejected(&mut self, id: UnitId, is_ejected: bool) {
        if let Some(unit) = self.unit_mut(id) {
            (unit.is_ejected, unit.is_eject_wanted) = (is_ejected, false);
        }
    }

    /// The operator wants the unit's medium out.
    pub(super) fn want_ejected(&mut self, id: UnitId) {
        if let Some(unit) = self.unit_mut(id) {
            unit.is_eject_wanted = true;
        }
    }

    /// A nexus prevents that the unit's medium is taken out.
    pub(super) fn prevent(&mut self, id: UnitId, nexus: NexusId) {
        if let Some(unit) = self.unit_mut(id) {
            unit.preventers.insert(nexus);
        }
    }

    /// These do no more.
    pub(super) fn allow(&mut self, id: UnitId, is_over: impl Fn(NexusId) -> bool) {
        if let Some(unit) = self.unit_mut(id) {
            unit.preventers.retain(|nexus| !is_over(*nexus));
        }
    }

    fn unit_mut(&mut self, id: UnitId) -> Option<&mut Unit> {
        self.slots.get_mut(id.index()).filter(|slot| slot.id == id)?.unit.as_mut()
    }

    /// A reactor's channel keeps writes that were given up, or has given them back. The unit's new view, where that makes
    /// a difference to one that stays.
    pub(super) fn unsettle(&mut self, id: UnitId, reactor: ReactorId, is_so: bool) -> Option<Arc<UnitView>> {
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
    pub(super) fn fail(&mut self, id: UnitId) {
        let slot = self.slots.get_mut(id.index()).filter(|slot| slot.id == id);
        if let Some(unit) = slot.and_then(|slot| slot.unit.as_mut()) {
            unit.has_failed = true;
        }
    }

    /// The view of a unit that has this chore now, or has none; `has_failed` where its last has, and must not.
    pub(super) fn busy(
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
            Medium::Ready | Medium::Busy | Medium::Failed if has_failed => Medium::Failed,
            Medium::Ready | Medium::Busy | Medium::Failed if is_busy => Medium::Busy,
            Medium::Ready | Medium::Busy | Medium::Failed => Medium::Ready,
            other => other,
        };
        Some(UnitView { chore, medium, ..UnitView::clone(&unit.view) })
    }

    /// Replaces a unit's view; returns the former one.
    pub(super) fn replace(&mut self, view: Arc<UnitView>) -> Result<Arc<UnitView>, ChangeError> {
        let id = view.id;
        let slot = self.slots.get_mut(id.index()).filter(|slot| slot.id == id);
        let unit = slot.and_then(|slot| slot.unit.as_mut());
        let unit = unit.ok_or_else(|| ChangeError::missing(What::Bdev, "of this unit"))?;
        Ok(std::mem::replace(&mut unit.view, view))
    }

    /// The name of a bdev and of all that are made of it, what is made of others after those.
    pub(super) fn with_users(&self, name: &str) -> Result<Vec<String>, ChangeError> {
        let mut names = vec![self.find(name)?.name.clone()];
        let mut at = 0;
        while let Some(name) = names.get(at) {
            let users = self.entries.iter().filter(|entry| entry.spec.bases.contains(name));
            let new = users.filter(|user| !user.is_leaving && !names.contains(&user.name));
            let new: Vec<String> = new.map(|user| user.name.clone()).collect();
            names.extend(new);
            at += 1;
        }
        Ok(names)
    }

    /// The bdevs whose medium has not been found yet.
    pub(super) fn absent(&self) -> impl Iterator<Item = &Entry> {
        // A drive without a disc waits for none to appear.
        let waits = |entry: &&Entry| !entry.is_leaving && entry.kind != DeviceKind::CdRom;
        self.entries.iter().filter(waits).filter(|entry| entry.spec.bdev.info().blocks == 0)
    }

    /// Marks a bdev and all that are made of it as leaving; returns their names, what is made of others first.
    pub(super) fn leave(&mut self, name: &str) -> Result<Vec<String>, ChangeError> {
        let mut names = self.with_users(name)?;
        for entry in self.entries.iter_mut().filter(|entry| names.contains(&entry.name)) {
            entry.is_leaving = true;
        }
        names.reverse();
        Ok(names)
    }

    /// Forgets a bdev, and its unit, which no reactor may have any more. Returns the device.
    pub(super) fn remove(&mut self, name: &str) -> Option<Arc<dyn Bdev>> {
        let index = self.entries.iter().position(|entry| entry.name == name)?;
        let entry = self.entries.remove(index);
        if let Some(slot) = entry.unit.and_then(|id| self.slots.get_mut(id.index())) {
            slot.unit = None;
            slot.id = slot.id.next_tenancy();
        }
        Some(entry.spec.bdev)
    }
}

/// A UUID in its usual form (RFC 9562 §4).
pub fn uuid_text(uuid: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bdev::null::Null;

    fn spec(name: &str, number: u8, bases: &[&str]) -> BdevSpec {
        BdevSpec {
            bdev: Arc::new(Null::new(name.to_owned(), 8, 512, [number; 16])),
            product: "null".to_owned(),
            recipe: String::new(),
            bases: bases.iter().map(|&base| base.to_owned()).collect(),
        }
    }

    fn registry(bdevs: &[(&str, &[&str])]) -> Registry {
        let mut registry = Registry::default();
        for (number, (name, bases)) in (0..).zip(bdevs) {
            registry.register(spec(name, number, bases), [9; 16], |_| false).unwrap();
        }
        registry
    }

    #[test]
    fn a_bdev_is_found_by_name_and_by_uuid() {
        let registry = registry(&[("a", &[]), ("b", &[])]);
        assert_eq!(registry.get("01010101-0101-0101-0101-010101010101").unwrap().name, "b");
        assert_eq!(registry.get("a").unwrap().name, "a");
        assert!(registry.get("c").is_none());
        let uuid =
            [0xf8, 0x1d, 0x4f, 0xae, 0x7d, 0xec, 0x11, 0xd0, 0xa7, 0x65, 0x00, 0xa0, 0xc9, 0x1e, 0x6b, 0xf6];
        assert_eq!(uuid_text(&uuid), "f81d4fae-7dec-11d0-a765-00a0c91e6bf6");
    }

    #[test]
    fn names_and_media_are_unique_and_bases_are_used_once() {
        let mut registry = registry(&[("a", &[]), ("b", &[]), ("over a", &["a"])]);
        let mut add = |name, number, bases: &[&str], is_mapped: bool| {
            registry.register(spec(name, number, bases), [9; 16], |_| is_mapped)
        };
        assert_eq!(add("a", 9, &[], false), Err(ChangeError::exists(What::Bdev, "a")));
        let uuid = "01010101-0101-0101-0101-010101010101";
        let same = add("c", 1, &[], false).unwrap_err();
        assert_eq!(
            same.to_string(),
            format!(
                "bdev c is the same disk as bdev b, or a copy of its UUID {uuid}: serve one, or give this one a UUID of its own"
            )
        );
        assert_eq!(add("c", 9, &["d"], false), Err(ChangeError::missing(What::Bdev, "d")));
        let claimed = ChangeError::Claimed { name: "a".to_owned(), by: "over a".to_owned() };
        assert_eq!(add("c", 9, &["a"], false), Err(claimed.clone()));
        assert_eq!(registry.unit_of("a"), Err(claimed));
        registry.unit_of("b").unwrap();
        let mapped = ChangeError::Mapped("b".to_owned());
        assert_eq!(registry.register(spec("c", 9, &["b"]), [9; 16], |_| true), Err(mapped));
        // A unit that no LUN leads to any more does no harm.
        registry.register(spec("c", 9, &["b"]), [9; 16], |_| false).unwrap();
    }

    #[test]
    fn a_bdev_takes_with_it_what_is_made_of_it() {
        let mut registry = registry(&[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &[])]);
        assert_eq!(registry.leave("a").unwrap(), ["c", "b", "a"]);
        let leaving = ChangeError::leaving(What::Bdev, "b");
        assert_eq!(registry.leave("b"), Err(leaving.clone()));
        assert_eq!(registry.unit_of("b"), Err(leaving));
        assert_eq!(registry.remove("c").unwrap().info().name, "c");
        assert_eq!(registry.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["a", "b", "d"]);
    }

    #[test]
    fn a_unit_is_made_once_and_its_index_used_again_under_another_name() {
        let mut registry = registry(&[("a", &[]), ("b", &[])]);
        let a = registry.unit_of("a").unwrap();
        assert_eq!(registry.take_made().iter().map(|(view, _)| view.id).collect::<Vec<_>>(), [a]);
        assert_eq!((a, registry.unit_of("a")), (UnitId::new(0, 0), Ok(a)));
        assert!(registry.take_made().is_empty());
        assert_eq!(registry.view(a).unwrap().blocks, 8);
        registry.remove("a").unwrap();
        assert!(registry.view(a).is_none());
        let b = registry.unit_of("b").unwrap();
        assert_eq!((b.index(), b == a), (0, false));
        assert_eq!(registry.entry_of(b).unwrap().name, "b");
        assert!(registry.entry_of(a).is_none());
    }

    #[test]
    fn a_unit_keeps_its_identity_when_read_again() {
        let mut registry = registry(&[("a", &[])]);
        let id = registry.unit_of("a").unwrap();
        let before = UnitView::clone(registry.view(id).unwrap());
        assert_eq!(registry.reread(id), Ok(before.clone()));
        let smaller = Arc::new(UnitView { blocks: 4, ..before.clone() });
        assert_eq!(*registry.replace(smaller).unwrap(), before);
        assert_eq!(registry.view(id).unwrap().blocks, 4);
        registry.reread(UnitId::new(0, 1)).unwrap_err();
    }
}
