//! On bdevs of SPDK's own: its RAM disks, its null disk. SPDK is one for the process, so the tests share it.
#![expect(unsafe_code, reason = "tests make happen what SPDK's other programs do: resizes and removals")]

use std::ffi::CStr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::*;
use crate::bdev::contract::{Made, Subject, suite};
use crate::bdev::{ChannelState, Done, Fence, Io, IoError, Op, Refused, Unmap, Wake};
use crate::buf::{Class, Pool};
use crate::slab::Key;
use crate::time::Tick;

/// RAM disks of each block size: more than the suite has cases.
const DISKS: usize = 24;
/// Whatever is waited for has come by then.
const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    disks: Mutex<Vec<Arc<SpdkDisk>>>,
    notices: Mutex<Receiver<Notice>>,
    orders: Sender<Order>,
    /// It runs until the process ends.
    spdk: Mutex<Option<Spdk>>,
}

/// A controller on PCIe that SPDK is to drive, bound as it wants it, with namespaces 1 and 2, whose content is lost; there must be
/// hugepages. Then it is all that SPDK has.
fn real_controller() -> Option<String> {
    std::env::var("LUNETTE_SPDK_NVME").ok()
}

fn config() -> Vec<u8> {
    if let Some(address) = real_controller() {
        return format!(
            r#"{{"subsystems": [{{"subsystem": "bdev", "config": [{{"method": "bdev_nvme_attach_controller",
            "params": {{"name": "Real", "trtype": "PCIe", "traddr": "{address}"}}}}]}}]}}"#
        )
        .into_bytes();
    }
    let malloc = |block_bytes: u32, blocks: u32| {
        (0..DISKS).map(move |index| {
            format!(
                r#"{{"method": "bdev_malloc_create", "params": {{"name": "Malloc{block_bytes}-{index}",
                "num_blocks": {blocks}, "block_size": {block_bytes}}}}}"#
            )
        })
    };
    let more = [
        r#"{"method": "bdev_null_create", "params": {"name": "Null0", "num_blocks": 4096, "block_size": 512,
        "uuid": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"}}"#,
        r#"{"method": "bdev_malloc_create", "params": {"name": "Metadata", "num_blocks": 64, "block_size": 512,
        "md_size": 8, "md_interleave": false}}"#,
        r#"{"method": "bdev_malloc_create", "params": {"name": "Goes", "num_blocks": 64, "block_size": 512}}"#,
    ];
    // One for each test that resets or counts on nobody else doing so.
    let slow = ["Slow", "Slower"].into_iter().flat_map(|name| {
        let base = format!(
            r#"{{"method": "bdev_malloc_create", "params": {{"name": "Base of {name}", "num_blocks": 2048,
            "block_size": 512}}}}"#
        );
        let delay = format!(
            r#"{{"method": "bdev_delay_create", "params": {{"name": "{name}", "base_bdev_name": "Base of {name}",
            "avg_read_latency": 200000, "p99_read_latency": 200000, "avg_write_latency": 200000,
            "p99_write_latency": 200000}}}}"#
        );
        [base, delay]
    });
    let calls: Vec<String> =
        malloc(512, 1024).chain(malloc(4096, 256)).chain(more.map(str::to_owned)).chain(slow).collect();
    // A subsystem that is not linked in is passed over, as by SPDK's programs.
    format!(
        r#"{{"subsystems": [{{"subsystem": "nvmf", "config": [{{"method": "nvmf_set_config"}}]}},
        {{"subsystem": "bdev", "config": [{}]}}]}}"#,
        calls.join(",")
    )
    .into_bytes()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

static WORLD: OnceLock<World> = OnceLock::new();

/// SPDK does not survive the destructors that run behind this.
extern "C" fn at_exit() {
    if let Some(world) = WORLD.get() {
        lock(&world.disks).clear();
        drop(lock(&world.spdk).take());
    }
}

