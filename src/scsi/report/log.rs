//! LOG SENSE (SPC-5 §6.8, §7.3): the pages that say something true of the unit's device. Nothing of them is saved, nothing can be set.

use crate::bdev::count::Totals;
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
    /// PAGE CONTROL 01b: what was counted. There are no thresholds, and counters begin at 0.
    is_cumulative: bool,
}

/// SUBPAGE CODE of what lists subpages too.
const ALL_SUBPAGES: u8 = 0xff;
/// SUPPORTED LOG PAGES.
const SUPPORTED: u8 = 0x00;
const PROVISIONING: u8 = 0x0c;
const TEMPERATURE: u8 = 0x0d;
/// GENERAL STATISTICS AND PERFORMANCE.
const STATISTICS: u8 = 0x19;
const EXCEPTIONS: u8 = 0x2f;
/// Every page and subpage, ascending, with the code of its last parameter.
const PAGES: [(u8, u8, u16); 6] = [
    (SUPPORTED, 0, 0),
    (SUPPORTED, ALL_SUBPAGES, 0),
    (PROVISIONING, 0, USED),
    (TEMPERATURE, 0, 1),
    (STATISTICS, 0, TIME_INTERVAL),
    (EXCEPTIONS, 0, 0),
];
/// Parameters of logical block provisioning (SBC-4 §6.4).
const AVAILABLE: u16 = 1;
const USED: u16 = 2;

/// Parameters of statistics (SPC-5 §7.3, General Statistics and Performance).
const ACCESS: u16 = 1;
const IDLE_TIME: u16 = 2;
const TIME_INTERVAL: u16 = 3;
/// A time interval is a nanosecond: 10 to the power of minus 9, times 1.
const NANOSECOND: [u8; 8] = [0, 0, 0, 9, 0, 0, 0, 1];

/// TSD, as it is not saved; FORMAT AND LINKING 10b: a counter without bounds.
const COUNTER: u8 = 0x22;
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
    let is_counted = unit.ledger.is_some();
    PAGES.into_iter().filter(move |(page, _, _)| match *page {
        PROVISIONING => has_space,
        STATISTICS => is_counted,
        _ => true,
    })
}

pub(in crate::scsi) fn plan(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    let (page, subpage, from) = (cdb.byte(2) & 0x3f, cdb.byte(3), cdb.be16(5));
    // For parameters that are no counters it makes no difference.
    let is_cumulative = cdb.byte(2) >> 6 == 0b01;
    if !pages(unit.view).any(|(code, _, _)| code == page) {
        return Err(Sense::invalid_bit(2, 5));
    }
    let Some((_, _, last)) = pages(unit.view).find(|(code, sub, _)| (*code, *sub) == (page, subpage)) else {
        return Err(Sense::invalid_byte(3));
    };
    if from > last {
        return Err(Sense::invalid_byte(5));
    }
    Ok(answer(Kind::Log(Request { page, subpage, from, is_cumulative }), cdb.be16(7)))
}

pub(super) fn fill(request: Request, unit: &UnitView, writer: &mut Writer<'_>) {
    let Request { page, subpage, from, is_cumulative } = request;
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
                    parameter(code, BINARY_LIST, &[a, b, c, d, scope, 0, 0, 0], writer);
                }
            }
        }
        (TEMPERATURE, _) => {
            if from == 0 {
                parameter(0, BINARY_LIST, &[0, temperature(unit)], writer);
            }
            // The reference temperature: what the device may have for good.
            parameter(1, BINARY_LIST, &[0, UNKNOWN], writer);
        }
        (STATISTICS, _) => statistics(from, is_cumulative, unit, writer),
        // No exception to report, the temperature, and no threshold of it.
        _ => parameter(0, BINARY_LIST, &[0, 0, temperature(unit), 0], writer),
    }
    writer.length_16(2, 4);
}

/// In degrees Celsius: 0 stands for what is colder, too.
fn temperature(unit: &UnitView) -> u8 {
    let celsius = unit.temperature.as_ref().and_then(|temperature| temperature.celsius());
    celsius.map_or(UNKNOWN, |celsius| u8::try_from(celsius.max(0)).unwrap_or(u8::MAX).min(UNKNOWN - 1))
}

/// What was asked of the device: its IOs stand for commands, and the time that it took over them for that of commands.
fn statistics(from: u16, is_cumulative: bool, unit: &UnitView, writer: &mut Writer<'_>) {
    let ledger = unit.ledger.as_ref().filter(|_| is_cumulative);
    let Totals { reads, writes, unmaps } = ledger.map(|ledger| ledger.totals()).unwrap_or_default();
    if from <= ACCESS {
        let blocks = |bytes: u64| bytes.checked_div(u64::from(unit.block_bytes)).unwrap_or(0);
        let fields = [
            reads.ios,
            // UNMAP is one of the write commands, without blocks that come with it.
            writes.ios.wrapping_add(unmaps.ios),
            blocks(writes.bytes),
            blocks(reads.bytes),
            reads.ns,
            writes.ns.wrapping_add(unmaps.ns),
            // The two that are weighted by command priority, which changes nothing here.
            0,
            0,
        ];
        let mut value = [0; 64];
        for (bytes, field) in value.chunks_exact_mut(8).zip(fields) {
            bytes.copy_from_slice(&field.to_be_bytes());
        }
        parameter(ACCESS, COUNTER, &value, writer);
    }
    if from <= IDLE_TIME {
        // Nobody measures it.
        parameter(IDLE_TIME, COUNTER, &[0; 8], writer);
    }
    parameter(TIME_INTERVAL, BINARY_LIST, &NANOSECOND, writer);
}

fn parameter(code: u16, control: u8, value: &[u8], writer: &mut Writer<'_>) {
    writer.put(&code.to_be_bytes());
    writer.put(&[control, u8::try_from(value.len()).unwrap_or(0)]);
    writer.put(value);
}
