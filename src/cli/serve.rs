//! `lunette serve`: the daemon, put together from its switches.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::args::{PortalArg, Serve};
use super::disk::Disk;
use super::files::{self, File, Served};
use super::handed::Sockets;
use super::management::{Managed, Management};
use super::{Failed, cores, hints, log, planted, print, secrets, service, state};
use crate::bdev::Bdev;
use crate::bdev::count::Counted;
use crate::bdev::drive::{self, Drive};
use crate::bdev::malloc::{self, Malloc};
use crate::bdev::null::Null;
use crate::control::access::{InitiatorGroup, NameRule};
use crate::control::auth::{Auth, AuthGroup, Chap};
use crate::control::disks::Source;
use crate::control::error::ChangeError;
use crate::control::portals::{Portal, PortalGroup};
use crate::control::registry::BdevSpec;
use crate::control::store::Records;
use crate::control::targets::NewTarget;
use crate::control::thread::{Daemon, Options, Remote, SystemRandom};
use crate::control::{Control, options};
use crate::iscsi::chap::Account;
use crate::limits::{POOL_BYTES, POOL_BYTES_MIN};
#[cfg(feature = "metrics")]
use crate::metrics::server::{Bound, Lookout, Server};
use crate::net::Net;
use crate::reactor::message::NopInTimes;
use crate::rpc::recipes::{self, FileKind};
use crate::scsi::view::DeviceKind;
use crate::time::{MS_NS, SECOND_NS};

const MIB: usize = 1024 * 1024;

