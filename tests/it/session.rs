//! A session's life: reinstatement, lost connections, logout, keep-alive, drain; what is rejected, and what an
//! initiator is told of changes.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use lunette::bdev::error::{Fault, Kind};
use lunette::control::done::Done;
use lunette::reactor::message::NopInTimes;
use lunette::scsi::view::LunNumber;
use lunette_initiator::pdu::request::{LoginRequest, LogoutRequest, NopOut, ScsiCommand, Snack};
use lunette_initiator::pdu::response::{Async, LogoutResponse, NopIn, Reject, Response, ScsiResponse};
use lunette_initiator::pdu::{Bhs, Flaw, NO_TAG, Pdu};
use lunette_initiator::scsi::{cdb, decode_luns};
use lunette_initiator::session::Event;
use lunette_initiator::socket::{SocketError, Wire};
use lunette_initiator::{Client, Command, Config, Data, Offer, lun};

use crate::harness::{
    SOON, Setup, TARGET, World, config, disk, pattern, read, sense, spec, test_unit_ready, until, write,
};

const MS_NS: u64 = 1_000_000;

#[test]
fn a_second_login_of_a_nexus_ends_the_first_session() {
    let world = World::start(Setup { reactors: 2, ..Setup::default() });
    let mut old = world.client("a");
    let mut new = Client::connect(world.address(), config("a")).unwrap();
    old.wait_closed(SOON).unwrap();
    assert_eq!(sense(&new.run(test_unit_ready(0)).unwrap()), (0x6, 0x29, 0x07));
    assert!(new.run(test_unit_ready(0)).unwrap().is_good());
    // Another ISID is another nexus: both live on.
    let mut beside = world.login(Config { isid: [0x80, 0, 0, 0, 0, 9], ..config("a") });
    new.ping(b"").unwrap();
    beside.ping(b"").unwrap();
}

/// A ghost: a WRITE of the old session that a slow device performs after the new one has written.
#[test]
fn nothing_of_a_new_session_overtakes_what_a_device_has_of_the_old() {
    let world = World::start(Setup { reactors: 2, ..Setup::default() });
    let mut old = world.client("a");
    let rule = world.disks[0].order(Kind::Write, Fault::Lose, 1);
    old.session().command(write(1, 0, 8)).unwrap();
    old.ping(b"").unwrap();
    assert_eq!(world.disks[0].faults.left(rule), 0);
    // Login does not wait for the device; commands do.
    let mut new = Client::connect(world.address(), config("a")).unwrap();
    old.wait_closed(SOON).unwrap();
    let first = new.session().command(read(0, 8)).unwrap();
    let second = new.session().command(write(2, 0, 8)).unwrap();
    new.ping(b"").unwrap();
    assert!(new.session().is_sent(first) && new.session().is_sent(second));
    // Others are not held up.
    assert!(world.client("b").run(read(0, 8)).unwrap().data == vec![0; 4096]);
    world.disks[0].faults.release(rule);
    assert_eq!(sense(&new.completion(first).unwrap()), (0x6, 0x29, 0x07));
    assert!(new.completion(second).unwrap().is_good());
    assert!(new.read(0, 8).unwrap() == pattern(2, 0, 8, 512), "the old WRITE came first");
    world.wait_sessions(1);
}

#[test]
fn a_connection_lost_with_io_in_the_device() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    let rule = world.disks[0].order(Kind::Any, Fault::Lose, 2);
    client.session().command(write(1, 0, 8)).unwrap();
    client.session().command(read(64, 8)).unwrap();
    client.ping(b"").unwrap();
    drop(client);
    let mut other = world.client("b");
    other.write(8, &pattern(3, 8, 8, 512)).unwrap();
    world.disks[0].faults.release(rule);
    world.wait_sessions(1);
    assert!(other.read(0, 8).unwrap() == pattern(1, 0, 8, 512));
}

#[test]
fn logout_gives_up_what_is_outstanding() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    world.disks[0].order(Kind::Write, Fault::Hold, 3);
    for n in 0..3 {
        client.session().command(write(n, 0, 8)).unwrap();
    }
    client.ping(b"").unwrap();
    client.logout().unwrap();
    client.wait_closed(SOON).unwrap();
    world.wait_sessions(0);
}

