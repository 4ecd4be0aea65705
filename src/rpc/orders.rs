//! The faults that calls order of an error bdev.

use std::sync::Mutex;

use rustix::io::Errno;

use super::context::lock;
use super::fault::Fault;
use crate::bdev::error::{Fault as Injected, Faults, Kind, Rule, RuleId};

/// The faults of an error bdev: a rule for each pair that was ever ordered.
#[derive(Debug)]
pub(super) struct Orders {
    faults: Faults,
    rules: Mutex<Vec<(Kind, Injected, RuleId)>>,
}

impl Orders {
    /// None yet.
    pub(super) fn new(faults: Faults) -> Orders {
        Orders { faults, rules: Mutex::default() }
    }

    /// The next `count` IOs of a kind meet the fault; 0 takes the order back.
    pub(super) fn order(&self, kind: Kind, fault: Injected, count: u32) -> Result<(), Fault> {
        let mut rules = lock(&self.rules);
        if let Some((.., id)) = rules.iter().find(|rule| (rule.0, rule.1) == (kind, fault)) {
            self.faults.arm(*id, count);
            return Ok(());
        }
        let added = self.faults.add(Rule::everywhere(kind, fault), count);
        let id = added.map_err(|error| Fault::errno(Errno::NOMEM, error))?;
        rules.push((kind, fault, id));
        Ok(())
    }

    /// Takes back all that was ordered.
    pub(super) fn clear(&self) {
        for (.., id) in &*lock(&self.rules) {
            self.faults.arm(*id, 0);
        }
    }

    /// Lets go of what is held.
    pub(super) fn release(&self) {
        for (.., id) in &*lock(&self.rules) {
            self.faults.release(*id);
        }
    }
}
