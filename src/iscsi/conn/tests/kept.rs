//! Answers that are kept until they are acknowledged.

use super::{Batch, Cx, Request, World, stream};

/// A NOP-Out of 60 bytes that wants an echo, or a request that nobody knows; it acknowledges what came before `exp_stat_sn`.
fn request(opcode: u8, exp_stat_sn: u8) -> [u8; 48 + 60] {
    let mut pdu = [0; 48 + 60];
    pdu[..2].copy_from_slice(&[0x40 | opcode, 0x80]);
    (pdu[7], pdu[19], pdu[27], pdu[31]) = (60, 1, 1, exp_stat_sn);
    pdu[20..24].fill(0xff);
    pdu
}

/// They counted twice, and one half of it for ever: after 512 KiB a connection had no echo any more.
#[test]
fn bytes_of_kept_answers_count_once_and_until_they_are_acknowledged() {
    let mut world = World::of(true);
    for (opcode, answer, bytes) in [(0x00, 0x20, 60), (0x1e, 0x3f, 48)] {
        let stat_sn = world.conn.tx.stat_sn().0.to_be_bytes()[3];
        assert_eq!(world.receive(&request(opcode, stat_sn)), None);
        assert_eq!(world.conn.tx.control_bytes(), bytes, "it waits");
        let answers = world.send();
        assert_eq!((answers.len(), answers[0][0], answers[0][27]), (1, answer, stat_sn));
        assert_eq!(world.conn.tx.control_bytes(), bytes, "it is kept");
        // A NOP-Out that wants nothing.
        let mut acknowledgement = [0; 48];
        acknowledgement[..2].copy_from_slice(&[0x40, 0x80]);
        acknowledgement[16..24].fill(0xff);
        (acknowledgement[27], acknowledgement[31]) = (1, stat_sn + 1);
        assert_eq!(world.receive(&acknowledgement), None);
        assert_eq!(world.conn.tx.control_bytes(), 0, "it is acknowledged");
    }
    world.conn.close(cx!(world));
    assert_eq!([world.pools[0].in_use_count(), world.pools[1].in_use_count()], [0, 0]);
}

/// A status SNACK brings as much as was kept, and costs its sender nothing.
#[test]
fn echoes_that_are_asked_for_again_and_not_read_are_bounded_in_bytes() {
    let mut world = World::of(true);
    world.conn.params.recv_segment_bytes_max = 262_144;
    world.conn.params.send_segment_bytes_max = 262_144;
    let mut nop = vec![0x5a; 48 + 262_144];
    nop[..48].copy_from_slice(&request(0x00, 100)[..48]);
    (nop[5], nop[7]) = (4, 0);
    for _ in 0..2 {
        assert_eq!(world.receive(&nop), None);
    }
    let mut batch = Batch::new();
    world.conn.fill(&mut batch, &world.tx, &world.session);
    let bytes = stream(&batch, &world.tx).len();
    assert_eq!(bytes, 2 * nop.len());
    assert!(!world.conn.sent(bytes, &batch, cx!(world)));
    // All that was not acknowledged, once more.
    let mut snack = [0; 48];
    (snack[0], snack[1], snack[31]) = (0x10, 0x81, 100);
    snack[16..24].fill(0xff);
    for _ in 0..2 {
        assert_eq!(world.receive(&snack), None);
    }
    assert_eq!(world.conn.unsent_bytes(), 1 << 20);
    // What waits is to be sent first; as that is not possible, it is rejected.
    let mut input = &snack[..];
    assert_eq!(world.conn.advance(&mut input, cx!(world)), Ok(Some(Request::Flush)));
    assert!(!world.conn.is_flooded(), "the session goes on");
    assert_eq!(world.conn.advance(&mut input, cx!(world)), Ok(None));
    assert_eq!(world.conn.unsent_bytes(), (1 << 20) + 48, "a Reject");
}

/// What goes beyond is not sent again, and the connection goes on.
#[test]
fn answers_that_nobody_acknowledges_leave_others_half_of_the_buffers() {
    let mut world = World::of(true);
    let status_snack = |stat_sn: u8, count: u8| {
        let mut snack = [0; 48];
        (snack[0], snack[1], snack[31]) = (0x10, 0x81, 100);
        snack[16..24].fill(0xff);
        (snack[43], snack[47]) = (stat_sn, count);
        snack
    };
    for _ in 0..12 {
        assert_eq!(world.receive(&request(0x00, 100)), None);
        assert_eq!(world.send().len(), 1, "it is answered");
    }
    assert_eq!(world.pools[0].in_use_count(), 3, "of eight");
    assert_eq!(world.conn.tx.control_bytes(), 3 * 60);
    assert_eq!(world.receive(&status_snack(100, 12)), None);
    let again = world.send();
    assert_eq!(
        again.iter().map(|pdu| (pdu[0], pdu[27])).collect::<Vec<_>>(),
        [(0x20, 100), (0x20, 101), (0x20, 102), (0x3f, 112)]
    );
    assert_eq!(again[3][2], 0x03, "SNACK Reject");
    assert_eq!(world.receive(&request(0x00, 113)), None);
    assert_eq!((world.send()[0][27], world.pools[0].in_use_count()), (113, 1), "it is acknowledged");
}
