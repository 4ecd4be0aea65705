//! What may be served, to whom, and what views come out.

use super::*;
use crate::bdev::Bdev;
use crate::bdev::null::Null;
use crate::control::access::{InitiatorGroup, NameRule, Netmask};
use crate::control::auth::Auth;
use crate::control::error::What;
use crate::control::portals::{Portal, PortalGroup};
use crate::control::registry::BdevSpec;
use crate::net::kernel::KernelNet;
use crate::scsi::view::LunNumber;

const ALICE: Who<'static> =
    Who { initiator: "iqn.alice", address: std::net::IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 5)) };
const BOB: Who<'static> = Who { initiator: "iqn.bob", ..ALICE };

fn bdev(name: &str, number: u8) -> BdevSpec {
    let bdev: Arc<dyn Bdev> = Arc::new(Null::new(name.to_owned(), 8, 512, [number; 16]));
    BdevSpec { bdev, product: "null".to_owned(), recipe: String::new(), bases: Vec::new() }
}

fn spec(name: &str, luns: &[(&str, Option<u16>)], maps: &[(u16, u32)]) -> NewTarget {
    NewTarget {
        name: name.to_owned(),
        alias: String::new(),
        luns: luns.iter().map(|&(bdev, number)| (bdev.to_owned(), number.map(LunNumber))).collect(),
        maps: maps.to_vec(),
        auth: Auth::default(),
        demands_header_digest: false,
        demands_data_digest: false,
        queue_depth: 64,
        relative_ports: Vec::new(),
    }
}

fn portal_group(tag: u16, addresses: &[&str]) -> PortalGroup {
    let portals = addresses.iter().map(|address| Portal::without_listener(address.parse().unwrap()));
    PortalGroup { tag, portals: portals.collect(), is_private: false, is_started: true, discovery: None }
}

fn add_portals(catalog: &mut Catalog, group: PortalGroup) {
    catalog.portals.add(group, &mut KernelNet::new(1).unwrap()).unwrap();
}

/// Bdevs d0 and d1; portal groups 1 and 2; initiator group 1 for all, 2 for Alice.
fn catalog() -> Catalog {
    let mut catalog = Catalog::new(Options::default());
    for (number, name) in (0..).zip(["d0", "d1"]) {
        catalog.registry.register(bdev(name, number), [9; 16], |_| false).unwrap();
    }
    add_portals(&mut catalog, portal_group(1, &["192.0.2.1:3260", "0.0.0.0:3261", "[::]:3262"]));
    add_portals(&mut catalog, portal_group(2, &["192.0.2.2:3260"]));
    catalog.initiators.create(InitiatorGroup::any(1)).unwrap();
    let initiators = vec![NameRule::parse("iqn.alice").unwrap()];
    catalog.initiators.create(InitiatorGroup { initiators, ..InitiatorGroup::any(2) }).unwrap();
    catalog
}

fn create(catalog: &mut Catalog, spec: &NewTarget) -> String {
    catalog.create_target(spec).unwrap()
}

fn refused(catalog: &mut Catalog, spec: &NewTarget) -> ChangeError {
    catalog.create_target(spec).unwrap_err()
}

/// What SendTargets tells of every target.
fn told(catalog: &Catalog, who: Who<'_>, local: &str) -> Vec<(String, Vec<String>)> {
    let mut all = Vec::new();
    let mut out = |view: &TargetView| all.push((view.name.clone(), view.portals.clone()));
    catalog.send_targets(who, local.parse().unwrap(), Which::All, &mut out);
    all
}

fn numbers(catalog: &Catalog, name: &str) -> Vec<u16> {
    catalog.targets.get(name).unwrap().mappings.iter().map(|mapping| mapping.number.0).collect()
}

