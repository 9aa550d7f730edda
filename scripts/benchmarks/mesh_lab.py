"""Two nodes of a mesh for `scripts/bench mesh`, each with a pod that is enrolled and one that is not. Between the
former are tunnels of Heddle's, as agents make them out of labels; between the latter those of two Envoys, each in its
pod like a sidecar. Every proxy has one thread, and all of them share one core.
"""
import json
import os
import re

import bpf
from l7_peers import envoy_address, write
from lab import CPUS, Failure, Node, kernel_seconds, memory_mb, run, thread_seconds, wait

PORT, TUNNEL, VIP = 8080, 15008, "10.97.0.1:80"
# Where a pod's Envoy takes what is to go through its tunnel.
ENVOY = "127.0.0.1:9001"
IDENTITY = "spiffe://cluster.local/ns/mesh/sa/"
PROXY_CORE = CPUS[0]
MTLS = "envoy.extensions.transport_sockets.tls.v3."
TYPE = "type.googleapis.com/"


def pod_manifest(name, account, address, node, labels=""):
    return """apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: mesh, uid: %s, labels: {%s}}
spec: {nodeName: %s, serviceAccountName: %s, containers: [{name: main}]}
status:
  phase: Running
  podIP: %s
  podIPs: [{ip: %s}]
  conditions: [{type: Ready, status: "True"}]
---
""" % (name, name, labels, node, account, address, address)


ENROLLED = "istio.io/dataplane-mode: ambient"
SERVICE = """apiVersion: v1
kind: Service
metadata: {name: server, namespace: mesh}
spec:
  selector: {app: server}
  clusterIP: %s
  clusterIPs: [%s]
  ports: [{name: tcp, port: 80, targetPort: %d, protocol: TCP}]
---
""" % (VIP.split(":")[0], VIP.split(":")[0], PORT)


class MeshNode(Node):
    """A node whose pods are `inside` the mesh and `beside` it."""
    places = ("node", "inside", "beside")

    def __init__(self, lab, number):
        self.number, self.node_name = number, "node-%d" % number
        self.pods = {"inside": "10.1.%d.2" % number, "beside": "10.1.%d.3" % number}
        super().__init__(lab, "mesh-%d" % number)

    def make(self):
        self.make_places(self.pods)
        self.inside("node", "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")

    def join(self, other):
        self.ip("node", "link add up0 type veth peer name up0 netns " + other.namespace("node"))
        for node, peer in ((self, other), (other, self)):
            node.ip("node", "link set up0 up", "addr add 192.168.0.%d/24 dev up0" % node.number,
                    "route add 10.1.%d.0/24 via 192.168.0.%d" % (peer.number, peer.number))

    def start_mesh(self, manifests, authority):
        """Agent and proxy; returns the latter."""
        self.start_agent("ebpf", "manifests:" + manifests, "--ca", "directory:" + authority, "--proxy", "external",
                         "--proxy-socket", self.dir + "/proxy.sock")
        return self.start_proxy()

    def start_proxy(self):
        return self.start("node", "taskset", "-c", PROXY_CORE, self.proxy, "--threads", "1", "--config-socket",
                          self.dir + "/proxy.sock", log=self.dir + "/proxy.log")

    def certificates(self):
        """How many there are."""
        answer = json.loads(self.inside("node", self.bin + "/agentctl", "certificates", "-o", "json", "--api-socket",
                                        self.dir + "/agent.sock", check=False) or "{}")
        return sum(entry["state"] == "valid" for entry in answer.get("entries", []))

    def steered(self):
        """How often a connection's beginning met a program in a pod of this node."""
        return sum(program.runs for name, program in bpf.programs(self.bpffs, "mesh/maps").items()
                   if name in ("steer", "steer_strict"))


