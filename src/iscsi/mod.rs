//! iSCSI (RFC 7143), sans-IO: bytes go in, requests come out, replies go in, bytes come out.
//!
//! No socket, clock, thread or device. Login and discovery ([`login`], [`discovery`]) run on the control thread and may
//! allocate; a connection in full feature phase (`conn`) runs on a reactor and does not.
#![cfg_attr(
    not(test),
    deny(
        clippy::disallowed_types,
        clippy::disallowed_methods,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::print_stdout,
        clippy::too_many_lines
    )
)]

pub mod chap;
pub mod conn;
pub mod discovery;
pub mod error;
mod frames;
pub mod keys;
pub mod login;
pub mod negotiate;
pub mod obligation;
pub mod params;
pub mod recorder;
pub mod send_targets;
pub mod session;
pub mod slow;
pub mod sn;
pub mod task;
pub mod text;
pub mod tx;
pub mod window;
pub mod wire;
