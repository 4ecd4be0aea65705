//! SCST: `scst.conf`, as scstadmin writes it and TrueNAS makes it.

mod access;
mod identity;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::braces::{self, Node};
use super::model::{Account, Auth, Backing, Disk, FIRST_GROUP, Lun, Model, PortalGroup, Target, lun_number};
use super::report::{ImportError, Place, Report};
use super::source::{Files, Source};
use super::text::{self, PORT, number, truth, words};
use super::{keys, passed, settle};
use access::{Group, Rule};

/// Reads files.
///
/// # Errors
/// Where one is no such file.
pub(super) fn import(
    sources: &[Source],
    files: &dyn Files,
    model: &mut Model,
    report: &mut Report,
) -> Result<(), ImportError> {
    let mut nodes = Vec::new();
    for source in sources {
        nodes.extend(braces::read(source, |_| None)?);
    }
    let setup_id =
        nodes.iter().find(|node| node.key() == "setup_id").and_then(|node| number(node.word(1))).unwrap_or(0);
    let mut reader = Reader { setup_id, files, disks: BTreeMap::new(), model, report };
    for node in &nodes {
        match node.key() {
            "HANDLER" => node.statements().for_each(|device| reader.device(node.word(1), device)),
            "TARGET_DRIVER" | "DEVICE_GROUP" | "setup_id" => {}
            key => reader.report.cannot(&node.place, format_args!("{key}: not known")),
        }
    }
    for driver in nodes.iter().filter(|node| node.key() == "TARGET_DRIVER") {
        reader.driver(driver);
    }
    for group in nodes.iter().filter(|node| node.key() == "DEVICE_GROUP") {
        reader.states(group);
    }
    Ok(())
}

/// Handlers that pass commands on to a device of the host's, which is named by its host, channel, id and LUN.
const PASSING: &[&str] =
    &["dev_disk", "dev_tape", "dev_changer", "dev_cdrom", "dev_modisk", "dev_raid", "dev_processor"];

struct Reader<'a> {
    /// What the kernel puts before the names that it makes.
    setup_id: u64,
    /// Of the host, which knows its devices.
    files: &'a dyn Files,
    /// Devices that became disks.
    disks: BTreeMap<String, usize>,
    model: &'a mut Model,
    report: &'a mut Report,
}

