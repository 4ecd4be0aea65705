//! `lunette share`, `unshare`, `resize`.

use lunette_initiator::config::{Auth, Chap};

use super::daemon::{Lunette, Shared};
use crate::harness::{pattern, sense, test_unit_ready};

const ANY_PORT: &str = "--portal=127.0.0.1:0";

#[test]
fn a_file_is_shared_used_resized_and_unshared() {
    let lunette = Lunette::start();
    let file = lunette.file("disk.img");
    let missing = lunette.run(&["share", &file]).failed(1);
    assert_eq!(missing, format!("lunette: {file} does not exist; --size 10G makes it, sparse\n"));
    let shared = lunette.run(&["share", &file, "--size", "8M", ANY_PORT, "--json"]).json();
    let shared = Shared::of(shared);
    assert_eq!(shared.target, "iqn.2026-11.io.lunette:disk");
    assert_eq!(
        (shared.told["disk"].as_str(), shared.told["bytes"].as_u64()),
        (Some("disk.img"), Some(8 << 20))
    );
    let twice = lunette.run(&["share", &file]).failed(1);
    assert!(twice.contains("disk.img is shared already, as iqn.2026-11.io.lunette:disk"), "{twice}");

    let mut client = shared.login("a", Auth::None).unwrap();
    client.write(3, &pattern(1, 3, 1, 512)).unwrap();
    assert_eq!(client.capacity().unwrap().count_blocks, 16_384);
    let smaller = lunette.run(&["resize", "disk", "4M"]).failed(1);
    assert!(smaller.contains("disk.img has 8 MiB") && smaller.contains("--shrink"), "{smaller}");
    assert_eq!(
        lunette.run(&["resize", "disk", "+8M"]).ok(),
        "disk.img: 16 MiB (it had 8 MiB); initiators are told\n"
    );
    // CAPACITY DATA HAS CHANGED.
    assert_eq!(sense(&client.run(test_unit_ready(0)).unwrap()), (6, 0x2a, 9));
    assert_eq!(client.read(32_767, 1).unwrap(), [0; 512]);

    let used = lunette.run(&["unshare", "disk"]).failed(1);
    assert!(used.contains("iqn.2026-11.io.example:a is logged in at iqn.2026-11.io.lunette:disk"), "{used}");
    client.logout().unwrap();
    let gone = lunette.run(&["unshare", &file]).ok();
    assert_eq!(
        gone,
        "iqn.2026-11.io.lunette:disk is no target any more\nthe daemon has let go of the disk disk.img\n"
    );
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 16 << 20);
    let again = lunette.run(&["unshare", "disk"]).failed(1);
    assert!(again.contains("no target and no shared disk is called so"), "{again}");
    // Where the daemon listens already it is reached, for reading only.
    let again = lunette.run(&["share", &file, "--name", "second", "--read-only", "--json"]).json();
    let again = Shared::of(again);
    assert_eq!((again.target.as_str(), again.portal), ("iqn.2026-11.io.lunette:second", shared.portal));
    let mut client = again.login("a", Auth::None).unwrap();
    assert_eq!(client.read(3, 1).unwrap(), pattern(1, 3, 1, 512));
    assert!(client.write(3, &pattern(2, 3, 1, 512)).is_err());
    client.logout().unwrap();
}

#[test]
fn a_secret_is_told_once_and_has_to_be_known() {
    let lunette = Lunette::start();
    let told = lunette.run(&["share", "1M", ANY_PORT, "--chap", "joe"]).ok();
    let begin = "\nThe secret of joe, which is not shown again: ";
    let secret = told.split(begin).nth(1).unwrap().lines().next().unwrap().to_owned();
    assert_eq!(secret.len(), 16, "{told}");
    assert!(told.contains("! its data are in memory"), "{told}");
    for args in [&["status"][..], &["status", "--json"], &["sessions"], &["sessions", "--json"]] {
        let shown = lunette.run(args).ok();
        assert!(!shown.contains(&secret), "{shown}");
    }
    let groups = lunette.run(&["rpc", "iscsi_get_portal_groups"]).json();
    let port = groups[0]["portals"][0]["port"].as_str().unwrap();
    let shared = Shared {
        target: "iqn.2026-11.io.lunette:ram0".to_owned(),
        portal: format!("127.0.0.1:{port}").parse().unwrap(),
        told: serde_json::Value::Null,
    };
    let chap = |secret: &str| Auth::Chap(Chap::new("joe", secret.as_bytes()));
    assert_eq!(shared.refuses("a", Auth::None), (2, 1));
    assert_eq!(shared.refuses("a", chap("not-this-secret!")), (2, 1));
    shared.login("a", chap(&secret)).unwrap().logout().unwrap();
    // A RAM disk's data are lost only where that is meant; secrets that nobody needs do not stay.
    let lost = lunette.run(&["unshare", "ram0"]).failed(1);
    assert!(lost.contains("the data of the RAM disk ram0 would be gone"), "{lost}");
    lunette.run(&["unshare", "ram0", "--force"]).ok();
    assert_eq!(lunette.run(&["rpc", "iscsi_get_auth_groups"]).json(), serde_json::json!([]));
    assert_eq!(lunette.run(&["rpc", "bdev_get_bdevs"]).json(), serde_json::json!([]));
}

