"""Rulesets as kube-proxy writes them, in its iptables and its nftables mode: the same chains, matches and order for the
same services, made by this file and not by kube-proxy. What kube-proxy does before (watching, compiling, rendering) is
missing, so times to program it are the least it could take.
"""
import subprocess
import time

from lab import Failure

POD_CIDR = "10.0.0.0/8"


class Service:
    def __init__(self, name, ip, port, endpoints, protocol="tcp", node_port=None):
        self.name, self.ip, self.port, self.endpoints = name, ip, port, endpoints
        self.protocol, self.node_port = protocol, node_port


def dotted(number):
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))


def generated(services, endpoints, reached=None):
    """The services that heddle-bench generates; the one in the middle has the endpoints `reached`."""
    result = []
    for number in range(services):
        ips = (dotted(0x0a800001 + (number * endpoints + index) % 4000000) for index in range(endpoints))
        own = reached if reached and number == services // 2 else [ip + ":8080" for ip in ips]
        result.append(Service("svc-%d" % number, dotted(0x0a600001 + number), 80, own))
    return result


class TooSlow(Failure):
    """A ruleset took longer to load than there is time."""


class Rules:
    """A ruleset in a node's namespace. Only `full`, `update` and the program that reads them differ."""

    def __init__(self, node, services):
        self.node, self.services = node, services
        # By name, so that chains keep their names when services change places.
        self.numbers = {service.name: number for number, service in enumerate(services)}

    def load(self, cgroup=None, seconds=600):
        """Writes everything anew, as at the start of kube-proxy."""
        end = time.monotonic() + seconds
        for text in self.full():
            self.apply(text, cgroup, self.loader, end - time.monotonic())

    def apply(self, text, cgroup=None, program=None, seconds=600):
        """Fails when it takes longer than that."""
        program = program or self.program
        try:
            done = subprocess.run(self.node.command("node", *program, cgroup=cgroup), input=text, timeout=seconds,
                                  capture_output=True, text=True)
        except subprocess.TimeoutExpired:
            raise TooSlow(program[0]) from None
        if done.returncode:
            raise Failure("%s: %s" % (" ".join(program), done.stderr[:2000]))

    def id(self, service, endpoint=None):
        if endpoint is None:
            return "%016X" % self.numbers[service.name]
        ip, port = endpoint.split(":")
        number = int.from_bytes(bytes(map(int, ip.split("."))), "big") << 16 | int(port)
        return "%04X%012X" % (self.numbers[service.name] & 0xffff, number)


class IptablesRules(Rules):
    program = ("iptables-restore", "--noflush")
    # What kube-proxy uses takes several times longer for many new chains.
    loader = ("iptables-restore",)
    frame = """*filter
:KUBE-SERVICES - [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-FORWARD - [0:0]
-I INPUT -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-I FORWARD -j KUBE-FORWARD
-I FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES
-I OUTPUT -m conntrack --ctstate NEW -j KUBE-SERVICES
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
"""
    hooks = """-I PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
"""
    constant = """-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
"""

    def full(self):
        return [self.frame + self.nat(self.services, self.hooks)]

    def update(self, changes):
        """Of services and their endpoints that went. kube-proxy writes the chain of all services every time, and of the
        rest what changed."""
        gone = "".join(":KUBE-SEP-%s - [0:0]\n-X KUBE-SEP-%s\n" % ((self.id(service, end),) * 2)
                       for service, removed in changes for end in removed)
        return self.nat([service for service, _ in changes], gone)

    def nat(self, changed, more):
        chains = [":%s - [0:0]" % name for name in (
            "KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-MARK-MASQ", "KUBE-POSTROUTING")]
        top, ports, rules = [], [], []
        for service in self.services:
            top.append("-A KUBE-SERVICES -m comment --comment \"bench/%s cluster IP\" -m %s -p %s -d %s --dport %d "
                       "-j KUBE-SVC-%s" % (service.name, service.protocol, service.protocol, service.ip, service.port,
                                           self.id(service)))
            if service.node_port:
                ports.append("-A KUBE-NODEPORTS -m comment --comment bench/%s -m %s -p %s --dport %d -j KUBE-EXT-%s" % (
                    service.name, service.protocol, service.protocol, service.node_port, self.id(service)))
        for service in changed:
            self.add(service, chains, rules)
        top.append("-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports\" -m addrtype "
                   "--dst-type LOCAL -j KUBE-NODEPORTS")
        return "*nat\n%s\n%s\n%s%sCOMMIT\n" % (
            "\n".join(chains), "\n".join(top + ports + rules), self.constant, more)

    def add(self, service, chains, rules):
        own, comment = self.id(service), "-m comment --comment bench/" + service.name
        chains.append(":KUBE-SVC-%s - [0:0]" % own)
        rules.append("-A KUBE-SVC-%s %s -m %s -p %s -d %s --dport %d ! -s %s -j KUBE-MARK-MASQ" % (
            own, comment, service.protocol, service.protocol, service.ip, service.port, POD_CIDR))
        if service.node_port:
            chains.append(":KUBE-EXT-%s - [0:0]" % own)
            rules.append("-A KUBE-EXT-%s %s -j KUBE-MARK-MASQ" % (own, comment))
            rules.append("-A KUBE-EXT-%s -j KUBE-SVC-%s" % (own, own))
        for index, endpoint in enumerate(service.endpoints):
            left, chain = len(service.endpoints) - index, "KUBE-SEP-" + self.id(service, endpoint)
            some = " -m statistic --mode random --probability %.10f" % (1 / left) if left > 1 else ""
            rules.append("-A KUBE-SVC-%s %s%s -j %s" % (own, comment, some, chain))
            chains.append(":%s - [0:0]" % chain)
            rules.append("-A %s %s -s %s -j KUBE-MARK-MASQ" % (chain, comment, endpoint.split(":")[0]))
            rules.append("-A %s %s -m %s -p %s -j DNAT --to-destination %s" % (
                chain, comment, service.protocol, service.protocol, endpoint))


