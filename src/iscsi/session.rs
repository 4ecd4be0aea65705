//! A session in full feature phase: what its connections share (RFC 7143 §4.4.2), all of them on one reactor.
//!
//! The command window and the order in which commands have their turn, the tasks, the target with what is to be told at its
//! LUNs. What belongs to one connection alone (bytes, StatSN, timers) is [`crate::iscsi::conn`]. Nothing here sends.

mod conns;
mod pause;
mod place;
mod tasks;

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use arrayvec::ArrayVec;

use self::pause::Paused;
pub use self::tasks::{is_of_own, is_to_abort};
use crate::id::{NexusId, ReactorId, SessionId, UnitId};
use crate::iscsi::conn::Went;
use crate::iscsi::sn::Sn;
use crate::iscsi::task::{Phase, Task, TaskList, Tasks};
use crate::iscsi::window::{Place as SnPlace, Window};
use crate::limits;
use crate::meter::{SessionMeter, Stages};
use crate::qos::Pace;
use crate::scsi::Plan;
use crate::scsi::attention::{Attentions, Ua};
use crate::scsi::table::reports_attention;
use crate::scsi::view::{TargetView, UnitView};
use crate::slab::{Key, Slab};
use crate::time::Tick;

/// Task attribute ORDERED (RFC 7143 §11.3.1).
pub(in crate::iscsi) const ORDERED: u8 = 2;
/// Task attribute HEAD OF QUEUE.
const HEAD_OF_QUEUE: u8 = 3;

/// What a session is made from.
#[derive(Debug)]
pub struct SessionSetup {
    /// Its reactor.
    pub reactor: ReactorId,
    /// Its name.
    pub id: SessionId,
    /// Its nexus.
    pub nexus: NexusId,
    /// The target.
    pub target: Arc<TargetView>,
    /// CmdSN of the next command.
    pub exp_cmd_sn: Sn,
    /// A unit attention for each logical unit.
    pub attention: Ua,
    /// Further ones, which arose while the nexus had no session.
    pub owed: Vec<(UnitId, Ua)>,
    /// Commands wait until [`Session::open_gate`].
    pub is_gated: bool,
    /// Where it counts what it does.
    pub meter: Arc<SessionMeter>,
    /// Where its reactor counts how long that takes, of what no device had IO of.
    pub stages: Arc<Stages>,
    /// What its initiator may ask for, where that has limits.
    pub pace: Option<Arc<Pace>>,
}

/// The session.
#[derive(Debug)]
pub struct Session {
    reactor: ReactorId,
    id: SessionId,
    nexus: NexusId,
    target: Arc<TargetView>,
    /// By index in the target's mappings.
    attentions: Vec<Attentions>,
    pub(in crate::iscsi) window: Window,
    /// Of all its connections. Those whose turn has come stand in the order in which it came.
    pub(in crate::iscsi) tasks: TaskList,
    /// Its connections on the reactor, those included that are waited for.
    conns: ArrayVec<Key, { limits::SESSION_CONNS_MAX }>,
    /// Nothing is submitted: this many reasons to wait for devices.
    gate_count: u32,
    /// ExpCmdSN when control was last told.
    told_cmd_sn: Sn,
    /// Commands that have come.
    arrivals: u64,
    /// Tasks in [`Phase::Queued`].
    queued_count: u32,
    /// ORDERED tasks that have not ended.
    ordered_count: u32,
    /// Of the tasks that others have aborted, a device may have one still.
    has_aborted: bool,
    /// Task management functions that have not been answered.
    pub(in crate::iscsi) tmf_count: usize,
    /// A response is fenced (RFC 7143 §4.2.2.3): answers of commands wait.
    is_fenced: bool,
    meter: Arc<SessionMeter>,
    stages: Arc<Stages>,
    paused: Paused,
    #[cfg(feature = "sim")]
    is_by_arrival: bool,
}

impl Session {
    /// A session that begins. Allocates.
    pub fn new(setup: SessionSetup) -> Session {
        let mut attentions = vec![Attentions::new(); setup.target.mappings.len()];
        attentions.iter_mut().for_each(|attentions| attentions.push(setup.attention));
        let mut session = Session {
            reactor: setup.reactor,
            id: setup.id,
            nexus: setup.nexus,
            target: setup.target,
            attentions,
            window: Window::new(setup.exp_cmd_sn),
            tasks: TaskList::default(),
            conns: ArrayVec::new(),
            gate_count: u32::from(setup.is_gated),
            told_cmd_sn: setup.exp_cmd_sn,
            arrivals: 0,
            queued_count: 0,
            ordered_count: 0,
            has_aborted: false,
            tmf_count: 0,
            is_fenced: false,
            meter: setup.meter,
            stages: setup.stages,
            paused: Paused::new(setup.pace),
            #[cfg(feature = "sim")]
            is_by_arrival: false,
        };
        for (unit, ua) in setup.owed {
            session.attend(unit, ua);
        }
        session
    }

