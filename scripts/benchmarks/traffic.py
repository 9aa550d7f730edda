"""scripts/bench traffic: what a connection or a request costs through a Service, as a multiple of the same to the pod
itself. All take turns in every round, each on a node of its own.
"""
from lab import CPUS, progress
from report import Spread, Table, compare, ratios
from services import ENDPOINTS, NAMES, make, traffic

# Operation -> what it is, how many are made in a round, where the client is, which address it takes.
OPERATIONS = {
    "connect": ("connect()", 10000, "client", "tcp"),
    "crr": ("connect, 64-byte request, answer, close", 5000, "client", "tcp"),
    "rr": ("request and answer on one connection", 15000, "client", "tcp"),
    "udp": ("UDP request and answer, a socket each", 8000, "client", "udp"),
    "stream": ("stream, a MB", 1000, "client", "tcp"),
    "node port": ("connect, request, answer, close from outside, by node port", 5000, "outside", "node_port"),
}
TEXT = {
    "latency": "What the client waits for one operation (p50; of the stream the mean), divided by the same in the "
               "same round to the pod's own address on a node without any rules; the median of the rounds "
               "(least–most). The service has 10 endpoints and stands in the middle of all services. 1.00 is the "
               "limit: nothing added. But for connect(), client and server share a core: a latency is then the work "
               "of both ends and of the kernel between them. `heddle eBPF` is the default, with nftables rules "
               "beside it for what passes no socket, which brings connection tracking as any kube-proxy does; `direct, "
               "tracked` is what that alone costs, to the pod's own address, on a node whose only rule asks for it; "
               "`heddle eBPF alone` is `--companion off`. Node port is measured from a machine outside the cluster, "
               "against the pod's address routed through the same node.",
    "cpu": "CPU time of one operation: client, server and the kernel's work for their packets, which runs on the same "
           "core in their name (the cgroup's cpu.stat over the measured part), divided by that of direct. Includes "
           "none of the agent's own time.",
}


def one(service, operation, count):
    kind = "crr" if operation == "node port" else operation
    _, _, place, address = OPERATIONS[operation]
    target = getattr(service, address)
    if not target:
        return None
    result = traffic(service.node, place, kind, target, count)
    # A write to a stream returns when there is room: only the whole says how long it took.
    result["us"] = 1e6 / result["per_s"] if kind == "stream" else result["p50_us"]
    return result


def measure(lab, quick):
    sizes, rounds, share = ((1, 100), 2, 0.05) if quick else ((1, 10000), 5, 1)
    names, latency, cpu = NAMES, [], []
    for size in sizes:
        progress("traffic: loading %d services into every dataplane" % size)
        everybody = [make(lab, name, size) for name in names]
        for service in everybody:
            service.node.serve(*ENDPOINTS, cpu=CPUS[-1])
        samples = {}
        for turn in range(rounds):
            progress("traffic: %d services, round %d of %d" % (size, turn + 1, rounds))
            for operation, (_, count, _, _) in OPERATIONS.items():
                for step in range(len(everybody)):
                    service = everybody[(turn + step) % len(everybody)]
                    result = one(service, operation, max(100, int(count * share)))
                    samples.setdefault((operation, service.name), []).append(result)
        for service in everybody:
            service.node.remove()
        for operation, (what, *_) in OPERATIONS.items():
            latency.append(row(samples, names, operation, what, size, "us"))
            if operation != "node port":
                cpu.append(row(samples, names, operation, what, size, "cpu_us"))
    columns = ["operation", "services", "direct, µs"] + names[1:]
    # Drawn is the largest size.
    short = ["" for _ in sizes[1:] for _ in OPERATIONS] + list(OPERATIONS)
    with_cpu = ["" for _ in sizes[1:] for _ in list(OPERATIONS)[1:]] + [
        name for name in OPERATIONS if name != "node port"]
    last = next(row for row in latency[::-1] if row[0] == OPERATIONS["crr"][0])
    headline = "connection and request ÷ direct with %d services: %s" % (size, compare(names[1:], last[3:]))
    unit = "÷ direct pod IP, with {:,} services; at the line nothing is added".format(size)
    return [
        Table("Latency through a Service ÷ direct", columns, latency, TEXT["latency"], headline).chart(
            unit, names[1:], short, line=1),
        Table("CPU per operation ÷ direct", columns, cpu, TEXT["cpu"]).chart(unit, names[1:], with_cpu, line=1)]


def row(samples, names, operation, what, size, figure):
    values = {name: [result and result[figure] for result in samples[operation, name]] for name in names}
    direct = values[names[0]]
    return [what, size, Spread(direct)] + [
        None if None in values[name] else ratios(values[name], direct) for name in names[1:]]
