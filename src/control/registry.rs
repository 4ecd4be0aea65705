//! The block devices there are, by name.

use std::sync::Arc;

use super::error::{ChangeError, What};
use crate::bdev::Bdev;
use crate::id::UnitId;
use crate::limits::BDEVS_MAX;

/// A block device to be had.
#[derive(Clone, Debug)]
pub struct BdevSpec {
    /// The device; its name and UUID are in its [`crate::bdev::Info`].
    pub bdev: Arc<dyn Bdev>,
    /// What kind it is: shown by INQUIRY, cut at 16 characters, and in lists.
    pub product: String,
    /// How it was made, in the words of who made it. Kept and given back, never read.
    pub recipe: String,
    /// Names of the bdevs it is made of: they cannot be served or used again while it is there, and it goes when one of
    /// them goes.
    pub bases: Vec<String>,
}

/// A block device.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// What it was registered with.
    pub spec: BdevSpec,
    /// The logical unit made of it, since it was first mapped.
    pub unit: Option<UnitId>,
    /// It is being unregistered.
    pub is_leaving: bool,
}
