//! What SPDK leaves to its clients: the configuration as one thing.

use std::io;
use std::path::PathBuf;

use super::{Method, Outcome, method};
use crate::control::disks::KeptDisk;
use crate::rpc::apply;
use crate::rpc::config::{self, Plan};
use crate::rpc::context::Context;
use crate::rpc::devices::bdev_fault;
use crate::rpc::difference;
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::params::{Nothing, params};
use crate::rpc::types::Uuid;
use crate::rpc::whole_file;

pub(super) const METHODS: &[Method] = &[
    method!(
        "lunette_get_config",
        Runtime,
        Nothing,
        get_config,
        "The calls that rebuild everything as it is now: what --config takes."
    ),
    method!(
        "lunette_save_config",
        Runtime,
        SaveConfig,
        save_config,
        "Writes them to a file, of which there is a whole one at any time, on stable storage when this is answered."
    ),
    method!(
        "lunette_get_kept_disks",
        Runtime,
        Nothing,
        get_kept_disks,
        "Lists the disks that the state file keeps something of, those included that are gone."
    ),
    method!(
        "lunette_forget_disk",
        Runtime,
        ForgetDisk,
        forget_disk,
        "Takes out of the state file what is kept of a disk that is gone: reservations, access states, identity, and which UUID its \
         file had."
    ),
    method!(
        "lunette_apply_config",
        Runtime,
        ApplyConfig,
        apply_config,
        "Makes everything what a file of calls says, by the calls that differ: all of them or, where one fails, none. What the file leaves out of a thing stays as it is; with merge, so does everything that is there. Gives back the calls, without secrets. Sessions of targets that are not deleted stay."
    ),
];

fn get_kept_disks(context: &Context, _: Nothing) -> Outcome {
    let describe = |disk: KeptDisk| {
        let bdev = |(name, path): (String, String)| object! { "name": name, "filename": path };
        object! {
            "uuid": disk.uuid,
            "present": disk.is_there,
            "bdevs": disk.bdevs.into_iter().map(bdev).collect::<Json>(),
            "kept": disk.kinds.into_iter().map(Json::from).collect::<Json>(),
        }
    };
    context.control(move |control, _| control.kept_disks().into_iter().map(describe).collect::<Json>())
}

params! {
    /// Of `lunette_forget_disk`.
    pub(super) struct ForgetDisk {
        /// Its UUID, as `lunette_get_kept_disks` tells it.
        uuid: Uuid,
    }
}

fn forget_disk(context: &Context, params: ForgetDisk) -> Outcome {
    let Uuid(uuid) = params.uuid;
    let forgotten = context.control(move |control, _| control.forget_disk(uuid))?;
    forgotten.map(|()| Json::Bool(true)).map_err(|error| bdev_fault(&error))
}

fn get_config(context: &Context, _: Nothing) -> Outcome {
    config::all(context)
}

params! {
    /// Of `lunette_save_config`.
    pub(super) struct SaveConfig {
        /// The file; that of --config where none is given.
        filename: Option<String>,
    }
}

params! {
    /// Of `lunette_apply_config`.
    pub(super) struct ApplyConfig {
        /// The file.
        filename: String,
        /// Only says which calls it would be.
        dry_run: bool = false,
        /// What is there stays, and the file comes in addition: its groups get tags that are free, or are those that say the same. What
        /// is there under the same name and is another is in the way. Options stay the daemon's.
        merge: bool = false,
    }
}

fn apply_config(context: &Context, params: ApplyConfig) -> Outcome {
    let path = absolute(params.filename.into())?;
    let wanted = Plan::read(&path).map_err(Fault::params)?;
    if let Some(exposure) = wanted.exposure(&path) {
        tracing::warn!("lunette_apply_config: {exposure}");
    }
    let calls = apply::apply(context, &wanted, params.dry_run, params.merge)?;
    let call = |(method, mut params): (String, Json)| {
        difference::hide(&mut params);
        object! { "method": method, "params": params }
    };
    Ok(calls.into_iter().map(call).collect())
}

