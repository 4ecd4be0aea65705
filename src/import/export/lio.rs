//! A model as `saveconfig.json`.

use std::path::Path;

use super::holds_back;
use super::tgt::is_any;
use crate::control::identity::hex;
use crate::control::registry::uuid_text;
use crate::import::lio::naa;
use crate::import::model::{Account, Auth, Backing, Disk, Lun, Model, Target};
use crate::import::report::{Place, Report};
use crate::import::source::Files;
use crate::rpc::json::{Json, object};

/// What every NAA identifier of LIO's begins with.
const COMPANY: &str = "6001405";

/// The file.
pub(super) fn write(model: &Model, place: &Place, files: &dyn Files, report: &mut Report) -> Json {
    let objects: Vec<Option<(String, Json)>> =
        model.disks.iter().map(|disk| storage(disk, place, files, report)).collect();
    remark_twins(&objects, place, report);
    let targets: Vec<Json> =
        model.targets.iter().map(|target| write_target(target, model, &objects, place, report)).collect();
    let mut module = object! { "name": "iscsi" };
    if let Some(account) = model.options.discovery.accounts().first() {
        module.push("discovery_enable_auth", true);
        push_account(&mut module, "discovery_", account);
    }
    object! {
        "fabric_modules": vec![module],
        "storage_objects": objects.into_iter().flatten().map(|(_, object)| object).collect::<Json>(),
        "targets": targets,
    }
}

/// A storage object and its path.
fn storage(disk: &Disk, place: &Place, files: &dyn Files, report: &mut Report) -> Option<(String, Json)> {
    let name = &disk.name;
    let (plugin, mut object) = match &disk.backing {
        Backing::File { path, .. } if path.starts_with("/dev/") => {
            ("block", object! { "dev": path, "readonly": disk.is_read_only, "write_back": false })
        }
        Backing::File { path, .. } => {
            let mut object = object! { "dev": path, "write_back": !disk.is_write_through, "aio": false };
            // rtslib makes no object of a file without.
            match files.file_bytes(Path::new(path)) {
                Some(bytes) => object.push("size", bytes),
                None => report.changed(
                    place,
                    format_args!("{name}: targetcli wants the file's size: put it in as \"size\""),
                ),
            }
            ("fileio", object)
        }
        Backing::Memory { bytes } => ("ramdisk", object! { "size": *bytes, "nullio": false }),
        Backing::Null { bytes } => ("ramdisk", object! { "size": *bytes, "nullio": true }),
        Backing::CdRom { .. } => {
            report.cannot(place, format_args!("{name}: LIO has no CD-ROM drives"));
            return None;
        }
        Backing::Passed { path } => {
            report.cannot(place, format_args!("{name}: make {path} a pscsi object by hand"));
            return None;
        }
    };
    object.push("name", name);
    object.push("plugin", plugin);
    object.push("wwn", wwn(disk, place, report));
    let mut attributes = object! { "emulate_model_alias": 1_u32 };
    // The kernel takes these where it has something to do for them: its RAM disks unmap nothing, and a device
    // says itself whether it has a cache.
    if plugin != "ramdisk" {
        attributes.push("emulate_tpu", 1_u32);
        attributes.push("emulate_tpws", 1_u32);
    }
    if plugin != "block" {
        attributes.push("emulate_write_cache", u32::from(!disk.is_write_through));
    }
    if let Some(bytes) = disk.block_bytes {
        attributes.push("block_size", bytes);
    }
    object.push("attributes", attributes);
    Some((format!("/backstores/{plugin}/{name}"), object))
}

