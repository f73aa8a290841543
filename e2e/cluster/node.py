"""The first process inside the cluster's namespaces (cluster.py starts it): prepares mounts, network
and cgroups, starts the components in order, and reaps. When it ends, all of them end.

    node.py BINARIES CONTROL_PLANE(0|1)

Four facts of small machines are met here, as the comments beside them say: no CAP_SYS_RESOURCE,
cgroup v1 beside a v2 mount, kernel settings that are not ours to change, and no outside network.
"""

import ipaddress
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import images
from places import CGROUP, NODE, PODS, RUNTIME, SEEDS, SERVICES, STATE

BINARIES, CONTROL_PLANE = pathlib.Path(sys.argv[1]), sys.argv[2] == "1"
CERTIFICATES, LOGS = STATE / "certificates", STATE / "logs"

CONTAINERD = f"""
version = 2
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
address = "{RUNTIME}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/carpool-pause:1"
# Without CAP_SYS_RESOURCE the score that the kubelet asks for pauses cannot be had.
restrict_oom_score_adj = true
stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{STATE}/cni"
"""

CNI = {
    "cniVersion": "0.4.0", "name": "carpool",
    "plugins": [
        {"type": "bridge", "bridge": "pods", "isGateway": True, "hairpinMode": True,
         "ipam": {"type": "host-local", "ranges": [[{"subnet": PODS}]], "dataDir": str(STATE / "ipam"),
                  "routes": [{"dst": "0.0.0.0/0"}]}},
        {"type": "loopback"},
    ],
}

KUBELET = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
    "address": NODE, "readOnlyPort": 0, "healthzBindAddress": "127.0.0.1",
    "authentication": {"x509": {"clientCAFile": str(CERTIFICATES / "ca.crt")},
                       "anonymous": {"enabled": False}, "webhook": {"enabled": True}},
    "authorization": {"mode": "Webhook"},
    "containerRuntimeEndpoint": f"unix://{RUNTIME}",
    "cgroupDriver": "cgroupfs", "cgroupRoot": f"/{CGROUP}", "failCgroupV1": False,
    "enforceNodeAllocatable": [],
    "featureGates": {"KubeletInUserNamespace": True},
    "oomScoreAdj": 0, "failSwapOn": False,
    "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
                     "imagefs.available": "0%", "imagefs.inodesFree": "0%"},
    "imageGCHighThresholdPercent": 100, "localStorageCapacityIsolation": False,
    "resolvConf": "", "podLogsDir": str(STATE / "pods-logs"),
    "shutdownGracePeriod": "0s",
}

PROXY = {
    "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
    "mode": "iptables", "clusterCIDR": PODS, "hostnameOverride": "carpool", "oomScoreAdj": 0,
    "bindAddress": NODE, "healthzBindAddress": "127.0.0.1:10256", "metricsBindAddress": "127.0.0.1:10249",
    "clientConnection": {"kubeconfig": str(CERTIFICATES / "kube-proxy.kubeconfig")},
    # These settings belong to the whole machine.
    "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
}

KERNEL = {"vm/overcommit_memory": 1, "vm/panic_on_oom": 0, "kernel/panic": 10, "kernel/panic_on_oops": 1,
          "kernel/keys/root_maxkeys": 1000000, "kernel/keys/root_maxbytes": 25000000}


def run(*command):
    subprocess.run([str(part) for part in command], check=True)


def log(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def prepare():
    # Shared among these processes, as the kubelet asks; nothing gets back to the machine.
    run("mount", "--make-rprivate", "/")
    run("mount", "--make-rshared", "/")
    for name in ("run", "kubelet", "cni", "pods-logs"):
        (STATE / name).mkdir()
    # Sockets have paths of at most 107 bytes, and containerd's shims have theirs in /run.
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    # The kubelet insists on these and would set them for the machine as a whole.
    for name, value in KERNEL.items():
        stand_in = STATE / name.replace("/", ".")
        stand_in.write_text(f"{value}\n")
        run("mount", "--bind", stand_in, f"/proc/sys/{name}")
    run("ip", "link", "set", "lo", "up")
    while not pathlib.Path("/proc/sys/net/ipv4/conf/eth0").exists():
        time.sleep(0.05)
    run("ip", "address", "add", f"{NODE}/30", "dev", "eth0")
    run("ip", "link", "set", "eth0", "up")
    pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    for root in pathlib.Path("/sys/fs/cgroup").glob("*/cgroup.procs"):
        (root.parent / CGROUP).mkdir(exist_ok=True)
    cpuset = pathlib.Path("/sys/fs/cgroup/cpuset")
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (cpuset / name).exists():
            (cpuset / CGROUP / name).write_text((cpuset / name).read_text())


def start(name, *arguments, program=None, also=()):
    with open(LOGS / name, "w", encoding="utf-8") as output:
        child = subprocess.Popen([str(program or BINARIES / name), *map(str, arguments)],
                                 stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                 env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(STATE),
                                      **dict(also)})
    log(f"{name} started")
    return child.pid, name


