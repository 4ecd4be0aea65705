//! Where a daemon's socket is: `serve` makes it and every other command looks for it there, unless they are told.
//!
//! `LUNETTE_SOCKET` names it for both; set to nothing, there is none. Without it root has `/run/lunette/rpc.sock` and everybody
//! else `$XDG_RUNTIME_DIR/lunette.sock`, or a folder of their own in the folder for temporary files. Clients look at root's and at
//! SPDK's as well. Whoever has made a socket is told CHAP secrets: one that was not named is used only where it is in
//! `/run/lunette`, which only root makes, a service manager for its daemon's user among it, or where root or the user of the
//! command has made it.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::Failed;
use super::rpc::SOCKET as SPDK;

/// Root's daemon.
const SYSTEM: &str = "/run/lunette/rpc.sock";
/// Names the socket.
const VARIABLE: &str = "LUNETTE_SOCKET";
const ROOT: u32 = 0;

/// Which daemon a command is for.
#[derive(Clone, Debug, Args)]
pub struct SocketArg {
    /// The daemon's socket, or tcp://HOST:PORT of one with --rpc-tcp [default: $LUNETTE_SOCKET, or that of the daemon that runs]
    #[arg(short, long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

impl SocketArg {
    /// The socket to connect to.
    pub(super) fn path(&self) -> Result<PathBuf, Failed> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        let around = Around::here();
        if let Some(named) = around.named {
            return match named.is_empty() {
                true => Err(Failed::usage(format!(
                    "{VARIABLE} is set to nothing: name the daemon's socket by --socket PATH"
                ))),
                false => Ok(named.into()),
            };
        }
        let candidates = around.candidates();
        let found = candidates.iter().find(|path| is_trusted(path, around.uid));
        found.cloned().ok_or_else(|| Failed::NoDaemon(nowhere(&candidates)))
    }
}

fn nowhere(candidates: &[PathBuf]) -> String {
    let looked: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
    format!(
        "no daemon runs, or its socket is elsewhere: start one with 'lunette serve', or name its socket by --socket PATH \
         (looked at {})",
        looked.join(", ")
    )
}

/// Whether this is a daemon by TCP, whose files are its own machine's: what is at a path here says nothing of them.
pub(super) fn is_remote(socket: &Path) -> bool {
    place(socket).is_some()
}

/// Host and port of a daemon by TCP.
pub(super) fn place(socket: &Path) -> Option<&str> {
    socket.to_str()?.strip_prefix("tcp://")
}

/// What the daemon is to take calls at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Wanted {
    /// There or not at all.
    Named(PathBuf),
    /// There, where that can be.
    Usual(PathBuf),
    /// Nowhere.
    Nowhere,
}

/// Where `serve` makes its socket, where no switch says that.
pub(super) fn wanted() -> Wanted {
    let around = Around::here();
    match &around.named {
        Some(named) if named.is_empty() => Wanted::Nowhere,
        Some(named) => Wanted::Named(named.into()),
        None => Wanted::Usual(around.own()),
    }
}

/// Makes the folder of a socket that nobody named. Nobody else can put anything there.
pub(super) fn make_folder(socket: &Path) -> io::Result<()> {
    let Some(folder) = socket.parent() else { return Ok(()) };
    let uid = rustix::process::geteuid().as_raw();
    // Everybody may look for root's daemon; that its socket is closed to them is then what they are told.
    let mode = if uid == ROOT { 0o755 } else { 0o700 };
    match DirBuilder::new().mode(mode).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let metadata = std::fs::symlink_metadata(folder)?;
    if !metadata.is_dir() || metadata.uid() != uid || metadata.mode() & 0o022 != 0 {
        return Err(io::Error::new(
            ErrorKind::PermissionDenied,
            format!("others can write to {}", folder.display()),
        ));
    }
    Ok(())
}

