//! Storage objects of LIO's: which disk each becomes, and who it says it is.

use crate::import::identity::{Field, Identity, designator};
use crate::import::model::{Backing, Disk, Model};
use crate::import::passed;
use crate::import::report::{Place, Report};
use crate::import::source::Files;
use crate::rpc::json::Json;

/// The storage objects of a file. Each becomes a disk when a LUN first leads to it.
pub(super) struct Stores<'a> {
    all: Vec<Store>,
    /// Of the host, which knows its devices.
    files: &'a dyn Files,
}

#[derive(Debug)]
struct Store {
    /// `/backstores/PLUGIN/NAME`
    path: String,
    place: Place,
    object: Json,
    /// None: it was not looked at; inside: which disk, if it could be one.
    disk: Option<Option<usize>>,
}

impl<'a> Stores<'a> {
    pub(super) fn of(files: &'a dyn Files) -> Stores<'a> {
        Stores { all: Vec::new(), files }
    }

    pub(super) fn read(&mut self, object: &Json, place: &Place) {
        let part = |name| string(object, name).unwrap_or_default();
        let path = format!("/backstores/{}/{}", part("plugin"), part("name"));
        self.all.push(Store { path, place: place.clone(), object: object.clone(), disk: None });
    }

    pub(super) fn place(&self, path: &str) -> Option<Place> {
        self.all.iter().find(|store| store.path == path).map(|store| store.place.clone())
    }

    /// The disk that a storage object is.
    pub(super) fn disk(&mut self, path: &str, model: &mut Model, report: &mut Report) -> Option<usize> {
        let store = self.all.iter_mut().find(|store| store.path == path)?;
        if let Some(known) = store.disk {
            return known;
        }
        let made = disk(&store.object, &store.place, self.files, model, report);
        let disk = made.map(|disk| model.add_disk(disk, &store.place, report));
        store.disk = Some(disk);
        disk
    }

    /// The access state of a storage object by a target port group, where it is not the usual.
    pub(super) fn state(&self, path: &str, group: &str, report: &mut Report) -> Option<(&'static str, bool)> {
        let store = self.all.iter().find(|store| store.path == path)?;
        let known = list(&store.object, "alua_tpgs").find(|known| string(known, "name") == Some(group))?;
        let state = match number(known, "alua_access_state").unwrap_or(0) {
            1 => "active_non_optimized",
            2 => "standby",
            3 => "unavailable",
            14 => {
                report.changed(
                    &store.place,
                    format_args!("{path}: target port group {group} is offline; it is unavailable now"),
                );
                "unavailable"
            }
            15 => "transitioning",
            0 => "active_optimized",
            4 => {
                report.cannot(
                    &store.place,
                    format_args!(
                        "{path}: target port group {group} has states by block (LBA dependent); all of it is \
                         active/non-optimized"
                    ),
                );
                "active_non_optimized"
            }
            state => {
                report.cannot(
                    &store.place,
                    format_args!(
                        "{path}: target port group {group} has the access state {state}, which is not known; it is \
                         unavailable"
                    ),
                );
                "unavailable"
            }
        };
        let is_preferred = number(known, "preferred") == Some(1);
        (state != "active_optimized" || is_preferred).then_some((state, is_preferred))
    }

    /// Tells of those that no LUN leads to: nobody could reach them.
    pub(super) fn remark_unused(self, model: &mut Model, report: &mut Report) {
        for store in self.all.into_iter().filter(|store| store.disk.is_none()) {
            if let Some(disk) = disk(&store.object, &store.place, self.files, model, report) {
                report.changed(
                    &store.place,
                    format_args!("{}: no LUN leads to it; it is there as {}", store.path, disk.name),
                );
                model.add_disk(disk, &store.place, report);
            }
        }
    }
}

fn disk(
    object: &Json,
    place: &Place,
    files: &dyn Files,
    model: &mut Model,
    report: &mut Report,
) -> Option<Disk> {
    let name = string(object, "name").unwrap_or_default();
    let plugin = string(object, "plugin").unwrap_or_default();
    let text = |member: &str| string(object, member).map(str::to_owned);
    let attribute = |name: &str| object.member("attributes").and_then(|attributes| number(attributes, name));
    let switch = |name: &str| matches!(object.member(name), Some(Json::Bool(true) | Json::Unsigned(1)));
    let backing = match (plugin, text("dev")) {
        ("fileio" | "block", Some(path)) => Backing::File { path, create_bytes: None },
        ("ramdisk", _) => match (number(object, "size"), switch("nullio")) {
            (Some(bytes), true) => Backing::Null { bytes },
            (Some(bytes), false) => {
                report.changed(place, format_args!("{name}: a RAM disk, empty at each start as LIO's is"));
                Backing::Memory { bytes }
            }
            (None, _) => {
                report.cannot(place, format_args!("{name}: a RAM disk without a size"));
                return None;
            }
        },
        ("user", _) => match string(object, "config").and_then(|config| config.strip_prefix("file/")) {
            Some(path) => {
                Backing::File { path: format!("/{}", path.trim_start_matches('/')), create_bytes: None }
            }
            None => {
                let config = string(object, "config").unwrap_or_default();
                report.cannot(place, format_args!("{name}: {config} of TCMU; it was left out"));
                return None;
            }
        },
        // All that is said of it the device says itself.
        ("pscsi", Some(device)) => {
            let backing = passed::backing(name, &device, place, files, report)?;
            let mut disk = model.new_disk(backing, &["lio", plugin, name]);
            disk.name = rename(model, &disk.name, name);
            return Some(disk);
        }
        _ => {
            report.cannot(place, format_args!("{name}: plugin {plugin}; it was left out"));
            return None;
        }
    };
    let serial = string(object, "wwn").unwrap_or_default();
    let mut disk = model.new_disk(backing, &["lio", plugin, name, serial]);
    if let Some(uuid) = uuid(serial) {
        disk.uuid = uuid;
    }
    disk.name = rename(model, &disk.name, name);
    let write_back = attribute("emulate_write_cache") == Some(1) || switch("write_back");
    disk.is_write_through = !write_back && matches!(disk.backing, Backing::File { .. });
    disk.is_read_only = switch("readonly");
    disk.block_bytes = match attribute("block_size") {
        // A device's own is what it has.
        Some(bytes @ (512 | 1024 | 2048 | 4096)) if plugin != "block" => u32::try_from(bytes).ok(),
        _ => None,
    };
    disk.identity =
        identity(name, plugin, serial, attribute("emulate_model_alias") == Some(1), place, report);
    if attribute("pi_prot_type").is_some_and(|kind| kind != 0) {
        report.cannot(place, format_args!("{name}: protection information of a file"));
    }
    if attribute("emulate_tpu") == Some(0) && attribute("emulate_tpws") == Some(0) {
        report.changed(place, format_args!("{name}: initiators can unmap wherever the file or device can"));
    }
    Some(disk)
}

/// The storage object's name instead of the file's.
fn rename(model: &mut Model, given: &str, wanted: &str) -> String {
    model.give_back(given);
    model.free_name(wanted)
}

/// Who LIO says a storage object is.
fn identity(
    name: &str,
    plugin: &str,
    serial: &str,
    has_alias: bool,
    place: &Place,
    report: &mut Report,
) -> Identity {
    let model = match plugin {
        _ if has_alias => name,
        "fileio" => "FILEIO",
        "block" => "IBLOCK",
        "ramdisk" => "RAMDISK-MCP",
        _ => "TCMU device",
    };
    // The kernel cuts it.
    let model: String = model.chars().take(16).collect();
    let mut identity = Identity { vendor: Some("LIO-ORG".to_owned()), ..Identity::default() };
    identity.set(Field::Product, &model, place, report);
    identity.set(Field::Revision, "4.0", place, report);
    if serial.is_empty() {
        report.cannot(
            place,
            format_args!("{name}: it has no wwn; its serial number and NAA are lunette's own"),
        );
        return identity;
    }
    identity.set(Field::Serial, serial, place, report);
    let naa = naa(serial);
    identity.naa = Some(naa.to_vec());
    // The kernel sends the zero at its end too.
    let t10 = format!("LIO-ORG {model}:{serial}\0");
    identity.designators =
        [designator(1, 3, &naa), designator(2, 1, t10.as_bytes())].into_iter().flatten().collect();
    identity
}

/// The NAA identifier that the kernel makes of a unit serial number: 6h, the company 001405h, then the hexadecimal digits in
/// it, as many as there is room for.
pub(in crate::import) fn naa(serial: &str) -> [u8; 16] {
    let digits = "6001405".chars().chain(serial.chars()).filter_map(|c| c.to_digit(16));
    let mut naa = [0; 16];
    for (digit, index) in digits.zip(0..32_usize) {
        let digit = u8::try_from(digit).unwrap_or(0);
        naa[index / 2] |= if index % 2 == 0 { digit << 4 } else { digit };
    }
    naa
}

/// A serial number that is a UUID.
fn uuid(serial: &str) -> Option<[u8; 16]> {
    let is_uuid = serial.len() == 36 && serial.match_indices('-').map(|(at, _)| at).eq([8, 13, 18, 23]);
    if !is_uuid {
        return None;
    }
    crate::control::identity::bytes(serial)?.as_slice().try_into().ok()
}

/// A member that is a string.
pub(super) fn string<'a>(object: &'a Json, name: &str) -> Option<&'a str> {
    object.member(name).and_then(Json::text)
}

