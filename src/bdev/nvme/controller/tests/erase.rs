//! A namespace is erased: the time that takes, and what becomes of other questions meanwhile.

use std::sync::mpsc::{Receiver, channel};

use super::{Act, Bench, Device, Page};
use crate::bdev::Erasure;
use crate::bdev::nvme::controller::shared::{Life, Options, Order, Query, Severity, Wanted};
use crate::bdev::nvme::port::Request;
use crate::bdev::nvme::spec::{Command, admin};
use crate::time::{MS_NS, SECOND_NS};

/// Of the tests' controller.
const ERASE_NS: u64 = 60 * SECOND_NS;

type Told = Receiver<Result<(), String>>;

/// A controller that knows Format NVM and cryptographic erase, for all namespaces at once where `fna` says so.
fn running(fna: u8, needs_keep_alive: bool) -> Bench {
    let mut device = Device::new();
    let mut page = Box::new([0; 4096]);
    fill(&mut page, fna);
    device.needs_keep_alive = needs_keep_alive;
    device.rules.push((|command| super::is_identify(command, 1), Act::Fill(page)));
    let options = Options::pcie("n0".to_owned(), 4);
    assert_eq!((options.erase_ns, options.keep_alive_ms), (4 * 3600 * SECOND_NS, 10_000));
    let options = Options { erase_ns: ERASE_NS, ..options };
    let mut bench = Bench::with(device, options);
    bench.run(SECOND_NS);
    assert_eq!(bench.shared.life(), Life::Running);
    bench.told(Severity::Info);
    bench.opcodes();
    bench
}

fn fill(page: &mut Page, fna: u8) {
    // OACS, the error log, entry sizes, NN, FNA.
    (page[256], page[262], page[516], page[524]) = (1 << 1, 199, 8, fna);
    page[512..514].copy_from_slice(&[0x66, 0x44]);
}

fn erase(bench: &Bench, uuid: u8, how: Erasure) -> Told {
    let (sender, told) = channel();
    bench.shared.order(Order::Erase(Wanted { nsid: 1, uuid: [uuid; 16], how }, sender));
    told
}

fn is_format(command: &Command) -> bool {
    command.opcode == admin::FORMAT_NVM
}

fn formats(bench: &Bench) -> Vec<(u32, u32)> {
    let seen = std::mem::take(&mut bench.device().seen);
    seen.iter().filter(|command| is_format(command)).map(|command| (command.nsid, command.cdw10[0])).collect()
}

#[test]
fn it_is_asked_once_and_looked_at_again() {
    let mut bench = running(0b100, false);
    let told = erase(&bench, 0xA1, Erasure::Key);
    bench.run(SECOND_NS);
    assert_eq!(told.try_recv(), Ok(Ok(())));
    assert_eq!(bench.opcodes(), [admin::FORMAT_NVM, admin::IDENTIFY, admin::IDENTIFY, admin::IDENTIFY]);
    assert_eq!(
        bench.told(Severity::Info).iter().map(|words| words.rsplit(": ").next().unwrap()).collect::<Vec<_>>(),
        ["namespace 1 is being erased", "namespace 1 was erased"]
    );
}

#[test]
fn one_that_fails_has_failed() {
    let mut bench = running(0, false);
    bench.device().rules.push((is_format, Act::End(0x10A, 0)));
    let told = erase(&bench, 0xA1, Erasure::Blocks);
    bench.run(SECOND_NS);
    assert_eq!(told.try_recv(), Ok(Err("Format NVM ended in status 0x010a".to_owned())));
    assert_eq!((bench.shared.life(), formats(&bench)), (Life::Running, vec![(1, 0x200)]));
}

#[test]
fn what_is_not_sure_is_not_erased() {
    for (fna, uuid, how) in [
        (0b000, 0xA2, Erasure::Blocks),
        (0b000, 0xA1, Erasure::Key),
        (0b001, 0xA1, Erasure::Blocks),
        (0b110, 0xA1, Erasure::Key),
    ] {
        let mut bench = running(fna, false);
        let told = erase(&bench, uuid, how);
        bench.run(SECOND_NS);
        assert!(told.try_recv().unwrap().is_err(), "{fna:#b} {uuid:#x}");
        assert_eq!(formats(&bench), []);
    }
    // Perhaps it is another medium by now.
    let mut bench = running(0, false);
    bench.device().rules.push((|command| super::is_identify(command, 2), Act::Silent));
    bench.shared.order(Order::Rescan);
    bench.run(MS_NS);
    let told = erase(&bench, 0xA1, Erasure::Blocks);
    bench.run(SECOND_NS);
    assert!(told.try_recv().is_err() && formats(&bench).is_empty(), "not before it was looked at");
    bench.device().rules.pop();
    bench.device().namespaces[0].uuid = 0xA2;
    bench.run(20 * SECOND_NS);
    assert!(told.try_recv().unwrap().is_err(), "reset meanwhile");
    let told = erase(&bench, 0xA1, Erasure::Blocks);
    bench.run(SECOND_NS);
    assert_eq!(told.try_recv(), Ok(Err("the namespace is gone".to_owned())));
    assert_eq!(formats(&bench), []);
}

