//! Literal bytes of PDUs, whole and cut.

use super::request::{DataOut, LoginRequest, NopOut, ScsiCommand};
use super::response::{DataIn, R2t, ScsiResponse};
use super::*;

const PLAIN: Digests = Digests { header: false, data: false };
const BOTH: Digests = Digests { header: true, data: true };

/// A NOP-In with five bytes of data, by hand.
const NOP_IN: [u8; 56] = [
    0x20, 0x80, 0, 0, 0, 0, 0, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 9, 0,
    0, 0, 3, 0, 0, 0, 0x13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'h', b'e', b'l', b'l', b'o', 0, 0, 0,
];

#[test]
fn crc32c_of_the_rfc() {
    // RFC 7143 has the vectors of RFC 3720 appendix B.4: 32 bytes of zeros, of ones, counting up.
    assert_eq!(crc32c(&[0; 32]).to_le_bytes(), [0xaa, 0x36, 0x91, 0x8a]);
    assert_eq!(crc32c(&[0xff; 32]).to_le_bytes(), [0x43, 0xab, 0xa8, 0x62]);
    let up: Vec<u8> = (0..32).collect();
    assert_eq!(crc32c(&up).to_le_bytes(), [0x4e, 0x79, 0xdd, 0x46]);
}

#[test]
fn scsi_command_bytes() {
    let mut cdb = [0; 16];
    cdb[..10].copy_from_slice(&[0x28, 0, 0, 0, 0, 1, 0, 0, 8, 0]);
    let command = ScsiCommand {
        immediate: true,
        final_bit: true,
        read: true,
        attributes: 1,
        lun: 0x0001_0000_0000_0000,
        itt: 0x1122_3344,
        expected_bytes: 4096,
        cmd_sn: 5,
        exp_stat_sn: 6,
        cdb,
        ..ScsiCommand::default()
    };
    let expected = [
        0x41, 0xc1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x11, 0x22, 0x33, 0x44, 0, 0, 0x10, 0, 0, 0, 0,
        5, 0, 0, 0, 6, 0x28, 0, 0, 0, 0, 1, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(command.bhs().0, expected);
    assert_eq!(Request::decode(&Bhs(expected)), Request::ScsiCommand(command));
}

#[test]
fn login_request_bytes() {
    let login = LoginRequest {
        transit: true,
        current_stage: 1,
        next_stage: 3,
        isid: [0x40, 0, 0, 1, 0, 2],
        tsih: 0x0102,
        itt: 1,
        cid: 3,
        cmd_sn: 4,
        ..LoginRequest::default()
    };
    let expected = [
        0x43, 0x87, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 1, 0, 2, 1, 2, 0, 0, 0, 1, 0, 3, 0, 0, 0, 0, 0, 4, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(login.bhs().0, expected);
    assert_eq!(LoginRequest::from_bhs(&Bhs(expected)), login);
}

#[test]
fn data_out_bytes() {
    let data_out = DataOut {
        final_bit: true,
        lun: 0x0002_0000_0000_0000,
        itt: 8,
        ttt: 0xaabb_ccdd,
        exp_stat_sn: 9,
        data_sn: 1,
        offset_bytes: 0x2000,
    };
    let mut expected = [0; 48];
    expected[..2].copy_from_slice(&[5, 0x80]);
    expected[9] = 2;
    expected[16..24].copy_from_slice(&[0, 0, 0, 8, 0xaa, 0xbb, 0xcc, 0xdd]);
    expected[31] = 9;
    expected[39] = 1;
    expected[42] = 0x20;
    assert_eq!(data_out.bhs().0, expected);
}

#[test]
fn responses_decode() {
    let mut bytes = [0; 48];
    bytes[..4].copy_from_slice(&[0x21, 0x82, 0, 2]);
    bytes[19] = 7;
    bytes[24..40].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4]);
    bytes[47] = 16;
    let expected = ScsiResponse {
        underflow: true,
        status: 2,
        itt: 7,
        stat_sn: 1,
        exp_cmd_sn: 2,
        max_cmd_sn: 3,
        exp_data_sn: 4,
        residual: 16,
        ..ScsiResponse::default()
    };
    assert_eq!(Response::decode(&Bhs(bytes)), Response::Scsi(expected));
    assert_eq!(expected.bhs().0, bytes);

    let r2t = R2t { itt: 1, ttt: 2, r2t_sn: 3, offset_bytes: 4096, desired_bytes: 8192, ..R2t::default() };
    let bytes = r2t.bhs().0;
    assert_eq!(bytes[..2], [0x31, 0x80]);
    assert_eq!(bytes[36..], [0, 0, 0, 3, 0, 0, 0x10, 0, 0, 0, 0x20, 0]);

    let data_in = DataIn { final_bit: true, has_status: true, ..DataIn::default() };
    assert_eq!(data_in.bhs().0[..2], [0x25, 0x81]);
    assert_eq!(Response::decode(&Bhs::new(0x3e)), Response::Unknown(0x3e));
}

