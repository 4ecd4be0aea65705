//! What is served: block devices, targets, and who may come to them by which portals. The one place where views are made.
//!
//! A relative target port identifier names a target's port (its name and a portal group) and is unique across targets
//! (SPC-5 §7.8.6.7).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use super::access::{InitiatorGroups, Verdict, Who};
use super::auth::AuthGroups;
use super::error::{ChangeError, What};
use super::options::Options;
use super::portals::PortalGroups;
use super::registry::Registry;
use super::targets::{NewTarget, OwnLun, Redirect, Target, TargetInfo};
use crate::id::UnitId;
use crate::iscsi::login::{Access, Refusal, TargetAccess, Which, iscsi_name};
use crate::limits::TARGETS_MAX;
use crate::scsi::view::{Mapping, TargetView};

/// Everything that is served.
#[derive(Debug)]
pub(super) struct Catalog {
    pub(super) registry: Registry,
    pub(super) portals: PortalGroups,
    pub(super) initiators: InitiatorGroups,
    pub(super) auths: AuthGroups,
    pub(super) targets: Targets,
    pub(super) options: Options,
}

/// The targets, in the order they came.
#[derive(Debug, Default)]
pub(super) struct Targets {
    all: Vec<Target>,
    relative_port_last: u16,
    /// What is known of a port that there is or was, by target and portal group: it gets it again.
    known_ports: BTreeMap<(String, u16), KnownPort>,
    /// That has changed.
    is_moved: bool,
}

/// How a port is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct KnownPort {
    /// Its relative target port identifier.
    pub(super) port: u16,
    /// The target port group that it was put into; else it is one of its own, under the same number.
    pub(super) group: Option<u16>,
}

impl KnownPort {
    /// The target port group that it is in.
    pub(super) fn group(&self) -> u16 {
        self.group.unwrap_or(self.port)
    }

    fn has(&self, number: u16) -> bool {
        self.port == number || self.group == Some(number)
    }
}

/// Who has sessions: whether there is one with a target (by name) at a portal group.
pub(super) type IsUsed<'a> = &'a dyn Fn(&str, u16) -> bool;

impl Targets {
    /// A target of this name; also one that is being deleted.
    pub(super) fn get(&self, name: &str) -> Option<&Target> {
        self.all.iter().find(|target| target.name == name)
    }

    /// The target port with this relative target port identifier.
    pub(super) fn port(&self, relative_port: u16) -> Option<&Arc<TargetView>> {
        self.all.iter().flat_map(|target| &target.ports).find(|view| view.relative_port == relative_port)
    }

    /// A target that can be changed.
    pub(super) fn find(&mut self, name: &str) -> Result<&mut Target, ChangeError> {
        let folded = name.to_lowercase();
        match self.all.iter_mut().find(|target| target.name == folded) {
            None => Err(ChangeError::missing(What::Target, name)),
            Some(target) if target.is_leaving => Err(ChangeError::leaving(What::Target, name)),
            Some(target) => Ok(target),
        }
    }

