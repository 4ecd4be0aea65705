//! What a reservation makes of a command: SPC-5 §5.14.1 and SBC-4 §4.17 have a table each with a line per command, and a
//! few kinds of lines are all there are.

use crate::scsi::cdb::Cdb;

/// What kind of command it is to reservations. Each row of the command table has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Served whatever is reserved: INQUIRY, REPORT LUNS, REQUEST SENSE. RESERVE and RELEASE as well, on which
    /// [`State::out`](super::State::out) decides.
    Always,
    /// Served through every persistent reservation, refused by another nexus's RESERVE: TEST UNIT READY, READ
    /// CAPACITY(10) and (16), REPORT TARGET PORT GROUPS.
    Status,
    /// Needs leave to read: READ, VERIFY (with BYTCHK too: it does not change the medium), PRE-FETCH, GET LBA STATUS, READ
    /// DEFECT DATA, MODE SENSE, REPORT SUPPORTED OPERATION CODES, REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS.
    Read,
    /// Needs leave to write: WRITE, WRITE AND VERIFY, WRITE SAME, UNMAP, COMPARE AND WRITE, ORWRITE, SYNCHRONIZE CACHE, MODE
    /// SELECT.
    Write,
    /// PERSISTENT RESERVE IN and OUT: refused while anybody, the asking nexus too, holds the unit by RESERVE. Beyond that
    /// the former is always served, and [`State::out`](super::State::out) decides on the latter.
    Persistent,
    /// START STOP UNIT, which depends on its bits.
    StartStop,
    /// PREVENT ALLOW MEDIUM REMOVAL, which depends on its bits.
    Prevent,
}

impl Class {
    /// The class of this very command, the last two variants being resolved.
    #[must_use]
    pub fn of(self, cdb: &Cdb) -> Class {
        match self {
            // SBC-4 §4.17: starting is allowed, where POWER CONDITION is 0h; stopping and all power conditions are not.
            Class::StartStop if cdb.byte(4) & 0xf1 == 0x01 => Class::Status,
            // SBC-4 §4.17, and SPC-2 §5.5.1 for RESERVE: allowing removal is allowed, preventing it is not.
            Class::Prevent if cdb.byte(4) & 0x03 == 0 => Class::Always,
            Class::StartStop | Class::Prevent => Class::Write,
            Class::Always | Class::Status | Class::Read | Class::Write | Class::Persistent => self,
        }
    }
}
