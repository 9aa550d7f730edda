# The story of `scripts/demo --l7`: a canary release over two versions of one Service. Sourced by scripts/demo, which
# has the nodes and pods, the end of everything, and the helpers used here.

servers="old-1 old-2 new-1 new-2"

# Answers with the pod's name, and with 503 while the file PODNAME.fails exists; counts those in PODNAME.failed.
write_server() {
    cat > "$dir/server.py" <<- 'END'
		import http.server, os, sys
		name, directory = sys.argv[1:]

		class Handler(http.server.BaseHTTPRequestHandler):
		    protocol_version = "HTTP/1.1"
		    wbufsize = -1

		    def do_GET(self):
		        fails = os.path.exists("%s/%s.fails" % (directory, name))
		        if fails:
		            with open("%s/%s.failed" % (directory, name), "a") as file:
		                file.write("503\n")
		        body = (name + "\n").encode()
		        self.send_response(503 if fails else 200)
		        self.send_header("content-length", str(len(body)))
		        self.end_headers()
		        self.wfile.write(body)

		    def log_message(self, *_):
		        pass

		http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
	END
}

l7_service() {
    cat > "$dir/manifests/service-$1.yaml" <<- END
		apiVersion: v1
		kind: Service
		metadata: {name: $1, namespace: shop, annotations: {$4}}
		spec:
		  selector: {$3}
		  clusterIP: 10.96.0.$2
		  clusterIPs: [10.96.0.$2]
		  ports: [{name: http, port: 80, targetPort: 8080, protocol: TCP, appProtocol: http}]
	END
}

