//! The ways to a target: pairs of a portal group and an initiator group. Their order counts: at a portal group the first initiator
//! group that has anything to say of an initiator decides. That of portal groups does not.
//!
//! On the way from one order to another an initiator finds what it found before, or what it is to, or is refused; and a portal
//! group that leads to the target leads there all the time.

use super::things::{is_met, text};
use super::{Call, Step};
use crate::rpc::json::Json;

const ADD: &str = "iscsi_target_node_add_pg_ig_maps";
const REMOVE: &str = "iscsi_target_node_remove_pg_ig_maps";

/// Makes these pairs those that are to be. `params` are a call's, of the same target.
pub(super) fn change(
    is: &[Json],
    is_to_be: &[Json],
    params: impl Fn(Vec<Json>) -> Json,
    steps: &mut Vec<Step>,
) {
    let call = |method: &str, maps: &[Json]| -> Call { (method.to_owned(), params(maps.to_vec())) };
    let added = |maps: &[Json]| Step { call: call(ADD, maps), back: Some(vec![call(REMOVE, maps)]) };
    let Moves { first, gone, last } = Moves::between(is, is_to_be);
    if !first.is_empty() {
        steps.push(added(&first));
    }
    if !gone.is_empty() {
        let before = [is, &first].concat();
        let left = without(&before, &gone);
        // Where those that stay are in front, those that come back may stand behind what is removed next.
        let simple = [left.as_slice(), &gone].concat();
        let is_order_kept = Moves::between(&without(&simple, &first), is).is_none();
        let former = if is_order_kept { simple } else { before };
        let moves = Moves::between(&left, &former);
        let back = [(ADD, moves.first), (REMOVE, moves.gone), (ADD, moves.last)];
        let back = back.iter().filter(|(_, maps)| !maps.is_empty()).map(|(method, maps)| call(method, maps));
        steps.push(Step { call: call(REMOVE, &gone), back: Some(back.collect()) });
    }
    if !last.is_empty() {
        steps.push(added(&last));
    }
}

/// What leads from an order to another: pairs are added behind all others only.
#[derive(Default)]
struct Moves {
    /// Added at first.
    first: Vec<Json>,
    /// Removed then.
    gone: Vec<Json>,
    /// Added at last.
    last: Vec<Json>,
}

impl Moves {
    fn between(is: &[Json], is_to_be: &[Json]) -> Moves {
        let mut moves = Moves::default();
        let mut tags: Vec<String> = Vec::new();
        for map in is_to_be.iter().chain(is) {
            let tag = portal_group(map);
            if !tags.contains(&tag) {
                moves.add(&at(is, &tag), &at(is_to_be, &tag));
                tags.push(tag);
            }
        }
        // New portal groups get their ports' identifiers in this order.
        let place = |map: &Json| is_to_be.iter().position(|other| is_met(map, Some(other)));
        moves.first.sort_by_key(place);
        moves
    }

    fn is_none(&self) -> bool {
        self.first.is_empty() && self.gone.is_empty() && self.last.is_empty()
    }

    /// Of one portal group.
    fn add(&mut self, is: &[Json], is_to_be: &[Json]) {
        let (gone, new) = (without(is, is_to_be), without(is_to_be, is));
        if are_alike(&[without(is, &gone), new.clone()].concat(), is_to_be) {
            self.first.extend(new);
            self.gone.extend(gone);
            return;
        }
        // What is there already of the beginning of what is to be, in this order.
        let mut kept = 0;
        for map in is {
            let is_next = is_to_be.get(kept).is_some_and(|next| is_met(map, Some(next)));
            kept += usize::from(is_next);
        }
        if kept == 0 {
            // Nothing stays where it is: what is new stands in front.
            kept = is_to_be.iter().take_while(|map| !has(is, map)).count();
            self.first.extend_from_slice(&is_to_be[..kept]);
        }
        self.gone.extend(without(is, &is_to_be[..kept]));
        self.last.extend_from_slice(&is_to_be[kept..]);
    }
}

