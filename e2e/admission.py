"""What an API server says of charts, manifests and policies: it needs no node, so `./dev cluster up
--control-plane` is enough. E2E_KUBECONFIG names the cluster; only namespaces of the test's own, the
injector chart and the Prometheus operator's definitions are touched.

    admission.py [-v] [NAME...]      as unittest
"""

import json
import pathlib
import re
import subprocess
import unittest

import yaml

import kubelet
import static
import remote
from remote import KUBECONFIG

SPACE, OPTED_OUT = "carpool-admission", "carpool-admission-out"
# The version whose definitions of PodMonitor and PrometheusRule are asked.
OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True,
              "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}


def kubectl(*arguments, namespace=SPACE, **more):
    return remote.kubectl(*arguments, namespace=namespace, **more)


def helm(*arguments):
    return static.must(static.BIN / "helm", *arguments, "--kubeconfig", KUBECONFIG, "--namespace", SPACE)


def until(question):
    return kubelet.until(question, 60, 0.2)


def setUpModule():
    remote.make_namespace(SPACE, {"pod-security.kubernetes.io/enforce": "restricted"})
    remote.make_namespace(OPTED_OUT, {"carpool/injection": "disabled"})
    for chart in ("carpool-injector", "example"):
        static.helm("dependency", "update", static.CHARTS / chart)


def tearDownModule():
    kubectl("delete", "namespace", SPACE, OPTED_OUT, "--wait=false", check=False)


def create(pod, namespace=SPACE, dry=True):
    """The pod as the API server would store it, or its refusal."""
    done = kubectl("create", "--filename", "-", "--output", "json", "--validate=strict",
                   *(["--dry-run=server"] if dry else []), namespace=namespace, check=False,
                   stdin=yaml.safe_dump(pod))
    return (json.loads(done.stdout) if done.returncode == 0 else None), done.stderr


def pod(label="carpool", name="web", **spec):
    labels = {} if label is None else {"carpool/inject": label}
    container = {"name": "web", "image": "web:1", "securityContext": RESTRICTED}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
            "spec": {"containers": [container], **spec}}


def names(found):
    return [container["name"] for container in found["spec"].get("initContainers", [])]


class Objects(unittest.TestCase):
    """Server-side validation, of the strict kind that refuses a field it does not know."""

    def dry_run(self, text):
        kubectl("apply", "--dry-run=server", "--validate=strict", "--server-side", "--filename", "-",
                stdin=text)

    def test_every_rendered_object_is_taken(self):
        for name, text in static.rendered().items():
            if name == "injector-1.34":  # for servers before 1.36, by its beta version
                continue
            # Golden files are rendered for a namespace `shop`; here it is ours.
            found = static.documents(text)
            for document in found:
                document["metadata"].pop("namespace", None)
            with self.subTest(name):
                self.dry_run(yaml.safe_dump_all(found))

    def test_no_rendered_pod_breaks_pod_security_restricted(self):
        for name, text in static.rendered().items():
            for document in static.documents(text):
                if document["kind"] in ("Deployment", "StatefulSet", "CronJob"):
                    template = static.pod_of(document)
                    template["spec"].setdefault("restartPolicy", "Always")
                    with self.subTest(form=name, kind=document["kind"]):
                        stored, said = create({"apiVersion": "v1", "kind": "Pod", "spec": template["spec"],
                                               "metadata": {**template["metadata"], "name": "restricted"}})
                        self.assertIsNotNone(stored, said)

    def test_the_monitoring_objects_are_what_the_operator_defines(self):
        answer = subprocess.run([static.BIN / "go", "mod", "download", "-json", OPERATOR], check=True,
                                stdout=subprocess.PIPE, cwd="/")
        folder = pathlib.Path(json.loads(answer.stdout)["Dir"]) / "example" / "prometheus-operator-crd"
        for kind in ("podmonitors", "prometheusrules"):
            kubectl("apply", "--server-side", "--filename", folder / f"monitoring.coreos.com_{kind}.yaml")
            kubectl("wait", "--for=condition=Established", "--timeout=60s",
                    f"crd/{kind}.monitoring.coreos.com")
        found = static.documents(static.must(static.BIN / "kubectl", "kustomize",
                                             static.MANIFESTS / "monitoring"))
        for document in found:
            document["metadata"].pop("namespace", None)
        self.assertTrue(until(lambda: kubectl("get", "podmonitors,prometheusrules", check=False)
                              .returncode == 0))
        self.dry_run(yaml.safe_dump_all(found))

    def test_a_field_that_nobody_knows_is_refused(self):
        wrong = pod(label=None)
        wrong["spec"]["containers"][0]["restartPolice"] = "Always"
        stored, said = create(wrong)
        self.assertIsNone(stored)
        self.assertIn('unknown field "spec.containers[0].restartPolice"', said)

    def test_the_example_installs_and_a_change_of_the_pool_leaves_the_pods_alone(self):
        chart = static.CHARTS / "example"
        helm("install", "shop", chart)
        try:
            before = kubectl("get", "deployment", "shop-example", "--output", "jsonpath={.metadata.generation}")
            helm("upgrade", "shop", chart, "--set", "carpool.config.pool.size=9")
            after = kubectl("get", "deployment", "shop-example", "--output", "jsonpath={.metadata.generation}")
            self.assertEqual(after, before, "a new pool size rolls the pods")
            config = kubectl("get", "configmap", "--output", "yaml")
            self.assertRegex(config, r"size: 9\b")
            helm("upgrade", "shop", chart, "--set", "carpool.config.listen.port=6433")
            self.assertNotEqual(kubectl("get", "deployment", "shop-example", "--output",
                                        "jsonpath={.metadata.generation}"), before,
                                "what needs a restart rolls the pods")
        finally:
            helm("uninstall", "shop")


