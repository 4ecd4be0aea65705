//! A model as `targets.conf`.

use std::fmt::Write as _;

use super::holds_back;
use crate::control::identity::hex;
use crate::import::model::{Access, Auth, Backing, Disk, Lun, Model, Target};
use crate::import::report::{Place, Report};

/// Bytes of what tgt shows with `bs-type null`.
const NULL_BYTES: u64 = 1 << 40;
/// Characters of a serial number.
const SERIAL_CHARS: usize = 36;

/// The file.
pub(super) fn write(model: &Model, place: &Place, report: &mut Report) -> String {
    let mut out = String::from("# Written by lunette export --to tgt.\ndefault-driver iscsi\n");
    let mut portals: Vec<String> = model
        .portal_groups
        .iter()
        .flat_map(|group| &group.portals)
        .map(|portal| format!("portal={portal}"))
        .collect();
    portals.dedup();
    if !portals.is_empty() {
        // String never fails to grow, here and below.
        let _ = writeln!(out, "# tgtd is to be started with --iscsi {}", portals.join(","));
        report.changed(place, format_args!("portals: start tgtd with --iscsi {}", portals.join(",")));
    }
    if let Some(server) = model.options.isns {
        let _ = writeln!(out, "iSNS On\niSNSServerIP {}\niSNSServerPort {}", server.ip(), server.port());
    }
    if let Some(account) = model.options.discovery.accounts().first() {
        let _ = writeln!(out, "incomingdiscoveryuser {} {}", account.user, account.secret);
    }
    for target in &model.targets {
        write_target(target, model, place, report, &mut out);
    }
    out
}

fn write_target(target: &Target, model: &Model, place: &Place, report: &mut Report, out: &mut String) {
    let name = &target.name;
    let _ = writeln!(out, "\n<target {name}>");
    for lun in &target.luns {
        write_lun(lun, name, &model.disks[lun.disk], place, report, out);
    }
    write_accounts(target, place, report, out);
    write_access(target, place, report, out);
    for (key, is_demanded) in
        [("HeaderDigest", target.demands_header_digest), ("DataDigest", target.demands_data_digest)]
    {
        if is_demanded {
            let _ = writeln!(out, "    {key} CRC32C");
        }
    }
    out.push_str("</target>\n");
    report.maps(place, format_args!("target {name}"));
}

fn write_lun(lun: &Lun, target: &str, disk: &Disk, place: &Place, report: &mut Report, out: &mut String) {
    let (path, kind) = match &disk.backing {
        Backing::File { path, .. } => (path.as_str(), ""),
        Backing::CdRom { path: Some(path) } => (path.as_str(), "        device-type cd\n"),
        Backing::Passed { path } => (path.as_str(), "        bs-type sg\n        device-type pt\n"),
        Backing::Null { bytes: NULL_BYTES } => ("/dev/null", "        bs-type null\n"),
        _ => return report.cannot(place, format_args!("{target}: {}: tgt has no such disk", disk.name)),
    };
    if lun.number == 0 {
        return report
            .cannot(place, format_args!("{target}: LUN 0 is tgt's controller; {} was left out", disk.name));
    }
    let _ = writeln!(out, "    <backing-store {path}>\n        lun {}\n{kind}", lun.number);
    // The line that `kind` ends leaves an empty one behind.
    out.truncate(out.trim_end().len());
    out.push('\n');
    let mut option = |key: &str, value: &str| {
        let _ = writeln!(out, "        {key} {value}");
    };
    let identity = &disk.identity;
    for (key, value) in [
        ("vendor_id", &identity.vendor),
        ("product_id", &identity.product),
        ("product_rev", &identity.revision),
    ] {
        if let Some(value) = value {
            option(key, &format!("{value:?}"));
        }
    }
    match identity.serial.as_deref().map(str::trim) {
        Some(serial) if serial.len() <= SERIAL_CHARS => {
            option("scsi_sn", &format!("{serial:?}"));
            report.changed(place, format_args!("{}: tgt puts spaces before its serial number", disk.name));
        }
        Some(_) => report.cannot(
            place,
            format_args!("{}: its serial number has more than {SERIAL_CHARS} characters", disk.name),
        ),
        None => report.changed(place, format_args!("{}: tgt's own serial number", disk.name)),
    }
    match &identity.naa {
        // tgt reads the digits of a SCSI id as an NAA identifier of 16 bytes.
        Some(naa) if naa.len() == 16 => {
            option("scsi_id", &hex(naa));
            report.changed(
                place,
                format_args!("{}: its NAA identifier stays, its T10 identifier is that too", disk.name),
            );
        }
        _ => report.changed(place, format_args!("{}: tgt's own identifiers in VPD page 83h", disk.name)),
    }
    if disk.is_write_through {
        option("write-cache", "off");
    }
    if disk.is_read_only || lun.is_read_only {
        option("readonly", "1");
    }
    if disk.is_removable {
        option("removable", "1");
    }
    if let Some(bytes) = disk.block_bytes {
        option("block-size", &bytes.to_string());
    }
    out.push_str("    </backing-store>\n");
}

