//! A connection under load: its slots, its window, what it sends next.
//!
//! A turn is [`Conn::receive`] when the socket is readable, then [`Conn::pump`]. Requests are only made when everything
//! made before has been sent, so what is made at once goes out in one call, and the buffers are used from the start again.

mod rx;
mod tx;

use std::collections::VecDeque;
use std::fmt;
use std::net::TcpStream;

use lunette_initiator::pdu::request::{DataOut, LogoutRequest};
use lunette_initiator::pdu::{Digests, NO_TAG};
use lunette_initiator::{Params, Serial};

use crate::aim::Shot;
use crate::bench::Bench;
use crate::ledger;
use tx::{Source, Tx};

/// Why a connection is of no more use, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost(pub String);

/// What a login settled, as far as the hot loop needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// CRC32C behind headers and data.
    pub digests: Digests,
    /// Data in the command itself, at most.
    pub immediate_bytes: u32,
    /// Data that nobody has to ask for, those included, at most.
    pub unsolicited_bytes: u32,
    /// Data of one PDU to the target, at most.
    pub send_bytes_max: u32,
    /// Data of one PDU from the target, at most.
    pub recv_bytes_max: u32,
    /// CmdSN of the first command.
    pub cmd_sn: Serial,
    /// The last CmdSN that the target takes.
    pub max_cmd_sn: Serial,
    /// StatSN of the next response.
    pub exp_stat_sn: Serial,
}

impl Terms {
    /// The parameters of a session.
    #[must_use]
    pub fn new(params: &Params, cmd_sn: Serial, max_cmd_sn: Serial, exp_stat_sn: Serial) -> Self {
        // Whole words, so that nothing has to be padded.
        let send_bytes_max = params.send_bytes_max & !3;
        let first_burst_bytes = params.first_burst_bytes & !3;
        let immediate_bytes = if params.immediate_data { first_burst_bytes.min(send_bytes_max) } else { 0 };
        let unsolicited_bytes = if params.initial_r2t { immediate_bytes } else { first_burst_bytes };
        Self {
            digests: params.digests,
            immediate_bytes,
            unsolicited_bytes,
            send_bytes_max,
            recv_bytes_max: params.recv_bytes_max,
            cmd_sn,
            max_cmd_sn,
            exp_stat_sn,
        }
    }
}

/// Room for one IO. Its index is the IO's Initiator Task Tag.
#[derive(Debug, Clone, Copy)]
struct Slot {
    shot: Shot,
    /// When it began, or was to begin.
    start_ns: u64,
    /// Data-In received.
    got_bytes: u32,
    /// What the place holds (a read) or will hold (a write), when verifying.
    generation: u32,
    is_busy: bool,
}

/// Data that the target has asked for.
#[derive(Debug, Clone, Copy)]
struct Owed {
    slot: u32,
    ttt: u32,
    offset_bytes: u32,
    bytes: u32,
}

/// The Initiator Task Tag of a logout: no slot has it.
const LOGOUT_ITT: u32 = 0x7fff_ffff;
/// Data-Out bursts and answers that may be waiting to be sent; a target that asks for more breaks the protocol.
const OWED_MAX: usize = 1 << 16;

/// A connection under load.
pub struct Conn {
    stream: TcpStream,
    terms: Terms,
    cmd_sn: Serial,
    max_cmd_sn: Serial,
    exp_stat_sn: Serial,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Slots to be sent again.
    again: Vec<u32>,
    owed: VecDeque<Owed>,
    /// Headers to be sent as they are: answers to pings, a logout.
    extra: VecDeque<[u8; 48]>,
    cursor: u64,
    /// Open loop: its index, IOs that should have begun, and that have.
    index: u64,
    due: u64,
    begun: u64,
    tx: Tx,
    rx: rx::Rx,
    /// Contents of each slot's IO, when verifying.
    buffers: Vec<u8>,
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conn({:?}, {} in flight)", self.stream, self.in_flight())
    }
}