    /// Its name.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Its nexus.
    pub fn nexus(&self) -> NexusId {
        self.nexus
    }

    /// The target.
    pub fn target(&self) -> &Arc<TargetView> {
        &self.target
    }

    /// What is left when it is over, to be freed by whom it came from.
    pub fn into_parts(self) -> (Arc<TargetView>, Option<Arc<Pace>>) {
        (self.target, self.paused.into_pace())
    }

    /// Its tasks, oldest first.
    pub fn tasks(&self) -> &TaskList {
        &self.tasks
    }

    /// Whether a command whose CmdSN is due has to wait for nothing of this session.
    pub(in crate::iscsi) fn is_free(&self) -> bool {
        self.gate_count == 0 && self.ordered_count == 0 && self.paused.pace().is_none()
    }

    /// A command has ended with an answer.
    pub(in crate::iscsi) fn count(&self, task: &Task, units: &[Option<Arc<UnitView>>], now: Tick) {
        let took_ns = now.since_ns(task.came_at);
        if let Some(histogram) = &self.target.histogram {
            histogram.count(self.reactor, took_ns, 1);
        }
        let meter = &self.meter;
        match task.plan {
            plan if plan.reads().is_some() => meter.read(1, u64::from(task.queued_bytes)),
            Plan::Write(_) | Plan::Protected(_) => meter.wrote(1, u64::from(task.submitted_bytes)),
            _ => meter.did(),
        }
        meter.took(took_ns);
        if let Some(outcome) = &task.outcome {
            meter.ended(outcome);
        }
        let ran_at = task.ran_at.unwrap_or(now);
        let queue_ns = ran_at.since_ns(task.came_at);
        if let (Some(submitted_at), Some(done_at)) = (task.submitted_at, task.done_at) {
            let stages = self.stages_of(task.unit, units);
            stages.queue.add(queue_ns);
            stages.receive.add(submitted_at.since_ns(ran_at));
            stages.device.add(done_at.since_ns(submitted_at));
            stages.send.add(now.since_ns(done_at));
        } else {
            self.stages.queue.add(queue_ns);
        }
    }

    /// Where a command's time is counted that a device had IO of: with its unit, while that is there.
    fn stages_of<'a>(&'a self, unit: Option<UnitId>, units: &'a [Option<Arc<UnitView>>]) -> &'a Stages {
        let view = unit.and_then(|unit| UnitView::find(units, unit));
        let ledger = view.and_then(|view| view.ledger.as_deref());
        ledger.and_then(|ledger| ledger.stages(self.reactor)).unwrap_or(&self.stages)
    }

    /// Commands have taken the short way, and so no time.
    pub(in crate::iscsi) fn count_short(&self, went: &Went) {
        if let Some(histogram) = &self.target.histogram {
            histogram.count(self.reactor, 0, u64::from(went.reads + went.writes));
        }
        self.meter.read(u64::from(went.reads), went.read_bytes);
        self.meter.wrote(u64::from(went.writes), went.written_bytes);
    }

