//! Disks that are files or block devices, under SPDK's two names: `bdev_aio_*` and `bdev_uring_*`. Both are the same here.
//!
//! What blocks, opening above all, happens on the caller's thread of the socket.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::memory::Name;
use super::mirror::Doubted;
use super::{Method, Outcome, method};
use crate::bdev::Bdev as _;
use crate::bdev::file::{Cache, FileDisk, Left, OpenError, Recipe};
use crate::control::disks::Source;
use crate::rpc::context::Context;
use crate::rpc::devices::{Device, Made, no_bdev};
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::params::params;
use crate::rpc::recipes::{self, FileKind};
use crate::rpc::types::{Ignored, Uuid};

pub(super) const METHODS: &[Method] = &[
    method!(
        "bdev_aio_create",
        Runtime,
        AioCreate,
        aio_create,
        "Makes a disk of a file or block device and answers with its name."
    ),
    method!("bdev_aio_rescan", Runtime, Name, aio_rescan, "Reads its size anew; initiators are told."),
    method!("bdev_aio_delete", Runtime, Name, aio_delete, "Closes it, its LUNs first. The data stay."),
    method!(
        "bdev_uring_create",
        Runtime,
        UringCreate,
        uring_create,
        "Makes a disk of a file or block device and answers with its name."
    ),
    method!("bdev_uring_rescan", Runtime, Name, uring_rescan, "Reads its size anew; initiators are told."),
    method!("bdev_uring_delete", Runtime, Name, uring_delete, "Closes it, its LUNs first. The data stay."),
    method!(
        "lunette_bdev_reopen",
        Runtime,
        Name,
        reopen,
        "Opens the file or block device anew, after a failed flush or when a device that was pulled is back, and says what may be lost. \
         LUNs, identity and reservations stay; the LUN is not ready meanwhile."
    ),
];

params! {
    /// Of `bdev_aio_create`.
    pub(super) struct AioCreate {
        /// Its name.
        name: String,
        /// The file or block device; absolute.
        filename: PathBuf,
        /// Bytes of a block: 512, 1024, 2048 or 4096; 512 for files and a block device's own unless given.
        block_size: u32 = 0,
        /// Writes are refused, and the file is opened for reading only.
        readonly: bool = false,
        /// SPDK's: unmapping frees space. Here it does wherever the file system can.
        fallocate: Ignored,
        /// What names the medium to initiators; found out once and kept in the state file unless given.
        uuid: Option<Uuid>,
        /// SPDK's: how IO is submitted.
        nowait: Ignored,
        /// Where no such file is, one of so many bytes is made.
        lunette_create_size: Option<u64>,
        /// Writes are answered when they are on stable storage.
        lunette_write_through: bool = false,
        /// Initiators can take the medium out and put it in again (RMB).
        lunette_removable: bool = false,
    }
}

params! {
    /// Of `bdev_uring_create`.
    pub(super) struct UringCreate {
        /// Its name.
        name: String,
        /// The file or block device; absolute.
        filename: PathBuf,
        /// Bytes of a block: 512, 1024, 2048 or 4096; 512 for files and a block device's own unless given.
        block_size: u32 = 0,
        /// What names the medium to initiators; found out once and kept in the state file unless given.
        uuid: Option<Uuid>,
        /// Where no such file is, one of so many bytes is made.
        lunette_create_size: Option<u64>,
        /// Writes are answered when they are on stable storage.
        lunette_write_through: bool = false,
        /// Initiators can take the medium out and put it in again (RMB).
        lunette_removable: bool = false,
    }
}

fn aio_create(context: &Context, params: AioCreate) -> Outcome {
    create(context, FileKind::Aio, params)
}

fn uring_create(context: &Context, params: UringCreate) -> Outcome {
    let UringCreate {
        name,
        filename,
        block_size,
        uuid,
        lunette_create_size,
        lunette_write_through,
        lunette_removable,
    } = params;
    let params = AioCreate {
        name,
        filename,
        block_size,
        readonly: false,
        fallocate: Ignored,
        uuid,
        nowait: Ignored,
        lunette_create_size,
        lunette_write_through,
        lunette_removable,
    };
    create(context, FileKind::Uring, params)
}

