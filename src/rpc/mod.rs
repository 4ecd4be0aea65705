//! JSON-RPC 2.0 over a UNIX socket, with SPDK's method names, parameters and error codes, so that the tools people have
//! drive lunette unchanged.
//!
//! [`server`] reads and answers on threads of its own, [`envelope`] knows the protocol, [`methods`] is the table of what
//! can be called, [`config`] replays and writes files of calls, of which [`versions`] keeps the last. Calls change what is served through
//! [`crate::control::thread::Remote`]; whatever may block happens on the socket's threads.

mod apply;
mod auth_file;
pub mod calls;
pub mod config;
pub mod context;
mod converse;
mod crowd;
mod devices;
pub mod difference;
pub mod door;
pub mod envelope;
mod events;
pub mod fault;
mod hotplug;
mod isns;
pub mod json;
pub(crate) mod keep;
pub mod methods;
mod mirrors;
mod nvme;
mod orders;
pub mod params;
pub mod recipes;
mod recordings;
mod secrets;
pub mod server;
#[cfg(test)]
mod service;
#[cfg(feature = "rpc-tls")]
pub mod tcp;
mod types;
pub mod versions;
mod whole_file;
