//! What a configuration's calls make and set, and what takes that back.

use super::Call;
use crate::control::options::whole_name;
use crate::rpc::json::{Json, object};
use crate::rpc::methods::{self, isns, portal, recorder};

/// What there is several of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Family {
    Bdev,
    PortalGroup,
    InitiatorGroup,
    AuthGroup,
    Target,
}

impl Family {
    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Family::Bdev => "bdev",
            Family::PortalGroup => "portal group",
            Family::InitiatorGroup => "initiator group",
            Family::AuthGroup => "authentication group",
            Family::Target => "target",
        }
    }
}

/// A call that makes a thing.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) create: &'static str,
    pub(super) family: Family,
    /// The parameter that names the thing.
    pub(super) key: &'static str,
    delete: &'static str,
}

impl Kind {
    const fn bdev(create: &'static str, delete: &'static str) -> Kind {
        Kind { create, family: Family::Bdev, key: "name", delete }
    }

    const fn group(create: &'static str, family: Family, delete: &'static str) -> Kind {
        Kind { create, family, key: "tag", delete }
    }

    pub(super) fn find(method: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|kind| kind.create == method)
    }

    /// What the thing that these parameters make is called among those of its family: not as what it is made of.
    pub(super) fn key_in(&self, params: &Json, node_base: &str) -> Option<String> {
        let key = key_of(params.member(self.key)?, Some(self.family), node_base);
        Some(match self.key {
            "base_name" => format!("EE_{key}"),
            "base_bdev" => format!("{key}p*"),
            _ => key,
        })
    }

    /// Of the parameters that make the thing those that are to be what they were, written as a saved file writes them: not those
    /// that count only as it is made for the first time, nor those without effect.
    pub(super) fn lasting(&self, params: &Json) -> Json {
        let mut params = match self.family {
            Family::PortalGroup => portal::as_saved(params),
            _ => params.clone(),
        };
        if let (Json::Object(members), Ok(method)) = (&mut params, methods::find(self.create)) {
            members.retain(|(name, _)| !AT_FIRST.contains(&name.as_str()) && !method.ignores(name));
        }
        params
    }

    /// What deletes the thing that `params` made.
    pub(super) fn delete(&self, params: &Json) -> Call {
        let key = params.member(self.key).cloned().unwrap_or(Json::Null);
        // SPDK names what this call makes by what it is made of.
        let key = if self.key == "base_name" { format!("EE_{}", text(&key)).into() } else { key };
        let name = if self.key == "tag" || self.key == "base_bdev" { self.key } else { "name" };
        (self.delete.to_owned(), Json::Object(vec![(name.to_owned(), key)]))
    }
}

/// What counts as a disk is made for the first time, and what was there when a file was written.
const AT_FIRST: &[&str] = &["lunette_create_size", "lunette_assume_clean", "lunette_namespaces"];

const KINDS: &[Kind] = &[
    Kind::bdev("bdev_malloc_create", "bdev_malloc_delete"),
    Kind::bdev("bdev_null_create", "bdev_null_delete"),
    Kind::bdev("bdev_aio_create", "bdev_aio_delete"),
    Kind::bdev("bdev_uring_create", "bdev_uring_delete"),
    Kind::bdev("bdev_passthru_create", "bdev_passthru_delete"),
    Kind::bdev("bdev_delay_create", "bdev_delay_delete"),
    Kind { create: "bdev_error_create", family: Family::Bdev, key: "base_name", delete: "bdev_error_delete" },
    Kind::bdev("bdev_raid_create", "bdev_raid_delete"),
    Kind { create: "bdev_split_create", family: Family::Bdev, key: "base_bdev", delete: "bdev_split_delete" },
    Kind::bdev("bdev_nvme_attach_controller", "bdev_nvme_detach_controller"),
    Kind::bdev("lunette_cdrom_create", "lunette_cdrom_delete"),
    Kind::bdev("lunette_sg_create", "lunette_sg_delete"),
    Kind::group("iscsi_create_portal_group", Family::PortalGroup, "iscsi_delete_portal_group"),
    Kind::group("iscsi_create_initiator_group", Family::InitiatorGroup, "iscsi_delete_initiator_group"),
    Kind::group("iscsi_create_auth_group", Family::AuthGroup, "iscsi_delete_auth_group"),
    Kind {
        create: "iscsi_create_target_node",
        family: Family::Target,
        key: "name",
        delete: "iscsi_delete_target_node",
    },
];

