//! Portal groups: where initiators come in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Method, Outcome, iscsi_fault, method};
use crate::control::auth::{Auth, Chap};
use crate::control::portals::{Portal, PortalGroup};
use crate::rpc::context::Context;
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::params::{Nothing, Take, Wrong, params};

pub(super) const METHODS: &[Method] = &[
    method!("iscsi_get_portal_groups", Runtime, Nothing, get_portal_groups, "Lists the portal groups."),
    method!(
        "iscsi_create_portal_group",
        Runtime,
        CreatePortalGroup,
        create_portal_group,
        "Listens on portals under a tag."
    ),
    method!(
        "iscsi_start_portal_group",
        Runtime,
        PortalGroupTag,
        start_portal_group,
        "Takes connections in at a group that was created with wait."
    ),
    method!(
        "iscsi_delete_portal_group",
        Runtime,
        PortalGroupTag,
        delete_portal_group,
        "Closes a group's portals and drops the maps that name it. Sessions stay."
    ),
    method!(
        "iscsi_portal_group_set_auth",
        Runtime,
        PortalGroupSetAuth,
        portal_group_set_auth,
        "Changes what discovery sessions have to prove at a portal group."
    ),
];

/// The port that IANA gave to iSCSI.
const PORT: u16 = 3260;

/// An address to listen on: names are not looked up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Host(pub(super) IpAddr);

impl Take for Host {
    fn kind() -> String {
        "an address, IPv6 in brackets; * and [*] are all".to_owned()
    }

    fn take(json: Json) -> Result<Host, Wrong> {
        let text = String::take(json)?;
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let address = match (text.as_str(), bare) {
            ("*", _) => Some(Ipv4Addr::UNSPECIFIED.into()),
            (_, Some("*")) => Some(Ipv6Addr::UNSPECIFIED.into()),
            (_, Some(bare)) => bare.parse::<Ipv6Addr>().ok().map(IpAddr::from),
            (text, None) => text.parse().ok(),
        };
        address.map(Host).ok_or_else(|| Wrong::new(format_args!("{text:?} is not {}", Host::kind())))
    }
}

/// A port: SPDK's clients send a string, people a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Port(pub(super) u16);

impl Take for Port {
    fn kind() -> String {
        "a string with a port number".to_owned()
    }

    fn take(json: Json) -> Result<Port, Wrong> {
        match json {
            Json::String(text) => {
                text.parse().map(Port).map_err(|_| Wrong::new(format_args!("{text:?} is no port")))
            }
            other => u16::take(other).map(Port),
        }
    }
}

/// An address that initiators are told, with a port or with that of the portal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Advertised(IpAddr, Option<u16>);

impl Advertised {
    fn at(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.0, self.1.unwrap_or(port))
    }
}

impl Take for Advertised {
    fn kind() -> String {
        "an address with a port or without, IPv6 in brackets".to_owned()
    }

    fn take(json: Json) -> Result<Advertised, Wrong> {
        let text = String::take(json)?;
        let whole = text.parse::<SocketAddr>().map(|address| Advertised(address.ip(), Some(address.port())));
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(&text);
        let advertised = whole.or_else(|_| bare.parse().map(|address| Advertised(address, None)));
        // Nobody can come to these.
        let is_one = |advertised: &Advertised| !advertised.0.is_unspecified() && advertised.1 != Some(0);
        advertised
            .ok()
            .filter(is_one)
            .ok_or_else(|| Wrong::new(format_args!("{text:?} is not {}", Advertised::kind())))
    }
}

params! {
    /// A portal.
    pub(super) struct PortalParams {
        /// The address to listen on.
        host: Host,
        /// The port; 0 lets the system choose, and what it chose is listed and saved: initiators have been told.
        port: Port = Port(PORT),
        /// What initiators are told instead, where they come by another address (NAT, a container): ADDR or ADDR:PORT.
        lunette_advertise: Option<Advertised>,
    }
}

params! {
    /// Of `iscsi_create_portal_group`.
    pub(super) struct CreatePortalGroup {
        /// Its tag, 1 to 65535: the target portal group tag of iSCSI.
        tag: u16,
        /// Where to listen.
        portals: Vec<PortalParams>,
        /// SendTargets does not tell it.
        private: bool = false,
        /// Connections are taken in from iscsi_start_portal_group on.
        wait: bool = false,
    }
}