/// The unit serial number, of which LIO makes the NAA identifier.
fn wwn(disk: &Disk, place: &Place, report: &mut Report) -> String {
    let name = &disk.name;
    if disk.identity.vendor.as_deref().is_none_or(|vendor| vendor != "LIO-ORG") {
        report.changed(place, format_args!("{name}: its vendor is LIO-ORG, its product its name"));
    }
    let Some(naa) = &disk.identity.naa else {
        report.changed(place, format_args!("{name}: an NAA identifier of LIO's"));
        return serial_of_its_own(disk, place, report);
    };
    let digits = hex(naa);
    match digits.strip_prefix(COMPANY) {
        Some(rest) if naa.len() == 16 => {
            let serial = disk.identity.serial.clone().unwrap_or_default();
            let of_serial: String = serial
                .chars()
                .filter(char::is_ascii_hexdigit)
                .map(|c| c.to_ascii_lowercase())
                .take(rest.len())
                .collect();
            if of_serial == rest {
                serial
            } else {
                report.changed(
                    place,
                    format_args!("{name}: its serial number is what its NAA identifier is made of"),
                );
                rest.to_owned()
            }
        }
        _ => {
            report.cannot(
                place,
                format_args!(
                    "{name}: LIO's NAA identifiers begin with {COMPANY}; initiators see another disk"
                ),
            );
            serial_of_its_own(disk, place, report)
        }
    }
}

/// The serial number of a disk whose NAA identifier LIO makes anew. That is made of the first hexadecimal digits in the serial
/// number, and then zeros: of tgt's `beaf11` and `beaf110` it would be the same, and two disks one to their initiators.
fn serial_of_its_own(disk: &Disk, place: &Place, report: &mut Report) -> String {
    let Some(serial) = &disk.identity.serial else { return uuid_text(&disk.uuid) };
    let digits = serial.chars().filter(char::is_ascii_hexdigit).count();
    if digits >= 32 - COMPANY.len() {
        return serial.clone();
    }
    let name = &disk.name;
    report.changed(
        place,
        format_args!(
            "{name}: its serial number is its UUID: LIO makes NAA identifiers of serial numbers, and of \"{serial}\" \
             maybe another disk's"
        ),
    );
    uuid_text(&disk.uuid)
}

/// Tells of disks of whose serial numbers LIO makes one NAA identifier, such as of UUIDs that only end differently.
fn remark_twins(objects: &[Option<(String, Json)>], place: &Place, report: &mut Report) {
    let mut known: Vec<([u8; 16], &str)> = Vec::new();
    for (path, object) in objects.iter().flatten() {
        let naa = naa(object.member("wwn").and_then(Json::text).unwrap_or_default());
        match known.iter().find(|(other, _)| *other == naa) {
            Some((_, other)) => report.cannot(
                place,
                format_args!(
                    "{path}: LIO makes the NAA identifier of it that {other} has: initiators take them for one disk: change \
                     its \"wwn\""
                ),
            ),
            None => known.push((naa, path.as_str())),
        }
    }
}

fn push_account(object: &mut Json, prefix: &str, account: &Account) {
    object.push(&format!("{prefix}userid"), &account.user);
    object.push(&format!("{prefix}password"), &account.secret);
    if let Some((user, secret)) = &account.target {
        object.push(&format!("{prefix}mutual_userid"), user);
        object.push(&format!("{prefix}mutual_password"), secret);
    }
}

