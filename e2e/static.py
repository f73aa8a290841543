"""What can be said of charts, manifests and injection before anything runs. Needs e2e/.work/bin
(e2e/tools) and the binary (CARPOOL, else build/carpool).

    static.py [-v] [NAME...]     as unittest
    static.py --update           write e2e/golden anew
"""

import copy
import json
import pathlib
import re
import sys
import tempfile
import unittest

import yaml

import schemas
import injection
from render import (APPLICATION, BIN, CARPOOL, CHARTS, E2E, MANIFESTS, POD, ROOT, documents, helm, must,
                    of_kind, pod_of, rendered, run, sidecar_of, template, volumes_of)

GOLDEN = E2E / "golden"
Injection = injection.Injection  # where unittest finds it
UPDATE = False


class Recipe(unittest.TestCase):
    """Of the image; building it takes minutes and is a part of `e2e pods`."""

    def test_what_the_dockerfile_copies_is_enough_to_build_from(self):
        text = (ROOT / "Dockerfile").read_text()
        copied = re.findall(r"^COPY (?!--)(\S+) \S+$", text, re.MULTILINE)
        options = [option for option in re.findall(r"-D[A-Z_]+=\S+", text) if "$" not in option]
        ignored = (ROOT / ".dockerignore").read_text().splitlines()
        self.assertLessEqual({"CMakeLists.txt", "sidecar"}, set(copied))
        with tempfile.TemporaryDirectory() as folder:
            for name in copied:
                self.assertIn("!" + name, ignored)
                target = pathlib.Path(folder) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(ROOT / name)
            must("cmake", "-S", folder, "-B", f"{folder}/build", "-G", "Ninja", "--log-level=WARNING", *options)


