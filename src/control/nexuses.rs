//! The I_T nexuses that are known: each has a number that outlives its sessions, in whose name it reserves, and what it is
//! owed while it has none.

use std::collections::{BTreeMap, VecDeque};

use super::sessions::Nexus;
use crate::id::{NexusId, UnitId};
use crate::limits::{KNOWN_NEXUSES_MAX, OWED_MAX};
use crate::scsi::attention::Ua;

#[derive(Debug)]
struct Known {
    nexus: Nexus,
    /// It has a session or had one.
    has_come: bool,
    owed: Vec<(UnitId, Ua)>,
}

/// What a session that begins is told of its nexus.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// Its number.
    pub id: NexusId,
    /// It had a session before.
    pub has_come: bool,
    /// Unit attentions that arose while it had none.
    pub owed: Vec<(UnitId, Ua)>,
}

/// The nexuses.
#[derive(Debug, Default)]
pub struct Nexuses {
    by_name: BTreeMap<Nexus, NexusId>,
    all: BTreeMap<NexusId, Known>,
    /// Those that may be forgotten first stand first.
    order: VecDeque<NexusId>,
    last: u32,
}

impl Nexuses {
    /// Its number, if it is known.
    pub fn find(&self, nexus: &Nexus) -> Option<NexusId> {
        self.by_name.get(nexus).copied()
    }

    /// Its number; from now on it is known.
    pub fn know(&mut self, nexus: &Nexus) -> NexusId {
        if let Some(id) = self.find(nexus) {
            return id;
        }
        // It ends: fewer are known than there are numbers. None is used again while it is.
        let id = loop {
            self.last = self.last.wrapping_add(1);
            if !self.all.contains_key(&NexusId(self.last)) {
                break NexusId(self.last);
            }
        };
        self.by_name.insert(nexus.clone(), id);
        self.all.insert(id, Known { nexus: nexus.clone(), has_come: false, owed: Vec::new() });
        self.order.push_back(id);
        id
    }

    /// The ISIDs by which this initiator has come to a target, or `is_registered` there: not those that others have only named.
    pub fn isids_of(
        &self,
        initiator: &str,
        target: &str,
        is_registered: impl Fn(NexusId) -> bool,
    ) -> Vec<[u8; 6]> {
        let is_its = |(nexus, id): &(&Nexus, &NexusId)| {
            nexus.target == target
                && nexus.initiator == initiator
                && (self.all.get(id).is_some_and(|known| known.has_come) || is_registered(**id))
        };
        let mut isids: Vec<_> = self.by_name.iter().filter(is_its).map(|(nexus, _)| nexus.isid).collect();
        isids.sort_unstable();
        isids.dedup();
        isids
    }

    /// A session of it begins.
    pub fn arrive(&mut self, nexus: &Nexus) -> Arrival {
        let id = self.know(nexus);
        let Some(known) = self.all.get_mut(&id) else {
            return Arrival { id, has_come: false, owed: Vec::new() };
        };
        let has_come = std::mem::replace(&mut known.has_come, true);
        Arrival { id, has_come, owed: std::mem::take(&mut known.owed) }
    }

    /// Its next session is to be told this.
    pub fn owe(&mut self, id: NexusId, unit: UnitId, ua: Ua) {
        if let Some(known) = self.all.get_mut(&id)
            && known.owed.len() < OWED_MAX
            && !known.owed.contains(&(unit, ua))
        {
            known.owed.push((unit, ua));
        }
    }

    /// Which it is.
    pub fn get(&self, id: NexusId) -> Option<&Nexus> {
        self.all.get(&id).map(|known| &known.nexus)
    }

    /// Where there are too many, forgets the one known longest, unless it `is_needed`. To be called as often as one is made
    /// known: the second look makes up for those that were kept.
    pub fn forget(&mut self, is_needed: impl Fn(NexusId, &Nexus) -> bool) {
        for _ in 0..2 {
            if self.order.len() <= KNOWN_NEXUSES_MAX {
                return;
            }
            let Some(id) = self.order.pop_front() else { return };
            match self.all.get(&id) {
                Some(known) if is_needed(id, &known.nexus) => self.order.push_back(id),
                Some(known) => {
                    self.by_name.remove(&known.nexus);
                    self.all.remove(&id);
                }
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nexus(number: usize) -> Nexus {
        Nexus { initiator: number.to_string(), isid: [0; 6], target: String::new(), portal_group: 1 }
    }

    #[test]
    fn a_number_is_kept_while_it_is_needed_and_the_others_go_first_come_first_gone() {
        let mut nexuses = Nexuses::default();
        let kept = nexuses.arrive(&nexus(0)).id;
        for number in 1..KNOWN_NEXUSES_MAX + 10 {
            nexuses.arrive(&nexus(number));
            nexuses.forget(|id, _| id == kept);
        }
        assert_eq!(nexuses.all.len(), KNOWN_NEXUSES_MAX);
        assert_eq!(nexuses.find(&nexus(0)), Some(kept));
        assert_eq!(nexuses.find(&nexus(1)), None);
        assert!(!nexuses.arrive(&nexus(1)).has_come, "it was forgotten");
        assert!(nexuses.arrive(&nexus(0)).has_come);
    }

    #[test]
    fn ports_are_found_by_their_initiators_name() {
        let mut nexuses = Nexuses::default();
        let of = |initiator: &str, isid: u8, target: &str, portal_group| Nexus {
            initiator: initiator.to_owned(),
            isid: [isid; 6],
            target: target.to_owned(),
            portal_group,
        };
        for nexus in [
            of("a", 2, "t", 1),
            of("a", 1, "t", 1),
            of("a", 1, "t", 2),
            of("ab", 3, "t", 1),
            of("a", 4, "u", 1),
        ] {
            nexuses.arrive(&nexus);
        }
        let registered = nexuses.know(&of("a", 6, "t", 1));
        nexuses.know(&of("a", 5, "t", 1));
        assert_eq!(nexuses.isids_of("a", "t", |id| id == registered), [[1; 6], [2; 6], [6; 6]]);
        assert!(nexuses.isids_of("b", "t", |_| true).is_empty());
    }

    #[test]
    fn what_is_owed_is_told_once() {
        let mut nexuses = Nexuses::default();
        let id = nexuses.know(&nexus(0));
        nexuses.owe(id, UnitId(3), Ua::RegistrationsPreempted);
        nexuses.owe(id, UnitId(3), Ua::RegistrationsPreempted);
        let owed = vec![(UnitId(3), Ua::RegistrationsPreempted)];
        assert_eq!(nexuses.arrive(&nexus(0)), Arrival { id, has_come: false, owed });
        assert_eq!(nexuses.arrive(&nexus(0)), Arrival { id, has_come: true, owed: Vec::new() });
    }

    #[test]
    fn a_number_in_use_is_not_given_again() {
        let mut nexuses = Nexuses::default();
        let first = nexuses.know(&nexus(0));
        nexuses.last = first.0.wrapping_sub(1);
        assert_ne!(nexuses.know(&nexus(1)), first);
    }
}
