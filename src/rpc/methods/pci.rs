//! PCI devices that the daemon has, and locks of CPUs, of which it has none: `framework_get_pci_devices`,
//! `framework_enable_cpumask_locks`, `framework_disable_cpumask_locks`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use rustix::io::Errno;

use super::{Method, Outcome, method};
use crate::rpc::context::Context;
use crate::rpc::fault::Fault;
use crate::rpc::json::{Json, object};
use crate::rpc::params::Nothing;

pub(super) const METHODS: &[Method] = &[
    method!(
        "framework_get_pci_devices",
        Runtime,
        Nothing,
        get_devices,
        "Lists the PCI devices of the attached controllers, each with its configuration space in hexadecimal digits."
    ),
    method!(
        "framework_enable_cpumask_locks",
        Always,
        Nothing,
        enable_locks,
        "Refused: lunette takes no locks of CPUs, so it cannot keep SPDK's applications off those of its reactors."
    ),
    method!(
        "framework_disable_cpumask_locks",
        Always,
        Nothing,
        disable_locks,
        "Nothing happens: lunette takes no locks of CPUs."
    ),
];

/// Where devices are shown.
const DEVICES: &str = "/sys/bus/pci/devices";
/// The configuration space without what PCI Express has beyond it.
const PLAIN_BYTES: usize = 256;

fn get_devices(context: &Context, _: Nothing) -> Outcome {
    let controllers = context.controllers();
    let addresses = controllers.iter().filter_map(|attached| attached.reach.address());
    Ok(addresses.map(|address| describe(&address.to_string(), Path::new(DEVICES))).collect())
}

/// A device as SPDK shows one; `devices` is the sysfs's folder of them.
fn describe(address: &str, devices: &Path) -> Json {
    let folder = devices.join(address);
    let numa = fs::read_to_string(folder.join("numa_node")).ok().and_then(|text| text.trim().parse().ok());
    let config = fs::read(folder.join("config")).unwrap_or_default();
    object! {
        "address": address,
        "type": "pci",
        "numa_id": numa.unwrap_or(-1i64),
        "config_space": digits(&config),
    }
}

/// The bytes of a configuration space; of the extended one nothing where it is all zeroes.
fn digits(config: &[u8]) -> String {
    let (plain, extended) = config.split_at(config.len().min(PLAIN_BYTES));
    let is_extended = extended.iter().any(|byte| *byte != 0);
    let told = if is_extended { config } else { plain };
    let mut digits = String::with_capacity(2 * told.len());
    for byte in told {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02X}");
    }
    digits
}

fn enable_locks(_: &Context, _: Nothing) -> Outcome {
    Err(Fault::errno(
        Errno::OPNOTSUPP,
        "lunette takes no locks of CPUs: serve --cores says where its reactors run, and others have to be told",
    ))
}

fn disable_locks(_: &Context, _: Nothing) -> Outcome {
    Ok(Json::Bool(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_told_with_its_configuration_space() {
        let folder = std::env::temp_dir().join(format!("lunette-pci-{}", std::process::id()));
        let device = folder.join("0000:01:00.0");
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("numa_node"), "1\n").unwrap();
        let mut config = vec![0; 4096];
        config[..4].copy_from_slice(&[0x36, 0x1b, 0x0a, 0xf0]);
        fs::write(device.join("config"), &config).unwrap();
        let told = describe("0000:01:00.0", &folder);
        let expected = format!("361B0AF0{}", "0".repeat(504));
        assert_eq!(
            told,
            object! { "address": "0000:01:00.0", "type": "pci", "numa_id": 1i64, "config_space": expected }
        );
        config[0x100] = 1;
        assert_eq!(digits(&config).len(), 8192);
        let gone = describe("0000:02:00.0", &folder);
        assert_eq!(
            (gone.member("numa_id"), gone.member("config_space")),
            (Some(&Json::Negative(-1)), Some(&"".into()))
        );
        fs::remove_dir_all(&folder).unwrap();
    }
}
