//! The calls that lead from one configuration to another.
//!
//! Things are made first and deleted last, disks last of all: until then everything can be taken back. What cannot be
//! changed in place is refused; deleting a thing and making it again would end sessions, or lose a RAM disk.

use super::things::{Family, Kind, Setter, WITHOUT_EFFECT, is_met, text};
use super::{Call, Step};
use crate::rpc::config::Plan;
use crate::rpc::json::{Json, object};
use crate::rpc::methods;

/// A thing that a configuration makes.
struct Thing<'a> {
    kind: &'static Kind,
    key: String,
    params: &'a Json,
}

impl Thing<'_> {
    fn create(&self) -> Call {
        (self.kind.create.to_owned(), self.params.clone())
    }

    fn delete(&self) -> Call {
        self.kind.delete(self.params)
    }
}

/// What a configuration sets.
struct Setting<'a> {
    setter: &'static Setter,
    key: Vec<String>,
    params: &'a Json,
}

impl Setting<'_> {
    fn call(&self) -> Call {
        (self.setter.method.to_owned(), self.params.clone())
    }

    fn is_of(&self, thing: &Thing<'_>) -> bool {
        self.setter.of == Some(thing.kind.family) && self.key.first() == Some(&thing.key)
    }
}

/// A configuration, taken apart.
#[derive(Default)]
struct Parts<'a> {
    things: Vec<Thing<'a>>,
    settings: Vec<Setting<'a>>,
    /// What can be said at start only.
    options: Option<&'a Json>,
    /// What stands in the way of comparing it.
    problems: Vec<String>,
}

const OPTIONS: &str = "iscsi_set_options";

impl<'a> Parts<'a> {
    fn of(plan: &'a Plan, node_base: &str) -> Parts<'a> {
        let mut parts = Parts::default();
        for (method, params) in plan.calls() {
            let name = |key: &str, family| params.member(key).map(|name| key_of(name, family, node_base));
            if let Some(kind) = Kind::find(method) {
                let Some(key) = name(kind.key, Some(kind.family)) else {
                    parts.problems.push(format!("{method} without {}: say it, to be found again", kind.key));
                    continue;
                };
                if parts.find(kind.family, &key).is_some() {
                    parts.problems.push(format!("{} {key} is made twice", kind.family.name()));
                }
                parts.things.push(Thing { kind, key, params });
            } else if let Some(setter) = Setter::find(method) {
                let of = |(index, key): (usize, &&str)| name(key, setter.of.filter(|_| index == 0));
                let key = setter.key.iter().enumerate().filter_map(of).collect();
                parts.settings.push(Setting { setter, key, params });
            } else if method == OPTIONS {
                parts.options = Some(params);
            } else if !WITHOUT_EFFECT.contains(&method) && !methods::is_knob(method) {
                parts.problems.push(format!(
                    "{method} cannot be compared: say it by calls that lunette_save_config writes"
                ));
            }
        }
        parts
    }

    fn find(&self, family: Family, key: &str) -> Option<&Thing<'a>> {
        self.things.iter().find(|thing| thing.kind.family == family && thing.key == key)
    }

