//! The connections that control serves itself: taking them in, within bounds, and passing them on.

use std::net::IpAddr;

use super::desk::{Desk, Grant};
use super::entrance::{Cause, Ending, Entrance, Stage};
use super::{Control, Origin};
use crate::iscsi::login::Established;
use crate::iscsi::sn::Sn;
use crate::limits::{DISCOVERIES_MAX, LOGINS_MAX};
use crate::net::Net;
use crate::reactor::message::{Adopt, ToReactor};
use crate::slab::Key;
use crate::time::Tick;

/// The part of an address that one peer cannot choose freely: of an IPv6 address the first 64 bits.
fn share(ip: IpAddr) -> [u8; 16] {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => {
            let mut octets = ip.octets();
            octets[8..].fill(0);
            octets
        }
    }
}

impl<N: Net> Control<N> {
    /// A connection has come in. Where there are too many, another one makes room, or this one is closed.
    pub fn accepted(&mut self, handle: N::Handle, origin: Origin, now: Tick) {
        if self.stopping.is_some() {
            return;
        }
        let logins = self.entrances.iter().filter(|(_, entrance)| !entrance.is_discovery()).count();
        if logins >= LOGINS_MAX as usize
            && !self.evict(|entrance| matches!(entrance.stage, Stage::Login(_)), now)
        {
            // All of them have logged in and wait for their predecessors: that is over soon.
            self.log.evicted(origin.peer, None, now);
            return;
        }
        let Some(key) = self.entrances.next_key() else { return };
        match self.net.adopt(handle, key) {
            Ok(sock) => {
                // RFC 7143 §4.2.2.2: the target chooses the first StatSN.
                let mut stat_sn = [0; 4];
                self.random.fill(&mut stat_sn);
                let entrance = Entrance::new(sock, origin, Sn(u32::from_ne_bytes(stat_sn)), now);
                let inserted = self.entrances.insert(entrance);
                debug_assert_eq!(inserted.ok(), Some(key));
            }
            Err(error) => self.log.login_closed(origin.peer, None, &error, now),
        }
    }

    /// Goes on with every connection that has something to do.
    pub(super) fn serve_entrances(&mut self, now: Tick) {
        for index in 0..LOGINS_MAX + DISCOVERIES_MAX {
            let Some(key) = self.entrances.key_at(index) else { continue };
            let Some(entrance) = self.entrances.get_mut(key) else { continue };
            if now >= entrance.deadline {
                self.close_entrance(key, &Cause::TooLate, now);
                continue;
            }
            if !entrance.is_due() {
                continue;
            }
            let mut grant = entrance.grant;
            let mut desk = Desk {
                catalog: &self.catalog,
                sessions: &mut self.sessions,
                random: &mut *self.random,
                discovery_chap: self.discovery_chap.as_ref(),
                conn: key,
                origin: entrance.origin,
                grant: &mut grant,
            };
            let ending = entrance.serve(&mut self.net, &mut self.scratch, &mut desk, now);
            entrance.grant = grant;
            match ending {
                None => self.is_busy |= entrance.is_due(),
                Some(Ending::Established) => self.established(key, now),
                Some(Ending::Close(cause)) => self.close_entrance(key, &cause, now),
            }
            self.run_steps(now);
        }
    }

    /// The final response is written.
    fn established(&mut self, key: Key, now: Tick) {
        let Some(mut entrance) = self.entrances.remove_keeping(key) else { return };
        let Stage::Login(login) = entrance.stage else { return };
        match login.into_established() {
            Ok(established) if established.target.is_some() => {
                entrance.stage = Stage::Waiting(Box::new(established));
            }
            Ok(_) | Err(_) => {}
        }
    }
}
