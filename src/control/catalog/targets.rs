//! The targets by name, and how their ports are known: each keeps its relative target port identifier and its target port group
//! as long as the target is there, and gets them again in the next life.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::IsUsed;
use crate::control::error::{ChangeError, What};
use crate::control::portals::PortalGroups;
use crate::control::targets::Target;
use crate::id::UnitId;
use crate::limits::TARGETS_MAX;
use crate::scsi::view::TargetView;

/// The targets, in the order they came.
#[derive(Debug, Default)]
pub(in crate::control) struct Targets {
    pub(super) all: Vec<Target>,
    relative_port_last: u16,
    /// What is known of a port that there is or was, by target and portal group: it gets it again.
    known_ports: BTreeMap<(String, u16), KnownPort>,
    /// That has changed.
    is_moved: bool,
}

/// How a port is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::control) struct KnownPort {
    /// Its relative target port identifier.
    pub(in crate::control) port: u16,
    /// The target port group that it was put into; else it is one of its own, under the same number.
    pub(in crate::control) group: Option<u16>,
}

impl KnownPort {
    /// The target port group that it is in.
    pub(in crate::control) fn group(&self) -> u16 {
        self.group.unwrap_or(self.port)
    }

    fn has(&self, number: u16) -> bool {
        self.port == number || self.group == Some(number)
    }
}

impl Targets {
    /// A target of this name; also one that is being deleted.
    pub(in crate::control) fn get(&self, name: &str) -> Option<&Target> {
        self.all.iter().find(|target| target.name == name)
    }

    /// The target port with this relative target port identifier.
    pub(in crate::control) fn port(&self, relative_port: u16) -> Option<&Arc<TargetView>> {
        self.all.iter().flat_map(|target| &target.ports).find(|view| view.relative_port == relative_port)
    }

    /// A target that can be changed.
    pub(in crate::control) fn find(&mut self, name: &str) -> Result<&mut Target, ChangeError> {
        let folded = name.to_lowercase();
        match self.all.iter_mut().find(|target| target.name == folded) {
            None => Err(ChangeError::missing(What::Target, name)),
            Some(target) if target.is_leaving => Err(ChangeError::leaving(What::Target, name)),
            Some(target) => Ok(target),
        }
    }

    /// Whether there is room for a target of this name.
    pub(super) fn check_room(&self, name: &str) -> Result<(), ChangeError> {
        match self.get(name) {
            Some(target) if target.is_leaving => Err(ChangeError::leaving(What::Target, name)),
            Some(_) => Err(ChangeError::exists(What::Target, name)),
            None if self.all.len() >= TARGETS_MAX => {
                Err(ChangeError::TooMany { what: What::Target, most: TARGETS_MAX })
            }
            None => Ok(()),
        }
    }

    /// The lowest number that no target has.
    pub(in crate::control) fn free_id(&self) -> u32 {
        (0..).find(|id| self.all.iter().all(|target| target.id != *id)).unwrap_or(u32::MAX)
    }

    /// Forgets a target that has left.
    pub(in crate::control) fn forget(&mut self, name: &str) {
        self.all.retain(|target| target.name != name);
        self.known_ports.retain(|(target, _), _| target != name);
        self.is_moved = true;
    }

    /// Target and portal group of ports as they were.
    pub(in crate::control) fn remember_ports(
        &mut self,
        ports: impl Iterator<Item = (String, u16, KnownPort)>,
    ) {
        self.known_ports = ports.map(|(target, tag, known)| ((target, tag), known)).collect();
    }

    /// The same, of all that are known, where that has changed since it was asked for last.
    pub(in crate::control) fn moved_ports(&mut self) -> Option<impl Iterator<Item = (&str, u16, KnownPort)>> {
        let known = self.known_ports.iter().map(|((target, tag), &known)| (target.as_str(), *tag, known));
        std::mem::take(&mut self.is_moved).then_some(known)
    }

    /// Whether a LUN leads to a unit.
    pub(in crate::control) fn is_mapped(&self, unit: UnitId) -> bool {
        self.all.iter().any(|target| target.maps_unit(unit))
    }

    /// Changes every target; returns the names of those that `change` says it has changed.
    pub(in crate::control) fn change(&mut self, mut change: impl FnMut(&mut Target) -> bool) -> Vec<String> {
        let changed = self.all.iter_mut().filter_map(|target| change(target).then(|| target.name.clone()));
        changed.collect()
    }

