//! The integration tests, one binary: a module per subject.

#[path = "../fuzz_bodies/mod.rs"]
mod fuzz_bodies;
mod fuzz_smoke;
mod sim;
mod tidy;
