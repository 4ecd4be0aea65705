//! A connection alone, with the reactor's part played by the test: what cannot be seen from outside at will.

use std::sync::Arc;

use super::{Conn, ConnSetup, Cx, Request, Solicit};
use crate::buf::{Class, Pool};
use crate::id::{NexusId, ReactorId, SessionId, UnitId};
use crate::iscsi::error::Fatal;
use crate::iscsi::negotiate::DEFAULTS;
use crate::iscsi::params::Params;
use crate::iscsi::session::{Session, SessionSetup};
use crate::iscsi::sn::Sn;
use crate::iscsi::task::{Outcome, Tasks};
use crate::iscsi::tx::{Batch, Queued, Slices};
use crate::limits::{DATA_OUT_NS, WINDOW_MIN};
use crate::scsi::attention::Ua;
use crate::scsi::view::{Identity, LunNumber, Mapping, TargetView, UnitView};
use crate::slab::{Key, Slab};
use crate::time::Tick;

struct World {
    conn: Conn,
    session: Session,
    tasks: Tasks,
    tx: Slab<Queued>,
    pools: [Pool; 2],
    units: [Option<Arc<UnitView>>; 1],
    spare_window: u32,
    now: Tick,
}

macro_rules! cx {
    ($world:expr) => {
        &mut Cx {
            now: $world.now,
            session: &mut $world.session,
            tasks: &mut $world.tasks,
            tx: &mut $world.tx,
            unsolicited: &$world.pools[0],
            solicited: &$world.pools[1],
            units: &$world.units,
            spare_window: &mut $world.spare_window,
        }
    };
}

mod forgotten;
mod kept;
mod resent;
mod solicited;
mod told;

fn stream(batch: &Batch, tx: &Slab<Queued>) -> Vec<u8> {
    let mut slices = Slices::new();
    batch.slices(tx, &mut slices);
    slices.iter().flat_map(|slice| slice.iter().copied()).collect()
}

impl World {
    /// A session with a target whose LUN 0 is a disk of 64 blocks.
    fn new() -> World {
        World::of(false)
    }

    /// The same, at error recovery level 1 where answers are kept until they are acknowledged (`retains`).
    fn of(retains: bool) -> World {
        let mapping = Mapping { number: LunNumber(0), unit: UnitId(0), read_only: false };
        let target = TargetView {
            name: "iqn.2026-11.io.example:t".to_owned(),
            alias: String::new(),
            relative_port: 1,
            ports: vec![1],
            port_groups: vec![1],
            portal_groups: vec![1],
            histogram: None,
            port_group: 1,
            portal_group: 1,
            lun_map: None,
            portals: vec!["192.0.2.1:3260,1".to_owned()],
            mappings: vec![mapping],
        };
        let identity = Identity {
            vendor: *b"EXAMPLE ",
            product: *b"DISK            ",
            revision: *b"1   ",
            serial: "1".to_owned(),
            naa: [0x30; 8].into_iter().collect(),
            eui64: None,
            t10: None,
            designators: Vec::new(),
        };
        let unit = UnitView::new(UnitId(0), 64, 512, identity);
        let setup = ConnSetup {
            key: Key { index: 0, generation: 0 },
            session_key: Key { index: 0, generation: 0 },
            session: SessionId(1),
            nexus: NexusId(1),
            params: Params { error_recovery_level: u8::from(retains), ..DEFAULTS },
            stat_sn: Sn(100),
            cid: 0,
            retains,
            ask_ns: 0,
            close_ns: 0,
        };
        let session = SessionSetup {
            reactor: ReactorId(0),
            id: SessionId(1),
            nexus: NexusId(1),
            target: Arc::new(target),
            exp_cmd_sn: Sn(1),
            attention: Ua::PowerOn,
            owed: Vec::new(),
            is_gated: false,
            meter: Arc::default(),
            stages: Arc::default(),
            pace: None,
        };
        let classes = [
            Class { bytes: 4096, count: 8 },
            Class { bytes: 16384, count: 2 },
            Class { bytes: 262_144, count: 8 },
        ];
        World {
            conn: Conn::new(setup, Tick::ZERO),
            session: Session::new(session),
            tasks: Tasks::new(64),
            tx: Slab::new(64),
            pools: [(); 2].map(|()| Pool::ordinary(&classes).unwrap()),
            units: [Some(Arc::new(unit))],
            spare_window: 0,
            now: Tick::ZERO,
        }
    }

    /// What a PDU that came asks of the reactor.
    fn receive(&mut self, mut pdu: &[u8]) -> Option<Request> {
        let request = self.conn.advance(&mut pdu, cx!(self)).unwrap();
        assert!(pdu.is_empty());
        request
    }

