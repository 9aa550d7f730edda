"""Who makes a Service reachable: nobody (the pod's own address), Heddle's two dataplanes, and the rulesets of
rivals. All are asked for the same service `target` among the same others.
"""
import json
import os

import rivals
from lab import CPUS, ENDPOINT_IPS, NODE_IP, run, wait

PORT, NODE_PORT = 8080, 30080
TARGET_IP = "10.97.0.1"
DIRECT = "%s:%d" % (ENDPOINT_IPS[0], PORT)
ENDPOINTS = ["%s:%d" % (ip, PORT) for ip in ENDPOINT_IPS[:10]]


def target_manifest(endpoints):
    ends = "".join('- {addresses: ["%s"], nodeName: node-1, conditions: {ready: true}}\n' % end.split(":")[0]
                   for end in endpoints)
    return """apiVersion: v1
kind: Node
metadata: {name: node-1}
status: {addresses: [{type: InternalIP, address: %s}]}
---
apiVersion: v1
kind: Service
metadata: {name: target, namespace: bench}
spec:
  type: NodePort
  clusterIPs: [%s]
  ports:
  - {name: http, port: 80, nodePort: %d, protocol: TCP, targetPort: %d}
  - {name: dns, port: 53, nodePort: %d, protocol: UDP, targetPort: %d}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: target-1, namespace: bench, labels: {kubernetes.io/service-name: target}}
addressType: IPv4
ports: [{name: http, port: %d, protocol: TCP}, {name: dns, port: %d, protocol: UDP}]
endpoints:
%s""" % (NODE_IP, TARGET_IP, NODE_PORT, PORT, NODE_PORT, PORT, PORT, PORT, ends)


class Direct:
    """No service at all: clients know the address of a pod. The limit of what is possible."""
    name = "direct"
    tcp = udp = node_port = DIRECT

    def __init__(self, lab):
        self.node = lab.node("direct")


class Tracked(Direct):
    """The same on a node that tracks connections, as most do for a network policy or a NAT rule."""
    name = "direct, tracked"

    def __init__(self, lab):
        self.node = lab.node("tracked")
        self.node.inside("node", "nft", "-f", "-", input="""
            table inet tracking {
                chain in { type filter hook prerouting priority 0; ct state invalid counter; }
            }""")


class Heddle:
    """The agent as it runs on a node, with all services in files."""
    tcp, udp, node_port = TARGET_IP + ":80", TARGET_IP + ":53", "%s:%d" % (NODE_IP, NODE_PORT)

    def __init__(self, lab, name, services, node_name):
        self.name = name
        self.options = {"heddle eBPF": ("ebpf",), "heddle eBPF alone": ("ebpf", "--companion", "off"),
                        "heddle nftables": ("nftables",)}[name]
        if "alone" in name:
            # Who is outside finds nothing.
            self.node_port = None
        self.node = lab.node(node_name)
        self.manifests = self.node.dir + "/manifests"
        os.mkdir(self.manifests)
        if services:
            run(lab.bin + "/heddle-bench", "manifests", "--services", str(services), "--endpoints", "10", "--out",
                self.manifests)
        self.publish(ENDPOINTS)
        self.start()

    def start(self):
        dataplane, *options = self.options
        self.agent = self.node.start_agent(dataplane, "manifests:" + self.manifests, *options)

    def settle(self):
        """Waits for the comparison of the whole kernel state after the start, which holds up changes."""
        def is_proven():
            return json.loads(self.node.agentctl("status", "-o", "json"))["dataplane"]["proven"]
        wait(is_proven, "a proven dataplane")

    def publish(self, endpoints):
        """Returns when the new manifest is in place; the agent follows."""
        temporary = self.node.dir + "/target.yaml"
        with open(temporary, "w") as file:
            file.write(target_manifest(endpoints))
        os.rename(temporary, self.manifests + "/target.yaml")


class Shaped:
    """A ruleset in kube-proxy's form."""
    tcp, udp, node_port = Heddle.tcp, Heddle.udp, Heddle.node_port

    def __init__(self, lab, name, services, node_name):
        self.name = name
        self.node = lab.node(node_name)
        everything = rivals.generated(services, 10)
        self.targets = [rivals.Service("target", TARGET_IP, 80, ENDPOINTS, node_port=NODE_PORT),
                        rivals.Service("target-udp", TARGET_IP, 53, ENDPOINTS, "udp", NODE_PORT)]
        # In the middle: where a list has to be gone through, half of it.
        everything[services // 2:services // 2] = self.targets
        self.rules = rivals.RIVALS[name](self.node, everything)
        self.rules.load()

    def settle(self):
        """Nothing goes on."""

    def publish(self, endpoints):
        """Returns when the rules are in the kernel."""
        changes = []
        for service in self.targets:
            changes.append((service, [end for end in service.endpoints if end not in endpoints]))
            service.endpoints = endpoints
        self.rules.apply(self.rules.update(changes))


def traffic(node, place, kind, target, count):
    """What heddle-bench says of so many operations. The server is on the last core. A connect() is the work of the
    client alone: it has the first core. All else is the work of both ends: on one core none waits for the other to wake
    up."""
    cgroup = node.cgroup_of(place, traffic=True)
    cpu = CPUS[0] if kind == "connect" else CPUS[-1]
    return node.bench(place, "traffic", "--kind", kind, "--target", target, "--count", count, "--cgroup", cgroup,
                      wrapper=("taskset", "-c", cpu), cgroup=cgroup)


HEDDLES = ["heddle eBPF", "heddle eBPF alone", "heddle nftables"]
NAMES = ["direct", "direct, tracked"] + HEDDLES + list(rivals.RIVALS)


def make(lab, name, services, node_name=None):
    """One of NAMES, on a node of its own, ready for traffic. The node is removed with the laboratory's others."""
    if name == "direct":
        return Direct(lab)
    if name == "direct, tracked":
        return Tracked(lab)
    kind = Heddle if name in HEDDLES else Shaped
    return kind(lab, name, services, node_name or name.replace(" ", "-"))
