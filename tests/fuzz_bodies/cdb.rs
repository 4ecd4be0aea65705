//! CDBs: planned, admitted, answered, checked again.

use lunette::bdev::Unmap;
use lunette::bdev::protection::Protection;
use lunette::id::NexusId;
use lunette::limits::{PARAMETER_BYTES_MAX, PIECE_BYTES_MAX};
use lunette::scsi::attention::{Attentions, Ua};
use lunette::scsi::buffers::Buffers;
use lunette::scsi::cdb::{Cdb, VARIABLE_LENGTH};
use lunette::scsi::copy::Results;
use lunette::scsi::report::Facts;
use lunette::scsi::reserve::Permits;
use lunette::scsi::table::Table;
use lunette::scsi::view::{DeviceKind, LunNumber, Medium, Modes, UnitView};
use lunette::scsi::work::{Step, Work};
use lunette::scsi::{
    Access, Extent, Place, Plan, TRANSFER_BYTES_MAX, Transfer, admit, plan, recheck, report,
};
use lunette::time::Tick;

use super::source::Source;
use super::views;

pub(super) fn one(data: &[u8]) {
    let mut source = Source::new(data);
    let target = views::target();
    let unit = UnitView {
        blocks: source.pick(&[1, views::BLOCKS, u64::from(u32::MAX), u64::from(u32::MAX) + 2, u64::MAX]),
        block_bytes: source.pick(&[512, 4096]),
        physical_block_bytes: 4096,
        read_only: source.once_in(4),
        modes: Modes {
            descriptor_sense: source.once_in(2),
            write_protect: source.once_in(8),
            ..Modes::new(true)
        },
        unmap: source.pick(&[None, Some(Unmap { granularity_blocks: 1, reads_zeroes: true, anchors: true })]),
        permits: if source.once_in(8) { views::reserved() } else { Permits::default() },
        medium: source.pick(&[
            Medium::Ready,
            Medium::Unsettled,
            Medium::NotReady,
            Medium::Removed,
            Medium::Ejected,
            Medium::Empty,
        ]),
        protection: source.pick(&[None, None, Some(Protection::Type1), Some(Protection::Type3)]),
        kind: source.pick(&[
            DeviceKind::Disk,
            DeviceKind::RemovableDisk,
            DeviceKind::CdRom,
            DeviceKind::Passed { is_blocks: true },
        ]),
        ..views::unit()
    };
    let number =
        LunNumber::decode(&source.pick(&[[0; 8], [0, 1, 0, 0, 0, 0, 0, 0], [0x41, 0x2c, 0, 0, 0, 0, 0, 0]]));
    let number = if source.once_in(8) { LunNumber::decode(&source.array()) } else { number };
    let mapping = number.and_then(|number| target.mapping(number));
    let place = Place {
        nexus: NexusId(1),
        target: &target,
        number: number.unwrap_or(LunNumber::NOWHERE),
        unit: mapping.map(|(_, mapping)| (&unit, mapping.read_only)),
    };
    let mut attentions = Attentions::new();
    let all = [Ua::PowerOn, Ua::LunsChanged, Ua::CapacityChanged, Ua::NexusLoss, Ua::UnitReset];
    while source.once_in(4) {
        attentions.push(source.pick(&all));
    }
    while !source.is_empty() {
        let mut bytes: [u8; 32] = source.array();
        let usage = Table::of(unit.kind).of_opcode(bytes[0]);
        if let (true, Some(row)) = (source.below(4) != 0, usage.get(source.below(usage.len().max(1)))) {
            // Past the reserved bits.
            bytes.iter_mut().zip(row.usage).for_each(|(byte, usage)| *byte &= usage);
            match row.action {
                // ADDITIONAL CDB LENGTH and SERVICE ACTION.
                Some(action) if bytes[0] == VARIABLE_LENGTH => {
                    bytes[7..10].copy_from_slice(&[0x18, 0, action])
                }
                Some(action) => bytes[1] = action,
                None => {}
            }
        }
        command(&Cdb { bytes }, &place, &mut attentions, source.word() as usize);
    }
}

