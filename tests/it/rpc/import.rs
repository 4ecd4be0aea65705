//! Configurations of other targets: loaded by a daemon, and what initiators see of a disk before and after it has moved.
//!
//! Where tgt or istgt is installed, it is started on loopback and asked. Where not, these tests say so and have shown nothing.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::Instant;

use lunette::import::export::{To, export};
use lunette::import::source::{Disk, Files as _, Source};
use lunette::import::{Format, Imported, import};
use lunette::rpc::config::Plan;
use lunette_initiator::chap::Algorithm;
use lunette_initiator::config::{Auth, Chap};
use lunette_initiator::scsi::cdb;
use lunette_initiator::{Client, Command, Config, lun};
use serde_json::Value;

use super::daemon::{Folder, Managed};
use crate::harness::{SOON, not_run, test_unit_ready};

/// The fixtures, of which each is loaded with its files below `folder` and on loopback; `keep` says which of its calls.
fn fixture(name: &str, folder: &Path) -> Value {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import").join(name).join("config.json");
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for subsystem in config["subsystems"].as_array_mut().unwrap() {
        let calls = subsystem["config"].as_array_mut().unwrap();
        // Nobody is there.
        calls.retain(|call| call["method"] != "lunette_isns_set_server");
        for call in calls {
            let params = &mut call["params"];
            if let Some(file) = params["filename"].as_str() {
                params["filename"] = folder.join(&file[1..]).to_string_lossy().into_owned().into();
            }
            for portal in params.get_mut("portals").and_then(Value::as_array_mut).into_iter().flatten() {
                let host = if portal["host"].as_str().unwrap().contains(':') { "[::1]" } else { "127.0.0.1" };
                *portal = serde_json::json!({ "host": host, "port": "0" });
            }
            // A size is for files that are not there, and their folder is not there either.
            if let Some(params) = params.as_object_mut() {
                params.remove("lunette_create_size");
            }
        }
    }
    config
}

/// What is saved as it was given, ports and files aside.
const KEPT: &[&str] = &[
    "iscsi_create_auth_group",
    "iscsi_create_initiator_group",
    "iscsi_create_target_node",
    "iscsi_portal_group_set_auth",
    "iscsi_target_node_set_redirect",
    "lunette_bdev_set_identity",
    "lunette_target_node_set_alua_state",
    "lunette_target_node_set_lun_map",
];

fn kept(config: &Value) -> Vec<Value> {
    let calls = config["subsystems"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|subsystem| subsystem["config"].as_array().unwrap());
    let kept = calls.filter(|call| KEPT.contains(&call["method"].as_str().unwrap()));
    let without_ports = |call: &Value| {
        let mut call = call.clone();
        call["params"].as_object_mut().unwrap().remove("lunette_ports");
        call
    };
    kept.map(without_ports).collect()
}

#[test]
fn every_imported_configuration_is_loaded_and_saved_as_it_is() {
    for name in ["ctld", "iet", "iet-deny", "istgt", "lio", "scst", "tgt", "tgt-show"] {
        let folder = Folder::new();
        let config = fixture(name, &folder.path(""));
        let plan = Plan::parse(&config.to_string()).unwrap();
        let daemon = Managed::try_start(folder, Some(plan)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let saved = kept(&daemon.ok("lunette_get_config", "{}"));
        for call in kept(&config) {
            assert!(saved.contains(&call), "{name}: {call}\nis none of {saved:#?}");
        }
    }
}

/// Where a program is, which may be one for root.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/usr/local/sbin"]);
    let found = folders.map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
    if found.is_none() {
        not_run(&format!("{name} is not installed: what initiators see of its disks was not compared"));
    }
    found
}

/// A process that is killed at the end.
struct Running(Child);

