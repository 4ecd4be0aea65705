//! Tokens: POPULATE TOKEN, WRITE USING TOKEN (SBC-4 §5.17, §5.53) and RECEIVE ROD TOKEN INFORMATION (SPC-5 §6.21), as Windows copies
//! with them (ODX).
//!
//! A token stands for what its blocks hold at the moment it is made: ROD type 00800001h, point in time copy, change vulnerable.
//! No block is copied then; who changes one of them takes the token's validity. That is watched where holds are
//! ([`reactor::hold`](crate::reactor)): each range of a new token is watched by every reactor from a moment on at which no
//! device has an IO in it, and each piece is read under a hold that is granted with the word of every reactor that the
//! token is still whole.

use arrayvec::ArrayVec;
use sha2::{Digest, Sha256};

use crate::bdev::ZERO_BYTES_MAX;
use crate::id::UnitId;
use crate::limits::PIECE_BYTES_MAX;
use crate::scsi::cdb::Cdb;
use crate::scsi::copy::list::{be16, be32, be64};
use crate::scsi::sense::Sense;
use crate::scsi::view::UnitView;
use crate::scsi::{Access, Extent, Place, Plan, Served, Status, medium};
use crate::time::{SECOND_NS, Tick};

/// SERVICE ACTION of POPULATE TOKEN.
pub(in crate::scsi) const POPULATE: u8 = 0x10;
/// SERVICE ACTION of WRITE USING TOKEN.
pub(in crate::scsi) const WRITE: u8 = 0x11;

/// A token, in bytes.
pub const TOKEN_BYTES: usize = 512;
/// MAXIMUM RANGE DESCRIPTORS.
pub const RANGES_MAX: u16 = 16;
/// MAXIMUM TOKEN TRANSFER SIZE, and OPTIMAL TRANSFER COUNT.
pub(in crate::scsi) const ROD_BYTES_MAX: u64 = 1 << 30;
pub(in crate::scsi) const ROD_BYTES_OPTIMAL: u64 = 64 << 20;
/// MAXIMUM and DEFAULT INACTIVITY TIMEOUT, in seconds. It counts from the making of the token, used or not.
pub(in crate::scsi) const TIMEOUT_SECONDS_MAX: u32 = 60;
pub(in crate::scsi) const TIMEOUT_SECONDS: u32 = 30;

/// Point in time copy, change vulnerable.
pub(in crate::scsi) const CHANGE_VULNERABLE: u32 = 0x0080_0001;
/// Block device zero ROD token: it stands for zeroes, as many as one likes.
pub(in crate::scsi) const ZERO: u32 = 0xffff_0001;

const POPULATE_HEADER_BYTES: usize = 16;
const WRITE_HEADER_BYTES: usize = 536;
const RANGE_BYTES: usize = 16;
/// ROD TOKEN LENGTH: what follows it.
const TOKEN_LENGTH: u16 = 504;
/// Where in a token its secret is.
const SECRET_AT: usize = 128;
/// What of a token everybody may know: its management token.
pub(in crate::scsi) const MANAGEMENT_BYTES: usize = 96;
const _: () = assert!(MANAGEMENT_BYTES <= SECRET_AT);

/// What names a token, and cannot be guessed.
pub type TokenId = u128;

/// A new token, as it is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    /// Its name.
    pub id: TokenId,
    /// Of the unit that made it: 8 or 16 bytes.
    naa: ArrayVec<u8, 16>,
    bytes: u64,
}

/// Who knows which tokens there are.
pub trait Known: std::fmt::Debug {
    /// Tells each token that is whole, of blocks of this unit, and of how many.
    fn tokens_of(&self, unit: UnitId, now: Tick, told: &mut dyn FnMut(TokenId, u64));
}

impl Token {
    /// A token of so many blocks of a unit.
    pub(in crate::scsi) fn of(id: TokenId, view: &UnitView, blocks: u64) -> Token {
        Token { id, naa: view.identity.naa.clone(), bytes: blocks * u64::from(view.block_bytes) }
    }

