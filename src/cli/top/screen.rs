//! What `lunette top` shows.

use std::collections::VecDeque;
use std::fmt::Write as _;

use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::widgets::{Block, Paragraph, Row, Sparkline, Table, TableState};

use super::sample::{Command, Lun, Sample, Session};
use crate::cli::table::table;
use crate::meter::STAGES;

/// Looks whose rates the curves show.
const HISTORY: usize = 120;

/// Which table is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum View {
    Luns,
    Sessions,
    Commands,
}

impl View {
    fn next(self) -> View {
        match self {
            View::Luns => View::Sessions,
            View::Sessions => View::Commands,
            View::Commands => View::Luns,
        }
    }
}

/// The screen.
#[derive(Debug)]
pub(super) struct Screen {
    sample: Sample,
    ios: VecDeque<u64>,
    bytes: VecDeque<u64>,
    view: View,
    /// By which column, counted in [`sorted`].
    sort: usize,
    /// Only this session's commands.
    session: Option<u64>,
    /// Only this LUN, by target and number, with where the time of its commands goes.
    lun: Option<(String, String)>,
    rows: TableState,
}

impl Screen {
    pub(super) fn new() -> Screen {
        Screen {
            sample: Sample::default(),
            ios: VecDeque::with_capacity(HISTORY),
            bytes: VecDeque::with_capacity(HISTORY),
            view: View::Luns,
            sort: 0,
            session: None,
            lun: None,
            rows: TableState::default(),
        }
    }

    /// What went on since the last look.
    pub(super) fn show(&mut self, sample: Sample) {
        for (history, value) in [(&mut self.ios, sample.ios()), (&mut self.bytes, sample.bytes())] {
            if history.len() == HISTORY {
                history.pop_front();
            }
            history.push_back(value as u64);
        }
        self.sample = sample;
    }

    /// A key was pressed. Whether to go on.
    pub(super) fn pressed(&mut self, key: KeyCode) -> bool {
        match key {
            KeyCode::Char('q') => return false,
            KeyCode::Tab => {
                (self.view, self.session, self.lun) = (self.view.next(), None, None);
                self.rows = TableState::default();
            }
            KeyCode::Char('s') => self.sort += 1,
            KeyCode::Down => self.rows.select_next(),
            KeyCode::Up => self.rows.select_previous(),
            KeyCode::Enter if self.view == View::Sessions => {
                let sessions = self.sessions();
                if let Some(session) = self.rows.selected().and_then(|index| sessions.get(index)) {
                    (self.view, self.session) = (View::Commands, Some(session.number));
                    self.rows = TableState::default();
                }
            }
            KeyCode::Enter if self.view == View::Luns && self.lun.is_none() => {
                let luns = self.luns();
                if let Some(lun) = self.rows.selected().and_then(|index| luns.get(index)) {
                    self.lun = Some((lun.target.clone(), lun.number.clone()));
                    self.rows = TableState::default();
                }
            }
            KeyCode::Esc if self.lun.is_some() => {
                self.lun = None;
                self.rows = TableState::default();
            }
            KeyCode::Esc if self.session.is_some() => {
                (self.view, self.session) = (View::Sessions, None);
                self.rows = TableState::default();
            }
            _ => {}
        }
        true
    }

    fn luns(&self) -> Vec<Lun> {
        let mut luns = self.sample.luns.clone();
        let key = |lun: &Lun| match self.sort % 4 {
            0 => lun.read_ios + lun.write_ios,
            1 => lun.read_bytes + lun.write_bytes,
            2 => lun.latency_us.unwrap_or(0.0),
            _ => lun.p99_us.unwrap_or(0.0),
        };
        luns.sort_by(|a, b| key(b).total_cmp(&key(a)));
        luns
    }

    fn sessions(&self) -> Vec<Session> {
        let mut sessions = self.sample.sessions.clone();
        match self.sort % 3 {
            0 => sessions.sort_by_key(|session| std::cmp::Reverse(session.commands)),
            1 => sessions.sort_by_key(|session| std::cmp::Reverse(session.oldest_us)),
            _ => sessions.sort_by(|a, b| a.initiator.cmp(&b.initiator)),
        }
        sessions
    }

    fn commands(&self) -> Vec<Command> {
        let is_wanted = |command: &&Command| self.session.is_none_or(|session| session == command.session);
        self.sample.commands.iter().filter(is_wanted).cloned().collect()
    }

