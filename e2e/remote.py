"""The same pods on a cluster that a kubeconfig names: what kubelet.py plays with podman is here asked
of the API server, and the real kubelet does it. Offers what kubelet.Pod, kubelet.Postgresql and
kubelet.Volume offer, so that the tests are the same.

Requests to pods go through `kubectl proxy`, so that they reach a pod at its own address, as a probe
does, and never at its loopback.
"""

import atexit
import copy
import http.client
import json
import os
import re
import subprocess
import time

import yaml

import kubelet

KUBECTL = str(kubelet.WORK / "bin" / "kubectl")
KUBECONFIG = os.environ.get("E2E_KUBECONFIG", "")
REGISTRY = os.environ.get("E2E_REGISTRY", "").rstrip("/")
NAMESPACE = "carpool-e2e"
# The kubelet's own lag: starting a pod may pull an image, and a mounted ConfigMap follows within a
# minute or two where an annotation does not hurry it.
SECONDS_MAX = 180


def kubectl(*arguments, check=True, stdin=None, namespace=NAMESPACE):
    command = [KUBECTL, "--kubeconfig", KUBECONFIG, "--namespace", namespace, *map(str, arguments)]
    done = subprocess.run(command, input=stdin, text=True, check=False, timeout=SECONDS_MAX + 30,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if check and done.returncode != 0:
        raise AssertionError(f"kubectl {' '.join(map(str, arguments))}: {done.stderr.strip()}")
    return done.stdout.strip() if check else done


def apply(*objects):
    kubectl("apply", "--filename", "-", stdin=yaml.safe_dump_all(objects))


def until(question):
    return kubelet.until(question, SECONDS_MAX, 0.2)


def image(name):
    return f"{REGISTRY}/{name}" if REGISTRY else name


def make_namespace(name, labels):
    """After the one of that name that an earlier run has left to go by itself."""
    kind = f"namespace/{name}"
    if kubectl("get", kind, "--ignore-not-found", "--output", "jsonpath={.status.phase}") == "Terminating":
        kubectl("wait", "--for=delete", kind, f"--timeout={SECONDS_MAX}s")
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    # The controller manager makes it a little later, and no pod comes before it.
    account = ("get", "serviceaccount", "default")
    if not until(lambda: kubectl(*account, namespace=name, check=False).returncode == 0):
        raise AssertionError(f"namespace {name} has no service account")


def prepare():
    """A namespace under Pod Security `restricted`, removed at the end, and a proxy; its port."""
    make_namespace(NAMESPACE, {"pod-security.kubernetes.io/enforce": "restricted"})
    atexit.register(kubectl, "delete", "namespace", NAMESPACE, "--wait=false", check=False)
    proxy = subprocess.Popen([KUBECTL, "--kubeconfig", KUBECONFIG, "proxy", "--port=0"],
                             stdout=subprocess.PIPE, text=True)
    atexit.register(proxy.terminate)
    return int(re.search(r":(\d+)", proxy.stdout.readline())[1])


class Volume:
    """A ConfigMap or Secret; the kubelet swaps what is mounted of it."""

    def __init__(self, kind, name, files, pod=None):
        self.kind, self.name, self.pod = kind, name, pod
        self.write(files)

    def write(self, files):
        data = {"data": files} if self.kind == "ConfigMap" else {"stringData": files}
        apply({"apiVersion": "v1", "kind": self.kind, "metadata": {"name": self.name}, **data})
        if self.pod:  # a changed annotation makes the kubelet look at once
            kubectl("annotate", "--overwrite", "pod", self.pod, f"carpool/look={time.time_ns()}",
                    check=False)


class Pod(kubelet.Pod):
    proxy_port = None

    def __init__(self, name, template, config, secret, hosts):
        self.hosts = hosts
        Pod.proxy_port = Pod.proxy_port or prepare()
        self.name, self.template = name, template
        spec = template["spec"]
        self.form = "native" if any(c["name"] == "carpool"
                                    for c in spec.get("initContainers", [])) else "classic"
        kubectl("delete", "pod", name, "--ignore-not-found", "--grace-period=0", "--force")
        self.config = Volume("ConfigMap", name, {"carpool.yaml": config}, name)
        self.secret = Volume("Secret", name, secret, name)
        self.probes = self.probes_of(next(
            c for c in spec.get("initContainers", []) + spec["containers"] if c["name"] == "carpool"))
        self.started_in = None

    @classmethod
    def of(cls, name):
        """One that is there already, to be asked."""
        cls.proxy_port = cls.proxy_port or prepare()
        pod = cls.__new__(cls)
        pod.name = name
        return pod

    def manifest(self, application):
        spec = copy.deepcopy(self.template["spec"])
        for container in spec.get("initContainers", []) + spec["containers"]:
            container["image"] = image(container["image"])
            if container["name"] == "example" and not application:
                container.update(command=["sleep", "infinity"])
                container.pop("readinessProbe", None)
        for volume in spec["volumes"]:
            if "configMap" in volume:
                volume["configMap"]["name"] = self.name
            elif "secret" in volume:
                volume["secret"]["secretName"] = self.name
        spec["restartPolicy"] = "Never"
        # The Service's address, so that a cluster without DNS does too.
        spec["hostAliases"] = [{"ip": address, "hostnames": [host]} for host, address in self.hosts.items()]
        return {"apiVersion": "v1", "kind": "Pod", "spec": spec, "metadata": {
            "name": self.name, "labels": self.template["metadata"]["labels"]}}

    # --- life

    def start(self, application=True):
        apply(self.manifest(application))
        if not until(lambda: self.state("carpool").get("started")):
            raise AssertionError(f"{self.name}: the sidecar never started\n{self.log('carpool')}")
        # The kubelet's clock counts whole seconds: what it saw is within one of the truth.
        self.started_in = 0.0 if self.probe("startupProbe") == 200 else float("inf")
        return self

    def serving(self):
        if not until(lambda: self.get("/healthz", 8080)[0] == 200):
            raise AssertionError(f"{self.name} does not serve\n{self.log('example')}")
        return self

    def terminate(self):
        self.hold()
        kubectl("delete", "pod", self.name, "--wait=false")

    def hold(self):
        """Keeps its object until its last words are read; without that it is gone with its last
        container, and whether anybody saw how that ended is chance."""
        self.keep(["carpool.e2e/last-words"])

    def keep(self, finalizers):
        kubectl("patch", "pod", self.name, "--type=merge", "--patch",
                json.dumps({"metadata": {"finalizers": finalizers}}), check=False)

    def ended(self):
        until(lambda: len(self.codes(self.object())) == 2)
        codes = self.codes(self.object())
        self.keep(None)
        return codes

    def ends(self):
        """How each container of a pod on hold has ended, by name, when all have; the pod may go then."""
        def seen():
            return {status["name"]: status["state"]["terminated"]
                    for status in self.statuses(self.object()) if "terminated" in status["state"]}
        until(lambda: len(seen()) == 2)
        found = seen()
        self.keep(None)
        return found

    def completed(self):
        until(lambda: "example" in self.codes(self.object()))
        if self.form == "classic":
            self.execute("/carpool", "quit")
        until(lambda: len(self.codes(self.object())) == 2)
        return self.codes(self.object())

    def failed_start(self):
        apply(self.manifest(application=False))
        until(lambda: "carpool" in self.codes(self.object()))
        return self.codes(self.object()).get("carpool")

    def restarts(self):
        states = [self.state("carpool"), self.state("example")]
        return sum(state["restartCount"] for state in states), all(
            "running" in state["state"] for state in states)

    def remove(self):
        self.keep(None)
        kubectl("delete", "pod", self.name, "--ignore-not-found", "--grace-period=0", "--force")
        kubectl("delete", "configmap,secret", self.name, "--ignore-not-found")

    # --- questions

    def object(self):
        text = kubectl("get", "pod", self.name, "--ignore-not-found", "--output", "json")
        return json.loads(text) if text else None

    @staticmethod
    def statuses(pod):
        status = pod.get("status", {}) if pod else {}
        return status.get("initContainerStatuses", []) + status.get("containerStatuses", [])

    def state(self, name):
        return next((s for s in self.statuses(self.object()) if s["name"] == name), {})

    def codes(self, pod):
        found = {}
        for status in self.statuses(pod):
            for state in (status.get("state", {}), status.get("lastState", {})):
                if "terminated" in state and status["name"] not in found:
                    found[status["name"]] = state["terminated"]["exitCode"]
        return found

    def execute(self, *command, container="carpool"):
        return kubectl("exec", self.name, "--container", container, "--", *command)

    def stream(self, *command, container="carpool"):
        return subprocess.Popen(
            [KUBECTL, "--kubeconfig", KUBECONFIG, "--namespace", NAMESPACE, "exec", "--stdin", self.name,
             "--container", container, "--", *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def log(self, name):
        done = kubectl("logs", self.name, "--container", name, "--tail", "40", check=False)
        return done.stdout + done.stderr

    def get(self, path, port, method="GET", body=None):
        prefix = f"/api/v1/namespaces/{NAMESPACE}/pods/{self.name}:{port}/proxy"
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy_port, timeout=10)
        try:
            connection.request(method, prefix + path, body=body)
            answer = connection.getresponse()
            text = answer.read().decode()
            # The API server's own words, where it did not reach the pod.
            if answer.status >= 500 and '"kind":"Status"' in text.replace(" ", ""):
                return 0, text
            return answer.status, text
        except OSError as error:
            return 0, str(error)
        finally:
            connection.close()

    def memory(self, field):
        """Only what the sidecar itself exports is to be had from here."""
        return int(self.metrics()["process_resident_memory_bytes"]) if field == "VmRSS" else 0


class Postgresql(kubelet.Postgresql):
    name = "postgresql"

    def __init__(self):
        Pod.proxy_port = Pod.proxy_port or prepare()
        labels = {"app": self.name}
        restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
                      "runAsNonRoot": True, "runAsUser": 5432, "seccompProfile": {"type": "RuntimeDefault"}}
        kubectl("delete", "pod", self.name, "--ignore-not-found", "--grace-period=0", "--force")
        apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": self.name, "labels": labels},
               "spec": {"containers": [{"name": self.name, "image": image("carpool-e2e-postgresql:15"),
                                        "securityContext": restricted}]}},
              {"apiVersion": "v1", "kind": "Service", "metadata": {"name": self.name},
               "spec": {"selector": labels, "ports": [{"port": 5432}]}})
        self.address = kubectl("get", "service", self.name, "--output", "jsonpath={.spec.clusterIP}")
        if not until(self.answers):
            raise AssertionError(kubectl("describe", "pod", self.name))
        self.query(f"CREATE ROLE guestbook LOGIN PASSWORD '{self.password}'")
        self.query("CREATE DATABASE guestbook OWNER guestbook")

    def execute(self, *command, check=True):
        return kubectl("exec", self.name, "--", *command, check=check)

    def remove(self):
        kubectl("delete", "pod,service", self.name, "--ignore-not-found", "--wait=false")
