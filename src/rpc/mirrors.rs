//! Mirrors (RAID 1) beside control: what makes one that was kept the same again, and the threads that watch over them.

use std::fmt::Debug;
use std::sync::{Mutex, Weak};
use std::time::Duration;

use rustix::io::Errno;

use super::context::{Context, lock};
use super::fault::Fault;
use super::recipes::Recipe;
use crate::bdev::raid::mirror::{Handle, News, Record, Records};
use crate::control::Control;
use crate::net::kernel::KernelNet;

/// What a mirror had in devices is waited for so often, each time so long.
const WAITS: (u32, Duration) = (1000, Duration::from_millis(10));

/// The mirrors, by what can be said to them. Those that are gone are here until nothing of theirs is in a device.
#[derive(Debug, Default)]
pub(super) struct Mirrors(Mutex<Vec<Handle>>);

impl Mirrors {
    pub(super) fn push(&self, handle: Handle) {
        lock(&self.0).push(handle);
    }

    /// The one of this name.
    pub(super) fn get(&self, name: &str) -> Option<Handle> {
        lock(&self.0).iter().find(|handle| handle.name() == name && !handle.is_over()).cloned()
    }

    /// Waits until nothing is in a device of mirrors that are gone: another one could have the same members.
    pub(super) fn wait(&self) -> Result<(), Fault> {
        for _ in 0..WAITS.0 {
            let mut handles = lock(&self.0);
            handles.retain(|handle| !handle.is_ended());
            if !handles.iter().any(Handle::is_over) {
                return Ok(());
            }
            drop(handles);
            std::thread::sleep(WAITS.1);
        }
        Err(Fault::errno(Errno::BUSY, "a device keeps IO of an array that was deleted"))
    }
}

/// Keeps what a mirror is in the state file.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) context: Weak<Context>,
    pub(super) uuid: [u8; 16],
    /// Its name.
    pub(super) array: String,
}

impl Records for Kept {
    fn save(&mut self, record: &Record) -> Result<(), String> {
        let context = self.context.upgrade().ok_or_else(|| "the daemon stops".to_owned())?;
        let (uuid, record) = (self.uuid, record.clone());
        let kept = context.control_and_wait(move |control, _, done| control.keep_array(&uuid, &record, done));
        let kept = kept.map_err(|fault| fault.text())?.map_err(|error| error.to_string())?;
        if kept.is_saved { Ok(()) } else { Err("the state file cannot be written".to_owned()) }
    }

    fn tell(&mut self, news: News<'_>) {
        let array = &self.array;
        match news {
            News::NotSaved(error) => {
                tracing::error!(array, error, "which members of the array have all data cannot be saved");
            }
            News::Unclean => {
                tracing::info!(
                    array,
                    "the array was not stopped in peace, or made again: members are filled from one of them"
                );
            }
            News::Missing => {
                tracing::warn!(
                    array,
                    "members that were current are not there: they are out until they are filled"
                );
            }
            News::Out(member) => {
                tracing::error!(array, member, "the member is out of the array: the others go on without");
            }
            News::Filling(member) => tracing::info!(array, member, "the member is being filled"),
            News::Filled(member) => tracing::info!(array, member, "the member has all data"),
            News::NotFilled(member, error) => {
                tracing::error!(array, member, ?error, "the member could not be filled: it is tried again");
            }
            News::NotFlushed { member, filled, error } => {
                tracing::error!(
                    array,
                    member,
                    filled,
                    ?error,
                    "the member could not flush: who was being filled is filled anew"
                );
            }
            News::NoWay(member) => {
                tracing::error!(
                    array,
                    member,
                    "the member could not be filled: beside the reactors there is no way to a member, or no memory; it is tried again"
                );
            }
        }
    }
}

/// Whether a bdev forgets what it holds when the daemon ends.
pub(super) fn is_volatile(control: &Control<KernelNet>, name: &str) -> bool {
    let Some(entry) = control.bdev(name) else { return false };
    let method = Recipe::parse(&entry.spec.recipe);
    matches!(method.method(), "bdev_malloc_create" | "bdev_null_create")
        || matches!(entry.spec.product.as_str(), "Malloc disk" | "Null disk")
        || entry.spec.bases.iter().any(|base| is_volatile(control, base))
}

/// A member: its name, and what it is by itself where it is there.
pub(super) type Member = (String, Option<[u8; 16]>);

/// What a mirror is to be, by what is kept.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// This one; with its record.
    Kept([u8; 16], Record),
    /// Nothing is kept of it, nor of its members.
    New,
}

/// Looks for what is kept: by UUID, or else by members.
///
/// # Errors
/// A member is one of another array's, or what is kept makes no sense.
pub(super) fn find(
    control: &Control<KernelNet>,
    uuid: Option<[u8; 16]>,
    members: &[Member],
) -> Result<Found, Fault> {
    let known: Vec<[u8; 16]> = members.iter().filter_map(|(_, own)| *own).collect();
    let is_same = |record: &Record| {
        record.members.len() == members.len()
            && known.len() == members.len()
            && known.iter().all(|own| record.members.contains(own))
    };
    let all: Vec<([u8; 16], Option<Record>)> = control.kept_arrays().collect();
    let uuid = uuid.or_else(|| {
        all.iter().find(|(_, record)| record.as_ref().is_some_and(is_same)).map(|(uuid, _)| *uuid)
    });
    for (other, record) in all.iter().filter(|(other, _)| Some(*other) != uuid) {
        let theirs = record.as_ref().map_or(&[][..], |record| &record.members);
        let is_theirs = |own: Option<[u8; 16]>| own.is_some_and(|own| theirs.contains(&own));
        if let Some((name, _)) = members.iter().find(|(_, own)| is_theirs(*own)) {
            let other = crate::control::registry::uuid_text(other);
            let why = format_args!(
                "{name} is of the array {other}, which says whether its data are old: give that uuid, or forget it (lunette_forget_disk)"
            );
            return Err(Fault::errno(Errno::BUSY, why));
        }
    }
    match uuid.and_then(|uuid| Some((uuid, control.kept_array(&uuid)?))) {
        None => Ok(Found::New),
        Some((uuid, Some(record))) => Ok(Found::Kept(uuid, record)),
        Some((_, None)) => Err(Fault::internal("what the state file has of the array makes no sense")),
    }
}

/// Members of mirrors that are not there are anybody's from now on: see [`Control::doubt_absent_arrays`].
pub(super) fn doubt_absent(context: &Context) {
    let doubted = context.control_and_wait(|control, _, done| {
        control.doubt_absent_arrays(done);
        Ok(())
    });
    if !matches!(doubted, Ok(Ok(outcome)) if outcome.is_saved) {
        let why = "the state file cannot be written: members of arrays that are not there are still said to be equal";
        tracing::error!("{why}");
    }
}

/// Waits until a mirror that was started can be used, for a while. Whether it can.
pub(super) fn wait_begun(handle: &Handle) -> bool {
    (0..500).any(|_| {
        handle.is_begun() || {
            std::thread::sleep(WAITS.1);
            false
        }
    })
}
