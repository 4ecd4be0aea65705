//! Sessions with several connections (RFC 7143 §4.2.2.1, §4.2.5, §6.3.4, §11.14): order, allegiance, logout, replacement, loss.

use lunette::bdev::error::{Fault, Kind};
use lunette::iscsi::negotiate::Offer as Limits;
use lunette_initiator::config::Params;
use lunette_initiator::pdu::request::{LogoutRequest, NopOut, ScsiCommand};
use lunette_initiator::pdu::response::{DataIn, LogoutResponse, Response, ScsiResponse};
use lunette_initiator::pdu::{Digests, NO_TAG, Pdu};
use lunette_initiator::scsi::{Sense, cdb, status};
use lunette_initiator::socket::{SocketError, Wire};
use lunette_initiator::{Config, Offer};

use crate::harness::{Setup, World, config, pattern};

/// A session of up to four connections, of which this is the first, CID 1; its unit attention is taken.
pub(crate) struct Session {
    pub(crate) config: Config,
    pub(crate) tsih: u16,
    /// CmdSN of the next command.
    pub(crate) cmd_sn: u32,
    pub(crate) first: Wire,
    pub(crate) first_params: Params,
}

pub(crate) fn setup() -> Setup {
    Setup { offer: Limits { connections_max: 4, ..Limits::DEFAULT }, ..Setup::default() }
}

impl Session {
    pub(crate) fn begin(world: &World, offer: Offer) -> Session {
        Session::begin_as(world, "a", offer)
    }

    /// The same under this initiator's name.
    pub(crate) fn begin_as(world: &World, name: &str, offer: Offer) -> Session {
        let config = Config { cid: 1, offer: Offer { max_connections: Some(4), ..offer }, ..config(name) };
        let (first, outcome) = world.wire(&config);
        let (tsih, cmd_sn) = (outcome.params.tsih, outcome.exp_cmd_sn.0);
        let mut session = Session { config, tsih, cmd_sn, first, first_params: outcome.params };
        // A tag that the tests do not use: at error recovery levels above 0 it is in use until it is acknowledged.
        let command = session.command(0xb001, &ready());
        session.first.send(&command).unwrap();
        assert_eq!(sense(&mut session.first, 0xb001), (0x6, 0x29, 0x00));
        session
    }

    /// One connection more.
    pub(crate) fn join(&self, world: &World, cid: u16) -> Wire {
        world.wire(&self.config.joining(self.tsih, cid)).0
    }

    /// The command with the next CmdSN, and nothing sent.
    pub(crate) fn command(&mut self, itt: u32, command: &ScsiCommand) -> Pdu {
        self.cmd_sn += 1;
        ScsiCommand { itt, cmd_sn: self.cmd_sn - 1, final_bit: true, attributes: 1, ..*command }.with([])
    }

    /// WRITE (10) of a pattern, its data with it.
    pub(crate) fn write(&mut self, itt: u32, seed: u32, lba: u32, blocks: u16) -> Pdu {
        let command = ScsiCommand {
            write: true,
            expected_bytes: u32::from(blocks) * 512,
            cdb: cdb::write_10(lba, blocks, cdb::Flags::default()),
            ..ScsiCommand::default()
        };
        let header = self.command(itt, &command);
        Pdu::new(header.bhs, pattern(seed, lba.into(), blocks.into(), 512))
    }

    /// READ (10).
    pub(crate) fn read(&mut self, itt: u32, lba: u32, blocks: u16) -> Pdu {
        let command = ScsiCommand {
            read: true,
            expected_bytes: u32::from(blocks) * 512,
            cdb: cdb::read_10(lba, blocks, cdb::Flags::default()),
            ..ScsiCommand::default()
        };
        self.command(itt, &command)
    }
}

/// TEST UNIT READY.
pub(crate) fn ready() -> ScsiCommand {
    ScsiCommand { cdb: cdb::test_unit_ready(), ..ScsiCommand::default() }
}

pub(crate) fn next(wire: &mut Wire) -> (Response, Vec<u8>) {
    let pdu = wire.receive().unwrap().expect("a PDU");
    (Response::decode(&pdu.bhs), pdu.data)
}

/// The next PDU is the answer to this command; its status.
pub(crate) fn ends(wire: &mut Wire, itt: u32) -> u8 {
    match next(wire) {
        (Response::Scsi(ScsiResponse { itt: found, status, .. }), _) if found == itt => status,
        other => panic!("no response to {itt}: {other:?}"),
    }
}

/// The next PDU ends this command with CHECK CONDITION: why.
pub(crate) fn sense(wire: &mut Wire, itt: u32) -> (u8, u8, u8) {
    let (Response::Scsi(response), data) = next(wire) else { panic!("no response") };
    assert_eq!((response.itt, response.status), (itt, status::CHECK_CONDITION));
    let sense = Sense::decode(&data[2..]).unwrap();
    (sense.key, sense.asc.0, sense.asc.1)
}

