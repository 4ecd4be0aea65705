//! The sending half: what goes out next, and when.

use std::sync::Arc;

use super::command::{Data, Tmf};
use super::{Burst, Initiator, Pending, Phase, Sent};
use crate::Serial;
use crate::config::Params;
use crate::pdu::request::{DataOut, LogoutRequest, NopOut, ScsiCommand, TextRequest, TmfRequest};
use crate::pdu::{Bhs, NO_TAG, encode_parts, length, size};

/// Encoding stops at so many unsent bytes: a slow connection costs no memory.
const TRANSMIT_BYTES_MAX: usize = 256 << 10;

impl Initiator {
    /// Bytes to send now. Call it after each `receive` and each request, and again after `sent`.
    #[must_use = "these bytes want to be sent"]
    pub fn outgoing(&mut self) -> &[u8] {
        if self.transmitted > self.transmit.len() / 2 {
            self.transmit.drain(..self.transmitted);
            self.transmitted = 0;
        }
        while self.transmit.len() - self.transmitted < TRANSMIT_BYTES_MAX && self.encode_next() {}
        &self.transmit[self.transmitted..]
    }

    /// The first `bytes` of the outgoing ones are sent.
    ///
    /// # Panics
    /// When more are claimed than `outgoing` returned.
    pub fn sent(&mut self, bytes: usize) {
        assert!(bytes <= self.transmit.len() - self.transmitted, "more sent than outgoing");
        self.transmitted += bytes;
        self.counters.sent_bytes += bytes as u64;
    }

    /// Encodes one more PDU, if there is one that may go.
    fn encode_next(&mut self) -> bool {
        if self.failed.is_some() || !matches!(self.phase, Phase::FullFeature(_)) {
            return false;
        }
        if let Some(itt) = self.urgent.pop_front() {
            self.encode_request(itt);
            return true;
        }
        if self.encode_data() {
            return true;
        }
        // RFC 7143 §4.2.2.1: CmdSN may go up to MaxCmdSN.
        if self.max_cmd_sn.precedes(self.cmd_sn) {
            return false;
        }
        match self.queue.pop_front() {
            Some(itt) => {
                self.encode_request(itt);
                true
            }
            None => false,
        }
    }

    fn encode_request(&mut self, itt: u32) {
        let Some(mut request) = self.pending.remove(&itt) else { return };
        let sn = Numbers { cmd_sn: self.cmd_sn.0, exp_stat_sn: self.exp_stat_sn.0 };
        let immediate = request.is_immediate();
        let sent = Sent { cmd_sn: self.cmd_sn, numbered: !immediate, order: self.order };
        self.order += 1;
        match &mut request {
            Pending::Task(task) => {
                task.sent = Some(sent);
                self.encode_command(itt, task, sn);
            }
            Pending::Tmf { request, sent: when } => {
                *when = Some(sent);
                let bhs = self.tmf_header(itt, *request, sn);
                self.push(bhs, &[], &[]);
                if self.is_fast_abort() && request.function.is_of_many() {
                    self.give_up(*request);
                }
            }
            Pending::Nop { lun, data, immediate } => {
                data.truncate(self.params().map_or(0, |params| size(params.send_bytes_max)));
                let nop = NopOut { immediate: *immediate, lun: *lun, itt, ttt: NO_TAG, ..sn.nop() };
                self.push(nop.bhs(), &[], data);
            }
            Pending::Text { question, lun, ttt, immediate, .. } => {
                let bytes_max = self.params().map_or(0, |params| size(params.send_bytes_max));
                let rest = question.split_off(question.len().min(bytes_max));
                let part = std::mem::replace(question, rest);
                let more = !question.is_empty();
                let text = TextRequest {
                    immediate: *immediate,
                    final_bit: !more,
                    more,
                    lun: *lun,
                    itt,
                    ttt: *ttt,
                    cmd_sn: sn.cmd_sn,
                    exp_stat_sn: sn.exp_stat_sn,
                };
                self.push(text.bhs(), &[], &part);
            }
            Pending::Logout { reason, cid, immediate } => {
                let logout = LogoutRequest {
                    immediate: *immediate,
                    reason: *reason,
                    itt,
                    // RFC 7143 §11.14.2: the CID has no meaning when the session is closed.
                    cid: if *reason == 0 { 0 } else { *cid },
                    cmd_sn: sn.cmd_sn,
                    exp_stat_sn: sn.exp_stat_sn,
                };
                self.push(logout.bhs(), &[], &[]);
            }
        }
        if !immediate {
            self.cmd_sn = self.cmd_sn.plus(1);
        }
        self.pending.insert(itt, request);
    }

