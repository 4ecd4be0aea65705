//! The iSCSI Enterprise Target: `ietd.conf`, with `initiators.allow`, `initiators.deny` and `targets.allow` where they are
//! named too.

mod access;

use std::net::SocketAddr;

use super::identity::{Field, Identity, designator};
use super::keys;
use super::model::{Account, Auth, Backing, Lun, Model, Target, lun_number};
use super::report::{ImportError, Place, Report};
use super::settle;
use super::source::Source;
use super::text::{self, number, words};

/// The port that IANA gave to iSNS.
const ISNS_PORT: u16 = 3205;
/// Bytes of a SCSI id behind the vendor, and of a serial number.
const ID_BYTES: usize = 16;

/// Whether a file is about access, by its name.
pub(super) fn is_access_file(source: &Source) -> bool {
    access::kind(source).is_some()
}

/// Reads files.
///
/// # Errors
/// The first line that is no such file's.
pub(super) fn import(sources: &[Source], model: &mut Model, report: &mut Report) -> Result<(), ImportError> {
    let rules = access::Rules::read(sources, report);
    let mut reader = Reader { model, report, incoming: Vec::new(), outgoing: None, targets: Vec::new() };
    for source in sources.iter().filter(|source| !is_access_file(source)) {
        reader.source(source)?;
    }
    let Reader { incoming, outgoing, targets, .. } = reader;
    if let Some(auth) = auth(incoming, outgoing) {
        model.options.discovery = auth;
    }
    for Stanza { place, mut target, incoming, outgoing, .. } in targets {
        if let Some(auth) = auth(incoming, outgoing) {
            target.auth = auth;
        }
        rules.admit(&mut target, model, report);
        report.maps(&place, format_args!("target {}: {}", target.name, settle::numbers(&target)));
        model.targets.push(target);
    }
    if model.portal_groups.is_empty() {
        model.listen_everywhere();
    }
    Ok(())
}

/// A user and a secret.
type Credential = (String, String);

fn auth(incoming: Vec<Option<Credential>>, outgoing: Option<Credential>) -> Option<Auth> {
    // Without an account of an initiator's ietd asks for no proof, and gives none.
    if incoming.is_empty() {
        return None;
    }
    let mut accounts: Vec<Account> = Vec::new();
    for (user, secret) in incoming.into_iter().flatten() {
        if accounts.iter().all(|known| known.user != user) {
            accounts.push(Account { user, secret, target: outgoing.clone() });
        }
    }
    Some(Auth::Chap(accounts))
}

/// A target's part of the file.
#[derive(Debug)]
struct Stanza {
    place: Place,
    /// ietd counts from 1.
    tid: u32,
    target: Target,
    /// What could be read of each that was said.
    incoming: Vec<Option<Credential>>,
    outgoing: Option<Credential>,
}

#[derive(Debug)]
struct Reader<'a> {
    model: &'a mut Model,
    report: &'a mut Report,
    /// What could be read of each that was said.
    incoming: Vec<Option<Credential>>,
    outgoing: Option<Credential>,
    targets: Vec<Stanza>,
}

impl Reader<'_> {
    fn source(&mut self, source: &Source) -> Result<(), ImportError> {
        let start = Place::new(&source.name, 0);
        for (line, text) in text::lines(&source.text) {
            let place = start.at(line);
            // A # is a comment at the beginning of a line only.
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let (key, value) = text.split_once(char::is_whitespace).unwrap_or((&text, ""));
            self.line(key, value.trim(), place)?;
        }
        Ok(())
    }

    fn line(&mut self, key: &str, value: &str, place: Place) -> Result<(), ImportError> {
        if key.eq_ignore_ascii_case("target") {
            if value.is_empty() {
                return Err(ImportError::new(&place, "a target has a name"));
            }
            let tid = u32::try_from(self.targets.len() + 1).unwrap_or(u32::MAX);
            let target = Target::new(value);
            self.targets.push(Stanza { place, tid, target, incoming: Vec::new(), outgoing: None });
            return Ok(());
        }
        match self.targets.last_mut() {
            None => self.global(key, value, &place),
            Some(stanza) => stanza.line(key, value, &place, self.model, self.report),
        }
        Ok(())
    }

    fn global(&mut self, key: &str, value: &str, place: &Place) {
        match key.to_ascii_lowercase().as_str() {
            "incominguser" => self.incoming.push(credential(value, place, self.report)),
            "outgoinguser" => self.outgoing = credential(value, place, self.report),
            "isnsserver" => match text::address(value, ISNS_PORT) {
                Some(server) => self.model.options.isns = Some(SocketAddr::new(server.ip(), ISNS_PORT)),
                None => self.report.cannot(place, format_args!("iSNSServer {value}: it is no address")),
            },
            "isnsaccesscontrol" if value == "Yes" => {
                self.report.cannot(place, "iSNSAccessControl: who may come is said by initiator groups");
            }
            "isnsaccesscontrol" => {}
            _ => self.report.cannot(place, format_args!("{key}: not known before the first target")),
        }
    }
}

