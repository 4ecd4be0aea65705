//! A real target, where `LUNETTE_NVMET=ADDRESS:PORT,NQN` names one: namespace 1 has 512-byte blocks, namespace 2 has
//! 4096-byte blocks, and what is on them is lost. Without the variable there is nothing to run against, and the tests say so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::bdev::contract::{Made, Subject, suite};
use crate::bdev::nvme::TimeOuts;
use crate::bdev::nvme::controller::shared;
use crate::bdev::nvme::namespace::NvmeBdev;
use crate::bdev::nvme::tcp::pdu::Digests;
use crate::bdev::nvme::tcp::transport::{Options, TcpTransport};
use crate::bdev::nvme::thread::Handle;
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

fn attach(digests: Digests) -> Option<Arc<Handle>> {
    let (address, nqn) = peer()?;
    let options = Options { digests, ..Options::new(address, &nqn, HOST, [9; 16]) };
    let handle = Handle::attach(
        Box::new(TcpTransport::new(options)),
        shared::Options::fabrics("nvmet".to_owned(), 4, None),
        Arc::new(|event| {
            if let shared::Event::Said(_, text) = event {
                eprintln!("{text}");
            }
        }),
    );
    let handle = Arc::new(handle.expect("a thread"));
    handle.wait_attached(Duration::from_secs(60)).expect("it is attached");
    Some(handle)
}

fn passes_the_contract(digests: Digests) {
    static NUMBER: AtomicU64 = AtomicU64::new(1 << 40);
    let Some(handle) = attach(digests) else { return };
    let disks = handle.shared().disks();
    assert_eq!(disks.iter().map(|disk| disk.nsid).collect::<Vec<_>>(), [1, 2]);
    for disk in disks {
        let make = || {
            let handle = Arc::clone(&handle);
            let bdev = NvmeBdev::new(
                "disk".to_owned(),
                NUMBER.fetch_add(1, Ordering::SeqCst),
                Arc::clone(handle.shared()),
                Arc::clone(&disk),
                TimeOuts { command_ns: 30 * SECOND_NS, abort_ns: 5 * SECOND_NS },
                Arc::new(move |reactor| handle.port(reactor)),
            );
            Made { bdev: Arc::new(bdev), resize: None }
        };
        suite(&Subject { name: "NVMe over TCP", make: &make, keeps_data: true, frees_on_drop: false });
    }
    handle.detach(Duration::from_secs(30)).expect("it is given back");
}

#[test]
fn nvmet_passes_the_contract() {
    passes_the_contract(Digests { header: false, data: false });
}

#[test]
fn nvmet_passes_the_contract_with_digests() {
    passes_the_contract(Digests { header: true, data: true });
}