l7_pod() {
    local name=$1 labels=$2 host=$3 n=${1##*-}
    cat > "$dir/manifests/pod-$name.yaml" <<- END
		apiVersion: v1
		kind: Pod
		metadata: {name: $name, namespace: shop, labels: {$labels, service.istio.io/workload-name: ${name%-*}}}
		spec: {nodeName: node-$n, containers: [{name: main}]}
		status:
		  phase: Running
		  podIP: 10.244.$n.$host
		  podIPs: [{ip: 10.244.$n.$host}]
		  conditions: [{type: Ready, status: "True"}]
	END
}

write_route() {
    cat > "$dir/manifests/route.yaml" <<- END
		apiVersion: gateway.networking.k8s.io/v1
		kind: HTTPRoute
		metadata: {name: canary, namespace: shop}
		spec:
		  parentRefs: [{group: "", kind: Service, name: web, port: 80}]
		  rules:
		  - matches: [{headers: [{name: x-canary, value: "yes"}]}]
		    backendRefs: [{name: web-new, port: 80}]
		    retry: {codes: [503], attempts: 2, backoff: 5ms}
		  - backendRefs: [{name: web-old, port: 80, weight: 90}, {name: web-new, port: 80, weight: 10}]
		    retry: {codes: [503], attempts: 2, backoff: 5ms}
	END
}

# table: lines of tab-separated cells in, aligned columns out, indented.
table() { column -t -s "$(printf '\t')" | sed 's/^/   /'; }
indented() { sed 's/^/   /'; }

# ask COUNT CURL-OPTION...: so many requests over one connection; a line "pod status" for each.
ask() {
    local count=$1
    shift
    in_pod client-1 curl -s -m 20 -w '%{http_code}\n' "$@" "http://10.96.0.20/?[1-$count]" | paste -d ' ' - -
}
# share FILE: who answered how often, and how many were not answered with 200.
share() {
    awk '{ of[$1]++; n++; if ($2 != 200) bad++ }
        END { for (pod in of) printf "%s\t%d\t%.1f %%\n", pod, of[pod], 100 * of[pod] / n
              printf "total\t%d\t%d errors\n", n, bad }' "$1" | sort | { printf 'POD\tANSWERS\tSHARE\n'; cat; } | table
}
count_of() { grep -c "^$1" "$2" || true; }

upstreams() {
    agentctl node-1 proxy upstreams | python3 -c '
import json, sys
print("\t".join(["CLUSTER", "ENDPOINT", "STATE", "REQUESTS", "EJECTIONS"]))
for row in json.load(sys.stdin):
    print("\t".join(str(row[key]) for key in ["cluster", "endpoint", "state", "requests", "ejections"]))' | table
}

# What Istio's dashboards make of the proxy's series: requests, errors and times by destination.
dashboard() {
    on_node node-1 curl -s -m 2 http://127.0.0.1:15020/metrics | python3 -c '
import re, sys
rows = {}
for line in sys.stdin:
    match = re.match(r"istio_(requests_total|request_duration_milliseconds_sum)\{(.*)\} (.*)", line)
    if match:
        labels = dict(re.findall(r"(\w+)=\"([^\"]*)\"", match[2]))
        names = ["source_workload", "destination_service_name", "destination_workload", "destination_version"]
        key = tuple(labels[name] for name in names + ["response_code"])
        rows.setdefault(key, {})[match[1]] = rows.get(key, {}).get(match[1], 0) + float(match[3])
print("\t".join(["SOURCE", "SERVICE", "WORKLOAD", "VERSION", "CODE", "REQUESTS", "MEAN ms"]))
for key, values in sorted(rows.items()):
    count = values["requests_total"]
    mean = values["request_duration_milliseconds_sum"] / count
    print("\t".join([*key, "%d" % count, "%.2f" % mean]))' | table
}

tell_l7() {
    local name
    make_pod client-1 1 10
    for name in $servers; do
        case $name in old-*) make_pod "$name" "${name##*-}" 11 ;; *) make_pod "$name" "${name##*-}" 12 ;; esac
        in_pod "$name" python3 "$dir/server.py" "$name" "$dir" > "$dir/$name.log" 2>&1 &
    done
    l7_service web 20 "app: web" ""
    l7_service web-old 21 "app: web, version: v1" ""
    l7_service web-new 22 "app: web, version: v2" 'heddle.io/outlier-consecutive-5xx: "3"'
    l7_pod client-1 "app: client" 10
    for name in 1 2; do
        l7_pod old-$name "app: web, version: v1" 11
        l7_pod new-$name "app: web, version: v2" 12
    done
    write_route
    for name in 1 2; do start_agent node-$name; done
    for name in 1 2; do
        agentctl node-$name status --wait 20s > "$dir/status" 2>&1 || die "node-$name: $(cat "$dir/status")"
    done
    wait_for 20 "the proxy on node-1 has the route" eval 'agentctl node-1 proxy config | grep -q shop/web:80'
    wait_for 20 "the service answers" eval '[ "$(ask 5 -H "x-canary: yes" | grep -c "^new-. 200")" -eq 5 ]'

    say "" "A Service web, 10.96.0.20:80, with an HTTPRoute in front of two versions on two nodes:" ""
    agentctl node-1 routes | indented

    say "" "1. 500 requests from client-1 over one connection: 90 % to the old version, 10 % to the new one"
    ask 500 > "$dir/answers"
    share "$dir/answers"
    name=$(count_of new- "$dir/answers")
    # Fifty are expected; five standard deviations are 34.
    [ "$name" -ge 16 ] && [ "$name" -le 84 ] || die "$name of 500 went to the new version"
    [ "$(grep -c ' 200$' "$dir/answers")" -eq 500 ] || die "there were errors"

    say "" "2. 100 requests with the header 'x-canary: yes': the new version only"
    ask 100 -H 'x-canary: yes' > "$dir/answers"
    share "$dir/answers"
    [ "$(grep -c '^new-. 200$' "$dir/answers")" -eq 100 ] || die "the header did not pin the new version"

    say "" "3. new-2 answers 503 from now on; 300 requests for the new version: retried elsewhere, then it is ejected"
    touch "$dir/new-2.fails"
    ask 300 -H 'x-canary: yes' > "$dir/answers"
    share "$dir/answers"
    name=$(wc -l < "$dir/new-2.failed")
    say "   new-2 refused $name requests before it was ejected; the client saw none of it" ""
    [ "$(grep -c '^new-1 200$' "$dir/answers")" -eq 300 ] || die "the client saw the failures of new-2"
    [ "$name" -ge 3 ] && [ "$name" -le 30 ] || die "new-2 was asked $name times"
    upstreams | tee "$dir/upstreams"
    grep -Eq '10\.244\.2\.12:8080 +ejected' "$dir/upstreams" || die "new-2 is not ejected"

    say "" "4. The same as a dashboard draws it, from istio_requests_total and istio_request_duration_milliseconds"
    dashboard | tee "$dir/dashboard"
    grep -Eq 'client +web-new +new +v2 +200' "$dir/dashboard" || die "the metrics miss the new version"
    on_node node-1 curl -s -m 2 http://127.0.0.1:15020/metrics |
        grep -E '^heddle_proxy_(retries|ejections)_total' | tr ' ' '\t' | table
}
