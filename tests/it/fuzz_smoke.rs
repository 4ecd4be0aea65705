//! The fuzzers' bodies over inputs that a generator makes: random bytes, and earlier ones changed a little.
//!
//! What the fuzzers do for hours, in a second each, in every run of the tests.

use crate::fuzz_bodies;

const INPUTS: usize = 4_000;
const BYTES_MAX: usize = 2_000;
const KEPT: usize = 64;

/// A linear congruential generator: the high half of 64 bits.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    fn below(&mut self, bound: usize) -> usize {
        self.next() as usize % bound
    }

    fn byte(&mut self) -> u8 {
        (self.next() >> 24) as u8
    }
}

/// The inputs' seed is the place to change when looking for more.
fn smoke(name: &str) {
    let mut random = Random(1);
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for round in 0..INPUTS {
        let mut input = match kept.get(random.below(2 * KEPT)) {
            Some(old) => old.clone(),
            None => (0..random.below(BYTES_MAX)).map(|_| random.byte()).collect(),
        };
        for _ in 0..random.below(8) {
            mutate(&mut input, &mut random);
        }
        // The test's output is shown when it fails.
        if std::panic::catch_unwind(|| fuzz_bodies::run(name, &input)).is_err() {
            panic!("{name}, input {round}: {input:?}");
        }
        if kept.len() < KEPT {
            kept.push(input);
        } else {
            kept[random.below(KEPT)] = input;
        }
    }
}

fn mutate(input: &mut Vec<u8>, random: &mut Random) {
    if input.is_empty() {
        input.push(random.byte());
        return;
    }
    let at = random.below(input.len());
    match random.below(5) {
        0 => input[at] ^= 1 << random.below(8),
        1 => input[at] = random.byte(),
        2 => input.insert(at, random.byte()),
        3 => {
            input.remove(at);
        }
        _ => {
            let bytes = random.below(48).min(input.len() - at);
            let copy = input[at..at + bytes].to_vec();
            let to = random.below(input.len());
            input.splice(to..to, copy);
            input.truncate(BYTES_MAX);
        }
    }
}

#[test]
fn cdb() {
    smoke("cdb");
}

#[test]
fn deframe() {
    smoke("deframe");
}

#[test]
fn import() {
    smoke("import");
}

#[test]
fn json() {
    smoke("json");
}

#[test]
fn keys() {
    smoke("keys");
}

#[test]
fn login() {
    smoke("login");
}

#[test]
fn nvme() {
    smoke("nvme");
}

#[test]
fn nvme_tcp() {
    smoke("nvme_tcp");
}

#[test]
fn reserve() {
    smoke("reserve");
}

#[test]
fn session() {
    smoke("session");
}

#[test]
fn each_body_has_a_target() {
    let targets = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/fuzz_targets")).unwrap();
    let mut targets: Vec<_> = targets
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    targets.sort();
    assert_eq!(targets, fuzz_bodies::BODIES.map(|(name, _)| name));
}
