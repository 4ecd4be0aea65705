//! Who may come to which target of IET, and where targets are: lines of a target or `ALL` and a list; the first line that is
//! about a target counts.

use std::net::SocketAddr;

use crate::import::model::{Access, FIRST_GROUP, Model, PortalGroup, Target};
use crate::import::report::{Place, Report};
use crate::import::source::Source;
use crate::import::text::{self, PORT, netmask};

/// Which of the files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// `initiators.allow`
    Allow,
    /// `initiators.deny`
    Deny,
    /// `targets.allow`
    Portals,
}

/// What a file is about, by its name.
pub(super) fn kind(source: &Source) -> Option<Kind> {
    match source.file_name() {
        "initiators.allow" => Some(Kind::Allow),
        "initiators.deny" => Some(Kind::Deny),
        "targets.allow" => Some(Kind::Portals),
        _ => None,
    }
}

/// A line.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Rule {
    place: Place,
    target: String,
    items: Vec<String>,
}

/// What the files say; none where there is no such file.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Rules {
    allow: Option<(Place, Vec<Rule>)>,
    deny: Option<(Place, Vec<Rule>)>,
    portals: Option<(Place, Vec<Rule>)>,
}

impl Rules {
    pub(super) fn read(sources: &[Source], report: &mut Report) -> Rules {
        let mut rules = Rules::default();
        for source in sources {
            let Some(kind) = kind(source) else { continue };
            let file = match kind {
                Kind::Allow => &mut rules.allow,
                Kind::Deny => &mut rules.deny,
                Kind::Portals => &mut rules.portals,
            };
            let start = Place::new(&source.name, 0);
            if file.is_some() {
                report.cannot(&start, "such a file was read already; this one was left out");
                continue;
            }
            *file = Some((start.clone(), lines(&source.text, &start)));
        }
        if rules.allow.is_none()
            && rules.deny.is_none()
            && let Some(first) = sources.first()
        {
            report.changed(
                &Place::new(&first.name, 0),
                "neither initiators.allow nor initiators.deny was named: everybody may come; name those that there are",
            );
        }
        rules
    }

    /// Lets those in that may come to a target, by the portals where it is.
    pub(super) fn admit(&self, target: &mut Target, model: &mut Model, report: &mut Report) {
        let tag = self.portal_group(target, model, report);
        target.portal_groups = tag.into_iter().map(|tag| (tag, None)).collect();
        let allowed = self.allow.as_ref().map(|(place, rules)| (place, find(rules, &target.name)));
        let denied = self.deny.as_ref().and_then(|(_, rules)| find(rules, &target.name));
        target.access = match (allowed, denied) {
            (None, None) => vec![Access::any()],
            // initiators.deny is there: whom it does not name may come, and whom initiators.allow names in any case.
            (allowed, Some(rule)) => {
                let mut access =
                    allowed.and_then(|(_, rule)| rule).map(|rule| admitted(rule, report)).unwrap_or_default();
                access.extend(others(rule, report));
                access
            }
            (Some(_), None) if self.deny.is_some() => vec![Access::any()],
            (Some((_, Some(rule))), None) => admitted(rule, report),
            (Some((place, None)), None) => {
                report.maps(
                    place,
                    format_args!("target {}: no line is about it, so nobody may come", target.name),
                );
                Vec::new()
            }
        };
    }

    /// The portal group of a target: one for each list of addresses.
    fn portal_group(&self, target: &Target, model: &mut Model, report: &mut Report) -> Option<u16> {
        let Some((place, rules)) = &self.portals else { return everywhere(model) };
        let Some(rule) = find(rules, &target.name) else {
            report.maps(place, format_args!("target {}: no line is about it, so it is nowhere", target.name));
            return None;
        };
        if rule.items.iter().any(|item| item == "ALL") {
            return everywhere(model);
        }
        let mut portals: Vec<SocketAddr> = Vec::new();
        for item in &rule.items {
            match text::address(item, PORT) {
                Some(portal) => portals.push(portal),
                None => report.cannot(
                    &rule.place,
                    format_args!("{item}: lunette listens on addresses, not on networks"),
                ),
            }
        }
        if portals.is_empty() {
            return None;
        }
        let known = model.portal_groups.iter().find(|group| group.portals == portals).map(|group| group.tag);
        known.or_else(|| add(model, portals))
    }
}

