"""Kernel memory that a program caused, charged to a memory cgroup of its own: rules, sets, maps and programs count, and
stay charged when the program has ended. Memory that other things on the machine use meanwhile does not disturb it.
"""
import os

from lab import mount_of, remove_cgroup


class KernelMemory:
    """Run the program in `cgroups`; `mb` is what is left of it in the kernel. Where the kernel keeps no such account,
    `mb` is None."""

    def __init__(self, lab, name):
        self.file, self.own = None, None
        old, unified = mount_of("cgroup", "memory"), lab.cgroups
        with open(unified + "/cgroup.subtree_control") as file:
            has_memory = "memory" in file.read().split()
        if old:
            self.own = "%s/hd-bench-%s" % (old, name)
            self.file = "memory.kmem.usage_in_bytes"
        elif has_memory:
            self.own = "%s/hd-bench-%s-memory" % (unified, name)
            self.file = "memory.stat"

    def __enter__(self):
        if self.own:
            os.makedirs(self.own, exist_ok=True)
        return self

    def __exit__(self, *_):
        if self.own:
            remove_cgroup(self.own)

    @property
    def cgroup(self):
        """None: any will do."""
        return self.own

    def mb(self):
        if not self.own:
            return None
        with open("%s/%s" % (self.own, self.file)) as file:
            text = file.read()
        if self.file == "memory.stat":
            # Linux 5.18 and later.
            text = next((line.split()[1] for line in text.splitlines() if line.startswith("kernel ")), "")
        return int(text) / 1048576 if text else None
