"""psql: a session is one run of it, with a script on its standard input.

Several at once talk by the ends of their pipes, so that a session can be left open.
"""
import json
import os
import signal
import subprocess
import tempfile
import threading
import time

URL = os.environ["DATABASE_URL"]
USERS, ROUNDS = 8, 6
PICKED = set(filter(None, os.environ.get("CHECKS", "").split(",")))
VERSION = subprocess.check_output(["psql", "--version"], text=True).split()[2]
MARK = "end-of-answer"


class Session:
    """One psql that stays: say() gives it lines and returns what it printed for them."""

    def __init__(self, *options):
        self.process = subprocess.Popen(
            ["psql", "-XAtq", "-v", "VERBOSITY=sqlstate", *options, URL], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def start(self, text):
        self.process.stdin.write(f"{text}\n\\echo {MARK}\n")
        self.process.stdin.flush()

    def finish(self):
        lines = []
        for line in self.process.stdout:
            if line.strip() == MARK:
                return lines
            lines.append(line.rstrip("\n"))
        raise AssertionError(f"psql ended: {lines[-3:]}")

    def say(self, text):
        self.start(text)
        return self.finish()

    def close(self):
        self.process.stdin.close()
        return self.process.wait(20)


def same(got, want):
    if got != want:
        raise AssertionError(f"got {got!r:.150}, want {want!r:.150}")


def query():
    s = Session()
    for n in range(20):
        same(s.say("SELECT 1 + 1;"), ["2"])
        same(s.say(f"SELECT {n}; SELECT {n} + 1\\; SELECT 'last';"), [str(n), str(n + 1), "last"])
    same(len(s.say("SELECT g FROM generate_series(1, 1000) g;")), 1000)
    same(any("relname" in line for line in s.say("\\dS pg_class")), True)
    same(s.close(), 0)


def types():
    s = Session()
    same(s.say("SELECT 1::int2, 2.5::numeric, 'snow ☃', true, NULL, '{1,2}'::int[], "
               "'\\x00ff'::bytea, '2024-02-29'::date, '{\"a\": 1}'::jsonb;"),
         ['1|2.5|snow ☃|t||{1,2}|\\x00ff|2024-02-29|{"a": 1}'])
    same(s.say("SELECT 1 AS a, 'x' AS b \\gset\nSELECT :a + 1, :'b';"), ["2|x"])
    same(s.say("SELECT 1 AS a, 2::text AS b \\gdesc"), ["a|integer", "b|text"])
    same(s.close(), 0)


def transaction():
    s = Session()
    s.say("CREATE TABLE tx (n int);")
    for n in range(10):
        s.say(f"BEGIN; INSERT INTO tx VALUES ({n}); {'COMMIT' if n % 2 else 'ROLLBACK'};")
    same(s.say("SELECT sum(n) FROM tx;"), ["25"])
    s.say("BEGIN; INSERT INTO tx VALUES (1000);")
    s.close()
    one = subprocess.run(["psql", "-XAtq", "-1", "-c", "INSERT INTO tx VALUES (5)", "-c",
                          "SELECT sum(n) FROM tx", URL], text=True, capture_output=True)
    same(one.stdout, "30\n")


def savepoint():
    s = Session("-v", "ON_ERROR_ROLLBACK=on")
    s.say("CREATE TABLE sp (n int PRIMARY KEY);")
    same(s.say("BEGIN; INSERT INTO sp VALUES (1);\nINSERT INTO sp VALUES (1);\n"
               "INSERT INTO sp VALUES (2);\nCOMMIT;"), ["ERROR:  23505"])
    same(s.say("SELECT count(*) FROM sp;"), ["2"])
    same(s.close(), 0)


def error():
    s = Session()
    for _ in range(8):
        same(s.say("SELEC 1;"), ["ERROR:  42601"])
        same(s.say("SELECT 1 / 0;"), ["ERROR:  22012"])
        same(s.say("SELECT 'still here';"), ["still here"])
    same(s.close(), 0)


def prepared():
    a, b = Session(), Session()
    a.say("PREPARE q(int) AS SELECT $1 + 1;")
    same(b.say("EXECUTE q(1);"), ["ERROR:  26000"])
    for n in range(6):
        same(a.say(f"EXECUTE q({n});"), [str(n + 1)])
        same(b.say(f"SELECT {n};"), [str(n)])
    a.say("DEALLOCATE q;")
    same(a.say("EXECUTE q(1);"), ["ERROR:  26000"])
    same((a.close(), b.close()), (0, 0))


def copy():
    s = Session()
    s.say("CREATE TABLE cp (n int, t text);")
    rows = [f"{n}\trow {n}" for n in range(5000)]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(rows) + "\n")
        file.flush()
        same(s.say(f"\\copy cp FROM '{file.name}'"), [])
    same(s.say("COPY (SELECT * FROM cp ORDER BY n) TO STDOUT;"), rows)
    same(s.say("COPY cp FROM STDIN;\n1\tone\n\\.\nSELECT count(*) FROM cp;"), ["5001"])
    same(s.say("COPY cp FROM STDIN;\nx\ty\n\\.\nSELECT count(*) FROM cp;"),
         ["ERROR:  22P02", "5001"])
    same(s.close(), 0)


