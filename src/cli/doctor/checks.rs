//! Memory, limits, processors, and what NVMe controllers need.

use super::machine::{Machine, cpus};
use super::{Finding, Wanted};

/// Descriptors for some thousand connections, and disks.
const FILES_WANTED: u64 = 8192;

/// Files and block devices are driven by io_uring.
pub(super) fn io_uring(machine: &Machine, _: &Wanted) -> Vec<Finding> {
    let why = "disks made of files and block devices go through io_uring: they cannot be opened";
    vec![match machine.number("/proc/sys/kernel/io_uring_disabled") {
        Some(2) => Finding::wrong("io_uring is switched off", why, "sysctl -w kernel.io_uring_disabled=0"),
        Some(1) => Finding::hint(
            "io_uring is for privileged users only",
            "disks made of files and block devices go through io_uring: without CAP_SYS_ADMIN they cannot be opened",
            "sysctl -w kernel.io_uring_disabled=0",
        ),
        _ => Finding::fine("io_uring can be used"),
    }]
}

/// Buffers are cut from hugepages where there are enough.
pub(super) fn hugepages(machine: &Machine, wanted: &Wanted) -> Vec<Finding> {
    let number = |name| machine.field("/proc/meminfo", name).and_then(|text| text.parse::<u64>().ok());
    let Some(page_kib) = number("Hugepagesize").filter(|kib| *kib > 0) else {
        return vec![Finding::hint(
            "the kernel has no hugepages",
            "buffers of small pages cost misses of the TLB",
            "lunette serve --hugepages off",
        )];
    };
    let needed = (wanted.pool_mib * 1024).div_ceil(page_kib);
    let (total, free) = (number("HugePages_Total").unwrap_or(0), number("HugePages_Free").unwrap_or(0));
    let what = format!("{free} of {total} hugepages of {page_kib} KiB are free; buffers take {needed}");
    if free >= needed {
        return vec![Finding::fine(what)];
    }
    let why = "buffers of small pages cost misses of the TLB; a daemon that runs has taken its pages already";
    vec![Finding::hint(what, why, format!("sysctl -w vm.nr_hugepages={}", total + needed - free))]
}

/// What the process may have.
pub(super) fn limits(machine: &Machine, wanted: &Wanted) -> Vec<Finding> {
    let mut found = Vec::new();
    // The soft limit; none stands for no limit.
    let limit = |name| {
        let text = machine.field("/proc/self/limits", name)?;
        Some(text.parse::<u64>().ok())
    };
    if let Some(files) = limit("Max open files") {
        found.push(match files.filter(|files| *files < FILES_WANTED) {
            Some(files) => Finding::hint(
                format!("{files} files can be open at once"),
                "each connection and each disk takes one: logins fail when none is left",
                format!("ulimit -n {FILES_WANTED} (systemd: LimitNOFILE={FILES_WANTED})"),
            ),
            None => Finding::fine("enough files can be open at once"),
        });
    }
    if let Some(bytes) = limit("Max locked memory") {
        let needed = wanted.pool_mib << 20;
        found.push(match bytes.filter(|bytes| *bytes < needed) {
            Some(bytes) => Finding::hint(
                format!("{} KiB of memory can be locked, and buffers are {} MiB", bytes >> 10, wanted.pool_mib),
                "NVMe controllers under VFIO reach locked memory only: attaching one fails for who is not root",
                "ulimit -l unlimited (systemd: LimitMEMLOCK=infinity)",
            ),
            None => Finding::fine("enough memory can be locked"),
        });
    }
    found
}

/// An IOMMU keeps a device within the memory that it was given.
pub(super) fn iommu(machine: &Machine, _: &Wanted) -> Vec<Finding> {
    if !machine.list("/sys/kernel/iommu_groups").is_empty() {
        return vec![Finding::fine("there is an IOMMU, and it is on")];
    }
    let is_amd = machine.read("/proc/cpuinfo").is_some_and(|text| text.contains("AuthenticAMD"));
    let parameters = if is_amd { "amd_iommu=on iommu=pt" } else { "intel_iommu=on iommu=pt" };
    vec![Finding::hint(
        "there is no IOMMU, or it is off",
        "NVMe controllers are driven only with --unsafe-noiommu then: a broken one can overwrite any memory",
        format!("switch VT-d or AMD-Vi on in the firmware, and boot with: {parameters}"),
    )]
}

