"""scripts/bench scale: from one service to fifty thousand. How long all of them take to get into the kernel, and one
changed endpoint; how much kernel memory they take; and what the first packet of a connection then costs.
"""
import statistics
import time

import rivals
from lab import BACKENDS, CPUS, Failure, progress
from memory import KernelMemory
from report import Spread, Table, compare, ratios
from services import Direct, traffic

ENDPOINTS = 10
# To load a ruleset.
SECONDS = 60
NAMES = ["heddle eBPF", "heddle nftables"] + list(rivals.RIVALS)
TEXT = {
    "load": "All services with 10 endpoints each into an empty kernel. Heddle: compiled and written, by the code of "
            "the agent, from the parsed objects. The kube-proxy-shaped rulesets: only what `iptables-restore` and "
            "`nft -f` take for the finished text, in the fastest way found: kube-proxy also makes the text, passes "
            "--noflush, and sends all in one transaction, which for 10,000 services takes ten times as long in both. "
            "None is given more than %d s." % SECONDS,
    "update": "One endpoint of one service replaced (p50). Heddle: compiled and written. The rulesets: the "
              "transaction that kube-proxy sends for it, by its program: in nftables the chains of that service, in "
              "iptables also the chain of all services again.",
    "memory": "Kernel memory after loading, charged to a memory cgroup of the program that loaded it (maps, programs, "
              "rules, sets). The eBPF maps are allocated at their full size, which the options set; `heddle eBPF` "
              "without the rules beside it, which take as much as `heddle nftables`.",
    "packet": "A connect() through the service in the middle, p50: each is the first packet of a new connection, "
              "that no connection tracking knows. Direct is the pod's own address on a node without rules; median of "
              "the rounds (least–most).",
}


class Programmed:
    """A Heddle dataplane, written without an agent."""

    def __init__(self, lab, name, services):
        self.name, self.size = name, services
        self.dataplane = {"heddle eBPF": "ebpf", "heddle nftables": "nftables"}[name]
        self.node = lab.node(name.replace(" ", "-"))

    def load(self, updates, cgroup):
        result = self.node.program(self.dataplane, self.size, ENDPOINTS, 200 if updates else 0, BACKENDS[0], cgroup)
        return result["compile_ms"] + result["load_ms"], result["update_p50_us"] / 1000 or None


class Shaped:
    def __init__(self, lab, name, services):
        self.name, self.size = name, services
        self.node = lab.node(name.replace(" ", "-"))
        self.services = rivals.generated(services, ENDPOINTS, [BACKENDS[0]])
        self.rules = rivals.RIVALS[name](self.node, self.services)

    def load(self, updates, cgroup):
        # What makes the text is not measured.
        texts, took = self.rules.full(), 0
        for text in texts:
            started = time.monotonic()
            self.rules.apply(text, cgroup, self.rules.loader, SECONDS - took)
            took += time.monotonic() - started
        samples = []
        for number in range(updates):
            service = self.services[number * 7919 % len(self.services)]
            if service.endpoints == [BACKENDS[0]]:
                continue
            removed = service.endpoints.pop()
            service.endpoints.append("10.192.0.%d:8080" % (number + 1))
            text, started = self.rules.update([(service, [removed])]), time.monotonic()
            self.rules.apply(text, cgroup)
            samples.append(1000 * (time.monotonic() - started))
        return 1000 * took, statistics.median(samples) if samples else None


def measure(lab, quick):
    sizes, rounds = ((1, 100), 2) if quick else ((1, 1000, 10000, 50000), 7)
    tables = {figure: [] for figure in TEXT}
    for size in sizes:
        if size > 10000 and available_gb() < 8:
            progress("scale: %d services left out: less than 8 GB of memory are free" % size)
            continue
        rows = one_size(lab, size, rounds, repeats=1 if quick or size > 1000 else 3)
        for figure, row in rows.items():
            tables[figure].append([size] + row)
    groups = ["{:,}".format(row[0]) for row in tables["load"]]
    columns = ["services"] + NAMES
    reached = [row for row in tables["update"] if None not in row][-1]
    headline = "ms to change an endpoint of %d services: %s" % (reached[0], compare(NAMES, reached[1:]))
    return [
        Table("All services into the kernel, ms", columns, tables["load"], TEXT["load"]).chart(
            "ms", NAMES, groups, log=True),
        Table("One endpoint changed, ms", columns, tables["update"], TEXT["update"], headline).chart(
            "ms", NAMES, groups, log=True),
        Table("Kernel memory, MB", columns, tables["memory"], TEXT["memory"]).chart("MB", NAMES, groups, log=True),
        Table("First packet of a connection, µs", ["services", "direct"] + columns[1:] + [
            "÷ direct: " + name for name in NAMES], tables["packet"], TEXT["packet"]).chart(
            "µs", ["direct"] + NAMES, groups, log=True)]


def one_size(lab, size, rounds, repeats):
    loads, updates, memory, everybody = [], [], [], [Direct(lab)]
    for name in NAMES:
        samples, update, used, service = [], None, None, None
        for left in reversed(range(repeats)):
            progress("scale: %d services into %s" % (size, name))
            service = (Programmed if name.startswith("heddle") else Shaped)(lab, name, size)
            with KernelMemory(lab, service.node.name) as account:
                try:
                    # The last one is kept, updated and measured.
                    took, update = service.load(0 if left else 5, account.cgroup)
                    samples.append(took)
                    used = account.mb()
                except rivals.TooSlow:
                    service.node.remove()
                    service = None
                    break
                if left:
                    service.node.remove()
        loads.append(Spread(samples) if samples else "more than %d s" % SECONDS)
        updates.append(update)
        memory.append(used)
        everybody.append(service)
    packets = first_packets(everybody, rounds)
    for service in filter(None, everybody):
        service.node.remove()
    return {"load": loads, "update": updates, "memory": memory, "packet": [
        samples and Spread(samples) for samples in packets] + [
        samples and ratios(samples, packets[0]) for samples in packets[1:]]}


def first_packets(everybody, rounds):
    """Samples of each; None for who could not load its services."""
    samples = [service and [] for service in everybody]
    for service in filter(None, everybody):
        service.node.serve(BACKENDS[0], cpu=CPUS[-1])
    for turn in range(rounds):
        for step in range(len(everybody)):
            at = (turn + step) % len(everybody)
            if not everybody[at]:
                continue
            node = everybody[at].node
            target = BACKENDS[0] if at == 0 else "%s:80" % rivals.dotted(0x0a600001 + everybody[at].size // 2)
            result = traffic(node, "client", "connect", target, 2000)
            samples[at].append(result["p50_us"])
    return samples


def available_gb():
    with open("/proc/meminfo") as file:
        for line in file:
            if line.startswith("MemAvailable"):
                return int(line.split()[1]) / 1048576
    raise Failure("the kernel does not tell how much memory is available")