/// So long the file system gets to say what is there.
const LOOK_PATIENCE: Duration = Duration::from_secs(3);
/// So long a file that is loaded waits for one disk to open: longer than a predecessor gets to leave it.
pub(super) const LOAD_PATIENCE: Duration = Duration::from_secs(10);

fn create(context: &Context, kind: FileKind, params: AioCreate) -> Outcome {
    // SPDK's daemon takes a relative path where it stands, which no client knows.
    if !params.filename.is_absolute() {
        return Err(Fault::errno(
            Errno::INVAL,
            format_args!("filename: {} is not absolute", params.filename.display()),
        ));
    }
    let is_removable = params.lunette_removable;
    // Before the file is opened, and perhaps made.
    context.check_free(&params.name)?;
    let uuid = match params.uuid {
        Some(Uuid(uuid)) => Some(uuid),
        None => {
            let (source, is_missing) = Source::look(&params.filename, LOOK_PATIENCE);
            let is_made = is_missing && params.lunette_create_size.is_some();
            let (name, Uuid(fresh)) = (params.name.clone(), Uuid::random());
            context.control(move |control, _| control.kept_uuid(&name, &source, is_made, fresh))?
        }
    };
    let made_of = Recipe {
        name: params.name,
        path: params.filename,
        create_bytes: params.lunette_create_size,
        block_bytes: (params.block_size != 0).then_some(params.block_size),
        cache: if params.lunette_write_through { Cache::WriteThrough } else { Cache::WriteBack },
        read_only: params.readonly,
        uuid,
    };
    let disk = Arc::new(FileDisk::new(made_of.clone()).map_err(|error| fault(&error))?);
    // A device that hangs as the daemon starts must not keep the others from being served.
    let patience = if context.is_loading() { LOAD_PATIENCE } else { Duration::MAX };
    match disk.open_aside(context.lock_patience()).map_err(|error| fault(&error))?.wait(patience) {
        Some(Ok(())) => {}
        None => {
            tracing::warn!(bdev = made_of.name, "opening it takes long: it is not ready until that is done")
        }
        Some(Err(error)) if context.is_loading() && may_come_up(&error) => {
            tracing::warn!(bdev = made_of.name, %error, "the disk is not ready");
        }
        Some(Err(error)) => return Err(fault(&error)),
    }
    if disk.is_buffered() == Some(true) {
        tracing::warn!(bdev = made_of.name, "the file system has no direct IO: the page cache is in between");
    }
    let made = Made {
        recipe: recipes::with_removable(recipes::file(&disk.info(), &made_of, kind), is_removable),
        device: Some(Device::File(Arc::downgrade(&disk))),
        bdev: disk,
        bases: Vec::new(),
    };
    let name = context.register(made)?;
    let (bdev, (source, _)) = (name.clone(), Source::look(&made_of.path, LOOK_PATIENCE));
    context.control(move |control, _| control.keep_disk(&bdev, source))?;
    Ok(Json::from(name))
}

/// Whether a disk that does not open may do so later by itself: its file system is not mounted yet, its device not assembled,
/// broken, or still somebody else's. One disk keeps no others from being served, and the prober opens it when it can be. What
/// the file itself has wrong stays wrong.
pub(super) fn may_come_up(error: &OpenError) -> bool {
    matches!(
        error,
        OpenError::Missing(_)
            | OpenError::System { .. }
            | OpenError::Empty { .. }
            | OpenError::Mounted { .. }
            | OpenError::Busy(_)
            | OpenError::Locked(_)
    )
}

/// SPDK passes on the errno of open(2).
pub(super) fn fault(error: &OpenError) -> Fault {
    let errno = match error {
        OpenError::Missing(_) => Errno::NOENT,
        OpenError::Mounted { .. } | OpenError::Busy(_) | OpenError::Locked(_) | OpenError::Draining(_) => {
            Errno::BUSY
        }
        OpenError::Memory(_) => Errno::NOMEM,
        OpenError::IoUring(source) | OpenError::System { source, .. } => {
            Errno::from_io_error(source).unwrap_or(Errno::IO)
        }
        _ => Errno::INVAL,
    };
    Fault::errno(errno, error)
}

