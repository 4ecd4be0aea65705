#!/usr/bin/env python3
"""SPDK's bdevs behind `lunette serve --spdk-json`, used by clients that nobody here wrote: libiscsi's tools, its test suite, QEMU.

spdk.py [--out FOLDER]     the binary is LUNETTE's, built with `--features spdk`
"""
import argparse
import json
import os
import re
import sys
import tomllib

from clients import image_info, list_disks, round_trip
from conformance import LARGE_BLOCKS, Disk, compare, names, run_suite
from harness import BINARY, MIB, ROOT, Checks, expect, run, wait_until

DISK_MIB = 64
# In SPDK's order: name, product, block size, and the calls that make it.
BDEVS = [
    ("Malloc512", "Malloc disk", 512),
    ("Malloc4096", "Malloc disk", 4096),
    ("Aio", "AIO disk", 512),
    ("Uring", "URING bdev", 4096),
    ("Large", "Malloc disk", 512),
    ("Raid", "Raid Volume", 512),
]
LARGE = 4  # its physical blocks are larger than its blocks
STOP_SECONDS = 20


class Spdk(Disk):
    """lunette with SPDK's bdevs as LUNs 0, 1 and so on."""

    def __init__(self):
        super().__init__("spdk", 512)

    def start(self):
        ready, config = (os.path.join(self.work, name) for name in ("ready", "spdk.json"))
        with open(config, "w") as f:
            json.dump(self.config(), f)
        self.spawn([BINARY, "serve", "--spdk-json", config, "--ready-file", ready, "--idle", "park", "-m", "0x3",
                    "--portal", "127.0.0.1:0", "--hugepages", "off"])
        wait_until("ready file", 30, lambda: self.alive() and os.path.exists(ready))
        with open(ready) as f:
            self.portals = f.read().split()

    def urls_for(self, test):
        # Its second path is a second session.
        return [self.url(lun=LARGE if test in LARGE_BLOCKS else 0)] * 2

    def config(self):
        """What SPDK's own programs would be given."""
        def call(method, **params):
            return {"method": method, "params": params}

        def malloc(name, block_bytes, mib=DISK_MIB, **more):
            return call("bdev_malloc_create", name=name, block_size=block_bytes, num_blocks=mib * MIB // block_bytes, **more)

        files = {}
        for name in ("Aio", "Uring"):
            files[name] = os.path.join(self.work, name)
            with open(files[name], "wb") as f:
                f.truncate(DISK_MIB * MIB)
        calls = [
            malloc("Malloc512", 512),
            malloc("Malloc4096", 4096),
            call("bdev_aio_create", name="Aio", filename=files["Aio"], block_size=512),
            call("bdev_uring_create", name="Uring", filename=files["Uring"], block_size=4096),
            malloc("Large", 512, physical_block_size=4096),
            malloc("Half0", 512, DISK_MIB // 2),
            malloc("Half1", 512, DISK_MIB // 2),
            call("bdev_raid_create", name="Raid", raid_level="raid0", strip_size_kb=64, base_bdevs=["Half0", "Half1"]),
        ]
        return {"subsystems": [{"subsystem": "bdev", "config": calls}]}


def inquiry(target, product, block_bytes):
    out = run("iscsi-inq", target.url())
    expect(f"Product:{product}" in re.sub(r"Product:\s+", "Product:", out), f"inquiry says {out!r}")
    out = run("iscsi-readcapacity16", target.url())
    expect(f"LOGICAL BLOCK LENGTH IN BYTES:{block_bytes}\n" in out, f"capacity says {out!r}")


def conformance(expected, out_dir):
    """libiscsi's whole suite ends on SPDK's RAM disk as `expected` says."""
    target = Spdk()
    right, wrong = compare(target.name, run_suite(target, names(), out_dir), expected)
    expect(not wrong, "\n  ".join(["", *wrong]))
    return f"{right} tests as expected"


def stop(target):
    status, seconds = target.stop(STOP_SECONDS)
    expect(status == 0, f"status {status}")
    return f"{seconds:.2f} s"


def refused(out_dir, text, words):
    """A configuration that SPDK does not take ends the start."""
    path = os.path.join(out_dir, "refused.json")
    with open(path, "w") as f:
        f.write(text)
    out = run(BINARY, "serve", "--spdk-json", path, "--hugepages", "off", "--portal", "127.0.0.1:0", status=1)
    expect(words in out, f"it says {out!r}")


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--out", default=os.path.join(ROOT, "target/ci/spdk"))
    a = a.parse_args()
    os.makedirs(a.out, exist_ok=True)
    with open(os.path.join(ROOT, "conformance.toml"), "rb") as f:
        expected = tomllib.load(f)
    checks = Checks()
    with Spdk() as target:
        checks.check("iscsi-ls -s", list_disks, target, 0)
        for lun, (name, product, block_bytes) in enumerate(BDEVS):
            target.first_lun = lun
            checks.check(f"{name}: iscsi-inq, iscsi-readcapacity16", inquiry, target, product, block_bytes)
            checks.check(f"{name}: qemu-img info", image_info, target, 0)
            checks.check(f"{name}: qemu-img convert there and back", round_trip, target, lun, 0.5)
        checks.check("SIGTERM", stop, target)
    bad = {"method": "bdev_malloc_create", "params": {"name": "Bad", "num_blocks": 0, "block_size": 512}}
    bad = {"subsystems": [{"subsystem": "bdev", "config": [bad]}]}
    checks.check("a call that fails", refused, a.out, json.dumps(bad), "SPDK refuses the configuration")
    checks.check("no JSON", refused, a.out, "{", "SPDK refuses the configuration")
    checks.check("no bdevs", refused, a.out, "{}", "it makes no bdev that can be served")
    checks.check("iscsi-test-cu", conformance, expected, a.out)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