impl Running {
    fn start(process: &mut Process) -> Running {
        Running(process.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that nobody has at the moment.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What an initiator sees of a LUN: vendor, product and revision, VPD 80h, and the designators of the logical unit in VPD 83h.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Seen {
    names: Vec<u8>,
    serial: Vec<u8>,
    designators: Vec<Vec<u8>>,
}

fn look(portal: &str, target: &str, number: u16) -> Seen {
    let mut client = Client::connect(portal, Config::new("iqn.2026-11.io.example:a", target)).unwrap();
    let mut run = |cdb| {
        let mut command = Command::read(0, cdb, 512);
        command.lun = lun::from_number(number);
        client.run(command).unwrap().data
    };
    let inquiry = run(cdb::inquiry(96));
    let serial = run(cdb::inquiry_vpd(0x80, 252));
    let page = run(cdb::inquiry_vpd(0x83, 252));
    let mut designators = Vec::new();
    let end = (4 + usize::from(page[2]) * 256 + usize::from(page[3])).min(page.len());
    let mut rest = &page[4..end];
    while rest.len() > 4 {
        let (one, others) = rest.split_at(4 + usize::from(rest[3]));
        // ASSOCIATION 00b.
        if one[1] & 0x30 == 0 {
            designators.push(one.to_vec());
        }
        rest = others;
    }
    Seen {
        names: inquiry[8..36].to_vec(),
        serial: serial[4..4 + usize::from(serial[3])].to_vec(),
        designators,
    }
}

/// Asks until a portal answers.
fn await_portal(portal: &str) {
    let until = Instant::now() + SOON;
    while std::net::TcpStream::connect(portal).is_err() {
        assert!(Instant::now() < until, "{portal} does not answer");
        std::thread::yield_now();
    }
}

/// Loads what comes of files, on loopback; the daemon and its portal.
fn moved(format: Format, names: &[PathBuf], folder: Folder) -> (Managed, String) {
    let read =
        |path: &PathBuf| Source { name: path.to_string_lossy().into_owned(), text: Disk.read(path).unwrap() };
    let sources: Vec<Source> = names.iter().map(read).collect();
    assert_eq!(Format::detect(&sources), Some(format));
    let Imported { config, report } =
        import(format, &sources, &Disk, &["127.0.0.1:0".parse().unwrap()], &[]).unwrap();
    let daemon = Managed::try_start(folder, Some(Plan::parse(&config.to_string()).unwrap())).unwrap();
    let groups = daemon.ok("iscsi_get_portal_groups", "{}");
    let portal = format!("127.0.0.1:{}", groups[0]["portals"][0]["port"].as_str().unwrap());
    eprintln!("{report}");
    (daemon, portal)
}

fn disk(path: &Path) {
    std::fs::File::create(path).unwrap().set_len(1 << 20).unwrap();
}

/// tgt's daemon with a configuration that tgt-admin has read.
struct Tgt {
    admin: PathBuf,
    control: String,
    portal: String,
    _running: Running,
}

impl Tgt {
    fn start(tgtd: &Path, admin: PathBuf, conf: &Path) -> Tgt {
        let port = free_port();
        // tgtd takes no larger one for its own socket.
        let control = (port % 32767 + 1).to_string();
        let portal = format!("127.0.0.1:{port}");
        let listen = format!("portal={portal}");
        let running = Running::start(Process::new(tgtd).args(["-f", "-C", &control, "--iscsi", &listen]));
        await_portal(&portal);
        let tgt = Tgt { admin, control, portal, _running: running };
        tgt.admin(&["-e", "-c", &conf.display().to_string()]);
        tgt
    }

    fn admin(&self, args: &[&str]) -> String {
        let done = Process::new(&self.admin).args(["-C", &self.control]).args(args).output().unwrap();
        assert!(done.status.success() && done.stderr.is_empty(), "{args:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    }
}

/// The way back: what is exported is read by tgt's own tools, and initiators find there what they have found here.
#[test]
fn a_disk_that_goes_to_tgt_is_the_same_to_initiators() {
    const OPEN: &str = "iqn.2026-11.io.example:open";
    const CLOSED: &str = "iqn.2026-11.io.example:closed";
    const NAA: &str = "6e0b1c2d3f405162738495a6b7c8d9ea";
    let (Some(tgtd), Some(admin)) = (program("tgtd"), program("tgt-admin")) else { return };
    let folder = Folder::new();
    let files = ["a.img", "b.img", "c.img"].map(|name| folder.path(name));
    files.iter().for_each(|file| disk(file));
    let aio = |name: &str, file: &PathBuf, is_read_only: bool| {
        serde_json::json!({"method": "bdev_aio_create",
            "params": {"name": name, "filename": file, "block_size": 512, "readonly": is_read_only}})
    };
    let target = |name: &str, chap: u64, luns: Value| {
        serde_json::json!({"method": "iscsi_create_target_node", "params": {"name": name, "alias_name": "", "queue_depth": 64,
            "pg_ig_maps": [{"pg_tag": 1, "ig_tag": 1}], "luns": luns, "require_chap": chap > 0, "chap_group": chap}})
    };
    let config = serde_json::json!({"subsystems": [
        {"subsystem": "bdev", "config": [
            aio("a", &files[0], false), aio("b", &files[1], true), aio("c", &files[2], false),
            {"method": "lunette_bdev_set_identity", "params": {"name": "a", "vendor": "ACME", "product": "Road Runner",
                "revision": "9", "serial": "SN-1", "naa": NAA}}]},
        {"subsystem": "iscsi", "config": [
            {"method": "iscsi_create_portal_group", "params": {"tag": 1, "portals": [{"host": "127.0.0.1", "port": "0"}]}},
            {"method": "iscsi_create_initiator_group", "params": {"tag": 1, "initiators": ["ANY"], "netmasks": ["ANY"]}},
            {"method": "iscsi_create_auth_group", "params": {"tag": 1, "secrets": [{"user": "host", "secret": "correct-horse-12"}]}},
            target(OPEN, 0, serde_json::json!([{"bdev_name": "a", "lun_id": 3}, {"bdev_name": "b", "lun_id": 18}])),
            target(CLOSED, 1, serde_json::json!([{"bdev_name": "c", "lun_id": 1}]))]}]});
    let daemon = Managed::try_start(folder, Some(Plan::parse(&config.to_string()).unwrap())).unwrap();
    let groups = daemon.ok("iscsi_get_portal_groups", "{}");
    let portal = format!("127.0.0.1:{}", groups[0]["portals"][0]["port"].as_str().unwrap());
    let before = look(&portal, OPEN, 3);
    let text = daemon.ok("lunette_get_config", "{}").to_string();
    let folder = daemon.stop();

    let exported = export(To::Tgt, &Source { name: "lunette.json".to_owned(), text }, &Disk).unwrap();
    let conf = folder.path("targets.conf");
    std::fs::write(&conf, &exported.text).unwrap();
    let tgt = Tgt::start(&tgtd, admin, &conf);
    let after = look(&tgt.portal, OPEN, 3);
    // tgt cuts nothing, and fills up at the other end of a serial number.
    let padded = |text: &[u8]| String::from_utf8(text.to_vec()).unwrap().trim().to_owned();
    assert_eq!((before.names, padded(&before.serial)), (after.names, padded(&after.serial)));
    let naa: Vec<u8> =
        [&[0x01, 0x03, 0x00, 0x10][..], &u128::from_str_radix(NAA, 16).unwrap().to_be_bytes()].concat();
    assert!(before.designators.contains(&naa) && after.designators.contains(&naa), "{:?}", after.designators);
    // Who has no account is kept out, and who has it is let in.
    let as_host = |auth: Auth| {
        let config = Config { auth, ..Config::new("iqn.2026-11.io.example:a", CLOSED) };
        Client::connect(&tgt.portal, config).map(drop)
    };
    assert!(as_host(Auth::None).is_err());
    let chap = Chap { algorithms: vec![Algorithm::Md5], ..Chap::new("host", b"correct-horse-12") };
    as_host(Auth::Chap(chap)).unwrap();
    // What tgt-admin tells of it comes back as it went.
    let shown = tgt.admin(&["--show"]);
    let source = Source { name: "show".to_owned(), text: shown };
    let Imported { config, .. } = import(Format::Tgt, &[source], &Disk, &[], &[]).unwrap();
    let config: Value = serde_json::from_str(&config.to_string()).unwrap();
    let calls = |method: &str| {
        let all = config["subsystems"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|part| part["config"].as_array().unwrap());
        all.filter(|call| call["method"] == method).map(|call| call["params"].clone()).collect::<Vec<_>>()
    };
    let luns = |name: &str| {
        let targets = calls("iscsi_create_target_node");
        let target = targets.iter().find(|target| target["name"] == name).unwrap();
        target["luns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|lun| lun["lun_id"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!((luns(OPEN), luns(CLOSED)), (vec![3, 18], vec![1]));
    let disks: Vec<(Value, Value)> = calls("bdev_aio_create")
        .iter()
        .map(|disk| (disk["filename"].clone(), disk["readonly"].clone()))
        .collect();
    for (file, is_read_only) in files.iter().zip([false, true, false]) {
        let wanted = (Value::from(file.to_string_lossy()), Value::from(is_read_only));
        assert!(disks.contains(&wanted), "{wanted:?} is none of {disks:?}");
    }
    // And --dump writes a configuration of it.
    let dumped = tgt.admin(&["--dump"]);
    for wanted in [OPEN, CLOSED, "incominguser host", &files[1].display().to_string()] {
        assert!(dumped.contains(wanted), "{wanted} is not in {dumped}");
    }
}

#[test]
fn a_disk_that_comes_from_tgt_is_the_same_to_initiators() {
    let (Some(tgtd), Some(admin)) = (program("tgtd"), program("tgt-admin")) else { return };
    let folder = Folder::new();
    let file = |name: &str| folder.path(name);
    for name in ["z.img", "a.img", "own.img"] {
        disk(&file(name));
    }
    let conf = file("targets.conf");
    let (z, a, own) = (file("z.img"), file("a.img"), file("own.img"));
    let text = format!(
        "default-driver iscsi\n<target iqn.2026-11.io.example:two>\n  backing-store {}\n  backing-store {}\n</target>\n\
         <target iqn.2026-11.io.example:one>\n  <backing-store {}>\n    lun 18\n    vendor_id ACME\n    product_id Roadrunner\n    \
         product_rev 9\n    scsi_id ACME-0815\n    scsi_sn SN-1\n  </backing-store>\n</target>\n",
        z.display(),
        a.display(),
        own.display()
    );
    std::fs::write(&conf, text).unwrap();
    let tgt = Tgt::start(&tgtd, admin, &conf);
    let portal = &tgt.portal;
    let luns = [
        ("iqn.2026-11.io.example:two", 1),
        ("iqn.2026-11.io.example:two", 2),
        ("iqn.2026-11.io.example:one", 18),
    ];
    let before = luns.map(|(target, number)| look(portal, target, number));
    drop(tgt);
    let (_daemon, portal) = moved(Format::Tgt, &[conf], folder);
    let after = luns.map(|(target, number)| look(&portal, target, number));
    assert_eq!(before, after);
    assert_eq!(after[0].names, *b"IET     VIRTUAL-DISK    0001");
    assert_eq!(after[2].serial, b"                                SN-1");
    let mut client = Client::connect(&portal, Config::new("iqn.2026-11.io.example:a", luns[2].0)).unwrap();
    let mut ready = test_unit_ready(0);
    ready.lun = lun::from_number(18);
    while !client.run(ready.clone()).unwrap().is_good() {}
}

#[test]
fn a_disk_that_comes_from_istgt_is_the_same_to_initiators() {
    let Some(istgt) = program("istgt") else { return };
    let folder = Folder::new();
    let file = |name: &str| folder.path(name);
    let (disk_path, conf, auth) = (file("disk.img"), file("istgt.conf"), file("auth.conf"));
    disk(&disk_path);
    let (port, manage) = (free_port(), free_port());
    let portal = format!("127.0.0.1:{port}");
    let text = format!(
        "[Global]\n  NodeBase \"iqn.2026-11.io.example\"\n  PidFile {}\n  AuthFile {}\n  LogFacility \"local7\"\n  \
         DiscoveryAuthMethod None\n  MaxSessions 16\n  MaxConnections 4\n\
         [UnitControl]\n  AuthMethod None\n  Portal UC1 127.0.0.1:{manage}\n  Netmask 127.0.0.1\n\
         [PortalGroup1]\n  Portal DA1 {portal}\n[InitiatorGroup1]\n  InitiatorName \"ALL\"\n  Netmask 127.0.0.0/8\n\
         [LogicalUnit3]\n  TargetName disk1\n  Mapping PortalGroup1 InitiatorGroup1\n  AuthMethod None\n  UnitType Disk\n  \
         LUN0 Storage {} Auto\n",
        file("istgt.pid").display(),
        auth.display(),
        disk_path.display()
    );
    std::fs::write(&conf, text).unwrap();
    std::fs::write(&auth, "[AuthGroup1]\n").unwrap();
    std::fs::set_permissions(&auth, PermissionsExt::from_mode(0o600)).unwrap();
    // In the foreground.
    let running = Running::start(Process::new(istgt).arg("-D").arg("-c").arg(&conf));
    await_portal(&portal);
    let target = "iqn.2026-11.io.example:disk1";
    let before = look(&portal, target, 0);
    drop(running);
    // The portal is said by its address: it is that one again.
    let (_daemon, portal) = moved(Format::Istgt, &[conf, auth], folder);
    let after = look(&portal, target, 0);
    assert_eq!(before, after);
    assert_eq!(after.serial, b"10000003");
}
