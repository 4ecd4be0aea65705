//! The JSON-RPC socket: a thread that accepts, and one for each connection, up to a bound.
//!
//! These threads may block (opening a disk, syncing a file, a client that does not read): control, reactors and other
//! clients do not notice. As with SPDK a lock file beside the socket says whether a daemon lives there, so that the
//! socket of one that died is replaced and that of one that lives is not.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::calls::UNKNOWN;
use super::context::Context;
use super::door::{self, Door};
use super::envelope::{Call, Id, Request, Stream, answer};
use super::events;
use super::fault::Fault;
use super::json::Json;
use super::methods;
use crate::file_lock::lock;
use crate::limits::{RPC_CONNS_MAX, RPC_REQUEST_NS, RPC_SEND_NS};

/// Only who runs the daemon may command it, unless its [`Door`] says otherwise.
const SOCKET_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;
/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// A client that sent no JSON has so long to take the answer before its connection is closed.
const LINGER: Duration = Duration::from_secs(1);
/// When nothing can be accepted (no descriptors), the next try comes after so long.
const RETRY: Duration = Duration::from_millis(100);

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
        let shared = Arc::new(Shared::new()?);
        let listener = self.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        if self.lock.is_none() {
            leave_to_the_next(&context, &shared)?;
        }
        let service = Arc::new(Service { context, door: self.door.clone() });
        let thread = std::thread::Builder::new().name("rpc".to_owned());
        let kept = Arc::clone(&shared);
        let thread = thread.spawn(move || accept(&listener, &service, &kept))?;
        Ok(Server { _socket: self, shared, thread: Some(thread) })
    }
}

/// Who comes while the daemon drains waits, where somebody else keeps the socket, for the daemon that is started next.
fn leave_to_the_next(context: &Context, shared: &Arc<Shared>) -> io::Result<()> {
    let (tells, drains) = mpsc::channel();
    context.remote().tell_drain(tells);
    let shared = Arc::clone(shared);
    let wait = move || {
        // It drains, or has stopped.
        let _ = drains.recv();
        shared.stop_accepting();
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
    _socket: Socket,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop_accepting();
        // Whom it accepts last is then among those that are served.
        let _ = self.thread.take().map(JoinHandle::join);
        self.shared.shut(std::net::Shutdown::Read);
        // What they have sent is answered, for who is quick about it.
        let conns = self.shared.conns();
        let waited = self.shared.left.wait_timeout_while(conns, LINGER, |conns| !conns.is_empty());
        drop(waited);
        self.shared.shut(std::net::Shutdown::Both);
    }
}

/// What is served, and to whom.
#[derive(Debug)]
struct Service {
    context: Arc<Context>,
    door: Door,
}

#[derive(Debug)]
struct Shared {
    /// Nobody is accepted any more.
    is_over: AtomicBool,
    /// Readable once that is so.
    over: OwnedFd,
    /// For its numbers.
    accepted: AtomicUsize,
    /// Those that are served, by number.
    conns: Mutex<Vec<(usize, UnixStream)>>,
    /// One of them has ended.
    left: Condvar,
}

impl Shared {
    fn new() -> io::Result<Shared> {
        let over = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Shared {
            is_over: AtomicBool::new(false),
            over,
            accepted: AtomicUsize::new(0),
            conns: Mutex::default(),
            left: Condvar::new(),
        })
    }

    fn conns(&self) -> MutexGuard<'_, Vec<(usize, UnixStream)>> {
        self.conns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection is no longer served.
    fn leave(&self, number: usize) {
        self.conns().retain(|(other, _)| *other != number);
        self.left.notify_all();
    }

    fn shut(&self, how: std::net::Shutdown) {
        for (_, conn) in self.conns().iter() {
            // It may have ended by itself.
            let _ = conn.shutdown(how);
        }
    }

    /// The listening socket is not shut down for it: somebody else may go on with it.
    fn stop_accepting(&self) {
        self.is_over.store(true, Ordering::Release);
        // It cannot be too full: it is written to twice at most.
        let _ = rustix::io::write(&self.over, &1_u64.to_ne_bytes());
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

fn accept(listener: &UnixListener, service: &Arc<Service>, shared: &Arc<Shared>) {
    loop {
        let mut waited = [PollFd::new(listener, PollFlags::IN), PollFd::new(&shared.over, PollFlags::IN)];
        // What goes wrong here is found out below.
        let _ = poll(&mut waited, None);
        if shared.is_over.load(Ordering::Acquire) {
            return;
        }
        match listener.accept() {
            Ok((stream, _)) => {
                if let Err(error) = start(stream, service, shared) {
                    tracing::warn!(%error, "a JSON-RPC client was turned away");
                }
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted | ErrorKind::WouldBlock
                ) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept JSON-RPC clients at the moment");
                std::thread::sleep(RETRY);
            }
        }
    }
}

