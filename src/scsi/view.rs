//! What control publishes of targets and logical units, and reactors read.

use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::bdev::count::Ledger;
use crate::bdev::protection::Protection;
use crate::bdev::space::{Space, Temperature};
use crate::bdev::{Offloads, Unmap};
use crate::histogram::Histogram;
use crate::id::UnitId;
use crate::qos::Pace;
use crate::scsi::alua::Alua;
use crate::scsi::chore::Chore;
use crate::scsi::provisioning::Thresholds;
use crate::scsi::report::identifying::Identifying;
use crate::scsi::report::timestamp::Clock;
use crate::scsi::reserve::Permits;

/// A logical unit number: 0 to 16383 (flat space addressing from 256 on; SAM-5 §4.7.7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LunNumber(pub u16);

/// Who a logical unit says it is (INQUIRY, VPD 80h and 83h).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// T10 vendor identification, ASCII, padded with spaces.
    pub vendor: [u8; 8],
    /// Product identification, ASCII, padded with spaces.
    pub product: [u8; 16],
    /// Product revision level, ASCII, padded with spaces.
    pub revision: [u8; 4],
    /// Unit serial number, ASCII, at most 64 bytes.
    pub serial: String,
    /// NAA identifier: locally assigned (3h) unless set (SPC-5 §7.8.6.6). 8 bytes, or 16 where it begins with 6h.
    pub naa: ArrayVec<u8, 16>,
    /// EUI-64 based identifier, where one is set (SPC-5 §7.8.6.5).
    pub eui64: Option<[u8; 8]>,
    /// What follows the vendor in the T10 vendor ID based designator, where it is set: else product and serial number.
    pub t10: Option<String>,
    /// Designation descriptors one after another, where the operator has chosen them as they are: they stand in VPD 83h
    /// instead of those made of the fields above.
    pub designators: Vec<u8>,
}

impl Identity {
    /// The designation descriptors that were chosen as they are, one by one, each with its header.
    pub fn descriptors(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.designators.as_slice();
        std::iter::from_fn(move || {
            let whole = 4 + usize::from(*rest.get(3)?);
            let (one, others) = rest.split_at_checked(whole)?;
            rest = others;
            Some(one)
        })
    }
}

/// What kind of device a logical unit is to initiators.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum DeviceKind {
    /// A direct access block device (SBC-4).
    #[default]
    Disk,
    /// The same, with a medium that comes out.
    RemovableDisk,
    /// A CD or DVD drive (MMC-6), its disc an image.
    CdRom,
    /// A device of the target's host that its commands are passed on to, whatever it is.
    Passed {
        /// Its READs and WRITEs count blocks.
        is_blocks: bool,
    },
}

impl DeviceKind {
    /// PERIPHERAL DEVICE TYPE (SPC-5 §6.7.2).
    pub const fn device_type(self) -> u8 {
        match self {
            // It says so itself; what it does not is a disk to reservations.
            DeviceKind::Disk | DeviceKind::RemovableDisk | DeviceKind::Passed { .. } => 0x00,
            DeviceKind::CdRom => 0x05,
        }
    }

    /// RMB: the medium can be taken out.
    pub const fn is_removable(self) -> bool {
        matches!(self, DeviceKind::RemovableDisk | DeviceKind::CdRom)
    }
}

/// What holds a removable medium.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tray {
    /// An initiator prevents the removal (SPC-5, PREVENT ALLOW MEDIUM REMOVAL).
    pub is_locked: bool,
    /// The operator wants the medium out and an initiator prevents it.
    pub is_eject_wanted: bool,
}

/// Whether the medium can be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Medium {
    /// Yes.
    Ready,
    /// Not now: media commands end in NOT READY, 04h/00h.
    NotReady,
    /// A device keeps writes that were given up and that nothing can stop: media commands end in NOT READY, 04h/07h, until
    /// the last of them has come back.
    Unsettled,
    /// A chore is done on the whole of it ([`UnitView::chore`]): media commands end in NOT READY.
    Busy,
    /// A SANITIZE has failed: media commands end in MEDIUM ERROR, 31h/03h.
    Failed,
    /// It was taken out: media commands end in NOT READY, 3Ah, until it is loaded again.
    Ejected,
    /// There is none to load: NOT READY, 3Ah.
    Empty,
    /// The logical unit is being removed: every command ends in 25h/00h.
    Removed,
}

impl Medium {
    /// Whether there is one whose size is known, whatever is done to it now or has failed.
    pub fn is_there(self) -> bool {
        matches!(self, Medium::Ready | Medium::Busy | Medium::Failed)
    }
}

/// The changeable fields of the mode pages: one set per logical unit, shared by every nexus (MLUS=0, SPC-5 §7.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Modes {
    /// WCE of the caching page: what was written may wait in the device's volatile cache. Never set where there is none.
    pub write_cache: bool,
    /// D_SENSE of the control page: sense data in descriptor format.
    pub descriptor_sense: bool,
    /// SWP of the control page: WRITE PROTECTED for everybody.
    pub write_protect: bool,
    /// The informational exceptions control page without its header. It is kept and shown; there is never an exception to
    /// report.
    pub exceptions: [u8; 10],
    /// The logical block provisioning page, and what goes with it.
    pub thresholds: Thresholds,
}

impl Modes {
    /// The default values, for a device with or without a volatile write cache.
    pub const fn new(write_cache: bool) -> Modes {
        // DEXCPT.
        let exceptions = [0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let thresholds = Thresholds::DEFAULT;
        Modes { write_cache, descriptor_sense: false, write_protect: false, exceptions, thresholds }
    }
}

/// What hosts set in a unit beside its mode pages.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Settings {
    /// By SET TIMESTAMP.
    pub clock: Clock,
    /// By SET IDENTIFYING INFORMATION.
    pub identifying: Identifying,
}

