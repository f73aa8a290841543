#!/usr/bin/env python3
"""A flood of clients from beside the sidecar, in the wire protocol itself: a pod's application gone
wrong. It needs nothing but Python, so that it runs in the application's container.

    clients.py KIND COUNT [HOST PORT]

Prints a JSON line when the flood stands, {"served": ..., "refused": {SQLSTATE: ...}, "lost": ...,
"unanswered": ...}, and goes when its standard input ends. KIND, which all sign in but the first:

    silent      say half a word and wait
    idle        sign in and do nothing
    results     ask for 150 kB each and read none of it
    queries     send queries of 100 kB while every server is busy
    statements  prepare 50 statements of 5 kB each, no two alike
"""

import json
import resource
import socket
import struct
import sys
import time

SECONDS_MAX = 10
# As many that nobody answers are enough: the sidecar accepts no more.
UNANSWERED_MAX = 5


def message(kind, body):
    return kind + struct.pack("!I", len(body) + 4) + body


def query(text):
    return message(b"Q", text.encode() + b"\0")


STARTUP = struct.pack("!I", 196608) + b"user\0guestbook\0database\0guestbook\0\0"
STARTUP = struct.pack("!I", len(STARTUP) + 4) + STARTUP


class Refused(Exception):
    pass


def exactly(connection, size):
    found = b""
    while len(found) < size:
        more = connection.recv(size - len(found))
        if not more:
            raise ConnectionResetError("closed")
        found += more
    return found


def until_ready(connection):
    """Reads replies up to ReadyForQuery; an ErrorResponse is raised."""
    while True:
        head = exactly(connection, 5)
        body = exactly(connection, struct.unpack("!I", head[1:])[0] - 4)
        if head[:1] == b"E":
            raise Refused(next(field[1:] for field in body.split(b"\0") if field[:1] == b"C").decode())
        if head[:1] == b"Z":
            return


def connect(address):
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(SECONDS_MAX)
    connection.connect(address)
    return connection


def burden(kind, connection, number):
    """What a client that has signed in does."""
    if kind == "results":
        connection.sendall(query("SELECT repeat('x', 150000)"))
    elif kind == "queries":
        connection.settimeout(0.02)
        try:
            connection.sendall(query("SELECT pg_sleep(5) /* " + "x" * 100000 + " */"))
        except TimeoutError:
            pass  # it is not read any more
    elif kind == "statements":
        for statement in range(50):
            text = f"SELECT {number}, {statement} /* " + "x" * 5000 + " */"
            name = f"s{statement}".encode()
            connection.sendall(message(b"P", name + b"\0" + text.encode() + b"\0\0\0"))
        connection.sendall(message(b"S", b""))
        until_ready(connection)


def main():
    kind, count = sys.argv[1], int(sys.argv[2])
    address = (sys.argv[3], int(sys.argv[4])) if len(sys.argv) > 3 else ("127.0.0.1", 6432)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kept, result = [], {"served": 0, "refused": {}, "lost": 0, "unanswered": 0}

    def attempt(step, *arguments):
        """Whether a step of one client was granted; if not, why is counted."""
        try:
            step(*arguments)
            return True
        except Refused as error:
            result["refused"][str(error)] = result["refused"].get(str(error), 0) + 1
        except TimeoutError:
            result["unanswered"] += 1
        except OSError:
            result["lost"] += 1
        return False

    def come():
        kept.append(connect(address))
        if kind == "silent":
            kept[-1].sendall(STARTUP[:6])
        else:
            kept[-1].sendall(STARTUP)
            until_ready(kept[-1])

    # First all of them, then what they do: nobody is refused for what another has done before.
    signed_in = []
    for _ in range(count):
        if attempt(come):
            signed_in.append(kept[-1])
        elif result["unanswered"] >= UNANSWERED_MAX:
            break
    for number, connection in enumerate(signed_in):
        if attempt(burden, kind, connection, number):
            result["served"] += 1
    time.sleep(1)
    print(json.dumps(result), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
