//! How often what the log tells of has happened: by kind, and by a reason out of a fixed few, so that no peer makes it grow.

use std::collections::BTreeMap;

use super::entrance::Cause;
use crate::bdev::IoError;
use crate::iscsi::login::{Refusal, Why};
use crate::reactor::message::{CloseCause, EndReason, Event};

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fact {
    /// A session began; or a discovery session.
    LoggedIn,
    /// A login was refused, or ended in the middle.
    LoginFailed,
    /// A session's connection was closed.
    Closed,
    /// A PDU was answered with Reject (RFC 7143 §11.17).
    Rejected,
    /// A task management function was done (RFC 7143 §11.5).
    Function,
    /// An IO failed in a device.
    DeviceError,
    /// A command took too long.
    Slow,
    /// Events that reactors could not tell.
    Lost,
}

/// The counts.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<(Fact, &'static str), u64>);

impl Tally {
    fn add(&mut self, fact: Fact, reason: &'static str, count: u64) {
        let sum = self.0.entry((fact, reason)).or_default();
        *sum = sum.wrapping_add(count);
    }

    /// A session of the kind `session` began.
    pub(super) fn logged_in(&mut self, session: &'static str) {
        self.add(Fact::LoggedIn, session, 1);
    }

    /// A connection ended before it was one of a session.
    pub(super) fn login_ended(&mut self, cause: &Cause) {
        if let Some(reason) = Tally::login_reason(cause) {
            self.add(Fact::LoginFailed, reason, 1);
        }
    }

    /// What that is counted as; nothing where there was no login, or nobody gave it up.
    pub(super) fn login_reason(cause: &Cause) -> Option<&'static str> {
        Some(match cause {
            Cause::LoggedOut | Cause::Stopping | Cause::Discovery(_) => return None,
            Cause::PeerGone => "peer_gone",
            Cause::TooLate => "too_late",
            Cause::Evicted => "evicted",
            Cause::Superseded => "superseded",
            Cause::TargetGone => "target_gone",
            Cause::Refused(why) | Cause::Login(why) => why_failed(why),
        })
    }

    /// A connection could not be taken in.
    pub(super) fn turned_away(&mut self) {
        self.add(Fact::LoginFailed, "turned_away", 1);
    }

    /// What a reactor tells.
    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::Closed { cause, .. } => self.add(Fact::Closed, why_closed(*cause), 1),
            Event::Rejected { reason, .. } => self.add(Fact::Rejected, reject(*reason), 1),
            Event::Tmf { function, .. } => self.add(Fact::Function, function_name(*function), 1),
            Event::DeviceError { error, .. } => self.add(Fact::DeviceError, io_error(*error), 1),
            Event::Slow(slow) => self.add(Fact::Slow, "", slow.untold.saturating_add(1)),
            Event::Lost { count } => self.add(Fact::Lost, "", *count),
        }
    }

    /// What was counted of a kind, by reason.
    pub fn of(&self, fact: Fact) -> impl Iterator<Item = (&'static str, u64)> {
        self.0
            .range((fact, "")..)
            .take_while(move |((of, _), _)| *of == fact)
            .map(|((_, why), sum)| (*why, *sum))
    }
}

fn why_failed(why: &Why) -> &'static str {
    match why {
        Why::Authority(refusal) => match refusal {
            Refusal::MovedTemporarily(_) | Refusal::MovedPermanently(_) => "redirected",
            Refusal::AuthenticationFailure => "authentication",
            Refusal::Forbidden => "forbidden",
            Refusal::NotFound | Refusal::Removed => "no_such_target",
            Refusal::TooManyConnections => "too_many_connections",
            Refusal::CannotInclude | Refusal::NoSuchSession => "no_such_session",
            Refusal::TargetError | Refusal::ServiceUnavailable | Refusal::OutOfResources => "no_resources",
            Refusal::InitiatorError
            | Refusal::UnsupportedVersion
            | Refusal::MissingParameter
            | Refusal::SessionTypeNotSupported
            | Refusal::InvalidDuringLogin => "protocol",
        },
        Why::NotAuthenticated | Why::AuthMethod | Why::Chap(_) => "authentication",
        Why::NotLogin(_) => "not_iscsi",
        _ => "protocol",
    }
}

