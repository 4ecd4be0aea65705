//! The bdevs that calls made, as what they are: to resize one, to order faults of it.
//!
//! Control has the bdevs themselves; here are only handles, by name, forgotten when control has forgotten the bdev.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use rustix::io::Errno;

use super::context::{Context, lock};
use super::fault::Fault;
use super::json::Json;
use super::orders::Orders;
use super::recipes::Recipe;
use crate::bdev::Bdev;
use crate::bdev::count::Counted;
use crate::bdev::delay::Pace;
use crate::bdev::file::FileDisk;
use crate::bdev::malloc::Malloc;
use crate::bdev::null::Null;
use crate::control::error::{ChangeError, What};
use crate::control::registry::BdevSpec;

/// A bdev that more can be done with than to serve it.
#[derive(Clone, Debug)]
pub(super) enum Device {
    /// It can be resized.
    Malloc(Arc<Malloc>),
    /// It can be resized.
    Null(Arc<Null>),
    /// Faults can be ordered.
    Error(Arc<Orders>),
    /// Its delays can be changed.
    Delay(Arc<Pace>),
    /// It can be opened anew. The handle does not keep it open.
    File(Weak<FileDisk>),
}

/// The handles.
#[derive(Debug, Default)]
pub(super) struct Devices(Mutex<BTreeMap<String, Device>>);

/// A bdev that was made and is to be registered.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) bdev: Arc<dyn Bdev>,
    pub(super) device: Option<Device>,
    /// What makes it again.
    pub(super) recipe: String,
    /// What it is made of.
    pub(super) bases: Vec<String>,
}

impl Context {
    /// Registers a bdev with control and keeps its handle; gives back its name.
    pub(super) fn register(&self, made: Made) -> Result<String, Fault> {
        let name = made.bdev.info().name;
        let recipe = Recipe::parse(&made.recipe);
        let (product, kind) = (recipe.product().unwrap_or_default().to_owned(), recipe.kind());
        let spec = BdevSpec {
            bdev: Arc::new(Counted::new(made.bdev)),
            product,
            recipe: made.recipe,
            bases: made.bases,
        };
        // Nobody is to forget the handle between the two steps.
        let mut devices = lock(&self.devices.0);
        self.control(move |control, _| control.register_bdev_as(spec, kind))?
            .map_err(|error| bdev_fault(&error))?;
        devices.extend(made.device.map(|device| (name.clone(), device)));
        Ok(name)
    }

    /// A name of this kind that is free: Malloc0, Malloc1 and so on.
    pub(super) fn free_name(&self, kind: &'static str) -> Result<String, Fault> {
        self.control(move |control, _| {
            (0u32..).map(|number| format!("{kind}{number}")).find(|name| control.bdev(name).is_none())
        })?
        .ok_or_else(|| Fault::internal("there are no names left"))
    }

    /// Refuses a name that is taken, before anything is made that would have it.
    pub(super) fn check_free(&self, name: &str) -> Result<(), Fault> {
        let wanted = name.to_owned();
        match self.control(move |control, _| control.bdev(&wanted).is_some())? {
            true => Err(Fault::errno(Errno::EXIST, format_args!("there is a bdev {name} already"))),
            false => Ok(()),
        }
    }

    /// A bdev to make another one of.
    pub(super) fn base(&self, name: &str) -> Result<Arc<dyn Bdev>, Fault> {
        let owned = name.to_owned();
        self.control(move |control, _| control.bdev(&owned).map(|entry| Arc::clone(&entry.spec.bdev)))?
            .ok_or_else(|| no_bdev(name))
    }

    /// A bdev that this method made, or could have.
    pub(super) fn made_by(&self, name: &str, method: &'static str) -> Result<Arc<dyn Bdev>, Fault> {
        let wanted = name.to_owned();
        self.control(move |control, _| {
            let entry = control.bdev(&wanted)?;
            (Recipe::parse(&entry.spec.recipe).method() == method).then(|| Arc::clone(&entry.spec.bdev))
        })?
        .ok_or_else(|| no_bdev(name))
    }

    /// The handle of a bdev.
    pub(super) fn device(&self, name: &str) -> Result<Device, Fault> {
        if let Some(device) = lock(&self.devices.0).get(name) {
            return Ok(device.clone());
        }
        self.base(name)?;
        Err(Fault::errno(Errno::OPNOTSUPP, format_args!("bdev {name} is of a kind that cannot do this")))
    }

