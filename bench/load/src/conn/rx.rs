//! What a connection receives: PDUs are parsed where they lie, payload that nobody looks at never leaves the kernel.

use lunette_initiator::Serial;
use lunette_initiator::pdu::request::NopOut;
use lunette_initiator::pdu::response::{DataIn, NopIn, R2t, Reject};
use lunette_initiator::pdu::{self, Bhs, NO_TAG, opcode};
use lunette_initiator::scsi::{Sense, sense_key, status};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::{Conn, LOGOUT_ITT, Lost, OWED_MAX, Owed, Terms};
use crate::bench::{Bench, PARTIAL_BYTES_MAX, RECEIVE_BYTES};
use crate::ledger::{self, Verdict};

/// Payload of reads of this size and more is dropped by calls of its own; below that, copying it along with the headers
/// around it is cheaper than the calls (measured with the echo pair: at 4 KiB 1.3 µs per IO against 1.6, at 64 KiB 13
/// against 11).
const DROP_BYTES_MIN: usize = 16 << 10;
/// Bytes taken at once where such payload is expected: a few headers. As much payload is not worth a call.
const HEADERS_BYTES: usize = 512;
/// Receive calls of one turn, so that one connection does not hold up the others.
const RECEIVES_MAX: usize = 16;

/// The receiving half's state.
#[derive(Debug)]
pub(super) struct Rx {
    /// The beginning of a PDU that has not come whole.
    partial: Vec<u8>,
    /// A Data-In whose data are being dropped, and how many bytes of them are still to come.
    held: [u8; 48],
    drop_bytes: usize,
    /// Data are looked at: to verify them, or their digest.
    looks_at_data: bool,
    /// Bytes taken at once, and what has to be left of data for a call that drops them.
    receive_bytes: usize,
}

impl Rx {
    pub(super) fn new(terms: &Terms, is_verifying: bool, io_bytes: u32, received: Vec<u8>) -> Self {
        let looks_at_data = is_verifying || terms.digests.data;
        let is_dropped = !looks_at_data && io_bytes as usize >= DROP_BYTES_MIN;
        Self {
            partial: received,
            held: [0; 48],
            drop_bytes: 0,
            looks_at_data,
            receive_bytes: if is_dropped { HEADERS_BYTES } else { RECEIVE_BYTES },
        }
    }
}

