//! Copies, tokens and chores: their commands, and what becomes of them.

use lunette::bdev::Bdev;
use lunette_initiator::scsi::{Sense, sense_key};
use lunette_initiator::session::{Attribute, Function, Tmf};
use lunette_initiator::{Command, Data, lun as lun_field};

use super::session::{Op, Session};
use super::what::{Made, What};
use super::world::World;

/// A command with a parameter list, whose length is in bytes 10 to 13.
fn listed(lun: u64, mut cdb: [u8; 16], list: &[u8]) -> Command {
    cdb[10..14].copy_from_slice(&u32::try_from(list.len()).unwrap_or(0).to_be_bytes());
    Command::write(lun, cdb, list.to_vec())
}

fn with_list_id(action: u8, opcode: u8, at: usize, op: u64) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[..2].copy_from_slice(&[opcode, action]);
    cdb[at..at + 4].copy_from_slice(&op.to_be_bytes()[4..]);
    cdb
}

/// EXTENDED COPY(LID1): two NAA identifiers, one segment, no list identifier.
pub(super) fn copy(
    lun: u64,
    from: ([u8; 8], u64),
    to: ([u8; 8], u64),
    blocks: u32,
    block_bytes: u32,
) -> Command {
    let [_, block @ ..] = block_bytes.to_be_bytes();
    let cscd = |naa: [u8; 8]| [&[0xe4, 0, 0, 0, 0x01, 0x03, 0, 8][..], &naa, &[0; 13], &block].concat();
    let [_, _, count @ ..] = blocks.to_be_bytes();
    let segment =
        [&[0x02, 0x00, 0, 0x18, 0, 0, 0, 1, 0, 0][..], &count, &from.1.to_be_bytes(), &to.1.to_be_bytes()];
    let header = [0, 0x18, 0, 64, 0, 0, 0, 0, 0, 0, 0, 28, 0, 0, 0, 0];
    let mut cdb = [0; 16];
    cdb[0] = 0x83;
    listed(lun, cdb, &[&header[..], &cscd(from.0), &cscd(to.0), &segment.concat()].concat())
}

fn range(lba: u64, blocks: u32) -> Vec<u8> {
    [&lba.to_be_bytes()[..], &blocks.to_be_bytes(), &[0; 4]].concat()
}

/// POPULATE TOKEN of one range.
pub(super) fn populate(lun: u64, op: u64, lba: u64, blocks: u32) -> Command {
    let list = [&[0, 30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16][..], &range(lba, blocks)].concat();
    listed(lun, with_list_id(0x10, 0x83, 6, op), &list)
}

/// RECEIVE ROD TOKEN INFORMATION.
pub(super) fn token_information(lun: u64, op: u64) -> Command {
    let mut cdb = with_list_id(0x07, 0x84, 2, op);
    cdb[12] = 0x10;
    Command::read(lun, cdb, 4096)
}

/// WRITE USING TOKEN to one range.
pub(super) fn clone(lun: u64, op: u64, token: &[u8], offset: u32, (lba, blocks): (u64, u32)) -> Command {
    let head = [&[0x02, 0x26, 0, 0, 0, 0, 0, 0][..], &u64::from(offset).to_be_bytes()].concat();
    let list = [&head[..], token, &[0, 0, 0, 0, 0, 0, 0, 16], &range(lba, blocks)].concat();
    listed(lun, with_list_id(0x11, 0x83, 6, op), &list)
}

/// SANITIZE, OVERWRITE with this pattern, once; EXIT FAILURE MODE is allowed.
pub(super) fn sanitize(lun: u64, pattern: &[u8]) -> Command {
    let [high, low] = u16::try_from(pattern.len()).unwrap_or(0).to_be_bytes();
    let list = [&[1, 0, high, low][..], pattern].concat();
    let mut cdb = [0; 16];
    cdb[..2].copy_from_slice(&[0x48, 0x21]);
    cdb[7..9].copy_from_slice(&u16::try_from(list.len()).unwrap_or(0).to_be_bytes());
    Command::write(lun, cdb, list)
}

/// SANITIZE, EXIT FAILURE MODE.
pub(super) fn exit_failure(lun: u64) -> Command {
    let mut cdb = [0; 16];
    cdb[..2].copy_from_slice(&[0x48, 0x1f]);
    Command::new(lun, cdb, Data::None)
}