fn next(wire: &mut Wire) -> (Response, Vec<u8>) {
    let pdu = wire.receive().unwrap().expect("a PDU");
    (Response::decode(&pdu.bhs), pdu.data)
}

fn nop(itt: u32, cmd_sn: u32) -> NopOut {
    NopOut { immediate: true, itt, ttt: NO_TAG, cmd_sn, ..NopOut::default() }
}

/// The next PDU is a Reject for this reason, with the header refused.
fn expect_reject(wire: &mut Wire, reason: u8, refused: &Pdu) {
    let (Response::Reject(reject), data) = next(wire) else { panic!("no Reject") };
    assert_eq!((reject.reason, reject.itt), (reason, NO_TAG));
    assert_eq!(data, refused.bhs.0, "RFC 7143 §11.17: the header refused is the data");
    let _: Reject = reject;
}

#[test]
fn logouts_that_are_none() {
    let world = World::start(Setup::default());
    let (mut wire, outcome) = world.wire(&Config { cid: 7, ..config("a") });
    let cmd_sn = outcome.exp_cmd_sn.0;
    for (reason, cid, response) in [(1, 8, 1), (2, 7, 2)] {
        let logout =
            LogoutRequest { immediate: true, reason, itt: 5, cid, cmd_sn, ..LogoutRequest::default() };
        wire.send(&logout.with([])).unwrap();
        let (Response::Logout(LogoutResponse { response: found, .. }), _) = next(&mut wire) else { panic!() };
        assert_eq!(found, response);
    }
    let logout =
        LogoutRequest { immediate: true, reason: 1, itt: 5, cid: 7, cmd_sn, ..LogoutRequest::default() };
    wire.send(&logout.with([])).unwrap();
    let (Response::Logout(LogoutResponse { response: 0, .. }), _) = next(&mut wire) else { panic!() };
    assert_eq!(wire.receive().unwrap(), None);
}

#[test]
fn what_has_no_place_is_rejected_and_the_connection_goes_on() {
    let world = World::start(Setup::default());
    let (mut wire, outcome) = world.wire(&config("a"));
    let cmd_sn = outcome.exp_cmd_sn.0;
    let unknown = Pdu::new(Bhs::new(0x1c), []);
    wire.send(&unknown).unwrap();
    expect_reject(&mut wire, 0x05, &unknown);
    let snack = Snack { itt: 1, ttt: NO_TAG, ..Snack::default() }.with([]);
    wire.send(&snack).unwrap();
    expect_reject(&mut wire, 0x03, &snack);
    let login = LoginRequest { itt: 3, cmd_sn, ..LoginRequest::default() }.with(*b"X=1\0");
    wire.send(&login).unwrap();
    expect_reject(&mut wire, 0x04, &login);
    wire.send(&nop(9, cmd_sn).with(*b"still here")).unwrap();
    let (Response::NopIn(NopIn { itt: 9, .. }), data) = next(&mut wire) else { panic!() };
    assert_eq!(data, b"still here");
}

#[test]
fn too_many_immediate_commands() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    let rule = world.disks[0].order(Kind::Read, Fault::Hold, u32::MAX);
    let immediate = |lba| Command { immediate: true, ..read(lba, 8) };
    let itts: Vec<u32> = (0..5).map(|n| client.session().command(immediate(n * 8)).unwrap()).collect();
    assert!(matches!(client.completion(itts[4]), Err(SocketError::Aborted)));
    assert!(matches!(client.next_event(), Some(Event::Reject { reason: 0x06, bhs: Some(_) })));
    world.disks[0].faults.arm(rule, 0);
    world.disks[0].faults.release(rule);
    for itt in &itts[..4] {
        assert!(client.completion(*itt).unwrap().is_good());
    }
    assert!(client.run(immediate(0)).unwrap().is_good());
}

fn digests(name: &str) -> Config {
    Config { offer: Offer::with_digests(true, true), ..config(name) }
}

