//! What became of each statement of a file: kept, changed or left out, with its place.

use std::fmt;
use std::sync::Arc;

use crate::rpc::json::{Json, object};

/// Where something stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// The line, counted from 1; 0: of the file as a whole.
    pub line: usize,
}

impl Place {
    /// A place in a file.
    pub fn new(file: &str, line: usize) -> Place {
        Place { file: Arc::from(file), line }
    }

    /// Another line of the same file.
    #[must_use]
    pub fn at(&self, line: usize) -> Place {
        Place { file: Arc::clone(&self.file), line }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// What became of a statement.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fate {
    /// Initiators notice no difference.
    Maps,
    /// It is there, but not quite the same.
    Changed,
    /// It is not there.
    Cannot,
}

impl Fate {
    fn text(self) -> &'static str {
        match self {
            Fate::Maps => "maps",
            Fate::Changed => "changed",
            Fate::Cannot => "cannot",
        }
    }
}

/// A line of the report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Where the statement is.
    pub place: Place,
    /// What became of it.
    pub fate: Fate,
    /// What that means.
    pub text: String,
}

/// Everything that is to be said of an import, in the order of the files.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Report {
    /// Its lines.
    pub entries: Vec<Entry>,
}

impl Report {
    /// Initiators notice no difference.
    pub fn maps(&mut self, place: &Place, text: impl fmt::Display) {
        self.add(place, Fate::Maps, text);
    }

    /// It is there, but not quite the same.
    pub fn changed(&mut self, place: &Place, text: impl fmt::Display) {
        self.add(place, Fate::Changed, text);
    }

    /// It is not there.
    pub fn cannot(&mut self, place: &Place, text: impl fmt::Display) {
        self.add(place, Fate::Cannot, text);
    }

    fn add(&mut self, place: &Place, fate: Fate, text: impl fmt::Display) {
        let entry = Entry { place: place.clone(), fate, text: text.to_string() };
        // What is true of many statements of a line is said once.
        if !self.entries.contains(&entry) {
            self.entries.push(entry);
        }
    }

    /// Puts them in the order of the files and their lines.
    pub fn sort(&mut self) {
        let mut files: Vec<Arc<str>> = Vec::new();
        for entry in &self.entries {
            if !files.contains(&entry.place.file) {
                files.push(Arc::clone(&entry.place.file));
            }
        }
        let order = |place: &Place| (files.iter().position(|file| *file == place.file), place.line);
        self.entries.sort_by_key(|entry| order(&entry.place));
    }

    /// For scripts.
    pub fn json(&self) -> Json {
        let entry = |Entry { place, fate, text }: &Entry| {
            object! { "file": &*place.file, "line": place.line as u64, "fate": fate.text(), "text": text }
        };
        let count = |fate| self.count(fate) as u64;
        object! {
            "entries": self.entries.iter().map(entry).collect::<Json>(),
            "maps": count(Fate::Maps),
            "changed": count(Fate::Changed),
            "cannot": count(Fate::Cannot),
        }
    }

    /// How many lines are of this kind.
    pub fn count(&self, fate: Fate) -> usize {
        self.entries.iter().filter(|entry| entry.fate == fate).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Entry { place, fate, text } in &self.entries {
            writeln!(f, "{place}: {}: {text}", fate.text())?;
        }
        let [maps, changed, cannot] = [Fate::Maps, Fate::Changed, Fate::Cannot].map(|fate| self.count(fate));
        write!(f, "{maps} kept, {changed} changed, {cannot} left out")
    }
}

/// A file that cannot be read as what it should be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{place}: {text}")]
pub struct ImportError {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub text: String,
}

impl ImportError {
    /// What is wrong, and where.
    pub fn new(place: &Place, text: impl fmt::Display) -> ImportError {
        ImportError { place: place.clone(), text: text.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_told_the_same() {
        let place = Place::new("ietd.conf", 3);
        let mut report = Report::default();
        report.maps(&place, "Lun 0");
        report.cannot(&place.at(4), "QueuedCommands 64");
        assert_eq!(
            report.json().to_string(),
            r#"{"entries":[{"file":"ietd.conf","line":3,"fate":"maps","text":"Lun 0"},{"file":"ietd.conf","line":4,"fate":"cannot","text":"QueuedCommands 64"}],"maps":1,"changed":0,"cannot":1}"#
        );
    }
}