/// NVMe controllers are driven through VFIO.
pub(super) fn vfio(machine: &Machine, _: &Wanted) -> Vec<Finding> {
    if machine.has("/dev/vfio/vfio") || machine.has("/sys/module/vfio_pci") {
        return vec![Finding::fine("VFIO is there")];
    }
    vec![Finding::hint(
        "the driver vfio-pci is not loaded",
        "NVMe controllers are driven through it; other disks are not",
        "modprobe vfio-pci",
    )]
}

/// Reactors read the clock each turn.
pub(super) fn clock(machine: &Machine, _: &Wanted) -> Vec<Finding> {
    let folder = "/sys/devices/system/clocksource/clocksource0";
    let Some(clock) = machine.read(&format!("{folder}/current_clocksource")) else { return Vec::new() };
    // Those that are read without a system call.
    if ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"].contains(&clock.as_str()) {
        return vec![Finding::fine(format!("the clock is {clock}"))];
    }
    vec![Finding::wrong(
        format!("the clock is {clock}"),
        "each reactor reads it every turn, and each time is a system call",
        format!("echo tsc > {folder}/current_clocksource; if it is refused, dmesg says why"),
    )]
}

/// A processor that clocks down wakes up late.
pub(super) fn governor(machine: &Machine, wanted: &Wanted) -> Vec<Finding> {
    let governor = |cpu: &usize| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
        Some((*cpu, machine.read(&path)?))
    };
    let governors: Vec<_> = wanted.cores.iter().filter_map(governor).collect();
    let slow: Vec<_> = governors.iter().filter(|(_, governor)| governor != "performance").collect();
    match slow.as_slice() {
        [] if governors.is_empty() => Vec::new(),
        [] => vec![Finding::fine("the CPUs of reactors run at full speed")],
        [(cpu, governor), ..] => vec![Finding::hint(
            format!("CPU {cpu} has the governor {governor}"),
            "it is slow after each pause, which shows in latency at low load",
            "cpupower frequency-set -g performance",
        )],
    }
}

