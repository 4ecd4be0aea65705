//! Control as a whole: logins to adoptions, reinstatement, barriers, floods, stopping.

mod alua;
mod asks;
mod chores;
mod erasures;
mod objects;
mod paths;
mod reserve;
mod review;
mod saving;
mod space;
mod surveys;
mod world;

use self::world::{ALICE, World, login, normal, status, with_text};
use super::done::Done;
use crate::id::{ReactorId, SessionId};
use crate::iscsi::sn::Sn;
use crate::limits::{DISCOVERY_IDLE_NS, DRAIN_SECONDS, LOGIN_NS, LOGINS_MAX, STOP_NS};
use crate::reactor::message::{Change, EndReason, TmfAsk, TmfOutcome, TmfTicket, ToControl, ToReactor};
use crate::scsi::attention::Ua;
use crate::scsi::view::LunNumber;
use crate::slab::Key;
use crate::time::SECOND_NS;

const SUCCESS: [u8; 2] = [0, 0];

#[test]
fn a_login_ends_in_an_adoption() {
    let mut world = World::new(1);
    let cable = world.connect("203.0.113.5:40000");
    let request = login(1, 0, 6, &normal(ALICE));
    cable.write(&request[..50]);
    world.turn();
    assert_eq!(cable.read(), b"");
    cable.write(&request[50..]);
    cable.write(b"behind it");
    world.turn();
    let answer = cable.read();
    assert_eq!(status(&answer), SUCCESS);
    assert_eq!(answer[1] & 0x8f, 0x87, "transit from the operational stage to full feature phase");
    let tsih = u16::from_be_bytes([answer[14], answer[15]]);
    assert_ne!(tsih, 0);
    let adopt = world.adopt(0);
    let session = world.control.sessions().get(adopt.session).unwrap();
    assert_eq!(
        (session.tsih, session.reactor, session.nexus.initiator.as_str()),
        (tsih, ReactorId(0), ALICE)
    );
    assert_eq!((adopt.cid, adopt.exp_cmd_sn, adopt.is_gated), (6, Sn(9), false));
    assert_eq!(adopt.leftover, b"behind it");
    assert_eq!(adopt.attention, Ua::PowerOnOrReset);
    assert_eq!(adopt.target.mappings.iter().map(|mapping| mapping.number.0).collect::<Vec<_>>(), [0, 5]);
    let told = Sn(u32::from_be_bytes([answer[24], answer[25], answer[26], answer[27]]));
    assert_eq!(adopt.stat_sn, told.plus(1));
    assert!(!cable.is_closed());
    assert_eq!(world.control.next_deadline(), None);
}

#[test]
fn a_new_login_of_a_nexus_is_adopted_after_the_old_connection_and_runs_after_the_old_io() {
    let mut world = World::new(1);
    let (_old_cable, _) = world.log_in(ALICE, 1);
    let old = world.adopt(0).session;
    let (_cable, answered) = world.log_in(ALICE, 1);
    assert_eq!(answered, SUCCESS, "login waits for nobody");
    let ended = world.reactors[0].receive();
    assert!(
        matches!(ended, Some(ToReactor::EndSession { session, reason: EndReason::Reinstated }) if session == old)
    );
    assert!(world.reactors[0].receive().is_none(), "not adopted before the old connection is closed");
    world.ended(old);
    let new = world.adopt(0);
    assert!(new.is_gated);
    assert_eq!(new.attention, Ua::NexusLoss);
    world.drained(old);
    let opened = world.reactors[0].receive();
    assert!(matches!(opened, Some(ToReactor::OpenGate { session }) if session == new.session));
}

#[test]
fn the_last_of_three_logins_wins() {
    let mut world = World::new(1);
    world.log_in(ALICE, 1);
    let first = world.adopt(0).session;
    let (second, _) = world.log_in(ALICE, 1);
    let (third, _) = world.log_in(ALICE, 1);
    assert!(second.is_closed(), "it was waiting for the first when the third came");
    assert!(
        matches!(world.reactors[0].receive(), Some(ToReactor::EndSession { session, .. }) if session == first)
    );
    world.ended(first);
    assert!(world.adopt(0).is_gated);
    assert!(!third.is_closed());
    assert!(world.reactors[0].receive().is_none());
}

#[test]
fn another_isid_is_another_nexus_and_goes_to_the_other_reactor() {
    let mut world = World::new(2);
    world.log_in(ALICE, 1);
    world.log_in(ALICE, 2);
    assert_ne!(world.adopt(0).session, world.adopt(1).session);
}

#[test]
fn refusals_are_written_before_the_connection_is_closed() {
    let mut world = World::for_initiators(1, "*:bob");
    let (cable, refused) = world.log_in(ALICE, 1);
    assert_eq!((refused, cable.is_closed()), ([2, 2], true));
    let cable = world.connect("203.0.113.5:40000");
    cable.write(&login(1, 0, 1, &format!("InitiatorName={ALICE}\0SessionType=Normal\0TargetName=iqn.x\0")));
    world.turn();
    assert_eq!((status(&cable.read()), cable.is_closed()), ([2, 3], true));
    assert!(world.reactors[0].receive().is_none());
}

