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
        self.show_unit(view, None, Then::Nothing)
    }

    /// The same, `except` being the session that has asked for it and so is not told, and `then` what follows; nothing
    /// does where the view is as it was.
    pub(super) fn show_unit(
        &mut self,
        view: UnitView,
        except: Option<SessionId>,
        then: Then,
    ) -> Result<(), CatalogError> {
        let view = Arc::new(view);
        let old = self.catalog.replace_unit(Arc::clone(&view))?;
        if old == view {
            return Ok(());
        }
        let attention = attention(&old, &view);
        let is_drained = takes_away(&old, &view);
        self.barrier(Change::Unit { view, attention, except, is_drained }, then);
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
    } else if (old.read_only, old.modes) != (new.read_only, new.modes) {
        Some(Ua::ModeChanged)
    } else {
        None
    }
}

/// Whether something that was allowed no longer is: a shrink, write protection, a medium that goes.
fn takes_away(old: &UnitView, new: &UnitView) -> bool {
    new.blocks < old.blocks
        || new.block_bytes != old.block_bytes
        || (new.is_write_protected() && !old.is_write_protected())
        || (new.is_write_through() && !old.is_write_through())
        || (new.medium != Medium::Ready && old.medium == Medium::Ready)
}
