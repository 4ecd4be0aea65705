//! `lunette nvme perf`: how many reads a second the driver does at one controller, from one thread, with no target above it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use super::probe::{open, say};
use crate::bdev::nvme::TimeOuts;
use crate::bdev::nvme::controller::shared::{Event, Options};
use crate::bdev::nvme::namespace::{NvmeBdev, Tenant, unasked};
use crate::bdev::nvme::thread::Handle;
use crate::bdev::{Bdev, Channel, ChannelState, Done, Io, Op, Refused};
use crate::buf::{Buf, Class, Hugepages, Memory, Pool};
use crate::cli::Failed;
use crate::id::ReactorId;
use crate::slab::Key;
use crate::time::{SECOND_NS, Tick};

/// `lunette nvme perf`.
#[derive(Clone, Debug, Args)]
pub(super) struct Perf {
    /// Where the controller is: 0000:01:00.0
    address: String,
    /// Use it without an IOMMU: it can then overwrite any memory of this machine
    #[arg(long)]
    unsafe_noiommu: bool,
    /// The namespace
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    namespace: u32,
    /// Reads at a time
    #[arg(long, value_name = "READS", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=128))]
    depth: u16,
    /// How long
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

/// Reads at a time, at most.
const DEPTH_MAX: usize = 128;
/// Length of a read.
const BYTES: usize = 4096;
/// A controller has so long to come and to go.
const PATIENCE: Duration = Duration::from_secs(60);
/// Its number in this process.
const NUMBER: u64 = 1;

type Said<T> = Result<T, String>;

pub(super) fn perf(args: &Perf) -> Result<String, Failed> {
    let (_, transport) = open(&args.address, args.unsafe_noiommu)?;
    let hook = |event| {
        if let Event::Said(_, words) = event {
            say(&words);
        }
    };
    let options = Options::pcie("perf".to_owned(), 1);
    let handle = Handle::attach(Box::new(transport), options, Arc::new(hook)).map_err(Failed::failure)?;
    let handle = Arc::new(handle);
    handle.wait_attached(PATIENCE).map_err(Failed::failure)?;
    let said = read(&handle, args);
    handle.detach(PATIENCE).map_err(Failed::failure)?;
    said.map_err(Failed::failure)
}

/// Reads at random places, each buffer again as soon as it is back.
fn read(handle: &Arc<Handle>, args: &Perf) -> Said<String> {
    let disks = handle.shared().disks();
    let disk = disks.into_iter().find(|disk| disk.nsid == args.namespace);
    let disk = disk.ok_or_else(|| format!("there is no namespace {}", args.namespace))?;
    let (shared, connect) = (Arc::clone(handle.shared()), Arc::clone(handle));
    let times = TimeOuts { command_ns: 30 * SECOND_NS, abort_ns: 5 * SECOND_NS };
    let connect = Arc::new(move |reactor| connect.port(reactor));
    let (ask, erase) = (unasked(), unasked());
    let tenant = Tenant { controller: NUMBER, shared, disk, times, connect, ask, erase };
    let bdev = NvmeBdev::new("perf".to_owned(), tenant);
    let info = bdev.info();
    let blocks = u32::try_from(BYTES).map_err(|error| error.to_string())? / info.block_bytes;
    let places = info.blocks / u64::from(blocks.max(1));
    if places == 0 {
        return Err("the namespace is too small".to_owned());
    }
    let class = [Class { bytes: BYTES, count: usize::from(args.depth) }];
    let bytes = Pool::bytes_needed(&class);
    let memory = Memory::map_preferring_huge(bytes, Hugepages::Auto, Memory::map);
    let pool = Pool::new(memory.map_err(|failed| failed.to_string())?, &class);
    let mut bench = Bench {
        channel: bdev.open(ReactorId(0)),
        began: Instant::now(),
        word: 0x9E37_79B9_7F4A_7C15,
        places,
        blocks,
        wanted: Vec::with_capacity(DEPTH_MAX),
    };
    while bench.channel.state() == ChannelState::Opening {
        let now = bench.now();
        bench.channel.poll(&mut Vec::new(), 0, now);
    }
    let bufs: Vec<Buf> = (0..args.depth).filter_map(|_| pool.take(BYTES)).collect();
    for (index, buf) in (0..).zip(bufs) {
        bench.want(index, buf);
    }
    // What happens once is not counted.
    bench.run(Duration::from_millis(200))?;
    let began = Instant::now();
    let reads = bench.run(Duration::from_secs(args.seconds))?;
    let seconds = began.elapsed().as_secs_f64();
    bench.drain()?;
    Ok(format!("{:.0} reads of 4 KiB a second, {} at a time\n", reads as f64 / seconds, args.depth))
}

struct Bench {
    channel: Box<dyn Channel>,
    began: Instant,
    /// Of a generator that only has to spread.
    word: u64,
    places: u64,
    blocks: u32,
    wanted: Vec<Io>,
}

impl Bench {
    fn now(&self) -> Tick {
        Tick::from_ns(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Reads into this buffer, as soon as there is room.
    fn want(&mut self, index: u32, data: Buf) {
        self.word = self.word.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        let lba = (self.word >> 24) % self.places * u64::from(self.blocks);
        let op = Op::Read { lba, blocks: self.blocks };
        self.wanted.push(Io { tag: Key { index, generation: 0 }, op, data: Some(data) });
    }

    /// Reads for so long: how many came back.
    fn run(&mut self, time: Duration) -> Said<u64> {
        let (mut now, mut reads) = (self.now(), 0);
        let end = now.after_ns(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        let mut done = Vec::with_capacity(DEPTH_MAX);
        while now < end {
            while let Some(io) = self.wanted.pop() {
                match self.channel.submit(io, now) {
                    Ok(()) => {}
                    // The memory is being mapped, at first.
                    Err(Refused::Full(io) | Refused::NotReady(io)) => {
                        self.wanted.push(io);
                        break;
                    }
                    Err(Refused::Gone(_)) => return Err("the namespace is gone".to_owned()),
                }
            }
            self.channel.kick();
            self.channel.poll(&mut done, DEPTH_MAX, now);
            for done in done.drain(..) {
                let (index, data) = back(done)?;
                self.want(index, data);
                reads += 1;
            }
            now = self.now();
        }
        Ok(reads)
    }

    /// Takes back what is on its way.
    fn drain(&mut self) -> Said<()> {
        let mut done = Vec::with_capacity(DEPTH_MAX);
        while self.channel.in_flight() > 0 {
            let now = self.now();
            self.channel.kick();
            self.channel.poll(&mut done, DEPTH_MAX, now);
            for done in done.drain(..) {
                back(done)?;
            }
        }
        Ok(())
    }
}

fn back(done: Done) -> Said<(u32, Buf)> {
    done.result.map_err(|error| format!("a read fails: {error:?}"))?;
    Ok((done.tag.index, done.data.ok_or("a read came back without its buffer")?))
}
