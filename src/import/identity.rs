//! Who a disk says it is, and what names its medium.

use sha1::{Digest as _, Sha1};

use super::report::{Place, Report};
use super::text;

/// Who a logical unit says it is; what is not given is lunette's own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Identity {
    /// T10 vendor identification.
    pub(super) vendor: Option<String>,
    /// Product identification.
    pub(super) product: Option<String>,
    /// Product revision level.
    pub(super) revision: Option<String>,
    /// Unit serial number.
    pub(super) serial: Option<String>,
    /// NAA identifier.
    pub(super) naa: Option<Vec<u8>>,
    /// EUI-64 identifier.
    pub(super) eui64: Option<[u8; 8]>,
    /// The designators of VPD 83h, as the other target sends them.
    pub(super) designators: Vec<Vec<u8>>,
}

impl Identity {
    /// Sets a field where the text can be said of a unit, and tells where it cannot.
    pub(super) fn set(&mut self, field: Field, text: &str, place: &Place, report: &mut Report) {
        let (name, most, slot) = match field {
            Field::Vendor => ("vendor", 8, &mut self.vendor),
            Field::Product => ("product", 16, &mut self.product),
            Field::Revision => ("revision", 4, &mut self.revision),
            Field::Serial => ("serial number", 64, &mut self.serial),
        };
        if text::is_printable(text, most) {
            *slot = Some(text.to_owned());
        } else {
            report
                .cannot(place, format_args!("{name} {text:?}: 1 to {most} printable characters can be told"));
        }
    }
}

/// A field of [`Identity`] that is text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Field {
    /// T10 vendor identification.
    Vendor,
    /// Product identification.
    Product,
    /// Product revision level.
    Revision,
    /// Unit serial number.
    Serial,
}

/// A designation descriptor of a logical unit (SPC-5 §7.8.6): CODE SET, DESIGNATOR TYPE, what it says. None where it says
/// nothing or too much.
pub(super) fn designator(code_set: u8, kind: u8, name: &[u8]) -> Option<Vec<u8>> {
    let length = u8::try_from(name.len()).ok().filter(|length| *length > 0)?;
    Some([&[code_set, kind, 0, length], name].concat())
}

/// Whether these are an NAA identifier (SPC-5 §7.8.6.6).
pub(super) fn is_naa(naa: &[u8]) -> bool {
    match naa.first().map(|first| first >> 4) {
        Some(2 | 3 | 5) => naa.len() == 8,
        Some(6) => naa.len() == 16,
        _ => false,
    }
}

/// What names a medium that has no name of its own: the same for the same words (RFC 9562 §5.5, version 5).
pub(super) fn uuid(called: &[&str]) -> [u8; 16] {
    /// The name space of imported disks.
    const NAME_SPACE: [u8; 16] = *b"\x6c\x75\x6e\x65\x74\x74\x45\x69\x8d\x70\x6f\x72\x74\x65\x64\x21";
    let mut hash = Sha1::new();
    hash.update(NAME_SPACE);
    for word in called {
        // What separates them is in none of them.
        hash.update(word.as_bytes());
        hash.update([0]);
    }
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&hash.finalize()[..16]);
    uuid[6] = 0x50 | uuid[6] & 0x0f;
    uuid[8] = 0x80 | uuid[8] & 0x3f;
    uuid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_are_told_apart_by_what_they_are_called() {
        let one = uuid(&["tgt", "iqn.a:b", "1"]);
        assert_eq!(one, uuid(&["tgt", "iqn.a:b", "1"]));
        assert_ne!(one, uuid(&["tgt", "iqn.a:b1", ""]));
        assert_eq!((one[6] >> 4, one[8] >> 6), (5, 2));
    }

    #[test]
    fn designators_say_something_and_not_too_much() {
        assert_eq!(designator(2, 1, b"ab"), Some(b"\x02\x01\0\x02ab".to_vec()));
        assert_eq!(designator(2, 1, b""), None);
        assert_eq!(designator(2, 1, &[b'x'; 256]), None);
    }
}
