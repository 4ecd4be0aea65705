//! A folder of the system's, and the lock that keeps two daemons from one state file.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::file::{self, FILE_BYTES_MAX};
use super::folder::Folder;
use super::{Records, Saver, thread};
use crate::file_lock;

/// How long a daemon that is restarted waits for the one before to let go.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Why there is no state to begin with.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not a path of a file.
    #[error("{0} names no file")]
    Path(PathBuf),
    /// The system refuses.
    #[error("{path}: {error}")]
    System {
        /// Which file.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// Another daemon has it.
    #[error("{0} is in use: another daemon keeps its state there")]
    Locked(PathBuf),
    /// It is damaged. To begin without it would be to forget who has reserved what.
    #[error("{path}: {error}; reservations may be in it: look at it, then move it away to begin without")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        error: file::Damaged,
    },
}

/// A state file that is ours.
#[derive(Debug)]
pub struct Opened {
    /// What it held.
    pub records: Records,
    folder: Disk,
    name: String,
    lock: File,
}

/// A folder.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    /// The file that was written last: what went wrong with it is told to this descriptor only.
    written: Option<(String, File)>,
}

/// Takes a state file into use; it need not be there yet.
///
/// # Errors
/// What is in the way.
pub fn open(path: &Path) -> Result<Opened, OpenError> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| OpenError::Path(path.to_owned()))?.to_owned();
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let at = |error| OpenError::System { path: path.to_owned(), error };
    let lock = lock(path)?;
    let mut folder = Disk { path: folder.to_owned(), written: None };
    let records = match folder.read(&name).map_err(at)? {
        None => Records::new(),
        Some(text) => {
            file::records(&text).map_err(|error| OpenError::Damaged { path: path.to_owned(), error })?
        }
    };
    Ok(Opened { records, folder, name, lock })
}

impl Opened {
    /// A thread that writes it. `told` is called there after each write.
    ///
    /// # Errors
    /// No thread.
    pub fn saver(
        self,
        told: impl FnMut(u64, io::Result<()>) + Send + 'static,
    ) -> io::Result<(Records, Box<dyn Saver>)> {
        let Opened { records, folder, name, lock } = self;
        let saver = thread::start(Box::new(folder), name, file::lines(&records), told, lock)?;
        Ok((records, Box::new(saver)))
    }
}

/// A file beside it, as the state file itself is replaced.
fn lock(path: &Path) -> Result<File, OpenError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let beside = PathBuf::from(beside);
    let until = Instant::now() + LOCK_WAIT;
    loop {
        let lock = file_lock::lock(&beside);
        match lock.map_err(|error| OpenError::System { path: beside.clone(), error })? {
            Some(file) => return Ok(file),
            None if Instant::now() < until => std::thread::sleep(Duration::from_millis(50)),
            None => return Err(OpenError::Locked(path.to_owned())),
        }
    }
}

impl Folder for Disk {
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if read as u64 > FILE_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(Some(bytes))
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.written = None;
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(file);
        file.write_all(bytes)?;
        self.written = Some((name.to_owned(), file));
        Ok(())
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        match self.written.take() {
            Some((written, file)) if written == name => file.sync_all(),
            _ => Err(io::Error::other("it was not written")),
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}
