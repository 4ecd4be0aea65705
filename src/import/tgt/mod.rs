//! tgt (stgt): `targets.conf` as `tgt-admin` reads it, and what `tgtadm --op show` prints.
//!
//! Who a disk is depends on numbers that stand nowhere in the file: `tgt-admin` takes targets by name and stores by path,
//! and numbers them in that order. So is it done here.

mod blocks;
mod lun;
pub(super) mod show;

use super::keys;
use super::model::{Access, Account, Auth, FIRST_GROUP, Model, Target};
use super::report::{ImportError, Place, Report};
use super::settle;
use super::source::{Files, Source};
use super::text::{self, is_initiator_rule, netmask, number};
use blocks::Node;

/// The port that IANA gave to iSNS.
const ISNS_PORT: u16 = 3205;

/// Reads files.
///
/// # Errors
/// The first line that is no such file's.
pub(super) fn import(
    sources: &[Source],
    files: &dyn Files,
    model: &mut Model,
    report: &mut Report,
) -> Result<(), ImportError> {
    let mut nodes = Vec::new();
    for source in sources {
        nodes.extend(blocks::read(source, files)?);
    }
    model.listen_everywhere();
    if let Some(node) = nodes.first() {
        report.maps(
            &node.place.at(0),
            "portals: targets.conf has none, tgtd listens on every address at port 3260",
        );
    }
    let (targets, globals): (Vec<&Node>, Vec<&Node>) = nodes.iter().partition(|node| node.key == "target");
    let driver = globals.iter().find(|node| node.key == "default-driver").map_or("iscsi", |node| &node.value);
    globals_of(&globals, model, report);
    let mut sorted: Vec<&Node> = targets;
    sorted.sort_by(|a, b| a.value.cmp(&b.value));
    let mut tid = 0;
    for (index, node) in sorted.iter().enumerate() {
        if index > 0 && sorted[index - 1].value == node.value {
            return Err(ImportError::new(
                &node.place,
                format_args!("the target {} stands there twice", node.value),
            ));
        }
        tid = controller_tid(node).unwrap_or(tid + 1);
        target(node, tid, driver, model, report);
    }
    Ok(())
}

/// The number that a target asks for.
fn controller_tid(node: &Node) -> Option<u64> {
    let asked = node.inside.iter().flatten().find(|node| node.key == "controller_tid")?;
    number(&asked.value).filter(|tid| *tid <= u64::from(u16::MAX))
}

fn globals_of(globals: &[&Node], model: &mut Model, report: &mut Report) {
    let mut isns = (None, ISNS_PORT, false);
    let (mut incoming, mut outgoing) = (Vec::new(), None);
    for node in globals {
        let Node { place, key, value, .. } = *node;
        match key.as_str() {
            "default-driver" | "ignore-errors" | "control-port" => {}
            "iSNS" => isns.2 = text::truth(value) == Some(true),
            "iSNSServerIP" => isns.0 = text::address(value, ISNS_PORT).map(|server| server.ip()),
            "iSNSServerPort" => isns.1 = value.parse().unwrap_or(ISNS_PORT),
            "iSNSAccessControl" if text::truth(value) == Some(true) => {
                report.cannot(place, "iSNSAccessControl: who may come is said by initiator groups");
            }
            "iSNSAccessControl" => {}
            "incomingdiscoveryuser" => incoming.push(account(value, place, report)),
            "outgoingdiscoveryuser" => outgoing = account(value, place, report),
            _ => report.cannot(place, format_args!("{key}: not known")),
        }
    }
    if !incoming.is_empty() {
        model.options.discovery = chap(incoming, outgoing);
    }
    if let (Some(ip), port, true) = isns {
        model.options.isns = Some(std::net::SocketAddr::new(ip, port));
    }
}

/// A user and a secret. tgt-admin cuts them at white space, and takes quotes for a part of the secret.
fn account(value: &str, place: &Place, report: &mut Report) -> Option<(String, String)> {
    let mut words = value.split_whitespace();
    let account = words.next().zip(words.next()).map(|(user, secret)| (user.to_owned(), secret.to_owned()));
    if account.is_none() {
        report.cannot(place, "an account is a user and a secret");
    }
    account
}

/// Every initiator's account goes with the one of the target.
pub(super) fn chap(incoming: Vec<Option<(String, String)>>, outgoing: Option<(String, String)>) -> Auth {
    let mut accounts: Vec<Account> = Vec::new();
    for (user, secret) in incoming.into_iter().flatten() {
        if accounts.iter().all(|known| known.user != user) {
            accounts.push(Account { user, secret, target: outgoing.clone() });
        }
    }
    Auth::Chap(accounts)
}