params! {
    /// Of calls about a portal group.
    pub(super) struct PortalGroupTag {
        /// Its tag.
        tag: u16,
    }
}

params! {
    /// Of `iscsi_portal_group_set_auth`.
    pub(super) struct PortalGroupSetAuth {
        /// Its tag.
        tag: u16,
        /// CHAP is not done.
        disable_chap: bool = false,
        /// CHAP has to be done.
        require_chap: bool = false,
        /// The target has to prove itself too.
        mutual_chap: bool = false,
        /// The authentication group whose secrets count; 0 is none.
        chap_group: u32 = 0,
    }
}

fn create_portal_group(context: &Context, params: CreatePortalGroup) -> Outcome {
    let CreatePortalGroup { tag, portals, private, wait } = params;
    if tag == 0 {
        return Err(Fault::params("tag: it is 1 to 65535"));
    }
    let listen = |portal: PortalParams| {
        let listening = context.handed.listen(SocketAddr::new(portal.host.0, portal.port.0))?;
        let port = listening.address.port();
        Ok(listening.advertised_as(portal.lunette_advertise.map(|advertised| advertised.at(port))))
    };
    let portals: Result<Vec<Portal>, _> = portals.into_iter().map(listen).collect();
    let portals = portals.map_err(|error| iscsi_fault(&error))?;
    let is_started = !wait && context.may_start_portals(tag);
    let group = PortalGroup { tag, portals, is_private: private, is_started, discovery: None };
    context.control(|control, _| control.add_portal_group(group))?.map_err(|error| iscsi_fault(&error))?;
    Ok(Json::Bool(true))
}

fn start_portal_group(context: &Context, PortalGroupTag { tag }: PortalGroupTag) -> Outcome {
    let started = context.control(move |control, _| control.start_portal_group(tag))?;
    started.map(|()| Json::Bool(true)).map_err(|error| iscsi_fault(&error))
}

fn delete_portal_group(context: &Context, PortalGroupTag { tag }: PortalGroupTag) -> Outcome {
    let deleted = context.control(move |control, _| control.delete_portal_group(tag))?;
    deleted.map(|()| Json::Bool(true)).map_err(|error| iscsi_fault(&error))
}

fn portal_group_set_auth(context: &Context, params: PortalGroupSetAuth) -> Outcome {
    let chap = Chap::from_switches(params.disable_chap, params.require_chap, params.mutual_chap)
        .map_err(|error| iscsi_fault(&error))?;
    let auth = Auth { chap, group: params.chap_group };
    let set = context.control(move |control, _| control.set_portal_group_auth(params.tag, auth))?;
    set.map(|()| Json::Bool(true)).map_err(|error| iscsi_fault(&error))
}

fn get_portal_groups(context: &Context, _: Nothing) -> Outcome {
    context.control(|control, _| control.portal_groups().map(describe).collect::<Json>())
}

/// An address as [`Host`] takes it.
pub(in crate::rpc) fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// Parameters of the call with addresses as [`describe`] writes them, however they were written; what is wrong stays as it is.
pub(in crate::rpc) fn as_saved(params: &Json) -> Json {
    let mut params = params.clone();
    let Some(Json::Array(portals)) = params.member_mut("portals") else { return params };
    for portal in portals {
        let taken = |name| portal.member(name).cloned();
        let address = taken("host").and_then(|text| Host::take(text).ok());
        let port = taken("port").map_or(Ok(Port(PORT)), Port::take);
        let advertised = taken("lunette_advertise").and_then(|text| Advertised::take(text).ok());
        let (Some(Host(address)), Ok(Port(port)), Json::Object(members)) = (address, port, &mut *portal)
        else {
            continue;
        };
        for (name, value) in members {
            match (name.as_str(), advertised) {
                ("host", _) => *value = host(address).into(),
                ("lunette_advertise", Some(advertised)) => *value = advertised.at(port).to_string().into(),
                _ => {}
            }
        }
    }
    params
}

/// As the call takes it, but for `wait`.
pub(in crate::rpc) fn describe(group: &PortalGroup) -> Json {
    let portal = |portal: &Portal| {
        let mut shown =
            object! { "host": host(portal.address.ip()), "port": portal.address.port().to_string() };
        if let Some(advertised) = portal.advertised {
            shown.push("lunette_advertise", advertised.to_string());
        }
        shown
    };
    object! {
        "tag": group.tag,
        "portals": group.portals.iter().map(portal).collect::<Json>(),
        "private": group.is_private,
    }
}
