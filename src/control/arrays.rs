//! What is kept of mirrors: which of their members may be read (`array/UUID`, [`crate::bdev::raid::mirror`]).

use serde_json::{Value, json};

use super::Control;
use super::done::{Done, Outcome};
use super::error::ChangeError;
use super::identity::bytes;
use super::registry::uuid_text;
use super::saving::AfterSave;
use crate::bdev::raid::mirror::Record;
use crate::net::Net;

/// The kind of record that mirrors have.
const ARRAY: &str = "array/";

/// What is kept of a mirror; none where that makes no sense.
pub type KeptArray = Option<Record>;

fn record(record: &Record) -> Value {
    let texts = |uuids: &[[u8; 16]]| uuids.iter().map(uuid_text).collect::<Vec<String>>();
    json!({
        "blocks": record.blocks,
        "block_size": record.block_bytes,
        "members": texts(&record.members),
        "current": texts(&record.current),
        "dirty": record.is_dirty,
    })
}

fn read(record: &Value) -> KeptArray {
    let uuid = |text: &Value| bytes(text.as_str()?)?.as_slice().try_into().ok();
    let uuids = |name| record.get(name)?.as_array()?.iter().map(uuid).collect::<Option<Vec<[u8; 16]>>>();
    Some(Record {
        blocks: record.get("blocks")?.as_u64()?,
        block_bytes: u32::try_from(record.get("block_size")?.as_u64()?).ok()?,
        members: uuids("members")?,
        current: uuids("current")?,
        is_dirty: record.get("dirty")?.as_bool()?,
    })
}

impl<N: Net> Control<N> {
    /// Whether there is a place where something can be kept.
    pub fn has_state_file(&self) -> bool {
        self.store.is_there()
    }

    /// What is kept of a mirror; none where nothing is.
    pub fn kept_array(&self, uuid: &[u8; 16]) -> Option<KeptArray> {
        self.store.get(&format!("{ARRAY}{}", uuid_text(uuid))).map(read)
    }

    /// The mirrors that something is kept of.
    pub fn kept_arrays(&self) -> impl Iterator<Item = ([u8; 16], KeptArray)> {
        let arrays = self.store.records().range(ARRAY.to_owned()..);
        let arrays = arrays.take_while(|(key, _)| key.starts_with(ARRAY));
        arrays.filter_map(|(key, record)| {
            let uuid = bytes(key.strip_prefix(ARRAY)?)?.as_slice().try_into().ok()?;
            Some((uuid, read(record)))
        })
    }

    /// Keeps what a mirror is; `done` when that is durable, or is not going to be.
    ///
    /// # Errors
    /// There is no state file, or no room in it.
    pub fn keep_array(&mut self, uuid: &[u8; 16], kept: &Record, done: Done) -> Result<(), ChangeError> {
        let (key, value) = (format!("{ARRAY}{}", uuid_text(uuid)), record(kept));
        if !self.store.is_there() {
            return Err(ChangeError::NoState);
        }
        self.check_fits(Some(&key), Some(&value))?;
        self.save(Some(&key), Some(value), AfterSave::Array(done));
        Ok(())
    }

    /// Of mirrors that are not there members are anybody's: from now on nobody says that they hold the same. `done` when that is durable, or
    /// is not going to be.
    pub fn doubt_absent_arrays(&mut self, done: Done) {
        let is_absent = |uuid: &[u8; 16]| self.bdev(&uuid_text(uuid)).is_none_or(|entry| entry.is_leaving);
        let absent = self.kept_arrays().filter(|(uuid, _)| is_absent(uuid));
        let clean = absent.filter_map(|(uuid, kept)| Some((uuid, kept.filter(|kept| !kept.is_dirty)?)));
        let clean: Vec<([u8; 16], Record)> = clean.collect();
        let mut left = clean.len();
        let mut done = Some(done);
        for (uuid, kept) in clean {
            left -= 1;
            let key = format!("{ARRAY}{}", uuid_text(&uuid));
            let value = record(&Record { is_dirty: true, ..kept });
            // What is saved before the last one is durable no later.
            let last = done.take_if(|_| left == 0).unwrap_or_else(Done::nobody);
            self.save(Some(&key), Some(value), AfterSave::Array(last));
        }
        done.into_iter().for_each(|done| self.array_kept(done, true));
    }

    pub(super) fn array_kept(&self, done: Done, is_saved: bool) {
        done.call(Outcome { is_clean: true, is_saved, bdevs: Vec::new() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again() {
        let kept = Record {
            blocks: 1 << 40,
            block_bytes: 4096,
            members: vec![[1; 16], [2; 16]],
            current: vec![[2; 16]],
            is_dirty: true,
        };
        let mut value = record(&kept);
        assert_eq!(read(&value), Some(kept));
        value["current"] = json!(["no UUID"]);
        assert_eq!(read(&value), None);
    }
}