#[test]
fn luns_are_in_order_and_given_once() {
    let mut catalog = catalog();
    create(&mut catalog, &spec("iqn.a", &[("d1", Some(7)), ("d0", None), ("d0", None)], &[(1, 1)]));
    assert_eq!(numbers(&catalog, "iqn.a"), [0, 1, 7]);
    assert_eq!(catalog.targets.get("iqn.a").unwrap().port(1).unwrap().mappings.len(), 3);
    for (luns, error) in [
        (&[("d0", Some(0)), ("d1", Some(0))][..], ChangeError::exists(What::Lun, 0)),
        (&[("d0", Some(16384))], ChangeError::LunNumber(16384)),
        (&[("d2", Some(0))], ChangeError::missing(What::Bdev, "d2")),
    ] {
        assert_eq!(refused(&mut catalog, &spec("iqn.b", luns, &[(1, 1)])), error);
        assert!(catalog.targets.get("iqn.b").is_none());
    }
    let target = catalog.targets.find("iqn.a").unwrap();
    assert_eq!(target.unmap(LunNumber(2)), Err(ChangeError::missing(What::Lun, 2)));
    target.unmap(LunNumber(0)).unwrap();
    assert_eq!(target.free_lun(None), Ok(LunNumber(0)));
    assert_eq!(catalog.refresh("iqn.a", &|_, _| true)[0].mappings.len(), 2);
}

#[test]
fn names_are_made_whole_folded_and_unique() {
    let mut catalog = catalog();
    assert_eq!(create(&mut catalog, &spec("IQN.2026-11.io.Example:A", &[], &[])), "iqn.2026-11.io.example:a");
    assert_eq!(create(&mut catalog, &spec("disk1", &[], &[])), "iqn.2016-06.io.spdk:disk1");
    let again = refused(&mut catalog, &spec("iqn.2026-11.io.example:a", &[], &[]));
    assert_eq!(again, ChangeError::exists(What::Target, "iqn.2026-11.io.example:a"));
    for (name, whole) in [
        ("iqn.", "iqn."),
        ("eui.1", "eui.1"),
        ("a b", "iqn.2016-06.io.spdk:a b"),
        ("a\nb", "iqn.2016-06.io.spdk:a\nb"),
        ("iqn.a/b", "iqn.a/b"),
        ("\u{e9}", "iqn.2016-06.io.spdk:\u{e9}"),
    ] {
        let result = catalog.create_target(&spec(name, &[], &[]));
        if name == "\u{e9}" {
            // A letter like others.
            assert_eq!(result.as_deref(), Ok(whole));
        } else {
            assert_eq!(result, Err(ChangeError::TargetName(whole.to_owned())));
        }
    }
    let long = format!("iqn.{}", "a".repeat(220));
    assert_eq!(refused(&mut catalog, &spec(&long, &[], &[])), ChangeError::TargetName(long));
    let alias = NewTarget { alias: "a\0TargetName=b".to_owned(), ..spec("iqn.b", &[], &[]) };
    assert_eq!(refused(&mut catalog, &alias), ChangeError::Alias("a\0TargetName=b".to_owned()));
}

#[test]
fn a_target_that_is_leaving_keeps_its_name_and_nobody_sees_it() {
    let mut catalog = catalog();
    create(&mut catalog, &spec("iqn.a", &[], &[(1, 1)]));
    catalog.targets.find("iqn.a").unwrap().is_leaving = true;
    let leaving = ChangeError::leaving(What::Target, "iqn.a");
    assert_eq!(catalog.targets.find("iqn.a").unwrap_err(), leaving);
    assert_eq!(refused(&mut catalog, &spec("iqn.a", &[], &[])), leaving);
    assert_eq!(catalog.admit("iqn.a", 1, ALICE).unwrap_err(), Refusal::NotFound);
    assert_eq!((told(&catalog, ALICE, "192.0.2.1:3260").len(), catalog.infos().count()), (0, 0));
    catalog.targets.forget("iqn.a");
    create(&mut catalog, &spec("iqn.a", &[], &[]));
}

