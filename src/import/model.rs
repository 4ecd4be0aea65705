//! What every format is read into: disks, and who finds them where.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::identity::{Identity, uuid};
use super::report::{Place, Report};
use super::text::PORT;

/// A configuration.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Model {
    /// What is not of one target.
    pub(super) options: Options,
    /// The disks.
    pub(super) disks: Vec<Disk>,
    /// Where initiators come in.
    pub(super) portal_groups: Vec<PortalGroup>,
    /// What they log in to.
    pub(super) targets: Vec<Target>,
    /// Names that disks have.
    names: BTreeSet<String>,
}

/// What is not of one target. What is not said is as lunette has it.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Options {
    /// What initiators have to prove before they are told of targets.
    pub(super) discovery: Auth,
    /// Where targets are registered.
    pub(super) isns: Option<SocketAddr>,
    /// ErrorRecoveryLevel, at most.
    pub(super) error_recovery_level: Option<u64>,
    /// Connections of a session.
    pub(super) connections_max: Option<u64>,
    /// Sessions at once.
    pub(super) sessions_max: Option<u64>,
    /// FirstBurstLength.
    pub(super) first_burst_bytes: Option<u64>,
    /// Immediate data are taken.
    pub(super) immediate_data: Option<bool>,
    /// DefaultTime2Wait.
    pub(super) time2wait_seconds: Option<u64>,
    /// DefaultTime2Retain.
    pub(super) time2retain_seconds: Option<u64>,
    /// Silence before an initiator is asked whether it is there; 0 never.
    pub(super) nop_in_seconds: Option<u64>,
    /// How long it has to answer.
    pub(super) nop_timeout_seconds: Option<u64>,
}

/// What a disk is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Backing {
    /// A file or a block device.
    File {
        /// Where it is.
        path: String,
        /// Where it is not there yet: how large it is made.
        create_bytes: Option<u64>,
    },
    /// Memory.
    Memory {
        /// How much.
        bytes: u64,
    },
    /// Nothing.
    Null {
        /// How much of it.
        bytes: u64,
    },
    /// A SCSI device of the host, passed through.
    Passed {
        /// Where it is: `/dev/sgN`.
        path: String,
    },
    /// An image in a CD-ROM drive, or an empty drive.
    CdRom {
        /// The image.
        path: Option<String>,
    },
}

/// A disk.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Disk {
    /// Its name; no other has it.
    pub(super) name: String,
    /// What it is made of.
    pub(super) backing: Backing,
    /// Bytes of a block, where that is not the device's own matter.
    pub(super) block_bytes: Option<u32>,
    /// Nobody can write.
    pub(super) is_read_only: bool,
    /// A write is done when it is on stable storage.
    pub(super) is_write_through: bool,
    /// Its medium comes out.
    pub(super) is_removable: bool,
    /// Who it says it is.
    pub(super) identity: Identity,
    /// What names its medium.
    pub(super) uuid: [u8; 16],
}

/// Portals under a tag.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PortalGroup {
    /// The tag.
    pub(super) tag: u16,
    /// Where to listen.
    pub(super) portals: Vec<SocketAddr>,
    /// What discovery has to prove here, where that differs.
    pub(super) discovery: Option<Auth>,
}

/// An account of CHAP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Account {
    /// The initiator's name.
    pub(super) user: String,
    /// Its secret.
    pub(super) secret: String,
    /// The target's name and secret.
    pub(super) target: Option<(String, String)>,
}

/// What initiators have to prove.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Auth {
    /// Nothing.
    #[default]
    Open,
    /// That they are one of these, if they offer to.
    Either(Vec<Account>),
    /// That they are one of these.
    Chap(Vec<Account>),
    /// That, and they have to ask the same of us.
    Mutual(Vec<Account>),
}

impl Auth {
    /// The accounts.
    pub(super) fn accounts(&self) -> &[Account] {
        match self {
            Auth::Open => &[],
            Auth::Either(accounts) | Auth::Chap(accounts) | Auth::Mutual(accounts) => accounts,
        }
    }
}

