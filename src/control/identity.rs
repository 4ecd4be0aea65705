//! Who a logical unit says it is, where the operator has a say: a disk that comes from another target keeps the names that
//! its initiators know it by.

use arrayvec::ArrayVec;
use serde_json::{Value, json};

use super::Control;
use super::done::Done;
use super::error::ChangeError;
use super::keeper::Then;
use super::pending::ChangeId;
use super::saving::AfterSave;
use super::unit::padded;
use crate::net::Net;
use crate::scsi::view::Identity;

/// What is chosen; the rest comes from the medium's UUID and the bdev's kind.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Chosen {
    /// T10 vendor identification, up to 8 characters.
    pub vendor: Option<String>,
    /// Product identification, up to 16 characters.
    pub product: Option<String>,
    /// Product revision level, up to 4 characters.
    pub revision: Option<String>,
    /// Unit serial number, up to 64 characters.
    pub serial: Option<String>,
    /// NAA identifier: 8 bytes, or 16 where it begins with 6h.
    pub naa: Option<ArrayVec<u8, 16>>,
    /// EUI-64 based identifier.
    pub eui64: Option<[u8; 8]>,
    /// What follows the vendor in the T10 vendor ID based designator, up to 64 characters.
    pub t10: Option<String>,
    /// Designation descriptors of the unit as initiators are to get them, instead of those made of the above.
    pub designators: Vec<Vec<u8>>,
}

/// Designators of a unit, all together: with those of ports and targets they still fit into what hosts ask for.
const DESIGNATOR_BYTES_MAX: usize = 512;

impl Chosen {
    /// Whether a unit can say so.
    ///
    /// # Errors
    /// What it cannot say.
    pub fn check(&self) -> Result<(), ChangeError> {
        let texts = [
            ("vendor", &self.vendor, 8),
            ("product", &self.product, 16),
            ("revision", &self.revision, 4),
            ("serial", &self.serial, 64),
            ("t10", &self.t10, 64),
        ];
        for (name, text, most) in texts {
            // SPC-5 §4.3.1: ASCII data fields hold printable characters.
            let is_sound = |text: &str| {
                (1..=most).contains(&text.len()) && text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
            };
            if text.as_deref().is_some_and(|text| !is_sound(text)) {
                return Err(ChangeError::Identity {
                    name,
                    why: "it is empty, too long, or not printable ASCII",
                });
            }
        }
        // SPC-5 §7.8.6.6: 2h, 3h and 5h have 8 bytes, 6h has 16.
        let is_naa = |naa: &ArrayVec<u8, 16>| match naa.first().map(|first| first >> 4) {
            Some(2 | 3 | 5) => naa.len() == 8,
            Some(6) => naa.len() == 16,
            _ => false,
        };
        if self.naa.as_ref().is_some_and(|naa| !is_naa(naa)) {
            let why = "it is 16 digits that begin with 2, 3 or 5, or 32 that begin with 6";
            return Err(ChangeError::Identity { name: "naa", why });
        }
        let bytes: usize = self.designators.iter().map(Vec::len).sum();
        if bytes > DESIGNATOR_BYTES_MAX || !self.designators.iter().all(|one| is_designator(one)) {
            let why =
                "each is a whole designation descriptor of a logical unit, and all have 512 bytes at most";
            return Err(ChangeError::Identity { name: "designators", why });
        }
        Ok(())
    }

    /// The identity with what is chosen in it.
    pub(super) fn over(&self, identity: Identity) -> Identity {
        Identity {
            vendor: self.vendor.as_deref().map_or(identity.vendor, padded),
            product: self.product.as_deref().map_or(identity.product, padded),
            revision: self.revision.as_deref().map_or(identity.revision, padded),
            serial: self.serial.clone().unwrap_or(identity.serial),
            naa: self.naa.clone().unwrap_or(identity.naa),
            eui64: self.eui64.or(identity.eui64),
            t10: self.t10.clone().or(identity.t10),
            designators: self.designators.concat(),
        }
    }

