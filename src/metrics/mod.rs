//! What the daemon does, for other eyes: figures for Prometheus and a status page, by HTTP, read-only.
//!
//! All that is shown is a [`sample::Sample`], taken between two turns of control's; from there on nothing touches what
//! serves. [`families`] makes the text of it that Prometheus reads (text format 0.0.4), `status` the JSON that the page
//! reads. [`server`] has a thread of its own.

pub mod families;
pub mod sample;
pub mod server;
mod status;
