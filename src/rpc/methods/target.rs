//! Target nodes: what initiators log in to, and the LUNs they find there.

use rustix::io::Errno;

use super::{Method, Outcome, histogram, iscsi_fault, method, path, unit};
use crate::control::auth::{Auth, Chap};
use crate::control::error::ChangeError;
use crate::control::targets::{self, LUN_MAX, NewTarget, TargetInfo};
use crate::rpc::context::Context;
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::params::{Nothing, Take, Wrong, params};
use crate::scsi::view::LunNumber;

pub(super) const METHODS: &[Method] = &[
    method!("iscsi_get_target_nodes", Runtime, Nothing, get_target_nodes, "Lists the targets."),
    method!("iscsi_create_target_node", Runtime, CreateTargetNode, create_target_node, "Serves a target."),
    method!(
        "iscsi_delete_target_node",
        Runtime,
        TargetName,
        delete_target_node,
        "Stops to serve a target; answers when its sessions have ended and no device has IO of them."
    ),
    method!(
        "iscsi_target_node_add_lun",
        Runtime,
        AddLun,
        add_lun,
        "Adds a LUN to a target; initiators that are logged in are told."
    ),
    method!(
        "lunette_target_node_remove_lun",
        Runtime,
        RemoveLun,
        remove_lun,
        "Removes a LUN from a target; answers when no device has IO that came by it."
    ),
    method!(
        "iscsi_target_node_add_pg_ig_maps",
        Runtime,
        ChangeMaps,
        add_maps,
        "Lets more initiators come to a target, or by more portals: all of the pairs or none."
    ),
    method!(
        "iscsi_target_node_remove_pg_ig_maps",
        Runtime,
        ChangeMaps,
        remove_maps,
        "Takes such pairs back: all of them or none. Sessions of who is not let in any more end as with \
         iscsi_delete_initiator_group."
    ),
    method!(
        "iscsi_target_node_set_auth",
        Runtime,
        SetAuth,
        set_auth,
        "Changes what initiators have to prove to a target from now on."
    ),
    method!(
        "lunette_target_node_set_lun_map",
        Runtime,
        SetLunMap,
        set_lun_map,
        "Has the initiators of a group find other LUNs at a target than everybody does: other numbers, fewer, more, or for reading \
         only. The whole map is replaced; without luns they find everybody's again. Initiators that are logged in are told; \
         whose LUNs an initiator finds is decided when it logs in, by the group that lets it in. Those that came before the group had \
         LUNs of its own, and find more than these, are asked to log out and their sessions are ended 3 s later."
    ),
    method!(
        "scsi_get_devices",
        Runtime,
        Nothing,
        get_devices,
        "Lists the targets as SPDK's SCSI layer does."
    ),
];

params! {
    /// Which portal group leads to a target, and for whom.
    pub(super) struct MapParams {
        /// Tag of a portal group.
        pg_tag: u16,
        /// Tag of an initiator group.
        ig_tag: u32,
    }
}

params! {
    /// How a target's port is known to initiators.
    pub(super) struct PortParams {
        /// Tag of a portal group.
        pg_tag: u16,
        /// Its relative target port identifier; no other port has it.
        relative_port: u16,
    }
}

params! {
    /// A LUN of a new target.
    pub(super) struct LunParams {
        /// Its bdev.
        bdev_name: String,
        /// Its number; the lowest that is free where it is -1.
        lun_id: LunId = LunId(None),
    }
}

/// A LUN's number, or -1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LunId(Option<LunNumber>);

impl Take for LunId {
    fn kind() -> String {
        "a whole number from -1 to 16383".to_owned()
    }

    fn take(json: Json) -> Result<LunId, Wrong> {
        match i32::take(json)? {
            -1 => Ok(LunId(None)),
            number => match u16::try_from(number) {
                Ok(number @ 0..=16383) => Ok(LunId(Some(LunNumber(number)))),
                _ => Err(Wrong::new(format_args!("{number} is not {}", LunId::kind()))),
            },
        }
    }
}

