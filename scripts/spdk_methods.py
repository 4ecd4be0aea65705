"""The rest of SPDK's methods by spdk-rpc: each is called, and its effect or its answer looked at.

`spdk_rpc.py` runs these on a daemon of its own that has been started with --wait-for-rpc.
"""
import base64
import os
import re
import subprocess

from harness import expect, free_port, run, wait_until

TARGET = "iqn.2016-06.io.spdk:rest"


def refused(target, code, *argv):
    out = target.rpc(*argv, status=1)
    expect(f'"code": {code},' in out, f"{argv}: {out[-300:]}")


def bdev(target, name):
    return target.json("bdev_get_bdevs", "-b", name)[0]


def read(target, lun=0, portal=0):
    """One READ by an initiator."""
    run("qemu-io", "-r", "-f", "raw", "-c", "read 0 4k", f"iscsi://{target.portals[portal]}/{TARGET}/{lun}")


def before_start(target):
    """What SPDK has set before it starts; a client waits for that meanwhile."""
    waiting = target.begin("framework_wait_init")
    try:
        target.script("bdev_set_options -p 65536 -c 256", "iobuf_set_options --small-pool-count 8192",
                      "accel_set_options --task-count 2048", "sock_set_default_impl -i posix",
                      "sock_impl_set_options -i posix -s 2097152", "bdev_iscsi_set_options -t 5", "bdev_nvme_set_options -a none",
                      "bdev_raid_set_options -w 512", "scheduler_set_options -s 0", "framework_set_scheduler static")
        refused(target, -1, "bdev_wait_for_examine")
        expect(waiting.poll() is None, "it did not wait")
        target.rpc("framework_start_init")
        expect(waiting.wait(timeout=60) == 0, "it waits still")
    finally:
        waiting.kill()
        waiting.wait()
    target.rpc("framework_wait_init")
    refused(target, -1, "bdev_set_options", "-p", "65536")
    expect(target.json("framework_get_scheduler")["scheduler_name"] == "static", "the scheduler")


def log_and_trace(target):
    """Levels are changed; of flags and tracepoints there is none."""
    out = target.script("log_set_level DEBUG", "log_get_print_level", "log_set_print_level WARNING", "log_get_level", "log_set_level NOTICE",
                        "log_get_level", "log_get_flags")
    expect(re.findall(r"\w+", out) == ["DEBUG", "WARNING", "NOTICE"], out)
    for call in (("log_set_flag", "bdev"), ("log_clear_flag", "bdev"), ("trace_disable_tpoint_group", "bdev"),
                 ("trace_set_tpoint_mask", "bdev", "0x1"), ("trace_clear_tpoint_mask", "bdev", "0x1")):
        refused(target, -32602, *call)
    target.rpc("trace_clear")


def framework(target):
    """What SPDK does on cores and PCI, and lunette does not."""
    refused(target, -95, "framework_enable_cpumask_locks")
    target.rpc("framework_disable_cpumask_locks")
    refused(target, -95, "framework_monitor_context_switch", "--monitor")
    expect(target.json("framework_monitor_context_switch", "--no-monitor") == {"enabled": False}, "context switches")
    expect(target.json("framework_get_pci_devices") == [], "PCI devices")


def nvme(target):
    """Controllers, of which there is none here: every word of the client is understood, and nobody answers."""
    expect(target.json("bdev_nvme_get_controllers") == [], "controllers")
    away = ("-b", "Nvme0", "-t", "tcp", "-f", "ipv4", "-a", "127.0.0.1", "-s", str(free_port()), "-n", "nqn.2026-11.io.example:disk",
            "-q", "nqn.2026-11.io.example:host")
    refused(target, -19, "bdev_nvme_attach_controller", *away, "-e", "-d", "-l", "5", "-o", "1", "-u", "2", "-x", "failover")
    refused(target, -19, "bdev_nvme_attach_controller", "-b", "Nvme1", "-t", "pcie", "-a", "ffff:1f:1f.7")
    for call in (("bdev_nvme_get_controllers", "-n", "Nvme0"), ("bdev_nvme_detach_controller", "Nvme0"),
                 ("bdev_nvme_reset_controller", "Nvme0"), ("bdev_nvme_get_controller_health_info", "-c", "Nvme0")):
        refused(target, -19, *call)
    target.rpc("bdev_nvme_set_hotplug", "--no-hotplug", "-r", "200000")


def disks(target):
    """A RAM disk, one by io_uring, and one with faults and delays in front of it."""
    target.rpc("bdev_malloc_create", "-b", "M0", "8", "512")
    file = target.path("uring.img")
    with open(file, "wb") as f:
        f.truncate(1 << 20)
    expect(target.rpc("bdev_uring_create", file, "U0", "512").strip() == "U0", "uring")
    expect(bdev(target, "U0")["num_blocks"] == 2048, "its size")
    os.truncate(file, 3 << 20)
    target.rpc("bdev_uring_rescan", "U0")
    expect(bdev(target, "U0")["num_blocks"] == 3 * 2048, "its size, rescanned")
    target.rpc("bdev_error_create", "M0")
    target.rpc("bdev_delay_create", "-b", "EE_M0", "-d", "D0", "-r", "1", "-t", "2", "-w", "3", "-n", "4")
    target.rpc("bdev_delay_update_latency", "D0", "p99_read", "1000")
    target.rpc("bdev_delay_update_latency", "D0", "avg_write", "0")
    saved = [call["params"] for call in target.json("framework_get_config", "bdev") if call["method"] == "bdev_delay_create"]
    expect([(d["avg_read_latency"], d["p99_read_latency"], d["avg_write_latency"]) for d in saved] == [(1, 1000, 0)], f"{saved}")
    target.rpc("bdev_passthru_create", "-b", "D0", "-p", "P0")
    target.rpc("bdev_examine", "-b", "P0")
    refused(target, -19, "bdev_examine", "-b", "nothing")
    target.rpc("bdev_wait_for_examine")
    target.script(*(f"bdev_null_create {name} 8 512" for name in ("N0", "N1", "N2")),
                  "bdev_raid_create -n R0 -z 64 -r concat -b 'N0 N1'")
    target.rpc("bdev_raid_add_base_bdev", "R0", "N2", status=1)
    expect(bdev(target, "R0")["num_blocks"] == bdev(target, "N0")["num_blocks"] * 2, "it has grown")
    portals = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    expect(portals[0] != portals[1], "one port twice")
    target.portals = portals
    target.script("iscsi_create_initiator_group 1 ANY 127.0.0.0/8", f"iscsi_create_portal_group 1 {portals[0]}",
                  f"iscsi_create_portal_group 2 {portals[1]}",
                  "iscsi_create_target_node rest Rest 'P0:0 U0:1' '1:1 2:1' 64 -d")
    for lun in (0, 1):
        read(target, lun)


