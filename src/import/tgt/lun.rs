//! A LUN of tgt's: which number it has, what it is made of, and who it says it is.

use super::blocks::Node;
use crate::import::identity::{Field, Identity, designator};
use crate::import::model::{Backing, Lun, Model, Target, lun_number};
use crate::import::report::{Place, Report};
use crate::import::text::{number, truth};

/// Bytes of the fields of VPD 80h and of the T10 designator of VPD 83h.
const ID_BYTES: usize = 36;
/// What `bs_null` shows.
const NULL_BYTES: u64 = 1 << 40;
/// Options of a LUN; at a target they are of all its LUNs.
const OPTIONS: &[&str] = &[
    "allow-in-use",
    "block-size",
    "bs-type",
    "bsoflags",
    "bsopts",
    "device-type",
    "la_lba",
    "lbppbe",
    "lun",
    "mode_page",
    "online",
    "optimal_xfer_gran",
    "optimal_xfer_len",
    "params",
    "path",
    "product_id",
    "product_rev",
    "readonly",
    "removable",
    "scsi_id",
    "scsi_sn",
    "sense_format",
    "vendor_id",
    "write-cache",
];

pub(super) fn is_option(key: &str) -> bool {
    OPTIONS.contains(&key)
}

/// A `backing-store` or `direct-store`, and its LUN.
#[derive(Clone, Debug)]
pub(super) struct Store<'a> {
    node: &'a Node,
    is_direct: bool,
    number: u64,
}

/// The stores of a target with their numbers: those that are asked for, else the lowest that are free, by path,
/// backing-stores first.
pub(super) fn stores<'a>(inside: &'a [Node], report: &mut Report) -> Vec<Store<'a>> {
    let asked = |node: &Node| {
        let lun = node.inside.iter().flatten().rev().find(|node| node.key == "lun")?;
        number(&lun.value)
    };
    let mut taken: Vec<u64> = inside.iter().filter_map(asked).collect();
    let mut stores: Vec<Store<'_>> = Vec::new();
    for (key, is_direct) in [("backing-store", false), ("direct-store", true)] {
        let mut nodes: Vec<&Node> = inside.iter().filter(|node| node.key == key).collect();
        nodes.sort_by(|a, b| a.value.cmp(&b.value));
        for node in nodes {
            if stores.iter().any(|store| store.is_direct == is_direct && store.node.value == node.value) {
                report.cannot(&node.place, format_args!("{key} {}: it stands there twice", node.value));
                continue;
            }
            let number = asked(node).unwrap_or_else(|| {
                // As many numbers are taken as there are stores, at most.
                let free = (1..).find(|number| !taken.contains(number)).unwrap_or(u64::MAX);
                taken.push(free);
                free
            });
            stores.push(Store { node, is_direct, number });
        }
    }
    stores
}

/// What is said of a LUN.
#[derive(Debug, Default)]
struct Said {
    bs_type: String,
    device_type: String,
    block_bytes: Option<u32>,
    is_read_only: bool,
    is_write_through: bool,
    is_removable: bool,
    is_offline: bool,
    identity: Identity,
    scsi_id: Option<String>,
    scsi_sn: Option<String>,
}

