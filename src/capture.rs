//! Captures: what connections have recorded, as a pcapng file (draft-ietf-opsawg-pcapng) that protocol analysers open.
//!
//! Pure. Only headers were recorded, so each PDU becomes a TCP segment, or several where it is longer than one can be, whose data
//! were not captured; lengths and sequence numbers are right. Ethernet, IP and TCP headers are made up: of what really was on the
//! wire (segments, acknowledgements, retransmissions) nothing is known here.

use std::net::{IpAddr, SocketAddr};

use crate::iscsi::recorder::{Recorded, Recorder, Way};
use crate::iscsi::wire::{BHS_BYTES, Bhs, DIGEST_BYTES, padding_bytes};

/// Block types and option codes of pcapng.
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const OPT_END: u16 = 0;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_DESCRIPTION: u16 = 3;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;
const LINKTYPE_ETHERNET: u16 = 1;

/// Locally administered addresses of the two ends.
const INITIATOR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const TARGET_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const TCP_HEADER_BYTES: usize = 20;
/// What fits into one segment, IP's length field being 16 bits wide; a multiple of four.
const SEGMENT_BYTES_MAX: usize = 65_000;

/// What one connection has recorded, and between whom it is.
#[derive(Debug)]
pub struct Conversation<'a> {
    /// What to call it.
    pub name: String,
    /// Who talks to whom.
    pub about: String,
    /// The initiator's end.
    pub initiator: SocketAddr,
    /// Our end.
    pub target: SocketAddr,
    /// Headers have digests.
    pub header_digest: bool,
    /// Data have digests.
    pub data_digest: bool,
    /// What was recorded.
    pub recorder: &'a Recorder,
}