params! {
    /// Of `iscsi_create_target_node`.
    pub(super) struct CreateTargetNode {
        /// Its iSCSI name, or what comes behind node_base and a colon.
        name: String,
        /// Shown to initiators; may be empty.
        alias_name: String,
        /// Portal groups that lead to it, each with an initiator group that may come by it.
        pg_ig_maps: Vec<MapParams>,
        /// Its LUNs.
        luns: Vec<LunParams>,
        /// SPDK's: commands of a session at once. Kept and given back; lunette's window follows the use that is made of it.
        queue_depth: u32,
        /// CHAP is not done.
        disable_chap: bool = false,
        /// CHAP has to be done.
        require_chap: bool = false,
        /// The target has to prove itself too.
        mutual_chap: bool = false,
        /// The authentication group whose secrets count; 0 is none. It may be made later.
        chap_group: u32 = 0,
        /// Initiators have to agree to CRC32C of headers.
        header_digest: bool = false,
        /// Initiators have to agree to CRC32C of data.
        data_digest: bool = false,
        /// Relative target port identifiers, for portal groups among those above; what is saved has them, so that initiators
        /// know the ports again.
        lunette_ports: Vec<PortParams> = Vec::new(),
    }
}

fn create_target_node(context: &Context, params: CreateTargetNode) -> Outcome {
    let chap = Chap::from_switches(params.disable_chap, params.require_chap, params.mutual_chap)
        .map_err(|error| iscsi_fault(&error))?;
    let target = NewTarget {
        name: params.name,
        alias: params.alias_name,
        luns: params.luns.into_iter().map(|lun| (lun.bdev_name, lun.lun_id.0)).collect(),
        maps: pairs(params.pg_ig_maps),
        auth: Auth { chap, group: params.chap_group },
        demands_header_digest: params.header_digest,
        demands_data_digest: params.data_digest,
        queue_depth: params.queue_depth,
        relative_ports: params.lunette_ports.iter().map(|port| (port.pg_tag, port.relative_port)).collect(),
    };
    answer(context.control(move |control, _| control.create_target(&target))?)
}

fn pairs(maps: Vec<MapParams>) -> Vec<(u16, u32)> {
    maps.into_iter().map(|map| (map.pg_tag, map.ig_tag)).collect()
}

pub(super) fn answer<T>(result: Result<T, ChangeError>) -> Outcome {
    result.map(|_| Json::Bool(true)).map_err(|error| iscsi_fault(&error))
}

params! {
    /// Of `iscsi_delete_target_node`.
    pub(super) struct TargetName {
        /// Its name.
        name: String,
    }
}

fn delete_target_node(context: &Context, TargetName { name }: TargetName) -> Outcome {
    let deleted =
        context.control_and_wait(move |control, now, done| control.delete_target(&name, done, now))?;
    match deleted {
        Ok(_) => Ok(Json::Bool(true)),
        // The one place where SPDK answers with an errno here.
        Err(error @ ChangeError::Missing { .. }) => Err(Fault::errno(Errno::NOENT, error)),
        Err(error) => Err(iscsi_fault(&error)),
    }
}

params! {
    /// Of `iscsi_target_node_add_lun`.
    pub(super) struct AddLun {
        /// The target.
        name: String,
        /// The LUN's bdev.
        bdev_name: String,
        /// Its number; the lowest that is free where it is -1.
        lun_id: LunId = LunId(None),
    }
}

fn add_lun(context: &Context, params: AddLun) -> Outcome {
    let AddLun { name, bdev_name, lun_id } = params;
    answer(context.control(move |control, _| control.add_lun(&name, &bdev_name, lun_id.0))?)
}

params! {
    /// Of `lunette_target_node_remove_lun`.
    pub(super) struct RemoveLun {
        /// The target.
        name: String,
        /// The LUN's number.
        lun_id: u16,
    }
}

fn remove_lun(context: &Context, params: RemoveLun) -> Outcome {
    let RemoveLun { name, lun_id } = params;
    unit::answer(
        context
            .control_and_wait(move |control, _, done| control.remove_lun(&name, LunNumber(lun_id), done))?,
    )
}

params! {
    /// Of `iscsi_target_node_add_pg_ig_maps`.
    pub(super) struct ChangeMaps {
        /// The target.
        name: String,
        /// The pairs.
        pg_ig_maps: Vec<MapParams>,
    }
}

fn add_maps(context: &Context, params: ChangeMaps) -> Outcome {
    let (name, maps) = (params.name, pairs(params.pg_ig_maps));
    answer(context.control(move |control, _| control.add_maps(&name, &maps))?)
}

fn remove_maps(context: &Context, params: ChangeMaps) -> Outcome {
    let (name, maps) = (params.name, pairs(params.pg_ig_maps));
    answer(context.control_and_wait(move |control, _, done| control.remove_maps(&name, &maps, done))?)
}

