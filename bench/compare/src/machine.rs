//! The machine: which two CPUs are used, and what of it belongs beside the figures.

use std::fs;
use std::path::Path;

use rustix::thread::CpuSet;

use crate::fault::Fault;

/// Where server and client run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cpus {
    pub(crate) server: usize,
    pub(crate) client: usize,
}

/// A CPU and where it is.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Place {
    cpu: usize,
    package: u32,
    core: u32,
}

/// The two CPUs that this process may use and that are best for it, or those that were asked for.
pub(crate) fn cpus(server: Option<usize>, client: Option<usize>) -> Result<Cpus, Fault> {
    if let (Some(server), Some(client)) = (server, client) {
        return Ok(Cpus { server, client });
    }
    let allowed = rustix::thread::sched_getaffinity(None)
        .map_err(|source| Fault::System { what: "CPU affinity", source })?;
    let allowed = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    let found = choose(&allowed.map(place).collect::<Vec<_>>());
    found.ok_or_else(|| {
        Fault::Usage("two CPUs are needed, one for the server and one for the client".to_owned())
    })
}

fn place(cpu: usize) -> Place {
    let number = |name: &str| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/{name}");
        fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok())
    };
    let own = u32::try_from(cpu).unwrap_or(u32::MAX);
    Place { cpu, package: number("physical_package_id").unwrap_or(0), core: number("core_id").unwrap_or(own) }
}

/// Two cores of one package, the first CPU only where there is no other: most interrupts are its.
fn choose(places: &[Place]) -> Option<Cpus> {
    let mut order: Vec<Place> = places.to_vec();
    if order.len() > 2 {
        order.rotate_left(1);
    }
    let pairs = order
        .iter()
        .enumerate()
        .flat_map(|(at, client)| order[at + 1..].iter().map(move |server| (client, server)));
    let worth = |(client, server): &(&Place, &Place)| {
        let package = client.package == server.package;
        (!package, package && client.core == server.core)
    };
    let (client, server) = pairs.min_by_key(worth)?;
    Some(Cpus { server: server.cpu, client: client.cpu })
}

/// What the figures belong to, a line each.
pub(crate) fn description(cpus: Cpus) -> Vec<String> {
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let model =
        field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let (memory, huge) = (read("/proc/meminfo"), "HugePages_Total");
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let uname = rustix::system::uname();
    let virtual_machine = field(&read("/proc/cpuinfo"), "flags")
        .is_some_and(|flags| flags.split(' ').any(|f| f == "hypervisor"));
    let load = read("/proc/loadavg");
    vec![
        format!("{count} x {model}{}", if virtual_machine { ", a virtual machine" } else { "" }),
        format!(
            "Linux {}, congestion control {}, transparent hugepages {}",
            uname.release().to_string_lossy(),
            read("/proc/sys/net/ipv4/tcp_congestion_control"),
            chosen(&read("/sys/kernel/mm/transparent_hugepage/enabled")).unwrap_or("unknown"),
        ),
        format!(
            "memory {}, hugepages {}",
            field(&memory, "MemTotal").unwrap_or_default(),
            field(&memory, huge).unwrap_or_else(|| "none".to_owned()),
        ),
        format!("vm.percpu_pagelist_high_fraction {}", read("/proc/sys/vm/percpu_pagelist_high_fraction")),
        format!("server on CPU {}, client on CPU {}", cpus.server, cpus.client),
        format!("load average before: {}", load.split(' ').next().unwrap_or("unknown")),
    ]
}

/// Hugepages of the usual size that nobody has, in MiB.
pub(crate) fn free_hugepages_mib() -> u64 {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let number = |name| field(&memory, name).and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    number("HugePages_Free").unwrap_or(0) * number("Hugepagesize").unwrap_or(0) / 1024
}

/// The value in the first line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.into_iter().find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

/// The word in brackets.
fn chosen(text: &str) -> Option<&str> {
    Some(text.split_once('[')?.1.split_once(']')?.0)
}

/// A program in one of these folders, or in those of PATH.
pub(crate) fn program(name: &str, folders: &[&Path]) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from); // not everybody's PATH has them
    let all =
        folders.iter().map(|folder| folder.to_path_buf()).chain(std::env::split_paths(&path)).chain(system);
    all.map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CPU, package, core.
    type Numbers = (usize, u32, u32);
    /// Server and client.
    type Pair = (usize, usize);

    fn places(list: &[Numbers]) -> Vec<Place> {
        list.iter().map(|&(cpu, package, core)| Place { cpu, package, core }).collect()
    }

    #[test]
    fn two_cores_of_one_package() {
        let cases: [(&[Numbers], Option<Pair>); 5] = [
            (&[(0, 0, 0), (1, 0, 1)], Some((1, 0))),
            (&[(0, 0, 0), (1, 0, 1), (2, 0, 2), (3, 0, 3)], Some((2, 1))),
            (&[(0, 0, 0), (1, 1, 0), (2, 0, 1), (3, 1, 1)], Some((3, 1))),
            (&[(0, 0, 0), (1, 0, 0), (2, 0, 1), (3, 0, 1)], Some((2, 1))),
            (&[(0, 0, 0)], None),
        ];
        for (list, expected) in cases {
            assert_eq!(choose(&places(list)).map(|cpus| (cpus.server, cpus.client)), expected, "{list:?}");
        }
    }

    #[test]
    fn kernel_s_files_are_read() {
        assert_eq!(field("processor\t: 0\nmodel name\t: A: B\n", "model name").as_deref(), Some("A: B"));
        assert_eq!(field("MemTotal:  24 kB", "HugePages_Total"), None);
        assert_eq!(chosen("always [madvise] never"), Some("madvise"));
    }
}
