//! LIO: `saveconfig.json`, as targetcli writes it. What it does not know is overlooked, as targetcli does.

mod store;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::keys;
use super::model::{Access, Account, Auth, Lun, Model, PortalGroup, Target, lun_number};
use super::report::{ImportError, Place, Report};
use super::settle;
use super::source::{Files, Source};
use super::text::{self, PORT, truth};
use crate::rpc::json::Json;
pub(super) use store::naa;
use store::{Stores, list, number, string};

/// Whether a JSON value looks like it.
pub(super) fn is_such(root: &Json) -> bool {
    root.member("storage_objects").is_some() || root.member("fabric_modules").is_some()
}

/// Reads a file.
///
/// # Errors
/// It is no JSON.
pub(super) fn import(
    source: &Source,
    files: &dyn Files,
    model: &mut Model,
    report: &mut Report,
) -> Result<(), ImportError> {
    let start = Place::new(&source.name, 0);
    let root = Json::parse(&source.text).map_err(|error| ImportError::new(&start, error))?;
    let mut reader =
        Reader { lines: Lines::of(&source.text), start, stores: Stores::of(files), model, report };
    for object in list(&root, "storage_objects") {
        let place = reader.place(string(object, "name"));
        reader.stores.read(object, &place);
    }
    for module in list(&root, "fabric_modules") {
        if string(module, "name") == Some("iscsi") {
            reader.discovery(module);
        }
    }
    for target in list(&root, "targets") {
        reader.target(target);
    }
    let Reader { stores, model, report, .. } = reader;
    stores.remark_unused(model, report);
    Ok(())
}

/// In which line a name stands first: JSON itself has no places.
#[derive(Debug)]
struct Lines<'a>(Vec<&'a str>);

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Lines<'a> {
        Lines(text.lines().collect())
    }

    fn find(&self, name: &str) -> usize {
        let quoted = Json::from(name).to_string();
        self.0.iter().position(|line| line.contains(&quoted)).map_or(0, |index| index + 1)
    }
}

struct Reader<'a> {
    lines: Lines<'a>,
    start: Place,
    stores: Stores<'a>,
    model: &'a mut Model,
    report: &'a mut Report,
}