fn world() -> &'static World {
    WORLD.get_or_init(|| {
        let log = |severity, line: &str| eprintln!("spdk: {severity:?}: {line}");
        let (hugepages, mib) = real_controller().map_or((Hugepages::Off, 768), |_| (Hugepages::Require, 512));
        let options = Options { config: config(), hugepages, memory_mib: Some(mib), log };
        let Running { spdk, disks, notices } = Spdk::start(options).unwrap();
        // SAFETY: a function that may be called when the process ends.
        assert_eq!(unsafe { libc::atexit(at_exit) }, 0);
        World {
            disks: Mutex::new(disks),
            notices: Mutex::new(notices),
            orders: spdk.orders.clone(),
            spdk: Mutex::new(Some(spdk)),
        }
    })
}

fn disk(name: &str) -> Arc<SpdkDisk> {
    let disks = lock(&world().disks);
    Arc::clone(disks.iter().find(|disk| disk.info().name == name).unwrap())
}

/// Does something on SPDK's first thread.
fn on_first_thread<R: Send + 'static>(act: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, is_done) = mpsc::channel();
    world().orders.send(Order::Run(Box::new(move || done.send(act()).unwrap()))).unwrap();
    is_done.recv().unwrap()
}

fn bdev(name: &CStr) -> *mut spdk_sys::spdk_bdev {
    // SAFETY: a C string; only called on SPDK's first thread.
    unsafe { spdk_sys::spdk_bdev_get_by_name(name.as_ptr()) }
}

/// The next thing that happens to the bdev of this name; the world's others are other tests'.
fn notice_of(name: &str) -> Notice {
    let until = Instant::now() + PATIENCE;
    let notices = lock(&world().notices);
    loop {
        let notice = notices.recv_timeout(until.saturating_duration_since(Instant::now())).unwrap();
        let (Notice::Resized { name: of } | Notice::Removed { name: of }) = &notice;
        if of == name {
            return notice;
        }
    }
}

/// A channel, and memory for it.
struct User {
    channel: Box<dyn Channel>,
    pool: Pool,
}

impl User {
    fn of(disk: &SpdkDisk) -> User {
        let user = User {
            channel: disk.open(ReactorId(0)),
            pool: Pool::ordinary(&[Class { bytes: 4096, count: 64 }]).unwrap(),
        };
        wait_for(|| user.channel.state() != ChannelState::Opening);
        user
    }

    fn io(&self, index: u32, op: Op) -> Io {
        let data = op.extent().filter(|_| matches!(op, Op::Read { .. } | Op::Write { .. }));
        let data = data.map(|(_, blocks)| {
            let mut data = self.pool.take(blocks as usize * 512).unwrap();
            data.fill(0xA5);
            data
        });
        Io { tag: Key { index, generation: 0 }, op, data }
    }

    fn submit(&mut self, index: u32, op: Op) {
        let io = self.io(index, op);
        self.channel.submit(io, Tick::ZERO).unwrap();
    }

    fn done(&mut self) -> Vec<Done> {
        let mut done = Vec::with_capacity(64);
        self.channel.poll(&mut done, 64, Tick::ZERO);
        done
    }

    fn settle(&mut self) -> Vec<Done> {
        self.channel.kick();
        let mut done = Vec::new();
        wait_for(|| {
            done.append(&mut self.done());
            self.channel.in_flight() == 0
        });
        done
    }

    fn run(&mut self, op: Op) -> Result<(), IoError> {
        self.submit(0, op);
        let mut done = self.settle();
        assert_eq!(done.len(), 1);
        done.remove(0).result
    }
}

fn wait_for(mut is_there: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_there() {
        assert!(Instant::now() < until, "it never came");
        std::thread::yield_now();
    }
}

/// As on a machine whose devices reach registered memory only: without hugepages none is, so everything is copied.
#[derive(Debug)]
struct Copied(Arc<SpdkDisk>);