class Charts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        for chart in ("carpool-injector", "example"):
            helm("dependency", "update", CHARTS / chart)

    def test_every_chart_lints_with_every_preset(self):
        helm("lint", "--strict", CHARTS / "carpool")
        helm("lint", "--strict", CHARTS / "carpool-injector", "--kube-version", "1.36")
        helm("lint", "--strict", CHARTS / "example")
        for preset in ("development", "production"):
            helm("lint", "--strict", CHARTS / "example", "--values",
                 CHARTS / "example" / f"values-{preset}.yaml")

    def test_lint_rejects_a_wrong_value_with_the_path_of_its_key(self):
        for setting, said in (
                ("carpool.config.pool.size=0", "/config/pool/size"),
                ("carpool.config.pool.size=-1", "/config/pool/size"),
                ("carpool.config.pool.size=many", "/config/pool/size"),
                ("carpool.config.pool.acquireTimeout=5 parsecs", "/config/pool/acquireTimeout"),
                ("carpool.config.pool.sise=3", "'sise' not allowed"),
                ("carpool.config.pool.mode=sometimes", "/config/pool/mode"),
                ("carpool.config.listen.port=70000", "/config/listen/port"),
                ("carpool.config.databases[0].nam=x", "/config/databases/0"),
                ("carpool.config.nonsense.a=b", "'nonsense' not allowed"),
                ("carpool.probes.readiness.enabled=perhaps", "/probes/readiness/enabled"),
                ("carpool.image.digest=latest", "/image/digest"),
                ("carpool.sockets=true", "'sockets' not allowed")):
            with self.subTest(setting):
                done = run(BIN / "helm", "lint", CHARTS / "example", "--set", setting)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(said, done.stdout + done.stderr)

    def test_helm_and_the_sidecar_refuse_the_same_pairs_of_keys(self):
        # In the bare chart, since the example's own values would be merged in. What needs a comparison
        # is beyond a schema, and helm lint passes over what a template fails on: `template` says it.
        chart, values = self.bare(), E2E / ".work" / "values.yaml"
        server = {"host": "postgresql"}
        certificate = {"mode": "require", "certFile": "/etc/carpool-secrets/tls.crt"}
        for command, said, key, config in (
                ("lint", "/config/listen/tls", "listen.tls", {"listen": {"tls": certificate}}),
                ("lint", "'auth'", "listen.address", {"listen": {"address": "0.0.0.0"}}),
                ("lint", "/config/auth", "auth.mode", {"auth": {"mode": "scram-sha-256"}}),
                ("template", "config.pool.minIdle (3) is more than size (2)", "pool.minIdle",
                 {"pool": {"size": 2, "minIdle": 3}}),
                ("template", "config.pool.minIdle (21) is more than size (20)", "pool.minIdle",
                 {"pool": {"minIdle": 21}}),
                ("template", "config.databases[0].pool.minIdle (5) is more than size (4)",
                 "databases[0].pool.size",
                 {"pool": {"minIdle": 5}, "databases": [{"name": "*", "pool": {"size": 4}}]}),
                ("template", "config.drain.minDelay (20s) is longer", "drain.minDelay",
                 {"drain": {"minDelay": "20s", "timeout": "10s"}}),
                ("template", "config.server names no server", "server", {"server": {}})):
            with self.subTest(json.dumps(config)):
                config = {"server": server, **config}
                values.write_text(json.dumps({"carpool": {"config": config}}))
                done = run(BIN / "helm", command, chart, "--values", values)
                self.assertNotEqual(done.returncode, 0, done.stdout)
                self.assertIn(said, done.stdout + done.stderr)
                file = E2E / ".work" / "pair.yaml"
                file.write_text(json.dumps(config))
                checked = run(CARPOOL, "check", file)
                self.assertEqual(checked.returncode, 78, checked.stdout)
                self.assertIn(key, checked.stdout + checked.stderr)
        values.write_text(json.dumps({"carpool": {"config": {
            "server": server, "pool": {"size": "${SIZE}", "minIdle": 3}}}}))
        helm("template", chart, "--values", values)

    def bare(self):
        """A chart that is nothing but the library's ConfigMap."""
        folder = E2E / ".work" / "bare"
        (folder / "templates").mkdir(parents=True, exist_ok=True)
        (folder / "Chart.yaml").write_text(yaml.safe_dump({
            "apiVersion": "v2", "name": "bare", "version": "0.1.0", "dependencies": [
                {"name": "carpool", "version": "0.1.0", "repository": "file://../../../charts/carpool"}]}))
        (folder / "values.yaml").write_text("")
        (folder / "templates" / "carpool.yaml").write_text('{{- include "carpool.configMap" . }}\n')
        helm("dependency", "update", folder)
        return folder

    def test_a_port_of_the_application_or_a_short_grace_period_fails_at_render_time(self):
        for settings, said in (
                (["port=6432"], "port 6432 is used by the application and by carpool.config.listen.port"),
                (["port=9930"], "carpool.config.admin.port"),
                (["port=7000", "carpool.config.listen.port=7000"], "carpool.config.listen.port"),
                (["carpool.config.admin.port=6432"], "must differ"),
                (["carpool.config.drain.timeout=1m30s"], "raise it to 92"),
                (["carpool.config.drain.minDelay=5s"], "raise it to 32")):
            with self.subTest(settings):
                arguments = [part for setting in settings for part in ("--set", setting)]
                done = run(BIN / "helm", "template", "shop", CHARTS / "example", *arguments)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(said, done.stderr)
        template("example", "--set", "carpool.config.drain.timeout=1m30s", "--set",
                 "carpool.terminationGracePeriodSeconds=92")

    def test_a_change_of_the_configuration_leaves_the_pod_template_alone(self):
        def pod(*settings):
            arguments = [part for setting in settings for part in ("--set", setting)]
            return pod_of(of_kind(template("example", *arguments), "Deployment")[0])

        before = pod()
        self.assertEqual(before, pod("carpool.config.pool.size=50",
                                     "carpool.config.log.level=debug",
                                     "carpool.config.drain.timeout=20s"))
        key = "checksum/carpool-restart"
        for setting in ("carpool.config.listen.port=7000", "carpool.config.listen.address=127.0.0.2",
                        "carpool.config.admin.controlPort=9940"):
            self.assertNotEqual(before["metadata"]["annotations"][key],
                                pod(setting)["metadata"]["annotations"][key], setting)

    def test_the_checksum_covers_what_needs_a_restart_and_where_clients_connect(self):
        """Where clients connect moves live; the application learns it from its environment, at its start."""
        page = must(CARPOOL, "config", "reference")
        said = set(re.findall(r"`([a-zA-Z.]+)`[^\n]*\brestart\b", page))
        names = (CHARTS / "carpool" / "templates" / "_names.tpl").read_text()
        covered = {f"{section}.{key}"
                   for section, keys in re.findall(r'\(pick \$(\w+)((?: "\w+")+)\)', names)
                   for key in re.findall(r'"(\w+)"', keys)}
        keys = {key for key in said if "." in key}
        self.assertTrue(keys)
        where_clients_connect = {"listen.address", "listen.port", "listen.unixSocketDir"}
        self.assertFalse(keys & where_clients_connect)
        self.assertEqual(keys | where_clients_connect, covered)

    def test_the_memory_limit_follows_the_limits_of_the_configuration(self):
        def limit(config):
            text = template("example", "--set-json", f"carpool.config={json.dumps(config)}")
            return sidecar_of(of_kind(text, "Deployment")[0])["resources"]["limits"]["memory"]

        self.assertEqual(limit({"pool": {"size": 20}}), "64Mi")
        self.assertEqual(limit({"listen": {"clientsMax": 5000}, "pool": {"size": 20}}), "128Mi")
        self.assertEqual(limit({"listen": {"clientsMax": 1000, "tls": {
            "mode": "require", "certFile": "/etc/carpool-secrets/tls.crt",
            "keyFile": "/etc/carpool-secrets/tls.key"}}}), "128Mi")
        self.assertEqual(limit({"databases": [{"name": "a", "pool": {"size": 5000}}, {"name": "*"}]}),
                         "512Mi")

    def test_the_notes_say_how_to_resize(self):
        for chart, said in (("example", "--set carpool.config.pool.size=40"),
                            ("carpool-injector", "kubectl edit configmap my-pool")):
            notes = helm("install", "shop", CHARTS / chart, "--dry-run=client", "--namespace", "shop")
            self.assertIn(said, notes.split("NOTES:")[1])

    def test_helm_test_has_hooks(self):
        hooks = [d for d in documents(template("example"))
                 if d["metadata"].get("annotations", {}).get("helm.sh/hook") == "test"]
        self.assertEqual([hook["spec"]["containers"][0]["args"][0] for hook in hooks],
                         ["check", "visit"])

    def test_the_hook_of_the_injector_asks_for_a_sidecar_and_brings_a_configuration_that_loads(self):
        config, pod = [document for document in documents(template("carpool-injector"))
                       if document["metadata"].get("annotations", {}).get("helm.sh/hook") == "test"]
        self.assertEqual(pod["metadata"]["labels"], {"carpool/inject": config["metadata"]["name"]})
        self.assertEqual(pod["spec"]["containers"][0]["args"][0], "wait")
        file = E2E / ".work" / "hook.yaml"
        file.write_text(config["data"]["carpool.yaml"])
        must(CARPOOL, "check", file)

    def test_a_label_that_names_no_configmap_leaves_the_pod_pending(self):
        # The kubelet waits for a volume that is not optional, and says which in an event.
        for document in documents(template("example")):
            if document["kind"] in ("Deployment", "Pod"):
                for volume in pod_of(document)["spec"].get("volumes", []):
                    if "configMap" in volume:
                        self.assertFalse(volume["configMap"].get("optional", False))

    def test_large_numbers_reach_the_file_as_they_are(self):
        text = template("example", "--set", "carpool.config.pool.waitersMax=1000000")
        self.assertIn("waitersMax: 1000000\n", of_kind(text, "ConfigMap")[0]["data"]["carpool.yaml"])

    def test_what_the_chart_renders_is_what_the_sidecar_loads(self):
        for preset in (None, "development", "production"):
            values = ["--values", CHARTS / "example" / f"values-{preset}.yaml"] if preset else []
            text = of_kind(template("example", *values), "ConfigMap")[0]["data"]["carpool.yaml"]
            file = E2E / ".work" / "rendered.yaml"
            file.write_text(text)
            must(CARPOOL, "check", file)

    def test_what_is_generated_is_up_to_date(self):
        must(CHARTS / "update-readme", "--check")
        must(CHARTS / "update-schema", "--check", "-",
             stdin=must(CARPOOL, "config", "schema"))
        must("env", f"HELM={BIN / 'helm'}", MANIFESTS / "update", "--check")

    def test_artifact_hub_finds_what_it_shows(self):
        for chart in ("carpool", "carpool-injector", "example"):
            meta = yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())
            notes = meta["annotations"]
            self.assertEqual((notes["artifacthub.io/category"], notes["artifacthub.io/license"]),
                             ("database", "Apache-2.0"), chart)
            self.assertTrue(meta["keywords"], chart)
            for change in yaml.safe_load(notes["artifacthub.io/changes"]):
                self.assertIn(change["kind"], ("added", "changed", "deprecated", "removed", "fixed",
                                               "security"), chart)
                self.assertTrue(change["description"], chart)

    def test_one_version_everywhere(self):
        version = re.search(r"project\(carpool VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text())[1]
        for chart in ("carpool", "carpool-injector", "example"):
            meta = yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())
            self.assertEqual((meta["version"], meta["appVersion"]), (version, version), chart)
        values = yaml.safe_load((CHARTS / "carpool" / "values.yaml").read_text())
        self.assertEqual(values["image"]["tag"], version)
        self.assertIn(f"ARG VERSION={version}\n", (ROOT / "Dockerfile").read_text())


