//! Who finds what at a target of SCST's: its GROUPs, each with patterns of initiators' names and LUNs.
//!
//! The first group with a pattern that fits counts, and whom none fits finds the target's own LUNs. So a pattern that cannot be said
//! does not keep its initiators out, it has them find what others are to find: nobody but those of the groups before it may come then.

use std::net::IpAddr;

use crate::import::braces::Node;
use crate::import::model::{Access, Lun};
use crate::import::report::{Place, Report};
use crate::import::text::{self, PORT, is_initiator_rule};

/// A group.
pub(super) struct Group {
    pub(super) place: Place,
    pub(super) name: String,
    pub(super) luns: Vec<Lun>,
    pub(super) rules: Vec<Rule>,
}

/// An INITIATOR line: a pattern of names, or with `per_portal_acl` of `NAME#PORTAL`.
pub(super) struct Rule {
    place: Place,
    /// As it stands there.
    text: String,
    name: String,
    portal: By,
}

/// By which portal an initiator is to come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Any,
    One(IpAddr),
    /// A pattern of addresses, or a portal behind a name where there is to be none, or none where there has to be one.
    Unknown,
}

impl Rule {
    pub(super) fn new(node: &Node, has_portals: bool) -> Rule {
        let text = node.value();
        // scstadmin puts a backslash before what would begin a comment.
        let plain = text.replace("\\#", "#");
        let (name, portal) = match plain.split_once('#') {
            Some((name, _)) if !has_portals => (name, By::Unknown),
            Some((name, "*")) => (name, By::Any),
            Some((name, portal)) => {
                (name, text::address(portal, PORT).map_or(By::Unknown, |portal| By::One(portal.ip())))
            }
            // What stands for any end of a name does so for the portal behind it.
            None if !has_portals || plain.ends_with('*') => (plain.as_str(), By::Any),
            None => (plain.as_str(), By::Unknown),
        };
        // The whole of name and portal is what must not fit.
        let is_whole = name.starts_with('!') && (has_portals || portal != By::Any);
        let portal = if is_whole { By::Unknown } else { portal };
        Rule { place: node.place.clone(), name: name.to_owned(), text, portal }
    }

    fn is_inverted(&self) -> bool {
        self.name.starts_with('!')
    }
}

/// The portals that all initiators have to come by, where the target's own are not said: none where not everybody has to.
pub(super) fn portals(groups: &[Group], has_own_luns: bool) -> Vec<IpAddr> {
    let mut portals = Vec::new();
    for rule in groups.iter().flat_map(|group| &group.rules) {
        match rule.portal {
            By::One(ip) if portals.contains(&ip) => {}
            By::One(ip) => portals.push(ip),
            _ => return Vec::new(),
        }
    }
    if has_own_luns { Vec::new() } else { portals }
}

/// Who may come, in the order that counts. `portals`: those that lead to the target; any where there is none.
pub(super) fn access(
    groups: Vec<Group>,
    has_own_luns: bool,
    portals: &[IpAddr],
    report: &mut Report,
) -> Vec<Access> {
    let mut all = Vec::new();
    let count = groups.len();
    for (index, mut group) in groups.into_iter().enumerate() {
        let has_more = has_own_luns || index + 1 < count;
        let (found, is_whole) = said(&group, has_more, portals, report);
        group.luns.sort_by_key(|lun| lun.number);
        all.extend(found.into_iter().map(|access| Access { luns: Some(group.luns.clone()), ..access }));
        if !is_whole && has_more {
            report.cannot(
                &group.place,
                format_args!(
                    "GROUP {}: who is in it and cannot be said would find the LUNs of others: what stands behind it and the target's \
                     own LUNs are for nobody",
                    group.name
                ),
            );
            return all;
        }
    }
    if has_own_luns {
        all.push(Access::any());
    }
    all
}

/// Whom a group lets in, and whether that is everybody whom it lets in there.
fn said(group: &Group, has_more: bool, portals: &[IpAddr], report: &mut Report) -> (Vec<Access>, bool) {
    let (mut names, mut addresses, mut is_whole) = (Vec::new(), Vec::new(), true);
    let (inverted, plain): (Vec<&Rule>, Vec<&Rule>) = group.rules.iter().partition(|rule| rule.is_inverted());
    for rule in &plain {
        let is_by = |wanted: &IpAddr| {
            group.rules.iter().any(|other| other.name == rule.name && other.portal == By::One(*wanted))
        };
        let is_by_all = match rule.portal {
            By::Any => true,
            By::One(_) => !portals.is_empty() && portals.iter().all(is_by),
            By::Unknown => false,
        };
        if !is_by_all {
            is_whole = false;
            report.cannot(&rule.place, format_args!("INITIATOR {}: access by portal", rule.text));
        } else if let Some(netmask) = text::netmask(&rule.name) {
            addresses.push(netmask);
        } else if is_initiator_rule(&rule.name) {
            names.push(rule.name.clone());
        } else {
            is_whole = false;
            report.cannot(&rule.place, format_args!("INITIATOR {}: it is no pattern", rule.text));
        }
    }
    if let [first, others @ ..] = inverted.as_slice() {
        // SCST's !x fits every name but x, lunette's keeps x out: that is the same only where x finds nothing else.
        let is_one = others.iter().all(|other| other.name == first.name) && first.portal == By::Any;
        if is_one && !has_more && addresses.is_empty() && is_initiator_rule(&first.name) {
            names.extend([first.name.clone(), "ANY".to_owned()]);
        } else {
            is_whole = false;
            for rule in &inverted {
                report.cannot(
                    &rule.place,
                    format_args!("INITIATOR {}: everybody whom the pattern does not fit", rule.text),
                );
            }
        }
    }
    let names = (!names.is_empty()).then(|| Access::names(names));
    let addresses = (!addresses.is_empty()).then(|| Access::addresses(addresses));
    (names.into_iter().chain(addresses).collect(), is_whole)
}

#[cfg(test)]
mod tests;
