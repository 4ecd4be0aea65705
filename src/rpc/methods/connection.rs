//! Who is connected.

use super::{Method, Outcome, method};
use crate::control::connections::{Connection, Phase};
use crate::id::SessionId;
use crate::rpc::context::Context;
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::params::{Nothing, params};

pub(super) const METHODS: &[Method] = &[
    method!("iscsi_get_connections", Runtime, Nothing, get_connections, "Lists the connections."),
    method!("iscsi_get_stats", Runtime, Nothing, get_stats, "Counts the connections by what they are doing."),
    method!(
        "lunette_end_session",
        Runtime,
        EndSession,
        end_session,
        "Ends a session, at once. Its initiator may log in again: take it out of its initiator group first."
    ),
];

fn get_connections(context: &Context, _: Nothing) -> Outcome {
    let connections = context.control(|control, _| control.connections())?;
    Ok((0u32..).zip(&connections).map(|(id, connection)| describe(id, connection)).collect())
}

fn describe(id: u32, connection: &Connection) -> Json {
    let (state, login_phase) = match connection.phase {
        Phase::Login => ("running", "security_negotiation_phase"),
        Phase::Waiting => ("running", "operational_negotiation_phase"),
        Phase::Discovery | Phase::FullFeature => ("running", "full_feature_phase"),
        Phase::Ending => ("exiting", "full_feature_phase"),
    };
    let target = connection.target.as_deref().unwrap_or_default();
    let thread = match connection.reactor {
        Some(reactor) => format!("reactor_{}", reactor.0),
        None => "control".to_owned(),
    };
    object! {
        "id": id,
        "cid": connection.cid.unwrap_or_default(),
        "tsih": connection.tsih.map_or(-1, i32::from),
        "state": state,
        "login_phase": login_phase,
        "initiator_addr": connection.peer.ip().to_canonical().to_string(),
        "target_addr": connection.local.ip().to_canonical().to_string(),
        "target_node_name": target.split_once(':').map_or(target, |(_, short)| short),
        "thread_name": thread,
        "initiator_name": connection.initiator.as_deref().unwrap_or_default(),
        "target_name": target,
        "pg_tag": connection.portal_group,
        "session": connection.session.map_or(Json::Null, |session| Json::from(session.0)),
    }
}

fn get_stats(context: &Context, _: Nothing) -> Outcome {
    let connections = context.control(|control, _| control.connections())?;
    let exiting = connections.iter().filter(|connection| connection.phase == Phase::Ending).count() as u64;
    Ok(object! {
        "invalid": 0u64,
        "running": connections.len() as u64 - exiting,
        "exiting": exiting,
        "exited": 0u64,
    })
}

params! {
    /// Of `lunette_end_session`.
    pub(super) struct EndSession {
        /// Its number, as iscsi_get_connections shows it.
        session: u64,
    }
}

fn end_session(context: &Context, params: EndSession) -> Outcome {
    let id = SessionId(params.session);
    let was_there = context.control(move |control, now| {
        let is_there = control.sessions().get(id).is_some();
        control.end_session(id, now);
        is_there
    })?;
    match was_there {
        true => Ok(Json::Bool(true)),
        false => Err(Fault::params(format_args!("session: there is no {}", params.session))),
    }
}
