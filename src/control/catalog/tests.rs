//! What may be served, and what views come out.

use super::*;
use crate::bdev::null::Null;

fn null(name: &str) -> Arc<dyn Bdev> {
    Arc::new(Null::new(name.to_owned(), 8, 512, [7; 16]))
}

fn mapping(number: u16, unit: u32) -> Mapping {
    Mapping { number: LunNumber(number), unit: UnitId(unit), read_only: false }
}

fn spec(name: &str, mappings: Vec<Mapping>) -> TargetSpec {
    let (alias, portals) = (String::new(), Vec::new());
    TargetSpec { name: name.to_owned(), alias, mappings, portals, rules: Rules::OPEN }
}

fn catalog() -> Catalog {
    let portals = ["192.0.2.1:3260", "0.0.0.0:3261", "[::]:3262"];
    let mut catalog = Catalog::new(portals.map(|portal| portal.parse().unwrap()).to_vec());
    catalog.add_unit(null("d0"), "null").unwrap();
    catalog.add_unit(null("d1"), "null").unwrap();
    catalog
}

#[test]
fn luns_are_in_order_and_given_once() {
    let mut catalog = catalog();
    let view = catalog.add_target(spec("iqn.a", vec![mapping(7, 1), mapping(0, 0)])).unwrap();
    assert_eq!(view.mappings, [mapping(0, 0), mapping(7, 1)]);
    assert_eq!(catalog.add_lun("iqn.a", mapping(7, 0)), Err(CatalogError::LunTaken(7)));
    assert_eq!(catalog.add_lun("iqn.a", mapping(8, 2)), Err(CatalogError::NoUnit));
    assert_eq!(catalog.remove_lun("iqn.a", LunNumber(1)), Err(CatalogError::NoLun(1)));
    assert_eq!(catalog.remove_lun("iqn.a", LunNumber(0)).unwrap().mappings, [mapping(7, 1)]);
    let twice = spec("iqn.b", vec![mapping(0, 0), mapping(0, 1)]);
    assert_eq!(catalog.add_target(twice), Err(CatalogError::LunTaken(0)));
    assert!(catalog.target("iqn.b").is_none());
}

#[test]
fn names_are_folded_and_unique() {
    let mut catalog = catalog();
    assert_eq!(
        catalog.add_target(spec("IQN.2026-11.io.Example:A", Vec::new())).unwrap().name,
        "iqn.2026-11.io.example:a"
    );
    let again = catalog.add_target(spec("iqn.2026-11.io.example:a", Vec::new()));
    assert_eq!(again, Err(CatalogError::TargetExists("iqn.2026-11.io.example:a".to_owned())));
    assert_eq!(catalog.add_unit(null("d0"), "null"), Err(CatalogError::UnitExists("d0".to_owned())));
    for name in ["", "iqn.", "disk", "iqn.a b", "iqn.a\nb", "iqn.a/b", &format!("iqn.{}", "a".repeat(220))] {
        assert_eq!(
            catalog.add_target(spec(name, Vec::new())),
            Err(CatalogError::Name(name.to_owned())),
            "{name}"
        );
    }
}

#[test]
fn relative_ports_are_unique() {
    let mut catalog = catalog();
    let mut port = |name| catalog.add_target(spec(name, Vec::new())).unwrap().relative_port;
    assert_eq!([port("iqn.a"), port("iqn.b"), port("iqn.c")], [1, 2, 3]);
}

#[test]
fn a_portal_on_every_address_is_told_as_the_address_that_was_reached() {
    let mut catalog = catalog();
    let view = catalog.add_target(spec("iqn.a", Vec::new())).unwrap();
    assert_eq!(view.portals, ["192.0.2.1:3260"]);
    let told = |local: &str| {
        let target = catalog.target("iqn.a").unwrap();
        target.view_for(catalog.portals(), local.parse().unwrap()).portals
    };
    assert_eq!(told("198.51.100.9:3261"), ["192.0.2.1:3260", "198.51.100.9:3261"]);
    assert_eq!(told("[2001:db8::1]:3262"), ["192.0.2.1:3260", "[2001:db8::1]:3262"]);
}

#[test]
fn a_target_can_be_at_some_portals_only() {
    let mut catalog = catalog();
    let view = catalog.add_target(TargetSpec { portals: vec![1], ..spec("iqn.a", Vec::new()) }).unwrap();
    assert_eq!(view.portals, [""; 0]);
    let target = catalog.target("iqn.a").unwrap();
    assert_eq!([target.is_at(0), target.is_at(1)], [false, true]);
    let nowhere = TargetSpec { portals: vec![3], ..spec("iqn.b", Vec::new()) };
    assert_eq!(catalog.add_target(nowhere), Err(CatalogError::NoPortal(3)));
}

#[test]
fn a_unit_keeps_its_identity_when_read_again() {
    let mut catalog = catalog();
    let before = UnitView::clone(catalog.unit(UnitId(0)).unwrap());
    assert_eq!(catalog.reread_unit(UnitId(0)), Ok(before.clone()));
    let smaller = Arc::new(UnitView { blocks: 4, ..before.clone() });
    assert_eq!(*catalog.replace_unit(smaller).unwrap(), before);
    assert_eq!(catalog.unit(UnitId(0)).unwrap().blocks, 4);
    assert_eq!(catalog.reread_unit(UnitId(9)), Err(CatalogError::NoUnit));
}
