//! Who may log in to a target, and how.

use crate::iscsi::chap;
use crate::iscsi::login::Access;
use crate::iscsi::negotiate::Offer;

/// A pattern over iSCSI names: `*` stands for any run of characters, `?` for one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NameGlob(String);

impl NameGlob {
    /// A pattern. iSCSI names are compared in lower case (RFC 7143 §4.2.7.3), so is this.
    pub fn new(pattern: &str) -> NameGlob {
        NameGlob(pattern.to_lowercase())
    }

    /// Whether the whole of `name` (lower case) fits.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        // Where the last `*` was and how much of the name it stands for: all that has to be gone back to.
        let mut star = None;
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, n));
                    p += 1;
                }
                Some(&byte) if byte == b'?' || byte == name[n] => {
                    p += 1;
                    n += 1;
                }
                _ => {
                    let Some((at, taken)) = star else { return false };
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
            }
        }
        pattern[p..].iter().all(|&byte| byte == b'*')
    }
}

/// An entry of an initiator group: who may come, or may not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NameRule {
    /// As the operator wrote it.
    text: String,
    glob: NameGlob,
    is_denial: bool,
}

impl NameRule {
    /// `ANY` or `ALL`, a name or a pattern; `!` before it keeps those out.
    ///
    /// # Errors
    /// [`ChangeError::InitiatorName`].
    pub fn parse(text: &str) -> Result<NameRule, ChangeError> {
        let (is_denial, name) = text.strip_prefix('!').map_or((false, text), |name| (true, name));
        let is_sound = !name.is_empty()
            && name.len() <= INITIATOR_RULE_BYTES_MAX
            && !name.chars().any(|c| c.is_control() || c.is_whitespace());
        if !is_sound {
            return Err(ChangeError::InitiatorName(text.to_owned()));
        }
        let glob = NameGlob::new(if is_any(name) { "*" } else { name });
        Ok(NameRule { text: text.to_owned(), glob, is_denial })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A range of addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Netmask {
    /// As the operator wrote it.
    text: String,
    /// None: all.
    range: Option<(IpAddr, u32)>,
}

impl Netmask {
    /// `ANY` or `ALL`, an address, or `ADDRESS/BITS`; an IPv6 address may stand in brackets.
    ///
    /// # Errors
    /// [`ChangeError::Netmask`].
    pub fn parse(text: &str) -> Result<Netmask, ChangeError> {
        let wrong = || ChangeError::Netmask(text.to_owned());
        if is_any(text) {
            return Ok(Netmask { text: text.to_owned(), range: None });
        }
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address = match address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => IpAddr::V6(inner.parse().map_err(|_| wrong())?),
            None => address.parse().map_err(|_| wrong())?,
        };
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().map_err(|_| wrong())?,
            Some(_) => return Err(wrong()),
        };
        if bits > most {
            return Err(wrong());
        }
        Ok(Netmask { text: text.to_owned(), range: Some((address, bits)) })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it covers `address`. An IPv4 address that comes by an IPv6 socket is one all the same.
    pub fn covers(&self, address: IpAddr) -> bool {
        let Some((network, bits)) = self.range else { return true };
        match (network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                (network.to_bits() ^ address.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                (network.to_bits() ^ address.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

fn is_any(text: &str) -> bool {
    text.eq_ignore_ascii_case("any") || text.eq_ignore_ascii_case("all")
}

/// Who an initiator is and where it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// Its name, lower case.
    pub initiator: &'a str,
    /// Its address.
    pub address: IpAddr,
}

/// Who may come, under a tag.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InitiatorGroup {
    /// Its tag.
    pub tag: u32,
    /// The first that fits the initiator's name counts; where none does it may not come.
    pub initiators: Vec<NameRule>,
    /// Where it has to come from: any of these.
    pub netmasks: Vec<Netmask>,
}

impl InitiatorGroup {
    /// Everybody.
    pub fn any(tag: u32) -> InitiatorGroup {
        let any = "ANY".to_owned();
        InitiatorGroup {
            tag,
            initiators: vec![NameRule { text: any.clone(), glob: NameGlob::new("*"), is_denial: false }],
            netmasks: vec![Netmask { text: any, range: None }],
        }
    }

    /// What the group says of an initiator; none where its name or address is not in it.
    pub fn verdict(&self, who: Who<'_>) -> Option<Verdict> {
        let rule = self.initiators.iter().find(|rule| rule.glob.matches(who.initiator))?;
        if rule.is_denial {
            return Some(Verdict::Deny);
        }
        self.netmasks.iter().any(|netmask| netmask.covers(who.address)).then_some(Verdict::Admit)
    }
}

/// What an initiator group says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It may come.
    Admit,
    /// It may not, whatever other groups say.
    Deny,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_names() {
        let name = "iqn.1993-08.org.debian:01:abc";
        for (pattern, expected) in [
            ("iqn.1993-08.org.debian:01:abc", true),
            ("IQN.1993-08.ORG.Debian:01:ABC", true),
            ("iqn.1993-08.org.debian:01:ab", false),
            ("iqn.1993-08.org.debian:*", true),
            ("*", true),
            ("*abc", true),
            ("*:01:*", true),
            ("*:02:*", false),
            ("*a?c", true),
            ("*abc?", false),
            ("*b*b*", true),
            ("*b*b*b*", false),
            ("", false),
        ] {
            assert_eq!(NameGlob::new(pattern).matches(name), expected, "{pattern}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_bounded_time() {
        let name = "a".repeat(223);
        assert!(!NameGlob::new(&format!("{}b", "*a".repeat(100))).matches(&name));
    }

    #[test]
    fn no_list_admits_everybody() {
        assert!(Rules::OPEN.admits("iqn.2026-11.io.example:x"));
        let listed = Rules { initiators: vec![NameGlob::new("iqn.a:*")], ..Rules::OPEN };
        assert!(listed.admits("iqn.a:1") && !listed.admits("iqn.b:1"));
    }
}
