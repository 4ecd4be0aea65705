//! The model made one that can be loaded: what lunette would refuse is left out or changed here, and told.

use std::net::SocketAddr;

use super::identity::Identity;
use super::model::{Account, Auth, Disk, Model, PortalGroup, Target};
use super::report::{Place, Report};
use crate::iscsi::login::iscsi_name;
use crate::limits::{ALIAS_BYTES_MAX, CHAP_NAME_BYTES_MAX, CHAP_SECRET_BYTES_MAX};

/// Settles a model. `listen`: where to listen instead of at every address, where that is asked for.
pub(super) fn settle(model: &mut Model, listen: &[SocketAddr], place: &Place, report: &mut Report) {
    if !listen.is_empty() {
        replace_wildcards(model, listen);
    }
    part_portals(model, place, report);
    let mut names: Vec<String> = Vec::new();
    model.targets.retain_mut(|target| {
        let is_new = !names.contains(&target.name.to_lowercase());
        if iscsi_name(&target.name).is_none() || !is_new {
            let why = if is_new { "it is no iSCSI name" } else { "another target has it" };
            report.cannot(place, format_args!("target {:?}: {why}; it was left out", target.name));
            return false;
        }
        names.push(target.name.to_lowercase());
        if target.alias.len() > ALIAS_BYTES_MAX || target.alias.chars().any(char::is_control) {
            report.cannot(
                place,
                format_args!("target {}: its alias is too long, or cannot be printed", target.name),
            );
            target.alias.clear();
        }
        settle_auth(&mut target.auth, place, report);
        target.luns.sort_by_key(|lun| lun.number);
        true
    });
    settle_auth(&mut model.options.discovery, place, report);
    for auth in model.portal_groups.iter_mut().filter_map(|group| group.discovery.as_mut()) {
        settle_auth(auth, place, report);
    }
    part_identities(&mut model.disks, place, report);
}

/// Puts addresses where a group listens at every one.
fn replace_wildcards(model: &mut Model, listen: &[SocketAddr]) {
    for group in &mut model.portal_groups {
        if group.portals.iter().any(|portal| portal.ip().is_unspecified()) {
            group.portals.retain(|portal| !portal.ip().is_unspecified());
            group
                .portals
                .extend(listen.iter().filter(|portal| !group.portals.contains(portal)).collect::<Vec<_>>());
        }
    }
}

/// Whether two portals cannot both be listened on.
fn collide(one: &SocketAddr, other: &SocketAddr) -> bool {
    let is_wild = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.is_ipv4() == other.is_ipv4() && (one.ip() == other.ip() || is_wild)
}

/// Gives each portal a group of its own where groups have portals in common: a portal of lunette's is in one.
fn part_portals(model: &mut Model, place: &Place, report: &mut Report) {
    let groups = &model.portal_groups;
    let crosses = |(index, group): (usize, &PortalGroup)| {
        let others = groups
            .iter()
            .enumerate()
            .filter(move |(other, _)| *other != index)
            .flat_map(|(_, group)| &group.portals);
        others.into_iter().any(|other| group.portals.iter().any(|portal| collide(portal, other)))
    };
    if !groups.iter().enumerate().any(crosses) {
        return;
    }
    // Addresses before those that stand for all of them: these lead to whatever is listened on by name.
    let mut portals: Vec<SocketAddr> =
        groups.iter().flat_map(|group| group.portals.iter().copied()).collect();
    portals.sort_by_key(|portal| portal.ip().is_unspecified());
    let mut parted: Vec<SocketAddr> = Vec::new();
    for portal in portals {
        if !parted.iter().any(|known| collide(known, &portal)) {
            parted.push(portal);
        }
    }
    report.changed(
        place,
        "portal groups have portals in common: each portal has a group of its own from now on, and who was to be reached at every \
         address is reached at those that are named (see --portal)",
    );
    let tags = |old: u16| -> Vec<u16> {
        let Some(group) = groups.iter().find(|group| group.tag == old) else { return Vec::new() };
        let is_of = |portal: &SocketAddr| group.portals.iter().any(|wanted| collide(wanted, portal));
        parted.iter().zip(1..).filter(|(portal, _)| is_of(portal)).map(|(_, tag)| tag).collect()
    };
    for target in &mut model.targets {
        let mut found: Vec<u16> = target.portal_groups.iter().flat_map(|(tag, _)| tags(*tag)).collect();
        found.sort_unstable();
        found.dedup();
        target.redirects = target
            .redirects
            .iter()
            .flat_map(|(tag, to, is_permanent)| {
                tags(*tag).into_iter().map(move |tag| (tag, *to, *is_permanent))
            })
            .collect();
        target.states = target
            .states
            .iter()
            .flat_map(|(tag, lun, state, is_preferred)| {
                tags(*tag).into_iter().map(move |tag| (tag, *lun, *state, *is_preferred))
            })
            .collect();
        for ways in target.access.iter_mut().filter_map(|access| access.ways.as_mut()) {
            let mut found: Vec<u16> = ways.iter().flat_map(|tag| tags(*tag)).collect();
            found.sort_unstable();
            found.dedup();
            *ways = found;
        }
        target.portal_groups = found.into_iter().map(|tag| (tag, None)).collect();
    }
    let discovery = |portal: &SocketAddr| {
        groups.iter().find(|group| group.portals.contains(portal)).and_then(|group| group.discovery.clone())
    };
    let group = |(portal, tag): (&SocketAddr, u16)| PortalGroup {
        tag,
        portals: vec![*portal],
        discovery: discovery(portal),
    };
    model.portal_groups = parted.iter().zip(1..).map(group).collect();
}