class Forms(unittest.TestCase):
    """The four ways of adding the sidecar: library chart, admission policy, kustomize, filter."""

    library = ("--set", "carpool.config=null", "--set", "carpool.existingConfigMap=carpool")

    @classmethod
    def setUpClass(cls):
        for chart in ("carpool-injector", "example"):
            helm("dependency", "update", CHARTS / chart)
        cls.policies = E2E / ".work" / "policies.yaml"
        cls.policies.write_text(template("carpool-injector"))

    def by_library(self, form="native"):
        return of_kind(template("example", *self.library, "--set", f"sidecar={form}"), "Deployment")[0]

    def by_policy(self, pod=POD):
        return json.loads(must(BIN / "rules", "admit", self.policies, stdin=pod))

    def by_kustomize(self):
        return documents(must(BIN / "kubectl", "kustomize", MANIFESTS / "example"))

    def by_filter(self, text=POD, *arguments):
        return documents(must(CARPOOL, "inject", *arguments, stdin=text))

    def test_all_give_the_same_container_and_volumes(self):
        expected = self.by_library()
        defaulted = self.with_defaults(expected)
        for name, document in (
                ("kustomize Deployment", [d for d in self.by_kustomize() if d["kind"] == "Deployment"][0]),
                ("kustomize StatefulSet", [d for d in self.by_kustomize() if d["kind"] == "StatefulSet"][0]),
                ("kustomize CronJob", [d for d in self.by_kustomize() if d["kind"] == "CronJob"][0]),
                ("filter Pod", self.by_filter()[0]),
                ("filter Deployment", self.by_filter(APPLICATION)[0]),
                ("filter CronJob", self.by_filter(APPLICATION)[2])):
            with self.subTest(name):
                self.assertEqual(sidecar_of(document), sidecar_of(expected))
                self.assertEqual(volumes_of(document), volumes_of(expected))
                self.assertEqual(pod_of(document)["metadata"]["labels"]["carpool/inject"], "carpool")
                self.assertEqual(pod_of(document)["spec"]["initContainers"][0]["name"], "carpool")
        # The API server has filled in its defaults; so it compares with a pod that it saw too.
        injected = self.by_policy()
        self.assertEqual(sidecar_of(injected), sidecar_of(defaulted))
        self.assertEqual(volumes_of(injected), volumes_of(defaulted))

    def with_defaults(self, document):
        pod = copy.deepcopy(pod_of(document))
        pod.update(apiVersion="v1", kind="Pod")
        pod["metadata"].update(name="web")
        return self.by_policy(yaml.safe_dump(pod))

    def test_the_classic_form_differs_in_its_life_only(self):
        classic = sidecar_of(self.by_library("classic"))
        self.assertEqual(classic, sidecar_of(self.by_filter(POD, "--classic")[0]))
        native = sidecar_of(self.by_library())
        self.assertEqual(native.pop("restartPolicy"), "Always")
        self.assertEqual(classic.pop("lifecycle")["postStart"]["exec"]["command"][:2], ["/carpool", "wait"])
        self.assertEqual(classic, native)

    def test_probes_and_life_are_as_the_page_on_kubernetes_says(self):
        for form in ("native", "classic"):
            document = self.by_library(form)
            sidecar, spec = sidecar_of(document), pod_of(document)["spec"]
            with self.subTest(form):
                self.assertEqual([sidecar[key]["httpGet"]["path"] for key in ("startupProbe", "livenessProbe")],
                                 ["/startupz", "/livez"])
                self.assertNotIn("readinessProbe", sidecar)
                self.assertNotIn("preStop", sidecar.get("lifecycle", {}))
                self.assertEqual(sidecar["terminationMessagePolicy"], "FallbackToLogsOnError")
                self.assertEqual(sidecar["resources"]["requests"], {"cpu": "10m", "memory": "16Mi"})
                self.assertNotIn("cpu", sidecar["resources"]["limits"])
                self.assertIs(spec["automountServiceAccountToken"], False)
                self.assertEqual(spec["terminationGracePeriodSeconds"], 30)

    def test_the_image_and_the_configmap_are_the_callers(self):
        pod = self.by_filter(POD, "--config-map", "other", "--image", "mirror/carpool:2")[0]
        self.assertEqual(sidecar_of(pod)["image"], "mirror/carpool:2")
        self.assertEqual([volumes_of(pod)[0]["configMap"]["name"],
                          volumes_of(pod)[1]["secret"]["secretName"]], ["other", "other"])

    def test_uninject_gives_back_what_was_there(self):
        injected = must(CARPOOL, "inject", stdin=APPLICATION)
        self.assertEqual(documents(must(CARPOOL, "uninject", stdin=injected)), documents(APPLICATION))

    def test_broken_yaml_is_exit_65_and_prints_nothing(self):
        done = run(CARPOOL, "inject", stdin=APPLICATION + "---\na: [\n")
        self.assertEqual((done.returncode, done.stdout), (65, ""))


