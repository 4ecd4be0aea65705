//! What `tgtadm --mode target --op show` prints of a daemon that runs: everything but secrets.

use super::super::model::{FIRST_GROUP, Model, Target};
use super::super::report::{ImportError, Place, Report};
use super::super::settle;
use super::super::source::Source;
use super::super::text::{is_initiator_rule, netmask, number};
use super::blocks::Node;
use super::lun;
use super::{Names, access, chap};

/// Whether a text looks like it.
pub(in crate::import) fn is_such(text: &str) -> bool {
    text.lines().map(str::trim_end).find(|line| !line.is_empty()).is_some_and(|line| head(line).is_some())
}

/// `Target 1: iqn...`
fn head(line: &str) -> Option<(u64, &str)> {
    let (tid, name) = line.strip_prefix("Target ")?.split_once(": ")?;
    Some((number(tid)?, name.trim()))
}

/// What is printed under a target's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Section {
    System,
    Nexuses,
    Luns,
    Accounts,
    Acls,
}

/// Reads what was printed.
///
/// # Errors
/// It does not begin with a target.
pub(in crate::import) fn import(
    source: &Source,
    model: &mut Model,
    report: &mut Report,
) -> Result<(), ImportError> {
    let start = Place::new(&source.name, 0);
    model.listen_everywhere();
    report.maps(&start, "portals: tgtd's are not printed; lunette listens on every address at port 3260");
    let mut targets: Vec<Shown> = Vec::new();
    let mut section = Section::System;
    for (index, line) in source.text.lines().enumerate() {
        let place = start.at(index + 1);
        if let Some((tid, name)) = head(line) {
            targets.push(Shown { place, tid, name: name.to_owned(), ..Shown::new() });
            section = Section::System;
            continue;
        }
        let text = line.trim();
        let Some(target) = targets.last_mut() else {
            if text.is_empty() {
                continue;
            }
            return Err(ImportError::new(&place, "it does not begin with a target"));
        };
        let other = match text {
            "System information:" => Some(Section::System),
            "I_T nexus information:" => Some(Section::Nexuses),
            "LUN information:" => Some(Section::Luns),
            "Account information:" => Some(Section::Accounts),
            "ACL information:" => Some(Section::Acls),
            _ => None,
        };
        section = other.unwrap_or(section);
        if other.is_none() && !text.is_empty() {
            target.line(section, text, place);
        }
    }
    for target in targets {
        target.add(model, report);
    }
    Ok(())
}

/// A target, as it was printed.
#[derive(Debug)]
struct Shown {
    place: Place,
    tid: u64,
    name: String,
    driver: String,
    luns: Vec<ShownLun>,
    accounts: Vec<(Place, String)>,
    acls: Vec<(Place, String)>,
}

/// A LUN, and what is printed of it.
#[derive(Debug)]
struct ShownLun {
    place: Place,
    number: u64,
    fields: Vec<(String, String)>,
}

impl Shown {
    fn new() -> Shown {
        Shown {
            place: Place::new("", 0),
            tid: 0,
            name: String::new(),
            driver: String::new(),
            luns: Vec::new(),
            accounts: Vec::new(),
            acls: Vec::new(),
        }
    }

    fn line(&mut self, section: Section, text: &str, place: Place) {
        let (key, value) =
            text.split_once(": ").map_or((text.trim_end_matches(':'), ""), |(key, value)| (key, value));
        match (section, key) {
            (Section::System, "Driver") => value.clone_into(&mut self.driver),
            (Section::System | Section::Nexuses, _) => {}
            (Section::Luns, "LUN") => {
                if let Some(number) = number(value) {
                    self.luns.push(ShownLun { place, number, fields: Vec::new() });
                }
            }
            (Section::Luns, _) => {
                if let Some(lun) = self.luns.last_mut() {
                    lun.fields.push((key.to_owned(), value.to_owned()));
                }
            }
            (Section::Accounts, _) => self.accounts.push((place, text.to_owned())),
            (Section::Acls, _) => self.acls.push((place, text.to_owned())),
        }
    }

    fn add(self, model: &mut Model, report: &mut Report) {
        let Shown { place, tid, name, driver, luns, accounts, acls } = self;
        if driver != "iscsi" {
            return report.cannot(&place, format_args!("target {name}: its driver is {driver}"));
        }
        let mut target = Target::new(&name);
        target.portal_groups.push((FIRST_GROUP, None));
        let nodes: Vec<Node> = luns.into_iter().filter_map(|lun| node(lun, report)).collect();
        for store in lun::stores(&nodes, report) {
            lun::add(&store, &[], &name, tid, &mut target, model, report);
        }
        if accounts.iter().any(|(_, account)| !account.ends_with("(outgoing)")) {
            // Nobody gets in until the secrets are known.
            target.auth = chap(Vec::new(), None);
        }
        for (place, account) in accounts {
            report.cannot(
                &place,
                format_args!(
                    "account {account}: tgt does not tell its secret, add it to the target's chap_group"
                ),
            );
        }
        let (mut names, mut addresses) = (Names::default(), Vec::new());
        for (place, acl) in acls {
            match netmask(&acl) {
                _ if acl == "ALL" => addresses.push("ANY".to_owned()),
                Some(netmask) => addresses.push(netmask),
                None if is_initiator_rule(&acl) => names.read.push(acl),
                None => {
                    names.is_any_lost = true;
                    report.cannot(&place, format_args!("{acl:?} is neither an address nor a name"));
                }
            }
        }
        // Without any nobody comes in, as in tgt.
        let addresses = (!addresses.is_empty()).then_some(addresses);
        target.access = access(names, addresses, &place, report);
        report.maps(&place, format_args!("target {name}: tid {tid}, {}", settle::numbers(&target)));
        model.targets.push(target);
    }
}

/// A LUN as `targets.conf` would have it; none of the controller.
fn node(ShownLun { place, number, fields }: ShownLun, report: &mut Report) -> Option<Node> {
    let field = |name: &str| {
        fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.trim_end()).unwrap_or_default()
    };
    let kind = match field("Type") {
        "controller" => return None,
        "disk" => "disk",
        "cd/dvd" => "cd",
        "passthrough" => "pt",
        kind => kind,
    };
    let path = field("Backing store path");
    // `Size: 67 MB, Block size: 512` stands in one line.
    let block_size = field("Size").rsplit_once("Block size: ").map_or("512", |(_, bytes)| bytes);
    let yes = |name: &str| if field(name).starts_with("Yes") { "1" } else { "0" };
    let option = |key: &str, value: &str| Node {
        place: place.clone(),
        key: key.to_owned(),
        value: value.to_owned(),
        inside: None,
    };
    let mut inside = vec![
        option("lun", &number.to_string()),
        option("device-type", kind),
        option("bs-type", field("Backing store type")),
        option("scsi_id", field("SCSI ID")),
        option("scsi_sn", field("SCSI SN")),
        option("readonly", yes("Readonly")),
        option("swp", yes("SWP")),
        option("removable", yes("Removable media")),
        option("online", yes("Online")),
        option("bsoflags", field("Backing store flags").trim()),
    ];
    // A CD's blocks are a CD's.
    if kind == "disk" {
        inside.push(option("block-size", block_size));
    }
    if kind != "pt" {
        report.changed(
            &place,
            "vendor, product, revision and write cache are not printed: as tgt has them by default",
        );
    }
    let value = if path == "None" { format!("NONE:{number}") } else { path.to_owned() };
    Some(Node { place: place.clone(), key: "backing-store".to_owned(), value, inside: Some(inside) })
}
