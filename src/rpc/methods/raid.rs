//! Several bdevs as one: `bdev_raid_*`, of the levels 0 and concat; level 1 is [`super::mirror`]'s.

use std::sync::{Arc, Weak};

use rustix::io::Errno;

use super::memory::Name;
use super::{Method, Outcome, method, mirror};
use crate::bdev::raid::mirror::Doing;
use crate::bdev::raid::{Keeps, Known, Level, Raid, Recipe as MadeOf};
use crate::bdev::{Bdev as _, Info};
use crate::control::Control;
use crate::control::registry::{Entry, uuid_text};
use crate::net::kernel::KernelNet;
use crate::rpc::context::Context;
use crate::rpc::devices::{Made, check_blocks, no_bdev};
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::params::params;
use crate::rpc::recipes::{RAID, Recipe, recipe};
use crate::rpc::types::{Ignored, Off, Uuid, choice};

pub(super) const METHODS: &[Method] = &[
    method!(
        "bdev_raid_create",
        Runtime,
        RaidCreate,
        create,
        "Makes a bdev of several others: raid0 over all of them strip by strip, concat, or raid1, which needs a state file. Their \
         data are where SPDK has them without a superblock. The first member of a new raid1 has the data: the others are filled with \
         them, meanwhile it can be used. One that is kept is known again by its uuid or its members."
    ),
    method!(
        "bdev_raid_delete",
        Runtime,
        RaidDelete,
        delete,
        "Deletes such a bdev, its LUNs first. The data stay; of a raid1, which members have all of them is kept too."
    ),
    method!(
        "bdev_raid_get_bdevs",
        Runtime,
        GetBdevs,
        get_bdevs,
        "Describes the bdevs that are made of several."
    ),
    method!(
        "bdev_raid_add_base_bdev",
        Runtime,
        AddBase,
        add_base,
        "Fills a member of a raid1 again that is out. Other levels have the members that they were made of."
    ),
    method!(
        "bdev_raid_remove_base_bdev",
        Runtime,
        Name,
        remove_base,
        "Takes a member of a raid1 out: it is not read or written until it is added again, or the next start. Not the last one that \
         has all data. Other levels need all of their members."
    ),
];

/// The most members.
const MEMBERS_MAX: usize = 255;
/// Kibibytes of a strip, at most.
const STRIP_KB_MAX: u32 = 16 * 1024;

choice! {
    /// How blocks are laid out.
    pub(super) enum RaidLevel {
        "raid0" => Raid0,
        "0" => Zero,
        "concat" => Concat,
        "raid1" => Raid1,
        "1" => One,
        "raid5f" => Raid5f,
        "5f" => FiveF,
    }
}

params! {
    /// Of `bdev_raid_create`.
    pub(super) struct RaidCreate {
        /// Its name.
        name: String,
        /// Kibibytes of a strip: a power of two; 0 of raid1.
        strip_size_kb: u32 = 0,
        /// How blocks are laid out; raid5f is refused.
        raid_level: RaidLevel,
        /// What it is made of, in order.
        base_bdevs: Vec<String>,
        /// What names the medium to initiators; random where none is given.
        uuid: Option<Uuid>,
        /// SPDK's: says on the members that they belong together. Of raid1 the state file says that.
        superblock: Off,
        /// So many blocks of each member are used at most; saved, so that an array is the same after a member has grown. To be given where a member is not there yet; a file that does not say it waits for all members.
        lunette_base_blocks: Option<Vec<u64>>,
        /// Bytes of a block of each member; saved with lunette_base_blocks. Members with others are not taken in.
        lunette_block_size: Option<u32>,
        /// Of a new raid1: all members hold the same, you promise; so none is filled.
        lunette_assume_clean: bool = false,
    }
}

