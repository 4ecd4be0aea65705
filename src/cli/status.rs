//! `lunette status`, `sessions` and `kick`: what a running daemon serves, to whom, and whether all is well.

use std::path::Path;

use clap::Args;

use super::limits;
use super::rpc::call;
use super::socket::SocketArg;
use super::table::table;
use super::{Failed, print};
use crate::rpc::json::{Json, object};

/// `lunette status` and `lunette sessions`.
#[derive(Clone, Debug, Args)]
pub struct Look {
    /// Which daemon.
    #[command(flatten)]
    pub socket: SocketArg,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `lunette kick`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  lunette kick 7                                     the session that 'lunette sessions' shows as 7
  lunette kick iqn.1993-08.org.debian:01:abc         all sessions of an initiator")]
pub struct Kick {
    /// Which daemon.
    #[command(flatten)]
    pub socket: SocketArg,
    /// A session's number, as 'lunette sessions' shows it, or an initiator's name: all of its sessions
    #[arg(value_name = "SESSION|INITIATOR")]
    pub who: String,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) fn array(json: Json) -> Vec<Json> {
    match json {
        Json::Array(elements) => elements,
        _ => Vec::new(),
    }
}

pub(super) fn list(socket: &Path, method: &str) -> Result<Vec<Json>, Failed> {
    call(socket, method, &Json::Null).map(array)
}

pub(super) fn member(json: &Json, name: &str) -> Json {
    json.member(name).cloned().unwrap_or(Json::Null)
}

/// A string's text, nothing of null, else the value.
pub(super) fn text(json: &Json, name: &str) -> String {
    match json.member(name) {
        None | Some(Json::Null) => String::new(),
        Some(Json::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

pub(super) fn number(json: &Json, name: &str) -> u64 {
    match json.member(name) {
        Some(Json::Unsigned(number)) => *number,
        _ => 0,
    }
}

/// Bytes as people say them.
pub(super) fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut unit, mut whole) = (0, bytes);
    while whole >= 1024 && unit + 1 < units.len() {
        (unit, whole) = (unit + 1, whole / 1024);
    }
    let unit_bytes = 1u64 << (10 * unit);
    let tenths = bytes % unit_bytes / (unit_bytes / 10).max(1);
    let is_whole = bytes.is_multiple_of(unit_bytes);
    if is_whole {
        format!("{whole} {}", units[unit])
    } else {
        format!("{whole}.{} {}", tenths.min(9), units[unit])
    }
}

/// What was asked of the daemon.
struct Seen {
    version: Json,
    targets: Vec<Json>,
    bdevs: Vec<Json>,
    counts: Vec<Json>,
    connections: Vec<Json>,
    limited: Vec<Json>,
    units: Vec<Json>,
}

impl Seen {
    fn ask(socket: &Path) -> Result<Seen, Failed> {
        Ok(Seen {
            version: call(socket, "spdk_get_version", &Json::Null)?,
            targets: list(socket, "iscsi_get_target_nodes")?,
            bdevs: list(socket, "bdev_get_bdevs")?,
            counts: array(member(&call(socket, "bdev_get_iostat", &Json::Null)?, "bdevs")),
            connections: list(socket, "iscsi_get_connections")?,
            limited: list(socket, "lunette_get_initiator_qos_limits")?,
            units: list(socket, "lunette_get_logical_units")?,
        })
    }

    /// Who has limits, and which: bdevs first.
    fn limits(&self) -> Vec<[String; 2]> {
        let bdevs = self.bdevs.iter().map(|bdev| {
            let (ceilings, beyond) = (member(bdev, "assigned_rate_limits"), member(bdev, "lunette_qos"));
            [text(bdev, "name"), limits::words(&[&ceilings, &beyond])]
        });
        let initiators = self.limited.iter().map(|rule| [text(rule, "initiator"), limits::words(&[rule])]);
        bdevs.chain(initiators).filter(|[_, limits]| !limits.is_empty()).collect()
    }

    fn sessions_of(&self, target: &str) -> usize {
        sessions(&self.connections).iter().filter(|session| text(session, "target_name") == target).count()
    }

    fn counts_of(&self, bdev: &str) -> Json {
        self.counts.iter().find(|counts| text(counts, "name") == bdev).cloned().unwrap_or(Json::Null)
    }

    /// Where a bdev is a LUN, as `TARGET/NUMBER`.
    fn luns_of(&self, bdev: &str) -> Vec<String> {
        let luns = |target: &Json| -> Vec<String> {
            let name = text(target, "name");
            let luns = array(member(target, "luns")).into_iter();
            let luns = luns.filter(|lun| text(lun, "bdev_name") == bdev);
            luns.map(|lun| format!("{}/{}", short(&name), number(&lun, "lun_id"))).collect()
        };
        self.targets.iter().flat_map(luns).collect()
    }

    /// Targets that lead to a bdev for initiators of some groups only, which have LUNs of their own there.
    fn targets_of(&self, bdev: &str) -> Vec<String> {
        let is_all = |name: &str| {
            let of = self.targets.iter().filter(|target| text(target, "name") == name);
            of.filter_map(|target| target.member("luns")).any(|luns| leads_to(luns, bdev))
        };
        let units = self.units.iter().filter(|unit| text(unit, "bdev_name") == bdev);
        let ports = units.flat_map(|unit| array(member(unit, "ports")));
        let mut names: Vec<String> = ports.map(|port| text(&port, "target")).collect();
        names.dedup();
        names.iter().filter(|name| !is_all(name)).map(|name| short(name).to_owned()).collect()
    }

    /// What is not well, in words.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for bdev in &self.bdevs {
            let name = text(bdev, "name");
            let errors = errors(&self.counts_of(&name));
            if errors > 0 {
                problems.push(format!(
                    "{name}: {errors} IOs failed since they were counted (bdev_reset_iostat counts anew)"
                ));
            }
            let is_ready = number(bdev, "num_blocks") > 0 || bdev.member("lunette_removable").is_some();
            if !is_ready {
                problems.push(format!(
                    "{name}: not ready, its file or device is missing; it comes up when that does"
                ));
            }
            problems.extend(absent(bdev).map(|absent| format!("{name}: {absent}")));
            let is_led_to = !self.luns_of(&name).is_empty() || !self.targets_of(&name).is_empty();
            if !is_led_to && member(bdev, "claimed") != Json::Bool(true) {
                problems.push(format!("{name}: nobody can reach it, it is no LUN of a target"));
            }
        }
        for unit in &self.units {
            let Some(busy) = unit.member("busy") else { continue };
            problems.push(format!(
                "{}: busy with {}, {} % done: nobody reads or writes until then",
                text(unit, "bdev_name"),
                text(busy, "with"),
                number(busy, "percent")
            ));
        }
        for target in
            self.targets.iter().filter(|target| member(target, "lunette_draining") == Json::Bool(true))
        {
            problems.push(format!(
                "{}: nobody new can log in, it is drained ('lunette drain --undo {0}' ends that)",
                text(target, "name")
            ));
        }
        for target in self.targets.iter().filter(|target| array(member(target, "pg_ig_maps")).is_empty()) {
            problems.push(format!("{}: nobody can log in, it has no portal group", text(target, "name")));
        }
        problems
    }
}

