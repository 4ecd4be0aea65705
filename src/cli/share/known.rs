//! What a daemon has, as the calls that would make it again.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::Failed;
use super::super::rpc::call;
use super::super::status::{array, member, number, text};
use crate::rpc::json::Json;

/// The call that makes a target.
pub(super) const TARGET: &str = "iscsi_create_target_node";
/// The call that makes an authentication group.
pub(super) const AUTH_GROUP: &str = "iscsi_create_auth_group";
/// The call that gives the initiators of a group LUNs of their own.
const LUN_MAP: &str = "lunette_target_node_set_lun_map";

/// What a daemon has.
#[derive(Debug)]
pub(super) struct Known {
    calls: Vec<(String, Json)>,
    /// As bdev_get_bdevs tells them: those of NVMe controllers are made by no call of their own.
    pub(super) bdevs: Vec<Json>,
    /// Tags of authentication groups, also of those that no call of their own makes.
    auth_groups: Vec<u64>,
}

impl Known {
    /// Asks it.
    pub(super) fn ask(socket: &Path) -> Result<Known, Failed> {
        let config = call(socket, "lunette_get_config", &Json::Null)?;
        let groups = array(call(socket, "iscsi_get_auth_groups", &Json::Null)?);
        let auth_groups = groups.iter().map(|group| number(group, "tag")).collect();
        let bdevs = array(call(socket, "bdev_get_bdevs", &Json::Null)?);
        Ok(Known { auth_groups, ..Known::of(&config, bdevs) })
    }

    /// Of its answers.
    pub(super) fn of(config: &Json, bdevs: Vec<Json>) -> Known {
        let subsystems = array(member(config, "subsystems"));
        let calls = subsystems.iter().flat_map(|subsystem| array(member(subsystem, "config")));
        let calls = calls.map(|call| (text(&call, "method"), member(&call, "params")));
        Known { calls: calls.collect(), bdevs, auth_groups: Vec::new() }
    }

    /// The parameters of each call of a method.
    pub(super) fn calls(&self, method: &str) -> impl Iterator<Item = &Json> {
        self.calls.iter().filter(move |(name, _)| name == method).map(|(_, params)| params)
    }

    /// The targets.
    pub(super) fn targets(&self) -> impl Iterator<Item = &Json> {
        self.calls(TARGET)
    }

    /// Those with a LUN that is this bdev.
    pub(super) fn targets_of(&self, bdev: &str) -> Vec<String> {
        let has = |target: &&Json| self.luns(target).iter().any(|lun| lun == bdev);
        self.targets().filter(has).map(|target| text(target, "name")).collect()
    }

    /// The bdevs that are a target's LUNs, for everybody or for the initiators of a group: each once.
    pub(super) fn luns(&self, target: &Json) -> Vec<String> {
        let name = text(target, "name");
        let own = self.calls(LUN_MAP).filter(|map| text(map, "name") == name);
        let lists = std::iter::once(target).chain(own).map(|params| array(member(params, "luns")));
        let mut luns = Vec::new();
        for lun in lists.flatten().map(|lun| text(&lun, "bdev_name")) {
            if !luns.contains(&lun) {
                luns.push(lun);
            }
        }
        luns
    }

    /// The initiator groups (tags) that a target has ways or LUNs for: each once.
    pub(super) fn initiators(&self, target: &Json) -> Vec<u64> {
        let name = text(target, "name");
        let ways = array(member(target, "pg_ig_maps"));
        let maps = self.calls(LUN_MAP).filter(|map| text(map, "name") == name);
        let tags: BTreeSet<u64> = ways.iter().chain(maps).map(|of| number(of, "ig_tag")).collect();
        tags.into_iter().collect()
    }

    /// The call that makes a bdev.
    pub(super) fn maker(&self, bdev: &str) -> Option<(&str, &Json)> {
        let makes = |(method, params): &&(String, Json)| {
            method.ends_with("_create") && !method.starts_with("iscsi_") && text(params, "name") == bdev
        };
        self.calls.iter().find(makes).map(|(method, params)| (method.as_str(), params))
    }

    /// The bdev that is made of a file or device.
    pub(super) fn bdev_at(&self, path: &Path) -> Option<String> {
        let is_of_it = |(_, params): &&(String, Json)| {
            params.member("filename").and_then(Json::text).is_some_and(|name| Path::new(name) == path)
        };
        self.calls.iter().find(is_of_it).map(|(_, params)| text(params, "name"))
    }

    /// A bdev of this name.
    pub(super) fn bdev(&self, name: &str) -> Option<&Json> {
        self.bdevs.iter().find(|bdev| text(bdev, "name") == name)
    }

    /// Its size.
    pub(super) fn bytes_of(&self, bdev: &str) -> u64 {
        self.bdev(bdev)
            .map_or(0, |bdev| number(bdev, "num_blocks").saturating_mul(number(bdev, "block_size")))
    }

    /// The lowest tag that no call of a method takes.
    pub(super) fn free_tag(&self, method: &str) -> u64 {
        let mut taken: Vec<u64> = self.calls(method).map(|params| number(params, "tag")).collect();
        if method == AUTH_GROUP {
            taken.extend(&self.auth_groups);
        }
        (1..).find(|tag| !taken.contains(tag)).unwrap_or(u64::MAX)
    }
}
