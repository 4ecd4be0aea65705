//! A bug that the environment plants in the daemon, so that labs and tests can be shown to find it. In a build without the
//! feature `sim` there is no such switch.

use super::Failed;
use crate::reactor::Planted;

/// No bug.
#[cfg(not(feature = "sim"))]
pub(super) fn from_environment() -> Result<Planted, Failed> {
    Ok(Planted::default())
}

/// The bug that `LUNETTE_PLANT` names; none where it is not set. `nvme::` before the name says one of the NVMe driver,
/// `raid::` one of arrays.
#[cfg(feature = "sim")]
pub(super) fn from_environment() -> Result<Planted, Failed> {
    use crate::bdev::nvme::planted::{self, Bug as NvmeBug};
    use crate::bdev::raid::planted::{self as raid, Bug as RaidBug};
    use crate::reactor::Bug;

    const BUGS: [Bug; 3] = [Bug::FlushNotWaitedFor, Bug::FuaDropped, Bug::TurnNeverEnds];
    const NVME_BUGS: [NvmeBug; 2] = [NvmeBug::FlushNotSent, NvmeBug::FuaDropped];
    const RAID_BUGS: [RaidBug; 3] = [RaidBug::FlushOfOne, RaidBug::StaleRead, RaidBug::CopiedOver];
    let Some(name) = std::env::var_os("LUNETTE_PLANT") else { return Ok(Planted::default()) };
    let is_named = |bug: String| name.to_str() == Some(&bug);
    if let Some(bug) = BUGS.into_iter().find(|bug| is_named(format!("{bug:?}"))) {
        tracing::warn!("a test build, with a bug planted: {bug:?}");
        return Ok(Planted::bug(bug));
    }
    if let Some(bug) = NVME_BUGS.into_iter().find(|bug| is_named(format!("nvme::{bug:?}"))) {
        tracing::warn!("a test build, with a bug planted in the NVMe driver: {bug:?}");
        planted::plant_everywhere(bug);
        return Ok(Planted::default());
    }
    if let Some(bug) = RAID_BUGS.into_iter().find(|bug| is_named(format!("raid::{bug:?}"))) {
        tracing::warn!("a test build, with a bug planted in arrays: {bug:?}");
        raid::plant_everywhere(bug);
        return Ok(Planted::default());
    }
    Err(Failed::usage(format!(
        "LUNETTE_PLANT={name:?}: it is one of {BUGS:?}, nvme:: and one of {NVME_BUGS:?}, or raid:: and one of {RAID_BUGS:?}"
    )))
}
