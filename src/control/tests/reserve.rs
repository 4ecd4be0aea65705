//! Reservations, decided by control.

use super::acknowledge;
use super::world::{ALICE, World};
use crate::control::done::Done;
use crate::id::{NexusId, ReactorId, SessionId, UnitId};
use crate::reactor::message::{
    Adopt, Ask, Change, Reserve, TaskTicket, TmfAsk, TmfTicket, ToControl, ToReactor,
};
use crate::scsi::attention::Ua;
use crate::scsi::cdb::Cdb;
use crate::scsi::reserve::Class;
use crate::scsi::sense::Sense;
use crate::scsi::view::{LunNumber, Medium};
use crate::scsi::{Outcome, Status};
use crate::slab::Key;

pub(super) const BOB: &str = "iqn.2026-11.io.example:bob";
const CONFLICT: Outcome = Outcome::of(Status::ReservationConflict);

/// PERSISTENT RESERVE OUT.
pub(super) const REGISTER: u8 = 0;
pub(super) const RESERVE: u8 = 1;
const PREEMPT_AND_ABORT: u8 = 5;

/// A session as control has handed it over.
#[derive(Clone, Copy)]
pub(super) struct Peer {
    pub(super) reactor: u16,
    pub(super) session: SessionId,
    pub(super) nexus: NexusId,
}

pub(super) fn log_in(world: &mut World, initiator: &str, reactor: u16) -> (Peer, Vec<(UnitId, Ua)>) {
    world.log_in(initiator, 1);
    let Adopt { session, nexus, owed, .. } = world.adopt(usize::from(reactor));
    (Peer { reactor, session, nexus }, owed)
}

/// Two reactors, Alice at the first and Bob at the second.
fn world() -> (World, Peer, Peer) {
    let mut world = World::new(2);
    let (alice, bob) = (log_in(&mut world, ALICE, 0).0, log_in(&mut world, BOB, 1).0);
    (world, alice, bob)
}

pub(super) fn ticket(task: u32) -> TaskTicket {
    TaskTicket { conn: Key { index: 3, generation: 4 }, task: Key { index: task, generation: 6 } }
}

fn ask(world: &mut World, peer: Peer, task: u32, cdb: &[u8], keys: [u64; 2]) {
    let mut bytes = [0; 16];
    bytes[..cdb.len()].copy_from_slice(cdb);
    let mut list = keys.map(u64::to_be_bytes).concat();
    list.resize(24, 0);
    world.tell(ToControl::Ask(Box::new(Ask {
        reactor: ReactorId(peer.reactor),
        ticket: ticket(task),
        session: peer.session,
        unit: UnitId(0),
        cdb: Cdb::new(bytes),
        parameters: list.into(),
    })));
}

/// PERSISTENT RESERVE OUT, of type Write Exclusive.
fn out(world: &mut World, peer: Peer, task: u32, action: u8, keys: [u64; 2]) {
    ask(world, peer, task, &[0x5f, action, 1, 0, 0, 0, 0, 0, 24, 0], keys);
}

#[track_caller]
pub(super) fn answer(world: &World, peer: Peer) -> (u32, Outcome) {
    match world.reactors[usize::from(peer.reactor)].receive() {
        Some(ToReactor::Answered { asked, outcome, flushes: None }) => (asked.task.index, outcome),
        other => panic!("no answer but {other:?}"),
    }
}

#[track_caller]
pub(super) fn silent(world: &World) {
    for reactor in &world.reactors {
        let message = reactor.receive();
        assert!(message.is_none(), "{message:?}");
    }
}

/// Both reactors put a change in force.
#[track_caller]
pub(super) fn in_force(world: &mut World, is_clean: bool) -> Reserve {
    let [change, other] = [0, 1].map(|reactor| acknowledge(world, reactor, is_clean));
    let (Change::Reservations(change), Change::Reservations(other)) = (change, other) else { panic!() };
    assert_eq!(change.view, other.view);
    change
}

fn done(world: &mut World, peer: Peer, action: u8, keys: [u64; 2]) -> Reserve {
    out(world, peer, 1, action, keys);
    let change = in_force(world, true);
    assert_eq!(answer(world, peer), (1, Outcome::GOOD));
    change
}

#[test]
fn only_what_takes_away_waits_for_devices() {
    let (mut world, alice, bob) = world();
    assert!(!done(&mut world, alice, REGISTER, [0, 7]).is_drained);
    let change = done(&mut world, alice, RESERVE, [7, 0]);
    assert!(change.is_drained);
    assert!(change.view.permits.allows(alice.nexus, Class::Write));
    assert!(!change.view.permits.allows(bob.nexus, Class::Write));
    out(&mut world, bob, 2, RESERVE, [7, 0]);
    assert_eq!(answer(&world, bob), (2, CONFLICT));
    // What changes nothing asks no reactor.
    out(&mut world, alice, 3, RESERVE, [7, 0]);
    assert_eq!(answer(&world, alice), (3, Outcome::GOOD));
    silent(&world);
}

