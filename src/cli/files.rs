//! `lunette serve PATH...`: files and block devices, opened before anybody is served.
//!
//! Each is opened on a thread of its own. One that hangs does not keep the others waiting for long: its LUN is not ready
//! until it is open.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Failed;
use super::args::Serve;
use crate::bdev::Bdev as _;
use crate::bdev::drive::CD_BLOCK_BYTES;
use crate::bdev::file::{FileDisk, LOCK_PATIENCE, OpenError, Opening, Recipe};
use crate::bdev::sg::{self, SgDisk};
use crate::control::disks::{self, Source};
use crate::control::store::Records;
use crate::control::thread::SystemRandom;

/// All of them together get so long to open: longer than a predecessor gets to leave.
const PATIENCE: Duration = Duration::from_secs(10);
/// So long a file system gets to say what is there.
pub(super) const LOOK_PATIENCE: Duration = Duration::from_secs(3);
/// A command of a device that is passed through may take so long.
const SG_TIMEOUT_MS: u32 = 60_000;

/// A disk, and what it is made of.
pub(super) struct File {
    pub(super) disk: Arc<FileDisk>,
    pub(super) made_of: Recipe,
}

/// What a path leads to.
pub(super) enum Served {
    File(File),
    /// A SCSI device that is passed through.
    Sg(Arc<SgDisk>, sg::Recipe),
}

/// Opens what the switches ask for. `taken`: names that other disks have; `kept`: what the state file holds.
pub(super) fn open(
    args: &Serve,
    taken: BTreeSet<String>,
    kept: Option<&Records>,
) -> Result<Vec<Served>, Failed> {
    let mut taken = taken;
    let mut opening = Vec::new();
    for path in &args.paths {
        if sg::is_generic(path) {
            opening.push(find(args, path, &mut taken)?);
            continue;
        }
        let is_disc = is_disc(args, path);
        let name = free_name(path, &mut taken);
        let path = std::path::absolute(path)
            .map_err(|error| Failed::failure(format!("{}: {error}", path.display())))?;
        let uuid = kept.and_then(|kept| {
            let (source, is_missing) = Source::look(&path, LOOK_PATIENCE);
            let is_made = is_missing && args.size.is_some();
            disks::uuid_of(kept, &name, &source, is_made, SystemRandom::uuid())
        });
        let made_of = Recipe {
            name,
            path,
            create_bytes: args.size,
            block_bytes: if is_disc { Some(CD_BLOCK_BYTES) } else { args.block_size },
            cache: args.cache.into(),
            read_only: args.read_only || is_disc,
            uuid,
        };
        let disk = FileDisk::new(made_of.clone());
        let disk = Arc::new(disk.map_err(|error| Failed::usage(format!("--size: {error}")))?);
        opening.push(Opened::File(
            disk.open_aside(LOCK_PATIENCE).map_err(Failed::failure)?,
            File { disk, made_of },
        ));
    }
    let until = Instant::now() + PATIENCE;
    let opened = opening.into_iter().map(|opened| {
        let (opening, file) = match opened {
            Opened::File(opening, file) => (opening, file),
            Opened::Sg(device, recipe) => return Ok(Served::Sg(device, recipe)),
        };
        match opening.wait(until.saturating_duration_since(Instant::now())) {
            None => {
                tracing::warn!(path = %file.made_of.path.display(), "opening it takes long: its LUN is not ready until that is done");
            }
            Some(Ok(())) => remark(&file),
            Some(Err(error)) => return Err(Failed::failure(explain(&error))),
        }
        Ok(Served::File(file))
    });
    opened.collect()
}

/// What is being opened.
enum Opened {
    File(Opening, File),
    Sg(Arc<SgDisk>, sg::Recipe),
}

/// Finds a SCSI device that is passed through, which takes as long as it takes to answer.
fn find(args: &Serve, path: &Path, taken: &mut BTreeSet<String>) -> Result<Opened, Failed> {
    let recipe = sg::Recipe {
        name: free_name(path, taken),
        path: std::path::absolute(path)
            .map_err(|error| Failed::failure(format!("{}: {error}", path.display())))?,
        read_only: args.read_only,
        timeout_ms: SG_TIMEOUT_MS,
        uuid: None,
    };
    let device = Arc::new(SgDisk::new(recipe.clone()));
    device.find().map_err(Failed::failure)?;
    if let Some(about) = device.about() {
        tracing::info!(path = %path.display(), device = %about, "passed through");
    }
    Ok(Opened::Sg(device, recipe))
}