class NftablesRules(Rules):
    program = loader = ("nft", "-f", "-")
    frame = """table ip kube-proxy {
  set cluster-ips { type ipv4_addr; }
  set nodeport-ips { type ipv4_addr; elements = { 192.168.0.2 } }
  map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
  map service-nodeports { type inet_proto . inet_service : verdict; }
  map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }
  map firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
  chain mark-for-masquerade { mark set mark or 0x4000; }
  chain masquerading {
    mark and 0x4000 == 0 return
    mark set mark xor 0x4000
    masquerade fully-random
  }
  chain services {
    ip daddr . meta l4proto . th dport vmap @service-ips
    ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
  }
  chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
  chain firewall-check { ip daddr . meta l4proto . th dport vmap @firewall-ips; }
  chain cluster-ips-check { ip daddr @cluster-ips reject; }
  chain filter-prerouting { type filter hook prerouting priority -110; ct state new jump firewall-check; }
  chain filter-input { type filter hook input priority -110; ct state new jump service-endpoints-check; }
  chain filter-forward {
    type filter hook forward priority -110
    ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check
  }
  chain filter-output {
    type filter hook output priority -110
    ct state new jump service-endpoints-check
    ct state new jump firewall-check
  }
  chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
  chain nat-output { type nat hook output priority -100; jump services; }
  chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }
}
"""

    def chain(self, service, endpoint=None):
        if endpoint:
            return "endpoint-%s-bench/%s/%s/http__%s" % (
                self.id(service, endpoint)[8:], service.name, service.protocol, endpoint.replace(":", "/"))
        return "service-%s-bench/%s/%s/http" % (self.id(service)[8:], service.name, service.protocol)

    def full(self):
        """In parts: of many sets in one transaction the kernel looks each up among all."""
        yield "table ip kube-proxy\ndelete table ip kube-proxy\n" + self.frame
        for start in range(0, len(self.services), 1000):
            yield self.added(self.services[start:start + 1000])

    def added(self, services):
        lines = []
        for service in services:
            self.declare(service, lines)
        for service in services:
            self.fill(service, lines)
            key = "%s . %d" % (service.protocol, service.port)
            lines.append("add element ip kube-proxy cluster-ips { %s }" % service.ip)
            lines.append("add element ip kube-proxy service-ips { %s . %s : goto %s }" % (
                service.ip, key, self.chain(service)))
            if service.node_port:
                external = self.chain(service).replace("service-", "external-", 1)
                lines.append("add chain ip kube-proxy " + external)
                lines.append("add rule ip kube-proxy %s jump mark-for-masquerade" % external)
                lines.append("add rule ip kube-proxy %s goto %s" % (external, self.chain(service)))
                lines.append("add element ip kube-proxy service-nodeports { %s . %d : goto %s }" % (
                    service.protocol, service.node_port, external))
        return "\n".join(lines) + "\n"

    def update(self, changes):
        """Of services and their endpoints that went."""
        lines = []
        for service, removed in changes:
            self.declare(service, lines)
            lines.append("flush chain ip kube-proxy " + self.chain(service))
            lines += ["flush chain ip kube-proxy " + self.chain(service, end) for end in service.endpoints]
            self.fill(service, lines)
            lines += ["delete chain ip kube-proxy " + self.chain(service, end) for end in removed]
        return "\n".join(lines) + "\n"

    def declare(self, service, lines):
        lines.append("add chain ip kube-proxy " + self.chain(service))
        lines += ["add chain ip kube-proxy " + self.chain(service, end) for end in service.endpoints]

    def fill(self, service, lines):
        rule = "add rule ip kube-proxy " + self.chain(service)
        lines.append("%s ip daddr %s %s dport %d ip saddr != %s jump mark-for-masquerade" % (
            rule, service.ip, service.protocol, service.port, POD_CIDR))
        lines.append("%s numgen random mod %d vmap { %s }" % (rule, len(service.endpoints), ", ".join(
            "%d : goto %s" % (index, self.chain(service, end)) for index, end in enumerate(service.endpoints))))
        for end in service.endpoints:
            own = "add rule ip kube-proxy " + self.chain(service, end)
            lines.append("%s ip saddr %s jump mark-for-masquerade" % (own, end.split(":")[0]))
            lines.append("%s meta l4proto %s dnat to %s" % (own, service.protocol, end))


RIVALS = {"kube-proxy-shaped iptables": IptablesRules, "kube-proxy-shaped nftables": NftablesRules}
