//! One IO as a sequence of requests to the kernel. No ring and no memory here: results go in, the next request comes
//! out.
//!
//! Short transfers go on where they stopped, interrupted ones again. What the file system cannot do with `fallocate` is
//! done by writing zeroes.

use rustix::io::Errno;

use super::verdict::Ticket;
use crate::bdev::{IoError, Op};

/// Zeroes written with one request, at most: what there is memory of.
pub(super) const ZERO_WRITE_BYTES: u32 = 1024 * 1024;
/// One request of a read or write moves so much at most; a multiple of every block size.
const TRANSFER_BYTES_MAX: u64 = 1 << 30;
/// A request is made again so often after EAGAIN or EINTR before that counts as an error.
const RETRIES_MAX: u8 = 100;

/// A request to the kernel. Offsets are in bytes of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Read into the IO's memory, from `skip_bytes` of it on.
    Read { offset: u64, skip_bytes: usize, bytes: u32 },
    /// Write from the IO's memory, from `skip_bytes` of it on; if `is_durable`, with RWF_DSYNC.
    Write { offset: u64, skip_bytes: usize, bytes: u32, is_durable: bool },
    /// Write zeroes.
    Zeroes { offset: u64, bytes: u32 },
    /// `fallocate`: the range becomes a hole.
    Punch { offset: u64, bytes: u64 },
    /// `fallocate`: the range becomes zeroes and keeps its space.
    ZeroRange { offset: u64, bytes: u64 },
}

impl Step {
    /// Whether what is written is on stable storage when it comes back.
    pub(super) fn is_durable(self) -> bool {
        matches!(self, Step::Write { is_durable: true, .. })
    }
}

/// What a request's result says: bytes, or an error as a negative number.
pub(super) fn outcome(result: i32) -> Result<u32, Errno> {
    u32::try_from(result).map_err(|_| Errno::from_raw_os_error(result.max(-4095).saturating_neg()))
}

/// How an IO goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// With this request; `aside` where the kernel has already failed to do it at once.
    Ask { step: Step, aside: bool },
    /// With an fdatasync.
    Sync,
    /// Not at all.
    End(Result<(), IoError>),
}

/// How writes become durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Manner {
    /// Every write does, not only those that ask.
    pub(super) write_through: bool,
    /// Past the page cache. Then RWF_DSYNC reports each write's own failure; without, an error of the cache is told only
    /// once, to whoever syncs next, so that syncs must go through one place.
    pub(super) is_direct: bool,
}

/// An IO at work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    op: Op,
    block_bytes: u32,
    /// Where its extent begins and how long it is, in bytes.
    start: u64,
    total_bytes: u64,
    /// What has been moved. Invariant: whole blocks.
    done_bytes: u64,
    step: Option<Step>,
    /// It ends with an fdatasync.
    syncs: bool,
    /// It is counted among the disk's syncs, from its first durable request on until it ends.
    pub(super) ticket: Option<Ticket>,
    retries: u8,
}

impl Job {
    /// An IO whose extent is on the device, and what to do first.
    pub(super) fn begin(op: Op, block_bytes: u32, manner: Manner) -> (Job, Next) {
        let (lba, blocks) = op.extent().unwrap_or((0, 0));
        let is_durable = match op {
            Op::Write { fua, .. } | Op::WriteZeroes { fua, .. } => fua || manner.write_through,
            Op::Unmap { .. } => manner.write_through,
            _ => false,
        };
        let in_one = is_durable && manner.is_direct && matches!(op, Op::Write { .. });
        let mut job = Job {
            op,
            block_bytes,
            start: lba * u64::from(block_bytes),
            total_bytes: u64::from(blocks) * u64::from(block_bytes),
            done_bytes: 0,
            step: None,
            syncs: is_durable && !in_one,
            ticket: None,
            retries: 0,
        };
        let (offset, bytes) = (job.start, job.total_bytes);
        let next = match op {
            Op::Read { .. } | Op::Write { .. } => job.transfer(in_one),
            Op::Unmap { .. } | Op::WriteZeroes { may_unmap: true, .. } => {
                job.ask(Step::Punch { offset, bytes })
            }
            Op::WriteZeroes { .. } => job.ask(Step::ZeroRange { offset, bytes }),
            // A flush; the channel refuses what a file cannot do by itself.
            _ => Next::Sync,
        };
        (job, next)
    }

    fn ask(&mut self, step: Step) -> Next {
        self.step = Some(step);
        Next::Ask { step, aside: false }
    }

    /// The rest of a read or write.
    fn transfer(&mut self, is_durable: bool) -> Next {
        let offset = self.start + self.done_bytes;
        let rest = (self.total_bytes - self.done_bytes).min(TRANSFER_BYTES_MAX);
        let bytes = u32::try_from(rest).expect("at most TRANSFER_BYTES_MAX");
        let skip_bytes = usize::try_from(self.done_bytes).expect("less than the memory has");
        self.ask(match self.op {
            Op::Read { .. } => Step::Read { offset, skip_bytes, bytes },
            _ => Step::Write { offset, skip_bytes, bytes, is_durable },
        })
    }

