//! What the channels of a mirror and its warden have in common: words that one writes and others read.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, mpsc};
use std::thread::Thread;

use super::plan::{MEMBERS_MAX, Plan, Set};
use super::regions::Regions;
use crate::bdev::{Bdev, Info, Op};

/// What is copied at once, at most.
pub(super) const PIECE_BYTES: u32 = 256 * 1024;

/// What the array is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    pub(super) blocks: u64,
    pub(super) block_bytes: u32,
    /// Of the window that is copied while what would change it waits.
    pub(super) window_bytes: u32,
}

impl Shape {
    pub(super) fn window_blocks(self) -> u64 {
        u64::from((self.window_bytes / self.block_bytes.max(512)).max(1))
    }

    /// What is copied at once: at most a window, and at most what a buffer holds.
    pub(super) fn piece_blocks(self) -> u64 {
        (u64::from(PIECE_BYTES) / u64::from(self.block_bytes.max(512))).min(self.window_blocks())
    }

    pub(super) fn windows(self) -> u64 {
        self.blocks.div_ceil(self.window_blocks())
    }

    /// Whether an operation touches this window; a flush touches none.
    pub(super) fn overlaps(self, op: Op, window: u64) -> bool {
        let Some((lba, blocks)) = op.extent() else { return false };
        let (first, end) = (window * self.window_blocks(), (window + 1) * self.window_blocks());
        lba < end && lba.saturating_add(blocks.into()) > first
    }

    /// Whether a member has room for it, and blocks of its size.
    pub(super) fn fits(self, info: &Info) -> bool {
        info.blocks >= self.blocks && info.block_bytes == self.block_bytes
    }
}

/// Where a member is, or none.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// Counts who was there.
    pub(super) version: AtomicU64,
    #[expect(clippy::disallowed_types, reason = "held for assignments; a reactor asks once for each member")]
    bdev: std::sync::Mutex<Option<Arc<dyn Bdev>>>,
}

impl Place {
    pub(super) fn bdev(&self) -> Option<Arc<dyn Bdev>> {
        self.bdev.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// To be called while its member is out, and every channel knows. Gives back who was there.
    pub(super) fn put(&self, bdev: Option<Arc<dyn Bdev>>) -> Option<Arc<dyn Bdev>> {
        let former = std::mem::replace(&mut *self.bdev.lock().unwrap_or_else(PoisonError::into_inner), bdev);
        self.version.fetch_add(1, Ordering::SeqCst);
        former
    }
}

/// What a channel says of itself. It alone writes this.
#[derive(Debug, Default)]
pub(super) struct Seat {
    /// Whose it is, where regions are concerned.
    pub(super) number: u32,
    /// Changes that it has begun and not ended.
    pub(super) active: AtomicU32,
    /// All of those have begun under the plan of this epoch, or a later one.
    pub(super) acked: AtomicU64,
    /// Counts changes.
    pub(super) changes: AtomicU64,
    /// It is closed. One with changes in a device stays for ever, as nobody will hear of them.
    pub(super) is_closed: AtomicBool,
}

/// What an operator wants of the warden, and how it is told what came of that.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) what: What,
    pub(super) told: mpsc::SyncSender<Result<(), String>>,
}

/// What an operator wants.
#[derive(Debug)]
pub(super) enum What {
    /// A member is taken out and stays out.
    Remove(usize),
    /// A member that is out is filled again.
    Add(usize),
    /// A member may lack what it has done: it is out, and filled when it is due.
    Doubt(usize),
    /// It is due, unless it was to stay out.
    Again(usize),
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) name: String,
    plan: AtomicU64,
    /// Counts plans: it is not used up, so that two that say the same are never taken for one.
    epoch: AtomicU64,
    /// Counts readers.
    terms: AtomicU64,
    /// Set when it can be served.
    pub(super) shape: OnceLock<Shape>,
    pub(super) places: Vec<Place>,
    pub(super) regions: Regions,
    /// Counts channels.
    seated: AtomicU32,
    #[expect(clippy::disallowed_types, reason = "a reactor takes it when a channel is opened")]
    seats: std::sync::Mutex<Vec<Arc<Seat>>>,
    /// Members that failed, the reports of that, and up to which of those it was decided.
    failed: AtomicU8,
    reports: AtomicU64,
    judged: AtomicU64,
    /// Somebody wants to change blocks, and the plan is not dirty.
    is_change_wanted: AtomicBool,
    /// Somebody was told that it can be used.
    pub(super) is_told: AtomicBool,
    /// The array is gone: the warden is to end.
    is_over: AtomicBool,
    /// The warden has ended, and nothing of it is in a device.
    pub(super) is_ended: AtomicBool,
    pub(super) thread: OnceLock<Thread>,
    /// How many blocks of the member that is being filled are done.
    pub(super) filled_blocks: AtomicU64,
    #[expect(clippy::disallowed_types, reason = "the warden's and control's")]
    why: std::sync::Mutex<String>,
    #[expect(clippy::disallowed_types, reason = "the warden's and those of operators")]
    orders: std::sync::Mutex<Vec<Order>>,
}

