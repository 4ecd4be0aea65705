//! How far something is that takes long: one line on standard error, written over again and again, where that is a terminal.

use std::io::{self, IsTerminal as _, Write as _};

/// Cells of the bar.
const CELLS: u64 = 20;

/// The line. It is wiped out when this is dropped.
#[derive(Debug)]
pub(super) struct Progress {
    is_shown: bool,
    shown: String,
}

impl Progress {
    pub(super) fn begin() -> Progress {
        Progress { is_shown: io::stderr().is_terminal(), shown: String::new() }
    }

    /// Shows how much is done.
    pub(super) fn show(&mut self, done: u64, all: u64, what: &str) {
        let line = line(done, all, what);
        if self.is_shown && line != self.shown {
            // Nobody is to wait for a line that cannot be shown.
            let _ = write!(io::stderr(), "\r\x1b[K{line}");
            self.shown = line;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if !self.shown.is_empty() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(done: u64, all: u64, what: &str) -> String {
    let full = done.min(all).saturating_mul(CELLS).checked_div(all).unwrap_or(CELLS);
    let cells: String = (0..CELLS).map(|cell| if cell < full { '#' } else { '.' }).collect();
    format!("[{cells}] {done} of {all} {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_when_all_is_done() {
        assert_eq!(line(0, 4, "x"), "[....................] 0 of 4 x");
        assert_eq!(line(1, 4, "x"), "[#####...............] 1 of 4 x");
        assert_eq!(line(4, 4, "x"), "[####################] 4 of 4 x");
        assert_eq!(line(0, 0, "x"), "[####################] 0 of 0 x");
        assert_eq!(line(9, 4, "x"), "[####################] 9 of 4 x");
    }
}