class Policies(unittest.TestCase):
    """The injector's policies, evaluated by the API server's own admission code."""

    @classmethod
    def setUpClass(cls):
        helm("dependency", "update", CHARTS / "carpool-injector")
        cls.files = {}
        for version in ("1.34", "1.36"):
            cls.files[version] = E2E / ".work" / f"policies-{version}.yaml"
            cls.files[version].write_text(template("carpool-injector", version=version))
        validating = [document for document in documents(cls.files["1.36"].read_text())
                      if document["kind"].startswith("Validating")]
        cls.files["validating"] = E2E / ".work" / "policies-validating.yaml"
        cls.files["validating"].write_text(yaml.safe_dump_all(validating))

    def admit(self, pod, *labels, policies="1.36"):
        if not isinstance(pod, str):
            pod = yaml.safe_dump(pod)
        done = run(BIN / "rules", "admit", self.files[policies], *labels, stdin=pod)
        self.assertIn(done.returncode, (0, 3), done.stderr)
        return (json.loads(done.stdout) if done.returncode == 0 else None), done.stderr

    def pod(self, **spec):
        pod = yaml.safe_load(POD)
        pod["spec"].update(spec)
        return pod

    def names(self, pod, key="initContainers"):
        return [container["name"] for container in pod["spec"].get(key, [])]

    def test_a_pod_without_init_containers_and_volumes_gets_all(self):
        for policies in ("1.34", "1.36"):
            pod, _ = self.admit(POD, policies=policies)
            self.assertEqual(self.names(pod), ["carpool"])
            self.assertEqual(sidecar_of(pod)["restartPolicy"], "Always")
            self.assertEqual([volume["name"] for volume in volumes_of(pod)],
                             ["carpool-config", "carpool-secrets"])
            self.assertEqual(volumes_of(pod)[0]["configMap"]["name"], "carpool")

    def test_the_pod_of_helm_test_gets_one(self):
        hook = of_kind(template("carpool-injector"), "Pod")[0]
        pod, said = self.admit(hook)
        self.assertEqual(self.names(pod), ["carpool"], said)
        self.assertEqual(volumes_of(pod)[0]["configMap"]["name"], "shop-injected")

    def test_it_comes_before_the_init_containers_that_are_there(self):
        pod, _ = self.admit(self.pod(initContainers=[{"name": "migrate", "image": "web:1"}],
                                     volumes=[{"name": "scratch", "emptyDir": {}}]))
        self.assertEqual(self.names(pod), ["carpool", "migrate"])
        self.assertEqual({volume["name"] for volume in pod["spec"]["volumes"]},
                         {"scratch", "carpool-config", "carpool-secrets"})

    def test_a_pod_that_carries_the_sidecar_is_left_alone(self):
        for key in ("initContainers", "containers"):
            pod = self.pod()
            pod["spec"].setdefault(key, []).append({"name": "carpool", "image": "mine:1"})
            after, _ = self.admit(pod)
            self.assertEqual(sidecar_of(after)["image"], "mine:1")
            self.assertNotIn("volumes", after["spec"])

    def test_an_unlabelled_pod_is_left_alone(self):
        pod = self.pod()
        pod["metadata"]["labels"] = {"app": "web"}
        after, _ = self.admit(pod)
        self.assertEqual(self.names(after), [])

    def test_a_namespace_may_opt_out(self):
        after, _ = self.admit(POD, "carpool/injection=disabled")
        self.assertEqual(self.names(after), [])

    def test_a_label_without_a_name_is_refused(self):
        pod = self.pod()
        pod["metadata"]["labels"]["carpool/inject"] = ""
        after, said = self.admit(pod)
        self.assertIsNone(after)
        self.assertIn("must name the ConfigMap", said)

    def test_a_labelled_pod_that_nobody_injected_is_refused(self):
        after, said = self.admit(POD, policies="validating")
        self.assertIsNone(after)
        self.assertIn("no container named carpool was added", said)

    def test_a_container_on_a_port_of_the_sidecar_is_refused(self):
        pod = self.pod(containers=[{"name": "metrics", "image": "m", "ports": [{"containerPort": 9930}]}])
        after, said = self.admit(pod)
        self.assertIsNone(after)
        self.assertIn("container metrics uses a port of the Carpool sidecar", said)

    def test_before_1_34_the_chart_says_why_not(self):
        done = run(BIN / "helm", "template", "x", CHARTS / "carpool-injector", "--kube-version", "1.33")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("kubeVersion", done.stderr)