/// A member that is a number, or a string of digits.
pub(super) fn number(object: &Json, name: &str) -> Option<u64> {
    match object.member(name)? {
        Json::Unsigned(value) => Some(*value),
        Json::Bool(value) => Some(u64::from(*value)),
        Json::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// The elements of a member that is an array.
pub(super) fn list<'a>(object: &'a Json, name: &str) -> impl Iterator<Item = &'a Json> + use<'a> {
    let elements = match object.member(name) {
        Some(Json::Array(elements)) => elements.as_slice(),
        _ => &[],
    };
    elements.iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_naa_of_a_serial_number() {
        // As lsscsi shows one: 36001405 and the first 25 digits.
        let naa = naa("f9c4e3b1-1a2b-4c3d-8e9f-0123456789ab");
        assert_eq!(crate::control::identity::hex(&naa), "6001405f9c4e3b11a2b4c3d8e9f01234");
        assert_eq!(crate::control::identity::hex(&super::naa("x-1z")), "60014051000000000000000000000000");
    }

    #[test]
    fn only_a_uuid_is_one() {
        assert!(uuid("f9c4e3b1-1a2b-4c3d-8e9f-0123456789ab").is_some());
        for wrong in ["", "0815", "f9c4e3b11a2b4c3d8e9f0123456789ab", "f9c4e3b1-1a2b-4c3d-8e9f-0123456789ag"]
        {
            assert_eq!(uuid(wrong), None, "{wrong}");
        }
    }
}