/// Whether one of these LUNs is a bdev.
fn leads_to(luns: &Json, bdev: &str) -> bool {
    let is_bdev = |lun: &Json| lun.member("bdev_name").and_then(Json::text) == Some(bdev);
    matches!(luns, Json::Array(luns) if luns.iter().any(is_bdev))
}

/// Members of a mirror that do not have all of its data.
fn absent(bdev: &Json) -> impl Iterator<Item = String> {
    let raid = member(&member(bdev, "driver_specific"), "raid");
    let percent = number(&member(&member(&raid, "process"), "progress"), "percent");
    array(member(&raid, "base_bdevs_list")).into_iter().filter_map(move |base| {
        let name = text(&base, "name");
        match text(&base, "lunette_state").as_str() {
            "out" => Some(format!(
                "its member {name} is out, the others go on without (bdev_raid_add_base_bdev fills it where it was taken out, \
                 lunette_bdev_reopen where its disk was pulled; else it is filled by itself)"
            )),
            "filling" => Some(format!("its member {name} is being filled, {percent} % done")),
            _ => None,
        }
    })
}

/// The part of a target's name that tells it from others.
pub(super) fn short(name: &str) -> &str {
    name.split_once(':').map_or(name, |(_, short)| short)
}

fn errors(counts: &Json) -> u64 {
    counts.member("io_error").map_or(0, |errors| number(errors, "IO_ERROR"))
}

/// Sessions with how many connections they have, in the order of their first.
pub(super) fn sessions(connections: &[Json]) -> Vec<Json> {
    let mut sessions: Vec<Json> = Vec::new();
    for connection in connections.iter().filter(|connection| member(connection, "session") != Json::Null) {
        let id = member(connection, "session");
        match sessions.iter_mut().find(|session| member(session, "session") == id) {
            Some(session) => {
                let more = number(session, "connections") + 1;
                if let Some(connections) = session.member_mut("connections") {
                    *connections = more.into();
                }
            }
            None => sessions.push(object! {
                "session": id,
                "initiator_name": member(connection, "initiator_name"),
                "initiator_addr": member(connection, "initiator_addr"),
                "target_name": member(connection, "target_name"),
                "pg_tag": member(connection, "pg_tag"),
                "connections": 1u64,
                "thread_name": member(connection, "thread_name"),
            }),
        }
    }
    sessions
}

pub(super) fn pretty(json: &Json) -> String {
    let mut text = String::new();
    json.write_pretty(&mut text);
    text.push('\n');
    text
}

/// One screen.
pub(super) fn status(args: &Look) -> Result<(), Failed> {
    let seen = Seen::ask(&args.socket.path()?)?;
    print(&if args.json { pretty(&status_json(&seen)) } else { status_text(&seen) })
}

