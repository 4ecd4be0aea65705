//! Twenty cells: what interrupts a command, times where the command is when it does.

use lunette::bdev::Info;
use lunette_initiator::scsi::status;

use super::cell::{At, Cell, Codes, LBA, codes};
use super::what::What;

const TOLD_OF_RESET: (u8, Codes) = (status::CHECK_CONDITION, Some((6, 0x29, 0x03)));
const ABORTED: Option<(u8, Codes)> = Some((status::TASK_ABORTED, None));
const GOOD: Option<(u8, Codes)> = Some((status::GOOD, None));
const NO_LUN: (u8, Codes) = (status::CHECK_CONDITION, Some((5, 0x25, 0x00)));
const CAPACITY_CHANGED: (u8, Codes) = (status::CHECK_CONDITION, Some((6, 0x2a, 0x09)));
const OUT_OF_RANGE: (u8, Codes) = (status::CHECK_CONDITION, Some((5, 0x21, 0x00)));

// A LOGICAL UNIT RESET by the other session.

#[test]
fn tmf_receiving() {
    let mut cell = Cell::new(At::Receiving);
    let itt = cell.reset_unit();
    assert_eq!(cell.tmf_answer(1, itt), Some(0), "no device has anything to wait for");
    assert_eq!(cell.outcome(), None, "ExpCmdSN does not cover it yet");
    cell.release();
    assert_eq!(cell.outcome(), ABORTED);
    assert_eq!(cell.unit_ready(0), TOLD_OF_RESET);
    assert!(!cell.is_written());
    cell.finish();
}

#[test]
fn tmf_r2t_sent() {
    let mut cell = Cell::new(At::R2tSent);
    let itt = cell.reset_unit();
    assert_eq!(cell.tmf_answer(1, itt), Some(0), "no device has anything to wait for");
    cell.release();
    assert_eq!(cell.outcome(), ABORTED);
    assert_eq!(cell.unit_ready(0), TOLD_OF_RESET);
    assert!(!cell.is_written());
    cell.finish();
}

#[test]
fn tmf_in_device() {
    let mut cell = Cell::new(At::InDevice);
    let itt = cell.reset_unit();
    assert_eq!((cell.tmf_answer(1, itt), cell.outcome()), (None, None), "both wait for the device");
    cell.end_ios();
    assert_eq!((cell.tmf_answer(1, itt), cell.outcome()), (Some(0), ABORTED));
    assert_eq!(cell.unit_ready(0), TOLD_OF_RESET);
    cell.finish();
}

#[test]
fn tmf_in_transmit_queue() {
    let mut cell = Cell::new(At::InTransmitQueue);
    let itt = cell.reset_unit();
    assert_eq!(cell.tmf_answer(1, itt), Some(0));
    cell.release();
    assert_eq!(cell.outcome(), GOOD, "it had ended before");
    assert_eq!(cell.unit_ready(0), TOLD_OF_RESET);
    cell.finish();
}

// The session logs out.

#[test]
fn logout_receiving() {
    let mut cell = Cell::new(At::Receiving);
    // It stands behind the rest of the command.
    cell.log_out(0);
    cell.release();
    assert!(cell.has_logged_out());
    assert_eq!((cell.outcome(), cell.sessions()), (None, 2), "its IO is in the device");
    cell.end_ios();
    assert_eq!((cell.outcome(), cell.sessions(), cell.is_written()), (None, 1, true));
    cell.finish();
}

#[test]
fn logout_r2t_sent() {
    let mut cell = Cell::new(At::R2tSent);
    cell.log_out(0);
    cell.release();
    assert!(cell.has_logged_out());
    assert_eq!((cell.outcome(), cell.sessions(), cell.is_written()), (None, 1, false));
    assert_eq!((cell.world.census().tasks, cell.world.buffers_out()), (0, 0));
    cell.finish();
}

#[test]
fn logout_in_device() {
    let mut cell = Cell::new(At::InDevice);
    cell.log_out(0);
    assert!(cell.has_logged_out(), "it does not wait for the device");
    assert_eq!((cell.outcome(), cell.sessions(), cell.world.buffers_out()), (None, 2, 1));
    cell.end_ios();
    assert_eq!((cell.outcome(), cell.sessions(), cell.world.buffers_out()), (None, 1, 0));
    assert!(cell.is_written());
    cell.finish();
}

#[test]
fn logout_in_transmit_queue() {
    let mut cell = Cell::new(At::InTransmitQueue);
    cell.log_out(0);
    assert!(!cell.has_logged_out());
    cell.release();
    assert_eq!(cell.outcome(), GOOD, "what is queued is sent before the Logout Response");
    assert!(cell.has_logged_out());
    assert_eq!(cell.sessions(), 1);
    cell.finish();
}

// The connection breaks.

#[test]
fn connection_loss_receiving() {
    let mut cell = Cell::new(At::Receiving);
    cell.reset_connection();
    assert_eq!((cell.world.census().conns, cell.world.census().tasks, cell.world.buffers_out()), (1, 0, 0));
    assert_eq!((cell.sessions(), cell.is_written()), (1, false));
    cell.finish();
}

