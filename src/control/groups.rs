//! What an operator changes that reactors hear little of: groups of portals, initiators and accounts, and options.

use super::Control;
use super::access::{InitiatorGroup, NameRule, Netmask};
use super::auth::{Auth, AuthGroup};
use super::changes::is_used;
use super::done::Done;
use super::error::ChangeError;
use super::options::Options;
use super::pending::After;
use super::portals::{Listening, PortalGroup};
use crate::iscsi::chap::Account;
use crate::net::Net;

impl<N: Net> Control<N> {
    /// Takes portals into service under a tag.
    ///
    /// # Errors
    /// The tag is taken, too many, the daemon stops.
    pub fn add_portal_group(&mut self, group: PortalGroup) -> Result<(), ChangeError> {
        if self.stopping.is_some() {
            return Err(ChangeError::Stopping);
        }
        self.catalog.portals.add(group, &mut self.net)
    }

    /// Takes connections in at a group that was created to wait for this.
    ///
    /// # Errors
    /// No such group.
    pub fn start_portal_group(&mut self, tag: u16) -> Result<(), ChangeError> {
        self.catalog.portals.start(tag, &mut self.net)?;
        let changed = self.catalog.refresh_at(tag, &is_used(&self.sessions));
        self.republish(changed);
        Ok(())
    }

    /// Closes a group's portals and drops the maps that name it. Sessions stay.
    ///
    /// # Errors
    /// No such group.
    pub fn delete_portal_group(&mut self, tag: u16) -> Result<(), ChangeError> {
        // Its listeners are closed by this, and so taken out of the network.
        drop(self.catalog.portals.remove(tag)?);
        let changed = self.catalog.drop_portals(tag, &is_used(&self.sessions));
        self.republish(changed);
        Ok(())
    }

    /// Changes what discovery sessions have to prove at a group from now on.
    ///
    /// # Errors
    /// No such group.
    pub fn set_portal_group_auth(&mut self, tag: u16, auth: Auth) -> Result<(), ChangeError> {
        self.catalog.portals.get_mut(tag)?.discovery = Some(auth);
        Ok(())
    }

    /// The portal groups, in the order they came.
    pub fn portal_groups(&self) -> impl Iterator<Item = &PortalGroup> {
        self.catalog.portals.iter()
    }

    /// The portals that connections are taken in at, one after another.
    pub(super) fn listening(&self, index: usize) -> Option<Listening<'_>> {
        self.catalog.portals.listening(index)
    }

    /// A listener has failed for good.
    pub(super) fn lose_listener(&mut self, index: usize) {
        self.catalog.portals.lose(index);
    }

    /// Adds an initiator group.
    ///
    /// # Errors
    /// The tag is taken, too much.
    pub fn create_initiator_group(&mut self, group: InitiatorGroup) -> Result<(), ChangeError> {
        self.catalog.initiators.create(group)
    }

    /// Deletes an initiator group and the maps that name it. Who is not let in any more, or finds LUNs that were the group's own,
    /// is seen off (`control::review`); until those sessions are gone, which is when `done` is, the tag stays taken.
    ///
    /// # Errors
    /// No such group, or it is going already.
    pub fn delete_initiator_group(&mut self, tag: u32, done: Done) -> Result<(), ChangeError> {
        self.pending.check_room()?;
        self.catalog.initiators.delete(tag)?;
        let changed = self.catalog.drop_initiators(tag, &is_used(&self.sessions));
        self.republish(changed);
        let id = self.pending.begin(done);
        self.pending.set_after(id, After::ForgetInitiators(tag));
        self.review_or_wait(id);
        self.part_done(id, true);
        Ok(())
    }

    /// Adds to an initiator group: all or nothing. Who is kept out by that is seen off (`control::review`); `done` when
    /// those sessions are gone.
    ///
    /// # Errors
    /// No such group, something that is there already, too much.
    pub fn add_initiators(
        &mut self,
        tag: u32,
        initiators: Vec<NameRule>,
        netmasks: Vec<Netmask>,
        done: Done,
    ) -> Result<(), ChangeError> {
        self.pending.check_room()?;
        self.catalog.initiators.get_mut(tag)?.add(initiators, netmasks)?;
        let id = self.pending.begin(done);
        self.review_or_hold(id);
        self.part_done(id, true);
        Ok(())
    }

    /// Removes from an initiator group: all or nothing. Who is not let in any more is seen off (`control::review`); `done`
    /// when those sessions are gone.
    ///
    /// # Errors
    /// No such group, or something that is not there.
    pub fn remove_initiators(
        &mut self,
        tag: u32,
        initiators: &[NameRule],
        netmasks: &[Netmask],
        done: Done,
    ) -> Result<(), ChangeError> {
        self.pending.check_room()?;
        self.catalog.initiators.get_mut(tag)?.remove(initiators, netmasks)?;
        let id = self.pending.begin(done);
        self.review_or_hold(id);
        self.part_done(id, true);
        Ok(())
    }

    /// The initiator groups, in the order they came.
    pub fn initiator_groups(&self) -> impl Iterator<Item = &InitiatorGroup> {
        self.catalog.initiators.iter()
    }

    /// Adds an authentication group.
    ///
    /// # Errors
    /// The tag is taken or 0, an account that cannot be, too much.
    pub fn create_auth_group(&mut self, group: AuthGroup) -> Result<(), ChangeError> {
        self.catalog.auths.create(group, self.catalog.options.allows_weak_secrets)
    }

    /// Deletes an authentication group: who needs it cannot log in any more. Sessions stay.
    ///
    /// # Errors
    /// No such group.
    pub fn delete_auth_group(&mut self, tag: u32) -> Result<(), ChangeError> {
        self.catalog.auths.delete(tag)
    }

    /// Adds an account to a group.
    ///
    /// # Errors
    /// No such group, the user is there already, a secret that cannot be, too many.
    pub fn add_account(&mut self, tag: u32, account: Account) -> Result<(), ChangeError> {
        self.catalog.auths.get_mut(tag)?.add(account, self.catalog.options.allows_weak_secrets)
    }

    /// Replaces a group's accounts of the same users: all or nothing. Those that are not there stay out.
    ///
    /// # Errors
    /// No such group, a secret that cannot be.
    pub fn replace_accounts(&mut self, tag: u32, accounts: Vec<Account>) -> Result<(), ChangeError> {
        self.catalog.auths.get_mut(tag)?.replace(accounts, self.catalog.options.allows_weak_secrets)
    }

    /// Removes an account from a group.
    ///
    /// # Errors
    /// No such group or user.
    pub fn remove_account(&mut self, tag: u32, user: &str) -> Result<(), ChangeError> {
        self.catalog.auths.get_mut(tag)?.remove(user)
    }

    /// The authentication groups, in the order they came.
    pub fn auth_groups(&self) -> impl Iterator<Item = &AuthGroup> {
        self.catalog.auths.iter()
    }

    /// The options.
    pub fn options(&self) -> &Options {
        &self.catalog.options
    }

    /// Changes them; what is changed concerns logins from now on.
    ///
    /// # Errors
    /// One is out of its range.
    pub fn set_options(&mut self, options: Options) -> Result<(), ChangeError> {
        options.check()?;
        self.sessions.set_count_max(options.sessions_max);
        self.catalog.options = options;
        Ok(())
    }
}