    /// Takes a bdev out of service that this method made, and what is made of it; answers when no device has IO of it.
    pub(super) fn unregister(&self, name: &str, method: &'static str) -> Result<(), Fault> {
        let wanted = name.to_owned();
        let outcome = self.control_and_wait(move |control, _, done| {
            let entry =
                control.bdev(&wanted).filter(|entry| Recipe::parse(&entry.spec.recipe).method() == method);
            // As with SPDK, each kind's calls know their own kind only.
            let name = entry.map(|entry| entry.name.clone()).ok_or_else(|| missing(&wanted))?;
            control.unregister_bdev(&name, done)
        })?;
        let outcome = outcome.map_err(|error| bdev_fault(&error))?;
        if !outcome.is_clean {
            tracing::warn!(bdev = name, "removed, but a device keeps IO of it");
        }
        // What a mirror has in its members is waited for: they are to be closed. Whoever makes another one of them waits for longer.
        drop(outcome);
        drop(self.mirrors.wait());
        super::mirrors::doubt_absent(self);
        self.forget_devices()
    }

    /// Forgets the handles of bdevs that are gone.
    fn forget_devices(&self) -> Result<(), Fault> {
        let mut devices = lock(&self.devices.0);
        let names: Vec<String> =
            self.control(|control, _| control.bdevs().map(|entry| entry.name.clone()).collect())?;
        devices.retain(|name, _| names.contains(name));
        Ok(())
    }

    /// After a resize: what makes the bdev again says the new size, and initiators are told.
    pub(super) fn resized(&self, name: &str, member: &'static str, value: Json) -> Result<(), Fault> {
        let wanted = name.to_owned();
        let set = self.control(move |control, _| {
            let entry = control.bdev(&wanted).ok_or_else(|| missing(&wanted))?;
            let recipe = Recipe::parse(&entry.spec.recipe).with(member, value);
            control.set_recipe(&wanted, recipe.to_string())
        })?;
        set.map_err(|error| bdev_fault(&error))?;
        self.reread(name)
    }

    /// Initiators are told what a bdev, and what is made of it, is like now.
    pub(super) fn reread(&self, name: &str) -> Result<(), Fault> {
        let name = name.to_owned();
        let told = self.control_and_wait(move |control, _, done| control.reread_bdev(&name, done))?;
        told.map(drop).map_err(|error| bdev_fault(&error))
    }
}

fn missing(name: &str) -> ChangeError {
    ChangeError::Missing { what: What::Bdev, name: name.to_owned() }
}

/// What SPDK answers to a bdev that is not there.
pub(super) fn no_bdev(name: &str) -> Fault {
    Fault::errno(Errno::NODEV, format_args!("there is no bdev {name}"))
}

/// What SPDK answers where a bdev cannot be changed: errnos.
pub(super) fn bdev_fault(error: &ChangeError) -> Fault {
    let errno = match error {
        ChangeError::Missing { .. } => Errno::NODEV,
        ChangeError::Exists { .. } | ChangeError::SameDisk { .. } => Errno::EXIST,
        ChangeError::Leaving { .. }
        | ChangeError::Mapped(_)
        | ChangeError::Prevented(_)
        | ChangeError::InUse { .. }
        | ChangeError::Exchanged(_) => Errno::BUSY,
        ChangeError::NotRemovable(_) | ChangeError::NotServed(_) => Errno::OPNOTSUPP,
        ChangeError::Claimed { .. } => Errno::PERM,
        ChangeError::TooMany { .. } => Errno::NOMEM,
        ChangeError::Stopping => return Fault::stopped(),
        _ => Errno::INVAL,
    };
    Fault::errno(errno, error)
}

/// The block sizes and counts that a bdev may have.
pub(super) fn check_blocks(blocks: u64, block_bytes: u32) -> Result<(), Fault> {
    if blocks == 0 {
        return Err(Fault::errno(Errno::INVAL, "num_blocks: a disk has at least one block"));
    }
    if !matches!(block_bytes, 512 | 1024 | 2048 | 4096) {
        return Err(Fault::errno(
            Errno::INVAL,
            format_args!("block_size: a block has 512, 1024, 2048 or 4096 bytes, not {block_bytes}"),
        ));
    }
    blocks
        .checked_mul(block_bytes.into())
        .map(drop)
        .ok_or_else(|| Fault::errno(Errno::INVAL, "num_blocks: so many bytes have no addresses"))
}
