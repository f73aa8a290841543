"""`carpool inject` on random manifests, compared by PyYAML, which is no relative of what reads them in
the sidecar and knows merge keys: nothing is lost, and nothing is changed but what the sidecar needs.
A part of static.py.
"""

import copy
import json
import random
import unittest

import yaml

from render import CARPOOL, documents, must, pod_of, run

SEEDS = 60
# What readers of YAML stumble over.
PIECES = ["a", "Zz", "0", "12", " ", "\n", "\n\n", "\t", "- ", ": ", ":", " #", "'", '"', "\\", "{", "]", ",",
          "&x", "*x", "!t", "|", ">", "%", "true", "null", "---", "...", "<<", "\x85", "\u2028", "\u00e9",
          "\U0001f600", "on", "1e3", "0o7", "12:30:45"]
ADDED = {"carpool-config", "carpool-secrets"}


class Random:
    """Manifests; the same for the same seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def text(self):
        return "".join(self.random.choice(PIECES) for _ in range(self.random.randrange(6)))

    def value(self, depth=0):
        kind = self.random.randrange(6 if depth < 3 else 4)
        if kind == 4:
            return [self.value(depth + 1) for _ in range(self.random.randrange(4))]
        if kind == 5:
            return {self.text(): self.value(depth + 1) for _ in range(self.random.randrange(4))}
        return (self.text(), self.random.randrange(-5, 10 ** 6), self.random.random() < 0.5, None)[kind]

    def pod(self):
        containers = [{"name": f"c{i}", "image": self.text(), "env": [{"name": "A", "value": self.text()}],
                       "x": self.value()} for i in range(self.random.randrange(1, 4))]
        spec = {"containers": containers, "y": self.value()}
        if self.random.random() < 0.5:
            spec["initContainers"] = [{"name": "migrate", "command": [self.text(), self.text()]}]
        if self.random.random() < 0.5:
            spec["volumes"] = [{"name": "data", "emptyDir": {}}]
        pod = {"spec": spec}
        if self.random.random() < 0.7:
            pod["metadata"] = {"labels": {"app": self.text()}, "annotations": {"note": self.text()}}
        return pod

    def object(self):
        kind = self.random.choice(["Pod", "Deployment", "CronJob", "ConfigMap", "Widget"])
        name = {"name": f"n{self.random.randrange(1000)}"}
        if kind == "Pod":
            pod = self.pod()
            return {"kind": kind, **pod, "metadata": {**pod.get("metadata", {}), **name}}
        spec = {"template": self.pod(), "z": self.value()}
        if kind == "CronJob":
            spec = {"jobTemplate": {"spec": spec}}
        return {"kind": kind, "metadata": name, "spec": spec, "data": {self.text(): self.value()}}

    def stream(self):
        """(text, objects): YAML in any of its styles, or JSON."""
        objects = [self.object() for _ in range(self.random.randrange(1, 5))]
        if self.random.random() < 0.3:
            feed, indent = self.random.choice(["", "\n"]), self.random.choice([None, 2])
            return "".join(json.dumps(each, indent=indent) + feed for each in objects), objects
        if self.random.random() < 0.3:
            objects = [{"kind": "List", "items": objects}]
        if self.random.random() < 0.5:  # shared nodes, which are written as anchors and aliases
            shared = self.pod()["spec"]
            objects += [{"kind": "Pod", "metadata": {"name": f"s{i}"}, "spec": shared} for i in range(2)]
        text = yaml.safe_dump_all(objects, sort_keys=self.random.random() < 0.5,
                                  default_flow_style=self.random.choice([None, True, False]),
                                  explicit_start=True, width=self.random.choice([20, 80, 1000]))
        return text, objects


def pods(objects):
    for each in objects:
        if each["kind"] == "List":
            yield from pods(each["items"])
        elif each["kind"] in ("Pod", "Deployment", "CronJob"):
            yield pod_of(each)


def without_sidecar(objects):
    """The objects with what `carpool inject` adds taken away, by rules of our own."""
    objects = copy.deepcopy(objects)
    for pod in pods(objects):
        spec, metadata = pod["spec"], pod["metadata"]
        assert spec["initContainers"][0]["name"] == "carpool", spec["initContainers"]
        del spec["initContainers"][0]
        spec["volumes"] = [volume for volume in spec["volumes"] if volume["name"] not in ADDED]
        for key in ("initContainers", "volumes"):
            if not spec[key]:
                del spec[key]
        del metadata["labels"]["carpool/inject"], metadata["annotations"]["carpool/injected"]
        for key in ("labels", "annotations"):
            if not metadata[key]:
                del metadata[key]
        if not metadata:
            del pod["metadata"]
    return objects


def read(text):
    if text.lstrip().startswith("{"):
        decoder, objects, at = json.JSONDecoder(), [], 0
        try:
            while at < len(text.rstrip()):
                value, at = decoder.raw_decode(text, at + len(text[at:]) - len(text[at:].lstrip()))
                objects.append(value)
            return objects
        except ValueError:
            pass
    return documents(text)


class Injection(unittest.TestCase):
    maxDiff = None

    def test_nothing_is_lost_and_nothing_changed_but_for_the_sidecar(self):
        injected = misread = 0
        for seed in range(SEEDS):
            text, objects = Random(seed).stream()
            if read(text) != objects:  # PyYAML does not always read what it wrote
                misread += 1
                continue
            with self.subTest(seed=seed):
                out = must(CARPOOL, "inject", stdin=text)
                self.assertEqual(without_sidecar(read(out)), objects)
                self.assertEqual(must(CARPOOL, "inject", stdin=out), out)
                self.assertEqual(read(must(CARPOOL, "uninject", stdin=out)), objects)
                injected += len(list(pods(objects)))
        self.assertGreater(injected, SEEDS)
        self.assertLess(misread, SEEDS // 20)

    def test_merge_keys_bring_what_they_bring_to_kubectl(self):
        text = ("kind: Pod\nmetadata: {name: a}\nx: &base\n  volumes: [{name: d, emptyDir: {}}]\n  hostname: h\n"
                "y: &more\n  hostname: i\n  subdomain: s\n"
                "spec:\n  <<: [*base, *more]\n  containers: [{<<: {image: i, tty: true}, name: c}]\n")
        self.assertEqual(without_sidecar(documents(must(CARPOOL, "inject", stdin=text))), documents(text))

    def test_a_command_that_could_not_write_or_read_does_not_exit_with_0(self):
        pod = "kind: Pod\nspec: {containers: [{name: a}]}\n"
        for command in ("inject", "uninject", "config schema", "config reference", "completion bash", "version",
                        "--help", "config explain pool"):
            done = run("sh", "-c", f'"$0" {command} >/dev/full', CARPOOL, stdin=pod)
            self.assertEqual(done.returncode, 74, command)
            self.assertIn("standard output could not be written", done.stderr)
        for source in ("< /", "<&-"):
            done = run("sh", "-c", f'"$0" inject {source}', CARPOOL)
            self.assertEqual((done.returncode, done.stdout), (66, ""), source)


if __name__ == "__main__":
    unittest.main(verbosity=1)
