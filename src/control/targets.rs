//! A target: its LUNs, who may come and by which portal groups, and the views of it that reactors read.
//!
//! In SCSI's words a target has one port a portal group (RFC 7143 §4.4.1: the port's name is the target's with the group's
//! tag), so there is a view for each. A view stays while sessions are there that came by it, whatever becomes of the portal
//! group.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use super::access::{InitiatorGroups, Verdict, Who};
use super::auth::Auth;
use super::error::{ChangeError, What};
use super::portals::{PortalGroup, PortalGroups};
use crate::histogram::Histogram;
use crate::id::UnitId;
use crate::iscsi::negotiate::{DigestOffer, Offer};
use crate::limits::{ALIAS_BYTES_MAX, TARGET_LUNS_MAX, TARGET_MAPS_MAX, TARGET_PORTS_MAX};
use crate::scsi::view::{LunNumber, Mapping, TargetView};

/// A target to be served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewTarget {
    /// Its name: an iSCSI name, or the part behind [`super::options::Options::node_base`].
    pub name: String,
    /// Shown at login and in lists; may be empty.
    pub alias: String,
    /// Its LUNs: bdev, and number where one is wanted (else the lowest that is free).
    pub luns: Vec<(String, Option<LunNumber>)>,
    /// Which portal groups lead to it (tag), and for whom (tag of an initiator group).
    pub maps: Vec<(u16, u32)>,
    /// What initiators have to prove.
    pub auth: Auth,
    /// CRC32C of headers is demanded.
    pub demands_header_digest: bool,
    /// CRC32C of data is demanded.
    pub demands_data_digest: bool,
    /// Kept and given back; the window of a session is set by what it uses.
    pub queue_depth: u32,
    /// Relative target port identifiers that its ports had before, by tag of the portal group; others get new ones.
    pub relative_ports: Vec<(u16, u16)>,
}

/// A target, for lists.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its alias; may be empty.
    pub alias: &'a str,
    /// A small number that it keeps.
    pub id: u32,
    /// LUN and bdev, ascending.
    pub luns: Vec<(LunNumber, &'a str)>,
    /// Portal group tag and initiator group tag.
    pub maps: &'a [(u16, u32)],
    /// What initiators have to prove.
    pub auth: Auth,
    /// CRC32C of headers is demanded.
    pub demands_header_digest: bool,
    /// CRC32C of data is demanded.
    pub demands_data_digest: bool,
    /// As it was given.
    pub queue_depth: u32,
    /// Tag of a portal group and relative target port identifier of the port there.
    pub relative_ports: Vec<(u16, u16)>,
    /// Where logins by a portal group are sent instead.
    pub redirects: &'a [(u16, SocketAddr)],
    /// How long commands take is counted here.
    pub histogram: Option<&'a Histogram>,
}

/// LUNs have 14 bits (SAM-5 §4.7.7.1, flat space addressing).
pub const LUN_MAX: u16 = 16383;

#[derive(Debug)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) alias: String,
    pub(super) id: u32,
    pub(super) maps: Vec<(u16, u32)>,
    pub(super) auth: Auth,
    pub(super) demands_header_digest: bool,
    pub(super) demands_data_digest: bool,
    pub(super) queue_depth: u32,
    /// Ascending by number.
    pub(super) mappings: Vec<Mapping>,
    /// One a portal group that leads or led here.
    pub(super) ports: Vec<Arc<TargetView>>,
    /// Where initiators that come by a portal group (tag) are told to log in instead, for now.
    pub(super) redirects: Vec<(u16, SocketAddr)>,
    /// Where it is counted how long commands take.
    pub(super) histogram: Option<Arc<Histogram>>,
    /// It is being deleted: nobody new gets in.
    pub(super) is_leaving: bool,
}

impl Target {
    /// One without LUNs and ports. `name` is whole and in order.
    pub(super) fn new(spec: &NewTarget, name: String, id: u32) -> Result<Target, ChangeError> {
        if spec.alias.len() > ALIAS_BYTES_MAX || spec.alias.chars().any(char::is_control) {
            return Err(ChangeError::Alias(spec.alias.clone()));
        }
        Ok(Target {
            name,
            alias: spec.alias.clone(),
            id,
            maps: Vec::new(),
            auth: spec.auth,
            demands_header_digest: spec.demands_header_digest,
            demands_data_digest: spec.demands_data_digest,
            queue_depth: spec.queue_depth,
            mappings: Vec::new(),
            ports: Vec::new(),
            redirects: Vec::new(),
            histogram: None,
            is_leaving: false,
        })
    }

    /// The view at a portal group.
    pub(super) fn port(&self, tag: u16) -> Option<&Arc<TargetView>> {
        self.ports.iter().find(|view| view.portal_group == tag)
    }

