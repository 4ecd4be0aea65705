//! The store on a disk that loses power and fails, and the order of what waits.

mod fake;
mod power;

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::file::{self, Damaged, Lines};
use super::{Changes, Records, Saver, Store};
use crate::limits::{RECORDS_MAX, SAVE_NS, SAVE_RETRY_NS};
use crate::time::Tick;

/// What the file is to say, and what is to be written of it.
#[derive(Debug, Default)]
struct Orders {
    lines: Lines,
    /// Revisions and their texts.
    texts: Vec<(u64, Vec<u8>)>,
}

/// Keeps what it is to write.
#[derive(Clone, Debug, Default)]
struct Slow(Arc<Mutex<Orders>>);

impl Slow {
    fn holding(records: &Records) -> Slow {
        Slow(Arc::new(Mutex::new(Orders { lines: file::lines(records), texts: Vec::new() })))
    }

    fn take(&self) -> Option<(u64, Records)> {
        let texts = &mut self.0.lock().unwrap().texts;
        assert!(texts.len() < 2, "one write at a time");
        texts.pop().map(|(revision, text)| (revision, file::records(&text).unwrap()))
    }
}

impl Saver for Slow {
    fn save(&mut self, revision: u64, changes: Changes) {
        let mut orders = self.0.lock().unwrap();
        changes.apply(&mut orders.lines);
        let text = file::text(&orders.lines);
        orders.texts.push((revision, text));
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
    let text = file::text(&file::lines(&records));
    let body = "{\n\"ports\": {\"iqn.a:\\\"b\\\",1\":7},\n\"reservations/x\": [1,\"é\\n\"]\n}\n";
    let expected = format!("lunette-state 1 crc32c {:08x}\n{body}", 0xfa51_429b_u32);
    assert_eq!(String::from_utf8(text.clone()).unwrap(), expected);
    assert_eq!(file::records(&text).as_ref(), Ok(&records));
    assert_eq!(file::records(&file::text(&Lines::new())), Ok(Records::new()));
    assert_eq!(file::text_bytes(2, file::lines(&records).values().map(String::len).sum()), text.len() + 1);
}

#[test]
fn no_change_of_a_byte_goes_unseen() {
    let text = file::text(&file::lines(&Records::from([("a".to_owned(), json!({ "b": [1, 2] }))])));
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

#[test]
fn a_file_that_could_not_be_read_back_is_not_written() {
    let (mut store, disk) = store();
    store.limit(1000);
    assert!(store.fits("a", one(1).as_ref()));
    let long = |bytes: usize| Some(Value::from("x".repeat(bytes)));
    // Head, braces, the line's key and quotes.
    let rest = file::text_bytes(1, r#""a": """#.len());
    let most = 1000 - rest;
    assert!(store.fits("a", long(most).as_ref()) && !store.fits("a", long(most + 1).as_ref()));
    assert_eq!(store.set_then("a", long(most), 1, NOW), None);
    let (revision, records) = disk.take().unwrap();
    assert_eq!(store.saved(revision, true, NOW), [(1, true)]);
    assert!(file::text(&file::lines(&records)).len() <= 1000);
    assert!(!store.fits("b", one(1).as_ref()) && store.fits("a", one(1).as_ref()) && store.fits("b", None));
    // What is taken back makes room again.
    assert_eq!(store.set_then("a", None, 2, NOW), None);
    assert!(store.fits("b", one(1).as_ref()));
    let (revision, _) = disk.take().unwrap();
    assert_eq!(store.saved(revision, false, NOW), [(2, false)]);
    assert!(!store.fits("b", one(1).as_ref()));
    let many: Records = (0..RECORDS_MAX).map(|number| (number.to_string(), Value::Null)).collect();
    let store: Store<u8> = Store::new(many, Box::new(disk));
    assert!(!store.fits("one more", one(1).as_ref()) && store.fits("7", one(1).as_ref()));
}