fn why_closed(cause: CloseCause) -> &'static str {
    match cause {
        CloseCause::LoggedOut => "logged_out",
        CloseCause::PeerGone => "peer_gone",
        CloseCause::Silent => "silent",
        CloseCause::SlowReader => "slow_reader",
        CloseCause::DataOutLate => "data_out_late",
        CloseCause::PduUnfinished => "pdu_unfinished",
        CloseCause::HeaderDigest => "header_digest",
        CloseCause::Protocol(_) => "protocol",
        CloseCause::NotRecovered => "not_recovered",
        CloseCause::LoggedOutByAnother => "logged_out_by_another",
        CloseCause::Replaced => "replaced",
        CloseCause::Ended(EndReason::Reinstated) => "reinstated",
        CloseCause::Ended(EndReason::NexusReset) => "nexus_reset",
        CloseCause::Ended(EndReason::Removed) => "ended",
        CloseCause::Stopping => "stopping",
    }
}

/// RFC 7143 §11.17.1.
fn reject(reason: u8) -> &'static str {
    match reason {
        0x02 => "data_digest",
        0x03 => "snack",
        0x04 => "protocol",
        0x05 => "not_supported",
        0x06 => "too_many_immediate",
        0x08 => "invalid_data_ack",
        0x09 => "invalid_field",
        0x0a => "no_transfer_tag",
        _ => "other",
    }
}

/// RFC 7143 §11.5.1, RFC 7144 §4.3.
fn function_name(function: u8) -> &'static str {
    match function {
        1 => "abort_task",
        2 => "abort_task_set",
        3 => "clear_aca",
        4 => "clear_task_set",
        5 => "logical_unit_reset",
        6 => "target_warm_reset",
        7 => "target_cold_reset",
        8 => "task_reassign",
        9 => "query_task",
        10 => "query_task_set",
        11 => "i_t_nexus_reset",
        12 => "query_asynchronous_event",
        _ => "other",
    }
}

fn io_error(error: IoError) -> &'static str {
    match error {
        IoError::Medium { .. } => "medium",
        IoError::NoSpace => "no_space",
        IoError::OutOfRange => "out_of_range",
        IoError::ReadOnly => "read_only",
        IoError::FlushFailed => "flush_failed",
        IoError::Unsupported => "unsupported",
        IoError::Cancelled => "cancelled",
        IoError::Aborted => "aborted",
        IoError::AccessDenied => "access_denied",
        IoError::Miscompare => "miscompare",
        IoError::Guard | IoError::ApplicationTag | IoError::ReferenceTag => "protection",
        IoError::Gone => "gone",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SessionId;

    #[test]
    fn facts_are_counted_by_reason() {
        let session = SessionId(1);
        let mut tally = Tally::default();
        tally.logged_in("normal");
        for cause in [
            Cause::Refused(Why::Authority(Refusal::Forbidden)),
            Cause::Login(Why::NotLogin(0x47)),
            Cause::Refused(Why::AuthMethod),
            Cause::Refused(Why::Authority(Refusal::AuthenticationFailure)),
            Cause::LoggedOut,
            Cause::Stopping,
        ] {
            tally.login_ended(&cause);
        }
        tally.event(&Event::Closed { session, cause: CloseCause::Protocol("whatever") });
        tally.event(&Event::Rejected { session, reason: 0x77 });
        tally.event(&Event::Lost { count: 7 });
        let of = |fact| tally.of(fact).collect::<Vec<_>>();
        assert_eq!(of(Fact::LoggedIn), [("normal", 1)]);
        assert_eq!(of(Fact::LoginFailed), [("authentication", 2), ("forbidden", 1), ("not_iscsi", 1)]);
        assert_eq!(of(Fact::Closed), [("protocol", 1)]);
        assert_eq!(of(Fact::Rejected), [("other", 1)]);
        assert_eq!(of(Fact::Function), []);
        assert_eq!(of(Fact::Lost), [("", 7)]);
    }
}
