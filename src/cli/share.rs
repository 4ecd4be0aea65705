//! `lunette share`, `unshare` and `resize`: disks of a running daemon, each behind a target of its own.
//!
//! What a daemon has is asked, a pure function says which calls it takes, then they are made; where one fails those before
//! it are taken back.

mod known;
mod plan;
mod resize;
mod secret;
mod unshare;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use self::known::Known;
pub use self::plan::Allow;
use self::plan::{Account, Plan, What, Wish, address};
pub use self::resize::Resize;
pub(super) use self::resize::resize;
use self::secret::Source;
pub use self::unshare::Unshare;
pub(super) use self::unshare::unshare;
use super::args::address as portal;
use super::disk::{self, size_bytes};
use super::files::missing;
use super::rpc::call;
use super::socket::{SocketArg, is_remote};
use super::status::{array, member, number, pretty, size};
use super::{Failed, hints, print};
use crate::bdev::sg;
use crate::rpc::json::{Json, object};
use crate::rpc::keep::UNSAVED;

/// `lunette share`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  lunette share disk.img                             a file that is there
  lunette share --size 10G new.img                   one that is made: sparse
  lunette share /dev/vg0/data --name data            a block device, as iqn.2026-11.io.lunette:data
  lunette share 1G --portal 192.0.2.10 --allow 'iqn.1993-08.org.debian:01:*'
  lunette share disk.img --chap joe                  prints a secret that joe is to have, once")]
