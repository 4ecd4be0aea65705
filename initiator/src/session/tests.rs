//! Sessions against a scripted target: what goes out is compared whole, what comes in is right or wrong by one field.

use super::*;
use crate::config::{Auth, Offer};
use crate::pdu::request::{DataOut, LogoutRequest, NopOut, Request, ScsiCommand, TextRequest, TmfRequest};
use crate::pdu::response::{
    Async, DataIn, LoginResponse, LogoutResponse, NopIn, R2t, Reject, ScsiResponse, TextResponse, TmfResponse,
};
use crate::pdu::{Bhs, Digests, FrameError};

const LUN: u64 = 0x0001_0000_0000_0000;
const PLAIN: Digests = Digests { header: false, data: false };

/// A session after its login: window 1 to 4, StatSN 10 next, bursts of 4096, segments of 1024 to the target, first
/// burst of 2048.
fn session(initial_r2t: bool, immediate_data: bool) -> Initiator {
    logged_in(Config::new("iqn.i", "iqn.t"), initial_r2t, immediate_data)
}

fn logged_in(config: Config, initial_r2t: bool, immediate_data: bool) -> Initiator {
    let offer = Offer {
        initial_r2t: Some(initial_r2t),
        immediate_data: Some(immediate_data),
        max_burst_bytes: Some(4096),
        first_burst_bytes: Some(2048),
        max_outstanding_r2t: Some(2),
        task_reporting: config.offer.task_reporting.clone(),
        ..Offer::default()
    };
    let reporting =
        offer.task_reporting.as_ref().map_or(String::new(), |word| format!("TaskReporting={word}\0"));
    let mut session = Initiator::new(Config { auth: Auth::Skip, offer, ..config });
    let login = drain(&mut session);
    assert_eq!(login[0].bhs.opcode(), 3);
    let yes = |on| if on { "Yes" } else { "No" };
    let text = format!(
        "InitialR2T={}\0ImmediateData={}\0MaxBurstLength=4096\0FirstBurstLength=2048\0MaxOutstandingR2T=2\0\
         MaxRecvDataSegmentLength=1024\0{reporting}",
        yes(initial_r2t),
        yes(immediate_data)
    );
    let response = LoginResponse {
        transit: true,
        current_stage: 1,
        next_stage: 3,
        isid: [0x80, 0x12, 0x34, 0x56, 0, 1],
        tsih: 1,
        stat_sn: 9,
        exp_cmd_sn: 1,
        max_cmd_sn: 4,
        ..LoginResponse::default()
    };
    feed(&mut session, response.with(text)).unwrap();
    assert!(matches!(session.next_event(), Some(Event::LoggedIn(_))));
    session
}

/// Everything that is outgoing, as PDUs.
fn drain(session: &mut Initiator) -> Vec<Pdu> {
    let mut deframer = Deframer::new(0xff_ffff);
    let mut pdus = Vec::new();
    loop {
        let bytes = session.outgoing().to_vec();
        if bytes.is_empty() {
            return pdus;
        }
        session.sent(bytes.len());
        let mut input = &bytes[..];
        while let Some(pdu) = deframer.next(&mut input).unwrap() {
            pdus.push(pdu.to_pdu());
        }
    }
}

fn feed(session: &mut Initiator, pdu: Pdu) -> Result<(), Offence> {
    let mut bytes = Vec::new();
    pdu.encode(PLAIN, &mut bytes);
    session.receive(&bytes).map_err(|violation| violation.offence)
}

fn read_command(bytes: u32) -> Command {
    Command::read(LUN, [0x28; 16], bytes)
}

fn write_command(bytes: usize) -> Command {
    Command::write(LUN, [0x2a; 16], (0..bytes).map(|n| (n / 256) as u8).collect())
}

/// A GOOD response with the window after one command.
fn good(itt: u32) -> ScsiResponse {
    ScsiResponse { itt, stat_sn: 10, exp_cmd_sn: 2, max_cmd_sn: 5, ..ScsiResponse::default() }
}

