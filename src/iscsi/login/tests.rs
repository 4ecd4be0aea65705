//! Requests are written byte by byte, responses are compared as bytes and text; digests of CHAP come from Python's
//! hashlib.

use super::*;
use crate::id::SessionId;
use crate::iscsi::chap::{self, Account, Algorithm, Credential, Secret};
use crate::iscsi::negotiate::{DEFAULTS, DigestOffer, Offer};

mod authentication;
mod hostile;
mod refusals;

const INITIATOR: &str = "InitiatorName=iqn.2026-11.example:Host;";
const NAMES: &str = "InitiatorName=iqn.2026-11.example:Host;TargetName=iqn.2026-11.example:disk;";
const ISID: [u8; 6] = [0x40, 0, 0x01, 0x37, 0, 0x05];
const GRANTED: Granted = Granted { session: SessionId(9), tsih: 0x0102, window: 8, joined: None };

/// Control, of one target.
struct Control {
    access: Access,
    offer: Offer,
    /// Instead of the target, or of discovery.
    refusal: Option<Refusal>,
    claimed: Vec<(String, [u8; 6], u16, u16, bool)>,
    claim: Result<Granted, Refusal>,
}

impl Control {
    fn open() -> Control {
        Control {
            access: Access::Open,
            offer: Offer::DEFAULT,
            refusal: None,
            claimed: vec![],
            claim: Ok(GRANTED),
        }
    }

    fn chap(change: impl FnOnce(&mut chap::Policy)) -> Control {
        let credential =
            |name: &str, secret: &[u8]| Credential { name: name.into(), secret: Secret(secret.into()) };
        let mut policy = chap::Policy {
            accounts: vec![Account {
                initiator: credential("user", b"secret of twelve"),
                target: Some(credential("target", b"target's own secret")),
            }],
            algorithms: Algorithm::ALL.into(),
            is_required: true,
            is_mutual_required: false,
        };
        change(&mut policy);
        Control { access: Access::Chap(policy), ..Control::open() }
    }
}

fn disk() -> TargetView {
    TargetView {
        name: "iqn.2026-11.example:disk".into(),
        alias: "a disk".into(),
        relative_port: 1,
        ports: vec![1],
        port_groups: vec![1],
        portal_groups: vec![1],
        histogram: None,
        port_group: 1,
        portal_group: 7,
        lun_map: None,
        portals: vec!["127.0.0.1:3260,7".into()],
        mappings: vec![],
    }
}

impl Authority for Control {
    fn discovery(&self, initiator: &str) -> Result<Access, Refusal> {
        assert_eq!(initiator, initiator.to_lowercase());
        self.refusal.clone().map_or(Ok(self.access.clone()), Err)
    }

    fn target(&self, name: &str, initiator: &str) -> Result<TargetAccess, Refusal> {
        assert_eq!(initiator, initiator.to_lowercase());
        match &self.refusal {
            Some(refusal) => Err(refusal.clone()),
            None if name != disk().name => Err(Refusal::NotFound),
            None => {
                Ok(TargetAccess { access: self.access.clone(), target: Arc::new(disk()), offer: self.offer })
            }
        }
    }

    fn claim(&mut self, claim: &Claim<'_>) -> Result<Granted, Refusal> {
        self.claimed.push((
            claim.initiator.into(),
            claim.isid,
            claim.tsih,
            claim.cid,
            claim.target.is_some(),
        ));
        self.claim.clone()
    }

    fn random(&mut self, out: &mut [u8]) {
        match out {
            [id] => *id = 0x2a,
            bytes => bytes.iter_mut().zip(1..).for_each(|(byte, value)| *byte = value),
        }
    }

