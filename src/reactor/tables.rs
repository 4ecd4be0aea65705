//! What a reactor's connections share: sessions, tasks, transmit items, IOs in flight, buffers.

use std::sync::Arc;

use crate::bdev::{Io, Op};
use crate::buf::{Buf, Pool};
use crate::id::{NexusId, SessionId, UnitId};
use crate::iscsi::conn::Cx;
use crate::iscsi::session::Sessions;
use crate::iscsi::task::Tasks;
use crate::iscsi::tx::Queued;
use crate::limits;
use crate::scsi::Place;
use crate::scsi::view::{LunNumber, UnitView};
use crate::slab::{Key, Slab};
use crate::time::Tick;

/// An IO that was submitted, or waits for room in its channel or for the end of a hold.
#[derive(Debug)]
pub(super) struct InFlight {
    /// The command, which may have ended meanwhile.
    pub(super) task: Key,
    pub(super) conn: Key,
    pub(super) session: SessionId,
    pub(super) nexus: NexusId,
    pub(super) unit: UnitId,
    /// The unit whose command it is: of a copy, another one than that it goes to.
    pub(super) of: UnitId,
    /// The LUN by which it goes, where that is not the command's.
    pub(super) number: Option<LunNumber>,
    pub(super) op: Op,
    /// Where its data stand in the command's.
    pub(super) offset: u32,
    /// How many bytes of them the initiator gets.
    pub(super) bytes: u32,
    /// Counts submissions: an IO with a lower number is older.
    pub(super) serial: u64,
    /// The IO itself while it waits for room in the channel or for a hold; the device does not have it then.
    pub(super) parked: Option<Io>,
    /// The next in the list of parked IOs that it is in.
    pub(super) next: Option<Key>,
    /// The hold under which it is made.
    pub(super) hold: Option<Key>,
    /// The device had it when its nexus lost leave to make it.
    pub(super) is_forbidden: bool,
    /// It was waited for in vain, and may yet change the medium.
    pub(super) is_lost: bool,
    /// It is a chore's: no command's and no session's.
    pub(super) is_chore: bool,
    pub(super) outlives: Outlives,
}

/// Whether an IO is made again, for nobody, when it is given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outlives {
    /// Nothing is left to make it for.
    No,
    /// It is a flush that belongs to a change, which holds whatever becomes of who has asked for it.
    Yes,
    /// The same, and the reactor has asked the device for its early end.
    Cut,
}

/// Stands for no task and no connection.
const NOBODY: Key = Key { index: u32::MAX, generation: 0 };

impl InFlight {
    /// One that nobody has asked for: no command, no connection, no hold.
    pub(super) fn of_nobody(unit: UnitId, op: Op, serial: u64) -> InFlight {
        InFlight {
            task: NOBODY,
            conn: NOBODY,
            session: SessionId(u64::MAX),
            nexus: NexusId(u32::MAX),
            unit,
            of: unit,
            number: None,
            op,
            offset: 0,
            bytes: 0,
            serial,
            parked: None,
            next: None,
            hold: None,
            is_forbidden: false,
            is_lost: false,
            is_chore: false,
            outlives: Outlives::No,
        }
    }

    /// Whether it is such a one.
    pub(super) fn is_of_nobody(&self) -> bool {
        self.task == NOBODY
    }

    /// Notes that the reactor asks the device for its early end.
    pub(super) fn cut(&mut self) {
        if self.outlives == Outlives::Yes {
            self.outlives = Outlives::Cut;
        }
    }

    /// Whether it was given up where it waited, or ends early because the reactor has asked for that: not by a device's own will,
    /// which might be the same each time.
    pub(super) fn is_cut(&self) -> bool {
        self.outlives == Outlives::Cut || self.parked.is_some()
    }
}

/// How much a reactor holds. Smaller than the default only where a world has to be made often: simulator, fuzzers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Connections; at least 1, at most [`limits::CONNS_MAX`].
    pub conns: u32,
    /// Commands by which windows may grow, together; at most [`limits::SPARE_WINDOW`].
    pub spare_window: u32,
    /// Bytes received at once; at least 64 KiB to be fast.
    pub staging_bytes: usize,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes {
            conns: limits::CONNS_MAX,
            spare_window: limits::SPARE_WINDOW,
            staging_bytes: limits::STAGING_BYTES,
        }
    }
}

/// The tables.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) sessions: Sessions,
    pub(super) tasks: Tasks,
    pub(super) tx: Slab<Queued>,
    pub(super) ios: Slab<InFlight>,
    pub(super) unsolicited: Pool,
    pub(super) solicited: Pool,
    pub(super) spare_window: u32,
    /// What is published of each logical unit.
    pub(super) views: Vec<Option<Arc<UnitView>>>,
    conn_capacity: u32,
    conns_step: u32,
    /// Connections that keep what they have answered, and for how many of them there is room.
    retaining: u32,
    retaining_capacity: u32,
}

/// Tasks that a connection may have without taking from the spare window.
const TASKS_PER_CONN: u32 = limits::WINDOW_MIN + limits::IMMEDIATE_MAX;
/// Transmit items per task: a READ's pieces or a WRITE's R2Ts, and the response.
const ITEMS_PER_TASK: u32 = 9;
const _: () =
    assert!(limits::R2TS_MAX < ITEMS_PER_TASK as usize && (limits::PLAN_IOS as u32) < ITEMS_PER_TASK);
