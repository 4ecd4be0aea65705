//! The lock that says whose a file or socket is: an empty file beside it, as the thing itself is replaced while it is in use.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// The lock at a path, if nobody has it. It ends with the descriptor, hence with the process, however that ends.
///
/// # Errors
/// The system's: the file cannot be made, or is a symbolic link.
pub(crate) fn lock(path: &Path) -> io::Result<Option<File>> {
    loop {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Whoever had it may have removed the file in between: then it locks nobody out.
        let is_there = std::fs::metadata(path);
        if is_there.is_ok_and(|there| file.metadata().is_ok_and(|ours| ours.ino() == there.ino())) {
            return Ok(Some(file));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_until_it_lets_go_and_a_link_is_none() {
        let path = std::env::temp_dir().join(format!("lunette-lock-{}", std::process::id()));
        let held = lock(&path).unwrap();
        assert!(held.is_some() && lock(&path).unwrap().is_none());
        // Its file is gone: the next has another one.
        std::fs::remove_file(&path).unwrap();
        assert!(lock(&path).unwrap().is_some());
        drop(held);
        assert!(lock(&path).unwrap().is_some());
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(lock(&path).is_err());
        std::fs::remove_file(&path).unwrap();
    }
}
