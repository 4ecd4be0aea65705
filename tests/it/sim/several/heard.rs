//! What the initiator hears, and what of it is lost on its way.

use lunette::sim::disk::stamp_of;
use lunette_initiator::Serial;
use lunette_initiator::login::Step as LoginStep;
use lunette_initiator::pdu::request::{DataOut, NopOut};
use lunette_initiator::pdu::response::{DataIn, R2t, Reject, Response, ScsiResponse};
use lunette_initiator::pdu::{Digests, NO_TAG, Pdu};
use lunette_initiator::scsi::Sense;

use super::ops::{Held, Op};
use super::{BLOCK_BYTES, Several};

/// Of so many PDUs one is spoilt.
const SPOILT_ONE_IN: u64 = 40;

/// UNIT ATTENTION of a login, and READ that cannot be sent again: what a command may end with besides GOOD.
const LOGGED_IN: (u8, u8) = (0x06, 0x29);
const SNACK_REJECTED: (u8, u8) = (0x0b, 0x11);

fn be32(pdu: &Pdu, at: usize) -> u32 {
    u32::from_be_bytes([pdu.bhs.0[at], pdu.bhs.0[at + 1], pdu.bhs.0[at + 2], pdu.bhs.0[at + 3]])
}

/// Whether a PDU has a StatSN of its own.
fn is_numbered(response: &Response) -> bool {
    match response {
        Response::DataIn(data) => data.has_status,
        Response::R2t(_) => false,
        Response::NopIn(nop) => nop.itt != NO_TAG,
        _ => true,
    }
}

impl Several {
    fn logs_in(&mut self, line: usize, pdu: &Pdu) -> Result<bool, String> {
        let Some(mut login) = self.lines[line].login.take() else { return Ok(false) };
        match login.respond(&pdu.as_view()) {
            Ok(LoginStep::Send(next)) => {
                let target = &mut self.lines[line];
                next.encode(Digests::default(), &mut target.out);
                target.login = Some(login);
            }
            Ok(LoginStep::Done(outcome)) => {
                self.tsih = outcome.params.tsih;
                let target = &mut self.lines[line];
                (target.digests, target.deframer.digests) = (outcome.params.digests, outcome.params.digests);
                target.first_stat_sn = outcome.exp_stat_sn.0;
                if self.max_cmd_sn == 0 {
                    self.max_cmd_sn = outcome.max_cmd_sn.0;
                }
                self.recover(line);
            }
            Err(error) => return Err(format!("login of line {line}: {error}")),
        }
        Ok(true)
    }

    pub(super) fn received(&mut self, line: usize, pdu: &Pdu) -> Result<(), String> {
        if self.logs_in(line, pdu)? {
            return Ok(());
        }
        let response = Response::decode(&pdu.bhs);
        let number = self.lines[line].number(be32(pdu, 24));
        self.is_as_said(line, &response, number, pdu)?;
        if self.is_spoilt(line, &response, number, pdu) {
            return Ok(());
        }
        self.window(be32(pdu, 28), be32(pdu, 32));
        let target = &mut self.lines[line];
        let is_told = !matches!(&response, Response::DataIn(_));
        if is_told {
            target.known = target.known.max(number + usize::from(is_numbered(&response)));
        }
        if is_numbered(&response) && (number < target.heard || target.heard_ahead.contains(&number)) {
            return Ok(());
        }
        let is_heard = match &response {
            Response::DataIn(data) => self.data_in(line, data, &pdu.data).map(|()| true),
            Response::R2t(r2t) => self.r2t(line, r2t).map(|()| true),
            Response::Scsi(response) => self.responded(line, number, response, &pdu.data),
            Response::Tmf(tmf) if self.abort.is_some_and(|abort| abort.itt == tmf.itt) => {
                self.has_aborted(tmf.response).map(|()| true)
            }
            Response::Tmf(tmf) if tmf.itt >> 30 != 1 && tmf.response > 1 && tmf.response != 3 => {
                Err(format!("TASK REASSIGN: {pdu:?}"))
            }
            Response::Tmf(_) => Ok(true),
            Response::NopIn(nop) => {
                if nop.ttt != NO_TAG {
                    let (ttt, cmd_sn) = (nop.ttt, self.cmd_sn);
                    let answer = NopOut { immediate: true, itt: NO_TAG, ttt, cmd_sn, ..NopOut::default() };
                    self.send(line, &answer.with([]));
                }
                Ok(true)
            }
            Response::Reject(reject) => self.rejected(line, reject, pdu).map(|()| true),
            other => Err(format!("line {line}: {other:?}")),
        }?;
        if is_heard && is_numbered(&response) {
            self.hear(line, number);
        }
        Ok(())
    }

