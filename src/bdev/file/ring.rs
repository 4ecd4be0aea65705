//! An io_uring that owns the memory of what it has in the kernel.
//!
//! An island of `unsafe`. A request names memory by its address; that memory is the flight's own, which stays here
//! until the kernel has given the request back, or the medium's page of zeroes, which outlives the ring. Where a
//! request never comes back, its memory is leaked rather than used again.
#![expect(unsafe_code, reason = "hands memory to the kernel until the request comes back")]

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use io_uring::types::{Fixed, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};

use super::job::{Job, Step, ZERO_WRITE_BYTES};
use super::open::Medium;
use crate::bdev::Io;
use crate::slab::{Key, Slab};

/// IOs in flight on one channel.
pub(super) const FLIGHTS_MAX: u32 = 128;
/// Each flight has one request at most, and there is one sync; the rest is for cancels.
const ENTRIES: u32 = 256;
const CANCELS_MAX: usize = (ENTRIES - FLIGHTS_MAX - 1) as usize;
/// Kernel threads that the rings of one reactor may make for what blocks. All of its disks share them: one that hangs
/// must not use them up.
const WORKERS_MAX: u32 = 1024;
/// A ring that is dropped waits so often a second in vain for what is in the kernel.
const LAST_WAITS: u32 = 2;

/// What comes back from a sync, and from a cancel; no flight has such a key.
const SYNC: u64 = u64::MAX;
const CANCEL: u64 = u64::MAX - 1;

/// Something the kernel has given back, with its result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Came {
    /// A flight's request.
    Flight(Key, i32),
    /// The sync.
    Sync(i32),
}

struct Flight {
    io: Io,
    job: Job,
    /// Invariant: while this is set the kernel may touch the memory of `io`, and nobody else does.
    in_kernel: bool,
}

/// A ring, and what flies in it.
pub(super) struct Ring {
    /// First, so that it is dropped before the memory it may still use.
    uring: IoUring,
    flights: Slab<Flight>,
    /// None between two media.
    medium: Option<Arc<Medium>>,
    /// Requests that the kernel has not been told of.
    unsubmitted: usize,
    cancels: usize,
    /// What is in the kernel, or will be once it is told.
    in_kernel: u32,
    /// Calls of `io_uring_enter`.
    #[cfg(test)]
    pub(super) enters: u64,
}

impl Ring {
    /// A ring for requests to `medium`, for the thread that makes it.
    pub(super) fn new(medium: Arc<Medium>) -> io::Result<Ring> {
        let uring = build(ENTRIES)?;
        uring.submitter().register_files(&[medium.fd.as_raw_fd()])?;
        let medium = Some(medium);
        // Kernels before 5.15 do not know this, and make fewer threads.
        let _ = uring.submitter().register_iowq_max_workers(&mut [WORKERS_MAX, 0]);
        let flights = Slab::new(FLIGHTS_MAX);
        Ok(Ring {
            uring,
            flights,
            medium,
            unsubmitted: 0,
            cancels: 0,
            in_kernel: 0,
            #[cfg(test)]
            enters: 0,
        })
    }

    /// Lets go of the medium. The ring stays, and with it the descriptor that a reactor waits for.
    ///
    /// # Panics
    /// Where anything is in flight.
    pub(super) fn detach(&mut self) {
        assert!(self.flights.is_empty(), "requests name the medium");
        self.medium = None;
        // Where it fails, the file is open for longer than need be.
        let _ = self.uring.submitter().register_files_update(0, &[-1]);
    }

    /// Requests are for `medium` from now on.
    pub(super) fn attach(&mut self, medium: Arc<Medium>) -> io::Result<()> {
        self.uring.submitter().register_files_update(0, &[medium.fd.as_raw_fd()])?;
        self.medium = Some(medium);
        Ok(())
    }