    /// A name that both would have: initiators would take them for one disk. Serial numbers are not such: there are arrays
    /// that show their own at every disk.
    fn same(&self, other: &Identity) -> Option<&'static str> {
        if self.naa.as_ref() == Some(&other.naa) {
            Some("naa")
        } else if self.eui64.is_some() && self.eui64 == other.eui64 {
            Some("eui64")
        } else if self.t10.is_some() && self.t10 == other.t10 {
            Some("t10")
        } else if self.designators.iter().any(|one| other.descriptors().any(|known| known == one)) {
            Some("designator")
        } else {
            None
        }
    }

    fn record(&self) -> Value {
        json!({
            "vendor": self.vendor, "product": self.product, "revision": self.revision, "serial": self.serial,
            "naa": self.naa.as_deref().map(hex),
            "eui64": self.eui64.as_ref().map(|eui64| hex(eui64)),
            "t10": self.t10,
            "designators": self.designators.iter().map(|one| hex(one)).collect::<Vec<_>>(),
        })
    }

    fn read(record: &Value) -> Option<Chosen> {
        let text = |name| record.get(name).and_then(Value::as_str).map(str::to_owned);
        let chosen = Chosen {
            vendor: text("vendor"),
            product: text("product"),
            revision: text("revision"),
            serial: text("serial"),
            naa: text("naa").and_then(|digits| bytes(&digits)),
            eui64: text("eui64").and_then(|digits| bytes(&digits)?.as_slice().try_into().ok()),
            t10: text("t10"),
            // Records of before have none.
            designators: match record.get("designators").and_then(Value::as_array) {
                Some(list) => list.iter().map(|one| long_bytes(one.as_str()?)).collect::<Option<_>>()?,
                None => Vec::new(),
            },
        };
        chosen.check().is_ok().then_some(chosen)
    }
}

/// A descriptor of SPC-5 §7.8.6: CODE SET 1h to 3h, ASSOCIATION 00b, and as long as it says.
fn is_designator(bytes: &[u8]) -> bool {
    matches!(bytes, [set, kind, _, length, name @ ..]
        if (1..=3).contains(&(set & 0x0f)) && kind & 0x30 == 0 && !name.is_empty() && name.len() == usize::from(*length))
}

/// Any number of bytes in hexadecimal digits, with nothing between them.
pub fn long_bytes(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8; 2]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

/// Up to 16 bytes in hexadecimal digits; a `0x` before them and `.`, `:` and `-` between them are overlooked.
pub fn bytes(text: &str) -> Option<ArrayVec<u8, 16>> {
    let text = text.strip_prefix("0x").unwrap_or(text);
    let digits: Vec<u8> = text.bytes().filter(|byte| !b".:-".contains(byte)).collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() || pairs.len() > 16 {
        return None;
    }
    let byte = |pair: &[u8; 2]| {
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        Some(digit(pair[0])? << 4 | digit(pair[1])?)
    };
    pairs.iter().map(byte).collect()
}

/// The opposite: two hexadecimal digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A choice while it is being saved.
#[derive(Debug)]
pub(super) struct Choosing {
    bdev: String,
    chosen: Chosen,
    change: ChangeId,
}