impl Reader<'_> {
    fn place(&self, name: Option<&str>) -> Place {
        self.start.at(name.map_or(0, |name| self.lines.find(name)))
    }

    fn discovery(&mut self, module: &Json) {
        let is_on = module
            .member("discovery_enable_auth")
            .is_none_or(|value| *value != Json::Bool(false) && *value != Json::Unsigned(0));
        let accounts =
            accounts(module, "discovery_", ["userid", "password", "mutual_userid", "mutual_password"]);
        if is_on && !accounts.is_empty() {
            self.model.options.discovery = Auth::Chap(accounts);
        }
    }

    fn target(&mut self, object: &Json) {
        let Some(name) = string(object, "wwn") else { return };
        let place = self.place(Some(name));
        let fabric = string(object, "fabric").unwrap_or("iscsi");
        if fabric != "iscsi" {
            return self.report.cannot(&place, format_args!("target {name}: it is {fabric}'s, not iSCSI's"));
        }
        let tpgs: Vec<&Json> = list(object, "tpgs").collect();
        let enabled = tpgs.iter().filter(|tpg| is_on(tpg.member("enable"), true)).count();
        for tpg in &tpgs {
            if !is_on(tpg.member("enable"), true) {
                let tag = number(tpg, "tag").unwrap_or(1);
                self.report.cannot(&place, format_args!("target {name}: portal group {tag} is disabled"));
            }
        }
        // A target of lunette's has one set of LUNs; portal groups of LIO's have each its own.
        if enabled > 1 {
            self.report.cannot(
                &place,
                format_args!("target {name}: of its portal groups only the first was taken over"),
            );
        }
        if let Some(tpg) = tpgs.into_iter().find(|tpg| is_on(tpg.member("enable"), true)) {
            self.portal_group(name, tpg, &place);
        }
    }

    fn portal_group(&mut self, name: &str, tpg: &Json, place: &Place) {
        let mut target = Target::new(name);
        for portal in list(tpg, "portals") {
            if is_on(portal.member("iser"), false) || is_on(portal.member("offload"), false) {
                self.report.changed(
                    place,
                    format_args!("target {name}: a portal of iSER or offloaded; it is one of TCP now"),
                );
            }
        }
        let mut portals: Vec<SocketAddr> = list(tpg, "portals").filter_map(portal).collect();
        // `[::0]` is every address in Linux, those of IPv4 too; a portal of lunette's is of one kind.
        for any in portals.clone().into_iter().filter(|portal| portal.ip() == Ipv6Addr::UNSPECIFIED) {
            let other = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), any.port());
            if !portals.contains(&other) {
                portals.push(other);
            }
        }
        if let Some(tag) = self.group(portals) {
            target.portal_groups.push((tag, None));
        }
        let attribute = |name: &str| tpg.member("attributes").and_then(|attributes| number(attributes, name));
        if let Some(depth) = attribute("default_cmdsn_depth").and_then(|depth| u32::try_from(depth).ok()) {
            target.queue_depth = depth;
        }
        if attribute("t10_pi") == Some(1) {
            self.report
                .cannot(place, format_args!("target {name}: t10_pi: files have no protection information"));
        }
        for lun in list(tpg, "luns") {
            self.lun(lun, &mut target, place);
        }
        for (key, value) in members(tpg.member("parameters")) {
            let value = value.text().unwrap_or_default();
            match key {
                "AuthMethod" => {}
                "TargetAlias" if value == "LIO Target" => {}
                "TargetAlias" => value.clone_into(&mut target.alias),
                // Values that every saved configuration has, and are as good as RFC 7143's own.
                _ if DEFAULTS.contains(&(key, value)) => {}
                _ => {
                    keys::take(key, value, &mut self.model.options, &mut target, place, self.report);
                }
            }
        }
        self.initiators(tpg, &mut target, place);
        self.report.maps(place, format_args!("target {name}: {}", settle::numbers(&target)));
        self.model.targets.push(target);
    }

    /// The group of these portals: it is shared by targets.
    fn group(&mut self, portals: Vec<SocketAddr>) -> Option<u16> {
        if portals.is_empty() {
            return None;
        }
        if let Some(known) = self.model.portal_groups.iter().find(|group| group.portals == portals) {
            return Some(known.tag);
        }
        let tag = u16::try_from(self.model.portal_groups.len() + 1).ok()?;
        self.model.portal_groups.push(PortalGroup { tag, portals, discovery: None });
        Some(tag)
    }

    fn lun(&mut self, object: &Json, target: &mut Target, place: &Place) {
        let path = string(object, "storage_object").unwrap_or_default();
        let Some(lun) = number(object, "index").and_then(lun_number) else {
            return self.report.cannot(place, format_args!("{path}: its LUN is no number up to 16383"));
        };
        let place = self.stores.place(path).unwrap_or_else(|| place.clone());
        let Some(disk) = self.stores.disk(path, self.model, self.report) else { return };
        self.report.maps(&place, format_args!("LUN {lun} of {} is {path}", target.name));
        let group = string(object, "alua_tg_pt_gp_name").unwrap_or_default();
        if let (Some((state, is_preferred)), Some((tag, _))) =
            (self.stores.state(path, group, self.report), target.portal_groups.first())
        {
            target.states.push((*tag, lun, state, is_preferred));
        }
        target.luns.push(Lun { number: lun, disk, is_read_only: false });
    }

    fn initiators(&mut self, tpg: &Json, target: &mut Target, place: &Place) {
        let attribute = |name: &str| tpg.member("attributes").and_then(|attributes| number(attributes, name));
        let is_open = attribute("generate_node_acls") == Some(1);
        let has_chap = self.has_chap(tpg, &target.name, place);
        let everybody = accounts(tpg, "chap_", ["userid", "password", "mutual_userid", "mutual_password"]);
        let everybody = if everybody.is_empty() {
            accounts(tpg, "", ["userid", "password", "mutual_userid", "mutual_password"])
        } else {
            everybody
        };
        let mut found = if has_chap { everybody } else { Vec::new() };
        let mut has_own = false;
        for acl in list(tpg, "node_acls") {
            let Some(initiator) = string(acl, "node_wwn") else { continue };
            let place = self.place(Some(initiator));
            let mut access = Access::names(vec![initiator.to_owned()]);
            access.luns = Some(self.mapped(acl, target, &place));
            if access.luns.as_ref() == Some(&target.luns) {
                access.luns = None;
            }
            target.access.push(access);
            let own = accounts(acl, "chap_", ["userid", "password", "mutual_userid", "mutual_password"]);
            has_own |= has_chap && !own.is_empty();
            found.extend(own.into_iter().filter(|_| has_chap));
        }
        if is_open {
            let mut access = Access::any();
            // 1 unless it is said.
            if attribute("demo_mode_write_protect") != Some(0) {
                let read_only = |lun: &Lun| Lun { is_read_only: true, ..*lun };
                access.luns = Some(target.luns.iter().map(read_only).collect());
                self.report.maps(
                    place,
                    format_args!("target {}: initiators without an ACL may read only", target.name),
                );
            }
            target.access.push(access);
        }
        if has_own {
            self.report.changed(
                place,
                format_args!(
                    "target {}: accounts are the target's: any of its initiators may use any of them",
                    target.name
                ),
            );
        }
        let mut accounts: Vec<Account> = Vec::new();
        for account in found {
            match accounts.iter().find(|known| known.user == account.user) {
                Some(known) if *known == account => {}
                Some(_) => self.report.cannot(
                    place,
                    format_args!(
                        "target {}: the user {} has two secrets; the first counts",
                        target.name, account.user
                    ),
                ),
                None => accounts.push(account),
            }
        }
        if has_chap {
            target.auth = Auth::Chap(accounts);
        }
    }

    /// Whether CHAP has to be done: that is so unless it is said. An ACL may say otherwise for its initiator (-1 is as the others).
    fn has_chap(&mut self, tpg: &Json, target: &str, place: &Place) -> bool {
        let attribute = |object: &Json| number(object.member("attributes")?, "authentication");
        let of_all = attribute(tpg) != Some(0);
        let own: Vec<u64> = list(tpg, "node_acls").filter_map(attribute).collect();
        let has_chap = of_all || own.contains(&1);
        if own.iter().any(|own| (*own == 1) != of_all) {
            self.report.changed(
                place,
                format_args!(
                    "target {target}: some of its initiators need CHAP and some do not; from now on all do"
                ),
            );
        }
        has_chap
    }

    /// The LUNs that an initiator has.
    fn mapped(&mut self, acl: &Json, target: &Target, place: &Place) -> Vec<Lun> {
        let mut luns: Vec<Lun> = Vec::new();
        for mapped in list(acl, "mapped_luns") {
            let number = |name| number(mapped, name).and_then(lun_number);
            let (Some(index), Some(tpg_lun)) = (number("index"), number("tpg_lun")) else {
                self.report.cannot(place, "a mapped LUN without its numbers");
                continue;
            };
            match target.luns.iter().find(|lun| lun.number == tpg_lun) {
                Some(lun) => {
                    let is_read_only = is_on(mapped.member("write_protect"), false);
                    luns.push(Lun { number: index, disk: lun.disk, is_read_only });
                }
                None => self
                    .report
                    .cannot(place, format_args!("mapped LUN {index}: the target has no LUN {tpg_lun}")),
            }
        }
        luns.sort_by_key(|lun| lun.number);
        luns
    }
}

