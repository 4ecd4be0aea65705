//! FastAbort (RFC 7143 §4.2.3.4, §4.2.3.5, §11.9.1): who is told that tasks are terminated, what is awaited and what is not.

use lunette::bdev::error::{Fault, Kind};
use lunette::iscsi::negotiate::Offer as Limits;
use lunette_initiator::pdu::request::{DataOut, LogoutRequest, NopOut, ScsiCommand, TmfRequest};
use lunette_initiator::pdu::response::{Async, LogoutResponse, NopIn, R2t, Response, TmfResponse};
use lunette_initiator::pdu::{NO_TAG, Pdu};
use lunette_initiator::scsi::{cdb, status};
use lunette_initiator::session::{Function, Tmf};
use lunette_initiator::socket::Wire;
use lunette_initiator::{Config, Offer, lun};

use crate::connections::{Session, ends, is_quiet, next, ready, sense};
use crate::harness::{Setup, World, config};

const ABORT_TASK_SET: u8 = 2;
const UNIT_RESET: u8 = 5;

fn setup() -> Setup {
    let offer = Limits { connections_max: 4, ..Limits::DEFAULT };
    Setup { offer, disks: vec![(4096, 512); 2], ..Setup::default() }
}

fn reporting(value: &str) -> Offer {
    Offer {
        task_reporting: Some(value.to_owned()),
        initial_r2t: Some(true),
        immediate_data: Some(false),
        ..Offer::usual()
    }
}

/// A session with FastAbort.
fn begin(world: &World) -> Session {
    let mut session = Session::begin(world, reporting("FastAbort,ResponseFence,RFC3720"));
    assert_eq!(session.first_params.task_reporting, "FastAbort");
    // The unit attention of the other LUN.
    let other = ScsiCommand { lun: lun::from_number(1), ..ready() };
    let other = session.command(0xb002, &other);
    session.first.send(&other).unwrap();
    assert_eq!(sense(&mut session.first, 0xb002), (0x6, 0x29, 0x00));
    session
}

/// A WRITE of a block, as far as the R2T for its data.
fn asked(session: &mut Session, wire: Option<&mut Wire>, itt: u32, number: u16) -> R2t {
    let command = ScsiCommand {
        lun: lun::from_number(number),
        write: true,
        expected_bytes: 512,
        cdb: cdb::write_10(0, 1, cdb::Flags::default()),
        ..ScsiCommand::default()
    };
    let command = session.command(itt, &command);
    let wire = wire.unwrap_or(&mut session.first);
    wire.send(&command).unwrap();
    match next(wire) {
        (Response::R2t(r2t), _) if r2t.itt == itt => r2t,
        other => panic!("no R2T: {other:?}"),
    }
}

fn data(r2t: &R2t) -> Pdu {
    DataOut { final_bit: true, lun: r2t.lun, itt: r2t.itt, ttt: r2t.ttt, ..DataOut::default() }.with([7; 512])
}

fn function(code: u8, itt: u32, cmd_sn: u32) -> Pdu {
    TmfRequest { immediate: true, function: code, itt, cmd_sn, ..TmfRequest::default() }.with([])
}

fn replied(wire: &mut Wire, itt: u32) -> u8 {
    match next(wire) {
        (Response::Tmf(TmfResponse { itt: found, response, .. }), _) if found == itt => response,
        other => panic!("no answer to {itt}: {other:?}"),
    }
}

/// The same of a function that waits for nothing: its answer comes before that to what is asked in a later turn.
fn replied_at_once(wire: &mut Wire, itt: u32, cmd_sn: u32) -> u8 {
    // The second is asked for when the first has been answered, or the function.
    let came = [0xec01, 0xec02].map(|itt| {
        let ping = NopOut { immediate: true, itt, ttt: NO_TAG, cmd_sn, ..NopOut::default() };
        wire.send(&ping.with([])).unwrap();
        next(wire).0
    });
    let last = next(wire).0;
    assert!(matches!(last, Response::NopIn(NopIn { itt: 0xec02, .. })), "it waited: {came:?}, {last:?}");
    let answer = came.iter().find_map(|response| match response {
        Response::Tmf(tmf) if tmf.itt == itt => Some(tmf.response),
        _ => None,
    });
    answer.expect("an answer")
}

/// A task termination comes next: for this LUN. Its StatSN.
fn told(wire: &mut Wire, number: u16) -> u32 {
    match next(wire) {
        (Response::Async(Async { event: 5, lun, stat_sn, .. }), _) if lun == lun::from_number(number) => {
            stat_sn
        }
        other => panic!("nobody is told: {other:?}"),
    }
}

fn acknowledge(wire: &mut Wire, lun: u64, cmd_sn: u32, exp_stat_sn: u32) {
    let nop = NopOut { immediate: true, lun, itt: NO_TAG, ttt: NO_TAG, cmd_sn, exp_stat_sn };
    wire.send(&nop.with([])).unwrap();
}

