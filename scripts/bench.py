"""Benchmarks Heddle on this machine and prints ratios. Started by scripts/bench, which builds what is measured.

Everything happens in network namespaces and cgroups named hd-bench-*, which are removed at the end.
"""
import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import bench_control_plane
import bench_l7

NODE, CLIENT, SERVER = "hd-bench-node", "hd-bench-client", "hd-bench-server"
POD_IP = {CLIENT: "10.1.0.2", SERVER: "10.1.0.3"}
BACKENDS = ["10.1.0.3:8080", "10.1.0.3:8081"]


def run(*argv, check=True, **kw):
    done = subprocess.run(argv, capture_output=True, text=True, **kw)
    if check and done.returncode:
        raise SystemExit("%s: %s%s" % (" ".join(argv), done.stdout, done.stderr))
    return done.stdout


def cgroup2():
    with open("/proc/mounts") as mounts:
        return next(line.split()[1] for line in mounts if line.split()[2] == "cgroup2")


class Lab:
    """One node with two pods: a client and a server."""

    def __init__(self, bindir, proxy=None):
        self.bin = bindir
        self.proxy = proxy
        self.cgroup = os.path.join(cgroup2(), "hd-bench")
        self.bpffs = "/sys/fs/bpf/hd-bench"
        self.dir = tempfile.mkdtemp(prefix="hd-bench-")
        self.children = []

    def __enter__(self):
        if not os.path.ismount("/sys/fs/bpf"):
            run("mount", "-t", "bpf", "bpf", "/sys/fs/bpf")
        os.makedirs(self.cgroup, exist_ok=True)
        for name in (NODE, CLIENT, SERVER):
            run("ip", "netns", "del", name, check=False)
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        for number, pod in enumerate((CLIENT, SERVER)):
            veth = ("type", "veth", "peer", "name", "eth0", "netns", pod)
            run("ip", "-n", NODE, "link", "add", "v%d" % number, *veth)
            run("ip", "-n", NODE, "link", "set", "v%d" % number, "up")
            run("ip", "-n", NODE, "addr", "add", "169.254.1.1/32", "dev", "v%d" % number)
            run("ip", "-n", NODE, "route", "add", POD_IP[pod] + "/32", "dev", "v%d" % number)
            run("ip", "-n", pod, "link", "set", "eth0", "up")
            run("ip", "-n", pod, "addr", "add", POD_IP[pod] + "/32", "dev", "eth0")
            run("ip", "-n", pod, "route", "add", "169.254.1.1", "dev", "eth0")
            run("ip", "-n", pod, "route", "add", "default", "via", "169.254.1.1", "dev", "eth0")
        run("ip", "-n", NODE, "link", "add", "up0", "type", "bridge")
        run("ip", "-n", NODE, "addr", "add", "192.168.0.2/24", "dev", "up0")
        run("ip", "-n", NODE, "link", "set", "up0", "up")
        run("ip", "-n", NODE, "route", "add", "default", "via", "192.168.0.1", "dev", "up0")
        self.inside(NODE, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        return self

    def __exit__(self, *_):
        for child in self.children:
            child.kill()
            child.wait()
        self.cleanup()
        for name in (NODE, CLIENT, SERVER):
            run("ip", "netns", "del", name, check=False)
        for _ in range(100):
            try:
                os.rmdir(self.cgroup)
                break
            except OSError:
                time.sleep(0.05)
        shutil.rmtree(self.dir, ignore_errors=True)

    def command(self, where, *argv):
        enter = 'echo 0 > "$0/cgroup.procs" && exec nsenter --net=/run/netns/%s "$@"' % where
        return ["sh", "-c", enter, self.cgroup, *argv]

    def inside(self, where, *argv):
        return run(*self.command(where, *argv))

    def start(self, where, *argv, log=None):
        out = open(log, "w") if log else subprocess.DEVNULL
        child = subprocess.Popen(self.command(where, *argv), stdout=out, stderr=subprocess.STDOUT)
        self.children.append(child)
        return child

    def stop(self, child):
        child.send_signal(signal.SIGTERM)
        child.wait()
        self.children.remove(child)

    def bench(self, where, *argv, wrapper=()):
        text = self.inside(where, *wrapper, self.bin + "/heddle-bench", *map(str, argv))
        return json.loads(text.strip().splitlines()[-1])

    def cleanup(self):
        self.agentctl("cleanup")

    def agentctl(self, *argv):
        where = ("--bpffs", self.bpffs, "--api-socket", self.dir + "/agent.sock")
        return self.inside(NODE, self.bin + "/agentctl", *argv, *where)

    def program(self, dataplane, services, endpoints, updates, target):
        return self.bench(
            NODE, "programming", "--dataplane", dataplane, "--services", services, "--endpoints", endpoints,
            "--updates", updates, "--target", target, "--cgroup", self.cgroup, "--bpffs", self.bpffs)


def progress(text):
    print("  " + text, file=sys.stderr, flush=True)


def programming(lab, sizes):
    rows = []
    for dataplane in ("ebpf", "nftables"):
        for services in sizes:
            progress("programming: %s, %d services x 10 endpoints" % (dataplane, services))
            row = lab.program(dataplane, services, 10, 200, BACKENDS[0])
            lab.cleanup()
            rows.append(dict(row, dataplane=dataplane, services=services))
    return rows


def connect(lab, sizes, count):
    rows = []
    server = lab.start(SERVER, lab.bin + "/heddle-bench", "serve", "--address", BACKENDS[0])
    time.sleep(0.3)
    for dataplane in ("ebpf", "nftables"):
        for services in sizes:
            progress("connect: %s, %d services loaded" % (dataplane, services))
            lab.program(dataplane, services, 10, 0, BACKENDS[0])
            row = lab.bench(CLIENT, "connect", "--services", services, "--direct", BACKENDS[0], "--count", count)
            lab.cleanup()
            rows.append(dict(row, dataplane=dataplane, services=services))
    lab.stop(server)
    return rows


def resident(pid):
    with open("/proc/%d/status" % pid) as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


def cpu_seconds(pid):
    with open("/proc/%d/stat" % pid) as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def agent(lab, sizes, count):
    rows = []
    servers = [lab.start(SERVER, lab.bin + "/heddle-bench", "serve", "--address", address, "--name", str(number))
               for number, address in enumerate(BACKENDS)]
    for dataplane in ("ebpf", "nftables"):
        for services in sizes:
            progress("agent: %s, %d services in files" % (dataplane, services))
            manifests = os.path.join(lab.dir, "manifests")
            shutil.rmtree(manifests, ignore_errors=True)
            os.makedirs(manifests)
            if services:
                run(lab.bin + "/heddle-bench", "manifests", "--services", str(services), "--endpoints", "10",
                    "--out", manifests)
            started = time.monotonic()
            child = lab.start(
                NODE, lab.bin + "/heddle-agent", "run", "--node-name", "node-1", "--source", "manifests:" + manifests,
                "--dataplane", dataplane, "--cgroup", lab.cgroup, "--bpffs", lab.bpffs,
                "--cluster-cidr", "10.0.0.0/8", "--state-dir", lab.dir + "/state", "--map-backends", "2097152",
                "--api-socket", lab.dir + "/agent.sock", "--min-sync-period", "0s", log=lab.dir + "/agent.log")
            while not os.path.exists(lab.dir + "/agent.sock"):
                time.sleep(0.01)
            lab.agentctl("status", "--wait", "120s")
            row = {"dataplane": dataplane, "services": services, "start_to_sync_s": time.monotonic() - started}
            row.update(lab.bench(
                CLIENT, "edits", "--manifests", manifests, "--service", "10.97.0.1:80", "--backend0", BACKENDS[0],
                "--backend1", BACKENDS[1], "--count", count))
            time.sleep(3)
            before, t0 = cpu_seconds(child.pid), time.monotonic()
            time.sleep(10)
            row["idle_cpu_percent"] = 100 * (cpu_seconds(child.pid) - before) / (time.monotonic() - t0)
            row["rss_mb"] = resident(child.pid)
            lab.stop(child)
            lab.cleanup()
            rows.append(row)
    for server in servers:
        lab.stop(server)
    return rows


def cell(value):
    if not isinstance(value, float):
        return str(value)
    return "%.3g" % value if value < 1000 else "%.0f" % value


def table(rows):
    columns = []
    for row in rows:
        columns += [name for name in row if name not in columns]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        lines.append("| " + " | ".join(cell(row.get(name, "")) for name in columns) + " |")
    return "\n".join(lines)


def plot(rows, value, title):
    """A bar for each row, drawn in text: longer is slower."""
    most = max((row[value] for row in rows if value in row), default=0) or 1
    lines = [title]
    for row in rows:
        if value in row:
            bar = "#" * max(1, round(40 * row[value] / most))
            lines.append("  %-8s %6d services  %-40s %.3g" % (row["dataplane"], row["services"], bar, row[value]))
    return "\n".join(lines)


PLOTS = {
    "programming": [("load_ms", "full load, ms"), ("update_p50_us", "one endpoint changed, compile to kernel, us")],
    "connect": [("ratio_p50", "connect() through the service / direct, median")],
    "agent": [("edit_p50_us", "file renamed -> new endpoint answers, us"), ("rss_mb", "agent resident memory, MB")],
    "decode": [],
    "control-plane": [("synced_s", "agent started -> all from an API server in the kernel, s"),
                      ("edit_p99_ms", "edit sent by the API server -> new endpoint answers, at 100 edits/s, p99, ms")],
    "l7": [],
}


def tabulate(what, rows):
    if what == "l7":
        return bench_l7.markdown(rows)
    return "\n\n".join([table(rows)] + ["```\n" + plot(rows, *p) + "\n```" for p in PLOTS[what]])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=list(PLOTS), help=", ".join(PLOTS))
    parser.add_argument("--bin", required=True, help="directory of the release binaries")
    parser.add_argument("--proxy", help="heddle-proxy as released, for l7")
    parser.add_argument("--out", default="bench-results")
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds: does it still run?")
    options = parser.parse_args()
    unknown = [what for what in options.what if what not in PLOTS]
    if unknown:
        parser.error("no such benchmark: %s (there are %s)" % (", ".join(unknown), ", ".join(PLOTS)))
    os.makedirs(options.out, exist_ok=True)
    quick = options.quick
    with Lab(options.bin, options.proxy) as lab:
        for what in options.what:
            if what == "programming":
                rows = programming(lab, (100,) if quick else (100, 1000, 10000, 50000))
            elif what == "connect":
                rows = connect(lab, (1,) if quick else (1, 1000, 10000), 500 if quick else 20000)
            elif what == "control-plane":
                rows = bench_control_plane.measure(
                    lab, NODE, CLIENT, SERVER, BACKENDS, (100,) if quick else (10000,), 5 if quick else 60)
            elif what == "l7":
                rows = bench_l7.measure(lab, NODE, quick)
            elif what == "decode":
                rows = bench_control_plane.decode(lab, (100,) if quick else (1000, 50000))
            else:
                rows = agent(lab, (10,) if quick else (0, 100, 10000), 20 if quick else 200)
            text = tabulate(what, rows)
            print("## %s\n\n%s\n" % (what, text), flush=True)
            with open(os.path.join(options.out, what + ".json"), "w") as file:
                json.dump(rows, file, indent=1)
            with open(os.path.join(options.out, what + ".md"), "w") as file:
                file.write(text + "\n")


main()
