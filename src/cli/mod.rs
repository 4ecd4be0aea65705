//! The command line: what operators type, and what they are told.
//!
//! Exit codes: 0 done, 1 it failed, 2 it was asked wrongly.

pub mod apply;
pub mod args;
pub mod config;
pub mod cores;
pub mod disk;
mod files;
mod hints;
mod log;
mod management;
pub mod nvme;
pub mod nvme_discover;
mod planted;
pub mod rpc;
mod secrets;
mod serve;
#[cfg(feature = "spdk")]
mod spdk;
mod state;
pub mod status;
mod table;

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

const VERSION: &str = {
    // What `build.rs` found; empty outside a git checkout.
    if env!("LUNETTE_COMMIT").is_empty() {
        env!("CARGO_PKG_VERSION")
    } else {
        concat!(env!("CARGO_PKG_VERSION"), " (", env!("LUNETTE_COMMIT"), ")")
    }
};

/// An iSCSI target that polls and runs to completion.
#[derive(Debug, Parser)]
#[command(name = "lunette", version = VERSION)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve disks.
    Serve(Box<args::Serve>),
    /// Call a running daemon by its JSON-RPC socket.
    Rpc(rpc::Rpc),
    /// Show on one screen what a running daemon serves, and what is wrong.
    Status(status::Look),
    /// List who is logged in.
    Sessions(status::Look),
    /// End sessions.
    Kick(status::Kick),
    /// Have a running daemon serve what a file says: all of it or nothing.
    Apply(apply::Apply),
    /// Look at the last versions of a configuration, or go back to one.
    Config(config::Config),
    /// Look at NVMe controllers.
    Nvme(nvme::Nvme),
    /// Make a CHAP secret out of random bits.
    ChapSecret(secrets::ChapSecret),
}

/// Why a command ends early. Its text says what to do.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Asked wrongly.
    Usage(String),
    /// Something else is in the way.
    Failure(String),
}

impl Failed {
    fn usage(text: impl fmt::Display) -> Failed {
        Failed::Usage(text.to_string())
    }

    fn failure(text: impl fmt::Display) -> Failed {
        Failed::Failure(text.to_string())
    }
}

/// Writes to standard output. That nobody reads it is no error.
fn print(text: &str) -> Result<(), Failed> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failed::failure(error)),
        _ => Ok(()),
    }
}

/// Runs the command that the process was started with.
#[expect(clippy::print_stderr, reason = "the command's own voice")]
pub fn run() -> ExitCode {
    let (name, result) = match Cli::parse().command {
        Command::Serve(args) => ("serve", serve::serve(&args)),
        Command::Rpc(args) => ("rpc", rpc::rpc(&args)),
        Command::Status(args) => ("status", status::status(&args)),
        Command::Sessions(args) => ("sessions", status::list_sessions(&args)),
        Command::Kick(args) => ("kick", status::kick(&args)),
        Command::Apply(args) => ("apply", apply::apply(&args)),
        Command::Config(args) => ("config", config::config(&args)),
        Command::Nvme(args) => ("nvme", nvme::nvme(&args)),
        Command::ChapSecret(args) => ("chap-secret", secrets::make(args)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Usage(text)) => {
            eprintln!("lunette: {text}\nTry 'lunette {name} --help'.");
            ExitCode::from(2)
        }
        Err(Failed::Failure(text)) => {
            eprintln!("lunette: {text}");
            ExitCode::FAILURE
        }
    }
}
