//! The calls of a file, each with its place, and what each says of itself.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::findings::{Findings, meant};
use crate::rpc::json::Json;
use crate::rpc::methods;

/// A call that could be made, as far as it tells by itself.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: String,
    pub(super) params: Json,
    /// Where it begins, in bytes.
    pub(super) at: usize,
    /// Where each of its parameters begins.
    places: BTreeMap<String, usize>,
}

impl Call {
    /// Where a parameter is.
    pub(super) fn place(&self, param: &str) -> usize {
        self.places.get(param).copied().unwrap_or(self.at)
    }
}

/// The members of an object, as they stand in the text.
type Members<'a> = BTreeMap<String, &'a RawValue>;

/// Reads a file.
pub(super) fn calls(text: &str, findings: &mut Findings<'_>) -> Vec<Call> {
    let mut calls = Vec::new();
    // The whole first: it knows of names that are given twice, and says where a comma is missing.
    if let Err(error) = Json::parse(text) {
        findings.unreadable(&error);
        return calls;
    }
    let root = serde_json::from_str::<Members<'_>>(text).unwrap_or_default();
    let subsystems = root.get("subsystems").and_then(|raw| elements(raw));
    let Some(subsystems) = subsystems else {
        findings.error(0, "it is not an object with an array \"subsystems\"");
        return calls;
    };
    for subsystem in subsystems {
        let Some(config) = members(subsystem).remove("config").filter(|config| config.get() != "null") else {
            continue;
        };
        match elements(config) {
            Some(elements) => elements.into_iter().for_each(|raw| read(raw, text, findings, &mut calls)),
            None => findings.error(offset(text, config), "config is to be an array of calls"),
        }
    }
    calls
}

fn read(raw: &RawValue, text: &str, findings: &mut Findings<'_>, calls: &mut Vec<Call>) {
    let at = offset(text, raw);
    // A batch.
    if let Some(elements) = elements(raw) {
        return elements.into_iter().for_each(|raw| read(raw, text, findings, calls));
    }
    let members = members(raw);
    let method = members.get("method").and_then(|raw| Json::parse(raw.get()).ok());
    let Some(Json::String(method)) = method else {
        return findings.error(at, "a call is an object with \"method\" and \"params\"");
    };
    for (name, raw) in members.iter().filter(|(name, _)| *name != "method" && *name != "params") {
        let hint = meant(name, ["method", "params"]);
        findings
            .error(offset(text, raw), format!("{method}: a call has method and params, not {name:?}{hint}"));
    }
    let params = members.get("params").copied();
    let json = params.map_or(Json::Null, |raw| Json::parse(raw.get()).unwrap_or(Json::Null));
    let mut places = BTreeMap::new();
    if let Some(params) = params {
        places.extend(self::members(params).into_iter().map(|(name, raw)| (name, offset(text, raw))));
    }
    let call = Call { method, params: json, at, places };
    let Err(fault) = methods::check(&call.method, call.params.clone()) else { return calls.push(call) };
    let method = &call.method;
    let Ok(known) = methods::find(method) else {
        let names = methods::all().map(|method| method.name);
        let hint = meant(method, names);
        let hint = if hint.is_empty() { "; docs/rpc.md lists the calls".to_owned() } else { hint };
        return findings.error(at, format!("there is no call {method:?}{hint}"));
    };
    let names = || known.fields.iter().map(|field| field.name);
    if let Some((name, place)) = call.places.iter().find(|(name, _)| !names().any(|known| known == *name)) {
        let hint = meant(name, names());
        findings.error(*place, format!("{method}: there is no parameter {name:?}{hint}"));
        return;
    }
    let said = fault.text();
    let said = said.strip_prefix("Invalid parameters: ").unwrap_or(&said);
    // What is wrong begins with its path: portals[0].port: …
    let name = said.split([':', '.', '[']).next().unwrap_or_default();
    findings.error(call.place(name), format!("{method}: {said}"));
}

/// An array's elements.
fn elements(raw: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(raw.get()).ok()
}

/// An object's members; of anything else there are none.
fn members(raw: &RawValue) -> Members<'_> {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

/// Where a value stands in the text that it is borrowed from.
fn offset(text: &str, raw: &RawValue) -> usize {
    raw.get().as_ptr().addr().saturating_sub(text.as_ptr().addr())
}
