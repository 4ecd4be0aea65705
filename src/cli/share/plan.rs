//! Which calls share a disk, from what a daemon has: a pure function.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::super::Failed;
use super::super::args::PORT;
use super::super::files::{free_name, is_image};
use super::super::status::{array, member, number, text};
use super::known::{Known, TARGET};
use crate::control::access::{NameRule, Netmask};
use crate::control::options::whole_name;
use crate::rpc::json::{Json, object};

/// Where targets are named that nobody has named: SPDK's own is for SPDK.
const NODE_BASE: &str = "iqn.2026-11.io.lunette";
const SPDK_NODE_BASE: &str = "iqn.2016-06.io.spdk";
const BLOCK_BYTES: u64 = 512;

/// What is to be shared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// A RAM disk.
    Ram {
        /// Its size.
        bytes: u64,
        /// What it can be made at most.
        bytes_max: Option<u64>,
    },
    /// A file or device; absolute.
    File {
        path: PathBuf,
        /// It is made, of this size.
        create_bytes: Option<u64>,
        block_bytes: Option<u32>,
        is_read_only: bool,
        /// It is a SCSI device that is passed through.
        is_generic: bool,
    },
    /// A bdev that is there.
    Bdev(String),
}

/// A user of CHAP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Account {
    pub(super) user: String,
    pub(super) secret: String,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) what: What,
    pub(super) name: Option<String>,
    pub(super) portal: Option<SocketAddr>,
    pub(super) allow: Vec<Allow>,
    pub(super) account: Option<Account>,
}

/// Who may come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Allow {
    /// Initiators of this name, or with names that fit.
    Initiator(String),
    /// Who comes from there.
    Network(String),
}

impl std::str::FromStr for Allow {
    type Err = String;

    fn from_str(text: &str) -> Result<Allow, String> {
        if Netmask::parse(text).is_ok() && !text.eq_ignore_ascii_case("any") {
            return Ok(Allow::Network(text.to_owned()));
        }
        let looks_like_an_address = text.contains('/') || text.starts_with(|c: char| c.is_ascii_digit());
        if looks_like_an_address || NameRule::parse(text).is_err() {
            return Err(
                "give an initiator's name, as iqn.1993-08.org.debian:01:*, or a network, as 192.0.2.0/24"
                    .to_owned(),
            );
        }
        Ok(Allow::Initiator(text.to_owned()))
    }
}

/// A call, and the one that takes it back.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Step {
    pub(super) method: &'static str,
    pub(super) params: Json,
    pub(super) undo: (&'static str, Json),
}

/// The calls, and what they come to.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) target: String,
    pub(super) bdev: String,
    /// The portal group that leads there.
    pub(super) portal_group: u64,
    /// Anybody may log in who reaches it.
    pub(super) is_open: bool,
}

/// The calls for a wish.
pub(super) fn plan(wish: &Wish, known: &Known) -> Result<Plan, Failed> {
    let mut steps = Vec::new();
    let bdev = disk(&wish.what, known, &mut steps)?;
    let target = target_name(wish, known, &bdev)?;
    let portal_group = portal_group(wish.portal, known, &mut steps);
    let initiator_group = initiator_group(&wish.allow, known, &mut steps);
    let chap_group = wish.account.as_ref().map(|account| {
        let tag = known.free_tag("iscsi_create_auth_group");
        let secret = object! { "user": &account.user, "secret": &account.secret };
        steps.push(Step {
            method: "iscsi_create_auth_group",
            params: object! { "tag": tag, "secrets": vec![secret] },
            undo: ("iscsi_delete_auth_group", object! { "tag": tag }),
        });
        tag
    });
    steps.push(Step {
        method: TARGET,
        params: object! {
            "name": &target,
            "alias_name": "",
            "pg_ig_maps": vec![object! { "pg_tag": portal_group, "ig_tag": initiator_group }],
            "luns": vec![object! { "bdev_name": &bdev, "lun_id": 0u64 }],
            "queue_depth": 64u64,
            "require_chap": chap_group.is_some(),
            "chap_group": chap_group.unwrap_or(0),
        },
        undo: ("iscsi_delete_target_node", object! { "name": &target }),
    });
    let is_open = wish.allow.is_empty() && wish.account.is_none();
    Ok(Plan { steps, target, bdev, portal_group, is_open })
}

