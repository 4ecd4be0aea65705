//! Commands in steps where buffers are scarce: each holds the one with its data and needs another to work with.

use lunette::reactor::Bug;
use lunette_initiator::scsi::status;

use super::cell::{Cell, codes};
use super::what::What;
use super::world::{DiskOptions, Options};

/// As much as one buffer holds.
const PIECE: u32 = 64;

fn cell(buffers: [usize; 4], immediate_data: bool) -> Cell {
    cell_with(None, buffers, immediate_data)
}

fn cell_with(bug: Option<Bug>, buffers: [usize; 4], immediate_data: bool) -> Cell {
    let options = Options::quiet(1, vec![DiskOptions { blocks: 256, block_bytes: 4096 }], buffers, bug);
    Cell::idle(options, immediate_data)
}

/// Each session asks for each of these three times.
fn ask(cell: &mut Cell, asked: &[What]) -> Vec<(usize, u64)> {
    let mut ops = Vec::new();
    for session in [0, 1, 0, 1, 0, 1] {
        ops.extend(asked.iter().map(|what| (session, cell.issue(session, *what))));
    }
    cell.settle();
    cell.end_ios();
    ops
}

/// The same, and all of it is done.
fn all_end(mut cell: Cell, asked: &[What]) {
    for (session, op) in ask(&mut cell, asked) {
        let ended = codes(&cell.ended(session, op).expect("an answer").expect("a status"));
        // What one has written another may have written over before it was verified; what comes unasked may find no room.
        let is_over = matches!(
            ended,
            (status::GOOD | status::TASK_SET_FULL, None) | (status::CHECK_CONDITION, Some((0xe, 0x1d, 0)))
        );
        assert!(is_over, "{ended:?}");
    }
    cell.finish();
}

const VERIFIED: What = What::WriteAndVerify { lba: 0, blocks: PIECE };

#[test]
fn data_in_all_large_buffers_stop_nobody() {
    all_end(cell([8, 4, 3, 2], false), &[VERIFIED]);
}

#[test]
fn without_a_buffer_that_is_kept_they_wait_for_each_other() {
    let mut cell = cell_with(Some(Bug::NoBufferKept), [8, 4, 3, 2], false);
    let ended = ask(&mut cell, &[VERIFIED])
        .iter()
        .filter(|(session, op)| cell.ended(*session, *op).is_some())
        .count();
    assert_eq!(ended, 0);
}

#[test]
fn pieces_in_all_large_buffers_stop_nobody() {
    // The second pieces are asked for, the first come by themselves as far as they may.
    for immediate_data in [false, true] {
        all_end(
            cell([8, 4, 3, 2], immediate_data),
            &[What::WriteAndVerify { lba: 0, blocks: 3 * PIECE }, What::Read { lba: 0, blocks: 2 * PIECE }],
        );
    }
}

#[test]
fn data_in_buffers_of_another_size_stop_nobody() {
    // Those of 64 KiB are all taken by data, those above by others.
    all_end(
        cell([1, 1, 2, 2], false),
        &[
            What::WriteAndVerify { lba: 0, blocks: 16 },
            What::WriteAndVerify { lba: 64, blocks: 4 },
            What::Same { lba: 128, blocks: PIECE },
            What::Read { lba: 0, blocks: PIECE },
        ],
    );
}
