//! Calls, literally.

use super::*;

const NOTHING: &str = r#"{"subsystems":[{"subsystem":"iscsi","config":[
    {"method":"iscsi_set_options","params":{"node_base":"iqn.2016-06.io.spdk"}}]}]}"#;
const SHARED: &str = r#"{"subsystems":[{"subsystem":"bdev","config":[
    {"method":"bdev_aio_create","params":{"name":"disk.img","filename":"/srv/disk.img"}}]},
    {"subsystem":"iscsi","config":[
    {"method":"iscsi_set_options","params":{"node_base":"iqn.2026-11.com.example"}},
    {"method":"iscsi_create_portal_group","params":{"tag":1,"private":true,"portals":[{"host":"127.0.0.1","port":"3261"}]}},
    {"method":"iscsi_create_portal_group","params":{"tag":3,"private":false,"portals":[{"host":"192.0.2.1","port":"3260"}]}},
    {"method":"iscsi_create_initiator_group","params":{"tag":1,"initiators":["ANY"],"netmasks":["ANY"]}},
    {"method":"iscsi_create_auth_group","params":{"tag":1}},
    {"method":"iscsi_create_target_node","params":{"name":"iqn.2026-11.com.example:disk","luns":[{"bdev_name":"disk.img"}]}}]}]}"#;

fn known(config: &str) -> Known {
    let bdev = |name| object! { "name": name };
    Known::of(&Json::parse(config).unwrap(), vec![bdev("disk.img"), bdev("ram0"), bdev("Nvme0n1")])
}

fn wish(what: What) -> Wish {
    Wish { what, name: None, portal: None, allow: Vec::new(), account: None }
}

fn file(path: &str) -> What {
    What::File {
        path: path.into(),
        create_bytes: None,
        block_bytes: None,
        is_read_only: false,
        is_generic: false,
    }
}

fn calls(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| format!("{} {}", step.method, step.params)).collect()
}

