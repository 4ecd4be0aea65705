//! lunette's own file of calls as a model.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{calls, is_on, text_of};
use crate::import::identity::Identity;
use crate::import::model::{
    Access, Account, Auth, Backing, Disk, Lun, Model, PortalGroup, Target, lun_number,
};
use crate::import::report::{Place, Report};
use crate::import::text::{self, PORT};
use crate::rpc::json::Json;

/// Reads the calls.
pub(super) fn read(subsystems: &[Json], place: &Place, model: &mut Model, report: &mut Report) {
    let calls: Vec<&Json> = subsystems.iter().flat_map(calls).collect();
    let of = |wanted: &'static str| {
        calls
            .iter()
            .filter(move |call| text_of(call, "method") == wanted)
            .filter_map(|call| call.member("params"))
    };
    let groups: BTreeMap<u64, Access> = of("iscsi_create_initiator_group")
        .map(|params| {
            let access = Access {
                initiators: texts(params, "initiators"),
                netmasks: texts(params, "netmasks"),
                luns: None,
                ways: None,
            };
            (number(params, "tag"), access)
        })
        .collect();
    let secrets: BTreeMap<u64, Vec<Account>> =
        of("iscsi_create_auth_group").map(|params| (number(params, "tag"), accounts(params))).collect();
    for call in &calls {
        let params = call.member("params").unwrap_or(&Json::Null);
        match text_of(call, "method") {
            "iscsi_create_initiator_group" | "bdev_wait_for_examine" => {}
            "iscsi_create_auth_group" => {
                for user in list(params, "secrets").iter().filter(|secret| secret.member("secret").is_none())
                {
                    let user = text_of(user, "user");
                    report.cannot(
                        place,
                        format_args!("user {user}: the secret is in a file or credential, which is not read; add it there"),
                    );
                }
            }
            "iscsi_create_target_node"
            | "lunette_target_node_set_lun_map"
            | "lunette_target_node_set_portal_group_auth" => {}
            "iscsi_create_portal_group" => model.portal_groups.extend(portal_group(params)),
            "iscsi_set_options" => {
                model.options.discovery = auth(params, &secrets);
                if let Some(file) = params.member("auth_file").and_then(Json::text) {
                    report.cannot(
                        place,
                        format_args!("the accounts of auth_file {file} are not read; add them there"),
                    );
                }
            }
            "lunette_isns_set_server" => model.options.isns = text::address(text_of(params, "host"), 3205),
            "lunette_bdev_set_identity" => {
                if let Some(disk) = model.disks.iter_mut().find(|disk| disk.name == text_of(params, "name")) {
                    disk.identity = identity(params);
                }
            }
            method => match disk(method, params) {
                Some(disk) => model.disks.push(disk),
                None => {
                    report.cannot(place, format_args!("{method} {}", super::shortened(&params.to_string())))
                }
            },
        }
    }
    // Which initiator group each access of a target is made of.
    let mut tags: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for params in of("iscsi_create_target_node") {
        let found = target(params, &groups, &secrets, place, model, report);
        tags.insert(text_of(params, "name").to_owned(), found);
    }
    for params in of("lunette_target_node_set_lun_map") {
        let luns = luns(params, place, model, report);
        let tags = tags.get(text_of(params, "name")).map(Vec::as_slice).unwrap_or_default();
        let at = tags.iter().position(|tag| *tag == number(params, "ig_tag"));
        let target = model.targets.iter_mut().find(|target| target.name == text_of(params, "name"));
        let Some((target, at)) = target.zip(at) else { continue };
        if let Some(access) = target.access.get_mut(at) {
            access.luns = Some(luns);
        }
    }
    for params in of("lunette_target_node_set_portal_group_auth") {
        let name = text_of(params, "name");
        let Some(target) = model.targets.iter_mut().find(|target| target.name == name) else { continue };
        let wanted = auth(params, &secrets);
        let is_asked = matches!(wanted, Auth::Chap(_) | Auth::Mutual(_));
        if is_asked && wanted != target.auth {
            target.access.clear();
        }
        report.cannot(
            place,
            format_args!(
                "target {name}: CHAP by portal group {}{}",
                number(params, "pg_tag"),
                if target.access.is_empty() { "; nobody may come" } else { "; the target's own counts" }
            ),
        );
    }
}

fn texts(object: &Json, name: &str) -> Vec<String> {
    list(object, name).iter().filter_map(|value| value.text().map(str::to_owned)).collect()
}

fn list<'a>(object: &'a Json, name: &str) -> &'a [Json] {
    match object.member(name) {
        Some(Json::Array(values)) => values,
        _ => &[],
    }
}

fn number(object: &Json, name: &str) -> u64 {
    match object.member(name) {
        Some(Json::Unsigned(value)) => *value,
        _ => 0,
    }
}

fn disk(method: &str, params: &Json) -> Option<Disk> {
    let block_bytes = u32::try_from(number(params, "block_size")).ok().filter(|bytes| *bytes > 0);
    let bytes = number(params, "num_blocks").saturating_mul(number(params, "block_size"));
    let path = text_of(params, "filename").to_owned();
    let backing = match method {
        "bdev_malloc_create" => Backing::Memory { bytes },
        "bdev_null_create" => Backing::Null { bytes },
        "bdev_aio_create" | "bdev_uring_create" => Backing::File { path, create_bytes: None },
        "lunette_sg_create" => Backing::Passed { path },
        "lunette_cdrom_create" => Backing::CdRom { path: (!path.is_empty()).then_some(path) },
        _ => return None,
    };
    let uuid = crate::control::identity::bytes(text_of(params, "uuid"));
    Some(Disk {
        name: text_of(params, "name").to_owned(),
        backing,
        block_bytes,
        is_read_only: is_on(params, "readonly"),
        is_write_through: is_on(params, "lunette_write_through"),
        is_removable: is_on(params, "lunette_removable"),
        identity: Identity::default(),
        uuid: uuid.and_then(|uuid| uuid.as_slice().try_into().ok()).unwrap_or_default(),
    })
}

