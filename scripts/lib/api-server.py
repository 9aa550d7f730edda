"""An API server for rehearsals: get, list, watch, create, update and patch over TLS, by the roles that the chart
grants.

    api-server.py OBJECTS MANIFESTS CERTIFICATE KEY ADDRESS PORT

OBJECTS: a directory of YAML files, the cluster's objects, followed while it changes. MANIFESTS: the rendered chart,
whose roles and bindings are followed too; its Secrets, ConfigMaps and webhook are applied as helm would: what it does
not mention stays. A bearer token is the name of a ServiceAccount; one with an audience is
AUDIENCE~NAMESPACE~ACCOUNT~POD, which a TokenReview knows and no request is taken with. On standard output a line for
each write, and one that begins with FORBIDDEN for each request that no role allows.
"""
import json
import os
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import yaml

KINDS = {"Service": "services", "Node": "nodes", "Pod": "pods", "Namespace": "namespaces", "Event": "events",
         "EndpointSlice": "endpointslices", "HTTPRoute": "httproutes", "GRPCRoute": "grpcroutes", "Lease": "leases",
         "ServiceCIDR": "servicecidrs", "Secret": "secrets", "ConfigMap": "configmaps",
         "ValidatingWebhookConfiguration": "validatingwebhookconfigurations", "TokenReview": "tokenreviews",
         "PeerAuthentication": "peerauthentications", "AuthorizationPolicy": "authorizationpolicies"}
NAMES = {plural: kind for kind, plural in KINDS.items()}
APPLIED = ("Secret", "ConfigMap", "ValidatingWebhookConfiguration")
GROUPS = {"": ["services", "nodes", "pods", "namespaces", "events", "secrets", "configmaps"],
          "admissionregistration.k8s.io": ["validatingwebhookconfigurations"],
          "authentication.k8s.io": ["tokenreviews"], "discovery.k8s.io": ["endpointslices"],
          "gateway.networking.k8s.io": ["httproutes", "grpcroutes"], "coordination.k8s.io": ["leases"],
          "networking.k8s.io": ["servicecidrs"], "security.istio.io": ["peerauthentications", "authorizationpolicies"]}

objects_directory, manifests, certificate, key, address, port = sys.argv[1:]
changed = threading.Condition()
store, events, rules, version = {}, [], [], 1000


def say(*words):
    print(*words, flush=True)


class Refused(Exception):
    pass


def keep(plural, new, old=None):
    """Called with the lock held."""
    global version
    version += 1
    metadata = new.setdefault("metadata", {})
    name = (metadata.get("namespace", ""), metadata["name"])
    before = old["metadata"] if old else {}
    metadata["uid"] = before.get("uid", f"uid-{version}")
    metadata["resourceVersion"] = str(version)
    metadata["generation"] = before.get("generation", 0) + (not old or old.get("spec") != new.get("spec"))
    store.setdefault(plural, {})[name] = new
    events.append((version, plural, new, old))
    changed.notify_all()


def follow(text_of):
    """Applies what the files say: their spec, never a status that a client wrote."""
    global version
    wanted = {}
    for text in text_of.values():
        for each in yaml.safe_load_all(text):
            if each:
                name = (each["metadata"].get("namespace", ""), each["metadata"]["name"])
                wanted[KINDS[each["kind"]], name] = each
    with changed:
        for (plural, name), each in wanted.items():
            old = store.get(plural, {}).get(name)
            if old is None or any(old.get(part) != value for part, value in each.items() if part != "metadata") \
                    or any(old["metadata"].get(part) != value for part, value in each["metadata"].items()):
                keep(plural, {**({"status": old["status"]} if old and "status" in old else {}), **each}, old)
        for plural, name in [pair for pair in followed if pair not in wanted]:
            old = store[plural].pop(name)
            version += 1
            events.append((version, plural, None, old))
            changed.notify_all()
    followed.clear()
    followed.update(wanted)


followed = set()


