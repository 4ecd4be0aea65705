//! Whole files: every fixture, and texts that nobody wrote.

use std::io;
use std::path::{Path, PathBuf};

use super::report::Fate;
use super::source::{Files, Source};
use super::{Format, import};
use crate::control::access::fits;
use crate::rpc::config::Plan;

/// Files of a test.
#[derive(Debug, Default)]
pub(super) struct Folder(pub(super) Vec<(&'static str, &'static str)>);

impl Files for Folder {
    fn read(&self, path: &Path) -> io::Result<String> {
        let found = self.0.iter().find(|(name, _)| Path::new(name) == path);
        found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let text = pattern.to_string_lossy();
        if !text.contains('*') {
            return Ok(vec![pattern.to_owned()]);
        }
        let names = self.0.iter().map(|(name, _)| PathBuf::from(name));
        Ok(names.filter(|name| fits(text.as_bytes(), name.to_string_lossy().as_bytes())).collect())
    }

    fn file_bytes(&self, path: &Path) -> Option<u64> {
        self.read(path).ok().map(|text| text.len() as u64)
    }
}

const ALL: [Format; 7] =
    [Format::Tgt, Format::Iet, Format::Lio, Format::Scst, Format::Ctld, Format::Istgt, Format::Spdk];

/// Where the fixtures are; each folder is a configuration, with `config.json` and `report.txt` as what comes of it.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import")
}

/// A configuration's own files.
fn sources(folder: &Path) -> Vec<Source> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != "config.json" && name != "report.txt")
        .collect();
    names.sort();
    let source = |name: String| Source { text: std::fs::read_to_string(folder.join(&name)).unwrap(), name };
    names.into_iter().map(source).collect()
}

/// What a fixture includes, relative to its folder.
struct Below(PathBuf);

impl Below {
    /// What is at this machine's root is not theirs.
    fn below(&self, path: &Path) -> PathBuf {
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }
}

impl Files for Below {
    fn read(&self, path: &Path) -> io::Result<String> {
        super::source::Disk.read(&self.below(path))
    }

    fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let found = super::source::Disk.matching(&self.below(pattern))?;
        Ok(found.into_iter().map(|path| path.strip_prefix(&self.0).unwrap().to_owned()).collect())
    }
}

fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

/// `UPDATE_FIXTURES=1` writes what comes of them anew, to be read before it is committed.
#[test]
fn every_fixture_becomes_what_stands_beside_it() {
    let folders = folders();
    assert!(folders.len() >= 8, "{folders:?}");
    for folder in folders {
        let sources = sources(&folder);
        let format = Format::detect(&sources).unwrap_or_else(|| panic!("{}: whose is it?", folder.display()));
        let imported = import(format, &sources, &Below(folder.clone()), &[], &[]).unwrap();
        let mut config = String::new();
        imported.config.write_pretty(&mut config);
        config.push('\n');
        let report = format!("{}\n", imported.report);
        for (name, text) in [("config.json", config), ("report.txt", report)] {
            let path = folder.join(name);
            if std::env::var_os("UPDATE_FIXTURES").is_some() {
                std::fs::write(&path, &text).unwrap();
            }
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{}", path.display());
        }
    }
}

#[test]
fn what_is_written_is_a_file_of_calls_that_can_be_made() {
    for folder in folders() {
        let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
        Plan::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    }
}

/// The parameters of the calls of this method that a text becomes.
pub(super) fn calls(format: Format, text: &str, method: &str) -> Vec<String> {
    let source = [Source { name: "f".to_owned(), text: text.to_owned() }];
    let imported = import(format, &source, &Folder::default(), &[], &[]).unwrap();
    let plan = Plan::parse(&imported.config.to_string()).unwrap();
    plan.calls().filter(|(called, _)| *called == method).map(|(_, params)| params.to_string()).collect()
}

