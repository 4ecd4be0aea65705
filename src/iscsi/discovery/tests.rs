//! Requests and responses byte by byte.

use super::*;
use crate::id::SessionId;
use crate::iscsi::login::{Access, Claim, Granted, Proof, Refusal, TargetAccess};
use crate::iscsi::negotiate::DEFAULTS;
use crate::iscsi::wire::crc32c;

/// Control, with so many targets.
struct Control(usize);

impl Authority for Control {
    fn discovery(&self, _: &str) -> Result<Access, Refusal> {
        Err(Refusal::Forbidden)
    }

    fn target(&self, _: &str, _: &str) -> Result<TargetAccess, Refusal> {
        Err(Refusal::Forbidden)
    }

    fn claim(&mut self, _: &Claim<'_>) -> Result<Granted, Refusal> {
        Err(Refusal::Forbidden)
    }

    fn random(&mut self, _: &mut [u8]) {}

    fn send_targets(&self, initiator: &str, which: Which<'_>, out: &mut dyn FnMut(&TargetView)) {
        assert_eq!(initiator, "iqn.2026-11.example:host");
        for index in 0..self.0 {
            let target = TargetView {
                name: format!("iqn.2026-11.example:{index:03}"),
                alias: String::new(),
                relative_port: 1,
                ports: vec![1],
                port_groups: vec![1],
                portal_groups: vec![1],
                histogram: None,
                port_group: 1,
                portal_group: 1,
                lun_map: None,
                portals: vec!["[::1]:3260,1".into()],
                mappings: vec![],
            };
            if which == Which::All || which == Which::Name(&target.name) {
                out(&target);
            }
        }
    }
}

const RECORD: &str = "TargetName=iqn.2026-11.example:000;TargetAddress=[::1]:3260,1;";

struct Talk {
    discovery: Discovery,
    control: Control,
    cmd_sn: u8,
}

impl Talk {
    fn new(targets: usize, params: Params) -> Talk {
        let granted = Granted { session: SessionId(1), tsih: 1, window: 4, joined: None };
        let discovery = Discovery::new(Established {
            exp_stat_sn: Sn(0),
            initiator: "iqn.2026-11.example:host".into(),
            alias: None,
            isid: [0; 6],
            cid: 3,
            target: None,
            params,
            proof: Proof::None,
            granted,
            stat_sn: Sn(0x20),
            exp_cmd_sn: Sn(0x40),
            leftover: vec![],
        });
        Talk { discovery, control: Control(targets), cmd_sn: 0x40 }
    }

    fn send(&mut self, bytes: &[u8]) -> Progress {
        self.discovery.received(bytes, &self.control)
    }

    fn take(&mut self) -> Vec<u8> {
        let bytes = self.discovery.outgoing().to_vec();
        self.discovery.sent(bytes.len());
        bytes
    }

    /// A Text request and what its response says: flags, target transfer tag, text.
    fn text(&mut self, flags: u8, ttt: u32, text: &str) -> (u8, u32, String) {
        let bytes = pdu(0x04, flags, 0x55, ttt, self.cmd_sn, text.replace(';', "\0").as_bytes());
        self.cmd_sn += 1;
        assert_eq!(self.send(&bytes), Progress::More);
        let bytes = self.take();
        assert_eq!((bytes[0], &bytes[16..20], bytes[31]), (0x24, &[0, 0, 0, 0x55][..], self.cmd_sn));
        let text_bytes = usize::from(bytes[6]) * 256 + usize::from(bytes[7]);
        assert_eq!(bytes.len(), 48 + text_bytes.next_multiple_of(4));
        let ttt = u32::from_be_bytes(bytes[20..24].try_into().unwrap());
        let text = String::from_utf8(bytes[48..48 + text_bytes].to_vec()).unwrap();
        (bytes[1], ttt, text.replace('\0', ";"))
    }
}

fn pdu(opcode: u8, flags: u8, itt: u32, ttt: u32, cmd_sn: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 48];
    bytes[0] = opcode;
    bytes[1] = flags;
    bytes[6..8].copy_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
    bytes[16..20].copy_from_slice(&itt.to_be_bytes());
    bytes[20..24].copy_from_slice(&ttt.to_be_bytes());
    bytes[27] = cmd_sn;
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn talk() -> Talk {
    Talk::new(1, DEFAULTS)
}

