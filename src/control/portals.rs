//! Portals and their groups: where connections come in.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;

use super::auth::Auth;
use super::error::{ChangeError, What};
use super::handed::Loan;
use crate::limits::{PORTAL_GROUPS_MAX, PORTALS_MAX};
use crate::net::Net;

/// A portal that is listened on.
#[derive(Debug)]
pub struct Portal {
    /// Address and port, that which the system chose where none was asked for.
    pub address: SocketAddr,
    /// What initiators are told instead, where they come by another address: through a NAT, into a container.
    pub advertised: Option<SocketAddr>,
    /// None in the simulator.
    listener: Option<TcpListener>,
    /// The listener is somebody else's.
    loan: Option<Loan>,
}

impl Portal {
    /// Listens; port 0 lets the system choose. It does not block.
    ///
    /// # Errors
    /// [`ChangeError::Listen`].
    pub fn listen(address: SocketAddr) -> Result<Portal, ChangeError> {
        let listener = crate::net::listen::listen(address)
            .and_then(|listener| Ok((listener.local_addr()?, listener)))
            .map_err(|error| ChangeError::listen(address, &error));
        listener.map(|(address, listener)| Portal {
            address,
            advertised: None,
            listener: Some(listener),
            loan: None,
        })
    }

    /// A portal at a socket that somebody else keeps.
    pub(super) fn lent(address: SocketAddr, listener: TcpListener, loan: Loan) -> Portal {
        Portal { address, advertised: None, listener: Some(listener), loan: Some(loan) }
    }

    /// A portal whose connections come by another way, as in a simulation.
    pub fn without_listener(address: SocketAddr) -> Portal {
        Portal { address, advertised: None, listener: None, loan: None }
    }

    /// Initiators are told this address of it.
    #[must_use]
    pub fn advertised_as(self, advertised: Option<SocketAddr>) -> Portal {
        Portal { advertised, ..self }
    }

    /// What initiators are told of it that came to `local`; none where they cannot have come to it.
    pub fn told(&self, local: SocketAddr) -> Option<SocketAddr> {
        match self.advertised.unwrap_or(self.address) {
            address if !address.ip().is_unspecified() => Some(address),
            // A portal on every address is told as the one that was reached, if it can have been.
            address if address.is_ipv6() == local.is_ipv6() => {
                Some(SocketAddr::new(local.ip(), address.port()))
            }
            _ => None,
        }
    }
}

/// Portals under a tag.
#[derive(Debug)]
pub struct PortalGroup {
    /// The target portal group tag.
    pub tag: u16,
    /// Where it is.
    pub portals: Vec<Portal>,
    /// SendTargets does not tell it.
    pub is_private: bool,
    /// Connections are taken in; else they wait for [`super::Control::start_portal_group`].
    pub is_started: bool,
    /// What discovery sessions have to prove here, where it differs from [`super::options::Options::discovery`].
    pub discovery: Option<Auth>,
}

/// The portal groups.
#[derive(Debug, Default)]
pub(super) struct PortalGroups {
    groups: Vec<PortalGroup>,
    /// The portals that are listened on: group and portal, by index.
    listening: Vec<(usize, usize)>,
}

impl PortalGroups {
    pub(super) fn iter(&self) -> impl Iterator<Item = &PortalGroup> {
        self.groups.iter()
    }

    pub(super) fn get(&self, tag: u16) -> Option<&PortalGroup> {
        self.groups.iter().find(|group| group.tag == tag)
    }

    pub(super) fn get_mut(&mut self, tag: u16) -> Result<&mut PortalGroup, ChangeError> {
        let group = self.groups.iter_mut().find(|group| group.tag == tag);
        group.ok_or_else(|| ChangeError::missing(What::PortalGroup, tag))
    }

    /// Whether a group of this tag and so many portals can be added.
    pub(super) fn has_room(&self, tag: u16, portals: usize) -> Result<(), ChangeError> {
        if self.get(tag).is_some() {
            return Err(ChangeError::exists(What::PortalGroup, tag));
        }
        if self.groups.len() >= PORTAL_GROUPS_MAX {
            return Err(ChangeError::TooMany { what: What::PortalGroup, most: PORTAL_GROUPS_MAX });
        }
        let count = self.groups.iter().map(|group| group.portals.len()).sum::<usize>();
        if count + portals > PORTALS_MAX {
            return Err(ChangeError::TooMany { what: What::Portal, most: PORTALS_MAX });
        }
        Ok(())
    }

    pub(super) fn add(&mut self, group: PortalGroup, net: &mut impl Net) -> Result<(), ChangeError> {
        self.has_room(group.tag, group.portals.len())?;
        if group.is_started {
            watch(&group, net)?;
        }
        self.groups.push(group);
        self.find_listening();
        Ok(())
    }