    /// How many commands have come.
    pub(in crate::iscsi) fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// One more comes: which one it is.
    #[inline(always)]
    pub(in crate::iscsi) fn arrive(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    /// Adds a task that has arrived; none where the table is full.
    #[inline(always)]
    pub(in crate::iscsi) fn add(&mut self, task: Task, tasks: &mut Tasks) -> Option<Key> {
        let is_ordered = task.attribute == ORDERED;
        let key = tasks.push(&mut self.tasks, task)?;
        self.ordered_count += u32::from(is_ordered);
        Some(key)
    }

    /// Whether a command of this CmdSN is on its way on another connection, its data not all there: whatever else comes with it
    /// is ignored, or that command would run without them.
    pub(in crate::iscsi) fn is_arriving(&self, cmd_sn: Sn, tasks: &Tasks) -> bool {
        let is_it = |task: &Task| task.phase == Phase::Early && !task.is_immediate && task.cmd_sn == cmd_sn;
        !self.is_single() && tasks.find(&self.tasks, is_it).is_some()
    }

    /// Takes the CmdSN of a request that becomes no task. Whether the request counts at all.
    pub(in crate::iscsi) fn take_cmd_sn(&mut self, is_immediate: bool, cmd_sn: Sn, tasks: &Tasks) -> bool {
        if is_immediate {
            return true;
        }
        if self.window.place(cmd_sn) == SnPlace::Ignored || self.is_arriving(cmd_sn, tasks) {
            return false;
        }
        // One that is early is served early: it changes nothing that a command before it could see.
        self.window.take(cmd_sn);
        true
    }

    /// A command that is not immediate is there. The command that is to run now, if any: this one, where its turn has come.
    pub(in crate::iscsi) fn arrived(
        &mut self,
        key: Key,
        cmd_sn: Sn,
        tasks: &mut Tasks,
        spare_window: &mut u32,
    ) -> Option<Key> {
        self.window.take(cmd_sn);
        if self.window.expected() != cmd_sn {
            return None;
        }
        if !self.is_single() && !self.is_by_arrival() {
            // One whose turn came before may have come on another connection while the data of this one were on their way.
            tasks.move_to_end(&mut self.tasks, key);
        }
        self.window.advance();
        self.window.begin();
        self.grow_window(spare_window);
        self.queue(key, tasks)
    }

    /// The next command whose CmdSN has become due and that may run.
    pub fn next_due(&mut self, tasks: &mut Tasks) -> Option<Key> {
        while let Some(sn) = self.window.advance() {
            let due = tasks.find(&self.tasks, |task| {
                task.phase == Phase::Early && task.cmd_sn == sn && !task.is_immediate
            });
            if let Some(key) = due {
                // Behind those whose turn came before.
                if !self.is_by_arrival() {
                    tasks.move_to_end(&mut self.tasks, key);
                }
                self.window.begin();
                if let Some(key) = self.queue(key, tasks) {
                    return Some(key);
                }
            } else {
                self.window.skip();
            }
        }
        None
    }

    /// A planted bug.
    #[cfg(feature = "sim")]
    pub fn order_by_arrival(&mut self) {
        self.is_by_arrival = true;
    }

    fn is_by_arrival(&self) -> bool {
        #[cfg(feature = "sim")]
        return self.is_by_arrival;
        #[cfg(not(feature = "sim"))]
        false
    }

    /// A task has its turn in CmdSN order: it runs now or as soon as the order of its task set allows. The task, if now.
    pub(in crate::iscsi) fn queue(&mut self, key: Key, tasks: &mut Tasks) -> Option<Key> {
        let task = tasks.get_mut(key)?;
        task.phase = Phase::Queued;
        self.queued_count += 1;
        self.may_run(key, tasks).then(|| {
            self.run(key, tasks);
            key
        })
    }

    fn run(&mut self, key: Key, tasks: &mut Tasks) {
        if let Some(task) = tasks.get_mut(key) {
            task.phase = Phase::Running;
            self.queued_count -= 1;
        }
    }

    /// A queued task that may run now: to be asked for when a task has ended or the gate was opened.
    pub fn next_runnable(&mut self, tasks: &mut Tasks) -> Option<Key> {
        if self.queued_count == 0 || self.gate_count > 0 {
            return None;
        }
        self.has_aborted &= tasks.find(&self.tasks, Task::is_told_later).is_some();
        let mut at = self.tasks.first();
        while let Some(key) = at {
            if tasks.get(key)?.phase == Phase::Queued && self.may_run(key, tasks) {
                self.run(key, tasks);
                return Some(key);
            }
            at = tasks.next(key);
        }
        None
    }

    /// SAM-5 §8.6: a SIMPLE task waits for older ORDERED ones, an ORDERED task for all older ones, within the nexus.
    fn may_run(&self, key: Key, tasks: &Tasks) -> bool {
        if self.gate_count > 0 {
            return false;
        }
        let Some(task) = tasks.get(key) else { return false };
        if self.has_aborted && self.would_overtake(task, tasks) {
            return false;
        }
        if self.ordered_count == 0 || task.attribute == HEAD_OF_QUEUE {
            return true;
        }
        let is_ordered = task.attribute == ORDERED;
        let mut at = self.tasks.first();
        while let Some(older) = at
            && older != key
        {
            let Some(other) = tasks.get(older) else { break };
            let counts = other.unit == task.unit && other.phase != Phase::Early && !other.is_over();
            if counts && (is_ordered || other.attribute == ORDERED) {
                return false;
            }
            at = tasks.next(older);
        }
        true
    }

    /// RFC 7143 §4.2.3.6: whether this would report the unit attention for an abort before the commands that it aborted are
    /// answered.
    fn would_overtake(&self, task: &Task, tasks: &Tasks) -> bool {
        let index = task.number.and_then(|number| self.target.mapping(number)).map(|(index, _)| index);
        let owes = index.and_then(|index| self.attentions.get(index)).is_some_and(|owed| !owed.is_empty());
        let is_of_unit = |other: &Task| other.unit == task.unit && other.is_told_later();
        owes && reports_attention(&task.cdb) && tasks.find(&self.tasks, is_of_unit).is_some()
    }

    /// A task is to be answered with TASK ABORTED once no device has any of it.
    pub(in crate::iscsi) fn note_aborted(&mut self) {
        self.has_aborted = true;
    }

    /// Commands wait until [`Session::open_gate`] has been called as often.
    pub fn close_gate(&mut self) {
        self.gate_count += 1;
    }

    /// IO of the former session, or of a connection that is gone, has come back: commands may run
    /// ([`Session::next_runnable`]).
    pub fn open_gate(&mut self) {
        self.gate_count = self.gate_count.saturating_sub(1);
    }

    /// A task is aborted before its end: it waits for nothing of the order any more.
    pub(in crate::iscsi) fn unqueue(&mut self, phase: Phase, is_immediate: bool) {
        match phase {
            // It has no place in the window, and gives none back.
            Phase::Early if is_immediate => {}
            // Its CmdSN is taken: whoever comes next finds no task and goes on.
            Phase::Early => self.window.begin(),
            Phase::Queued => self.queued_count -= 1,
            Phase::Paced | Phase::Running | Phase::Answered | Phase::Swallowing => {}
        }
    }

    /// Takes a task whose obligation is met out of every count, and drops it.
    pub(in crate::iscsi) fn forget(&mut self, key: Key, tasks: &mut Tasks) {
        let Some(task) = tasks.get(key) else { return };
        match task.phase {
            Phase::Early | Phase::Answered => {}
            phase => {
                if phase == Phase::Queued {
                    self.queued_count -= 1;
                }
                // An answer keeps the place until it is sent: see `Conn::sent`.
                if !task.is_immediate && !task.obligation.is_answered() {
                    self.window.end(1);
                }
            }
        }
        if task.attribute == ORDERED && task.phase != Phase::Answered {
            self.ordered_count -= 1;
        }
        debug_assert!(task.phase != Phase::Paced, "it has left the queue");
        tasks.discard(&mut self.tasks, key);
    }

    /// A task was answered and is kept: it holds nobody up any more.
    pub(in crate::iscsi) fn answered(&mut self, task: &mut Task) {
        if task.attribute == ORDERED {
            self.ordered_count -= 1;
        }
        task.phase = Phase::Answered;
    }

    /// A task that was answered goes on once more, for another connection.
    pub(in crate::iscsi) fn reopen(&mut self, task: &mut Task) {
        if task.phase == Phase::Answered {
            if task.attribute == ORDERED {
                self.ordered_count += 1;
            }
            task.phase = Phase::Running;
        }
    }

    /// Opens the window further while more than half of it is in use and the reactor has room.
    #[inline(always)]
    pub(in crate::iscsi) fn grow_window(&mut self, spare_window: &mut u32) {
        let size = self.window.size();
        if self.window.unanswered() * 2 > size
            && size < limits::WINDOW_MAX
            && *spare_window >= size
            && self.may_widen()
        {
            *spare_window -= size;
            self.window.grow();
        }
    }

    /// By how much its window has grown: that goes back to the reactor when the session ends.
    pub fn grown_by(&self) -> u32 {
        self.window.size() - limits::WINDOW_MIN
    }
}

/// Every session of a reactor. A connection names its session by its key: it is there as long as it has connections.
#[derive(Debug)]
pub struct Sessions {
    slab: Slab<Session>,
}

impl Sessions {
    /// An empty table for at most `capacity` sessions.
    pub fn new(capacity: u32) -> Sessions {
        Sessions { slab: Slab::new(capacity) }
    }

    /// Adds one, or gives it back where the table is full.
    pub fn insert(&mut self, session: Session) -> Result<Key, Box<Session>> {
        self.slab.insert(session).map_err(Box::new)
    }

    /// Its last connection is gone.
    pub fn remove(&mut self, key: Key) -> Option<Session> {
        self.slab.remove(key)
    }

    /// Which one it is.
    pub fn find(&self, id: SessionId) -> Option<Key> {
        self.slab.iter().find(|(_, session)| session.id == id).map(|(key, _)| key)
    }

    /// The present tenant of a slot; slots are below [`Sessions::used`].
    pub fn key_at(&self, index: u32) -> Option<Key> {
        self.slab.key_at(index)
    }

    /// Slots that have had a tenant.
    pub fn used(&self) -> u32 {
        self.slab.used()
    }
}

impl Index<Key> for Sessions {
    type Output = Session;

    #[inline(always)]
    fn index(&self, key: Key) -> &Session {
        self.slab.at(key)
    }
}

impl IndexMut<Key> for Sessions {
    #[inline(always)]
    fn index_mut(&mut self, key: Key) -> &mut Session {
        self.slab.at_mut(key)
    }
}
