//! The command line: what operators type, and what they are told.
//!
//! Exit codes: 0 done, 1 it failed, 2 it was asked wrongly, 3 no daemon answers.

pub mod apply;
pub mod args;
pub mod check;
pub mod config;
pub mod cores;
pub mod disk;
pub mod doctor;
pub mod drain;
pub mod export;
mod files;
mod handed;
mod hints;
pub mod import;
mod limits;
mod log;
mod management;
pub mod nvme;
pub mod nvme_discover;
pub mod pages;
mod planted;
mod progress;
pub mod rpc;
mod secrets;
mod serve;
mod service;
pub mod share;
pub mod socket;
#[cfg(feature = "spdk")]
mod spdk;
mod state;
pub mod status;
mod table;
#[cfg(feature = "rpc-tls")]
mod tcp;
#[cfg(feature = "top")]
pub mod top;

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

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
#[command(
    name = "lunette",
    version = VERSION,
    after_help = "\
Begin with:
  lunette serve --demo              a RAM disk on 127.0.0.1, and how to reach it
  lunette serve disk.img            a file; Ctrl-C ends it
  lunette share 10G                 one more disk of the daemon that runs

Exit status: 0 done, 1 it failed, 2 it was asked wrongly, 3 no daemon answers.
Environment: LUNETTE_SOCKET names the daemon's socket, for serve and for all others; LUNETTE_TOKEN_FILE and LUNETTE_CA_FILE
are for a daemon at tcp://HOST:PORT."
)]
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
    /// Share a disk of a running daemon: a file, a device or a RAM disk.
    Share(share::Share),
    /// Share a disk no more; files and devices stay as they are.
    Unshare(share::Unshare),
    /// Change a disk's size while it is in use.
    Resize(share::Resize),
    /// Show on one screen what a running daemon serves, and what is wrong.
    Status(status::Look),
    /// Look for what keeps this machine from serving fast, or at all, and say what mends it.
    Doctor(doctor::Doctor),
    /// Watch what a running daemon does: LUNs, sessions, commands in flight.
    #[cfg(feature = "top")]
    Top(top::Top),
    /// List who is logged in.
    Sessions(status::Look),
    /// End sessions.
    Kick(status::Kick),
    /// Have initiators log out, and keep them from logging in: before a new start.
    Drain(drain::Drain),
    /// Say what is wrong with a configuration file, with line and column.
    Check(check::Check),
    /// Turn another target's configuration into lunette's.
    Import(import::Import),
    /// Turn lunette's configuration into another target's.
    Export(export::Export),
    /// Have a running daemon serve what a file says: all of it or nothing.
    Apply(apply::Apply),
    /// Look at the last versions of a configuration, or go back to one.
    Config(config::Config),
    /// Look at NVMe controllers.
    Nvme(nvme::Nvme),
    /// Make a CHAP secret out of random bits.
    ChapSecret(secrets::ChapSecret),
    /// Print completions for a shell.
    Completions(pages::Completions),
    /// Write manual pages.
    Man(pages::Man),
}

/// Why a command ends early. Its text says what to do.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Asked wrongly.
    Usage(String),
    /// No daemon answers.
    NoDaemon(String),
    /// Something else is in the way.
    Failure(String),
    /// It failed, and why was told already.
    Told,
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
        Command::Share(args) => ("share", share::share(&args)),
        Command::Unshare(args) => ("unshare", share::unshare(&args)),
        Command::Resize(args) => ("resize", share::resize(&args)),
        Command::Status(args) => ("status", status::status(&args)),
        Command::Doctor(args) => ("doctor", doctor::doctor(&args)),
        #[cfg(feature = "top")]
        Command::Top(args) => ("top", top::top(&args)),
        Command::Sessions(args) => ("sessions", status::list_sessions(&args)),
        Command::Kick(args) => ("kick", status::kick(&args)),
        Command::Drain(args) => ("drain", drain::drain(&args)),
        Command::Check(args) => ("check", check::check(&args)),
        Command::Import(args) => ("import", import::import(&args)),
        Command::Export(args) => ("export", export::export(&args)),
        Command::Apply(args) => ("apply", apply::apply(&args)),
        Command::Config(args) => ("config", config::config(&args)),
        Command::Nvme(args) => ("nvme", nvme::nvme(&args)),
        Command::ChapSecret(args) => ("chap-secret", secrets::make(args)),
        Command::Completions(args) => ("completions", pages::completions(args, Cli::command())),
        Command::Man(args) => ("man", pages::man(&args, Cli::command())),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Usage(text)) => {
            eprintln!("lunette: {text}\nTry 'lunette {name} --help'.");
            ExitCode::from(2)
        }
        Err(Failed::NoDaemon(text)) => {
            eprintln!("lunette: {text}");
            ExitCode::from(3)
        }
        Err(Failed::Told) => ExitCode::FAILURE,
        Err(Failed::Failure(text)) => {
            eprintln!("lunette: {text}");
            ExitCode::FAILURE
        }
    }
}
