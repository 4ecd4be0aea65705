//! A target with three logical units, and what it plans.

mod admission;
mod alua;
mod chores;
mod long;
mod modes;
mod opcodes;
mod parameters;
mod passed;
mod plans;
mod protected;
mod provisioning;
mod random;
mod refusals;
mod removable;
mod reports;
mod reserved;

use crate::id::{NexusId, UnitId};
use crate::limits::PARAMETER_BYTES_MAX;
use crate::scsi::attention::Attentions;
use crate::scsi::buffers::Buffers;
use crate::scsi::cdb::Cdb;
use crate::scsi::copy::Results;
use crate::scsi::report::Facts;
use crate::scsi::sense::Sense;
use crate::scsi::view::{Identity, LunNumber, Mapping, TargetView, UnitView};
use crate::scsi::{Place, Plan, plan, report};
use crate::time::Tick;

/// 1000 blocks of 512 bytes on 4 KiB physical ones.
pub(in crate::scsi) fn unit() -> UnitView {
    let identity = Identity {
        vendor: *b"LUNETTE ",
        product: *b"RAM disk        ",
        revision: *b"0.1 ",
        serial: "0123456789abcdef".to_owned(),
        naa: [0x35, 1, 2, 3, 4, 5, 6, 7].into_iter().collect(),
        eui64: None,
        t10: None,
        designators: Vec::new(),
    };
    UnitView { physical_block_bytes: 4096, ..UnitView::new(UnitId(3), 1000, 512, identity) }
}

pub(in crate::scsi) fn target() -> TargetView {
    let mapping = |number| Mapping { number: LunNumber(number), unit: UnitId(3), read_only: false };
    TargetView {
        name: "iqn.2026-11.example:disk".to_owned(),
        alias: String::new(),
        relative_port: 0x0102,
        ports: vec![0x0102, 0x0203],
        port_groups: vec![0x0102, 0x0203],
        portal_groups: vec![0x0a1b, 2],
        histogram: None,
        port_group: 0x0304,
        portal_group: 0x0a1b,
        lun_map: None,
        portals: Vec::new(),
        mappings: [0, 5, 300].map(mapping).to_vec(),
    }
}

/// A CDB, padded as in the header.
pub(in crate::scsi) fn cdb(bytes: &[u8]) -> Cdb {
    let mut padded = Cdb::new([0; 16]);
    padded.bytes[..bytes.len()].copy_from_slice(bytes);
    padded
}

/// The plan for `bytes` at `unit`.
pub(in crate::scsi) fn planned(bytes: &[u8], unit: &UnitView) -> Plan {
    let target = target();
    plan(
        &cdb(bytes),
        &Place { nexus: NexusId(1), target: &target, number: LunNumber(0), unit: Some((unit, false)) },
    )
}

/// The plan for `bytes` where there is no logical unit.
fn planned_nowhere(bytes: &[u8]) -> Plan {
    let target = target();
    plan(&cdb(bytes), &Place { nexus: NexusId(1), target: &target, number: LunNumber(9), unit: None })
}

/// How `bytes` are refused.
pub(in crate::scsi) fn refused(bytes: &[u8], unit: &UnitView) -> Sense {
    match planned(bytes, unit) {
        Plan::Refuse(sense) => sense,
        other => panic!("{bytes:02x?} is not refused but {other:?}"),
    }
}

/// The parameter data that `bytes` ask for.
pub(in crate::scsi) fn answered(
    bytes: &[u8],
    unit: Option<&UnitView>,
    attentions: Option<&mut Attentions>,
) -> Vec<u8> {
    answered_at(&target(), bytes, unit, attentions)
}

/// The same at this target.
pub(in crate::scsi) fn answered_at(
    target: &TargetView,
    bytes: &[u8],
    unit: Option<&UnitView>,
    attentions: Option<&mut Attentions>,
) -> Vec<u8> {
    let place =
        Place { nexus: NexusId(1), target, number: LunNumber(0), unit: unit.map(|unit| (unit, false)) };
    let Plan::Report(report) = plan(&cdb(bytes), &place) else {
        panic!("{bytes:02x?} makes no report");
    };
    let mut out = vec![0xee; PARAMETER_BYTES_MAX as usize];
    let facts = Facts {
        protocol_level: 0,
        attentions,
        now: Tick::ZERO,
        buffers: &Buffers::default(),
        copies: &Results::default(),
        tokens: None,
        allocation: None,
    };
    let length = report::fill(&report, &place, facts, &mut out).unwrap();
    assert!(length <= report.bytes_max() as usize);
    assert!(out[length..].iter().all(|byte| *byte == 0xee), "written beyond the length that is told");
    out.truncate(length);
    out
}
