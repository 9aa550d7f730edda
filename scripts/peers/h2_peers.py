"""Python's h2 as client and as server: it refuses whatever breaks a rule of RFC 9113 or 7541, so that every connection
that lasts shows that the proxy breaks none.
"""
import contextlib
import select
import socket
import threading

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated, DataReceived, InformationalResponseReceived, PingAckReceived, RequestReceived,
    ResponseReceived, SettingsAcknowledged, StreamEnded, StreamReset, TrailersReceived, WindowUpdated)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes


class Peer:
    """A connection and what has come on its streams."""

    def __init__(self, connection, is_client):
        self.socket = connection
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.h2 = H2Connection(H2Configuration(client_side=is_client, header_encoding="utf-8"))
        self.streams = {}
        self.terminated = self.left = False
        self.pongs = self.acknowledged = 0
        # Streams whose bytes give back no window.
        self.unread = set()
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def stream(self, number):
        return self.streams.setdefault(number, {
            "heads": [], "interim": [], "body": bytearray(), "trailers": None, "ended": False, "reset": None})

    def step(self, timeout=20):
        """Takes what comes next; the events. None: the connection has ended, or nothing came."""
        if not select.select([self.socket], [], [], timeout)[0]:
            return None
        bytes = self.socket.recv(1 << 16)
        if not bytes:
            return None
        events = self.h2.receive_data(bytes)
        for event in events:
            self.take(event)
        self.flush()
        return events

    def take(self, event):
        kind = type(event)
        if kind in (RequestReceived, ResponseReceived):
            self.stream(event.stream_id)["heads"].append(dict(event.headers))
        elif kind is InformationalResponseReceived:
            self.stream(event.stream_id)["interim"].append(dict(event.headers)[":status"])
        elif kind is TrailersReceived:
            self.stream(event.stream_id)["trailers"] = dict(event.headers)
        elif kind is DataReceived:
            self.stream(event.stream_id)["body"] += event.data
            if event.stream_id in self.unread:
                # Of the connection they do: what else comes on it is taken.
                self.h2.increment_flow_control_window(event.flow_controlled_length)
            else:
                with contextlib.suppress(ProtocolError):
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif kind is StreamEnded:
            self.stream(event.stream_id)["ended"] = True
        elif kind is StreamReset:
            self.stream(event.stream_id)["reset"] = event.error_code
        elif kind is ConnectionTerminated:
            self.terminated = True
            assert event.error_code == 0, "GOAWAY %s" % event.error_code
        elif kind is PingAckReceived:
            self.pongs += 1
        elif kind is SettingsAcknowledged:
            self.acknowledged += 1

    def send(self, number, bytes, end=True):
        """As the windows let it out; what comes meanwhile is taken. Returns what could not be sent for ever so long."""
        bytes = memoryview(bytes)
        while bytes:
            room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size, len(bytes))
            if room <= 0:
                if self.step(timeout=1) is None:
                    return len(bytes)
                continue
            self.h2.send_data(number, bytes[:room].tobytes(), end_stream=end and room == len(bytes))
            bytes = bytes[room:]
            self.flush()
        return 0


class Client(Peer):
    def __init__(self, proxy):
        super().__init__(socket.create_connection(proxy.address), is_client=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def begin(self, path="/", method="GET", headers=(), end=True, slow=False):
        number = self.h2.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "web.shop")]
        self.h2.send_headers(
            number, pseudo + [("x-canary", "yes" if slow else "no")] + list(headers), end_stream=end)
        self.flush()
        return number

    def answer(self, number):
        stream = self.stream(number)
        while not stream["ended"] and stream["reset"] is None:
            assert self.step() is not None, "no answer on stream %d" % number
        return stream

    def ask(self, path="/", method="GET", headers=(), body=None, **options):
        number = self.begin(path, method, headers, end=body is None, **options)
        if body is not None:
            assert self.send(number, body) == 0
        return self.answer(number)


