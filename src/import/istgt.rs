//! istgt: `istgt.conf` with its `auth.conf`, sections of lines of a key and its values.

use std::collections::BTreeMap;

use super::identity::{Field, Identity, designator};
use super::model::{Access, Account, Auth, Backing, Lun, Model, PortalGroup, Target};
use super::report::{ImportError, Place, Report};
use super::source::{Files, Source};
use super::text::{self, PORT, crc32c, is_initiator_rule, netmask, number, truth, words};
use super::{keys, passed, settle};
use crate::control::options::whole_name;

/// The name base of targets where none is set.
const NODE_BASE: &str = "iqn.2007-09.jp.ne.peach.istgt";
/// Bytes of a serial number in the T10 designator.
const SERIAL_BYTES: usize = 32;
/// The first of the serial numbers that istgt makes.
const SERIAL_FIRST: u64 = 10_000_000;

/// A line: its words, one at least.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Line {
    place: Place,
    words: Vec<String>,
}

impl Line {
    fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }
}

/// A section: its kind and number, as `PortalGroup` and 1.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Section {
    place: Place,
    kind: String,
    number: u64,
    lines: Vec<Line>,
}

impl Section {
    fn value(&self, key: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.word(0).eq_ignore_ascii_case(key))
    }
}

/// Words that istgt takes however they are written, as its manual writes them.
const WORDS: &[&str] = &[
    "ALL",
    "Auth",
    "AuthFile",
    "AuthGroup",
    "AuthMethod",
    "BlockLength",
    "Comment",
    "Device",
    "DiscoveryAuthGroup",
    "DiscoveryAuthMethod",
    "Global",
    "InitiatorGroup",
    "InitiatorName",
    "LogFacility",
    "LogFile",
    "LogicalUnit",
    "Mapping",
    "MaxConnections",
    "MaxR2T",
    "MaxSessions",
    "MediaDirectory",
    "Netmask",
    "NodeBase",
    "NopInInterval",
    "Option",
    "PidFile",
    "Portal",
    "PortalGroup",
    "QueueDepth",
    "ReadOnly",
    "Removable",
    "Storage",
    "TargetAlias",
    "TargetName",
    "Timeout",
    "UnitControl",
    "UnitInquiry",
    "UnitOnline",
    "UnitType",
    "UseDigest",
];

/// Writes a word as usual.
fn usual(word: &mut String) {
    if let Some(known) = WORDS.iter().find(|known| known.eq_ignore_ascii_case(word)) {
        (*known).clone_into(word);
    } else if word.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("lun")) {
        word.replace_range(..3, "LUN");
    }
}

/// Reads files.
///
/// # Errors
/// Where one is no such file.
pub(super) fn import(
    sources: &[Source],
    files: &dyn Files,
    model: &mut Model,
    report: &mut Report,
) -> Result<(), ImportError> {
    let mut sections = Vec::new();
    for source in sources {
        read(source, &mut sections)?;
    }
    let mut reader = Reader {
        base: NODE_BASE.to_owned(),
        initiators: BTreeMap::new(),
        auths: BTreeMap::new(),
        files,
        model,
        report,
    };
    for section in sections.iter().filter(|section| section.kind == "AuthGroup") {
        let accounts = section.lines.iter().filter(|line| line.word(0).eq_ignore_ascii_case("Auth"));
        reader.auths.insert(section.number, accounts.map(account).collect());
    }
    for section in &sections {
        match section.kind.as_str() {
            "Global" => reader.global(section),
            "PortalGroup" => reader.portal_group(section),
            "InitiatorGroup" => reader.initiator_group(section),
            "AuthGroup" => {}
            "LogicalUnit" => {}
            "UnitControl" => {
                reader.report.maps(&section.place, "UnitControl: lunette is managed by its own socket")
            }
            kind => reader.report.cannot(&section.place, format_args!("[{kind}]: not known")),
        }
    }
    for section in sections.iter().filter(|section| section.kind == "LogicalUnit") {
        reader.unit(section);
    }
    Ok(())
}

