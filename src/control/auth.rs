//! Authentication: what is asked of initiators, and the groups of accounts they may use.

use super::error::{ChangeError, What};
use crate::iscsi::chap::{Account, Algorithm, Policy, Secret};
use crate::iscsi::login::Access;
use crate::limits::{ACCOUNTS_MAX, AUTH_GROUPS_MAX, CHAP_NAME_BYTES_MAX, CHAP_SECRET_BYTES_MAX};

/// What an initiator has to prove.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Chap {
    /// What it likes: CHAP where it offers that first and there are accounts.
    #[default]
    Either,
    /// Nothing, and nothing can be proved.
    Off,
    /// Who it is.
    Required,
    /// Who it is, and it has to ask who we are.
    Mutual,
}

impl Chap {
    /// Of the three switches in the calls.
    ///
    /// # Errors
    /// [`ChangeError::Auth`] where they contradict each other.
    pub fn from_switches(disable: bool, require: bool, mutual: bool) -> Result<Chap, ChangeError> {
        match (disable, require, mutual) {
            (false, false, false) => Ok(Chap::Either),
            (true, false, false) => Ok(Chap::Off),
            (false, true, false) => Ok(Chap::Required),
            (false, true, true) => Ok(Chap::Mutual),
            _ => Err(ChangeError::Auth),
        }
    }

    /// `disable_chap`, `require_chap`, `mutual_chap`.
    pub fn switches(self) -> (bool, bool, bool) {
        match self {
            Chap::Either => (false, false, false),
            Chap::Off => (true, false, false),
            Chap::Required => (false, true, false),
            Chap::Mutual => (false, true, true),
        }
    }
}

/// What is asked, and whose accounts count.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Auth {
    /// What is asked.
    pub chap: Chap,
    /// The authentication group; 0: none. It need not exist yet: until it does nobody can prove anything.
    pub group: u32,
}

/// Accounts under a tag.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthGroup {
    /// Its tag; not 0.
    pub tag: u32,
    /// Who may come; names are unique.
    pub accounts: Vec<Account>,
}

/// The authentication groups.
#[derive(Debug, Default)]
pub(super) struct AuthGroups(Vec<AuthGroup>);

impl AuthGroups {
    pub(super) fn iter(&self) -> impl Iterator<Item = &AuthGroup> {
        self.0.iter()
    }

    pub(super) fn create(&mut self, group: AuthGroup, allows_weak: bool) -> Result<(), ChangeError> {
        if group.tag == 0 {
            return Err(ChangeError::Range { name: "tag", value: 0, least: 1, most: u64::from(u32::MAX) });
        }
        if self.0.iter().any(|known| known.tag == group.tag) {
            return Err(ChangeError::exists(What::AuthGroup, group.tag));
        }
        if self.0.len() >= AUTH_GROUPS_MAX {
            return Err(ChangeError::TooMany { what: What::AuthGroup, most: AUTH_GROUPS_MAX });
        }
        let mut checked = AuthGroup { tag: group.tag, accounts: Vec::new() };
        for account in group.accounts {
            checked.add(account, allows_weak)?;
        }
        self.0.push(checked);
        Ok(())
    }

    pub(super) fn delete(&mut self, tag: u32) -> Result<(), ChangeError> {
        let count = self.0.len();
        self.0.retain(|group| group.tag != tag);
        if self.0.len() < count { Ok(()) } else { Err(ChangeError::missing(What::AuthGroup, tag)) }
    }

    pub(super) fn get_mut(&mut self, tag: u32) -> Result<&mut AuthGroup, ChangeError> {
        let group = self.0.iter_mut().find(|group| group.tag == tag);
        group.ok_or_else(|| ChangeError::missing(What::AuthGroup, tag))
    }

    /// The way in. Where a proof is demanded that nobody can give, nobody gets in.
    pub(super) fn access(&self, auth: Auth) -> Access {
        let group = self.0.iter().find(|group| group.tag == auth.group);
        let accounts = group.map(|group| group.accounts.as_slice()).unwrap_or_default();
        match auth.chap {
            Chap::Off => Access::Open,
            // An initiator that offers CHAP first and None second would be asked for a proof that it cannot give.
            Chap::Either if accounts.is_empty() => Access::Open,
            Chap::Either | Chap::Required | Chap::Mutual => Access::Chap(Policy {
                accounts: accounts.to_vec(),
                algorithms: Algorithm::ALL.to_vec(),
                is_required: auth.chap != Chap::Either,
                is_mutual_required: auth.chap == Chap::Mutual,
            }),
        }
    }
}

impl AuthGroup {
    pub(super) fn add(&mut self, account: Account, allows_weak: bool) -> Result<(), ChangeError> {
        check(&account, allows_weak)?;
        if self.accounts.iter().any(|known| known.initiator.name == account.initiator.name) {
            return Err(ChangeError::exists(What::User, account.initiator.name));
        }
        if self.accounts.len() >= ACCOUNTS_MAX {
            return Err(ChangeError::TooMany { what: What::User, most: ACCOUNTS_MAX });
        }
        self.accounts.push(account);
        Ok(())
    }