/// Leaves out accounts that nobody can have.
fn settle_auth(auth: &mut Auth, place: &Place, report: &mut Report) {
    let (Auth::Either(accounts) | Auth::Chap(accounts) | Auth::Mutual(accounts)) = auth else { return };
    let is_name =
        |name: &str| (1..=CHAP_NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    let is_secret = |secret: &str| (1..=CHAP_SECRET_BYTES_MAX).contains(&secret.len());
    accounts.retain_mut(|Account { user, secret, target }| {
        if !is_name(user) || !is_secret(secret) {
            report.cannot(place, format_args!("the account {user:?}: its name or secret is empty or too long; it was left out"));
            return false;
        }
        match target {
            // RFC 7143 §9.2.1.
            Some((_, other)) if other == secret => {
                report.cannot(
                    place,
                    format_args!("the account {user}: initiator and target have the same secret; the target does not prove itself to it"),
                );
                *target = None;
            }
            Some((name, secret)) if !is_name(name) || !is_secret(secret) => {
                report.cannot(place, format_args!("the target's account for {user}: its name or secret is empty or too long"));
                *target = None;
            }
            _ => {}
        }
        true
    });
}

/// Two disks must not be taken for two ways to one.
fn part_identities(disks: &mut [Disk], place: &Place, report: &mut Report) {
    for index in 1..disks.len() {
        let (before, rest) = disks.split_at_mut(index);
        let Some(disk) = rest.first_mut() else { return };
        let Some(other) = before.iter().find(|other| shares(&other.identity, &disk.identity)) else {
            continue;
        };
        report.changed(
            place,
            format_args!(
                "{} says that it is {}: it has designators of lunette's own from now on",
                disk.name, other.name
            ),
        );
        let Identity { naa, eui64, designators, .. } = &mut disk.identity;
        (*naa, *eui64) = (None, None);
        designators.clear();
    }
}

/// Whether two identities have a name in common.
fn shares(one: &Identity, other: &Identity) -> bool {
    one.naa.is_some() && one.naa == other.naa
        || one.eui64.is_some() && one.eui64 == other.eui64
        || one.designators.iter().any(|designator| other.designators.contains(designator))
}

/// The LUNs of a target, in words.
pub(super) fn numbers(target: &Target) -> String {
    let mut numbers: Vec<u16> = target.luns.iter().map(|lun| lun.number).collect();
    numbers.sort_unstable();
    let list = numbers.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    match numbers.len() {
        0 => "no LUN".to_owned(),
        1 => format!("LUN {list}"),
        _ => format!("LUNs {list}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::model::{Access, Backing};

    fn groups(groups: &[&[&str]]) -> Model {
        let mut model = Model::default();
        let mut target = Target::new("iqn.2026-11.example:t");
        for (portals, tag) in groups.iter().zip(1..) {
            let portals = portals.iter().map(|portal| portal.parse().unwrap()).collect();
            model.portal_groups.push(PortalGroup { tag, portals, discovery: None });
        }
        target.portal_groups = vec![(2, Some(9))];
        model.targets.push(target);
        model
    }

    /// Portal groups by tag.
    type Groups = Vec<(u16, Vec<String>)>;

    /// The groups, and those of the target.
    fn settled(mut model: Model, listen: &[&str]) -> (Groups, Vec<(u16, Option<u16>)>) {
        let listen: Vec<SocketAddr> = listen.iter().map(|portal| portal.parse().unwrap()).collect();
        settle(&mut model, &listen, &Place::new("f", 0), &mut Report::default());
        let shown =
            |group: &PortalGroup| (group.tag, group.portals.iter().map(SocketAddr::to_string).collect());
        (model.portal_groups.iter().map(shown).collect(), model.targets[0].portal_groups.clone())
    }

    #[test]
    fn groups_without_a_portal_in_common_stay() {
        let (groups, tags) = settled(groups(&[&["192.0.2.1:1", "[::1]:1"], &["192.0.2.2:1", "[::]:2"]]), &[]);
        assert_eq!(groups[1].1, ["192.0.2.2:1", "[::]:2"]);
        assert_eq!(tags, [(2, Some(9))]);
    }

    #[test]
    fn a_portal_of_two_groups_has_one_of_its_own() {
        let (groups, tags) =
            settled(groups(&[&["192.0.2.1:1", "192.0.2.2:1"], &["0.0.0.0:1", "192.0.2.2:2"]]), &[]);
        let of = |portal: &str| vec![portal.to_owned()];
        assert_eq!(groups, [(1, of("192.0.2.1:1")), (2, of("192.0.2.2:1")), (3, of("192.0.2.2:2"))]);
        assert_eq!(tags, [(1, None), (2, None), (3, None)], "by every address");
    }

    #[test]
    fn who_comes_by_some_portal_groups_does_so_by_the_parted_ones() {
        let mut model =
            groups(&[&["192.0.2.1:1", "192.0.2.2:1"], &["192.0.2.2:1", "192.0.2.3:1"], &["192.0.2.4:1"]]);
        let access = |ways: &[u16]| Access { ways: Some(ways.to_vec()), ..Access::any() };
        model.targets[0].access = vec![access(&[2]), access(&[1, 2]), access(&[3]), Access::any()];
        settle(&mut model, &[], &Place::new("f", 0), &mut Report::default());
        assert_eq!(model.portal_groups[2].portals, ["192.0.2.3:1".parse().unwrap()]);
        let ways = model.targets[0].access.iter().map(|access| access.ways.clone());
        let expected = [Some(vec![2, 3]), Some(vec![1, 2, 3]), Some(vec![4]), None];
        assert_eq!(ways.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_operator_says_where_to_listen() {
        let (groups, _) =
            settled(groups(&[&["192.0.2.1:1"], &["0.0.0.0:3260", "[::]:3260"]]), &["192.0.2.9:3260"]);
        assert_eq!(groups[1].1, ["192.0.2.9:3260"]);
    }

    #[test]
    fn accounts_that_nobody_can_have_are_left_out() {
        let account = |user: &str, secret: &str, target: Option<(&str, &str)>| Account {
            user: user.to_owned(),
            secret: secret.to_owned(),
            target: target.map(|(user, secret)| (user.to_owned(), secret.to_owned())),
        };
        let mut auth = Auth::Chap(vec![
            account("a", "one", Some(("t", "two"))),
            account("b", "two", Some(("t", "two"))),
            account("c", "", None),
            account("", "x", None),
            account("d", "x", Some(("", "y"))),
        ]);
        settle_auth(&mut auth, &Place::new("f", 0), &mut Report::default());
        let expected =
            [account("a", "one", Some(("t", "two"))), account("b", "two", None), account("d", "x", None)];
        assert_eq!(auth.accounts(), expected);
    }

    #[test]
    fn two_disks_do_not_say_the_same() {
        let mut model = Model::default();
        for serial in ["1", "2"] {
            let mut disk = model.new_disk(Backing::Null { bytes: 512 }, &[serial]);
            disk.identity.naa = Some(vec![0x30; 8]);
            disk.identity.serial = Some(serial.to_owned());
            model.disks.push(disk);
        }
        let mut report = Report::default();
        settle(&mut model, &[], &Place::new("f", 0), &mut report);
        assert_eq!(model.disks[0].identity.naa, Some(vec![0x30; 8]));
        assert_eq!(
            (&model.disks[1].identity.naa, model.disks[1].identity.serial.as_deref()),
            (&None, Some("2"))
        );
        assert!(report.to_string().starts_with("f: changed: null-2 says that it is null"), "{report}");
    }

    #[test]
    fn targets_have_names_and_each_its_own() {
        let mut model = Model::default();
        model.targets = ["iqn.2026-11.example:a", "store", "IQN.2026-11.example:A"].map(Target::new).to_vec();
        settle(&mut model, &[], &Place::new("f", 0), &mut Report::default());
        assert_eq!(
            model.targets.iter().map(|target| target.name.as_str()).collect::<Vec<_>>(),
            ["iqn.2026-11.example:a"]
        );
    }
}