/// On a core that is isolated nobody gets in a reactor's way.
pub(super) fn isolation(machine: &Machine, wanted: &Wanted) -> Vec<Finding> {
    let online = machine.read("/sys/devices/system/cpu/online").map_or(0, |list| cpus(&list).len());
    let isolated = machine.read("/sys/devices/system/cpu/isolated").map_or(Vec::new(), |list| cpus(&list));
    let shared: Vec<_> = wanted.cores.iter().filter(|cpu| !isolated.contains(cpu)).collect();
    let list = |cpus: &[&usize]| cpus.iter().map(|cpu| cpu.to_string()).collect::<Vec<_>>().join(",");
    if shared.is_empty() {
        return vec![Finding::fine("reactors have their CPUs to themselves")];
    }
    if online <= wanted.cores.len() {
        return vec![Finding::hint(
            format!("reactors run on all {online} CPUs"),
            "what else runs there delays every command that is under way",
            "lunette serve --cores LIST: leave at least one CPU to others",
        )];
    }
    let shared = list(&shared);
    vec![Finding::hint(
        format!("CPU {shared} is shared with whatever the scheduler puts there"),
        "a reactor that polls loses its CPU for milliseconds now and then: that is the tail of the latency",
        format!("boot with: isolcpus=managed_irq,domain,{shared} nohz_full={shared} rcu_nocbs={shared}"),
    )]
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::machine::tests::Fake;
    use super::*;

    fn wanted() -> Wanted {
        Wanted { cores: vec![2, 3], pool_mib: 256 }
    }

    fn levels(
        check: fn(&Machine, &Wanted) -> Vec<Finding>,
        name: &str,
        files: &[(&str, &str)],
    ) -> Vec<Level> {
        let fake = Fake::new(name, files);
        check(&fake.0, &wanted()).iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn hugepages_are_counted() {
        let meminfo = |free| {
            format!("HugePages_Total:     200\nHugePages_Free:      {free}\nHugepagesize:       2048 kB\n")
        };
        let fake = Fake::new("huge", &[("proc/meminfo", &meminfo(100))]);
        let found = hugepages(&fake.0, &wanted());
        assert_eq!(found[0].what, "100 of 200 hugepages of 2048 KiB are free; buffers take 128");
        assert_eq!((found[0].level, found[0].fix.as_str()), (Level::Hint, "sysctl -w vm.nr_hugepages=228"));
        assert_eq!(levels(hugepages, "huge-ok", &[("proc/meminfo", &meminfo(128))]), [Level::Fine]);
        assert_eq!(levels(hugepages, "huge-none", &[]), [Level::Hint]);
    }

    #[test]
    fn io_uring_may_be_off() {
        let path = "proc/sys/kernel/io_uring_disabled";
        assert_eq!(levels(io_uring, "uring2", &[(path, "2\n")]), [Level::Wrong]);
        assert_eq!(levels(io_uring, "uring1", &[(path, "1\n")]), [Level::Hint]);
        assert_eq!(levels(io_uring, "uring0", &[(path, "0\n")]), [Level::Fine]);
        assert_eq!(levels(io_uring, "uring", &[]), [Level::Fine]);
    }

    #[test]
    fn limits_are_compared_with_what_is_needed() {
        let limits_file = |files: &str, bytes: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units\n\
                 Max open files            {files}                 524288               files\n\
                 Max locked memory         {bytes}              8388608              bytes\n"
            )
        };
        let path = "proc/self/limits";
        assert_eq!(levels(limits, "low", &[(path, &limits_file("1024", "8388608"))]), [Level::Hint; 2]);
        assert_eq!(levels(limits, "high", &[(path, &limits_file("65536", "unlimited"))]), [Level::Fine; 2]);
        let fake = Fake::new("low-words", &[(path, &limits_file("1024", "8388608"))]);
        let found = limits(&fake.0, &wanted());
        assert_eq!(found[1].what, "8192 KiB of memory can be locked, and buffers are 256 MiB");
    }

    #[test]
    fn devices_need_an_iommu_and_a_driver() {
        assert_eq!(levels(iommu, "iommu", &[("sys/kernel/iommu_groups/0/type", "DMA")]), [Level::Fine]);
        let fake = Fake::new("amd", &[("proc/cpuinfo", "vendor_id : AuthenticAMD\n")]);
        assert!(iommu(&fake.0, &wanted())[0].fix.ends_with("amd_iommu=on iommu=pt"));
        assert_eq!(levels(vfio, "vfio", &[("dev/vfio/vfio", "")]), [Level::Fine]);
        assert_eq!(levels(vfio, "novfio", &[]), [Level::Hint]);
    }

    #[test]
    fn a_clock_that_needs_the_kernel_is_wrong() {
        let path = "sys/devices/system/clocksource/clocksource0/current_clocksource";
        assert_eq!(levels(clock, "hpet", &[(path, "hpet\n")]), [Level::Wrong]);
        assert_eq!(levels(clock, "tsc", &[(path, "tsc\n")]), [Level::Fine]);
        assert_eq!(levels(clock, "noclock", &[]), []);
    }

    #[test]
    fn only_the_cores_of_reactors_count() {
        let governor_of = |cpu| format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
        let (two, zero) = (governor_of(2), governor_of(0));
        assert_eq!(levels(governor, "gov", &[(&two, "performance"), (&zero, "powersave")]), [Level::Fine]);
        assert_eq!(levels(governor, "gov2", &[(&two, "powersave")]), [Level::Hint]);
        assert_eq!(levels(governor, "gov0", &[]), []);
        let online = ("sys/devices/system/cpu/online", "0-3");
        assert_eq!(
            levels(isolation, "iso", &[online, ("sys/devices/system/cpu/isolated", "2-3\n")]),
            [Level::Fine]
        );
        let fake = Fake::new("noiso", &[online, ("sys/devices/system/cpu/isolated", "3\n")]);
        let found = isolation(&fake.0, &wanted());
        assert_eq!(found[0].fix, "boot with: isolcpus=managed_irq,domain,2 nohz_full=2 rcu_nocbs=2");
        let fake = Fake::new("all", &[("sys/devices/system/cpu/online", "2-3")]);
        assert_eq!(isolation(&fake.0, &wanted())[0].what, "reactors run on all 2 CPUs");
    }
}
