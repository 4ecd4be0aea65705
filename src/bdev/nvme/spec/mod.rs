//! NVMe on the wire: commands, completions, status. Pure; every field that a controller fills may hold anything.
//!
//! Names and numbers are those of the NVM Express Base Specification 2.0 (here "Base") and the NVM Command Set
//! Specification 1.0 ("NVM").

pub(crate) mod identify;
pub(crate) mod status;

pub(crate) use self::status::Status;

/// A submission queue entry as 16 little-endian words.
pub(crate) type Entry = [u32; 16];

/// Admin commands (Base §5).
pub(crate) mod admin {
    pub(crate) const DELETE_SQ: u8 = 0x00;
    pub(crate) const CREATE_SQ: u8 = 0x01;
    pub(crate) const GET_LOG_PAGE: u8 = 0x02;
    pub(crate) const DELETE_CQ: u8 = 0x04;
    pub(crate) const CREATE_CQ: u8 = 0x05;
    pub(crate) const IDENTIFY: u8 = 0x06;
    pub(crate) const ABORT: u8 = 0x08;
    pub(crate) const SET_FEATURES: u8 = 0x09;
    #[cfg(any(test, feature = "sim"))]
    pub(crate) const GET_FEATURES: u8 = 0x0A;
    pub(crate) const ASYNC_EVENT: u8 = 0x0C;
    pub(crate) const KEEP_ALIVE: u8 = 0x18;
    pub(crate) const DOORBELL_BUFFER: u8 = 0x7C;
    /// All of NVMe over Fabrics (Base §6).
    pub(crate) const FABRICS: u8 = 0x7F;
    pub(crate) const FORMAT_NVM: u8 = 0x80;
}

/// Commands of the NVM command set (NVM §3).
pub(crate) mod nvm {
    pub(crate) const FLUSH: u8 = 0x00;
    pub(crate) const WRITE: u8 = 0x01;
    pub(crate) const READ: u8 = 0x02;
    pub(crate) const WRITE_UNCORRECTABLE: u8 = 0x04;
    pub(crate) const COMPARE: u8 = 0x05;
    pub(crate) const WRITE_ZEROES: u8 = 0x08;
    pub(crate) const DATASET_MANAGEMENT: u8 = 0x09;
    pub(crate) const VERIFY: u8 = 0x0C;
    pub(crate) const COPY: u8 = 0x19;
}

/// Force Unit Access, in CDW12 (NVM §3.2.4).
pub(crate) const FUA: u32 = 1 << 30;
/// Deallocate, in CDW12 of WRITE ZEROES (NVM §3.2.8).
pub(crate) const DEALLOCATE: u32 = 1 << 25;
/// PRACT in CDW12: the controller makes and strips protection information itself (NVM §5.2.2).
pub(crate) const PRACT: u32 = 1 << 29;
/// PRCHK in CDW12: the controller checks the guard.
pub(crate) const PRCHK_GUARD: u32 = 1 << 28;
/// PRCHK in CDW12: the controller checks the reference tag.
pub(crate) const PRCHK_REFERENCE: u32 = 1 << 26;
/// Attribute Deallocate, in CDW11 of DATASET MANAGEMENT (NVM §3.2.3).
pub(crate) const AD: u32 = 1 << 2;

/// Fused operations (Base §3.4.2): in which half a command is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Fuse {
    /// None.
    #[default]
    Alone,
    /// The first.
    First,
    /// The second.
    Second,
}

/// A command, but for its id and where its data are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Command {
    /// See [`admin`] and [`nvm`].
    pub(crate) opcode: u8,
    /// Fused with its neighbour?
    pub(crate) fuse: Fuse,
    /// Namespace, 0 where it is about none.
    pub(crate) nsid: u32,
    /// Words 10 to 15.
    pub(crate) cdw10: [u32; 6],
}

/// Data pointer of an entry (Base §3.3.3.1): words 6 to 9.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum DataPointer {
    /// No data.
    #[default]
    None,
    /// Physical region pages: the first page and the second, or a list of the others.
    Prp(u64, u64),
    /// One scatter-gather descriptor of 16 bytes (fabrics).
    Sgl([u8; 16]),
}

impl Command {
    /// The entry.
    #[expect(clippy::cast_possible_truncation, reason = "words are cut into halves")]
    #[inline]
    pub(crate) fn encode(&self, cid: u16, data: DataPointer) -> Entry {
        let fuse = match self.fuse {
            Fuse::Alone => 0,
            Fuse::First => 1,
            Fuse::Second => 2,
        };
        let mut entry = [0; 16];
        entry[0] = u32::from(self.opcode) | fuse << 8 | u32::from(cid) << 16;
        entry[1] = self.nsid;
        match data {
            DataPointer::None => {}
            DataPointer::Prp(first, second) => {
                entry[6..10].copy_from_slice(&[
                    first as u32,
                    (first >> 32) as u32,
                    second as u32,
                    (second >> 32) as u32,
                ]);
            }
            DataPointer::Sgl(descriptor) => {
                entry[0] |= 1 << 14;
                for (word, bytes) in entry[6..10].iter_mut().zip(descriptor.chunks_exact(4)) {
                    *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                }
            }
        }
        entry[10..].copy_from_slice(&self.cdw10);
        entry
    }
}

