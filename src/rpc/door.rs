//! Who may come to a JSON-RPC socket, and what may be called there.
//!
//! The kernel says who is at the other end (`SO_PEERCRED`, unix(7)): the user that the daemon runs as and root may come, and others
//! that are named. What is for reading only tells no secrets.

use std::path::PathBuf;
use std::str::FromStr;

use rustix::fs::Mode;

use super::fault::Fault;
use super::json::Json;
use super::methods;

/// The method that tells which there are.
pub(super) const LIST: &str = "rpc_get_methods";

/// The method that writes a file by its name.
const SAVE: &str = "lunette_save_config";

/// A socket's path, and who may do what there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Door {
    /// Where it is.
    pub path: PathBuf,
    pub(super) may: May,
    /// Users that may come, besides the daemon's own and root.
    users: Vec<u32>,
}

/// What may be called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum May {
    Everything,
    Read,
    These(Vec<String>),
}

impl May {
    /// Whether this may be called.
    pub(super) fn allows(&self, method: &str) -> bool {
        match self {
            May::Everything => true,
            May::Read => methods::find(method).is_ok_and(methods::Method::is_for_readers),
            May::These(names) => method == LIST || names.iter().any(|name| name == method),
        }
    }

    /// Why a call may not be made here, where it may not.
    pub(super) fn refusal(&self, method: &str, params: &Json) -> Option<Fault> {
        if !self.allows(method) {
            return Some(Fault {
                detail: Some("it may not be called at this socket".to_owned()),
                ..Fault::new(Fault::METHOD_NOT_FOUND, "Method not found")
            });
        }
        match self {
            May::Read => {
                let parameter = methods::find(method).ok()?.does_more(params)?;
                Some(Fault::params(format_args!("{parameter}: this socket is for reading only")))
            }
            // Whoever may save may not write over any file that the daemon can.
            May::These(_) if method == SAVE => {
                let is_name = |(name, value): &(String, Json)| name == "filename" && *value != Json::Null;
                let is_named = matches!(params, Json::Object(members) if members.iter().any(is_name));
                is_named.then(|| {
                    Fault::params("filename: at this socket only the file of --config is saved: leave it out")
                })
            }
            May::Everything | May::These(_) => None,
        }
    }

    /// Of the methods that there are, those that may be called here.
    pub(super) fn listed(&self, all: Json) -> Json {
        let Json::Array(names) = all else { return all };
        Json::Array(
            names.into_iter().filter(|name| name.text().is_some_and(|name| self.allows(name))).collect(),
        )
    }

