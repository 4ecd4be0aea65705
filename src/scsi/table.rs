//! Every command that is served: one row per operation code and service action.
//!
//! The rows say which bits of a CDB mean something; a bit that does not is refused with a pointer to it, unless it is obsolete
//! or vendor-specific, which old initiators set for no reason. REPORT SUPPORTED OPERATION CODES is made from the rows.

use std::fmt::{Debug, Formatter};

use crate::scsi::cdb::{Cdb, VARIABLE_LENGTH};
use crate::scsi::report::{
    capacity, defects, diagnostic, functions, identifying, inquiry, lba_status, log, luns, mode, opcodes,
    port_groups, request_sense, reservations, timestamp,
};
use crate::scsi::reserve::{self, Class};
use crate::scsi::sense::Sense;
use crate::scsi::view::{DeviceKind, UnitView};
use crate::scsi::{Plan, Served, alua, buffers, chore, copy, medium, mmc, power, protect, work};

/// Which way a command's data go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// There are none.
    None,
    /// To the initiator.
    In,
    /// From the initiator.
    Out,
}

/// One command.
pub struct Row {
    /// OPERATION CODE.
    pub opcode: u8,
    /// SERVICE ACTION, where the operation code has them.
    pub action: Option<u8>,
    /// As SPC and SBC write it.
    pub name: &'static str,
    /// What reservations make of it.
    pub class: Class,
    /// Where its data go.
    pub direction: Direction,
    /// CDB USAGE DATA (SPC-5), as long as the CDB: bits that are evaluated, after the operation code itself; a
    /// service action stands as its value.
    pub usage: &'static [u8],
    /// The bits, left-aligned to the CDB's first and 17th byte, that must be zero.
    reserved: [u128; 2],
    run: Run,
    /// Whether a unit has it; none where all have.
    only: Option<fn(&UnitView) -> bool>,
}

impl Debug for Row {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// How a command is planned, once its reserved bits are known to be zero.
#[derive(Clone, Copy)]
pub(super) enum Run {
    /// Needs a logical unit.
    Unit(fn(&Cdb, Served<'_>) -> Result<Plan, Sense>),
    /// Served where there is none too, and despite unit attentions (SPC-5, SAM-5 §5.14).
    Always(fn(&Cdb, Option<Served<'_>>) -> Result<Plan, Sense>),
}

/// START STOP UNIT.
pub(crate) const START_STOP_UNIT: u8 = 0x1b;
/// PREVENT ALLOW MEDIUM REMOVAL.
pub(crate) const PREVENT_ALLOW_MEDIUM_REMOVAL: u8 = 0x1e;
/// MODE SELECT(6).
pub(crate) const MODE_SELECT_6: u8 = 0x15;
/// MODE SELECT(10).
pub(crate) const MODE_SELECT_10: u8 = 0x55;
/// MAINTENANCE OUT, whose service actions set what REPORT commands report.
pub(crate) const MAINTENANCE_OUT: u8 = 0xa4;
/// REPORT LUNS.
pub(crate) const REPORT_LUNS: u8 = 0xa0;

/// The commands of one kind of device.
#[derive(Debug)]
pub struct Table {
    /// Ascending by operation code and service action.
    rows: &'static [Row],
    /// For each operation code, where its rows begin and end.
    index: [(u8, u8); 256],
}

impl Table {
    /// That of this kind of device.
    pub const fn of(kind: DeviceKind) -> &'static Table {
        match kind {
            // Of what is passed on those that are not.
            DeviceKind::Disk | DeviceKind::RemovableDisk | DeviceKind::Passed { .. } => &DISK,
            DeviceKind::CdRom => &mmc::TABLE,
        }
    }

    pub(super) const fn new(rows: &'static [Row]) -> Table {
        Table { rows, index: index(rows) }
    }

    /// Every command, ascending by operation code and service action.
    pub const fn rows(&self) -> &'static [Row] {
        self.rows
    }

    /// The row for a CDB, or why there is none.
    ///
    /// # Errors
    /// INVALID COMMAND OPERATION CODE, or INVALID FIELD IN CDB for a service action.
    pub fn find(&self, cdb: &Cdb) -> Result<&'static Row, Sense> {
        let rows = self.of_opcode(cdb.opcode());
        let first = rows.first().ok_or(Sense::INVALID_OPCODE)?;
        if first.action.is_none() {
            return Ok(first);
        }
        let action = match cdb.opcode() {
            // None that is served has a higher byte.
            VARIABLE_LENGTH => u8::try_from(cdb.be16(8)).ok(),
            _ => Some(cdb.service_action()),
        };
        let row = rows.iter().find(|row| row.action == action);
        row.ok_or(unknown_action(cdb.opcode()))
    }

    /// All rows of one operation code: none, one, or one per service action.
    pub fn of_opcode(&self, opcode: u8) -> &'static [Row] {
        let (start, end) = self.index[usize::from(opcode)];
        &self.rows[usize::from(start)..usize::from(end)]
    }
}

/// Whether a command reports a unit attention (SAM-5 §5.14): all but three do.
pub fn reports_attention(cdb: &Cdb) -> bool {
    const REQUEST_SENSE: u8 = 0x03;
    const INQUIRY: u8 = 0x12;
    !matches!(cdb.opcode(), REQUEST_SENSE | INQUIRY | REPORT_LUNS)
}

/// SPC-5: the field at fault is SERVICE ACTION.
const fn unknown_action(opcode: u8) -> Sense {
    if opcode == VARIABLE_LENGTH { Sense::invalid_byte(8) } else { Sense::invalid_bit(1, 4) }
}

impl Row {
    /// Length of the CDB in bytes.
    pub fn cdb_bytes(&self) -> usize {
        self.usage.len()
    }