/// Whether a socket that nobody named is to be used by this user.
fn is_trusted(path: &Path, uid: u32) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| {
        let is_owned = path == Path::new(SYSTEM) || found.uid() == uid || found.uid() == ROOT;
        found.file_type().is_socket() && is_owned
    })
}

/// What says where sockets are.
#[derive(Clone, Debug)]
struct Around {
    named: Option<OsString>,
    runtime_folder: Option<PathBuf>,
    temporary_folder: PathBuf,
    uid: u32,
}

impl Around {
    fn here() -> Around {
        Around {
            named: std::env::var_os(VARIABLE),
            runtime_folder: std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
            temporary_folder: std::env::temp_dir(),
            uid: rustix::process::geteuid().as_raw(),
        }
    }

    /// The socket of a daemon that this user runs.
    fn own(&self) -> PathBuf {
        match &self.runtime_folder {
            _ if self.uid == ROOT => SYSTEM.into(),
            Some(folder) if folder.is_absolute() => folder.join("lunette.sock"),
            _ => self.temporary_folder.join(format!("lunette-{}", self.uid)).join("rpc.sock"),
        }
    }

    /// Where clients look, in this order.
    fn candidates(&self) -> Vec<PathBuf> {
        let mut candidates = vec![self.own(), SYSTEM.into(), SPDK.into()];
        candidates.dedup();
        candidates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(uid: u32, runtime_folder: Option<&str>) -> Around {
        Around {
            named: None,
            runtime_folder: runtime_folder.map(PathBuf::from),
            temporary_folder: "/tmp".into(),
            uid,
        }
    }

    #[test]
    fn a_daemon_by_tcp_has_files_of_its_own() {
        assert!(is_remote(Path::new("tcp://storage1:3270")));
        assert!(!is_remote(Path::new("/run/lunette/rpc.sock")) && !is_remote(Path::new("./tcp:/x")));
    }

    #[test]
    fn root_has_one_and_everybody_else_another() {
        for (uid, folder, own) in [
            (0, Some("/run/user/0"), "/run/lunette/rpc.sock"),
            (1000, Some("/run/user/1000"), "/run/user/1000/lunette.sock"),
            (1000, Some("relative"), "/tmp/lunette-1000/rpc.sock"),
            (1000, None, "/tmp/lunette-1000/rpc.sock"),
        ] {
            assert_eq!(around(uid, folder).own(), PathBuf::from(own), "{uid} {folder:?}");
        }
    }

    #[test]
    fn clients_look_at_their_own_then_the_systems_then_spdks() {
        let looked = |uid| around(uid, None).candidates();
        assert_eq!(
            looked(7),
            ["/tmp/lunette-7/rpc.sock", "/run/lunette/rpc.sock", "/var/tmp/spdk.sock"].map(PathBuf::from)
        );
        assert_eq!(looked(0), ["/run/lunette/rpc.sock", "/var/tmp/spdk.sock"].map(PathBuf::from));
    }

    #[test]
    fn only_sockets_of_root_or_ones_own_are_found() {
        let folder = std::env::temp_dir().join(format!("lunette-socket-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let (socket, file) = (folder.join("socket"), folder.join("file"));
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::fs::write(&file, "").unwrap();
        let uid = std::fs::metadata(&socket).unwrap().uid();
        assert!(is_trusted(&socket, uid));
        assert!(!is_trusted(&file, uid));
        assert!(!is_trusted(&folder.join("missing"), uid));
        // A socket of somebody who is neither root nor us.
        assert_eq!(is_trusted(&socket, uid + 1), uid == ROOT);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = std::env::temp_dir().join(format!("lunette-folder-{}", std::process::id()));
        let socket = folder.join("rpc.sock");
        make_folder(&socket).unwrap();
        make_folder(&socket).unwrap();
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o777)).unwrap();
        assert_eq!(make_folder(&socket).unwrap_err().kind(), ErrorKind::PermissionDenied);
        std::fs::remove_dir(&folder).unwrap();
    }
}
