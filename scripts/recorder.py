#!/usr/bin/env python3
"""The flight recorder against Wireshark: every PDU that tshark finds in a recording is one that went over the wire.

recorder.py

A proxy between libiscsi's tools and the daemon notes the header of each PDU, both ways. What the daemon has recorded of the session,
as tshark dissects it, has to be what the proxy saw last, field by field; doctor and events have to answer, and `lunette top` in tmux
has to show what is asked for. Debian: tshark, tmux, qemu-utils, qemu-block-extra.
"""
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time

from harness import BINARY, Checks, Lunette, expect, run, wait_until

FIELDS = ("iscsi.opcode", "iscsi.initiatortasktag", "iscsi.datasegmentlength", "iscsi.cmdsn", "iscsi.expstatsn", "iscsi.statsn",
          "iscsi.expcmdsn", "iscsi.maxcmdsn", "tcp.srcport")
# Where each is, and which PDUs have it (RFC 7143 §11).
REQUEST_FIELDS = {"iscsi.cmdsn": (24, (0x00, 0x01, 0x02, 0x04, 0x06)), "iscsi.expstatsn": (28, (0x00, 0x01, 0x02, 0x04, 0x05, 0x06))}
RESPONSE_FIELDS = {"iscsi.statsn": (24, (0x20, 0x21, 0x22, 0x24, 0x26, 0x31)),
                   "iscsi.expcmdsn": (28, (0x20, 0x21, 0x22, 0x24, 0x25, 0x26, 0x31)),
                   "iscsi.maxcmdsn": (32, (0x20, 0x21, 0x22, 0x24, 0x25, 0x26, 0x31))}
# What doctor looks at on every machine, and what it says nothing of where there is no network device.
DOCTOR = {"io_uring", "hugepages", "limits", "IOMMU", "VFIO", "clock", "isolation", "sysctl"}
DOCTOR_SOMETIMES = {"governor", "network", "offloads"}


def pdus(stream):
    """(whole headers in a stream of bytes, how many of its bytes they account for)"""
    at, found = 0, []
    while at + 48 <= len(stream):
        header = bytes(stream[at:at + 48])
        end = at + 48 + header[4] * 4 + (int.from_bytes(header[5:8], "big") + 3 & ~3)
        if end > len(stream):
            break
        found.append(header)
        at = end
    return found, at