    /// The relative target port identifiers in use.
    fn relative_ports(&self) -> BTreeSet<u16> {
        self.all.iter().flat_map(|target| &target.ports).map(|view| view.relative_port).collect()
    }

    /// The target port groups that ports of others than this target were put into.
    fn groups_of_others(&self, name: &str) -> impl Iterator<Item = u16> {
        let others = self.known_ports.iter().filter(move |((target, _), _)| target != name);
        others.filter_map(|(_, known)| known.group)
    }

    /// Puts a target's port into a target port group, or makes it one of its own again.
    pub(in crate::control) fn set_port_group(
        &mut self,
        name: &str,
        tag: u16,
        group: Option<u16>,
    ) -> Result<(), ChangeError> {
        let target = self.find(name)?;
        let port = target.port(tag).ok_or_else(|| ChangeError::missing(What::PortalGroup, tag))?;
        let (name, port) = (target.name.clone(), port.relative_port);
        // What a unit's access states are kept by is one number for all targets.
        let is_anothers =
            |number| self.known_ports.iter().any(|((target, _), known)| *target != name && known.has(number));
        match group {
            Some(number) if number == 0 || is_anothers(number) => return Err(ChangeError::PortGroup(number)),
            _ => {}
        }
        let known = KnownPort { port, group: group.filter(|group| *group != port) };
        self.is_moved |= self.known_ports.insert((name, tag), known) != Some(known);
        Ok(())
    }

    /// Whether a new target's ports can have these identifiers.
    pub(in crate::control) fn check_relative_ports(
        &self,
        name: &str,
        wanted: &[(u16, u16)],
    ) -> Result<(), ChangeError> {
        let mut ports = self.relative_ports();
        ports.extend(self.groups_of_others(name));
        match wanted.iter().find(|(_, port)| *port == 0 || !ports.insert(*port)) {
            Some(&(_, port)) => Err(ChangeError::RelativePort(port)),
            None => Ok(()),
        }
    }

    /// `wanted` are identifiers for ports that are new, by portal group.
    pub(in crate::control) fn refresh(
        &mut self,
        name: &str,
        portals: &PortalGroups,
        is_used: IsUsed<'_>,
        wanted: &[(u16, u16)],
    ) -> Vec<Arc<TargetView>> {
        let mut ports = self.relative_ports();
        ports.extend(wanted.iter().map(|(_, port)| *port));
        ports.extend(self.groups_of_others(name));
        let (last, known, is_moved) =
            (&mut self.relative_port_last, &mut self.known_ports, &mut self.is_moved);
        let Some(target) = self.all.iter_mut().find(|target| target.name == name) else { return Vec::new() };
        let mut identify = |tag| {
            let place = (name.to_owned(), tag);
            let former = known.get(&place).copied();
            let port = if let Some(view) = target.port(tag) {
                view.relative_port
            } else if let Some(&(_, port)) = wanted.iter().find(|(wanted, _)| *wanted == tag) {
                port
            } else if let Some(former) = former.filter(|former| ports.insert(former.port)) {
                former.port
            } else {
                free_port(last, &mut ports, known)
            };
            let now = KnownPort { port, group: former.and_then(|former| former.group) };
            *is_moved |= known.insert(place, now) != Some(now);
            (tag, now)
        };
        // In the order of the portal groups as they were mapped: new ports get their identifiers in it.
        let mut tags = target.tags();
        let used = target.ports.iter().map(|view| view.portal_group).filter(|tag| is_used(name, *tag));
        tags.extend(used.filter(|tag| !target.tags().contains(tag)));
        let ports: BTreeMap<u16, KnownPort> = tags.into_iter().map(&mut identify).collect();
        target.refresh(portals, &ports)
    }
}

/// An identifier that no port has; one that none ever had, if there is such a one.
fn free_port(last: &mut u16, ports: &mut BTreeSet<u16>, known: &BTreeMap<(String, u16), KnownPort>) -> u16 {
    let former: BTreeSet<u16> = known.values().map(|known| known.port).collect();
    // It ends: there are fewer ports than identifiers (limits.rs).
    for attempt in 0_u32.. {
        *last = last.checked_add(1).unwrap_or(1);
        let is_spared = attempt < u32::from(u16::MAX) && former.contains(last);
        if !is_spared && ports.insert(*last) {
            break;
        }
    }
    *last
}
