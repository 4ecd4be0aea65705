//! lunette: an iSCSI target that polls and runs to completion.
//!
//! The layers and what each may name are in ARCHITECTURE.md.

pub mod bdev;
pub mod buf;
pub mod capture;
pub mod cli;
mod closed_file;
pub mod control;
mod file_lock;
pub mod histogram;
pub mod id;
pub mod import;
pub mod iscsi;
pub mod limits;
pub mod meter;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod net;
pub mod qos;
pub mod reactor;
pub mod rpc;
pub mod scsi;
#[cfg(feature = "sim")]
pub mod sim;
pub mod slab;
pub mod time;
#[cfg(not(feature = "sim"))]
mod unplanted;
