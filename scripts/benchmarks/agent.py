"""scripts/bench agent: heddle-agent following a directory of manifests."""
import os
import shutil
import time

from lab import BACKENDS, cpu_seconds, memory_mb, progress, run
from report import Table

TEXT = ("Sync is from the agent's start to everything in the kernel. An edit is from the rename of a manifest to the "
        "first connection that the new endpoint answers: reading, compiling, programming and connecting. Idle CPU is "
        "the time of the agent and its children in a minute in which nothing happens, twenty seconds after the last "
        "edit, as a share of that minute; memory is the agent's own at its end.")


def measure(lab, quick):
    sizes, count, pause = ((10,), 20, 3) if quick else ((0, 100, 10000), 200, 60)
    rows = []
    for dataplane in ("ebpf", "nftables"):
        for services in sizes:
            progress("agent: %s, %d services in files" % (dataplane, services))
            with lab.node("agent") as node:
                rows.append([dataplane, services, *one(node, dataplane, services, count, pause)])
    columns = ["dataplane", "services", "start to in sync, s", "edit p50, ms", "edit p99, ms", "resident, MB",
               "idle CPU, %"]
    table = Table("The agent, from a directory", columns, rows, TEXT)
    return [table.chart("MB", ["resident, MB"], ["%s, %d" % (row[0], row[1]) for row in rows])]


def one(node, dataplane, services, count, pause):
    for number, address in enumerate(BACKENDS):
        node.start("server", node.bin + "/heddle-bench", "serve", "--address", address, "--name", number)
    manifests = node.dir + "/manifests"
    shutil.rmtree(manifests, ignore_errors=True)
    os.makedirs(manifests)
    if services:
        run(node.bin + "/heddle-bench", "manifests", "--services", str(services), "--endpoints", "10", "--out",
            manifests)
    started = time.monotonic()
    child = node.start_agent(dataplane, "manifests:" + manifests)
    synced = time.monotonic() - started
    edits = node.bench("client", "edits", "--manifests", manifests, "--service", "10.97.0.1:80", "--backend0",
                       BACKENDS[0], "--backend1", BACKENDS[1], "--count", count)
    time.sleep(pause / 3)
    before, began = cpu_seconds(child.pid), time.monotonic()
    time.sleep(pause)
    idle = 100 * (cpu_seconds(child.pid) - before) / (time.monotonic() - began)
    return synced, edits["edit_p50_us"] / 1000, edits["edit_p99_us"] / 1000, memory_mb(child.pid), idle
