"""Where the cluster keeps what, and what it is called: all that `down` has to find again."""

import pathlib

WORK = pathlib.Path(__file__).resolve().parent.parent / ".work"
STATE = WORK / "cluster"
# Images as containerd unpacked them, by the ids of the images: STATE starts with a copy.
SEEDS = WORK / "containerd"
KUBECONFIG = STATE / "certificates" / "admin.kubeconfig"
CGROUP = "carpool-cluster"
# The node's network: a veth pair, Services, pods. Nothing routes from there to anywhere else.
OUTSIDE, NODE, SERVICE = "10.254.77.1", "10.254.77.2", "10.254.78.1"
SERVICES, PODS = "10.254.78.0/24", "10.254.79.0/24"
INTERFACE = "carpool-e2e"
RUNTIME = "/run/containerd/containerd.sock"
