use super::*;
use crate::bdev::nvme::spec::{Command, DataPointer, nvm};

const PLAIN: Digests = Digests { header: false, data: false };
const BOTH: Digests = Digests { header: true, data: true };

// Computed bit by bit, by another program.
const HEADER_DIGEST_OF_COMMAND: [u8; 4] = [0x22, 0xD1, 0x0C, 0xF7];
const HEADER_DIGEST_OF_RESPONSE: [u8; 4] = [0x9B, 0x12, 0x03, 0x89];

fn header_of(bytes: &[u8]) -> [u8; HEADER_BYTES_MAX] {
    let mut header = [0; HEADER_BYTES_MAX];
    header[..bytes.len()].copy_from_slice(bytes);
    header
}

fn common(bytes: [u8; 8], digests: Digests) -> Result<Common, Offence> {
    Common::decode(bytes, digests)
}

fn entry() -> Entry {
    let command = Command { opcode: nvm::WRITE, nsid: 7, cdw10: [0x10, 0, 7, 0, 0, 0], ..Command::default() };
    let mut descriptor = [0; 16];
    descriptor[9] = 0x10;
    descriptor[15] = 0x01;
    command.encode(0x0203, DataPointer::Sgl(descriptor))
}

#[rustfmt::skip]
const COMMAND: [u8; 64] = [
    0x01, 0x40, 0x03, 0x02, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0x01,
    0x10, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

#[test]
fn a_greeting_is_128_bytes() {
    let mut expected = [0; 128];
    expected[..16].copy_from_slice(&[0x00, 0, 128, 0, 128, 0, 0, 0, 0, 0, 0, 0b11, 3, 0, 0, 0]);
    assert_eq!(Header::greeting(BOTH, 4).as_bytes(), expected);
    expected[11] = 0;
    assert_eq!(Header::greeting(PLAIN, 4).as_bytes(), expected);
}

#[test]
fn a_command_without_data_has_no_data_offset() {
    let header = Header::command(&entry(), 0, PLAIN, 4);
    assert_eq!(header.as_bytes()[..8], [0x04, 0, 72, 0, 72, 0, 0, 0]);
    assert_eq!(header.as_bytes()[8..], COMMAND);
}

#[test]
fn a_command_with_data_and_digests_is_padded() {
    let header = Header::command(&entry(), 4096, PLAIN, 4);
    assert_eq!(header.as_bytes()[..8], [0x04, 0, 72, 72, 0x48, 0x10, 0, 0]);
    assert_eq!(header.as_bytes().len(), 72);
    // Header 72, digest 4, up to the next multiple of 128; data 4096; digest 4.
    let header = Header::command(&entry(), 4096, BOTH, 128);
    let bytes = header.as_bytes();
    assert_eq!(bytes[..8], [0x04, 0b11, 72, 128, 0x84, 0x10, 0, 0]);
    assert_eq!(bytes[8..72], COMMAND);
    assert_eq!(bytes[72..76], HEADER_DIGEST_OF_COMMAND);
    assert_eq!(bytes[76..], [0; 52]);
}

#[test]
fn data_say_whose_and_where() {
    let header = Header::data(0x0102, 0x0304, 0x1000, 0x2000, false, PLAIN, 4);
    assert_eq!(
        header.as_bytes(),
        [0x06, 0, 24, 24, 0x18, 0x20, 0, 0, 2, 1, 4, 3, 0, 0x10, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0]
    );
    let header = Header::data(0x0102, 0x0304, 0, 512, true, BOTH, 4);
    assert_eq!(header.as_bytes()[..8], [0x06, 0b111, 24, 28, 0x20, 0x02, 0, 0]);
    assert_eq!(header.as_bytes().len(), 28);
}

#[test]
fn a_termination_brings_back_what_offended() {
    let offending = [5; 24];
    let header = Header::term(&Offence::header(0x0504, "x"), &offending);
    let mut expected = vec![0x02, 0, 24, 0, 48, 0, 0, 0, 1, 0, 4, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    expected.extend(offending);
    assert_eq!(header.as_bytes(), expected);
}

#[test]
fn what_a_controller_sends_is_known_by_its_first_8_bytes() {
    let kind = |bytes, digests| common(bytes, digests).map(|common| (common.kind, common.header_bytes()));
    assert_eq!(kind([1, 0, 128, 0, 128, 0, 0, 0], PLAIN), Ok((Kind::Greeting, 128)));
    assert_eq!(kind([3, 0, 24, 0, 152, 0, 0, 0], BOTH), Ok((Kind::Term, 152)));
    assert_eq!(kind([5, 0, 24, 0, 24, 0, 0, 0], PLAIN), Ok((Kind::Response, 24)));
    assert_eq!(kind([5, 1, 24, 0, 28, 0, 0, 0], BOTH), Ok((Kind::Response, 28)));
    assert_eq!(kind([9, 0, 24, 0, 24, 0, 0, 0], PLAIN), Ok((Kind::ReadyToTransfer, 24)));
    assert_eq!(kind([7, 12, 24, 24, 24, 2, 0, 0], PLAIN), Ok((Kind::Data, 24)));
    assert_eq!(kind([7, 3, 24, 64, 68, 2, 0, 0], BOTH), Ok((Kind::Data, 64)));
}

#[test]
fn a_common_header_that_cannot_be_is_named_by_its_byte() {
    let wrong = |bytes, digests| {
        common(bytes, digests).map_err(|offence| (offence.status, offence.info)).unwrap_err()
    };
    // Types of the host's, and none.
    for kind in [0, 2, 4, 6, 8, 10, 255] {
        assert_eq!(wrong([kind, 0, 24, 0, 24, 0, 0, 0], PLAIN), (1, 0));
    }
    assert_eq!(wrong([5, 0, 25, 0, 24, 0, 0, 0], PLAIN), (1, 2));
    assert_eq!(wrong([1, 0, 24, 0, 128, 0, 0, 0], PLAIN), (1, 2));
    // A digest that was not agreed on, one that is missing, a digest of data where there are none.
    assert_eq!(wrong([5, 1, 24, 0, 28, 0, 0, 0], PLAIN), (1, 1));
    assert_eq!(wrong([5, 0, 24, 0, 24, 0, 0, 0], BOTH), (1, 1));
    assert_eq!(wrong([5, 3, 24, 0, 28, 0, 0, 0], BOTH), (1, 1));
    assert_eq!(wrong([7, 1, 24, 28, 28, 2, 0, 0], BOTH), (1, 1));
    // Lengths.
    assert_eq!(wrong([5, 0, 24, 0, 28, 0, 0, 0], PLAIN), (1, 4));
    assert_eq!(wrong([3, 0, 24, 0, 23, 0, 0, 0], PLAIN), (1, 4));
    assert_eq!(wrong([3, 0, 24, 0, 153, 0, 0, 0], PLAIN), (1, 4));
    assert_eq!(wrong([7, 0, 24, 24, 24, 0, 0, 0], PLAIN), (1, 4));
    // Data that begin in their header.
    assert_eq!(wrong([7, 0, 24, 23, 24, 2, 0, 0], PLAIN), (1, 3));
    assert_eq!(wrong([7, 3, 24, 27, 24, 2, 0, 0], BOTH), (1, 3));
}

#[test]
fn a_greeting_must_agree() {
    let greeting = |bytes: [u8; 16], wanted| {
        let mut header = header_of(&bytes);
        header[..8].copy_from_slice(&[1, 0, 128, 0, 128, 0, 0, 0]);
        Greeting::decode(&header, wanted).map_err(|offence| (offence.status, offence.info))
    };
    let of = |pfv: u8, cpda: u8, digests: u8, max: [u8; 4]| {
        [0, 0, 0, 0, 0, 0, 0, 0, pfv, 0, cpda, digests, max[0], max[1], max[2], max[3]]
    };
    let agreed = Greeting { digests: PLAIN, alignment_bytes: 4, data_bytes_max: 4096 };
    assert_eq!(greeting(of(0, 0, 0, [0, 0x10, 0, 0]), PLAIN), Ok(agreed));
    assert_eq!(
        greeting(of(0, 31, 3, [3, 0x10, 0, 0]), BOTH),
        Ok(Greeting { digests: BOTH, alignment_bytes: 128, ..agreed })
    );
    assert_eq!(greeting(of(1, 0, 0, [0, 0x10, 0, 0]), PLAIN), Err((6, 8)));
    assert_eq!(greeting(of(0, 32, 0, [0, 0x10, 0, 0]), PLAIN), Err((6, 10)));
    assert_eq!(greeting(of(0, 0, 1, [0, 0x10, 0, 0]), PLAIN), Err((6, 11)));
    assert_eq!(greeting(of(0, 0, 1, [0, 0x10, 0, 0]), BOTH), Err((6, 11)));
    assert_eq!(greeting(of(0, 0, 0, [0xFF, 0x0F, 0, 0]), PLAIN), Err((6, 12)));
}

#[test]
fn data_have_the_length_of_their_pdu() {
    let data = |flags: u8, bytes: [u8; 4], plen: [u8; 4]| {
        let mut first = [7, flags, 24, 24, 0, 0, 0, 0];
        first[4..].copy_from_slice(&plen);
        let mut header = header_of(&first);
        header[8..16].copy_from_slice(&[0xCD, 0xAB, 0, 0, 0, 2, 0, 0]);
        header[16..20].copy_from_slice(&bytes);
        let common = common(first, PLAIN).unwrap();
        Data::decode(&header, &common, PLAIN).map_err(|offence| (offence.status, offence.info))
    };
    let expected = Data { cid: 0xABCD, offset: 512, bytes: 1024, is_last: false, is_success: false };
    assert_eq!(data(0, [0, 4, 0, 0], [24, 4, 0, 0]), Ok(expected));
    assert_eq!(data(4, [0, 4, 0, 0], [24, 4, 0, 0]), Ok(Data { is_last: true, ..expected }));
    assert_eq!(
        data(12, [0, 4, 0, 0], [24, 4, 0, 0]),
        Ok(Data { is_last: true, is_success: true, ..expected })
    );
    assert_eq!(data(8, [0, 4, 0, 0], [24, 4, 0, 0]), Err((1, 1)));
    assert_eq!(data(0, [1, 4, 0, 0], [24, 4, 0, 0]), Err((1, 16)));
    assert_eq!(data(0, [0, 0, 0, 0], [25, 0, 0, 0]), Err((1, 16)));
    assert_eq!(data(0, [0xFF; 4], [0xFF; 4]), Err((1, 16)));
}

#[test]
fn a_header_with_a_wrong_digest_is_an_offence() {
    let first = [5, 1, 24, 0, 28, 0, 0, 0];
    let mut header = header_of(&first);
    let common = common(first, BOTH).unwrap();
    assert_eq!(common.check_digest(&header, BOTH).map_err(|offence| offence.status), Err(3));
    header[24..28].copy_from_slice(&HEADER_DIGEST_OF_RESPONSE);
    assert_eq!(common.check_digest(&header, BOTH), Ok(()));
}

#[test]
fn an_r2t_is_read_as_the_specification_says() {
    let bytes = [9, 0, 24, 0, 24, 0, 0, 0, 0x34, 0x12, 0x78, 0x56, 0, 0x10, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0];
    let expected = ReadyToTransfer { cid: 0x1234, tag: 0x5678, offset: 0x1000, bytes: 0x2000 };
    assert_eq!(ReadyToTransfer::decode(&header_of(&bytes)), expected);
}
