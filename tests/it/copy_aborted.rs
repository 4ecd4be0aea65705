//! Copies that somebody aborts while a device has a part of them: who is told, when, and what lands (SAM-5 §5.6: TAS is 1, TST is
//! 001b).
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use lunette::bdev::error::{Fault, Kind, RuleId};
use lunette_initiator::scsi::{cdb, status};
use lunette_initiator::session::{Function, Tmf};
use lunette_initiator::socket::SocketError;
use lunette_initiator::{Client, Command, lun};

use crate::copy::{fill, holds, naa, token, token_information, two_disks, write_using, xcopy};
use crate::harness::{World, pattern, sense, test_unit_ready, until};
use crate::reserve::{A, B, PREEMPT_AND_ABORT, REGISTER, REGISTRATIONS_PREEMPTED, command, good, keys, told};

/// All are asked of LUN 0.
#[derive(Clone, Copy, Debug)]
enum Copy {
    /// EXTENDED COPY from LUN 0 to LUN 1.
    Extended,
    /// WRITE USING TOKEN of blocks of LUN 1.
    Token,
}

const COPIES: [Copy; 2] = [Copy::Extended, Copy::Token];
const BLOCKS: u16 = 64;

impl Copy {
    /// The LUNs that it reads from and writes to.
    fn sides(self) -> [u16; 2] {
        match self {
            Copy::Extended => [0, 1],
            Copy::Token => [1, 0],
        }
    }

    /// Of the first blocks to the 100th and those behind.
    fn command(self, client: &mut Client) -> Command {
        match self {
            Copy::Extended => {
                let [from, to] = [0, 1].map(|number| naa(client, number));
                xcopy(from, to, 0, 100, BLOCKS)
            }
            Copy::Token => {
                let token = token(client, 1, &[(0, BLOCKS)]);
                write_using(0, 2, &token, &[(100, BLOCKS)])
            }
        }
    }

    /// It was begun, and a device has its first IO of this kind: its tag.
    fn begin(self, world: &World, client: &mut Client, kind: Kind, fault: Fault) -> (u32, RuleId) {
        let command = self.command(client);
        let [from, to] = self.sides();
        let disk = &world.disks[usize::from(if kind == Kind::Read { from } else { to })];
        let rule = disk.order(kind, fault, 1);
        let itt = client.session().command(command).unwrap();
        until("a device has it", || {
            client.ping(b"").unwrap();
            disk.faults.left(rule) == 0
        });
        (itt, rule)
    }

    /// What was held back goes on, if it may.
    fn release(self, world: &World, rule: RuleId) {
        world.disks.iter().for_each(|disk| disk.faults.release(rule));
    }

    /// Whether its blocks have landed; if not, none has.
    fn has_landed(self, client: &mut Client) -> bool {
        client.set_lun(lun::from_number(self.sides()[1]));
        let found = client.read(100, BLOCKS.into()).unwrap();
        client.set_lun(0);
        let is_there = found == pattern(self.seed(), 0, BLOCKS.into(), 512);
        assert!(is_there || found.iter().all(|byte| *byte == 0));
        is_there
    }

    fn seed(self) -> u32 {
        u32::from(self.sides()[0]) + 7
    }
}

/// Two nexuses on two reactors, registered at LUN 0; the source is written.
fn begin(copy: Copy) -> (World, Client, Client) {
    let world = two_disks();
    let [mut owner, mut other] = ["a", "b"].map(|name| world.client(name));
    let placement = world.placement();
    assert_ne!(placement[0], placement[1]);
    fill(&mut owner, copy.sides()[0], copy.seed(), 0, BLOCKS.into());
    owner.set_lun(0);
    good(&owner.run(command(REGISTER, 0, 0, A)).unwrap());
    good(&other.run(command(REGISTER, 0, 0, B)).unwrap());
    (world, owner, other)
}

fn ends_in_task_aborted(abort: impl Fn(&mut Client), attention: (u8, u8, u8)) {
    for copy in COPIES {
        for kind in [Kind::Read, Kind::Write] {
            let (world, mut owner, mut other) = begin(copy);
            let (itt, rule) = copy.begin(&world, &mut owner, kind, Fault::Hold);
            abort(&mut other);
            let end = owner.completion(itt).unwrap();
            assert_eq!((end.status, end.sense.len()), (status::TASK_ABORTED, 0), "{copy:?} {kind:?}");
            told(&mut owner, attention);
            copy.release(&world, rule);
            assert!(!copy.has_landed(&mut owner), "{copy:?} {kind:?}");
            if let Copy::Token = copy {
                let told = token_information(&mut owner, 0, 2);
                assert_eq!(told[4..6], [0x11, 0x60], "WRITE USING TOKEN, terminated");
            }
            // Nothing is left of it that another would wait for.
            let again = copy.command(&mut owner);
            good(&owner.run(again).unwrap());
            assert!(copy.has_landed(&mut other));
        }
    }
}

