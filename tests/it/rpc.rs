//! The JSON-RPC socket: literal requests and answers, over a UNIX socket, of a daemon of this process.

mod cdrom;
mod config;
mod daemon;
mod files;
mod hostile;
mod import;
mod isns;
mod keep;
mod objects;
mod protection;
mod sg;
mod targets;
mod units;
mod wire;
