//! Who decides about a mirror: which members are read and written, and what the state file says of that.
//!
//! A machine that is given time: a thread of its own does that, or a simulator. Only [`Records::save`] may block.

use std::sync::Arc;

use super::copier::{Came, Copier};
use super::fill::Fill;
use super::plan::{Plan, Role, Set};
use super::record::{News, Record, Records, Start, There};
use super::shared::{Order, Shape, Shared, What};
use super::{Recipe, Times};
use crate::bdev::Op;
use crate::time::Tick;

const LAST: &str = "it is the only member that has all data";

/// When a warden is to be given time again, unless somebody calls it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// There is more to do.
    AtOnce,
    /// A device or a reactor is at work for it.
    Soon,
    /// After so many nanoseconds.
    After(u64),
}

/// What it is doing beside deciding.
#[derive(Debug)]
pub(super) enum Job {
    Idle,
    /// A member is being filled.
    Fill {
        member: usize,
        step: Fill,
    },
    /// Members are being made equal, and it is said so.
    Calm(Calm),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Calm {
    /// Until no change is at work.
    Announced,
    /// These are still to be flushed.
    Flushing(Set),
}

/// What watches over a mirror.
#[derive(Debug)]
pub struct Warden {
    pub(super) shared: Arc<Shared>,
    pub(super) times: Times,
    pub(super) records: Box<dyn Records>,
    volatile: Set,
    is_new: bool,
    /// As it was found, or as it is to be.
    found: Record,
    /// What the state file says for certain; none while that is not known.
    recorded: Option<Record>,
    pub(super) plan: Plan,
    /// Of the plan.
    pub(super) epoch: u64,
    /// What the members that were there are by themselves; one that was not may be any of those that were found.
    owns: Vec<Option<[u8; 16]>>,
    pub(super) copier: Copier,
    pub(super) job: Job,
    /// Members that failed and were not decided about, and up to which report that would be.
    pub(super) failed: Set,
    seen: u64,
    judged: u64,
    /// Members that an operator took out.
    removed: Set,
    /// When each may be filled again, and how often it has failed.
    pub(super) again: Vec<(Tick, u32)>,
    orders: Vec<Order>,
    began: Option<Tick>,
    look_at: Tick,
    save_at: Tick,
    /// What was counted when something had changed last, and when that was seen.
    changes: (usize, u64),
    changed_at: Tick,
}

impl Warden {
    pub(super) fn new(shared: Arc<Shared>, recipe: Recipe) -> Warden {
        let count = shared.places.len();
        let volatile = (0..count).filter(|member| recipe.volatile.get(*member) == Some(&true));
        let volatile = volatile.fold(Set::EMPTY, |set, member| set.with(Set::of(member)));
        Warden {
            times: recipe.times,
            records: recipe.records,
            volatile: if recipe.is_new { Set::EMPTY } else { volatile },
            recorded: (!recipe.is_new).then(|| recipe.record.clone()),
            is_new: recipe.is_new,
            found: recipe.record,
            plan: Plan::EMPTY,
            epoch: 0,
            owns: vec![None; count],
            copier: Copier::new(count, recipe.hugepages),
            job: Job::Idle,
            failed: Set::EMPTY,
            seen: 0,
            judged: 0,
            removed: Set::EMPTY,
            again: vec![(Tick::ZERO, 0); count],
            orders: Vec::new(),
            began: None,
            look_at: Tick::ZERO,
            save_at: Tick::ZERO,
            changes: (0, 0),
            changed_at: Tick::ZERO,
            shared,
        }
    }

    /// The mirror is gone. Whether nothing of it is in a device any more.
    pub(super) fn end(&mut self, now: Tick) -> bool {
        self.copier.give_up();
        self.copier.poll(&self.shared.places, now);
        self.copier.is_idle() && self.shared.is_quiet()
    }

    /// Does what is to be done now.
    pub fn step(&mut self, now: Tick) -> Next {
        if self.shared.shape.get().is_none() {
            self.begin(now);
            let is_begun = self.shared.shape.get().is_some();
            return if is_begun { Next::AtOnce } else { Next::After(self.times.look_ns) };
        }
        self.obey(now);
        self.look(now);
        self.judge(now);
        self.settle();
        self.permit(now);
        let next = self.work(now);
        if next == Next::After(0) {
            let is_waited_for = self.seen != self.judged || self.shared.is_change_wanted();
            return Next::After(if is_waited_for { self.times.look_ns / 8 } else { self.times.look_ns });
        }
        next
    }

