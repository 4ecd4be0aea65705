//! READ BUFFER(10) and WRITE BUFFER (SPC-5 §6.15, §6.49): two buffers that a host writes and reads back to see whether the way
//! between is whole. No microcode comes this way.
//!
//! Each I_T nexus has buffers of its own at each logical unit, as EBOS says, so nobody overwrites another's. A reactor keeps
//! those written last.

use crate::id::{NexusId, UnitId};
use crate::scsi::cdb::Cdb;
use crate::scsi::report::{self, Writer};
use crate::scsi::sense::Sense;
use crate::scsi::{Plan, Served, Status};

/// A buffer, in bytes.
pub const BUFFER_BYTES: usize = 4096;
/// Buffers that a reactor keeps.
const KEPT: usize = 16;

/// MODE 02h of both commands.
const DATA: u8 = 0x02;
/// MODE 03h of READ BUFFER.
const DESCRIPTOR: u8 = 0x03;
/// MODE 0Ah of both commands.
const ECHO: u8 = 0x0a;
/// MODE 0Bh of READ BUFFER.
const ECHO_DESCRIPTOR: u8 = 0x0b;

/// What READ BUFFER asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// The data buffer, from an offset on.
    Data {
        /// Where.
        offset: u16,
    },
    /// What was written into the echo buffer.
    Echo,
    /// How large the data buffer is, if it is the one.
    Descriptor {
        /// BUFFER ID.
        id: u8,
    },
    /// How large the echo buffer is.
    EchoDescriptor,
}

/// What WRITE BUFFER writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Write {
    kind: Kind,
    offset: u16,
    bytes: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Data,
    Echo,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    nexus: NexusId,
    unit: UnitId,
    kind: Kind,
    /// Bytes that were written last; of the data buffer all.
    bytes: u16,
}

/// What was written last.
#[derive(Debug)]
pub struct Buffers {
    kept: [Option<Kept>; KEPT],
    memory: Box<[u8]>,
    /// The one that goes when another comes.
    oldest: usize,
}

impl Default for Buffers {
    fn default() -> Buffers {
        Buffers { kept: [None; KEPT], memory: vec![0; KEPT * BUFFER_BYTES].into(), oldest: 0 }
    }
}

impl Buffers {
    /// Takes what came of a WRITE BUFFER's data.
    pub fn write(&mut self, write: Write, nexus: NexusId, unit: UnitId, data: &[u8]) {
        let index = self.find(write.kind, nexus, unit).unwrap_or_else(|| {
            let index = self.oldest;
            self.oldest = (index + 1) % KEPT;
            self.memory[index * BUFFER_BYTES..][..BUFFER_BYTES].fill(0);
            index
        });
        let to = &mut self.memory[index * BUFFER_BYTES..][..BUFFER_BYTES][usize::from(write.offset)..];
        let count = data.len().min(to.len());
        to[..count].copy_from_slice(&data[..count]);
        let bytes = u16::try_from(count).unwrap_or(0);
        self.kept[index] = Some(Kept { nexus, unit, kind: write.kind, bytes });
    }

    fn find(&self, kind: Kind, nexus: NexusId, unit: UnitId) -> Option<usize> {
        let is_it = |kept: &Kept| (kept.kind, kept.nexus, kept.unit) == (kind, nexus, unit);
        self.kept.iter().position(|kept| kept.as_ref().is_some_and(is_it))
    }

    /// Writes what is asked for.
    ///
    /// # Errors
    /// COMMAND SEQUENCE ERROR: nothing is in the echo buffer, or nothing any more.
    pub(in crate::scsi) fn fill(
        &self,
        read: Read,
        nexus: NexusId,
        unit: UnitId,
        writer: &mut Writer<'_>,
    ) -> Result<(), Sense> {
        let capacity = u16::try_from(BUFFER_BYTES).unwrap_or(0).to_be_bytes();
        match read {
            // OFFSET BOUNDARY 0: any byte.
            Read::Descriptor { id: 0 } => writer.put(&[0, 0, capacity[0], capacity[1]]),
            // There is no such buffer.
            Read::Descriptor { .. } => writer.zeros(4),
            // EBOS.
            Read::EchoDescriptor => writer.put(&[0x01, 0, capacity[0], capacity[1]]),
            Read::Data { offset } => match self.find(Kind::Data, nexus, unit) {
                Some(index) => {
                    writer.put(&self.memory[index * BUFFER_BYTES..][..BUFFER_BYTES][usize::from(offset)..])
                }
                None => writer.zeros(BUFFER_BYTES - usize::from(offset)),
            },
            Read::Echo => {
                let index = self.find(Kind::Echo, nexus, unit).ok_or(Sense::COMMAND_SEQUENCE)?;
                let bytes = self.kept[index].map_or(0, |kept| usize::from(kept.bytes));
                writer.put(&self.memory[index * BUFFER_BYTES..][..bytes]);
            }
        }
        Ok(())
    }
}

impl Write {
    /// Data that come with it, in bytes.
    pub const fn bytes(self) -> u16 {
        self.bytes
    }
}

pub(in crate::scsi) fn plan_read(cdb: &Cdb, _: Served<'_>) -> Result<Plan, Sense> {
    let (id, offset, bytes) = (cdb.byte(2), cdb.be32(2) & 0x00ff_ffff, cdb.be32(5) & 0x00ff_ffff);
    let read = match mode(cdb)? {
        DATA => Read::Data { offset: within(id, offset, 0)? },
        // SPC-5: BUFFER ID and BUFFER OFFSET are ignored, or mean nothing.
        DESCRIPTOR => Read::Descriptor { id },
        ECHO => Read::Echo,
        ECHO_DESCRIPTOR => Read::EchoDescriptor,
        _ => return Err(Sense::invalid_bit(1, 4)),
    };
    Ok(report::buffer(read, bytes))
}

pub(in crate::scsi) fn plan_write(cdb: &Cdb, _: Served<'_>) -> Result<Plan, Sense> {
    let (id, offset, bytes) = (cdb.byte(2), cdb.be32(2) & 0x00ff_ffff, cdb.be32(5) & 0x00ff_ffff);
    let (kind, offset) = match mode(cdb)? {
        DATA => (Kind::Data, within(id, offset, bytes)?),
        ECHO => (Kind::Echo, within(0, 0, bytes)?),
        _ => return Err(Sense::invalid_bit(1, 4)),
    };
    match u16::try_from(bytes) {
        // SPC-5: no bytes are not an error.
        Ok(0) => Ok(Plan::End(Status::Good)),
        Ok(bytes) => Ok(Plan::Keep(Write { kind, offset, bytes })),
        Err(_) => Err(Sense::invalid_byte(6)),
    }
}

/// MODE. No mode of ours has MODE SPECIFIC bits.
fn mode(cdb: &Cdb) -> Result<u8, Sense> {
    if cdb.byte(1) & 0xe0 != 0 {
        return Err(Sense::invalid_bit(1, 7));
    }
    Ok(cdb.byte(1))
}

/// The offset, where it and so many bytes from there are in the buffer.
fn within(id: u8, offset: u32, bytes: u32) -> Result<u16, Sense> {
    const END: u32 = 4096;
    const _: () = assert!(END as usize == BUFFER_BYTES);
    match u16::try_from(offset) {
        _ if id != 0 => Err(Sense::invalid_byte(2)),
        Ok(offset) if u32::from(offset) < END => {
            if bytes > END - u32::from(offset) {
                Err(Sense::invalid_byte(6))
            } else {
                Ok(offset)
            }
        }
        _ => Err(Sense::invalid_byte(3)),
    }
}
