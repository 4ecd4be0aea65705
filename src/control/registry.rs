//! The block devices there are, by name, and the logical units made of them.
//!
//! A bdev is the medium of one logical unit only, which is made when a LUN first leads to it and lives as long as the bdev
//! is registered: who it says it is, and what initiators have set in it, does not depend on LUNs that come and go.

mod departed;
mod units;

use std::sync::Arc;

use self::departed::Departed;
use self::units::Slot;
use super::disks::Source;
use super::error::{ChangeError, What};
use super::identity::Chosen;
use super::notices::{self, Notices};
use super::unit;
use crate::bdev::{Bdev, Info};
use crate::id::UnitId;
use crate::limits::BDEVS_MAX;
use crate::meter::Spread;
use crate::qos::{Limits, Pace, Waits};
use crate::scsi::view::{DeviceKind, Identity, UnitView};

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
    /// That could not be saved, as it is not known which medium it is; and whether it yields to what was.
    pub(super) unsaved: Option<bool>,
    /// The file that it is to be made of, while that was not found.
    pub(super) source: Option<Source>,
    /// What kind of device initiators see.
    pub kind: DeviceKind,
    /// How much may be asked of its unit, where that has limits.
    pub pace: Option<Arc<Pace>>,
    /// Who has waited for those.
    pub waits: Arc<Waits>,
    /// Why its medium was not found when it was looked for last.
    pub(super) missing: Option<String>,
    /// Stands for the UUID of a medium that has not been found yet.
    stand_in: [u8; 16],
    /// The size that was told last.
    pub(super) seen_blocks: u64,
}

impl Entry {
    /// Why its medium is not there, as far as that is known.
    pub fn missing(&self) -> Option<&str> {
        self.missing.as_deref().filter(|_| self.spec.bdev.is_awaited())
    }

    /// Where the time of commands at its unit went that it had IO of; nothing where there were none.
    pub fn stages(&self) -> Option<[Spread; 4]> {
        // Others than units count with what they are made of nothing but IO.
        self.unit?;
        self.spec.bdev.ledger()?.stages_of_all()
    }

    /// How much may be asked of its unit.
    pub fn limits(&self) -> Limits {
        self.pace.as_ref().map_or(Limits::NONE, |pace| *pace.limits())
    }

    fn identity(&self, info: &Info) -> Identity {
        let uuid = if info.uuid == NIL { self.stand_in } else { info.uuid };
        self.chosen.over(unit::identity(&Info { uuid, ..info.clone() }, &self.spec.product))
    }
}

/// No UUID (RFC 9562 §5.9).
pub(super) const NIL: [u8; 16] = [0; 16];

/// The block devices and the logical units made of them.
#[derive(Debug, Default)]
pub(super) struct Registry {
    entries: Vec<Entry>,
    slots: Vec<Slot>,
    /// Units that no reactor knows yet.
    made: Vec<UnitId>,
    /// What is still counted of bdevs that are gone.
    departed: Departed,
    /// What happened to them.
    pub(super) notices: Notices,
    /// What units that are made from now on tell as [`UnitView::status_url`].
    pub(super) status_url: Option<Arc<str>>,
}

impl Registry {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// By name, or by UUID in its usual form.
    pub(super) fn get(&self, name: &str) -> Option<&Entry> {
        let by_name = self.entries.iter().find(|entry| entry.name == name);
        by_name.or_else(|| {
            // Where it can be one: each text of a UUID costs, and most that is looked for in vain is a name that is to be free.
            let uuid = (name.len() == UUID_CHARS).then(|| name.to_ascii_lowercase())?;
            self.entries.iter().find(|entry| uuid_text(&entry.spec.bdev.info().uuid) == uuid)
        })
    }