#[test]
fn connection_loss_r2t_sent() {
    let mut cell = Cell::new(At::R2tSent);
    cell.reset_connection();
    assert_eq!((cell.world.census().conns, cell.world.census().tasks, cell.world.buffers_out()), (1, 0, 0));
    assert_eq!((cell.sessions(), cell.is_written()), (1, false));
    cell.finish();
}

#[test]
fn connection_loss_in_device() {
    let mut cell = Cell::new(At::InDevice);
    cell.reset_connection();
    assert_eq!((cell.world.census().conns, cell.world.census().ios, cell.world.buffers_out()), (1, 1, 1));
    // The nexus's next session logs in at once, and is served once the device has given the write back.
    let next = cell.open(0, true);
    let op = cell.issue(next, What::TestUnitReady);
    cell.settle();
    assert_eq!(cell.ended(next, op), None, "the gate is shut");
    cell.end_ios();
    assert!(cell.is_written());
    let told = cell.ended(next, op).expect("an answer").expect("a status");
    assert_eq!(codes(&told), (status::CHECK_CONDITION, Some((6, 0x29, 0x07))), "I_T NEXUS LOSS OCCURRED");
    assert_eq!(cell.unit_ready(next), (status::GOOD, None));
    assert_eq!((cell.sessions(), cell.world.buffers_out()), (2, 0));
    cell.finish();
}

#[test]
fn connection_loss_in_transmit_queue() {
    let mut cell = Cell::new(At::InTransmitQueue);
    assert_eq!(cell.world.buffers_out(), 1);
    cell.reset_connection();
    assert_eq!((cell.world.census().items, cell.world.buffers_out(), cell.sessions()), (0, 0, 1));
    cell.finish();
}

// The LUN is taken from the target.

fn remove_lun(cell: &mut Cell) {
    cell.world.map(0, false);
    cell.settle();
}

#[test]
fn lun_removal_receiving() {
    let mut cell = Cell::new(At::Receiving);
    remove_lun(&mut cell);
    cell.release();
    assert_eq!((cell.outcome(), cell.is_written()), (Some(NO_LUN), false));
    cell.finish();
}

#[test]
fn lun_removal_r2t_sent() {
    let mut cell = Cell::new(At::R2tSent);
    remove_lun(&mut cell);
    cell.release();
    assert_eq!((cell.outcome(), cell.is_written()), (Some(NO_LUN), false));
    assert_eq!(cell.world.disks[0].held_count(), 0);
    cell.finish();
}

#[test]
fn lun_removal_in_device() {
    let mut cell = Cell::new(At::InDevice);
    remove_lun(&mut cell);
    assert_eq!(cell.unit_ready(1), NO_LUN);
    cell.end_ios();
    assert_eq!((cell.outcome(), cell.is_written()), (GOOD, true));
    assert_eq!(cell.unit_ready(0), NO_LUN);
    cell.finish();
}

#[test]
fn lun_removal_in_transmit_queue() {
    let mut cell = Cell::new(At::InTransmitQueue);
    remove_lun(&mut cell);
    cell.release();
    assert_eq!(cell.outcome(), GOOD);
    assert_eq!(cell.unit_ready(0), NO_LUN);
    cell.finish();
}

// The disk shrinks below the command's extent.

fn shrink(cell: &mut Cell) {
    cell.world.resize(0, LBA);
    let Info { blocks, .. } = lunette::bdev::Bdev::info(&cell.world.disks[0]);
    assert_eq!(blocks, LBA);
    cell.settle();
}

#[test]
fn resize_receiving() {
    let mut cell = Cell::new(At::Receiving);
    shrink(&mut cell);
    cell.release();
    // Its turn comes after the change: it is told of that instead.
    assert_eq!((cell.outcome(), cell.is_written()), (Some(CAPACITY_CHANGED), false));
    cell.finish();
}

#[test]
fn resize_r2t_sent() {
    let mut cell = Cell::new(At::R2tSent);
    shrink(&mut cell);
    cell.release();
    // Its turn came before the change: the write is checked again when its data are there.
    assert_eq!((cell.outcome(), cell.is_written()), (Some(OUT_OF_RANGE), false));
    assert_eq!(cell.unit_ready(0), CAPACITY_CHANGED);
    cell.finish();
}

#[test]
fn resize_in_device() {
    let mut cell = Cell::new(At::InDevice);
    shrink(&mut cell);
    assert_eq!(cell.world.census().waits, 1, "one reactor has not acknowledged");
    cell.end_ios();
    assert_eq!((cell.world.census().waits, cell.outcome(), cell.is_written()), (0, GOOD, true));
    assert_eq!(cell.unit_ready(0), CAPACITY_CHANGED);
    cell.finish();
}

#[test]
fn resize_in_transmit_queue() {
    let mut cell = Cell::new(At::InTransmitQueue);
    shrink(&mut cell);
    assert_eq!(cell.world.census().waits, 0);
    cell.release();
    assert_eq!(cell.outcome(), GOOD);
    assert_eq!(cell.unit_ready(0), CAPACITY_CHANGED);
    cell.finish();
}
