//! The way back: lunette's own file of calls as SPDK's, tgt's or LIO's configuration, with a report of what is lost.

mod lio;
mod own;
mod tgt;

use super::model::Model;
use super::report::{ImportError, Place, Report};
use super::source::{Files, Source};
use crate::rpc::json::{Json, object};

/// Whose configuration is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum To {
    /// SPDK: what load_config takes.
    Spdk,
    /// LIO: saveconfig.json.
    Lio,
    /// tgt: targets.conf.
    Tgt,
}

/// What came of an export.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exported {
    /// The file.
    pub text: String,
    /// What initiators will notice.
    pub report: Report,
}

/// Writes lunette's configuration as another target's; `files` knows the sizes of files where the other wants them said.
///
/// # Errors
/// It is no file of calls.
pub fn export(to: To, source: &Source, files: &dyn Files) -> Result<Exported, ImportError> {
    let mut report = Report::default();
    let place = Place::new(&source.name, 0);
    let root = Json::parse(&source.text).map_err(|error| ImportError::new(&place, error))?;
    let Some(Json::Array(subsystems)) = root.member("subsystems") else {
        return Err(ImportError::new(&place, "it has no array \"subsystems\""));
    };
    let text = match to {
        To::Spdk => pretty(&spdk(subsystems, &place, &mut report)),
        To::Lio | To::Tgt => {
            let mut model = Model::default();
            own::read(subsystems, &place, &mut model, &mut report);
            if to == To::Tgt {
                tgt::write(&model, &place, &mut report)
            } else {
                pretty(&lio::write(&model, &place, files, &mut report))
            }
        }
    };
    Ok(Exported { text, report })
}

fn pretty(json: &Json) -> String {
    let mut text = String::new();
    json.write_pretty(&mut text);
    text.push('\n');
    text
}

/// The calls of a subsystem, those of batches one by one.
fn calls(subsystem: &Json) -> Vec<&Json> {
    fn add<'a>(elements: &'a [Json], found: &mut Vec<&'a Json>, depth: usize) {
        for element in elements {
            match element {
                Json::Array(batch) if depth < 4 => add(batch, found, depth + 1),
                call => found.push(call),
            }
        }
    }
    let mut found = Vec::new();
    if let Some(Json::Array(elements)) = subsystem.member("config") {
        add(elements, &mut found, 0);
    }
    found
}

/// What is a call's name begins with where SPDK has none.
const OURS: &str = "lunette_";

/// lunette's calls are SPDK's but for those, and those of their parameters, that are named after it.
fn spdk(subsystems: &[Json], place: &Place, report: &mut Report) -> Json {
    let one = |subsystem: &Json| {
        let mut kept = Vec::new();
        for call in calls(subsystem) {
            let method = call.member("method").and_then(Json::text).unwrap_or_default();
            if method.starts_with(OURS) {
                let what = call.member("params").map(Json::to_string).unwrap_or_default();
                report.cannot(place, format_args!("{method}: SPDK has no such call: {}", shortened(&what)));
                continue;
            }
            let params = call.member("params").cloned().unwrap_or(Json::Null);
            let params = stripped(params, method, place, report);
            kept.push(match params {
                Json::Null => object! { "method": method },
                params => object! { "method": method, "params": params },
            });
        }
        let name = subsystem.member("subsystem").and_then(Json::text).unwrap_or_default();
        object! { "subsystem": name, "config": kept }
    };
    let subsystems: Vec<Json> = subsystems.iter().map(one).collect();
    object! { "subsystems": subsystems }
}

/// Parameters without those that are lunette's own.
fn stripped(params: Json, method: &str, place: &Place, report: &mut Report) -> Json {
    match params {
        Json::Object(members) => {
            let mut kept = Vec::new();
            for (name, value) in members {
                if name.starts_with(OURS) {
                    let what = shortened(&value.to_string());
                    report.cannot(place, format_args!("{method}: {name} {what}: SPDK has no such parameter"));
                } else {
                    kept.push((name, stripped(value, method, place, report)));
                }
            }
            Json::Object(kept)
        }
        Json::Array(values) => {
            values.into_iter().map(|value| stripped(value, method, place, report)).collect()
        }
        other => other,
    }
}

/// The beginning of a long text.
fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 120;
    let mut short: String = text.chars().take(CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests;
