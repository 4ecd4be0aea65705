//! Logical units: who they say they are, in which state they are at which port, and who has reserved them.

use super::{Method, Outcome, iscsi_fault, method};
use crate::control::Control;
use crate::control::alua::{AccessChange, Luns};
use crate::control::done;
use crate::control::error::ChangeError;
use crate::control::identity::{self, Chosen, hex};
use crate::control::targets::TargetInfo;
use crate::net::kernel::KernelNet;
use crate::rpc::context::Context;
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::params::{Nothing, Take, Wrong, params};
use crate::rpc::types::choice;
use crate::scsi::alua::AccessState;
use crate::scsi::view::{LunNumber, UnitView};

pub(super) const METHODS: &[Method] = &[
    method!(
        "lunette_get_logical_units",
        Runtime,
        Nothing,
        get_logical_units,
        "Describes the logical units: their identity, access states, registrations and reservation."
    ),
    method!(
        "lunette_bdev_set_identity",
        Runtime,
        SetIdentity,
        set_identity,
        "Chooses who the logical unit made of a bdev says it is. What is left out is as by default: it comes from the bdev's \
         UUID and kind. It is saved in the state file, and initiators are told; in a file of calls it yields to what was \
         saved since."
    ),
    method!(
        "lunette_bdev_set_alua",
        Runtime,
        SetExplicit,
        set_explicit,
        "Lets initiators change the access states of a bdev's logical unit (SET TARGET PORT GROUPS), or no more."
    ),
    method!(
        "lunette_target_node_set_alua_state",
        Runtime,
        SetState,
        set_state,
        "Changes the access state of LUNs by the target port group that one of a target's portal groups is in. \
         Answered when it is saved and in force, initiators have been told, and no device has IO that it forbids; \
         with an error where a device keeps such IO for too long, the state being in force all the same."
    ),
];

/// An identifier in hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Hex(pub(super) arrayvec::ArrayVec<u8, 16>);

impl Take for Hex {
    fn kind() -> String {
        "a string of hexadecimal digits".to_owned()
    }

    fn take(json: Json) -> Result<Hex, Wrong> {
        let text = String::take(json)?;
        identity::bytes(&text)
            .map(Hex)
            .ok_or_else(|| Wrong::new(format_args!("{text:?} is not {}", Hex::kind())))
    }
}

/// The same, of any length.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Descriptor(pub(super) Vec<u8>);

impl Take for Descriptor {
    fn kind() -> String {
        Hex::kind()
    }

    fn take(json: Json) -> Result<Descriptor, Wrong> {
        let text = String::take(json)?;
        identity::long_bytes(&text)
            .map(Descriptor)
            .ok_or_else(|| Wrong::new(format_args!("{text:?} is not {}", Hex::kind())))
    }
}

params! {
    /// Of `lunette_bdev_set_identity`.
    pub(super) struct SetIdentity {
        /// The bdev.
        name: String,
        /// T10 vendor identification: up to 8 characters.
        vendor: Option<String>,
        /// Product identification: up to 16 characters.
        product: Option<String>,
        /// Product revision level: up to 4 characters.
        revision: Option<String>,
        /// Unit serial number: up to 64 characters.
        serial: Option<String>,
        /// NAA identifier: 16 digits that begin with 2, 3 or 5, or 32 that begin with 6.
        naa: Option<Hex>,
        /// EUI-64 identifier: 16 digits.
        eui64: Option<Hex>,
        /// What follows the vendor in the T10 identifier: up to 64 characters; product and serial number by default.
        t10: Option<String>,
        /// Designation descriptors of VPD 83h for the logical unit, each in hexadecimal digits from its CODE SET on: told to
        /// initiators as they are, in this order, instead of those made of naa, eui64 and t10.
        designators: Vec<Descriptor> = Vec::new(),
    }
}

fn set_identity(context: &Context, params: SetIdentity) -> Outcome {
    let eui64 = match params.eui64 {
        None => None,
        Some(Hex(bytes)) => {
            Some(bytes.as_slice().try_into().map_err(|_| Fault::params("eui64: it is 16 digits"))?)
        }
    };
    let chosen = Chosen {
        vendor: params.vendor,
        product: params.product,
        revision: params.revision,
        serial: params.serial,
        naa: params.naa.map(|Hex(bytes)| bytes),
        eui64,
        t10: params.t10,
        designators: params.designators.into_iter().map(|Descriptor(bytes)| bytes).collect(),
    };
    let is_initial = context.is_loading();
    answer(context.control_and_wait(move |control, _, done| {
        control.set_identity(&params.name, chosen, is_initial, done)
    })?)
}