fn read(source: &Source, sections: &mut Vec<Section>) -> Result<(), ImportError> {
    let start = Place::new(&source.name, 0);
    for (number_of_line, text) in text::lines(&source.text) {
        let place = start.at(number_of_line);
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if let Some(name) = text.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
            let (kind, digits) = name.split_at(name.len() - digits);
            let (mut kind, number) = (kind.to_owned(), number(digits).unwrap_or(0));
            usual(&mut kind);
            sections.push(Section { place, kind, number, lines: Vec::new() });
            continue;
        }
        let Some(mut words) = words(&text) else {
            return Err(ImportError::new(&place, "a quote is not closed"));
        };
        if let [key, rest @ ..] = words.as_mut_slice() {
            usual(key);
            // What follows is a word of istgt's only there; elsewhere it is a name.
            let has_word = key.starts_with("LUN") || matches!(key.as_str(), "InitiatorName" | "Netmask");
            rest.iter_mut().take(1).filter(|_| has_word).for_each(usual);
        }
        match sections.last_mut() {
            Some(section) => section.lines.push(Line { place, words }),
            None => return Err(ImportError::new(&place, "it does not begin with a section")),
        }
    }
    Ok(())
}

/// `Auth USER SECRET [MUSER MSECRET]`
fn account(line: &Line) -> Account {
    let word = |index| line.word(index).to_owned();
    let target = (line.words.len() >= 5).then(|| (word(3), word(4)));
    Account { user: word(1), secret: word(2), target }
}

/// The number at the end of a word, as of `PortalGroup1`.
fn tag(word: &str) -> Option<u64> {
    let digits = word.trim_start_matches(|c: char| !c.is_ascii_digit());
    number(digits).filter(|_| !digits.is_empty())
}

struct Reader<'a> {
    base: String,
    initiators: BTreeMap<u64, Access>,
    auths: BTreeMap<u64, Vec<Account>>,
    /// Of the host, which knows its devices.
    files: &'a dyn Files,
    model: &'a mut Model,
    report: &'a mut Report,
}

