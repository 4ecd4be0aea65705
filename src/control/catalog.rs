//! What is served: logical units and targets. The one place where their views are made.
//!
//! Units are never renumbered and never reused ([`UnitId`] is an index for the life of the process); a relative target
//! port identifier names a target's port and is unique across targets (SPC-5 §7.8.6.7).

use std::net::SocketAddr;
use std::sync::Arc;

use super::access::Rules;
use super::unit::{self, identity};
use crate::bdev::Bdev;
use crate::id::UnitId;
use crate::limits::{TARGET_LUNS_MAX, TARGETS_MAX};
use crate::scsi::view::{LunNumber, Mapping, TargetView, UnitView};

/// The portal group of every portal: there is one.
const PORTAL_GROUP: u16 = 1;

/// Why something cannot be served.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CatalogError {
    /// Two disks of one name.
    #[error("there is a disk named {0} already")]
    UnitExists(String),
    /// The device says something of itself that SCSI cannot say.
    #[error("disk {name}: {what}")]
    Unfit {
        /// Its name.
        name: String,
        /// What does not fit.
        what: &'static str,
    },
    /// Two targets of one name.
    #[error("there is a target named {0} already")]
    TargetExists(String),
    /// No such target.
    #[error("there is no target named {0}")]
    NoTarget(String),
    /// No such unit.
    #[error("there is no such logical unit")]
    NoUnit,
    /// A LUN is taken or given twice.
    #[error("LUN {0} is taken")]
    LunTaken(u16),
    /// No such LUN.
    #[error("there is no LUN {0}")]
    NoLun(u16),
    /// A portal that is not listened on.
    #[error("there is no portal number {0}")]
    NoPortal(usize),
    /// A name that is none.
    #[error("{0:?} is not an iSCSI name: iqn., eui. or naa., up to 223 letters, digits, '-', '.' and ':'")]
    Name(String),
    /// A bound was reached.
    #[error("no more than {0} are served")]
    TooMany(usize),
}

#[derive(Debug)]
struct Unit {
    view: Arc<UnitView>,
    bdev: Arc<dyn Bdev>,
}

/// A target to be served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetSpec {
    /// The iSCSI name.
    pub name: String,
    /// Shown at login; may be empty.
    pub alias: String,
    /// Its LUNs.
    pub mappings: Vec<Mapping>,
    /// Which of the daemon's portals lead to it, by index; all where empty.
    pub portals: Vec<usize>,
    /// Who may log in.
    pub rules: Rules,
}

#[derive(Debug)]
pub(super) struct Target {
    pub(super) view: Arc<TargetView>,
    pub(super) rules: Rules,
    /// By index; all where empty.
    portals: Vec<usize>,
}

impl Target {
    /// Whether connections that come in at `portal` reach this target.
    pub(super) fn is_at(&self, portal: usize) -> bool {
        self.portals.is_empty() || self.portals.contains(&portal)
    }

    /// The view as told to a peer that came to `local`: a portal on every address has no address that could be told
    /// beforehand.
    pub(super) fn view_for(&self, portals: &[SocketAddr], local: SocketAddr) -> TargetView {
        let mut view = TargetView::clone(&self.view);
        for (index, portal) in portals.iter().enumerate() {
            let told = SocketAddr::new(local.ip(), portal.port()).to_string();
            let same_family = portal.is_ipv6() == local.is_ipv6();
            if portal.ip().is_unspecified()
                && self.is_at(index)
                && same_family
                && !view.portals.contains(&told)
            {
                view.portals.push(told);
            }
        }
        view
    }
}

/// Everything that is served.
#[derive(Debug)]
pub struct Catalog {
    units: Vec<Unit>,
    targets: Vec<Target>,
    portals: Vec<SocketAddr>,
    relative_port_last: u16,
}

impl Catalog {
    /// Nothing is served; connections will come in at `portals`.
    pub fn new(portals: Vec<SocketAddr>) -> Catalog {
        Catalog { units: Vec::new(), targets: Vec::new(), portals, relative_port_last: 0 }
    }

    /// Makes a logical unit of a device. `product` is shown by INQUIRY.
    ///
    /// # Errors
    /// A second unit of the same name, or a device that cannot be a SCSI disk.
    pub fn add_unit(&mut self, bdev: Arc<dyn Bdev>, product: &str) -> Result<Arc<UnitView>, CatalogError> {
        let info = bdev.info();
        unit::check(&info)?;
        if self.units.iter().any(|unit| unit.bdev.info().name == info.name) {
            return Err(CatalogError::UnitExists(info.name));
        }
        let id =
            UnitId(u32::try_from(self.units.len()).map_err(|_| CatalogError::TooMany(self.units.len()))?);
        let view = Arc::new(unit::view(id, &info, identity(&info, product), None));
        self.units.push(Unit { view: Arc::clone(&view), bdev });
        Ok(view)
    }

    /// A unit's device.
    pub fn bdev(&self, id: UnitId) -> Option<&Arc<dyn Bdev>> {
        self.units.get(id.index()).map(|unit| &unit.bdev)
    }

    /// A unit as it is now.
    pub fn unit(&self, id: UnitId) -> Option<&Arc<UnitView>> {
        self.units.get(id.index()).map(|unit| &unit.view)
    }

    /// Every unit as it is now.
    pub fn units(&self) -> impl Iterator<Item = &Arc<UnitView>> {
        self.units.iter().map(|unit| &unit.view)
    }