/// Something that had to be saved, and that devices had to let go of IO for.
pub(super) fn answer(ended: Result<done::Outcome, ChangeError>) -> Outcome {
    match ended {
        Ok(outcome) if !outcome.is_saved => Err(Fault::internal(ChangeError::NotSaved)),
        Ok(outcome) if !outcome.is_clean => Err(Fault::internal(ChangeError::Unsettled)),
        Ok(_) => Ok(Json::Bool(true)),
        Err(error) => Err(iscsi_fault(&error)),
    }
}

params! {
    /// Of `lunette_bdev_set_alua`.
    pub(super) struct SetExplicit {
        /// The bdev; a LUN leads to it.
        name: String,
        /// Whether initiators may.
        explicit: bool,
    }
}

fn set_explicit(context: &Context, params: SetExplicit) -> Outcome {
    let is_initial = context.is_loading();
    answer(context.control_and_wait(move |control, _, done| {
        control.set_alua_explicit(&params.name, params.explicit, is_initial, done)
    })?)
}

choice! {
    /// ASYMMETRIC ACCESS STATE.
    pub(super) enum State {
        "active_optimized" => ActiveOptimized,
        "active_non_optimized" => ActiveNonOptimized,
        "standby" => Standby,
        "unavailable" => Unavailable,
        "transitioning" => Transitioning,
    }
}

impl From<State> for AccessState {
    fn from(state: State) -> AccessState {
        match state {
            State::ActiveOptimized => AccessState::ActiveOptimized,
            State::ActiveNonOptimized => AccessState::ActiveNonOptimized,
            State::Standby => AccessState::Standby,
            State::Unavailable => AccessState::Unavailable,
            State::Transitioning => AccessState::Transitioning,
        }
    }
}

params! {
    /// Of `lunette_target_node_set_alua_state`.
    pub(super) struct SetState {
        /// The target.
        name: String,
        /// A portal group that leads to it.
        pg_tag: u16,
        /// The state from now on.
        state: State,
        /// One LUN of the target, by its number; all where none is given.
        lun_id: Option<u16>,
        /// One LUN of the target, by its bdev: those of maps of LUNs can be named so too.
        bdev_name: Option<String>,
        /// Whether initiators are to prefer this way; as it was where it is not given.
        preferred: Option<bool>,
    }
}

fn set_state(context: &Context, params: SetState) -> Outcome {
    let luns = match (params.lun_id, params.bdev_name) {
        (None, None) => Luns::All,
        (Some(lun), None) => Luns::Number(LunNumber(lun)),
        (None, Some(bdev)) => Luns::Bdev(bdev),
        (Some(_), Some(_)) => return Err(Fault::params("lun_id or bdev_name is given, not both")),
    };
    let change = AccessChange {
        target: params.name,
        portal_group: params.pg_tag,
        luns,
        state: params.state.into(),
        is_preferred: params.preferred,
        is_initial: context.is_loading(),
    };
    answer(context.control_and_wait(move |control, _, done| control.set_access_state(&change, done))?)
}

fn get_logical_units(context: &Context, _: Nothing) -> Outcome {
    context.control(|control, _| {
        let targets = control.targets().collect::<Vec<_>>();
        let units = control.logical_units();
        units.map(|(bdev, view)| describe(&targets, bdev, view)).collect::<Json>()
    })
}