def counts(target):
    """Histograms and counters: what one READ adds."""
    target.rpc("bdev_enable_histogram", "U0", "--histogram")
    target.rpc("iscsi_enable_histogram", TARGET, "--histogram")
    target.rpc("bdev_reset_iostat", "-b", "U0", "-m", "all")
    def reads():
        return target.json("bdev_get_iostat", "--names", "U0")["bdevs"][0]["num_read_ops"]
    expect(reads() == 0, f"{reads()} reads after the reset")
    read(target, 1)
    seen = reads()
    expect(seen > 0, "no read was counted")
    borders = target.json("bdev_get_histogram_borders", "U0", "--borders", "0,60000000")
    expect(f"{seen}" in f"{borders}", f"{borders} of {seen}")
    buckets = base64.b64decode(target.json("iscsi_get_histogram", TARGET)["histogram"])
    ended = sum(int.from_bytes(buckets[at:at + 8], "little") for at in range(0, len(buckets), 8))
    expect(ended > seen, f"{ended} commands")
    target.rpc("bdev_enable_histogram", "U0", "--no-histogram")
    target.rpc("iscsi_enable_histogram", TARGET, "--no-histogram")
    refused(target, -32602, "iscsi_get_histogram", TARGET)
    return f"{seen} reads, {ended} commands"


def held_back(target):
    """A READ that an error bdev holds until it is told to let go."""
    target.rpc("bdev_error_inject_error", "EE_M0", "read", "pending", "-n", "1")
    client = subprocess.Popen(["qemu-io", "-r", "-f", "raw", "-c", "read 0 4k", target.url()], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        wait_until("a READ that is held back", 30, lambda: '"READ(' in target.lunette("lunette_get_commands"))
        target.rpc("bdev_error_resume_pending", "EE_M0")
        out, _ = client.communicate(timeout=60)
        expect(client.returncode == 0 and b"read 4096/4096" in out, f"{out!r}")
    finally:
        client.kill()
        client.wait()


def moved(target):
    """Initiators are sent to the other portal, and asked to leave."""
    nowhere = free_port()
    target.rpc("iscsi_target_node_set_redirect", TARGET, "1", "-a", "127.0.0.1", "-p", str(nowhere))
    run("iscsi-inq", target.url(), status="fail")
    target.rpc("iscsi_target_node_set_redirect", TARGET, "1", "-a", "127.0.0.1", "-p", target.portals[1].rsplit(":", 1)[1])
    run("iscsi-inq", target.url())
    target.rpc("iscsi_target_node_set_redirect", TARGET, "1")
    run("iscsi-inq", target.url())
    client = subprocess.Popen(["qemu-io", "-r", "-f", "raw", target.url(lun=1)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                              stderr=subprocess.STDOUT)
    try:
        def sessions():
            return [connection["tsih"] for connection in target.json("iscsi_get_connections")]
        wait_until("a session", 30, sessions)
        first = sessions()
        target.rpc("iscsi_target_node_request_logout", TARGET, "-t", "2")
        expect(sessions() == first, "it did not come by that portal group")
        # QEMU logs out as it is asked to, and comes again.
        target.rpc("iscsi_target_node_request_logout", TARGET, "-t", "1")
        wait_until("another session", 30, lambda: sessions() not in (first, []))
    finally:
        client.kill()
        client.wait()
    refused(target, -32602, "iscsi_target_node_request_logout", "iqn.2026-11.io.example:x")


def deleted(target):
    """Each kind by its own call, from the top down."""
    target.rpc("iscsi_delete_target_node", TARGET)
    for call in (("bdev_passthru_delete", "P0"), ("bdev_delay_delete", "D0"), ("bdev_error_delete", "EE_M0"), ("bdev_uring_delete", "U0")):
        target.rpc(*call)
        refused(target, -19, *call)
    left = sorted(bdev["name"] for bdev in target.json("bdev_get_bdevs"))
    expect(left == ["M0", "N0", "N1", "N2", "R0"], f"{left}")


REST = (("before the start", before_start), ("log and trace", log_and_trace), ("framework", framework), ("NVMe controllers", nvme),
        ("disks", disks), ("histograms and counters", counts), ("a READ held back", held_back), ("redirect and logout", moved),
        ("each kind deleted", deleted))


def all_called(target, called):
    """Every method that both have has been called in this run."""
    known = re.findall(r"^    ([a-z0-9_]+)", target.rpc("-h"), re.M)
    ours = target.json("rpc_get_methods")
    both = {name for name in ours if name in known}
    expect(len(both) > 100, f"{len(both)} methods")
    left = sorted(both - called)
    expect(not left, f"not called: {left}")
    return f"{len(both)} methods"
