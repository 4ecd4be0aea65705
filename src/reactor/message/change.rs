//! What barriers change.

use std::sync::Arc;

use super::TaskTicket;
use crate::id::{NexusId, ReactorId, SessionId, UnitId};
use crate::scsi::attention::Ua;
use crate::scsi::view::{TargetView, UnitView};

/// What a barrier changes. Each is applied between two commands, unit attentions included.
#[derive(Clone, Debug)]
pub enum Change {
    /// LOGICAL UNIT RESET or TARGET RESET: abort every task at these units, of every session, with TASK ABORTED
    /// (TAS = 1; the session that asks has aborted its own already, silently); acknowledge when no aborted IO is left in
    /// the device.
    Reset {
        /// Which units.
        units: Arc<[UnitId]>,
        /// For every session, the one that asked included (SAM-5 §6.3.3).
        attention: Ua,
    },
    /// A logical unit's view is replaced (resize, read-only, removal, loss or return of its medium). Acknowledge when
    /// no IO submitted under the old view is left in the device, where `is_drained` asks for that.
    Unit {
        /// The new view.
        view: Arc<UnitView>,
        /// For every session that maps the unit, …
        attention: Option<Ua>,
        /// … but the one that has asked for the change.
        except: Option<SessionId>,
        /// Wait for the device.
        is_drained: bool,
    },
    /// Nothing: the acknowledgement says that every change sent before is in force.
    Nothing,
    /// A logical unit's reservations change.
    Reservations(Reserve),
    /// The view of a target at one of its portal groups is replaced (LUNs added or removed). Sessions keep what they have
    /// at LUNs that stay.
    Target {
        /// The new view.
        target: Arc<TargetView>,
        /// For every session of it.
        attention: Option<Ua>,
        /// Units that a LUN led to and does no more: acknowledge when no IO submitted before is left in them.
        drained: Arc<[UnitId]>,
    },
    /// A logical unit is gone: commands at it end as at a LUN that leads nowhere, what its channel has ends in its own
    /// time; acknowledge then. The channel is closed after that, told by [`ToControl::UnitReleased`](super::ToControl::UnitReleased).
    RemoveUnit {
        /// Which.
        unit: UnitId,
    },
}

/// A change of a logical unit's reservations. A reactor gives up the tasks that are to be aborted, shows the new view, tells who
/// is to be told, and acknowledges when no device has an IO any more that the view does not permit, or that was aborted,
/// where `is_drained` asks for that.
#[derive(Clone, Debug)]
pub struct Reserve {
    /// The view with the new permits.
    pub view: Arc<UnitView>,
    /// Who is told what.
    pub attentions: Arc<[(NexusId, Ua)]>,
    /// Whose tasks at the unit are aborted: with TASK ABORTED (TAS = 1), those of the nexus that asks in silence.
    pub aborts: Arc<[NexusId]>,
    /// The command that asks and who has it: it is not aborted.
    pub by: Option<(ReactorId, TaskTicket)>,
    /// Wait for the device.
    pub is_drained: bool,
}
