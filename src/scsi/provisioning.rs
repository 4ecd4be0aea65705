//! Thin provisioning as initiators see and watch it (SBC-4 §4.7): the LBA mapping resources that are used and available, and
//! thresholds of them.
//!
//! Resources are counted in *threshold sets*. Two thresholds can be armed by MODE SELECT: one that is met when what is available
//! falls to it, one when what is used rises to it; who meets one owes every nexus a unit attention
//! ([`Ua::SoftThreshold`]). Control looks at intervals; there is one for each time that a threshold is met.
//!
//! [`Ua::SoftThreshold`]: crate::scsi::attention::Ua::SoftThreshold

use crate::bdev::space::Space;
use crate::scsi::report::Writer;
use crate::scsi::view::UnitView;

/// A threshold set, as long as the capacity can be counted in such sets with 32 bits.
const SET_BYTES: u32 = 1024 * 1024;

/// What MODE SELECT has set of thresholds: the LBPERE bit and the logical block provisioning mode page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Thresholds {
    /// LBPERE: a threshold that is met is told.
    pub is_told: bool,
    /// Armed decreasing: of what is available.
    pub available: Threshold,
    /// Armed increasing: of what is used.
    pub used: Threshold,
}

impl Thresholds {
    /// As long as nobody has set them: to be told, but none is enabled.
    pub const DEFAULT: Thresholds = {
        let none = Threshold { is_enabled: false, sets: 0 };
        Thresholds { is_told: true, available: none, used: none }
    };
}

/// A threshold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Threshold {
    /// ENABLED.
    pub is_enabled: bool,
    /// THRESHOLD COUNT.
    pub sets: u32,
}

/// LBA mapping resources, in threshold sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resources {
    /// Whole sets that are left.
    pub available: u32,
    /// Sets that are used, a part of one counting as one.
    pub used: u32,
}

/// Which thresholds a unit meets.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Met {
    available: bool,
    used: bool,
}

impl Met {
    /// Whether one is met that was not before.
    pub fn exceeds(self, before: Met) -> bool {
        (self.available && !before.available) || (self.used && !before.used)
    }
}

/// The figures of a unit that gives blocks back and can tell what its blocks take: others have no thresholds.
pub fn space(unit: &UnitView) -> Option<&Space> {
    unit.unmap.and(unit.space.as_deref())
}

/// THRESHOLD EXPONENT: a threshold set has 2 to the power of it logical blocks.
pub fn set_exponent(unit: &UnitView) -> u8 {
    let usual = (SET_BYTES / unit.block_bytes).max(1).trailing_zeros();
    let needed = u64::BITS - (unit.blocks >> 32).leading_zeros();
    u8::try_from(usual.max(needed)).unwrap_or(u8::MAX)
}

/// What it uses and has left; none where that is not known.
pub fn resources(unit: &UnitView) -> Option<Resources> {
    let figures = space(unit)?.figures()?;
    let set_bytes = u64::from(unit.block_bytes).checked_shl(u32::from(set_exponent(unit)))?;
    let sets = |bytes: u64| u32::try_from(bytes / set_bytes).unwrap_or(u32::MAX);
    Some(Resources {
        available: sets(figures.available_bytes),
        used: sets(figures.used_bytes.saturating_add(set_bytes - 1)),
    })
}

/// Which of its thresholds the unit meets now.
pub fn met(unit: &UnitView) -> Met {
    let thresholds = unit.modes.thresholds;
    let Some(resources) = resources(unit).filter(|_| thresholds.is_told) else { return Met::default() };
    let Thresholds { available, used, .. } = thresholds;
    Met {
        available: available.is_enabled && resources.available <= available.sets,
        used: used.is_enabled && resources.used >= used.sets,
    }
}

/// VPD B2h behind its header: fully provisioned and no way to unmap, or thin, with or without anchors. No provisioning group, so DP=0.
pub(super) fn vpd(unit: &UnitView, writer: &mut Writer<'_>) {
    const LBPU_LBPWS_LBPWS10: u8 = 0xe0;
    // LBPRZ 001b: unmapped blocks read as zeroes.
    const LBPRZ: u8 = 0x04;
    const ANC_SUP: u8 = 0x02;
    const THIN: u8 = 0x02;
    let exponent = if space(unit).is_some() { set_exponent(unit) } else { 0 };
    writer.put(&match unit.unmap {
        None => [0; 4],
        Some(unmap) => {
            let reads_zeroes = if unmap.reads_zeroes { LBPRZ } else { 0 };
            let anchors = if unmap.anchors { ANC_SUP } else { 0 };
            [exponent, LBPU_LBPWS_LBPWS10 | reads_zeroes | anchors, THIN, 0]
        }
    });
}
