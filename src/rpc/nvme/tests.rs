//! A controller that is pulled out, and its disk behind a LUN: with a mock controller on a thread of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use tracing::level_filters::LevelFilter;

use super::*;
use crate::bdev::nvme::controller::shared::Options;
use crate::bdev::nvme::mock::{Config, Medium, Mock};
use crate::bdev::nvme::pci::PciTransport;
use crate::buf::Hugepages;
use crate::control::options;
use crate::control::thread::{self, Daemon, Remote};
use crate::reactor::{Idle, Planted};
use crate::rpc::config::{self, Plan};
use crate::rpc::context::{LogLevel, Parts, Stage};
use crate::rpc::methods;
use crate::time::SECOND_NS;

/// Far more than any of this takes.
const SOON: Duration = Duration::from_secs(120);
const BLOCKS: u64 = 64;

/// A daemon with one reactor.
struct Service {
    context: Arc<Context>,
    remote: Remote,
    thread: Option<JoinHandle<bool>>,
}

impl Service {
    fn start() -> Service {
        let (started, is_started) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            let daemon = Daemon::start(thread::Options {
                planted: Planted::default(),
                cores: vec![0],
                idle: Idle::Park,
                hugepages: Hugepages::Off,
                pool_bytes: 16 << 20,
                iscsi: options::Options::default(),
            });
            let daemon = daemon.unwrap();
            started.send(daemon.remote()).unwrap();
            daemon.run()
        });
        let remote = is_started.recv().unwrap();
        let context = Context::new(Parts {
            control: remote.clone(),
            stage: Stage::Startup,
            config_file: None,
            keeps: None,
            hugepages: Hugepages::Off,
            unsafe_noiommu: false,
            log: LogLevel::new(LevelFilter::INFO, |_| {}),
            handed: Arc::default(),
        });
        Plan::default().run(&context, true).unwrap();
        Service { context, remote, thread: Some(thread) }
    }

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

impl Drop for Service {
    fn drop(&mut self) {
        self.remote.drain();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.context.detach_all();
    }
}

/// A controller with a namespace.
struct Device {
    mock: Mock,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Device {
    fn new(nsid: u32) -> Device {
        let mock = Mock::new(Config::default(), 1);
        mock.attach(nsid, Medium::new(BLOCKS, 512));
        let is_over = Arc::new(AtomicBool::new(false));
        let (its, ends) = (mock.clone(), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || {
            let mut rng = crate::sim::rng::Rng::new(1);
            while !ends.load(Ordering::Relaxed) {
                if !its.step(&mut rng) {
                    std::thread::park_timeout(Duration::from_millis(1));
                }
            }
        });
        mock.wakes(thread.thread().clone());
        Device { mock, is_over, thread: Some(thread) }
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

const CALL: &str = r#"{"name":"N","trtype":"PCIe","traddr":"0000:01:00.0","lunette_namespaces":[{"nsid":1,"block_size":512,"uuid":"6d6f636b-0000-4000-8000-000000000001"}]}"#;

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
fn another_medium_is_not_served_in_the_stead_of_the_one_that_is_awaited() {
    let service = Service::start();
    let device = Device::new(1);
    let other = Vacancy { uuid: [7; 16], block_bytes: 4096 };
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
    let unknown = Vacancy { uuid: [0; 16], block_bytes: 512 };
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