class Injector(unittest.TestCase):
    """The policies at work, in the API server that enforces them."""

    release = "carpool-admission-injector"

    @classmethod
    def setUpClass(cls):
        helm("install", cls.release, static.CHARTS / "carpool-injector")
        cls.addClassCleanup(helm, "uninstall", cls.release)
        # Policies are compiled in the background; both are in force when these are seen.
        assert until(lambda: names(create(pod())[0] or {"spec": {}})), "the policy never came into force"
        assert until(lambda: create(pod(label=""))[0] is None)

    def test_a_bare_pod_gets_the_sidecar_and_its_volumes(self):
        stored, said = create(pod())
        self.assertIsNotNone(stored, said)
        self.assertEqual(names(stored), ["carpool"])
        self.assertEqual(stored["spec"]["initContainers"][0]["restartPolicy"], "Always")
        volumes = {volume["name"]: volume for volume in stored["spec"]["volumes"]}
        self.assertEqual(volumes["carpool-config"]["configMap"]["name"], "carpool")
        self.assertIn("carpool-secrets", volumes)

    def test_it_comes_before_the_init_containers_that_are_there(self):
        migrate = {"name": "migrate", "image": "web:1", "securityContext": RESTRICTED}
        stored, said = create(pod(initContainers=[migrate]))
        self.assertIsNotNone(stored, said)
        self.assertEqual(names(stored), ["carpool", "migrate"])

    def test_a_pod_that_carries_it_is_left_alone(self):
        mine = {"name": "carpool", "image": "mine:1", "restartPolicy": "Always",
                "securityContext": RESTRICTED}
        stored, said = create(pod(initContainers=[mine]))
        self.assertIsNotNone(stored, said)
        self.assertEqual([c["image"] for c in stored["spec"]["initContainers"]], ["mine:1"])

    def test_unlabelled_pods_and_namespaces_that_opted_out_are_left_alone(self):
        self.assertEqual(names(create(pod(label=None))[0]), [])
        self.assertEqual(names(create(pod(), OPTED_OUT)[0]), [])

    def test_a_port_of_the_sidecar_is_refused_with_the_reason(self):
        wrong = pod()
        wrong["spec"]["containers"][0]["ports"] = [{"containerPort": 9930}]
        stored, said = create(wrong)
        self.assertIsNone(stored)
        self.assertIn("container web uses a port of the Carpool sidecar", said)

    def test_every_kind_of_workload_gets_it(self):
        template = {"metadata": {"labels": {"app": "web", "carpool/inject": "carpool"}},
                    "spec": pod()["spec"]}
        once = {**template, "spec": {**template["spec"], "restartPolicy": "Never"}}
        rolled = {"selector": {"matchLabels": {"app": "web"}}, "template": template}
        workloads = [
            ("apps/v1", "Deployment", rolled),
            ("apps/v1", "StatefulSet", {**rolled, "serviceName": "web"}),
            ("batch/v1", "Job", {"template": once}),
            ("batch/v1", "CronJob", {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": once}}}),
        ]
        for version, kind, spec in workloads:
            name = f"of-{kind.lower()}"
            with self.subTest(kind):
                kubectl("create", "--validate=strict", "--filename", "-", stdin=yaml.safe_dump(
                    {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}))
                if kind == "CronJob":  # without waiting for the minute to turn
                    kubectl("create", "job", name, f"--from=cronjob/{name}")
                self.assertTrue(until(lambda name=name: self.pods(name)), "no pod was made")
                for found in self.pods(name):
                    self.assertEqual(names(found), ["carpool"])
                kubectl("delete", kind, name, "--wait=false")

    @staticmethod
    def pods(prefix):
        found = json.loads(kubectl("get", "pods", "--output", "json"))["items"]
        return [p for p in found if p["metadata"]["name"].startswith(prefix + "-")]

    def test_what_slipped_through_is_refused(self):
        binding = f"{self.release}-inject.carpool"
        kept = kubectl("get", "mutatingadmissionpolicybinding", binding, "--output", "json")
        kubectl("delete", "mutatingadmissionpolicybinding", binding)
        try:
            self.assertTrue(until(lambda: create(pod())[0] is None), "taken without its sidecar")
            self.assertIn("no container named carpool was added", create(pod())[1])
        finally:
            again = json.loads(kept)
            for key in ("uid", "resourceVersion", "creationTimestamp", "generation"):
                again["metadata"].pop(key, None)
            kubectl("create", "--filename", "-", stdin=json.dumps(again))
            self.assertTrue(until(lambda: create(pod())[0] is not None))


class Removal(unittest.TestCase):
    def test_removing_the_injector_leaves_nothing(self):
        release = "carpool-admission-removed"
        helm("install", release, static.CHARTS / "carpool-injector")
        self.assertTrue(until(lambda: names(create(pod())[0] or {"spec": {}})))
        helm("uninstall", release)
        kinds = ",".join(f"{kind}admissionpolic{end}" for kind in ("mutating", "validating")
                         for end in ("ies", "ybindings"))
        left = kubectl("get", kinds, "--output", "name")
        self.assertFalse(re.search(release, left), left)
        self.assertTrue(until(lambda: names(create(pod())[0] or {"spec": {}}) == []))


if __name__ == "__main__":
    unittest.main(verbosity=2)
