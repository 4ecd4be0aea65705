//! The ways to a target: what initiators have to prove at a portal group, where they are sent instead, which target port group
//! the port there is in.

use std::net::SocketAddr;

use super::portal::{self, Host, Port};
use super::target::answer;
use super::{Method, Outcome, iscsi_fault, method, unit};
use crate::control::auth::{Auth, Chap};
use crate::control::targets::TargetInfo;
use crate::rpc::context::Context;
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::params::params;

pub(super) const METHODS: &[Method] = &[
    method!(
        "lunette_target_node_set_port_group",
        Runtime,
        SetPortGroup,
        set_port_group,
        "Puts the port that a target has at a portal group into a target port group: those with one number have their access \
         states in common. Without a number it is in one of its own again, which has the number of the port. Initiators are told; \
         what was said of a group that no port is in is forgotten."
    ),
    method!(
        "lunette_target_node_set_portal_group_auth",
        Runtime,
        SetPortAuth,
        set_port_auth,
        "Changes what initiators have to prove that come to a target by a portal group; without switches and chap_group it is \
         what iscsi_target_node_set_auth says."
    ),
    method!(
        "iscsi_target_node_set_redirect",
        Runtime,
        SetRedirect,
        set_redirect,
        "Tells initiators that come to a target by a portal group to log in at another portal instead, as long as this is set; \
         without redirect_host and redirect_port they are served again. Sessions stay, discovery goes on."
    ),
    method!(
        "iscsi_target_node_request_logout",
        Runtime,
        RequestLogout,
        request_logout,
        "Asks a target's initiators to log out: for moving them elsewhere. Who does not stays."
    ),
    method!(
        "lunette_target_node_drain",
        Runtime,
        Drain,
        drain,
        "Keeps initiators from logging in to a target (0301h, service unavailable: they try again) and asks those who are logged in to \
         log out. Who does not stays: iscsi_get_connections tells. It is not saved."
    ),
];

params! {
    /// Of `lunette_target_node_set_port_group`.
    pub(super) struct SetPortGroup {
        /// The target.
        name: String,
        /// A portal group that leads to it.
        pg_tag: u16,
        /// The number of the target port group; one of its own where none is given.
        port_group: Option<u16>,
    }
}

fn set_port_group(context: &Context, params: SetPortGroup) -> Outcome {
    let SetPortGroup { name, pg_tag, port_group } = params;
    unit::answer(
        context.control_and_wait(move |control, _, done| {
            control.set_port_group(&name, pg_tag, port_group, done)
        })?,
    )
}

params! {
    /// Of `lunette_target_node_set_portal_group_auth`.
    pub(super) struct SetPortAuth {
        /// The target.
        name: String,
        /// A portal group that leads to it.
        pg_tag: u16,
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

fn set_port_auth(context: &Context, params: SetPortAuth) -> Outcome {
    let chap = Chap::from_switches(params.disable_chap, params.require_chap, params.mutual_chap)
        .map_err(|error| iscsi_fault(&error))?;
    let auth = Auth { chap, group: params.chap_group };
    let auth = (auth != Auth::default()).then_some(auth);
    answer(context.control(move |control, _| control.set_port_auth(&params.name, params.pg_tag, auth))?)
}

params! {
    /// Of `iscsi_target_node_set_redirect`.
    pub(super) struct SetRedirect {
        /// The target.
        name: String,
        /// A public portal group that leads to it.
        pg_tag: u16,
        /// Where to go: an address.
        redirect_host: Option<Host>,
        /// And its port.
        redirect_port: Option<Port>,
        /// The initiator may remember it: the target has moved for good.
        lunette_permanent: bool = false,
    }
}

fn set_redirect(context: &Context, params: SetRedirect) -> Outcome {
    let to = match (params.redirect_host, params.redirect_port) {
        (Some(host), Some(port)) => Some(SocketAddr::new(host.0, port.0)),
        (None, None) => None,
        _ => return Err(Fault::params("redirect_host and redirect_port are given together or not at all")),
    };
    let is_permanent = params.lunette_permanent;
    answer(
        context
            .control(move |control, _| control.set_redirect(&params.name, params.pg_tag, to, is_permanent))?,
    )
}

params! {
    /// Of `iscsi_target_node_request_logout`.
    pub(super) struct RequestLogout {
        /// The target.
        name: String,
        /// Only sessions that came by this portal group; all where none is given.
        pg_tag: Option<u16>,
    }
}

fn request_logout(context: &Context, params: RequestLogout) -> Outcome {
    answer(context.control(move |control, _| control.ask_logout(&params.name, params.pg_tag))?)
}

params! {
    /// Of `lunette_target_node_drain`.
    pub(super) struct Drain {
        /// The target.
        name: String,
        /// Whether it is drained; false lets initiators log in again.
        enable: bool = true,
    }
}

fn drain(context: &Context, params: Drain) -> Outcome {
    answer(context.control(move |control, _| control.drain_target(&params.name, params.enable))?)
}

/// The calls that make a target's ways again. SPDK does not save redirects, and has no groups of ports.
pub(super) fn calls(target: &TargetInfo<'_>) -> Vec<(&'static str, Json)> {
    let mut calls: Vec<(&'static str, Json)> = Vec::new();
    calls.extend(target.redirects.iter().map(|redirect| {
        let mut params = object! {
            "name": target.name,
            "pg_tag": redirect.portal_group,
            "redirect_host": portal::host(redirect.to.ip()),
            "redirect_port": redirect.to.port().to_string(),
        };
        if redirect.is_permanent {
            params.push("lunette_permanent", true);
        }
        ("iscsi_target_node_set_redirect", params)
    }));
    calls.extend(target.port_groups.iter().map(|&(pg_tag, port_group)| {
        let params = object! { "name": target.name, "pg_tag": pg_tag, "port_group": port_group };
        ("lunette_target_node_set_port_group", params)
    }));
    calls.extend(target.port_auths.iter().map(|(tag, auth)| {
        let (disable_chap, require_chap, mutual_chap) = auth.chap.switches();
        let params = object! {
            "name": target.name,
            "pg_tag": *tag,
            "disable_chap": disable_chap,
            "require_chap": require_chap,
            "mutual_chap": mutual_chap,
            "chap_group": auth.group,
        };
        ("lunette_target_node_set_portal_group_auth", params)
    }));
    calls
}