/// A completion queue entry (Base §3.3.3.2), phase aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Completion {
    /// Words 0 and 1: what the command says of itself.
    pub(crate) result: u64,
    /// Entries of the submission queue that the controller has taken.
    pub(crate) sq_head: u16,
    /// Which submission queue.
    pub(crate) sq_id: u16,
    /// Which command.
    pub(crate) cid: u16,
    /// How it ended.
    pub(crate) status: Status,
}

/// What of a completion an IO queue's user needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ended {
    /// Which command.
    pub(crate) cid: u16,
    /// How it ended.
    pub(crate) status: Status,
}

impl From<Completion> for Ended {
    fn from(completion: Completion) -> Ended {
        Ended { cid: completion.cid, status: completion.status }
    }
}

impl Completion {
    /// Of the four words, and its phase bit.
    #[expect(clippy::cast_possible_truncation, reason = "words are cut into halves")]
    pub(crate) fn decode(words: [u32; 4]) -> (Completion, bool) {
        let completion = Completion {
            result: u64::from(words[0]) | u64::from(words[1]) << 32,
            sq_head: words[2] as u16,
            sq_id: (words[2] >> 16) as u16,
            cid: words[3] as u16,
            status: Status::from_bits((words[3] >> 17) as u16),
        };
        (completion, words[3] & 1 << 16 != 0)
    }
}

/// Words 10 and 11 of a command with an extent, and the number of blocks (0's based) in word 12.
#[expect(clippy::cast_possible_truncation, reason = "words are cut into halves")]
pub(crate) fn extent_words(lba: u64, blocks: u32) -> [u32; 3] {
    [lba as u32, (lba >> 32) as u32, blocks.saturating_sub(1) & 0xFFFF]
}

/// Data of a command that names blocks by a range, of which there is one.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Range {
    bytes: [u8; 32],
    len: u8,
}

impl Range {
    /// As DATASET MANAGEMENT wants it (NVM §3.2.3).
    pub(crate) fn of_dataset(lba: u64, blocks: u32) -> Range {
        let mut bytes = [0; 32];
        bytes[4..8].copy_from_slice(&blocks.to_le_bytes());
        bytes[8..16].copy_from_slice(&lba.to_le_bytes());
        Range { bytes, len: 16 }
    }

    /// As COPY wants it, in descriptor format 0 (NVM §3.2.2): of 1 to 2^16 blocks.
    pub(crate) fn of_copy(lba: u64, blocks: u32) -> Range {
        let mut bytes = [0; 32];
        bytes[8..16].copy_from_slice(&lba.to_le_bytes());
        bytes[16..18].copy_from_slice(&blocks.saturating_sub(1).to_le_bytes()[..2]);
        Range { bytes, len: 32 }
    }

    /// What the controller is to take.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_laid_out_as_the_specification_says() {
        let [lba_low, lba_high, count] = extent_words(0x1_2345_6789, 8);
        let command = Command {
            opcode: nvm::READ,
            nsid: 3,
            cdw10: [lba_low, lba_high, count | FUA, 0, 0, 0],
            ..Command::default()
        };
        let entry = command.encode(0xABCD, DataPointer::Prp(0x1_0000_2000, 0x3000));
        assert_eq!(
            entry,
            [0xABCD_0002, 3, 0, 0, 0, 0, 0x2000, 1, 0x3000, 0, 0x2345_6789, 1, 0x4000_0007, 0, 0, 0]
        );
    }

    #[test]
    fn ranges_are_laid_out_as_the_specification_says() {
        let dataset = Range::of_dataset(0x1_2345_6789, 0x1_0000);
        assert_eq!(dataset.bytes(), b"\0\0\0\0\0\0\x01\0\x89\x67\x45\x23\x01\0\0\0");
        let copy = Range::of_copy(0x1_2345_6789, 0x1_0000);
        let expected = b"\0\0\0\0\0\0\0\0\x89\x67\x45\x23\x01\0\0\0\xFF\xFF\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        assert_eq!(copy.bytes(), expected);
    }

    #[test]
    fn a_completion_is_read_as_the_specification_says() {
        let (completion, phase) = Completion::decode([5, 1, 0x0002_0011, 0x0503_ABCD]);
        assert!(phase);
        let expected = Completion {
            result: 0x1_0000_0005,
            sq_head: 0x11,
            sq_id: 2,
            cid: 0xABCD,
            status: Status::from_bits(0x0281),
        };
        assert_eq!(completion, expected);
        assert!(!Completion::decode([0, 0, 0, 0x0502_ABCD]).1);
    }
}
