//! A drive: a bdev whose medium is another bdev, which can be changed for another one while the drive is served.
//!
//! Control takes a drive's medium out before it is changed, so that nothing is in it. A channel goes on to the new medium at its
//! next use, when nothing of the old one is left in it; the old medium is closed by whoever changes it next, never by a
//! reactor.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use super::{Bdev, Channel, ChannelState, Done, Fence, Info, Io, Offloads, Refused, Wake};
use crate::id::ReactorId;
use crate::slab::Key;
use crate::time::Tick;

/// Block size of a CD or DVD.
pub const CD_BLOCK_BYTES: u32 = 2048;

/// What a drive is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recipe {
    /// The operator's name for it.
    pub name: String,
    /// What names the drive to initiators, whatever is in it.
    pub uuid: [u8; 16],
    /// Block size of what it takes.
    pub block_bytes: u32,
}

/// A drive for media that are read only.
#[derive(Debug)]
pub struct Drive(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    recipe: Recipe,
    #[expect(clippy::disallowed_types, reason = "held for assignments; a reactor asks once for each medium")]
    slot: std::sync::Mutex<Slot>,
    /// Counts the media.
    number: AtomicU64,
}

#[derive(Debug, Default)]
struct Slot {
    medium: Option<Arc<dyn Bdev>>,
    /// Former media, while a channel is still open to them.
    former: Vec<Arc<dyn Bdev>>,
}

impl Drive {
    /// With this medium in it, or empty.
    pub fn new(recipe: Recipe, medium: Option<Arc<dyn Bdev>>) -> Drive {
        let slot = Slot { medium, former: Vec::new() }.into();
        Drive(Arc::new(Shared { recipe, slot, number: AtomicU64::new(0) }))
    }
}

impl Shared {
    fn slot(&self) -> std::sync::MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bdev for Drive {
    fn info(&self) -> Info {
        let Recipe { name, uuid, block_bytes } = self.0.recipe.clone();
        let medium = self.0.slot().medium.clone().map(|medium| medium.info());
        // A disc of other blocks is none.
        let medium = medium.filter(|medium| medium.block_bytes == block_bytes);
        Info {
            name,
            blocks: medium.as_ref().map_or(0, |medium| medium.blocks),
            block_bytes,
            physical_block_bytes: block_bytes,
            read_only: true,
            write_cache: false,
            rotational: true,
            uuid,
            unmap: medium.as_ref().and_then(|medium| medium.unmap),
            offloads: medium.map_or(Offloads::default(), |medium| medium.offloads.not_erasing()),
            protection: None,
            passes: None,
        }
    }

    /// A medium that was put in and has not been found yet.
    fn is_awaited(&self) -> bool {
        self.0.slot().medium.as_ref().is_some_and(|medium| medium.is_awaited())
    }

    fn probe(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let medium = self.0.slot().medium.clone();
        medium.map_or(Ok(()), |medium| medium.probe())
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        let mut channel = DriveChannel { drive: Arc::clone(&self.0), reactor, number: u64::MAX, inner: None };
        channel.follow();
        Box::new(channel)
    }

    fn change_medium(&self, medium: Option<Arc<dyn Bdev>>) -> bool {
        let mut slot = self.0.slot();
        let former = std::mem::take(&mut slot.former).into_iter();
        let (open, closed): (Vec<_>, Vec<_>) = former.partition(|medium| Arc::strong_count(medium) > 1);
        slot.former = open;
        let former = std::mem::replace(&mut slot.medium, medium);
        slot.former.extend(former);
        self.0.number.fetch_add(1, Ordering::Release);
        drop(slot);
        // What no channel is open to any more is closed here, where that may block, and no reactor waits for it.
        drop(closed);
        true
    }
}

/// One reactor's channel to a drive.
#[derive(Debug)]
struct DriveChannel {
    drive: Arc<Shared>,
    reactor: ReactorId,
    /// Which of the media it is open to.
    number: u64,
    /// The medium's channel, and the medium, so that it is not closed here.
    inner: Option<(Box<dyn Channel>, Arc<dyn Bdev>)>,
}

impl DriveChannel {
    /// Opens the medium that is in the drive now, once nothing is in the former one. Whether it has.
    fn follow(&mut self) -> bool {
        let number = self.drive.number.load(Ordering::Acquire);
        if self.number == number {
            return true;
        }
        if self.in_flight() > 0 {
            return false;
        }
        self.number = number;
        let medium = self.drive.slot().medium.clone();
        // The new channel before the former one is closed: its descriptor must not be taken for that one's.
        self.inner = medium.map(|medium| (medium.open(self.reactor), medium));
        true
    }
}

impl Channel for DriveChannel {
    fn state(&self) -> ChannelState {
        self.inner.as_ref().map_or(ChannelState::Ready, |(channel, _)| channel.state())
    }

    fn submit(&mut self, io: Io, now: Tick) -> Result<(), Refused> {
        if !self.follow() {
            return Err(Refused::Full(io));
        }
        match &mut self.inner {
            Some((channel, _)) => channel.submit(io, now),
            None => Err(Refused::Gone(io)),
        }
    }

