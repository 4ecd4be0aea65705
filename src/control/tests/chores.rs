//! SANITIZE and what hosts write down: in which order things happen, and what the next life knows.

use serde_json::json;

use super::acknowledge;
use super::reserve::{Peer, answer, silent, ticket};
use super::saving::{Slow, keeping};
use super::world::World;
use crate::control::done::Done;
use crate::control::store::Records;
use crate::id::{ReactorId, UnitId};
use crate::limits::{SAVE_NS, SAVE_RETRY_NS};
use crate::reactor::message::{Ask, Change, ToControl, ToReactor};
use crate::scsi::attention::Ua;
use crate::scsi::cdb::Cdb;
use crate::scsi::chore::End;
use crate::scsi::sense::Sense;
use crate::scsi::view::{Medium, UnitView};
use crate::scsi::{Outcome, Status};

const SANITIZE: &str = "sanitize/01010101-0101-0101-0101-010101010101";

fn ask(world: &mut World, peer: Peer, cdb: &[u8], parameters: &[u8]) {
    let mut bytes = [0; 16];
    bytes[..cdb.len()].copy_from_slice(cdb);
    world.tell(ToControl::Ask(Box::new(Ask {
        reactor: ReactorId(peer.reactor),
        ticket: ticket(1),
        session: peer.session,
        unit: UnitId(0),
        cdb: Cdb::new(bytes),
        parameters: parameters.into(),
    })));
}

/// SANITIZE, OVERWRITE with these bits.
fn sanitize(world: &mut World, peer: Peer, options: u8) {
    ask(world, peer, &[0x48, options | 0x01, 0, 0, 0, 0, 0, 0, 5], &[1, 0, 0, 1, 7]);
}

/// Both reactors show the unit's new view.
#[track_caller]
pub(super) fn shown(world: &mut World, is_drained: bool) -> (UnitView, Option<Ua>) {
    let [change, other] = [0, 1].map(|reactor| acknowledge(world, reactor, true));
    let (Change::Unit { view, attention, is_drained: drained, .. }, Change::Unit { view: same, .. }) =
        (change, other)
    else {
        panic!("two views")
    };
    assert_eq!((&view, drained), (&same, is_drained));
    (UnitView::clone(&view), attention)
}

/// A sanitize that is being done.
fn begun(options: u8) -> (World, Slow, Peer, ToControl) {
    let (mut world, slow, alice, _) = keeping(Records::new());
    sanitize(&mut world, alice, options);
    silent(&world);
    let records = slow.write(&mut world);
    assert_eq!(records[SANITIZE], json!({ "may_exit": options & 0x20 != 0 }));
    let (view, attention) = shown(&mut world, true);
    assert_eq!((view.medium, attention), (Medium::Busy, None));
    if options & 0x80 != 0 {
        assert_eq!(answer(&world, alice), (1, Outcome::GOOD));
    }
    let Some(ToReactor::Chore { unit, chore }) = world.reactors[0].receive() else { panic!("a chore") };
    silent(&world);
    (world, slow, alice, ToControl::ChoreEnded { unit, chore, end: End::Done })
}

#[test]
fn it_is_saved_shown_done_shown_and_answered() {
    let (mut world, slow, alice, ended) = begun(0x00);
    sanitize(&mut world, alice, 0x80);
    let sense = Sense { progress: Some(0), ..Sense::SANITIZE_IN_PROGRESS };
    assert_eq!(answer(&world, alice), (1, Outcome::check(sense)), "one at a time");
    world.tell(ended);
    silent(&world);
    assert!(!slow.write(&mut world).contains_key(SANITIZE), "before anybody is told");
    let (view, attention) = shown(&mut world, false);
    assert_eq!((view.medium, attention), (Medium::Ready, None));
    assert_eq!(answer(&world, alice), (1, Outcome::GOOD));
}

#[test]
fn who_waits_may_be_aborted_and_it_is_not() {
    let (mut world, slow, alice, ended) = begun(0x00);
    world.tell(ToControl::Withdraw { reactor: ReactorId(0), ticket: ticket(1), unit: UnitId(0) });
    assert_eq!(answer(&world, alice), (1, Outcome::of(Status::TaskAborted)));
    world.tell(ended);
    slow.write(&mut world);
    assert_eq!(shown(&mut world, false).0.medium, Medium::Ready);
    silent(&world);
}

#[test]
fn who_is_aborted_or_shut_out_before_it_begins_has_none() {
    let (mut world, slow, alice, _) = keeping(Records::new());
    sanitize(&mut world, alice, 0x00);
    world.tell(ToControl::Withdraw { reactor: ReactorId(0), ticket: ticket(1), unit: UnitId(0) });
    assert_eq!(answer(&world, alice), (1, Outcome::of(Status::TaskAborted)));
    slow.write(&mut world);
    silent(&world);
    assert_eq!(world.control.store.get(SANITIZE), None);

    let (mut world, slow, alice, bob) = keeping(Records::new());
    sanitize(&mut world, alice, 0x00);
    // RESERVE (6).
    ask(&mut world, bob, &[0x16, 0, 0, 0, 0, 0], &[]);
    for reactor in [0, 1] {
        acknowledge(&mut world, reactor, true);
    }
    assert_eq!(answer(&world, bob), (1, Outcome::GOOD));
    slow.write(&mut world);
    assert_eq!(answer(&world, alice), (1, Outcome::of(Status::ReservationConflict)));
    silent(&world);
}