#[test]
fn a_header_digest_that_is_wrong_closes_the_connection() {
    let world = World::start(Setup::default());
    let (mut wire, outcome) = world.wire(&digests("a"));
    let both = outcome.params.digests;
    let mut bytes = Vec::new();
    let flaw = Flaw { header_digest: true, ..Flaw::default() };
    nop(1, outcome.exp_cmd_sn.0).with([]).encode_flawed(both, flaw, &mut bytes);
    wire.send_bytes(&bytes).unwrap();
    assert_eq!(wire.receive().unwrap(), None);
    world.wait_sessions(0);
}

#[test]
fn a_data_digest_that_is_wrong_ends_the_command() {
    let world = World::start(Setup::default());
    let (mut wire, outcome) = world.wire(&digests("a"));
    let cmd_sn = outcome.exp_cmd_sn.0;
    let command = ScsiCommand { final_bit: true, itt: 1, cmd_sn, ..ScsiCommand::default() };
    wire.send(&command.with([])).unwrap();
    let (Response::Scsi(ScsiResponse { status: 2, .. }), _) = next(&mut wire) else { panic!("29h") };
    let command = ScsiCommand {
        write: true,
        itt: 2,
        cmd_sn: cmd_sn + 1,
        expected_bytes: 512,
        cdb: cdb::write_10(0, 1, cdb::Flags::default()),
        ..command
    };
    let command = command.with(pattern(1, 0, 1, 512));
    let mut bytes = Vec::new();
    let flaw = Flaw { data_digest: true, ..Flaw::default() };
    command.encode_flawed(outcome.params.digests, flaw, &mut bytes);
    wire.send_bytes(&bytes).unwrap();
    expect_reject(&mut wire, 0x02, &command);
    let (Response::Scsi(end), data) = next(&mut wire) else { panic!("no status") };
    assert_eq!((end.itt, end.status), (2, 0x02));
    assert_eq!((data[4], data[14], data[15]), (0x0b, 0x47, 0x05), "{data:02x?}");
    assert!(world.client("b").read(0, 1).unwrap() == vec![0; 512], "nothing landed");
}

#[test]
fn a_silent_initiator_is_asked() {
    let nop_in = NopInTimes { ask_ns: 50 * MS_NS, close_ns: 20_000 * MS_NS };
    let world = World::start(Setup { nop_in, ..Setup::default() });
    let mut client = world.client("a");
    for asked in 1..=3 {
        let event = client.wait_event(SOON).unwrap();
        let Some(Event::NopIn { itt: NO_TAG, ttt, .. }) = event else { panic!("{event:?}") };
        assert_ne!(ttt, NO_TAG);
        client.service().unwrap();
        assert_eq!(client.session().counters().nop_ins_answered, asked);
    }
    client.ping(b"").unwrap();
}

#[test]
fn an_initiator_that_does_not_answer_is_given_up() {
    let nop_in = NopInTimes { ask_ns: 50 * MS_NS, close_ns: 150 * MS_NS };
    let world = World::start(Setup { nop_in, ..Setup::default() });
    let (mut wire, _) = world.wire(&config("a"));
    let (Response::NopIn(NopIn { itt: NO_TAG, lun: 0, .. }), _) = next(&mut wire) else {
        panic!("no NOP-In")
    };
    assert_eq!(wire.receive().unwrap(), None);
    world.wait_sessions(0);
}

#[test]
fn draining_asks_for_logout_and_stops() {
    let mut world = World::start(Setup { reactors: 2, ..Setup::default() });
    let (mut client, mut other) = (world.client("a"), world.client("b"));
    let rule = world.disks[0].order(Kind::Write, Fault::Hold, 1);
    let itt = client.session().command(write(1, 0, 8)).unwrap();
    client.ping(b"").unwrap();
    world.drain();
    for client in [&mut client, &mut other] {
        let event = client.wait_event(SOON).unwrap();
        let Some(Event::Async(Async { event: 1, parameter3: 10, .. }, _)) = event else {
            panic!("{event:?}")
        };
    }
    // What was begun is finished.
    world.disks[0].faults.release(rule);
    assert!(client.completion(itt).unwrap().is_good());
    client.logout().unwrap();
    other.logout().unwrap();
    assert!(world.stopped());
    assert!(Client::connect(world.address(), config("c")).is_err());
}

