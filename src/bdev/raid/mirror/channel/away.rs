//! Members that cannot be reached, while IOs wait for them: a controller may be looked for over minutes.

use super::super::plan::{Plan, Role, Set};
use super::super::slot::Stage;
use super::{MirrorChannel, Way};
use crate::bdev::ChannelState;
use crate::time::{SECOND_NS, Tick};

/// A member that IOs have waited for so long has failed, if another one can do without it.
const AWAY_NS: u64 = 10 * SECOND_NS;
/// It is looked at so often.
const LOOK_NS: u64 = SECOND_NS;

impl Way {
    fn is(&self, state: ChannelState) -> bool {
        self.open.as_ref().is_some_and(|(channel, _)| channel.state() == state)
    }
}

impl MirrorChannel {
    /// Reports members that are waited for in vain, and has those that are out give back what they have.
    pub(super) fn watch(&mut self, now: Tick) {
        if now < self.watch_at {
            return;
        }
        // While nobody polled, nobody waited.
        let is_anew = now.since_ns(self.watch_at) > 2 * LOOK_NS;
        self.watch_at = now.after_ns(LOOK_NS);
        let plan = self.shared.plan();
        for member in 0..self.ways.len() {
            let is_away = self.is_awaited(member)
                && self.ways.get(member).is_some_and(|way| way.is(ChannelState::Opening));
            if is_away && plan.role(member) == Role::Out {
                self.take_back(member);
            }
            let is_other_there = self.is_other_there(plan, member);
            let Some(way) = self.ways.get_mut(member) else { continue };
            let since = way.away_since.filter(|_| is_away && !is_anew).unwrap_or(now);
            way.away_since = is_away.then_some(since);
            if is_away && now.since_ns(since) >= AWAY_NS && is_other_there {
                self.shared.report(Set::of(member));
            }
        }
    }

    /// Whether an IO waits for this member, or is there.
    fn is_awaited(&self, member: usize) -> bool {
        let mut stages = self.slots.iter().map(|(_, slot)| slot.stage);
        stages.any(|stage| stage == Stage::Room(member) || stage == Stage::Leg(member))
    }

    /// Whether another member has all data and can be used. Where none can, waiting costs less than filling all members but one.
    fn is_other_there(&self, plan: Plan, member: usize) -> bool {
        let others = plan.current().without(Set::of(member));
        others.iter().any(|other| self.ways.get(other).is_some_and(|way| way.is(ChannelState::Ready)))
    }

    /// What waits in a member that is out goes on without it.
    fn take_back(&mut self, member: usize) {
        let Some((channel, _)) = self.ways.get_mut(member).and_then(|way| way.open.as_mut()) else { return };
        let has = self.slots.iter().filter(|(_, slot)| slot.stage == Stage::Leg(member));
        has.for_each(|(key, _)| channel.cancel(key));
    }
}
