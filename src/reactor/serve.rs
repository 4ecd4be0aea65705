//! Connections being served: bytes in, what is done with them, bytes out, and in which order.

use std::io::IoSliceMut;

use crate::iscsi::error::Fatal;
use crate::iscsi::tx::Slices;
use crate::limits;
use crate::net::{Net, Rx, Tx};
use crate::reactor::message::{CloseCause, Event};
use crate::reactor::planted::planted;
use crate::reactor::turn::{Reactor, cause};
use crate::slab::Key;
use crate::time::Tick;

impl<N: Net> Reactor<N> {
    /// Puts a connection on the list of those to be served.
    pub(super) fn activate(&mut self, key: Key) {
        if let Some(link) = self.conns.get_mut(key)
            && !link.is_active
        {
            link.is_active = true;
            if link.is_heavy {
                self.heavy.push_back(key);
            } else {
                self.next_active.push(key);
            }
        }
    }

    /// Takes a connection that is to be closed off the list.
    pub(super) fn deactivate(&mut self, key: Key) {
        self.heavy.retain(|heavy| *heavy != key);
    }

    /// Serves each active connection that is not heavy.
    pub(super) fn serve(&mut self, now: Tick) -> bool {
        let mut active = std::mem::take(&mut self.active);
        std::mem::swap(&mut active, &mut self.next_active);
        self.lending.open();
        for &key in &active {
            self.receive(key, now);
        }
        self.answer(active, now)
    }

    /// Serves some of the heavy ones. Whoever moves little is looked at again before the others have their turn: so it waits as
    /// long as one of them takes, not as long as all of them.
    pub(super) fn serve_heavy(&mut self, now: Tick) -> bool {
        if self.heavy.is_empty() {
            return false;
        }
        let mut active = std::mem::take(&mut self.active);
        self.lending.open();
        let mut bytes = 0;
        while bytes < limits::HEAVY_TURN_BYTES
            && let Some(key) = self.heavy.pop_front()
        {
            self.receive(key, now);
            bytes += self.conns.get(key).map_or(0, |link| link.served_bytes.max(link.conn.unsent_bytes()));
            active.push(key);
        }
        self.answer(active, now)
    }

    /// Takes completions, and sends to each connection that was served.
    fn answer(&mut self, mut active: Vec<Key>, now: Tick) -> bool {
        // All requests of this turn are with the devices: what is done already is sent at once.
        self.kick();
        let mut worked = self.completions(now);
        self.lending.close();
        active.append(&mut self.next_active);
        worked |= !active.is_empty();
        for &key in &active {
            if let Some(link) = self.conns.get_mut(key) {
                link.is_active = false;
            }
            self.transmit(key, now);
            let Some(link) = self.conns.get_mut(key) else { continue };
            link.is_heavy = std::mem::take(&mut link.served_bytes) >= limits::HEAVY_BYTES;
            if link.is_readable && link.conn.wants_input() || link.is_writable && link.conn.has_output() {
                self.activate(key);
            }
        }
        active.clear();
        self.active = active;
        // All that was lent has gone back.
        self.tables.solicited.end_aside();
        worked
    }

    /// Receives once from a connection that has something, and goes through it.
    fn receive(&mut self, key: Key, now: Tick) {
        let Some(link) = self.conns.get_mut(key) else { return };
        if !link.is_readable || !link.conn.wants_input() {
            return;
        }
        let mut staging = std::mem::take(&mut self.staging);
        let cut = link.cut.take();
        let at = cut.as_deref().map_or(0, <[u8]>::len);
        staging[..at].copy_from_slice(cut.as_deref().unwrap_or_default());
        drop(cut);
        let memory = link.conn.memory(&mut self.tables.tasks);
        let direct = memory.len();
        let end = if direct > 0 { staging.len() } else { staging.len().min(limits::RECEIVE_BYTES) };
        let received =
            self.net.recv(link.sock, &mut [IoSliceMut::new(memory), IoSliceMut::new(&mut staging[at..end])]);
        let outcome = match received {
            Rx::Received { bytes, drained } => {
                link.is_readable = !drained;
                link.served_bytes = bytes;
                let placed = bytes.min(direct);
                link.conn.placed(placed, &mut self.tables.tasks);
                self.consume(key, &staging[..at + bytes - placed], !drained, now).map_err(cause)
            }
            Rx::WouldBlock => {
                link.is_readable = false;
                self.consume(key, &staging[..at], false, now).map_err(cause)
            }
            Rx::Closed | Rx::Broken => Err(CloseCause::PeerGone),
        };
        if let Err(cause) = outcome {
            self.close(key, cause, now);
        }
        self.staging = staging;
    }

