//! The integration tests, one binary: a module per subject.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod allegiance;
mod cli;
mod compliance;
mod connections;
mod copy;
mod copy_aborted;
mod data;
mod docs;
mod erase;
mod extended;
mod fast_abort;
mod fencing;
mod file;
#[path = "../fuzz_bodies/mod.rs"]
mod fuzz_bodies;
mod fuzz_smoke;
mod handed;
mod hang;
mod harness;
mod hostile;
mod hosts;
mod kept;
mod kill;
mod lba_status;
mod login;
mod lost;
mod metrics;
mod modes;
mod objects;
mod pass;
mod recovery;
mod removable;
mod resend;
mod reserve;
mod rfc7144;
mod rpc;
mod serve;
mod service;
mod session;
mod sim;
mod space;
mod swap;
mod tidy;
mod tmf;
