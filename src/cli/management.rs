//! What `serve` does for `--config`, `--rpc-socket` and `--wait-for-rpc`: the file's calls are made once the daemon runs,
//! then it is ready; or one fails, and the daemon stops before anybody was served.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::Failed;
use super::args::Serve;
use super::handed::{Portals, Sockets};
use super::socket::{self, Wanted};
use crate::control::thread::Remote;
use crate::rpc::config::Plan;
use crate::rpc::context::{Context, LogLevel, Parts, Stage};
use crate::rpc::door::Door;
use crate::rpc::server::{Server, Socket};
#[cfg(feature = "rpc-tls")]
use crate::rpc::tcp;
use crate::rpc::versions::{TakeError, Taken, Versions};

/// What was asked for and is there.
#[derive(Debug)]
pub(super) struct Management {
    plan: Option<Plan>,
    /// The file, by its real name.
    config_file: Option<PathBuf>,
    keeps: Option<Taken>,
    sockets: Vec<Socket>,
    #[cfg(feature = "rpc-tls")]
    entries: Vec<tcp::Bound>,
    waits: bool,
    record_dir: Option<PathBuf>,
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
    Serving { _servers: Vec<Server> },
    Failed(Failed),
}

impl Management {
    /// Reads and binds.
    pub(super) fn prepare(args: &Serve, given: &mut Sockets) -> Result<Option<Management>, Failed> {
        if let Some(path) = args.config.as_deref().filter(|_| args.create_config) {
            create(path)
                .map_err(|error| Failed::failure(format!("--create-config {}: {error}", path.display())))?;
        }
        let sockets = bind(args, given)?;
        #[cfg(feature = "rpc-tls")]
        let entries = args.rpc_tcp.iter().map(tcp::Bound::bind).collect::<Result<Vec<_>, _>>();
        #[cfg(feature = "rpc-tls")]
        let entries = entries.map_err(Failed::failure)?;
        #[cfg(feature = "rpc-tls")]
        let is_commanded = !sockets.is_empty() || !entries.is_empty();
        #[cfg(not(feature = "rpc-tls"))]
        let is_commanded = !sockets.is_empty();
        if args.config.is_none() && !is_commanded && args.record_dir.is_none() {
            return Ok(None);
        }
        let config_file = args.config.as_deref().map(std::fs::canonicalize).transpose();
        let config_file = config_file.map_err(|error| Failed::failure(format!("--config: {error}")))?;
        // Before it is read: a daemon that ends, or a rollback, may be writing it.
        let keeps = match &config_file {
            Some(path) if is_commanded && !args.no_save => take(path)?,
            _ => None,
        };
        let plan = args.config.as_deref().map(Plan::read).transpose().map_err(Failed::failure)?;
        let exposure = args.config.as_deref().zip(plan.as_ref()).and_then(|(path, plan)| plan.exposure(path));
        if let Some(exposure) = exposure {
            tracing::warn!("--config: {exposure}");
        }
        let record_dir = args.record_dir.as_deref().map(std::path::absolute).transpose();
        let record_dir = record_dir.map_err(Failed::failure)?;
        let waits = args.wait_for_rpc;
        Ok(Some(Management {
            plan,
            config_file,
            keeps,
            sockets,
            #[cfg(feature = "rpc-tls")]
            entries,
            waits,
            record_dir,
        }))
    }

    /// Makes the calls on a thread of its own, then runs `ready`.
    pub(super) fn start(
        mut self,
        control: &Remote,
        args: &Serve,
        log: LogLevel,
        portals: Portals,
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
            handed: Arc::clone(&portals.handed),
        });
        let progress = Arc::new(Mutex::new(Progress::Starting));
        let managed = Managed { progress: Arc::clone(&progress), context: Arc::clone(&context) };
        let control = control.clone();
        let thread = std::thread::Builder::new().name("start".to_owned());
        let run = move || {
            let reached = match self.run(context, &portals).and_then(|servers| ready().map(|()| servers)) {
                Ok(servers) => Progress::Serving { _servers: servers },
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

    fn run(self, context: Arc<Context>, portals: &Portals) -> Result<Vec<Server>, Failed> {
        let plan = self.plan.unwrap_or_default();
        plan.run(&context, !self.waits).map_err(|text| Failed::failure(format!("--config: {text}")))?;
        if !self.waits {
            portals.settle(true)?;
        }
        if let Some(folder) = self.record_dir {
            context
                .record_to(folder)
                .map_err(|fault| Failed::usage(format!("--record-dir: {}", fault.text())))?;
        }
        let serve = |socket: Socket| socket.serve(Arc::clone(&context)).map_err(Failed::failure);
        let servers = self.sockets.into_iter().map(serve);
        #[cfg(feature = "rpc-tls")]
        let servers = servers.chain(self.entries.into_iter().map(|entry| {
            tracing::info!("calls are taken at tcp://{}", entry.address());
            entry.serve(Arc::clone(&context)).map_err(Failed::failure)
        }));
        servers.collect()
    }
}

/// Makes a configuration with nothing in it, unless there is one. It will hold CHAP secrets.
fn create(path: &Path) -> std::io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = PathBuf::from(unfinished);
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(b"{\"subsystems\":[]}\n")?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)
}

/// Every socket there is to be.
fn bind(args: &Serve, given: &mut Sockets) -> Result<Vec<Socket>, Failed> {
    let mut sockets: Vec<Socket> = bind_first(args, given)?.into_iter().collect();
    for door in &args.rpc_also {
        let door = door.clone();
        sockets.push(match given.at(&door.path) {
            Some(listener) => Socket::handed_over(listener, door),
            None => Socket::bind_as(door).map_err(Failed::failure)?,
        });
    }
    Ok(sockets)
}

/// The socket for everything, if there is to be one. Where nobody named it and nobody needs it, it may be missing.
fn bind_first(args: &Serve, given: &mut Sockets) -> Result<Option<Socket>, Failed> {
    let wanted = args.rpc_socket.clone().map_or_else(socket::wanted, Wanted::Named);
    let handed_over = match &wanted {
        Wanted::Named(path) => given.at(path).map(|listener| (listener, path.clone())),
        Wanted::Usual(path) => {
            given.at(path).map(|listener| (listener, path.clone())).or_else(|| given.rpc())
        }
        Wanted::Nowhere => None,
    };
    if let Some((listener, path)) = handed_over {
        return Ok(Some(Socket::handed_over(listener, Door::open(path))));
    }
    let usual = match wanted {
        Wanted::Named(path) => return Socket::bind(&path).map(Some).map_err(Failed::failure),
        Wanted::Usual(path) => {
            let made = socket::make_folder(&path);
            made.map_err(|error| format!("{}: {error}", path.display()))
                .and_then(|()| Socket::bind(&path).map_err(|error| error.to_string()))
        }
        Wanted::Nowhere => Err("LUNETTE_SOCKET is set to nothing".to_owned()),
    };
    match usual {
        Ok(socket) => Ok(Some(socket)),
        Err(why) if args.is_commanded_only() => {
            Err(Failed::failure(format!("{why}; --rpc-socket PATH names another socket")))
        }
        Err(why) => {
            tracing::info!(
                "no calls are taken (share, status): {why}; --rpc-socket PATH names another socket"
            );
            Ok(None)
        }
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
    /// What its calls work on.
    #[cfg(feature = "metrics")]
    pub(super) fn context(&self) -> Arc<Context> {
        Arc::clone(&self.context)
    }

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
