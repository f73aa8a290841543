"""What only a cluster has: the charts installed by helm, controllers, Services, the kubelet's own clock,
a node that is drained. E2E_KUBECONFIG names the cluster, E2E_REGISTRY where its images come from.

    workloads.py [-v] [NAME...]      as unittest
"""

import contextlib
import json
import pathlib
import re
import statistics
import subprocess
import time
import unittest

import yaml

import kubelet
import pods
import remote
import static
from remote import KUBECONFIG, NAMESPACE, image, kubectl, until

RELEASE = "shop"
APPLICATION = f"{RELEASE}-example"
CONFIG_MAP = f"{RELEASE}-carpool"
SELECTOR = f"app.kubernetes.io/instance={RELEASE}"
# An annotation makes the kubelet look at once; without one it looks at each pod about once a minute,
# and may find what it has cached for as long again.
HURRIED_SECONDS_MAX = 15
SECONDS_MAX = 150
EXAMPLE = image(pods.EXAMPLE.removeprefix("localhost/"))
VISITS = """CREATE TABLE IF NOT EXISTS visits (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL, at timestamptz NOT NULL DEFAULT now()); ALTER TABLE visits OWNER TO guestbook"""
# Visitors inside the cluster, who find the pods as everybody does: by the Service's address.
VISITORS = pathlib.Path(__file__).with_name("visitors.py").read_text()
RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True,
              "runAsUser": 10001, "readOnlyRootFilesystem": True,
              "seccompProfile": {"type": "RuntimeDefault"}}


def helm(*arguments):
    return static.must(static.BIN / "helm", *arguments, "--kubeconfig", KUBECONFIG, "--namespace",
                       NAMESPACE)


def get(*arguments):
    return json.loads(kubectl("get", *arguments, "--output", "json"))


def names(selector=SELECTOR):
    """Of the pods that are not on their way out."""
    return sorted(p["metadata"]["name"] for p in get("pods", "--selector", selector)["items"]
                  if "deletionTimestamp" not in p["metadata"])


def running(selector=SELECTOR):
    return [remote.Pod.of(name) for name in names(selector)]


def rolled_out(workload):
    kubectl("rollout", "status", workload, "--timeout=180s")


class OnCluster(unittest.TestCase):
    postgresql = None

    @classmethod
    def setUpClass(cls):
        for chart in ("carpool-injector", "example"):
            static.helm("dependency", "update", static.CHARTS / chart)
        cls.postgresql = remote.Postgresql()
        cls.addClassCleanup(cls.postgresql.remove)

    @classmethod
    def secret(cls, name):
        remote.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
                      "stringData": {"password": cls.postgresql.password}})
        cls.addClassCleanup(kubectl, "delete", "secret", name, "--ignore-not-found")

    @classmethod
    def settings(cls):
        """Of the example chart; the Service's address, so that a cluster without DNS does too."""
        return ["--set", f"carpool.config.server.host={cls.postgresql.address}",
                "--set", f"carpool.image.repository={image('carpool')}",
                "--set", f"image.repository={image('carpool-example')}"]

    @classmethod
    def install(cls, *settings):
        cls.secret(CONFIG_MAP)
        cls.addClassCleanup(helm, "uninstall", RELEASE, "--ignore-not-found", "--wait")
        helm("install", RELEASE, static.CHARTS / "example", *cls.settings(), "--wait", "--timeout", "180s",
             *[part for setting in settings for part in ("--set", setting)])

    @classmethod
    def linger(cls, seconds):
        """How long a pod that was told to leave still answers: longer than a busy node takes to hand
        its leaving on to everybody."""
        kubectl("set", "env", f"deployment/{APPLICATION}", f"LINGER={seconds}")
        rolled_out(f"deployment/{APPLICATION}")


class Visitors:
    """A pod that visits the Service as quickly as it can."""

    name = "visitors"

    def __init__(self, url):
        self.url = url

    def __enter__(self):
        kubectl("delete", "pod", self.name, "--ignore-not-found", "--grace-period=0", "--force")
        remote.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": self.name}, "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "containers": [{
                "name": self.name, "image": EXAMPLE, "securityContext": RESTRICTED,
                "command": ["/usr/bin/python3", "-u", "-c", VISITORS, self.url, "6"]}]}})
        self.run_for(10)
        return self

    def __exit__(self, *_):
        kubectl("delete", "pod", self.name, "--grace-period=0", "--force")

    def seen(self):
        lines = kubectl("logs", self.name, "--tail", "1", check=False).stdout.splitlines()
        return json.loads(lines[-1]) if lines else {"done": 0, "failures": []}

    def run_for(self, visits):
        goal = self.seen()["done"] + visits
        if not until(lambda: self.seen()["done"] >= goal):
            raise AssertionError(f"only {self.seen()} of {goal}")


