"""Those who run side by side: Carpool, PgBouncer, a relay that is the floor of what a pooler costs
(floor.cpp), HAProxy as a plain TCP relay, and no pooler. All
on loopback TCP before the same PostgreSQL, without passwords, without TLS, with log lines off, on
one thread each; the poolers in transaction mode with the same pool."""

import os
import re
import subprocess
import time

from throwaway import CARPOOL, POSTGRES_USER, ROOT, Process, accepts, free_port, wait_until

POOL_SIZE = 16
FLOOR = ROOT / "build" / "bench_floor"
CLIENTS_MAX = 10_000

CARPOOL_CONFIG = """\
listen: {{port: {port}, clientsMax: {clients_max}}}
admin: {{address: 127.0.0.1, port: {admin_port}, controlPort: {control_port}}}
server: {{host: 127.0.0.1, port: {server_port}, sslMode: disable}}
pool: {{mode: transaction, size: {size}}}
log: {{level: warn, slowQuery: 0s, statsInterval: 0s}}
"""

PGBOUNCER_CONFIG = """\
[databases]
* = host=127.0.0.1 port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users.txt
pool_mode = transaction
default_pool_size = {size}
max_client_conn = {clients_max}
server_tls_sslmode = disable
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
log_stats = 0
{prepared}
"""

HAPROXY_CONFIG = """\
global
  maxconn 2000
  nbthread 1
defaults
  mode tcp
  timeout connect 10s
  timeout client 1h
  timeout server 1h
listen postgres
  bind 127.0.0.1:{port}
  server one 127.0.0.1:{server_port}
"""


def output_of(*command):
    return subprocess.run(command, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT).stdout


class Contender:
    """One of them, running. `pools` says whether it can hold more clients than PostgreSQL."""

    pools = True
    prepares = True  # prepared statements work in transaction mode
    whole = True  # queues what does not fit, signs clients in: more than the transactions of pgbench

    def __init__(self, folder, server_port):
        self.folder, self.server_port = folder, server_port
        self.port = free_port()
        self.process = None

    def config(self, template, file_name, **more):
        path = self.folder / file_name
        path.write_text(template.format(port=self.port, server_port=self.server_port,
                                        size=POOL_SIZE, clients_max=CLIENTS_MAX, **more))
        return path

    def start(self):
        """Returns the seconds from exec to accepting."""
        began = time.monotonic()
        self.process = self.launch()
        wait_until(lambda: accepts(self.port), 10, self.name, self.process, every=0.0005)
        return time.monotonic() - began

    def stop(self):
        if self.process:
            self.process.stop()
            self.process = None

    def cpu_seconds(self):
        """User and system time of the process, all its threads, those that ended included."""
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def pss_bytes(self):
        with open(f"/proc/{self.process.pid}/smaps_rollup") as rollup:
            return int(re.search(r"^Pss:\s+(\d+) kB", rollup.read(), re.M)[1]) * 1024


class Carpool(Contender):
    name = product = "Carpool"

    @staticmethod
    def version():
        return output_of(CARPOOL, "version").split()[-1]

    def launch(self):
        config = self.config(CARPOOL_CONFIG, "carpool.yaml", admin_port=free_port(),
                             control_port=free_port())
        return Process([CARPOOL, "run", "--config", config], log=self.folder / "carpool.log")


class PgBouncer(Contender):
    name = product = "PgBouncer"
    binary = "pgbouncer"  # Debian's; `--pgbouncer` names another

    @classmethod
    def version(cls):
        return re.search(r"[\d.]+", output_of(cls.binary, "--version"))[0]

    def __init__(self, folder, server_port):
        super().__init__(folder, server_port)
        # Followed in transaction mode since 1.21.
        self.prepares = tuple(map(int, self.version().split(".")[:2])) >= (1, 21)

    def launch(self):
        (self.folder / "users.txt").write_text('"app" ""\n')
        config = self.config(PGBOUNCER_CONFIG, "pgbouncer.ini", folder=self.folder,
                             prepared="max_prepared_statements = 500" if self.prepares else "")
        as_user = {}
        if POSTGRES_USER:  # it refuses to run as root
            as_user = {"user": POSTGRES_USER, "group": POSTGRES_USER, "extra_groups": []}
        return Process([self.binary, "-q", config], **as_user)


class HAProxy(Contender):
    name = product = "HAProxy"
    pools = False

    @staticmethod
    def version():
        return re.search(r"version (\d+\.\d+\.\d+)", output_of("haproxy", "-v"))[1]

    def launch(self):
        return Process(["haproxy", "-q", "-db", "-f", self.config(HAPROXY_CONFIG, "haproxy.cfg")],
                       log=self.folder / "haproxy.log")


class Floor(Contender):
    """Two recv and two send a transaction, and nothing else."""

    name = product = "floor"
    prepares = whole = False

    @staticmethod
    def version():
        return "of bench/floor.cpp"

    def launch(self):
        return Process([FLOOR, str(self.port), str(self.server_port), str(POOL_SIZE)],
                       log=self.folder / "floor.log")


class Direct(Contender):
    name, product = "direct", "PostgreSQL"
    pools = False

    @staticmethod
    def version():
        return re.search(r"\d+\.\d+", output_of("pg_config", "--version"))[0]

    def start(self):
        self.port = self.server_port

    def cpu_seconds(self):
        return None

    def pss_bytes(self):
        return None


ALL = [Carpool, PgBouncer, Floor, HAProxy, Direct]