/// Serves until asked to stop.
pub(super) fn serve(args: &Serve) -> Result<(), Failed> {
    let mut given = Sockets::take()?;
    let log = log::start(&args.log)?;
    let management = Management::prepare(args, &mut given)?;
    let state = state::open(args)?;
    #[cfg_attr(not(feature = "spdk"), expect(unused_mut, reason = "SPDK has more"))]
    let mut disks = disks(args, state.as_ref().map(|state| &state.records))?;
    #[cfg(feature = "spdk")]
    let mut attached = super::spdk::start(args)?.map(|(attached, bdevs)| {
        disks.extend(bdevs);
        attached
    });
    if disks.is_empty() && management.is_none() {
        return Err(Failed::usage(
            "nothing to serve: give a file or device, --demo, --malloc disk0:256M, --null disk0:1G or --config FILE",
        ));
    }
    let allowed =
        cores::allowed().map_err(|error| Failed::failure(format!("which CPUs may be used: {error}")))?;
    let cores = match &args.cores {
        Some(text) => cores::parse(text, &allowed).map_err(Failed::usage)?,
        None => allowed.first().copied().into_iter().collect(),
    };
    let pool_bytes = pool_bytes(args.mem_size, cores.len())?;
    let account = secrets::account(args)?;
    let auth =
        account.as_ref().map_or(Auth::default(), |_| Auth { chap: Chap::Required, group: GROUP.into() });
    let nop_in_ns = u64::from(args.nop_in) * SECOND_NS;
    // Before anything else: it is what most often cannot be had.
    #[cfg(feature = "metrics")]
    let metrics = match given.metrics(args.metrics) {
        Some(listener) => Some(Bound::handed_over(listener)),
        None => args.metrics.map(Bound::bind),
    };
    #[cfg(feature = "metrics")]
    let metrics = metrics.transpose().map_err(Failed::failure)?;
    let given = given.portals()?;
    let portals = match args.portals.is_empty() && !given.named.is_empty() {
        true => given.named.iter().map(|&address| PortalArg { address, advertised: None }).collect(),
        false => args.portals(),
    };
    warn_if_open(args, &portals, account.as_ref());
    let portals = if disks.is_empty() || args.is_mapped_elsewhere() { Vec::new() } else { portals };
    let portals = portals
        .into_iter()
        .map(|portal| Ok(given.handed.listen(portal.address)?.advertised_as(portal.advertised)))
        .collect::<Result<Vec<_>, ChangeError>>();
    let portals = portals.map_err(Failed::failure)?;
    if management.is_none() {
        given.settle(false)?;
    }
    abort_on_panic();
    raise_descriptor_limit();
    let mut daemon = Daemon::start(Options {
        planted: planted::from_environment()?,
        cores,
        idle: args.idle.into(),
        hugepages: args.hugepages.into(),
        pool_bytes,
        iscsi: options::Options {
            nop_in: NopInTimes { ask_ns: nop_in_ns, close_ns: 3 * nop_in_ns },
            discovery: if args.discovery_chap { auth } else { Auth::default() },
            allows_weak_secrets: args.weak_chap,
            ..options::Options::default()
        },
    })
    .map_err(Failed::failure)?;
    if let Some(state) = state {
        daemon.keep_state(state).map_err(Failed::failure)?;
    }
    #[cfg(feature = "metrics")]
    daemon.control().set_status_url(metrics.as_ref().and_then(Bound::url));
    if let Some(ms) = args.slow_io {
        daemon.control().set_slow_io((ms > 0).then_some(ms * MS_NS));
    }
    let luns = disks.len();
    if args.is_mapped_elsewhere() {
        disks.into_iter().try_for_each(|disk| register(daemon.control(), disk)).map_err(Failed::usage)?;
    } else if luns > 0 {
        let target = share(daemon.control(), args, Share { disks, portals, account, auth });
        let target = target.map_err(Failed::usage)?;
        announce(args, &daemon.portals(), &target, luns)?;
    } else {
        print(&format!(
            "lunette {} serves nothing yet: 'lunette share PATH' or 'lunette share 1G' shares a disk\n",
            super::VERSION
        ))?;
    }
    #[cfg(feature = "spdk")]
    if let Some(attached) = &mut attached {
        attached.tell(daemon.remote())?;
    }
    let managed = match management {
        None => {
            ready(args, &daemon.portals(), &daemon.remote())?;
            None
        }
        Some(management) => {
            let (remote, owned) = (daemon.remote(), args.clone());
            let is_ready = move || {
                let portals = remote.call(|control, _| portals_of(control)).unwrap_or_default();
                ready(&owned, &portals, &remote)
            };
            Some(management.start(&daemon.remote(), args, log.level(), given, is_ready)?)
        }
    };
    #[cfg(feature = "metrics")]
    let shown = metrics.map(|bound| show(bound, &daemon, managed.as_ref())).transpose()?;
    let is_clean = daemon.run();
    #[cfg(feature = "metrics")]
    drop(shown);
    // Nobody has its disks any more.
    #[cfg(feature = "spdk")]
    drop(attached);
    managed.map_or(Ok(()), Managed::end)?;
    if !is_clean {
        return Err(Failed::failure("stopped, but a device kept IO that it had been given"));
    }
    tracing::info!("stopped");
    drop(log);
    Ok(())
}

/// Shows what the daemon does.
#[cfg(feature = "metrics")]
fn show(bound: Bound, daemon: &Daemon, managed: Option<&Managed>) -> Result<Server, Failed> {
    tracing::info!("metrics and the status page are at http://{}/", bound.address());
    let source = Lookout::new(daemon.remote(), managed.map(Managed::context));
    bound.serve(source).map_err(|error| Failed::failure(format!("--metrics: {error}")))
}

/// The tag of each group that the command line makes.
const GROUP: u16 = 1;

/// What the command line serves.
struct Share {
    disks: Vec<Product>,
    portals: Vec<Portal>,
    account: Option<Account>,
    auth: Auth,
}

