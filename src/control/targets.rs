//! A target: its LUNs, who may come and by which portal groups, and the views of it that reactors read.
//!
//! In SCSI's words a target has one port a portal group (RFC 7143 §4.4.1: the port's name is the target's with the group's
//! tag), so there is a view for each. A view stays while sessions are there that came by it, whatever becomes of the portal
//! group.

mod views;

use std::net::SocketAddr;
use std::sync::Arc;

use super::access::{InitiatorGroups, Verdict, Who};
use super::auth::Auth;
use super::error::{ChangeError, What};
use super::portals::PortalGroups;
use crate::histogram::Histogram;
use crate::id::UnitId;
use crate::iscsi::negotiate::{DigestOffer, Offer};
use crate::limits::{
    ALIAS_BYTES_MAX, TARGET_LUN_MAPS_MAX, TARGET_LUNS_MAX, TARGET_MAPS_MAX, TARGET_PORTS_MAX,
};
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

/// A LUN that the initiators of a group find.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnLun<'a> {
    /// Its number.
    pub number: LunNumber,
    /// Its bdev.
    pub bdev: &'a str,
    /// It is for reading only.
    pub read_only: bool,
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
    /// What initiators of some groups (tag) find instead.
    pub lun_maps: Vec<(u32, Vec<OwnLun<'a>>)>,
    /// Portal group tag and initiator group tag.
    pub maps: &'a [(u16, u32)],
    /// What initiators have to prove.
    pub auth: Auth,
    /// What they have to prove at a portal group (tag), where that differs.
    pub port_auths: &'a [(u16, Auth)],
    /// CRC32C of headers is demanded.
    pub demands_header_digest: bool,
    /// CRC32C of data is demanded.
    pub demands_data_digest: bool,
    /// As it was given.
    pub queue_depth: u32,
    /// Tag of a portal group and relative target port identifier of the port there.
    pub relative_ports: Vec<(u16, u16)>,
    /// Tag of a portal group and target port group of the port there, where that is not one of its own.
    pub port_groups: Vec<(u16, u16)>,
    /// Where logins by a portal group are sent instead.
    pub redirects: &'a [Redirect],
    /// Nobody new gets in for now.
    pub is_draining: bool,
    /// How long commands take is counted here.
    pub histogram: Option<&'a Histogram>,
}

impl TargetInfo<'_> {
    /// Whether a LUN leads to a bdev, be it everybody's or of a map.
    pub fn leads_to(&self, bdev: &str) -> bool {
        let own = self.lun_maps.iter().flat_map(|(_, luns)| luns).map(|lun| lun.bdev);
        self.luns.iter().map(|(_, name)| *name).chain(own).any(|name| name == bdev)
    }

    /// The ports: tag of the portal group, relative target port identifier and target port group of each.
    pub fn ports(&self) -> impl Iterator<Item = (u16, u16, u16)> {
        self.relative_ports.iter().map(|&(tag, port)| {
            let group = self.port_groups.iter().find(|(at, _)| *at == tag).map_or(port, |(_, group)| *group);
            (tag, port, group)
        })
    }
}