fn aio_rescan(context: &Context, params: Name) -> Outcome {
    rescan(context, &params.name, FileKind::Aio)
}

fn uring_rescan(context: &Context, params: Name) -> Outcome {
    rescan(context, &params.name, FileKind::Uring)
}

fn rescan(context: &Context, name: &str, kind: FileKind) -> Outcome {
    let disk = context.made_by(name, kind.method())?;
    let probed = disk.probe();
    context.reread(name)?;
    let Err(error) = probed else { return Ok(Json::Bool(true)) };
    match error.downcast_ref() {
        // Its size was read. What a reactor lacks is told by who looks for media.
        Some(OpenError::NoRing { .. }) => Ok(Json::Bool(true)),
        Some(error) => Err(fault(error)),
        None => Err(Fault::internal(error)),
    }
}

/// So long what was sent to a disk gets to come back before it is opened anew; then the call fails, and the disk comes up
/// when it has.
const REOPEN_PATIENCE: Duration = Duration::from_secs(10);

fn reopen(context: &Context, params: Name) -> Outcome {
    let name = &params.name;
    let Device::File(disk) = context.device(name)? else {
        return Err(Fault::errno(
            Errno::OPNOTSUPP,
            format_args!("bdev {name} is neither a file nor a device"),
        ));
    };
    let disk = disk.upgrade().ok_or_else(|| no_bdev(name))?;
    let doubted = Doubted::on(context, name)?;
    disk.close();
    // Initiators see that it is not ready, and later that it is again: that its medium may have changed.
    let told = context.reread(name);
    let reopened = disk.reopen(REOPEN_PATIENCE);
    told?;
    let Left { is_flush_failed, may_have_lost } = reopened.map_err(|error| fault(&error))?;
    context.reread(name)?;
    doubted.are_back();
    let lost = if may_have_lost {
        tracing::warn!(bdev = name, "opened anew: writes since the last good flush may be lost");
        "writes answered since the last flush that went well may be lost: check what is on it"
    } else {
        tracing::info!(bdev = name, "opened anew: nothing is lost");
        "nothing: everything that was answered is on stable storage"
    };
    Ok(object! { "flush_had_failed": is_flush_failed, "may_have_lost": may_have_lost, "lost": lost })
}

fn aio_delete(context: &Context, params: Name) -> Outcome {
    context.unregister(&params.name, FileKind::Aio.method())?;
    Ok(Json::Bool(true))
}

