//! Members that tell what the test says: where their runs are in the array.

use super::super::{Level, Raid, Recipe};
use super::*;
use crate::bdev::allocation::{RUNS_MAX, Teller};
use crate::bdev::malloc::{self, Malloc};
use crate::bdev::{Channel, Info, Unmap};
use crate::buf::Hugepages;
use crate::id::ReactorId;

const M: State = State::Mapped;
const A: State = State::Anchored;
const D: State = State::Deallocated;

/// A disk that tells what its blocks are, one letter for each: mapped, anchored or deallocated. It knows nothing from the first other
/// letter on.
#[derive(Debug)]
struct Letters {
    disk: Malloc,
    letters: String,
    anchors: bool,
}

fn letters_of(letters: &str, block_bytes: u32, anchors: bool) -> Letters {
    let blocks = letters.len() as u64;
    let disk = malloc::Recipe {
        name: "L".to_owned(),
        blocks,
        blocks_max: blocks,
        block_bytes,
        physical_block_bytes: block_bytes,
        uuid: [1; 16],
        hugepages: Hugepages::Off,
    };
    Letters { disk: Malloc::new(disk).unwrap(), letters: letters.to_owned(), anchors }
}

impl Bdev for Letters {
    fn info(&self) -> Info {
        let info = self.disk.info();
        Info { unmap: info.unmap.map(|unmap| Unmap { anchors: self.anchors, ..unmap }), ..info }
    }

    fn open(&self, _: ReactorId) -> Box<dyn Channel> {
        unreachable!("nothing is read or written")
    }

    fn allocation(&self, lba: u64, blocks: u32) -> Allocation {
        let mut teller = Teller::new(lba, blocks, 1);
        for (end, letter) in (1..).zip(self.letters.bytes()).skip(lba as usize) {
            let state = match letter {
                b'M' => M,
                b'A' => A,
                b'D' => D,
                _ => break,
            };
            if !teller.is_to(end, state) {
                break;
            }
        }
        teller.finish()
    }
}

fn members(letters: &[&str]) -> Vec<Arc<dyn Bdev>> {
    letters.iter().map(|letters| Arc::new(letters_of(letters, 512, true)) as _).collect()
}

fn runs(allocation: &Allocation) -> Vec<(u32, State)> {
    allocation.runs().iter().map(|run| (run.blocks, run.state)).collect()
}

/// What an array of these tells, its strips being of four blocks.
fn told(level: Level, letters: &[&str], lba: u64, blocks: u32) -> Vec<(u32, State)> {
    let sizes: Vec<u64> = letters.iter().map(|letters| letters.len() as u64).collect();
    let layout = Layout::new(level, 4, 512, &sizes).unwrap();
    runs(&allocation(&layout, &members(letters), lba, blocks))
}

#[test]
fn runs_go_on_over_strips() {
    // The array: MMDD DDDD DDDD DMMM AAAA AAAM.
    let letters = ["MMDDDDDDAAAA", "DDDDDMMMAAAM"];
    let striped = |lba, blocks| told(Level::Striped, &letters, lba, blocks);
    assert_eq!(striped(0, u32::MAX), [(2, M), (11, D), (3, M), (7, A), (1, M)]);
    assert_eq!(striped(0, 24), striped(0, u32::MAX));
    assert_eq!(striped(1, 5), [(1, M), (4, D)]);
    assert_eq!(striped(3, 1), [(1, D)]);
    assert_eq!(striped(7, 8), [(6, D), (2, M)]);
    assert_eq!(striped(23, 9), [(1, M)]);
    assert_eq!(striped(0, 0), []);
    assert_eq!(striped(24, 1), []);
    assert_eq!(striped(u64::MAX, 7), []);
}

#[test]
fn runs_go_on_over_members_in_a_row() {
    // Of the second four blocks are used.
    let letters = ["MMDDDDDD", "DDDDMMM", "DDAA"];
    let row = |lba, blocks| told(Level::Concat, &letters, lba, blocks);
    assert_eq!(row(0, u32::MAX), [(2, M), (12, D), (2, A)]);
    assert_eq!(row(7, 2), [(2, D)]);
    assert_eq!(row(11, 5), [(3, D), (2, A)]);
    assert_eq!(row(15, 9), [(1, A)]);
    assert_eq!(row(16, 1), []);
}

#[test]
fn what_a_member_does_not_know_is_mapped_and_nothing_is_told_behind_what_it_tells() {
    let striped = |letters, lba| told(Level::Striped, letters, lba, u32::MAX);
    assert_eq!(striped(&["DDDDDDDD", "????????"], 2), [(2, D), (4, M), (4, D), (4, M)]);
    assert_eq!(striped(&["????????", "????????"], 2), [(14, M)]);
    // Of its second block on: asked from there it is mapped, and from its second strip on it is known again.
    assert_eq!(striped(&["DDDDDDDD", "D???DDDD"], 0), [(5, D)]);
    assert_eq!(striped(&["DDDDDDDD", "D???DDDD"], 5), [(3, M), (4, D), (4, M)]);
    assert_eq!(striped(&["DD?DDDDD", "DDDDDDDD"], 0), [(2, D)]);
    let row = |letters, lba| told(Level::Concat, letters, lba, u32::MAX);
    assert_eq!(row(&["DDDD", "????", "DDDD"], 0), [(4, D), (4, M), (4, D)]);
    assert_eq!(row(&["DD??", "DDDD", "DDDD"], 0), [(2, D)]);
    assert_eq!(row(&["DDDD", "DD??", "DDDD"], 0), [(6, D)]);
}