    /// Served at a LUN that leads nowhere, and despite unit attentions.
    pub fn always(&self) -> bool {
        matches!(self.run, Run::Always(_))
    }

    /// Whether this unit has it.
    pub fn is_served(&self, unit: &UnitView) -> bool {
        self.only.is_none_or(|only| only(unit))
    }

    /// The same, for units only of which `only` is true.
    const fn only(self, only: fn(&UnitView) -> bool) -> Row {
        Row { only: Some(only), ..self }
    }

    /// The unit does not have it: INVALID COMMAND OPERATION CODE, or a pointer to SERVICE ACTION.
    pub(super) fn not_served(&self) -> Sense {
        if self.action.is_some() { unknown_action(self.opcode) } else { Sense::INVALID_OPCODE }
    }

    pub(super) fn run(&self) -> Run {
        self.run
    }

    /// Refuses a reserved bit: the first of them, in the order of the bytes, bit 7 first.
    pub fn check(&self, cdb: &Cdb) -> Result<(), Sense> {
        if self.opcode == VARIABLE_LENGTH && cdb.byte(7) != ADDITIONAL_BYTES {
            return Err(Sense::invalid_byte(7));
        }
        for (half, first) in cdb.halves().into_iter().zip(self.reserved).zip([0, 16]) {
            let (bits, reserved) = half;
            if let Some(position) = first_bit(bits & reserved) {
                return Err(Sense::invalid_bit(first + position / 8, 7 - position % 8));
            }
        }
        Ok(())
    }
}

/// Position of the most significant bit that is set, the most significant of all being 0.
fn first_bit(bits: u128) -> Option<u8> {
    if bits == 0 {
        return None;
    }
    u8::try_from(bits.leading_zeros()).ok()
}

/// ADDITIONAL CDB LENGTH of a CDB of 32 bytes.
const ADDITIONAL_BYTES: u8 = 0x18;
/// EXPECTED INITIAL LOGICAL BLOCK REFERENCE TAG, EXPECTED LOGICAL BLOCK APPLICATION TAG and its mask: where there is no protection
/// information of type 2 nothing is checked against them.
const TAGS: [(usize, u8); 8] =
    [(20, 0xff), (21, 0xff), (22, 0xff), (23, 0xff), (24, 0xff), (25, 0xff), (26, 0xff), (27, 0xff)];
/// The same, and what is ignored in 16 bytes.
const LONG_TAGS: [(usize, u8); 9] = {
    let [a, b, c, d, e, f, g, h] = TAGS;
    [(10, 0x06), a, b, c, d, e, f, g, h]
};

/// Bits of byte 1 that were the LUN of a 6-byte CDB: obsolete.
const LUN: (usize, u8) = (1, 0xe0);
/// RARC, which a logical unit without rebuild assist ignores, and FUA_NV and RelAdr, which are obsolete.
const READ_BITS: &[(usize, u8)] = &[(1, 0x07)];
/// EBP, FUA_NV and RelAdr: obsolete.
const WRITE_BITS: &[(usize, u8)] = &[(1, 0x07)];
/// What is left of those in 16 bytes.
const LONG_BITS: &[(usize, u8)] = &[(1, 0x06)];
/// Bit 3 was EBP, bit 0 RelAdr: obsolete.
const VERIFY_BITS: &[(usize, u8)] = &[(1, 0x09)];
/// PBDATA and LBDATA, and RelAdr: obsolete.
const SAME_BITS: &[(usize, u8)] = &[(1, 0x07)];
/// SYNC_NV and RelAdr: obsolete.
const SYNC_BITS: &[(usize, u8)] = &[(1, 0x05)];

#[rustfmt::skip]
static ROWS: [Row; 89] = {
    use Class as C;
    use Direction::{In, None as Nothing, Out};
    use Run::{Always, Unit};
    [
        row("TEST UNIT READY", C::Status, Nothing, &[0x00, 0, 0, 0, 0, 0], &[LUN], Unit(medium::test_unit_ready)),
        row("REQUEST SENSE", C::Always, In, &[0x03, 0x01, 0, 0, 0xff, 0], &[LUN], Always(request_sense::plan)),
        // A byte of a vendor's, and what was INTERLEAVE. FFMT: a fast format is what there is.
        row("FORMAT UNIT", C::Write, Out, &[chore::FORMAT_UNIT, 0x3f, 0, 0, 0x03, 0], &[(2, 0xff), (3, 0xff), (4, 0xfc)],
            Unit(chore::plan_format))
            // Without FMTPINFO, which is refused, it would take the protection information away.
            .only(|unit| unit.protection.is_none()),
        row("READ(6)", C::Read, In, &[0x08, 0x1f, 0xff, 0xff, 0xff, 0], &[LUN], Unit(medium::read_6)),
        row("WRITE(6)", C::Write, Out, &[0x0a, 0x1f, 0xff, 0xff, 0xff, 0], &[LUN], Unit(medium::write_6)),
        // Bit 1 was CMDDT: obsolete.
        row("INQUIRY", C::Always, In, &[0x12, 0x01, 0xff, 0xff, 0xff, 0], &[LUN, (1, 0x02)], Always(inquiry::plan)),
        // RTD and SP: there are no saved values, and nothing is reverted to defaults.
        row("MODE SELECT(6)", C::Write, Out, &[MODE_SELECT_6, 0x10, 0, 0, 0xff, 0], &[LUN], Unit(mode::plan_select_6)),
        // The LUN and third parties; reservation identification and extent lists, all of SPC-2: what is asked of a third
        // party or an extent is refused with the request.
        row("RESERVE(6)", C::Always, Nothing, &[0x16, 0x11, 0, 0, 0, 0], &[(1, 0xee), (2, 0xff), (3, 0xff), (4, 0xff)],
            Unit(reserve::plan)),
        row("RELEASE(6)", C::Always, Nothing, &[0x17, 0x11, 0, 0, 0, 0], &[(1, 0xee), (2, 0xff), (3, 0xff), (4, 0xff)],
            Unit(reserve::plan)),
        row("MODE SENSE(6)", C::Read, In, &[0x1a, 0x08, 0xff, 0xff, 0xff, 0], &[LUN], Unit(mode::plan_6)),
        row("START STOP UNIT", C::StartStop, Nothing, &[START_STOP_UNIT, 0x01, 0, 0, 0xf7, 0], &[LUN], Unit(power::start_stop_unit)),
        row("RECEIVE DIAGNOSTIC RESULTS", C::Read, In, &[0x1c, 0x01, 0xff, 0xff, 0xff, 0], &[], Unit(diagnostic::plan_receive)),
        row("SEND DIAGNOSTIC", C::Write, Out, &[0x1d, 0xf7, 0, 0xff, 0xff, 0], &[], Unit(diagnostic::plan_send)),
        // Bit 1 was a persistent prevention: obsolete.
        row("PREVENT ALLOW MEDIUM REMOVAL", C::Prevent, Nothing, &[PREVENT_ALLOW_MEDIUM_REMOVAL, 0, 0, 0, 0x01, 0], &[LUN, (4, 0x02)],
            Unit(power::prevent_allow_medium_removal)),
        // RelAdr, LOGICAL BLOCK ADDRESS and PMI: obsolete.
        row("READ CAPACITY(10)", C::Status, In, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[(1, 0x01), (2, 0xff), (3, 0xff), (4, 0xff), (5, 0xff), (8, 0x01)], Unit(capacity::plan_10)),
        row("READ(10)", C::Read, In, &[0x28, 0x18, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0],
            READ_BITS, Unit(medium::read_10)),
        row("WRITE(10)", C::Write, Out, &[0x2a, 0x18, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0],
            WRITE_BITS, Unit(medium::write_10)),
        row("WRITE AND VERIFY(10)", C::Write, Out, &[0x2e, 0x16, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0],
            VERIFY_BITS, Unit(work::write_and_verify_10)),
        row("VERIFY(10)", C::Read, Out, &[0x2f, 0x16, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0],
            VERIFY_BITS, Unit(work::verify_10)),
        // RelAdr: obsolete.
        row("PRE-FETCH(10)", C::Read, Nothing, &[0x34, 0x02, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0],
            &[(1, 0x01)], Unit(work::pre_fetch_10)),
        row("SYNCHRONIZE CACHE(10)", C::Write, Nothing, &[0x35, 0x02, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0],
            SYNC_BITS, Unit(medium::synchronize_cache_10)),
        row("READ DEFECT DATA(10)", C::Read, In, &[0x37, 0, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0], &[], Unit(defects::plan_10)),
        row("WRITE BUFFER", C::Write, Out, &[0x3b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0], &[],
            Unit(buffers::plan_write)),
        row("READ BUFFER(10)", C::Read, In, &[0x3c, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0], &[],
            Unit(buffers::plan_read)),
        row("WRITE SAME(10)", C::Write, Out, &[0x41, 0x18, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0],
            SAME_BITS, Unit(work::write_same_10)),
        row("UNMAP", C::Write, Out, &[0x42, 0x01, 0, 0, 0, 0, 0x3f, 0xff, 0xff, 0], &[], Unit(work::unmap))
            .only(work::can_unmap),
        // ZNR is for zones.
        action("SANITIZE, OVERWRITE", C::Write, Out,
            &[chore::SANITIZE, 0xa0 | chore::OVERWRITE, 0, 0, 0, 0, 0, 0xff, 0xff, 0], &[], Unit(chore::plan_sanitize)),
        action("SANITIZE, BLOCK ERASE", C::Write, Out,
            &[chore::SANITIZE, 0xa0 | chore::BLOCK_ERASE, 0, 0, 0, 0, 0, 0xff, 0xff, 0], &[], Unit(chore::plan_sanitize))
            .only(chore::can_erase),
        action("SANITIZE, CRYPTOGRAPHIC ERASE", C::Write, Out,
            &[chore::SANITIZE, 0xa0 | chore::CRYPTOGRAPHIC_ERASE, 0, 0, 0, 0, 0, 0xff, 0xff, 0], &[], Unit(chore::plan_sanitize))
            .only(chore::can_erase_key),
        action("SANITIZE, EXIT FAILURE MODE", C::Write, Out,
            &[chore::SANITIZE, 0x80 | chore::EXIT_FAILURE_MODE, 0, 0, 0, 0, 0, 0xff, 0xff, 0], &[],
            Unit(chore::plan_sanitize)),
        // PPC: obsolete.
        row("LOG SENSE", C::Status, In, &[0x4d, 0, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0], &[(1, 0x02)], Unit(log::plan)),
        row("MODE SELECT(10)", C::Write, Out, &[MODE_SELECT_10, 0x10, 0, 0, 0, 0, 0, 0xff, 0xff, 0], &[], Unit(mode::plan_select_10)),
        row("RESERVE(10)", C::Always, Nothing, &[0x56, 0x11, 0, 0, 0, 0, 0, 0, 0, 0],
            &[(1, 0x02), (2, 0xff), (3, 0xff), (7, 0xff), (8, 0xff)], Unit(reserve::plan)),
        row("RELEASE(10)", C::Always, Nothing, &[0x57, 0x11, 0, 0, 0, 0, 0, 0, 0, 0],
            &[(1, 0x02), (2, 0xff), (3, 0xff), (7, 0xff), (8, 0xff)], Unit(reserve::plan)),
        row("MODE SENSE(10)", C::Read, In, &[0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0], &[], Unit(mode::plan_10)),
        action("PERSISTENT RESERVE IN, READ KEYS", C::Persistent, In, &[0x5e, 0x00, 0, 0, 0, 0, 0, 0xff, 0xff, 0],
            &[], Unit(reservations::plan)),
        action("PERSISTENT RESERVE IN, READ RESERVATION", C::Persistent, In, &[0x5e, 0x01, 0, 0, 0, 0, 0, 0xff, 0xff, 0],
            &[], Unit(reservations::plan)),
        action("PERSISTENT RESERVE IN, REPORT CAPABILITIES", C::Persistent, In, &[0x5e, 0x02, 0, 0, 0, 0, 0, 0xff, 0xff, 0],
            &[], Unit(reservations::plan)),
        action("PERSISTENT RESERVE IN, READ FULL STATUS", C::Persistent, In, &[0x5e, 0x03, 0, 0, 0, 0, 0, 0xff, 0xff, 0],
            &[], Unit(reservations::plan)),
        action("PERSISTENT RESERVE OUT, REGISTER", C::Persistent, Out,
            &[0x5f, 0x00, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0], &[], Unit(reserve::plan)),
        action("PERSISTENT RESERVE OUT, RESERVE", C::Persistent, Out,
            &[0x5f, 0x01, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0], &[], Unit(reserve::plan)),
        action("PERSISTENT RESERVE OUT, RELEASE", C::Persistent, Out,
            &[0x5f, 0x02, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0], &[], Unit(reserve::plan)),
        action("PERSISTENT RESERVE OUT, CLEAR", C::Persistent, Out,
            &[0x5f, 0x03, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0], &[], Unit(reserve::plan)),
        action("PERSISTENT RESERVE OUT, PREEMPT", C::Persistent, Out,
            &[0x5f, 0x04, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0], &[], Unit(reserve::plan)),
        action("PERSISTENT RESERVE OUT, PREEMPT AND ABORT", C::Persistent, Out,
            &[0x5f, 0x05, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0], &[], Unit(reserve::plan)),
        action("PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY", C::Persistent, Out,
            &[0x5f, 0x06, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0], &[], Unit(reserve::plan)),
        action("PERSISTENT RESERVE OUT, REGISTER AND MOVE", C::Persistent, Out,
            &[0x5f, 0x07, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0], &[], Unit(reserve::plan)),
        long("READ(32)", C::Read, In, &const { usage_32(0x09, 0x18) }, &LONG_TAGS, Unit(medium::read_32)),
        long("VERIFY(32)", C::Read, Out, &const { usage_32(0x0a, 0x16) }, &TAGS, Unit(work::verify_32)),
        long("WRITE(32)", C::Write, Out, &const { usage_32(0x0b, 0x18) }, &LONG_TAGS, Unit(medium::write_32)),
        long("WRITE AND VERIFY(32)", C::Write, Out, &const { usage_32(0x0c, 0x16) }, &TAGS, Unit(work::write_and_verify_32)),
        long("WRITE SAME(32)", C::Write, Out, &const { usage_32(0x0d, 0x19) }, &LONG_TAGS, Unit(work::write_same_32)),
        action("EXTENDED COPY(LID1)", C::Write, Out,
            &[0x83, copy::LID1, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], &[], Unit(copy::plan_copy)),
        action("EXTENDED COPY(LID4)", C::Write, Out,
            &[0x83, copy::LID4, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], &[], Unit(copy::plan_copy)),
        action("POPULATE TOKEN", C::Read, Out,
            &[0x83, copy::rod::POPULATE, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0], &[],
            Unit(copy::rod::plan)),
        action("WRITE USING TOKEN", C::Write, Out,
            &[0x83, copy::rod::WRITE, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0], &[],
            Unit(copy::rod::plan)),
        action("COPY OPERATION ABORT", C::Write, Nothing,
            &[0x83, copy::ABORT, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[], Unit(copy::plan_abort)),
        action("RECEIVE COPY STATUS(LID1)", C::Read, In,
            &[0x84, 0x00, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], &[], Unit(copy::plan_results)),
        action("RECEIVE COPY OPERATING PARAMETERS", C::Read, In,
            &[0x84, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], &[], Unit(copy::plan_results)),
        action("RECEIVE COPY FAILURE DETAILS(LID1)", C::Read, In,
            &[0x84, 0x04, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], &[], Unit(copy::plan_results)),
        action("RECEIVE COPY STATUS(LID4)", C::Read, In,
            &[0x84, 0x05, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], &[], Unit(copy::plan_results)),
        action("RECEIVE ROD TOKEN INFORMATION", C::Read, In,
            &[0x84, 0x07, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], &[], Unit(copy::plan_results)),
        action("REPORT ALL ROD TOKENS", C::Read, In,
            &[0x84, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], &[], Unit(copy::plan_results)),
        row("READ(16)", C::Read, In,
            &[0x88, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0],
            LONG_BITS, Unit(medium::read_16)),
        row("COMPARE AND WRITE", C::Write, Out,
            &[0x89, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff, 0x3f, 0],
            LONG_BITS, Unit(work::compare_and_write)),
        row("WRITE(16)", C::Write, Out,
            &[0x8a, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0],
            LONG_BITS, Unit(medium::write_16)),
        row("ORWRITE(16)", C::Write, Out,
            &[0x8b, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0],
            LONG_BITS, Unit(work::orwrite_16)),
        row("WRITE AND VERIFY(16)", C::Write, Out,
            &[0x8e, 0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0],
            VERIFY_BITS, Unit(work::write_and_verify_16)),
        row("VERIFY(16)", C::Read, Out,
            &[0x8f, 0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0],
            VERIFY_BITS, Unit(work::verify_16)),
        row("PRE-FETCH(16)", C::Read, Nothing,
            &[0x90, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0],
            &[], Unit(work::pre_fetch_16)),
        row("SYNCHRONIZE CACHE(16)", C::Write, Nothing,
            &[0x91, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0],
            SYNC_BITS, Unit(medium::synchronize_cache_16)),
        row("WRITE SAME(16)", C::Write, Out,
            &[0x93, 0x19, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0],
            LONG_BITS, Unit(work::write_same_16)),
        row("WRITE ATOMIC(16)", C::Write, Out,
            &[0x9c, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0],
            &[], Unit(work::write_atomic_16)).only(|unit| work::write_atomic_blocks_max(unit) > 0),
        // LOGICAL BLOCK ADDRESS and PMI: obsolete.
        action("READ CAPACITY(16)", C::Status, In,
            &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
            &[(2, 0xff), (3, 0xff), (4, 0xff), (5, 0xff), (6, 0xff), (7, 0xff), (8, 0xff), (9, 0xff), (14, 0x01)],
            Unit(capacity::plan_16)),
        action("GET LBA STATUS(16)", C::Read, In,
            &[0x9e, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
            &[], Unit(lba_status::plan)),
        row("REPORT LUNS", C::Always, In, &[REPORT_LUNS, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
            &[], Always(luns::plan)),
        action("REPORT IDENTIFYING INFORMATION", C::Status, In,
            &[0xa3, 0x05, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xfe, 0], &[], Unit(identifying::plan)),
        action("REPORT TARGET PORT GROUPS", C::Status, In,
            &[0xa3, 0xea, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], &[], Unit(port_groups::plan)),
        action("REPORT SUPPORTED OPERATION CODES", C::Read, In,
            &[0xa3, 0x0c, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0], &[], Unit(opcodes::plan)),
        action("REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", C::Read, In,
            &[0xa3, 0x0d, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], &[], Unit(functions::plan)),
        action("REPORT TIMESTAMP", C::Status, In,
            &[0xa3, timestamp::ACTION, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], &[], Unit(timestamp::plan)),
        action("SET IDENTIFYING INFORMATION", C::Write, Out,
            &[MAINTENANCE_OUT, identifying::SET_ACTION, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xfe, 0], &[],
            Unit(identifying::plan_set)),
        action("SET TARGET PORT GROUPS", C::Write, Out,
            &[MAINTENANCE_OUT, alua::SET_ACTION, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], &[], Unit(alua::plan_set)),
        action("SET TIMESTAMP", C::Write, Out,
            &[MAINTENANCE_OUT, timestamp::ACTION, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], &[],
            Unit(timestamp::plan_set)),
        row("READ(12)", C::Read, In, &[0xa8, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0],
            READ_BITS, Unit(medium::read_12)),
        row("WRITE(12)", C::Write, Out, &[0xaa, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0],
            WRITE_BITS, Unit(medium::write_12)),
        row("WRITE AND VERIFY(12)", C::Write, Out, &[0xae, 0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0],
            VERIFY_BITS, Unit(work::write_and_verify_12)),
        row("VERIFY(12)", C::Read, Out, &[0xaf, 0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0],
            VERIFY_BITS, Unit(work::verify_12)),
        row("READ DEFECT DATA(12)", C::Read, In, &[0xb7, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
            &[], Unit(defects::plan_12)),
    ]
};

static DISK: Table = Table::new(&ROWS);

const fn index(rows: &[Row]) -> [(u8, u8); 256] {
    let mut index = [(0, 0); 256];
    let mut at: u8 = 0;
    while (at as usize) < rows.len() {
        let opcode = rows[at as usize].opcode as usize;
        let (start, end) = index[opcode];
        // Rows of one operation code stand together.
        assert!(end == 0 || end == at);
        index[opcode] = (if end == 0 { at } else { start }, at + 1);
        at += 1;
    }
    index
}

pub(super) const fn row(
    name: &'static str,
    class: Class,
    direction: Direction,
    usage: &'static [u8],
    ignored: &[(usize, u8)],
    run: Run,
) -> Row {
    let reserved = reserved(usage, usage.len() - 1, ignored, 0);
    Row { opcode: usage[0], action: None, name, class, direction, usage, reserved, run, only: None }
}

/// A row of an operation code with service actions.
pub(super) const fn action(
    name: &'static str,
    class: Class,
    direction: Direction,
    usage: &'static [u8],
    ignored: &[(usize, u8)],
    run: Run,
) -> Row {
    let reserved = reserved(usage, usage.len() - 1, ignored, 0x1f);
    Row {
        opcode: usage[0],
        action: Some(usage[1] & 0x1f),
        name,
        class,
        direction,
        usage,
        reserved,
        run,
        only: None,
    }
}

/// CDB USAGE DATA of a READ(32) and the like: of byte 10 these bits are evaluated.
const fn usage_32(action: u8, flags: u8) -> [u8; 32] {
    let mut usage = [0xff; 32];
    let (head, _) = usage.split_at_mut(12);
    head.copy_from_slice(&[VARIABLE_LENGTH, 0, 0, 0, 0, 0, 0x3f, ADDITIONAL_BYTES, 0, action, flags, 0]);
    let (_, tags) = usage.split_at_mut(20);
    let (tags, _) = tags.split_at_mut(8);
    tags.copy_from_slice(&[0; 8]);
    usage
}

/// A row of [`VARIABLE_LENGTH`], of 32 bytes: not where blocks have protection information of another type than 2, whose tags these carry.
const fn long(
    name: &'static str,
    class: Class,
    direction: Direction,
    usage: &'static [u8; 32],
    ignored: &[(usize, u8)],
    run: Run,
) -> Row {
    let reserved = reserved(usage, 1, ignored, 0);
    Row {
        opcode: VARIABLE_LENGTH,
        action: Some(usage[9]),
        name,
        class,
        direction,
        usage,
        reserved,
        run,
        only: Some(protect::takes_long),
    }
}

/// The bits that no one uses, and none of those that are ignored. `second` is used in byte 1 beside the usage data;
/// CONTROL is byte `control`.
const fn reserved(usage: &[u8], control: usize, ignored: &[(usize, u8)], second: u8) -> [u128; 2] {
    let mut meant = [0xff; 32];
    let mut at = 1;
    while at < usage.len() {
        meant[at] = usage[at];
        at += 1;
    }
    meant[1] |= second;
    // SAM-5 §5.2: bits 7 and 6 of CONTROL are vendor-specific, 1 and 0 obsolete; NACA (bit 2) is refused.
    meant[control] = 0xc3;
    let mut at = 0;
    while at < ignored.len() {
        let (byte, bits) = ignored[at];
        meant[byte] |= bits;
        at += 1;
    }
    let [head, tail] = Cdb { bytes: meant }.halves();
    [!head, !tail]
}
