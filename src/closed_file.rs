//! Files of secrets: they are read only where not everybody on this machine can.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The first bytes of it, or what is wrong with it.
pub(crate) fn read(path: &Path, most: usize) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let about = file.metadata().map_err(|error| error.to_string())?;
    if about.is_dir() {
        return Err("it is not a file".to_owned());
    }
    if about.mode() & 0o007 != 0 {
        return Err(format!("everybody on this machine can reach it: chmod 600 {}", path.display()));
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    file.take(most).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// As [`read`], without one newline at its end; where it has more than so many bytes, more come back.
pub(crate) fn read_secret(path: &Path, most: usize) -> Result<Vec<u8>, String> {
    let mut bytes = read(path, most.saturating_add(2))?;
    for end in *b"\n\r" {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
    Ok(bytes)
}
