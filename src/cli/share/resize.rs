//! `lunette resize`: another size of a disk while it is in use, or what its device has by now.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use clap::Args;

use super::super::disk::Amount;
use super::super::rpc::call;
use super::super::socket::{SocketArg, is_remote};
use super::super::status::{number, pretty, size, text};
use super::super::{Failed, print};
use super::known::Known;
use super::unshare;
use crate::rpc::json::{Json, object};

/// `lunette resize`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  lunette resize disk.img 20G             a file
  lunette resize disk +10G                the disk of the target iqn.2026-11.io.lunette:disk
  lunette resize /dev/vg0/data            a device that was made larger by its own means: reads its size anew")]
pub struct Resize {
    /// A disk by its name or path, or a target that has one
    #[arg(value_name = "NAME|PATH")]
    pub what: String,
    /// The size that it is to have, as 20G, or how much more, as +10G [default: what the file or device has]
    pub size: Option<Amount>,
    /// Also where that is less than it has: what is beyond is gone
    #[arg(long)]
    pub shrink: bool,
    /// Which daemon.
    #[command(flatten)]
    pub socket: SocketArg,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// How a disk of some kind gets another size.
enum Way {
    /// The file, then a call that reads its size.
    File(PathBuf, &'static str),
    /// A call.
    Call,
}

/// Resizes a disk.
pub(in crate::cli) fn resize(args: &Resize) -> Result<(), Failed> {
    let socket = args.socket.path()?;
    let known = Known::ask(&socket)?;
    let bdev = find(&args.what, &known)?;
    let before = known.bytes_of(&bdev);
    let way = way(&bdev, &known)?;
    let wanted = args.size.map(|amount| amount.of(before)).transpose().map_err(Failed::usage)?;
    if wanted.is_some_and(|wanted| wanted < before) && !args.shrink {
        return Err(Failed::failure(format!(
            "{bdev} has {}: what is beyond the new size would be gone; give --shrink where that is meant",
            size(before)
        )));
    }
    match (way, wanted) {
        (Way::File(path, rescan), wanted) => {
            if let Some(bytes) = wanted {
                set_len(&socket, &path, bytes)?;
            }
            call(&socket, rescan, &object! { "name": &bdev })?;
        }
        (Way::Call, Some(bytes)) => {
            let block_bytes = known.bdev(&bdev).map_or(0, |bdev| number(bdev, "block_size"));
            let blocks = Some(bytes).filter(|bytes| bytes.is_multiple_of(block_bytes.max(1)));
            let blocks = blocks.ok_or_else(|| {
                Failed::usage(format!("{bytes} bytes are not a number of blocks of {block_bytes} bytes"))
            })?;
            let params = object! { "name": &bdev, "num_blocks": blocks / block_bytes.max(1) };
            call(&socket, "lunette_bdev_resize", &params)?;
        }
        (Way::Call, None) => {
            return Err(Failed::usage(format!(
                "{bdev} has no file or device whose size could be read: give a size"
            )));
        }
    }
    let after = Known::ask(&socket)?.bytes_of(&bdev);
    print(&match args.json {
        true => pretty(&object! { "disk": &bdev, "bytes_before": before, "bytes": after }),
        false => format!("{bdev}: {} (it had {}); initiators are told\n", size(after), size(before)),
    })
}

/// The one disk that is meant.
fn find(what: &str, known: &Known) -> Result<String, Failed> {
    if known.bdev(what).is_some() {
        return Ok(what.to_owned());
    }
    if let Some(bdev) = std::path::absolute(what).ok().and_then(|path| known.bdev_at(&path)) {
        return Ok(bdev);
    }
    let target = unshare::find(what, known)?;
    let mut luns = known.luns(target);
    match luns.len() {
        1 => Ok(luns.remove(0)),
        0 => Err(Failed::failure(format!("{} has no LUN", text(target, "name")))),
        _ => Err(Failed::failure(format!("{what}: say which disk: {}", luns.join(", ")))),
    }
}

fn way(bdev: &str, known: &Known) -> Result<Way, Failed> {
    let file = |params: &Json| PathBuf::from(text(params, "filename"));
    match known.maker(bdev) {
        Some(("bdev_malloc_create" | "bdev_null_create", _)) => Ok(Way::Call),
        Some(("bdev_aio_create", params)) => Ok(Way::File(file(params), "bdev_aio_rescan")),
        Some(("bdev_uring_create", params)) => Ok(Way::File(file(params), "bdev_uring_rescan")),
        _ => Err(Failed::failure(format!(
            "{bdev} is neither a file or device nor a RAM disk: its size is what it is made of has"
        ))),
    }
}

/// Gives a file of this machine's another length.
fn set_len(socket: &Path, path: &Path, bytes: u64) -> Result<(), Failed> {
    if is_remote(socket) {
        return Err(Failed::failure(format!(
            "{0} is a file of the machine behind {1}: give it its size there ('lunette resize' there, or truncate), then call \
             'lunette resize' without a size",
            path.display(),
            socket.display()
        )));
    }
    let failed = |error| Failed::failure(format!("{}: {error}", path.display()));
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(Failed::failure(format!(
            "{} is a device: resize it by its own means, then call 'lunette resize' without a size",
            path.display()
        )));
    }
    OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(bytes)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_machines_file_is_not_looked_for_here() {
        let file = std::env::temp_dir().join(format!("lunette-resize-{}", std::process::id()));
        std::fs::write(&file, [7; 1000]).unwrap();
        let bytes = || std::fs::metadata(&file).unwrap().len();
        let refused = set_len(Path::new("tcp://storage1:3270"), &file, 10).unwrap_err();
        assert!(format!("{refused:?}").contains("of the machine behind tcp://storage1:3270"), "{refused:?}");
        assert_eq!(bytes(), 1000);
        set_len(Path::new("/run/lunette/rpc.sock"), &file, 10).unwrap();
        assert_eq!(bytes(), 10);
        std::fs::remove_file(&file).unwrap();
    }
}
