//! SCSI events (RFC 7143 §11.9.1): what initiators are told unasked, beside the unit attention that tells it to their next command.
//!
//! An initiator without IO would not hear of a LUN that was added until it sends a command. It is told once: as long as a unit
//! attention for the same waits, nothing more is said. Nothing depends on it, so where there is no room it is left out.

use crate::net::Net;
use crate::reactor::turn::Reactor;
use crate::scsi::attention::Ua;
use crate::scsi::view::LunNumber;
use crate::slab::Key;
use crate::time::Tick;

/// Whether initiators do something about it: LUNs to be looked for, disks to be measured or asked for their names anew, paths to be
/// chosen anew.
fn is_event(ua: Ua) -> bool {
    matches!(ua, Ua::LunsChanged | Ua::CapacityChanged | Ua::InquiryChanged | Ua::AccessChanged)
}

impl<N: Net> Reactor<N> {
    /// Tells a session of a unit attention that is news to it, by the first of its connections that has room.
    pub(super) fn announce(&mut self, session: Key, number: LunNumber, ua: Ua, now: Tick) {
        let mut conns = self.tables.sessions[session].conns().iter();
        let may = |conn: &&Key| self.conns.get(**conn).is_some_and(|link| link.conn.may_tell_event());
        let Some(&conn) = conns.find(may).filter(|_| is_event(ua)) else { return };
        if let Some(link) = self.conns.get_mut(conn) {
            link.conn.tell_event(number, ua.sense(), &mut self.tables.cx(session, now));
            self.activate(conn);
        }
    }
}