    fn send_targets(&self, _: &str, _: Which<'_>, _: &mut dyn FnMut(&TargetView)) {}
}

/// A login request. `flags` is T, C, CSG and NSG; in `text` a NUL is written `;`.
fn request(flags: u8, text: &str) -> Vec<u8> {
    let text = text.replace(';', "\0");
    let [high, low] = u16::try_from(text.len()).unwrap().to_be_bytes();
    #[rustfmt::skip]
    let header = [
        0x43, flags, 0, 0, 0, 0, high, low, // opcode and I, flags, versions, lengths
        0x40, 0, 0x01, 0x37, 0, 0x05, 0, 0, // ISID, TSIH
        0, 0, 0xab, 0xcd, 0, 3, 0, 0,       // ITT, CID
        0, 0, 0, 0x7b, 0, 0, 0, 0,          // CmdSN, ExpStatSN
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let padding = vec![0; text.len().wrapping_neg() % 4];
    [&header[..], text.as_bytes(), &padding].concat()
}

/// What a response says.
#[derive(PartialEq, Eq, Debug)]
struct Said {
    flags: u8,
    status: [u8; 2],
    text: String,
}

fn said(flags: u8, text: &str) -> Said {
    Said { flags, status: [0, 0], text: text.into() }
}

struct Talk {
    login: Login,
    control: Control,
    stat_sn: u8,
    last: Vec<u8>,
}

impl Talk {
    fn new(control: Control) -> Talk {
        Talk { login: Login::new(Sn(0x10)), control, stat_sn: 0x10, last: vec![] }
    }

    fn send(&mut self, bytes: &[u8]) -> Progress {
        self.login.received(bytes, &mut self.control)
    }

    /// Takes the one response there is.
    fn response(&mut self) -> Said {
        let bytes = self.login.outgoing().to_vec();
        self.login.sent(bytes.len());
        let text_bytes = usize::from(bytes[6]) * 256 + usize::from(bytes[7]);
        assert_eq!(bytes.len(), 48 + text_bytes.next_multiple_of(4), "one PDU");
        assert_eq!(bytes[..1], [0x23]);
        assert_eq!(bytes[2..6], [0, 0, 0, 0], "versions and additional headers");
        assert_eq!(bytes[8..14], ISID);
        assert_eq!(bytes[16..20], [0, 0, 0xab, 0xcd]);
        assert_eq!(bytes[24..28], [0, 0, 0, self.stat_sn]);
        self.stat_sn += 1;
        let text = String::from_utf8(bytes[48..48 + text_bytes].to_vec()).unwrap().replace('\0', ";");
        let said = Said { flags: bytes[1], status: [bytes[36], bytes[37]], text };
        self.last = bytes;
        said
    }

    fn say(&mut self, flags: u8, text: &str) -> Said {
        let progress = self.send(&request(flags, text));
        assert_eq!(progress, Progress::More);
        self.response()
    }

    fn finish(&mut self, flags: u8, text: &str) -> Said {
        assert_eq!(self.send(&request(flags, text)), Progress::Established);
        self.response()
    }

    /// The next request is refused.
    fn refused(&mut self, bytes: &[u8]) -> ([u8; 2], Why) {
        let Progress::Refused(why) = self.send(bytes) else { panic!("{:?}", self.login) };
        assert_eq!(self.send(bytes), Progress::Refused(why.clone()), "it is over");
        let said = self.response();
        assert!(said.flags & 0xc3 == 0, "{:x}", said.flags);
        assert!(self.login.granted().is_none());
        (said.status, why)
    }
}

#[test]
fn two_requests_without_authentication() {
    let mut talk = Talk::new(Control::open());
    assert_eq!(
        talk.say(0x81, &format!("{NAMES}SessionType=Normal;AuthMethod=None;InitiatorAlias=me;")),
        said(0x81, "TargetPortalGroupTag=7;AuthMethod=None;")
    );
    assert_eq!(talk.last[14..16], [0, 0], "no TSIH yet");
    assert_eq!(talk.last[28..36], [0, 0, 0, 0x7b, 0, 0, 0, 0x7b], "no window yet");
    assert_eq!(
        (talk.login.initiator(), talk.login.target()),
        (Some("iqn.2026-11.example:host"), Some("iqn.2026-11.example:disk"))
    );
    assert_eq!(talk.control.claimed, []);
    let mut bytes = request(0x87, "HeaderDigest=CRC32C,None;InitialR2T=No;MaxRecvDataSegmentLength=65536;");
    bytes.extend([1, 2, 3]);
    assert_eq!(talk.send(&bytes), Progress::Established);
    assert_eq!(talk.login.granted(), Some(&GRANTED));
    // Not before the response is written to the end.
    let written = talk.login.outgoing().len() - 1;
    let mut login = std::mem::replace(&mut talk.login, Login::new(Sn(0)));
    login = *login.into_established().unwrap_err();
    let outgoing = login.outgoing().to_vec();
    login.sent(written);
    login = *login.into_established().unwrap_err();
    login.sent(1);
    let established = login.into_established().unwrap();
    let text = b"MaxRecvDataSegmentLength=262144\0TargetAlias=a disk\0HeaderDigest=CRC32C\0InitialR2T=No\0";
    #[rustfmt::skip]
    assert_eq!(outgoing[..48], [
        0x23, 0x87, 0, 0, 0, 0, 0, 85,
        0x40, 0, 0x01, 0x37, 0, 0x05, 0x01, 0x02,
        0, 0, 0xab, 0xcd, 0, 0, 0, 0,
        0, 0, 0, 0x11, 0, 0, 0, 0x7b,
        0, 0, 0, 0x82, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,
    ]);
    assert_eq!(&outgoing[48..48 + 85], text);
    assert_eq!(talk.control.claimed, [("iqn.2026-11.example:host".into(), ISID, 0, 3, true)]);
    let Established {
        initiator,
        alias,
        isid,
        cid,
        target,
        params,
        proof,
        granted,
        stat_sn,
        exp_cmd_sn,
        leftover,
        exp_stat_sn: _,
    } = established;
    assert_eq!((initiator.as_str(), alias.as_deref()), ("iqn.2026-11.example:host", Some("me")));
    assert_eq!((isid, cid, granted, proof), (ISID, 3, GRANTED, Proof::None));
    assert_eq!(*target.unwrap(), disk());
    let expected = Params {
        header_digest: true,
        initial_r2t: false,
        send_segment_bytes_max: 65536,
        recv_segment_bytes_max: 262_144,
        ..DEFAULTS
    };
    assert_eq!(params, expected);
    assert_eq!((stat_sn, exp_cmd_sn, leftover), (Sn(0x12), Sn(0x7b), vec![1, 2, 3]));
}

#[test]
fn one_request_suffices() {
    let mut talk = Talk::new(Control::open());
    assert_eq!(
        talk.finish(0x87, NAMES),
        said(0x87, "TargetPortalGroupTag=7;MaxRecvDataSegmentLength=262144;TargetAlias=a disk;")
    );
    // From the security stage, where nothing operational is declared.
    let mut talk = Talk::new(Control::open());
    assert_eq!(talk.finish(0x83, NAMES), said(0x83, "TargetPortalGroupTag=7;"));
    assert_eq!(talk.login.into_established().unwrap().params, DEFAULTS);
}

#[test]
fn requests_that_move_nothing() {
    let mut talk = Talk::new(Control::open());
    assert_eq!(talk.say(0x00, NAMES), said(0x00, "TargetPortalGroupTag=7;"));
    assert_eq!(talk.say(0x00, ""), said(0x00, ""));
    assert_eq!(talk.say(0x81, ""), said(0x81, ""));
    assert_eq!(talk.say(0x04, ""), said(0x04, "MaxRecvDataSegmentLength=262144;TargetAlias=a disk;"));
    assert_eq!(talk.finish(0x87, ""), said(0x87, ""));
}

#[test]
fn names_may_be_repeated_and_operational_keys_come_early() {
    let mut talk = Talk::new(Control::open());
    assert_eq!(
        talk.say(0x81, &format!("{NAMES}HeaderDigest=None;")),
        said(0x81, "TargetPortalGroupTag=7;HeaderDigest=None;")
    );
    assert_eq!(
        talk.finish(0x87, &format!("{NAMES}SessionType=Normal;DataDigest=None;")),
        said(0x87, "MaxRecvDataSegmentLength=262144;TargetAlias=a disk;DataDigest=None;")
    );
}

#[test]
fn a_discovery_session() {
    let mut talk = Talk::new(Control::open());
    assert_eq!(
        talk.finish(0x87, &format!("{INITIATOR}SessionType=Discovery;MaxBurstLength=512;")),
        said(0x87, "MaxRecvDataSegmentLength=8192;MaxBurstLength=Irrelevant;")
    );
    assert_eq!(talk.control.claimed, [("iqn.2026-11.example:host".into(), ISID, 0, 3, false)]);
    assert!(talk.login.into_established().unwrap().target.is_none());
}

#[test]
fn text_in_several_requests() {
    let mut talk = Talk::new(Control::open());
    assert_eq!(talk.say(0x44, "InitiatorName=iqn.2026-11.exam"), said(0x04, ""));
    assert_eq!(talk.say(0x44, "ple:host;TargetName=iqn.2026-1"), said(0x04, ""));
    assert_eq!(
        talk.finish(0x87, "1.example:disk;"),
        said(0x87, "TargetPortalGroupTag=7;MaxRecvDataSegmentLength=262144;TargetAlias=a disk;")
    );
}

#[test]
fn an_answer_in_several_responses() {
    let mut talk = Talk::new(Control::open());
    let keys: String = (0..500).map(|key| format!("X-a.long.name.{key:03}=;")).collect();
    assert_eq!(talk.say(0x44, &format!("{NAMES}{}", &keys[..5000])), said(0x04, ""));
    let first = talk.say(0x87, &keys[5000..]);
    assert_eq!((first.flags, first.text.len()), (0x44, 8192), "C, and T waits");
    assert_eq!(talk.control.claimed, []);
    let second = talk.finish(0x87, "");
    assert_eq!(second.flags, 0x87);
    let all = first.text + &second.text;
    assert!(all.starts_with("TargetPortalGroupTag=7;MaxRecv"));
    assert!(all.ends_with("X-a.long.name.499=NotUnderstood;"));
    assert_eq!(all.matches("=NotUnderstood;").count(), 500);
}

#[test]
fn byte_by_byte() {
    let mut talk = Talk::new(Control::open());
    let bytes = request(0x87, NAMES);
    let (last, head) = bytes.split_last().unwrap();
    for byte in head {
        assert_eq!(talk.send(&[*byte]), Progress::More);
        assert_eq!(talk.login.outgoing(), b"");
    }
    assert_eq!(talk.send(&[*last]), Progress::Established);
}

#[test]
fn joining_a_session() {
    let mut control = Control::open();
    let params = Params { max_burst_bytes: 777, header_digest: true, ..DEFAULTS };
    let granted = Granted { joined: Some(Joined { params, exp_cmd_sn: Sn(500) }), tsih: 0x55, ..GRANTED };
    control.claim = Ok(granted);
    let mut talk = Talk::new(control);
    let mut bytes = request(0x87, &format!("{NAMES}MaxBurstLength=512;MaxRecvDataSegmentLength=512;"));
    bytes[15] = 0x55;
    assert_eq!(talk.send(&bytes), Progress::Established);
    let text =
        "TargetPortalGroupTag=7;MaxRecvDataSegmentLength=262144;TargetAlias=a disk;MaxBurstLength=Reject;";
    assert_eq!(talk.response(), said(0x87, text));
    assert_eq!(talk.last[28..36], [0, 0, 0x01, 0xf4, 0, 0, 0x01, 0xfb]);
    assert_eq!(talk.control.claimed, [("iqn.2026-11.example:host".into(), ISID, 0x55, 3, true)]);
    let established = talk.login.into_established().unwrap();
    let expected = Params {
        max_burst_bytes: 777,
        send_segment_bytes_max: 512,
        recv_segment_bytes_max: 262_144,
        ..DEFAULTS
    };
    assert_eq!((established.params, established.exp_cmd_sn), (expected, Sn(500)));
}
