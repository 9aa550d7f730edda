# A cluster to rehearse the chart in: two nodes, an API server that follows the chart's roles, and the chart's pods,
# started out of the image's file system by runc as kubelet and a runtime would. Sourced, not run, after common.sh and
# lab.sh.

rehearsal_packages=(runc golang-github-containers-common python3 python3-yaml openssl iproute2 nftables curl util-linux)

# in_a_world "$@": runs the script again in namespaces of its own, below a cgroup of its own, and removes it all when it
# has ended, however it ended. Sets `dir`, which goes as well; there the script leaves what it makes.
in_a_world() {
    if [ -n "${HEDDLE_WORLD:-}" ]; then
        dir=$HEDDLE_WORLD lab=hd cgroups=/sys/fs/cgroup
        mount -t tmpfs netns /run/netns
        mount -t cgroup2 cgroup2 $cgroups
        mkdir $cgroups/script
        echo $$ > $cgroups/script/cgroup.procs
        trap 'say "$(basename "$0"): line $LINENO failed: $BASH_COMMAND" >&2' ERR
        return
    fi
    # Not local: the trap looks at them when all functions have ended.
    world_directory=$(mktemp -d /tmp/heddle-world-XXXXXX) world_cgroup=$(cgroup2_root) world_mount=
    if [ -z "$world_cgroup" ]; then
        world_cgroup=$world_directory-cgroup2 world_mount=$world_cgroup
        mkdir "$world_mount" && mount -t cgroup2 none "$world_mount"
    fi
    world_cgroup+=/$(basename "$world_directory")
    mkdir "$world_cgroup"
    mkdir -p /run/netns
    trap 'kill_cgroup "$world_cgroup"; rm -rf --one-file-system "$world_directory"
        [ -z "$world_mount" ] || { umount "$world_mount" && rmdir "$world_mount"; }' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    (echo $BASHPID > "$world_cgroup/cgroup.procs" && HEDDLE_WORLD=$world_directory exec unshare --mount --net --pid \
        --mount-proc --ipc --uts --cgroup --fork --kill-child "$0" "$@") &
    local status=0
    wait $! || status=$?
    exit $status
}

# The nodes, with a file system each of what the chart mounts of them. 10.96.0.1:443 is the API server on node-1.
make_cluster() {
    local n
    mkdir -p "$dir/manifests" "$dir/pods" "$dir/log"
    for n in 1 2; do
        make_node $n
        mkdir -p "$dir"/node-$n/sys/fs/{bpf,cgroup}
        mount -t bpf bpf "$dir/node-$n/sys/fs/bpf"
        mount --bind $cgroups/$lab/node-$n "$dir/node-$n/sys/fs/cgroup"
        cat > "$dir/manifests/node-$n.yaml" <<- END
			apiVersion: v1
			kind: Node
			metadata: {name: node-$n}
			status: {addresses: [{type: InternalIP, address: 192.168.50.$n}]}
		END
    done
    service default kubernetes 10.96.0.1 443 6443 192.168.50.1
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=kubernetes \
        -addext subjectAltName=IP:192.168.50.1,IP:10.96.0.1 -keyout "$dir/key.pem" -out "$dir/ca.pem" 2> /dev/null
    run_in $lab-node-1 $cgroups/script python3 scripts/lib/api-server.py "$dir/manifests" "$dir/chart.yaml" \
        "$dir/ca.pem" "$dir/key.pem" 192.168.50.1 6443 > "$dir/log/api-server" 2>&1 &
    wait_for 10 "the API server answers" on_node node-2 curl -ks -m 1 https://192.168.50.1:6443/
}

# service NAMESPACE NAME CLUSTER-IP PORT TARGET-PORT ADDRESS[=POD]...: the Service and its EndpointSlice.
service() {
    local namespace=$1 name=$2 address=$3 port=$4 target=$5 endpoint
    shift 5
    {
        cat <<- END
			apiVersion: v1
			kind: Service
			metadata: {name: $name, namespace: $namespace}
			spec:
			  clusterIP: $address
			  clusterIPs: [$address]
			  ipFamilies: [IPv4]
			  ports: [{name: main, port: $port, targetPort: $target, protocol: TCP}]
			---
			apiVersion: discovery.k8s.io/v1
			kind: EndpointSlice
			metadata: {name: $name-1, namespace: $namespace, labels: {kubernetes.io/service-name: $name}}
			addressType: IPv4
			ports: [{name: main, port: $target, protocol: TCP}]
			endpoints:
		END
        for endpoint in "$@"; do
            say "- addresses: [${endpoint%=*}]"
            say "  conditions: {ready: true}"
            [[ $endpoint != *=* ]] ||
                say "  targetRef: {kind: Pod, namespace: $namespace, name: ${endpoint#*=}}"
        done
    } > "$dir/new" && mv "$dir/new" "$dir/manifests/service-$name.yaml"
}

# pod_object NAMESPACE NAME NODE ADDRESS ACCOUNT: the Pod, as the API has it.
pod_object() {
    cat > "$dir/new" <<- END
		apiVersion: v1
		kind: Pod
		metadata: {name: $2, namespace: $1}
		spec: {nodeName: $3, serviceAccountName: $5, containers: [{name: main}]}
		status:
		  phase: Running
		  podIP: $4
		  podIPs: [{ip: $4}]
		  conditions: [{type: Ready, status: "True"}]
	END
    mv "$dir/new" "$dir/manifests/pod-$2.yaml"
}