    fn setting(&self, other: &Setting<'_>) -> Option<&Setting<'a>> {
        let is_same = |one: &&Setting<'_>| one.setter.method == other.setter.method && one.key == other.key;
        self.settings.iter().find(is_same)
    }
}

/// A target's name in full, anything else as it is.
fn key_of(name: &Json, family: Option<Family>, node_base: &str) -> String {
    let name = text(name);
    let is_whole = ["iqn.", "eui.", "naa."].iter().any(|kind| name.starts_with(kind));
    if family == Some(Family::Target) && !is_whole { format!("{node_base}:{name}") } else { name }
}

/// What is to be done, in order.
#[derive(Default)]
struct Steps {
    create: Vec<Step>,
    /// What goes before the way to it does.
    unset: Vec<Step>,
    change: Vec<Step>,
    set: Vec<Step>,
    delete: Vec<Step>,
    delete_disks: Vec<Step>,
    problems: Vec<String>,
}

impl Steps {
    fn change(&mut self, method: &str, params: Json, back: (&str, Json)) {
        let back = vec![(back.0.to_owned(), back.1)];
        self.change.push(Step { call: (method.to_owned(), params), back: Some(back) });
    }
}

/// The calls that lead from `current` to `wanted`, each with those that take it back; or all that is in the way.
pub(super) fn plan(current: &Plan, wanted: &Plan) -> Result<Vec<Step>, Vec<String>> {
    let options = current.calls().find(|(method, _)| *method == OPTIONS).map(|(_, params)| params);
    let node_base = options.and_then(|options| options.member("node_base")).map(text).unwrap_or_default();
    let (old, new) = (Parts::of(current, &node_base), Parts::of(wanted, &node_base));
    let mut steps = Steps::default();
    steps.problems.extend(new.problems.iter().cloned());
    if let (Some(Json::Object(wanted)), Some(current)) = (new.options, options) {
        for (name, value) in wanted {
            // What is taken and has no effect is in no saved one.
            let Some(current) = current.member(name).filter(|current| !is_met(value, Some(current))) else {
                continue;
            };
            let (current, value) = (text(current), text(value));
            steps.problems.push(format!(
                "{OPTIONS}: {name} is {current}: it can be {value} from the next start on only"
            ));
        }
    }
    for thing in &new.things {
        match old.find(thing.kind.family, &thing.key) {
            None => {
                let back = vec![thing.delete()];
                steps.create.push(Step { call: thing.create(), back: Some(back) });
            }
            Some(there) => change(there, thing, &mut steps),
        }
    }
    for setting in &new.settings {
        let before = old.setting(setting);
        if before.is_some_and(|before| is_met(setting.params, Some(before.params))) {
            continue;
        }
        let back = before.map_or_else(|| setting.setter.back(setting.params), Setting::call);
        steps.set.push(Step { call: setting.call(), back: Some(vec![back]) });
    }
    let goes = |thing: &Thing<'_>| new.find(thing.kind.family, &thing.key).is_none();
    for setting in old.settings.iter().filter(|setting| new.setting(setting).is_none()) {
        // It goes with its thing, or stays to be said in the file.
        if !old.things.iter().any(|thing| goes(thing) && setting.is_of(thing)) {
            let call = setting.setter.back(setting.params);
            let stage = if setting.setter.needs_way { &mut steps.unset } else { &mut steps.set };
            stage.push(Step { call, back: Some(vec![setting.call()]) });
        }
    }
    for thing in old.things.iter().rev().filter(|thing| goes(thing)) {
        if thing.kind.family == Family::Bdev {
            steps.delete_disks.push(Step { call: thing.delete(), back: None });
        } else {
            let settings = old.settings.iter().filter(|setting| setting.is_of(thing)).map(Setting::call);
            let back = std::iter::once(thing.create()).chain(settings).collect();
            steps.delete.push(Step { call: thing.delete(), back: Some(back) });
        }
    }
    let Steps { create, unset, change, set, delete, delete_disks, problems } = steps;
    if problems.is_empty() {
        Ok([create, unset, change, set, delete, delete_disks].into_iter().flatten().collect())
    } else {
        Err(problems)
    }
}

/// What makes `there` what is wanted.
fn change(there: &Thing<'_>, wanted: &Thing<'_>, steps: &mut Steps) {
    let (family, key) = (there.kind.family, &there.key);
    if there.kind.create != wanted.kind.create {
        let (is, is_to_be) = (there.kind.create, wanted.kind.create);
        steps.problems.push(format!(
            "{} {key} was made by {is}, not {is_to_be}: give the new one another name",
            family.name()
        ));
        return;
    }
    let changed_here: &[&str] = match family {
        Family::Bdev | Family::PortalGroup => &[],
        Family::InitiatorGroup => &["initiators", "netmasks"],
        Family::AuthGroup => &["secrets"],
        Family::Target => &TARGET_CHANGES,
    };
    if let Json::Object(members) = wanted.params {
        for (name, value) in members {
            let current = there.params.member(name);
            let is_changed_here = *name == there.kind.key || changed_here.contains(&name.as_str());
            if is_changed_here || is_met(value, current) {
                continue;
            }
            let current = current.map_or("not set".to_owned(), text);
            steps.problems.push(format!(
                "{} {key}: {name} is {current}, which stays: for {} delete it and make it again",
                family.name(),
                text(value)
            ));
        }
    }
    match family {
        Family::Bdev | Family::PortalGroup => {}
        Family::InitiatorGroup => initiators(there.params, wanted.params, steps),
        Family::AuthGroup => secrets(there.params, wanted.params, steps),
        Family::Target => target(there, wanted.params, steps),
    }
}

fn elements<'a>(params: &'a Json, name: &str) -> Option<&'a [Json]> {
    match params.member(name) {
        Some(Json::Array(elements)) => Some(elements),
        _ => None,
    }
}

/// Their order counts: from the first difference on they are taken out, and put in as they are to be.
fn initiators(there: &Json, wanted: &Json, steps: &mut Steps) {
    let tag = there.member("tag").cloned().unwrap_or(Json::Null);
    for name in ["initiators", "netmasks"] {
        let (Some(is), Some(is_to_be)) = (elements(there, name), elements(wanted, name)) else { continue };
        let alike = is.iter().zip(is_to_be).take_while(|(is, is_to_be)| is == is_to_be).count();
        let of = |elements: &[Json]| {
            Json::Object(vec![
                ("tag".to_owned(), tag.clone()),
                (name.to_owned(), Json::Array(elements.to_vec())),
            ])
        };
        let (add, remove) =
            ("iscsi_initiator_group_add_initiators", "iscsi_initiator_group_remove_initiators");
        for (first, second, elements) in [(remove, add, &is[alike..]), (add, remove, &is_to_be[alike..])] {
            if !elements.is_empty() {
                steps.change(first, of(elements), (second, of(elements)));
            }
        }
    }
}