    /// Where an initiator that comes by portal group `tag` is to go instead.
    pub(super) fn redirect(&self, tag: u16) -> Option<SocketAddr> {
        self.redirects.iter().find(|(from, _)| *from == tag).map(|(_, to)| *to)
    }

    /// Sends logins by a portal group elsewhere, or serves them again.
    pub(super) fn set_redirect(
        &mut self,
        tag: u16,
        to: Option<SocketAddr>,
        portals: &PortalGroups,
    ) -> Result<(), ChangeError> {
        let group = portals.get(tag).ok_or_else(|| ChangeError::missing(What::PortalGroup, tag))?;
        let refuse = |why| Err(ChangeError::Redirect { tag, why });
        if !self.tags().contains(&tag) {
            return refuse("it does not lead to the target");
        }
        if group.is_private {
            return refuse("it is private: who comes there has been redirected already");
        }
        if to.is_some_and(|to| group.portals.iter().any(|portal| portal.address == to)) {
            return refuse("that address is one of its own portals");
        }
        if to.is_some_and(|to| to.ip().is_unspecified() || to.port() == 0) {
            return refuse("initiators need an address and a port");
        }
        self.redirects.retain(|(from, _)| *from != tag);
        self.redirects.extend(to.map(|to| (tag, to)));
        Ok(())
    }

    /// Whether portal group `tag` leads here, and who may come by it.
    pub(super) fn verdict(&self, tag: u16, who: Who<'_>, groups: &InitiatorGroups) -> Option<Verdict> {
        let mut at_tag = self.maps.iter().filter(|&&(group, _)| group == tag).peekable();
        at_tag.peek()?;
        // The first group that has anything to say of the initiator decides.
        let said = at_tag.find_map(|&(_, initiators)| groups.get(initiators)?.verdict(who));
        Some(said.unwrap_or(Verdict::Deny))
    }

    /// The number that is wanted, or the lowest that is free.
    pub(super) fn free_lun(&self, wanted: Option<LunNumber>) -> Result<LunNumber, ChangeError> {
        if self.mappings.len() >= TARGET_LUNS_MAX {
            return Err(ChangeError::TooMany { what: What::Lun, most: TARGET_LUNS_MAX });
        }
        let is_taken = |number| self.mappings.iter().any(|mapping| mapping.number == number);
        match wanted {
            Some(LunNumber(number)) if number > LUN_MAX => Err(ChangeError::LunNumber(number)),
            Some(number) if is_taken(number) => Err(ChangeError::exists(What::Lun, number.0)),
            Some(number) => Ok(number),
            None => {
                let free = (0..=LUN_MAX).map(LunNumber).find(|&number| !is_taken(number));
                free.ok_or(ChangeError::TooMany { what: What::Lun, most: TARGET_LUNS_MAX })
            }
        }
    }

    /// Puts a LUN in its place.
    pub(super) fn map(&mut self, number: LunNumber, unit: UnitId) {
        let index = self.mappings.partition_point(|mapping| mapping.number < number);
        self.mappings.insert(index, Mapping { number, unit, read_only: false });
    }

    pub(super) fn unmap(&mut self, number: LunNumber) -> Result<UnitId, ChangeError> {
        let index = self.mappings.binary_search_by_key(&number, |mapping| mapping.number);
        let index = index.map_err(|_| ChangeError::missing(What::Lun, number.0))?;
        Ok(self.mappings.remove(index).unit)
    }

    /// Adds pairs, all or none.
    pub(super) fn add_maps(
        &mut self,
        maps: &[(u16, u32)],
        portals: &PortalGroups,
        initiators: &InitiatorGroups,
    ) -> Result<(), ChangeError> {
        let mut new = self.maps.clone();
        for &(portal, initiator) in maps {
            if portals.get(portal).is_none() {
                return Err(ChangeError::missing(What::PortalGroup, portal));
            }
            if initiators.get(initiator).is_none() {
                return Err(ChangeError::missing(What::InitiatorGroup, initiator));
            }
            if new.contains(&(portal, initiator)) {
                return Err(ChangeError::exists(What::Map, pair(portal, initiator)));
            }
            new.push((portal, initiator));
        }
        if new.len() > TARGET_MAPS_MAX {
            return Err(ChangeError::TooMany { what: What::Map, most: TARGET_MAPS_MAX });
        }
        let former = std::mem::replace(&mut self.maps, new);
        if self.tags().len() > TARGET_PORTS_MAX {
            self.maps = former;
            return Err(ChangeError::TooMany { what: What::PortalGroup, most: TARGET_PORTS_MAX });
        }
        Ok(())
    }