fn create(context: &Context, params: RaidCreate) -> Outcome {
    let invalid = |why: &str| Fault::errno(Errno::INVAL, why);
    let (level, word) = match params.raid_level {
        RaidLevel::Raid0 | RaidLevel::Zero => (Level::Striped, "raid0"),
        RaidLevel::Concat => (Level::Concat, "concat"),
        RaidLevel::Raid1 | RaidLevel::One => return mirror::create(context, params),
        RaidLevel::Raid5f | RaidLevel::FiveF => {
            let why = "raid_level: lunette has raid0, raid1 and concat; parity is md's (mdadm), whose devices bdev_aio_create takes";
            return Err(Fault::errno(Errno::OPNOTSUPP, why));
        }
    };
    let strip_kb = params.strip_size_kb;
    if !strip_kb.is_power_of_two() || !(4..=STRIP_KB_MAX).contains(&strip_kb) {
        return Err(invalid("strip_size_kb: it is a power of two, from 4 to 16384"));
    }
    let count = params.base_bdevs.len();
    if count == 0 || count > MEMBERS_MAX {
        return Err(invalid("base_bdevs: from 1 to 255"));
    }
    check_names(&params.base_bdevs)?;
    if params.lunette_assume_clean {
        return Err(invalid("lunette_assume_clean: only members of raid1 hold the same"));
    }
    let blocks = params.lunette_base_blocks.unwrap_or_default();
    if !blocks.is_empty() && blocks.len() != count {
        return Err(invalid("lunette_base_blocks: as many as there are base_bdevs"));
    }
    if let Some(size) = params.lunette_block_size {
        check_blocks(1, size)?;
    }
    let members = params.base_bdevs.iter().map(|name| context.base(name)).collect::<Result<Vec<_>, _>>()?;
    let infos: Vec<Info> = members.iter().map(|member| member.info()).collect();
    if infos.iter().any(|info| info.passes.is_some()) {
        return Err(Fault::errno(
            Errno::OPNOTSUPP,
            "base_bdevs: what is passed through cannot be part of an array",
        ));
    }
    // What it is made of may have grown when it comes: another layout than the one that the data are in. A file that says no more is
    // believed, as SPDK would: what comes first is what it was made of.
    let missing = infos.iter().find(|info| info.blocks == 0).filter(|_| blocks.is_empty());
    if let Some(missing) = missing.filter(|_| !context.is_loading()) {
        let why = format_args!("{} is not there yet: give lunette_base_blocks", missing.name);
        return Err(Fault::errno(Errno::NODEV, why));
    }
    // What is not as a file says that it was is waited for, as what is missing.
    let may_wait = context.is_loading() && !blocks.is_empty();
    let mut sizes = infos.iter().filter(|info| info.blocks > 0).map(|info| info.block_bytes);
    let first = sizes.next();
    if !may_wait && sizes.any(|size| Some(size) != first) {
        return Err(invalid("base_bdevs: their blocks are of different sizes"));
    }
    let is_settled = !blocks.is_empty() && params.lunette_block_size.is_some() && params.uuid.is_some();
    let uuid = params.uuid.unwrap_or_else(Uuid::random);
    let known = (!blocks.is_empty()).then_some(Known { blocks, block_bytes: params.lunette_block_size });
    let keeps: Option<Box<dyn Keeps>> = match missing {
        Some(_) => Some(Box::new(Awaiting { context: context.me(), name: params.name.clone() })),
        None => None,
    };
    let raid = Raid::new(MadeOf {
        name: params.name.clone(),
        uuid: uuid.0,
        level,
        strip_bytes: u64::from(strip_kb) * 1024,
        members,
        known: known.clone(),
        keeps,
    });
    if !may_wait
        && infos.iter().all(|info| info.blocks > 0)
        && let Err(why) = raid.probe()
    {
        return Err(invalid(&format!("base_bdevs: {why}")));
    }
    let known = raid.known().or(known);
    let mut saved = object! {
        "name": params.name,
        "uuid": uuid.to_string(),
        "strip_size_kb": strip_kb,
        "raid_level": word,
        "base_bdevs": params.base_bdevs.clone(),
    };
    for (name, value) in known.map(saved_of).into_iter().flatten() {
        saved.push(name, value);
    }
    let recipe = recipe(RAID, saved);
    context.register(Made { bdev: Arc::new(raid), device: None, recipe, bases: params.base_bdevs })?;
    if !is_settled {
        context.settled();
    }
    Ok(Json::Bool(true))
}