class Rendered(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        for chart in ("carpool-injector", "example"):
            helm("dependency", "update", CHARTS / chart)
        cls.rendered = rendered()

    def test_each_is_what_it_was(self):
        for name, text in self.rendered.items():
            with self.subTest(name):
                golden = GOLDEN / f"{name}.yaml"
                if UPDATE:
                    golden.parent.mkdir(exist_ok=True)
                    golden.write_text(text)
                self.assertEqual(golden.read_text(), text, "e2e/static.py --update, if it is meant")

    def test_an_api_server_takes_each_and_pod_security_restricted_too(self):
        files = []
        for name, text in self.rendered.items():
            files.append(E2E / ".work" / f"rendered-{name}.yaml")
            files[-1].write_text(text)
        must(BIN / "rules", "validate", *files)

    def test_every_supported_version_knows_every_field(self):
        go = str(BIN / "go")
        native = [v for v in schemas.VERSIONS if int(v.split(".")[1]) >= 29]
        policies = [v for v in schemas.VERSIONS if int(v.split(".")[1]) >= 36]
        for name, text in self.rendered.items():
            versions = list(schemas.VERSIONS)
            if name.startswith("injector"):
                versions = policies if name.endswith("1.36") else ["1.34", "1.35"]
            elif "classic" not in name and name != "network":
                versions = native
            for version in versions:
                with self.subTest(form=name, kubernetes=version):
                    found = [problem for document in documents(text)
                             for problem in schemas.problems(go, version, document)]
                    self.assertEqual(found, [])

    def test_a_version_that_does_not_know_native_sidecars_is_seen(self):
        found = [problem for document in of_kind(self.rendered["library-native"], "Deployment")
                 for problem in schemas.problems(str(BIN / "go"), "1.27", document)]
        self.assertEqual(len(found), 1)
        self.assertIn("restartPolicy: unknown", found[0])


class Monitoring(unittest.TestCase):
    def test_promtool_and_the_runbook_know_every_alert(self):
        must(MANIFESTS / "monitoring" / "tests" / "run")

    def test_the_dashboard_asks_only_for_what_the_rules_record_or_the_sidecar_exports(self):
        exported = set(re.findall(r'"((?:carpool|process)_[a-z_]+)"',
                                  (ROOT / "sidecar" / "admin" / "metrics.cpp").read_text()))
        rules = (MANIFESTS / "monitoring" / "prometheusrule.yaml").read_text()
        recorded = set(re.findall(r"record: (\S+)", rules))
        dashboard = json.loads((MANIFESTS / "monitoring" / "dashboard.json").read_text())
        asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
        self.assertGreater(len(asked), 20)
        for text in [*asked, rules]:
            for name in re.findall(r"\b(?:carpool|process)[_:][a-z_:]+\b", text):
                base = re.sub(r"_(bucket|count|sum)$", "", name)
                self.assertTrue({name, base} & (exported | recorded | {"carpool_inject"}), name)

    def test_the_dashboard_is_whole(self):
        dashboard = json.loads((MANIFESTS / "monitoring" / "dashboard.json").read_text())
        titles = {panel["title"] for panel in dashboard["panels"]}
        self.assertLessEqual({"Saturation", "Clients waiting", "Wait for a connection",
                              "Connects and failures", "Errors by SQLSTATE class",
                              "Configuration by pod", "Fleet against max_connections"}, titles)
        ids = [panel["id"] for panel in dashboard["panels"]]
        self.assertEqual(len(ids), len(set(ids)))
        taken = set()
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                     for y in range(place["y"], place["y"] + place["h"])}
            self.assertLessEqual(place["x"] + place["w"], 24, panel["title"])
            self.assertFalse(cells & taken, f"{panel['title']} lies over another panel")
            taken |= cells
            if panel["type"] != "row":
                self.assertTrue(panel["description"], panel["title"])

    def test_kustomize_builds_what_the_operator_reads(self):
        found = documents(must(BIN / "kubectl", "kustomize", MANIFESTS / "monitoring"))
        self.assertEqual(sorted(document["kind"] for document in found),
                         ["ConfigMap", "PodMonitor", "PrometheusRule"])


if __name__ == "__main__":
    if "--update" in sys.argv:
        sys.argv = [sys.argv[0], "Rendered.test_each_is_what_it_was"]
        UPDATE = True
    unittest.main(verbosity=1)