/// On one connection nothing is awaited, and nobody is told: its initiator sends no more data.
#[test]
fn a_function_does_not_wait_for_data() {
    let world = World::start(setup());
    let mut session = begin(&world);
    let r2t = asked(&mut session, None, 1, 0);
    let cmd_sn = session.cmd_sn;
    session.first.send(&function(ABORT_TASK_SET, 2, cmd_sn)).unwrap();
    assert_eq!(replied_at_once(&mut session.first, 2, cmd_sn), 0);
    // Data all the same: they are dropped.
    session.first.send(&data(&r2t)).unwrap();
    let r2t = asked(&mut session, None, 3, 0);
    session.first.send(&function(UNIT_RESET, 4, session.cmd_sn)).unwrap();
    assert_eq!(replied(&mut session.first, 4), 0);
    session.first.send(&data(&r2t)).unwrap();
    let read = session.read(5, 0, 1);
    session.first.send(&read).unwrap();
    assert_eq!(sense(&mut session.first, 5), (0x6, 0x29, 0x03));
    let read = session.read(6, 0, 1);
    session.first.send(&read).unwrap();
    assert!(crate::connections::data(&mut session.first, 6) == vec![0; 512], "nothing landed");
}

/// The other connections of the session that asked: their tags are valid until the message is acknowledged.
#[test]
fn other_connections_of_the_session_are_told() {
    let world = World::start(setup());
    let mut session = begin(&world);
    let (mut second, outcome) = world.wire(&session.config.joining(session.tsih, 2));
    let (mut third, _) = world.wire(&session.config.joining(session.tsih, 3));
    let r2t = asked(&mut session, None, 1, 0);
    asked(&mut session, Some(&mut second), 2, 0);
    let beside = asked(&mut session, None, 3, 1);
    let cmd_sn = session.cmd_sn;
    let abort = TmfRequest {
        immediate: true,
        function: ABORT_TASK_SET,
        itt: 9,
        cmd_sn,
        exp_stat_sn: outcome.exp_stat_sn.0,
        ..TmfRequest::default()
    };
    second.send(&abort.with([])).unwrap();
    let stat_sn = told(&mut session.first, 0);
    // The fence's question is another matter.
    let (Response::NopIn(question), _) = next(&mut session.first) else { panic!("no question") };
    assert_eq!((question.itt, question.stat_sn), (NO_TAG, stat_sn + 1));
    acknowledge(&mut session.first, 0, cmd_sn, stat_sn + 1);
    assert_eq!(replied(&mut second, 9), 0);
    let (Response::NopIn(NopIn { itt: NO_TAG, stat_sn: shown, .. }), _) = next(&mut second) else {
        panic!("the fence is not lowered unasked")
    };
    let nop =
        NopOut { immediate: true, itt: NO_TAG, ttt: 1, cmd_sn, exp_stat_sn: shown, ..NopOut::default() };
    second.send(&nop.with([])).unwrap();
    session.first.send(&data(&r2t)).unwrap();
    // The other LUN was not concerned.
    session.first.send(&data(&beside)).unwrap();
    assert_eq!(ends(&mut session.first, 3), 0);
    let read = session.read(6, 0, 1);
    session.first.send(&read).unwrap();
    assert!(crate::connections::data(&mut session.first, 6) == vec![0; 512], "nothing landed");
    assert!(is_quiet(&mut third, session.cmd_sn), "it had no such task");
}

/// A task that a third session loses is answered when its data have come or the message is acknowledged: with its LUN, and its
/// StatSN.
#[test]
fn a_third_session_is_told_and_acknowledges() {
    let world = World::start(setup());
    let mut third = begin(&world);
    let mut asking = world.client("b");
    let r2t = asked(&mut third, None, 1, 0);
    let sent = asked(&mut third, None, 2, 0);
    let beside = asked(&mut third, None, 3, 1);
    assert_eq!(asking.task_management(Tmf::new(Function::LogicalUnitReset, 0)).unwrap(), 0);
    let stat_sn = told(&mut third.first, 0);
    let cmd_sn = third.cmd_sn;
    assert!(is_quiet(&mut third.first, cmd_sn), "once, and no task has ended");
    // On their way when the message came.
    third.first.send(&data(&sent)).unwrap();
    assert_eq!(ends(&mut third.first, 2), status::TASK_ABORTED);
    for (lun, exp_stat_sn) in [(lun::from_number(1), stat_sn + 1), (0, stat_sn)] {
        acknowledge(&mut third.first, lun, cmd_sn, exp_stat_sn);
        assert!(is_quiet(&mut third.first, cmd_sn), "that is no acknowledgement");
    }
    acknowledge(&mut third.first, 0, cmd_sn, stat_sn + 1);
    assert_eq!(ends(&mut third.first, 1), status::TASK_ABORTED);
    third.first.send(&data(&r2t)).unwrap();
    third.first.send(&data(&beside)).unwrap();
    assert_eq!(ends(&mut third.first, 3), 0, "another LUN");
    let read = third.read(5, 0, 1);
    third.first.send(&read).unwrap();
    assert_eq!(sense(&mut third.first, 5), (0x6, 0x29, 0x03));
    assert!(asking.run(crate::harness::test_unit_ready(0)).is_ok());
}