#[test]
fn istgts_words_are_its_own_however_they_are_written_and_its_groups_go_in_pairs() {
    let text = "[global]\nnodebase iqn.2026-11.io.example\n[PORTALGROUP1]\nportal a 192.0.2.1:3260\n\
        [PortalGroup2]\nPortal b 192.0.2.2:3260\n[initiatorgroup1]\ninitiatorname all\nNETMASK 192.0.2.0/24\n\
        [InitiatorGroup2]\nInitiatorName iqn.2026-11.io.example:a\nNetmask ALL\n\
        [logicalunit1]\ntargetname lun1\nmapping PortalGroup1 InitiatorGroup1\nMapping PortalGroup2 InitiatorGroup2\n\
        lun0 storage /srv/a 1MB\n";
    let targets = calls(Format::Istgt, text, "iscsi_create_target_node");
    assert_eq!(targets.len(), 1);
    assert!(targets[0].contains(r#""name":"iqn.2026-11.io.example:lun1""#), "{targets:?}");
    assert!(
        targets[0].contains(r#""pg_ig_maps":[{"pg_tag":1,"ig_tag":1},{"pg_tag":2,"ig_tag":2}]"#),
        "{targets:?}"
    );
    assert!(targets[0].contains(r#""luns":[{"bdev_name":"#), "{targets:?}");
}

/// serve refuses a group without names or addresses.
#[test]
fn istgts_groups_of_which_nothing_could_be_read_let_nobody_in() {
    let text = |group: &str| {
        format!(
            "[Global]\n[PortalGroup1]\nPortal a 192.0.2.1:3260\n[InitiatorGroup1]\n{group}\n[InitiatorGroup2]\nInitiatorName ALL\n\
             Netmask 192.0.2.9\n[LogicalUnit1]\nTargetName iqn.2026-11.io.example:t\nMapping PortalGroup1 InitiatorGroup1\n\
             Mapping PortalGroup1 InitiatorGroup2\n"
        )
    };
    let rest = r#""initiators":["ANY"],"netmasks":["192.0.2.9"]"#;
    for (group, expected) in [
        ("InitiatorName ALL\nNetmask nowhere", None),
        ("InitiatorName \"a b\"\nNetmask ALL", None),
        // Whom it keeps out stays out.
        (
            "InitiatorName !iqn.a:x\nInitiatorName ALL\nNetmask nowhere",
            Some(r#""initiators":["!iqn.a:x"],"netmasks":["ANY"]"#),
        ),
    ] {
        let (groups, changes) = changes(Format::Istgt, &text(group), "iscsi_create_initiator_group");
        let (first, count) = (expected.unwrap_or(rest), 1 + usize::from(expected.is_some()));
        assert_eq!(groups.len(), count, "{groups:?}");
        assert!(groups[0].contains(first) && groups[count - 1].contains(rest), "{groups:?}");
        assert!(
            changes.iter().any(|line| line.contains("it lets nobody in")) || expected.is_some(),
            "{changes:?}"
        );
        let targets = calls(Format::Istgt, &text(group), "iscsi_create_target_node");
        assert_eq!(targets[0].matches("ig_tag").count(), count, "{targets:?}");
    }
}

#[test]
fn lio_asks_for_chap_unless_it_is_said() {
    let text = |attributes: &str, acl: &str| {
        format!(
            r#"{{"fabric_modules":[],"storage_objects":[],"targets":[{{"fabric":"iscsi","wwn":"iqn.2026-11.io.example:t","tpgs":[
                {{"tag":1,"enable":true,"attributes":{{{attributes}}},"portals":[{{"ip_address":"192.0.2.1","port":3260}}],"luns":[],
                "node_acls":[{{"node_wwn":"iqn.2026-11.io.example:a","attributes":{{{acl}}},"mapped_luns":[]}}]}}]}}]}}"#
        )
    };
    let is_required = |attributes: &str, acl: &str| {
        let targets = calls(Format::Lio, &text(attributes, acl), "iscsi_create_target_node");
        targets[0].contains(r#""require_chap":true"#)
    };
    assert!(is_required("", ""));
    assert!(is_required("", r#""authentication":-1"#));
    assert!(!is_required(r#""authentication":0"#, r#""authentication":-1"#));
    assert!(is_required(r#""authentication":0"#, r#""authentication":1"#), "of one, so of all");
    assert!(is_required(r#""authentication":1"#, r#""authentication":0"#));
}

#[test]
fn tgts_passed_through_devices_are_passed_through() {
    let text = |inside: &str| {
        format!(
            "<target iqn.2026-11.io.example:t>\n<backing-store /dev/sg3>\nlun 5\n{inside}\n</backing-store>\n</target>\n"
        )
    };
    for (inside, is_read_only) in [
        ("bs-type sg\ndevice-type pt", false),
        ("bs-type sg", false),
        ("device-type pt", false),
        ("bs-type sg\ndevice-type pt\nreadonly 1\nvendor_id ACME\nblock-size 4096\nwrite-cache off", true),
    ] {
        let text = text(inside);
        let wanted = format!(r#"{{"name":"sg3","filename":"/dev/sg3","readonly":{is_read_only}}}"#);
        assert_eq!(calls(Format::Tgt, &text, "lunette_sg_create"), [wanted], "{inside}");
        let targets = calls(Format::Tgt, &text, "iscsi_create_target_node");
        assert!(targets[0].contains(r#""luns":[{"bdev_name":"sg3","lun_id":5}]"#), "{targets:?}");
        // Who it is it says itself.
        assert!(calls(Format::Tgt, &text, "lunette_bdev_set_identity").is_empty(), "{inside}");
    }
    // bsg has other paths, and other types of device are emulated.
    for inside in
        ["bs-type bsg\ndevice-type pt", "bs-type sg\ndevice-type cd", "bs-type rdwr\ndevice-type pt"]
    {
        assert!(calls(Format::Tgt, &text(inside), "lunette_sg_create").is_empty(), "{inside}");
    }
    let show = "Target 1: iqn.2026-11.io.example:t\n    System information:\n        Driver: iscsi\n        State: ready\n    \
        LUN information:\n        LUN: 1\n            Type: passthrough\n            SCSI ID: IET     00010001\n            \
        SCSI SN: beaf11\n            Size: 0 MB, Block size: 1\n            Online: Yes\n            Removable media: No\n            \
        Readonly: No\n            Backing store type: sg\n            Backing store path: /dev/sg3\n            \
        Backing store flags: \n    Account information:\n    ACL information:\n        ALL\n";
    assert_eq!(
        calls(Format::Tgt, show, "lunette_sg_create"),
        [r#"{"name":"sg3","filename":"/dev/sg3","readonly":false}"#]
    );
}

/// LIO's pscsi, SCST's handlers of devices, istgt's UnitType Pass.
#[test]
fn what_others_pass_through_is_passed_through_by_its_generic_device() {
    let files = Folder(vec![
        ("/sys/block/sdb/device/scsi_generic/sg4", ""),
        ("/sys/class/scsi_device/1:0:5:0/device/scsi_generic/sg6", ""),
    ]);
    let lio = |device: &str| {
        format!(
            r#"{{"fabric_modules":[],"storage_objects":[{{"plugin":"pscsi","name":"tape","dev":"{device}","attributes":{{}}}}],
                "targets":[{{"fabric":"iscsi","wwn":"iqn.2026-11.io.example:t","tpgs":[{{"tag":1,"enable":true,
                "attributes":{{"authentication":0,"generate_node_acls":1,"demo_mode_write_protect":0}},
                "portals":[{{"ip_address":"192.0.2.1","port":3260}}],
                "luns":[{{"index":5,"storage_object":"/backstores/pscsi/tape"}}]}}]}}]}}"#
        )
    };
    let scst = |handler: &str, device: &str| {
        format!(
            "HANDLER {handler} {{\n DEVICE {device}\n}}\nTARGET_DRIVER iscsi {{\n enabled 1\n TARGET iqn.2026-11.io.example:t {{\n \
             enabled 1\n LUN 5 {device}\n }}\n}}\n"
        )
    };
    let istgt = |device: &str| {
        format!(
            "[Global]\n[PortalGroup1]\nPortal a 192.0.2.1:3260\n[InitiatorGroup1]\nInitiatorName ALL\nNetmask ALL\n[LogicalUnit1]\n\
             TargetName iqn.2026-11.io.example:t\nMapping PortalGroup1 InitiatorGroup1\nUnitType Pass\nLUN5 Device {device}\n"
        )
    };
    for (format, text, expected) in [
        (Format::Lio, lio("/dev/sg3"), Some(("tape", "/dev/sg3"))),
        (Format::Lio, lio("/dev/sdb"), Some(("tape", "/dev/sg4"))),
        (Format::Lio, lio("1:0:5:0"), Some(("tape", "/dev/sg6"))),
        (Format::Lio, lio("/dev/sdz"), None),
        (Format::Scst, scst("dev_disk", "1:0:5:0"), Some(("sg6", "/dev/sg6"))),
        (Format::Scst, scst("dev_tape", "1:0:5:0"), Some(("sg6", "/dev/sg6"))),
        (Format::Scst, scst("dev_changer", "1:0:9:0"), None),
        // What measures without reading and writing would read and write.
        (Format::Scst, scst("dev_disk_perf", "1:0:5:0"), None),
        (Format::Istgt, istgt("/dev/sg3"), Some(("sg3", "/dev/sg3"))),
        (Format::Istgt, istgt("/dev/pass0"), None),
    ] {
        let source = [Source { name: "f".to_owned(), text }];
        let imported = import(format, &source, &files, &[], &[]).unwrap();
        let plan = Plan::parse(&imported.config.to_string()).unwrap();
        let of = |method: &str| -> Vec<String> {
            plan.calls()
                .filter(|(called, _)| *called == method)
                .map(|(_, params)| params.to_string())
                .collect()
        };
        let wanted = expected
            .map(|(name, path)| format!(r#"{{"name":"{name}","filename":"{path}","readonly":false}}"#));
        let text = &source[0].text;
        assert_eq!(of("lunette_sg_create"), Vec::from_iter(wanted), "{text}");
        assert!(of("lunette_bdev_set_identity").is_empty(), "who it is it says itself: {text}");
        let targets = of("iscsi_create_target_node");
        let luns = expected.map_or(r#""luns":[]"#.to_owned(), |(name, _)| {
            format!(r#""luns":[{{"bdev_name":"{name}","lun_id":5}}]"#)
        });
        assert!(targets[0].contains(&luns), "{targets:?}");
        let is_left_out = imported.report.to_string().contains("left out");
        assert!(is_left_out, "the last line counts");
        assert_eq!(imported.report.count(Fate::Cannot) > 0, expected.is_none(), "{}", imported.report);
    }
}

#[test]
fn some_targets_of_many_come_with_what_they_need_and_nothing_else() {
    let folder = fixtures().join("scst");
    let text = "HANDLER vdisk_fileio {\n DEVICE a {\n filename /srv/a\n }\n DEVICE b {\n filename /srv/b\n }\n DEVICE c {\n \
        filename /srv/c\n }\n DEVICE d {\n filename /srv/d\n }\n}\nTARGET_DRIVER iscsi {\n enabled 1\n \
        TARGET iqn.2026-11.io.example:one {\n enabled 1\n allowed_portal 192.0.2.1\n LUN 0 a\n LUN 1 b\n }\n \
        TARGET iqn.2026-11.io.example:two {\n enabled 1\n allowed_portal 192.0.2.2\n IncomingUser \"u secret-of-two\"\n LUN 7 c\n \
        GROUP g {\n LUN 8 d\n LUN 9 b\n INITIATOR iqn.2026-11.io.example:host\n }\n }\n}\n";
    let source = [Source { name: "scst.conf".to_owned(), text: text.to_owned() }];
    let taken = |only: &[&str]| {
        let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
        import(Format::Scst, &source, &Below(folder.clone()), &[], &only)
    };
    let calls = |only: &[&str], method: &str, member: &str| -> Vec<String> {
        let plan = Plan::parse(&taken(only).unwrap().config.to_string()).unwrap();
        let of = plan.calls().filter(|(called, _)| *called == method);
        of.map(|(_, params)| params.member(member).unwrap().to_string()).collect()
    };
    let (one, two) = ("iqn.2026-11.io.example:one", "IQN.2026-11.io.example:two");
    assert_eq!(calls(&[two], "bdev_aio_create", "filename"), [r#""/srv/b""#, r#""/srv/c""#, r#""/srv/d""#]);
    let luns = [r#"[{"bdev_name":"c","lun_id":7}]"#];
    assert_eq!(calls(&[two], "iscsi_create_target_node", "luns"), luns);
    let own = [
        r#"[{"bdev_name":"d","lun_id":8,"read_only":false},{"bdev_name":"b","lun_id":9,"read_only":false}]"#,
    ];
    assert_eq!(calls(&[two], "lunette_target_node_set_lun_map", "luns"), own);
    assert_eq!(calls(&[two], "iscsi_create_portal_group", "tag"), ["2"]);
    assert_eq!(calls(&[one], "bdev_aio_create", "filename"), [r#""/srv/a""#, r#""/srv/b""#]);
    assert!(!taken(&[one]).unwrap().config.to_string().contains("secret-of-two"));
    let both = taken(&[one, two]).unwrap();
    assert_eq!(both.config, taken(&[]).unwrap().config);
    assert!(taken(&[two]).unwrap().report.to_string().contains("--only: 1 other targets and 1 other disks"));
    let unknown = taken(&["iqn.2026-11.io.example:three"]).unwrap_err().to_string();
    assert_eq!(
        unknown,
        "scst.conf: --only iqn.2026-11.io.example:three: there is no such target; those that could be taken over: \
         iqn.2026-11.io.example:one, iqn.2026-11.io.example:two"
    );
    // A file of SPDK's is calls, of which none is left out.
    let saved = [Source { name: "f".to_owned(), text: r#"{"subsystems":[]}"#.to_owned() }];
    let refused = import(Format::Spdk, &saved, &Folder::default(), &[], &[one.to_owned()]).unwrap_err();
    assert!(refused.to_string().contains("--only: not of a file of SPDK's"), "{refused}");
}

/// What is imported of a text, and the lines of its report that do not say that all is as it was.
pub(super) fn changes(format: Format, text: &str, method: &str) -> (Vec<String>, Vec<String>) {
    let source = [Source { name: "f".to_owned(), text: text.to_owned() }];
    let imported = import(format, &source, &Folder::default(), &[], &[]).unwrap();
    let lines = imported.report.to_string().lines().map(str::to_owned).collect::<Vec<_>>();
    let is_change = |line: &&String| line.contains(": changed: ") || line.contains(": cannot: ");
    (calls(format, text, method), lines.iter().filter(is_change).cloned().collect())
}

/// What is offline is not served, and what is not known is said.
#[test]
fn access_states_of_lios() {
    let text = |state: &str| {
        format!(
            r#"{{"fabric_modules":[],"storage_objects":[{{"plugin":"fileio","name":"d","dev":"/srv/d",
                "wwn":"f9c4e3b1-1a2b-4c3d-8e9f-0123456789ab","alua_tpgs":[{{"name":"g","alua_access_state":{state}}}]}}],
                "targets":[{{"fabric":"iscsi","wwn":"iqn.2026-11.io.example:t","tpgs":[{{"tag":1,"enable":true,
                "attributes":{{"authentication":0,"generate_node_acls":1,"demo_mode_write_protect":0}},
                "portals":[{{"ip_address":"192.0.2.1","port":3260}}],
                "luns":[{{"index":0,"storage_object":"/backstores/fileio/d","alua_tg_pt_gp_name":"g"}}]}}]}}]}}"#
        )
    };
    for (state, expected, said) in [
        ("0", None, None),
        ("1", Some("active_non_optimized"), None),
        ("2", Some("standby"), None),
        ("3", Some("unavailable"), None),
        ("4", Some("active_non_optimized"), Some("LBA dependent")),
        ("14", Some("unavailable"), Some("is offline")),
        ("15", Some("transitioning"), None),
        ("7", Some("unavailable"), Some("access state 7")),
    ] {
        let (states, changes) = changes(Format::Lio, &text(state), "lunette_target_node_set_alua_state");
        let found = states.first().map(String::as_str).unwrap_or_default();
        assert_eq!(states.len(), usize::from(expected.is_some()), "{state}: {states:?}");
        assert!(found.contains(expected.unwrap_or_default()), "{state}: {found}");
        assert_eq!(
            changes.iter().any(|line| line.contains("target port group g")),
            said.is_some(),
            "{state}: {changes:?}"
        );
        assert!(changes.iter().any(|line| line.contains(said.unwrap_or_default())) || said.is_none());
    }
}

#[test]
fn access_states_of_scsts() {
    let text = |state: &str| {
        format!(
            "HANDLER vdisk_fileio {{\n DEVICE d {{\n filename /srv/d\n }}\n}}\nTARGET_DRIVER iscsi {{\n enabled 1\n \
             TARGET iqn.2026-11.io.example:t {{\n enabled 1\n LUN 0 d\n }}\n}}\nDEVICE_GROUP a {{\n DEVICE d\n \
             TARGET_GROUP g {{\n group_id 1\n {state}\n TARGET iqn.2026-11.io.example:t\n }}\n}}\n"
        )
    };
    for (state, expected, is_said) in [
        ("", None, false),
        ("state active", None, false),
        ("state standby", Some("standby"), false),
        ("state offline", Some("unavailable"), true),
        ("state lba-dependent", Some("active_non_optimized"), true),
        ("state sideways", Some("unavailable"), true),
    ] {
        let (states, changes) = changes(Format::Scst, &text(state), "lunette_target_node_set_alua_state");
        assert_eq!(states.len(), usize::from(expected.is_some()), "{state}: {states:?}");
        let found = states.first().map(String::as_str).unwrap_or_default();
        assert!(found.contains(expected.unwrap_or_default()), "{state}: {found}");
        let says = changes.iter().any(|line| line.contains("target group g"));
        assert_eq!(says, is_said, "{state}: {changes:?}");
    }
}

#[test]
fn accounts_of_spdks_stay_in_their_file() {
    let text = r#"{"subsystems":[{"subsystem":"iscsi","config":[{"method":"iscsi_set_options",
        "params":{"auth_file":"/etc/spdk/auth.conf","max_sessions":7}}]}]}"#;
    let (options, lines) = changes(Format::Spdk, text, "iscsi_set_options");
    assert_eq!(options, [r#"{"auth_file":"/etc/spdk/auth.conf","max_sessions":7}"#]);
    assert!(lines.is_empty(), "{lines:?}");
}

/// tgt's source has no such parameter; what it prints has, where an initiator has set it in the control mode page.
#[test]
fn what_is_write_protected_by_software_in_tgt_can_be_read_only() {
    let config = |swp: &str| {
        format!(
            "<target iqn.2026-11.io.example:t>\n<backing-store /srv/a>\nparams {swp}\n</backing-store>\n</target>\n"
        )
    };
    let shown = |swp: &str| {
        format!(
            "Target 1: iqn.2026-11.io.example:t\n    System information:\n        Driver: iscsi\n    LUN information:\n        \
             LUN: 1\n            Type: disk\n            SCSI ID: IET     00010001\n            SCSI SN: beaf11\n            \
             Size: 67 MB, Block size: 512\n            Online: Yes\n            Readonly: No\n            SWP: {swp}\n            \
             Backing store type: rdwr\n            Backing store path: /srv/a\n    ACL information:\n        ALL\n"
        )
    };
    for (text, is_read_only) in
        [(config("swp=1"), true), (config("swp=0"), false), (shown("Yes"), true), (shown("No"), false)]
    {
        let (disks, changes) = changes(Format::Tgt, &text, "bdev_aio_create");
        assert_eq!(disks.len(), 1, "{text}");
        assert_eq!(disks[0].contains(r#""readonly":true"#), is_read_only, "{text}: {disks:?}");
        assert_eq!(changes.iter().any(|line| line.contains("swp: ")), is_read_only, "{changes:?}");
    }
}

/// An auth-group of a portal group counts there in the target's place.
#[test]
fn auth_groups_of_ctlds_portal_groups_are_the_targets_or_nobody_may_come() {
    let text = |lines: &str| {
        format!(
            "auth-group x {{ auth-type none\n initiator-name iqn.a:x }}\nportal-group p {{ listen 192.0.2.1 }}\n\
             portal-group q {{ listen 192.0.2.2\n redirect 192.0.2.3 }}\ntarget iqn.2026-11.io.example:t {{\n{lines}\n}}\n"
        )
    };
    for (lines, names, is_said) in [
        ("auth-group no-authentication\nportal-group p", r#"["ANY"]"#, false),
        ("auth-group no-authentication\nportal-group p x", r#"["iqn.a:x"]"#, false),
        ("portal-group p x\nportal-group q x", r#"["iqn.a:x"]"#, false),
        ("auth-group x\nportal-group p x\nportal-group q", r#"["iqn.a:x"]"#, false),
        ("auth-group no-authentication\nportal-group p x\nportal-group q", "", true),
        ("auth-group x\nportal-group p no-access\nportal-group q", "", true),
        ("auth-group x\nportal-group p nobody", "", true),
    ] {
        let text = text(lines);
        let (groups, changes) = changes(Format::Ctld, &text, "iscsi_create_initiator_group");
        let is_open = !names.is_empty();
        assert_eq!(groups.len(), usize::from(is_open), "{lines}: {groups:?}");
        assert!(groups.iter().all(|group| group.contains(names)), "{lines}: {groups:?}");
        assert_eq!(changes.iter().any(|line| line.contains("cannot")), is_said, "{lines}: {changes:?}");
        // serve refuses those of a target that nobody is led to.
        let redirects = calls(Format::Ctld, &text, "iscsi_target_node_set_redirect");
        assert_eq!(redirects.len(), usize::from(is_open && lines.contains("group q")), "{lines}");
    }
}

/// Both before tgt 1.0.83, either since then.
#[test]
fn who_fits_one_list_of_tgts_where_there_are_two_is_not_let_in() {
    let names = "initiator-name iqn.a:x\ninitiator-name iqn.a:y\n";
    let groups = |lines: &str| {
        let text = format!("<target iqn.2026-11.io.example:t>\n{lines}</target>\n");
        let (groups, changes) = changes(Format::Tgt, &text, "iscsi_create_initiator_group");
        (groups.join(" "), changes.iter().any(|line| line.contains("1.0.83")))
    };
    let group =
        |names: &str, from: &str| format!(r#"{{"tag":1,"initiators":[{names}],"netmasks":["{from}"]}}"#);
    let both = r#""iqn.a:x","iqn.a:y""#;
    let address = "initiator-address 192.0.2.1\n";
    assert_eq!(groups(&format!("{names}{address}")), (group(both, "192.0.2.1"), true));
    assert_eq!(groups(&format!("{names}initiator-address ALL\n")), (group(both, "ANY"), true));
    assert_eq!(groups(&format!("{names}initiator-address nowhere\n")), (String::new(), true));
    // Who none of the names is known of may be anybody.
    let lost = "initiator-name \"two words\"\n";
    assert_eq!(groups(&format!("{lost}{address}")), (String::new(), true));
    assert_eq!(groups(&format!("{lost}initiator-address ALL\n")), (String::new(), true));
    assert_eq!(groups(&format!("{lost}{names}{address}")), (group(both, "192.0.2.1"), true));
    assert_eq!(groups(names), (group(both, "ANY"), false));
    assert_eq!(groups(address), (group(r#""ANY""#, "192.0.2.1"), false));
    let show = |acls: &str| {
        let text = format!(
            "Target 1: iqn.2026-11.io.example:t\n    System information:\n        Driver: iscsi\n    LUN information:\n    ACL information:\n{acls}"
        );
        calls(Format::Tgt, &text, "iscsi_create_initiator_group").join(" ")
    };
    let (name, address) = ("        iqn.a:x\n", "        192.0.2.1\n");
    assert_eq!(show(&format!("{name}{address}")), group(r#""iqn.a:x""#, "192.0.2.1"));
    assert_eq!(show(&format!("        two words\n{address}")), "");
    assert_eq!(show(&format!("        two words\n{name}{address}")), group(r#""iqn.a:x""#, "192.0.2.1"));
    assert_eq!(show(name), group(r#""iqn.a:x""#, "ANY"));
    assert_eq!(show(""), "");
}

/// A generator whose numbers follow from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// Lines and pieces of the fixtures, cut, doubled and put together at random: readers give a configuration or an error, and
/// what they give can be loaded.
#[test]
fn whatever_stands_in_a_file_is_read_or_refused() {
    let texts: Vec<String> =
        folders().iter().flat_map(|folder| sources(folder)).map(|source| source.text).collect();
    let parts = |text: &str| -> Vec<String> {
        text.split_inclusive([' ', '\n', ',', '=']).map(str::to_owned).collect()
    };
    let mut pieces: Vec<String> = texts.iter().flat_map(|text| parts(text)).collect();
    let odd =
        ["\"", "{", "}", "<", ">", "\\\n", "\0", "\u{e9}", "-1", "99999999999999999999", "65536", "/", "\n"];
    pieces.extend(odd.map(str::to_owned));
    let mut random = Random(0x6c75_6e65_7474_6521);
    let mut read = 0;
    for round in 0..1500 {
        let text: String = if round % 2 == 0 {
            // A fixture with one piece changed.
            let mut parts = parts(&texts[random.below(texts.len())]);
            let at = random.below(parts.len());
            parts[at].clone_from(&pieces[random.below(pieces.len())]);
            parts.concat()
        } else {
            (0..random.below(60)).map(|_| pieces[random.below(pieces.len())].as_str()).collect()
        };
        let source = [Source { name: "f".to_owned(), text }];
        for format in ALL {
            if let Ok(imported) = import(format, &source, &Folder::default(), &[], &[]) {
                read += 1;
                let text = imported.config.to_string();
                Plan::parse(&text).unwrap_or_else(|error| panic!("{format:?}: {error}\n{}", source[0].text));
            }
        }
    }
    assert!(read > 1000, "{read} of them were read");
}
