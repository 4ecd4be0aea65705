//! What the command line tells shells and `man` of itself: `lunette completions` and `lunette man`.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;

use super::{Failed, print};

/// `lunette completions`.
#[derive(Clone, Copy, Debug, Args)]
#[command(after_help = "\
Examples:
  lunette completions bash > /usr/share/bash-completion/completions/lunette
  lunette completions zsh > /usr/share/zsh/vendor-completions/_lunette
  lunette completions fish > /usr/share/fish/vendor_completions.d/lunette.fish")]
pub struct Completions {
    /// For which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// `lunette man`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  lunette man /usr/local/share/man/man1 && man lunette-share")]
pub struct Man {
    /// The folder that gets the pages: lunette.1, and one for each command
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

/// Prints what a shell reads.
pub(super) fn completions(args: Completions, mut command: Command) -> Result<(), Failed> {
    let mut out = Vec::new();
    clap_complete::generate(args.shell, &mut command, "lunette", &mut out);
    print(&String::from_utf8(out).map_err(Failed::failure)?)
}

/// Writes the pages.
pub(super) fn man(args: &Man, command: Command) -> Result<(), Failed> {
    let failed = |error| Failed::failure(format!("{}: {error}", args.folder.display()));
    std::fs::create_dir_all(&args.folder).map_err(failed)?;
    // A page for 'lunette help' would say nothing.
    clap_mangen::generate_to(command.disable_help_subcommand(true), &args.folder).map_err(failed)
}
