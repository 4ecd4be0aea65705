//! A file beside what is served: what it makes comes in addition, and nothing that is there is touched.
//!
//! Files count their groups from 1, each of them. So a group of the file that says the same as one that is there is that one, and
//! any other gets a tag that nobody has; what the file says of it follows. Anything else that is there already, and is another,
//! stands in the way. Options are the daemon's.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::OPTIONS;
use super::things::{Family, Kind, Setter, WITHOUT_EFFECT, is_met, key_of, text};
use crate::rpc::config::Plan;
use crate::rpc::json::{Json, object};

/// The groups that have tags, and the parameters that name them elsewhere.
const GROUPS: [(Family, &str); 3] =
    [(Family::PortalGroup, "pg_tag"), (Family::InitiatorGroup, "ig_tag"), (Family::AuthGroup, "chap_group")];

/// The calls of one method and another: what is there, or wanted.
type Calls<'a> = Vec<(&'a str, &'a Json)>;

/// What is there and what is wanted in addition, as one configuration; or what is in the way.
pub(super) fn merge(current: &Plan, wanted: &Plan) -> Result<Plan, Vec<String>> {
    let (there, new): (Calls<'_>, Calls<'_>) = (current.calls().collect(), wanted.calls().collect());
    let tags = Tags::between(&there, &new);
    let node_base = |calls: &Calls<'_>| {
        let options = calls.iter().find(|(method, _)| *method == OPTIONS).map(|(_, params)| params);
        options.and_then(|options| options.member("node_base")).map(text)
    };
    let base = node_base(&there).unwrap_or_default();
    let base_of_file = node_base(&new).unwrap_or_else(|| base.clone());
    let known =
        |method: &str, params: &Json| Some(Known { of: Of::find(method)?, key: key(method, params, &base)? });
    let mut problems = Vec::new();
    let mut merged: Vec<Json> = there.iter().map(|(method, params)| call(method, params)).collect();
    for (method, params) in new {
        if method == OPTIONS || WITHOUT_EFFECT.contains(&method) {
            continue;
        }
        let params = &whole(method, tags.rewrite(method, params), &base_of_file);
        let wanted = known(method, params);
        let is_same = |(method, params): &&(&str, &Json)| wanted.is_some() && known(method, params) == wanted;
        let Some((maker, is)) = there.iter().find(is_same) else {
            merged.push(call(method, params));
            continue;
        };
        let is_as_wanted = *maker == method && is_met(&lasting(method, params), Some(&lasting(method, is)));
        if let (false, Some(wanted)) = (is_as_wanted, &wanted) {
            problems.push(wanted.is_another(method));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let all = object! { "subsystems": vec![object! { "subsystem": "all", "config": merged }] };
    Plan::parse(&all.to_string()).map_err(|error| vec![error])
}

/// What of these parameters is to be what it was.
fn lasting(method: &str, params: &Json) -> Json {
    Kind::find(method).map_or_else(|| params.clone(), |kind| kind.lasting(params))
}

fn call(method: &str, params: &Json) -> Json {
    object! { "method": method, "params": params.clone() }
}

/// What a call makes or sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Of {
    Thing(Family),
    Setting(&'static str),
}

impl Of {
    fn find(method: &str) -> Option<Of> {
        let thing = Kind::find(method).map(|kind| Of::Thing(kind.family));
        thing.or_else(|| Setter::find(method).map(|setter| Of::Setting(setter.method)))
    }
}

/// The same where both are.
#[derive(PartialEq, Eq, Debug)]
struct Known {
    of: Of,
    key: Vec<String>,
}

impl Known {
    fn is_another(&self, method: &str) -> String {
        let key = self.key.join(" ");
        match self.of {
            Of::Thing(family) => {
                format!(
                    "{} {key} is there already, and is another: give the file's another name",
                    family.name()
                )
            }
            Of::Setting(_) => format!("{method} {key}: something else is set already"),
        }
    }
}

fn key(method: &str, params: &Json, node_base: &str) -> Option<Vec<String>> {
    match Kind::find(method) {
        Some(kind) => kind.key_in(params, node_base).map(|key| vec![key]),
        None => Setter::find(method).map(|setter| setter.key_in(params, node_base)),
    }
}

/// The parameters with a target's whole name: it is short for one of the file's own `node_base`.
fn whole(method: &str, mut params: Json, node_base: &str) -> Json {
    let is_of_target = Kind::find(method).is_some_and(|kind| kind.family == Family::Target)
        || Setter::find(method).is_some_and(|setter| setter.of == Some(Family::Target));
    if is_of_target && let Some(name) = params.member_mut("name") {
        *name = key_of(name, Some(Family::Target), node_base).into();
    }
    params
}

/// What groups of the file are called: by the parameter that names their kind and what the file calls them.
#[derive(Default)]
struct Tags(BTreeMap<(&'static str, u64), u64>);

impl Tags {
    fn between(there: &Calls<'_>, new: &Calls<'_>) -> Tags {
        let mut tags = Tags::default();
        for (family, name) in GROUPS {
            let (is, wanted) = (groups(there, family), groups(new, family));
            let mut taken: BTreeSet<u64> = is.iter().map(|(tag, _)| *tag).collect();
            for (tag, params) in &wanted {
                let is_same = |(_, other): &&(u64, Json)| is_met(&without_tag(params), Some(other));
                // The one of that name first, of several that say the same.
                let same = is.iter().filter(|(other, _)| other == tag).chain(&is).find(is_same);
                let free = || {
                    let is_free =
                        |tag: &u64| !taken.contains(tag) && wanted.iter().all(|(other, _)| other != tag);
                    if taken.contains(tag) { (1..).find(is_free).unwrap_or(*tag) } else { *tag }
                };
                let new_tag = same.map_or_else(free, |(tag, _)| *tag);
                taken.insert(new_tag);
                tags.0.insert((name, *tag), new_tag);
            }
        }
        tags
    }

    /// The parameters of a call with the tags as they are to be.
    fn rewrite(&self, method: &str, params: &Json) -> Json {
        // What a call about a group itself calls it.
        let family = Kind::find(method).map(|kind| kind.family);
        let family = family.or_else(|| Setter::find(method).and_then(|setter| setter.of));
        let own = GROUPS.iter().find(|(of, _)| Some(*of) == family).map(|(_, name)| *name);
        match params {
            Json::Object(members) => Json::Object(
                members
                    .iter()
                    .map(|(name, value)| match own.filter(|_| name == "tag") {
                        Some(own) => (name.clone(), self.of(own, value)),
                        None => (name.clone(), self.within(name, value)),
                    })
                    .collect(),
            ),
            other => other.clone(),
        }
    }

    fn within(&self, name: &str, value: &Json) -> Json {
        let members = |(name, value): &(String, Json)| (name.clone(), self.within(name, value));
        match value {
            Json::Object(inside) => Json::Object(inside.iter().map(members).collect()),
            Json::Array(elements) => elements.iter().map(|element| self.within(name, element)).collect(),
            value => self.of(name, value),
        }
    }

    fn of(&self, name: &str, value: &Json) -> Json {
        let kind = GROUPS.iter().find(|(_, known)| *known == name).map(|(_, known)| *known);
        let tag = kind.and_then(|kind| self.0.get(&(kind, number(value)?)));
        tag.map_or_else(|| value.clone(), |tag| (*tag).into())
    }
}

/// Tags and lasting parameters of the groups of a family.
fn groups(calls: &Calls<'_>, family: Family) -> Vec<(u64, Json)> {
    let is_such = |method: &str| Kind::find(method).is_some_and(|kind| kind.family == family);
    let group = |(method, params): &(&str, &Json)| {
        is_such(method).then_some(())?;
        Some((number(params.member("tag")?)?, lasting(method, params)))
    };
    calls.iter().filter_map(group).collect()
}

fn without_tag(params: &Json) -> Json {
    match params {
        Json::Object(members) => {
            Json::Object(members.iter().filter(|(name, _)| name != "tag").cloned().collect())
        }
        other => other.clone(),
    }
}

/// A number, which may be written as a string.
fn number(value: &Json) -> Option<u64> {
    text(value).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::plan::plan;
    use super::*;

    fn file(calls: &[&str]) -> Plan {
        let text = format!(r#"{{"subsystems":[{{"subsystem":"x","config":[{}]}}]}}"#, calls.join(","));
        Plan::parse(&text).unwrap()
    }

    fn portal(tag: u32, port: u32) -> String {
        format!(
            r#"{{"method":"iscsi_create_portal_group","params":{{"tag":{tag},"portals":[{{"host":"192.0.2.1","port":"{port}"}}]}}}}"#
        )
    }

    fn initiators(tag: u32, name: &str) -> String {
        format!(
            r#"{{"method":"iscsi_create_initiator_group","params":{{"tag":{tag},"initiators":["{name}"],"netmasks":["ANY"]}}}}"#
        )
    }

    fn target(name: &str, maps: &str, more: &str) -> String {
        format!(
            r#"{{"method":"iscsi_create_target_node","params":{{"name":"{name}","alias_name":"","queue_depth":8,"luns":[],"pg_ig_maps":[{maps}]{more}}}}}"#
        )
    }

    const THERE: &str = "iqn.2026-11.io.example:there";
    const NEW: &str = "iqn.2026-11.io.example:new";
    const MAP: &str = r#"{"pg_tag":1,"ig_tag":1}"#;
    const GROUP: &str = r#","chap_group":1"#;
    const ALICE: &str = "iqn.2026-11.io.example:alice";

    fn auth(secret: &str) -> String {
        format!(
            r#"{{"method":"iscsi_create_auth_group","params":{{"tag":1,"secrets":[{{"user":"a","secret":"{secret}"}}]}}}}"#
        )
    }

    /// The calls that it takes, as text.
    fn calls(there: &[&str], new: &[&str]) -> Result<Vec<String>, Vec<String>> {
        let current = file(there);
        let steps = plan(&current, &merge(&current, &file(new))?, &[])?;
        Ok(steps.into_iter().map(|step| format!("{} {}", step.call.0, step.call.1)).collect())
    }

    #[test]
    fn groups_of_the_same_tag_that_say_something_else_get_another() {
        let (there, new) = (target(THERE, MAP, GROUP), target(NEW, MAP, GROUP));
        let there = [portal(1, 1), initiators(1, "ANY"), auth("there-it-is-so"), there];
        let there: Vec<&str> = there.iter().map(String::as_str).collect();
        let map = format!(
            r#"{{"method":"lunette_target_node_set_lun_map","params":{{"name":"{NEW}","ig_tag":1,"luns":[]}}}}"#
        );
        let proof = r#"{"method":"iscsi_portal_group_set_auth","params":{"tag":1,"disable_chap":true}}"#;
        let options = r#"{"method":"iscsi_set_options","params":{"max_sessions":7}}"#;
        let new = [portal(1, 2), initiators(1, ALICE), auth("new-it-is-thus"), new, map];
        let mut new: Vec<&str> = new.iter().map(String::as_str).collect();
        new.extend([proof, options]);
        let made = calls(&there, &new).unwrap().join("\n");
        for expected in [
            r#"iscsi_create_portal_group {"tag":2,"#,
            r#"iscsi_create_initiator_group {"tag":2,"#,
            r#"iscsi_create_auth_group {"tag":2,"#,
            r#""pg_ig_maps":[{"pg_tag":2,"ig_tag":2}]"#,
            r#""chap_group":2"#,
            r#""ig_tag":2,"luns":[]"#,
            r#"iscsi_portal_group_set_auth {"tag":2,"#,
        ] {
            assert!(made.contains(expected), "{expected} in {made}");
        }
        for not in ["delete", "remove", THERE, "options", r#""tag":1"#] {
            assert!(!made.contains(not), "{not} in {made}");
        }
        // Done once, there is nothing left to do.
        let current = file(&there);
        let merged = merge(&current, &file(&new)).unwrap();
        assert!(plan(&merged, &merge(&merged, &file(&new)).unwrap(), &[]).unwrap().is_empty());
    }

    #[test]
    fn groups_that_say_the_same_are_the_same() {
        let there = [portal(7, 1), initiators(1, "ANY"), initiators(2, ALICE)];
        let new = [portal(1, 1), initiators(1, ALICE), initiators(2, "iqn.b:b"), target(NEW, MAP, "")];
        let [there, new] = [there.to_vec(), new.to_vec()];
        let texts = |calls: &[String]| calls.to_vec();
        let (there, new) = (texts(&there), texts(&new));
        let there: Vec<&str> = there.iter().map(String::as_str).collect();
        let new: Vec<&str> = new.iter().map(String::as_str).collect();
        let made = calls(&there, &new).unwrap();
        assert!(made.iter().all(|call| !call.starts_with("iscsi_create_portal_group")), "{made:?}");
        assert!(
            made[0].starts_with(r#"iscsi_create_initiator_group {"tag":3,"initiators":["iqn.b:b"]"#),
            "{made:?}"
        );
        assert!(made[1].contains(r#""pg_ig_maps":[{"pg_tag":7,"ig_tag":2}]"#), "{made:?}");
    }

    #[test]
    fn what_is_there_and_is_another_is_in_the_way() {
        let disk = |blocks: u32| {
            format!(
                r#"{{"method":"bdev_malloc_create","params":{{"name":"M","num_blocks":{blocks},"block_size":512}}}}"#
            )
        };
        let null = r#"{"method":"bdev_null_create","params":{"name":"M","num_blocks":8,"block_size":512}}"#;
        assert_eq!(calls(&[&disk(8)], &[&disk(8)]), Ok(Vec::new()));
        // What made it, merged again.
        let file = |more: &str| {
            format!(r#"{{"method":"bdev_aio_create","params":{{"name":"F","filename":"/srv/f"{more}}}}}"#)
        };
        let made_by = file(r#","lunette_create_size":1048576,"nowait":true"#);
        assert_eq!(calls(&[&file("")], &[&made_by]), Ok(Vec::new()));
        let all = portal(1, 1).replace("192.0.2.1", "0.0.0.0");
        let same = calls(
            &[&all],
            &[&portal(2, 1).replace("192.0.2.1", "*"), &target(NEW, r#"{"pg_tag":2,"ig_tag":1}"#, "")],
        );
        assert!(same.clone().unwrap()[0].contains(r#""pg_ig_maps":[{"pg_tag":1,"#), "{same:?}");
        let another = "bdev M is there already, and is another: give the file's another name";
        for wanted in [&disk(9), null] {
            assert_eq!(calls(&[&disk(8)], &[wanted]), Err(vec![another.to_owned()]));
        }
        let (there, chap) = (target("t", "", ""), target("t", "", r#","require_chap":true"#));
        let base =
            |base: &str| format!(r#"{{"method":"iscsi_set_options","params":{{"node_base":"{base}"}}}}"#);
        let told = calls(&[&base("iqn.a:a"), &there], &[&chap]).unwrap_err();
        assert!(told[0].starts_with("target iqn.a:a:t is there already"), "{told:?}");
        // The file's own names are in full what they are there.
        let made = calls(&[&base("iqn.a:a"), &there], &[&base("iqn.b:b"), &there]).unwrap();
        assert!(made.iter().any(|call| call.contains(r#""name":"iqn.b:b:t""#)), "{made:?}");
    }
}
