//! Rules of RFC 7143 that no other test shows: each is a row of docs/rfc7143.toml.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use lunette::bdev::error::{Fault, Kind};
use lunette::iscsi::negotiate::Offer as Limits;
use lunette_initiator::pdu::request::{
    DataOut, LoginRequest, LogoutRequest, NopOut, ScsiCommand, Snack, TextRequest, TmfRequest,
};
use lunette_initiator::pdu::response::{LoginResponse, NopIn, R2t, Response, ScsiResponse, TextResponse};
use lunette_initiator::pdu::{Flaw, NO_TAG, Pdu};
use lunette_initiator::scsi::{cdb, status};
use lunette_initiator::session::{Event, Function, Residual, Tmf};
use lunette_initiator::socket::Wire;
use lunette_initiator::{Client, Command, Config, Offer, lun, text};

use crate::connections::Session;
use crate::harness::{SOON, Setup, World, config, pattern, sense, test_unit_ready, until, write};

/// A connection in full feature phase whose unit attention was told, and its next CmdSN.
fn wire(world: &World, config: &Config) -> (Wire, u32) {
    let (mut wire, outcome) = world.wire(config);
    let cmd_sn = outcome.exp_cmd_sn.0;
    let command = ScsiCommand { final_bit: true, itt: 1, cmd_sn, ..ScsiCommand::default() };
    wire.send(&command.with([])).unwrap();
    let (Response::Scsi(ScsiResponse { itt: 1, .. }), _) = next(&mut wire) else { panic!("no status") };
    (wire, cmd_sn + 1)
}

fn next(wire: &mut Wire) -> (Response, Vec<u8>) {
    let pdu = wire.receive().unwrap().expect("a PDU");
    (Response::decode(&pdu.bhs), pdu.data)
}

/// Nothing is said before the answers to what is sent now; the second is asked for in another turn.
fn assert_silent(wire: &mut Wire) {
    for itt in [0x515, 0x516] {
        let ping = NopOut { immediate: true, itt, ttt: NO_TAG, ..NopOut::default() };
        wire.send(&ping.with([])).unwrap();
        let (response, _) = next(wire);
        assert!(matches!(response, Response::NopIn(nop) if nop.itt == itt), "{response:?}");
    }
}

/// A WRITE (10) of `blocks` blocks of 512 bytes at the beginning.
fn write_10(cmd_sn: u32, blocks: u16) -> ScsiCommand {
    ScsiCommand {
        final_bit: true,
        write: true,
        itt: 2,
        cmd_sn,
        expected_bytes: u32::from(blocks) * 512,
        cdb: cdb::write_10(0, blocks, cdb::Flags::default()),
        ..ScsiCommand::default()
    }
}

/// The command ends in CHECK CONDITION with these: sense key, additional sense code and qualifier.
fn expect_check(wire: &mut Wire, sense: (u8, u8, u8)) {
    let (Response::Scsi(end), data) = next(wire) else { panic!("no status") };
    assert_eq!((end.itt, end.response, end.status), (2, 0, 0x02));
    assert_eq!((data[4], data[14], data[15]), sense, "{data:02x?}");
}

fn offer(initial_r2t: bool, immediate_data: bool) -> Offer {
    Offer { initial_r2t: Some(initial_r2t), immediate_data: Some(immediate_data), ..Offer::usual() }
}

#[test]
fn a_command_that_fails_is_answered_after_its_unsolicited_data() {
    let world = World::start(Setup::default());
    let (mut wire, cmd_sn) = wire(&world, &config("a"));
    let beyond = cdb::write_10(u32::MAX, 2, cdb::Flags::default());
    let command = ScsiCommand { final_bit: false, cdb: beyond, ..write_10(cmd_sn, 2) };
    wire.send(&command.with([])).unwrap();
    let data = DataOut { itt: 2, ttt: NO_TAG, ..DataOut::default() };
    wire.send(&data.with([0; 512])).unwrap();
    assert_silent(&mut wire);
    let data = DataOut { final_bit: true, data_sn: 1, offset_bytes: 512, ..data };
    wire.send(&data.with([0; 512])).unwrap();
    expect_check(&mut wire, (0x5, 0x21, 0x00));
}