/// What a READ of one PDU brings.
pub(crate) fn data(wire: &mut Wire, itt: u32) -> Vec<u8> {
    match next(wire) {
        (Response::DataIn(DataIn { itt: found, has_status: true, status: 0, .. }), data) if found == itt => {
            data
        }
        other => panic!("no data of {itt}: {other:?}"),
    }
}

/// NOP-Outs that want an answer, and only their answers: whatever the target had to say has been said before. What waits for a device
/// is answered at the end of a turn, behind an echo of the same; the second is asked for in another turn.
pub(crate) fn is_quiet(wire: &mut Wire, cmd_sn: u32) -> bool {
    [0x0ddb_a11e, 0x0ddb_a11f].into_iter().all(|itt| {
        let nop = NopOut { immediate: true, itt, ttt: NO_TAG, cmd_sn, ..NopOut::default() };
        wire.send(&nop.with([])).unwrap();
        matches!(next(wire), (Response::NopIn(nop), _) if nop.itt == itt)
    })
}

fn logout(reason: u8, cid: u16, cmd_sn: u32) -> Pdu {
    LogoutRequest { immediate: true, reason, itt: 77, cid, cmd_sn, ..LogoutRequest::default() }.with([])
}

/// The next PDU answers that.
fn logged_out(wire: &mut Wire) -> u8 {
    let (Response::Logout(LogoutResponse { itt: 77, response, .. }), _) = next(wire) else { panic!() };
    response
}

#[test]
fn commands_run_in_the_order_of_their_numbers_and_are_answered_where_they_came() {
    let world = World::start(setup());
    let mut session = Session::begin(&world, Offer::usual());
    let mut second = session.join(&world, 2);
    let mut third = session.join(&world, 3);
    let [one, two, three] = [1, 2, 3].map(|n| session.write(10 + n, n, 0, 8));
    second.send(&three).unwrap();
    assert!(is_quiet(&mut second, session.cmd_sn), "two commands before it have not come");
    third.send(&two).unwrap();
    assert!(is_quiet(&mut third, session.cmd_sn));
    session.first.send(&one).unwrap();
    assert_eq!(ends(&mut session.first, 11), 0);
    assert_eq!(ends(&mut third, 12), 0);
    assert_eq!(ends(&mut second, 13), 0);
    let read = session.read(14, 0, 8);
    third.send(&read).unwrap();
    assert!(data(&mut third, 14) == pattern(3, 0, 8, 512), "the last of them came last");
    assert!(is_quiet(&mut session.first, session.cmd_sn));
}

#[test]
fn an_ordered_command_waits_for_those_of_other_connections() {
    let world = World::start(setup());
    let mut session = Session::begin(&world, Offer::usual());
    let mut second = session.join(&world, 2);
    let rule = world.disks[0].order(Kind::Write, Fault::Hold, 1);
    let slow = session.write(1, 1, 0, 8);
    let mut ordered = session.read(2, 0, 8);
    ordered.bhs.0[1] = ordered.bhs.0[1] & !7 | 2;
    let later = session.read(3, 8, 8);
    // They come the other way round.
    second.send(&later).unwrap();
    second.send(&ordered).unwrap();
    assert!(is_quiet(&mut second, session.cmd_sn));
    session.first.send(&slow).unwrap();
    assert!(is_quiet(&mut session.first, session.cmd_sn));
    assert!(is_quiet(&mut second, session.cmd_sn), "both wait");
    world.disks[0].faults.release(rule);
    assert_eq!(ends(&mut session.first, 1), 0);
    assert!(data(&mut second, 2) == pattern(1, 0, 8, 512));
    assert!(data(&mut second, 3) == [0; 4096]);
}

/// RFC 7143 §4.2.2.1: its header came first, and its data while the command before it was at work.
#[test]
fn an_ordered_command_whose_data_are_late_waits_for_those_of_other_connections() {
    let world = World::start(setup());
    let mut session = Session::begin(&world, Offer::usual());
    let mut second = session.join(&world, 2);
    let rule = world.disks[0].order(Kind::Write, Fault::Hold, 1);
    let slow = session.write(1, 1, 0, 8);
    let mut ordered = session.write(2, 2, 0, 8);
    ordered.bhs.0[1] = ordered.bhs.0[1] & !7 | 2;
    let mut bytes = Vec::new();
    ordered.encode(Digests::default(), &mut bytes);
    let (head, rest) = bytes.split_at(1000);
    second.send_bytes(head).unwrap();
    assert!(is_quiet(&mut session.first, session.cmd_sn), "its header is there");
    session.first.send(&slow).unwrap();
    assert!(is_quiet(&mut session.first, session.cmd_sn), "the device has the first");
    second.send_bytes(rest).unwrap();
    assert!(is_quiet(&mut second, session.cmd_sn), "it waits");
    world.disks[0].faults.release(rule);
    assert_eq!(ends(&mut session.first, 1), 0);
    assert_eq!(ends(&mut second, 2), 0);
    assert!(world.client("b").read(0, 8).unwrap() == pattern(2, 0, 8, 512));
}

