//! `bdev_raid_create` of level raid1, and what can be done to members of such an array.

use std::sync::Arc;

use rustix::io::Errno;

use super::Outcome;
use super::raid::{RaidCreate, check_names};
use crate::bdev::raid::mirror::{Handle, MEMBERS_MAX, Mirror, Recipe as MadeOf, Record, Times};
use crate::bdev::{Bdev, Info};
use crate::control::Control;
use crate::net::kernel::KernelNet;
use crate::rpc::context::Context;
use crate::rpc::devices::{Made, check_blocks};
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::mirrors::{Found, Kept, Member, find, is_volatile, wait_begun};
use crate::rpc::recipes::{RAID, recipe};
use crate::rpc::types::Uuid;

fn invalid(why: impl std::fmt::Display) -> Fault {
    Fault::errno(Errno::INVAL, why)
}

pub(super) fn create(context: &Context, params: RaidCreate) -> Outcome {
    if params.strip_size_kb != 0 {
        return Err(invalid("strip_size_kb: raid1 has no strips"));
    }
    let count = params.base_bdevs.len();
    if !(2..=MEMBERS_MAX).contains(&count) {
        return Err(invalid(format_args!("base_bdevs: raid1 has from 2 to {MEMBERS_MAX}")));
    }
    check_names(&params.base_bdevs)?;
    if !context.control(|control, _| control.has_state_file())? {
        let why = "raid_level: raid1 has to keep which of its members have all data: give lunette serve --state FILE";
        return Err(Fault::errno(Errno::OPNOTSUPP, why));
    }
    // Another one may still be at work on the same members, and say which of them are current.
    context.mirrors.wait()?;
    context.check_free(&params.name)?;
    let members = params.base_bdevs.iter().map(|name| context.base(name)).collect::<Result<Vec<_>, _>>()?;
    let infos: Vec<Info> = members.iter().map(|member| member.info()).collect();
    if infos.iter().any(|info| info.passes.is_some()) {
        let why = "base_bdevs: what is passed through cannot be part of an array";
        return Err(Fault::errno(Errno::OPNOTSUPP, why));
    }
    let known = known(&members, &infos)?;
    let (wanted, bases) = (params.uuid.as_ref().map(|uuid| uuid.0), params.base_bdevs.clone());
    let volatile = context.control(move |control, _| -> Vec<bool> {
        bases.iter().map(|base| is_volatile(control, base)).collect()
    })?;
    let look = |known: Vec<Member>| context.control(move |control, _| find(control, wanted, &known))?;
    let found = look(known.clone())?;
    let is_told_settled = params.uuid.is_some() && params.lunette_base_blocks.is_some();
    let is_clean = params.lunette_assume_clean;
    let (uuid, record, is_new) = match &found {
        Found::Kept(_, _) if is_clean => {
            return Err(invalid(
                "lunette_assume_clean: it is known which members of this array have all data",
            ));
        }
        // While there was no array its members were anybody's: what they hold may have been changed.
        Found::Kept(uuid, record) => {
            let is_dirty = record.is_dirty || !context.is_loading();
            (Uuid(*uuid), Record { is_dirty, ..record.clone() }, false)
        }
        Found::New => {
            let record = new_record(&params, &infos, &known, is_clean)?;
            (params.uuid.unwrap_or_else(Uuid::random), record, true)
        }
    };
    // One whose members are not known to have all data waits: see `Record`.
    let is_new = is_new && !record.current.is_empty();
    let is_soon = is_new || record.is_dirty || infos.iter().all(|info| info.blocks > 0);
    let saved = object! {
        "name": params.name.clone(),
        "uuid": uuid.to_string(),
        "strip_size_kb": 0u32,
        "raid_level": "raid1",
        "base_bdevs": params.base_bdevs.clone(),
        "lunette_base_blocks": vec![record.blocks; count],
        "lunette_block_size": record.block_bytes,
    };
    let records = Box::new(Kept { context: context.me(), uuid: uuid.0, array: params.name.clone() });
    let (mirror, starter) = Mirror::new(MadeOf {
        name: params.name.clone(),
        uuid: uuid.0,
        members,
        volatile,
        record,
        is_new,
        records,
        hugepages: context.hugepages,
        times: Times::default(),
    });
    let bases = params.base_bdevs;
    let handle = starter.handle();
    context.mirrors.push(handle.clone());
    let made = Made { bdev: Arc::new(mirror), device: None, recipe: recipe(RAID, saved), bases };
    if let Err(fault) = context.register(made) {
        starter.give_up();
        return Err(fault);
    }
    // Only now are its members its own. Whoever had them has let go before, and may have said something since that was looked for.
    let is_same = context.mirrors.wait().and_then(|()| Ok(look(known)? == found));
    if !matches!(is_same, Ok(true)) {
        starter.give_up();
        context.unregister(&params.name, RAID)?;
        return Err(is_same.err().unwrap_or_else(|| {
            Fault::errno(Errno::BUSY, "base_bdevs: another array had them until now: try again")
        }));
    }
    if let Err(error) = starter.start() {
        context.unregister(&params.name, RAID)?;
        return Err(Fault::internal(format_args!("there is no thread for the array: {error}")));
    }
    if is_soon && wait_begun(&handle) {
        context.reread(&params.name)?;
    }
    if !is_told_settled {
        context.settled();
    }
    Ok(Json::Bool(true))
}