/// Serves it: one target, with one group of each kind. Returns the target's name.
fn share<N: Net>(control: &mut Control<N>, args: &Serve, share: Share) -> Result<String, ChangeError> {
    let mut luns = Vec::new();
    for disk in share.disks {
        luns.push((disk.bdev.info().name, None));
        register(control, disk)?;
    }
    let mut initiators = InitiatorGroup::any(GROUP.into());
    if !args.initiators.is_empty() {
        let rules = args.initiators.iter().map(|pattern| NameRule::parse(pattern));
        initiators.initiators = rules.collect::<Result<_, _>>()?;
    }
    control.create_initiator_group(initiators)?;
    if let Some(account) = share.account {
        control.create_auth_group(AuthGroup { tag: GROUP.into(), accounts: vec![account] })?;
    }
    let portals = share.portals;
    control.add_portal_group(PortalGroup {
        tag: GROUP,
        portals,
        is_private: false,
        is_started: true,
        discovery: None,
    })?;
    control.create_target(&NewTarget {
        name: args.target.clone(),
        alias: "lunette".to_owned(),
        luns,
        maps: vec![(GROUP, GROUP.into())],
        auth: share.auth,
        demands_header_digest: false,
        demands_data_digest: false,
        queue_depth: 64,
        relative_ports: Vec::new(),
    })
}

/// A disk, its product name and what makes it again.
pub(super) struct Product {
    pub(super) bdev: Arc<dyn Bdev>,
    pub(super) product: String,
    pub(super) recipe: String,
    pub(super) kind: DeviceKind,
    /// The file that it is made of, if it is one.
    pub(super) path: Option<PathBuf>,
}

fn register<N: Net>(control: &mut Control<N>, disk: Product) -> Result<(), ChangeError> {
    let Product { bdev, product, recipe, kind, path } = disk;
    let name = bdev.info().name;
    let bdev = Arc::new(Counted::new(bdev));
    control.register_bdev_as(BdevSpec { bdev, product, recipe, bases: Vec::new() }, kind)?;
    if let Some(path) = path {
        control.keep_disk(&name, Source::look(&path, files::LOOK_PATIENCE).0);
    }
    Ok(())
}

/// The disks asked for.
fn disks(args: &Serve, kept: Option<&Records>) -> Result<Vec<Product>, Failed> {
    let demo = Disk { name: "demo".to_owned(), blocks: 512 * 1024, block_bytes: 512 };
    let asked_for = args.mallocs.iter().chain(&args.nulls);
    let names: BTreeSet<String> = asked_for.map(|disk| disk.name.clone()).collect();
    let demo = (args.demo && args.paths.is_empty() && names.is_empty()).then_some(&demo);
    let mut disks: Vec<Product> = Vec::new();
    let kind = DeviceKind::Disk;
    for served in files::open(args, names, kept)? {
        let File { disk, made_of } = match served {
            Served::File(file) => file,
            Served::Sg(device, made_of) => {
                let recipe = recipes::sg(&made_of, &device);
                let product = "SCSI device".to_owned();
                disks.push(Product { bdev: device, product, recipe, kind, path: None });
                continue;
            }
        };
        if files::is_disc(args, &made_of.path) {
            let uuid = disk.info().uuid;
            let drive = drive::Recipe { name: made_of.name, uuid, block_bytes: drive::CD_BLOCK_BYTES };
            let bdev = Drive::new(drive, Some(disk));
            let recipe = recipes::cdrom(&bdev.info(), Some(&made_of.path));
            let kind = DeviceKind::CdRom;
            let path = Some(made_of.path);
            disks.push(Product { bdev: Arc::new(bdev), product: "CD-ROM".to_owned(), recipe, kind, path });
            continue;
        }
        let recipe = recipes::file(&disk.info(), &made_of, FileKind::Aio);
        let path = Some(made_of.path);
        disks.push(Product { bdev: disk, product: "AIO disk".to_owned(), recipe, kind, path });
    }
    for disk in demo.into_iter().chain(&args.mallocs) {
        let recipe = malloc::Recipe {
            name: disk.name.clone(),
            blocks: disk.blocks,
            blocks_max: disk.blocks,
            block_bytes: disk.block_bytes,
            physical_block_bytes: disk.block_bytes,
            uuid: SystemRandom::uuid(),
            hugepages: args.hugepages.into(),
        };
        let bdev = Malloc::new(recipe)
            .map_err(|error| Failed::failure(format!("no memory for the RAM disk {}: {error}", disk.name)))?;
        let recipe = recipes::malloc(&bdev.info(), disk.blocks);
        disks.push(Product {
            bdev: Arc::new(bdev),
            product: "RAM disk".to_owned(),
            recipe,
            kind,
            path: None,
        });
    }
    for Disk { name, blocks, block_bytes } in args.nulls.iter().cloned() {
        let bdev = Null::new(name, blocks, block_bytes, SystemRandom::uuid());
        let recipe = recipes::null(&bdev.info());
        disks.push(Product {
            bdev: Arc::new(bdev),
            product: "null disk".to_owned(),
            recipe,
            kind,
            path: None,
        });
    }
    Ok(disks)
}

