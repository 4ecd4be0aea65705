//! The views of a target that reactors read, and what is told of it to who asks for targets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Target;
use crate::control::access::{InitiatorGroups, Verdict, Who};
use crate::control::catalog::KnownPort;
use crate::control::portals::{PortalGroup, PortalGroups};
use crate::scsi::view::TargetView;

impl Target {
    /// Makes the views anew. `known` are the ports that there are to be, by portal group: those that one leads to, and those
    /// that sessions came by. Returns the views that sessions may know and that have changed.
    pub(in crate::control) fn refresh(
        &mut self,
        portals: &PortalGroups,
        known: &BTreeMap<u16, KnownPort>,
    ) -> Vec<Arc<TargetView>> {
        let tags = self.tags();
        self.ports.retain(|view| known.contains_key(&view.portal_group));
        self.redirects.retain(|redirect| tags.contains(&redirect.portal_group));
        self.port_auths.retain(|(tag, _)| portals.get(*tag).is_some());
        let told = told(&tags, portals);
        let mut ascending: Vec<(&u16, &KnownPort)> = known.iter().collect();
        ascending.sort_unstable_by_key(|(_, known)| known.port);
        let ports: Vec<u16> = ascending.iter().map(|(_, known)| known.port).collect();
        let port_groups: Vec<u16> = ascending.iter().map(|(_, known)| known.group()).collect();
        let portal_groups: Vec<u16> = ascending.iter().map(|(tag, _)| **tag).collect();
        let maps: Vec<Option<u32>> =
            std::iter::once(None).chain(self.lun_maps.iter().map(|(tag, _)| Some(*tag))).collect();
        let mut changed = Vec::new();
        let mut views = std::mem::take(&mut self.ports);
        for view in &mut views {
            let Some(group) = known.get(&view.portal_group).map(KnownPort::group) else { continue };
            let mappings = self.luns(view.lun_map);
            let is_as_it_was = view.mappings == *mappings
                && view.portals == told
                && (&view.ports, &view.port_groups, &view.portal_groups)
                    == (&ports, &port_groups, &portal_groups)
                && view.port_group == group
                && view.histogram == self.histogram;
            if !is_as_it_was {
                let new = TargetView {
                    portals: told.clone(),
                    ports: ports.clone(),
                    port_groups: port_groups.clone(),
                    portal_groups: portal_groups.clone(),
                    port_group: group,
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
        let order = tags.iter().filter_map(|&tag| Some((tag, *known.get(&tag)?)));
        let mut new = Vec::new();
        for (portal_group, known) in order {
            for &lun_map in maps.iter().filter(|&&lun_map| !is_there(portal_group, lun_map)) {
                new.push((portal_group, known, lun_map, self.luns(lun_map).to_vec()));
            }
        }
        for (portal_group, known, lun_map, mappings) in new {
            self.ports.push(Arc::new(TargetView {
                name: self.name.clone(),
                alias: self.alias.clone(),
                relative_port: known.port,
                ports: ports.clone(),
                port_groups: port_groups.clone(),
                portal_groups: portal_groups.clone(),
                // A port is a group of its own unless it was put into another: what is told of one says nothing of another
                // (SPC-5 §5.8).
                port_group: known.group(),
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
