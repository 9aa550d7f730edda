"""Benchmarks Heddle on this machine against what else there is, as ratios within one run. Started by scripts/bench,
which builds what is measured.
"""
import argparse
import signal
import sys
import time
import traceback

import agent
import bpf
import churn
import control_plane
import controller
import endurance
import http2
import l7
import mesh
import observe
import scale
import traffic
from lab import Failure, Lab, Missing, progress
from report import Report

# In the order in which they run: what matters most first.
AREAS = {
    "traffic": traffic.measure,
    "scale": scale.measure,
    "storm": churn.storm,
    "restart": churn.restart,
    "bpf": bpf.measure,
    "agent": agent.measure,
    "control-plane": control_plane.measure,
    "decode": control_plane.decode,
    "controller": controller.measure,
    "observe": observe.measure,
    "http2": http2.measure,
    "l7": l7.measure,
    "mesh": mesh.measure,
    "endurance": endurance.measure,
}

KUBE_PROXY = ("kube-proxy itself is not run: it needs an API server, and nothing here feeds it yet. \"kube-proxy- "
              "shaped\" are rulesets with the chains and rules that kube-proxy writes for the same services, made by "
              "the benchmark. Neither they nor `direct` watch anything, so they have no agent to measure.")


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("area", nargs="*", help="one or more of: " + ", ".join(AREAS))
    parser.add_argument("--bin", required=True, help="directory of the release programs")
    parser.add_argument("--proxy", help="heddle-proxy as released, for l7")
    parser.add_argument("--out", default="bench-results", help="directory of the report (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds: does it still run?")
    options = parser.parse_args()
    unknown = [area for area in options.area if area not in AREAS]
    if unknown:
        parser.error("no such area: %s (there are %s)" % (", ".join(unknown), ", ".join(AREAS)))
    # Ends like ctrl-C: by way of everything that cleans up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    report, failed = Report(options.out, options.quick), []
    if not options.area:
        report.note(KUBE_PROXY)
    with Lab(options.bin, options.proxy) as lab:
        for area in options.area or AREAS:
            started = time.monotonic()
            try:
                tables = AREAS[area](lab, options.quick)
                print(report.add(area, tables), flush=True)
                broken = [limit for table in tables for limit in table.broken]
                if broken:
                    raise Failure("; ".join(broken))
            except Missing as missing:
                report.note("%s: not run: %s" % (area, missing))
            except Exception as error:
                if isinstance(error, Failure):
                    print("%s: FAILED: %s" % (area, error), file=sys.stderr)
                else:
                    traceback.print_exc()
                failed.append(area)
                report.note("%s: FAILED: %s" % (area, (str(error).splitlines() or [repr(error)])[0]))
            lab.remove_nodes()
            progress("%s took %.0f s" % (area, time.monotonic() - started))
    print("\n%s\n\nThe report: %s/report.md" % (report.summary(), options.out), flush=True)
    if failed:
        sys.exit("scripts/bench: failed: " + ", ".join(failed))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
