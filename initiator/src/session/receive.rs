//! The receiving half: each PDU of the target, checked and turned into events.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::Data;
use super::send::is_received;
use super::{Burst, Completion, Event, Initiator, Offence, Pending, Phase, Sent, Task};
use crate::Serial;
use crate::login::Step;
use crate::pdu::request::Snack;
use crate::pdu::response::{
    Async, DataIn, LogoutResponse, NopIn, R2t, Reject, Response, ScsiResponse, TextResponse, TmfResponse,
};
use crate::pdu::{Be32, Bhs, Digests, NO_TAG, PduRef, opcode, size};

/// The longest text answer, put together.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// AsyncEvent: tasks are terminated (RFC 7143 §11.9.1).
const TASK_TERMINATION: u8 = 5;

impl Initiator {
    /// Takes one PDU in any phase.
    pub(super) fn take(&mut self, pdu: &PduRef<'_>) -> Result<(), Offence> {
        match &mut self.phase {
            Phase::Login(login) => match login.respond(pdu) {
                Ok(Step::Send(request)) => {
                    request.encode(Digests::default(), &mut self.transmit);
                    Ok(())
                }
                Ok(Step::Done(outcome)) => {
                    self.exp_stat_sn = outcome.exp_stat_sn;
                    self.phase = Phase::FullFeature(Arc::new(outcome.params.clone()));
                    self.events.push_back(Event::LoggedIn(Box::new(outcome.params)));
                    // RFC 7143 §11.12.8: login does not advance CmdSN.
                    let (found, first) = (outcome.exp_cmd_sn.0, self.cmd_sn.0);
                    if found != first {
                        return Err(Offence::ExpCmdSnLogin { found, first });
                    }
                    (self.exp_cmd_sn, self.max_cmd_sn) = (outcome.exp_cmd_sn, outcome.max_cmd_sn);
                    self.check_window(outcome.exp_cmd_sn, outcome.max_cmd_sn)
                }
                Err(error) => {
                    self.phase = Phase::Ended;
                    self.events.push_back(Event::LoginFailed(error));
                    Ok(())
                }
            },
            Phase::FullFeature(_) => self.take_full_feature(pdu),
            Phase::Ended => Err(Offence::AfterEnd),
        }
    }

    fn take_full_feature(&mut self, pdu: &PduRef<'_>) -> Result<(), Offence> {
        let response = Response::decode(&pdu.bhs);
        if let Response::Unknown(opcode) = response {
            return Err(Offence::Opcode(opcode));
        }
        // ExpCmdSN and MaxCmdSN are at the same place in every PDU of a target.
        self.check_window(Serial(pdu.bhs.at(Be32(28))), Serial(pdu.bhs.at(Be32(32))))?;
        self.check_stat_sn(&response)?;
        match response {
            Response::NopIn(nop) => self.nop_in(&nop, pdu),
            Response::Scsi(response) => self.scsi_response(&response, pdu),
            Response::Tmf(response) => self.tmf_response(&response, pdu),
            Response::Login(_) => Err(Offence::Opcode(opcode::LOGIN_RESPONSE)),
            Response::Text(response) => self.text_response(&response, pdu),
            Response::DataIn(data_in) => self.data_in(&data_in, pdu),
            Response::Logout(response) => self.logout_response(&response, pdu),
            Response::R2t(r2t) => self.r2t(&r2t, pdu),
            Response::Async(message) => self.async_message(message, pdu),
            Response::Reject(reject) => self.reject(&reject, pdu),
            Response::Unknown(opcode) => Err(Offence::Opcode(opcode)),
        }
    }