impl Reader<'_> {
    fn global(&mut self, section: &Section) {
        // What a target would take over is everybody's here.
        let mut nobody = Target::new("");
        for line in &section.lines {
            let (place, value) = (&line.place, line.word(1));
            match line.word(0) {
                "NodeBase" => value.clone_into(&mut self.base),
                "Comment" | "PidFile" | "AuthFile" | "MediaDirectory" | "LogFile" | "LogFacility"
                | "Timeout" | "MaxR2T" => {}
                "NopInInterval" => {
                    self.model.options.nop_in_seconds = number(value).filter(|seconds| *seconds <= 86_400)
                }
                "MaxSessions" => {
                    self.report.changed(place, "MaxSessions: lunette bounds sessions of all targets together")
                }
                "MaxConnections" => self.report.changed(place, "MaxConnections: lunette's own"),
                "DiscoveryAuthMethod" => {
                    let auth = self.auth(line, section.value("DiscoveryAuthGroup"));
                    self.model.options.discovery = auth;
                }
                "DiscoveryAuthGroup" => {}
                key if keys::take(key, value, &mut self.model.options, &mut nobody, place, self.report) => {}
                key => self.report.cannot(place, format_args!("{key}: not known")),
            }
        }
        if let Some(file) = section.value("AuthFile").filter(|_| self.auths.is_empty()) {
            self.report.changed(&file.place, format_args!("name {} too: accounts are in it", file.word(1)));
        }
    }

    /// `AuthMethod` with `AuthGroup`.
    fn auth(&mut self, method: &Line, group: Option<&Line>) -> Auth {
        let words: Vec<String> = method.words[1..].iter().map(|word| word.to_ascii_lowercase()).collect();
        let has = |wanted: &str| words.iter().any(|word| word == wanted);
        let number = group.and_then(|line| tag(line.word(1)));
        let accounts = number.and_then(|number| self.auths.get(&number)).cloned();
        if accounts.is_none() && has("chap") {
            self.report.cannot(&method.place, "CHAP without an AuthGroup that is known: nobody gets in");
        }
        let accounts = accounts.unwrap_or_default();
        match (has("chap"), has("mutual")) {
            (true, true) => Auth::Mutual(accounts),
            (true, false) => Auth::Chap(accounts),
            (false, _) if has("auto") && !accounts.is_empty() => Auth::Either(accounts),
            (false, _) => Auth::Open,
        }
    }

    fn portal_group(&mut self, section: &Section) {
        let mut portals = Vec::new();
        for line in &section.lines {
            match line.word(0) {
                "Comment" => {}
                "Portal" => match text::address(line.word(2), PORT) {
                    Some(portal) => portals.push(portal),
                    None => self.report.cannot(
                        &line.place,
                        format_args!("Portal {}: names are not looked up", line.word(2)),
                    ),
                },
                key => self.report.cannot(&line.place, format_args!("{key}: not known in a PortalGroup")),
            }
        }
        match u16::try_from(section.number) {
            Ok(tag @ 1..) if self.model.portal_groups.iter().all(|group| group.tag != tag) => {
                self.model.portal_groups.push(PortalGroup { tag, portals, discovery: None });
            }
            _ => {
                self.report.cannot(&section.place, "a portal group's number is 1 to 65535, and nobody else's")
            }
        }
    }

    fn initiator_group(&mut self, section: &Section) {
        let mut access = Access { initiators: Vec::new(), netmasks: Vec::new(), luns: None, ways: None };
        for line in &section.lines {
            let (place, value) = (&line.place, line.word(1));
            match line.word(0) {
                "Comment" => {}
                "InitiatorName" if value == "ALL" => access.initiators.push("ANY".to_owned()),
                "InitiatorName" if is_initiator_rule(value) => access.initiators.push(value.to_owned()),
                "InitiatorName" => {
                    self.report.cannot(place, format_args!("InitiatorName {value:?}: no name"))
                }
                "Netmask" if value == "ALL" => access.netmasks.push("ANY".to_owned()),
                "Netmask" => match netmask(value) {
                    Some(netmask) => access.netmasks.push(netmask),
                    None => self.report.cannot(place, format_args!("Netmask {value}: no address")),
                },
                key => self.report.cannot(place, format_args!("{key}: not known in an InitiatorGroup")),
            }
        }
        self.initiators.insert(section.number, access);
    }

    fn unit(&mut self, section: &Section) {
        let place = &section.place;
        let Some(name) = section.value("TargetName").map(|line| line.word(1)) else {
            return self.report.cannot(place, "a unit without TargetName; it was left out");
        };
        let name = whole_name(name, &self.base);
        let kind = section.value("UnitType").map_or("Disk", |line| line.word(1));
        if !["Disk", "DVD", "Pass"].iter().any(|known| kind.eq_ignore_ascii_case(known)) {
            return self
                .report
                .cannot(place, format_args!("target {name}: UnitType {kind}; it was left out"));
        }
        let mut target = Target::new(&name);
        let mut luns: BTreeMap<u16, Vec<&Line>> = BTreeMap::new();
        for line in &section.lines {
            let (place, value) = (&line.place, line.word(1));
            match line.word(0) {
                "Comment" | "TargetName" | "UnitType" | "UnitInquiry" | "BlockLength" | "AuthGroup"
                | "UnitOnline" => {}
                "TargetAlias" => value.clone_into(&mut target.alias),
                "Mapping" => self.mapping(line, &mut target),
                "AuthMethod" => target.auth = self.auth(line, section.value("AuthGroup")),
                "UseDigest" => {
                    let has =
                        |wanted: &str| line.words[1..].iter().any(|word| word.eq_ignore_ascii_case(wanted));
                    target.demands_header_digest = has("header");
                    target.demands_data_digest = has("data");
                }
                "ReadOnly" => {}
                "QueueDepth" => {
                    if let Some(depth) =
                        number(value).and_then(|depth| u32::try_from(depth).ok()).filter(|depth| *depth > 0)
                    {
                        target.queue_depth = depth;
                    }
                }
                key if key.starts_with("LUN") => match key[3..].parse::<u16>() {
                    Ok(number @ 0..=63) => luns.entry(number).or_default().push(line),
                    _ => self.report.cannot(place, format_args!("{key}: LUN0 to LUN63")),
                },
                key if keys::take(key, value, &mut self.model.options, &mut target, place, self.report) => {}
                key => self.report.cannot(place, format_args!("{key}: not known in a LogicalUnit")),
            }
        }
        for (number, lines) in luns {
            target.luns.extend(self.lun(section, &name, kind, number, &lines));
        }
        self.report.maps(place, format_args!("target {name}: {}", settle::numbers(&target)));
        self.model.targets.push(target);
    }

    fn mapping(&mut self, line: &Line, target: &mut Target) {
        let (portals, initiators) = (tag(line.word(1)), tag(line.word(2)));
        let group = portals.and_then(|tag| u16::try_from(tag).ok());
        let found = initiators.and_then(|tag| self.initiators.get(&tag)).cloned();
        let is_there = |tag: &u16| self.model.portal_groups.iter().any(|group| group.tag == *tag);
        let (Some(tag), Some(access)) = (group.filter(is_there), found) else {
            return self.report.cannot(&line.place, "Mapping: there is no such portal or initiator group");
        };
        if target.portal_groups.iter().all(|(known, _)| *known != tag) {
            target.portal_groups.push((tag, None));
        }
        let Some(access) = loadable(access) else {
            return self.report.cannot(
                &line.place,
                "Mapping: no name or no address of its initiator group is left: it lets nobody in",
            );
        };
        // Each initiator group has its own portal groups.
        let is_same =
            |known: &&mut Access| known.initiators == access.initiators && known.netmasks == access.netmasks;
        match target.access.iter_mut().find(is_same) {
            Some(known) => known.ways.get_or_insert_default().push(tag),
            None => target.access.push(Access { ways: Some(vec![tag]), ..access }),
        }
    }

    fn lun(
        &mut self,
        section: &Section,
        target: &str,
        kind: &str,
        number: u16,
        lines: &[&Line],
    ) -> Option<Lun> {
        let is_passed = kind.eq_ignore_ascii_case("Pass");
        let storages: &[&str] = if is_passed { &["Device"] } else { &["Storage", "Removable"] };
        let storage = lines.iter().find(|line| storages.contains(&line.word(1)));
        let Some(storage) = storage else {
            let line = lines.first()?;
            self.report.cannot(&line.place, format_args!("LUN{number}: {}; it was left out", line.word(1)));
            return None;
        };
        let (place, path) = (&storage.place, storage.word(2).to_owned());
        if is_passed {
            return self.passed(target, number, &path, place, section);
        }
        let is_drive = kind.eq_ignore_ascii_case("DVD");
        let create_bytes = text::size(storage.word(3)).filter(|_| !path.starts_with("/dev/"));
        let backing = if is_drive {
            // The size is followed by flags, as `Auto,ro`.
            Backing::CdRom { path: (path != "/dev/null").then_some(path) }
        } else {
            Backing::File { path, create_bytes }
        };
        let mut disk = self.model.new_disk(backing, &["istgt", target, &number.to_string()]);
        let block_bytes = section.value("BlockLength").and_then(|line| text::number(line.word(1)));
        disk.block_bytes = match block_bytes.and_then(|bytes| u32::try_from(bytes).ok()) {
            Some(bytes @ (512 | 1024 | 2048 | 4096)) if !is_drive => Some(bytes),
            // A device's own may be another.
            _ => (!is_drive).then_some(512),
        };
        disk.is_read_only = section.value("ReadOnly").and_then(|line| truth(line.word(1))) == Some(true);
        let option = |name: &str| {
            let fits = |line: &&&Line| line.word(1) == "Option" && line.word(2).eq_ignore_ascii_case(name);
            lines.iter().find(fits).map(|line| line.word(3).to_owned())
        };
        disk.is_write_through = option("WriteCache").and_then(|value| truth(&value)) == Some(false);
        for line in lines.iter().filter(|line| line.word(1) == "Option") {
            if !["serial", "writecache"].contains(&line.word(2).to_ascii_lowercase().as_str()) {
                self.report.changed(
                    &line.place,
                    format_args!("Option {}: as the file or device has it", line.word(2)),
                );
            }
        }
        disk.identity = self.identity(section, target, number, option("Serial"), is_drive);
        let name = disk.name.clone();
        let disk = self.model.add_disk(disk, place, self.report);
        self.report.maps(place, format_args!("LUN{number} of {target} is {name}"));
        Some(Lun { number, disk, is_read_only: false })
    }

    /// A device that commands are passed on to.
    fn passed(
        &mut self,
        target: &str,
        number: u16,
        device: &str,
        place: &Place,
        section: &Section,
    ) -> Option<Lun> {
        let what = format!("LUN{number} of {target}");
        let backing = passed::backing(&what, device, place, self.files, self.report)?;
        // istgt tells of it what it makes up, as of every LUN.
        self.report
            .changed(place, format_args!("{what}: who it is, its blocks and its cache are the device's own"));
        let mut disk = self.model.new_disk(backing, &["istgt", target, &number.to_string()]);
        disk.is_read_only = section.value("ReadOnly").and_then(|line| truth(line.word(1))) == Some(true);
        let disk = self.model.add_disk(disk, place, self.report);
        Some(Lun { number, disk, is_read_only: false })
    }

    /// Who istgt says a LUN is: an identifier of its target's name and its number, and vendor, product and serial number.
    fn identity(
        &mut self,
        section: &Section,
        target: &str,
        lun: u16,
        serial: Option<String>,
        is_drive: bool,
    ) -> Identity {
        let inquiry = section.value("UnitInquiry");
        let said = |index: usize, own: &str| match inquiry.map_or("", |line| line.word(index)) {
            "" => own.to_owned(),
            text => text.to_owned(),
        };
        let mut identity = Identity::default();
        let place = inquiry.map_or(&section.place, |line| &line.place);
        let vendor = said(1, "FreeBSD");
        let product = said(2, if is_drive { "iSCSI DVD" } else { "iSCSI DISK" });
        let serial = serial.unwrap_or_else(|| said(4, &(SERIAL_FIRST + section.number).to_string()));
        identity.set(Field::Vendor, &vendor, place, self.report);
        identity.set(Field::Product, &product, place, self.report);
        identity.set(Field::Revision, &said(3, "0001"), place, self.report);
        let cut: String = serial.chars().take(SERIAL_BYTES).collect();
        identity.set(Field::Serial, &cut, place, self.report);
        let mut naa = u64::from(checksum(&format!("{target},{lun}"))).to_be_bytes();
        naa[0] = 0x30;
        identity.naa = Some(naa.to_vec());
        let t10 = format!("{vendor:<8.8}{product:<16.16}{cut:<SERIAL_BYTES$}");
        identity.designators =
            [designator(1, 3, &naa), designator(3, 1, t10.as_bytes())].into_iter().flatten().collect();
        identity
    }
}

/// A group that lunette takes: one without names or addresses lets nobody in, but may keep some out.
fn loadable(mut access: Access) -> Option<Access> {
    if access.netmasks.is_empty() {
        access.initiators.retain(|rule| rule.starts_with('!'));
        access.netmasks.push("ANY".to_owned());
    }
    (!access.initiators.is_empty()).then_some(access)
}

/// CRC32C of a text, filled up with zeros to a multiple of four as iSCSI's digests are.
fn checksum(text: &str) -> u32 {
    let padding = text.len().next_multiple_of(4) - text.len();
    !crc32c(u32::MAX, text.bytes().chain(std::iter::repeat_n(0, padding)))
}
