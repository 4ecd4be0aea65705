#!/usr/bin/env python3
"""What scripts/package.sh has made, without installing it: the Debian package by lintian, the unit by systemd's own tools, the
static program and the container's tree in a chroot, the example for Kubernetes as far as it goes without a cluster.

package.py [deb] [static]     which of the two; both unless said. Needs root for the chroot.
"""
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

from harness import ROOT, Checks, expect, free_port, run, wait_until

OUT = os.path.join(ROOT, "target/package")
IMAGE = os.path.join(OUT, "image")
UNIT = os.path.join(ROOT, "packaging/systemd/lunette.service")
SOCKET_UNIT = os.path.join(ROOT, "packaging/systemd/lunette.socket")
CONTAINERFILE = os.path.join(ROOT, "packaging/container/Containerfile")
KUBERNETES = os.path.join(ROOT, "packaging/kubernetes")
SOCKET = "/run/lunette/rpc.sock"
USER = "64000:64000"
# systemd's reckoning, 0 the best and 10 the worst.
EXPOSURE_MAX = 2.5


def package():
    made = sorted(glob.glob(f"{OUT}/lunette_*.deb"), key=os.path.getmtime)
    expect(made, "no package: scripts/package.sh deb")
    return made[-1]


def lint():
    run("lintian", "--fail-on", "error,warning", "--allow-root", package(), seconds=600)


def contents():
    with tempfile.TemporaryDirectory() as root:
        run("dpkg-deb", "-x", package(), root)
        files = {os.path.relpath(os.path.join(folder, name), root) for folder, _, names in os.walk(root) for name in names}
        for wanted in ("usr/bin/lunette", "usr/sbin/lunette-setup", "lib/systemd/system/lunette.service",
                       "lib/systemd/system/lunette.socket", "usr/lib/sysusers.d/lunette.conf", "etc/lunette/serve.conf", "usr/share/doc/lunette/SUMMARY.md"):
            expect(wanted in files, f"no {wanted} in {sorted(files)}")
        expect(not [name for name in files if name.startswith("var/")], "what the daemon writes belongs to nobody's package")
        version = run(f"{root}/usr/bin/lunette", "--version")
        expect(re.fullmatch(r"lunette \d+\.\d+\.\d+.*\n", version), version)


def same_again():
    """The same program makes the same package, byte for byte."""
    first = package()
    with open(first, "rb") as made:
        before = made.read()
    program = os.path.join(OUT, "deb/usr/bin/lunette")
    run("env", f"BINARY={shutil.copy(program, f'{OUT}/again')}", f"{ROOT}/scripts/package.sh", "deb", seconds=600)
    with open(first, "rb") as made:
        expect(made.read() == before, "two packages of one program differ")


def unit():
    with tempfile.TemporaryDirectory() as folder:
        # With programs that are there.
        with open(UNIT) as written, open(f"{folder}/lunette.service", "w") as file:
            file.write(written.read().replace("/usr/bin/lunette", "/bin/true"))
        shutil.copy(SOCKET_UNIT, folder)
        units = [f"{folder}/lunette.{kind}" for kind in ("service", "socket")]
        said = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
        mine = [line for line in said.stderr.splitlines() if "lunette" in line]
        expect(said.returncode == 0 and not mine, said.stderr)
        told = run("systemd-analyze", "security", "--offline=true", f"{folder}/lunette.service")
    score = re.search(r"Overall exposure level for lunette.service: ([\d.]+)", told)
    expect(score and float(score[1]) <= EXPOSURE_MAX, told[-200:])
    return f"exposure {score[1]}"


def directives():
    """The Containerfile's lines, by word."""
    found = {}
    with open(CONTAINERFILE) as file:
        for line in file:
            word, _, rest = line.strip().partition(" ")
            if word and word != "#":
                expect(word not in found, f"two lines {word}")
                found[word] = rest
    return found


def is_static():
    program = os.path.join(OUT, "lunette-static")
    headers = run("readelf", "-lW", program)
    expect("INTERP" not in headers, headers)
    expect("NEEDED" not in run("readelf", "-dW", program), "it needs libraries")


def in_image(root, *argv, **options):
    """Runs this in the image's tree as its user, with nothing else in sight."""
    command = [shutil.which("chroot"), f"--userspec={USER}", root, *argv]
    return subprocess.Popen(command, env={"LUNETTE_SOCKET": SOCKET}, stdin=subprocess.DEVNULL, **options)


