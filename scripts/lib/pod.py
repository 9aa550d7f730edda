"""What kubelet and a container runtime make of a pod of the chart, as bundles for runc: user, capabilities, seccomp
profile, read-only root, mounts and environment are the manifest's, nothing is given beside them.

    pod.py MANIFESTS KIND/NAME DIRECTORY IMAGE NODE KEY=VALUE...

DIRECTORY/CONTAINER is each container's bundle, with the file `ready`, the URL of its readiness probe, where it has
one; DIRECTORY/grace is the time that it has to end. IMAGE: the image's file system; a bundle gets links to its files.
NODE: a directory that stands for the node's own: hostPath /a/b is NODE/a/b. KEY: `network`, the namespace's path;
`cgroup`, the path below the hierarchy's root; `node`, `name` and `ip` as the API has them; `ca`, the certificate of
the API server; `without`, a capability that the containers do not get; `live`, a file of objects as they are in the
cluster by now; `hosts`, NAME=ADDRESS,... as DNS would say; any other is a variable of the environment.
"""
import json
import os
import platform
import subprocess
import sys

import yaml

# Debian's golang-github-containers-common has it: what Podman and CRI-O mean by RuntimeDefault. containerd's own is a
# little wider (CAP_BPF suffices for bpf(2)) and in no file.
PROFILE = "/usr/share/containers/seccomp.json"
MACHINE = {"x86_64": ("SCMP_ARCH_X86_64", "amd64"), "aarch64": ("SCMP_ARCH_AARCH64", "arm64")}[platform.machine()]
# The capabilities that a runtime gives before the manifest adds and drops.
DEFAULT = """AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP
    SETUID SYS_CHROOT""".split()
KEYS = ("network", "cgroup", "node", "name", "ip", "ca", "without", "live", "hosts")


def seccomp(capabilities):
    """The profile with its conditions decided, as the runtime does it."""
    def applies(rule):
        wanted, unwanted = rule.get("includes") or {}, rule.get("excludes") or {}
        return (all(each in capabilities for each in wanted.get("caps", []))
                and MACHINE[1] in wanted.get("arches", [MACHINE[1]])
                and not any(each in capabilities for each in unwanted.get("caps", []))
                and MACHINE[1] not in unwanted.get("arches", []))

    with open(PROFILE) as file:
        profile = json.load(file)
    calls = []
    for rule in profile["syscalls"]:
        if applies(rule):
            calls.append({key: rule[key] for key in ("names", "action", "args", "errnoRet") if rule.get(key)})
    known = next(each for each in profile["archMap"] if each["architecture"] == MACHINE[0])
    return {"defaultAction": profile["defaultAction"], "defaultErrnoRet": profile["defaultErrnoRet"],
            "architectures": [known["architecture"], *known["subArchitectures"]], "syscalls": calls}


def capabilities_of(security, given):
    change = security.get("capabilities", {})
    kept = [] if "ALL" in change.get("drop", []) else [name for name in DEFAULT if name not in change.get("drop", [])]
    names = set(kept) | set(change.get("add", []))
    if "without" in given:
        names.discard(given["without"])
    return sorted("CAP_" + name for name in names)


def volume_source(volume, objects, directory, node, identity):
    """The directory on this machine that the volume is. `identity`: NAMESPACE~ACCOUNT~POD, the tail of its tokens."""
    path = f"{directory}/volumes/{volume['name']}"
    if "hostPath" in volume:
        path = node + volume["hostPath"]["path"]
        if volume["hostPath"].get("type") == "DirectoryOrCreate":
            os.makedirs(path, 0o755, exist_ok=True)
        elif not os.path.isdir(path):
            sys.exit(f"pod.py: the node has no {volume['hostPath']['path']}")
    elif "configMap" in volume:
        os.makedirs(path, exist_ok=True)
        write_config(path, volume["configMap"], objects)
    elif "projected" in volume:
        os.makedirs(path, exist_ok=True)
        for source in volume["projected"]["sources"]:
            if "configMap" in source:
                write_config(path, source["configMap"], objects)
            elif "serviceAccountToken" in source:
                with open(f"{path}/{source['serviceAccountToken']['path']}", "w") as file:
                    file.write(f"{source['serviceAccountToken']['audience']}~{identity}")
            else:
                sys.exit(f"pod.py: the chart projects what is unknown here: {source}")
    elif "emptyDir" in volume:
        os.makedirs(path, exist_ok=True)
        os.chmod(path, 0o777)
    else:
        sys.exit(f"pod.py: the chart has a volume of a kind unknown here: {volume}")
    return path


def write_config(path, source, objects):
    """The ConfigMap's data as files: what `items` says, or all of it."""
    found = [each.get("data", {}) for each in objects
             if each["kind"] == "ConfigMap" and each["metadata"]["name"] == source["name"]]
    if not found and not source.get("optional"):
        sys.exit(f"pod.py: there is no ConfigMap {source['name']}")
    data = found[0] if found else {}
    for item in source.get("items", [{"key": key, "path": key} for key in data]):
        if item["key"] not in data and source.get("optional"):
            continue
        os.makedirs(os.path.dirname(f"{path}/{item['path']}"), exist_ok=True)
        with open(f"{path}/{item['path']}", "w") as file:
            file.write(data[item["key"]])


