"""SQLAlchemy over psycopg 3 (its default) with the pool class of the first argument."""
import datetime
import decimal
import sys
import threading
import uuid

import sqlalchemy
from sqlalchemy import (ARRAY, JSON, Column, Date, DateTime, Integer, LargeBinary, MetaData,
                        Numeric, String, Table, Uuid, create_engine, event, insert, pool, select,
                        text)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, declarative_base

from report import KEPT, ROUNDS, URL, USERS, Report, kept, same, users

POOL = sys.argv[1] if len(sys.argv) > 1 else "QueuePool"
PSYCOPG_URL = URL.replace("postgresql://", "postgresql+psycopg://", 1)
Base = declarative_base()


class Item(Base):
    __tablename__ = "item"
    id = Column(Integer, primary_key=True)
    name = Column(String, unique=True)


def new_engine(**options):
    if POOL == "QueuePool":
        options = {"pool_size": 5, "max_overflow": 5, "pool_pre_ping": True} | options
    return create_engine(PSYCOPG_URL, poolclass=getattr(pool, POOL), **options)


engine = new_engine()


def raises(state, body):
    try:
        body()
    except DBAPIError as error:
        return same(error.orig.sqlstate, state)
    raise AssertionError(f"no error where {state} was due")


def query():
    for n in range(20):
        with engine.connect() as c:
            same(c.scalar(text("SELECT 1 + 1")), 2)
            same(c.scalar(text("SELECT CAST(:n AS int) * 2"), {"n": n}), 2 * n)
    with engine.connect() as c:
        same(len(c.execute(text("SELECT g FROM generate_series(1, 1000) g")).all()), 1000)


def types():
    table = Table("kinds", MetaData(), Column("id", Integer, primary_key=True),
                  Column("n", Numeric), Column("s", String), Column("b", LargeBinary),
                  Column("d", Date), Column("t", DateTime(timezone=True)), Column("u", Uuid),
                  Column("j", JSON), Column("a", ARRAY(Integer)))
    table.create(engine)
    row = {"n": decimal.Decimal("1.25"), "s": "snow ☃ 'q'", "b": b"\0\xff",
           "d": datetime.date(2024, 2, 29),
           "t": datetime.datetime(2024, 2, 29, 1, tzinfo=datetime.timezone.utc),
           "u": uuid.UUID(int=5), "j": {"a": [1, None]}, "a": [1, 2, None]}
    for _ in range(8):
        with engine.begin() as c:
            c.execute(insert(table), row)
    with engine.connect() as c:
        for got in c.execute(select(table)).mappings():
            same({key: got[key] for key in row}, row)


def transaction():
    with engine.begin() as c:
        c.execute(text("CREATE TABLE tx (n int)"))
    for n in range(10):
        with engine.connect() as c:
            c.execute(text("INSERT INTO tx VALUES (:n)"), {"n": n})
            c.commit() if n % 2 else c.rollback()
    with engine.connect() as c:
        same(c.scalar(text("SELECT sum(n) FROM tx")), 25)
    with engine.connect().execution_options(isolation_level="SERIALIZABLE") as c:
        same(c.scalar(text("SHOW transaction_isolation")), "serializable")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as c:
        c.execute(text("INSERT INTO tx VALUES (100)"))
        same(c.scalar(text("SELECT sum(n) FROM tx")), 125)


def savepoint():
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Item(name="one"))
        session.flush()
        for _ in range(3):
            def duplicate():
                with session.begin_nested():
                    session.add(Item(name="one"))
            raises("23505", duplicate)
        session.add(Item(name="two"))
        session.commit()
        same(session.query(Item).count(), 2)


def error():
    for _ in range(8):
        with engine.connect() as c:
            raises("22012", lambda: c.execute(text("SELECT 1 / CAST(:n AS int)"), {"n": 0}))
            raises("25P02", lambda: c.execute(text("SELECT 1")))
            c.rollback()
            raises("42601", lambda: c.execute(text("SELEC 1")))
            c.rollback()
            same(c.scalar(text("SELECT CAST(:t AS text)"), {"t": "still here"}), "still here")


def prepared():
    for n in range(12):  # past psycopg's threshold of 5 on the same connection
        with engine.connect() as c:
            for _ in range(8):
                same(c.scalar(text("SELECT CAST(:n AS int) + 1000"), {"n": n}), n + 1000)


def pipeline():
    table = Table("many", MetaData(), Column("id", Integer, primary_key=True), Column("n", Integer))
    table.create(engine)
    with engine.begin() as c:  # insertmanyvalues, with RETURNING
        ids = c.execute(insert(table).returning(table.c.id, sort_by_parameter_order=True),
                        [{"n": n} for n in range(3000)]).all()
        same(len(ids), 3000)
        c.execute(table.update().where(table.c.id == sqlalchemy.bindparam("i")).values(
            n=sqlalchemy.bindparam("v")), [{"i": n, "v": -n} for n in range(1, 100)])
        same(c.scalar(text("SELECT sum(n) FROM many WHERE n < 0")), -4950)


def copy():
    raw = engine.raw_connection()
    with raw.cursor() as cursor:
        cursor.execute("CREATE TABLE cp (n int)")
        with cursor.copy("COPY cp FROM STDIN") as stream:
            for n in range(10000):
                stream.write_row((n,))
        cursor.execute("SELECT count(*) FROM cp")
        same(cursor.fetchone()[0], 10000)
    raw.commit()
    raw.close()
    return "through raw_connection()"


