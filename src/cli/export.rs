//! `lunette export`: lunette's configuration as another target's on standard output, what that loses on standard error.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::status::pretty;
use super::{Failed, print};
use crate::import::export::{self, Exported};
use crate::import::source::{Disk, Files as _, Source};

/// `--to`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum ToArg {
    /// SPDK: what load_config takes.
    Spdk,
    /// LIO: saveconfig.json.
    Lio,
    /// tgt: targets.conf.
    Tgt,
}

impl From<ToArg> for export::To {
    fn from(to: ToArg) -> export::To {
        match to {
            ToArg::Spdk => export::To::Spdk,
            ToArg::Lio => export::To::Lio,
            ToArg::Tgt => export::To::Tgt,
        }
    }
}

/// `lunette export`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  lunette rpc lunette_get_config > config.json && lunette export --to lio config.json > saveconfig.json")]
pub struct Export {
    /// lunette's configuration, as lunette_save_config writes it
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Whose configuration is wanted
    #[arg(long, value_enum, value_name = "TARGET")]
    pub to: ToArg,
    /// The report on standard error as JSON
    #[arg(long)]
    pub json: bool,
}

/// Reads, reports, prints.
#[expect(clippy::print_stderr, reason = "the report is the command's own voice")]
pub(super) fn export(args: &Export) -> Result<(), Failed> {
    let name = args.file.display().to_string();
    let text = Disk.read(&args.file).map_err(|error| Failed::failure(format!("{name}: {error}")))?;
    let source = Source { name, text };
    let Exported { text, report } =
        export::export(args.to.into(), &source, &Disk).map_err(Failed::failure)?;
    eprint!("{}", if args.json { pretty(&report.json()) } else { format!("{report}\n") });
    print(&text)
}
