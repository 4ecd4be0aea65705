//! The JSON-RPC socket: a thread that accepts, and one for each connection, up to a bound.
//!
//! These threads may block (opening a disk, syncing a file, a client that does not read): control, reactors and other
//! clients do not notice. As with SPDK a lock file beside the socket says whether a daemon lives there, so that the
//! socket of one that died is replaced and that of one that lives is not.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::context::Context;
use super::converse::{Service, serve};
use super::crowd::Crowd;
use super::door::Door;
use super::envelope::{Id, answer};
use super::fault::Fault;
use crate::file_lock::lock;
use crate::limits::{RPC_CONNS_MAX, RPC_SEND_NS};

/// Only who runs the daemon may command it, unless its [`Door`] says otherwise.
const SOCKET_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A daemon lives there.
    #[error("{0}: another daemon has this socket; stop it, or choose another --rpc-socket")]
    InUse(PathBuf),
    /// There is something else.
    #[error("{0}: it is there and is not a socket; choose another --rpc-socket")]
    NotASocket(PathBuf),
    /// The system refuses.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A socket that is bound and not served yet. Its files go with it, unless somebody else has bound it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    door: Door,
    /// Held as long as it is open; none where somebody else keeps the socket.
    lock: Option<File>,
}

impl Socket {
    /// Takes the socket at `path`, where everything may be called.
    ///
    /// # Errors
    /// A daemon that lives there, or whatever the system has against it.
    pub fn bind(path: &Path) -> Result<Socket, BindError> {
        Socket::bind_as(Door::open(path.to_owned()))
    }

    /// Takes a socket.
    ///
    /// # Errors
    /// As [`Socket::bind`].
    pub fn bind_as(door: Door) -> Result<Socket, BindError> {
        let path = door.path.as_path();
        let failed = |path: &Path, source| BindError::Io { path: path.to_owned(), source };
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock_path = PathBuf::from(lock_path);
        let lock = lock(&lock_path).map_err(|source| failed(&lock_path, source))?;
        let Some(lock) = lock else { return Err(BindError::InUse(path.to_owned())) };
        match std::fs::symlink_metadata(path) {
            Ok(found) if !std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
                return Err(BindError::NotASocket(path.to_owned()));
            }
            // SPDK locks as well; this is for servers that do not.
            Ok(_) if UnixStream::connect(path).is_ok() => return Err(BindError::InUse(path.to_owned())),
            Ok(_) => std::fs::remove_file(path).map_err(|source| failed(path, source))?,
            Err(_) => {}
        }
        let listener = listen(path, door.mode()).map_err(|source| failed(path, source))?;
        Ok(Socket { listener, door, lock: Some(lock) })
    }

    /// A socket that somebody else has bound and keeps: a service manager. Who can open it is for that one to say; who may come is
    /// looked at all the same.
    pub fn handed_over(listener: UnixListener, door: Door) -> Socket {
        Socket { listener, door, lock: None }
    }

    /// Serves it.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn serve(self, context: Arc<Context>) -> io::Result<Server> {
        let crowd = Arc::new(Crowd::new()?);
        let listener = self.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        if self.lock.is_none() {
            leave_to_the_next(&context, &crowd)?;
        }
        let service = Arc::new(Service { context, may: self.door.may.clone() });
        let thread = std::thread::Builder::new().name("rpc".to_owned());
        let (kept, door) = (Arc::clone(&crowd), self.door.clone());
        let start = move |stream| {
            if let Err(error) = start(stream, &door, &service, &kept) {
                tracing::warn!(%error, "a JSON-RPC client was turned away");
            }
        };
        let taken = Arc::clone(&crowd);
        let accept = move || taken.take_in(&listener, || listener.accept().map(|(stream, _)| stream), start);
        Ok(Server { thread: Some(thread.spawn(accept)?), crowd, _socket: Some(self) })
    }
}

/// Who comes while the daemon drains waits, where somebody else keeps the socket, for the daemon that is started next.
fn leave_to_the_next(context: &Context, crowd: &Arc<Crowd>) -> io::Result<()> {
    let (tells, drains) = mpsc::channel();
    context.remote().tell_drain(tells);
    let crowd = Arc::clone(crowd);
    let wait = move || {
        // It drains, or has stopped.
        let _ = drains.recv();
        crowd.stop_accepting();
    };
    std::thread::Builder::new().name("rpc-drain".to_owned()).spawn(wait).map(drop)
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.lock.is_none() {
            return;
        }
        // The lock file goes too: who opens it now finds another one, or none, at its path and tries again.
        let mut lock_path = self.door.path.as_os_str().to_owned();
        lock_path.push(".lock");
        let _ = std::fs::remove_file(&self.door.path);
        let _ = std::fs::remove_file(lock_path);
    }
}

/// A socket that is served. Dropping it ends its connections.
#[derive(Debug)]
pub struct Server {
    pub(super) thread: Option<JoinHandle<()>>,
    pub(super) crowd: Arc<Crowd>,
    /// What is taken away with it.
    pub(super) _socket: Option<Socket>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.crowd.stop_accepting();
        // Whom it accepts last is then among those that are served.
        let _ = self.thread.take().map(JoinHandle::join);
        self.crowd.end();
    }
}

fn listen(path: &Path, mode: Mode) -> io::Result<UnixListener> {
    let address = SocketAddrUnix::new(path)?;
    let socket: OwnedFd =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Before it has a name: nobody else gets in for a moment.
    fchmod(&socket, SOCKET_MODE)?;
    rustix::net::bind(&socket, &address)?;
    if mode != SOCKET_MODE {
        // Who they are is asked when they come.
        rustix::fs::chmod(path, mode)?;
    }
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Gives a connection its thread.
fn start(mut stream: UnixStream, door: &Door, service: &Arc<Service>, crowd: &Arc<Crowd>) -> io::Result<()> {
    let user = sockopt::socket_peercred(&stream)?.uid.as_raw();
    if !door.admits(user, rustix::process::geteuid().as_raw()) {
        return Err(io::Error::new(ErrorKind::PermissionDenied, format!("user {user} may not come")));
    }
    stream.set_write_timeout(Some(Duration::from_nanos(RPC_SEND_NS)))?;
    let Some(number) = crowd.enter(stream.try_clone()?.into(), false) else {
        // It fits into an empty socket's buffer.
        stream.write_all(too_many().as_bytes())?;
        return Err(io::Error::other("there are too many"));
    };
    let (service, kept) = (Arc::clone(service), Arc::clone(crowd));
    let thread = std::thread::Builder::new().name(format!("rpc-{number}"));
    let spawned = thread.spawn(move || {
        if let Err(error) = serve(&mut stream, &service) {
            tracing::info!(%error, "a JSON-RPC connection was closed");
        }
        kept.leave(number);
    });
    if spawned.is_err() {
        crowd.leave(number);
    }
    spawned.map(drop)
}

/// What a client is told for whom there is no room.
pub(super) fn too_many() -> String {
    let fault = Fault::internal(format_args!("{RPC_CONNS_MAX} clients are connected, and no more may be"));
    format!("{}\n", answer(&Id::default(), Err(fault)).unwrap_or_default())
}
