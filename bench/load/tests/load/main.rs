//! The load generator against lunette, served in this process, and against servers of a few lines that do wrong.

mod fake;
mod faults;
mod loads;
mod program;
mod world;