fn write_target(
    target: &Target,
    model: &Model,
    objects: &[Option<(String, Json)>],
    place: &Place,
    report: &mut Report,
) -> Json {
    let name = &target.name;
    let portals = target
        .portal_groups
        .iter()
        .filter_map(|(tag, _)| model.portal_groups.iter().find(|group| group.tag == *tag));
    let portal = |portal: &std::net::SocketAddr| {
        let ip = if portal.is_ipv6() { format!("[{}]", portal.ip()) } else { portal.ip().to_string() };
        object! { "ip_address": ip, "port": portal.port(), "iser": false, "offload": false }
    };
    let portals: Json = portals.flat_map(|group| &group.portals).map(portal).collect();
    if target.portal_groups.len() > 1 {
        report.changed(place, format_args!("target {name}: one portal group with all its portals"));
    }
    let lun = |lun: &Lun| {
        let path = &objects[lun.disk].as_ref()?.0;
        Some(object! { "index": lun.number, "storage_object": path })
    };
    let luns: Vec<Json> = target.luns.iter().filter_map(lun).collect();
    let (mut everybody, mut is_protected) = (false, false);
    let (mut acls, mut named) = (Vec::new(), Vec::new());
    for access in &target.access {
        let mut is_left_out = true;
        if access.ways.is_some() {
            report.cannot(
                place,
                format_args!(
                    "target {name}: LIO's initiators come by all portals; {} were left out",
                    access.initiators.join(", ")
                ),
            );
        } else if !is_any(&access.netmasks)
            || access.initiators.iter().any(|rule| rule.contains(['*', '?', '!']))
        {
            report.cannot(
                place,
                format_args!(
                    "target {name}: LIO has neither patterns nor addresses; {} were left out",
                    access.initiators.join(", ")
                ),
            );
        } else if is_any(&access.initiators) {
            let own = access.luns.as_ref().unwrap_or(&target.luns);
            let is_targets =
                |lun: &Lun| target.luns.iter().any(|base| (base.number, base.disk) == (lun.number, lun.disk));
            if own.len() == target.luns.len() && own.iter().all(is_targets) {
                everybody = true;
                // LIO has it for all LUNs at once.
                is_protected |= own.iter().any(|lun| lun.is_read_only || model.disks[lun.disk].is_read_only);
                // What stands behind counts for nobody.
                break;
            } else {
                report.cannot(
                    place,
                    format_args!(
                        "target {name}: LUNs of their own for everybody; nobody without an ACL may come"
                    ),
                );
            }
        } else {
            is_left_out = false;
            let own = access.luns.as_ref().unwrap_or(&target.luns);
            for initiator in &access.initiators {
                // The first counts.
                if !named.contains(&initiator.to_lowercase()) {
                    named.push(initiator.to_lowercase());
                    acls.extend(acl(initiator, own, target, model, place, report));
                }
            }
        }
        if is_left_out && holds_back(access, target, place, report) {
            break;
        }
    }
    let mut tpg = object! {
        "tag": 1_u32,
        "enable": true,
        "attributes": object! {
            "authentication": u32::from(target.auth != Auth::Open),
            "generate_node_acls": u32::from(everybody),
            "demo_mode_write_protect": u32::from(is_protected),
            "cache_dynamic_acls": u32::from(everybody),
        },
        "parameters": object! {
            "AuthMethod": if matches!(target.auth, Auth::Open | Auth::Either(_)) { "CHAP,None" } else { "CHAP" },
            "HeaderDigest": if target.demands_header_digest { "CRC32C" } else { "CRC32C,None" },
            "DataDigest": if target.demands_data_digest { "CRC32C" } else { "CRC32C,None" },
            "TargetAlias": if target.alias.is_empty() { "LIO Target" } else { &target.alias },
        },
        "luns": luns,
        "portals": portals,
    };
    // Each ACL has one account, as the portal group has; lunette's are the target's.
    if let Some((first, others)) = target.auth.accounts().split_first() {
        push_account(&mut tpg, "chap_", first);
        for acl in &mut acls {
            push_account(acl, "chap_", first);
        }
        if !others.is_empty() {
            report.cannot(
                place,
                format_args!("target {name}: LIO has one account for each initiator; the first was taken"),
            );
        }
    }
    tpg.push("node_acls", acls);
    report.maps(place, format_args!("target {name}"));
    object! { "fabric": "iscsi", "wwn": name, "tpgs": vec![tpg] }
}

/// An ACL with the LUNs that an initiator finds.
fn acl(
    initiator: &str,
    own: &[Lun],
    target: &Target,
    model: &Model,
    place: &Place,
    report: &mut Report,
) -> Option<Json> {
    let mapped = |lun: &Lun| {
        // A LUN of the target leads to the same disk.
        let base = target.luns.iter().find(|base| base.disk == lun.disk);
        if base.is_none() {
            report.cannot(place, format_args!("{initiator}: its LUN {} is none of the target's", lun.number));
        }
        let is_protected = lun.is_read_only || model.disks[lun.disk].is_read_only;
        Some(object! { "index": lun.number, "tpg_lun": base?.number, "write_protect": is_protected })
    };
    let mapped: Vec<Json> = own.iter().filter_map(mapped).collect();
    Some(object! { "node_wwn": initiator, "mapped_luns": mapped })
}
