//! NVMe controllers: attached, listed, given back.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustix::io::Errno;

use super::{Method, Outcome, method};
use crate::bdev::nvme::TimeOuts;
use crate::bdev::nvme::controller::logs::ErrorEntry;
use crate::bdev::nvme::controller::shared::{About, Answer, Life, Options, Order, Query};
use crate::bdev::nvme::pci;
use crate::bdev::nvme::pci::device::Address;
use crate::bdev::nvme::seat::Vacancy;
use crate::bdev::nvme::tcp::pdu::Digests;
use crate::bdev::nvme::tcp::transport::{self as tcp, TcpTransport};
use crate::bdev::nvme::transport::Transport;
use crate::rpc::context::Context;
use crate::rpc::devices;
use crate::rpc::fault::Fault;
use crate::rpc::hotplug;
use crate::rpc::json::{Json, object};
use crate::rpc::nvme::{Attached, Reach, ToAttach};
use crate::rpc::params::{self, params};
use crate::rpc::recipes::recipe;
use crate::rpc::types::{Ignored, Uuid};
use crate::time::SECOND_NS;

pub(super) const METHODS: &[Method] = &[
    method!(
        "bdev_nvme_attach_controller",
        Runtime,
        Attach,
        attach,
        "Takes an NVMe controller and makes a disk of each of its namespaces; answers with their names."
    ),
    method!(
        "bdev_nvme_detach_controller",
        Runtime,
        Detach,
        detach,
        "Closes a controller's disks, their LUNs first, and gives it back. The data stay."
    ),
    method!("bdev_nvme_get_controllers", Runtime, Get, get, "Lists NVMe controllers, or the one named."),
    method!(
        "bdev_nvme_reset_controller",
        Runtime,
        OfController,
        reset,
        "Has a controller reset. IO waits meanwhile; writes that it may have seen end in ABORTED COMMAND."
    ),
    method!(
        "bdev_nvme_get_controller_health_info",
        Runtime,
        OfController,
        health,
        "Tells a controller's SMART data (log page 02h)."
    ),
    method!(
        "bdev_nvme_set_hotplug",
        Always,
        SetHotplug,
        set_hotplug,
        "Has NVMe controllers attached by themselves that are handed over (scripts/setup.sh bind), as HotInNvme0 and so on; one that \
         was pulled out and came back gets its old name and LUNs, whether this is on or not. What was detached is left alone."
    ),
    method!(
        "lunette_nvme_get_errors",
        Runtime,
        OfController,
        errors,
        "Tells a controller's error log (log page 01h), the newest entry first."
    ),
    method!(
        "lunette_nvme_rescan",
        Runtime,
        OfController,
        rescan,
        "Has a controller's namespaces looked at again, where it does not tell of changes by itself."
    ),
];

params! {
    /// Of calls about one controller.
    pub(super) struct OfController {
        /// Its name.
        name: String,
    }
}

params! {
    /// Of `bdev_nvme_attach_controller`.
    pub(super) struct Attach {
        /// Its name; the disk of namespace 1 of Nvme0 is Nvme0n1.
        name: String,
        /// PCIe or TCP.
        trtype: String,
        /// A PCI address as 0000:01:00.0, or an IP address.
        traddr: String,
        /// IPv4 or IPv6; as traddr is, unless given.
        adrfam: Option<String>,
        /// The TCP port; 4420 unless given.
        trsvcid: Option<String>,
        /// The subsystem's name (TCP).
        subnqn: Option<String>,
        /// This host's name to the subsystem (TCP); made of the machine's id unless given.
        hostnqn: Option<String>,
        /// Header digests (TCP).
        hdgst: bool = false,
        /// Data digests (TCP).
        ddgst: bool = false,
        /// A controller that cannot be reached is given up after so many seconds; -1: never (TCP).
        ctrlr_loss_timeout_sec: i32 = 600,
        /// SPDK's: the pause between two tries.
        reconnect_delay_sec: Ignored,
        /// SPDK's: IO to a controller that is lost fails so fast.
        fast_io_fail_timeout_sec: Ignored,
        /// SPDK's: protection information is checked by the controller in any case.
        prchk_reftag: Ignored,
        /// SPDK's: as prchk_reftag.
        prchk_guard: Ignored,
        /// SPDK's.
        allow_unrecognized_csi: Ignored,
        /// SPDK's.
        disable_sq_flow_control: Ignored,
        /// SPDK's.
        multipath: Ignored,
        /// SPDK's.
        num_io_queues: Ignored,
        /// SPDK's.
        priority: Ignored,
        /// SPDK's.
        hostaddr: Ignored,
        /// SPDK's.
        hostsvcid: Ignored,
        /// A command that was not completed after so many seconds is aborted, and 5 s later its queue is.
        lunette_timeout_sec: u32 = 30,
        /// Namespaces that have a disk in any case, which is not ready while the namespace is missing; so saved files tell of them.
        lunette_namespaces: Option<Vec<Awaited>>,
    }
}