class Installed(OnCluster):
    """The example chart as its users install it, with three pods."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.install("replicas=3")

    def upgrade(self, *settings):
        helm("upgrade", RELEASE, static.CHARTS / "example", "--reuse-values",
             *[part for setting in settings for part in ("--set", setting)])

    def test_kubectl_logs_shows_the_application(self):
        for name in names():
            said = kubectl("logs", name)
            self.assertEqual(said.splitlines()[0], "serving")
            self.assertNotIn("carpool", said)
            self.assertIn('"listening"', kubectl("logs", name, "--container", "carpool"))

    def test_the_sidecar_is_up_before_the_application(self):
        for pod in running():
            sidecar, application = pod.state("carpool"), pod.state("example")
            self.assertTrue(sidecar["started"])
            self.assertLessEqual(sidecar["state"]["running"]["startedAt"],
                                 application["state"]["running"]["startedAt"])
            self.assertEqual((sidecar["restartCount"], application["restartCount"]), (0, 0))

    def test_the_probes_of_the_kubelet_pass(self):
        """By its own count."""
        for pod in running():
            node = pod.object()["spec"]["nodeName"]

            def counted(pod=pod, node=node):
                text = kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/metrics/probes")
                return {match.group(1, 2): float(match[3]) for match in re.finditer(
                    rf'^prober_probe_total{{container="carpool",.*pod="{pod.name}",.*probe_type="(\w+)",'
                    r'result="(\w+)"} (\S+)', text, re.MULTILINE)}

            self.assertTrue(until(lambda: counted().get(("Liveness", "successful"), 0) > 1), counted())
            self.assertEqual(counted().get(("Startup", "successful")), 1)
            self.assertNotIn(("Liveness", "failed"), counted())
            self.assertNotIn("Readiness", {kind for kind, _ in counted()})

    def test_the_hooks_of_helm_test_pass(self):
        # `visit` asks the Service by its name, which takes a cluster with DNS.
        dns = kubectl("get", "service", "kube-dns", namespace="kube-system", check=False).returncode == 0
        helm("test", RELEASE, *([] if dns else ["--filter", f"!name={RELEASE}-visit"]))

    def test_an_upgrade_of_the_configuration_is_in_force_without_a_restart(self):
        before = {pod.name: pod.object()["metadata"]["uid"] for pod in running()}
        self.upgrade("carpool.config.pool.size=7")
        self.look()
        for pod in running():
            self.assertTrue(until(lambda pod=pod: self.size(pod) == 7), pod.json("/config"))
            self.assertEqual(pod.restarts(), (0, True))
        self.assertEqual({pod.name: pod.object()["metadata"]["uid"] for pod in running()}, before)

    def test_the_kubelet_takes_its_time_and_an_annotation_hurries_it(self):
        hurried = [delay for size in (3, 4, 5) for delay in self.delays(size, hurry=True)]
        alone = [delay for size in (6, 8) for delay in self.delays(size, hurry=False)]
        for what, found in (("annotated", hurried), ("left alone", alone)):
            print(f"apply to size in force, {what}: {min(found):.1f} s at least, "
                  f"{statistics.median(found):.1f} s median, {max(found):.1f} s at most, {len(found)} pods")
        self.assertLess(max(hurried), HURRIED_SECONDS_MAX)
        self.assertLess(max(alone), SECONDS_MAX)

    def delays(self, size, hurry):
        """Seconds from `kubectl apply` to the size in force, of each pod."""
        found = get("configmap", CONFIG_MAP)
        config = yaml.safe_load(found["data"]["carpool.yaml"])
        config["pool"]["size"] = size
        here = running()
        remote.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONFIG_MAP},
                      "data": {"carpool.yaml": yaml.safe_dump(config)}})
        began, delays = time.monotonic(), {}
        if hurry:
            self.look()
        while len(delays) < len(here):
            for pod in here:
                if pod.name not in delays and self.size(pod) == size:
                    delays[pod.name] = time.monotonic() - began
            self.assertLess(time.monotonic() - began, SECONDS_MAX + 30, f"size {size}: only {delays}")
            time.sleep(0.05)
        return list(delays.values())

    @staticmethod
    def look():
        kubectl("annotate", "pods", "--selector", SELECTOR, "--overwrite", f"carpool/look={time.time_ns()}")

    @staticmethod
    def size(pod):
        found = pod.json("/status")["pools"]
        return found[0]["size"] if found else None

    def test_rolling_restarts_under_load_fail_nothing(self):
        self.linger(8)
        service = get("service", APPLICATION)["spec"]["clusterIP"]
        with Visitors(f"http://{service}/visits") as visitors:
            for _ in range(pods.Rolling.rolls):
                before = names()
                kubectl("rollout", "restart", f"deployment/{APPLICATION}")
                rolled_out(f"deployment/{APPLICATION}")
                visitors.run_for(20)
                self.assertFalse(set(before) & set(names()))
            seen = visitors.seen()
        self.assertEqual(seen["failures"], [])
        print(f"{pods.Rolling.rolls} rolling restarts of 3 pods, {seen['done']} visits, none failed")


class Jobs(OnCluster):
    """Of the Job's own controller: complete, with no container left behind."""

    def test_a_job_completes_in_both_forms(self):
        self.postgresql.query(VISITS, "guestbook")
        self.secret(CONFIG_MAP)
        # A classic sidecar has to be told, as docs/kubernetes.md says.
        quit_by_hand = ("import urllib.request as r; "
                        "r.urlopen(r.Request('http://127.0.0.1:9931/quitquitquit', method='POST'))")
        commands = {"native": "python3 /app/app.py import 200",
                    "classic": f'python3 /app/app.py import 200 && python3 -c "{quit_by_hand}"'}
        for form, command in commands.items():
            template, config = pods.render(f"sidecar={form}", *self.settings()[1::2])
            for container in template["spec"]["containers"]:
                if container["name"] == "example":
                    container["command"] = ["/bin/sh", "-c", command]
                    del container["readinessProbe"]
            template["spec"]["restartPolicy"] = "Never"
            name = f"import-{form}"
            with self.subTest(form), self.applied(
                    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONFIG_MAP},
                     "data": {"carpool.yaml": config}},
                    {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
                     "spec": {"backoffLimit": 0, "template": template}}):
                kubectl("wait", "--for=condition=complete", "--timeout=120s", f"job/{name}")
                pod = get("pods", "--selector", f"job-name={name}")["items"][0]
                self.assertEqual(pod["status"]["phase"], "Succeeded")
                self.assertEqual(remote.Pod.of(pod["metadata"]["name"]).codes(pod),
                                 {"example": 0, "carpool": 0})

    @staticmethod
    @contextlib.contextmanager
    def applied(*objects):
        remote.apply(*objects)
        try:
            yield
        finally:
            for found in objects:
                kubectl("delete", found["kind"], found["metadata"]["name"], "--ignore-not-found")


