#!/usr/bin/env python3
"""A one-node Kubernetes of this machine's own, for the e2e tests.

    cluster.py up [--control-plane]   start it, and print the kubeconfig's path
    cluster.py load                   hand it the images as they are now
    cluster.py down                   stop it; fails where anything stays running, mounted or configured
    cluster.py status                 versions, components, nodes and pods

All of it lives in namespaces of its own (mounts, network, processes), below one process: when that
ends, so does everything, with its mounts and interfaces. One veth pair leads there, since the tests
run outside. State is below e2e/.work/cluster; beside it, in e2e/.work/containerd, images stay unpacked
from one `up` to the next. Needs root. With --control-plane there is no node: etcd, API server,
controller manager and scheduler are enough for policies, schemas and charts.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import leftovers
from places import CGROUP, INTERFACE, KUBECONFIG, NODE, OUTSIDE, SERVICE, STATE

HERE = pathlib.Path(__file__).resolve().parent
SECONDS_MAX = 120


def must(*command, **more):
    return subprocess.run([str(part) for part in command], check=True, text=True,
                          stdout=subprocess.PIPE, **more).stdout.strip()


def until(question, what, seconds=SECONDS_MAX):
    end = time.monotonic() + seconds
    while not question():
        if process() is None:
            sys.exit(f"cluster: the node ended; see {STATE}/logs")
        if time.monotonic() > end:
            sys.exit(f"cluster: {what} is not there after {seconds} s; see {STATE}/logs")
        time.sleep(0.1)


def process():
    """The first process inside, as seen from outside; None where there is none."""
    try:
        pid = int((STATE / "pid").read_text())
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_text()
    except (OSError, ValueError):
        return None
    return pid if str(HERE / "node.py") in command else None


def kubectl(*arguments, check=True):
    binaries = pathlib.Path((STATE / "binaries").read_text())
    done = subprocess.run([binaries / "kubectl", "--kubeconfig", KUBECONFIG, *arguments], text=True,
                          check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if check and done.returncode != 0:
        sys.exit(f"cluster: kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip() if done.returncode == 0 else ""


def up(control_plane):
    if process() is not None:
        sys.exit("cluster: it is up already")
    components = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"]
    if not control_plane:
        components += ["kubelet", "kube-proxy"]
    binaries = must(HERE / "build", *components)
    clear()
    began = time.monotonic()
    STATE.mkdir(parents=True)
    (STATE / "logs").mkdir()
    (STATE / "binaries").write_text(binaries)
    must(HERE / "certificates", STATE / "certificates", NODE, SERVICE)

    with open(STATE / "logs" / "node", "w", encoding="utf-8") as log:
        inside = subprocess.Popen(
            ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
             sys.executable, str(HERE / "node.py"), binaries, "1" if control_plane else "0"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    children = pathlib.Path(f"/proc/{inside.pid}/task/{inside.pid}/children")
    end = time.monotonic() + 10
    while time.monotonic() < end:
        child = children.read_text().split()
        if child:
            (STATE / "pid").write_text(child[0])
            if process() is not None:
                break
        time.sleep(0.05)
    must("ip", "link", "add", INTERFACE, "type", "veth", "peer", "name", "eth0", "netns", child[0])
    must("ip", "address", "add", f"{OUTSIDE}/30", "dev", INTERFACE)
    must("ip", "link", "set", INTERFACE, "up")

    if not control_plane:  # while the control plane starts
        must(HERE / "images", STATE / "images")
        (STATE / "images" / "complete").touch()
    until(lambda: kubectl("get", "--raw", "/readyz", check=False) == "ok", "the API server")
    until(lambda: kubectl("get", "serviceaccount", "default", check=False), "the controller manager")
    if not control_plane:
        until(lambda: "True" in kubectl("get", "node", "carpool", "--output", "jsonpath={.status."
                                        "conditions[?(@.type=='Ready')].status}", check=False), "the node")
    print(f"cluster: up after {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(KUBECONFIG)


def load():
    """Under their old names: new pods get them, running ones keep what they have."""
    pid = process()
    if pid is None:
        sys.exit("cluster: it is down")
    if not (STATE / "images").exists():
        sys.exit("cluster: it has no node")
    must(HERE / "images", STATE / "images")
    must("nsenter", "--target", pid, "--mount", "--net", "--pid", sys.executable, HERE / "images.py",
         STATE / "images", stderr=None)


def clear():
    pid = process()
    if pid is not None:
        os.kill(pid, signal.SIGKILL)  # of a process namespace's first process: the kernel ends the rest
        end = time.monotonic() + SECONDS_MAX
        while process() is not None and time.monotonic() < end:
            time.sleep(0.05)
    remove_cgroups()
    if pathlib.Path(f"/sys/class/net/{INTERFACE}").exists():
        subprocess.run(["ip", "link", "delete", INTERFACE], check=False, stderr=subprocess.DEVNULL)
    shutil.rmtree(STATE, ignore_errors=True)


def remove_cgroups():
    for root in pathlib.Path("/sys/fs/cgroup").glob(f"*/{CGROUP}"):
        for folder, _, _ in os.walk(root, topdown=False):
            for _ in range(50):  # a process that has just died leaves its cgroup a little later
                try:
                    os.rmdir(folder)
                    break
                except OSError:
                    time.sleep(0.1)


def down():
    """What is left, if anything."""
    namespaces = leftovers.namespaces_of(process())
    clear()
    end = time.monotonic() + 10  # the kernel takes a namespace apart in the background
    while (left := leftovers.found(namespaces)) and time.monotonic() < end:
        time.sleep(0.1)
    for line in left:
        print(f"cluster: left behind: {line}", file=sys.stderr)
    return 1 if left else 0


def status():
    if process() is None:
        print("cluster: down")
        return 1
    versions = json.loads(kubectl("version", "--output", "json"))
    print("kubernetes", versions["serverVersion"]["gitVersion"])
    for line in (STATE / "logs" / "node").read_text().splitlines():
        print(line)
    print(kubectl("get", "nodes", "--output", "wide"))
    print(kubectl("get", "pods", "--all-namespaces", "--output", "wide"))
    return 0


def main():
    parser = argparse.ArgumentParser(prog="dev cluster")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up").add_argument("--control-plane", action="store_true")
    for name in ("load", "down", "status"):
        commands.add_parser(name)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("cluster: needs root: namespaces and containers")
    if arguments.command == "up":
        up(arguments.control_plane)
    elif arguments.command == "load":
        load()
    else:
        return down() if arguments.command == "down" else status()
    return 0


if __name__ == "__main__":
    sys.exit(main())