/// Gives a connection its thread.
fn start(mut stream: UnixStream, service: &Arc<Service>, shared: &Arc<Shared>) -> io::Result<()> {
    let user = sockopt::socket_peercred(&stream)?.uid.as_raw();
    if !service.door.admits(user, rustix::process::geteuid().as_raw()) {
        return Err(io::Error::new(ErrorKind::PermissionDenied, format!("user {user} may not come")));
    }
    stream.set_write_timeout(Some(Duration::from_nanos(RPC_SEND_NS)))?;
    let number = shared.accepted.fetch_add(1, Ordering::Relaxed);
    if shared.conns().len() >= RPC_CONNS_MAX {
        let fault =
            Fault::internal(format_args!("{RPC_CONNS_MAX} clients are connected, and no more may be"));
        // It fits into an empty socket's buffer.
        stream
            .write_all(format!("{}\n", answer(&Id::default(), Err(fault)).unwrap_or_default()).as_bytes())?;
        return Err(io::Error::other("there are too many"));
    }
    shared.conns().push((number, stream.try_clone()?));
    let (service, kept) = (Arc::clone(service), Arc::clone(shared));
    let thread = std::thread::Builder::new().name(format!("rpc-{number}"));
    let spawned = thread.spawn(move || {
        if let Err(error) = serve(&mut stream, &service) {
            tracing::info!(%error, "a JSON-RPC connection was closed");
        }
        kept.leave(number);
    });
    if spawned.is_err() {
        shared.leave(number);
    }
    spawned.map(drop)
}

/// Serves a connection to its end.
fn serve(stream: &mut UnixStream, service: &Service) -> io::Result<()> {
    let mut values = Stream::requests();
    let mut chunk = vec![0; READ_BYTES];
    // When a request that has begun has to be complete.
    let mut due = None;
    loop {
        let left = due.map(|due: Instant| due.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Err(io::Error::new(ErrorKind::TimedOut, "half a request came and no more"));
        }
        stream.set_read_timeout(left)?;
        let bytes = match stream.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(bytes) => bytes,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut
                ) =>
            {
                continue;
            }
            // A client that has its answer may go without a word.
            Err(error) if error.kind() == ErrorKind::ConnectionReset && !values.is_amid() => return Ok(()),
            Err(error) => return Err(error),
        };
        values.received(&chunk[..bytes]);
        let fault = loop {
            match values.next_value() {
                Ok(None) => break None,
                Ok(Some(text)) => match handle(&text, service, stream)? {
                    Next::GoOn => due = None,
                    Next::Tell(subscription) => {
                        return events::serve(stream, &service.context, &subscription);
                    }
                    Next::End(fault) => break Some(fault),
                },
                Err(fault) => break Some(fault),
            }
        };
        if let Some(fault) = fault {
            return close(stream, fault);
        }
        if values.is_amid() {
            due = due.or_else(|| Some(Instant::now() + Duration::from_nanos(RPC_REQUEST_NS)));
        }
    }
}

/// Answers what was no JSON, and nothing after it.
fn close(stream: &mut UnixStream, fault: Fault) -> io::Result<()> {
    let error = io::Error::new(ErrorKind::InvalidData, fault.text());
    send(stream, answer(&Id::default(), Err(fault)), "\n")?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // The client may still be sending: it shall see the answer, not a broken pipe.
    let (until, mut chunk) = (Instant::now() + LINGER, vec![0; READ_BYTES]);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            break;
        }
        if !matches!(stream.read(&mut chunk), Ok(1..)) {
            break;
        }
    }
    Err(error)
}

/// What a connection goes on with.
enum Next {
    /// The next value.
    GoOn,
    /// What happens, from what the subscription was answered with.
    Tell(Json),
    /// Nothing, for this fault.
    End(Fault),
}