fn credential(value: &str, place: &Place, report: &mut Report) -> Option<Credential> {
    match words(value).as_deref() {
        Some([user, secret]) => Some((user.clone(), secret.clone())),
        _ => {
            report.cannot(place, "an account is a user and a secret");
            None
        }
    }
}

impl Stanza {
    fn line(&mut self, key: &str, value: &str, place: &Place, model: &mut Model, report: &mut Report) {
        let mut small = |name, seconds: &mut Option<u64>| match number(value).filter(|n| *n <= 86_400) {
            Some(value) if seconds.is_none_or(|known| known == value) => *seconds = Some(value),
            _ => report.cannot(place, format_args!("{name} {value}: all targets have the same")),
        };
        match key.to_ascii_lowercase().as_str() {
            "incominguser" => self.incoming.push(credential(value, place, report)),
            "outgoinguser" => self.outgoing = credential(value, place, report),
            "alias" => value.clone_into(&mut self.target.alias),
            "lun" => self.lun(value, place, model, report),
            "nopinterval" => small("NOPInterval", &mut model.options.nop_in_seconds),
            "noptimeout" => small("NOPTimeout", &mut model.options.nop_timeout_seconds),
            "maxsessions" if value == "0" => {}
            "maxsessions" => {
                report.cannot(place, "MaxSessions: lunette bounds sessions of all targets together")
            }
            "maxconnections" if value == "1" => {}
            "wthreads" => report.maps(place, "Wthreads: lunette has no such threads"),
            "queuedcommands" => match number(value).and_then(|depth| u32::try_from(depth).ok()) {
                Some(depth) => self.target.queue_depth = depth,
                None => report.cannot(place, format_args!("QueuedCommands {value}: it is no number")),
            },
            _ if keys::take(key, value, &mut model.options, &mut self.target, place, report) => {}
            _ => report.cannot(place, format_args!("{key}: not known")),
        }
    }

    /// `N Path=...,Type=...`
    fn lun(&mut self, value: &str, place: &Place, model: &mut Model, report: &mut Report) {
        let (number_text, params) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
        let Some(number) = number(number_text).and_then(lun_number) else {
            return report.cannot(place, format_args!("Lun {number_text}: numbers go from 0 to 16383"));
        };
        if self.target.luns.iter().any(|lun| lun.number == number) {
            return report.cannot(place, format_args!("Lun {number}: it stands there twice"));
        }
        let mut said = Said::default();
        for param in params.split(',').map(str::trim).filter(|param| !param.is_empty()) {
            let (key, value) = param.split_once('=').unwrap_or((param, ""));
            said.param(key.trim(), value.trim(), place, report);
        }
        let Some(backing) = said.backing(place, report) else { return };
        let mut disk = model.new_disk(backing, &["iet", &self.target.name, &number.to_string()]);
        // A device's own may be another.
        disk.block_bytes = Some(said.block_bytes.unwrap_or(512));
        disk.is_read_only = said.is_read_only;
        disk.is_write_through = said.is_write_through;
        disk.identity = said.identity(self.tid, place, report);
        let name = disk.name.clone();
        let disk = model.add_disk(disk, place, report);
        self.target.luns.push(Lun { number, disk, is_read_only: false });
        report.maps(place, format_args!("Lun {number} is {name}"));
    }
}

/// What is said of a LUN.
#[derive(Debug)]
struct Said {
    path: Option<String>,
    kind: String,
    sectors: Option<u64>,
    block_bytes: Option<u32>,
    is_read_only: bool,
    is_write_through: bool,
    scsi_id: Option<String>,
    scsi_sn: Option<String>,
}

