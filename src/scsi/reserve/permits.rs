//! What control publishes of a logical unit's reservations.

use std::sync::Arc;

use crate::id::NexusId;
use crate::scsi::reserve::{Class, State};

/// Who may do what. Cheap to clone; part of the unit's view.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Permits {
    /// Stands beside the state so that the common case touches nothing else.
    is_free: bool,
    state: Arc<State>,
}

impl Permits {
    /// What this state permits.
    pub fn new(state: Arc<State>) -> Permits {
        Permits { is_free: state.is_free(), state }
    }

    /// Whether commands of this class, which [`Class::of`] made of the table's, are served for this nexus: if not they
    /// end in RESERVATION CONFLICT. One branch where nothing is reserved, a binary search otherwise.
    pub fn allows(&self, nexus: NexusId, class: Class) -> bool {
        self.is_free || self.state.allows(nexus, class)
    }

    /// The state itself: PERSISTENT RESERVE IN is answered out of it.
    pub fn state(&self) -> &State {
        &self.state
    }
}

impl Default for Permits {
    fn default() -> Self {
        Permits::new(Arc::default())
    }
}
