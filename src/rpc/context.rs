//! What calls work on: the daemon, and how far it has started.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use tracing::level_filters::LevelFilter;

use super::calls::CallBook;
use super::devices::Devices;
use super::fault::Fault;
use super::isns::Registrar;
use super::keep::Keeper;
use super::mirrors::Mirrors;
use super::nvme::Controllers;
use super::recordings::{self, FILES_MAX, Folder, Keep};
use super::secrets::Sealed;
use super::versions::Taken;
use crate::bdev::file::LOCK_PATIENCE;
use crate::buf::Hugepages;
use crate::control::Control;
use crate::control::done::{Done, Outcome};
use crate::control::error::ChangeError;
use crate::control::handed::Handed;
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
    /// For threads that outlive a call.
    me: Weak<Context>,
    control: Remote,
    stage: Mutex<Stage>,
    stage_changed: Condvar,
    pub(super) devices: Devices,
    pub(super) nvme: Controllers,
    pub(super) mirrors: Mirrors,
    pub(super) isns: Registrar,
    pub(super) recordings: Keep,
    /// Where the secrets of accounts are that were not said.
    pub(super) sealed: Arc<Sealed>,
    /// Portal groups that are to start when everything else is there; none where they start at once.
    held_portals: Mutex<Option<Vec<u16>>>,
    /// Until then others get to leave the disks of a file that is being loaded: all of them together, as they are one predecessor's.
    locks_until: Mutex<Option<Instant>>,
    /// Where `lunette_save_config` writes to unless told.
    pub(super) config_file: Option<PathBuf>,
    /// Keeps that file as changes are made.
    keeper: Option<Keeper>,
    /// One configuration is applied at a time.
    applying: Mutex<()>,
    /// Where files are being saved by their names.
    saving: Mutex<BTreeSet<PathBuf>>,
    saving_ended: Condvar,
    /// The thread that makes the calls of a configuration that is applied.
    applier: Mutex<Option<ThreadId>>,
    /// What RAM disks are made of.
    pub(super) hugepages: Hugepages,
    /// Devices may be driven that no IOMMU keeps within their memory.
    pub(super) unsafe_noiommu: bool,
    pub(super) log: LogLevel,
    /// Listening sockets for portals that somebody else keeps.
    pub(super) handed: Arc<Handed>,
    /// What was called.
    pub calls: CallBook,
}

/// What a [`Context`] is made of.
#[derive(Debug)]
pub struct Parts {
    /// A daemon that will run.
    pub control: Remote,
    /// At [`Stage::Startup`] it waits for `framework_start_init`.
    pub stage: Stage,
    /// The file that was loaded: where `lunette_save_config` writes to unless told.
    pub config_file: Option<PathBuf>,
    /// The right to write that file: changes are kept there as they are made.
    pub keeps: Option<Taken>,
    /// What RAM disks are made of.
    pub hugepages: Hugepages,
    /// Devices may be driven that no IOMMU keeps within their memory.
    pub unsafe_noiommu: bool,
    /// How much is logged.
    pub log: LogLevel,
    /// Listening sockets for portals that somebody else keeps.
    pub handed: Arc<Handed>,
}

impl Context {
    /// Of these.
    pub fn new(parts: Parts) -> Arc<Context> {
        Arc::new_cyclic(|me| Context {
            me: Weak::clone(me),
            control: parts.control,
            stage: Mutex::new(parts.stage),
            stage_changed: Condvar::new(),
            devices: Devices::default(),
            nvme: Controllers::default(),
            mirrors: Mirrors::default(),
            isns: Registrar::default(),
            recordings: Keep::default(),
            sealed: Arc::default(),
            held_portals: Mutex::new(None),
            locks_until: Mutex::new(None),
            config_file: parts.config_file,
            keeper: parts.keeps.map(Keeper::new),
            applying: Mutex::new(()),
            saving: Mutex::default(),
            saving_ended: Condvar::new(),
            applier: Mutex::new(None),
            hugepages: parts.hugepages,
            unsafe_noiommu: parts.unsafe_noiommu,
            log: parts.log,
            handed: parts.handed,
            calls: CallBook::default(),
        })
    }

    /// For threads that outlive a call.
    pub(super) fn me(&self) -> Weak<Context> {
        Weak::clone(&self.me)
    }

    /// The way to control, for threads that outlive a call.
    pub(super) fn remote(&self) -> Remote {
        self.control.clone()
    }

