import io
import select
import time

import psycopg2
import psycopg2.extensions
from psycopg2.extras import execute_values

from dbapi import DbApi
from report import URL, Absent, Report, same


class Psycopg2(DbApi):
    def connect(self, autocommit=False):
        connection = psycopg2.connect(URL)
        connection.autocommit = autocommit
        return connection

    def pipeline(self):
        raise Absent("no pipeline mode in psycopg2")

    def copy(self):
        c = self.connect()
        with c.cursor() as cursor:
            cursor.execute("CREATE TABLE cp (n int, t text)")
            rows = "".join(f"{n}\trow {n}\n" for n in range(20000))
            cursor.copy_expert("COPY cp FROM STDIN", io.StringIO(rows))
            c.commit()
            out = io.StringIO()
            cursor.copy_expert("COPY (SELECT * FROM cp ORDER BY n) TO STDOUT", out)
            same(out.getvalue() == rows, True)
            self.raises("22P02", lambda: cursor.copy_expert("COPY cp FROM STDIN",
                                                            io.StringIO("x\ty\n")))
            c.rollback()
            execute_values(cursor, "INSERT INTO cp VALUES %s", [(-1, "a"), (-2, "b")])
            c.commit()
        same(self.one(c, "SELECT count(*) FROM cp"), 20002)
        c.close()

    def cursor(self):
        c = self.connect()
        with c.cursor("named") as cursor:
            cursor.itersize = 100
            cursor.execute("SELECT g FROM generate_series(1, 1000) g")
            same(sum(row[0] for row in cursor), 500500)
        c.commit()
        with c.cursor("held", withhold=True) as cursor:
            cursor.itersize = 100
            cursor.execute("SELECT g FROM generate_series(1, 1000) g")
            cursor.fetchone()
            c.commit()
            same(len(cursor.fetchall()), 999)
        c.close()

    def listen_notify(self):
        a, b = self.connect(autocommit=True), self.connect(autocommit=True)
        self.do(a, "LISTEN news")
        for n in range(3):
            self.do(b, "SELECT pg_notify('news', %s)", (str(n),))
            until = time.monotonic() + 5
            while not a.notifies and time.monotonic() < until:
                select.select([a], [], [], 1)
                a.poll()
            same(a.notifies.pop(0).payload, str(n))
        self.do(a, "UNLISTEN *")
        a.close(), b.close()


program = Psycopg2(psycopg2)
Report("psycopg2", psycopg2.__version__).run(program.checks())
