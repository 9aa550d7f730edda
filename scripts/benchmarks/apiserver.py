"""An API server for benchmarks: as many Services and EndpointSlices as asked for, as large as real ones, and edits.

With --list it only prints a list of the slices. Everything it lists is rendered before it listens, so that it serves as
fast as it can write. Commands come as lines over a Unix socket: `probe N` makes the service `probe` lead to backend N;
`edit` replaces an endpoint of some slice.
"""
import argparse
import json
import os
import socket
import sys
import threading
import urllib.parse

MANAGED = [{"apiVersion": "v1", "fieldsType": "FieldsV1", "manager": "kube-controller-manager", "operation": "Update",
            "time": "2026-01-02T03:04:05Z", "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:app": {}},
            "f:ownerReferences": {".": {}, 'k:{"uid":"0a1b2c3d-0000-4000-8000-000000000000"}': {}}},
            "f:spec": {"f:internalTrafficPolicy": {}, "f:ports": {".": {}, 'k:{"port":80,"protocol":"TCP"}': {
                ".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}}}, "f:selector": {},
                "f:sessionAffinity": {}, "f:type": {}}}}]


def metadata(name, number, labels):
    return {"name": name, "namespace": "bench", "uid": "00000000-0000-4000-8000-%012d" % number,
            "resourceVersion": "1", "generation": 1, "creationTimestamp": "2026-01-02T03:04:05Z", "labels": labels,
            "managedFields": MANAGED}


def service(name, number, address):
    return {"kind": "Service", "apiVersion": "v1", "metadata": metadata(name, number, {"app": name}),
            "spec": {"ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}],
                     "selector": {"app": name}, "clusterIP": address, "clusterIPs": [address], "type": "ClusterIP",
                     "sessionAffinity": "None", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
                     "internalTrafficPolicy": "Cluster"}, "status": {"loadBalancer": {}}}


def endpoint(address, number):
    return {"addresses": [address], "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": "node-%d" % (number % 50), "zone": "zone-%d" % (number % 3),
            "targetRef": {"kind": "Pod", "namespace": "bench", "name": "pod-%d-7d4b9c6f5d-x2x4z" % number,
                          "uid": "10000000-0000-4000-8000-%012d" % number}}


def endpoint_slice(name, number, of, port, endpoints):
    labels = {"kubernetes.io/service-name": of, "app": of,
              "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}
    return {"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "metadata": metadata(name, number, labels),
            "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": port, "protocol": "TCP"}]}


def print_list(services, endpoints):
    out = sys.stdout.buffer
    out.write(b'{"kind":"EndpointSliceList","apiVersion":"discovery.k8s.io/v1","metadata":{"resourceVersion":"1"},')
    out.write(b'"items":[')
    for number in range(services):
        thing = slice_of(number, endpoints)
        out.write((b"," if number else b"") + json.dumps(thing, separators=(",", ":")).encode())
    out.write(b"]}")


def dotted(number):
    return socket.inet_ntoa(number.to_bytes(4, "big"))


def slice_of(number, endpoints, edit=0):
    """The slice of service `number`; with `edit` its last endpoint is another."""
    first = 0x0a800001 + number * endpoints
    addresses = [first + index for index in range(endpoints)]
    if edit:
        addresses[-1] = 0x0ac00000 + edit
    return endpoint_slice("svc-%d-x7k2p" % number, number, "svc-%d" % number, 8080,
                          [endpoint(dotted(address), index) for index, address in enumerate(addresses)])


def event(kind, thing):
    return json.dumps({"type": kind, "object": thing}, separators=(",", ":")).encode() + b"\n"


class Cluster:
    def __init__(self, services, endpoints, backends):
        self.services, self.endpoints, self.backends = services, endpoints, backends
        self.version = 1
        self.edits = 0
        self.changed = threading.Condition()
        # Past events by resource; a watcher remembers how many it has sent.
        self.log = {"services": [], "endpointslices": []}
        self.objects = {
            "services": [service("svc-%d" % n, n, dotted(0x0a600001 + n)) for n in range(services)],
            "endpointslices": [slice_of(n, endpoints) for n in range(services)],
            "nodes": [{"kind": "Node", "apiVersion": "v1", "metadata": {
                "name": "node-1", "uid": "n", "resourceVersion": "1"}, "spec": {}, "status": {"addresses": [
                    {"type": "InternalIP", "address": "192.168.0.2"}]}}],
            "servicecidrs": [],
        }
        self.objects["services"].append(service("probe", services, "10.97.0.1"))
        self.objects["endpointslices"].append(self.probe(0))
        self.initial = {name: b"".join(event("ADDED", thing) for thing in things)
                        for name, things in self.objects.items()}

    def probe(self, which):
        address, port = self.backends[which].split(":")
        return endpoint_slice("probe-x7k2p", self.services, "probe", int(port), [endpoint(address, 0)])

    def command(self, line):
        words = line.split()
        with self.changed:
            if words[0] == "probe":
                thing = self.probe(int(words[1]))
            else:
                self.edits += 1
                thing = slice_of(self.edits * 7919 % self.services, self.endpoints, self.edits)
            self.version += 1
            thing["metadata"]["resourceVersion"] = str(self.version)
            self.log["endpointslices"].append((self.version, event("MODIFIED", thing)))
            self.changed.notify_all()