#[test]
fn a_secret_comes_from_a_file_or_standard_input_and_never_from_an_argument() {
    use std::os::unix::fs::PermissionsExt as _;
    let lunette = Lunette::start();
    let share = ["share", "1M", ANY_PORT, "--chap", "joe", "--json", "--chap-secret-file"];
    let short = lunette.run_with(&[&share[..], &["-"]].concat(), "guess\n").failed(1);
    assert!(short.contains("a secret of 5 bytes can be guessed"), "{short}");
    let told = lunette.run_with(&[&share[..], &["-"]].concat(), "typed-secret\n").json();
    assert_eq!(told.get("chap_secret"), None, "who typed it knows it");
    let shared = Shared::of(told);
    let chap = |secret: &str| Auth::Chap(Chap::new("joe", secret.as_bytes()));
    shared.login("a", chap("typed-secret")).unwrap().logout().unwrap();
    let file = lunette.file("secret");
    std::fs::write(&file, "written-secret\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = lunette.run(&[&share[..], &[&file]].concat()).failed(1);
    assert!(open.contains("chmod 600"), "{open}");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let shared = Shared::of(lunette.run(&[&share[..], &[&file]].concat()).json());
    assert_eq!(shared.target, "iqn.2026-11.io.lunette:ram1");
    shared.login("a", chap("written-secret")).unwrap().logout().unwrap();
}

#[test]
fn only_those_come_who_may() {
    let lunette = Lunette::start();
    let args = ["share", "1M", ANY_PORT, "--json", "--allow", "iqn.2026-11.io.example:a*", "--allow"];
    let shared = Shared::of(lunette.run(&[&args[..], &["127.0.0.0/8"]].concat()).json());
    shared.login("abel", Auth::None).unwrap().logout().unwrap();
    assert_eq!(shared.refuses("cain", Auth::None), (2, 2));
    let elsewhere = Shared::of(lunette.run(&[&args[..], &["192.0.2.0/24"]].concat()).json());
    assert_eq!(elsewhere.refuses("abel", Auth::None), (2, 2));
    let wrong = lunette.run(&["share", "1M", "--allow", "192.0.2.0/33"]).failed(2);
    assert!(wrong.contains("give an initiator's name"), "{wrong}");
}

#[test]
fn what_fails_leaves_nothing_behind() {
    let lunette = Lunette::start();
    let before = lunette.run(&["rpc", "lunette_get_config"]).ok();
    // An address that this machine does not have (RFC 5737).
    let failed = lunette.run(&["share", "1M", "--portal", "192.0.2.1"]).failed(1);
    assert!(failed.starts_with("lunette: iscsi_create_portal_group: "), "{failed}");
    assert_eq!(lunette.run(&["rpc", "lunette_get_config"]).ok(), before);
    for (args, words) in [
        (&["share", "1M", "--read-only"][..], "--read-only, --size and --block-size are for files"),
        (&["share", "disk.img", "--max-size", "1G"], "--max-size is for RAM disks"),
        (&["share", "2G", "--max-size", "1G"], "--max-size is less"),
        (&["share", "1M", "--chap-secret-file", "x"], "--chap <USER>"),
        (&["resize", "disk", "0"], "is not a size"),
    ] {
        let said = lunette.run(args).failed(2);
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(lunette.run(&["rpc", "lunette_get_config"]).ok(), before);
}

#[test]
fn a_ram_disk_grows_as_far_as_was_set_aside() {
    let lunette = Lunette::start();
    let shared = Shared::of(lunette.run(&["share", "1M", "--max-size", "2M", ANY_PORT, "--json"]).json());
    assert_eq!(
        lunette.run(&["resize", "ram0", "2M", "--json"]).json(),
        serde_json::json!({"disk": "ram0", "bytes_before": 1 << 20, "bytes": 2 << 20})
    );
    let further = lunette.run(&["resize", "ram0", "4M"]).failed(1);
    assert!(further.contains("8192 blocks are not between 1 and 4096"), "{further}");
    let mut client = shared.login("a", Auth::None).unwrap();
    assert_eq!(client.capacity().unwrap().count_blocks, 4096);
    client.logout().unwrap();
}