    fn window(&mut self, exp: u32, max: u32) {
        if Serial(self.exp_cmd_sn).precedes(Serial(exp)) {
            self.exp_cmd_sn = exp;
            let known: Vec<u32> = self
                .ops
                .iter()
                .filter(|(_, op)| op.is_unsure && Serial(op.cmd_sn).precedes(Serial(exp)))
                .filter(|(_, op)| self.lines[op.line].login.is_none())
                .map(|(itt, _)| *itt)
                .collect();
            known.into_iter().for_each(|itt| self.take_over(itt));
        }
        if Serial(self.max_cmd_sn).precedes(Serial(max)) {
            self.max_cmd_sn = max;
        }
    }

    /// A numbered PDU has been dealt with.
    pub(super) fn hear(&mut self, line: usize, number: usize) {
        let line = &mut self.lines[line];
        line.heard_ahead.insert(number);
        while line.heard_ahead.remove(&line.heard) {
            line.heard += 1;
        }
    }

    /// Whether serial numbers are what they should be, heard or not: without gaps, and what is said again is the same.
    fn is_as_said(
        &mut self,
        line: usize,
        response: &Response,
        number: usize,
        pdu: &Pdu,
    ) -> Result<(), String> {
        let said = &mut self.lines[line].said;
        if is_numbered(response) {
            let what = (pdu.bhs.opcode(), be32(pdu, 16));
            if number == said.len() {
                said.push(what);
            }
            if said.get(number) != Some(&what) {
                return Err(format!("line {line}: number {number} of {}: {pdu:?}", said.len()));
            }
        }
        let (itt, sn) = match response {
            Response::DataIn(data) => (data.itt, data.data_sn),
            Response::R2t(r2t) => (r2t.itt, r2t.r2t_sn),
            _ => return Ok(()),
        };
        let Some(op) = self.ops.get_mut(&itt) else {
            // It may have ended, or have been aborted.
            return if itt < self.next_itt { Ok(()) } else { Err(format!("for nobody: {pdu:?}")) };
        };
        if op.line != line || sn > op.next_sn {
            return Err(format!("line {line}, {sn} of {}, which is on {}: {pdu:?}", op.next_sn, op.line));
        }
        op.next_sn = op.next_sn.max(sn + 1);
        if let Response::DataIn(data) = response {
            let place = (data.offset_bytes, pdu.data.len());
            if *op.places.entry(sn).or_insert(place) != place {
                return Err(format!("DataSN {sn} was at {:?}: {pdu:?}", op.places.get(&sn)));
            }
            // RFC 7143 §11.16: exact replicas, but of a READ that may have begun anew.
            let before = op.sent.entry(sn).or_insert_with(|| pdu.data.clone());
            if *before != pdu.data && op.snack_tag == 0 && !op.is_taken_over {
                return Err(format!("DataSN {sn} was something else when it was sent first: {pdu:?}"));
            }
        }
        Ok(())
    }

    /// Bits flip on their way, and a digest tells. Where it is that of the data, the header is known; else the PDU is lost and,
    /// where its length is, the connection (RFC 7143 §7.7).
    fn is_spoilt(&mut self, line: usize, response: &Response, number: usize, pdu: &Pdu) -> bool {
        if self.is_calm || !self.world.rng.one_in(SPOILT_ONE_IN) {
            return false;
        }
        self.counts.spoilt += 1;
        match self.world.rng.below(10) {
            0 => self.lines[line].is_lost = true,
            1..5 if !pdu.data.is_empty() => match response {
                Response::DataIn(data) => self.ask_data(data.itt, data.data_sn, 1),
                _ => self.lines[line].known = self.lines[line].known.max(number + 1),
            },
            _ => {}
        }
        true
    }