    fn encode_command(&mut self, itt: u32, task: &mut super::Task, sn: Numbers) {
        let Some(params) = self.params() else { return };
        let plan = match &task.command.data {
            Data::Out(data) => self.plan_unsolicited(data, params),
            Data::None | Data::In(_) => Unsolicited { immediate: 0, total: 0 },
        };
        let command = &task.command;
        let header = ScsiCommand {
            immediate: command.immediate,
            final_bit: plan.total == plan.immediate,
            read: matches!(command.data, Data::In(_)),
            write: matches!(command.data, Data::Out(_)),
            attributes: command.attribute.bits(),
            lun: command.lun,
            itt,
            expected_bytes: task.expected_bytes(),
            cmd_sn: sn.cmd_sn,
            exp_stat_sn: sn.exp_stat_sn,
            priority: 0,
            cdb: command.cdb,
        };
        let data = match &command.data {
            Data::Out(data) => Arc::clone(data),
            Data::None | Data::In(_) => Arc::default(),
        };
        self.push(header.bhs(), &command.ahs, &data[..plan.immediate]);
        self.counters.commands_sent += 1;
        self.counters.written_bytes += plan.immediate as u64;
        if plan.total > plan.immediate {
            let (lun, offset_bytes, end_bytes) = (0, plan.immediate, plan.total);
            self.bursts.push_back(Burst { itt, ttt: NO_TAG, lun, data, offset_bytes, end_bytes, data_sn: 0 });
        }
        task.unsolicited(length(plan.total));
    }

    /// How much of a write goes out unasked (RFC 7143 §13.10, 13.11, 13.14).
    fn plan_unsolicited(&self, data: &[u8], params: &Params) -> Unsolicited {
        let first_burst = data.len().min(size(params.first_burst_bytes.min(params.max_burst_bytes)));
        let immediate = if params.immediate_data && self.config.use_immediate_data {
            first_burst.min(self.segment_bytes_max(params))
        } else {
            0
        };
        let unsolicited = !params.initial_r2t && self.config.use_unsolicited_data;
        Unsolicited { immediate, total: if unsolicited { first_burst } else { immediate } }
    }

    fn segment_bytes_max(&self, params: &Params) -> usize {
        size(
            self.config
                .data_out_bytes_max
                .map_or(params.send_bytes_max, |own| own.min(params.send_bytes_max)),
        )
        .max(1)
    }

    /// Encodes the next Data-Out of the first burst.
    fn encode_data(&mut self) -> bool {
        let Some(segment_bytes_max) = self.params().map(|params| self.segment_bytes_max(params)) else {
            return false;
        };
        let Some(mut burst) = self.bursts.pop_front() else { return false };
        let start = burst.offset_bytes;
        let end = burst.end_bytes.min(start + segment_bytes_max);
        let last = end == burst.end_bytes;
        let header = DataOut {
            final_bit: last,
            lun: burst.lun,
            itt: burst.itt,
            ttt: burst.ttt,
            exp_stat_sn: self.exp_stat_sn.0,
            data_sn: burst.data_sn,
            offset_bytes: length(start),
        };
        self.push(header.bhs(), &[], &burst.data[start..end]);
        self.counters.data_out_pdus += 1;
        self.counters.written_bytes += (end - start) as u64;
        if last {
            if let Some(Pending::Task(task)) = self.pending.get_mut(&burst.itt) {
                task.answered(burst.ttt);
            }
        } else {
            burst.offset_bytes = end;
            burst.data_sn += 1;
            self.bursts.push_front(burst);
        }
        true
    }

