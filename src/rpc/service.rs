//! A daemon with one reactor and all that calls need, for tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use tracing::level_filters::LevelFilter;

use crate::buf::Hugepages;
use crate::control::store::disk;
use crate::control::thread::{self, Daemon, Remote};
use crate::rpc::config::Plan;
use crate::rpc::context::{Context, LogLevel, Parts, Stage};
use crate::rpc::versions::Taken;

/// It serves; it ends when dropped.
pub(super) struct Service {
    pub(super) context: Arc<Context>,
    pub(super) remote: Remote,
    thread: Option<JoinHandle<bool>>,
}

impl Service {
    pub(super) fn start() -> Service {
        Service::keeping(None)
    }

    /// The same, with what a file says.
    pub(super) fn of(plan: Plan) -> Service {
        Service::with(None, None, plan)
    }

    /// The same; changes are kept there.
    pub(super) fn keeping(keeps: Option<Taken>) -> Service {
        Service::with(keeps, None, Plan::default())
    }

    /// The same; what must survive is kept in this file.
    pub(super) fn with_state(file: &Path) -> Service {
        Service::with(None, Some(file.to_owned()), Plan::default())
    }

    fn with(keeps: Option<Taken>, state: Option<PathBuf>, plan: Plan) -> Service {
        let (started, is_started) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            let mut daemon = Daemon::start(thread::Options::small()).unwrap();
            if let Some(file) = state {
                daemon.keep_state(disk::open(&file).unwrap()).unwrap();
            }
            started.send(daemon.remote()).unwrap();
            daemon.run()
        });
        let remote = is_started.recv().unwrap();
        let context = Context::new(Parts {
            control: remote.clone(),
            stage: Stage::Startup,
            config_file: None,
            keeps,
            hugepages: Hugepages::Off,
            unsafe_noiommu: false,
            log: LogLevel::new(LevelFilter::INFO, |_| {}),
            handed: Arc::default(),
        });
        let service = Service { context, remote, thread: Some(thread) };
        plan.run(&service.context, true).unwrap();
        service
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.remote.drain();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.context.detach_all();
    }
}
