//! A logical unit's view, made of what its device says of itself.

use super::error::ChangeError;
use super::identity::hex;
use crate::bdev::{Bdev, Info};
use crate::id::UnitId;
use crate::scsi::view::{DeviceKind, Identity, Medium, Modes, UnitView};

/// Whether SCSI can show the device as it is. One that holds no block is not ready: its medium has not been found yet.
pub(super) fn check(info: &Info) -> Result<(), ChangeError> {
    let is_block = |bytes: u32| bytes.is_power_of_two() && bytes >= 512;
    let what = if !is_block(info.block_bytes) || info.block_bytes > 4096 {
        "the block size is not 512, 1024, 2048 or 4096 bytes"
    } else if !is_block(info.physical_block_bytes) || info.physical_block_bytes < info.block_bytes {
        "the physical block size is not a power of two of at least the block size"
    } else {
        return Ok(());
    };
    Err(ChangeError::Unfit { name: info.name.clone(), what })
}

/// A unit as its device is at this moment. What MODE SELECT has set stays set, as far as the device can still do it.
pub(super) fn view(
    id: UnitId,
    bdev: &dyn Bdev,
    info: &Info,
    identity: Identity,
    modes: Option<Modes>,
    kind: DeviceKind,
) -> UnitView {
    let default = Modes::new(info.write_cache);
    let modes =
        modes.map_or(default, |modes| Modes { write_cache: modes.write_cache && info.write_cache, ..modes });
    UnitView {
        physical_block_bytes: info.physical_block_bytes,
        read_only: info.read_only,
        write_cache: info.write_cache,
        rotational: info.rotational,
        modes,
        unmap: info.unmap,
        offloads: info.offloads,
        protection: info.protection,
        medium: match (info.blocks, kind) {
            (0, DeviceKind::CdRom) => Medium::Empty,
            (0, _) => Medium::NotReady,
            _ => Medium::Ready,
        },
        kind: info.passes.map_or(kind, |passes| DeviceKind::Passed { is_blocks: passes.is_blocks }),
        space: bdev.space(),
        temperature: bdev.temperature(),
        ledger: bdev.ledger(),
        ..UnitView::new(id, info.blocks, info.block_bytes, identity)
    }
}

/// Everything an initiator tells disks apart by comes from the medium's UUID, nothing from names or numbers: two hosts
/// with a disk of the same name must not be taken for two paths to one disk.
pub(super) fn identity(info: &Info, product: &str) -> Identity {
    let uuid = &info.uuid;
    let mut naa = [0_u8; 8];
    // Bytes 0 to 5, 14 and 15: the others hold the UUID's version and variant.
    naa[..6].copy_from_slice(&uuid[..6]);
    naa[6..].copy_from_slice(&uuid[14..]);
    naa[0] = 0x30 | naa[0] & 0x0f;
    Identity {
        vendor: *b"LUNETTE ",
        product: padded(product),
        revision: padded(concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"))),
        serial: hex(uuid),
        naa: naa.into_iter().collect(),
        eui64: None,
        t10: None,
        designators: Vec::new(),
    }
}

/// Printable ASCII, cut or padded with spaces (SPC-5 §4.3.1).
pub(super) fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut out = [b' '; N];
    let printable = text.bytes().map(|byte| if (0x20..0x7f).contains(&byte) { byte } else { b'_' });
    for (to, byte) in out.iter_mut().zip(printable) {
        *to = byte;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> Info {
        Info {
            name: "disk0".to_owned(),
            blocks: 8,
            block_bytes: 512,
            physical_block_bytes: 4096,
            read_only: false,
            write_cache: true,
            rotational: false,
            uuid: [
                0xf8, 0x1d, 0x4f, 0xae, 0x7d, 0xec, 0x41, 0xd0, 0xa7, 0x65, 0x00, 0xa0, 0xc9, 0x1e, 0x6b,
                0xf6,
            ],
            unmap: None,
            offloads: crate::bdev::Offloads::default(),
            protection: None,
            passes: None,
        }
    }

    #[test]
    fn who_a_unit_is_comes_from_its_uuid() {
        let identity = identity(&info(), "RAM disk");
        assert_eq!(identity.naa.as_slice(), [0x38, 0x1d, 0x4f, 0xae, 0x7d, 0xec, 0x6b, 0xf6]);
        assert_eq!(identity.serial, "f81d4fae7dec41d0a76500a0c91e6bf6");
        assert_eq!(&identity.vendor, b"LUNETTE ");
        assert_eq!(&identity.product, b"RAM disk        ");
        assert_eq!(identity.revision.len(), 4);
    }

    #[test]
    fn text_is_cut_padded_and_printable() {
        assert_eq!(&padded::<4>("a\u{e9}bcdef"), b"a__b");
        assert_eq!(&padded::<4>(""), b"    ");
    }

    #[test]
    fn devices_that_scsi_cannot_show_are_refused() {
        assert_eq!(check(&info()), Ok(()));
        for unfit in [
            Info { block_bytes: 256, ..info() },
            Info { block_bytes: 520, ..info() },
            Info { block_bytes: 8192, physical_block_bytes: 8192, ..info() },
            Info { physical_block_bytes: 0, ..info() },
            Info { block_bytes: 4096, physical_block_bytes: 512, ..info() },
        ] {
            assert!(check(&unfit).is_err(), "{unfit:?}");
        }
    }
}