impl What {
    /// Whether it copies, or has to do with tokens.
    pub(super) fn is_copy(self) -> bool {
        matches!(self, What::Copy { .. } | What::Populate { .. } | What::Token(_) | What::Clone { .. })
    }
}

impl World {
    /// What a unit's NAA identifier is made of: bytes 0 to 5, 14 and 15 of its UUID.
    pub(super) fn naa(&self, unit: usize) -> [u8; 8] {
        let uuid = self.disks[unit].info().uuid;
        let mut naa = [0; 8];
        naa[..6].copy_from_slice(&uuid[..6]);
        naa[6..].copy_from_slice(&uuid[14..]);
        naa[0] = 0x30 | naa[0] & 0x0f;
        naa
    }

    /// Whether there is a reason for a copy to fail so.
    pub(super) fn may_fail_copy(&self, sense: Option<Sense>) -> bool {
        const COPY_ABORTED: u8 = 0x0a;
        match sense.map(|sense| (sense.key, sense.asc)) {
            // The other side has failed, or is not there.
            Some((COPY_ABORTED, _)) => {
                self.has_failed
                    || self.has_removed
                    || self.has_resized
                    || self.has_lost
                    || !self.sanitizes.is_empty()
            }
            // Revoked, or out of time; of a LUN that is gone.
            Some((sense_key::ILLEGAL_REQUEST, (0x23, 0x04 | 0x06))) => true,
            Some((sense_key::ILLEGAL_REQUEST, (0x23, 0x02))) => self.has_removed,
            // No room for one more, or it is broken while it is made.
            Some((sense_key::ILLEGAL_REQUEST, (0x55, 0x0d))) => true,
            // What became of it is forgotten.
            Some((sense_key::ILLEGAL_REQUEST, (0x24, 0x00))) => true,
            _ => false,
        }
    }

    /// A token is made: what is it?
    pub(super) fn populated(&mut self, index: usize, tag: u64, op: Op, lba: u64, blocks: u32) {
        let made = Made { op: tag, unit: op.unit, lba, blocks, since: op.start, until: self.step };
        // Asked by a session that takes no more, nobody will know.
        let _ = self.issue(index, op.unit, What::Token(made), Attribute::Simple, false);
    }

    /// Somebody knows a token.
    pub(super) fn token_told(&mut self, made: Made, data: &[u8]) {
        // Completed without errors, and it is a new one.
        if data.get(4..6) == Some(&[0x10, 0x01])
            && let Some(token) = data.get(38..550)
        {
            self.tokens.push(token.to_vec());
            self.made.push(made);
        }
    }

    /// A session gives up a copy to another unit, whose disk is being written. Whether there was one.
    pub(super) fn interrupt_copy(&mut self) -> bool {
        let at_work = |session: &Session| {
            let mut copies = session.ops.values().filter(|op| {
                matches!(op.what, What::Copy { to, .. } if to.0 != op.unit)
                    && session.initiator.is_sent(op.itt)
            });
            let is_up = !session.is_over && !session.is_logging_out && !session.initiator.has_ended();
            copies.next().filter(|_| is_up).map(|op| op.unit)
        };
        let copying = self.sessions.iter().enumerate();
        let copying: Vec<_> =
            copying.filter_map(|(index, session)| Some((index, at_work(session)?))).collect();
        if !copying.is_empty() {
            let (index, unit) = self.rng.pick(&copying);
            let lun = lun_field::from_number(u16::try_from(unit).unwrap_or(0));
            let functions = [Function::AbortTaskSet, Function::ClearTaskSet, Function::LogicalUnitReset];
            let tmf = Tmf::new(self.rng.pick(&functions), lun);
            self.manage(index, unit, tmf);
        }
        !copying.is_empty()
    }

