//! Reservations: PERSISTENT RESERVE OUT, RESERVE and RELEASE of several nexuses, as they come and as they should not, lost
//! nexuses and resets in any order. After each the reports have to agree with one another and with what is allowed.

mod facts;

use std::sync::{Arc, OnceLock};

use lunette::id::NexusId;
use lunette::limits::{PARAMETER_BYTES_MAX, REGISTRATIONS_MAX};
use lunette::scsi::buffers::Buffers;
use lunette::scsi::cdb::Cdb;
use lunette::scsi::copy::Results;
use lunette::scsi::reserve::{
    Class, Effect, InitiatorPort, Nexus, Permits, Refusal, Registering, Request, State,
};
use lunette::scsi::view::{LunNumber, UnitView};
use lunette::scsi::{Place, Plan, plan, report};
use lunette::time::Tick;

use super::source::Source;
use super::views;
use facts::Facts;

const STEPS_MAX: usize = 200;
/// Nexuses that send commands; those that are moved to may be others.
const SENDERS: usize = 6;
const STRANGER: NexusId = NexusId(u32::MAX);
static CROWD: OnceLock<State> = OnceLock::new();
const KEYS: [u64; 4] = [0, 1, 2, u64::MAX];
const KINDS: [u8; 6] = [1, 3, 5, 6, 7, 8];

pub(super) fn one(data: &[u8]) {
    let mut source = Source::new(data);
    let mut known: Vec<Nexus> = (0..SENDERS).map(nexus).collect();
    // Each step with a crowd takes as long as all of the others.
    let (mut state, steps_max) = match source.once_in(256) {
        true => (CROWD.get_or_init(|| crowd(&known[0])).clone(), 3),
        false => (State::new(true), STEPS_MAX),
    };
    let mut facts = Facts::of(&state);
    for _ in 0..steps_max {
        if source.is_empty() {
            break;
        }
        let from = known[source.below(SENDERS)].clone();
        let next = match source.below(16) {
            0 => state.nexus_lost(from.id).inspect(|next| assert!(next.is_free())),
            1 => state.reset().inspect(|next| assert!(next.is_free())),
            2 => {
                show(&state, &mut source);
                None
            }
            _ => command(&state, &facts, &from, &mut known, &mut source),
        };
        let Some(next) = next else { continue };
        facts = Facts::of(&next);
        facts.agree_with(&next, known.iter());
        state = next;
    }
}

/// Names of different lengths, two target ports.
fn nexus(number: usize) -> Nexus {
    let name = format!("iqn.2026-11.io.example:{}", "n".repeat(number * 40).get(..200).unwrap_or_default());
    let name = if number == 0 { "iqn.2026-11.io.example:a".to_owned() } else { name + &number.to_string() };
    let initiator = InitiatorPort::new(&name, [0x80, 0, 0, 0, 0, number as u8]);
    Nexus { id: NexusId(number as u32), initiator, target_port: 1 + number as u16 % 2 }
}

/// As many registrations as there may be; one more is refused.
fn crowd(like: &Nexus) -> State {
    let mut state = State::default();
    let register = Request::RegisterAndIgnore { new_key: 7, how: Registering::default() };
    let member = |number: usize| {
        let [.., high, low] = (number as u32).to_be_bytes();
        let initiator = InitiatorPort::new(&like.initiator.name, [0x40, 0, 0, 0, high, low]);
        Nexus { id: NexusId(1000 + number as u32), initiator, ..like.clone() }
    };
    for number in 0..REGISTRATIONS_MAX {
        state = state.out(&register, &member(number), &[]).unwrap().next.unwrap();
    }
    let refused = state.out(&register, &member(REGISTRATIONS_MAX), &[]);
    assert!(matches!(refused, Err(Refusal::Check(_))), "{refused:?}");
    state
}

/// What becomes of the state by a command, if anything.
fn command(
    state: &State,
    facts: &Facts,
    from: &Nexus,
    known: &mut Vec<Nexus>,
    source: &mut Source<'_>,
) -> Option<State> {
    let (cdb, list) = draw(known, source);
    let request = Request::read(&cdb, &list).ok()?;
    let named = named(&request, from, known);
    let effect = state.out(&request, from, &named).ok()?;
    let Some(next) = &effect.next else {
        assert_eq!(effect, Effect::default(), "{request:?} changes nothing and has an effect");
        return None;
    };
    let senders = Senders { from, named: &named };
    judge(state, facts, senders, &request, &effect, &Facts::of(next), known);
    // What is saved comes back as it was.
    if let Some(saved) = next.to_save() {
        let restored = State::restored(saved).expect("it was saved");
        assert!(restored.to_save() == next.to_save(), "{next:?}\n{restored:?}");
    }
    effect.next
}

