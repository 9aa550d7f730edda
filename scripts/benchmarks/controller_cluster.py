"""A large cluster for heddle-controller: an API server with Services, EndpointSlices, HTTPRoutes, agents' pods and a
Lease, which takes writes and counts them; and one server that answers for every agent, on all of 10.200.0.0/16.

Commands come as lines over a Unix socket, each is answered by a line of JSON: `edit N` changes route N; `break N` lets
it name a Service that does not exist; `slices N` changes the endpoints of N Services; `routes` tells how many routes
there are and how many of them have a status of their generation; `requests` counts requests so far.
"""
import argparse
import collections
import ctypes
import json
import mmap
import os
import select
import signal
import socket
import threading
import urllib.parse

from apiserver import MANAGED, accept, answer, chunk, dotted, event, serve, service, slice_of

MESH = "heddle.io/mesh-controller"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/heddle-controller"


def route(number, weight=90, canary=None, generation=1):
    name = "svc-%d" % number
    backends = [{"group": "", "kind": "Service", "name": name, "port": 80, "weight": weight},
                {"group": "", "kind": "Service", "name": canary or name, "port": 80, "weight": 100 - weight}]
    return {"kind": "HTTPRoute", "apiVersion": "gateway.networking.k8s.io/v1", "metadata": {
        "name": "route-%d" % number, "namespace": "bench", "uid": "20000000-0000-4000-8000-%012d" % number,
        "resourceVersion": "1", "generation": generation, "creationTimestamp": "2026-01-02T03:04:05Z",
        "labels": {"app": name, "team": "team-%d" % (number % 40)}, "managedFields": MANAGED},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": name, "port": 80}], "rules": [
            {"matches": [{"path": {"type": "PathPrefix", "value": "/api/v%d" % (number % 7)},
                          "headers": [{"type": "Exact", "name": "x-canary", "value": "yes"}]}],
             "backendRefs": backends, "timeouts": {"request": "10s"}},
            {"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "backendRefs": backends[:1]}]}}


def pod(number):
    return {"kind": "Pod", "apiVersion": "v1", "metadata": {
        "name": "heddle-%d" % number, "namespace": "kube-system", "uid": "30000000-0000-4000-8000-%012d" % number,
        "resourceVersion": "1", "creationTimestamp": "2026-01-02T03:04:05Z", "managedFields": MANAGED,
        "labels": {"app.kubernetes.io/name": "heddle", "controller-revision-hash": "7d4b9c6f5d"}},
        "spec": {"nodeName": "node-%d" % number, "hostNetwork": True, "serviceAccountName": "heddle",
                 "containers": [{"name": "agent", "image": "heddle:1", "args": ["run"]}]},
        "status": {"phase": "Running", "podIP": dotted(0x0ac80001 + number), "hostIP": dotted(0x0ac80001 + number),
                   "podIPs": [{"ip": dotted(0x0ac80001 + number)}],
                   "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"}]}}


class Refused(Exception):
    def __init__(self, code, reason):
        self.code, self.reason = code, reason


class Cluster:
    def __init__(self, routes, nodes, version):
        self.changed = threading.Condition()
        self.shown = version
        self.version = 1
        self.requests = collections.Counter()
        self.log = collections.defaultdict(list)
        namespaces = [{"kind": "Namespace", "apiVersion": "v1", "metadata": {
            "name": name, "uid": name, "resourceVersion": "1"}} for name in ("bench", "kube-system")]
        things = {
            "services": [service("svc-%d" % n, n, dotted(0x0a600001 + n)) for n in range(routes)],
            "endpointslices": [slice_of(n, 4) for n in range(routes)],
            "httproutes": [route(n) for n in range(routes)], "grpcroutes": [], "namespaces": namespaces,
            "pods": [pod(n) for n in range(nodes)],
        }
        self.things = {kind: {thing["metadata"]["name"]: thing for thing in all} for kind, all in things.items()}
        self.added = {kind: {name: event("ADDED", thing) for name, thing in all.items()}
                      for kind, all in self.things.items()}
        self.others = {LEASE: {"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": {
            "name": "heddle-controller", "namespace": "kube-system", "resourceVersion": "1"},
            "spec": {"holderIdentity": "", "leaseDurationSeconds": 1}}}
        self.show()

    def show(self):
        self.shown[:8] = self.version.to_bytes(8, "little")

    def put(self, kind, thing):
        """Under the lock."""
        self.version += 1
        thing["metadata"]["resourceVersion"] = str(self.version)
        name = thing["metadata"]["name"]
        self.things[kind][name] = thing
        self.added[kind][name] = event("ADDED", thing)
        self.log[kind].append((self.version, event("MODIFIED", thing)))
        self.show()
        self.changed.notify_all()

    def command(self, line):
        words = line.split()
        with self.changed:
            if words[0] in ("edit", "break"):
                old = self.things["httproutes"]["route-" + words[1]]
                new = route(int(words[1]), old["spec"]["rules"][0]["backendRefs"][0]["weight"] - 1,
                            "gone" if words[0] == "break" else None, old["metadata"]["generation"] + 1)
                if "status" in old:
                    new["status"] = old["status"]
                self.put("httproutes", new)
            elif words[0] == "slices":
                for number in range(int(words[1])):
                    self.put("endpointslices", slice_of(number, 4, self.version))
            elif words[0] == "routes":
                routes = self.things["httproutes"].values()
                return {"routes": len(routes), "told": sum(map(is_told, routes))}
            return {"%s %s" % key: count for key, count in self.requests.items()}

    def write(self, method, path, body):
        """What is stored afterwards."""
        words = path.split("/")
        new = json.loads(body)
        with self.changed:
            if words[-1] == "status":
                kind, name = words[-3], words[-2]
                old = self.things[kind].get(name)
                if method != "PATCH" or not old:
                    raise Refused(405 if old else 404, "Refused")
                check(new, old)
                self.put(kind, {**old, "status": {**old.get("status", {}), **new["status"]}})
                return self.things[kind][name]
            old = self.others.get(path)
            if not old:
                raise Refused(404, "NotFound")
            check(new, old)
            self.version += 1
            new = new if method == "PUT" else {**old, **new}
            new["metadata"] = {**old["metadata"], **new["metadata"], "resourceVersion": str(self.version)}
            self.others[path] = new
            return new