fn r2t(itt: u32, r2t_sn: u32, offset_bytes: u32, desired_bytes: u32) -> R2t {
    let ttt = 100 + r2t_sn;
    R2t { lun: LUN, itt, ttt, stat_sn: 10, exp_cmd_sn: 2, max_cmd_sn: 5, r2t_sn, offset_bytes, desired_bytes }
}

fn data_in(itt: u32, data_sn: u32, offset_bytes: u32) -> DataIn {
    DataIn { itt, ttt: NO_TAG, exp_cmd_sn: 2, max_cmd_sn: 5, data_sn, offset_bytes, ..DataIn::default() }
}

fn last_data_in(itt: u32, data_sn: u32, offset_bytes: u32) -> DataIn {
    DataIn { final_bit: true, has_status: true, stat_sn: 10, ..data_in(itt, data_sn, offset_bytes) }
}

#[test]
fn a_read_in_two_pieces_with_status() {
    let mut session = session(true, true);
    let itt = session.command(read_command(1000).tagged(77)).unwrap();
    let sent = drain(&mut session);
    let expected = ScsiCommand {
        final_bit: true,
        read: true,
        attributes: 1,
        lun: LUN,
        itt,
        expected_bytes: 1000,
        cmd_sn: 1,
        exp_stat_sn: 10,
        cdb: [0x28; 16],
        ..ScsiCommand::default()
    };
    assert_eq!(sent, [expected.with([])]);

    feed(&mut session, data_in(itt, 0, 0).with(vec![1; 600])).unwrap();
    assert_eq!(session.next_event(), None);
    let last = DataIn { underflow: true, residual: 100, ..last_data_in(itt, 1, 600) };
    feed(&mut session, last.with(vec![2; 300])).unwrap();
    let mut data = vec![1; 600];
    data.extend_from_slice(&[2; 300]);
    let completion = Completion {
        itt,
        tag: 77,
        data,
        received_bytes: 900,
        residual: Residual::Under(100),
        ..Completion::default()
    };
    assert_eq!(session.next_event(), Some(Event::Completed(completion)));
    assert_eq!(session.exp_stat_sn(), Serial(11));
    assert_eq!(session.pending_count(), 0);
}

#[test]
fn wrong_data_in() {
    let good = data_in(1, 0, 0);
    for (wrong, bytes, expected) in [
        (DataIn { data_sn: 1, ..good }, 4, Offence::DataSn { found: 1, expected: 0 }),
        (DataIn { offset_bytes: 4, ..good }, 4, Offence::Offset { found: 4, expected: 0 }),
        (good, 8188, Offence::Beyond { offset: 0, bytes: 8188, expected: 8000 }),
        (good, 5000, Offence::Burst { bytes: 5000, bytes_max: 4096 }),
        (DataIn { itt: 2, ..good }, 4, Offence::UnknownItt),
        (DataIn { exp_cmd_sn: 1, ..good }, 4, Offence::NotReceived { exp: 1 }),
        (DataIn { has_status: true, stat_sn: 10, ..good }, 4, Offence::StatusNotFinal),
        (DataIn { status: 2, ..last_data_in(1, 0, 0) }, 4, Offence::SenseInDataIn),
        (last_data_in(1, 0, 0), 4, Offence::Amount { residual: Residual::None, moved: 4, expected: 8000 }),
        (DataIn { stat_sn: 11, ..last_data_in(1, 0, 0) }, 4, Offence::StatSn { found: 11, expected: 10 }),
        (DataIn { ttt: 5, ..good }, 4, Offence::Field("LUN")),
        (good, 8193, Offence::Frame(FrameError::DataTooLong { bytes: 8193, bytes_max: 8192 })),
    ] {
        let mut session = session(true, true);
        session.command(read_command(8000)).unwrap();
        drain(&mut session);
        assert_eq!(feed(&mut session, wrong.with(vec![0; bytes])), Err(expected));
        // And the session stays in violation.
        assert_eq!(session.receive(&[]).map_err(|v| v.offence), Err(expected));
        assert_eq!(session.command(read_command(1)), Err(Refused::Ended));
    }
}