/// The bdev, and the call that makes it where it is not there.
fn disk(what: &What, known: &Known, steps: &mut Vec<Step>) -> Result<String, Failed> {
    let there = match what {
        What::Bdev(name) => Some(name.clone()),
        What::File { path, .. } => known.bdev_at(path),
        What::Ram { .. } => None,
    };
    if let Some(bdev) = there {
        if let Some(target) = known.targets_of(&bdev).first() {
            return Err(Failed::failure(format!(
                "{bdev} is shared already, as {target}: 'lunette unshare {bdev}' ends that"
            )));
        }
        return match differs(what, known.maker(&bdev)) {
            None => Ok(bdev),
            Some(switch) => Err(Failed::failure(format!(
                "{bdev} is there already, and not as {switch} says: share it without {switch}, or delete that disk first"
            ))),
        };
    }
    let mut taken: BTreeSet<String> = known.bdevs.iter().map(|bdev| text(bdev, "name")).collect();
    let (name, method, params, undo) = match what {
        What::Ram { bytes, bytes_max } => {
            let numbers = (0u32..).map(|number| format!("ram{number}"));
            let name = numbers.into_iter().find(|name| !taken.contains(name)).unwrap_or_default();
            let blocks = |bytes: u64| bytes.div_ceil(BLOCK_BYTES);
            let mut params =
                object! { "name": &name, "num_blocks": blocks(*bytes), "block_size": BLOCK_BYTES };
            if let Some(bytes_max) = bytes_max {
                params.push("lunette_num_blocks_max", blocks(*bytes_max));
            }
            (name, "bdev_malloc_create", params, "bdev_malloc_delete")
        }
        What::File { path, create_bytes, block_bytes, is_read_only, is_generic } => {
            let name = free_name(path, &mut taken);
            let mut params = object! { "name": &name, "filename": path.display().to_string() };
            if *is_generic {
                params.push("readonly", *is_read_only);
                (name, "lunette_sg_create", params, "lunette_sg_delete")
            } else if is_image(path) && create_bytes.is_none() && block_bytes.is_none() {
                (name, "lunette_cdrom_create", params, "lunette_cdrom_delete")
            } else {
                params.push("readonly", *is_read_only);
                if let Some(bytes) = block_bytes {
                    params.push("block_size", *bytes);
                }
                if let Some(bytes) = create_bytes {
                    params.push("lunette_create_size", *bytes);
                }
                (name, "bdev_aio_create", params, "bdev_aio_delete")
            }
        }
        What::Bdev(name) => return Ok(name.clone()),
    };
    steps.push(Step { method, params, undo: (undo, object! { "name": &name }) });
    Ok(name)
}

/// The switch that asks for another disk than the one that a call has made.
fn differs(what: &What, maker: Option<(&str, &Json)>) -> Option<&'static str> {
    let What::File { create_bytes, block_bytes, is_read_only, .. } = what else { return None };
    let (method, params) = maker.unwrap_or(("", &Json::Null));
    let is_disc = method == "lunette_cdrom_create";
    let can_write = !is_disc && member(params, "readonly") != Json::Bool(true);
    if *is_read_only && can_write {
        return Some("--read-only");
    }
    if create_bytes.is_some() {
        return Some("--size");
    }
    let is_other = |bytes: u32| is_disc || number(params, "block_size") != u64::from(bytes);
    block_bytes.is_some_and(is_other).then_some("--block-size")
}

