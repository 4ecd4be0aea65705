//! `lunette unshare`: takes a target away, and with it what nobody else needs. Files and devices stay as they are.

use std::path::Path;

use clap::Args;

use super::super::rpc::call;
use super::super::socket::SocketArg;
use super::super::status::{list, member, number, pretty, sessions, short, text};
use super::super::{Failed, print};
use super::known::{AUTH_GROUP, Known, TARGET};
use crate::rpc::json::{Json, object};

/// `lunette unshare`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  lunette unshare disk                    the target iqn.2026-11.io.lunette:disk
  lunette unshare /srv/disk.img           the target that this file is a LUN of
  lunette unshare ram0 --force            a RAM disk; its data are gone then")]
pub struct Unshare {
    /// A target by its name or what is behind its colon, or a disk by its name or path
    #[arg(value_name = "NAME|PATH")]
    pub what: String,
    /// Also where initiators are logged in, or where data of a RAM disk are lost
    #[arg(long)]
    pub force: bool,
    /// The daemon keeps the disks
    #[arg(long)]
    pub keep_disks: bool,
    /// Which daemon.
    #[command(flatten)]
    pub socket: SocketArg,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// A call, and what it does in words.
type Removal = (&'static str, Json, String);

/// Ends the sharing.
pub(in crate::cli) fn unshare(args: &Unshare) -> Result<(), Failed> {
    let socket = args.socket.path()?;
    let known = Known::ask(&socket)?;
    let target = find(&args.what, &known)?;
    let name = text(target, "name");
    let removals = removals(target, &known, args.keep_disks);
    if !args.force {
        let logged_in = sessions(&list(&socket, "iscsi_get_connections")?);
        let logged_in = logged_in.iter().filter(|session| text(session, "target_name") == name);
        let initiators: Vec<String> = logged_in.map(|session| text(session, "initiator_name")).collect();
        if !initiators.is_empty() {
            return Err(Failed::failure(format!(
                "{} is logged in at {name}: log out there first, 'lunette drain {name}' asks for that, or give --force",
                initiators.join(", ")
            )));
        }
        if let Some((_, params, _)) = removals.iter().find(|(method, ..)| *method == RAM) {
            return Err(Failed::failure(format!(
                "the data of the RAM disk {} would be gone: give --force, or --keep-disks",
                text(params, "name")
            )));
        }
    }
    let mut out = String::new();
    for (method, params, words) in &removals {
        call(&socket, method, params)?;
        out.push_str(&format!("{words}\n"));
    }
    if args.json {
        let calls = removals
            .iter()
            .map(|(method, params, _)| object! { "method": *method, "params": params.clone() });
        out = pretty(&calls.collect::<Json>());
    }
    print(&out)
}

/// The one target that is meant.
pub(super) fn find<'a>(what: &str, known: &'a Known) -> Result<&'a Json, Failed> {
    let at = std::path::absolute(Path::new(what)).ok().and_then(|path| known.bdev_at(&path));
    let is_named = |target: &&Json| {
        let name = text(target, "name");
        name == what || short(&name) == what
    };
    let mut found: Vec<&Json> = known.targets().filter(is_named).collect();
    if found.is_empty() {
        let bdev = at.as_deref().unwrap_or(what);
        found = known.targets().filter(|target| known.luns(target).iter().any(|lun| lun == bdev)).collect();
    }
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(Failed::failure(format!(
            "{what}: no target and no shared disk is called so; 'lunette status' lists them"
        ))),
        several => {
            let names: Vec<String> = several.iter().map(|target| text(target, "name")).collect();
            Err(Failed::failure(format!("{what}: say which: {}", names.join(", "))))
        }
    }
}

const RAM: &str = "bdev_malloc_delete";

