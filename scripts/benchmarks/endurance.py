"""scripts/bench endurance: heddle-proxy between HTTP/2 peers of others for long, judged by what it keeps in memory and
by whether everything arrives, never by time. Also started by itself inside the namespace, as the clients that read
slowly.
"""
import os
import re
import resource
import select
import socket
import struct
import subprocess
import sys
import threading
import time

import l7_peers as peers
from lab import CPUS, Failure, Missing, memory_mb, progress, wait
from report import Table

HERE = os.path.dirname(os.path.abspath(__file__))
PORT = 15001
# Beyond what it has once everything it needs was used.
GROWTH_MB = 8
# heddle-proxy's own default of --memory-limit, and what the program takes without any client.
LIMIT_MB, PROGRAM_MB = 512, 48
# After much was held, what the allocator keeps.
KEPT_MB = 24
TEXT = ("heddle-proxy with HTTP/2 on both sides, between h2load and nginx or nghttpd. *Before* is its resident memory "
        "when all of it has been used once, *most* the highest of samples taken all the time. The bound is %d MB more; "
        "with slow readers --memory-limit (%d MB) and the program itself. Every tenth request goes by connections that "
        "nginx ends after a thousand." % (GROWTH_MB, LIMIT_MB))


class Watch:
    """The most resident memory of a process while it is entered, in MB."""

    def __init__(self, pid):
        self.pid, self.most = pid, memory_mb(pid)
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.sample, daemon=True)

    def sample(self):
        while not self.done.wait(0.05):
            self.most = max(self.most, memory_mb(self.pid))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()


class Proxy:
    def __init__(self, node):
        self.node = node
        self.child = peers.heddle(node, "node", PORT, None, "h2c")
        wait(lambda: "status codes: 1 2xx" in self.h2load("-n", 1, "-c", 1, "/small"), "the proxy's first answer", 20)
        self.rows, self.broken = [], []

    def resident(self):
        return memory_mb(self.child.pid)

    def h2load(self, *options):
        url = "http://127.0.0.1:%d%s" % (PORT, options[-1])
        command = ("taskset", "-c", peers.LOAD_CORE, "h2load", *options[:-1], url)
        return subprocess.run(self.node.command("node", *command), capture_output=True, text=True).stdout

    def asked(self, count, *options):
        """Runs h2load, which must get so many whole answers."""
        text = self.h2load("-n", count, *options)
        if "%d succeeded, 0 failed, 0 errored, 0 timeout" % count not in text or "codes: %d 2xx" % count not in text:
            raise Failure("not all of %d requests were answered: %s" % (count, text))
        return text

    def metrics(self):
        command = ("curl", "-s", "-m", "5", "http://127.0.0.1:%d/metrics" % (PORT + 1000))
        return self.node.inside("node", *command)

    def metric(self, name):
        """The sum of all series."""
        found = re.findall(r"^%s(?:\{.*\})? ([0-9.e+]+)$" % name, self.metrics(), re.M)
        return sum(map(float, found))

    def row(self, what, done, before, most, bound):
        """`bound` is on `most`."""
        progress("endurance: %s: %s, %.1f MB before, %.1f at most (%.1f)" % (what, done, before, most, bound))
        self.rows.append([what, done, float(before), float(most), float(bound)])
        if most > bound:
            self.broken.append("%s: %.1f MB resident, more than %.1f" % (what, most, bound))

    def grows_not(self, what, done, before, most):
        self.row(what, done, before, most, before + GROWTH_MB)


def measure(lab, quick):
    if len(CPUS) < 2:
        raise Missing("it needs two cores: one for the proxy, one for the load")
    rows, broken = [], []
    for name, run in (("down", through_nginx), ("up", upload)):
        with lab.node("endurance-" + name) as node:
            proxy = run(node, quick)
            rows += proxy.rows
            broken += proxy.broken
    columns = ["what", "done", "resident before, MB", "most, MB", "bound, MB"]
    headline = "most resident MB: " + ", ".join("%s %.0f" % (row[0], row[3]) for row in rows)
    return [Table("Endurance of heddle-proxy", columns, rows, TEXT, headline, broken)]


# ----------------------------------------------------------------------------------------------------- through nginx

def through_nginx(node, quick):
    size = 256 << 20 if quick else 10 << 30
    with open(node.dir + "/long", "wb") as file:
        file.truncate(size)
    for name, length in (("some", 32 << 20), ("body", 4 << 20)):
        with open("%s/%s" % (node.dir, name), "wb") as file:
            file.truncate(length)
    servers = ""
    for version, requests in (("v1", 1000000000), ("v2", 1000)):
        listens = "".join(" listen %s http2;" % address for address in peers.backends(version, "h2c"))
        servers += "server { keepalive_requests %d;%s root %s; location = /small { return 200 %s; } }\n" % (
            requests, listens, node.dir, peers.BODY)
    peers.start_nginx(node, "node", peers.LOAD_CORE, "backends", servers)
    proxy = Proxy(node)
    long_body(proxy, size)
    many_requests(proxy, 20000 if quick else 1000000)
    slow_readers(proxy, 10 if quick else 100)
    return proxy


# Windows of 16 MB, so that h2load is never what holds a stream up.
ONE_STREAM = ("-c", 1, "-m", 1, "-t", 1, "-w", 24, "-W", 24)


