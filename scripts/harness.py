"""What the checks against real clients share: targets under test on loopback, and the counting of checks.

A target is a context manager: inside the `with` it serves on `portals`. `Lunette` runs our own binary, `Tgt` Debian's
tgt, so that every script can be shown to work against a target that nobody here wrote.
"""
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = os.environ.get("LUNETTE", os.path.join(ROOT, "target/release/lunette"))
MIB = 1 << 20
# Targets under test take no calls where a daemon of this machine may be looked for.
os.environ["LUNETTE_SOCKET"] = ""


def wait_until(what, seconds, condition):
    """The first true value of `condition()`. So long on a machine that does nothing else: TimeoutError after four times that."""
    end = time.monotonic() + 4 * seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {4 * seconds} s")
        time.sleep(0.001)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Target:
    """A target process with its own scratch folder."""

    iqn = "iqn.2026-11.io.lunette:demo"
    first_lun = 0
    portals = ()
    process = None

    def __enter__(self):
        self.work = tempfile.mkdtemp(prefix="target.")
        self.log = open(os.path.join(self.work, "log"), "w+")
        try:
            self.start()
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, error=None, *_):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        elif error or not self.process or self.process.returncode:
            self.print_log()
        self.log.close()
        shutil.rmtree(self.work, ignore_errors=True)

    def print_log(self):
        self.log.seek(0)
        sys.stderr.write(self.log.read()[-4000:])

    def spawn(self, argv):
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)

    def alive(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}")
        return True

    def url(self, lun=0, portal=0, login="", query=""):
        """The URL of the nth of its disks, counted from 0 whatever number the target gives the first."""
        return f"iscsi://{login}{self.portals[portal]}/{self.iqn}/{lun + self.first_lun}{query}"

    def stop(self, seconds):
        """SIGTERM; the exit status and how long it took."""
        start = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=seconds), time.monotonic() - start


class Lunette(Target):
    """`lunette serve` with the given disks (MiB each, or none for the demo's own) and portals with port 0."""

    name = "lunette"

    def __init__(self, disks_mib=(), hosts=("127.0.0.1",), options=(), secrets=None):
        self.disks_mib, self.hosts, self.options, self.secrets = disks_mib, hosts, options, secrets or {}

    def start(self):
        ready = os.path.join(self.work, "ready")
        argv = [BINARY, "serve", "--demo", "--ready-file", ready, *self.options]
        for host in self.hosts:
            argv += ["--portal", f"{host}:0"]
        for number, mib in enumerate(self.disks_mib):
            argv += ["--malloc", f"disk{number}:{mib}M"]
        for side in ("chap", "mutual"):
            if side in self.secrets:
                user, secret = self.secrets[side]
                path = os.path.join(self.work, side)
                with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
                    f.write(secret)
                argv += [f"--{side}-user", user, f"--{side}-secret-file", path]
        begin = time.monotonic()
        self.spawn(argv)
        wait_until("ready file", 10, lambda: self.alive() and os.path.exists(ready))
        self.ready_seconds = time.monotonic() - begin
        with open(ready) as f:
            self.portals = f.read().split()
        if len(self.portals) != len(self.hosts):
            raise RuntimeError(f"{len(self.hosts)} portals asked for, ready file says {self.portals}")


class Tgt(Target):
    """Debian's tgt: its disks are sparse files, its LUN 0 is a controller."""

    name = "tgt"
    first_lun = 1

    def __init__(self, disks_mib=(64,), hosts=("127.0.0.1",), options=(), secrets=None):
        self.disks_mib, self.hosts, self.secrets = disks_mib or (64,), hosts, secrets or {}

    def admin(self, *argv):
        done = subprocess.run(["tgtadm", "-C", str(self.control), "--lld", "iscsi", *argv], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"tgtadm {' '.join(argv)}: {done.stderr.strip()}")
        return True

    def start(self):
        ports = [free_port() for _ in self.hosts]
        self.control = ports[0] % 32767 + 1  # tgtd takes no larger one; 0 is the system's own
        self.portals = [f"{host}:{port}" for host, port in zip(self.hosts, ports)]
        argv = ["tgtd", "-f", "-C", str(self.control), "--iscsi", ",".join(f"portal={p}" for p in self.portals)]
        begin = time.monotonic()
        self.spawn(argv)
        wait_until("tgtd", 10, lambda: self.alive() and self.answers())
        self.ready_seconds = time.monotonic() - begin
        self.admin("--mode", "target", "--op", "new", "--tid", "1", "-T", self.iqn)
        for number, mib in enumerate(self.disks_mib, 1):
            path = os.path.join(self.work, f"disk{number}")
            with open(path, "wb") as f:
                f.truncate(mib * MIB)
            lun = ["--mode", "logicalunit", "--tid", "1", "--lun", str(number)]
            self.admin(*lun, "--op", "new", "-b", path)
            self.admin(*lun, "--op", "update", "--params", "thin_provisioning=1")
        for side, extra in (("chap", []), ("mutual", ["--outgoing"])):
            if side in self.secrets:
                user, secret = self.secrets[side]
                self.admin("--mode", "account", "--op", "new", "--user", user, "--password", secret)
                self.admin("--mode", "account", "--op", "bind", "--tid", "1", "--user", user, *extra)
        self.admin("--mode", "target", "--op", "bind", "--tid", "1", "-I", "ALL")

    def answers(self):
        try:
            return self.admin("--mode", "system", "--op", "show")
        except RuntimeError:
            return False


TARGETS = {"lunette": Lunette, "tgt": Tgt}


class Checks:
    """Counts checks; one that raises has failed. `finish` prints the line that ci.sh reads."""

    passed = failed = skipped = 0

    def check(self, name, function, *args):
        start = time.monotonic()
        try:
            note = function(*args)
        except Exception as error:  # whatever a check trips over is its failure
            self.failed += 1
            print(f"FAIL {name}: {type(error).__name__}: {error}", flush=True)
            return False
        self.passed += 1
        print(f"ok   {name} ({time.monotonic() - start:.2f} s){': ' + note if note else ''}", flush=True)
        return True

    def finish(self):
        print(f"checks: {self.passed} passed, {self.failed} failed, {self.skipped} skipped")
        return 1 if self.failed or not self.passed else 0


def expect(condition, message):
    if not condition:
        raise AssertionError(message)


def run(*argv, status=0, seconds=60):
    """A command's output, both streams; it must end with that status ("fail": any but 0) in time."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", timeout=seconds)
    right = done.returncode != 0 if status == "fail" else done.returncode == status
    expect(right, f"{' '.join(argv)}: status {done.returncode}: {done.stdout.strip()[-400:]}")
    return done.stdout