#[test]
fn a_tsih_that_is_not_zero_joins_its_session_only() {
    let mut world = World::new(1);
    let (_cable, _) = world.log_in(ALICE, 1);
    let session = world.adopt(0).session;
    let tsih = world.control.sessions().get(session).unwrap().tsih;
    let mut ask = |isid, tsih, cid| {
        let cable = world.connect("203.0.113.5:40000");
        cable.write(&login(isid, tsih, cid, &normal(ALICE)));
        world.turn();
        status(&cable.read())
    };
    assert_eq!(ask(1, tsih + 1, 2), [2, 0x0a], "no such session");
    assert_eq!(ask(2, tsih, 2), [2, 0x0a], "another nexus's session");
    assert_eq!(ask(1, tsih, 2), [2, 0x06], "MaxConnections was not named, so it is 1");
    assert_eq!(ask(1, tsih, 1), [0, 0], "it takes the place of the one that is there");
    assert!(
        matches!(world.reactors[0].receive(), Some(ToReactor::Join(join)) if join.session == session && join.cid == 1)
    );
}

#[test]
fn silence_and_garbage_are_closed() {
    let mut world = World::new(1);
    let silent = world.connect("203.0.113.5:40000");
    let scanner = world.connect("203.0.113.5:40001");
    scanner.write(b"GET / HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n\r\n");
    world.turn();
    assert!(scanner.is_closed());
    assert_eq!(world.control.next_deadline(), Some(crate::time::Tick::from_ns(LOGIN_NS)));
    world.pass(LOGIN_NS - 2 * crate::time::MS_NS);
    assert!(!silent.is_closed());
    world.turn();
    assert!(silent.is_closed());
}

#[test]
fn a_flood_from_one_address_closes_its_own_oldest() {
    let mut world = World::new(1);
    let other = world.connect("198.51.100.77:1000");
    let flood: Vec<_> = (0..LOGINS_MAX + 20)
        .map(|port| {
            world.turn();
            world.connect(&format!("203.0.113.5:{}", 1000 + port))
        })
        .collect();
    let closed: Vec<_> = flood.iter().map(|cable| cable.is_closed()).collect();
    assert_eq!(closed.iter().filter(|&&closed| closed).count(), 21);
    assert!(closed[..21].iter().all(|&closed| closed), "the oldest");
    other.write(&login(1, 0, 1, &normal(ALICE)));
    world.turn();
    assert_eq!(status(&other.read()), SUCCESS);
}

#[test]
fn discovery_tells_the_address_it_was_reached_at_and_ends_when_idle() {
    let mut world = World::new(1);
    let cable = world.connect("203.0.113.5:40000");
    cable.write(&login(1, 0, 1, &format!("InitiatorName={ALICE}\0SessionType=Discovery\0")));
    world.turn();
    assert_eq!(status(&cable.read()), SUCCESS);
    let mut text = vec![0x04, 0x80];
    text.resize(48, 0);
    text[19] = 78;
    text[20..24].fill(0xff);
    text[27] = 9;
    cable.write(&with_text(text, "SendTargets=All\0"));
    world.turn();
    let answer = cable.read();
    assert_eq!(answer[0], 0x24);
    let told = String::from_utf8_lossy(&answer[48..]);
    assert_eq!(
        told.trim_end_matches('\0').split('\0').collect::<Vec<_>>(),
        [
            "TargetName=iqn.2026-11.io.example:t",
            "TargetAddress=192.0.2.1:3260,1",
            "TargetAddress=198.51.100.9:3261,1"
        ]
    );
    world.pass(DISCOVERY_IDLE_NS - SECOND_NS);
    assert!(!cable.is_closed());
    world.pass(2 * SECOND_NS);
    assert!(cable.is_closed());
    assert_eq!(world.control.next_deadline(), None);
}

/// Logs in twice on two reactors, and asks by the first session.
fn ask_tmf(world: &mut World, request: TmfAsk) -> (TmfTicket, [SessionId; 2]) {
    world.log_in(ALICE, 1);
    world.log_in(ALICE, 2);
    let sessions = [world.adopt(0).session, world.adopt(1).session];
    let ticket = TmfTicket { conn: Key { index: 3, generation: 4 }, itt: 5 };
    world.tell(ToControl::Tmf { reactor: ReactorId(0), ticket, session: sessions[0], request });
    (ticket, sessions)
}

fn acknowledge(world: &mut World, reactor: u16, is_clean: bool) -> Change {
    let Some(ToReactor::Barrier { id, change }) = world.reactors[usize::from(reactor)].receive() else {
        panic!("a barrier");
    };
    world.tell(ToControl::BarrierDone { id, reactor: ReactorId(reactor), is_clean });
    change
}

#[test]
fn a_sign_of_life_is_one_of_every_reactor() {
    let mut world = World::new(2);
    let (all, turned) = std::sync::mpsc::channel();
    world.control.await_turns(Done::new(move |outcome| all.send(outcome.is_clean).unwrap()));
    world.turn();
    assert!(matches!(acknowledge(&mut world, 1, true), Change::Nothing));
    assert!(turned.try_recv().is_err(), "the other one has not turned");
    assert!(matches!(acknowledge(&mut world, 0, true), Change::Nothing));
    assert_eq!(turned.try_recv(), Ok(true));
}

