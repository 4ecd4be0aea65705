//! The bytes of a connection before full feature phase, and a discovery session behind it.

use std::sync::Arc;

use lunette::id::SessionId;
use lunette::iscsi::chap::{Account, Algorithm, Credential, Policy, Secret};
use lunette::iscsi::discovery::{Discovery, Progress as DiscoveryProgress};
use lunette::iscsi::login::{
    Access, Authority, Claim, Established, Granted, Login, Progress, Proof, Refusal, TargetAccess, Which,
};
use lunette::iscsi::negotiate::Offer;
use lunette::iscsi::sn::Sn;
use lunette::scsi::view::TargetView;

use super::keys;
use super::pdu;
use super::source::Source;
use super::views;

/// What a login may make us hold for its peer, with room to spare: the largest answer is bounded by the text we take.
const OUTGOING_BYTES_MAX: usize = 1024 * 1024;

struct Desk {
    target: Arc<TargetView>,
    with_chap: bool,
    claims: u32,
}

impl Desk {
    fn access(&self) -> Access {
        if !self.with_chap {
            return Access::Open;
        }
        let secret = Secret(b"0123456789ab".to_vec());
        let account = Account { initiator: Credential { name: "user".to_owned(), secret }, target: None };
        Access::Chap(Policy {
            accounts: vec![account],
            algorithms: Algorithm::ALL.to_vec(),
            is_required: true,
            is_mutual_required: false,
        })
    }
}

impl Authority for Desk {
    fn discovery(&self, _: &str) -> Result<Access, Refusal> {
        Ok(self.access())
    }

    fn target(&self, name: &str, _: &str) -> Result<TargetAccess, Refusal> {
        if name != views::TARGET {
            return Err(Refusal::NotFound);
        }
        let target = Arc::clone(&self.target);
        Ok(TargetAccess { access: self.access(), target, offer: Offer::DEFAULT })
    }

    fn claim(&mut self, claim: &Claim<'_>) -> Result<Granted, Refusal> {
        self.claims += 1;
        if claim.tsih != 0 {
            return Err(Refusal::NoSuchSession);
        }
        Ok(Granted { session: SessionId(1), tsih: 1, window: 8, joined: None })
    }

    fn random(&mut self, out: &mut [u8]) {
        out.fill(0x5a);
    }

    fn send_targets(&self, _: &str, _: Which<'_>, out: &mut dyn FnMut(&TargetView)) {
        out(&self.target);
    }
}

pub(super) fn one(data: &[u8]) {
    let mut source = Source::new(data);
    let shape = source.byte();
    let chunk = [1, 7, 47, 48, 49, 8192, 100_000, 256][usize::from(shape & 7)];
    let bytes = if shape & 8 == 0 { requests(&mut source) } else { source.rest().to_vec() };
    let mut desk = Desk { target: Arc::new(views::target()), with_chap: shape & 16 != 0, claims: 0 };
    let mut login = Login::new(Sn(u32::MAX));
    let mut said = Vec::new();
    let mut left = &bytes[..];
    loop {
        let (now, later) = left.split_at(left.len().min(chunk));
        left = later;
        let progress = login.received(now, &mut desk);
        said.extend_from_slice(login.outgoing());
        let sent = login.outgoing().len();
        login.sent(sent);
        assert!(said.len() <= OUTGOING_BYTES_MAX + bytes.len(), "{} bytes of answers", said.len());
        match progress {
            Progress::More if left.is_empty() => break,
            Progress::More => {}
            Progress::Established => {
                assert_eq!(desk.claims, 1);
                let Ok(established) = login.into_established() else { panic!("all was sent") };
                // Nobody guesses a digest.
                assert!(!desk.with_chap, "{:?} without the secret", established.proof);
                assert_eq!(established.proof, Proof::None);
                if established.target.is_none() {
                    discovery(established, left, chunk, &desk);
                }
                break;
            }
            Progress::Refused(_) | Progress::Closed(_) => {
                // Over is over.
                assert_eq!(login.received(b"more", &mut desk), progress);
                assert!(login.into_established().is_err());
                break;
            }
        }
    }
    for response in pdu::split(&said, false, false) {
        assert_eq!(response[0], 0x23, "only Login Responses are said");
    }
}

