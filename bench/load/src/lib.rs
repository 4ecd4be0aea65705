//! A load generator that speaks iSCSI (RFC 7143), cheap enough that the target is the bottleneck.
//!
//! One thread, one epoll descriptor, one receive and one send per connection and turn. Headers are copies of templates in
//! which a few fields are patched; an Initiator Task Tag is the index of a slot; the payload of reads is dropped in the
//! kernel (`MSG_TRUNC`) where that is cheaper than a copy and nobody looks at it. Logins and what else is rare go through
//! `lunette-initiator`, which checks the target more strictly; here only what costs nothing is checked.
//!
//! * [`options`]: the command line; [`report`]: what comes out;
//! * [`login`]: sessions of iSCSI, many at a time; [`wire`]: connections of the bare echo pair;
//! * [`conn`]: a connection under load; [`mod@bench`]: what all of them share;
//! * [`aim`]: which blocks come next; [`ledger`]: what blocks hold, for `--verify`;
//! * [`engine`]: the loop.
//!
//! Not done on purpose: several connections in a session, recovery of any kind. A connection that is lost stays lost.

pub mod aim;
pub mod bench;
pub mod clock;
pub mod conn;
pub mod engine;
pub mod error;
pub mod ledger;
pub mod login;
pub mod options;
pub mod report;
pub mod wire;

pub use engine::run;
pub use error::LoadError;
pub use options::Options;
pub use report::Report;