    fn there(&self, member: usize) -> Option<There> {
        There::of(&*self.shared.places.get(member)?.bdev()?)
    }

    pub(super) fn publish(&mut self, plan: Plan) {
        self.plan = plan;
        self.epoch = self.shared.publish(plan);
    }

    /// What the state file has to say where this is the plan.
    pub(super) fn record(&self, plan: Plan, is_dirty: bool) -> Record {
        let own = |member: usize| *self.owns.get(member)?;
        let mut members: Vec<[u8; 16]> = self.owns.iter().flatten().copied().collect();
        if members.len() < self.owns.len() {
            // Who is missing is one of these.
            members.extend(self.found.members.iter().filter(|former| !self.owns.contains(&Some(**former))));
        }
        let current = plan.current().iter().filter_map(own).collect();
        Record { members, current, is_dirty, ..self.found.clone() }
    }

    /// Whether members may differ, as far as the state file is concerned: it says otherwise only after they were flushed.
    pub(super) fn may_differ(&self) -> bool {
        self.plan.is_dirty() || self.recorded.as_ref().is_none_or(|record| record.is_dirty)
    }

    /// Whether the state file says this for certain.
    pub(super) fn save(&mut self, record: Record, now: Tick) -> bool {
        if self.recorded.as_ref() == Some(&record) {
            return true;
        }
        if now < self.save_at {
            return false;
        }
        self.recorded = None;
        match self.records.save(&record) {
            Ok(()) => {
                self.recorded = Some(record);
                true
            }
            Err(error) => {
                self.records.tell(News::NotSaved(&error));
                self.save_at = now.after_ns(self.times.look_ns);
                false
            }
        }
    }

    /// Nothing is shown yet: who may be?
    fn begin(&mut self, now: Tick) {
        let began = *self.began.get_or_insert(now);
        let is_late = now.since_ns(began) >= self.times.missing_ns;
        let there: Vec<Option<There>> = (0..self.owns.len()).map(|member| self.there(member)).collect();
        let current = match self.found.start(&there, self.volatile, is_late) {
            Start::With(current) => current,
            Start::Wait(why) => return self.shared.say_why(why),
        };
        self.owns = there.iter().map(|there| there.as_ref().map(|there| there.own)).collect();
        let plan = Plan::EMPTY.with_current(current);
        let record = self.record(plan, false);
        if !self.save(record, now) {
            return self.shared.say_why("the state file cannot be written".to_owned());
        }
        if self.found.is_dirty {
            self.records.tell(News::Unclean);
        } else if !self.is_new && self.found.current.len() > self.record(plan, false).current.len() {
            self.records.tell(News::Missing);
        }
        self.publish(plan);
        self.changed_at = now;
        // It was published before.
        let _ = self.shared.shape.set(self.shape());
    }

    pub(super) fn shape(&self) -> Shape {
        self.found.shape(self.times.window_bytes)
    }

    /// Whether who is in a place is who was there, and can hold the array.
    fn is_member(&self, member: usize) -> bool {
        let own = self.owns.get(member).copied().flatten();
        let is_it = |there: There| self.shape().fits(&there.info) && Some(there.own) == own;
        self.there(member).is_some_and(is_it)
    }

    /// Members that are not there any more have failed.
    fn look(&mut self, now: Tick) {
        if now < self.look_at {
            return;
        }
        self.look_at = now.after_ns(self.times.look_ns);
        let gone: Vec<usize> = self.plan.written().iter().filter(|member| !self.is_member(*member)).collect();
        for member in gone {
            self.failed = self.failed.with(Set::of(member));
        }
    }

