//! What initiators ask for, and the commands that say so.

use lunette::scsi::reserve::Class;
use lunette::sim::disk::{Stamp, fill};
use lunette_initiator::scsi::cdb::{self, Flags};
use lunette_initiator::{Command, Data, lun as lun_field};

use super::copies;
use super::oracle::{Content, Step, same_stamp, stamp};
use super::reserve;
use super::world::World;

/// What a command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Read {
        lba: u64,
        blocks: u32,
    },
    Write {
        lba: u64,
        blocks: u32,
        fua: bool,
    },
    /// WRITE AND VERIFY, with a comparison.
    WriteAndVerify {
        lba: u64,
        blocks: u32,
    },
    /// WRITE SAME of a block that is not zero.
    Same {
        lba: u64,
        blocks: u32,
    },
    /// WRITE SAME of zeroes, or UNMAP.
    Zero {
        lba: u64,
        blocks: u32,
        is_unmap: bool,
    },
    /// COMPARE AND WRITE of one block, if it holds `old`.
    Swap {
        lba: u64,
        old: Stamp,
    },
    Sync,
    TestUnitReady,
    Inquiry,
    ReportLuns,
    ReadCapacity,
    /// PERSISTENT RESERVE OUT.
    ReserveOut(reserve::Out),
    /// RESERVE(6) or RELEASE(6).
    Reserve {
        is_release: bool,
    },
    /// MODE SELECT of WCE.
    Select {
        write_cache: bool,
    },
    /// EXTENDED COPY from the unit that is asked to another, or within it.
    Copy {
        from: u64,
        to: (usize, u64),
        blocks: u32,
    },
    /// POPULATE TOKEN.
    Populate {
        lba: u64,
        blocks: u32,
    },
    /// RECEIVE ROD TOKEN INFORMATION of a POPULATE TOKEN.
    Token(Made),
    /// WRITE USING TOKEN, from a block of the token on.
    Clone {
        token: usize,
        of: Made,
        offset: u32,
        lba: u64,
        blocks: u32,
    },
    /// SANITIZE of so many blocks.
    Sanitize {
        blocks: u32,
    },
    /// SANITIZE, EXIT FAILURE MODE.
    ExitFailure,
}

/// A token: the command that made it, what it stands for, and when that was so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) op: u64,
    pub(super) unit: usize,
    pub(super) lba: u64,
    pub(super) blocks: u32,
    pub(super) since: Step,
    pub(super) until: Step,
}

/// Blocks that a command writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) unit: usize,
    pub(super) lba: u64,
    pub(super) blocks: u32,
    pub(super) content: Content,
}

impl What {
    /// The blocks it writes, and what, where `unit` is asked.
    pub(super) fn writes(self, unit: usize) -> Option<Written> {
        let written = |lba, blocks, content| Some(Written { unit, lba, blocks, content });
        match self {
            What::Write { lba, blocks, .. } | What::WriteAndVerify { lba, blocks } => {
                written(lba, blocks, Content::Own)
            }
            What::Same { lba, blocks } => written(lba, blocks, Content::Same),
            What::Zero { lba, blocks, .. } => written(lba, blocks, Content::Zero),
            What::Swap { lba, old } => written(lba, 1, Content::Instead(old)),
            What::Copy { from, to: (to, lba), blocks } => {
                let content = Content::Copied { from: (unit, from), held: None };
                Some(Written { unit: to, lba, blocks, content })
            }
            What::Clone { of, offset, lba, blocks, .. } => {
                let from = (of.unit, of.lba + u64::from(offset));
                written(lba, blocks, Content::Copied { from, held: Some((of.since, of.until)) })
            }
            What::Sanitize { blocks } => written(0, blocks, Content::Wiped),
            _ => None,
        }
    }

    /// GOOD says that it is on stable storage.
    pub(super) fn is_forced(self) -> bool {
        matches!(self, What::Write { fua: true, .. } | What::WriteAndVerify { .. } | What::Sanitize { .. })
    }

    /// GOOD says so too, where the volatile cache is switched off. What gives blocks back is no write.
    pub(super) fn is_cached(self) -> bool {
        matches!(
            self,
            What::Write { .. }
                | What::Same { .. }
                | What::Swap { .. }
                | What::Copy { .. }
                | What::Clone { .. }
        )
    }

