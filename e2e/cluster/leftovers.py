"""What there is of a cluster on this machine: processes, mounts, interfaces, firewall rules, cgroups
and files. After `down` that is nothing.
"""

import os
import pathlib
import subprocess

from places import CGROUP, INTERFACE, PODS, SERVICES, STATE

KINDS = ("mnt", "net", "pid")
# kube-proxy's chains, and addresses in its and the CNI plugins' rules.
RULES = ("KUBE-", SERVICES.rsplit(".", 1)[0], PODS.rsplit(".", 1)[0])


def namespaces_of(pid):
    """The namespaces of the cluster whose first process is `pid`; none where there is none."""
    return {os.readlink(f"/proc/{pid}/ns/{kind}") for kind in KINDS} if pid else set()


def found(namespaces):
    return [*processes(namespaces), *mounts(), *interfaces(), *rules(), *cgroups(),
            *([f"folder {STATE}"] if STATE.exists() else [])]


def processes(namespaces):
    """All that are in one of the namespaces or were started from the state's folder."""
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            own = {os.readlink(folder / "ns" / kind) for kind in KINDS}
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended meanwhile
        if own & namespaces or str(STATE) in command:
            yield f"process {folder.name} {command.strip() or '(kernel)'}"


def mounts():
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        if str(STATE) in line or CGROUP in line:
            yield f"mount {line.split()[4]}"


def interfaces():
    for name in os.listdir("/sys/class/net"):
        if name == INTERFACE:
            yield f"interface {name}"


def rules():
    for program in ("iptables-save", "ip6tables-save"):
        try:
            done = subprocess.run(["/usr/sbin/" + program], text=True, check=False,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        except FileNotFoundError:
            continue
        for line in done.stdout.splitlines():
            if any(mark in line for mark in RULES):
                yield f"{program} {line}"


def cgroups():
    for folder in pathlib.Path("/sys/fs/cgroup").glob(f"*/{CGROUP}"):
        yield f"cgroup {folder}"
    if pathlib.Path("/sys/fs/cgroup", CGROUP).exists():
        yield f"cgroup /sys/fs/cgroup/{CGROUP}"
