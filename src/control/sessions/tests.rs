//! Orders in which sessions of one nexus begin, end and drain.

use super::*;
use crate::iscsi::negotiate::DEFAULTS;
use crate::iscsi::sn::Sn;
use crate::limits::KNOWN_NEXUSES_MAX;

fn nexus(initiator: &str, isid: u8) -> Nexus {
    Nexus {
        initiator: initiator.to_owned(),
        isid: [0, 2, 0x3d, 0, 0, isid],
        target: "iqn.t".to_owned(),
        portal_group: 1,
    }
}

fn conn(index: u32) -> Key {
    Key { index, generation: 0 }
}

fn origin() -> Origin {
    let address = ([192, 0, 2, 1], 1).into();
    Origin { peer: address, local: address, portal_group: 1 }
}

fn first() -> Joined {
    Joined { params: DEFAULTS, exp_cmd_sn: Sn(1) }
}

fn open(sessions: &mut Sessions, nexus: Nexus, index: u32) -> SessionId {
    sessions.open(nexus, 1, conn(index), origin(), first()).unwrap().0
}

fn steps(sessions: &mut Sessions) -> Vec<Step> {
    std::iter::from_fn(|| sessions.next_step()).collect()
}

const R0: ReactorId = ReactorId(0);

#[test]
fn a_drained_predecessor_leaves_no_gate() {
    let mut sessions = Sessions::new(1, SESSIONS_MAX);
    let old = open(&mut sessions, nexus("a", 1), 1);
    assert!(sessions.admit(old).is_some());
    sessions.ended(old);
    sessions.drained(old);
    assert_eq!(sessions.count(), 0);
    let new = open(&mut sessions, nexus("a", 1), 2);
    let admission = sessions.admit(new).unwrap();
    assert_eq!((admission.is_gated, admission.attention), (false, Ua::NexusLoss));
    assert_eq!(steps(&mut sessions), []);
}

#[test]
fn the_predecessor_may_drain_while_the_login_is_finished() {
    let mut sessions = Sessions::new(1, SESSIONS_MAX);
    let old = open(&mut sessions, nexus("a", 1), 1);
    assert!(sessions.admit(old).is_some());
    let new = open(&mut sessions, nexus("a", 1), 2);
    assert_eq!(steps(&mut sessions), [Step::End(R0, old, EndReason::Reinstated)]);
    sessions.ended(old);
    assert_eq!(steps(&mut sessions), [Step::Proceed(conn(2))]);
    sessions.drained(old);
    assert!(!sessions.admit(new).unwrap().is_gated);
    assert_eq!(steps(&mut sessions), []);
}

#[test]
fn a_gate_opens_when_the_last_of_all_predecessors_has_drained() {
    let mut sessions = Sessions::new(1, SESSIONS_MAX);
    let first = open(&mut sessions, nexus("a", 1), 1);
    assert!(sessions.admit(first).is_some());
    let second = open(&mut sessions, nexus("a", 1), 2);
    sessions.ended(first);
    assert!(sessions.admit(second).unwrap().is_gated);
    let third = open(&mut sessions, nexus("a", 1), 3);
    steps(&mut sessions);
    assert_eq!(sessions.admit(third), None);
    sessions.ended(second);
    assert_eq!(steps(&mut sessions), [Step::Proceed(conn(3))]);
    assert!(sessions.admit(third).unwrap().is_gated);
    sessions.drained(second);
    assert_eq!(steps(&mut sessions), [], "the first session's IO is out still");
    sessions.drained(first);
    assert_eq!(steps(&mut sessions), [Step::OpenGate(R0, third)]);
}

#[test]
fn a_session_that_ended_by_itself_meanwhile_is_not_waited_for_twice() {
    let mut sessions = Sessions::new(1, SESSIONS_MAX);
    let old = open(&mut sessions, nexus("a", 1), 1);
    assert!(sessions.admit(old).is_some());
    sessions.ended(old);
    let new = open(&mut sessions, nexus("a", 1), 2);
    assert_eq!(steps(&mut sessions), []);
    assert!(sessions.admit(new).unwrap().is_gated);
}

