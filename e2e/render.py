"""What static.py, and the tests against an API server, look at: charts, components and the filter,
rendered by the real tools of e2e/.work/bin and the binary (CARPOOL, else build/carpool).
"""

import os
import pathlib
import subprocess

import yaml

E2E = pathlib.Path(__file__).resolve().parent
ROOT = E2E.parent
BIN = E2E / ".work" / "bin"
CHARTS = ROOT / "charts"
MANIFESTS = ROOT / "manifests"
CARPOOL = os.environ.get("CARPOOL", str(ROOT / "build" / "carpool"))


def run(*command, stdin=None):
    return subprocess.run([str(part) for part in command], input=stdin, text=True, cwd=ROOT,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, timeout=120)


def must(*command, stdin=None):
    done = run(*command, stdin=stdin)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def helm(*arguments):
    return must(BIN / "helm", *arguments)


def template(chart, *arguments, version="1.36"):
    return helm("template", "shop", CHARTS / chart, "--namespace", "shop", "--kube-version", version,
                *arguments)


def documents(text):
    return [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document]


def of_kind(text, kind):
    return [document for document in documents(text) if document["kind"] == kind]


def pod_of(document):
    """The node that holds a pod's metadata and spec."""
    if document["kind"] == "Pod":
        return document
    if document["kind"] == "CronJob":
        return document["spec"]["jobTemplate"]["spec"]["template"]
    return document["spec"]["template"]


def sidecar_of(document):
    spec = pod_of(document)["spec"]
    found = [container for key in ("initContainers", "containers")
             for container in spec.get(key, []) if container["name"] == "carpool"]
    assert len(found) == 1, f"{len(found)} sidecars in {document['kind']}"
    return found[0]


def volumes_of(document):
    return sorted((volume for volume in pod_of(document)["spec"]["volumes"]
                   if volume["name"].startswith("carpool-")), key=lambda volume: volume["name"])


# The pod that every form of injection is tried on.
POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {carpool/inject: carpool}
spec:
  containers:
    - name: web
      image: web:1
"""
APPLICATION = (MANIFESTS / "example" / "application" / "guestbook.yaml").read_text()


def rendered():
    """Everything that the project would hand to a cluster: name -> text."""
    production = ("--values", CHARTS / "example" / "values-production.yaml")
    return {
        "library-native": template("example"),
        "library-classic": template("example", "--set", "sidecar=classic"),
        "library-socket": template("example", *production),
        "library-readiness": template("example", "--set", "carpool.probes.readiness.enabled=true"),
        "injector-1.36": template("carpool-injector"),
        "injector-1.34": template("carpool-injector", version="1.34"),
        "kustomize": must(BIN / "kubectl", "kustomize", MANIFESTS / "example"),
        "filter-native": must(CARPOOL, "inject", stdin=APPLICATION),
        "filter-classic": must(CARPOOL, "inject", "--classic", stdin=APPLICATION),
        "network": must(BIN / "kubectl", "kustomize", MANIFESTS / "network"),
    }
