//! What the fuzzers run, each body a function of bytes that panics on a finding. `fuzz/` and the integration tests
//! include this folder by path, so both run the same.
//!
//! Besides panics and overflows in the code itself, each body checks what must hold whatever the peer says.
#![expect(clippy::unwrap_used, reason = "a test may end where it stands")]

mod cdb;
mod deframe;
mod import;
mod json;
mod keys;
mod login;
mod pdu;
mod reserve;
mod session;
mod source;
mod views;
mod world;

/// A fuzz target's body.
type Body = fn(&[u8]);

/// Every body by the name of its fuzz target.
pub(crate) const BODIES: [(&str, Body); 10] = [
    ("cdb", cdb::one),
    ("deframe", deframe::one),
    ("import", import::one),
    ("json", json::one),
    ("keys", keys::one),
    ("login", login::one),
    ("nvme", lunette::bdev::nvme::fuzzing::one),
    ("nvme_tcp", lunette::bdev::nvme::fuzz_tcp),
    ("reserve", reserve::one),
    ("session", session::one),
];

/// Runs the body of this name.
///
/// # Panics
/// On a finding; and where there is no such body.
pub(crate) fn run(name: &str, data: &[u8]) {
    let body = BODIES.iter().find(|(known, _)| *known == name);
    body.expect("a fuzz target is named after a body").1(data);
}
