//! Out of results: tables for people and for the page, plots beside it.

mod plots;
mod tables;

pub(crate) use plots::plots;
pub(crate) use tables::{page, text};

#[cfg(test)]
mod tests;