def follow_files():
    known = roles = None
    while True:
        texts = {}
        for name in sorted(os.listdir(objects_directory)):
            if name.endswith(".yaml"):
                with open(os.path.join(objects_directory, name)) as file:
                    texts[name] = file.read()
        try:
            if texts != known:
                follow(texts)
                known = texts
            with open(manifests) as file:
                text = file.read()
            if text != roles:
                chart = [each for each in yaml.safe_load_all(text) if each]
                rules[:] = rules_of(chart)
                apply_chart(chart)
                roles = text
        except (yaml.YAMLError, TypeError, KeyError):
            pass  # A file that is half written: the next look sees all of it.
        time.sleep(0.05)


def apply_chart(chart):
    with changed:
        for each in chart:
            if each["kind"] in APPLIED:
                plural = KINDS[each["kind"]]
                name = (each["metadata"].get("namespace", ""), each["metadata"]["name"])
                old = store.get(plural, {}).get(name)
                new = applied(old, each)
                if new != old:
                    keep(plural, new, old)


def rules_of(chart):
    """(ServiceAccount, namespace or None for all, rule)"""
    result = []
    roles = {(each["kind"], each["metadata"]["name"]): each
             for each in chart if each["kind"] in ("Role", "ClusterRole")}
    for binding in chart:
        if binding["kind"] in ("RoleBinding", "ClusterRoleBinding"):
            role = roles[binding["roleRef"]["kind"], binding["roleRef"]["name"]]
            namespace = binding["metadata"]["namespace"] if binding["kind"] == "RoleBinding" else None
            result += [(subject["name"], namespace, rule) for subject in binding["subjects"] for rule in role["rules"]]
    return result


def allowed(account, verb, group, resource, namespace, name):
    return any(
        who == account and where in (None, namespace) and verb in rule["verbs"] and group in rule["apiGroups"]
        and resource in rule["resources"] and (not rule.get("resourceNames") or name in rule["resourceNames"])
        for who, where, rule in rules)


def matches(each, query):
    if each is None:
        return False
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        path, _, value = term.partition("=")
        at = each
        for part in path.rstrip("!").split("."):
            at = at.get(part, {})
        if ((at or "") == value.lstrip("=")) == path.endswith("!"):
            return False
    labels = each["metadata"].get("labels") or {}
    for term in filter(None, query.get("labelSelector", "").split(",")):
        path, equals, value = term.partition("=")
        fits = path.strip("!") in labels if not equals else labels.get(path.rstrip("!")) == value.lstrip("=")
        if fits == ("!" in path):
            return False
    return True


