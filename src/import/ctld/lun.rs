//! A lun of ctld's: what it is made of, and who CTL says it is.

use crate::import::braces::Node;
use crate::import::identity::{Field, Identity, designator, is_naa};
use crate::import::model::{Backing, Disk, Model};
use crate::import::report::{Place, Report};
use crate::import::text::{self, number};

/// The disk that a lun is. `scsi_name`: what ctld calls one that stands in its target.
pub(super) fn disk(
    name: &str,
    node: &Node,
    scsi_name: Option<&str>,
    model: &mut Model,
    report: &mut Report,
) -> Option<usize> {
    let place = &node.place;
    let value =
        |key: &str| node.statements().find(|node| node.key() == key).map(|node| node.word(1).to_owned());
    let size = value("size").and_then(|size| text::size(&size));
    let path = value("path");
    let is_drive = matches!(value("device-type").as_deref(), Some("5" | "cd" | "cdrom"));
    let backing = match (value("backend").as_deref(), path, size) {
        (_, path, _) if is_drive => Backing::CdRom { path },
        (Some("ramdisk"), _, Some(bytes)) => {
            report.changed(place, format_args!("lun {name}: a RAM disk, empty at each start"));
            Backing::Memory { bytes }
        }
        (Some("block") | None, Some(path), size) => {
            if size.is_some() && path.starts_with("/dev/") {
                report.changed(place, format_args!("lun {name}: its size is the device's own"));
            }
            Backing::File { create_bytes: size.filter(|_| !path.starts_with("/dev/")), path }
        }
        _ => {
            report.cannot(place, format_args!("lun {name}: neither a path nor a size; it was left out"));
            return None;
        }
    };
    let mut disk = model.new_disk(backing, &["ctld", name]);
    options(node, &mut disk, report);
    disk.identity = identity(node, scsi_name, place, report);
    Some(model.add_disk(disk, place, report))
}

fn options(node: &Node, disk: &mut Disk, report: &mut Report) {
    for statement in node.statements() {
        let (place, value) = (&statement.place, statement.word(1));
        match (statement.key(), value) {
            ("backend" | "path" | "size" | "serial" | "device-id" | "device-type", _) => {}
            ("blocksize", _) => match number(value).and_then(|bytes| u32::try_from(bytes).ok()) {
                Some(bytes @ (512 | 1024 | 2048 | 4096)) => disk.block_bytes = Some(bytes),
                _ => report.cannot(place, format_args!("blocksize {value}: 512, 1024, 2048 or 4096")),
            },
            ("option", "vendor" | "product" | "revision" | "naa" | "eui" | "scsiname" | "uuid") => {}
            ("option", "readonly") => disk.is_read_only = text::truth(statement.word(2)) == Some(true),
            ("option", "removable") => disk.is_removable = text::truth(statement.word(2)) == Some(true),
            ("option", "writecache") => disk.is_write_through = text::truth(statement.word(2)) == Some(false),
            ("option", "insecure_tpc") => {}
            ("option", _) => report.cannot(place, format_args!("option {value}: not taken over")),
            ("ctl-lun", _) => report.changed(place, "ctl-lun: lunette has no such numbers"),
            (key, _) => report.cannot(place, format_args!("{key}: not known in a lun")),
        }
    }
}

/// Bytes of the device identifier at least and at most.
const DEVICE_ID_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// Who CTL says a lun is.
fn identity(node: &Node, scsi_name: Option<&str>, place: &Place, report: &mut Report) -> Identity {
    let value =
        |key: &str| node.statements().find(|node| node.key() == key).map(|node| node.word(1).to_owned());
    let option = |name: &str| {
        node.statements()
            .find(|node| node.key() == "option" && node.word(1) == name)
            .map(|node| node.word(2).to_owned())
    };
    let mut identity = Identity::default();
    let vendor = option("vendor").unwrap_or_else(|| "FREEBSD".to_owned());
    identity.set(Field::Vendor, &vendor, place, report);
    identity.set(Field::Product, &option("product").unwrap_or_else(|| "CTLDISK".to_owned()), place, report);
    identity.set(Field::Revision, &option("revision").unwrap_or_else(|| "0001".to_owned()), place, report);
    match value("serial") {
        Some(serial) => identity.set(Field::Serial, &serial, place, report),
        None => report.cannot(
            place,
            "no serial: CTL made one of the order in which luns came; ask an initiator for VPD page 80h",
        ),
    }
    let hex = |name: &str| {
        option(name)
            .and_then(|text| crate::control::identity::bytes(&text))
            .map(|bytes| bytes.to_vec())
            .filter(|bytes| !bytes.is_empty())
    };
    let (naa, eui64) = (hex("naa"), hex("eui"));
    let Some(device_id) = value("device-id") else {
        report.cannot(
            place,
            "no device-id: CTL made one of the order in which luns came; ask an initiator for VPD page 83h",
        );
        identity.naa = naa.filter(|naa| is_naa(naa));
        identity.eui64 = eui64.and_then(|eui64| eui64.as_slice().try_into().ok());
        return identity;
    };
    let mut name = format!("{vendor:<8}").into_bytes();
    name.truncate(8);
    name.extend(device_id.bytes().take(*DEVICE_ID_BYTES.end()));
    let least = 8 + DEVICE_ID_BYTES.start();
    if name.len() < least {
        name.resize(least, 0);
    }
    let mut designators = vec![designator(2, 1, &name)];
    if let Some(text) = option("scsiname").or_else(|| scsi_name.map(str::to_owned)) {
        let mut name = text.into_bytes();
        // Ended by a zero, padded to a multiple of four.
        name.resize((name.len() / 4 + 1) * 4, 0);
        designators.push(designator(3, 8, &name));
    }
    designators.extend(eui64.as_ref().map(|eui64| designator(1, 2, eui64)));
    designators.extend(naa.as_ref().map(|naa| designator(1, 3, naa)));
    identity.designators = designators.into_iter().flatten().collect();
    identity.eui64 = eui64.and_then(|eui64| eui64.as_slice().try_into().ok());
    identity.naa = naa.filter(|naa| is_naa(naa));
    identity
}