    /// Writes the 512 bytes.
    pub(in crate::scsi) fn encode(&self) -> [u8; TOKEN_BYTES] {
        let mut token = [0; TOKEN_BYTES];
        token[..4].copy_from_slice(&CHANGE_VULNERABLE.to_be_bytes());
        token[6..8].copy_from_slice(&TOKEN_LENGTH.to_be_bytes());
        // COPY MANAGER ROD TOKEN IDENTIFIER, which tells tokens apart and may be known: it does not lead back to the secret.
        let label = Sha256::digest(self.id.to_be_bytes());
        token[8..16].copy_from_slice(&label[..8]);
        // CREATOR LOGICAL UNIT DESCRIPTOR: an identification descriptor.
        let naa_bytes = self.naa.len();
        token[16..24].copy_from_slice(&[0xe4, 0, 0, 0, 0x01, 0x03, 0, if naa_bytes == 16 { 16 } else { 8 }]);
        token[24..24 + naa_bytes].copy_from_slice(&self.naa);
        token[56..64].copy_from_slice(&self.bytes.to_be_bytes());
        token[SECRET_AT..SECRET_AT + 16].copy_from_slice(&self.id.to_be_bytes());
        token
    }
}

/// What WRITE USING TOKEN copies from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// Zeroes.
    Zero,
    /// What a token stands for, from a block of it on.
    Token {
        /// Its name.
        id: TokenId,
        /// OFFSET INTO ROD.
        offset_blocks: u64,
    },
}

/// What a command with tokens wants next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// That these blocks are watched for the new token.
    Watch {
        /// First block.
        lba: u64,
        /// How many.
        blocks: u32,
        /// Where they stand in what the token stands for.
        offset_blocks: u64,
    },
    /// To read the blocks that stand there in the token, at most so many, under a hold; [`Run::read`] tells how many
    /// it were, [`Run::end_of_token`] that there is none.
    Read {
        /// The token.
        id: TokenId,
        /// Where.
        offset_blocks: u64,
        /// How many.
        blocks: u32,
    },
    /// To write what was read.
    Write {
        /// First block.
        lba: u64,
        /// How many.
        blocks: u32,
    },
    /// To make these blocks zeroes.
    WriteZeroes {
        /// First block.
        lba: u64,
        /// How many.
        blocks: u32,
    },
    /// Nothing: the command is over.
    Done,
}

/// A command with tokens at work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// LIST IDENTIFIER.
    pub list_id: u32,
    block_bytes: u32,
    ranges_at: u16,
    range_count: u16,
    /// Ranges that are done, and the present one.
    ranges: u16,
    lba: u64,
    blocks: u32,
    /// Blocks of the present range that are done, and of all.
    done_blocks: u32,
    moved_blocks: u64,
    /// The token ended before the ranges did.
    is_cut_short: bool,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Populate {
        /// Nanoseconds that the token is to last.
        lasts_ns: u64,
    },
    Write {
        source: Source,
        /// Blocks that were read and are to be written; 0 where some are to be read.
        read_blocks: u32,
    },
}

