//! One SCSI command on its way, and what the target may say about it.

use super::command::{Command, Data};
use super::event::{Completion, Offence, Residual};
use super::extents::Extents;
use crate::Serial;
use crate::config::{Config, Params};
use crate::pdu::response::{DataIn, R2t, ScsiResponse};
use crate::pdu::{NO_TAG, length, size};

/// When a request went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    /// Its CmdSN.
    pub(super) cmd_sn: Serial,
    /// Consumed that CmdSN.
    pub(super) numbered: bool,
    /// Its place among all requests of the session.
    pub(super) order: u64,
}

/// A command.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) command: Command,
    pub(super) sent: Option<Sent>,
    /// Bytes received, or sent and solicited.
    moved: Extents,
    buffer: Vec<u8>,
    data_sn: u32,
    /// Bytes of the Data-In sequence that has not ended yet.
    sequence_bytes: Option<u32>,
    /// The offset at which the next PDU or R2T goes on when order is kept.
    next_offset: u32,
    r2t_sn: u32,
    /// Tags of R2Ts whose data are not all sent yet.
    transfer_tags: Vec<u32>,
    /// No more data are sent for it.
    pub(super) is_given_up: bool,
}

impl Task {
    pub(super) fn new(command: Command) -> Self {
        Self {
            command,
            sent: None,
            moved: Extents::default(),
            buffer: Vec::new(),
            data_sn: 0,
            sequence_bytes: None,
            next_offset: 0,
            r2t_sn: 0,
            transfer_tags: Vec::new(),
            is_given_up: false,
        }
    }

    /// EDTL.
    pub(super) fn expected_bytes(&self) -> u32 {
        match &self.command.data {
            Data::None => 0,
            Data::In(bytes) => *bytes,
            Data::Out(data) => length(data.len()),
        }
    }

    /// So many bytes go out unasked, immediate data included.
    pub(super) fn unsolicited(&mut self, bytes: u32) {
        self.moved.add(0, bytes);
        self.next_offset = bytes;
    }

    /// The last byte that an R2T asked for is on its way.
    pub(super) fn answered(&mut self, ttt: u32) {
        self.transfer_tags.retain(|&tag| tag != ttt);
    }

    /// Data-In; the status it may carry comes later.
    pub(super) fn data_in(
        &mut self,
        pdu: &DataIn,
        data: &[u8],
        params: &Params,
        config: &Config,
    ) -> Result<(), Offence> {
        let Data::In(expected) = self.command.data else { return Err(Offence::NotARead) };
        let (offset, bytes) = (pdu.offset_bytes, length(data.len()));
        if pdu.data_sn != self.data_sn {
            return Err(Offence::DataSn { found: pdu.data_sn, expected: self.data_sn });
        }
        self.data_sn = self.data_sn.wrapping_add(1);
        let end = offset.checked_add(bytes).filter(|&end| end <= expected);
        let end = end.ok_or(Offence::Beyond { offset, bytes, expected })?;
        let follows = self.sequence_bytes.is_some() || params.data_sequence_in_order;
        if params.data_pdu_in_order && follows && offset != self.next_offset {
            return Err(Offence::Offset { found: offset, expected: self.next_offset });
        }
        if !self.moved.add(offset, end) {
            return Err(Offence::Overlap);
        }
        self.next_offset = end;
        // RFC 7143 §13.13: MaxBurstLength bounds a Data-In sequence.
        let sequence = self.sequence_bytes.unwrap_or(0).saturating_add(bytes);
        if sequence > params.max_burst_bytes && !config.lenient {
            return Err(Offence::Burst { bytes: sequence, bytes_max: params.max_burst_bytes });
        }
        self.sequence_bytes = (!pdu.final_bit).then_some(sequence);
        if config.keep_read_data {
            if self.buffer.len() < size(end) {
                self.buffer.resize(size(end), 0);
            }
            self.buffer[size(offset)..size(end)].copy_from_slice(data);
        }
        Ok(())
    }

