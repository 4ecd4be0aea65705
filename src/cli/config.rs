//! `lunette config`: the last versions of a configuration that `serve --config FILE` keeps.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::status::pretty;
use super::{Failed, print};
use crate::rpc::config::Plan;
use crate::rpc::difference::{Difference, difference};
use crate::rpc::json::{Json, object};
use crate::rpc::versions::{TakeError, Version, Versions};

/// `lunette config`.
#[derive(Clone, Debug, Args)]
pub struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// List the versions, the oldest first
    History {
        /// What serve --config was given
        #[arg(short = 'c', long, value_name = "FILE")]
        config: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the calls that two versions differ in; secrets are not shown
    Diff {
        /// What serve --config was given
        #[arg(short = 'c', long, value_name = "FILE")]
        config: PathBuf,
        /// The older one [default: the last that differs from the file]
        from: Option<u64>,
        /// The newer one [default: the file]
        to: Option<u64>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a version the file's content again, for the next start
    Rollback {
        /// What serve --config was given
        #[arg(short = 'c', long, value_name = "FILE")]
        config: PathBuf,
        /// Which [default: the last that differs from the file]
        version: Option<u64>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// Does it.
pub(super) fn config(args: &Config) -> Result<(), Failed> {
    match &args.command {
        Command::History { config, json } => history(config, *json),
        Command::Diff { config, from, to, json } => diff(config, *from, *to, *json),
        Command::Rollback { config, version, json } => rollback(config, *version, *json),
    }
}

/// A configuration, its text and its versions.
struct Known {
    versions: Versions,
    list: Vec<Version>,
    text: String,
    /// As it was given, for people.
    path: PathBuf,
}

impl Known {
    fn read(path: &Path) -> Result<Known, Failed> {
        let failed = |error| Failed::failure(format!("{}: {error}", path.display()));
        let real = std::fs::canonicalize(path).map_err(failed)?;
        let text = std::fs::read_to_string(&real).map_err(failed)?;
        let versions = Versions::of(&real);
        let list = versions.list().map_err(Failed::failure)?;
        if list.is_empty() {
            return Err(Failed::failure(format!(
                "{}: there are no versions: 'lunette serve --config {0} --rpc-socket PATH' keeps one for each change",
                path.display()
            )));
        }
        Ok(Known { versions, list, text, path: path.to_owned() })
    }

    fn find(&self, number: u64) -> Result<&Version, Failed> {
        self.list.iter().find(|version| version.number == number).ok_or_else(|| {
            let [first, .., last] = &*self.list else {
                return Failed::usage(format!(
                    "there is no version {number}; there is {}",
                    self.list[0].number
                ));
            };
            Failed::usage(format!(
                "there is no version {number}; there are {} to {}",
                first.number, last.number
            ))
        })
    }

    /// The last one that says something else than the file.
    fn before(&self) -> Result<&Version, Failed> {
        for version in self.list.iter().rev() {
            if version.read().map_err(Failed::failure)? != self.text {
                return Ok(version);
            }
        }
        Err(Failed::failure(format!("{}: no version differs from it", self.path.display())))
    }

    fn chosen(&self, number: Option<u64>) -> Result<&Version, Failed> {
        number.map_or_else(|| self.before(), |number| self.find(number))
    }
}

fn history(path: &Path, is_json: bool) -> Result<(), Failed> {
    let known = Known::read(path)?;
    let mut rows = Vec::new();
    for version in &known.list {
        let is_current = version.read().map_err(Failed::failure)? == known.text;
        let at = Timestamp::try_from(version.at).map_err(Failed::failure)?;
        rows.push((version, at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(), is_current));
    }
    let mut out = String::new();
    if is_json {
        let rows = rows.iter().map(|(version, at, is_current)| {
            object! {
                "version": version.number,
                "written": at,
                "bytes": version.bytes,
                "by": &version.cause,
                "is_current": *is_current,
            }
        });
        rows.collect::<Json>().write_pretty(&mut out);
        out.push('\n');
    } else {
        out.push_str("VERSION  WRITTEN                  BYTES  BY\n");
        for (version, at, is_current) in &rows {
            let Version { number, bytes, cause, .. } = version;
            let mark = if *is_current { "  (as the file is)" } else { "" };
            out.push_str(&format!("{number:7}  {at}  {bytes:8}  {cause}{mark}\n"));
        }
        if !rows.iter().any(|(_, _, is_current)| *is_current) {
            out.push_str(&format!("{} is none of them: it was changed by hand\n", path.display()));
        }
    }
    print(&out)
}

fn plan(name: &str, text: &str) -> Result<Plan, Failed> {
    Plan::parse(text).map_err(|error| Failed::failure(format!("{name}: {error}")))
}

fn diff(path: &Path, from: Option<u64>, to: Option<u64>, is_json: bool) -> Result<(), Failed> {
    let known = Known::read(path)?;
    let from = known.chosen(from)?;
    let old = plan(&format!("version {}", from.number), &from.read().map_err(Failed::failure)?)?;
    let new = match to {
        Some(to) => plan(&format!("version {to}"), &known.find(to)?.read().map_err(Failed::failure)?)?,
        None => plan(&path.display().to_string(), &known.text)?,
    };
    let differences = difference(&old, &new);
    if is_json {
        let one = |line: &Difference| object! { "is_new": line.is_new, "call": &line.call };
        return print(&pretty(&differences.iter().map(one).collect::<Json>()));
    }
    let lines = differences.into_iter();
    let lines = lines.map(|line| format!("{} {}\n", if line.is_new { '+' } else { '-' }, line.call));
    print(&lines.collect::<String>())
}

fn rollback(path: &Path, version: Option<u64>, is_json: bool) -> Result<(), Failed> {
    let known = Known::read(path)?;
    let version = known.chosen(version)?;
    let text = version.read().map_err(Failed::failure)?;
    // A version is what a daemon wrote or read, but it may be from a newer one.
    plan(&format!("version {}", version.number), &text)?;
    let taken = known.versions.clone().take().map_err(|error| match error {
        TakeError::InUse(_) => Failed::failure(format!("{error}: stop it first")),
        TakeError::Io(_) => Failed::failure(error),
    })?;
    taken.roll_back(&text).map_err(Failed::failure)?;
    if is_json {
        return print(&pretty(&object! { "file": path.display().to_string(), "version": version.number }));
    }
    print(&format!("{} is version {} again: the next start takes it\n", path.display(), version.number))
}