/// A call that sets something, of a thing that is there.
#[derive(Debug)]
pub(super) struct Setter {
    pub(super) method: &'static str,
    /// The parameters that say of what.
    pub(super) key: &'static [&'static str],
    /// What the first of them names.
    pub(super) of: Option<Family>,
    /// It can be set as long as its portal group, or its LUN, leads to the target.
    pub(super) needs_way: bool,
    /// The other parameters that set it back.
    back: fn() -> Json,
    /// What a call leaves out stays as it was.
    is_merged: bool,
    /// What it takes for granted and a saved file spells out.
    defaults: fn() -> Json,
}

fn nothing() -> Json {
    object! {}
}

impl Setter {
    /// Of the daemon itself.
    const fn of_all(method: &'static str, back: fn() -> Json) -> Setter {
        Setter { method, key: &[], of: None, needs_way: false, back, is_merged: false, defaults: nothing }
    }

    /// Of a thing, which the first parameter of `key` names.
    const fn of(
        method: &'static str,
        family: Family,
        key: &'static [&'static str],
        back: fn() -> Json,
    ) -> Setter {
        Setter { method, key, of: Some(family), needs_way: false, back, is_merged: false, defaults: nothing }
    }

    const fn on_a_way(self) -> Setter {
        Setter { needs_way: true, ..self }
    }

    const fn merged(self) -> Setter {
        Setter { is_merged: true, ..self }
    }

    const fn with_defaults(self, defaults: fn() -> Json) -> Setter {
        Setter { defaults, ..self }
    }

    /// Whether a call replaces all that was set: of one thing among several, or where one without parameters switches it off.
    pub(super) fn is_whole(&self) -> bool {
        !self.key.is_empty() || (self.back)() == nothing()
    }

    /// These parameters with those that a call takes for granted.
    pub(super) fn spelled_out(&self, params: &Json) -> Json {
        with_missing(params, (self.defaults)())
    }

    /// The call with these parameters, such that nothing stays that they do not say.
    pub(super) fn call(&self, params: &Json) -> Call {
        let params = if self.is_merged { with_missing(params, (self.back)()) } else { params.clone() };
        (self.method.to_owned(), params)
    }

    pub(super) fn find(method: &str) -> Option<&'static Setter> {
        SETTERS.iter().find(|setter| setter.method == method)
    }

    /// Of what these parameters set it.
    pub(super) fn key_in(&self, params: &Json, node_base: &str) -> Vec<String> {
        let key = |(index, name): (usize, &&str)| {
            Some(key_of(params.member(name)?, self.of.filter(|_| index == 0), node_base))
        };
        self.key.iter().enumerate().filter_map(key).collect()
    }

    /// What undoes the call that had these parameters, where nothing was set before.
    pub(super) fn back(&self, params: &Json) -> Call {
        let mut members: Vec<(String, Json)> = Vec::new();
        for &name in self.key {
            members.extend(params.member(name).map(|value| (name.to_owned(), value.clone())));
        }
        if let Json::Object(more) = (self.back)() {
            members.extend(more);
        }
        (self.method.to_owned(), Json::Object(members))
    }
}

/// Parameters with those of `others` that are not among them.
fn with_missing(params: &Json, others: Json) -> Json {
    let mut params = params.clone();
    if let (Json::Object(_), Json::Object(others)) = (&params, others) {
        for (name, value) in others {
            if params.member(&name).is_none() {
                params.push(&name, value);
            }
        }
    }
    params
}

