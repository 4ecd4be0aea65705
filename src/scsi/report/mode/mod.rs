//! Mode parameters (SPC-5 §7.5): MODE SENSE(6) and (10) here, MODE SELECT in `select`, the pages in `pages`.
//!
//! What can be changed is changed for every nexus; nothing is saved beyond the life of the process.

mod pages;
mod select;

pub use select::select;
pub(in crate::scsi) use select::{plan_6 as plan_select_6, plan_10 as plan_select_10};

use crate::scsi::cdb::Cdb;
use crate::scsi::report::mode::pages::Page;
use crate::scsi::report::writer::Writer;
use crate::scsi::report::{Kind, answer};
use crate::scsi::sense::Sense;
use crate::scsi::view::{Modes, UnitView};
use crate::scsi::{Plan, Served};

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Request {
    header: Header,
    block_descriptor: BlockDescriptor,
    values: Values,
    /// PAGE CODE, known.
    page: u8,
    /// SUBPAGE CODE.
    subpage: u8,
}

/// PAGE CONTROL. There are no saved values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Values {
    Current,
    /// Masks of what can be changed, in place of values.
    Changeable,
    Default,
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

const ALL_PAGES: u8 = 0x3f;
/// SUBPAGE CODE FFh: all subpages, 00h included.
const ALL_SUBPAGES: u8 = 0xff;

pub(in crate::scsi) fn plan_6(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    let descriptor = if disabled(cdb) { BlockDescriptor::None } else { BlockDescriptor::Short };
    Ok(answer(Kind::Mode(request(cdb, Header::Six, descriptor, unit.view)?), cdb.byte(4)))
}

pub(in crate::scsi) fn plan_10(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    let long = cdb.byte(1) & 0x10 != 0; // LLBAA
    let descriptor = match (disabled(cdb), long) {
        (true, _) => BlockDescriptor::None,
        (false, false) => BlockDescriptor::Short,
        (false, true) => BlockDescriptor::Long,
    };
    Ok(answer(Kind::Mode(request(cdb, Header::Ten, descriptor, unit.view)?), cdb.be16(7)))
}

/// DBD.
fn disabled(cdb: &Cdb) -> bool {
    cdb.byte(1) & 0x08 != 0
}

fn request(
    cdb: &Cdb,
    header: Header,
    block_descriptor: BlockDescriptor,
    unit: &UnitView,
) -> Result<Request, Sense> {
    let (control, page, subpage) = (cdb.byte(2) >> 6, cdb.byte(2) & 0x3f, cdb.byte(3));
    let values = match control {
        0b00 => Values::Current,
        0b01 => Values::Changeable,
        0b10 => Values::Default,
        _ => return Err(Sense::SAVING_NOT_SUPPORTED),
    };
    let request = Request { header, block_descriptor, values, page, subpage };
    if !Page::of_unit(unit).any(|known| request.is_of(known)) {
        // The code of a page that has no such subpage, and that of all pages, is right.
        let is_known = page == ALL_PAGES || Page::of_unit(unit).any(|known| known.code == page);
        return Err(if is_known { Sense::invalid_byte(3) } else { Sense::invalid_bit(2, 5) });
    }
    Ok(request)
}

impl Request {
    /// Whether this is one of the pages asked for.
    fn is_of(&self, page: &Page) -> bool {
        let is_subpage = match (self.page, self.subpage) {
            (_, ALL_SUBPAGES) => true,
            // SPC-5 §6.13: of all pages none or all subpages can be asked for.
            (ALL_PAGES, subpage) => subpage == 0 && page.subpage == 0,
            (_, subpage) => page.subpage == subpage,
        };
        is_subpage && [page.code, ALL_PAGES].contains(&self.page)
    }
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
    for page in Page::of_unit(unit.view).filter(|page| request.is_of(page)) {
        let bytes = match request.values {
            Values::Current => page.of(&unit.view.modes),
            Values::Changeable => page.changeable(unit.view),
            Values::Default => page.of(&Modes::new(unit.view.write_cache)),
        };
        writer.put(&bytes[..page.bytes]);
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
