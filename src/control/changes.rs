//! What an operator changes while sessions run.

use std::sync::Arc;

use super::Control;
use super::catalog::{CatalogError, TargetSpec};
use super::keeper::Then;
use crate::bdev::Bdev;
use crate::id::{SessionId, UnitId};
use crate::net::Net;
use crate::reactor::message::{Change, EndReason, ToReactor};
use crate::scsi::attention::Ua;
use crate::scsi::view::{LunNumber, Mapping, Medium, TargetView, UnitView};
use crate::time::Tick;

impl<N: Net> Control<N> {
    /// Makes a logical unit of a device; targets can map it from now on. `product` is shown by INQUIRY.
    ///
    /// # Errors
    /// A second unit of the same name, or a device that cannot be a SCSI disk.
    pub fn add_unit(&mut self, bdev: Arc<dyn Bdev>, product: &str) -> Result<UnitId, CatalogError> {
        let view = self.catalog.add_unit(Arc::clone(&bdev), product)?;
        self.outbox.broadcast(|| ToReactor::AddUnit { view: Arc::clone(&view), bdev: Arc::clone(&bdev) });
        Ok(view.id)
    }

    /// Serves a target.
    ///
    /// # Errors
    /// A name that is none or is taken, LUNs given twice or without a unit, portals that are not there.
    pub fn add_target(&mut self, spec: TargetSpec) -> Result<Arc<TargetView>, CatalogError> {
        self.catalog.add_target(spec)
    }

    /// Adds a LUN to a target.
    ///
    /// # Errors
    /// No such target or unit, or the number is taken.
    pub fn add_lun(&mut self, target: &str, mapping: Mapping) -> Result<(), CatalogError> {
        let target = self.catalog.add_lun(target, mapping)?;
        self.publish_target(target);
        Ok(())
    }

    /// Removes a LUN from a target.
    ///
    /// # Errors
    /// No such target or LUN.
    pub fn remove_lun(&mut self, target: &str, number: LunNumber) -> Result<(), CatalogError> {
        let target = self.catalog.remove_lun(target, number)?;
        self.publish_target(target);
        Ok(())
    }

    /// Shows a unit as its device is now: to be called when that was resized.
    ///
    /// # Errors
    /// No such unit, or a device that can no longer be served.
    pub fn reread_unit(&mut self, id: UnitId) -> Result<(), CatalogError> {
        let view = self.catalog.reread_unit(id)?;
        self.replace_unit(view)
    }

    /// Shows a unit differently. Initiators are told what concerns them; a change that takes something away waits for the
    /// IO that a device has.
    ///
    /// # Errors
    /// No such unit.
    pub fn replace_unit(&mut self, view: UnitView) -> Result<(), CatalogError> {
        let view = Arc::new(view);
        let old = self.catalog.replace_unit(Arc::clone(&view))?;
        if old == view {
            return Ok(());
        }
        let attention = attention(&old, &view);
        let is_drained = takes_away(&old, &view);
        self.barrier(Change::Unit { view, attention, is_drained }, Then::Nothing);
        Ok(())
    }

    /// Ends a session; its initiator may log in again.
    pub fn end_session(&mut self, session: SessionId, now: Tick) {
        self.sessions.end(session, EndReason::Removed);
        self.run_steps(now);
    }

    fn publish_target(&mut self, target: Arc<TargetView>) {
        self.barrier(Change::Target { target, attention: Some(Ua::LunsChanged) }, Then::Nothing);
    }
}

/// What sessions are told of a change (SBC-4 §4.7, SPC-5 §6.6).
fn attention(old: &UnitView, new: &UnitView) -> Option<Ua> {
    if (old.blocks, old.block_bytes) != (new.blocks, new.block_bytes) {
        Some(Ua::CapacityChanged)
    } else if old.identity != new.identity {
        Some(Ua::InquiryChanged)
    } else if (old.read_only, old.write_cache, old.descriptor_sense)
        != (new.read_only, new.write_cache, new.descriptor_sense)
    {
        Some(Ua::ModeChanged)
    } else {
        None
    }
}

/// Whether something that was allowed no longer is: a shrink, write protection, a medium that goes.
fn takes_away(old: &UnitView, new: &UnitView) -> bool {
    new.blocks < old.blocks
        || new.block_bytes != old.block_bytes
        || (new.read_only && !old.read_only)
        || (new.medium != Medium::Ready && old.medium == Medium::Ready)
}

