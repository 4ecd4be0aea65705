//! The whole driver over the mock controller: contract, misbehaviour by seed, power cuts.

mod atomic;
mod contract;
mod crash;
mod driven;
mod erase;
mod power;
mod real;
mod world;
