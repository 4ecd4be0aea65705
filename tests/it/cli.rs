//! The commands as they are typed, at a daemon that runs.

mod daemon;
mod drain;
mod hidden;
mod pages;
mod share;
mod words;
