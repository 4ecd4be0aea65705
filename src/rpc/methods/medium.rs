//! Media that come out of their drives, and CD-ROM drives: `lunette_bdev_eject`, `lunette_bdev_load`, `lunette_cdrom_*`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::file::{LOAD_PATIENCE, fault, may_come_up};
use super::memory::Name;
use super::{Method, Outcome, method};
use crate::bdev::Bdev;
use crate::bdev::drive::{self, CD_BLOCK_BYTES, Drive};
use crate::bdev::file::{Cache, FileDisk, Recipe};
use crate::control::error::ChangeError;
use crate::rpc::context::Context;
use crate::rpc::devices::{Made, bdev_fault};
use crate::rpc::fault::Fault;
use crate::rpc::json::Json;
use crate::rpc::params::params;
use crate::rpc::recipes::{self, CDROM};
use crate::rpc::types::Uuid;

pub(super) const METHODS: &[Method] = &[
    method!(
        "lunette_bdev_eject",
        Runtime,
        Eject,
        eject,
        "Takes out the medium of a removable disk or CD-ROM drive; answers when no device has IO of before. Where an initiator prevents it, that is \
         asked for it and the call fails."
    ),
    method!(
        "lunette_bdev_load",
        Runtime,
        Load,
        load,
        "Puts the medium of a removable disk or CD-ROM drive in again, or another disc; initiators are told that it may be another."
    ),
    method!(
        "lunette_cdrom_create",
        Runtime,
        Create,
        create,
        "Makes a CD-ROM drive and answers with its name."
    ),
    method!(
        "lunette_cdrom_delete",
        Runtime,
        Name,
        delete,
        "Deletes a CD-ROM drive, its LUNs first. The images stay."
    ),
];

params! {
    /// Of `lunette_bdev_eject`.
    pub(super) struct Eject {
        /// Its name.
        name: String,
        /// Also where an initiator prevents it: what that has not written yet is lost.
        force: bool = false,
    }
}

fn eject(context: &Context, params: Eject) -> Outcome {
    take_out(context, params.name, params.force)?.map_err(|error| bdev_fault(&error))?;
    Ok(Json::Bool(true))
}

/// Whether no device has IO of before.
fn take_out(context: &Context, name: String, is_forced: bool) -> Result<Result<bool, ChangeError>, Fault> {
    let ejected =
        context.control_and_wait(move |control, _, done| control.eject_bdev(&name, is_forced, done))?;
    Ok(ejected.map(|outcome| outcome.is_clean))
}

params! {
    /// Of `lunette_bdev_load`.
    pub(super) struct Load {
        /// Its name.
        name: String,
        /// Of a CD-ROM drive: the image of another disc; absolute. The present one is taken out first.
        filename: Option<PathBuf>,
        /// With a file name: also where an initiator prevents that the present disc is taken out.
        force: bool = false,
    }
}

fn load(context: &Context, params: Load) -> Outcome {
    let Load { name, filename, force } = params;
    if let Some(path) = filename {
        return exchange(context, &name, &path, force);
    }
    let loaded = context.control_and_wait(move |control, _, done| control.load_bdev(&name, done))?;
    loaded.map_err(|error| bdev_fault(&error))?;
    Ok(Json::Bool(true))
}

/// Puts another disc into a drive, and loads it. From the moment on at which the present one is out nobody gets it in again.
fn exchange(context: &Context, name: &str, path: &Path, is_forced: bool) -> Outcome {
    let drive = context.made_by(name, CDROM)?;
    // Opened before the other is taken out: it may be none.
    let disc = open_disc(context, name, path)?;
    let wanted = name.to_owned();
    let ejected =
        context.control_and_wait(move |control, _, done| control.begin_exchange(&wanted, is_forced, done))?;
    let is_out = match ejected {
        Ok(outcome) => outcome.is_clean,
        Err(ChangeError::NotServed(_)) => true,
        Err(error) => return Err(bdev_fault(&error)),
    };
    if is_out {
        drive.change_medium(Some(disc));
    }
    let (wanted, recipe) = (name.to_owned(), recipes::cdrom(&drive.info(), Some(path)));
    let loaded = context.control_and_wait(move |control, _, done| {
        let is_kept = if is_out { control.set_recipe(&wanted, recipe) } else { Ok(()) };
        let ended = control.end_exchange(&wanted, is_out, done);
        is_kept.and(ended)
    })?;
    match loaded {
        _ if !is_out => Err(Fault::errno(Errno::BUSY, "a device keeps IO of the disc that was taken out")),
        // It is in the drive, and nobody is to be told.
        Ok(_) | Err(ChangeError::NotServed(_)) => Ok(Json::Bool(true)),
        Err(error) => Err(bdev_fault(&error)),
    }
}

params! {
    /// Of `lunette_cdrom_create`.
    pub(super) struct Create {
        /// Its name.
        name: String,
        /// The image (`.iso`) of the disc in it, absolute; it is empty where none is given.
        filename: Option<PathBuf>,
        /// What names the drive to initiators; random where none is given.
        uuid: Option<Uuid>,
    }
}

fn create(context: &Context, params: Create) -> Outcome {
    let Create { name, filename, uuid } = params;
    context.check_free(&name)?;
    let disc = match &filename {
        Some(path) => Some(open_disc(context, &name, path)?),
        None => None,
    };
    let Uuid(uuid) = uuid.unwrap_or_else(Uuid::random);
    let drive = drive::Recipe { name, uuid, block_bytes: CD_BLOCK_BYTES };
    let drive = Drive::new(drive, disc.map(|disc| disc as Arc<dyn Bdev>));
    let made = Made {
        recipe: recipes::cdrom(&drive.info(), filename.as_deref()),
        bdev: Arc::new(drive),
        device: None,
        bases: Vec::new(),
    };
    context.register(made).map(Json::from)
}

/// Where the file is missing and a configuration is loaded, it is looked for, and the drive is empty until it is there.
fn open_disc(context: &Context, name: &str, path: &Path) -> Result<Arc<FileDisk>, Fault> {
    if !path.is_absolute() {
        return Err(Fault::errno(Errno::INVAL, format_args!("filename: {} is not absolute", path.display())));
    }
    let recipe = Recipe {
        name: name.to_owned(),
        path: path.to_owned(),
        create_bytes: None,
        block_bytes: Some(CD_BLOCK_BYTES),
        cache: Cache::WriteThrough,
        read_only: true,
        uuid: None,
    };
    let disc = Arc::new(FileDisk::new(recipe).map_err(|error| fault(&error))?);
    match disc.open_aside(context.lock_patience()).map_err(|error| fault(&error))?.wait(LOAD_PATIENCE) {
        Some(Ok(())) => Ok(disc),
        Some(Err(error)) if context.is_loading() && may_come_up(&error) => {
            tracing::warn!(bdev = name, %error, "the drive is empty");
            Ok(disc)
        }
        Some(Err(error)) => Err(fault(&error)),
        None if context.is_loading() => {
            tracing::warn!(bdev = name, "opening its disc takes long: the drive is empty until that is done");
            Ok(disc)
        }
        None => {
            Err(Fault::errno(Errno::TIMEDOUT, format_args!("{} does not open within 10 s", path.display())))
        }
    }
}

fn delete(context: &Context, params: Name) -> Outcome {
    context.unregister(&params.name, CDROM)?;
    Ok(Json::Bool(true))
}