/// A field of a header.
fn be32(header: &[u8; 48], at: usize) -> u32 {
    u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

fn lost(why: impl Into<String>) -> Lost {
    Lost(why.into())
}

impl Conn {
    /// Takes what the socket has, at most a turn's worth.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn receive(&mut self, bench: &mut Bench) -> Result<(), Lost> {
        let mut staging = std::mem::take(&mut bench.staging);
        let result = self.receive_into(&mut staging, bench);
        bench.staging = staging;
        result
    }

    fn receive_into(&mut self, staging: &mut [u8], bench: &mut Bench) -> Result<(), Lost> {
        for _ in 0..RECEIVES_MAX {
            let kept = self.rx.partial.len();
            let is_dropping = self.rx.drop_bytes > self.rx.receive_bytes;
            let (room, flags) = if is_dropping {
                // TCP leaves the memory alone with MSG_TRUNC: the bytes are only counted.
                (&mut *staging, RecvFlags::TRUNC)
            } else {
                (&mut staging[kept..kept + self.rx.receive_bytes], RecvFlags::empty())
            };
            let room_bytes = if is_dropping { room.len().min(self.rx.drop_bytes) } else { room.len() };
            let bytes = match recv(&self.stream, &mut room[..room_bytes], flags) {
                Ok((_, 0)) => return Err(lost("the target closed the connection")),
                Ok((_, bytes)) => bytes,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(lost(format!("receive: {errno}"))),
            };
            bench.tick();
            if is_dropping {
                self.dropped(bytes, bench)?;
            } else {
                staging[..kept].copy_from_slice(&self.rx.partial);
                let received = &staging[..kept + bytes];
                let used = self.consume(received, bench)?;
                self.rx.partial.clear();
                self.rx.partial.extend_from_slice(&received[used..]);
            }
            if bytes < room_bytes {
                return Ok(());
            }
        }
        Ok(())
    }

    /// So many bytes of the data to be dropped are gone.
    fn dropped(&mut self, bytes: usize, bench: &mut Bench) -> Result<(), Lost> {
        self.rx.drop_bytes -= bytes;
        if self.rx.drop_bytes == 0 {
            let header = self.rx.held;
            self.dispatch(&header, &[], bench)?;
        }
        Ok(())
    }

    /// Handles all whole PDUs; returns how many bytes they took.
    fn consume(&mut self, received: &[u8], bench: &mut Bench) -> Result<usize, Lost> {
        let digests = self.terms.digests;
        let mut rest = received;
        loop {
            if self.rx.drop_bytes > 0 {
                let bytes = self.rx.drop_bytes.min(rest.len());
                rest = &rest[bytes..];
                self.dropped(bytes, bench)?;
            }
            let Some(header) = rest.first_chunk::<48>() else { break };
            let data_bytes = (be32(header, 4) & 0x00ff_ffff) as usize;
            let ahs_bytes = usize::from(header[4]) * 4;
            let head_bytes = 48 + ahs_bytes + if digests.header { 4 } else { 0 };
            let padded_bytes = data_bytes.next_multiple_of(4);
            let body_bytes = padded_bytes + if digests.data && data_bytes > 0 { 4 } else { 0 };
            if data_bytes > self.terms.recv_bytes_max as usize || head_bytes + body_bytes > PARTIAL_BYTES_MAX
            {
                return Err(lost(format!("a PDU with {data_bytes} bytes of data")));
            }
            if rest.len() < head_bytes {
                break;
            }
            if digests.header && digest_at(rest, 48 + ahs_bytes) != pdu::crc32c(&rest[..48 + ahs_bytes]) {
                return Err(lost("wrong header digest"));
            }
            let is_dropped = header[0] & 0x3f == opcode::DATA_IN && !self.rx.looks_at_data;
            if is_dropped && body_bytes > 0 {
                self.rx.held = *header;
                self.rx.drop_bytes = body_bytes;
                rest = &rest[head_bytes..];
                continue;
            }
            if rest.len() < head_bytes + body_bytes {
                break;
            }
            let padded = &rest[head_bytes..head_bytes + padded_bytes];
            if body_bytes > padded_bytes && digest_at(rest, head_bytes + padded_bytes) != pdu::crc32c(padded)
            {
                return Err(lost("wrong data digest"));
            }
            self.dispatch(header, &padded[..data_bytes], bench)?;
            rest = &rest[head_bytes + body_bytes..];
        }
        Ok(received.len() - rest.len())
    }

    fn dispatch(&mut self, header: &[u8; 48], data: &[u8], bench: &mut Bench) -> Result<(), Lost> {
        // MaxCmdSN stands at the same place in everything that a target sends.
        let max_cmd_sn = Serial(be32(header, 32));
        if self.max_cmd_sn.precedes(max_cmd_sn) {
            self.max_cmd_sn = max_cmd_sn;
        }
        match header[0] & 0x3f {
            opcode::DATA_IN => self.data_in(header, data, bench),
            opcode::SCSI_RESPONSE => self.response(header, data, bench),
            opcode::R2T => self.r2t(header, bench),
            opcode::NOP_IN => self.nop_in(header),
            opcode::ASYNC => Err(lost(format!("asynchronous message, event {}", header[36]))),
            opcode::REJECT => {
                self.status_sn(header)?;
                let reject = Reject::from_bhs(&Bhs(*header));
                let what = data.first().map_or(0xff, |first| first & 0x3f);
                Err(lost(format!("Reject, reason {:#04x}, of a PDU with opcode {what:#04x}", reject.reason)))
            }
            opcode::LOGOUT_RESPONSE if be32(header, 16) == LOGOUT_ITT => Err(lost("logged out")),
            other => Err(lost(format!("a PDU with opcode {other:#04x}"))),
        }
    }

    /// The response's StatSN has to be the next.
    fn status_sn(&mut self, header: &[u8; 48]) -> Result<(), Lost> {
        let stat_sn = Serial(be32(header, 24));
        if stat_sn != self.exp_stat_sn {
            return Err(lost(format!("StatSN {stat_sn}, expected {}", self.exp_stat_sn)));
        }
        self.exp_stat_sn = stat_sn.plus(1);
        Ok(())
    }

    /// The slot that a PDU names.
    fn slot_of(&self, header: &[u8; 48]) -> Result<u32, Lost> {
        let itt = be32(header, 16);
        match self.slots.get(itt as usize) {
            Some(slot) if slot.is_busy => Ok(itt),
            _ => Err(lost(format!("a PDU with opcode {:#04x} for no task, ITT {itt:#x}", header[0] & 0x3f))),
        }
    }

    #[inline]
    fn data_in(&mut self, header: &[u8; 48], data: &[u8], bench: &mut Bench) -> Result<(), Lost> {
        let index = self.slot_of(header)?;
        let slot = &mut self.slots[index as usize];
        let bytes = be32(header, 4) & 0x00ff_ffff;
        let offset_bytes = be32(header, 40);
        if !slot.shot.is_read || offset_bytes != slot.got_bytes || bytes > bench.io_bytes - slot.got_bytes {
            let data_in = DataIn::from_bhs(&Bhs(*header));
            return Err(lost(format!("Data-In out of place, {bytes} bytes: {data_in:?}")));
        }
        slot.got_bytes += bytes;
        if bench.ledger.is_some() {
            let start = index as usize * bench.io_bytes as usize + offset_bytes as usize;
            self.buffers[start..start + data.len()].copy_from_slice(data);
        }
        // S: the status is here.
        if header[1] & 0x01 == 0 {
            return Ok(());
        }
        self.status_sn(header)?;
        self.ended(index, header, &[], bench);
        Ok(())
    }

    fn response(&mut self, header: &[u8; 48], data: &[u8], bench: &mut Bench) -> Result<(), Lost> {
        let index = self.slot_of(header)?;
        self.status_sn(header)?;
        self.ended(index, header, data, bench);
        Ok(())
    }

    /// A task has its status; `header` is of a SCSI Response, or of a Data-In with status.
    #[inline]
    fn ended(&mut self, index: u32, header: &[u8; 48], data: &[u8], bench: &mut Bench) {
        let slot = &self.slots[index as usize];
        let is_response = header[0] & 0x3f == opcode::SCSI_RESPONSE;
        let response = if is_response { header[2] } else { 0 };
        // O and U: more or less was transferred than asked for.
        let is_whole = header[1] & 0x06 == 0 && (!slot.shot.is_read || slot.got_bytes == bench.io_bytes);
        if response == 0 && header[3] == status::GOOD && is_whole {
            bench.tally.done(bench.now_ns.saturating_sub(slot.start_ns));
            if bench.ledger.is_some() {
                self.verify(index, bench);
            }
            self.release(index);
        } else {
            self.failed(index, header, data, bench);
        }
    }

    fn release(&mut self, index: u32) {
        self.slots[index as usize].is_busy = false;
        self.free.push(index);
    }

    fn verify(&mut self, index: u32, bench: &mut Bench) {
        let (slot, bytes) = (self.slots[index as usize], bench.io_bytes as usize);
        let Some(ledger) = &mut bench.ledger else { return };
        ledger.release(&slot.shot, slot.generation);
        if !slot.shot.is_read {
            return;
        }
        let start = index as usize * bytes;
        match ledger::check(slot.shot.place, slot.generation, &self.buffers[start..start + bytes]) {
            Verdict::Right => {}
            Verdict::Unchecked => bench.tally.unchecked += 1,
            Verdict::Wrong(what) => {
                let number = bench.aim.units[slot.shot.unit as usize].number;
                bench.tally.verify_trouble(|| format!("LUN {number}, {what}"));
            }
        }
    }

    /// A task ended otherwise than well: it is sent again where that is the thing to do.
    #[cold]
    fn failed(&mut self, index: u32, header: &[u8; 48], data: &[u8], bench: &mut Bench) {
        let slot = self.slots[index as usize];
        let sense = data.get(2..).and_then(Sense::decode).unwrap_or_default();
        let is_attention = header[3] == status::CHECK_CONDITION && sense.key == sense_key::UNIT_ATTENTION;
        if is_attention || matches!(header[3], status::BUSY | status::TASK_SET_FULL) {
            bench.tally.retries += 1;
            self.again.push(index);
            return;
        }
        bench.tally.trouble(|| {
            let unit = &bench.aim.units[slot.shot.unit as usize];
            let verb = if slot.shot.is_read { "read" } else { "write" };
            let end = match header[3] {
                _ if header[0] & 0x3f == opcode::SCSI_RESPONSE && header[2] != 0 => {
                    format!("response {:#04x}", header[2])
                }
                status::GOOD => format!("GOOD with {} bytes", slot.got_bytes),
                status::CHECK_CONDITION => {
                    format!("CHECK CONDITION, sense {:x}/{:02x}/{:02x}", sense.key, sense.asc.0, sense.asc.1)
                }
                other => format!("status {other:#04x}"),
            };
            format!("{verb} at block {} of LUN {}: {end}", unit.lba(slot.shot.place), unit.number)
        });
        if let Some(ledger) = &mut bench.ledger {
            if slot.shot.is_read {
                ledger.release(&slot.shot, slot.generation);
            } else {
                ledger.forget(&slot.shot);
            }
        }
        self.release(index);
    }

    fn r2t(&mut self, header: &[u8; 48], bench: &Bench) -> Result<(), Lost> {
        let index = self.slot_of(header)?;
        let r2t = R2t::from_bhs(&Bhs(*header));
        let end = r2t.offset_bytes.checked_add(r2t.desired_bytes);
        let is_inside = r2t.desired_bytes > 0 && end.is_some_and(|end| end <= bench.io_bytes);
        if self.slots[index as usize].shot.is_read || !is_inside || self.owed.len() >= OWED_MAX {
            return Err(lost(format!("R2T out of place: {r2t:?}")));
        }
        let (offset_bytes, bytes) = (r2t.offset_bytes, r2t.desired_bytes);
        self.owed.push_back(Owed { slot: index, ttt: r2t.ttt, offset_bytes, bytes });
        Ok(())
    }

    /// RFC 7143 §11.19: a ping has a Target Transfer Tag, which the answer carries; one without only tells of the window.
    fn nop_in(&mut self, header: &[u8; 48]) -> Result<(), Lost> {
        let ping = NopIn::from_bhs(&Bhs(*header));
        if ping.ttt == NO_TAG {
            return Ok(());
        }
        if self.extra.len() >= OWED_MAX {
            return Err(lost("pings without end"));
        }
        let answer =
            NopOut { immediate: true, lun: ping.lun, itt: NO_TAG, ttt: ping.ttt, ..NopOut::default() };
        self.extra.push_back(answer.bhs().0);
        Ok(())
    }
}

fn digest_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |digest| u32::from_le_bytes(*digest))
}
