#!/usr/bin/env python3
"""The commands of README and guide as they are typed, `share`, `resize`, `drain` and the others, with clients that nobody here
wrote at the other end: libiscsi's tools and QEMU.
"""
import json
import os
import socket
import subprocess
import sys

from harness import BINARY, MIB, Checks, Target, expect, run, wait_until


class Shared(Target):
    """`lunette serve` with nothing; what it serves is shared."""

    name = "lunette"

    def start(self):
        self.socket = os.path.join(self.work, "rpc.sock")
        os.environ["LUNETTE_SOCKET"] = self.socket
        self.config = os.path.join(self.work, "config.json")
        with open(self.config, "w") as f:
            f.write('{"subsystems": []}')
        self.serve()

    def serve(self):
        self.spawn([BINARY, "serve", "--config", self.config, "--idle", "park"])
        wait_until("socket", 10, lambda: self.alive() and self.answers())

    def answers(self):
        """Whether the socket takes connections: for a moment it is there and does not."""
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(self.socket) == 0

    def lunette(self, *argv, status=0):
        return run(BINARY, *argv, status=status)

    def share(self, *argv):
        """The disk, as --json tells it, and its URL."""
        told = json.loads(self.lunette("share", *argv, "--json"))
        secret = f"{told['chap_user']}%{told['chap_secret']}@" if "chap_secret" in told else ""
        return told, f"iscsi://{secret}{told['portals'][0]}/{told['target']}/0"

    def path(self, name):
        return os.path.join(self.work, name)


def size_of(url, status=0):
    out = run("qemu-img", "info", "--output=json", "-f", "raw", url, status=status)
    return json.loads(out)["virtual-size"] if status == 0 else None


def share(target):
    """A new file: found by discovery, written and read by QEMU, larger while it is there."""
    told, url = target.share(target.path("disk.img"), "--size", "16M", "--portal", "127.0.0.1:0")
    listed = run("iscsi-ls", "-s", f"iscsi://{told['portals'][0]}")
    expect(f"Target:{told['target']}" in listed and "DIRECT_ACCESS" in listed, f"iscsi-ls says {listed!r}")
    with open(target.path("source"), "wb") as f:
        f.write(os.urandom(16 * MIB))
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", target.path("source"), url)
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", target.path("source"), url)
    target.lunette("resize", "disk", "+16M")
    expect(size_of(url) == 32 * MIB, "the new size does not show")


def chap(target):
    """A secret that was made: who has it comes in, who has not does not."""
    told, url = target.share("8M", "--chap", "joe", "--name", "ram")
    expect(size_of(url) == 8 * MIB, "who has the secret does not get in")
    size_of(url.replace(told["chap_secret"], "not-the-secret-1"), status=1)
    for command in ("status", "sessions"):
        expect(told["chap_secret"] not in target.lunette(command), f"{command} tells the secret")


def allow(target):
    told, url = target.share("8M", "--allow", "iqn.2026-11.io.example:qemu", "--name", "some")
    size_of(url, status=1)
    image = f"driver=iscsi,transport=tcp,portal={told['portals'][0]},target={told['target']},lun=0"
    run("qemu-img", "info", "--image-opts", f"{image},initiator-name=iqn.2026-11.io.example:qemu")


def drain(target):
    """QEMU logs out when it is asked, and nobody gets in until that is taken back."""
    _, url = target.share("8M", "--name", "busy")
    qemu = subprocess.Popen(["qemu-io", "-f", "raw", url], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)
    try:
        busy = lambda: [one for one in json.loads(target.lunette("sessions", "--json"))
                        if one["target_name"].endswith(":busy")]
        wait_until("session", 10, busy)
        out = target.lunette("drain", "busy", "--timeout", "20")
        expect("1 of 1 sessions logged out" in out, f"drain says {out!r}")
        size_of(url, status=1)
        target.lunette("drain", "busy", "--undo")
        expect(size_of(url) == 8 * MIB, "nobody gets in again")
    finally:
        qemu.kill()
        qemu.wait(timeout=60)


def kept(target):
    """What was shared is there after a new start, and the file says nothing wrong."""
    target.lunette("check", target.config)
    before = target.lunette("rpc", "lunette_get_config")
    status, _ = target.stop(10)
    expect(status == 0, f"it ended with {status}")
    target.serve()
    expect(target.lunette("rpc", "lunette_get_config") == before, "something else is served now")


def unshare(target):
    for name in ("disk", "ram", "some", "busy"):
        target.lunette("unshare", name, "--force")
    status = json.loads(target.lunette("status", "--json"))
    expect((status["targets"], status["disks"]) == ([], []), f"something is left: {status}")
    expect(os.path.getsize(target.path("disk.img")) == 32 * MIB, "the file is gone")


def main():
    checks = Checks()
    with Shared() as target:
        for function in (share, chap, allow, drain, kept, unshare):
            checks.check(function.__name__, function, target)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