    /// `read-only` or `methods=A+B`, said once; whether it was one of these.
    pub(super) fn limit(&mut self, part: &str) -> Result<bool, String> {
        match part.split_once('=') {
            None if part == "read-only" && *self == May::Everything => *self = May::Read,
            Some(("methods", names)) if *self == May::Everything => {
                let names: Vec<String> = names.split('+').map(str::to_owned).collect();
                if let Some(unknown) = names.iter().find(|name| methods::find(name).is_err()) {
                    return Err(format!("there is no method {unknown:?}"));
                }
                *self = May::These(names);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl Door {
    /// Where everything may be called.
    pub fn open(path: PathBuf) -> Door {
        Door { path, may: May::Everything, users: Vec::new() }
    }

    /// Whether this user may come.
    pub(super) fn admits(&self, user: u32, own: u32) -> bool {
        user == own || user == 0 || self.users.contains(&user)
    }

    /// Who can open it at all: where others may come, who they are is looked at.
    pub(super) fn mode(&self) -> Mode {
        let own = Mode::RUSR | Mode::WUSR;
        if self.users.is_empty() { own } else { own | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH }
    }
}

/// `PATH`, `PATH,read-only`, `PATH,methods=A+B`, each with `,uid=N+M`.
impl FromStr for Door {
    type Err = String;

    fn from_str(text: &str) -> Result<Door, String> {
        let mut parts = text.split(',');
        let path = parts.next().filter(|path| !path.is_empty()).ok_or("a path is missing")?;
        let mut door = Door::open(path.into());
        for part in parts {
            if door.may.limit(part)? {
                continue;
            }
            match part.split_once('=') {
                Some(("uid", users)) if door.users.is_empty() => {
                    let users = users.split('+').map(str::parse).collect::<Result<_, _>>();
                    door.users = users.map_err(|_| format!("{part}: users are said by their numbers"))?;
                }
                _ => {
                    return Err(format!(
                        "{part:?}: read-only or methods=A+B, and uid=N+M, are what may follow"
                    ));
                }
            }
        }
        Ok(door)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(text: &str) -> Door {
        text.parse().unwrap()
    }

    #[test]
    fn doors_are_said_in_a_line() {
        assert_eq!(door("/run/a.sock"), Door::open("/run/a.sock".into()));
        let some = door("/run/a.sock,uid=33+1000,methods=bdev_get_bdevs+log_get_level");
        assert_eq!(some.users, [33, 1000]);
        assert!(some.may.allows("bdev_get_bdevs") && some.may.allows("rpc_get_methods"));
        assert!(!some.may.allows("bdev_malloc_create") && !some.may.allows("iscsi_get_options"));
        for wrong in [
            "",
            ",read-only",
            "/a,readonly",
            "/a,read-only,methods=bdev_get_bdevs",
            "/a,methods=bdev_get_bdev",
            "/a,methods=",
            "/a,uid=root",
            "/a,uid=",
        ] {
            assert!(wrong.parse::<Door>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn who_may_come_is_the_daemon_root_and_who_is_named() {
        let (usual, more) = (door("/a"), door("/a,uid=33"));
        assert!(usual.admits(1000, 1000) && usual.admits(0, 1000) && !usual.admits(33, 1000));
        assert!(more.admits(33, 1000) && !more.admits(34, 1000));
        assert_eq!((usual.mode().as_raw_mode(), more.mode().as_raw_mode()), (0o600, 0o666));
    }

    #[test]
    fn who_may_save_may_not_say_where() {
        let (some, all) = (door("/a,methods=lunette_save_config+bdev_get_bdevs"), door("/a"));
        let refused = |params: &str, door: &Door| door.may.refusal(SAVE, &Json::parse(params).unwrap());
        assert!(methods::find(SAVE).is_ok());
        for params in ["null", "{}", r#"{"filename":null}"#] {
            assert_eq!(refused(params, &some), None, "{params}");
        }
        for params in [r#"{"filename":"/dev/sda"}"#, r#"{"filename":""}"#, r#"{"filename":7}"#] {
            let fault = refused(params, &some).unwrap();
            assert!(fault.text().contains("filename: at this socket only"), "{fault:?}");
            assert_eq!(refused(params, &all), None);
        }
    }

    #[test]
    fn reading_is_what_names_say_and_no_secrets() {
        let door = door("/a,read-only");
        for method in [
            "bdev_get_bdevs",
            "iscsi_get_target_nodes",
            "iscsi_get_auth_groups",
            "spdk_get_version",
            "rpc_get_methods",
            "lunette_subscribe",
            "lunette_get_events",
        ] {
            assert!(door.may.allows(method), "{method}");
        }
        for method in [
            "lunette_get_config",
            "framework_get_config",
            "bdev_malloc_create",
            // It writes a file.
            "lunette_dump_recorder",
            "lunette_recorder_set_options",
            "no_get_such",
        ] {
            assert!(!door.may.allows(method), "{method}");
        }
        let refused =
            |text: &str, door: &Door| door.may.refusal("bdev_get_iostat", &Json::parse(text).unwrap());
        for params in ["null", "{}", r#"{"reset_mode":"none"}"#, r#"{"reset_mode":null,"name":"M0"}"#] {
            assert_eq!(refused(params, &door), None, "{params}");
        }
        for params in
            [r#"{"reset_mode":"all"}"#, r#"{"name":"M0","reset_mode":"maxmin"}"#, r#"{"reset_mode":1}"#]
        {
            let fault = refused(params, &door).unwrap();
            assert!(fault.text().ends_with("reset_mode: this socket is for reading only"), "{fault:?}");
            assert_eq!(refused(params, &Door::open("/a".into())), None);
        }
        let all = methods::all().map(|method| method.name).collect();
        let Json::Array(listed) = door.may.listed(all) else { panic!("no array") };
        assert!(listed.iter().any(|name| name.text() == Some("bdev_get_bdevs")));
        assert!(listed.iter().all(|name| !name.text().unwrap().contains("create")));
    }
}