    fn command(&mut self, pdu: &[u8]) -> Key {
        match self.receive(pdu) {
            Some(Request::Run(key)) => key,
            other => panic!("a command is to be run, not {other:?}"),
        }
    }

    fn end(&mut self, key: Key) {
        self.conn.decide(key, Outcome::GOOD, cx!(self));
        assert!(self.conn.settle(key, cx!(self)));
    }

    /// Everything that waits, taken by the socket: the PDUs, none of which has a data segment longer than 64 bytes.
    fn send(&mut self) -> Vec<Vec<u8>> {
        let mut batch = Batch::new();
        self.conn.fill(&mut batch, &self.tx, &self.session);
        let stream = stream(&batch, &self.tx);
        assert!(!self.conn.sent(stream.len(), &batch, cx!(self)));
        assert!(!self.conn.has_output());
        let mut rest = stream.as_slice();
        let mut pdus = Vec::new();
        while !rest.is_empty() {
            let (pdu, behind) = rest.split_at(48 + usize::from(rest[7]).next_multiple_of(4));
            pdus.push(pdu.to_vec());
            rest = behind;
        }
        pdus
    }
}

/// A SCSI Command: flags, ITT and CmdSN, expected length, CDB.
fn scsi(flags: u8, number: u8, expected_bytes: u16, cdb: &[u8]) -> [u8; 48] {
    let mut pdu = [0; 48];
    pdu[0] = 0x01;
    pdu[1] = flags;
    pdu[19] = number;
    pdu[22..24].copy_from_slice(&expected_bytes.to_be_bytes());
    pdu[27] = number;
    pdu[32..32 + cdb.len()].copy_from_slice(cdb);
    pdu
}

fn test_unit_ready(number: u8) -> [u8; 48] {
    scsi(0x80, number, 0, &[0; 6])
}

#[test]
fn answers_that_nobody_reads_keep_the_window_shut() {
    const _: () = assert!(WINDOW_MIN == 8);
    let mut world = World::new();
    for number in 1..=8 {
        let key = world.command(&test_unit_ready(number));
        world.end(key);
    }
    assert_eq!(world.receive(&test_unit_ready(9)), None, "eight answers wait: the window is full");
    assert_eq!(world.tasks.len(), 0);
    let max_cmd_sns: Vec<u8> = world.send().iter().map(|pdu| pdu[35]).collect();
    assert_eq!(max_cmd_sns, [9, 10, 11, 12, 13, 14, 15, 16], "each answer makes room for one command");
    let key = world.command(&test_unit_ready(9));
    world.end(key);
    assert_eq!(world.send()[0][28..36], [0, 0, 0, 10, 0, 0, 0, 17]);
}

#[test]
fn data_owed_for_an_aborted_write_do_not_end_the_connection() {
    let mut world = World::new();
    let write = world.command(&scsi(0xa0, 1, 4096, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 8, 0]));
    assert_eq!(world.conn.solicit(write, cx!(world)), Solicit::NeedsBuffer(4096));
    let buf = world.pools[1].take(4096).unwrap();
    world.conn.give_buffer(write, buf, cx!(world));
    assert_eq!(world.conn.solicit(write, cx!(world)), Solicit::Asked);
    let r2t = world.send().remove(0);
    assert_eq!((r2t[0], &r2t[40..48]), (0x31, &[0, 0, 0, 0, 0, 0, 0x10, 0][..]));
    assert_eq!((r2t.len(), &r2t[4..8]), (48, &[0; 4][..]), "RFC 7143 §11.8.1: it has no data");
    assert_eq!(world.conn.deadline(&*cx!(world)), Some(Tick::from_ns(DATA_OUT_NS)));

    world.conn.abort(write, false, cx!(world));
    assert_eq!(world.pools[1].in_use_count(), 0);
    world.now = Tick::from_ns(2 * DATA_OUT_NS);
    assert_eq!(world.conn.deadline(&*cx!(world)), None);
    assert_eq!(world.conn.expired(cx!(world)), Ok::<(), Fatal>(()));

    // The answer to ABORT TASK retires it; what was on its way all the same is dropped.
    world.conn.retire(write, cx!(world));
    assert_eq!(world.tasks.len(), 0);
    let mut data = [0; 48 + 4096];
    data[..2].copy_from_slice(&[0x05, 0x80]);
    data[5..8].copy_from_slice(&[0, 0x10, 0]);
    data[16..24].copy_from_slice(&r2t[16..24]);
    assert_eq!(world.receive(&data), None);
    assert!(!world.conn.has_output());
}