/// The view that both reactors are shown.
#[track_caller]
fn shown(world: &mut World) -> Medium {
    let [change, other] = [0, 1].map(|reactor| acknowledge(world, reactor, true));
    let (Change::Unit { view, attention, is_drained, .. }, Change::Unit { view: same, .. }) = (change, other)
    else {
        panic!()
    };
    assert_eq!((attention, is_drained), (None, false));
    assert_eq!(view, same);
    view.medium
}

#[test]
fn a_device_that_keeps_an_io_is_told_and_the_new_state_holds() {
    let (mut world, alice, bob) = world();
    let unsettled =
        |reactor, is_so| ToControl::Unsettled { unit: UnitId(0), reactor: ReactorId(reactor), is_so };
    done(&mut world, alice, REGISTER, [0, 7]);
    out(&mut world, alice, 2, RESERVE, [7, 0]);
    acknowledge(&mut world, 0, true);
    world.tell(unsettled(1, true));
    world.tell(unsettled(0, true));
    acknowledge(&mut world, 1, false);
    // Everybody finds the unit not ready before anybody is answered.
    assert_eq!(shown(&mut world), Medium::Unsettled);
    assert!(matches!(acknowledge(&mut world, 1, true), Change::Nothing));
    assert!(matches!(acknowledge(&mut world, 0, true), Change::Nothing));
    assert_eq!(answer(&world, alice), (2, Outcome::check(Sense::INTERNAL_FAILURE)));
    let permits = &world.control.catalog.registry.view(UnitId(0)).unwrap().permits;
    assert!(!permits.allows(bob.nexus, Class::Write));
    // A new view of it changes nothing there: the device keeps what it keeps.
    world.control.reread_bdev("disk0", Done::nobody()).unwrap();
    world.turn();
    for reactor in [0, 1] {
        let change = acknowledge(&mut world, reactor, true);
        let Change::Unit { view, attention: None, is_drained: true, .. } = change else {
            panic!("{change:?}")
        };
        assert_eq!(view.medium, Medium::Unsettled);
    }
    world.tell(unsettled(0, false));
    silent(&world);
    world.tell(unsettled(1, false));
    assert_eq!(shown(&mut world), Medium::Ready);
    silent(&world);
}

#[test]
fn one_change_after_the_other_in_order() {
    let (mut world, alice, bob) = world();
    out(&mut world, alice, 1, REGISTER, [0, 7]);
    out(&mut world, alice, 2, REGISTER, [7, 8]);
    out(&mut world, bob, 3, REGISTER, [9, 9]);
    out(&mut world, bob, 4, REGISTER, [0, 9]);
    assert_eq!(in_force(&mut world, true).by, Some((ReactorId(0), ticket(1))));
    assert_eq!(answer(&world, alice), (1, Outcome::GOOD));
    assert_eq!(in_force(&mut world, true).by, Some((ReactorId(0), ticket(2))));
    assert_eq!(answer(&world, alice), (2, Outcome::GOOD));
    assert_eq!(answer(&world, bob), (3, CONFLICT));
    in_force(&mut world, true);
    assert_eq!(answer(&world, bob), (4, Outcome::GOOD));
    silent(&world);
}

#[test]
fn who_is_aborted_changes_nothing_until_that_is_over() {
    let (mut world, alice, bob) = world();
    done(&mut world, alice, REGISTER, [0, 7]);
    done(&mut world, bob, REGISTER, [0, 9]);
    out(&mut world, bob, 1, REGISTER, [9, 10]);
    out(&mut world, alice, 2, 6, [0, 7]);
    // Decided before Alice's next, which was on its way when its reactor gave it up.
    let change = in_force(&mut world, true);
    assert!(change.aborts.is_empty());
    assert_eq!(answer(&world, bob), (1, Outcome::GOOD));
    in_force(&mut world, true);
    assert_eq!(answer(&world, alice), (2, Outcome::GOOD));
    out(&mut world, bob, 3, PREEMPT_AND_ABORT, [10, 7]);
    out(&mut world, alice, 4, 6, [0, 7]);
    assert_eq!(*in_force(&mut world, true).aborts, [alice.nexus]);
    assert_eq!(answer(&world, bob), (3, Outcome::GOOD));
    assert_eq!(answer(&world, alice), (4, Outcome::of(Status::Busy)));
    silent(&world);
}