class Injected(OnCluster):
    """The injector chart: workloads that know nothing of Carpool but a label reach their database through
    it, from their first init container on."""

    release, label = "carpool-e2e-injector", "orders"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.postgresql.query(VISITS, "guestbook")
        cls.secret(cls.label)
        remote.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": cls.label}, "data": {
            "carpool.yaml": yaml.safe_dump({
                "server": {"host": cls.postgresql.address, "user": "guestbook",
                           "passwordFile": "/etc/carpool-secrets/password"}, "pool": {"size": 2}})}})
        cls.addClassCleanup(kubectl, "delete", "configmap", cls.label)
        helm("install", cls.release, static.CHARTS / "carpool-injector",
             "--set", f"carpool.image.repository={image('carpool')}")
        cls.addClassCleanup(helm, "uninstall", cls.release)
        # Policies are compiled in the background.
        assert until(lambda: len(cls.dry_run()["spec"].get("initContainers", [])) == 1)

    @classmethod
    def dry_run(cls):
        return json.loads(kubectl(
            "create", "--dry-run=server", "--output", "json", "--filename", "-", stdin=yaml.safe_dump(
                {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "asked", **cls.labels("asked")},
                 "spec": cls.spec(["import", "1"], migrate=False)})))

    @classmethod
    def labels(cls, name):
        return {"labels": {"app": name, "carpool/inject": cls.label}}

    @staticmethod
    def container(name, arguments):
        url = "postgresql://guestbook@127.0.0.1:6432/guestbook?sslmode=disable"
        return {"name": name, "image": EXAMPLE, "args": arguments, "securityContext": RESTRICTED,
                "env": [{"name": "DATABASE_URL", "value": url}]}

    @classmethod
    def spec(cls, arguments, migrate=True, **more):
        init = {"initContainers": [cls.container("migrate", ["import", "1"])]} if migrate else {}
        return {"automountServiceAccountToken": False,
                "containers": [cls.container("web", arguments)], **init, **more}

    def create(self, kind, version, name, spec):
        remote.apply({"apiVersion": version, "kind": kind, "metadata": {"name": name, **self.labels(name)},
                      "spec": spec})
        self.addCleanup(kubectl, "delete", kind, name, "--ignore-not-found", "--wait=false")

    def assert_serving(self, name):
        found = get("pods", "--selector", f"app={name}")["items"]
        self.assertEqual(len(found), 1)
        self.assertEqual([c["name"] for c in found[0]["spec"]["initContainers"]], ["carpool", "migrate"])
        pod = remote.Pod.of(found[0]["metadata"]["name"]).serving()
        self.assertEqual(pod.get("/visits", 8080, "POST", name)[0], 200)
        self.assertGreater(pod.metrics()["carpool_clients"], 0)

    def test_the_hook_of_helm_test_passes(self):
        helm("test", self.release)

    def test_services(self):
        for kind in ("Deployment", "StatefulSet"):
            name = f"injected-{kind.lower()}"
            spec = {"selector": {"matchLabels": {"app": name}},
                    "template": {"metadata": self.labels(name), "spec": self.spec([])}}
            if kind == "StatefulSet":
                spec["serviceName"] = name
            with self.subTest(kind):
                self.create(kind, "apps/v1", name, spec)
                rolled_out(f"{kind.lower()}/{name}")
                self.assert_serving(name)

    def test_a_bare_pod(self):
        self.create("Pod", "v1", "injected-pod", self.spec([]))
        kubectl("wait", "--for=condition=Ready", "--timeout=120s", "pod/injected-pod")
        self.assert_serving("injected-pod")

    def test_a_label_that_names_no_configmap_leaves_the_pod_pending_with_an_event_that_says_so(self):
        name, missing = "injected-nowhere", "nobody-made-this"
        labels = {"labels": {"app": name, "carpool/inject": missing}}
        remote.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **labels},
                      "spec": self.spec([], migrate=False)})
        self.addCleanup(kubectl, "delete", "pod", name, "--ignore-not-found", "--wait=false")

        def said():
            events = get("events", "--field-selector", f"involvedObject.name={name}")["items"]
            return [event["message"] for event in events if event["reason"] == "FailedMount"]

        self.assertTrue(until(said), "no event says it")
        self.assertIn(f'configmap "{missing}" not found', said()[0])
        pod = remote.Pod.of(name)
        self.assertEqual(pod.object()["status"]["phase"], "Pending")
        self.assertFalse(pod.state("carpool").get("started"))
        # Once it is made, the pod goes on by itself.
        config = get("configmap", self.label)["data"]
        remote.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": missing}, "data": config})
        self.addCleanup(kubectl, "delete", "configmap", missing)
        self.assertTrue(until(lambda: pod.state("carpool").get("started")))

    def test_jobs_complete(self):
        for kind in ("Job", "CronJob"):
            name = f"injected-{kind.lower()}"
            spec = {"template": {"metadata": self.labels(name),
                                 "spec": self.spec(["import", "20"], restartPolicy="Never")}}
            with self.subTest(kind):
                if kind == "CronJob":  # run at once, without waiting for the minute to turn
                    self.create(kind, "batch/v1", name, {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": spec}})
                    kubectl("create", "job", name, f"--from=cronjob/{name}")
                else:
                    self.create(kind, "batch/v1", name, spec)
                kubectl("wait", "--for=condition=complete", "--timeout=120s", f"job/{name}")
                pod = get("pods", "--selector", f"app={name}")["items"][0]
                self.assertEqual(remote.Pod.of(pod["metadata"]["name"]).codes(pod),
                                 {"web": 0, "carpool": 0, "migrate": 0})


class Drained(OnCluster):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.install("replicas=2")
        cls.linger(8)

    def test_a_node_that_is_drained_fails_no_visit(self):
        here = running()
        node = here[0].object()["spec"]["nodeName"]
        self.assertEqual({pod.object()["spec"]["nodeName"] for pod in here}, {node})
        for pod in here:
            pod.hold()
        try:
            with kubelet.Load(here) as load:
                load.run_for(100)
                drain = subprocess.Popen(
                    [remote.KUBECTL, "--kubeconfig", KUBECONFIG, "drain", node, "--pod-selector", SELECTOR,
                     "--timeout=120s"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                # Those that come instead of them wait for a node.
                self.assertTrue(until(lambda: not {pod.name for pod in here} & set(names())),
                                "nobody was told to leave")
                load.run_for(20)  # they answer on
                load.leaving.set()
            ends = {pod.name: pod.ends() for pod in here}
            said = drain.communicate(timeout=150)[0]
            self.assertEqual(drain.returncode, 0, said)
            self.assertEqual(load.failures, [])
        finally:
            for pod in here:
                pod.keep(None)
            kubectl("uncordon", node)
        for pod in here:
            codes = {name: end["exitCode"] for name, end in ends[pod.name].items()}
            self.assertEqual(codes, {"example": 0, "carpool": 0}, pod.name)
            self.assertLessEqual(ends[pod.name]["example"]["finishedAt"],
                                 ends[pod.name]["carpool"]["finishedAt"])
        rolled_out(f"deployment/{APPLICATION}")
        self.assertEqual(running()[0].serving().get("/visits", 8080, "POST", "back")[0], 200)
        print(f"drained under load, {load.done} visits, none failed")


if __name__ == "__main__":
    unittest.main(verbosity=2)
