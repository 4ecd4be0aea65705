//! A replay of fixed work: reactors, each with an initiator at the other end of a connection that no kernel is part
//! of, and the commands of one case. `lunette-counters CASE` runs it and says what it counted, `lunette-counters` names the
//! cases.
//!
//! Instructions, locked ones and bytes copied are counted by callgrind outside of it: scripts/counters.py runs this
//! and compares with bench/counters.toml.

mod allocations;
mod case;
mod initiator;
mod moves;
mod net;
mod planted;
mod world;

use std::process::ExitCode;

use case::CASES;
use world::World;

fn main() -> ExitCode {
    let Some(name) = std::env::args().nth(1) else {
        CASES.iter().for_each(|case| println!("{}", case.name));
        return ExitCode::SUCCESS;
    };
    let Some(case) = CASES.iter().find(|case| case.name == name) else {
        eprintln!("counters: there is no case {name}");
        return ExitCode::from(2);
    };
    let planted = std::env::args().nth(2).map(|_| planted::Planted::new());
    let mut world = World::new(*case, planted);
    world.warm_up();
    let counts = world.measure();
    println!("commands {}", counts.commands);
    println!("turns {}", counts.turns);
    println!("recv {}", counts.recv);
    println!("send {}", counts.send);
    println!("allocations {}", counts.allocations);
    println!("messages {}", counts.messages);
    ExitCode::SUCCESS
}
