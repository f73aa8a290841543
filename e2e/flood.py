"""The sidecar under a flood of clients from its own pod, with the memory limit that the chart works out:
whatever they do, it refuses or closes some before the kernel ends it and with it all of them. By
podman, or on the cluster that E2E_KUBECONFIG names.

    flood.py [-v] [NAME...]      as unittest
"""

import contextlib
import json
import pathlib
import time
import unittest

import pods
from kubelet import Load, removed

CLIENTS = pathlib.Path(__file__).with_name("clients.py").read_text()
# As many as fit below the 1024 descriptors that a container may be limited to.
COUNT = 900
FIGURES = ("carpool_memory_used_bytes", "carpool_memory_limit_bytes", "process_resident_memory_bytes")


class Flood(pods.Cluster):
    def test_clients_that_say_nothing(self):
        self.flood("silent")

    def test_idle_clients(self):
        seen = self.flood("idle", "carpool.config.listen.clientsMax=500")
        self.assertGreater(seen["served"], 400)
        self.assertLessEqual(seen["served"], 500)
        self.assertEqual(set(seen["refused"]), {"53300"})

    def test_results_that_nobody_reads(self):
        self.assertGreater(self.flood("results")["served"], 100)

    def test_long_queries_that_wait(self):
        seen = self.flood("queries")
        self.assertGreater(seen["served"], 100)
        self.assertGreater(seen["rejected"].get("memory", 0), 0, "they were to be too much for it")

    def test_statements_no_two_alike(self):
        self.assertGreater(self.flood("statements")["served"], 10)

    def flood(self, kind, *settings):
        pod = self.pod(f"carpool-e2e-flood-{kind}", *settings)
        with removed(pod):
            pod.start().serving()
            with Load([pod], visitors=2) as load:
                load.run_for(20)
            self.assert_no_failure(load)
            with self.flooded(pod, kind) as seen:
                figures = [pod.metrics() for _ in range(5) if not time.sleep(0.5)]
                self.assertEqual(pod.probe("livenessProbe"), 200)
                self.assertEqual(pod.restarts(), (0, True), "it was killed")
            used, limit, resident = (max(f[name] for f in figures) / 2**20 for name in FIGURES)
            rejected = {name.split('"')[1]: int(value) for name, value in pod.metrics().items()
                        if name.startswith("carpool_clients_rejected_total") and value > 0}
            seen["rejected"] = rejected
            print(f"{kind}: {seen}; {used:.0f} of {limit:.0f} MiB in use, "
                  f"{resident:.0f} MiB resident")
            self.assertGreater(limit, 0, "it does not know its limit")
            # When they have gone, it is as if nothing had been.
            pods.until(lambda: pod.metrics()["carpool_clients"] < 50)
            self.visits_work(pod)
            self.assertEqual(pod.restarts(), (0, True), "it was killed")
        return seen

    @contextlib.contextmanager
    def flooded(self, pod, kind):
        clients = pod.stream("/usr/bin/python3", "-u", "-c", CLIENTS, kind, str(COUNT), container="example")
        try:
            line = clients.stdout.readline()
            self.assertTrue(line, "the flood never stood")
            yield json.loads(line)
        finally:
            clients.stdin.close()
            clients.wait(60)

    def visits_work(self, pod):
        """Visits that were under way when the flood came may have failed; soon none does any more."""
        def all_answered():
            return all(pod.get("/visits", 8080, "POST", "after")[0] == 200 for _ in range(20))
        self.assertTrue(pods.until(all_answered))


if __name__ == "__main__":
    unittest.main(verbosity=2)
