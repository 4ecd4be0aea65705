//! Why a change of what is served is refused. Nothing has changed then.

use std::io;
use std::net::SocketAddr;

use crate::limits::{RECORDS_MAX, STATE_BYTES_MAX};

/// Why a change is refused. Each says what is wrong and, where it is not plain, what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChangeError {
    /// No such thing.
    #[error("there is no {what} {name}")]
    Missing {
        /// Which kind.
        what: What,
        /// Which.
        name: String,
    },
    /// There is one already.
    #[error("there is a {what} {name} already")]
    Exists {
        /// Which kind.
        what: What,
        /// Which.
        name: String,
    },
    /// Two bdevs of one UUID: initiators would take them for two paths to one disk.
    #[error(
        "bdev {name} is the same disk as bdev {other}, or a copy of its UUID {uuid}: serve one, or give this one a UUID of its own"
    )]
    SameDisk {
        /// The new one.
        name: String,
        /// The other.
        other: String,
        /// What both say.
        uuid: String,
    },
    /// A name of a unit that another one has.
    #[error("bdev {bdev}: bdev {other} has that {what} already, and initiators would take them for one disk")]
    SameName {
        /// The one.
        bdev: String,
        /// The other.
        other: String,
        /// What both would say.
        what: &'static str,
    },
    /// Something that no unit can say of itself.
    #[error("{name}: {why}")]
    Identity {
        /// What.
        name: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// The state file cannot be written.
    #[error("it cannot be saved, and so was not done: the log says why")]
    NotSaved,
    /// The state file has no room for it.
    #[error(
        "the state file is full: it would have more than {RECORDS_MAX} records or {} MiB; lunette_forget_disk takes out what is \
         kept of disks that are gone",
        STATE_BYTES_MAX >> 20
    )]
    StateFull,
    /// What has to be kept has no place.
    #[error("there is no state file: serve --state FILE")]
    NoState,
    /// It is in force, but not everywhere yet.
    #[error(
        "it is in force, but a device keeps IO that it was given before: until that has come back, something may still land"
    )]
    Unsettled,
    /// A number that a target port group cannot have.
    #[error(
        "{0} cannot be a target port group of this target: it is 0, or a port or group of another target has it"
    )]
    PortGroup(u16),
    /// What is kept of a disk that is there.
    #[error("bdev {name} is there: delete it first")]
    InUse {
        /// Its name.
        name: String,
    },
    /// It is being deleted.
    #[error("{what} {name} is being deleted: try again when that is done")]
    Leaving {
        /// Which kind.
        what: What,
        /// Which.
        name: String,
    },
    /// Something else is made of the bdev.
    #[error("bdev {name} is part of bdev {by}: use that one")]
    Claimed {
        /// The bdev.
        name: String,
        /// What is made of it.
        by: String,
    },
    /// The bdev is served as a LUN and cannot be part of another bdev.
    #[error("bdev {0} is served as a LUN: remove that LUN first")]
    Mapped(String),
    /// A medium that does not come out.
    #[error("bdev {0} is no removable disk and no CD-ROM drive: nothing can be taken out")]
    NotRemovable(String),
    /// A medium that nobody uses.
    #[error("no LUN leads to bdev {0}: nobody has its medium")]
    NotServed(String),
    /// Initiators have locked a medium in.
    #[error(
        "an initiator prevents that the medium of bdev {0} is taken out, and is asked for it now; force takes it out at once"
    )]
    Prevented(String),
    /// A medium that is being changed.
    #[error("the medium of bdev {0} is being changed for another: try again when that is done")]
    Exchanged(String),
    /// The device says something of itself that SCSI cannot say.
    #[error("bdev {name}: {what}")]
    Unfit {
        /// Its name.
        name: String,
        /// What does not fit.
        what: &'static str,
    },
    /// Names that are none.
    #[error("{0:?} is not an iSCSI name: iqn., eui. or naa., up to 223 letters, digits, '-', '.' and ':'")]
    TargetName(String),
    /// An alias that cannot be told.
    #[error("alias {0:?}: up to 255 bytes without control characters")]
    Alias(String),
    /// Not a rule about initiators.
    #[error("{0:?} says no initiator: give an iSCSI name, one with * and ?, or ANY; a ! before it keeps out")]
    InitiatorName(String),
    /// Not a netmask.
    #[error(
        "{0:?} is not a netmask: give ADDRESS/BITS, as 192.0.2.0/24 or [2001:db8::]/32, an address, or ANY"
    )]
    Netmask(String),
    /// Logins cannot be sent elsewhere.
    #[error("portal group {tag}: {why}")]
    Redirect {
        /// Those by this portal group.
        tag: u16,
        /// Why not.
        why: &'static str,
    },
    /// A relative target port identifier that another port has, or that is 0.
    #[error("{0} cannot be the relative target port identifier of one port only: it is 0 or in use")]
    RelativePort(u16),
    /// A LUN out of range.
    #[error("LUN {0}: numbers are 0 to 16383")]
    LunNumber(u16),
    /// Switches of CHAP that do not go together.
    #[error(
        "disable_chap goes without require_chap and mutual_chap, and mutual_chap goes with require_chap only"
    )]
    Auth,
    /// An account that cannot be used.
    #[error("secret of user {user:?}: {why}")]
    Secret {
        /// Whose.
        user: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An option out of range.
    #[error("{name} is {least} to {most}, not {value}")]
    Range {
        /// Its name, as in `iscsi_set_options`.
        name: &'static str,
        /// What was asked for.
        value: u64,
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// A portal cannot be listened on.
    #[error("cannot listen on {portal}: {reason}{}", hint(*kind))]
    Listen {
        /// Which.
        portal: SocketAddr,
        /// Of which kind the system's refusal is.
        kind: io::ErrorKind,
        /// The system's words.
        reason: String,
    },
    /// A bound was reached.
    #[error("no more than {most} {what}s can be had: delete one first")]
    TooMany {
        /// Of what.
        what: What,
        /// The bound.
        most: usize,
    },
    /// The daemon stops.
    #[error("the daemon is stopping")]
    Stopping,
}

impl ChangeError {
    pub(crate) fn missing(what: What, name: impl ToString) -> ChangeError {
        ChangeError::Missing { what, name: name.to_string() }
    }

    pub(super) fn leaving(what: What, name: impl ToString) -> ChangeError {
        ChangeError::Leaving { what, name: name.to_string() }
    }

    pub(super) fn exists(what: What, name: impl ToString) -> ChangeError {
        ChangeError::Exists { what, name: name.to_string() }
    }

    pub(super) fn listen(portal: SocketAddr, error: &io::Error) -> ChangeError {
        ChangeError::Listen { portal, kind: error.kind(), reason: error.to_string() }
    }
}

/// What an error is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// What the state file keeps of a disk.
    Record,
    /// A map of LUNs.
    LunMap,
    /// A block device.
    Bdev,
    /// A target.
    Target,
    /// A LUN of a target.
    Lun,
    /// A pair of portal group and initiator group of a target.
    Map,
    /// A portal group.
    PortalGroup,
    /// A portal.
    Portal,
    /// An initiator group.
    InitiatorGroup,
    /// An initiator in a group.
    Initiator,
    /// A pattern of initiators whose IO is limited.
    InitiatorLimit,
    /// A netmask in a group.
    Netmask,
    /// An authentication group.
    AuthGroup,
    /// A user in an authentication group.
    User,
    /// A change that waits for devices or sessions.
    Change,
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            What::Record => "record",
            What::LunMap => "map of LUNs",
            What::Bdev => "bdev",
            What::Target => "target",
            What::Lun => "LUN",
            What::Map => "map",
            What::PortalGroup => "portal group",
            What::Portal => "portal",
            What::InitiatorGroup => "initiator group",
            What::Initiator => "initiator",
            What::InitiatorLimit => "pattern of initiators with limits",
            What::Netmask => "netmask",
            What::AuthGroup => "auth group",
            What::User => "user",
            What::Change => "change under way",
        })
    }
}

fn hint(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse => {
            "; another target or another lunette has it: stop that, or choose another portal"
        }
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has the address",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        _ => "",
    }
}