impl Reader<'_> {
    fn device(&mut self, handler: &str, node: &Node) {
        let (name, place) = (node.word(1), &node.place);
        if node.key() != "DEVICE" {
            return self.report.cannot(place, format_args!("{}: not known in a HANDLER", node.key()));
        }
        let value = |key: &str| node.statements().find(|node| node.key() == key).map(Node::value);
        let path = value("filename");
        let size = || {
            value("size")
                .and_then(|size| text::size(&size))
                .or_else(|| value("size_mb").and_then(|size| number(&size)?.checked_mul(1 << 20)))
        };
        let backing = match (handler, path) {
            ("vdisk_fileio" | "vdisk_blockio", Some(path)) => Backing::File { path, create_bytes: None },
            ("vdisk_nullio", _) => match size() {
                Some(bytes) => Backing::Null { bytes },
                // SCST's own.
                None => Backing::Null { bytes: 5 << 40 },
            },
            ("vcdrom", path) => Backing::CdRom { path },
            ("vdisk_fileio" | "vdisk_blockio", None) => {
                return self
                    .report
                    .cannot(place, format_args!("{name}: filename is missing; it was left out"));
            }
            (handler, _) if PASSING.contains(&handler) => {
                match passed::backing(&format!("device {name}"), name, place, self.files, self.report) {
                    Some(backing) => backing,
                    None => return,
                }
            }
            (handler, _) if handler.strip_suffix("_perf").is_some_and(|plain| PASSING.contains(&plain)) => {
                return self.report.cannot(
                    place,
                    format_args!(
                        "{name}: handler {handler} reads and writes nothing, it measures; it was left out"
                    ),
                );
            }
            _ => {
                return self.report.cannot(place, format_args!("{name}: handler {handler}; it was left out"));
            }
        };
        let disk = match backing {
            // All that is said of it the device says itself.
            Backing::Passed { .. } => {
                let options = node.statements().map(Node::key).collect::<Vec<_>>().join(", ");
                if !options.is_empty() {
                    self.report.changed(place, format_args!("{options}: as the device has it"));
                }
                self.model.new_disk(backing, &["scst", name])
            }
            _ => self.disk(name, handler, backing, node),
        };
        let index = self.model.add_disk(disk, place, self.report);
        self.disks.insert(name.to_owned(), index);
        self.report.maps(place, format_args!("device {name} is {}", self.model.disks[index].name));
    }

    fn disk(&mut self, name: &str, handler: &str, backing: Backing, node: &Node) -> Disk {
        let mut disk = self.model.new_disk(backing, &["scst", name]);
        self.model.give_back(&disk.name);
        disk.name = self.model.free_name(name);
        // Unless it is said: files are written through, block devices anyhow.
        disk.is_write_through = false;
        // A device's own may be another.
        disk.block_bytes = (handler != "vcdrom").then_some(512);
        let mut said = identity::Said::default();
        for option in node.statements() {
            let (place, value) = (&option.place, option.value());
            let is_on = truth(&value) == Some(true);
            match option.key() {
                "filename" | "size" | "size_mb" | "active" | "cluster_mode" | "bind_alua_state" => {}
                "blocksize" => match number(&value).and_then(|bytes| u32::try_from(bytes).ok()) {
                    Some(bytes @ (512 | 1024 | 2048 | 4096)) => disk.block_bytes = Some(bytes),
                    _ => {
                        self.report.cannot(place, format_args!("blocksize {value}: 512, 1024, 2048 or 4096"))
                    }
                },
                "read_only" => disk.is_read_only = is_on,
                "write_through" => disk.is_write_through |= is_on,
                "nv_cache" if is_on => {
                    self.report.changed(place, "nv_cache: a flush of initiators reaches the disk");
                }
                "removable" => disk.is_removable = is_on,
                key if said.take(key, &value, place, self.report) => {}
                "nv_cache" => {}
                "thin_provisioned" | "gen_tp_soft_threshold_reached_UA" => {
                    self.report.changed(
                        place,
                        "thin_provisioned: initiators can unmap wherever the file or device can",
                    );
                }
                "rotational" | "lb_per_pb_exp" | "opt_trans_len" | "numa_node_id" | "threads_num"
                | "threads_pool_type" | "o_direct" | "async" | "expl_alua" | "tst" | "zero_copy"
                | "queue_depth" => {
                    self.report
                        .changed(place, format_args!("{}: as the file or device has it", option.key()));
                }
                "dif_mode" | "dif_type" | "dif_static_app_tag" => {
                    self.report.cannot(place, "protection information of a file");
                }
                key => self.report.cannot(place, format_args!("{key}: not known")),
            }
        }
        disk.identity = said.identity(name, handler, self.setup_id, &node.place, self.report);
        disk
    }

    fn driver(&mut self, driver: &Node) {
        if driver.word(1) != "iscsi" {
            return self
                .report
                .cannot(&driver.place, format_args!("TARGET_DRIVER {}: not iSCSI", driver.word(1)));
        }
        let (mut incoming, mut outgoing) = (Vec::new(), None);
        for node in driver.statements() {
            let (place, value) = (&node.place, node.value());
            match node.key() {
                "TARGET" => self.target(node),
                "enabled" | "open_state" | "trace_level" | "iSNSEntityTargetName" | "link_local" => {}
                "IncomingUser" | "IncomingUser1" | "IncomingUser2" => {
                    incoming.push(self.credential(&value, place));
                }
                "OutgoingUser" => outgoing = self.credential(&value, place),
                "internal_portal" => {
                    self.report.changed(place, "internal_portal: every portal serves every session")
                }
                "iSNSServer" => {
                    let address = value.split_whitespace().next().unwrap_or_default();
                    self.model.options.isns = text::address(address, 3205);
                    if value.contains("AccessControl") {
                        self.report
                            .cannot(place, "iSNS access control: who may come is said by initiator groups");
                    }
                }
                key => self.report.cannot(place, format_args!("{key}: not known")),
            }
        }
        if !incoming.is_empty() {
            self.model.options.discovery = auth(incoming, outgoing);
        }
    }

    fn target(&mut self, node: &Node) {
        let (name, place) = (node.word(1), &node.place);
        let mut target = Target::new(name);
        let (mut portals, mut port, mut is_enabled) = (Portals::default(), None, false);
        let (mut incoming, mut outgoing) = (Vec::new(), None);
        let (mut groups, mut has_portals) = (Vec::new(), false);
        for option in node.statements() {
            let (place, value) = (&option.place, option.value());
            match option.key() {
                "enabled" => is_enabled = truth(&value) == Some(true),
                "rel_tgt_id" => {
                    port = number(&value).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
                }
                "allowed_portal" => portals.take(&value, place, self.report),
                "per_portal_acl" => has_portals = truth(&value) == Some(true),
                "alias" => target.alias = value,
                "IncomingUser" | "IncomingUser1" | "IncomingUser2" => {
                    incoming.push(self.credential(&value, place));
                }
                "OutgoingUser" => outgoing = self.credential(&value, place),
                "LUN" => target.luns.extend(self.lun(option)),
                "GROUP" => groups.push(option),
                "QueuedCommands" => {
                    if let Some(depth) = number(&value).and_then(|depth| u32::try_from(depth).ok()) {
                        target.queue_depth = depth;
                    }
                }
                "MaxSessions" if value == "0" => {}
                "NopInInterval" => self.model.options.nop_in_seconds = number(&value),
                "NopInTimeout" => self.model.options.nop_timeout_seconds = number(&value),
                "RspTimeout"
                | "io_grouping_type"
                | "cpu_mask"
                | "black_hole"
                | "enable_conn_reinstatement" => {
                    self.report.cannot(place, format_args!("{}: not taken over", option.key()));
                }
                key if keys::take(key, &value, &mut self.model.options, &mut target, place, self.report) => {}
                key => self.report.cannot(place, format_args!("{key}: not known")),
            }
        }
        if !is_enabled {
            return self
                .report
                .cannot(place, format_args!("target {name}: it is not enabled; it was left out"));
        }
        let groups: Vec<Group> = groups.into_iter().map(|group| self.group(group, has_portals)).collect();
        let has_own_luns = !target.luns.is_empty();
        if !portals.is_said {
            portals.only_by(access::portals(&groups, has_own_luns));
        }
        let ips: Vec<IpAddr> = portals.found.iter().map(SocketAddr::ip).collect();
        if portals.is_said && portals.found.is_empty() {
            self.report
                .cannot(place, format_args!("target {name}: no portal leads to it, so nobody may come"));
        } else {
            let tag = self.portal_group(portals.found);
            target.portal_groups.push((tag, port));
        }
        if !incoming.is_empty() {
            target.auth = auth(incoming, outgoing);
        }
        target.access = access::access(groups, has_own_luns, &ips, self.report);
        self.report.maps(
            place,
            format_args!("target {name}: {}, {} groups", settle::numbers(&target), target.access.len()),
        );
        self.model.targets.push(target);
    }

    fn credential(&mut self, value: &str, place: &Place) -> Option<(String, String)> {
        match words(value).as_deref() {
            Some([user, secret, ..]) => Some((user.clone(), secret.clone())),
            _ => {
                self.report.cannot(
                    place,
                    "an account is a user and a secret; it was left out, and CHAP is asked for all the same",
                );
                None
            }
        }
    }

    fn portal_group(&mut self, portals: Vec<SocketAddr>) -> u16 {
        if portals.is_empty() && self.model.portal_groups.is_empty() {
            self.model.listen_everywhere();
            return FIRST_GROUP;
        }
        let fits = |group: &&PortalGroup| {
            group.portals == portals
                || portals.is_empty() && group.portals.iter().any(|portal| portal.ip().is_unspecified())
        };
        if let Some(known) = self.model.portal_groups.iter().find(fits) {
            return known.tag;
        }
        let portals = if portals.is_empty() {
            ["0.0.0.0", "::"].into_iter().filter_map(|ip| text::address(ip, PORT)).collect()
        } else {
            portals
        };
        let tag = u16::try_from(self.model.portal_groups.len() + 1).unwrap_or(u16::MAX);
        self.model.portal_groups.push(PortalGroup { tag, portals, discovery: None });
        tag
    }

    fn lun(&mut self, node: &Node) -> Option<Lun> {
        let place = &node.place;
        let Some(lun) = number(node.word(1)).and_then(lun_number) else {
            self.report.cannot(place, format_args!("LUN {}: numbers go from 0 to 16383", node.word(1)));
            return None;
        };
        let Some(&disk) = self.disks.get(node.word(2)) else {
            self.report.cannot(place, format_args!("LUN {lun}: there is no device {}", node.word(2)));
            return None;
        };
        let is_read_only = node.statements().any(|node| node.key() == "read_only" && node.word(1) == "1");
        Some(Lun { number: lun, disk, is_read_only })
    }

    fn group(&mut self, node: &Node, has_portals: bool) -> Group {
        let (mut luns, mut rules) = (Vec::new(), Vec::new());
        for option in node.statements() {
            match option.key() {
                "LUN" => luns.extend(self.lun(option)),
                "INITIATOR" => rules.push(Rule::new(option, has_portals)),
                "io_grouping_type" | "cpu_mask" | "black_hole" => {}
                key => self.report.cannot(&option.place, format_args!("{key}: not known in a GROUP")),
            }
        }
        Group { place: node.place.clone(), name: node.word(1).to_owned(), luns, rules }
    }

    /// Access states of a device group's target groups.
    fn states(&mut self, group: &Node) {
        let devices: Vec<usize> = group
            .statements()
            .filter(|node| node.key() == "DEVICE")
            .filter_map(|node| self.disks.get(node.word(1)).copied())
            .collect();
        for node in group.statements().filter(|node| node.key() == "TARGET_GROUP") {
            let value = |key: &str| node.statements().find(|node| node.key() == key).map(Node::value);
            let state = match value("state").as_deref() {
                Some("nonoptimized") => "active_non_optimized",
                Some("standby") => "standby",
                Some("unavailable") => "unavailable",
                Some("offline") => {
                    self.report.changed(
                        &node.place,
                        format_args!("target group {} is offline; it is unavailable now", node.word(1)),
                    );
                    "unavailable"
                }
                Some("transitioning") => "transitioning",
                None | Some("active" | "optimized") => "active_optimized",
                Some("lba-dependent" | "lba_dependent") => {
                    self.report.cannot(
                        &node.place,
                        format_args!(
                            "target group {} has states by block (lba-dependent); all of it is active/non-optimized",
                            node.word(1)
                        ),
                    );
                    "active_non_optimized"
                }
                Some(state) => {
                    self.report.cannot(
                        &node.place,
                        format_args!(
                            "target group {} has the state {state}, which is not known; it is unavailable",
                            node.word(1)
                        ),
                    );
                    "unavailable"
                }
            };
            let is_preferred = value("preferred").as_deref() == Some("1");
            if state == "active_optimized" && !is_preferred {
                continue;
            }
            for wanted in node.statements().filter(|node| node.key() == "TARGET") {
                let Some(target) = self.model.targets.iter_mut().find(|target| target.name == wanted.word(1))
                else {
                    self.report
                        .cannot(&wanted.place, format_args!("target {}: another machine's", wanted.word(1)));
                    continue;
                };
                let Some((tag, _)) = target.portal_groups.first().copied() else { continue };
                let luns = target.luns.iter().filter(|lun| devices.contains(&lun.disk));
                let states: Vec<_> = luns.map(|lun| (tag, lun.number, state, is_preferred)).collect();
                target.states.extend(states);
            }
        }
    }
}

