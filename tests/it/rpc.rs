//! The JSON-RPC socket: literal requests and answers, over a UNIX socket, of a daemon of this process.

mod calls;
mod cdrom;
mod config;
mod daemon;
mod drivers;
mod files;
mod hostile;
mod import;
mod isns;
mod keep;
mod mirror;
mod missing;
mod objects;
mod observing;
mod parts;
mod peers;
mod protection;
mod qos;
mod secrets;
mod sg;
mod targets;
#[cfg(feature = "rpc-tls")]
mod tcp;
mod units;
mod watch;
mod wire;