/// Who may come to a target, and what they find there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Access {
    /// Names and patterns; the first that fits counts.
    pub(super) initiators: Vec<String>,
    /// Where they come from: any of these.
    pub(super) netmasks: Vec<String>,
    /// LUNs of their own.
    pub(super) luns: Option<Vec<Lun>>,
    /// The portal groups by which they may come; any that leads to the target where it is not said.
    pub(super) ways: Option<Vec<u16>>,
}

impl Access {
    /// Everybody.
    pub(super) fn any() -> Access {
        Access {
            initiators: vec!["ANY".to_owned()],
            netmasks: vec!["ANY".to_owned()],
            luns: None,
            ways: None,
        }
    }

    /// These names, from anywhere.
    pub(super) fn names(initiators: Vec<String>) -> Access {
        Access { initiators, ..Access::any() }
    }

    /// Any name, from these addresses.
    pub(super) fn addresses(netmasks: Vec<String>) -> Access {
        Access { netmasks, ..Access::any() }
    }

    /// Who is in either list; nobody where both are empty.
    pub(super) fn of_lists(names: Vec<String>, addresses: Vec<String>) -> Vec<Access> {
        if addresses.iter().any(|address| address == "ANY") {
            return vec![Access::any()];
        }
        let names = (!names.is_empty()).then(|| Access::names(names));
        let addresses = (!addresses.is_empty()).then(|| Access::addresses(addresses));
        names.into_iter().chain(addresses).collect()
    }

    /// Whether they may come by a portal group.
    pub(super) fn may_come_by(&self, tag: u16) -> bool {
        self.ways.as_ref().is_none_or(|ways| ways.contains(&tag))
    }
}

/// A LUN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Lun {
    /// Its number.
    pub(super) number: u16,
    /// Which of [`Model::disks`].
    pub(super) disk: usize,
    /// It is for reading only, whatever the disk is.
    pub(super) is_read_only: bool,
}

/// A target.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Target {
    /// Its name.
    pub(super) name: String,
    /// Its alias.
    pub(super) alias: String,
    /// The portal groups that lead to it, each with the relative port identifier that it is to have.
    pub(super) portal_groups: Vec<(u16, Option<u16>)>,
    /// Who may come.
    pub(super) access: Vec<Access>,
    /// What everybody finds.
    pub(super) luns: Vec<Lun>,
    /// What initiators have to prove.
    pub(super) auth: Auth,
    /// Header digests have to be used.
    pub(super) demands_header_digest: bool,
    /// Data digests have to be used.
    pub(super) demands_data_digest: bool,
    /// Commands of a session.
    pub(super) queue_depth: u32,
    /// Portal groups where initiators are sent elsewhere.
    pub(super) redirects: Vec<(u16, SocketAddr, bool)>,
    /// States of LUNs by a portal group that are not the usual: the group, LUN, state, whether it is preferred.
    pub(super) states: Vec<(u16, u16, &'static str, bool)>,
}

/// Commands of a session where a format says nothing: SPDK's.
const QUEUE_DEPTH: u32 = 64;

impl Target {
    /// A target without anything.
    pub(super) fn new(name: &str) -> Target {
        Target {
            name: name.to_owned(),
            alias: String::new(),
            portal_groups: Vec::new(),
            access: Vec::new(),
            luns: Vec::new(),
            auth: Auth::Open,
            demands_header_digest: false,
            demands_data_digest: false,
            queue_depth: QUEUE_DEPTH,
            redirects: Vec::new(),
            states: Vec::new(),
        }
    }
}

/// The first portal group's tag.
pub(super) const FIRST_GROUP: u16 = 1;
/// LUN numbers that lunette has.
const LUN_MAX: u64 = 16383;

impl Model {
    /// Listens where targets do that are not told where: at every address.
    pub(super) fn listen_everywhere(&mut self) {
        let any = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let portals = any.map(|ip| SocketAddr::new(ip, PORT)).to_vec();
        self.portal_groups.push(PortalGroup { tag: FIRST_GROUP, portals, discovery: None });
    }