const SETTERS: &[Setter] = &[
    Setter::of_all("bdev_nvme_set_hotplug", || object! { "enable": false }),
    Setter::of_all("lunette_slow_io_set_options", || object! { "threshold_ms": 0u64 }),
    Setter::of_all("lunette_recorder_set_options", nothing).with_defaults(recorder::defaults),
    Setter::of("bdev_enable_histogram", Family::Bdev, &["name"], || object! { "enable": false }),
    Setter::of_all("lunette_isns_set_server", nothing).with_defaults(isns::defaults),
    Setter::of("lunette_bdev_set_identity", Family::Bdev, &["name"], nothing),
    Setter::of("lunette_bdev_set_alua", Family::Bdev, &["name"], || object! { "explicit": false }),
    Setter::of("iscsi_portal_group_set_auth", Family::PortalGroup, &["tag"], nothing),
    Setter::of("iscsi_enable_histogram", Family::Target, &["name"], || object! { "enable": false }),
    Setter::of("iscsi_target_node_set_redirect", Family::Target, &["name", "pg_tag"], nothing).on_a_way(),
    Setter::of("lunette_target_node_set_lun_map", Family::Target, &["name", "ig_tag"], nothing),
    Setter::of("lunette_target_node_set_port_group", Family::Target, &["name", "pg_tag"], nothing).on_a_way(),
    Setter::of("lunette_target_node_set_portal_group_auth", Family::Target, &["name", "pg_tag"], nothing),
    Setter::of(
        "lunette_target_node_set_alua_state",
        Family::Target,
        &["name", "pg_tag", "lun_id", "bdev_name"],
        || object! { "state": "active_optimized", "preferred": false },
    )
    .on_a_way(),
    Setter::of("bdev_set_qos_limit", Family::Bdev, &["name"], || {
        object! {
            "rw_ios_per_sec": 0u64,
            "rw_mbytes_per_sec": 0u64,
            "r_mbytes_per_sec": 0u64,
            "w_mbytes_per_sec": 0u64,
            "guaranteed_ios_per_sec": 0u64,
            "guaranteed_mbytes_per_sec": 0u64,
            "burst_ms": 10u64,
        }
    })
    .merged(),
    Setter {
        method: "lunette_initiator_set_qos_limit",
        key: &["initiator"],
        of: None,
        needs_way: false,
        back: nothing,
        is_merged: false,
        defaults: nothing,
    },
];

/// Calls that leave nothing behind that could differ.
pub(super) const WITHOUT_EFFECT: &[&str] = &["bdev_wait_for_examine", "bdev_examine"];

/// A target's name in full, as control has it, anything else as it is.
pub(super) fn key_of(name: &Json, family: Option<Family>, node_base: &str) -> String {
    let name = text(name);
    if family == Some(Family::Target) { whole_name(&name, node_base).to_lowercase() } else { name }
}

/// A name or number, as text.
pub(super) fn text(json: &Json) -> String {
    json.text().map_or_else(|| json.to_string(), str::to_owned)
}

/// Whether what is wanted is what is there: what is not said may be as it is, and numbers may be written as strings.
pub(super) fn is_met(wanted: &Json, current: Option<&Json>) -> bool {
    match (wanted, current) {
        (Json::Object(members), Some(current)) => {
            members.iter().all(|(name, value)| is_met(value, current.member(name)))
        }
        (Json::Array(wanted), Some(Json::Array(current))) => {
            wanted.len() == current.len()
                && wanted.iter().zip(current).all(|(wanted, current)| is_met(wanted, Some(current)))
        }
        (Json::Array(wanted), None) => wanted.is_empty(),
        (Json::Null | Json::Bool(false) | Json::Unsigned(0), None) => true,
        (Json::String(wanted), None) => wanted.is_empty(),
        (_, None) => false,
        (wanted, Some(current)) => wanted == current || text(wanted) == text(current),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_the_same_by_any_of_its_names() {
        let key = |name: &str| key_of(&name.into(), Some(Family::Target), "iqn.2026-11.com.example");
        for name in ["disk", "Disk", "iqn.2026-11.com.example:disk", "IQN.2026-11.com.example:DISK"] {
            assert_eq!(key(name), "iqn.2026-11.com.example:disk");
        }
        assert_eq!(key_of(&"Disk".into(), Some(Family::Bdev), "iqn.2026-11.com.example"), "Disk");
    }

    #[test]
    fn every_call_that_makes_or_sets_something_lasting_is_known() {
        for method in methods::all() {
            let name = method.name;
            if name.ends_with("_create") || name.starts_with("iscsi_create_") {
                let kind = Kind::find(name).unwrap_or_else(|| panic!("{name}"));
                assert!(methods::find(kind.delete).is_ok(), "{name}");
            }
            if name.starts_with("lunette_") && name.contains("_set_") {
                assert!(Setter::find(name).is_some(), "{name}");
            }
        }
    }
}