/// The target's whole name.
fn target_name(wish: &Wish, known: &Known, bdev: &str) -> Result<String, Failed> {
    let base = known.calls("iscsi_set_options").map(|options| text(options, "node_base")).next();
    let base = base.filter(|base| !base.is_empty() && base != SPDK_NODE_BASE);
    let base = base.unwrap_or_else(|| NODE_BASE.to_owned());
    let is_taken = |name: &String| known.targets().any(|target| text(target, "name") == *name);
    let Some(name) = &wish.name else {
        let plain = format!("{base}:{}", plain(bdev));
        let numbered = (2u32..).map(|number| format!("{plain}-{number}"));
        let mut names = std::iter::once(plain.clone()).chain(numbered);
        return Ok(names.find(|name| !is_taken(name)).unwrap_or(plain));
    };
    let name = whole_name(name, &base).to_lowercase();
    if is_taken(&name) {
        return Err(Failed::failure(format!(
            "there is a target {name} already: give another --name, or 'lunette unshare {name}'"
        )));
    }
    Ok(name)
}

/// A disk's name with what iSCSI names may have (RFC 7143 §4.2.7.2), without the ending of an image.
fn plain(bdev: &str) -> String {
    let stem = match Path::new(bdev).extension().and_then(|ending| ending.to_str()) {
        Some("img" | "raw" | "iso") => Path::new(bdev).file_stem().unwrap_or_default().to_string_lossy(),
        _ => bdev.into(),
    };
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "-.".contains(c) { c } else { '-' };
    stem.to_ascii_lowercase().chars().map(allowed).collect()
}

/// The portal group to be reached by: one with this portal; else the first that is told to initiators; else a new one.
fn portal_group(portal: Option<SocketAddr>, known: &Known, steps: &mut Vec<Step>) -> u64 {
    const METHOD: &str = "iscsi_create_portal_group";
    let mut groups: Vec<&Json> = known.calls(METHOD).collect();
    groups.sort_by_key(|group| number(group, "tag"));
    let fits = |group: &&&Json| match portal {
        None => member(group, "private") != Json::Bool(true),
        Some(portal) => array(member(group, "portals")).iter().any(|there| address(there) == Some(portal)),
    };
    if let Some(group) = groups.iter().find(fits) {
        return number(group, "tag");
    }
    let portal = portal.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, PORT).into());
    let host = match portal {
        SocketAddr::V4(portal) => portal.ip().to_string(),
        SocketAddr::V6(portal) => format!("[{}]", portal.ip()),
    };
    let tag = known.free_tag(METHOD);
    let portals = vec![object! { "host": host, "port": portal.port().to_string() }];
    steps.push(Step {
        method: METHOD,
        params: object! { "tag": tag, "portals": portals },
        undo: ("iscsi_delete_portal_group", object! { "tag": tag }),
    });
    tag
}

/// Where a portal listens, as iscsi_get_portal_groups tells it.
pub(super) fn address(portal: &Json) -> Option<SocketAddr> {
    format!("{}:{}", text(portal, "host"), text(portal, "port")).parse().ok()
}

/// The initiator group of exactly those, or a new one.
fn initiator_group(allow: &[Allow], known: &Known, steps: &mut Vec<Step>) -> u64 {
    const METHOD: &str = "iscsi_create_initiator_group";
    let (mut initiators, mut netmasks) = (Vec::new(), Vec::new());
    for allowed in allow {
        match allowed {
            Allow::Initiator(name) => initiators.push(name.as_str()),
            Allow::Network(mask) => netmasks.push(mask.as_str()),
        }
    }
    let (initiators, netmasks) = (anybody(&initiators), anybody(&netmasks));
    let is_it =
        |group: &&Json| member(group, "initiators") == initiators && member(group, "netmasks") == netmasks;
    if let Some(group) = known.calls(METHOD).find(is_it) {
        return number(group, "tag");
    }
    let tag = known.free_tag(METHOD);
    steps.push(Step {
        method: METHOD,
        params: object! { "tag": tag, "initiators": initiators, "netmasks": netmasks },
        undo: ("iscsi_delete_initiator_group", object! { "tag": tag }),
    });
    tag
}

/// Those, or everybody.
fn anybody(some: &[&str]) -> Json {
    if some.is_empty() { vec!["ANY"].into() } else { some.iter().copied().collect() }
}

#[cfg(test)]
mod tests;
