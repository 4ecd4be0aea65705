//! Targets told to an iSNS server (RFC 4171): a thread registers what SendTargets would tell, again whenever that changes and
//! before the registration lapses, and takes it back at the end.
//!
//! Not done: state change notifications and entity status inquiries, which are for who watches others; discovery domains, which
//! are the server's business.

mod wire;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::wire::{Entity, HEAD_BYTES, Node};
use super::context::{Context, lock};
use super::fault::Fault;
use super::json::{Json, object};
use crate::control::Control;
use crate::net::kernel::KernelNet;

/// A registration lapses after so long.
const PERIOD_SECONDS: u32 = 300;
/// It is made again after so long.
const REFRESH: Duration = Duration::from_secs(100);
/// Changes are looked for so often.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A server that could not be reached is tried again after so long.
const RETRY: Duration = Duration::from_secs(10);
/// Connecting takes no longer, nor do a message and its answer together.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where it is registered, if at all.
#[derive(Debug, Default)]
pub(super) struct Registrar {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    server: Option<SocketAddr>,
    entity: String,
    thread: Option<JoinHandle<()>>,
    /// The daemon stops.
    is_over: bool,
    /// Something was set that the thread has not seen.
    is_fresh: bool,
    /// What a server knows.
    registered: Option<Registered>,
    /// Why it does not know all.
    error: Option<String>,
}

/// What a server knows.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Registered {
    server: SocketAddr,
    /// Our end of the connection to it: by that address its initiators come, for all that is known.
    local: SocketAddr,
    entity: Entity,
}