fn describe(targets: &[TargetInfo<'_>], bdev: &str, view: &UnitView) -> Json {
    let identity = &view.identity;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let mut shown = object! {
        "bdev_name": bdev,
        "vendor": text(&identity.vendor),
        "product": text(&identity.product),
        "revision": text(&identity.revision),
        "serial": &identity.serial,
        "naa": hex(&identity.naa),
    };
    if let Some(eui64) = &identity.eui64 {
        shown.push("eui64", hex(eui64));
    }
    if let Some(t10) = &identity.t10 {
        shown.push("t10", t10);
    }
    if !identity.designators.is_empty() {
        shown.push("designators", hex(&identity.designators));
    }
    let mut ports = Vec::new();
    for target in targets.iter().filter(|target| target.leads_to(bdev)) {
        for (tag, port, group) in target.ports() {
            let group = view.alua.group(group);
            ports.push(object! {
                "target": target.name,
                "pg_tag": tag,
                "relative_port": port,
                "port_group": group.number,
                "state": group.state.name(),
                "preferred": group.is_preferred,
            });
        }
    }
    shown.push("explicit_alua", view.alua.is_explicit());
    shown.push("ports", Json::Array(ports));
    let (registrations, reservation) = view.permits.state().shown();
    let registration = |(nexus, key): (&crate::scsi::reserve::Nexus, u64)| {
        object! {
            "initiator": &*nexus.initiator.name,
            "isid": hex(&nexus.initiator.isid),
            "relative_port": nexus.target_port,
            "key": format!("{key:016x}"),
            "holder": view.permits.state().holds(nexus.id),
        }
    };
    shown.push("registrations", registrations.map(registration).collect::<Json>());
    if let Some(kind) = reservation {
        shown.push("reservation_type", kind.code());
    }
    if let Some(chore) = &view.chore {
        // PROGRESS INDICATION (SPC-5 §4.4): 65536ths.
        let done = u64::from(chore.sense().progress.unwrap_or_default());
        let what = if chore.is_sanitize() { "SANITIZE" } else { "FORMAT UNIT" };
        shown.push("busy", object! { "with": what, "percent": (done * 100) >> 16 });
    }
    shown
}

/// The calls that make choices again: for the file of calls.
pub(in crate::rpc) fn identity_call(name: &str, chosen: &Chosen) -> Option<Json> {
    if *chosen == Chosen::default() {
        return None;
    }
    let mut params = object! { "name": name };
    let texts = [
        ("vendor", &chosen.vendor),
        ("product", &chosen.product),
        ("revision", &chosen.revision),
        ("serial", &chosen.serial),
        ("t10", &chosen.t10),
    ];
    for (field, text) in texts {
        if let Some(text) = text {
            params.push(field, text);
        }
    }
    if let Some(naa) = &chosen.naa {
        params.push("naa", hex(naa));
    }
    if let Some(eui64) = &chosen.eui64 {
        params.push("eui64", hex(eui64));
    }
    if !chosen.designators.is_empty() {
        params.push("designators", chosen.designators.iter().map(|one| hex(one)).collect::<Json>());
    }
    Some(object! { "method": "lunette_bdev_set_identity", "params": params })
}

/// The same of access states.
pub(in crate::rpc) fn access_calls(control: &Control<KernelNet>) -> Vec<Json> {
    let mut calls = Vec::new();
    // Once: what a target is takes as long as there are bdevs.
    let targets = control.targets().collect::<Vec<_>>();
    for (bdev, view) in control.logical_units() {
        if view.alua.is_explicit() {
            let params = object! { "name": bdev, "explicit": true };
            calls.push(object! { "method": "lunette_bdev_set_alua", "params": params });
        }
        for target in targets.iter().filter(|target| target.leads_to(bdev)) {
            let mut told = Vec::new();
            for (tag, _, number) in target.ports() {
                let group = view.alua.group(number);
                let is_default = group.state == AccessState::default() && !group.is_preferred;
                if is_default || told.contains(&number) {
                    continue;
                }
                told.push(number);
                let mut params = object! { "name": target.name, "pg_tag": tag, "state": group.state.name() };
                match target.luns.iter().find(|(_, name)| *name == bdev) {
                    Some((lun, _)) => params.push("lun_id", lun.0),
                    None => params.push("bdev_name", bdev),
                }
                params.push("preferred", group.is_preferred);
                calls.push(object! { "method": "lunette_target_node_set_alua_state", "params": params });
            }
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_was_not_done() {
        let ended = |is_clean, is_saved| {
            answer(Ok(done::Outcome { is_clean, is_saved, bdevs: Vec::new() })).map_err(|fault| fault.text())
        };
        assert_eq!(ended(true, true), Ok(Json::Bool(true)));
        for (is_clean, is_saved, words) in [
            (false, true, "it is in force, but a device keeps IO"),
            (true, false, "it cannot be saved, and so was not done"),
            (false, false, "it cannot be saved, and so was not done"),
        ] {
            let text = ended(is_clean, is_saved).unwrap_err();
            assert!(text.contains(words), "{text}");
        }
    }
}