#[test]
fn data_out_of_order_end_the_command_when_all_have_come() {
    let world = World::start(Setup::default());
    let (mut wire, cmd_sn) = wire(&world, &config("a"));
    for (number, data_sn, offset_bytes) in [(0, 1, 0), (1, 0, 512)] {
        let command = ScsiCommand { final_bit: false, ..write_10(cmd_sn + number, 2) };
        wire.send(&command.with([])).unwrap();
        let data = DataOut { itt: 2, ttt: NO_TAG, data_sn, offset_bytes, ..DataOut::default() };
        wire.send(&data.with([1; 512])).unwrap();
        assert_silent(&mut wire);
        let data = DataOut { final_bit: true, data_sn: data_sn + 1, offset_bytes: 512, ..data };
        wire.send(&data.with([1; 512])).unwrap();
        expect_check(&mut wire, (0xb, 0x4b, 0x00));
    }
    assert!(world.client("b").read(0, 2).unwrap() == vec![0; 1024], "nothing landed");
}

/// Its R2T to a WRITE without data of its own.
fn solicited(wire: &mut Wire, command: &ScsiCommand) -> R2t {
    wire.send(&command.with([])).unwrap();
    let (Response::R2t(r2t), _) = next(wire) else { panic!("no R2T") };
    r2t
}

#[test]
fn a_data_out_whose_digest_is_wrong_is_rejected_and_the_command_ends_when_all_have_come() {
    let world = World::start(Setup::default());
    let digests = Offer { data_digest: Some("CRC32C".to_owned()), ..offer(true, false) };
    let (mut wire, outcome) = world.wire(&Config { offer: digests, ..config("a") });
    let cmd_sn = outcome.exp_cmd_sn.0;
    let attention = ScsiCommand { final_bit: true, itt: 1, cmd_sn, ..ScsiCommand::default() };
    wire.send(&attention.with([])).unwrap();
    next(&mut wire);
    let r2t = solicited(&mut wire, &write_10(cmd_sn + 1, 2));
    let data = DataOut { itt: 2, ttt: r2t.ttt, lun: r2t.lun, ..DataOut::default() };
    let bad = data.with(pattern(1, 0, 1, 512));
    let mut bytes = Vec::new();
    let flaw = Flaw { data_digest: true, ..Flaw::default() };
    bad.encode_flawed(outcome.params.digests, flaw, &mut bytes);
    wire.send_bytes(&bytes).unwrap();
    let (Response::Reject(reject), refused) = next(&mut wire) else { panic!("no Reject") };
    assert_eq!((reject.reason, refused.as_slice()), (0x02, &bad.bhs.0[..]));
    assert_silent(&mut wire);
    let rest = DataOut { final_bit: true, data_sn: 1, offset_bytes: 512, ..data };
    wire.send(&rest.with(pattern(1, 1, 1, 512))).unwrap();
    expect_check(&mut wire, (0xb, 0x47, 0x05));
    assert!(world.client("b").read(0, 2).unwrap() == vec![0; 1024], "nothing landed");
}

#[test]
fn data_that_were_not_agreed_to_are_refused() {
    let world = World::start(Setup::default());
    let (mut wire, cmd_sn) = wire(&world, &Config { offer: offer(true, false), ..config("a") });
    wire.send(&write_10(cmd_sn, 1).with([1; 512])).unwrap();
    expect_check(&mut wire, (0xb, 0x0c, 0x0c));
    let command = ScsiCommand { final_bit: false, ..write_10(cmd_sn + 1, 1) };
    wire.send(&command.with([])).unwrap();
    let data = DataOut { final_bit: true, itt: 2, ttt: NO_TAG, ..DataOut::default() };
    wire.send(&data.with([1; 512])).unwrap();
    expect_check(&mut wire, (0xb, 0x0c, 0x0c));
    assert!(world.client("b").read(0, 1).unwrap() == vec![0; 512], "nothing landed");
}

#[test]
fn empty_data_segments_are_taken() {
    let world = World::start(Setup::default());
    let (mut wire, cmd_sn) = wire(&world, &Config { offer: offer(true, false), ..config("a") });
    let r2t = solicited(&mut wire, &write_10(cmd_sn, 1));
    let empty = DataOut { itt: 2, ttt: r2t.ttt, lun: r2t.lun, ..DataOut::default() };
    wire.send(&empty.with([])).unwrap();
    let data = DataOut { final_bit: true, data_sn: 1, ..empty };
    wire.send(&data.with(pattern(1, 0, 1, 512))).unwrap();
    let (Response::Scsi(ScsiResponse { itt: 2, status: 0, .. }), _) = next(&mut wire) else { panic!() };
    assert!(world.client("b").read(0, 1).unwrap() == pattern(1, 0, 1, 512));
}