impl Bdev for Copied {
    fn info(&self) -> Info {
        self.0.info()
    }

    fn open(&self, _reactor: ReactorId) -> Box<dyn Channel> {
        self.0.channel(true)
    }
}

#[test]
fn passes_the_contract() {
    for (block_bytes, is_copied) in [(512, false), (4096, false), (512, true)] {
        let next = AtomicUsize::new(0);
        let make = || {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let disk = disk(&format!("Malloc{block_bytes}-{index}"));
            Made { bdev: if is_copied { Arc::new(Copied(disk)) } else { disk }, resize: None }
        };
        suite(&Subject { name: "spdk malloc", make: &make, keeps_data: true, frees_on_drop: true });
    }
}

#[test]
fn a_real_controller_passes_the_contract() {
    if real_controller().is_none() {
        return eprintln!("not run: LUNETTE_SPDK_NVME names no controller");
    }
    for name in ["Realn1", "Realn2"] {
        let make = || Made { bdev: disk(name), resize: None };
        suite(&Subject { name: "spdk nvme", make: &make, keeps_data: true, frees_on_drop: true });
    }
}

#[test]
fn a_disk_is_what_spdk_says() {
    let malloc = disk("Malloc4096-0");
    let info = malloc.info();
    assert_eq!((info.blocks, info.block_bytes, info.read_only, info.write_cache), (256, 4096, false, true));
    assert_eq!(info.unmap, Some(Unmap { granularity_blocks: 1, reads_zeroes: false, anchors: false }));
    assert_eq!(malloc.product(), "Malloc disk");
    let uuid =
        [0xf8, 0x1d, 0x4f, 0xae, 0x7d, 0xec, 0x11, 0xd0, 0xa7, 0x65, 0x00, 0xa0, 0xc9, 0x1e, 0x6b, 0xf6];
    assert_eq!(disk("Null0").info().uuid, uuid);
    let disks = lock(&world().disks);
    let has = |name: &str| disks.iter().any(|disk| disk.info().name == name);
    assert!(!has("Metadata"), "blocks with metadata are not served");
    assert!(has("Slow") && !has("Base of Slow"), "what another bdev is made of is not served");
    assert!(Spdk::version().starts_with("SPDK v"), "{}", Spdk::version());
}

#[test]
fn it_starts_once() {
    world();
    let options = Options { config: Vec::new(), hugepages: Hugepages::Off, memory_mib: None, log: |_, _| {} };
    assert_eq!(Spdk::start(options).unwrap_err().to_string(), "SPDK can be started once only");
}

#[test]
fn a_durable_write_ends_after_its_flush() {
    let mut user = User::of(&disk("Slower"));
    // The delay is of writes; the flush behind passes at once.
    assert_eq!(user.run(Op::Write { lba: 3, blocks: 2, fua: true }), Ok(()));
    assert_eq!(user.run(Op::Read { lba: 3, blocks: 2 }), Ok(()));
}

