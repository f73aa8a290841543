"""The kubelet's part of a pod's life, played with podman: it mounts ConfigMaps and Secrets the way
the kubelet does, starts the containers in order with the startup probe in between, asks the probes,
and ends the pod in native or classic order. The containers themselves, their users, read-only roots,
dropped capabilities, memory limits and volumes are podman's, by `podman kube play` of the rendered
pod.

podman 4.3 knows no `restartPolicy: Always` of an init container; so the sidecar is handed to it as an
ordinary container of the pod that this file starts first and ends last.
"""

import contextlib
import copy
import datetime
import http.client
import json
import os
import pathlib
import random
import shutil
import subprocess
import threading
import time

import yaml

E2E = pathlib.Path(__file__).resolve().parent
WORK = E2E / ".work"
SECONDS_MAX = 40
ADDRESS = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
os.environ["CONTAINERS_CONF"] = str(WORK / "containers.conf")
os.environ["CONTAINERS_STORAGE_CONF"] = str(WORK / "storage.conf")


def podman(*arguments, check=True, stdin=None):
    done = subprocess.run(["podman", *map(str, arguments)], input=stdin, text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    if check and done.returncode != 0:
        raise AssertionError(f"podman {' '.join(map(str, arguments))}: {done.stderr.strip()}")
    return done.stdout.strip() if check else done


def until(question, seconds=SECONDS_MAX, pause=0.02):
    """The first true answer, or the last one."""
    end = time.monotonic() + seconds
    while True:
        answer = question()
        if answer or time.monotonic() > end:
            return answer
        time.sleep(pause)


class Volume:
    """A ConfigMap or Secret as the kubelet's AtomicWriter lays it out."""

    def __init__(self, folder, files):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True)
        self.folder.chmod(0o755)
        self.write(files)

    def write(self, files):
        stamp = datetime.datetime.now().strftime("..%Y_%m_%d_%H_%M_%S.")
        fresh = self.folder / f"{stamp}{random.randrange(10**9)}"
        fresh.mkdir(mode=0o755)
        for name, text in files.items():
            (fresh / name).write_text(text)
            (fresh / name).chmod(0o644)
        data, temporary = self.folder / "..data", self.folder / "..data_tmp"
        old = data.resolve() if data.is_symlink() else None
        temporary.symlink_to(fresh.name)
        temporary.rename(data)
        for name in files:
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        for entry in self.folder.iterdir():
            if not entry.name.startswith("..") and entry.name not in files:
                entry.unlink()
        if old:
            shutil.rmtree(old)


