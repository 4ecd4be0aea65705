//! Other targets' configurations: read into one model, written as lunette's own file of calls, with a report of what
//! initiators will notice.
//!
//! The readers are pure and total: any text gives a model and a report, or an error with its place. Files that a
//! configuration includes come through [`source::Files`]. What stands in no file, as who another target says a disk is, is worked
//! out as that target does it, so that initiators find the disks that they know.

mod braces;
mod ctld;
mod emit;
pub mod export;
mod identity;
mod iet;
mod istgt;
mod keys;
mod lio;
mod model;
mod only;
mod passed;
pub mod report;
mod scst;
mod settle;
pub mod source;
mod spdk;
#[cfg(test)]
mod tests;
mod text;
mod tgt;

use std::net::SocketAddr;

use crate::rpc::json::Json;
use model::Model;
use report::{ImportError, Place, Report};
use source::{Files, Source};

/// Whose configuration a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// tgt: targets.conf, or what `tgtadm --op show` prints.
    Tgt,
    /// The iSCSI Enterprise Target: ietd.conf, initiators.allow, initiators.deny, targets.allow.
    Iet,
    /// LIO: saveconfig.json.
    Lio,
    /// SCST: scst.conf.
    Scst,
    /// FreeBSD: ctl.conf.
    Ctld,
    /// istgt: istgt.conf and auth.conf.
    Istgt,
    /// SPDK: what save_config writes.
    Spdk,
}

impl Format {
    /// Whose files these are, by what is in them; none where that is not clear.
    pub fn detect(sources: &[Source]) -> Option<Format> {
        sources.iter().filter(|source| !iet::is_access_file(source)).find_map(|source| of_text(&source.text))
    }
}

fn of_text(text: &str) -> Option<Format> {
    if text.trim_start().starts_with('{') {
        let root = Json::parse(text).ok()?;
        let (is_spdk, is_lio) = (spdk::is_such(&root), lio::is_such(&root));
        return if is_spdk { Some(Format::Spdk) } else { is_lio.then_some(Format::Lio) };
    }
    if tgt::show::is_such(text) {
        return Some(Format::Tgt);
    }
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines().find_map(|line| {
        let key = line.split(|c: char| c.is_whitespace() || c == '{').next().unwrap_or_default();
        let is_block = text.contains('{');
        match key {
            "HANDLER" | "TARGET_DRIVER" | "DEVICE_GROUP" => Some(Format::Scst),
            "default-driver" | "<target" | "include" | "incomingdiscoveryuser" => Some(Format::Tgt),
            "portal-group" | "auth-group" | "lun" | "pidfile" if is_block => Some(Format::Ctld),
            "target" if is_block => Some(Format::Ctld),
            key if key.starts_with("[Global]")
                || key.starts_with("[LogicalUnit")
                || key.starts_with("[AuthGroup") =>
            {
                Some(Format::Istgt)
            }
            key if key.eq_ignore_ascii_case("Target") => Some(Format::Iet),
            _ => None,
        }
    })
}

/// What came of an import.
#[derive(Clone, PartialEq, Debug)]
pub struct Imported {
    /// The file of calls.
    pub config: Json,
    /// What initiators will notice.
    pub report: Report,
}

/// Reads another target's files, which belong together. `listen`: where to listen instead of at every address; nothing
/// leaves it at that. `only`: the names of the targets that are wanted; nothing stands for all.
///
/// # Errors
/// The first thing that makes no sense in such a file, or a target that is not there.
pub fn import(
    format: Format,
    sources: &[Source],
    files: &dyn Files,
    listen: &[SocketAddr],
    only: &[String],
) -> Result<Imported, ImportError> {
    let (mut model, mut report) = (Model::default(), Report::default());
    let place = Place::new(sources.first().map_or("", |source| &source.name), 0);
    match format {
        Format::Tgt if sources.iter().all(|source| tgt::show::is_such(&source.text)) => {
            let source = alone(sources)?;
            tgt::show::import(source, &mut model, &mut report)?;
        }
        Format::Tgt => tgt::import(sources, files, &mut model, &mut report)?,
        Format::Iet => iet::import(sources, &mut model, &mut report)?,
        Format::Lio => lio::import(alone(sources)?, files, &mut model, &mut report)?,
        Format::Scst => scst::import(sources, files, &mut model, &mut report)?,
        Format::Ctld => ctld::import(sources, &mut model, &mut report)?,
        Format::Istgt => istgt::import(sources, files, &mut model, &mut report)?,
        // Its calls are lunette's: they are taken as they are.
        Format::Spdk if !only.is_empty() => {
            return Err(ImportError::new(
                &place,
                "--only: not of a file of SPDK's; take out of it what is not wanted, lunette apply --merge adds the rest",
            ));
        }
        Format::Spdk => {
            let config = spdk::import(alone(sources)?, &mut report)?;
            return Ok(Imported { config, report });
        }
    }
    settle::settle(&mut model, listen, &place, &mut report);
    if !only.is_empty() {
        only::keep(&mut model, only, &place, &mut report)?;
    }
    if emit::has_weak_secrets(&model) {
        report.changed(
            &place,
            "CHAP secrets under 12 bytes (96 bits) can be guessed: lunette_weak_secrets is set for them",
        );
    }
    report.sort();
    Ok(Imported { config: emit::config(&model), report })
}

/// The file of a format that has but one.
fn alone(sources: &[Source]) -> Result<&Source, ImportError> {
    match sources {
        [source] => Ok(source),
        [] => Err(ImportError::new(&Place::new("", 0), "there is no file")),
        [_, second, ..] => Err(ImportError::new(
            &Place::new(&second.name, 0),
            "this format has one file: import each by itself",
        )),
    }
}
