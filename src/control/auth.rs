//! Authentication: what is asked of initiators, and the groups of accounts they may use.

use super::error::{ChangeError, What};
use crate::iscsi::chap::{Account, Algorithm, Policy, Secret};
use crate::iscsi::login::Access;
use crate::limits::{ACCOUNTS_MAX, AUTH_GROUPS_MAX};

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