params! {
    /// A namespace that may be missing.
    pub(super) struct Awaited {
        /// Its number.
        nsid: u32,
        /// What names its medium: another one that has its number by now is not served in its stead.
        uuid: Option<Uuid>,
        /// Its block size, until it says so itself.
        block_size: u32 = 512,
        /// How many blocks it had: one that has lost some since is not served.
        num_blocks: u64 = 0,
    }
}

params! {
    /// Of `bdev_nvme_detach_controller`.
    pub(super) struct Detach {
        /// Its name.
        name: String,
        /// SPDK's: one path of several.
        trtype: Ignored,
        /// SPDK's.
        traddr: Ignored,
        /// SPDK's.
        adrfam: Ignored,
        /// SPDK's.
        trsvcid: Ignored,
        /// SPDK's.
        subnqn: Ignored,
        /// SPDK's.
        hostaddr: Ignored,
        /// SPDK's.
        hostsvcid: Ignored,
    }
}

params! {
    /// Of `bdev_nvme_set_hotplug`.
    pub(super) struct SetHotplug {
        /// Whether that is done.
        enable: bool,
        /// How often it is looked for them; 100000 unless given, 10000000 at most.
        period_us: u64 = 0,
    }
}

params! {
    /// Of `bdev_nvme_get_controllers`.
    pub(super) struct Get {
        /// Its name; all unless given.
        name: Option<String>,
    }
}

fn attach(context: &Context, params: Attach) -> Outcome {
    if params.name.is_empty() || !params.name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    {
        return Err(invalid("name", "letters, digits, '-', '_' and '.' are taken"));
    }
    let reserved = context.reserve_controller(&params.name, reach(&params)?.place())?;
    let to_attach = prepare(context, params)?;
    context.attach(reserved, to_attach).map(|names| names.into_iter().collect())
}

/// What these parameters of the call attach.
pub(in crate::rpc) fn to_attach(context: &Context, params: Json) -> Result<ToAttach, Fault> {
    prepare(context, params::read(params)?)
}

fn reach(params: &Attach) -> Result<Reach, Fault> {
    Ok(match params.trtype.to_ascii_lowercase().as_str() {
        "pcie" => {
            let address = pci_address(params)?;
            Reach::Bus(address, pci::list::place(address))
        }
        "tcp" => Reach::Network,
        other => return Err(invalid("trtype", &format!("{other:?} is not known here; PCIe and TCP are"))),
    })
}

fn prepare(context: &Context, params: Attach) -> Result<ToAttach, Fault> {
    let reactors = context.control(|control, _| control.reactor_count())?;
    let reactors = u16::try_from(reactors).unwrap_or(u16::MAX);
    let command_ns = u64::from(params.lunette_timeout_sec.max(1)) * SECOND_NS;
    let mut reach = reach(&params)?;
    let way = match reach {
        Reach::Bus(address, _) => pcie(context, &params, address, reactors),
        Reach::Network => tcp(&params, reactors)?,
    };
    if way.transport.is_err()
        && let Reach::Bus(_, place) = &mut reach
    {
        // It may be handed over later.
        *place = None;
    }
    let mut call = vec![("name".to_owned(), Json::from(&params.name))];
    call.extend(way.trid.iter().cloned());
    call.extend(way.more);
    call.push(("lunette_timeout_sec".to_owned(), params.lunette_timeout_sec.into()));
    let vacancy = |awaited: &Awaited| {
        devices::check_blocks(1, awaited.block_size)?;
        let uuid = awaited.uuid.map_or([0; 16], |Uuid(uuid)| uuid);
        Ok((awaited.nsid, Vacancy { uuid, block_bytes: awaited.block_size, blocks: awaited.num_blocks }))
    };
    let awaited =
        params.lunette_namespaces.iter().flatten().map(vacancy).collect::<Result<Vec<_>, Fault>>()?;
    Ok(ToAttach {
        name: params.name,
        trid: Json::Object(way.trid),
        reach,
        recipe: recipe("bdev_nvme_attach_controller", Json::Object(call)),
        options: way.options,
        times: TimeOuts { command_ns, abort_ns: 5 * SECOND_NS },
        awaited: params.lunette_namespaces.is_some().then_some(awaited),
        transport: way.transport,
    })
}

/// Members of an object.
type Members = Vec<(String, Json)>;

