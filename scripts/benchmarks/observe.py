"""scripts/bench observe: what it costs connections that somebody looks at them."""
import time

import services
from lab import CPUS, progress
from report import Spread, Table, ratios

TEXT = ("CPU time of connections (connect, 64-byte request, answer, close) through one Service, of client, server and "
        "kernel together, divided by that of the same node in the same round while nobody looks. `agentctl top` "
        "counts; `agentctl observe` also tells of every connection, up to 100,000 a second here and 1,000 by default. "
        "\"Nobody any more\" is after the agent has taken its programs out again, ten seconds after the last question: "
        "as before.")
WATCHERS = {
    "agentctl top": ("top", "-o", "json", "--interval", "1s"),
    "agentctl observe": ("observe", "--rate", "100000", "-o", "json"),
}
KEPT = 10  # seconds the agent goes on looking after the last question


def measure(lab, quick):
    rounds, count = (1, 300) if quick else (5, 10000)
    taken = {"nobody": [], **{name: [] for name in WATCHERS}, "nobody any more": []}
    made = services.make(lab, "heddle eBPF", 100)
    made.node.serve(*services.ENDPOINTS, cpu=CPUS[-1])
    services.traffic(made.node, "client", "crr", made.tcp, count)
    for number in range(rounds):
        progress("observe: round %d of %d" % (number + 1, rounds))
        taken["nobody"].append(cost(made, count))
        for name, command in WATCHERS.items():
            watcher = watch(made.node, command)
            taken[name].append(cost(made, count))
            made.node.stop(watcher)
        time.sleep(KEPT + 1)
        taken["nobody any more"].append(cost(made, count))
    rows = [[name, Spread(samples), ratios(samples, taken["nobody"])] for name, samples in taken.items()]
    return [Table("Connections that are looked at", ["who looks", "CPU per connection, us", "÷ nobody"], rows, TEXT)]


def cost(made, count):
    return services.traffic(made.node, "client", "crr", made.tcp, count)["cpu_us"]


def watch(node, command):
    """Returns once the agent looks."""
    watcher = node.start("node", node.bin + "/agentctl", *command, "--api-socket", node.dir + "/agent.sock",
                         log=node.dir + "/watch.log")
    time.sleep(1)
    return watcher
