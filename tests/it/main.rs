//! The integration tests, one binary: a module per subject.

mod data;
#[path = "../fuzz_bodies/mod.rs"]
mod fuzz_bodies;
mod fuzz_smoke;
mod harness;
mod hostile;
mod login;
mod session;
mod sim;
mod tidy;
mod tmf;