/// What leads to a target.
#[derive(Default)]
struct Portals {
    found: Vec<SocketAddr>,
    /// It is not reached everywhere, whether or not any of them could be read.
    is_said: bool,
    is_everywhere: bool,
}

impl Portals {
    /// An `allowed_portal`.
    fn take(&mut self, value: &str, place: &Place, report: &mut Report) {
        match text::address(value, PORT) {
            _ if value == "*" => self.is_everywhere = true,
            Some(portal) => self.found.push(portal),
            None => report.cannot(
                place,
                format_args!("allowed_portal {value}: a pattern; lunette listens on addresses"),
            ),
        }
        self.is_said = !self.is_everywhere;
        if self.is_everywhere {
            self.found.clear();
        }
    }

    /// Where its initiators say it: no other portal leads anybody to it.
    fn only_by(&mut self, ips: Vec<IpAddr>) {
        self.found = ips.into_iter().map(|ip| SocketAddr::new(ip, PORT)).collect();
    }
}

/// CHAP was asked for, whichever of its accounts could be read.
fn auth(incoming: Vec<Option<(String, String)>>, outgoing: Option<(String, String)>) -> Auth {
    let mut accounts: Vec<Account> = Vec::new();
    for (user, secret) in incoming.into_iter().flatten() {
        if accounts.iter().all(|known| known.user != user) {
            accounts.push(Account { user, secret, target: outgoing.clone() });
        }
    }
    Auth::Chap(accounts)
}
