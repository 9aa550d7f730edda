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

from lab import BACKENDS, cpu_seconds, memory_mb, progress, wait
from report import Table

HERE = os.path.dirname(os.path.abspath(__file__))
SERVICE = ("10.97.0.1", 80)
FIGURES = {
    "api_mb": "sent by the API server, MB", "synced_s": "start to in sync, s", "cpu_s": "CPU until then, s",
    "peak_mb": "resident, most, MB", "rss_mb": "resident, settled, MB", "idle_cpu_percent": "idle CPU, %",
    "edits_per_s": "edits a second", "edit_p50_ms": "edit p50, ms", "edit_p99_ms": "edit p99, ms",
    "edit_cpu_percent": "CPU meanwhile, %", "peak_after_edits_mb": "resident, most, after edits, MB",
    "from_snapshot_s": "from the snapshot, s", "from_snapshot_peak_mb": "resident then, most, MB",
}
TEXT = ("An API server of our own sends Services and EndpointSlices as large as real ones. Sync is from the agent's "
        "start to everything in the kernel; an edit from the moment it is sent to the first connection that the new "
        "endpoint answers, while others are edited. The snapshot: the node restarts while the API server is away.")
DECODING = {"slices": "slices", "mb": "MB", "mb_per_s": "MB/s", "us_per_slice": "µs a slice", "memory_mb": "memory, MB"}


def measure(lab, quick):
    sizes, seconds = ((100,), 3) if quick else ((10000,), 30)
    columns = ["dataplane", "services"] + list(FIGURES.values())
    rows = []
    for dataplane in ("ebpf", "nftables"):
        for services in sizes:
            progress("control-plane: %s, %d services" % (dataplane, services))
            with lab.node("control") as node:
                row = one(node, dataplane, services, seconds, 1 if quick else 10)
            rows.append([dataplane, services] + [row[figure] for figure in FIGURES])
    # There are more figures than dataplanes.
    flat = [[columns[at]] + [row[at] for row in rows] for at in range(1, len(columns))]
    return [Table("The agent, from an API server", ["", *(row[0] for row in rows)], flat, TEXT)]


def decode(lab, quick):
    """How fast lists of EndpointSlices are read, as they come from an API server."""
    rows = []
    for slices in (100,) if quick else (1000, 50000):
        progress("decode: %d slices" % slices)
        listing = ["python3", HERE + "/apiserver.py", "--list", "--services", str(slices), "--endpoints", "10"]
        with subprocess.Popen(listing, stdout=subprocess.PIPE) as source:
            row = json.loads(subprocess.run(
                [lab.bin + "/heddle-bench", "decode"], stdin=source.stdout, capture_output=True, check=True).stdout)
        rows.append([row[figure] for figure in DECODING])
    return [Table("Reading EndpointSlices", list(DECODING.values()), rows,
                  "A list of EndpointSlices with 10 endpoints each, as an API server sends it, to objects; and the "
                  "memory that the reading took.")]


def one(node, dataplane, services, seconds, pause):
    for number, address in enumerate(BACKENDS):
        node.start("server", node.bin + "/heddle-bench", "serve", "--address", address, "--name", number)
    control = node.dir + "/control"
    api = node.start("node", "python3", HERE + "/apiserver.py", "--services", str(services), "--endpoints", "10",
                     "--backends", ",".join(BACKENDS), "--port", "6443", "--control", control,
                     log=node.dir + "/api.log")
    wait(lambda: os.path.exists(control + ".ready"), "the API server")
    with open(control + ".ready") as ready:
        row = {"api_mb": int(ready.read()) / 1e6}

    config = node.dir + "/kubeconfig"
    with open(config, "w") as file:
        json.dump({"apiVersion": "v1", "kind": "Config", "current-context": "bench",
                   "clusters": [{"name": "bench", "cluster": {"server": "http://127.0.0.1:6443"}}],
                   "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
                   "users": [{"name": "bench", "user": {}}]}, file)
    options = (dataplane, "kubernetes", "--kubeconfig", config)
    started = time.monotonic()
    agent = node.start_agent(*options)
    row["synced_s"] = time.monotonic() - started
    row["cpu_s"] = cpu_seconds(agent.pid)
    row["peak_mb"] = memory_mb(agent.pid, "VmHWM")
    time.sleep(pause)
    row["rss_mb"] = memory_mb(agent.pid)
    before, began = cpu_seconds(agent.pid), time.monotonic()
    time.sleep(pause / 2)
    row["idle_cpu_percent"] = 100 * (cpu_seconds(agent.pid) - before) / (time.monotonic() - began)

    before, began = cpu_seconds(agent.pid), time.monotonic()
    row.update(json.loads(node.inside("client", "python3", HERE + "/control_plane.py", control, seconds)))
    row["edit_cpu_percent"] = 100 * (cpu_seconds(agent.pid) - before) / (time.monotonic() - began)
    row["peak_after_edits_mb"] = memory_mb(agent.pid, "VmHWM")

    # The node restarts while the API server is away: all comes from the snapshot. Ending the agent writes it.
    node.stop(agent)
    node.stop(api)
    node.cleanup()
    started = time.monotonic()
    agent = node.start_agent(*options, is_synced=lambda status: status["sync"]["generation"] > 0)
    row["from_snapshot_s"] = time.monotonic() - started
    row["from_snapshot_peak_mb"] = memory_mb(agent.pid, "VmHWM")
    return row


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
