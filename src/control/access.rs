//! Who may come: patterns over names, ranges of addresses, and the initiator groups made of them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::error::{ChangeError, What};
use crate::limits::{INITIATOR_GROUPS_MAX, INITIATOR_RULE_BYTES_MAX, INITIATORS_MAX};

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
        fits(self.0.as_bytes(), name.as_bytes())
    }
}

/// Whether the whole of a name fits a pattern with `*` and `?`. No more is looked at than the product of both lengths.
pub fn fits(pattern: &[u8], name: &[u8]) -> bool {
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
                (p, n) = (at + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
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
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address = match address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => IpAddr::V6(inner.parse().map_err(|_| wrong())?),
            None => address.parse().map_err(|_| wrong())?,
        };
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().map_err(|_| wrong())?
            }
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

/// The initiator groups.
#[derive(Debug, Default)]
pub(super) struct InitiatorGroups {
    all: Vec<InitiatorGroup>,
    /// Tags of those that are gone but for sessions that are seen off.
    leaving: BTreeSet<u32>,
}

impl InitiatorGroups {
    pub(super) fn iter(&self) -> impl Iterator<Item = &InitiatorGroup> {
        self.all.iter()
    }

    pub(super) fn get(&self, tag: u32) -> Option<&InitiatorGroup> {
        self.all.iter().find(|group| group.tag == tag)
    }

    /// Whether a group that is there lets an initiator in.
    pub(super) fn admits(&self, tag: u32, who: Who<'_>) -> bool {
        self.get(tag).and_then(|group| group.verdict(who)) == Some(Verdict::Admit)
    }

    pub(super) fn create(&mut self, group: InitiatorGroup) -> Result<(), ChangeError> {
        if self.get(group.tag).is_some() {
            return Err(ChangeError::exists(What::InitiatorGroup, group.tag));
        }
        if self.leaving.contains(&group.tag) {
            return Err(ChangeError::leaving(What::InitiatorGroup, group.tag));
        }
        if self.all.len() >= INITIATOR_GROUPS_MAX {
            return Err(ChangeError::TooMany { what: What::InitiatorGroup, most: INITIATOR_GROUPS_MAX });
        }
        let mut checked = InitiatorGroup { tag: group.tag, initiators: Vec::new(), netmasks: Vec::new() };
        checked.add(group.initiators, group.netmasks)?;
        self.all.push(checked);
        Ok(())
    }

    pub(super) fn delete(&mut self, tag: u32) -> Result<(), ChangeError> {
        let count = self.all.len();
        self.all.retain(|group| group.tag != tag);
        if self.all.len() == count {
            return Err(ChangeError::missing(What::InitiatorGroup, tag));
        }
        self.leaving.insert(tag);
        Ok(())
    }

    /// One that was deleted is gone: its tag is free again.
    pub(super) fn forget(&mut self, tag: u32) {
        self.leaving.remove(&tag);
    }

    pub(super) fn get_mut(&mut self, tag: u32) -> Result<&mut InitiatorGroup, ChangeError> {
        let group = self.all.iter_mut().find(|group| group.tag == tag);
        group.ok_or_else(|| ChangeError::missing(What::InitiatorGroup, tag))
    }
}

impl InitiatorGroup {
    /// Adds all or nothing.
    pub(super) fn add(&mut self, names: Vec<NameRule>, netmasks: Vec<Netmask>) -> Result<(), ChangeError> {
        let mut new = self.clone();
        for name in names {
            if new.initiators.contains(&name) {
                return Err(ChangeError::exists(What::Initiator, name.text()));
            }
            new.initiators.push(name);
        }
        for netmask in netmasks {
            if new.netmasks.contains(&netmask) {
                return Err(ChangeError::exists(What::Netmask, netmask.text()));
            }
            new.netmasks.push(netmask);
        }
        for (what, count) in [(What::Initiator, new.initiators.len()), (What::Netmask, new.netmasks.len())] {
            if count > INITIATORS_MAX {
                return Err(ChangeError::TooMany { what, most: INITIATORS_MAX });
            }
        }
        *self = new;
        Ok(())
    }

    /// Removes all or nothing.
    pub(super) fn remove(&mut self, names: &[NameRule], netmasks: &[Netmask]) -> Result<(), ChangeError> {
        if let Some(name) = names.iter().find(|name| !self.initiators.contains(name)) {
            return Err(ChangeError::missing(What::Initiator, name.text()));
        }
        if let Some(netmask) = netmasks.iter().find(|netmask| !self.netmasks.contains(netmask)) {
            return Err(ChangeError::missing(What::Netmask, netmask.text()));
        }
        self.initiators.retain(|name| !names.contains(name));
        self.netmasks.retain(|netmask| !netmasks.contains(netmask));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
