use super::*;

const FRESH: [u8; 16] = [0xff; 16];

fn source(path: &str, number: u8, born: Option<i64>) -> Source {
    let own = Own { uuid: [number; 16], born: born.map(|seconds| (seconds, 5)) };
    Source { path: path.to_owned(), own: Some(own) }
}

fn kept(disks: &[(&str, Source, u8, bool)]) -> Records {
    let record = |(bdev, source, uuid, is_deleted): &(&str, Source, u8, bool)| {
        let kept = Kept { source: source.clone(), uuid: [*uuid; 16], is_deleted: *is_deleted };
        (key(bdev), kept.record())
    };
    disks.iter().map(record).collect()
}

/// The first byte of the UUID that a disk has, or 0 where it is what its file is by itself.
fn uuid(records: &Records, bdev: &str, source: &Source) -> u8 {
    uuid_of(records, bdev, source, false, FRESH).map_or(0, |uuid| uuid[0])
}

#[test]
fn a_record_says_all_that_is_kept() {
    let records = kept(&[("a", source("/a", 1, Some(-7)), 9, true)]);
    let text = "{\"path\":\"/a\",\"uuid\":\"09090909-0909-0909-0909-090909090909\",\
                \"own\":\"01010101-0101-0101-0101-010101010101\",\"born\":[-7,5],\"deleted\":true}";
    assert_eq!(records["disk/a"], serde_json::from_str::<Value>(text).unwrap());
    let (_, read) = all(&records).next().unwrap();
    assert_eq!(read.record(), records["disk/a"]);
    let nothing = Source { path: "/b".to_owned(), own: None };
    let without = Kept { source: nothing, uuid: [3; 16], is_deleted: false };
    assert_eq!(Kept::read(&without.record()), Some(without));
    assert_eq!(Kept::read(&json!({ "path": "/a", "uuid": "09" })), None);
}

#[test]
fn a_disk_that_is_seen_for_the_first_time_is_what_its_file_is() {
    assert_eq!(uuid(&Records::new(), "a", &source("/a", 1, None)), 0);
    let others = kept(&[("b", source("/b", 2, None), 2, false)]);
    assert_eq!(uuid(&others, "a", &source("/a", 1, None)), 0);
    // One that is about to be made is new, whatever was there before.
    let former = kept(&[("a", source("/a", 1, None), 9, false)]);
    assert_eq!(uuid_of(&former, "a", &Source { path: "/a".to_owned(), own: None }, true, FRESH), Some(FRESH));
}

#[test]
fn a_bdev_of_one_name_and_path_stays_the_disk_that_it_was() {
    let records = kept(&[("a", source("/a", 1, Some(7)), 1, false)]);
    // The file system numbers its devices anew; the file was restored from a copy; it is not there yet.
    assert_eq!(uuid(&records, "a", &source("/a", 2, Some(7))), 1);
    assert_eq!(uuid(&records, "a", &source("/a", 2, Some(8))), 1);
    assert_eq!(uuid(&records, "a", &Source { path: "/a".to_owned(), own: None }), 1);
    // Another file is another disk.
    assert_eq!(uuid(&records, "a", &source("/other", 2, Some(8))), 0);
}

#[test]
fn an_inode_that_is_used_again_inherits_nothing() {
    let records = kept(&[("a", source("/a", 1, Some(7)), 1, true)]);
    assert_eq!(uuid(&records, "b", &source("/b", 1, Some(8))), 0xff);
    // Under the old name neither, once that was deleted.
    assert_eq!(uuid(&records, "a", &source("/a", 1, Some(8))), 0xff);
    // It is the same file still: under its own name, or another.
    assert_eq!(uuid(&records, "a", &source("/a", 1, Some(7))), 1);
    assert_eq!(uuid(&records, "b", &source("/b", 1, Some(7))), 1);
    // Where files have no age, the inode has to do.
    assert_eq!(uuid(&records, "b", &source("/b", 1, None)), 1);
    // The UUID that a disk was given may be what a file is by itself.
    let given = kept(&[("a", source("/a", 3, Some(7)), 1, true)]);
    assert_eq!(uuid(&given, "b", &source("/b", 1, Some(7))), 0xff);
}

#[test]
fn what_was_deleted_and_has_no_other_record_is_forgotten_first() {
    let mut records = kept(&[
        ("a", source("/a", 1, None), 1, true),
        ("b", source("/b", 2, None), 2, false),
        ("c", source("/c", 3, None), 3, true),
    ]);
    records.insert("reservations/01010101-0101-0101-0101-010101010101".to_owned(), json!({}));
    assert_eq!(forgettable(&records), ["disk/c", "disk/a"]);
}
