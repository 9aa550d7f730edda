"""scripts/bench mesh: what it costs to pass a connection through a tunnel between two nodes, for both proxies together:
Heddle's beside two Envoys, in turns on the same core, and beside the same connection without any. Also started by
itself inside a pod, as the client who holds connections.
"""
import json
import os
import resource
import socket
import subprocess
import sys
import time

import bpf
import mesh_lab
from l7_peers import find_envoy, write
from lab import CPUS, Missing, cpu_seconds, going_first, memory_mb, progress, result, run, wait
from report import Spread, Table, compare, ratios

FIGURES = {
    "connection": "CPU of a new connection, µs",
    "stream": "CPU of a MB, µs",
    "request": "CPU of a request at 1,000/s, µs",
    "connection_kernel": "of a new connection's in the kernel, µs",
    "stream_kernel": "of a MB's in the kernel, µs",
    "p50_us": "added to a request, p50, µs",
    "p99_us": "added to a request, p99, µs",
    "near_kb": "client's side, KB for each idle stream",
    "far_kb": "server's side, KB for each idle stream",
}
TEXT = ("CPU is that of both proxies together, each with one thread, all on one core; load and servers are on another. "
        "A connection is opened, asks 64 bytes, and is ended in order by both sides; tunnels are there already. "
        "Requests are of 100 bytes each way on 16 connections that are kept; what is added is the difference to the "
        "same requests of the same round without proxies, where all who take part go before the machine's other work. "
        "Median of the rounds (least–most), Heddle's divided by Envoy's in the same round. TLS alone is BoringSSL "
        "with both ends in one program and nothing between (bench-tls): what no tunnel can be cheaper than; its "
        "first figure is a whole handshake, of which a new connection in a tunnel has none. Both proxies write a line "
        "for each connection. Envoy's tunnel is from its pod's loopback, Heddle's from the Service's address. What was "
        "in the kernel is known to a hundredth of a second for each round.")
ALONE = ("`sk_lookup` runs: how often the program at the door of the server's pod was run, from the kernel's own count "
         "(BPF_ENABLE_STATS); the program is run for the one connection from the proxy to the application. More than "
         "that fails the run. Certificates: the time from the start of a proxy with one thread until every identity of "
         "its node has one, signed by the agent beside it, both on one core.")


def measure(lab, quick):
    if len(CPUS) < 2:
        raise Missing("it needs two cores: one for the proxies, one for the load")
    mesh = mesh_lab.Mesh(lab, find_envoy())
    figures = in_turns(mesh, *((1, 200, 32, 1, 200) if quick else (5, 2000, 400, 3, 1000)))
    tls = result(run(lab.bin + "/bench-tls", mesh.authority + "/root-cert.pem", mesh.dir + "/client.pem",
                     mesh.dir + "/client.key", "20" if quick else "200"))
    doors = at_the_door(mesh, 50 if quick else 500)
    lab.remove_nodes()
    return [table(figures, tls), alone(doors, identities(lab, 100 if quick else 1000))]