    /// It is readable when something has come back.
    pub(super) fn fd(&self) -> RawFd {
        self.uring.as_raw_fd()
    }

    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.flights.len()).expect("at most FLIGHTS_MAX")
    }

    pub(super) fn has_unsubmitted(&self) -> bool {
        self.unsubmitted > 0
    }

    /// Whether the kernel has been told of less than it has not been told of: then it may run out of work before the rest is there.
    pub(super) fn is_running_dry(&self) -> bool {
        2 * self.unsubmitted > self.in_kernel as usize
    }

    /// Takes an IO; nothing happens to it yet. It comes back where there is no room.
    pub(super) fn insert(&mut self, io: Io, job: Job) -> Result<Key, Io> {
        self.flights.insert(Flight { io, job, in_kernel: false }).map_err(|flight| flight.io)
    }

    /// Gives an IO back.
    ///
    /// # Panics
    /// Where a request of it is in the kernel.
    pub(super) fn remove(&mut self, key: Key) -> Option<Io> {
        let flight = self.flights.remove(key)?;
        assert!(!flight.in_kernel, "its memory is the kernel's");
        Some(flight.io)
    }

    pub(super) fn job(&mut self, key: Key) -> Option<&mut Job> {
        Some(&mut self.flights.get_mut(key)?.job)
    }

    /// Makes a request for a flight that has none in the kernel; `aside` tells the kernel not to try it at once.
    ///
    /// # Panics
    /// Where the flight has one, or less memory than the request is about.
    pub(super) fn ask(&mut self, key: Key, step: Step, aside: bool) {
        let Some(flight) = self.flights.get_mut(key) else { return };
        assert!(!flight.in_kernel, "one request at a time");
        let entry = match step {
            Step::Read { offset, skip_bytes, bytes } => {
                let to = memory(&mut flight.io, skip_bytes, bytes).as_mut_ptr();
                opcode::Read::new(Fixed(0), to, bytes).offset(offset).build()
            }
            Step::Write { offset, skip_bytes, bytes, is_durable } => {
                let from = memory(&mut flight.io, skip_bytes, bytes).as_ptr();
                let flags = if is_durable { libc::RWF_DSYNC } else { 0 };
                opcode::Write::new(Fixed(0), from, bytes).offset(offset).rw_flags(flags).build()
            }
            Step::Zeroes { offset, bytes } => {
                assert!(bytes <= ZERO_WRITE_BYTES, "there are only so many zeroes");
                let zeroes = &self.medium.as_ref().expect("flights have a medium").zeroes;
                let from = zeroes.base().as_ptr();
                opcode::Write::new(Fixed(0), from, bytes).offset(offset).build()
            }
            Step::Punch { offset, bytes } => {
                let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                opcode::Fallocate::new(Fixed(0), bytes).offset(offset).mode(mode).build()
            }
            Step::ZeroRange { offset, bytes } => {
                let mode = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
                opcode::Fallocate::new(Fixed(0), bytes).offset(offset).mode(mode).build()
            }
        };
        flight.in_kernel = true;
        let flags = if aside { squeue::Flags::ASYNC } else { squeue::Flags::empty() };
        self.push(entry.flags(flags).user_data(key.to_u64()));
        self.in_kernel += 1;
    }

    /// Asks for an fdatasync. There must be none in the kernel.
    pub(super) fn ask_sync(&mut self) {
        self.push(opcode::Fsync::new(Fixed(0)).flags(FsyncFlags::DATASYNC).build().user_data(SYNC));
        self.in_kernel += 1;
    }

    /// Asks the kernel to give up what it has not begun of the IO with this tag.
    pub(super) fn cancel(&mut self, tag: Key) {
        let found = self.flights.iter().find(|(_, flight)| flight.io.tag == tag && flight.in_kernel);
        if let Some((key, _)) = found
            && self.cancels < CANCELS_MAX
        {
            self.cancels += 1;
            self.push(opcode::AsyncCancel::new(key.to_u64()).build().user_data(CANCEL));
        }
    }

    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: the memory that the request names is valid until it comes back: `flights` keeps that of flights and
        // lets nobody else at it (`in_kernel`), `medium` the zeroes, and dropping the ring waits, or leaks both.
        let pushed = unsafe { self.uring.submission().push(&entry) };
        pushed.expect("a request per flight, one sync and CANCELS_MAX fit the ring");
        self.unsubmitted += 1;
    }

    /// Whether the kernel has completions that it hands over at the next [`Ring::submit`] only.
    pub(super) fn is_owed(&mut self) -> bool {
        let queue = self.uring.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    /// Tells the kernel of what was asked for, and lets it hand over what it kept.
    pub(super) fn submit(&mut self) {
        #[cfg(test)]
        {
            self.enters += 1;
        }
        // It fails when the kernel is short of memory or was interrupted: the next turn tries again.
        if let Ok(count) = self.uring.submit() {
            self.unsubmitted = self.unsubmitted.saturating_sub(count);
        }
    }

    /// The next thing that has come back.
    pub(super) fn came(&mut self) -> Option<Came> {
        loop {
            let entry = self.uring.completion().next()?;
            let (name, result) = (entry.user_data(), entry.result());
            if name == CANCEL {
                self.cancels -= 1;
                continue;
            }
            self.in_kernel -= 1;
            if name == SYNC {
                return Some(Came::Sync(result));
            }
            let key = Key::from_u64(name);
            let flight = self.flights.get_mut(key).expect("a flight stays until its request is back");
            flight.in_kernel = false;
            return Some(Came::Flight(key, result));
        }
    }
}

