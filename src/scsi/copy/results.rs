//! What becomes of copies, for RECEIVE COPY RESULTS and its kin (SPC-5 §6.17 to §6.21).
//!
//! A reactor keeps the results of the last copies that its sessions asked for; who asks for one that was forgotten, or never was,
//! is refused.

use super::{ABORT, CSCDS_MAX, DESCRIPTORS_BYTES_MAX, LID1, LID4, SEGMENTS_MAX};
use crate::id::{NexusId, UnitId};
use crate::scsi::cdb::Cdb;
use crate::scsi::copy::list::{BLOCK_TO_BLOCK, IDENTIFICATION};
use crate::scsi::copy::rod::{self, Token};
use crate::scsi::report::{self, Writer};
use crate::scsi::sense::Sense;
use crate::scsi::view::UnitView;
use crate::scsi::{Outcome, Plan, Served, Status};
use crate::slab::Key;
use crate::time::Tick;

/// Results that a reactor keeps.
const KEPT: usize = 64;

/// SERVICE ACTION of COPY STATUS(LID1).
const COPY_STATUS: u8 = 0x00;
/// SERVICE ACTION of OPERATING PARAMETERS.
const OPERATING_PARAMETERS: u8 = 0x03;
/// SERVICE ACTION of RECEIVE COPY FAILURE DETAILS(LID1).
const FAILURE_DETAILS: u8 = 0x04;
/// SERVICE ACTION of RECEIVE COPY STATUS(LID4).
const COPY_STATUS_LID4: u8 = 0x05;

/// SERVICE ACTION of RECEIVE ROD TOKEN INFORMATION.
const ROD_TOKEN_INFORMATION: u8 = 0x07;
/// SERVICE ACTION of REPORT ALL ROD TOKENS.
const ALL_ROD_TOKENS: u8 = 0x08;
/// TRANSFER COUNT UNITS: logical blocks.
const IN_BLOCKS: u8 = 0xf1;

/// What is to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::scsi) enum Told {
    OperatingParameters,
    /// Of the copy with this LIST IDENTIFIER, in the form that goes with the service action.
    Status {
        id: u32,
        is_long: bool,
    },
    /// How the copy with this LIST IDENTIFIER failed.
    Failure {
        id: u32,
    },
    /// Of the command with a token that has this LIST IDENTIFIER.
    Token {
        id: u32,
    },
    /// Of all tokens of the unit: [`all_tokens`].
    AllTokens,
}

#[derive(Clone, Debug)]
struct Kept {
    nexus: NexusId,
    unit: UnitId,
    id: u32,
    /// SERVICE ACTION of the command.
    action: u8,
    task: Key,
    state: State,
    segments: u16,
    /// Blocks, of a command with a token.
    bytes: u64,
    token: Option<Token>,
    /// The token that was used had fewer blocks than were asked for.
    is_cut_short: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    AtWork,
    Done,
    Failed(Option<Sense>),
}

/// What became of the last copies.
#[derive(Debug)]
pub struct Results {
    kept: [Option<Kept>; KEPT],
    /// The one that goes when another comes.
    oldest: usize,
}

impl Default for Results {
    fn default() -> Results {
        Results { kept: [const { None }; KEPT], oldest: 0 }
    }
}

impl Results {
    /// A copy begins. One of the same name is forgotten.
    pub fn begin(&mut self, task: Key, nexus: NexusId, unit: UnitId, id: u32, cdb: &Cdb) {
        let action = cdb.service_action();
        let state = State::AtWork;
        let (token, is_cut_short) = (None, false);
        let kept = Kept { nexus, unit, id, action, task, state, segments: 0, bytes: 0, token, is_cut_short };
        let index = self.find(nexus, unit, id).unwrap_or_else(|| {
            let index = self.oldest;
            self.oldest = (index + 1) % KEPT;
            index
        });
        self.kept[index] = Some(kept);
    }

    /// How far a copy is.
    pub fn progress(&mut self, task: Key, segments: u16, bytes: u64) {
        if let Some(kept) = self.at_work(task) {
            (kept.segments, kept.bytes) = (segments, bytes);
        }
    }

    /// A token is made, or was used; `is_cut_short` where it had fewer blocks than were asked for.
    pub fn made(&mut self, task: Key, token: Option<Token>, is_cut_short: bool) {
        if let Some(kept) = self.at_work(task) {
            (kept.token, kept.is_cut_short) = (token, is_cut_short);
        }
    }

