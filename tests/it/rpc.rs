//! The JSON-RPC socket: literal requests and answers, over a UNIX socket, of a daemon of this process.

mod cdrom;
mod config;
mod daemon;
mod files;
mod hostile;
mod objects;
mod targets;
mod wire;