    /// Keeps the beginning of a command, where it is one and there is a buffer, for the next receive. Whether it has.
    fn keep_cut(&mut self, key: Key, input: &[u8]) -> bool {
        let Some(link) = self.conns.get_mut(key).filter(|link| link.conn.is_cut(input)) else { return false };
        link.cut = self.tables.unsolicited.take(input.len());
        let Some(cut) = &mut link.cut else { return false };
        cut.copy_from_slice(input);
        true
    }

    /// Goes through received bytes; `is_more` says whether others are there that were not received yet.
    pub(super) fn consume(
        &mut self,
        key: Key,
        mut input: &[u8],
        is_more: bool,
        now: Tick,
    ) -> Result<(), Fatal> {
        let received = input.len();
        loop {
            let left = input.len();
            input = self.shorts(key, input, now);
            if is_more && self.keep_cut(key, input) {
                input = &[];
            }
            if input.is_empty() && left > 0 && left == received {
                // All of them went the short way, which none does while anything else is to be done.
                return Ok(());
            }
            let Some(link) = self.conns.get_mut(key) else { return Ok(()) };
            let request = link.conn.advance(&mut input, &mut self.tables.cx(link.conn.session_key(), now))?;
            match request {
                Some(request) => self.request(key, request, now)?,
                None => {
                    link.conn.input_ended(now);
                    if let Some(reason) = link.conn.take_rejected() {
                        let session = link.conn.session();
                        self.event(Event::Rejected { session, reason: reason.code() });
                    }
                    break;
                }
            }
        }
        Ok(())
    }

    /// Sends what a connection has queued, as far as its socket takes it.
    pub(super) fn transmit(&mut self, key: Key, now: Tick) {
        let mut has_tried = false;
        loop {
            let Some(link) = self.conns.get_mut(key) else { return };
            if !link.is_writable || !link.conn.has_output() {
                break;
            }
            has_tried = true;
            let session = link.conn.session_key();
            link.conn.fill(&mut self.batch, &self.tables.tx, &self.tables.sessions[session]);
            let outcome = {
                let mut slices = Slices::new();
                self.batch.slices(&self.tables.tx, &mut slices);
                self.net.send(link.sock, &slices)
            };
            match outcome {
                Tx::Sent(bytes) => {
                    link.served_bytes += bytes;
                    let is_all = bytes == self.batch.bytes();
                    if link.conn.sent(bytes, &self.batch, &mut self.tables.cx(session, now)) {
                        self.close(key, CloseCause::LoggedOut, now);
                        return;
                    }
                    if !is_all {
                        link.is_writable = false;
                    }
                }
                Tx::WouldBlock => link.is_writable = false,
                Tx::Broken => {
                    self.close(key, CloseCause::PeerGone, now);
                    return;
                }
            }
        }
        let Some(link) = self.conns.get_mut(key) else { return };
        if link.conn.has_output() {
            link.blocked_at.get_or_insert(now);
        } else if has_tried {
            let since = link.blocked_at.take().unwrap_or(now);
            self.meter.socket.add(now.since_ns(since));
        }
        if !planted!(self, LentNotKept) {
            link.conn.keep_lent(&mut self.tables.tx, &self.tables.solicited);
        }
        if link.has_stalled_reads && !link.conn.is_clogged() {
            self.unstall(key, now);
        }
    }
}
