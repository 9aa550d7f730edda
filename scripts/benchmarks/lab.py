"""Where benchmarks happen: nodes made of network namespaces and cgroups named hd-bench-*, all removed at the end."""
import contextlib
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

# A node's namespaces: itself, two pods on it, and a machine outside the cluster.
PLACES = ("node", "client", "server", "outside")
NODE_IP, OUTSIDE_IP = "192.168.0.2", "192.168.0.1"
POD_IP = {"client": "10.1.0.2", "server": "10.1.0.3"}
BACKENDS = ["10.1.0.3:8080", "10.1.0.3:8081"]
# More addresses of the server's pod, each an endpoint.
ENDPOINT_IPS = ["10.1.1.%d" % number for number in range(1, 31)]
CPUS = sorted(os.sched_getaffinity(0))


def run(*argv, check=True, **kw):
    done = subprocess.run(argv, capture_output=True, text=True, **kw)
    if check and done.returncode:
        raise Failure("%s: %s%s" % (" ".join(argv), done.stdout, done.stderr))
    return done.stdout


class Failure(Exception):
    """A measurement that cannot be made; the others go on."""


class Missing(Exception):
    """Something a measurement needs is not there: it is not run, and the report says so."""


def progress(text):
    print("  [%4.0f s] %s" % (time.monotonic() - STARTED, text), file=sys.stderr, flush=True)


STARTED = time.monotonic()


def wait(condition, what, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failure("%s did not come within %d s" % (what, seconds))
        time.sleep(0.005)


def mount_of(kind, option=""):
    """Where a file system of this kind is mounted, and with which option; None: nowhere."""
    with open("/proc/mounts") as mounts:
        for line in mounts:
            _, path, found, options = line.split()[:4]
            if found == kind and (not option or option in options.split(",")):
                return path
    return None


def cpu_seconds(pid):
    """Of the process and of the children that it waited for."""
    with open("/proc/%d/stat" % pid) as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid, field="VmRSS"):
    with open("/proc/%d/status" % pid) as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(field))


def thread_seconds(pid):
    """CPU time of the threads that a process has, to the nanosecond."""
    total = 0
    for path in glob.glob("/proc/%d/task/*/schedstat" % pid):
        with open(path) as file:
            total += int(file.read().split()[0])
    return total / 1e9


def kernel_seconds(pid):
    """What of it was in the kernel, to the hundredth of a second."""
    with open("/proc/%d/stat" % pid) as stat:
        return int(stat.read().rsplit(")", 1)[1].split()[12]) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def going_first(children):
    """They go before whatever else the machine is busy with."""
    def schedule(policy, priority):
        for path in [path for child in children for path in glob.glob("/proc/%d/task/*" % child.pid)]:
            # A thread may have ended.
            with contextlib.suppress(ProcessLookupError):
                os.sched_setscheduler(int(os.path.basename(path)), policy, os.sched_param(priority))

    schedule(os.SCHED_FIFO, 1)
    try:
        yield
    finally:
        schedule(os.SCHED_OTHER, 0)


def remove_cgroup(path):
    """With those below it. Fails until the kernel has let go of the last process."""
    def gone():
        for directory, _, _ in os.walk(path, topdown=False):
            try:
                os.rmdir(directory)
            except OSError:
                return False
        return True
    wait(gone, "the end of the processes in " + path, 10)


class Lab:
    """The programs under test, a directory, and the nodes made so far."""

    def __init__(self, bindir, proxy=None):
        self.bin, self.proxy = bindir, proxy
        self.dir = tempfile.mkdtemp(prefix="hd-bench-")
        self.mounted = []
        self.nodes = []

    def __enter__(self):
        if not os.path.ismount("/sys/fs/bpf"):
            self.mount("bpf", "/sys/fs/bpf")
        self.cgroups = mount_of("cgroup2")
        if not self.cgroups:
            self.cgroups = self.dir + "/cgroup2"
            os.mkdir(self.cgroups)
            self.mount("cgroup2", self.cgroups)
        return self

    def mount(self, kind, path):
        run("mount", "-t", kind, kind, path)
        self.mounted.append(path)

    def remove_nodes(self):
        for node in self.nodes[:]:
            node.remove()

    def __exit__(self, *_):
        self.remove_nodes()
        for path in self.mounted:
            run("umount", path, check=False)
        shutil.rmtree(self.dir, ignore_errors=True)

    def node(self, name):
        return Node(self, name)