    /// The view of a unit that its device has now (it may have been resized).
    ///
    /// # Errors
    /// No such unit, or a device that can no longer be served.
    pub fn reread_unit(&self, id: UnitId) -> Result<UnitView, CatalogError> {
        let unit = self.units.get(id.index()).ok_or(CatalogError::NoUnit)?;
        let info = unit.bdev.info();
        unit::check(&info)?;
        let view = unit::view(id, &info, unit.view.identity.clone(), Some(unit.view.modes));
        Ok(UnitView { permits: unit.view.permits.clone(), ..view })
    }

    /// Replaces a unit's view; returns the former one.
    ///
    /// # Errors
    /// No such unit.
    pub fn replace_unit(&mut self, view: Arc<UnitView>) -> Result<Arc<UnitView>, CatalogError> {
        let unit = self.units.get_mut(view.id.index()).ok_or(CatalogError::NoUnit)?;
        Ok(std::mem::replace(&mut unit.view, view))
    }

    /// Serves a target.
    ///
    /// # Errors
    /// A name that is none or is taken, LUNs given twice or without a unit, portals that are not there.
    pub fn add_target(&mut self, spec: TargetSpec) -> Result<Arc<TargetView>, CatalogError> {
        let name = spec.name.to_lowercase();
        if !is_iscsi_name(&name) {
            return Err(CatalogError::Name(spec.name));
        }
        if self.target(&name).is_some() {
            return Err(CatalogError::TargetExists(name));
        }
        if self.targets.len() >= TARGETS_MAX {
            return Err(CatalogError::TooMany(TARGETS_MAX));
        }
        if let Some(&portal) = spec.portals.iter().find(|&&portal| portal >= self.portals.len()) {
            return Err(CatalogError::NoPortal(portal));
        }
        self.relative_port_last += 1;
        let mut target = Target {
            view: Arc::new(TargetView {
                name,
                alias: spec.alias,
                relative_port: self.relative_port_last,
                port_group: 1,
                portal_group: PORTAL_GROUP,
                portals: Vec::new(),
                mappings: Vec::new(),
            }),
            rules: spec.rules,
            portals: spec.portals,
        };
        let mut view = TargetView::clone(&target.view);
        // A portal on every address is left out: without an address initiators take the one they came to (RFC 7143
        // appendix C), and discovery sessions are told that one.
        let told = |(index, portal): (usize, &SocketAddr)| {
            (target.is_at(index) && !portal.ip().is_unspecified()).then(|| portal.to_string())
        };
        view.portals = self.portals.iter().enumerate().filter_map(told).collect();
        for mapping in spec.mappings {
            self.map(&mut view, mapping)?;
        }
        target.view = Arc::new(view);
        let view = Arc::clone(&target.view);
        self.targets.push(target);
        Ok(view)
    }

    /// Adds a LUN; returns the target's new view.
    ///
    /// # Errors
    /// No such target or unit, or the number is taken.
    pub fn add_lun(&mut self, target: &str, mapping: Mapping) -> Result<Arc<TargetView>, CatalogError> {
        let mut view = self.cloned(target)?;
        self.map(&mut view, mapping)?;
        self.publish(view)
    }

    /// Removes a LUN; returns the target's new view.
    ///
    /// # Errors
    /// No such target or LUN.
    pub fn remove_lun(&mut self, target: &str, number: LunNumber) -> Result<Arc<TargetView>, CatalogError> {
        let mut view = self.cloned(target)?;
        let (index, _) = view.mapping(number).ok_or(CatalogError::NoLun(number.0))?;
        view.mappings.remove(index);
        self.publish(view)
    }

    pub(super) fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|target| target.view.name == name)
    }

    pub(super) fn targets(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter()
    }

    pub(super) fn portals(&self) -> &[SocketAddr] {
        &self.portals
    }

    fn cloned(&self, target: &str) -> Result<TargetView, CatalogError> {
        let target = self.target(target).ok_or_else(|| CatalogError::NoTarget(target.to_owned()))?;
        Ok(TargetView::clone(&target.view))
    }

    fn map(&self, view: &mut TargetView, mapping: Mapping) -> Result<(), CatalogError> {
        if self.unit(mapping.unit).is_none() {
            return Err(CatalogError::NoUnit);
        }
        if view.mappings.len() >= TARGET_LUNS_MAX {
            return Err(CatalogError::TooMany(TARGET_LUNS_MAX));
        }
        match view.mappings.binary_search_by_key(&mapping.number, |mapping| mapping.number) {
            Ok(_) => Err(CatalogError::LunTaken(mapping.number.0)),
            Err(index) => {
                view.mappings.insert(index, mapping);
                Ok(())
            }
        }
    }

    fn publish(&mut self, view: TargetView) -> Result<Arc<TargetView>, CatalogError> {
        let target = self.targets.iter_mut().find(|target| target.view.name == view.name);
        let target = target.ok_or_else(|| CatalogError::NoTarget(view.name.clone()))?;
        target.view = Arc::new(view);
        Ok(Arc::clone(&target.view))
    }
}

/// RFC 7143 §4.2.7.1 and RFC 3722: a type prefix and at most 223 bytes; of the letters only those that a
/// configuration file, a shell and a log can carry.
fn is_iscsi_name(name: &str) -> bool {
    ["iqn.", "eui.", "naa."].iter().any(|prefix| name.len() > prefix.len() && name.starts_with(prefix))
        && name.len() <= 223
        && name.chars().all(|c| c.is_alphanumeric() || "-.:".contains(c))
}

#[cfg(test)]
mod tests;
