//! What a bdev's name stands for: a namespace, or the place of one whose controller was pulled out, given up, or is not there yet.
//!
//! A seat outlives its tenants, so that the LUNs which lead to it stay. Only the medium that it is kept for may sit down there.

use std::sync::{Arc, MutexGuard, PoisonError};

use super::channel::Way;
use super::controller::shared::{Answer, Disk, Query};
use super::namespace::Tenant;
use crate::bdev::space::Temperature;
use crate::bdev::{Erasure, Info, Offloads};
use crate::id::ReactorId;

/// What is known of a namespace that is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Vacancy {
    /// What names its medium; all zeroes where that is not known.
    pub(crate) uuid: [u8; 16],
    /// Its block size.
    pub(crate) block_bytes: u32,
    /// How many blocks it had; 0 where that is not known.
    pub(crate) blocks: u64,
}

impl Vacancy {
    /// Of a namespace that is there.
    pub(super) fn of(disk: &Disk) -> Vacancy {
        let namespace = disk.namespace();
        Vacancy { uuid: disk.uuid, block_bytes: namespace.block_bytes, blocks: namespace.blocks }
    }
}

/// A seat.
pub(crate) struct Seat {
    name: String,
    /// Of the controller of who sits there.
    temperature: Arc<Temperature>,
    #[expect(
        clippy::disallowed_types,
        reason = "held for assignments; a reactor asks once for each tenant, as IO goes to one that is there only"
    )]
    state: std::sync::Mutex<State>,
}

struct State {
    vacancy: Vacancy,
    /// Who sits there, or did last.
    tenant: Option<Tenant>,
    /// Who wanted to sit down last and may not, and why.
    refused: Option<(Arc<Disk>, Refusal)>,
}

/// Why a namespace may not sit down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// Somebody sits there.
    #[error("the one before is still there")]
    Taken,
    /// It is not the medium that the seat is kept for.
    #[error("another medium is there than the one it was made of")]
    OtherMedium,
    /// It was formatted since.
    #[error("the medium has blocks of {is} bytes now, not of {was} as before")]
    BlockSize {
        /// Of the namespace.
        is: u32,
        /// Of who sat there.
        was: u32,
    },
    /// It has lost blocks since.
    #[error("the medium has {is} blocks now, not {was} as before")]
    Smaller {
        /// Of the namespace.
        is: u64,
        /// Of who sat there.
        was: u64,
    },
}

impl State {
    /// The namespace that is there.
    fn present(&self) -> Option<&Tenant> {
        self.tenant.as_ref().filter(|tenant| !tenant.disk.is_removed())
    }

    /// Whether a namespace may sit down: nobody does, it is the medium that the seat is kept for, and what initiators and arrays know
    /// of that is true still.
    fn admit(&self, disk: &Disk) -> Result<(), Refusal> {
        if self.present().is_some() {
            return Err(Refusal::Taken);
        }
        if self.vacancy.uuid == [0; 16] {
            // Nobody knows what is awaited.
            return Ok(());
        }
        if self.vacancy.uuid != disk.uuid {
            return Err(Refusal::OtherMedium);
        }
        let (is, was) = (disk.namespace(), self.vacancy.block_bytes);
        if is.block_bytes != was {
            return Err(Refusal::BlockSize { is: is.block_bytes, was });
        }
        let was = self.known().blocks;
        if is.blocks < was { Err(Refusal::Smaller { is: is.blocks, was }) } else { Ok(()) }
    }

    /// What is known of who sits there, or did; it may have been resized there.
    fn known(&self) -> Vacancy {
        let blocks = self.tenant.as_ref().map(|tenant| tenant.disk.namespace().blocks);
        Vacancy { blocks: blocks.unwrap_or(self.vacancy.blocks), ..self.vacancy }
    }
}

impl Seat {
    pub(super) fn new(name: String, vacancy: Vacancy, tenant: Option<Tenant>) -> Seat {
        let state = State { vacancy, tenant, refused: None };
        Seat { name, temperature: Arc::default(), state: state.into() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the operator calls it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What is known of who sits there, or did.
    pub(crate) fn vacancy(&self) -> Vacancy {
        self.state().known()
    }

    /// Whether nobody sits there.
    pub(crate) fn is_vacant(&self) -> bool {
        self.state().present().is_none()
    }

    /// Whether nobody ever sat there: it is kept for what a file tells of.
    pub(crate) fn is_awaited(&self) -> bool {
        self.state().tenant.is_none()
    }

    /// Whether this one sits there, or did last.
    pub(crate) fn has(&self, disk: &Arc<Disk>) -> bool {
        self.state().tenant.as_ref().is_some_and(|tenant| Arc::ptr_eq(&tenant.disk, disk))
    }

    /// Lets a namespace sit down, unless there is a reason not to.
    pub(crate) fn sit(&self, tenant: Tenant) -> Result<(), Refusal> {
        let mut state = self.state();
        let admitted = state.admit(&tenant.disk);
        // Who comes too early says nothing of a seat that is vacant later.
        let refusal = admitted.err().filter(|refusal| *refusal != Refusal::Taken);
        state.refused = refusal.map(|refusal| (Arc::clone(&tenant.disk), refusal));
        admitted?;
        state.vacancy = Vacancy::of(&tenant.disk);
        let former = state.tenant.replace(tenant);
        drop(state);
        // With it may go the last handle of its controller.
        drop(former);
        Ok(())
    }

    /// Why nobody sits there, where one that is there wanted to.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        let state = self.state();
        state.refused.as_ref().filter(|(disk, _)| !disk.is_removed()).map(|(_, refusal)| *refusal)
    }

    /// As `Bdev::info`.
    pub(super) fn info(&self) -> Info {
        let state = self.state();
        if let Some(tenant) = state.present() {
            return tenant.info(self.name.clone());
        }
        let Vacancy { uuid, block_bytes, .. } = state.vacancy;
        Info {
            name: self.name.clone(),
            blocks: 0,
            block_bytes,
            physical_block_bytes: block_bytes,
            read_only: false,
            write_cache: false,
            rotational: false,
            uuid,
            unmap: None,
            offloads: Offloads::default(),
            protection: None,
            passes: None,
        }
    }

    /// As `Bdev::temperature`: the composite temperature of the controller (NVMe Base, SMART / Health Information).
    pub(super) fn temperature(&self) -> Arc<Temperature> {
        Arc::clone(&self.temperature)
    }

    /// As `Bdev::measure`. While the controller does not answer, it is not known.
    pub(super) fn measure(&self) {
        let ask = self.state().present().map(|tenant| Arc::clone(&tenant.ask));
        let answer = ask.map(|ask| ask(Query::Health));
        self.temperature.set_kelvin(match answer {
            Some(Ok(Answer::Health(health))) => Some(health.temperature_kelvin),
            _ => None,
        });
    }

    /// As `Bdev::erase`: of who sits there now.
    pub(super) fn erase(&self, how: Erasure) -> Result<(), String> {
        let tenant = self.state().present().cloned();
        tenant.map_or_else(|| Err("the namespace is not there".to_owned()), |tenant| tenant.erase(how))
    }

    /// A way to who sits there now.
    pub(super) fn open(&self, reactor: ReactorId) -> Option<Way> {
        let tenant = self.state().present().cloned();
        tenant.and_then(|tenant| tenant.open(reactor))
    }
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        let disk = state.tenant.as_ref().map(|tenant| &tenant.disk);
        f.debug_struct("Seat").field("name", &self.name).field("disk", &disk).finish_non_exhaustive()
    }
}
