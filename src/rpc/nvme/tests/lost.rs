//! Controllers that lose their power or go: who follows, and what others are told first.

use std::sync::mpsc::{self, Receiver};

use lunette_initiator::scsi::{Sense, cdb, status};
use lunette_initiator::{Command, Data, lun};

use super::*;
use crate::bdev::raid::mirror::Doing;
use crate::bdev::{Bdev, Channel, Info};
use crate::buf::Hugepages;
use crate::control::Control;
use crate::control::access::InitiatorGroup;
use crate::control::registry::BdevSpec;
use crate::id::ReactorId;

/// It was asked for nothing meanwhile, so nothing failed: it would be taken for what it was, and a flush would say that all is there.
#[test]
fn a_member_whose_controller_lost_its_power_is_out_and_its_disk_is_another() {
    let folder = std::env::temp_dir().join(format!("lunette-nvme-power-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let service = Service::with_state(&folder.join("state"));
    let device = Device::with(1, Medium::new(2048, 512));
    service.attach(device.to_attach());
    let file = folder.join("b");
    std::fs::File::create(&file).unwrap().set_len(1 << 20).unwrap();
    let params = format!(r#"{{"name":"b","filename":"{}","block_size":512}}"#, file.display());
    service.call("bdev_aio_create", &params);
    service.call("bdev_raid_create", r#"{"name":"R","raid_level":"raid1","base_bdevs":["Nn1","b"]}"#);
    let doing = || {
        let array = |control: &mut Control<_>, _| control.bdev("R").map(|entry| entry.spec.bdev.doing());
        service.remote.call(array).unwrap().unwrap_or_default()
    };
    until("both have all data", || doing() == [Doing::Current; 2]);
    let before = service.context.controller("N").unwrap().shared().disks().remove(0);
    device.mock.crash(&mut Rng::new(1));
    // It is tried again after a while only.
    until("it is out", || doing() == [Doing::Out, Doing::Current]);
    until("it is back", || service.blocks("Nn1") == Some(2048));
    assert!(before.is_removed());
    service.call("bdev_raid_delete", r#"{"name":"R"}"#);
    service.call("bdev_nvme_detach_controller", r#"{"name":"N"}"#);
    drop(service);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A disk that is opened by a reactor which then does nothing until the test lets it.
#[derive(Debug)]
struct Stuck {
    disk: Malloc,
    gate: Mutex<Receiver<()>>,
    is_opening: AtomicBool,
}

impl Bdev for Stuck {
    fn info(&self) -> Info {
        self.disk.info()
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        self.is_opening.store(true, Ordering::Release);
        let _ = lock(&self.gate).recv();
        self.disk.open(reactor)
    }
}

#[test]
fn nobody_gets_the_place_of_a_lost_disk_before_every_reactor_knows_and_a_flush_that_waits_is_not_done() {
    let service = Service::start();
    let device = Device::new(1);
    service.attach(device.to_attach());
    let recipe = malloc::Recipe {
        name: "stuck".to_owned(),
        blocks: BLOCKS,
        blocks_max: BLOCKS,
        block_bytes: 512,
        physical_block_bytes: 512,
        uuid: [3; 16],
        hugepages: Hugepages::Off,
    };
    let (let_go, gate) = mpsc::channel();
    let (disk, gate) = (Malloc::new(recipe).unwrap(), Mutex::new(gate));
    let stuck = Arc::new(Stuck { disk, gate, is_opening: AtomicBool::new(false) });
    let bdev = Arc::clone(&stuck);
    let address = service.remote.call(move |control, _| {
        let (product, recipe) = (String::new(), String::new());
        control.register_bdev(BdevSpec { bdev, product, recipe, bases: Vec::new() }).unwrap();
        control.create_initiator_group(InitiatorGroup::any(1)).unwrap();
        control.create_portal_group(1, &["127.0.0.1:0".parse().unwrap()], false, true).unwrap();
        control.portal_groups().next().unwrap().portals[0].address
    });
    service.call(
        "iscsi_create_target_node",
        r#"{"name":"t","alias_name":"","pg_ig_maps":[{"pg_tag":1,"ig_tag":1}],"queue_depth":8,"disable_chap":true,
            "luns":[{"bdev_name":"Nn1","lun_id":0},{"bdev_name":"stuck","lun_id":1}]}"#,
    );
    let config = Config::new("iqn.2026-11.io.example:a", "iqn.2016-06.io.spdk:t");
    let mut client = Client::connect(address.unwrap(), config).unwrap();
    client.set_timeout(SOON);
    for number in [0, 1] {
        let ask = || Command::new(lun::from_number(number), cdb::test_unit_ready(), Data::None);
        while !client.run(ask()).unwrap().is_good() {}
    }
    let write = Command::write(0, cdb::write_16(1, 1, cdb::Flags::default()), vec![7; 512]);
    assert!(client.run(write).unwrap().is_good());

    let attached = service.context.controller("N").unwrap();
    let before = attached.shared().disks().remove(0);
    device.is_paused.store(true, Ordering::Relaxed);
    device.mock.crash(&mut Rng::new(1));
    until("it is brought up", || attached.shared().life() == Life::Recovering);
    // One that comes too early is in a queue that is gone.
    let flush = loop {
        let flush = Command::new(0, cdb::synchronize_cache_10(0, 0), Data::None);
        let flush = client.session().command(flush).unwrap();
        for _ in 0..100 {
            client.ping(b"").unwrap();
        }
        if client.next_event().is_none() {
            break flush;
        }
    };
    let read = Command::read(lun::from_number(1), cdb::read_16(0, 1, cdb::Flags::default()), 512);
    client.session().command(read).unwrap();
    client.service().unwrap();
    until("the reactor does nothing", || stuck.is_opening.load(Ordering::Acquire));

    device.is_paused.store(false, Ordering::Relaxed);
    let shared = Arc::clone(attached.shared());
    until("it works again", || before.is_removed() && shared.life() == Life::Running);
    for _ in 0..1000 {
        assert_eq!(service.blocks("Nn1"), Some(0), "the reactor takes it for what it was");
    }
    let_go.send(()).unwrap();
    let flushed = client.completion(flush).unwrap();
    assert_eq!(flushed.status, status::CHECK_CONDITION);
    assert_eq!(Sense::decode(&flushed.sense).unwrap().key, 2, "it is not ready");
    until("it is back", || service.blocks("Nn1") == Some(BLOCKS));
    drop(client);
    service.call("bdev_nvme_detach_controller", r#"{"name":"N"}"#);
}

/// It is followed to its end at each clean stop: nothing of that is to be told.
#[test]
fn a_daemon_that_has_stopped_has_no_mirrors_to_doubt() {
    let service = Service::start();
    let device = Device::new(1);
    service.attach(device.to_attach());
    service.remote.drain();
    until("it has stopped", || service.remote.call(|_, _| ()).is_none());
    assert!(Doubted::on(&service.context, "Nn1").is_ok());
}

#[test]
fn nobody_comes_in_the_stead_of_a_controller_before_all_that_it_said_was_followed() {
    let service = Service::start();
    let device = Device::new(1);
    service.attach(device.to_attach());
    let before = service.context.controller("N").unwrap();
    assert!(!before.may_be_replaced());
    device.mock.remove();
    until("another one may come", || before.may_be_replaced());
    assert!(before.is_gone());
    assert_eq!(service.blocks("Nn1"), None, "nobody uses it");
}