#[test]
fn reserved_bits_are_ignored() {
    let world = World::start(Setup::default());
    let (mut wire, cmd_sn) = wire(&world, &config("a"));
    let mut ping = NopOut { immediate: true, itt: 7, ttt: NO_TAG, cmd_sn, ..NopOut::default() }.with(*b"all");
    ping.bhs.0[0] |= 0x80;
    ping.bhs.0[1..4].fill(0xff);
    ping.bhs.0[32..48].fill(0xff);
    wire.send(&ping).unwrap();
    let (Response::NopIn(NopIn { itt: 7, .. }), data) = next(&mut wire) else { panic!("no echo") };
    assert_eq!(data, b"all");
    let mut command = ScsiCommand { final_bit: true, itt: 2, cmd_sn, ..ScsiCommand::default() }.with([]);
    command.bhs.0[1] |= 0x18;
    command.bhs.0[2..4].fill(0xff);
    wire.send(&command).unwrap();
    let (Response::Scsi(ScsiResponse { itt: 2, status: 0, .. }), _) = next(&mut wire) else { panic!() };
}

/// REPORT LUNS of three LUNs is 32 bytes long; the target cuts them to the allocation length.
#[test]
fn what_scsi_cuts_is_no_overflow() {
    let world = World::start(Setup { disks: vec![(1024, 512); 3], ..Setup::default() });
    let mut client = world.client("a");
    for (allocation_bytes, expected_bytes, moved, residual) in [
        (32, 32, 32, Residual::None),
        (16, 16, 16, Residual::None),
        (16, 64, 16, Residual::Under(48)),
        (64, 64, 32, Residual::Under(32)),
        (32, 24, 24, Residual::Over(8)),
    ] {
        let report = Command::read(0, cdb::report_luns(0, allocation_bytes), expected_bytes);
        let end = client.run(report).unwrap();
        assert!(end.is_good());
        let found = (end.received_bytes, end.residual);
        assert_eq!(found, (moved, residual), "{allocation_bytes} {expected_bytes}");
    }
}

#[test]
fn a_segment_longer_than_was_declared_ends_the_connection() {
    let world = World::start(Setup::default());
    let (mut wire, _) = wire(&world, &config("a"));
    let mut header = NopOut { immediate: true, itt: 7, ttt: NO_TAG, ..NopOut::default() }.bhs();
    header.set_data_bytes(262_145);
    wire.send_bytes(&header.0).unwrap();
    assert_eq!(wire.receive().unwrap(), None);
    world.wait_sessions(0);
}

#[test]
fn an_echo_is_as_long_as_its_initiator_takes() {
    let world = World::start(Setup::default());
    let offer = Offer { max_recv_bytes: Some(512), ..Offer::usual() };
    let (mut wire, cmd_sn) = wire(&world, &Config { offer, ..config("a") });
    let said: Vec<u8> = (0..=250).cycle().take(1000).collect();
    let ping = NopOut { itt: 7, ttt: NO_TAG, cmd_sn, ..NopOut::default() };
    wire.send(&ping.with(said.clone())).unwrap();
    let (Response::NopIn(NopIn { itt: 7, ttt: NO_TAG, .. }), data) = next(&mut wire) else { panic!() };
    assert_eq!(data, said[..512]);
}

/// What a first login request that proposes to go straight on is answered: its text.
fn answered(world: &World, keys: &[(&str, &str)]) -> Vec<(String, String)> {
    let request = LoginRequest {
        transit: true,
        current_stage: 1,
        next_stage: 3,
        isid: [0x80, 0, 0, 0, 0, 1],
        itt: 1,
        ..LoginRequest::default()
    };
    let mut wire = Wire::connect(world.address()).unwrap();
    wire.send(&request.with(text::encode(keys.iter().copied()))).unwrap();
    let (Response::Login(LoginResponse { status_class: 0, transit: true, .. }), data) = next(&mut wire)
    else {
        panic!("refused")
    };
    text::decode(&data).unwrap()
}

