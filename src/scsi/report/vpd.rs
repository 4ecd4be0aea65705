//! Vital product data pages (SPC-5, SBC-4).

use crate::scsi::copy;
use crate::scsi::medium::TRANSFER_BYTES_MAX;
use crate::scsi::report::inquiry::NOWHERE;
use crate::scsi::report::writer::Writer;
use crate::scsi::view::{DeviceKind, TargetView, UnitView};
use crate::scsi::{chore, protect, provisioning, work};

type Body = fn(&UnitView, &TargetView, &mut Writer<'_>);

/// SUPPORTED VPD PAGES.
const SUPPORTED: u8 = 0x00;
/// DEVICE IDENTIFICATION.
const IDENTIFICATION: u8 = 0x83;

/// Each page's code and what follows its four-byte header; ascending.
static PAGES: [(u8, Body); 11] = [
    (SUPPORTED, supported),
    (0x80, serial_number),
    (IDENTIFICATION, identification),
    (MANAGEMENT_ADDRESSES, |unit, _, writer| management_addresses(unit, writer)),
    (0x86, extended_inquiry),
    (0x87, mode_page_policy),
    (0x88, scsi_ports),
    (0x8f, |unit, _, writer| copy::third_party_copy(unit, writer)),
    (0xb0, block_limits),
    (0xb1, block_characteristics),
    (0xb2, |unit, _, writer| provisioning::vpd(unit, writer)),
];

/// MANAGEMENT NETWORK ADDRESSES.
const MANAGEMENT_ADDRESSES: u8 = 0x85;

/// ASSOCIATION of a designator: the target port. PIV: the protocol identifier means something.
const TARGET_PORT: u8 = 0x90;
/// PROTOCOL IDENTIFIER 5h, iSCSI, and CODE SET 3h, UTF-8.
const ISCSI_UTF8: u8 = 0x53;

/// CODE SET of a designator.
const BINARY: u8 = 0x01;
/// The same.
const ASCII: u8 = 0x02;
/// Unit serial number, at most.
const SERIAL_BYTES_MAX: usize = 64;
/// An iSCSI name, at most (RFC 7143 §4.2.7.1).
const NAME_BYTES_MAX: usize = 223;

/// There is such a page. At a LUN that leads nowhere there is the list of pages alone.
pub(super) fn known(page: u8, unit: Option<&UnitView>) -> bool {
    page == SUPPORTED || unit.is_some_and(|unit| pages(unit).any(|(code, _)| *code == page))
}

/// Those that this unit has: drives have those of SPC that identify them.
fn pages(unit: &UnitView) -> impl Iterator<Item = &'static (u8, Body)> {
    let has_address = unit.status_url.is_some();
    let of_kind = PAGES.iter().filter(|(code, _)| unit.kind != DeviceKind::CdRom || *code <= IDENTIFICATION);
    of_kind.filter(move |(code, _)| has_address || *code != MANAGEMENT_ADDRESSES)
}

pub(super) fn fill(page: u8, unit: &UnitView, target: &TargetView, writer: &mut Writer<'_>) {
    let Some((_, body)) = PAGES.iter().find(|(code, _)| *code == page) else { return };
    writer.put(&[unit.kind.device_type(), page, 0, 0]);
    body(unit, target, writer);
    writer.length_16(2, 4);
}

/// The list of pages where there is no logical unit: itself.
pub(super) fn fill_nowhere(writer: &mut Writer<'_>) {
    writer.put(&[NOWHERE, SUPPORTED, 0, 1, SUPPORTED]);
}

fn supported(unit: &UnitView, _: &TargetView, writer: &mut Writer<'_>) {
    for (code, _) in pages(unit) {
        writer.put(&[*code]);
    }
}

fn serial_number(unit: &UnitView, _: &TargetView, writer: &mut Writer<'_>) {
    writer.put(serial(unit));
}