/// Where logins by a portal group are sent instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Redirect {
    /// Its tag.
    pub portal_group: u16,
    /// To this portal.
    pub to: SocketAddr,
    /// From now on (0102h), not just for now (0101h).
    pub is_permanent: bool,
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
    /// Tag of a portal group, and what has to be proved there instead.
    pub(super) port_auths: Vec<(u16, Auth)>,
    pub(super) demands_header_digest: bool,
    pub(super) demands_data_digest: bool,
    pub(super) queue_depth: u32,
    /// Ascending by number.
    pub(super) mappings: Vec<Mapping>,
    /// What the initiators of a group (tag) find instead, ascending by number.
    pub(super) lun_maps: Vec<(u32, Vec<Mapping>)>,
    /// One a portal group that leads or led here, and one for each of the maps of LUNs there.
    pub(super) ports: Vec<Arc<TargetView>>,
    /// Where initiators that come by a portal group are told to log in instead.
    pub(super) redirects: Vec<Redirect>,
    /// Where it is counted how long commands take.
    pub(super) histogram: Option<Arc<Histogram>>,
    /// It is being deleted: nobody new gets in.
    pub(super) is_leaving: bool,
    /// Nobody new gets in for now.
    pub(super) is_draining: bool,
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
            port_auths: Vec::new(),
            demands_header_digest: spec.demands_header_digest,
            demands_data_digest: spec.demands_data_digest,
            queue_depth: spec.queue_depth,
            mappings: Vec::new(),
            lun_maps: Vec::new(),
            ports: Vec::new(),
            redirects: Vec::new(),
            histogram: None,
            is_leaving: false,
            is_draining: false,
        })
    }

    /// The LUNs of everybody, or those of an initiator group where it has its own.
    pub(super) fn luns(&self, lun_map: Option<u32>) -> &[Mapping] {
        let own = self.lun_maps.iter().find(|(tag, _)| Some(*tag) == lun_map);
        own.map_or(&self.mappings, |(_, mappings)| mappings)
    }

    /// All that any LUN leads to.
    pub(super) fn units(&self) -> impl Iterator<Item = UnitId> {
        let maps = self.lun_maps.iter().map(|(_, mappings)| mappings).chain([&self.mappings]);
        maps.flatten().map(|mapping| mapping.unit)
    }

    /// Whether a LUN leads to a unit.
    pub(super) fn maps_unit(&self, unit: UnitId) -> bool {
        self.units().any(|mapped| mapped == unit)
    }

    /// Takes a unit's LUNs out. Whether there were any.
    pub(super) fn unmap_unit(&mut self, unit: UnitId) -> bool {
        let is_mapped = self.maps_unit(unit);
        let maps = self.lun_maps.iter_mut().map(|(_, mappings)| mappings).chain([&mut self.mappings]);
        maps.for_each(|mappings| mappings.retain(|mapping| mapping.unit != unit));
        is_mapped
    }

    /// What initiators that come by a portal group have to prove.
    pub(super) fn auth_at(&self, tag: u16) -> Auth {
        self.port_auths.iter().find(|(at, _)| *at == tag).map_or(self.auth, |(_, auth)| *auth)
    }

    /// Where an initiator that comes by portal group `tag` is to go instead.
    pub(super) fn redirect(&self, tag: u16) -> Option<Redirect> {
        self.redirects.iter().find(|redirect| redirect.portal_group == tag).copied()
    }

    /// Sends logins by a portal group elsewhere, or serves them again.
    pub(super) fn set_redirect(
        &mut self,
        tag: u16,
        to: Option<SocketAddr>,
        is_permanent: bool,
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
        self.redirects.retain(|redirect| redirect.portal_group != tag);
        self.redirects.extend(to.map(|to| Redirect { portal_group: tag, to, is_permanent }));
        Ok(())
    }

    /// Whether portal group `tag` leads here, and who may come by it.
    pub(super) fn verdict(&self, tag: u16, who: Who<'_>, groups: &InitiatorGroups) -> Option<Verdict> {
        if !self.maps.iter().any(|&(group, _)| group == tag) {
            return None;
        }
        Some(self.deciding(tag, who, groups).map_or(Verdict::Deny, |(_, verdict)| verdict))
    }

    /// The first group of those at a portal group that has anything to say of the initiator: it decides.
    fn deciding(&self, tag: u16, who: Who<'_>, groups: &InitiatorGroups) -> Option<(u32, Verdict)> {
        let at_tag = self.maps.iter().filter(|&&(group, _)| group == tag);
        let mut said =
            at_tag.filter_map(|&(_, initiators)| Some((initiators, groups.get(initiators)?.verdict(who)?)));
        said.next()
    }

    /// Has the initiators of a group find these LUNs, or everybody's again. Returns units that they find no more, or may not
    /// write any more.
    pub(super) fn set_lun_map(
        &mut self,
        initiators: u32,
        mappings: Option<Vec<Mapping>>,
    ) -> Result<Vec<UnitId>, ChangeError> {
        let index = self.lun_maps.iter().position(|(tag, _)| *tag == initiators);
        // Where there was none, nobody was let in by it.
        let old = index.map(|index| self.lun_maps.remove(index).1).unwrap_or_default();
        if let Some(mut mappings) = mappings {
            if self.lun_maps.len() >= TARGET_LUN_MAPS_MAX {
                return Err(ChangeError::TooMany { what: What::LunMap, most: TARGET_LUN_MAPS_MAX });
            }
            mappings.sort_unstable_by_key(|mapping| mapping.number);
            self.lun_maps.push((initiators, mappings));
        }
        let new = self.luns(Some(initiators));
        let mut lost: Vec<UnitId> =
            old.into_iter().filter(|old| !is_found(old, new)).map(|mapping| mapping.unit).collect();
        lost.sort_unstable();
        lost.dedup();
        Ok(lost)
    }

    /// Drops the pairs of which a group is gone. Whether there were any.
    pub(super) fn drop_maps(&mut self, is_gone: impl Fn(u16, u32) -> bool) -> bool {
        let count = self.maps.len();
        self.maps.retain(|&(portal, initiator)| !is_gone(portal, initiator));
        self.maps.len() < count
    }

    /// The initiator group that lets an initiator in by a portal group.
    pub(super) fn admitted_by(&self, tag: u16, who: Who<'_>, groups: &InitiatorGroups) -> Option<u32> {
        let deciding = self.deciding(tag, who, groups);
        deciding.and_then(|(initiators, verdict)| (verdict == Verdict::Admit).then_some(initiators))
    }

    /// The initiator group is gone. Whether it had LUNs of its own.
    pub(super) fn drop_lun_map(&mut self, initiators: u32) -> bool {
        let count = self.lun_maps.len();
        self.lun_maps.retain(|(tag, _)| *tag != initiators);
        self.lun_maps.len() < count
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
}

/// Whether who finds `among` finds a LUN as it is, and may write it where it is for writing.
pub(super) fn is_found(lun: &Mapping, among: &[Mapping]) -> bool {
    let is_same = |other: &Mapping| (other.number, other.unit) == (lun.number, lun.unit);
    among.iter().any(|other| is_same(other) && (lun.read_only || !other.read_only))
}

fn pair(portal: u16, initiator: u32) -> String {
    format!("of portal group {portal} and initiator group {initiator}")
}