impl Conn {
    /// Takes over a connection after its login; `received` came behind the login's last response. The `index` is that
    /// among the busy connections, and is not used by idle ones, whose `depth` is zero.
    #[must_use]
    pub fn new(
        stream: TcpStream,
        terms: Terms,
        received: Vec<u8>,
        index: u32,
        depth: u32,
        bench: &Bench,
    ) -> Self {
        let is_verifying = bench.ledger.is_some();
        let shot = Shot { unit: 0, place: 0, is_read: false };
        let slot = Slot { shot, start_ns: 0, got_bytes: 0, generation: 0, is_busy: false };
        let buffer_bytes = if is_verifying { depth as usize * bench.io_bytes as usize } else { 0 };
        Self {
            stream,
            terms,
            cmd_sn: terms.cmd_sn,
            max_cmd_sn: terms.max_cmd_sn,
            exp_stat_sn: terms.exp_stat_sn,
            slots: vec![slot; depth as usize],
            free: (0..depth).rev().collect(),
            again: Vec::new(),
            owed: VecDeque::new(),
            extra: VecDeque::new(),
            cursor: 0,
            index: u64::from(index),
            due: 0,
            begun: 0,
            tx: Tx::default(),
            rx: rx::Rx::new(&terms, is_verifying, bench.io_bytes, received),
            buffers: vec![0; buffer_bytes],
        }
    }

    /// Begins its sequential stream here.
    pub fn set_cursor(&mut self, cursor: u64) {
        self.cursor = cursor;
    }

