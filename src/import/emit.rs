//! The model as a file of calls: what `lunette serve --config` takes and `lunette_save_config` writes.

use std::net::{IpAddr, SocketAddr};

use super::identity::Identity;
use super::model::{Access, Account, Auth, Backing, Disk, Lun, Model, Options, Target};
use super::text::is_printable;
use crate::control::identity::hex;
use crate::control::registry::uuid_text;
use crate::rpc::json::{Json, object};

/// The shortest secret that is taken without being asked for.
const SECRET_BYTES_MIN: usize = 12;

/// The file.
pub(super) fn config(model: &Model) -> Json {
    let subsystem = |name: &str, calls: Vec<Json>| object! { "subsystem": name, "config": calls };
    let mut groups = Groups::default();
    let targets: Vec<Json> =
        model.targets.iter().flat_map(|target| target_calls(target, model, &mut groups)).collect();
    let mut calls = vec![options_call(&model.options, model, &mut groups)];
    calls.extend(model.portal_groups.iter().map(|group| {
        let portal =
            |portal: &SocketAddr| object! { "host": host(portal.ip()), "port": portal.port().to_string() };
        let portals: Json = group.portals.iter().map(portal).collect();
        call("iscsi_create_portal_group", object! { "tag": group.tag, "portals": portals, "private": false })
    }));
    let portal_auths: Vec<Json> = model
        .portal_groups
        .iter()
        .filter_map(|group| {
            let mut params = object! { "tag": group.tag };
            push_auth(&mut params, group.discovery.as_ref()?, &mut groups);
            Some(call("iscsi_portal_group_set_auth", params))
        })
        .collect();
    calls.extend(groups.initiators.iter().zip(1_u32..).map(|((initiators, netmasks), tag)| {
        let list = |texts: &[String]| texts.iter().map(String::as_str).collect::<Json>();
        let params = object! { "tag": tag, "initiators": list(initiators), "netmasks": list(netmasks) };
        call("iscsi_create_initiator_group", params)
    }));
    calls.extend(targets);
    calls.extend(groups.accounts.iter().zip(1_u32..).map(|(accounts, tag)| {
        let secrets: Json = accounts.iter().map(secret).collect();
        call("iscsi_create_auth_group", object! { "tag": tag, "secrets": secrets })
    }));
    calls.extend(portal_auths);
    calls.extend(model.targets.iter().flat_map(state_calls));
    calls.extend(model.options.isns.map(|server| {
        let params = object! { "host": host(server.ip()), "port": server.port().to_string() };
        call("lunette_isns_set_server", params)
    }));
    object! { "subsystems": vec![subsystem("bdev", bdev_calls(model)), subsystem("iscsi", calls)] }
}

fn call(method: &str, params: Json) -> Json {
    object! { "method": method, "params": params }
}