class Pod:
    def __init__(self, name, template, config, secret, hosts):
        self.name = name
        self.form = "native" if any(c["name"] == "carpool"
                                    for c in template["spec"].get("initContainers", [])) else "classic"
        self.folder = WORK / "pods" / name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.config = Volume(self.folder / "carpool-config", {"carpool.yaml": config})
        self.secret = Volume(self.folder / "carpool-secrets", secret)
        self.template = template
        podman("pod", "rm", "--force", "--time", "0", name, check=False)
        podman("kube", "play", "--start=false", "--network", "podman", "-", stdin=yaml.safe_dump(self.manifest(hosts)))
        self.address = None
        self.started_in = None

    def manifest(self, hosts):
        spec = copy.deepcopy(self.template["spec"])
        containers = [c for key in ("initContainers", "containers") for c in spec.pop(key, [])]
        for container in containers:
            container.pop("restartPolicy", None)
            self.probes = self.probes_of(container) if container["name"] == "carpool" else self.probes
            for key in ("startupProbe", "livenessProbe", "readinessProbe", "lifecycle", "ports"):
                container.pop(key, None)
        volumes = []
        for volume in spec.pop("volumes", []):
            folder = self.folder / volume["name"]
            folder.mkdir(exist_ok=True)
            if "emptyDir" in volume:
                folder.chmod(0o777)
            volumes.append({"name": volume["name"], "hostPath": {"path": str(folder), "type": "Directory"}})
        spec.update(containers=containers, volumes=volumes, restartPolicy="Never", hostAliases=[
            {"ip": address, "hostnames": [host]} for host, address in hosts.items()])
        return {"apiVersion": "v1", "kind": "Pod", "spec": spec,
                "metadata": {"name": self.name, "labels": self.template["metadata"]["labels"]}}

    probes = None

    @staticmethod
    def probes_of(container):
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        return {key: (probe["httpGet"]["path"], ports[probe["httpGet"]["port"]])
                for key, probe in container.items() if key.endswith("Probe")}

    # --- life

    def start(self, application=True):
        """As the kubelet: sidecar, its startup probe (or postStart), then the application."""
        podman("start", self.container("carpool"))
        started = datetime.datetime.fromisoformat(podman(
            "inspect", "--format", '{{.State.StartedAt.Format "2006-01-02T15:04:05.000000+00:00"}}',
            self.container("carpool")))
        self.address = podman("inspect", "--format", ADDRESS, podman(
            "pod", "inspect", "--format", "{{.InfraContainerID}}", self.name))
        if not until(lambda: self.probe("startupProbe") == 200):
            raise AssertionError(f"{self.name}: the startup probe never passed\n{self.log('carpool')}")
        self.started_in = (datetime.datetime.now(datetime.timezone.utc) - started).total_seconds()
        if self.form == "classic":
            for container in self.template["spec"]["containers"]:
                if "lifecycle" in container:
                    self.execute(*container["lifecycle"]["postStart"]["exec"]["command"])
        if application:
            podman("start", self.container("example"))
        return self

    def serving(self):
        if not until(lambda: self.get("/healthz", 8080)[0] == 200):
            raise AssertionError(f"{self.name} does not serve\n{self.log('example')}\n{self.log('carpool')}")
        return self

    def terminate(self):
        """What a deleted pod goes through: SIGTERM to all, but to a native sidecar only when the others
        have ended, which is `ended`'s part."""
        self.signal("example")
        if self.form == "classic":
            self.signal("carpool")

    def ended(self):
        """Exit codes by container, when all have ended."""
        codes = {"example": self.wait("example")}
        if self.form == "native":
            self.signal("carpool")
        codes["carpool"] = self.wait("carpool")
        return codes

    def completed(self):
        """The same for a pod of a Job, which ends by itself; a classic sidecar has to be told."""
        codes = {"example": self.wait("example")}
        if self.form == "native":
            self.signal("carpool")
        else:
            self.execute("/carpool", "quit")
        codes["carpool"] = self.wait("carpool")
        return codes

    def failed_start(self):
        """Starts a sidecar that is not going to stay; its exit code."""
        podman("start", self.container("carpool"))
        return self.wait("carpool")

    def restarts(self):
        """How often containers had to be started again, and whether all run."""
        states = podman("inspect", "--format", "{{.State.Status}} {{.RestartCount}}",
                        self.container("carpool"), self.container("example")).splitlines()
        return sum(int(state.split()[1]) for state in states), all(
            state.startswith("running ") for state in states)

    def signal(self, name):
        podman("kill", "--signal", "TERM", self.container(name))

    def wait(self, name):
        return int(podman("wait", self.container(name)))

    def remove(self):
        podman("pod", "rm", "--force", "--time", "0", self.name, check=False)

    # --- questions

    def container(self, name):
        return f"{self.name}-{name}"

    def execute(self, *command, container="carpool"):
        return podman("exec", self.container(container), *command)

    def stream(self, *command, container="carpool"):
        """The same, running, with pipes to its input and output."""
        return subprocess.Popen(["podman", "exec", "--interactive", self.container(container), *command],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def log(self, name):
        done = podman("logs", "--tail", "40", self.container(name), check=False)
        return done.stdout + done.stderr

    def get(self, path, port, method="GET", body=None):
        """Status and text, as from the node; (0, reason) where nobody answers."""
        connection = http.client.HTTPConnection(self.address, port, timeout=10)
        try:
            connection.request(method, path, body=body)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError as error:
            return 0, str(error)
        finally:
            connection.close()

    def probe(self, name):
        path, port = self.probes[name]
        return self.get(path, port)[0]

    def json(self, path):
        status, text = self.get(path, 9930)
        if status != 200:
            raise AssertionError(f"{self.name}{path}: {status} {text}")
        return json.loads(text)

    def metrics(self):
        """name{labels} -> value, as text."""
        found = {}
        for line in self.get("/metrics", 9930)[1].splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name] = float(value)
        return found

    def process(self):
        return podman("inspect", "--format", "{{.State.Pid}}", self.container("carpool"))

    def memory(self, field):
        """Bytes of the sidecar by the kernel's count: VmRSS, RssAnon, ..."""
        status = pathlib.Path(f"/proc/{self.process()}/status").read_text()
        return int(status.split(field + ":")[1].split()[0]) * 1024


