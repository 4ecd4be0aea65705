//! The state file of `lunette serve`.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::Failed;
use super::args::Serve;
use crate::control::store::disk::{self, OpenError, Opened};

/// Takes the state file into use that was asked for, or the one beside the configuration. Where nobody asked for it, and there
/// is none and can be none, nothing is kept.
pub(super) fn open(args: &Serve) -> Result<Option<Opened>, Failed> {
    let Some(path) = path(args) else { return Ok(None) };
    match disk::open(&path) {
        Ok(opened) => Ok(Some(opened)),
        Err(OpenError::System { error, .. })
            if args.state.is_none()
                && matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
                && matches!(path.try_exists(), Ok(false)) =>
        {
            tracing::warn!(
                path = %path.display(), %error,
                "nothing is kept over restarts (reservations, access states, port numbers): --state names another file"
            );
            Ok(None)
        }
        Err(error) => Err(Failed::failure(format!("--state: {error}"))),
    }
}

fn path(args: &Serve) -> Option<PathBuf> {
    args.state.clone().or_else(|| {
        let mut beside = args.config.clone()?.into_os_string();
        beside.push(".state");
        Some(beside.into())
    })
}
