"""scripts/bench control-plane: a large cluster through an API server, from the agent's start to the first connection
that an edit has moved. Also started by itself inside the client's namespace, as the one who connects.
"""
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SERVICE = ("10.97.0.1", 80)


def measure(lab, node, client, server, backends, sizes, seconds):
    """One row for each dataplane and size; `node`, `client` and `server` are namespaces."""
    rows = []
    servers = [lab.start(server, lab.bin + "/heddle-bench", "serve", "--address", address, "--name", str(number))
               for number, address in enumerate(backends)]
    for dataplane in ("ebpf", "nftables"):
        for services in sizes:
            print("  control-plane: %s, %d services" % (dataplane, services), file=sys.stderr, flush=True)
            rows.append(dict(dataplane=dataplane, services=services,
                             **one(lab, node, client, backends, dataplane, services, seconds)))
            lab.cleanup()
    for child in servers:
        lab.stop(child)
    return rows


def decode(lab, sizes):
    """How fast lists of EndpointSlices are read, as they come from an API server."""
    rows = []
    for slices in sizes:
        listing = ["python3", HERE + "/bench_apiserver.py", "--list", "--services", str(slices), "--endpoints", "10"]
        with subprocess.Popen(listing, stdout=subprocess.PIPE) as source:
            rows.append(json.loads(subprocess.run(
                [lab.bin + "/heddle-bench", "decode"], stdin=source.stdout, capture_output=True, check=True).stdout))
    return rows


def one(lab, node, client, backends, dataplane, services, seconds):
    control = lab.dir + "/control"
    for name in (control, control + ".ready", lab.dir + "/agent.sock"):
        if os.path.exists(name):
            os.unlink(name)
    subprocess.run(["rm", "-rf", lab.dir + "/state"], check=True)
    api = lab.start(node, "python3", HERE + "/bench_apiserver.py", "--services", str(services), "--endpoints", "10",
                    "--backends", ",".join(backends), "--port", "6443", "--control", control,
                    log=lab.dir + "/api.log")
    wait(lambda: os.path.exists(control + ".ready"), "the API server")
    with open(control + ".ready") as ready:
        row = {"api_mb": int(ready.read()) / 1e6}

    agent, started = start_agent(lab, node, dataplane)
    lab.agentctl("status", "--wait", "300s")
    row["synced_s"] = time.monotonic() - started
    row["cpu_s"] = cpu_seconds(agent.pid)
    row["peak_mb"] = memory(agent.pid, "VmHWM")
    time.sleep(10)
    row["rss_mb"] = memory(agent.pid, "VmRSS")
    before, began = cpu_seconds(agent.pid), time.monotonic()
    time.sleep(5)
    row["idle_cpu_percent"] = 100 * (cpu_seconds(agent.pid) - before) / (time.monotonic() - began)

    before, began = cpu_seconds(agent.pid), time.monotonic()
    row.update(json.loads(lab.inside(client, "python3", HERE + "/bench_control_plane.py", control, str(seconds))))
    row["edit_cpu_percent"] = 100 * (cpu_seconds(agent.pid) - before) / (time.monotonic() - began)
    row["peak_after_edits_mb"] = memory(agent.pid, "VmHWM")

    # The node restarts while the API server is away: all comes from the snapshot. Ending the agent writes it.
    lab.stop(agent)
    lab.stop(api)
    lab.cleanup()
    os.path.exists(lab.dir + "/agent.sock") and os.unlink(lab.dir + "/agent.sock")
    agent, started = start_agent(lab, node, dataplane)
    wait(lambda: status(lab)["sync"]["generation"] > 0, "the snapshot in the kernel")
    row["from_snapshot_s"] = time.monotonic() - started
    row["from_snapshot_peak_mb"] = memory(agent.pid, "VmHWM")
    lab.stop(agent)
    return row


def start_agent(lab, node, dataplane):
    config = lab.dir + "/kubeconfig"
    with open(config, "w") as file:
        json.dump({"apiVersion": "v1", "kind": "Config", "current-context": "bench",
                   "clusters": [{"name": "bench", "cluster": {"server": "http://127.0.0.1:6443"}}],
                   "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
                   "users": [{"name": "bench", "user": {}}]}, file)
    started = time.monotonic()
    agent = lab.start(
        node, lab.bin + "/heddle-agent", "run", "--node-name", "node-1", "--source", "kubernetes", "--kubeconfig",
        config, "--dataplane", dataplane, "--cgroup", lab.cgroup, "--bpffs", lab.bpffs, "--cluster-cidr", "10.0.0.0/8",
        "--state-dir", lab.dir + "/state", "--api-socket", lab.dir + "/agent.sock", "--min-sync-period", "0s",
        log=lab.dir + "/agent.log")
    wait(lambda: os.path.exists(lab.dir + "/agent.sock"), "the agent's socket")
    return agent, started


def status(lab):
    return json.loads(lab.agentctl("status", "-o", "json"))


def wait(condition, what):
    end = time.monotonic() + 300
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("%s did not come within five minutes" % what)
        time.sleep(0.01)


def memory(pid, field):
    with open("/proc/%d/status" % pid) as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(field))


def cpu_seconds(pid):
    with open("/proc/%d/stat" % pid) as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def who_answers():
    """Connects through the service; the server says its number. Closes with RST, so that no port waits."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        try:
            connection.connect(SERVICE)
            return connection.recv(1)
        except OSError:
            return b""


def edit_and_connect(control, seconds):
    """A hundred edits a second. Every tenth moves our service, and is timed until a connection shows it."""
    with socket.socket(socket.AF_UNIX) as api:
        api.connect(control)
        finished = threading.Event()

        def edit_others():
            begin, count = time.monotonic(), 0
            while not finished.wait(max(0, begin + count / 90 - time.monotonic())):
                api.sendall(b"edit\n")
                count += 1
            totals.append(count)

        totals, samples = [], []
        thread = threading.Thread(target=edit_others)
        thread.start()
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            which = (len(samples) + 1) % 2
            edited = time.monotonic()
            api.sendall(b"probe %d\n" % which)
            while who_answers() != bytes([which]):
                if time.monotonic() - edited > 10:
                    raise SystemExit("an edit has no effect after 10 s")
            samples.append(time.monotonic() - edited)
            time.sleep(max(0, begin + len(samples) / 10 - time.monotonic()))
        took = time.monotonic() - begin
        finished.set()
        thread.join()
    samples = sorted(samples[5:])
    print(json.dumps({
        "edits_per_s": (totals[0] + len(samples)) / took, "edit_p50_ms": 1000 * samples[len(samples) // 2],
        "edit_p99_ms": 1000 * samples[len(samples) * 99 // 100]}))


if __name__ == "__main__":
    edit_and_connect(sys.argv[1], float(sys.argv[2]))