    /// The rest of a writing of zeroes.
    fn zeroes(&mut self) -> Next {
        let offset = self.start + self.done_bytes;
        let rest = (self.total_bytes - self.done_bytes).min(u64::from(ZERO_WRITE_BYTES));
        self.ask(Step::Zeroes { offset, bytes: u32::try_from(rest).expect("at most ZERO_WRITE_BYTES") })
    }

    /// The request has come back with the kernel's `result`.
    pub(super) fn came(&mut self, result: i32) -> Next {
        let Some(step) = self.step else { return Next::End(Err(self.medium_error())) };
        match outcome(result) {
            Ok(bytes) => self.succeeded(step, bytes),
            Err(errno) => self.failed(step, errno),
        }
    }

    fn succeeded(&mut self, step: Step, bytes: u32) -> Next {
        let is_durable = match step {
            Step::Punch { .. } | Step::ZeroRange { .. } => return self.over(),
            Step::Write { is_durable, .. } => is_durable,
            Step::Read { .. } | Step::Zeroes { .. } => false,
        };
        let whole = u64::from(bytes - bytes % self.block_bytes);
        if whole == 0 {
            // The file ends here: it was cut off behind our back.
            return Next::End(Err(IoError::OutOfRange));
        }
        self.done_bytes = self.total_bytes.min(self.done_bytes + whole);
        self.retries = 0;
        if self.done_bytes == self.total_bytes {
            return self.over();
        }
        match step {
            Step::Zeroes { .. } => self.zeroes(),
            _ => self.transfer(is_durable),
        }
    }

    fn failed(&mut self, step: Step, errno: Errno) -> Next {
        match (errno, step) {
            (Errno::AGAIN | Errno::INTR, _) if self.retries < RETRIES_MAX => {
                self.retries += 1;
                Next::Ask { step, aside: true }
            }
            // Not this file system, or not at this alignment.
            (Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS, Step::Punch { .. } | Step::ZeroRange { .. }) => {
                self.zeroes()
            }
            _ => Next::End(Err(self.error(errno))),
        }
    }

    /// The medium holds what it should; perhaps not for good yet.
    fn over(&self) -> Next {
        if self.syncs { Next::Sync } else { Next::End(Ok(())) }
    }

    /// Whether a failure may be one of making durable, after which nothing written before can be relied on.
    pub(super) fn is_failed_sync(&self, error: IoError) -> bool {
        self.step.is_some_and(Step::is_durable) && matches!(error, IoError::Medium { .. })
    }

    fn medium_error(&self) -> IoError {
        IoError::Medium { lba: Some((self.start + self.done_bytes) / u64::from(self.block_bytes)) }
    }