/// What members are by themselves, as far as they are there.
fn known(members: &[Arc<dyn Bdev>], infos: &[Info]) -> Result<Vec<Member>, Fault> {
    let mut known: Vec<Member> = Vec::new();
    for (member, info) in members.iter().zip(infos) {
        let own = if info.blocks > 0 { member.own() } else { None };
        if info.blocks > 0 && own.is_none() {
            let why = format_args!(
                "base_bdevs: nothing tells {} from another medium after a restart: it has no serial number or other name for life",
                info.name
            );
            return Err(Fault::errno(Errno::OPNOTSUPP, why));
        }
        if let Some((other, _)) = known.iter().find(|(_, other)| own.is_some() && *other == own) {
            return Err(invalid(format_args!("base_bdevs: {other} and {} are the same medium", info.name)));
        }
        known.push((info.name.clone(), own));
    }
    Ok(known)
}

/// What is to be kept of an array that nothing is kept of.
fn new_record(
    params: &RaidCreate,
    infos: &[Info],
    known: &[Member],
    is_clean: bool,
) -> Result<Record, Fault> {
    let members: Vec<[u8; 16]> = known.iter().filter_map(|(_, own)| *own).collect();
    if let Some(blocks) = params.lunette_base_blocks.as_ref().and_then(|blocks| blocks.first()) {
        // It was made, and whoever knew which members have all data does not any more.
        let block_bytes = params.lunette_block_size.unwrap_or(512);
        check_blocks(*blocks, block_bytes)?;
        return Ok(Record { blocks: *blocks, block_bytes, members, current: Vec::new(), is_dirty: true });
    }
    if let Some(missing) = infos.iter().find(|info| info.blocks == 0) {
        return Err(Fault::errno(Errno::NODEV, format_args!("{} is not there yet", missing.name)));
    }
    let block_bytes = infos.first().map_or(512, |info| info.block_bytes);
    if infos.iter().any(|info| info.block_bytes != block_bytes) {
        return Err(invalid("base_bdevs: their blocks are of different sizes"));
    }
    if let Some(fixed) = infos.iter().find(|info| info.read_only) {
        return Err(invalid(format_args!("base_bdevs: {} cannot be written", fixed.name)));
    }
    let blocks = infos.iter().map(|info| info.blocks).min().unwrap_or(0);
    let current = if is_clean { members.clone() } else { members.iter().take(1).copied().collect() };
    Ok(Record { blocks, block_bytes, members, current, is_dirty: false })
}

/// A member is filled again.
pub(super) fn add(context: &Context, raid: &str, base: &str) -> Option<Outcome> {
    let handle = context.mirrors.get(raid)?;
    Some(position(context, raid, base).and_then(|member| {
        let member = member.ok_or_else(|| {
            let why = format_args!(
                "{base} is not one of the members of {raid}: delete the array and make it with the same uuid and this member"
            );
            Fault::errno(Errno::PERM, why)
        })?;
        handle.add(member).map_err(|why| Fault::errno(Errno::BUSY, why))?;
        Ok(Json::Bool(true))
    }))
}

/// A member is taken out.
pub(super) fn remove(context: &Context, raid: &str, base: &str) -> Option<Outcome> {
    let handle = context.mirrors.get(raid)?;
    Some(position(context, raid, base).and_then(|member| {
        let member = member.ok_or_else(|| crate::rpc::devices::no_bdev(base))?;
        handle.remove(member).map_err(|why| Fault::errno(Errno::BUSY, why))?;
        Ok(Json::Bool(true))
    }))
}

/// Members of mirrors, by their mirror, whose media are on this bdev, or on what is made of it.
pub(in crate::rpc) struct Doubted(Vec<(Handle, usize)>);

impl Doubted {
    /// What has been put on a bdev may not be there any more: its members are out before somebody opens it anew, and no mirror has
    /// anything to say to them. A mirror's last member stays: there is nobody to have its data from.
    pub(in crate::rpc) fn on(context: &Context, name: &str) -> Result<Doubted, Fault> {
        let name = name.to_owned();
        // Nobody uses anything of a daemon that has stopped.
        let users = context.control(move |control, _| users(control, name)).unwrap_or_default();
        let users =
            users.into_iter().filter_map(|(array, member)| Some((context.mirrors.get(&array)?, member)));
        let (mut doubted, mut failed) = (Vec::new(), None);
        for (mirror, member) in users.filter(|(mirror, _)| mirror.is_begun()) {
            match mirror.doubt(member) {
                Ok(()) => doubted.push((mirror, member)),
                Err(_) if mirror.is_last(member) => {}
                // The others have to know all the same.
                Err(why) => {
                    failed = Some(Fault::errno(Errno::BUSY, format_args!("{}: {why}", mirror.name())))
                }
            }
        }
        failed.map_or(Ok(Doubted(doubted)), Err)
    }

    /// They need not be waited for.
    pub(super) fn are_back(self) {
        for (mirror, member) in self.0 {
            // One that nobody decides about has no use for that.
            let _ = mirror.again(member);
        }
    }
}

/// Which bdevs use this one, or one that uses it, in which place.
fn users(control: &Control<KernelNet>, name: String) -> Vec<(String, usize)> {
    let (mut names, mut users) = (vec![name], Vec::new());
    let mut next = 0;
    while let Some(base) = names.get(next).cloned() {
        next += 1;
        for entry in control.bdevs() {
            let places = entry.spec.bases.iter().enumerate().filter(|(_, other)| **other == base);
            users.extend(places.map(|(place, _)| (entry.name.clone(), place)));
            if entry.spec.bases.contains(&base) && !names.contains(&entry.name) {
                names.push(entry.name.clone());
            }
        }
    }
    users
}

fn position(context: &Context, raid: &str, base: &str) -> Result<Option<usize>, Fault> {
    let (raid, base) = (raid.to_owned(), base.to_owned());
    context.control(move |control, _| {
        let base = control.bdev(&base)?.name.clone();
        control.bdev(&raid)?.spec.bases.iter().position(|member| *member == base)
    })
}
