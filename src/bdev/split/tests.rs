use super::*;
use crate::bdev::contract::{Made, Subject, suite};
use crate::bdev::error::{Fault, Faults, Faulty, Kind, Rule};
use crate::bdev::malloc::{Malloc, Recipe};
use crate::bdev::null::Null;
use crate::buf::{Class, Hugepages, Pool};

fn malloc(blocks: u64) -> Arc<Malloc> {
    let recipe = Recipe {
        name: "Malloc0".to_owned(),
        blocks,
        blocks_max: 400,
        block_bytes: 512,
        physical_block_bytes: 4096,
        uuid: [7; 16],
        hugepages: Hugepages::Off,
    };
    Arc::new(Malloc::new(recipe).unwrap())
}

fn split(base: Arc<dyn Bdev>, index: u32, blocks: u64) -> Split {
    let layout = Arc::new(Layout::new(index + 1, blocks).unwrap());
    Split::new(format!("{}p{index}", base.info().name), base, index, layout)
}

#[test]
fn passes_the_contract() {
    for (index, first) in [(0, 0), (1, 100)] {
        let make = || {
            let disk = malloc(200);
            let bdev = Arc::new(split(Arc::clone(&disk) as _, index, 100));
            Made { bdev, resize: Some(Box::new(move |blocks| disk.resize(first + blocks).unwrap())) }
        };
        suite(&Subject { name: "split", make: &make, keeps_data: true, frees_on_drop: true });
    }
}

#[test]
fn a_part_is_where_it_is_and_ends_there() {
    let disk = malloc(300);
    let pool = Pool::ordinary(&[Class { bytes: 4096, count: 4 }]).unwrap();
    let mut whole = disk.open(ReactorId(0));
    let mut part = split(Arc::clone(&disk) as _, 2, 100).open(ReactorId(0));
    let (now, tag) = (Tick::ZERO, Key { index: 3, generation: 1 });
    let run = |channel: &mut Box<dyn Channel>, op, byte| {
        let mut data = pool.take(512).unwrap();
        data.fill(byte);
        channel.submit(Io { tag, op, data: Some(data) }, now).unwrap();
        let mut out = Vec::with_capacity(1);
        channel.poll(&mut out, 1, now);
        let done = out.remove(0);
        (done.result, done.data.unwrap()[0])
    };
    assert_eq!(run(&mut part, Op::Write { lba: 5, blocks: 1, fua: false }, 0xAB).0, Ok(()));
    assert_eq!(run(&mut whole, Op::Read { lba: 205, blocks: 1 }, 0), (Ok(()), 0xAB));
    assert_eq!(run(&mut part, Op::Read { lba: 100, blocks: 1 }, 0).0, Err(IoError::OutOfRange));
    assert_eq!(run(&mut part, Op::Read { lba: u64::MAX, blocks: 1 }, 0).0, Err(IoError::OutOfRange));
    let mut block = [0; 512];
    assert!(part.load(5, &mut block, now) && block == [0xAB; 512]);
    assert!(!part.load(100, &mut block, now) && !part.store(99, &[0; 1024], false, now));
    assert!(part.store(6, &[0xCD; 512], false, now));
    assert_eq!(run(&mut whole, Op::Read { lba: 206, blocks: 1 }, 0), (Ok(()), 0xCD));
}

#[test]
fn errors_name_the_parts_block_and_refusals_bring_the_io_back() {
    let faults = Faults::new();
    let bad = Rule {
        first_lba: 103,
        last_lba: 103,
        ..Rule::everywhere(Kind::Unmap, Fault::Fail(IoError::Medium { lba: Some(103) }))
    };
    faults.add(bad, u32::MAX).unwrap();
    faults.add(Rule::everywhere(Kind::Flush, Fault::Full), 1).unwrap();
    let null = Arc::new(Null::new("Null0".to_owned(), 200, 512, [1; 16]));
    let mut part = split(Arc::new(Faulty::new(null, faults)), 1, 100).open(ReactorId(0));
    let tag = Key { index: 0, generation: 0 };
    part.submit(Io { tag, op: Op::Unmap { lba: 2, blocks: 2 }, data: None }, Tick::ZERO).unwrap();
    let mut out = Vec::with_capacity(1);
    part.poll(&mut out, 1, Tick::ZERO);
    assert_eq!(out[0].result, Err(IoError::Medium { lba: Some(3) }));
    let flush = Io { tag, op: Op::Flush, data: None };
    let Err(Refused::Full(io)) = part.submit(flush, Tick::ZERO) else { panic!("it is full") };
    assert_eq!(io.op, Op::Flush);
}