/// Registers with a server from now on, or with none.
pub(super) fn set(context: &Context, server: Option<SocketAddr>, entity: String) -> Result<(), Fault> {
    let registrar = &context.isns;
    let mut state = lock(&registrar.state);
    (state.server, state.entity, state.error, state.is_fresh) = (server, entity, None, true);
    if server.is_some() && state.thread.is_none() && !state.is_over {
        let me = context.me();
        let run = move || {
            if let Some(context) = me.upgrade() {
                context.wait_started();
            }
            let mut next = Instant::now();
            while let Some(context) = me.upgrade() {
                let goes_on = context.isns.turn(&context, &mut next);
                drop(context);
                if !goes_on {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("isns".to_owned()).spawn(run);
        state.thread = Some(thread.map_err(Fault::internal)?);
    }
    drop(state);
    registrar.changed.notify_all();
    Ok(())
}

impl Registrar {
    /// The daemon has stopped: what is registered is taken back.
    pub(super) fn end(&self) {
        lock(&self.state).is_over = true;
        self.changed.notify_all();
        let thread = lock(&self.state).thread.take();
        if let Some(thread) = thread {
            // It ends within a few times its patience.
            let _ = thread.join();
        }
    }

    /// The call that a file has for it, where it is on.
    pub(super) fn call(&self) -> Option<Json> {
        let state = lock(&self.state);
        let server = state.server?;
        let params = object! {
            "host": super::methods::portal::host(server.ip()),
            "port": server.port().to_string(),
            "entity": &state.entity,
        };
        Some(object! { "method": "lunette_isns_set_server", "params": params })
    }

    /// How it stands.
    pub(super) fn describe(&self) -> Json {
        let state = lock(&self.state);
        let mut shown = object! { "entity": &state.entity };
        if let Some(server) = state.server {
            shown.push("server", server.to_string());
        }
        let nodes = state.registered.iter().flat_map(|registered| &registered.entity.nodes);
        shown.push("registered", nodes.map(|node| Json::from(node.name.as_str())).collect::<Json>());
        if let Some(error) = &state.error {
            shown.push("error", error);
        }
        shown
    }

    /// Looks whether something is to be told, and tells it; false when it is all over.
    fn turn(&self, context: &Context, next: &mut Instant) -> bool {
        let state = lock(&self.state);
        let is_idle = |state: &mut State| !state.is_over && !state.is_fresh;
        let waited = self.changed.wait_timeout_while(state, LOOK_EVERY, is_idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if std::mem::take(&mut state.is_fresh) {
            *next = Instant::now();
        }
        let is_over = state.is_over;
        let (server, name) = (state.server.filter(|_| !is_over), state.entity.clone());
        let registered = state.registered.clone();
        drop(state);
        let is_current = |known: &Registered| Some(known.server) == server && known.entity.name == name;
        if let Some(known) = registered.as_ref().filter(|known| !is_current(known)) {
            // A server that does not hear it forgets by itself.
            let _ = deregister(known);
            lock(&self.state).registered = None;
        }
        let Some(server) = server else { return !is_over };
        let told = tell(context, server, &name, registered.filter(is_current).as_ref(), *next);
        let mut state = lock(&self.state);
        match told {
            Ok(None) => {}
            Ok(Some(registered)) => {
                *next = Instant::now() + REFRESH;
                state.registered = Some(registered);
                state.error = None;
            }
            Err(error) => {
                *next = Instant::now() + RETRY;
                // Once for each failure of its kind.
                if state.error.as_ref() != Some(&error) {
                    tracing::warn!(%server, error, "iSNS: not registered; tried again every 10 s");
                }
                state.error = Some(error);
                // It is not known what the server knows.
                state.registered = None;
            }
        }
        true
    }
}

/// Registers what there is, where that has changed or is due. Returns what the server knows now.
fn tell(
    context: &Context,
    server: SocketAddr,
    name: &str,
    known: Option<&Registered>,
    due: Instant,
) -> Result<Option<Registered>, String> {
    let is_due = Instant::now() >= due;
    let there = |local| {
        let name = name.to_owned();
        context.control(move |control, _| entity(control, name, local)).map_err(|fault| fault.text())
    };
    match known {
        None if !is_due => return Ok(None),
        Some(known) if !is_due && there(known.local)? == known.entity => return Ok(None),
        _ => {}
    }
    let stream = connect(server)?;
    let local = stream.local_addr().map_err(|error| error.to_string())?;
    let entity = there(local)?;
    let gone = known.filter(|_| entity.nodes.is_empty()).map(|known| known.entity.deregistration(1));
    match gone.unwrap_or_else(|| entity.registration(PERIOD_SECONDS, 1)) {
        Some(message) => exchange(&stream, &message, 1)?,
        None if entity.nodes.is_empty() => {}
        None => return Err("too many targets and portals for one iSNS message".to_owned()),
    }
    Ok(Some(Registered { server, local, entity }))
}

fn deregister(known: &Registered) -> Result<(), String> {
    let Some(message) = known.entity.deregistration(2) else { return Ok(()) };
    exchange(&connect(known.server)?, &message, 2)
}

fn connect(server: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect_timeout(&server, PATIENCE).map_err(|error| error.to_string())
}

/// A connection until some moment, however little comes at a time.
struct Until<'a> {
    stream: &'a TcpStream,
    end: Instant,
}

impl Until<'_> {
    fn left(&self) -> io::Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Until<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(bytes)
    }
}

impl Write for Until<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One message, and whether the answer says that all is well.
fn exchange(stream: &TcpStream, message: &[u8], transaction: u16) -> Result<(), String> {
    exchange_until(Until { stream, end: Instant::now() + PATIENCE }, message, transaction)
}

fn exchange_until(mut stream: Until<'_>, message: &[u8], transaction: u16) -> Result<(), String> {
    let mut head = [0; HEAD_BYTES];
    let mut payload = Vec::new();
    stream
        .write_all(message)
        .and_then(|()| stream.read_exact(&mut head))
        .map_err(|error| error.to_string())?;
    let (_, length) = wire::answered(&head, transaction).map_err(|bad| bad.to_string())?;
    payload.resize(length, 0);
    stream.read_exact(&mut payload).map_err(|error| error.to_string())?;
    wire::status(&payload).map_err(|bad| bad.to_string())
}

/// What SendTargets would tell everybody who comes to `local`.
fn entity(control: &Control<KernelNet>, name: String, local: SocketAddr) -> Entity {
    let mut nodes = Vec::new();
    for target in control.targets() {
        let mut portals = Vec::new();
        for &(tag, _) in &target.relative_ports {
            let group = control.portal_groups().find(|group| group.tag == tag);
            let told = group.filter(|group| !group.is_private && group.is_started);
            let addresses = told.into_iter().flat_map(|group| &group.portals);
            portals.extend(addresses.filter_map(|portal| Some((portal.told(local)?, tag))));
        }
        if !portals.is_empty() {
            nodes.push(Node { name: target.name.to_owned(), alias: target.alias.to_owned(), portals });
        }
    }
    Entity { name, nodes }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that sends a byte now and then would never let a wait for a byte end.
    #[test]
    fn a_server_that_drips_is_not_waited_for_longer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = std::thread::spawn({
            let address = listener.local_addr().unwrap();
            move || TcpStream::connect(address).unwrap()
        });
        let (stream, mut server) = (listener.accept().unwrap().0, server.join().unwrap());
        let dripping = std::thread::spawn(move || while server.write_all(&[0]).is_ok() {});
        // There is always something to read, and the time is over.
        let over = Until { stream: &stream, end: Instant::now() };
        let error = exchange_until(over, b"message", 1).unwrap_err();
        assert_eq!(error, io::Error::from(io::ErrorKind::TimedOut).to_string());
        drop(stream);
        dripping.join().unwrap();
    }
}