    pub(super) fn start(&mut self, tag: u16, net: &mut impl Net) -> Result<(), ChangeError> {
        let group = self.get_mut(tag)?;
        if !group.is_started {
            watch(group, net)?;
            group.is_started = true;
        }
        self.find_listening();
        Ok(())
    }

    pub(super) fn remove(&mut self, tag: u16) -> Result<PortalGroup, ChangeError> {
        let index = self.groups.iter().position(|group| group.tag == tag);
        let index = index.ok_or_else(|| ChangeError::missing(What::PortalGroup, tag))?;
        let group = self.groups.remove(index);
        self.find_listening();
        Ok(group)
    }

    /// Closes every portal; what is told of them stays.
    pub(super) fn close(&mut self) {
        self.groups.iter_mut().flat_map(|group| &mut group.portals).for_each(Portal::close);
        self.find_listening();
    }

    /// The portals that connections are taken in at, one after another.
    pub(super) fn listening(&self, index: usize) -> Option<Listening<'_>> {
        let &(group, portal) = self.listening.get(index)?;
        let group = self.groups.get(group)?;
        let portal = group.portals.get(portal)?;
        Some(Listening { listener: portal.listener.as_ref()?, group: group.tag, address: portal.address })
    }

    /// A listener has failed for good.
    pub(super) fn lose(&mut self, index: usize) {
        if let Some(&(group, portal)) = self.listening.get(index) {
            self.groups[group].portals[portal].close();
        }
        self.find_listening();
    }

    fn find_listening(&mut self) {
        self.listening.clear();
        for (index, group) in self.groups.iter().enumerate().filter(|(_, group)| group.is_started) {
            let is_open = |&(_, portal): &(usize, &Portal)| portal.listener.is_some();
            let open = group.portals.iter().enumerate().filter(is_open);
            self.listening.extend(open.map(|(portal, _)| (index, portal)));
        }
    }
}

/// A portal that connections are taken in at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listening<'a> {
    pub(super) listener: &'a TcpListener,
    pub(super) group: u16,
    pub(super) address: SocketAddr,
}

/// Lets connections that come in end a wait. A listener is taken out again when it is closed.
fn watch(group: &PortalGroup, net: &mut impl Net) -> Result<(), ChangeError> {
    for portal in &group.portals {
        if let Some(listener) = &portal.listener {
            let watched = portal.loan.as_ref().map_or(listener.as_raw_fd(), Loan::watched);
            let registered = net.register(watched);
            registered.map_err(|error| ChangeError::listen(portal.address, &error))?;
        }
    }
    Ok(())
}

impl Portal {
    fn close(&mut self) {
        (self.listener, self.loan) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::kernel::KernelNet;

    fn group(tag: u16, portals: Vec<Portal>, is_started: bool) -> PortalGroup {
        PortalGroup { tag, portals, is_private: false, is_started, discovery: None }
    }

    fn loopback() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    #[test]
    fn a_group_is_listened_at_once_it_is_started_and_until_it_is_removed() {
        let mut groups = PortalGroups::default();
        let portals = vec![Portal::listen(loopback()).unwrap(), Portal::listen(loopback()).unwrap()];
        let address = portals[1].address;
        let mut net = KernelNet::new(1).unwrap();
        groups.add(group(7, portals, false), &mut net).unwrap();
        assert!(groups.listening(0).is_none());
        groups.start(7, &mut net).unwrap();
        let second = groups.listening(1).unwrap();
        assert_eq!((second.group, second.address), (7, address));
        assert!(groups.listening(2).is_none());
        groups.lose(0);
        assert_eq!(groups.listening(0).map(|listening| listening.address), Some(address));
        let taken = Portal::listen(address).unwrap_err();
        assert!(
            matches!(&taken, ChangeError::Listen { portal, kind: std::io::ErrorKind::AddrInUse, .. } if *portal == address),
            "{taken}"
        );
        drop(groups.remove(7).unwrap());
        assert!(groups.listening(0).is_none());
        Portal::listen(address).unwrap();
        assert_eq!(groups.start(7, &mut net), Err(ChangeError::missing(What::PortalGroup, 7)));
    }

    #[test]
    fn tags_are_unique_and_portals_bounded() {
        let mut groups = PortalGroups::default();
        let some = |count| (0..count).map(|_| Portal::without_listener(loopback())).collect();
        let mut net = KernelNet::new(1).unwrap();
        groups.add(group(1, some(PORTALS_MAX - 1), true), &mut net).unwrap();
        assert!(groups.listening(0).is_none(), "there is no listener");
        assert_eq!(
            groups.add(group(1, some(1), true), &mut net),
            Err(ChangeError::exists(What::PortalGroup, 1))
        );
        let many = ChangeError::TooMany { what: What::Portal, most: PORTALS_MAX };
        assert_eq!(groups.add(group(2, some(2), true), &mut net), Err(many));
        groups.add(group(2, some(1), true), &mut net).unwrap();
    }
}