impl Run {
    /// Begins with the parameter list that came.
    ///
    /// # Errors
    /// It is not what SBC says, or names blocks that are not there.
    pub fn begin(cdb: &Cdb, data: &[u8], place: &Place<'_>) -> Result<Run, Sense> {
        let unit = Served::at(place).ok_or(Sense::NO_SUCH_UNIT)?;
        let is_populate = cdb.service_action() == POPULATE;
        let header_bytes = if is_populate { POPULATE_HEADER_BYTES } else { WRITE_HEADER_BYTES };
        if data.len() < header_bytes || data.len() as u64 != u64::from(cdb.be32(10)) {
            return Err(Sense::PARAMETER_LIST_LENGTH);
        }
        if data[2] & 0x01 != 0 {
            return Err(Sense::invalid_parameter_bit(2, 0));
        }
        let length_at = header_bytes - 2;
        let ranges_bytes = be16(data, length_at) as usize;
        if ranges_bytes == 0 || !ranges_bytes.is_multiple_of(RANGE_BYTES) {
            return Err(Sense::invalid_parameter(u16::try_from(length_at).unwrap_or(0)));
        }
        if header_bytes + ranges_bytes > data.len() {
            return Err(Sense::PARAMETER_LIST_LENGTH);
        }
        let range_count = u16::try_from(ranges_bytes / RANGE_BYTES).unwrap_or(u16::MAX);
        if range_count > RANGES_MAX {
            return Err(Sense::TOO_MANY_SEGMENTS);
        }
        let kind = if is_populate { populate(data)? } else { write(data)? };
        let mut run = Run {
            list_id: cdb.be32(6),
            block_bytes: unit.view.block_bytes,
            ranges_at: u16::try_from(header_bytes).unwrap_or(0),
            range_count,
            ranges: 0,
            lba: 0,
            blocks: 0,
            done_blocks: 0,
            moved_blocks: 0,
            is_cut_short: false,
            kind,
        };
        run.check(data, if is_populate { Access::Read } else { Access::Write }, unit)?;
        run.load(data);
        Ok(run)
    }

    /// Judges the ranges: on the medium, none of them twice, not too much.
    fn check(&self, data: &[u8], access: Access, unit: Served<'_>) -> Result<(), Sense> {
        let mut total = 0;
        for index in 0..self.range_count {
            let (lba, blocks) = self.range(index, data);
            medium::check(Extent { lba, blocks, fua: false }, access, unit)?;
            total += u64::from(blocks) * u64::from(self.block_bytes);
            let end = lba + u64::from(blocks);
            let overlaps = (0..index)
                .map(|earlier| self.range(earlier, data))
                .any(|(other, count)| lba < other + u64::from(count) && other < end);
            if overlaps {
                return Err(Sense::INVALID_PARAMETER);
            }
        }
        if total > ROD_BYTES_MAX { Err(Sense::INVALID_PARAMETER) } else { Ok(()) }
    }

    fn range(&self, index: u16, data: &[u8]) -> (u64, u32) {
        let at = usize::from(self.ranges_at) + usize::from(index) * RANGE_BYTES;
        (be64(data, at), be32(data, at + 8))
    }

    /// Goes on to the next range that names blocks, where the present one is done.
    fn load(&mut self, data: &[u8]) {
        while self.done_blocks == self.blocks && self.ranges < self.range_count {
            (self.lba, self.blocks) = self.range(self.ranges, data);
            self.done_blocks = 0;
            self.ranges += 1;
        }
    }

    /// Blocks that are done.
    pub fn moved_blocks(&self) -> u64 {
        self.moved_blocks
    }

    /// The token that was made, as it is told; none where none was to be.
    pub fn token(&self, id: TokenId, view: &UnitView) -> Option<Token> {
        matches!(self.kind, Kind::Populate { .. }).then(|| Token::of(id, view, self.moved_blocks))
    }

    /// How long a new token is to last, in nanoseconds.
    pub fn lasts_ns(&self) -> u64 {
        match self.kind {
            Kind::Populate { lasts_ns } => lasts_ns,
            Kind::Write { .. } => 0,
        }
    }

    /// What comes next. The same answer until [`Run::read`] or [`Run::finished`] is called.
    pub fn step(&self) -> Step {
        let lba = self.lba + u64::from(self.done_blocks);
        let left = self.blocks - self.done_blocks;
        if left == 0 {
            return Step::Done;
        }
        match self.kind {
            Kind::Populate { .. } => Step::Watch { lba, blocks: left, offset_blocks: self.moved_blocks },
            Kind::Write { source: Source::Zero, .. } => {
                Step::WriteZeroes { lba, blocks: left.min(ZERO_BYTES_MAX / self.block_bytes) }
            }
            Kind::Write { source: Source::Token { id, offset_blocks }, read_blocks: 0 } => Step::Read {
                id,
                offset_blocks: offset_blocks.saturating_add(self.moved_blocks),
                blocks: left.min(PIECE_BYTES_MAX / self.block_bytes),
            },
            Kind::Write { read_blocks, .. } => Step::Write { lba, blocks: read_blocks },
        }
    }