fn refused(wish: &Wish, config: &str) -> String {
    match plan(wish, &known(config)) {
        Err(Failed::Failure(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_share_of_a_daemon_makes_everything() {
    let plan = plan(&wish(What::Ram { bytes: 1 << 20, bytes_max: None }), &known(NOTHING)).unwrap();
    assert_eq!(
        calls(&plan),
        [
            r#"bdev_malloc_create {"name":"ram1","num_blocks":2048,"block_size":512}"#,
            r#"iscsi_create_portal_group {"tag":1,"portals":[{"host":"127.0.0.1","port":"3260"}]}"#,
            r#"iscsi_create_initiator_group {"tag":1,"initiators":["ANY"],"netmasks":["ANY"]}"#,
            concat!(
                r#"iscsi_create_target_node {"name":"iqn.2026-11.io.lunette:ram1","alias_name":"","#,
                r#""pg_ig_maps":[{"pg_tag":1,"ig_tag":1}],"luns":[{"bdev_name":"ram1","lun_id":0}],"queue_depth":64,"#,
                r#""require_chap":false,"chap_group":0}"#
            ),
        ]
    );
    let undo: Vec<String> =
        plan.steps.iter().map(|step| format!("{} {}", step.undo.0, step.undo.1)).collect();
    assert_eq!(
        undo,
        [
            r#"bdev_malloc_delete {"name":"ram1"}"#,
            r#"iscsi_delete_portal_group {"tag":1}"#,
            r#"iscsi_delete_initiator_group {"tag":1}"#,
            r#"iscsi_delete_target_node {"name":"iqn.2026-11.io.lunette:ram1"}"#,
        ]
    );
    assert!(plan.is_open);
}

#[test]
fn what_is_there_is_used() {
    let plan = plan(&wish(file("/srv/My Disk.raw")), &known(SHARED)).unwrap();
    assert_eq!(
        calls(&plan),
        [
            r#"bdev_aio_create {"name":"My_Disk.raw","filename":"/srv/My Disk.raw","readonly":false}"#,
            concat!(
                r#"iscsi_create_target_node {"name":"iqn.2026-11.com.example:my-disk","alias_name":"","#,
                r#""pg_ig_maps":[{"pg_tag":3,"ig_tag":1}],"luns":[{"bdev_name":"My_Disk.raw","lun_id":0}],"queue_depth":64,"#,
                r#""require_chap":false,"chap_group":0}"#
            ),
        ]
    );
}

#[test]
fn who_may_come_and_by_where_and_with_which_proof() {
    let account = Some(Account { user: "joe".to_owned(), secret: "twelve-bytes".to_owned() });
    let wish = Wish {
        name: Some("eui.02004567a425678d".to_owned()),
        portal: Some("[2001:db8::1]:3260".parse().unwrap()),
        allow: ["iqn.a:*", "192.0.2.0/24", "iqn.b:c"].map(|text| text.parse().unwrap()).to_vec(),
        account,
        ..wish(What::Bdev("Nvme0n1".to_owned()))
    };
    let plan = plan(&wish, &known(SHARED)).unwrap();
    assert_eq!(
        calls(&plan),
        [
            r#"iscsi_create_portal_group {"tag":2,"portals":[{"host":"[2001:db8::1]","port":"3260"}]}"#,
            r#"iscsi_create_initiator_group {"tag":2,"initiators":["iqn.a:*","iqn.b:c"],"netmasks":["192.0.2.0/24"]}"#,
            r#"iscsi_create_auth_group {"tag":2,"secrets":[{"user":"joe","secret":"twelve-bytes"}]}"#,
            concat!(
                r#"iscsi_create_target_node {"name":"eui.02004567a425678d","alias_name":"","#,
                r#""pg_ig_maps":[{"pg_tag":2,"ig_tag":2}],"luns":[{"bdev_name":"Nvme0n1","lun_id":0}],"queue_depth":64,"#,
                r#""require_chap":true,"chap_group":2}"#
            ),
        ]
    );
    assert!(!plan.is_open);
}

#[test]
fn a_path_says_what_it_is() {
    let made = |what| calls(&plan(&wish(what), &known(NOTHING)).unwrap()).remove(0);
    assert_eq!(made(file("/srv/a.iso")), r#"lunette_cdrom_create {"name":"a.iso","filename":"/srv/a.iso"}"#);
    let path = "/dev/sg3".into();
    let generic =
        What::File { path, create_bytes: None, block_bytes: None, is_read_only: true, is_generic: true };
    assert_eq!(made(generic), r#"lunette_sg_create {"name":"sg3","filename":"/dev/sg3","readonly":true}"#);
    let new = What::File {
        path: "/srv/a.iso".into(),
        create_bytes: Some(4096),
        block_bytes: Some(4096),
        is_read_only: false,
        is_generic: false,
    };
    assert_eq!(
        made(new),
        concat!(
            r#"bdev_aio_create {"name":"a.iso","filename":"/srv/a.iso","readonly":false,"#,
            r#""block_size":4096,"lunette_create_size":4096}"#
        )
    );
}

#[test]
fn what_is_shared_already_is_not_shared_twice() {
    let expected =
        "disk.img is shared already, as iqn.2026-11.com.example:disk: 'lunette unshare disk.img' ends that";
    assert_eq!(refused(&wish(file("/srv/disk.img")), SHARED), expected);
    assert_eq!(refused(&wish(What::Bdev("disk.img".to_owned())), SHARED), expected);
    let named = Wish { name: Some("disk".to_owned()), ..wish(file("/srv/other.img")) };
    assert!(refused(&named, SHARED).starts_with("there is a target iqn.2026-11.com.example:disk already"));
    let loud = Wish { name: Some("IQN.2026-11.com.Example:Disk".to_owned()), ..wish(file("/srv/other.img")) };
    assert!(refused(&loud, SHARED).starts_with("there is a target iqn.2026-11.com.example:disk already"));
    // Without a name it gets one that is free.
    let plan = plan(&wish(file("/home/disk.img")), &known(SHARED)).unwrap();
    assert_eq!(
        (plan.bdev.as_str(), plan.target.as_str()),
        ("disk.img-2", "iqn.2026-11.com.example:disk.img-2")
    );
}

#[test]
fn a_disk_that_is_there_is_not_shared_as_another_one() {
    let calls = |params: &str| {
        format!(
            r#"{{"subsystems":[{{"subsystem":"bdev","config":[{{"method":"bdev_aio_create","params":
                {{"name":"disk.img","filename":"/srv/disk.img"{params}}}}}]}}]}}"#
        )
    };
    let writable = calls(r#","block_size":512,"readonly":false"#);
    let protected = calls(r#","block_size":4096,"readonly":true"#);
    let disc = writable.replace("bdev_aio_create", "lunette_cdrom_create");
    let wanted = |create_bytes, block_bytes, is_read_only| {
        let path = "/srv/disk.img".into();
        wish(What::File { path, create_bytes, block_bytes, is_read_only, is_generic: false })
    };
    for (wish, config, switch) in [
        (wanted(None, None, true), &writable, "--read-only"),
        (wanted(None, Some(4096), false), &writable, "--block-size"),
        (wanted(None, Some(512), true), &protected, "--block-size"),
        (wanted(Some(4096), None, false), &writable, "--size"),
        (wanted(None, Some(512), false), &disc, "--block-size"),
    ] {
        assert_eq!(
            refused(&wish, config),
            format!(
                "disk.img is there already, and not as {switch} says: share it without {switch}, or delete that disk first"
            )
        );
    }
    for (wish, config) in [
        (wanted(None, Some(512), false), &writable),
        (wanted(None, Some(4096), true), &protected),
        (wanted(None, None, false), &protected),
        (wanted(None, None, true), &disc),
    ] {
        assert_eq!(plan(&wish, &known(config)).unwrap().bdev, "disk.img");
    }
}

#[test]
fn names_and_networks_are_told_apart() {
    for (text, expected) in [
        ("iqn.1993-08.org.debian:01:*", Some(Allow::Initiator("iqn.1993-08.org.debian:01:*".to_owned()))),
        ("192.0.2.7", Some(Allow::Network("192.0.2.7".to_owned()))),
        ("2001:db8::/32", Some(Allow::Network("2001:db8::/32".to_owned()))),
        ("192.0.2.0/33", None),
        ("192.0.2.", None),
        ("", None),
        ("two words", None),
    ] {
        assert_eq!(text.parse::<Allow>().ok(), expected, "{text}");
    }
}