const TASKS_MAX: u32 = limits::CONNS_MAX * TASKS_PER_CONN
    + limits::SPARE_WINDOW
    + limits::RETAINING_CONNS_MAX * limits::RETAINED_TASKS_MAX;
const _: () = assert!(TASKS_MAX * (limits::PLAN_IOS as u32) == limits::IOS_MAX);
const _: () = assert!(TASKS_MAX < 0xffff, "a target transfer tag has 16 bits for the task's index");

impl Tables {
    /// Enters an IO, which waits; none where the table is full.
    pub(super) fn add_io(&mut self, record: InFlight, data: Option<Buf>) -> Option<Key> {
        let op = record.op;
        let key = self.ios.insert(record).ok()?;
        if let Some(record) = self.ios.get_mut(key) {
            record.parked = Some(Io { tag: key, op, data });
        }
        Some(key)
    }

    pub(super) fn new(unsolicited: Pool, solicited: Pool, sizes: Sizes) -> Tables {
        let mut tables = Tables {
            sessions: Sessions::new(sizes.conns),
            tasks: Tasks::new(sizes.spare_window),
            tx: Slab::new(sizes.spare_window * ITEMS_PER_TASK),
            ios: Slab::new(sizes.spare_window * u32::from(limits::PLAN_IOS)),
            unsolicited,
            solicited,
            spare_window: sizes.spare_window,
            views: Vec::new(),
            conn_capacity: 0,
            conns_step: sizes.conns.min(limits::CONNS_STEP),
            retaining: 0,
            retaining_capacity: 0,
        };
        tables.hold(1);
        tables
    }

    /// Makes room for all that `conns` connections may accept. Allocates, in steps, at logins.
    pub(super) fn hold(&mut self, conns: u32) {
        while self.conn_capacity < conns {
            let tasks = self.conns_step * TASKS_PER_CONN;
            self.tasks.grow(tasks);
            self.tx.grow(
                tasks * ITEMS_PER_TASK
                    + self.conns_step * (limits::CONTROL_REPLIES_MAX + limits::TMFS_MAX + 4),
            );
            self.ios.grow(tasks * u32::from(limits::PLAN_IOS));
            self.conn_capacity += self.conns_step;
        }
    }

    /// Makes room for what one connection more keeps, if it may. Allocates, at logins.
    pub(super) fn retain(&mut self) -> bool {
        if self.retaining == limits::RETAINING_CONNS_MAX {
            return false;
        }
        self.retaining += 1;
        if self.retaining > self.retaining_capacity {
            self.retaining_capacity = self.retaining;
            self.tasks.grow(limits::RETAINED_TASKS_MAX);
            self.tx.grow(limits::RETAINED_TASKS_MAX * ITEMS_PER_TASK);
            self.ios.grow(limits::RETAINED_TASKS_MAX * u32::from(limits::PLAN_IOS));
        }
        true
    }

    /// A connection that kept what it had answered is gone.
    pub(super) fn let_go(&mut self) {
        self.retaining -= 1;
    }

    /// What of this a connection of this session works with.
    #[inline(always)]
    pub(super) fn cx(&mut self, session: Key, now: Tick) -> Cx<'_> {
        Cx {
            now,
            session: &mut self.sessions[session],
            tasks: &mut self.tasks,
            tx: &mut self.tx,
            unsolicited: &self.unsolicited,
            solicited: &self.solicited,
            units: &self.views,
            spare_window: &mut self.spare_window,
        }
    }

    /// The logical unit that a session finds at `number`.
    pub(super) fn place(&self, session: Key, number: Option<LunNumber>) -> Place<'_> {
        self.sessions[session].place(number, &self.views)
    }

    /// A queued task of a session that may run now.
    pub(super) fn next_runnable(&mut self, session: Key) -> Option<Key> {
        self.sessions[session].next_runnable(&mut self.tasks)
    }

    /// The next task of a session at `unit` that is not aborted yet, and not `except`.
    pub(super) fn next_to_abort(&self, session: Key, unit: UnitId, except: Option<Key>) -> Option<Key> {
        self.sessions[session].next_to_abort(unit, except, &self.tasks)
    }

    /// What is published of a unit.
    pub(super) fn view(&self, unit: UnitId) -> Option<&UnitView> {
        UnitView::find(&self.views, unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::Class;

    /// A connection that keeps what it has answered may have, beside its window, as many answered commands as it keeps responses, and
    /// as many immediate ones as may wait to be sent.
    #[test]
    fn what_is_kept_has_room_beside_the_window() {
        let pool = || Pool::ordinary(&[Class { bytes: 4096, count: 1 }]).unwrap();
        let sizes = Sizes { conns: 1, spare_window: 0, staging_bytes: 1 };
        let mut tables = Tables::new(pool(), pool(), sizes);
        let before = [tables.tasks.capacity(), tables.ios.capacity(), tables.tx.capacity()];
        assert!(tables.retain());
        let kept = limits::RETAINED_MAX + limits::CONTROL_REPLIES_MAX as usize;
        let more = [1, usize::from(limits::PLAN_IOS), ITEMS_PER_TASK as usize].map(|each| each * kept);
        let after = [tables.tasks.capacity(), tables.ios.capacity(), tables.tx.capacity()];
        assert_eq!(after, std::array::from_fn(|index| before[index] + more[index]));
    }
}