fn secrets(there: &Json, wanted: &Json, steps: &mut Steps) {
    let (Some(is), Some(is_to_be)) = (elements(there, "secrets"), elements(wanted, "secrets")) else {
        return;
    };
    let tag = there.member("tag").cloned().unwrap_or(Json::Null);
    let with_tag = |account: &Json| match account {
        Json::Object(members) => Json::Object(
            std::iter::once(("tag".to_owned(), tag.clone())).chain(members.iter().cloned()).collect(),
        ),
        other => other.clone(),
    };
    let user = |account: &Json| object! { "tag": tag.clone(), "user": account.member("user").cloned().unwrap_or(Json::Null) };
    let (add, remove) = ("iscsi_auth_group_add_secret", "iscsi_auth_group_remove_secret");
    for account in is.iter().filter(|account| !is_to_be.contains(account)) {
        steps.change(remove, user(account), (add, with_tag(account)));
    }
    for account in is_to_be.iter().filter(|account| !is.contains(account)) {
        steps.change(add, with_tag(account), (remove, user(account)));
    }
}

/// What of a target can be changed in place. The identifiers of its ports are what they are.
const TARGET_CHANGES: [&str; 7] =
    ["pg_ig_maps", "luns", "disable_chap", "require_chap", "mutual_chap", "chap_group", "lunette_ports"];

fn target(there: &Thing<'_>, wanted: &Json, steps: &mut Steps) {
    let named = |more: Vec<(&str, Json)>| {
        let more = more.into_iter().map(|(name, value)| (name.to_owned(), value));
        Json::Object(std::iter::once(("name".to_owned(), there.key.as_str().into())).chain(more).collect())
    };
    if let (Some(is), Some(is_to_be)) = (elements(there.params, "luns"), elements(wanted, "luns")) {
        let (is, is_to_be) = (luns(is), luns(is_to_be));
        let add = |(number, bdev): &(u64, String)| {
            (
                "iscsi_target_node_add_lun",
                named(vec![("bdev_name", bdev.as_str().into()), ("lun_id", (*number).into())]),
            )
        };
        let remove = |(number, _): &(u64, String)| {
            ("lunette_target_node_remove_lun", named(vec![("lun_id", (*number).into())]))
        };
        for lun in is.iter().filter(|lun| !is_to_be.contains(lun)) {
            let (method, params) = remove(lun);
            steps.change(method, params, add(lun));
        }
        for lun in is_to_be.iter().filter(|lun| !is.contains(lun)) {
            let (method, params) = add(lun);
            steps.change(method, params, remove(lun));
        }
    }
    if let (Some(is), Some(is_to_be)) = (elements(there.params, "pg_ig_maps"), elements(wanted, "pg_ig_maps"))
    {
        let maps = |one: &[Json], other: &[Json]| -> Vec<Json> {
            let is_there = |map: &Json| other.iter().any(|other| is_met(map, Some(other)));
            one.iter().filter(|map| !is_there(map)).cloned().collect()
        };
        let (add, remove) = ("iscsi_target_node_add_pg_ig_maps", "iscsi_target_node_remove_pg_ig_maps");
        // Nobody is without a way meanwhile.
        for (first, second, maps) in [(add, remove, maps(is_to_be, is)), (remove, add, maps(is, is_to_be))] {
            if !maps.is_empty() {
                let params = named(vec![("pg_ig_maps", Json::Array(maps))]);
                steps.change(first, params.clone(), (second, params));
            }
        }
    }
    let switches = ["disable_chap", "require_chap", "mutual_chap", "chap_group"];
    let differs =
        |name: &&str| wanted.member(name).is_some_and(|value| !is_met(value, there.params.member(name)));
    if switches.iter().any(differs) {
        let of = |first: &Json, second: &Json| {
            let value =
                |&name: &&'static str| Some((name, first.member(name).or(second.member(name))?.clone()));
            named(switches.iter().filter_map(value).collect())
        };
        let method = "iscsi_target_node_set_auth";
        steps.change(method, of(wanted, there.params), (method, of(there.params, there.params)));
    }
}

/// LUNs by number; one without gets the lowest that is free, as when a target is made.
fn luns(elements: &[Json]) -> Vec<(u64, String)> {
    let mut luns: Vec<(u64, String)> = Vec::new();
    for element in elements {
        let number = match element.member("lun_id") {
            Some(Json::Unsigned(number)) => *number,
            _ => (0..).find(|number| luns.iter().all(|(taken, _)| taken != number)).unwrap_or_default(),
        };
        luns.push((number, element.member("bdev_name").map(text).unwrap_or_default()));
    }
    luns
}

#[cfg(test)]
mod tests;