/// A command, mostly one that makes sense.
fn draw(known: &[Nexus], source: &mut Source<'_>) -> (Cdb, Vec<u8>) {
    let mut cdb = [0; 16];
    let mut list = Vec::new();
    if source.once_in(6) {
        cdb[0] = source.pick(&[0x16, 0x17, 0x56, 0x57]);
    } else {
        (cdb[0], cdb[1], cdb[2]) = (0x5f, source.byte() % 8, source.pick(&KINDS));
        list.extend(source.pick(&KEYS).to_be_bytes());
        list.extend(source.pick(&KEYS).to_be_bytes());
        list.resize(24, 0);
        if matches!(cdb[1], 0 | 6) {
            list[20] = source.pick(&[0, 0, 0, 0x01, 0x04, 0x05]);
        }
        if cdb[1] == 0 && source.once_in(4) {
            let id = facts::transport_id(&known[source.below(known.len().min(256))]);
            list[20] |= 0x08;
            list.extend((id.len() as u32).to_be_bytes());
            list.extend(id);
        }
        if cdb[1] == 7 {
            let to = &known[source.below(known.len().min(256))];
            let id = facts::transport_id(to);
            list[17] = source.pick(&[0, 2]);
            list[18..20].copy_from_slice(&to.target_port.to_be_bytes());
            list[20..24].copy_from_slice(&(id.len() as u32).to_be_bytes());
            list.extend(id);
        }
        cdb[5..9].copy_from_slice(&(list.len() as u32).to_be_bytes());
    }
    match source.below(16) {
        0 => cdb[source.below(16)] = source.byte(),
        1 if !list.is_empty() => {
            let at = source.below(list.len().min(256));
            list[at] = source.byte();
        }
        2 => list.truncate(source.below(256)),
        _ => {}
    }
    (Cdb::new(cdb), list)
}

/// As control does: whoever is named is known from then on. The target has the ports 1 and 2.
fn named(request: &Request, from: &Nexus, known: &mut Vec<Nexus>) -> Vec<Nexus> {
    let (initiators, ports) = match request {
        Request::RegisterAndMove { initiator, target_port, .. } => {
            (vec![initiator.clone()], if [1, 2].contains(target_port) { vec![*target_port] } else { vec![] })
        }
        Request::Register { how, .. } | Request::RegisterAndIgnore { how, .. } => {
            let is_named = |nexus: &&Nexus| how.names.contains(&nexus.initiator.name);
            let by_name = known.iter().filter(is_named).map(|nexus| &nexus.initiator);
            let initiators =
                std::iter::once(&from.initiator).chain(&how.initiators).chain(by_name).cloned().collect();
            (initiators, if how.all_ports { vec![1, 2] } else { vec![from.target_port] })
        }
        _ => return Vec::new(),
    };
    let mut named: Vec<Nexus> = Vec::new();
    for initiator in initiators {
        for &target_port in &ports {
            let is_it = |nexus: &&Nexus| nexus.initiator == initiator && nexus.target_port == target_port;
            let nexus = match known.iter().find(is_it) {
                Some(nexus) => nexus.clone(),
                None => {
                    let id = NexusId(known.len() as u32);
                    known.push(Nexus { id, initiator: initiator.clone(), target_port });
                    known[known.len() - 1].clone()
                }
            };
            let is_move = matches!(request, Request::RegisterAndMove { .. });
            if (is_move || nexus.id != from.id) && named.iter().all(|other| other.id != nexus.id) {
                named.push(nexus);
            }
        }
    }
    named
}

/// Who asks, and for whom else.
#[derive(Clone, Copy)]
struct Senders<'a> {
    from: &'a Nexus,
    named: &'a [Nexus],
}

