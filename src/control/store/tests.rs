//! The store on a disk that loses power and fails, and the order of what waits.

mod fake;
mod power;

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::file::{self, Damaged};
use super::{Records, Saver, Store};
use crate::limits::{SAVE_NS, SAVE_RETRY_NS};
use crate::time::Tick;

/// A revision and its text.
type Order = (u64, Vec<u8>);

/// Keeps what it is to write.
#[derive(Clone, Debug, Default)]
struct Slow(Arc<Mutex<Vec<Order>>>);

impl Slow {
    fn take(&self) -> Option<(u64, Records)> {
        let mut orders = self.0.lock().unwrap();
        assert!(orders.len() < 2, "one write at a time");
        orders.pop().map(|(revision, text)| (revision, file::records(&text).unwrap()))
    }
}

impl Saver for Slow {
    fn save(&mut self, revision: u64, text: Vec<u8>) {
        self.0.lock().unwrap().push((revision, text));
    }
}

fn store() -> (Store<u8>, Slow) {
    let slow = Slow::default();
    (Store::new(Records::new(), Box::new(slow.clone())), slow)
}

fn one(number: u8) -> Option<Value> {
    Some(json!({ "number": number }))
}

const NOW: Tick = Tick::ZERO;

#[test]
fn the_file_is_this_text() {
    let records = Records::from([
        ("ports".to_owned(), json!({ "iqn.a:\"b\",1": 7 })),
        ("reservations/x".to_owned(), json!([1, "\u{e9}\n"])),
    ]);
    let text = file::text(&records);
    let body = "{\n\"ports\": {\"iqn.a:\\\"b\\\",1\":7},\n\"reservations/x\": [1,\"é\\n\"]\n}\n";
    let expected = format!("lunette-state 1 crc32c {:08x}\n{body}", 0xfa51_429b_u32);
    assert_eq!(String::from_utf8(text.clone()).unwrap(), expected);
    assert_eq!(file::records(&text), Ok(records));
    assert_eq!(file::records(&file::text(&Records::new())), Ok(Records::new()));
}

#[test]
fn no_change_of_a_byte_goes_unseen() {
    let text = file::text(&Records::from([("a".to_owned(), json!({ "b": [1, 2] }))]));
    for at in 0..text.len() {
        for bit in 0..8 {
            let mut changed = text.clone();
            changed[at] ^= 1 << bit;
            file::records(&changed).unwrap_err();
        }
        file::records(&text[..at]).unwrap_err();
    }
    assert_eq!(file::records(b"lunette-state 2 crc32c 00000000\n{}"), Err(Damaged::Head));
    assert_eq!(file::records(b""), Err(Damaged::Head));
    assert_eq!(file::records(b"lunette-state 1 crc32c 00000000\n{}"), Err(Damaged::Checksum));
}

#[test]
fn what_follows_comes_when_it_is_durable_and_one_write_serves_many() {
    let (mut store, disk) = store();
    assert_eq!(store.set_then("a", one(1), 1, NOW), None);
    let (revision, records) = disk.take().unwrap();
    assert_eq!(records, Records::from([("a".to_owned(), json!({ "number": 1 }))]));
    assert_eq!(store.set_then("b", one(2), 2, NOW), None);
    store.set("c", one(3));
    assert_eq!(store.set_then("a", None, 3, NOW), None);
    assert_eq!(disk.take(), None, "one write at a time");
    assert_eq!(store.saved(revision, true, NOW), [(1, true)]);
    let (revision, records) = disk.take().unwrap();
    assert_eq!(records.keys().collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(store.saved(revision - 1, true, NOW), [], "not this one");
    assert_eq!(store.saved(revision, true, NOW), [(2, true), (3, true)]);
    assert_eq!(disk.take(), None);
    assert_eq!(store.set_then("b", one(2), 4, NOW), Some(4), "it is there");
    assert_eq!(store.deadline(), None);
}

#[test]
fn what_is_as_it_was_but_not_durable_yet_is_waited_for() {
    let (mut store, disk) = store();
    store.set("a", one(1));
    let (revision, _) = disk.take().unwrap();
    assert_eq!(store.set_then("a", one(1), 1, NOW), None);
    assert_eq!(store.saved(revision, true, NOW), [(1, true)]);
}

#[test]
fn a_failed_write_takes_back_what_was_waited_for_and_is_tried_again() {
    let (mut store, disk) = store();
    store.set("kept", one(7));
    let (revision, _) = disk.take().unwrap();
    assert_eq!(store.set_then("a", one(1), 1, NOW), None);
    assert_eq!(store.set_then("a", one(2), 2, NOW), None);
    assert_eq!(store.set_then("kept", one(8), 3, NOW), None);
    assert_eq!(store.saved(revision, false, NOW), [(1, false), (2, false), (3, false)]);
    assert_eq!((store.get("a"), store.get("kept")), (None, one(7).as_ref()));
    assert_eq!(disk.take(), None);
    let later = NOW.after_ns(SAVE_RETRY_NS);
    assert_eq!(store.deadline(), Some(later));
    assert_eq!(store.expire(later), []);
    let (revision, records) = disk.take().unwrap();
    assert_eq!(records, Records::from([("kept".to_owned(), json!({ "number": 7 }))]));
    assert_eq!(store.saved(revision, true, later), []);
    assert_eq!(store.deadline(), None);
}

#[test]
fn a_disk_that_does_not_answer_is_not_waited_for_longer() {
    let (mut store, disk) = store();
    assert_eq!(store.set_then("a", one(1), 1, NOW), None);
    let (revision, _) = disk.take().unwrap();
    let late = NOW.after_ns(SAVE_NS);
    assert_eq!(store.deadline(), Some(late));
    assert_eq!(store.expire(late), [(1, false)]);
    assert_eq!(store.get("a"), None);
    // It comes after all: then what is there by now is written over it.
    assert_eq!(store.saved(revision, true, late), []);
    assert_eq!(disk.take().unwrap().1, Records::new());
}

#[test]
fn without_a_place_nothing_is_saved_and_nobody_waits() {
    let mut store = Store::default();
    assert_eq!(store.set_then("a", one(1), 1, NOW), Some(1));
    assert!(!store.is_there());
    assert_eq!(store.get("a"), one(1).as_ref());
    assert_eq!(store.deadline(), None);
}
