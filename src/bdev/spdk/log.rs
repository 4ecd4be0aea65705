//! SPDK's log. Its callback has no context, and lines may come from reactors, so they go through a bounded queue to the
//! caretaker; what does not fit is lost.
//!
//! An island of `unsafe`: a C string.
#![expect(unsafe_code, reason = "a line arrives as a C string")]

use std::ffi::{CStr, c_char, c_int};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use spdk_sys as spdk;
use spdk_sys::spdk_log_level as level;

/// How bad a line is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// SPDK failed at something.
    Error,
    /// Something an operator may want to know.
    Warning,
    /// The course of things.
    Notice,
}

const LINE_BYTES: usize = 240;
const LINES: usize = 256;

/// A line, cut where it is too long.
pub(super) struct Line {
    severity: Severity,
    bytes: usize,
    text: [u8; LINE_BYTES],
}

impl Line {
    pub(super) fn severity(&self) -> Severity {
        self.severity
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(self.text.get(..self.bytes).unwrap_or_default()).into_owned()
    }
}

/// The one log of the process, as SPDK is one.
static QUEUE: OnceLock<SyncSender<Line>> = OnceLock::new();

/// Takes SPDK's log over. Once for the process.
pub(super) fn open() -> Receiver<Line> {
    let (sender, lines) = sync_channel(LINES);
    if QUEUE.set(sender).is_ok() {
        // SAFETY: a callback that may be called at any time from anywhere.
        unsafe { spdk::lunette_spdk_log_to(Some(line)) };
    }
    lines
}

unsafe extern "C" fn line(spdk_level: c_int, text: *const c_char) {
    let severity = match spdk_level {
        level::SPDK_LOG_ERROR => Severity::Error,
        level::SPDK_LOG_WARN => Severity::Warning,
        level::SPDK_LOG_NOTICE => Severity::Notice,
        _ => return,
    };
    // SAFETY: the shim hands over a string of its own, for this call.
    let given = unsafe { CStr::from_ptr(text) }.to_bytes();
    let bytes = given.len().min(LINE_BYTES);
    let mut text = [0; LINE_BYTES];
    text[..bytes].copy_from_slice(&given[..bytes]);
    if let Some(queue) = QUEUE.get() {
        // A full queue loses it: a reactor does not wait.
        let _ = queue.try_send(Line { severity, bytes, text });
    }
}
