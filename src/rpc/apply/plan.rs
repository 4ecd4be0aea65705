//! The calls that lead from one configuration to another.
//!
//! Things are made first and deleted last, disks last of all: until then everything can be taken back. What cannot be
//! changed in place is refused; deleting a thing and making it again would end sessions, or lose a RAM disk.
//!
//! What closes comes first, what opens last, so that on the way nobody finds more than both configurations let him: first go LUNs,
//! initiators and accounts, and what asks for a proof is set; then the ways to targets are those that are to be; then
//! others are let in, then less is asked for, and then groups find the LUNs that they did not find before. A new target is made
//! such that nobody can prove who he is, until all is set that keeps others out of it.

use super::access::{self, SET_LUN_MAP};
use super::auth::{Proof, SET_AUTH, SET_PORT_AUTH, SWITCHES, Shift, closed, switches};
use super::things::{Family, Kind, Setter, WITHOUT_EFFECT, is_met, text};
use super::{Call, Step, ways};
use crate::rpc::config::Plan;
use crate::rpc::json::{Json, object};
use crate::rpc::methods;

/// A thing that a configuration makes.
pub(super) struct Thing<'a> {
    kind: &'static Kind,
    key: String,
    pub(super) params: &'a Json,
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
pub(super) struct Setting<'a> {
    setter: &'static Setter,
    pub(super) key: Vec<String>,
    pub(super) params: &'a Json,
}

impl Setting<'_> {
    fn call(&self) -> Call {
        self.setter.call(self.params)
    }

    /// Whether it says the same. A call that replaces all that was set says by what it leaves out, too; others leave that as it is.
    fn is_as(&self, there: &Setting<'_>) -> bool {
        let spelled_out = self.setter.spelled_out(self.params);
        let (Json::Object(wanted), Json::Object(current)) = (&spelled_out, there.params) else {
            return self.params == there.params;
        };
        let is_key = |name: &String| self.setter.key.contains(&name.as_str());
        let are_met = |one: &[(String, Json)], other: &Json| {
            one.iter().all(|(name, value)| is_key(name) || is_met(value, other.member(name)))
        };
        are_met(wanted, there.params) && (!self.setter.is_whole() || are_met(current, &spelled_out))
    }

    /// Whether it says which LUNs this initiator group finds.
    fn is_map_of(&self, thing: &Thing<'_>) -> bool {
        self.setter.method == SET_LUN_MAP
            && thing.kind.family == Family::InitiatorGroup
            && self.key.get(1) == Some(&thing.key)
    }

    fn is_of(&self, thing: &Thing<'_>) -> bool {
        self.setter.of == Some(thing.kind.family) && self.key.first() == Some(&thing.key)
    }
}

const REREAD_SECRETS: &str = "lunette_auth_group_reread_secrets";

/// A configuration, taken apart.
#[derive(Default)]
pub(super) struct Parts<'a> {
    things: Vec<Thing<'a>>,
    settings: Vec<Setting<'a>>,
    /// What can be said at start only.
    options: Option<&'a Json>,
    /// What stands in the way of comparing it.
    problems: Vec<String>,
}

pub(super) const OPTIONS: &str = "iscsi_set_options";