def check(new, old):
    version = new["metadata"].get("resourceVersion")
    if version and version != old["metadata"]["resourceVersion"]:
        raise Refused(409, "Conflict")


def is_told(route):
    """Whether its status says everything of this generation of it."""
    parents = route.get("status", {}).get("parents", [])
    wanted = route["spec"]["rules"][0]["backendRefs"][1]["name"] != "gone"
    return any(parent["controllerName"] == MESH and all(
        condition["observedGeneration"] == route["metadata"]["generation"]
        and (condition["type"] != "ResolvedRefs" or (condition["status"] == "True") == wanted)
        for condition in parent["conditions"]) for parent in parents)


def watch(client, cluster, kind, query):
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    log = cluster.log[kind]
    with cluster.changed:
        version, sent, initial = cluster.version, len(log), list(cluster.added[kind].values())
    if query.get("sendInitialEvents") == "true":
        for start in range(0, len(initial), 50):
            chunk(client, b"".join(initial[start:start + 50]))
        chunk(client, event("BOOKMARK", bookmark(version, {"k8s.io/initial-events-end": "true"})))
    else:
        sent = next((n for n, (past, _) in enumerate(log) if past > int(query["resourceVersion"])), len(log))
    del initial
    while True:
        with cluster.changed:
            is_news = cluster.changed.wait_for(lambda: len(log) > sent, 30)
            new, sent, version = log[sent:], len(log), cluster.version
        chunk(client, b"".join(data for _, data in new) if is_news else event("BOOKMARK", bookmark(version, {})))


def bookmark(version, annotations):
    return {"kind": "X", "apiVersion": "v1", "metadata": {
        "resourceVersion": str(version), "annotations": annotations}}


def answer_one(client, method, target, body, cluster):
    url = urllib.parse.urlsplit(target)
    last = url.path.rsplit("/", 1)[1]
    query = dict(urllib.parse.parse_qsl(url.query))
    with cluster.changed:
        what = "routes/status" if url.path.endswith("/status") else "lease" if url.path == LEASE else last
        cluster.requests[(method, what)] += 1
    try:
        if query.get("watch") == "true" and last in cluster.things:
            watch(client, cluster, last, query)
        elif method == "GET" and last in cluster.things:
            answer(client, 400, b'{"kind":"Status","code":400,"message":"watch with sendInitialEvents"}')
        elif method == "GET" and url.path in cluster.others:
            answer(client, 200, json.dumps(cluster.others[url.path]).encode())
        elif method == "GET":
            raise Refused(404, "NotFound")
        else:
            answer(client, 200, json.dumps(cluster.write(method, url.path, body)).encode())
    except Refused as refused:
        answer(client, refused.code, json.dumps({
            "kind": "Status", "code": refused.code, "reason": refused.reason}).encode())


def agents(port, version):
    """Answers for every agent: all that the API server has told is in force."""
    listener = socket.create_server(("0.0.0.0", port), backlog=4096)
    listener.setblocking(False)
    poll, clients = select.epoll(), {}
    poll.register(listener, select.EPOLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == listener.fileno():
                try:
                    while True:
                        client, _ = listener.accept()
                        client.setblocking(False)
                        clients[client.fileno()] = client
                        poll.register(client, select.EPOLLIN)
                except BlockingIOError:
                    continue
            client = clients.pop(descriptor)
            try:
                if client.recv(4096):
                    now = int.from_bytes(version[:8], "little")
                    body = b'{"node":"n","reached":{"HTTPRoute":"%d","GRPCRoute":"%d","Service":"%d",' \
                           b'"EndpointSlice":"%d"},"refused":[],"refusedCount":0}' % (now, now, now, now)
                    client.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
                                b"Content-Length: %d\r\n\r\n" % len(body) + body)
            except OSError:
                pass
            client.close()


def obey(client, cluster):
    for line in client.makefile("r"):
        client.sendall(json.dumps(cluster.command(line) or {}).encode() + b"\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--routes", type=int, required=True)
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--agent-port", type=int, required=True)
    parser.add_argument("--control", required=True, help="path of the Unix socket for commands")
    options = parser.parse_args()
    version = mmap.mmap(-1, 4096)
    if os.fork() == 0:
        # Ends with its parent.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        agents(options.agent_port, version)
    cluster = Cluster(options.routes, options.nodes, version)
    control = socket.socket(socket.AF_UNIX)
    control.bind(options.control)
    control.listen()
    threading.Thread(target=accept, args=(control, obey, cluster), daemon=True).start()
    listener = socket.create_server(("127.0.0.1", options.port), backlog=64)
    # Whoever waits for this file finds everything ready.
    open(options.control + ".ready", "w").close()
    accept(listener, serve, answer_one, cluster)


main()