#[test]
fn send_targets_byte_for_byte() {
    let mut talk = talk();
    let request = pdu(0x04, 0x80, 0x0102, TAG_NONE, 0x40, b"SendTargets=All\0");
    assert_eq!(talk.send(&request), Progress::More);
    #[rustfmt::skip]
    let header = [
        0x24, 0x80, 0, 0, 0, 0, 0, 62,
        0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 1, 2, 0xff, 0xff, 0xff, 0xff,
        0, 0, 0, 0x20, 0, 0, 0, 0x41,
        0, 0, 0, 0x44, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let text = b"TargetName=iqn.2026-11.example:000\0TargetAddress=[::1]:3260,1\0\0\0";
    assert_eq!(talk.take(), [&header[..], text].concat());
}

#[test]
fn which_targets() {
    for (asked, answered) in [
        ("SendTargets=All;", RECORD),
        ("SendTargets=iqn.2026-11.EXAMPLE:000;", RECORD),
        ("SendTargets=iqn.2026-11.example:999;", ""),
        ("SendTargets=;", "SendTargets=Reject;"),
        ("SendTargets=all;", "SendTargets=Reject;"),
        ("X-a=;InitialR2T=No;", "X-a=NotUnderstood;InitialR2T=Reject;"),
        ("", ""),
    ] {
        assert_eq!(talk().text(0x80, TAG_NONE, asked), (0x80, TAG_NONE, answered.into()), "{asked}");
    }
    assert_eq!(Talk::new(0, DEFAULTS).text(0x80, TAG_NONE, "SendTargets=All;"), (0x80, TAG_NONE, "".into()));
}

#[test]
fn a_long_list_comes_in_pieces() {
    let mut talk = Talk::new(20, Params { send_segment_bytes_max: 512, ..DEFAULTS });
    let mut all = String::new();
    let mut answer = talk.text(0x80, TAG_NONE, "SendTargets=All;");
    assert_eq!(answer.0, 0x40, "there is more to come");
    while answer.0 == 0x40 {
        assert_eq!((answer.1, answer.2.len()), (TEXT_TAG, 512));
        all += &answer.2;
        answer = talk.text(0x80, TEXT_TAG, "");
    }
    assert_eq!((answer.0, answer.1), (0x80, TAG_NONE));
    all += &answer.2;
    assert_eq!(all.len(), 20 * RECORD.len());
    assert!(all.starts_with(RECORD) && all.ends_with("TargetAddress=[::1]:3260,1;"));
}

#[test]
fn a_request_in_pieces() {
    let mut talk = talk();
    assert_eq!(talk.text(0x40, TAG_NONE, "SendTar"), (0x00, TEXT_TAG, "".into()));
    assert_eq!(talk.text(0x00, TEXT_TAG, "gets=All;"), (0x00, TEXT_TAG, RECORD.into()));
    assert_eq!(talk.text(0x80, TEXT_TAG, ""), (0x80, TAG_NONE, "".into()));
    // A new exchange abandons the old.
    assert_eq!(talk.text(0x40, TAG_NONE, "SendTar"), (0x00, TEXT_TAG, "".into()));
    assert_eq!(talk.text(0x80, TAG_NONE, "SendTargets=All;"), (0x80, TAG_NONE, RECORD.into()));
}

#[test]
fn what_is_rejected() {
    let text = |flags, ttt, data: &[u8]| pdu(0x44, flags, 5, ttt, 0x40, data);
    for (bytes, reason) in [
        (pdu(0x41, 0x80, 5, 0, 0x40, b""), 0x04),
        (pdu(0x42, 0x81, 5, 0, 0x40, b""), 0x04),
        (pdu(0x43, 0x87, 5, 0, 0x40, b""), 0x04),
        (pdu(0x05, 0x80, 5, 0, 0x40, b"data"), 0x04),
        (pdu(0x10, 0x80, 5, 0, 0x40, b""), 0x04),
        (pdu(0x1c, 0x80, 5, 0, 0x40, b""), 0x05),
        (text(0x80, 7, b""), 0x04),
        (text(0x80, TEXT_TAG, b""), 0x04),
        (text(0xc0, TAG_NONE, b""), 0x04),
        (text(0x80, TAG_NONE, b"SendTargets"), 0x04),
        (text(0x80, TAG_NONE, b"X=\0IFMarker=No\0IFMarker=No\0"), 0x04),
    ] {
        let mut talk = talk();
        assert_eq!(talk.send(&bytes), Progress::More);
        #[rustfmt::skip]
        let header = [
            0x3f, 0x80, reason, 0, 0, 0, 0, 48,
            0, 0, 0, 0, 0, 0, 0, 0,
            0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
            0, 0, 0, 0x20, 0, 0, 0, 0x40,
            0, 0, 0, 0x43, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(talk.take(), [&header, &bytes[..48]].concat());
        assert_eq!(talk.text(0x80, TAG_NONE, "SendTargets=All;").2, RECORD, "it goes on");
    }
}

#[test]
fn nop_and_logout() {
    let mut talk = talk();
    assert_eq!(talk.send(&pdu(0x40, 0x80, TAG_NONE, TAG_NONE, 0x40, b"")), Progress::More);
    assert_eq!(talk.take(), b"");
    assert_eq!(talk.send(&pdu(0x00, 0x80, 9, TAG_NONE, 0x40, b"ping!")), Progress::More);
    let echo = talk.take();
    assert_eq!(
        (&echo[..8], &echo[16..24]),
        (&[0x20, 0x80, 0, 0, 0, 0, 0, 5][..], &[0, 0, 0, 9, 0xff, 0xff, 0xff, 0xff][..])
    );
    assert_eq!(&echo[48..], b"ping!\0\0\0");
    // Another connection, which there is not; recovery, which there is not; then the session.
    for (flags, cid, response, progress) in
        [(0x81, 4, 1, Progress::More), (0x82, 3, 2, Progress::More), (0x81, 3, 0, Progress::Finished)]
    {
        assert_eq!(talk.send(&pdu(0x46, flags, 9, cid << 16, 0x41, b"")), progress);
        let bytes = talk.take();
        assert_eq!((bytes.len(), &bytes[..3]), (48, &[0x26, 0x80, response][..]));
        assert_eq!(bytes[40..44], [0, 2, 0, 20]);
    }
    assert_eq!(talk.send(&pdu(0x40, 0x80, 9, TAG_NONE, 0x41, b"")), Progress::Finished);
    assert_eq!(talk.take(), b"");
}

#[test]
fn serial_numbers() {
    let nop = |cmd_sn| pdu(0x00, 0x80, 9, TAG_NONE, cmd_sn, b"");
    let mut talk = talk();
    // Before its time, and beyond the window of four: ignored.
    for cmd_sn in [0x3f, 0x44] {
        assert_eq!(talk.send(&nop(cmd_sn)), Progress::More);
        assert_eq!(talk.take(), b"");
    }
    assert_eq!(talk.send(&nop(0x40)), Progress::More);
    assert_eq!(talk.take()[24..36], [0, 0, 0, 0x20, 0, 0, 0, 0x41, 0, 0, 0, 0x44]);
    assert_eq!(talk.send(&nop(0x42)), Progress::Closed(Why::CommandLost));
}

#[test]
fn digests() {
    let params = Params { header_digest: true, data_digest: true, ..DEFAULTS };
    let plain = pdu(0x04, 0x80, 5, TAG_NONE, 0x40, b"SendTargets=All\0");
    let mut bytes = plain[..48].to_vec();
    bytes.extend(crc32c(&[&plain[..48]]));
    bytes.extend(&plain[48..]);
    bytes.extend(crc32c(&[&plain[48..]]));
    let mut talk = Talk::new(1, params);
    assert_eq!(talk.send(&bytes), Progress::More);
    let answer = talk.take();
    assert_eq!(answer.len(), 48 + 4 + 64 + 4);
    assert_eq!(answer[48..52], crc32c(&[&answer[..48]]));
    assert_eq!(answer[116..], crc32c(&[&answer[52..116]]));
    bytes[50] ^= 1;
    assert_eq!(Talk::new(1, params).send(&bytes), Progress::Closed(Why::Digest));
}

#[test]
fn a_reader_that_does_not_read() {
    let mut talk = talk();
    let nops = pdu(0x40, 0x80, 9, TAG_NONE, 0, &[7; 1000]).repeat(200);
    assert_eq!(talk.send(&nops), Progress::More);
    assert!(!talk.discovery.wants_input());
    assert!(talk.discovery.outgoing().len() < OUTGOING_BYTES_MAX + 1048);
    let mut answered = 0;
    while !talk.discovery.outgoing().is_empty() {
        answered += talk.take().len();
        assert_eq!(talk.send(b""), Progress::More);
    }
    assert_eq!(answered, 200 * 1048);
    assert_eq!(talk.send(&pdu(0x40, 0x80, 9, 0, 0, &[0; 8193])), Progress::Closed(Why::TooLong(8193)));
}