#[test]
fn a_target_has_a_port_for_each_portal_group() {
    let mut catalog = catalog();
    create(&mut catalog, &spec("iqn.a", &[], &[(2, 1), (1, 1), (2, 2)]));
    create(&mut catalog, &spec("iqn.b", &[], &[(1, 1)]));
    let ports = |catalog: &Catalog, name: &str| -> Vec<_> {
        let ports = &catalog.targets.get(name).unwrap().ports;
        ports.iter().map(|view| (view.portal_group, view.relative_port)).collect()
    };
    assert_eq!((ports(&catalog, "iqn.a"), ports(&catalog, "iqn.b")), (vec![(2, 1), (1, 2)], vec![(1, 3)]));
    assert_eq!(catalog.admit("iqn.a", 2, ALICE).unwrap().target.portal_group, 2);
    // A port stays for the sessions that came by it, and comes back under the identifier that it had.
    catalog.targets.find("iqn.a").unwrap().remove_maps(&[(2, 1), (2, 2)]).unwrap();
    let changed = catalog.refresh("iqn.a", &|_, tag| tag == 2);
    assert_eq!((ports(&catalog, "iqn.a"), changed.len()), (vec![(2, 1), (1, 2)], 2));
    catalog.refresh("iqn.a", &|_, _| false);
    assert_eq!(ports(&catalog, "iqn.a"), [(1, 2)]);
    let Catalog { targets, portals, initiators, .. } = &mut catalog;
    targets.find("iqn.a").unwrap().add_maps(&[(2, 1)], portals, initiators).unwrap();
    catalog.refresh("iqn.a", &|_, _| false);
    assert_eq!(ports(&catalog, "iqn.a"), [(1, 2), (2, 1)]);
}

#[test]
fn maps_name_groups_that_are_there_and_change_by_all_or_nothing() {
    let mut catalog = catalog();
    create(&mut catalog, &spec("iqn.a", &[], &[(1, 1)]));
    let Catalog { targets, portals, initiators, .. } = &mut catalog;
    let target = targets.find("iqn.a").unwrap();
    let mut add = |maps: &[(u16, u32)]| target.add_maps(maps, portals, initiators);
    assert_eq!(add(&[(2, 1), (3, 1)]), Err(ChangeError::missing(What::PortalGroup, 3)));
    assert_eq!(add(&[(2, 1), (2, 3)]), Err(ChangeError::missing(What::InitiatorGroup, 3)));
    let twice = add(&[(2, 1), (1, 1)]).unwrap_err();
    assert_eq!(twice.to_string(), "there is a map of portal group 1 and initiator group 1 already");
    target.remove_maps(&[(1, 1), (2, 2)]).unwrap_err();
    assert_eq!(target.maps, [(1, 1)]);
    assert_eq!(catalog.drop_portals(1, &|_, _| true).len(), 1);
    assert_eq!(catalog.targets.get("iqn.a").unwrap().maps, []);
}

#[test]
fn initiators_come_by_the_portal_groups_that_lead_to_them() {
    let mut catalog = catalog();
    create(&mut catalog, &spec("iqn.a", &[], &[(1, 2), (2, 1)]));
    let admit = |catalog: &Catalog, tag, who| catalog.admit("iqn.a", tag, who).map(|_| ());
    assert_eq!(admit(&catalog, 1, ALICE), Ok(()));
    assert_eq!(admit(&catalog, 1, BOB), Err(Refusal::Forbidden));
    assert_eq!(admit(&catalog, 2, BOB), Ok(()));
    assert_eq!(admit(&catalog, 3, BOB), Err(Refusal::NotFound));
    assert_eq!(told(&catalog, BOB, "192.0.2.1:3260"), [("iqn.a".into(), vec!["192.0.2.2:3260,2".into()])]);
    let both = vec!["192.0.2.1:3260,1".into(), "192.0.2.1:3261,1".into(), "192.0.2.2:3260,2".into()];
    assert_eq!(told(&catalog, ALICE, "192.0.2.1:3260"), [("iqn.a".into(), both)]);
    let group = catalog.initiators.get_mut(2).unwrap();
    group.netmasks = vec![Netmask::parse("127.0.0.0/8").unwrap()];
    assert_eq!(admit(&catalog, 1, ALICE), Err(Refusal::Forbidden), "from elsewhere");
    assert_eq!(told(&catalog, ALICE, "192.0.2.1:3260"), [("iqn.a".into(), vec!["192.0.2.2:3260,2".into()])]);
}

