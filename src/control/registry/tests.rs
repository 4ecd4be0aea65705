use super::*;
use crate::bdev::null::Null;

fn spec(name: &str, number: u8, bases: &[&str]) -> BdevSpec {
    BdevSpec {
        bdev: Arc::new(Null::new(name.to_owned(), 8, 512, [number; 16])),
        product: "null".to_owned(),
        recipe: String::new(),
        bases: bases.iter().map(|&base| base.to_owned()).collect(),
    }
}

fn registry(bdevs: &[(&str, &[&str])]) -> Registry {
    let mut registry = Registry::default();
    for (number, (name, bases)) in (0..).zip(bdevs) {
        registry.register(spec(name, number, bases), [9; 16], |_| false).unwrap();
    }
    registry
}

#[test]
fn a_bdev_is_found_by_name_and_by_uuid() {
    let registry = registry(&[("a", &[]), ("b", &[])]);
    assert_eq!(registry.get("01010101-0101-0101-0101-010101010101").unwrap().name, "b");
    assert_eq!(registry.get("a").unwrap().name, "a");
    assert!(registry.get("c").is_none());
    let uuid =
        [0xf8, 0x1d, 0x4f, 0xae, 0x7d, 0xec, 0x11, 0xd0, 0xa7, 0x65, 0x00, 0xa0, 0xc9, 0x1e, 0x6b, 0xf6];
    assert_eq!(uuid_text(&uuid), "f81d4fae-7dec-11d0-a765-00a0c91e6bf6");
}

#[test]
fn names_and_media_are_unique_and_bases_are_used_once() {
    let mut registry = registry(&[("a", &[]), ("b", &[]), ("over a", &["a"])]);
    let mut add = |name, number, bases: &[&str], is_mapped: bool| {
        registry.register(spec(name, number, bases), [9; 16], |_| is_mapped)
    };
    assert_eq!(add("a", 9, &[], false), Err(ChangeError::exists(What::Bdev, "a")));
    let uuid = "01010101-0101-0101-0101-010101010101";
    let same = add("c", 1, &[], false).unwrap_err();
    assert_eq!(
        same.to_string(),
        format!(
            "bdev c is the same disk as bdev b, or a copy of its UUID {uuid}: serve one, or give this one a UUID of its own"
        )
    );
    assert_eq!(add("c", 9, &["d"], false), Err(ChangeError::missing(What::Bdev, "d")));
    let claimed = ChangeError::Claimed { name: "a".to_owned(), by: "over a".to_owned() };
    assert_eq!(add("c", 9, &["a"], false), Err(claimed.clone()));
    assert_eq!(registry.unit_of("a"), Err(claimed));
    registry.unit_of("b").unwrap();
    let mapped = ChangeError::Mapped("b".to_owned());
    assert_eq!(registry.register(spec("c", 9, &["b"]), [9; 16], |_| true), Err(mapped));
    // A unit that no LUN leads to any more does no harm.
    registry.register(spec("c", 9, &["b"]), [9; 16], |_| false).unwrap();
}

#[test]
fn a_bdev_takes_with_it_what_is_made_of_it() {
    let mut registry = registry(&[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &[])]);
    assert_eq!(registry.leave("a").unwrap(), ["c", "b", "a"]);
    let leaving = ChangeError::leaving(What::Bdev, "b");
    assert_eq!(registry.leave("b"), Err(leaving.clone()));
    assert_eq!(registry.unit_of("b"), Err(leaving));
    assert_eq!(registry.remove("c").unwrap().info().name, "c");
    assert_eq!(registry.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["a", "b", "d"]);
}

#[test]
fn a_unit_is_made_once_and_its_index_used_again_under_another_name() {
    let mut registry = registry(&[("a", &[]), ("b", &[])]);
    let a = registry.unit_of("a").unwrap();
    assert_eq!(registry.take_made().iter().map(|(view, _)| view.id).collect::<Vec<_>>(), [a]);
    assert_eq!((a, registry.unit_of("a")), (UnitId::new(0, 0), Ok(a)));
    assert!(registry.take_made().is_empty());
    assert_eq!(registry.view(a).unwrap().blocks, 8);
    registry.remove("a").unwrap();
    assert!(registry.view(a).is_none());
    let b = registry.unit_of("b").unwrap();
    assert_eq!((b.index(), b == a), (0, false));
    assert_eq!(registry.entry_of(b).unwrap().name, "b");
    assert!(registry.entry_of(a).is_none());
}

#[test]
fn a_unit_keeps_its_identity_when_read_again() {
    let mut registry = registry(&[("a", &[])]);
    let id = registry.unit_of("a").unwrap();
    let before = UnitView::clone(registry.view(id).unwrap());
    assert_eq!(registry.reread(id), Ok(before.clone()));
    let smaller = Arc::new(UnitView { blocks: 4, ..before.clone() });
    assert_eq!(*registry.replace(smaller).unwrap(), before);
    assert_eq!(registry.view(id).unwrap().blocks, 4);
    registry.reread(UnitId::new(0, 1)).unwrap_err();
}
