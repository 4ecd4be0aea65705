//! An initiator port as reservations name it, and its TransportID on the wire (SPC-5 §7.6.4.6).

use std::sync::Arc;

use crate::scsi::sense::Sense;

/// FORMAT CODE 00b (a device name alone), PROTOCOL IDENTIFIER 5h (iSCSI).
const NAME_ALONE: u8 = 0x05;
/// FORMAT CODE 01b (with an ISID), PROTOCOL IDENTIFIER 5h (iSCSI).
const WITH_ISID: u8 = 0x45;
/// Before the name.
const HEAD_BYTES: usize = 4;
/// ADDITIONAL LENGTH, at least.
const BODY_BYTES_MIN: usize = 20;
/// iSCSI names, at most (RFC 7143 §4.2.7.1).
const NAME_BYTES_MAX: usize = 223;
/// Between name and ISID.
const SEPARATOR: &str = ",i,0x";
/// Digits of an ISID.
const ISID_DIGITS: usize = 12;

/// An iSCSI initiator port. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct InitiatorPort {
    /// The initiator's name, in lower case.
    pub name: Arc<str>,
    /// Its part of the session identifier.
    pub isid: [u8; 6],
}

/// What a TransportID names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Named {
    /// One initiator port (format 01b).
    Port(InitiatorPort),
    /// Every port that is known of the initiator with this name, in lower case (format 00b).
    Initiator(Arc<str>),
}

impl Named {
    /// Reads the one TransportID that `id` holds, `at` bytes into the parameter list.
    ///
    /// # Errors
    /// It is not that of an iSCSI initiator.
    pub(super) fn read(id: &[u8], at: u16) -> Result<Named, Sense> {
        if let [NAME_ALONE, rest @ ..] = id {
            let text = text(body(rest, at)?).filter(|text| is_name(text));
            return text.map(|name| Named::Initiator(name.into())).ok_or(Sense::invalid_parameter(at + 4));
        }
        InitiatorPort::read(id, at).map(Named::Port)
    }
}

impl InitiatorPort {
    /// The port of an initiator that is known by name.
    pub fn new(name: &str, isid: [u8; 6]) -> InitiatorPort {
        InitiatorPort { name: Arc::from(name), isid }
    }

    /// Length of the TransportID.
    pub(super) fn id_bytes(&self) -> usize {
        HEAD_BYTES + self.body_bytes()
    }

    /// Name, separator, ISID and a NUL, filled up to a multiple of four.
    fn body_bytes(&self) -> usize {
        let text = self.name.len() + SEPARATOR.len() + ISID_DIGITS;
        (text + 1).next_multiple_of(4).max(BODY_BYTES_MIN)
    }

    /// Hands the TransportID over, bit by bit.
    pub(super) fn write(&self, put: &mut impl FnMut(&[u8])) {
        let [high, low] = u16::try_from(self.body_bytes()).unwrap_or(u16::MAX).to_be_bytes();
        put(&[WITH_ISID, 0, high, low]);
        put(self.name.as_bytes());
        put(SEPARATOR.as_bytes());
        for byte in self.isid {
            put(&[digit(byte >> 4), digit(byte & 0x0f)]);
        }
        let text = self.name.len() + SEPARATOR.len() + ISID_DIGITS;
        for _ in text..self.body_bytes() {
            put(&[0]);
        }
    }

    /// How long the TransportID is that `ids` begins with; none where it goes beyond them.
    pub(super) fn id_bytes_of(ids: &[u8]) -> Option<usize> {
        let [_, _, high, low, ..] = ids else { return None };
        let bytes = HEAD_BYTES + usize::from(u16::from_be_bytes([*high, *low]));
        (bytes <= ids.len()).then_some(bytes)
    }

    /// Reads the one TransportID that `id` holds, `at` bytes into the parameter list.
    ///
    /// # Errors
    /// It is not that of an iSCSI initiator port, in full.
    pub(super) fn read(id: &[u8], at: u16) -> Result<InitiatorPort, Sense> {
        // SPC-5 §5.14.8: a device name alone (format 00b) does not say which nexus is meant.
        let [WITH_ISID, rest @ ..] = id else { return Err(Sense::invalid_parameter(at)) };
        port(body(rest, at)?).ok_or(Sense::invalid_parameter(at + 4))
    }
}

/// What a TransportID consists of behind its head, of which `rest` is all but the first byte.
fn body(rest: &[u8], at: u16) -> Result<&[u8], Sense> {
    let [0, high, low, body @ ..] = rest else { return Err(Sense::invalid_parameter(at)) };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length != body.len() || length < BODY_BYTES_MIN || !length.is_multiple_of(4) {
        return Err(Sense::invalid_parameter(at + 2));
    }
    Ok(body)
}

/// The text before the first NUL, behind which there are only more of them. Names count in lower case.
fn text(body: &[u8]) -> Option<String> {
    let end = body.iter().position(|byte| *byte == 0)?;
    if body[end..].iter().any(|byte| *byte != 0) {
        return None;
    }
    Some(std::str::from_utf8(&body[..end]).ok()?.to_lowercase())
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.contains(char::is_control)
}

/// Reads name, separator and ISID. The latter is a hexadecimal constant, so that leading zeros may be missing (RFC 7143 §6.1).
fn port(body: &[u8]) -> Option<InitiatorPort> {
    let text = text(body)?;
    let (name, isid) = text.split_once(SEPARATOR)?;
    let is_isid =
        (1..=ISID_DIGITS).contains(&isid.len()) && isid.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_name(name) || !is_isid {
        return None;
    }
    let [_, _, isid @ ..] = u64::from_str_radix(isid, 16).ok()?.to_be_bytes();
    Some(InitiatorPort::new(name, isid))
}

const fn digit(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'a' + nibble - 10,
    }
}
