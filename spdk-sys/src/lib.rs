//! SPDK's C interface, as bindgen reads it from the headers that are installed, with its layout tests.
//!
//! There is nothing safe in here: `lunette::bdev::spdk` is what makes it so. Without the feature `spdk` the crate is empty
//! and needs nothing.
#![cfg_attr(not(feature = "spdk"), no_std)]

#[cfg(feature = "spdk")]
include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