impl Shared {
    pub(super) fn new(name: String, members: Vec<Arc<dyn Bdev>>) -> Shared {
        let place = |bdev| {
            let place = Place::default();
            place.put(Some(bdev));
            place
        };
        Shared {
            name,
            plan: AtomicU64::new(Plan::EMPTY.0),
            epoch: AtomicU64::new(0),
            terms: AtomicU64::new(0),
            shape: OnceLock::new(),
            places: members.into_iter().take(MEMBERS_MAX).map(place).collect(),
            regions: Regions::new(),
            seated: AtomicU32::new(0),
            seats: Vec::new().into(),
            failed: AtomicU8::new(0),
            reports: AtomicU64::new(0),
            judged: AtomicU64::new(0),
            is_change_wanted: AtomicBool::new(false),
            is_told: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            is_ended: AtomicBool::new(false),
            thread: OnceLock::new(),
            filled_blocks: AtomicU64::new(0),
            why: "its members are not there yet".to_owned().into(),
            orders: Vec::new().into(),
        }
    }

    pub(super) fn plan(&self) -> Plan {
        Plan(self.plan.load(Ordering::SeqCst))
    }

    /// Counts readers. What a member has read counts only if it was the reader all the time: one that is not is written first, or not at
    /// all. To be asked for before the plan.
    pub(super) fn term(&self) -> u64 {
        self.terms.load(Ordering::SeqCst)
    }

    /// Counts plans. Who asks for it before the plan has one of that epoch, or a later one.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// The warden's. The epoch of the plan.
    pub(super) fn publish(&self, plan: Plan) -> u64 {
        if plan.reader() != self.plan().reader() {
            self.terms.fetch_add(1, Ordering::SeqCst);
        }
        self.plan.store(plan.0, Ordering::SeqCst);
        self.epoch.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// A place for a channel.
    pub(super) fn sit(&self) -> Arc<Seat> {
        let number = self.seated.fetch_add(1, Ordering::Relaxed);
        let seat = Arc::new(Seat { number, ..Seat::default() });
        self.seats.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&seat));
        seat
    }

    /// Whether all changes that were begun under a plan before that of this epoch have ended, in all channels.
    ///
    /// A channel says that it is active before it looks at the plan; here the plan was published before it is asked whether it is.
    /// So one that is not active sees this plan before it begins anything.
    pub(super) fn is_everywhere(&self, epoch: u64) -> bool {
        self.is_each_seat(|seat| seat.acked.load(Ordering::SeqCst) >= epoch)
    }

    /// Whether no channel has changes at work.
    pub(super) fn is_quiet(&self) -> bool {
        self.is_each_seat(|_| false)
    }

    /// Whether this is so of all channels that have changes at work.
    fn is_each_seat(&self, is_so: impl Fn(&Seat) -> bool) -> bool {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.retain(|seat| !seat.is_closed.load(Ordering::SeqCst) || seat.active.load(Ordering::SeqCst) > 0);
        seats.iter().all(|seat| seat.active.load(Ordering::SeqCst) == 0 || is_so(seat))
    }

    /// Counts changes of all channels that are open.
    pub(super) fn changes(&self) -> (usize, u64) {
        let seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = seats.iter().map(|seat| seat.changes.load(Ordering::Relaxed));
        (seats.len(), counts.fold(0, u64::wrapping_add))
    }

    /// Members have failed. It is decided when [`Shared::is_judged`].
    pub(super) fn report(&self, members: Set) -> u64 {
        self.failed.fetch_or(members.0, Ordering::SeqCst);
        let ticket = self.reports.fetch_add(1, Ordering::SeqCst) + 1;
        self.call();
        ticket
    }

    pub(super) fn is_judged(&self, ticket: u64) -> bool {
        self.judged.load(Ordering::SeqCst) >= ticket
    }

    /// The warden's: up to which report, and the members of those and perhaps of later ones.
    pub(super) fn take_reports(&self) -> (u64, Set) {
        let seen = self.reports.load(Ordering::SeqCst);
        (seen, Set(self.failed.swap(0, Ordering::SeqCst)))
    }

    /// The warden's.
    pub(super) fn judge(&self, seen: u64) {
        self.judged.store(seen, Ordering::SeqCst);
    }

    pub(super) fn want_change(&self) {
        if !self.is_change_wanted.swap(true, Ordering::SeqCst) {
            self.call();
        }
    }

    pub(super) fn is_change_wanted(&self) -> bool {
        self.is_change_wanted.load(Ordering::SeqCst)
    }

    /// The warden's, after it has published a dirty plan.
    pub(super) fn change_may_begin(&self) {
        self.is_change_wanted.store(false, Ordering::SeqCst);
    }

    /// The array is gone: nobody decides any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Says so.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.call();
    }

    /// Nobody watches over it: its members may be closed, and another one may have them.
    pub(super) fn let_go(&self) {
        // Whoever keeps a handle keeps no member open.
        self.places.iter().for_each(|place| drop(place.put(None)));
        self.is_ended.store(true, Ordering::SeqCst);
    }

    /// Wakes the warden, where it has a thread.
    pub(super) fn call(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Why it cannot be served.
    pub(super) fn why(&self) -> String {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn say_why(&self, why: String) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    pub(super) fn order(&self, order: Order) {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).push(order);
        self.call();
    }

    #[cfg(test)]
    pub(super) fn order_count(&self) -> usize {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(super) fn take_orders(&self) -> Vec<Order> {
        std::mem::take(&mut *self.orders.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
