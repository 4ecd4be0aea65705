//! The `lunette-load` command. Exit codes: 0 done, 1 it failed or there were errors, 2 it was asked wrongly.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use lunette_load::Options;

fn main() -> ExitCode {
    let options = Options::parse();
    let report = match lunette_load::run(&options) {
        Ok(report) => report,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::from(error.exit_code());
        }
    };
    for trouble in &report.troubles {
        complain(trouble);
    }
    let rest = (report.errors + report.verify_errors).saturating_sub(report.troubles.len() as u64);
    if rest > 0 {
        complain(&format!("and {rest} more"));
    }
    let text = if options.json { format!("{}\n", report.json()) } else { report.table() };
    let is_written = std::io::stdout().write_all(text.as_bytes()).is_ok();
    if report.is_clean() && is_written { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tells of something on stderr; who closed it does not want to know.
fn complain(what: &str) {
    let _ = writeln!(std::io::stderr(), "lunette-load: {what}");
}