    /// Where the time of commands went that devices had IO of, those that are gone included, by reactor.
    pub(super) fn stages(&self) -> Vec<[Spread; 4]> {
        self.departed.stages_with(self.entries.iter().filter_map(|entry| entry.spec.bdev.ledger()))
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
        let mut bases = std::mem::take(&mut spec.bases);
        for base in &mut bases {
            let entry = self.find(base)?;
            // What one call makes of a bdev shares it.
            let is_shared = |user: &Entry| !spec.recipe.is_empty() && user.spec.recipe == spec.recipe;
            if !self.user(&entry.name).is_some_and(is_shared) {
                self.check_unclaimed(entry)?;
            }
            if entry.unit.is_some_and(&is_mapped) {
                return Err(ChangeError::Mapped(entry.name.clone()));
            }
            base.clone_from(&entry.name);
        }
        spec.bases = bases;
        let (kind, chosen) = (DeviceKind::Disk, Chosen::default());
        if let Some(ledger) = spec.bdev.ledger() {
            self.departed.take_back(&ledger);
        }
        self.notices.push(notices::What::Registered, &info.name);
        self.entries.push(Entry {
            name: info.name,
            spec,
            unit: None,
            is_leaving: false,
            chosen,
            unsaved: None,
            source: None,
            kind,
            pace: None,
            waits: Arc::default(),
            missing: None,
            stand_in,
            seen_blocks: info.blocks,
        });
        Ok(())
    }

    /// Says what kind of device initiators are to see in a bdev that no unit was made of yet.
    pub(super) fn set_kind(&mut self, name: &str, kind: DeviceKind) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.name == name) {
            entry.kind = kind;
        }
    }

    /// Which file a bdev is to be made of that was not found yet.
    pub(super) fn set_source(&mut self, name: &str, source: Option<Source>) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.name == name) {
            entry.source = source;
        }
    }

    /// Why a bdev's medium was not found, or that it was.
    pub(super) fn set_missing(&mut self, name: &str, missing: Option<String>) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.name == name) {
            entry.missing = missing;
        }
    }

    /// What is chosen of a bdev's identity is to be saved when its medium is known, or not.
    pub(super) fn set_unsaved(&mut self, name: &str, unsaved: Option<bool>) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.name == name) {
            entry.unsaved = unsaved;
        }
    }

    pub(super) fn set_recipe(&mut self, name: &str, recipe: String) -> Result<(), ChangeError> {
        let name = self.find(name)?.name.clone();
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.name == name) {
            entry.spec.recipe = recipe;
        }
        Ok(())
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

    /// Says how much may be asked of a bdev's unit. What is shown of that from now on, if there is one.
    pub(super) fn set_limits(&mut self, name: &str, limits: Limits) -> Result<Option<UnitView>, ChangeError> {
        let name = self.find(name)?.name.clone();
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.name == name) else { return Ok(None) };
        if entry.limits() == limits {
            return Ok(None);
        }
        entry.pace = (!limits.is_none()).then(|| Arc::new(Pace::counting(limits, Arc::clone(&entry.waits))));
        let (unit, pace) = (entry.unit, entry.pace.clone());
        let view = unit.and_then(|unit| self.view(unit));
        Ok(view.map(|view| UnitView { pace, ..UnitView::clone(view) }))
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
        self.entries.iter().filter(|entry| !entry.is_leaving && entry.spec.bdev.is_awaited())
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

    /// Tells of it where a bdev has another size than it had; in bytes, which that is.
    pub(super) fn look_at_size(&mut self, name: &str) -> Option<u64> {
        let entry = self.entries.iter_mut().find(|entry| entry.name == name)?;
        let Info { blocks, block_bytes, .. } = entry.spec.bdev.info();
        if std::mem::replace(&mut entry.seen_blocks, blocks) == blocks {
            return None;
        }
        self.notices.push(notices::What::Resized, name);
        Some(blocks.saturating_mul(u64::from(block_bytes)))
    }

    /// Forgets a bdev, and its unit, which no reactor may have any more. Returns the device.
    pub(super) fn remove(&mut self, name: &str) -> Option<Arc<dyn Bdev>> {
        let index = self.entries.iter().position(|entry| entry.name == name)?;
        let entry = self.entries.remove(index);
        self.notices.push(notices::What::Unregistered, &entry.name);
        if let Some(slot) = entry.unit.and_then(|id| self.slots.get_mut(id.index())) {
            slot.vacate();
        }
        if let Some(ledger) = entry.spec.bdev.ledger() {
            self.departed.add(ledger);
        }
        // Before what it is made of may be another's.
        entry.spec.bdev.unregistered();
        Some(entry.spec.bdev)
    }
}

/// Of [`uuid_text`].
const UUID_CHARS: usize = 36;

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
mod tests;