fn host(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

fn bdev_calls(model: &Model) -> Vec<Json> {
    let made = model.disks.iter().map(bdev_call);
    let identities =
        model.disks.iter().filter(|disk| disk.identity != Identity::default()).map(identity_call);
    made.chain([object! { "method": "bdev_wait_for_examine" }]).chain(identities).collect()
}

fn bdev_call(disk: &Disk) -> Json {
    let mut params = object! { "name": &disk.name };
    let method = match &disk.backing {
        Backing::File { path, create_bytes } => {
            params.push("filename", path);
            if let Some(bytes) = disk.block_bytes {
                params.push("block_size", bytes);
            }
            params.push("readonly", disk.is_read_only);
            params.push("uuid", uuid_text(&disk.uuid));
            // Who may not write cannot make it either.
            if let Some(bytes) = create_bytes.as_ref().filter(|_| !disk.is_read_only) {
                params.push("lunette_create_size", *bytes);
            }
            if disk.is_write_through {
                params.push("lunette_write_through", true);
            }
            if disk.is_removable {
                params.push("lunette_removable", true);
            }
            "bdev_aio_create"
        }
        Backing::Memory { bytes } | Backing::Null { bytes } => {
            let is_memory = matches!(disk.backing, Backing::Memory { .. });
            // RAM disks have blocks of 512 or 4096 bytes.
            let block_bytes = disk.block_bytes.filter(|bytes| !is_memory || *bytes == 4096).unwrap_or(512);
            params.push("num_blocks", (bytes / u64::from(block_bytes)).max(1));
            params.push("block_size", block_bytes);
            params.push("uuid", uuid_text(&disk.uuid));
            if disk.is_removable && is_memory {
                params.push("lunette_removable", true);
            }
            if is_memory { "bdev_malloc_create" } else { "bdev_null_create" }
        }
        // Which device it is notes who serves it, as nobody else knows it yet.
        Backing::Passed { path } => {
            params.push("filename", path);
            params.push("readonly", disk.is_read_only);
            "lunette_sg_create"
        }
        Backing::CdRom { path } => {
            if let Some(path) = path {
                params.push("filename", path);
            }
            params.push("uuid", uuid_text(&disk.uuid));
            "lunette_cdrom_create"
        }
    };
    call(method, params)
}

fn identity_call(disk: &Disk) -> Json {
    let identity = &disk.identity;
    let mut params = object! { "name": &disk.name };
    for (name, text, most) in [
        ("vendor", &identity.vendor, 8),
        ("product", &identity.product, 16),
        ("revision", &identity.revision, 4),
        ("serial", &identity.serial, 64),
    ] {
        if let Some(text) = text.as_ref().filter(|text| is_printable(text, most)) {
            params.push(name, text);
        }
    }
    if let Some(naa) = &identity.naa {
        params.push("naa", hex(naa));
    }
    if let Some(eui64) = &identity.eui64 {
        params.push("eui64", hex(eui64));
    }
    if !identity.designators.is_empty() {
        params.push("designators", identity.designators.iter().map(|one| hex(one)).collect::<Json>());
    }
    call("lunette_bdev_set_identity", params)
}

/// Initiator groups and authentication groups, each once; tags count from 1.
#[derive(Debug, Default)]
struct Groups {
    initiators: Vec<(Vec<String>, Vec<String>)>,
    accounts: Vec<Vec<Account>>,
}

/// The tag of a thing in a list of which each stands there once.
fn tag_of<T: PartialEq>(list: &mut Vec<T>, wanted: T) -> u32 {
    let index = list.iter().position(|known| *known == wanted).unwrap_or_else(|| {
        list.push(wanted);
        list.len() - 1
    });
    u32::try_from(index + 1).unwrap_or(u32::MAX)
}

fn push_auth(params: &mut Json, auth: &Auth, groups: &mut Groups) {
    let (require, mutual) = match auth {
        Auth::Open | Auth::Either(_) => (false, false),
        Auth::Chap(_) => (true, false),
        Auth::Mutual(_) => (true, true),
    };
    params.push("disable_chap", false);
    params.push("require_chap", require);
    params.push("mutual_chap", mutual);
    // Where nobody can prove anything nobody gets in: the group is there, for accounts to be added to.
    let group = if *auth == Auth::Open { 0 } else { tag_of(&mut groups.accounts, auth.accounts().to_vec()) };
    params.push("chap_group", group);
}

fn secret(account: &Account) -> Json {
    let mut secret = object! { "user": &account.user, "secret": &account.secret };
    if let Some((user, target_secret)) = &account.target {
        secret.push("muser", user);
        secret.push("msecret", target_secret);
    }
    secret
}

/// Whether a model has secrets that are taken only where that is asked for.
pub(super) fn has_weak_secrets(model: &Model) -> bool {
    let groups = model.portal_groups.iter().filter_map(|group| group.discovery.as_ref());
    let auths =
        model.targets.iter().map(|target| &target.auth).chain(groups).chain([&model.options.discovery]);
    let is_weak = |secret: &str| secret.len() < SECRET_BYTES_MIN;
    auths.flat_map(Auth::accounts).any(|account| {
        is_weak(&account.secret) || account.target.as_ref().is_some_and(|(_, secret)| is_weak(secret))
    })
}

fn options_call(options: &Options, model: &Model, groups: &mut Groups) -> Json {
    let mut params = object! {};
    for (name, value) in [
        ("max_sessions", options.sessions_max),
        ("max_connections_per_session", options.connections_max),
        ("default_time2wait", options.time2wait_seconds),
        ("default_time2retain", options.time2retain_seconds),
        ("first_burst_length", options.first_burst_bytes),
        ("error_recovery_level", options.error_recovery_level),
        ("nop_in_interval", options.nop_in_seconds),
        ("nop_timeout", options.nop_timeout_seconds),
    ] {
        if let Some(value) = value {
            params.push(name, value);
        }
    }
    if let Some(immediate_data) = options.immediate_data {
        params.push("immediate_data", immediate_data);
    }
    push_auth(&mut params, &options.discovery, groups);
    if has_weak_secrets(model) {
        params.push("lunette_weak_secrets", true);
    }
    call("iscsi_set_options", params)
}

fn target_calls(target: &Target, model: &Model, groups: &mut Groups) -> Vec<Json> {
    let access = groups_of(&target.access, groups);
    let maps: Json = target
        .portal_groups
        .iter()
        .flat_map(|(pg_tag, _)| {
            let may_come = access.iter().filter(move |(_, access)| access.may_come_by(*pg_tag));
            may_come.map(move |(ig_tag, _)| object! { "pg_tag": *pg_tag, "ig_tag": *ig_tag })
        })
        .collect();
    let lun = |lun: &Lun| object! { "bdev_name": &model.disks[lun.disk].name, "lun_id": lun.number };
    let mut params = object! {
        "name": &target.name,
        "alias_name": &target.alias,
        "pg_ig_maps": maps,
        "luns": target.luns.iter().map(lun).collect::<Json>(),
        "queue_depth": target.queue_depth,
    };
    push_auth(&mut params, &target.auth, groups);
    params.push("header_digest", target.demands_header_digest);
    params.push("data_digest", target.demands_data_digest);
    // A port is one that initiators can come by.
    let port = |(pg_tag, port): &(u16, Option<u16>)| {
        let port = port.filter(|_| is_reached(target, *pg_tag));
        port.map(|port| object! { "pg_tag": *pg_tag, "relative_port": port })
    };
    let ports: Vec<Json> = target.portal_groups.iter().filter_map(port).collect();
    if !ports.is_empty() {
        params.push("lunette_ports", ports);
    }
    let mut calls = vec![call("iscsi_create_target_node", params)];
    let redirects = target.redirects.iter().filter(|(pg_tag, ..)| is_reached(target, *pg_tag));
    calls.extend(redirects.map(|(pg_tag, to, is_permanent)| {
        let mut params = object! {
            "name": &target.name,
            "pg_tag": *pg_tag,
            "redirect_host": host(to.ip()),
            "redirect_port": to.port().to_string(),
        };
        if *is_permanent {
            params.push("lunette_permanent", true);
        }
        call("iscsi_target_node_set_redirect", params)
    }));
    calls.extend(access.iter().filter_map(|(ig_tag, access)| lun_map(target, *ig_tag, access, model)));
    calls
}

/// Whether anybody may come to a target by a portal group: else it does not lead there.
fn is_reached(target: &Target, pg_tag: u16) -> bool {
    target.access.iter().any(|access| access.may_come_by(pg_tag))
}

/// Who may come, each group once, with its tag.
fn groups_of<'a>(access: &'a [Access], groups: &mut Groups) -> Vec<(u32, &'a Access)> {
    let mut found: Vec<(u32, &Access)> = Vec::new();
    for access in access {
        let rules = (distinct(&access.initiators), distinct(&access.netmasks));
        let tag = tag_of(&mut groups.initiators, rules);
        // Of two that let the same initiators in the first counts.
        if found.iter().all(|(known, _)| *known != tag) {
            found.push((tag, access));
        }
    }
    found
}

