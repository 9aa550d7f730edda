"""The report: Markdown for people, JSON for programs, a chart for each table that has one."""
import datetime
import json
import os
import platform
import re
import shutil
import statistics
import subprocess

import svg


class Spread:
    """Samples of one figure; shown as the median with the least and the most."""

    def __init__(self, samples):
        self.samples = list(samples)

    @property
    def triple(self):
        return statistics.median(self.samples), min(self.samples), max(self.samples)

    def __str__(self):
        median, least, most = map(number, self.triple)
        return median if least == most else "%s (%s–%s)" % (median, least, most)


def ratios(samples, reference):
    """Of each round, so that a slow phase of the machine hits both alike."""
    return Spread([a / b for a, b in zip(samples, reference) if b > 0] or [float("nan")])


def number(value):
    if isinstance(value, int) and not isinstance(value, bool):
        return "{:,}".format(value)
    if not isinstance(value, float):
        return str(value)
    return "{:,.0f}".format(value) if abs(value) >= 100 else "%.3g" % value


def compare(names, values):
    """`eBPF 1.05, nftables 1.13`: for headlines."""
    def shown(value):
        return cell(float(value.triple[0]) if isinstance(value, Spread) else value)
    return ", ".join("%s %s" % (name, shown(value)) for name, value in zip(names, values))


def cell(value):
    return "–" if value is None else number(value)


class Table:
    """`rows` are lists as long as `columns`; `text` says what the figures mean and how they were measured; `headline`
    is the one line for who reads nothing else, and `broken` are the limits that did not hold."""

    def __init__(self, title, columns, rows, text, headline="", broken=()):
        self.title, self.columns, self.rows, self.text = title, columns, rows, text
        self.headline, self.broken = headline, broken
        self.plot = None

    def markdown(self):
        lines = ["### " + self.title, "", "| " + " | ".join(self.columns) + " |", "|" + "---|" * len(self.columns)]
        lines += ["| " + " | ".join(map(cell, row)) + " |" for row in self.rows]
        return "\n".join(lines + ["", self.text, ""])

    def json(self):
        def plain(value):
            if isinstance(value, Spread):
                return dict(zip(("median", "least", "most"), value.triple), samples=value.samples)
            return value
        return {"title": self.title, "text": self.text,
                "rows": [dict(zip(self.columns, map(plain, row))) for row in self.rows]}

    def chart(self, unit, series, groups, log=False, line=None):
        """Draws these columns: a group of bars for each row; a group without a name is left out."""
        def drawn(value):
            return value.triple if isinstance(value, Spread) else value if isinstance(value, (int, float)) else None
        kept = [(group, row) for group, row in zip(groups, self.rows) if group]
        picked = {name: [drawn(row[self.columns.index(name)]) for _, row in kept] for name in series}
        self.plot = svg.bars(self.title, [group for group, _ in kept], picked, unit, log, line)
        return self


def output_of(*argv):
    if not shutil.which(argv[0]):
        return ""
    return subprocess.run(argv, capture_output=True, text=True).stdout.strip()


def machine():
    with open("/proc/cpuinfo") as file:
        model = re.search(r"model name\s*: (.*)|Model\s*: (.*)", file.read())
    with open("/proc/meminfo") as file:
        total = int(file.readline().split()[1]) / 1048576
    here = os.path.dirname(os.path.abspath(__file__))
    virtual = output_of("systemd-detect-virt")
    return {
        "processor": next(filter(None, model.groups()), "unknown") if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)), "memory_gb": round(total, 1), "kernel": platform.release(),
        "virtual": virtual if virtual not in ("", "none") else None,
        "date": datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
        "load_before": os.getloadavg()[0],
        "commit": output_of("git", "-C", here, "describe", "--always", "--dirty", "--abbrev=12"),
        "nft": output_of("nft", "--version"), "iptables": output_of("iptables", "--version")}


class Report:
    def __init__(self, directory, quick):
        self.directory, self.quick = directory, quick
        self.machine = machine()
        self.areas, self.notes = {}, []
        os.makedirs(directory, exist_ok=True)
        for name in os.listdir(directory):
            if name.endswith(".svg"):
                os.unlink(os.path.join(directory, name))

    def add(self, area, tables):
        self.areas[area] = tables
        self.write()
        return "\n".join(table.markdown() for table in tables)

    def summary(self):
        """A line for each area that has one."""
        return "\n".join("%s: %s" % (area, table.headline) for area, tables in self.areas.items()
                         for table in tables if table.headline)

    def note(self, text):
        self.notes.append(text)
        self.write()

    def header(self):
        at = self.machine
        command = "scripts/bench" + (" --quick" if self.quick else "")
        lines = ["# Benchmarks", ""]
        if self.quick:
            lines += ["**A quick run: it shows that everything works, its figures mean little.**", ""]
        return lines + [
            "Made by `%s` on %s from commit %s." % (command, at["date"], at["commit"] or "unknown"), "",
            "| machine | |", "|---|---|", "| processor | %s, %d cores%s |" % (
                at["processor"], at["cores"], ", virtual" if at["virtual"] else ""),
            "| memory | %s GB |" % at["memory_gb"], "| kernel | Linux %s |" % at["kernel"],
            "| load average before | %.2f |" % at["load_before"],
            "| tools | %s; %s |" % (at["iptables"], at["nft"]), ""]

    def write(self):
        lines = self.header()
        lines += ["- " + note for note in self.notes] + [""] * bool(self.notes)
        for area, tables in self.areas.items():
            lines += ["## " + area, ""]
            for place, table in enumerate(tables):
                lines.append(table.markdown())
                if table.plot:
                    name = "%s-%d.svg" % (area, place + 1)
                    with open(os.path.join(self.directory, name), "w") as file:
                        file.write(table.plot)
                    lines += ["![%s](%s)" % (table.title, name), ""]
        with open(os.path.join(self.directory, "report.md"), "w") as file:
            file.write("\n".join(lines))
        with open(os.path.join(self.directory, "report.json"), "w") as file:
            json.dump({"machine": self.machine, "quick": self.quick, "notes": self.notes, "areas": {
                area: [table.json() for table in tables] for area, tables in self.areas.items()}}, file, indent=1)
