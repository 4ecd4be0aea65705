//! MODE SENSE(6) and (10) (SPC-5).
//!
//! Nothing is changeable and nothing can be saved: there is no MODE SELECT yet.

use crate::scsi::cdb::Cdb;
use crate::scsi::report::writer::Writer;
use crate::scsi::report::{Kind, answer};
use crate::scsi::sense::Sense;
use crate::scsi::view::UnitView;
use crate::scsi::{Plan, Served};

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Request {
    header: Header,
    block_descriptor: BlockDescriptor,
    /// PC 01b: masks of what can be changed, in place of values.
    changeable: bool,
    /// PAGE CODE, known.
    page: u8,
}

/// The mode parameter header's format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Header {
    Six,
    Ten,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum BlockDescriptor {
    None,
    Short,
    Long,
}

const CACHING: u8 = 0x08;
const CONTROL: u8 = 0x0a;
const EXCEPTIONS: u8 = 0x1c;
const ALL_PAGES: u8 = 0x3f;
/// The pages there are, in the order they are returned (SPC-5: ascending).
const PAGES: [u8; 3] = [CACHING, CONTROL, EXCEPTIONS];

/// SUBPAGE CODE FFh: all subpages. There is none but 00h.
const ALL_SUBPAGES: u8 = 0xff;

pub(in crate::scsi) fn plan_6(cdb: &Cdb, _: Served<'_>) -> Result<Plan, Sense> {
    let descriptor = if disabled(cdb) { BlockDescriptor::None } else { BlockDescriptor::Short };
    Ok(answer(Kind::Mode(request(cdb, Header::Six, descriptor)?), cdb.byte(4)))
}

pub(in crate::scsi) fn plan_10(cdb: &Cdb, _: Served<'_>) -> Result<Plan, Sense> {
    let long = cdb.byte(1) & 0x10 != 0; // LLBAA
    let descriptor = match (disabled(cdb), long) {
        (true, _) => BlockDescriptor::None,
        (false, false) => BlockDescriptor::Short,
        (false, true) => BlockDescriptor::Long,
    };
    Ok(answer(Kind::Mode(request(cdb, Header::Ten, descriptor)?), cdb.be16(7)))
}

/// DBD.
fn disabled(cdb: &Cdb) -> bool {
    cdb.byte(1) & 0x08 != 0
}

fn request(cdb: &Cdb, header: Header, block_descriptor: BlockDescriptor) -> Result<Request, Sense> {
    let (control, page, subpage) = (cdb.byte(2) >> 6, cdb.byte(2) & 0x3f, cdb.byte(3));
    if control == 0b11 {
        return Err(Sense::SAVING_NOT_SUPPORTED);
    }
    if page != ALL_PAGES && !PAGES.contains(&page) {
        return Err(Sense::invalid_bit(2, 5));
    }
    if subpage != 0 && subpage != ALL_SUBPAGES {
        return Err(Sense::invalid_byte(3));
    }
    Ok(Request { header, block_descriptor, changeable: control == 0b01, page })
}

pub(super) fn fill(request: Request, unit: Served<'_>, writer: &mut Writer<'_>) {
    // SBC-4: DEVICE-SPECIFIC PARAMETER is WP and DPOFUA.
    let specific = if unit.read_only { 0x90 } else { 0x10 };
    let descriptor_bytes = match request.block_descriptor {
        BlockDescriptor::None => 0,
        BlockDescriptor::Short => 8,
        BlockDescriptor::Long => 16,
    };
    let long_lba = u8::from(request.block_descriptor == BlockDescriptor::Long);
    match request.header {
        Header::Six => writer.put(&[0, 0, specific, descriptor_bytes]),
        Header::Ten => writer.put(&[0, 0, 0, specific, long_lba, 0, 0, descriptor_bytes]),
    }
    block_descriptor(request.block_descriptor, unit.view, writer);
    for page in PAGES {
        if request.page == page || request.page == ALL_PAGES {
            put_page(page, request.changeable, unit.view, writer);
        }
    }
    // MODE DATA LENGTH does not count itself.
    match request.header {
        Header::Six => writer.length_8(0, 1),
        Header::Ten => writer.length_16(0, 2),
    }
}

/// The block descriptor for direct access devices (SBC-4). FFFF_FFFFh stands for more blocks than the short format can say.
fn block_descriptor(format: BlockDescriptor, unit: &UnitView, writer: &mut Writer<'_>) {
    match format {
        BlockDescriptor::None => {}
        BlockDescriptor::Short => {
            let blocks = u32::try_from(unit.blocks).unwrap_or(u32::MAX);
            writer.put(&blocks.to_be_bytes());
            // A reserved byte, then three of length: a logical block is shorter than 16 MiB.
            writer.put(&(unit.block_bytes & 0x00ff_ffff).to_be_bytes());
        }
        BlockDescriptor::Long => {
            writer.put(&unit.blocks.to_be_bytes());
            writer.zeros(4);
            writer.put(&unit.block_bytes.to_be_bytes());
        }
    }
}

fn put_page(page: u8, changeable: bool, unit: &UnitView, writer: &mut Writer<'_>) {
    match page {
        CACHING => put_values(&caching(unit), changeable, writer),
        CONTROL => put_values(&control(unit), changeable, writer),
        _ => put_values(&exceptions(), changeable, writer),
    }
}

/// The page, or its header and a mask that lets nothing be changed.
fn put_values(page: &[u8], changeable: bool, writer: &mut Writer<'_>) {
    if changeable {
        writer.put(&page[..2]);
        writer.zeros(page.len() - 2);
    } else {
        writer.put(page);
    }
}

/// Caching (SBC-4): WCE as the device has it.
fn caching(unit: &UnitView) -> [u8; 20] {
    let mut page = [0; 20];
    page[0] = CACHING;
    page[1] = 18;
    page[2] = if unit.write_cache { 0x04 } else { 0 };
    page
}

/// Control (SPC-5).
fn control(unit: &UnitView) -> [u8; 12] {
    let d_sense = if unit.descriptor_sense { 0x04 } else { 0 };
    [
        CONTROL,
        10,
        0x20 | d_sense, // TST 001b: a task set per I_T nexus.
        0x10,           // QUEUE ALGORITHM MODIFIER 1: simple commands may pass one another. QERR 00b.
        0,              // No unit attention interlock, SWP 0.
        0x40,           // TAS: a command that another nexus aborts ends in TASK ABORTED.
        0,
        0,
        0,
        0, // BUSY TIMEOUT PERIOD undefined.
        0,
        0,
    ]
}

/// Informational exceptions control (SPC-5): DEXCPT, as there is nothing to warn of.
fn exceptions() -> [u8; 12] {
    [EXCEPTIONS, 10, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}
