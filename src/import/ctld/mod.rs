//! FreeBSD's ctld: `ctl.conf`.

mod auth;
mod lun;

use std::collections::BTreeMap;

use super::braces::{self, Node};
use super::model::{Auth, Lun, Model, PortalGroup, Target, lun_number};
use super::report::{ImportError, Place, Report};
use super::settle;
use super::source::Source;
use super::text::{self, PORT, number};
use auth::{AuthGroup, Kind};

/// Words of a statement that begins so.
fn arity(key: &str) -> Option<usize> {
    match key {
        "chap-mutual" => Some(5),
        "chap" | "option" => Some(3),
        "alias"
        | "auth-type"
        | "auth-group"
        | "backend"
        | "blocksize"
        | "ctl-lun"
        | "debug"
        | "device-id"
        | "device-type"
        | "discovery-auth-group"
        | "discovery-filter"
        | "initiator-name"
        | "initiator-portal"
        | "isns-period"
        | "isns-server"
        | "isns-timeout"
        | "listen"
        | "listen-iser"
        | "maxproc"
        | "offload"
        | "path"
        | "pidfile"
        | "port"
        | "redirect"
        | "serial"
        | "size"
        | "tag"
        | "timeout"
        | "dscp"
        | "pcp" => Some(2),
        "foreign" => Some(1),
        _ => None,
    }
}

/// Reads files.
///
/// # Errors
/// Where one is no such file.
pub(super) fn import(sources: &[Source], model: &mut Model, report: &mut Report) -> Result<(), ImportError> {
    let mut nodes = Vec::new();
    for source in sources {
        nodes.extend(braces::read(source, arity)?);
    }
    let mut reader =
        Reader { auths: BTreeMap::new(), groups: BTreeMap::new(), disks: BTreeMap::new(), model, report };
    let none = AuthGroup { kind: Kind::Open, ..AuthGroup::default() };
    reader.auths.insert("no-authentication".to_owned(), none);
    reader.auths.insert("no-access".to_owned(), AuthGroup::nobody());
    reader.auths.insert("default".to_owned(), AuthGroup::nobody());
    // What others refer to first, wherever it stands.
    let all = |key: &'static str| nodes.iter().filter(move |node| node.key() == key);
    all("auth-group").for_each(|node| reader.auth_group(node));
    all("portal-group").for_each(|node| reader.portal_group(node));
    all("lun").for_each(|node| reader.lun(node));
    all("target").for_each(|node| reader.target(node));
    for node in &nodes {
        match node.key() {
            "auth-group" | "portal-group" | "lun" | "target" | "pidfile" | "debug" | "maxproc"
            | "isns-period" | "isns-timeout" => {}
            "timeout" => reader.report.changed(&node.place, "timeout: lunette bounds logins by itself"),
            "isns-server" => reader.model.options.isns = text::address(node.word(1), 3205),
            key => reader.report.cannot(&node.place, format_args!("{key}: not known")),
        }
    }
    Ok(())
}

struct Reader<'a> {
    auths: BTreeMap<String, AuthGroup>,
    /// Tags of portal groups, and where they send initiators instead.
    groups: BTreeMap<String, (u16, Option<std::net::SocketAddr>)>,
    disks: BTreeMap<String, usize>,
    model: &'a mut Model,
    report: &'a mut Report,
}

