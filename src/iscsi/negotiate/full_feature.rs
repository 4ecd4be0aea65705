//! Text requests in full feature phase (RFC 7143 §11.10): answered into a given buffer, without allocation.

use super::{Answer, Offer, REJECT, Seen, decide, is_reserved, not_understood};
use crate::iscsi::keys::{self, Kind, SEND_TARGETS, Use};
use crate::iscsi::params::Params;
use crate::iscsi::send_targets::{self, Sink, Space};
use crate::iscsi::text::{self, TextError};
use crate::scsi::view::TargetView;

/// A text request that is no such thing; to be answered with Reject, reason protocol error (04h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TextOffence {
    /// It is not text.
    Text(TextError),
    /// A key came twice.
    Repeated,
    /// The answers do not fit in the space given.
    NoSpace,
}

/// Answers the complete text of a request in a normal session with `target`: writes the answers to `out` and gives
/// their length. Only MaxRecvDataSegmentLength changes `params`; on an error nothing does.
///
/// # Errors
/// The text is to be refused whole.
pub fn answer_in_full_feature(
    request: &[u8],
    target: &TargetView,
    params: &mut Params,
    out: &mut [u8],
) -> Result<usize, TextOffence> {
    let mut space = Space::new(out);
    answer(request, params, &mut space, |value, space| {
        // RFC 7143 appendix C: in a normal session All is refused, and only the session's own target is told.
        match value {
            "All" => space.pair(SEND_TARGETS, "Reject"),
            name if name.is_empty() || name.eq_ignore_ascii_case(&target.name) => {
                send_targets::write(target, space)
            }
            _ => Some(()),
        }
    })?;
    Ok(space.used_bytes())
}

/// Answers the complete text of a request in a discovery session; `send_targets` appends the records. It allocates.
///
/// # Errors
/// The text is to be refused whole.
pub(in crate::iscsi) fn answer_discovery_keys(
    request: &[u8],
    params: &mut Params,
    mut send_targets: impl FnMut(&str, &mut Vec<u8>),
) -> Result<Vec<u8>, TextOffence> {
    let mut out = Vec::new();
    answer(request, params, &mut out, |value, out| {
        send_targets(value, out);
        Some(())
    })?;
    Ok(out)
}

fn answer<S: Sink>(
    request: &[u8],
    params: &mut Params,
    out: &mut S,
    mut send_targets: impl FnMut(&str, &mut S) -> Option<()>,
) -> Result<(), TextOffence> {
    let mut outcome = *params;
    let mut seen = Seen::default();
    for pair in text::pairs(request) {
        let (name, value) = pair.map_err(TextOffence::Text)?;
        let row = keys::find(name);
        if let Some((row, _)) = row
            && !seen.is_new(row)
        {
            return Err(TextOffence::Repeated);
        }
        let answer = match row {
            None => not_understood(value),
            Some(_) if is_reserved(value) => Answer::Nothing,
            Some((_, key)) => match (key.at, key.kind) {
                (Use::FullFeature, Kind::SendTargets) => {
                    send_targets(value, out).ok_or(TextOffence::NoSpace)?;
                    Answer::Nothing
                }
                (Use::Always, _) => decide(key, value, &Offer::DEFAULT, &mut outcome),
                _ => REJECT,
            },
        };
        match answer {
            Answer::Nothing => Some(()),
            Answer::Word(word) => out.pair(name, word),
            // No key of full feature phase is answered with a number.
            Answer::Number(_) => out.pair(name, "Reject"),
        }
        .ok_or(TextOffence::NoSpace)?;
    }
    params.send_segment_bytes_max = outcome.send_segment_bytes_max;
    Ok(())
}
