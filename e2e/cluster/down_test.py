#!/usr/bin/env python3
"""That `down` leaves nothing of a cluster that has run pods: takes down the one that is up.

    down_test.py [-v]      as unittest
"""

import pathlib
import subprocess
import sys
import tempfile
import unittest

import cluster
import leftovers
from places import STATE


def kinds(found):
    return {line.split()[0] for line in found}


class Down(unittest.TestCase):
    """First that what there is would be seen, then that it is gone."""

    def test_nothing_is_left(self):
        pid = cluster.process()
        self.assertIsNotNone(pid, "no cluster is up")
        namespaces = leftovers.namespaces_of(pid)
        # Its mounts and rules are in namespaces of its own: one of each is made here, where they
        # would be if they got out.
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["mount", "--bind", STATE / "logs", folder], check=True)
            subprocess.run(["/usr/sbin/iptables", "--new-chain", "KUBE-CARPOOL"], check=True)
            try:
                seen = kinds(leftovers.found(namespaces))
            finally:
                subprocess.run(["/usr/sbin/iptables", "--delete-chain", "KUBE-CARPOOL"], check=True)
                subprocess.run(["umount", folder], check=True)
        self.assertEqual(seen, {"process", "mount", "interface", "iptables-save", "cgroup", "folder"})
        containers = [line for line in leftovers.processes(namespaces) if "containerd-shim" in line]
        self.assertTrue(containers, "no pod runs: it would say little")

        done = subprocess.run([sys.executable, pathlib.Path(cluster.__file__), "down"], check=False,
                              text=True, stderr=subprocess.PIPE)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(leftovers.found(namespaces), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
