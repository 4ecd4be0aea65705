//! A configuration file and its last versions: `FILE.history/000042-CAUSE.json`, the newest with the highest number.
//!
//! Who writes has the folder's lock, a daemon for its whole life. What stands in the file and in no version, because people
//! wrote it, becomes a version before it is written over. The file is written first, then the version: a crash between
//! leaves such a file.
//!
//! Not here: what configurations mean.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::whole_file::{self, Owner};
use crate::file_lock::lock;
use crate::limits::CONFIG_VERSIONS_MAX;

/// The cause of a version that people wrote.
const FOUND: &str = "found";
/// The cause of a version that is an older one again.
const ROLLBACK: &str = "rollback";
/// Nobody else reads secrets there.
const FOLDER_MODE: u32 = 0o700;

/// A version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// Counts up.
    pub number: u64,
    /// The method that made it, `found` where it was there at start or was written by hand, or `rollback`.
    pub cause: String,
    /// When it was written.
    pub at: SystemTime,
    /// How long it is.
    pub bytes: u64,
    path: PathBuf,
}

impl Version {
    /// Its text.
    ///
    /// # Errors
    /// The system's, with the file's name.
    pub fn read(&self) -> io::Result<String> {
        std::fs::read_to_string(&self.path).map_err(|error| about(&self.path, &error))
    }
}

/// Why a configuration cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// A daemon does.
    #[error("a daemon runs with {0} and writes it")]
    InUse(PathBuf),
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A file and its versions.
#[derive(Clone, Debug)]
pub struct Versions {
    file: PathBuf,
    folder: PathBuf,
}

impl Versions {
    /// Of the configuration `file`.
    pub fn of(file: &Path) -> Versions {
        let mut folder = file.as_os_str().to_owned();
        folder.push(".history");
        Versions { file: file.to_owned(), folder: folder.into() }
    }

    /// Those that there are, the oldest first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self) -> io::Result<Vec<Version>> {
        let entries = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|error| about(&self.folder, &error))?,
        };
        let mut versions = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let Some((number, cause)) = name.to_str().and_then(parse) else { continue };
            let metadata = entry.metadata()?;
            let (at, bytes) = (metadata.modified()?, metadata.len());
            versions.push(Version { number, cause: cause.to_owned(), at, bytes, path: entry.path() });
        }
        versions.sort_by_key(|version| version.number);
        Ok(versions)
    }

    /// Takes the right to write.
    ///
    /// # Errors
    /// Somebody else has it, or the folder cannot be made.
    pub fn take(self) -> Result<Taken, TakeError> {
        match DirBuilder::new().mode(FOLDER_MODE).create(&self.folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(about(&self.folder, &error).into());
            }
            _ => {}
        }
        let path = self.folder.join("lock");
        match lock(&path).map_err(|error| about(&path, &error))? {
            Some(lock) => {
                self.remove_left();
                Ok(Taken { versions: self, _lock: lock })
            }
            None => Err(TakeError::InUse(self.file)),
        }
    }

    /// Removes what crashes have left of files that were being written; nobody else writes these.
    fn remove_left(&self) {
        let name = self.file.file_name().and_then(OsStr::to_str);
        whole_file::remove_left(whole_file::folder_of(&self.file), |of| Some(of) == name);
        whole_file::remove_left(&self.folder, |of| parse(of).is_some());
    }
}

/// The right to write a configuration.
#[derive(Debug)]
pub struct Taken {
    versions: Versions,
    _lock: File,
}

impl Taken {
    /// The configuration's file.
    pub fn file(&self) -> &Path {
        &self.versions.file
    }

    /// Makes `text` the file's content and its newest version. The file is on stable storage then, and its owner's, where it
    /// may be given away.
    ///
    /// # Errors
    /// The file has its old content, or in rare cases the new one, whole.
    pub fn save(&self, text: &str, cause: &str) -> io::Result<()> {
        self.replace(text, cause, false)
    }

    /// The same, of a version's text, for a daemon that runs later: its owner is to read it.
    ///
    /// # Errors
    /// As [`Taken::save`], and where the file cannot be given to its owner.
    pub fn roll_back(&self, text: &str) -> io::Result<()> {
        self.replace(text, ROLLBACK, true)
    }

