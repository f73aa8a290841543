#!/usr/bin/env python3
"""A guest book: an HTTP service on PostgreSQL, the way many are written.

Each worker thread keeps one connection of its own, so a pod asks for as many connections as it has
threads; it is the sidecar that makes a few of them do. The service knows nothing of the sidecar: it
reads DATABASE_URL. On SIGTERM it answers what it has begun and exits 0.

    GET  /visits    how many there are, and the latest ones
    POST /visits    signs the book: two statements in one transaction
    GET  /healthz   the process answers; the database is not asked

    app.py                serve
    app.py visit URL      sign the book at URL and read it back; exit 0 if that worked
    app.py import COUNT   sign it COUNT times, one transaction each, and exit 0: for a Job
"""

import concurrent.futures
import http.server
import json
import os
import signal
import socketserver
import sys
import threading
import time
import urllib.request

import psycopg

LENGTH_MAX = 1000
SCHEMA = """
CREATE TABLE IF NOT EXISTS visits (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    at timestamptz NOT NULL DEFAULT now())
"""

local = threading.local()


def connection():
    """This thread's connection; a broken one is replaced."""
    found = getattr(local, "connection", None)
    if found is None or found.closed or found.broken:
        found = local.connection = psycopg.connect(os.environ["DATABASE_URL"])
    return found


def sign(name):
    with connection().transaction():
        cursor = connection().execute(
            "INSERT INTO visits (name) VALUES (%s) RETURNING id", (name,))
        number = cursor.fetchone()[0]
        connection().execute("SELECT count(*) FROM visits WHERE id <= %s", (number,))
    return number


def latest():
    with connection().transaction():
        count = connection().execute("SELECT count(*) FROM visits").fetchone()[0]
        rows = connection().execute(
            "SELECT id, name FROM visits ORDER BY id DESC LIMIT 10").fetchall()
    return {"count": count, "latest": [{"id": row[0], "name": row[1]} for row in rows]}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"
    timeout = 30

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def attempt(self, work):
        try:
            self.answer(200, work())
        except psycopg.Error as error:
            print(f"{self.command} {self.path}: {error}", file=sys.stderr, flush=True)
            self.answer(503, {"error": str(error)})

    def do_GET(self):
        if self.path == "/healthz":
            self.answer(200, {"ok": True})
        elif self.path == "/visits":
            self.attempt(latest)
        else:
            self.answer(404, {"error": "there is /visits and /healthz"})

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        if self.path != "/visits" or length > LENGTH_MAX:
            self.answer(404, {"error": f"POST at most {LENGTH_MAX} bytes to /visits"})
            return
        name = self.rfile.read(length).decode(errors="replace")
        self.attempt(lambda: {"id": sign(name)})

    def log_message(self, *_):
        pass


class Server(socketserver.TCPServer):
    """As many workers as threads; requests past that wait in the executor's queue."""

    allow_reuse_address = True
    request_queue_size = 512

    def __init__(self, address, threads):
        self.workers = concurrent.futures.ThreadPoolExecutor(threads)
        super().__init__(address, Handler)

    def process_request(self, request, client_address):
        self.workers.submit(self.work, request, client_address)

    def work(self, request, client_address):
        try:
            self.finish_request(request, client_address)
        except OSError as error:
            print(f"client: {error}", file=sys.stderr, flush=True)
        finally:
            self.shutdown_request(request)


def serve():
    # One transaction, behind a lock: two pods that create the table at once would collide.
    with psycopg.connect(os.environ["DATABASE_URL"]) as first:
        first.execute("SELECT pg_advisory_xact_lock(6432)")
        first.execute(SCHEMA)
    server = Server(("0.0.0.0", int(os.environ.get("PORT", "8080"))),
                    int(os.environ.get("THREADS", "16")))

    def leave(*_):
        threading.Thread(target=lambda: (time.sleep(float(os.environ.get("LINGER", "2"))),
                                         server.shutdown())).start()

    signal.signal(signal.SIGTERM, leave)
    print("serving", flush=True)
    server.serve_forever(poll_interval=0.1)
    server.workers.shutdown(wait=True)
    print("left", flush=True)


def visit(url):
    request = urllib.request.Request(url, data=b"helm test", method="POST")
    with urllib.request.urlopen(request, timeout=30) as reply:
        number = json.load(reply)["id"]
    with urllib.request.urlopen(url, timeout=30) as reply:
        book = json.load(reply)
    if book["count"] < 1 or not any(entry["id"] == number for entry in book["latest"]):
        sys.exit(f"visit {number} is not in the book: {book}")
    print(f"visit {number} is in the book")


def import_visits(count):
    for number in range(count):
        sign(f"imported {number}")
    print(f"imported {count}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "visit":
        visit(sys.argv[2])
    elif len(sys.argv) == 3 and sys.argv[1] == "import":
        import_visits(int(sys.argv[2]))
    else:
        serve()
