//! The files that are read: those named by the operator, and those that they include.
//!
//! Everything is bounded, as a file of another's may say anything: its size, how many files there are, how deep they
//! include one another.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::control::access::fits;

/// A file, at most.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Files that one pattern stands for, at most.
const MATCHES_MAX: usize = 4096;

/// A file that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// As it was named.
    pub name: String,
    /// What is in it.
    pub text: String,
}

impl Source {
    /// The last part of its name.
    pub fn file_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }
}

/// Where files come from: tests have others.
pub trait Files {
    /// Reads one.
    ///
    /// # Errors
    /// It cannot be read.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// The files that a pattern stands for, `*` and `?` in the last part of it, in order. One without such is itself.
    ///
    /// # Errors
    /// The folder cannot be read.
    fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>>;

    /// The size of an ordinary file, where it is known.
    fn file_bytes(&self, _path: &Path) -> Option<u64> {
        None
    }
}

/// The files of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        let mut bytes = Vec::new();
        File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes")));
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let name = pattern.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.contains(['*', '?']) {
            return Ok(vec![pattern.to_owned()]);
        }
        let mut found = Vec::new();
        for entry in std::fs::read_dir(pattern.parent().unwrap_or(Path::new(".")))? {
            let path = entry?.path();
            let candidate = path.file_name().unwrap_or_default().to_string_lossy();
            // As a shell does it: hidden files are asked for by name.
            if !candidate.starts_with('.') && fits(name.as_bytes(), candidate.as_bytes()) {
                found.push(path);
            }
            if found.len() > MATCHES_MAX {
                return Err(io::Error::other(format!("more than {MATCHES_MAX} files")));
            }
        }
        found.sort();
        Ok(found)
    }

    fn file_bytes(&self, path: &Path) -> Option<u64> {
        std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map(|found| found.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_whole_names() {
        for (pattern, name, is_fitting) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".conf", true),
            ("*.conf", "a.conf~", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("", "", true),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), is_fitting, "{pattern} {name}");
        }
    }
}
