//! REPORT SUPPORTED OPERATION CODES (SPC-5), out of the command table.

use crate::scsi::cdb::Cdb;
use crate::scsi::report::writer::Writer;
use crate::scsi::report::{Kind, answer};
use crate::scsi::sense::Sense;
use crate::scsi::table::{Row, Table};
use crate::scsi::view::UnitView;
use crate::scsi::{Plan, Served, protect};

/// The longest CDB that is served.
const CDB_BYTES: usize = 32;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Request {
    which: Which,
    /// RCTD: with command timeouts descriptors.
    timeouts: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Which {
    All,
    /// One command; without a service action where it has none.
    One {
        opcode: u8,
        action: Option<u8>,
    },
    /// One that there cannot be.
    Unsupported,
}

pub(in crate::scsi) fn plan(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    let opcode = cdb.byte(3);
    let action = u8::try_from(cdb.be16(4)).ok();
    let rows = Table::of(unit.view.kind).of_opcode(opcode);
    let has_actions = rows.iter().any(|row| row.action.is_some());
    let which = match cdb.byte(2) & 0x07 {
        0b000 => Which::All,
        // SPC-5: an operation code that has service actions must be asked for with 010b or 011b, …
        0b001 if has_actions => return Err(Sense::invalid_byte(3)),
        0b001 => Which::One { opcode, action: None },
        // … one that has none, with 001b or 011b.
        0b010 if !rows.is_empty() && !has_actions => return Err(Sense::invalid_byte(3)),
        0b010 | 0b011 => match action {
            Some(0) if !has_actions => Which::One { opcode, action: None },
            Some(action) => Which::One { opcode, action: Some(action) },
            None => Which::Unsupported,
        },
        _ => return Err(Sense::invalid_bit(2, 2)),
    };
    let timeouts = cdb.byte(2) & 0x80 != 0;
    Ok(answer(Kind::Opcodes(Request { which, timeouts }), cdb.be32(6)))
}

pub(super) fn fill(request: Request, unit: &UnitView, writer: &mut Writer<'_>) {
    let table = Table::of(unit.kind);
    match request.which {
        Which::All => all(table.rows().iter().filter(|row| row.is_served(unit)), request.timeouts, writer),
        Which::One { opcode, action } => {
            let mut rows = table.of_opcode(opcode).iter().filter(|row| row.is_served(unit));
            let row = rows.find(|row| row.action == action);
            one(row, request.timeouts, unit, writer);
        }
        Which::Unsupported => one(None, request.timeouts, unit, writer),
    }
}

fn all(rows: impl Iterator<Item = &'static Row>, timeouts: bool, writer: &mut Writer<'_>) {
    writer.zeros(4);
    for row in rows {
        let ctdp = if timeouts { 0x02 } else { 0 };
        let servactv = u8::from(row.action.is_some());
        writer.put(&[row.opcode, 0, 0, row.action.unwrap_or(0), 0, ctdp | servactv]);
        writer.put(&cdb_bytes(row));
        if timeouts {
            timeouts_descriptor(writer);
        }
    }
    writer.length_32(0, 4);
}

fn one(row: Option<&Row>, timeouts: bool, unit: &UnitView, writer: &mut Writer<'_>) {
    let Some(row) = row else {
        // SUPPORT 001b: not supported, and nothing more to say.
        return writer.put(&[0, 0x01, 0, 0]);
    };
    // SUPPORT 011b: supported as the standard says.
    let ctdp = if timeouts { 0x80 } else { 0 };
    writer.put(&[0, ctdp | 0x03]);
    writer.put(&cdb_bytes(row));
    let mut usage = [0; CDB_BYTES];
    if let (Some(at), Some(usage)) = (protect::field(row, unit), usage.get_mut(..row.usage.len())) {
        usage.copy_from_slice(row.usage);
        protect::use_field(usage, at);
        writer.put(usage);
    } else {
        writer.put(row.usage);
    }
    if timeouts {
        timeouts_descriptor(writer);
    }
}

fn cdb_bytes(row: &Row) -> [u8; 2] {
    u16::try_from(row.cdb_bytes()).unwrap_or(0).to_be_bytes()
}

/// SPC-5: neither a nominal nor a recommended time is indicated, as both depend on what the LUN is made of.
fn timeouts_descriptor(writer: &mut Writer<'_>) {
    writer.put(&[0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}
