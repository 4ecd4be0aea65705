//! What can be called, for programs: the table of methods as JSON schemas.

use super::{Method, Outcome, When, method};
use crate::rpc::context::Context;
use crate::rpc::json::{Json, object};
use crate::rpc::params::params;

pub(super) const METHODS: &[Method] = &[method!(
    "lunette_get_schema",
    Always,
    GetSchema,
    get_schema,
    "Describes every method, or one: when it can be called, what it does, and its parameters as a JSON schema."
)];

params! {
    /// Of `lunette_get_schema`.
    pub(super) struct GetSchema {
        /// Only this one.
        name: Option<String>,
    }
}

fn get_schema(_: &Context, params: GetSchema) -> Outcome {
    let methods = match params.name {
        None => super::all().map(describe).collect::<Json>(),
        Some(name) => Json::Array(vec![describe(super::find(&name)?)]),
    };
    Ok(object! {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "methods": methods,
    })
}

fn describe(method: &Method) -> Json {
    let states = match method.when {
        When::Startup => vec!["startup"],
        When::Runtime => vec!["runtime"],
        When::Always => vec!["startup", "runtime"],
    };
    object! {
        "name": method.name,
        "description": method.about,
        "states": states,
        "read_only": method.is_for_readers(),
        "params": method.schema(),
    }
}