/// A target to be served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewTarget {
    /// Its name: an iSCSI name, or the part behind [`Options::node_base`].
    pub name: String,
    /// Shown at login and in lists; may be empty.
    pub alias: String,
    /// Its LUNs: bdev, and number where one is wanted (else the lowest that is free).
    pub luns: Vec<(String, Option<LunNumber>)>,
    /// Which portal groups lead to it (tag), and for whom (tag of an initiator group).
    pub maps: Vec<(u16, u32)>,
    /// What initiators have to prove.
    pub auth: Auth,
    /// CRC32C of headers is demanded.
    pub demands_header_digest: bool,
    /// CRC32C of data is demanded.
    pub demands_data_digest: bool,
    /// Kept and given back; the window of a session is set by what it uses.
    pub queue_depth: u32,
}

/// A connection, as far as it has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connection {
    /// Its session, once it has one that a reactor serves.
    pub session: Option<SessionId>,
    /// TSIH, once there is one.
    pub tsih: Option<u16>,
    /// Connection ID.
    pub cid: u16,
    /// Where it stands.
    pub phase: Phase,
    /// The initiator's name, once known.
    pub initiator: Option<String>,
    /// The target's name, once known; none in a discovery session.
    pub target: Option<String>,
    /// The initiator's address.
    pub peer: SocketAddr,
    /// The address here.
    pub local: SocketAddr,
    /// Tag of the portal group it came in at.
    pub portal_group: u16,
    /// Where it is served; none while control has it.
    pub reactor: Option<ReactorId>,
}

/// Where a connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Logging in.
    Login,
    /// A discovery session.
    Discovery,
    /// Served by its reactor.
    FullFeature,
    /// Being closed, or closed while a device still has IO of it.
    Ending,
}

impl<N: Net> Control<N> {
    /// Takes a block device in; targets can map it from now on.
    ///
    /// # Errors
    /// Name or UUID taken, a base that is not there, is part of another bdev or is served; too many.
    pub fn register_bdev(&mut self, spec: BdevSpec) -> Result<(), ChangeError> { todo!() }

    /// The block device of this name, or whose UUID this is in its usual form.
    pub fn bdev(&self, name: &str) -> Option<&registry::Entry> { todo!() }

    /// The block devices, in the order they came.
    pub fn bdevs(&self) -> impl Iterator<Item = &registry::Entry> { [].iter() }

    /// Replaces what is kept of how a bdev was made (it was resized).
    ///
    /// # Errors
    /// No such bdev.
    pub fn set_recipe(&mut self, name: &str, recipe: String) -> Result<(), ChangeError> { todo!() }

    /// Shows a bdev as it is now: to be called when it was resized.
    ///
    /// # Errors
    /// No such bdev, or it can no longer be served.
    pub fn reread_bdev(&mut self, name: &str, done: Done) -> Result<(), ChangeError> { todo!() }

    /// Takes a bdev out of service, and what is made of it first: its LUNs go, commands at them end, and when every reactor
    /// has let go of it `done` gets the device itself. Until then the name stays taken.
    ///
    /// # Errors
    /// No such bdev, or it is going already.
    pub fn unregister_bdev(&mut self, name: &str, done: Done) -> Result<(), ChangeError> { todo!() }

    /// Serves a target; returns its whole name.
    ///
    /// # Errors
    /// A name that is none or is taken, LUNs given twice or without a bdev, groups that are not there, too many.
    pub fn create_target(&mut self, target: NewTarget) -> Result<String, ChangeError> { todo!() }

    /// Stops to serve a target: no more logins; its sessions are asked to log out, and ended a little later; `done` when the last of
    /// their IO has come back. Until then the name stays taken.
    ///
    /// # Errors
    /// No such target, or it is going already.
    pub fn delete_target(&mut self, name: &str, done: Done, now: Tick) -> Result<(), ChangeError> { todo!() }

    /// Adds a LUN, at the lowest number that is free where none is given; returns it.
    ///
    /// # Errors
    /// No such target or bdev, the number is taken, the bdev cannot be served, too many.
    pub fn map_lun(&mut self, target: &str, bdev: &str, number: Option<LunNumber>) -> Result<LunNumber, ChangeError> { todo!() }

    /// Removes a LUN; `done` when no device has IO that came by it any more.
    ///
    /// # Errors
    /// No such target or LUN.
    pub fn unmap_lun(&mut self, target: &str, number: LunNumber, done: Done) -> Result<(), ChangeError> { todo!() }

    /// Adds pairs of portal group tag and initiator group tag to a target: all or none.
    ///
    /// # Errors
    /// No such target or group, a pair that is there already, too many.
    pub fn add_maps(&mut self, target: &str, maps: &[(u16, u32)]) -> Result<(), ChangeError> { todo!() }

    /// Removes pairs from a target: all or none. Sessions stay.
    ///
    /// # Errors
    /// No such target or pair.
    pub fn remove_maps(&mut self, target: &str, maps: &[(u16, u32)]) -> Result<(), ChangeError> { todo!() }

