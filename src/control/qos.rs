//! Quality of service as an operator sets it: of logical units by their bdevs, of initiators by their names.
//!
//! Reactors keep it ([`crate::qos`]); here is who has which pace. All sessions of an initiator share one, on whatever reactors
//! they are.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use super::Control;
use super::access::NameGlob;
use super::error::{ChangeError, What};
use super::sessions::State;
use crate::limits::{INITIATOR_LIMITS_MAX, INITIATOR_RULE_BYTES_MAX};
use crate::net::Net;
use crate::qos::{Limits, Pace};
use crate::reactor::message::ToReactor;

/// What initiators may ask for whose names fit a pattern: each of them.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Rule {
    pattern: String,
    glob: NameGlob,
    limits: Limits,
}

impl Rule {
    /// How much of a name it says: of several that fit, that which says most holds.
    fn weight(&self) -> usize {
        self.pattern.bytes().filter(|byte| !matches!(byte, b'*' | b'?')).count()
    }
}

/// What initiators may ask for.
#[derive(Debug, Default)]
pub(super) struct Allowances {
    rules: Vec<Rule>,
    /// By name: what the sessions of an initiator share.
    paces: BTreeMap<String, Weak<Pace>>,
}

impl Allowances {
    /// Takes a rule in the place of the one with the same pattern.
    fn set(&mut self, pattern: &str, limits: Limits) -> Result<Rule, ChangeError> {
        let is_sound = !pattern.is_empty()
            && pattern.len() <= INITIATOR_RULE_BYTES_MAX
            && !pattern.chars().any(|c| c.is_control() || c.is_whitespace());
        if !is_sound {
            return Err(ChangeError::InitiatorName(pattern.to_owned()));
        }
        let pattern = pattern.to_lowercase();
        let rule = Rule { glob: NameGlob::new(&pattern), pattern, limits };
        let known = self.rules.iter().position(|known| known.pattern == rule.pattern);
        match known {
            Some(index) if limits.is_none() => drop(self.rules.remove(index)),
            Some(index) => self.rules[index] = rule.clone(),
            None if limits.is_none() => {}
            None if self.rules.len() == INITIATOR_LIMITS_MAX => {
                return Err(ChangeError::TooMany { what: What::InitiatorLimit, most: INITIATOR_LIMITS_MAX });
            }
            None => self.rules.push(rule.clone()),
        }
        Ok(rule)
    }

    /// What a session of this initiator shares with its others.
    pub(super) fn pace_of(&mut self, initiator: &str) -> Option<Arc<Pace>> {
        // The last of equals is taken: the latest.
        let fits = self.rules.iter().filter(|rule| rule.glob.matches(initiator));
        let limits = fits.max_by_key(|rule| rule.weight())?.limits;
        self.paces.retain(|_, pace| pace.strong_count() > 0);
        let known = self.paces.get(initiator).and_then(Weak::upgrade);
        let pace =
            known.filter(|pace| *pace.limits() == limits).unwrap_or_else(|| Arc::new(Pace::new(limits)));
        self.paces.insert(initiator.to_owned(), Arc::downgrade(&pace));
        Some(pace)
    }
}

impl<N: Net> Control<N> {
    /// Says how much may be asked of the logical unit that a bdev is; what waits there books anew.
    ///
    /// # Errors
    /// No such bdev.
    pub fn set_bdev_limits(&mut self, name: &str, limits: Limits) -> Result<(), ChangeError> {
        match self.catalog.registry.set_limits(name, limits)? {
            Some(view) => self.replace_unit(view),
            None => Ok(()),
        }
    }

    /// Says how much each initiator may ask for whose name fits the pattern (`*` for any run of characters, `?` for one): at all
    /// logical units together, in all its sessions. [`Limits::NONE`] takes the pattern away.
    ///
    /// # Errors
    /// A pattern that is none, too many.
    pub fn set_initiator_limits(&mut self, pattern: &str, limits: Limits) -> Result<(), ChangeError> {
        let rule = self.allowances.set(pattern, limits)?;
        for (session, known) in self.sessions.iter() {
            let name = &known.nexus.initiator;
            // Others are told when they are adopted.
            if matches!(known.state, State::Live { .. }) && rule.glob.matches(name) {
                let pace = self.allowances.pace_of(name);
                self.outbox.send(known.reactor, ToReactor::Pace { session, pace });
            }
        }
        Ok(())
    }

    /// What initiators may ask for, by pattern, in the order in which it was set.
    pub fn initiator_limits(&self) -> impl Iterator<Item = (&str, &Limits)> {
        self.allowances.rules.iter().map(|rule| (rule.pattern.as_str(), &rule.limits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "iqn.2026-01.example:db-1";

    fn ios(ios: u64) -> Limits {
        Limits { ios, ..Limits::NONE }
    }

    fn allowed(allowances: &mut Allowances, name: &str) -> Option<u64> {
        allowances.pace_of(name).map(|pace| pace.limits().ios)
    }

    #[test]
    fn the_pattern_that_says_most_holds() {
        let mut allowances = Allowances::default();
        assert_eq!(allowed(&mut allowances, HOST), None);
        for (pattern, limit) in [("iqn.2026-01.EXAMPLE:db-1", 3), ("*", 1), ("*:db-*", 2)] {
            allowances.set(pattern, ios(limit)).unwrap();
        }
        assert_eq!(allowed(&mut allowances, HOST), Some(3));
        assert_eq!(allowed(&mut allowances, "iqn.2026-01.example:db-2"), Some(2));
        assert_eq!(allowed(&mut allowances, "iqn.2026-01.example:web"), Some(1));
        allowances.set(HOST, Limits::NONE).unwrap();
        assert_eq!(allowed(&mut allowances, HOST), Some(2));
        allowances.set("*:DB-*", ios(4)).unwrap();
        assert_eq!((allowed(&mut allowances, HOST), allowances.rules.len()), (Some(4), 2));
    }

    #[test]
    fn sessions_of_one_initiator_share_a_pace_while_the_rule_stays() {
        let mut allowances = Allowances::default();
        allowances.set("*", ios(5)).unwrap();
        let one = allowances.pace_of(HOST).unwrap();
        let other = allowances.pace_of("iqn.2026-01.example:db-2").unwrap();
        assert!(Arc::ptr_eq(&one, &allowances.pace_of(HOST).unwrap()) && one != other);
        allowances.set("*", ios(6)).unwrap();
        assert_ne!(one, allowances.pace_of(HOST).unwrap());
        drop((one, other));
        allowances.pace_of("iqn.2026-01.example:db-3");
        assert_eq!(allowances.paces.len(), 1, "those of initiators without sessions are forgotten");
    }

    #[test]
    fn patterns_that_are_none_and_too_many_are_refused() {
        let mut allowances = Allowances::default();
        for pattern in ["", "a b", "iqn\n", &"x".repeat(INITIATOR_RULE_BYTES_MAX + 1)] {
            assert_eq!(
                allowances.set(pattern, ios(1)).unwrap_err(),
                ChangeError::InitiatorName(pattern.to_owned())
            );
        }
        for index in 0..INITIATOR_LIMITS_MAX {
            allowances.set(&format!("iqn.2026-01.example:{index}"), ios(1)).unwrap();
        }
        let refused = allowances.set("iqn.2026-01.example:more", ios(1)).unwrap_err();
        assert_eq!(refused, ChangeError::TooMany { what: What::InitiatorLimit, most: INITIATOR_LIMITS_MAX });
        allowances.set("iqn.2026-01.example:0", ios(2)).unwrap();
    }
}
