//! SPDK's JSON configuration: its calls are lunette's. What lunette does not have is left out and named.

use super::report::{ImportError, Place, Report};
use super::source::Source;
use crate::rpc::json::{Json, object};
use crate::rpc::methods;

/// Whether a JSON value looks like it.
pub(super) fn is_such(root: &Json) -> bool {
    root.member("subsystems").is_some()
}

/// Reads a file, and gives back the calls of it that can be made.
///
/// # Errors
/// It is no such file.
pub(super) fn import(source: &Source, report: &mut Report) -> Result<Json, ImportError> {
    let start = Place::new(&source.name, 0);
    let root = Json::parse(&source.text).map_err(|error| ImportError::new(&start, error))?;
    let Some(Json::Array(subsystems)) = root.member("subsystems") else {
        return Err(ImportError::new(&start, "it has no array \"subsystems\""));
    };
    let mut kept = Vec::new();
    for subsystem in subsystems {
        let name = subsystem.member("subsystem").and_then(Json::text).unwrap_or_default();
        let mut calls = Vec::new();
        if let Some(Json::Array(elements)) = subsystem.member("config") {
            take(elements, name, &start, &mut calls, report);
        }
        kept.push(object! { "subsystem": name, "config": calls });
    }
    Ok(object! { "subsystems": kept })
}

fn take(elements: &[Json], subsystem: &str, start: &Place, calls: &mut Vec<Json>, report: &mut Report) {
    for (index, element) in elements.iter().enumerate() {
        // JSON has no lines: a call is found by its number.
        let place = |method: &str| format!("{subsystem}, call {}: {method}", index + 1);
        match element {
            // A batch.
            Json::Array(batch) => take(batch, subsystem, start, calls, report),
            _ => match element.member("method").and_then(Json::text) {
                None => report.cannot(start, format_args!("{}: it has no method", place("?"))),
                Some(method) => {
                    let params = element.member("params").cloned().unwrap_or(Json::Null);
                    match methods::check(method, params.clone()) {
                        Ok(_) => {
                            report.maps(start, place(method));
                            calls.push(match params {
                                Json::Null => object! { "method": method },
                                params => object! { "method": method, "params": params },
                            });
                        }
                        Err(fault) => {
                            report.cannot(start, format_args!("{}: {}", place(method), fault.text()))
                        }
                    }
                }
            },
        }
    }
}