#[test]
fn who_is_kept_out_by_one_group_is_not_let_in_by_a_later_one() {
    let mut catalog = catalog();
    let initiators = vec![NameRule::parse("!iqn.bob").unwrap()];
    catalog.initiators.create(InitiatorGroup { initiators, ..InitiatorGroup::any(3) }).unwrap();
    create(&mut catalog, &spec("iqn.a", &[], &[(1, 3), (1, 1)]));
    assert_eq!(catalog.admit("iqn.a", 1, BOB).unwrap_err(), Refusal::Forbidden);
    assert!(catalog.admit("iqn.a", 1, ALICE).is_ok());
    assert!(told(&catalog, BOB, "192.0.2.1:3260").is_empty());
}

#[test]
fn a_portal_on_every_address_is_told_as_the_address_that_was_reached() {
    let mut catalog = catalog();
    create(&mut catalog, &spec("iqn.a", &[], &[(1, 1)]));
    // To a session only what can be told beforehand.
    assert_eq!(catalog.admit("iqn.a", 1, ALICE).unwrap().target.portals, ["192.0.2.1:3260,1"]);
    let at = |local| told(&catalog, ALICE, local).remove(0).1;
    assert_eq!(at("198.51.100.9:3261"), ["192.0.2.1:3260,1", "198.51.100.9:3261,1"]);
    assert_eq!(at("[2001:db8::1]:3262"), ["192.0.2.1:3260,1", "[2001:db8::1]:3262,1"]);
}

#[test]
fn private_groups_and_those_that_wait_are_not_told() {
    let mut catalog = catalog();
    add_portals(&mut catalog, PortalGroup { is_private: true, ..portal_group(3, &["192.0.2.3:3260"]) });
    add_portals(&mut catalog, PortalGroup { is_started: false, ..portal_group(4, &["192.0.2.4:3260"]) });
    create(&mut catalog, &spec("iqn.a", &[], &[(3, 1), (2, 1), (4, 1)]));
    create(&mut catalog, &spec("iqn.b", &[], &[(3, 1)]));
    let told = told(&catalog, ALICE, "192.0.2.3:3260");
    assert_eq!(told, [("iqn.a".into(), vec!["192.0.2.2:3260,2".into()])]);
    assert!(catalog.admit("iqn.b", 3, ALICE).is_ok(), "it can be come to all the same");
}

#[test]
fn while_a_target_is_drained_logins_are_put_off_where_they_may_come_at_all() {
    let mut catalog = catalog();
    create(&mut catalog, &spec("iqn.a", &[], &[(1, 2), (2, 1)]));
    catalog.targets.find("iqn.a").unwrap().is_draining = true;
    assert_eq!(catalog.admit("iqn.a", 2, ALICE).map(drop), Err(Refusal::ServiceUnavailable));
    assert_eq!(catalog.admit("iqn.a", 1, BOB).map(drop), Err(Refusal::Forbidden));
    catalog.targets.find("iqn.a").unwrap().is_draining = false;
    assert!(catalog.admit("iqn.a", 2, ALICE).is_ok());
}