    /// Runs `change` on control's thread.
    pub(super) fn control<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Control<KernelNet>, Tick) -> R + Send + 'static,
    ) -> Result<R, Fault> {
        self.control.call(change).ok_or_else(Fault::stopped)
    }

    /// Starts `change` on control's thread and waits until it is complete everywhere.
    pub(super) fn control_and_wait(
        &self,
        change: impl FnOnce(&mut Control<KernelNet>, Tick, Done) -> Result<(), ChangeError> + Send + 'static,
    ) -> Result<Result<Outcome, ChangeError>, Fault> {
        let is_part = *lock(&self.applier) == Some(std::thread::current().id());
        let called = self.control.call_and_wait(move |control, now, done| match is_part {
            true => control.as_part_of_held(|control| change(control, now, done)),
            false => change(control, now, done),
        });
        called.ok_or_else(Fault::stopped)
    }

    /// From now on changes that this thread makes belong together (`control::review`), until it says otherwise.
    pub(super) fn set_applier(&self, is_this: bool) {
        *lock(&self.applier) = is_this.then(|| std::thread::current().id());
    }

    /// From now on portal groups are created without being started.
    pub(super) fn hold_portals(&self) {
        *lock(&self.locks_until) = Some(Instant::now() + LOCK_PATIENCE);
        *lock(&self.held_portals) = Some(Vec::new());
    }

    /// So long another opener of a disk gets to leave.
    pub(super) fn lock_patience(&self) -> Duration {
        let until = lock(&self.locks_until).filter(|_| self.is_loading());
        until.map_or(LOCK_PATIENCE, |until| until.saturating_duration_since(Instant::now()))
    }

    /// Whether a file is being loaded.
    pub(super) fn is_loading(&self) -> bool {
        lock(&self.held_portals).is_some()
    }

    /// Whether the call that this thread makes stands in a file: at a start, or as another configuration is applied.
    pub(super) fn is_of_file(&self) -> bool {
        self.is_loading() || *lock(&self.applier) == Some(std::thread::current().id())
    }

    /// Whether a portal group that is created now may start; else it will by [`Context::release_portals`].
    pub(super) fn may_start_portals(&self, tag: u16) -> bool {
        lock(&self.held_portals).as_mut().map(|held| held.push(tag)).is_none()
    }

    /// Starts the portal groups that were held back.
    pub(super) fn release_portals(&self) -> Result<(), Fault> {
        let held = lock(&self.held_portals).take().unwrap_or_default();
        self.control(move |control, _| {
            for tag in held {
                // One that was deleted since needs no start.
                let _ = control.start_portal_group(tag);
            }
        })
    }

    /// Waits until no other configuration is being applied.
    pub(super) fn apply_alone(&self) -> MutexGuard<'_, ()> {
        lock(&self.applying)
    }

    /// Waits until nobody else saves to `path`, which is in nobody's way who saves to another: it may hang.
    pub(super) fn save_alone(&self, path: &Path) -> Saving<'_> {
        let waited = self.saving_ended.wait_while(lock(&self.saving), |paths| paths.contains(path));
        waited.unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
        Saving { context: self, path: path.to_owned() }
    }

    /// What there is now is what the configuration's file says.
    pub(super) fn begin_keeping(&self) -> Result<(), Fault> {
        self.keeper.as_ref().map_or(Ok(()), |keeper| keeper.begin(self))
    }

    /// A call has settled what it did not say, and what has to be the same at the next start: where data are. A file that is
    /// being loaded is written at its end; otherwise the call is saved as any.
    pub(super) fn settled(&self) {
        if let Some(keeper) = self.keeper.as_ref().filter(|_| self.is_loading()) {
            keeper.doubt();
        }
    }

    /// The same after the file was loaded, by no call: waits until it is saved, where changes are kept.
    pub(super) fn keep_settled(&self) -> Result<(), Fault> {
        self.keeper.as_ref().map_or(Ok(()), |keeper| keeper.keep_settled(self))
    }

    /// A device that the file tells the size of has another one: waits until that is saved, or leaves it to the end of loading.
    pub(super) fn keep_resized(&self) -> Result<(), Fault> {
        if self.is_loading() {
            self.settled();
            return Ok(());
        }
        self.keep_settled()
    }

    /// Waits until what `method` has changed will be there after the next start, where changes are kept.
    pub(super) fn keep(&self, method: &str) -> Result<(), Fault> {
        match &self.keeper {
            // Before that options are set for this start.
            Some(keeper) if self.stage() == Stage::Runtime => keeper.keep(self, method),
            _ => Ok(()),
        }
    }

    /// Whether `path` is where changes are kept: then it is written before the call is answered, whatever it says now.
    pub(super) fn keeps_at(&self, path: &Path) -> bool {
        let keeper = self.keeper.as_ref().filter(|keeper| keeper.file() == path);
        keeper.inspect(|keeper| keeper.doubt()).is_some()
    }

    /// From now on what a connection has recorded goes into a folder when something goes wrong on it, until the
    /// daemon stops.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn record_to(&self, folder: PathBuf) -> Result<(), Fault> {
        recordings::set_for_now(self, Folder { path: folder, files_max: FILES_MAX })
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

/// The right to save to a path, as long as it is there.
#[derive(Debug)]
pub(super) struct Saving<'a> {
    context: &'a Context,
    path: PathBuf,
}

impl Drop for Saving<'_> {
    fn drop(&mut self) {
        lock(&self.context.saving).remove(&self.path);
        self.context.saving_ended.notify_all();
    }
}

/// Each change under these locks is one assignment: a thread that panicked with one has left nothing half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