#[test]
fn an_operator_ends_a_session() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    world.end_sessions();
    client.wait_closed(SOON).unwrap();
    world.client("a").ping(b"").unwrap();
}

#[test]
fn a_resize_is_told() {
    let world = World::start(Setup { disks: vec![(4096, 512)], reactors: 2, ..Setup::default() });
    let (mut client, mut other) = (world.client("a"), world.client("b"));
    for blocks in [8192, 1024] {
        world.disks[0].medium.resize(blocks).unwrap();
        world.control(|control| control.reread_bdev("disk0", Done::nobody())).unwrap();
        for client in [&mut client, &mut other] {
            attention(client, 0, (0x6, 0x2a, 0x09));
            let answer = client.command(cdb::read_capacity_16(32), Data::In(32)).unwrap();
            assert_eq!(answer.data[..8], (blocks - 1).to_be_bytes());
            let end = client.run(read(blocks, 1)).unwrap();
            assert_eq!(sense(&end), (0x5, 0x21, 0x00));
            assert!(client.run(read(blocks - 1, 1)).unwrap().is_good());
        }
    }
}

/// Waits for a unit attention: a change reaches each reactor in its own time.
fn attention(client: &mut Client, number: u16, expected: (u8, u8, u8)) {
    until("a unit attention", || {
        let end = client.run(test_unit_ready(number)).unwrap();
        !end.is_good() && sense(&end) == expected
    });
}

fn luns(client: &mut Client) -> Vec<Option<u16>> {
    let answer = client.command(cdb::report_luns(0, 4096), Data::In(4096)).unwrap();
    decode_luns(&answer.data).unwrap().into_iter().map(lun::number).collect()
}

#[test]
fn luns_that_come_and_go_are_told() {
    let world = World::start(Setup { disks: vec![(4096, 512); 2], ..Setup::default() });
    let mut client = world.client("a");
    let (_, _, bdev) = disk(9, 1024, 512);
    let add = move |control: &mut lunette::control::Control<_>| {
        control.register_bdev(spec(bdev)).unwrap();
        control.add_lun(TARGET, "disk9", Some(LunNumber(300))).unwrap();
    };
    world.control(add);
    attention(&mut client, 0, (0x6, 0x3f, 0x0e));
    assert_eq!(luns(&mut client), [Some(0), Some(1), Some(300)]);
    client.run(test_unit_ready(300)).unwrap();
    assert!(client.run(test_unit_ready(300)).unwrap().is_good());
    world.control(|control| control.remove_lun(TARGET, LunNumber(300), Done::nobody())).unwrap();
    attention(&mut client, 0, (0x6, 0x3f, 0x0e));
    assert_eq!(sense(&client.run(test_unit_ready(300)).unwrap()), (0x5, 0x25, 0x00));
    assert_eq!(luns(&mut client), [Some(0), Some(1)]);
}

#[test]
fn a_lun_removed_under_io() {
    let world = World::start(Setup { disks: vec![(4096, 512); 2], ..Setup::default() });
    let mut client = world.client("a");
    let rule = world.disks[0].order(Kind::Any, Fault::Hold, 2);
    let write = client.session().command(write(1, 0, 8)).unwrap();
    let read = client.session().command(read(64, 8)).unwrap();
    client.ping(b"").unwrap();
    let done = world.change(|control, done, _| control.remove_lun(TARGET, LunNumber(0), done));
    attention(&mut client, 1, (0x6, 0x3f, 0x0e));
    assert_eq!(sense(&client.run(test_unit_ready(0)).unwrap()), (0x5, 0x25, 0x00));
    assert!(client.session().is_sent(write));
    assert!(done.try_recv().is_err(), "the device has IO that came by the LUN");
    world.disks[0].faults.release(rule);
    // What the device had ends as the device ends it.
    assert!(client.completion(write).unwrap().is_good());
    assert!(client.completion(read).unwrap().is_good());
    assert!(done.recv_timeout(SOON).unwrap().is_clean);
}
