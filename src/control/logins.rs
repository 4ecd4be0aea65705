//! The connections that control serves itself: taking them in, within bounds, and passing them on.

use std::net::IpAddr;

use super::desk::{Desk, Grant};
use super::entrance::{Cause, Ending, Entrance, Stage};
use super::tally::Tally;
use super::{Control, Origin};
use crate::id::SessionId;
use crate::iscsi::login::Established;
use crate::iscsi::sn::Sn;
use crate::limits::{DISCOVERIES_MAX, LOGINS_MAX};
use crate::net::Net;
use crate::reactor::message::{Adopt, Join, ToReactor};
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
            self.tally.turned_away();
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
            Err(error) => self.turned_away(origin.peer, &error, now),
        }
    }

    /// A connection had to be closed before it was taken in, for want of something of the system's.
    pub fn turned_away(&mut self, peer: std::net::SocketAddr, error: &std::io::Error, now: Tick) {
        self.tally.turned_away();
        self.log.login_closed(peer, None, error, "turned_away", now);
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

    /// The final response is written: a discovery session stays, another one goes to its reactor.
    fn established(&mut self, key: Key, now: Tick) {
        let Some(entrance) = self.entrances.get_mut(key) else { return };
        let Stage::Login(login) = std::mem::replace(&mut entrance.stage, Stage::Over) else { return };
        match login.into_established() {
            Ok(established) if established.target.is_some() => {
                entrance.stage = Stage::Waiting(Box::new(established));
                self.hand_over(key, now);
            }
            Ok(established) => self.discover(key, established, now),
            // It says so only once everything is written.
            Err(_) => self.close_entrance(key, &Cause::PeerGone, now),
        }
    }

    fn discover(&mut self, key: Key, established: Established, now: Tick) {
        let Some(origin) = self.entrances.get_mut(key).map(|entrance| entrance.origin) else { return };
        let is_old = |entrance: &Entrance<_>| entrance.is_reinstated_by(&established, &origin);
        let old = self.entrances.iter().find(|(_, entrance)| is_old(entrance)).map(|(key, _)| key);
        if let Some(old) = old {
            self.close_entrance(old, &Cause::Superseded, now);
        }
        let discoveries = self.entrances.iter().filter(|(_, entrance)| entrance.is_discovery()).count();
        if discoveries >= DISCOVERIES_MAX as usize {
            self.evict(Entrance::is_discovery, now);
        }
        let Some(entrance) = self.entrances.get_mut(key) else { return };
        let mut grant = entrance.grant;
        let mut desk = Desk {
            catalog: &self.catalog,
            sessions: &mut self.sessions,
            random: &mut *self.random,
            conn: key,
            origin: entrance.origin,
            grant: &mut grant,
        };
        entrance.discover(established, &mut desk, now);
        self.tally.logged_in("discovery");
        self.is_busy = true;
    }

    /// Passes a connection that has logged in to its session's reactor, if the nexus's former session has ended; else
    /// [`super::sessions::Step::Proceed`] will.
    pub(super) fn hand_over(&mut self, key: Key, now: Tick) {
        let Some(entrance) = self.entrances.get_mut(key) else { return };
        if let Some(Grant::Connection(session, cid)) = entrance.grant {
            return self.join(key, session, cid, now);
        }
        let (Stage::Waiting(established), Some(Grant::Session(session))) = (&entrance.stage, entrance.grant)
        else {
            return;
        };
        let target = established.target.as_ref().and_then(|wanted| {
            let target = self.catalog.targets.get(&wanted.name).filter(|target| !target.is_leaving)?;
            target.view(wanted.portal_group, self.sessions.get(session)?.lun_map).cloned()
        });
        let Some(target) = target else {
            self.close_entrance(key, &Cause::TargetGone, now);
            return;
        };
        let Some(admission) = self.sessions.admit(session) else { return };
        let Some(entrance) = self.entrances.remove(key) else { return };
        let Stage::Waiting(established) = entrance.stage else { return };
        self.tally.logged_in("normal");
        let mut pace = None;
        if let Some(session) = self.sessions.get(session) {
            self.log.session_up(admission.session, session, &established.proof, now);
            pace = self.allowances.pace_of(&session.nexus.initiator);
        }
        let adopt = Adopt {
            handle: self.net.release(entrance.sock),
            session: admission.session,
            nexus: admission.nexus,
            target,
            params: established.params,
            stat_sn: established.stat_sn,
            exp_cmd_sn: established.exp_cmd_sn,
            cid: established.cid,
            leftover: established.leftover,
            attention: admission.attention,
            owed: admission.owed,
            is_gated: admission.is_gated,
            nop_in: self.catalog.options.nop_in,
            meter: admission.meter,
            pace,
        };
        self.outbox.send(admission.reactor, ToReactor::Adopt(Box::new(adopt)));
        self.forget_nexuses();
    }

    /// Passes a further connection to its session's reactor.
    fn join(&mut self, key: Key, session: SessionId, cid: u16, now: Tick) {
        let Some(reactor) = self.sessions.joined(session, cid) else {
            self.close_entrance(key, &Cause::Superseded, now);
            return;
        };
        let Some(entrance) = self.entrances.remove(key) else { return };
        let Stage::Waiting(established) = entrance.stage else { return };
        if let Some(known) = self.sessions.get(session) {
            self.log.connection_up(session, known, cid, entrance.origin.peer, now);
        }
        let join = Join {
            handle: self.net.release(entrance.sock),
            session,
            cid,
            params: established.params,
            stat_sn: established.stat_sn,
            exp_stat_sn: established.exp_stat_sn,
            leftover: established.leftover,
            nop_in: self.catalog.options.nop_in,
        };
        self.outbox.send(reactor, ToReactor::Join(Box::new(join)));
    }

    /// Closes a connection, takes back what it was granted, and says why.
    pub(super) fn close_entrance(&mut self, key: Key, cause: &Cause, now: Tick) {
        let Some(entrance) = self.entrances.remove(key) else { return };
        if matches!(cause, Cause::Refused(_) | Cause::LoggedOut) {
            entrance.discard_input(&mut self.net, &mut self.scratch);
        }
        self.net.close(entrance.sock);
        match entrance.grant {
            Some(Grant::Session(session)) => self.sessions.withdraw(session),
            Some(Grant::Connection(session, _)) => self.sessions.withdraw_join(session, key),
            Some(Grant::Discovery(tsih)) => self.sessions.release_tsih(tsih),
            None => {}
        }
        if !entrance.is_discovery() {
            self.tally.login_ended(cause);
        }
        let (peer, initiator) = (entrance.origin.peer, entrance.initiator());
        let reason = Tally::login_reason(cause).unwrap_or_default();
        match cause {
            Cause::LoggedOut | Cause::Stopping => {}
            Cause::Evicted => self.log.evicted(peer, initiator, now),
            Cause::Refused(why) => self.log.login_refused(peer, initiator, why, reason, now),
            // Most initiators close a discovery session without a word.
            Cause::PeerGone if entrance.is_discovery() => {}
            _ if entrance.is_discovery() => self.log.discovery_closed(peer, &entrance.discoverer, cause, now),
            _ => self.log.login_closed(peer, initiator, cause, reason, now),
        }
    }

    /// Closes one of the connections that `may_go`: of the peer that has most of them, first one that has not said who
    /// it is, and of those the oldest.
    fn evict(&mut self, may_go: impl Fn(&Entrance<N::Sock>) -> bool, now: Tick) -> bool {
        let candidates = || self.entrances.iter().filter(|(_, entrance)| may_go(entrance));
        let peer = |entrance: &Entrance<N::Sock>| share(entrance.origin.peer.ip());
        let mut counts = std::collections::BTreeMap::<_, usize>::new();
        for (_, entrance) in candidates() {
            *counts.entry(peer(entrance)).or_default() += 1;
        }
        let victim = candidates().min_by_key(|(_, entrance)| {
            let count = counts.get(&peer(entrance)).copied().unwrap_or(0);
            (std::cmp::Reverse(count), entrance.initiator().is_some(), entrance.since)
        });
        let Some(key) = victim.map(|(key, _)| key) else { return false };
        self.close_entrance(key, &Cause::Evicted, now);
        true
    }
}