impl<'a> Parts<'a> {
    fn of(plan: &'a Plan, node_base: &str) -> Parts<'a> {
        let mut parts = Parts::default();
        for (method, params) in plan.calls() {
            if let Some(kind) = Kind::find(method) {
                let Some(key) = kind.key_in(params, node_base) else {
                    parts.problems.push(format!("{method} without {}: say it, to be found again", kind.key));
                    continue;
                };
                if parts.find(kind.family, &key).is_some() {
                    parts.problems.push(format!("{} {key} is made twice", kind.family.name()));
                }
                parts.things.push(Thing { kind, key, params });
            } else if let Some(setter) = Setter::find(method) {
                parts.settings.push(Setting { setter, key: setter.key_in(params, node_base), params });
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

    pub(super) fn find(&self, family: Family, key: &str) -> Option<&Thing<'a>> {
        self.things.iter().find(|thing| thing.kind.family == family && thing.key == key)
    }

    pub(super) fn setting(&self, other: &Setting<'_>) -> Option<&Setting<'a>> {
        let is_same = |one: &&Setting<'_>| one.setter.method == other.setter.method && one.key == other.key;
        self.settings.iter().find(is_same)
    }
}

/// What is to be done, in order.
#[derive(Default)]
pub(super) struct Steps {
    create: Vec<Step>,
    /// What goes before the way to it does.
    unset: Vec<Step>,
    pub(super) change: Vec<Step>,
    pub(super) set: Vec<Step>,
    /// The ways to targets.
    ways: Vec<Step>,
    /// What lets others in to groups.
    pub(super) admit: Vec<Step>,
    /// What lets somebody in to targets, or shows more to everybody.
    open: Vec<Step>,
    /// What asks for less, when those who are not to come have no way any more.
    loosen: Vec<Step>,
    /// What shows more to a group.
    pub(super) show: Vec<Step>,
    /// What can be set when the way to it is there.
    set_way: Vec<Step>,
    delete: Vec<Step>,
    delete_disks: Vec<Step>,
    problems: Vec<String>,
}

impl Steps {
    fn change(&mut self, method: &str, params: Json, back: (&str, Json)) {
        let back = vec![(back.0.to_owned(), back.1)];
        self.change.push(Step { call: (method.to_owned(), params), back: Some(back) });
    }

    fn open(&mut self, method: &str, params: Json, back: (&str, Json)) {
        let back = vec![(back.0.to_owned(), back.1)];
        self.open.push(Step { call: (method.to_owned(), params), back: Some(back) });
    }

    fn loosen(&mut self, method: &str, params: Json, back: (&str, Json)) {
        let back = vec![(back.0.to_owned(), back.1)];
        self.loosen.push(Step { call: (method.to_owned(), params), back: Some(back) });
    }

    /// Asks for another proof; nobody gets in meanwhile where others are to.
    fn ask(&mut self, shift: Shift, call: Call, back: Call, close: Call) {
        let step = |call, back| Step { call, back: Some(vec![back]) };
        match shift {
            Shift::Tighter => self.change.push(step(call, back)),
            Shift::Looser => self.loosen.push(step(call, back)),
            Shift::Others => {
                self.change.push(step(close.clone(), back));
                self.loosen.push(step(call, close));
            }
        }
    }

    fn in_order(self) -> Result<Vec<Step>, Vec<String>> {
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        let Steps { create, unset, change, set, ways, admit, open, loosen, show, set_way, .. } = self;
        let all = [create, unset, change, set, ways, admit, open, loosen, show, set_way];
        Ok(all.into_iter().chain([self.delete, self.delete_disks]).flatten().collect())
    }

    /// Makes a target such that nobody gets in, and opens it later.
    fn create_closed(&mut self, thing: &Thing<'_>) {
        let (method, params) = thing.create();
        let closed_params = with_auth(&params, closed);
        self.create.push(Step { call: (method, closed_params), back: Some(vec![thing.delete()]) });
        let name = ("name".to_owned(), Json::from(thing.key.as_str()));
        let with_name = |value: &dyn Fn(&'static str) -> Option<Json>| {
            Json::Object(std::iter::once(name.clone()).chain(switches(value)).collect())
        };
        let open = with_name(&|switch| params.member(switch).cloned());
        self.loosen(SET_AUTH, open, (SET_AUTH, with_name(&closed)));
    }
}

/// The parameters with other such switches; those without a value are left out.
fn with_auth(params: &Json, value: impl Fn(&'static str) -> Option<Json>) -> Json {
    let Json::Object(members) = params else { return params.clone() };
    let others = members.iter().filter(|(name, _)| !SWITCHES.contains(&name.as_str())).cloned();
    Json::Object(others.chain(switches(value)).collect())
}

/// What has to be proved where a target's port has this setting, or none: then what the target's own call says, or said before.
fn proof_at(setting: Option<&Setting<'_>>, key: &str, said: [&Parts<'_>; 2]) -> Proof {
    if let Some(setting) = setting.filter(|setting| !Proof::is_none(setting.params)) {
        return Proof::of(setting.params);
    }
    let value = |switch: &'static str| {
        let mut targets = said.iter().filter_map(|parts| parts.find(Family::Target, key));
        targets.find_map(|target| target.params.member(switch)).cloned()
    };
    Proof::of(&Json::Object(switches(value)))
}

/// Sets what has to be proved at a port of a target that is there.
fn port_auth(
    old: &Parts<'_>,
    new: &Parts<'_>,
    setting: &Setting<'_>,
    call: Call,
    back: Call,
    steps: &mut Steps,
) {
    let key = setting.key.first().map(String::as_str).unwrap_or_default();
    let before = proof_at(old.setting(setting), key, [old, old]);
    let after = proof_at(new.setting(setting), key, [new, old]);
    let close = with_auth(setting.params, closed);
    steps.ask(before.shift_to(&after), call, back, (SET_PORT_AUTH.to_owned(), close));
}

/// The calls that lead from `current` to `wanted`, each with those that take it back; or all that is in the way. `rotated` are
/// authentication groups (tags) some of whose named secrets are not what they were.
pub(super) fn plan(current: &Plan, wanted: &Plan, rotated: &[String]) -> Result<Vec<Step>, Vec<String>> {
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
            None if thing.kind.family == Family::Target => steps.create_closed(thing),
            None => {
                let back = vec![thing.delete()];
                steps.create.push(Step { call: thing.create(), back: Some(back) });
            }
            Some(there) => {
                change(there, thing, &mut steps);
                if thing.kind.family == Family::AuthGroup && rotated.contains(&thing.key) {
                    // What it was is nowhere any more.
                    let call = (
                        REREAD_SECRETS.to_owned(),
                        object! { "tag": there.params.member("tag").cloned().unwrap_or(Json::Null) },
                    );
                    steps.set.push(Step { call, back: Some(Vec::new()) });
                }
            }
        }
    }
    for setting in &new.settings {
        let before = old.setting(setting);
        if before.is_some_and(|before| setting.is_as(before)) {
            continue;
        }
        let back = before.map_or_else(|| setting.setter.back(setting.params), Setting::call);
        let is_made =
            |thing: &&Thing<'_>| setting.is_of(thing) && old.find(thing.kind.family, &thing.key).is_none();
        let stage = match setting.setter.method {
            // It lets in, where the target itself is still closed.
            SET_PORT_AUTH if new.things.iter().any(|thing| is_made(&thing)) => &mut steps.open,
            SET_PORT_AUTH => {
                port_auth(&old, &new, setting, setting.call(), back, &mut steps);
                continue;
            }
            SET_LUN_MAP => {
                access::lun_map(&old, &new, setting, setting.call(), back, &mut steps);
                continue;
            }
            _ if setting.setter.needs_way => &mut steps.set_way,
            _ => &mut steps.set,
        };
        stage.push(Step { call: setting.call(), back: Some(vec![back]) });
    }
    let goes = |thing: &Thing<'_>| new.find(thing.kind.family, &thing.key).is_none();
    for setting in old.settings.iter().filter(|setting| new.setting(setting).is_none()) {
        // It goes with its thing, or stays to be said in the file.
        if old.things.iter().any(|thing| goes(thing) && (setting.is_of(thing) || setting.is_map_of(thing))) {
            continue;
        }
        let call = setting.setter.back(setting.params);
        let stage = match setting.setter.method {
            SET_PORT_AUTH => {
                port_auth(&old, &new, setting, call, setting.call(), &mut steps);
                continue;
            }
            SET_LUN_MAP => {
                access::lun_map(&old, &new, setting, call, setting.call(), &mut steps);
                continue;
            }
            _ if setting.setter.needs_way => &mut steps.unset,
            _ => &mut steps.set,
        };
        stage.push(Step { call, back: Some(vec![setting.call()]) });
    }
    for thing in old.things.iter().rev().filter(|thing| goes(thing)) {
        if thing.kind.family == Family::Bdev {
            steps.delete_disks.push(Step { call: thing.delete(), back: None });
        } else {
            // Targets go before initiator groups and come back with their LUN maps, after the groups.
            let target_stays = |setting: &Setting<'_>| {
                !old.things.iter().any(|target| goes(target) && setting.is_of(target))
            };
            let is_lost = |setting: &&Setting<'_>| {
                setting.is_of(thing) || (setting.is_map_of(thing) && target_stays(setting))
            };
            let settings = old.settings.iter().filter(is_lost).map(Setting::call);
            let back = std::iter::once(thing.create()).chain(settings).collect();
            steps.delete.push(Step { call: thing.delete(), back: Some(back) });
        }
    }
    steps.in_order()
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
    let (current, lasting) = (there.kind.lasting(there.params), wanted.kind.lasting(wanted.params));
    if let Json::Object(members) = &lasting {
        for (name, value) in members {
            let current = current.member(name);
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
        Family::InitiatorGroup => access::initiators(there.params, wanted.params, steps),
        Family::AuthGroup => secrets(there.params, wanted.params, steps),
        Family::Target => target(there, wanted.params, steps),
    }
}

