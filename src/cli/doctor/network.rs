//! What is between initiators and us.

use super::machine::Machine;
use super::{Finding, Wanted};

/// A connection at 25 Gbit/s over 1 ms has so much on its way.
const TCP_BYTES_WANTED: u64 = 4 << 20;
/// What most jumbo frames are.
const MTU_WANTED: u64 = 9000;
/// Offloads that a reactor would do itself otherwise, as ethtool calls them.
const OFFLOADS: &[&str] =
    &["tcp-segmentation-offload", "generic-receive-offload", "scatter-gather", "tx-checksumming"];
/// ARPHRD_ETHER.
const ETHERNET: u64 = 1;

/// The kernel's bounds for TCP.
pub(super) fn sysctls(machine: &Machine, _: &Wanted) -> Vec<Finding> {
    let mut found = Vec::new();
    for name in ["tcp_rmem", "tcp_wmem"] {
        let Some(text) = machine.read(&format!("/proc/sys/net/ipv4/{name}")) else { continue };
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [min, default, max] = numbers[..] else { continue };
        found.push(if max < TCP_BYTES_WANTED {
            Finding::hint(
                format!("net.ipv4.{name}: a connection has {max} bytes of socket buffers at most"),
                "one connection cannot fill a fast link that is not short",
                format!("sysctl -w net.ipv4.{name}='{min} {default} {TCP_BYTES_WANTED}'"),
            )
        } else {
            Finding::fine(format!("net.ipv4.{name}: up to {max} bytes"))
        });
    }
    if machine.number("/proc/sys/net/ipv4/tcp_slow_start_after_idle") == Some(1) {
        found.push(Finding::hint(
            "net.ipv4.tcp_slow_start_after_idle is on",
            "each burst after a pause begins as slowly as a new connection",
            "sysctl -w net.ipv4.tcp_slow_start_after_idle=0",
        ));
    }
    if let Some(backlog) = machine.number("/proc/sys/net/core/somaxconn").filter(|backlog| *backlog < 128) {
        found.push(Finding::hint(
            format!("net.core.somaxconn: {backlog} connections may wait to be accepted"),
            "after an outage all initiators come back at once, and some have to try again",
            "sysctl -w net.core.somaxconn=4096",
        ));
    }
    found
}

/// The machine's own Ethernet devices that are up.
fn nics(machine: &Machine) -> Vec<String> {
    let is_nic = |name: &String| {
        let folder = format!("/sys/class/net/{name}");
        machine.number(&format!("{folder}/type")) == Some(ETHERNET)
            && machine.has(&format!("{folder}/device"))
            && machine.read(&format!("{folder}/operstate")).is_some_and(|state| state != "down")
    };
    machine.list("/sys/class/net").into_iter().filter(is_nic).collect()
}

/// Frames, speed, and queues.
pub(super) fn devices(machine: &Machine, wanted: &Wanted) -> Vec<Finding> {
    let mut found = Vec::new();
    for nic in nics(machine) {
        let folder = format!("/sys/class/net/{nic}");
        let mtu = machine.number(&format!("{folder}/mtu")).unwrap_or(0);
        found.push(if mtu < MTU_WANTED {
            Finding::hint(
                format!("{nic} sends frames of {mtu} bytes"),
                "larger ones cost less of both ends' processors; every switch and initiator in between has to know them too",
                format!("ip link set dev {nic} mtu {MTU_WANTED}"),
            )
        } else {
            Finding::fine(format!("{nic} sends frames of {mtu} bytes"))
        });
        if machine.read(&format!("{folder}/duplex")).as_deref() == Some("half") {
            found.push(Finding::wrong(
                format!("{nic} is half duplex"),
                "data that go both ways collide",
                format!("ethtool -s {nic} autoneg on; look at the cable and the switch"),
            ));
        }
        let queues = machine.list(&format!("{folder}/queues"));
        let queue_count = queues.iter().filter(|queue| queue.starts_with("rx-")).count();
        if queue_count > 0 && queue_count < wanted.cores.len() {
            found.push(Finding::hint(
                format!("{nic} has {queue_count} receive queues for {} reactors", wanted.cores.len()),
                "one processor takes the interrupts of several reactors",
                format!("ethtool -L {nic} combined {}", wanted.cores.len()),
            ));
        }
    }
    found
}