def merged(old, patch):
    if not isinstance(patch, dict):
        return patch
    result = dict(old) if isinstance(old, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def applied(old, new):
    """A merge that finds the entries of lists by their names."""
    if isinstance(new, dict) and isinstance(old, dict):
        return {**old, **{name: applied(old.get(name), value) for name, value in new.items()}}
    if isinstance(new, list) and isinstance(old, list) and new and all("name" in each for each in new
                                                                       if isinstance(each, dict)):
        known = {each["name"]: each for each in old if isinstance(each, dict)}
        return [applied(known.get(each["name"]), each) if isinstance(each, dict) else each for each in new]
    return new


def review(sent):
    """A TokenReview's answer."""
    parts = sent["spec"].get("token", "").split("~")
    pod = store.get("pods", {}).get((parts[1], parts[3])) if len(parts) == 4 else None
    if pod is None or parts[0] not in sent["spec"].get("audiences", []):
        return {**sent, "status": {"authenticated": False, "error": "invalid bearer token"}}
    prefix = "authentication.kubernetes.io/"
    return {**sent, "status": {"authenticated": True, "audiences": [parts[0]], "user": {
        "username": f"system:serviceaccount:{parts[1]}:{parts[2]}",
        "extra": {prefix + "pod-name": [parts[3]], prefix + "pod-uid": [pod["metadata"]["uid"]],
                  prefix + "node-name": [pod["spec"]["nodeName"]]}}}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def answer(self, code, body):
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, code, reason, message):
        self.answer(code, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                           "message": message, "reason": reason, "code": code})

    def handle_any(self):
        url = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        parts = url.path.strip("/").split("/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:]) if len(parts) > 2 else ("", [])
        namespace = ""
        if len(rest) > 2 and rest[0] == "namespaces":
            namespace, rest = rest[1], rest[2:]
        plural, name, part = (rest + ["", "", ""])[:3]
        if plural not in GROUPS.get(group, []):
            return self.refuse(404, "NotFound", "the server could not find the requested resource")
        verb = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}.get(self.command)
        verb = verb or ("get" if name else "watch" if query.get("watch") in ("true", "1") else "list")
        account = self.headers.get("Authorization", "").removeprefix("Bearer ")
        resource = plural + ("/" + part if part else "")
        if not allowed(account, verb, group, resource, namespace, name):
            say("FORBIDDEN", account, verb, resource, namespace, name)
            return self.refuse(403, "Forbidden", f'{resource} is forbidden: User "{account}" cannot {verb} it')
        try:
            if verb == "watch":
                self.watch(plural, query)
            elif plural == "tokenreviews":
                self.answer(201, review(json.loads(body)))
            elif verb == "list":
                with changed:
                    items = [each for each in store.get(plural, {}).values() if matches(each, query)]
                    of = items[0]["apiVersion"] if items else "v1"
                    self.answer(200, {"kind": NAMES[plural] + "List", "apiVersion": of,
                                      "metadata": {"resourceVersion": str(version)}, "items": items})
            else:
                self.answer(*self.one(verb, plural, (namespace, name), part, json.loads(body or "null")))
        except Refused as refusal:
            self.refuse(*refusal.args)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = handle_any

    def one(self, verb, plural, name, part, sent):
        with changed:
            if verb == "create":
                name = (name[0], sent["metadata"]["name"])
            old = store.get(plural, {}).get(name)
            if verb == "create":
                if old:
                    raise Refused(409, "AlreadyExists", f"{plural} {name} already exists")
                keep(plural, sent)
                say("created", plural, *name)
                return 201, sent
            if not old:
                raise Refused(404, "NotFound", f"{plural} {name} not found")
            if verb == "get":
                return 200, old
            wanted = (sent.get("metadata") or {}).get("resourceVersion")
            if wanted not in (None, old["metadata"]["resourceVersion"]):
                raise Refused(409, "Conflict", "the object has been modified")
            is_apply = "apply" in self.headers.get("Content-Type", "")
            new = sent if verb == "update" else applied(old, sent) if is_apply else merged(old, sent)
            # Each half is written through its own door only.
            new = {**old, "status": new.get("status")} if part == "status" else {**new, **{
                half: old[half] for half in ["status"] if half in old}}
            if {**new, "metadata": 0} == {**old, "metadata": 0}:
                return 200, old
            new["metadata"] = dict(new["metadata"])
            keep(plural, new, old)
            say("wrote", plural + "/" * bool(part) + part, *name)
            return 200, new

    def line(self, kind, each):
        data = json.dumps({"type": kind, "object": each}).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def watch(self, plural, query):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        since = int(query.get("resourceVersion") or 0)
        streamed = query.get("sendInitialEvents") == "true"
        if not since:
            with changed:
                items, since = list(store.get(plural, {}).values()), version
            for each in items:
                if matches(each, query):
                    self.line("ADDED", each)
            if streamed:
                self.line("BOOKMARK", {"kind": NAMES[plural], "apiVersion": "v1", "metadata": {
                    "resourceVersion": str(since), "annotations": {"k8s.io/initial-events-end": "true"}}})
        end = time.monotonic() + int(query.get("timeoutSeconds", 300))
        while time.monotonic() < end:
            with changed:
                changed.wait_for(lambda: version > since, timeout=5)
                news, since = [each for each in events if each[0] > since and each[1] == plural], version
            for at, _, new, old in news:
                now, before = matches(new, query), matches(old, query)
                if now:
                    self.line("MODIFIED" if before else "ADDED", new)
                elif before:
                    gone = {**old, "metadata": {**old["metadata"], "resourceVersion": str(at)}}
                    self.line("DELETED", gone)
        self.wfile.write(b"0\r\n\r\n")


class Server(ThreadingHTTPServer):
    daemon_threads = True

    # The handshake is made by the thread of the connection: one that says nothing holds up nobody.
    def finish_request(self, request, client_address):
        try:
            with tls.wrap_socket(request, server_side=True) as wrapped:
                self.RequestHandlerClass(wrapped, client_address, self)
        except OSError:
            pass


tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(certificate, key)
threading.Thread(target=follow_files, daemon=True).start()
Server((address, int(port)), Handler).serve_forever()
