//! FastAbort (RFC 7143 §4.2.3.4): a function that covers several tasks is answered without waiting for data that are owed for
//! them. The connections that have such tasks are told, and the tasks stay until that is acknowledged.
//!
//! They are told when the tasks are given up, which is before devices have given them back: nothing of them is wanted any more.

use crate::iscsi::task::Task;
use crate::net::Net;
use crate::reactor::turn::Reactor;
use crate::slab::Key;
use crate::time::Tick;

impl<N: Net> Reactor<N> {
    /// RFC 7143 §4.2.3.4: tells the connections of a session which tasks are about to be given up, one message for each LUN. Not
    /// the one that asked for it, whose initiator knows; and nobody who has not agreed to FastAbort (§4.2.3.5).
    pub(super) fn tell_terminated(
        &mut self,
        session: Key,
        asking: Option<Key>,
        is_covered: &dyn Fn(&Task) -> bool,
        now: Tick,
    ) {
        for index in 0..self.tables.sessions[session].conns().len() {
            let Some(conn) = self.tables.sessions[session].conns().get(index).copied() else { continue };
            let Some(link) = self.conns.get_mut(conn) else { continue };
            if Some(conn) == asking || !link.conn.is_fast_abort() {
                continue;
            }
            let mut has_told = false;
            while let Some(lun) =
                self.tables.sessions[session].next_to_tell(conn, is_covered, &self.tables.tasks)
                && link.conn.tell_terminated(lun, is_covered, &mut self.tables.cx(session, now))
            {
                has_told = true;
            }
            if has_told {
                self.activate(conn);
            }
        }
    }

    /// An initiator has acknowledged that tasks are terminated: those that wait for nothing else end.
    pub(super) fn terminated(&mut self, conn: Key, now: Tick) {
        let Some(session) = self.conns.get(conn).map(|link| link.conn.session_key()) else { return };
        while let Some(key) = self.tables.sessions[session].next_terminated(conn, &self.tables.tasks)
            && let Some(task) = self.tables.tasks.get_mut(key)
        {
            task.terminated = None;
            self.settle(conn, key, now);
        }
    }

    /// A function over several tasks is rejected: with FastAbort no data come all the same for what it has given up on the
    /// connection that asked. What a device has yet ends when it comes back.
    pub(super) fn excuse_on(&mut self, conn: Key, now: Tick) {
        let Some(link) = self.conns.get_mut(conn) else { return };
        if link.conn.is_fast_abort() {
            let session = link.conn.session_key();
            link.conn.excuse_given_up(&mut self.tables.cx(session, now));
            self.retire_on(conn, now);
        }
    }

    /// Data for what was given up on this connection do not come any more.
    pub(super) fn retire_on(&mut self, conn: Key, now: Tick) {
        let Some(link) = self.conns.get_mut(conn) else { return };
        let session = link.conn.session_key();
        while let Some(task) = self.tables.sessions[session].next_to_retire_on(conn, &self.tables.tasks) {
            link.conn.retire(task, &mut self.tables.cx(session, now));
        }
    }
}