    fn kick(&mut self) {
        if let Some((channel, _)) = &mut self.inner {
            channel.kick();
        }
    }

    fn poll(&mut self, out: &mut Vec<Done>, max: usize, now: Tick) {
        if let Some((channel, _)) = &mut self.inner {
            channel.poll(out, max, now);
        }
    }

    fn cancel(&mut self, tag: Key) {
        if let Some((channel, _)) = &mut self.inner {
            channel.cancel(tag);
        }
    }

    fn fence(&mut self) -> Fence {
        self.inner.as_mut().map_or(Fence::Fenced, |(channel, _)| channel.fence())
    }

    fn wake(&self) -> Wake {
        self.inner.as_ref().map_or(Wake::Idle, |(channel, _)| channel.wake())
    }

    fn in_flight(&self) -> u32 {
        self.inner.as_ref().map_or(0, |(channel, _)| channel.in_flight())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bdev::contract::{Made, Subject, suite};
    use crate::bdev::null::Null;
    use crate::bdev::{IoError, Op};

    fn drive(medium: Option<Arc<dyn Bdev>>) -> Drive {
        Drive::new(Recipe { name: "cd".to_owned(), uuid: [9; 16], block_bytes: 2048 }, medium)
    }

    fn disc(blocks: u64) -> Arc<dyn Bdev> {
        Arc::new(Null::new("disc".to_owned(), blocks, 2048, [1; 16]))
    }

    #[test]
    fn passes_the_contract() {
        let make = || {
            let disc = Null::new("disc".to_owned(), 100, 512, [7; 16]);
            let recipe = Recipe { name: "cd".to_owned(), uuid: [9; 16], block_bytes: 512 };
            Made { bdev: Arc::new(Drive::new(recipe, Some(Arc::new(disc)))), resize: None }
        };
        suite(&Subject { name: "drive", make: &make, keeps_data: false, frees_on_drop: true });
    }

    fn flush(channel: &mut dyn Channel, index: u32) -> Result<Vec<Result<(), IoError>>, Refused> {
        let tag = Key { index, generation: 0 };
        channel.submit(Io { tag, op: Op::Flush, data: None }, Tick::ZERO)?;
        let mut out = Vec::with_capacity(8);
        channel.poll(&mut out, 8, Tick::ZERO);
        Ok(out.into_iter().map(|done| done.result).collect())
    }

    #[test]
    fn it_is_as_large_as_what_is_in_it_and_always_itself() {
        let drive = drive(None);
        assert_eq!((drive.info().blocks, drive.info().uuid), (0, [9; 16]));
        assert!(drive.change_medium(Some(disc(40))));
        let info = drive.info();
        assert_eq!((info.blocks, info.block_bytes, info.read_only, info.uuid), (40, 2048, true, [9; 16]));
        drive.change_medium(Some(Arc::new(Null::new("disc".to_owned(), 40, 512, [1; 16]))));
        assert_eq!(drive.info().blocks, 0, "blocks of another size");
    }

    /// A disc that notes whether its drive could be used while it was closed.
    #[derive(Debug)]
    struct Closing(Null, std::sync::Weak<Shared>, Arc<std::sync::atomic::AtomicBool>);

    impl Bdev for Closing {
        fn info(&self) -> Info {
            self.0.info()
        }

        fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
            self.0.open(reactor)
        }
    }

    impl Drop for Closing {
        fn drop(&mut self) {
            let is_free = self.1.upgrade().is_some_and(|drive| drive.slot.try_lock().is_ok());
            self.2.store(is_free, Ordering::Relaxed);
        }
    }

    #[test]
    fn nobody_waits_while_a_disc_is_closed() {
        let drive = drive(None);
        let is_free = Arc::default();
        let null = Null::new("disc".to_owned(), 40, 2048, [1; 16]);
        let closing = Closing(null, Arc::downgrade(&drive.0), Arc::clone(&is_free));
        drive.change_medium(Some(Arc::new(closing)));
        drive.change_medium(None);
        assert!(!is_free.load(Ordering::Relaxed), "a channel may have been open to it");
        drive.change_medium(None);
        assert!(is_free.load(Ordering::Relaxed));
    }

    #[test]
    fn a_channel_goes_to_the_new_medium_and_keeps_the_old_one_open_no_longer() {
        let (old, new) = (disc(40), disc(50));
        let is_open = Arc::downgrade(&old);
        let drive = drive(Some(old));
        let mut channel = drive.open(ReactorId(0));
        assert_eq!(flush(channel.as_mut(), 1).unwrap(), [Ok(())]);
        drive.change_medium(Some(Arc::clone(&new)));
        drive.change_medium(None);
        assert!(is_open.upgrade().is_some(), "the channel may have IO in it");
        assert!(matches!(flush(channel.as_mut(), 2), Err(Refused::Gone(_))));
        drive.change_medium(Some(Arc::clone(&new)));
        assert!(is_open.upgrade().is_none(), "nobody has it any more");
        assert_eq!(flush(channel.as_mut(), 3).unwrap(), [Ok(())]);
        assert_eq!(channel.state(), ChannelState::Ready);
    }
}
