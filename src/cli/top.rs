//! `lunette top`: what a running daemon does, again and again: LUNs, sessions, commands in flight.
//!
//! It only asks, by the same calls as everybody; `sample` makes rates of two answers, `screen` shows them.

mod sample;
mod screen;

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use self::sample::{Counts, Sample};
use self::screen::Screen;
use super::rpc::call;
use super::socket::SocketArg;
use super::{Failed, print};
use crate::rpc::json::{Json, object};

/// `lunette top`.
#[derive(Clone, Debug, Args)]
pub struct Top {
    /// Which daemon.
    #[command(flatten)]
    pub socket: SocketArg,
    /// Seconds between two looks
    #[arg(short, long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub interval: u64,
    /// Look twice, print what went on in between, and end
    #[arg(long)]
    pub once: bool,
}

/// Commands listed: those that have been there for so long.
const OLDER_THAN_MS: u64 = 1;

/// Shows until told to stop.
pub(super) fn top(args: &Top) -> Result<(), Failed> {
    let interval = Duration::from_secs(args.interval);
    let socket = args.socket.path()?;
    let first = ask(&socket)?;
    if args.once {
        std::thread::sleep(interval);
        let second = ask(&socket)?;
        return print(&screen::in_words(&Sample::between(&first, &second)));
    }
    let mut terminal =
        ratatui::try_init().map_err(|error| Failed::failure(format!("{error}; --once needs no terminal")))?;
    let ended = watch(&mut terminal, &socket, interval, first);
    ratatui::restore();
    ended
}

fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    socket: &Path,
    interval: Duration,
    first: Counts,
) -> Result<(), Failed> {
    let mut before = first;
    let mut screen = Screen::new();
    let mut due = Instant::now() + interval;
    loop {
        terminal.draw(|frame| screen.draw(frame)).map_err(Failed::failure)?;
        let left = due.saturating_duration_since(Instant::now());
        if event::poll(left).map_err(Failed::failure)? {
            if let Event::Key(key) = event::read().map_err(Failed::failure)?
                && key.kind == KeyEventKind::Press
            {
                let is_interrupt =
                    key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                if is_interrupt || !screen.pressed(key.code) {
                    return Ok(());
                }
            }
            continue;
        }
        due = Instant::now() + interval;
        let now = ask(socket)?;
        screen.show(Sample::between(&before, &now));
        before = now;
    }
}

/// What there is now.
fn ask(socket: &Path) -> Result<Counts, Failed> {
    let nothing = Json::Null;
    let targets = call(socket, "iscsi_get_target_nodes", &nothing)?;
    let mut histograms = Vec::new();
    if let Json::Array(targets) = &targets {
        for name in targets.iter().filter_map(|target| target.member("name")?.text()) {
            // Refused where nobody has asked for it to be counted.
            let counted = call(socket, "iscsi_get_histogram", &object! { "name": name });
            histograms.extend(counted.ok().map(|counted| (name.to_owned(), counted)));
        }
    }
    Ok(Counts::read(
        &call(socket, "bdev_get_iostat", &nothing)?,
        &call(socket, "iscsi_get_connections", &nothing)?,
        &call(socket, "lunette_get_commands", &object! { "older_than_ms": OLDER_THAN_MS })?,
        &targets,
        &histograms,
    ))
}
