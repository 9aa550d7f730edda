"""scripts/bench controller: heddle-controller in a large cluster: memory, writes, and how soon it knows that an edit is
in force on all nodes.
"""
import json
import os
import socket
import statistics
import time

from lab import Failure, cpu_seconds, memory_mb, progress, wait
from report import Table

HERE = os.path.dirname(os.path.abspath(__file__))
MEMORY_MB = 150
API_PORT, AGENT_PORT = 6443, 10256
TEXT = ("An API server and agents of our own: each route belongs to a Service with one EndpointSlice of four "
        "endpoints, each node has an agent's pod, and one server answers for all agents, at once: what the API server "
        "has told is in force. Memory is resident, of the program as released, without its certificate authority and "
        "its webhook; %d MB is its limit. `In force` is from an edit of one route to the moment that `agentctl routes "
        "SERVICE --cluster` says that it is in force on every node; whoever asks that again and again is part of what "
        "is measured. Writes are those of the status of routes: as many as changes that a status tells, none by a "
        "restart, none while nothing changes." % MEMORY_MB)


def measure(lab, quick):
    routes, nodes, edits, idle = (500, 200, 5, 5) if quick else (10000, 5000, 20, 60)
    with lab.node("controller") as node:
        figures = one(node, routes, nodes, edits, idle)
    rows = [[name, value] for name, value in figures.items()]
    return [Table("The controller, %d routes on %d nodes" % (routes, nodes), ["", "measured"], rows, TEXT,
                  "%.0f MB resident, %.1f s from an edit to in force on all nodes" % (
                      figures["resident, most, MB"], figures["edit to in force everywhere, p50, s"]),
                  list(broken(figures)))]


def broken(figures):
    for name in ("resident, most, MB", "resident, most, after a restart, MB"):
        if figures[name] > MEMORY_MB:
            yield "%s: %.0f, more than %d" % (name, figures[name], MEMORY_MB)
    for writes, changes in (("status writes at first", "routes"), ("status writes for edits", "edits")):
        if figures[writes] != figures[changes]:
            yield "%d %s, and %d %s" % (figures[writes], writes, figures[changes], changes)
    for name in ("status writes by a restart", "status writes while only endpoints change",
                 "status writes while nothing changes"):
        if figures[name]:
            yield "%d %s" % (figures[name], name)


class API:
    """The API server, by its Unix socket for commands."""

    def __init__(self, node, routes, nodes):
        path = node.dir + "/control"
        # Agents are not asked on loopback addresses. These are all this machine's.
        node.ip("node", "route add local 10.200.0.0/16 dev lo")
        self.process = node.start(
            "node", "python3", HERE + "/controller_cluster.py", "--routes", routes, "--nodes", nodes, "--port",
            API_PORT, "--agent-port", AGENT_PORT, "--control", path, log=node.dir + "/api.log")
        wait(lambda: os.path.exists(path + ".ready"), "the API server", 60)
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path)
        self.file = connection.makefile("rw")

    def do(self, *words):
        self.file.write(" ".join(map(str, words)) + "\n")
        self.file.flush()
        return json.loads(self.file.readline())

    def writes(self):
        return self.do("requests").get("PATCH routes/status", 0)

    def is_told(self):
        counts = self.do("routes")
        return counts["routes"] == counts["told"]