    /// Takes operators' orders.
    fn obey(&mut self, now: Tick) {
        for order in self.shared.take_orders() {
            match order.what {
                What::Remove(member) | What::Doubt(member) if self.plan.current() == Set::of(member) => {
                    let _ = order.told.send(Err(LAST.to_owned()));
                }
                What::Doubt(member) => {
                    if self.plan.role(member) == Role::Out {
                        self.put_off(member, now, false);
                    }
                    self.failed = self.failed.with(Set::of(member));
                    self.orders.push(order);
                }
                What::Again(member) => {
                    self.forgive(member);
                    let _ = order.told.send(Ok(()));
                }
                What::Remove(member) => {
                    self.removed = self.removed.with(Set::of(member));
                    self.failed = self.failed.with(Set::of(member));
                    self.orders.push(order);
                }
                What::Add(member) if self.plan.role(member) == Role::Out && self.fillable(member) => {
                    self.removed = self.removed.without(Set::of(member));
                    self.forgive(member);
                    let _ = order.told.send(Ok(()));
                }
                What::Add(member) => {
                    let is_out = self.plan.role(member) == Role::Out;
                    let why = if is_out { "it is not there, or not large enough" } else { "it is not out" };
                    let _ = order.told.send(Err(why.to_owned()));
                }
            }
        }
    }

    /// Decides about members that failed: they are out, durably, before anybody is answered.
    fn judge(&mut self, now: Tick) {
        let (seen, failed) = self.shared.take_reports();
        (self.seen, self.failed) = (seen, self.failed.with(failed));
        let mut out = self.failed.and(self.plan.written());
        // The last one stays: there is nobody to be read instead. What it failed to do others may have: who is being filled begins
        // anew.
        if self.plan.current().without(out).is_empty() {
            let others = self.plan.written().without(self.plan.current());
            out = out.with(others).without(self.plan.reader().map_or(Set::EMPTY, Set::of));
        }
        if out.is_empty() {
            self.judged_all();
            return;
        }
        let plan = self.plan.with_out(out);
        let record = self.record(plan, self.may_differ());
        if !self.save(record, now) {
            return;
        }
        let plan = match &self.job {
            Job::Fill { member, .. } if out.has(*member) => plan.with_window(None),
            _ => plan,
        };
        let is_other = plan.reader() != self.plan.reader();
        // Others may not have yet what the new reader has.
        self.publish(plan.with_settling(plan.is_settling() || (is_other && plan.current().len() > 1)));
        for member in out.iter() {
            self.put_off(member, now, true);
            if matches!(self.job, Job::Fill { member: filled, .. } if filled == member) {
                self.job = Job::Idle;
            }
            let name = self.name(member);
            self.records.tell(News::Out(&name));
        }
        self.judged_all();
    }

    fn judged_all(&mut self) {
        for Order { what, told } in std::mem::take(&mut self.orders) {
            let (What::Remove(member) | What::Add(member) | What::Doubt(member) | What::Again(member)) = what;
            let is_out = self.plan.role(member) == Role::Out;
            if !is_out {
                // When it fails later it is not the operator who has taken it out.
                self.removed = self.removed.without(Set::of(member));
            }
            // Who asked may have gone.
            let _ = told.send(if is_out { Ok(()) } else { Err(LAST.to_owned()) });
        }
        self.failed = Set::EMPTY;
        self.judged = self.seen;
        self.shared.judge(self.seen);
    }

    pub(super) fn name(&self, member: usize) -> String {
        let bdev = self.shared.places.get(member).and_then(|place| place.bdev());
        bdev.map_or_else(String::new, |bdev| bdev.info().name)
    }

    /// A member is left alone for a while; for longer each time where that is because it has failed.
    pub(super) fn put_off(&mut self, member: usize, now: Tick, has_failed: bool) {
        if let Some((at, failures)) = self.again.get_mut(member) {
            *at = now.after_ns(self.times.again_ns << (*failures).min(7));
            *failures = failures.saturating_add(has_failed.into());
        }
    }

    /// Nothing is left of its failures.
    fn forgive(&mut self, member: usize) {
        self.again.iter_mut().skip(member).take(1).for_each(|again| *again = (Tick::ZERO, 0));
    }

    /// Reads may go on when all that was begun for another reader has ended.
    fn settle(&mut self) {
        if self.plan.is_settling() && self.shared.is_everywhere(self.epoch) {
            self.publish(self.plan.with_settling(false));
        }
    }

    /// Somebody wants to change blocks.
    fn permit(&mut self, now: Tick) {
        if !self.shared.is_change_wanted() {
            return;
        }
        if !self.plan.is_dirty() {
            let record = self.record(self.plan, true);
            if !self.save(record, now) {
                return;
            }
            if matches!(self.job, Job::Calm(_)) {
                self.job = Job::Idle;
            }
            self.publish(self.plan.with_dirty(true));
        }
        self.shared.change_may_begin();
        self.changed_at = now;
    }

