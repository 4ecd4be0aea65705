//! Devices that another target passes SCSI commands on to: which generic device each is at this host, as that is what lunette
//! passes commands on to. A device's numbers are its host's, so what is found is to be looked at by whoever moves.

use std::path::Path;

use super::model::Backing;
use super::report::{Place, Report};
use super::source::Files;

/// What a device is passed through by, and what is to be said of that; nothing where its generic device is not known. `what`
/// becomes it.
pub(super) fn backing(
    what: &str,
    device: &str,
    place: &Place,
    files: &dyn Files,
    report: &mut Report,
) -> Option<Backing> {
    match generic(device, files) {
        Some(path) if path == device => {
            report
                .maps(place, format_args!("{what}: {device} is passed through, by its number at this host"));
            Some(Backing::Passed { path })
        }
        Some(path) => {
            report.changed(
                place,
                format_args!("{what}: {device} is passed through as {path}, its number at this host"),
            );
            Some(Backing::Passed { path })
        }
        None => {
            report.cannot(
                place,
                format_args!(
                    "{what}: SCSI commands are passed through to {device}: lunette_sg_create does that with the same device's \
                     /dev/sgN, which this host does not tell; it was left out"
                ),
            );
            None
        }
    }
}

/// The generic device (`/dev/sgN`) of a device that is named by itself, by its host, channel, id and LUN, or as disk, drive, tape
/// or changer (`/sys` of Linux, Documentation/ABI/testing/sysfs-bus-scsi, and sg3_utils' sg_map26(8)).
fn generic(device: &str, files: &dyn Files) -> Option<String> {
    let below = match device.strip_prefix("/dev/") {
        Some(name) if is_generic(name) => return Some(device.to_owned()),
        Some(name) if is_plain(name) => ["block", "class/scsi_tape", "class/scsi_changer"]
            .map(|class| format!("/sys/{class}/{name}"))
            .to_vec(),
        None if is_address(device) => vec![format!("/sys/class/scsi_device/{device}")],
        _ => return None,
    };
    below.iter().find_map(|folder| {
        let found = files.matching(Path::new(&format!("{folder}/device/scsi_generic/sg*"))).ok()?;
        let [one] = found.as_slice() else { return None };
        let name = one.file_name()?.to_str()?;
        is_generic(name).then(|| format!("/dev/{name}"))
    })
}

fn is_generic(name: &str) -> bool {
    name.strip_prefix("sg").is_some_and(is_number)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// H:C:T:L
fn is_address(text: &str) -> bool {
    text.split(':').count() == 4 && text.split(':').all(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::tests::Folder;

    #[test]
    fn a_device_is_found_however_it_is_named() {
        let files = Folder(vec![
            ("/sys/block/sdb/device/scsi_generic/sg4", ""),
            ("/sys/class/scsi_tape/nst0/device/scsi_generic/sg5", ""),
            ("/sys/class/scsi_changer/sch0/device/scsi_generic/sg6", ""),
            ("/sys/class/scsi_device/3:0:10:2/device/scsi_generic/sg17", ""),
            ("/sys/block/sdc/device/scsi_generic/sg8", ""),
            ("/sys/block/sdc/device/scsi_generic/sg9", ""),
            ("/sys/block/sdd/device/scsi_generic/sgx", ""),
        ]);
        for (device, expected) in [
            ("/dev/sg3", Some("/dev/sg3")),
            ("/dev/sdb", Some("/dev/sg4")),
            ("/dev/nst0", Some("/dev/sg5")),
            ("/dev/sch0", Some("/dev/sg6")),
            ("3:0:10:2", Some("/dev/sg17")),
            // Not one, none, or nothing that such a file is asked about.
            ("/dev/sdc", None),
            ("/dev/sdd", None),
            ("/dev/sde", None),
            ("3:0:10", None),
            ("3:0:10:x", None),
            ("/dev/../sdb", None),
            ("/dev/", None),
            ("/dev/sg", None),
            ("sdb", None),
            ("", None),
        ] {
            assert_eq!(generic(device, &files).as_deref(), expected, "{device}");
        }
    }
}
