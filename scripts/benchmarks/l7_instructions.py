"""scripts/bench l7 --instructions: how many instructions heddle-proxy itself takes for one request, counted by
callgrind as the difference between a run with N requests and one with 2N. Runs differ by less than a hundredth, so it
can be a limit where times cannot. Runs in a network namespace of its own.
"""
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import l7_peers as peers

# By whether it is HTTP/2 on both sides. Raise one with a reason in the commit; lower it when the proxy got better.
CEILINGS = {False: 47_800, True: 92_500}
REQUESTS = 1000
PORT = 15001


class Lab:
    """What the functions of l7_peers want of scripts/bench's laboratory."""

    def __init__(self, proxy, bench):
        self.bin = os.path.dirname(bench)
        self.dir = tempfile.mkdtemp(prefix="hd-instructions-")
        # Callgrind 3.19 cannot read the debug information of Swift 6.3.
        self.proxy = self.dir + "/heddle-proxy"
        subprocess.run(["objcopy", "--strip-debug", proxy, self.proxy], check=True)

    def start(self, _, *argv, log=None):
        # The same hashes in each run.
        environment = dict(os.environ, SWIFT_DETERMINISTIC_HASHING="1")
        with open(log, "w") as out:
            return subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT, env=environment)


def connect():
    for _ in range(600):
        try:
            return socket.create_connection(("127.0.0.1", PORT))
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise SystemExit("the proxy does not listen")


def ask(http2, count):
    with connect() as connection:
        if not http2:
            return ask_http1(connection, count)
    # One request after the other, as above.
    text = subprocess.run(["h2load", "-n", str(count), "-c", "1", "-m", "1", "http://127.0.0.1:%d/small" % PORT],
                          capture_output=True, text=True).stdout
    if "status codes: %d 2xx" % count not in text:
        raise SystemExit("unexpected answers: " + text)


def ask_http1(connection, count):
    for _ in range(count):
        connection.sendall(b"GET /small HTTP/1.1\r\nHost: web.shop\r\nUser-Agent: heddle-bench\r\nAccept: */*\r\n\r\n")
        answer = b""
        while not answer.endswith(b"~"):
            answer += connection.recv(1 << 16)
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise SystemExit("unexpected answer: %r" % answer[:200])


def count(lab, http2, requests):
    """Instructions by function: those in it alone, and with all that it calls."""
    out = "%s/callgrind.%d.%d" % (lab.dir, http2, requests)
    callgrind = ("valgrind", "--tool=callgrind", "--callgrind-out-file=" + out)
    child = peers.heddle(lab, None, PORT, None, http2=http2, wrapper=callgrind)
    ask(http2, requests)
    child.send_signal(signal.SIGTERM)
    child.wait()
    return [annotated(out, *options) for options in ((), ("--inclusive=yes",))]


def annotated(path, *options):
    text = subprocess.run(["callgrind_annotate", "--threshold=100", *options, path], capture_output=True, text=True,
                          check=True).stdout
    functions = {}
    for line in text.splitlines():
        match = re.match(r"\s*([\d,]+) \([ \d.]+%\)\s+\S+?:(.*?)( \[.*\])?$", line)
        if match:
            functions[match[2]] = functions.get(match[2], 0) + int(match[1].replace(",", ""))
    return functions


def top(title, small, large, shown):
    rows = sorted(((large[name] - small.get(name, 0)) / REQUESTS, name) for name in large)[::-1][:shown]
    text = "\n".join("%8.0f  %s" % row for row in rows)
    text = subprocess.run(["swift", "demangle", "--simplified"], input=text, capture_output=True, text=True).stdout
    print("\n%s\n%s" % (title, "\n".join(line[:118] for line in text.splitlines())))


def compare(lab, http2):
    """True: within the limit."""
    (small, small_all), (large, large_all) = count(lab, http2, REQUESTS), count(lab, http2, 2 * REQUESTS)
    result = round((sum(large.values()) - sum(small.values())) / REQUESTS)
    name = "HTTP/2" if http2 else "HTTP/1.1"
    print("heddle-proxy: %d instructions per %s request (limit %d), counted by scripts/bench l7 --instructions"
          % (result, name, CEILINGS[http2]))
    top("Functions by themselves, instructions per %s request" % name, small, large, 30)
    top("Functions with what they call, %s" % name, small_all, large_all, 60)
    print()
    return result <= CEILINGS[http2]


def main(proxy, bench):
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    lab = Lab(proxy, bench)
    backends = peers.start_backends(lab, None)
    try:
        within = [compare(lab, http2) for http2 in CEILINGS]
    finally:
        backends.kill()
        backends.wait()
        shutil.rmtree(lab.dir)
    if not all(within):
        sys.exit("scripts/bench: more instructions per request than the limit")


main(*sys.argv[1:])
