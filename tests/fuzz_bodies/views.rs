//! The target and the logical unit of every body.

use std::sync::Arc;

use lunette::bdev::Offloads;
use lunette::id::{NexusId, UnitId};
use lunette::scsi::reserve::{InitiatorPort, Nexus, Permits, Request, State};
use lunette::scsi::view::{Identity, LunNumber, Mapping, Modes, TargetView, UnitView};

pub(super) const TARGET: &str = "iqn.2025-01.com.example:disk";
pub(super) const BLOCK_BYTES: u32 = 512;
pub(super) const BLOCKS: u64 = 8192;
pub(super) const UNIT: UnitId = UnitId(0);

pub(super) fn target() -> TargetView {
    let mapping = |number| Mapping { number: LunNumber(number), unit: UNIT, read_only: number == 300 };
    TargetView {
        name: TARGET.to_owned(),
        alias: "a disk".to_owned(),
        relative_port: 1,
        ports: vec![1],
        port_groups: vec![1],
        portal_groups: vec![1],
        histogram: None,
        port_group: 1,
        portal_group: 1,
        lun_map: None,
        portals: vec!["192.0.2.1:3260,1".to_owned(), "[2001:db8::1]:3260,1".to_owned()],
        mappings: [0, 1, 300].map(mapping).into(),
    }
}

pub(super) fn unit() -> UnitView {
    let identity = Identity {
        vendor: *b"LUNETTE ",
        product: *b"RAM disk        ",
        revision: *b"0001",
        serial: "0123456789".to_owned(),
        naa: [0x30, 1, 2, 3, 4, 5, 6, 7].into_iter().collect(),
        eui64: None,
        t10: None,
    };
    UnitView {
        physical_block_bytes: 4096,
        write_cache: true,
        modes: Modes::new(true),
        offloads: Offloads { compare_and_write_blocks: 8, verify: true, ..Offloads::default() },
        ..UnitView::new(UNIT, BLOCKS, BLOCK_BYTES, identity)
    }
}

/// What is permitted while somebody else has the unit by RESERVE.
pub(super) fn reserved() -> Permits {
    let from = Nexus {
        id: NexusId(2),
        initiator: InitiatorPort::new("iqn.2026-11.io.example:b", [0; 6]),
        target_port: 1,
    };
    let effect = State::default().out(&Request::LegacyReserve, &from, &[]).unwrap();
    Permits::new(Arc::new(effect.next.unwrap()))
}