/// How a controller is reached.
struct Way {
    /// In SPDK's words.
    trid: Members,
    /// What else the call says that attaches it again.
    more: Members,
    options: Options,
    transport: Result<Box<dyn Transport>, String>,
}

fn members<const N: usize>(of: [(&str, Json); N]) -> Members {
    of.map(|(name, value)| (name.to_owned(), value)).into()
}

fn invalid(name: &str, what: &str) -> Fault {
    Fault::errno(Errno::INVAL, format_args!("{name}: {what}"))
}

fn pci_address(params: &Attach) -> Result<Address, Fault> {
    Address::parse(&params.traddr)
        .ok_or_else(|| invalid("traddr", &format!("{:?} is no PCI address as 0000:01:00.0", params.traddr)))
}

fn pcie(context: &Context, params: &Attach, address: Address, reactors: u16) -> Way {
    let transport = pci::open(address, context.unsafe_noiommu, &context.nvme.groups);
    Way {
        trid: members([("trtype", "PCIe".into()), ("traddr", address.to_string().into())]),
        more: Members::new(),
        options: Options::pcie(params.name.clone(), reactors),
        transport: transport.map(|transport| Box::new(transport) as Box<dyn Transport>),
    }
}

fn detach(context: &Context, params: Detach) -> Outcome {
    let place = context.controller(&params.name)?.reach.place();
    context.nvme.hotplug.leave_alone(place);
    context.detach(&params.name)?;
    Ok(Json::Bool(true))
}

fn set_hotplug(context: &Context, params: SetHotplug) -> Outcome {
    hotplug::set(context, params.enable, params.period_us)?;
    Ok(Json::Bool(true))
}

fn get(context: &Context, params: Get) -> Outcome {
    let controllers = match &params.name {
        Some(name) => vec![context.controller(name)?],
        None => context.controllers(),
    };
    Ok(controllers.iter().map(|attached| describe(attached)).collect())
}

/// What SPDK shows of bdevs that are namespaces, as far as it is known: their names, and the controller of each.
pub(super) fn specifics(context: &Context) -> Vec<(String, Json)> {
    let of = |attached: &Arc<Attached>| {
        let shared = attached.shared();
        let about = shared.about();
        let one = |nsid: u32| {
            let namespace = specific(attached, about.as_ref()?, nsid);
            let members = object! { "nvme": Json::Array(vec![namespace]), "mp_policy": "active_passive" };
            Some((format!("{}n{nsid}", attached.name()), members))
        };
        shared.disks().iter().filter_map(|disk| one(disk.nsid)).collect::<Vec<_>>()
    };
    context.controllers().iter().flat_map(of).collect()
}

fn specific(attached: &Attached, about: &About, nsid: u32) -> Json {
    let identity = &about.identity;
    let mut namespace = Json::Object(Vec::new());
    if let Some(address) = attached.reach.address() {
        namespace.push("pci_address", address.to_string());
    }
    namespace.push("trid", attached.trid.clone());
    let mut controller = object! {
        "cntlid": identity.id,
        "vendor_id": format!("0x{:04x}", identity.vendor),
        "model_number": &identity.model,
        "serial_number": &identity.serial,
        "firmware_revision": &identity.firmware,
    };
    if !identity.subnqn.is_empty() {
        controller.push("subnqn", &identity.subnqn);
    }
    // NVMe Base §5.17.2.1, OACS: Security Send and Receive, Format NVM, firmware, Namespace Management.
    let can = |bit: u32| u32::from(identity.oacs) >> bit & 1;
    let oacs = object! { "security": can(0), "format": can(1), "firmware": can(2), "ns_manage": can(3) };
    controller.push("oacs", oacs);
    namespace.push("ctrlr_data", controller);
    namespace.push("ns_data", object! { "id": nsid });
    namespace
}

/// A controller as SPDK shows one.
fn describe(attached: &Attached) -> Json {
    let state = match attached.shared().life() {
        Life::Attaching | Life::Recovering => "resetting",
        Life::Running => "enabled",
        Life::Gone(_) => "failed",
        Life::Detached => "deleting",
    };
    let about = attached.shared().about();
    let mut controller = object! { "state": state, "trid": attached.trid.clone() };
    if let Some(about) = about {
        controller.push("cntlid", about.identity.id);
        controller.push("lunette_model_number", &about.identity.model);
        controller.push("lunette_serial_number", &about.identity.serial);
        controller.push("lunette_firmware_revision", &about.identity.firmware);
        controller.push("lunette_io_queues", about.queues);
    }
    object! { "name": attached.name(), "ctrlrs": Json::Array(vec![controller]) }
}