    /// Changes what initiators have to prove to a target from now on.
    ///
    /// # Errors
    /// No such target.
    pub fn set_target_auth(&mut self, target: &str, auth: Auth) -> Result<(), ChangeError> { todo!() }

    /// The targets, in the order they came; those that are being deleted left out.
    pub fn targets(&self) -> impl Iterator<Item = TargetInfo<'_>> { std::iter::empty() }

    /// Takes portals into service under a tag.
    ///
    /// # Errors
    /// The tag is taken, no portal, too many.
    pub fn add_portal_group(&mut self, group: PortalGroup) -> Result<(), ChangeError> { todo!() }

    /// Takes connections in at a group that was created to wait for this.
    ///
    /// # Errors
    /// No such group.
    pub fn start_portal_group(&mut self, tag: u16) -> Result<(), ChangeError> { todo!() }

    /// Closes a group's portals and drops the maps that name it. Sessions stay.
    ///
    /// # Errors
    /// No such group.
    pub fn delete_portal_group(&mut self, tag: u16) -> Result<(), ChangeError> { todo!() }

    /// Changes what discovery sessions have to prove at a group from now on.
    ///
    /// # Errors
    /// No such group.
    pub fn set_portal_group_auth(&mut self, tag: u16, auth: Auth) -> Result<(), ChangeError> { todo!() }

    /// The portal groups, in the order they came.
    pub fn portal_groups(&self) -> impl Iterator<Item = &PortalGroup> { [].iter() }

    /// Adds an initiator group.
    ///
    /// # Errors
    /// The tag is taken, too much.
    pub fn create_initiator_group(&mut self, group: InitiatorGroup) -> Result<(), ChangeError> { todo!() }

    /// Deletes an initiator group and the maps that name it. Sessions stay.
    ///
    /// # Errors
    /// No such group.
    pub fn delete_initiator_group(&mut self, tag: u32) -> Result<(), ChangeError> { todo!() }

    /// Adds to an initiator group: all or nothing.
    ///
    /// # Errors
    /// No such group, something that is there already, too much.
    pub fn add_initiators(&mut self, tag: u32, initiators: Vec<NameRule>, netmasks: Vec<Netmask>) -> Result<(), ChangeError> { todo!() }

    /// Removes from an initiator group: all or nothing. Sessions stay.
    ///
    /// # Errors
    /// No such group, or something that is not there.
    pub fn remove_initiators(&mut self, tag: u32, initiators: &[NameRule], netmasks: &[Netmask]) -> Result<(), ChangeError> { todo!() }

    /// The initiator groups, in the order they came.
    pub fn initiator_groups(&self) -> impl Iterator<Item = &InitiatorGroup> { [].iter() }

    /// Adds an authentication group.
    ///
    /// # Errors
    /// The tag is taken or 0, an account that cannot be, too much.
    pub fn create_auth_group(&mut self, group: AuthGroup) -> Result<(), ChangeError> { todo!() }

    /// Deletes an authentication group: who needs it cannot log in any more. Sessions stay.
    ///
    /// # Errors
    /// No such group.
    pub fn delete_auth_group(&mut self, tag: u32) -> Result<(), ChangeError> { todo!() }

    /// Adds an account to a group.
    ///
    /// # Errors
    /// No such group, the user is there already, a secret that cannot be, too many.
    pub fn add_account(&mut self, tag: u32, account: Account) -> Result<(), ChangeError> { todo!() }

    /// Removes an account from a group.
    ///
    /// # Errors
    /// No such group or user.
    pub fn remove_account(&mut self, tag: u32, user: &str) -> Result<(), ChangeError> { todo!() }

    /// The authentication groups, in the order they came.
    pub fn auth_groups(&self) -> impl Iterator<Item = &AuthGroup> { [].iter() }

    /// The options.
    pub fn options(&self) -> &Options { todo!() }

    /// Changes them; what is changed concerns logins from now on.
    ///
    /// # Errors
    /// One is out of its range.
    pub fn set_options(&mut self, options: Options) -> Result<(), ChangeError> { todo!() }

    /// Every connection, those that are logging in first.
    pub fn connections(&self) -> Vec<Connection> { todo!() }
}

/// A target, for lists.
#[derive(Clone, Debug)]
pub struct TargetInfo<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its alias; may be empty.
    pub alias: &'a str,
    /// A small number that it keeps: SPDK's SCSI device id.
    pub id: u32,
    /// LUN and bdev, ascending.
    pub luns: Vec<(LunNumber, &'a str)>,
    /// Portal group tag and initiator group tag.
    pub maps: &'a [(u16, u32)],
    /// What initiators have to prove.
    pub auth: Auth,
    /// CRC32C of headers is demanded.
    pub demands_header_digest: bool,
    /// CRC32C of data is demanded.
    pub demands_data_digest: bool,
    /// As it was given.
    pub queue_depth: u32,
}