#[test]
fn a_discovery_session_has_error_recovery_level_0() {
    let world = World::start(Setup::default());
    let who = [("InitiatorName", "iqn.2026-11.io.example:a"), ("SessionType", "Discovery")];
    let keys = [who[0], who[1], ("ErrorRecoveryLevel", "2")];
    let answer = answered(&world, &keys);
    assert!(answer.contains(&("ErrorRecoveryLevel".to_owned(), "0".to_owned())), "{answer:?}");
}

#[test]
fn discovery_sessions_at_two_portals_leave_each_other_alone() {
    let anywhere = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let world = World::start(Setup { portals: vec![anywhere; 2], ..Setup::default() });
    let discovery = || Config::discovery("iqn.2026-11.io.example:a");
    let mut both = [0, 1].map(|portal: usize| Client::connect(world.portals[portal], discovery()).unwrap());
    for client in &mut both {
        assert_eq!(client.send_targets("All").unwrap().len(), 3);
    }
    both[0].send_targets("All").unwrap();
}

/// RFC 7143 §7.4.2.1.
#[test]
fn a_discovery_session_takes_the_place_of_that_of_the_same_port() {
    let world = World::start(Setup::default());
    let discovery = Config::discovery("iqn.2026-11.io.example:a");
    let beside = Config { isid: [0x80, 0, 0, 0, 0, 9], ..discovery.clone() };
    let mut beside = Client::connect(world.address(), beside).unwrap();
    let mut old = Client::connect(world.address(), discovery.clone()).unwrap();
    old.send_targets("All").unwrap();
    let mut new = Client::connect(world.address(), discovery).unwrap();
    old.wait_closed(SOON).unwrap();
    new.send_targets("All").unwrap();
    beside.send_targets("All").unwrap();
}

#[test]
fn what_a_node_is_made_of_changes_nothing() {
    let world = World::start(Setup::default());
    let names =
        [("InitiatorName", "iqn.2026-11.io.example:a"), ("TargetName", crate::harness::TARGET)].to_vec();
    let without = answered(&world, &names);
    let key = ("X#NodeArchitecture", "ExampleOS/1,CPU_Arch/i686");
    let with = answered(&world, &[names, vec![key]].concat());
    assert_eq!(with.iter().filter(|(name, _)| name != key.0).collect::<Vec<_>>(), Vec::from_iter(&without));
}

/// As an exchange that goes on can be told from others by its LUN and tag.
#[test]
fn a_text_response_that_is_not_the_last_has_tag_and_lun() {
    let world = World::start(Setup::default());
    let (mut wire, cmd_sn) = wire(&world, &config("a"));
    let lun = lun::from_number(5);
    let request = TextRequest { more: true, lun, itt: 3, ttt: NO_TAG, cmd_sn, ..TextRequest::default() };
    wire.send(&request.with(*b"SendTar")).unwrap();
    let (Response::Text(first), data) = next(&mut wire) else { panic!("no answer") };
    assert_eq!((first.final_bit, first.more, first.lun, data.len()), (false, false, lun, 0));
    assert_ne!(first.ttt, NO_TAG);
    let request = TextRequest { more: false, final_bit: true, ttt: first.ttt, cmd_sn: cmd_sn + 1, ..request };
    let last: Pdu = request.with(*b"gets=\0");
    wire.send(&last).unwrap();
    let (Response::Text(TextResponse { final_bit: true, ttt: NO_TAG, .. }), data) = next(&mut wire) else {
        panic!("no answer")
    };
    assert_eq!(text::decode(&data).unwrap().len(), 2);
}

