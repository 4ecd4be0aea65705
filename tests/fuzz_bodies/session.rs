//! Operations on sessions: commands, data with right and wrong fields, task management, logout, resets, faults of the
//! disk, barriers and time, in any order.

mod peer;

use lunette::bdev::Unmap;
use lunette::iscsi::negotiate::DEFAULTS;
use lunette::iscsi::params::Params;
use lunette::limits::PIECE_BYTES_MAX;
use lunette::scsi::attention::Ua;
use lunette::scsi::reserve::Permits;
use lunette::scsi::view::{Medium, Modes, UnitView};
use lunette::time::MS_NS;

use super::source::Source;
use super::views;
use super::world::{self, World};
use peer::Peer;

/// Sessions of one execution; and steps.
const PEERS_MAX: usize = 3;
const STEPS_MAX: usize = 150;

pub(super) fn one(data: &[u8]) {
    let mut source = Source::new(data);
    world::with(|world| {
        let mut peers = vec![login(world, &mut source)];
        let mut at = 0;
        for _ in 0..STEPS_MAX {
            if source.is_empty() {
                break;
            }
            step(world, &mut peers, &mut at, &mut source);
            world.settle(16);
            for peer in &mut peers {
                peer.listen(world);
            }
        }
    });
}

fn login(world: &mut World, source: &mut Source<'_>) -> Peer {
    let shape = source.byte();
    let max_burst_bytes = source.pick(&[65_536, 512, 4096, 1 << 20]);
    let params = Params {
        header_digest: shape & 1 != 0,
        data_digest: shape & 2 != 0,
        initial_r2t: shape & 4 != 0,
        immediate_data: shape & 8 != 0,
        max_burst_bytes,
        first_burst_bytes: source.pick(&[512, 4096, 65_536, PIECE_BYTES_MAX]).min(max_burst_bytes),
        send_segment_bytes_max: source.pick(&[512, 8192, 262_144]),
        recv_segment_bytes_max: if shape & 16 == 0 { PIECE_BYTES_MAX } else { 8192 },
        outstanding_r2t_max: source.pick(&[1, 2, 8, 65_535]),
        ..DEFAULTS
    };
    let wire = world.adopt(params, &[], shape & 32 != 0);
    Peer::new(wire, params)
}

fn step(world: &mut World, peers: &mut Vec<Peer>, at: &mut usize, source: &mut Source<'_>) {
    let index = *at % peers.len();
    let peer = &mut peers[index];
    match source.below(32) {
        0..=3 => peer.read(world, source),
        4..=7 => peer.write(world, source),
        8 | 9 => peer.work(world, source),
        10..=14 => peer.data_out(world, source),
        15 => peer.nop(world, source),
        16 => peer.text(world, source),
        17 | 18 => peer.task_management(world, source),
        19 => peer.other_cdb(world, source),
        20 => peer.anything(world, source),
        21 if source.once_in(4) => peer.logout(world, source),
        22 => arm(world, source),
        23 => world.faults.release(world.rules.hold),
        24 => {
            let ns = source.pick(&[1, MS_NS, 150 * MS_NS, 2100 * MS_NS, 6000 * MS_NS, 31_000 * MS_NS]);
            world.sleep(ns);
        }
        25 => {
            let room = source.pick(&[0, 1, 47, 100, 5000, usize::MAX]);
            world.wire(peer.wire, |wire| wire.set_room(room));
        }
        26 => {
            let bytes = source.pick(&[1, 48, 50, 4096, usize::MAX, usize::MAX]);
            world.wire(peer.wire, |wire| wire.recv_bytes_max = bytes);
        }
        27 if source.once_in(8) => {
            let is_reset = source.once_in(2);
            world.wire(peer.wire, |wire| wire.end(is_reset));
        }
        28 if source.once_in(3) => reserve(world, source),
        28 => change(world, source),
        29 if peers.len() < PEERS_MAX => {
            let peer = login(world, source);
            *at = peers.len();
            peers.push(peer);
        }
        30 => *at = source.below(PEERS_MAX),
        31 if source.once_in(8) => world.end_session(),
        _ => {}
    }
}

fn arm(world: &World, source: &mut Source<'_>) {
    let rule = source.pick(&[world.rules.hold, world.rules.hold, world.rules.fail, world.rules.full]);
    world.faults.arm(rule, u32::from(source.byte() % 8));
}

fn change(world: &mut World, source: &mut Source<'_>) {
    let view = UnitView {
        blocks: source.pick(&[views::BLOCKS, views::BLOCKS, 100]),
        read_only: source.once_in(4),
        medium: source.pick(&[Medium::Ready, Medium::Ready, Medium::NotReady, Medium::Removed]),
        unmap: source
            .pick(&[None, Some(Unmap { granularity_blocks: 1, reads_zeroes: true, anchors: false })]),
        modes: Modes { descriptor_sense: source.once_in(2), ..Modes::new(!source.once_in(4)) },
        ..views::unit()
    };
    let attention = source.pick(&[None, Some(Ua::CapacityChanged), Some(Ua::LunsChanged)]);
    world.show(view, attention, source.once_in(2));
}

/// Somebody else reserves the unit or frees it, with or without an end to what the peers have at work.
fn reserve(world: &mut World, source: &mut Source<'_>) {
    let permits = if source.once_in(2) { views::reserved() } else { Permits::default() };
    let view = UnitView { permits, ..views::unit() };
    let attention = source.pick(&[None, Some(Ua::RegistrationsPreempted)]);
    world.reserve(view, attention, source.once_in(2));
}