#[test]
fn a_sequence_is_ended_by_its_final_bit() {
    let mut session = session(true, true);
    session.command(read_command(8000)).unwrap();
    drain(&mut session);
    feed(&mut session, DataIn { final_bit: true, ..data_in(1, 0, 0) }.with(vec![0; 4096])).unwrap();
    feed(&mut session, data_in(1, 1, 4096).with(vec![0; 3904])).unwrap();
    let response = ScsiResponse { exp_data_sn: 2, ..good(1) };
    assert_eq!(feed(&mut session, response.with([])), Err(Offence::OpenSequence));
}

#[test]
fn immediate_unsolicited_and_solicited_data() {
    let mut session = session(false, true);
    let itt = session.command(write_command(5000)).unwrap();
    let data: Vec<u8> = (0..5000).map(|n| (n / 256) as u8).collect();
    let command = ScsiCommand {
        write: true,
        attributes: 1,
        lun: LUN,
        itt,
        expected_bytes: 5000,
        cmd_sn: 1,
        exp_stat_sn: 10,
        cdb: [0x2a; 16],
        ..ScsiCommand::default()
    };
    let unsolicited = DataOut {
        final_bit: true,
        lun: 0,
        itt,
        ttt: NO_TAG,
        exp_stat_sn: 10,
        data_sn: 0,
        offset_bytes: 1024,
    };
    assert_eq!(drain(&mut session), [command.with(&data[..1024]), unsolicited.with(&data[1024..2048])]);

    // Two R2Ts at a time.
    feed(&mut session, r2t(itt, 0, 2048, 1500).with([])).unwrap();
    feed(&mut session, r2t(itt, 1, 3548, 1452).with([])).unwrap();
    let piece = |ttt, data_sn, last, offset: u32, end: usize| {
        let header =
            DataOut { final_bit: last, lun: LUN, itt, ttt, exp_stat_sn: 10, data_sn, offset_bytes: offset };
        header.with(&data[offset as usize..end])
    };
    let expected = [
        piece(100, 0, false, 2048, 3072),
        piece(100, 1, true, 3072, 3548),
        piece(101, 0, false, 3548, 4572),
        piece(101, 1, true, 4572, 5000),
    ];
    assert_eq!(drain(&mut session), expected);
    feed(&mut session, ScsiResponse { exp_data_sn: 2, ..good(itt) }.with([])).unwrap();
    assert!(matches!(session.next_event(), Some(Event::Completed(c)) if c.is_good()));
}

#[test]
fn how_a_write_begins() {
    for (initial_r2t, immediate_data, immediate, final_bit, pdus) in [
        (true, true, 1024, true, 1),
        (true, false, 0, true, 1),
        (false, false, 0, false, 3),
        (false, true, 1024, false, 2),
    ] {
        let mut session = session(initial_r2t, immediate_data);
        session.command(write_command(5000)).unwrap();
        let sent = drain(&mut session);
        assert_eq!(sent.len(), pdus);
        assert_eq!(sent[0].data.len(), immediate);
        assert_eq!(sent[0].bhs.0[1] & 0x80 != 0, final_bit);
    }
}

#[test]
fn wrong_r2ts() {
    let good = r2t(1, 0, 1024, 100);
    for (wrong, expected) in [
        (R2t { r2t_sn: 1, ..good }, Offence::R2tSn { found: 1, expected: 0 }),
        (R2t { desired_bytes: 0, ..good }, Offence::EmptyR2t),
        (R2t { desired_bytes: 4097, ..good }, Offence::Burst { bytes: 4097, bytes_max: 4096 }),
        (R2t { desired_bytes: 3977, ..good }, Offence::Beyond { offset: 1024, bytes: 3977, expected: 5000 }),
        (R2t { offset_bytes: 1025, ..good }, Offence::Offset { found: 1025, expected: 1024 }),
        (R2t { ttt: NO_TAG, ..good }, Offence::TransferTag),
        (R2t { lun: 0, ..good }, Offence::Field("LUN")),
        (R2t { stat_sn: 11, ..good }, Offence::StatSn { found: 11, expected: 10 }),
        (R2t { itt: 9, ..good }, Offence::UnknownItt),
    ] {
        let mut session = session(true, true);
        session.command(write_command(5000)).unwrap();
        drain(&mut session);
        assert_eq!(feed(&mut session, wrong.with([])), Err(expected));
    }
    let mut session = session(true, true);
    session.command(write_command(5000)).unwrap();
    drain(&mut session);
    feed(&mut session, r2t(1, 0, 1024, 100).with([])).unwrap();
    feed(&mut session, r2t(1, 1, 1124, 100).with([])).unwrap();
    assert_eq!(feed(&mut session, r2t(1, 2, 1224, 100).with([])), Err(Offence::TooManyR2ts));
}