    /// So many blocks of the token were read.
    pub fn read(&mut self, blocks: u32) {
        if let Kind::Write { read_blocks, .. } = &mut self.kind {
            *read_blocks = blocks;
        }
    }

    /// The token has no block where the next is to be read: the command is over, done in part (SPC-5 §6.21, COPY OPERATION
    /// STATUS 03h).
    ///
    /// # Errors
    /// It has not even the first (SBC-4 §5.53, OFFSET INTO ROD).
    pub fn end_of_token(&mut self) -> Result<(), Sense> {
        if self.moved_blocks == 0 {
            return Err(Sense::invalid_parameter(8));
        }
        (self.blocks, self.done_blocks, self.ranges) = (0, 0, self.range_count);
        self.is_cut_short = true;
        Ok(())
    }

    /// Whether the token ended before the ranges did.
    pub fn is_cut_short(&self) -> bool {
        self.is_cut_short
    }

    /// The step is done, but for one that reads.
    pub fn finished(&mut self, data: &[u8]) {
        let done = match self.step() {
            Step::Watch { blocks, .. } | Step::Write { blocks, .. } | Step::WriteZeroes { blocks, .. } => {
                blocks
            }
            Step::Read { .. } | Step::Done => 0,
        };
        if let Kind::Write { read_blocks, .. } = &mut self.kind {
            *read_blocks = 0;
        }
        self.done_blocks += done;
        self.moved_blocks += u64::from(done);
        self.load(data);
    }
}

fn populate(data: &[u8]) -> Result<Kind, Sense> {
    // RTV: ROD TYPE means something.
    if data[2] & 0x02 != 0 && ![0, CHANGE_VULNERABLE].contains(&be32(data, 8)) {
        return Err(Sense::invalid_parameter(8));
    }
    let seconds = match be32(data, 4) {
        0 => TIMEOUT_SECONDS,
        seconds if seconds > TIMEOUT_SECONDS_MAX => return Err(Sense::invalid_parameter(4)),
        seconds => seconds,
    };
    Ok(Kind::Populate { lasts_ns: u64::from(seconds) * SECOND_NS })
}

fn write(data: &[u8]) -> Result<Kind, Sense> {
    let token = &data[16..16 + TOKEN_BYTES];
    if be16(token, 6) != u32::from(TOKEN_LENGTH) {
        return Err(Sense::TOKEN_LENGTH);
    }
    let source = match be32(token, 0) {
        ZERO => Source::Zero,
        CHANGE_VULNERABLE => {
            let secret = token[SECRET_AT..].first_chunk().copied().unwrap_or_default();
            Source::Token { id: TokenId::from_be_bytes(secret), offset_blocks: be64(data, 8) }
        }
        _ => return Err(Sense::TOKEN_TYPE),
    };
    Ok(Kind::Write { source, read_blocks: 0 })
}

/// POPULATE TOKEN and WRITE USING TOKEN.
pub(in crate::scsi) fn plan(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    medium::ready(unit)?;
    let bytes = cdb.be32(10);
    let most = WRITE_HEADER_BYTES + usize::from(RANGES_MAX) * RANGE_BYTES;
    match bytes {
        // SBC-4: no parameter list is not an error.
        0 => Ok(Plan::End(Status::Good)),
        _ if bytes as usize > most => Err(Sense::PARAMETER_LIST_LENGTH),
        _ => Ok(Plan::Copy(super::Copy { action: cdb.service_action(), bytes })),
    }
}