    /// A disk's name: as wanted, with a number where another disk has that.
    pub(super) fn free_name(&mut self, wanted: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        let stem: String = wanted.chars().map(plain).take(200).collect();
        let stem = if stem.is_empty() { "disk".to_owned() } else { stem };
        let mut name = stem.clone();
        let mut count = 1_u32;
        while !self.names.insert(name.clone()) {
            count += 1;
            name = format!("{stem}-{count}");
        }
        name
    }

    /// A name that its disk has not any more.
    pub(super) fn give_back(&mut self, name: &str) {
        self.names.remove(name);
    }

    /// A new disk, named after its file, and a medium that is told by what the other target calls it.
    pub(super) fn new_disk(&mut self, backing: Backing, called: &[&str]) -> Disk {
        let name = match &backing {
            Backing::File { path, .. } | Backing::Passed { path } | Backing::CdRom { path: Some(path) } => {
                path.rsplit('/').next().unwrap_or_default().to_owned()
            }
            Backing::Memory { .. } => "ram".to_owned(),
            Backing::Null { .. } => "null".to_owned(),
            Backing::CdRom { path: None } => "cdrom".to_owned(),
        };
        Disk {
            name: self.free_name(&name),
            backing,
            block_bytes: None,
            is_read_only: false,
            is_write_through: false,
            is_removable: false,
            identity: Identity::default(),
            uuid: uuid(called),
        }
    }

    /// Which disk is made of this file.
    pub(super) fn disk_of(&self, wanted: &str) -> Option<usize> {
        self.disks.iter().position(|disk| match &disk.backing {
            Backing::File { path, .. } | Backing::Passed { path } | Backing::CdRom { path: Some(path) } => {
                path == wanted
            }
            _ => false,
        })
    }

    /// Adds a disk, or finds the one that is made of the same file: a medium has one identity, whatever other targets say.
    pub(super) fn add_disk(&mut self, disk: Disk, place: &Place, report: &mut Report) -> usize {
        let path = match &disk.backing {
            Backing::File { path, .. } | Backing::Passed { path } | Backing::CdRom { path: Some(path) } => {
                Some(path)
            }
            _ => None,
        };
        match path.and_then(|path| self.disk_of(path)) {
            Some(known) => {
                self.names.remove(&disk.name);
                let name = self.disks[known].name.clone();
                if disk.is_read_only != self.disks[known].is_read_only {
                    report.cannot(
                        place,
                        format_args!("{name}: for reading only at one LUN, so from now on at all"),
                    );
                }
                self.disks[known].is_read_only |= disk.is_read_only;
                self.disks[known].is_write_through |= disk.is_write_through;
                report.changed(
                    place,
                    format_args!("it is the disk {name} once more: both LUNs show the identity of the first"),
                );
                known
            }
            None => {
                self.disks.push(disk);
                self.disks.len() - 1
            }
        }
    }
}

/// A LUN's number, where lunette can have it.
pub(super) fn lun_number(number: u64) -> Option<u16> {
    u16::try_from(number).ok().filter(|_| number <= LUN_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_nobody_elses() {
        let mut model = Model::default();
        assert_eq!(model.free_name("a b/c"), "a_b_c");
        assert_eq!(model.free_name("a b/c"), "a_b_c-2");
        assert_eq!(model.free_name(""), "disk");
    }

    #[test]
    fn one_file_is_one_disk() {
        let (mut model, mut report) = (Model::default(), Report::default());
        let place = Place::new("f", 1);
        let file = || Backing::File { path: "/srv/a".to_owned(), create_bytes: None };
        for expected in [0, 0] {
            let disk = model.new_disk(file(), &["x"]);
            assert_eq!(model.add_disk(disk, &place, &mut report), expected);
        }
        assert_eq!(model.free_name("a"), "a-2", "the second gave its name back");
        assert_eq!(report.to_string().lines().count(), 2);
    }
}
