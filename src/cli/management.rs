//! What `serve` does for `--config`, `--rpc-socket` and `--wait-for-rpc`: the file's calls are made once the daemon runs,
//! then it is ready; or one fails, and the daemon stops before anybody was served.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::Failed;
use super::args::Serve;
use crate::control::thread::Remote;
use crate::rpc::config::Plan;
use crate::rpc::context::{Context, LogLevel, Parts, Stage};
use crate::rpc::server::{Server, Socket};
use crate::rpc::versions::{TakeError, Taken, Versions};

/// What was asked for and is there.
#[derive(Debug)]
pub(super) struct Management {
    plan: Option<Plan>,
    /// The file, by its real name.
    config_file: Option<PathBuf>,
    keeps: Option<Taken>,
    socket: Option<Socket>,
    waits: bool,
}

/// A daemon under management; [`Managed::end`] once it has stopped.
#[derive(Debug)]
pub(super) struct Managed {
    progress: Arc<Mutex<Progress>>,
    context: Arc<Context>,
}

#[derive(Debug)]
enum Progress {
    Starting,
    Serving { _server: Option<Server> },
    Failed(Failed),
}

impl Management {
    /// Reads and binds.
    pub(super) fn prepare(args: &Serve) -> Result<Option<Management>, Failed> {
        if args.config.is_none() && args.rpc_socket.is_none() {
            return Ok(None);
        }
        let plan = args.config.as_deref().map(Plan::read).transpose().map_err(Failed::failure)?;
        let socket = args.rpc_socket.as_deref().map(Socket::bind).transpose().map_err(Failed::failure)?;
        let config_file = args.config.as_deref().map(std::fs::canonicalize).transpose();
        let config_file = config_file.map_err(|error| Failed::failure(format!("--config: {error}")))?;
        let keeps = match &config_file {
            Some(path) if socket.is_some() && !args.no_save => take(path)?,
            _ => None,
        };
        Ok(Some(Management { plan, config_file, keeps, socket, waits: args.wait_for_rpc }))
    }

    /// Makes the calls on a thread of its own, then runs `ready`.
    pub(super) fn start(
        mut self,
        control: &Remote,
        args: &Serve,
        log: LogLevel,
        ready: impl FnOnce() -> Result<(), Failed> + Send + 'static,
    ) -> Result<Managed, Failed> {
        let context = Context::new(Parts {
            control: control.clone(),
            stage: Stage::Startup,
            config_file: self.config_file.take(),
            keeps: self.keeps.take(),
            hugepages: args.hugepages.into(),
            unsafe_noiommu: args.unsafe_noiommu,
            log,
        });
        let progress = Arc::new(Mutex::new(Progress::Starting));
        let managed = Managed { progress: Arc::clone(&progress), context: Arc::clone(&context) };
        let control = control.clone();
        let thread = std::thread::Builder::new().name("start".to_owned());
        let run = move || {
            let reached = match self.run(context).and_then(|server| ready().map(|()| server)) {
                Ok(server) => Progress::Serving { _server: server },
                Err(failed) => Progress::Failed(failed),
            };
            if matches!(reached, Progress::Failed(_)) {
                control.drain();
            }
            *progress.lock().unwrap_or_else(PoisonError::into_inner) = reached;
        };
        thread.spawn(run).map_err(Failed::failure)?;
        Ok(managed)
    }

    fn run(self, context: Arc<Context>) -> Result<Option<Server>, Failed> {
        let plan = self.plan.unwrap_or_default();
        plan.run(&context, !self.waits).map_err(|text| Failed::failure(format!("--config: {text}")))?;
        let serve = |socket: Socket| socket.serve(context).map_err(Failed::failure);
        self.socket.map(serve).transpose()
    }
}

/// The right to save what calls change. Where the file is for reading only, it is said that nothing is.
fn take(path: &Path) -> Result<Option<Taken>, Failed> {
    match Versions::of(path).take() {
        Ok(taken) => Ok(Some(taken)),
        Err(TakeError::Io(error))
            if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) =>
        {
            tracing::warn!(%error, "what calls change is gone at the next start (--no-save says that this is meant)");
            Ok(None)
        }
        Err(error) => Err(Failed::failure(format!("--config: {error}"))),
    }
}

impl Managed {
    /// Takes the socket away and gives NVMe controllers back. Says why the daemon was stopped, if it did so itself.
    pub(super) fn end(self) -> Result<(), Failed> {
        self.context.detach_all();
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *progress, Progress::Starting) {
            Progress::Failed(failed) => Err(failed),
            Progress::Starting | Progress::Serving { .. } => Ok(()),
        }
    }
}
