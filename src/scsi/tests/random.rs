//! Hostile CDBs: nothing panics, nothing is longer than it says.

use super::{target, unit};
use crate::id::NexusId;
use crate::limits::PARAMETER_BYTES_MAX;
use crate::scsi::attention::{Attentions, Ua};
use crate::scsi::buffers::Buffers;
use crate::scsi::cdb::{Cdb, VARIABLE_LENGTH};
use crate::scsi::copy::Results;
use crate::scsi::report::Facts;
use crate::scsi::table::{Direction, Table};
use crate::scsi::view::{DeviceKind, LunNumber, Medium, Modes, UnitView};
use crate::scsi::{Place, Plan, TRANSFER_BYTES_MAX, Transfer, admit, plan, report};
use crate::time::Tick;

/// A linear congruential generator: the high half of 64 bits.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// Few bits set, as most CDBs have, or any.
    fn byte(&mut self) -> u8 {
        let bits = self.next();
        match bits & 3 {
            0 => (bits >> 8) as u8,
            1 => 1 << (bits >> 8 & 7),
            _ => 0,
        }
    }
}

#[test]
fn any_cdb_is_planned_and_answered_within_its_lengths() {
    let target = target();
    let units = [
        unit(),
        UnitView { blocks: u64::MAX, block_bytes: 4096, read_only: true, ..unit() },
        UnitView {
            medium: Medium::NotReady,
            modes: Modes { descriptor_sense: true, ..Modes::new(true) },
            ..unit()
        },
        UnitView { medium: Medium::Removed, ..unit() },
        UnitView { kind: DeviceKind::Passed { is_blocks: true }, ..unit() },
        UnitView { kind: DeviceKind::CdRom, block_bytes: 2048, read_only: true, blocks: 400_000, ..unit() },
    ];
    let mut random = Random(1);
    let mut out = vec![0; PARAMETER_BYTES_MAX as usize + 1];
    let (mut reports, mut transfers) = (0, 0);
    for round in 0..2000 {
        for opcode in 0..=255 {
            let mut cdb = Cdb { bytes: [0; 32].map(|_| random.byte()) };
            cdb.bytes[0] = opcode;
            let unit = units.get(random.next() as usize % 7).map(|unit| (unit, round % 2 == 0));
            let table = Table::of(unit.map_or(DeviceKind::Disk, |(unit, _)| unit.kind));
            if round % 4 != 0 {
                // Most get past the reserved bits.
                make_acceptable(&mut cdb.bytes, table, &mut random);
            }
            let place = Place { nexus: NexusId(1), target: &target, number: LunNumber(0), unit };
            let mut attentions = Attentions::new();
            if random.next().is_multiple_of(4) {
                attentions.push(Ua::LunsChanged);
            }
            let plan = plan(&cdb, &place);
            let direction = table.find(&cdb).ok().map(|row| row.direction);
            match plan.transfer(&place) {
                Transfer::None => {}
                Transfer::Expected => {
                    assert!(unit.is_some_and(|(unit, _)| matches!(unit.kind, DeviceKind::Passed { .. })));
                }
                Transfer::In(bytes) => {
                    assert_eq!(direction, Some(Direction::In));
                    assert!(bytes <= u64::from(TRANSFER_BYTES_MAX));
                }
                Transfer::Out(bytes) => {
                    assert_eq!(direction, Some(Direction::Out));
                    assert!(bytes <= u64::from(TRANSFER_BYTES_MAX));
                }
            }
            match admit(plan, &cdb, &place, Some(&mut attentions)) {
                Plan::Report(report) => {
                    reports += 1;
                    let room = random.next() as usize % out.len();
                    out.fill(0xee);
                    let attentions = Some(&mut attentions);
                    let facts = Facts {
                        protocol_level: 0,
                        attentions,
                        now: Tick::ZERO,
                        buffers: &Buffers::default(),
                        copies: &Results::default(),
                        tokens: None,
                        allocation: None,
                    };
                    let Ok(length) = report::fill(&report, &place, facts, &mut out[..room]) else { continue };
                    assert!(length <= room && length <= report.bytes_max() as usize);
                    assert!(out[length..].iter().all(|byte| *byte == 0xee), "{cdb:02x?}");
                }
                Plan::Read(extent) | Plan::Write(extent) => {
                    transfers += 1;
                    assert!(extent.lba + u64::from(extent.blocks) <= unit.map_or(0, |(unit, _)| unit.blocks));
                }
                Plan::End(_)
                | Plan::Refuse(_)
                | Plan::Flush
                | Plan::Work(_)
                | Plan::Keep(_)
                | Plan::Copy(_)
                | Plan::Ask { .. }
                | Plan::Pass { .. }
                | Plan::AbortCopy { .. }
                | Plan::Protected(_) => {}
            }
        }
    }
    assert!(reports > 3000, "{reports} reports");
    assert!(transfers > 200, "{transfers} transfers");
}

/// Clears the bits that the command's usage data do not have.
fn make_acceptable(bytes: &mut [u8; 32], table: &Table, random: &mut Random) {
    let rows = table.of_opcode(bytes[0]);
    let Some(row) = rows.get(random.next() as usize % rows.len().max(1)) else { return };
    for (byte, usage) in bytes.iter_mut().zip(row.usage) {
        *byte &= usage;
    }
    match row.action {
        // ADDITIONAL CDB LENGTH and SERVICE ACTION.
        Some(action) if bytes[0] == VARIABLE_LENGTH => bytes[7..10].copy_from_slice(&[0x18, 0, action]),
        Some(action) => bytes[1] = action,
        None => {}
    }
}