def in_turns(mesh, rounds, connections, megabytes, seconds, streams):
    """A value for each round: figure -> way -> values."""
    values = {figure: {way.name: [] for way in mesh.ways} for figure in FIGURES}
    tunnels = mesh.ways[1:]
    for way in tunnels:
        mesh.traffic(way, "whole", 100)
        # First: later there is room of what was used meanwhile.
        for figure, kilobytes in zip(("near_kb", "far_kb"), idle(way, streams)):
            values[figure][way.name].append(kilobytes)
        mesh.traffic(way, "whole", connections // 4)
        mesh.traffic(way, "stream", megabytes // 4)
    for turn in range(rounds):
        progress("mesh: round %d of %d" % (turn + 1, rounds))
        order = [tunnels[(turn + step) % len(tunnels)] for step in range(len(tunnels))]
        direct = rate(mesh, mesh.ways[0], seconds)[0]
        for way in order:
            through, used = rate(mesh, way, seconds)
            for part in ("p50_us", "p99_us"):
                values[part][way.name].append(through[part] - direct[part])
            values["request"][way.name].append(1e6 * used)
        # In short turns: what disturbs one then disturbs the other as well.
        for figure, kind, count in (("connection", "whole", connections // 2), ("stream", "stream", megabytes // 2)):
            for way in order * 2:
                for part, used in zip((figure, figure + "_kernel"), mesh.traffic(way, kind, count)):
                    values[part][way.name].append(1e6 * used)
    return values


def rate(mesh, way, seconds):
    """Latencies, and CPU seconds of the proxies for each request."""
    before = way.cpu()
    with going_first(mesh.servers + way.proxies):
        answer = way.node.bench(way.place, "rate", "--target", way.target, "--rate", 1000, "--seconds", seconds,
                                "--echo", wrapper=("taskset", "-c", CPUS[-1], "chrt", "--fifo", "1"))
    # Half a second goes before, to warm up.
    return answer, (way.cpu() - before) / (1000 * (seconds + 0.5))


def idle(way, count):
    """What each proxy has more for each of so many connections, in KB."""
    before = way.resident()
    holder = subprocess.Popen(way.node.command(way.place, "python3", os.path.abspath(__file__), way.target, count),
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    holder.stdout.readline()
    after = way.resident()
    holder.stdin.close()
    holder.wait()
    return [1024 * (now - then) / count for then, now in zip(before, after)]


def at_the_door(mesh, connections):
    """Runs of the program in the server's pod, for each connection: what, how many, and what is right."""
    way, far = mesh.ways[1], mesh.nodes[1]
    rows = []
    with bpf.descriptor(bpf.ENABLE_STATS, bytes(4)):
        def count(what, of, kind, operations, allowed):
            before = far.steered()
            mesh.traffic(of, kind, operations)
            rows.append([what, (far.steered() - before) / (operations + max(1, operations // 10)), allowed])
        # Something else may begin meanwhile, and a connection has its own beginning.
        count("sk_lookup runs, a new connection in a tunnel", way, "whole", connections, 1.1)
        count("sk_lookup runs, a MB on a connection", way, "stream", 100, 0.1)
        count("sk_lookup runs, a new connection to a pod outside", mesh.ways[0], "whole", connections, 0.1)
    return rows


def identities(lab, count):
    progress("mesh: %d identities" % count)
    node = mesh_lab.MeshNode(lab, 1)
    manifests = node.dir + "/manifests"
    os.mkdir(manifests)
    write(manifests + "/pods.yaml", "".join(
        mesh_lab.pod_manifest("pod-%d" % number, "account-%d" % number, "10.9.%d.%d" % divmod(number + 256, 256),
                              node.node_name, mesh_lab.ENROLLED) for number in range(count)))
    agent = node.start_agent("ebpf", "manifests:" + manifests, "--ca", "directory:%s/authority" % node.dir, "--proxy",
                             "external", "--proxy-socket", node.dir + "/proxy.sock")
    run("taskset", "-a", "-p", "-c", str(mesh_lab.PROXY_CORE), str(agent.pid))
    before, started = cpu_seconds(agent.pid), time.monotonic()
    proxy = node.start_proxy()
    wait(lambda: node.certificates() == count, "%d certificates" % count, 120)
    took = time.monotonic() - started
    return [["%d identities: until each has a certificate, s" % count, took, None],
            ["%d identities: CPU of the agent, s" % count, cpu_seconds(agent.pid) - before, None],
            ["%d identities: CPU of the proxy, s" % count, cpu_seconds(proxy.pid), None],
            ["%d identities: resident, the proxy, MB" % count, memory_mb(proxy.pid), None]]


def table(figures, tls):
    limit = {"connection": tls["handshake_us"], "stream": tls["megabyte_us"]}
    names = [name for name in ("Heddle", "Envoy") if name in figures["connection"]]
    rows = [[FIGURES[figure], limit.get(figure)] + [Spread(values[name]) for name in names]
            + ([ratios(values["Heddle"], values["Envoy"])] if "Envoy" in names else [])
            for figure, values in figures.items()]
    columns = ["figure", "TLS alone"] + names + (["÷ Envoy"] if "Envoy" in names else [])
    headline = "CPU µs of a new connection: %s; of a MB: %s" % tuple(compare(names, row[2:]) for row in rows[:2])
    return Table("Tunnels between two nodes", columns, rows, TEXT, headline).chart(
        "CPU µs of both proxies", names, ["a connection", "a MB", "a request"] + [""] * (len(rows) - 3))


def alone(doors, identities):
    broken = ["%s: %.3f, more than %.3f" % row for row in map(tuple, doors) if row[1] > row[2]]
    return Table("Heddle's side of it", ["figure", "value", "limit"], doors + identities, ALONE, broken=broken)


def hold(target, count):
    """Keeps connections, each of which has had one answer, until its input ends."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, count + 100))
    address, port = target.split(":")
    held = []
    for _ in range(count):
        connection = socket.create_connection((address, int(port)))
        connection.sendall(b"e" * 64)
        connection.recv(64)
        held.append(connection)
    print(json.dumps({"held": len(held)}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    hold(sys.argv[1], int(sys.argv[2]))