class Container:
    """The image's tree as the Containerfile says, its entry point running."""

    def __init__(self, *args):
        self.args = args

    def __enter__(self):
        self.work = tempfile.mkdtemp(prefix="image.")
        self.root = os.path.join(self.work, "root")
        shutil.copytree(IMAGE, self.root)
        os.chmod(self.work, 0o755)
        for folder in ("var/lib/lunette", "run/lunette"):
            os.chown(os.path.join(self.root, folder), *map(int, USER.split(":")))
        self.log = open(os.path.join(self.work, "log"), "w+")
        entry = json.loads(directives()["ENTRYPOINT"])
        self.process = in_image(self.root, *entry, *self.args, stdout=self.log, stderr=self.log)
        try:
            wait_until("calls are answered", 20, self.answers)
        except BaseException:
            self.__exit__()
            raise
        return self

    def answers(self):
        if self.process.poll() is not None:
            self.log.seek(0)
            raise RuntimeError(f"it ended with {self.process.returncode}: {self.log.read()}")
        asked = in_image(self.root, "/lunette", "rpc", "--socket", SOCKET, "rpc_get_methods", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return asked.wait() == 0

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.work)


def image():
    lines = directives()
    expect((lines["FROM"], lines["COPY"], lines["USER"]) == ("scratch", ". /", USER), lines)
    files = sorted(os.path.relpath(os.path.join(folder, name), IMAGE) for folder, _, names in os.walk(IMAGE) for name in names)
    expect(files == ["lunette"], files)
    with Container() as container:
        config = os.path.join(container.root, "var/lib/lunette/lunette.json")
        expect(os.stat(config).st_mode & 0o777 == 0o600, "others can read the configuration")
        container.process.terminate()
        expect(container.process.wait(30) == 0, "it does not end in order")


def documents():
    """The example's, each a mapping with what every object of Kubernetes has."""
    import yaml
    with open(f"{KUBERNETES}/lunette.yaml") as file:
        found = list(yaml.safe_load_all(file))
    for document in found:
        expect({"apiVersion", "kind", "metadata", "spec"} <= set(document), document)
    return {document["kind"]: document for document in found}


def kubernetes():
    """The deployment's program takes what it is given, and volume.sh makes a disk, reached from outside, and takes it away."""
    found = documents()
    pod = found["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    expect(f'{pod["securityContext"]["runAsUser"]}:{pod["securityContext"]["runAsGroup"]}' == USER, "another user")
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    expect(mounted == {"/var/lib/lunette", "/run/lunette"}, mounted)
    expect({volume["name"] for volume in pod["volumes"]} == {mount["name"] for mount in container["volumeMounts"]}, "volumes")
    with Container(*container["args"]) as running:
        for probe in ("startupProbe", "livenessProbe"):
            asked = in_image(running.root, *container[probe]["exec"]["command"], stdout=subprocess.DEVNULL)
            expect(asked.wait() == 0, f"{probe} fails")
        # kubectl, as far as volume.sh uses it.
        kubectl = os.path.join(running.work, "kubectl")
        with open(kubectl, "w") as file:
            file.write(f'#!/bin/sh\nshift 3\nexec chroot --userspec={USER} {running.root} "$@"\n')
        os.chmod(kubectl, 0o755)
        port = free_port()
        with open(f"{KUBERNETES}/volume.sh") as file:
            script = file.read()
        # A port of its own: 3260 may be somebody's here.
        volume = os.path.join(running.work, "volume.sh")
        with open(volume, "w") as file:
            file.write(script.replace("3260", str(port)))
        script_with = ("env", f"KUBECTL={kubectl}", "sh", volume)
        initiator = "iqn.2026-11.io.example:node"
        for name in ("one", "two"):
            run(*script_with, "create", name, str(64 << 20), f"127.0.0.1:{port}", initiator)
        seen = run("iscsi-ls", "-i", initiator, "-s", f"iscsi://127.0.0.1:{port}")
        expect("io.lunette:one" in seen and "io.lunette:two" in seen, seen)
        expect("Size:63M" in seen or "Size:64M" in seen, seen)
        run(*script_with, "delete", "one")
        seen = run("iscsi-ls", "-i", initiator, f"iscsi://127.0.0.1:{port}")
        expect("io.lunette:one" not in seen and "io.lunette:two" in seen, seen)
        with open(os.path.join(running.root, "var/lib/lunette/lunette.json")) as file:
            expect("io.lunette:two" in file.read(), "what was made is not kept")


def main():
    wanted = sys.argv[1:] or ["deb", "static"]
    checks = Checks()
    if "deb" in wanted:
        checks.check("the package, by lintian", lint)
        checks.check("what is in it", contents)
        checks.check("the same package is made again", same_again)
        checks.check("the unit, by systemd-analyze", unit)
    if "static" in wanted:
        checks.check("the static program needs no library", is_static)
        checks.check("the container's tree serves, as its user, with nothing else in it", image)
        checks.check("the example for Kubernetes", kubernetes)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