#[test]
fn channels_of_one_thread_share_a_seat_and_each_gets_its_own() {
    let (mut one, mut other) = (User::of(&disk("Malloc512-22")), User::of(&disk("Malloc512-23")));
    for index in 0..8 {
        one.submit(index, Op::Write { lba: u64::from(index), blocks: 1, fua: false });
        other.submit(100 + index, Op::Read { lba: u64::from(index), blocks: 1 });
    }
    other.channel.kick();
    one.channel.kick();
    let (mut of_one, mut of_other) = (Vec::new(), Vec::new());
    wait_for(|| {
        of_one.append(&mut one.done());
        of_other.append(&mut other.done());
        one.channel.in_flight() + other.channel.in_flight() == 0
    });
    let tags = |done: &[Done]| {
        let mut tags: Vec<u32> = done.iter().map(|done| done.tag.index).collect();
        tags.sort_unstable();
        tags
    };
    assert_eq!(tags(&of_one), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(tags(&of_other), [100, 101, 102, 103, 104, 105, 106, 107]);
    assert!(of_one.iter().chain(&of_other).all(|done| done.result == Ok(())));
    assert_eq!((one.channel.wake(), other.channel.wake()), (Wake::Idle, Wake::Idle));
}

#[test]
fn a_fence_resets_past_reactors_that_sleep() {
    let (asleep, wake_up) = mpsc::channel::<()>();
    let (ready, is_ready) = mpsc::channel();
    let sleeper = std::thread::spawn(move || {
        let mut user = User::of(&disk("Slow"));
        assert_eq!(user.run(Op::Read { lba: 0, blocks: 1 }), Ok(()));
        ready.send(()).unwrap();
        // A channel that is open and polled by nobody.
        wake_up.recv().unwrap_err();
    });
    is_ready.recv().unwrap();
    let mut user = User::of(&disk("Slow"));
    for index in 0..4 {
        user.submit(index, Op::Write { lba: 64, blocks: 1, fua: false });
    }
    user.channel.kick();
    assert_eq!(user.channel.fence(), Fence::Cannot);
    assert_eq!(user.settle().len(), 4);
    // It is served again only when each thread of SPDK's has heard of the reset's end.
    assert_eq!(user.run(Op::Read { lba: 0, blocks: 1 }), Ok(()));
    drop(asleep);
    sleeper.join().unwrap();
}

#[test]
fn what_spdk_has_not_got_is_given_up_at_once() {
    let mut user = User::of(&disk("Malloc512-21"));
    for index in 0..2 {
        user.submit(index, Op::Write { lba: 0, blocks: 1, fua: false });
    }
    user.channel.cancel(Key { index: 1, generation: 0 });
    assert_eq!(user.channel.in_flight(), 2);
    let done = user.done();
    assert_eq!((done[0].tag.index, done[0].result), (1, Err(IoError::Cancelled)));
    assert_eq!(user.settle().into_iter().map(|done| done.result).collect::<Vec<_>>(), [Ok(())]);
}

#[test]
fn a_resize_is_told_and_served() {
    let null = disk("Null0");
    let mut user = User::of(&null);
    assert_eq!(user.run(Op::Read { lba: 4096, blocks: 1 }), Err(IoError::OutOfRange));
    let result = on_first_thread(|| {
        // SAFETY: the bdev is there, and nobody takes it away.
        unsafe { spdk_sys::spdk_bdev_notify_blockcnt_change(bdev(c"Null0"), 8192) }
    });
    assert_eq!(result, 0);
    assert_eq!(notice_of("Null0"), Notice::Resized { name: "Null0".to_owned() });
    assert_eq!(null.info().blocks, 8192);
    assert_eq!(user.run(Op::Read { lba: 8191, blocks: 1 }), Ok(()));
}

#[test]
fn a_bdev_that_goes_is_told_let_go_of_and_then_gone() {
    let goes = disk("Goes");
    let mut user = User::of(&goes);
    assert_eq!(user.run(Op::Write { lba: 0, blocks: 1, fua: false }), Ok(()));
    on_first_thread(|| {
        // SAFETY: the bdev is there; nobody wants to know of the end.
        unsafe { spdk_sys::spdk_bdev_unregister(bdev(c"Goes"), None, std::ptr::null_mut()) };
    });
    assert_eq!(notice_of("Goes"), Notice::Removed { name: "Goes".to_owned() });
    assert_eq!(user.channel.state(), ChannelState::Gone);
    let io = user.io(1, Op::Write { lba: 0, blocks: 1, fua: false });
    assert!(matches!(user.channel.submit(io, Tick::ZERO), Err(Refused::Gone(_))));
    drop(user);
    lock(&world().disks).retain(|disk| !Arc::ptr_eq(disk, &goes));
    drop(goes);
    // SPDK forgets it when the descriptor is closed.
    wait_for(|| on_first_thread(|| bdev(c"Goes").is_null()));
}