fn tcp(params: &Attach, reactors: u16) -> Result<Way, Fault> {
    let address: IpAddr = params.traddr.parse().map_err(|_| {
        invalid("traddr", &format!("{:?} is no IP address; names are not looked up", params.traddr))
    })?;
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    if params.adrfam.as_ref().is_some_and(|given| !given.eq_ignore_ascii_case(family)) {
        return Err(invalid("adrfam", &format!("traddr is of {family}")));
    }
    let port = params.trsvcid.as_deref().unwrap_or("4420");
    let port = port.parse().map_err(|_| invalid("trsvcid", &format!("{port:?} is no TCP port")))?;
    let subnqn = params.subnqn.as_deref().ok_or_else(|| {
        invalid("subnqn", &format!("name a subsystem; `lunette nvme discover {address}` lists them"))
    })?;
    let mut options = tcp::Options::of_this_machine(SocketAddr::new(address, port), subnqn);
    if let Some(hostnqn) = &params.hostnqn {
        options.hostnqn.clone_from(hostnqn);
    }
    for (name, nqn) in [("subnqn", subnqn), ("hostnqn", &options.hostnqn)] {
        if let Some(problem) = tcp::nqn_problem(nqn) {
            return Err(invalid(name, &problem));
        }
    }
    options.digests = Digests { header: params.hdgst, data: params.ddgst };
    let loss_ns = u64::try_from(params.ctrlr_loss_timeout_sec).ok().map(|seconds| seconds * SECOND_NS);
    let hostnqn = params.hostnqn.iter().map(|name| ("hostnqn".to_owned(), name.into()));
    let switches = members([
        ("hdgst", params.hdgst.into()),
        ("ddgst", params.ddgst.into()),
        ("ctrlr_loss_timeout_sec", params.ctrlr_loss_timeout_sec.into()),
    ]);
    Ok(Way {
        trid: members([
            ("trtype", "TCP".into()),
            ("adrfam", family.into()),
            ("traddr", address.to_string().into()),
            ("trsvcid", port.to_string().into()),
            ("subnqn", subnqn.into()),
        ]),
        more: hostnqn.chain(switches).collect(),
        options: Options::fabrics(params.name.clone(), reactors, loss_ns),
        transport: Ok(Box::new(TcpTransport::new(options))),
    })
}

fn reset(context: &Context, params: OfController) -> Outcome {
    context.controller(&params.name)?.order(Order::Reset);
    Ok(Json::Bool(true))
}

fn rescan(context: &Context, params: OfController) -> Outcome {
    context.controller(&params.name)?.order(Order::Rescan);
    Ok(Json::Bool(true))
}

fn errors(context: &Context, params: OfController) -> Outcome {
    let Answer::Errors(entries) = context.controller(&params.name)?.query(Query::Errors)? else {
        return Err(Fault::internal("it answered something else"));
    };
    let describe = |entry: &ErrorEntry| {
        object! {
            "count": entry.count,
            "sq_id": entry.queue,
            "cid": entry.cid,
            "status": entry.status >> 1,
            "lba": entry.lba,
            "nsid": entry.nsid,
        }
    };
    Ok(entries.iter().map(describe).collect())
}

fn health(context: &Context, params: OfController) -> Outcome {
    let attached = context.controller(&params.name)?;
    let Answer::Health(health) = attached.query(Query::Health)? else {
        return Err(Fault::internal("it answered something else"));
    };
    let about = attached.shared().about().ok_or_else(|| Fault::internal("it has not worked yet"))?;
    // JSON has no whole numbers of 128 bits; none of these gets so far.
    let count = |count: u128| u64::try_from(count).unwrap_or(u64::MAX);
    Ok(object! {
        "model_number": &about.identity.model,
        "serial_number": &about.identity.serial,
        "firmware_revision": &about.identity.firmware,
        "traddr": attached.trid.member("traddr").cloned().unwrap_or(Json::Null),
        "critical_warning": health.warnings,
        "temperature_celsius": i64::from(health.temperature_kelvin) - 273,
        "available_spare_percentage": health.spare_percent,
        "available_spare_threshold_percentage": health.spare_threshold_percent,
        "percentage_used": health.used_percent,
        "data_units_read": count(health.units_read),
        "data_units_written": count(health.units_written),
        "host_read_commands": count(health.reads),
        "host_write_commands": count(health.writes),
        "controller_busy_time": count(health.busy_minutes),
        "power_cycles": count(health.power_cycles),
        "power_on_hours": count(health.power_on_hours),
        "unsafe_shutdowns": count(health.unsafe_shutdowns),
        "media_errors": count(health.media_errors),
        "num_err_log_entries": count(health.error_entries),
    })
}