#[test]
fn info_is_of_the_part() {
    let disk = malloc(250);
    let info = |index| split(Arc::clone(&disk) as _, index, 100).info();
    assert_eq!((info(0).blocks, info(1).blocks, info(2).blocks, info(3).blocks), (100, 100, 50, 0));
    // 100 blocks of 512 bytes are no whole number of 4096.
    assert_eq!(
        (info(0).physical_block_bytes, info(1).physical_block_bytes, info(2).physical_block_bytes),
        (4096, 512, 4096)
    );
    let uuids: Vec<[u8; 16]> = (0..4).map(|index| info(index).uuid).collect();
    assert_eq!(uuids, (0..4).map(|index| info(index).uuid).collect::<Vec<_>>());
    assert!(
        uuids.iter().all(|uuid| uuid[6] >> 4 == 8 && uuid[8] >> 6 == 2 && *uuid != [7; 16]),
        "{uuids:02x?}"
    );
    assert!((1..4).all(|index| !uuids[..index].contains(&uuids[index])), "{uuids:02x?}");
    assert_eq!(uuid([0; 16], 3), [0; 16]);
    assert!(Layout::new(2, u64::MAX).is_none());
}

/// A device that is there when `blocks` is not 0.
#[derive(Debug)]
struct Late {
    inner: Arc<Malloc>,
    is_there: std::sync::atomic::AtomicBool,
}

impl Bdev for Late {
    fn info(&self) -> Info {
        let info = self.inner.info();
        if self.is_there.load(Ordering::Relaxed) {
            info
        } else {
            Info { blocks: 0, block_bytes: 4096, ..info }
        }
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        self.inner.open(reactor)
    }

    fn probe(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        if self.info().blocks > 0 { Ok(()) } else { Err("it is away".into()) }
    }
}

#[derive(Debug)]
struct Kept {
    kept: Arc<std::sync::Mutex<Vec<u64>>>,
    is_full: Arc<std::sync::atomic::AtomicBool>,
}

impl Keeps for Kept {
    fn keep(&self, blocks: u64) -> Result<(), String> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err("the disk is full".to_owned());
        }
        self.kept.lock().unwrap().push(blocks);
        Ok(())
    }
}

/// Parts of a device that comes later are where they would have been, from when that is kept on, and stay there.
#[test]
fn parts_of_what_is_not_there_yet_settle_when_it_comes() {
    for (size, blocks) in [(Size::Share(3), 100), (Size::Bytes(120 * 512), 120)] {
        let disk = malloc(300);
        let late = Arc::new(Late { inner: Arc::clone(&disk), is_there: false.into() });
        let (kept, is_full): (Arc<std::sync::Mutex<Vec<u64>>>, Arc<_>) =
            (Arc::default(), Arc::new(true.into()));
        let keeps = Kept { kept: Arc::clone(&kept), is_full: Arc::clone(&is_full) };
        let layout = Arc::new(Layout::awaited(3, size, Box::new(keeps)));
        let base = || Arc::clone(&late) as Arc<dyn Bdev>;
        let part = |index| Split::new(format!("p{index}"), base(), index, Arc::clone(&layout));
        let parts = [part(0), part(1), part(2)];
        let sizes = || [0, 1, 2].map(|index: usize| parts[index].info().blocks);
        let mut channel = parts[1].open(ReactorId(0));
        let now = Tick::ZERO;
        assert_eq!(parts[1].probe().unwrap_err().to_string(), "it is away");
        late.is_there.store(true, Ordering::Relaxed);
        assert_eq!(sizes(), [0; 3], "nobody has kept where they are");
        assert_eq!(parts[1].probe().unwrap_err().to_string(), "the disk is full");
        assert!(!channel.store(0, &[1; 512], false, now), "nothing is there yet");
        is_full.store(false, Ordering::Relaxed);
        parts.iter().for_each(|part| part.probe().unwrap());
        assert_eq!(
            (sizes(), kept.lock().unwrap().clone()),
            ([blocks, blocks, 300 - 2 * blocks], vec![blocks])
        );
        // A channel of before has its blocks where they are now, of the size that they have now.
        assert!(channel.store(blocks - 1, &[7; 512], false, now));
        assert!(!channel.store(blocks, &[7; 512], false, now));
        let mut block = [0; 512];
        assert!(disk.open(ReactorId(1)).load(2 * blocks - 1, &mut block, now) && block == [7; 512]);
        disk.resize(399).unwrap();
        assert_eq!(sizes()[..2], [blocks; 2], "they stay where they are");
        disk.resize(2 * blocks).unwrap();
        let why = parts[2].probe().unwrap_err().to_string();
        assert!(why.starts_with("Malloc0 has ") && why.contains("it ends before block"), "{why}");
    }
    let tiny = Layout::awaited(
        3,
        Size::Share(400),
        Box::new(Kept { kept: Arc::default(), is_full: Arc::default() }),
    );
    assert!(tiny.settle(&malloc(300).info()).is_err(), "there is no block for each");
}