    fn data_in(&mut self, line: usize, data: &DataIn, bytes: &[u8]) -> Result<(), String> {
        let now = self.world.step;
        let Some(op) = self.ops.get_mut(&data.itt) else { return Ok(()) };
        let at = data.offset_bytes as usize;
        let room = op.data.get_mut(at..at + bytes.len()).ok_or("data beyond the end")?;
        room.copy_from_slice(bytes);
        op.heard.insert(data.data_sn);
        op.asked_at = now;
        let Some(held) = op.held.take_if(|held| op.heard.len() >= held.exp_data_sn as usize) else {
            return Ok(());
        };
        self.counts.completed += 1;
        self.completed(data.itt, 0, &[])?;
        self.hear(line, held.number);
        Ok(())
    }

    fn r2t(&mut self, line: usize, r2t: &R2t) -> Result<(), String> {
        let now = self.world.step;
        // What was said once more because the answer to the first has not arrived there is answered already.
        let Some(op) = self.ops.get_mut(&r2t.itt).filter(|op| !op.heard.contains(&r2t.r2t_sn)) else {
            return Ok(());
        };
        op.heard.insert(r2t.r2t_sn);
        op.asked_at = now;
        let data = op.data.clone();
        let (mut at, end) = (r2t.offset_bytes, r2t.offset_bytes + r2t.desired_bytes);
        let mut data_sn = 0;
        while at < end {
            let upto = end.min(at + 1024);
            let header = DataOut {
                final_bit: upto == end,
                lun: r2t.lun,
                itt: r2t.itt,
                ttt: r2t.ttt,
                data_sn,
                offset_bytes: at,
                ..DataOut::default()
            };
            let bytes = data.get(at as usize..upto as usize).ok_or("an R2T beyond the end")?;
            self.send(line, &header.with(bytes));
            (at, data_sn) = (upto, data_sn + 1);
        }
        Ok(())
    }

    /// A command's response. Whether it counts: not while data are missing.
    fn responded(
        &mut self,
        line: usize,
        number: usize,
        response: &ScsiResponse,
        sense: &[u8],
    ) -> Result<bool, String> {
        let itt = response.itt;
        let Some(op) = self.ops.get_mut(&itt).filter(|op| op.line == line) else {
            return match self.aborted.get(&itt) {
                Some(true) => Ok(true),
                aborted => {
                    Err(format!("{itt} was not to end on line {line}; aborted: {}", aborted.is_some()))
                }
            };
        };
        if !op.is_write && response.status == 0 && !op.is_refused {
            if response.snack_tag != op.snack_tag {
                // It was said before the R-Data SNACK was there, and comes again.
                return Ok(false);
            }
            if op.heard.len() < response.exp_data_sn as usize {
                op.held = Some(Held { number, exp_data_sn: response.exp_data_sn });
                return Ok(false);
            }
        }
        self.completed(itt, response.status, sense).map(|()| true)
    }

    /// All before it is over.
    fn has_aborted(&mut self, response: u8) -> Result<(), String> {
        let Some(abort) = self.abort.take() else { return Ok(()) };
        if response != 0 {
            return Err(format!("ABORT TASK SET: {response}"));
        }
        let is_covered = |op: &Op| Serial(op.cmd_sn).precedes(Serial(abort.cmd_sn));
        let covered: Vec<u32> =
            self.ops.iter().filter(|(_, op)| is_covered(op)).map(|(itt, _)| *itt).collect();
        for itt in covered {
            let Some(op) = self.ops.remove(&itt) else { continue };
            self.aborted.insert(itt, op.is_taken_over);
            if op.is_write {
                self.world.oracle.write_ends(0, op.lba, op.blocks, op.tag, None, self.world.step);
            }
        }
        Ok(())
    }

