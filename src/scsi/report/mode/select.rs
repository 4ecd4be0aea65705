//! MODE SELECT(6) and (10) (SPC-5 §6.12, §6.13): the parameter list, judged whole before anything of it holds.

use crate::scsi::cdb::Cdb;
use crate::scsi::report::mode::pages::{Page, SPF};
use crate::scsi::report::mode::{BlockDescriptor, Header};
use crate::scsi::sense::Sense;
use crate::scsi::table;
use crate::scsi::view::{Modes, UnitView};
use crate::scsi::{Plan, Served, Status};

/// PF in byte 1: the pages are as SPC says.
const PF: u8 = 0x10;

pub(in crate::scsi) fn plan_6(cdb: &Cdb, _: Served<'_>) -> Result<Plan, Sense> {
    plan(cdb)
}

pub(in crate::scsi) fn plan_10(cdb: &Cdb, _: Served<'_>) -> Result<Plan, Sense> {
    plan(cdb)
}

fn plan(cdb: &Cdb) -> Result<Plan, Sense> {
    let parameter_bytes = list_bytes(cdb);
    if parameter_bytes == 0 {
        // SPC-5: no parameter list is not an error.
        return Ok(Plan::End(Status::Good));
    }
    if cdb.byte(1) & PF == 0 {
        return Err(Sense::invalid_bit(1, 4));
    }
    Ok(Plan::Ask { parameter_bytes })
}

/// PARAMETER LIST LENGTH.
fn list_bytes(cdb: &Cdb) -> u32 {
    match header(cdb) {
        Header::Six => u32::from(cdb.byte(4)),
        Header::Ten => u32::from(cdb.be16(7)),
    }
}

fn header(cdb: &Cdb) -> Header {
    if cdb.opcode() == table::MODE_SELECT_6 { Header::Six } else { Header::Ten }
}

/// The modes as they are to be after this MODE SELECT, its `list` being what came of the parameter list.
///
/// # Errors
/// A list that is shorter than the CDB or than the list itself says, a block descriptor that asks for another capacity or
/// block length, a page that is unknown, has another length, or changes what cannot be changed. Nothing is to change then.
pub fn select(cdb: &Cdb, list: &[u8], unit: &UnitView) -> Result<Modes, Sense> {
    if list.len() as u64 != u64::from(list_bytes(cdb)) {
        return Err(Sense::PARAMETER_LIST_LENGTH);
    }
    let mut modes = unit.modes;
    let mut at = pages_at(header(cdb), list, unit)?;
    while let Some(page) = next_page(list, at, unit)? {
        let sent = list.get(at..at + page.bytes).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
        page.select(sent, at, unit, &mut modes)?;
        at += page.bytes;
    }
    Ok(modes)
}

/// The page that begins there, its header found right; none at the end of the list.
fn next_page(list: &[u8], at: usize, unit: &UnitView) -> Result<Option<&'static Page>, Sense> {
    let (code, subpage, length_at, length) = match *list.get(at..).unwrap_or_default() {
        [] => return Ok(None),
        // PS, reserved here.
        [code, ..] if code & 0x80 != 0 => return Err(bit(at, 7)),
        [code, subpage, high, low, ..] if code & SPF != 0 => {
            (code & !SPF, subpage, at + 2, u16::from_be_bytes([high, low]))
        }
        [code, length, ..] if code & SPF == 0 => (code, 0, at + 1, u16::from(length)),
        _ => return Err(Sense::PARAMETER_LIST_LENGTH),
    };
    let Some(page) = Page::find(code, subpage, unit) else {
        let is_code_known = Page::of_unit(unit).any(|page| page.code == code);
        return Err(if subpage != 0 && is_code_known { byte(at + 1) } else { bit(at, 5) });
    };
    if usize::from(length) != page.bytes - page.header_bytes() {
        return Err(byte(length_at));
    }
    Ok(Some(page))
}

/// Where the pages begin, once the mode parameter header and the block descriptor are found right. MODE DATA LENGTH and the
/// DEVICE-SPECIFIC PARAMETER mean nothing here (SPC-5 §7.5.5, SBC-4 §6.5.1).
fn pages_at(header: Header, list: &[u8], unit: &UnitView) -> Result<usize, Sense> {
    let (medium_type_at, length_at, pages_at) = match header {
        Header::Six => (1, 3, 4),
        Header::Ten => (2, 6, 8),
    };
    let fields = list.get(..pages_at).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
    if fields[medium_type_at] != 0 {
        return Err(byte(medium_type_at));
    }
    let (length, is_long) = match header {
        Header::Six => (usize::from(fields[3]), false),
        Header::Ten => (usize::from(fields[6]) << 8 | usize::from(fields[7]), fields[4] & 0x01 != 0),
    };
    let format = match (length, is_long) {
        (0, _) => BlockDescriptor::None,
        (8, false) => BlockDescriptor::Short,
        (16, true) => BlockDescriptor::Long,
        _ => return Err(byte(length_at)),
    };
    let end = pages_at + length;
    let descriptor = list.get(pages_at..end).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
    check_block_descriptor(format, descriptor, pages_at, unit)?;
    Ok(end)
}

/// The capacity and the block length are not for initiators to change (SBC-4 §6.5.2). No blocks, and the largest number
/// there is, ask for the capacity as it is.
fn check_block_descriptor(
    format: BlockDescriptor,
    descriptor: &[u8],
    at: usize,
    unit: &UnitView,
) -> Result<(), Sense> {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    let (blocks, most, block_bytes, block_bytes_at) = match format {
        BlockDescriptor::None => return Ok(()),
        BlockDescriptor::Short => {
            (number(&descriptor[..4]), u64::from(u32::MAX), number(&descriptor[5..]), 5)
        }
        BlockDescriptor::Long => (number(&descriptor[..8]), u64::MAX, number(&descriptor[12..]), 12),
    };
    if ![0, most, unit.blocks].contains(&blocks) {
        return Err(byte(at));
    }
    if block_bytes != u64::from(unit.block_bytes) {
        return Err(byte(at + block_bytes_at));
    }
    Ok(())
}

fn byte(at: usize) -> Sense {
    Sense::invalid_parameter(u16::try_from(at).unwrap_or(u16::MAX))
}

fn bit(at: usize, bit: u8) -> Sense {
    Sense::invalid_parameter_bit(u16::try_from(at).unwrap_or(u16::MAX), bit)
}