#[test]
fn a_login_is_sent_elsewhere_where_it_may_come_at_all() {
    let mut catalog = catalog();
    add_portals(&mut catalog, PortalGroup { is_private: true, ..portal_group(3, &["192.0.2.3:3260"]) });
    create(&mut catalog, &spec("iqn.a", &[], &[(1, 2), (2, 1), (3, 1)]));
    let to: SocketAddr = "192.0.2.3:3260".parse().unwrap();
    catalog.set_redirect("iqn.A", 1, Some("[2001:db8::1]:3261".parse().unwrap()), false).unwrap();
    catalog.set_redirect("iqn.a", 1, Some(to), false).unwrap();
    let admit = |catalog: &Catalog, tag, who| catalog.admit("iqn.a", tag, who).map(|_| ());
    assert_eq!(admit(&catalog, 1, ALICE), Err(Refusal::MovedTemporarily("192.0.2.3:3260".to_owned())));
    assert_eq!(admit(&catalog, 1, BOB), Err(Refusal::Forbidden));
    assert_eq!((admit(&catalog, 2, BOB), admit(&catalog, 3, BOB)), (Ok(()), Ok(())));
    // Discovery tells what it told.
    assert_eq!(told(&catalog, ALICE, "192.0.2.2:3260")[0].1.len(), 3);
    let mut refused =
        |tag, to: &str| catalog.set_redirect("iqn.a", tag, Some(to.parse().unwrap()), false).unwrap_err();
    assert_eq!(refused(4, "192.0.2.3:3260"), ChangeError::missing(What::PortalGroup, 4));
    for (tag, to, expected) in [
        (3, "192.0.2.1:3260", "portal group 3: it is private: who comes there has been redirected already"),
        (2, "192.0.2.2:3260", "portal group 2: that address is one of its own portals"),
        (2, "0.0.0.0:3260", "portal group 2: initiators need an address and a port"),
        (2, "192.0.2.3:0", "portal group 2: initiators need an address and a port"),
    ] {
        assert_eq!(refused(tag, to).to_string(), expected);
    }
    // It goes with the map, and does not come back with it.
    let initiators = [(1, 2)];
    catalog.targets.find("iqn.a").unwrap().remove_maps(&initiators).unwrap();
    let _ = catalog.refresh("iqn.a", &|_, _| false);
    let not_there = catalog.set_redirect("iqn.a", 1, Some(to), false).unwrap_err();
    assert_eq!(not_there.to_string(), "portal group 1: it does not lead to the target");
    let Catalog { targets, portals, initiators: groups, .. } = &mut catalog;
    targets.find("iqn.a").unwrap().add_maps(&initiators, portals, groups).unwrap();
    let _ = catalog.refresh("iqn.a", &|_, _| false);
    assert_eq!(admit(&catalog, 1, ALICE), Ok(()));
    catalog.set_redirect("iqn.a", 1, Some(to), false).unwrap();
    catalog.set_redirect("iqn.a", 1, None, false).unwrap();
    assert_eq!(admit(&catalog, 1, ALICE), Ok(()));
}

/// Portal group and relative target port identifier of each port of a target, and the identifiers that each tells of.
fn ports(catalog: &Catalog, name: &str) -> (Vec<(u16, u16)>, Vec<u16>) {
    let views = &catalog.targets.get(name).unwrap().ports;
    assert!(views.iter().all(|view| view.ports == views[0].ports && view.port_group == view.relative_port));
    (views.iter().map(|view| (view.portal_group, view.relative_port)).collect(), views[0].ports.clone())
}

#[test]
fn ports_get_the_identifiers_that_they_had_or_new_ones() {
    let mut catalog = catalog();
    let with = |name: &str, maps: &[(u16, u32)], relative_ports: &[(u16, u16)]| NewTarget {
        relative_ports: relative_ports.to_vec(),
        ..spec(name, &[], maps)
    };
    create(&mut catalog, &with("iqn.a", &[(1, 1)], &[(1, 2)]));
    create(&mut catalog, &with("iqn.b", &[(1, 1), (2, 1)], &[]));
    assert_eq!(ports(&catalog, "iqn.a"), (vec![(1, 2)], vec![2]));
    assert_eq!(ports(&catalog, "iqn.b"), (vec![(1, 1), (2, 3)], vec![1, 3]));
    create(&mut catalog, &with("iqn.c", &[(1, 1), (2, 1)], &[(1, 9), (2, 4)]));
    assert_eq!(ports(&catalog, "iqn.c"), (vec![(1, 9), (2, 4)], vec![4, 9]));
    for wanted in [[(1, 9), (2, 5)], [(1, 5), (2, 5)], [(1, 5), (2, 0)]] {
        let error = refused(&mut catalog, &with("iqn.d", &[(1, 1), (2, 1)], &wanted));
        assert!(matches!(error, ChangeError::RelativePort(_)), "{error}");
    }
    // Sessions hear of a port that has come, as the other ports tell of it.
    let Catalog { targets, portals, initiators, .. } = &mut catalog;
    targets.find("iqn.a").unwrap().add_maps(&[(2, 1)], portals, initiators).unwrap();
    let changed = catalog.refresh("iqn.a", &|_, _| true);
    assert_eq!(
        changed.iter().map(|view| (view.relative_port, view.ports.len())).collect::<Vec<_>>(),
        [(2, 2)]
    );
    assert_eq!(ports(&catalog, "iqn.a"), (vec![(1, 2), (2, 5)], vec![2, 5]));
}