    /// A copy within the blocks at the beginning of disks, or what a token needs next.
    pub(super) fn draw_copy(&mut self, unit: usize, lba: u64, blocks: u32, hot_blocks: u64) -> What {
        let disk = self.options.disks[unit];
        let like: Vec<usize> = (0..self.disks.len())
            .filter(|other| self.options.disks[*other].block_bytes == disk.block_bytes)
            .collect();
        let most = |blocks: u32| hot_blocks.min(disk.blocks - u64::from(blocks));
        match self.rng.below(4) {
            0 => {
                let to = (self.rng.pick(&like), self.rng.below(most(blocks)));
                What::Copy { from: lba, to, blocks }
            }
            1 => What::Populate { lba, blocks },
            _ => {
                // One of the last, which may be whole.
                let first = self.tokens.len().saturating_sub(4);
                let usable: Vec<usize> = (first..self.tokens.len())
                    .filter(|token| like.contains(&self.made[*token].unit))
                    .collect();
                if usable.is_empty() {
                    return What::Populate { lba, blocks };
                }
                let token = self.rng.pick(&usable);
                let of = self.made[token];
                let offset = u32::try_from(self.rng.below(of.blocks.into())).unwrap_or(0);
                let blocks = 1 + u32::try_from(self.rng.below((of.blocks - offset).into())).unwrap_or(0);
                What::Clone { token, of, offset, lba: self.rng.below(most(blocks)), blocks }
            }
        }
    }
}

#[cfg(test)]
mod cells {
    //! What interrupts a copy or a chore, driven by hand: nothing is ended unless the test says so.

    use lunette::limits::SWALLOW_NS;
    use lunette::reactor::Bug;
    use lunette_initiator::scsi::status;
    use lunette_initiator::session::{Completion, Function};

    use super::super::cell::{Cell, Codes, codes};
    use super::super::oracle::{same_stamp, stamp};
    use super::super::world::{DiskOptions, Options};
    use super::What;

    const GOOD: (u8, Codes) = (status::GOOD, None);
    const ABORTED: (u8, Codes) = (status::TASK_ABORTED, None);
    const TOLD_OF_RESET: (u8, Codes) = (status::CHECK_CONDITION, Some((6, 0x29, 0x03)));
    const SANITIZING: (u8, Codes) = (status::CHECK_CONDITION, Some((2, 0x04, 0x1b)));

    /// Two disks whose IO ends by hand only, and two sessions.
    fn idle() -> Cell {
        idle_with(None)
    }

    fn idle_with(bug: Option<Bug>) -> Cell {
        let options =
            Options::quiet(2, vec![DiskOptions { blocks: 512, block_bytes: 512 }; 2], [8, 8, 4, 2], bug);
        Cell::idle(options, true)
    }

    fn ended(cell: &Cell, session: usize, op: u64) -> Option<Option<(u8, Codes)>> {
        cell.ended(session, op).map(|completion: Option<Completion>| completion.as_ref().map(codes))
    }

    /// Blocks 8 and 9 of the first disk are written, and a copy of them to the other, asked of the first, is in the device
    /// of the other: the tag of the write, and of the copy.
    fn copying() -> (Cell, u64, u64) {
        copying_in(idle())
    }

    fn copying_in(mut cell: Cell) -> (Cell, u64, u64) {
        let written = cell.issue(0, What::Write { lba: 8, blocks: 2, fua: false });
        cell.settle();
        cell.end_ios();
        assert_eq!(ended(&cell, 0, written), Some(Some(GOOD)));
        let copy = cell.issue(0, What::Copy { from: 8, to: (1, 100), blocks: 2 });
        cell.settle();
        cell.end_io(0);
        assert_eq!(cell.world.disks[1].in_flight_count(), 1);
        (cell, written, copy)
    }

    fn is_copied(cell: &Cell, written: u64) -> bool {
        let found = [100, 101].map(|lba| cell.world.disks[1].content(lba));
        assert!(found == [0; 2] || found == [stamp(written, 8), stamp(written, 9)]);
        found != [0; 2]
    }

    #[test]
    fn a_copy_is_done() {
        let (mut cell, written, copy) = copying();
        cell.end_ios();
        assert_eq!((ended(&cell, 0, copy), is_copied(&cell, written)), (Some(Some(GOOD)), true));
        cell.finish();
    }

