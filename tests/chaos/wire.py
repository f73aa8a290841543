"""PostgreSQL's protocol as the clients of `./dev chaos` speak it: messages, and a connection that
keeps what came before its end, stops reading when told, and leaves in any manner."""

import asyncio
import collections
import socket
import struct
import time

HISTORY = 60        # what is shown of a connection when something is wrong
SHOWN_BYTES = 160   # of each message there


def text(value):
    return (value if isinstance(value, bytes) else value.encode()) + b"\0"


def message(kind, body=b""):
    return kind + struct.pack("!I", len(body) + 4) + body


def query(sql):
    return message(b"Q", text(sql))


def parse(name, sql):
    return message(b"P", text(name) + text(sql) + b"\0\0")


def bind(name, values=(), portal=""):
    body = b"".join(struct.pack("!I", len(v)) + v for v in (v.encode() for v in values))
    return message(b"B", text(portal) + text(name) + b"\0\0" + struct.pack("!H", len(values)) +
                   body + b"\0\0")


def describe(kind, name):
    return message(b"D", kind + text(name))


def execute(portal="", rows=0):
    return message(b"E", text(portal) + struct.pack("!I", rows))


def close(kind, name):
    return message(b"C", kind + text(name))


def copy_data(data):
    return message(b"d", data)


def copy_fail(why):
    return message(b"f", text(why))


SYNC, FLUSH, COPY_DONE, TERMINATE = (message(kind) for kind in (b"S", b"H", b"c", b"X"))


def startup(values):
    body = b"".join(text(key) + text(value) for key, value in values.items()) + b"\0"
    return struct.pack("!II", len(body) + 8, 196608) + body


def cancel_request(pid, secret):
    return struct.pack("!III", 12 + len(secret), 80877102, pid) + secret


def fields(body):
    """Of an ErrorResponse or a NoticeResponse, by their letters."""
    return {chr(part[0]): part[1:].decode("utf8", "replace") for part in body.split(b"\0") if part}


def row(body):
    count, at, values = struct.unpack_from("!H", body)[0], 2, []
    for _ in range(count):
        size = struct.unpack_from("!i", body, at)[0]
        at += 4
        values.append(None if size < 0 else body[at:at + size].decode("utf8", "replace"))
        at += max(size, 0)
    return values


def show(kind, body):
    """A message of the server's, for people."""
    if kind == "E" or kind == "N":
        said = fields(body)
        return f"{kind} {said.get('S')} {said.get('C')} {said.get('M')}"
    if kind == "D":
        return f"D {row(body)}"
    return f"{kind} {body[:SHOWN_BYTES]!r}" if body else kind


class Gone(Exception):
    """The connection has ended; `inside` a message, or between two."""

    def __init__(self, how, inside):
        super().__init__(how)
        self.how, self.inside = how, inside


class Silent(Exception):
    """Nothing came for too long."""


class Wire(asyncio.Protocol):
    """One connection. What has come stays to be read when the other side has gone."""

    def __init__(self):
        self.buffer, self.at, self.ended, self.waiting, self.room = bytearray(), 0, None, None, None
        self.history = collections.deque(maxlen=HISTORY)
        self.transport = None

    @staticmethod
    async def open(port, greeting=b"", address="127.0.0.1"):
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(20):
                _, wire = await loop.create_connection(Wire, address, port)
        except TimeoutError:
            raise Gone("no connection within 20 s", False) from None
        except OSError as error:
            raise Gone(f"no connection: {error}", False) from None
        if greeting:
            wire.send(greeting)
        return wire

    # ---- asyncio.Protocol

    def connection_made(self, transport):
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data):
        self.buffer += data
        self.wake()

    def eof_received(self):
        self.ended = self.ended or "end of file"
        self.wake()

    def connection_lost(self, exc):
        self.ended = self.ended or f"{exc or 'closed by us'}"
        self.resume_writing()
        self.wake()

    def pause_writing(self):
        self.room = asyncio.get_running_loop().create_future()

    def resume_writing(self):
        if self.room and not self.room.done():
            self.room.set_result(None)
        self.room = None

    def wake(self):
        if self.waiting and not self.waiting.done():
            self.waiting.set_result(None)

    # ---- what a client does

    def note(self, direction, what):
        # Of many rows the first and the last are enough.
        if direction == "<" and what[0] in "Dd" and len(self.history) > 1 and all(
                known[0] == what[0] for _, _, known in list(self.history)[-2:]):
            self.history.pop()
        self.history.append((time.monotonic(), direction, what))

    def send(self, data):
        self.note(">", data[:4 * SHOWN_BYTES])
        if not self.transport.is_closing():
            self.transport.write(data)

    async def drained(self, seconds):
        try:
            async with asyncio.timeout(seconds):
                while self.room:
                    await asyncio.shield(self.room)
        except TimeoutError:
            raise Silent(f"nothing is taken for {seconds:.0f} s") from None

    async def read(self, seconds):
        """The next message: its type and its body."""
        deadline = time.monotonic() + seconds
        while True:
            ready = len(self.buffer) - self.at
            if ready >= 5:
                size = struct.unpack_from("!I", self.buffer, self.at + 1)[0] + 1
                if ready >= size:
                    kind = chr(self.buffer[self.at])
                    body = bytes(self.buffer[self.at + 5:self.at + size])
                    self.at += size
                    if self.at > 1 << 16:
                        del self.buffer[:self.at]
                        self.at = 0
                    self.note("<", (kind, body if kind == "E" else body[:SHOWN_BYTES]))
                    return kind, body
            if self.ended:
                raise Gone(self.ended, ready > 0)
            self.waiting = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self.waiting
            except TimeoutError:
                raise Silent(f"nothing within {seconds:.0f} s") from None
            finally:
                self.waiting = None

    async def end(self, seconds):
        """Waits for the other side to close."""
        with_deadline = time.monotonic() + seconds
        while True:
            try:
                await self.read(max(0.01, with_deadline - time.monotonic()))
            except (Gone, Silent):
                return self.ended is not None

    def leave(self, how):
        """`terminate`, `fin` or `rst`."""
        self.note(">", f"leaves by {how}".encode())
        if how == "terminate":
            self.send(TERMINATE)
        if how == "rst" and not self.transport.is_closing():
            self.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how == "rst":
            self.transport.abort()
        else:
            self.transport.close()


def story(history):
    lines = []
    for when, direction, what in history:
        said = show(*what) if direction == "<" else f"{what[:2 * SHOWN_BYTES]!r}"
        lines.append(f"  {when:.3f} {direction} {said}")
    return lines


async def ask(wire, sql, seconds=20):
    """A simple query: the rows. For the harness itself, whose own errors are failures."""
    wire.send(query(sql))
    rows, error = [], None
    while True:
        kind, body = await wire.read(seconds)
        if kind == "D":
            rows.append(row(body))
        elif kind == "E":
            error = fields(body)
        if error and (kind == "Z" or error.get("V") == "FATAL"):
            raise RuntimeError(f"{sql}: {error.get('C')} {error.get('M')}")
        if kind == "Z":
            return rows


async def sign_in(port, values, seconds=20):
    """A signed-in connection of the harness's own."""
    wire = await Wire.open(port, startup(values))
    while True:
        kind, body = await wire.read(seconds)
        if kind == "E":
            wire.transport.abort()
            raise Gone(fields(body).get("M"), False)
        if kind == "Z":
            return wire
