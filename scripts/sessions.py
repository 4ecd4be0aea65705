#!/usr/bin/env python3
"""Hold N sessions open and answer the target's NOP-Ins; no other traffic. sessions.py N HOST:PORT IQN

Prints "ready" when all are logged in, ends with 0 when its standard input ends, with 1 when a session was lost.
A deliberately small initiator of its own: no CHAP, no digests, one connection (RFC 7143 sections 11.12 and 11.18).
"""
import selectors
import socket
import struct
import sys

HEADER = 48
LOGIN_REQUEST, LOGIN_RESPONSE, NOP_OUT, NOP_IN, ASYNC_MESSAGE = 0x03, 0x23, 0x00, 0x20, 0x32
IMMEDIATE, FINAL = 0x40, 0x80
RESERVED_TAG = 0xFFFF_FFFF


def receive(sock, length):
    data = b""
    while len(data) < length:
        piece = sock.recv(length - len(data))
        if not piece:
            raise ConnectionError("the target closed the connection")
        data += piece
    return data


def receive_pdu(sock):
    header = receive(sock, HEADER)
    length = header[4] * 4 + int.from_bytes(header[5:8], "big")
    return header, receive(sock, (length + 3) & ~3)


class Session:
    def __init__(self, number, address, iqn):
        self.sock = socket.create_connection(address, timeout=60)
        self.number, self.tsih, self.exp_stat_sn = number, 0, 0
        security, operational = 0 << 2 | 1, 1 << 2 | 3
        moved = self.login(security, InitiatorName=f"iqn.2026-11.io.lunette:idle-{number}", TargetName=iqn,
                           SessionType="Normal", AuthMethod="None")
        # A target that has keys of its own to say takes one more round.
        if not moved or not (self.login(operational, HeaderDigest="None", DataDigest="None") or self.login(operational)):
            raise ConnectionError("the target does not go on with the login")
        self.sock.settimeout(None)

    def login(self, stages, **keys):
        """One login request and its answer; whether the target made the step that was asked for."""
        data = b"".join(f"{key}={value}\0".encode() for key, value in keys.items())
        isid = struct.pack(">BHBH", 0x80, 0, self.number >> 16 & 0xFF, self.number & 0xFFFF)
        header = struct.pack(">BBBBI6sHIHHII16x", LOGIN_REQUEST | IMMEDIATE, FINAL | stages, 0, 0, len(data), isid, self.tsih,
                             1, 0, 0, 1, self.exp_stat_sn)
        self.sock.sendall(header + data + b"\0" * (-len(data) % 4))
        answer, _ = receive_pdu(self.sock)
        opcode, flags, status = answer[0] & 0x3F, answer[1], answer[36:38]
        if opcode != LOGIN_RESPONSE or status != b"\0\0":
            raise ConnectionError(f"login answered by opcode {opcode:#x}, status {status.hex()}")
        self.tsih = int.from_bytes(answer[14:16], "big")
        self.exp_stat_sn = int.from_bytes(answer[24:28], "big") + 1 & 0xFFFF_FFFF
        return flags == FINAL | stages

    def ping(self, tag):
        """A NOP-Out and its answer, the initiator's own look whether the target is there."""
        header = struct.pack(">BBxxI8sIIII16x", NOP_OUT | IMMEDIATE, FINAL, 0, bytes(8), tag, RESERVED_TAG, 1, self.exp_stat_sn)
        self.sock.sendall(header)
        answer, _ = receive_pdu(self.sock)
        if answer[0] & 0x3F != NOP_IN or answer[16:20] != header[16:20]:
            raise ConnectionError(f"NOP answered by {answer.hex()}")
        self.exp_stat_sn = int.from_bytes(answer[24:28], "big") + 1 & 0xFFFF_FFFF

    def answer(self):
        header, _ = receive_pdu(self.sock)
        opcode = header[0] & 0x3F
        if opcode == ASYNC_MESSAGE:
            return
        if opcode != NOP_IN:
            raise ConnectionError(f"unexpected opcode {opcode:#x}")
        ttt, _, cmd_sn = struct.unpack(">III", header[20:32])
        if ttt != RESERVED_TAG:  # RFC 7143 section 11.18: a NOP-Out in reply carries the TTT and LUN of the NOP-In
            reply = struct.pack(">BBxxI8sIIII16x", NOP_OUT | IMMEDIATE, FINAL, 0, header[8:16], RESERVED_TAG, ttt, cmd_sn,
                                self.exp_stat_sn)
            self.sock.sendall(reply)


def main():
    count, (host, _, port), iqn = int(sys.argv[1]), sys.argv[2].rpartition(":"), sys.argv[3]
    watch = selectors.DefaultSelector()
    watch.register(sys.stdin, selectors.EVENT_READ, None)
    for number in range(count):
        session = Session(number, (host.strip("[]"), int(port)), iqn)
        watch.register(session.sock, selectors.EVENT_READ, session)
    print("ready", flush=True)
    answered = 0
    while True:
        for key, _ in watch.select():
            if key.data is None:
                print(f"answered {answered}", flush=True)
                return 0
            key.data.answer()
            answered += 1


if __name__ == "__main__":
    sys.exit(main())