def service_account(pod, namespace, directory, given):
    """Its token is its name, which is what the rehearsals' API server takes it for."""
    path = directory + "/service-account"
    os.makedirs(path, exist_ok=True)
    with open(given["ca"]) as file:
        certificate = file.read()
    texts = {"token": pod.get("serviceAccountName", "default"), "namespace": namespace, "ca.crt": certificate}
    for name, text in texts.items():
        with open(f"{path}/{name}", "w") as file:
            file.write(text)
    return path


def environment(container, namespace, given):
    fields = {"spec.nodeName": given["node"], "metadata.name": given["name"], "metadata.namespace": namespace,
              "status.podIP": given["ip"], "status.hostIP": given["ip"]}
    result = {"PATH": "/usr/local/bin", **{key: value for key, value in given.items() if key not in KEYS}}
    for entry in container.get("env", []):
        path = entry.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        result[entry["name"]] = fields[path] if path else entry["value"]
    return [f"{key}={value}" for key, value in result.items()]


def mounts_of(container, volumes, account):
    plain = ["nosuid", "noexec", "nodev"]
    yield {"destination": "/proc", "type": "proc", "source": "proc", "options": plain}
    yield {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755"]}
    yield {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*plain, "ro"]}
    yield {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [*plain, "ro"]}
    mounts = list(container.get("volumeMounts", []))
    if account in volumes:
        mounts.append({"name": account, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": True})
    if "hosts" in volumes:
        mounts.append({"name": "hosts", "mountPath": "/etc/hosts", "readOnly": True})
    for mount in sorted(mounts, key=lambda mount: mount["mountPath"]):
        yield {"destination": mount["mountPath"], "type": "none", "source": volumes[mount["name"]],
               "options": ["rbind", "ro" if mount.get("readOnly") else "rw"]}


def bundle(container, pod, namespace, volumes, given):
    security = {**pod.get("securityContext", {}), **container.get("securityContext", {})}
    capabilities = capabilities_of(security, given)
    user = security.get("runAsUser", 0)
    if security.get("runAsNonRoot") and user == 0:
        sys.exit(f"pod.py: {container['name']} would run as root, which its own runAsNonRoot forbids")
    kept = capabilities if user == 0 else []
    config = {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": user, "gid": security.get("runAsGroup", 0),
                     "additionalGids": security.get("supplementalGroups", [])},
            "args": container.get("command", ["/usr/local/bin/heddle-agent"]) + container.get("args", []),
            "env": environment(container, namespace, given), "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": kept, "permitted": kept},
            "noNewPrivileges": security.get("allowPrivilegeEscalation") is False,
        },
        "root": {"path": "rootfs", "readonly": security.get("readOnlyRootFilesystem", False)},
        "mounts": list(mounts_of(container, volumes, "service account")),
        "linux": {
            "cgroupsPath": f"{given['cgroup']}/{container['name']}",
            "namespaces": [{"type": kind} for kind in ["mount", "ipc", "uts", "cgroup"]]
            + [{"type": "pid"}] * (not pod.get("hostPID")) + [{"type": "network", "path": given["network"]}],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                            "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }
    profile = security.get("seccompProfile", {}).get("type")
    if profile == "RuntimeDefault":
        config["linux"]["seccomp"] = seccomp(capabilities)
    elif profile is not None:
        sys.exit(f"pod.py: the chart asks for a seccomp profile unknown here: {profile}")
    return config


def readiness(container, given):
    probe = container.get("readinessProbe", {}).get("httpGet")
    if probe is None:
        return None
    ports = {port["name"]: port["containerPort"] for port in container.get("ports", []) if "name" in port}
    return f"http://{probe.get('host', given['ip'])}:{ports.get(probe['port'], probe['port'])}{probe['path']}"


def main(manifests, workload, directory, image, node, *pairs):
    given = dict(pair.split("=", 1) for pair in pairs)
    with open(manifests) as file:
        objects = [each for each in yaml.safe_load_all(file) if each]
    kind, of = workload.split("/")
    owner = next(each for each in objects if each["kind"] == kind and each["metadata"]["name"] == of)
    pod = owner["spec"] if kind == "Pod" else owner["spec"]["template"]["spec"]
    namespace = owner["metadata"]["namespace"]
    if "live" in given:
        with open(given["live"]) as file:
            objects = [each for each in yaml.safe_load_all(file) if each] + objects
    identity = f"{namespace}~{pod.get('serviceAccountName', 'default')}~{given['name']}"
    volumes = {volume["name"]: volume_source(volume, objects, directory, node, identity)
               for volume in pod.get("volumes", [])}
    if given.get("hosts"):
        volumes["hosts"] = directory + "/hosts"
        with open(volumes["hosts"], "w") as file:
            file.writelines("{1} {0}\n".format(*pair.split("=")) for pair in given["hosts"].split(","))
    if pod.get("automountServiceAccountToken", True):
        volumes["service account"] = service_account(pod, namespace, directory, given)
    with open(directory + "/grace", "w") as file:
        file.write(str(pod.get("terminationGracePeriodSeconds", 30)))
    for container in pod["containers"]:
        path = f"{directory}/{container['name']}"
        os.makedirs(path)
        # Files are those of the image by hard links: what is mounted over them makes directories in a root of its own.
        subprocess.run(["cp", "-al", image, path + "/rootfs"], check=True)
        with open(path + "/config.json", "w") as file:
            json.dump(bundle(container, pod, namespace, volumes, given), file, indent=1)
        url = readiness(container, given)
        if url:
            with open(path + "/ready", "w") as file:
                file.write(url)


main(*sys.argv[1:])
