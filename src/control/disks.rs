//! The UUID of a disk that is a file and was given none: found out once, then kept in the state file under the bdev's name.
//!
//! What a file is by itself ([`Own`]) is a number that file systems give again to another file, and some of them number their
//! devices anew with every start. So it counts only for a disk that is seen for the first time:
//! - a bdev that has the name and the path it had is the disk it was, whatever the file system says;
//! - one that was deleted is the same again only if its file is; a file of another name is one that was there under that;
//! - a file that has the number of another one that is gone gets a UUID that nobody has had.
//!
//! What is kept of a disk (reservations, access states, identity) has its UUID as a key. Disks of before this was kept have
//! the UUID that they had: nothing of theirs is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Control;
use super::error::{ChangeError, What};
use super::identity::bytes;
use super::registry::{NIL, uuid_text};
use super::store::Records;
use crate::bdev::file::{Own, own};
use crate::net::Net;

/// What a bdev is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// The file or block device; absolute.
    pub path: String,
    /// What is there; none where nothing is, or it cannot be seen.
    pub own: Option<Own>,
}

impl Source {
    /// Looks at a path, on a thread of its own: a file system may hang. Says too whether there is nothing, for certain.
    pub fn look(path: &Path, patience: Duration) -> (Source, bool) {
        let (seen, sight) = mpsc::sync_channel(1);
        let owned = path.to_owned();
        // Nobody may wait for it any more.
        let look = move || {
            let _ = seen.send(own(&owned));
        };
        let looking = std::thread::Builder::new().name("bdev-look".to_owned()).spawn(look);
        let seen = looking.ok().and_then(|_| sight.recv_timeout(patience).ok());
        let is_missing = matches!(&seen, Some(Err(error)) if error.kind() == io::ErrorKind::NotFound);
        let own = seen.and_then(Result::ok);
        (Source { path: path.to_string_lossy().into_owned(), own }, is_missing)
    }
}

/// What is kept of a disk.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Kept {
    source: Source,
    uuid: [u8; 16],
    /// Its bdev was deleted.
    is_deleted: bool,
}

impl Kept {
    fn is_file(&self, own: &Own) -> bool {
        self.source.own.as_ref().is_some_and(|former| {
            let is_same_age = former.born == own.born || former.born.is_none() || own.born.is_none();
            former.uuid == own.uuid && is_same_age
        })
    }

    fn has(&self, uuid: [u8; 16]) -> bool {
        self.uuid == uuid || self.source.own.as_ref().is_some_and(|own| own.uuid == uuid)
    }

    fn record(&self) -> Value {
        let Kept { source: Source { path, own }, uuid, is_deleted } = self;
        json!({
            "path": path,
            "uuid": uuid_text(uuid),
            "own": own.as_ref().map(|own| uuid_text(&own.uuid)),
            "born": own.as_ref().and_then(|own| own.born).map(|(seconds, ns)| json!([seconds, ns])),
            "deleted": is_deleted,
        })
    }

    fn read(record: &Value) -> Option<Kept> {
        let uuid = |name| bytes(record.get(name)?.as_str()?)?.as_slice().try_into().ok();
        let born = record.get("born").and_then(|born| {
            let ns = u32::try_from(born.get(1)?.as_u64()?).ok()?;
            Some((born.get(0)?.as_i64()?, ns))
        });
        Some(Kept {
            source: Source {
                path: record.get("path")?.as_str()?.to_owned(),
                own: uuid("own").map(|uuid| Own { uuid, born }),
            },
            uuid: uuid("uuid")?,
            is_deleted: record.get("deleted").and_then(Value::as_bool).unwrap_or_default(),
        })
    }
}

/// The kind of record that disks have.
const DISK: &str = "disk/";

fn key(bdev: &str) -> String {
    format!("{DISK}{bdev}")
}

fn all(records: &Records) -> impl Iterator<Item = (&str, Kept)> {
    let disks = records.range(DISK.to_owned()..).take_while(|(key, _)| key.starts_with(DISK));
    disks.filter_map(|(key, record)| Some((&key[DISK.len()..], Kept::read(record)?)))
}