class Node:
    """One node with two pods on it, a client and a server, and a machine outside. `with` removes it."""
    places, node_name = PLACES, "node-1"

    def __init__(self, lab, name):
        self.lab, self.name, self.bin, self.proxy = lab, name, lab.bin, lab.proxy
        self.id = "hd-bench-" + name
        self.cgroup = os.path.join(lab.cgroups, self.id)
        # Client and server; what else runs on the node is not counted with them.
        self.traffic_cgroup = self.cgroup + "/traffic"
        self.outside_cgroup = self.cgroup + "-outside"
        self.bpffs = "/sys/fs/bpf/" + self.id
        self.dir = "%s/%s" % (lab.dir, name)
        self.children = []
        lab.nodes.append(self)
        self.make()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()

    def namespace(self, place):
        return "%s-%s" % (self.id, place)

    def cgroup_of(self, place, traffic=False):
        return self.outside_cgroup if place == "outside" else self.traffic_cgroup if traffic else self.cgroup

    def make_places(self, pods):
        """`pods`: their addresses by name."""
        for path in (self.dir, self.traffic_cgroup, self.outside_cgroup):
            os.makedirs(path, exist_ok=True)
        for place in self.places:
            run("ip", "netns", "del", self.namespace(place), check=False)
            run("ip", "netns", "add", self.namespace(place))
            self.ip(place, "link set lo up")
        for number, (pod, address) in enumerate(pods.items()):
            self.ip("node", "link add v%d type veth peer name eth0 netns %s" % (number, self.namespace(pod)),
                    "link set v%d up" % number, "addr add 169.254.1.1/32 dev v%d" % number,
                    "route add %s/32 dev v%d" % (address, number))
            self.ip(pod, "link set eth0 up", "addr add %s/32 dev eth0" % address,
                    "route add 169.254.1.1 dev eth0", "route add default via 169.254.1.1 dev eth0")

    def make(self):
        self.make_places(POD_IP)
        self.ip("server", *("addr add %s/32 dev eth0" % address for address in ENDPOINT_IPS))
        self.ip("node", "route add 10.1.1.0/24 via %s dev v1" % POD_IP["server"],
                "link add up0 type veth peer name eth0 netns " + self.namespace("outside"),
                "addr add %s/24 dev up0" % NODE_IP, "link set up0 up", "route add default via %s dev up0" % OUTSIDE_IP)
        self.ip("outside", "addr add %s/24 dev eth0" % OUTSIDE_IP, "link set eth0 up",
                "route add 10.1.0.0/16 via %s dev eth0" % NODE_IP)
        self.inside("node", "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")

    def ip(self, place, *commands):
        run("ip", "-n", self.namespace(place), "-batch", "-", input="\n".join(commands))

    def remove(self):
        for child in self.children:
            child.kill()
            child.wait()
        self.children = []
        if os.path.exists(self.bpffs):
            self.cleanup()
            shutil.rmtree(self.bpffs, ignore_errors=True)
        for place in self.places:
            run("ip", "netns", "del", self.namespace(place), check=False)
        for path in (self.cgroup, self.outside_cgroup):
            remove_cgroup(path)
        shutil.rmtree(self.dir, ignore_errors=True)
        self.lab.nodes.remove(self)

    # ---------------------------------------------------------------------------------------------------- processes

    def command(self, where, *argv, cgroup=None):
        """The words that become `argv` in a namespace and a cgroup, or several, separated by spaces."""
        enter = 'for c in $0; do echo 0 > "$c/cgroup.procs"; done; exec nsenter --net=/run/netns/%s "$@"'
        return ["sh", "-c", enter % self.namespace(where), cgroup or self.cgroup_of(where), *map(str, argv)]

    def inside(self, where, *argv, **kw):
        return run(*self.command(where, *argv), **kw)

    def start(self, where, *argv, log=None, cgroup=None, **kw):
        out = open(log, "w") if log else subprocess.DEVNULL
        kw.setdefault("stdin", subprocess.DEVNULL)
        kw.setdefault("stdout", out)
        kw.setdefault("stderr", subprocess.STDOUT)
        # A session of its own: ctrl-C ends the script, and the script ends these.
        child = subprocess.Popen(self.command(where, *argv, cgroup=cgroup), start_new_session=True, **kw)
        self.children.append(child)
        return child

    def stop(self, child, how=signal.SIGTERM):
        child.send_signal(how)
        child.wait()
        self.children.remove(child)

    def bench(self, where, *argv, wrapper=(), cgroup=None):
        return result(run(*self.command(where, *wrapper, self.bin + "/heddle-bench", *argv, cgroup=cgroup)))

    def serve(self, *addresses, cpu=CPUS[0], place="server"):
        """Starts what answers the traffic; it takes commands on its standard input."""
        child = self.start(
            place, "prlimit", "--nofile=4096", "taskset", "-c", cpu, self.bin + "/heddle-bench", "answer",
            "--addresses", ",".join(addresses), cgroup=self.traffic_cgroup, stdin=subprocess.PIPE,
            log=self.dir + "/server.log")
        port = ":" + addresses[0].split(":")[1]
        wait(lambda: port in self.inside(place, "ss", "-Hltn"), "the server", 10)
        return child

    # --------------------------------------------------------------------------------------------------- what is tested

    def agentctl(self, *argv):
        where = ("--bpffs", self.bpffs, "--api-socket", self.dir + "/agent.sock")
        return self.inside("node", self.bin + "/agentctl", *argv, *where)

    def cleanup(self):
        self.agentctl("cleanup")

    def start_agent(self, dataplane, source, *options, is_synced=None):
        """Starts heddle-agent; it has everything in the kernel when this returns, or what `is_synced` wants of its
        status."""
        socket = self.dir + "/agent.sock"
        if os.path.exists(socket):
            os.unlink(socket)
        child = self.start(
            "node", self.bin + "/heddle-agent", "run", "--node-name", self.node_name, "--source", source, "--dataplane",
            dataplane, "--cgroup", self.cgroup, "--bpffs", self.bpffs, "--cluster-cidr", "10.0.0.0/8", "--state-dir",
            self.dir + "/state", "--api-socket", socket, "--min-sync-period", "0s",
            *options, log=self.dir + "/agent.log")

        def ready():
            if child.poll() is not None:
                with open(self.dir + "/agent.log") as log:
                    raise Failure("the agent ended: " + log.read()[-2000:])
            return os.path.exists(socket)
        wait(ready, "the agent's socket", 60)
        if is_synced:
            # The socket has its name before anybody listens on it.
            wait(lambda: self.is_answered(is_synced), "what is wanted of the agent")
        else:
            self.agentctl("status", "--wait", "300s")
        return child

    def is_answered(self, is_synced):
        try:
            return is_synced(json.loads(self.agentctl("status", "-o", "json")))
        except Failure:
            return False

    def program(self, dataplane, services, endpoints, updates, target, cgroup=None):
        """Compiles and writes generated services without an agent; the kernel state stays."""
        return self.bench(
            "node", "programming", "--dataplane", dataplane, "--services", services, "--endpoints", endpoints,
            "--updates", updates, "--target", target, "--cgroup", self.cgroup, "--bpffs", self.bpffs, cgroup=cgroup)


def result(text):
    """The line of JSON that ends the output of heddle-bench."""
    return json.loads(text.strip().splitlines()[-1])