impl<N: Net> Control<N> {
    /// Chooses who the logical unit made of a bdev says it is; what is not chosen is as by default. Initiators are told. With
    /// `is_initial` a choice that was saved since stays.
    ///
    /// # Errors
    /// No such bdev, something that cannot be said, a name that another unit has, no room to save it.
    pub fn set_identity(
        &mut self,
        bdev: &str,
        chosen: Chosen,
        is_initial: bool,
        done: Done,
    ) -> Result<(), ChangeError> {
        self.pending.check_room()?;
        chosen.check()?;
        let entry = self.catalog.registry.find(bdev)?;
        if chosen != Chosen::default() && entry.spec.bdev.info().passes.is_some() {
            let why = "it is passed through, and says itself who it is";
            return Err(ChangeError::Identity { name: "bdev", why });
        }
        let bdev = entry.name.clone();
        self.check_names(&bdev, &chosen)?;
        let key = self.catalog.registry.uuid_of_bdev(&bdev).map(|uuid| identity_key(&uuid));
        let saved = key.as_ref().and_then(|key| self.store.get(key));
        // What was taken back is said too: else an old file of calls would count again.
        let record = (saved.is_some() || chosen != Chosen::default()).then(|| chosen.record());
        self.check_fits(key.as_deref(), record.as_ref())?;
        let change = self.pending.begin(done);
        if is_initial && key.as_ref().is_some_and(|key| self.store.was_found(key)) {
            self.part_done(change, true);
            return Ok(());
        }
        // Of a medium that is not known yet it is saved when that is.
        let is_early = self.store.is_there() && key.is_none();
        self.catalog.registry.set_unsaved(&bdev, is_early.then_some(is_initial));
        let choosing = Choosing { bdev, chosen, change };
        self.save(key.as_deref(), record, AfterSave::Identity(Box::new(choosing)));
        Ok(())
    }

    /// Whether no other unit has a name that is chosen.
    fn check_names(&self, bdev: &str, chosen: &Chosen) -> Result<(), ChangeError> {
        let mut others = self.catalog.registry.identities().filter(|(name, _)| *name != bdev);
        match others.find_map(|(name, identity)| Some((name, chosen.same(&identity)?))) {
            Some((other, what)) => {
                Err(ChangeError::SameName { bdev: bdev.to_owned(), other: other.to_owned(), what })
            }
            None => Ok(()),
        }
    }

    /// What is chosen of a bdev's identity.
    pub fn identity_of(&self, bdev: &str) -> Option<&Chosen> {
        self.catalog.registry.get(bdev).map(|entry| &entry.chosen)
    }

    /// A choice is saved, or cannot be.
    pub(super) fn chosen(&mut self, choosing: Choosing, is_saved: bool) {
        let Choosing { bdev, chosen, change } = choosing;
        if !is_saved {
            self.pending.not_saved(change);
        } else if let Some(view) = self.catalog.registry.choose(&bdev, chosen)
            && let Ok(true) = self.show_unit(view, None, Then::Part(change))
        {
            self.pending.add_part(change);
        }
        self.part_done(change, true);
    }

    /// Takes what was chosen of a bdev's identity from the state file, once its medium is known; what was chosen before that
    /// is saved.
    pub(super) fn recall_identity(&mut self, bdev: &str) {
        let Some(uuid) = self.catalog.registry.uuid_of_bdev(bdev) else { return };
        let key = identity_key(&uuid);
        let saved = self.store.get(&key).and_then(Chosen::read);
        let Some(entry) = self.catalog.registry.get(bdev) else { return };
        match (saved, entry.unsaved) {
            (Some(saved), None | Some(true)) => {
                if let Err(error) = self.check_names(bdev, &saved) {
                    tracing::error!(%error, "what was chosen of its identity does not count any more: choose another");
                } else {
                    // It is to be shown yet.
                    let _ = self.catalog.registry.choose(bdev, saved);
                }
            }
            (_, Some(_)) => {
                let record = Some(entry.chosen.record());
                if self.store.fits(&key, record.as_ref()) {
                    self.store.set(&key, record);
                }
            }
            (None, None) => {}
        }
        self.catalog.registry.set_unsaved(bdev, None);
    }
}