params! {
    /// Of `iscsi_target_node_set_auth`.
    pub(super) struct SetAuth {
        /// The target.
        name: String,
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

fn set_auth(context: &Context, params: SetAuth) -> Outcome {
    let chap = Chap::from_switches(params.disable_chap, params.require_chap, params.mutual_chap)
        .map_err(|error| iscsi_fault(&error))?;
    let auth = Auth { chap, group: params.chap_group };
    answer(context.control(move |control, _| control.set_target_auth(&params.name, auth))?)
}

params! {
    /// A LUN that the initiators of a group find.
    pub(super) struct OwnLun {
        /// Its bdev.
        bdev_name: String,
        /// Its number.
        lun_id: u16,
        /// It is for reading only.
        read_only: bool = false,
    }
}

params! {
    /// Of `lunette_target_node_set_lun_map`.
    pub(super) struct SetLunMap {
        /// The target.
        name: String,
        /// Tag of the initiator group.
        ig_tag: u32,
        /// The LUNs; everybody's where none are given.
        luns: Option<Vec<OwnLun>>,
    }
}

fn set_lun_map(context: &Context, params: SetLunMap) -> Outcome {
    let SetLunMap { name, ig_tag, luns } = params;
    if let Some(lun) = luns.iter().flatten().find(|lun| lun.lun_id > LUN_MAX) {
        return Err(iscsi_fault(&ChangeError::LunNumber(lun.lun_id)));
    }
    let own = |lun: OwnLun| (lun.bdev_name, LunNumber(lun.lun_id), lun.read_only);
    let luns: Option<Vec<_>> = luns.map(|luns| luns.into_iter().map(own).collect());
    unit::answer(context.control_and_wait(move |control, _, done| {
        control.set_lun_map(&name, ig_tag, luns.as_deref(), done)
    })?)
}

fn get_target_nodes(context: &Context, _: Nothing) -> Outcome {
    let shown = |target: TargetInfo<'_>| {
        let mut shown = describe(&target);
        if target.is_draining {
            shown.push("lunette_draining", true);
        }
        shown
    };
    context.control(move |control, _| control.targets().map(shown).collect::<Json>())
}

fn get_devices(context: &Context, _: Nothing) -> Outcome {
    let device = |target: TargetInfo<'_>| object! { "id": target.id, "device_name": target.name };
    context.control(move |control, _| control.targets().map(device).collect::<Json>())
}

/// The calls that make a target again. SPDK does not save redirects, nor has it names for ports.
pub(in crate::rpc) fn calls(target: &TargetInfo<'_>) -> Vec<(&'static str, Json)> {
    let mut params = describe(target);
    let port = |&(pg_tag, relative_port): &(u16, u16)| {
        object! { "pg_tag": pg_tag, "relative_port": relative_port }
    };
    params.push("lunette_ports", target.relative_ports.iter().map(port).collect::<Json>());
    let mut calls = vec![("iscsi_create_target_node", params)];
    calls.extend(target.histogram.map(|_| histogram::call(target.name)));
    calls.extend(target.lun_maps.iter().map(|(tag, luns)| {
        let lun = |lun: &targets::OwnLun<'_>| {
            object! { "bdev_name": lun.bdev, "lun_id": lun.number.0, "read_only": lun.read_only }
        };
        let luns: Json = luns.iter().map(lun).collect();
        ("lunette_target_node_set_lun_map", object! { "name": target.name, "ig_tag": *tag, "luns": luns })
    }));
    calls.extend(path::calls(target));
    calls
}

/// As the call takes it.
pub(in crate::rpc) fn describe(target: &TargetInfo<'_>) -> Json {
    let (disable_chap, require_chap, mutual_chap) = target.auth.chap.switches();
    let map = |&(pg_tag, ig_tag): &(u16, u32)| object! { "pg_tag": pg_tag, "ig_tag": ig_tag };
    let lun = |(number, bdev): &(LunNumber, &str)| object! { "bdev_name": *bdev, "lun_id": number.0 };
    object! {
        "name": target.name,
        "alias_name": target.alias,
        "pg_ig_maps": target.maps.iter().map(map).collect::<Json>(),
        "luns": target.luns.iter().map(lun).collect::<Json>(),
        "queue_depth": target.queue_depth,
        "disable_chap": disable_chap,
        "require_chap": require_chap,
        "mutual_chap": mutual_chap,
        "chap_group": target.auth.group,
        "header_digest": target.demands_header_digest,
        "data_digest": target.demands_data_digest,
    }
}
