//! `lunette nvme`: what there is to be served, before it is.

use clap::{Args, Subcommand};

use super::{Failed, nvme_discover};

/// `lunette nvme`.
#[derive(Clone, Debug, Args)]
pub struct Nvme {
    /// What to do
    #[command(subcommand)]
    pub what: What,
}

/// What `lunette nvme` does.
#[derive(Clone, Debug, Subcommand)]
pub enum What {
    /// List the subsystems that a discovery controller knows.
    Discover(nvme_discover::Discover),
}

/// Does it.
pub(super) fn nvme(args: &Nvme) -> Result<(), Failed> {
    match &args.what {
        What::Discover(args) => nvme_discover::discover(args),
    }
}