# chart_service NAME CLUSTER-IP ENDPOINT...: what a cluster makes of a Service of the chart whose pods are there.
chart_service() {
    python3 - "$dir/chart.yaml" "$@" > "$dir/new" <<- 'END'
		import sys, yaml
		chart, name, address, *endpoints = sys.argv[1:]
		with open(chart) as file:
		    objects = [each for each in yaml.safe_load_all(file) if each]
		service = next(each for each in objects if each["kind"] == "Service" and each["metadata"]["name"] == name)
		spec, metadata = service["spec"], service["metadata"]
		templates = [each["spec"]["template"] for each in objects if each["kind"] == "Deployment"]
		named = {port["name"]: port["containerPort"] for each in templates
		         if spec["selector"].items() <= each["metadata"]["labels"].items()
		         for container in each["spec"]["containers"] for port in container["ports"]}
		spec.update(clusterIP=address, clusterIPs=[address], ipFamilies=["IPv4"])
		ports = [{"name": port["name"], "port": named[port["targetPort"]], "protocol": "TCP"} for port in spec["ports"]]
		slices = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": ports,
		          "metadata": {"name": name + "-1", "namespace": metadata["namespace"],
		                       "labels": {"kubernetes.io/service-name": name}},
		          "endpoints": [{"addresses": [each], "conditions": {"ready": True}} for each in endpoints]}
		yaml.safe_dump_all([service, slices], sys.stdout)
	END
    mv "$dir/new" "$dir/manifests/service-$1.yaml"
}

# chart_hooks NODE POD: the route and the pod of the chart's hooks, as far as helm has made them when it waits for the
# pod: it goes by weights, then by kinds, of which those that it does not know come last.
chart_hooks() {
    python3 - "$dir/chart.yaml" "$@" <<- 'END'
		import sys, yaml
		chart, node, name = sys.argv[1:]
		order = ["ServiceAccount", "Service", "Pod"]
		def place(each):
		    weight = int(each["metadata"]["annotations"].get("helm.sh/hook-weight", 0))
		    return weight, order.index(each["kind"]) if each["kind"] in order else len(order)
		with open(chart) as file:
		    hooks = [each for each in yaml.safe_load_all(file)
		             if each and "helm.sh/hook" in each["metadata"].get("annotations", {})]
		pod = next(each for each in hooks if each["kind"] == "Pod" and each["metadata"]["name"] == name)
		pod["spec"]["nodeName"], pod["status"] = node, {"phase": "Running"}
		yaml.safe_dump_all([each for each in hooks if each["kind"] in ("HTTPRoute", "Pod") and place(each) <= place(pod)],
		                   sys.stdout)
	END
}

# api ACCOUNT PATH: an object, as this ServiceAccount may read it.
api() { on_node node-1 curl -ks -m 2 -H "Authorization: Bearer $1" "https://192.168.50.1:6443$2"; }

container() { runc --root "$dir/runc" "$@"; }

# What DNS says, and `live=FILE` as soon as the cluster has more than the chart: for every pod that starts from then on.
hosts=
live=()
# start_pod NODE KIND/NAME ID ADDRESS NAMESPACE KEY=VALUE...
start_pod() {
    local node=$1 workload=$2 id=$3 address=$4 network=$5 bundle
    shift 5
    rm -rf --one-file-system "$dir/pods/$id"
    mkdir "$dir/pods/$id"
    python3 scripts/lib/pod.py "$dir/chart.yaml" "$workload" "$dir/pods/$id" "$image" "$dir/$node" \
        network="/run/netns/$network" cgroup="/$lab/$node/pods/$id" node="$node" name="$id" ip="$address" \
        ca="$dir/ca.pem" hosts="$hosts" "${live[@]}" \
        KUBERNETES_SERVICE_HOST=10.96.0.1 KUBERNETES_SERVICE_PORT=443 "$@"
    for bundle in "$dir/pods/$id"/*/config.json; do
        bundle=${bundle%/*}
        container run --bundle "$bundle" "$id-${bundle##*/}" < /dev/null >> "$dir/log/$id-${bundle##*/}" 2>&1 &
    done
}

containers_of() { find "$dir/runc" -mindepth 1 -maxdepth 1 -name "$1-*" -printf '%f\n'; }
has_ended() { [ -z "$(containers_of "$1")" ]; }
is_ready() {
    local url
    for url in "$dir/pods/$1"/*/ready; do
        nsenter --net="/run/netns/$2" curl -sf -m 1 "$(cat "$url")" || return
    done
}

# stop_pod ID: as kubelet ends it.
stop_pod() {
    local each
    for each in $(containers_of "$1"); do container kill "$each" TERM || true; done
    if ! wait_for "$(cat "$dir/pods/$1/grace")" "$1 has ended" has_ended "$1"; then
        for each in $(containers_of "$1"); do container kill "$each" KILL || true; done
        wait_for 5 "$1 was killed" has_ended "$1"
    fi
}

# start_agent N KEY=VALUE..., start_proxy N NAME: the Pods of node-N.
start_agent() {
    local n=$1
    shift
    start_pod node-$n DaemonSet/heddle agent-$n 192.168.50.$n $lab-node-$n "$@"
}
start_proxy() { start_pod node-$1 DaemonSet/heddle-proxy "$2-$1" 192.168.50.$1 $lab-node-$1; }
stop_agent() { stop_pod agent-"$1"; }
agent_is_ready() { is_ready agent-"$1" $lab-node-"$1"; }
# As `kubectl exec`: with the container's own rights.
agentctl() {
    local n=$1
    shift
    container exec agent-"$n"-agent agentctl "$@"
}
