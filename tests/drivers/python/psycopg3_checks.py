"""psycopg 3, with its own default prepare threshold, and with the one of the first argument."""
import sys

import psycopg

from dbapi import DbApi
from report import URL, Report, same

THRESHOLD = int(sys.argv[1]) if len(sys.argv) > 1 else None


class Psycopg3(DbApi):
    def connect(self, autocommit=False):
        connection = psycopg.connect(URL, autocommit=autocommit)
        if THRESHOLD is not None:
            connection.prepare_threshold = THRESHOLD
        return connection

    def schema_changed(self, errors):
        # psycopg does not prepare again by itself: PostgreSQL's own 0A000 reaches the application,
        # and a pooler may heal it, so that there are fewer.
        return f"{errors} times 0A000 reached the application" if errors else ""

    def do(self, connection, sql, args=()):
        with connection.cursor() as cursor:
            cursor.execute(sql, args or None)

    def one(self, connection, sql, args=()):
        with connection.cursor() as cursor:
            return cursor.execute(sql, args or None).fetchone()[0]

    def pipeline(self):
        c = self.connect(autocommit=True)
        self.do(c, "CREATE TABLE pl (n int PRIMARY KEY)")
        for _ in range(3):
            with c.pipeline():
                cursors = [c.execute("SELECT %s::int", (n,)) for n in range(50)]
                same([cursor.fetchone()[0] for cursor in cursors], list(range(50)))
        with c.cursor() as cursor:
            cursor.executemany("INSERT INTO pl VALUES (%s)", [(n,) for n in range(200)])
        same(self.one(c, "SELECT count(*) FROM pl"), 200)

        def broken():
            with c.pipeline():
                c.execute("SELECT %s::int", (1,))
                c.execute("INSERT INTO pl VALUES (%s)", (1,))
                c.execute("SELECT %s::int", (2,))

        for _ in range(3):
            self.raises("23505", broken)
            same(self.one(c, "SELECT %s::int", (3,)), 3)
        c.close()

    def copy(self):
        c = self.connect()
        self.do(c, "CREATE TABLE cp (n int, t text)")
        with c.cursor() as cursor:
            with cursor.copy("COPY cp FROM STDIN") as copy:
                for n in range(20000):
                    copy.write_row((n, f"row {n}"))
            c.commit()
            query = "COPY (SELECT * FROM cp ORDER BY n) TO STDOUT (FORMAT BINARY)"
            with cursor.copy(query) as copy:
                copy.set_types(["int4", "text"])
                rows = list(copy.rows())
            same(rows[-1], (19999, "row 19999"))
            c.commit()

            def bad():
                with cursor.copy("COPY cp FROM STDIN") as copy:
                    copy.write("x\ty\n")

            self.raises("22P02", bad)
            c.rollback()
        same(self.one(c, "SELECT count(*) FROM cp"), 20000)
        c.close()

    def cursor(self):
        c = self.connect()
        with c.cursor("named") as cursor:
            cursor.itersize = 100
            cursor.execute("SELECT g FROM generate_series(1, 1000) g")
            same(sum(row[0] for row in cursor), 500500)
        c.commit()
        with c.cursor("held", withhold=True) as cursor:
            cursor.execute("SELECT g FROM generate_series(1, 1000) g")
            cursor.fetchone()
            c.commit()
            same(len(cursor.fetchall()), 999)
        with c.cursor() as cursor:
            rows = cursor.stream("SELECT g FROM generate_series(1, %s) g", (1000,))
            same(sum(row[0] for row in rows), 500500)
        c.close()

    def listen_notify(self):
        a, b = self.connect(autocommit=True), self.connect(autocommit=True)
        self.do(a, "LISTEN news")
        for n in range(3):
            self.do(b, "SELECT pg_notify('news', %s)", (str(n),))
            same([note.payload for note in a.notifies(timeout=5, stop_after=1)], [str(n)])
        self.do(a, "UNLISTEN *")
        a.close(), b.close()


name = "psycopg 3" if THRESHOLD is None else f"psycopg 3, prepare_threshold={THRESHOLD}"
program = Psycopg3(psycopg)
Report(name, psycopg.__version__).run(program.checks())
