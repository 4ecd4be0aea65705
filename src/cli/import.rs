//! `lunette import`: another target's configuration as lunette's on standard output, what that means on standard error.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use rustix::fs::FileType;

use super::args::address;
use super::progress::Progress;
use super::status::pretty;
use super::{Failed, print};
use crate::import::report::Fate;
use crate::import::source::{Disk, Files as _, Source};
use crate::import::{self, Format, Imported};
use crate::rpc::config::Plan;

/// `--from`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum FromArg {
    /// By what is in the files.
    Auto,
    /// tgt: targets.conf, or what tgtadm --op show prints.
    Tgt,
    /// IET: ietd.conf, with initiators.allow, initiators.deny and targets.allow.
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

impl FromArg {
    fn format(self) -> Option<Format> {
        Some(match self {
            FromArg::Auto => return None,
            FromArg::Tgt => Format::Tgt,
            FromArg::Iet => Format::Iet,
            FromArg::Lio => Format::Lio,
            FromArg::Scst => Format::Scst,
            FromArg::Ctld => Format::Ctld,
            FromArg::Istgt => Format::Istgt,
            FromArg::Spdk => Format::Spdk,
        })
    }
}

/// `lunette import`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  lunette import /etc/tgt/targets.conf > config.json
  lunette import --from iet /etc/iet/ietd.conf /etc/iet/initiators.allow > config.json
  lunette check config.json && lunette serve --config config.json
  lunette import --only iqn.2026-11.com.example:db /etc/tgt/targets.conf > db.json && lunette apply --merge db.json")]
pub struct Import {
    /// The configuration's files, all of them at once
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Whose configuration it is
    #[arg(long, value_enum, default_value = "auto", value_name = "TARGET")]
    pub from: FromArg,
    /// Only these targets, with what they need: to move one after the other (lunette apply --merge). Repeatable
    #[arg(long, value_name = "IQN", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Where to listen, where the other target listens on every address: ADDR or ADDR:PORT, IPv6 addresses in brackets. Repeatable
    #[arg(long = "portal", value_name = "ADDR:PORT", value_parser = address)]
    pub portals: Vec<SocketAddr>,
    /// Write nothing, and end with 1, where something had to be left out
    #[arg(long)]
    pub strict: bool,
    /// The report on standard error as JSON
    #[arg(long)]
    pub json: bool,
}

/// Whether this is a file that others can read.
fn is_open_file(file: impl AsFd) -> bool {
    let stat = rustix::fs::fstat(file);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file() && stat.st_mode & 0o077 != 0)
}

/// Reads, reports, prints.
#[expect(clippy::print_stderr, reason = "the report is the command's own voice")]
pub(super) fn import(args: &Import) -> Result<(), Failed> {
    let mut progress = Progress::begin();
    let sources = args.files.iter().zip(0u64..).map(|(path, read)| {
        progress.show(read, args.files.len() as u64, "files read");
        let text =
            Disk.read(path).map_err(|error| Failed::failure(format!("{}: {error}", path.display())))?;
        Ok(Source { name: path.to_string_lossy().into_owned(), text })
    });
    let sources: Vec<Source> = sources.collect::<Result<_, Failed>>()?;
    drop(progress);
    let format = args.from.format().or_else(|| Format::detect(&sources)).ok_or_else(|| {
        Failed::usage("whose configuration that is does not show: say it with --from tgt, iet, lio, scst, ctld, istgt or spdk")
    })?;
    let Imported { config, report } =
        import::import(format, &sources, &Disk, &args.portals, &args.only).map_err(Failed::failure)?;
    let mut text = String::new();
    config.write_pretty(&mut text);
    text.push('\n');
    // What is printed can be loaded, as far as that shows without its disks.
    let plan = Plan::parse(&text);
    let plan = plan.map_err(|error| Failed::failure(format!("this is a fault of lunette's: {error}")))?;
    eprint!("{}", if args.json { pretty(&report.json()) } else { format!("{report}\n") });
    if plan.has_secrets() && is_open_file(std::io::stdout()) {
        eprintln!(
            "warning: others can read the file that this goes to, and the secrets in it: chmod 600, or umask 077 before"
        );
    }
    let left_out = report.count(Fate::Cannot);
    if args.strict && left_out > 0 {
        return Err(Failed::failure(format!(
            "{left_out} statements cannot be taken over, and --strict was given"
        )));
    }
    print(&text)
}
