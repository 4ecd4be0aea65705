//! Files of which there is a whole one at any time: the old or the new.
//!
//! Not here: what is in them.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::fchown;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Symbolic links that may lead to a file, one to the other: as many as the kernel follows.
const LINKS_MAX: u32 = 40;
/// What is behind a file's name while the new one is being written; a process's number and a number of its own follow. Nobody else calls a
/// file of theirs so.
const NEW: &str = ".lunette-new-";
/// Names that may be somebody else's.
const NAMES_MAX: u32 = 100;

/// Writes a file so that there is always a whole one: the old or the new. It holds secrets, so others cannot read it.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    write_for(path, text, None)
}

/// Whose a file is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) user: u32,
    pub(super) group: u32,
    /// It is not written where it cannot be given away.
    pub(super) is_needed: bool,
}

impl Owner {
    fn give(self, file: &File, path: &Path) -> io::Result<()> {
        match fchown(file, Some(self.user), Some(self.group)) {
            // Root without that capability.
            Err(error) if error.kind() == ErrorKind::PermissionDenied && !self.is_needed => {
                tracing::warn!(path = %path.display(), user = self.user, %error, "the file is not given to its owner");
                Ok(())
            }
            given => given,
        }
    }
}

/// The same, and the file is its owner's.
pub(super) fn write_for(path: &Path, text: &str, owner: Option<Owner>) -> io::Result<()> {
    let (temporary, mut file) = temporary(path)?;
    let written = (|| {
        if let Some(owner) = owner {
            owner.give(&file, path)?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // What is left of it helps nobody; the error says what is wrong.
        let _ = std::fs::remove_file(&temporary);
    }
    written?;
    File::open(folder_of(path))?.sync_all()
}

/// Where a file is.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Removes what is left in a folder of writing files that `is_meant` knows by their names, where whoever wrote them crashed: secrets. Nobody
/// may be writing one of them now.
pub(super) fn remove_left(folder: &Path, is_meant: impl Fn(&str) -> bool) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some((of, rest)) = name.to_str().and_then(|name| name.rsplit_once(NEW)) else { continue };
        let is_number = |text: &str| text.parse::<u64>().is_ok();
        let is_temporary =
            rest.split_once('-').is_some_and(|(process, number)| is_number(process) && is_number(number));
        if !is_temporary || !is_meant(of) {
            continue;
        }
        let path = entry.path();
        match std::fs::remove_file(&path) {
            Ok(()) => {
                tracing::info!(path = %path.display(), "what was left of a file that was being written is removed")
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "what is left of a file that was being written stays")
            }
        }
    }
}

/// A new file beside `path`, whose name nobody else has: several may write at once, and one that crashed may have left its own.
fn temporary(path: &Path) -> io::Result<(PathBuf, File)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for _ in 0..NAMES_MAX {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("{NEW}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        match rustix::fs::open(&name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => return Ok((name.into(), file.into())),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::EXIST.into())
}

/// The file that is meant where `path` leads there by symbolic links, whether it is there or not: it is what is to be replaced,
/// not a link.
///
/// # Errors
/// A folder on the way is not there or cannot be read, or the links lead in a circle.
pub(super) fn real(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match std::fs::canonicalize(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            found => return found,
        }
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::NOENT.into());
        };
        let folder = std::fs::canonicalize(folder)?;
        let here = folder.join(name);
        match std::fs::read_link(&here) {
            Ok(to) => path = folder.join(to),
            Err(_) => return Ok(here),
        }
    }
    Err(Errno::LOOP.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_to_what_they_mean_whether_it_is_there() {
        let folder = std::env::temp_dir().join(format!("lunette-whole-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("data")).unwrap();
        let folder = std::fs::canonicalize(folder).unwrap();
        let path = |name: &str| folder.join(name);
        symlink("data", path("link")).unwrap();
        symlink("../second", path("data/first")).unwrap();
        symlink("data/file", path("second")).unwrap();
        for is_there in [false, true] {
            for name in ["data/file", "link/file", "link/first", "second"] {
                assert_eq!(real(&path(name)).unwrap(), path("data/file"), "{name} {is_there}");
            }
            std::fs::write(path("data/file"), "old").unwrap();
        }
        symlink("circle", path("circle")).unwrap();
        assert_eq!(real(&path("circle")).unwrap_err().raw_os_error(), Some(Errno::LOOP.raw_os_error()));
        assert!(real(&path("nowhere/file")).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn who_writes_at_once_writes_whole_files() {
        let folder = std::env::temp_dir().join(format!("lunette-at-once-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("file");
        // What one that crashed has left is nobody's to go on with.
        let (left, _) = temporary(&file).unwrap();
        std::thread::scope(|scope| {
            for letter in ["a", "b"] {
                let file = &file;
                scope.spawn(move || {
                    for length in 1..50 {
                        write(file, &letter.repeat(length * 1000)).unwrap();
                        let found = std::fs::read_to_string(file).unwrap();
                        assert!(["a", "b"].iter().any(|letter| *letter.repeat(found.len()) == *found));
                    }
                });
            }
        });
        let mut names: Vec<_> =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        assert_eq!(names, [file, left]);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
