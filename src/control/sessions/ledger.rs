//! What initiators have done at targets: kept when their sessions are over, so that no sum ever becomes less.

use std::collections::BTreeMap;

use super::{Nexus, Session, Sessions};
use crate::limits::LEDGER_MAX;
use crate::meter::Work;

/// Who did it, and where.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Pairing {
    /// The initiator's name; nothing for all that there was no room for.
    pub initiator: String,
    /// The target's name; the same.
    pub target: String,
}

/// Sums of at most [`LEDGER_MAX`] initiators at targets, those that come first, and of all others together.
#[derive(Clone, Default, Debug)]
pub struct Ledger {
    sums: BTreeMap<Pairing, Work>,
}

impl Ledger {
    /// Keeps what a session has done that is over; nothing of one that never came to its reactor.
    pub(super) fn close(&mut self, session: &Session) {
        let work = session.meter.work();
        if work != Work::default() {
            self.enter(&session.nexus, &work);
        }
    }

    /// Adds what a session has done.
    fn enter(&mut self, nexus: &Nexus, work: &Work) {
        let mut pairing = Pairing { initiator: nexus.initiator.clone(), target: nexus.target.clone() };
        if self.sums.len() >= LEDGER_MAX && !self.sums.contains_key(&pairing) {
            pairing = Pairing { initiator: String::new(), target: String::new() };
        }
        self.sums.entry(pairing).or_default().add(work);
    }

    /// The sums, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&Pairing, &Work)> {
        self.sums.iter()
    }
}

impl Sessions {
    /// What initiators have done at targets, those included that have no session any more.
    pub fn work(&self) -> Ledger {
        let mut ledger = self.ledger.clone();
        for session in self.all.values() {
            ledger.enter(&session.nexus, &session.meter.work());
        }
        ledger
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::SessionMeter;

    #[test]
    fn sums_are_of_initiators_at_targets_and_beyond_the_bound_of_all_others() {
        let nexus = |initiator: usize| Nexus {
            initiator: format!("iqn.i:{initiator:05}"),
            isid: [0; 6],
            target: "iqn.t".to_owned(),
            portal_group: 1,
        };
        let meter = SessionMeter::default();
        meter.read(1, 512);
        let mut ledger = Ledger::default();
        for initiator in 0..LEDGER_MAX + 3 {
            ledger.enter(&nexus(initiator), &meter.work());
        }
        ledger.enter(&nexus(1), &meter.work());
        let sums: Vec<(&str, u64)> =
            ledger.iter().map(|(pairing, work)| (pairing.initiator.as_str(), work.reads.bytes)).collect();
        assert_eq!(sums.len(), LEDGER_MAX + 1);
        assert_eq!(sums[..3], [("", 3 * 512), ("iqn.i:00000", 512), ("iqn.i:00001", 1024)]);
    }
}