#[test]
fn wrong_responses() {
    let good = good(1);
    for (wrong, data, expected) in [
        (ScsiResponse { status: 2, ..good }, &[][..], Offence::NoSense),
        (ScsiResponse { status: 2, ..good }, &[0, 4, 0x70], Offence::SenseLength { found: 4, bytes: 3 }),
        (ScsiResponse { status: 2, ..good }, &[0], Offence::SenseLength { found: 0, bytes: 1 }),
        (ScsiResponse { overflow: true, underflow: true, ..good }, &[], Offence::Residual),
        (ScsiResponse { residual: 1, ..good }, &[], Offence::Residual),
        (ScsiResponse { underflow: true, residual: 501, ..good }, &[], Offence::Residual),
        (good, &[], Offence::Amount { residual: Residual::None, moved: 0, expected: 500 }),
        (ScsiResponse { exp_data_sn: 1, ..good }, &[], Offence::ExpDataSn { found: 1, sent: 0 }),
        (ScsiResponse { exp_cmd_sn: 3, ..good }, &[], Offence::ExpCmdSnAhead { found: 3, next: 2 }),
        (ScsiResponse { exp_cmd_sn: 0, ..good }, &[], Offence::ExpCmdSnBack { found: 0, before: 1 }),
        (ScsiResponse { max_cmd_sn: 3, ..good }, &[], Offence::MaxCmdSnBack { found: 3, before: 4 }),
        (ScsiResponse { max_cmd_sn: 0, ..good }, &[], Offence::Window { exp: 2, max: 0 }),
    ] {
        let mut session = session(true, true);
        session.command(read_command(500)).unwrap();
        drain(&mut session);
        assert_eq!(feed(&mut session, wrong.with(data)), Err(expected));
    }
}

#[test]
fn sense_reaches_the_completion() {
    let mut session = session(true, true);
    session.command(read_command(500)).unwrap();
    drain(&mut session);
    let response = ScsiResponse { status: 2, underflow: true, residual: 500, ..good(1) };
    feed(&mut session, response.with([0, 3, 0x70, 0, 5, 0xee])).unwrap();
    let Some(Event::Completed(completion)) = session.next_event() else { panic!() };
    assert_eq!((completion.status, &completion.sense[..]), (2, &[0x70, 0, 5][..]));
}

#[test]
fn the_window_holds_commands_back() {
    let mut session = session(true, true);
    for _ in 0..6 {
        session.command(read_command(0)).unwrap();
    }
    let numbers: Vec<_> = drain(&mut session).iter().map(|pdu| pdu.bhs.at(crate::pdu::Be32(24))).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    assert!(session.is_sent(4) && !session.is_sent(5));
    // An immediate request passes, and does not use up a number.
    session.ping(0, b"", true).unwrap();
    let ping = drain(&mut session);
    let nop = NopOut { immediate: true, lun: 0, itt: 7, ttt: NO_TAG, cmd_sn: 5, exp_stat_sn: 10 };
    assert_eq!(ping, [nop.with([])]);
    feed(&mut session, good(1).with([])).unwrap();
    assert_eq!(drain(&mut session).len(), 1);
    assert!(session.withdraw(6).is_some());
    assert!(session.withdraw(5).is_none());
}