/// The UUID of a bdev that was given none; none where it is to be what the medium is by itself. `is_made`: there is no such
/// file yet, it is about to be made. `fresh` is one that nobody has had.
pub fn uuid_of(
    records: &Records,
    bdev: &str,
    source: &Source,
    is_made: bool,
    fresh: [u8; 16],
) -> Option<[u8; 16]> {
    if is_made {
        return Some(fresh);
    }
    let kept = records.get(&key(bdev)).and_then(Kept::read);
    if let Some(kept) = kept.filter(|kept| !kept.is_deleted && kept.source.path == source.path) {
        return Some(kept.uuid);
    }
    let own = source.own.as_ref()?;
    if let Some((_, kept)) = all(records).find(|(_, kept)| kept.is_file(own)) {
        return Some(kept.uuid);
    }
    all(records).any(|(_, kept)| kept.has(own.uuid)).then_some(fresh)
}

/// Records of deleted disks that are forgotten when the state file is full.
const FORGOTTEN_AT_ONCE: usize = 1024;

/// The records of deleted disks, those first whose disk has no other record: as long as it has, they say which file that is of.
fn forgettable(records: &Records) -> Vec<String> {
    let others = records.keys().filter(|key| !key.starts_with(DISK));
    let needed: BTreeSet<&str> = others.filter_map(|key| key.split_once('/')).map(|(_, uuid)| uuid).collect();
    let deleted = all(records).filter(|(_, kept)| kept.is_deleted);
    let (last, first): (Vec<_>, Vec<_>) =
        deleted.partition(|(_, kept)| needed.contains(uuid_text(&kept.uuid).as_str()));
    first.into_iter().chain(last).map(|(name, _)| key(name)).collect()
}

/// What is kept of one disk, for lists.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptDisk {
    /// Its UUID in its usual form.
    pub uuid: String,
    /// Bdevs that are or were it, and of what they were made.
    pub bdevs: Vec<(String, String)>,
    /// Kinds of records: `alua`, `identity`, `identifying`, `reservations`, `sanitize`.
    pub kinds: Vec<String>,
    /// It is there.
    pub is_there: bool,
}

impl<N: Net> Control<N> {
    /// As [`uuid_of`], where anything is kept.
    pub fn kept_uuid(&self, bdev: &str, source: &Source, is_made: bool, fresh: [u8; 16]) -> Option<[u8; 16]> {
        uuid_of(self.store.records(), bdev, source, is_made, fresh).filter(|_| self.store.is_there())
    }

    /// A bdev was registered that is made of this. Its UUID is kept as soon as that is known.
    pub fn keep_disk(&mut self, bdev: &str, source: Source) {
        let Some(entry) = self.catalog.registry.get(bdev) else { return };
        match entry.spec.bdev.info().uuid {
            // Its medium is still to be found.
            NIL => self.catalog.registry.set_source(bdev, Some(source)),
            uuid => self.keep_uuid(bdev, source, uuid),
        }
    }

    /// The medium of a bdev has perhaps been found: then its UUID is what that is by itself.
    pub(super) fn keep_found(&mut self, bdev: &str) {
        let Some(entry) = self.catalog.registry.get(bdev) else { return };
        let (uuid, source) = (entry.spec.bdev.info().uuid, entry.source.clone());
        if let Some(source) = source.filter(|_| uuid != NIL) {
            self.catalog.registry.set_source(bdev, None);
            self.keep_uuid(bdev, Source { own: Some(Own { uuid, born: None }), ..source }, uuid);
        }
    }