    /// Answers a NOP-In at once (RFC 7143 §11.18).
    pub(super) fn answer_nop_in(&mut self, lun: u64, ttt: u32, data: &[u8]) {
        let sn = Numbers { cmd_sn: self.cmd_sn.0, exp_stat_sn: self.exp_stat_sn.0 };
        let data = &data[..data.len().min(self.params().map_or(0, |params| size(params.send_bytes_max)))];
        let nop = NopOut { immediate: true, lun, itt: NO_TAG, ttt, ..sn.nop() };
        self.push(nop.bhs(), &[], data);
        self.counters.nop_ins_answered += 1;
    }

    /// Says that no more data come for terminated tasks at this LUN (RFC 7143 §11.9.1).
    pub(super) fn acknowledge(&mut self, lun: u64) {
        let sn = Numbers { cmd_sn: self.cmd_sn.0, exp_stat_sn: self.exp_stat_sn.0 };
        let nop = NopOut { immediate: true, lun, itt: NO_TAG, ttt: NO_TAG, ..sn.nop() };
        self.push(nop.bhs(), &[], &[]);
    }

    /// RFC 7143 §4.2.3.4: no more data are sent for what a function covers once it has been sent.
    fn give_up(&mut self, request: Tmf) {
        for (&itt, pending) in &mut self.pending {
            if let Pending::Task(task) = pending
                && task.sent.is_some()
                && request.covers(itt, task.command.lun)
            {
                task.is_given_up = true;
                self.bursts.retain(|burst| burst.itt != itt);
            }
        }
    }

    fn tmf_header(&self, itt: u32, request: Tmf, sn: Numbers) -> Bhs {
        // RFC 7143 §11.5.5: RefCmdSN is the CmdSN of the task to be aborted.
        let referenced = match self.pending.get(&request.referenced_itt) {
            Some(Pending::Task(task)) => task.sent.map(|sent| sent.cmd_sn.0),
            _ => None,
        };
        TmfRequest {
            immediate: request.immediate,
            function: request.function.number(),
            lun: request.lun,
            itt,
            referenced_itt: request.referenced_itt,
            cmd_sn: sn.cmd_sn,
            exp_stat_sn: sn.exp_stat_sn,
            ref_cmd_sn: request.ref_cmd_sn.or(referenced).unwrap_or(0),
            exp_data_sn: 0,
        }
        .bhs()
    }

    pub(super) fn push(&mut self, bhs: Bhs, ahs: &[u8], data: &[u8]) {
        let digests = self.params().map_or_else(Default::default, |params| params.digests);
        encode_parts(bhs, ahs, data, digests, &mut self.transmit);
    }
}

impl Pending {
    fn is_immediate(&self) -> bool {
        match self {
            Self::Task(task) => task.command.immediate,
            Self::Tmf { request, .. } => request.immediate,
            Self::Nop { immediate, .. } | Self::Text { immediate, .. } | Self::Logout { immediate, .. } => {
                *immediate
            }
        }
    }
}

/// How a write begins, in bytes from its start.
#[derive(Clone, Copy)]
struct Unsolicited {
    /// With the command.
    immediate: usize,
    /// Immediate and unsolicited together.
    total: usize,
}

/// The numbers of the next request.
#[derive(Clone, Copy)]
struct Numbers {
    cmd_sn: u32,
    exp_stat_sn: u32,
}

impl Numbers {
    fn nop(self) -> NopOut {
        NopOut { cmd_sn: self.cmd_sn, exp_stat_sn: self.exp_stat_sn, ..NopOut::default() }
    }
}

/// Whether a request of ours is covered by an ExpCmdSN.
pub(super) fn is_received(sent: Sent, exp_cmd_sn: Serial) -> bool {
    !sent.numbered || sent.cmd_sn.precedes(exp_cmd_sn)
}
