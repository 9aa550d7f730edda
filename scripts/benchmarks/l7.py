"""scripts/bench l7: heddle-proxy beside HAProxy, Envoy and nginx. One run, the same backends and load for all, each
proxy alone on one core, measured in turns. Also started by itself inside the namespace, as the client who holds
connections.
"""
import glob
import json
import os
import re
import resource
import socket
import subprocess
import sys
import time

import l7_peers as peers
from lab import CPUS, Failure, Missing, going_first, memory_mb, progress, thread_seconds
from report import Spread, Table, compare, ratios

HERE = os.path.dirname(os.path.abspath(__file__))
FIGURES = {
    "cpu_us": "CPU per request, µs",
    "cpu_logged_us": "CPU per request with access log, µs",
    "rps": "requests/s of one core",
    "h2_cpu_us": "CPU per request over HTTP/2 on both sides, µs",
    "h2_rps": "requests/s of one core over HTTP/2",
    "grpc_cpu_us": "CPU per gRPC call, 100 bytes each way, µs",
    "stream_cpu_us": "CPU per gRPC message of 100 bytes on streams, µs",
    "added_p50_us": "added at 1,000 requests/s, p50, µs",
    "added_p99_us": "added at 1,000 requests/s, p99, µs",
    "body_mb_s": "long bodies, MB/s",
    "body_cpu_us": "long bodies, CPU per MB, µs",
    "h2_body_cpu_us": "long bodies over HTTP/2, CPU per MB, µs",
    "rss_idle_mb": "resident, idle, MB",
    "rss_per_1000_mb": "resident, 1,000 idle connections more, MB",
    "h2_rss_per_1000_mb": "resident, 1,000 idle HTTP/2 connections more, MB",
    "rss_load_mb": "resident under load, MB",
}
PEERS = ("HAProxy", "Envoy")
TEXT = ("The same backends, features and load for all, each proxy alone on one core, in turns. Median of the rounds "
        "(least–most), and Heddle's divided by that of another in the same round. Latencies are differences to the "
        "same requests without a proxy, which is why one can be negative. CPU is that of the proxy. gRPC is HTTP/2 on "
        "both sides; h2load calls (unary), or a client of 16 streams with four messages under way on each, and a "
        "service gives messages back: both of the benchmark, gRPC byte for byte but without a framework, so that one "
        "core of load keeps one of a proxy busy. Envoy counts their messages as Heddle does, HAProxy cannot. Envoy "
        "comes from PyPI; where that cannot be reached it is missing.")
HTTP1 = ["--h1"]
# Requests at once on each connection.
HTTP2 = ["-m", "16"]