    /// R2T: checks it and remembers it as outstanding.
    pub(super) fn r2t(&mut self, pdu: &R2t, params: &Params) -> Result<(), Offence> {
        let Data::Out(data) = &self.command.data else { return Err(Offence::NotAWrite) };
        let (expected, offset, bytes) = (length(data.len()), pdu.offset_bytes, pdu.desired_bytes);
        if pdu.r2t_sn != self.r2t_sn {
            return Err(Offence::R2tSn { found: pdu.r2t_sn, expected: self.r2t_sn });
        }
        self.r2t_sn = self.r2t_sn.wrapping_add(1);
        if bytes == 0 {
            return Err(Offence::EmptyR2t);
        }
        if bytes > params.max_burst_bytes {
            return Err(Offence::Burst { bytes, bytes_max: params.max_burst_bytes });
        }
        let end = offset.checked_add(bytes).filter(|&end| end <= expected);
        let end = end.ok_or(Offence::Beyond { offset, bytes, expected })?;
        if params.data_sequence_in_order && offset != self.next_offset {
            return Err(Offence::Offset { found: offset, expected: self.next_offset });
        }
        if !self.moved.add(offset, end) {
            return Err(Offence::Overlap);
        }
        self.next_offset = end;
        if pdu.ttt == NO_TAG || self.transfer_tags.contains(&pdu.ttt) {
            return Err(Offence::TransferTag);
        }
        if self.transfer_tags.len() >= size(params.max_outstanding_r2t) {
            return Err(Offence::TooManyR2ts);
        }
        self.transfer_tags.push(pdu.ttt);
        Ok(())
    }

    /// The status of a Data-In.
    pub(super) fn end_in_data(self, pdu: &DataIn) -> Result<Completion, Offence> {
        if !pdu.final_bit {
            return Err(Offence::StatusNotFinal);
        }
        // RFC 7143 §11.7.3: a status with sense data has its own PDU.
        if pdu.status == 2 {
            return Err(Offence::SenseInDataIn);
        }
        let residual = residual(pdu.overflow, pdu.underflow, pdu.residual)?;
        self.end(Completion { itt: pdu.itt, status: pdu.status, residual, ..Completion::default() })
    }

    /// The status of a SCSI Response.
    pub(super) fn end_in_response(
        self,
        pdu: &ScsiResponse,
        data: &[u8],
        lenient: bool,
    ) -> Result<Completion, Offence> {
        // A failure may come in the middle of a sequence: data that were sent already cannot be called the last.
        if self.sequence_bytes.is_some() && pdu.response == 0 && pdu.status == 0 {
            return Err(Offence::OpenSequence);
        }
        if pdu.read_overflow || pdu.read_underflow {
            return Err(Offence::Residual);
        }
        // RFC 7143 §11.4.8. Whether R2Ts alone count is read both ways.
        let sent = self.data_sn.wrapping_add(self.r2t_sn);
        let may_be_zero = self.data_sn == 0 || pdu.response != 0;
        if !lenient && pdu.exp_data_sn != sent && !(pdu.exp_data_sn == 0 && may_be_zero) {
            return Err(Offence::ExpDataSn { found: pdu.exp_data_sn, sent });
        }
        let residual = residual(pdu.overflow, pdu.underflow, pdu.residual)?;
        let sense = sense(data)?;
        if pdu.response == 0 && pdu.status == 2 && sense.is_empty() {
            return Err(Offence::NoSense);
        }
        let (response, status, itt) = (pdu.response, pdu.status, pdu.itt);
        self.end(Completion { itt, response, status, sense, residual, ..Completion::default() })
    }

    fn end(self, completion: Completion) -> Result<Completion, Offence> {
        let (moved, expected, residual) = (self.moved.bytes(), self.expected_bytes(), completion.residual);
        let wanted = match residual {
            Residual::Under(bytes) => expected.checked_sub(bytes).ok_or(Offence::Residual)?,
            Residual::None | Residual::Over(_) => expected,
        };
        // A write may have sent more unasked than the CDB wanted; a read never brings more.
        let right = match self.command.data {
            Data::Out(_) => moved >= wanted,
            Data::In(_) | Data::None => moved == wanted,
        };
        if completion.is_good() && !right {
            return Err(Offence::Amount { residual, moved, expected });
        }
        let reads = matches!(self.command.data, Data::In(_));
        let received_bytes = if reads { moved } else { 0 };
        Ok(Completion { tag: self.command.tag, data: self.buffer, received_bytes, ..completion })
    }
}

fn residual(over: bool, under: bool, count: u32) -> Result<Residual, Offence> {
    match (over, under, count) {
        (false, false, 0) => Ok(Residual::None),
        (true, false, count) => Ok(Residual::Over(count)),
        (false, true, count) => Ok(Residual::Under(count)),
        // RFC 7143 §11.4.5: never both; without either the count is 0.
        _ => Err(Offence::Residual),
    }
}

/// The sense data of a data segment (RFC 7143 §11.4.7).
fn sense(data: &[u8]) -> Result<Vec<u8>, Offence> {
    let Some((length_field, rest)) = data.split_first_chunk::<2>() else {
        return if data.is_empty() {
            Ok(Vec::new())
        } else {
            Err(Offence::SenseLength { found: 0, bytes: length(data.len()) })
        };
    };
    let found = u16::from_be_bytes(*length_field);
    let sense = rest.get(..usize::from(found)).map(<[u8]>::to_vec);
    sense.ok_or(Offence::SenseLength { found: u32::from(found), bytes: length(data.len()) })
}
