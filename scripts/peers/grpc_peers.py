"""grpcio as client and as server: all kinds of calls, metadata, deadlines, cancellation, long messages, statuses, and
servers that end their connections.
"""
import concurrent.futures
import contextlib
import queue
import threading
import time

import grpc

OPTIONS = [("grpc.max_receive_message_length", 16 << 20), ("grpc.max_send_message_length", 16 << 20)]
BINARY = bytes(range(256))
DETAILS = b"\x08\x05\x12\x10status\x00\xff" + BINARY


class Service(grpc.GenericRpcHandler):
    """Messages are bytes. Counts how calls ended."""

    def __init__(self):
        self.cancelled = 0
        self.sent = 0
        kinds = {
            "Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "Sum": grpc.stream_unary_rpc_method_handler(lambda messages, _: b"%d" % sum(map(len, messages))),
            "Many": grpc.unary_stream_rpc_method_handler(self.many),
            "Chat": grpc.stream_stream_rpc_method_handler(lambda messages, _: messages),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Wait": grpc.unary_unary_rpc_method_handler(self.wait),
        }
        self.methods = {"/test.Echo/" + name: handler for name, handler in kinds.items()}

    def service(self, call):
        return self.methods.get(call.method)

    def echo(self, message, context):
        asked = dict(context.invocation_metadata())
        name, bytes = asked.get("x-name", "-"), asked.get("x-name-bin", b"")
        context.send_initial_metadata([("x-first", name), ("x-bytes-bin", bytes)])
        context.set_trailing_metadata([("x-last", name), ("x-end-bin", bytes)])
        return message

    def many(self, message, _):
        """As many messages of 16 KiB as it says."""
        for number in range(int(message)):
            self.sent += 1
            yield bytes([number & 255]) * 16384

    def fail(self, _, context):
        context.set_trailing_metadata([("grpc-status-details-bin", DETAILS)])
        context.abort(grpc.StatusCode.NOT_FOUND, "no such cart: 100 % ü\n")

    def wait(self, _, context):
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait(30)
        self.cancelled += 1
        return b""


@contextlib.contextmanager
def peers(proxy, server_options=(), client_options=()):
    """A client of the proxy and the services behind it."""
    services, servers = [], []
    for address in proxy.backends.values():
        service = Service()
        server = grpc.server(
            concurrent.futures.ThreadPoolExecutor(32), handlers=[service], options=OPTIONS + list(server_options))
        if server.add_insecure_port("%s:%d" % address) == 0:
            raise AssertionError("grpcio does not listen at %s:%d" % address)
        server.start()
        services.append(service)
        servers.append(server)
    try:
        options = OPTIONS + [("grpc.enable_http_proxy", 0)] + list(client_options)
        with grpc.insecure_channel("%s:%d" % proxy.address, options=options) as channel:
            yield channel, services
    finally:
        for server in servers:
            server.stop(0).wait()


def unary(channel, name, message=b"", **options):
    return channel.unary_unary("/test.Echo/" + name).with_call(message, timeout=options.pop("timeout", 20), **options)


def refused(code, *call, **options):
    try:
        unary(*call, **options)
    except grpc.RpcError as error:
        assert error.code() == code, error
        return error
    raise AssertionError("%s was not said" % code)


def unary_calls(proxy):
    with peers(proxy) as (channel, _):
        metadata = [("x-name", "cart-7"), ("x-name-bin", BINARY)]
        message, call = unary(channel, "Echo", b"\0\1\2", metadata=metadata)
        first, last = dict(call.initial_metadata()), dict(call.trailing_metadata())
        assert message == b"\0\1\2" and call.code() == grpc.StatusCode.OK
        assert first["x-first"] == "cart-7" and first["x-bytes-bin"] == BINARY, first
        assert last["x-last"] == "cart-7" and last["x-end-bin"] == BINARY, last
        assert unary(channel, "Echo", b"x" * 5000, compression=grpc.Compression.Gzip)[0] == b"x" * 5000
        futures = [channel.unary_unary("/test.Echo/Echo").future(b"%d" % number, timeout=20) for number in range(1000)]
        assert [future.result() for future in futures] == [b"%d" % number for number in range(1000)]


