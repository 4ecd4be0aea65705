//! What is served: block devices, targets, and who may come to them by which portals. The one place where views are made.
//!
//! A relative target port identifier names a target's port (its name and a portal group) and is unique across targets
//! (SPC-5 §7.8.6.7).

mod targets;

use std::net::SocketAddr;
use std::sync::Arc;

pub(super) use self::targets::{KnownPort, Targets};
use super::Origin;
use super::access::{InitiatorGroups, Verdict, Who};
use super::auth::AuthGroups;
use super::error::ChangeError;
use super::options::{Options, whole_name};
use super::portals::PortalGroups;
use super::registry::Registry;
use super::sessions::{Nexus, Session};
use super::targets::{NewTarget, OwnLun, Redirect, Target, TargetInfo, is_found};
use crate::id::UnitId;
use crate::iscsi::login::{Access, Refusal, TargetAccess, Which, iscsi_name};
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

/// Who has sessions: whether there is one with a target (by name) at a portal group.
pub(super) type IsUsed<'a> = &'a dyn Fn(&str, u16) -> bool;

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
        let whole = whole_name(name, &self.options.node_base);
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

    /// Drops the pairs of an initiator group that goes. Returns the views that have changed.
    pub(super) fn drop_initiators(&mut self, tag: u32, is_used: IsUsed<'_>) -> Vec<Arc<TargetView>> {
        let names = self.targets.change(|target| target.drop_maps(|_, initiator| initiator == tag));
        self.refresh_all(&names, is_used)
    }

    /// An initiator group is gone, and so is who found the LUNs of its own: drops these. Returns the views that have changed.
    /// A target that is leaving has sessions still, and goes with its LUNs.
    pub(super) fn forget_initiators(&mut self, tag: u32, is_used: IsUsed<'_>) -> Vec<Arc<TargetView>> {
        self.initiators.forget(tag);
        let names = self.targets.change(|target| !target.is_leaving && target.drop_lun_map(tag));
        self.refresh_all(&names, is_used)
    }

    /// Whether a session may stay as it is: its initiator would be let in where it came in, and finds no more than it would
    /// then. One whose portal group is gone is let in by nobody again, and stays as long as the initiator group that let it in would.
    pub(super) fn is_welcome(&self, session: &Session) -> bool {
        let Nexus { initiator, target, portal_group, .. } = &session.nexus;
        let Some(target) = self.targets.get(target).filter(|target| !target.is_leaving) else { return false };
        // The LUNs of a group that goes are nobody's any more.
        if session.lun_map.is_some_and(|tag| self.initiators.get(tag).is_none()) {
            return false;
        }
        let found = target.luns(session.lun_map);
        let is_welcome = |origin: Origin| {
            let who = Who { initiator, address: origin.peer.ip() };
            let group = match self.portals.get(*portal_group) {
                Some(_) => target.admitted_by(*portal_group, who, &self.initiators),
                None => session.let_in_by.filter(|tag| self.initiators.admits(*tag, who)),
            };
            group.is_some_and(|tag| found.iter().all(|lun| is_found(lun, target.luns(Some(tag)))))
        };
        match session.links.as_slice() {
            [] => is_welcome(session.origin),
            links => links.iter().all(|link| is_welcome(link.origin)),
        }
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
                // Those of a group that goes are there for who is seen off.
                .filter(|(tag, _)| self.initiators.get(*tag).is_some())
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
            is_draining: target.is_draining,
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
            // RFC 7143 §11.13.5: 0301h, initiators try again later.
            Some(Verdict::Admit) if target.is_draining => Err(Refusal::ServiceUnavailable),
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

    /// The initiator group that lets an initiator in that came by portal group `tag`.
    pub(super) fn let_in_by(&self, name: &str, tag: u16, who: Who<'_>) -> Option<u32> {
        self.targets.get(name)?.admitted_by(tag, who, &self.initiators)
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
