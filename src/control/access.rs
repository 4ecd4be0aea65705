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

/// A target's rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Who may come; everybody where empty.
    pub initiators: Vec<NameGlob>,
    /// What they have to prove; nothing where none.
    pub chap: Option<chap::Policy>,
    /// Our side of the negotiation.
    pub offer: Offer,
}

impl Rules {
    /// Everybody may come, as they are.
    pub const OPEN: Rules = Rules { initiators: Vec::new(), chap: None, offer: Offer::DEFAULT };

    /// Whether `initiator` (lower case) may see the target at all.
    pub fn admits(&self, initiator: &str) -> bool {
        self.initiators.is_empty() || self.initiators.iter().any(|glob| glob.matches(initiator))
    }

    /// The way in.
    pub fn access(&self) -> Access {
        access(self.chap.as_ref())
    }
}

/// The way in under a CHAP policy or without one.
pub(super) fn access(chap: Option<&chap::Policy>) -> Access {
    chap.map_or(Access::Open, |policy| Access::Chap(policy.clone()))
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