    fn check_window(&mut self, exp: Serial, max: Serial) -> Result<(), Offence> {
        if max.plus(1).precedes(exp) {
            return Err(Offence::Window { exp: exp.0, max: max.0 });
        }
        if exp.precedes(self.exp_cmd_sn) {
            return Err(Offence::ExpCmdSnBack { found: exp.0, before: self.exp_cmd_sn.0 });
        }
        if self.cmd_sn.precedes(exp) {
            return Err(Offence::ExpCmdSnAhead { found: exp.0, next: self.cmd_sn.0 });
        }
        if max.precedes(self.max_cmd_sn) {
            return Err(Offence::MaxCmdSnBack { found: max.0, before: self.max_cmd_sn.0 });
        }
        (self.exp_cmd_sn, self.max_cmd_sn) = (exp, max);
        Ok(())
    }

    /// One connection delivers statuses in order; R2T and unsolicited NOP-In show the next StatSN and leave it.
    fn check_stat_sn(&mut self, response: &Response) -> Result<(), Offence> {
        let (found, consumes) = match response {
            Response::NopIn(pdu) => (pdu.stat_sn, pdu.itt != NO_TAG),
            Response::Scsi(pdu) => (pdu.stat_sn, true),
            Response::Tmf(pdu) => (pdu.stat_sn, true),
            Response::Text(pdu) => (pdu.stat_sn, true),
            Response::Logout(pdu) => (pdu.stat_sn, true),
            Response::R2t(pdu) => (pdu.stat_sn, false),
            Response::Async(pdu) => (pdu.stat_sn, true),
            Response::Reject(pdu) => (pdu.stat_sn, true),
            Response::DataIn(pdu) if pdu.has_status => (pdu.stat_sn, true),
            Response::DataIn(_) | Response::Login(_) | Response::Unknown(_) => return Ok(()),
        };
        if found != self.exp_stat_sn.0 {
            return Err(Offence::StatSn { found, expected: self.exp_stat_sn.0 });
        }
        if consumes {
            self.exp_stat_sn = self.exp_stat_sn.plus(1);
        }
        Ok(())
    }

    /// What is not the answer to anything: an offence, or an event where that is wanted.
    fn unmatched(&mut self, pdu: &PduRef<'_>) -> Result<(), Offence> {
        if !self.config.tolerate_unmatched {
            return Err(Offence::UnknownItt);
        }
        self.events.push_back(Event::Unmatched(pdu.to_pdu()));
        Ok(())
    }

    fn data_in(&mut self, data_in: &DataIn, pdu: &PduRef<'_>) -> Result<(), Offence> {
        let Phase::FullFeature(params) = &self.phase else { return Ok(()) };
        let params = Arc::clone(params);
        let Some(task) = sent_task(&mut self.pending, data_in.itt, self.exp_cmd_sn)? else {
            return self.unmatched(pdu);
        };
        if data_in.ttt != NO_TAG && data_in.lun != task.command.lun {
            return Err(Offence::Field("LUN"));
        }
        task.data_in(data_in, pdu.data, &params, &self.config)?;
        self.counters.data_in_pdus += 1;
        self.counters.read_bytes += pdu.data.len() as u64;
        if data_in.acknowledge && params.error_recovery_level == 0 {
            // RFC 7143 §11.7.2: it is for error recovery levels above 0.
            return Err(Offence::Field("A"));
        }
        if data_in.acknowledge {
            let ack = Snack {
                kind: 2,
                lun: data_in.lun,
                itt: NO_TAG,
                ttt: data_in.ttt,
                exp_stat_sn: self.exp_stat_sn.0,
                begin: data_in.data_sn.wrapping_add(1),
                run: 0,
            };
            self.push(ack.bhs(), &[], &[]);
        }
        if data_in.has_status { self.complete(data_in.itt, |task| task.end_in_data(data_in)) } else { Ok(()) }
    }

    fn scsi_response(&mut self, response: &ScsiResponse, pdu: &PduRef<'_>) -> Result<(), Offence> {
        if sent_task(&mut self.pending, response.itt, self.exp_cmd_sn)?.is_none() {
            return self.unmatched(pdu);
        }
        let lenient = self.config.lenient;
        self.complete(response.itt, |task| task.end_in_response(response, pdu.data, lenient))
    }