fn discovery(established: Established, mut left: &[u8], chunk: usize, desk: &Desk) {
    let (header_digest, data_digest) = (established.params.header_digest, established.params.data_digest);
    let mut discovery = Discovery::new(established);
    let mut now: &[u8] = &[];
    let mut said = Vec::new();
    loop {
        let progress = discovery.received(now, desk);
        said.extend_from_slice(discovery.outgoing());
        discovery.sent(usize::MAX);
        assert!(said.len() <= OUTGOING_BYTES_MAX, "{} bytes of answers", said.len());
        if progress != DiscoveryProgress::More || left.is_empty() {
            break;
        }
        (now, left) = left.split_at(left.len().min(chunk));
    }
    for response in pdu::split(&said, header_digest, data_digest) {
        assert!(matches!(response[0], 0x20 | 0x24 | 0x26 | 0x3f), "opcode {:#x}", response[0]);
    }
}

/// Login requests, mostly in order, then a few PDUs of a discovery session.
fn requests(source: &mut Source<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let (isid, tsih) = ([0x80, 0, 0, 0, 0, 1], if source.once_in(8) { 1 } else { 0 });
    let mut cmd_sn = 1_u32;
    let mut is_first = true;
    let mut stages = if source.once_in(2) { 0x81_u8 } else { 0x87 };
    for _ in 0..source.below(12) {
        let mut text = Vec::new();
        if is_first && !source.once_in(16) {
            text.extend_from_slice(b"InitiatorName=iqn.2025-01.com.example:fuzz\0");
            text.extend_from_slice(match source.below(4) {
                0 | 1 => b"SessionType=Normal\0TargetName=iqn.2025-01.com.example:disk\0",
                _ => &b"SessionType=Discovery\0"[..],
            });
            if stages == 0x81 {
                text.extend_from_slice(match source.below(3) {
                    0 => b"AuthMethod=CHAP,None\0",
                    1 => b"AuthMethod=CHAP\0",
                    _ => b"AuthMethod=None\0",
                });
            }
        } else if source.once_in(3) {
            text.extend_from_slice(match source.below(3) {
                0 => b"CHAP_A=7,5\0",
                1 => b"CHAP_N=user\0CHAP_R=0x00112233445566778899aabbccddeeff\0",
                _ => b"SendTargets=All\0",
            });
        }
        if source.once_in(2) {
            text.extend(keys::words(source));
        }
        let mut bhs = [0; 48];
        let later = out.len() > 2000 || source.once_in(6);
        let op = if later { source.pick(&[0x04, 0x44, 0x00, 0x40, 0x06, 0x46, 0x01]) } else { 0x43 };
        bhs[0] = op;
        bhs[1] = if op == 0x43 { stages } else { 0x80 };
        bhs[8..14].copy_from_slice(&isid);
        bhs[14..16].copy_from_slice(&u16::to_be_bytes(tsih));
        bhs[16..20].copy_from_slice(&[0, 0, 0, 1]);
        if op != 0x43 {
            bhs[20..24].fill(0xff);
        }
        bhs[24..28].copy_from_slice(&cmd_sn.to_be_bytes());
        if op != 0x43 && op & 0x40 == 0 {
            cmd_sn = cmd_sn.wrapping_add(1);
        }
        if source.once_in(16) {
            let at = source.below(48);
            bhs[at] = source.byte();
        }
        if stages == 0x81 && source.once_in(2) {
            stages = 0x87;
        }
        is_first = false;
        pdu::append(&mut out, bhs, &text, false, false);
    }
    out.extend_from_slice(source.take(100));
    out
}
