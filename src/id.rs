//! The numbers that name things across threads.

use crate::limits::UNITS_MAX;

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

/// A logical unit (an exported bdev): an index, the same on every reactor, and above it which tenancy of the index, so that
/// what outlives a unit does not take its successor for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct UnitId(pub u32);

impl UnitId {
    const INDEX_BITS: u32 = UNITS_MAX.trailing_zeros();

    /// The unit at `index`, below [`UNITS_MAX`], in its `tenancy`, which wraps.
    pub const fn new(index: u32, tenancy: u32) -> UnitId {
        UnitId((tenancy << UnitId::INDEX_BITS) | (index & (UNITS_MAX - 1)))
    }

    /// The unit as an index into a table of units.
    pub const fn index(self) -> usize {
        (self.0 & (UNITS_MAX - 1)) as usize
    }

    /// The next tenancy of the same index.
    pub const fn next_tenancy(self) -> UnitId {
        UnitId(self.0.wrapping_add(UNITS_MAX))
    }
}

/// A barrier in flight.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct BarrierId(pub u64);