/// Block by block and from each block on it is what the member says that has the block.
#[test]
fn each_block_is_what_its_member_says() {
    let letters = ["MDDDDAAADDDDDDDDMMMM", "DDDDDDDDDDDDMDMDDDDD", "DDDDDDDDDDDADDDDDDDDDDD"];
    for (level, blocks) in [(Level::Striped, 60), (Level::Concat, 60)] {
        let sizes = letters.map(|letters| letters.len() as u64);
        let layout = Layout::new(level, 4, 512, &sizes).unwrap();
        assert_eq!(layout.blocks(), blocks);
        let members = members(&letters);
        let is = |lba| {
            let here = layout.run(lba, 1).unwrap();
            match letters[here.member].as_bytes()[here.lba as usize] {
                b'M' => M,
                b'A' => A,
                _ => D,
            }
        };
        for (lba, wanted) in (0..blocks).flat_map(|lba| (1..=blocks as u32).map(move |wanted| (lba, wanted)))
        {
            let runs = runs(&allocation(&layout, &members, lba, wanted));
            let told: Vec<State> =
                runs.iter().flat_map(|(blocks, state)| vec![*state; *blocks as usize]).collect();
            let end = blocks.min(lba + u64::from(wanted));
            assert_eq!(told, (lba..end).map(is).collect::<Vec<_>>(), "{level:?} {lba} {wanted}");
            assert!(runs.windows(2).all(|two| two[0].1 != two[1].1), "as long as can be");
        }
    }
}

#[test]
fn no_more_runs_are_told_than_there_is_room_for() {
    let (even, odd) = ("D".repeat(200), "M".repeat(200));
    let striped = told(Level::Striped, &[&even, &odd], 2, u32::MAX);
    assert_eq!((striped.len(), striped[0], striped[RUNS_MAX - 1]), (RUNS_MAX, (2, D), (4, M)));
    // Each has as many as it can tell of.
    let changing = "DM".repeat(100);
    let row = told(Level::Concat, &[&changing, &even], 0, u32::MAX);
    assert_eq!(row, [(1, D), (1, M)].repeat(RUNS_MAX / 2));
    let striped = told(Level::Striped, &[&even, &changing], 0, u32::MAX);
    assert_eq!(striped.len(), RUNS_MAX);
}

/// An array that is far too large to be looked at block by block, or strip by strip.
#[test]
fn the_work_does_not_grow_with_the_blocks() {
    #[derive(Debug)]
    struct Empty;
    impl Bdev for Empty {
        fn info(&self) -> Info {
            unreachable!("the layout is known")
        }
        fn open(&self, _: ReactorId) -> Box<dyn Channel> {
            unreachable!("nothing is read or written")
        }
        fn allocation(&self, lba: u64, blocks: u32) -> Allocation {
            let mut teller = Teller::new(lba, blocks, 1);
            teller.hole_to(u64::MAX);
            teller.finish()
        }
    }
    let layout = Layout::new(Level::Striped, 1, 512, &[1 << 61; 7]).unwrap();
    let members: Vec<Arc<dyn Bdev>> = (0..7).map(|_| Arc::new(Empty) as _).collect();
    let at = |lba| runs(&allocation(&layout, &members, lba, u32::MAX));
    assert_eq!(at(1 << 60), [(u32::MAX, D)]);
    assert_eq!(at((7 << 61) - 9), [(9, D)]);
}

/// One that tells of more than it was asked is not believed to know other blocks by that.
#[test]
fn who_tells_too_much_tells_nothing_of_others() {
    #[derive(Debug)]
    struct Talker(Letters);
    impl Bdev for Talker {
        fn info(&self) -> Info {
            self.0.info()
        }
        fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
            self.0.open(reactor)
        }
        fn allocation(&self, _: u64, _: u32) -> Allocation {
            self.0.allocation(0, u32::MAX)
        }
    }
    let talker = Talker(letters_of("DDDDDDDD", 512, true));
    let members: Vec<Arc<dyn Bdev>> = vec![Arc::new(talker), Arc::new(letters_of("MMMM", 512, true))];
    let layout = Layout::new(Level::Concat, 4, 512, &[4, 4]).unwrap();
    assert_eq!(runs(&allocation(&layout, &members, 1, 99)), [(3, D), (4, M)]);
}

/// Strips of 8 KiB are two blocks of 4 KiB.
#[test]
fn an_array_tells_what_it_offers_while_it_is_there() {
    let array = |anchors: bool| {
        let first = Arc::new(letters_of("DDMDAA", 4096, true));
        let second = Arc::new(letters_of("DAMMMM", 4096, anchors));
        let recipe = Recipe {
            name: "R".to_owned(),
            uuid: [7; 16],
            level: Level::Striped,
            strip_bytes: 8192,
            members: vec![first, Arc::clone(&second) as _],
            known: None,
            keeps: None,
        };
        (Raid::new(recipe), second)
    };
    let (raid, _) = array(true);
    assert_eq!(runs(&raid.allocation(1, 99)), [(2, D), (1, A), (1, M), (1, D), (2, M), (2, A), (2, M)]);
    // One that cannot anchor has no anchored blocks, whoever of its members can.
    let (raid, second) = array(false);
    assert!(!raid.info().unmap.unwrap().anchors);
    assert_eq!(runs(&raid.allocation(0, 99)), [(3, D), (2, M), (1, D), (6, M)]);
    // A member that is not as it was takes it away.
    second.disk.resize(5).unwrap();
    assert_eq!((raid.info().blocks, runs(&raid.allocation(0, 99))), (0, vec![]));
}