/// What must be true of a change.
fn judge(
    old: &State,
    was: &Facts,
    Senders { from, named }: Senders<'_>,
    request: &Request,
    effect: &Effect,
    is: &Facts,
    known: &[Nexus],
) {
    let case = || format!("{old:?}\n{from:?} {request:?}\n{effect:?}");
    let next = effect.next.as_ref().unwrap();
    match request {
        Request::Register { new_key, .. } | Request::RegisterAndIgnore { new_key, .. } => {
            for nexus in std::iter::once(from).chain(named) {
                assert_eq!(is.key(nexus), (*new_key != 0).then_some(*new_key), "{}", case());
            }
        }
        Request::Reserve { .. } => assert!(is.is_holder(from), "{}", case()),
        Request::Release { .. } => assert_eq!((is.held, next.is_free()), (None, true), "{}", case()),
        Request::Clear { .. } => {
            assert!(next.is_free() && known.iter().all(|nexus| is.key(nexus).is_none()), "{}", case());
        }
        Request::Preempt { victim, .. } => {
            let is_named = |nexus: &Nexus| *victim == 0 || was.key(nexus) == Some(*victim);
            let others = known.iter().filter(|nexus| nexus.id != from.id);
            for other in others.filter(|nexus| was.key(nexus).is_some()) {
                assert_eq!(is.key(other).is_none(), is_named(other), "{other:?}\n{}", case());
            }
        }
        Request::RegisterAndMove { .. } => assert!(!is.is_holder(from), "{}", case()),
        Request::LegacyReserve => assert!(next.names(from.id) && is.count() == 0, "{}", case()),
        Request::LegacyRelease => assert!(next.is_free(), "{}", case()),
    }
    let aborts = matches!(request, Request::Preempt { abort: true, .. });
    assert!(aborts || effect.aborts.is_empty(), "{}", case());
    let mut loses = false;
    for nexus in known {
        let is_gone = was.key(nexus).is_some() && is.key(nexus).is_none();
        let is_told = effect.attentions.iter().any(|(id, _)| *id == nexus.id);
        assert!(nexus.id != from.id || !is_told, "{}", case());
        let is_own = nexus.id == from.id || named.iter().any(|named| named.id == nexus.id);
        assert!(!is_gone || is_told || is_own, "{nexus:?} is not told\n{}", case());
        loses |= loses_leave(old, next, nexus.id);
    }
    loses |= loses_leave(old, next, STRANGER);
    // Those of a crowd may lose something too.
    assert!(effect.drains || !loses, "{}", case());
    assert!(!effect.drains || loses || was.count() > known.len(), "{}", case());
}

fn loses_leave(old: &State, next: &State, nexus: NexusId) -> bool {
    [Class::Read, Class::Write].iter().any(|class| old.allows(nexus, *class) && !next.allows(nexus, *class))
}

/// PERSISTENT RESERVE IN through the front door, with room for any part of the answer.
fn show(state: &State, source: &mut Source<'_>) {
    let room = usize::from(u16::from_be_bytes(source.array()));
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (0x5e, source.byte() % 5);
    cdb[7..9].copy_from_slice(&source.array::<2>());
    let unit = UnitView { permits: Permits::new(Arc::new(state.clone())), ..views::unit() };
    let target = views::target();
    let place =
        Place { nexus: NexusId(0), target: &target, number: LunNumber(0), unit: Some((&unit, false)) };
    let Plan::Report(asked) = plan(&Cdb::new(cdb), &place) else { return };
    assert!(asked.bytes_max() <= PARAMETER_BYTES_MAX);
    let mut out = vec![0xee; room];
    let facts = report::Facts {
        protocol_level: 0,
        attentions: None,
        now: Tick::ZERO,
        buffers: &Buffers::default(),
        copies: &Results::default(),
        tokens: None,
        allocation: None,
    };
    let Ok(length) = report::fill(&asked, &place, facts, &mut out) else { return };
    let mut whole: Vec<u8> = Vec::new();
    state.report(lunette::scsi::reserve::In::decode(cdb[1]).unwrap(), &mut |part| {
        whole.extend_from_slice(part)
    });
    assert!(length <= room && length <= asked.bytes_max() as usize && length <= whole.len());
    assert_eq!(out[..length], whole[..length]);
    assert!(out[length..].iter().all(|byte| *byte == 0xee), "it writes beyond its length");
}