/// The group of all addresses.
fn everywhere(model: &mut Model) -> Option<u16> {
    let any = |group: &&PortalGroup| group.portals.iter().any(|portal| portal.ip().is_unspecified());
    if let Some(group) = model.portal_groups.iter().find(any) {
        return Some(group.tag);
    }
    if model.portal_groups.is_empty() {
        model.listen_everywhere();
        return Some(FIRST_GROUP);
    }
    let portals = ["0.0.0.0", "::"].into_iter().filter_map(|ip| text::address(ip, PORT)).collect();
    add(model, portals)
}

fn add(model: &mut Model, portals: Vec<SocketAddr>) -> Option<u16> {
    let tag = u16::try_from(model.portal_groups.len() + 1).ok()?;
    model.portal_groups.push(PortalGroup { tag, portals, discovery: None });
    Some(tag)
}

fn lines(text: &str, start: &Place) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (target, items) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let items =
            items.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect();
        rules.push(Rule { place: start.at(index + 1), target: target.to_owned(), items });
    }
    rules
}

fn find<'a>(rules: &'a [Rule], target: &str) -> Option<&'a Rule> {
    rules.iter().find(|rule| rule.target == "ALL" || rule.target == target)
}

/// Names and addresses of a list.
fn parted(rule: &Rule, report: &mut Report) -> (Vec<String>, Vec<String>) {
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    for item in &rule.items {
        match (netmask(item), glob(item)) {
            _ if item == "ALL" => addresses.push("ANY".to_owned()),
            (Some(netmask), _) => addresses.push(netmask),
            (None, Some(glob)) => names.push(glob),
            (None, None) => report.cannot(
                &rule.place,
                format_args!("{item}: a regular expression beyond . and .*; initiator groups have * and ?"),
            ),
        }
    }
    (names, addresses)
}

fn admitted(rule: &Rule, report: &mut Report) -> Vec<Access> {
    let (names, addresses) = parted(rule, report);
    Access::of_lists(names, addresses)
}

/// Everybody but those of a list.
fn others(rule: &Rule, report: &mut Report) -> Vec<Access> {
    let is_lost = |item: &String| item != "ALL" && netmask(item).is_none() && glob(item).is_none();
    if rule.items.iter().any(is_lost) {
        report.cannot(
            &rule.place,
            "initiators.deny has what cannot be said; but for initiators.allow nobody may come",
        );
        return Vec::new();
    }
    let (names, addresses) = parted(rule, report);
    if addresses.iter().any(|address| address == "ANY") {
        return Vec::new();
    }
    if !addresses.is_empty() {
        report.cannot(
            &rule.place,
            "addresses in initiators.deny: initiator groups say from where one may come, not from where not; nobody may come",
        );
        return Vec::new();
    }
    let mut initiators: Vec<String> = names.into_iter().map(|name| format!("!{name}")).collect();
    initiators.push("ANY".to_owned());
    vec![Access::names(initiators)]
}

/// A regular expression as a pattern: `.*` is any run of characters, `\.` and `.` are a dot, as those who write a name without
/// the backslash mean it. None of anything else.
fn glob(regex: &str) -> Option<String> {
    let inner = regex.strip_prefix('^').unwrap_or(regex);
    let mut rest = inner.strip_suffix('$').unwrap_or(inner);
    let mut glob = String::new();
    while let Some(c) = rest.chars().next() {
        let (one, length) = match c {
            '.' if rest.starts_with(".*") => ('*', 2),
            '\\' => match rest[1..].chars().next() {
                Some(escaped) if ".-:".contains(escaped) => (escaped, 2),
                _ => return None,
            },
            c if c.is_ascii_alphanumeric() || ".-:_".contains(c) => (c, 1),
            _ => return None,
        };
        glob.push(one);
        rest = &rest[length..];
    }
    text::is_initiator_rule(&glob).then_some(glob)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regular_expressions_that_are_patterns() {
        for (regex, expected) in [
            ("iqn.1993-08.org.debian:01:abc", Some("iqn.1993-08.org.debian:01:abc")),
            (r"^iqn\.1998-01\.com\.vmware:.*$", Some("iqn.1998-01.com.vmware:*")),
            (".*", Some("*")),
            ("iqn.[0-9]*", None),
            (r"iqn\(a\|b\)", None),
            ("iqn.a*", None),
            ("", None),
            ("\\", None),
            ("\u{e9}", None),
        ] {
            assert_eq!(glob(regex).as_deref(), expected, "{regex}");
        }
    }
}
