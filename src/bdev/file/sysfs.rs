//! What the system says of a block device: who has it mounted, and how it is made. All of it may block.

use std::path::{Path, PathBuf};

use rustix::fs::{Dev, major, minor};

/// Where `/proc/self/mountinfo` says that the device, or a partition of it, is mounted.
pub(in crate::bdev) fn mount_point(device: Dev) -> Option<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounted(&text, |number, source| {
        let same_source = || rustix::fs::stat(source).is_ok_and(|stat| is_on(stat.st_rdev, device));
        number.is_some_and(|mounted| is_on(mounted, device)) || source.starts_with('/') && same_source()
    })
}

/// Whether it is the device or a partition of it.
fn is_on(mounted: Dev, device: Dev) -> bool {
    let whole = || std::fs::read_to_string(directory(mounted).join("../dev")).ok();
    mounted == device
        || mounted != 0 && whole().is_some_and(|whole| device_number(whole.trim()) == Some(device))
}

/// The first mount point whose device number or source `is_it`.
fn mounted(mountinfo: &str, is_it: impl Fn(Option<Dev>, &str) -> bool) -> Option<String> {
    mountinfo.lines().find_map(|line| {
        // 36 35 98:0 /root /mount/point options [optional fields] - ext4 /dev/source options
        let mut fields = line.split(' ');
        let (number, point) = (fields.nth(2)?, fields.nth(1)?);
        let source = fields.skip_while(|field| *field != "-").nth(2)?;
        is_it(device_number(number), &unescaped(source)).then(|| unescaped(point))
    })
}

/// Undoes `\040` and the like.
fn unescaped(field: &str) -> String {
    let mut text = String::new();
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        match after.get(..3).and_then(|octal| u8::from_str_radix(octal, 8).ok()) {
            Some(byte) => {
                text.push(char::from(byte));
                rest = &after[3..];
            }
            None => {
                text.push('\\');
                rest = after;
            }
        }
    }
    text + rest
}

fn device_number(text: &str) -> Option<Dev> {
    let (major, minor) = text.split_once(':')?;
    Some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?))
}

fn directory(device: Dev) -> PathBuf {
    PathBuf::from(format!("/sys/dev/block/{}:{}", major(device), minor(device)))
}

/// A number of the device's request queue; a partition's is its disk's.
pub(super) fn queue_number(device: Dev, name: &str) -> Option<u64> {
    let directory = directory(device);
    let text = ["queue", "../queue"]
        .iter()
        .find_map(|queue| std::fs::read_to_string(directory.join(queue).join(name)).ok())?;
    text.trim().parse().ok()
}

/// A number that no other device has or will have had since the system started: device numbers are used again (Linux 5.15).
pub(super) fn sequence(device: Dev) -> Option<String> {
    let directory = directory(device);
    let files = ["diskseq", "../diskseq"];
    files.iter().find_map(|file| std::fs::read_to_string(directory.join(file)).ok())
}

/// A name that the device has for life, where it has one.
pub(super) fn serial(device: Dev) -> Option<String> {
    serial_in(&directory(device))
}

fn serial_in(directory: &Path) -> Option<String> {
    let files = ["dm/uuid", "md/uuid", "wwid", "device/wwid", "serial"];
    let texts = files.iter().filter_map(|file| std::fs::read_to_string(directory.join(file)).ok());
    texts.map(|text| text.trim().to_owned()).find(|text| !text.is_empty())
}

/// The same of a partition: its disk's, and where it begins there.
pub(super) fn serial_of_part(device: Dev) -> Option<String> {
    let directory = directory(device);
    match std::fs::read_to_string(directory.join("start")) {
        Ok(start) => Some(format!("{} from {}", serial_in(&directory.join(".."))?, start.trim())),
        Err(_) => serial_in(&directory),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw
30 22 0:27 / /srv/my\\040disks\\134x rw,relatime - btrfs /dev/sdb rw,space_cache
31 22 0:5 / /proc rw shared:2 master:1 - proc proc rw
broken line
";

    #[test]
    fn mounts_are_found_by_number_and_by_source() {
        let sda2 = Some(rustix::fs::makedev(8, 2));
        assert_eq!(mounted(MOUNTINFO, |number, _| number == sda2), Some("/".to_owned()));
        assert_eq!(mounted(MOUNTINFO, |_, source| source == "/dev/sdb"), Some("/srv/my disks\\x".to_owned()));
        assert_eq!(mounted(MOUNTINFO, |_, source| source == "/dev/sdc"), None);
    }

    #[test]
    fn escapes_are_octal() {
        assert_eq!(unescaped("a\\040b\\\\9\\0"), "a b\\\\9\\0");
    }
}