#[test]
fn a_unit_that_goes_answers_who_waits_and_begins_nothing_more() {
    let (mut world, _slow, alice, _) = begun(0x00);
    world.control.unregister_bdev("disk0", Done::nobody()).unwrap();
    assert_eq!(answered(&world, alice), Outcome::check(Sense::NO_SUCH_UNIT));
    sanitize(&mut world, alice, 0x00);
    assert_eq!(answered(&world, alice), Outcome::check(Sense::NO_SUCH_UNIT));
    assert!(world.control.store.get(SANITIZE).is_some(), "what had begun is known in the next life");

    let (mut world, _, alice, _) = keeping(Records::new());
    world.control.unregister_bdev("disk0", Done::nobody()).unwrap();
    sanitize(&mut world, alice, 0x00);
    assert_eq!(answered(&world, alice), Outcome::check(Sense::NO_SUCH_UNIT));
    assert_eq!(world.control.store.get(SANITIZE), None, "nothing has");
}

/// What the reactor of `peer` is told of its command, among whatever else it is told.
pub(super) fn answered(world: &World, peer: Peer) -> Outcome {
    loop {
        match world.reactors[usize::from(peer.reactor)].receive() {
            Some(ToReactor::Answered { outcome, .. }) => return outcome,
            Some(_) => {}
            None => panic!("no answer"),
        }
    }
}

/// Its parameter list was on its way when the SANITIZE failed.
#[test]
fn a_format_is_no_way_out_of_a_sanitize_that_has_failed() {
    let (mut world, _slow, alice, ended) = begun(0x80);
    let ToControl::ChoreEnded { unit, chore, .. } = ended else { panic!() };
    world.tell(ToControl::ChoreEnded { unit, chore, end: End::Failed });
    assert_eq!(shown(&mut world, false).0.medium, Medium::Failed);
    ask(&mut world, alice, &[0x04, 0x10], &[0; 4]);
    assert_eq!(answer(&world, alice), (1, Outcome::check(Sense::SANITIZE_FAILED)));
    silent(&world);
    sanitize(&mut world, alice, 0x00);
    assert!(world.control.store.get(SANITIZE).is_some(), "another SANITIZE is one");
}

/// It was smaller for a while, and a block beyond its end was asked for.
#[test]
fn one_that_met_a_smaller_disk_is_done_again_though_that_is_as_large_as_before() {
    let (mut world, _slow, _, ended) = begun(0x80);
    let ToControl::ChoreEnded { unit, chore, .. } = ended else { panic!() };
    world.tell(ToControl::ChoreEnded { unit, chore, end: End::Refused });
    assert_eq!(shown(&mut world, false).0.medium, Medium::Busy);
    let Some(ToReactor::Chore { unit, chore }) = world.reactors[0].receive() else { panic!("once more") };
    world.tell(ToControl::ChoreEnded { unit, chore, end: End::Failed });
    assert_eq!(shown(&mut world, false).0.medium, Medium::Failed);
}

#[test]
fn what_cannot_be_saved_does_not_begin() {
    let (mut world, slow, alice, _) = keeping(Records::new());
    sanitize(&mut world, alice, 0x80);
    slow.refuse(&mut world);
    assert_eq!(answer(&world, alice), (1, Outcome::check(Sense::INTERNAL_FAILURE)));
    silent(&world);
}

#[test]
fn one_that_is_done_does_not_fail_because_that_cannot_be_saved_yet() {
    let (mut world, slow, alice, ended) = begun(0x00);
    world.tell(ended);
    slow.refuse(&mut world);
    silent(&world);
    world.pass(SAVE_RETRY_NS);
    // A write that takes too long.
    world.pass(SAVE_NS);
    silent(&world);
    assert!(!slow.write(&mut world).contains_key(SANITIZE));
    assert_eq!(shown(&mut world, false).0.medium, Medium::Ready);
    assert_eq!(answer(&world, alice), (1, Outcome::GOOD));
}

#[test]
fn the_next_life_knows_that_one_did_not_end() {
    let medium = |world: &World| world.control.catalog.registry.view(UnitId(0)).unwrap().medium;
    let (mut world, _, alice, _) = keeping([(SANITIZE.to_owned(), json!({ "may_exit": false }))].into());
    assert_eq!(medium(&world), Medium::Failed);
    let exit = [0x48, 0x1f];
    ask(&mut world, alice, &exit, &[]);
    assert_eq!(answer(&world, alice), (1, Outcome::check(Sense::invalid_bit(1, 4))));

    let (mut world, slow, alice, _) = keeping([(SANITIZE.to_owned(), json!({ "may_exit": true }))].into());
    ask(&mut world, alice, &exit, &[]);
    assert_eq!(shown(&mut world, false).0.medium, Medium::Ready);
    assert_eq!(answer(&world, alice), (1, Outcome::GOOD));
    assert!(!slow.write(&mut world).contains_key(SANITIZE));
}