fn uring_delete(context: &Context, params: Name) -> Outcome {
    context.unregister(&params.name, FileKind::Uring.method())?;
    Ok(Json::Bool(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ReactorId;
    use crate::rpc::config::Plan;
    use crate::rpc::methods;
    use crate::rpc::service::Service;

    #[test]
    fn a_disk_that_does_not_open_keeps_no_others_from_being_served() {
        let folder = std::env::temp_dir().join(format!("lunette-unopened-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = |name: &str| folder.join(name).display().to_string();
        std::fs::write(path("empty"), "").unwrap();
        std::os::unix::fs::symlink(path("loop"), path("loop")).unwrap();
        std::fs::write(path("sound"), vec![0; 4096]).unwrap();
        let params = |name: &str| format!(r#"{{"name":"{name}","filename":"{}"}}"#, path(name));
        let calls = ["empty", "loop", "sound"]
            .map(|name| format!(r#"{{"method":"bdev_aio_create","params":{}}}"#, params(name)));
        let disc = format!(
            r#"{{"method":"lunette_cdrom_create","params":{{"name":"cd","filename":"{}"}}}}"#,
            path("loop")
        );
        let text =
            format!(r#"{{"subsystems":[{{"subsystem":"bdev","config":[{},{disc}]}}]}}"#, calls.join(","));
        let service = Service::of(Plan::parse(&text).unwrap());
        let blocks = |name: &'static str| {
            let blocks = |control: &mut crate::control::Control<_>, _| {
                control.bdev(name).map(|entry| entry.spec.bdev.info().blocks)
            };
            service.remote.call(blocks).unwrap()
        };
        assert_eq!(
            ["empty", "loop", "sound", "cd"].map(blocks),
            [Some(0), Some(0), Some(8), Some(0)],
            "they are there and not ready"
        );
        // It comes up by itself; who asks need not wait for that.
        std::fs::write(path("empty"), vec![0; 1024]).unwrap();
        let call =
            |method, params: &str| methods::call(&service.context, method, Json::parse(params).unwrap());
        call("bdev_aio_rescan", r#"{"name":"empty"}"#).unwrap();
        assert_eq!(blocks("empty"), Some(2));
        // Who makes a disk now is told.
        let fault = call("bdev_aio_create", &params("loop").replacen("loop", "new", 1)).unwrap_err();
        assert_eq!(fault.code, -Errno::LOOP.raw_os_error(), "{}", fault.text());
        drop(service);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// A reactor that got none and has nothing to do there does not ask again.
    #[test]
    fn initiators_are_told_of_a_size_also_where_a_reactor_has_no_ring() {
        let path = std::env::temp_dir().join(format!("lunette-ringless-{}", std::process::id()));
        std::fs::write(&path, vec![0; 4096]).unwrap();
        let service = Service::start();
        let call = |method, params: &str| {
            methods::call(&service.context, method, Json::parse(params).unwrap())
                .unwrap_or_else(|fault| panic!("{method}: {}", fault.text()))
        };
        call("bdev_aio_create", &format!(r#"{{"name":"d","filename":"{}"}}"#, path.display()));
        let target = r#"{"name":"t","alias_name":"","pg_ig_maps":[],"queue_depth":1,"luns":[{"bdev_name":"d","lun_id":0}]}"#;
        call("iscsi_create_target_node", target);
        let Ok(Device::File(disk)) = service.context.device("d") else { panic!() };
        let disk = disk.upgrade().unwrap();
        disk.deny_rings();
        let channel = disk.open(ReactorId(1));
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(8192).unwrap();
        call("bdev_aio_rescan", r#"{"name":"d"}"#);
        let blocks = service.remote.call(|control, _| {
            control.logical_units().find(|(bdev, _)| *bdev == "d").map(|(_, view)| view.blocks)
        });
        assert_eq!(blocks, Some(Some(16)));
        drop((channel, disk, service));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn locked_disks_are_waited_for_together() {
        let folder = std::env::temp_dir().join(format!("lunette-locked-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = |index: u32| folder.join(index.to_string());
        let others: Vec<FileDisk> = (0..30)
            .map(|index| {
                std::fs::write(path(index), vec![0; 4096]).unwrap();
                let recipe = Recipe {
                    name: "other".to_owned(),
                    path: path(index),
                    create_bytes: None,
                    block_bytes: None,
                    cache: Cache::WriteBack,
                    read_only: false,
                    uuid: None,
                };
                let other = FileDisk::new(recipe).unwrap();
                other.open_or_rescan().unwrap();
                other
            })
            .collect();
        let calls: Vec<String> = (0..30)
            .map(|index| {
                let path = path(index);
                format!(
                    r#"{{"method":"bdev_aio_create","params":{{"name":"d{index}","filename":"{}"}}}}"#,
                    path.display()
                )
            })
            .collect();
        let text = format!(r#"{{"subsystems":[{{"subsystem":"bdev","config":[{}]}}]}}"#, calls.join(","));
        let (loaded, is_loaded) = std::sync::mpsc::channel();
        std::thread::spawn(move || loaded.send(Service::of(Plan::parse(&text).unwrap())));
        // One after the other they would take 150 s.
        let service = is_loaded.recv_timeout(Duration::from_secs(60)).unwrap();
        let blocks = || {
            service
                .remote
                .call(|control, _| control.bdevs().map(|entry| entry.spec.bdev.info().blocks).sum::<u64>())
                .unwrap()
        };
        assert_eq!(blocks(), 0);
        drop(others);
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while blocks() < 30 * 8 {
            assert!(std::time::Instant::now() < end, "they do not come up");
            std::thread::yield_now();
        }
        drop(service);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
