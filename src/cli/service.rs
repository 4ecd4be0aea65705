//! What a service manager is told (sd_notify(3)): that everything is served, that the daemon stops, and, where it asked
//! for a watchdog, a sign of life with a line on what is served. Where there is none, `$NOTIFY_SOCKET` is not set and nothing
//! is said.
//!
//! A sign of life is one of control and of every reactor: control asks each for a turn, and says so when all have taken it.
//! If one of them hangs there is no sign, and the service manager ends the process and starts it again. A device that hangs
//! hangs no reactor.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use sd_notify::NotifyState::{self, Ready, Status, Stopping, Watchdog};

use super::Failed;
use crate::control::Control;
use crate::control::done::Done;
use crate::control::thread::Remote;
use crate::net::Net;

/// Tells it that everything is served; the rest is told by a thread, for as long as the daemon runs.
pub(super) fn ready(control: &Remote) -> Result<(), Failed> {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(());
    }
    tell(&[Ready]);
    let control = control.clone();
    let thread = std::thread::Builder::new().name("service".to_owned());
    thread.spawn(move || watch(&control, sd_notify::watchdog_enabled())).map_err(Failed::failure)?;
    Ok(())
}

/// Tells what there is to tell until the daemon has stopped. A watchdog waits for `limit` from one sign of life to the next.
fn watch(control: &Remote, limit: Option<Duration>) {
    let (tells, stops) = mpsc::channel();
    control.tell_drain(tells);
    loop {
        let stopping = match limit {
            None => stops.recv().map_err(RecvTimeoutError::from),
            Some(limit) => {
                match turn(control) {
                    Some(status) => tell(&[Watchdog, Status(&status)]),
                    // It stops while it is asked.
                    None if stops.try_recv().is_ok() => return tell(&[Stopping]),
                    None => return,
                }
                // One that is late is not yet one that is missing.
                stops.recv_timeout(limit / 3)
            }
        };
        match stopping {
            Ok(()) => tell(&[Stopping]),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// What is served, once control and every reactor have taken a turn. None where the daemon has stopped.
fn turn(control: &Remote) -> Option<String> {
    let turned = control.call_and_wait(|control, _, done: Done| {
        control.await_turns(done);
        Ok(())
    })?;
    // The change cannot be refused.
    turned.ok()?;
    control.call(|control, _| status(control))
}

fn status<N: Net>(control: &Control<N>) -> String {
    let (targets, disks) = (control.targets().count(), control.bdevs().count());
    format!("targets: {targets}, disks: {disks}, sessions: {}", control.sessions().count())
}

/// A manager that cannot be reached is no reason to stop serving, and who watches will find that nothing came.
fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