fn target(node: &Node, tid: u64, default_driver: &str, model: &mut Model, report: &mut Report) {
    let inside = node.inside.as_deref().unwrap_or_default();
    let place = &node.place;
    let value = |key: &str| inside.iter().rev().find(|node| node.key == key).map(|node| node.value.as_str());
    let driver = value("driver").unwrap_or(default_driver);
    if driver != "iscsi" {
        return report.cannot(place, format_args!("target {}: its driver is {driver}", node.value));
    }
    let mut target = Target::new(&node.value);
    target.portal_groups.push((FIRST_GROUP, None));
    let shared: Vec<&Node> = inside.iter().filter(|node| lun::is_option(&node.key)).collect();
    for store in lun::stores(inside, report) {
        lun::add(&store, &shared, &node.value, tid, &mut target, model, report);
    }
    let (mut incoming, mut outgoing) = (Vec::new(), None);
    let (mut names, mut addresses, mut is_open) = (Names::default(), Vec::new(), true);
    for option in inside {
        let Node { place, key, value, .. } = option;
        match key.as_str() {
            "backing-store" | "direct-store" | "driver" | "controller_tid" | "allow-in-use" => {}
            "incominguser" => incoming.push(account(value, place, report)),
            "outgoinguser" if outgoing.is_some() => report.cannot(place, "outgoinguser: the first counts"),
            "outgoinguser" => outgoing = account(value, place, report),
            "initiator-address" => {
                is_open = false;
                addresses.extend(from(value, place, report));
            }
            "initiator-name" if is_initiator_rule(value) => names.read.push(value.clone()),
            "initiator-name" => {
                names.is_any_lost = true;
                report.cannot(place, format_args!("initiator-name {value:?} is no name"));
            }
            "RedirectAddress" | "RedirectPort" | "RedirectReason" | "RedirectCallback" => {
                report.cannot(
                    place,
                    format_args!("{key}: iscsi_target_node_set_redirect does that by portal group"),
                );
            }
            _ if lun::is_option(key) => {}
            _ if keys::take(key, value, &mut model.options, &mut target, place, report) => {}
            _ => report.cannot(place, format_args!("{key}: not known")),
        }
    }
    // Without an account of an initiator's tgt asks for no proof, and gives none.
    if !incoming.is_empty() {
        target.auth = chap(incoming, outgoing);
    }
    if is_open && !names.read.is_empty() {
        report.changed(
            place,
            "initiator-name without initiator-address: tgt-admin lets everybody in then; from now on those that are named",
        );
    }
    target.access = if is_open && names.read.is_empty() {
        vec![Access::any()]
    } else {
        access(names, (!is_open).then_some(addresses), place, report)
    };
    report.maps(place, format_args!("target {}: tid {tid}, {}", target.name, settle::numbers(&target)));
    model.targets.push(target);
}

/// An address, in lunette's spelling.
fn from(value: &str, place: &Place, report: &mut Report) -> Option<String> {
    if value == "ALL" {
        return Some("ANY".to_owned());
    }
    let netmask = netmask(value);
    if netmask.is_none() {
        report
            .cannot(place, format_args!("initiator-address {value:?} is no address; nobody comes in by it"));
    }
    netmask
}

/// A target's list of names.
#[derive(Default)]
struct Names {
    read: Vec<String>,
    /// One of them could not be read.
    is_any_lost: bool,
}

/// Who fits the list that there is. Where there are both tgt lets in who fits both before 1.0.83, and since then who fits either: a file
/// does not say whose it is, and nobody is let in who may not have been.
fn access(names: Names, addresses: Option<Vec<String>>, place: &Place, report: &mut Report) -> Vec<Access> {
    let Names { read: names, is_any_lost } = names;
    let Some(addresses) = addresses else { return Access::of_lists(names, Vec::new()) };
    if names.is_empty() && !is_any_lost {
        return Access::of_lists(names, addresses);
    }
    report.changed(
        place,
        "names and addresses of initiators: tgt before 1.0.83 lets in who fits both, later ones who fits either; from now on who fits \
         both",
    );
    // None of a list could be read.
    let is_closed = names.is_empty() || addresses.is_empty();
    (!is_closed).then(|| Access { netmasks: addresses, ..Access::names(names) }).into_iter().collect()
}