pub(super) fn elements<'a>(params: &'a Json, name: &str) -> Option<&'a [Json]> {
    match params.member(name) {
        Some(Json::Array(elements)) => Some(elements),
        _ => None,
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
    // In whatever order a file says what belongs to an account.
    let is_among = |account: &Json, accounts: &[Json]| {
        accounts.iter().any(|other| is_met(account, Some(other)) && is_met(other, Some(account)))
    };
    for account in is.iter().filter(|account| !is_among(account, is_to_be)) {
        steps.change(remove, user(account), (add, with_tag(account)));
    }
    for account in is_to_be.iter().filter(|account| !is_among(account, is)) {
        steps.loosen(add, with_tag(account), (remove, user(account)));
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
    // LUNs come when who finds them is who is to.
    let mut shown = Vec::new();
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
        shown.extend(is_to_be.iter().filter(|lun| !is.contains(lun)).map(|lun| (add(lun), remove(lun))));
    }
    if let (Some(is), Some(is_to_be)) = (elements(there.params, "pg_ig_maps"), elements(wanted, "pg_ig_maps"))
    {
        ways::change(is, is_to_be, |maps| named(vec![("pg_ig_maps", Json::Array(maps))]), &mut steps.ways);
    }
    for ((method, params), back) in shown {
        steps.open(method, params, back);
    }
    let differs =
        |name: &&str| wanted.member(name).is_some_and(|value| !is_met(value, there.params.member(name)));
    if SWITCHES.iter().any(differs) {
        let of = |first: &Json, second: &Json| {
            let value =
                |&name: &&'static str| Some((name, first.member(name).or(second.member(name))?.clone()));
            named(SWITCHES.iter().filter_map(value).collect())
        };
        let (before, after) = (of(there.params, there.params), of(wanted, there.params));
        let shift = Proof::of(&before).shift_to(&Proof::of(&after));
        let [after, before, close] = [after, before, with_auth(&named(Vec::new()), closed)]
            .map(|params| (SET_AUTH.to_owned(), params));
        steps.ask(shift, after, before, close);
    }
}

/// LUNs by number; one without gets the lowest that is free, as when a target is made.
pub(super) fn luns(elements: &[Json]) -> Vec<(u64, String)> {
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
