//! What takes a mount or a loop device, and so root. Where that is not to be had, the tests say so.

use std::process::Command;

use super::*;

/// Runs a tool; what it printed. Where it cannot be run here, says why the test is not.
fn tool(line: &str) -> Option<String> {
    let mut words = line.split(' ');
    let output = Command::new(words.next()?).args(words).output();
    let problem = match output {
        Ok(output) if output.status.success() => {
            return Some(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    eprintln!("not run, as `{line}` needs root and the tool: {problem}");
    None
}

/// Runs a tool when dropped.
struct Undo(String);

impl Drop for Undo {
    fn drop(&mut self) {
        assert!(tool(&self.0).is_some() || std::thread::panicking());
    }
}

#[test]
fn a_full_file_system_has_no_space_until_something_is_unmapped() {
    let directory = Directory::new();
    let mount = directory.0.join("mount");
    fs::create_dir(&mount).unwrap();
    let Some(_) = tool(&format!("mount -t tmpfs -o size=64k none {}", mount.display())) else { return };
    let _undo = Undo(format!("umount {}", mount.display()));
    let path = mount.join("disk");
    let disk = disk(Recipe { create_bytes: Some(1 << 20), ..recipe(&path) }).unwrap();
    let mut bench = Bench::new(&disk);
    let write = |lba| Op::Write { lba, blocks: 128, fua: true };
    assert_eq!(bench.result(write(0)), Ok(()));
    assert_eq!(bench.result(write(512)), Err(IoError::NoSpace));
    assert!(!disk.is_flush_failed());
    assert_eq!(bench.result(Op::Unmap { lba: 0, blocks: 128 }), Ok(()));
    assert_eq!(bench.result(write(512)), Ok(()));
}

#[test]
fn what_is_anchored_can_be_written_when_the_file_system_is_full() {
    let directory = Directory::new();
    let mount = directory.0.join("mount");
    fs::create_dir(&mount).unwrap();
    let image = directory.file("image", 16 << 20);
    let Some(_) = tool(&format!("mkfs.ext4 -q -F -m 0 {}", image.display())) else { return };
    let Some(_) = tool(&format!("mount -o loop {} {}", image.display(), mount.display())) else { return };
    let _undo = Undo(format!("umount {}", mount.display()));
    let path = mount.join("disk");
    let disk = disk(Recipe { create_bytes: Some(64 << 20), ..recipe(&path) }).unwrap();
    assert!(disk.info().unmap.unwrap().anchors);
    let mut bench = Bench::new(&disk);
    let anchor = |lba, blocks| Op::WriteZeroes { lba, blocks, fua: false, may_unmap: false };
    let write = |lba| Op::Write { lba, blocks: 128, fua: true };
    assert_eq!(bench.result(anchor(0, 2048)), Ok(()));
    // More than there is; and what is left of it, as far as it was not taken.
    let taken = (1..7).map(|piece| bench.result(anchor(piece * 16_384, 16_384)));
    assert_eq!(taken.last(), Some(Err(IoError::NoSpace)));
    let filled = (0..).map(|piece| bench.result(write(114_688 + piece * 128))).find(Result::is_err);
    assert_eq!(filled, Some(Err(IoError::NoSpace)));
    for piece in 0..16 {
        assert_eq!(bench.result(write(piece * 128)), Ok(()), "{piece}");
    }
    assert!(!disk.is_flush_failed());
    assert_eq!(disk.allocation(0, 2048).runs()[0].state, State::Mapped);
}

#[test]
fn a_block_device_is_claimed_and_a_mounted_one_refused_by_name() {
    let directory = Directory::new();
    let backing = directory.file("backing", 16 << 20);
    let mount = directory.0.join("mount point");
    fs::create_dir(&mount).unwrap();
    let Some(device) = tool(&format!("losetup --find --show {}", backing.display())) else { return };
    let _undo = Undo(format!("losetup --detach {device}"));
    let device = PathBuf::from(device);
    let first = disk(recipe(&device)).unwrap();
    let info = first.info();
    assert_eq!((info.blocks, info.block_bytes), (32768, 512));
    let busy = "is in use (swap, LVM, RAID, or another process that claims it); release it first";
    assert_eq!(refused(recipe(&device)), format!("{} {busy}", device.display()));
    let mut bench = Bench::new(&first);
    for op in [WRITE, UNMAP, WRITE, zeroes(true, true), WRITE, zeroes(true, false)] {
        assert_eq!(bench.result(op), Ok(()), "{op:?}");
        let byte = if op == WRITE { 0xA5 } else { 0 };
        let data = bench.run(READ).data.unwrap();
        assert!(data[..4096].iter().all(|b| *b == byte), "{op:?}");
    }
    // Opened anew, it is the same claim; what is only flushed to it must not look lost.
    first.close();
    assert_eq!(first.reopen(Duration::ZERO).unwrap(), Left::default());
    assert_eq!((bench.result(WRITE), first.info()), (Ok(()), info));
    assert_eq!(refused(recipe(&device)), format!("{} {busy}", device.display()));
    drop((bench, first));
    let Some(_) = tool(&format!("mkfs.ext4 -q -F {}", device.display())) else { return };
    let mounted = Command::new("mount").args([&device, &mount]).status().unwrap();
    assert!(mounted.success());
    let refusal = refused(recipe(&device));
    let unmounted = Command::new("umount").arg(&mount).status().unwrap();
    assert!(unmounted.success());
    let expected = format!("is mounted on {}; unmount it first", mount.display());
    assert_eq!(refusal, format!("{} {expected}", device.display()));
    disk(recipe(&device)).unwrap();
}
