//! Who may come to targets and what groups find there: what of a change closes, which comes first, and what opens.

use super::plan::{Parts, Setting, Steps, elements, luns};
use super::things::{Family, is_met, text};
use super::{Call, Step};
use crate::rpc::json::{Json, object};

/// Of a target, for an initiator group.
pub(super) const SET_LUN_MAP: &str = "lunette_target_node_set_lun_map";
const ADD: &str = "iscsi_initiator_group_add_initiators";
const REMOVE: &str = "iscsi_initiator_group_remove_initiators";

/// Who may come: who is not to goes first, others come last. The order of initiators counts, that of netmasks does not. Who is
/// logged in stays if he may come when all is done, which is when that is looked at.
pub(super) fn initiators(there: &Json, wanted: &Json, steps: &mut Steps) {
    let tag = there.member("tag").cloned().unwrap_or(Json::Null);
    if let (Some(is), Some(is_to_be)) = (elements(there, "initiators"), elements(wanted, "initiators")) {
        // What is there already of the beginning of what is to be, in this order.
        let mut kept = 0;
        let stays: Vec<bool> = is
            .iter()
            .map(|name| {
                let is_next = is_to_be.get(kept) == Some(name);
                kept += usize::from(is_next);
                is_next
            })
            .collect();
        let gone = is.iter().zip(stays).filter(|(_, stays)| !stays).map(|(name, _)| name);
        // Without a denial others may come.
        let (denials, others): (Vec<Json>, Vec<Json>) =
            gone.cloned().partition(|name| text(name).starts_with('!'));
        let list = List { tag: tag.clone(), name: "initiators" };
        let left = list.remove(is, &others, &mut steps.change);
        let left = list.remove(&left, &denials, &mut steps.admit);
        list.add(&is_to_be[left.len().min(is_to_be.len())..], &mut steps.admit);
    }
    if let (Some(is), Some(is_to_be)) = (elements(there, "netmasks"), elements(wanted, "netmasks")) {
        let but = |one: &[Json], other: &[Json]| -> Vec<Json> {
            one.iter().filter(|netmask| !other.contains(netmask)).cloned().collect()
        };
        let list = List { tag, name: "netmasks" };
        list.remove(is, &but(is, is_to_be), &mut steps.change);
        list.add(&but(is_to_be, is), &mut steps.admit);
    }
}

/// A list of an initiator group.
struct List {
    tag: Json,
    name: &'static str,
}

impl List {
    fn call(&self, method: &str, elements: &[Json]) -> Call {
        let members = vec![
            ("tag".to_owned(), self.tag.clone()),
            (self.name.to_owned(), Json::Array(elements.to_vec())),
        ];
        (method.to_owned(), Json::Object(members))
    }

    /// Takes some of them out; it is taken back such that they stand where they stood. Returns what is left.
    fn remove(&self, is: &[Json], gone: &[Json], stage: &mut Vec<Step>) -> Vec<Json> {
        let left: Vec<Json> = is.iter().filter(|element| !gone.contains(element)).cloned().collect();
        let Some(first) = is.iter().position(|element| gone.contains(element)) else { return left };
        let mut back = Vec::new();
        if let behind @ [_, ..] = &left[first..] {
            back.push(self.call(REMOVE, behind));
        }
        back.push(self.call(ADD, &is[first..]));
        stage.push(Step { call: self.call(REMOVE, gone), back: Some(back) });
        left
    }

    fn add(&self, new: &[Json], stage: &mut Vec<Step>) {
        if !new.is_empty() {
            stage.push(Step { call: self.call(ADD, new), back: Some(vec![self.call(REMOVE, new)]) });
        }
    }
}

/// A LUN as a group finds it: number, bdev, for reading only.
type Found = (u64, String, bool);

/// Has a group find what it is to: at first only what it finds before and after, which is what who comes meanwhile finds.
pub(super) fn lun_map(
    old: &Parts<'_>,
    new: &Parts<'_>,
    setting: &Setting<'_>,
    call: Call,
    back: Call,
    steps: &mut Steps,
) {
    let step = |call: &Call, back: &Call| Step { call: call.clone(), back: Some(vec![back.clone()]) };
    if !is_way(old, setting) {
        // Nobody finds anything by it; before others are let in.
        steps.set.push(step(&call, &back));
        return;
    }
    let (before, after) = (found(setting, &[old]), found(setting, &[new, old]));
    let both: Vec<Found> = before
        .iter()
        .filter_map(|(number, bdev, read_only)| {
            let other = after.iter().find(|other| (&other.0, &other.1) == (number, bdev))?;
            Some((*number, bdev.clone(), *read_only || other.2))
        })
        .collect();
    if both.len() == after.len() && after.iter().all(|lun| both.contains(lun)) {
        steps.set.push(step(&call, &back));
    } else if both == before {
        steps.show.push(step(&call, &back));
    } else {
        let lun = |(number, bdev, read_only): &Found| object! { "bdev_name": bdev.as_str(), "lun_id": *number, "read_only": *read_only };
        let of = |name: &str| setting.params.member(name).cloned().unwrap_or(Json::Null);
        let params = object! { "name": of("name"), "ig_tag": of("ig_tag"), "luns": both.iter().map(lun).collect::<Json>() };
        let narrow = (SET_LUN_MAP.to_owned(), params);
        steps.set.push(step(&narrow, &back));
        steps.show.push(step(&call, &narrow));
    }
}

/// Whether the group has a way to the target.
fn is_way(parts: &Parts<'_>, setting: &Setting<'_>) -> bool {
    let [target, group] = [0, 1].map(|index| setting.key.get(index).map(String::as_str).unwrap_or_default());
    let maps = parts.find(Family::Target, target).and_then(|target| elements(target.params, "pg_ig_maps"));
    maps.into_iter().flatten().any(|map| map.member("ig_tag").map(text).as_deref() == Some(group))
}

/// What the group finds where the first of these is in force, as far as it says anything; else the next.
fn found(setting: &Setting<'_>, said: &[&Parts<'_>]) -> Vec<Found> {
    let own = said.first().and_then(|parts| parts.setting(setting));
    if let Some(own) = own.and_then(|own| elements(own.params, "luns")) {
        let is_read_only = |lun: &Json| is_met(&Json::Bool(true), lun.member("read_only"));
        return luns(own)
            .into_iter()
            .zip(own)
            .map(|((number, bdev), lun)| (number, bdev, is_read_only(lun)))
            .collect();
    }
    let target = setting.key.first().map(String::as_str).unwrap_or_default();
    let mut targets = said.iter().filter_map(|parts| parts.find(Family::Target, target));
    let everybodys = targets.find_map(|target| elements(target.params, "luns")).unwrap_or_default();
    luns(everybodys).into_iter().map(|(number, bdev)| (number, bdev, false)).collect()
}