class Way:
    """From a client's pod to a server's: the proxies between, and what the client dials."""

    def __init__(self, name, node, place, target, proxies):
        self.name, self.node, self.place, self.target, self.proxies = name, node, place, target, proxies

    def cpu(self):
        return sum(thread_seconds(proxy.pid) for proxy in self.proxies)

    def kernel(self):
        return sum(kernel_seconds(proxy.pid) for proxy in self.proxies)

    def resident(self):
        return [memory_mb(proxy.pid) for proxy in self.proxies]


class Mesh:
    """Everything in place; `ways` are direct, Heddle's and, if there is one, Envoy's."""

    def __init__(self, lab, envoy):
        self.lab, self.dir = lab, lab.dir
        self.nodes = near, far = [MeshNode(lab, number) for number in (1, 2)]
        near.join(far)
        self.authority, manifests = self.dir + "/authority", self.dir + "/manifests"
        os.mkdir(manifests)
        write(manifests + "/mesh.yaml", SERVICE + "".join(
            pod_manifest("%s-inside" % name, name, node.pods["inside"], node.node_name, "app: %s, " % name + ENROLLED)
            for name, node in (("client", near), ("server", far))))
        self.servers = [far.serve("%s:%d" % (address, PORT), cpu=CPUS[-1], place=place)
                        for place, address in far.pods.items()]
        direct = "%s:%d" % (far.pods["beside"], PORT)
        self.ways = [Way("direct", near, "beside", direct, [])]
        proxies = [node.start_mesh(manifests, self.authority) for node in self.nodes]
        self.ways.append(Way("Heddle", near, "inside", VIP, proxies))
        for node in self.nodes:
            wait(lambda node=node: node.certificates() == 1, "a certificate on " + node.node_name, 30)
        for name in ("client", "server"):
            self.make_certificate(name)
        if envoy:
            self.start_envoys(envoy)
        for way in self.ways[1:]:
            wait(lambda way=way: self.passes(way), "the first connection by way of " + way.name, 30)
        # Or it would be measured what passes in the clear.
        shown = far.inside("node", "curl", "-s", "http://127.0.0.1:15020/metrics")
        if not re.search(r'istio_tcp_connections_opened_total\{.*reporter="destination".*mutual_tls.*\} [1-9]', shown):
            raise Failure("what passed did so in the clear")

    def passes(self, way):
        try:
            self.traffic(way, "whole", 1)
            return True
        except Failure:
            return False

    def traffic(self, way, kind, count):
        """CPU seconds of the proxies for each operation, and what of it was in the kernel; a tenth of them go before to
        warm up."""
        before = way.cpu(), way.kernel()
        way.node.bench(way.place, "traffic", "--kind", kind, "--target", way.target, "--count", count, "--cgroup",
                       way.node.traffic_cgroup, wrapper=("taskset", "-c", CPUS[-1]), cgroup=way.node.traffic_cgroup)
        operations = count + max(1, count // 10)
        return (way.cpu() - before[0]) / operations, (way.kernel() - before[1]) / operations

    # ------------------------------------------------------------------------------------------------------------ Envoy

    def start_envoys(self, envoy):
        """Configured as waypoints are: one connection that streams share, TLS 1.3, an access log."""
        near, far = self.nodes
        server = self.start_envoy(envoy, far, "server", self.envoy_server(far.pods["beside"]))
        client = self.start_envoy(envoy, near, "client", self.envoy_client(far.pods["beside"]))
        self.ways.append(Way("Envoy", near, "beside", ENVOY, [client, server]))

    def start_envoy(self, envoy, node, name, configuration):
        configuration["admin"] = {"address": envoy_address("127.0.0.1:9901")}
        path = write("%s/envoy-%s.json" % (self.dir, name), json.dumps(configuration))
        return node.start("beside", "taskset", "-c", PROXY_CORE, envoy, "-c", path, "--concurrency", "1",
                          "--disable-hot-restart", "--log-level", "warning", log="%s/envoy-%s.log" % (self.dir, name))

    def make_certificate(self, name):
        """By the authority of the others: the same curve, the same length of chain."""
        made, own = "%s/%s" % (self.dir, name), self.authority
        write(made + ".ext", "subjectAltName=critical,URI:%s\nkeyUsage=critical,digitalSignature\n"
              "extendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=critical,CA:FALSE\n" % (IDENTITY + name))
        run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", made + ".key")
        run("openssl", "req", "-new", "-key", made + ".key", "-subj", "/", "-out", made + ".csr")
        run("openssl", "x509", "-req", "-in", made + ".csr", "-CA", own + "/ca-cert.pem", "-CAkey", own + "/ca-key.pem",
            "-set_serial", "1", "-days", "1", "-extfile", made + ".ext", "-out", made + ".pem")

    def envoy_tls(self, kind, name, peer, **more):
        return {"name": "tls", "typed_config": {"@type": TYPE + MTLS + kind, **more, "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": [{"certificate_chain": {"filename": "%s/%s.pem" % (self.dir, name)},
                                  "private_key": {"filename": "%s/%s.key" % (self.dir, name)}}],
            "validation_context": {
                "trusted_ca": {"filename": self.authority + "/root-cert.pem"},
                "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": peer}]}}}}

    def envoy_client(self, server):
        http2 = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        tunnel = {"name": "tunnel", "type": "STATIC", "connect_timeout": "2s", "circuit_breakers": UNLIMITED,
                  "typed_extension_protocol_options": {http2: {
                      "@type": TYPE + http2, "explicit_http_config": {
                          "http2_protocol_options": {"allow_connect": True, "max_concurrent_streams": 2000}}}},
                  "transport_socket": self.envoy_tls("UpstreamTlsContext", "client", {"exact": IDENTITY + "server"}),
                  "load_assignment": {"cluster_name": "tunnel", "endpoints": [{"lb_endpoints": [{"endpoint": {
                      "address": envoy_address("%s:%d" % (server, TUNNEL))}}]}]}}
        proxy = {"@type": TYPE + "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "tunnel",
                 "cluster": "tunnel", "idle_timeout": "0s", "access_log": access_log(),
                 "tunneling_config": {"hostname": "%s:%d" % (server, PORT)}}
        return {"static_resources": {"clusters": [tunnel], "listeners": [{
            "name": "tcp", "address": envoy_address(ENVOY),
            "filter_chains": [{"filters": [{"name": "tcp", "typed_config": proxy}]}]}]}}

    def envoy_server(self, address):
        filters = TYPE + "envoy.extensions.filters."
        router = {"name": "router", "typed_config": {"@type": filters + "http.router.v3.Router",
                                                     "suppress_envoy_headers": True}}
        route = {"match": {"connect_matcher": {}}, "route": {
            "cluster": "authority", "timeout": "0s",
            "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}}
        manager = {"@type": filters + "network.http_connection_manager.v3.HttpConnectionManager",
                   "stat_prefix": "tunnel", "codec_type": "HTTP2", "stream_idle_timeout": "0s",
                   "http2_protocol_options": {"allow_connect": True, "max_concurrent_streams": 2000},
                   "upgrade_configs": [{"upgrade_type": "CONNECT"}], "access_log": access_log(),
                   "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
                   "http_filters": [router]}
        authority = {"name": "authority", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED",
                     "connect_timeout": "2s", "circuit_breakers": UNLIMITED, "original_dst_lb_config": {
                         "use_http_header": True, "http_header_name": ":authority"}}
        tls = self.envoy_tls("DownstreamTlsContext", "server", {"prefix": "spiffe://cluster.local/"},
                             require_client_certificate=True)
        return {"static_resources": {"clusters": [authority], "listeners": [{
            "name": "tunnel", "address": envoy_address("%s:%d" % (address, TUNNEL)),
            "filter_chains": [{"transport_socket": tls, "filters": [{"name": "http", "typed_config": manager}]}]}]}}


UNLIMITED = {"thresholds": [{"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000}]}


def access_log():
    """Envoy's own line, on standard output as Heddle's."""
    return [{"name": "log", "typed_config": {
        "@type": TYPE + "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"}}]
