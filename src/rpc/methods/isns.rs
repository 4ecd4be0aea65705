//! Where targets are registered for initiators to find.

use std::net::SocketAddr;

use super::portal::{Host, Port};
use super::{Method, Outcome, method};
use crate::rpc::context::Context;
use crate::rpc::fault::Fault;
use crate::rpc::isns;
use crate::rpc::json::{Json, object};
use crate::rpc::params::{Nothing, params};

pub(super) const METHODS: &[Method] = &[
    method!(
        "lunette_isns_set_server",
        Runtime,
        SetServer,
        set_server,
        "Registers targets and portals with an iSNS server from now on, as SendTargets tells them; without a host with none."
    ),
    method!(
        "lunette_isns_get_status",
        Runtime,
        Nothing,
        get_status,
        "Tells which targets the iSNS server knows, and what is wrong where it does not."
    ),
];

/// The port that IANA gave to iSNS.
const PORT: u16 = 3205;

params! {
    /// Of `lunette_isns_set_server`.
    pub(super) struct SetServer {
        /// The server's address.
        host: Option<Host>,
        /// Its port.
        port: Port = Port(PORT),
        /// What the server is to call this machine; its host name where it is not given.
        entity: Option<String>,
    }
}

fn nodename() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// What a call without these says.
pub(in crate::rpc) fn defaults() -> Json {
    object! { "port": PORT.to_string(), "entity": nodename() }
}

fn set_server(context: &Context, params: SetServer) -> Outcome {
    let server = params.host.map(|host| SocketAddr::new(host.0, params.port.0));
    if server.is_some_and(|server| server.ip().is_unspecified() || server.port() == 0) {
        return Err(Fault::params("host: an address and port that can be connected to are needed"));
    }
    let entity = params.entity.unwrap_or_else(nodename);
    // RFC 4171 §6.2.1.
    if entity.is_empty() || entity.len() > 255 || entity.chars().any(char::is_control) {
        return Err(Fault::params("entity: it is 1 to 255 bytes without control characters"));
    }
    isns::set(context, server, entity)?;
    Ok(Json::Bool(true))
}

fn get_status(context: &Context, _: Nothing) -> Outcome {
    Ok(context.isns.describe())
}
