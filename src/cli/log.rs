//! Where log lines go: through a bounded queue to a thread of their own, as standard error may be a pipe that nobody
//! reads, and control must not wait for it.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::Failed;
use crate::rpc::context::LogLevel;

/// Lines that may wait to be written; more are dropped and counted.
const LINES_MAX: usize = 1024;
/// How long the end of the process waits for lines to be written.
const FLUSH: Duration = Duration::from_millis(200);

enum Line {
    Text(Vec<u8>),
    Flush(SyncSender<()>),
}

#[derive(Clone, Debug)]
struct Lines {
    sender: SyncSender<Line>,
    lost: Arc<AtomicU64>,
}

impl Write for Lines {
    /// One call is one line: the formatter writes each event whole.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(TrySendError::Full(_)) = self.sender.try_send(Line::Text(bytes.to_vec())) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

/// The log; writes what is left when dropped.
#[derive(Debug)]
pub(super) struct Log {
    lines: Lines,
    level: LogLevel,
}

impl Log {
    /// How much is logged, to be changed.
    pub(super) fn level(&self) -> LogLevel {
        self.level.clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let (done, is_done) = sync_channel(1);
        if self.lines.sender.try_send(Line::Flush(done)).is_ok() {
            let _ = is_done.recv_timeout(FLUSH);
        }
    }
}

/// Starts logging at a level, or `json`.
pub(super) fn start(what: &str) -> Result<Log, Failed> {
    let is_json = what == "json";
    let level: LevelFilter = if is_json { Ok(LevelFilter::INFO) } else { what.parse() }.map_err(|_| {
        Failed::usage(format!("--log: {what:?} is not off, error, warn, info, debug, trace or json"))
    })?;
    let (sender, receiver) = sync_channel(LINES_MAX);
    let lines = Lines { sender, lost: Arc::default() };
    let lost = Arc::clone(&lines.lost);
    let writer = std::thread::Builder::new().name("log".to_owned());
    writer.spawn(move || write(&receiver, &lost)).map_err(Failed::failure)?;
    let (filter, handle) = reload::Layer::new(level);
    let layer = tracing_subscriber::fmt::layer().with_writer(lines.clone()).with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    // It fails only where somebody has set a subscriber already, as a test may have.
    let _ = if is_json {
        registry.with(layer.json().flatten_event(true)).try_init()
    } else {
        registry.with(layer.with_ansi(io::stderr().is_terminal())).try_init()
    };
    let apply = move |level| {
        // It fails only where nobody logs any more.
        let _ = handle.reload(level);
    };
    Ok(Log { lines, level: LogLevel::new(level, apply) })
}

fn write(receiver: &Receiver<Line>, lost: &AtomicU64) {
    let mut out = io::stderr();
    // Where standard error is closed there is nobody to tell.
    while let Ok(line) = receiver.recv() {
        match line {
            Line::Text(text) => drop(out.write_all(&text)),
            Line::Flush(done) => drop(done.send(())),
        }
        let count = lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            drop(writeln!(out, "lunette: {count} log lines were lost: nobody read them in time"));
        }
    }
}