    fn keep_uuid(&mut self, bdev: &str, source: Source, uuid: [u8; 16]) {
        let is_kept = self.store.get(&key(bdev)).and_then(Kept::read).is_some_and(|kept| {
            let is_same_source =
                kept.source == source || (kept.source.path == source.path && source.own.is_none());
            !kept.is_deleted && kept.uuid == uuid && is_same_source
        });
        if !self.store.is_there() || is_kept {
            return;
        }
        let kept = Kept { source, uuid, is_deleted: false };
        let record = Some(kept.record());
        if !self.store.fits(&key(bdev), record.as_ref()) {
            self.forget_deleted();
        }
        if self.store.fits(&key(bdev), record.as_ref()) {
            self.store.set(&key(bdev), record);
        } else {
            tracing::error!(bdev, "the state file is full: after a restart initiators may see another disk");
        }
        // Names that the same disk had.
        let former = all(self.store.records())
            .filter(|(name, kept)| *name != bdev && kept.is_deleted && kept.uuid == uuid);
        let former: Vec<String> = former.map(|(name, _)| key(name)).collect();
        former.iter().for_each(|key| self.store.set(key, None));
    }

    /// Makes room: of disks that were deleted nobody needs to know any more, first of those that nothing else is kept of.
    fn forget_deleted(&mut self) {
        let keys: Vec<String> =
            forgettable(self.store.records()).into_iter().take(FORGOTTEN_AT_ONCE).collect();
        tracing::info!(disks = keys.len(), "the state file is full: deleted disks are forgotten");
        keys.iter().for_each(|key| self.store.set(key, None));
    }

    /// A bdev was deleted: what comes under its name later is another disk, unless it is the same file.
    pub(super) fn let_go_of_disk(&mut self, bdev: &str) {
        if let Some(kept) = self.store.get(&key(bdev)).and_then(Kept::read) {
            self.store.set(&key(bdev), Some(Kept { is_deleted: true, ..kept }.record()));
        }
    }

    /// The disks that something is kept of.
    pub fn kept_disks(&self) -> Vec<KeptDisk> {
        let entries = self.catalog.registry.iter();
        let there: BTreeSet<String> = entries.map(|entry| uuid_text(&entry.spec.bdev.info().uuid)).collect();
        let mut disks: Vec<KeptDisk> = Vec::new();
        let mut known: BTreeMap<String, usize> = BTreeMap::new();
        let mut disk = |uuid: &str, change: &mut dyn FnMut(&mut KeptDisk)| {
            let index = *known.entry(uuid.to_owned()).or_insert_with(|| {
                let (bdevs, kinds) = (Vec::new(), Vec::new());
                disks.push(KeptDisk { uuid: uuid.to_owned(), bdevs, kinds, is_there: there.contains(uuid) });
                disks.len() - 1
            });
            change(&mut disks[index]);
        };
        for (name, kept) in all(self.store.records()) {
            disk(&uuid_text(&kept.uuid), &mut |disk| {
                disk.bdevs.push((name.to_owned(), kept.source.path.clone()));
            });
        }
        let records = self.store.records().keys().filter(|key| !key.starts_with(DISK));
        for (kind, uuid) in records.filter_map(|key| key.split_once('/')) {
            disk(uuid, &mut |disk| disk.kinds.push(kind.to_owned()));
        }
        disks
    }

    /// Forgets all that is kept of a disk that is not there.
    ///
    /// # Errors
    /// It is there, or nothing is kept of it.
    pub fn forget_disk(&mut self, uuid: [u8; 16]) -> Result<(), ChangeError> {
        let text = uuid_text(&uuid);
        if let Some(entry) = self.catalog.registry.get(&text) {
            return Err(ChangeError::InUse { name: entry.name.clone() });
        }
        let disks =
            all(self.store.records()).filter(|(_, kept)| kept.uuid == uuid).map(|(name, _)| key(name));
        let is_of = |key: &&String| key.split_once('/').is_some_and(|(_, of)| of == text);
        let keys: Vec<String> = self.store.records().keys().filter(is_of).cloned().chain(disks).collect();
        if keys.is_empty() {
            return Err(ChangeError::missing(What::Record, format!("of a disk {text}")));
        }
        keys.iter().for_each(|key| self.store.set(key, None));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