/// What targetcli writes where nobody has set anything.
const DEFAULTS: &[(&str, &str)] = &[
    ("DataDigest", "CRC32C,None"),
    ("DataPDUInOrder", "Yes"),
    ("DataSequenceInOrder", "Yes"),
    ("DefaultTime2Retain", "20"),
    ("DefaultTime2Wait", "2"),
    ("ErrorRecoveryLevel", "0"),
    ("FirstBurstLength", "65536"),
    ("HeaderDigest", "CRC32C,None"),
    ("IFMarkInt", "Reject"),
    ("IFMarker", "No"),
    ("ImmediateData", "Yes"),
    ("InitialR2T", "Yes"),
    ("MaxBurstLength", "262144"),
    ("MaxConnections", "1"),
    ("MaxOutstandingR2T", "1"),
    ("MaxRecvDataSegmentLength", "8192"),
    ("MaxXmitDataSegmentLength", "262144"),
    ("OFMarkInt", "Reject"),
    ("OFMarker", "No"),
];

fn portal(object: &Json) -> Option<SocketAddr> {
    let port = number(object, "port").and_then(|port| u16::try_from(port).ok()).unwrap_or(PORT);
    text::address(string(object, "ip_address")?, port)
}

/// The account that members of these names make, with the prefix before each.
fn accounts(object: &Json, prefix: &str, names: [&str; 4]) -> Vec<Account> {
    let text = |name: &str| string(object, &format!("{prefix}{name}")).filter(|text| !text.is_empty());
    let [user, secret, target_user, target_secret] = names.map(text);
    let (Some(user), Some(secret)) = (user, secret) else { return Vec::new() };
    let target = target_user.zip(target_secret).map(|(user, secret)| (user.to_owned(), secret.to_owned()));
    vec![Account { user: user.to_owned(), secret: secret.to_owned(), target }]
}

/// A switch, which is a boolean or a number.
fn is_on(value: Option<&Json>, default: bool) -> bool {
    match value {
        Some(Json::Bool(value)) => *value,
        Some(Json::Unsigned(value)) => *value != 0,
        Some(Json::String(text)) => truth(text).unwrap_or(default),
        _ => default,
    }
}

fn members(object: Option<&Json>) -> impl Iterator<Item = (&str, &Json)> {
    let members = match object {
        Some(Json::Object(members)) => members.as_slice(),
        _ => &[],
    };
    members.iter().map(|(name, value)| (name.as_str(), value))
}