#[test]
fn it_has_its_own_time_and_others_wait_as_long() {
    let mut bench = running(0, false);
    bench.device().rules.push((is_format, Act::Silent));
    bench.device().rules.push((|command| command.opcode == admin::GET_LOG_PAGE, Act::Silent));
    let (sender, health) = channel();
    bench.shared.order(Order::Query(Query::Health, sender));
    bench.run(MS_NS);
    let [told, next] = [erase(&bench, 0xA1, Erasure::Blocks), erase(&bench, 0xA1, Erasure::Blocks)];
    bench.run(SECOND_NS);
    // A pair of queues is asked for meanwhile.
    bench.device().rules.push((|command| command.opcode == admin::CREATE_CQ, Act::Silent));
    let port = bench.lane(0);
    bench.run(ERASE_NS - 2 * SECOND_NS);
    assert_eq!((bench.shared.life(), bench.resets()), (Life::Running, (1, 0)));
    assert!(told.try_recv().is_err() && health.try_recv().is_err() && port.reply().is_none());
    assert_eq!(formats(&bench), [(1, 0x200)], "one at a time");
    bench.run(2 * SECOND_NS);
    assert_eq!(told.try_recv(), Ok(Err("the controller was reset".to_owned())));
    assert_eq!(next.try_recv(), Ok(Err("the controller was reset".to_owned())));
    assert_eq!((bench.shared.life(), bench.resets()), (Life::Running, (2, 0)));
}

#[test]
fn others_have_their_own_time_again_when_it_is_over() {
    let mut bench = running(0, false);
    bench.device().rules.push((is_format, Act::Silent));
    bench.device().rules.push((|command| command.opcode == admin::GET_LOG_PAGE, Act::Silent));
    let told = erase(&bench, 0xA1, Erasure::Blocks);
    let (sender, health) = channel();
    bench.shared.order(Order::Query(Query::Health, sender));
    bench.run(ERASE_NS / 2);
    assert!(bench.resets() == (1, 0) && told.try_recv().is_err());
    let cid = bench.device().formats.pop().expect("it is in flight");
    bench.device().complete(cid, 0, 0, None);
    bench.run(9 * SECOND_NS);
    assert!(told.try_recv() == Ok(Ok(())) && bench.resets() == (1, 0));
    bench.run(2 * SECOND_NS);
    assert_eq!(health.try_recv(), Ok(Err("the controller was reset".to_owned())));
}

#[test]
fn a_network_that_is_gone_is_noticed_all_the_same() {
    let mut bench = running(0, true);
    bench.device().rules.push((is_format, Act::Silent));
    let told = erase(&bench, 0xA1, Erasure::Blocks);
    bench.run(30 * SECOND_NS);
    assert!(bench.opcodes().iter().filter(|opcode| **opcode == admin::KEEP_ALIVE).count() > 4);
    bench.device().rules.push((|command| command.opcode == admin::KEEP_ALIVE, Act::Silent));
    bench.run(16 * SECOND_NS);
    assert_eq!(told.try_recv(), Ok(Err("the controller was reset".to_owned())));
}

#[test]
fn lanes_do_not_wait_for_hours() {
    let mut bench = running(0, false);
    let port = bench.lane(0);
    bench.run(MS_NS);
    let queue = super::opened(&port);
    bench.device().rules.push((is_format, Act::Silent));
    bench.device().rules.push((|command| command.opcode == admin::DELETE_SQ, Act::Silent));
    let told = erase(&bench, 0xA1, Erasure::Blocks);
    bench.run(SECOND_NS);
    port.ask(Request::Close { queue: Some(queue) }).unwrap();
    bench.run(9 * SECOND_NS);
    assert!(bench.resets() == (1, 0) && told.try_recv().is_err());
    bench.run(2 * SECOND_NS);
    assert_eq!(bench.resets(), (2, 0));
    assert_eq!(told.try_recv(), Ok(Err("the controller was reset".to_owned())));
}

#[test]
fn who_waits_is_told_that_the_controller_is_given_back() {
    let mut bench = running(0, false);
    bench.device().rules.push((is_format, Act::Silent));
    let told = erase(&bench, 0xA1, Erasure::Blocks);
    let port = bench.lane(0);
    bench.run(MS_NS);
    let queue = super::opened(&port);
    bench.shared.order(Order::Detach);
    port.ask(Request::Close { queue: Some(queue) }).unwrap();
    bench.run(SECOND_NS);
    assert!(bench.controller.is_over());
    assert_eq!(told.try_recv(), Ok(Err("the controller was reset".to_owned())));
    let late = erase(&bench, 0xA1, Erasure::Blocks);
    bench.shared.set_over();
    assert_eq!(late.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected));
}