fn identity_key(uuid: &str) -> String {
    format!("identity/{uuid}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naa(digits: &str) -> Chosen {
        Chosen { naa: bytes(digits), ..Chosen::default() }
    }

    #[test]
    fn digits_are_bytes() {
        assert_eq!(bytes("0x50-01.40:5f").unwrap().as_slice(), [0x50, 0x01, 0x40, 0x5f]);
        assert!(bytes("").unwrap().is_empty());
        for wrong in ["0", "0g", "0x0x", &"0".repeat(34)] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        let with = |text: &str| Chosen { serial: Some(text.to_owned()), ..Chosen::default() };
        assert_eq!(with(&"s".repeat(64)).check(), Ok(()));
        for wrong in ["", "caf\u{e9}", "a\nb", &"s".repeat(65)] {
            with(wrong).check().unwrap_err();
        }
        for (digits, is_sound) in [
            ("5001405000000001", true),
            ("2001405000000001", true),
            ("3001405000000001", true),
            ("60014050000000010000000000000002", true),
            ("6001405000000001", false),
            ("50014050000000010000000000000002", false),
            ("4001405000000001", false),
            ("50014050000000", false),
        ] {
            assert_eq!(naa(digits).check().is_ok(), is_sound, "{digits}");
        }
    }

    #[test]
    fn designators_are_whole_and_of_a_logical_unit() {
        let with = |one: &[u8]| Chosen { designators: vec![one.to_vec()], ..Chosen::default() }.check();
        assert_eq!(with(&[0x01, 0x01, 0, 2, 0x49, 0x45]), Ok(()));
        assert_eq!(with(&[0x53, 0x88, 0, 1, b'n']), Ok(()), "a SCSI name string, with PIV");
        for wrong in [
            &[][..],
            &[1, 1, 0],
            &[1, 1, 0, 0],
            &[1, 1, 0, 2, 0x49],
            &[1, 1, 0, 1, 0x49, 0x45],
            &[0, 1, 0, 1, 0x49],
            &[4, 1, 0, 1, 0x49],
            &[1, 0x14, 0, 4, 0, 0, 0, 1],
            &[3, 0xa8, 0, 1, b'n'],
        ] {
            assert!(with(wrong).is_err(), "{wrong:02x?}");
        }
        let long = |count| Chosen {
            designators: vec![[&[1, 0, 0, 124][..], &[0; 124]].concat(); count],
            ..Chosen::default()
        };
        assert_eq!(long(4).check(), Ok(()));
        assert!(long(5).check().is_err());
    }

    #[test]
    fn two_units_do_not_have_a_designator_in_common() {
        let shown = |designators: &[&[u8]]| Chosen {
            designators: designators.iter().map(|one| one.to_vec()).collect(),
            ..Chosen::default()
        };
        let unit = Identity {
            vendor: [b' '; 8],
            product: [b' '; 16],
            revision: [b' '; 4],
            serial: String::new(),
            naa: [0x30; 8].into_iter().collect(),
            eui64: None,
            t10: None,
            designators: vec![1, 0, 0, 2, 7, 7, 2, 1, 0, 1, b'x'],
        };
        assert_eq!(shown(&[&[1, 0, 0, 1, 7], &[2, 1, 0, 1, b'x']]).same(&unit), Some("designator"));
        assert_eq!(shown(&[&[1, 0, 0, 1, 7], &[2, 1, 0, 1, b'y']]).same(&unit), None);
    }

    #[test]
    fn a_record_says_all_that_was_chosen() {
        let chosen = Chosen {
            vendor: Some("EMC".to_owned()),
            product: Some("SYMMETRIX".to_owned()),
            revision: Some("5".to_owned()),
            serial: Some("0001".to_owned()),
            naa: bytes("60014050000000010000000000000002"),
            eui64: Some([0, 1, 2, 3, 4, 5, 6, 7]),
            t10: Some("a b".to_owned()),
            designators: vec![vec![1, 1, 0, 3, 0x49, 0, 0xff], vec![2, 1, 0, 1, b'x']],
        };
        assert_eq!(Chosen::read(&chosen.record()), Some(chosen));
        assert_eq!(Chosen::read(&Chosen::default().record()), Some(Chosen::default()));
        assert_eq!(Chosen::read(&json!({ "naa": "00" })), None);
    }
}