fn portal_group(map: &Json) -> String {
    map.member("pg_tag").map(text).unwrap_or_default()
}

fn at(maps: &[Json], tag: &str) -> Vec<Json> {
    maps.iter().filter(|map| portal_group(map) == tag).cloned().collect()
}

fn has(maps: &[Json], map: &Json) -> bool {
    maps.iter().any(|other| is_met(map, Some(other)))
}

fn without(maps: &[Json], others: &[Json]) -> Vec<Json> {
    maps.iter().filter(|map| !has(others, map)).cloned().collect()
}

fn are_alike(one: &[Json], other: &[Json]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_met(one, Some(other)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::json::object;

    fn map(portal_group: u64, initiator_group: u64) -> Json {
        object! { "pg_tag": portal_group, "ig_tag": initiator_group }
    }

    fn steps(is: &[Json], is_to_be: &[Json]) -> Vec<Step> {
        let mut steps = Vec::new();
        change(is, is_to_be, Json::Array, &mut steps);
        steps
    }

    /// What the call leaves, as a daemon does it.
    fn called((method, maps): &Call, before: &[Json]) -> Vec<Json> {
        let Json::Array(maps) = maps else { panic!("{maps}") };
        assert!(
            maps.iter().all(|map| has(before, map) == (method == REMOVE)),
            "{method} {maps:?}: {before:?}"
        );
        if method == ADD { [before, maps].concat() } else { without(before, maps) }
    }

    /// All orders of some of these.
    fn orders(of: &[Json]) -> Vec<Vec<Json>> {
        let longer = |first: &Json| {
            let others = orders(&without(of, std::slice::from_ref(first)));
            others.into_iter().map(|others| [vec![first.clone()], others].concat()).collect::<Vec<_>>()
        };
        std::iter::once(Vec::new()).chain(of.iter().flat_map(longer)).collect()
    }

    /// The group that decides for an initiator of which the groups with these bits have something to say.
    fn deciding(maps: &[Json], said: u64) -> Option<&Json> {
        let has_said =
            |map: &&Json| matches!(map.member("ig_tag"), Some(Json::Unsigned(tag)) if said & (1 << tag) != 0);
        at_first(maps).find(has_said)
    }

    fn at_first(maps: &[Json]) -> impl Iterator<Item = &Json> {
        maps.iter().filter(|map| portal_group(map) == "1")
    }

    fn check(now: &[Json], is: &[Json], is_to_be: &[Json]) {
        let is_way = |maps| at_first(maps).next().is_some();
        assert!(is_way(now) || !is_way(is) || !is_way(is_to_be), "{is:?} to {is_to_be:?}");
        for said in 0..16 {
            let decides = deciding(now, said);
            let is_known = [None, deciding(is, said), deciding(is_to_be, said)].contains(&decides);
            assert!(is_known, "{is:?} to {is_to_be:?}: {now:?}");
        }
    }

    #[test]
    fn every_order_leads_to_every_other_and_back_by_way_of_nothing_else() {
        let maps = [0, 1, 2, 3].map(|tag| map(1, tag));
        let (all, other) = (orders(&maps), [map(2, 9)]);
        // Any other begin is one of these under other tags.
        for count in 0..=maps.len() {
            let is = [&maps[..count], &other].concat();
            for wanted in &all {
                let wanted = [&other, wanted.as_slice()].concat();
                let steps = steps(&is, &wanted);
                let mut now = is.clone();
                for done in 0..=steps.len() {
                    let mut back = now.clone();
                    for call in steps[..done].iter().rev().flat_map(|step| step.back.as_ref().unwrap()) {
                        back = called(call, &back);
                        check(&back, &is, &wanted);
                    }
                    assert!(at_first(&back).eq(at_first(&is)) && has(&back, &other[0]), "{is:?} {wanted:?}");
                    if let Some(step) = steps.get(done) {
                        now = called(&step.call, &now);
                        check(&now, &is, &wanted);
                    }
                }
                assert!(at_first(&now).eq(at_first(&wanted)) && has(&now, &other[0]), "{is:?} {wanted:?}");
            }
        }
    }
}
