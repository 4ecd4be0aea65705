//! Media that come out of their drives: `lunette_bdev_eject` and `lunette_bdev_load`.

use super::memory::Name;
use super::{Method, Outcome, method};
use crate::rpc::context::Context;
use crate::rpc::devices::bdev_fault;
use crate::rpc::json::Json;
use crate::rpc::params::params;

pub(super) const METHODS: &[Method] = &[
    method!(
        "lunette_bdev_eject",
        Runtime,
        Eject,
        eject,
        "Takes out the medium of a removable disk; answers when no device has IO of before. Where an initiator prevents it the call fails."
    ),
    method!(
        "lunette_bdev_load",
        Runtime,
        Name,
        load,
        "Puts the medium of a removable disk in again; initiators are told that it may be another."
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
    let Eject { name, force } = params;
    let ejected = context.control_and_wait(move |control, _, done| control.eject_bdev(&name, force, done))?;
    ejected.map_err(|error| bdev_fault(&error))?;
    Ok(Json::Bool(true))
}

fn load(context: &Context, params: Name) -> Outcome {
    let loaded = context.control_and_wait(move |control, _, done| control.load_bdev(&params.name, done))?;
    loaded.map_err(|error| bdev_fault(&error))?;
    Ok(Json::Bool(true))
}
