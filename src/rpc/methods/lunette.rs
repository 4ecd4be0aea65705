//! What SPDK leaves to its clients: the configuration as one thing.

use std::path::PathBuf;

use super::{Method, Outcome, method};
use crate::rpc::config;
use crate::rpc::context::Context;
use crate::rpc::fault::Fault;
use crate::rpc::json::Json;
use crate::rpc::params::{Nothing, params};

pub(super) const METHODS: &[Method] = &[
    method!(
        "lunette_get_config",
        Runtime,
        Nothing,
        get_config,
        "The calls that rebuild everything as it is now: what --config takes."
    ),
    method!(
        "lunette_save_config",
        Runtime,
        SaveConfig,
        save_config,
        "Writes them to a file, of which there is a whole one at any time, on stable storage when this is answered."
    ),
];

fn get_config(context: &Context, _: Nothing) -> Outcome {
    config::all(context)
}

params! {
    /// Of `lunette_save_config`.
    pub(super) struct SaveConfig {
        /// The file; that of --config where none is given.
        filename: Option<String>,
    }
}

fn save_config(context: &Context, params: SaveConfig) -> Outcome {
    let path = params.filename.map(PathBuf::from).or_else(|| context.config_file.clone());
    let path =
        path.ok_or_else(|| Fault::params("filename: it is missing, and the daemon was not given --config"))?;
    if !path.is_absolute() {
        return Err(Fault::params(format_args!(
            "filename: {:?} is not absolute, and the daemon's folder is not yours",
            path.display()
        )));
    }
    if context.keeps_at(&path) {
        return Ok(Json::Bool(true));
    }
    let text = config::text(context)?;
    config::write(&path, &text).map_err(|error| match rustix::io::Errno::from_io_error(&error) {
        Some(errno) => Fault::errno(errno, path.display()),
        None => Fault::internal(format_args!("{}: {error}", path.display())),
    })?;
    Ok(Json::Bool(true))
}