class Controller:
    def __init__(self, node):
        self.node, self.socket = node, node.dir + "/controller.sock"
        config = node.dir + "/kubeconfig"
        with open(config, "w") as file:
            json.dump({"apiVersion": "v1", "kind": "Config", "current-context": "bench",
                       "clusters": [{"name": "bench", "cluster": {"server": "http://127.0.0.1:%d" % API_PORT}}],
                       "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
                       "users": [{"name": "bench", "user": {}}]}, file)
        # Without those doors nothing but routes and agents is followed.
        known = node.inside("node", node.bin + "/heddle-controller", "run", "--help")
        doors = ["%s=off" % door for door in ("--ca", "--webhook") if door + " " in known]
        self.process = node.start(
            "node", node.bin + "/heddle-controller", "run", "--kubeconfig", config, "--identity", "bench",
            "--api-socket", self.socket, *doors, log=node.dir + "/controller.log")
        wait(self.is_leading, "a controller that leads", 120)

    def ask(self, *words):
        if self.process.poll() is not None:
            with open(self.node.dir + "/controller.log") as log:
                raise Failure("the controller ended: " + log.read()[-2000:])
        return json.loads(self.node.inside("node", self.node.bin + "/agentctl", *words, "--cluster", "-o", "json",
                                           "--api-socket", self.socket))

    def is_leading(self):
        time.sleep(0.1)
        try:
            status = self.ask("status")
        except Failure:
            return self.process.poll() is not None and self.ask("status")
        return status["ready"] and status["leader"]["isLeading"]

    def everywhere(self, service):
        """On how many nodes the route of a service is in force, of all."""
        entry, = self.ask("routes", service)["entries"]
        return entry["inForce"]["nodes"], entry["inForce"]["of"]

    def stop(self):
        self.node.stop(self.process)


def one(node, routes, nodes, edits, pause):
    figures = {"routes": routes, "nodes": nodes}
    api = API(node, routes, nodes)
    progress("controller: %d routes, none of which has a status" % routes)
    started = time.monotonic()
    controller = Controller(node)
    figures["start to leading, s"] = time.monotonic() - started
    wait(lambda: time.sleep(0.1) or api.is_told(), "the status of every route", 300)
    figures["start to every status written, s"] = time.monotonic() - started
    wait(lambda: time.sleep(0.2) or controller.everywhere("bench/svc-1") == (nodes, nodes), "reports of all nodes", 120)
    figures["start to all nodes asked, s"] = time.monotonic() - started
    figures["status writes at first"] = api.writes()
    pid = controller.process.pid
    figures["CPU until then, s"] = cpu_seconds(pid)

    progress("controller: %d edits" % edits)
    samples = []
    for number in range(edits):
        # Nodes are asked in waves, which follow each other no faster than these many answer.
        time.sleep(1 + nodes / 1000)
        which = number * 7919 % routes
        edited = time.monotonic()
        api.do("break" if number % 2 else "edit", which)
        wait(lambda: controller.everywhere("bench/svc-%d" % which) == (nodes, nodes), "an edit in force", 120)
        samples.append(time.monotonic() - edited)
    wait(lambda: time.sleep(0.1) or api.is_told(), "the status of the edited routes", 60)
    figures["edits"] = edits
    figures["status writes for edits"] = api.writes() - figures["status writes at first"]
    figures["edit to in force everywhere, p50, s"] = statistics.median(samples)
    figures["edit to in force everywhere, most, s"] = max(samples)
    before = api.writes()
    api.do("slices", routes)
    time.sleep(pause / 2)
    figures["status writes while only endpoints change"] = api.writes() - before

    progress("controller: nothing changes")
    before, cpu, began = api.do("requests"), cpu_seconds(pid), time.monotonic()
    time.sleep(pause)
    figures["idle CPU, %"] = 100 * (cpu_seconds(pid) - cpu) / (time.monotonic() - began)
    after = api.do("requests")
    idle = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
    figures["status writes while nothing changes"] = idle.get("PATCH routes/status", 0)
    figures["requests to the API server a minute then"] = 60 / pause * sum(idle.values())
    figures["resident, settled, MB"] = memory_mb(pid)
    figures["resident, most, MB"] = memory_mb(pid, "VmHWM")
    controller.stop()

    progress("controller: another one begins")
    before = api.writes()
    controller = Controller(node)
    wait(lambda: time.sleep(0.2) or controller.everywhere("bench/svc-1") == (nodes, nodes), "reports of all nodes", 120)
    figures["status writes by a restart"] = api.writes() - before
    figures["resident, most, after a restart, MB"] = memory_mb(controller.process.pid, "VmHWM")
    controller.stop()
    return figures
