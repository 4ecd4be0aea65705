//! SANITIZE of an NVMe namespace: its controller erases it (Format NVM), a mock one here.

use lunette::bdev::nvme::served::Served;
use lunette_initiator::{Client, Command, Config, Data, lun};

use crate::harness::{self, Setup, World, pattern, sense, test_unit_ready, until};

/// A target with one LUN, the namespace.
const FLASH: &str = "iqn.2026-11.io.example:flash";
const BLOCKS: u64 = 4096;
const FAILED: (u8, u8, u8) = (0x3, 0x31, 0x03);
const INVALID_FIELD: (u8, u8, u8) = (0x5, 0x24, 0x00);

/// A controller with this FNA, and a daemon that serves its namespace.
fn served(fna: Option<u8>) -> (Served, World) {
    let served = Served::start_with(2, BLOCKS, 512, fna).unwrap();
    let world = World::start(Setup { reactors: 2, ..Setup::default() });
    let bdev = served.bdev().unwrap();
    world.control(move |control| {
        let name = bdev.info().name;
        control.register_bdev(harness::spec(bdev)).unwrap();
        control.create_target(&harness::target(FLASH, &[name.as_str()], &[(1, 1)])).unwrap();
    });
    // The controller goes when nobody uses its namespace any more.
    (served, world)
}

fn client(world: &World, name: &str) -> Client {
    let config = Config::new(&format!("iqn.2026-11.io.example:{name}"), FLASH);
    let mut client = Client::connect(world.address(), config).unwrap();
    client.run(test_unit_ready(0)).unwrap();
    client
}

/// SANITIZE with this service action and these bits.
fn sanitize(action: u8, options: u8) -> Command {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (0x48, options | action);
    Command::new(lun::from_number(0), cdb, Data::None)
}

/// Which service actions of SANITIZE the LUN says it has.
fn told(client: &mut Client) -> Vec<u8> {
    let is_there = |action: &u8| {
        let cdb = [0xa3, 0x0c, 2, 0x48, 0, *action, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0];
        client.run(Command::read(lun::from_number(0), cdb, 4)).unwrap().data[1] == 3
    };
    [0x01, 0x02, 0x03, 0x1f].into_iter().filter(is_there).collect()
}

#[test]
fn a_controller_erases_its_namespace() {
    let (flash, world) = served(Some(0b100));
    let [mut one, mut other] = ["a", "b"].map(|name| client(&world, name));
    assert_eq!(told(&mut one), [0x01, 0x02, 0x03, 0x1f]);
    for action in [0x02, 0x03] {
        for lba in [0, BLOCKS - 8] {
            one.write(lba, &pattern(7, lba, 8, 512)).unwrap();
        }
        let completion = one.run(sanitize(action, 0)).unwrap();
        assert!(completion.is_good(), "{completion:?}");
        for lba in (0..BLOCKS).step_by(512) {
            assert!(other.read(lba, 512).unwrap() == vec![0; 512 * 512], "{lba}");
        }
    }
    one.write(5, &pattern(8, 5, 8, 512)).unwrap();
    assert!(one.run(sanitize(0x02, 0x80)).unwrap().is_good(), "IMMED");
    until("it is done", || other.run(test_unit_ready(0)).unwrap().is_good());
    assert!(other.read(5, 8).unwrap() == vec![0; 8 * 512]);
    assert_eq!(flash.violations(), Vec::<String>::new());
}

#[test]
fn a_controller_that_fails_has_not_erased() {
    let (flash, world) = served(Some(0));
    let mut client = client(&world, "a");
    let written = pattern(7, 0, 8, 512);
    client.write(0, &written).unwrap();
    flash.fail_formats(true);
    for options in [0x00, 0x20] {
        assert_eq!(sense(&client.run(sanitize(0x02, options)).unwrap()), FAILED);
        assert_eq!(sense(&client.run(harness::read(0, 1)).unwrap()), FAILED);
        let exited = client.run(sanitize(0x1f, 0)).unwrap();
        if options == 0 {
            assert_eq!(sense(&exited), INVALID_FIELD, "AUSE was 0");
        } else {
            assert!(exited.is_good());
            assert!(client.read(0, 8).unwrap() == written, "it is there still, and nobody says otherwise");
        }
    }
    assert_eq!(sense(&client.run(sanitize(0x02, 0)).unwrap()), FAILED);
    flash.fail_formats(false);
    assert!(client.run(sanitize(0x02, 0)).unwrap().is_good(), "another one goes well");
    assert!(client.read(0, 8).unwrap() == vec![0; 8 * 512]);
}

#[test]
fn what_a_controller_cannot_do_alone_is_refused() {
    for (fna, has) in [(None, &[][..]), (Some(0b000), &[0x02]), (Some(0b001), &[]), (Some(0b110), &[])] {
        let (flash, world) = served(fna);
        let mut client = client(&world, "a");
        let written = pattern(7, 0, 8, 512);
        client.write(0, &written).unwrap();
        assert_eq!(told(&mut client), [&[0x01][..], has, &[0x1f]].concat(), "{fna:?}");
        for action in [0x02, 0x03].into_iter().filter(|action| !has.contains(action)) {
            assert_eq!(sense(&client.run(sanitize(action, 0x80)).unwrap()), INVALID_FIELD, "{fna:?}");
        }
        assert!(client.read(0, 8).unwrap() == written);
        assert_eq!(flash.violations(), Vec::<String>::new());
    }
}