/// A pcapng file of conversations. `epoch_ns` is when the process's time began, in nanoseconds since 1970.
pub fn pcapng(conversations: &[Conversation<'_>], epoch_ns: u64) -> Vec<u8> {
    let mut out = Vec::new();
    block(&mut out, SECTION_HEADER, |body| {
        body.extend(BYTE_ORDER_MAGIC.to_le_bytes());
        body.extend([1, 0, 0, 0]);
        // Its length: not said.
        body.extend([0xff; 8]);
        option(body, SHB_USERAPPL, concat!("lunette ", env!("CARGO_PKG_VERSION")).as_bytes());
        option(body, OPT_END, &[]);
    });
    for conversation in conversations {
        block(&mut out, INTERFACE, |body| {
            body.extend(LINKTYPE_ETHERNET.to_le_bytes());
            body.extend([0; 6]);
            option(body, IF_NAME, conversation.name.as_bytes());
            option(body, IF_DESCRIPTION, conversation.about.as_bytes());
            // Time is in nanoseconds.
            option(body, IF_TSRESOL, &[9]);
            option(body, OPT_END, &[]);
        });
    }
    let mut packets: Vec<Packet> =
        (0u32..).zip(conversations).flat_map(|(id, one)| packets(id, one)).collect();
    // Stable, so that each conversation keeps its order.
    packets.sort_by_key(|packet| packet.at_ns);
    for packet in packets {
        packet.write(epoch_ns, &mut out);
    }
    out
}

/// A TCP segment as it is captured.
struct Packet {
    interface: u32,
    at_ns: u64,
    way: Way,
    captured: Vec<u8>,
    original_bytes: usize,
}

impl Packet {
    fn write(self, epoch_ns: u64, out: &mut Vec<u8>) {
        let at = epoch_ns.saturating_add(self.at_ns);
        block(out, ENHANCED_PACKET, |body| {
            body.extend(self.interface.to_le_bytes());
            // The upper half comes first.
            let [a, b, c, d, upper @ ..] = at.to_le_bytes();
            body.extend(upper);
            body.extend([a, b, c, d]);
            body.extend(length(self.captured.len()).to_le_bytes());
            body.extend(length(self.original_bytes).to_le_bytes());
            padded(body, &self.captured);
            let direction: u32 = if self.way == Way::Received { 1 } else { 2 };
            option(body, EPB_FLAGS, &direction.to_le_bytes());
            option(body, OPT_END, &[]);
        });
    }
}

/// The segments of a conversation.
fn packets(interface: u32, conversation: &Conversation<'_>) -> Vec<Packet> {
    let mut packets = Vec::new();
    // What is acknowledged is what has come the other way so far.
    let (mut received, mut sent) = (1u32, 1u32);
    let (initiator, target) = ends(conversation);
    for pdu in conversation.recorder.pdus() {
        let bytes = wire_bytes(pdu, conversation);
        let mut at = 0;
        while at < bytes {
            let segment = (bytes - at).min(SEGMENT_BYTES_MAX);
            let payload = if at == 0 { &pdu.header[..] } else { &[] };
            let (from, to, seq, ack) = match pdu.way {
                Way::Received => (initiator, target, &mut received, sent),
                Way::Sent => (target, initiator, &mut sent, received),
            };
            let mut captured = Vec::with_capacity(54 + 20 + BHS_BYTES);
            let macs = match pdu.way {
                Way::Received => [TARGET_MAC, INITIATOR_MAC],
                Way::Sent => [INITIATOR_MAC, TARGET_MAC],
            };
            captured.extend(macs.concat());
            network_header(from.ip(), to.ip(), TCP_HEADER_BYTES + segment, &mut captured);
            captured.extend(from.port().to_be_bytes());
            captured.extend(to.port().to_be_bytes());
            captured.extend(seq.to_be_bytes());
            captured.extend(ack.to_be_bytes());
            // Header length in words; PSH where a PDU ends, ACK; window; no checksum, as with offloading; no urgent data.
            let flags = if at + segment == bytes { 0x18 } else { 0x10 };
            captured.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
            let original_bytes = captured.len() + segment;
            captured.extend(payload);
            packets.push(Packet { interface, at_ns: pdu.at.ns(), way: pdu.way, captured, original_bytes });
            *seq = seq.wrapping_add(length(segment));
            at += segment;
        }
    }
    packets
}

/// Both ends, in the same family: a socket for both shows IPv4 addresses as IPv6 ones.
fn ends(conversation: &Conversation<'_>) -> (SocketAddr, SocketAddr) {
    let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    (canonical(conversation.initiator), canonical(conversation.target))
}

/// How many bytes a PDU was.
fn wire_bytes(pdu: &Recorded, conversation: &Conversation<'_>) -> usize {
    let bhs = Bhs(pdu.header);
    let data = usize::try_from(bhs.data_bytes()).unwrap_or(0);
    let digest = |is_there: bool| if is_there { DIGEST_BYTES } else { 0 };
    let header = BHS_BYTES + bhs.ahs_bytes() + digest(conversation.header_digest);
    if data == 0 {
        return header;
    }
    header + data + padding_bytes(data) + digest(conversation.data_digest)
}

/// EtherType and IP header of a packet with so many bytes behind that.
fn network_header(from: IpAddr, to: IpAddr, bytes: usize, out: &mut Vec<u8>) {
    let [_, _, rest @ ..] = length(bytes).to_be_bytes();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let [_, _, total @ ..] = length(20 + bytes).to_be_bytes();
            let mut header =
                [0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            header[12..16].copy_from_slice(&from.octets());
            header[16..].copy_from_slice(&to.octets());
            let checksum = checksum(&header);
            header[10..12].copy_from_slice(&checksum);
            out.extend([0x08, 0x00]);
            out.extend(header);
        }
        (from, to) => {
            let octets = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            out.extend([0x86, 0xdd, 0x60, 0, 0, 0, rest[0], rest[1], 6, 64]);
            out.extend(octets(from));
            out.extend(octets(to));
        }
    }
}

