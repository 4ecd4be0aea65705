//! The thread of a passed-through device, which makes the calls that may sleep: to open it once more, and to give it commands,
//! for which the kernel may have no room while others use the host adapter.
//!
//! Who asks waits for nothing: answers are read from the file by whoever asked, and what the driver did not take comes
//! back through a bounded queue with a descriptor that wakes its reactor.
//!
//! A device that is gone has left its thread with nothing to do but to look for it. It lets go of its own file first: until all have,
//! the kernel gives the device's number to no other, and so not to the same that is plugged in again either.
#![expect(clippy::disallowed_methods, reason = "a helper thread, which waits for work")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::slots::Ask;
use super::{FLIGHTS_MAX, Finder, Opened};
use crate::limits::{PROBE_NS, REACTORS_MAX};

/// Opens the device: for the first time, or the very same once more for a channel.
pub(super) trait Door: Send + Sync {
    /// A file of its own, which does not block where it is read.
    fn open(&self) -> io::Result<OwnedFd>;
}

/// What a channel and the thread share.
pub(super) struct Link {
    /// The file, once it is open, or why it could not be.
    opened: ArrayQueue<Result<Arc<OwnedFd>, Errno>>,
    /// Commands that the driver did not take, by slot.
    refused: ArrayQueue<(usize, Errno)>,
    /// Becomes readable with each of both.
    bell: OwnedFd,
    /// Readable where the bell is, or the file while it is watched.
    either: OwnedFd,
}

impl Link {
    pub(super) fn new() -> io::Result<Arc<Link>> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let either = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&either, &bell, EventData::new_u64(0), EventFlags::IN)?;
        Ok(Arc::new(Link { opened: ArrayQueue::new(1), refused: ArrayQueue::new(FLIGHTS_MAX), bell, either }))
    }

    pub(super) fn opened(&self) -> Option<Result<Arc<OwnedFd>, Errno>> {
        let opened = self.opened.pop()?;
        self.hear();
        Some(opened)
    }

    /// The next command that was not taken.
    pub(super) fn refused(&self) -> Option<(usize, Errno)> {
        let refused = self.refused.pop()?;
        self.hear();
        Some(refused)
    }

    /// The file wakes the reactor too, or does not any more: one whose device is gone would do so for ever.
    pub(super) fn watch(&self, file: &OwnedFd, is_so: bool) {
        // It fails only where memory is short: then the answer waits for another reason to wake.
        let _ = match is_so {
            true => epoll::add(&self.either, file, EventData::new_u64(1), EventFlags::IN),
            false => epoll::delete(&self.either, file),
        };
    }

    /// Silences the bell. What rings after this finds the queue looked at once more.
    fn hear(&self) {
        let _ = rustix::io::read(&self.bell, &mut [0_u8; 8]);
    }

    pub(super) fn fd(&self) -> RawFd {
        self.either.as_raw_fd()
    }

    fn ring(&self) {
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }
}

/// What the thread is to do.
enum Request {
    Open(Arc<Link>),
    Ask { link: Arc<Link>, file: Arc<OwnedFd>, slot: usize, ask: Ask },
}

/// What waits for the thread: each channel has so much at most.
const REQUESTS_MAX: usize = REACTORS_MAX * (FLIGHTS_MAX + 1);

struct Desk {
    requests: ArrayQueue<Request>,
    is_closed: AtomicBool,
    /// The device is gone.
    is_lost: AtomicBool,
    /// It, where it was found once more.
    found_again: OnceLock<Arc<Opened>>,
}

/// The thread. It ends when the last of its users is gone.
pub(super) struct Worker {
    desk: Arc<Desk>,
    thread: Thread,
}

impl Worker {
    /// `finder` and `uuid`: by what the device is found again.
    pub(super) fn start(door: Arc<dyn Door>, finder: Finder, uuid: [u8; 16]) -> io::Result<Worker> {
        let desk = Arc::new(Desk {
            requests: ArrayQueue::new(REQUESTS_MAX),
            is_closed: AtomicBool::new(false),
            is_lost: AtomicBool::new(false),
            found_again: OnceLock::new(),
        });
        let own = Arc::clone(&desk);
        // The kernel shows 15 characters.
        let builder = std::thread::Builder::new().name(format!("sg-{}", finder.name));
        let thread = builder.spawn(move || work(&own, door, &finder, uuid))?.thread().clone();
        Ok(Worker { desk, thread })
    }

    /// The device is gone: it is looked for from now on.
    pub(super) fn lose(&self) {
        self.desk.is_lost.store(true, Ordering::Release);
        self.thread.unpark();
    }

    /// The device, where it was gone and is back.
    pub(super) fn found_again(&self) -> Option<&Arc<Opened>> {
        self.desk.found_again.get()
    }

    /// Asks for a file of the channel's own. Whether there was room to ask.
    pub(super) fn open(&self, link: &Arc<Link>) -> bool {
        self.send(Request::Open(Arc::clone(link)))
    }

    /// Has a command written. Whether there was room.
    pub(super) fn ask(&self, link: &Arc<Link>, file: &Arc<OwnedFd>, slot: usize, ask: Ask) -> bool {
        self.send(Request::Ask { link: Arc::clone(link), file: Arc::clone(file), slot, ask })
    }

    fn send(&self, request: Request) -> bool {
        let is_sent = self.desk.requests.push(request).is_ok();
        self.thread.unpark();
        is_sent
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.desk.is_closed.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Worker")
    }
}

fn work(desk: &Desk, door: Arc<dyn Door>, finder: &Finder, uuid: [u8; 16]) {
    let mut door = Some(door);
    loop {
        while let Some(request) = desk.requests.pop() {
            match request {
                Request::Open(link) => open(&link, door.as_deref()),
                Request::Ask { link, file, slot, ask } => {
                    if let Err(error) = ask.write(file.as_fd()) {
                        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                        // There is room for each slot.
                        let _ = link.refused.push((slot, errno));
                        link.ring();
                    }
                }
            }
        }
        if desk.is_closed.load(Ordering::Acquire) {
            return;
        }
        if !desk.is_lost.load(Ordering::Acquire) || desk.found_again.get().is_some() {
            std::thread::park();
            continue;
        }
        door = None;
        match finder.find(Some(uuid)) {
            Ok(opened) => drop(desk.found_again.set(Arc::new(opened))),
            // Asked for every second, and told by nobody: whoever sends a command hears that it is gone.
            Err(_) => std::thread::park_timeout(Duration::from_nanos(PROBE_NS)),
        }
    }
}

fn open(link: &Link, door: Option<&dyn Door>) {
    let opened = door.map_or(Err(Errno::NODEV), |door| {
        door.open().map(Arc::new).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    });
    // Asked for once.
    let _ = link.opened.push(opened);
    link.ring();
}