    fn error(&self, errno: Errno) -> IoError {
        match errno {
            // EFBIG: a limit of the process or of the file system, where the file is sparse.
            Errno::NOSPC | Errno::DQUOT | Errno::FBIG => IoError::NoSpace,
            Errno::ROFS | Errno::PERM | Errno::ACCESS => IoError::ReadOnly,
            Errno::NXIO | Errno::NODEV | Errno::BADF | Errno::STALE => IoError::Gone,
            Errno::CANCELED => IoError::Cancelled,
            _ => self.medium_error(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACK: Manner = Manner { write_through: false, is_direct: true };
    const THROUGH: Manner = Manner { write_through: true, is_direct: true };
    const BUFFERED: Manner = Manner { write_through: false, is_direct: false };
    const EIO: i32 = -5;
    const EINTR: i32 = -4;
    const EAGAIN: i32 = -11;
    const EOPNOTSUPP: i32 = -95;

    fn ask(step: Step) -> Next {
        Next::Ask { step, aside: false }
    }

    fn write(offset: u64, skip_bytes: usize, bytes: u32, is_durable: bool) -> Next {
        ask(Step::Write { offset, skip_bytes, bytes, is_durable })
    }

    #[test]
    fn short_transfers_go_on_in_whole_blocks() {
        let (mut job, next) = Job::begin(Op::Read { lba: 2, blocks: 8 }, 512, BACK);
        assert_eq!(next, ask(Step::Read { offset: 1024, skip_bytes: 0, bytes: 4096 }));
        assert_eq!(job.came(1000), ask(Step::Read { offset: 1536, skip_bytes: 512, bytes: 3584 }));
        assert_eq!(job.came(EIO), Next::End(Err(IoError::Medium { lba: Some(3) })));
        let (mut job, next) = Job::begin(Op::Write { lba: 0, blocks: 2, fua: true }, 4096, BACK);
        assert_eq!(next, write(0, 0, 8192, true));
        assert_eq!(job.came(4096), write(4096, 4096, 4096, true));
        assert_eq!(job.came(4096), Next::End(Ok(())));
    }

    #[test]
    fn a_file_that_ends_early_is_out_of_range() {
        for bytes in [0, 511] {
            let (mut job, _) = Job::begin(Op::Read { lba: 0, blocks: 1 }, 512, BACK);
            assert_eq!(job.came(bytes), Next::End(Err(IoError::OutOfRange)));
        }
    }

    #[test]
    fn interrupted_requests_are_made_again_but_not_for_ever() {
        let (mut job, _) = Job::begin(Op::Read { lba: 0, blocks: 1 }, 512, BACK);
        let again = Next::Ask { step: Step::Read { offset: 0, skip_bytes: 0, bytes: 512 }, aside: true };
        for _ in 0..RETRIES_MAX / 2 {
            assert_eq!((job.came(EAGAIN), job.came(EINTR)), (again, again));
        }
        assert_eq!(job.came(EAGAIN), Next::End(Err(IoError::Medium { lba: Some(0) })));
    }

    #[test]
    fn durable_is_dsync_past_the_cache_and_a_sync_through_it() {
        let fua = Op::Write { lba: 0, blocks: 1, fua: true };
        let plain = Op::Write { lba: 0, blocks: 1, fua: false };
        for (op, manner, is_dsync, then) in [
            (plain, BACK, false, Next::End(Ok(()))),
            (fua, BACK, true, Next::End(Ok(()))),
            (plain, THROUGH, true, Next::End(Ok(()))),
            (plain, BUFFERED, false, Next::End(Ok(()))),
            (fua, BUFFERED, false, Next::Sync),
            (plain, Manner { is_direct: false, ..THROUGH }, false, Next::Sync),
        ] {
            let (mut job, next) = Job::begin(op, 512, manner);
            assert_eq!(next, write(0, 0, 512, is_dsync));
            assert_eq!(job.came(512), then);
            assert_eq!(job.is_failed_sync(IoError::Medium { lba: None }), is_dsync);
            assert!(!job.is_failed_sync(IoError::NoSpace));
        }
        assert_eq!(Job::begin(Op::Flush, 512, BACK).1, Next::Sync);
    }

    #[test]
    fn zeroes_are_a_hole_where_allowed_and_written_where_the_file_system_cannot() {
        let zero = |fua, may_unmap| Op::WriteZeroes { lba: 8, blocks: 4096, fua, may_unmap };
        let (mut job, next) = Job::begin(zero(false, true), 512, BACK);
        assert_eq!(next, ask(Step::Punch { offset: 4096, bytes: 2 << 20 }));
        assert_eq!(job.came(0), Next::End(Ok(())));
        let (mut job, next) = Job::begin(zero(true, false), 512, BACK);
        assert_eq!(next, ask(Step::ZeroRange { offset: 4096, bytes: 2 << 20 }));
        assert_eq!(job.came(EOPNOTSUPP), ask(Step::Zeroes { offset: 4096, bytes: 1 << 20 }));
        assert_eq!(job.came(1 << 19), ask(Step::Zeroes { offset: 4096 + (1 << 19), bytes: 1 << 20 }));
        assert_eq!(job.came(1 << 20), ask(Step::Zeroes { offset: 4096 + (3 << 19), bytes: 1 << 19 }));
        assert_eq!(job.came(1 << 19), Next::Sync);
    }

    #[test]
    fn what_cannot_be_reserved_for_want_of_space_is_told_so() {
        let anchor = Op::WriteZeroes { lba: 8, blocks: 4096, fua: false, may_unmap: false };
        for (manner, then) in [(BACK, Next::End(Ok(()))), (THROUGH, Next::Sync)] {
            let (mut job, next) = Job::begin(anchor, 512, manner);
            assert_eq!(next, ask(Step::ZeroRange { offset: 4096, bytes: 2 << 20 }));
            assert_eq!(job.came(0), then);
        }
        let (mut job, _) = Job::begin(anchor, 512, BACK);
        assert_eq!(job.came(-28), Next::End(Err(IoError::NoSpace)));
    }

    #[test]
    fn unmap_is_durable_only_in_write_through() {
        let unmap = Op::Unmap { lba: 1, blocks: 2 };
        for (manner, then) in [(BACK, Next::End(Ok(()))), (THROUGH, Next::Sync)] {
            let (mut job, next) = Job::begin(unmap, 4096, manner);
            assert_eq!(next, ask(Step::Punch { offset: 4096, bytes: 8192 }));
            assert_eq!(job.came(0), then);
        }
    }

    #[test]
    fn errors_have_names() {
        for (errno, error) in [
            (28, IoError::NoSpace),
            (122, IoError::NoSpace),
            (27, IoError::NoSpace),
            (30, IoError::ReadOnly),
            (1, IoError::ReadOnly),
            (6, IoError::Gone),
            (19, IoError::Gone),
            (9, IoError::Gone),
            (125, IoError::Cancelled),
            (5, IoError::Medium { lba: Some(7) }),
            (61, IoError::Medium { lba: Some(7) }),
        ] {
            let (mut job, _) = Job::begin(Op::Write { lba: 7, blocks: 1, fua: false }, 512, BACK);
            assert_eq!(job.came(-errno), Next::End(Err(error)), "errno {errno}");
        }
    }
}