#[test]
fn a_stream_in_any_chunks() {
    let mut stream = NOP_IN.to_vec();
    stream.extend_from_slice(&NOP_IN);
    for chunk in [1, 2, 47, 48, 49, 55, 56, 57, 112] {
        let mut deframer = Deframer::new(8192);
        let mut found = Vec::new();
        for mut piece in stream.chunks(chunk) {
            while let Some(pdu) = deframer.next(&mut piece).unwrap() {
                found.push(pdu.to_pdu());
            }
            assert!(piece.is_empty());
        }
        assert_eq!(found.len(), 2, "chunks of {chunk}");
        assert!(found.iter().all(|pdu| pdu.bhs.0 == NOP_IN[..48] && pdu.data == b"hello"));
    }
}

#[test]
fn digests_are_appended_and_checked() {
    let pdu = NopOut { itt: 1, ttt: NO_TAG, ..NopOut::default() }.with(*b"abc");
    let mut wire = Vec::new();
    pdu.encode(BOTH, &mut wire);
    assert_eq!(wire.len(), 48 + 4 + 4 + 4);
    assert_eq!(wire[7], 3);
    assert_eq!(wire[48..52], crc32c(&wire[..48]).to_le_bytes());
    assert_eq!(wire[52..56], *b"abc\0");
    assert_eq!(wire[56..60], crc32c(b"abc\0").to_le_bytes());

    let mut deframer = Deframer::new(8192);
    deframer.digests = BOTH;
    assert_eq!(deframer.next(&mut &wire[..]).unwrap().unwrap().data, b"abc");

    for (flaw, header) in [
        (Flaw { header_digest: true, ..Flaw::default() }, true),
        (Flaw { data_digest: true, ..Flaw::default() }, false),
    ] {
        let mut wire = Vec::new();
        pdu.encode_flawed(BOTH, flaw, &mut wire);
        let mut deframer = Deframer::new(8192);
        deframer.digests = BOTH;
        let error = deframer.next(&mut &wire[..]).unwrap_err();
        assert_eq!(matches!(error, FrameError::HeaderDigest { .. }), header);
        assert_eq!(matches!(error, FrameError::DataDigest { .. }), !header);
    }
}

#[test]
fn limits_and_padding() {
    let mut deframer = Deframer::new(4);
    let error = deframer.next(&mut &NOP_IN[..]).unwrap_err();
    assert_eq!(error, FrameError::DataTooLong { bytes: 5, bytes_max: 4 });

    let mut dirty = NOP_IN;
    dirty[55] = 1;
    assert_eq!(Deframer::new(8192).next(&mut &dirty[..]), Err(FrameError::Padding));
}

#[test]
fn flaws_reach_the_wire() {
    let mut pdu = NopOut::default().with(*b"abc");
    pdu.bhs.set_data_bytes(0xff_ffff).set_ahs_words(9);
    let mut wire = Vec::new();
    let flaw = Flaw { keep_lengths: true, padding: 0xee, ..Flaw::default() };
    pdu.encode_flawed(PLAIN, flaw, &mut wire);
    assert_eq!(wire[4..8], [9, 0xff, 0xff, 0xff]);
    assert_eq!(wire[48..], *b"abc\xee");

    wire.clear();
    pdu.encode_flawed(PLAIN, Flaw { no_padding: true, ..Flaw::default() }, &mut wire);
    assert_eq!(wire[4..8], [0, 0, 0, 3]);
    assert_eq!(wire[48..], *b"abc");
}