    fn sorted(&self) -> &'static str {
        match (self.view, self.sort % 4, self.sort % 3) {
            (View::Luns, 0, _) => "by IOs",
            (View::Luns, 1, _) => "by bytes",
            (View::Luns, 2, _) => "by latency",
            (View::Luns, ..) => "by p99",
            (View::Sessions, _, 0) => "by commands",
            (View::Sessions, _, 1) => "by age",
            (View::Sessions, ..) => "by name",
            (View::Commands, ..) => "by age",
        }
    }

    /// Draws it.
    pub(super) fn draw(&mut self, frame: &mut Frame<'_>) {
        let [head, curves, body, foot] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(4),
            Constraint::Min(3),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(Paragraph::new(summary(&self.sample)), head);
        self.draw_curves(frame, curves);
        self.draw_table(frame, body);
        let keys =
            "q quit  Tab next table  s sort  ↑↓ select  Enter a LUN's stages, a session's commands  Esc back";
        frame.render_widget(Paragraph::new(keys).style(Style::new().add_modifier(Modifier::DIM)), foot);
    }

    fn draw_curves(&self, frame: &mut Frame<'_>, area: Rect) {
        let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(area);
        for (area, title, history) in [(left, "IO/s", &self.ios), (right, "bytes/s", &self.bytes)] {
            let width = usize::from(area.width.saturating_sub(2));
            let data: Vec<u64> = history.iter().skip(history.len().saturating_sub(width)).copied().collect();
            frame.render_widget(Sparkline::default().data(data).block(Block::bordered().title(title)), area);
        }
    }

    fn draw_table(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        if let Some((target, number)) = &self.lun {
            let of = |lun: &&Lun| lun.target == *target && lun.number == *number;
            let found = self.sample.luns.iter().find(of);
            let rows = found.map(stage_rows).unwrap_or_default().into_iter().map(Row::new);
            let title = format!("LUN {number} of {}: where the time of its commands goes", short(target));
            let table = Table::new(rows, [8, 9, 9, 60].map(Constraint::Length))
                .header(Row::new(STAGE_HEADER).style(bold))
                .block(Block::bordered().title(title));
            return frame.render_widget(table, area);
        }
        let (title, header, rows, widths) = match self.view {
            View::Luns => {
                let rows = self.luns().iter().map(lun_cells).map(Row::new).collect::<Vec<_>>();
                ("LUNs".to_owned(), LUN_HEADER.to_vec(), rows, vec![20, 4, 12, 8, 8, 9, 9, 9, 9, 9])
            }
            View::Sessions => {
                let rows = self.sessions().iter().map(session_cells).map(Row::new).collect::<Vec<_>>();
                ("sessions".to_owned(), SESSION_HEADER.to_vec(), rows, vec![7, 30, 24, 16, 10, 5, 9, 10])
            }
            View::Commands => {
                let rows = self.commands().iter().map(command_cells).map(Row::new).collect::<Vec<_>>();
                let title = match self.session {
                    Some(session) => format!("commands in flight of session {session}"),
                    None => "commands in flight".to_owned(),
                };
                (title, COMMAND_HEADER.to_vec(), rows, vec![7, 4, 12, 22, 12, 8, 10, 44])
            }
        };
        let title = format!("{title}, {}", self.sorted());
        let table = Table::new(rows, widths.into_iter().map(Constraint::Length))
            .header(Row::new(header).style(bold))
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
            .block(Block::bordered().title(title));
        frame.render_stateful_widget(table, area, &mut self.rows);
    }
}

const LUN_HEADER: [&str; 10] =
    ["target", "LUN", "bdev", "read/s", "write/s", "read B/s", "write B/s", "latency", "p50", "p99"];
const STAGE_HEADER: [&str; 4] = ["stage", "p50", "p99", ""];
const SESSION_HEADER: [&str; 8] =
    ["session", "initiator", "target", "address", "reactor", "conns", "commands", "oldest"];
const COMMAND_HEADER: [&str; 8] = ["session", "LUN", "bdev", "command", "LBA", "bytes", "age", "waits for"];

