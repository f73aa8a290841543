"""The checks that psycopg2 and psycopg 3 share, since both speak Python's DB-API."""
import datetime
import decimal
import threading
import time
import uuid

from report import KEPT, ROUNDS, USERS, kept, same, users


class DbApi:
    """`module` is the driver; a subclass says how to connect and adds what is the driver's own."""

    def __init__(self, module):
        self.module = module

    def connect(self, autocommit=False):
        raise NotImplementedError

    def one(self, connection, sql, args=()):
        with connection.cursor() as cursor:
            cursor.execute(sql, args)
            return cursor.fetchone()[0]

    def do(self, connection, sql, args=()):
        with connection.cursor() as cursor:
            cursor.execute(sql, args)

    def checks(self):
        return [self.query, self.types, self.transaction, self.savepoint, self.error, self.prepared,
                self.pipeline, self.copy, self.large, self.cursor, self.cancel, self.reconnect,
                self.schema_change, self.session_set, self.temp_table, self.advisory_lock,
                self.listen_notify, self.concurrent]

    def query(self):
        c = self.connect(autocommit=True)
        for n in range(20):
            same(self.one(c, "SELECT 1 + 1"), 2)
            same(self.one(c, "SELECT %s::int * 2", (n,)), 2 * n)
        with c.cursor() as cursor:
            cursor.execute("SELECT g FROM generate_series(1, 1000) g")
            same(len(cursor.fetchall()), 1000)
        c.close()

    def types(self):
        c = self.connect()
        when = datetime.datetime(2024, 2, 29, 12, 30, 15, 123456, datetime.timezone.utc)
        values = [
            ("int2", 7), ("int4", -70000), ("int8", 2**60), ("float8", 1.5), ("bool", True),
            ("numeric", decimal.Decimal("12345.6789")), ("text", "naïve 'quoted' \\ snow ☃"),
            ("date", datetime.date(2024, 2, 29)), ("time", datetime.time(23, 59, 58)),
            ("timestamptz", when), ("timestamp", when.replace(tzinfo=None)),
            ("interval", datetime.timedelta(days=3, seconds=42)), ("int4[]", [1, 2, None]),
            ("text[]", ["a", "b,c", '"']), ("text", None),
        ]
        for _ in range(7):  # past psycopg's prepare threshold
            for kind, value in values:
                same(self.one(c, f"SELECT %s::{kind}", (value,)), value)
            same(bytes(self.one(c, "SELECT %s::bytea", (b"\0\1\xff",))), b"\0\1\xff")
            same(str(self.one(c, "SELECT %s::uuid", (str(uuid.UUID(int=5)),))),
                 str(uuid.UUID(int=5)))
            same(self.one(c, "SELECT %s::jsonb", ('{"a": [1, null]}',)), {"a": [1, None]})
            c.commit()
        c.close()

    def transaction(self):
        c = self.connect()
        self.do(c, "CREATE TABLE tx (n int)")
        c.commit()
        for n in range(10):
            self.do(c, "INSERT INTO tx VALUES (%s)", (n,))
            c.commit() if n % 2 else c.rollback()
        same(self.one(c, "SELECT sum(n) FROM tx"), 25)
        c.rollback()
        c.close()
        # Closing inside a transaction loses it, and nobody else sees it.
        c = self.connect()
        self.do(c, "INSERT INTO tx VALUES (1000)")
        c.close()
        c = self.connect()
        same(self.one(c, "SELECT sum(n) FROM tx"), 25)
        c.close()

    def savepoint(self):
        c = self.connect()
        self.do(c, "CREATE TABLE sp (n int PRIMARY KEY)")
        self.do(c, "INSERT INTO sp VALUES (1)")
        self.do(c, "SAVEPOINT one")
        self.raises("23505", lambda: self.do(c, "INSERT INTO sp VALUES (1)"))
        self.raises("25P02", lambda: self.do(c, "SELECT 1"))
        self.do(c, "ROLLBACK TO one")
        self.do(c, "INSERT INTO sp VALUES (2)")
        self.do(c, "RELEASE one")
        c.commit()
        same(self.one(c, "SELECT count(*) FROM sp"), 2)
        c.close()

    def raises(self, state, body):
        try:
            body()
        except self.module.Error as error:
            got = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
            return same(got, state)
        raise AssertionError(f"no error where {state} was due")

    def error(self):
        c = self.connect(autocommit=True)
        for _ in range(8):
            self.raises("42601", lambda: self.do(c, "SELEC 1"))
            self.raises("22012", lambda: self.do(c, "SELECT 1 / %s::int", (0,)))
            self.raises("42P01", lambda: self.do(c, "SELECT * FROM no_such_table"))
            same(self.one(c, "SELECT %s::text", ("still here",)), "still here")
        c.close()

    def prepared(self):
        c = self.connect(autocommit=True)
        for n in range(12):
            same(self.one(c, "SELECT %s::int + 1000", (n,)), n + 1000)
        # SQL-level statements belong to the session, and are taken back by the client.
        self.do(c, "PREPARE plus_one(int) AS SELECT $1 + 1")
        for n in range(5):
            same(self.one(c, f"EXECUTE plus_one({n})"), n + 1)
        self.do(c, "DEALLOCATE plus_one")
        self.raises("26000", lambda: self.do(c, "EXECUTE plus_one(1)"))
        self.do(c, "DEALLOCATE ALL")
        for n in range(12):
            same(self.one(c, "SELECT %s::int + 2000", (n,)), n + 2000)
        c.close()

    def large(self):
        c = self.connect()
        text = "0123456789abcdef" * 65536 * 5
        self.do(c, "CREATE TABLE big (t text)")
        self.do(c, "INSERT INTO big VALUES (%s)", (text,))
        c.commit()
        same(self.one(c, "SELECT t FROM big") == text, True)
        with c.cursor() as cursor:
            cursor.execute("SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
            same(sum(len(row[0]) for row in cursor), 20_000_000)
        c.close()

    def cancel(self):
        c = self.connect(autocommit=True)
        for _ in range(3):
            timer = threading.Timer(0.3, c.cancel)
            timer.start()
            began = time.monotonic()
            self.raises("57014", lambda: self.do(c, "SELECT pg_sleep(20)"))
            same(time.monotonic() - began < 10, True)
            timer.join()
            same(self.one(c, "SELECT 1"), 1)
        c.close()

    def reconnect(self):
        for n in range(25):
            c = self.connect(autocommit=True)
            same(self.one(c, "SELECT %s::int", (n,)), n)
            c.close()

    def schema_change(self):
        c, other = self.connect(autocommit=True), self.connect(autocommit=True)
        self.do(other, "CREATE TABLE shape (a int)")
        self.do(other, "INSERT INTO shape VALUES (1)")

        def read():
            with c.cursor() as cursor:
                cursor.execute("SELECT * FROM shape WHERE a = %s", (1,))
                return cursor.fetchone()

        for n in range(8):
            same(read(), (1,))
        errors = 0
        for change, want in [("ADD COLUMN b text DEFAULT 'x'", (1, "x")),
                             ("ALTER b DROP DEFAULT, ALTER b TYPE int USING 7", (1, 7)),
                             ("DROP COLUMN b", (1,))]:
            self.do(other, "ALTER TABLE shape " + change)
            for n in range(8):
                try:
                    same(read(), want)
                except self.module.Error as error:
                    same(getattr(error, "sqlstate", None), "0A000")
                    errors += 1
        c.close(), other.close()
        return self.schema_changed(errors)

    def schema_changed(self, errors):
        same(errors, 0)

    def session_set(self):
        a, b = self.connect(autocommit=True), self.connect(autocommit=True)
        for c, zone, path in [(a, "Asia/Tokyo", "pg_catalog"), (b, "America/Lima", "public")]:
            self.do(c, f"SET TIME ZONE '{zone}'")
            self.do(c, f"SET search_path TO {path}")
            self.do(c, f"SET statement_timeout = '{len(zone)}s'")
            self.do(c, "SELECT set_config('app.tenant', %s, false)", (zone,))
        for _ in range(4):
            for c, zone, path in [(a, "Asia/Tokyo", "pg_catalog"), (b, "America/Lima", "public")]:
                same(self.one(c, "SHOW timezone"), zone)
                same(self.one(c, "SHOW search_path"), path)
                same(self.one(c, "SHOW statement_timeout"), f"{len(zone)}s")
                same(self.one(c, "SELECT current_setting('app.tenant')"), zone)
        a.autocommit = False
        self.do(a, "SET TIME ZONE 'Europe/Oslo'")
        a.rollback()
        same(self.one(a, "SHOW timezone"), "Asia/Tokyo")
        self.do(a, "SET LOCAL statement_timeout = '1s'")
        a.commit()
        same(self.one(a, "SHOW statement_timeout"), "10s")
        a.commit()
        self.do(a, "RESET ALL")
        a.commit()
        fresh = self.connect()
        same(self.one(a, "SHOW timezone"), self.one(fresh, "SHOW timezone"))
        for c in (a, b, fresh):
            c.close()

    def temp_table(self):
        a, b = self.connect(autocommit=True), self.connect(autocommit=True)
        self.do(a, "CREATE TEMP TABLE mine (n int)")
        for n in range(5):
            self.do(a, "INSERT INTO mine VALUES (%s)", (n,))
            self.raises("42P01", lambda: self.do(b, "SELECT * FROM mine"))
        same(self.one(a, "SELECT count(*) FROM mine"), 5)
        a.close(), b.close()

    def advisory_lock(self):
        a, b = self.connect(autocommit=True), self.connect(autocommit=True)
        self.do(a, "SELECT pg_advisory_lock(42)")
        for _ in range(5):
            same(self.one(b, "SELECT pg_try_advisory_lock(42)"), False)
            same(self.one(a, "SELECT 1"), 1)
        same(self.one(a, "SELECT pg_advisory_unlock(42)"), True)
        same(self.one(b, "SELECT pg_try_advisory_lock(42)"), True)
        a.close(), b.close()
        c = self.connect(autocommit=True)
        for _ in range(100):  # the lock of one who left is free soon
            if self.one(c, "SELECT pg_try_advisory_lock(42)"):
                break
            time.sleep(0.05)
        else:
            raise AssertionError("the lock outlived its owner")
        c.close()

    def concurrent(self):
        c = self.connect(autocommit=True)
        self.do(c, "CREATE TABLE conc (u int, r int)")

        def user(i):
            mine = self.connect()
            self.do(mine, f"SET app.who = 'user-{i}'")
            self.do(mine, f"SET application_name = 'user-{i}'")
            mine.commit()
            for r in range(ROUNDS):
                same(self.one(mine, "SELECT %s::int + 1", (r,)), r + 1)
                same(self.one(mine, "SELECT current_setting('app.who')"), f"user-{i}")
                mine.commit()
                same(self.one(mine, "SHOW application_name"), f"user-{i}")
                self.do(mine, "INSERT INTO conc VALUES (%s, %s)", (i, r))
                mine.commit() if kept(r) else mine.rollback()
                if r % 4 == 0:
                    self.raises("22012", lambda: self.do(mine, "SELECT 1 / %s::int", (0,)))
                    mine.rollback()
                same(self.one(mine, "SELECT count(*) FROM conc WHERE u = %s", (i,)),
                     sum(kept(n) for n in range(r + 1)))
                mine.commit()
            mine.close()

        users(user)
        same(self.one(c, "SELECT count(*) FROM conc"), USERS * KEPT)
        c.close()
