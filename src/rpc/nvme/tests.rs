//! A controller that is pulled out, and its disk behind a LUN: with a mock controller on a thread of its own.

mod lost;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use lunette_initiator::{Client, Config};

use super::*;
use crate::bdev::malloc::{self, Malloc};
use crate::bdev::nvme::controller::shared::{Life, Options};
use crate::bdev::nvme::mock::{self, Medium, Mock, Note};
use crate::bdev::nvme::pci::PciTransport;
use crate::rpc::apply::apply;
use crate::rpc::config::{self, Plan};
use crate::rpc::methods;
use crate::rpc::service::Service;
use crate::rpc::versions::Versions;
use crate::sim::rng::Rng;
use crate::time::SECOND_NS;

/// Far more than any of this takes.
const SOON: Duration = Duration::from_secs(120);
const BLOCKS: u64 = 64;
/// 300 kelvin, as the mock says.
const CELSIUS: i32 = 27;

impl Service {
    fn call(&self, method: &str, params: &str) -> Json {
        methods::call(&self.context, method, Json::parse(params).unwrap())
            .unwrap_or_else(|fault| panic!("{method}: {}", fault.text()))
    }

    fn attach(&self, what: ToAttach) -> Vec<String> {
        let reserved = self.context.reserve_controller(&what.name, None).unwrap();
        self.context.attach(reserved, what).unwrap()
    }

    fn blocks(&self, name: &str) -> Option<u64> {
        let name = name.to_owned();
        self.remote
            .call(move |control, _| control.bdev(&name).map(|entry| entry.spec.bdev.info().blocks))
            .unwrap()
    }

    /// Calls of this method in the configuration: their parameters.
    fn saved(&self, method: &str) -> Vec<String> {
        let plan = Plan::parse(&config::text(&self.context).unwrap()).unwrap();
        plan.calls().filter(|(called, _)| *called == method).map(|(_, params)| params.to_string()).collect()
    }
}