/// Device identification: designators of the logical unit, of the target port it is asked through and of the target device.
fn identification(unit: &UnitView, target: &TargetView, writer: &mut Writer<'_>) {
    const TARGET_DEVICE: u8 = 0xa0;
    // PROTOCOL IDENTIFIER 5h, iSCSI, with the code set.
    const ISCSI_BINARY: u8 = 0x51;

    if unit.identity.designators.is_empty() {
        unit_designators(unit, writer);
    } else {
        writer.put(&unit.identity.designators);
    }
    let relative_port = target.relative_port.to_be_bytes();
    designator(writer, ISCSI_BINARY, TARGET_PORT | 0x4, &[&[0, 0], &relative_port]);
    let port_group = target.port_group.to_be_bytes();
    designator(writer, ISCSI_BINARY, TARGET_PORT | 0x5, &[&[0, 0], &port_group]);

    port_name(target, target.portal_group, writer);
    let name = device_name(target);
    designator(writer, ISCSI_UTF8, TARGET_DEVICE | 0x8, &[name, padding(name.len())]);
}

/// Those of the logical unit, of what is known of it.
fn unit_designators(unit: &UnitView, writer: &mut Writer<'_>) {
    const LOGICAL_UNIT: u8 = 0x00;
    let identity = &unit.identity;
    designator(writer, BINARY, LOGICAL_UNIT | 0x3, &[&identity.naa]);
    if let Some(eui64) = &identity.eui64 {
        designator(writer, BINARY, LOGICAL_UNIT | 0x2, &[eui64]);
    }
    match &identity.t10 {
        Some(t10) => designator(writer, ASCII, LOGICAL_UNIT | 0x1, &[&identity.vendor, cut(t10)]),
        None => {
            designator(
                writer,
                ASCII,
                LOGICAL_UNIT | 0x1,
                &[&identity.vendor, &identity.product, serial(unit)],
            );
        }
    }
}

fn device_name(target: &TargetView) -> &[u8] {
    let name = target.name.as_bytes();
    &name[..name.len().min(NAME_BYTES_MAX)]
}

/// The SCSI name string of the target's port at a portal group.
fn port_name(target: &TargetView, portal_group: u16, writer: &mut Writer<'_>) {
    let name = device_name(target);
    // RFC 7143 §4.4.1: name, `,t,0x`, portal group tag. SPC-5: ended by a NUL, padded to a multiple of four.
    let port_tail = port_tail(portal_group);
    let padding = padding(name.len() + port_tail.len());
    designator(writer, ISCSI_UTF8, TARGET_PORT | 0x8, &[name, &port_tail, padding]);
}

/// Management network addresses (SPC-5 §7.8.9): the status page.
fn management_addresses(unit: &UnitView, writer: &mut Writer<'_>) {
    /// ASSOCIATION 10b, the target device; SERVICE TYPE 03h, status.
    const STATUS_OF_TARGET: u8 = 0x43;
    let Some(url) = unit.status_url.as_deref() else { return };
    writer.put(&[STATUS_OF_TARGET, 0, 0, 0]);
    let start = writer.length();
    writer.put(url.as_bytes());
    // Ended by a NUL, padded to a multiple of four.
    writer.put(padding(url.len()));
    writer.length_16(start - 2, start);
}

/// SCSI ports (SPC-5 §7.8.15): those of the target, whoever asks by whichever of them. None is an initiator's.
fn scsi_ports(_: &UnitView, target: &TargetView, writer: &mut Writer<'_>) {
    for (port, portal_group) in target.ports.iter().zip(&target.portal_groups) {
        let [high, low] = port.to_be_bytes();
        // RELATIVE PORT IDENTIFIER; no INITIATOR PORT TRANSPORTID; TARGET PORT DESCRIPTORS LENGTH, below.
        writer.put(&[0, 0, high, low, 0, 0, 0, 0, 0, 0, 0, 0]);
        let start = writer.length();
        port_name(target, *portal_group, writer);
        writer.length_16(start - 2, start);
    }
}

/// One designation descriptor; `parts` follow one another.
fn designator(writer: &mut Writer<'_>, code_set: u8, kind: u8, parts: &[&[u8]]) {
    let start = writer.length();
    writer.put(&[code_set, kind, 0, 0]);
    for part in parts {
        writer.put(part);
    }
    writer.length_8(start + 3, start + 4);
}

/// One to four NULs, after a string of `length` bytes.
fn padding(length: usize) -> &'static [u8] {
    &[0; 4][length % 4..]
}