#[test]
fn a_unit_reset_is_answered_after_every_reactor() {
    let mut world = World::new(2);
    let (ticket, _) = ask_tmf(&mut world, TmfAsk::UnitReset(LunNumber(5)));
    let change = acknowledge(&mut world, 0, true);
    let Change::Reset { units, attention } = change else { panic!("{change:?}") };
    assert_eq!((units.len(), attention), (1, Ua::UnitReset));
    assert!(world.reactors[0].receive().is_none(), "the other reactor has not drained yet");
    acknowledge(&mut world, 1, false);
    for reactor in [0, 1] {
        assert!(matches!(acknowledge(&mut world, reactor, true), Change::Nothing));
    }
    let answer = world.reactors[0].receive();
    assert!(
        matches!(answer, Some(ToReactor::TmfEnded { asked, outcome: TmfOutcome::Rejected }) if asked == ticket),
        "{answer:?}"
    );
}

#[test]
fn a_target_reset_concerns_what_the_nexus_finds() {
    let mut world = World::new(1);
    world.control.register_bdev(world::bdev(1)).unwrap();
    let lun = ("disk1".to_owned(), LunNumber(3), false);
    world.control.set_lun_map(world::TARGET, 1, Some(&[lun]), Done::nobody()).unwrap();
    let Some(ToReactor::AddUnit { view, .. }) = world.reactors[0].receive() else { panic!("a unit") };
    while world.reactors[0].receive().is_some() {}
    world.log_in(ALICE, 1);
    let session = world.adopt(0).session;
    let ticket = TmfTicket { conn: Key { index: 3, generation: 4 }, itt: 5 };
    for request in [TmfAsk::TargetWarmReset, TmfAsk::TargetColdReset] {
        world.tell(ToControl::Tmf { reactor: ReactorId(0), ticket, session, request });
        let change = acknowledge(&mut world, 0, true);
        let Change::Reset { units, attention } = change else { panic!("{change:?}") };
        assert_eq!(
            (&units[..], attention),
            (&[view.id][..], Ua::TargetReset),
            "not what everybody else finds"
        );
        assert!(matches!(world.reactors[0].receive(), Some(ToReactor::TmfEnded { .. })));
    }
}

#[test]
fn a_cold_reset_ends_the_targets_sessions_after_its_answer() {
    let mut world = World::new(2);
    let (_, sessions) = ask_tmf(&mut world, TmfAsk::TargetColdReset);
    acknowledge(&mut world, 1, true);
    acknowledge(&mut world, 0, true);
    assert!(matches!(
        world.reactors[0].receive(),
        Some(ToReactor::TmfEnded { outcome: TmfOutcome::Complete, .. })
    ));
    for (reactor, expected) in world.reactors.iter().zip(sessions) {
        let ended = reactor.receive();
        assert!(
            matches!(ended, Some(ToReactor::EndSession { session, reason: EndReason::Removed }) if session == expected)
        );
    }
}

#[test]
fn removing_a_lun_is_told_to_every_reactor_and_to_later_sessions() {
    let mut world = World::new(2);
    world.control.remove_lun(world::TARGET, LunNumber(0), Done::nobody()).unwrap();
    for reactor in 0..2 {
        let change = acknowledge(&mut world, reactor, true);
        let Change::Target { target, attention, .. } = change else { panic!("{change:?}") };
        assert_eq!((target.mappings.len(), attention), (1, Some(Ua::LunsChanged)));
    }
    world.log_in(ALICE, 1);
    assert_eq!(world.adopt(0).target.mappings.len(), 1);
}

#[test]
fn stopping_closes_logins_and_waits_for_the_reactors() {
    let mut world = World::new(2);
    let cable = world.connect("203.0.113.5:40000");
    world.control.drain(world.now());
    assert!(cable.is_closed());
    for reactor in &world.reactors {
        assert!(matches!(reactor.receive(), Some(ToReactor::Drain { seconds: DRAIN_SECONDS })));
    }
    world.tell(ToControl::Stopped { reactor: ReactorId(0) });
    assert!(!world.control.has_stopped());
    world.tell(ToControl::Stopped { reactor: ReactorId(1) });
    assert!(world.control.has_stopped());
}

#[test]
fn a_reactor_that_does_not_stop_is_given_up_in_bounded_time() {
    let mut world = World::new(2);
    world.control.drain(world.now());
    world.tell(ToControl::Stopped { reactor: ReactorId(0) });
    world.pass(u64::from(DRAIN_SECONDS) * SECOND_NS);
    assert!(matches!(world.reactors[1].receive(), Some(ToReactor::Drain { .. })));
    assert!(matches!(world.reactors[1].receive(), Some(ToReactor::Stop)));
    assert!(!world.control.has_stopped());
    world.pass(STOP_NS);
    assert!(world.control.has_stopped());
    assert_eq!(world.control.running(), [ReactorId(1)]);
}