impl Reader<'_> {
    fn auth_group(&mut self, node: &Node) {
        let mut group = AuthGroup::default();
        for statement in node.statements() {
            if !group.take(statement, self.report) {
                self.report.cannot(
                    &statement.place,
                    format_args!("{}: not known in an auth-group", statement.key()),
                );
            }
        }
        self.auths.insert(node.word(1).to_owned(), group);
    }

    fn portal_group(&mut self, node: &Node) {
        let (mut portals, mut redirect, mut discovery) = (Vec::new(), None, "default".to_owned());
        let mut tag = None;
        for statement in node.statements() {
            let (place, value) = (&statement.place, statement.word(1));
            match statement.key() {
                "listen" | "listen-iser" => {
                    if statement.key() == "listen-iser" {
                        self.report.changed(place, "listen-iser: a portal of TCP");
                    }
                    match text::address(value, PORT) {
                        Some(portal) => portals.push(portal),
                        None => {
                            self.report.cannot(place, format_args!("listen {value}: names are not looked up"))
                        }
                    }
                }
                "discovery-auth-group" => value.clone_into(&mut discovery),
                "redirect" => redirect = text::address(value, PORT),
                "tag" => tag = number(value).and_then(|tag| u16::try_from(tag).ok()).filter(|tag| *tag != 0),
                "discovery-filter" if value == "none" => {}
                "discovery-filter" => self.report.changed(
                    place,
                    "discovery-filter: initiators are told the targets that they may come to",
                ),
                "foreign" => self.report.cannot(place, "foreign: the other node's portals"),
                "offload" | "option" | "dscp" | "pcp" => {
                    self.report.cannot(place, format_args!("{}: not taken over", statement.key()));
                }
                key => self.report.cannot(place, format_args!("{key}: not known in a portal-group")),
            }
        }
        let is_taken = |tag: u16| self.model.portal_groups.iter().any(|group| group.tag == tag);
        let free = (1..=u16::MAX).find(|tag| !is_taken(*tag));
        let Some(tag) = tag.filter(|tag| !is_taken(*tag)).or(free) else { return };
        let discovery = self.discovery(&discovery, &node.place);
        self.groups.insert(node.word(1).to_owned(), (tag, redirect));
        self.model.portal_groups.push(PortalGroup { tag, portals, discovery });
    }

    /// What discovery has to prove.
    fn discovery(&mut self, name: &str, place: &Place) -> Option<Auth> {
        match self.auths.get(name) {
            Some(AuthGroup { kind: Kind::Deny, .. }) => {
                self.report.changed(
                    place,
                    "discovery is denied by ctld; lunette tells initiators the targets that they may come to",
                );
                None
            }
            Some(group) => (group.auth() != Auth::Open).then(|| group.auth()),
            None => {
                self.report.cannot(place, format_args!("there is no auth-group {name}"));
                None
            }
        }
    }

    fn lun(&mut self, node: &Node) {
        let name = node.word(1);
        if let Some(disk) = lun::disk(name, node, None, self.model, self.report) {
            self.disks.insert(name.to_owned(), disk);
        }
    }

    fn target(&mut self, node: &Node) {
        let (name, place) = (node.word(1), &node.place);
        let mut target = Target::new(name);
        let mut own = AuthGroup::default();
        let (mut auth, mut has_own, mut redirect) = (None, false, None);
        let mut ports = Vec::new();
        for statement in node.statements() {
            let (place, value) = (&statement.place, statement.word(1));
            match statement.key() {
                "alias" => value.clone_into(&mut target.alias),
                "auth-group" => {
                    auth = self.auths.get(value).cloned();
                    if auth.is_none() {
                        self.report
                            .cannot(place, format_args!("there is no auth-group {value}; nobody may come"));
                    }
                }
                "portal-group" => ports.extend(self.reach(statement, &mut target)),
                "lun" => target.luns.extend(self.target_lun(name, statement)),
                "redirect" => redirect = text::address(value, PORT),
                "port" => self.report.cannot(place, format_args!("port {value}: not of iSCSI")),
                "offload" => self.report.cannot(place, "offload: not taken over"),
                _ if own.take(statement, self.report) => has_own = true,
                key => self.report.cannot(place, format_args!("{key}: not known in a target")),
            }
        }
        if target.portal_groups.is_empty() {
            target.portal_groups.push((self.default_group(), None));
        }
        let group = if has_own { own } else { auth.unwrap_or_else(AuthGroup::nobody) };
        let counting = self.of_ports(&group, &ports, place);
        let is_one = counting.is_some();
        // Its accounts stay, for whoever opens it.
        let group = counting.unwrap_or(AuthGroup { kind: Kind::Deny, ..group });
        target.access = group.access();
        target.auth = if group.kind == Kind::Open { Auth::Open } else { group.auth() };
        if group.kind == Kind::Accounts && group.accounts.is_empty() {
            // ctld lets nobody in where neither auth-type nor an account is said, nor by CHAP without accounts.
            target.access.clear();
        }
        if target.access.is_empty() && is_one {
            self.report.maps(place, format_args!("target {name}: nobody may come, as in ctld"));
        }
        for (tag, _) in &target.portal_groups {
            let group = self.groups.values().find(|(known, _)| known == tag);
            let to = redirect.or(group.and_then(|(_, to)| *to));
            target.redirects.extend(to.map(|to| (*tag, to, false)));
        }
        self.report.maps(place, format_args!("target {name}: {}", settle::numbers(&target)));
        self.model.targets.push(target);
    }

    /// A portal group that leads to the target, and the auth-group that counts there instead of the target's.
    fn reach(&mut self, statement: &Node, target: &mut Target) -> Option<Option<AuthGroup>> {
        let (place, name) = (&statement.place, statement.word(1));
        match self.groups.get(name) {
            Some((tag, _)) => target.portal_groups.push((*tag, None)),
            None if name == "default" => target.portal_groups.push((self.default_group(), None)),
            None => {
                self.report.cannot(place, format_args!("there is no portal-group {name}"));
                return None;
            }
        }
        let Some(name) = statement.words.get(2) else { return Some(None) };
        let own = self.auths.get(name).cloned();
        if own.is_none() {
            self.report.cannot(place, format_args!("there is no auth-group {name}; nobody may come"));
        }
        Some(Some(own.unwrap_or_else(AuthGroup::nobody)))
    }

    /// The one auth-group that counts at all portal groups; none where they differ: nobody may come then.
    fn of_ports(
        &mut self,
        targets: &AuthGroup,
        ports: &[Option<AuthGroup>],
        place: &Place,
    ) -> Option<AuthGroup> {
        let mut counting = ports.iter().map(|own| own.as_ref().unwrap_or(targets));
        let first = counting.next().unwrap_or(targets);
        if counting.all(|other| other == first) {
            return Some(first.clone());
        }
        self.report.cannot(
            place,
            "auth-groups that differ by portal group: who may come is said for all of a target's, so nobody may; give it initiator \
             groups, and what differs by lunette_target_node_set_portal_group_auth",
        );
        None
    }

    /// ctld's own portal group: every address.
    fn default_group(&mut self) -> u16 {
        if let Some((tag, _)) = self.groups.get("default") {
            return *tag;
        }
        let is_taken = |tag: u16| self.model.portal_groups.iter().any(|group| group.tag == tag);
        let tag = (1..=u16::MAX).find(|tag| !is_taken(*tag)).unwrap_or(u16::MAX);
        let portals = ["0.0.0.0", "::"].into_iter().filter_map(|ip| text::address(ip, PORT)).collect();
        self.model.portal_groups.push(PortalGroup { tag, portals, discovery: None });
        self.groups.insert("default".to_owned(), (tag, None));
        tag
    }

    fn target_lun(&mut self, target: &str, statement: &Node) -> Option<Lun> {
        let place = &statement.place;
        let Some(number) = number(statement.word(1)).and_then(lun_number) else {
            self.report.cannot(place, format_args!("lun {}: numbers go from 0 to 16383", statement.word(1)));
            return None;
        };
        let disk = if statement.inside.is_some() {
            let name = format!("{target},lun,{number}");
            lun::disk(&name, statement, Some(&name), self.model, self.report)
        } else {
            let known = self.disks.get(statement.word(2)).copied();
            if known.is_none() {
                self.report
                    .cannot(place, format_args!("lun {number}: there is no lun {}", statement.word(2)));
            }
            known
        };
        let disk = disk?;
        self.report.maps(place, format_args!("lun {number} of {target} is {}", self.model.disks[disk].name));
        Some(Lun { number, disk, is_read_only: false })
    }
}
