//! What control publishes of a logical unit's reservations.

use std::sync::Arc;

use crate::id::NexusId;
use crate::scsi::reserve::{Class, In, State};

/// Who may do what. Cheap to clone; part of the unit's view.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Permits {
    /// Stands beside the state so that the common case touches nothing else.
    is_free: bool,
    /// What was saved of it has been found.
    is_known: bool,
    state: Arc<State>,
}

impl Permits {
    /// What this state permits.
    pub fn new(state: Arc<State>) -> Permits {
        Permits { is_free: state.is_free(), is_known: true, state }
    }

    /// Of a medium that has not been found yet: what is reserved there is not known, and nobody may be told that nothing is.
    pub fn unknown() -> Permits {
        Permits { is_known: false, ..Permits::default() }
    }

    /// Whether the state is that of the medium.
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// Whether commands of this class, which [`Class::of`] made of the table's, are served for this nexus: if not they
    /// end in RESERVATION CONFLICT. One branch where nothing is reserved, a binary search otherwise.
    pub fn allows(&self, nexus: NexusId, class: Class) -> bool {
        self.is_free || self.state.allows(nexus, class)
    }

    /// Answers PERSISTENT RESERVE IN; see [`State::report`].
    pub fn report(&self, what: In, put: &mut impl FnMut(&[u8])) {
        self.state.report(what, put);
    }

    /// The state itself.
    pub fn state(&self) -> &State {
        &self.state
    }
}

impl Default for Permits {
    fn default() -> Self {
        Permits::new(Arc::default())
    }
}