    fn replace(&self, text: &str, cause: &str, is_owner_needed: bool) -> io::Result<()> {
        let Versions { file, .. } = &self.versions;
        let newest = self.versions.list()?.pop();
        let mut number = newest.as_ref().map_or(1, |newest| newest.number + 1);
        match std::fs::read_to_string(file) {
            Ok(found) => {
                if newest.is_none_or(|newest| newest.read().ok().is_none_or(|text| text != found)) {
                    self.add(number, FOUND, &found, is_owner_needed)?;
                    number += 1;
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(about(file, &error)),
        }
        whole_file::write_for(file, text, self.owner(is_owner_needed))
            .map_err(|error| about(file, &error))?;
        if let Err(error) = self.add(number, cause, text, is_owner_needed) {
            tracing::warn!(%error, "the configuration is saved, but not as one of its last versions");
        }
        self.prune();
        Ok(())
    }

    fn add(&self, number: u64, cause: &str, text: &str, is_owner_needed: bool) -> io::Result<()> {
        let path = self.versions.folder.join(format!("{number:06}-{cause}.json"));
        whole_file::write_for(&path, text, self.owner(is_owner_needed)).map_err(|error| about(&path, &error))
    }

    /// Whose the configuration is, where that is somebody else: only root can give files away. It is who made the folder, a daemon;
    /// the file may be root's, who wrote it by hand.
    fn owner(&self, is_needed: bool) -> Option<Owner> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let mut found = [&self.versions.folder, &self.versions.file].into_iter().filter_map(|path| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.uid(), found.gid()))
        });
        let (user, group) = found.find(|(user, _)| *user != 0)?;
        Some(Owner { user, group, is_needed })
    }

    /// Leaves the newest.
    fn prune(&self) {
        let versions = self.versions.list().unwrap_or_default();
        let old = versions.len().saturating_sub(CONFIG_VERSIONS_MAX);
        for version in &versions[..old] {
            if let Err(error) = std::fs::remove_file(&version.path) {
                tracing::warn!(path = %version.path.display(), %error, "an old version of the configuration stays");
            }
        }
    }
}

/// The number and cause in a version's name.
fn parse(name: &str) -> Option<(u64, &str)> {
    let (number, cause) = name.strip_suffix(".json")?.split_once('-')?;
    Some((number.parse().ok()?, cause))
}

fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of its own, gone at the end, and a configuration in it.
    struct Place(PathBuf);

    impl Place {
        fn new() -> Place {
            use std::sync::atomic::{AtomicU32, Ordering};
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("lunette-versions-{}-{number}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Place(path)
        }

        fn versions(&self) -> Versions {
            Versions::of(&self.0.join("c.json"))
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn seen(versions: &Versions) -> Vec<(u64, String, String)> {
        let versions = versions.list().unwrap().into_iter();
        versions.map(|version| (version.number, version.cause.clone(), version.read().unwrap())).collect()
    }

    #[test]
    fn what_people_wrote_is_a_version_before_it_is_written_over() {
        let place = Place::new();
        let versions = place.versions();
        std::fs::write(&versions.file, "by hand").unwrap();
        let taken = versions.clone().take().unwrap();
        taken.save("one", "a_b").unwrap();
        assert_eq!(std::fs::read_to_string(&versions.file).unwrap(), "one");
        std::fs::write(&versions.file, "by hand again").unwrap();
        taken.save("two", "c").unwrap();
        let of = |number, cause: &str, text: &str| (number, cause.to_owned(), text.to_owned());
        assert_eq!(
            seen(&versions),
            [
                of(1, "found", "by hand"),
                of(2, "a_b", "one"),
                of(3, "found", "by hand again"),
                of(4, "c", "two")
            ]
        );
    }

    /// Gives a file away; whether that could be done.
    fn give(path: &Path) -> bool {
        let given = std::os::unix::fs::chown(path, Some(64000), Some(64001));
        given.inspect_err(|error| eprintln!("not run: only root can give files away: {error}")).is_ok()
    }

    /// Whose the versions and the file are.
    fn owners(versions: &Versions) -> Vec<(u32, u32)> {
        let mut paths: Vec<_> = versions.list().unwrap().into_iter().map(|version| version.path).collect();
        paths.push(versions.file.clone());
        let found = paths.iter().map(|path| std::fs::metadata(path).unwrap());
        found.map(|of| (of.uid(), of.gid())).collect()
    }

    #[test]
    fn root_leaves_the_file_to_whose_it_was() {
        let place = Place::new();
        let versions = place.versions();
        std::fs::write(&versions.file, "by hand").unwrap();
        if give(&versions.file) {
            versions.clone().take().unwrap().roll_back("one").unwrap();
            assert_eq!(owners(&versions), [(64000, 64001); 3]);
        }
    }

    #[test]
    fn root_leaves_what_it_wrote_last_to_whose_the_versions_are() {
        let place = Place::new();
        let versions = place.versions();
        let taken = versions.clone().take().unwrap();
        if give(&versions.folder) {
            std::fs::write(&versions.file, "root's").unwrap();
            taken.roll_back("one").unwrap();
            assert_eq!(owners(&versions), [(64000, 64001); 3]);
        }
    }

    #[test]
    fn what_cannot_be_given_away_a_daemon_saves_and_nobody_goes_back_to() {
        use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
        let place = Place::new();
        let versions = place.versions();
        let taken = versions.clone().take().unwrap();
        taken.save("one", "x").unwrap();
        if !give(&versions.folder) {
            return;
        }
        // Capabilities are a thread's.
        let without = std::thread::spawn(move || {
            let mut sets = capabilities(None).unwrap();
            sets.effective.remove(CapabilitySet::CHOWN);
            set_capabilities(None, sets).unwrap();
            taken.save("two", "x").unwrap();
            taken.roll_back("one").unwrap_err().kind()
        });
        assert_eq!(without.join().unwrap(), ErrorKind::PermissionDenied);
        assert_eq!(std::fs::read_to_string(&versions.file).unwrap(), "two");
        assert_eq!(seen(&versions).len(), 2);
    }

    #[test]
    fn the_last_ones_stay_and_others_do_not_matter() {
        let place = Place::new();
        let versions = place.versions();
        let taken = versions.clone().take().unwrap();
        std::fs::write(versions.folder.join("notes.txt"), "mine").unwrap();
        for number in 0..CONFIG_VERSIONS_MAX + 3 {
            taken.save(&number.to_string(), "x").unwrap();
        }
        let seen = seen(&versions);
        assert_eq!(seen.len(), CONFIG_VERSIONS_MAX);
        assert_eq!((seen[0].0, seen[0].2.as_str()), (4, "3"));
        assert_eq!(std::fs::read_to_string(versions.folder.join("notes.txt")).unwrap(), "mine");
    }

    #[test]
    fn what_a_crash_left_half_written_is_gone_when_somebody_else_writes() {
        let place = Place::new();
        let versions = place.versions();
        versions.clone().take().unwrap().save("one", "x").unwrap();
        let make = |name: &str| {
            let path = place.0.join(name);
            std::fs::write(&path, "half").unwrap();
            path
        };
        let left = [
            "c.json.lunette-new-1-0",
            "c.json.lunette-new-77-12",
            "c.json.history/000002-x.json.lunette-new-1-3",
        ];
        let left = left.map(make);
        // The first is what people call a copy.
        let mine =
            ["c.json.new-20261123-0918", "d.json.lunette-new-1-0", "c.json.history/notes.lunette-new-1-1"];
        let mine = mine.map(make);
        let taken = versions.clone().take().unwrap();
        assert!(left.iter().all(|path| !path.exists()), "{left:?}");
        for path in mine {
            assert!(path.exists(), "{path:?}");
        }
        assert_eq!(seen(&versions).len(), 1);
        drop(taken);
    }

    #[test]
    fn one_writes_and_others_are_told() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = Place::new();
        let versions = place.versions();
        let taken = versions.clone().take().unwrap();
        taken.save("secret", "x").unwrap();
        for entry in std::fs::read_dir(&versions.folder).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o077, 0);
        }
        assert_eq!(std::fs::metadata(&versions.folder).unwrap().permissions().mode() & 0o777, 0o700);
        let refused = versions.clone().take().unwrap_err().to_string();
        assert_eq!(refused, format!("a daemon runs with {} and writes it", versions.file.display()));
        drop(taken);
        versions.take().unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_written_keeps_what_it_has() {
        let place = Place::new();
        // A name that has no room for what the new file's has besides.
        let versions = Versions::of(&place.0.join("c".repeat(247)));
        std::fs::write(&versions.file, "one").unwrap();
        let taken = versions.clone().take().unwrap();
        let error = taken.save("two", "x").unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: ", versions.file.display())), "{error}");
        assert_eq!(std::fs::read_to_string(&versions.file).unwrap(), "one");
    }
}