impl Default for Said {
    fn default() -> Said {
        Said {
            path: None,
            kind: "fileio".to_owned(),
            sectors: None,
            block_bytes: None,
            is_read_only: false,
            // Unless IOMode says otherwise.
            is_write_through: true,
            scsi_id: None,
            scsi_sn: None,
        }
    }
}

impl Said {
    fn param(&mut self, key: &str, value: &str, place: &Place, report: &mut Report) {
        let own =
            || (!value.is_empty() && value.len() <= ID_BYTES && value.is_ascii()).then(|| value.to_owned());
        match key.to_ascii_lowercase().as_str() {
            "path" => self.path = Some(value.to_owned()),
            "type" => self.kind = value.to_ascii_lowercase(),
            "iomode" => match value.to_ascii_lowercase().as_str() {
                "wb" => self.is_write_through = false,
                "wt" => self.is_write_through = true,
                "ro" => self.is_read_only = true,
                _ => report.cannot(place, format_args!("IOMode {value}: wb, wt or ro")),
            },
            "scsiid" => {
                self.scsi_id = own();
                if self.scsi_id.is_none() {
                    report.cannot(place, format_args!("ScsiId {value:?}: 1 to {ID_BYTES} characters"));
                }
            }
            "scsisn" => {
                self.scsi_sn = own();
                if self.scsi_sn.is_none() {
                    report.cannot(place, format_args!("ScsiSN {value:?}: 1 to {ID_BYTES} characters"));
                }
            }
            "sectors" => self.sectors = number(value),
            "blocksize" => match number(value).and_then(|bytes| u32::try_from(bytes).ok()) {
                Some(bytes @ (512 | 1024 | 2048 | 4096)) => self.block_bytes = Some(bytes),
                _ => report.cannot(place, format_args!("BlockSize {value}: 512, 1024, 2048 or 4096")),
            },
            _ => report.cannot(place, format_args!("{key}: not known")),
        }
    }

    fn backing(&mut self, place: &Place, report: &mut Report) -> Option<Backing> {
        match (self.kind.as_str(), self.path.take()) {
            ("nullio", _) => {
                let block_bytes = self.block_bytes.unwrap_or(512);
                // ietd's own size where none is given.
                let sectors = self.sectors.filter(|sectors| *sectors > 0).unwrap_or(1 << 27);
                let bytes = sectors.checked_mul(u64::from(block_bytes));
                if bytes.is_none() {
                    report.cannot(place, "Sectors: no disk is so large");
                }
                bytes.map(|bytes| Backing::Null { bytes })
            }
            ("fileio", Some(path)) => Some(Backing::File { path, create_bytes: None }),
            ("blockio", Some(path)) => {
                // IET does not look at IOMode=wb here: what is written has reached the device.
                self.is_write_through = true;
                Some(Backing::File { path, create_bytes: None })
            }
            ("fileio" | "blockio", None) => {
                report.cannot(place, "Path is missing; the LUN was left out");
                None
            }
            (kind, _) => {
                report.cannot(
                    place,
                    format_args!("Type={kind}: nullio, fileio or blockio; the LUN was left out"),
                );
                None
            }
        }
    }

    /// Who ietd says it is: a T10 designator in binary, 24 bytes, the vendor padded with zeros.
    fn identity(self, tid: u32, place: &Place, report: &mut Report) -> Identity {
        let own = |text: &str| Some(text.to_owned());
        let mut identity = Identity {
            vendor: own("IET"),
            product: own("VIRTUAL-DISK"),
            revision: own("0"),
            ..Identity::default()
        };
        match self.scsi_sn {
            Some(serial) => identity.set(Field::Serial, &format!("{serial:>ID_BYTES$}"), place, report),
            // ietd answers with four spaces then; so do we.
            None => identity.serial = own("    "),
        }
        match self.scsi_id {
            Some(id) => {
                let mut name = b"IET\0\0\0\0\0".to_vec();
                name.extend(id.as_bytes());
                name.resize(8 + ID_BYTES, 0);
                identity.designators = designator(1, 1, &name).into_iter().collect();
            }
            None => report.cannot(
                place,
                format_args!(
                    "no ScsiId: the kernel made one of the target's number ({tid}), inode and device, which are not in the file; ask an \
                     initiator (/lib/udev/scsi_id -g -p 0x83 DEVICE) and set it by lunette_bdev_set_identity"
                ),
            ),
        }
        identity
    }
}
