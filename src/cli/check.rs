//! `lunette check`: what is wrong with a configuration file, all of it, with line and column, before a daemon is given it.
//!
//! Not here: whether its disks can be opened and its portals be had, which only a daemon finds out.

mod findings;
mod names;
mod walk;

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use clap::Args;

use self::findings::{Finding, Findings, Severity};
use super::status::pretty;
use super::{Failed, print};
use crate::import::source::{Disk, Files as _};
use crate::rpc::json::{Json, object};

/// `lunette check`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Each line is FILE:LINE:COLUMN, 'error' or 'warning', and what it is. With an error 'lunette serve --config FILE' would not
start, and this ends with 1.

Examples:
  lunette check /etc/lunette/config.json
  lunette import targets.conf > new.json && lunette check new.json && lunette apply new.json --dry-run")]
pub struct Check {
    /// Calls, as lunette_save_config or spdk-rpc save_config writes them
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// End with 1 where there are warnings, too
    #[arg(long)]
    pub strict: bool,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Checks it.
pub(super) fn check(args: &Check) -> Result<(), Failed> {
    let name = args.file.display().to_string();
    let text = Disk.read(&args.file).map_err(|error| Failed::failure(format!("{name}: {error}")))?;
    let mut findings = Findings::new(&text);
    let calls = walk::calls(&text, &mut findings);
    names::check(&calls, &mut findings);
    let has_secrets =
        calls.iter().any(|call| call.method.starts_with("iscsi_") && call.method.contains("auth_group"));
    let mode = std::fs::metadata(&args.file).map_or(0, |metadata| metadata.mode());
    if has_secrets && mode & 0o077 != 0 {
        findings.warn(0, format!("others can read the secrets in it: chmod 600 {name}"));
    }
    let found = findings.sorted();
    let count = |severity| found.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if args.json {
        print(&pretty(&object! {
            "calls": calls.len() as u64,
            "errors": errors as u64,
            "warnings": warnings as u64,
            "findings": found.iter().map(Finding::json).collect::<Json>(),
        }))?;
    } else {
        let mut out: String = found.iter().map(|finding| format!("{name}:{finding}\n")).collect();
        out.push_str(&format!("{name}: {} calls, {errors} errors, {warnings} warnings\n", calls.len()));
        print(&out)?;
    }
    match errors + if args.strict { warnings } else { 0 } {
        0 => Ok(()),
        // All was said.
        _ => Err(Failed::Told),
    }
}

#[cfg(test)]
mod tests;
