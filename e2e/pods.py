"""The rendered charts, run: PostgreSQL, the example application and the sidecar as containers, with
the kubelet's part played by kubelet.py. Needs the images (e2e/images) and helm (e2e/tools). Where
E2E_KUBECONFIG names a cluster, the pods run there (remote.py) and the images come from E2E_REGISTRY.

    pods.py [-v] [NAME...]      as unittest
    ROLLS=20 pods.py Rolling    how many rolling restarts; the default is 3
"""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import tempfile
import time
import unittest

import yaml

import kubelet
from kubelet import Load, podman, removed, until

REMOTE = bool(os.environ.get("E2E_KUBECONFIG"))
if REMOTE:
    from remote import Pod, Postgresql
else:
    from kubelet import Pod, Postgresql

ROOT = pathlib.Path(__file__).resolve().parent.parent
HELM = kubelet.WORK / "bin" / "helm"
IMAGE = "localhost/carpool:" + re.search(
    r"project\(carpool VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text())[1]
EXAMPLE = IMAGE.replace("carpool:", "carpool-example:")
IMAGE_BYTES_MAX = 25_000_000
MEMORY_BYTES_MAX = 10 * 1024 * 1024
STARTUP_SECONDS_MAX = 1.0
# From the swap; on a cluster the kubelet's own time to swap comes first.
RELOAD_SECONDS_MAX = 150.0 if REMOTE else 1.0


def render(*settings, values=None):
    """The pod template and the configuration of the example chart."""
    arguments = [part for setting in settings for part in ("--set", setting)]
    if values:
        arguments += ["--values", str(ROOT / "charts" / "example" / f"values-{values}.yaml")]
    done = subprocess.run([HELM, "template", "shop", ROOT / "charts" / "example", *arguments],
                          check=True, text=True, stdout=subprocess.PIPE)
    found = {document["kind"]: document for document in yaml.safe_load_all(done.stdout)
             if document and "helm.sh/hook" not in document["metadata"].get("annotations", {})}
    return found["Deployment"]["spec"]["template"], found["ConfigMap"]["data"]["carpool.yaml"]


class Cluster(unittest.TestCase):
    """What all tests share: one PostgreSQL."""

    postgresql = None

    @classmethod
    def setUpClass(cls):
        subprocess.run([HELM, "dependency", "update", ROOT / "charts" / "example"], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        cls.postgresql = Postgresql()

    @classmethod
    def tearDownClass(cls):
        cls.postgresql.remove()

    def pod(self, name, *settings, values=None, **more):
        template, config = render(*settings, values=values)
        return Pod(name, more.get("template", template), more.get("config", config),
                   {"password": self.postgresql.password}, {"postgresql": self.postgresql.address})

    def size(self, pod):
        pools = pod.json("/status")["pools"]
        return pools[0]["size"] if pools else None

    def change(self, config, **pool):
        changed = yaml.safe_load(config)
        changed.setdefault("pool", {}).update(pool)
        return yaml.safe_dump(changed)

    def apply(self, pod, config):
        """Swaps the ConfigMap as the kubelet does; seconds until the sidecar has looked at it."""
        reloads = self.reloads(pod)
        before = time.monotonic()
        pod.config.write({"carpool.yaml": config})
        self.assertTrue(until(lambda: self.reloads(pod) > reloads, RELOAD_SECONDS_MAX + 5), pod.json("/config"))
        return time.monotonic() - before

    @staticmethod
    def reloads(pod):
        metrics = pod.metrics()
        return sum(metrics.get(f'carpool_config_reloads_total{{result="{result}"}}', 0)
                   for result in ("applied", "rejected"))

    def assert_no_failure(self, load):
        self.assertEqual(load.failures, [])
        self.assertGreater(load.done, 0)


class Image(unittest.TestCase):
    """Of this machine's image store; what a cluster runs came from there."""

    def inspect(self, template):
        return podman("image", "inspect", "--format", template, IMAGE)

    def test_it_is_small_and_runs_as_nobody(self):
        self.assertLessEqual(int(self.inspect("{{.Size}}")), IMAGE_BYTES_MAX)
        self.assertEqual(self.inspect("{{.Config.User}}"), "65532:65532")
        self.assertEqual(json.loads(self.inspect("{{json .Config.Entrypoint}}")), ["/carpool"])
        labels = json.loads(self.inspect("{{json .Config.Labels}}"))
        self.assertEqual(labels["org.opencontainers.image.version"], IMAGE.split(":")[-1])
        self.assertIn(IMAGE.split(":")[-1], podman("run", "--rm", IMAGE, "version"))

    def test_nothing_but_the_sidecar_is_in_it(self):
        for program in ("/bin/sh", "/usr/bin/apt-get", "/usr/bin/dpkg", "/bin/busybox"):
            done = podman("run", "--rm", "--entrypoint", program, IMAGE, "-c", "true", check=False)
            self.assertNotEqual(done.returncode, 0, program)

    def test_it_runs_without_a_file_system_a_capability_or_a_configuration(self):
        done = podman("run", "--rm", "--read-only", "--cap-drop", "all", "--network", "none",
                      "--security-opt", "no-new-privileges", IMAGE, "check", "/etc/carpool/carpool.yaml",
                      check=False)
        self.assertEqual(done.returncode, 66, done.stderr)

    def test_a_port_in_use_is_named_in_the_log(self):
        podman("pod", "create", "--name", "carpool-e2e-ports")
        try:
            run = ("run", "--pod", "carpool-e2e-ports", "--env", "DATABASE_URL=postgresql://a@127.0.0.1/a")
            podman(*run, "--detach", "--name", "carpool-e2e-first", IMAGE)
            logs = ("logs", "carpool-e2e-first")
            self.assertTrue(until(lambda: "listening" in podman(*logs, check=False).stdout
                                  + podman(*logs, check=False).stderr))
            done = podman(*run, IMAGE, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stdout + done.stderr, r"\b(6432|9930)\b")
        finally:
            podman("pod", "rm", "--force", "--time", "0", "carpool-e2e-ports", check=False)

    def test_the_hook_of_helm_test_checks_the_configuration(self):
        with tempfile.TemporaryDirectory(dir=kubelet.WORK) as folder:
            for text, code in (("server: {host: postgresql}\n", 0), ("pool: {size: none}\n", 78)):
                file = pathlib.Path(folder) / "carpool.yaml"
                file.write_text(text)
                pathlib.Path(folder).chmod(0o755)
                done = podman("run", "--rm", "--volume", f"{folder}:/etc/carpool:ro", IMAGE, "check",
                              "/etc/carpool/carpool.yaml", check=False)
                self.assertEqual(done.returncode, code, done.stderr)


class Life(Cluster):
    def test_the_application_reaches_the_database_through_the_sidecar(self):
        for form in ("native", "classic"):
            pod = self.pod(f"carpool-e2e-{form}", f"sidecar={form}")
            with self.subTest(form), removed(pod):
                pod.start().serving()
                self.assertLess(pod.started_in, STARTUP_SECONDS_MAX)
                with Load([pod]) as load:
                    load.run_for(100)
                    self.assertLessEqual(self.postgresql.connections(), 5)
                self.assert_no_failure(load)
                self.assertIn('"count"', pod.get("/visits", 8080)[1])

    def test_probes_answer_the_node_and_control_stays_inside(self):
        pod = self.pod("carpool-e2e-probes", "carpool.probes.readiness.enabled=true")
        with removed(pod):
            pod.start(application=False)
            self.assertEqual({name: pod.probe(name) for name in pod.probes},
                             {"startupProbe": 200, "livenessProbe": 200, "readinessProbe": 200})
            for path in ("/drain", "/quitquitquit", "/pause"):
                self.assertEqual(pod.get(path, 9930, "POST")[0], 403, path)
            self.assertEqual(pod.get("/", 9931)[0], 0, "the control port answers outside the pod")
            self.assertEqual(pod.get("/", 6432)[0], 0, "the pool answers outside the pod")

    def test_it_starts_and_lives_while_postgresql_is_away(self):
        pod = self.pod("carpool-e2e-away", "carpool.config.server.host=nowhere")
        with removed(pod):
            pod.start(application=False)
            self.assertLess(pod.started_in, STARTUP_SECONDS_MAX)
            self.assertEqual(pod.probe("livenessProbe"), 200)

    def test_a_broken_configuration_at_start_is_exit_78_with_the_reason_in_the_log(self):
        pod = self.pod("carpool-e2e-broken", config="pool: {size: 0}\n")
        with removed(pod):
            self.assertEqual(pod.failed_start(), 78)
            self.assertIn("pool.size", pod.log("carpool"))

    def test_termination_in_native_and_in_classic_order_fails_no_visit(self):
        for form in ("native", "classic"):
            more = ["carpool.config.drain.minDelay=2s"] if form == "classic" else []
            template, config = render(f"sidecar={form}", "carpool.config.drain.timeout=20s", *more)
            for container in template["spec"]["containers"]:
                if container["name"] == "example":  # long enough for the load on a busy machine
                    container["env"].append({"name": "LINGER", "value": "8"})
            pod = self.pod(f"carpool-e2e-end-{form}", template=template, config=config)
            with self.subTest(form), removed(pod):
                pod.start().serving()
                with Load([pod]) as load:
                    load.run_for(100)
                    pod.terminate()
                    load.run_for(20)  # the application answers on, as the endpoints lag behind
                    load.leaving.set()
                self.assert_no_failure(load)
                self.assertEqual(pod.ended(), {"example": 0, "carpool": 0})

    def test_a_job_completes_in_both_forms(self):
        for form in ("native", "classic"):
            template, config = render(f"sidecar={form}")
            for container in template["spec"]["containers"]:
                if container["name"] == "example":
                    container["args"] = ["import", "200"]
            self.postgresql.query("CREATE TABLE IF NOT EXISTS visits (id bigint GENERATED ALWAYS AS "
                                  "IDENTITY PRIMARY KEY, name text NOT NULL, at timestamptz NOT NULL "
                                  "DEFAULT now()); ALTER TABLE visits OWNER TO guestbook", "guestbook")
            pod = self.pod(f"carpool-e2e-job-{form}", template=template, config=config)
            with self.subTest(form), removed(pod):
                pod.start()
                self.assertEqual(pod.completed(), {"example": 0, "carpool": 0})

    def test_carpool_quit_says_that_it_went_well_before_the_sidecar_has_ended(self):
        """The sidecar is its container's first process, whose end kills the others; a race, hence the tries."""
        for _ in range(8):
            pod = self.pod("carpool-e2e-quit", "sidecar=classic")
            with removed(pod):
                pod.start(application=False)
                self.assertIn("ending", pod.execute("/carpool", "quit"))

    def test_a_unix_socket_serves_too(self):
        pod = self.pod("carpool-e2e-socket", "carpool.config.server.sslMode=disable",
                       "carpool.config.pool.minIdle=0", values="production")
        with removed(pod):
            pod.start().serving()
            with Load([pod]) as load:
                load.run_for(100)
            self.assert_no_failure(load)


class Confinement(Cluster):
    """That podman honours what the templates ask for; without it the other tests would say less."""

    def test_the_sidecar_runs_as_the_template_says(self):
        pod = self.pod("carpool-e2e-confined")
        with removed(pod):
            pod.start(application=False)
            asked = ("{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Memory}} "
                     "{{len .EffectiveCaps}} {{.HostConfig.SecurityOpt}}")
            self.assertEqual(podman("inspect", "--format", asked, pod.container("carpool")),
                             f"65532:65532 true {64 * 2**20} 0 [no-new-privileges]")
            with open(f"/proc/{pod.process()}/status", encoding="ascii") as status:
                text = status.read()
            self.assertIn("NoNewPrivs:\t1\n", text)
            self.assertIn("Seccomp:\t2\n", text)
            self.assertIn("CapEff:\t0000000000000000\n", text)
            self.assertIn("Uid:\t65532\t", text)


class Reload(Cluster):
    def test_the_pool_resizes_under_load_with_no_failed_transaction(self):
        template, config = render()
        pod = self.pod("carpool-e2e-resize", template=template, config=config)
        with removed(pod):
            pod.start().serving()
            with Load([pod], visitors=8) as load:
                load.run_for(100)
                for size in (2, 9, 1, 5):
                    took = self.apply(pod, self.change(config, size=size))
                    self.assertLess(took, RELOAD_SECONDS_MAX)
                    self.assertEqual(self.size(pod), size)
                    self.assertTrue(until(lambda: self.postgresql.connections() <= size), size)
                    load.run_for(100)
            self.assert_no_failure(load)

    def test_a_broken_configmap_is_rejected_reported_and_the_old_one_stays(self):
        template, config = render()
        pod = self.pod("carpool-e2e-reject", template=template, config=config)
        gauge = "carpool_config_last_reload_successful"
        with removed(pod):
            pod.start().serving()
            with Load([pod]) as load:
                load.run_for(50)
                before = [name for name in pod.metrics() if name.startswith("carpool_config_info")]
                for broken, said in ((self.change(config, size=0), "pool.size"),
                                     (config + "pol: {}\n", "pol"), ("pool: [\n", "carpool.yaml")):
                    self.apply(pod, broken)
                    self.assertEqual(pod.metrics()[gauge], 0)
                    self.assertIn(said, json.dumps(pod.json("/config")))
                    self.assertEqual(self.size(pod), 5)
                    self.assertEqual(
                        [name for name in pod.metrics() if name.startswith("carpool_config_info")], before)
                load.run_for(50)
                self.apply(pod, self.change(config, size=4))
                self.assertEqual(pod.metrics()[gauge], 1)
                self.assertEqual(self.size(pod), 4)
            self.assert_no_failure(load)

    def test_the_secret_rotates(self):
        template, config = render()
        for container in template["spec"]["containers"]:
            if container["name"] == "example":  # the same volume, in a container that has a shell
                container["volumeMounts"] = [{"name": "carpool-secrets", "mountPath": "/seen"}]
        pod = self.pod("carpool-e2e-secret", template=template, config=config)
        with removed(pod):
            pod.start().serving()
            with Load([pod]) as load:
                load.run_for(50)
                # The order that a rotation takes: the new password in PostgreSQL, then the Secret;
                # what is connected stays, and new connections wait for the Secret.
                self.postgresql.query("ALTER ROLE guestbook PASSWORD 'second'")
                self.postgresql.password = "second"
                pod.secret.write({"password": "second"})
                self.assertTrue(until(lambda: self.seen_by(pod) == "second", RELOAD_SECONDS_MAX))
                opened = self.connects(pod)
                pod.execute("/carpool", "reconnect")
                self.assertTrue(until(lambda: self.connects(pod) > opened), "nothing reconnected")
                load.run_for(100)
            self.assert_no_failure(load)

    @staticmethod
    def seen_by(pod):
        return pod.execute("cat", "/seen/password", container="example")

    @staticmethod
    def connects(pod):
        return sum(value for name, value in pod.metrics().items()
                   if name.startswith("carpool_server_connects_total"))

    def test_postgresql_restarts_and_nobody_else_has_to(self):
        pod = self.pod("carpool-e2e-restart")
        with removed(pod):
            pod.start().serving()
            with Load([pod]) as load:
                load.run_for(50)
                self.postgresql.restart()
                self.assertEqual(pod.probe("livenessProbe"), 200)
                load.run_for(50)
                # Transactions that were on the old server are lost with it; after it is back, none.
                lost = len(load.failures)
                load.run_for(100)
                self.assertEqual(load.failures[lost:], [])
            self.assertEqual(pod.restarts(), (0, True))


class Figures(Cluster):
    def test_a_hundred_clients_take_less_than_ten_mebibytes(self):
        pod = self.pod("carpool-e2e-memory", "threads=100")
        with removed(pod):
            pod.start().serving()
            with Load([pod], visitors=100) as load:
                load.run_for(1500)
                clients = pod.metrics()["carpool_clients"]
            self.assert_no_failure(load)
            self.assertGreaterEqual(clients, 100)
            own, resident = pod.memory("RssAnon"), pod.memory("VmRSS")
            print(f"{own / 2**20:.1f} MiB of its own, {resident / 2**20:.1f} MiB resident")
            self.assertLess(resident, MEMORY_BYTES_MAX)

    def test_every_metric_of_the_alerts_and_the_dashboard_is_there(self):
        pod = self.pod("carpool-e2e-metrics")
        with removed(pod):
            pod.start().serving()
            with Load([pod]) as load:
                load.run_for(50)
            self.assert_no_failure(load)
            pod.get("/visits", 8080, "POST", "a\0b")  # an error of PostgreSQL, for its family
            found = {name.split("{")[0] for name in pod.metrics()}
            checked = subprocess.run(["promtool", "check", "metrics"], text=True, check=False,
                                     input=pod.get("/metrics", 9930)[1], stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT)
            self.assertEqual((checked.returncode, checked.stdout), (0, ""))
        folder = ROOT / "manifests" / "monitoring"
        text = (folder / "prometheusrule.yaml").read_text() + (folder / "dashboard.json").read_text()
        wanted = set(re.findall(r"\b(?:carpool|process)_[a-z_]+\b(?=[{\[ )\\]|$)", text, re.MULTILINE))
        wanted -= {"carpool_inject", "carpool_errors_total"}
        self.assertGreater(len(wanted), 15)
        self.assertEqual(wanted - found, set())


class Rolling(Cluster):
    """maxSurge 1, maxUnavailable 0: a pod that is ready comes before one that leaves, and the
    endpoints forget the leaving pod a little after it was told."""

    rolls = int(os.environ.get("ROLLS", "3"))

    def test_a_rolling_restart_of_a_loaded_application_fails_nothing(self):
        with contextlib.ExitStack() as pods:
            def started(number):
                pod = self.pod(f"carpool-e2e-roll-{number}", "carpool.config.pool.size=4")
                pods.enter_context(removed(pod))
                return pod.start().serving()

            old = started(0)
            with Load([old]) as load:
                for number in range(1, self.rolls + 1):
                    load.run_for(50)
                    fresh = started(number)
                    load.pods = [old, fresh]
                    load.run_for(20)
                    old.terminate()
                    time.sleep(0.5)
                    load.pods = [fresh]
                    self.assertEqual(old.ended(), {"example": 0, "carpool": 0})
                    self.assertEqual(load.failures, [], f"at restart {number}")
                    old.remove()
                    old = fresh
            self.assert_no_failure(load)
        print(f"{self.rolls} rolling restarts, {load.done} visits, none failed")


if __name__ == "__main__":
    unittest.main(verbosity=2)
