//! The simulator: whole worlds of reactors, control, disks and initiators, lived through by seed.
//!
//! `LUNETTE_SIM_SEEDS` says how many seeds, `LUNETTE_SIM_SEED` tells the story of one.

mod arrays;
mod bugs;
mod calm;
mod cell;
mod cells;
mod chaos;
mod copies;
mod lost;
mod mirrors;
mod nvme;
mod oracle;
mod paced;
mod pieces;
mod qos;
mod reserve;
mod round;
mod scarce;
mod session;
mod several;
mod views;
mod what;
mod world;

use std::time::Instant;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn seeds_run_clean() {
    if let Some(seed) = number("LUNETTE_SIM_SEED") {
        return chaos::tell(seed, None);
    }
    let count = number("LUNETTE_SIM_SEEDS").unwrap_or(300);
    let start = Instant::now();
    let failures: Vec<(u64, String)> = (0..count)
        .filter_map(|seed| chaos::run(seed, None).err().map(|error| (seed, error)))
        .take(6)
        .collect();
    println!("{count} seeds in {:?}", start.elapsed());
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn a_seed_is_the_whole_story() {
    for seed in 0..20 {
        assert_eq!(chaos::run(seed, None), chaos::run(seed, None), "seed {seed}");
    }
}