/// A path that does not hang on the daemon's folder.
fn absolute(path: PathBuf) -> Result<PathBuf, Fault> {
    if path.is_absolute() {
        return Ok(path);
    }
    let path = path.display();
    Err(Fault::params(format_args!(
        "filename: \"{path}\" is not absolute, and the daemon's folder is not yours"
    )))
}

fn save_config(context: &Context, params: SaveConfig) -> Outcome {
    let path = params.filename.map(PathBuf::from).or_else(|| context.config_file.clone());
    let path =
        path.ok_or_else(|| Fault::params("filename: it is missing, and the daemon was not given --config"))?;
    let path = absolute(path)?;
    let failed = |error: io::Error| match rustix::io::Errno::from_io_error(&error) {
        Some(errno) => Fault::errno(errno, path.display()),
        None => Fault::internal(format_args!("{}: {error}", path.display())),
    };
    let file = whole_file::real(&path).map_err(failed)?;
    // A new file takes the place of what is there: of a device it would be the name that is lost.
    if std::fs::metadata(&file).is_ok_and(|there| !there.is_file()) {
        return Err(Fault::errno(
            rustix::io::Errno::INVAL,
            format_args!("{} is there, and no regular file", file.display()),
        ));
    }
    if context.keeps_at(&file) {
        return Ok(Json::Bool(true));
    }
    // What was asked for last is not to be written over by what was there before.
    let _alone = context.save_alone(&file);
    whole_file::write(&file, &config::text(context)?).map_err(failed)?;
    Ok(Json::Bool(true))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rpc::methods;
    use crate::rpc::service::Service;
    use crate::rpc::versions::Versions;

    /// The folder of one of them may hang.
    #[test]
    fn who_saves_to_a_file_waits_only_for_that_file() {
        let folder = std::env::temp_dir().join(format!("lunette-saving-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let folder = std::fs::canonicalize(folder).unwrap();
        let service = Service::start();
        let (saved, is_saved) = std::sync::mpsc::channel();
        let save = |name: &'static str| {
            let (context, path, saved) =
                (std::sync::Arc::clone(&service.context), folder.join(name), saved.clone());
            std::thread::spawn(move || {
                let params = object! { "filename": path.display().to_string() };
                methods::call(&context, "lunette_save_config", params).unwrap();
                saved.send(name).unwrap();
            });
        };
        let slow = service.context.save_alone(&folder.join("one"));
        save("one");
        save("other");
        assert_eq!(is_saved.recv_timeout(Duration::from_secs(60)), Ok("other"));
        assert_eq!(is_saved.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty));
        drop(slow);
        assert_eq!(is_saved.recv_timeout(Duration::from_secs(60)), Ok("one"));
        drop(service);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_link_to_a_file_is_saved_to_as_that_file() {
        let folder = std::env::temp_dir().join(format!("lunette-linked-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let folder = std::fs::canonicalize(folder).unwrap();
        let path = |name: &str| folder.join(name);
        for (link, file) in [("kept", "kept.json"), ("other", "other.json")] {
            std::os::unix::fs::symlink(file, path(link)).unwrap();
        }
        std::fs::write(path("kept.json"), "old").unwrap();
        let service = Service::keeping(Some(Versions::of(&path("kept.json")).take().unwrap()));
        let save = |name: &str| {
            let params = object! { "filename": path(name).display().to_string() };
            methods::call(&service.context, "lunette_save_config", params)
        };
        for (link, file) in [("kept", "kept.json"), ("other", "other.json")] {
            save(link).unwrap();
            assert!(std::fs::symlink_metadata(path(link)).unwrap().is_symlink(), "{link}");
            if file == "kept.json" {
                // The keeper writes it before the call is answered.
                assert_eq!(std::fs::read_to_string(path(file)).unwrap(), "old");
                service.context.keep("lunette_save_config").unwrap();
            }
            assert_eq!(std::fs::read_to_string(path(file)).unwrap(), config::text(&service.context).unwrap());
        }
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        let fault = save("socket").unwrap_err();
        assert!(fault.text().ends_with("socket is there, and no regular file"), "{}", fault.text());
        let fault = save("nowhere/file").unwrap_err();
        assert_eq!(fault.code, -2, "{}", fault.text());
        drop(service);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
