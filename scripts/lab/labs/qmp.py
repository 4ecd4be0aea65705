#!/usr/bin/env python3
"""qmp.py SOCKET COMMAND [ARGUMENT=VALUE...] - one command for a QEMU that runs; status 1 when it refuses."""
import json
import socket
import sys


def answer(stream):
    """What comes next that is no event."""
    for line in stream:
        message = json.loads(line)
        if "event" not in message:
            return message
    raise EOFError("QEMU is gone")


with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
    pairs = (argument.split("=", 1) for argument in sys.argv[3:])
    arguments = {name: int(value) if value.isdigit() else value for name, value in pairs}
    with connection.makefile("rw") as stream:
        answer(stream)
        for command, given in (("qmp_capabilities", {}), (sys.argv[2], arguments)):
            json.dump({"execute": command, "arguments": given}, stream)
            stream.flush()
            said = answer(stream)
            if "error" in said:
                sys.exit(f"qmp: {command}: {said['error']['desc']}")