#[test]
fn a_login_that_breaks_leaves_nothing() {
    let mut sessions = Sessions::new(1, SESSIONS_MAX);
    let id = open(&mut sessions, nexus("a", 1), 1);
    sessions.withdraw(id);
    assert_eq!((sessions.count(), sessions.of_target("iqn.t").len()), (0, 0));
    let again = open(&mut sessions, nexus("a", 1), 2);
    assert_eq!(sessions.admit(again).unwrap().attention, Ua::PowerOnOrReset, "the nexus never was");
}

#[test]
fn withdrawing_does_not_end_a_session_that_runs() {
    let mut sessions = Sessions::new(1, SESSIONS_MAX);
    let id = open(&mut sessions, nexus("a", 1), 1);
    assert!(sessions.admit(id).is_some());
    sessions.withdraw(id);
    assert!(sessions.get(id).is_some());
}

#[test]
fn messages_about_strangers_change_nothing() {
    let mut sessions = Sessions::new(1, SESSIONS_MAX);
    let id = open(&mut sessions, nexus("a", 1), 1);
    sessions.ended(id);
    sessions.drained(id);
    sessions.ended(SessionId(99));
    sessions.drained(SessionId(99));
    assert_eq!(sessions.get(id).unwrap().state, State::Entering(conn(1)));
}

#[test]
fn tsihs_are_never_zero_nor_shared() {
    let mut sessions = Sessions::new(1, SESSIONS_MAX);
    let (_, kept) = sessions.open(nexus("a", 1), 1, conn(1), origin(), first()).unwrap();
    for _ in 0..u32::from(u16::MAX) + 10 {
        let (_, tsih) = sessions.open_discovery();
        assert!(tsih != 0 && tsih != kept);
        sessions.release_tsih(tsih);
    }
}

#[test]
fn sessions_are_bounded_until_they_have_drained() {
    let mut sessions = Sessions::new(2, SESSIONS_MAX);
    let ids: Vec<SessionId> = (0..SESSIONS_MAX)
        .map(|index| {
            let id = open(&mut sessions, nexus(&format!("i{index}"), 1), 1);
            sessions.admit(id).unwrap();
            sessions.ended(id);
            id
        })
        .collect();
    assert_eq!(sessions.open(nexus("late", 1), 1, conn(1), origin(), first()), Err(Refusal::OutOfResources));
    sessions.drained(ids[0]);
    assert!(sessions.open(nexus("late", 1), 1, conn(1), origin(), first()).is_ok());
}

#[test]
fn old_nexuses_are_forgotten_in_order() {
    let mut sessions = Sessions::new(1, SESSIONS_MAX);
    let mut visit = |initiator: &str| {
        let id = open(&mut sessions, nexus(initiator, 1), 1);
        let attention = sessions.admit(id).unwrap().attention;
        sessions.ended(id);
        sessions.drained(id);
        sessions.forget(|_| false);
        attention
    };
    assert_eq!(visit("first"), Ua::PowerOnOrReset);
    for index in 0..KNOWN_NEXUSES_MAX - 1 {
        visit(&format!("i{index}"));
    }
    assert_eq!(visit("first"), Ua::NexusLoss);
    assert_eq!(visit("one more"), Ua::PowerOnOrReset);
    assert_eq!(visit("first"), Ua::PowerOnOrReset);
}

#[test]
fn one_target_is_spread_over_reactors() {
    let mut sessions = Sessions::new(2, SESSIONS_MAX);
    let ids: Vec<SessionId> =
        (0u8..4).map(|isid| open(&mut sessions, nexus("a", isid), u32::from(isid))).collect();
    let reactors: Vec<u16> = ids.iter().map(|id| sessions.get(*id).unwrap().reactor.0).collect();
    assert_eq!(reactors, [0, 1, 0, 1]);
}
