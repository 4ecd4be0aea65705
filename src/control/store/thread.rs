//! The thread that writes: control never waits for a disk.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::file::{self, Lines};
use super::folder::{Folder, save};
use super::{Changes, Saver};

/// A thread that writes a state file. Dropped, it first writes what it was given.
#[derive(Debug)]
pub struct Writer {
    orders: Option<mpsc::Sender<(u64, Changes)>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts it; `lines` is what the file holds. `told` is called on it after each write; `lock` is given up at its end.
pub(super) fn start(
    mut folder: Box<dyn Folder>,
    name: String,
    mut lines: Lines,
    mut told: impl FnMut(u64, io::Result<()>) + Send + 'static,
    lock: File,
) -> io::Result<Writer> {
    let (orders, ordered) = mpsc::channel::<(u64, Changes)>();
    let write = move || {
        for (revision, changes) in ordered {
            changes.apply(&mut lines);
            told(revision, save(&mut *folder, &name, &file::text(&lines)));
        }
        drop(lock);
    };
    let thread = std::thread::Builder::new().name("state".to_owned()).spawn(write)?;
    Ok(Writer { orders: Some(orders), thread: Some(thread) })
}

impl Saver for Writer {
    fn save(&mut self, revision: u64, changes: Changes) {
        if let Some(orders) = &self.orders {
            // It ends with us only.
            let _ = orders.send((revision, changes));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // What it could not write it has told.
            let _ = thread.join();
        }
    }
}