    #[test]
    fn a_reset_waits_for_the_copy_that_it_ends_wherever_that_writes() {
        for function in [Function::AbortTaskSet, Function::LogicalUnitReset] {
            let (mut cell, written, copy) = copying();
            let itt = cell.manage(0, function);
            cell.pass(SWALLOW_NS);
            assert_eq!(cell.tmf_answer(0, itt), None, "{function:?}: the other disk has its write");
            cell.end_ios();
            assert_eq!((cell.tmf_answer(0, itt), is_copied(&cell, written)), (Some(0), true));
            assert_eq!(ended(&cell, 0, copy), Some(None), "without an answer");
            cell.finish();
        }
    }

    #[test]
    fn one_that_does_not_wait_is_found() {
        let (mut cell, _, copy) = copying_in(idle_with(Some(Bug::CopyNotWaitedFor)));
        let itt = cell.manage(0, Function::AbortTaskSet);
        // Data that it might be owed are waited for, in any case.
        cell.pass(SWALLOW_NS);
        assert_eq!((cell.tmf_answer(0, itt), ended(&cell, 0, copy)), (Some(0), Some(None)));
        cell.world.step += 1;
        cell.world.disks[1].end_one(0);
        assert!(cell.world.look().is_err());
    }

    #[test]
    fn anothers_reset_waits_for_the_copy_that_it_ends() {
        let (mut cell, written, copy) = copying();
        let itt = cell.reset_unit();
        assert_eq!((cell.tmf_answer(1, itt), ended(&cell, 0, copy)), (None, None));
        cell.end_ios();
        assert_eq!((cell.tmf_answer(1, itt), is_copied(&cell, written)), (Some(0), true));
        assert_eq!((ended(&cell, 0, copy), cell.unit_ready(0)), (Some(Some(ABORTED)), TOLD_OF_RESET));
        cell.finish();
    }

    #[test]
    fn a_reset_of_where_it_writes_leaves_a_copy_alone() {
        let mut cell = idle();
        // Asked of the second disk, to the first.
        let copy = cell.issue_at(0, 1, What::Copy { from: 8, to: (0, 100), blocks: 2 });
        cell.settle();
        cell.end_io(1);
        assert_eq!(cell.world.disks[0].in_flight_count(), 1);
        cell.world.disks[0].set_manners(true, true);
        let itt = cell.reset_unit();
        assert_eq!((cell.tmf_answer(1, itt), ended(&cell, 0, copy)), (Some(0), None), "it has ended nothing");
        cell.end_ios();
        assert_eq!(ended(&cell, 0, copy), Some(Some(GOOD)));
        assert_eq!(cell.unit_ready(0), TOLD_OF_RESET);
        cell.finish();
    }

    #[test]
    fn a_disk_shrinks_when_the_copy_to_it_is_back() {
        let (mut cell, written, copy) = copying();
        cell.world.resize(1, 50);
        cell.settle();
        assert_eq!(cell.world.census().waits, 1, "one reactor has not acknowledged");
        cell.end_ios();
        assert_eq!((cell.world.census().waits, is_copied(&cell, written)), (0, true));
        assert_eq!(ended(&cell, 0, copy), Some(Some(GOOD)));
        cell.finish();
    }

    #[test]
    fn a_sanitize_begins_when_writes_of_before_are_back_and_outlives_its_command() {
        let mut cell = idle();
        let write = cell.issue(1, What::Write { lba: 8, blocks: 2, fua: false });
        cell.settle();
        let sanitize = cell.issue(0, What::Sanitize { blocks: 512 });
        cell.settle();
        assert_eq!((cell.unit_ready(1), cell.world.disks[0].in_flight_count()), (SANITIZING, 1));
        cell.end_io(0);
        assert_eq!(ended(&cell, 1, write), Some(Some(GOOD)));
        assert_eq!(cell.world.disks[0].in_flight_count(), 1, "the overwriting");
        let itt = cell.manage(0, Function::AbortTaskSet);
        assert_eq!((cell.tmf_answer(0, itt), ended(&cell, 0, sanitize)), (Some(0), Some(None)));
        assert_eq!(cell.unit_ready(1), SANITIZING, "it goes on");
        cell.end_ios();
        assert_eq!(cell.unit_ready(1), GOOD);
        assert!((0..512).all(|lba| cell.world.disks[0].content(lba) == same_stamp(sanitize)));
        cell.finish();
    }
}