class Proxy:
    def __init__(self, lab, node, name, port, log=None, wire="http1"):
        self.lab, self.node, self.name, self.port, self.log = lab, node, name, port, log
        options = {} if wire == "http1" else {"wire": wire}
        self.child = peers.PROXIES[name](lab, node, port, log, **options)
        self.values = {}
        for _ in range(200):
            if self.child.poll() is None and (self.calls() if wire == "grpc" else self.curl("/small") == peers.BODY):
                break
            time.sleep(0.05)
        else:
            texts = [open(path).read() for path in glob.glob("%s/%s*.log" % (lab.dir, name.lower()))]
            raise Failure("%s does not answer: %s" % (name, "".join(texts)))

    def curl(self, path, *options):
        command = ("curl", "-s", "-m", "2", *options, "http://127.0.0.1:%d%s" % (self.port, path))
        return subprocess.run(self.lab.command(self.node, *command), capture_output=True, text=True).stdout

    def calls(self):
        """One whole call of gRPC: the message comes back, and so does the status behind it."""
        answer = self.curl("/shop.Web/Get", *peers.GRPC, "--http2-prior-knowledge", "-i", "--data-binary",
                           "@" + self.lab.message)
        return "x" * peers.GRPC_BYTES in answer and "grpc-status: 0" in answer

    def add(self, figure, value):
        self.values.setdefault(figure, []).append(value)

    def cpu(self):
        return thread_seconds(self.child.pid)

    def resident(self):
        return memory_mb(self.child.pid)

    def check(self):
        """Does it do the work that is measured?"""
        def versions(count, *options):
            command = ["curl", "-s", "-m", "10", "-o", "/dev/null", "-w", "%header{x-version}\n", *options]
            command.append("http://127.0.0.1:%d/small?[1-%d]" % (self.port, count))
            out = subprocess.run(self.lab.command(self.node, *command), capture_output=True, text=True).stdout.split()
            return out.count("v1"), out.count("v2")

        pinned, split = versions(50, "-H", "x-canary: yes"), versions(500)
        seen = self.curl("/seen").split()
        if pinned != (0, 50) or sum(split) != 500 or not 15 <= split[1] <= 100 or len(seen) != 3:
            raise Failure("%s: pinned %s, split %s, the backend saw %s" % (self.name, pinned, split, seen))

    # ---------------------------------------------------------------------------------------------------- measurements

    def h2load(self, count, clients, path, *options):
        """Requests a second, and CPU seconds of the proxy."""
        before = self.cpu()
        text = subprocess.run(self.lab.command(
            self.node, "taskset", "-c", peers.LOAD_CORE, "h2load", *options, "-n", str(count), "-c", str(clients),
            "-t", "1", "http://127.0.0.1:%d%s" % (self.port, path)), capture_output=True, text=True).stdout
        used = self.cpu() - before
        if "status codes: %d 2xx" % count not in text:
            raise Failure("%s under load: %s" % (self.name, text))
        return float(re.search(r"finished in .*?, ([\d.]+) req/s", text)[1]), used

    def throughput(self, count):
        rps, used = self.h2load(count, 32, "/small", *HTTP1)
        self.add("cpu_us", 1e6 * used / count)
        self.add("rps", rps)
        self.add("rss_load_mb", self.resident())

    def logged(self, count):
        _, used = self.h2load(count, 32, "/small", *HTTP1)
        os.truncate(self.log, 0)
        return 1e6 * used / count

    def over_http2(self, count):
        rps, used = self.h2load(count, 8, "/small", *HTTP2)
        self.add("h2_cpu_us", 1e6 * used / count)
        self.add("h2_rps", rps)

    def bodies(self, count):
        rps, used = self.h2load(count, 4, "/big", *HTTP1)
        self.add("body_mb_s", rps * peers.BIG_MB)
        self.add("body_cpu_us", 1e6 * used / count / peers.BIG_MB)

    def bodies_over_http2(self, count):
        _, used = self.h2load(count, 4, "/big")
        self.add("h2_body_cpu_us", 1e6 * used / count / peers.BIG_MB)

    def grpc(self, count):
        _, used = self.h2load(count, 8, "/shop.Web/Get", *HTTP2, *peers.GRPC, "-d", self.lab.message)
        self.add("grpc_cpu_us", 1e6 * used / count)

    def grpc_streams(self, count):
        """Each message counts once in each direction."""
        before = self.cpu()
        answered = self.lab.bench(
            self.node, "grpc-streams", "--target", "127.0.0.1:%d" % self.port, "--streams", 16, "--under-way", 4,
            "--size", peers.GRPC_BYTES, "--messages", count, wrapper=("taskset", "-c", peers.LOAD_CORE))["messages"]
        self.add("stream_cpu_us", 1e6 * (self.cpu() - before) / answered / 2)

    def connections(self, figure, ask, count=1000):
        before = self.resident()
        holder = subprocess.Popen(
            self.lab.command(self.node, "python3", HERE + "/l7.py", ask, str(self.port), str(count)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        holder.stdout.readline()
        self.add(figure, (self.resident() - before) * 1000 / count)
        holder.stdin.close()
        holder.wait()


def rate(lab, node, backend, proxy, seconds):
    """Latencies at 1,000 requests/s."""
    address = "127.0.0.1:%d" % proxy.port if proxy else peers.backends("v1")[0]
    with going_first([backend, proxy.child] if proxy else [backend]):
        return lab.bench(node, "rate", "--target", address, "--rate", 1000, "--seconds", seconds,
                         wrapper=("taskset", "-c", peers.LOAD_CORE, "chrt", "--fifo", "1"))


def measure(lab, quick):
    if len(CPUS) < 2:
        raise Missing("it needs two cores: one for the proxy, one for the load")
    with lab.node("l7") as node:
        return [table(in_turns(node, "node", quick))]


def in_turns(lab, node, quick):
    """The figures of each proxy, a value for each round: figure -> proxy -> values."""
    rounds, requests, bodies, seconds = (1, 8000, 4, 1) if quick else (4, 60000, 48, 4)
    lab.envoy = peers.find_envoy()
    backend = peers.start_backends(lab, node)
    peers.start_grpc(lab, node)
    lab.message = peers.grpc_message(lab)
    proxies, logged, http2, grpc = [], [], [], []
    def present(names):
        return [name for name in names if name != "Envoy" or lab.envoy]

    for number, name in enumerate(present(peers.PROXIES)):
        progress("l7: %s starts" % name)
        proxy = Proxy(lab, node, name, 15001 + number)
        proxy.check()
        time.sleep(1)
        proxy.add("rss_idle_mb", proxy.resident())
        proxy.connections("rss_per_1000_mb", "http1")
        proxy.h2load(requests // 4, 32, "/small", *HTTP1)
        proxies.append(proxy)
        logged.append(Proxy(lab, node, name, 15011 + number, "%s/%s-access.log" % (lab.dir, name)))
    for number, name in enumerate(present(peers.HTTP2_PROXIES)):
        http2.append(Proxy(lab, node, name, 15021 + number, wire="h2c"))
        time.sleep(1)
        http2[-1].connections("h2_rss_per_1000_mb", "http2")
        grpc.append(Proxy(lab, node, name, 15031 + number, wire="grpc"))
        http2[-1].over_http2(requests // 4)
        grpc[-1].grpc(requests // 4)
        del http2[-1].values["h2_cpu_us"], http2[-1].values["h2_rps"]
        grpc[-1].values.clear()
    for turn in range(rounds):
        progress("l7: round %d of %d" % (turn + 1, rounds))
        direct = rate(lab, node, backend, None, seconds)
        order = [(turn + step) % len(proxies) for step in range(len(proxies))]
        for proxy in (proxies[index] for index in order):
            through = rate(lab, node, backend, proxy, seconds)
            for part in ("p50_us", "p99_us"):
                proxy.add("added_" + part, through[part] - direct[part])
        # In short turns: what disturbs one then disturbs the others as well.
        for index in order * 4:
            proxies[index].throughput(requests // 4)
        for index in order:
            proxies[index].add("cpu_logged_us", logged[index].logged(requests // 2))
        for index in order:
            proxies[index].bodies(bodies)
        for step in range(turn, turn + 4 * len(http2)):
            index = step % len(http2)
            http2[index].over_http2(requests // 4)
            grpc[index].grpc(requests // 4)
            grpc[index].grpc_streams(requests // 4)
        for step in range(turn, turn + len(http2)):
            http2[step % len(http2)].bodies_over_http2(bodies)
    return {figure: {proxy.name: proxy.values[figure] for proxy in proxies + http2 + grpc if figure in proxy.values}
            for figure in FIGURES}


def table(figures):
    rows = []
    for figure, values in figures.items():
        heddle = values["Heddle"]
        rows.append([FIGURES[figure]] + [Spread(values[name]) if name in values else None for name in peers.PROXIES] + [
            ratios(heddle, values[peer]) if peer in values else None for peer in PEERS])
    columns = ["figure"] + list(peers.PROXIES) + ["÷ " + peer for peer in PEERS]
    drawn = {"cpu_us": "HTTP/1.1", "cpu_logged_us": "with access log", "h2_cpu_us": "HTTP/2",
             "grpc_cpu_us": "gRPC", "body_cpu_us": "bodies, a MB", "h2_body_cpu_us": "over HTTP/2"}
    headline = "CPU µs per request: " + compare(peers.PROXIES, rows[0][1:])
    return Table("L7 proxies", columns, rows, TEXT, headline).chart(
        "CPU µs per request", list(peers.PROXIES), [drawn.get(figure) for figure in figures])


def ask_http1(connection):
    connection.sendall(b"GET /small HTTP/1.1\r\nHost: web.shop\r\n\r\n")
    while not connection.recv(1 << 16).endswith(b"~"):
        pass


def ask_http2(connection):
    def frame(kind, flags, stream, payload=b""):
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    # GET, http, :path and :authority (RFC 7541, A).
    head = b"\x82\x86\x44\x06/small\x41\x08web.shop"
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + frame(1, 5, 1, head))
    with connection.makefile("rb") as answer:
        kind = flags = None
        while not (kind in (0, 1) and flags & 1):
            length, kind, flags = int.from_bytes(answer.read(3), "big"), *answer.read(2)
            answer.read(4 + length)
            if (kind, flags) == (4, 0):
                connection.sendall(frame(4, 1, 0))


def hold(ask, port, count):
    """Keeps connections, each of which has had one answer, until its input ends."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, count + 100))
    held = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", port))
        ask(connection)
        held.append(connection)
    print(json.dumps({"held": len(held)}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    hold({"http1": ask_http1, "http2": ask_http2}[sys.argv[1]], int(sys.argv[2]), int(sys.argv[3]))