/// Whether no member is named twice.
pub(super) fn check_names(names: &[String]) -> Result<(), Fault> {
    let is_twice = |(index, name): (usize, &String)| names.iter().skip(index + 1).any(|other| other == name);
    if names.iter().enumerate().any(is_twice) {
        return Err(Fault::errno(Errno::INVAL, "base_bdevs: one of them is named twice"));
    }
    Ok(())
}

/// What a layout follows from, as parameters.
fn saved_of(known: Known) -> impl Iterator<Item = (&'static str, Json)> {
    let blocks = ("lunette_base_blocks", Json::from(known.blocks));
    [Some(blocks), known.block_bytes.map(|size| ("lunette_block_size", size.into()))].into_iter().flatten()
}

/// Keeps the layout of an array that waits for its members, when all have come.
#[derive(Debug)]
struct Awaiting {
    context: Weak<Context>,
    /// Of the array.
    name: String,
}

impl Keeps for Awaiting {
    fn keep(&self, known: Known) -> Result<(), String> {
        let stopped = || "the daemon stops".to_owned();
        let context = self.context.upgrade().ok_or_else(stopped)?;
        if context.is_loading() {
            return Err("the configuration is still being loaded".to_owned());
        }
        let name = self.name.clone();
        let set = context.control(move |control, _| {
            let Some(entry) = control.bdev(&name) else { return Ok(()) };
            let mut recipe = Recipe::parse(&entry.spec.recipe);
            for (name, value) in saved_of(known) {
                recipe = recipe.with_new(name, value);
            }
            control.set_recipe(&name, recipe.to_string())
        });
        set.map_err(|fault| fault.text())?.map_err(|error| error.to_string())?;
        context.keep_settled().map_err(|fault| fault.text())
    }
}

params! {
    /// Of `bdev_raid_delete`.
    pub(super) struct RaidDelete {
        /// Its name.
        name: String,
        /// SPDK's: takes the superblocks off the members; there are none.
        clear_sb: Ignored,
    }
}

fn delete(context: &Context, params: RaidDelete) -> Outcome {
    context.unregister(&params.name, RAID)?;
    Ok(Json::Bool(true))
}

choice! {
    /// Which of them.
    pub(super) enum Category {
        "all" => All,
        "online" => Online,
        "configuring" => Configuring,
        "offline" => Offline,
    }
}

params! {
    /// Of `bdev_raid_get_bdevs`.
    pub(super) struct GetBdevs {
        /// Online are those that can be used, configuring those whose members are not all there.
        category: Category,
    }
}

fn get_bdevs(context: &Context, params: GetBdevs) -> Outcome {
    context.control(move |control, _| {
        let raids = control.bdevs().filter(|entry| Recipe::parse(&entry.spec.recipe).method() == RAID);
        let is_wanted = |entry: &&Entry| match params.category {
            Category::All => true,
            Category::Online => is_online(entry),
            Category::Configuring => !is_online(entry),
            Category::Offline => false,
        };
        let one = |entry: &Entry| {
            let mut members = object! { "name": &entry.name };
            if let Json::Object(more) = describe(control, entry) {
                more.into_iter().for_each(|(name, value)| members.push(&name, value));
            }
            members
        };
        raids.filter(is_wanted).map(one).collect::<Json>()
    })
}

fn is_online(entry: &Entry) -> bool {
    entry.spec.bdev.info().blocks > 0
}