def large():
    s = Session()
    same(len(s.say("SELECT repeat('0123456789abcdef', 65536 * 5);")[0]), 16 * 65536 * 5)
    text = "x" * 3_000_000
    same(s.say(f"SELECT length('{text}');"), ["3000000"])
    rows = s.say("SELECT repeat('x', 1000) FROM generate_series(1, 20000);")
    same(sum(map(len, rows)), 20_000_000)
    same(s.close(), 0)


def cursor():
    s = Session("-v", "FETCH_COUNT=100")
    for _ in range(3):  # psql itself declares a cursor then
        got = s.say("SELECT g FROM generate_series(1, 1000) g;")
        same(sum(map(int, got)), 500500)
    s.say("BEGIN; DECLARE held CURSOR WITH HOLD FOR SELECT g FROM generate_series(1, 9) g; COMMIT;")
    same(s.say("FETCH 2 FROM held;"), ["1", "2"])
    same(s.say("FETCH 1 FROM held; CLOSE held;"), ["3"])
    same(s.close(), 0)


def cancel():
    other = Session()
    for _ in range(3):  # an interrupt cancels the query, and ends a psql that reads a script
        s = Session()
        s.start("SELECT pg_sleep(20);")
        time.sleep(0.5)
        began = time.monotonic()
        s.process.send_signal(signal.SIGINT)
        same("ERROR:  57014" in s.process.communicate(timeout=15)[0], True)
        same(time.monotonic() - began < 10, True)
        same(other.say("SELECT 1;"), ["1"])
    same(other.close(), 0)


def reconnect():
    for n in range(15):
        done = subprocess.run(["psql", "-XAtq", "-c", f"SELECT {n}", URL], text=True,
                              capture_output=True)
        same(done.stdout, f"{n}\n")
    s = Session()
    same(s.say("\\c\nSELECT 1;")[-1], "1")
    same(s.close(), 0)


def schema_change():
    a, b = Session(), Session()
    b.say("CREATE TABLE shape (a int); INSERT INTO shape VALUES (1);")
    for change, want in [(None, "1"), ("ADD COLUMN b int DEFAULT 7", "1|7"),
                         ("DROP COLUMN b", "1")]:
        if change:
            b.say(f"ALTER TABLE shape {change};")
        for _ in range(4):
            same(a.say("SELECT * FROM shape;"), [want])
    same((a.close(), b.close()), (0, 0))


