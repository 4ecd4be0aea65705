//! Reactors: one thread a core, each with its own connections, buffers, timers and channels, sharing nothing.
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

mod announce;
mod atomics;
mod chore;
mod conns;
mod copy;
mod exec;
mod fence;
mod hold;
mod hungry;
mod inbox;
mod lending;
pub mod look;
mod measure;
pub mod message;
mod pace;
mod pass;
mod planted;
pub mod port;
mod recover;
mod reserve;
mod serve;
mod spawn;
mod spin;
mod submit;
mod tables;
mod terminate;
mod tmf;
mod token;
mod transfer;
mod turn;
mod unit;
mod wait;
mod work;

pub use planted::Planted;
#[cfg(feature = "sim")]
pub use planted::{Bug, Census};
pub use spawn::{Idle, Recipe, Running, SpawnError, spawn};
pub use tables::Sizes;
pub use turn::{Reactor, Setup};