    /// What reservations make of it.
    pub(super) fn class(self) -> Class {
        match self {
            What::Read { .. } => Class::Read,
            What::TestUnitReady | What::ReadCapacity => Class::Status,
            What::Inquiry | What::ReportLuns | What::ReserveOut(_) | What::Reserve { .. } => Class::Always,
            _ => Class::Write,
        }
    }
}

impl World {
    /// The command of this tag.
    pub(super) fn command(&self, op: u64, unit: usize, what: What) -> Command {
        let block_bytes = self.options.disks[unit].block_bytes;
        let lun = lun_field::from_number(u16::try_from(unit).unwrap_or(0));
        match what {
            What::Read { lba, blocks } => {
                Command::read(lun, cdb::read_16(lba, blocks, Flags::default()), blocks * block_bytes)
            }
            What::Write { lba, blocks, fua } => {
                let bytes = stamped(op, lba, blocks, block_bytes);
                Command::write(lun, cdb::write_16(lba, blocks, Flags { fua, ..Flags::default() }), bytes)
            }
            What::WriteAndVerify { lba, blocks } => {
                let bytes = stamped(op, lba, blocks, block_bytes);
                Command::write(lun, cdb::write_and_verify_16(lba, blocks, true), bytes)
            }
            What::Same { lba, blocks } => {
                let mut block = vec![0; block_bytes as usize];
                fill(&mut block, same_stamp(op));
                Command::write(lun, cdb::write_same_16(lba, blocks, false), block)
            }
            What::Zero { lba, blocks, is_unmap: false } => {
                Command::write(lun, cdb::write_same_16(lba, blocks, true), vec![0; block_bytes as usize])
            }
            What::Zero { lba, blocks, is_unmap: true } => {
                let list = cdb::unmap_list(&[(lba, blocks)]);
                Command::write(lun, cdb::unmap(u16::try_from(list.len()).unwrap_or(0)), list)
            }
            What::Swap { lba, old } => {
                let mut both = vec![0; 2 * block_bytes as usize];
                let (compared, written) = both.split_at_mut(block_bytes as usize);
                fill(compared, old);
                fill(written, stamp(op, lba));
                Command::write(lun, cdb::compare_and_write(lba, 1), both)
            }
            What::Sync => Command::new(lun, cdb::synchronize_cache_16(0, 0), Data::None),
            What::TestUnitReady => Command::new(lun, cdb::test_unit_ready(), Data::None),
            What::Inquiry => Command::read(lun, cdb::inquiry(255), 255),
            What::ReportLuns => Command::read(lun, cdb::report_luns(0, 4096), 4096),
            What::ReadCapacity => Command::read(lun, cdb::read_capacity_16(32), 32),
            What::ReserveOut(out) => out.command(lun),
            What::Reserve { is_release } => reserve::legacy(lun, is_release),
            What::Select { write_cache } => select(lun, write_cache),
            What::Copy { from, to, blocks } => {
                let from = (self.naa(unit), from);
                copies::copy(lun, from, (self.naa(to.0), to.1), blocks, block_bytes)
            }
            What::Populate { lba, blocks } => copies::populate(lun, op, lba, blocks),
            What::Token(made) => copies::token_information(lun, made.op),
            What::Clone { token, offset, lba, blocks, .. } => {
                copies::clone(lun, op, &self.tokens[token], offset, (lba, blocks))
            }
            What::Sanitize { .. } => {
                let mut block = vec![0; block_bytes as usize];
                fill(&mut block, same_stamp(op));
                copies::sanitize(lun, &block)
            }
            What::ExitFailure => copies::exit_failure(lun),
        }
    }
}

/// MODE SELECT(6) of the caching page.
fn select(lun: u64, write_cache: bool) -> Command {
    let mut list = vec![0; 24];
    list[4..7].copy_from_slice(&[0x08, 18, if write_cache { 0x04 } else { 0 }]);
    let mut cdb = [0; 16];
    cdb[..5].copy_from_slice(&[0x15, 0x10, 0, 0, 24]);
    Command::write(lun, cdb, list)
}

/// Blocks with the stamps of a write.
pub(super) fn stamped(op: u64, lba: u64, blocks: u32, block_bytes: u32) -> Vec<u8> {
    let mut bytes = vec![0; (blocks * block_bytes) as usize];
    for (lba, block) in (lba..).zip(bytes.chunks_exact_mut(block_bytes as usize)) {
        fill(block, stamp(op, lba));
    }
    bytes
}
