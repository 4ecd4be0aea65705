//! The views of a target that reactors read, and what is told of it to who asks for targets.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Target;
use crate::control::access::{InitiatorGroups, Verdict, Who};
use crate::control::portals::{PortalGroup, PortalGroups};
use crate::scsi::view::TargetView;

impl Target {
    /// Makes the views anew. `relative_port` names a port that is new, by its portal group; those that no portal group leads to any more go
    /// unless `is_used`. Returns the views that sessions may know and that have changed.
    pub(in crate::control) fn refresh(
        &mut self,
        portals: &PortalGroups,
        is_used: impl Fn(u16) -> bool,
        mut relative_port: impl FnMut(u16) -> u16,
    ) -> Vec<Arc<TargetView>> {
        let tags = self.tags();
        self.ports.retain(|view| tags.contains(&view.portal_group) || is_used(view.portal_group));
        self.redirects.retain(|redirect| tags.contains(&redirect.portal_group));
        self.port_auths.retain(|(tag, _)| portals.get(*tag).is_some());
        let told = told(&tags, portals);
        let known: BTreeSet<u16> = self.ports.iter().map(|view| view.portal_group).collect();
        let made: Vec<(u16, u16)> =
            tags.iter().filter(|tag| !known.contains(tag)).map(|&tag| (tag, relative_port(tag))).collect();
        let known = self.ports.iter().map(|view| (view.portal_group, view.relative_port));
        let known: BTreeSet<(u16, u16)> = known.chain(made).collect();
        let mut ports: Vec<u16> = known.iter().map(|(_, port)| *port).collect();
        ports.sort_unstable();
        let maps: Vec<Option<u32>> =
            std::iter::once(None).chain(self.lun_maps.iter().map(|(tag, _)| Some(*tag))).collect();
        let mut changed = Vec::new();
        let mut views = std::mem::take(&mut self.ports);
        for view in &mut views {
            let mappings = self.luns(view.lun_map);
            let is_as_it_was = view.mappings == *mappings
                && view.portals == told
                && view.ports == ports
                && view.histogram == self.histogram;
            if !is_as_it_was {
                let new = TargetView {
                    portals: told.clone(),
                    ports: ports.clone(),
                    mappings: mappings.to_vec(),
                    histogram: self.histogram.clone(),
                    ..TargetView::clone(view)
                };
                *view = Arc::new(new);
                changed.push(Arc::clone(view));
            }
        }
        self.ports = views;
        let is_there =
            |tag, lun_map| self.ports.iter().any(|view| view.portal_group == tag && view.lun_map == lun_map);
        // In the order of the portal groups as they were mapped.
        let order = tags.iter().filter_map(|tag| known.iter().find(|(known, _)| known == tag));
        let mut new = Vec::new();
        for &(portal_group, relative_port) in order {
            for &lun_map in maps.iter().filter(|&&lun_map| !is_there(portal_group, lun_map)) {
                new.push((portal_group, relative_port, lun_map, self.luns(lun_map).to_vec()));
            }
        }
        for (portal_group, relative_port, lun_map, mappings) in new {
            self.ports.push(Arc::new(TargetView {
                name: self.name.clone(),
                alias: self.alias.clone(),
                relative_port,
                ports: ports.clone(),
                // A port is a group of its own: what is told of one says nothing of another (SPC-5 §5.8).
                port_group: relative_port,
                portal_group,
                lun_map,
                portals: told.clone(),
                mappings,
                histogram: self.histogram.clone(),
            }));
        }
        changed
    }

    /// The view as told to an initiator that came to `local`; none where it may come by no portal group that is told.
    pub(in crate::control) fn view_for(
        &self,
        who: Who<'_>,
        local: SocketAddr,
        portals: &PortalGroups,
        initiators: &InitiatorGroups,
    ) -> Option<TargetView> {
        let mut tags = self.tags();
        tags.retain(|&tag| self.verdict(tag, who, initiators) == Some(Verdict::Admit));
        let view = tags.iter().find_map(|&tag| self.port(tag))?;
        let mut view = TargetView::clone(view);
        view.portals.clear();
        for group in tags.iter().filter_map(|&tag| portals.get(tag)).filter(|group| is_told(group)) {
            for portal in &group.portals {
                let Some(address) = portal.told(local) else { continue };
                let address = format!("{address},{}", group.tag);
                if !view.portals.contains(&address) {
                    view.portals.push(address);
                }
            }
        }
        (!view.portals.is_empty()).then_some(view)
    }

    /// The view at a portal group of those who have no LUNs of their own.
    pub(in crate::control) fn port(&self, tag: u16) -> Option<&Arc<TargetView>> {
        self.view(tag, None)
    }

    /// The view at a portal group, with everybody's LUNs or those of an initiator group (tag).
    pub(in crate::control) fn view(&self, tag: u16, lun_map: Option<u32>) -> Option<&Arc<TargetView>> {
        self.ports.iter().find(|view| view.portal_group == tag && view.lun_map == lun_map)
    }

    /// The view of an initiator that comes by a portal group and may.
    pub(in crate::control) fn view_of(
        &self,
        tag: u16,
        who: Who<'_>,
        groups: &InitiatorGroups,
    ) -> Option<&Arc<TargetView>> {
        let decided = self.deciding(tag, who, groups).map(|(initiators, _)| initiators);
        decided.and_then(|initiators| self.view(tag, Some(initiators))).or_else(|| self.port(tag))
    }
}

/// A private group is for redirection only; connections to one that is not started would wait.
fn is_told(group: &PortalGroup) -> bool {
    !group.is_private && group.is_started
}

/// What a session's own SendTargets tells. A portal on every address is left out: without an address initiators take the one
/// they came to (RFC 7143 appendix C).
fn told(tags: &[u16], portals: &PortalGroups) -> Vec<String> {
    let groups = tags.iter().filter_map(|&tag| portals.get(tag)).filter(|group| is_told(group));
    let addresses = groups.flat_map(|group| {
        group.portals.iter().map(move |portal| (portal.advertised.unwrap_or(portal.address), group.tag))
    });
    let addresses = addresses.filter(|(address, _)| !address.ip().is_unspecified());
    addresses.map(|(address, tag)| format!("{address},{tag}")).collect()
}
