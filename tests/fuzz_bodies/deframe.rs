//! Raw bytes into a connection in full feature phase, in chunks of any size, with and without digests.

use lunette::iscsi::negotiate::DEFAULTS;
use lunette::iscsi::params::Params;
use lunette::limits::PIECE_BYTES_MAX;

use super::source::Source;
use super::world;

pub(super) fn one(data: &[u8]) {
    let mut source = Source::new(data);
    let shape = source.byte();
    let params = Params {
        header_digest: shape & 1 != 0,
        data_digest: shape & 2 != 0,
        initial_r2t: shape & 4 != 0,
        immediate_data: shape & 8 != 0,
        send_segment_bytes_max: 512,
        recv_segment_bytes_max: if shape & 16 == 0 { PIECE_BYTES_MAX } else { 512 },
        ..DEFAULTS
    };
    let recv_bytes_max = source.pick(&[1, 47, 48, 49, 4096, usize::MAX, 3, 512]);
    let room = source.pick(&[usize::MAX, 0, 1, 47, 49, 1000, usize::MAX, usize::MAX]);
    let leftover = usize::from(source.byte());
    let leftover = source.take(leftover);
    let rest = source.rest();
    world::with(|world| {
        let wire = world.adopt(params, leftover, false);
        world.wire(wire, |wire| {
            wire.recv_bytes_max = recv_bytes_max;
            wire.set_room(room);
            wire.push(rest);
        });
        world.settle(64 + data.len());
    });
}