/// Adds a LUN to a target.
pub(super) fn add(
    store: &Store<'_>,
    shared: &[&Node],
    iqn: &str,
    tid: u64,
    target: &mut Target,
    model: &mut Model,
    report: &mut Report,
) {
    let Store { node, is_direct, number } = *store;
    let place = &node.place;
    let Some(lun) = lun_number(number) else {
        return report.cannot(place, format_args!("LUN {number}: numbers go to 16383"));
    };
    if target.luns.iter().any(|known| known.number == lun) {
        return report.cannot(place, format_args!("LUN {number}: another store has it"));
    }
    let mut said = Said::default();
    let numbers = (tid, number);
    for option in shared.iter().copied().chain(node.inside.iter().flatten()) {
        option_of(&option.key, &option.value, numbers, &option.place, &mut said, report);
    }
    let Some(backing) = backing(&node.value, &said, place, report) else { return };
    if said.is_offline {
        return report.cannot(place, format_args!("LUN {number}: it is offline in tgt; it was left out"));
    }
    let is_passed = matches!(backing, Backing::Passed { .. });
    if is_passed && says_more(&said) {
        report.changed(
            place,
            format_args!("LUN {number}: who it is, its blocks and its cache are the device's own"),
        );
    }
    if is_direct && !is_passed {
        report.changed(
            place,
            "direct-store: tgt-admin asks the disk for vendor, product, revision and serial number, which this command does \
             not; lunette_bdev_set_identity sets them",
        );
    }
    let lun_text = number.to_string();
    let kind = match backing {
        _ if is_direct => None,
        Backing::CdRom { .. } => Some("VIRTUAL-CDROM"),
        _ => Some("VIRTUAL-DISK"),
    };
    let mut disk = model.new_disk(backing, &["tgt", iqn, &lun_text]);
    disk.is_read_only = said.is_read_only;
    if !is_passed {
        // A device's own may be another.
        let is_disk = !matches!(disk.backing, Backing::CdRom { .. });
        disk.block_bytes = said.block_bytes.or((is_disk && !is_direct).then_some(512));
        disk.is_write_through = said.is_write_through;
        disk.is_removable = said.is_removable;
        disk.identity = identity(said, numbers, kind, place, report);
    }
    let name = disk.name.clone();
    let disk = model.add_disk(disk, place, report);
    target.luns.push(Lun { number: lun, disk, is_read_only: false });
    let how = if is_passed { ", passed through" } else { "" };
    report.maps(place, format_args!("LUN {number} is {} ({name}){how}", node.value));
}

/// Whether something is said that a device which is passed through says itself.
fn says_more(said: &Said) -> bool {
    let Said { identity, scsi_id, scsi_sn, block_bytes, is_write_through, is_removable, .. } = said;
    *identity != Identity::default()
        || scsi_id.is_some()
        || scsi_sn.is_some()
        || block_bytes.is_some()
        || *is_write_through
        || *is_removable
}

/// What a store is made of.
fn backing(path: &str, said: &Said, place: &Place, report: &mut Report) -> Option<Backing> {
    let path = path.to_owned();
    match (said.device_type.as_str(), said.bs_type.as_str()) {
        ("" | "disk", "null") => Some(Backing::Null { bytes: NULL_BYTES }),
        ("cd", "" | "rdwr" | "aio" | "mmc") => {
            let is_loaded = !path.is_empty() && !path.starts_with("NONE:");
            Some(Backing::CdRom { path: is_loaded.then_some(path) })
        }
        ("" | "disk", "" | "rdwr" | "aio") if path.starts_with("NONE:") => {
            report.cannot(place, "a removable disk without a medium: load one first");
            None
        }
        ("" | "disk", "" | "rdwr" | "aio") if path.is_empty() => {
            report.cannot(place, "a disk without a backing store; the LUN was left out");
            None
        }
        ("" | "disk", "" | "rdwr" | "aio") => Some(Backing::File { path, create_bytes: None }),
        ("" | "disk" | "pt", "sg") | ("pt", "")
            if path.starts_with('/') && !path.starts_with("/dev/bsg/") =>
        {
            Some(Backing::Passed { path })
        }
        ("pt", _) | (_, "sg" | "bsg") => {
            report.cannot(
                place,
                format_args!(
                    "{path}: SCSI commands are passed through to it: lunette_sg_create does that with the same device's /dev/sgN; the LUN was \
                     left out"
                ),
            );
            None
        }
        ("" | "disk", kind) => {
            report.cannot(place, format_args!("{path}: bs-type {kind}; the LUN was left out"));
            None
        }
        (kind, _) => {
            report.cannot(place, format_args!("{path}: device-type {kind}; the LUN was left out"));
            None
        }
    }
}

