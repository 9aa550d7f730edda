"""scripts/bench http2: HTTP2Wire, what the proxy speaks HTTP/2 with, beside swift-nio-http2 in one process."""
import os

from lab import Missing, result, run
from report import Spread, Table, compare, ratios

FIGURES = {
    "encode": "HPACK, encoding a head, ns",
    "decode": "HPACK, decoding a head, ns",
    "connection": "a server's connection, a gRPC call, ns",
}
TEXT = ("CPU of one thread, median of the rounds (least–most), in turns. Heads: 1,000 requests and answers of a site "
        "by turns, a third of their fields new each time. Connection: 1,000 calls with a message of 100 bytes each "
        "way, from the bytes that come to those that go; swift-nio-http2 with its handler alone in an embedded "
        "channel, without a channel for each stream.")


def measure(lab, quick):
    program = lab.bin + "/bench-http2"
    if not os.path.exists(program):
        raise Missing("it is built by `scripts/bench http2` only, and by a whole run")
    figures = result(run(program, "5" if quick else "40"))
    rows = [[text, *(Spread(figures[name][side]) for side in ("ours", "theirs")),
             ratios(figures[name]["ours"], figures[name]["theirs"])] for name, text in FIGURES.items()]
    headline = "HTTP2Wire ÷ swift-nio-http2: " + compare(FIGURES, [row[3] for row in rows])
    return [Table("HTTP/2 on bytes", ["figure", "HTTP2Wire", "swift-nio-http2", "ratio"], rows, TEXT, headline)]
