//! LOG SENSE (SPC-5 §6.8, §7.3): the pages that say something true of any device. Nothing of them is saved, nothing can be set.

use crate::scsi::cdb::Cdb;
use crate::scsi::report::writer::Writer;
use crate::scsi::report::{Kind, answer};
use crate::scsi::sense::Sense;
use crate::scsi::view::UnitView;
use crate::scsi::{Plan, Served, provisioning};

/// A log page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Request {
    page: u8,
    subpage: u8,
    /// PARAMETER POINTER: parameters with lower codes are left out.
    from: u16,
}

/// SUBPAGE CODE of what lists subpages too.
const ALL_SUBPAGES: u8 = 0xff;
/// SUPPORTED LOG PAGES.
const SUPPORTED: u8 = 0x00;
const PROVISIONING: u8 = 0x0c;
const TEMPERATURE: u8 = 0x0d;
const EXCEPTIONS: u8 = 0x2f;
/// Every page and subpage, ascending, with the code of its last parameter.
const PAGES: [(u8, u8, u16); 5] = [
    (SUPPORTED, 0, 0),
    (SUPPORTED, ALL_SUBPAGES, 0),
    (PROVISIONING, 0, USED),
    (TEMPERATURE, 0, 1),
    (EXCEPTIONS, 0, 0),
];
/// Parameters of logical block provisioning (SBC-4 §6.4).
const AVAILABLE: u16 = 1;
const USED: u16 = 2;

/// FORMAT AND LINKING 11b: a parameter in binary, in a list.
const BINARY_LIST: u8 = 0x03;
/// SCOPE of a resource count: dedicated to the logical unit, or perhaps not.
const DEDICATED: u8 = 0x01;
const MAY_BE_SHARED: u8 = 0x02;
/// A temperature that is not known.
const UNKNOWN: u8 = 0xff;

/// Those that this unit has.
fn pages(unit: &UnitView) -> impl Iterator<Item = (u8, u8, u16)> {
    let has_space = provisioning::space(unit).is_some();
    PAGES.into_iter().filter(move |(page, _, _)| has_space || *page != PROVISIONING)
}

pub(in crate::scsi) fn plan(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    // PAGE CONTROL makes no difference: no parameter is a counter, none has a threshold.
    let (page, subpage, from) = (cdb.byte(2) & 0x3f, cdb.byte(3), cdb.be16(5));
    if !pages(unit.view).any(|(code, _, _)| code == page) {
        return Err(Sense::invalid_bit(2, 5));
    }
    let Some((_, _, last)) = pages(unit.view).find(|(code, sub, _)| (*code, *sub) == (page, subpage)) else {
        return Err(Sense::invalid_byte(3));
    };
    if from > last {
        return Err(Sense::invalid_byte(5));
    }
    Ok(answer(Kind::Log(Request { page, subpage, from }), cdb.be16(7)))
}

pub(super) fn fill(request: Request, unit: &UnitView, writer: &mut Writer<'_>) {
    let Request { page, subpage, from } = request;
    // DS and SPF.
    let spf = if subpage != 0 { 0x40 } else { 0 };
    writer.put(&[spf | page, subpage, 0, 0]);
    match (page, subpage) {
        (SUPPORTED, 0) => {
            pages(unit).filter(|(_, sub, _)| *sub == 0).for_each(|(page, _, _)| writer.put(&[page]));
        }
        (SUPPORTED, _) => pages(unit).for_each(|(page, sub, _)| writer.put(&[page, sub])),
        (PROVISIONING, _) => {
            // Before the first look at the device there is nothing to tell.
            let Some(resources) = provisioning::resources(unit) else { return };
            // What is left may be anybody's that draws on the same space; what is used is this unit's alone.
            for (code, sets, scope) in
                [(AVAILABLE, resources.available, MAY_BE_SHARED), (USED, resources.used, DEDICATED)]
            {
                if from <= code {
                    let [a, b, c, d] = sets.to_be_bytes();
                    parameter(code, &[a, b, c, d, scope, 0, 0, 0], writer);
                }
            }
        }
        (TEMPERATURE, _) => {
            if from == 0 {
                parameter(0, &[0, UNKNOWN], writer);
            }
            // The reference temperature: what the device may have for good.
            parameter(1, &[0, UNKNOWN], writer);
        }
        // No exception to report, the temperature, and no threshold of it.
        _ => parameter(0, &[0, 0, UNKNOWN, 0], writer),
    }
    writer.length_16(2, 4);
}

fn parameter(code: u16, value: &[u8], writer: &mut Writer<'_>) {
    writer.put(&code.to_be_bytes());
    writer.put(&[BINARY_LIST, u8::try_from(value.len()).unwrap_or(0)]);
    writer.put(value);
}