/// `,t,0x` and the portal group tag.
fn port_tail(portal_group: u16) -> [u8; 9] {
    let mut tail = *b",t,0x0000";
    let [high, low] = portal_group.to_be_bytes();
    for (digit, nibble) in tail[5..].iter_mut().zip([high >> 4, high & 0xf, low >> 4, low & 0xf]) {
        *digit = b"0123456789abcdef"[usize::from(nibble)];
    }
    tail
}

/// Extended INQUIRY data.
fn extended_inquiry(unit: &UnitView, _: &TargetView, writer: &mut Writer<'_>) {
    let v_sup = u8::from(unit.write_cache);
    writer.put(&[
        // No microcode activation.
        protect::extended_inquiry_byte(unit),
        0x07,  // HEADSUP, ORDSUP, SIMPSUP.
        v_sup, // V_SUP: a volatile cache; neither WRITE UNCORRECTABLE nor a non-volatile one.
        0x01, // LUICLR: REPORTED LUNS DATA HAS CHANGED is cleared for all logical units when one has reported it.
    ]);
    writer.zeros_to(64);
}

/// Mode page policy: every page is one for all initiators (policy 00b), of this logical unit alone (MLUS 0).
fn mode_page_policy(_: &UnitView, _: &TargetView, writer: &mut Writer<'_>) {
    const ALL_PAGES: u8 = 0x3f;
    const ALL_SUBPAGES: u8 = 0xff;
    writer.put(&[ALL_PAGES, ALL_SUBPAGES, 0x00, 0]);
}

/// Block limits. No limit is told for what has none, PRE-FETCH.
fn block_limits(unit: &UnitView, _: &TargetView, writer: &mut Writer<'_>) {
    let granularity = u16::try_from(blocks(unit.physical_block_bytes, unit)).unwrap_or(u16::MAX);
    // WSNZ: a WRITE SAME of no blocks is refused.
    writer.put(&[0x01, work::compare_and_write_blocks_max(unit.block_bytes)]);
    writer.put(&granularity.to_be_bytes());
    writer.put(&transfer_blocks_max(unit).to_be_bytes());
    writer.zeros(8);
    if let Some(unmap) = unit.unmap {
        writer.put(&work::UNMAP_BLOCKS_MAX.to_be_bytes());
        writer.put(&work::UNMAP_DESCRIPTORS_MAX.to_be_bytes());
        writer.put(&unmap.granularity_blocks.to_be_bytes());
        // UGAVALID: the first unit begins at LBA 0.
        writer.put(&[0x80, 0, 0, 0]);
    }
    writer.zeros_to(36);
    writer.put(&u64::from(work::WRITE_SAME_BLOCKS_MAX).to_be_bytes());
    // MAXIMUM ATOMIC TRANSFER LENGTH; no alignment, no granularity, no boundary.
    writer.put(&work::write_atomic_blocks_max(unit).to_be_bytes());
    writer.zeros_to(64);
}

/// Block device characteristics. MEDIUM ROTATION RATE 0001h: it does not rotate; 0000h: not reported. WABEREQ and WACEREQ 01b: what
/// was erased can be read.
fn block_characteristics(unit: &UnitView, _: &TargetView, writer: &mut Writer<'_>) {
    const READS_AFTER_ERASE: u8 = 0x40;
    const READS_AFTER_KEY_ERASE: u8 = 0x10;
    let erase = if chore::can_erase(unit) { READS_AFTER_ERASE } else { 0 };
    let erase_key = if chore::can_erase_key(unit) { READS_AFTER_KEY_ERASE } else { 0 };
    writer.put(&[0, u8::from(!unit.rotational), 0, erase | erase_key]);
    writer.zeros_to(64);
}

fn serial(unit: &UnitView) -> &[u8] {
    cut(&unit.identity.serial)
}

fn cut(text: &str) -> &[u8] {
    let bytes = text.as_bytes();
    &bytes[..bytes.len().min(SERIAL_BYTES_MAX)]
}

/// MAXIMUM TRANSFER LENGTH.
fn transfer_blocks_max(unit: &UnitView) -> u32 {
    if unit.protection.is_some() { protect::blocks_max(unit) } else { blocks(TRANSFER_BYTES_MAX, unit) }
}

/// Bytes as whole logical blocks.
fn blocks(bytes: u32, unit: &UnitView) -> u32 {
    bytes.checked_div(unit.block_bytes).unwrap_or(0)
}