pub struct Share {
    /// A file or block device, an .iso file (the disc in a CD-ROM drive), /dev/sgN (passed through), a disk that the daemon
    /// has by its name, or a size as 1G: a RAM disk. ./1G is a file
    #[arg(value_name = "PATH|SIZE")]
    pub what: String,
    /// The target's name: an iSCSI name, or what comes behind 'iqn.2026-11.io.lunette:' [default: the disk's]
    #[arg(long)]
    pub name: Option<String>,
    /// Who may log in: an initiator's name ('*' and '?' stand for anything) or a network, as 192.0.2.0/24. Repeatable; of
    /// names and of networks one has to fit [default: everybody]
    #[arg(long, value_name = "IQN|CIDR")]
    pub allow: Vec<Allow>,
    /// Initiators prove by CHAP that they are this user. Without --chap-secret-file a secret is made and printed, once
    #[arg(long, value_name = "USER")]
    pub chap: Option<String>,
    /// The secret of --chap, 12 to 16 bytes, in a file that others cannot read; - asks for it
    #[arg(long, value_name = "FILE", requires = "chap")]
    pub chap_secret_file: Option<PathBuf>,
    /// Where to listen: ADDR or ADDR:PORT, IPv6 addresses in brackets
    /// [default: where the daemon does already, else 127.0.0.1:3260]
    #[arg(long, value_name = "ADDR:PORT", value_parser = portal)]
    pub portal: Option<SocketAddr>,
    /// Initiators can only read
    #[arg(long, conflicts_with = "size")]
    pub read_only: bool,
    /// Make PATH, which is not there: a sparse file of this size, as 10G
    #[arg(long, value_name = "SIZE", value_parser = disk::size)]
    pub size: Option<u64>,
    /// Bytes of a block of PATH: 512, 1024, 2048 or 4096 [default: 512 for files, a device's own]
    #[arg(long, value_name = "BYTES", value_parser = disk::block)]
    pub block_size: Option<u32>,
    /// A RAM disk: how large 'lunette resize' can make it; that much address space is set aside, not memory
    #[arg(long, value_name = "SIZE", value_parser = disk::size)]
    pub max_size: Option<u64>,
    /// Which daemon.
    #[command(flatten)]
    pub socket: SocketArg,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Shares a disk.
pub(super) fn share(args: &Share) -> Result<(), Failed> {
    let socket = args.socket.path()?;
    let known = Known::ask(&socket)?;
    let what = what(args, &known, is_remote(&socket))?;
    let source = args.chap.as_ref().map(|_| Source::of(args.chap_secret_file.as_deref())).transpose()?;
    let account = match (&args.chap, &source) {
        (Some(user), Some(source)) => {
            Some(Account { user: user.clone(), secret: source.secret().to_owned() })
        }
        _ => None,
    };
    let (name, portal, allow) = (args.name.clone(), args.portal, args.allow.clone());
    let plan = plan::plan(&Wish { what, name, portal, allow, account }, &known)?;
    make(&socket, &plan)?;
    let shared = Shared::look(&socket, args, plan, source)?;
    print(&if args.json { pretty(&shared.json()) } else { shared.text() })
}

/// What the argument means to this daemon, whose files are here or `is_remote`.
fn what(args: &Share, known: &Known, is_remote: bool) -> Result<What, Failed> {
    let is_plain = !args.read_only && args.size.is_none() && args.block_size.is_none();
    let only_files = "--read-only, --size and --block-size are for files and devices";
    let bytes = size_bytes(&args.what).filter(|&bytes| bytes > 0);
    if args.max_size.is_some() && bytes.is_none() {
        return Err(Failed::usage("--max-size is for RAM disks: lunette share 1G --max-size 8G"));
    }
    if let Some(bytes) = bytes {
        if args.max_size.is_some_and(|most| most < bytes) {
            return Err(Failed::usage("--max-size is less than the RAM disk has from the start"));
        }
        let ram = What::Ram { bytes, bytes_max: args.max_size };
        return is_plain.then_some(ram).ok_or_else(|| Failed::usage(only_files));
    }
    if known.bdev(&args.what).is_some() {
        let bdev = What::Bdev(args.what.clone());
        return is_plain.then_some(bdev).ok_or_else(|| Failed::usage(only_files));
    }
    let path = std::path::absolute(&args.what)
        .map_err(|error| Failed::failure(format!("{}: {error}", args.what)))?;
    if is_remote && !Path::new(&args.what).is_absolute() {
        return Err(Failed::usage(format!(
            "{}: the file or device is of the daemon's machine: give its whole path there",
            args.what
        )));
    }
    // The daemon says what else is wrong with it.
    if !is_remote && args.size.is_none() && matches!(path.try_exists(), Ok(false)) {
        return Err(Failed::failure(missing(&path)));
    }
    let (create_bytes, block_bytes, is_read_only) = (args.size, args.block_size, args.read_only);
    let is_generic = if is_remote { is_called_generic(&path) } else { sg::is_generic(&path) };
    Ok(What::File { path, create_bytes, block_bytes, is_read_only, is_generic })
}

/// Whether a device that cannot be looked at is called as generic SCSI devices are: `/dev/sgN`.
fn is_called_generic(path: &Path) -> bool {
    let number = path.to_str().and_then(|path| path.strip_prefix("/dev/sg"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
}

/// Makes the calls: all of them, or none.
fn make(socket: &Path, plan: &Plan) -> Result<(), Failed> {
    for (made, step) in plan.steps.iter().enumerate() {
        let Err(failed) = call(socket, step.method, &step.params) else { continue };
        // One that failed otherwise may name what somebody else has made since.
        let is_done = matches!(&failed, Failed::Failure(text) if text.contains(UNSAVED));
        for step in plan.steps[..made + usize::from(is_done)].iter().rev() {
            let (method, params) = &step.undo;
            // What is wrong is in the first failure; what is left shows in 'lunette status'.
            let _ = call(socket, method, params);
        }
        return Err(failed);
    }
    Ok(())
}

/// A disk that is shared.
struct Shared {
    plan: Plan,
    bytes: u64,
    portals: Vec<SocketAddr>,
    user: Option<String>,
    /// Where it was made now.
    secret: Option<String>,
    is_ram: bool,
}

impl Shared {
    fn look(socket: &Path, args: &Share, plan: Plan, source: Option<Source>) -> Result<Shared, Failed> {
        let groups = array(call(socket, "iscsi_get_portal_groups", &Json::Null)?);
        let group = groups.iter().find(|group| number(group, "tag") == plan.portal_group);
        let portals = group.map_or_else(Vec::new, |group| array(member(group, "portals")));
        let bytes = Known::ask(socket)?.bytes_of(&plan.bdev);
        let secret = source.and_then(Source::made);
        let is_ram = size_bytes(&args.what).is_some();
        let portals = portals.iter().filter_map(address).collect();
        Ok(Shared { plan, bytes, portals, user: args.chap.clone(), secret, is_ram })
    }

    fn json(&self) -> Json {
        let mut shown = object! {
            "target": &self.plan.target,
            "lun": 0u64,
            "disk": &self.plan.bdev,
            "bytes": self.bytes,
            "portals": self.portals.iter().map(SocketAddr::to_string).collect::<Json>(),
        };
        if let Some(user) = &self.user {
            shown.push("chap_user", user);
        }
        if let Some(secret) = &self.secret {
            shown.push("chap_secret", secret);
        }
        shown
    }

    fn text(&self) -> String {
        let Plan { target, bdev, .. } = &self.plan;
        let mut text = format!("{bdev} ({}) is LUN 0 of {target}\n", size(self.bytes));
        for portal in &self.portals {
            text.push_str(&format!("listening on {portal}\n"));
        }
        if let Some(&portal) = self.portals.first() {
            text.push_str("\nTo reach it:\n");
            text.push_str(&hints::connect(portal, target, 1, self.user.as_deref()));
        }
        if let (Some(user), Some(secret)) = (&self.user, &self.secret) {
            text.push_str(&format!("\nThe secret of {user}, which is not shown again: {secret}\n"));
        }
        let mut remarks = Vec::new();
        if self.is_ram {
            remarks.push("its data are in memory: they are gone when the daemon ends".to_owned());
        }
        let remote = self.portals.iter().find(|portal| !portal.ip().is_loopback());
        match remote {
            Some(portal) if self.plan.is_open => remarks.push(format!(
                "everybody who reaches {portal} can read and write: --allow says who may come, --chap asks for a proof"
            )),
            Some(_) => {}
            None => remarks.push("only this machine reaches it: --portal ADDR listens for others".to_owned()),
        }
        if !remarks.is_empty() {
            text.push('\n');
        }
        for remark in remarks {
            text.push_str(&format!("! {remark}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::net::UnixListener;

    use clap::Parser;

    use super::plan::Step;
    use super::*;

    /// What is called where the second of two calls fails so.
    fn called(message: &str) -> Vec<String> {
        let name = format!("lunette-make-{}-{}.sock", std::process::id(), message.len());
        let path = std::env::temp_dir().join(name);
        let listener = UnixListener::bind(&path).unwrap();
        let step = |method, undo| Step { method, params: Json::Null, undo: (undo, Json::Null) };
        let plan = Plan {
            steps: vec![
                step("bdev_malloc_create", "bdev_malloc_delete"),
                step("iscsi_create_target_node", "iscsi_delete_target_node"),
                step("never", "never_back"),
            ],
            target: String::new(),
            bdev: String::new(),
            portal_group: 1,
            is_open: true,
        };
        let (began, began_all) = std::sync::mpsc::channel();
        let answer = message.to_owned();
        let daemon = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = Vec::new();
                BufReader::new(&stream).read_until(b'}', &mut request).unwrap();
                if request.is_empty() {
                    return;
                }
                let request = Json::parse(std::str::from_utf8(&request).unwrap()).unwrap();
                let method = request.member("method").and_then(Json::text).unwrap().to_owned();
                let outcome = match method.as_str() {
                    "iscsi_create_target_node" => {
                        format!(r#""error":{{"code":-32603,"message":"{answer}"}}"#)
                    }
                    _ => r#""result":true"#.to_owned(),
                };
                began.send(method).unwrap();
                writeln!(stream, r#"{{"jsonrpc":"2.0","id":1,{outcome}}}"#).unwrap();
            }
        });
        let failed = make(&path, &plan).unwrap_err();
        assert!(matches!(failed, Failed::Failure(text) if text.contains(message)));
        // A connection on which nothing comes ends it.
        drop(std::os::unix::net::UnixStream::connect(&path).unwrap());
        daemon.join().unwrap();
        std::fs::remove_file(&path).unwrap();
        began_all.into_iter().collect()
    }

    #[test]
    fn what_was_done_is_taken_back_whether_it_was_saved_or_not() {
        let made = ["bdev_malloc_create", "iscsi_create_target_node"];
        assert_eq!(called("File exists"), [&made[..], &["bdev_malloc_delete"]].concat());
        let unsaved = format!("Internal error: {UNSAVED}: /etc/c.json: No space left on device");
        assert_eq!(
            called(&unsaved),
            [&made[..], &["iscsi_delete_target_node", "bdev_malloc_delete"]].concat()
        );
    }

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        share: Share,
    }

    #[test]
    fn paths_of_another_machine_are_not_looked_at_here() {
        let of = |words: &[&str], is_remote| {
            let args = Line::parse_from([&["share"], words].concat()).share;
            what(&args, &Known::of(&Json::Null, Vec::new()), is_remote)
        };
        let file = |is_generic, path: &str| What::File {
            path: PathBuf::from(path),
            create_bytes: None,
            block_bytes: None,
            is_read_only: false,
            is_generic,
        };
        let there = "/nowhere/that/is/here.img";
        assert_eq!(of(&[there], true).unwrap(), file(false, there));
        assert!(of(&[there], false).is_err());
        // Whatever this machine has under that name.
        assert_eq!(of(&["/dev/sg7"], true).unwrap(), file(true, "/dev/sg7"));
        assert_eq!(of(&["/dev/sgx"], true).unwrap(), file(false, "/dev/sgx"));
        let refused = of(&["here.img"], true).unwrap_err();
        assert!(format!("{refused:?}").contains("whole path there"), "{refused:?}");
    }
}