/// A controller with a namespace.
struct Device {
    mock: Mock,
    is_over: Arc<AtomicBool>,
    /// It does nothing for the time being.
    is_paused: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Device {
    fn new(nsid: u32) -> Device {
        Device::with(nsid, Medium::new(BLOCKS, 512))
    }

    fn with(nsid: u32, medium: Medium) -> Device {
        let mock = Mock::new(mock::Config::default(), 1);
        mock.attach(nsid, medium);
        let is_over = Arc::new(AtomicBool::new(false));
        let is_paused = Arc::new(AtomicBool::new(false));
        let (its, ends, pauses) = (mock.clone(), Arc::clone(&is_over), Arc::clone(&is_paused));
        let thread = std::thread::spawn(move || {
            let mut rng = Rng::new(1);
            while !ends.load(Ordering::Relaxed) {
                if pauses.load(Ordering::Relaxed) || !its.step(&mut rng) {
                    std::thread::park_timeout(Duration::from_millis(1));
                }
            }
        });
        mock.wakes(thread.thread().clone());
        Device { mock, is_over, is_paused, thread: Some(thread) }
    }

    fn to_attach(&self) -> ToAttach {
        let transport = PciTransport::new(Arc::new(self.mock.clone()), "mock");
        ToAttach {
            name: "N".to_owned(),
            trid: Json::Null,
            reach: Reach::Bus(Address::parse("0000:01:00.0").unwrap(), None),
            recipe: r#"{"method":"bdev_nvme_attach_controller","params":{"name":"N","trtype":"PCIe","traddr":"0000:01:00.0"}}"#
                .to_owned(),
            options: Options::pcie("N".to_owned(), 1),
            times: TimeOuts { command_ns: 60 * SECOND_NS, abort_ns: 10 * SECOND_NS },
            awaited: None,
            transport: Ok(Box::new(transport)),
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn until(what: &str, is_it: impl Fn() -> bool) {
    let end = Instant::now() + SOON;
    while !is_it() {
        assert!(Instant::now() < end, "{what}: never");
        std::thread::yield_now();
    }
}

fn serve(service: &Service, disk: &str) {
    let params = format!(
        r#"{{"name":"t","alias_name":"","pg_ig_maps":[],"queue_depth":1,"luns":[{{"bdev_name":"{disk}","lun_id":0}}]}}"#
    );
    service.call("iscsi_create_target_node", &params);
}

const CALL: &str = r#"{"name":"N","trtype":"PCIe","traddr":"0000:01:00.0","lunette_namespaces":[{"nsid":1,"block_size":512,"num_blocks":64,"uuid":"6d6f636b-0000-4000-8000-000000000001"}]}"#;

#[test]
fn a_controller_that_is_pulled_out_leaves_its_call_its_disk_and_its_lun() {
    let service = Service::start();
    let device = Device::new(1);
    assert_eq!(service.attach(device.to_attach()), ["Nn1"]);
    serve(&service, "Nn1");
    let targets = service.saved("iscsi_create_target_node");
    assert!(targets[0].contains(r#""luns":[{"bdev_name":"Nn1","lun_id":0}]"#), "{targets:?}");
    assert_eq!(
        (service.saved("bdev_nvme_attach_controller"), service.blocks("Nn1")),
        (vec![CALL.to_owned()], Some(BLOCKS))
    );

    device.mock.remove();
    let before = service.context.controller("N").unwrap();
    assert!(before.shared().wait_over(SOON), "it is given up");
    until("it is not ready", || service.blocks("Nn1") == Some(0));
    assert_eq!(service.saved("bdev_nvme_attach_controller"), [CALL]);
    assert_eq!(service.saved("iscsi_create_target_node"), targets);

    // What comes in its stead has the same medium.
    let device = Device::new(1);
    service.context.attach_again(&before, device.to_attach()).unwrap();
    assert_eq!(service.blocks("Nn1"), Some(BLOCKS));
    assert_eq!(service.saved("bdev_nvme_attach_controller"), [CALL]);
    assert_eq!(service.saved("iscsi_create_target_node"), targets);
    // And who was told that it is gone learns that it is not.
    assert!(service.context.attach_again(&before, Device::new(1).to_attach()).is_err());
    service.call("bdev_nvme_detach_controller", r#"{"name":"N"}"#);
    assert_eq!((service.blocks("Nn1"), service.saved("bdev_nvme_attach_controller").len()), (None, 0));
}

#[test]
fn a_disk_is_as_hot_as_its_controller_while_that_answers() {
    let service = Service::start();
    let device = Device::new(1);
    service.attach(device.to_attach());
    serve(&service, "Nn1");
    let bdev = service
        .remote
        .call(|control, _| control.bdev("Nn1").map(|entry| Arc::clone(&entry.spec.bdev)))
        .unwrap()
        .unwrap();
    let temperature = bdev.temperature().unwrap();
    bdev.measure();
    assert_eq!(temperature.celsius(), Some(CELSIUS));
    let before = service.context.controller("N").unwrap();
    device.mock.remove();
    assert!(before.shared().wait_over(SOON));
    bdev.measure();
    assert_eq!(temperature.celsius(), None);
    // Who looks at it goes on to what comes in its stead.
    let device = Device::new(1);
    service.context.attach_again(&before, device.to_attach()).unwrap();
    bdev.measure();
    assert_eq!(temperature.celsius(), Some(CELSIUS));
    drop(bdev);
    service.call("bdev_nvme_detach_controller", r#"{"name":"N"}"#);
}

#[test]
fn a_disk_that_nobody_uses_goes_with_its_controller_whose_call_stays() {
    let service = Service::start();
    let device = Device::new(1);
    service.attach(device.to_attach());
    device.mock.remove();
    assert!(service.context.controller("N").unwrap().shared().wait_over(SOON));
    until("it is gone", || service.blocks("Nn1").is_none());
    let expected = r#"{"name":"N","trtype":"PCIe","traddr":"0000:01:00.0","lunette_namespaces":[]}"#;
    assert_eq!(service.saved("bdev_nvme_attach_controller"), [expected]);
}

#[test]
fn limits_keep_a_disk_whose_controller_is_away() {
    const LIMITS: &str = r#"{"name":"Nn1","rw_ios_per_sec":500,"rw_mbytes_per_sec":0,"r_mbytes_per_sec":0,"w_mbytes_per_sec":7}"#;
    let service = Service::start();
    let device = Device::new(1);
    service.attach(device.to_attach());
    service.call("bdev_set_qos_limit", LIMITS);
    let before = service.context.controller("N").unwrap();
    device.mock.remove();
    assert!(before.shared().wait_over(SOON));
    until("it is not ready", || service.blocks("Nn1") == Some(0));
    let saved = || (service.saved("bdev_nvme_attach_controller"), service.saved("bdev_set_qos_limit"));
    let expected = (vec![CALL.to_owned()], vec![LIMITS.to_owned()]);
    assert_eq!(saved(), expected);
    let device = Device::new(1);
    service.context.attach_again(&before, device.to_attach()).unwrap();
    assert_eq!((service.blocks("Nn1"), saved()), (Some(BLOCKS), expected));
    // One of the same name that is made later is another one.
    service.call("bdev_nvme_detach_controller", r#"{"name":"N"}"#);
    let device = Device::new(1);
    service.attach(device.to_attach());
    assert_eq!(service.saved("bdev_set_qos_limit").len(), 0);
    service.call("bdev_nvme_detach_controller", r#"{"name":"N"}"#);
}

#[test]
fn another_medium_is_not_served_in_the_stead_of_the_one_that_is_awaited() {
    let service = Service::start();
    let device = Device::new(1);
    let other = Vacancy { uuid: [7; 16], block_bytes: 4096, blocks: 0 };
    let what = ToAttach { awaited: Some(vec![(1, other), (3, other)]), ..device.to_attach() };
    let reserved = service.context.reserve_controller("N", None).unwrap();
    // Two disks of the same medium are one too many.
    assert!(service.context.attach(reserved, what).is_err());
    assert_eq!((service.blocks("Nn1"), service.blocks("Nn3")), (None, None));

    let what = ToAttach { awaited: Some(vec![(1, other)]), ..device.to_attach() };
    assert_eq!(service.attach(what), ["Nn1"]);
    assert_eq!(service.blocks("Nn1"), Some(0), "it is another medium than the one that a file tells of");
    service.call("bdev_nvme_detach_controller", r#"{"name":"N"}"#);

    let device = Device::new(2);
    let unknown = Vacancy { uuid: [0; 16], block_bytes: 512, blocks: 0 };
    let what = ToAttach { awaited: Some(vec![(1, other), (2, unknown)]), ..device.to_attach() };
    assert_eq!(service.attach(what), ["Nn1", "Nn2"]);
    assert_eq!((service.blocks("Nn1"), service.blocks("Nn2")), (Some(0), Some(BLOCKS)));
    serve(&service, "Nn1");
    let before = service.context.controller("N").unwrap();
    device.mock.remove();
    assert!(before.shared().wait_over(SOON));
    let device = Device::new(1);
    service.context.attach_again(&before, device.to_attach()).unwrap();
    assert_eq!(service.blocks("Nn1"), Some(0), "it is another medium than the one that a LUN leads to");
}

/// Initiators, and what is made of it, have addressed it by the blocks that it had.
#[test]
fn a_medium_that_comes_back_with_other_blocks_is_not_taken_in() {
    let service = Service::start();
    let device = Device::new(1);
    assert_eq!(service.attach(device.to_attach()), ["Nn1"]);
    serve(&service, "Nn1");
    let mut device = device;
    for (medium, why) in [
        (Medium::new(BLOCKS, 4096), Some("the medium has blocks of 4096 bytes now, not of 512 as before")),
        (Medium::new(BLOCKS - 1, 512), Some("the medium has 63 blocks now, not 64 as before")),
        (Medium::new(BLOCKS, 512), None),
        (Medium::new(BLOCKS + 1, 512), None),
        (Medium::new(BLOCKS, 512), Some("the medium has 64 blocks now, not 65 as before")),
    ] {
        let before = service.context.controller("N").unwrap();
        device.mock.remove();
        assert!(before.shared().wait_over(SOON));
        let blocks = medium.blocks;
        device = Device::with(1, medium);
        service.context.attach_again(&before, device.to_attach()).unwrap();
        assert_eq!(service.blocks("Nn1"), Some(if why.is_some() { 0 } else { blocks }), "{why:?}");
        until("it is told why", || {
            let shown = service.call("bdev_get_bdevs", r#"{"name":"Nn1"}"#).to_string();
            match why {
                Some(why) => shown.contains(&format!(r#""lunette_not_ready":"{why}""#)),
                None => !shown.contains("lunette_not_ready"),
            }
        });
    }
    drop(device);
}

/// Also where that happened while nobody served it: a file tells how large it was.
#[test]
fn a_medium_that_lost_blocks_between_two_starts_is_not_taken_in() {
    for (was, is, is_served) in [(BLOCKS, BLOCKS, true), (BLOCKS, BLOCKS - 1, false), (0, BLOCKS - 1, true)] {
        let service = Service::start();
        let device = Device::with(1, Medium::new(is, 512));
        let uuid =
            [b"mock".as_slice(), &[0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 1]].concat().try_into().unwrap();
        let awaited = Some(vec![(1, Vacancy { uuid, block_bytes: 512, blocks: was })]);
        assert_eq!(service.attach(ToAttach { awaited, ..device.to_attach() }), ["Nn1"]);
        serve(&service, "Nn1");
        assert_eq!(service.blocks("Nn1"), Some(if is_served { is } else { 0 }), "{was} {is}");
        if !is_served {
            let why = r#""lunette_not_ready":"the medium has 63 blocks now, not 64 as before""#;
            until("it is told why", || {
                service.call("bdev_get_bdevs", r#"{"name":"Nn1"}"#).to_string().contains(why)
            });
            // What is saved is what it was, not what was refused.
            assert_eq!(service.saved("bdev_nvme_attach_controller"), [CALL]);
        }
        service.call("bdev_nvme_detach_controller", r#"{"name":"N"}"#);
    }
}

/// A size that initiators were told of is the one that the next start expects.
#[test]
fn a_namespace_that_is_resized_is_saved_so() {
    let folder = std::env::temp_dir().join(format!("lunette-resized-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("config.json");
    let service = Service::keeping(Some(Versions::of(&file).take().unwrap()));
    let device = Device::new(1);
    service.attach(device.to_attach());
    serve(&service, "Nn1");
    device.mock.resize(1, BLOCKS - 1);
    until("it is smaller", || service.blocks("Nn1") == Some(BLOCKS - 1));
    let is_saved = || std::fs::read_to_string(&file).is_ok_and(|text| text.contains(r#""num_blocks": 63"#));
    until("that is saved", is_saved);
    drop(service);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// What is saved while it is detached can be loaded: it takes as long as what was sent to its disks.
#[test]
fn a_controller_is_saved_until_no_lun_leads_to_it() {
    let service = Service::start();
    let device = Device::new(1);
    service.attach(device.to_attach());
    serve(&service, "Nn1");
    let (attached, reserved) = service.context.leave("N").unwrap();
    assert_eq!(service.saved("bdev_nvme_attach_controller"), [CALL]);
    assert!(service.context.controller("N").is_err() && service.context.leave("N").is_err());
    assert!(service.context.reserve_controller("N", None).is_err(), "its name is not free yet");
    // Whatever is saved meanwhile: who leads to a namespace is never told without it.
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            attached.withdraw();
            is_over.store(true, Ordering::Relaxed);
        });
        while !is_over.load(Ordering::Relaxed) {
            let text = config::text(&service.context).unwrap();
            let leads = text.contains(r#""bdev_name": "Nn1""#);
            assert!(!leads || text.contains(r#""nsid": 1"#), "{text}");
        }
    });
    drop(reserved);
    assert_eq!((service.blocks("Nn1"), service.saved("bdev_nvme_attach_controller").len()), (None, 0));
}

/// What it has is there, and is not to stay.
#[test]
fn no_configuration_is_applied_while_a_controller_is_given_back() {
    let service = Service::start();
    let device = Device::new(1);
    service.attach(device.to_attach());
    serve(&service, "Nn1");
    let with = config::text(&service.context).unwrap();
    let without = r#"{"subsystems":[]}"#.to_owned();
    let (attached, reserved) = service.context.leave("N").unwrap();
    for (text, is_dry) in [(&with, true), (&with, false), (&without, true), (&without, false)] {
        let fault = apply(&service.context, &Plan::parse(text).unwrap(), is_dry, false).unwrap_err();
        assert_eq!(fault.code, -Errno::BUSY.raw_os_error(), "{}", fault.text());
        assert!(fault.text().contains("controller N is being given back: try again"), "{}", fault.text());
    }
    attached.withdraw();
    drop(reserved);
    apply(&service.context, &Plan::parse(&without).unwrap(), false, false).unwrap();
    assert_eq!(service.blocks("Nn1"), None);
}

#[test]
fn a_controller_that_was_detached_gets_no_more_disks() {
    let service = Service::start();
    let device = Device::new(1);
    service.attach(device.to_attach());
    let attached = service.context.controller("N").unwrap();
    let disks = attached.shared().disks();
    service.call("bdev_nvme_detach_controller", r#"{"name":"N"}"#);
    // As who attached it again may do a moment later.
    assert!(attached.add(&disks[0]).is_err());
    assert_eq!(service.blocks("Nn1"), None);
}

/// What operators ask of a controller by its name, and what its disk and the machine's devices say of it.
#[test]
fn a_controller_tells_of_itself_and_does_as_it_is_told() {
    const NAME: &str = r#"{"name":"N"}"#;
    let service = Service::start();
    let device = Device::new(1);
    // Byte 93 of Identify, OAES: it does not tell of changed namespaces.
    device.mock.garble(93, 0);
    let trid = Json::parse(r#"{"trtype":"PCIe","traddr":"0000:01:00.0"}"#).unwrap();
    service.attach(ToAttach { trid, ..device.to_attach() });

    let Json::Array(bdevs) = service.call("bdev_get_bdevs", r#"{"name":"Nn1"}"#) else { panic!() };
    let specific = concat!(
        r#"{"nvme":[{"pci_address":"0000:01:00.0","trid":{"trtype":"PCIe","traddr":"0000:01:00.0"},"#,
        r#""ctrlr_data":{"cntlid":1,"vendor_id":"0x1b36","model_number":"lunette mock controller","#,
        r#""serial_number":"MOCK0001","firmware_revision":"1.0","#,
        r#""subnqn":"nqn.2014-08.org.nvmexpress:uuid:00000000-0000-0000-0000-00006d6f636b","#,
        r#""oacs":{"security":0,"format":0,"firmware":0,"ns_manage":0}},"ns_data":{"id":1}}],"mp_policy":"active_passive"}"#,
    );
    assert_eq!(bdevs[0].member("driver_specific").unwrap().to_string(), specific);
    assert_eq!(service.call("bdev_get_bdevs", "{}"), Json::Array(bdevs));
    let Json::Array(devices) = service.call("framework_get_pci_devices", "{}") else { panic!() };
    let addresses: Vec<_> = devices.iter().map(|device| device.member("address").unwrap().text()).collect();
    assert_eq!(addresses, [Some("0000:01:00.0")]);

    let health = service.call("bdev_nvme_get_controller_health_info", NAME);
    for (name, expected) in [
        ("model_number", Json::from("lunette mock controller")),
        ("temperature_celsius", Json::from(27u64)),
        ("available_spare_percentage", Json::from(100u64)),
        ("available_spare_threshold_percentage", Json::from(10u64)),
        ("media_errors", Json::from(0u64)),
    ] {
        assert_eq!(health.member(name), Some(&expected), "{name}");
    }
    assert_eq!(service.call("lunette_nvme_get_errors", NAME).to_string(), "[]");

    let is_enabled = || device.mock.take_notes().contains(&Note::Enabled);
    assert!(!is_enabled(), "from now on it is written down");
    assert_eq!(service.call("bdev_nvme_reset_controller", NAME), Json::Bool(true));
    until("it is reset", is_enabled);
    let attached = service.context.controller("N").unwrap();
    until("it works again", || attached.shared().life() == Life::Running);

    device.mock.attach(2, Medium::new(BLOCKS, 512));
    assert_eq!(service.blocks("Nn2"), None, "nobody was told");
    assert_eq!(service.call("lunette_nvme_rescan", NAME), Json::Bool(true));
    until("it was looked at again", || service.blocks("Nn2") == Some(BLOCKS));
    for method in [
        "bdev_nvme_reset_controller",
        "bdev_nvme_get_controller_health_info",
        "lunette_nvme_get_errors",
        "lunette_nvme_rescan",
    ] {
        let refused = methods::call(&service.context, method, Json::parse(r#"{"name":"M"}"#).unwrap());
        assert!(refused.is_err(), "{method} of a controller that is not there");
    }
}
