//! READs of several pieces whose data come out of order, and nobody reads what is sent.

use lunette::reactor::Bug;
use lunette_initiator::scsi::status;

use super::cell::{Cell, codes};
use super::what::What;
use super::world::{DiskOptions, Options};

/// Blocks of one piece.
const PIECE: u32 = 64;

/// Ends every IO of the disk but the oldest.
fn end_all_but_the_first(cell: &mut Cell) {
    while cell.world.disks[0].in_flight_count() > 1 {
        cell.world.step += 1;
        cell.world.disks[0].end_one(1);
        cell.world.look().unwrap();
        cell.settle();
    }
}

/// The second piece of a READ comes before the first, and while it waits for that the connection is clogged by another READ and
/// drained. How the first READ ends; the world looks at its data.
fn second_piece_first(bug: Option<Bug>) -> u8 {
    let disk = DiskOptions { blocks: 2048, block_bytes: 4096 };
    let mut cell = Cell::idle(Options::quiet(1, vec![disk], [8, 8, 8, 32], bug), false);
    cell.world.sessions[0].wire.set_capacity_to_initiator(1000);
    let read = cell.issue(0, What::Read { lba: 0, blocks: 5 * PIECE });
    cell.settle();
    assert_eq!(cell.world.disks[0].in_flight_count(), 2);
    end_all_but_the_first(&mut cell);
    cell.holds_to_initiator = true;
    let other = cell.issue(0, What::Read { lba: 1024, blocks: 12 * PIECE });
    cell.settle();
    end_all_but_the_first(&mut cell);
    assert_eq!(cell.ended(0, other), None, "it is stalled");
    cell.world.sessions[0].wire.set_capacity_to_initiator(1 << 20);
    cell.release();
    end_all_but_the_first(&mut cell);
    assert!(cell.ended(0, other).is_some());
    cell.end_ios();
    let (status, sense) = codes(&cell.ended(0, read).expect("an answer").expect("a status"));
    assert_eq!(sense, None);
    cell.finish();
    status
}

#[test]
fn a_piece_that_waits_for_its_predecessor_keeps_its_place() {
    assert_eq!(second_piece_first(None), status::GOOD);
}

#[test]
fn a_target_that_forgets_a_piece_is_found_out() {
    let bug = Some(Bug::ParkedNotCounted);
    assert!(std::panic::catch_unwind(|| second_piece_first(bug)).is_err());
}