/// What SPDK shows of an array.
pub(super) fn describe(control: &Control<KernelNet>, entry: &Entry) -> Json {
    let recipe = Recipe::parse(&entry.spec.recipe);
    let param = |name| recipe.param(name).cloned().unwrap_or(Json::Null);
    // What is there and is not as it was does not belong to it.
    let least = |index: usize| match recipe.param("lunette_base_blocks") {
        Some(Json::Array(blocks)) => match blocks.get(index) {
            Some(Json::Unsigned(least)) => *least,
            _ => 1,
        },
        _ => 1,
    };
    let array_info = entry.spec.bdev.info();
    let block_bytes = array_info.block_bytes;
    let doing = entry.spec.bdev.doing();
    let members = entry.spec.bases.iter().enumerate().map(|(index, base)| {
        let info = control.bdev(base).map(|entry| entry.spec.bdev.info());
        let fits = |info: &Info| info.blocks >= least(index) && info.block_bytes == block_bytes;
        let mut member = object! {
            "name": base,
            "uuid": info.as_ref().map_or(Json::Null, |info| uuid_text(&info.uuid).into()),
            "is_configured": info.as_ref().is_some_and(fits),
            "data_offset": 0u64,
            "data_size": info.map_or(0, |info| info.blocks),
        };
        if let Some(doing) = doing.get(index) {
            member.push("lunette_state", doing.word());
        }
        member
    });
    let members: Vec<Json> = members.collect();
    let there = |member: &&Json| member.member("is_configured") == Some(&Json::Bool(true));
    let (count, discovered) = (members.len() as u64, members.iter().filter(there).count() as u64);
    let current = doing.iter().filter(|doing| **doing == Doing::Current).count() as u64;
    let operational = if doing.is_empty() { discovered } else { current };
    let mut array = object! {
        "uuid": param("uuid"),
        "strip_size_kb": param("strip_size_kb"),
        "state": if is_online(entry) { "online" } else { "configuring" },
        "raid_level": param("raid_level"),
        "superblock": false,
        "num_base_bdevs": count,
        "num_base_bdevs_discovered": discovered,
        "num_base_bdevs_operational": operational,
        "base_bdevs_list": members,
    };
    let filled = entry.spec.bases.iter().zip(&doing).find_map(|(base, doing)| match doing {
        Doing::Filling(blocks) => Some((base, *blocks)),
        _ => None,
    });
    if let Some((target, blocks)) = filled {
        let percent = (u128::from(blocks) * 100).checked_div(array_info.blocks.into()).unwrap_or(0);
        let progress = object! { "blocks": blocks, "percent": u64::try_from(percent).unwrap_or(100) };
        array.push("process", object! { "type": "rebuild", "target": target, "progress": progress });
    }
    if let Some(missing) = entry.missing() {
        array.push("lunette_not_ready", missing);
    }
    array
}

params! {
    /// Of `bdev_raid_add_base_bdev`.
    pub(super) struct AddBase {
        /// The array.
        raid_bdev: String,
        /// What is to be added.
        base_bdev: String,
    }
}

fn add_base(context: &Context, params: AddBase) -> Outcome {
    context.made_by(&params.raid_bdev, RAID)?;
    context.base(&params.base_bdev)?;
    if let Some(outcome) = mirror::add(context, &params.raid_bdev, &params.base_bdev) {
        return outcome;
    }
    let why = format_args!("{}: its level has the members that it was made of", params.raid_bdev);
    Err(Fault::errno(Errno::PERM, why))
}

fn remove_base(context: &Context, params: Name) -> Outcome {
    let wanted = params.name.clone();
    let user = context.control(move |control, _| {
        let is_of = |entry: &&Entry| {
            Recipe::parse(&entry.spec.recipe).method() == RAID && entry.spec.bases.contains(&wanted)
        };
        control.bdevs().find(is_of).map(|entry| entry.name.clone())
    })?;
    match user {
        None => Err(no_bdev(&params.name)),
        Some(raid) => {
            if let Some(outcome) = mirror::remove(context, &raid, &params.name) {
                return outcome;
            }
            let why = format_args!("{raid} needs all of its members: delete it first (bdev_raid_delete)");
            Err(Fault::errno(Errno::PERM, why))
        }
    }
}
