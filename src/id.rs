//! The numbers that name things across threads.

/// A reactor, counted from 0 in the order of the core list.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ReactorId(pub u16);

/// A session, for the life of the process; never used twice. It stands for the I_T nexus's present session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// An I_T nexus (initiator name, ISID, target, portal group), for the life of the process: unlike a session it is the same
/// after a new login, and reservations are made in its name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct NexusId(pub u32);

/// A logical unit (an exported bdev), for the life of the process: an index, the same on every reactor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct UnitId(pub u32);

impl UnitId {
    /// The unit as an index into a table of units.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A barrier in flight.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct BarrierId(pub u64);
