//! Who comes to a socket is told by the kernel, whoever can open it.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::process::{Uid, geteuid};
use rustix::thread::set_thread_res_uid;

use super::daemon::{Managed, Wire};
use crate::harness::not_run;

/// What another user finds who connects: on a thread that is that user's from then on.
fn as_user<T: Send + 'static>(user: u32, path: &Path, connect: fn(&PathBuf) -> T) -> T {
    let path = path.to_owned();
    let run = move || {
        let user = Uid::from_raw(user);
        set_thread_res_uid(user, user, user).unwrap();
        connect(&path)
    };
    std::thread::spawn(run).join().unwrap()
}

#[test]
fn users_that_are_not_named_are_turned_away_at_the_door() {
    const NAMED: u32 = 65533;
    const OTHER: u32 = 65532;
    if !geteuid().is_root() {
        return not_run("it needs root to become somebody else");
    }
    let daemon = Managed::start();
    let folder = daemon.folder.path("");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = daemon.folder.path("more.sock");
    let server = daemon.also(&format!("{},uid={NAMED}", path.display()));
    let mut named = as_user(NAMED, &path, |path| Wire::connect(path));
    assert!(named.call("spdk_get_version", "{}").is_ok());
    // Everybody can open it; who is not named is told nothing.
    let mut other = as_user(OTHER, &path, |path| Wire::connect(path));
    let _ = other.stream.write_all(br#"{"jsonrpc":"2.0","id":1,"method":"spdk_get_version"}"#);
    assert_eq!(other.try_line(), None);
    // Root and the daemon's own user come everywhere.
    assert!(Wire::connect(&path).call("spdk_get_version", "{}").is_ok());
    // The usual socket nobody else can open.
    let refused = as_user(NAMED, &daemon.socket(), |path| UnixStream::connect(path).map(drop));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::PermissionDenied);
    drop(server);
}