class Load:
    """Visitors who sign the guest book as quickly as they can, each at a pod that is in service. A
    visit counts as failed when it was not answered 200."""

    def __init__(self, pods, visitors=6):
        self.pods = list(pods)
        self.done, self.failures = 0, []
        self.leaving = threading.Event()
        self.threads = [threading.Thread(target=self.visit, args=(number,)) for number in range(visitors)]

    def visit(self, number):
        count = 0
        while not self.leaving.is_set():
            pod = random.choice(self.pods)
            status, text = pod.get("/visits", 8080, "POST", f"visitor {number}, {count}")
            count += 1
            if status == 200:
                self.done += 1
            else:
                self.failures.append(f"{pod.name}: {status} {text}")
                time.sleep(0.05)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.leaving.set()
        for thread in self.threads:
            thread.join()

    def run_for(self, visits):
        """Returns when so many more visits were answered."""
        goal = self.done + visits
        if not until(lambda: self.done >= goal):
            raise AssertionError(f"only {self.done} of {goal} visits\n" + "\n".join(self.failures[:5]))


class Postgresql:
    """One PostgreSQL for all pods, with the guest book's database and user."""

    name = "carpool-e2e-postgresql"
    password = "first"

    def __init__(self):
        podman("rm", "--force", "--time", "0", self.name, check=False)
        podman("run", "--detach", "--name", self.name, "localhost/carpool-e2e-postgresql:15")
        self.address = podman("inspect", "--format", ADDRESS, self.name)
        if not until(self.answers):
            raise AssertionError(podman("logs", self.name, check=False).stderr)
        self.query(f"CREATE ROLE guestbook LOGIN PASSWORD '{self.password}'")
        self.query("CREATE DATABASE guestbook OWNER guestbook")

    def execute(self, *command, check=True):
        return podman("exec", self.name, *command, check=check)

    def query(self, text, database="postgres"):
        return self.execute("psql", "-h", "/tmp", "-d", database, "-Atqc", text)

    def answers(self):
        return self.execute("psql", "-h", "/tmp", "-Atqc", "SELECT 1", "postgres",
                            check=False).returncode == 0

    def connections(self):
        return int(self.query("SELECT count(*) FROM pg_stat_activity WHERE usename = 'guestbook'"))

    def restart(self):
        self.execute("sh", "-c", "kill -INT $(head -n 1 $PGDATA/postmaster.pid)")
        until(lambda: not self.answers(), 5)
        if not until(self.answers):
            raise AssertionError("PostgreSQL did not come back")

    def remove(self):
        podman("rm", "--force", "--time", "0", self.name, check=False)


@contextlib.contextmanager
def removed(*pods):
    """Removes the pods at the end, and shows their logs where something went wrong."""
    try:
        yield
    except BaseException:
        for pod in pods:
            print(f"--- {pod.name}: application\n{pod.log('example')}--- sidecar\n{pod.log('carpool')}")
        raise
    finally:
        for pod in pods:
            pod.remove()