/// Does what a whole value asks for and answers it.
fn handle(text: &str, service: &Service, stream: &mut UnixStream) -> io::Result<Next> {
    match Request::parse(text) {
        Err(fault) if fault.code == Fault::PARSE_ERROR => return Ok(Next::End(fault)),
        Err(fault) => send(stream, answer(&Id::default(), Err(fault)), "\n")?,
        Ok(Request::One(text)) => {
            let mut reply = call(text, service);
            let subscription = reply.subscription.take();
            send(stream, reply.kept(&service.context), "\n")?;
            if let Some(subscription) = subscription {
                return Ok(Next::Tell(subscription));
            }
        }
        Ok(Request::Batch(calls)) => {
            let mut before = "[";
            let mut replies = Vec::new();
            let mut bytes = 0;
            let mut calls = calls.into_iter().peekable();
            while let Some(text) = calls.next() {
                let reply = call(text, service);
                bytes += reply.answer.as_ref().map_or(0, String::len);
                replies.push(reply);
                // Changes of many calls are kept at once, but no batch makes an answer that fills memory.
                if bytes >= READ_BYTES || calls.peek().is_none() {
                    bytes = 0;
                    for answer in kept(std::mem::take(&mut replies), &service.context) {
                        stream.write_all(before.as_bytes())?;
                        send(stream, Some(answer), "")?;
                        before = ",";
                    }
                }
            }
            if before == "," {
                stream.write_all(b"]\n")?;
            }
        }
    }
    Ok(Next::GoOn)
}

fn send(stream: &mut UnixStream, answer: Option<String>, end: &str) -> io::Result<()> {
    let Some(mut answer) = answer else { return Ok(()) };
    answer.push_str(end);
    stream.write_all(answer.as_bytes())
}

/// What is to be said to a call.
struct Reply {
    id: Id,
    answer: Option<String>,
    /// It was done.
    is_ok: bool,
    /// It may have changed the configuration, even where it failed.
    change: Option<String>,
    /// It asks to be told what happens, and was answered so.
    subscription: Option<Json>,
}

impl Reply {
    /// The answer, once what the call has changed is kept.
    fn kept(self, context: &Context) -> Option<String> {
        kept(vec![self], context).pop()
    }
}

/// The answers, once what the calls have changed is kept.
fn kept(replies: Vec<Reply>, context: &Context) -> Vec<String> {
    let change = replies.iter().find_map(|reply| reply.change.as_deref());
    let fault = change.and_then(|method| context.keep(method).err());
    let answers = replies.into_iter().filter_map(|reply| match &fault {
        Some(fault) if reply.change.is_some() && reply.is_ok => answer(&reply.id, Err(fault.clone())),
        _ => reply.answer,
    });
    answers.collect()
}

/// Makes one call.
fn call(text: &str, service: &Service) -> Reply {
    let Call { id, method, params } = match Call::parse(text) {
        Ok(call) => call,
        Err((id, fault)) => {
            let answer = answer(&id, Err(fault));
            return Reply { id, answer, is_ok: false, change: None, subscription: None };
        }
    };
    let Service { context, door } = service;
    let began = Instant::now();
    let is_allowed = door.allows(&method);
    let outcome = match is_allowed {
        true => methods::call(context, &method, params),
        false => Err(Fault {
            detail: Some("it may not be called at this socket".to_owned()),
            ..Fault::new(Fault::METHOD_NOT_FOUND, "Method not found")
        }),
    };
    let took_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let named = methods::find(&method).map_or(UNKNOWN, |method| method.name);
    context.calls.enter(named, outcome.is_ok(), took_ns);
    let outcome = if method == door::LIST { outcome.map(|all| door.listed(all)) } else { outcome };
    if let Err(fault) = &outcome {
        tracing::info!(method, code = fault.code, "JSON-RPC call refused: {}", fault.text());
    }
    let subscription = outcome.as_ref().ok().filter(|_| method == events::SUBSCRIBE).cloned();
    let is_change = is_allowed && methods::find(&method).is_ok_and(|method| !method.is_reading());
    let is_ok = outcome.is_ok();
    let answer = answer(&id, outcome);
    Reply { id, answer, is_ok, change: is_change.then_some(method), subscription }
}