fn status_json(seen: &Seen) -> Json {
    let target = |target: &Json| {
        object! { "name": member(target, "name"), "luns": member(target, "luns"),
        "sessions": seen.sessions_of(&text(target, "name")) as u64 }
    };
    let disk = |bdev: &Json| {
        let name = text(bdev, "name");
        let counts = seen.counts_of(&name);
        let bytes = number(bdev, "num_blocks").saturating_mul(number(bdev, "block_size"));
        object! { "name": &name, "bytes": bytes, "luns": seen.luns_of(&name), "reads": number(&counts, "num_read_ops"),
        "writes": number(&counts, "num_write_ops"), "errors": errors(&counts) }
    };
    object! {
        "version": member(&seen.version, "version"),
        "targets": seen.targets.iter().map(target).collect::<Json>(),
        "disks": seen.bdevs.iter().map(disk).collect::<Json>(),
        "sessions": sessions(&seen.connections).len() as u64,
        "limits": seen.limits().into_iter().map(|[name, limits]| object! { "name": name, "limits": limits }).collect::<Json>(),
        "problems": seen.problems(),
    }
}

fn status_text(seen: &Seen) -> String {
    let mut out = format!("{}\n", text(&seen.version, "version"));
    if !seen.targets.is_empty() {
        out.push('\n');
        out.push_str(&table(
            ["TARGET", "LUNS", "PORTAL GROUPS", "SESSIONS"],
            seen.targets.iter().map(|target| {
                let name = text(target, "name");
                let mut groups: Vec<_> =
                    array(member(target, "pg_ig_maps")).iter().map(|map| text(map, "pg_tag")).collect();
                groups.dedup();
                let luns = array(member(target, "luns")).len().to_string();
                let sessions = seen.sessions_of(&name).to_string();
                [name, luns, groups.join(" "), sessions]
            }),
        ));
    }
    if !seen.bdevs.is_empty() {
        out.push('\n');
        out.push_str(&table(
            ["DISK", "SIZE", "LUN", "READS", "READ", "WRITES", "WRITTEN", "ERRORS"],
            seen.bdevs.iter().map(|bdev| {
                let name = text(bdev, "name");
                let counts = seen.counts_of(&name);
                let bytes = number(bdev, "num_blocks").saturating_mul(number(bdev, "block_size"));
                let count = |member: &str| number(&counts, member).to_string();
                let moved = |member: &str| size(number(&counts, member));
                // Which number it has there is each group's own.
                let luns = [seen.luns_of(&name), seen.targets_of(&name)].concat();
                [
                    name,
                    size(bytes),
                    if luns.is_empty() { "-".to_owned() } else { luns.join(" ") },
                    count("num_read_ops"),
                    moved("bytes_read"),
                    count("num_write_ops"),
                    moved("bytes_written"),
                    errors(&counts).to_string(),
                ]
            }),
        ));
    }
    let limits = seen.limits();
    if !limits.is_empty() {
        out.push('\n');
        out.push_str(&table(["LIMITED", "TO"], limits));
    }
    let problems = seen.problems();
    out.push('\n');
    if problems.is_empty() {
        out.push_str("nothing is wrong\n");
    }
    for problem in problems {
        out.push_str(&format!("! {problem}\n"));
    }
    out
}

/// Who is logged in.
pub(super) fn list_sessions(args: &Look) -> Result<(), Failed> {
    let sessions = sessions(&list(&args.socket.path()?, "iscsi_get_connections")?);
    if args.json {
        return print(&pretty(&Json::Array(sessions)));
    }
    if sessions.is_empty() {
        return print("nobody is logged in\n");
    }
    let names = [
        "session",
        "initiator_name",
        "initiator_addr",
        "target_name",
        "pg_tag",
        "connections",
        "thread_name",
    ];
    let rows = sessions.iter().map(|session| {
        names.map(|name| match text(session, name) {
            discovery if discovery.is_empty() && name == "target_name" => "(discovery)".to_owned(),
            text => text,
        })
    });
    print(&table(["SESSION", "INITIATOR", "FROM", "TARGET", "PORTAL GROUP", "CONNECTIONS", "REACTOR"], rows))
}

/// Ends sessions.
pub(super) fn kick(args: &Kick) -> Result<(), Failed> {
    let socket = args.socket.path()?;
    let sessions = sessions(&list(&socket, "iscsi_get_connections")?);
    let is_meant =
        |session: &&Json| text(session, "session") == args.who || text(session, "initiator_name") == args.who;
    let meant: Vec<&Json> = sessions.iter().filter(is_meant).collect();
    if meant.is_empty() {
        return Err(Failed::failure(format!(
            "{}: no session has this number, and no initiator that is logged in this name; 'lunette sessions' lists them",
            args.who
        )));
    }
    for session in &meant {
        let params = object! { "session": member(session, "session") };
        call(&socket, "lunette_end_session", &params)?;
        if args.json {
            continue;
        }
        let (id, initiator) = (text(session, "session"), text(session, "initiator_name"));
        print(&format!(
            "ended session {id} of {initiator}; it may log in again unless its initiator group keeps it out\n"
        ))?;
    }
    match args.json {
        true => print(&pretty(&meant.into_iter().cloned().collect::<Json>())),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
