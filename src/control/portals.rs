//! Portals and their groups: where connections come in.

use std::net::{SocketAddr, TcpListener};

use super::auth::Auth;
use super::error::{ChangeError, What};
use crate::limits::{PORTAL_GROUPS_MAX, PORTALS_MAX};

/// A portal that is listened on.
#[derive(Debug)]
pub struct Portal {
    /// Address and port, that which the system chose where none was asked for.
    pub address: SocketAddr,
    /// None in the simulator.
    listener: Option<TcpListener>,
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
        listener.map(|(address, listener)| Portal { address, listener: Some(listener) })
    }

    /// A portal whose connections come by another way, as in a simulation.
    pub fn without_listener(address: SocketAddr) -> Portal {
        Portal { address, listener: None }
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