#[test]
fn a_report_that_the_initiator_takes_no_data_of_moves_none() {
    let mut world = World::new();
    // INQUIRY with neither R nor W.
    let inquiry = world.command(&scsi(0x80, 1, 96, &[0x12, 0, 0, 0, 96, 0]));
    let mut data = world.pools[1].take(36).unwrap();
    data.fill(0);
    world.conn.report(inquiry, data, cx!(world));
    let pdus = world.send();
    assert_eq!(pdus.len(), 1);
    // A response with U set, GOOD, residual 96.
    assert_eq!((&pdus[0][..4], &pdus[0][44..48]), (&[0x21, 0x82, 0, 0][..], &[0, 0, 0, 96][..]));
}

#[test]
fn a_text_exchange_goes_on_until_the_initiator_says_it_is_over() {
    let mut world = World::new();
    let mut request = [0; 48];
    request[0] = 0x44;
    request[19] = 1;
    request[20..24].fill(0xff);
    request[27] = 1;
    assert_eq!(world.receive(&request), None);
    let first = world.send().remove(0);
    // Not final, with a tag to go on with.
    assert_eq!((&first[..2], &first[20..24]), (&[0x24, 0][..], &[0, 0, 0, 1][..]));
    request[1] = 0x80;
    request[20..24].copy_from_slice(&[0, 0, 0, 1]);
    assert_eq!(world.receive(&request), None);
    let last = world.send().remove(0);
    assert_eq!((&last[..2], &last[20..24]), (&[0x24, 0x80][..], &[0xff; 4][..]));
    // The tag is spent.
    assert_eq!(world.receive(&request), None);
    assert_eq!(world.send()[0][..3], [0x3f, 0x80, 0x04]);
}

#[test]
fn echoes_that_nobody_reads_are_bounded_in_bytes() {
    let mut world = World::new();
    world.conn.params.recv_segment_bytes_max = 262_144;
    world.conn.params.send_segment_bytes_max = 262_144;
    // An immediate NOP-Out with 256 KiB.
    let mut nop = vec![0x5a; 48 + 262_144];
    nop[..48].fill(0);
    nop[..8].copy_from_slice(&[0x40, 0x80, 0, 0, 0, 4, 0, 0]);
    nop[20..24].fill(0xff);
    nop[27] = 1;
    for number in 1..=2 {
        nop[19] = number;
        assert_eq!(world.receive(&nop), None);
    }
    // For one more what waits is to be sent first; as that is not possible, its data are dropped.
    nop[19] = 3;
    let mut input = nop.as_slice();
    assert_eq!(world.conn.advance(&mut input, cx!(world)), Ok(Some(Request::Flush)));
    assert!(!world.conn.is_flooded(), "the session goes on");
    assert_eq!(world.conn.advance(&mut input, cx!(world)), Ok(None));
    assert!(input.is_empty());
    assert_eq!(world.pools[0].in_use_count(), 2);
    let mut batch = Batch::new();
    world.conn.fill(&mut batch, &world.tx, &world.session);
    let stream = stream(&batch, &world.tx);
    assert_eq!(stream.len(), 2 * nop.len() + 48 + 48);
    // NOP-In twice, and a Reject for too many immediate requests.
    let opcodes = [0, nop.len(), 2 * nop.len()].map(|at| (stream[at], stream[at + 2]));
    assert_eq!(opcodes, [(0x20, 0), (0x20, 0), (0x3f, 0x06)]);
    assert!(!world.conn.sent(stream.len(), &batch, cx!(world)));
    nop[19] = 4;
    assert_eq!(world.receive(&nop), None, "there is room again");
    assert!(world.conn.has_output());
}