/// The calls that take a target away, and what it alone had: disks, its initiators, its secrets.
fn removals(target: &Json, known: &Known, keeps_disks: bool) -> Vec<Removal> {
    let name = text(target, "name");
    let others: Vec<&Json> = known.targets().filter(|other| text(other, "name") != name).collect();
    let mut removals: Vec<Removal> = vec![(
        "iscsi_delete_target_node",
        object! { "name": &name },
        format!("{name} is no target any more"),
    )];
    let disks = if keeps_disks { Vec::new() } else { known.luns(target) };
    for bdev in disks {
        let is_used = others.iter().any(|other| known.luns(other).contains(&bdev));
        let is_claimed = known.bdev(&bdev).is_some_and(|bdev| member(bdev, "claimed") == Json::Bool(true));
        let delete = match known.maker(&bdev).map(|(method, _)| method) {
            _ if is_used || is_claimed => continue,
            Some("bdev_malloc_create") => RAM,
            Some("bdev_null_create") => "bdev_null_delete",
            Some("bdev_aio_create") => "bdev_aio_delete",
            Some("bdev_uring_create") => "bdev_uring_delete",
            Some("lunette_cdrom_create") => "lunette_cdrom_delete",
            Some("lunette_sg_create") => "lunette_sg_delete",
            // Namespaces belong to their controllers, wrappers are made by hand.
            _ => continue,
        };
        removals.push((
            delete,
            object! { "name": &bdev },
            format!("the daemon has let go of the disk {bdev}"),
        ));
    }
    let groups = known.initiators(target);
    let is_everybody = |tag: u64| {
        let any = Json::from(vec!["ANY"]);
        let mut groups =
            known.calls("iscsi_create_initiator_group").filter(|group| number(group, "tag") == tag);
        groups.any(|group| member(group, "initiators") == any && member(group, "netmasks") == any)
    };
    for tag in groups {
        if !is_everybody(tag) && !others.iter().any(|other| known.initiators(other).contains(&tag)) {
            let words = format!("initiator group {tag} is gone");
            removals.push(("iscsi_delete_initiator_group", object! { "tag": tag }, words));
        }
    }
    let chap_group = number(target, "chap_group");
    // One of a file of accounts is the file's.
    let is_made = known.calls(AUTH_GROUP).any(|group| number(group, "tag") == chap_group);
    if is_made && !names_chap_group(known, &name, chap_group) {
        let words = format!("authentication group {chap_group} is gone");
        removals.push(("iscsi_delete_auth_group", object! { "tag": chap_group }, words));
    }
    removals
}