#[test]
fn more_connections_than_agreed_on_and_sessions_that_are_not_there() {
    let world = World::start(Setup { offer: Limits { connections_max: 2, ..Limits::DEFAULT }, ..setup() });
    let session = Session::begin(&world, Offer::usual());
    let _second = session.join(&world, 2);
    let refused = |config: Config| match Wire::connect(world.address()).unwrap().login(&config) {
        Err(SocketError::Login(error)) => error.status(),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(session.config.joining(session.tsih, 3)), Some((2, 0x06)));
    assert_eq!(refused(session.config.joining(session.tsih.wrapping_add(1).max(1), 3)), Some((2, 0x0a)));
}

#[test]
fn a_connection_logs_another_one_out() {
    let world = World::start(setup());
    let mut session = Session::begin(&world, Offer::usual());
    let mut second = session.join(&world, 2);
    let rule = world.disks[0].order(Kind::Write, Fault::Hold, 1);
    let write = session.write(5, 1, 0, 8);
    second.send(&write).unwrap();
    assert!(is_quiet(&mut second, session.cmd_sn));
    session.first.send(&logout(1, 9, session.cmd_sn)).unwrap();
    assert_eq!(logged_out(&mut session.first), 1, "no such connection");
    session.first.send(&logout(1, 2, session.cmd_sn)).unwrap();
    assert_eq!(logged_out(&mut session.first), 0);
    assert_eq!(second.receive().unwrap(), None);
    world.disks[0].faults.release(rule);
    let [told, well] = [6, 7].map(|itt| session.command(itt, &ready()));
    session.first.send(&told).unwrap();
    assert_eq!(sense(&mut session.first, 6), (0x6, 0x47, 0x7f), "RFC 7143 §11.14.5");
    session.first.send(&well).unwrap();
    assert_eq!(ends(&mut session.first, 7), 0);
    // There is room for another.
    let mut third = session.join(&world, 2);
    assert!(is_quiet(&mut third, session.cmd_sn));
}

#[test]
fn a_login_with_the_same_cid_replaces_the_connection() {
    let world = World::start(setup());
    let mut session = Session::begin(&world, Offer::usual());
    let mut again = session.join(&world, 1);
    assert_eq!(session.first.receive().unwrap(), None);
    let read = session.read(2, 0, 8);
    again.send(&read).unwrap();
    assert!(data(&mut again, 2) == [0; 4096]);
    world.wait_sessions(1);
}

/// A ghost within a session: what a device has of a connection that is gone lands before what comes after it.
#[test]
fn nothing_overtakes_what_a_device_has_of_a_connection_that_is_gone() {
    let world = World::start(setup());
    let mut session = Session::begin(&world, Offer::usual());
    let mut second = session.join(&world, 2);
    let rule = world.disks[0].order(Kind::Write, Fault::Lose, 1);
    let ghost = session.write(5, 1, 0, 8);
    second.send(&ghost).unwrap();
    assert!(is_quiet(&mut second, session.cmd_sn));
    drop(second);
    world.wait_connections(1);
    let [told, write] = [session.command(6, &ready()), session.write(7, 2, 0, 8)];
    session.first.send(&told).unwrap();
    session.first.send(&write).unwrap();
    assert!(is_quiet(&mut session.first, session.cmd_sn), "both wait for the device");
    world.disks[0].faults.release(rule);
    assert_eq!(sense(&mut session.first, 6), (0x6, 0x47, 0x7f));
    assert_eq!(ends(&mut session.first, 7), 0);
    let read = session.read(8, 0, 8);
    session.first.send(&read).unwrap();
    assert!(data(&mut session.first, 8) == pattern(2, 0, 8, 512));
}

#[test]
fn the_session_is_logged_out_on_one_connection_and_all_close() {
    let world = World::start(setup());
    let mut session = Session::begin(&world, Offer::usual());
    let [mut second, mut third] = [2, 3].map(|cid| session.join(&world, cid));
    second.send(&logout(0, 0, session.cmd_sn)).unwrap();
    assert_eq!(logged_out(&mut second), 0);
    for wire in [&mut session.first, &mut second, &mut third] {
        assert_eq!(wire.receive().unwrap(), None);
    }
    world.wait_sessions(0);
}