fn pool_bytes(mem_size_mib: Option<usize>, reactors: usize) -> Result<usize, Failed> {
    let Some(mib) = mem_size_mib else { return Ok(POOL_BYTES) };
    let bytes =
        mib.checked_mul(MIB).ok_or_else(|| Failed::usage("--mem-size: no machine has so much"))? / reactors;
    if bytes < POOL_BYTES_MIN {
        let least = POOL_BYTES_MIN.div_ceil(MIB) * reactors;
        return Err(Failed::usage(format!(
            "--mem-size {mib}: {reactors} reactors need at least {least} MiB"
        )));
    }
    Ok(bytes)
}

/// Everybody on the network can write to the disks: that should be meant.
fn warn_if_open(args: &Serve, portals: &[PortalArg], account: Option<&Account>) {
    let is_remote = portals.iter().any(|portal| !portal.address.ip().is_loopback());
    if is_remote && account.is_none() && args.initiators.is_empty() {
        tracing::warn!(
            "everybody who reaches the portal can read and write: --chap-user with --chap-secret-file asks for a \
             proof, --initiator names who may come"
        );
    }
}

/// A reactor that panics would leave its sessions hanging: the whole process ends instead, and what watches it starts
/// it again.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::abort();
    }));
}

/// A session is a descriptor, and the usual soft limit of 1024 is for programs that use `select`.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised there are fewer sessions, and the log says so when it matters.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn announce(args: &Serve, portals: &[SocketAddr], target: &str, luns: usize) -> Result<(), Failed> {
    let mut text = format!("lunette {} serves {target}\n", super::VERSION);
    for portal in portals {
        text.push_str(&format!("listening on {portal}\n"));
    }
    if (args.demo || !args.paths.is_empty())
        && let Some(&portal) = portals.first()
    {
        text.push_str("\nTo reach it:\n");
        text.push_str(&hints::connect(portal, target, luns, args.chap_user.as_deref()));
    }
    print(&text)
}

fn portals_of<N: Net>(control: &Control<N>) -> Vec<SocketAddr> {
    control.portal_groups().flat_map(|group| &group.portals).map(|portal| portal.address).collect()
}

/// Tells who waits that everything is served.
fn ready(args: &Serve, portals: &[SocketAddr], control: &Remote) -> Result<(), Failed> {
    if let Some(path) = &args.ready_file {
        write_ready_file(path, portals)
            .map_err(|error| Failed::failure(format!("--ready-file {}: {error}", path.display())))?;
    }
    service::ready(control)
}

/// Whole or not at all: who waits for it reads it as soon as it is there.
fn write_ready_file(path: &Path, portals: &[SocketAddr]) -> std::io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    std::fs::write(&unfinished, portals.iter().map(|portal| format!("{portal}\n")).collect::<String>())?;
    std::fs::rename(&unfinished, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_shared_out_and_not_too_small() {
        assert_eq!(pool_bytes(None, 2).unwrap(), POOL_BYTES);
        assert_eq!(pool_bytes(Some(64), 2).unwrap(), 32 * MIB);
        let Err(Failed::Usage(text)) = pool_bytes(Some(15), 2) else { panic!() };
        assert_eq!(text, "--mem-size 15: 2 reactors need at least 16 MiB");
    }

    #[test]
    fn uuids_are_random_and_say_so() {
        let (one, other) = (SystemRandom::uuid(), SystemRandom::uuid());
        assert_ne!(one, other);
        assert_eq!((one[6] >> 4, one[8] >> 6), (4, 2));
    }
}