#[test]
fn the_beginning_of_a_command_is_cut_and_nothing_else() {
    let mut world = World::new();
    let write = |bytes: u32| {
        let mut pdu = [0; 48];
        (pdu[0], pdu[1]) = (0x01, 0xa1);
        pdu[5..8].copy_from_slice(&bytes.to_be_bytes()[1..]);
        [pdu.as_slice(), &vec![7; bytes as usize]].concat()
    };
    let pdu = write(510);
    for bytes in [1, 47, 48, 557, 559] {
        assert!(world.conn.is_cut(&[pdu.as_slice(), &[0; 2]].concat()[..bytes]), "{bytes} bytes");
    }
    assert!(!world.conn.is_cut(&[]));
    // With its two bytes of padding it is whole.
    assert!(!world.conn.is_cut(&[pdu.as_slice(), &[0; 2]].concat()));
    // More than is worth it: 48 and 16336 bytes are 16 KiB.
    assert!(world.conn.is_cut(&write(16336)[..16383]));
    assert!(!world.conn.is_cut(&write(16337)[..16383]));
    // A Data-Out has a place where it goes.
    let mut data_out = write(510);
    data_out[0] = 0x05;
    assert!(!world.conn.is_cut(&data_out[..500]));
    // Digests make it longer.
    (world.conn.params.header_digest, world.conn.params.data_digest) = (true, true);
    let whole = [pdu.as_slice(), &[0; 10]].concat();
    assert!(world.conn.is_cut(&whole[..567]));
    assert!(!world.conn.is_cut(&whole));
    // The rest of what has begun is wanted at once.
    (world.conn.params.header_digest, world.conn.params.data_digest) = (false, false);
    assert_eq!(world.receive(&pdu[..20]), None);
    assert!(!world.conn.is_cut(&pdu[20..100]));
}

/// WRITE (10) of a block to LBA 0 whose data come with it.
fn write_a_block(number: u8) -> [u8; 48 + 512] {
    let mut pdu = [7; 48 + 512];
    pdu[..48].copy_from_slice(&scsi(0xa0, number, 512, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0]));
    (pdu[1], pdu[6]) = (0xa0, 2);
    pdu
}

#[test]
fn a_command_that_is_aborted_while_it_comes_leaves_no_hole_and_does_not_come_back() {
    for is_final in [true, false] {
        let mut world = World::new();
        let mut write = write_a_block(1);
        // Not final: Data-Out PDUs are to follow, so that it stays until they have come.
        write[1] = if is_final { 0xa0 } else { 0x20 };
        assert_eq!(world.receive(&write[..300]), None);
        let key = world.tasks.find(&world.session.tasks, |_| true).unwrap();
        world.conn.abort(key, false, cx!(world));
        let waits = world.receive(&write[300..]);
        assert_eq!(waits, None);
        let next = world.command(&test_unit_ready(2));
        world.end(next);
        assert_eq!(world.send().len(), 1, "no answer to what was aborted");
        let keeps_its_place_until_its_data_have_come = !is_final;
        assert_eq!(world.session.window.unanswered() > 0, keeps_its_place_until_its_data_have_come);
    }
}

/// Its CmdSN is not its own.
#[test]
fn an_immediate_command_that_is_aborted_while_it_comes_takes_no_place() {
    let mut world = World::new();
    let mut write = write_a_block(1);
    write[0] |= 0x40;
    assert_eq!(world.receive(&write[..300]), None);
    let key = world.tasks.find(&world.session.tasks, |_| true).unwrap();
    world.conn.abort(key, false, cx!(world));
    assert_eq!(world.receive(&write[300..]), None);
    assert_eq!((world.tasks.len(), world.session.window.unanswered()), (0, 0));
    assert_eq!(world.conn.immediate_count, 0);
    let next = world.command(&test_unit_ready(1));
    world.end(next);
    assert_eq!(world.send()[0][28..36], [0, 0, 0, 2, 0, 0, 0, 9], "the window is as wide as it was");
}

#[test]
fn what_a_closed_connection_had_not_sent_keeps_no_place_in_the_window() {
    // Nothing sent, and a PDU half sent.
    for sent in [0, 20] {
        let mut world = World::new();
        for number in 1..=2 {
            let key = world.command(&test_unit_ready(number));
            world.end(key);
        }
        if sent > 0 {
            let mut batch = Batch::new();
            world.conn.fill(&mut batch, &world.tx, &world.session);
            assert!(!world.conn.sent(sent, &batch, cx!(world)));
        }
        world.conn.close(cx!(world));
        assert_eq!(world.session.window.unanswered(), 0, "{sent} bytes were sent");
    }
}

#[test]
fn what_comes_with_the_cmd_sn_of_a_command_that_is_still_coming_is_ignored() {
    let mut world = World::new();
    let write = write_a_block(1);
    assert_eq!(world.receive(&write[..300]), None);
    // Another connection brings it, as that of a command, of a NOP-Out, and in an ABORT TASK of another tag.
    assert!([0, 1].into_iter().all(|index| world.session.enter(Key { index, generation: 0 })));
    let ignored = world.session.is_arriving(Sn(1), &world.tasks);
    assert!(ignored && !world.session.take_cmd_sn(false, Sn(1), &world.tasks));
    assert_eq!(world.session.next_due(&mut world.tasks), None);
    world.command(&write[300..]);
    assert!(!world.session.is_arriving(Sn(1), &world.tasks));
}
