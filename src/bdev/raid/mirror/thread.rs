//! The thread of a warden. It may block.

use std::sync::Arc;
use std::thread::{Builder, park_timeout};
use std::time::{Duration, Instant};

use super::Recipe;
use super::shared::Shared;
use super::warden::{Next, Warden};
use crate::time::Tick;

/// It looks so often at a device that has something of it.
const LOOK: Duration = Duration::from_micros(50);

#[expect(clippy::disallowed_methods, reason = "a thread of its own, which has to know how late it is")]
pub(super) fn start(shared: Arc<Shared>, recipe: Recipe) -> std::io::Result<()> {
    let epoch = Instant::now();
    let its = Arc::clone(&shared);
    // Its channels are opened, used and closed on this thread.
    let run = move || {
        let mut warden = Warden::new(Arc::clone(&its), recipe);
        loop {
            let now = Tick::from_ns(u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX));
            let is_over = its.is_over();
            if is_over && warden.end(now) {
                break;
            }
            match if is_over { Next::Soon } else { warden.step(now) } {
                Next::AtOnce => {}
                Next::Soon => park_timeout(LOOK),
                Next::After(ns) => park_timeout(Duration::from_nanos(ns)),
            }
        }
        drop(warden);
        its.let_go();
    };
    match Builder::new().name("raid1".to_owned()).spawn(run) {
        Ok(spawned) => {
            // Until then it looks by itself.
            let _ = shared.thread.set(spawned.thread().clone());
            Ok(())
        }
        Err(error) => {
            shared.end();
            shared.let_go();
            Err(error)
        }
    }
}
