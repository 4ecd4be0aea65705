//! Where commands go: the target's LUNs, and what the nexus has yet to be told at each.

use std::sync::Arc;

use super::Session;
use crate::id::UnitId;
use crate::scsi::Place;
use crate::scsi::attention::{Attentions, Ua};
use crate::scsi::view::{LunNumber, Mapping, TargetView, UnitView};

impl Session {
    /// The logical unit at `number`, as the command layer wants it.
    pub fn place<'a>(&'a self, number: Option<LunNumber>, units: &'a [Option<Arc<UnitView>>]) -> Place<'a> {
        let mapping = number.and_then(|number| self.target.mapping(number));
        let unit = mapping.and_then(|(_, mapping)| unit_of(units, mapping));
        let number = number.unwrap_or(LunNumber::NOWHERE);
        Place { nexus: self.nexus, target: &self.target, number, unit }
    }

    /// What the nexus has yet to be told at `number`.
    pub fn attentions(&mut self, number: Option<LunNumber>) -> Option<&mut Attentions> {
        let (index, _) = self.target.mapping(number?)?;
        self.attentions.get_mut(index)
    }

    /// The place at `number`, with the view there, if the nexus is owed nothing at it.
    #[inline(always)]
    pub(in crate::iscsi) fn quiet_place<'a>(
        &'a self,
        number: LunNumber,
        units: &'a [Option<Arc<UnitView>>],
    ) -> Option<(Place<'a>, &'a UnitView)> {
        let (index, mapping) = self.target.mapping(number)?;
        if !self.attentions.get(index)?.is_empty() {
            return None;
        }
        let unit = unit_of(units, mapping)?;
        Some((Place { nexus: self.nexus, target: &self.target, number, unit: Some(unit) }, unit.0))
    }

    /// The place and the attentions of a LUN at once.
    pub fn place_and_attentions<'a>(
        &'a mut self,
        number: Option<LunNumber>,
        units: &'a [Option<Arc<UnitView>>],
    ) -> (Place<'a>, Option<&'a mut Attentions>) {
        let mapping = number.and_then(|number| self.target.mapping(number));
        let unit = mapping.and_then(|(_, mapping)| unit_of(units, mapping));
        let number = number.unwrap_or(LunNumber::NOWHERE);
        let place = Place { nexus: self.nexus, target: &self.target, number, unit };
        (place, mapping.and_then(|(index, _)| self.attentions.get_mut(index)))
    }

    /// The nexus has been told that the LUNs have changed: that holds for all of them (SPC-5, LUICLR).
    pub fn luns_told(&mut self) {
        self.attentions.iter_mut().for_each(|attentions| attentions.clear(Ua::LunsChanged));
    }

    /// Queues a unit attention at every LUN that leads to `unit`. The first LUN at which it is news.
    pub fn attend(&mut self, unit: UnitId, ua: Ua) -> Option<LunNumber> {
        let mut first = None;
        for (mapping, attentions) in self.target.mappings.iter().zip(&mut self.attentions) {
            if mapping.unit == unit {
                if !attentions.owes(ua) {
                    first = first.or(Some(mapping.number));
                }
                attentions.push(ua);
            }
        }
        first
    }

    /// Whether the nexus has yet to be told of this at some LUN.
    pub fn owes(&self, ua: Ua) -> bool {
        self.attentions.iter().any(|attentions| attentions.owes(ua))
    }

    /// Puts a new view of the target in place and gives the old one back; what is owed at LUNs that stay is kept.
    /// Allocates: it is a reconfiguration.
    pub fn retarget(&mut self, target: Arc<TargetView>, ua: Option<Ua>) -> Arc<TargetView> {
        let attentions = target.mappings.iter().map(|mapping| {
            let old = self.target.mapping(mapping.number).filter(|(_, old)| old.unit == mapping.unit);
            let mut attentions =
                old.and_then(|(index, _)| self.attentions.get(index).copied()).unwrap_or_default();
            if let Some(ua) = ua {
                attentions.push(ua);
            }
            attentions
        });
        self.attentions = attentions.collect();
        std::mem::replace(&mut self.target, target)
    }
}

/// The unit that a mapping leads to, and whether it is for reading only by this way.
fn unit_of(units: &[Option<Arc<UnitView>>], mapping: Mapping) -> Option<(&UnitView, bool)> {
    Some((UnitView::find(units, mapping.unit)?, mapping.read_only))
}
