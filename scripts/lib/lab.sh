# Nodes and pods of a cluster on one machine: network namespaces and cgroups. Sourced, not run. The script that does has
# `lab`, the prefix of their names, and `cgroups`, the directory of the cgroup v2 hierarchy, and removes what was made.

make_namespace() {
    ip netns add "$lab-$1"
    mkdir -p "$cgroups/$lab/$2"
    # Redirects would tell pods of one node to bypass it.
    nsenter --net="/run/netns/$lab-$1" sysctl -q -w net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 \
        net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0 \
        net.ipv6.conf.all.accept_redirects=0 net.ipv6.conf.default.accept_redirects=0
    ip -n "$lab-$1" link set lo up
}

# A node: two uplink addresses, a bridge for its pods, and the way to the other node's pods.
make_node() {
    local n=$1 other=$((3 - $1))
    make_namespace node-$n node-$n/agent
    nsenter --net=/run/netns/$lab-node-$n sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    # Pods are routed; where the kernel filters bridged frames too, a pod could not reach itself through a Service.
    nsenter --net=/run/netns/$lab-node-$n sysctl -q -e -w net.bridge.bridge-nf-call-iptables=0 \
        net.bridge.bridge-nf-call-ip6tables=0 2> /dev/null || true
    [ "$n" -eq 1 ] || ip -n $lab-node-1 link add eth0 type veth peer name eth0 netns $lab-node-2
    [ "$n" -eq 1 ] || for end in 1 2; do
        ip -n $lab-node-$end -batch - <<- END
			link set eth0 up
			address add 192.168.50.$end/24 dev eth0
			address add fd00:50::$end/64 dev eth0 nodad
			route add default dev eth0
			route add 10.244.$((3 - end)).0/24 via 192.168.50.$((3 - end))
			route add fd00:244:$((3 - end))::/64 via fd00:50::$((3 - end))
		END
    done
    ip -n $lab-node-$n -batch - <<- END
		link add cni0 type bridge mcast_snooping 0
		link set cni0 up
		address add 10.244.$n.1/24 dev cni0
		address add fd00:244:$n::1/64 dev cni0 nodad
	END
}

# A pod: its address is a /32, so that all it sends passes its node.
make_pod() {
    local name=$1 n=$2 host=$3
    make_namespace "$name" "node-$n/$name"
    ip -n $lab-node-$n link add "$name" type veth peer name eth0 netns "$lab-$name"
    ip -n $lab-node-$n link set "$name" master cni0 up
    ip -n "$lab-$name" -batch - <<- END
		link set eth0 up
		address add 10.244.$n.$host/32 dev eth0
		address add fd00:244:$n::$host/128 dev eth0 nodad
		route add 10.244.$n.1 dev eth0 scope link
		route add default via 10.244.$n.1
		route add fd00:244:$n::1 dev eth0
		route add default via fd00:244:$n::1
	END
}

node_of() { printf 'node-%s' "${1##*-}"; }
in_pod() { local pod=$1; shift; run_in "$lab-$pod" "$cgroups/$lab/$(node_of "$pod")/$pod" "$@"; }
on_node() { local node=$1; shift; run_in "$lab-$node" "$cgroups/$lab/$node/agent" "$@"; }
