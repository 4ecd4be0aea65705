//! What holds for every target unless it says otherwise, as `iscsi_set_options` sets it.

use super::auth::Auth;
use super::error::ChangeError;
use crate::iscsi::negotiate::Offer;
use crate::limits::{PIECE_BYTES_MAX, SESSION_CONNS_MAX, SESSIONS_MAX};
use crate::reactor::message::NopInTimes;

/// Options of the iSCSI side. What changes concerns logins from then on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Put before the name of a target that is no iSCSI name by itself, with a colon between.
    pub node_base: String,
    /// Sessions at once, those included whose last IO has not come back; 1 to [`SESSIONS_MAX`].
    pub sessions_max: usize,
    /// Keep-alive.
    pub nop_in: NopInTimes,
    /// What a discovery session has to prove at portal groups that say nothing about it.
    pub discovery: Auth,
    /// Our side of negotiations; targets that demand digests change those in it.
    pub offer: Offer,
    /// Secrets under 96 bits are taken (RFC 7143 §9.2.1 wants at least that).
    pub allows_weak_secrets: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            node_base: "iqn.2016-06.io.spdk".to_owned(),
            sessions_max: SESSIONS_MAX,
            nop_in: NopInTimes { ask_ns: 0, close_ns: 0 },
            discovery: Auth::default(),
            offer: Offer::DEFAULT,
            allows_weak_secrets: false,
        }
    }
}

/// A target's name, with the base before it where it is no iSCSI name by itself; in the case in which it was said.
pub(crate) fn whole_name(name: &str, node_base: &str) -> String {
    let is_kind = |kind: &str| name.get(..kind.len()).is_some_and(|it| it.eq_ignore_ascii_case(kind));
    if ["iqn.", "eui.", "naa."].into_iter().any(is_kind) {
        name.to_owned()
    } else {
        format!("{node_base}:{name}")
    }
}

impl Options {
    /// Whether each is in its range.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), ChangeError> {
        let range = |name, value: u64, least, most| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(ChangeError::Range { name, value, least, most })
            }
        };
        super::catalog::check_name(&format!("{}:x", self.node_base))?;
        range("max_sessions", self.sessions_max as u64, 1, SESSIONS_MAX as u64)?;
        range("max_connections_per_session", self.offer.connections_max.into(), 1, SESSION_CONNS_MAX as u64)?;
        range("error_recovery_level", self.offer.error_recovery_level.into(), 0, 2)?;
        range("default_time2wait", self.offer.time2wait.into(), 0, 3600)?;
        range("default_time2retain", self.offer.time2retain.into(), 0, 3600)?;
        range("first_burst_length", self.offer.first_burst_bytes.into(), 512, PIECE_BYTES_MAX.into())
    }
}