fn identity(params: &Json) -> Identity {
    let text = |name| Some(text_of(params, name).to_owned()).filter(|text| !text.is_empty());
    let bytes = |name| crate::control::identity::bytes(text_of(params, name)).map(|bytes| bytes.to_vec());
    Identity {
        vendor: text("vendor"),
        product: text("product"),
        revision: text("revision"),
        serial: text("serial"),
        naa: bytes("naa").filter(|naa| !naa.is_empty()),
        eui64: bytes("eui64").and_then(|eui64| eui64.as_slice().try_into().ok()),
        designators: Vec::new(),
    }
}

fn portal_group(params: &Json) -> Option<PortalGroup> {
    let portal = |portal: &Json| {
        let host = match text_of(portal, "host") {
            "*" => "0.0.0.0",
            "[*]" => "::",
            host => host,
        };
        let ip = text::address(host, PORT)?.ip();
        Some(SocketAddr::new(ip, text_of(portal, "port").parse().unwrap_or(PORT)))
    };
    Some(PortalGroup {
        tag: u16::try_from(number(params, "tag")).ok()?,
        portals: list(params, "portals").iter().filter_map(portal).collect(),
        discovery: None,
    })
}

fn accounts(params: &Json) -> Vec<Account> {
    let one = |secret: &Json| {
        let text = |name| text_of(secret, name).to_owned();
        let target = secret.member("muser").map(|_| (text("muser"), text("msecret")));
        Account { user: text("user"), secret: text("secret"), target }
    };
    list(params, "secrets").iter().filter(|secret| secret.member("secret").is_some()).map(one).collect()
}

fn auth(params: &Json, secrets: &BTreeMap<u64, Vec<Account>>) -> Auth {
    let accounts = secrets.get(&number(params, "chap_group")).cloned().unwrap_or_default();
    match (is_on(params, "disable_chap"), is_on(params, "require_chap"), is_on(params, "mutual_chap")) {
        (true, _, _) => Auth::Open,
        (_, true, true) => Auth::Mutual(accounts),
        (_, true, false) => Auth::Chap(accounts),
        _ if accounts.is_empty() => Auth::Open,
        _ => Auth::Either(accounts),
    }
}

fn target(
    params: &Json,
    groups: &BTreeMap<u64, Access>,
    secrets: &BTreeMap<u64, Vec<Account>>,
    place: &Place,
    model: &mut Model,
    report: &mut Report,
) -> Vec<u64> {
    let mut target = Target::new(text_of(params, "name"));
    let mut tags = Vec::new();
    text_of(params, "alias_name").clone_into(&mut target.alias);
    for map in list(params, "pg_ig_maps") {
        let tag = u16::try_from(number(map, "pg_tag")).unwrap_or(0);
        if target.portal_groups.iter().all(|(known, _)| *known != tag) {
            target.portal_groups.push((tag, None));
        }
        let initiators = number(map, "ig_tag");
        let Some(group) = groups.get(&initiators) else { continue };
        match tags.iter().position(|known| *known == initiators) {
            Some(at) => target.access[at].ways.get_or_insert_default().push(tag),
            None => {
                tags.push(initiators);
                target.access.push(Access { ways: Some(vec![tag]), ..group.clone() });
            }
        }
    }
    if has_one_order(params) {
        let is_there = |access: &Access| target.portal_groups.iter().all(|(tag, _)| access.may_come_by(*tag));
        target.access.iter_mut().filter(|access| is_there(access)).for_each(|access| access.ways = None);
    }
    target.auth = auth(params, secrets);
    target.demands_header_digest = is_on(params, "header_digest");
    target.demands_data_digest = is_on(params, "data_digest");
    target.queue_depth = u32::try_from(number(params, "queue_depth")).unwrap_or(u32::MAX);
    target.luns = luns(params, place, model, report);
    model.targets.push(target);
    tags
}

/// Whether the initiator groups that come by all of a target's portal groups stand in the same order at each: the first counts.
fn has_one_order(params: &Json) -> bool {
    let mut orders: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for map in list(params, "pg_ig_maps") {
        orders.entry(number(map, "pg_tag")).or_default().push(number(map, "ig_tag"));
    }
    let is_everywhere = |tag: &u64| orders.values().all(|order| order.contains(tag));
    let mut common = orders.values().map(|order| order.iter().filter(|tag| is_everywhere(tag)));
    let Some(first) = common.next().map(Iterator::collect::<Vec<_>>) else { return true };
    common.all(|order| order.eq(first.iter().copied()))
}

/// LUNs of a target or of a map; one without a number has the lowest that is free.
fn luns(params: &Json, place: &Place, model: &Model, report: &mut Report) -> Vec<Lun> {
    let mut luns: Vec<Lun> = Vec::new();
    for lun in list(params, "luns") {
        let name = text_of(lun, "bdev_name");
        let Some(disk) = model.disks.iter().position(|disk| disk.name == name) else {
            report.cannot(
                place,
                format_args!(
                    "a LUN of {}: the bdev {name} is of no kind that others have",
                    text_of(params, "name")
                ),
            );
            continue;
        };
        let asked = match lun.member("lun_id") {
            Some(Json::Unsigned(number)) => lun_number(*number),
            _ => (0..).find(|number| luns.iter().all(|lun| lun.number != *number)),
        };
        luns.extend(asked.map(|number| Lun { number, disk, is_read_only: is_on(lun, "read_only") }));
    }
    luns
}