    /// Goes on with the job; [`Next::After`] 0 where there is none.
    fn work(&mut self, now: Tick) -> Next {
        if matches!(self.job, Job::Idle) {
            // What an earlier job has left in a device comes back first. What could not be flushed is in doubt, whoever asked.
            if let Some(Came { flushed: Some(member), result: Err(trouble), .. }) =
                self.copier.poll(&self.shared.places, now)
                && trouble.is_members()
            {
                self.failed = self.failed.with(Set::of(member));
                return Next::AtOnce;
            }
            if !self.copier.is_idle() {
                return Next::Soon;
            }
            self.choose(now);
        }
        match std::mem::replace(&mut self.job, Job::Idle) {
            Job::Idle => {
                self.copier.close();
                Next::After(0)
            }
            Job::Fill { member, step } => self.fill(member, step, now),
            Job::Calm(calm) => self.calm(calm, now),
        }
    }

    /// Whether a member that is out can be filled.
    fn fillable(&self, member: usize) -> bool {
        let Some(There { info, own }) = self.there(member) else { return false };
        // A medium that is a member in another place is no second copy.
        let is_elsewhere =
            |(other, known): (usize, &Option<[u8; 16]>)| other != member && *known == Some(own);
        self.shape().fits(&info) && !info.read_only && !self.owns.iter().enumerate().any(is_elsewhere)
    }

    /// Whether a member is to be filled now.
    pub(super) fn is_due(&self, member: usize, now: Tick) -> bool {
        self.plan.role(member) == Role::Out
            && !self.removed.has(member)
            && self.again.get(member).is_some_and(|(at, _)| *at <= now)
            && self.fillable(member)
    }

    /// Who is in a place now is its member.
    pub(super) fn know(&mut self, member: usize) {
        let own = self.there(member).map(|there| there.own);
        self.owns.iter_mut().skip(member).take(1).for_each(|known| *known = own);
    }

    fn choose(&mut self, now: Tick) {
        let due = (0..self.owns.len()).find(|member| self.is_due(*member, now));
        if let Some(member) = due.filter(|_| Plan::has_numbers_for(self.shape().windows())) {
            self.job = Job::Fill { member, step: Fill::Opening { since: now } };
            return;
        }
        let changes = self.shared.changes();
        if changes != self.changes {
            (self.changes, self.changed_at) = (changes, now);
        }
        let is_equal = self.recorded.as_ref().is_some_and(|record| !record.is_dirty);
        if !is_equal && now.since_ns(self.changed_at) >= self.times.calm_ns && !self.shared.is_change_wanted()
        {
            self.publish(self.plan.with_dirty(false));
            self.job = Job::Calm(Calm::Announced);
        }
    }

    fn calm(&mut self, calm: Calm, now: Tick) -> Next {
        if self.shared.is_change_wanted() {
            return Next::AtOnce;
        }
        let calm = match calm {
            Calm::Announced if self.shared.is_everywhere(self.epoch) => Calm::Flushing(self.plan.current()),
            Calm::Announced => {
                self.job = Job::Calm(calm);
                return Next::Soon;
            }
            Calm::Flushing(left) => {
                if self.copier.is_idle() {
                    let Some(first) = left.first() else {
                        let record = self.record(self.plan, false);
                        if !self.save(record, now) {
                            // It is tried again, and flushed before that.
                            self.changed_at = now;
                        }
                        return Next::AtOnce;
                    };
                    self.copier.order(first, Op::Flush, None, now);
                }
                match self.copier.poll(&self.shared.places, now).map(|done| done.result) {
                    None => {
                        self.job = Job::Calm(calm);
                        return Next::Soon;
                    }
                    Some(result) => {
                        let first = left.first().map_or(Set::EMPTY, Set::of);
                        if let Err(trouble) = result {
                            if trouble.is_members() {
                                self.failed = self.failed.with(first);
                            }
                            self.changed_at = now;
                            return Next::AtOnce;
                        }
                        Calm::Flushing(left.without(first))
                    }
                }
            }
        };
        self.job = Job::Calm(calm);
        Next::AtOnce
    }
}
