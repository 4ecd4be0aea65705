//! Format NVM: who can, what is gone then, and what stays.

use std::sync::Arc;
use std::sync::mpsc::channel;

use crate::bdev::nvme::controller::shared::{Order, Wanted};
use crate::bdev::nvme::mock::{Config, Fault, Medium, Mock};
use crate::bdev::nvme::rig::Rig;
use crate::bdev::{Bdev, Erasure};
use crate::sim::rng::Rng;

/// Two namespaces, or as many as there can be, of 64 blocks that hold something.
fn rig(config: Config, protection: u8) -> (Rig, Mock) {
    let mock = Mock::new(config.clone(), 1);
    for nsid in 1..=config.namespaces_max.min(2) {
        let mut medium = Medium::new(64, 512);
        medium.protection = protection;
        medium.write(7, &[0xA5; 512], true);
        medium.write(7, &[0x5A; 512], false);
        mock.attach(nsid, medium);
    }
    let mut rig = Rig::new(&mock, Arc::new(mock.clone()));
    assert!(rig.bring_up(&mut Rng::new(1)), "{:?}", rig.said());
    (rig, mock)
}

fn erased(rig: &mut Rig, nsid: u32, how: Erasure) -> Result<(), String> {
    let (sender, receiver) = channel();
    let uuid = rig.bdev(nsid).map_or([0; 16], |bdev| bdev.info().uuid);
    rig.shared.order(Order::Erase(Wanted { nsid, uuid, how }, sender));
    let answer = std::cell::RefCell::new(None);
    let is_told = |_: &Rig| {
        let told = receiver.try_recv().ok();
        let mut answer = answer.borrow_mut();
        *answer = answer.take().or(told);
        answer.is_some()
    };
    assert!(rig.turn_until(&mut Rng::new(2), is_told));
    answer.into_inner().expect("it was told")
}

#[test]
fn who_erases_a_namespace_alone_says_so() {
    let told = |format, namespaces_max, is_read_only| {
        let config = Config { format, namespaces_max, ..Config::default() };
        let mock = Mock::new(config, 1);
        let mut medium = Medium::new(64, 512);
        medium.is_read_only = is_read_only;
        mock.attach(1, medium);
        let mut rig = Rig::new(&mock, Arc::new(mock.clone()));
        assert!(rig.bring_up(&mut Rng::new(1)));
        let offloads = rig.bdev(1).unwrap().info().offloads;
        (offloads.erase, offloads.erase_blocks, offloads.erase_key)
    };
    assert_eq!(told(None, 32, false), (false, false, false), "no FORMAT NVM");
    assert_eq!(told(Some(0b000), 32, false), (false, true, false));
    assert_eq!(told(Some(0b100), 32, false), (false, true, true));
    for all in [0b101, 0b110, 0b111] {
        assert_eq!(told(Some(all), 32, false), (false, false, false), "another one may be erased with it");
        assert_eq!(told(Some(all), 1, false), (false, true, true), "there is no other");
    }
    assert_eq!(told(Some(0b100), 32, true), (false, false, false), "write protected");
}

#[test]
fn nothing_is_left_of_what_was_erased_and_all_of_the_rest() {
    for (how, protection) in
        [(Erasure::Blocks, 0), (Erasure::Key, 0), (Erasure::Blocks, 1), (Erasure::Key, 3)]
    {
        let (mut rig, mock) = rig(Config { format: Some(0b100), ..Config::default() }, protection);
        assert_eq!(erased(&mut rig, 1, how), Ok(()));
        assert_eq!(mock.block(1, 7).unwrap()[..], [0; 512]);
        assert_eq!(mock.block(2, 7).unwrap()[..], [0x5A; 512]);
        assert_eq!(rig.bdev(1).map(|bdev| bdev.info().blocks), Some(64), "it is the same disk");
        assert_eq!(mock.violations(), Vec::<String>::new());
    }
}

#[test]
fn what_is_not_erased_is_not_said_to_be() {
    let (mut rig, mock) = rig(Config { format: Some(0), ..Config::default() }, 0);
    mock.misbehave(Fault::FormatFails, 1);
    assert_eq!(erased(&mut rig, 1, Erasure::Blocks), Err("Format NVM ended in status 0x0006".to_owned()));
    mock.behave();
    // Nobody asks for that.
    assert!(erased(&mut rig, 1, Erasure::Key).is_err());
    assert!(erased(&mut rig, 3, Erasure::Blocks).is_err());
    assert_eq!(mock.block(1, 7).unwrap()[..], [0x5A; 512]);
    assert_eq!(erased(&mut rig, 1, Erasure::Blocks), Ok(()));
}
