//! lunette's calls are SPDK's but for those, and those of their parameters, that are named after it.
//!
//! SPDK shows everybody the LUNs of a target and asks everybody for the same proof: where lunette does not, those for whom it would be
//! more are let in no more. Nor does it take a target that nobody comes to, or a redirection of a portal group that leads nowhere, and a
//! file of which it does not take all serves nothing.

use std::collections::BTreeMap;

use super::{calls, is_on, shortened, text_of};
use crate::import::report::{Place, Report};
use crate::rpc::json::{Json, object};

const TARGET: &str = "iscsi_create_target_node";
const REDIRECT: &str = "iscsi_target_node_set_redirect";
const HISTOGRAM: &str = "iscsi_enable_histogram";

/// Who is not to be let in to a target, as what keeps him from its LUNs cannot be said.
struct KeptOut<'a> {
    /// Targets and the initiator groups that have LUNs of their own there.
    initiators: Vec<(&'a str, &'a Json)>,
    /// Targets and the portal groups where more is asked than at others.
    portals: Vec<(&'a str, &'a Json)>,
}

impl<'a> KeptOut<'a> {
    fn of(all: &[&'a Json]) -> KeptOut<'a> {
        let of = |wanted: &str, tag: &str| -> Vec<(&'a str, &'a Json, &'a Json)> {
            let is_such = |call: &&&'a Json| text_of(call, "method") == wanted;
            let said = |call: &&'a Json| {
                let params = call.member("params")?;
                Some((params.member("name").and_then(Json::text)?, params.member(tag)?, params))
            };
            all.iter().filter(is_such).filter_map(said).collect()
        };
        let targets = of(TARGET, "name");
        let is_stricter = |(target, _, port): &(&str, &Json, &Json)| {
            let own = targets.iter().find(|(name, ..)| name == target);
            is_on(port, "require_chap")
                && own.is_none_or(|(_, _, own)| {
                    ["disable_chap", "require_chap", "mutual_chap"]
                        .iter()
                        .any(|name| is_on(own, name) != is_on(port, name))
                        || own.member("chap_group") != port.member("chap_group")
                })
        };
        let pair = |(target, tag, _): (&'a str, &'a Json, &'a Json)| (target, tag);
        let initiators = of("lunette_target_node_set_lun_map", "ig_tag").into_iter().map(pair).collect();
        let portals = of("lunette_target_node_set_portal_group_auth", "pg_tag").into_iter();
        KeptOut { initiators, portals: portals.filter(is_stricter).map(pair).collect() }
    }

    /// The portal groups by which somebody comes to each target.
    fn ways(&self, all: &[&'a Json], place: &Place) -> BTreeMap<String, Vec<Json>> {
        let is_target = |call: &&&Json| text_of(call, "method") == TARGET;
        let targets = all.iter().filter(is_target).filter_map(|call| call.member("params"));
        let ways = targets.map(|params| {
            let mut target = params.clone();
            // It is told where the call is written.
            self.leave_out(&mut target, place, &mut Report::default());
            let tags = match target.member("pg_ig_maps") {
                Some(Json::Array(pairs)) => {
                    pairs.iter().filter_map(|pair| pair.member("pg_tag").cloned()).collect()
                }
                _ => Vec::new(),
            };
            (text_of(&target, "name").to_owned(), tags)
        });
        ways.collect()
    }

    /// Takes pairs of groups from the call that makes a target. Of those at one portal group the first that fits an initiator counts: so
    /// where one is gone, whoever stands behind it is.
    fn leave_out(&self, target: &mut Json, place: &Place, report: &mut Report) {
        let name = text_of(target, "name").to_owned();
        let Some(Json::Array(pairs)) = target.member_mut("pg_ig_maps") else { return };
        let has = |list: &[(&str, &Json)], tag: Option<&Json>| {
            list.iter().any(|of| of.0 == name && Some(of.1) == tag)
        };
        let mut closed: Vec<Json> = Vec::new();
        pairs.retain(|pair| {
            let portal = pair.member("pg_tag");
            let is_out = has(&self.portals, portal)
                || has(&self.initiators, pair.member("ig_tag"))
                || closed.iter().any(|closed| Some(closed) == portal);
            if is_out {
                closed.extend(portal.cloned());
                report.cannot(
                    place,
                    format_args!(
                        "target {name}: there are LUNs or CHAP that differ: initiator group {} does not come by portal group {} any more",
                        pair.member("ig_tag").unwrap_or(&Json::Null),
                        portal.unwrap_or(&Json::Null)
                    ),
                );
            }
            !is_out
        });
    }
}

/// That nobody comes by what a call is about.
fn nowhere(method: &str, params: &Json, ways: &BTreeMap<String, Vec<Json>>) -> Option<String> {
    let is_of_target = method.starts_with("iscsi_target_node_") || matches!(method, TARGET | HISTOGRAM);
    let (name, tags) = ways.get_key_value(text_of(params, "name")).filter(|_| is_of_target)?;
    let tag = params.member("pg_tag").filter(|_| method == REDIRECT);
    match tag {
        _ if tags.is_empty() => Some(format!("nobody comes to target {name}")),
        Some(tag) if !tags.contains(tag) => {
            Some(format!("nobody comes to target {name} by portal group {tag}"))
        }
        _ => None,
    }
}

/// What is a call's name begins with where SPDK has none.
const OURS: &str = "lunette_";

/// The file.
pub(super) fn write(subsystems: &[Json], place: &Place, report: &mut Report) -> Json {
    let all: Vec<&Json> = subsystems.iter().flat_map(calls).collect();
    let kept_out = KeptOut::of(&all);
    let ways = kept_out.ways(&all, place);
    let one = |subsystem: &Json| {
        let mut kept = Vec::new();
        for call in calls(subsystem) {
            let method = text_of(call, "method");
            if method.starts_with(OURS) {
                let what = call.member("params").map(Json::to_string).unwrap_or_default();
                report.cannot(place, format_args!("{method}: SPDK has no such call: {}", shortened(&what)));
                continue;
            }
            let mut params = call.member("params").cloned().unwrap_or(Json::Null);
            if method == TARGET {
                kept_out.leave_out(&mut params, place, report);
            }
            if let Some(why) = nowhere(method, &params, &ways) {
                report.cannot(place, format_args!("{method}: {why}: SPDK would refuse it"));
                continue;
            }
            let params = stripped(params, method, place, report);
            kept.push(match params {
                Json::Null => object! { "method": method },
                params => object! { "method": method, "params": params },
            });
        }
        let name = subsystem.member("subsystem").and_then(Json::text).unwrap_or_default();
        object! { "subsystem": name, "config": kept }
    };
    let subsystems: Vec<Json> = subsystems.iter().map(one).collect();
    object! { "subsystems": subsystems }
}

/// Parameters without those that are lunette's own.
fn stripped(params: Json, method: &str, place: &Place, report: &mut Report) -> Json {
    match params {
        Json::Object(members) => {
            let mut kept = Vec::new();
            for (name, value) in members {
                if name.starts_with(OURS) {
                    let what = shortened(&value.to_string());
                    report.cannot(place, format_args!("{method}: {name} {what}: SPDK has no such parameter"));
                } else {
                    kept.push((name, stripped(value, method, place, report)));
                }
            }
            Json::Object(kept)
        }
        Json::Array(values) => {
            values.into_iter().map(|value| stripped(value, method, place, report)).collect()
        }
        other => other,
    }
}