#[test]
fn aborts_end_commands_without_status() {
    let mut session = session(true, true);
    for lun in [LUN, LUN, 0] {
        session.command(Command::read(lun, [0; 16], 0).tagged(lun >> 48)).unwrap();
    }
    drain(&mut session);
    let by = session.task_management(Tmf::abort(LUN, 2)).unwrap();
    let expected = TmfRequest {
        immediate: true,
        function: 1,
        lun: LUN,
        itt: by,
        referenced_itt: 2,
        cmd_sn: 4,
        exp_stat_sn: 10,
        ref_cmd_sn: 2,
        exp_data_sn: 0,
    };
    assert_eq!(drain(&mut session), [expected.with([])]);
    let done = |itt, stat_sn| TmfResponse { itt, stat_sn, exp_cmd_sn: 4, max_cmd_sn: 8, response: 0 };
    feed(&mut session, done(by, 10).with([])).unwrap();
    assert_eq!(session.next_event(), Some(Event::Aborted { itt: 2, tag: 1, by: Some(by) }));
    assert_eq!(session.next_event(), Some(Event::TmfResponse { itt: by, response: 0 }));

    let reset = session.task_management(Tmf::new(Function::LogicalUnitReset, LUN)).unwrap();
    drain(&mut session);
    let later = session.command(Command::read(LUN, [0; 16], 0)).unwrap();
    drain(&mut session);
    feed(&mut session, TmfResponse { exp_cmd_sn: 5, ..done(reset, 11) }.with([])).unwrap();
    assert_eq!(session.next_event(), Some(Event::Aborted { itt: 1, tag: 1, by: Some(reset) }));
    assert_eq!(session.next_event(), Some(Event::TmfResponse { itt: reset, response: 0 }));
    // The other logical unit's command and the later one live on.
    assert_eq!(session.unfinished().collect::<Vec<_>>(), [(3, 0), (later, 0)]);
    // A status after the response that covers it is an offence.
    let late = ScsiResponse { itt: 1, stat_sn: 12, exp_cmd_sn: 5, max_cmd_sn: 8, ..ScsiResponse::default() };
    assert_eq!(feed(&mut session, late.with([])), Err(Offence::UnknownItt));
}

#[test]
fn nop_ins() {
    let mut session = session(true, true);
    let question = NopIn { lun: LUN, itt: NO_TAG, ttt: 7, stat_sn: 10, exp_cmd_sn: 1, max_cmd_sn: 4 };
    feed(&mut session, question.with(*b"hi")).unwrap();
    let answer = NopOut { immediate: true, lun: LUN, itt: NO_TAG, ttt: 7, cmd_sn: 1, exp_stat_sn: 10 };
    assert_eq!(drain(&mut session), [answer.with(*b"hi")]);
    let event = Event::NopIn { itt: NO_TAG, ttt: 7, lun: LUN, data: b"hi".to_vec() };
    assert_eq!(session.next_event(), Some(event));

    let itt = session.ping(0, b"ping", false).unwrap();
    drain(&mut session);
    let echo = NopIn { lun: 0, itt, ttt: NO_TAG, stat_sn: 10, exp_cmd_sn: 2, max_cmd_sn: 5 };
    assert_eq!(feed(&mut session, echo.with(*b"pong")), Err(Offence::PingData));
}

#[test]
fn text_in_parts() {
    let mut session = session(true, true);
    let itt = session.text(b"SendTargets=All\0").unwrap();
    let question = TextRequest {
        final_bit: true,
        itt,
        ttt: NO_TAG,
        cmd_sn: 1,
        exp_stat_sn: 10,
        ..TextRequest::default()
    };
    assert_eq!(drain(&mut session), [question.with(*b"SendTargets=All\0")]);
    let part = TextResponse {
        more: true,
        itt,
        ttt: 5,
        stat_sn: 10,
        exp_cmd_sn: 2,
        max_cmd_sn: 5,
        ..TextResponse::default()
    };
    feed(&mut session, part.with(*b"TargetName=iq")).unwrap();
    let go_on = TextRequest { ttt: 5, cmd_sn: 2, exp_stat_sn: 11, ..question };
    assert_eq!(drain(&mut session), [go_on.with([])]);
    let last = TextResponse { final_bit: true, more: false, ttt: NO_TAG, stat_sn: 11, exp_cmd_sn: 3, ..part };
    feed(&mut session, last.with(*b"n.t\0")).unwrap();
    let text = b"TargetName=iqn.t\0".to_vec();
    assert_eq!(session.next_event(), Some(Event::TextResponse { itt, text }));
}

