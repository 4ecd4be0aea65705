#!/usr/bin/env python3
"""liar.py LIE PORT FROM: stands on 127.0.0.1:FROM between an initiator and the target on PORT, and changes what that answers.

none    nothing
tpgs    standard INQUIRY data say that there are no target port groups (SPC-5 6.6.2)
states  REPORT TARGET PORT GROUPS tells of active/optimized groups that they stand by, and of all others that they are active/optimized
"""
import socket
import sys
import threading

lie, port, listen = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
SCSI_COMMAND, DATA_IN = 0x01, 0x25
INQUIRY, MAINTENANCE_IN, REPORT_TARGET_PORT_GROUPS = 0x12, 0xA3, 0x0A


def take(source, count):
    data = b""
    while len(data) < count:
        more = source.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def changed(cdb, data):
    data = bytearray(data)
    if lie == "tpgs" and cdb[0] == INQUIRY and not cdb[1] & 1 and len(data) > 5:
        data[5] &= ~0x30
    if lie == "states" and cdb[0] == MAINTENANCE_IN and cdb[1] & 0x1F == REPORT_TARGET_PORT_GROUPS:
        at = 8 if cdb[1] >> 5 == 1 else 4  # the extended header is 8 bytes
        while at + 8 <= len(data):
            data[at] = data[at] & 0xF0 | (0 if data[at] & 0xF else 2)
            at += 8 + 4 * data[at + 7]
    return bytes(data)


def pass_on(source, sink, commands):  # each PDU, without digests (RFC 7143 section 11.2)
    try:
        while True:
            header = take(source, 48)
            length = int.from_bytes(header[5:8], "big")
            rest = take(source, header[4] * 4 + length + -length % 4)
            opcode, tag = header[0] & 0x3F, header[16:20]
            if opcode == SCSI_COMMAND:
                commands[tag] = header[32:48]
            elif opcode == DATA_IN and tag in commands:
                rest = changed(commands[tag], rest)
            sink.sendall(header + rest)
    except (EOFError, OSError):
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


with socket.create_server(("127.0.0.1", listen)) as server:
    while True:
        initiator, commands = server.accept()[0], {}
        target = socket.create_connection(("127.0.0.1", port))
        for pair in ((initiator, target), (target, initiator)):
            threading.Thread(target=pass_on, args=(*pair, commands), daemon=True).start()
