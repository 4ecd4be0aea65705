//! The way back: lunette's own file of calls as SPDK's, tgt's or LIO's configuration, with a report of what is lost.

mod lio;
mod own;
mod spdk;
mod tgt;

use super::model::{Access, Model, Target};
use super::report::{ImportError, Place, Report};
use super::source::{Files, Source};
use crate::control::options::{Options, whole_name};
use crate::rpc::json::Json;

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
    let subsystems = &with_whole_names(subsystems);
    let text = match to {
        To::Spdk => pretty(&spdk::write(subsystems, &place, &mut report)),
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

/// Whether initiators of a group that is left out would find what they are kept from, in groups behind it: then these are left out
/// too.
fn holds_back(access: &Access, target: &Target, place: &Place, report: &mut Report) -> bool {
    let has_own = access.luns.as_ref().is_some_and(|own| *own != target.luns);
    let is_back = has_own || access.initiators.iter().any(|rule| rule.starts_with('!'));
    if is_back && target.access.last() != Some(access) {
        report.cannot(
            place,
            format_args!(
                "target {}: whoever comes by a group behind that of {} was left out too: that keeps some of them out, or has LUNs of \
                 its own",
                target.name,
                access.initiators.join(", ")
            ),
        );
    }
    is_back
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

/// A member that is a text; else the empty one.
fn text_of<'a>(object: &'a Json, name: &str) -> &'a str {
    object.member(name).and_then(Json::text).unwrap_or_default()
}

fn is_on(object: &Json, name: &str) -> bool {
    object.member(name) == Some(&Json::Bool(true))
}

/// The file with targets' names as initiators know them: its calls may say one name in full or in short, and in either case.
fn with_whole_names(subsystems: &[Json]) -> Vec<Json> {
    let options = |call: &&&Json| text_of(call, "method") == "iscsi_set_options";
    let node_base = |call: &Json| call.member("params")?.member("node_base")?.text().map(str::to_owned);
    let all = subsystems.iter().flat_map(calls).collect::<Vec<_>>();
    // They are set before any target is made, wherever they stand.
    let node_base = all.iter().filter(options).filter_map(|call| node_base(call)).next_back();
    let node_base = node_base.unwrap_or_else(|| Options::default().node_base);
    let mut subsystems = subsystems.to_vec();
    for config in subsystems.iter_mut().filter_map(|subsystem| subsystem.member_mut("config")) {
        make_names_whole(config, &node_base);
    }
    subsystems
}

/// The same of a call, or of those of a batch.
fn make_names_whole(call: &mut Json, node_base: &str) {
    if let Json::Array(batch) = call {
        return batch.iter_mut().for_each(|call| make_names_whole(call, node_base));
    }
    let method = text_of(call, "method");
    if !method.contains("_target_node") && method != "iscsi_enable_histogram" {
        return;
    }
    let name = call.member_mut("params").and_then(|params| params.member_mut("name"));
    if let Some(Json::String(name)) = name {
        *name = whole_name(name, node_base).to_lowercase();
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
