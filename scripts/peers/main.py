"""scripts/check-peers: runs every check of the modules beside this one, each behind a heddle-proxy of its own with
HTTP/2 to both sides, whose counters must show no mistake of ours afterwards.
"""
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request

import grpc_peers
import h2_peers

PROXY = ("127.0.0.1", 15001)
METRICS = ("127.0.0.1", 15020)
# By the proxy-snapshot's two versions; what has the header x-canary goes to the second.
ADDRESSES = {"v1": ("127.0.1.1", 8081), "v2": ("127.0.2.1", 8081)}


def text(address):
    return "%s:%d" % address


class Proxy:
    def __init__(self, programs, directory):
        state = directory + "/state"
        subprocess.run([
            programs + "/heddle-bench", "proxy-snapshot", "--frontend", text(PROXY), "--stable", text(ADDRESSES["v1"]),
            "--canary", text(ADDRESSES["v2"]), "--wire", "h2c", "--out", state], check=True)
        self.log = open(directory + "/log", "w+")
        self.child = subprocess.Popen([
            programs + "/heddle-proxy", "--listen-address", PROXY[0], "--listen-port", str(PROXY[1]), "--state-file",
            state, "--config-socket", directory + "/nobody.sock", "--threads", "1", "--metrics-address", text(METRICS),
            "--access-log", "text"], stdout=self.log, stderr=subprocess.STDOUT)
        self.address, self.backends = PROXY, ADDRESSES
        wait(lambda: self.child.poll() is not None or "heddle_proxy_" in self.metrics(), "the proxy")

    def metrics(self):
        try:
            return urllib.request.urlopen("http://%s/metrics" % text(METRICS), timeout=5).read().decode()
        except OSError:
            return ""

    def metric(self, name):
        """The sum of all series."""
        return sum(map(float, re.findall(r"^%s(?:\{.*\})? ([0-9.e+]+)$" % name, self.metrics(), re.M)))

    def end(self):
        """What it made of everything, with the clients gone."""
        try:
            if self.child.poll() is not None:
                raise AssertionError("the proxy has ended")
            wait(lambda: self.metric("heddle_proxy_requests_active") == 0, "the end of all requests")
            wait(lambda: self.metric("heddle_proxy_memory_held_bytes") == 0, "the end of all that was held")
            for counter in ("heddle_proxy_violations_total", "heddle_proxy_limited_total"):
                if self.metric(counter):
                    raise AssertionError(re.findall(r"^%s.* [1-9].*" % counter, self.metrics(), re.M))
        finally:
            self.child.kill()
            self.child.wait()


def wait(condition, what, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("not within %d s: %s" % (seconds, what))
        time.sleep(0.01)


def main(programs):
    failed, count = 0, 0
    for module in (grpc_peers, h2_peers):
        for check in module.CHECKS:
            count += 1
            with tempfile.TemporaryDirectory() as directory:
                started = time.monotonic()
                proxy = Proxy(programs, directory)
                try:
                    try:
                        check(proxy)
                    finally:
                        proxy.end()
                    print("passed: %s (%.1f s)" % (check.__name__, time.monotonic() - started), flush=True)
                except Exception:
                    failed += 1
                    traceback.print_exc()
                    proxy.log.seek(0)
                    print("%s: failed; the proxy's log:\n%s" % (check.__name__, proxy.log.read()[-3000:]), flush=True)
    print("%d checks with grpcio and h2, %d failed" % (count, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    # Answers of a proxy that the environment may name would be another's.
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "grpc_proxy"):
        os.environ.pop(name, None)
    sys.exit(main(sys.argv[1]))