#[test]
fn what_a_session_that_is_over_has_asked_does_not_happen() {
    let (mut world, alice, bob) = world();
    out(&mut world, bob, 1, REGISTER, [0, 9]);
    out(&mut world, alice, 2, REGISTER, [0, 7]);
    world.ended(alice.session);
    in_force(&mut world, true);
    assert_eq!(answer(&world, bob), (1, Outcome::GOOD));
    silent(&world);
}

#[test]
fn a_nexus_without_a_session_is_told_at_its_next_login() {
    let (mut world, alice, bob) = world();
    done(&mut world, alice, REGISTER, [0, 7]);
    done(&mut world, bob, REGISTER, [0, 9]);
    world.ended(alice.session);
    world.drained(alice.session);
    let change = done(&mut world, bob, 4, [9, 7]);
    assert_eq!(*change.attentions, [(alice.nexus, Ua::RegistrationsPreempted)]);
    let (again, owed) = log_in(&mut world, ALICE, 0);
    assert_eq!(again.nexus, alice.nexus, "the same number");
    assert_eq!(owed, [(UnitId(0), Ua::RegistrationsPreempted)]);
}

#[test]
fn who_was_to_be_told_and_has_gone_meanwhile_is_told_at_its_next_login() {
    let (mut world, alice, bob) = world();
    done(&mut world, alice, REGISTER, [0, 7]);
    done(&mut world, bob, REGISTER, [0, 9]);
    out(&mut world, bob, 1, 4, [9, 7]);
    // Decided, and on its way to Alice's reactor, which finds nobody to tell.
    world.ended(alice.session);
    world.drained(alice.session);
    in_force(&mut world, true);
    assert_eq!(answer(&world, bob), (1, Outcome::GOOD));
    let (again, owed) = log_in(&mut world, ALICE, 0);
    assert_eq!((again.nexus, owed), (alice.nexus, vec![(UnitId(0), Ua::RegistrationsPreempted)]));
}

#[test]
fn what_is_aborted_before_it_is_decided_does_not_happen() {
    let (mut world, alice, bob) = world();
    out(&mut world, bob, 1, REGISTER, [0, 9]);
    out(&mut world, alice, 2, REGISTER, [0, 7]);
    out(&mut world, alice, 3, REGISTER, [0, 8]);
    let withdraw =
        |task| ToControl::Withdraw { reactor: ReactorId(0), ticket: ticket(task), unit: UnitId(0) };
    world.tell(withdraw(2));
    // Too late for one that is decided: it will be answered in its time. Nobody knows of another.
    world.tell(ToControl::Withdraw { reactor: ReactorId(1), ticket: ticket(1), unit: UnitId(0) });
    world.tell(withdraw(4));
    in_force(&mut world, true);
    assert_eq!(answer(&world, alice), (2, Outcome::of(Status::TaskAborted)));
    assert_eq!(answer(&world, bob), (1, Outcome::GOOD));
    in_force(&mut world, true);
    assert_eq!(answer(&world, alice), (3, Outcome::GOOD));
    let permits = &world.control.catalog.registry.view(UnitId(0)).unwrap().permits;
    assert!(permits.state().names(alice.nexus));
    silent(&world);
}

#[test]
fn what_reserve_took_is_free_when_its_session_ends() {
    let (mut world, alice, bob) = world();
    ask(&mut world, alice, 1, &[0x16], [0, 0]);
    assert!(!in_force(&mut world, true).view.permits.allows(bob.nexus, Class::Read));
    assert_eq!(answer(&world, alice), (1, Outcome::GOOD));
    ask(&mut world, bob, 2, &[0x16], [0, 0]);
    assert_eq!(answer(&world, bob), (2, CONFLICT));
    world.ended(alice.session);
    assert!(in_force(&mut world, true).view.permits.allows(bob.nexus, Class::Read));
    silent(&world);
}

#[test]
fn reactors_hear_that_it_is_free_before_they_reset() {
    let (mut world, alice, bob) = world();
    ask(&mut world, alice, 1, &[0x16], [0, 0]);
    in_force(&mut world, true);
    answer(&world, alice);
    world.tell(ToControl::Tmf {
        reactor: ReactorId(1),
        ticket: TmfTicket { conn: Key { index: 1, generation: 1 }, itt: 5 },
        session: bob.session,
        request: TmfAsk::UnitReset(LunNumber(0)),
    });
    assert!(in_force(&mut world, true).view.permits.allows(bob.nexus, Class::Read));
    assert!(matches!(acknowledge(&mut world, 0, true), Change::Reset { .. }));
    assert!(matches!(acknowledge(&mut world, 1, true), Change::Reset { .. }));
    assert!(matches!(world.reactors[1].receive(), Some(ToReactor::TmfEnded { .. })));
}
