//! The flight recorder: `lunette_dump_recorder`, `lunette_recorder_set_options`.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Method, Outcome, method};
use crate::id::SessionId;
use crate::rpc::context::Context;
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::params::params;
use crate::rpc::recordings::{self, Dump, FILES_MAX, Folder};

pub(super) const METHODS: &[Method] = &[
    method!(
        "lunette_dump_recorder",
        Runtime,
        DumpRecorder,
        dump_recorder,
        "Writes the headers of the last PDUs of each connection, both ways, as a pcapng file, which Wireshark opens. There are no data in it, and nothing of logins."
    ),
    method!(
        "lunette_recorder_set_options",
        Runtime,
        SetOptions,
        set_options,
        "Says where such a file goes by itself when something goes wrong on a connection: it breaks the protocol, falls silent, or its initiator aborts commands. Without a directory nowhere."
    ),
];

params! {
    /// Of `lunette_dump_recorder`.
    pub(super) struct DumpRecorder {
        /// The file, which must not be there; without one the answer has it, as base64, and a session is to be named.
        file: Option<PathBuf>,
        /// Whose, by the number that iscsi_get_connections shows; of all without.
        session: Option<u64>,
    }
}

fn dump_recorder(context: &Context, params: DumpRecorder) -> Outcome {
    if params.file.is_none() && params.session.is_none() {
        return Err(Fault::params("file: it is to be given, or a session"));
    }
    if params.file.as_ref().is_some_and(|file| file.is_relative()) {
        return Err(Fault::params(
            "file: a path from the root on, as the daemon has another folder than its client",
        ));
    }
    let Dump { connections, pdus, file } = recordings::dump(context, params.session.map(SessionId))?;
    if let (0, Some(session)) = (connections, params.session) {
        return Err(Fault::params(format_args!("session: there is no {session}")));
    }
    let mut answer = object! { "connections": connections as u64, "pdus": pdus as u64 };
    match params.file {
        Some(path) => recordings::write(&path, &file)
            .map_err(|error| Fault::params(format_args!("file: {}: {error}", path.display())))?,
        None => answer.push("pcapng", STANDARD.encode(file)),
    }
    Ok(answer)
}

params! {
    /// Of `lunette_recorder_set_options`.
    pub(super) struct SetOptions {
        /// The folder, a path from the root on.
        directory: Option<PathBuf>,
        /// So many files stay there; the oldest go first.
        files_max: u32 = 16,
    }
}

/// What a call without it says.
pub(in crate::rpc) fn defaults() -> Json {
    object! { "files_max": FILES_MAX }
}

fn set_options(context: &Context, params: SetOptions) -> Outcome {
    let SetOptions { directory, files_max } = params;
    if directory.as_ref().is_some_and(|directory| directory.is_relative()) {
        return Err(Fault::params("directory: a path from the root on"));
    }
    if !(1..=10_000).contains(&files_max) {
        return Err(Fault::params("files_max: 1 to 10000"));
    }
    recordings::set(context, directory.map(|path| Folder { path, files_max }))?;
    Ok(Json::Bool(true))
}
