//! Who may come to a target of ctld's, and what that has to prove.

use crate::import::braces::Node;
use crate::import::model::{Access, Account, Auth};
use crate::import::report::Report;
use crate::import::text::{is_initiator_rule, netmask};

/// What a group of accounts is for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Kind {
    /// By its accounts.
    #[default]
    Accounts,
    Open,
    Deny,
}

/// An auth-group, or what a target says in its place.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct AuthGroup {
    pub(super) kind: Kind,
    pub(super) accounts: Vec<Account>,
    pub(super) names: Vec<String>,
    pub(super) addresses: Vec<String>,
    /// A name was said that could not be read.
    pub(super) is_name_lost: bool,
    /// The same of an address.
    pub(super) is_address_lost: bool,
}

impl AuthGroup {
    /// Lets nobody in.
    pub(super) fn nobody() -> AuthGroup {
        AuthGroup { kind: Kind::Deny, ..AuthGroup::default() }
    }

    /// Takes a statement over; whether it is one of these.
    pub(super) fn take(&mut self, node: &Node, report: &mut Report) -> bool {
        let word = |index| node.word(index).to_owned();
        match node.key() {
            "auth-type" => match node.word(1) {
                "none" => self.kind = Kind::Open,
                "deny" => self.kind = Kind::Deny,
                _ => {}
            },
            "chap" => self.accounts.push(Account { user: word(1), secret: word(2), target: None }),
            "chap-mutual" => {
                self.accounts.push(Account {
                    user: word(1),
                    secret: word(2),
                    target: Some((word(3), word(4))),
                });
            }
            "initiator-name" if is_initiator_rule(node.word(1)) => self.names.push(word(1)),
            "initiator-portal" => match netmask(node.word(1)) {
                Some(netmask) => self.addresses.push(netmask),
                None => {
                    self.is_address_lost = true;
                    report.cannot(&node.place, format_args!("initiator-portal {}: no address", node.word(1)));
                }
            },
            "initiator-name" => {
                self.is_name_lost = true;
                report.cannot(&node.place, format_args!("initiator-name {}: no name", node.word(1)))
            }
            _ => return false,
        }
        true
    }

    pub(super) fn auth(&self) -> Auth {
        let mut accounts: Vec<Account> = Vec::new();
        for account in &self.accounts {
            if accounts.iter().all(|known| known.user != account.user) {
                accounts.push(account.clone());
            }
        }
        // Of chap-mutual too: an initiator that does not ask who we are is let in by ctld as well.
        if accounts.is_empty() { Auth::Open } else { Auth::Chap(accounts) }
    }

    /// ctld lets in who fits both lists, each if there is one.
    pub(super) fn access(&self) -> Vec<Access> {
        let is_lost = |is_lost: bool, rest: &[String]| is_lost && rest.is_empty();
        // A rule that could not be read lets nobody in, not everybody.
        let is_closed =
            is_lost(self.is_name_lost, &self.names) || is_lost(self.is_address_lost, &self.addresses);
        if self.kind == Kind::Deny || is_closed {
            return Vec::new();
        }
        let mut access = Access::any();
        if !self.names.is_empty() {
            access.initiators.clone_from(&self.names);
        }
        if !self.addresses.is_empty() {
            access.netmasks.clone_from(&self.addresses);
        }
        vec![access]
    }
}