    fn rejected(&mut self, line: usize, reject: &Reject, pdu: &Pdu) -> Result<(), String> {
        const DIGEST: u8 = 2;
        const SNACK: u8 = 3;
        const PROTOCOL: u8 = 4;
        let opcode = pdu.data.first().ok_or("a Reject of nothing")? & 0x3f;
        let itt =
            pdu.data.get(16..20).map_or(NO_TAG, |itt| u32::from_be_bytes([itt[0], itt[1], itt[2], itt[3]]));
        let op = self.ops.get_mut(&itt).filter(|op| op.line == line);
        match (reject.reason, opcode) {
            (DIGEST, 0x01) => {
                // A command whose data were spoilt was discarded.
                if let Some(pdu) = op.map(|op| op.pdu.clone()) {
                    self.send(line, &pdu);
                }
            }
            // Data are asked for again by themselves.
            (DIGEST, _) => {}
            // No buffer for a response; or the R2T is not open any more.
            (SNACK, 0x10) if itt == NO_TAG => {}
            (SNACK | PROTOCOL, 0x10) if itt < self.next_itt && op.as_ref().is_none_or(|op| op.is_write) => {}
            (SNACK, 0x10) => {
                let Some(op) = op else { return Ok(()) };
                // The blocks have changed since, or nobody knows.
                op.is_refused = true;
                self.counts.refused += 1;
                if let Some(held) = op.held.take() {
                    self.completed(itt, 0, &[])?;
                    self.hear(line, held.number);
                }
            }
            _ => return Err(format!("line {line}: {reject:?}: {pdu:?}")),
        }
        Ok(())
    }

    fn completed(&mut self, itt: u32, status: u8, sense: &[u8]) -> Result<(), String> {
        let now = self.world.step;
        let Some(op) = self.ops.remove(&itt) else { return Err(format!("{itt} ended twice")) };
        self.counts.ended += 1;
        if status != 0 {
            let sense = sense.get(2..).and_then(Sense::decode);
            let is_known = |sense: &Sense| [LOGGED_IN, SNACK_REJECTED].contains(&(sense.key, sense.asc.0));
            if !sense.as_ref().is_some_and(is_known) {
                return Err(format!("{itt} ended with {status:#x}: {sense:?}"));
            }
            if op.is_write {
                self.world.oracle.write_ends(0, op.lba, op.blocks, op.tag, None, now);
            }
            return Ok(());
        }
        if op.is_write {
            self.good.insert(itt);
            self.world.oracle.write_ends(0, op.lba, op.blocks, op.tag, Some(false), now);
            return op.missed.map_or(Ok(()), Err);
        }
        if op.is_refused {
            return Ok(());
        }
        if op.places.values().map(|(_, bytes)| *bytes).sum::<usize>() != op.data.len() {
            return Err(format!("{itt} has ended without all of its data: {:?}", op.places));
        }
        for (lba, block) in (op.lba..).zip(op.data.chunks_exact(BLOCK_BYTES as usize)) {
            let stamp = stamp_of(block);
            self.world.oracle.read(0, lba, stamp, op.start, now)?;
            self.comes_behind(itt, &op, lba, stamp >> 16)?;
        }
        Ok(())
    }

    /// Whether what was read is as new as the ORDERED WRITEs before it.
    fn comes_behind(&mut self, itt: u32, read: &Op, lba: u64, tag: u64) -> Result<(), String> {
        // What was aborted may land until that is answered, and keeps its place in no order. Tags of WRITEs are those of the oracle.
        if self.abort.is_some() || u32::try_from(tag).is_ok_and(|tag| self.aborted.contains_key(&tag)) {
            return Ok(());
        }
        for earlier in read.behind.iter().filter(|earlier| earlier.lbas.contains(&lba) && tag < earlier.tag) {
            let error =
                format!("READ {itt}, block {lba}: it is of {tag}, before the ORDERED WRITE {}", earlier.itt);
            if self.good.contains(&earlier.itt) {
                return Err(error);
            }
            // It may yet fail.
            if let Some(write) = self.ops.get_mut(&earlier.itt) {
                write.missed = Some(error);
            }
        }
        Ok(())
    }
}