/// The first two lines.
fn summary(sample: &Sample) -> String {
    let reactors: Vec<String> = sample
        .reactors
        .iter()
        .map(|(name, connections, commands)| format!("{name}: {connections} conns, {commands} in flight"))
        .collect();
    let latencies: Vec<String> = sample
        .latencies
        .iter()
        .map(|one| format!("{} p50 {} p99 {}", short(&one.target), time(one.p50_us), time(one.p99_us)))
        .collect();
    // Where no target's commands are counted (iscsi_enable_histogram), the devices' IOs always are.
    let latencies = match sample.devices_us {
        _ if !latencies.is_empty() => latencies.join("  "),
        Some((p50_us, p99_us)) => format!("devices p50 {} p99 {}", about(p50_us), about(p99_us)),
        None => "devices p50 - p99 -".to_owned(),
    };
    format!(
        "{} IO/s  {}B/s  {} sessions  {latencies}\n{}",
        amount(sample.ios()),
        amount(sample.bytes()),
        sample.sessions.len(),
        reactors.join("  ")
    )
}

/// All tables, one below the other.
pub(super) fn in_words(sample: &Sample) -> String {
    let mut screen = Screen::new();
    screen.show(sample.clone());
    let mut out = summary(sample);
    let _ = write!(out, "\n\n{}", table(LUN_HEADER, screen.luns().iter().map(lun_cells)));
    let _ = write!(out, "\n{}", table(SESSION_HEADER, screen.sessions().iter().map(session_cells)));
    let _ = write!(out, "\n{}", table(COMMAND_HEADER, screen.commands().iter().map(command_cells)));
    out
}

fn lun_cells(lun: &Lun) -> [String; 10] {
    [
        short(&lun.target).to_owned(),
        lun.number.clone(),
        lun.bdev.clone(),
        amount(lun.read_ios),
        amount(lun.write_ios),
        amount(lun.read_bytes),
        amount(lun.write_bytes),
        lun.latency_us.map_or_else(|| "-".to_owned(), time),
        lun.p50_us.map_or_else(|| "-".to_owned(), about),
        lun.p99_us.map_or_else(|| "-".to_owned(), about),
    ]
}

/// Of each stage what half of the commands were in it no longer than, and 99 of a hundred.
fn stage_rows(lun: &Lun) -> Vec<[String; 4]> {
    const ABOUT: [&str; 4] = [
        "until its turn",
        "until a device had the first of it: buffers, data written",
        "until the device had given back the last",
        "until its answer was queued",
    ];
    let shown = |us: Option<f64>| us.map_or_else(|| "-".to_owned(), about);
    let rows = STAGES.into_iter().zip(lun.stages_us).zip(ABOUT).map(|((stage, us), meaning)| {
        let (p50_us, p99_us) = us.unzip();
        [stage.to_owned(), shown(p50_us), shown(p99_us), meaning.to_owned()]
    });
    rows.collect()
}

fn session_cells(session: &Session) -> [String; 8] {
    [
        session.number.to_string(),
        session.initiator.clone(),
        short(&session.target).to_owned(),
        session.address.clone(),
        session.reactor.clone(),
        session.connections.to_string(),
        session.commands.to_string(),
        if session.commands > 0 { time(session.oldest_us as f64) } else { "-".to_owned() },
    ]
}

fn command_cells(command: &Command) -> [String; 8] {
    [
        command.session.to_string(),
        command.lun.clone(),
        command.bdev.clone(),
        command.name.clone(),
        command.lba.clone(),
        amount(command.bytes as f64),
        time(command.age_us as f64),
        format!("{}: {}", command.waits_for, command.about),
    ]
}

/// What of a target's name tells it from others.
fn short(target: &str) -> &str {
    target.split_once(':').map_or(target, |(_, short)| short)
}

/// Three digits or so, and a prefix.
fn amount(value: f64) -> String {
    let (value, prefix) = match value {
        value if value >= 1e9 => (value / 1e9, "G"),
        value if value >= 1e6 => (value / 1e6, "M"),
        value if value >= 1e4 => (value / 1e3, "k"),
        value => return format!("{value:.0}"),
    };
    format!("{value:.1}{prefix}")
}

/// Of microseconds.
fn time(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{:.1} s", us / 1e6),
        us if us >= 1e3 => format!("{:.1} ms", us / 1e3),
        us => format!("{us:.0} us"),
    }
}

/// The same of what is known by buckets, the first of which ends at 1.024.
fn about(us: f64) -> String {
    if us < 1.03 { "<1 us".to_owned() } else { time(us) }
}

#[cfg(test)]
mod tests;