    /// Replaces the accounts of these users, as far as they are there: all or nothing.
    pub(super) fn replace(&mut self, accounts: Vec<Account>, allows_weak: bool) -> Result<(), ChangeError> {
        accounts.iter().try_for_each(|account| check(account, allows_weak))?;
        for account in accounts {
            let mut known = self.accounts.iter_mut();
            if let Some(known) = known.find(|known| known.initiator.name == account.initiator.name) {
                *known = account;
            }
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, user: &str) -> Result<(), ChangeError> {
        let count = self.accounts.len();
        self.accounts.retain(|account| account.initiator.name != user);
        if self.accounts.len() < count { Ok(()) } else { Err(ChangeError::missing(What::User, user)) }
    }
}

/// Whether an account can be used and kept apart from others.
fn check(account: &Account, allows_weak: bool) -> Result<(), ChangeError> {
    let credentials = [Some(&account.initiator), account.target.as_ref()];
    let why = credentials.into_iter().flatten().find_map(|credential| {
        let is_told = |name: &str| {
            !name.is_empty() && name.len() <= CHAP_NAME_BYTES_MAX && !name.chars().any(char::is_control)
        };
        let Secret(secret) = &credential.secret;
        if !is_told(&credential.name) {
            Some("a user's name has 1 to 255 bytes and no control characters")
        } else if secret.is_empty() || secret.len() > CHAP_SECRET_BYTES_MAX {
            Some("a secret has 1 to 1024 bytes")
        } else if credential.secret.is_weak() && !allows_weak {
            Some("fewer than 12 bytes can be guessed; make it 12 to 16, or start with --weak-chap")
        } else {
            None
        }
    });
    // RFC 7143 §9.2.1: with one secret for both directions the initiator could be made to answer its own challenge.
    let why =
        why.or(account.has_same_secret_both_ways().then_some("it serves both ways: choose another for one"));
    match why {
        Some(why) => Err(ChangeError::Secret { user: account.initiator.name.clone(), why }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iscsi::chap::Credential;

    fn account(user: &str, secret: &str, target: Option<&str>) -> Account {
        let credential = |name: &str, secret: &str| Credential {
            name: name.to_owned(),
            secret: Secret(secret.as_bytes().to_vec()),
        };
        Account {
            initiator: credential(user, secret),
            target: target.map(|secret| credential("lunette", secret)),
        }
    }

    #[test]
    fn switches_go_together_or_not() {
        for bits in 0..8 {
            let switches = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
            match Chap::from_switches(switches.0, switches.1, switches.2) {
                Ok(chap) => assert_eq!(chap.switches(), switches),
                Err(error) => {
                    assert_eq!(error, ChangeError::Auth);
                    assert!([3, 4, 5, 7].contains(&bits), "{switches:?}");
                }
            }
        }
    }

    #[test]
    fn accounts_that_cannot_be() {
        let refused = |account, allows_weak| {
            let mut groups = AuthGroups::default();
            match groups.create(AuthGroup { tag: 1, accounts: vec![account] }, allows_weak) {
                Ok(()) => None,
                Err(ChangeError::Secret { user, why }) => {
                    assert_eq!(groups.iter().count(), 0);
                    Some((user, why))
                }
                Err(other) => panic!("{other}"),
            }
        };
        assert_eq!(refused(account("a", "123456789012", Some("210987654321")), false), None);
        assert_eq!(refused(account("a", "12345678901", None), true), None);
        for unfit in [
            account("", "123456789012", None),
            account("a\0b", "123456789012", None),
            account("a", "", None),
            account("a", "12345678901", None),
            account("a", "123456789012", Some("12345678901")),
            account("a", "123456789012", Some("123456789012")),
            account("a", &"x".repeat(1025), None),
        ] {
            assert!(refused(unfit.clone(), false).is_some(), "{unfit:?}");
        }
    }

    #[test]
    fn users_are_unique_in_their_group() {
        let mut groups = AuthGroups::default();
        let a = account("a", "123456789012", None);
        groups.create(AuthGroup { tag: 1, accounts: vec![a.clone()] }, false).unwrap();
        assert_eq!(
            groups.create(AuthGroup { tag: 1, accounts: vec![] }, false),
            Err(ChangeError::exists(What::AuthGroup, 1))
        );
        let group = groups.get_mut(1).unwrap();
        assert_eq!(group.add(a, false), Err(ChangeError::exists(What::User, "a")));
        assert_eq!(group.remove("b"), Err(ChangeError::missing(What::User, "b")));
        assert_eq!(group.remove("a"), Ok(()));
        assert_eq!(groups.delete(2), Err(ChangeError::missing(What::AuthGroup, 2)));
        assert_eq!(groups.delete(1), Ok(()));
    }

    #[test]
    fn a_proof_that_nobody_can_give_keeps_everybody_out() {
        let mut groups = AuthGroups::default();
        let access = |groups: &AuthGroups, chap| groups.access(Auth { chap, group: 7 });
        assert_eq!(access(&groups, Chap::Either), Access::Open);
        assert_eq!(access(&groups, Chap::Off), Access::Open);
        let Access::Chap(policy) = access(&groups, Chap::Required) else { panic!("open") };
        assert_eq!((policy.accounts.len(), policy.is_required), (0, true));
        let accounts = vec![account("a", "123456789012", None)];
        groups.create(AuthGroup { tag: 7, accounts }, false).unwrap();
        let Access::Chap(policy) = access(&groups, Chap::Either) else { panic!("open") };
        assert_eq!((policy.accounts.len(), policy.is_required, policy.is_mutual_required), (1, false, false));
        let Access::Chap(policy) = access(&groups, Chap::Mutual) else { panic!("open") };
        assert_eq!((policy.is_required, policy.is_mutual_required), (true, true));
    }
}
