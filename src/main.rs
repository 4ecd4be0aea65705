//! The `lunette` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    lunette::cli::run()
}