#[test]
fn a_copy_that_anothers_reset_ends_is_told() {
    let reset = |other: &mut Client| {
        assert_eq!(other.task_management(Tmf::new(Function::LogicalUnitReset, 0)).unwrap(), 0);
    };
    ends_in_task_aborted(reset, (0x6, 0x29, 0x03));
}

#[test]
fn a_copy_that_is_preempted_and_aborted_is_told() {
    let preempt = |other: &mut Client| good(&other.run(command(PREEMPT_AND_ABORT, 0, B, A)).unwrap());
    ends_in_task_aborted(preempt, REGISTRATIONS_PREEMPTED);
}

/// Who preempts is answered, and TASK ABORTED said, when the device has given it back.
#[test]
fn a_copy_that_a_device_keeps_is_waited_for() {
    for copy in COPIES {
        let (world, mut owner, mut other) = begin(copy);
        let (itt, rule) = copy.begin(&world, &mut owner, Kind::Write, Fault::Lose);
        let preempt = other.session().command(command(PREEMPT_AND_ABORT, 0, B, A)).unwrap();
        until("the new state", || keys(&mut other) == [B]);
        let mut asked = 0;
        until("a command that waits until it can be told why", || {
            asked = owner.session().command(test_unit_ready(0)).unwrap();
            owner.ping(b"").unwrap();
            let waits = owner.session().is_sent(asked);
            assert!(waits || owner.completion(asked).unwrap().is_good());
            waits
        });
        other.ping(b"").unwrap();
        assert!(owner.session().is_sent(itt) && other.session().is_sent(preempt), "{copy:?}");
        copy.release(&world, rule);
        good(&other.completion(preempt).unwrap());
        assert_eq!(owner.completion(itt).unwrap().status, status::TASK_ABORTED, "{copy:?}");
        assert_eq!(sense(&owner.completion(asked).unwrap()), REGISTRATIONS_PREEMPTED);
    }
}

/// A task set is one nexus's own: another's CLEAR TASK SET ends nothing; its owner's ends it without an answer.
#[test]
fn clear_task_set_ends_ones_own_copies_only() {
    for copy in COPIES {
        let (world, mut owner, mut other) = begin(copy);
        let clear = || Tmf::new(Function::ClearTaskSet, 0);
        let (itt, rule) = copy.begin(&world, &mut owner, Kind::Write, Fault::Hold);
        assert_eq!(other.task_management(clear()).unwrap(), 0);
        owner.ping(b"").unwrap();
        assert!(owner.session().is_sent(itt), "{copy:?}");
        assert_eq!(owner.task_management(clear()).unwrap(), 0);
        assert!(matches!(owner.completion(itt), Err(SocketError::Aborted)), "{copy:?}");
        copy.release(&world, rule);
        assert!(!copy.has_landed(&mut owner), "{copy:?}");

        let (itt, rule) = copy.begin(&world, &mut owner, Kind::Write, Fault::Hold);
        assert_eq!(other.task_management(clear()).unwrap(), 0);
        copy.release(&world, rule);
        good(&owner.completion(itt).unwrap());
        assert!(copy.has_landed(&mut other), "{copy:?}");
    }
}

/// One that waits for its source, which another changes, has nothing in a device: it ends at once, and what it waits for as well.
#[test]
fn a_copy_that_waits_for_a_hold_is_told() {
    let (world, mut owner, mut other) = begin(Copy::Token);
    let mut third = world.client("c");
    let copy = Copy::Token.command(&mut owner);
    let rule = world.disks[1].order(Kind::Read, Fault::Hold, 1);
    let data = [pattern(8, 3, 1, 512), pattern(9, 3, 1, 512)].concat();
    let compare = Command::write(lun::from_number(1), cdb::compare_and_write(3, 1), data);
    let changed = third.session().command(compare).unwrap();
    until("it has the blocks to itself", || {
        third.ping(b"").unwrap();
        world.disks[1].faults.left(rule) == 0
    });
    let itt = owner.session().command(copy).unwrap();
    owner.ping(b"").unwrap();
    assert_eq!(other.task_management(Tmf::new(Function::LogicalUnitReset, 0)).unwrap(), 0);
    assert_eq!(owner.completion(itt).unwrap().status, status::TASK_ABORTED);
    told(&mut owner, (0x6, 0x29, 0x03));
    world.disks[1].faults.release(rule);
    good(&third.completion(changed).unwrap());
    holds(&mut other, 0, 100, &vec![0; 512 * usize::from(BLOCKS)]);
    let again = Copy::Token.command(&mut owner);
    good(&owner.run(again).unwrap());
}
