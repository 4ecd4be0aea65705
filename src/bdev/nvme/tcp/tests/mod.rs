//! The host against a target of the tests' own: the machine alone, over sockets, as a whole; and against a real one where
//! there is one.

mod offences;
mod target;
mod transport;
mod wire;

use self::target::Style;
use super::pdu::Digests;
use crate::bdev::nvme::queue::Payloads;

/// Memory of commands, by their ids.
#[derive(Default, Debug)]
struct Memory(Vec<Piece>);

#[derive(Debug)]
struct Piece {
    cid: u16,
    is_read: bool,
    data: Vec<u8>,
}

impl Memory {
    fn take(&mut self, cid: u16) -> Option<Piece> {
        let at = self.0.iter().position(|piece| piece.cid == cid)?;
        Some(self.0.swap_remove(at))
    }
}

impl Payloads for Memory {
    fn source(&self, cid: u16) -> Option<&[u8]> {
        self.0.iter().find(|piece| piece.cid == cid && !piece.is_read).map(|piece| &*piece.data)
    }

    fn sink(&mut self, cid: u16) -> Option<&mut [u8]> {
        self.0.iter_mut().find(|piece| piece.cid == cid && piece.is_read).map(|piece| &mut *piece.data)
    }
}

fn digests(style: &Style) -> Digests {
    Digests { header: style.header_digest, data: style.data_digest }
}
