//! SCSI devices of the host that are passed through: `lunette_sg_*`.

use std::path::PathBuf;
use std::sync::Arc;

use rustix::io::Errno;

use super::memory::Name;
use super::{Method, Outcome, method};
use crate::bdev::sg::{OpenError, Recipe, SgDisk};
use crate::rpc::context::Context;
use crate::rpc::devices::Made;
use crate::rpc::fault::Fault;
use crate::rpc::json::Json;
use crate::rpc::params::params;
use crate::rpc::recipes::{self, SG};
use crate::rpc::types::Uuid;

pub(super) const METHODS: &[Method] = &[
    method!(
        "lunette_sg_create",
        Runtime,
        Create,
        create,
        "Passes a SCSI device of this host through, a disk, tape, changer or drive, and answers with its name."
    ),
    method!(
        "lunette_sg_delete",
        Runtime,
        Name,
        delete,
        "Ends the passing through of a device, its LUNs first. Nothing happens to the device."
    ),
];

params! {
    /// Of `lunette_sg_create`.
    pub(super) struct Create {
        /// Its name.
        name: String,
        /// The device, as `lsscsi -g` shows it: /dev/sgN, or a link to it; absolute.
        filename: PathBuf,
        /// Only commands that are known to change nothing are passed on.
        readonly: bool = false,
        /// Seconds that a command may take which neither moves nor erases a whole medium; those may take four hours.
        timeout_s: u32 = 60,
        /// Which device it has to be, as was saved of it: another one that has its path by now is refused.
        uuid: Option<Uuid>,
    }
}

fn create(context: &Context, params: Create) -> Outcome {
    let Create { name, filename, readonly, timeout_s, uuid } = params;
    if !filename.is_absolute() {
        return Err(Fault::errno(
            Errno::INVAL,
            format_args!("filename: {} is not absolute", filename.display()),
        ));
    }
    let Some(timeout_ms) = timeout_s.checked_mul(1000).filter(|ms| *ms > 0) else {
        return Err(Fault::errno(Errno::INVAL, "timeout_s: it is at least 1 and less than 4294967"));
    };
    context.check_free(&name)?;
    let recipe =
        Recipe { name, path: filename, read_only: readonly, timeout_ms, uuid: uuid.map(|Uuid(uuid)| uuid) };
    let device = Arc::new(SgDisk::new(recipe.clone()));
    match device.find() {
        Ok(()) => {}
        // The module may not be loaded yet, the device not found, or found under another number: it is looked for, and the others
        // are served meanwhile.
        Err(error) if context.is_loading() && !matches!(error, OpenError::NotSg(_)) => {
            tracing::warn!(bdev = recipe.name, %error, "the device is not ready");
        }
        Err(error) => return Err(fault(&error)),
    }
    if let Some(about) = device.about() {
        tracing::info!(bdev = recipe.name, device = %about, "passed through");
    }
    let made =
        Made { recipe: recipes::sg(&recipe, device.as_ref()), bdev: device, device: None, bases: Vec::new() };
    context.register(made).map(Json::from)
}

/// As SPDK does, with the errno of open(2).
fn fault(error: &OpenError) -> Fault {
    let errno = match error {
        OpenError::Missing(_) => Errno::NOENT,
        OpenError::NotSg(_) => Errno::INVAL,
        OpenError::Another { .. } => Errno::NODEV,
        OpenError::System { source, .. } => Errno::from_io_error(source).unwrap_or(Errno::IO),
    };
    Fault::errno(errno, error)
}

fn delete(context: &Context, params: Name) -> Outcome {
    context.unregister(&params.name, SG)?;
    Ok(Json::Bool(true))
}