/// Whether a file is shown as the disc in a CD-ROM drive: by its name, unless a size or a block size says that it is a disk.
pub(super) fn is_disc(args: &Serve, path: &Path) -> bool {
    is_image(path) && args.size.is_none() && args.block_size.is_none()
}

/// Whether a file's name says that it is the image of a disc.
pub(super) fn is_image(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("iso"))
}

/// The file's own name, with a number where another disk has that.
pub(super) fn free_name(path: &Path, taken: &mut BTreeSet<String>) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
    let mut name = plain.clone();
    let mut number = 1u32;
    while !taken.insert(name.clone()) {
        number += 1;
        name = format!("{plain}-{number}");
    }
    name
}

/// What an operator should know of a disk that is open.
fn remark(file: &File) {
    let (path, info) = (file.made_of.path.display(), file.disk.info());
    if file.disk.is_buffered() == Some(true) {
        tracing::warn!(%path, "the file system has no direct IO: the page cache is in between");
    }
    let bytes = std::fs::metadata(&file.made_of.path).ok().filter(std::fs::Metadata::is_file);
    let rest = bytes.map_or(0, |metadata| metadata.len() % u64::from(info.block_bytes));
    if rest > 0 {
        tracing::warn!(%path, "its size is no multiple of the block: its last {rest} bytes are not served");
    }
}

/// What to do about a file that is not there.
pub(super) fn missing(path: &Path) -> String {
    explain(&OpenError::Missing(path.to_owned()))
}

/// An error in the words of the command line.
fn explain(error: &OpenError) -> String {
    match error {
        OpenError::Missing(path) if path.starts_with("/dev") => {
            format!("{} does not exist; lsblk lists the devices that do", path.display())
        }
        OpenError::Missing(path) => {
            format!("{} does not exist; --size 10G makes it, sparse", path.display())
        }
        OpenError::Empty { path, .. } => {
            format!("{} has not even one block; --size 10G makes a disk of an empty file", path.display())
        }
        OpenError::OtherSize { path, bytes, wanted_bytes } => format!(
            "{} is there already and has {bytes} bytes, not {wanted_bytes}; leave --size out to use it as it is",
            path.display()
        ),
        OpenError::System { source, .. } => {
            let hint = match source.kind() {
                ErrorKind::PermissionDenied => {
                    "; run lunette as a user who may, or give --read-only where reading is enough"
                }
                ErrorKind::ReadOnlyFilesystem => "; give --read-only",
                ErrorKind::NotFound => "; make its folder first",
                _ => "",
            };
            format!("{error}{hint}")
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_disk_is_named_after_its_file() {
        let mut taken = BTreeSet::from(["disk0".to_owned()]);
        let mut name = |path: &str| free_name(Path::new(path), &mut taken);
        assert_eq!(name("a/disk.img"), "disk.img");
        assert_eq!(name("/srv/b/disk.img"), "disk.img-2");
        assert_eq!(name("disk.img"), "disk.img-3");
        assert_eq!(name("disk0"), "disk0-2");
        assert_eq!(name("my disk\u{e9}"), "my_disk_");
        assert_eq!(name("/"), "");
    }

    #[test]
    fn errors_name_the_switch_that_helps() {
        let path = || "/srv/disk.img".into();
        let system = |source: io::Error| OpenError::System { path: path(), what: "open it", source };
        for (error, words) in [
            (OpenError::Missing(path()), "/srv/disk.img does not exist; --size 10G makes it, sparse"),
            (
                OpenError::Missing("/dev/sdz".into()),
                "/dev/sdz does not exist; lsblk lists the devices that do",
            ),
            (
                OpenError::OtherSize { path: path(), bytes: 512, wanted_bytes: 1024 },
                "/srv/disk.img is there already and has 512 bytes, not 1024; leave --size out to use it as it is",
            ),
            (
                system(ErrorKind::PermissionDenied.into()),
                "/srv/disk.img: cannot open it: permission denied; run lunette as a user who may, or give --read-only \
                 where reading is enough",
            ),
            (OpenError::Directory("/srv".into()), "/srv is a directory; give a file in it"),
        ] {
            assert_eq!(explain(&error), words);
        }
    }
}