    /// A copy has ended so.
    pub fn end(&mut self, task: Key, outcome: Outcome) {
        if let Some(kept) = self.at_work(task) {
            kept.state = match outcome.status {
                Status::Good => State::Done,
                _ => State::Failed(outcome.sense),
            };
        }
    }

    /// Copies whose command is gone, aborted or with its session, go on no more.
    pub fn lose(&mut self, is_gone: impl Fn(Key) -> bool) {
        for kept in self.kept.iter_mut().flatten() {
            if kept.state == State::AtWork && is_gone(kept.task) {
                kept.state = State::Failed(None);
            }
        }
    }

    /// The copy of this LIST IDENTIFIER that is under way. One of LID1 has no identifier of four bytes.
    pub fn under_way(&self, nexus: NexusId, unit: UnitId, id: u32) -> Option<Key> {
        let kept = self.kept[self.find(nexus, unit, id)?].as_ref()?;
        (kept.state == State::AtWork && kept.action != LID1).then_some(kept.task)
    }

    fn at_work(&mut self, task: Key) -> Option<&mut Kept> {
        self.kept.iter_mut().flatten().find(|kept| kept.task == task && kept.state == State::AtWork)
    }

    fn find(&self, nexus: NexusId, unit: UnitId, id: u32) -> Option<usize> {
        let is_it = |kept: &Kept| (kept.nexus, kept.unit, kept.id) == (nexus, unit, id);
        self.kept.iter().position(|kept| kept.as_ref().is_some_and(is_it))
    }

    /// Writes what is asked for.
    ///
    /// # Errors
    /// There is no such copy.
    pub(in crate::scsi) fn fill(
        &self,
        told: Told,
        nexus: NexusId,
        unit: UnitId,
        writer: &mut Writer<'_>,
    ) -> Result<(), Sense> {
        let id = match told {
            Told::Status { id, .. } | Told::Failure { id } | Told::Token { id } => id,
            Told::OperatingParameters => {
                operating_parameters(writer);
                return Ok(());
            }
            // See `report`.
            Told::AllTokens => return Ok(()),
        };
        let kept = self.find(nexus, unit, id).and_then(|index| self.kept[index].as_ref());
        // SPC-5: a list identifier that names no copy.
        let kept = kept.ok_or(Sense::invalid_byte(2))?;
        let has_token = matches!(kept.action, rod::POPULATE | rod::WRITE);
        match told {
            Told::Token { .. } if !has_token => return Err(Sense::invalid_byte(2)),
            Told::Token { .. } => {
                long_status(kept, IN_BLOCKS, writer);
                token_descriptors(kept.token.as_ref(), writer);
                writer.length_32(0, 4);
            }
            // SPC-4: those of EXTENDED COPY(LID1).
            Told::Failure { .. } if kept.action != LID1 => return Err(Sense::invalid_byte(2)),
            Told::Failure { .. } => failure_details(kept, writer),
            Told::Status { is_long: false, .. } => status(kept, writer),
            _ => {
                long_status(kept, if has_token { IN_BLOCKS } else { 0 }, writer);
                writer.length_32(0, 4);
            }
        }
        Ok(())
    }
}

/// COPY STATUS(LID1).
fn status(kept: &Kept, writer: &mut Writer<'_>) {
    let status = match kept.state {
        State::AtWork => 0x00,
        State::Done => 0x01,
        State::Failed(_) => 0x02,
    };
    writer.put(&[0, 0, 0, 8, status]);
    writer.put(&kept.segments.to_be_bytes());
    let (units, count) = transfer_count(kept.bytes);
    writer.put(&[units]);
    writer.put(&count.to_be_bytes());
}

/// RECEIVE COPY FAILURE DETAILS(LID1): AVAILABLE DATA is 0 where the copy has not failed, or was aborted, which leaves no sense data.
fn failure_details(kept: &Kept, writer: &mut Writer<'_>) {
    writer.zeros(4);
    let State::Failed(Some(failed)) = kept.state else { return };
    let mut sense = [0; crate::limits::SENSE_BYTES_MAX];
    let sense_bytes = failed.encode(true, &mut sense);
    writer.zeros_to(56);
    // EXTENDED COPY COMMAND STATUS; SENSE DATA LENGTH, below.
    writer.put(&[Status::CheckCondition.code(), 0, 0, 0]);
    writer.put(&sense[..sense_bytes]);
    writer.length_16(58, 60);
    writer.length_32(0, 4);
}

