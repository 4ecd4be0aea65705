//! `serve --spdk-json`: SPDK's bdevs as disks, and what happens to them told to control.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use super::Failed;
use super::args::Serve;
use super::serve::Product;
use crate::bdev::Bdev;
use crate::bdev::spdk::{Notice, Options, Running, Severity, Spdk};
use crate::control::done::Done;
use crate::control::thread::Remote;
use crate::scsi::view::DeviceKind;

/// SPDK, running. To be dropped when nothing is served any more.
#[derive(Debug)]
pub(super) struct Attached {
    _spdk: Spdk,
    notices: Option<Receiver<Notice>>,
}

/// Starts SPDK where that is asked for; its disks.
pub(super) fn start(args: &Serve) -> Result<Option<(Attached, Vec<Product>)>, Failed> {
    let Some(path) = &args.spdk_json else { return Ok(None) };
    let failed =
        |error: &dyn std::fmt::Display| Failed::failure(format!("--spdk-json {}: {error}", path.display()));
    let config = std::fs::read(path).map_err(|error| failed(&error))?;
    let options = Options { config, hugepages: args.hugepages.into(), memory_mib: args.spdk_mem, log };
    let Running { spdk, disks, notices } = Spdk::start(options).map_err(|error| failed(&error))?;
    if disks.is_empty() {
        return Err(failed(&"it makes no bdev that can be served"));
    }
    tracing::info!(version = Spdk::version(), bdevs = disks.len(), "SPDK has started");
    let product = |disk: Arc<_>| {
        let product = crate::bdev::spdk::SpdkDisk::product(&disk).to_owned();
        // What makes it again is in SPDK's file, not in lunette's.
        Product {
            bdev: disk as Arc<dyn Bdev>,
            product,
            recipe: String::new(),
            kind: DeviceKind::Disk,
            path: None,
        }
    };
    let products = disks.into_iter().map(product).collect();
    Ok(Some((Attached { _spdk: spdk, notices: Some(notices) }, products)))
}

impl Attached {
    /// Tells control of what happens to the disks, as long as SPDK runs.
    pub(super) fn tell(&mut self, control: Remote) -> Result<(), Failed> {
        let Some(notices) = self.notices.take() else { return Ok(()) };
        let run = move || notices.into_iter().for_each(|notice| tell(&control, notice));
        std::thread::Builder::new()
            .name("spdk-notices".to_owned())
            .spawn(run)
            .map(drop)
            .map_err(Failed::failure)
    }
}

fn tell(control: &Remote, notice: Notice) {
    let (name, told) = match notice {
        Notice::Resized { name } => {
            tracing::info!(bdev = name, "SPDK has resized it");
            let owned = name.clone();
            (name, control.call(move |control, _| control.reread_bdev(&owned, Done::nobody())))
        }
        Notice::Removed { name } => {
            tracing::warn!(bdev = name, "SPDK takes it away: its LUNs go");
            let owned = name.clone();
            (name, control.call(move |control, _| control.unregister_bdev(&owned, Done::nobody())))
        }
    };
    // None: the daemon has stopped.
    if let Some(Err(error)) = told {
        tracing::error!(bdev = name, %error, "what happened to it cannot be shown");
    }
}

fn log(severity: Severity, line: &str) {
    match severity {
        Severity::Error => tracing::error!("SPDK: {line}"),
        Severity::Warning => tracing::warn!("SPDK: {line}"),
        Severity::Notice => tracing::debug!("SPDK: {line}"),
    }
}