impl Drop for Ring {
    /// Reactors drop a ring when nothing flies in it, but at the end of the process. Then a hung device must not keep
    /// it for ever.
    fn drop(&mut self) {
        let second = Timespec::new().sec(1);
        let mut failures = 0;
        while failures < LAST_WAITS {
            while self.came().is_some() {}
            if self.in_kernel == 0 {
                // Else the file would stay open, and locked, until the kernel has found the time to take the ring down.
                let _ = self.uring.submitter().unregister_files();
                return;
            }
            let args = SubmitArgs::new().timespec(&second);
            if self.uring.submitter().submit_with_args(self.in_kernel as usize, &args).is_err() {
                failures += 1;
            }
        }
        while self.came().is_some() {}
        if self.in_kernel > 0 {
            std::mem::forget(std::mem::replace(&mut self.flights, Slab::new(0)));
            std::mem::forget(self.medium.clone());
        }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ring({} of {} flights)", self.flights.len(), self.flights.capacity())
    }
}

/// The part of an IO's memory that a request is about.
fn memory(io: &mut Io, skip_bytes: usize, bytes: u32) -> &mut [u8] {
    let data = io.data.as_mut().expect("a read or write comes with memory");
    &mut data[skip_bytes..skip_bytes + bytes as usize]
}

/// A ring whose completions wait for the thread's next way out of the kernel instead of interrupting it (COOP_TASKRUN), where
/// the kernel can (5.19), else an ordinary one.
///
/// That suits a reactor, which makes a system call in every turn, be it a look at its sockets that does not wait: completions are
/// in the ring after it, at no cost, and a reactor that waits is woken by the descriptor. DEFER_TASKRUN hands nothing
/// over without a call of `io_uring_enter` that asks for it, per ring: measured 0.09 to 0.14 calls per IO at queue depth 32, against
/// 0.03 to 0.12, and no more IO. An ordinary ring interrupts the thread, wherever it is, for each batch.
pub(super) fn build(entries: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_coop_taskrun().setup_taskrun_flag();
    let uring = builder.build(entries).or_else(|_| IoUring::new(entries))?;
    if !uring.params().is_feature_ext_arg() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "Linux 5.11 or later is needed"));
    }
    Ok(uring)
}
