//! A disk that goes, and may come back without what it was told to keep: what waited for room in it says so.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lunette::bdev::{Bdev, Channel, ChannelState, Info};
use lunette::id::ReactorId;
use lunette::scsi::view::LunNumber;
use lunette_initiator::scsi::cdb;
use lunette_initiator::{Client, Command, Data, Event, lun};

use crate::harness::{SOON, Setup, TARGET, World, disk, sense, spec, test_unit_ready, until};

const NOT_READY: (u8, u8, u8) = (0x2, 0x04, 0x00);
const MEDIUM_CHANGED: (u8, u8, u8) = (0x6, 0x28, 0x00);

/// A disk of so many blocks now.
#[derive(Debug)]
struct Sized {
    inner: Arc<dyn Bdev>,
    blocks: AtomicU64,
}

impl Bdev for Sized {
    fn info(&self) -> Info {
        Info { blocks: self.blocks.load(Ordering::Acquire), ..self.inner.info() }
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        self.inner.open(reactor)
    }
}

/// Nothing has ended by now, whatever else was told.
fn nothing_ends(client: &mut Client) {
    client.ping(b"").unwrap();
    while let Some(event) = client.next_event() {
        assert!(matches!(event, Event::Async(..)), "{event:?}");
    }
}

#[test]
fn a_flush_that_waits_for_room_in_a_disk_that_goes_is_not_done_of_what_comes_back() {
    let world = World::start(Setup::default());
    let (_, faults, inner) = disk(9, 1024, 512);
    let sized = Arc::new(Sized { inner, blocks: 1000.into() });
    let registered = Arc::clone(&sized);
    world.control(|control| {
        control.register_bdev(spec(registered)).unwrap();
        control.add_lun(TARGET, "disk9", Some(LunNumber(9))).unwrap();
    });
    let mut client = world.client("a");
    until("unit attentions are taken", || client.run(test_unit_ready(9)).unwrap().is_good());
    let flush = || Command::new(lun::from_number(9), cdb::synchronize_cache_10(0, 0), Data::None);
    let size = |blocks| {
        sized.blocks.store(blocks, Ordering::Release);
        let told = world.change(|control, done, _| control.reread_bdev("disk9", done));
        assert!(told.recv_timeout(SOON).unwrap().is_clean);
    };

    // One that is only resized keeps what it was told to keep.
    faults.set_state(ChannelState::Opening);
    let flushed = client.session().command(flush()).unwrap();
    nothing_ends(&mut client);
    size(999);
    nothing_ends(&mut client);
    faults.set_state(ChannelState::Ready);
    assert!(client.completion(flushed).unwrap().is_good());
    until("unit attentions are taken", || client.run(test_unit_ready(9)).unwrap().is_good());

    faults.set_state(ChannelState::Opening);
    let read = Command::read(lun::from_number(9), cdb::read_16(0, 1, cdb::Flags::default()), 512);
    let asked = [flush(), read].map(|command| client.session().command(command).unwrap());
    nothing_ends(&mut client);
    for blocks in [0, 999] {
        size(blocks);
    }
    faults.set_state(ChannelState::Ready);
    for asked in asked {
        assert_eq!(sense(&client.completion(asked).unwrap()), NOT_READY);
    }
    assert_eq!(sense(&client.run(flush()).unwrap()), MEDIUM_CHANGED);
    assert!(client.run(flush()).unwrap().is_good());
}