class Server(threading.Thread):
    """Answers each request by what its path says, on as many connections as come."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.listener = socket.create_server(address)
        self.faults, self.connections = [], 0

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            with connection:
                peer = Peer(connection, is_client=False)
                answered = set()
                while not peer.left and peer.step(timeout=60) is not None:
                    for number, stream in list(peer.streams.items()):
                        if not peer.left:
                            self.look(peer, number, stream, answered)
                # Closing at once would destroy what is on its way.
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass
        except (ConnectionError, OSError):
            pass
        except Exception as fault:
            self.faults.append(repr(fault))

    def look(self, peer, number, stream, answered):
        path = stream["heads"][0][":path"] if stream["heads"] else ""
        # Four megabytes, so that windows grow, and then nothing more.
        if path == "/stops" and len(stream["body"]) > 4 << 20:
            peer.unread.add(number)
        if stream["ended"] and number not in answered and stream["reset"] is None:
            answered.add(number)
            self.answer(peer, number, stream, path)

    def answer(self, peer, number, stream, path):
        asked = stream["heads"][0]
        status = {"/none": "204"}.get(path, "200")
        if path == "/hints":
            peer.h2.send_headers(number, [(":status", "103"), ("link", "</style.css>")])
        head = [(":status", status), ("x-cookie", asked.get("cookie", "-")), ("x-long", asked.get("x-long", "-"))]
        head.append(("x-trailer", (stream["trailers"] or {}).get("x-sum", "-")))
        body = bytes(stream["body"]) if path == "/echo" else b"x" * int(path[5:]) if path.startswith("/big/") else b""
        has_body = asked[":method"] != "HEAD" and (body or path == "/trailers")
        peer.h2.send_headers(number, head, end_stream=not has_body)
        if has_body:
            peer.send(number, body, end=path != "/trailers")
        if path == "/trailers":
            peer.h2.send_headers(number, [("x-end", "1")], end_stream=True)
        peer.flush()
        if path == "/leave":
            # In order: what comes behind this one is to be asked elsewhere.
            peer.left = True
            peer.h2.close_connection(last_stream_id=number)
            peer.flush()


@contextlib.contextmanager
def servers(proxy):
    found = [Server(address) for address in proxy.backends.values()]
    for server in found:
        server.start()
    try:
        yield found
    finally:
        for server in found:
            # Wakes the thread that waits at it, which would keep the port.
            server.listener.shutdown(socket.SHUT_RDWR)
            server.join()
            server.listener.close()
        faults = [fault for server in found for fault in server.faults]
        assert not faults, faults


def messages_of_all_kinds(proxy):
    with servers(proxy), Client(proxy) as client:
        assert client.ask("/none")["heads"][0][":status"] == "204"
        assert client.ask("/", method="HEAD")["heads"][0][":status"] == "200"
        hints = client.ask("/hints")
        assert hints["interim"] == ["103"] and hints["heads"][0][":status"] == "200", hints
        trailers = client.ask("/trailers")
        assert trailers["trailers"] == {"x-end": "1"}, trailers
        number = client.begin("/", method="POST", end=False)
        client.send(number, b"abc", end=False)
        client.h2.send_headers(number, [("x-sum", "3")], end_stream=True)
        client.flush()
        assert client.answer(number)["heads"][0]["x-trailer"] == "3"
        # Longer than a frame, which makes CONTINUATION on both sides; and a cookie in crumbs.
        long = "y" * 40000
        head = client.ask("/", headers=[("cookie", "a=1"), ("cookie", "b=2"), ("x-long", long)])["heads"][0]
        assert head["x-cookie"] == "a=1; b=2" and head["x-long"] == long
        body = bytes(range(256)) * (12 << 10)
        assert client.ask("/echo", method="POST", body=body)["body"] == body
        assert len(client.ask("/big/5000000")["body"]) == 5000000


def settings_change_all_the_time(proxy):
    with servers(proxy), Client(proxy) as client:
        changes = [
            {SettingCodes.INITIAL_WINDOW_SIZE: 200}, {SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20},
            {SettingCodes.HEADER_TABLE_SIZE: 0}, {SettingCodes.MAX_FRAME_SIZE: 1 << 20},
            {SettingCodes.HEADER_TABLE_SIZE: 65536, SettingCodes.INITIAL_WINDOW_SIZE: 65535},
            {SettingCodes.HEADER_TABLE_SIZE: 100, SettingCodes.MAX_FRAME_SIZE: 16384}]
        for turn in range(60):
            # h2 takes each acknowledgement for one of every setting that is still open: with two frames on their way
            # it applies the second with the first, and then finds fault with blocks between them.
            while client.acknowledged < turn + 1:
                assert client.step() is not None
            running = [client.begin("/big/%d" % (turn * 50)) for _ in range(5)]
            client.h2.update_settings(changes[turn % len(changes)])
            client.flush()
            for number in running:
                assert len(client.answer(number)["body"]) == turn * 50
        assert client.acknowledged >= 60
        client.h2.ping(b"12345678")
        client.flush()
        while not client.pongs:
            assert client.step() is not None


def an_upload_that_grew_its_window_and_stops_holds_up_nobody(proxy):
    with servers(proxy), Client(proxy) as client:
        stopped = client.begin("/stops", method="POST", end=False, slow=True)
        rest = client.send(stopped, bytes(64 << 20))
        sent = (64 << 20) - rest
        # What the server read, and what windows and buffers on the way took.
        assert 4 << 20 < sent < 32 << 20, sent
        assert proxy.metric("heddle_proxy_memory_held_bytes") < 16 << 20
        for _ in range(5):
            body = bytes(4 << 20)
            assert client.ask("/echo", method="POST", body=body)["body"] == body
        client.h2.reset_stream(stopped, 8)
        client.flush()
        assert client.ask("/none")["heads"][0][":status"] == "204"


def connections_that_end_in_order_lose_nothing(proxy):
    with servers(proxy) as found, Client(proxy) as client:
        for turn in range(50):
            running = [client.begin("/leave" if turn == place % 7 else "/big/100") for place in range(40)]
            for number in running:
                stream = client.answer(number)
                assert stream["heads"] and stream["heads"][0][":status"] == "200", stream
        assert sum(server.connections for server in found) > 2


CHECKS = [
    messages_of_all_kinds, settings_change_all_the_time, an_upload_that_grew_its_window_and_stops_holds_up_nobody,
    connections_that_end_in_order_lose_nothing]