def large():
    value = "0123456789abcdef" * 65536 * 5
    with engine.connect() as c:
        same(c.scalar(text("SELECT CAST(:t AS text)"), {"t": value}) == value, True)


def cursor():
    for _ in range(3):
        with engine.connect().execution_options(stream_results=True, max_row_buffer=100) as c:
            rows = c.execute(text("SELECT g FROM generate_series(1, 1000) g"))
            same(sum(row[0] for row in rows), 500500)


def cancel():
    for _ in range(3):
        with engine.connect() as c:
            timer = threading.Timer(0.3, c.connection.driver_connection.cancel)
            timer.start()
            raises("57014", lambda: c.execute(text("SELECT pg_sleep(20)")))
            timer.join()
            c.rollback()
            same(c.scalar(text("SELECT 1")), 1)


def reconnect():
    mine = new_engine()
    for n in range(25):
        with mine.connect() as c:
            same(c.scalar(text("SELECT CAST(:n AS int)"), {"n": n}), n)
            if n % 3 == 0:
                c.invalidate()
        if n % 5 == 0:
            mine.dispose()
    mine.dispose()


def schema_change():
    with engine.begin() as c:
        c.execute(text("CREATE TABLE shape (a int)"))
        c.execute(text("INSERT INTO shape VALUES (1)"))
    errors = 0
    for change, want in [(None, (1,)), ("ADD COLUMN b int DEFAULT 7", (1, 7)),
                         ("DROP COLUMN b", (1,))]:
        if change:
            with engine.begin() as c:
                c.execute(text("ALTER TABLE shape " + change))
        for _ in range(8):
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as c:
                try:
                    same(tuple(c.execute(text("SELECT * FROM shape")).one()), want)
                except DBAPIError as failure:
                    same(failure.orig.sqlstate, "0A000")
                    errors += 1
    return f"{errors} times 0A000 reached the application" if errors else ""


def session_set():
    mine = new_engine()

    @event.listens_for(mine, "connect")
    def on_connect(connection, _):
        connection.autocommit = True
        connection.execute("SET TIME ZONE 'Asia/Tokyo'")
        connection.execute("SET search_path TO pg_catalog")
        connection.autocommit = False

    for _ in range(6):
        with mine.connect() as c, engine.connect() as other:
            same(c.scalar(text("SHOW timezone")), "Asia/Tokyo")
            same(c.scalar(text("SHOW search_path")), "pg_catalog")
            same(other.scalar(text("SHOW timezone")) == "Asia/Tokyo", False)
    mine.dispose()


def temp_table():
    with engine.connect() as c:
        c.execute(text("CREATE TEMP TABLE mine (n int) ON COMMIT PRESERVE ROWS"))
        c.commit()
        for n in range(5):
            c.execute(text("INSERT INTO mine VALUES (:n)"), {"n": n})
            c.commit()
        same(c.scalar(text("SELECT count(*) FROM mine")), 5)
        c.execute(text("DROP TABLE mine"))
        c.commit()


def advisory_lock():
    with engine.connect() as a:
        a.execute(text("SELECT pg_advisory_lock(42)"))
        a.commit()
        for _ in range(4):
            with engine.connect() as b:
                same(b.scalar(text("SELECT pg_try_advisory_lock(42)")), False)
            same(a.scalar(text("SELECT 1")), 1)
            a.commit()
        same(a.scalar(text("SELECT pg_advisory_unlock(42)")), True)
        a.commit()
        a.invalidate()


def listen_notify():
    with engine.connect() as a:
        raw = a.connection.driver_connection
        raw.autocommit = True
        raw.execute("LISTEN news")
        for n in range(3):
            with engine.begin() as b:
                b.execute(text("SELECT pg_notify('news', :n)"), {"n": str(n)})
            same([note.payload for note in raw.notifies(timeout=5, stop_after=1)], [str(n)])
        raw.execute("UNLISTEN *")
        raw.autocommit = False
    return "through the driver's connection"


def concurrent():
    with engine.begin() as c:
        c.execute(text("CREATE TABLE conc (u int, r int)"))
    where = "SELECT count(*) FROM conc WHERE u = :u"

    def user(i):
        for r in range(ROUNDS):
            with engine.connect() as c:
                c.execute(text(f"SET LOCAL app.who = 'user-{i}'"))
                same(c.scalar(text("SELECT current_setting('app.who')")), f"user-{i}")
                c.execute(text("INSERT INTO conc VALUES (:u, :r)"), {"u": i, "r": r})
                c.commit() if kept(r) else c.rollback()
                if r % 4 == 0:
                    raises("22012", lambda: c.execute(text("SELECT 1 / CAST(:n AS int)"), {"n": 0}))
                    c.rollback()
                same(c.scalar(text(where), {"u": i}), sum(kept(n) for n in range(r + 1)))

    users(user)
    with engine.connect() as c:
        same(c.scalar(text("SELECT count(*) FROM conc")), USERS * KEPT)


Report(f"SQLAlchemy, {POOL}", sqlalchemy.__version__).run([
    query, types, transaction, savepoint, error, prepared, pipeline, copy, large, cursor, cancel,
    reconnect, schema_change, session_set, temp_table, advisory_lock, listen_notify, concurrent])
