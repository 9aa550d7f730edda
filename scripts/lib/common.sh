# What the scripts share: talking, installing what is missing, building, and programs in namespaces and cgroups.
# Sourced, not run. Every script works from a bare checkout on Debian 12 with a Swift toolchain.

cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

# One line for each argument.
say() { printf '%s\n' "$@"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# as_root "$@": runs the script again with sudo when it is not root.
as_root() {
    [ "$(id -u)" -eq 0 ] && return
    command -v sudo > /dev/null || die "needs root (namespaces, cgroups, eBPF), and there is no sudo"
    exec sudo env PATH="$PATH" HOME="$HOME" HEDDLE_BIN_DIR="${HEDDLE_BIN_DIR:-}" "$0" "$@"
}

# install_missing PACKAGE...: installs those that are not there, and says so first.
install_missing() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    say "Installing with apt: ${missing[*]}"
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -y)
    [ "$(id -u)" -eq 0 ] || apt=(sudo "${apt[@]}")
    # nginx is wanted as a program; its package would start it as a service on port 80.
    local policy=/usr/sbin/policy-rc.d made_policy=
    if [ "$(id -u)" -eq 0 ] && [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' > $policy && chmod +x $policy && made_policy=1
    fi
    if ! "${apt[@]}" install --no-install-recommends "${missing[@]}" > /dev/null 2>&1; then
        "${apt[@]}" update > /dev/null && "${apt[@]}" install --no-install-recommends "${missing[@]}" > /dev/null ||
            die "apt could not install ${missing[*]}: see the message above"
    fi
    [ -z "$made_policy" ] || rm -f $policy
}

build_packages=(libbpf-dev libnftnl-dev libmnl-dev libyaml-dev)
# libelf and zlib come with libbpf-dev; iproute2 and nftables are for tests and people, the product never runs them.
test_packages=(curl openssl nghttp2-client iproute2 nftables iptables util-linux procps)
demo_packages=(iproute2 nginx-light python3 curl util-linux bsdextrautils)

need_swift() {
    command -v swift > /dev/null ||
        die "no swift in PATH: install the toolchain from https://www.swift.org/install/linux"
}

# shipped_programs DIRECTORY: those of the image, which must be there.
shipped_programs() {
    local program
    for program in heddle-agent heddle-proxy heddle-controller agentctl; do
        [ -x "$1/$program" ] || die "no $program in $1: run scripts/build-release"
        say "$program"
    done
}

# The version of the programs, the chart and the image.
heddle_version() { sed -n 's/^appVersion: //p' deploy/helm/heddle/Chart.yaml; }

# Maps and links are pinned in a bpf file system. systemd mounts one; a machine without it has none.
need_bpffs() {
    mountpoint -q /sys/fs/bpf && return
    say "Mounting a bpf file system at /sys/fs/bpf"
    mount -t bpf bpf /sys/fs/bpf
}

# Where the cgroup v2 hierarchy is mounted; empty when it is not.
cgroup2_root() { awk '$3 == "cgroup2" { print $2; exit }' /proc/self/mounts; }

# run_in NAMESPACE CGROUP COMMAND...: becomes the command there. `ip netns exec` would hide /sys, so nsenter.
run_in() {
    local namespace=$1 cgroup=$2
    shift 2
    bash -c 'echo $$ > "$1/cgroup.procs" && shift && exec "$@"' run_in "$cgroup" \
        nsenter --net="/run/netns/$namespace" "$@"
}

# wait_for SECONDS "what" COMMAND...: polls until the command succeeds.
wait_for() {
    local deadline=$((SECONDS + $1)) what=$2 started=$SECONDS told=0
    shift 2
    until "$@" > /dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || { say "not so after $((SECONDS - started)) s: $what" >&2; return 1; }
        if [ $((SECONDS - started)) -ge 2 ] && [ $told -eq 0 ]; then say "   waiting: $what"; told=1; fi
        sleep 0.05
    done
}

# kill_cgroup DIRECTORY: ends every process in it and below, then removes it.
kill_cgroup() {
    [ -d "$1" ] || return 0
    local try directory
    for try in $(seq 200); do
        # cgroup.kill came with Linux 5.14.
        echo 1 2> /dev/null > "$1/cgroup.kill" ||
            find "$1" -name cgroup.procs -exec cat {} + 2> /dev/null | xargs -r kill -KILL 2> /dev/null || true
        # Fails until the kernel has let go of the last process.
        find "$1" -depth -type d -exec rmdir {} + 2> /dev/null || true
        [ -d "$1" ] || return 0
        sleep 0.05
    done
    say "cannot remove cgroup $1" >&2
    return 1
}
