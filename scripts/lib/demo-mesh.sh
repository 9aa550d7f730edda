# The story of `scripts/demo --mesh`: pods of two nodes speak in the clear, are enrolled, and then nobody on the link
# can read them. Sourced by scripts/demo, which has the nodes and pods, the end of it all, and the helpers used here.

# What passes the link between the nodes for TCP to these pods, a line a packet: the first bytes of what it carries.
write_look() {
    cat > "$dir/look.py" <<- 'END'
		import socket, sys, time

		link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
		link.bind(("eth0", 0))
		link.settimeout(0.2)
		end, seen = time.monotonic() + float(sys.argv[1]), set()
		print("ready", flush=True)
		while time.monotonic() < end:
		    try:
		        packet = link.recv(65535)
		    except TimeoutError:
		        continue
		    if packet[12:14] != b"\x08\x00" or packet[23] != 6:
		        continue
		    start = 14 + 4 * (packet[14] & 15)
		    payload = packet[start + 4 * (packet[start + 12] >> 4):14 + int.from_bytes(packet[16:18], "big")]
		    port = int.from_bytes(packet[start + 2:start + 4], "big")
		    if not payload:
		        continue
		    kind = {20: "TLS", 21: "TLS alert", 22: "TLS handshake", 23: "TLS application data"}.get(payload[0])
		    text = kind if kind and payload[1:2] == b"\x03" else repr(payload[:48].decode("latin-1"))
		    place = "%s -> %s" % (socket.inet_ntoa(packet[26:30]), socket.inet_ntoa(packet[30:34]))
		    if (place, text) not in seen:
		        seen.add((place, text))
		        print("%s:%d\t%s" % (place, port, text), flush=True)
	END
}

# look COMMAND...: what passes the link while it runs.
look() {
    : > "$dir/look"
    on_node node-2 python3 "$dir/look.py" 4 > "$dir/look" &
    wait_for 5 "the link is watched" grep -q ready "$dir/look"
    "$@" > "$dir/answer"
    wait $!
    sed 1d "$dir/look" | head -n 8 | table
    say "   = $(tr '\n' ' ' < "$dir/answer")"
}

mesh_pod() {
    local name=$1 host=$2 label=$3 n=${1##*-}
    cat > "$dir/manifests/pod-$name.yaml" <<- END
		apiVersion: v1
		kind: Pod
		metadata: {name: $name, namespace: shop, uid: $name, labels: {app: ${name%-*}$label}}
		spec: {nodeName: node-$n, serviceAccountName: ${name%-*}, containers: [{name: main}]}
		status:
		  phase: Running
		  podIP: 10.244.$n.$host
		  podIPs: [{ip: 10.244.$n.$host}]
		  conditions: [{type: Ready, status: "True"}]
	END
}

ask_web() { in_pod client-1 curl -s -m 5 http://10.96.0.20/; }

tell_mesh() {
    local n name
    make_pod client-1 1 10
    make_pod outsider-1 1 13
    make_pod web-2 2 11
    in_pod web-2 python3 "$dir/server.py" web-2 "$dir" > "$dir/web-2.log" 2>&1 &
    l7_service web 20 "app: web" ""
    mesh_pod client-1 10 ""
    mesh_pod outsider-1 13 ""
    mesh_pod web-2 11 ""
    for n in 1 2; do start_agent node-$n --ca "directory:$dir/authority" --certificate-life 40s; done
    for n in 1 2; do
        agentctl node-$n status --wait 20s > "$dir/status" 2>&1 || die "node-$n: $(cat "$dir/status")"
    done
    wait_for 20 "the service answers" eval '[ "$(ask_web)" = web-2 ]'
    write_look

    say "" "1. client-1 on node-1 asks web on node-2. Who looks at the link between the nodes reads along:" ""
    look ask_web
    grep -q "GET / HTTP" "$dir/look" || die "there was nothing to read"

    say "" "2. Both get the label istio.io/dataplane-mode: ambient. Nothing is restarted:" ""
    mesh_pod client-1 10 ", istio.io/dataplane-mode: ambient"
    mesh_pod web-2 11 ", istio.io/dataplane-mode: ambient"
    enrolled() { agentctl "node-${1##*-}" certificates | grep -q "sa/${1%-*} .*[0-9]"; }
    for name in client-1 web-2; do wait_for 20 "$name has a certificate" enrolled $name; done
    tunnelled() { look ask_web > /dev/null; grep -q web-2 "$dir/answer" && grep -q "TLS" "$dir/look"; }
    wait_for 20 "the first tunnel" tunnelled
    look ask_web
    [ "$(cat "$dir/answer")" = web-2 ] || die "web does not answer"
    ! grep -q HTTP "$dir/look" || die "it can still be read"

    say "" "3. Who they are: agentctl mesh and agentctl certificates, on both nodes" ""
    for n in 1 2; do
        agentctl node-$n mesh | indented
        agentctl node-$n certificates | indented
    done

    say "" "4. PeerAuthentication STRICT in the namespace: who is not in the mesh is refused" ""
    cat > "$dir/manifests/strict.yaml" <<- END
		apiVersion: security.istio.io/v1
		kind: PeerAuthentication
		metadata: {name: default, namespace: shop}
		spec: {mtls: {mode: STRICT}}
	END
    refused() { ! in_pod outsider-1 curl -s -m 2 http://10.244.2.11:8080/ > /dev/null 2>&1; }
    wait_for 10 "the outsider is refused" refused
    in_pod outsider-1 curl -sS -m 2 http://10.244.2.11:8080/ 2>&1 | sed 's/^/   outsider-1: /' || true
    say "   client-1:   $(ask_web)"

    say "" "5. Certificates are renewed while client-1 keeps asking" ""
    serials() { agentctl node-1 certificates -o json; }
    serials > "$dir/before"
    renewed() { ! cmp -s "$dir/before" <(serials); }
    in_pod client-1 bash -c "while [ ! -e '$dir/enough' ]; do curl -s -m 5 http://10.96.0.20/ || echo FAILED; done" \
        > "$dir/answers" &
    wait_for 40 "another certificate" renewed
    touch "$dir/enough"
    wait $!
    say "   $(wc -l < "$dir/answers") requests meanwhile, $(grep -vc '^web-2$' "$dir/answers" || true) failed"
    [ "$(sort -u "$dir/answers")" = web-2 ] || die "requests failed while certificates were renewed"

    say "" "6. AuthorizationPolicy: only the account admin may call web, and client-1 has shown another identity" ""
    allow() {
        cat > "$dir/manifests/allow.yaml" <<- END
			apiVersion: security.istio.io/v1
			kind: AuthorizationPolicy
			metadata: {name: web, namespace: shop}
			spec:
			  selector: {matchLabels: {app: web}}
			  rules: [{from: [{source: {serviceAccounts: [$1]}}]}]
		END
    }
    allow admin
    denied() { ! ask_web > /dev/null; }
    wait_for 10 "client-1 is denied" denied
    in_pod client-1 curl -sS -m 5 http://10.96.0.20/ 2>&1 | sed 's/^/   client-1: /' || true
    allow client
    allowed() { [ "$(ask_web)" = web-2 ]; }
    wait_for 10 "client-1 is allowed" allowed
    say "" "   and once the policy names the account client:" "   client-1: $(ask_web)"
}