/// TRANSFER COUNT UNITS, bytes or KiB, and the count.
fn transfer_count(bytes: u64) -> (u8, u32) {
    match u32::try_from(bytes) {
        Ok(bytes) => (0x00, bytes),
        Err(_) => (0x01, u32::try_from(bytes / 1024).unwrap_or(u32::MAX)),
    }
}

/// RECEIVE COPY STATUS(LID4).
fn long_status(kept: &Kept, units: u8, writer: &mut Writer<'_>) {
    let (status, completion) = match kept.state {
        State::AtWork => (0x10, 0),
        // Without errors, with a part of what was asked for.
        State::Done if kept.is_cut_short => (0x03, Status::Good.code()),
        State::Done => (0x01, Status::Good.code()),
        State::Failed(Some(_)) => (0x02, Status::CheckCondition.code()),
        State::Failed(None) => (0x60, Status::TaskAborted.code()),
    };
    let mut sense = [0; crate::limits::SENSE_BYTES_MAX];
    let sense_bytes = match kept.state {
        State::Failed(Some(failed)) => failed.encode(true, &mut sense),
        _ => 0,
    };
    let length = u8::try_from(sense_bytes).unwrap_or(0);
    writer.zeros(4);
    // RESPONSE TO SERVICE ACTION, COPY OPERATION STATUS, OPERATION COUNTER, ESTIMATED STATUS UPDATE DELAY: one second.
    writer.put(&[kept.action, status, 0, 1, 0, 0, 0x03, 0xe8]);
    // EXTENDED COPY COMPLETION STATUS, both lengths of sense data.
    writer.put(&[completion, length, length, units]);
    writer.put(&kept.bytes.to_be_bytes());
    writer.put(&kept.segments.to_be_bytes());
    writer.zeros(6);
    writer.put(&sense[..sense_bytes]);
}

/// ROD TOKEN DESCRIPTORS LENGTH, and the one that there may be.
fn token_descriptors(token: Option<&Token>, writer: &mut Writer<'_>) {
    let Some(token) = token else { return writer.zeros(4) };
    let start = writer.length();
    writer.zeros(4);
    // ID FOR CREATING ROD CSCD DESCRIPTOR means nothing here.
    writer.zeros(2);
    writer.put(&token.encode());
    writer.length_32(start, start + 4);
}

/// REPORT ALL ROD TOKENS (SPC-5 §6.28): of each its management token, which tells what it stands for and cannot be used in its stead.
pub(in crate::scsi) fn all_tokens(
    unit: &UnitView,
    known: Option<&dyn rod::Known>,
    now: Tick,
    writer: &mut Writer<'_>,
) {
    // AVAILABLE DATA, below.
    writer.zeros(8);
    if let Some(known) = known {
        known.tokens_of(unit.id, now, &mut |id, blocks| {
            let token = Token::of(id, unit, blocks).encode();
            writer.put(&token[..rod::MANAGEMENT_BYTES]);
        });
    }
    writer.length_32(0, 4);
}

/// OPERATING PARAMETERS.
fn operating_parameters(writer: &mut Writer<'_>) {
    writer.zeros(4);
    // SNLID: LIST ID USAGE 11b is served.
    writer.put(&[0x01, 0, 0, 0]);
    writer.put(&CSCDS_MAX.to_be_bytes());
    writer.put(&SEGMENTS_MAX.to_be_bytes());
    writer.put(&DESCRIPTORS_BYTES_MAX.to_be_bytes());
    // No limit of a segment; no inline data, no held data, no streams.
    writer.zeros(18);
    // TOTAL and MAXIMUM CONCURRENT COPIES.
    writer.put(&[0, 64, 64]);
    // Granularities: 512 bytes, 1, 1.
    writer.put(&[9, 0, 0]);
    writer.zeros(3);
    writer.put(&[2, BLOCK_TO_BLOCK, IDENTIFICATION]);
    writer.length_32(0, 4);
}