fn command(cdb: &Cdb, place: &Place<'_>, attentions: &mut Attentions, room: usize) {
    let planned = plan(cdb, place);
    let moves = match planned.transfer(place) {
        Transfer::None | Transfer::Expected => 0,
        Transfer::In(bytes) | Transfer::Out(bytes) => bytes,
    };
    assert!(moves <= u64::from(TRANSFER_BYTES_MAX), "{cdb:02x?} moves {moves} bytes");
    match admit(planned, cdb, place, Some(attentions)) {
        Plan::Report(report) => {
            let mut out = vec![0xee; room % (PARAMETER_BYTES_MAX as usize + 1)];
            let facts = Facts {
                protocol_level: 0,
                attentions: Some(attentions),
                now: Tick::ZERO,
                buffers: &Buffers::default(),
                copies: &Results::default(),
                tokens: None,
                allocation: None,
            };
            let Ok(length) = report::fill(&report, place, facts, &mut out) else { return };
            assert!(length <= out.len() && length <= report.bytes_max() as usize, "{cdb:02x?}: {length}");
            assert!(out[length..].iter().all(|byte| *byte == 0xee), "{cdb:02x?} writes beyond its length");
        }
        Plan::Read(extent) => extent_is_right(cdb, extent, Access::Read, place),
        Plan::Write(extent) => extent_is_right(cdb, extent, Access::Write, place),
        Plan::Protected(protected) => extent_is_right(cdb, protected.extent, protected.access, place),
        Plan::Refuse(sense) => {
            for is_descriptor in [false, true] {
                let mut out = [0; lunette::limits::SENSE_BYTES_MAX];
                let bytes = sense.encode(is_descriptor, &mut out);
                assert!((8..=out.len()).contains(&bytes), "{sense:?} takes {bytes} bytes");
            }
        }
        Plan::Work(work) => steps_are_right(cdb, &work, place, room),
        Plan::Ask { parameter_bytes } if [0x15, 0x55].contains(&cdb.opcode()) => {
            // A list as long as the CDB says, out of its own bytes.
            let list: Vec<u8> =
                cdb.bytes.into_iter().cycle().skip(room % 16).take(parameter_bytes as usize).collect();
            if let Some((unit, _)) = place.unit {
                let _ = report::mode::select(cdb, &list, unit);
            }
        }
        Plan::Pass { cut_bytes } => assert!(cut_bytes.is_none_or(|bytes| bytes % 512 == 0), "{cdb:02x?}"),
        Plan::End(_)
        | Plan::Flush
        | Plan::Keep(_)
        | Plan::Copy(_)
        | Plan::AbortCopy { .. }
        | Plan::Ask { .. } => {}
    }
}

/// Works a command off with data of any length, on a medium of zeroes.
fn steps_are_right(cdb: &Cdb, work: &Work, place: &Place<'_>, room: usize) {
    let (unit, _) = place.unit.expect("without a unit nothing is worked on");
    let mut bytes = usize::try_from(work.data_bytes(unit.block_bytes)).unwrap().min(64 * 1024);
    if room.is_multiple_of(4) {
        bytes = bytes.min(room / 4);
    }
    let data: Vec<u8> = (0..bytes).map(|at| cdb.bytes[at % 16]).collect();
    let Ok(mut run) = work.begin(0, &data, place) else { return };
    for _ in 0..300 {
        let (lba, blocks, access) = match run.step() {
            Step::Done => return,
            Step::Hold { lba, blocks }
            | Step::Read { lba, blocks }
            | Step::ReadProtected { lba, blocks, .. }
            | Step::Verify { lba, blocks, .. } => (lba, blocks, Access::Read),
            Step::Write { lba, blocks, .. }
            | Step::WriteProtected { lba, blocks, .. }
            | Step::CompareAndWrite { lba, blocks, .. }
            | Step::WriteZeroes { lba, blocks, .. }
            | Step::Unmap { lba, blocks } => (lba, blocks, Access::Write),
        };
        assert!(blocks > 0, "{cdb:02x?}: a step of nothing");
        extent_is_right(cdb, Extent { lba, blocks, fua: false }, access, place);
        let is_data = !matches!(run.step(), Step::Hold { .. });
        let (scratch_blocks, with_tuples) = run.step().scratch();
        let block_bytes = unit.block_bytes + if with_tuples { 8 } else { 0 };
        let mut scratch = vec![0; if is_data { (scratch_blocks * block_bytes) as usize } else { 0 }];
        assert!(scratch.len() <= PIECE_BYTES_MAX as usize, "{cdb:02x?}: no buffer is as long");
        if matches!(run.step(), Step::Write { .. } | Step::WriteProtected { .. }) {
            run.fill(&data, &mut scratch);
        }
        if run.finished(&data, &scratch).is_err() {
            return;
        }
    }
}

fn extent_is_right(cdb: &Cdb, extent: Extent, access: Access, place: &Place<'_>) {
    let end = extent.lba.checked_add(u64::from(extent.blocks));
    let (unit, read_only) = place.unit.expect("without a unit nothing is read or written");
    assert!(end.is_some_and(|end| end <= unit.blocks), "{cdb:02x?} reaches beyond the end");
    assert!(access == Access::Read || !(unit.read_only || read_only), "{cdb:02x?} writes where nobody may");
    assert_eq!(recheck(extent, access, place), Ok(()), "{cdb:02x?}: admitted, then not");
}
