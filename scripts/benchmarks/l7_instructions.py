"""scripts/bench l7 --instructions: how many instructions heddle-proxy itself takes for one request, counted by
callgrind over N requests on one connection, after as many that warm it up. Runs differ by less than a hundredth, so it
can be a limit where times cannot. Runs in a network namespace of its own.
"""
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import l7_peers as peers

# By what both sides speak. Raise one with a reason in the commit; lower it when the proxy got better.
CEILINGS = {"http1": 40_900, "h2c": 83_900, "grpc": 89_000}
NAMES = {"http1": "HTTP/1.1 request", "h2c": "HTTP/2 request", "grpc": "gRPC call"}
REQUESTS = 1000
# What only passes on to the function that is meant, and how a loop gets there.
FRAMES = re.compile("partial apply|thunk|protocol witness|ThreadOps|start_thread|^clone$|setupThread|^closure")
SHOWN = 30
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


def ask(lab, wire, count):
    with connect() as connection:
        if wire == "http1":
            return ask_http1(connection, count)
    # One request after the other, as above.
    what = (*peers.GRPC, "-d", lab.message) if wire == "grpc" else ()
    text = subprocess.run(["h2load", "-n", str(count), "-c", "1", "-m", "1", *what, "http://127.0.0.1:%d/small" % PORT],
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


def count(lab, wire):
    """Instructions by function: those in it alone, and with all that it calls."""
    out = "%s/callgrind-%s" % (lab.dir, wire)
    callgrind = ("valgrind", "--tool=callgrind", "--callgrind-out-file=" + out)
    child = peers.heddle(lab, None, PORT, None, wire=wire, wrapper=callgrind)
    for order in ("--zero", "--dump"):
        ask(lab, wire, REQUESTS)
        subprocess.run(["callgrind_control", order, str(child.pid)], check=True, capture_output=True)
    child.kill()
    child.wait()
    inclusive = annotated(out + ".1", "--inclusive=yes")
    # callgrind_annotate takes calls that had begun before the count, and have not ended, for their callers' own work.
    with open(out + ".1") as file:
        text = file.read()
    with open(out + ".1", "w") as file:
        file.write(re.sub(r"calls=0 .*\n.*\n", "", text))
    return annotated(out + ".1"), inclusive


def annotated(path, *options):
    text = subprocess.run(["callgrind_annotate", "--threshold=100", *options, path], capture_output=True, text=True,
                          check=True).stdout
    functions = {}
    for line in text.splitlines():
        match = re.match(r"\s*([\d,]+) \([ \d.]+%\)\s+\S+?:(.*?)( \[.*\])?$", line)
        if match:
            functions[match[2]] = functions.get(match[2], 0) + int(match[1].replace(",", ""))
    return functions


def top(title, functions):
    rows = sorted(((count / REQUESTS, name) for name, count in functions.items()), reverse=True)[:4 * SHOWN]
    text = "\n".join("%8.0f  %s" % row for row in rows)
    text = subprocess.run(["swift", "demangle", "--simplified"], input=text, capture_output=True, text=True).stdout
    lines = [line[:118] for line in text.splitlines() if not FRAMES.search(line[10:])]
    print("\n%s\n%s" % (title, "\n".join(lines[:SHOWN])))


def compare(lab, wire):
    """True: within the limit."""
    alone, inclusive = count(lab, wire)
    result = round(sum(alone.values()) / REQUESTS)
    print("heddle-proxy: %d instructions per %s (limit %d), counted by scripts/bench l7 --instructions"
          % (result, NAMES[wire], CEILINGS[wire]))
    top("Functions by themselves, instructions per " + NAMES[wire], alone)
    top("Functions with what they call, per " + NAMES[wire], inclusive)
    print(flush=True)
    return result <= CEILINGS[wire]


def main(proxy, bench):
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    lab = Lab(proxy, bench)
    lab.message = peers.grpc_message(lab)
    backends = [peers.start_backends(lab, None), peers.start_grpc(lab, None)]
    try:
        within = [compare(lab, wire) for wire in CEILINGS]
    finally:
        for backend in backends:
            backend.kill()
            backend.wait()
        shutil.rmtree(lab.dir)
    if not all(within):
        sys.exit("scripts/bench: more instructions per request than the limit")


main(*sys.argv[1:])