    /// Whether there is room for a target of this name.
    fn check_room(&self, name: &str) -> Result<(), ChangeError> {
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
    fn free_id(&self) -> u32 {
        (0..).find(|id| self.all.iter().all(|target| target.id != *id)).unwrap_or(u32::MAX)
    }

    /// Forgets a target that has left.
    pub(super) fn forget(&mut self, name: &str) {
        self.all.retain(|target| target.name != name);
        self.known_ports.retain(|(target, _), _| target != name);
        self.is_moved = true;
    }

    /// Target and portal group of ports as they were.
    pub(super) fn remember_ports(&mut self, ports: impl Iterator<Item = (String, u16, KnownPort)>) {
        self.known_ports = ports.map(|(target, tag, known)| ((target, tag), known)).collect();
    }

    /// The same, of all that are known, where that has changed since it was asked for last.
    pub(super) fn moved_ports(&mut self) -> Option<impl Iterator<Item = (&str, u16, KnownPort)>> {
        let known = self.known_ports.iter().map(|((target, tag), &known)| (target.as_str(), *tag, known));
        std::mem::take(&mut self.is_moved).then_some(known)
    }

    /// Whether a LUN leads to a unit.
    pub(super) fn is_mapped(&self, unit: UnitId) -> bool {
        self.all.iter().any(|target| target.maps_unit(unit))
    }

    /// Changes every target; returns the names of those that `change` says it has changed.
    fn change(&mut self, mut change: impl FnMut(&mut Target) -> bool) -> Vec<String> {
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
    pub(super) fn set_port_group(
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
    fn check_relative_ports(&self, name: &str, wanted: &[(u16, u16)]) -> Result<(), ChangeError> {
        let mut ports = self.relative_ports();
        ports.extend(self.groups_of_others(name));
        match wanted.iter().find(|(_, port)| *port == 0 || !ports.insert(*port)) {
            Some(&(_, port)) => Err(ChangeError::RelativePort(port)),
            None => Ok(()),
        }
    }

    /// `wanted` are identifiers for ports that are new, by portal group.
    fn refresh(
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

impl Catalog {
    /// Nothing is served.
    pub(super) fn new(options: Options) -> Catalog {
        Catalog {
            registry: Registry::default(),
            portals: PortalGroups::default(),
            initiators: InitiatorGroups::default(),
            auths: AuthGroups::default(),
            targets: Targets::default(),
            options,
        }
    }

    /// A new target's name as initiators will know it.
    fn whole_name(&self, name: &str) -> Result<String, ChangeError> {
        let is_kind =
            |kind: &str| name.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind));
        let is_whole = ["iqn.", "eui.", "naa."].into_iter().any(is_kind);
        let whole = if is_whole { name.to_owned() } else { format!("{}:{name}", self.options.node_base) };
        check_name(&whole)?;
        Ok(whole.to_lowercase())
    }

    /// Serves a target. Returns its whole name.
    pub(super) fn create_target(&mut self, spec: &NewTarget) -> Result<String, ChangeError> {
        let name = self.whole_name(&spec.name)?;
        self.targets.check_room(&name)?;
        self.targets.check_relative_ports(&name, &spec.relative_ports)?;
        let mut target = Target::new(spec, name.clone(), self.targets.free_id())?;
        target.add_maps(&spec.maps, &self.portals, &self.initiators)?;
        for (bdev, number) in &spec.luns {
            let number = target.free_lun(*number)?;
            target.map(number, self.registry.unit_of(bdev)?);
        }
        self.targets.all.push(target);
        // Nobody has a session with it yet.
        let _ = self.targets.refresh(&name, &self.portals, &|_, _| false, &spec.relative_ports);
        Ok(name)
    }

    /// Makes a target's views anew. Returns those that sessions may know and that have changed.
    pub(super) fn refresh(&mut self, name: &str, is_used: IsUsed<'_>) -> Vec<Arc<TargetView>> {
        self.targets.refresh(name, &self.portals, is_used, &[])
    }

    fn refresh_all(&mut self, names: &[String], is_used: IsUsed<'_>) -> Vec<Arc<TargetView>> {
        names.iter().flat_map(|name| self.refresh(name, is_used)).collect()
    }

    /// Takes a unit's LUNs out of every target. Returns the views that have changed.
    pub(super) fn unmap_everywhere(&mut self, unit: UnitId, is_used: IsUsed<'_>) -> Vec<Arc<TargetView>> {
        let names = self.targets.change(|target| target.unmap_unit(unit));
        self.refresh_all(&names, is_used)
    }

    /// Drops the pairs of a portal group that is gone. Returns the views that have changed.
    pub(super) fn drop_portals(&mut self, tag: u16, is_used: IsUsed<'_>) -> Vec<Arc<TargetView>> {
        let names = self.targets.change(|target| target.drop_maps(|portal, _| portal == tag));
        self.refresh_all(&names, is_used)
    }

    /// Drops the pairs and the LUNs of their own that the initiators of a group had, which is gone. Returns the views that have
    /// changed.
    pub(super) fn drop_initiators(&mut self, tag: u32, is_used: IsUsed<'_>) -> Vec<Arc<TargetView>> {
        let names = self.targets.change(|target| {
            let had_luns = target.drop_lun_map(tag);
            target.drop_maps(|_, initiator| initiator == tag) || had_luns
        });
        self.refresh_all(&names, is_used)
    }

    /// Makes the views of all targets that a portal group leads to anew.
    pub(super) fn refresh_at(&mut self, tag: u16, is_used: IsUsed<'_>) -> Vec<Arc<TargetView>> {
        let names = self.targets.change(|target| target.tags().contains(&tag));
        self.refresh_all(&names, is_used)
    }

    /// The targets that are not being deleted.
    pub(super) fn infos(&self) -> impl Iterator<Item = TargetInfo<'_>> {
        self.targets.all.iter().filter(|target| !target.is_leaving).map(|target| self.info(target))
    }

    fn info<'a>(&'a self, target: &'a Target) -> TargetInfo<'a> {
        let luns = target.mappings.iter().filter_map(|mapping| {
            Some((mapping.number, self.registry.entry_of(mapping.unit)?.name.as_str()))
        });
        let own = |mapping: &Mapping| {
            let bdev = self.registry.entry_of(mapping.unit)?.name.as_str();
            Some(OwnLun { number: mapping.number, bdev, read_only: mapping.read_only })
        };
        TargetInfo {
            name: &target.name,
            alias: &target.alias,
            id: target.id,
            luns: luns.collect(),
            maps: &target.maps,
            lun_maps: target
                .lun_maps
                .iter()
                .map(|(tag, mappings)| (*tag, mappings.iter().filter_map(own).collect()))
                .collect(),
            auth: target.auth,
            port_auths: &target.port_auths,
            demands_header_digest: target.demands_header_digest,
            demands_data_digest: target.demands_data_digest,
            queue_depth: target.queue_depth,
            relative_ports: target
                .tags()
                .into_iter()
                .filter_map(|tag| Some((tag, target.port(tag)?.relative_port)))
                .collect(),
            port_groups: target
                .tags()
                .into_iter()
                .filter_map(|tag| target.port(tag).filter(|view| view.port_group != view.relative_port))
                .map(|view| (view.portal_group, view.port_group))
                .collect(),
            redirects: &target.redirects,
            histogram: target.histogram.as_deref(),
        }
    }

    /// Sends logins to a target elsewhere.
    pub(super) fn set_redirect(
        &mut self,
        name: &str,
        tag: u16,
        to: Option<SocketAddr>,
        is_permanent: bool,
    ) -> Result<(), ChangeError> {
        self.targets.find(name)?.set_redirect(tag, to, is_permanent, &self.portals)
    }

    /// Whether an initiator that came by portal group `tag` may log in to a target, and how.
    pub(super) fn admit(&self, name: &str, tag: u16, who: Who<'_>) -> Result<TargetAccess, Refusal> {
        let target = self.targets.get(name).filter(|target| !target.is_leaving).ok_or(Refusal::NotFound)?;
        match target.verdict(tag, who, &self.initiators) {
            None => Err(Refusal::NotFound),
            Some(Verdict::Deny) => Err(Refusal::Forbidden),
            // RFC 7143 §11.13.5. Told after the first request and so before CHAP, but only to those who may come.
            Some(Verdict::Admit) if let Some(to) = target.redirect(tag) => {
                let Redirect { to, is_permanent, .. } = to;
                Err(match is_permanent {
                    false => Refusal::MovedTemporarily(to.to_string()),
                    true => Refusal::MovedPermanently(to.to_string()),
                })
            }
            Some(Verdict::Admit) => Ok(TargetAccess {
                access: self.auths.access(target.auth_at(tag)),
                target: target.view_of(tag, who, &self.initiators).cloned().ok_or(Refusal::NotFound)?,
                offer: target.offer(self.options.offer),
            }),
        }
    }

    /// How a discovery session gets in by portal group `tag`.
    pub(super) fn discovery_access(&self, tag: u16) -> Access {
        let own = self.portals.get(tag).and_then(|group| group.discovery);
        self.auths.access(own.unwrap_or(self.options.discovery))
    }

    /// The targets that an initiator may see, as it is told of them.
    pub(super) fn send_targets(
        &self,
        who: Who<'_>,
        local: SocketAddr,
        which: Which<'_>,
        out: &mut dyn FnMut(&TargetView),
    ) {
        for target in self.targets.all.iter().filter(|target| !target.is_leaving) {
            let is_asked = match which {
                Which::All => true,
                Which::Name(name) => target.name == name,
            };
            if is_asked && let Some(view) = target.view_for(who, local, &self.portals, &self.initiators) {
                out(&view);
            }
        }
    }
}

/// Whether a target may have this name: what login takes (RFC 7143 §4.2.7, RFC 3722), and of the letters only those that a
/// configuration file, a shell and a log can carry.
pub(super) fn check_name(name: &str) -> Result<(), ChangeError> {
    let is_name =
        iscsi_name(name).is_some() && name.chars().all(|c| c.is_alphanumeric() || "-.:".contains(c));
    if is_name { Ok(()) } else { Err(ChangeError::TargetName(name.to_owned())) }
}

#[cfg(test)]
mod tests;