/// A logical unit as the hot path reads it. Replaced whole, by a barrier.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnitView {
    /// Which.
    pub id: UnitId,
    /// Capacity in logical blocks.
    pub blocks: u64,
    /// Logical block size in bytes: a power of two, 512 to 4096.
    pub block_bytes: u32,
    /// Physical block size in bytes: a power of two, at least `block_bytes`.
    pub physical_block_bytes: u32,
    /// Who it says it is.
    pub identity: Identity,
    /// WRITE PROTECTED for everybody.
    pub read_only: bool,
    /// The device has a volatile write cache; whether it may be used is [`Modes::write_cache`].
    pub write_cache: bool,
    /// Shown in VPD B1h.
    pub rotational: bool,
    /// What MODE SELECT has set.
    pub modes: Modes,
    /// What else hosts have set.
    pub settings: Settings,
    /// Blocks can be given back (LBPME): UNMAP and WRITE SAME with UNMAP are served.
    pub unmap: Option<Unmap>,
    /// What its blocks take of the space there is, where the device can tell.
    pub space: Option<Arc<Space>>,
    /// How hot it is, where the device can tell.
    pub temperature: Option<Arc<Temperature>>,
    /// Where the target's status page is, where it has one that hosts can reach.
    pub status_url: Option<Arc<str>>,
    /// What is asked of the device, where that is counted.
    pub ledger: Option<Arc<Ledger>>,
    /// What the device does by itself.
    pub offloads: Offloads,
    /// The protection information that it was formatted with.
    pub protection: Option<Protection>,
    /// Who may do what with it.
    pub permits: Permits,
    /// By which target port groups.
    pub alua: Alua,
    /// Whether media commands can be served.
    pub medium: Medium,
    /// What is done on the whole of it, or was and has failed.
    pub chore: Option<Arc<Chore>>,
    /// What kind of device it is.
    pub kind: DeviceKind,
    /// What holds the medium, where it can be taken out.
    pub tray: Tray,
    /// How much may be asked of it, where that has limits.
    pub pace: Option<Arc<Pace>>,
}

impl UnitView {
    /// A disk that is ready, keeps what it is given and can do nothing beyond reading and writing. What differs is to be set.
    pub fn new(id: UnitId, blocks: u64, block_bytes: u32, identity: Identity) -> UnitView {
        UnitView {
            id,
            blocks,
            block_bytes,
            physical_block_bytes: block_bytes,
            identity,
            read_only: false,
            write_cache: false,
            rotational: false,
            modes: Modes::new(false),
            settings: Settings::default(),
            unmap: None,
            space: None,
            temperature: None,
            status_url: None,
            ledger: None,
            offloads: Offloads::default(),
            protection: None,
            permits: Permits::default(),
            alua: Alua::default(),
            medium: Medium::Ready,
            chore: None,
            kind: DeviceKind::Disk,
            tray: Tray::default(),
            pace: None,
        }
    }

    /// What is published of a unit; nothing where its index has another tenant by now.
    pub fn find(units: &[Option<Arc<UnitView>>], unit: UnitId) -> Option<&UnitView> {
        units.get(unit.index())?.as_deref().filter(|view| view.id == unit)
    }

    /// Whether every write must be durable before it is answered: there is a volatile cache that may not be used (WCE=0,
    /// SBC-4).
    pub fn is_write_through(&self) -> bool {
        self.write_cache && !self.modes.write_cache
    }

    /// WRITE PROTECTED for everybody: the device refuses writes, or SWP is set.
    pub fn is_write_protected(&self) -> bool {
        self.read_only || self.modes.write_protect
    }
}

/// A logical unit's place in a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// Its number there.
    pub number: LunNumber,
    /// The logical unit.
    pub unit: UnitId,
    /// WRITE PROTECTED for those who come this way.
    pub read_only: bool,
}

/// A target as the hot path reads it. Replaced whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetView {
    /// The iSCSI name, lower case.
    pub name: String,
    /// iSCSI alias, shown at login.
    pub alias: String,
    /// Relative target port identifier, unique across all targets (SPC-5 §7.8.6.7).
    pub relative_port: u16,
    /// Those of all ports of the target, ascending; each leads to all of its LUNs.
    pub ports: Vec<u16>,
    /// The target port group of each of them.
    pub port_groups: Vec<u16>,
    /// The iSCSI portal group tag of each of them.
    pub portal_groups: Vec<u16>,
    /// Asymmetric access target port group of this port (SPC-5 §7.8.6.8).
    pub port_group: u16,
    /// iSCSI target portal group tag.
    pub portal_group: u16,
    /// Whose LUNs these are: the initiator group's with this tag, or everybody's that have none of their own.
    pub lun_map: Option<u32>,
    /// `address:port,tag` of each portal, as told by SendTargets.
    pub portals: Vec<String>,
    /// Ascending by number.
    pub mappings: Vec<Mapping>,
    /// Where it is counted how many nanoseconds commands take; none where nobody wants to know.
    pub histogram: Option<Arc<Histogram>>,
}

impl TargetView {
    /// Where LUN `number` leads: its index in [`TargetView::mappings`] and the mapping.
    pub fn mapping(&self, number: LunNumber) -> Option<(usize, Mapping)> {
        let index = self.mappings.binary_search_by_key(&number, |mapping| mapping.number).ok()?;
        Some((index, self.mappings[index]))
    }
}
