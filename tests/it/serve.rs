//! `lunette serve PATH`: the command as it is typed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use lunette_initiator::scsi::cdb;
use lunette_initiator::{Client, Config, Data, lun};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{pattern, sense};

pub(crate) const TARGET: &str = "iqn.2026-11.io.lunette:demo";
const QUIET: &[&str] = &[
    "--portal",
    "127.0.0.1:0",
    "--idle",
    "park",
    "--mem-size",
    "16",
    "--hugepages",
    "off",
    "--log",
    "error",
];

/// A folder of its own, gone at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("lunette-serve-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file of so many zeroes.
    pub(crate) fn file(&self, name: &str, bytes: u64) -> PathBuf {
        File::create(self.path(name)).unwrap().set_len(bytes).unwrap();
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn serve(folder: &Folder, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lunette"));
    command.arg("serve").args(args).args(QUIET).current_dir(&folder.0).stdin(Stdio::null());
    // Not where a daemon of this machine may be looked for.
    command.env("LUNETTE_SOCKET", "");
    command
}

/// A daemon that serves.
pub(crate) struct Daemon {
    pub(crate) child: Option<Child>,
    pub(crate) address: SocketAddr,
    /// What it prints.
    out: BufReader<std::process::ChildStdout>,
}

impl Daemon {
    pub(crate) fn start(folder: &Folder, args: &[&str]) -> Daemon {
        let mut child = serve(folder, args).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0, "it ended: {:?}", child.wait());
            if let Some(address) = line.strip_prefix("listening on ") {
                break address.trim().parse().unwrap();
            }
        };
        Daemon { child: Some(child), address, out }
    }

    fn login(&self, luns: u16) -> Client {
        let config = Config::new("iqn.2026-11.io.example:typist", TARGET);
        let mut client = Client::connect(self.address, config).unwrap();
        for number in 0..luns {
            client.set_lun(lun::from_number(number));
            // POWER ON OCCURRED.
            client.command(cdb::test_unit_ready(), Data::None).unwrap();
        }
        client.set_lun(0);
        client
    }

    /// Asks it to end; it has to do so in order. What it had printed after its first portal.
    fn stop(mut self) -> String {
        let mut child = self.child.take().unwrap();
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success());
        let mut text = String::new();
        self.out.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After a failed test it still runs.
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The exit code and the words of a daemon that does not come up.
fn refused(folder: &Folder, args: &[&str]) -> (Option<i32>, String) {
    let output = serve(folder, args).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_new_file_is_made_served_kept_and_locked() {
    let folder = Folder::new();
    let daemon =
        Daemon::start(&folder, &["--size", "8M", "new.img", "--block-size", "4096", "--cache", "through"]);
    let metadata = fs::metadata(folder.path("new.img")).unwrap();
    assert_eq!(metadata.len(), 8 << 20);
    assert!(metadata.blocks() * 512 < 1 << 20, "it is sparse");
    let mut client = daemon.login(1);
    let capacity = client.capacity().unwrap();
    assert_eq!((capacity.count_blocks, capacity.block_bytes), (2048, 4096));
    client.write(7, &pattern(1, 7, 1, 4096)).unwrap();
    let (code, words) = refused(&folder, &["new.img"]);
    assert_eq!(code, Some(1));
    assert!(words.contains("new.img is locked: another lunette"), "{words}");
    client.logout().unwrap();
    let address = daemon.address;
    let hints = daemon.stop();
    for hint in [
        format!("  qemu-img info iscsi://{address}/{TARGET}/0\n"),
        format!("  iscsiadm -m node -T {TARGET} -p {address} --login\n"),
    ] {
        assert!(hints.contains(&hint), "{hints}");
    }

    let daemon = Daemon::start(&folder, &["--read-only", "new.img"]);
    let mut client = daemon.login(1);
    assert!(client.read(7 * 8, 8).unwrap() == pattern(1, 7, 1, 4096));
    let write =
        lunette_initiator::Command::write(0, cdb::write_16(0, 1, cdb::Flags::default()), vec![0; 512]);
    let refused = client.run(write).unwrap();
    assert_eq!(sense(&refused), (0x7, 0x27, 0x00));
    client.logout().unwrap();
    daemon.stop();
}

#[test]
fn luns_are_numbered_as_they_are_typed_files_first() {
    let folder = Folder::new();
    folder.file("a", 1 << 20);
    folder.file("b", 2 << 20);
    let daemon = Daemon::start(&folder, &["--null", "n:4M", "--malloc", "m:3M", "b", "a"]);
    let mut client = daemon.login(4);
    let sizes: Vec<u64> = (0..4)
        .map(|number| {
            client.set_lun(lun::from_number(number));
            client.capacity().unwrap().count_blocks
        })
        .collect();
    assert_eq!(sizes, [4096, 2048, 6144, 8192]);
    client.logout().unwrap();
    daemon.stop();
}

#[test]
fn what_cannot_be_served_is_refused_with_what_to_do() {
    let folder = Folder::new();
    folder.file("disk", 1 << 20);
    folder.file("empty", 0);
    fs::create_dir(folder.path("directory")).unwrap();
    for (args, code, words) in [
        (&["missing"][..], 1, "missing does not exist; --size 10G makes it, sparse"),
        (&["--size", "1M", "/dev/no-such-disk"], 1, "/dev/no-such-disk does not exist; lsblk lists"),
        (
            &["--size", "1M", "no/such/folder"],
            1,
            "No such file or directory (os error 2); make its folder first",
        ),
        (&["directory"], 1, "directory is a directory; give a file in it"),
        (&["/dev/null"], 1, "/dev/null is neither a regular file nor a block device"),
        (&["empty"], 1, "empty has not even one block; --size 10G makes a disk of an empty file"),
        (&["--size", "2M", "disk"], 1, "has 1048576 bytes, not 2097152; leave --size out to use it as it is"),
        (&["--size", "1000", "new"], 2, "--size: 1000 bytes are not a whole number of blocks of 512 bytes"),
        (&["--block-size", "520", "disk"], 2, "a block has 512, 1024, 2048 or 4096 bytes, not 520"),
        (&["--size", "1X", "new"], 2, "\"1X\" is not a size"),
        (&["--size", "1M"], 2, "<PATH>"),
        (&["--read-only", "--size", "1M", "new"], 2, "cannot be used with"),
        (&["--config", "file", "disk"], 2, "cannot be used with"),
    ] {
        let (exit, text) = refused(&folder, args);
        assert_eq!(exit, Some(code), "{args:?}: {text}");
        assert!(text.contains(words), "{args:?}: {text}");
    }
    assert!(!Path::new(&folder.path("new")).exists());
}

#[test]
fn an_image_is_the_disc_in_a_drive_unless_it_is_said_to_be_a_disk() {
    let folder = Folder::new();
    folder.file("boot.ISO", 40 * 2048);
    folder.file("disk.img", 1 << 20);
    let kind =
        |client: &mut Client| client.command(cdb::inquiry(36), Data::In(36)).unwrap().data[..2].to_vec();
    let daemon = Daemon::start(&folder, &["boot.ISO", "disk.img"]);
    let mut client = daemon.login(2);
    assert_eq!(kind(&mut client), [0x05, 0x80]);
    assert_eq!(client.command(cdb::read_capacity_10(), Data::In(8)).unwrap().data, [0, 0, 0, 39, 0, 0, 8, 0]);
    client.set_lun(lun::from_number(1));
    assert_eq!(kind(&mut client), [0x00, 0x00]);
    drop(client);
    daemon.stop();
    let daemon = Daemon::start(&folder, &["--block-size", "512", "boot.ISO"]);
    assert_eq!(kind(&mut daemon.login(1)), [0x00, 0x00]);
    daemon.stop();
}