def listens(address, port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def kubeconfig(name):
    return f"--kubeconfig={CERTIFICATES / name}.kubeconfig"


def control_plane():
    yield start("etcd", "--data-dir", STATE / "etcd", "--unsafe-no-fsync",
                "--listen-client-urls=http://127.0.0.1:2379",
                "--advertise-client-urls=http://127.0.0.1:2379",
                "--listen-peer-urls=http://127.0.0.1:2380")
    yield start(
        "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", f"--bind-address={NODE}",
        f"--advertise-address={NODE}", "--secure-port=6443",
        f"--cert-dir={CERTIFICATES}", f"--tls-cert-file={CERTIFICATES}/apiserver.crt",
        f"--tls-private-key-file={CERTIFICATES}/apiserver.key",
        f"--client-ca-file={CERTIFICATES}/ca.crt",
        f"--kubelet-client-certificate={CERTIFICATES}/admin.crt",
        f"--kubelet-client-key={CERTIFICATES}/admin.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={CERTIFICATES}/service-account.pub",
        f"--service-account-signing-key-file={CERTIFICATES}/service-account.key",
        f"--service-cluster-ip-range={SERVICES}", "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction", "--allow-privileged",
        "--kubelet-preferred-address-types=InternalIP")
    while not listens(NODE, 6443):
        time.sleep(0.1)
    yield start(
        "kube-controller-manager", kubeconfig("kube-controller-manager"), "--leader-elect=false",
        "--bind-address=127.0.0.1", "--use-service-account-credentials",
        f"--service-account-private-key-file={CERTIFICATES}/service-account.key",
        f"--root-ca-file={CERTIFICATES}/ca.crt")
    yield start("kube-scheduler", kubeconfig("kube-scheduler"), "--leader-elect=false",
                "--bind-address=127.0.0.1")


def start_containerd(root):
    started = start("containerd", "--config", STATE / "containerd.toml", "--root", root,
                    program="/usr/bin/containerd")
    while not pathlib.Path(RUNTIME).exists():
        time.sleep(0.1)
    return started


def seed():
    """The images, unpacked: what containerd keeps of them is copied, which takes a second where their
    import takes half a minute. Layers are never written to, so links do; databases are copied."""
    wanted = "-".join(sorted(archive.stem[:12] for archive in (STATE / "images").glob("*.tar")))
    kept = SEEDS / wanted
    if not kept.exists():
        log("importing images")
        fresh = SEEDS / "new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        pid, _ = start_containerd(fresh)
        images.import_all(STATE / "images")
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        pathlib.Path(RUNTIME).unlink(missing_ok=True)
        for old in SEEDS.iterdir():
            if old != fresh:
                shutil.rmtree(old)
        fresh.rename(kept)
    run("cp", "--archive", "--link", kept, STATE / "containerd")
    for database in kept.glob("*/*.db"):
        copy = STATE / "containerd" / database.relative_to(kept)
        copy.unlink()
        shutil.copy2(database, copy)
    log("images are there")


def node():
    (STATE / "containerd.toml").write_text(CONTAINERD)
    (STATE / "cni" / "carpool.conflist").write_text(json.dumps(CNI))
    (STATE / "kubelet.json").write_text(json.dumps(KUBELET))
    (STATE / "proxy.json").write_text(json.dumps(PROXY))
    assert ipaddress.ip_address(NODE) not in ipaddress.ip_network(PODS)
    while not (STATE / "images" / "complete").exists():
        time.sleep(0.1)
    seed()
    yield start_containerd(STATE / "containerd")
    yield start("kubelet", kubeconfig("kubelet"), f"--config={STATE}/kubelet.json",
                f"--root-dir={STATE}/kubelet", f"--cert-dir={STATE}/kubelet/pki",
                f"--node-ip={NODE}", "--hostname-override=carpool")
    yield start("kube-proxy", f"--config={STATE}/proxy.json")


def main():
    prepare()
    running = dict(control_plane())
    if not CONTROL_PLANE:
        running.update(node())
    while True:
        try:
            pid, code = os.wait()
        except ChildProcessError:
            return
        if pid in running:
            log(f"{running.pop(pid)} ended: {os.waitstatus_to_exitcode(code)}")


if __name__ == "__main__":
    main()
