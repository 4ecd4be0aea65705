//! What is planned, and the steps that follow.

mod plans;
mod protected;
mod runs;

use super::{Run, Step, Work};
use crate::bdev::Unmap;
use crate::id::NexusId;
use crate::scsi::sense::Sense;
use crate::scsi::tests::{cdb, target, unit};
use crate::scsi::view::{LunNumber, UnitView};
use crate::scsi::{Place, Plan, plan};

/// 1 GiB that can be given back, in blocks of 512 bytes.
fn thin() -> UnitView {
    let unmap = Some(Unmap { granularity_blocks: 8, reads_zeroes: true, anchors: false });
    UnitView { blocks: 0x20_0000, unmap, ..unit() }
}

/// The same, where blocks can be anchored, too.
fn anchoring() -> UnitView {
    let unmap = Some(Unmap { granularity_blocks: 8, reads_zeroes: true, anchors: true });
    UnitView { unmap, ..thin() }
}

/// The plan for `bytes` at `unit`.
fn planned(bytes: &[u8], unit: &UnitView) -> Plan {
    let target = target();
    plan(
        &cdb(bytes),
        &Place { nexus: NexusId(1), target: &target, number: LunNumber(0), unit: Some((unit, false)) },
    )
}

/// The work that `bytes` are.
#[track_caller]
fn work(bytes: &[u8], unit: &UnitView) -> Work {
    match planned(bytes, unit) {
        Plan::Work(work) => work,
        other => panic!("{bytes:02x?} is no work but {other:?}"),
    }
}

/// Begins with data that stand at `start_bytes` of the command's.
fn begin(work: &Work, start_bytes: u32, data: &[u8], unit: &UnitView) -> Result<Run, Sense> {
    let target = target();
    work.begin(
        start_bytes,
        data,
        &Place { nexus: NexusId(1), target: &target, number: LunNumber(0), unit: Some((unit, false)) },
    )
}

/// Does the steps of `bytes` with `data` on a medium that begins at LBA 0, and returns them.
fn done(
    bytes: &[u8],
    data: &[u8],
    unit: &UnitView,
    medium: &mut [u8],
) -> Result<Vec<Step>, (Vec<Step>, Sense)> {
    let mut run = begin(&work(bytes, unit), 0, data, unit).map_err(|sense| (Vec::new(), sense))?;
    let range = |lba: u64, blocks: u32| {
        let start = usize::try_from(lba).unwrap() * 512;
        start..start + blocks as usize * 512
    };
    let mut steps = Vec::new();
    let mut scratch = Vec::new();
    loop {
        let step = run.step();
        assert_eq!(run.step(), step, "asked twice");
        steps.push(step);
        match step {
            Step::Done => return Ok(steps),
            Step::Hold { .. } => {}
            Step::Read { lba, blocks } => scratch = medium[range(lba, blocks)].to_vec(),
            Step::Write { lba, blocks, .. } => {
                scratch.resize(blocks as usize * 512, 0xee);
                run.fill(data, &mut scratch);
                medium[range(lba, blocks)].copy_from_slice(&scratch);
            }
            Step::ReadProtected { .. } | Step::WriteProtected { .. } => {
                unreachable!("no unit here has tuples")
            }
            Step::CompareAndWrite { lba, blocks, .. } => {
                let (old, new) = data.split_at(data.len() / 2);
                assert_eq!(medium[range(lba, blocks)], *old, "it was read before");
                medium[range(lba, blocks)].copy_from_slice(new);
            }
            Step::Verify { .. } => {}
            Step::WriteZeroes { lba, blocks, .. } | Step::Unmap { lba, blocks } => {
                medium[range(lba, blocks)].fill(0);
            }
        }
        if let Err(sense) = run.finished(data, &scratch) {
            return Err((steps, sense));
        }
    }
}