#[test]
fn rejects_and_messages() {
    let mut session = session(true, true);
    let itt = session.command(read_command(0).tagged(3)).unwrap();
    let bhs = drain(&mut session)[0].bhs;
    let reject = Reject { reason: 9, itt: NO_TAG, stat_sn: 10, exp_cmd_sn: 2, max_cmd_sn: 5, data_sn: 0 };
    feed(&mut session, reject.with(bhs.0)).unwrap();
    assert_eq!(session.next_event(), Some(Event::Aborted { itt, tag: 3, by: None }));
    assert_eq!(session.next_event(), Some(Event::Reject { reason: 9, bhs: Some(bhs) }));

    let message =
        Async { itt: NO_TAG, stat_sn: 11, exp_cmd_sn: 2, max_cmd_sn: 5, event: 1, ..Async::default() };
    feed(&mut session, message.with([])).unwrap();
    assert_eq!(session.next_event(), Some(Event::Async(message, Vec::new())));
    assert_eq!(feed(&mut session, Pdu::new(Bhs::new(0x3e), [])), Err(Offence::Opcode(0x3e)));
}

/// RFC 7143 §11.9.1: data for the tags stop, then the message is acknowledged with its LUN.
#[test]
fn task_terminations() {
    let message = Async {
        itt: NO_TAG,
        lun: LUN,
        stat_sn: 10,
        exp_cmd_sn: 1,
        max_cmd_sn: 4,
        event: 5,
        ..Async::default()
    };
    assert_eq!(feed(&mut session(true, true), message.with([])), Err(Offence::Field("AsyncEvent")));
    let offer = Offer { task_reporting: Some("FastAbort".to_owned()), ..Offer::default() };
    let config = Config { offer, ..Config::new("iqn.i", "iqn.t") };
    let mut session = logged_in(config.clone(), true, false);
    let itt = session.command(write_command(100)).unwrap();
    drain(&mut session);
    feed(&mut session, r2t(itt, 0, 0, 100).with([])).unwrap();
    feed(&mut session, Async { exp_cmd_sn: 2, max_cmd_sn: 5, ..message }.with([])).unwrap();
    let nop = NopOut { immediate: true, lun: LUN, itt: NO_TAG, ttt: NO_TAG, cmd_sn: 2, exp_stat_sn: 11 };
    assert_eq!(drain(&mut session), [nop.with([])]);

    // Nor are data sent for what a function of one's own covers, as soon as it has been sent.
    let mut session = logged_in(config, true, false);
    let itt = session.command(write_command(100)).unwrap();
    drain(&mut session);
    feed(&mut session, r2t(itt, 0, 0, 50).with([])).unwrap();
    session.task_management(Tmf::new(Function::AbortTaskSet, LUN)).unwrap();
    assert_eq!(drain(&mut session).len(), 1);
    feed(&mut session, r2t(itt, 1, 50, 50).with([])).unwrap();
    assert!(drain(&mut session).is_empty());
}

#[test]
fn logout_ends_the_session() {
    let mut session = session(true, true);
    let itt = session.logout(0, true).unwrap();
    let request = LogoutRequest { immediate: true, reason: 0, itt, cid: 0, cmd_sn: 1, exp_stat_sn: 10 };
    assert_eq!(drain(&mut session), [request.with([])]);
    let response =
        LogoutResponse { itt, stat_sn: 10, exp_cmd_sn: 1, max_cmd_sn: 4, ..LogoutResponse::default() };
    feed(&mut session, response.with([])).unwrap();
    assert_eq!(session.next_event(), Some(Event::LogoutResponse(response)));
    assert!(session.has_ended());
    assert_eq!(feed(&mut session, response.with([])), Err(Offence::AfterEnd));
}

