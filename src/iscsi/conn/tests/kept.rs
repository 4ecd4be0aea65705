//! Answers that are kept until they are acknowledged.

use super::{Cx, World};

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
