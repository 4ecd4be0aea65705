//! What is wrong, and where.

use std::fmt;

use crate::rpc::json::{Json, object};

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Severity {
    /// The daemon would not start.
    Error,
    /// It would, and perhaps not do what is meant.
    Warning,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// A thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Finding {
    /// From 1.
    pub(super) line: usize,
    /// In characters, from 1.
    pub(super) column: usize,
    pub(super) severity: Severity,
    pub(super) text: String,
}

impl Finding {
    pub(super) fn json(&self) -> Json {
        object! {
            "line": self.line as u64,
            "column": self.column as u64,
            "severity": self.severity.word(),
            "text": &self.text,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { line, column, severity, text } = self;
        write!(f, "{line}:{column}: {}: {text}", severity.word())
    }
}

/// What was found in a text.
#[derive(Debug)]
pub(super) struct Findings<'a> {
    text: &'a str,
    found: Vec<Finding>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(text: &'a str) -> Findings<'a> {
        Findings { text, found: Vec::new() }
    }

    /// `at`: bytes from the beginning.
    pub(super) fn error(&mut self, at: usize, text: impl fmt::Display) {
        self.push(at, Severity::Error, text.to_string());
    }

    /// The same, for what may be meant.
    pub(super) fn warn(&mut self, at: usize, text: impl fmt::Display) {
        self.push(at, Severity::Warning, text.to_string());
    }

    /// The reader of JSON counts lines itself.
    pub(super) fn unreadable(&mut self, error: &serde_json::Error) {
        let said = error.to_string();
        let text = said.split(" at line ").next().unwrap_or_default().to_owned();
        let (line, column) = (error.line().max(1), error.column().max(1));
        self.found.push(Finding { line, column, severity: Severity::Error, text });
    }

    fn push(&mut self, at: usize, severity: Severity, text: String) {
        let before = self.text.get(..at).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        self.found.push(Finding { line, column, severity, text });
    }

    /// Everything, in the order of the file.
    pub(super) fn sorted(mut self) -> Vec<Finding> {
        self.found.sort_by_key(|finding| (finding.line, finding.column, finding.severity));
        self.found
    }
}

/// The word that was probably meant.
pub(super) fn meant<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let near = |known: &'a str| (strsim::osa_distance(word, known), known);
    // Two slips, or a third of a short word.
    let most = (word.chars().count() / 3).clamp(1, 3);
    let best = known.into_iter().map(near).min_by_key(|(distance, _)| *distance);
    match best {
        Some((distance, known)) if distance <= most => format!("; did you mean {known:?}?"),
        _ => String::new(),
    }
}
