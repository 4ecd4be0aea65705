//! The contract of real controllers, where variables name them: `LUNETTE_NVMET=ADDRESS:PORT,NQN` one over TCP,
//! `LUNETTE_NVME_PCI=0000:00:10.0` one on PCIe, with `,unsafe` behind it where there is no IOMMU. What is on their namespaces
//! is lost. Without the variable there is nothing to run against, and the tests say so; the labs run them with it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::bdev::contract::{Made, Subject, suite};
use crate::bdev::nvme::TimeOuts;
use crate::bdev::nvme::controller::shared;
use crate::bdev::nvme::namespace::{NvmeBdev, Tenant};
use crate::bdev::nvme::pci;
use crate::bdev::nvme::pci::device::Address;
use crate::bdev::nvme::tcp::pdu::Digests;
use crate::bdev::nvme::tcp::transport::{Options, TcpTransport};
use crate::bdev::nvme::thread::Handle;
use crate::bdev::nvme::transport::Transport;
use crate::time::SECOND_NS;

const HOST: &str = "nqn.2014-08.org.nvmexpress:uuid:4f6c1d4e-3d1b-4f0c-9d55-6f1f0a7c2b11";

fn peer() -> Option<(std::net::SocketAddr, String)> {
    let Ok(named) = std::env::var("LUNETTE_NVMET") else {
        eprintln!("not run: LUNETTE_NVMET names no target");
        return None;
    };
    let (address, nqn) = named.split_once(',').expect("ADDRESS:PORT,NQN");
    Some((address.parse().expect("an address and a port"), nqn.to_owned()))
}

/// One test at a time: they share what is on the namespaces.
static TURN: Mutex<()> = Mutex::new(());

fn passes_the_contract(transport: Box<dyn Transport>, options: shared::Options) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    static NUMBER: AtomicU64 = AtomicU64::new(1 << 40);
    let hook = |event| {
        if let shared::Event::Said(_, text) = event {
            eprintln!("{text}");
        }
    };
    let handle = Arc::new(Handle::attach(transport, options, Arc::new(hook)).expect("a thread"));
    handle.wait_attached(Duration::from_secs(60)).expect("it is attached");
    let disks = handle.shared().disks();
    assert_eq!(disks.iter().map(|disk| disk.nsid).collect::<Vec<_>>(), [1, 2]);
    for disk in disks {
        let make = || {
            let [handle, asked, erasing] = [(); 3].map(|()| Arc::clone(&handle));
            let tenant = Tenant {
                controller: NUMBER.fetch_add(1, Ordering::SeqCst),
                shared: Arc::clone(handle.shared()),
                disk: Arc::clone(&disk),
                times: TimeOuts { command_ns: 30 * SECOND_NS, abort_ns: 5 * SECOND_NS },
                connect: Arc::new(move |reactor| handle.port(reactor)),
                ask: Arc::new(move |query| asked.query(query, Duration::from_secs(30))),
                erase: Arc::new(move |wanted| erasing.erase(wanted)),
            };
            let bdev = NvmeBdev::new("disk".to_owned(), tenant);
            Made { bdev: Arc::new(bdev), resize: None }
        };
        suite(&Subject { name: "NVMe", make: &make, keeps_data: true, frees_on_drop: false });
    }
    handle.detach(Duration::from_secs(30)).expect("it is given back");
}

fn over_tcp(digests: Digests) {
    let Some((address, nqn)) = peer() else { return };
    let transport = TcpTransport::new(Options { digests, ..Options::new(address, &nqn, HOST, [9; 16]) });
    passes_the_contract(Box::new(transport), shared::Options::fabrics("nvmet".to_owned(), 4, None));
}

#[test]
fn nvmet_passes_the_contract() {
    over_tcp(Digests { header: false, data: false });
}

#[test]
fn nvmet_passes_the_contract_with_digests() {
    over_tcp(Digests { header: true, data: true });
}

#[test]
fn pcie_passes_the_contract() {
    let Ok(named) = std::env::var("LUNETTE_NVME_PCI") else {
        return eprintln!("not run: LUNETTE_NVME_PCI names no controller");
    };
    let (address, rest) = named.split_once(',').unwrap_or((&named, ""));
    let transport =
        pci::open(Address::parse(address).expect("an address"), rest == "unsafe", &pci::Groups::default())
            .expect("it is there");
    passes_the_contract(Box::new(transport), shared::Options::pcie("pcie".to_owned(), 2));
}