/// RECEIVE COPY RESULTS and RECEIVE COPY STATUS.
pub(in crate::scsi) fn plan_results(cdb: &Cdb, _: Served<'_>) -> Result<Plan, Sense> {
    let told = match cdb.service_action() {
        COPY_STATUS => Told::Status { id: u32::from(cdb.byte(2)), is_long: false },
        FAILURE_DETAILS => Told::Failure { id: u32::from(cdb.byte(2)) },
        COPY_STATUS_LID4 => Told::Status { id: cdb.be32(2), is_long: true },
        ROD_TOKEN_INFORMATION => Told::Token { id: cdb.be32(2) },
        ALL_ROD_TOKENS => Told::AllTokens,
        OPERATING_PARAMETERS => Told::OperatingParameters,
        _ => return Err(Sense::invalid_bit(1, 4)),
    };
    Ok(report::copy(told, cdb.be32(10)))
}

/// The third-party copy page of vital product data (SPC-5 §7.8.18), behind its header.
pub(in crate::scsi) fn third_party_copy(unit: &UnitView, writer: &mut Writer<'_>) {
    // Block device ROD limits (SBC-4 §6.6.5).
    descriptor(0x0000, writer, |writer| {
        let blocks = |bytes: u64| bytes.checked_div(u64::from(unit.block_bytes)).unwrap_or(0).to_be_bytes();
        writer.zeros(6);
        writer.put(&rod::RANGES_MAX.to_be_bytes());
        writer.put(&rod::TIMEOUT_SECONDS_MAX.to_be_bytes());
        writer.put(&rod::TIMEOUT_SECONDS.to_be_bytes());
        writer.put(&blocks(rod::ROD_BYTES_MAX));
        writer.put(&blocks(rod::ROD_BYTES_OPTIMAL));
    });
    // Supported commands.
    descriptor(0x0001, writer, |writer| {
        writer.put(&[15, 0x83, 5, LID1, LID4, rod::POPULATE, rod::WRITE, ABORT]);
        writer.put(&[0x84, 6, COPY_STATUS, OPERATING_PARAMETERS, FAILURE_DETAILS, COPY_STATUS_LID4]);
        writer.put(&[ROD_TOKEN_INFORMATION, ALL_ROD_TOKENS]);
    });
    // Parameter data.
    descriptor(0x0004, writer, |writer| {
        writer.zeros(4);
        writer.put(&CSCDS_MAX.to_be_bytes());
        writer.put(&SEGMENTS_MAX.to_be_bytes());
        writer.put(&DESCRIPTORS_BYTES_MAX.to_be_bytes());
        writer.zeros(16);
    });
    // Supported descriptors.
    descriptor(0x0008, writer, |writer| writer.put(&[2, BLOCK_TO_BLOCK, IDENTIFICATION]));
    // Supported CSCD descriptor IDs.
    descriptor(0x000c, writer, |writer| writer.put(&[0, 2, 0xff, 0xff]));
    // ROD token features: remote tokens are not served; the types' descriptors say the rest.
    descriptor(0x0106, writer, |writer| {
        writer.zeros(12);
        writer.put(&rod::TIMEOUT_SECONDS_MAX.to_be_bytes());
        writer.put(&rod::TIMEOUT_SECONDS.to_be_bytes());
        writer.zeros(24);
    });
    // Supported ROD token and ROD types: each with 64 bytes.
    descriptor(0x0108, writer, |writer| {
        writer.put(&[0, 0, 0, 128]);
        for kind in [rod::CHANGE_VULNERABLE, rod::ZERO] {
            writer.put(&kind.to_be_bytes());
            // TOKEN_OUT, TOKEN_IN; the zero token comes in only.
            let directions = if kind == rod::ZERO { 0x01 } else { 0x03 };
            writer.put(&[directions, 0, 0, 0]);
            writer.zeros(56);
        }
    });
    // General copy operations.
    descriptor(0x8001, writer, |writer| {
        writer.put(&[0, 0, 0, 64, 0, 0, 0, 64]);
        writer.zeros(4);
        writer.put(&[9, 0]);
        writer.zeros(18);
    });
}

/// A third-party copy descriptor, padded to a multiple of four.
fn descriptor(kind: u16, writer: &mut Writer<'_>, body: impl FnOnce(&mut Writer<'_>)) {
    let start = writer.length();
    writer.put(&kind.to_be_bytes());
    writer.zeros(2);
    body(writer);
    writer.zeros_to(writer.length().next_multiple_of(4));
    writer.length_16(start + 2, start + 4);
}
