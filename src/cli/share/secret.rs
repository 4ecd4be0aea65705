//! The secret of `--chap`: from a file, asked for, or made. Never an argument: everybody on the machine reads those.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::super::Failed;
use super::super::secrets;

/// Where a secret is from.
pub(super) enum Source {
    /// People know it.
    Told(String),
    /// Nobody knows it yet.
    Made(String),
}

impl Source {
    /// A new one, or that of a file; `-` is standard input.
    pub(super) fn of(file: Option<&Path>) -> Result<Source, Failed> {
        Ok(match file {
            None => Source::Made(secrets::random(true)?),
            Some(path) if path == Path::new("-") => Source::Told(checked(asked()?)?),
            Some(path) => {
                let bytes = secrets::from_file(path, false)?.0;
                let is_no_text = |_| Failed::failure(format!("{}: it is not UTF-8", path.display()));
                Source::Told(String::from_utf8(bytes).map_err(is_no_text)?)
            }
        })
    }

    /// It.
    pub(super) fn secret(&self) -> &str {
        match self {
            Source::Told(secret) | Source::Made(secret) => secret,
        }
    }

    /// It, where it has to be told.
    pub(super) fn made(self) -> Option<String> {
        match self {
            Source::Told(_) => None,
            Source::Made(secret) => Some(secret),
        }
    }
}

/// RFC 7143 §9.2.1: at least 96 bits.
fn checked(secret: String) -> Result<String, Failed> {
    match secret.len() {
        0..12 => Err(Failed::failure(format!(
            "a secret of {} bytes can be guessed: give 12 to 16, or leave --chap-secret-file out to have one made",
            secret.len()
        ))),
        _ => Ok(secret),
    }
}

/// The first line of standard input; a terminal does not show it.
#[expect(clippy::print_stderr, reason = "the question is the command's own voice")]
fn asked() -> Result<String, Failed> {
    let input = io::stdin();
    let failed = |error: io::Error| Failed::failure(format!("standard input: {error}"));
    let hidden = if input.is_terminal() {
        eprint!("secret: ");
        io::stderr().flush().map_err(failed)?;
        Some(Hidden::begin().map_err(failed)?)
    } else {
        None
    };
    let mut line = String::new();
    let read = input.read_line(&mut line).map_err(failed);
    if hidden.is_some() {
        eprintln!();
    }
    read?;
    let end = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(end);
    Ok(line)
}

/// A terminal that does not show what is typed, until this is dropped.
struct Hidden(Termios);

impl Hidden {
    fn begin() -> io::Result<Hidden> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Hidden(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // Where the terminal is gone there is nothing to show it on.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}
