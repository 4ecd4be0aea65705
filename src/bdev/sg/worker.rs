//! The one thread of a passed-through device, which makes the calls that may sleep: to open it once more, and to give it commands,
//! for which the kernel may have no room while others use the host adapter.
//!
//! Who asks waits for nothing: answers are read from the file by whoever asked, and what the driver did not take comes
//! back through a bounded queue with a descriptor that wakes its reactor.
//!
//! Of a device that is gone it lets go of its own file, and looks for it: until all have let go, the kernel gives the device's number
//! to no other, and so not to the same that is plugged in again either. How often it was found is counted: whoever has a file of
//! an earlier round asks for another.
#![expect(clippy::disallowed_methods, reason = "a helper thread, which waits for work")]
#![expect(
    clippy::disallowed_types,
    reason = "control and the helper thread share what is known of the device; no reactor does"
)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

use super::slots::Ask;
use super::{FLIGHTS_MAX, Finder, Found, Opened};
use crate::limits::{PROBE_NS, REACTORS_MAX};

/// Opens the device: for the first time, or the very same once more for a channel.
pub(super) trait Door: Send + Sync {
    /// A file of its own, which does not block where it is read.
    fn open(&self) -> io::Result<OwnedFd>;
}

/// A file of a channel's own, and the device behind it.
pub(super) type Entrance = (Arc<Opened>, Arc<OwnedFd>);

/// What a channel and the thread share, for as long as the channel is there.
pub(super) struct Link {
    /// The file, once it is open, or why it could not be.
    opened: ArrayQueue<Result<Entrance, Errno>>,
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

    /// What was asked for by [`Worker::open`]. All commands that were sent before that have been written, or are among the refused.
    pub(super) fn opened(&self) -> Option<Result<Entrance, Errno>> {
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

    /// The file wakes the reactor too, each time something comes: one whose device is gone is ready for ever, so it is not asked
    /// whether it is. Whether there was memory for that.
    pub(super) fn watch(&self, file: &OwnedFd) -> bool {
        epoll::add(&self.either, file, EventData::new_u64(FILE), EventFlags::IN | EventFlags::ET).is_ok()
    }

    /// The file wakes nobody any more.
    pub(super) fn unwatch(&self, file: &OwnedFd) {
        // It is watched.
        let _ = epoll::delete(&self.either, file);
    }

    /// Whether something has come to the file that is watched since this was asked last.
    pub(super) fn has_come(&self) -> bool {
        let mut events = [MaybeUninit::uninit(); 2];
        // Who cannot know looks.
        epoll::wait(&self.either, &mut events, Some(&Timespec::default()))
            .map_or(true, |(events, _)| events.iter().any(|event| event.data.u64() == FILE))
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

/// What names the file among what makes [`Link::fd`] readable.
const FILE: u64 = 1;

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
    /// How often it was found.
    round: AtomicU64,
    /// The last round that was lost: it is gone where that is the last of all.
    lost: AtomicU64,
    /// The device as it was found last.
    latest: Mutex<Arc<Opened>>,
}

impl Desk {
    fn latest(&self) -> MutexGuard<'_, Arc<Opened>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_lost(&self, round: u64) -> bool {
        self.lost.load(Ordering::Acquire) >= round
    }
}

/// The thread. It ends when the last of its users is gone.
pub(super) struct Worker {
    desk: Arc<Desk>,
    thread: Thread,
}

impl Worker {
    /// For a device that was found first, as `finder` finds it again.
    pub(super) fn start(found: Found, finder: Finder) -> io::Result<Worker> {
        let Found { door, about, part_bytes_max } = found;
        let uuid = about.uuid;
        let desk = Arc::new(Desk {
            requests: ArrayQueue::new(REQUESTS_MAX),
            is_closed: AtomicBool::new(false),
            round: AtomicU64::new(1),
            lost: AtomicU64::new(0),
            latest: Mutex::new(Arc::new(Opened { round: 1, about, part_bytes_max })),
        });
        let own = Arc::clone(&desk);
        // The kernel shows 15 characters.
        let builder = std::thread::Builder::new().name(format!("sg-{}", finder.name));
        let thread = builder.spawn(move || work(&own, door, &finder, uuid))?.thread().clone();
        Ok(Worker { desk, thread })
    }

    /// The device is gone, of which somebody has a file of this round: it is looked for from now on.
    pub(super) fn lose(&self, round: u64) {
        self.desk.lost.fetch_max(round, Ordering::AcqRel);
        self.thread.unpark();
    }

    /// Whether somebody has lost the device of this round.
    pub(super) fn is_lost(&self, round: u64) -> bool {
        self.desk.is_lost(round)
    }

    /// How often it was found.
    pub(super) fn round(&self) -> u64 {
        self.desk.round.load(Ordering::Acquire)
    }

    /// The device as it was found last: not for reactors.
    pub(super) fn latest(&self) -> Arc<Opened> {
        Arc::clone(&self.desk.latest())
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
                Request::Open(link) => open(&link, door.as_deref(), desk),
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
        let round = desk.round.load(Ordering::Acquire);
        if !desk.is_lost(round) {
            std::thread::park();
            continue;
        }
        door = None;
        match finder.find(Some(uuid)) {
            Ok(Found { door: found, about, part_bytes_max }) => {
                door = Some(found);
                let round = round + 1;
                *desk.latest() = Arc::new(Opened { round, about, part_bytes_max });
                desk.round.store(round, Ordering::Release);
            }
            // Asked for every second, and told by nobody: whoever sends a command hears that it is gone.
            Err(_) => std::thread::park_timeout(Duration::from_nanos(PROBE_NS)),
        }
    }
}

fn open(link: &Link, door: Option<&dyn Door>, desk: &Desk) {
    let opened = door.map_or(Err(Errno::NODEV), |door| {
        let file = door.open().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok((Arc::clone(&desk.latest()), Arc::new(file)))
    });
    // Asked for once.
    let _ = link.opened.push(opened);
    link.ring();
}