/// A list with each of its elements once.
fn distinct(list: &[String]) -> Vec<String> {
    let mut once: Vec<String> = Vec::new();
    for one in list {
        if !once.contains(one) {
            once.push(one.clone());
        }
    }
    once
}

/// LUNs of a group's own, where it has any or some are for reading only.
fn lun_map(target: &Target, ig_tag: u32, access: &Access, model: &Model) -> Option<Json> {
    let luns = access.luns.as_ref().unwrap_or(&target.luns);
    let is_plain = luns.iter().all(|lun| !lun.is_read_only || model.disks[lun.disk].is_read_only);
    if access.luns.is_none() && is_plain {
        return None;
    }
    let lun = |lun: &Lun| {
        let name = &model.disks[lun.disk].name;
        object! { "bdev_name": name, "lun_id": lun.number, "read_only": lun.is_read_only }
    };
    let luns: Json = luns.iter().map(lun).collect();
    let params = object! { "name": &target.name, "ig_tag": ig_tag, "luns": luns };
    Some(call("lunette_target_node_set_lun_map", params))
}

fn state_calls(target: &Target) -> Vec<Json> {
    let state = |(pg_tag, lun, state, is_preferred): &(u16, u16, &'static str, bool)| {
        let params = object! {
            "name": &target.name, "pg_tag": *pg_tag, "state": *state, "lun_id": *lun, "preferred": *is_preferred,
        };
        call("lunette_target_node_set_alua_state", params)
    };
    target.states.iter().filter(|(pg_tag, ..)| is_reached(target, *pg_tag)).map(state).collect()
}