class Proxy:
    """Passes connections on to `address`, one after another, and notes what each said."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.upstream = (host, int(port))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.streams = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(self.upstream)
            streams = (bytearray(), bytearray())
            self.streams.append((server.getsockname()[1], streams))
            for source, sink, stream in ((client, server, streams[0]), (server, client, streams[1])):
                threading.Thread(target=self.copy, args=(source, sink, stream), daemon=True).start()

    def said(self):
        """What each connection has said so far."""
        return [(port, tuple(map(bytes, streams))) for port, streams in self.streams]

    @staticmethod
    def copy(source, sink, stream):
        while True:
            try:
                data = source.recv(1 << 16)
                if not data:
                    break
                stream += data
                sink.sendall(data)
            except OSError:
                break
        try:
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def rpc(target, method, **params):
    return json.loads(run(BINARY, "rpc", "-s", target.socket, method, json.dumps(params)))


def dissect(path, port):
    """What tshark finds: a dictionary of fields for each PDU."""
    argv = ["tshark", "-n", "-r", path, "-d", f"tcp.port=={port},iscsi", "-Y", "iscsi", "-T", "fields", "-E", "separator=|"]
    for field in FIELDS:
        argv += ["-e", field]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    return [dict(zip(FIELDS, line.split("|"))) for line in done.stdout.splitlines()]


def number(text):
    return int(text, 0) if text else None


def be32(header, at):
    return int.from_bytes(header[at:at + 4], "big")


def agree(found, header, initiator_port):
    """Whether what tshark says of a PDU is what its header says."""
    request = number(found["tcp.srcport"]) == initiator_port
    expect(number(found["iscsi.opcode"]) == header[0] & 0x3f, f"opcode: {found} {header.hex()}")
    expect(number(found["iscsi.initiatortasktag"]) == be32(header, 16), f"ITT: {found} {header.hex()}")
    expect(number(found["iscsi.datasegmentlength"]) == be32(header, 4) & 0xffffff, f"length: {found} {header.hex()}")
    for name, (at, opcodes) in (REQUEST_FIELDS if request else RESPONSE_FIELDS).items():
        opcode = header[0] & 0x3f
        expect(found[name] or opcode not in opcodes, f"tshark finds no {name} in {header.hex()}")
        # Where a field is reserved tshark may leave it out, or show what stands there.
        expect(not found[name] or number(found[name]) == be32(header, at), f"{name}: {found} {header.hex()}")
    return request


def recording(target, proxy):
    image = os.path.join(target.work, "image")
    with open(image, "wb") as f:
        f.truncate(2 << 20)
    # A connection that stays: QEMU's, while it is being looked at.
    url = f"iscsi://127.0.0.1:{proxy.port}/{target.iqn}/0"
    qemu = subprocess.Popen(["qemu-io", "-f", "raw", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        for command in ("write -P 7 0 1M", "read -P 7 4k 512k", "write 1M 4k", "flush", "read 0 64k", "aio_read 0 4k", "aio_flush"):
            qemu.stdin.write(command + "\n")
        qemu.stdin.flush()
        busy = wait_until("qemu-io", 20, lambda: [one for one in rpc(target, "iscsi_get_connections") if one["session"] is not None])
        path = os.path.join(target.work, "recording.pcapng")

        def settled():
            """The dump and what the proxy has seen, taken while nothing moved."""
            said = proxy.said()
            time.sleep(0.3)  # what it has seen is with the daemon by then
            if said != proxy.said():
                return None
            if os.path.exists(path):
                os.remove(path)
            answer = rpc(target, "lunette_dump_recorder", file=path, session=busy[0]["session"])
            return answer["pdus"] > 20 and len(said[-1][1][0]) > 1 << 20 and said == proxy.said() and (answer, said[-1])

        answer, (initiator_port, streams) = wait_until("PDUs", 30, settled)
    finally:
        qemu.stdin.close()
        qemu.wait(timeout=60)
    port = int(target.portals[0].rsplit(":", 1)[1])
    found = dissect(path, port)
    expect(len(found) == answer["pdus"], f"tshark finds {len(found)} PDUs of {answer['pdus']}")
    for way, stream in ((True, streams[0]), (False, streams[1])):
        said = [one for one in found if (number(one["tcp.srcport"]) == initiator_port) == way]
        seen, _ = pdus(stream)
        expect(len(said) >= 10, f"only {len(said)} PDUs one way")
        for one, header in zip(said, seen[len(seen) - len(said):]):
            agree(one, header, initiator_port)
    # What was written and read, 64 bytes of it: headers are recorded, and nothing else.
    recorded = open(path, "rb").read()
    expect(bytes([7]) * 64 not in recorded, "there are data in it")
    expect(b"InitiatorName" not in recorded, "there is something of a login in it")
    return f"{len(found)} PDUs"


def protocol_error(target):
    """A peer that breaks the protocol leaves a file behind, whose last PDU is what it did."""
    folder = os.path.join(target.work, "troubles")
    host, port = target.portals[0].rsplit(":", 1)
    with socket.create_connection((host, int(port))) as sock:
        text = (f"InitiatorName=iqn.2026-11.io.example:bad\0TargetName={target.iqn}\0SessionType=Normal\0").encode()
        login = bytearray(48)
        login[0:2] = (0x43, 0x87)
        login[5:8] = len(text).to_bytes(3, "big")
        login[8:14] = bytes.fromhex("800000000001")
        sock.sendall(bytes(login) + text + bytes(-len(text) % 4))
        answer = sock.recv(4096)
        expect(answer[0] == 0x23 and answer[36] == 0, f"login: {answer[:48].hex()}")
        bad = bytearray(48)
        bad[0] = 0x01
        bad[4] = 0xff  # additional header segments longer than any that exist
        sock.sendall(bytes(bad))
        expect(sock.recv(4096) == b"", "the connection is closed")
    files = wait_until("file", 20, lambda: [name for name in os.listdir(folder) if name.endswith(".pcapng")])
    path = os.path.join(folder, files[0])
    wait_until("the PDU that was wrong", 20, lambda: bytes(bad) in open(path, "rb").read())
    run("tshark", "-n", "-r", path, "-d", f"tcp.port=={port},iscsi")


def events(target):
    told = rpc(target, "lunette_get_events")
    kinds = {event["kind"] for event in told["events"]}
    expect({"bdev_registered", "session_up", "session_down", "recorded"} <= kinds, f"told are {kinds}")
    known = {kind["kind"] for kind in rpc(target, "lunette_get_event_kinds")}
    expect(kinds <= known, f"not listed: {kinds - known}")


def top(target):
    """`lunette top` on a terminal, by its keys."""
    once = run(BINARY, "top", "-s", target.socket, "--once")
    for header in (r"^target +LUN +bdev +read/s ", r"^session +initiator +target ", r"^session +LUN +bdev +command "):
        expect(re.search(header, once, re.M), f"--once has no {header!r}: {once!r}")
    expect(re.search(r"^target .* latency +p50 +p99$", once, re.M), f"--once has no p50: {once!r}")
    expect(re.search(r"^\S+ +0 +\S+ +\d", once, re.M), f"--once does not know LUN 0: {once!r}")
    tmux = ["tmux", "-L", f"lunette-{os.getpid()}"]

    def shows(*texts):
        screen = subprocess.run([*tmux, "capture-pane", "-p"], capture_output=True, text=True).stdout
        return all(text in screen for text in texts) and screen

    run(*tmux, "new-session", "-d", "-x", "130", "-y", "30", BINARY, "top", "-s", target.socket)
    try:
        wait_until("LUNs", 10, lambda: shows("LUNs, by IOs", "demo"))
        run(*tmux, "send-keys", "s")
        wait_until("another order", 10, lambda: shows("LUNs, by bytes"))
        run(*tmux, "send-keys", "Tab")
        wait_until("sessions", 10, lambda: shows("sessions, by"))
        run(*tmux, "send-keys", "Tab")
        wait_until("commands", 10, lambda: shows("commands in flight"))
        run(*tmux, "send-keys", "q")
        wait_until("its end", 10, lambda: subprocess.run([*tmux, "list-sessions"], capture_output=True).returncode)
    finally:
        subprocess.run([*tmux, "kill-server"], capture_output=True)


def doctor(_):
    done = subprocess.run([BINARY, "doctor", "--json"], capture_output=True, text=True)
    found = json.loads(done.stdout)
    wrong = [one for one in found if one["level"] == "wrong"]
    expect(done.returncode == (1 if wrong else 0), f"status {done.returncode}, {len(wrong)} are wrong")
    for one in found:
        expect(one["level"] == "ok" or one["why"] and one["fix"], f"no cure: {one}")
    names = {one["check"] for one in found}
    expect(DOCTOR <= names <= DOCTOR | DOCTOR_SOMETIMES, f"looked at were {sorted(names)}")
    return ", ".join(sorted(names))


def main():
    checks = Checks()
    target = Lunette()
    folder = []
    start = target.start

    def prepared():
        target.socket = os.path.join(target.work, "rpc.sock")
        folder.append(os.path.join(target.work, "troubles"))
        os.mkdir(folder[0])
        target.options = ("--rpc-socket", target.socket, "--record-dir", folder[0], "--slow-io", "1000")
        start()

    target.start = prepared
    with target:
        proxy = Proxy(target.portals[0])
        checks.check("a recording is what went over the wire, for tshark", recording, target, proxy)
        checks.check("a protocol error leaves a recording behind", protocol_error, target)
        checks.check("events tell of it", events, target)
        checks.check("top shows what is asked for, in tmux", top, target)
        checks.check("doctor looks at this machine", doctor, target)
        status, _ = target.stop(20)
        expect(status == 0, f"it stopped with {status}")
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