    fn complete(
        &mut self,
        itt: u32,
        end: impl FnOnce(Task) -> Result<Completion, Offence>,
    ) -> Result<(), Offence> {
        let Some(Pending::Task(task)) = self.pending.remove(&itt) else { return Err(Offence::UnknownItt) };
        let completion = end(*task)?;
        // Data for a transfer that is over would only confuse the target.
        self.bursts.retain(|burst| burst.itt != itt || burst.ttt == NO_TAG);
        self.counters.commands_completed += 1;
        self.events.push_back(Event::Completed(completion));
        Ok(())
    }

    fn r2t(&mut self, r2t: &R2t, pdu: &PduRef<'_>) -> Result<(), Offence> {
        let Phase::FullFeature(params) = &self.phase else { return Ok(()) };
        let params = Arc::clone(params);
        let Some(task) = sent_task(&mut self.pending, r2t.itt, self.exp_cmd_sn)? else {
            return self.unmatched(pdu);
        };
        if r2t.lun != task.command.lun {
            return Err(Offence::Field("LUN"));
        }
        task.r2t(r2t, &params)?;
        self.counters.r2ts += 1;
        if task.is_given_up {
            return Ok(());
        }
        let Data::Out(data) = &task.command.data else { return Err(Offence::NotAWrite) };
        let burst = Burst {
            itt: r2t.itt,
            ttt: r2t.ttt,
            lun: r2t.lun,
            data: Arc::clone(data),
            offset_bytes: size(r2t.offset_bytes),
            end_bytes: size(r2t.offset_bytes) + size(r2t.desired_bytes),
            data_sn: 0,
        };
        self.bursts.push_back(burst);
        Ok(())
    }

    fn tmf_response(&mut self, response: &TmfResponse, pdu: &PduRef<'_>) -> Result<(), Offence> {
        let itt = response.itt;
        let Some(Pending::Tmf { request, sent: Some(when) }) = self.pending.get(&itt) else {
            return self.unmatched(pdu);
        };
        let (request, when) = (*request, *when);
        self.pending.remove(&itt);
        if !is_received(when, self.exp_cmd_sn) {
            return Err(Offence::NotReceived { exp: self.exp_cmd_sn.0 });
        }
        if response.response == 0 {
            let before = |sent: Option<Sent>| sent.is_some_and(|sent| sent.order < when.order);
            self.abort(itt, |other, task| before(task.sent) && request.covers(other, task.command.lun));
        }
        self.events.push_back(Event::TmfResponse { itt, response: response.response });
        Ok(())
    }

    /// Ends commands without a status.
    fn abort(&mut self, by: u32, covered: impl Fn(u32, &Task) -> bool) {
        let mut ended = Vec::new();
        for (&itt, pending) in &self.pending {
            if let Pending::Task(task) = pending
                && covered(itt, task)
            {
                ended.push((itt, task.command.tag));
            }
        }
        for (itt, tag) in ended {
            self.pending.remove(&itt);
            self.counters.commands_aborted += 1;
            self.events.push_back(Event::Aborted { itt, tag, by: Some(by) });
        }
    }

    fn nop_in(&mut self, nop: &NopIn, pdu: &PduRef<'_>) -> Result<(), Offence> {
        if nop.itt != NO_TAG {
            match self.pending.get(&nop.itt) {
                Some(Pending::Nop { data, .. }) if !self.queue.contains(&nop.itt) => {
                    // The target may cut the echo at what we take.
                    let bytes_max = self.params().map_or(0, |params| size(params.recv_bytes_max));
                    if pdu.data != &data[..data.len().min(bytes_max)] {
                        return Err(Offence::PingData);
                    }
                    self.pending.remove(&nop.itt);
                }
                _ => return self.unmatched(pdu),
            }
        } else if nop.ttt != NO_TAG && self.config.answer_nop_in {
            self.answer_nop_in(nop.lun, nop.ttt, pdu.data);
        }
        let data = pdu.data.to_vec();
        self.events.push_back(Event::NopIn { itt: nop.itt, ttt: nop.ttt, lun: nop.lun, data });
        Ok(())
    }

