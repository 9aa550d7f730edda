"""scripts/bench bpf: what the kernel says of the eBPF programs: how many instructions its verifier went through, which
is the same in every run and has a limit, and how long a run of each takes. Times have no limit; how much longer a run
takes with 10,000 services than with one has, and a wide one.
"""
import contextlib
import ctypes
import os
import platform
import struct

from lab import progress
from report import Table
from services import ENDPOINTS, make, traffic

# Raise one with a reason in the commit. Kernels differ, and so do compilers: about twice what Linux 6.18 goes through.
VERIFIED = {"connect4": 8000, "connect6": 8000, "sendmsg4": 11000, "sendmsg6": 11000, "recvmsg4": 28000,
            "recvmsg6": 28000, "sock_ops": 700}
VERIFIED_ELSE = 300
SLOWER = 3.0
SERVICES = 10000
TEXT = ("Verified: instructions the kernel's verifier went through when it loaded the program; more than the limit "
        "fails the run. Nanoseconds: mean of a run, from the kernel's own statistics (BPF_ENABLE_STATS), in the best "
        "of the rounds, with one service and with {:,}; the clock that is read around each run is part of it. "
        "Connections and datagrams to a service make the runs; programs they do not pass have none.".format(SERVICES))
SYSCALL = {"x86_64": 321, "aarch64": 280}
GET_NEXT_PROGRAM, GET_PROGRAM, OBJECT_INFO, GET_PIN, ENABLE_STATS = 11, 13, 15, 7, 32
LIBC = ctypes.CDLL(None, use_errno=True)


def bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes, 128)
    done = LIBC.syscall(SYSCALL[platform.machine()], command, buffer, 128)
    if done < 0:
        raise OSError(ctypes.get_errno(), "bpf(%d): %s" % (command, os.strerror(ctypes.get_errno())))
    return done, buffer.raw


@contextlib.contextmanager
def descriptor(command, attributes):
    fd, _ = bpf(command, attributes)
    try:
        yield fd
    finally:
        os.close(fd)


def information(fd, given=b""):
    """struct bpf_prog_info or bpf_map_info."""
    info = ctypes.create_string_buffer(given, 256)
    bpf(OBJECT_INFO, struct.pack("=IIQ", fd, 232, ctypes.addressof(info)))
    return info.raw


class Program:
    def __init__(self, fd):
        maps = (ctypes.c_uint32 * 64)()
        # nr_map_ids and where they go.
        info = information(fd, struct.pack("=52xIQ", 64, ctypes.addressof(maps)))
        self.maps = list(maps)[:struct.unpack_from("=I", info, 52)[0]]
        self.name = info[64:80].split(b"\0")[0].decode()
        self.nanoseconds, self.runs = struct.unpack_from("=QQ", info, 192)
        self.verified = struct.unpack_from("=I", info, 216)[0]


def programs(bpffs, maps="maps"):
    """Those that use the maps pinned there, by name."""
    ours = set()
    for name in os.listdir("%s/%s" % (bpffs, maps)):
        path = ctypes.create_string_buffer(("%s/%s/%s" % (bpffs, maps, name)).encode())
        with descriptor(GET_PIN, struct.pack("=Q", ctypes.addressof(path))) as fd:
            ours.add(struct.unpack_from("=I", information(fd), 4)[0])
    found = {}
    for number in numbers():
        try:
            with descriptor(GET_PROGRAM, struct.pack("=I", number)) as fd:
                program = Program(fd)
        except FileNotFoundError:
            # Somebody's, and gone meanwhile.
            continue
        if ours & set(program.maps):
            found[program.name] = program
    return found


def numbers():
    """Of all programs in the kernel."""
    number = 0
    while True:
        try:
            _, answer = bpf(GET_NEXT_PROGRAM, struct.pack("=I", number))
        except FileNotFoundError:
            return
        number = struct.unpack_from("=I", answer, 4)[0]
        yield number


def measure(lab, quick):
    progress("bpf: loading 1 and %d services" % SERVICES)
    few, many = [make(lab, "heddle eBPF", size, name) for size, name in ((0, "few"), (SERVICES, "many"))]
    best = {}
    with descriptor(ENABLE_STATS, struct.pack("=I", 0)):
        for service in (few, many):
            service.node.serve(*ENDPOINTS)
        for turn in range(3 if quick else 6):
            progress("bpf: round %d" % (turn + 1))
            for service in (few, many):
                before = programs(service.node.bpffs)
                for kind, target in (("connect", service.tcp), ("udp", service.udp)):
                    traffic(service.node, "client", kind, target, 1000 if quick else 5000)
                for name, after in programs(service.node.bpffs).items():
                    runs = after.runs - before[name].runs
                    if runs >= 1000:
                        took = (after.nanoseconds - before[name].nanoseconds) / runs
                        best[service, name] = min(took, best.get((service, name), took))
    return [judge(programs(few.node.bpffs), {name: (best.get((few, name)), best.get((many, name)))
                                             for _, name in best})]


def judge(loaded, times):
    rows, broken = [], []
    for name, program in sorted(loaded.items()):
        one, many = times.get(name, (None, None))
        slower, limit = (many / one if one and many else None), VERIFIED.get(name, VERIFIED_ELSE)
        rows.append([name, program.verified, limit, one, many, slower])
        if program.verified > limit:
            broken.append("%s: %d instructions verified, more than the limit of %d" % (name, program.verified, limit))
        if slower and slower > SLOWER:
            broken.append("%s: a run takes %.1f times as long with %d services, more than %.1f times" % (
                name, slower, SERVICES, SLOWER))
    columns = ["program", "verified", "limit", "ns, 1 service", "ns, {:,}".format(SERVICES), "÷"]
    headline = ", ".join("%s %.0f ns, %d instructions verified" % (row[0], row[4], row[1]) for row in rows if row[4])
    return Table("eBPF programs", columns, rows, TEXT, headline, broken)
