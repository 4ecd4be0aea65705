//! What the calls of a file say of each other: whether what one names is made by one before it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use super::super::status::{array, member, number, text};
use super::findings::{Findings, meant};
use super::walk::Call;
use crate::rpc::json::Json;

/// What was made so far.
#[derive(Debug, Default)]
struct Made {
    bdevs: BTreeSet<String>,
    /// What NVMe controllers are called: their namespaces are NAMEn1 and so on.
    controllers: BTreeSet<String>,
    targets: BTreeSet<String>,
    portals: BTreeSet<u64>,
    initiators: BTreeSet<u64>,
    auths: BTreeSet<u64>,
    /// Authentication groups are in a file of their own, too.
    has_auth_file: bool,
    /// Portal groups that others than this machine reach.
    remote: BTreeSet<u64>,
    /// Initiator groups that let everybody in.
    anybody: BTreeSet<u64>,
}

impl Made {
    fn has_bdev(&self, name: &str) -> bool {
        let is_namespace = |controller: &String| {
            let rest = name.strip_prefix(controller.as_str()).and_then(|rest| rest.strip_prefix('n'));
            rest.is_some_and(|number| number.parse::<u32>().is_ok())
        };
        self.bdevs.contains(name) || self.controllers.iter().any(is_namespace)
    }
}

/// Looks at all of them, in the order that they are made in.
pub(super) fn check(calls: &[Call], findings: &mut Findings<'_>) {
    let mut made = Made::default();
    // These may come after who names them.
    made.auths.extend(calls.iter().filter(|call| call.method == "iscsi_create_auth_group").map(tag));
    made.has_auth_file = calls.iter().any(|call| {
        call.method == "iscsi_set_options" && call.params.member("auth_file").and_then(Json::text).is_some()
    });
    for call in calls {
        needs(call, &made, findings);
        makes(call, &mut made, findings);
    }
}

fn tag(call: &Call) -> u64 {
    number(&call.params, "tag")
}

/// What a call names has to be there.
fn needs(call: &Call, made: &Made, findings: &mut Findings<'_>) {
    let (method, params) = (call.method.as_str(), &call.params);
    let mut bdev = |param: &str, name: &str| {
        if !name.is_empty() && !made.has_bdev(name) {
            let hint = meant(name, made.bdevs.iter().map(String::as_str));
            findings.error(
                call.place(param),
                format!("{method}: no call before this one makes a bdev {name:?}{hint}"),
            );
        }
    };
    if method.starts_with("bdev_") || method.starts_with("lunette_") {
        for param in ["base_bdev_name", "base_name"] {
            bdev(param, &text(params, param));
        }
    }
    bdev("bdev_name", &text(params, "bdev_name"));
    for lun in array(member(params, "luns")) {
        bdev("luns", &text(&lun, "bdev_name"));
    }
    for map in array(member(params, "pg_ig_maps")) {
        let (portal, initiator) = (number(&map, "pg_tag"), number(&map, "ig_tag"));
        if !made.portals.contains(&portal) {
            findings.error(
                call.place("pg_ig_maps"),
                format!("{method}: no call before this one makes portal group {portal}"),
            );
        }
        if !made.initiators.contains(&initiator) {
            findings.error(
                call.place("pg_ig_maps"),
                format!("{method}: no call before this one makes initiator group {initiator}"),
            );
        }
        let needs_proof = member(params, "require_chap") == Json::Bool(true);
        if made.remote.contains(&portal) && made.anybody.contains(&initiator) && !needs_proof {
            findings.warn(
                call.place("pg_ig_maps"),
                format!("everybody who reaches portal group {portal} can log in to {}: it has neither initiators of its own nor require_chap", text(params, "name")),
            );
        }
    }
    let chap_group = number(params, "chap_group");
    if chap_group != 0 && !made.auths.contains(&chap_group) && !made.has_auth_file {
        findings.warn(
            call.place("chap_group"),
            format!("{method}: no call makes authentication group {chap_group}: nobody who has to prove anything can log in"),
        );
    }
    let is_of_a_target = method.contains("_target_node_");
    let name = text(params, "name");
    // Without a base before it, it is one of node_base's.
    let is_known = made.targets.iter().any(|target| *target == name || target.ends_with(&format!(":{name}")));
    let suffix_known = made.targets.iter().any(|target| name.ends_with(&format!(":{target}")));
    if is_of_a_target && !is_known && !suffix_known {
        let hint = meant(&name, made.targets.iter().map(String::as_str));
        findings.error(
            call.place("name"),
            format!("{method}: no call before this one makes a target {name:?}{hint}"),
        );
    }
}

/// What a call makes, nothing else may be called.
fn makes(call: &Call, made: &mut Made, findings: &mut Findings<'_>) {
    let (method, params) = (call.method.as_str(), &call.params);
    let name = text(params, "name");
    let mut once = |is_new: bool, param: &str, what: String| {
        if !is_new {
            findings.error(call.place(param), format!("{method}: there is {what} already"));
        }
    };
    match method {
        "iscsi_create_target_node" => {
            once(made.targets.insert(name.clone()), "name", format!("a target {name:?}"))
        }
        "iscsi_create_portal_group" => {
            let tag = tag(call);
            let host = |portal: Json| text(&portal, "host").trim_matches(['[', ']']).parse::<IpAddr>();
            let hosts = array(member(params, "portals")).into_iter().map(host);
            if hosts.into_iter().any(|host| !host.is_ok_and(|host| host.is_loopback())) {
                made.remote.insert(tag);
            }
            once(made.portals.insert(tag), "tag", format!("a portal group {tag}"));
        }
        "iscsi_create_initiator_group" => {
            let tag = tag(call);
            let is_any = |param: &str| {
                array(member(params, param))
                    .iter()
                    .filter_map(Json::text)
                    .any(|word| matches!(word.to_ascii_uppercase().as_str(), "ANY" | "ALL" | "*"))
            };
            if is_any("initiators") && is_any("netmasks") {
                made.anybody.insert(tag);
            }
            once(made.initiators.insert(tag), "tag", format!("an initiator group {tag}"));
        }
        "bdev_nvme_attach_controller" => {
            made.controllers.insert(name);
        }
        _ if method.ends_with("_create") && !name.is_empty() => {
            file(call, findings);
            if !made.bdevs.insert(name.clone()) {
                findings.error(call.place("name"), format!("{method}: there is a bdev {name:?} already"));
            }
        }
        _ => {}
    }
}

/// A file that a disk is made of.
fn file(call: &Call, findings: &mut Findings<'_>) {
    let method = &call.method;
    let Some(filename) = call.params.member("filename").and_then(Json::text) else { return };
    let path = Path::new(filename);
    if !path.is_absolute() {
        findings.error(call.place("filename"), format!("{method}: {filename} is not absolute"));
    } else if matches!(path.try_exists(), Ok(false))
        && call.params.member("lunette_create_size").is_none_or(|size| *size == Json::Null)
    {
        findings.warn(
            call.place("filename"),
            format!(
                "{method}: there is no {filename} on this machine now: the disk is not ready until there is"
            ),
        );
    }
}