def long_messages(proxy):
    with peers(proxy) as (channel, _):
        message = BINARY * (4 << 12)
        assert len(message) == 4 << 20
        assert unary(channel, "Echo", message)[0] == message
        futures = [channel.unary_unary("/test.Echo/Echo").future(message, timeout=20) for _ in range(4)]
        assert all(future.result() == message for future in futures)


def clients_stream(proxy):
    with peers(proxy) as (channel, _):
        call = channel.stream_unary("/test.Echo/Sum")
        assert call((b"x" * 4096 for _ in range(500)), timeout=20) == b"2048000"
        assert call(iter([]), timeout=20) == b"0"


def servers_stream_no_faster_than_clients_read(proxy):
    with peers(proxy) as (channel, services):
        count = 0
        for message in channel.unary_stream("/test.Echo/Many")(b"2000", timeout=20):
            # 32 MB are many times what all windows and buffers on the way hold.
            assert count > 0 or sum(service.sent for service in services) < 2000
            assert message == bytes([count & 255]) * 16384
            count += 1
        assert count == 2000


def both_sides_stream_in_turn(proxy):
    with peers(proxy) as (channel, _):
        questions = queue.Queue()
        answers = channel.stream_stream("/test.Echo/Chat")(iter(questions.get, None), timeout=20)
        for number in range(200):
            # Nothing may wait in a buffer for the next one.
            questions.put(b"%d" % number)
            assert next(answers) == b"%d" % number
        questions.put(None)
        assert list(answers) == []


def deadlines_and_cancellation_reach_the_server(proxy):
    with peers(proxy) as (channel, services):
        refused(grpc.StatusCode.DEADLINE_EXCEEDED, channel, "Wait", timeout=0.2)
        future = channel.unary_unary("/test.Echo/Wait").future(b"", timeout=20)
        stream = channel.unary_stream("/test.Echo/Many")(b"100000", timeout=20)
        next(stream)
        stream.cancel()
        future.cancel()
        end = time.monotonic() + 20
        while sum(service.cancelled for service in services) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        assert sum(service.cancelled for service in services) == 2
        assert unary(channel, "Echo", b"still")[0] == b"still"


def statuses_keep_their_words_and_details(proxy):
    with peers(proxy) as (channel, _):
        error = refused(grpc.StatusCode.NOT_FOUND, channel, "Fail")
        assert error.details() == "no such cart: 100 % ü\n", error.details()
        assert dict(error.trailing_metadata())["grpc-status-details-bin"] == DETAILS
        refused(grpc.StatusCode.UNIMPLEMENTED, channel, "Absent")


def servers_that_end_connections_lose_no_call(proxy):
    """GOAWAY in two steps (RFC 9113, 6.8), each few hundred ms, with calls on their way all the time."""
    options = [("grpc.max_connection_age_ms", 150), ("grpc.max_connection_age_grace_ms", 5000)]
    with peers(proxy, server_options=options) as (channel, _):
        call = channel.unary_unary("/test.Echo/Echo")
        for _ in range(40):
            futures = [call.future(b"%d" % number, timeout=20) for number in range(50)]
            assert [future.result() for future in futures] == [b"%d" % number for number in range(50)]


def keepalive_pings_are_answered(proxy):
    options = [("grpc.keepalive_time_ms", 50), ("grpc.keepalive_timeout_ms", 5000),
               ("grpc.http2.max_pings_without_data", 0), ("grpc.keepalive_permit_without_calls", 1)]
    with peers(proxy, client_options=options) as (channel, _):
        future = channel.unary_unary("/test.Echo/Wait").future(b"", timeout=1.5)
        assert future.exception().code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert unary(channel, "Echo", b"still")[0] == b"still"


CHECKS = [
    unary_calls, long_messages, clients_stream, servers_stream_no_faster_than_clients_read, both_sides_stream_in_turn,
    deadlines_and_cancellation_reach_the_server, statuses_keep_their_words_and_details,
    servers_that_end_connections_lose_no_call, keepalive_pings_are_answered]