    /// Removes pairs, all or none.
    pub(super) fn remove_maps(&mut self, maps: &[(u16, u32)]) -> Result<(), ChangeError> {
        if let Some(&(portal, initiator)) = maps.iter().find(|map| !self.maps.contains(map)) {
            return Err(ChangeError::missing(What::Map, pair(portal, initiator)));
        }
        self.maps.retain(|map| !maps.contains(map));
        Ok(())
    }

    /// Our side of negotiations.
    pub(super) fn offer(&self, general: Offer) -> Offer {
        let digest = |is_demanded, general| if is_demanded { DigestOffer::Required } else { general };
        Offer {
            header_digest: digest(self.demands_header_digest, general.header_digest),
            data_digest: digest(self.demands_data_digest, general.data_digest),
            ..general
        }
    }

    /// Makes the views anew. `relative_port` names a port that is new, by its portal group; those that no portal group leads to any more go
    /// unless `is_used`. Returns the views that sessions may know and that have changed.
    pub(super) fn refresh(
        &mut self,
        portals: &PortalGroups,
        is_used: impl Fn(u16) -> bool,
        mut relative_port: impl FnMut(u16) -> u16,
    ) -> Vec<Arc<TargetView>> {
        let tags = self.tags();
        self.ports.retain(|view| tags.contains(&view.portal_group) || is_used(view.portal_group));
        self.redirects.retain(|(tag, _)| tags.contains(tag));
        let told = told(&tags, portals);
        let known: BTreeSet<u16> = self.ports.iter().map(|view| view.portal_group).collect();
        let new: Vec<(u16, u16)> = tags
            .into_iter()
            .filter(|tag| !known.contains(tag))
            .map(|tag| (tag, relative_port(tag)))
            .collect();
        let ports = self.ports.iter().map(|view| view.relative_port);
        let mut ports: Vec<u16> = ports.chain(new.iter().map(|(_, port)| *port)).collect();
        ports.sort_unstable();
        let mut changed = Vec::new();
        for view in &mut self.ports {
            let is_as_it_was = view.mappings == self.mappings
                && view.portals == told
                && view.ports == ports
                && view.histogram == self.histogram;
            if !is_as_it_was {
                let new = TargetView {
                    portals: told.clone(),
                    ports: ports.clone(),
                    mappings: self.mappings.clone(),
                    histogram: self.histogram.clone(),
                    ..TargetView::clone(view)
                };
                *view = Arc::new(new);
                changed.push(Arc::clone(view));
            }
        }
        for (portal_group, relative_port) in new {
            self.ports.push(Arc::new(TargetView {
                name: self.name.clone(),
                alias: self.alias.clone(),
                relative_port,
                ports: ports.clone(),
                // A port is a group of its own: what is told of one says nothing of another (SPC-5 §5.8).
                port_group: relative_port,
                portal_group,
                portals: told.clone(),
                mappings: self.mappings.clone(),
                histogram: self.histogram.clone(),
            }));
        }
        changed
    }

    /// The portal groups that lead here, each once.
    pub(super) fn tags(&self) -> Vec<u16> {
        let mut tags = Vec::new();
        for &(tag, _) in &self.maps {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        tags
    }

    /// The view as told to an initiator that came to `local`; none where it may come by no portal group that is told.
    pub(super) fn view_for(
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
                let address = match portal.address {
                    address if !address.ip().is_unspecified() => address,
                    // A portal on every address is told as the one that was reached, if it can have been.
                    address if address.is_ipv6() == local.is_ipv6() => {
                        SocketAddr::new(local.ip(), address.port())
                    }
                    _ => continue,
                };
                let address = format!("{address},{}", group.tag);
                if !view.portals.contains(&address) {
                    view.portals.push(address);
                }
            }
        }
        (!view.portals.is_empty()).then_some(view)
    }
}

fn pair(portal: u16, initiator: u32) -> String {
    format!("of portal group {portal} and initiator group {initiator}")
}

/// A private group is for redirection only; connections to one that is not started would wait.
fn is_told(group: &PortalGroup) -> bool {
    !group.is_private && group.is_started
}

/// What a session's own SendTargets tells. A portal on every address is left out: without an address initiators take the one
/// they came to (RFC 7143 appendix C).
fn told(tags: &[u16], portals: &PortalGroups) -> Vec<String> {
    let groups = tags.iter().filter_map(|&tag| portals.get(tag)).filter(|group| is_told(group));
    let addresses =
        groups.flat_map(|group| group.portals.iter().map(move |portal| (portal.address, group.tag)));
    let addresses = addresses.filter(|(address, _)| !address.ip().is_unspecified());
    addresses.map(|(address, tag)| format!("{address},{tag}")).collect()
}