def answer(client, status, body):
    client.sendall(b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (
        status, len(body)) + body)


def chunk(client, data):
    client.sendall(b"%x\r\n" % len(data) + data + b"\r\n")


def watch(client, cluster, resource, query):
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    log = cluster.log.get(resource, [])
    with cluster.changed:
        version, sent = cluster.version, len(log)
    if query.get("sendInitialEvents") == "true":
        initial = memoryview(cluster.initial[resource])
        for start in range(0, len(initial), 1 << 16):
            chunk(client, bytes(initial[start:start + (1 << 16)]))
        chunk(client, event("BOOKMARK", {"kind": "X", "apiVersion": "v1", "metadata": {
            "resourceVersion": str(version), "annotations": {"k8s.io/initial-events-end": "true"}}}))
    else:
        sent = next((n for n, (past, _) in enumerate(log) if past > int(query["resourceVersion"])), len(log))
    while True:
        with cluster.changed:
            cluster.changed.wait_for(lambda: len(log) > sent)
            new, sent = log[sent:], len(log)
        chunk(client, b"".join(data for _, data in new))


def serve(client, answer_one, *arguments):
    """Calls answer_one(client, method, target, body, *arguments) for each request until the client goes."""
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    reader = client.makefile("rb")
    try:
        while request := reader.readline():
            length = 0
            while (line := reader.readline()).strip():
                name, _, value = line.decode().partition(":")
                length = int(value) if name.lower() == "content-length" else length
            body = reader.read(length)
            method, target = request.decode().split()[:2]
            answer_one(client, method, target, body, *arguments)
    except OSError:
        pass
    finally:
        client.close()


def answer_one(client, _, target, __, cluster):
    url = urllib.parse.urlsplit(target)
    resource = url.path.rsplit("/", 1)[1]
    query = dict(urllib.parse.parse_qsl(url.query))
    if resource not in cluster.objects:
        answer(client, 404, b'{"kind":"Status","code":404}')
    elif query.get("watch") == "true":
        watch(client, cluster, resource, query)
    else:
        # Streamed lists are what it offers; a client that wants pages gets all in one.
        answer(client, 200, json.dumps({"kind": "List", "metadata": {"resourceVersion": str(cluster.version)},
                                        "items": cluster.objects[resource]}).encode())


def accept(listener, body, *arguments):
    while True:
        client, _ = listener.accept()
        threading.Thread(target=body, args=(client, *arguments), daemon=True).start()


def obey(client, cluster):
    for line in client.makefile("r"):
        cluster.command(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, required=True)
    parser.add_argument("--endpoints", type=int, required=True)
    parser.add_argument("--list", action="store_true", help="print a list of the slices instead")
    parser.add_argument("--backends", default="192.0.2.1:80,192.0.2.2:80", help="where `probe` leads")
    parser.add_argument("--port", type=int)
    parser.add_argument("--control", help="path of the Unix socket for commands")
    options = parser.parse_args()
    if options.list:
        return print_list(options.services, options.endpoints)
    cluster = Cluster(options.services, options.endpoints, options.backends.split(","))
    control = socket.socket(socket.AF_UNIX)
    control.bind(options.control)
    control.listen()
    threading.Thread(target=accept, args=(control, obey, cluster), daemon=True).start()
    listener = socket.create_server(("127.0.0.1", options.port), backlog=64)
    # Whoever waits for this file finds everything ready, and how much a client will be sent.
    with open(options.control + ".new", "w") as ready:
        ready.write(str(sum(map(len, cluster.initial.values()))))
    os.rename(options.control + ".new", options.control + ".ready")
    accept(listener, serve, answer_one, cluster)


if __name__ == "__main__":
    main()
