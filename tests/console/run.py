#!/usr/bin/python3
"""PgBouncer's console, by what people use it with: psql, psycopg2, Debian's
prometheus-pgbouncer-exporter, and beside it a real PgBouncer, whose columns ours have to be."""

import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "tools"))
import throwaway  # noqa: E402  pylint: disable=wrong-import-position

CARPOOL = throwaway.CARPOOL
# What ours has besides, for an exporter that asks for names of before PgBouncer 1.8.
EXTRA_COLUMNS = {"STATS": ["total_requests"]}


class Console(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.home = tempfile.TemporaryDirectory(prefix="carpool-console-")
        cls.addClassCleanup(cls.home.cleanup)
        home = pathlib.Path(cls.home.name)
        home.chmod(0o755)
        cls.postgres = throwaway.Postgres(home, tcp=True)
        cls.addClassCleanup(cls.postgres.stop)
        cls.port = throwaway.free_port()
        cls.config = home / "carpool.yaml"
        cls.write("size: 3, minIdle: 1")
        cls.log = home / "carpool.log"
        cls.carpool = throwaway.Process([CARPOOL, "run", "--config", cls.config], log=cls.log)
        cls.addClassCleanup(cls.carpool.stop)
        throwaway.wait_until(lambda: throwaway.accepts(cls.port), 20, "Carpool", cls.carpool)

    @classmethod
    def write(cls, pool):
        cls.config.write_text(
            f"listen: {{port: {cls.port}}}\n"
            f"admin: {{address: 127.0.0.1, port: 0, controlPort: 0, users: [app, exporter]}}\n"
            f"server: {{host: 127.0.0.1, port: {cls.postgres.port}}}\n"
            f"pool: {{{pool}}}\ndrain: {{timeout: 1s}}\n"
            "databases: [{name: app}, {name: other, server: {database: app}},\n"
            "  {name: linked, server: {url: 'postgres://boss@db-0:1,db-1:2/stock?sslmode=require'}}]\n")

    def psql(self, sql, database="pgbouncer", user="app", options="-XAt", port=None):
        """stdout, stderr and the exit code."""
        done = subprocess.run(
            ["psql", options, "-h", "127.0.0.1", "-p", str(port or self.port), "-U", user, "-d",
             database, "-c", sql], text=True, capture_output=True, timeout=60, check=False)
        return done.stdout.strip(), done.stderr.strip(), done.returncode

    def rows(self, sql, **how):
        """Each row of the table as a dictionary."""
        out, err, code = self.psql(sql, options="-XA", **how)
        self.assertEqual(code, 0, err)
        header, *lines = [line.split("|") for line in out.splitlines()[:-1]]
        return [dict(zip(header, line)) for line in lines]

    def columns(self, sql, port=None):
        out, err, code = self.psql(sql, options="-XA", port=port)
        self.assertEqual(code, 0, err)
        return out.splitlines()[0].split("|")

    def hold(self, sql, database="app"):
        """A psql that runs it and goes on until its end; killed with the test."""
        child = subprocess.Popen(
            ["psql", "-XAt", "-h", "127.0.0.1", "-p", str(self.port), "-U", "app", "-d", database,
             "-c", sql], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(child.communicate)
        self.addCleanup(child.kill)
        return child

    def pool(self, database="app"):
        found = [row for row in self.rows("SHOW POOLS") if row["database"] == database]
        return found[0] if found else {}

    def test_the_columns_are_those_of_pgbouncer(self):
        self.psql("select 1", database="app")
        folder = pathlib.Path(self.home.name) / "pgbouncer"
        folder.mkdir()
        port = throwaway.free_port()
        (folder / "users").write_text('"app" ""\n')
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\napp = host=127.0.0.1 port={self.postgres.port}\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = trust\n"
            f"auth_file = {folder}/users\nadmin_users = app\nunix_socket_dir =\n")
        as_user = throwaway.POSTGRES_USER
        pgbouncer = throwaway.Process(
            ["pgbouncer", folder / "pgbouncer.ini"],
            **({"user": as_user, "group": as_user, "extra_groups": []} if as_user else {}))
        self.addCleanup(pgbouncer.stop)
        throwaway.wait_until(lambda: throwaway.accepts(port), 20, "pgbouncer", pgbouncer)
        for what in ("POOLS", "STATS", "STATS_TOTALS", "STATS_AVERAGES", "CLIENTS", "SERVERS",
                     "DATABASES", "USERS", "CONFIG", "LISTS", "VERSION"):
            with self.subTest(what):
                theirs = self.columns(f"SHOW {what};", port=port)
                self.assertEqual(self.columns(f"SHOW {what};"),
                                 theirs + EXTRA_COLUMNS.get(what, []))
        ours = [row["list"] for row in self.rows("SHOW LISTS")]
        theirs = [row["list"] for row in self.rows("SHOW LISTS", port=port)]
        self.assertEqual(ours, theirs)

    def test_figures_are_those_of_the_pool(self):
        before = int(self.rows("SHOW STATS")[0]["total_query_count"]) if self.pool() else 0
        for _ in range(5):
            self.assertEqual(self.psql("select 42", database="app")[0], "42")
        holder = self.hold("select pg_sleep(30)")
        throwaway.wait_until(lambda: self.pool().get("sv_active") == "1", 20, "a lent server")
        stats = {row["database"]: row for row in self.rows("SHOW STATS")}["app"]
        self.assertEqual(int(stats["total_query_count"]), before + 5)
        self.assertEqual(stats["total_requests"], stats["total_query_count"])
        self.assertGreater(int(stats["total_sent"]), 0)
        client = [row for row in self.rows("SHOW CLIENTS") if row["link"]]
        server = [row for row in self.rows("SHOW SERVERS") if row["state"] == "active"]
        self.assertEqual([row["link"] for row in client], [row["ptr"] for row in server])
        pid = server[0]["remote_pid"]
        self.assertEqual(self.postgres.psql(
            f"select count(*) from pg_stat_activity where pid = {pid} and query ~ 'pg_sleep'"), "1")
        self.postgres.psql(f"select pg_cancel_backend({pid})")
        holder.wait(20)
        databases = {row["name"]: row for row in self.rows("SHOW DATABASES")}
        self.assertEqual(databases["other"]["database"], "app")
        self.assertEqual(databases["app"]["host"], "127.0.0.1")
        self.assertEqual(databases["app"]["force_user"], "")
        linked = {key: databases["linked"][key] for key in ("host", "port", "database", "force_user")}
        self.assertEqual(linked, {"host": "db-0,db-1", "port": "1", "database": "stock",
                                  "force_user": "boss"})
        self.assertEqual(databases["app"]["pool_size"], "3")
        config = {row["key"]: row["value"] for row in self.rows("SHOW CONFIG")}
        self.assertEqual(config["default_pool_size"], "3")
        self.assertEqual(config["query_wait_timeout"], "30")

    def test_help_is_a_notice_and_the_version_is_one_that_checks_can_read(self):
        self.assertIn("SHOW HELP|CONFIG", self.psql("SHOW HELP")[1])
        self.assertRegex(self.psql("SHOW VERSION")[0], r"^PgBouncer \d+\.\d+\.\d+ \(Carpool ")

    def test_who_is_not_named_does_not_come_in(self):
        _, err, code = self.psql("SHOW POOLS", user="stranger")
        self.assertEqual(code, 2)
        self.assertIn("admin.users does not name stranger", err)

    def test_what_it_does_not_know_is_an_error_and_the_session_goes_on(self):
        for sql, error in (("SELECT 1", "invalid command"), ("SHOW NOTHING", "invalid command"),
                           ("SHUTDOWN", "PgBouncer's and not Carpool's"),
                           ("KILL", "a database is required"),
                           ("RECONNECT nosuch", "no such database")):
            _, err, code = self.psql(sql)
            self.assertEqual(code, 1, sql)
            self.assertIn(error, err)

    def test_psycopg2_with_autocommit(self):
        script = (
            "import psycopg2, sys\n"
            f"c = psycopg2.connect(host='127.0.0.1', port={self.port}, user='app', "
            "dbname='pgbouncer')\n"
            "c.set_session(autocommit=True)\n"
            "u = c.cursor()\n"
            "u.execute('SHOW LISTS;')\n"
            "assert dict(u.fetchall())['databases'] == 3\n"
            "u.execute('SHOW VERSION')\n"
            "assert u.fetchone()[0].startswith('PgBouncer 1.')\n")
        subprocess.run(["/usr/bin/python3", "-c", script], check=True, timeout=60)

    def test_debians_exporter(self):
        self.psql("select 1", database="app")
        port = throwaway.free_port()
        exporter = throwaway.Process(
            ["prometheus-pgbouncer-exporter", "--pgbouncer-port", str(self.port),
             "--pgbouncer-host", "127.0.0.1", "--pgbouncer-user", "exporter", "--host",
             "127.0.0.1", "--port", str(port)], log=pathlib.Path(self.home.name) / "exporter.log")
        self.addCleanup(exporter.stop)
        throwaway.wait_until(lambda: throwaway.accepts(port), 30, "the exporter", exporter)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            text = answer.read().decode()
        for wanted in ('pgbouncer_pool_size{database="app"} 3.0', "pgbouncer_databases 3.0",
                       'pgbouncer_active_clients{database="app",user="app"}',
                       'pgbouncer_requests_total{database="app"}'):
            self.assertIn(wanted, text)

    def test_pause_waits_for_the_servers_and_resume_lets_queries_go_on(self):
        holder = self.hold("select pg_sleep(1.5)", database="other")
        throwaway.wait_until(lambda: self.pool("other").get("sv_active") == "1", 20, "a lease")
        begun = time.monotonic()
        out, err, code = self.psql("PAUSE other")
        self.assertEqual((out, code), ("PAUSE", 0), err)
        self.assertIsNotNone(holder.poll() if time.monotonic() - begun < 1 else holder.wait(20))
        databases = {row["name"]: row for row in self.rows("SHOW DATABASES")}
        self.assertEqual(databases["other"]["paused"], "1")
        self.assertEqual(databases["other"]["current_connections"], "0")
        answers = []
        waiter = threading.Thread(
            target=lambda: answers.append(self.psql("select 7", database="other")[0]))
        waiter.start()
        throwaway.wait_until(lambda: self.pool("other").get("cl_waiting") == "1", 20, "a waiter")
        self.assertEqual(self.psql("RESUME other")[0], "RESUME")
        waiter.join(20)
        self.assertEqual(answers, ["7"])

    def test_pause_of_all_holds_for_pools_to_come(self):
        self.assertEqual(self.psql("PAUSE")[0], "PAUSE")
        answers = []
        newcomer = threading.Thread(target=lambda: answers.append(
            self.psql("select 1", database="app", user="newcomer")[2]))
        newcomer.start()
        throwaway.wait_until(
            lambda: [row for row in self.rows("SHOW POOLS") if row["user"] == "newcomer"], 20,
            "its pool")
        self.assertEqual(answers, [])
        self.assertIn("paused|yes", self.psql("SHOW STATE")[0])
        self.assertEqual(self.psql("RESUME")[0], "RESUME")
        newcomer.join(20)
        self.assertEqual(answers, [2])  # PostgreSQL knows no such role

    def test_kill_ends_clients_and_servers_and_resume_takes_new_ones(self):
        victim = self.hold("select pg_sleep(60)", database="other")
        throwaway.wait_until(lambda: self.pool("other").get("sv_active") == "1", 20, "a lease")
        self.assertEqual(self.psql("KILL other")[0], "KILL")
        _, err = victim.communicate(timeout=20)
        self.assertIn("killed at the console", err)
        throwaway.wait_until(
            lambda: self.postgres.psql("select count(*) from pg_stat_activity where query ~ "
                                       "'sleep.60' and pid <> pg_backend_pid()") == "0",
            20, "its backend to go")
        self.assertEqual(self.psql("RESUME other")[0], "RESUME")
        self.assertEqual(self.psql("select 8", database="other")[0], "8")

    def test_reconnect_replaces_servers(self):
        pid = self.psql("select pg_backend_pid()", database="app")[0]
        self.assertEqual(self.psql("RECONNECT app")[0], "RECONNECT")
        self.assertNotEqual(self.psql("select pg_backend_pid()", database="app")[0], pid)

    def test_reload_reads_the_file(self):
        self.addCleanup(self.write, "size: 3, minIdle: 1")
        self.write("size: 3, minIdle: 1, overflow: 2")
        self.assertEqual(self.psql("RELOAD")[0], "RELOAD")
        throwaway.wait_until(
            lambda: {row["name"]: row for row in self.rows("SHOW DATABASES")}["app"]
            ["reserve_pool"] == "2", 20, "the reload")

    def test_a_console_does_not_hold_up_a_drain(self):
        port = throwaway.free_port()
        config = pathlib.Path(self.home.name) / "drain.yaml"
        config.write_text(self.config.read_text().replace(str(self.port), str(port))
                          .replace("timeout: 1s", "timeout: 60s"))
        carpool = throwaway.Process([CARPOOL, "run", "--config", config])
        self.addCleanup(carpool.stop)
        throwaway.wait_until(lambda: throwaway.accepts(port), 20, "Carpool", carpool)
        psql = subprocess.Popen(["psql", "-XAt", "-h", "127.0.0.1", "-p", str(port), "-U", "app",
                                 "-d", "pgbouncer"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                text=True, bufsize=1)
        self.addCleanup(psql.communicate)
        psql.stdin.write("SHOW VERSION;\n")
        self.assertTrue(psql.stdout.readline().startswith("PgBouncer"))
        self.assertEqual(carpool.stop(20), 0)


if __name__ == "__main__":
    unittest.main()