/// RFC 791 §3.1.
fn checksum(header: &[u8; 20]) -> [u8; 2] {
    let words = header.chunks_exact(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [_, _, low @ ..] = (!sum).to_be_bytes();
    low
}

/// A block with its length before and behind.
fn block(out: &mut Vec<u8>, kind: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    fill(&mut body);
    let bytes = length(body.len() + 12).to_le_bytes();
    out.extend(kind.to_le_bytes());
    out.extend(bytes);
    out.extend(body);
    out.extend(bytes);
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    out.extend(code.to_le_bytes());
    out.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
    padded(out, value);
}

fn padded(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(bytes);
    out.extend(&[0; 3][..padding_bytes(bytes.len())]);
}

/// A length that is known to be under 2^32.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Tick;

    fn header(opcode: u8, data_bytes: u32) -> [u8; BHS_BYTES] {
        let mut bhs = Bhs([0; BHS_BYTES]);
        bhs.0[0] = opcode;
        bhs.set_data_bytes(data_bytes);
        bhs.0
    }

    fn conversation(recorder: &Recorder) -> Conversation<'_> {
        Conversation {
            name: "s1".to_owned(),
            about: "a b".to_owned(),
            initiator: "192.0.2.1:5000".parse().unwrap(),
            target: "192.0.2.2:3260".parse().unwrap(),
            header_digest: false,
            data_digest: false,
            recorder,
        }
    }

    #[test]
    fn a_file_is_these_bytes() {
        let mut recorder = Recorder::new();
        recorder.sent(&header(0x25, 6), Tick::from_ns(0x1_0000_0002));
        let file = pcapng(&[conversation(&recorder)], 1);
        let version = concat!("lunette ", env!("CARGO_PKG_VERSION"));
        assert_eq!(version.len() % 4, 1, "the padding below is for 13 bytes");
        let mut expected = Vec::new();
        expected.extend([0x0a, 0x0d, 0x0d, 0x0a, 52, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0]);
        expected.extend([0xff; 8]);
        expected.extend([4, 0, 13, 0]);
        expected.extend(version.bytes());
        expected.extend([0, 0, 0, 0, 0, 0, 0, 52, 0, 0, 0]);
        expected.extend([1, 0, 0, 0, 48, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend(*b"\x02\x00\x02\x00s1\0\0\x03\x00\x03\x00a b\0\x09\x00\x01\x00\x09\0\0\0\0\0\0\0");
        expected.extend([48, 0, 0, 0]);
        // Captured are 54 + 48 bytes of 54 + 48 + 8.
        expected.extend([
            6, 0, 0, 0, 148, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 102, 0, 0, 0, 110, 0, 0, 0,
        ]);
        expected.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
        expected.extend([0x45, 0, 0, 96, 0, 0, 0x40, 0, 64, 6, 0xb6, 0x94, 192, 0, 2, 2, 192, 0, 2, 1]);
        expected.extend([0x0c, 0xbc, 0x13, 0x88, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
        expected.extend([0x25, 0, 0, 0, 0, 0, 0, 6]);
        expected.extend([0; 40]);
        expected.extend([0, 0, 2, 0, 4, 0, 2, 0, 0, 0, 0, 0, 0, 0, 148, 0, 0, 0]);
        assert_eq!(file, expected);
    }

    #[test]
    fn sequence_numbers_count_what_was_not_captured() {
        let mut recorder = Recorder::new();
        recorder.received(&header(0x01, 0), Tick::ZERO);
        recorder.sent(&header(0x25, 262_141), Tick::ZERO);
        recorder.received(&header(0x00, 1), Tick::ZERO);
        let mut conversation = conversation(&recorder);
        conversation.header_digest = true;
        conversation.data_digest = true;
        let numbers = |packet: &Packet| {
            let tcp: [u8; 8] = packet.captured[38..46].try_into().unwrap();
            let [a, b, c, d, e, f, g, h] = tcp;
            let (seq, ack) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
            (seq, ack, packet.captured.len(), packet.original_bytes - 54)
        };
        let numbers: Vec<_> = packets(0, &conversation).iter().map(numbers).collect();
        // 262,141 bytes are padded by 3, with two digests of 4 and a header of 48.
        assert_eq!(
            numbers,
            [
                (1, 1, 102, 52),
                (1, 53, 102, 65_000),
                (65_001, 53, 54, 65_000),
                (130_001, 53, 54, 65_000),
                (195_001, 53, 54, 65_000),
                (260_001, 53, 54, 2_200),
                (53, 262_201, 102, 60),
            ]
        );
    }

    #[test]
    fn ipv6_has_a_header_of_its_own_and_mapped_addresses_are_ipv4() {
        let mut recorder = Recorder::new();
        recorder.received(&header(0x00, 0), Tick::ZERO);
        let mut conversation = conversation(&recorder);
        conversation.initiator = "[::ffff:192.0.2.1]:5000".parse().unwrap();
        assert_eq!(packets(0, &conversation)[0].captured[12..15], [8, 0, 0x45]);
        conversation.initiator = "[2001:db8::1]:5000".parse().unwrap();
        conversation.target = "[2001:db8::2]:3260".parse().unwrap();
        let captured = &packets(0, &conversation)[0].captured;
        assert_eq!(captured[12..22], [0x86, 0xdd, 0x60, 0, 0, 0, 0, 68, 6, 64]);
        assert_eq!(captured.len(), 14 + 40 + 20 + 48);
    }
}
