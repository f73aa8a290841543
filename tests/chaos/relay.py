"""The way from Carpool to PostgreSQL, which can fail: connections are reset, ended, stopped for a
while, and bytes come late and in pieces. It knows which connections were lost, and how."""

import asyncio
import collections
import random
import re
import socket
import struct
import time

HISTORY = 60
SHOWN_BYTES = 200
TERMINATE = b"X\0\0\0\4"
CANCEL = struct.pack("!I", 80877102)
CANCEL_S = 0.5


def reset(writer):
    transport = writer.transport
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Line:
    """One connection of Carpool's."""

    def __init__(self, relay, number):
        self.relay, self.number, self.pid = relay, number, None
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.pieces = None  # chance, while bytes are torn to pieces
        self.carpool, self.postgres = None, None
        self.said_terminate, self.cut = False, None  # Carpool has gone; how it was lost
        self.opened = False  # PostgreSQL has said that it may be used
        self.history = collections.deque(maxlen=HISTORY)

    def note(self, direction, data):
        self.history.append((time.monotonic(), direction, bytes(data[:SHOWN_BYTES])))

    def mentions(self, text):
        return any(text in data for _, _, data in self.history)

    def story(self):
        head = f"server {self.number}, backend {self.pid}{', ' + self.cut if self.cut else ''}"
        return "\n".join([head, *(f"  {when:.3f} {direction} {data!r}"
                                  for when, direction, data in self.history)])

    async def carry(self, reader, writer, direction):
        while data := await reader.read(65536):
            self.note(direction, data)
            if data[4:8] == CANCEL and not self.opened and self.number % 2:
                # Late: its query may be over by now, and its server must not be another's yet.
                await asyncio.sleep(CANCEL_S * (self.number % 7) / 7)
            if direction == ">":
                self.said_terminate = data.endswith(TERMINATE)
            elif not self.opened:
                key = re.search(rb"K\0\0\0[\x0c-\xff]", data)
                if key:
                    self.opened, self.pid = True, struct.unpack_from("!I", data, key.end())[0]
            while data:
                await self.flowing.wait()
                size = len(data)
                if self.pieces:
                    size = self.pieces.choice((1, 2, 5, 40, 1000))
                    await asyncio.sleep(self.pieces.random() * 0.01)
                writer.write(data[:size])
                await writer.drain()
                data = data[size:]
            if self.cut:
                return
        if direction == ">":
            self.said_terminate = True
        if direction == "<" and not self.said_terminate and self.opened and not self.cut:
            self.lost("PostgreSQL ended it")
        if writer.can_write_eof():
            writer.write_eof()

    def lost(self, how):
        if self.cut is None:
            self.cut = how
            self.note("!", how.encode())
            if self.opened and not self.said_terminate:
                self.relay.losses.append((time.monotonic(), self.number, how))

    async def run(self):
        try:
            await asyncio.gather(self.carry(self.carpool[0], self.postgres[1], ">"),
                                 self.carry(self.postgres[0], self.carpool[1], "<"))
        except OSError as error:
            self.lost(f"{error}")
        for _, writer in (self.carpool, self.postgres):
            writer.transport.abort() if self.cut else writer.close()


class Relay:
    def __init__(self, postgres_port):
        self.postgres_port, self.port = postgres_port, None
        self.lines, self.old = {}, collections.deque(maxlen=400)
        self.losses, self.opened, self.refusing = [], 0, False
        self.server, self.pieces = None, None
        self.tasks = set()

    async def start(self):
        self.server = await asyncio.start_server(self.begin, "127.0.0.1", 0, backlog=200)
        self.port = self.server.sockets[0].getsockname()[1]

    def stop(self):
        self.server.close()
        for task in self.tasks:
            task.cancel()

    def begin(self, reader, writer):
        task = asyncio.create_task(self.accept(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def accept(self, reader, writer):
        if self.refusing:
            return reset(writer)
        self.opened += 1
        line = Line(self, self.opened)
        line.pieces = self.pieces
        try:
            line.postgres = await asyncio.open_connection("127.0.0.1", self.postgres_port)
        except OSError:
            return reset(writer)
        line.carpool = (reader, writer)
        self.lines[line.number] = line
        try:
            await line.run()
        finally:
            del self.lines[line.number]
            self.old.append(line)

    def used(self):
        return [line for _, line in sorted(self.lines.items()) if line.opened]

    def some(self, r, share):
        return [line for line in self.used() if r.random() < share]

    # ---- what it does to them

    def reset(self, r, share):
        """RST to both ends; what was on its way is lost."""
        for line in self.some(r, share):
            line.lost("reset by the relay")
            reset(line.carpool[1])
            reset(line.postgres[1])

    def end(self, r, share):
        """PostgreSQL's side is closed, and Carpool reads an end of file."""
        for line in self.some(r, share):
            line.lost("ended by the relay")
            line.carpool[1].close()
            line.postgres[1].close()

    async def hold(self, r, share, seconds):
        """Nothing passes on some of them for a while."""
        held = self.some(r, share)
        for line in held:
            line.note("!", b"nothing passes")
            line.flowing.clear()
        await asyncio.sleep(seconds)
        for line in held:
            line.note("!", b"goes on")
            line.flowing.set()

    async def tear(self, seed, share, seconds):
        """Bytes come late and in pieces, also on new connections."""
        r = random.Random(seed)
        self.pieces = r if share > 0.5 else None
        torn = self.some(r, share)
        for line in torn:
            line.pieces = random.Random(f"{seed}/{line.number}")
        await asyncio.sleep(seconds)
        self.pieces = None
        for line in self.used():
            line.pieces = None

    async def refuse(self, seconds):
        """New connections are reset."""
        self.refusing = True
        await asyncio.sleep(seconds)
        self.refusing = False

    def stories(self, text):
        """Of the connections that have carried it, the last ones."""
        lines = [*self.old, *self.lines.values()]
        return [line.story() for line in lines if line.mentions(text.encode())][-4:]