    fn text_response(&mut self, response: &TextResponse, pdu: &PduRef<'_>) -> Result<(), Offence> {
        let itt = response.itt;
        let waits = !self.queue.contains(&itt);
        let Some(Pending::Text { question, answer, lun, ttt, .. }) =
            self.pending.get_mut(&itt).filter(|_| waits)
        else {
            return self.unmatched(pdu);
        };
        answer.extend_from_slice(pdu.data);
        if answer.len() > TEXT_BYTES_MAX || (response.final_bit && (response.more || !question.is_empty())) {
            return Err(Offence::Text);
        }
        // RFC 7143 §11.11.4: the tag is all ones exactly when nothing follows.
        if response.final_bit != (response.ttt == NO_TAG) {
            return Err(Offence::TransferTag);
        }
        if response.final_bit {
            let text = std::mem::take(answer);
            self.pending.remove(&itt);
            self.events.push_back(Event::TextResponse { itt, text });
        } else {
            (*lun, *ttt) = (response.lun, response.ttt);
            self.queue.push_front(itt);
        }
        Ok(())
    }

    fn logout_response(&mut self, response: &LogoutResponse, pdu: &PduRef<'_>) -> Result<(), Offence> {
        let waits = !self.queue.contains(&response.itt);
        match self.pending.get(&response.itt).filter(|_| waits) {
            Some(Pending::Logout { .. }) => {}
            _ => return self.unmatched(pdu),
        }
        self.pending.remove(&response.itt);
        if response.response == 0 {
            self.phase = Phase::Ended;
        }
        self.events.push_back(Event::LogoutResponse(*response));
        Ok(())
    }

    fn async_message(&mut self, message: Async, pdu: &PduRef<'_>) -> Result<(), Offence> {
        if message.itt != NO_TAG {
            return Err(Offence::Field("Initiator Task Tag"));
        }
        if message.event == TASK_TERMINATION {
            if !self.is_fast_abort() {
                return Err(Offence::Field("AsyncEvent"));
            }
            // In this order: the tags may be another's with the acknowledgement.
            self.bursts.retain(|burst| burst.ttt == NO_TAG || burst.lun != message.lun);
            self.acknowledge(message.lun);
        }
        self.events.push_back(Event::Async(message, pdu.data.to_vec()));
        Ok(())
    }

    fn reject(&mut self, reject: &Reject, pdu: &PduRef<'_>) -> Result<(), Offence> {
        if reject.itt != NO_TAG {
            return Err(Offence::Field("Initiator Task Tag"));
        }
        self.counters.rejects += 1;
        let bhs = pdu.data.first_chunk::<48>().copied().map(Bhs);
        // A rejected request will have no other answer; for rejected data the command still ends by a status.
        if let Some(rejected) = bhs
            && !matches!(rejected.opcode(), opcode::DATA_OUT | opcode::SNACK)
        {
            let itt = rejected.itt();
            if let Some(Pending::Task(task)) = self.pending.remove(&itt) {
                self.counters.commands_aborted += 1;
                self.events.push_back(Event::Aborted { itt, tag: task.command.tag, by: None });
            }
        }
        self.events.push_back(Event::Reject { reason: reject.reason, bhs });
        Ok(())
    }
}

/// The command of a tag, if it was sent and the target says that it received it.
fn sent_task(
    pending: &mut BTreeMap<u32, Pending>,
    itt: u32,
    exp: Serial,
) -> Result<Option<&mut Task>, Offence> {
    match pending.get_mut(&itt) {
        Some(Pending::Task(task)) => match task.sent {
            Some(sent) if is_received(sent, exp) => Ok(Some(task)),
            Some(_) => Err(Offence::NotReceived { exp: exp.0 }),
            None => Err(Offence::NotSent),
        },
        _ => Ok(None),
    }
}
