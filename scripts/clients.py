#!/usr/bin/env python3
"""Clients that nobody here wrote, against a target on loopback: libiscsi's tools and QEMU.

clients.py [--target lunette|tgt]     tgt is for showing that the script itself is right
"""
import argparse
import filecmp
import json
import os
import random
import re
import subprocess
import sys
import time

from harness import MIB, TARGETS, Checks, expect, run, wait_until

IPV4, IPV6 = "127.0.0.1", "[::1]"
USER, SECRET = "host-side", "correct-horse-12"
TARGET_USER, TARGET_SECRET = "target-side", "battery-staple-3"
STOP_SECONDS = 10


def list_disks(target, portal):
    out = run("iscsi-ls", "-s", f"iscsi://{target.portals[portal]}")
    expect(f"Target:{target.iqn}" in out, f"no target in {out!r}")
    expect(re.search(rf"Lun:{target.first_lun}\s+Type:DIRECT_ACCESS \(Size:", out), f"no disk in {out!r}")


def inquiry(target, portal):
    out = run("iscsi-inq", target.url(portal=portal))
    expect("Peripheral Device Type:DIRECT_ACCESS" in out, f"inquiry says {out!r}")
    out = run("iscsi-inq", "-e", "1", "-c", "131", target.url(portal=portal))  # VPD 83h
    expect("NAA" in out or "Designator" in out, f"device identification says {out!r}")


def capacity(target):
    """Bytes of the disk by READ CAPACITY (16)."""
    out = run("iscsi-readcapacity16", target.url())
    size = re.search(r"Total size:(\d+)", out)
    expect(size, f"no size in {out!r}")
    return int(size[1])


def image_info(target, portal):
    info = json.loads(run("qemu-img", "info", "--output=json", "-f", "raw", target.url(portal=portal)))
    expect(info["virtual-size"] == capacity(target), f"qemu-img says {info}")


def random_image(path, size, seed, share):
    """`share` of its 64 KiB pieces are random bytes, the rest are holes."""
    source = random.Random(seed)
    with open(path, "wb") as f:
        f.truncate(size)
        for offset in range(0, size, 1 << 16):
            if source.random() < share:
                f.seek(offset)
                f.write(source.randbytes(min(1 << 16, size - offset)))


def round_trip(target, seed, share, portal=0, digest="none"):
    """An image as large as the disk goes there and comes back the same."""
    there, back = (os.path.join(target.work, name) for name in ("there", "back"))
    random_image(there, capacity(target), seed, share)
    disk = (f"driver=raw,file.driver=iscsi,file.transport=tcp,file.portal={target.portals[portal]},"
            f"file.target={target.iqn},file.lun={target.first_lun},file.header-digest={digest}")
    start = time.monotonic()
    run("qemu-img", "convert", "-n", "-f", "raw", "--target-image-opts", there, disk)
    middle = time.monotonic()
    run("qemu-img", "convert", "-O", "raw", "--image-opts", disk, back)
    end = time.monotonic()
    expect(filecmp.cmp(there, back, shallow=False), "the image came back different")
    mib = os.path.getsize(there) / MIB
    os.unlink(there)
    os.unlink(back)
    return f"{mib:.0f} MiB, written at {mib / (middle - start):.0f} MiB/s, read at {mib / (end - middle):.0f} MiB/s"


def stop_idle(target):
    status, seconds = target.stop(STOP_SECONDS)
    expect(status == 0, f"status {status}")
    return f"ended in {seconds:.2f} s"


def stop_busy(target):
    """SIGTERM while a client reads as fast as it can."""
    client = subprocess.Popen(["iscsi-perf", "-m", "8", "-t", "60", target.url()], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        os.set_blocking(client.stdout.fileno(), False)
        wait_until("reads under way", 20, lambda: b"iops" in (client.stdout.read() or b""))
        return stop_idle(target)
    finally:
        client.kill()
        client.wait()


def log_in(target, user, secret, status):
    run("iscsi-inq", target.url(login=f"{user}%{secret}@"), status=status)


def no_login(target):
    run("iscsi-inq", target.url(), status="fail")


def mutual(target, secret, status):
    query = f"?target_user={TARGET_USER}&target_password={secret}"
    run("iscsi-inq", target.url(login=f"{USER}%{SECRET}@", query=query), status=status)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--target", choices=TARGETS, default="lunette")
    kind = TARGETS[args.parse_args().target]
    ours = kind.name == "lunette"
    checks = Checks()
    check = checks.check
    options = ["--idle", "park", "-m", "0x3"]

    with kind(hosts=(IPV4, IPV6), options=options) as target:
        print(f"{kind.name} on {', '.join(target.portals)}")
        for number, family in enumerate(("IPv4", "IPv6")):
            check(f"iscsi-ls -s, {family}", list_disks, target, number)
            check(f"iscsi-inq, {family}", inquiry, target, number)
            check(f"qemu-img info, {family}", image_info, target, number)
        check("qemu-img convert there and back", round_trip, target, 1, 1.0)
        check("the same with holes over old data", round_trip, target, 2, 0.4)
        check("the same over IPv6", round_trip, target, 3, 0.1, 1)
        check("the same with header digests", round_trip, target, 4, 0.3, 0, "crc32c")
        if ours:
            check("SIGTERM when idle", stop_idle, target)
    if ours:
        with kind(options=options) as target:
            check("SIGTERM under load", stop_busy, target)

    with kind(options=options, secrets={"chap": (USER, SECRET)}) as target:
        check("CHAP", log_in, target, USER, SECRET, 0)
        check("CHAP, wrong secret", log_in, target, USER, SECRET[::-1], "fail")
        check("CHAP, wrong user", log_in, target, "somebody", SECRET, "fail")
        check("CHAP asked for, none offered", no_login, target)
    with kind(options=options, secrets={"chap": (USER, SECRET), "mutual": (TARGET_USER, TARGET_SECRET)}) as target:
        check("mutual CHAP", mutual, target, TARGET_SECRET, 0)
        check("mutual CHAP, target's secret wrong", mutual, target, TARGET_SECRET[::-1], "fail")
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