/// The message has the StatSN that was said of it, whatever is queued before it, and each LUN one of its own.
#[test]
fn a_target_reset_is_told_for_each_lun() {
    let world = World::start(setup());
    let mut third = begin(&world);
    let mut asking = world.client("b");
    let rule = world.disks[0].order(Kind::Read, Fault::Hold, 1);
    let read = third.read(1, 0, 1);
    third.first.send(&read).unwrap();
    asked(&mut third, None, 2, 1);
    asked(&mut third, None, 3, 0);
    assert_eq!(asking.task_management(Tmf::new(Function::TargetWarmReset, 0)).unwrap(), 0);
    let mut luns = [lun::from_number(0), lun::from_number(1)].to_vec();
    let mut ended = Vec::new();
    let mut exp_stat_sn = 0;
    while !luns.is_empty() {
        match next(&mut third.first) {
            (Response::Async(message), _) => {
                assert_eq!(message.event, 5);
                let at = luns.iter().position(|lun| *lun == message.lun);
                luns.remove(at.expect("one for each"));
                exp_stat_sn = message.stat_sn + 1;
            }
            (Response::Scsi(end), _) => ended.push((end.itt, end.status)),
            other => panic!("{other:?}"),
        }
    }
    while ended.is_empty() {
        ended.push((1, ends(&mut third.first, 1)));
    }
    assert_eq!(ended, [(1, status::TASK_ABORTED)], "no data are owed for a READ");
    let cmd_sn = third.cmd_sn;
    acknowledge(&mut third.first, lun::from_number(1), cmd_sn, exp_stat_sn);
    assert_eq!(ends(&mut third.first, 2), status::TASK_ABORTED);
    acknowledge(&mut third.first, 0, cmd_sn, exp_stat_sn);
    assert_eq!(ends(&mut third.first, 3), status::TASK_ABORTED);
    world.disks[0].faults.release(rule);
}

/// RFC 7143 §4.2.3.5: a third session that has not agreed to FastAbort is told nothing, whoever asks.
#[test]
fn sessions_without_it_are_not_told() {
    let world = World::start(setup());
    let offer = reporting("FastAbort");
    let mut asking = world.login(Config { offer, ..config("b") });
    let mut third = Session::begin(&world, reporting("RFC3720,FastAbort"));
    assert_eq!(third.first_params.task_reporting, "RFC3720");
    let r2t = asked(&mut third, None, 1, 0);
    assert_eq!(asking.task_management(Tmf::new(Function::LogicalUnitReset, 0)).unwrap(), 0);
    let cmd_sn = third.cmd_sn;
    acknowledge(&mut third.first, 0, cmd_sn, u32::MAX / 2);
    assert!(is_quiet(&mut third.first, cmd_sn), "neither told nor answered");
    third.first.send(&data(&r2t)).unwrap();
    assert_eq!(ends(&mut third.first, 1), status::TASK_ABORTED);
}

/// Nobody can be told on a connection that is lost, whose commands are kept: as without FastAbort their data are awaited for a while.
#[test]
fn who_was_not_told_is_waited_for() {
    // Where this machine stands still for that while it is tried again; without the wait the answer comes first every time.
    assert!((0..5).any(|_| is_waited_for()));
}

/// Whether a function is answered after what was asked later.
fn is_waited_for() -> bool {
    let world = World::start(crate::recovery::setup(2));
    let offer = Offer {
        error_recovery_level: Some(2),
        default_time2wait_s: Some(0),
        default_time2retain_s: Some(60),
        ..reporting("FastAbort")
    };
    let mut session = Session::begin(&world, offer);
    assert_eq!(session.first_params.task_reporting, "FastAbort");
    let mut second = session.join(&world, 2);
    asked(&mut session, None, 1, 0);
    let cmd_sn = session.cmd_sn;
    drop(std::mem::replace(&mut session.first, Wire::connect(world.address()).unwrap()));
    let recovery =
        LogoutRequest { immediate: true, reason: 2, itt: 5, cid: 1, cmd_sn, ..LogoutRequest::default() };
    second.send(&recovery.with([])).unwrap();
    let (Response::Logout(LogoutResponse { response: 0, .. }), _) = next(&mut second) else { panic!() };
    second.send(&function(ABORT_TASK_SET, 9, cmd_sn)).unwrap();
    if !is_quiet(&mut second, cmd_sn) {
        return false;
    }
    // The answer then, or what its fence asks.
    match next(&mut second) {
        (Response::Tmf(TmfResponse { itt: 9, response: 0, .. }) | Response::NopIn(_), _) => true,
        other => panic!("no answer: {other:?}"),
    }
}
