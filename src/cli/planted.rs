//! A bug that the environment plants in the daemon, so that the labs can be shown to find it. In a build without the
//! feature `sim` there is no such switch.

use super::Failed;
use crate::reactor::Planted;

/// No bug.
#[cfg(not(feature = "sim"))]
pub(super) fn from_environment() -> Result<Planted, Failed> {
    Ok(Planted::default())
}

/// The bug that `LUNETTE_PLANT` names; none where it is not set.
#[cfg(feature = "sim")]
pub(super) fn from_environment() -> Result<Planted, Failed> {
    use crate::reactor::Bug;

    const BUGS: [Bug; 2] = [Bug::FlushNotWaitedFor, Bug::FuaDropped];
    let Some(name) = std::env::var_os("LUNETTE_PLANT") else { return Ok(Planted::default()) };
    let bug = BUGS.into_iter().find(|bug| name.to_str() == Some(&format!("{bug:?}")));
    let bug = bug.ok_or_else(|| Failed::usage(format!("LUNETTE_PLANT={name:?}: it is one of {BUGS:?}")))?;
    tracing::warn!("a test build, with a bug planted: {bug:?}");
    Ok(Planted::bug(bug))
}
