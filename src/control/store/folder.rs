//! The few things that are done to files, so that a test can have them fail, stop half way, or be forgotten by a disk that
//! loses power.

use std::fmt::Debug;
use std::io;

/// The folder of the state file.
pub trait Folder: Send + Debug {
    /// What a file holds; none where there is no such file.
    ///
    /// # Errors
    /// It cannot be read.
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Makes a file with this content, in place of one that has its name: not that one with other content, which may have
    /// another name still where a power loss has undone half of a renaming. Nothing of that is durable.
    ///
    /// # Errors
    /// No room, no right, a broken disk.
    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Makes the content durable that was written last.
    ///
    /// # Errors
    /// It may be lost.
    fn sync(&mut self, name: &str) -> io::Result<()>;

    /// Gives a file another name, in place of one that had it. At a power loss it may have the one or the other.
    ///
    /// # Errors
    /// Nothing has changed.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Makes the names durable.
    ///
    /// # Errors
    /// They may be lost.
    fn sync_folder(&mut self) -> io::Result<()>;
}

/// Makes `bytes` the content of a file: at every moment, power losses included, it has the old or the new content whole, and
/// the new one once this has returned.
///
/// # Errors
/// It has the old or the new one.
pub fn save(folder: &mut dyn Folder, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = format!("{name}.new");
    folder.write(&new, bytes)?;
    folder.sync(&new)?;
    folder.rename(&new, name)?;
    folder.sync_folder()
}