def long_body(proxy, size):
    for _ in range(2):
        proxy.asked(1, *ONE_STREAM, "/some")
    before = proxy.resident()
    with Watch(proxy.child.pid) as watch:
        text = proxy.asked(1, *ONE_STREAM, "/long")
    received = int(re.search(r"\((\d+)\) data", text)[1])
    if received != size:
        raise Failure("of one stream %d bytes arrived, not %d" % (received, size))
    proxy.grows_not("one stream down", "%d MB" % (size >> 20), before, watch.most)


def many_requests(proxy, count):
    """All by one connection. Those of one version go to nginx that ends connections now and then, which must lose
    nothing."""
    proxy.asked(min(count, 20000), "-c", 1, "-m", 100, "-t", 1, "/small")
    before = proxy.resident()
    opened = proxy.metric("heddle_proxy_connections_total")
    with Watch(proxy.child.pid) as watch:
        proxy.asked(count, "-c", 1, "-m", 100, "-t", 1, "/small")
    if proxy.metric("heddle_proxy_connections_total") != opened + 1:
        raise Failure("they did not come by one connection")
    left = proxy.metric("heddle_proxy_memory_held_bytes")
    if left != 0:
        raise Failure("%d bytes are on an account after the last connection" % left)
    proxy.grows_not("requests on one connection", "{:,}".format(count), before, watch.most)


def slow_readers(proxy, streams):
    """On half of a hundred connections, which hold so many streams each; the other half gets everything."""
    before = proxy.resident()
    holder = subprocess.Popen(
        proxy.node.command("node", "python3", HERE + "/endurance.py", str(PORT), "50", str(streams)),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        with Watch(proxy.child.pid) as watch:
            if holder.stdout.readline().strip() != "held":
                raise Failure("the slow readers have no connections")
            wait(lambda: proxy.metric("heddle_proxy_requests_active") >= 50 * streams, "all of their streams", 30)
            proxy.asked(50 * streams, "-c", 50, "-m", streams, "-t", 1, "/small")
            proxy.asked(50, "-c", 50, "-m", 1, "-t", 1, "/body")
            time.sleep(1)
            slow = proxy.metric("heddle_proxy_requests_active")
    finally:
        holder.stdin.close()
        holder.wait()
    # Who holds most goes first once an address has half of the limit (docs/l7.md).
    done = "fast half whole; of the slow {:,.0f} left".format(slow)
    proxy.row("{:,} streams, half of them slow".format(100 * streams), done, before, watch.most, LIMIT_MB + PROGRAM_MB)
    wait(lambda: proxy.metric("heddle_proxy_memory_held_bytes") == 0, "the end of what was held", 30)
    end = time.monotonic() + 10
    while proxy.resident() > before + KEPT_MB and time.monotonic() < end:
        time.sleep(0.2)
    proxy.row("after them", "nothing held", before, proxy.resident(), before + KEPT_MB)


def hold(port, connections, streams):
    """Opens streams for long bodies on each connection until its input ends. By turns their windows are as they are at
    first or wide open, and what comes is not read, or 16 bytes a second."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (connections + 100, connections + 100))

    def frame(kind, flags, stream, payload=b""):
        return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload

    fields = ((":method", "GET"), (":scheme", "http"), (":path", "/body"), (":authority", "web.shop"))
    block = b"".join(b"\0%c%b%c%b" % (len(name), name.encode(), len(value), value.encode()) for name, value in fields)
    held = []
    for number in range(connections):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        window = struct.pack(">HI", 4, 0x7fffffff if number % 2 else 65535)
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, window))
        if number % 2:
            connection.sendall(frame(8, 0, 0, struct.pack(">I", 0x7fff0000)))
        connection.sendall(b"".join(frame(1, 5, 2 * stream + 1, block) for stream in range(streams)))
        held.append(connection)
    print("held", flush=True)
    while not select.select([sys.stdin], [], [], 1)[0]:
        for connection in held[::4] + held[1::4]:
            if select.select([connection], [], [], 0)[0]:
                connection.recv(16)


# ---------------------------------------------------------------------------------------------------------- to nghttpd

def upload(node, quick):
    """nghttpd takes a whole body, throws it away and answers."""
    size = 256 << 20 if quick else 10 << 30
    with open(node.dir + "/small", "w") as file:
        file.write(peers.BODY)
    for name, length in (("some", 32 << 20), ("long", size)):
        with open("%s/%s-body" % (node.dir, name), "wb") as file:
            file.truncate(length)
    peers.start(node, "node", peers.LOAD_CORE, node.dir + "/nghttpd.out", "nghttpd", "--no-tls", "-d", node.dir,
                "-w", "24", "-W", "24", str(peers.PORTS["h2c"]))
    proxy = Proxy(node)
    for _ in range(2):
        proxy.asked(1, *ONE_STREAM, "-d", node.dir + "/some-body", "/small")
    before, counted = proxy.resident(), proxy.metric("istio_request_bytes_sum")
    with Watch(proxy.child.pid) as watch:
        proxy.asked(1, *ONE_STREAM, "-d", node.dir + "/long-body", "/small")
    sent = proxy.metric("istio_request_bytes_sum") - counted
    if sent != size:
        raise Failure("of one stream %d bytes went up, not %d" % (sent, size))
    proxy.grows_not("one stream up", "%d MB" % (size >> 20), before, watch.most)
    return proxy


if __name__ == "__main__":
    hold(*map(int, sys.argv[1:]))