/// What the devices do by themselves.
pub(super) fn offloads(machine: &Machine, _: &Wanted) -> Vec<Finding> {
    let mut found = Vec::new();
    for nic in nics(machine) {
        let Some(text) = machine.output(&["ethtool", "-k", &nic]) else {
            found.push(Finding::hint(
                format!("what {nic} does by itself is not known"),
                "segmentation and checksums cost a reactor dearly where the device leaves them to it",
                "apt install ethtool",
            ));
            continue;
        };
        // `tcp-segmentation-offload: off [fixed]`: fixed cannot be changed.
        let state =
            |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
        let off: Vec<&str> = OFFLOADS.iter().copied().filter(|name| state(name) == Some("off")).collect();
        found.push(if off.is_empty() {
            Finding::fine(format!("{nic} segments and checks by itself, as far as it can"))
        } else {
            let switches: Vec<String> = off.iter().map(|name| format!("{name} on")).collect();
            Finding::hint(
                format!("{nic}: {} is off", off.join(", ")),
                "a reactor does it then, packet by packet",
                format!("ethtool -K {nic} {}", switches.join(" ")),
            )
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::machine::tests::Fake;
    use super::*;

    fn wanted() -> Wanted {
        Wanted { cores: vec![0, 1], pool_mib: 256 }
    }

    const NIC: [(&str, &str); 4] = [
        ("sys/class/net/eth0/type", "1"),
        ("sys/class/net/eth0/device/vendor", "x"),
        ("sys/class/net/eth0/operstate", "up"),
        ("sys/class/net/lo/type", "772"),
    ];

    fn machine(name: &str, more: &[(&str, &str)]) -> Fake {
        Fake::new(name, &[&NIC[..], more].concat())
    }

    #[test]
    fn sysctls_are_compared() {
        let fake = Fake::new(
            "sysctl",
            &[
                ("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n"),
                ("proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t1048576\n"),
                ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "1"),
                ("proc/sys/net/core/somaxconn", "64"),
            ],
        );
        let found = sysctls(&fake.0, &wanted());
        let levels: Vec<Level> = found.iter().map(|finding| finding.level).collect();
        assert_eq!(levels, [Level::Fine, Level::Hint, Level::Hint, Level::Hint]);
        assert_eq!(found[1].fix, "sysctl -w net.ipv4.tcp_wmem='4096 16384 4194304'");
        assert!(sysctls(&Fake::new("nosysctl", &[]).0, &wanted()).is_empty());
    }

    #[test]
    fn devices_are_looked_at_one_by_one() {
        let fake = machine(
            "nic",
            &[
                ("sys/class/net/eth0/mtu", "1500"),
                ("sys/class/net/eth0/duplex", "half"),
                ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0"),
                ("sys/class/net/eth0/queues/tx-0/xps_cpus", "0"),
            ],
        );
        let found = devices(&fake.0, &wanted());
        let fixes: Vec<&str> = found.iter().map(|finding| finding.fix.as_str()).collect();
        assert_eq!(
            fixes,
            [
                "ip link set dev eth0 mtu 9000",
                "ethtool -s eth0 autoneg on; look at the cable and the switch",
                "ethtool -L eth0 combined 2",
            ]
        );
        let fake = machine("nic9000", &[("sys/class/net/eth0/mtu", "9000")]);
        assert_eq!(devices(&fake.0, &wanted())[0].level, Level::Fine);
    }

    #[test]
    fn offloads_that_can_be_switched_on_are_named() {
        let said = "Features for eth0:\ntx-checksumming: on\nscatter-gather: off\n\ttx-scatter-gather: off\n\
                    tcp-segmentation-offload: off\ngeneric-receive-offload: off [fixed]\n";
        let fake = machine("off", &[("ethtool -k eth0", said)]);
        let found = offloads(&fake.0, &wanted());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].fix, "ethtool -K eth0 tcp-segmentation-offload on scatter-gather on");
        assert_eq!(offloads(&machine("unknown", &[]).0, &wanted())[0].level, Level::Hint);
    }
}