fn write_accounts(target: &Target, place: &Place, report: &mut Report, out: &mut String) {
    let name = &target.name;
    if matches!(target.auth, Auth::Either(_)) {
        report.changed(place, format_args!("target {name}: CHAP is not left to the initiator any more"));
    }
    for account in target.auth.accounts() {
        let _ = writeln!(out, "    incominguser {} {}", account.user, account.secret);
    }
    let mut outgoing = target.auth.accounts().iter().filter_map(|account| account.target.as_ref());
    if let Some(first) = outgoing.next() {
        let _ = writeln!(out, "    outgoinguser {} {}", first.0, first.1);
        if outgoing.any(|other| other != first) {
            report.cannot(
                place,
                format_args!("target {name}: tgt proves itself by one account; the first was taken"),
            );
        }
    }
}

fn write_access(target: &Target, place: &Place, report: &mut Report, out: &mut String) {
    let name = &target.name;
    let (mut names, mut addresses): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    // tgt asks nothing of anybody where there are no accounts.
    let is_shut = matches!(target.auth, Auth::Chap(_) | Auth::Mutual(_)) && target.auth.accounts().is_empty();
    if is_shut {
        report.changed(place, format_args!("target {name}: nobody has an account, so nobody may come"));
    }
    for access in target.access.iter().filter(|_| !is_shut) {
        let Access { initiators, netmasks, luns, ways } = access;
        let mut is_left_out = false;
        let has_denial = initiators.iter().any(|rule| rule.starts_with('!'));
        let has_pattern = initiators.iter().any(|rule| rule.contains(['*', '?']));
        match (is_any(initiators), is_any(netmasks)) {
            _ if ways.is_some() => {
                is_left_out = true;
                report.cannot(
                    place,
                    format_args!(
                        "target {name}: tgt has no portal groups; {} were left out",
                        initiators.join(", ")
                    ),
                );
            }
            _ if luns.as_ref().is_some_and(|own| *own != target.luns) => {
                is_left_out = true;
                report.cannot(
                    place,
                    format_args!(
                        "target {name}: tgt has no LUNs of an initiator's own; {} were left out",
                        initiators.join(", ")
                    ),
                );
            }
            (true, true) if !has_denial => addresses.push("ALL"),
            (true, false) if !has_denial => addresses.extend(netmasks.iter().map(String::as_str)),
            (false, true) if !has_denial && !has_pattern => {
                names.extend(initiators.iter().map(String::as_str))
            }
            // Where either list is enough, both together would let more in.
            _ => {
                is_left_out = true;
                report.cannot(
                    place,
                    format_args!(
                        "target {name}: tgt has neither patterns nor names together with addresses; {} were left out",
                        initiators.join(", ")
                    ),
                );
            }
        }
        if is_left_out && holds_back(access, target, place, report) {
            break;
        }
    }
    if addresses.is_empty() {
        // Without an address tgt-admin lets everybody in; nobody has this one.
        addresses.push("255.255.255.255");
    }
    for (key, list) in [("initiator-name", names), ("initiator-address", addresses)] {
        for (index, one) in list.iter().enumerate() {
            if list[..index].contains(one) {
                continue;
            }
            let _ = writeln!(out, "    {key} {one}");
        }
    }
}

/// Whether a list of names or addresses says everybody.
pub(super) fn is_any(list: &[String]) -> bool {
    list.iter().any(|one| one.eq_ignore_ascii_case("any") || one.eq_ignore_ascii_case("all"))
}