def session_set():
    a, b = Session(), Session()
    a.say("SET TIME ZONE 'Asia/Tokyo'; SET search_path = pg_catalog; SET app.tenant = 'a';")
    b.say("SET TIME ZONE 'America/Lima'; SELECT set_config('app.tenant', 'b', false);")
    for _ in range(4):
        same(a.say("SHOW timezone; SHOW search_path; SHOW app.tenant;"),
             ["Asia/Tokyo", "pg_catalog", "a"])
        same(b.say("SHOW timezone; SHOW search_path; SHOW app.tenant;"),
             ["America/Lima", '"$user", public', "b"])
    same(a.say("BEGIN; SET TIME ZONE 'Europe/Oslo'; ROLLBACK; SHOW timezone;"), ["Asia/Tokyo"])
    same(a.say("BEGIN; SET LOCAL app.tenant = 'c'; COMMIT; SHOW app.tenant;"), ["a"])
    same(a.say("\\encoding LATIN1\nSHOW client_encoding;"), ["LATIN1"])
    same(b.say("SHOW client_encoding;"), ["UTF8"])
    a.say("RESET ALL;")
    same(a.say("SHOW search_path;"), ['"$user", public'])
    same((a.close(), b.close()), (0, 0))


def temp_table():
    a, b = Session(), Session()
    a.say("CREATE TEMP TABLE mine AS SELECT 1 AS n;")
    for _ in range(4):
        same(a.say("SELECT count(*) FROM mine;"), ["1"])
        same(b.say("SELECT count(*) FROM mine;"), ["ERROR:  42P01"])
    a.say("DISCARD ALL;")
    same(a.say("SELECT count(*) FROM mine;"), ["ERROR:  42P01"])
    same((a.close(), b.close()), (0, 0))


def advisory_lock():
    a, b = Session(), Session()
    a.say("SELECT pg_advisory_lock(42);")
    for _ in range(4):
        same(b.say("SELECT pg_try_advisory_lock(42);"), ["f"])
    a.close()
    for _ in range(100):
        if b.say("SELECT pg_try_advisory_lock(42);") == ["t"]:
            break
        time.sleep(0.05)
    else:
        raise AssertionError("the lock outlived its owner")
    same(b.close(), 0)


def listen_notify():
    a, b = Session(), Session()
    a.say("LISTEN news;")
    for n in range(3):
        b.say(f"NOTIFY news, 'number {n}';")
        got = []
        for _ in range(100):  # psql looks for notifications after each statement
            got = [line for line in a.say("SELECT;") if "Asynchronous" in line]
            if got:
                break
            time.sleep(0.05)
        same(len(got) == 1 and f"number {n}" in got[0], True)
    a.say("UNLISTEN news;")
    same((a.close(), b.close()), (0, 0))


def concurrent():
    setup = Session()
    setup.say("CREATE TABLE conc (u int, r int);")
    failures = []

    def user(i):
        try:
            s = Session()
            s.say(f"SET app.who = 'user-{i}'; SET application_name = 'user-{i}';")
            for r in range(ROUNDS):
                same(s.say("SHOW app.who; SHOW application_name;"), [f"user-{i}"] * 2)
                end = "COMMIT" if r % 3 != 2 else "ROLLBACK"
                same(s.say(f"BEGIN; INSERT INTO conc VALUES ({i}, {r}); {end};"), [])
                same(s.say("SELECT 1 / 0;"), ["ERROR:  22012"])
                same(s.say(f"SELECT count(*) FROM conc WHERE u = {i};"),
                     [str(sum(n % 3 != 2 for n in range(r + 1)))])
            same(s.close(), 0)
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=user, args=(i,)) for i in range(USERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    same(setup.say("SELECT count(*) FROM conc;"), [str(USERS * 4)])
    setup.close()


def emit(check, ok, detail=""):
    print(json.dumps({"driver": "psql", "version": VERSION, "check": check, "ok": ok,
                      "detail": detail}), flush=True)


for check in [query, types, transaction, savepoint, error, prepared, "pipeline", copy, large,
              cursor, cancel, reconnect, schema_change, session_set, temp_table, advisory_lock,
              listen_notify, concurrent]:
    name = check if isinstance(check, str) else check.__name__
    if PICKED and name not in PICKED:
        continue
    if isinstance(check, str):
        emit(name, None, "no pipelines in this psql")
        continue
    try:
        emit(name, True, check() or "")
    except Exception as failure:
        line = failure.__traceback__.tb_next.tb_lineno if failure.__traceback__.tb_next else 0
        emit(name, False, f"line {line}: {type(failure).__name__}: {failure}"[:300])