/// Whether any call but those about one target names an authentication group.
fn names_chap_group(known: &Known, target: &str, tag: u64) -> bool {
    let methods = [
        TARGET,
        "iscsi_set_options",
        "iscsi_set_discovery_auth",
        "iscsi_portal_group_set_auth",
        "lunette_target_node_set_portal_group_auth",
    ];
    let names = |params: &Json| number(params, "chap_group") == tag && text(params, "name") != target;
    methods.iter().any(|method| known.calls(method).any(names))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"{"subsystems":[{"subsystem":"bdev","config":[
        {"method":"bdev_malloc_create","params":{"name":"ram0","num_blocks":8,"block_size":512}},
        {"method":"bdev_aio_create","params":{"name":"disk.img","filename":"/srv/disk.img"}}]},
        {"subsystem":"iscsi","config":[
        {"method":"iscsi_create_initiator_group","params":{"tag":1,"initiators":["ANY"],"netmasks":["ANY"]}},
        {"method":"iscsi_create_initiator_group","params":{"tag":2,"initiators":["iqn.a:b"],"netmasks":["ANY"]}},
        {"method":"iscsi_create_target_node","params":{"name":"iqn.x:ram0","chap_group":1,
            "pg_ig_maps":[{"pg_tag":1,"ig_tag":2}],"luns":[{"bdev_name":"ram0","lun_id":0}]}},
        {"method":"iscsi_create_target_node","params":{"name":"iqn.x:both","chap_group":0,
            "pg_ig_maps":[{"pg_tag":1,"ig_tag":1}],
            "luns":[{"bdev_name":"disk.img","lun_id":0},{"bdev_name":"ram0","lun_id":1}]}},
        {"method":"iscsi_create_auth_group","params":{"tag":1}}]}]}"#;

    fn known(config: &str) -> Known {
        Known::of(&Json::parse(config).unwrap(), Vec::new())
    }

    fn methods(removals: &[Removal]) -> Vec<String> {
        removals.iter().map(|(method, params, _)| format!("{method} {params}")).collect()
    }

    #[test]
    fn what_others_need_stays() {
        let known = known(TWO);
        let removed =
            |what: &str, keeps_disks| methods(&removals(find(what, &known).unwrap(), &known, keeps_disks));
        assert_eq!(
            removed("iqn.x:ram0", false),
            [
                r#"iscsi_delete_target_node {"name":"iqn.x:ram0"}"#,
                r#"iscsi_delete_initiator_group {"tag":2}"#,
                r#"iscsi_delete_auth_group {"tag":1}"#,
            ]
        );
        let both =
            [r#"iscsi_delete_target_node {"name":"iqn.x:both"}"#, r#"bdev_aio_delete {"name":"disk.img"}"#];
        assert_eq!(removed("both", false), both);
        assert_eq!(removed("/srv/disk.img", false), both);
        assert_eq!(removed("disk.img", true), both[..1]);
        let alone = TWO.replace(r#",{"bdev_name":"ram0","lun_id":1}"#, "");
        let alone = self::known(&alone);
        let removed = methods(&removals(find("ram0", &alone).unwrap(), &alone, false));
        assert_eq!(removed[1], r#"bdev_malloc_delete {"name":"ram0"}"#);
    }

    #[test]
    fn luns_of_some_initiators_only_are_luns() {
        let map = |target: &str, bdev: &str| {
            format!(
                r#"{{"method":"lunette_target_node_set_lun_map","params":{{"name":"{target}","ig_tag":2,
                    "luns":[{{"bdev_name":"{bdev}","lun_id":0,"read_only":false}}]}}}},
                    {{"method":"iscsi_create_target_node","params":{{"name":"iqn.x:both""#
            )
        };
        let both = r#"{"method":"iscsi_create_target_node","params":{"name":"iqn.x:both""#;
        let shown = known(&TWO.replace(both, &map("iqn.x:ram0", "disk.img")));
        assert_eq!(shown.targets_of("disk.img"), ["iqn.x:ram0", "iqn.x:both"]);
        let removed =
            |what: &str, known: &Known| methods(&removals(find(what, known).unwrap(), known, false));
        // The one that everybody sees is another target's for some.
        assert_eq!(removed("both", &shown), [r#"iscsi_delete_target_node {"name":"iqn.x:both"}"#]);
        // One that only some see goes with the target, once.
        let own = TWO.replace(r#"{"bdev_name":"disk.img","lun_id":0},"#, "");
        let own = known(&own.replace(both, &map("iqn.x:both", "disk.img")));
        let gone =
            [r#"iscsi_delete_target_node {"name":"iqn.x:both"}"#, r#"bdev_aio_delete {"name":"disk.img"}"#];
        assert_eq!(removed("/srv/disk.img", &own), gone);
        let twice = known(&TWO.replace(both, &map("iqn.x:both", "disk.img")));
        assert_eq!(removed("both", &twice), gone);
    }

    #[test]
    fn a_group_that_another_target_has_luns_for_stays() {
        let map = |target: &str, tag: u8| {
            format!(
                r#"{{"method":"lunette_target_node_set_lun_map","params":{{"name":"{target}","ig_tag":{tag},
                    "luns":[{{"bdev_name":"ram0","lun_id":0}}]}}}},{{"method":"iscsi_create_target"#
            )
        };
        let create = r#"{"method":"iscsi_create_target"#;
        let removed = |config: &str| {
            let known = known(config);
            methods(&removals(find("iqn.x:ram0", &known).unwrap(), &known, true))
        };
        let gone = |tag: u8| format!(r#"iscsi_delete_initiator_group {{"tag":{tag}}}"#);
        let others = removed(&TWO.replacen(create, &map("iqn.x:both", 2), 1));
        assert!(!others.contains(&gone(2)), "{others:?}");
        // One that has LUNs of this target alone, though no way to it, goes with it.
        let third = r#"{"method":"iscsi_create_initiator_group","params":{"tag":3,"initiators":["iqn.a:c"],"netmasks":["ANY"]}},"#;
        let own =
            TWO.replacen(create, &map("iqn.x:ram0", 3), 1).replacen(create, &format!("{third}{create}"), 1);
        let own = removed(&own);
        assert!(own.contains(&gone(2)) && own.contains(&gone(3)), "{own:?}");
    }

    #[test]
    fn secrets_that_something_else_needs_stay() {
        let discovery =
            r#"{"method":"iscsi_set_options","params":{"chap_group":1}},{"method":"iscsi_create_target"#;
        let known = known(&TWO.replacen(r#"{"method":"iscsi_create_target"#, discovery, 1));
        let stay = |known: &Known| {
            let removed = methods(&removals(find("iqn.x:ram0", known).unwrap(), known, false));
            assert!(!removed.iter().any(|call| call.starts_with("iscsi_delete_auth_group")), "{removed:?}");
        };
        stay(&known);
        // One that no call makes is that of a file of accounts.
        stay(&self::known(&TWO.replace("iscsi_create_auth_group", "iscsi_auth_group_add_secret")));
    }

    #[test]
    fn what_is_meant_has_to_be_one() {
        let known = known(&TWO.replace("iqn.x:ram0", "iqn.x:other"));
        let wrong = |what: &str| match find(what, &known) {
            Err(Failed::Failure(text)) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(wrong("ram0"), "ram0: say which: iqn.x:other, iqn.x:both");
        assert!(wrong("nothing").starts_with("nothing: no target and no shared disk is called so"));
    }
}
