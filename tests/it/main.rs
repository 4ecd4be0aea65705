//! The integration tests, one binary: a module per subject.

mod data;
#[path = "../fuzz_bodies/mod.rs"]
mod fuzz_bodies;
mod fuzz_smoke;
mod harness;
mod hostile;
mod sim;
mod login;
mod session;
mod tidy;
mod tmf;