/// Nothing of its own is aborted, so it waits for the other's only.
#[test]
fn a_reset_waits_for_what_a_device_has_of_another_session() {
    let world = World::start(Setup { reactors: 2, ..Setup::default() });
    let (mut client, mut other) = (world.client("a"), world.client("b"));
    let rule = world.disks[0].order(Kind::Write, Fault::Lose, 1);
    let theirs = other.session().command(write(1, 0, 8)).unwrap();
    other.ping(b"").unwrap();
    assert_eq!(world.disks[0].faults.left(rule), 0, "the device has it");
    let reset = client.session().task_management(Tmf::new(Function::LogicalUnitReset, 0)).unwrap();
    until("a unit attention says that the reset has reached a reactor", || {
        let end = client.run(test_unit_ready(0)).unwrap();
        !end.is_good() && sense(&end) == (0x6, 0x29, 0x03)
    });
    until("it has reached the other: what would report it waits for the answer to what was aborted", || {
        let asked = other.session().command(test_unit_ready(0)).unwrap();
        other.ping(b"").unwrap();
        let waits = other.session().is_sent(asked);
        assert!(waits || other.completion(asked).unwrap().is_good());
        waits
    });
    client.ping(b"").unwrap();
    assert_eq!(client.next_event(), None);
    world.disks[0].faults.release(rule);
    assert_eq!(other.completion(theirs).unwrap().status, status::TASK_ABORTED);
    assert_eq!(client.wait_event(SOON).unwrap(), Some(Event::TmfResponse { itt: reset, response: 0 }));
}

/// A session at this error recovery level, MaxConnections 1.
fn recovering(level: u8) -> (World, Session) {
    let limits =
        Limits { connections_max: 1, error_recovery_level: level, time2retain: 5, ..Limits::DEFAULT };
    let world = World::start(Setup { offer: limits, ..Setup::default() });
    let offer = Offer {
        error_recovery_level: Some(level.into()),
        default_time2retain_s: Some(5),
        max_recv_bytes: Some(1024),
        ..offer(true, false)
    };
    let session = Session::begin(&world, offer);
    assert_eq!(session.first_params.error_recovery_level, u32::from(level));
    assert_eq!(session.first_params.max_connections, 1);
    (world, session)
}

#[test]
fn a_second_connection_comes_to_clean_up_the_first_at_level_2() {
    let (world, mut session) = recovering(2);
    let mut second = session.join(&world, 2);
    let logout = LogoutRequest { immediate: true, reason: 1, itt: 9, cid: 1, ..LogoutRequest::default() };
    second.send(&logout.with([])).unwrap();
    let (Response::Logout(answer), _) = next(&mut second) else { panic!("no answer") };
    assert_eq!((answer.itt, answer.response), (9, 0));
    assert_eq!(session.first.receive().unwrap(), None);
    let ping = NopOut { immediate: true, itt: 3, ttt: NO_TAG, ..NopOut::default() };
    second.send(&ping.with([])).unwrap();
    assert!(matches!(next(&mut second), (Response::NopIn(NopIn { itt: 3, .. }), _)));
}

#[test]
fn a_command_whose_snack_is_rejected_ends_with_the_condition_for_that() {
    let (_world, mut session) = recovering(1);
    let wire = &mut session.first;
    let r2t = solicited(wire, &write_10(session.cmd_sn, 1));
    // R-Data, which a WRITE has none of.
    let snack = Snack { kind: 3, itt: 2, ttt: 7, ..Snack::default() }.with([]);
    wire.send(&snack).unwrap();
    let (Response::Reject(reject), refused) = next(wire) else { panic!("no Reject") };
    assert_eq!((reject.reason, refused.as_slice()), (0x03, &snack.bhs.0[..]));
    let data =
        DataOut { final_bit: true, itt: 2, ttt: r2t.ttt, lun: r2t.lun, ..DataOut::default() }.with([1; 512]);
    wire.send(&data).unwrap();
    expect_check(wire, (0xb, 0x11, 0x13));
}

#[test]
fn an_exp_data_sn_that_cannot_be_is_ignored() {
    let (world, mut session) = recovering(2);
    let read = session.read(2, 0, 4);
    session.first.send(&read).unwrap();
    let pdus = |wire: &mut Wire| {
        let mut data_sns = Vec::new();
        loop {
            match next(wire).0 {
                Response::DataIn(data) => data_sns.push(data.data_sn),
                Response::Scsi(ScsiResponse { itt: 2, status: 0, .. }) => return data_sns,
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(pdus(&mut session.first), [0, 1]);
    let mut again = session.join(&world, 1);
    let reassign = TmfRequest {
        immediate: true,
        function: 8,
        itt: 9,
        referenced_itt: 2,
        exp_data_sn: 77,
        cmd_sn: session.cmd_sn,
        ..TmfRequest::default()
    };
    again.send(&reassign.with([])).unwrap();
    assert!(matches!(next(&mut again).0, Response::Tmf(answer) if answer.response == 0));
    assert_eq!(pdus(&mut again), [0, 1]);
}