fn option_of(
    key: &str,
    value: &str,
    numbers: (u64, u64),
    place: &Place,
    said: &mut Said,
    report: &mut Report,
) {
    let mut is_on = || {
        let value = truth(value);
        if value.is_none() {
            report.cannot(place, format_args!("{key}: on or off"));
        }
        value == Some(true)
    };
    match key {
        "lun" | "allow-in-use" => {}
        "write-cache" => said.is_write_through = !value.is_empty() && !is_on(),
        "readonly" => said.is_read_only = is_on(),
        "removable" => said.is_removable = is_on(),
        "online" => said.is_offline = !is_on(),
        "vendor_id" => said.identity.set(Field::Vendor, value, place, report),
        "product_id" => said.identity.set(Field::Product, value, place, report),
        "product_rev" => said.identity.set(Field::Revision, value, place, report),
        "scsi_id" => said.scsi_id = Some(cut(value, ID_BYTES)),
        "scsi_sn" => said.scsi_sn = Some(cut(value, ID_BYTES)),
        "bs-type" => value.clone_into(&mut said.bs_type),
        "device-type" => value.clone_into(&mut said.device_type),
        "block-size" => match number(value).and_then(|bytes| u32::try_from(bytes).ok()) {
            Some(bytes @ (512 | 1024 | 2048 | 4096)) => said.block_bytes = Some(bytes),
            _ => report.cannot(place, format_args!("block-size {value}: 512, 1024, 2048 or 4096")),
        },
        "bsoflags" => {
            said.is_write_through |= value.split(':').any(|flag| flag == "sync");
        }
        "mode_page" => mode_page(value, place, said, report),
        "params" => {
            let (tid, lun) = numbers;
            let value = value.replace("${tid}", &tid.to_string()).replace("${lun}", &lun.to_string());
            for param in value.split(',') {
                let (name, value) = param.split_once('=').unwrap_or((param, ""));
                // Once: what `params` says is no `params`.
                match name.trim() {
                    "params" => report.cannot(place, "params in params"),
                    name => option_of(name, value.trim(), numbers, place, said, report),
                }
            }
        }
        "thin_provisioning" => {
            report.maps(place, "thin_provisioning: initiators can unmap wherever the file or device can");
        }
        "lbppbe" | "la_lba" | "optimal_xfer_gran" | "optimal_xfer_len" | "rotation_rate" => {
            report.changed(place, format_args!("{key}: the file's or device's own"));
        }
        "sense_format" => report.changed(place, "sense_format: as initiators ask for it"),
        "path" | "bsopts" => report.cannot(place, format_args!("{key}: not taken over")),
        _ => report.cannot(place, format_args!("{key}: not known")),
    }
}

/// A mode page, as `page:subpage:length:bytes...`: of the caching page WCE is taken over.
fn mode_page(value: &str, place: &Place, said: &mut Said, report: &mut Report) {
    let mut fields = value.split(':').map(|field| number(field.trim()));
    match (fields.next(), fields.next(), fields.next(), fields.next()) {
        (Some(Some(8)), Some(Some(0)), Some(Some(_)), Some(Some(flags))) => {
            said.is_write_through = flags & 0x04 == 0;
        }
        _ => report.cannot(place, format_args!("mode_page {value}: lunette's own mode pages")),
    }
}

fn cut(text: &str, most: usize) -> String {
    text.chars().filter(char::is_ascii).take(most).collect()
}

/// Who tgt says a LUN is. `product`: what it is called, unless a disk behind it was asked.
fn identity(
    said: Said,
    numbers: (u64, u64),
    product: Option<&str>,
    place: &Place,
    report: &mut Report,
) -> Identity {
    let (tid, lun) = numbers;
    let id = said.scsi_id.unwrap_or_else(|| format!("IET     {tid:04x}{lun:04x}"));
    let own = |text: &str| product.map(|_| text.to_owned());
    let serial = said.scsi_sn.or_else(|| own(&format!("beaf{tid}{lun}")));
    let naa = extended(&id);
    let mut identity = Identity {
        vendor: said.identity.vendor.or(own("IET")),
        product: said.identity.product.or(product.map(str::to_owned)),
        revision: said.identity.revision.or(own("0001")),
        naa: Some(naa.to_vec()),
        ..Identity::default()
    };
    if let Some(serial) = serial {
        identity.set(Field::Serial, &format!("{serial:>ID_BYTES$}"), place, report);
    }
    let mut t10 = id.into_bytes();
    t10.resize(ID_BYTES, 0);
    let mut local = (tid << 32 | lun).to_be_bytes();
    local[0] |= 0x30;
    let designators = [designator(2, 1, &t10), designator(1, 3, &local), designator(1, 3, &naa)];
    identity.designators = designators.into_iter().flatten().collect();
    identity
}

/// The NAA identifier of 16 bytes that tgt makes of a SCSI id: each character is a digit, or 0 where it is none.
fn extended(id: &str) -> [u8; 16] {
    let digit = |c: char| u128::from(c.to_digit(16).unwrap_or(0));
    let value = id.chars().fold(0_u128, |value, c| value << 4 | digit(c));
    let mut naa = value.to_be_bytes();
    naa[0] = 0x60 | naa[0] & 0x0f;
    naa
}