    /// The socket.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// IOs that have begun and not ended.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The socket has no room: [`Conn::pump`] is to be called when it has.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        !self.tx.is_empty()
    }

    /// Open loop: so many of its IOs should have begun.
    pub fn set_due(&mut self, due: u64) {
        self.due = due;
    }

    /// Open loop: IOs that should have begun and have not.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.due.saturating_sub(self.begun)
    }

    /// Makes requests of whatever there is to say, and sends them.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn pump(&mut self, bench: &mut Bench) -> Result<(), Lost> {
        loop {
            if !self.tx.is_empty() && !self.tx.send(&self.stream, &bench.payload, &self.buffers)? {
                return Ok(());
            }
            self.tx.clear();
            self.make(bench);
            if self.tx.is_empty() {
                return Ok(());
            }
        }
    }

    /// Asks to end the session.
    pub fn log_out(&mut self) {
        let request = LogoutRequest { immediate: true, itt: LOGOUT_ITT, ..LogoutRequest::default() };
        self.extra.push_back(request.bhs().0);
    }

    fn make(&mut self, bench: &mut Bench) {
        while let Some(mut header) = self.extra.pop_front() {
            self.number(&mut header);
            self.tx.header(&header, self.terms.digests);
        }
        while let Some(owed) = self.owed.pop_front() {
            self.push_data_out(owed, bench);
        }
        while self.cmd_sn.since(self.max_cmd_sn) <= 0 {
            let Some(slot) = self.again.pop().or_else(|| self.begin(bench)) else { break };
            self.push_command(slot, bench);
        }
    }

    /// A new IO in a free slot, if it is time for one.
    fn begin(&mut self, bench: &mut Bench) -> Option<u32> {
        if !bench.is_running {
            return None;
        }
        let start_ns = match &bench.pace {
            None => bench.now_ns,
            Some(pace) if self.begun < self.due => pace.due_ns(self.begun * pace.connections + self.index),
            Some(_) => return None,
        };
        let index = *self.free.last()?;
        let mut shot = bench.aim.next(&mut self.cursor);
        let mut generation = 0;
        if let Some(ledger) = &mut bench.ledger {
            generation = ledger.claim(&mut shot)?;
            if !shot.is_read {
                generation = ledger.generation();
                let bytes = bench.io_bytes as usize;
                let start = index as usize * bytes;
                ledger::fill(shot.place, generation, &mut self.buffers[start..start + bytes]);
            }
        }
        self.free.pop();
        self.begun += 1;
        self.slots[index as usize] = Slot { shot, start_ns, got_bytes: 0, generation, is_busy: true };
        Some(index)
    }

    /// CmdSN and ExpStatSN of a request; CmdSN is taken by commands only.
    fn number(&self, header: &mut [u8; 48]) {
        header[24..28].copy_from_slice(&self.cmd_sn.0.to_be_bytes());
        header[28..32].copy_from_slice(&self.exp_stat_sn.0.to_be_bytes());
    }

    fn push_command(&mut self, index: u32, bench: &mut Bench) {
        let slot = &mut self.slots[index as usize];
        slot.got_bytes = 0;
        let shot = slot.shot;
        let lba = bench.aim.units[shot.unit as usize].lba(shot.place);
        let templates = &bench.templates[shot.unit as usize];
        let mut header = if shot.is_read { templates.read } else { templates.write };
        header[16..20].copy_from_slice(&index.to_be_bytes());
        if templates.is_small {
            header[34..38].copy_from_slice(&(lba as u32).to_be_bytes());
        } else {
            header[34..42].copy_from_slice(&lba.to_be_bytes());
        }
        self.number(&mut header);
        self.cmd_sn = self.cmd_sn.plus(1);
        if shot.is_read {
            self.tx.header(&header, self.terms.digests);
            return;
        }
        let immediate_bytes = self.terms.immediate_bytes.min(bench.io_bytes);
        let unsolicited_bytes = self.terms.unsolicited_bytes.min(bench.io_bytes);
        header[4..8].copy_from_slice(&immediate_bytes.to_be_bytes());
        let goes_on = unsolicited_bytes > immediate_bytes;
        if goes_on {
            // RFC 7143 §11.3.1: F is zero while unsolicited Data-Out follows.
            header[1] &= !0x80;
        }
        self.tx.header(&header, self.terms.digests);
        self.push_payload(index, 0, immediate_bytes, bench);
        if goes_on {
            let bytes = unsolicited_bytes - immediate_bytes;
            let rest = Owed { slot: index, ttt: NO_TAG, offset_bytes: immediate_bytes, bytes };
            self.push_data_out(rest, bench);
        }
    }

    /// One sequence of Data-Out PDUs.
    fn push_data_out(&mut self, owed: Owed, bench: &mut Bench) {
        let slot = &self.slots[owed.slot as usize];
        if !slot.is_busy {
            return;
        }
        let template = &bench.templates[slot.shot.unit as usize].write;
        let lun = template.first_chunk::<16>().map_or(0, |head| u64::from_be_bytes(low_half(head)));
        let mut sent_bytes = 0;
        let mut data_sn = 0;
        while sent_bytes < owed.bytes {
            let bytes = (owed.bytes - sent_bytes).min(self.terms.send_bytes_max);
            let offset_bytes = owed.offset_bytes + sent_bytes;
            let header = DataOut {
                final_bit: sent_bytes + bytes == owed.bytes,
                lun: if owed.ttt == NO_TAG { 0 } else { lun },
                itt: owed.slot,
                ttt: owed.ttt,
                exp_stat_sn: self.exp_stat_sn.0,
                data_sn,
                offset_bytes,
            };
            let mut header = header.bhs();
            header.set_data_bytes(bytes);
            self.tx.header(&header.0, self.terms.digests);
            self.push_payload(owed.slot, offset_bytes, bytes, bench);
            sent_bytes += bytes;
            data_sn += 1;
        }
    }

    /// A part of an IO's data.
    fn push_payload(&mut self, slot: u32, offset_bytes: u32, bytes: u32, bench: &mut Bench) {
        let (offset, bytes) = (offset_bytes as usize, bytes as usize);
        if bytes == 0 {
            return;
        }
        let digest = self.terms.digests.data;
        if self.buffers.is_empty() {
            let digest = digest.then(|| bench.payload_crc(offset, bytes));
            self.tx.payload(Source::Shared, offset, bytes, digest);
        } else {
            let start = slot as usize * bench.io_bytes as usize + offset;
            let digest = digest.then(|| lunette_initiator::pdu::crc32c(&self.buffers[start..start + bytes]));
            self.tx.payload(Source::Own, start, bytes, digest);
        }
    }
}

fn low_half(head: &[u8; 16]) -> [u8; 8] {
    let mut low = [0; 8];
    low.copy_from_slice(&head[8..]);
    low
}

#[cfg(test)]
mod tests;
