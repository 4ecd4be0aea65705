//! A reactor neither allocates nor frees in its data path: counted per thread, over real sockets.
//!
//! A test binary of its own, as its allocator is the process's.
#![expect(clippy::unwrap_used, reason = "a test may end where it stands")]

mod counting;
mod load;
mod offloads;
mod world;

use std::sync::Mutex;
use std::sync::atomic::Ordering;

use load::Load;
use world::World;

/// Commands after the warm-up.
const COMMANDS: u64 = 100_000;
/// Commands before: they touch every table, every size and every rare path once.
const WARM_UP: u64 = 5_000;

/// One test at a time: what reactors allocate is counted together.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn a_reactor_does_not_allocate() {
    let _turn = TURN.lock().unwrap();
    let mut world = World::new(2);
    let mut load = Load::new(&mut world);
    load.run(&mut world, WARM_UP);

    let before = load.tally();
    counting::start();
    load.run(&mut world, COMMANDS);
    let (allocations, frees) = counting::stop();
    let tally = load.tally().since(&before);
    println!("{tally:?}");
    assert_eq!((allocations, frees), (0, 0), "the first one:\n{}", counting::first());

    // The mix was what it is meant to be.
    assert!(tally.commands >= COMMANDS);
    for (what, count) in tally.parts() {
        assert!(count >= 20, "{what}: only {count}");
    }
    assert!(tally.on_reactor.iter().all(|commands| *commands > COMMANDS / 10), "{tally:?}");

    // The counter counts: one `Box` per command on the reactors' threads is found.
    world.is_planted.store(true, Ordering::Relaxed);
    counting::start();
    load.run(&mut world, 1_000);
    let (allocations, frees) = counting::stop();
    world.is_planted.store(false, Ordering::Relaxed);
    assert!(allocations >= 1_000 && frees >= 1_000, "{allocations} allocations, {frees} frees");
    assert!(counting::first().contains("world.rs"), "{}", counting::first());

    load.log_out(&mut world);
    assert_eq!(world.complaints, [] as [String; 0]);
    assert_eq!(world.controller.violations(), [] as [String; 0]);
    world.stop();
}