#[test]
fn own_pdus_and_unknown_answers() {
    let config = Config { tolerate_unmatched: true, ..Config::new("iqn.i", "iqn.t") };
    let mut session = logged_in(config, true, true);
    let odd = NopOut { itt: 0x55, ttt: NO_TAG, cmd_sn: 1, immediate: true, ..NopOut::default() }.with([]);
    session.send_pdu(&odd);
    assert!(matches!(Request::decode(&odd.bhs), Request::NopOut(_)));
    assert_eq!(drain(&mut session), [odd]);
    let echo = NopIn { itt: 0x55, ttt: NO_TAG, stat_sn: 10, exp_cmd_sn: 1, max_cmd_sn: 4, lun: 0 }.with([]);
    feed(&mut session, echo.clone()).unwrap();
    assert!(matches!(session.next_event(), Some(Event::Unmatched(pdu)) if pdu.bhs.itt() == 0x55));
}

#[test]
fn memory_is_bounded() {
    let config = Config { commands_max: 2, ..Config::new("iqn.i", "iqn.t") };
    let mut session = logged_in(config, true, true);
    session.command(read_command(0)).unwrap();
    session.command(read_command(0)).unwrap();
    assert_eq!(session.command(read_command(0)), Err(Refused::Full));
    let nop = NopIn { itt: NO_TAG, ttt: NO_TAG, stat_sn: 10, exp_cmd_sn: 1, max_cmd_sn: 4, lun: 0 };
    let failed = (0..10_000).find_map(|_| feed(&mut session, nop.with([])).err());
    assert_eq!(failed, Some(Offence::Flood));
}

#[test]
fn large_writes_are_encoded_as_they_are_sent() {
    let mut session = session(true, true);
    let itt = session.command(write_command(4000)).unwrap();
    drain(&mut session);
    for n in 0..2 {
        feed(&mut session, r2t(itt, n, 1024 + n * 1488, 1488).with([])).unwrap();
    }
    // One byte at a time: nothing is lost, nothing repeated.
    let mut bytes = Vec::new();
    while let Some(&byte) = session.outgoing().first() {
        session.sent(1);
        bytes.push(byte);
    }
    let mut deframer = Deframer::new(1024);
    let mut input = &bytes[..];
    let mut data = Vec::new();
    while let Some(pdu) = deframer.next(&mut input).unwrap() {
        assert_eq!(pdu.bhs.at(crate::pdu::Be32(40)) as usize, 1024 + data.len());
        data.extend_from_slice(pdu.data);
    }
    let whole: Vec<u8> = (0..4000).map(|n| (n / 256) as u8).collect();
    assert_eq!(data, whole[1024..]);
}

#[test]
fn leniency_overlooks_two_things_only() {
    let config = Config { lenient: true, ..Config::new("iqn.i", "iqn.t") };
    let mut session = logged_in(config, true, true);
    session.command(read_command(5000)).unwrap();
    drain(&mut session);
    // A sequence of 5000 bytes, then ExpDataSN 0.
    feed(&mut session, DataIn { final_bit: true, ..data_in(1, 0, 0) }.with(vec![0; 5000])).unwrap();
    feed(&mut session, good(1).with([])).unwrap();
    assert!(matches!(session.next_event(), Some(Event::Completed(c)) if c.is_good()));
    assert_eq!(feed(&mut session, good(1).with([])), Err(Offence::StatSn { found: 10, expected: 11 }));
}

#[test]
fn the_same_configuration_logs_in_again() {
    let first = Initiator::new(Config::new("iqn.i", "iqn.t")).outgoing().to_vec();
    let mut lost = session(true, true);
    lost.command(read_command(1).tagged(5)).unwrap();
    assert_eq!(lost.unfinished().collect::<Vec<_>>(), [(1, 5)]);
    let mut again = Initiator::new(lost.config().clone());
    let login = drain(&mut again).remove(0);
    // The same ISID, TSIH 0: session reinstatement.
    assert_eq!(login.bhs.0[8..16], first[8..16]);
}
