"""scripts/bench storm and restart: what clients notice while endpoints are replaced one after the other, and while the
agent is killed and started again.
"""
import concurrent.futures
import contextlib
import signal
import subprocess
import time

from lab import CPUS, ENDPOINT_IPS, Failure, progress, result
from report import Spread, Table, compare
from rivals import RIVALS
from services import ENDPOINTS, HEDDLES, PORT, make

RATE = 2000
TEXT = {
    "storm": "Connections through the service, 2,000 a second, each with a request and an answer, while its 10 "
             "endpoints are replaced one by one. `grace` is how long a pod still answers after the change is "
             "published: 0 is a pod without a preStop hook. Heddle: the agent reads the changed manifest, compiles "
             "and writes. The rulesets: the transaction is ready, only its program runs; kube-proxy would first wait "
             "for its sync period and make the text.",
    "restart": "The agent is killed (SIGKILL) and started half a second later, under 2,000 connections a second "
               "through the service. Adopting is from the start until all that the kernel holds is compared and in "
               "sync; failed are connections from before the kill until after it.",
}


@contextlib.contextmanager
def steady_clients(service):
    """Connections at a fixed rate while the block runs; yields a list that then holds the counts."""
    node, counts = service.node, []
    child = node.start(
        "client", "taskset", "-c", CPUS[-1], node.bin + "/heddle-bench", "steadily", "--target", service.tcp, "--rate",
        RATE, cgroup=node.traffic_cgroup, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    yield counts
    out, error = child.communicate()
    node.children.remove(child)
    if child.returncode:
        raise Failure("the client ended: %s%s" % (out.decode(), error.decode()))
    counts.append(result(out.decode()))


def storm(lab, quick):
    size, steps, graces = (100, 5, (0,)) if quick else (10000, 20, (0, 100))
    rows = []
    for name in ["heddle eBPF", "heddle nftables"] + list(RIVALS):
        progress("storm: %s, %d services" % (name, size))
        service = make(lab, name, size)
        server = service.node.serve(*ENDPOINTS)
        service.settle()
        for grace in graces:
            rows.append([name, size, grace] + replace_all(service, server, steps, grace / 1000))
        service.node.remove()
    columns = ["who", "services", "grace, ms", "endpoints replaced", "connections", "failed", "failed per million"]
    groups = ["%s, grace %d" % (row[0].replace("kube-proxy-shaped", "shaped"), row[2]) for row in rows]
    headline = "failed connections per million: " + compare(*zip(*((row[0], row[-1]) for row in rows if not row[2])))
    return [Table("Failed connections during a rolling update", columns, rows, TEXT["storm"], headline).chart(
        "failed per million", ["failed per million"], groups)]


def command(server, verb, *addresses):
    """What the server is asked to do is done some moments later; to listen where it listens already is nothing."""
    server.stdin.write("".join("%s %s\n" % (verb, address) for address in addresses).encode())
    server.stdin.flush()
    time.sleep(0.02 if verb == "listen" else 0)


def replace_all(service, server, steps, grace):
    """Replaces an endpoint every 300 ms, or as fast as it can be done."""
    pool = ["%s:%d" % (ip, PORT) for ip in ENDPOINT_IPS]
    endpoints = pool[:10]
    command(server, "listen", *endpoints)
    service.publish(endpoints)
    time.sleep(0.5)
    with steady_clients(service) as counts, concurrent.futures.ThreadPoolExecutor() as beside:
        time.sleep(0.3)
        for step in range(steps):
            began = time.monotonic()
            gone, new = endpoints[0], pool[(step + 10) % len(pool)]
            endpoints = endpoints[1:] + [new]
            command(server, "listen", new)
            published = beside.submit(service.publish, endpoints)
            time.sleep(grace)
            command(server, "close", gone)
            published.result()
            time.sleep(max(0, began + 0.3 - time.monotonic()))
    count = counts[0]
    return [steps, count["requests"], count["failed"], 1e6 * count["failed"] / count["requests"]]


def restart(lab, quick):
    size, times = (100, 1) if quick else (10000, 4)
    rows = []
    for name in HEDDLES:
        progress("restart: %s, %d services" % (name, size))
        service = make(lab, name, size)
        service.node.serve(*ENDPOINTS)
        adopting = []
        with steady_clients(service) as counts:
            for _ in range(times):
                time.sleep(0.5)
                service.node.stop(service.agent, signal.SIGKILL)
                time.sleep(0.5)
                started = time.monotonic()
                service.start()
                adopting.append(1000 * (time.monotonic() - started))
            time.sleep(0.5)
        rows.append([name, size, times, Spread(adopting), counts[0]["requests"], counts[0]["failed"]])
        service.node.remove()
    columns = ["dataplane", "services", "restarts", "adopting, ms", "connections", "failed"]
    headline = "failed connections: " + compare(*zip(*((row[0], row[-1]) for row in rows)))
    return [Table("The agent killed and started again", columns, rows, TEXT["restart"], headline)]
