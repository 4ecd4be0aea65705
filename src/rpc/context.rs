//! What calls work on: the daemon, and how far it has started.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tracing::level_filters::LevelFilter;

use super::fault::Fault;
use crate::control::Control;
use crate::control::thread::Remote;
use crate::net::kernel::KernelNet;
use crate::time::Tick;

/// How far the daemon has started.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    /// Options can be set, nothing can be served.
    Startup,
    /// `framework_start_init` was called, or nobody asked to wait for it.
    Runtime,
}

/// How much is logged.
#[derive(Clone)]
pub struct LogLevel {
    level: Arc<Mutex<LevelFilter>>,
    apply: Arc<dyn Fn(LevelFilter) + Send + Sync>,
}

impl LogLevel {
    /// It is `level` now; `apply` changes it.
    pub fn new(level: LevelFilter, apply: impl Fn(LevelFilter) + Send + Sync + 'static) -> LogLevel {
        LogLevel { level: Arc::new(Mutex::new(level)), apply: Arc::new(apply) }
    }

    pub(super) fn get(&self) -> LevelFilter {
        *lock(&self.level)
    }

    pub(super) fn set(&self, level: LevelFilter) {
        *lock(&self.level) = level;
        (self.apply)(level);
    }
}

impl std::fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LogLevel").field(&self.get()).finish()
    }
}

/// What calls work on.
#[derive(Debug)]
pub struct Context {
    control: Remote,
    stage: Mutex<Stage>,
    stage_changed: Condvar,
    pub(super) log: LogLevel,
}

impl Context {
    /// Of a daemon that will run. At [`Stage::Startup`] it waits for `framework_start_init`.
    pub fn new(control: Remote, stage: Stage, log: LogLevel) -> Context {
        Context { control, stage: Mutex::new(stage), stage_changed: Condvar::new(), log }
    }

    /// Runs `change` on control's thread.
    pub(super) fn control<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Control<KernelNet>, Tick) -> R + Send + 'static,
    ) -> Result<R, Fault> {
        self.control.call(change).ok_or_else(Fault::stopped)
    }

    /// Asks the daemon to stop, as SIGTERM does.
    pub(super) fn drain(&self) {
        self.control.drain();
    }

    /// How far the daemon has started.
    pub fn stage(&self) -> Stage {
        *lock(&self.stage)
    }

    /// It has started.
    pub(super) fn start(&self) {
        *lock(&self.stage) = Stage::Runtime;
        self.stage_changed.notify_all();
    }

    /// Waits until it has.
    pub(super) fn wait_started(&self) {
        let guard = lock(&self.stage);
        let waited = self.stage_changed.wait_while(guard, |stage| *stage < Stage::Runtime);
        drop(waited);
    }
}

/// Each change under these locks is one assignment: a thread that panicked with one has left nothing half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
